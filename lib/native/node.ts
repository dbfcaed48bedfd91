/**
 * Node: `node:ffi`, fetched at first use so that importing holdfast loads nothing.
 *
 * @module
 */
import { type Adapter, convertAll } from "./adapter.ts";

type NodeFFI = typeof import("node:ffi");

const ffi = (): NodeFFI => {
  const module = process.getBuiltinModule("node:ffi") as NodeFFI | undefined;
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
  smallArraysAreDear: false,
  get version() {
    return process.versions.node;
  },
  load(path, prototypes) {
    const definitions = convertAll(prototypes, ({ parameters, result }) => ({
      arguments: parameters.map((type) => (type === "bytes" ? "buffer" : type)),
      return: result,
    }));
    const library = ffi().dlopen(path, definitions as Parameters<NodeFFI["dlopen"]>[1]);
    kept.push(library);
    return { ...library.functions };
  },
  wrap(address, byteLength) {
    // The third argument: no copy.
    return ffi().toArrayBuffer(BigInt(address), byteLength, false);
  },
};
