/**
 * A persistent first-in-first-out queue that any number of processes and runtimes use at once.
 *
 * @module
 */
import * as fs from "node:fs";
import { boolean, checkInteger, checkOptions, checkPath, integer, oneOf, type OptionCheck } from "./checks.ts";
import { closedError, invalidType, MapError, outOfRange, rangeError, readOnlyError } from "./errors.ts";
import {
  CONSUMER,
  MAX_SPARES,
  PRODUCER,
  RECORDS_OFFSET,
  SWEEP_FLAG,
} from "./layout/queue.ts";
import { native } from "./native/native.ts";
import { codes, type NativeFunctions } from "./native/symbols.ts";
import { type Codec, codecOption, defaultCodec, type JsonValue, type PayloadCodec, type Prepared } from "./queue/codec.ts";
import { Control, createQueue, type Shape } from "./queue/control.ts";
import { type LeaseEntry, LeaseTable } from "./queue/leases.ts";
import { Inbox, Outbox } from "./queue/records.ts";
import { Segments } from "./queue/segments.ts";

/** Options of {@linkcode Queue.open}. Those on sizes are for the creation; a queue that is there keeps its own. */
export interface QueueOptions<T = JsonValue> {
  /** How values become bytes: "json" (the default), "text", "bytes", or a codec of your own. */
  codec?: "json" | "text" | "bytes" | Codec<T>;
  /** Bytes that are reserved at first. Default 2 MiB. Half of it is a segment; larger records get one of their own. */
  capacityBytes?: number;
  /** Most bytes of records (payloads, with 32 to 39 bytes each beside) that the queue holds; then `push` gives false. */
  maxCapacityBytes?: number;
  /** The queue never holds more than `capacityBytes`. */
  fixedSize?: boolean;
  /** "rw" (the default), or "r" to look only. */
  mode?: "r" | "rw";
  /** Access bits of the new files, before the umask. Default 0o600. */
  permissions?: number;
}

/** Options of {@linkcode Queue.lease}. */
export interface LeaseOptions {
  /** Milliseconds after which the record is given to another, whether the holder lives or not. Default: no limit. */
  leaseMs?: number;
}

const DEFAULT_CAPACITY_BYTES = 2 << 20;
const MIN_SEGMENT_BYTES = 4096;
const MAX_SEGMENT_BYTES: number = 64 << 20;

const OPEN_OPTIONS = {
  codec: codecOption as OptionCheck<PayloadCodec>,
  capacityBytes: integer(1),
  maxCapacityBytes: integer(1),
  fixedSize: boolean,
  mode: oneOf("r", "rw"),
  permissions: integer(0, 0o7777),
};

// Some thirty years: beyond, a deadline is no exact number any more.
const LEASE_OPTIONS = { leaseMs: integer(1, 2 ** 40) };

function shapeOf(capacityBytes: number, maxBytes: number): Shape {
  const half = Math.ceil(capacityBytes / 2 / 4096) * 4096;
  const segmentBytes = Math.min(MAX_SEGMENT_BYTES, Math.max(MIN_SEGMENT_BYTES, half));
  // One segment is the tail, the others of the first allocation are spares.
  const spares = Math.min(MAX_SPARES, Math.max(1, Math.ceil(capacityBytes / segmentBytes) - 1));
  return { segmentBytes, maxBytes, spares };
}

/** A record that was read: its place, and its bytes in the inbox. */
interface Place {
  position: number;
  segment: number;
  offset: number;
  sequence: number;
  bytes: number;
}

/** The place that a consumer cell is at, of a record of `bytes`. */
function placeOf(cell: Float64Array, bytes: number): Place {
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

/**
 * A record that is handed out but still in the queue: {@linkcode Lease.ack} removes it, {@linkcode Lease.release} gives it back.
 * If its holder's process or thread dies, or its queue handle is closed, or `leaseMs` is over, another gets it.
 */
export class Lease<T> implements Disposable {
  /** The value that was pushed. */
  readonly value: T;
  /** How often the record has been handed out, this time included. More than 1: an earlier holder may have worked on it. */
  readonly attempts: number;
  readonly #settle: (keep: boolean) => void;
  #settled = false;

  /** @internal */
  constructor(value: T, attempts: number, settle: (keep: boolean) => void) {
    this.value = value;
    this.attempts = attempts;
    this.#settle = settle;
  }

  /** Removes the record. `MapError` `ERR_STALE_LEASE` if it was given to another meanwhile, or settled before. */
  ack(): void {
    this.#settle(false);
    this.#settled = true;
  }

  /** Gives the record back, to be handed out again at once. `ERR_STALE_LEASE` as with {@linkcode Lease.ack}. */
  release(): void {
    this.#settle(true);
    this.#settled = true;
  }

  /** Gives the record back unless it was settled; a lease that is stale by then is left alone. */
  [Symbol.dispose](): void {
    if (this.#settled) return;
    this.#settled = true;
    try {
      this.#settle(true);
    } catch (error) {
      if (!(error instanceof MapError) || (error.code !== "ERR_STALE_LEASE" && error.code !== "ERR_CLOSED")) throw error;
    }
  }
}

/**
 * A first-in-first-out queue in a directory. Any number of processes, threads and runtimes push and pop at once, in one total
 * order. A record is in the queue from the moment that `push` returns: it survives the death of any process. (It survives a
 * power cut once the kernel has written it back; there is no call for that yet.)
 *
 * `push`, `pop` and the other calls take a lock for some hundred nanoseconds. A process that is killed inside leaves nothing half
 * done: the next one takes the lock over on the kernel's word that its owner is dead. One that is stopped inside keeps it, and
 * the others get `MapError` `ERR_LOCKED` after ten seconds, with nothing changed.
 *
 * Errors: `ERR_CLOSED`, `ERR_READ_ONLY`, `ERR_LOCKED`, `ERR_CORRUPT` (a checksum does not hold; nothing is changed), `ERR_FAULT`
 * (a file was cut short), system errors such as `ENOSPC`.
 *
 * @example
 * ```ts
 * import { Queue } from "holdfast";
 * using queue = Queue.open<{ id: number }>("/tmp/example.queue");
 * queue.push({ id: 1 });
 * const lease = queue.lease();
 * if (lease !== undefined) {
 *   console.log(lease.value.id); // 1
 *   lease.ack();
 * }
 * ```
 */
export class Queue<T = JsonValue> implements Disposable {
  /** The queue's directory as given. */
  readonly path: string;
  readonly #control: Control;
  readonly #segments: Segments;
  readonly #leases: LeaseTable;
  readonly #codec: PayloadCodec;
  readonly #hf: NativeFunctions;
  readonly #outbox = new Outbox();
  readonly #inbox = new Inbox();
  /** Segments that the push under way has taken. */
  readonly #taken: number[] = [];
  /** The lease table was written to, and the commit that goes with it is still to come. */
  #halfDone = false;
  /** Bytes that consumers have removed, as far as this handle has looked: a lower bound. */
  #removedBytes = 0;

  private constructor(path: string, control: Control, codec: PayloadCodec) {
    this.path = path;
    this.#control = control;
    this.#segments = new Segments(control);
    this.#leases = new LeaseTable(control);
    this.#codec = codec;
    this.#hf = native();
    if (control.writable) this.#removedBytes = this.#countRemoved();
  }

  /**
   * Opens the queue at `path`, a directory; in mode "rw" it is created if there is nothing of that name.
   *
   * Errors: `MapError` `ENOENT` (mode "r"), `ERR_NOT_HOLDFAST`, `ERR_VERSION`, `ERR_KIND`, `ERR_CORRUPT` for something that is
   * no sound queue, which is left as it is; `ENOSPC` if the first allocation does not fit, with nothing left behind.
   */
  static open<T = JsonValue>(path: string | URL, options?: QueueOptions<T>): Queue<T> {
    const directory = checkPath("path", path);
    const given = checkOptions("Queue.open()", options, OPEN_OPTIONS);
    const { codec = defaultCodec, capacityBytes = DEFAULT_CAPACITY_BYTES, maxCapacityBytes, fixedSize = false } = given;
    const { mode = "rw", permissions = 0o600 } = given;
    if (fixedSize && maxCapacityBytes !== undefined && maxCapacityBytes !== capacityBytes) {
      throw rangeError(`"maxCapacityBytes" ${maxCapacityBytes} contradicts "fixedSize" with "capacityBytes" ${capacityBytes}`);
    }
    if (maxCapacityBytes !== undefined && maxCapacityBytes < capacityBytes && given.capacityBytes !== undefined) {
      throw outOfRange("maxCapacityBytes", `at least "capacityBytes", ${capacityBytes}`, maxCapacityBytes);
    }
    native();
    const maxBytes = fixedSize ? capacityBytes : (maxCapacityBytes ?? 0);
    const shape = shapeOf(maxBytes === 0 ? capacityBytes : Math.min(capacityBytes, maxBytes), maxBytes);
    if (mode === "rw" && !fs.existsSync(directory)) createQueue(directory, shape, permissions);
    return new Queue<T>(directory, new Control(directory, mode), codec);
  }

  /** Whether `close()` was called. */
  get closed(): boolean {
    return this.#control.closed;
  }

  /** Records in the queue, those that are leased included. Constant time. */
  get length(): number {
    const { cursor, tail } = this.#look();
    return (tail[PRODUCER.sequence] as number) - (cursor[CONSUMER.sequence] as number) + (cursor[CONSUMER.leased] as number);
  }

  /** Whether there is no record in the queue, leased or not. */
  get isEmpty(): boolean {
    return this.length === 0;
  }

  /** Bytes of the records in the queue, with their headers. */
  get byteLength(): number {
    const { cursor, tail } = this.#look();
    return (tail[PRODUCER.bytes] as number) - (cursor[CONSUMER.bytes] as number) + (cursor[CONSUMER.leasedBytes] as number);
  }

  /** Appends a value. False if the queue is full (`maxCapacityBytes`, `fixedSize`). `RangeError` if it could never fit. */
  push(value: T): boolean {
    this.#writable();
    const prepared = this.#codec.prepare(value);
    // The program's own code may have run, and used or closed the queue.
    this.#writable();
    this.#outbox.reset();
    this.#encode(prepared);
    return this.#append() === 1;
  }

  /**
   * Appends values, one behind the other with nothing of others in between, and all visible at once. Returns how many: fewer than
   * given only if the queue is full.
   */
  pushMany(values: readonly T[]): number {
    this.#writable();
    if (!Array.isArray(values)) throw invalidType("values", "an array", values);
    // Array.from takes a hole for undefined, which no codec takes.
    const prepared = Array.from(values, (value) => this.#prepare(value));
    this.#writable();
    this.#outbox.reset();
    for (const payload of prepared) this.#encode(payload);
    return prepared.length === 0 ? 0 : this.#append();
  }

  /** Removes and returns the oldest value; undefined if there is none. A record that can't be decoded stays. */
  pop(): T | undefined {
    return this.#codec.builtIn ? this.#removeOne() : this.tryPop((value) => value);
  }

  /** Removes and returns up to `max` values, the oldest first. */
  popMany(max: number): T[] {
    checkInteger("max", max, 1, Number.MAX_SAFE_INTEGER);
    if (this.#codec.builtIn) return this.#remove(max);
    const values: T[] = [];
    while (values.length < max) {
      try {
        const lease = this.lease();
        if (lease === undefined) break;
        lease.ack();
        values.push(lease.value);
      } catch (error) {
        // What was taken before is the caller's; the next call meets the same error.
        if (values.length === 0) throw error;
        break;
      }
    }
    return values;
  }

  /**
   * Calls `use` with the oldest value and removes it if `use` returns; if it throws, the record stays and is handed out again.
   * Returns what `use` returned; undefined if there is no record.
   */
  tryPop<R>(use: (value: T) => R): R | undefined {
    if (typeof use !== "function") throw invalidType("use", "a function", use);
    const lease = this.lease();
    if (lease === undefined) return undefined;
    using held = lease;
    const result = use(held.value);
    held.ack();
    return result;
  }

  /** The value that `pop` would return, left in the queue; undefined if there is none. */
  peek(): T | undefined {
    for (const value of this.#walk(false)) return value;
    return undefined;
  }

  /**
   * Hands out the oldest record without removing it: see {@linkcode Lease}. Undefined if there is none to hand out. Records whose
   * holder died come first, as soon as the kernel reports the death.
   */
  lease(options?: LeaseOptions): Lease<T> | undefined {
    const { leaseMs } = checkOptions("lease()", options, LEASE_OPTIONS);
    const control = this.#writable();
    const entry = this.#consuming(() => this.#grant(leaseMs ?? 0));
    if (entry === undefined) return undefined;
    const settle = (keep: boolean): void => this.#settle(entry, keep);
    let value: T;
    try {
      value = this.#inbox.decode(this.#codec) as T;
    } catch (error) {
      if (!control.closed) settle(true);
      throw this.#codecError(entry.sequence, error);
    }
    return new Lease(value, entry.attempts, settle);
  }

  /** Values from front to back, leased ones included, without removing them. Records removed meanwhile may be passed over. */
  [Symbol.iterator](): IterableIterator<T> {
    this.#open();
    return this.#walk(true);
  }

  /** Ends the use of the queue. What this handle has leased is handed out again. Closing again does nothing. */
  close(): void {
    this.#segments.close();
    this.#control.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #open(): Control {
    if (this.#control.closed) throw closedError("queue", this.path);
    return this.#control;
  }

  #writable(): Control {
    const control = this.#open();
    if (!control.writable) throw readOnlyError("queue", this.path);
    return control;
  }

  /** Both cells, each whole, the tail not older than the cursor. */
  #look(): { cursor: Float64Array; tail: Float64Array } {
    const control = this.#open();
    control.read(control.cursor);
    control.read(control.tail);
    return { cursor: control.cursor.values, tail: control.tail.values };
  }

  #codecError(sequence: number, cause: unknown): MapError {
    return new MapError("ERR_CODEC", `record ${sequence} of '${this.path}' can't be decoded and stays in the queue: ${cause}`, { path: this.path, cause });
  }

  #corrupt(text: string): MapError {
    return new MapError("ERR_CORRUPT", `'${this.path}': ${text}; nothing was changed`, { path: this.path });
  }

  // ---- producer side ------------------------------------------------------------------------------------------------

  /** A payload that is kept while others are prepared: a codec of one's own may use its memory again. */
  #prepare(value: T): Prepared {
    const prepared = this.#codec.prepare(value);
    return this.#codec.builtIn || typeof prepared === "string" ? prepared : prepared.slice();
  }

  /** Puts a payload into the outbox. */
  #encode(prepared: Prepared): void {
    const bytes = this.#outbox.add(prepared);
    const { maxBytes } = this.#control.shape;
    if (maxBytes > 0 && bytes > maxBytes) {
      throw rangeError(`a record of ${bytes} bytes never fits into the ${maxBytes} bytes that this queue holds at most`);
    }
  }

  /** Bytes that consumers have removed by now. */
  #countRemoved(): number {
    const { cursor } = this.#control;
    this.#control.read(cursor);
    return (cursor.values[CONSUMER.bytes] as number) - (cursor.values[CONSUMER.leasedBytes] as number);
  }

  /** Writes the outbox's records, as many as fit, and publishes them with one commit. */
  #append(): number {
    const control = this.#control;
    const side = control.producer;
    this.#segments.trim();
    const takenOver = control.acquire(side);
    this.#taken.length = 0;
    try {
      if (takenOver) this.#requestSweep();
      const count = this.#write(side.values);
      // From here on they may be part of the queue, even if the commit reports a failure.
      if (this.#taken.length > 0) this.#taken.length = 0;
      if (count === 0) control.release(side);
      else control.commit(side);
      return count;
    } catch (error) {
      // Nothing was published: the segments are nobody's again.
      try {
        this.#giveUp(this.#taken);
      } finally {
        control.release(side);
      }
      throw error;
    }
  }

  /** Writes records behind the tail and moves `cell` over them. What it writes is not part of the queue before the commit. */
  #write(cell: Float64Array): number {
    const { salt } = this.#control;
    const { maxBytes } = this.#control.shape;
    const { sizes } = this.#outbox;
    let region = this.#segments.get(cell[PRODUCER.segment] as number);
    let start = 0;
    let count = 0;
    for (; count < sizes.length; count++) {
      const total = sizes[count] as number;
      if (maxBytes > 0 && !this.#fits(cell, total, maxBytes)) break;
      if ((cell[PRODUCER.offset] as number) + total > region.byteLength) {
        const id = this.#segments.take(total, cell[PRODUCER.segment] as number);
        this.#taken.push(id);
        this.#roll(cell, region.byteLength, id);
        region = this.#segments.get(id);
      }
      const position = cell[PRODUCER.position] as number;
      const offset = cell[PRODUCER.offset] as number;
      const sequence = cell[PRODUCER.sequence] as number;
      const source = this.#outbox.stamp(start, sequence);
      const result = this.#hf.hf_record_write(region.address + offset, source, total, salt, position);
      if (result < 0) throw this.#control.error(result, "push");
      cell[PRODUCER.position] = position + total;
      cell[PRODUCER.offset] = offset + total;
      cell[PRODUCER.sequence] = sequence + 1;
      cell[PRODUCER.bytes] = (cell[PRODUCER.bytes] as number) + total;
      start += total;
    }
    return count;
  }

  /** Whether a record fits below the limit; looks at what consumers have removed only if it seems not to. */
  #fits(cell: Float64Array, total: number, maxBytes: number): boolean {
    const bytes = (cell[PRODUCER.bytes] as number) + total;
    if (bytes - this.#removedBytes <= maxBytes) return true;
    this.#removedBytes = this.#countRemoved();
    return bytes - this.#removedBytes <= maxBytes;
  }

  /** Moves `cell` to the start of segment `id`. */
  #roll(cell: Float64Array, byteLength: number, id: number): void {
    const from = cell[PRODUCER.segment] as number;
    const end = cell[PRODUCER.offset] as number;
    const base = (cell[PRODUCER.position] as number) - end;
    // Consumers look at these only once a commit has moved the tail behind them.
    this.#segments.setState(id, { base: base + byteLength, end: 0, next: 0 });
    this.#segments.setState(from, { base, end, next: id });
    cell[PRODUCER.segment] = id;
    cell[PRODUCER.offset] = RECORDS_OFFSET;
    cell[PRODUCER.position] = base + byteLength + RECORDS_OFFSET;
  }

  // ---- consumer side ------------------------------------------------------------------------------------------------

  /**
   * Runs `change` with the consumer lock and its cell in `control.consumer.values`. `change` commits, which releases the lock, or
   * leaves the cell as it is and releases the lock itself.
   */
  #consuming<R>(change: () => R): R {
    const control = this.#control;
    this.#segments.trim();
    const takenOver = control.acquire(control.consumer);
    try {
      if (takenOver) this.#repair();
      this.#halfDone = false;
      return change();
    } catch (error) {
      try {
        // Whatever was begun is taken back, as after a death.
        if (this.#halfDone) {
          control.read(control.consumer);
          this.#repair();
        }
      } finally {
        control.release(control.consumer);
      }
      throw error;
    }
  }

  /** Makes the lease table and its counts agree again, after an owner died between two of its steps. */
  #repair(): void {
    this.#requestSweep();
    const control = this.#control;
    const cell = control.consumer.values;
    const { leased, bytes, end } = this.#leases.repair(cell[CONSUMER.sequence] as number);
    if (leased === cell[CONSUMER.leased] && bytes === cell[CONSUMER.leasedBytes] && end <= (cell[CONSUMER.leaseEnd] as number)) return;
    cell[CONSUMER.leased] = leased;
    cell[CONSUMER.leasedBytes] = bytes;
    cell[CONSUMER.leaseEnd] = end;
    control.publish(control.consumer);
  }

  /**
   * Moves `cell` over the ends of segments. False if there is no record behind it.
   */
  #atRecord(cell: Float64Array): boolean {
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
      if (following !== base + byteLength) throw this.#corrupt(`segment ${id} ends at ${end} and goes on in segment ${next}, which does not fit`);
      cell[CONSUMER.segment] = next;
      cell[CONSUMER.offset] = RECORDS_OFFSET;
      cell[CONSUMER.position] = following + RECORDS_OFFSET;
    }
    return true;
  }

  /** Reads the record at a place of a segment into the inbox; returns its bytes, or a failure. */
  #fetch(segment: number, offset: number, position: number, limit: number): number {
    if (limit <= 0) return codes.CORRUPT;
    const source = this.#segments.get(segment).address + offset;
    const { salt } = this.#control;
    const inbox = this.#inbox;
    for (;;) {
      const total = this.#hf.hf_record_read(inbox.address, inbox.byteLength, source, limit, salt, position);
      if (total <= inbox.byteLength) return total < 0 || inbox.fits(total) ? total : codes.CORRUPT;
      inbox.grow(total);
    }
  }

  /** Reads the record at the cursor in `cell`, which {@linkcode #atRecord} has said is there. */
  #fetchNext(cell: Float64Array): number {
    const tail = this.#control.tail.values;
    const segment = cell[CONSUMER.segment] as number;
    const offset = cell[CONSUMER.offset] as number;
    const end = segment === tail[PRODUCER.segment] ? (tail[PRODUCER.offset] as number) : this.#segments.state(segment).end;
    const total = this.#fetch(segment, offset, cell[CONSUMER.position] as number, end - offset);
    if (total > 0 && this.#inbox.sequence !== cell[CONSUMER.sequence]) return codes.CORRUPT;
    return total;
  }

  #fetchError(result: number, place: { segment: number; offset: number; sequence: number }): MapError {
    if (result !== codes.CORRUPT) return this.#control.error(result, "pop");
    return this.#corrupt(`record ${place.sequence} in segment ${place.segment} at offset ${place.offset} is damaged`);
  }

  /** Reads the next record and moves `cell` over it; undefined if there is none. */
  #next(cell: Float64Array): Place | undefined {
    if (!this.#atRecord(cell)) return undefined;
    const bytes = this.#fetchNext(cell);
    const place = placeOf(cell, bytes);
    if (bytes < 0) throw this.#fetchError(bytes, place);
    advance(cell, bytes);
    return place;
  }

  /** Moves `cell` back to a record that {@linkcode #next} has just moved it over. */
  #back(cell: Float64Array, place: Place): void {
    cell[CONSUMER.position] = place.position;
    cell[CONSUMER.segment] = place.segment;
    cell[CONSUMER.offset] = place.offset;
    cell[CONSUMER.sequence] = place.sequence;
    cell[CONSUMER.bytes] = (cell[CONSUMER.bytes] as number) - place.bytes;
  }

  /** The entries of the lease table that are in use. */
  #entries(cell: Float64Array): LeaseEntry[] {
    if (cell[CONSUMER.leased] === 0) return [];
    return this.#leases.load(cell[CONSUMER.leaseEnd] as number, cell[CONSUMER.sequence] as number);
  }

  /** The same with the lock held, when they must be as many as the cell says. */
  #lockedEntries(cell: Float64Array): LeaseEntry[] {
    const entries = this.#entries(cell);
    if (entries.length !== cell[CONSUMER.leased]) {
      throw this.#corrupt(`${cell[CONSUMER.leased]} records are leased, but the lease table has ${entries.length}`);
    }
    return entries;
  }

  /** The lease entry that goes first, with its record in the inbox. */
  #again(entries: readonly LeaseEntry[], cell: Float64Array): LeaseEntry | undefined {
    if (entries.length === 0) return undefined;
    const entry = this.#leases.again(entries, !this.#atRecord(cell));
    if (entry === undefined) return undefined;
    return this.#fetchLeased(entry) ? entry : undefined;
  }

  /**
   * As {@linkcode #remove} of one record, for the case that makes the speed: the lock is free, nothing is leased. Other cases go there.
   */
  #removeOne(): T | undefined {
    const control = this.#writable();
    const side = control.consumer;
    const cell = side.values;
    this.#segments.trim();
    if (!control.tryAcquire(side)) return this.#remove(1)[0];
    if (cell[CONSUMER.leased] !== 0) {
      control.release(side);
      return this.#remove(1)[0];
    }
    try {
      this.#halfDone = false;
      if (!this.#atRecord(cell)) {
        control.release(side);
        return undefined;
      }
      const bytes = this.#fetchNext(cell);
      if (bytes < 0) throw this.#fetchError(bytes, placeOf(cell, bytes));
      const value = this.#decoded(cell[CONSUMER.sequence] as number);
      advance(cell, bytes);
      if (cell[CONSUMER.head] === cell[CONSUMER.segment]) control.commit(side);
      else this.#finish(cell, []);
      this.#inbox.shrink();
      return value;
    } catch (error) {
      control.release(side);
      throw error;
    }
  }

  /** Removes up to `max` records. The codec is a built-in: it runs inside the lock, so that a record it refuses stays. */
  #remove(max: number): T[] {
    this.#writable();
    return this.#consuming(() => {
      const cell = this.#control.consumer.values;
      const values: T[] = [];
      let entries = this.#lockedEntries(cell);
      while (values.length < max) {
        const entry = this.#again(entries, cell);
        const place = entry ?? this.#next(cell);
        if (place === undefined) break;
        try {
          values.push(this.#inbox.decode(this.#codec) as T);
        } catch (error) {
          if (values.length === 0) throw this.#codecError(place.sequence, error);
          if (entry === undefined) this.#back(cell, place);
          break;
        }
        if (entry !== undefined) {
          this.#forget(entry, cell);
          entries = entries.filter((other) => other !== entry);
        }
      }
      this.#inbox.shrink();
      if (values.length > 0) this.#finish(cell, entries);
      else this.#control.release(this.#control.consumer);
      return values;
    });
  }

  /** Takes an entry out of the lease table and out of the counts. */
  #forget(entry: LeaseEntry, cell: Float64Array): void {
    this.#halfDone = true;
    this.#leases.clear(entry.index);
    const leased = (cell[CONSUMER.leased] as number) - 1;
    cell[CONSUMER.leased] = leased;
    cell[CONSUMER.leasedBytes] = (cell[CONSUMER.leasedBytes] as number) - entry.bytes;
    if (leased === 0) cell[CONSUMER.leaseEnd] = 0;
    else if (entry.index === (cell[CONSUMER.leaseEnd] as number) - 1) cell[CONSUMER.leaseEnd] = entry.index;
  }

  #grant(leaseMs: number): LeaseEntry | undefined {
    const cell = this.#control.consumer.values;
    const entries = this.#lockedEntries(cell);
    const { owner } = this.#control;
    const deadline = leaseMs === 0 ? 0 : this.#hf.hf_clock_ms() + leaseMs;
    const again = this.#again(entries, cell);
    if (again !== undefined) {
      const entry = { ...again, owner, deadline, attempts: again.attempts + 1 };
      this.#leases.write(entry);
      this.#control.release(this.#control.consumer);
      return entry;
    }
    const index = this.#leases.free(entries, cell[CONSUMER.leaseEnd] as number);
    const place = this.#next(cell);
    if (place === undefined) {
      this.#control.release(this.#control.consumer);
      return undefined;
    }
    const entry: LeaseEntry = { ...place, index, owner, deadline, attempts: 1 };
    // Counts only once the commit has moved the cursor over the record.
    this.#halfDone = true;
    this.#leases.write(entry);
    cell[CONSUMER.leased] = (cell[CONSUMER.leased] as number) + 1;
    cell[CONSUMER.leasedBytes] = (cell[CONSUMER.leasedBytes] as number) + entry.bytes;
    cell[CONSUMER.leaseEnd] = Math.max(cell[CONSUMER.leaseEnd] as number, index + 1);
    this.#control.commit(this.#control.consumer);
    return entry;
  }

  /** Acknowledges a lease, or gives it back. */
  #settle(lease: LeaseEntry, keep: boolean): void {
    this.#writable();
    this.#consuming(() => {
      const entry = this.#leases.read(lease.index);
      if (entry.sequence !== lease.sequence || entry.owner !== lease.owner || entry.attempts !== lease.attempts) {
        throw new MapError("ERR_STALE_LEASE", `record ${lease.sequence} of '${this.path}' is no longer leased to this holder`, { path: this.path });
      }
      if (keep) {
        this.#leases.write({ ...entry, owner: 0, deadline: 0 });
        this.#control.release(this.#control.consumer);
        return;
      }
      const cell = this.#control.consumer.values;
      // The other leases matter only if a segment could be given up.
      const crossed = cell[CONSUMER.head] !== cell[CONSUMER.segment];
      const others = crossed ? this.#lockedEntries(cell).filter((other) => other.index !== entry.index) : [];
      this.#forget(entry, cell);
      this.#finish(cell, others);
    });
  }

  /** Commits `cell`, with the segments given up that neither the cursor nor a lease needs any more. */
  #finish(cell: Float64Array, leased: readonly LeaseEntry[]): void {
    const control = this.#control;
    let head = cell[CONSUMER.head] as number;
    if (head === cell[CONSUMER.segment] || leased.some((entry) => entry.segment === head)) {
      control.commit(control.consumer);
      return;
    }
    const free: number[] = [];
    while (head !== cell[CONSUMER.segment] && !leased.some((entry) => entry.segment === head)) {
      free.push(head);
      head = this.#segments.state(head).next;
    }
    cell[CONSUMER.head] = head;
    // First nobody refers to them, then they are used again; still inside the lock, which keeps a sweep out.
    control.publish(control.consumer);
    this.#halfDone = false;
    this.#giveUp(free);
    this.#sweepIfAsked(cell);
    control.release(control.consumer);
  }

  /**
   * Makes segments that nobody refers to spares, or removes them. Never fails: what the caller did is done and must be reported. A
   * file that can't be removed now is left to a sweep.
   */
  #giveUp(ids: readonly number[]): void {
    for (const id of ids) {
      try {
        this.#segments.recycle(id);
      } catch {
        this.#requestSweep();
      }
    }
  }

  #requestSweep(): void {
    this.#hf.hf_store64(this.#control.region.address + SWEEP_FLAG, 1);
  }

  /**
   * Removes segment files that a dead process left, if the producer lock is free. The caller holds the consumer lock. Never fails: the
   * flag stays for the next time.
   */
  #sweepIfAsked(cell: Float64Array): void {
    const control = this.#control;
    const flag = control.region.address + SWEEP_FLAG;
    if (this.#hf.hf_load64(flag, 0) === 0) return;
    try {
      if (!control.tryAcquire(control.producer)) return;
      try {
        const last = control.producer.values[PRODUCER.segment] as number;
        const live = new Set<number>([last]);
        for (let id = cell[CONSUMER.head] as number; id !== last; id = this.#segments.state(id).next) live.add(id);
        this.#segments.sweep(live);
        this.#hf.hf_store64(flag, 0);
      } finally {
        control.release(control.producer);
      }
    } catch {
      // Damage or a failing disk: the operations that meet it say so.
    }
  }

  // ---- looking without a lock ---------------------------------------------------------------------------------------

  /** Values from front to back; with `all` the ones that others hold as leases too. */
  *#walk(all: boolean): IterableIterator<T> {
    const { cursor } = this.#look();
    const cell = cursor.slice();
    const entries = this.#entries(cell);
    const shown = all ? entries.toSorted((a, b) => a.sequence - b.sequence) : this.#offered(entries);
    for (const entry of shown) {
      this.#open();
      if (this.#fetchLeased(entry)) yield this.#decoded(entry.sequence);
    }
    for (;;) {
      this.#open();
      const sequence = cell[CONSUMER.sequence] as number;
      if (!this.#step(cell)) return;
      if (cell[CONSUMER.sequence] === sequence + 1) yield this.#decoded(sequence);
    }
  }

  /** Reads a leased record. False if it was settled since: its segment may be gone, or used for others. */
  #fetchLeased(entry: LeaseEntry): boolean {
    try {
      const result = this.#fetch(entry.segment, entry.offset, entry.position, entry.bytes);
      if (result === entry.bytes && this.#inbox.sequence === entry.sequence) return true;
      throw this.#fetchError(result < 0 ? result : codes.CORRUPT, entry);
    } catch (error) {
      if (!(error instanceof MapError) || this.#leases.read(entry.index).sequence === entry.sequence) throw error;
      return false;
    }
  }

  /** What `pop` would take first, if that is a record that was handed out before. */
  #offered(entries: readonly LeaseEntry[]): LeaseEntry[] {
    if (entries.length === 0) return [];
    const entry = this.#leases.again(entries, this.length <= entries.length);
    return entry === undefined ? [] : [entry];
  }

  #decoded(sequence: number): T {
    try {
      return this.#inbox.decode(this.#codec) as T;
    } catch (error) {
      throw this.#codecError(sequence, error);
    }
  }

  /**
   * Reads the next record of a walk and moves `cell` over it, or moves `cell` to the cursor if that has overtaken it. False at
   * the end.
   */
  #step(cell: Float64Array): boolean {
    this.#segments.trim();
    try {
      return this.#next(cell) !== undefined;
    } catch (error) {
      if (!(error instanceof MapError)) throw error;
      // The record may have been consumed and its segment used for others while it was read.
      const { cursor } = this.#look();
      if ((cursor[CONSUMER.sequence] as number) <= (cell[CONSUMER.sequence] as number)) throw error;
      cell.set(cursor);
      return true;
    }
  }
}
