/**
 * Reading ahead: records are looked at in order, by the one consumer there is, and removed later, all at once up to one of them. For who hands
 * records on and hears of them later, many at a time: a lease for each would cost a hundred times as much.
 *
 * Invariant: nothing is removed but what {@linkcode ReadAhead.removeThrough} is told, so a death at any moment loses nothing.
 *
 * @module
 */
import { checkInteger } from "../checks.ts";
import { MapError } from "../errors.ts";
import { CONSUMER, PRODUCER } from "../layout/queue.ts";
import type { Consumer } from "./consumer.ts";
import type { Control } from "./control.ts";
import type { LeaseEntry } from "./leases.ts";
import { goBack, type Reader } from "./reader.ts";
import type { Segments } from "./segments.ts";
import type { Waiting } from "./waiting.ts";

/**
 * A record as {@linkcode ReadAhead.next} gives it.
 *
 * @example
 * ```ts
 * import { type AheadRecord, Queue } from "holdfast";
 * using queue = Queue.open<string>("/tmp/example-ahead-record.queue", { codec: "text", exclusive: true });
 * queue.push("a");
 * const [first]: AheadRecord<string>[] = queue.readAhead().next(1);
 * console.log(first?.sequence, first?.value); // 1 a
 * ```
 */
export interface AheadRecord<T> {
  /** The record's number: 1, 2, 3, … in the order in which records are pushed, never used twice in a queue. */
  readonly sequence: number;
  /** The value that was pushed. */
  readonly value: T;
}

/** What a handle's reading ahead stands on. */
export interface AheadParts {
  readonly control: Control;
  readonly segments: Segments;
  readonly reader: Reader;
  readonly consumer: Consumer;
  readonly waiting: Waiting;
  /** Whether it is this handle's turn to consume. Throws if the queue is closed. */
  readonly turn: () => boolean;
  /** To be called after records were removed. */
  readonly removed: (count: number) => void;
}

/**
 * Records looked at in order, and removed later: see {@linkcode Queue.readAhead}.
 *
 * @example
 * ```ts
 * import { Queue } from "holdfast";
 * using queue = Queue.open<string>("/tmp/example-read-ahead.queue", { codec: "text", exclusive: true });
 * queue.pushMany(["a", "b", "c"]);
 * const ahead = queue.readAhead();
 * console.log(ahead.active); // true
 * const records = ahead.next(2);
 * console.log(records.map(({ value }) => value).join()); // a,b
 * console.log(queue.length); // 3
 * // Handed on; the first has arrived.
 * ahead.removeThrough(1); // 1
 * ahead.rewind(); // something went wrong: once more from the oldest
 * await ahead.wait(); // true
 * console.log(ahead.next(10).map(({ value }) => value).join()); // b,c
 * ```
 */
export class ReadAhead<T> {
  readonly #parts: AheadParts;
  /** Where the next record is read; undefined before the first. */
  #cell: Float64Array | undefined;
  /** Records that a consumer before this one had leased: they come first. The last is the next. */
  #leased: LeaseEntry[] = [];
  /** Where each call of `next` ended that records are still to be removed of: who removes up to there need not read them again. */
  #ends: Float64Array[] = [];

  /** @internal What it takes is not said here, since the declarations of the package would have to show all of the queue's inside. */
  constructor(parts: unknown) {
    this.#parts = parts as AheadParts;
  }

  /** Whether this handle is the one that consumes; false for a standby. Takes the turn if it is free. */
  get active(): boolean {
    return this.#parts.turn();
  }

  /**
   * The next records in order, at most `max`, and no more once they have `maxBytes` of payload together; none if there is nothing more, or another
   * exclusive handle is consuming. They stay in the queue. A record that can't be decoded is `ERR_CODEC` when it is the first.
   */
  next(max: number, maxBytes: number = Infinity): AheadRecord<T>[] {
    checkInteger("max", max, 1, Number.MAX_SAFE_INTEGER);
    const { turn, segments, reader } = this.#parts;
    if (!turn()) return [];
    const cell = (this.#cell ??= this.#start());
    const records: AheadRecord<T>[] = [];
    let bytes = 0;
    try {
      while (records.length < max && bytes < maxBytes) {
        segments.trim();
        const before = cell[CONSUMER.bytes] as number;
        const leased = this.#leased.at(-1);
        if (leased !== undefined) {
          if (reader.fetchLeased(leased)) records.push({ sequence: leased.sequence, value: reader.decoded(leased.sequence) as T });
          this.#leased.pop();
          bytes += leased.bytes;
          continue;
        }
        const values: unknown[] = [];
        // A limit on bytes is kept by taking few at a time.
        const some = Math.min(max - records.length, maxBytes === Infinity ? max : 64);
        if (!this.#step(cell, some, values)) break;
        const start = (cell[CONSUMER.sequence] as number) - values.length;
        values.forEach((value, i) => records.push({ sequence: start + i, value: value as T }));
        bytes += Math.max(0, (cell[CONSUMER.bytes] as number) - before);
      }
    } catch (error) {
      // What was read before is whole; the next call meets the same error.
      if (records.length === 0) throw error;
    }
    reader.inbox.shrink();
    if (records.length > 0) this.#ends.push(cell.slice());
    return records;
  }

  /**
   * Waits until {@linkcode ReadAhead.next} has something to give; false when `timeoutMs` is over. As `Queue.take`, it does not block the event loop,
   * and rejects with the signal's reason, or `ERR_CLOSED`.
   */
  async wait({ timeoutMs, signal }: { timeoutMs?: number | undefined; signal?: AbortSignal | undefined } = {}): Promise<boolean> {
    const { waiting, turn } = this.#parts;
    const ready = (): true | undefined => (turn() && this.#ready() ? true : undefined);
    const outlook = (): { ready: boolean; leaseEndsInMs: number } => ({ ready: this.#ready(), leaseEndsInMs: Infinity });
    return (await waiting.until(ready, timeoutMs, signal, outlook)) ?? false;
  }

  /**
   * Removes all records up to `sequence`, those that a consumer before had leased included, in one step; returns how many. To be called for
   * records that were handed out by {@linkcode ReadAhead.next}, since others would go with them unseen. `ERR_LOCKED` while another handle consumes.
   */
  removeThrough(sequence: number): number {
    checkInteger("sequence", sequence, 0, Number.MAX_SAFE_INTEGER);
    const { turn, consumer, removed, control } = this.#parts;
    if (!turn()) {
      const { directory } = control;
      throw new MapError("ERR_LOCKED", `'${directory}' is consumed by another exclusive consumer; nothing was removed`, { path: directory });
    }
    const end = this.#ends.find((cell) => cell[CONSUMER.sequence] === sequence + 1);
    const count = consumer.removeThrough(sequence, end);
    this.#ends = this.#ends.filter((cell) => (cell[CONSUMER.sequence] as number) > sequence + 1);
    if (count > 0) removed(count);
    return count;
  }

  /** Has {@linkcode ReadAhead.next} begin again with the oldest record that is in the queue. */
  rewind(): void {
    this.#cell = undefined;
    this.#leased = [];
    this.#ends = [];
  }

  #start(): Float64Array {
    const { reader } = this.#parts;
    const cell = reader.look().cursor.slice();
    this.#leased = reader.entriesWithoutLock(cell).toSorted((a, b) => b.sequence - a.sequence);
    return cell;
  }

  #ready(): boolean {
    if (this.#cell === undefined) this.#cell = this.#start();
    if (this.#leased.length > 0) return true;
    const { control } = this.#parts;
    control.read(control.tail);
    return (control.tail.values[PRODUCER.sequence] as number) > (this.#cell[CONSUMER.sequence] as number);
  }

  /** Reads up to `max` records behind `cell` into `values` and moves it over them. False if there is none. */
  #step(cell: Float64Array, max: number, values: unknown[]): boolean {
    const { reader, control } = this.#parts;
    for (;;) {
      const from = cell[CONSUMER.position] as number;
      try {
        if (reader.nextMany(cell, max, values)) return true;
        const place = reader.next(cell);
        if (place === undefined) return false;
        try {
          values.push(reader.decoded(place.sequence));
        } catch (error) {
          goBack(cell, place);
          throw error;
        }
        return true;
      } catch (error) {
        if (!(error instanceof MapError) || error.code === "ERR_CODEC") throw error;
        // A log with limits may have given the record up: the group goes on with the oldest that is kept.
        control.kept.forget();
        const { cursor } = reader.look();
        if (!((cursor[CONSUMER.position] as number) > from)) throw error;
        values.length = 0;
        cell.set(cursor);
      }
    }
  }
}
