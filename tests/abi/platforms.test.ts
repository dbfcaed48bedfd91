/** The libraries of the other platforms: each exports the header's functions, and takes nothing that its system lacks. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { before, test } from "node:test";
import { PLATFORMS } from "../../lib/native/library.ts";
import { readElf } from "../support/elf.ts";
import { readMachO, readPE } from "../support/foreign.ts";
import { readHeader } from "../support/header.ts";
import { packageRefusal } from "../support/package.ts";
import { root } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const refusal = await packageRefusal();
const functions = readHeader().prototypes.map(({ name }) => name).sort();

before(async () => {
  if (refusal !== undefined) return;
  const { build } = await import("../../scripts/build.ts");
  build({ all: true });
});

const folder = (platform: string): string => `${root}build/native/${platform}`;

test("there is a row in build.zig for each platform", () => {
  const rows = fs.readFileSync(`${root}build.zig`, "utf8").matchAll(/^ {4}\.\{ \.name = "([a-z0-9-]+)"/gm);
  assert.deepEqual(Array.from(rows, ([, name]) => name), [...PLATFORMS]);
});

for (const platform of PLATFORMS) {
  const name = `${platform}: the library exports the header's functions and nothing else`;
  test(name, skipFor(name, refusal), () => {
    const cpu = platform.split("-")[1];
    if (platform.startsWith("darwin")) {
      const library = readMachO(`${folder(platform)}/libholdfast.dylib`);
      assert.deepEqual([...library.exported].sort(), functions);
      assert.deepEqual(library.needed, ["/usr/lib/libSystem.B.dylib"]);
      assert.equal(library.cpu, cpu);
      assert.ok(library.imported.includes("mmap"), "the reader sees what is taken from others");
    } else if (platform.startsWith("win32")) {
      const library = readPE(`${folder(platform)}/holdfast.dll`);
      assert.deepEqual([...library.exported].sort(), functions);
      assert.deepEqual(library.needed, []);
      assert.equal(library.cpu, cpu);
    } else {
      const path = `${folder(platform)}/libholdfast.so`;
      const library = readElf(path);
      const exported = library.symbols.filter(({ defined, binding }) => defined && binding !== "local").map((symbol) => symbol.name);
      assert.deepEqual(exported.sort(), functions);
      assert.deepEqual(library.needed, platform.startsWith("freebsd") ? ["libc.so.7"] : []);
      assert.equal(new Map([[62, "x64"], [183, "arm64"]]).get(fs.readFileSync(path).readUInt16LE(18)), cpu);
    }
  });
}

const SYSROOT = "/usr/aarch64-linux-gnu";

/** What crt1.o does: calls main() by way of the C library. */
const START = `.globl _start
_start:
  mov x29, #0
  mov x30, #0
  mov x5, x0
  ldr x1, [sp]
  add x2, sp, #8
  mov x6, sp
  adrp x0, main
  add x0, x0, :lo12:main
  mov x3, #0
  mov x4, #0
  bl __libc_start_main
  bl abort
`;

const arm64 = "linux-arm64: the library loads and works under glibc, in an emulator";
const noArm64 = fs.existsSync(`${SYSROOT}/lib/libc.so.6`) && spawnSync("qemu-aarch64", ["--version"]).status === 0
  ? undefined
  : "there is no qemu-aarch64 or no C library for it (Debian: apt-get install qemu-user libc6-arm64-cross)";
test(arm64, skipFor(arm64, refusal ?? noArm64), async () => {
  const { findZig } = await import("../../scripts/zig.ts");
  const zig = findZig();
  assert.ok("exe" in zig);
  const caches = { ZIG_LOCAL_CACHE_DIR: `${root}.zig-cache`, ZIG_GLOBAL_CACHE_DIR: `${root}.zig-cache/global` };
  const run = (...args: string[]): void => {
    const { status, stderr } = spawnSync(zig.exe, args, { cwd: root, env: { ...process.env, ...caches }, encoding: "utf8" });
    assert.equal(status, 0, stderr);
  };
  // Compiled and linked by hand, with a start of its own: `zig cc` would first build the rest of a C library, for a minute.
  const start = files.file(START, "start.s");
  const objects = [files.next("loader.o"), files.next("start.o")] as const;
  for (const [i, source] of ["tests/abi/musl_loader.c", start].entries()) {
    run("cc", "-c", "-target", "aarch64-linux-gnu.2.17", "-DANY_LIBC", "-DEMULATED", "-fno-sanitize=all", "-fno-stack-protector", source, "-o", objects[i] as string);
  }
  const program = files.next("loader");
  run("ld.lld", "-dynamic-linker", "/lib/ld-linux-aarch64.so.1", "-o", program, ...objects, `${SYSROOT}/lib/libc.so.6`);
  const command = ["-L", SYSROOT, program, `${folder("linux-arm64")}/libholdfast.so`, files.next()];
  const { status, signal, stdout, stderr } = spawnSync("qemu-aarch64", command, { encoding: "utf8" });
  assert.equal(stdout, "ok\n", stderr);
  assert.deepEqual([status, signal], [0, null]);
});
