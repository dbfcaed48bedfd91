/**
 * The lease table of a queue: which records are handed out and to whom. All functions but {@linkcode LeaseTable.load} need the
 * consumer lock.
 *
 * Invariant: a record whose sequence is below that of the consumer cell is either removed or has an entry here. An entry whose
 * sequence is not below it was being written when its writer died, and does not count.
 *
 * @module
 */
import { LEASE, LEASE_BYTES, LEASE_COUNT, LEASE_WORDS, MAX_ATTEMPTS } from "../layout/queue.ts";
import { type Address, allocateScratch, native, type Scratch } from "../native/native.ts";
import type { NativeFunctions } from "../native/symbols.ts";
import { MapError } from "../errors.ts";
import type { Control, LeasePlace } from "./control.ts";

/** An entry, taken out of the table. */
export interface LeaseEntry {
  readonly index: number;
  readonly sequence: number;
  readonly owner: number;
  readonly deadline: number;
  readonly attempts: number;
  readonly position: number;
  readonly segment: number;
  readonly offset: number;
  readonly bytes: number;
}

const ATTEMPTS_RANGE: number = MAX_ATTEMPTS + 1;

/** How often owners of leases are checked for life while there is other work, in milliseconds. */
const PROBE_INTERVAL_MS = 20;

/** One handle's view of the lease table. */
export class LeaseTable {
  readonly #control: Control;
  readonly #place: LeasePlace;
  readonly #hf: NativeFunctions;
  #copy: Scratch | undefined;
  #lastProbe = 0;
  /** Owners that were found dead: they never come back. */
  readonly #dead = new Set<number>();

  constructor(control: Control, place: LeasePlace = control.leasePlace) {
    this.#control = control;
    this.#place = place;
    this.#hf = native();
  }

  /** The entries below `end` that are in use, for the cursor at `sequence`. */
  load(end: number, sequence: number): LeaseEntry[] {
    const words = this.#load(end);
    const entries: LeaseEntry[] = [];
    for (let index = 0; index < end; index++) {
      const at = index * LEASE_WORDS;
      const stored = words[at + LEASE.sequence] as number;
      if (stored > 0 && stored < sequence) {
        const entry = this.#openOrRead(words, index);
        if (entry !== undefined) entries.push(entry);
      }
    }
    return entries;
  }

  /** The entry at `index` of `words`; without the lock it may have been copied while it changed, and is looked at again. */
  #openOrRead(words: Float64Array, index: number): LeaseEntry | undefined {
    const sequence = words[index * LEASE_WORDS + LEASE.sequence];
    try {
      return this.#open(words, index);
    } catch (error) {
      if (this.sequenceAt(index) !== sequence) return undefined; // settled meanwhile
      if (!(error instanceof MapError)) throw error;
      return this.read(index);
    }
  }

  /** The sequence of the entry at `index`; 0 if it is free. */
  sequenceAt(index: number): number {
    return this.#loadWords(index * LEASE_BYTES, 1)[LEASE.sequence] as number;
  }

  /** The entry at `index`; undefined if it is free. */
  current(index: number): LeaseEntry | undefined {
    const words = this.#loadWords(index * LEASE_BYTES, LEASE_WORDS);
    return words[LEASE.sequence] === 0 ? undefined : { ...this.#open(words, 0), index };
  }

  /** The entry at `index`, which is in use. */
  read(index: number): LeaseEntry {
    const words = this.#loadWords(index * LEASE_BYTES, LEASE_WORDS);
    return { ...this.#open(words, 0), index };
  }

  /** Writes an entry whole; its sequence last. */
  write(entry: LeaseEntry): void {
    const { words } = this.#control;
    const seal = this.sealOf(entry);
    words[LEASE.sequence] = entry.sequence;
    words[LEASE.owner] = entry.owner;
    words[LEASE.deadline] = entry.deadline;
    words[LEASE.attempts] = seal * ATTEMPTS_RANGE + Math.min(entry.attempts, MAX_ATTEMPTS);
    words[LEASE.position] = entry.position;
    words[LEASE.segment] = entry.segment;
    words[LEASE.offset] = entry.offset;
    words[LEASE.bytes] = entry.bytes;
    this.#storeWords(entry.index * LEASE_BYTES, LEASE_WORDS);
  }

  /**
   * Hands an entry that is in use to another owner. It is nobody's in between, so that a death leaves it to be handed out again.
   */
  transfer(entry: LeaseEntry): void {
    const { words } = this.#control;
    const attempts = this.sealOf(entry) * ATTEMPTS_RANGE + Math.min(entry.attempts, MAX_ATTEMPTS);
    const offset = entry.index * LEASE_BYTES;
    this.giveBack(entry.index);
    words[0] = entry.deadline;
    words[1] = attempts;
    this.#storeWords(offset + 8 * LEASE.deadline, 2);
    words[0] = entry.owner;
    this.#storeWords(offset + 8 * LEASE.owner, 1);
  }

  /** Changes when an entry's lease ends: one store. */
  setDeadline(index: number, deadline: number): void {
    this.#control.words[0] = deadline;
    this.#storeWords(index * LEASE_BYTES + 8 * LEASE.deadline, 1);
  }

  /** Makes an entry nobody's: one store. */
  giveBack(index: number): void {
    this.#control.words[0] = 0;
    this.#storeWords(index * LEASE_BYTES + 8 * LEASE.owner, 1);
  }

  /** Frees an entry: one store. */
  clear(index: number): void {
    this.#control.words[LEASE.sequence] = 0;
    this.#storeWords(index * LEASE_BYTES, 1);
  }

  /** A free index, as low as possible; `end` is the first that was never in use. */
  free(entries: readonly LeaseEntry[], end: number): number {
    if (entries.length < end) {
      const used = new Set(entries.map((entry) => entry.index));
      for (let index = 0; index < end; index++) if (!used.has(index)) return index;
    }
    if (end < LEASE_COUNT) return end;
    const { directory } = this.#control;
    throw new MapError("ERR_TOO_MANY_LEASES", `'${directory}' has ${LEASE_COUNT} records leased, which is the most there can be; acknowledge some`, { path: directory });
  }

  /**
   * The oldest record that may be handed out again: given back, late, or its holder is dead. Holders are checked when `idle`,
   * since nothing else is to be had then, and now and again otherwise: a check is a system call for each.
   */
  again(entries: readonly LeaseEntry[], idle: boolean): LeaseEntry | undefined {
    const now = this.#hf.hf_clock_ms();
    const probe = idle || now - this.#lastProbe >= PROBE_INTERVAL_MS;
    if (probe) {
      this.#lastProbe = now;
      this.#dead.clear();
      for (const owner of new Set(entries.map((entry) => entry.owner))) {
        if (owner !== 0 && !this.#control.alive(owner)) this.#dead.add(owner);
      }
    }
    let oldest: LeaseEntry | undefined;
    for (const entry of entries) {
      if (oldest !== undefined && entry.sequence > oldest.sequence) continue;
      const late = entry.deadline > 0 && entry.deadline <= now;
      if (entry.owner === 0 || late || this.#dead.has(entry.owner)) oldest = entry;
    }
    return oldest;
  }

  /**
   * Frees the entry that was being written for the cursor at `sequence` when its writer died, and those from `free` on, the end of the table in the
   * consumer cell: a `clear` had removed their records; and those of records in front of position `lost`, which a log had given up. Any other
   * odd one is damage. Returns what is in use: how many, their bytes, and the end.
   */
  repair(sequence: number, free: number, lost = 0): { leased: number; bytes: number; end: number; sum: number } {
    const words = this.#load(LEASE_COUNT);
    let leased = 0;
    let bytes = 0;
    let end = 0;
    let sum = 0;
    for (let index = 0; index < LEASE_COUNT; index++) {
      const stored = words[index * LEASE_WORDS + LEASE.sequence] as number;
      if (stored === 0) continue;
      if (stored === sequence || index >= free) {
        this.clear(index);
        continue;
      }
      const entry = this.#open(words, index);
      if (entry.position < lost) {
        this.clear(index);
        continue;
      }
      leased++;
      bytes += entry.bytes;
      sum += this.sealOf(entry);
      end = index + 1;
    }
    return { leased, bytes, end, sum };
  }

  #load(end: number): Float64Array {
    const bytes = Math.max(1, end) * LEASE_BYTES;
    if (this.#copy === undefined || this.#copy.buffer.byteLength < bytes) {
      this.#copy = allocateScratch(Math.min(LEASE_COUNT * LEASE_BYTES, 2 * bytes));
    }
    const result = this.#hf.hf_words_load(this.#address(0), end * LEASE_WORDS, this.#copy.address);
    if (result < 0) throw this.#control.error(result, "lease table");
    return new Float64Array(this.#copy.buffer);
  }

  /** Address of the byte at `offset` of the table. */
  #address(offset: number): Address {
    return this.#place.region.address + this.#place.offset + offset;
  }

  /** Loads `count` words at `offset` of the table into the control's. */
  #loadWords(offset: number, count: number): Float64Array {
    const { words, wordsAddress } = this.#control;
    const result = this.#hf.hf_words_load(this.#address(offset), count, wordsAddress);
    if (result < 0) throw this.#control.error(result, "lease table");
    return words;
  }

  /** Stores the first `count` of the control's words at `offset` of the table; the first of them last. */
  #storeWords(offset: number, count: number): void {
    const result = this.#hf.hf_words_store(this.#address(offset), count, this.#control.wordsAddress);
    if (result < 0) throw this.#control.error(result, "lease table");
  }

  /** The checksum of what does not change while an entry is in use. */
  sealOf(entry: Omit<LeaseEntry, "index">): number {
    const { words, wordsAddress } = this.#control;
    words[0] = entry.sequence;
    words[1] = entry.position;
    words[2] = entry.segment;
    words[3] = entry.offset;
    words[4] = entry.bytes;
    return this.#hf.hf_words_checksum(5, this.#place.salt, wordsAddress);
  }

  /** The entry at `index` of `words`, checked. `words` may be those of the control: they are read before they are used for the seal. */
  #open(words: Float64Array, index: number): LeaseEntry {
    const at = index * LEASE_WORDS;
    const sealed = words[at + LEASE.attempts] as number;
    const entry = {
      index,
      sequence: words[at + LEASE.sequence] as number,
      owner: words[at + LEASE.owner] as number,
      deadline: words[at + LEASE.deadline] as number,
      attempts: sealed % ATTEMPTS_RANGE,
      position: words[at + LEASE.position] as number,
      segment: words[at + LEASE.segment] as number,
      offset: words[at + LEASE.offset] as number,
      bytes: words[at + LEASE.bytes] as number,
    };
    if (Math.floor(sealed / ATTEMPTS_RANGE) !== this.sealOf(entry)) {
      const { directory } = this.#control;
      throw new MapError("ERR_CORRUPT", `lease entry ${index} of '${directory}' is damaged`, { path: directory });
    }
    return entry;
  }
}
