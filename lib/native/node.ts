/**
 * Node: `node:ffi`, fetched at first use so that importing holdfast loads nothing.
 *
 * @module
 */
import type { Adapter } from "./adapter.ts";
import { type NativeFunctions, symbols } from "./symbols.ts";

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
  load(path) {
    const definitions = Object.fromEntries(
      Object.entries(symbols).map(([name, parameters]) => [
        name,
        { arguments: parameters.map((parameter) => (parameter.startsWith("*") ? "buffer" : "f64")), return: "f64" },
      ]),
    );
    const library = ffi().dlopen(path, definitions as Parameters<NodeFFI["dlopen"]>[1]);
    kept.push(library);
    return { ...library.functions } as unknown as NativeFunctions;
  },
  wrap(address, byteLength) {
    // The third argument: no copy.
    return ffi().toArrayBuffer(BigInt(address), byteLength, false);
  },
};
