/**
 * Meets a SIGBUS that is not holdfast's business, with or without holdfast loaded: how the process ends is to be the same.
 * Usage: foreign_fault.ts PATH (with|without) (fault|kill|listener)
 */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { Mapping } from "../../mod.ts";

const [path, holdfast, how] = process.argv.slice(2) as [string, "with" | "without", "fault" | "kill" | "listener"];

type Call = (...args: (number | bigint)[]) => number | bigint;
interface Anything {
  [key: string]: (...args: unknown[]) => Record<string, Record<string, Call>>;
}

/** mmap(2) and memchr(3) of the C library, by the runtime's own FFI. */
function libc(): Record<"mmap" | "memchr", Call> {
  const mmap = ["u64", "u64", "i32", "i32", "i32", "i64"];
  const memchr = ["u64", "i32", "u64"];
  const symbols = (parameters: string, result: string): unknown => ({
    mmap: { [parameters]: mmap, [result]: "u64" },
    memchr: { [parameters]: memchr, [result]: "u64" },
  });
  const load = (name: string): Anything => process.getBuiltinModule(name) as unknown as Anything;
  const name = "libc.so.6";
  if ("Bun" in globalThis) return load("bun:ffi").dlopen?.(name, symbols("args", "returns")).symbols as never;
  const { Deno } = globalThis as unknown as { Deno?: Anything };
  if (Deno !== undefined) return Deno.dlopen?.(name, symbols("parameters", "result")).symbols as never;
  return load("node:ffi").dlopen?.(name, symbols("arguments", "return")).functions as never;
}

if (how === "listener") process.on("SIGBUS", () => (console.log("heard"), process.exit(0)));
if (holdfast === "with") Mapping.open(path).pread(0, 1);
if (how === "fault") {
  const { mmap, memchr } = libc();
  const fd = fs.openSync(path, "r");
  const address = BigInt(mmap(0n, 16_384n, 1, 2, fd, 0n));
  console.log("mapped", BigInt(memchr(address, 1, 1n)) >= 0n);
  fs.truncateSync(path, 0);
  console.log(memchr(address + 8192n, 1, 1n));
} else {
  // From outside: Bun's process.kill() of itself puts the default action back first, if the handler is another than its own.
  spawnSync("kill", ["-BUS", String(process.pid)]);
  setTimeout(() => console.log("not ended by it"), 2000);
}
