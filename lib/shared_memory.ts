/**
 * Shared memory objects: bytes in memory under a name, which any process opens.
 *
 * Size, capacity and extent are words of the object and read from it by each operation; no handle keeps a copy that could be stale. The
 * extent only grows, so that nobody's mapping ever lies behind the end because of this library; a smaller capacity gives the memory back and
 * leaves the length. The end mark in the last bytes of the extent tells of a file that somebody else cut short, also within its last page.
 *
 * @module
 */
import * as fs from "node:fs";
import { boolean, checkBytes, checkInteger, checkOptions, integer, oneOf, type OptionCheck } from "./checks.ts";
import { check, closedError, errno, invalidType, MapError, nativeError, rangeError, readOnlyError } from "./errors.ts";
import { Descriptor, fileSystem, reserve, writeFully } from "./files.ts";
import {
  CAPACITY,
  CONTENT,
  EXTENT,
  extentFor,
  isExtent,
  LIFETIME,
  lifetimes,
  locks,
  MARK_BYTES,
  MAX_CAPACITY,
  roomIn,
  SIZE,
} from "./layout/shared_memory.ts";
import { byteLengthOf, copyIn, copyOut, newBytes } from "./native/copy.ts";
import { type Address, native, pageSize } from "./native/native.ts";
import { codes, mapFlags, type NativeFunctions } from "./native/symbols.ts";
import { takeLock, unlock } from "./range_lock.ts";
import { Region } from "./region.ts";
import {
  checkName,
  Claim,
  createObject,
  listObjects,
  type NewObject,
  type ObjectPlan,
  openFile,
  pathOf,
  readState,
  reapObjects,
  type SharedMemoryEntry,
  unlinkObject,
  unlinkOpen,
} from "./shared_memory/objects.ts";

export type { SharedMemoryEntry } from "./shared_memory/objects.ts";

/**
 * Options of {@linkcode SharedMemory.create} and {@linkcode SharedMemory.from}.
 *
 * @example
 * ```ts
 * import { SharedMemory, type SharedMemoryOptions } from "holdfast";
 * const options: SharedMemoryOptions = { capacity: 1 << 16, permissions: 0o600 };
 * using shared = SharedMemory.create(options);
 * shared.capacity; // 65536
 * ```
 */
export interface SharedMemoryOptions {
  /** 1 to 31 bytes of UTF-8 without "/"; "/name" is the same as "name". Default: a random name that nobody has. */
  name?: string;
  /** Bytes that the content may have without growth. Default 4096, for `from` as many as the data has. */
  capacity?: number;
  /** Access bits, before the umask. Default 0o600. */
  permissions?: number;
  /** Whether the handle owns the object, which is removed with it. Default true; false makes an object that stays until `unlink()`. */
  unlinkOnClose?: boolean;
}

/**
 * Options of {@linkcode SharedMemory.open}.
 *
 * @example
 * ```ts
 * import { SharedMemory, type SharedMemoryOpenOptions } from "holdfast";
 * using shared = SharedMemory.from("hello");
 * const options: SharedMemoryOpenOptions = { mode: "r" };
 * using reader = SharedMemory.open(shared.name, options);
 * reader.size; // 5
 * ```
 */
export interface SharedMemoryOpenOptions {
  /** "rw" (the default) or "r". */
  mode?: "r" | "rw";
}

/** What Shmex takes, too. */
const DEFAULT_CAPACITY = 4096;
/** How much is moved at once. */
const CHUNK_BYTES = 1 << 20;

const CREATE_OPTIONS = {
  name: checkName as OptionCheck<string>,
  capacity: integer(0, MAX_CAPACITY),
  permissions: integer(0, 0o7777),
  unlinkOnClose: boolean,
};
const OPEN_OPTIONS = { mode: oneOf("r", "rw") };

const WHAT = "shared memory";

// A safety net for owners that are dropped without close(): the object goes then, too. At exit objects.ts sees to it.
const collected = new FinalizationRegistry<Claim>((claim) => claim.releaseQuietly());

/**
 * Bytes in memory under a name, shared by all processes that open it: a POSIX shared memory object, and so lost when the machine
 * restarts. It has a size, the bytes of its content, and a capacity, how many they may become without growth. Both live in the object.
 *
 * The content has no lock of its own. What one process writes while another reads or writes it may be mixed, and a process that is killed in
 * the middle of a change leaves it half made; size and capacity are always whole. One process writes at a time, and hands the object over
 * by a message, a `Queue` or a counter.
 *
 * The handle that created the object, or adopted it, owns it: the object is removed when that handle is closed or collected or its process
 * exits, unless it is retained. {@linkcode SharedMemory.reap} removes those whose owner was killed. Who has the object open keeps its
 * memory: a removed object has no name any more, and ends with its last handle and view.
 *
 * Lengths and positions are bytes; out of bounds is a `RangeError`. After {@linkcode close} every use throws `MapError` `ERR_CLOSED`. If
 * another process cuts the object short, which this library never does, every use throws `ERR_FAULT`. Linux only so far; elsewhere
 * `EOPNOTSUPP`.
 *
 * @example
 * ```ts
 * import { SharedMemory } from "holdfast";
 * using shared = SharedMemory.from("hello");
 * // In any process, with the name:
 * using same = SharedMemory.open(shared.name);
 * new TextDecoder().decode(same.read()); // "hello"
 * ```
 *
 * @example
 * ```ts
 * import { SharedMemory } from "holdfast";
 * const shared = SharedMemory.create({ capacity: 10 });
 * shared.write("hello, all"); // grows to fit, if it must
 * console.log(shared.size, shared.capacity, shared.owner); // 10 10 true
 * shared.trim(7); // drops the first seven bytes
 * const view = shared.view(); // no copy
 * view.length; // 3
 * using rest = shared.splitAt(1); // "a" stays
 * shared.append(rest);
 * shared.setCapacity(100);
 * new TextDecoder().decode(shared.read()); // "all"
 * shared.close();
 * shared.closed; // true
 * ```
 *
 * @example
 * ```ts
 * import { SharedMemory } from "holdfast";
 * const tidy = () => SharedMemory.reap(); // for the start of a program: removes what killed processes left
 * const object = SharedMemory.from("a job");
 * const retention = object.retain(); // keeps it beyond its owner's end
 * object.close();
 * using taken = SharedMemory.open(object.name); // the other process
 * taken.adopt();
 * retention[Symbol.dispose]();
 * taken.owner; // true
 * SharedMemory.list().some(({ name }) => name === taken.name); // true
 * SharedMemory.unlink(taken.name); // or taken.unlink(): the name goes, who has it open goes on
 * ```
 */
export class SharedMemory implements Disposable {
  /** The object's name, which any process can open. */
  readonly name: string;
  readonly #path: string;
  readonly #file: Descriptor;
  /** The owner's. */
  #claim: Claim | undefined;
  readonly #writable: boolean;
  /** What the object's words are sealed with. */
  readonly #salt: number;
  readonly #hf: NativeFunctions;
  #region: Region;
  /** Of the region; 0 once closed. */
  #address: Address;
  /** The extent that is mapped. */
  #extent: number;
  /** In mode "r" views have pages of their own: a store to a read-only page would end the process. */
  #viewed: Region | undefined;

  private constructor(name: string, file: Descriptor, writable: boolean) {
    this.name = name;
    this.#path = pathOf(name);
    this.#file = file;
    this.#writable = writable;
    this.#hf = native();
    const { salt, extent } = readState(file.fd, this.#path);
    this.#salt = salt;
    this.#region = this.#map(extent);
    this.#address = this.#region.address;
    this.#extent = extent;
    try {
      this.#look();
      this.#confirm();
    } catch (error) {
      this.#region.release();
      throw error;
    }
  }

  /**
   * A new object, empty, with its memory reserved.
   *
   * Errors: `EEXIST` if there is one of that name, `ENOSPC` if /dev/shm or the machine has no room, and whatever else the system says.
   */
  static create(options?: SharedMemoryOptions): SharedMemory {
    const { capacity = DEFAULT_CAPACITY, ...given } = checkOptions("SharedMemory.create()", options, CREATE_OPTIONS);
    native();
    return SharedMemory.#make({ ...given, size: 0, capacity, fill: () => {} });
  }

  /** A new object with this content, a string as UTF-8. Its capacity is the greater of `capacity` and the content's size. Errors as `create`. */
  static from(data: Uint8Array | string, options?: SharedMemoryOptions): SharedMemory {
    const bytes = checkBytes("data", data);
    const { capacity = 0, ...given } = checkOptions("SharedMemory.from()", options, CREATE_OPTIONS);
    native();
    const size = byteLengthOf(bytes);
    const fill: ObjectPlan["fill"] = (fd, offset, path) => writeFully(fd, bytes, offset, path);
    return SharedMemory.#make({ ...given, size, capacity: Math.max(capacity, size), fill });
  }

  /**
   * Opens the object of that name.
   *
   * Errors: `ENOENT` if there is none; `ERR_NOT_HOLDFAST`, `ERR_VERSION`, `ERR_KIND`, `ERR_CORRUPT` for one that is not whole or not of
   * this library, which is left as it is; system errors.
   */
  static open(name: string, options?: SharedMemoryOpenOptions): SharedMemory {
    const bare = checkName("name", name);
    const { mode = "rw" } = checkOptions("SharedMemory.open()", options, OPEN_OPTIONS);
    native();
    return SharedMemory.#over({ name: bare, fd: openFile(pathOf(bare), mode), claim: undefined }, mode === "rw");
  }

  /** Removes the name, also of an object that another owns: it lives on for those who have it open. `ENOENT` if there is none. */
  static unlink(name: string): void {
    const bare = checkName("name", name);
    native();
    unlinkObject(pathOf(bare));
  }

  /** The objects of this library that this user can read. What else is in /dev/shm is left out. */
  static list(): SharedMemoryEntry[] {
    native();
    return listObjects();
  }

  /**
   * Removes the objects that have nobody left: their owner and all who retained them were killed. That they are dead is what the kernel
   * says, by locks that it released; a process that is only stopped keeps its objects. Persistent and damaged ones stay, and those
   * that others retain. Returns the names. In Bun a Worker that was terminated counts as alive until its process ends.
   */
  static reap(): string[] {
    native();
    return reapObjects();
  }

  static #make(plan: Partial<ObjectPlan> & Pick<ObjectPlan, "size" | "capacity" | "fill"> & { unlinkOnClose?: boolean }): SharedMemory {
    const { permissions = 0o600, unlinkOnClose = true, size, capacity, fill } = plan;
    const lifetime = unlinkOnClose ? "owned" : "persistent";
    return SharedMemory.#over(createObject({ name: plan.name, size, capacity, permissions, lifetime, fill }), true);
  }

  /** A handle of the object, whose descriptors are closed if there can be none. */
  static #over({ name, fd, claim }: NewObject, writable: boolean): SharedMemory {
    const file = new Descriptor(fd);
    try {
      const handle = new SharedMemory(name, file, writable);
      if (claim !== undefined) handle.#own(claim);
      return handle;
    } catch (error) {
      file.close();
      claim?.release();
      throw error;
    }
  }

  #own(claim: Claim): void {
    this.#claim = claim;
    collected.register(this, claim, claim);
  }

  /** Bytes of content, as the object says at this moment. */
  get size(): number {
    const size = this.#look();
    this.#confirm();
    return size;
  }

  /** Bytes that the content may have without growth, as the object says at this moment. */
  get capacity(): number {
    this.#look();
    const capacity = this.#hf.hf_sealed_load(this.#address + CAPACITY, this.#salt);
    this.#intact(capacity, "capacity");
    this.#confirm();
    return capacity;
  }

  /** Whether this handle is the one that the object is removed with. */
  get owner(): boolean {
    this.#open();
    return this.#claim !== undefined;
  }

  /** Whether `close()` was called. */
  get closed(): boolean {
    return this.#address === 0;
  }

  /** A copy of the content, or of its first `length` bytes: exactly so many, or a `RangeError`. */
  read(length?: number): Uint8Array<ArrayBuffer> {
    const size = this.#look();
    const bytes = length === undefined ? size : this.#within("length", length, size);
    let target: Uint8Array<ArrayBuffer>;
    try {
      target = newBytes(bytes);
    } catch (error) {
      throw rangeError(`an array of ${bytes} bytes is more than this runtime can make (${error}); read fewer, or take a view`);
    }
    this.#copied(copyOut(this.#address + CONTENT, target, bytes));
    this.#confirm();
    return target;
  }

  /**
   * Replaces the content by `data`, a string as UTF-8. The capacity grows to fit, and a larger one stays. `ENOSPC` if there is no room, and
   * nothing has changed then. `ERR_READ_ONLY` in mode "r".
   */
  write(data: Uint8Array | string): void {
    const bytes = checkBytes("data", data);
    const length = byteLengthOf(bytes);
    this.#lookToChange();
    const capacity = this.#hf.hf_sealed_load(this.#address + CAPACITY, this.#salt);
    // The room is looked at, too: another process may have added capacity since the look, which is not mapped here yet.
    if (!(length <= capacity && length <= roomIn(this.#extent))) this.#resize(length, true);
    this.#copied(copyIn(this.#address + CONTENT, bytes, length));
    this.#publishSize(length);
    this.#confirm();
  }

  /**
   * The content itself as an array, without a copy: it sees later writes, by any process, and writing to it writes to the object (in
   * mode "r": to a copy of the page in this process). Its length is the size of now. It keeps its memory for as long as it is reachable, also
   * after `close()`. Where another process cut the object short it reads zeros, and the next call says `ERR_FAULT`.
   *
   * `RangeError` for more bytes than an ArrayBuffer of the runtime can have (4 GiB in Bun). Do not transfer its buffer. Deno needs
   * `--allow-ffi` without a path for it.
   */
  view(): Uint8Array<ArrayBuffer> {
    const size = this.#look();
    this.#confirm();
    const region = this.#writable ? this.#region : (this.#viewed ??= this.#map(this.#extent, mapFlags.WRITE | mapFlags.PRIVATE));
    const { buffer, byteOffset } = region.buffer(CONTENT, size);
    return new Uint8Array(buffer, byteOffset, size);
  }

  /**
   * Puts the content of `other`, which stays as it is, behind this one's. The capacity becomes what both have together, as with Shmex. Errors
   * as {@linkcode write}.
   */
  append(other: SharedMemory): void {
    if (!(other instanceof SharedMemory)) throw invalidType("other", "a SharedMemory", other);
    const added = other.#look();
    const size = this.#lookToChange();
    const sum = size + added;
    if (sum > MAX_CAPACITY) throw rangeError(`${sum} bytes are more than the ${MAX_CAPACITY} that an object can have`);
    this.#resize(sum, false);
    if (added > 0) this.#copied(this.#hf.hf_copy(this.#address + CONTENT + size, other.#address + CONTENT, added));
    other.#confirm();
    this.#publishSize(sum);
    this.#confirm();
  }

  /**
   * Cuts the content in two: this object keeps the first `position` bytes and its capacity, and a new one gets the rest, with a capacity of
   * just that, a generated name, the same permissions, and this process's new handle as its owner. Errors as {@linkcode write}.
   */
  splitAt(position: number): SharedMemory {
    const size = this.#lookToChange();
    this.#within("position", position, size);
    const path = this.#path;
    const { fd } = this.#file;
    const permissions = fileSystem(path, () => fs.fstatSync(fd)).mode & 0o777;
    const rest = SharedMemory.#make({
      size: size - position,
      capacity: size - position,
      permissions,
      fill: (to, offset, name) => {
        this.#eachChunk(position, size, (chunk, from) => writeFully(to, chunk, offset + from - position, name));
      },
    });
    try {
      this.#publishSize(position);
      this.#confirm();
      return rest;
    } catch (error) {
      rest.close();
      throw error;
    }
  }

  /** Drops the first `dropBytes` of the content and makes the capacity what is left of it. */
  trim(dropBytes: number = 0): void {
    const size = this.#lookToChange();
    this.#within("dropBytes", dropBytes, size);
    if (dropBytes > 0) {
      this.#eachChunk(dropBytes, size, (chunk, from) => {
        this.#copied(copyIn(this.#address + CONTENT + from - dropBytes, chunk, byteLengthOf(chunk)));
      });
    }
    this.#publishSize(size - dropBytes);
    this.#resize(size - dropBytes, false);
    this.#confirm();
  }

  /**
   * Sets the capacity. A smaller one than the size cuts the content, whose memory is given back to the system, page by page; what views show there
   * becomes zeros. `ENOSPC` if there is no room, and nothing has changed then. `ERR_READ_ONLY` in mode "r".
   */
  setCapacity(bytes: number): void {
    checkInteger("bytes", bytes, 0, MAX_CAPACITY);
    this.#lookToChange();
    this.#resize(bytes, false);
    this.#confirm();
  }

  /**
   * Makes this handle the owner of an object that has none: it is removed with this handle from now on, also if it was persistent.
   * `ERR_OWNED` while another owner lives, `ENOENT` if the object lost its name, `ERR_READ_ONLY` in mode "r". Again: nothing.
   */
  adopt(): void {
    this.#lookToChange();
    if (this.#claim !== undefined) return;
    this.#own(Claim.adopt(this.#file.fd, this.#path, (lifetime) => {
      check(this.#hf.hf_sealed_store(this.#address + LIFETIME, lifetimes[lifetime], this.#salt), "sealed_store", this.#path);
    }));
  }

  /**
   * Keeps the object alive, also beyond its owner's end, until the result is disposed of or this process ends: long enough for another
   * process to open it and to {@linkcode adopt} it. If nobody has by then, and no other retention is left, it is removed. `ENOENT` if the
   * object lost its name. Who may only read the object can retain it, too, but not remove it: that is left to `reap()`.
   */
  retain(): Disposable {
    this.#open();
    const retention = Claim.retain(this.#file.fd, this.#path);
    return { [Symbol.dispose]: () => retention.release() };
  }

  /** Removes the name now. The object lives on for those who have it open. Nothing if the name is gone, or another object's. */
  unlink(): void {
    this.#open();
    this.#requireWritable();
    unlinkOpen(this.#file.fd, this.#path);
  }

  /** Ends the use of the object, which is removed if this is its owner and nobody retains it. Closing again does nothing. */
  close(): void {
    if (this.#address === 0) return;
    this.#address = 0;
    this.#region.release();
    this.#viewed?.release();
    this.#file.close();
    const claim = this.#claim;
    this.#claim = undefined;
    if (claim === undefined) return;
    collected.unregister(claim);
    claim.release();
  }

  /** {@linkcode close}, at the end of a block with `using`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #open(): void {
    if (this.#address === 0) throw closedError(WHAT, this.#path);
  }

  #requireWritable(): void {
    if (!this.#writable) throw readOnlyError(WHAT, this.#path);
  }

  /** The size, once it is sure that the object may be changed and is whole: nothing is written to one that is not. */
  #lookToChange(): number {
    const size = this.#look();
    this.#requireWritable();
    this.#confirm();
    return size;
  }

  #within(name: string, value: number, size: number): number {
    checkInteger(name, value, 0, Number.MAX_SAFE_INTEGER);
    if (value > size) throw rangeError(`"${name}" ${value} is more than the ${size} bytes of content of '${this.#path}'`);
    return value;
  }

  #map(extent: number, flags: number = this.#writable ? mapFlags.WRITE : 0): Region {
    const path = this.#path;
    const { fd } = this.#file;
    this.#requireLength(extent, "ERR_CORRUPT");
    return new Region({ fd, offset: 0, byteLength: extent, flags, writable: this.#writable, what: WHAT, path });
  }

  #requireLength(extent: number, code: string): void {
    const path = this.#path;
    const { fd } = this.#file;
    const { size } = fileSystem(path, () => fs.fstatSync(fd));
    if (size < extent) throw new MapError(code, `'${path}' is cut short: it has ${size} of its ${extent} bytes`, { path });
  }

  #use(region: Region, extent: number): void {
    this.#region.release();
    this.#viewed?.release();
    this.#viewed = undefined;
    this.#region = region;
    this.#address = region.address;
    this.#extent = extent;
  }

  /** The size, with all of the object mapped that there is by now. */
  #look(): number {
    this.#open();
    for (;;) {
      // Pairs with #publishSize(): the content of that size is there. The extent is read after it and was stored before it, so
      // that it is at least as new.
      const size = this.#hf.hf_sealed_load(this.#address + SIZE, this.#salt);
      const extent = this.#hf.hf_sealed_load(this.#address + EXTENT, this.#salt);
      if (extent === this.#extent && size >= 0 && size <= roomIn(extent)) return size;
      this.#follow(size, extent);
    }
  }

  /** Maps what another handle added. */
  #follow(size: number, extent: number): void {
    const path = this.#path;
    this.#intact(size, "size");
    this.#intact(extent, "extent");
    if (extent === this.#extent || !isExtent(extent)) {
      throw new MapError("ERR_CORRUPT", `'${path}' has impossible lengths: size ${size}, extent ${extent}`, { path });
    }
    this.#requireLength(extent, "ERR_FAULT");
    this.#use(this.#map(extent), extent);
  }

  /** The value of a sealed word; its failure as an error. */
  #intact(value: number, word: string): void {
    const path = this.#path;
    if (value >= 0) return;
    this.#requireLength(this.#extent, "ERR_FAULT"); // what was cut off within a page reads as zeros
    if (value === codes.CORRUPT) throw new MapError("ERR_CORRUPT", `'${path}' has a damaged ${word}: its check does not hold`, { path });
    check(value, "sealed_load", path);
  }

  /**
   * Throws unless the object is as long as it was mapped. After each access, since what it found is only true then. The mark stands in the
   * last bytes: it is gone if anything is.
   */
  #confirm(): void {
    // Pairs with the store in #grow().
    const mark = this.#hf.hf_sealed_load(this.#address + this.#extent - MARK_BYTES, this.#salt);
    if (mark !== this.#extent) this.#explain();
  }

  /** The mark is not where it was: the object was cut short, or has grown and put content there. */
  #explain(): void {
    const path = this.#path;
    this.#requireLength(this.#extent, "ERR_FAULT");
    if (this.#region.broken) throw nativeError(codes.FAULT, "read", path);
    const before = this.#extent;
    this.#look();
    if (this.#extent !== before) return this.#confirm();
    throw new MapError("ERR_CORRUPT", `'${path}' has a damaged end mark: something wrote there, or cut it off and put zeros there`, { path });
  }

  /** The result of a copy; its failure as an error. */
  #copied(result: number): void {
    check(result, "copy", this.#path);
  }

  /** The bytes from `start` to `end` of the content, chunk by chunk. The chunk is the same array each time, until the last. */
  #eachChunk(start: number, end: number, use: (chunk: Uint8Array, from: number) => void): void {
    let chunk = new Uint8Array(Math.min(CHUNK_BYTES, end - start));
    for (let from = start; from < end; from += chunk.byteLength) {
      if (end - from < chunk.byteLength) chunk = chunk.subarray(0, end - from);
      this.#copied(copyOut(this.#address + CONTENT + from, chunk, chunk.byteLength));
      use(chunk, from);
    }
  }

  /** Publishes the size, with the content below it. Pairs with the loads in #look(). */
  #publishSize(size: number): void {
    check(this.#hf.hf_sealed_store(this.#address + SIZE, size, this.#salt), "sealed_store", this.#path);
  }

  #publishCapacity(capacity: number): void {
    check(this.#hf.hf_sealed_store(this.#address + CAPACITY, capacity, this.#salt), "sealed_store", this.#path);
  }

  /** Sets the capacity; a larger one stays if `atLeast`. */
  #resize(capacity: number, atLeast: boolean): void {
    const path = this.#path;
    const { fd } = this.#file;
    const turn = { fd, offset: locks.capacity, length: 1, shared: false, path };
    takeLock(turn);
    try {
      const size = this.#lookToChange();
      const current = this.#hf.hf_sealed_load(this.#address + CAPACITY, this.#salt);
      this.#intact(current, "capacity");
      if (capacity > current) this.#grow(current, capacity);
      else if (capacity < current && !atLeast) this.#shrink(size, capacity);
    } finally {
      unlock(turn);
    }
  }

  /** The caller holds the lock. */
  #grow(current: number, capacity: number): void {
    const path = this.#path;
    const { fd } = this.#file;
    const hole = CONTENT + current;
    // What an earlier shrink gave back.
    const end = Math.min(this.#extent, CONTENT + capacity);
    if (extentFor(current) < this.#extent && hole < end) this.#reserveHole(hole, end - hole);
    const extent = extentFor(capacity);
    if (extent > this.#extent) {
      reserve(fd, extent, path);
      const region = this.#map(extent);
      check(this.#hf.hf_sealed_store(region.address + extent - MARK_BYTES, extent, this.#salt), "sealed_store", path);
      // Pairs with the load in #look(): whoever sees this extent finds its end mark. The old mark is content from now on.
      check(this.#hf.hf_sealed_store(region.address + EXTENT, extent, this.#salt), "sealed_store", path);
      this.#use(region, extent);
    }
    this.#publishCapacity(capacity);
  }

  #reserveHole(offset: number, length: number): void {
    const path = this.#path;
    const { fd } = this.#file;
    const result = this.#hf.hf_reserve(fd, offset, length);
    if (result !== -errno.EOPNOTSUPP && result !== codes.UNSUPPORTED) check(result, "fallocate", path);
  }

  /** The caller holds the lock. The size first: it never is more than the capacity for long. */
  #shrink(size: number, capacity: number): void {
    if (size > capacity) this.#publishSize(capacity);
    this.#publishCapacity(capacity);
    const page = pageSize();
    const start = Math.ceil((CONTENT + capacity) / page) * page;
    const end = Math.floor((this.#extent - MARK_BYTES) / page) * page;
    // Memory that can't be given back is kept.
    if (end > start) this.#hf.hf_punch(this.#file.fd, start, end - start);
  }
}
