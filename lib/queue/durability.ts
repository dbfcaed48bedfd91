/**
 * What of a queue is on storage, and getting it there.
 *
 * Invariants:
 *   - The mark in the control file never lies: every record in front of it was on storage before the mark was moved. It may lag behind,
 *     also after a power cut, and then only costs a sync of pages that are clean.
 *   - A record counts as on storage only together with all before it, whoever pushed them, and with the name of the file that it is in: what
 *     comes back after a power cut has no gap in front of it.
 *   - After a failed sync nothing that was not on storage before is believed to be there by trying again: Linux drops the write and calls
 *     the page clean (fsync(2), "EIO"; https://wiki.postgresql.org/wiki/Fsync_Errors), so a second sync succeeds and means nothing. The
 *     pages are made dirty once more first, and the records in them are checked.
 *
 * Nothing here waits for another handle: those that sync at the same time do it side by side, and the kernel and the disk join what can be
 * joined (docs/decisions.md has figures). Whoever finds the mark behind its own record needs no sync.
 *
 * @module
 */
import { clearTimeout, setTimeout } from "node:timers";
import { check, MapError } from "../errors.ts";
import { syncDirectory } from "../files.ts";
import { CONSUMER, CONSUMER_WORDS, CONTROL_BYTES, DURABLE, GROUP_BYTES, LEASE_BYTES, PRODUCER } from "../layout/queue.ts";
import { type Address, allocateScratch, native, pageSize, type Scratch } from "../native/native.ts";
import type { NativeFunctions } from "../native/symbols.ts";
import type { Control } from "./control.ts";
import type { Reader } from "./reader.ts";
import type { Segments } from "./segments.ts";

/** When a handle's changes go to storage. */
export interface DurabilityOptions {
  readonly mode: "process" | "batch" | "each";
  /** Of "batch": a sync is due after so many milliseconds, or so many records. */
  readonly everyMs: number;
  readonly everyCount: number;
}

/** A place in the queue, as a side's cell has it. */
interface Place {
  readonly position: number;
  readonly segment: number;
  readonly offset: number;
  readonly sequence: number;
}

/**
 * A sync failed: `code` is `ERR_DURABILITY`, `cause` the error of the system. What was done is in the queue, but may not outlive a power cut.
 * The handle refuses everything but reading and `close()` from then on; one that is opened anew writes the pages once more.
 *
 * @example
 * ```ts
 * import { DurabilityError, Queue } from "holdfast";
 * using queue = Queue.open("/tmp/example-each.queue", { durability: "each" });
 * try {
 *   queue.push("kept");
 *   console.log(queue.pop(), queue.durableSequence);
 * } catch (error) {
 *   if (!(error instanceof DurabilityError)) throw error;
 *   console.error(error.message, error.removed);
 * }
 * ```
 */
export class DurabilityError extends MapError {
  /** The values that the call had removed from the queue when its sync failed: no other call will return them. */
  readonly removed: readonly unknown[];

  /** @internal */
  constructor(message: string, path: string, cause: unknown, removed: readonly unknown[] = []) {
    super("ERR_DURABILITY", message, { path, cause });
    this.removed = removed;
  }

  /** @internal The same with values. */
  with(removed: readonly unknown[]): DurabilityError {
    return removed.length === 0 ? this : new DurabilityError(this.message.slice(this.code.length + 2), this.path as string, this.cause, removed);
  }
}

/** A segment, and the position of its first byte. */
interface Start {
  readonly id: number;
  readonly base: number;
}

// Handles that have something to sync are kept from being collected, and sync at the end of the program.
const due = new Set<Durability>();
let listening = false;

/** One handle's durability. */
export class Durability {
  /** Whether there is anything to do after a change; false with "process". */
  readonly active: boolean;
  readonly #options: DurabilityOptions;
  readonly #control: Control;
  readonly #segments: Segments;
  readonly #reader: Reader;
  readonly #hf: NativeFunctions;
  /** Why a sync failed. From then on nothing that this handle is told can be believed. */
  #failure: unknown;
  #failed = false;
  /** Records pushed and removed since the last sync. */
  #pushed = 0;
  #removed = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When the sync of what is there is due, on the clock of `performance`. */
  #dueAt = Infinity;
  #words: Scratch | undefined;

  constructor(control: Control, segments: Segments, reader: Reader, options: DurabilityOptions) {
    this.#control = control;
    this.#segments = segments;
    this.#reader = reader;
    this.#options = options;
    this.#hf = native();
    this.active = options.mode !== "process";
  }

  /** Throws `ERR_DURABILITY` if a sync has failed. */
  assertSound(): void {
    if (this.#failed) throw this.#error("an earlier sync failed, so that nothing is known of what is on storage; close the queue and open it again");
  }

  /** Sequence of the last record that is on storage with all before it; 0 if there is none. */
  get sequence(): number {
    this.#control.read(this.#control.durable);
    return (this.#control.durable.values[DURABLE.sequence] as number) - 1;
  }

  /** To be called when this handle has pushed `count` records. Throws `ERR_DURABILITY`. */
  pushed(count: number): void {
    this.#pushed += count;
    this.#changed();
  }

  /**
   * To be called when this handle has removed `count` records. Throws `ERR_DURABILITY` with `values`, which nobody else has by now.
   */
  removed(count: number, values: readonly unknown[] = []): void {
    this.#removed += count;
    try {
      this.#changed();
    } catch (error) {
      throw error instanceof DurabilityError ? error.with(values) : error;
    }
  }

  /**
   * To be called when a lease entry is written and the cursor has yet to pass its record. Gets the entry to storage first: the cursor lies on
   * another page, and if that came back from a power cut alone, nobody would know of the record any more.
   */
  leased(index: number): void {
    const { leasePlace, directory } = this.#control;
    const offset = leasePlace.offset + index * LEASE_BYTES;
    const first = offset - (offset % pageSize());
    try {
      check(this.#hf.hf_sync(leasePlace.region.address + first, offset + LEASE_BYTES - first, 1), "msync", directory);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Waits until all that is in the queue now, and all that was removed from it, is on storage. Throws `ERR_DURABILITY`. */
  flush(): void {
    this.#sync(Infinity, true);
  }

  /** Syncs what is due. */
  close(): void {
    if (due.has(this)) this.#sync(this.#own(), this.#removed > 0);
  }

  #changed(): void {
    const { mode, everyCount, everyMs } = this.#options;
    if (mode === "each" || this.#pushed + this.#removed >= everyCount || performance.now() >= this.#dueAt) {
      this.#sync(this.#own(), this.#removed > 0);
    } else if (this.#dueAt === Infinity) this.#wait(everyMs);
  }

  /** Has a sync come after `ms`, or at the end of the program. */
  #wait(ms: number): void {
    this.#dueAt = performance.now() + ms;
    due.add(this);
    if (!listening) {
      listening = true;
      process.on("exit", () => due.forEach((durability) => durability.#syncQuietly()));
    }
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      const rest = this.#dueAt - performance.now();
      if (rest <= 0) this.#syncQuietly();
      // The batch that the timer was set for went earlier; this one has some time left.
      else if (rest !== Infinity) this.#again(rest);
    }, ms).unref();
  }

  #again(ms: number): void {
    this.#dueAt = Infinity;
    this.#wait(Math.ceil(ms));
  }

  /** Where nobody catches: the next call throws. */
  #syncQuietly(): void {
    if (this.#control.closed) return;
    try {
      this.#sync(this.#own(), this.#removed > 0);
    } catch (error) {
      if (!this.#failed) throw error;
    }
  }

  /** Up to where this handle's own records go that were pushed since the last sync; 0 if there are none. */
  #own(): number {
    return this.#pushed === 0 ? 0 : (this.#control.producer.values[PRODUCER.position] as number);
  }

  /** Syncs the records up to a position, with what there is behind them if that is not done yet, and what was removed. */
  #sync(upTo: number, removals: boolean): void {
    this.assertSound();
    const control = this.#control;
    try {
      control.read(control.durable);
      if (control.durable.values[DURABLE.failed] !== 0) this.#mend();
      else {
        if (upTo > (control.durable.values[DURABLE.position] as number)) this.#syncRecords();
        if (removals) this.#syncControl();
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#pushed = 0;
      this.#removed = 0;
      this.#dueAt = Infinity;
      due.delete(this);
      if (this.#failed) clearTimeout(this.#timer);
    }
  }

  #fail(cause: unknown): never {
    this.#failed = true;
    this.#failure = cause;
    this.#control.usable = false;
    try {
      this.#publish(this.#mark(), true);
    } catch {
      // The handle itself knows; others find out for themselves.
    }
    throw this.#error("a sync failed: what was done is in the queue, but it is not known to be on storage");
  }

  #error(text: string): DurabilityError {
    const { directory } = this.#control;
    const reason = this.#failure instanceof Error ? ` (${this.#failure.message})` : "";
    return new DurabilityError(`'${directory}': ${text}${reason}`, directory, this.#failure);
  }

  /** Gets the control file, and the group's, to storage: what was removed, and what is leased. */
  #syncControl(): void {
    for (const { address, byteLength } of this.#controls()) check(this.#hf.hf_sync(address, byteLength, 1), "msync", this.#control.directory);
  }

  /** The group's file first: what is given up by the control file's word, no cursor needs any more. */
  #controls(): { address: Address; byteLength: number }[] {
    const { region, group } = this.#control;
    const own = { address: region.address, byteLength: CONTROL_BYTES };
    return group === undefined ? [own] : [{ address: group.region.address, byteLength: GROUP_BYTES }, own];
  }

  /** Gets all records that are in the queue to storage, and moves the mark behind them. */
  #syncRecords(): void {
    const from = this.#mark();
    const to = this.#tail();
    if (from.position >= to.position) return;
    this.#syncBetween(from, to, false);
    this.#publish(to, false);
  }

  /** The same after a sync that failed: with all pages made dirty again, and the records looked at. */
  #mend(): void {
    const from = this.#mark();
    const to = this.#tail();
    for (const { address, byteLength } of this.#controls()) this.#dirty(address, byteLength);
    this.#syncControl();
    if (from.position < to.position) {
      this.#syncBetween(from, to, true);
      this.#checkRecords(from, to);
    }
    this.#publish(to, false);
  }

  #tail(): Place {
    const { tail } = this.#control;
    // Pairs with the release store of the commits: the records in front of this tail are in the mapping.
    this.#control.read(tail);
    return {
      position: tail.values[PRODUCER.position] as number,
      segment: tail.values[PRODUCER.segment] as number,
      offset: tail.values[PRODUCER.offset] as number,
      sequence: tail.values[PRODUCER.sequence] as number,
    };
  }

  /** The place up to which all is on storage. */
  #mark(): Place {
    const { values } = this.#control.durable;
    return {
      position: values[DURABLE.position] as number,
      segment: values[DURABLE.segment] as number,
      offset: values[DURABLE.offset] as number,
      sequence: values[DURABLE.sequence] as number,
    };
  }

  /** Moves the mark to `place`, unless it is further by now; with `failed` it stays, and says that a sync failed. */
  #publish(place: Place, failed: boolean): void {
    const control = this.#control;
    const side = control.durable;
    try {
      control.acquire(side);
    } catch (error) {
      // An owner that is stopped: the records are where they should be, only the mark is late.
      if (!failed && error instanceof MapError && error.code === "ERR_LOCKED") return;
      throw error;
    }
    try {
      const { values } = side;
      if (failed) values[DURABLE.failed] = 1;
      else {
        values[DURABLE.failed] = 0;
        if (place.position > (values[DURABLE.position] as number)) {
          values[DURABLE.position] = place.position;
          values[DURABLE.segment] = place.segment;
          values[DURABLE.offset] = place.offset;
          values[DURABLE.sequence] = place.sequence;
        }
      }
      control.commit(side);
    } catch (error) {
      control.release(side);
      throw error;
    }
  }

  /** Syncs the records between two places; `again` makes their pages dirty before. */
  #syncBetween(from: Place, to: Place, again: boolean): void {
    const segments = this.#segments;
    const end = to.position - to.offset;
    const same = from.position - from.offset === end;
    let at: Start = same ? { id: to.segment, base: end } : this.#firstToSync(from);
    while (at.base <= end) {
      segments.trim();
      const { id, base } = at;
      const state = this.#unlessGivenUp(at, () => segments.state(id));
      if (state !== undefined) {
        // All of a segment that was gone on to or from: its first page says what follows. Outside of the look, so that a sync that failed is not
        // taken for a segment that was given up, and tried again.
        this.#syncPages(id, same ? from.offset : 0, base === end ? to.offset : state.end, again);
        if (base === end) break;
      }
      const next = state === undefined ? undefined : this.#unlessGivenUp(at, () => this.#startOf(segments.following(id)));
      at = next ?? this.#startOf(this.#head());
    }
    // A record is not there without the name of its file (fsync(2)).
    if (!same) syncDirectory(this.#control.directory);
  }

  /** What `look` finds in a segment; undefined if consumers have given it up meanwhile, so that it is not what it was. */
  #unlessGivenUp<R>({ id, base }: Start, look: () => R): R | undefined {
    let failure: unknown;
    try {
      const found = look();
      if (this.#segments.state(id).base === base) return found;
    } catch (error) {
      failure = error;
    }
    // Positions only grow: the oldest segment that is needed lies behind this one, or nothing has happened that explains the failure.
    if (this.#startOf(this.#head()).base > base) return undefined;
    throw failure ?? this.#reader.corrupt(`segment ${id} has another base than ${base}`);
  }

  #startOf(id: number): Start {
    return { id, base: this.#segments.state(id).base };
  }

  /** The segment that `from` is in, or the oldest that is needed if that one was given up. */
  #firstToSync({ segment, position, offset }: Place): Start {
    const base = position - offset;
    try {
      // Positions are never used again, so it is that segment, and not another use of the file.
      if (this.#segments.state(segment).base === base) return { id: segment, base };
    } catch {
      // The file is gone.
    }
    return this.#startOf(this.#head());
  }

  #head(): number {
    const { kept } = this.#control;
    this.#control.read(kept);
    return kept.values[CONSUMER.head] as number;
  }

  #syncPages(segment: number, start: number, end: number, again: boolean): void {
    const region = this.#segments.get(segment);
    const page = pageSize();
    const first = start - (start % page);
    const address = region.address + first;
    if (again) this.#dirty(address, end - first);
    // By address: the pages of the range and what is needed to find them, as fdatasync(2) does; no descriptor has to stay open.
    check(this.#hf.hf_sync(address, end - first, 1), "msync", region.path);
  }

  /** Stores into each page what is there already: a compare-exchange that changes nothing, whatever others do at the same time. */
  #dirty(address: Address, byteLength: number): void {
    this.#words ??= allocateScratch(16);
    const { buffer, address: words } = this.#words;
    const values = new BigInt64Array(buffer, 0, 2);
    for (let offset = 0; offset < byteLength; offset += pageSize()) {
      check(this.#hf.hf_load64_exact(address + offset, words), "load", this.#control.directory);
      values[1] = values[0] as bigint;
      check(this.#hf.hf_cas64_exact(address + offset, words), "compare-exchange", this.#control.directory);
    }
  }

  /** Throws unless the records between two places are whole: pages that failed to be written may have been dropped. */
  #checkRecords(from: Place, to: Place): void {
    const cell = new Float64Array(CONSUMER_WORDS);
    const { kept } = this.#control;
    this.#control.read(kept);
    if ((kept.values[CONSUMER.position] as number) > from.position) cell.set(kept.values.subarray(0, CONSUMER_WORDS));
    else {
      cell[CONSUMER.position] = from.position;
      cell[CONSUMER.segment] = from.segment;
      cell[CONSUMER.offset] = from.offset;
      cell[CONSUMER.sequence] = from.sequence;
    }
    while ((cell[CONSUMER.position] as number) < to.position && this.#reader.next(cell) !== undefined);
  }
}
