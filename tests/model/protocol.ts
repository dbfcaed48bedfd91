/**
 * The queue's protocol as a model, small enough to look at every interleaving and every death: a few processes, each with a list of calls, each
 * call a list of steps. A step is what no other process sees half of: one store, one compare-exchange, one load, or several that only the
 * holder of a lock may change meanwhile. Between any two steps another process may go on, or die. A process that is stopped is one whose turn
 * does not come: nothing else is needed for it here, since nothing depends on time.
 *
 * Beside the memory that the processes share, a state has what should be true, kept exactly: which records are in the queue, which were
 * removed, and who holds which. After every step:
 *
 *   - Were all to die now, a survivor would find the records that were committed and not removed, all of them, each once, in order, whole.
 *   - Nobody who holds a lock meets damage. Who looks without one meets it only if it was overtaken.
 *   - A record that is someone's who lives can be settled by it, or is late: none is out of reach.
 *   - A record is handed out only if nobody has it, or who has it is dead or late. The first time in the order of the sequence.
 *   - A record that was buried is in the dead-letter queue, more than once only if somebody died.
 *   - Someone alive can go on, as long as someone alive has something to do.
 *   - With storage: were the machine to lose power now, recovery would find what was promised to be there. See storage.ts.
 *
 * What it leaves out, because tests/crash/step.c shows it one instruction at a time: that a commit is one store, and a lease entry, a segment's
 * words and a record's bytes count as a whole or not at all. Memory order: the model's memory has one order. Groups of a log, and logs.
 *
 * From the shell: node tests/model/protocol.ts [CONFIGURATION]
 */
import {
  at, BASE, bit, BURIED, CELL, COMMITTED, CONSUMER_LOCK, COUNT, CURSOR, CURSOR_WORDS, DEAD, DEATHS, DURABLE_LOCK, fail, FREE, GONE, HALF, HANDED_OUT, HEAD,
  HOLDER, HOLDER_LATE, INDEX, isAlive, L_ATTEMPTS, L_BASE, L_LATE, L_OFFSET, L_OWNER, L_SEGMENT, lease, LEASE_END, LEASE_SUM, LEASED, LEASES,
  LOCALS, MARK, MINE_ATTEMPTS, MINE_INDEX, MINE_SEQUENCE, NEXT_ID, OFFSET, ORDER, ownerWord, P_ALIVE, P_CALL, P_GENERATION, P_LOCALS, P_STEP, processAt, PROCESSES,
  PRODUCER_LOCK, PUSHED, readRecord, recordAt, RECORDS, REMOVED, S_BASE, S_END, S_EXISTS, S_LARGE, S_NEXT, segment, SEGMENT, SEGMENT_FIELDS, SEGMENTS, SEQUENCE,
  SIZE, SIZE_WITH_STORAGE, SPARE, SPARES, type State, SURE, SWEEP, TAIL, TAIL_WORDS, TAKEN, TAKEOVER, VALUE, Violation,
} from "./state.ts";
import { allOnStorage, powerCut, syncControl, syncDirectory, syncEntry, syncSegment, writebacks } from "./storage.ts";

/**
 * What a process does, one after the other. `ack` and `release` are of the lease that it has. `pushLarge` pushes a record that takes a segment of
 * its own; `…Each` is the call of a handle with durability "each".
 */
export type Call =
  | "push" | "push2" | "pushLarge" | "pushEach" | "push2Each"
  | "pop" | "popEach" | "lease" | "leaseLate" | "leaseEach" | "ack" | "ackEach" | "release" | "peek" | "clear" | "compact";

/** A protocol that is wrong in one place. */
export type Mutant =
  | "steal by time"
  | "commit before payload"
  | "lease entry after the cursor"
  | "no repair after a takeover"
  | "segment given up before the commit"
  | "segment given up with a lease in it"
  | "ack without a look at the owner"
  | "transfer leaves the old owner to the end"
  | "generation stays the same"
  | "segment linked after the commit"
  | "clear frees the lease entries before the commit"
  | "repair keeps what a clear removed"
  | "compact gives a segment up before the commit"
  | "compact sweeps without the producer's lock"
  | "a large tail is removed before the cursor leaves it"
  | "the cursor leaves a large tail before the tail does"
  | "dead letter settled before it is pushed"
  | "dead letter moved under a lease that ends"
  | "mark published before the sync"
  | "directory not synced"
  | "sync of the tail's segment alone"
  | "leases told by their count alone"
  | "a missing lease not told by the sum"
  | "of two segments at one place, the first"
  | "a cell says where a segment lies that is used again";

export interface Configuration {
  readonly name: string;
  readonly calls: readonly (readonly Call[])[];
  /** Records that a segment holds. */
  readonly capacity: number;
  /** How many processes may die, and whether a dead one is started again, as the next holder of its slot. */
  readonly deaths: number;
  readonly restarts?: boolean;
  /** How often a record is handed out at most, before it goes to the dead-letter queue. */
  readonly maxAttempts?: number;
  /** Whether there is storage, with any part of memory written to it at any moment, and a power cut after any step. */
  readonly storage?: boolean;
  /** Whether recovery must always find out which records are leased: where one process does all with "each", and gives up no segment. */
  readonly strict?: boolean;
  readonly mutant?: Mutant;
}

export interface Result {
  readonly states: number;
  readonly transitions: number;
  /** Steps of the longest shortest way to a state. */
  readonly depth: number;
  /** What is wrong, and the steps that lead there; undefined if nothing is. */
  readonly violation: string | undefined;
  readonly trace: readonly string[];
}

/** The next step of one process, as one or more states that may follow, each with what happened. */
class Model {
  readonly #configuration: Configuration;
  readonly #mutant: Mutant | undefined;

  constructor(configuration: Configuration) {
    this.#configuration = configuration;
    this.#mutant = configuration.mutant;
  }

  start(): State {
    const { storage = false } = this.#configuration;
    const state = new Uint8Array(storage ? SIZE_WITH_STORAGE : SIZE);
    // control.ts createQueue: one segment is the tail, another a spare.
    for (let id = 1; id <= 1 + SPARES; id++) state[segment(id) + S_EXISTS] = 1;
    state[segment(1) + S_BASE] = 1;
    for (let i = 0; i < SPARES; i++) state[SPARE + i] = 2 + i;
    state[NEXT_ID] = 2 + SPARES;
    state.set([1, 1, 0, 1], TAIL);
    state.set([1, 1, 0, 1], MARK);
    state.set([1, 1, 0, 1, 0, 1], CURSOR);
    if (storage) allOnStorage(state);
    for (let p = 0; p < this.#configuration.calls.length; p++) {
      state[processAt(p) + P_ALIVE] = 1;
      state[processAt(p) + P_GENERATION] = 1;
    }
    return state;
  }

  /** Everything that may happen next. */
  next(state: State): { state: State; label: string }[] {
    const { calls, deaths, restarts = false, storage = false } = this.#configuration;
    const found: { state: State; label: string }[] = [];
    let waiting = false;
    for (let p = 0; p < calls.length; p++) {
      const own = processAt(p);
      if (at(state, own + P_ALIVE) === 0) {
        if (restarts && at(state, own + P_CALL) < (calls[p] as readonly Call[]).length) {
          const after = state.slice();
          after[own + P_ALIVE] = 1;
          if (this.#mutant !== "generation stays the same") after[own + P_GENERATION] = at(state, own + P_GENERATION) + 1; // control.ts #takeSlot
          found.push({ state: after, label: `${p} is started again` });
        }
        continue;
      }
      const call = (calls[p] as readonly Call[])[at(state, own + P_CALL)];
      if (call === undefined) continue;
      waiting = true;
      for (const choice of this.#choices(state, p, call)) {
        const after = state.slice();
        const what = new Step(after, p, this.#configuration).run(call, choice);
        if (what !== undefined) found.push({ state: after, label: `${p} ${call}: ${what}` });
      }
    }
    if (waiting && found.length === 0) fail("nobody who lives can go on");
    if (storage) found.push(...writebacks(state));
    if (at(state, DEATHS) < deaths) {
      for (let p = 0; p < calls.length; p++) {
        const own = processAt(p);
        if (at(state, own + P_ALIVE) === 0 || at(state, own + P_CALL) >= (calls[p] as readonly Call[]).length) continue;
        const after = state.slice();
        die(after, p);
        found.push({ state: after, label: `${p} dies` });
      }
    }
    return found;
  }

  /** Whether a lease that has a deadline is late is nobody's to say: both. */
  #choices(state: State, p: number, call: Call): readonly boolean[] {
    const step = at(state, processAt(p) + P_STEP);
    if (step !== CHOOSE || !(call.startsWith("pop") || call.startsWith("lease"))) return [false];
    for (let i = 0; i < LEASES; i++) if (at(state, lease(i)) > 0 && at(state, lease(i) + L_LATE) > 0) return [false, true];
    return [false];
  }
}

/** The kernel drops the lock of its slot; what it knew is gone. */
function die(state: State, p: number): void {
  const own = processAt(p);
  state[own + P_ALIVE] = 0;
  state[own + P_STEP] = 0;
  state[own + P_CALL] = at(state, own + P_CALL) + 1;
  state.fill(0, own + P_LOCALS, own + P_LOCALS + LOCALS);
  state[DEATHS] = at(state, DEATHS) + 1;
}

/** Steps that have names; the others count up from these. */
const LOCK = 0;
const READ_CELL = 1;
const REPAIR = 2;
const CHOOSE = 10;
const AGAIN = 20;
const NEXT = 30;
const FINISH = 40;
const SWEEPING = 50;
const UNLOCK = 60;
const REPORT = 61;
const BURY = 70;
const CLEAR = 80;
const COMPACT = 90;
const LEAVE = 100;
const SYNC = 110;

class Step {
  readonly #state: State;
  readonly #p: number;
  readonly #own: number;
  readonly #mutant: Mutant | undefined;
  readonly #capacity: number;
  readonly #maxAttempts: number;

  constructor(state: State, p: number, { mutant, capacity, maxAttempts = Infinity }: Configuration) {
    this.#state = state;
    this.#p = p;
    this.#own = processAt(p);
    this.#mutant = mutant;
    this.#capacity = capacity;
    this.#maxAttempts = maxAttempts;
  }

  /** Does one step; says what it was, or undefined if it can't be done now. */
  run(call: Call, choice: boolean): string | undefined {
    const each = call.endsWith("Each");
    switch (call) {
      case "push":
      case "pushEach":
        return this.#push(1, false, each);
      case "push2":
      case "push2Each":
        return this.#push(2, false, each);
      case "pushLarge":
        return this.#push(1, true, each);
      case "pop":
      case "popEach":
        return this.#consume("pop", choice, each);
      case "lease":
      case "leaseLate":
      case "leaseEach":
        return this.#consume(call === "leaseLate" ? call : "lease", choice, each);
      case "ack":
      case "ackEach":
        return this.#settle("ack", each);
      case "release":
        return this.#settle(call, each);
      case "peek":
        return this.#peek();
      case "clear":
        return this.#clear();
      case "compact":
        return this.#compact();
    }
  }

  // ---- what each process has

  #get(index: number): number {
    return this.#state[index] as number;
  }

  #local(name: number): number {
    return this.#get(this.#own + P_LOCALS + name);
  }

  #keep(name: number, value: number): void {
    this.#state[this.#own + P_LOCALS + name] = value;
  }

  get #step(): number {
    return this.#get(this.#own + P_STEP);
  }

  #go(step: number): void {
    this.#state[this.#own + P_STEP] = step;
  }

  /** The call is over. */
  #end(): void {
    this.#go(0);
    this.#state[this.#own + P_CALL] = this.#get(this.#own + P_CALL) + 1;
    this.#state.fill(0, this.#own + P_LOCALS, this.#own + P_LOCALS + MINE_INDEX);
  }

  #forgetLease(): void {
    for (const name of [MINE_INDEX, MINE_SEQUENCE, MINE_ATTEMPTS]) this.#keep(name, 0);
  }

  /** control.ts ownerWord: slot and generation. */
  get #me(): number {
    return ownerWord(this.#state, this.#p);
  }

  /** control.ts alive: the slot is locked, and its generation is the owner's. */
  #alive(owner: number): boolean {
    return isAlive(this.#state, owner);
  }

  /** commit.h hf_lock_take; control.ts #acquireSlowly: only the kernel's word that the owner is dead lets another have it. */
  #acquire(lock: number, then = READ_CELL): string | undefined {
    const owner = this.#get(lock);
    // Its own: in lib what an exception left, here what an earlier holder of the slot left if both are the same.
    if (owner !== 0 && owner !== this.#me && this.#mutant !== "steal by time" && this.#alive(owner)) return undefined;
    this.#state[lock] = this.#me;
    this.#keep(TAKEOVER, owner === 0 ? 0 : 1);
    this.#go(then);
    return owner === 0 ? "takes the lock" : `takes the lock over from ${(owner - 1) % PROCESSES}`;
  }

  /** commit.h hf_cell_get: whole, by the version before and after. */
  #copyCell(cell: number, count: number): void {
    for (let i = 0; i < count; i++) this.#keep(CELL + i, this.#get(cell + i));
  }

  /** commit.h hf_cell_publish: one store. False if the lock is another's by now (HF_E_OWNER). */
  #publish(lock: number, cell: number, count: number): boolean {
    if (this.#get(lock) !== this.#me) return false;
    for (let i = 0; i < count; i++) this.#state[cell + i] = this.#local(CELL + i);
    return true;
  }

  /** commit.h hf_lock_release. */
  #unlock(lock: number): void {
    if (this.#get(lock) === this.#me) this.#state[lock] = 0;
  }

  // ---- lib/queue/producer.ts, append

  #push(count: number, large: boolean, each: boolean): string | undefined {
    const early = this.#mutant === "commit before payload";
    const linkedLate = this.#mutant === "segment linked after the commit";
    switch (this.#step) {
      case LOCK: // control.acquire(side)
        if (this.#get(PUSHED) + count > RECORDS) return this.#end(), "has nothing to push";
        return this.#acquire(PRODUCER_LOCK);
      case READ_CELL: // hf_begin: the cell; requestSweep() after a takeover
        this.#copyCell(TAIL, TAIL_WORDS);
        if (this.#local(TAKEOVER) === 1) this.#state[SWEEP] = 1;
        this.#keep(VALUE, this.#get(PUSHED) + 1);
        this.#state[PUSHED] = this.#get(PUSHED) + count;
        this.#go(3);
        return "reads the cell";
      case 3: // write: is there room?
        if (this.#fits(large)) this.#go(early && this.#local(COUNT) === count - 1 ? 9 : 7);
        else this.#go(4);
        return "looks for room";
      case 4: // segments.take: a spare whose base is 0, by compare-exchange; or a new file
        return this.#takeSegment(large, 5, UNLOCK);
      case 5: { // roll: setState(id, …)
        const id = segment(this.#local(TAKEN));
        this.#state[id + S_BASE] = this.#local(CELL + BASE) + 1;
        this.#state[id + S_END] = this.#state[id + S_NEXT] = 0;
        this.#go(6);
        return `gives segment ${this.#local(TAKEN)} its base`;
      }
      case 6: { // roll: setState(from, …)
        if (!linkedLate) this.#link(this.#local(CELL + SEGMENT), this.#local(CELL + OFFSET), this.#local(TAKEN));
        else this.#keep(INDEX, this.#local(CELL + SEGMENT));
        this.#keep(CELL + SEGMENT, this.#local(TAKEN));
        this.#keep(CELL + OFFSET, 0);
        this.#keep(CELL + BASE, this.#local(CELL + BASE) + 1);
        this.#go(3);
        return "links it";
      }
      case 7: // hf_append, hf_records_write: first bytes …
        this.#write(HALF);
        this.#go(8);
        return "writes half a record";
      case 8: // … and all of them
        this.#write(this.#local(VALUE) + this.#local(COUNT));
        if (early && this.#get(PRODUCER_LOCK) === this.#me && this.#local(COUNT) === count - 1) {
          this.#go(UNLOCK);
          return "writes the record";
        }
        this.#advanceTail();
        this.#go(this.#local(COUNT) < count ? 3 : 9);
        return "writes the record";
      case 9: // control.commit(side): THE commit
        if (early) {
          this.#keep(CELL + OFFSET, this.#local(CELL + OFFSET) + 1);
          this.#keep(CELL + SEQUENCE, this.#local(CELL + SEQUENCE) + 1);
        }
        if (!this.#publish(PRODUCER_LOCK, TAIL, TAIL_WORDS)) return this.#end(), "finds that the lock is another's";
        for (let i = 0; i < count; i++) {
          this.#state[ORDER + this.#get(COMMITTED)] = this.#local(VALUE) + i;
          this.#state[COMMITTED] = this.#get(COMMITTED) + 1;
        }
        if (early) {
          this.#keep(CELL + OFFSET, this.#local(CELL + OFFSET) - 1);
          this.#go(7);
        } else this.#go(linkedLate && this.#local(INDEX) > 0 ? 12 : UNLOCK);
        return "publishes the tail";
      case 12:
        this.#link(this.#local(INDEX), this.#capacity, this.#local(TAKEN));
        this.#go(UNLOCK);
        return "links the segment";
      case UNLOCK:
        this.#unlock(PRODUCER_LOCK);
        this.#go(each && this.#local(COUNT) === count ? SYNC : REPORT);
        return "releases the lock";
      case REPORT: // push returns
        this.#end();
        return "is done";
      default:
        return this.#syncRecords();
    }
  }

  /** Whether the next record fits into the tail's segment. */
  #fits(large: boolean): boolean {
    const isLarge = this.#get(segment(this.#local(CELL + SEGMENT)) + S_LARGE) === 1;
    return this.#local(CELL + OFFSET) < (isLarge ? 1 : this.#capacity) && (!large || isLarge);
  }

  #link(from: number, end: number, id: number): void {
    this.#state[segment(from) + S_END] = end;
    this.#state[segment(from) + S_NEXT] = id;
  }

  #write(number: number): void {
    const place = recordAt(this.#local(CELL + SEGMENT), this.#local(CELL + OFFSET));
    this.#state.set([number, this.#local(CELL + BASE), this.#local(CELL + SEQUENCE)], place);
  }

  #advanceTail(): void {
    this.#keep(CELL + OFFSET, this.#local(CELL + OFFSET) + 1);
    this.#keep(CELL + SEQUENCE, this.#local(CELL + SEQUENCE) + 1);
    this.#keep(COUNT, this.#local(COUNT) + 1);
  }

  #takeSegment(large: boolean, then: number, otherwise: number): string {
    for (let i = 0; i < SPARES && !large; i++) {
      const id = this.#get(SPARE + i);
      if (id === 0) continue;
      if (this.#get(segment(id) + S_EXISTS) === 0) fail(`segment ${id} is a spare, but its file is gone`);
      if (this.#get(segment(id) + S_BASE) !== 0) continue;
      this.#state[SPARE + i] = 0;
      this.#keep(TAKEN, id);
      this.#go(then);
      return `takes the spare ${id}`;
    }
    const id = this.#get(NEXT_ID);
    if (id > SEGMENTS) {
      this.#go(otherwise);
      return "finds the disk full";
    }
    this.#state[NEXT_ID] = id + 1;
    this.#state[segment(id) + S_EXISTS] = 1;
    this.#state[segment(id) + S_LARGE] = large ? 1 : 0;
    this.#keep(TAKEN, id);
    this.#go(then);
    return `makes segment ${id}`;
  }

  // ---- lib/queue/consumer.ts, remove and grant

  #consume(call: "pop" | "lease" | "leaseLate", late: boolean, each: boolean): string | undefined {
    switch (this.#step) {
      case LOCK: // #locked: control.acquire
        return this.#acquire(CONSUMER_LOCK);
      case READ_CELL:
        return this.#readCursor(CHOOSE);
      case REPAIR:
        return this.#repair(CHOOSE);
      case CHOOSE: // #again, reader.next
        return this.#choose(call, late);
      case AGAIN: // leases.giveBack: one store. pop: leases.clear, one store
        if (call === "pop") return this.#freeEntry(false);
        if (this.#mutant !== "transfer leaves the old owner to the end") this.#state[lease(this.#local(INDEX)) + L_OWNER] = 0;
        this.#go(AGAIN + 1);
        return "gives the lease back first";
      case AGAIN + 1: { // leases.transfer: deadline and attempts …
        const entry = lease(this.#local(INDEX));
        const attempts = this.#get(entry + L_ATTEMPTS) + 1;
        this.#state[entry + L_ATTEMPTS] = attempts;
        // Once too often: who moves it to the dead-letter queue has it until that is done.
        const endless = attempts > this.#maxAttempts && this.#mutant !== "dead letter moved under a lease that ends";
        this.#state[entry + L_LATE] = call === "leaseLate" && !endless ? 1 : 0;
        this.#go(AGAIN + 2);
        return "counts the attempt";
      }
      case AGAIN + 2: // … then the owner
        return this.#nameOwner();
      case NEXT: // leases.write: whole, its sequence last
        if (this.#mutant !== "lease entry after the cursor") this.#writeEntry(call);
        this.#go(each ? NEXT + 1 : NEXT + 2);
        return "writes the lease entry";
      case NEXT + 1: // durability.leased
        syncEntry(this.#state, this.#local(INDEX));
        this.#go(NEXT + 2);
        return "gets the lease entry to storage";
      case NEXT + 2: { // the cursor moves over the record: control.commit
        const index = this.#local(INDEX);
        this.#keep(CELL + LEASED, this.#local(CELL + LEASED) + 1);
        this.#keep(CELL + LEASE_END, Math.max(this.#local(CELL + LEASE_END), index + 1));
        this.#keep(CELL + LEASE_SUM, this.#local(CELL + LEASE_SUM) | bit(this.#local(CELL + SEQUENCE) - 1));
        if (!this.#publish(CONSUMER_LOCK, CURSOR, CURSOR_WORDS)) return this.#end(), "finds that the lock is another's";
        this.#handOut(this.#local(VALUE), true);
        this.#state[HOLDER + this.#local(VALUE)] = this.#me;
        this.#state[HOLDER_LATE + this.#local(VALUE)] = call === "leaseLate" ? 1 : 0;
        this.#go(NEXT + 3);
        return `publishes the cursor, and leases ${this.#local(VALUE)}`;
      }
      case NEXT + 3:
        if (this.#mutant === "lease entry after the cursor") this.#writeEntry(call);
        this.#keep(MINE_INDEX, this.#local(INDEX) + 1);
        this.#keep(MINE_SEQUENCE, this.#local(CELL + SEQUENCE) - 1);
        this.#keep(MINE_ATTEMPTS, 1);
        this.#go(UNLOCK);
        return "keeps the lease";
      case BURY: // lib/queue.ts, #bury: into the other queue, whose push is one step for those who look …
        this.#state[DEAD + this.#local(VALUE)] = this.#get(DEAD + this.#local(VALUE)) + 1;
        if (this.#mutant === "dead letter settled before it is pushed") this.#searchOn();
        else this.#go(BURY + 1);
        return `pushes ${this.#local(VALUE)} to the dead-letter queue`;
      case BURY + 1: // … then settled
        return this.#acquire(CONSUMER_LOCK, BURY + 2);
      case BURY + 2:
        return this.#readCursor(BURY + 4, BURY + 3);
      case BURY + 3:
        return this.#repair(BURY + 4);
      case BURY + 4: {
        const entry = this.#mineIs();
        if (!entry) return "finds its lease stale";
        this.#go(BURY + 5);
        return "finds its lease";
      }
      case BURY + 5:
        this.#keep(COUNT, BURIED);
        return this.#freeEntry(true);
      default:
        return this.#finish(each);
    }
  }

  /** The loop of lib/queue.ts, #lease: after a record that was buried, the next one. */
  #searchOn(): void {
    for (const name of [VALUE, INDEX, TAKEN, COUNT, TAKEOVER, FREE]) this.#keep(name, 0);
    this.#go(LOCK);
  }

  #readCursor(then: number, repair: number = REPAIR): string {
    this.#copyCell(CURSOR, CURSOR_WORDS);
    if (this.#local(TAKEOVER) === 1) this.#state[SWEEP] = 1; // #repair: requestSweep
    this.#go(this.#local(TAKEOVER) === 1 && this.#mutant !== "no repair after a takeover" ? repair : then);
    return "reads the cell";
  }

  /** consumer.ts #repair, leases.ts repair: one entry at a time is freed, then the counts are published. */
  #repair(then: number): string {
    for (let i = 0; i < LEASES; i++) {
      const cleared = i >= this.#local(CELL + LEASE_END) && this.#mutant !== "repair keeps what a clear removed";
      if (this.#get(lease(i)) === 0 || (this.#get(lease(i)) !== this.#local(CELL + SEQUENCE) && !cleared)) continue;
      this.#state[lease(i)] = 0;
      return `frees lease entry ${i}, which does not count`;
    }
    const entries = Array.from({ length: LEASES }, (_, i) => i).filter((i) => this.#get(lease(i)) > 0);
    this.#keep(CELL + LEASED, entries.length);
    this.#keep(CELL + LEASE_END, Math.max(0, ...entries.map((i) => i + 1)));
    this.#keep(CELL + LEASE_SUM, entries.reduce((sum, i) => sum | bit(this.#get(lease(i))), 0));
    this.#go(then);
    this.#publish(CONSUMER_LOCK, CURSOR, CURSOR_WORDS);
    return "repairs the counts";
  }

  /** The lease entries that count: in front of the table's end, and below the cursor. */
  #entries(): number[] {
    const found: number[] = [];
    for (let i = 0; i < this.#local(CELL + LEASE_END); i++) {
      const sequence = this.#get(lease(i));
      if (sequence > 0 && sequence < this.#local(CELL + SEQUENCE)) found.push(i);
    }
    return found;
  }

  /** consumer.ts #entries: as many as the cell says. */
  #checkedEntries(): number[] {
    const entries = this.#entries();
    if (entries.length !== this.#local(CELL + LEASED)) fail(`${this.#local(CELL + LEASED)} records are leased, but the lease table has ${entries.length}`);
    return entries;
  }

  #choose(call: "pop" | "lease" | "leaseLate", late: boolean): string {
    const entries = this.#checkedEntries();
    // leases.again: the oldest that was given back, is late, or whose holder is dead.
    const again = entries
      .filter((i) => {
        const owner = this.#get(lease(i) + L_OWNER);
        return owner === 0 || !this.#alive(owner) || (late && this.#get(lease(i) + L_LATE) === 1);
      })
      .sort((a, b) => this.#get(lease(a)) - this.#get(lease(b)))[0];
    if (again !== undefined) {
      this.#keep(INDEX, again);
      this.#keep(VALUE, this.#leasedRecord(again));
      this.#go(AGAIN);
      return `finds ${this.#local(VALUE)}, handed out before`;
    }
    // reader.atRecord: over the ends of segments, while there is something behind.
    if (this.#local(CELL + SEQUENCE) >= this.#get(TAIL + SEQUENCE)) {
      this.#go(UNLOCK);
      return "finds nothing";
    }
    if (!this.#overTheEnd()) fail("a segment does not go on where it should");
    const number = this.#record(this.#local(CELL + SEGMENT), this.#local(CELL + OFFSET), this.#local(CELL + BASE), this.#local(CELL + SEQUENCE));
    this.#keep(VALUE, number);
    if (call !== "pop") {
      // leases.free: as low as possible, or the first that was never in use.
      const free = Array.from({ length: LEASES }, (_, i) => i).find((i) => i >= this.#local(CELL + LEASE_END) || !entries.includes(i));
      if (free === undefined) {
        this.#go(UNLOCK);
        return "finds the lease table full";
      }
      this.#keep(INDEX, free);
    }
    this.#keep(CELL + OFFSET, this.#local(CELL + OFFSET) + 1);
    this.#keep(CELL + SEQUENCE, this.#local(CELL + SEQUENCE) + 1);
    if (call === "pop") this.#unneeded(entries);
    this.#go(call === "pop" ? FINISH : NEXT);
    return `reads ${number}`;
  }

  /** Moves the cell's copy over the ends of segments; false where a segment does not go on. The tail is one look at the producer cell. */
  #overTheEnd(): boolean {
    while (this.#local(CELL + SEGMENT) !== this.#get(TAIL + SEGMENT)) {
      const from = segment(this.#local(CELL + SEGMENT));
      if (this.#local(CELL + OFFSET) < this.#get(from + S_END)) return true;
      const next = this.#get(from + S_NEXT);
      if (next === 0 || this.#local(CELL + OFFSET) !== this.#get(from + S_END) || this.#get(segment(next) + S_BASE) !== this.#local(CELL + BASE) + 1) return false;
      this.#keep(CELL + SEGMENT, next);
      this.#keep(CELL + OFFSET, 0);
      this.#keep(CELL + BASE, this.#local(CELL + BASE) + 1);
    }
    return true;
  }

  /** The record at a place, by who holds the lock: it must be whole. */
  #record(id: number, offset: number, base: number, sequence: number): number {
    const number = readRecord(this.#state, id, offset, base, sequence);
    return number ?? fail(`the record in segment ${id} at ${offset} is damaged`);
  }

  #leasedRecord(index: number): number {
    const entry = lease(index);
    return this.#record(this.#get(entry + L_SEGMENT), this.#get(entry + L_OFFSET), this.#get(entry + L_BASE), this.#get(entry));
  }

  #writeEntry(call: Call): void {
    const entry = lease(this.#local(INDEX));
    const place = [this.#local(CELL + SEGMENT), this.#local(CELL + OFFSET) - 1, this.#local(CELL + BASE)];
    this.#state.set([this.#local(CELL + SEQUENCE) - 1, this.#me, 1, ...place, call === "leaseLate" ? 1 : 0], entry);
  }

  #nameOwner(): string {
    const entry = lease(this.#local(INDEX));
    const number = this.#local(VALUE);
    this.#state[entry + L_OWNER] = this.#me;
    this.#handOut(number, false);
    this.#state[HOLDER + number] = this.#me;
    this.#state[HOLDER_LATE + number] = this.#get(entry + L_LATE);
    this.#keep(MINE_INDEX, this.#local(INDEX) + 1);
    this.#keep(MINE_SEQUENCE, this.#get(entry));
    this.#keep(MINE_ATTEMPTS, this.#get(entry + L_ATTEMPTS));
    if (this.#get(entry + L_ATTEMPTS) > this.#maxAttempts) this.#keep(COUNT, 1); // not the caller's: to be buried
    this.#go(UNLOCK);
    return `leases ${number} again`;
  }

  /** A record is handed out: what must be true of it. */
  #handOut(number: number, first: boolean): void {
    if (this.#get(REMOVED + number) > 0) fail(`${number} is handed out, but was removed`);
    const holder = this.#get(HOLDER + number);
    if (holder !== 0 && this.#alive(holder) && this.#get(HOLDER_LATE + number) === 0) fail(`${number} is handed out to ${this.#p} while ${(holder - 1) % PROCESSES} has it`);
    if (!first) return;
    if (this.#get(ORDER + this.#get(HANDED_OUT)) !== number) fail(`${number} is handed out, but it is not its turn`);
    this.#state[HANDED_OUT] = this.#get(HANDED_OUT) + 1;
  }

  #remove(number: number, how = 1): void {
    if (this.#get(REMOVED + number) > 0) fail(`${number} is removed twice`);
    this.#state[REMOVED + number] = how;
    this.#state[HOLDER + number] = 0;
  }

  /** consumer.ts #forget: the entry's one store is what removes its record. */
  #freeEntry(settled: boolean): string {
    const index = this.#local(INDEX);
    const number = this.#local(VALUE);
    const others = this.#entries().filter((i) => i !== index);
    this.#unneeded(others);
    if (!settled) this.#handOut(number, false);
    const leased = this.#local(CELL + LEASED) - 1;
    this.#keep(CELL + LEASE_SUM, this.#local(CELL + LEASE_SUM) & ~bit(this.#get(lease(index))));
    this.#state[lease(index)] = 0;
    this.#remove(number, this.#local(COUNT) === BURIED ? BURIED : 1);
    this.#keep(CELL + LEASED, leased);
    if (leased === 0) this.#keep(CELL + LEASE_END, 0);
    else if (index === this.#local(CELL + LEASE_END) - 1) this.#keep(CELL + LEASE_END, index);
    if (this.#local(COUNT) !== BURIED || this.#mutant !== "dead letter settled before it is pushed") this.#keep(VALUE, 0); // removed
    this.#keep(TAKEN, number);
    this.#go(FINISH);
    return "frees the lease entry";
  }

  /** consumer.ts #unneeded: the head moves in the copy; the segments that it leaves are kept to be given up. */
  #unneeded(entries: readonly number[]): void {
    const leased = this.#mutant === "segment given up with a lease in it" ? [] : entries;
    for (;;) {
      const head = this.#local(CELL + HEAD);
      if (head === this.#local(CELL + SEGMENT) || leased.some((i) => this.#get(lease(i) + L_SEGMENT) === head)) return;
      const next = this.#get(segment(head) + S_NEXT);
      if (next === 0 || this.#get(segment(next) + S_BASE) !== this.#get(segment(head) + S_BASE) + 1) fail(`segment ${head} goes on in ${next}, which does not follow it`);
      this.#keep(CELL + HEAD, next);
      this.#keep(FREE, this.#local(FREE) | bit(head));
    }
  }

  /** One of the segments that are to be given up. */
  #given(): number | undefined {
    for (let id = 1; id <= SEGMENTS; id++) if ((this.#local(FREE) & bit(id)) !== 0) return id;
    return undefined;
  }

  /** Two steps from `first` on for each segment that is to be given up: segments.giveUp, recycle. */
  #giveUp(first: number, then: number): string {
    const id = this.#given() as number;
    const usual = this.#get(segment(id) + S_LARGE) === 0;
    if (this.#step === first && usual) { // setState(id, 0, 0, 0) …
      this.#clearSegment(id);
      this.#go(first + 1);
      return `clears segment ${id}`;
    }
    // … then by compare-exchange into the list of spares; or its file is removed
    const free = usual ? Array.from({ length: SPARES }, (_, i) => i).find((i) => this.#get(SPARE + i) === 0) : undefined;
    if (free === undefined) this.#removeFile(id);
    else this.#state[SPARE + free] = id;
    this.#keep(FREE, this.#local(FREE) & ~bit(id));
    this.#go(this.#given() === undefined ? then : first);
    return free === undefined ? `removes segment ${id}` : `makes segment ${id} a spare`;
  }

  /** Where it goes on once all is given up: #sweepIfAsked. */
  get #afterwards(): number {
    return this.#get(SWEEP) === 1 ? SWEEPING : UNLOCK;
  }

  /** consumer.ts #finish: the commit, then the segments that nobody refers to any more, then a sweep if one is due. */
  #finish(each = false): string | undefined {
    switch (this.#step) {
      case FINISH: { // control.commit, control.publish
        const given = Array.from({ length: SEGMENTS }, (_, i) => i + 1).find((id) => (this.#local(FREE) & bit(id)) !== 0 && this.#get(segment(id) + S_BASE) > 0);
        if (this.#mutant === "segment given up before the commit" && given !== undefined) {
          this.#clearSegment(given);
          return `clears segment ${given}`;
        }
        if (!this.#publish(CONSUMER_LOCK, CURSOR, CURSOR_WORDS)) return this.#end(), "finds that the lock is another's";
        const number = this.#local(COUNT) === BURIED ? 0 : this.#local(VALUE);
        if (number > 0) {
          this.#handOut(number, true);
          this.#remove(number);
          this.#keep(TAKEN, number);
        }
        this.#go(this.#given() === undefined ? UNLOCK : FINISH + 1);
        return number > 0 ? `publishes the cursor, and removes ${number}` : "publishes the counts";
      }
      case FINISH + 1:
      case FINISH + 2:
        return this.#giveUp(FINISH + 1, this.#afterwards);
      case SWEEPING: // #sweepIfAsked: tryAcquire of the producer lock
        if (this.#get(PRODUCER_LOCK) !== 0) {
          this.#go(UNLOCK);
          return "leaves the sweep to another";
        }
        this.#state[PRODUCER_LOCK] = this.#me;
        this.#go(SWEEPING + 1);
        return "takes the producer lock to sweep";
      case SWEEPING + 1: // segments.sweep: one file at a time
        return this.#sweep(SWEEPING + 2);
      case SWEEPING + 2:
        this.#unlock(PRODUCER_LOCK);
        this.#go(UNLOCK);
        return "releases the producer lock";
      case UNLOCK:
        this.#unlock(CONSUMER_LOCK);
        this.#go(each && this.#local(TAKEN) > 0 ? SYNC : REPORT);
        return "releases the lock";
      case SYNC: // durability.removed
        syncControl(this.#state);
        this.#state[GONE + this.#local(TAKEN)] = 1;
        this.#go(REPORT);
        return "gets the control file to storage";
      default: {
        const burial = this.#local(COUNT);
        if (burial === 0) this.#end();
        else if (burial === BURIED) {
          if (this.#mutant === "dead letter settled before it is pushed") this.#go(BURY);
          else this.#searchOn();
        } else this.#go(this.#mutant === "dead letter settled before it is pushed" ? BURY + 1 : BURY);
        return "is done";
      }
    }
  }

  #clearSegment(id: number): void {
    this.#state.fill(0, segment(id) + S_BASE, segment(id) + S_NEXT + 1);
  }

  #removeFile(id: number): void {
    this.#state.fill(0, segment(id), segment(id) + SEGMENT_FIELDS);
  }

  #sweep(then: number): string {
    const waste = this.#waste();
    if (waste !== undefined) {
      this.#removeFile(waste);
      return `sweeps segment ${waste}`;
    }
    this.#state[SWEEP] = 0;
    this.#go(then);
    return "has swept";
  }

  #waste(): number | undefined {
    const kept = new Set<number>();
    for (let i = 0; i < SPARES; i++) kept.add(this.#get(SPARE + i));
    const last = this.#get(TAIL + SEGMENT);
    for (let id = this.#get(CURSOR + HEAD), round = 0; ; id = this.#get(segment(id) + S_NEXT)) {
      if (id === 0 || round++ > SEGMENTS) fail("the segments in use are no chain");
      kept.add(id);
      if (id === last) break;
    }
    for (let id = 1; id <= SEGMENTS; id++) if (this.#get(segment(id) + S_EXISTS) === 1 && !kept.has(id)) return id;
    return undefined;
  }

  // ---- consumer.ts, settle

  #settle(call: "ack" | "release", each: boolean): string | undefined {
    switch (this.#step) {
      case LOCK:
        if (this.#local(MINE_INDEX) === 0) return this.#end(), "has no lease";
        return this.#acquire(CONSUMER_LOCK);
      case READ_CELL:
        return this.#readCursor(CHOOSE);
      case REPAIR:
        return this.#repair(CHOOSE);
      case CHOOSE:
        if (!this.#mineIs()) return "finds its lease stale";
        this.#go(call === "ack" ? AGAIN : AGAIN + 1);
        return "finds its lease";
      case AGAIN: // leases.clear, then the counts
        return this.#freeEntry(true);
      case AGAIN + 1: // leases.giveBack
        this.#state[lease(this.#local(INDEX)) + L_OWNER] = 0;
        this.#state[HOLDER + this.#local(VALUE)] = 0;
        this.#go(UNLOCK);
        return "gives the lease back";
      default:
        return this.#finish(each);
    }
  }

  /** consumer.ts #held: sequence, owner and attempts are those of this lease. If not, all that is left is to release the lock. */
  #mineIs(): boolean {
    const index = this.#local(MINE_INDEX) - 1;
    const entry = lease(index);
    const same = this.#get(entry) === this.#local(MINE_SEQUENCE);
    const mine = this.#get(entry + L_OWNER) === this.#me && this.#get(entry + L_ATTEMPTS) === this.#local(MINE_ATTEMPTS);
    this.#keep(INDEX, index);
    this.#forgetLease();
    if (!same || (!mine && this.#mutant !== "ack without a look at the owner")) {
      this.#keep(COUNT, 0);
      this.#go(UNLOCK);
      return false;
    }
    this.#keep(VALUE, this.#leasedRecord(index));
    if (this.#get(HOLDER + this.#local(VALUE)) !== this.#me) fail(`${this.#local(VALUE)} is settled by ${this.#p}, which does not have it`);
    return true;
  }

  // ---- consumer.ts, clear

  #clear(): string | undefined {
    const early = this.#mutant === "clear frees the lease entries before the commit";
    switch (this.#step) {
      case LOCK:
        return this.#acquire(CONSUMER_LOCK);
      case READ_CELL:
        return this.#readCursor(CHOOSE);
      case REPAIR:
        return this.#repair(CHOOSE);
      case CHOOSE: // control.read(control.tail): everything in front of it goes
        this.#keep(COUNT, this.#local(CELL + LEASE_END));
        for (const word of [SEQUENCE, SEGMENT, OFFSET, BASE]) this.#keep(CELL + word, this.#get(TAIL + word));
        for (const word of [LEASED, LEASE_END, LEASE_SUM]) this.#keep(CELL + word, 0);
        this.#unneeded([]);
        this.#go(early ? CLEAR + 1 : CLEAR);
        return "reads the tail";
      case CLEAR: { // control.publish: THE commit
        if (!this.#publish(CONSUMER_LOCK, CURSOR, CURSOR_WORDS)) return this.#end(), "finds that the lock is another's";
        const count = this.#local(CELL + SEQUENCE) - 1;
        for (let i = 0; i < count; i++) {
          const number = this.#get(ORDER + i);
          if (this.#get(REMOVED + number) === 0) this.#remove(number);
        }
        this.#state[HANDED_OUT] = Math.max(this.#get(HANDED_OUT), count);
        this.#go(early ? CLEAR + 2 : CLEAR + 1);
        return "publishes the cursor, and removes all";
      }
      case CLEAR + 1: { // leases.clear: one at a time
        const index = Array.from({ length: this.#local(COUNT) }, (_, i) => i).find((i) => this.#get(lease(i)) > 0);
        if (index !== undefined) {
          this.#state[lease(index)] = 0;
          return `frees lease entry ${index}`;
        }
        this.#go(early ? CLEAR : CLEAR + 2);
        return "has freed the lease entries";
      }
      case CLEAR + 2: // #giveUp
        this.#keep(COUNT, 0);
        this.#go(this.#given() === undefined ? this.#afterwards : FINISH + 1);
        return "goes on";
      default:
        return this.#finish();
    }
  }

  // ---- consumer.ts, compact

  #compact(): string | undefined {
    const early = this.#mutant === "compact gives a segment up before the commit";
    const unlocked = this.#mutant === "compact sweeps without the producer's lock";
    switch (this.#step) {
      case LOCK:
        return this.#acquire(CONSUMER_LOCK);
      case READ_CELL:
        return this.#readCursor(CHOOSE);
      case REPAIR:
        return this.#repair(CHOOSE);
      case CHOOSE: { // #entries, reader.atRecord, #unneeded
        const entries = this.#checkedEntries();
        if (!this.#atTail() && !this.#overTheEnd()) fail("a segment does not go on where it should");
        this.#unneeded(entries);
        this.#go(this.#given() === undefined ? COMPACT + 3 : early ? COMPACT + 1 : COMPACT);
        return "looks for segments that nobody needs";
      }
      case COMPACT: // control.publish
        if (!this.#publish(CONSUMER_LOCK, CURSOR, CURSOR_WORDS)) return this.#end(), "finds that the lock is another's";
        this.#go(early ? COMPACT + 3 : COMPACT + 1);
        return "publishes the cursor";
      case COMPACT + 1:
      case COMPACT + 2:
        return this.#giveUp(COMPACT + 1, early ? COMPACT : COMPACT + 3);
      case COMPACT + 3: // control.acquire(control.producer)
        if (!unlocked) return this.#acquire(PRODUCER_LOCK, COMPACT + 4);
        this.#go(COMPACT + 4);
        return "takes no lock";
      case COMPACT + 4: { // requestSweep; #leaveLargeTail: empty, and larger than usual?
        this.#state[SWEEP] = 1;
        const leave = this.#atTail() && this.#local(CELL + LEASED) === 0 && this.#get(segment(this.#get(TAIL + SEGMENT)) + S_LARGE) === 1;
        this.#go(leave ? LEAVE : COMPACT + 5);
        return "asks for a sweep";
      }
      case COMPACT + 5: // dropSpares
        for (let i = 0; i < SPARES; i++) this.#state[SPARE + i] = 0;
        this.#go(COMPACT + 6);
        return "drops the spares";
      case COMPACT + 6:
        return this.#sweep(COMPACT + 7);
      case COMPACT + 7:
        if (!unlocked) this.#unlock(PRODUCER_LOCK);
        this.#go(UNLOCK);
        return "releases the producer lock";
      case LEAVE:
        return this.#takeSegment(false, LEAVE + 1, COMPACT + 7);
      case LEAVE + 1: { // setState(id, …)
        const id = segment(this.#local(TAKEN));
        this.#state[id + S_BASE] = this.#get(TAIL + BASE) + 1;
        this.#state[id + S_END] = this.#state[id + S_NEXT] = 0;
        this.#go(LEAVE + 2);
        return `gives segment ${this.#local(TAKEN)} its base`;
      }
      case LEAVE + 2: // setState(from, …)
        this.#keep(FREE, bit(this.#get(TAIL + SEGMENT)));
        this.#link(this.#get(TAIL + SEGMENT), this.#get(TAIL + OFFSET), this.#local(TAKEN));
        this.#go(this.#mutant === "the cursor leaves a large tail before the tail does" ? LEAVE + 4 : LEAVE + 3);
        return "links it";
      case LEAVE + 3: // control.publish(control.producer)
        this.#state.set([this.#get(TAIL + SEQUENCE), this.#local(TAKEN), 0, this.#get(segment(this.#local(TAKEN)) + S_BASE)], TAIL);
        this.#go(
          this.#mutant === "the cursor leaves a large tail before the tail does" ? LEAVE + 5
          : this.#mutant === "a large tail is removed before the cursor leaves it" ? LEAVE + 5
          : LEAVE + 4,
        );
        return "publishes the tail";
      case LEAVE + 4: // control.publish(control.consumer)
        for (const [word, value] of [[SEGMENT, this.#local(TAKEN)], [OFFSET, 0], [BASE, this.#get(segment(this.#local(TAKEN)) + S_BASE)], [HEAD, this.#local(TAKEN)]] as const) this.#keep(CELL + word, value);
        if (!this.#publish(CONSUMER_LOCK, CURSOR, CURSOR_WORDS)) return this.#end(), "finds that the lock is another's";
        this.#go(this.#mutant === "the cursor leaves a large tail before the tail does" ? LEAVE + 3 : this.#given() === undefined ? COMPACT + 5 : LEAVE + 5);
        return "publishes the cursor";
      case LEAVE + 5: // segments.giveUp([from]): it is no usual one, so its file is removed
        return this.#giveUp(LEAVE + 5, this.#mutant === "a large tail is removed before the cursor leaves it" ? LEAVE + 4 : COMPACT + 5);
      case UNLOCK:
        this.#keep(TAKEN, 0);
        return this.#finish();
      default:
        return this.#finish();
    }
  }

  /** Whether the cell's copy is at the position of the tail. */
  #atTail(): boolean {
    return this.#local(CELL + BASE) === this.#get(TAIL + BASE) && this.#local(CELL + OFFSET) === this.#get(TAIL + OFFSET);
  }

  // ---- lib/queue/durability.ts, of a push

  /** The locals are another thing here: VALUE, COUNT the segment that is to be synced and its base, INDEX the offset from which on, TAKEN whether it is one. */
  #syncRecords(): string | undefined {
    const early = this.#mutant === "mark published before the sync";
    const finished = early ? SYNC + 8 : SYNC + 5;
    switch (this.#step) {
      case SYNC: // control.read(control.durable)
        for (const name of [VALUE, INDEX, TAKEN, COUNT, TAKEOVER, FREE]) this.#keep(name, 0);
        if (this.#local(CELL + SEQUENCE) <= this.#get(MARK + SEQUENCE)) {
          this.#go(SYNC + 8);
          return "finds its records on storage";
        }
        this.#keep(VALUE, this.#get(MARK + SEGMENT));
        this.#keep(INDEX, this.#get(MARK + OFFSET));
        this.#keep(COUNT, this.#get(MARK + BASE));
        this.#go(SYNC + 1);
        return "reads the mark";
      case SYNC + 1: { // #tail, #syncBetween
        this.#copyCell(TAIL, TAIL_WORDS);
        const same = this.#local(COUNT) === this.#local(CELL + BASE);
        this.#keep(TAKEN, same ? 1 : 0);
        if (this.#mutant === "sync of the tail's segment alone") {
          this.#keep(VALUE, this.#local(CELL + SEGMENT));
          this.#keep(COUNT, this.#local(CELL + BASE));
        } else if (!same && this.#get(segment(this.#local(VALUE)) + S_BASE) !== this.#local(COUNT)) this.#syncFromHead();
        this.#go(early ? SYNC + 5 : SYNC + 2);
        return "reads the tail";
      }
      case SYNC + 2: { // #syncPages
        const [id, base] = [this.#local(VALUE), this.#local(COUNT)];
        const last = base === this.#local(CELL + BASE);
        if (this.#get(segment(id) + S_BASE) !== base) { // given up meanwhile
          this.#syncFromHead();
          if (this.#local(COUNT) > this.#local(CELL + BASE)) this.#go(SYNC + 4);
          return "finds that the segment was given up";
        }
        const same = this.#local(TAKEN) === 1;
        syncSegment(this.#state, id, same ? this.#local(INDEX) : 0, last ? this.#local(CELL + OFFSET) : this.#get(segment(id) + S_END), !same);
        this.#go(last ? (same ? finished : SYNC + 4) : SYNC + 3);
        return `gets segment ${id} to storage`;
      }
      case SYNC + 3: { // segments.following
        const next = this.#get(segment(this.#local(VALUE)) + S_NEXT);
        const sound = this.#get(segment(this.#local(VALUE)) + S_BASE) === this.#local(COUNT);
        if (sound && (next === 0 || this.#get(segment(next) + S_BASE) !== this.#local(COUNT) + 1)) fail("a segment that is to be synced does not go on where it should");
        if (sound) {
          this.#keep(VALUE, next);
          this.#keep(COUNT, this.#local(COUNT) + 1);
        } else this.#syncFromHead();
        this.#go(this.#local(COUNT) > this.#local(CELL + BASE) ? SYNC + 4 : SYNC + 2);
        return "goes on to the next segment";
      }
      case SYNC + 4: // syncDirectory
        if (this.#mutant !== "directory not synced") syncDirectory(this.#state);
        this.#go(finished);
        return "gets the names of the files to storage";
      case SYNC + 5: // #publish: control.acquire(side) …
        return this.#acquire(DURABLE_LOCK, SYNC + 6);
      case SYNC + 6: // … the mark, unless it is further by now
        if (this.#get(DURABLE_LOCK) !== this.#me) fail("the durable lock is another's");
        if (this.#local(CELL + SEQUENCE) > this.#get(MARK + SEQUENCE)) {
          for (let i = 0; i < TAIL_WORDS; i++) this.#state[MARK + i] = this.#local(CELL + i);
        }
        this.#go(SYNC + 7);
        return "publishes the mark";
      case SYNC + 7:
        this.#unlock(DURABLE_LOCK);
        this.#go(early ? SYNC + 2 : SYNC + 8);
        return "releases the durable lock";
      default: // push returns: a promise
        this.#state[SURE] = Math.max(this.#get(SURE), this.#local(CELL + SEQUENCE) - 1);
        this.#end();
        return "is done, with its records on storage";
    }
  }

  #syncFromHead(): void {
    this.#keep(VALUE, this.#get(CURSOR + HEAD));
    this.#keep(COUNT, this.#get(segment(this.#get(CURSOR + HEAD)) + S_BASE));
  }

  // ---- lib/queue.ts, #walk: without a lock

  #peek(): string {
    switch (this.#step) {
      case LOCK: // reader.look: the cursor …
        this.#copyCell(CURSOR, CURSOR_WORDS);
        this.#go(READ_CELL);
        return "reads the cursor";
      case READ_CELL: { // … and the tail; then the words of segments, and the record. Each may have been used again meanwhile.
        if (this.#local(CELL + SEQUENCE) >= this.#get(TAIL + SEQUENCE)) return this.#end(), "finds nothing";
        this.#keep(COUNT, this.#local(CELL + SEQUENCE));
        this.#keep(VALUE, this.#local(CELL + OFFSET));
        this.#keep(TAKEN, this.#local(CELL + BASE));
        this.#keep(INDEX, this.#overTheEnd() ? 1 : 0);
        this.#go(READ_CELL + 1);
        return "looks for the record";
      }
      default: {
        const [id, offset, base] = [this.#local(CELL + SEGMENT), this.#local(CELL + OFFSET), this.#local(CELL + BASE)];
        const number = this.#local(INDEX) === 1 && offset < this.#capacity ? readRecord(this.#state, id, offset, base, this.#local(COUNT)) : undefined;
        // By the position: a compaction moves the cursor over the end of a segment, and over no record.
        const [atBase, atOffset] = [this.#get(CURSOR + BASE), this.#get(CURSOR + OFFSET)];
        const overtaken = atBase > this.#local(TAKEN) || (atBase === this.#local(TAKEN) && atOffset > this.#local(VALUE));
        if (number === undefined && !overtaken) fail("who looks without a lock finds damage, and was not overtaken");
        if (number !== undefined && this.#get(ORDER + this.#local(COUNT) - 1) !== number) fail(`who looks without a lock finds ${number} in the place of another`);
        this.#end();
        return number === undefined ? "was overtaken" : `sees ${number}`;
      }
    }
  }
}

/** Everybody is dead. What a survivor finds, in order; throws if anything is damaged. */
function survivor(state: State, mutant: Mutant | undefined): number[] {
  const sequence = at(state, CURSOR + SEQUENCE);
  const leases: { sequence: number; number: number }[] = [];
  for (let i = 0; i < LEASES; i++) {
    const found = at(state, lease(i));
    if (found === 0) continue;
    // repair() frees it; without a takeover there is none, since its writer holds the lock.
    if (found === sequence && at(state, CONSUMER_LOCK) !== 0 && mutant !== "no repair after a takeover") continue;
    if (found >= sequence) continue;
    if (i >= at(state, CURSOR + LEASE_END) && mutant !== "repair keeps what a clear removed") {
      if (at(state, CONSUMER_LOCK) === 0) fail(`lease entry ${i} lies behind the end of the table`);
      continue; // what a clear has removed; repair() frees it
    }
    const number = readRecord(state, at(state, lease(i) + L_SEGMENT), at(state, lease(i) + L_OFFSET), at(state, lease(i) + L_BASE), found);
    if (number === undefined) fail(`the leased record ${found} is damaged or gone`);
    leases.push({ sequence: found, number });
  }
  // Nobody holds the lock: nobody died inside, and nothing will be repaired.
  if (at(state, CONSUMER_LOCK) === 0 && leases.length !== at(state, CURSOR + LEASED)) fail(`${at(state, CURSOR + LEASED)} records are leased, but the lease table has ${leases.length}`);
  const sum = leases.reduce((all, { sequence: leased }) => all | bit(leased), 0);
  if (at(state, CONSUMER_LOCK) === 0 && sum !== at(state, CURSOR + LEASE_SUM)) fail("the sum of the leases is not that of the lease table");
  const records: number[] = leases.sort((a, b) => a.sequence - b.sequence).map(({ number }) => number);
  let [id, offset, base] = [at(state, CURSOR + SEGMENT), at(state, CURSOR + OFFSET), at(state, CURSOR + BASE)];
  for (let next = sequence; next < at(state, TAIL + SEQUENCE); next++) {
    while (id !== at(state, TAIL + SEGMENT) && offset === at(state, segment(id) + S_END)) {
      const following = at(state, segment(id) + S_NEXT);
      if (following === 0 || at(state, segment(following) + S_BASE) !== base + 1) fail(`segment ${id} goes on in ${following}, which does not follow it`);
      [id, offset, base] = [following, 0, base + 1];
    }
    records.push(readRecord(state, id, offset, base, next) ?? fail(`record ${next} in segment ${id} at ${offset} is damaged`));
    offset++;
  }
  return records;
}

/** What must be true in every state. */
function check(state: State, { mutant, storage = false, strict = false }: Configuration): void {
  const expected: number[] = [];
  for (let i = 0; i < at(state, COMMITTED); i++) {
    const number = at(state, ORDER + i);
    if (at(state, REMOVED + number) === 0) expected.push(number);
  }
  const found = survivor(state, mutant);
  if (found.join() !== expected.join()) fail(`a survivor finds ${found.join(" ") || "nothing"} instead of ${expected.join(" ") || "nothing"}`);
  const inside = at(state, CONSUMER_LOCK);
  if (inside === 0 || !isAlive(state, inside)) checkLeases(state);
  for (let number = 1; number <= RECORDS; number++) {
    const letters = at(state, DEAD + number);
    if (at(state, REMOVED + number) === BURIED && letters === 0) fail(`${number} is neither in the queue nor in the dead-letter queue`);
    if (letters > 1 + at(state, DEATHS)) fail(`${number} is ${letters} times in the dead-letter queue, with ${at(state, DEATHS)} deaths`);
  }
  if (storage) powerCut(state, mutant, strict);
}

/** Nobody is about to change the table: who is said to have a record, and lives, knows that, so that it can settle it; or it is late. */
function checkLeases(state: State): void {
  for (let i = 0; i < LEASES; i++) {
    const sequence = at(state, lease(i));
    const owner = at(state, lease(i) + L_OWNER);
    if (sequence === 0 || i >= at(state, CURSOR + LEASE_END) || sequence >= at(state, CURSOR + SEQUENCE) || owner === 0 || !isAlive(state, owner) || at(state, lease(i) + L_LATE) === 1) continue;
    const p = (owner - 1) % PROCESSES;
    const local = processAt(p) + P_LOCALS;
    const knows = at(state, local + MINE_INDEX) === i + 1 && at(state, local + MINE_SEQUENCE) === sequence && at(state, local + MINE_ATTEMPTS) === at(state, lease(i) + L_ATTEMPTS);
    if (!knows) fail(`${p} is said to have record ${sequence}, which it can't settle and no other can get`);
  }
}

/** Visits every state that can be reached, the nearest first. */
export function explore(configuration: Configuration, most: number = Infinity): Result {
  const model = new Model(configuration);
  const first = model.start();
  // A state as a text of its bytes: half as large as an array of numbers, and what a Map compares fastest.
  const decoder = new TextDecoder("latin1");
  const key = (state: State): string => decoder.decode(state);
  const seen = new Map<string, number>([[key(first), 0]]);
  const states: (State | undefined)[] = [first];
  const parents: number[] = [-1];
  const labels: string[] = [""];
  const depths: number[] = [0];
  let transitions = 0;
  const trace = (index: number): string[] => {
    const steps: string[] = [];
    for (let i = index; i > 0; i = parents[i] as number) steps.unshift(labels[i] as string);
    return steps;
  };
  for (let index = 0; index < states.length; index++) {
    const state = states[index] as State;
    states[index] = undefined; // its text is kept
    try {
      check(state, configuration);
      for (const { state: after, label } of model.next(state)) {
        transitions++;
        const name = key(after);
        if (seen.has(name)) continue;
        seen.set(name, states.length);
        states.push(after);
        parents.push(index);
        labels.push(label);
        depths.push((depths[index] as number) + 1);
      }
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      return { states: states.length, transitions, depth: depths.at(-1) as number, violation: error.message, trace: trace(index) };
    }
    if (states.length > most) throw new Error(`"${configuration.name}" has more than ${most} states`);
  }
  return { states: states.length, transitions, depth: depths.at(-1) as number, violation: undefined, trace: [] };
}

/** Small ones, for each gate. */
export const small: readonly Configuration[] = [
  { name: "two producers, a consumer", calls: [["push"], ["push"], ["pop"]], capacity: 1, deaths: 1 },
  { name: "push over segment ends while another pops and frees them", calls: [["push", "push", "push"], ["pop", "pop", "pop"]], capacity: 1, deaths: 2 },
  { name: "two consumers lease, one acknowledges, one gives back", calls: [["push2"], ["lease", "ack"], ["lease", "release"]], capacity: 2, deaths: 1 },
  { name: "leases that may be late", calls: [["push", "leaseLate", "ack"], ["lease", "ack"]], capacity: 1, deaths: 2, restarts: true },
  { name: "a lease in a segment that others leave", calls: [["push", "push", "push"], ["lease", "pop", "ack"]], capacity: 1, deaths: 2 },
  { name: "a look without a lock, while segments are used again", calls: [["push", "push", "push"], ["pop", "pop"], ["peek"]], capacity: 1, deaths: 0 },
  { name: "clear, while another has a lease", calls: [["push2"], ["lease", "ack"], ["clear"]], capacity: 1, deaths: 1 },
  { name: "clear with leases, and leases after it", calls: [["push2", "lease"], ["lease", "clear", "lease", "ack"]], capacity: 1, deaths: 2, restarts: true },
  { name: "compact, while others push, pop and lease", calls: [["push", "push"], ["pop", "compact"], ["lease", "ack"]], capacity: 1, deaths: 1 },
  { name: "compact leaves a large tail", calls: [["pushLarge", "compact", "push"], ["pop", "compact"]], capacity: 1, deaths: 2 },
  { name: "a look without a lock, while a large tail is left", calls: [["pushLarge", "push"], ["pop", "compact"], ["peek", "peek"]], capacity: 1, deaths: 0 },
  { name: "dead letters", calls: [["push", "lease"], ["lease", "lease"]], capacity: 1, deaths: 2, restarts: true, maxAttempts: 1 },
  { name: "dead letters of late leases", calls: [["push", "leaseLate", "ack"], ["leaseLate"], ["leaseLate"]], capacity: 1, deaths: 1, maxAttempts: 1 },
  { name: "power cuts: two producers, each record", calls: [["pushEach"], ["pushEach"]], capacity: 1, deaths: 1, storage: true },
  { name: "power cuts: a segment used again that a cell still names", calls: [["pushEach", "push", "pop", "pop", "pushEach"]], capacity: 1, deaths: 0, storage: true },
  { name: "power cuts: each record, each removal", calls: [["push2Each", "popEach", "leaseEach", "ackEach"]], capacity: 2, deaths: 0, storage: true, strict: true },
  { name: "power cuts: each record, each removal, over segment ends", calls: [["push2Each", "popEach", "leaseEach", "ackEach", "push2Each", "leaseEach", "popEach", "ackEach"]], capacity: 1, deaths: 0, storage: true },
  { name: "power cuts: each record, a consumer that syncs nothing", calls: [["pushEach", "pushEach"], ["lease", "ack", "lease"]], capacity: 2, deaths: 0, storage: true },
];

/** Larger ones, by the command. */
export const large: readonly Configuration[] = [
  ...small,
  { name: "two producers, a consumer, two deaths, started again", calls: [["push", "push"], ["push"], ["pop", "pop"]], capacity: 1, deaths: 2, restarts: true },
  { name: "pushMany over segment ends, leases, two deaths", calls: [["push2", "push"], ["lease", "ack"], ["lease", "ack"]], capacity: 1, deaths: 2 },
  { name: "three processes that do all", calls: [["push", "lease", "ack"], ["push2", "pop"], ["lease", "release"]], capacity: 1, deaths: 1, restarts: true },
  { name: "late leases among three, a death", calls: [["push", "leaseLate", "ack"], ["push", "lease", "ack"], ["leaseLate", "ack"]], capacity: 1, deaths: 1 },
  { name: "three processes that do all, two deaths", calls: [["push", "lease", "ack"], ["push2", "pop"], ["lease", "release"]], capacity: 1, deaths: 2, restarts: true },
  { name: "late leases and segment ends, started again", calls: [["push", "push", "leaseLate", "ack"], ["push", "lease", "pop"], ["leaseLate", "release"]], capacity: 1, deaths: 1, restarts: true },
  { name: "five records through segments that are used again, two deaths", calls: [["push2", "push", "push2"], ["pop", "pop", "pop"], ["lease", "ack"]], capacity: 1, deaths: 2, restarts: true },
  { name: "looks without a lock, a death", calls: [["push", "push", "push"], ["pop", "pop"], ["peek", "peek"]], capacity: 1, deaths: 1 },
  { name: "clear among three, two deaths", calls: [["push2", "lease", "ack"], ["lease", "clear", "push"], ["clear", "lease", "ack"]], capacity: 1, deaths: 2 },
  { name: "clear and compact among three, started again", calls: [["push", "push", "clear"], ["lease", "compact", "ack"], ["push", "pop", "compact"]], capacity: 1, deaths: 1, restarts: true },
  { name: "large records, compact and leases, two deaths", calls: [["pushLarge", "push", "compact"], ["lease", "ack", "compact"], ["pop", "pop"]], capacity: 1, deaths: 2 },
  { name: "looks without a lock, clear and compact", calls: [["pushLarge", "push2", "push"], ["pop", "clear", "compact"], ["peek", "peek"]], capacity: 1, deaths: 1 },
  { name: "dead letters among three, late and dead", calls: [["push", "leaseLate", "ack"], ["push", "leaseLate", "release"], ["leaseLate"]], capacity: 1, deaths: 1, maxAttempts: 1 },
  { name: "power cuts: two producers, segments used again, a death", calls: [["push", "push"], ["pushEach"]], capacity: 1, deaths: 1, storage: true },
  { name: "power cuts: a death between two segments", calls: [["push", "push", "pushEach"]], capacity: 1, deaths: 1, restarts: true, storage: true },
  { name: "power cuts: each removal, beside a producer", calls: [["push2Each"], ["popEach", "leaseEach", "ackEach"]], capacity: 2, deaths: 1, storage: true },
  { name: "power cuts: leases of two consumers that sync nothing", calls: [["push2Each", "lease", "ack"], ["lease", "ack"]], capacity: 2, deaths: 0, storage: true },
  { name: "power cuts: leases of two consumers that sync", calls: [["push2Each", "leaseEach", "ackEach"], ["leaseEach", "ackEach"]], capacity: 2, deaths: 0, storage: true },
  { name: "power cuts: clear and compact", calls: [["push2Each", "lease", "clear", "compact", "pushEach"]], capacity: 1, deaths: 1, restarts: true, storage: true },
];

/** Wrong protocols, each in a configuration that shows it. */
export const mutants: readonly Configuration[] = (
  [
    ["steal by time", { calls: [["push"], ["push"]], capacity: 2, deaths: 0 }],
    ["commit before payload", { calls: [["push"], ["pop"]], capacity: 2, deaths: 1 }],
    ["lease entry after the cursor", { calls: [["push"], ["lease", "ack"]], capacity: 2, deaths: 1 }],
    ["no repair after a takeover", { calls: [["push"], ["lease", "ack"], ["pop"]], capacity: 2, deaths: 1 }],
    ["segment given up before the commit", { calls: [["push", "push"], ["pop", "pop"]], capacity: 1, deaths: 1 }],
    ["segment given up with a lease in it", { calls: [["push", "push", "push"], ["lease", "pop", "ack"]], capacity: 1, deaths: 0 }],
    ["ack without a look at the owner", { calls: [["push", "leaseLate", "ack"], ["lease"]], capacity: 1, deaths: 0 }],
    ["transfer leaves the old owner to the end", { calls: [["push", "leaseLate", "ack"], ["lease", "ack"]], capacity: 1, deaths: 1 }],
    ["generation stays the same", { calls: [["push", "lease", "pop"]], capacity: 1, deaths: 1, restarts: true }],
    ["segment linked after the commit", { calls: [["push", "push"], ["pop", "pop"]], capacity: 1, deaths: 1 }],
    ["clear frees the lease entries before the commit", { calls: [["push", "lease", "clear"]], capacity: 1, deaths: 1 }],
    ["repair keeps what a clear removed", { calls: [["push", "lease", "clear"], ["push", "lease"]], capacity: 1, deaths: 1 }],
    ["compact gives a segment up before the commit", { calls: [["push", "push"], ["pop", "compact"]], capacity: 1, deaths: 1 }],
    ["compact sweeps without the producer's lock", { calls: [["push", "push"], ["compact"]], capacity: 1, deaths: 0 }],
    ["a large tail is removed before the cursor leaves it", { calls: [["pushLarge", "pop", "compact"], ["push"]], capacity: 1, deaths: 1 }],
    ["the cursor leaves a large tail before the tail does", { calls: [["pushLarge", "pop", "compact"], ["push", "pop"]], capacity: 1, deaths: 1 }],
    ["dead letter settled before it is pushed", { calls: [["push", "lease", "release", "lease"]], capacity: 1, deaths: 1, maxAttempts: 1 }],
    ["dead letter moved under a lease that ends", { calls: [["push", "leaseLate"], ["leaseLate"], ["leaseLate"]], capacity: 1, deaths: 0, maxAttempts: 1 }],
    ["mark published before the sync", { calls: [["pushEach"]], capacity: 1, deaths: 0, storage: true }],
    ["directory not synced", { calls: [["pushEach", "push2Each"]], capacity: 1, deaths: 0, storage: true }],
    ["sync of the tail's segment alone", { calls: [["push2Each"]], capacity: 1, deaths: 0, storage: true }],
    ["leases told by their count alone", { calls: [["push2Each", "lease", "ack", "lease"]], capacity: 2, deaths: 0, storage: true }],
    ["of two segments at one place, the first", { calls: [["push", "push", "pushEach"]], capacity: 1, deaths: 1, restarts: true, storage: true }],
    ["a cell says where a segment lies that is used again", { calls: [["pushEach", "push", "pop", "pop", "pushEach"]], capacity: 1, deaths: 0, storage: true }],
    ["a missing lease not told by the sum", { calls: [["push2Each", "popEach", "leaseEach", "ackEach"]], capacity: 2, deaths: 0, storage: true, strict: true }],
  ] as const
).map(([mutant, rest]) => ({ name: mutant, mutant, ...rest }));

if (import.meta.main) {
  const [only] = process.argv.slice(2);
  let states = 0;
  for (const configuration of [...large, ...mutants].filter(({ name }) => only === undefined || name.includes(only))) {
    const began = performance.now();
    const result = explore(configuration);
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    const wrong = configuration.mutant !== undefined;
    if (!wrong) states += result.states;
    console.log(`${wrong ? "mutant: " : ""}${configuration.name}: ${result.states} states, ${result.transitions} transitions, ${result.depth} steps deep, ${seconds} s`);
    if (result.violation !== undefined) console.log(`  ${result.trace.join("\n  ")}\n  => ${result.violation}`);
    if ((result.violation === undefined) === wrong) process.exitCode = 1;
  }
  console.log(`${states} states of the protocol as it is`);
}
