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
 *   - Someone alive can go on, as long as someone alive has something to do.
 *
 * What it leaves out, because tests/crash/step.c shows it one instruction at a time: that a commit is one store, and a lease entry, a segment's
 * words and a record's bytes count as a whole or not at all. Memory order: the model's memory has one order.
 *
 * From the shell: node tests/model/protocol.ts [CONFIGURATION]
 */

/** What a process does, one after the other. `ack` and `release` are of the lease that it has. */
export type Call = "push" | "push2" | "pop" | "lease" | "leaseLate" | "ack" | "release" | "peek";

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
  | "segment linked after the commit";

export interface Configuration {
  readonly name: string;
  readonly calls: readonly (readonly Call[])[];
  /** Records that a segment holds. */
  readonly capacity: number;
  /** How many processes may die, and whether a dead one is started again, as the next holder of its slot. */
  readonly deaths: number;
  readonly restarts?: boolean;
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

const SEGMENTS = 5; // ids 1 to 5; a push that would need a sixth finds the disk full
const SPARES = 1;
const LEASES = 2;
const RECORDS = 5; // that are ever pushed, numbered from 1
const PROCESSES = 3;
const HALF = 255; // bytes of a record that is being written

/** Where things are in a state. */
let size = 0;
const field = (count = 1): number => (size += count) - count;
// The control file: lib/layout/queue.ts.
const PRODUCER_LOCK = field();
const CONSUMER_LOCK = field();
const TAIL = field(4); // the producer cell: sequence, segment, offset, base (which stands for the position)
const CURSOR = field(6); // the consumer cell: the same, and leased, head
const [SEQUENCE, SEGMENT, OFFSET, BASE, LEASED, HEAD] = [0, 1, 2, 3, 4, 5] as const;
const SPARE = field(SPARES);
const NEXT_ID = field();
const SWEEP = field();
/** A lease entry: sequence (0 = free), owner (0 = given back), attempts, segment, offset, base, and whether it has a deadline. */
const LEASE = field(LEASES * 7);
const [L_OWNER, L_ATTEMPTS, L_SEGMENT, L_OFFSET, L_BASE, L_LATE] = [1, 2, 3, 4, 5, 6] as const;
/** A segment: whether its file exists, base (0 = free), end, next, and of each record: number, and the base at which it was written. */
const MOST_CAPACITY = 2;
const SEGMENT_FIELDS = 4 + 2 * MOST_CAPACITY;
const SEGMENT_AT = field(SEGMENTS * SEGMENT_FIELDS);
const [S_EXISTS, S_BASE, S_END, S_NEXT, S_RECORDS] = [0, 1, 2, 3, 4] as const;
/** A process: alive, generation of its slot, which call, which step of it, and what it keeps in its own memory. */
const LOCALS = 14;
const PROCESS_FIELDS = 4 + LOCALS;
const PROCESS_AT = field(PROCESSES * PROCESS_FIELDS);
const [P_ALIVE, P_GENERATION, P_CALL, P_STEP, P_LOCALS] = [0, 1, 2, 3, 4] as const;
const DEATHS = field();
// What should be true: the records in the order of their commits, how far they were handed out, and of each who has it and whether it was removed.
const PUSHED = field(); // numbers given to calls of push
const COMMITTED = field();
const ORDER = field(RECORDS);
const HANDED_OUT = field();
const HOLDER = field(RECORDS + 1);
const HOLDER_LATE = field(RECORDS + 1);
const REMOVED = field(RECORDS + 1);
const SIZE = size;

/** Locals. `cell` is a copy of the cell that the call works on, `mine` is about the lease that the process has: it stays from call to call. */
const CELL = 0; // 6
const VALUE = 6;
const INDEX = 7;
const TAKEN = 8; // the segment that was taken, or the one that is to be given up
const COUNT = 9;
const TAKEOVER = 10;
const MINE_INDEX = 11; // + 1; 0 = none
const MINE_SEQUENCE = 12;
const MINE_ATTEMPTS = 13;

type State = Uint8Array;

class Violation extends Error {}

function fail(text: string): never {
  throw new Violation(text);
}

const at = (state: State, index: number): number => state[index] as number;
const segment = (id: number): number => SEGMENT_AT + (id - 1) * SEGMENT_FIELDS;
const lease = (index: number): number => LEASE + index * 7;

/** The next step of one process, as one or more states that may follow, each with what happened. */
class Model {
  readonly #configuration: Configuration;
  readonly #mutant: Mutant | undefined;

  constructor(configuration: Configuration) {
    this.#configuration = configuration;
    this.#mutant = configuration.mutant;
  }

  start(): State {
    const state = new Uint8Array(SIZE);
    // control.ts createQueue: one segment is the tail, another a spare.
    for (let id = 1; id <= 1 + SPARES; id++) state[segment(id) + S_EXISTS] = 1;
    state[segment(1) + S_BASE] = 1;
    for (let i = 0; i < SPARES; i++) state[SPARE + i] = 2 + i;
    state[NEXT_ID] = 2 + SPARES;
    state.set([1, 1, 0, 1], TAIL);
    state.set([1, 1, 0, 1, 0, 1], CURSOR);
    for (let p = 0; p < this.#configuration.calls.length; p++) {
      state[PROCESS_AT + p * PROCESS_FIELDS + P_ALIVE] = 1;
      state[PROCESS_AT + p * PROCESS_FIELDS + P_GENERATION] = 1;
    }
    return state;
  }

  /** Everything that may happen next. */
  next(state: State): { state: State; label: string }[] {
    const { calls, deaths, restarts = false } = this.#configuration;
    const found: { state: State; label: string }[] = [];
    let waiting = false;
    for (let p = 0; p < calls.length; p++) {
      const own = PROCESS_AT + p * PROCESS_FIELDS;
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
        const what = new Step(after, p, this.#mutant, this.#configuration.capacity).run(call, choice);
        if (what !== undefined) found.push({ state: after, label: `${p} ${call}: ${what}` });
      }
    }
    if (waiting && found.length === 0) fail("nobody who lives can go on");
    if (at(state, DEATHS) < deaths) {
      for (let p = 0; p < calls.length; p++) {
        const own = PROCESS_AT + p * PROCESS_FIELDS;
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
    const step = at(state, PROCESS_AT + p * PROCESS_FIELDS + P_STEP);
    if (step !== CHOOSE || (call !== "pop" && call !== "lease" && call !== "leaseLate")) return [false];
    for (let i = 0; i < LEASES; i++) if (at(state, lease(i)) > 0 && at(state, lease(i) + L_LATE) > 0) return [false, true];
    return [false];
  }
}

function ownerWord(state: State, p: number): number {
  return at(state, PROCESS_AT + p * PROCESS_FIELDS + P_GENERATION) * PROCESSES + p + 1;
}

function isAlive(state: State, owner: number): boolean {
  const p = (owner - 1) % PROCESSES;
  return at(state, PROCESS_AT + p * PROCESS_FIELDS + P_ALIVE) === 1 && ownerWord(state, p) === owner;
}

/** The kernel drops the lock of its slot; what it knew is gone. */
function die(state: State, p: number): void {
  const own = PROCESS_AT + p * PROCESS_FIELDS;
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

class Step {
  readonly #state: State;
  readonly #p: number;
  readonly #own: number;
  readonly #mutant: Mutant | undefined;
  readonly #capacity: number;

  constructor(state: State, p: number, mutant: Mutant | undefined, capacity: number) {
    this.#state = state;
    this.#p = p;
    this.#own = PROCESS_AT + p * PROCESS_FIELDS;
    this.#mutant = mutant;
    this.#capacity = capacity;
  }

  /** Does one step; says what it was, or undefined if it can't be done now. */
  run(call: Call, choice: boolean): string | undefined {
    switch (call) {
      case "push":
        return this.#push(1);
      case "push2":
        return this.#push(2);
      case "pop":
      case "lease":
      case "leaseLate":
        return this.#consume(call, choice);
      case "ack":
      case "release":
        return this.#settle(call);
      case "peek":
        return this.#peek();
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

  /** commit.c take_lock; control.ts #acquireSlowly: only the kernel's word that the owner is dead lets another have it. */
  #acquire(lock: number): string | undefined {
    const owner = this.#get(lock);
    // Its own: in lib what an exception left, here what an earlier holder of the slot left if both are the same.
    if (owner !== 0 && owner !== this.#me && this.#mutant !== "steal by time" && this.#alive(owner)) return undefined;
    this.#state[lock] = this.#me;
    this.#keep(TAKEOVER, owner === 0 ? 0 : 1);
    this.#go(READ_CELL);
    return owner === 0 ? "takes the lock" : `takes the lock over from ${(owner - 1) % PROCESSES}`;
  }

  /** commit.c read_cell: whole, by the version before and after. */
  #copyCell(cell: number, count: number): void {
    for (let i = 0; i < count; i++) this.#keep(CELL + i, this.#get(cell + i));
  }

  /** commit.c publish: one store. False if the lock is another's by now (HF_E_OWNER). */
  #publish(lock: number, cell: number, count: number): boolean {
    if (this.#get(lock) !== this.#me) return false;
    for (let i = 0; i < count; i++) this.#state[cell + i] = this.#local(CELL + i);
    return true;
  }

  /** commit.c release_lock. */
  #unlock(lock: number): void {
    if (this.#get(lock) === this.#me) this.#state[lock] = 0;
  }

  // ---- lib/queue/producer.ts, append

  #push(count: number): string | undefined {
    const early = this.#mutant === "commit before payload";
    const linkedLate = this.#mutant === "segment linked after the commit";
    switch (this.#step) {
      case LOCK: // control.acquire(side)
        if (this.#get(PUSHED) + count > RECORDS) return this.#end(), "has nothing to push";
        return this.#acquire(PRODUCER_LOCK);
      case READ_CELL: // hf_begin: the cell; requestSweep() after a takeover
        this.#copyCell(TAIL, 4);
        if (this.#local(TAKEOVER) === 1) this.#state[SWEEP] = 1;
        this.#keep(VALUE, this.#get(PUSHED) + 1);
        this.#state[PUSHED] = this.#get(PUSHED) + count;
        this.#go(3);
        return "reads the cell";
      case 3: // write: is there room?
        if (this.#local(CELL + OFFSET) < this.#capacity) this.#go(early && this.#local(COUNT) === count - 1 ? 9 : 7);
        else this.#go(4);
        return "looks for room";
      case 4: // segments.take: a spare whose base is 0, by compare-exchange; or a new file
        return this.#takeSegment();
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
      case 7: // hf_record_write, hf_records_write: first bytes …
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
        if (!this.#publish(PRODUCER_LOCK, TAIL, 4)) return this.#end(), "finds that the lock is another's";
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
        this.#go(REPORT);
        return "releases the lock";
      default: // push returns
        this.#end();
        return "is done";
    }
  }

  #link(from: number, end: number, id: number): void {
    this.#state[segment(from) + S_END] = end;
    this.#state[segment(from) + S_NEXT] = id;
  }

  #write(number: number): void {
    const place = segment(this.#local(CELL + SEGMENT)) + S_RECORDS + 2 * this.#local(CELL + OFFSET);
    this.#state[place] = number;
    this.#state[place + 1] = this.#local(CELL + BASE);
  }

  #advanceTail(): void {
    this.#keep(CELL + OFFSET, this.#local(CELL + OFFSET) + 1);
    this.#keep(CELL + SEQUENCE, this.#local(CELL + SEQUENCE) + 1);
    this.#keep(COUNT, this.#local(COUNT) + 1);
  }

  #takeSegment(): string {
    for (let i = 0; i < SPARES; i++) {
      const id = this.#get(SPARE + i);
      if (id === 0) continue;
      if (this.#get(segment(id) + S_EXISTS) === 0) fail(`segment ${id} is a spare, but its file is gone`);
      if (this.#get(segment(id) + S_BASE) !== 0) continue;
      this.#state[SPARE + i] = 0;
      this.#keep(TAKEN, id);
      this.#go(5);
      return `takes the spare ${id}`;
    }
    const id = this.#get(NEXT_ID);
    if (id > SEGMENTS) {
      this.#go(UNLOCK);
      return "finds the disk full";
    }
    this.#state[NEXT_ID] = id + 1;
    this.#state[segment(id) + S_EXISTS] = 1;
    this.#keep(TAKEN, id);
    this.#go(5);
    return `makes segment ${id}`;
  }

  // ---- lib/queue/consumer.ts, remove and grant

  #consume(call: "pop" | "lease" | "leaseLate", late: boolean): string | undefined {
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
      case AGAIN + 1: // leases.transfer: deadline and attempts …
        this.#state[lease(this.#local(INDEX)) + L_ATTEMPTS] = this.#get(lease(this.#local(INDEX)) + L_ATTEMPTS) + 1;
        this.#state[lease(this.#local(INDEX)) + L_LATE] = call === "leaseLate" ? 1 : 0;
        this.#go(AGAIN + 2);
        return "counts the attempt";
      case AGAIN + 2: // … then the owner
        return this.#nameOwner();
      case NEXT: // leases.write: whole, its sequence last
        if (this.#mutant === "lease entry after the cursor") this.#go(NEXT + 1);
        else this.#writeEntry(call), this.#go(NEXT + 1);
        return "writes the lease entry";
      case NEXT + 1: // the cursor moves over the record: control.commit
        this.#keep(CELL + LEASED, this.#local(CELL + LEASED) + 1);
        if (!this.#publish(CONSUMER_LOCK, CURSOR, 6)) return this.#end(), "finds that the lock is another's";
        this.#handOut(this.#local(VALUE), true);
        this.#state[HOLDER + this.#local(VALUE)] = this.#me;
        this.#state[HOLDER_LATE + this.#local(VALUE)] = call === "leaseLate" ? 1 : 0;
        this.#go(NEXT + 2);
        return `publishes the cursor, and leases ${this.#local(VALUE)}`;
      case NEXT + 2:
        if (this.#mutant === "lease entry after the cursor") this.#writeEntry(call);
        this.#keep(MINE_INDEX, this.#local(INDEX) + 1);
        this.#keep(MINE_SEQUENCE, this.#local(CELL + SEQUENCE) - 1);
        this.#keep(MINE_ATTEMPTS, 1);
        this.#go(UNLOCK);
        return "keeps the lease";
      default:
        return this.#finish();
    }
  }

  #readCursor(then: number): string {
    this.#copyCell(CURSOR, 6);
    if (this.#local(TAKEOVER) === 1) this.#state[SWEEP] = 1; // #repair: requestSweep
    this.#go(this.#local(TAKEOVER) === 1 && this.#mutant !== "no repair after a takeover" ? REPAIR : then);
    return "reads the cell";
  }

  /** consumer.ts #repair, leases.ts repair: one entry at a time is freed, then the counts are published. */
  #repair(then: number): string {
    for (let i = 0; i < LEASES; i++) {
      if (this.#get(lease(i)) !== this.#local(CELL + SEQUENCE)) continue;
      this.#state[lease(i)] = 0;
      return `frees lease entry ${i}, which was being written`;
    }
    const leased = this.#entries().length;
    this.#keep(CELL + LEASED, leased);
    this.#go(then);
    this.#publish(CONSUMER_LOCK, CURSOR, 6);
    return "repairs the counts";
  }

  /** The lease entries that count: below the cursor. */
  #entries(): number[] {
    const found: number[] = [];
    for (let i = 0; i < LEASES; i++) {
      const sequence = this.#get(lease(i));
      if (sequence > 0 && sequence < this.#local(CELL + SEQUENCE)) found.push(i);
    }
    return found;
  }

  #choose(call: "pop" | "lease" | "leaseLate", late: boolean): string {
    const entries = this.#entries();
    if (entries.length !== this.#local(CELL + LEASED)) fail(`${this.#local(CELL + LEASED)} records are leased, but the lease table has ${entries.length}`);
    // leases.again: the oldest that was given back, is late, or whose holder is dead.
    const again = entries
      .filter((i) => {
        const owner = this.#get(lease(i) + L_OWNER);
        return owner === 0 || !this.#alive(owner) || (late && this.#get(lease(i) + L_LATE) === 1);
      })
      .sort((a, b) => this.#get(lease(a)) - this.#get(lease(b)))[0];
    if (again !== undefined) {
      this.#keep(INDEX, again);
      this.#keep(VALUE, this.#record(this.#get(lease(again) + L_SEGMENT), this.#get(lease(again) + L_OFFSET), this.#get(lease(again) + L_BASE)));
      this.#go(AGAIN);
      return `finds ${this.#local(VALUE)}, handed out before`;
    }
    // reader.atRecord: over the ends of segments, while there is something behind.
    if (this.#local(CELL + SEQUENCE) >= this.#get(TAIL + SEQUENCE)) {
      this.#go(UNLOCK);
      return "finds nothing";
    }
    if (!this.#overTheEnd()) fail("a segment does not go on where it should");
    const number = this.#record(this.#local(CELL + SEGMENT), this.#local(CELL + OFFSET), this.#local(CELL + BASE));
    this.#keep(VALUE, number);
    if (call !== "pop") {
      const free = Array.from({ length: LEASES }, (_, i) => i).find((i) => !entries.includes(i));
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
  #record(id: number, offset: number, base: number): number {
    const number = readRecord(this.#state, id, offset, base);
    return number ?? fail(`the record in segment ${id} at ${offset} is damaged`);
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
    this.#go(UNLOCK);
    return `leases ${number} again`;
  }

  /** A record is handed out: what must be true of it. */
  #handOut(number: number, first: boolean): void {
    if (this.#get(REMOVED + number) === 1) fail(`${number} is handed out, but was removed`);
    const holder = this.#get(HOLDER + number);
    if (holder !== 0 && this.#alive(holder) && this.#get(HOLDER_LATE + number) === 0) fail(`${number} is handed out to ${this.#p} while ${(holder - 1) % PROCESSES} has it`);
    if (!first) return;
    if (this.#get(ORDER + this.#get(HANDED_OUT)) !== number) fail(`${number} is handed out, but it is not its turn`);
    this.#state[HANDED_OUT] = this.#get(HANDED_OUT) + 1;
  }

  #remove(number: number): void {
    if (this.#get(REMOVED + number) === 1) fail(`${number} is removed twice`);
    this.#state[REMOVED + number] = 1;
    this.#state[HOLDER + number] = 0;
  }

  /** consumer.ts #forget: the entry's one store is what removes its record. */
  #freeEntry(settled: boolean): string {
    const index = this.#local(INDEX);
    const others = this.#entries().filter((i) => i !== index);
    this.#unneeded(others);
    if (!settled) this.#handOut(this.#local(VALUE), false);
    this.#state[lease(index)] = 0;
    this.#remove(this.#local(VALUE));
    this.#keep(CELL + LEASED, this.#local(CELL + LEASED) - 1);
    this.#keep(VALUE, 0); // removed
    this.#go(FINISH);
    return "frees the lease entry";
  }

  /** consumer.ts #unneeded: the head moves in the copy; the first segment that it leaves is kept to be given up. One at a time here. */
  #unneeded(entries: readonly number[]): void {
    const head = this.#local(CELL + HEAD);
    const leased = this.#mutant !== "segment given up with a lease in it" && entries.some((i) => this.#get(lease(i) + L_SEGMENT) === head);
    if (head === this.#local(CELL + SEGMENT) || leased) return;
    const next = this.#get(segment(head) + S_NEXT);
    if (next === 0 || this.#get(segment(next) + S_BASE) !== this.#get(segment(head) + S_BASE) + 1) fail(`segment ${head} goes on in ${next}, which does not follow it`);
    this.#keep(CELL + HEAD, next);
    this.#keep(TAKEN, head);
  }

  /** consumer.ts #finish: the commit, then the segments that nobody refers to any more, then a sweep if one is due. */
  #finish(): string {
    const early = this.#mutant === "segment given up before the commit";
    const given = this.#local(TAKEN);
    switch (this.#step) {
      case FINISH: // control.commit, control.publish
        if (early && given > 0 && this.#get(segment(given) + S_BASE) > 0) {
          this.#clearSegment(given);
          return `clears segment ${given}`;
        }
        if (!this.#publish(CONSUMER_LOCK, CURSOR, 6)) return this.#end(), "finds that the lock is another's";
        if (this.#local(VALUE) > 0) {
          this.#handOut(this.#local(VALUE), true);
          this.#remove(this.#local(VALUE));
        }
        this.#go(given > 0 ? FINISH + 1 : UNLOCK);
        return this.#local(VALUE) > 0 ? `publishes the cursor, and removes ${this.#local(VALUE)}` : "publishes the counts";
      case FINISH + 1: // segments.recycle: setState(id, 0, 0, 0) …
        this.#clearSegment(given);
        this.#go(FINISH + 2);
        return `clears segment ${given}`;
      case FINISH + 2: { // … then by compare-exchange into the list of spares; or its file is removed
        const free = Array.from({ length: SPARES }, (_, i) => i).find((i) => this.#get(SPARE + i) === 0);
        if (free === undefined) this.#removeFile(given);
        else this.#state[SPARE + free] = given;
        this.#go(this.#get(SWEEP) === 1 ? SWEEPING : UNLOCK);
        return free === undefined ? `removes segment ${given}` : `makes segment ${given} a spare`;
      }
      case SWEEPING: // #sweepIfAsked: tryAcquire of the producer lock
        if (this.#get(PRODUCER_LOCK) !== 0) {
          this.#go(UNLOCK);
          return "leaves the sweep to another";
        }
        this.#state[PRODUCER_LOCK] = this.#me;
        this.#go(SWEEPING + 1);
        return "takes the producer lock to sweep";
      case SWEEPING + 1: { // segments.sweep: one file at a time
        const waste = this.#waste();
        if (waste !== undefined) {
          this.#removeFile(waste);
          return `sweeps segment ${waste}`;
        }
        this.#state[SWEEP] = 0;
        this.#go(SWEEPING + 2);
        return "has swept";
      }
      case SWEEPING + 2:
        this.#unlock(PRODUCER_LOCK);
        this.#go(UNLOCK);
        return "releases the producer lock";
      case UNLOCK:
        this.#unlock(CONSUMER_LOCK);
        this.#go(REPORT);
        return "releases the lock";
      default:
        this.#end();
        return "is done";
    }
  }

  #clearSegment(id: number): void {
    this.#state.fill(0, segment(id) + S_BASE, segment(id) + S_NEXT + 1);
  }

  #removeFile(id: number): void {
    this.#state.fill(0, segment(id), segment(id) + SEGMENT_FIELDS);
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

  #settle(call: "ack" | "release"): string | undefined {
    switch (this.#step) {
      case LOCK:
        if (this.#local(MINE_INDEX) === 0) return this.#end(), "has no lease";
        return this.#acquire(CONSUMER_LOCK);
      case READ_CELL:
        return this.#readCursor(CHOOSE);
      case REPAIR:
        return this.#repair(CHOOSE);
      case CHOOSE: { // #held: sequence, owner and attempts are those of this lease
        const index = this.#local(MINE_INDEX) - 1;
        const entry = lease(index);
        const same = this.#get(entry) === this.#local(MINE_SEQUENCE);
        const mine = this.#get(entry + L_OWNER) === this.#me && this.#get(entry + L_ATTEMPTS) === this.#local(MINE_ATTEMPTS);
        this.#keep(INDEX, index);
        this.#forgetLease();
        if (!same || (!mine && this.#mutant !== "ack without a look at the owner")) {
          this.#go(UNLOCK);
          return "finds its lease stale";
        }
        this.#keep(VALUE, this.#record(this.#get(entry + L_SEGMENT), this.#get(entry + L_OFFSET), this.#get(entry + L_BASE)));
        if (this.#get(HOLDER + this.#local(VALUE)) !== this.#me) fail(`${this.#local(VALUE)} is settled by ${this.#p}, which does not have it`);
        this.#go(call === "ack" ? AGAIN : AGAIN + 1);
        return "finds its lease";
      }
      case AGAIN: // leases.clear, then the counts
        return this.#freeEntry(true);
      case AGAIN + 1: // leases.giveBack
        this.#state[lease(this.#local(INDEX)) + L_OWNER] = 0;
        this.#state[HOLDER + this.#local(VALUE)] = 0;
        this.#go(UNLOCK);
        return "gives the lease back";
      default:
        return this.#finish();
    }
  }

  // ---- lib/queue.ts, #walk: without a lock

  #peek(): string {
    switch (this.#step) {
      case LOCK: // reader.look: the cursor …
        this.#copyCell(CURSOR, 6);
        this.#go(READ_CELL);
        return "reads the cursor";
      case READ_CELL: { // … and the tail; then the words of segments, and the record. Each may have been used again meanwhile.
        if (this.#local(CELL + SEQUENCE) >= this.#get(TAIL + SEQUENCE)) return this.#end(), "finds nothing";
        this.#keep(COUNT, this.#local(CELL + SEQUENCE));
        this.#keep(INDEX, this.#overTheEnd() ? 1 : 0);
        this.#go(READ_CELL + 1);
        return "looks for the record";
      }
      default: {
        const [id, offset, base] = [this.#local(CELL + SEGMENT), this.#local(CELL + OFFSET), this.#local(CELL + BASE)];
        const number = this.#local(INDEX) === 1 && offset < this.#capacity ? readRecord(this.#state, id, offset, base) : undefined;
        const overtaken = this.#get(CURSOR + SEQUENCE) > this.#local(COUNT);
        if (number === undefined && !overtaken) fail("who looks without a lock finds damage, and was not overtaken");
        if (number !== undefined && this.#get(ORDER + this.#local(COUNT) - 1) !== number) fail(`who looks without a lock finds ${number} in the place of another`);
        this.#end();
        return number === undefined ? "was overtaken" : `sees ${number}`;
      }
    }
  }
}

/** The record at a place: its checksum is of the queue and of its position, so that what a segment held in an earlier use is none. */
function readRecord(state: State, id: number, offset: number, base: number): number | undefined {
  if (id === 0 || at(state, segment(id) + S_EXISTS) === 0) return undefined;
  const place = segment(id) + S_RECORDS + 2 * offset;
  const number = at(state, place);
  return number === 0 || number === HALF || at(state, place + 1) !== base ? undefined : number;
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
    const number = readRecord(state, at(state, lease(i) + L_SEGMENT), at(state, lease(i) + L_OFFSET), at(state, lease(i) + L_BASE));
    if (number === undefined) fail(`the leased record ${found} is damaged or gone`);
    leases.push({ sequence: found, number });
  }
  // Nobody holds the lock: nobody died inside, and nothing will be repaired.
  if (at(state, CONSUMER_LOCK) === 0 && leases.length !== at(state, CURSOR + LEASED)) fail(`${at(state, CURSOR + LEASED)} records are leased, but the lease table has ${leases.length}`);
  const records: number[] = leases.sort((a, b) => a.sequence - b.sequence).map(({ number }) => number);
  let [id, offset, base] = [at(state, CURSOR + SEGMENT), at(state, CURSOR + OFFSET), at(state, CURSOR + BASE)];
  for (let next = sequence; next < at(state, TAIL + SEQUENCE); next++) {
    while (id !== at(state, TAIL + SEGMENT) && offset === at(state, segment(id) + S_END)) {
      const following = at(state, segment(id) + S_NEXT);
      if (following === 0 || at(state, segment(following) + S_BASE) !== base + 1) fail(`segment ${id} goes on in ${following}, which does not follow it`);
      [id, offset, base] = [following, 0, base + 1];
    }
    records.push(readRecord(state, id, offset, base) ?? fail(`record ${next} in segment ${id} at ${offset} is damaged`));
    offset++;
  }
  return records;
}

/** What must be true in every state. */
function check(state: State, mutant: Mutant | undefined): void {
  const expected: number[] = [];
  for (let i = 0; i < at(state, COMMITTED); i++) {
    const number = at(state, ORDER + i);
    if (at(state, REMOVED + number) === 0) expected.push(number);
  }
  const found = survivor(state, mutant);
  if (found.join() !== expected.join()) fail(`a survivor finds ${found.join(" ") || "nothing"} instead of ${expected.join(" ") || "nothing"}`);
  const inside = at(state, CONSUMER_LOCK);
  if (inside === 0 || !isAlive(state, inside)) checkLeases(state);
}

/** Nobody is about to change the table: who is said to have a record, and lives, knows that, so that it can settle it; or it is late. */
function checkLeases(state: State): void {
  for (let i = 0; i < LEASES; i++) {
    const sequence = at(state, lease(i));
    const owner = at(state, lease(i) + L_OWNER);
    if (sequence === 0 || sequence >= at(state, CURSOR + SEQUENCE) || owner === 0 || !isAlive(state, owner) || at(state, lease(i) + L_LATE) === 1) continue;
    const p = (owner - 1) % PROCESSES;
    const local = PROCESS_AT + p * PROCESS_FIELDS + P_LOCALS;
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
      check(state, configuration.mutant);
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
