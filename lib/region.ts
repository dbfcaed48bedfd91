/**
 * Mapped memory and its lifetime. A region is counted: the object that mapped it holds it, and so does the ArrayBuffer over
 * it, if there is one. The pages are unmapped when the last holder is gone, so a view stays readable after `close()`.
 *
 * @module
 */
import { check } from "./errors.ts";
import { type Address, native, wrap } from "./native/native.ts";

/** The part of a region that its finalizers share; it must not reach the holders, or they would never be collected. */
interface Pages {
  readonly address: Address;
  readonly byteLength: number;
  holders: number;
}

function drop(pages: Pages): void {
  pages.holders--;
  if (pages.holders === 0) native().hf_unmap(pages.address, pages.byteLength);
}

// A safety net: runs some time after a collection, never at exit. Handles are meant to be closed.
const collected = new FinalizationRegistry<Pages>(drop);

/** How a region is mapped. */
export interface RegionOptions {
  /** -1 for anonymous memory. */
  readonly fd: number;
  /** Multiple of the page size. */
  readonly offset: number;
  readonly byteLength: number;
  /** `HF_MAP_…` */
  readonly flags: number;
  /** Whether the library may write to it. */
  readonly writable: boolean;
  /** What error messages call the thing that is mapped. */
  readonly what: string;
  readonly path?: string | undefined;
}

/** One mapping of the operating system. */
export class Region {
  /** First byte; 0 once released, which no function of the library accepts. */
  address: Address;
  /** Length in bytes; -1 once released, which no bounds check accepts. */
  byteLength: number;
  readonly writable: boolean;
  readonly what: string;
  readonly path: string | undefined;
  readonly #pages: Pages;
  #buffer: ArrayBuffer | undefined;

  constructor(options: RegionOptions) {
    const { fd, offset, byteLength, flags, writable, what, path } = options;
    this.address = check(native().hf_map(fd, offset, byteLength, flags), "mmap", path);
    this.byteLength = byteLength;
    this.writable = writable;
    this.what = what;
    this.path = path;
    this.#pages = { address: this.address, byteLength, holders: 1 };
    collected.register(this, this.#pages, this.#pages);
  }

  /** The ArrayBuffer over the region, made at the first call: its length counts as memory for the garbage collector. */
  get buffer(): ArrayBuffer {
    if (this.#buffer === undefined) {
      this.#buffer = wrap(this.address, this.byteLength);
      this.#pages.holders++;
      collected.register(this.#buffer, this.#pages);
    }
    return this.#buffer;
  }

  /** Lets go of the pages; they are unmapped now, or when the buffer is collected. */
  release(): void {
    if (this.address === 0) return;
    this.address = 0;
    this.byteLength = -1;
    this.#buffer = undefined;
    collected.unregister(this.#pages);
    drop(this.#pages);
  }
}
