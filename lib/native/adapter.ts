/**
 * What a runtime must offer; `bun.ts`, `deno.ts` and `node.ts` each implement it.
 *
 * @module
 */

/** What crosses: a double; the first byte of an array; an integer, which only functions of the system take. */
export type NativeType = "f64" | "bytes" | "i32" | "u64";

/** How a function is called. */
export interface Prototype {
  readonly parameters: readonly NativeType[];
  readonly result: "f64" | "i32";
}

/** One runtime's way to the native library. */
export interface Adapter {
  /** The runtime's name, and its version for error messages. */
  readonly runtime: "bun" | "deno" | "node";
  readonly version: string;
  /** Whether passing an array is as cheap as passing a number: 1 to 12 ns in Bun and Deno, 250 in Node (docs/decisions.md). */
  readonly arraysAreCheap: boolean;
  /** Whether a small array of its own costs more than a part of a larger buffer: 300 ns and 17 in Deno, 39 and 17 in Node, 31 and 33 in Bun. */
  readonly smallArraysAreDear: boolean;
  /** Loads the library at `path`; throws the runtime's own error if it can't. The library is never closed again. */
  load(path: string, prototypes: Readonly<Record<string, Prototype>>): Record<string, unknown>;
  /**
   * An ArrayBuffer over `byteLength` bytes of mapped memory at `address`, without a copy. It does not own the memory: who
   * unmaps it must know that the buffer is unreachable or detached.
   */
  wrap(address: number, byteLength: number): ArrayBuffer;
}

/** The prototypes as a runtime wants them, made by `convert` from each. */
export function convertAll<T>(prototypes: Readonly<Record<string, Prototype>>, convert: (prototype: Prototype) => T): Record<string, T> {
  return Object.fromEntries(Object.entries(prototypes).map(([name, prototype]) => [name, convert(prototype)]));
}
