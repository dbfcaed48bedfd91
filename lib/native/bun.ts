/**
 * Bun: `bun:ffi`, fetched at first use so that importing holdfast loads nothing.
 *
 * @module
 */
import { type Adapter, convertAll } from "./adapter.ts";

/** What is used of it. Not its own types: other compilers know no such module. */
interface BunFFI {
  dlopen(path: string, definitions: object): { readonly symbols: Record<string, unknown> };
  toArrayBuffer(address: number, byteOffset: number, byteLength: number): ArrayBuffer;
}

const ffi = (): BunFFI =>
  (process as unknown as { getBuiltinModule(id: string): BunFFI }).getBuiltinModule("bun:ffi");

export const adapter: Adapter = {
  runtime: "bun",
  arraysAreCheap: true,
  smallArraysAreDear: false,
  get version() {
    return process.versions.bun ?? "";
  },
  load(path, prototypes) {
    // "ptr" takes a typed array and passes its first byte; it and "f64" are the fast ones (docs/decisions.md).
    const definitions = convertAll(prototypes, ({ parameters, result }) => ({
      args: parameters.map((type) => (type === "bytes" ? "ptr" : type)),
      returns: result,
    }));
    const library = ffi().dlopen(path, definitions);
    return { ...library.symbols };
  },
  wrap(address, byteLength) {
    return ffi().toArrayBuffer(address, 0, byteLength);
  },
};
