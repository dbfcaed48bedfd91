/**
 * A child that does one thing with a queue and kills itself at a native call, before or after it. What it has done it says on stdout, one
 * line each, written before it goes on. `every_call_table.ts` is the other end.
 *
 * Usage: every_call.ts QUEUE AT before|after SCENARIO, AT being a number, counted from the first call, or NAME#NUMBER, of one function
 */
import { type Lease, Queue, type ReadAhead } from "../../mod.ts";

/** A record's payload: its name in two letters, and as many bytes as the scenario wants. */
const SMALL = 40;
const LARGE = 1500; // two of a segment of 4,096 bytes
const HUGE = 9000; // a segment of its own

/** What a scenario does with its queue; each call is said before and after. */
export class Actor {
  readonly queue: Queue<string>;
  readonly #say: (text: string) => void;

  constructor(queue: Queue<string>, say: (text: string) => void) {
    this.queue = queue;
    this.#say = say;
  }

  push(bytes: number, ...names: string[]): void {
    const values = names.map((name) => name.padEnd(bytes, "x"));
    this.#say(`pushing ${names.join(" ")}`);
    if (values.length === 1) this.queue.push(values[0] as string);
    else this.queue.pushMany(values);
    this.#say("pushed");
  }

  take(count: number): void {
    this.#say(`taking ${count}`);
    const values = count === 1 ? [this.queue.pop() as string] : this.queue.popMany(count);
    this.#say(`took ${values.map(nameOf).join(" ")}`);
  }

  /** Removes the first records, of those that were read ahead. */
  removeThrough(ahead: ReadAhead<string>, names: readonly string[]): void {
    this.#say(`taking ${names.length}`);
    ahead.removeThrough(names.length);
    this.#say(`took ${names.join(" ")}`);
  }

  lease(leaseMs?: number): Lease<string> {
    const lease = this.queue.lease(leaseMs === undefined ? undefined : { leaseMs }) as Lease<string>;
    this.#say(`leased ${nameOf(lease.value)}`);
    return lease;
  }

  ack(lease: Lease<string>): void {
    this.#say(`acking ${nameOf(lease.value)}`);
    lease.ack();
    this.#say("acked");
  }

  clear(): void {
    this.#say("clearing");
    this.queue.clear();
    this.#say("cleared");
  }

  /** Leases, where that moves a record to the dead-letter queue first. */
  bury(name: string): void {
    this.#say(`burying ${name}`);
    const lease = this.queue.lease();
    this.#say(`buried ${name}`);
    if (lease !== undefined) this.#say(`leased ${nameOf(lease.value)}`);
  }

  release(lease: Lease<string>): void {
    this.#say(`releasing ${nameOf(lease.value)}`);
    lease.release();
    this.#say("released");
  }
}

/** Where the dead letters of a queue go, in a scenario with some. */
export const deadLettersOf = (path: string): string => `${path}-dead`;

/** The name of the record with this value. */
export function nameOf(value: string): string {
  return value.slice(0, 2);
}

export interface Scenario {
  /** What is in the queue before, pushed one by one: their names, and their bytes. */
  readonly before?: readonly (readonly [name: string, bytes: number])[];
  /** How many are popped again before. */
  readonly popped?: number;
  /** Several changes, one after the other; all others are done as a whole or not at all. */
  readonly several?: boolean;
  /** The driver has leased the first, is late with it, and lives. */
  readonly lateHolder?: boolean;
  /** An earlier victim: of which scenario, and where it was killed. */
  readonly after?: { readonly scenario: string; readonly at: string; readonly when: "before" | "after" };
  /** Done in the child before it counts. */
  begin?(actor: Actor): unknown;
  /** Done call by call. Without a queue: from its opening on. */
  act(actor: Actor, begun: never): void;
  /** Records that were handed out once go to the dead-letter queue, which is there already with as many letters. */
  readonly deadLetters?: number;
  /** The opening is counted, too. */
  readonly opens?: boolean;
  /** The child consumes alone. */
  readonly exclusive?: boolean;
  /** There is no queue yet. */
  readonly creates?: boolean;
}

const two = [["a1", SMALL], ["a2", SMALL]] as const;
/** A segment that is full, and the next one taken. */
const three = [["a1", LARGE], ["a2", LARGE], ["a3", LARGE]] as const;
/** Twenty segments, more than are given up while the lock is held, and none can be a spare. */
const twenty = Array.from({ length: 20 }, (_, i) => [`${i < 10 ? "d" : "e"}${i % 10}`, HUGE] as const);
/** Four segments. */
const seven = [...three, ["a4", LARGE], ["a5", LARGE], ["a6", LARGE], ["a7", LARGE]] as const;

function readAll(actor: Actor, max: number): ReadAhead<string> {
  const ahead = actor.queue.readAhead();
  ahead.next(max);
  return ahead;
}

export const scenarios: Readonly<Record<string, Scenario>> = {
  // The first of a handle goes step by step: it does not know the segment yet. From the second on it is one native call.
  "push": { before: two, act: (actor) => actor.push(SMALL, "b1") },
  "push after a push": { before: two, begin: (actor) => actor.push(SMALL, "b1"), act: (actor) => actor.push(SMALL, "b2") },
  "push after a push, into the next segment": {
    before: three.slice(0, 1),
    begin: (actor) => actor.push(LARGE, "b1"),
    act: (actor) => actor.push(LARGE, "b2"),
  },
  "push into the next segment, a spare": { before: three.slice(0, 2), act: (actor) => actor.push(LARGE, "b1") },
  "push into the next segment, a new file": { before: seven.slice(0, 4), act: (actor) => actor.push(LARGE, "b1") },
  "push of a record larger than a segment": { before: two, act: (actor) => actor.push(HUGE, "b1") },
  "pushMany over two segment ends": { before: three.slice(0, 1), act: (actor) => actor.push(LARGE, "b1", "b2", "b3", "b4") },
  "pop": { before: two, act: (actor) => actor.take(1) },
  "pop after a pop": { before: [...two, ["a3", SMALL]], begin: (actor) => actor.take(1), act: (actor) => actor.take(1) },
  "pop after a pop, the last of a segment": { before: three, begin: (actor) => actor.take(1), act: (actor) => actor.take(1) },
  "pop after a pop, over a segment end": { before: three, popped: 1, begin: (actor) => actor.take(1), act: (actor) => actor.take(1) },
  "pop over a segment end, which frees a spare": { before: three, popped: 2, act: (actor) => actor.take(1) },
  "popMany over a segment end": { before: three, act: (actor) => actor.take(3) },
  "popMany over three segment ends, which removes files": { before: seven, act: (actor) => actor.take(9) },
  "popMany with leases given back": {
    before: seven,
    several: true, // each lease entry is freed by a store of its own
    begin(actor) {
      const leases = [actor.lease(), actor.lease(), actor.lease()];
      leases.forEach((lease) => actor.release(lease));
    },
    act: (actor) => actor.take(9),
  },
  "removeThrough, to where the reader has been": {
    before: seven,
    exclusive: true,
    begin: (actor) => readAll(actor, 9),
    act: (actor, ahead) => actor.removeThrough(ahead, ["a1", "a2", "a3", "a4", "a5", "a6", "a7"]),
  },
  "removeThrough, to a record in between": {
    before: seven,
    exclusive: true,
    begin: (actor) => readAll(actor, 9),
    act: (actor, ahead) => actor.removeThrough(ahead, ["a1", "a2", "a3", "a4", "a5"]),
  },
  "lease": { before: two, act: (actor) => void actor.lease() },
  "lease over a segment end": { before: three, popped: 2, act: (actor) => void actor.lease() },
  "ack": { before: two, begin: (actor) => actor.lease(), act: (actor, lease) => actor.ack(lease) },
  "ack that frees a segment": {
    before: three,
    begin(actor) {
      const lease = actor.lease();
      actor.take(2);
      return lease;
    },
    act: (actor, lease) => actor.ack(lease),
  },
  "release": { before: two, begin: (actor) => actor.lease(), act: (actor, lease) => actor.release(lease) },
  "lease of what was given back": { before: two, begin: (actor) => actor.release(actor.lease()), act: (actor) => void actor.lease() },
  "lease of what is late": {
    before: two,
    begin(actor) {
      actor.lease(1);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    },
    act: (actor) => void actor.lease(),
  },
  "lease of what a living one has too late": { before: two, lateHolder: true, act: (actor) => void actor.lease() },
  "lease of a dead holder's": {
    before: two,
    after: { scenario: "lease", at: "hf_commit#1", when: "after" },
    act: (actor) => void actor.lease(),
  },
  "pop after a death inside push": { before: two, after: { scenario: "pushMany over two segment ends", at: "hf_records_write#1", when: "after" }, act: (actor) => actor.take(2) },
  "push after a death inside push": { before: two, after: { scenario: "pushMany over two segment ends", at: "hf_records_write#1", when: "after" }, act: (actor) => actor.push(SMALL, "c1") },
  "pop after a death inside lease: the entry is freed": {
    before: two,
    after: { scenario: "lease", at: "hf_words_store#1", when: "after" },
    act: (actor) => actor.take(1),
  },
  "pop after a death inside ack: counts are repaired": {
    before: two,
    after: { scenario: "ack", at: "hf_words_store#1", when: "after" },
    act: (actor) => actor.take(1),
  },
  "lease after a death inside a transfer": {
    before: two,
    after: { scenario: "lease of what was given back", at: "hf_words_store#2", when: "after" },
    act: (actor) => void actor.lease(),
  },
  "sweep of what a death inside push left": {
    several: true,
    before: seven.slice(0, 4),
    after: { scenario: "push into the next segment, a new file", at: "hf_words_store#1", when: "after" },
    act(actor) {
      actor.push(SMALL, "c1"); // takes the lock over and asks for a sweep
      actor.take(9);
    },
  },
  "sweep of what a death inside pop left": {
    several: true,
    before: three,
    popped: 2,
    after: { scenario: "pop over a segment end, which frees a spare", at: "hf_publish#1", when: "after" },
    act(actor) {
      actor.push(LARGE, "c1", "c2", "c3");
      actor.take(9);
    },
  },
  "push and flush": {
    before: two,
    act(actor) {
      actor.push(SMALL, "b1");
      actor.queue.flush();
    },
  },
  "extend": { before: two, begin: (actor) => actor.lease(), act: (_, lease: Lease<string>) => lease.extend(60_000) },
  "clear, with a lease": { before: seven, begin: (actor) => actor.lease(), act: (actor) => actor.clear() },
  "clear, with leases of which one was given back": {
    before: seven,
    begin(actor) {
      const first = actor.lease();
      actor.lease();
      actor.lease();
      actor.release(first);
    },
    act: (actor) => actor.clear(),
  },
  "clear, of twenty segments": { before: [...twenty, ["a1", SMALL]], act: (actor) => actor.clear() },
  "popMany over twenty segment ends": { before: [...twenty, ["a1", SMALL]], act: (actor) => actor.take(30) },
  "lease after a death inside clear: entries that it left are freed": {
    several: true,
    before: seven,
    after: { scenario: "clear, with leases of which one was given back", at: "hf_publish#1", when: "after" },
    act(actor) {
      actor.push(SMALL, "c1");
      actor.ack(actor.lease());
      actor.push(SMALL, "c2");
      actor.take(1);
    },
  },
  "compact": { before: seven, begin: (actor) => actor.take(6), act: (actor) => void actor.queue.compact() },
  "compact, which leaves a large tail": { before: [...two, ["a3", HUGE]], popped: 3, act: (actor) => void actor.queue.compact() },
  "compact, with a lease in front of the tail": {
    before: [...three, ["a4", HUGE]],
    begin(actor) {
      actor.lease();
      actor.take(3);
    },
    act: (actor) => void actor.queue.compact(),
  },
  "push and pop after a death between the two commits that leave a large tail": {
    several: true,
    before: [...two, ["a3", HUGE]],
    popped: 3,
    after: { scenario: "compact, which leaves a large tail", at: "hf_publish#1", when: "after" },
    act(actor) {
      actor.push(LARGE, "c1", "c2", "c3");
      actor.take(2);
      actor.queue.compact();
      actor.take(9);
    },
  },
  "compact after a death before the commits that leave a large tail": {
    several: true,
    before: [...two, ["a3", HUGE]],
    popped: 3,
    after: { scenario: "compact, which leaves a large tail", at: "hf_publish#1", when: "before" },
    act(actor) {
      actor.queue.compact();
      actor.push(LARGE, "c1", "c2", "c3");
      actor.take(9);
    },
  },
  "dead letter, the first": { before: two, deadLetters: 0, begin: (actor) => actor.release(actor.lease()), act: (actor) => actor.bury("a1") },
  "dead letter, one more": { before: two, deadLetters: 1, begin: (actor) => actor.release(actor.lease()), act: (actor) => actor.bury("a1") },
  "dead letter, from a segment that it frees": {
    before: three,
    deadLetters: 1,
    begin(actor) {
      const lease = actor.lease();
      actor.take(1);
      actor.release(lease);
    },
    act: (actor) => actor.bury("a1"),
  },
  "dead letter of a dead burier's": {
    several: true, // in both queues where two died
    before: two,
    deadLetters: 1,
    after: { scenario: "dead letter, one more", at: "hf_commit#1", when: "after" },
    act: (actor) => actor.bury("a1"),
  },
  "open": { before: two, opens: true, act() {} },
  "create": { creates: true, opens: true, act: (actor) => actor.push(SMALL, "b1") },
  "close with a lease": { before: two, begin: (actor) => actor.lease(), act: (actor) => actor.queue.close() },
  "a list of all": {
    several: true,
    act(actor) {
      actor.push(SMALL, "a1");
      actor.push(LARGE, "b1", "b2", "b3");
      const first = actor.lease();
      actor.ack(actor.lease());
      actor.take(1);
      actor.release(first);
      actor.push(LARGE, "c1", "c2");
      actor.take(2);
      actor.ack(actor.lease());
      actor.push(LARGE, "d1", "d2");
      actor.take(9);
    },
  },
};

if (import.meta.main) {
  const [path, at, when, name] = process.argv.slice(2) as [string, string, string, string];
  const mortal = await import("../support/mortal.ts");
  const { say } = mortal;
  const arm = (): { readonly calls: number } => {
    const [chosen, number] = at.includes("#") ? at.split("#") : [undefined, at];
    return mortal.arm(Number(number), when, chosen);
  };
  const { begin, act, opens = false, deadLetters, exclusive = false } = scenarios[name] as Scenario;
  const letters = deadLetters === undefined ? {} : { maxAttempts: 1, deadLetter: deadLettersOf(path) };
  const open = (): Actor => new Actor(Queue.open<string>(path, { codec: "text", capacityBytes: 8192, exclusive, ...letters }), say);
  let state: { readonly calls: number };
  if (opens) {
    state = arm();
    const actor = open();
    act(actor, undefined as never);
  } else {
    const actor = open();
    const begun = begin?.(actor);
    state = arm();
    act(actor, begun as never);
  }
  say(`done ${state.calls}`);
}
