/**
 * Modules of the runtime that take milliseconds to load, fetched when they are first needed: importing holdfast is to cost nothing.
 *
 * @module
 */
import { Buffer } from "node:buffer";

interface Builtins {
  readonly "node:crypto": typeof import("node:crypto");
  readonly "node:util": typeof import("node:util");
  readonly "node:worker_threads": typeof import("node:worker_threads");
  readonly "node:zlib": typeof import("node:zlib");
}

/** The module of this name. */
export function builtin<Name extends keyof Builtins>(name: Name): Builtins[Name] {
  return process.getBuiltinModule(name) as Builtins[Name];
}

/** Bytes that nobody can guess. */
export function randomBytes(length: number): Buffer<ArrayBuffer> {
  return crypto.getRandomValues(Buffer.alloc(length));
}
