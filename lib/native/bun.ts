/**
 * Bun: `bun:ffi`, fetched at first use so that importing holdfast loads nothing.
 *
 * @module
 */
import type { Adapter } from "./adapter.ts";
import { type NativeFunctions, symbols } from "./symbols.ts";

type BunFFI = typeof import("bun:ffi");

const ffi = (): BunFFI =>
  (process as unknown as { getBuiltinModule(id: string): BunFFI }).getBuiltinModule("bun:ffi");

export const adapter: Adapter = {
  runtime: "bun",
  arraysAreCheap: true,
  smallArraysAreDear: false,
  get version() {
    return process.versions.bun ?? "";
  },
  load(path) {
    const definitions = Object.fromEntries(
      Object.entries(symbols).map(([name, parameters]) => [
        name,
        // "ptr" takes a typed array and passes its first byte; both kinds are the fast ones (docs/decisions.md).
        { args: parameters.map((parameter) => (parameter.startsWith("*") ? "ptr" : "f64")), returns: "f64" },
      ]),
    );
    const library = ffi().dlopen(path, definitions as Parameters<BunFFI["dlopen"]>[1]);
    return { ...library.symbols } as unknown as NativeFunctions;
  },
  wrap(address, byteLength) {
    return ffi().toArrayBuffer(address as Parameters<BunFFI["toArrayBuffer"]>[0], 0, byteLength);
  },
};
