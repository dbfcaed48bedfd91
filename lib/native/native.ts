/**
 * Chooses the runtime, finds and loads the native library at first use, and checks its ABI version. The rest of holdfast
 * sees addresses as plain numbers and the functions as `native()`.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { MapError } from "../errors.ts";
import type { Adapter } from "./adapter.ts";
import { adapter as bun } from "./bun.ts";
import { adapter as deno } from "./deno.ts";
import { adapter as node } from "./node.ts";
import { ABI_VERSION, type NativeFunctions } from "./symbols.ts";

/** An address in this process. A number, since all three runtimes pass a double fastest (docs/decisions.md). */
export type Address = number;

function chooseAdapter(): Adapter {
  if (typeof (globalThis as { Bun?: unknown }).Bun !== "undefined") return bun;
  if (typeof (globalThis as { Deno?: unknown }).Deno !== "undefined") return deno;
  return node;
}

/** `process.env[name]`, or undefined where a permission withholds it: then the default applies. */
function environment(name: string): string | undefined {
  try {
    return process.env[name];
  } catch {
    return undefined;
  }
}

const LIBRARY_NAMES: Readonly<Record<string, string>> = { darwin: "libholdfast.dylib", win32: "holdfast.dll" };

function candidates(): string[] {
  const override = environment("HOLDFAST_LIBRARY");
  if (override !== undefined && override !== "") return [override];
  const file = LIBRARY_NAMES[process.platform] ?? "libholdfast.so";
  return [fileURLToPath(new URL(`../../build/native/${process.platform}-${process.arch}/${file}`, import.meta.url))];
}

function libraryError(tried: readonly string[], adapter: Adapter | undefined): MapError {
  const where = tried.map((line) => `\n  ${line}`).join("");
  const runtime = adapter === undefined ? "unknown runtime" : `${adapter.runtime} ${adapter.version}`;
  return new MapError(
    "ERR_LIBRARY",
    `the native library of holdfast could not be loaded on ${process.platform}-${process.arch}, ${runtime}; tried:${where}\n` +
      "Build it with `npm run build`, or name it in HOLDFAST_LIBRARY. Deno needs --allow-ffi; Node's permission model needs --allow-ffi.",
    { syscall: "dlopen" },
  );
}

interface Loaded {
  readonly adapter: Adapter;
  readonly functions: NativeFunctions;
  readonly pageSize: number;
}

let loaded: Loaded | undefined;
let failure: MapError | undefined;

function attempt(adapter: Adapter, path: string): NativeFunctions {
  if (!existsSync(path)) throw new Error("no such file");
  const functions = adapter.load(path);
  const version = functions.hf_abi_version();
  if (version !== ABI_VERSION) {
    throw new Error(`it has ABI version ${version}, this version of holdfast needs ${ABI_VERSION}`);
  }
  return functions;
}

function load(): Loaded {
  if (loaded !== undefined) return loaded;
  // Remembered: a missing library would otherwise cost every call a search.
  if (failure !== undefined) throw failure;
  const tried: string[] = [];
  const adapter = chooseAdapter();
  for (const path of candidates()) {
    try {
      const functions = attempt(adapter, path);
      functions.hf_guard_install();
      loaded = { adapter, functions, pageSize: functions.hf_page_size() };
      return loaded;
    } catch (error) {
      tried.push(`${path}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  failure = libraryError(tried, adapter);
  throw failure;
}

/**
 * The native functions. The first call loads the library; `MapError` `ERR_LIBRARY` if that fails. Hot code keeps the result
 * in a field or constant: one function object per call site is what the runtimes' fast paths want.
 */
export function native(): NativeFunctions {
  return load().functions;
}

/** Bytes of a page. */
export function pageSize(): number {
  return load().pageSize;
}

/** See {@linkcode Adapter.arraysAreCheap}. */
export function arraysAreCheap(): boolean {
  return load().adapter.arraysAreCheap;
}

/** See {@linkcode Adapter.smallArraysAreDear}. */
export function smallArraysAreDear(): boolean {
  return load().adapter.smallArraysAreDear;
}

/** See {@linkcode Adapter.wrap}. */
export function wrap(address: Address, byteLength: number): ArrayBuffer {
  return load().adapter.wrap(address, byteLength);
}

/**
 * Memory of this realm that native functions read and write by address. The buffer is made from an explicit ArrayBuffer,
 * whose memory never moves, and must stay reachable for as long as the address is used.
 */
export interface Scratch {
  readonly address: Address;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly buffer: ArrayBuffer;
}

/** New scratch memory of `byteLength` bytes, zeroed, 8-byte aligned. */
export function allocateScratch(byteLength: number): Scratch {
  const buffer = new ArrayBuffer(byteLength);
  const bytes = new Uint8Array(buffer);
  return { address: native().hf_address_of(bytes), bytes, buffer };
}

let idle: Scratch | undefined;

/** Blocks the calling thread for about `ms` milliseconds: only for short waits inside a synchronous call. */
export function sleep(ms: number): void {
  idle ??= allocateScratch(8);
  native().hf_wait32(idle.address, 0, ms);
}
