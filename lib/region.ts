/**
 * Mapped memory and its lifetime. A region is counted: the object that mapped it holds it, and so does each ArrayBuffer over
 * it. The pages are unmapped when the last holder is gone, so a view stays readable after `close()`.
 *
 * @module
 */
import { nativeError, rangeError } from "./errors.ts";
import { type Address, native, pageSize, wrap } from "./native/native.ts";

/** The part of a region that its finalizers share; it must not reach the holders, or they would never be collected. */
interface Pages {
  readonly address: Address;
  readonly byteLength: number;
  holders: number;
  /** Unmapped, or never to be. */
  gone: boolean;
}

function drop(pages: Pages): void {
  pages.holders--;
  if (pages.holders > 0 || pages.gone) return;
  pages.gone = true;
  native().hf_unmap(pages.address, pages.byteLength);
}

// A safety net: runs some time after a collection, never at exit. Handles are meant to be closed.
const collected = new FinalizationRegistry<Pages>(drop);

/** How a region is mapped. */
export interface RegionOptions {
  /** -1 for anonymous memory. */
  readonly fd: number;
  /** Any byte of the file. */
  readonly offset: number;
  readonly byteLength: number;
  /** `HF_MAP_…` */
  readonly flags: number;
  /** Where to map; 0 or missing = anywhere. */
  readonly address?: number | undefined;
  /** The mapping's length is a multiple of this; default: of a byte. */
  readonly granularity?: number | undefined;
  /** Whether the library may write to it. */
  readonly writable: boolean;
  /** What error messages call the thing that is mapped. */
  readonly what: string;
  readonly path?: string | undefined;
  /** Makes the error of a failed mmap(2); default {@linkcode nativeError}. */
  readonly refusal?: (result: number) => Error;
}

/** Up to here one ArrayBuffer over all of a region serves every view. */
const WHOLE_BYTES: number = 64 << 20;

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
  #whole: ArrayBuffer | undefined;
  /** The buffers that were handed out, as long as they are in use. */
  readonly #buffers = new Set<WeakRef<ArrayBuffer>>();

  constructor(options: RegionOptions) {
    const { fd, offset, byteLength, flags, address = 0, granularity = 1, writable, what, path, refusal } = options;
    const lead = offset % pageSize();
    const mapped = Math.ceil((byteLength + lead) / granularity) * granularity;
    const result = native().hf_map(fd, offset - lead, mapped, flags, address);
    if (result < 0) throw refusal === undefined ? nativeError(result, "mmap", path) : refusal(result);
    this.address = result + lead;
    this.byteLength = byteLength;
    this.writable = writable;
    this.what = what;
    this.path = path;
    this.#pages = { address: result, byteLength: mapped, holders: 1, gone: false };
    collected.register(this, this.#pages, this.#pages);
  }

  /** Whether a page was gone when it was touched: the file was cut short. */
  get broken(): boolean {
    return native().hf_region_broken(this.#pages.address) !== 0;
  }

  /** First byte of the page that `offset` lies in. */
  pageAddress(offset: number): Address {
    const address = this.address + offset;
    return address - (address % pageSize());
  }

  /**
   * An ArrayBuffer that has `length` bytes of the region from `offset` on, and where they start in it. A small region has one buffer
   * for all views; of a large one only the pages that are asked for are wrapped, since the length of a buffer counts as memory for
   * the garbage collector, and Bun's end at 4 GiB.
   */
  buffer(offset: number, length: number): { buffer: ArrayBuffer; byteOffset: number } {
    if (this.byteLength <= WHOLE_BYTES) {
      // A buffer that a program transferred to another thread is lost for new views.
      if (this.#whole === undefined || this.#whole.detached) this.#whole = this.#wrap(this.address, this.byteLength);
      return { buffer: this.#whole, byteOffset: offset };
    }
    if (length === 0) return { buffer: new ArrayBuffer(0), byteOffset: 0 };
    const start = this.pageAddress(offset);
    const byteOffset = this.address + offset - start;
    return { buffer: this.#wrap(start, byteOffset + length), byteOffset };
  }

  /** Lets go of the pages; they are unmapped now, or when the last buffer is collected. */
  release(): void {
    if (this.address === 0) return;
    this.address = 0;
    this.byteLength = -1;
    this.#whole = undefined;
    collected.unregister(this.#pages);
    drop(this.#pages);
  }

  /**
   * Detaches every buffer and lets go of the file's pages now. Where there is a buffer, zeros take their place until it is collected: an
   * operation of the runtime may still be reading, which a detached buffer does not tell (Node), or which keeps it attached (Bun).
   */
  unmap(): void {
    const pages = this.#pages;
    const buffers = this.#living();
    // One that is detached before was transferred: a buffer that we do not know is over the pages now, so they stay for ever.
    const known = buffers.every((buffer) => !buffer.detached && (buffer.transfer(0), buffer.detached));
    if (buffers.length > 0 && !pages.gone) native().hf_replace(pages.address, pages.byteLength);
    if (!known) pages.gone = true;
    this.release();
  }

  /** Whether a buffer over the region is in use, released or not. */
  get inUse(): boolean {
    return this.#living().length > 0;
  }

  /** The buffers that are reachable. They keep the pages mapped: while there is one, the address is ours. */
  #living(): ArrayBuffer[] {
    return [...this.#buffers].map((reference) => reference.deref()).filter((buffer) => buffer !== undefined);
  }

  #wrap(address: Address, byteLength: number): ArrayBuffer {
    let buffer: ArrayBuffer;
    try {
      buffer = wrap(address, byteLength);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw rangeError(`a view of ${byteLength} bytes is longer than an ArrayBuffer of this runtime can be; take smaller ones`);
    }
    this.#pages.holders++;
    collected.register(buffer, this.#pages);
    for (const reference of this.#buffers) if (reference.deref() === undefined) this.#buffers.delete(reference);
    this.#buffers.add(new WeakRef(buffer));
    return buffer;
  }
}
