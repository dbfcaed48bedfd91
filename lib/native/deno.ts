/**
 * Deno: `Deno.dlopen`. Every call needs `--allow-ffi`, which may be limited to the library's path; `wrap` needs it unlimited.
 *
 * @module
 */
import { type Adapter, convertAll } from "./adapter.ts";

type DenoFFI = typeof Deno;

const deno = (): DenoFFI => (globalThis as unknown as { Deno: DenoFFI }).Deno;

export const adapter: Adapter = {
  runtime: "deno",
  arraysAreCheap: true,
  smallArraysAreDear: true,
  get version() {
    return deno().version.deno;
  },
  load(path, prototypes) {
    const definitions = convertAll(prototypes, ({ parameters, result }) => ({
      parameters: parameters.map((type) => (type === "bytes" ? "buffer" : type)),
      result,
    }));
    const library = deno().dlopen(path, definitions as Parameters<DenoFFI["dlopen"]>[1]);
    return { ...library.symbols };
  },
  wrap(address, byteLength) {
    const pointer = deno().UnsafePointer.create(BigInt(address));
    if (pointer === null) throw new RangeError("cannot wrap the null address");
    return deno().UnsafePointerView.getArrayBuffer(pointer, byteLength);
  },
};
