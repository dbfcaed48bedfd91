/** What is said when there is no native library to load, and how a compressed one is unpacked. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { before, test } from "node:test";
import { brotliCompressSync } from "node:zlib";
import { assertUsed, bareEnvironment, pack, packageRefusal, RUN, unpack, writeProgram } from "../support/package.ts";
import { commandLine, root, type RuntimeName, runtimeNames } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { children, type Ending } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { mountRefusal, withTmpfs } from "../support/tmpfs.ts";

const files = temporaryFiles();
const processes = children();
const refusal = await packageRefusal();
const skip = (name: string, reason?: string): { skip: string | false } => skipFor(name, refusal ?? reason);
const noMount = refusal === undefined ? mountRefusal(files) : undefined;
const host = `${process.platform}-${process.arch}`;

let packed = "";
before(async () => {
  if (refusal === undefined) packed = unpack(files, await pack(files));
});

interface App {
  readonly folder: string;
  readonly library: string;
  readonly env: NodeJS.ProcessEnv;
}

/** An app with the package, whose library may be changed. */
function newApp(): App {
  const folder = files.next("app");
  writeProgram(folder);
  fs.cpSync(packed, join(folder, "node_modules", "holdfast"), { recursive: true });
  fs.writeFileSync(
    join(folder, "trouble.mjs"),
    `import { Counters, Queue } from "holdfast";
if (process.argv[3]) Object.defineProperty(process, "arch", { value: process.argv[3] });
const messages = [];
for (const open of [() => Counters.open(process.argv[2] + "/counters", { count: 1 }), () => Queue.open(process.argv[2] + "/queue")]) {
  try { open(); messages.push("opened"); } catch (error) { messages.push([error.name, error.code, error.message]); }
}
console.log(JSON.stringify(messages));
`,
  );
  return { folder, library: join(folder, "node_modules/holdfast/dist/native", host, "libholdfast.so"), env: bareEnvironment(files.next("home")) };
}

const executable = (runtime: RuntimeName): string => commandLine(runtime, "")[0];

function newData(): string {
  const folder = files.next("data");
  fs.mkdirSync(folder);
  return folder;
}

/** The message of the first use and the second, which is the same; nothing was made, and the process lives. */
function trouble(runtime: RuntimeName, { folder, env }: App, more: Readonly<Record<string, string>> = {}, ...args: string[]): string {
  const data = newData();
  const command = [...RUN[runtime], "trouble.mjs", data, ...args];
  const { status, signal, stdout, stderr } = spawnSync(executable(runtime), command, { cwd: folder, env: { ...env, ...more }, encoding: "utf8" });
  assert.equal(status, 0, `${runtime}: ${signal}\n${stdout}${stderr}`);
  const [first, second] = JSON.parse(stdout) as [name: string, code: string, message: string][];
  assert.deepEqual(first?.slice(0, 2), ["MapError", "ERR_LIBRARY"], stdout);
  assert.deepEqual(second, first);
  assert.deepEqual(fs.readdirSync(data), []);
  return first?.[2] as string;
}

const missing = "a missing library: each place is named";
test(missing, skip(missing), () => {
  const app = newApp();
  fs.rmSync(app.library);
  // Bun's entry imports the files, so that a compiled program has them; there the import itself fails.
  const { status, stderr } = spawnSync(executable("bun"), [...RUN.bun, "trouble.mjs", newData()], { cwd: app.folder, env: app.env, encoding: "utf8" });
  assert.equal(status, 1);
  assert.ok(stderr.includes(`Cannot find module './native/${host}/libholdfast.so'`), stderr);
  for (const runtime of ["deno", "node"] as const) {
    const message = trouble(runtime, app);
    assert.ok(message.includes(`${fs.realpathSync(app.folder)}/node_modules/holdfast/dist/native/${host}/libholdfast.so: no such file`), message);
    assert.ok(message.includes("Install the package again") && message.includes(runtime), message);
  }
});

const broken = "a broken library: cut short, changed, something else, of another version";
test(broken, skip(broken), () => {
  const app = newApp();
  const whole = fs.readFileSync(app.library);
  const changed = Uint8Array.from(whole);
  changed[whole.byteLength >> 1] = (changed[whole.byteLength >> 1] as number) ^ 1;
  const cases: readonly (readonly [Uint8Array, RegExp])[] = [
    [whole.subarray(0, whole.byteLength >> 1), /damaged: its checksum/],
    [changed, /damaged: its checksum/],
    [new Uint8Array(0), /damaged: its checksum/],
  ];
  for (const [bytes, expected] of cases) {
    fs.rmSync(app.library);
    fs.writeFileSync(app.library, bytes);
    for (const runtime of runtimeNames) assert.match(trouble(runtime, app), expected);
  }
  // One that the user names has no known checksum.
  for (
    const [bytes, expected] of [
      [whole.subarray(0, whole.byteLength >> 1), /the file is cut short/],
      [whole.subarray(0, 40), /the file is cut short/],
      [new Uint8Array(0), /the file is cut short/],
      [new TextEncoder().encode("not a library\n".repeat(100)), /invalid ELF header|file too short/],
    ] as const
  ) {
    const named = files.file(bytes, "libnamed.so");
    for (const runtime of runtimeNames) {
      const message = trouble(runtime, app, { HOLDFAST_LIBRARY: named });
      assert.match(message, expected);
      assert.ok(message.includes(`HOLDFAST_LIBRARY=${named}`), message);
    }
  }
});

const unsupported = "a platform without a library, and one without a port";
test(unsupported, skip(unsupported), async () => {
  const app = newApp();
  const { buildUnsupported } = await import("../../scripts/build.ts");
  const library = buildUnsupported();
  for (const runtime of runtimeNames) {
    assert.match(trouble(runtime, app, {}, "riscv64"), /holdfast does not run on linux-riscv64 yet; it runs on linux-x64, /);
    assert.match(trouble(runtime, app, { HOLDFAST_LIBRARY: library }), new RegExp(`holdfast does not run on ${host} yet`));
  }
});

// ---- a compressed library, as other platforms have it in the package ----------------------------------------------------

/** Replaces the library by a compressed one. */
function compress(app: App): Buffer {
  const bytes = fs.readFileSync(app.library);
  fs.writeFileSync(`${app.library}.br`, brotliCompressSync(bytes));
  fs.rmSync(app.library);
  // Bun's entry names the file.
  const bun = join(app.folder, "node_modules/holdfast/dist/bun.js");
  fs.writeFileSync(bun, fs.readFileSync(bun, "utf8").replace(`/${host}/libholdfast.so"`, `/${host}/libholdfast.so.br"`));
  return bytes;
}

function run(runtime: RuntimeName, { folder, env }: App, more: Readonly<Record<string, string>> = {}): void {
  const command = [...RUN[runtime], "main.mjs", newData()];
  const { stdout, stderr } = spawnSync(executable(runtime), command, { cwd: folder, env: { ...env, ...more }, encoding: "utf8" });
  assert.match(stdout, /^\{/, `${runtime}: ${stderr}`);
  assertUsed(stdout, 1);
}

const unpacked = "a compressed library is unpacked once, for its user alone, and again if it was changed";
test(unpacked, skip(unpacked), () => {
  const app = newApp();
  const bytes = compress(app);
  const cache = join(app.env["HOME"] as string, ".cache", "holdfast");
  const inode = new Set<number>();
  let path = "";
  for (const runtime of runtimeNames) {
    run(runtime, app);
    const [name = "", ...others] = fs.readdirSync(cache);
    assert.deepEqual(others, []);
    path = join(cache, name);
    assert.deepEqual(fs.readFileSync(path), bytes);
    assert.equal(fs.statSync(path).mode & 0o777, 0o500);
    assert.equal(fs.statSync(cache).mode & 0o777, 0o700);
    inode.add(fs.statSync(path).ino);
  }
  assert.equal(inode.size, 1, "written once");
  for (
    const harm of [
      () => fs.writeFileSync(path, bytes.subarray(0, 1000)),
      () => fs.writeFileSync(path, Buffer.alloc(bytes.byteLength)),
      () => fs.symlinkSync(files.file(bytes), path),
      () => (fs.writeFileSync(path, bytes), fs.chmodSync(path, 0o777)),
    ]
  ) {
    fs.rmSync(path);
    harm();
    run("node", app);
    assert.ok(fs.lstatSync(path).isFile());
    assert.deepEqual(fs.readFileSync(path), bytes);
    assert.equal(fs.statSync(path).mode & 0o777, 0o500);
  }
});

const damaged = "a damaged compressed library is refused";
test(damaged, skip(damaged), () => {
  const app = newApp();
  const bytes = Uint8Array.from(compress(app));
  bytes[1000] = (bytes[1000] as number) ^ 1;
  fs.writeFileSync(`${app.library}.br`, brotliCompressSync(bytes));
  for (const runtime of runtimeNames) assert.match(trouble(runtime, app), /unpacked: the file is damaged/);
  assert.ok(!fs.existsSync(join(app.env["HOME"] as string, ".cache", "holdfast")) || fs.readdirSync(join(app.env["HOME"] as string, ".cache", "holdfast")).length === 0);
});

const elsewhere = "a compressed library where the cache folder can't be used: for temporary files, or in memory";
test(elsewhere, skip(elsewhere, noMount), () => {
  const app = newApp();
  compress(app);
  // A cache folder that others may write to is not trusted.
  const shared = files.next("shared");
  fs.mkdirSync(join(shared, "holdfast"), { recursive: true });
  fs.chmodSync(join(shared, "holdfast"), 0o777);
  run("node", app, { XDG_CACHE_HOME: shared });
  assert.deepEqual(fs.readdirSync(join(shared, "holdfast")), []);
  assert.equal(fs.readdirSync(app.env["TMPDIR"] as string).filter((name) => name.startsWith("holdfast-")).length, 1);
  withTmpfs(files, "size=1m,noexec", (mount) => {
    for (const runtime of runtimeNames) run(runtime, app, { HOME: mount, TMPDIR: mount });
  });
  withTmpfs(files, "size=1m,ro", (mount) => {
    for (const runtime of runtimeNames) run(runtime, app, { HOME: mount, TMPDIR: mount });
  });
});

// ---- modules from the network, as a registry serves them ----------------------------------------------------------------

async function serve(): Promise<Server> {
  const server = createServer((request, response) => {
    const path = join(root, (request.url ?? "").split("?")[0] as string);
    if (!/^\/(mod\.ts|lib\/|build\/jsr\/)/.test(request.url ?? "") || !fs.existsSync(path)) return void response.writeHead(404).end();
    response.setHeader("content-type", "application/typescript");
    response.end(fs.readFileSync(path));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

const network = "deno from modules over http: the library is inside";
test(network, skip(network), async () => {
  const server = await serve();
  try {
    const folder = files.next("app");
    writeProgram(folder);
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/build/jsr/mod.ts`;
    fs.writeFileSync(join(folder, "deno.json"), JSON.stringify({ imports: { holdfast: url } }));
    const env = bareEnvironment(files.next("home"));
    const deno = (flags: readonly string[], data: string): Promise<Ending> =>
      processes.run(executable("deno"), ["run", "--no-check", "--quiet", ...flags, "main.mjs", data], { cwd: folder, env });
    const all = await deno(["-A"], newData());
    assert.equal(all.code, 0, all.stderr);
    assertUsed(all.stdout, 1);
    assert.equal(fs.readdirSync(join(env["HOME"] as string, ".cache", "holdfast")).length, 1);
    // Without a place to write to, and without a variable to read.
    const data = newData();
    const narrow = await deno(["--allow-import", "--no-prompt", "--allow-ffi", `--allow-read=${data}`, `--allow-write=${data}`], data);
    assert.equal(narrow.code, 0, narrow.stderr);
    assertUsed(narrow.stdout, 1);
    const none = await deno(["--allow-import", "--no-prompt", `--allow-read=${data}`, `--allow-write=${data}`], data);
    assert.notEqual(none.code, 0);
    assert.match(none.stderr, /ERR_LIBRARY.*--allow-ffi/s);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

const publish = "deno publish --dry-run: no slow types, and the libraries are part of it";
test(publish, skip(publish), () => {
  // With the caches of the gate: what it checks the types of has not changed since.
  const env = { ...bareEnvironment(files.next("home")), ...(process.env.DENO_DIR === undefined ? {} : { DENO_DIR: process.env.DENO_DIR }) };
  const args = ["publish", "--dry-run", "--allow-dirty"];
  const { status, stdout, stderr } = spawnSync(executable("deno"), args, { cwd: root, env, encoding: "utf8" });
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout + stderr, /Dry run complete/);
  assert.doesNotMatch(stdout + stderr, /warning/i);
  for (const file of ["build/jsr/mod.ts", "build/jsr/bridge/nats.ts", "build/jsr/bridge/redis.ts", "build/jsr/cli.ts", "build/jsr/libraries.ts", "mod.ts", "cli/main.ts", "README.md"]) assert.ok((stdout + stderr).includes(`/${file} (`), file);
});
