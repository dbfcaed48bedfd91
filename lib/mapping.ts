/**
 * Memory-mapped files and anonymous memory.
 *
 * @module
 */
import * as fs from "node:fs";
import { type CellHost, Int64Atomics } from "./atomics.ts";
import { abortSignal, boolean, checkBytes, checkInteger, checkOptions, checkPath, checkRange, integer, oneOf } from "./checks.ts";
import { check, closedError, errno, fromFileSystem, invalidType, MapError, nativeError, outOfRange, rangeError, readOnlyError } from "./errors.ts";
import { Descriptor, discard, fileSystem, openRegular, reserve } from "./files.ts";
import { lineAt, linesOf, streamOf } from "./mapping/lines.ts";
import { openFile } from "./mapping/open.ts";
import {
  anonymousPlan,
  type FilePlan,
  filePlan,
  mapRefusal,
  type MappingOptions,
  type MemoryOptions,
  type MemoryPlan,
  planFlags,
  planGranularity,
} from "./mapping/options.ts";
import { doom } from "./auto_unlink.ts";
import { byteLengthOf, copyIn, copyOut } from "./native/copy.ts";
import { native, pageSize } from "./native/native.ts";
import { type Advice, advices, codes, mapFlags, type NativeFunctions } from "./native/symbols.ts";
import { type LockRange, takeLock, tryLock, unlock } from "./range_lock.ts";
import { Region } from "./region.ts";
import { lookNow } from "./waiting.ts";

export type { DebugListener, MappingOptions, MemoryOptions } from "./mapping/options.ts";
export type { Advice } from "./native/symbols.ts";

/**
 * A range of a mapping, in bytes; by default all of it.
 *
 * @example
 * ```ts
 * import { Mapping, type RangeOptions } from "holdfast";
 * using mapping = Mapping.anonymous(8192);
 * const range: RangeOptions = { offset: 4096, length: 4096 };
 * mapping.advise("willneed", range);
 * ```
 */
export interface RangeOptions {
  /** First byte; default 0. */
  offset?: number;
  /** Bytes; default to the end. */
  length?: number;
}

/**
 * Options of {@linkcode Mapping.flush}.
 *
 * @example
 * ```ts
 * import { type FlushOptions, Mapping } from "holdfast";
 * using mapping = Mapping.open("/tmp/example-flush.bin", { create: true, byteLength: 8192 });
 * const first: FlushOptions = { offset: 0, length: 4096 };
 * mapping.pwrite(0, "kept");
 * mapping.flush(first);
 * ```
 */
export interface FlushOptions extends RangeOptions {
  /** Start the write and do not wait: no durability. */
  async?: boolean;
}

/**
 * Options of {@linkcode Mapping.lock}.
 *
 * @example
 * ```ts
 * import { type LockOptions, Mapping } from "holdfast";
 * using mapping = Mapping.open("/tmp/example-lock.bin", { create: true, byteLength: 4096 });
 * const options: LockOptions = { offset: 0, length: 100, shared: true, signal: AbortSignal.timeout(1000) };
 * using lock = await mapping.lockAsync(options);
 * ```
 */
export interface LockOptions extends RangeOptions {
  /** Let other shared locks be; default false: exclusive. */
  shared?: boolean;
  /** Ends the wait with the signal's reason. A signal fires only between tasks, so it is of use with `lockAsync`. */
  signal?: AbortSignal;
}

/**
 * Options of {@linkcode Mapping.lines}.
 *
 * @example
 * ```ts
 * import { type LinesOptions, Mapping } from "holdfast";
 * using mapping = Mapping.open("/tmp/example-lines.txt", { create: true, truncate: true, byteLength: 12 });
 * mapping.pwrite(0, "one\ntwo\nsix\n");
 * const rest: LinesOptions = { start: 4 };
 * [...mapping.lines(rest)]; // ["two", "six"]
 * ```
 */
export interface LinesOptions {
  /** First byte; default 0. */
  start?: number;
  /** Byte behind the last; default the end of the mapping at the time. */
  end?: number;
}

/**
 * Options of {@linkcode Mapping.readable}.
 *
 * @example
 * ```ts
 * import { Mapping, type ReadableOptions } from "holdfast";
 * using mapping = Mapping.anonymous(100_000);
 * const options: ReadableOptions = { start: 10_000, end: 90_000, chunkSize: 40_000 };
 * let chunks = 0;
 * for await (const chunk of mapping.readable(options)) chunks += chunk.length / 40_000;
 * chunks; // 2
 * ```
 */
export interface ReadableOptions extends LinesOptions {
  /** Bytes of a chunk; default 65536. */
  chunkSize?: number;
}

/**
 * What `pwrite` takes.
 *
 * @example
 * ```ts
 * import { Mapping, type WriteData } from "holdfast";
 * using mapping = Mapping.anonymous(4096);
 * const data: WriteData = ["text, ", Uint8Array.of(33), "and more"];
 * mapping.pwrite(0, data); // 15
 * ```
 */
export type WriteData = Uint8Array | string | readonly (Uint8Array | string)[];

const RANGE_OPTIONS = { offset: integer(0), length: integer(0) };
const FLUSH_OPTIONS = { ...RANGE_OPTIONS, async: boolean };
const LOCK_OPTIONS = { ...RANGE_OPTIONS, shared: boolean, signal: abortSignal };
const LINES_OPTIONS = { start: integer(0), end: integer(0) };
const READABLE_OPTIONS = { ...LINES_OPTIONS, chunkSize: integer(1, 2 ** 30) };
const WHENCE = oneOf("start", "current", "end");

function fdatasync(fd: number): Promise<void> {
  return new Promise((resolve, reject) => fs.fdatasync(fd, (error) => (error === null ? resolve() : reject(error))));
}

/** Where the locks of `guard` lie: behind every byte of a file, so that they are apart from those of `lock()`. */
const GUARD_OFFSET: number = 2 ** 52;

/** What a mapping is made of; shared by its calls. */
interface Parts {
  readonly region: Region;
  readonly file: Descriptor;
  readonly plan: MemoryPlan & Partial<FilePlan>;
  readonly path: string | undefined;
  readonly existed: boolean;
}

/**
 * A file, or anonymous memory, mapped into this process. All processes that map the same file share its bytes.
 *
 * Bytes written are visible to other processes at once and survive the death of any process; only {@linkcode flush} makes
 * them survive a power cut (msync(2)). Reads and writes of more than 8 aligned bytes are not atomic, unless opened with `guard`.
 *
 * Offsets and lengths are bytes. Out of bounds is a `RangeError`. After {@linkcode close} every method throws `MapError`
 * `ERR_CLOSED`. If another process cuts the file short, touching what is gone marks the mapping broken: that call and every later one
 * throws `ERR_FAULT` until {@linkcode refresh}, though a write may have reached the pages that are still there; a view reads zeros.
 *
 * @example
 * ```ts
 * import { Mapping } from "holdfast";
 * using mapping = Mapping.open("/tmp/example.bin", { create: true, byteLength: 4096 });
 * mapping.pwrite(0, "hello");
 * new TextDecoder().decode(mapping.pread(0, 5)); // "hello"
 * mapping.flush();
 * ```
 *
 * @example
 * ```ts
 * import { Mapping } from "holdfast";
 * using mapping = Mapping.open("/tmp/example-cursor.txt", { create: true, truncate: true, byteLength: 12 });
 * console.log(mapping.path !== undefined, mapping.writable, mapping.byteLength); // true true 12
 * mapping.write("first\nlast\n"); // 11, and the position moves on
 * mapping.seek(0); // 0
 * mapping.readLine(); // "first"
 * mapping.position; // 6
 * mapping.read(4)?.length; // 4
 * const target = new Uint8Array(5);
 * mapping.preadInto(target, 0); // 5
 * [...mapping.lines({ end: 11 })]; // ["first", "last"]
 * for await (const chunk of mapping.readable({ chunkSize: 8 })) console.log(chunk.length);
 * ```
 *
 * @example
 * ```ts
 * import { Mapping } from "holdfast";
 * const mapping = Mapping.open("/tmp/example-views.bin", { create: true, truncate: true, byteLength: 4096 });
 * const view = mapping.view(0, 5); // no copy
 * mapping.pwrite(0, "hello");
 * view[0]; // 104
 * mapping.dataView(8).setFloat64(0, 0.5);
 * mapping.atomics.add(16, 1); // 0
 * mapping.resize(8192); // 8192
 * mapping.advise("random");
 * mapping.resident() % mapping.pageSize; // 0
 * await mapping.flushAsync(); // waits for storage; other tasks go on
 * {
 *   using lock = mapping.lock({ offset: 0, length: 8 }); // against lock() in any process
 * }
 * mapping.close(); // the view keeps its pages
 * view[4]; // 111
 * mapping.closed; // true
 * ```
 *
 * @example
 * ```ts
 * import { Mapping } from "holdfast";
 * const writer = Mapping.open("/tmp/example-refresh.bin", { create: true, truncate: true, byteLength: 100 });
 * using reader = Mapping.open("/tmp/example-refresh.bin", { mode: "r" });
 * reader.existed; // true
 * writer.resize(200);
 * reader.refresh(); // 200: what others did to the length
 * const view = writer.view();
 * writer.unsafeClose(); // the pages go now, and the view is empty
 * view.length; // 0
 * using waiter = Mapping.anonymous(4096);
 * using lock = await reader.lockAsync({ shared: true });
 * ```
 */
export class Mapping implements Disposable {
  /** The file's path as given; undefined for anonymous memory. */
  readonly path: string | undefined;
  /** Whether the file was there before `open`. */
  readonly existed: boolean;
  /** Whether writes are allowed: mode "rw". */
  readonly writable: boolean;
  #region: Region;
  readonly #file: Descriptor;
  readonly #plan: MemoryPlan & Partial<FilePlan>;
  readonly #hf: NativeFunctions;
  /** Whether each copy locks its range. */
  readonly #guards: boolean;
  readonly #unlink: (() => void) | undefined;
  readonly #host: { -readonly [Name in keyof CellHost]: CellHost[Name] };
  #atomics: Int64Atomics | undefined;
  /** Regions of before a resize or refresh that views still hold. */
  #former: Region[] = [];
  #position = 0;

  private constructor({ region, file, plan, path, existed }: Parts) {
    this.#region = region;
    this.#file = file;
    this.#plan = plan;
    this.#hf = native();
    this.path = path;
    this.existed = existed;
    this.writable = region.writable;
    this.#guards = plan.guard === true;
    this.#host = { address: region.address, byteLength: region.byteLength, writable: region.writable, what: "mapping", path, keeper: this };
    this.#unlink = path !== undefined && plan.autoUnlink === true ? doom(path, file.fd, this) : undefined;
  }

  /**
   * Maps a regular file, from `offset` to its end.
   *
   * Errors: `ENOENT`, `EACCES`, `EISDIR`, `ENOSPC` and whatever else the system says, as `MapError`; `EINVAL` for an empty
   * file without `byteLength`; `EOPNOTSUPP` with the option's name for one that the platform or file system does not have.
   */
  static open(path: string | URL, options?: MappingOptions): Mapping {
    const name = checkPath("path", path);
    const plan = filePlan(options);
    checkAddress(plan);
    const { fd, existed, byteLength } = openFile(name, plan);
    const file = new Descriptor(fd);
    try {
      return new Mapping({ region: mapFile(fd, byteLength, plan, name), file, plan, path: name, existed });
    } catch (error) {
      file.close();
      if (!existed) discard(name);
      throw error;
    }
  }

  /** Zeroed memory without a file, shared with nobody but this process's threads that are given it. */
  static anonymous(byteLength: number, options?: MemoryOptions): Mapping {
    const bytes = checkInteger("byteLength", byteLength, 1, Number.MAX_SAFE_INTEGER);
    const plan = anonymousPlan(options);
    checkAddress(plan);
    return new Mapping({ region: mapMemory(bytes, plan), file: new Descriptor(-1), plan, path: undefined, existed: false });
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
    this.#open();
    this.#atomics ??= new Int64Atomics(this.#host);
    return this.#atomics;
  }

  /** A copy of exactly `length` bytes from `offset`. */
  pread(offset: number, length: number): Uint8Array<ArrayBuffer> {
    checkRange(offset, length, this.#open().byteLength);
    let target: Uint8Array<ArrayBuffer>;
    try {
      target = new Uint8Array(length);
    } catch (error) {
      throw rangeError(`an array of ${length} bytes is more than this runtime can make (${error}); read in parts, or take a view`);
    }
    this.#copyOut(target, length, offset);
    return target;
  }

  /** Fills `target` from `offset`; returns its length. */
  preadInto(target: Uint8Array, offset: number): number {
    const region = this.#open();
    if (!(target instanceof Uint8Array)) throw invalidType("target", "a Uint8Array", target);
    const length = byteLengthOf(target);
    checkRange(offset, length, region.byteLength);
    this.#copyOut(target, length, offset);
    return length;
  }

  /**
   * Writes bytes, a string as UTF-8, or a list of both one behind the other, at `offset`; returns the bytes written. Nothing is
   * written unless all of it fits. `ERR_READ_ONLY` in mode "r".
   */
  pwrite(offset: number, data: WriteData): number {
    const region = this.#writableRegion();
    if (data instanceof Uint8Array && !this.#guards) {
      const length = byteLengthOf(data);
      checkRange(offset, length, region.byteLength);
      this.#copyIn(offset, data, length);
      return length;
    }
    return this.#writeParts(region, offset, data);
  }

  /** Where `read`, `readLine` and `write` go on: bytes from the start of the mapping. */
  get position(): number {
    this.#open();
    return this.#position;
  }

  /** Moves the position; returns the new one. `RangeError` outside of the mapping. */
  seek(offset: number, whence: "start" | "current" | "end" = "start"): number {
    const { byteLength } = this.#open();
    const base = { start: 0, current: this.#position, end: byteLength }[WHENCE("whence", whence)];
    checkInteger("offset", offset, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
    const position = base + offset;
    if (!(position >= 0 && position <= byteLength)) {
      throw outOfRange("offset", `such that the position lies within the ${byteLength} bytes of the mapping`, offset);
    }
    this.#position = position;
    return position;
  }

  /** Up to `length` bytes from the position, fewer at the end; undefined at the end. */
  read(length: number): Uint8Array<ArrayBuffer> | undefined {
    const { byteLength } = this.#open();
    checkInteger("length", length, 0, Number.MAX_SAFE_INTEGER);
    if (this.#position >= byteLength) return undefined;
    const bytes = this.pread(this.#position, Math.min(length, byteLength - this.#position));
    this.#position += bytes.byteLength;
    return bytes;
  }

  /**
   * The line at the position, as UTF-8, without its line end ("\n" or "\r\n"); undefined at the end. The last line need not end in one.
   */
  readLine(): string | undefined {
    this.#open();
    const line = lineAt(this, this.#position);
    if (line === undefined) return undefined;
    this.#position = line.next;
    return line.text;
  }

  /** As {@linkcode pwrite} at the position, which moves behind what was written. */
  write(data: WriteData): number {
    this.#open();
    const length = this.pwrite(this.#position, data);
    this.#position += length;
    return length;
  }

  /** The lines of the mapping, or of a part, as {@linkcode readLine} gives them. Each iteration starts anew; the position stays. */
  lines(options?: LinesOptions): Iterable<string> {
    const [start, end] = this.#span(checkOptions("lines()", options, LINES_OPTIONS));
    return { [Symbol.iterator]: () => linesOf(this, start, end) };
  }

  /** The bytes of the mapping, or of a part, as a stream of chunks; each is read when it is asked for. */
  readable(options?: ReadableOptions): ReadableStream<Uint8Array> {
    const given = checkOptions("readable()", options, READABLE_OPTIONS);
    const [start, end] = this.#span(given);
    return streamOf(this, start, end, given.chunkSize ?? 1 << 16);
  }

  /**
   * The mapping's own bytes as an array, without a copy: it sees later writes, by any process, and writing to it writes to the
   * file (in mode "r": to a private copy). It keeps the pages mapped for as long as it is reachable, also after `close()`. Where the
   * file was cut short by another process it reads zeros, and the next call says `ERR_FAULT`.
   *
   * `RangeError` for more bytes than an ArrayBuffer of the runtime can have (4 GiB in Bun). Do not transfer its buffer
   * (`postMessage`, `structuredClone`, `transfer()`): the pages stay mapped for the buffer that it was, not for the one that it becomes.
   */
  view(offset: number = 0, length?: number): Uint8Array<ArrayBuffer> {
    const bytes = this.#checkView(offset, length);
    const { buffer, byteOffset } = this.#region.buffer(offset, bytes);
    return new Uint8Array(buffer, byteOffset, bytes);
  }

  /**
   * As {@linkcode view}, as a DataView. 64-bit accesses through a DataView are not atomic in any of the runtimes: words that
   * several processes write belong to {@linkcode atomics}.
   */
  dataView(offset: number = 0, length?: number): DataView<ArrayBuffer> {
    const bytes = this.#checkView(offset, length);
    const { buffer, byteOffset } = this.#region.buffer(offset, bytes);
    return new DataView(buffer, byteOffset, bytes);
  }

  /**
   * Waits until storage has the bytes (msync(2), MS_SYNC), whole pages around the range. With `async` the write is only started:
   * that promises nothing. A failure means that bytes written before may be lost.
   */
  flush(options?: FlushOptions): void {
    const given = checkOptions("flush()", options, FLUSH_OPTIONS);
    const { address, length } = this.#pages(given);
    if (!this.writable || length === 0) return;
    this.#sound();
    check(this.#hf.hf_sync(address, length, given.async === true ? 0 : 1), "msync", this.path);
  }

  /**
   * As {@linkcode flush} of the whole file, without blocking the event loop (fdatasync(2)); under Node's permission model, which has no such
   * call, it blocks.
   */
  async flushAsync(): Promise<void> {
    this.#open();
    if (this.#file.fd < 0 || !this.writable || this.#plan.sharing === "private") return;
    this.#sound();
    const path = this.path as string;
    await this.#file.use(async (fd) => {
      try {
        await fdatasync(fd);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ERR_ACCESS_DENIED") throw fromFileSystem(error, path);
        check(this.#hf.hf_sync_file(fd, 1), "fdatasync", path);
      }
    });
  }

  /**
   * Tells the kernel how pages will be used (madvise(2)), whole pages around the range. No hint changes bytes: "dontneed" is refused on
   * private and anonymous memory, where it would zero them. `EOPNOTSUPP` where the platform has no such hint.
   */
  advise(hint: Advice, options?: RangeOptions): void {
    const advice = advices[oneOf(...(Object.keys(advices) as Advice[]))("hint", hint)];
    const { address, length } = this.#pages(checkOptions("advise()", options, RANGE_OPTIONS));
    if (hint === "dontneed" && (this.#file.fd < 0 || this.#plan.sharing === "private" || !this.writable)) {
      throw new MapError("EOPNOTSUPP", 'the hint "dontneed" would discard what private memory holds; use "pageout" or "cold"', { syscall: "madvise", path: this.path });
    }
    if (hint === "populate-write" && !this.writable) throw readOnlyError("mapping", this.path);
    if (length === 0) return;
    const result = this.#hf.hf_advise(address, length, advice);
    const lacking = result === codes.UNSUPPORTED || result === -errno.EINVAL;
    if (lacking) throw nativeError(-errno.EOPNOTSUPP, "madvise", this.path, `hint "${hint}"`);
    check(result, "madvise", this.path, `hint "${hint}"`);
  }

  /** Bytes of the mapping that are in memory, whole pages (mincore(2)). */
  resident(): number {
    const { address, length } = this.#pages({});
    return check(this.#hf.hf_resident(address, length), "mincore", this.path) * pageSize();
  }

  /**
   * Gives the file, or the anonymous memory, another length and maps it anew; returns the length. Without one it doubles below
   * `growthLimit` and grows by that much above. Storage for more is reserved first: `ENOSPC` leaves all as it was. Views made before stay
   * valid: of a file they go on to show its bytes as far as it has them, of anonymous memory they keep the bytes of that moment.
   *
   * Errors: `ERR_READ_ONLY`, `ERR_FIXED_SIZE`, `EOPNOTSUPP` for a file that is mapped privately.
   */
  resize(byteLength?: number): number {
    const region = this.#writableRegion();
    if (this.#plan.fixedSize) throw new MapError("ERR_FIXED_SIZE", `the mapping was opened with "fixedSize"${this.#where()}`, { path: this.path });
    const current = region.byteLength;
    const { growthLimit } = this.#plan;
    const next = current < growthLimit ? current * 2 : current + growthLimit;
    const wanted = byteLength === undefined ? next : byteLength;
    checkInteger("byteLength", wanted, 1, Number.MAX_SAFE_INTEGER - (this.#plan.offset ?? 0));
    if (wanted === current && !this.#stale(current)) return current;
    this.#trace("resize", { from: current, to: wanted });
    if (this.#file.fd < 0) this.#resizeMemory(region, wanted);
    else this.#resizeFile(wanted);
    return wanted;
  }

  /**
   * Takes in what other processes did to the file's length, and mends a broken mapping; returns the length. `ERR_FAULT` if nothing is
   * left to map: the mapping then stays as it is.
   */
  refresh(): number {
    const region = this.#open();
    if (this.#file.fd < 0) return region.byteLength;
    const size = fileSystem(this.path as string, () => fs.fstatSync(this.#file.fd)).size;
    const byteLength = size - (this.#plan.offset ?? 0);
    if (byteLength <= 0) throw new MapError("ERR_FAULT", `the file has ${size} bytes by now: nothing is left to map${this.#where()}`, { path: this.path });
    if (byteLength !== region.byteLength || region.broken) this.#replace(this.#mapAgain(byteLength));
    return byteLength;
  }

  /**
   * Locks a range of the file against other `lock()` calls, of any process or handle: advisory, released by `unlock` (dispose) or by the
   * kernel when the holder dies. Blocks the thread for up to ten seconds, then `ERR_LOCKED`; see {@linkcode lockAsync}.
   */
  lock(options?: LockOptions): Disposable {
    const [range, release, signal] = this.#lockRange(options);
    try {
      signal?.throwIfAborted();
      takeLock(range);
      return { [Symbol.dispose]: release };
    } catch (error) {
      release();
      throw error;
    }
  }

  /** As {@linkcode lock}, waiting without blocking the event loop, for as long as `signal` lets it. */
  async lockAsync(options?: LockOptions): Promise<Disposable> {
    const [range, release, signal] = this.#lockRange(options);
    try {
      for (let pause = 1; ; pause = Math.min(50, pause * 2)) {
        signal?.throwIfAborted();
        this.#open();
        if (tryLock(range)) return { [Symbol.dispose]: release };
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Ends the use of the mapping; the pages are unmapped once no view of them is reachable. Closing again does nothing. */
  close(): void {
    this.#end(() => this.#region.release());
  }

  /**
   * Closes and unmaps the file's pages at once: every view is detached, that is, empty. A view whose buffer was transferred, or that is
   * in use by an asynchronous operation of the runtime, reads zeros from then on. What such an operation makes of an input that goes away
   * is the runtime's: Node's `zlib` throws an exception that nobody can catch but `process.on("uncaughtException")`.
   */
  unsafeClose(): void {
    this.#end(() => {
      for (const region of this.#former) region.unmap();
      this.#region.unmap();
    });
  }

  /** {@linkcode close}, at the end of a block with `using`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #end(unmap: () => void): void {
    if (this.closed) return;
    this.#trace("close", {});
    unmap();
    this.#host.byteLength = -1;
    this.#file.close();
    lookNow(); // who waits for a cell here hears of it at once
    this.#unlink?.(); // last: it may be refused, and the mapping is closed all the same
  }

  #open(): Region {
    if (this.#region.byteLength < 0) throw closedError("mapping", this.path);
    return this.#region;
  }

  #writableRegion(): Region {
    const region = this.#open();
    if (!this.writable) throw readOnlyError("mapping", this.path);
    return region;
  }

  /** Throws if the mapping is broken. Copies and atomics see to that by themselves. */
  #sound(): void {
    if (this.#region.broken) throw nativeError(codes.FAULT, "mapping", this.path, "refresh() takes in the file as it is now");
  }

  #where(): string {
    return this.path === undefined ? "" : ` '${this.path}'`;
  }

  #trace(step: string, details: Readonly<Record<string, unknown>>): void {
    this.#plan.debug?.(step, { path: this.path, ...details });
  }

  #checkView(offset: number, length: number | undefined): number {
    const { byteLength } = this.#open();
    checkInteger("offset", offset, 0, Number.MAX_SAFE_INTEGER);
    const bytes = length === undefined ? Math.max(0, byteLength - offset) : length;
    checkRange(offset, bytes, byteLength);
    this.#sound();
    return bytes;
  }

  /** The pages around a range. */
  #pages({ offset = 0, length }: RangeOptions): { address: number; length: number } {
    const region = this.#open();
    const bytes = length ?? Math.max(0, region.byteLength - offset);
    checkRange(offset, bytes, region.byteLength);
    const address = region.pageAddress(offset);
    return { address, length: bytes === 0 ? 0 : region.address + offset + bytes - address };
  }

  #span({ start = 0, end }: LinesOptions): [start: number, end: number] {
    const { byteLength } = this.#open();
    const last = end ?? byteLength;
    if (last > byteLength) throw outOfRange("end", `an integer <= ${byteLength}, the bytes of the mapping`, last);
    if (start > last) throw outOfRange("start", `an integer <= ${last}`, start);
    return [start, last];
  }

  /** What {@linkcode pwrite} does with all but the usual; apart, since a closure in it would be made at every call. */
  #writeParts(region: Region, offset: number, data: WriteData): number {
    const parts = Array.isArray(data) ? data.map((part, i) => checkBytes(`data[${i}]`, part)) : [checkBytes("data", data)];
    const sizes = parts.map(byteLengthOf);
    const length = sizes.reduce((sum, size) => sum + size, 0);
    checkRange(offset, length, region.byteLength);
    this.#guarded(offset, length, false, () => {
      let at = offset;
      parts.forEach((part, i) => {
        this.#copyIn(at, part, sizes[i] as number);
        at += sizes[i] as number;
      });
    });
    return length;
  }

  #copyOut(target: Uint8Array, length: number, offset: number): void {
    if (this.#guards) this.#guarded(offset, length, true, () => this.#copyOutBare(target, length, offset));
    else this.#copyOutBare(target, length, offset);
  }

  #copyOutBare(target: Uint8Array, length: number, offset: number): void {
    this.#fault(copyOut(this.#region.address + offset, target, length), "pread");
  }

  #copyIn(offset: number, data: Uint8Array, length: number): void {
    this.#fault(copyIn(this.#region.address + offset, data, length), "pwrite");
  }

  #fault(result: number, call: string): void {
    if (result < 0) throw nativeError(result, call, this.path, "refresh() takes in the file as it is now");
  }

  /** Runs `copy` with the range locked, if the mapping was opened with `guard`. */
  #guarded(offset: number, length: number, shared: boolean, copy: () => void): void {
    // Writes to private pages are seen by nobody else.
    if (!this.#guards || length === 0 || (!shared && this.#plan.sharing === "private")) {
      copy();
      return;
    }
    const start = GUARD_OFFSET + (this.#plan.offset ?? 0) + offset;
    const range = { fd: this.#file.fd, offset: start, length, shared, path: this.path };
    takeLock(range);
    try {
      copy();
    } finally {
      unlock(range);
    }
  }

  /**
   * A range to lock, with a descriptor of its own: so locks of one handle stand against each other too, and releasing one leaves
   * those that overlap it.
   */
  #lockRange(options: LockOptions | undefined): [range: LockRange, release: () => void, signal: AbortSignal | undefined] {
    const { offset = 0, length, shared = false, signal } = checkOptions("lock()", options, LOCK_OPTIONS);
    const region = this.#open();
    const bytes = length ?? Math.max(0, region.byteLength - offset);
    checkRange(offset, bytes, region.byteLength);
    if (bytes === 0) throw outOfRange("length", "an integer >= 1", bytes);
    if (this.path === undefined) throw nativeError(codes.UNSUPPORTED, "fcntl", undefined, "anonymous memory has no file to lock");
    if (!shared && !this.writable) throw readOnlyError("mapping", this.path);
    const { fd } = openRegular(this.path, shared ? "r" : "rw");
    const [own, other] = [fs.fstatSync(this.#file.fd), fs.fstatSync(fd)];
    if (own.ino !== other.ino || own.dev !== other.dev) {
      fs.closeSync(fd);
      throw new MapError("ESTALE", `'${this.path}' is another file by now; open it again to lock it`, { syscall: "open", path: this.path });
    }
    const descriptor = new Descriptor(fd);
    return [{ fd, offset: (this.#plan.offset ?? 0) + offset, length: bytes, shared, path: this.path }, () => descriptor.close(), signal];
  }

  #mapAgain(byteLength: number): Region {
    // At the same address there is the old region, which views may hold.
    return mapFile(this.#file.fd, byteLength, { ...(this.#plan as FilePlan), address: 0, fixed: false }, this.path as string);
  }

  #resizeFile(wanted: number): void {
    const path = this.path as string;
    const { fd } = this.#file;
    if (this.#plan.sharing === "private") {
      throw nativeError(-errno.EOPNOTSUPP, "ftruncate", path, "a private mapping does not change its file");
    }
    const size = fileSystem(path, () => fs.fstatSync(fd)).size;
    const end = (this.#plan.offset ?? 0) + wanted;
    if (wanted >= this.#region.byteLength) {
      if (end > size) reserve(fd, end, path);
      this.#replace(this.#mapAgain(wanted));
      return;
    }
    // Mapped before it is cut: a failure leaves all as it was.
    const region = this.#mapAgain(wanted);
    try {
      fileSystem(path, () => fs.ftruncateSync(fd, end));
    } catch (error) {
      region.release();
      throw error;
    }
    this.#replace(region);
  }

  /** Whether the file is shorter by now than what is mapped of it. */
  #stale(byteLength: number): boolean {
    if (this.#file.fd < 0) return false;
    const size = fileSystem(this.path as string, () => fs.fstatSync(this.#file.fd)).size;
    return this.#region.broken || size < (this.#plan.offset ?? 0) + byteLength;
  }

  #resizeMemory(old: Region, wanted: number): void {
    const region = mapMemory(wanted, { ...this.#plan, address: 0, fixed: false });
    const result = this.#hf.hf_copy(region.address, old.address, Math.min(old.byteLength, wanted));
    if (result < 0) {
      region.release();
      throw nativeError(result, "resize");
    }
    this.#replace(region);
  }

  #replace(region: Region): void {
    const old = this.#region;
    this.#region = region;
    this.#host.address = region.address;
    this.#host.byteLength = region.byteLength;
    this.#position = Math.min(this.#position, region.byteLength);
    old.release();
    this.#former = [...this.#former, old].filter((former) => former.inUse);
  }
}

function checkAddress({ address }: MemoryPlan): void {
  if (address % pageSize() !== 0) throw outOfRange("address", `a multiple of the page size, ${pageSize()}`, address);
}

/**
 * Reads in the pages of private memory, if the plan says so. MAP_POPULATE would write to them, that is, copy them all; with
 * `nonBlocking` it does nothing (mmap(2)).
 */
function populated(region: Region, plan: MemoryPlan, flags: number): Region {
  if (!plan.populate || plan.nonBlocking || (flags & mapFlags.PRIVATE) === 0 || (flags & mapFlags.ANONYMOUS) !== 0) return region;
  const start = region.pageAddress(0);
  const result = native().hf_advise(start, region.address + region.byteLength - start, advices["populate-read"]);
  if (result === 0) return region;
  region.release();
  throw nativeError(result === -errno.EINVAL ? -errno.EOPNOTSUPP : result, "madvise", region.path, 'with option "populate" of private pages');
}

/** Keeps the pages in memory if the plan says so. */
function locked(region: Region, plan: MemoryPlan): Region {
  if (!plan.lockPages) return region;
  const result = native().hf_lock_pages(region.pageAddress(0), region.byteLength, 1);
  if (result === 0) return region;
  region.release();
  throw nativeError(result, "mlock", region.path, 'with option "lockPages": see ulimit -l');
}

function mapFile(fd: number, byteLength: number, plan: FilePlan, path: string): Region {
  const { offset, mode, address } = plan;
  // Mode "r" maps private pages: a view that is written to changes this process's copy instead of ending it by a signal.
  const flags = planFlags(mode === "r" ? { ...plan, sharing: "private" } : plan);
  const region = new Region({
    fd,
    offset,
    byteLength,
    flags: flags | mapFlags.WRITE | (mode === "r" ? mapFlags.NORESERVE : 0),
    address,
    granularity: planGranularity(plan),
    writable: mode === "rw",
    what: "mapping",
    path,
    refusal: mapRefusal(plan, path),
  });
  plan.debug?.("map", { path, offset, byteLength, address: region.address });
  return locked(populated(region, plan, flags), plan);
}

function mapMemory(byteLength: number, plan: MemoryPlan): Region {
  const region = new Region({
    fd: -1,
    offset: 0,
    byteLength,
    flags: planFlags(plan) | mapFlags.ANONYMOUS | mapFlags.WRITE,
    address: plan.address,
    granularity: planGranularity(plan),
    writable: true,
    what: "mapping",
    refusal: mapRefusal(plan, undefined),
  });
  plan.debug?.("map", { byteLength, address: region.address });
  return locked(region, plan);
}
