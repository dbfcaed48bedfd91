/**
 * The producer side of a queue: records behind the tail, and the commit that makes them part of it.
 *
 * @module
 */
import { rangeError } from "../errors.ts";
import { CONSUMER, MAX_PAYLOAD_BYTES, PRODUCER, RECORDS_OFFSET } from "../layout/queue.ts";
import { addressOf, byteLengthOf, SMALL_BYTES } from "../native/copy.ts";
import { type Address, arraysAreCheap, native } from "../native/native.ts";
import { codes, type NativeFunctions } from "../native/symbols.ts";
import type { Prepared } from "./codec.ts";
import type { Control } from "./control.ts";
import { writeMark } from "./mark.ts";
import { Outbox } from "./records.ts";
import type { Segments } from "./segments.ts";

// As constants of this module: an imported one is loaded anew at each use in V8.
const { position: POSITION, segment: SEGMENT, offset: OFFSET, sequence: SEQUENCE, bytes: BYTES } = PRODUCER;
const BUSY: number = codes.BUSY;
const MOST_BYTES: number = MAX_PAYLOAD_BYTES;

/** One handle's producer side. */
export class Producer {
  readonly #control: Control;
  readonly #segments: Segments;
  readonly #hf: NativeFunctions;
  readonly #outbox = new Outbox();
  readonly #side: Address;
  readonly #arraysAreCheap = arraysAreCheap();
  /** Up to so many bytes it costs less to copy a payload to where C finds it than to tell C where it is; an empty one is nowhere. */
  readonly #copied: number = this.#arraysAreCheap ? 0 : SMALL_BYTES;
  /** Segments that the push under way has taken. */
  readonly #taken: number[] = [];
  /** Bytes that consumers have removed, as far as this handle has looked: a lower bound. */
  #removedBytes = 0;
  /** Of a log: the bytes that no group needs. */
  removedFromLog: (() => number) | undefined;
  /** Called when a push has gone on to another segment, without a lock. Never fails. */
  afterRoll: (() => void) | undefined;

  constructor(control: Control, segments: Segments) {
    this.#control = control;
    this.#segments = segments;
    this.#hf = native();
    this.#side = control.producer.side;
    const { maxBytes } = control.shape;
    if (maxBytes > 0 && control.usable) control.producer.limit(maxBytes);
  }

  /** Drops what was added and not appended. */
  reset(): void {
    this.#outbox.reset();
  }

  /** Adds a payload to what the next {@linkcode Producer.append} appends. */
  add(prepared: Prepared): void {
    this.#enclose(this.#outbox.place(prepared));
  }

  #enclose(length: number): void {
    const bytes = this.#outbox.enclose(length);
    const { maxBytes } = this.#control.shape;
    if (maxBytes > 0 && bytes > maxBytes) {
      throw rangeError(`a record of ${bytes} bytes never fits into the ${maxBytes} bytes that this queue holds at most`);
    }
  }

  /**
   * Appends a payload. The case that makes the speed is one native call: the lock is free, and there is room in the tail's segment and below the limit,
   * as far as was seen what consumers have removed. Every other goes to {@linkcode Producer.append}.
   */
  appendOne(prepared: Prepared): boolean {
    const length = typeof prepared === "string" ? 0 : byteLengthOf(prepared);
    const result = length > this.#copied ? this.#appendFrom(prepared as Uint8Array, length) : this.#appendCopy(prepared, length);
    if (result === 1) return true;
    if (result === BUSY) {
      this.#outbox.reset();
      this.add(prepared);
      return this.append() === 1;
    }
    if (result < 0) throw this.#control.error(result, "push");
    this.#control.ring(1);
    return true;
  }

  /** By way of memory whose address is known: text, and what is short where it is dear to tell C where an array is. */
  #appendCopy(prepared: Prepared, length: number): number {
    const outbox = this.#outbox;
    outbox.reset();
    const bytes = typeof prepared === "string" ? outbox.placeText(prepared) : outbox.placeBytes(prepared, length);
    return this.#hf.hf_append(this.#side, outbox.payloadAddress, bytes);
  }

  /** From where the payload lies. */
  #appendFrom(payload: Uint8Array, length: number): number {
    // For what is too long, the other way has the words.
    if (length > MOST_BYTES) return BUSY;
    if (this.#arraysAreCheap) return this.#hf.hf_append_bytes(this.#side, payload, length);
    return this.#hf.hf_append(this.#side, addressOf(payload, this.#hf), length);
  }

  /**
   * Appends what was added, as many as fit, with one commit; returns how many. With a mark, which is part of the commit: all, or none if they
   * do not fit.
   */
  append(mark?: Uint8Array): number {
    const control = this.#control;
    const side = control.producer;
    this.#segments.trim();
    const takenOver = control.acquire(side);
    this.#taken.length = 0;
    try {
      if (takenOver) this.#segments.requestSweep();
      const count = this.#write(side.values);
      if (mark !== undefined) {
        if (count < this.#outbox.count) {
          this.#segments.giveUp(this.#taken);
          control.release(side);
          return 0;
        }
        writeMark(control, side.values, mark);
      }
      this.#useTail(side.values);
      // From here on they may be part of the queue, even if the commit reports a failure.
      const rolled = this.#taken.length > 0;
      if (rolled) this.#taken.length = 0;
      if (count === 0 && mark === undefined) control.release(side);
      else if (control.commit(side) && count > 0) control.ring(count);
      if (rolled) this.afterRoll?.();
      return count;
    } catch (error) {
      // Nothing was published: the segments are nobody's again.
      try {
        this.#segments.giveUp(this.#taken);
      } finally {
        control.release(side);
      }
      throw error;
    }
  }

  /** Has {@linkcode Producer.appendOne} write to the segment of the tail in `cell`, which was just looked at. */
  #useTail(cell: Float64Array): void {
    const { producer } = this.#control;
    const id = cell[SEGMENT] as number;
    if (producer.segment !== id) producer.use(id, this.#segments.get(id));
  }

  /** Writes records behind the tail and moves `cell` over them. What it writes is not part of the queue before the commit. */
  #write(cell: Float64Array): number {
    const { salt } = this.#control;
    const { maxBytes } = this.#control.shape;
    const { sizes, count: wanted } = this.#outbox;
    let start = 0;
    let count = 0;
    while (count < wanted) {
      this.#segments.trim();
      const region = this.#segments.get(cell[SEGMENT] as number);
      const offset = cell[OFFSET] as number;
      const room = region.byteLength - offset;
      let bytes = 0;
      let fitting = 0;
      let full = false;
      for (let i = count; i < wanted; i++) {
        const more = bytes + (sizes[i] as number);
        full = maxBytes > 0 && !this.#fits(cell, more, maxBytes);
        if (full || more > room) break;
        this.#outbox.stamp(start + bytes, (cell[SEQUENCE] as number) + fitting);
        bytes = more;
        fitting++;
      }
      if (fitting > 0) {
        const position = cell[POSITION] as number;
        const result = this.#hf.hf_records_write(region.address + offset, this.#outbox.address + start, bytes, salt, position);
        if (result < 0) throw this.#control.error(result, "push");
        cell[POSITION] = position + bytes;
        cell[OFFSET] = offset + bytes;
        cell[SEQUENCE] = (cell[SEQUENCE] as number) + fitting;
        cell[BYTES] = (cell[BYTES] as number) + bytes;
        start += bytes;
        count += fitting;
      }
      if (full || count === wanted) break;
      const id = this.#segments.take(sizes[count] as number, cell[SEGMENT] as number);
      this.#taken.push(id);
      this.#roll(cell, region.byteLength, id);
    }
    return count;
  }

  /** Whether a record fits below the limit; looks at what consumers have removed only if it seems not to. */
  #fits(cell: Float64Array, total: number, maxBytes: number): boolean {
    const bytes = (cell[PRODUCER.bytes] as number) + total;
    if (bytes - this.#removedBytes <= maxBytes) return true;
    this.#removedBytes = this.removedFromLog?.() ?? this.#removedByConsumers();
    this.#control.producer.limit(this.#removedBytes + maxBytes);
    return bytes - this.#removedBytes <= maxBytes;
  }

  #removedByConsumers(): number {
    const { cursor } = this.#control;
    this.#control.read(cursor);
    return (cursor.values[CONSUMER.bytes] as number) - (cursor.values[CONSUMER.leasedBytes] as number);
  }

  /** Moves `cell` to the start of segment `id`. */
  #roll(cell: Float64Array, byteLength: number, id: number): void {
    const from = cell[PRODUCER.segment] as number;
    const end = cell[PRODUCER.offset] as number;
    const base = (cell[PRODUCER.position] as number) - end;
    // Consumers look at these only once a commit has moved the tail behind them.
    this.#segments.setState(id, { base: base + byteLength, end: 0, next: 0 });
    this.#segments.setState(from, { base, end, next: id });
    if (this.#control.shape.log) this.#segments.setTime(from, Date.now());
    cell[PRODUCER.segment] = id;
    cell[PRODUCER.offset] = RECORDS_OFFSET;
    cell[PRODUCER.position] = base + byteLength + RECORDS_OFFSET;
  }
}
