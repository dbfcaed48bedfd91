/**
 * The control file of a queue: its creation, the slot that makes a handle's life visible to others, and the two locks with
 * their commit cells.
 *
 * Invariants:
 *   - A handle that may write holds a slot: an open-file-description lock on the slot's byte, which the kernel drops when the
 *     process dies, and a generation that no earlier holder of the slot had.
 *   - A lock is taken from its owner only on the kernel's proof that the owner is gone, never by time.
 *   - Order of locks: consumer, then (of a log) retention, then producer. The retention lock and cell are the consumer lock and cell of the
 *     control file, where a work queue has its only consumer side; the groups of a log have theirs in files of their own.
 *
 * @module
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { randomBytes } from "../builtins.ts";
import { check, errno, fromFileSystem, MapError, nativeError } from "../errors.ts";
import { Descriptor, discard, fileSystem, openRegular, readUpTo, reserve, syncDirectory, syncFile, temporaryName, writeFully } from "../files.ts";
import { crc32c, decodeHeader, encodeHeader, HEADER_BYTES, type Header } from "../layout/header.ts";
import {
  BOOT,
  BOOT_BYTES,
  CONSUMER,
  CONSUMER_CELLS,
  CONSUMER_LOCK,
  CONSUMER_WORDS,
  CONTROL_BYTES,
  CONTROL_NAME,
  DURABLE,
  DURABLE_CELLS,
  DURABLE_LOCK,
  DURABLE_WORDS,
  FIRST_BASE,
  GROUP_LEASES,
  GROUP_WORDS,
  LEASE_BYTES,
  LEASE_COUNT,
  LEASES,
  MAX_SPARES,
  NEXT_SEGMENT,
  PRODUCER,
  PRODUCER_CELLS,
  PRODUCER_LOCK,
  PRODUCER_WORDS,
  RECORDS_OFFSET,
  RECOVERY_OFFSET,
  segmentName,
  SLOT,
  SLOT_BYTES,
  SLOT_COUNT,
  SLOT_WORDS,
  SLOTS,
  SPARES,
} from "../layout/queue.ts";
import { type Address, allocateScratch, native, type Scratch } from "../native/native.ts";
import { BELL_OFFSET, codes, lockKinds, mapFlags, type NativeFunctions, SIDE_BYTES, SIDE_VALUES } from "../native/symbols.ts";
import { takeLock, unlock } from "../range_lock.ts";
import { Region } from "../region.ts";
import { bootField, isThisBoot } from "./boot.ts";
import { type Group, groupOwners, openGroup, ownersOf } from "./groups.ts";
import { createSegment } from "./segments.ts";

/** What a queue is made with; part of its files for ever. */
export interface Shape {
  /** Bytes of a segment file, unless a record needs a larger one. */
  readonly segmentBytes: number;
  /** Most bytes of records that the queue holds; 0 = no limit. */
  readonly maxBytes: number;
  /** Free segments that are kept for use instead of being removed. */
  readonly spares: number;
  /** Whether it is a log, read by groups; otherwise a work queue. */
  readonly log: boolean;
  /** Of a log: how many bytes, and milliseconds, records are kept whether groups need them or not; 0 = no limit. */
  readonly retainBytes: number;
  readonly retainMs: number;
}

/** The group that a handle is to consume for. */
export interface GroupRequest {
  readonly name: string;
  /** Where the group starts if it is new. */
  readonly start: "oldest" | "newest";
}

/** The lease table of a consumer side: its file, where it lies there, and the seed of its seals. */
export interface LeasePlace {
  readonly region: Region;
  readonly offset: number;
  readonly salt: number;
}

/** How long a lock may stay another's before `ERR_LOCKED`. */
const LOCK_TIMEOUT_MS = 10_000;
/** A byte behind the file's end whose lock is the right to consume. */
const CONSUME_OFFSET: number = 2 ** 40;
/** How long a sleep on a lock lasts before its owner is looked at. */
const LOCK_SLEEP_MS = 2;

/** Values of one commit cell and where the native functions find them. */
export class Side {
  readonly name: "producer" | "consumer" | "durable" | "retention";
  readonly values: Float64Array;
  readonly lock: number;
  readonly cells: number;
  readonly count: number;
  /** Seed of the cells' checksums. */
  readonly salt: number;
  /** Of the values. */
  readonly address: number;
  /** What `hf_append` and its like are told. */
  readonly side: number;
  /** Behind the values: which version of the cell they are. */
  readonly #version: Float64Array;
  #segment = 0;
  #base = 0;

  constructor(name: Side["name"], lock: number, cells: number, count: number, salt: number, scratch: Scratch, offset: number) {
    this.name = name;
    this.lock = lock;
    this.cells = cells;
    this.count = count;
    this.salt = salt;
    this.values = new Float64Array(scratch.buffer, offset + SIDE_VALUES, count);
    this.#version = new Float64Array(scratch.buffer, offset + SIDE_VALUES + 8 * count, 1);
    this.side = scratch.address + offset;
    this.address = this.side + SIDE_VALUES;
  }

  /** Makes it one for single records, of `owner`; of a consumer with what it has seen of the tail. */
  describe(owner: number, recordSalt: number, tail?: Side): void {
    const hf = native();
    check(hf.hf_side_init(this.side, this.lock, owner, this.cells, this.count, this.salt, recordSalt), this.name);
    if (tail !== undefined) check(hf.hf_side_tail(this.side, tail.cells, tail.address), this.name);
  }

  /** The segment that single records are written to or read from without a look for it; 0 = none. */
  get segment(): number {
    return this.#segment;
  }

  /** Position of the first byte of that segment in a use of it whose end is known; 0 = it is the tail's. */
  get base(): number {
    return this.#base;
  }

  /** Sets the segment, which has to stay mapped until it is another; where its records end in the use that begins at `base`, if that is known. */
  use(id: number, { address, byteLength }: { address: Address; byteLength: number }, end = 0, base = 0): void {
    check(native().hf_side_segment(this.side, id, address, byteLength, end, base), this.name);
    this.#segment = id;
    this.#base = base;
  }

  /** Has single records be appended only up to so many bytes ever pushed. */
  limit(bytes: number): void {
    check(native().hf_side_limit(this.side, bytes), this.name);
  }

  /** Forgets the segment, if it is this one. */
  leave(id: number): void {
    if (this.#segment === id) this.use(0, { address: 0, byteLength: 0 });
  }

  /** Has the next look read the cell, also if nobody has changed it: the values here may have been. */
  forget(): void {
    this.#version[0] = 0;
  }
}

/** The owner word of a slot's holder: unique among all handles that the queue ever had. */
function ownerWord(slot: number, generation: number): number {
  return generation * SLOT_COUNT + slot;
}

/** One handle's use of a control file. */
export class Control {
  readonly directory: string;
  readonly writable: boolean;
  readonly shape: Shape;
  readonly id: Uint8Array;
  /** CRC-32C of the id: seed of every checksum, so that bytes of another queue never pass. */
  readonly salt: number;
  /** Of a log: how often a recovery has built it anew. The names of its groups' files say it too, so that one rename swaps them all. */
  readonly rebuilt: number;
  /** The group that this handle consumes for; none in a work queue. */
  readonly group: Group | undefined;
  /** This handle in lock words and leases; 0 for a handle that only reads. */
  readonly owner: number;
  readonly region: Region;
  readonly producer: Side;
  /** The side that this handle consumes with. Of a log without a group: that of the retention. */
  readonly consumer: Side;
  readonly leasePlace: LeasePlace;
  /** A second copy of the producer cell, for the consumer side. */
  readonly tail: Side;
  /** A second copy of the consumer cell, for the producer side and readers. */
  readonly cursor: Side;
  /** Of a log: the oldest record that is kept, as the place of a cursor. Of a work queue: the consumer side. */
  readonly retention: Side;
  /** A second copy of the retention cell, for readers. Of a work queue: of the consumer cell. */
  readonly kept: Side;
  /** Up to where all records are on storage. */
  readonly durable: Side;
  /** Words that are on their way to or from a mapping. */
  readonly words: Float64Array;
  readonly wordsAddress: number;
  readonly #file: Descriptor;
  #mayConsume = false;
  /** Whether the handle may change the queue: open for writing, not closed, and nothing has failed for good. */
  usable = false;
  readonly #hf: NativeFunctions;
  readonly #scratch: Scratch;

  /** `ERR_KIND` for a work queue where a log is asked for. */
  constructor(directory: string, mode: "r" | "rw", log = false, request?: GroupRequest) {
    const path = join(directory, CONTROL_NAME);
    const file = new Descriptor(openControl(directory, path, mode));
    let region: Region | undefined;
    let group: Group | undefined;
    try {
      const size = fileSystem(path, () => fs.fstatSync(file.fd)).size;
      const header = decodeHeader(readUpTo(file.fd, 0, HEADER_BYTES, path), "queue", path);
      if (size !== CONTROL_BYTES) {
        throw new MapError("ERR_CORRUPT", `'${path}' has ${size} bytes instead of ${CONTROL_BYTES}`, { path });
      }
      this.shape = readShape(header, path);
      if (log && !this.shape.log) {
        throw new MapError("ERR_KIND", `'${directory}' is a work queue, where each record goes to one consumer: open it without "group" and "groups"`, { path: directory });
      }
      this.id = header.id;
      const writable = mode === "rw";
      const flags = writable ? mapFlags.WRITE : 0;
      region = new Region({ fd: file.fd, offset: 0, byteLength: CONTROL_BYTES, flags, writable, what: "queue", path });
      this.directory = directory;
      this.writable = writable;
      this.salt = crc32c(header.id);
      this.rebuilt = header.fields[8] ?? 0;
      this.region = region;
      this.#file = file;
      this.#hf = native();
      this.#scratch = allocateScratch(8 * SIDE_BYTES);
      const side = (name: Side["name"], lock: number, cells: number, count: number, offset: number): Side =>
        new Side(name, this.region.address + lock, this.region.address + cells, count, this.salt, this.#scratch, offset);
      this.producer = side("producer", PRODUCER_LOCK, PRODUCER_CELLS, PRODUCER_WORDS, 0);
      this.tail = side("producer", PRODUCER_LOCK, PRODUCER_CELLS, PRODUCER_WORDS, SIDE_BYTES);
      this.durable = side("durable", DURABLE_LOCK, DURABLE_CELLS, DURABLE_WORDS, 2 * SIDE_BYTES);
      this.words = new Float64Array(this.#scratch.buffer, 7 * SIDE_BYTES, 16);
      this.wordsAddress = this.#scratch.address + 7 * SIDE_BYTES;
      const which = this.shape.log ? "retention" : "consumer";
      this.retention = side(which, CONSUMER_LOCK, CONSUMER_CELLS, CONSUMER_WORDS, 3 * SIDE_BYTES);
      this.kept = side(which, CONSUMER_LOCK, CONSUMER_CELLS, CONSUMER_WORDS, 4 * SIDE_BYTES);
      if (mode === "r") this.#assertTail();
      this.owner = mode === "rw" ? this.#enter() : 0;
      // Without an owner it is written to by nobody: it was written in another boot, and is looked at first.
      group = request === undefined || (writable && this.owner === 0) ? undefined : openGroup(this, request);
      if (group !== undefined) {
        const { region: { address }, salt } = group;
        const groupSide = (offset: number): Side =>
          new Side("consumer", address + CONSUMER_LOCK, address + CONSUMER_CELLS, GROUP_WORDS, salt, this.#scratch, offset);
        this.consumer = groupSide(5 * SIDE_BYTES);
        this.cursor = groupSide(6 * SIDE_BYTES);
      } else {
        this.consumer = this.retention;
        this.cursor = this.kept;
      }
      this.group = group;
      this.usable = this.owner !== 0;
      if (this.usable) {
        this.producer.describe(this.owner, this.salt);
        this.consumer.describe(this.owner, this.salt, this.tail);
      }
      this.leasePlace = group === undefined ? { region, offset: LEASES, salt: this.salt } : { region: group.region, offset: GROUP_LEASES, salt: group.salt };
    } catch (error) {
      group?.close();
      region?.release();
      file.close();
      throw error;
    }
  }

  /**
   * Throws `ESTALE` unless the directory still is this queue's: files of another one that has its name by now are not ours to open, create
   * or remove.
   */
  assertSame(): void {
    const { path } = this.region;
    const own = fileSystem(this.directory, () => fs.fstatSync(this.#file.fd));
    const there = fileSystem(this.directory, () => fs.statSync(path as string, { throwIfNoEntry: false }));
    if (there?.ino === own.ino && there.dev === own.dev) return;
    throw new MapError("ESTALE", `'${this.directory}' is ${there === undefined ? "gone" : "another queue"} by now; open it again`, { path: this.directory });
  }

  /** Whether `close()` was called. */
  get closed(): boolean {
    return this.#file.fd < 0;
  }

  /** Gives up the slot: what this handle has leased is handed out again. */
  close(): void {
    if (this.closed) return;
    this.usable = false;
    this.#file.close(); // drops the slot's lock
    if (this.writable) this.ring(1);
    this.region.release();
    this.group?.close();
  }

  /**
   * Takes the lock of `side` and reads its cell into `side.values`. True if it was taken from an owner that had died: its last
   * change may be half done, as far as the side allows.
   */
  acquire(side: Side, timeoutMs: number = LOCK_TIMEOUT_MS): boolean {
    return this.tryAcquire(side) ? false : this.#acquireSlowly(side, timeoutMs);
  }

  /** Takes the lock of `side` if it is free, and reads its cell. */
  tryAcquire(side: Side): boolean {
    const result = this.#hf.hf_begin(side.lock, this.owner, side.cells, side.count, side.salt, side.address);
    if (result < 0 && result !== codes.BUSY) throw this.error(result, `${side.name} cell`);
    return result === 0;
  }

  /** Publishes `side.values` and releases the lock. True if someone may wait for that: see {@linkcode Control.ring}. */
  commit(side: Side): boolean {
    const result = this.#hf.hf_commit(side.lock, this.owner, side.cells, side.count, side.salt, side.address);
    if (result < 0) throw this.error(result, `${side.name} commit`);
    return result > 0;
  }

  /** Whether this handle has the right to consume. */
  get mayConsume(): boolean {
    return this.#mayConsume;
  }

  /**
   * Takes the right to consume, a lock on a byte of the file that goes with the handle: all together, or one alone. False if another has it in
   * a way that does not allow that.
   */
  takeTurn(alone: boolean): boolean {
    if (this.#mayConsume) return true;
    const fd = this.group?.fd ?? this.#file.fd;
    const result = this.#hf.hf_lock_range(fd, CONSUME_OFFSET, 1, alone ? lockKinds.EXCLUSIVE : lockKinds.SHARED);
    if (result === -errno.EAGAIN) return false;
    if (result < 0) throw this.error(result, "fcntl");
    this.#mayConsume = true;
    return true;
  }

  /** Where those sleep who wait for a record. */
  get bell(): number {
    return this.producer.lock + BELL_OFFSET;
  }

  /** Announces a wait for a record; the bell as it is. Who finds no record then sleeps for as long as the bell is the same. */
  expect(): number {
    const bell = this.#hf.hf_expect(this.producer.lock, 0);
    if (bell < 0) throw this.error(bell, "wait");
    return bell;
  }

  /** Wakes up to `count` of those who wait for a record, if there are any; of a log all, since each group is to have it. */
  ring(count: number): void {
    this.#hf.hf_ring(this.producer.lock, this.shape.log ? 0x7fffffff : Math.min(count, 0x7fffffff));
  }

  /** Publishes `side.values` and keeps the lock. */
  publish(side: Side): void {
    const result = this.#hf.hf_publish(side.lock, this.owner, side.cells, side.count, side.salt, side.address);
    if (result < 0) throw this.error(result, `${side.name} commit`);
  }

  /** Releases the lock without a change: `side.values` are dropped. Does nothing if this handle does not hold it. */
  release(side: Side): void {
    side.forget();
    this.#hf.hf_unlock(side.lock, this.owner);
  }

  /** Reads the cell of `side` into `side.values` without the lock. */
  read(side: Side): void {
    for (;;) {
      const result = this.#hf.hf_cell_read(side.cells, side.count, side.salt, side.address);
      if (result === 0) return;
      // Writers that never pause long enough for one copy: there is progress, so it is only a matter of trying.
      if (result !== -errno.EAGAIN) throw this.error(result, `${side.name} cell`);
    }
  }

  /** Position in front of which a group's log has given up everything; 0 without a group. */
  keptFrom(): number {
    if (this.group === undefined) return 0;
    this.read(this.kept);
    return this.kept.values[CONSUMER.position] as number;
  }

  /** Reads a cell of another side into the memory at `values`, without the lock. */
  readCell(cells: Address, count: number, salt: number, values: Address): void {
    for (;;) {
      const result = this.#hf.hf_cell_read(cells, count, salt, values);
      if (result === 0) return;
      if (result !== -errno.EAGAIN) throw this.error(result, "consumer cell");
    }
  }

  /** Loads `count` words at `offset` of the control file into `words`. */
  loadWords(offset: number, count: number): Float64Array {
    const result = this.#hf.hf_words_load(this.region.address + offset, count, this.wordsAddress);
    if (result < 0) throw this.error(result, "words");
    return this.words;
  }

  /** Stores the first `count` of `words` at `offset` of the control file; the first of them last. */
  storeWords(offset: number, count: number): void {
    const result = this.#hf.hf_words_store(this.region.address + offset, count, this.wordsAddress);
    if (result < 0) throw this.error(result, "words");
  }

  /** A failure of a native step on this queue. */
  error(result: number, step: string): MapError {
    return nativeError(result, step, this.directory);
  }

  /**
   * Whether the handle behind an owner word lives. Its slot's byte is locked for as long as its process has it open; a Worker
   * that ended inside a process that lives (Bun leaves its descriptors open) is told by its thread id.
   */
  alive(owner: number): boolean {
    if (owner === this.owner) return true;
    const slot = owner % SLOT_COUNT;
    const generation = Math.floor(owner / SLOT_COUNT);
    const held = this.#hf.hf_lock_probe(this.#file.fd, slot, 1);
    if (held < 0) throw this.error(held, "fcntl");
    const words = this.loadWords(SLOTS + slot * SLOT_BYTES, SLOT_WORDS);
    // Another generation: the slot was taken again, which takes the death of its former holder. The lock was asked for first,
    // so a new holder that has the lock but not yet its generation counts as the owner, alive, until the next look.
    if (held === 0 || words[SLOT.generation] !== generation) return false;
    const namespace = this.#hf.hf_pid_namespace();
    if (namespace < 0 || namespace !== words[SLOT.namespace]) return true; // ids of another namespace prove nothing
    return this.#hf.hf_thread_alive(words[SLOT.process] as number, words[SLOT.thread] as number) !== 0;
  }

  #acquireSlowly(side: Side, timeoutMs: number): boolean {
    const hf = this.#hf;
    let end = performance.now() + timeoutMs;
    let seen = NaN;
    for (;;) {
      const holder = hf.hf_load64(side.lock, 0);
      if (holder === codes.FAULT) throw this.error(holder, `${side.name} lock`);
      if (holder < 0) throw new MapError("ERR_CORRUPT", `the ${side.name} lock word of '${this.directory}' is no owner's`, { path: this.directory });
      // An exception (a stack overflow, a timeout of node:vm) ended an earlier call before it could release the lock: no program's code
      // runs inside, so this can't be a call within a call. What it left is what a death would have left.
      if (holder === this.owner) return this.#takeOver(side);
      if (holder > 0) {
        const slept = hf.hf_lock_sleep(side.lock, holder, LOCK_SLEEP_MS);
        if (slept === -errno.ETIMEDOUT && !this.alive(holder) && hf.hf_cas64(side.lock, holder, this.owner) === holder) {
          return this.#takeOver(side);
        }
      }
      if (this.tryAcquire(side)) return false;
      // Others that get the lock before this one are no reason to give up: the time counts from the last change.
      const now = holder + this.#progress(side);
      if (now !== seen) {
        seen = now;
        end = performance.now() + timeoutMs;
      } else if (performance.now() > end) throw this.#lockedError(side, timeoutMs);
    }
  }

  /** Reads the cell of a lock that this handle has from a former owner. */
  #takeOver(side: Side): true {
    side.forget();
    const result = this.#hf.hf_cell_read(side.cells, side.count, side.salt, side.address);
    if (result === 0) return true;
    this.release(side);
    throw this.error(result, `${side.name} cell`);
  }

  /** A number that changes with each commit. */
  #progress(side: Side): number {
    const result = this.#hf.hf_cell_read(side.cells, side.count, side.salt, side.address);
    return result < 0 ? result : side.values.reduce((sum, value) => sum + value, 0);
  }

  #lockedError(side: Side, timeoutMs: number): MapError {
    const holder = this.#hf.hf_load64(side.lock, 0);
    const slot = holder % SLOT_COUNT;
    const words = this.loadWords(SLOTS + slot * SLOT_BYTES, SLOT_WORDS);
    return new MapError(
      "ERR_LOCKED",
      `the ${side.name} lock of '${this.directory}' has been held for ${timeoutMs} ms by a living process: ` +
        `pid ${words[SLOT.process]}, thread ${words[SLOT.thread]}, slot ${slot}; is it stopped?`,
      { path: this.directory },
    );
  }

  /**
   * Throws if the cells say that the queue is empty and the segment of the tail is not there, or not of this queue: the control file of another
   * queue would make all records in the directory disappear without a word. In a queue with records, who reads them is told.
   */
  #assertTail(): void {
    for (;;) {
      try {
        this.read(this.kept);
        this.read(this.tail);
      } catch {
        return; // damaged: whoever needs them is told
      }
      const id = this.tail.values[PRODUCER.segment] as number;
      if (this.kept.values[CONSUMER.sequence] !== this.tail.values[PRODUCER.sequence] || this.kept.values[CONSUMER.leased] !== 0) return;
      const path = join(this.directory, segmentName(id));
      try {
        const { fd } = openRegular(path, "r");
        try {
          const header = decodeHeader(readUpTo(fd, 0, HEADER_BYTES, path), "segment", path);
          if (header.fields[0] === id && header.id.every((byte, i) => byte === this.id[i])) return;
        } finally {
          fs.closeSync(fd);
        }
        throw new MapError("ERR_CORRUPT", `'${path}' is not segment ${id} of this queue`, { path });
      } catch (error) {
        // The queue may have gone on since, and the segment be gone.
        this.read(this.tail);
        if (this.tail.values[PRODUCER.segment] !== id) continue;
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
        throw new MapError("ERR_CORRUPT", `'${path}' is missing`, { path, cause: error });
      }
    }
  }

  /**
   * Takes a slot; gives 0 instead if the queue was written in another boot and has to be looked at first (recover.ts). A recovery under way
   * is waited for: it may put another control file in the place of this one, which is `ESTALE`.
   */
  #enter(): number {
    const turn = { fd: this.#file.fd, offset: RECOVERY_OFFSET, length: 1, shared: true, path: this.directory };
    takeLock(turn);
    try {
      this.assertSame();
      const field = readUpTo(this.#file.fd, BOOT, BOOT_BYTES, this.directory);
      if (!isThisBoot(field, this.salt)) return 0;
      this.#assertTail();
      return this.#takeSlot();
    } finally {
      unlock(turn);
    }
  }

  /**
   * The highest generation of a slot that a lock or a lease names. Not above that of the slot, unless this was damaged or did not get to storage
   * before a power loss; a new holder must not be taken for the old one then.
   */
  #generationInUse(slot: number): number {
    let highest = 0;
    const look = (owner: number): void => {
      if (owner > 0 && owner % SLOT_COUNT === slot) highest = Math.max(highest, Math.floor(owner / SLOT_COUNT));
    };
    for (const { lock } of [this.producer, this.retention, this.durable]) look(this.#hf.hf_load64(lock, 0));
    if (this.shape.log) for (const owner of groupOwners(this.directory, this.rebuilt)) look(owner);
    if (this.#hf.hf_cell_read(this.kept.cells, this.kept.count, this.salt, this.kept.address) !== 0) return highest;
    const end = Math.min(LEASE_COUNT, this.kept.values[CONSUMER.leaseEnd] as number);
    if (end === 0) return highest;
    for (const owner of ownersOf(readUpTo(this.#file.fd, LEASES, end * LEASE_BYTES, this.directory))) look(owner);
    return highest;
  }

  #takeSlot(): number {
    const { fd } = this.#file;
    for (let slot = 0; slot < SLOT_COUNT; slot++) {
      const result = this.#hf.hf_lock_range(fd, slot, 1, lockKinds.EXCLUSIVE);
      if (result === -errno.EAGAIN) continue;
      check(result, "fcntl", this.directory);
      const offset = SLOTS + slot * SLOT_BYTES;
      const generation = Math.max(this.loadWords(offset, SLOT_WORDS)[SLOT.generation] as number, this.#generationInUse(slot)) + 1;
      if (generation * SLOT_COUNT + slot > Number.MAX_SAFE_INTEGER) {
        throw new MapError("ERR_CORRUPT", `slot ${slot} of '${this.directory}' has an impossible generation`, { path: this.directory });
      }
      this.words[SLOT.generation] = generation;
      this.words[SLOT.process] = process.pid;
      this.words[SLOT.thread] = this.#hf.hf_thread_id();
      this.words[SLOT.namespace] = Math.max(0, this.#hf.hf_pid_namespace());
      // The generation comes last: with it, all words are those of this holder.
      this.storeWords(offset, SLOT_WORDS);
      return ownerWord(slot, generation);
    }
    throw new MapError("ERR_TOO_MANY_HANDLES", `'${this.directory}' is open ${SLOT_COUNT} times, which is the most there can be`, { path: this.directory });
  }
}

function openControl(directory: string, path: string, mode: "r" | "rw"): number {
  try {
    return openRegular(path, mode).fd;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "ENOTDIR") throw error;
    const stat = fs.statSync(directory, { throwIfNoEntry: false });
    if (stat === undefined) throw error;
    if (!stat.isDirectory()) throw new MapError("ERR_NOT_HOLDFAST", `'${directory}' is a file; a queue is a directory`, { path: directory });
    const empty = fs.readdirSync(directory).length === 0;
    throw new MapError("ERR_NOT_HOLDFAST", `'${directory}' is ${empty ? "an empty directory" : "a directory of something else"}, not a queue: it has no control file`, { path: directory });
  }
}

function readShape({ fields }: Header, path: string): Shape {
  const [segmentBytes = 0, maxBytes = 0, slots, leases, spares = 0, log = 0, retainBytes = 0, retainMs = 0] = fields;
  if (slots !== SLOT_COUNT || leases !== LEASE_COUNT || segmentBytes <= RECORDS_OFFSET || spares < 1 || spares > MAX_SPARES || log > 1) {
    throw new MapError("ERR_CORRUPT", `'${path}' has a shape that no version of holdfast wrote`, { path });
  }
  return { segmentBytes, maxBytes, spares, log: log === 1, retainBytes, retainMs };
}

/**
 * Creates the queue's directory, whole before its name exists. False if something of that name was there or came first; it is
 * left alone.
 */
export function createQueue(directory: string, shape: Shape, permissions: number): boolean {
  const temporary = temporaryName(directory);
  // Who may read the files may list the directory.
  const listing = permissions | ((permissions & 0o444) >> 2) | 0o700;
  fileSystem(directory, () => fs.mkdirSync(temporary, { mode: listing }));
  try {
    const id = randomBytes(16);
    for (let segment = 1; segment <= 1 + shape.spares; segment++) {
      const base = segment === 1 ? FIRST_BASE : 0;
      const path = join(temporary, segmentName(segment));
      createSegment(path, { queueId: id, id: segment, byteLength: shape.segmentBytes, base, permissions, durable: true });
    }
    writeControl(join(temporary, CONTROL_NAME), id, shape, permissions);
    syncDirectory(temporary);
    try {
      fs.renameSync(temporary, directory);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOTEMPTY" || code === "EEXIST" || code === "ENOTDIR") return false;
      throw fromFileSystem(error, directory);
    }
    syncDirectory(join(directory, ".."));
    return true;
  } finally {
    discard(temporary, { recursive: true });
  }
}

function writeControl(path: string, id: Uint8Array, shape: Shape, permissions: number): void {
  const { fd } = openRegular(path, "rw", fs.constants.O_CREAT | fs.constants.O_EXCL, permissions);
  try {
    reserve(fd, CONTROL_BYTES, path);
    const fields = [shape.segmentBytes, shape.maxBytes, SLOT_COUNT, LEASE_COUNT, shape.spares, Number(shape.log), shape.retainBytes, shape.retainMs];
    writeFully(fd, encodeHeader({ kind: "queue", id, fields }), 0, path);
    writeFully(fd, bootField(crc32c(id)), BOOT, path);
    const region = new Region({ fd, offset: 0, byteLength: CONTROL_BYTES, flags: mapFlags.WRITE, writable: true, what: "queue", path });
    try {
      fillControl(region.address, crc32c(id), shape);
    } finally {
      region.release();
    }
    syncFile(fd, path);
  } finally {
    fs.closeSync(fd);
  }
}

function fillControl(address: number, salt: number, shape: Shape): void {
  const hf = native();
  const scratch = allocateScratch(256);
  const values = new Float64Array(scratch.buffer);
  values[PRODUCER.position] = FIRST_BASE + RECORDS_OFFSET;
  values[PRODUCER.segment] = 1;
  values[PRODUCER.offset] = RECORDS_OFFSET;
  values[PRODUCER.sequence] = 1;
  check(hf.hf_cell_init(address + PRODUCER_CELLS, PRODUCER_WORDS, salt, scratch.address), "producer cell");
  values.fill(0);
  values[DURABLE.position] = FIRST_BASE + RECORDS_OFFSET;
  values[DURABLE.segment] = 1;
  values[DURABLE.offset] = RECORDS_OFFSET;
  values[DURABLE.sequence] = 1;
  check(hf.hf_cell_init(address + DURABLE_CELLS, DURABLE_WORDS, salt, scratch.address), "durable cell");
  values.fill(0);
  values[CONSUMER.position] = FIRST_BASE + RECORDS_OFFSET;
  values[CONSUMER.segment] = 1;
  values[CONSUMER.offset] = RECORDS_OFFSET;
  values[CONSUMER.sequence] = 1;
  values[CONSUMER.head] = 1;
  check(hf.hf_cell_init(address + CONSUMER_CELLS, CONSUMER_WORDS, salt, scratch.address), "consumer cell");
  for (let i = 0; i < shape.spares; i++) check(hf.hf_store64(address + SPARES + 8 * i, 2 + i), "spares");
  check(hf.hf_store64(address + NEXT_SEGMENT, 2 + shape.spares), "next segment");
}
