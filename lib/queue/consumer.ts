/**
 * The consumer side of a queue: records removed, leased and settled, and segments given up.
 *
 * Invariants:
 *   - Nothing is removed before the commit, or the freeing of a lease entry, that says so; and nothing fails after it.
 *   - A record that was handed out has its lease entry before the cursor moves over it.
 *   - In a log, the segments that a group walks over may be given up meanwhile. What is committed was read before: the retention's cell is
 *     looked at after all that was read in segments and before anything is written.
 *
 * @module
 */
import { MapError } from "../errors.ts";
import { CONSUMER, GROUP, LEASE_COUNT, MAX_SPARES, PRODUCER, RECORDS_OFFSET } from "../layout/queue.ts";
import { type Address, native } from "../native/native.ts";
import { codes, type NativeFunctions } from "../native/symbols.ts";
import type { Control } from "./control.ts";
import { firstNeeded, overtaken, skipLost } from "./groups.ts";
import type { LeaseEntry, LeaseTable } from "./leases.ts";
import { goBack, type Reader } from "./reader.ts";
import type { Segments } from "./segments.ts";

// As constants of this module: an imported one is loaded anew at each use in V8.
const { position: POSITION, segment: SEGMENT, offset: OFFSET, sequence: SEQUENCE, bytes: BYTES, leased: LEASED, head: HEAD } = CONSUMER;
const { position: TAIL_POSITION, segment: TAIL_SEGMENT, offset: TAIL_OFFSET, sequence: TAIL_SEQUENCE } = PRODUCER;
const FIRST: number = RECORDS_OFFSET;
const BUSY: number = codes.BUSY;

/** One handle's consumer side. */
export class Consumer {
  readonly #control: Control;
  readonly #segments: Segments;
  readonly #leases: LeaseTable;
  readonly #reader: Reader;
  readonly #hf: NativeFunctions;
  readonly #side: Address;
  /** Called with the index of a new lease entry before the cursor moves over its record. */
  beforeGrant: ((index: number) => void) | undefined;
  /** The lease table was written to, and the commit that goes with it is still to come. */
  #halfDone = false;
  /** Of a log: gives up what no group needs. Never fails. */
  giveUpInLog: (() => void) | undefined;
  /** Of a group: position in front of which the operation under way needs nothing. */
  #first = 0;

  constructor(control: Control, segments: Segments, leases: LeaseTable, reader: Reader) {
    this.#control = control;
    this.#segments = segments;
    this.#leases = leases;
    this.#reader = reader;
    this.#hf = native();
    this.#side = control.consumer.side;
  }

  /**
   * As {@linkcode Consumer.remove} of one record. The case that makes the speed takes two native calls, one that finds the record and one that
   * commits: the lock is free, nothing is leased, and the record lies in the segment of the one before. Every other goes there.
   */
  removeOne(): unknown {
    const { inbox } = this.#reader;
    const bytes = this.#hf.hf_front(this.#side, inbox.address, inbox.byteLength);
    if (bytes <= 0) return bytes === 0 ? undefined : this.#removeSlowly(bytes);
    try {
      const value = inbox.decode();
      const result = this.#hf.hf_pass(this.#side, bytes);
      if (result < 0) throw this.#control.error(result, "pop");
      return value;
    } catch (error) {
      throw this.#notRemoved(error);
    }
  }

  #removeSlowly(result: number): unknown {
    if (result !== BUSY) throw this.#control.error(result, "pop");
    return this.remove(1)[0];
  }

  /** Lets go of what `hf_front` took; the error for the caller. */
  #notRemoved(error: unknown): unknown {
    const { consumer } = this.#control;
    const sequence = consumer.values[SEQUENCE] as number;
    this.#control.release(consumer);
    return error instanceof MapError ? error : this.#reader.codecError(sequence, error);
  }

  /**
   * Removes up to `max` records and returns their values. The codec is a built-in: it runs inside the lock, so that a record that it
   * refuses stays.
   */
  remove(max: number): unknown[] {
    return this.#locked(() => {
      const cell = this.#control.consumer.values;
      const values: unknown[] = [];
      const again: LeaseEntry[] = [];
      let entries = this.#entries(cell);
      while (values.length < max) {
        this.#segments.trim();
        try {
          // Many at a time while nothing is leased; what does not go that way, goes the other.
          if (entries.length === 0 && this.#reader.nextMany(cell, max - values.length, values)) continue;
          const entry = this.#again(entries, cell);
          if (entry !== undefined) {
            values.push(this.#reader.decoded(entry.sequence));
            again.push(entry);
            entries = entries.filter((other) => other !== entry);
          } else if (!this.#removeNext(cell, values)) break;
        } catch (error) {
          // What was read before is whole and goes out; the next call meets the same error.
          if (values.length === 0) throw error;
          break;
        }
      }
      this.#assertKept();
      this.#reader.inbox.shrink();
      this.#useSegment(cell);
      if (values.length === 0) {
        this.#control.release(this.#control.consumer);
        return values;
      }
      const free = this.#unneeded(cell, entries);
      for (const entry of again) this.#forget(entry, cell);
      this.#finish(cell, free);
      return values;
    });
  }

  /** Has {@linkcode Consumer.removeOne} read from the segment that the cursor in `cell` is in. Called before anything is changed: it may find damage. */
  #useSegment(cell: Float64Array): void {
    const { consumer, group, tail } = this.#control;
    const id = cell[SEGMENT] as number;
    const base = (cell[POSITION] as number) - (cell[OFFSET] as number);
    if (id === tail.values[TAIL_SEGMENT]) {
      if (consumer.segment !== id) consumer.use(id, this.#segments.get(id));
    } else if (group === undefined && (consumer.segment !== id || consumer.base !== base)) {
      // Not in a log, where it may be given up meanwhile.
      consumer.use(id, this.#segments.get(id), this.#segments.state(id).end, base);
    }
  }

  /**
   * Hands out a record: one that was handed out before if there is such a one, or the next. The record is in the inbox. One that is handed out more
   * often than `maxAttempts` is its caller's without a limit in time: two that are late would bury it both.
   */
  grant(leaseMs: number, maxAttempts: number = Infinity): LeaseEntry | undefined {
    return this.#locked(() => {
      const control = this.#control;
      const cell = control.consumer.values;
      const entries = this.#entries(cell);
      const { owner } = control;
      const deadline = this.#deadline(leaseMs);
      const again = this.#again(entries, cell);
      if (again !== undefined) {
        this.#assertKept();
        const attempts = again.attempts + 1;
        const entry = { ...again, owner, deadline: attempts > maxAttempts ? 0 : deadline, attempts };
        this.#leases.transfer(entry);
        control.release(control.consumer);
        return entry;
      }
      const index = this.#leases.free(entries, cell[CONSUMER.leaseEnd] as number);
      const place = this.#reader.next(cell);
      if (place === undefined) {
        control.release(control.consumer);
        return undefined;
      }
      const entry: LeaseEntry = { ...place, index, owner, deadline, attempts: 1 };
      this.#assertKept();
      // Counts only once the commit has moved the cursor over the record.
      this.#halfDone = true;
      this.#leases.write(entry);
      this.beforeGrant?.(index);
      cell[CONSUMER.leased] = (cell[CONSUMER.leased] as number) + 1;
      cell[CONSUMER.leaseSum] = (cell[CONSUMER.leaseSum] as number) + this.#leases.sealOf(entry);
      cell[CONSUMER.leasedBytes] = (cell[CONSUMER.leasedBytes] as number) + entry.bytes;
      cell[CONSUMER.leaseEnd] = Math.max(cell[CONSUMER.leaseEnd] as number, index + 1);
      control.commit(control.consumer);
      return entry;
    });
  }

  /** When a lease of `leaseMs` ends, as it is stored: in whole milliseconds; 0 = without a limit. */
  #deadline(leaseMs: number): number {
    return leaseMs === 0 ? 0 : Math.ceil(this.#hf.hf_clock_ms() + leaseMs);
  }

  /** Has a lease end `leaseMs` from now; 0 = not before its holder dies. */
  extend(lease: LeaseEntry, leaseMs: number): void {
    this.#locked(() => {
      const { index } = this.#held(lease);
      this.#leases.setDeadline(index, this.#deadline(leaseMs));
      this.#control.release(this.#control.consumer);
    });
  }

  /**
   * Whether there may be a record to hand out, and in how many milliseconds a lease ends that has a limit (Infinity without one). Without
   * the lock; for who waits.
   */
  outlook(): { ready: boolean; leaseEndsInMs: number } {
    const { cursor, tail } = this.#reader.look();
    const ready = (tail[TAIL_SEQUENCE] as number) > (cursor[SEQUENCE] as number);
    if (ready || cursor[LEASED] === 0) return { ready, leaseEndsInMs: Infinity };
    const entries = this.#reader.entries(cursor.slice());
    if (this.#leases.again(entries, true) !== undefined) return { ready: true, leaseEndsInMs: Infinity };
    const deadlines = entries.filter(({ deadline }) => deadline > 0).map(({ deadline }) => deadline);
    return { ready: false, leaseEndsInMs: Math.min(...deadlines) - this.#hf.hf_clock_ms() };
  }

  /** The entry of a lease that is still its holder's; otherwise `ERR_STALE_LEASE`. */
  #held(lease: LeaseEntry): LeaseEntry {
    const entry = this.#leases.current(lease.index);
    if (entry !== undefined && entry.sequence === lease.sequence && entry.owner === lease.owner && entry.attempts === lease.attempts) return entry;
    const { directory } = this.#control;
    throw new MapError("ERR_STALE_LEASE", `record ${lease.sequence} of '${directory}' is no longer leased to this holder`, { path: directory });
  }

  /** Acknowledges a lease, or gives it back. */
  settle(lease: LeaseEntry, keep: boolean): void {
    this.#locked(() => {
      const control = this.#control;
      const entry = this.#held(lease);
      if (keep) {
        this.#leases.giveBack(entry.index);
        control.release(control.consumer);
        control.ring(1);
        return;
      }
      const cell = control.consumer.values;
      // The other leases matter only if a segment could be given up.
      const crossed = cell[CONSUMER.head] !== cell[CONSUMER.segment];
      const others = crossed ? this.#entries(cell).filter((other) => other.index !== entry.index) : [];
      const free = this.#unneeded(cell, others);
      this.#forget(entry, cell);
      this.#finish(cell, free);
    });
  }

  /**
   * Removes all records up to `sequence`, leased ones too, and returns how many. `end` is a copy of the cell behind that record, if there is one: of a reader
   * that came from the cursor, so that it counts what the cell counts.
   */
  removeThrough(sequence: number, end?: Float64Array): number {
    return this.#locked(() => {
      const cell = this.#control.consumer.values;
      const entries = this.#entries(cell);
      const gone = entries.filter((entry) => entry.sequence <= sequence);
      let count = gone.length;
      if (end !== undefined && end[SEQUENCE] === sequence + 1 && (cell[SEQUENCE] as number) <= sequence && (cell[POSITION] as number) < (end[POSITION] as number)) {
        count += sequence + 1 - (cell[SEQUENCE] as number);
        for (const word of [POSITION, SEGMENT, OFFSET, SEQUENCE, BYTES]) cell[word] = end[word] as number;
      }
      for (; (cell[SEQUENCE] as number) <= sequence && this.#reader.next(cell) !== undefined; count++) this.#segments.trim();
      this.#assertKept();
      if (count === 0) {
        this.#control.release(this.#control.consumer);
        return 0;
      }
      const free = this.#unneeded(cell, entries.filter((entry) => entry.sequence > sequence));
      for (const entry of gone) this.#forget(entry, cell);
      this.#finish(cell, free);
      return count;
    });
  }

  /**
   * Removes every record, leased ones too, and returns how many. One commit says so: the lease entries count no more once the cell has
   * their end at 0, and are cleared after it, here or by a repair.
   */
  clear(): number {
    return this.#locked(() => {
      const control = this.#control;
      const cell = control.consumer.values;
      const tail = control.tail.values;
      control.read(control.tail);
      const count = (tail[TAIL_SEQUENCE] as number) - (cell[SEQUENCE] as number) + (cell[LEASED] as number);
      const end = Math.min(cell[CONSUMER.leaseEnd] as number, LEASE_COUNT);
      cell[POSITION] = tail[TAIL_POSITION] as number;
      cell[SEGMENT] = tail[TAIL_SEGMENT] as number;
      cell[OFFSET] = tail[TAIL_OFFSET] as number;
      cell[SEQUENCE] = tail[TAIL_SEQUENCE] as number;
      cell[BYTES] = tail[PRODUCER.bytes] as number;
      cell[LEASED] = 0;
      cell[CONSUMER.leasedBytes] = 0;
      cell[CONSUMER.leaseSum] = 0;
      cell[CONSUMER.leaseEnd] = 0;
      const free = this.#unneeded(cell, []);
      this.#halfDone = true;
      control.publish(control.consumer);
      for (let index = 0; index < end; index++) this.#leases.clear(index);
      this.#halfDone = false;
      this.#giveUpAndRelease(free, cell);
      return count;
    });
  }

  /**
   * Removes files that hold no records. The spares stay if without them the queue could not keep what it was made to hold. An empty queue leaves
   * a tail that is larger than the usual segment.
   */
  compact(): void {
    this.#locked(() => {
      const control = this.#control;
      const cell = control.consumer.values;
      const entries = this.#entries(cell);
      this.#reader.atRecord(cell);
      const free = this.#unneeded(cell, entries);
      if (free.length > 0) {
        control.publish(control.consumer);
        this.#segments.giveUp(free);
      }
      control.acquire(control.producer);
      try {
        // Asked for first: who dies on the way leaves it to the next one.
        this.#segments.requestSweep();
        const { maxBytes, segmentBytes, spares } = control.shape;
        const reserved = maxBytes > 0 && maxBytes <= segmentBytes * (1 + spares);
        this.#leaveLargeTail(cell, reserved);
        const live = this.#live(cell);
        if (!reserved) this.#segments.dropSpares();
        this.#segments.sweep(live);
      } finally {
        control.release(control.producer);
      }
      control.release(control.consumer);
    });
  }

  /**
   * If the queue is empty and its one segment larger than usual: goes on in a usual one. The caller holds both locks. Killed between the two
   * commits, the cursor is at the end of the one and the tail at the start of the next, with no record between them.
   */
  #leaveLargeTail(cell: Float64Array, reserved: boolean): void {
    const control = this.#control;
    const tail = control.producer.values;
    const from = tail[TAIL_SEGMENT] as number;
    const segments = this.#segments;
    const { byteLength } = segments.get(from);
    if (cell[POSITION] !== tail[TAIL_POSITION] || cell[LEASED] !== 0 || byteLength <= control.shape.segmentBytes) return;
    const id = segments.take(0, from);
    // It may have been the reserve: then there has to be another one.
    const reserve: number[] = [];
    try {
      if (reserved) reserve.push(segments.take(0, from));
      const end = tail[TAIL_OFFSET] as number;
      const base = (tail[TAIL_POSITION] as number) - end;
      segments.setState(id, { base: base + byteLength, end: 0, next: 0 });
      segments.setState(from, { base, end, next: id });
      tail[TAIL_SEGMENT] = id;
      tail[TAIL_OFFSET] = FIRST;
      tail[TAIL_POSITION] = base + byteLength + FIRST;
      control.publish(control.producer);
    } catch (error) {
      segments.giveUp([id, ...reserve]);
      throw error;
    }
    cell[SEGMENT] = id;
    cell[OFFSET] = FIRST;
    cell[POSITION] = tail[TAIL_POSITION] as number;
    cell[HEAD] = id;
    control.publish(control.consumer);
    segments.giveUp([from, ...reserve]);
  }

  /**
   * Runs `change` with the consumer lock and its cell in `control.consumer.values`. `change` commits, which releases the lock, or
   * leaves the cell as it is and releases the lock itself.
   */
  #locked<R>(change: () => R): R {
    if (this.#control.group === undefined) return this.#once(change);
    for (;;) {
      try {
        return this.#once(change);
      } catch (error) {
        // Each time the log has given up more, so it comes to an end.
        if (!this.#overtaken()) throw error;
      }
    }
  }

  #once<R>(change: () => R): R {
    const control = this.#control;
    this.#first = Infinity;
    this.#segments.trim();
    const takenOver = control.acquire(control.consumer);
    try {
      if (takenOver) this.#repair();
      this.#halfDone = false;
      if (control.group !== undefined) this.#catchUp();
      return change();
    } catch (error) {
      try {
        // Whatever was begun is taken back, as after a death.
        if (this.#halfDone) {
          control.consumer.forget();
          control.read(control.consumer);
          this.#repair();
        }
      } finally {
        control.release(control.consumer);
      }
      throw error;
    }
  }

  /** Goes on from what is kept, if the log has given up records that the group had not finished with. */
  #catchUp(): void {
    const control = this.#control;
    const cell = control.consumer.values;
    control.read(control.kept);
    const { values: kept } = control.kept;
    if (overtaken(cell, kept)) {
      const lost = skipLost(cell, kept, this.#reader.entries(cell, 0), this.#leases);
      // Published first: with the head behind them the entries count no more, and a repair frees them.
      this.#halfDone = true;
      control.publish(control.consumer);
      for (const { index } of lost) this.#leases.clear(index);
      this.#halfDone = false;
    }
    this.#first = firstNeeded(cell);
  }

  /** Whether the log has given up something that the operation may have read, or was about to. */
  #overtaken(): boolean {
    const { kept } = this.#control;
    // Read in full: it pairs with the store that gave the segment to another use, which may have been seen.
    kept.forget();
    this.#control.read(kept);
    return (kept.values[POSITION] as number) > this.#first;
  }

  /** Throws if what was read since the lock was taken may be of another use of a segment; `#locked` tries again. */
  #assertKept(): void {
    if (this.#control.group !== undefined && this.#overtaken()) throw this.#reader.corrupt("segments were given up while they were read");
  }

  /** Makes the lease table and its counts agree again, after an owner died between two of its steps. */
  #repair(): void {
    this.#segments.requestSweep();
    const control = this.#control;
    const cell = control.consumer.values;
    const { leased, bytes, end, sum } = this.#leases.repair(
      cell[CONSUMER.sequence] as number,
      cell[CONSUMER.leaseEnd] as number,
      control.group === undefined ? 0 : (cell[GROUP.headBase] as number),
    );
    if (leased === cell[CONSUMER.leased] && bytes === cell[CONSUMER.leasedBytes] && end <= (cell[CONSUMER.leaseEnd] as number)) return;
    cell[CONSUMER.leased] = leased;
    cell[CONSUMER.leasedBytes] = bytes;
    cell[CONSUMER.leaseEnd] = end;
    cell[CONSUMER.leaseSum] = sum;
    control.publish(control.consumer);
  }

  /** Reads the value at the cursor and moves `cell` over it; back again if it can't be decoded. False if there is none. */
  #removeNext(cell: Float64Array, values: unknown[]): boolean {
    const place = this.#reader.next(cell);
    if (place === undefined) return false;
    try {
      values.push(this.#reader.decoded(place.sequence));
      return true;
    } catch (error) {
      goBack(cell, place);
      throw error;
    }
  }

  /** The lease entries in use: as many as the cell says. */
  #entries(cell: Float64Array): LeaseEntry[] {
    const entries = this.#reader.entries(cell);
    if (entries.length !== cell[CONSUMER.leased]) {
      throw this.#reader.corrupt(`${cell[CONSUMER.leased]} records are leased, but the lease table has ${entries.length}`);
    }
    return entries;
  }

  /** The lease entry that goes first, with its record in the inbox. */
  #again(entries: readonly LeaseEntry[], cell: Float64Array): LeaseEntry | undefined {
    if (entries.length === 0) return undefined;
    const entry = this.#leases.again(entries, !this.#reader.atRecord(cell));
    return entry !== undefined && this.#reader.fetchLeased(entry) ? entry : undefined;
  }

  /** Takes an entry out of the lease table and out of the counts. */
  #forget(entry: LeaseEntry, cell: Float64Array): void {
    this.#halfDone = true;
    this.#leases.clear(entry.index);
    const leased = (cell[CONSUMER.leased] as number) - 1;
    cell[CONSUMER.leased] = leased;
    cell[CONSUMER.leasedBytes] = (cell[CONSUMER.leasedBytes] as number) - entry.bytes;
    cell[CONSUMER.leaseSum] = (cell[CONSUMER.leaseSum] as number) - this.#leases.sealOf(entry);
    if (leased === 0) cell[CONSUMER.leaseEnd] = 0;
    else if (entry.index === (cell[CONSUMER.leaseEnd] as number) - 1) cell[CONSUMER.leaseEnd] = entry.index;
  }

  /**
   * Moves the head in `cell` over the segments that neither the cursor nor a lease needs any more, and returns them. Called before anything
   * is changed: it may find damage.
   */
  #unneeded(cell: Float64Array, leased: readonly LeaseEntry[]): number[] {
    const needed = (id: number): boolean => id === cell[CONSUMER.segment] || leased.some((entry) => entry.segment === id);
    const free: number[] = [];
    let head = cell[CONSUMER.head] as number;
    for (; !needed(head); head = this.#segments.following(head)) free.push(head);
    cell[CONSUMER.head] = head;
    if (this.#control.group !== undefined) {
      if (free.length > 0) cell[GROUP.headBase] = this.#segments.state(head).base;
      this.#assertKept();
    }
    return free;
  }

  /** Commits `cell` and gives up the segments that it no longer needs. */
  #finish(cell: Float64Array, free: readonly number[]): void {
    const control = this.#control;
    if (free.length === 0) {
      control.commit(control.consumer);
      return;
    }
    // First nobody refers to them, then they are used again; still inside the lock, which keeps a sweep out.
    control.publish(control.consumer);
    this.#halfDone = false;
    this.#giveUpAndRelease(free, cell);
  }

  /**
   * Gives up segments that this side no longer needs; in a log, where others may need them, those that none does. Releases the lock. More than
   * can become spares are removed after that: the file system may take a millisecond for each, and the others would wait for all of them.
   */
  #giveUpAndRelease(free: readonly number[], cell: Float64Array): void {
    const control = this.#control;
    if (this.giveUpInLog !== undefined) {
      this.giveUpInLog();
      control.release(control.consumer);
      return;
    }
    const rest = free.slice(MAX_SPARES);
    this.#segments.giveUp(rest.length === 0 ? free : free.slice(0, MAX_SPARES));
    this.#sweepIfAsked(cell);
    if (rest.length > 0) this.#segments.announceRemoval();
    control.release(control.consumer);
    if (rest.length > 0) this.#segments.removeFiles(rest);
  }

  /**
   * Removes segment files that a dead process left, if the producer lock is free. The caller holds the consumer lock. Never fails: the
   * request stays for the next time.
   */
  #sweepIfAsked(cell: Float64Array): void {
    const control = this.#control;
    try {
      if (!this.#segments.sweepRequested) return;
      if (!control.tryAcquire(control.producer)) return;
      try {
        this.#segments.sweep(this.#live(cell));
      } finally {
        control.release(control.producer);
      }
    } catch {
      // Damage or a failing disk: the operations that meet it say so.
    }
  }

  /** The segments that hold records. The caller holds both locks. */
  #live(cell: Float64Array): Set<number> {
    const last = this.#control.producer.values[PRODUCER.segment] as number;
    const live = new Set<number>([last]);
    for (let id = cell[CONSUMER.head] as number; id !== last; id = this.#segments.following(id)) live.add(id);
    return live;
  }
}
