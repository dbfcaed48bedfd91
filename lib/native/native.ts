/**
 * Chooses the runtime, finds and loads the native library at first use, and checks its ABI version. The rest of holdfast
 * sees addresses as plain numbers and the functions as `native()`.
 *
 * @module
 */
import { MapError } from "../errors.ts";
import type { Adapter, Prototype } from "./adapter.ts";
import { adapter as bun } from "./bun.ts";
import { adapter as deno } from "./deno.ts";
import { type Candidate, candidates, platform, PLATFORMS } from "./library.ts";
import { adapter as node } from "./node.ts";
import { ABI_VERSION, codes, type NativeFunctions, symbols } from "./symbols.ts";

/** An address in this process. A number, since all three runtimes pass a double fastest (docs/decisions.md). */
export type Address = number;

function chooseAdapter(): Adapter {
  if (typeof (globalThis as { Bun?: unknown }).Bun !== "undefined") return bun;
  if (typeof (globalThis as { Deno?: unknown }).Deno !== "undefined") return deno;
  return node;
}

/** The runtimes' own errors for what they were not allowed. */
const REFUSED = /NotCapable|PermissionDenied|ERR_ACCESS_DENIED|--allow-|access to this API has been restricted/i;

function unsupportedError(): MapError {
  const supported = PLATFORMS.filter((name) => !name.startsWith("win32"));
  return new MapError("ERR_LIBRARY", `holdfast does not run on ${platform()} yet; it runs on ${supported.join(", ")}`, { syscall: "dlopen" });
}

/** What a failure to load leads to. */
function libraryError(tried: readonly (readonly [candidate: Candidate, error: unknown])[], adapter: Adapter): MapError {
  if (!PLATFORMS.includes(platform())) return unsupportedError();
  const lines = tried.map(([{ place }, error]) => `${place}: ${error instanceof Error ? error.message : String(error)}`);
  const path = tried.find(([candidate]) => candidate.path !== undefined)?.[0].path;
  const advice = lines.some((line) => REFUSED.test(line))
    ? adapter.runtime === "deno"
      ? `Deno needs --allow-ffi${path === undefined ? "" : `, which may be limited to that file: --allow-ffi=${path}`}`
      : "Node's permission model needs --allow-ffi."
    : "Install the package again (in a clone: `npm run build`; a bundle needs the package's folder dist/native beside it), or name a library " +
      "in HOLDFAST_LIBRARY. Deno, and Node's permission model, need --allow-ffi.";
  return new MapError(
    "ERR_LIBRARY",
    `the native library of holdfast could not be loaded on ${platform()}, ${adapter.runtime} ${adapter.version}; tried:` +
      `${lines.map((line) => `\n  ${line}`).join("")}\n${advice}`,
    { syscall: "dlopen", cause: tried.at(-1)?.[1] },
  );
}

interface Loaded {
  readonly adapter: Adapter;
  readonly functions: NativeFunctions;
  readonly pageSize: number;
}

let loaded: Loaded | undefined;
let failure: MapError | undefined;

/** The table as the adapters want it. */
function prototypes(): Record<string, Prototype> {
  const parametersOf = (names: readonly string[]) => names.map((name) => (name.startsWith("*") ? "bytes" : "f64"));
  return Object.fromEntries(Object.entries(symbols).map(([name, names]) => [name, { parameters: parametersOf(names), result: "f64" }]));
}

function attempt(adapter: Adapter, path: string): NativeFunctions {
  const functions = adapter.load(path, prototypes()) as unknown as NativeFunctions;
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
  const tried: [Candidate, error: unknown][] = [];
  const adapter = chooseAdapter();
  for (const candidate of candidates(adapter)) {
    try {
      const functions = attempt(adapter, candidate.file());
      // It loads where there is no port, to say so.
      if (functions.hf_guard_install() === codes.UNSUPPORTED) throw (failure = unsupportedError());
      loaded = { adapter, functions, pageSize: functions.hf_page_size() };
      return loaded;
    } catch (error) {
      if (failure !== undefined) throw failure;
      tried.push([candidate, error]);
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
