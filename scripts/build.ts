/**
 * Builds the native library of this machine into build/native/<platform>-<arch>/, with Zig, or with
 * the host's C compiler where Zig cannot be had. An up-to-date library is left alone. With `--all`, which needs Zig, the libraries of all
 * platforms.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, globSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { compileBench, compileLibrary, type Compiler, compileTest, findCompiler } from "./cc.ts";
import { hostName, root, zigVersion } from "./project.ts";
import { findLocalZig, findZig, type NoZig, type Zig, zigBuild } from "./zig.ts";

export interface BuildOptions {
  /** Build even when the library is up to date. */
  readonly force?: boolean;
  /** Build the library of every platform. */
  readonly all?: boolean;
}

export interface BuildResult {
  readonly library: string;
  readonly built: boolean;
  /** One line: what was built by what, or that it was up to date. */
  readonly message: string;
}

export interface CTestResult {
  readonly ok: boolean;
  readonly passed: number;
  readonly failed: number;
  readonly output: string;
}

/** Kept beside a platform's library; says from what it was built. */
interface Stamp {
  readonly tool: "zig" | "cc";
  readonly by: string;
  readonly sources: string;
  /** The library's file name, and its SHA-256. */
  readonly file: string;
  readonly library: string;
}

/** A folder for each platform. */
export const nativeDir: string = path.join(root, "build", "native");
const library = path.join(nativeDir, hostName, "libholdfast.so");

/** Throws an Error whose message says what to do when nothing can build the library. */
export function build(options: BuildOptions = {}): BuildResult {
  const sources = hashSources();
  const platforms = options.all === true ? platformNames() : [hostName];
  const what = options.all === true ? `${show(nativeDir)} (${platforms.length} platforms)` : show(library);
  if (options.force !== true) {
    const stamps = platforms.map(readStamp);
    const { by } = stamps[0] ?? {};
    if (stamps.every((stamp) => stamp !== undefined && stamp.sources === sources && isStillWanted(stamp))) {
      return { library, built: false, message: `${what} is up to date (${by})` };
    }
  }

  const started = performance.now();
  const tool = chooseTool();
  // The library is built elsewhere and renamed into place: a process that loads it meanwhile, or a
  // second build, never sees half of a file, and a library already loaded keeps its pages.
  const temporary = path.join(root, "build", `.tmp-${process.pid}`);
  mkdirSync(temporary, { recursive: true });
  try {
    const made = path.join(temporary, "native", hostName, "libholdfast.so");
    mkdirSync(path.dirname(made), { recursive: true });
    if ("exe" in tool) {
      const result = zigBuild(tool, ["--prefix", temporary, `-Dlibrary=${options.all === true ? "all" : "host"}`]);
      if (!result.ok) throw new Error(`zig build failed\n${result.stderr.trim()}`);
      if (!existsSync(made)) throw new Error(`build.zig has no target for ${hostName}`);
    } else {
      if (options.all === true) throw new Error(`the libraries of other platforms need Zig ${zigVersion}: ${tool.reason}`);
      const messages = compileLibrary(tool.compiler, cSources(), made);
      if (messages !== undefined) throw new Error(`${tool.compiler.command.join(" ")} failed\n${messages.trim()}`);
    }
    const by = "exe" in tool ? `Zig ${zigVersion}` : tool.compiler.version;
    for (const found of globSync("*/*", { cwd: path.join(temporary, "native") }).sort()) {
      const [platform, file] = found.split(path.sep) as [string, string];
      const from = path.join(temporary, "native", found);
      const stamp: Stamp = { tool: "exe" in tool ? "zig" : "cc", by, sources, file, library: hash(readFileSync(from)) };
      mkdirSync(path.join(nativeDir, platform), { recursive: true });
      renameSync(from, path.join(nativeDir, found));
      const stampMade = path.join(temporary, "build.json");
      writeFileSync(stampMade, JSON.stringify(stamp, null, 2) + "\n");
      renameSync(stampMade, path.join(nativeDir, platform, "build.json"));
    }

    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    const with_ = "exe" in tool ? `Zig ${zigVersion} from ${tool.origin}` : `${by} instead of Zig: ${tool.reason}`;
    return { library, built: true, message: `built ${what} in ${seconds} s with ${with_}` };
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** The rows of build.zig. */
function platformNames(): string[] {
  const rows = readFileSync(path.join(root, "build.zig"), "utf8").matchAll(/^ {4}\.\{ \.name = "([a-z0-9-]+)"/gm);
  return Array.from(rows, ([, name]) => name as string);
}

/** Builds the library as it is where there is no port; returns where it is. */
export function buildUnsupported(): string {
  const tool = chooseTool();
  const out = path.join(root, "build", "unsupported", "libholdfast.so");
  mkdirSync(path.dirname(out), { recursive: true });
  if ("exe" in tool) {
    const result = zigBuild(tool, ["unsupported", "--prefix", path.join(root, "build")]);
    if (!result.ok) throw new Error(`zig build unsupported failed\n${result.stderr.trim()}`);
    return out;
  }
  const messages = compileLibrary(tool.compiler, cSources(), out, ["-DHF_NO_SYSTEM"]);
  if (messages !== undefined) throw new Error(`${tool.compiler.command.join(" ")} failed\n${messages.trim()}`);
  return out;
}

/** Why the C tests can't be run for arm64 on this machine; undefined if they can. */
export function noArm64(): string | undefined {
  if (spawnSync("qemu-aarch64", ["--version"]).status !== 0) return "there is no qemu-aarch64 (Debian: apt-get install qemu-user)";
  const zig = findZig();
  return "exe" in zig ? undefined : zig.missing;
}

/**
 * Builds and runs csrc/tests/*_test.c; each prints `N passed, M failed` and exits non-zero on a failure. For "arm64" under an emulator: see
 * {@linkcode noArm64}.
 */
export function runCTests(cpu: "host" | "arm64" = "host"): CTestResult {
  const tool = chooseTool();
  let ok: boolean;
  let output: string;
  if ("exe" in tool) {
    const result = zigBuild(tool, [cpu === "arm64" ? "test-arm64" : "test", "--summary", "none"]);
    ok = result.ok;
    output = result.stdout + result.stderr;
  } else {
    ({ ok, output } = runCTestsWith(tool.compiler));
  }
  let passed = 0;
  let failed = 0;
  for (const match of output.matchAll(/(\d+) passed, (\d+) failed/g)) {
    passed += Number(match[1]);
    failed += Number(match[2]);
  }
  return { ok, passed, failed, output };
}

function runCTestsWith(compiler: Compiler): { ok: boolean; output: string } {
  const temporary = path.join(root, "build", `.tmp-${process.pid}`);
  mkdirSync(temporary, { recursive: true });
  try {
    let ok = true;
    let output = "";
    for (const source of find("csrc/tests/*_test.c")) {
      const program = path.join(temporary, path.basename(source, ".c"));
      const messages = compileTest(compiler, [source, ...cSources()], program);
      if (messages !== undefined) {
        ok = false;
        output += messages;
        continue;
      }
      const result = spawnSync(program, { cwd: root, encoding: "utf8" });
      output += result.stdout + result.stderr;
      if (result.status === 0) continue;
      ok = false;
      output += `${source}: ${result.signal ?? `exit code ${result.status}`}\n`;
    }
    return { ok, output };
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** Builds the C side of the benchmarks, bench/c/*.c with csrc/*.c; returns where it is and what compiled it. */
export function buildBench(): { program: string; compiler: string } {
  const tool = chooseTool();
  const program = path.join(root, "build", "bench", "holdfast-bench");
  mkdirSync(path.dirname(program), { recursive: true });
  if ("exe" in tool) {
    const result = zigBuild(tool, ["bench", "--prefix", path.join(root, "build")]);
    if (!result.ok) throw new Error(`zig build bench failed\n${result.stderr.trim()}`);
    return { program, compiler: `Zig ${zigVersion}` };
  }
  const made = `${program}.${process.pid}.tmp`; // renamed, since another run may be executing the old one
  const messages = compileBench(tool.compiler, [...find("bench/c/*.c"), ...cSources()], made);
  if (messages !== undefined) throw new Error(`${tool.compiler.command.join(" ")} failed\n${messages.trim()}`);
  renameSync(made, program);
  return { program, compiler: tool.compiler.version };
}

function chooseTool(): Zig | { readonly compiler: Compiler; readonly reason: string } {
  const zig = findZig();
  if ("exe" in zig) return zig;
  const compiler = findCompiler();
  if (compiler !== undefined) return { compiler, reason: zig.missing };
  throw new Error(
    `Nothing can build the native library.\n` +
      `  Zig ${zigVersion}: ${zig.missing}\n` +
      `  C compiler: ${process.env.CC ? `CC (${process.env.CC}) cannot be run` : "no cc, gcc or clang on PATH"}\n` +
      `Set ZIG to a Zig ${zigVersion}, or install Python 3 with pip or a C compiler, and run this again.`,
  );
}

/** A library of the C compiler is only kept while Zig is not at hand; nothing is downloaded to find out. */
function isStillWanted(stamp: Stamp): boolean {
  const noZig = process.env.HOLDFAST_NO_ZIG === "1";
  if (stamp.tool === "zig") return !noZig;
  const local: Zig | NoZig = findLocalZig();
  return !("exe" in local);
}

function readStamp(platform: string): Stamp | undefined {
  const folder = path.join(nativeDir, platform);
  try {
    const stamp = JSON.parse(readFileSync(path.join(folder, "build.json"), "utf8")) as Stamp;
    return stamp.library === hash(readFileSync(path.join(folder, stamp.file))) ? stamp : undefined;
  } catch {
    return undefined; // absent or damaged: build again
  }
}

/** Everything the library's bytes depend on, except the compiler. */
function hashSources(): string {
  const sum = createHash("sha256");
  for (const file of [".zig-version", "build.zig", "scripts/cc.ts", ...find("csrc/**/*.{c,h}")]) {
    sum.update(`${file}\0`).update(readFileSync(path.join(root, file))).update("\0");
  }
  return sum.digest("hex");
}

function cSources(): string[] {
  return find("csrc/*.c");
}

/** Sorted: neither the hash nor the link order may depend on the file system. */
function find(pattern: string): string[] {
  return globSync(pattern, { cwd: root }).sort();
}

function hash(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function show(file: string): string {
  return path.relative(root, file);
}

const help = `Usage: node scripts/build.ts [options]

Builds ${show(library)}.

  --force   build even when the library is up to date
  --all     the libraries of all platforms (needs Zig)
  --test    also build and run the C tests
  --arm64   also build them for arm64 and run them with qemu-aarch64
  --quiet   print nothing when the library is up to date
  --help    print this text

Environment: ZIG (path of a Zig ${zigVersion}), HOLDFAST_NO_ZIG=1 (use the C compiler), CC.
`;

function main(): number {
  const { values } = parseArgs({
    options: {
      force: { type: "boolean", default: false },
      all: { type: "boolean", default: false },
      test: { type: "boolean", default: false },
      arm64: { type: "boolean", default: false },
      quiet: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  const result = build({ force: values.force, all: values.all });
  if (result.built || !values.quiet) console.log(result.message);
  let ok = true;
  for (const cpu of ["host", "arm64"] as const) {
    if (!(cpu === "host" ? values.test : values.arm64)) continue;
    const missing = cpu === "arm64" ? noArm64() : undefined;
    if (missing !== undefined) throw new Error(`the C tests can't be run for arm64: ${missing}`);
    const tests = runCTests(cpu);
    process.stdout.write(tests.output);
    ok &&= tests.ok;
  }
  return ok ? 0 : 1;
}

if (import.meta.main) {
  try {
    process.exitCode = main();
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
