/**
 * Node: `node:ffi`, fetched at first use so that importing holdfast loads nothing.
 *
 * @module
 */
import { type Adapter, convertAll } from "./adapter.ts";

/** What is used of it. Not its own types: Deno's compiler knows no such module. */
interface NodeFFI {
  dlopen(path: string, definitions: object): { readonly functions: Record<string, unknown> };
  toArrayBuffer(address: bigint, byteLength: number, copy: boolean): ArrayBuffer;
}

const ffi = (): NodeFFI => {
  const module = process.getBuiltinModule("node:ffi") as unknown as NodeFFI | undefined;
  if (module === undefined) {
    throw new Error("this Node has no node:ffi module; holdfast needs Node 26.9 or later, without --no-experimental-ffi");
  }
  return module;
};

// Node closes a library whose object is collected.
const kept: unknown[] = [];

export const adapter: Adapter = {
  runtime: "node",
  arraysAreCheap: false,
  smallArraysAreDear: true,
  get version() {
    return process.versions.node;
  },
  load(path, prototypes) {
    const definitions = convertAll(prototypes, ({ parameters, result }) => ({
      arguments: parameters.map((type) => (type === "bytes" ? "buffer" : type)),
      return: result,
    }));
    const library = ffi().dlopen(path, definitions);
    kept.push(library);
    return { ...library.functions };
  },
  wrap(address, byteLength) {
    // The third argument: no copy.
    return ffi().toArrayBuffer(BigInt(address), byteLength, false);
  },
};
