/** The way without Zig: the host's C compiler, with the flags of build.zig as far as they carry over. */
import { spawnSync } from "node:child_process";
import { root } from "./project.ts";

export interface Compiler {
  readonly command: readonly string[];
  /** First line of `--version`. */
  readonly version: string;
}

// No -Werror: compilers of unknown age warn about other things than the one that Zig pins.
const common = ["-std=c17", "-D_GNU_SOURCE", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion"];

// GCC and Clang may call libgcc's __aarch64_* helpers for atomics; the library links no libgcc.
const cpu = process.arch === "arm64" ? ["-mno-outline-atomics"] : [];

const library = [
  "-O2",
  "-fomit-frame-pointer",
  "-fPIC",
  "-U_FORTIFY_SOURCE",
  "-fno-stack-protector",
  "-fno-asynchronous-unwind-tables",
  "-shared",
  "-nostdlib",
  "-s",
  "-Wl,-soname,libholdfast.so",
  "-Wl,-z,now",
  "-Wl,-z,relro",
  "-Wl,--build-id=none",
];

const test = ["-O1", "-g", "-pthread"];

export function findCompiler(): Compiler | undefined {
  const fromEnv = process.env.CC?.trim();
  const candidates = fromEnv ? [fromEnv.split(/\s+/)] : [["cc"], ["gcc"], ["clang"]];
  for (const command of candidates) {
    const result = spawnSync(command[0]!, [...command.slice(1), "--version"], { encoding: "utf8" });
    if (result.status === 0) return { command, version: result.stdout.split("\n")[0]!.trim() };
  }
  return undefined;
}

/** Compiles and links in one step; undefined on success, else the compiler's messages. */
export function compileLibrary(compiler: Compiler, sources: readonly string[], out: string, flags: readonly string[] = []): string | undefined {
  return compile(compiler, [...common, ...cpu, ...library, ...flags, "-o", out, ...sources]);
}

export function compileBench(compiler: Compiler, sources: readonly string[], out: string): string | undefined {
  return compile(compiler, [...common, ...cpu, "-O2", "-o", out, ...sources]);
}

export function compileTest(compiler: Compiler, sources: readonly string[], out: string): string | undefined {
  return compile(compiler, [...common, ...test, "-o", out, ...sources]);
}

function compile(compiler: Compiler, args: readonly string[]): string | undefined {
  const [exe, ...first] = compiler.command;
  const result = spawnSync(exe!, [...first, ...args], { cwd: root, encoding: "utf8" });
  if (result.status !== 0) return result.error?.message ?? result.stderr;
  if (result.stderr !== "") process.stderr.write(result.stderr);
  return undefined;
}
