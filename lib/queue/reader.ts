/**
 * Reading records at a place of the queue, with or without the consumer lock.
 *
 * @module
 */
import { MapError } from "../errors.ts";
import { CONSUMER, LEASE_COUNT, PRODUCER, RECORDS_OFFSET } from "../layout/queue.ts";
import { native } from "../native/native.ts";
import { codes, type NativeFunctions } from "../native/symbols.ts";
import type { PayloadCodec } from "./codec.ts";
import type { Control, Side } from "./control.ts";
import { overtaken, skipLost } from "./groups.ts";
import type { LeaseEntry, LeaseTable } from "./leases.ts";
import { Inbox } from "./records.ts";
import type { Segments } from "./segments.ts";

/** Where a record lies. */
export interface Place {
  readonly position: number;
  readonly segment: number;
  readonly offset: number;
  readonly sequence: number;
  readonly bytes: number;
}

/** The place that a consumer cell is at, of a record of `bytes`. */
export function placeOf(cell: Float64Array, bytes: number): Place {
  return {
    position: cell[CONSUMER.position] as number,
    segment: cell[CONSUMER.segment] as number,
    offset: cell[CONSUMER.offset] as number,
    sequence: cell[CONSUMER.sequence] as number,
    bytes,
  };
}

/** Moves a consumer cell over the record of `bytes` that it is at. */
function advance(cell: Float64Array, bytes: number): void {
  cell[CONSUMER.position] = (cell[CONSUMER.position] as number) + bytes;
  cell[CONSUMER.offset] = (cell[CONSUMER.offset] as number) + bytes;
  cell[CONSUMER.sequence] = (cell[CONSUMER.sequence] as number) + 1;
  cell[CONSUMER.bytes] = (cell[CONSUMER.bytes] as number) + bytes;
}

/** Moves `cell` back to a record that it was just moved over. */
export function goBack(cell: Float64Array, place: Place): void {
  cell[CONSUMER.position] = place.position;
  cell[CONSUMER.segment] = place.segment;
  cell[CONSUMER.offset] = place.offset;
  cell[CONSUMER.sequence] = place.sequence;
  cell[CONSUMER.bytes] = (cell[CONSUMER.bytes] as number) - place.bytes;
}

/** One handle's way of reading records. The record that was read last is in the inbox. */
export class Reader {
  readonly inbox: Inbox;
  readonly #control: Control;
  readonly #segments: Segments;
  readonly #leases: LeaseTable;
  readonly #hf: NativeFunctions;

  constructor(control: Control, segments: Segments, leases: LeaseTable, codec: PayloadCodec) {
    this.#control = control;
    this.#segments = segments;
    this.#leases = leases;
    this.inbox = new Inbox(codec);
    this.#hf = native();
  }

  /** Both cells, each whole, the tail not older than the cursor. */
  look(): { cursor: Float64Array; tail: Float64Array } {
    const control = this.#control;
    control.read(control.cursor);
    if (control.group !== undefined) this.#skipLost(control.cursor);
    control.read(control.tail);
    return { cursor: control.cursor.values, tail: control.tail.values };
  }

  /** Moves the copy of an overtaken group's cell to what is kept, as the group's next consumer will. */
  #skipLost(side: Side): void {
    const control = this.#control;
    control.read(control.kept);
    const { values: kept } = control.kept;
    if (!overtaken(side.values, kept)) return;
    skipLost(side.values, kept, this.entries(side.values, 0), this.#leases);
    side.forget();
  }

  /** Moves `cell` over the ends of segments. False if there is no record behind it. */
  atRecord(cell: Float64Array): boolean {
    const control = this.#control;
    const tail = control.tail.values;
    if ((cell[CONSUMER.position] as number) >= (tail[PRODUCER.position] as number)) {
      control.read(control.tail);
      if ((cell[CONSUMER.position] as number) >= (tail[PRODUCER.position] as number)) return false;
    }
    while (cell[CONSUMER.segment] !== tail[PRODUCER.segment]) {
      const id = cell[CONSUMER.segment] as number;
      const { base, end, next } = this.#segments.state(id);
      const offset = cell[CONSUMER.offset] as number;
      if (offset < end) break;
      const { byteLength } = this.#segments.get(id);
      const following = offset === end && next > 0 ? this.#segments.state(next).base : 0;
      if (following !== base + byteLength) throw this.corrupt(`segment ${id} ends at ${end} and goes on in segment ${next}, which does not fit`);
      cell[CONSUMER.segment] = next;
      cell[CONSUMER.offset] = RECORDS_OFFSET;
      cell[CONSUMER.position] = following + RECORDS_OFFSET;
    }
    // The tail's segment may have no record yet, after a compaction.
    return (cell[CONSUMER.position] as number) < (tail[PRODUCER.position] as number);
  }

  /** Reads the record at `cell`, which {@linkcode Reader.atRecord} has said is there; returns its bytes, or a failure. */
  fetchNext(cell: Float64Array): number {
    const tail = this.#control.tail.values;
    const segment = cell[CONSUMER.segment] as number;
    const offset = cell[CONSUMER.offset] as number;
    const end = segment === tail[PRODUCER.segment] ? (tail[PRODUCER.offset] as number) : this.#segments.state(segment).end;
    const total = this.fetchAt(segment, offset, cell[CONSUMER.position] as number, end - offset);
    if (total > 0 && this.inbox.sequence !== cell[CONSUMER.sequence]) return codes.CORRUPT;
    return total;
  }

  /** Reads the next record and moves `cell` over it; undefined if there is none. */
  next(cell: Float64Array): Place | undefined {
    if (!this.atRecord(cell)) return undefined;
    const bytes = this.fetchNext(cell);
    const place = placeOf(cell, bytes);
    if (bytes < 0) throw this.fetchError(bytes, place);
    advance(cell, bytes);
    return place;
  }

  /**
   * Reads up to `max` records of one segment, puts their values behind `values` and moves `cell` over them. False if it can't read the
   * first, or there is none: {@linkcode Reader.next} says why.
   */
  nextMany(cell: Float64Array, max: number, values: unknown[]): boolean {
    if (!this.atRecord(cell)) return false;
    const control = this.#control;
    const tail = control.tail.values;
    const segment = cell[CONSUMER.segment] as number;
    const offset = cell[CONSUMER.offset] as number;
    const position = cell[CONSUMER.position] as number;
    const region = this.#segments.get(segment);
    const end = segment === tail[PRODUCER.segment] ? (tail[PRODUCER.offset] as number) : this.#segments.state(segment).end;
    if (!(offset >= RECORDS_OFFSET && end > offset && end <= region.byteLength)) return false;
    const { inbox } = this;
    const bytes = this.#hf.hf_records_read(inbox.address, inbox.byteLength, region.address + offset, end - offset, max, control.salt, position);
    if (!(bytes > 0)) return false;
    const before = values.length;
    const done = inbox.decodeMany(bytes, cell[CONSUMER.sequence] as number, values);
    cell[CONSUMER.position] = position + done;
    cell[CONSUMER.offset] = offset + done;
    cell[CONSUMER.sequence] = (cell[CONSUMER.sequence] as number) + values.length - before;
    cell[CONSUMER.bytes] = (cell[CONSUMER.bytes] as number) + done;
    return done > 0;
  }

  /** Reads a leased record. False if it was settled or given up since: its segment may be gone, or used for others. */
  fetchLeased(entry: LeaseEntry): boolean {
    try {
      const result = this.fetchAt(entry.segment, entry.offset, entry.position, entry.bytes);
      if (result === entry.bytes && this.inbox.sequence === entry.sequence) return true;
      throw this.fetchError(result < 0 ? result : codes.CORRUPT, entry);
    } catch (error) {
      if (!(error instanceof MapError)) throw error;
      if (this.#leases.sequenceAt(entry.index) !== entry.sequence) return false;
      // Or the log has given it up, and the entry is still there. In full, with its fence: a later use of the segment may have been seen.
      this.#control.kept.forget();
      if (entry.position >= this.#control.keptFrom()) throw error;
      return false;
    }
  }

  /** The entries of the lease table that are in use, for the cursor in `cell`; those of records from position `from` on. */
  entries(cell: Float64Array, from: number = this.#control.keptFrom()): LeaseEntry[] {
    if (cell[CONSUMER.leased] === 0) return [];
    const end = cell[CONSUMER.leaseEnd] as number;
    if (end > LEASE_COUNT) throw this.corrupt(`the lease table is said to end at ${end}`);
    const entries = this.#leases.load(end, cell[CONSUMER.sequence] as number);
    return from === 0 ? entries : entries.filter(({ position }) => position >= from);
  }

  /**
   * The same without the lock: as many as `cell` says, or `ERR_CORRUPT`, so that no leased record is left out without a word. Others only if
   * the cell has changed since, or somebody is in the middle of a change, or died there.
   */
  entriesWithoutLock(cell: Float64Array): LeaseEntry[] {
    const control = this.#control;
    for (let round = 1; ; round++) {
      const entries = this.entries(cell);
      if (entries.length === cell[CONSUMER.leased]) return entries;
      // The lock first: who releases it after this has published before.
      const owner = this.#hf.hf_load64(control.consumer.lock, 0);
      // Of a group with what its log has given up meanwhile.
      const { cursor } = this.look();
      if (owner !== 0 || cursor.some((value, i) => value !== cell[i])) return entries;
      if (round === 3) throw this.corrupt(`${cell[CONSUMER.leased]} records are leased, but the lease table has ${entries.length}`);
    }
  }

  /** The value of the record in the inbox. */
  decoded(sequence: number): unknown {
    try {
      return this.inbox.decode();
    } catch (error) {
      throw this.codecError(sequence, error);
    }
  }

  /** The error of a payload that the codec does not take. */
  codecError(sequence: number, cause: unknown): MapError {
    const { directory } = this.#control;
    return new MapError("ERR_CODEC", `record ${sequence} of '${directory}' can't be decoded and stays in the queue: ${cause}`, { path: directory, cause });
  }

  /** The error of a failed read. */
  fetchError(result: number, place: { segment: number; offset: number; sequence: number }): MapError {
    if (result !== codes.CORRUPT) return this.#control.error(result, "pop");
    return this.corrupt(`record ${place.sequence} in segment ${place.segment} at offset ${place.offset} is damaged`);
  }

  /** The error of damage that was found before anything was changed. */
  corrupt(text: string): MapError {
    const { directory } = this.#control;
    return new MapError("ERR_CORRUPT", `'${directory}': ${text}; nothing was changed`, { path: directory });
  }

  /** Reads the record at a place of a segment into the inbox; returns its bytes, at most `limit`, or a failure. */
  fetchAt(segment: number, offset: number, position: number, limit: number): number {
    const region = this.#segments.get(segment);
    if (!(limit > 0 && offset >= RECORDS_OFFSET && limit <= region.byteLength - offset)) return codes.CORRUPT;
    const source = region.address + offset;
    const { salt } = this.#control;
    const { inbox } = this;
    for (;;) {
      const total = this.#hf.hf_record_read(inbox.address, inbox.byteLength, source, limit, salt, position);
      if (total <= inbox.byteLength) return total < 0 || inbox.fits(total) ? total : codes.CORRUPT;
      inbox.grow(total);
    }
  }
}
