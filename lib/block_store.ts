/**
 * Blocks of one size in a growing file, stored and freed by any number of processes at once.
 *
 * Invariants:
 *   - A block's word alone says whether it is free, being filled or stored. Each change of it is one atomic store or
 *     compare-exchange, so that a death at any instruction leaves the block either free or stored.
 *   - Only who moved the word from free to its own owner number writes the block, and only it publishes it. The number stands for the
 *     lock on a byte of the file, which the kernel drops with its holder: a block whose filler is gone is free again for whoever finds it.
 *   - Every way to free changes the generation, which is part of the word and of the record's checksum. So a reader that finds the same word
 *     before and after its copy has copied the bytes that were stored under it.
 *   - The groups that exist never change, and nothing is ever moved or cut off.
 *
 * @module
 */
import * as fs from "node:fs";
import { randomBytes } from "./builtins.ts";
import { doom } from "./auto_unlink.ts";
import { boolean, checkInteger, checkOptions, checkPath, integer, oneOf } from "./checks.ts";
import { check, closedError, invalidType, MapError, nativeError, rangeError, readOnlyError } from "./errors.ts";
import { createWhole, Descriptor, fileSystem, openRegular, reserve, writeFully } from "./files.ts";
import {
  blockSalt,
  blocksOf,
  encodeSealed,
  fieldsOf,
  fileBytes,
  FIRST_GROUP_OFFSET,
  GENERATIONS,
  GROUPS_OFFSET,
  groupsSalt,
  LOCKS_OFFSET,
  MAX_BLOCK_BYTES,
  MAX_OWNER,
  newShape,
  readShape,
  RECORD_HEADER_BYTES,
  recordOffset,
  type Shape,
  STORED,
  totalBytes,
  wordOffset,
} from "./layout/block_store.ts";
import { crc32c, encodeHeader, readHeader } from "./layout/header.ts";
import { byteLengthOf } from "./native/copy.ts";
import { allocateScratch, native, type Scratch } from "./native/native.ts";
import { codes, mapFlags, type NativeFunctions } from "./native/symbols.ts";
import { takeLock, tryLock, unlock } from "./range_lock.ts";
import { Region } from "./region.ts";

/**
 * Options of {@linkcode BlockStore.open}.
 *
 * @example
 * ```ts
 * import { BlockStore, type BlockStoreOptions } from "holdfast";
 * const options: BlockStoreOptions = { blockBytes: 64, maxBlocks: 2, permissions: 0o600, autoUnlink: true };
 * using blocks = BlockStore.open("/tmp/example-options.blocks", options);
 * for (let i = 0; i < 2; i++) blocks.store(new Uint8Array(64));
 * blocks.store(new Uint8Array(1)); // undefined
 * ```
 */
export interface BlockStoreOptions {
  /** Most bytes of a block, 1 to 2^30. A new file needs it; an existing one has its own, which must be the same. */
  blockBytes?: number;
  /** Most blocks at a time; without it a new file grows as long as there is room. An existing file has its own, which must be the same. */
  maxBlocks?: number;
  /** "rw" (the default) or "r". */
  mode?: "r" | "rw";
  /** Access bits of a new file, before the umask. Default 0o600. */
  permissions?: number;
  /** Removes the file when this handle is closed or collected, or the process exits. Others that have it open go on with it. */
  autoUnlink?: boolean;
}

/**
 * Where an iteration starts, and which way it goes.
 *
 * @example
 * ```ts
 * import { type BlockRange, BlockStore } from "holdfast";
 * using blocks = BlockStore.open("/tmp/example-range.blocks", { blockBytes: 16 });
 * const ids = [1, 2, 3].map((byte) => blocks.store(Uint8Array.of(byte)) as number).sort((a, b) => a - b);
 * const range: BlockRange = { after: ids[2] as number, reverse: true };
 * [...blocks.ids(range)].length; // 2
 * ```
 */
export interface BlockRange {
  /** Starts behind this id, in the direction of the iteration; it need not be stored. Without it: with the first, or the last. */
  after?: number;
  /** From high ids to low ones. */
  reverse?: boolean;
}

/**
 * What {@linkcode BlockStore.verify} found.
 *
 * @example
 * ```ts
 * import { type BlockReport, BlockStore } from "holdfast";
 * using blocks = BlockStore.open("/tmp/example-report.blocks", { blockBytes: 16 });
 * blocks.store(Uint8Array.of(1));
 * const report: BlockReport = blocks.verify();
 * report.ok; // true
 * report.blocks === report.stored + report.free + report.damaged.length; // true
 * ```
 */
export interface BlockReport {
  /** Whether nothing is damaged. */
  readonly ok: boolean;
  /** Blocks that the file has; `stored + free + damaged.length`. */
  readonly blocks: number;
  /** Blocks that hold something. */
  readonly stored: number;
  /** Blocks that can be stored into. */
  readonly free: number;
  /** Blocks that cannot be read, by id. */
  readonly damaged: readonly { readonly id: number; readonly reason: string }[];
}

const OPEN_OPTIONS = {
  blockBytes: integer(1, MAX_BLOCK_BYTES),
  maxBlocks: integer(1),
  mode: oneOf("r", "rw"),
  permissions: integer(0, 0o7777),
  autoUnlink: boolean,
};
const RANGE_OPTIONS = { after: integer(0), reverse: boolean };

/** A file grows by as many groups as it has, but no more than this. */
const GROWTH_BYTES: number = 1 << 20;
/** Address space is taken twice as far as the file goes, and at least this far, so that most growth needs no new mapping. */
const MIN_MAPPED_BYTES: number = 1 << 22;
/** How many free blocks a handle remembers; more than a group has. */
const MAX_KNOWN = 256;

/** What {@linkcode BlockStore} finds at an id, besides a length. */
const ABSENT = -1;
const DAMAGED_WORD = -2;
const DAMAGED_RECORD = -3;
const REASONS: Readonly<Record<number, string>> = {
  [DAMAGED_WORD]: "the word that says whether it is stored is damaged",
  [DAMAGED_RECORD]: "its content does not have the checksum that it was stored with",
};

/**
 * Blocks of up to `blockBytes` bytes in one file, each known by a number, its id. Any number of processes, Workers and handles
 * store, read and free at once, without waiting for each other.
 *
 * Crash safety: a block is either stored whole or free, whenever and wherever a process is killed; what `store()` returned is stored and
 * what `free()` confirmed is free. What a process that was killed in the middle of `store()` had begun is free again. After a power
 * failure that holds for what was stored before the last `flush()`; a block that storage got in part fails its checksum.
 *
 * An id is an integer >= 0; it belongs to the block until that is freed, and may then be given to another one. Blocks that are far apart in
 * time can thus have the same id: a program that keeps ids must drop them when it frees.
 *
 * Every block carries a CRC-32C. A file that is damaged is never changed by reading it; see {@linkcode BlockStore.verify}.
 *
 * Errors of all methods: `MapError` `ERR_CLOSED` after close(); `ERR_CORRUPT` where the file is damaged; `ERR_FAULT` where another
 * program cut it short. `TypeError` or `RangeError` for an id that is no integer >= 0.
 *
 * @example
 * ```ts
 * import { BlockStore } from "holdfast";
 * using blocks = BlockStore.open("/tmp/example.blocks", { blockBytes: 256 });
 * const id = blocks.store(new TextEncoder().encode("hello")) as number;
 * blocks.read(id); // the five bytes
 * blocks.free(id); // true
 * blocks.read(id); // undefined
 * ```
 *
 * @example
 * ```ts
 * import { BlockStore } from "holdfast";
 * const blocks = BlockStore.open("/tmp/example-all.blocks", { blockBytes: 16, maxBlocks: 1000 });
 * console.log(blocks.writable, blocks.blockBytes, blocks.maxBlocks); // true 16 1000
 * const id = blocks.store(Uint8Array.of(1, 2)) as number;
 * blocks.has(id); // true
 * blocks.count; // 1
 * [...blocks.ids()].length; // 1
 * for (const [id, bytes] of blocks.entries({ reverse: true })) console.log(id, bytes);
 * blocks.verify().ok; // true
 * blocks.flush(); // what is stored survives a power cut from here on
 * blocks.close();
 * blocks.closed; // true
 * console.log(blocks.path);
 * ```
 */
export class BlockStore implements Disposable {
  /** The file's path as given. */
  readonly path: string;
  /** Whether this handle can store and free. */
  readonly writable: boolean;
  readonly #shape: Shape;
  readonly #hf: NativeFunctions;
  readonly #file: Descriptor;
  readonly #unlink: (() => void) | undefined;
  /** CRC-32C of the file's id. */
  readonly #salt: number;
  #region: Region;
  /** Groups and blocks as they were read last; 0 blocks once closed, so that every use looks further. */
  #groups = 0;
  #blocks = 0;
  /** This handle in the words of blocks that it fills, times 2^32; 0 before the first store, and once closed. */
  #owner = 0;

  /** Blocks that were free when last seen, with the word that they had: the next to be stored into is the last. */
  readonly #known = new Float64Array(MAX_KNOWN);
  readonly #knownWords = new Float64Array(MAX_KNOWN);
  #knownCount = 0;
  /** The group that was looked through last for free blocks. */
  #cursor: number;
  /** Groups that were added and not looked at yet. */
  #fresh = 0;
  #freshEnd = 0;

  /** One record, on its way to or from the file. */
  #scratch!: Scratch;
  /** The scratch memory by words: total and length of the record are 1 and 2, 3 is reserved. */
  #scratchWords!: Uint32Array;

  private constructor(path: string, file: Descriptor, writable: boolean, salt: number, shape: Shape, autoUnlink: boolean) {
    this.path = path;
    this.writable = writable;
    this.#shape = shape;
    this.#hf = native();
    this.#file = file;
    this.#salt = salt;
    this.#prepareScratch(Math.min(4096, shape.recordBytes));
    this.#region = this.#map(FIRST_GROUP_OFFSET);
    try {
      this.#refresh();
    } catch (error) {
      this.#region.release();
      throw error;
    }
    // Handles start at different places, so that they rarely want the same block.
    this.#cursor = Math.floor(Math.random() * this.#groups);
    this.#unlink = autoUnlink ? doom(path, file.fd, this) : undefined;
  }

  /**
   * Opens the block store at `path`; in mode "rw" with `blockBytes` a missing file is created, without blocks.
   *
   * Errors: `MapError` `ENOENT` for a missing file without `blockBytes` or in mode "r"; `RangeError` if an existing file has another
   * `blockBytes` or `maxBlocks` than asked for; `ERR_NOT_HOLDFAST`, `ERR_VERSION`, `ERR_KIND`, `ERR_CORRUPT` for a file that is no
   * block store, which is left as it is; system errors.
   */
  static open(path: string | URL, options?: BlockStoreOptions): BlockStore {
    const file = checkPath("path", path);
    const given = checkOptions("BlockStore.open()", options, OPEN_OPTIONS);
    const { mode = "rw", permissions = 0o600, autoUnlink = false } = given;
    native();
    const descriptor = new Descriptor(openOrCreate(file, mode, given.blockBytes, given.maxBlocks, permissions));
    try {
      const header = readHeader(descriptor.fd, "block store", file);
      const shape = readShape(header, file);
      const size = fileSystem(file, () => fs.fstatSync(descriptor.fd)).size;
      if (size < FIRST_GROUP_OFFSET) throw new MapError("ERR_CORRUPT", `'${file}' is cut short: it has ${size} bytes`, { path: file });
      for (const name of ["blockBytes", "maxBlocks"] as const) {
        if (given[name] === undefined || given[name] === shape[name]) continue;
        const found = name === "maxBlocks" && shape.maxBlocks === 0 ? "no limit" : `"${name}" ${shape[name]}`;
        throw rangeError(`'${file}' has ${found}, not ${given[name]}; leave "${name}" out to take what there is`);
      }
      return new BlockStore(file, descriptor, mode === "rw", crc32c(header.id), shape, autoUnlink);
    } catch (error) {
      descriptor.close();
      throw error;
    }
  }

  /** Most bytes of a block. */
  get blockBytes(): number {
    return this.#shape.blockBytes;
  }

  /** Most blocks at a time; undefined without a limit. */
  get maxBlocks(): number | undefined {
    return this.#shape.maxBlocks === 0 ? undefined : this.#shape.maxBlocks;
  }

  /**
   * Stores `bytes`, of up to `blockBytes`, in a free block, and returns its id. The file grows if none is free; `undefined`, if that
   * is not allowed by `maxBlocks`.
   *
   * Whoever gets the id, in any process, reads the bytes. Errors: `RangeError` for more than `blockBytes` bytes; `ERR_READ_ONLY`; `ENOSPC`
   * and other system errors where the file can't grow, after which all is as it was.
   */
  store(bytes: Uint8Array): number | undefined {
    if (this.#owner === 0) this.#begin();
    if (!(bytes instanceof Uint8Array)) throw invalidType("bytes", "a Uint8Array", bytes);
    const length = byteLengthOf(bytes);
    const { blockBytes } = this.#shape;
    if (length > blockBytes) throw rangeError(`"bytes" has ${length} bytes, more than the ${blockBytes} of a block of '${this.path}'`);
    const id = this.#claim();
    if (id < 0) return undefined;
    const hf = this.#hf;
    const generation = this.#knownWords[this.#knownCount] as number;
    const salt = blockSalt(this.#salt, id);
    const total = totalBytes(length);
    if (total > this.#scratch.bytes.byteLength) this.#prepareScratch(total);
    const words = this.#scratchWords;
    const last = total / 4;
    words[last - 2] = words[last - 1] = 0; // the padding
    words[1] = total;
    words[2] = length;
    words[3] = 0;
    this.#scratch.bytes.set(bytes, RECORD_HEADER_BYTES);
    const { address } = this.#region;
    const written = hf.hf_record_write(address + recordOffset(this.#shape, id), this.#scratch.address, total, salt, generation);
    if (written < 0) throw nativeError(written, "store", this.path);
    // The publication: who loads this word finds the record whole. Pairs with the first load in #look().
    const published = hf.hf_sealed_store(address + wordOffset(this.#shape, id), STORED + generation, salt);
    if (published < 0) throw nativeError(published, "store", this.path);
    return id;
  }

  /** A copy of the block's bytes; undefined if no block is stored under `id`. */
  read(id: number): Uint8Array<ArrayBuffer> | undefined {
    const length = this.#look(id);
    if (length >= 0) return this.#scratch.bytes.slice(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + length);
    if (length === ABSENT) return undefined;
    throw this.#damaged(id, length);
  }

  /**
   * Frees the block; false if none was stored under `id`. Of several that free a block at once one gets true. A block whose content
   * is damaged can be freed. `ERR_READ_ONLY` in mode "r".
   */
  free(id: number): boolean {
    if (!this.#exists(id)) return this.#mustWrite(false);
    if (!this.writable) throw this.#readOnly();
    const hf = this.#hf;
    const address = this.#region.address + wordOffset(this.#shape, id);
    const salt = blockSalt(this.#salt, id);
    const word = hf.hf_sealed_load(address, salt);
    if (word < STORED) {
      if (word >= 0) return false;
      throw this.#wordError(word, id);
    }
    const freed = (word - STORED + 1) % GENERATIONS;
    const found = hf.hf_sealed_cas(address, word, freed, salt);
    if (found !== word) {
      if (found >= 0) return false; // another was first
      throw this.#wordError(found, id);
    }
    if (this.#knownCount < MAX_KNOWN) {
      this.#known[this.#knownCount] = id;
      this.#knownWords[this.#knownCount++] = freed;
    }
    return true;
  }

  /** Whether a block is stored under `id`, without a look at its content. */
  has(id: number): boolean {
    if (!this.#exists(id)) return false;
    const word = this.#word(id);
    if (word < 0) throw this.#wordError(word, id);
    return word >= STORED;
  }

  /**
   * How many blocks are stored. Counted anew each time, about 20 ns a block of the file: while others store and free it is a number
   * between what it was at the start and at the end. `ERR_CORRUPT` if that cannot be told of a block; {@linkcode verify} tells of all.
   */
  get count(): number {
    let count = 0;
    this.#refresh();
    for (let id = 0, end = this.#blocks; id < end; id++) {
      const word = this.#word(id);
      if (word < 0) throw this.#wordError(word, id);
      if (word >= STORED) count++;
    }
    return count;
  }

  /**
   * The ids of the stored blocks in their order, upwards or downwards. Other calls of any process may store and free meanwhile: a
   * block that is there all the time comes once, one that is not comes or does not.
   *
   * Any id serves as a cursor: `ids({ after: id })` goes on behind it, also in another process, another day.
   */
  ids(range?: BlockRange): IterableIterator<number> {
    const { after, reverse = false } = checkOptions("ids()", range, RANGE_OPTIONS);
    this.#refresh();
    return this.#walk(after, reverse, (id) => (this.has(id) ? id : undefined));
  }

  /**
   * Id and bytes of each stored block, as {@linkcode ids} orders them. A damaged block ends it with `ERR_CORRUPT`; `after` its id is the
   * rest.
   */
  entries(range?: BlockRange): IterableIterator<[id: number, bytes: Uint8Array<ArrayBuffer>]> {
    const { after, reverse = false } = checkOptions("entries()", range, RANGE_OPTIONS);
    this.#refresh();
    return this.#walk<[number, Uint8Array<ArrayBuffer>]>(after, reverse, (id) => {
      const bytes = this.read(id);
      return bytes === undefined ? undefined : [id, bytes];
    });
  }

  /** {@linkcode entries}, from the first to the last. */
  [Symbol.iterator](): IterableIterator<[id: number, bytes: Uint8Array<ArrayBuffer>]> {
    return this.entries();
  }

  /** Looks at every block, reads every stored one, and changes nothing. A damaged file is a result, not an error. */
  verify(): BlockReport {
    this.#refresh();
    const blocks = this.#blocks;
    const damaged: { id: number; reason: string }[] = [];
    let stored = 0;
    for (let id = 0; id < blocks; id++) {
      const length = this.#look(id);
      if (length >= 0) stored++;
      else if (length !== ABSENT) damaged.push({ id, reason: REASONS[length] as string });
    }
    return { ok: damaged.length === 0, blocks, stored, free: blocks - stored - damaged.length, damaged };
  }

  /** Waits until storage has what was stored and freed so far (fdatasync(2)), by whichever process. */
  flush(): void {
    this.#refresh();
    check(this.#hf.hf_sync_file(this.#file.fd, 1), "fdatasync", this.path);
  }

  /** Whether `close()` was called. */
  get closed(): boolean {
    return this.#file.fd < 0;
  }

  /** Ends the use of the store. Closing again does nothing. */
  close(): void {
    this.#owner = 0;
    this.#blocks = this.#groups = 0;
    this.#knownCount = 0;
    this.#region.release();
    this.#file.close(); // drops the owner's lock
    this.#unlink?.();
  }

  /** {@linkcode close}, at the end of a block with `using`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #map(needed: number): Region {
    const { fd } = this.#file;
    let byteLength = MIN_MAPPED_BYTES;
    while (byteLength < needed) byteLength *= 2;
    const flags = this.writable ? mapFlags.WRITE : 0;
    return new Region({ fd, offset: 0, byteLength, flags, writable: this.writable, what: "block store", path: this.path });
  }

  #prepareScratch(byteLength: number): void {
    this.#scratch = allocateScratch(Math.min(2 ** Math.ceil(Math.log2(byteLength)), this.#shape.recordBytes));
    this.#scratchWords = new Uint32Array(this.#scratch.buffer);
  }

  /** Takes in the groups that the file has by now. */
  #refresh(): void {
    if (this.closed) throw closedError("block store", this.path);
    // Pairs with the store in #grow(): the words of the groups are whole.
    const groups = this.#hf.hf_sealed_load(this.#region.address + GROUPS_OFFSET, groupsSalt(this.#salt));
    if (groups === this.#groups) return;
    if (groups === codes.FAULT) throw nativeError(groups, "open", this.path);
    const { fd } = this.#file;
    const size = fileSystem(this.path, () => fs.fstatSync(fd)).size;
    const needed = fileBytes(this.#shape, groups);
    if (groups < this.#groups || groups > this.#shape.maxGroups) {
      throw new MapError("ERR_CORRUPT", `'${this.path}' has a damaged number of groups`, { path: this.path });
    }
    if (size < needed) throw this.#tooShort(groups, size);
    this.#remap(needed);
    this.#groups = groups;
    this.#blocks = blocksOf(this.#shape, groups);
  }

  #remap(needed: number): void {
    if (needed <= this.#region.byteLength) return;
    const old = this.#region;
    this.#region = this.#map(needed);
    old.release();
  }

  /** Whether the file has a block of this number. */
  #exists(id: number): boolean {
    if (typeof id === "number" && id >= 0 && id < this.#blocks && Number.isInteger(id)) return true;
    // It may be of a group that was added since the last look.
    this.#refresh();
    return checkInteger("id", id, 0, Number.MAX_SAFE_INTEGER) < this.#blocks;
  }

  #word(id: number): number {
    return this.#hf.hf_sealed_load(this.#region.address + wordOffset(this.#shape, id), blockSalt(this.#salt, id));
  }

  /** Copies the block's record to the scratch memory. Its length, or what is there instead. */
  #look(id: number): number {
    if (!this.#exists(id)) return ABSENT;
    const hf = this.#hf;
    const salt = blockSalt(this.#salt, id);
    const { recordBytes } = this.#shape;
    const address = this.#region.address + wordOffset(this.#shape, id);
    const record = this.#region.address + recordOffset(this.#shape, id);
    // Pairs with the store at the end of store(): the record of this word is whole.
    let word = hf.hf_sealed_load(address, salt);
    for (;;) {
      if (word < STORED) {
        if (word >= 0) return ABSENT;
        if (word === codes.CORRUPT) return DAMAGED_WORD;
        throw nativeError(word, "read", this.path);
      }
      const scratch = this.#scratch;
      const total = hf.hf_record_read(scratch.address, scratch.bytes.byteLength, record, recordBytes, salt, word - STORED);
      if (total === codes.FAULT) throw nativeError(total, "read", this.path);
      // Pairs with the compare-exchange that freed or claimed the block: if bytes of a later record were copied, the word is another by now.
      const now = hf.hf_sealed_load(address, salt);
      if (now === word) {
        if (total < 0) return DAMAGED_RECORD;
        if (total > scratch.bytes.byteLength) {
          this.#prepareScratch(total);
          continue;
        }
        const length = this.#scratchWords[2] as number;
        return totalBytes(length) === total && length <= this.#shape.blockBytes ? length : DAMAGED_RECORD;
      }
      word = now;
    }
  }

  /** Takes the lock that stands for this handle's life. The first store() comes here. */
  #begin(): void {
    this.#refresh();
    if (!this.writable) throw this.#readOnly();
    const { fd } = this.#file;
    const first = Math.floor(Math.random() * MAX_OWNER);
    for (let i = 0; i < MAX_OWNER; i++) {
      const owner = 1 + ((first + i) % MAX_OWNER);
      if (tryLock({ fd, offset: LOCKS_OFFSET + owner, length: 1, shared: false, path: this.path })) {
        this.#owner = owner * GENERATIONS;
        return;
      }
    }
    throw new MapError("ERR_LOCKED", `'${this.path}' has ${MAX_OWNER} handles that store, and cannot have more`, { path: this.path });
  }

  /** A block that is this handle's to fill, its generation is at the end of the known words; -1 if there is none. */
  #claim(): number {
    const hf = this.#hf;
    for (;;) {
      if (this.#knownCount === 0 && !this.#find()) return -1;
      const i = --this.#knownCount;
      const id = this.#known[i] as number;
      const word = this.#knownWords[i] as number;
      const address = this.#region.address + wordOffset(this.#shape, id);
      const found = hf.hf_sealed_cas(address, word, this.#owner + word, blockSalt(this.#salt, id));
      if (found === word) return id;
      // Another handle was faster; a damaged word is nobody's.
      if (found < 0 && found !== codes.CORRUPT) throw nativeError(found, "store", this.path);
    }
  }

  /**
   * Finds free blocks. The search goes round the file, from where it ended last time. The file grows by a number of blocks only after at least
   * as many in a row turned out to be taken: so what a search costs is small beside what it finds, and a file with free blocks
   * somewhere can't grow without end. False if all that there may be are taken.
   */
  #find(): boolean {
    this.#refresh();
    const { groupBlocks } = this.#shape;
    for (let missed = 0; ;) {
      if (this.#fresh < this.#freshEnd) {
        if (this.#collect(this.#fresh++)) return true;
        continue;
      }
      const step = this.#growthStep();
      if (missed < (step === 0 ? this.#blocks : Math.min(this.#blocks, step * groupBlocks))) {
        this.#cursor = (this.#cursor + 1) % this.#groups;
        if (this.#collect(this.#cursor)) return true;
        missed += groupBlocks;
        continue;
      }
      if (step === 0) return false;
      this.#grow();
      missed = 0;
    }
  }

  /** How many groups are to be added; 0 if there may be no more. */
  #growthStep(): number {
    const { groupBytes, maxGroups } = this.#shape;
    const most = Math.max(1, Math.floor(GROWTH_BYTES / groupBytes));
    return Math.min(Math.max(1, this.#groups), most, maxGroups - this.#groups);
  }

  /** Notes the free blocks of a group. Whether there are any. */
  #collect(group: number): boolean {
    const { groupBlocks } = this.#shape;
    const start = group * groupBlocks;
    // Backwards, since the last one noted is the first one used.
    for (let id = Math.min(start + groupBlocks, this.#blocks) - 1; id >= start; id--) {
      let word = this.#word(id);
      if (word >= GENERATIONS && word < STORED) word = this.#reclaim(id, word);
      if (word < 0 && word !== codes.CORRUPT) throw nativeError(word, "store", this.path);
      if (word < 0 || word >= GENERATIONS) continue;
      this.#known[this.#knownCount] = id;
      this.#knownWords[this.#knownCount++] = word;
    }
    return this.#knownCount > 0;
  }

  /** Frees a block whose filler is gone. The word that it has then, or has anyway. */
  #reclaim(id: number, word: number): number {
    const owner = Math.floor(word / GENERATIONS);
    const mine = owner * GENERATIONS === this.#owner; // of a former holder of the number, or left by an exception: no store() is under way
    if (!mine) {
      const held = this.#hf.hf_lock_probe(this.#file.fd, LOCKS_OFFSET + owner, 1);
      if (check(held, "fcntl", this.path) === 1) return word;
    }
    const freed = ((word % GENERATIONS) + 1) % GENERATIONS;
    const address = this.#region.address + wordOffset(this.#shape, id);
    const found = this.#hf.hf_sealed_cas(address, word, freed, blockSalt(this.#salt, id));
    return found === word ? freed : found;
  }

  /** Adds groups, unless another handle just has. */
  #grow(): void {
    const { fd } = this.#file;
    const before = this.#groups;
    const turn = { fd, offset: LOCKS_OFFSET, length: 1, shared: false, path: this.path };
    takeLock(turn);
    try {
      this.#refresh();
      if (this.#groups > before) {
        // Somewhere among the new ones, since who added them begins with the first.
        this.#fresh = before + Math.floor(Math.random() * (this.#groups - before));
      } else {
        this.#add(before, before + this.#growthStep());
        this.#fresh = before;
      }
      this.#freshEnd = this.#groups;
    } finally {
      if (!this.closed) unlock(turn);
    }
  }

  /** Adds the groups `from` to `to`. The caller has the right to. */
  #add(from: number, to: number): void {
    const { fd } = this.#file;
    const size = fileSystem(this.path, () => fs.fstatSync(fd)).size;
    if (size < fileBytes(this.#shape, from)) throw this.#tooShort(from, size); // cut short meanwhile: nothing is built on that
    const needed = fileBytes(this.#shape, to);
    reserve(fd, needed, this.path);
    this.#remap(needed);
    const { address } = this.#region;
    // Each is written: one who died while adding may have left something here.
    for (let id = blocksOf(this.#shape, from), end = blocksOf(this.#shape, to); id < end; id++) {
      check(this.#hf.hf_sealed_store(address + wordOffset(this.#shape, id), 0, blockSalt(this.#salt, id)), "store", this.path);
    }
    // The publication: whoever reads this number finds the words above. Pairs with the load in #refresh().
    check(this.#hf.hf_sealed_store(address + GROUPS_OFFSET, to, groupsSalt(this.#salt)), "store", this.path);
    this.#refresh();
  }

  *#walk<T>(after: number | undefined, reverse: boolean, visit: (id: number) => T | undefined): IterableIterator<T> {
    if (reverse) {
      for (let id = Math.min(after ?? Infinity, this.#blocks) - 1; id >= 0; id--) {
        const value = visit(id);
        if (value !== undefined) yield value;
      }
      return;
    }
    for (let id = after === undefined ? 0 : after + 1; id < this.#blocks || this.#more(id); id++) {
      const value = visit(id);
      if (value !== undefined) yield value;
    }
  }

  /** Whether the file has a block of this number by now. */
  #more(id: number): boolean {
    this.#refresh();
    return id < this.#blocks;
  }

  #tooShort(groups: number, size: number): MapError {
    return new MapError("ERR_CORRUPT", `'${this.path}' is cut short: it says that it has ${groups} groups, but has ${size} bytes`, { path: this.path });
  }

  #readOnly(): MapError {
    return readOnlyError("block store", this.path);
  }

  /** `result`, if this handle may write at all. */
  #mustWrite<T>(result: T): T {
    if (!this.writable) throw this.#readOnly();
    return result;
  }

  #damaged(id: number, what: number): MapError {
    return new MapError("ERR_CORRUPT", `block ${id} of '${this.path}' is damaged: ${REASONS[what]}`, { path: this.path });
  }

  #wordError(result: number, id: number): MapError {
    return result === codes.CORRUPT ? this.#damaged(id, DAMAGED_WORD) : nativeError(result, "block store", this.path);
  }
}

/** A descriptor of the file, created whole if it is missing and may be. */
function openOrCreate(path: string, mode: "r" | "rw", blockBytes: number | undefined, maxBlocks = 0, permissions = 0o600): number {
  for (let attempt = 0; ; attempt++) {
    try {
      return openRegular(path, mode).fd;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT" || mode === "r" || blockBytes === undefined || attempt === 3) throw error;
    }
    const shape = newShape(blockBytes, maxBlocks);
    createWhole(path, FIRST_GROUP_OFFSET, permissions, (fd) => {
      const id = randomBytes(16);
      writeFully(fd, encodeHeader({ kind: "block store", id, fields: fieldsOf(shape) }), 0, path);
      writeFully(fd, encodeSealed(0, groupsSalt(crc32c(id))), GROUPS_OFFSET, path);
    });
  }
}
