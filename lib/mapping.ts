/**
 * Memory-mapped files and anonymous memory.
 *
 * @module
 */
import * as fs from "node:fs";
import { Int64Atomics } from "./atomics.ts";
import { boolean, checkBytes, checkInteger, checkOptions, checkPath, checkRange, integer, oneOf } from "./checks.ts";
import { check, closedError, errno, invalidType, nativeError, rangeError, readOnlyError, systemError, typeError } from "./errors.ts";
import { Descriptor, fileSystem, openRegular, reserve } from "./files.ts";
import { native, pageSize } from "./native/native.ts";
import { mapFlags, type NativeFunctions } from "./native/symbols.ts";
import { Region } from "./region.ts";

/** Options of {@linkcode Mapping.open}. */
export interface MappingOptions {
  /** "rw" (the default) maps for reading and writing, "r" for reading only. */
  mode?: "r" | "rw";
  /** Create the file if it is missing. Default false: a missing file is `ENOENT`. */
  create?: boolean;
  /** With `create`: an existing file is `EEXIST`. */
  exclusive?: boolean;
  /** Discard the content that is there. */
  truncate?: boolean;
  /**
   * Bytes of a new file; a smaller one grows to it, with zeros and with its storage reserved (`ENOSPC` otherwise, the file then
   * as it was). A larger file stays as it is.
   */
  byteLength?: number;
  /** Access bits of a new file, before the umask. Default 0o600: the owner only. */
  permissions?: number;
}

/** Options of {@linkcode Mapping.flush}. */
export interface FlushOptions {
  /** First byte; default 0. */
  offset?: number;
  /** Bytes; default to the end. */
  length?: number;
  /** Start the write and do not wait: no durability. */
  async?: boolean;
}

const OPEN_OPTIONS = {
  mode: oneOf("r", "rw"),
  create: boolean,
  exclusive: boolean,
  truncate: boolean,
  byteLength: integer(1),
  permissions: integer(0, 0o7777),
};

const FLUSH_OPTIONS = { offset: integer(0), length: integer(0), async: boolean };

/** What `pwrite` takes. */
export type WriteData = Uint8Array | string | readonly (Uint8Array | string)[];

interface Opened {
  readonly fd: number;
  readonly existed: boolean;
  readonly byteLength: number;
}

interface OpenPlan {
  readonly mode: "r" | "rw";
  readonly create: boolean;
  readonly exclusive: boolean;
  readonly truncate: boolean;
  readonly byteLength: number | undefined;
  readonly permissions: number;
}

const CREATE = fs.constants.O_CREAT | fs.constants.O_EXCL;

/** Opens the file, creating it if asked to. Never waits for a lost race longer than the race goes on. */
function openOrCreate(path: string, plan: OpenPlan): Opened & { created: boolean } {
  const { mode, create, exclusive, permissions } = plan;
  for (let attempt = 0; ; attempt++) {
    if (!exclusive) {
      try {
        return { ...openRegular(path, mode), existed: true, created: false };
      } catch (error) {
        if (!create || (error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      }
    }
    try {
      return { ...openRegular(path, mode, CREATE, permissions), existed: false, created: true };
    } catch (error) {
      // Created by another process between the two: open that file. A dangling symbolic link says the same forever.
      if (exclusive || (error as NodeJS.ErrnoException).code !== "EEXIST" || attempt === 3) throw error;
    }
  }
}

function prepare(path: string, plan: OpenPlan): Opened {
  const opened = openOrCreate(path, plan);
  const { fd, existed, created } = opened;
  try {
    let size = opened.byteLength;
    if (plan.truncate && size > 0) {
      fileSystem(path, () => fs.ftruncateSync(fd, 0));
      size = 0;
    }
    const wanted = plan.byteLength ?? 0;
    if (wanted > size) {
      if (plan.mode === "r") throw rangeError(`"byteLength" ${wanted} is more than the ${size} bytes of '${path}', and mode "r" cannot grow it`);
      reserve(fd, size, wanted, path);
      size = wanted;
    }
    if (size === 0) {
      throw systemError(-errno.EINVAL, "mmap", path, 'an empty file cannot be mapped; pass "byteLength" to give it a size');
    }
    return { fd, existed, byteLength: size };
  } catch (error) {
    fs.closeSync(fd);
    if (created) fs.rmSync(path, { force: true });
    throw error;
  }
}

/**
 * A file, or anonymous memory, mapped into this process. All processes that map the same file share its bytes.
 *
 * Bytes written are visible to other processes at once and survive the death of any process; only {@linkcode flush} makes
 * them survive a power cut (msync(2)). Reads and writes of more than 8 aligned bytes are not atomic.
 *
 * Offsets and lengths are bytes. Out of bounds is a `RangeError`. After {@linkcode close} every method throws `MapError`
 * `ERR_CLOSED`. A file that another process cuts short gives `ERR_FAULT` from `pread`, `preadInto` and `pwrite`.
 *
 * @example
 * ```ts
 * import { Mapping } from "holdfast";
 * using mapping = Mapping.open("/tmp/example.bin", { create: true, byteLength: 4096 });
 * mapping.pwrite(0, "hello");
 * new TextDecoder().decode(mapping.pread(0, 5)); // "hello"
 * mapping.flush();
 * ```
 */
export class Mapping implements Disposable {
  /** The file's path as given; undefined for anonymous memory. */
  readonly path: string | undefined;
  /** Whether the file was there before `open`. */
  readonly existed: boolean;
  /** Whether writes are allowed: mode "rw". */
  readonly writable: boolean;
  readonly #region: Region;
  readonly #file: Descriptor;
  readonly #hf: NativeFunctions;
  #atomics: Int64Atomics | undefined;

  private constructor(region: Region, fd: number, existed: boolean) {
    this.#region = region;
    this.#file = new Descriptor(fd);
    this.#hf = native();
    this.path = region.path;
    this.existed = existed;
    this.writable = region.writable;
  }

  /**
   * Maps the whole of a regular file.
   *
   * Errors: `ENOENT`, `EACCES`, `EISDIR`, `ENOSPC` and whatever else the system says, as `MapError`; `EINVAL` for an empty
   * file without `byteLength`.
   */
  static open(path: string | URL, options?: MappingOptions): Mapping {
    const file = checkPath("path", path);
    const given = checkOptions("Mapping.open()", options, OPEN_OPTIONS);
    const { mode = "rw", create = false, exclusive = false, truncate = false, byteLength, permissions = 0o600 } = given;
    if (mode === "r" && (create || truncate)) throw typeError('"create" and "truncate" need mode "rw"');
    if (exclusive && !create) throw typeError('"exclusive" needs "create"');
    native();
    const opened = prepare(file, { mode, create, exclusive, truncate, byteLength, permissions });
    try {
      // Mode "r" maps private pages: a view that is written to changes this process's copy instead of ending it by a signal.
      const flags = mode === "r" ? mapFlags.WRITE | mapFlags.PRIVATE : mapFlags.WRITE;
      const { fd, existed, byteLength: bytes } = opened;
      const writable = mode === "rw";
      return new Mapping(new Region({ fd, offset: 0, byteLength: bytes, flags, writable, what: "mapping", path: file }), fd, existed);
    } catch (error) {
      fs.closeSync(opened.fd);
      throw error;
    }
  }

  /** Zeroed memory without a file, shared with nobody but this process's threads that are given it. */
  static anonymous(byteLength: number): Mapping {
    const bytes = checkInteger("byteLength", byteLength, 1, Number.MAX_SAFE_INTEGER);
    const flags = mapFlags.ANONYMOUS | mapFlags.WRITE;
    return new Mapping(new Region({ fd: -1, offset: 0, byteLength: bytes, flags, writable: true, what: "mapping" }), -1, false);
  }

  /** Bytes mapped. */
  get byteLength(): number {
    return this.#open().byteLength;
  }

  /** Whether `close()` was called. */
  get closed(): boolean {
    return this.#region.byteLength < 0;
  }

  /** Bytes of a page of this machine. */
  get pageSize(): number {
    this.#open();
    return pageSize();
  }

  /** Atomic 64-bit operations on the mapping's bytes. */
  get atomics(): Int64Atomics {
    const region = this.#open();
    this.#atomics ??= new Int64Atomics(region);
    return this.#atomics;
  }

  /** A copy of exactly `length` bytes from `offset`. */
  pread(offset: number, length: number): Uint8Array<ArrayBuffer> {
    const region = this.#open();
    checkRange(offset, length, region.byteLength);
    const target = new Uint8Array(new ArrayBuffer(length));
    this.#copyOut(target, region.address + offset);
    return target;
  }

  /** Fills `target` from `offset`; returns its length. */
  preadInto(target: Uint8Array, offset: number): number {
    const region = this.#open();
    if (!(target instanceof Uint8Array)) throw invalidType("target", "a Uint8Array", target);
    checkRange(offset, target.byteLength, region.byteLength);
    this.#copyOut(target, region.address + offset);
    return target.byteLength;
  }

  /**
   * Writes bytes, a string as UTF-8, or a list of both one behind the other, at `offset`; returns the bytes written. Nothing is
   * written unless all of it fits. `ERR_READ_ONLY` in mode "r".
   */
  pwrite(offset: number, data: WriteData): number {
    const region = this.#open();
    if (!this.writable) throw readOnlyError("mapping", this.path);
    const parts = Array.isArray(data) ? data.map((part, i) => checkBytes(`data[${i}]`, part)) : [checkBytes("data", data)];
    const length = parts.reduce((sum, part) => sum + part.byteLength, 0);
    checkRange(offset, length, region.byteLength);
    let address = region.address + offset;
    for (const part of parts) {
      if (part.byteLength === 0) continue; // an empty array has no address
      this.#fault(this.#hf.hf_copy_in(address, part, 0, part.byteLength), "pwrite");
      address += part.byteLength;
    }
    return length;
  }

  /**
   * The mapping's own bytes as an array, without a copy: it sees later writes, by any process, and writing to it writes to the
   * file (in mode "r": to a private copy). It keeps the pages mapped for as long as it is reachable, also after `close()`.
   */
  view(offset: number = 0, length?: number): Uint8Array<ArrayBuffer> {
    const [region, bytes] = this.#range(offset, length);
    return new Uint8Array(region.buffer, offset, bytes);
  }

  /**
   * As {@linkcode view}, as a DataView. 64-bit accesses through a DataView are not atomic in any of the runtimes: words that
   * several processes write belong to {@linkcode atomics}.
   */
  dataView(offset: number = 0, length?: number): DataView<ArrayBuffer> {
    const [region, bytes] = this.#range(offset, length);
    return new DataView(region.buffer, offset, bytes);
  }

  /**
   * Waits until storage has the bytes (msync(2), MS_SYNC), whole pages around the range. With `async` the write is only started:
   * that promises nothing. A failure means that bytes written before may be lost.
   */
  flush(options?: FlushOptions): void {
    const region = this.#open();
    const { offset = 0, length = region.byteLength - offset, async = false } = checkOptions("flush()", options, FLUSH_OPTIONS);
    checkRange(offset, length, region.byteLength);
    const start = offset - (offset % pageSize());
    const bytes = length + (offset - start);
    if (this.writable && bytes > 0) check(this.#hf.hf_sync(region.address + start, bytes, async ? 0 : 1), "msync", this.path);
  }

  /** As {@linkcode flush} of the whole mapping, without blocking the event loop (fdatasync(2)). */
  async flushAsync(): Promise<void> {
    this.#open();
    if (this.#file.fd < 0 || !this.writable) return;
    await new Promise<void>((resolve, reject) => {
      fs.fdatasync(this.#file.fd, (error) => (error === null ? resolve() : reject(systemError(error.errno ?? -errno.EIO, "fdatasync", this.path))));
    });
  }

  /** Ends the use of the mapping; the pages are unmapped once no view of them is reachable. Closing again does nothing. */
  close(): void {
    if (this.closed) return;
    this.#region.release();
    this.#file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #open(): Region {
    if (this.#region.byteLength < 0) throw closedError("mapping", this.path);
    return this.#region;
  }

  #range(offset: number, length: number | undefined): [region: Region, length: number] {
    const region = this.#open();
    checkInteger("offset", offset, 0, Number.MAX_SAFE_INTEGER);
    const bytes = length === undefined ? Math.max(0, region.byteLength - offset) : length;
    checkRange(offset, bytes, region.byteLength);
    return [region, bytes];
  }

  #copyOut(target: Uint8Array, address: number): void {
    if (target.byteLength === 0) return; // an empty array has no address
    this.#fault(this.#hf.hf_copy_out(target, 0, address, target.byteLength), "pread");
  }

  #fault(result: number, call: string): void {
    if (result < 0) throw nativeError(result, call, this.path);
  }
}
