/** Walks backwards against an array: whatever was pushed, popped, leased, cleared and compacted before, and while they go on. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { type Lease, Queue } from "../../mod.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();

interface Entry {
  readonly number: number;
  readonly text: string;
}

/** A queue and what is in it. */
class Pair {
  readonly queues: readonly Queue<string>[];
  /** In the order of pushing. */
  ready: Entry[] = [];
  released: Entry[] = [];
  leased: { entry: Entry; lease: Lease<string> }[] = [];
  stale: Lease<string>[] = [];
  #pushed = 0;

  constructor() {
    const path = files.next("queue");
    this.queues = [0, 1].map(() => Queue.open<string>(path, { codec: "text", capacityBytes: 8192 }));
  }

  entry(size: number): Entry {
    const number = this.#pushed++;
    return { number, text: `${number}:`.padEnd(size, String.fromCharCode(97 + (number % 26))) };
  }

  /** What a walk backwards must give. */
  get backwards(): string[] {
    const all = [...this.ready, ...this.released, ...this.leased.map(({ entry }) => entry)];
    return all.sort((a, b) => b.number - a.number).map(({ text }) => text);
  }

  take(): Entry | undefined {
    return this.released.shift() ?? this.ready.shift();
  }
}

type Step = { readonly name: string; run(pair: Pair, queue: Queue<string>): void };

const size = fc.oneof({ weight: 8, arbitrary: fc.nat(900) }, { weight: 1, arbitrary: fc.nat(9000) });

const push = fc.array(size, { minLength: 1, maxLength: 8 }).map((sizes): Step => ({
  name: `push ${sizes}`,
  run(pair, queue) {
    const entries = sizes.map((bytes) => pair.entry(bytes));
    assert.equal(queue.pushMany(entries.map(({ text }) => text)), entries.length);
    pair.ready.push(...entries);
  },
}));
const pop = fc.integer({ min: 1, max: 12 }).map((count): Step => ({
  name: `pop ${count}`,
  run(pair, queue) {
    for (const value of queue.popMany(count)) assert.equal(value, pair.take()?.text);
  },
}));
const lease = fc.constant<Step>({
  name: "lease",
  run(pair, queue) {
    const entry = pair.take();
    const held = queue.lease();
    assert.equal(held?.value, entry?.text);
    if (held !== undefined && entry !== undefined) pair.leased.push({ entry, lease: held });
  },
});
const settle = fc.tuple(fc.nat(), fc.boolean()).map(([n, keep]): Step => ({
  name: `settle ${n} ${keep}`,
  run(pair) {
    const [chosen] = pair.leased.splice(n % Math.max(1, pair.leased.length), 1);
    if (chosen === undefined) return;
    if (!keep) return chosen.lease.ack();
    chosen.lease.release();
    pair.released.push(chosen.entry);
    pair.released.sort((a, b) => a.number - b.number);
  },
}));
const clear = fc.constant<Step>({
  name: "clear",
  run(pair, queue) {
    assert.equal(queue.clear(), pair.backwards.length);
    pair.stale.push(...pair.leased.map(({ lease: held }) => held));
    pair.ready = [];
    pair.released = [];
    pair.leased = [];
  },
});
const compact = fc.constant<Step>({ name: "compact", run: (_, queue) => queue.compact() });
const change = fc.oneof({ weight: 6, arbitrary: push }, { weight: 3, arbitrary: pop }, { weight: 2, arbitrary: lease }, { weight: 2, arbitrary: settle }, clear, compact);
const steps = fc.array(fc.tuple(fc.nat(1), change), { minLength: 1, maxLength: 120, size: "max" });

function close({ queues }: Pair): void {
  for (const queue of queues) queue.close();
}

test("a walk backwards gives the array in reverse", () => {
  fc.assert(
    fc.property(steps, (list) => {
      const pair = new Pair();
      try {
        for (const [handle, step] of list) {
          step.run(pair, pair.queues[handle] as Queue<string>);
          const expected = pair.backwards;
          const [first, second] = pair.queues as [Queue<string>, Queue<string>];
          assert.deepEqual([...first.reversed()], expected, step.name);
          assert.equal(second.peekBack(), expected[0], step.name);
          assert.equal(second.stats().length, expected.length);
        }
        assert.deepEqual([...(pair.queues[1] as Queue<string>)], pair.backwards.toReversed());
        for (const held of pair.stale) assert.throws(() => held.ack(), { code: "ERR_STALE_LEASE" });
      } finally {
        close(pair);
      }
    }),
    { numRuns: 30 },
  );
});

test("a walk backwards during changes: in order, none that never was there, none left out that stays", () => {
  fc.assert(
    fc.property(fc.array(push, { minLength: 1, maxLength: 20 }), steps, fc.nat(3), (first, list, pace) => {
      const pair = new Pair();
      const [queue, other] = pair.queues as [Queue<string>, Queue<string>];
      try {
        for (const step of first) step.run(pair, queue);
        const before = pair.backwards;
        const rest = [...list];
        const seen: string[] = [];
        for (const value of queue.reversed()) {
          seen.push(value);
          for (let i = 0; i < pace; i++) rest.shift()?.[1].run(pair, other);
        }
        // A part of what was there, in its order.
        const places = seen.map((value) => before.indexOf(value));
        assert.ok(places.every((place, i) => place > (i === 0 ? -1 : (places[i - 1] as number))), `${places}`);
        const after = new Set(pair.backwards);
        for (const value of before) if (after.has(value)) assert.ok(seen.includes(value), `${value.slice(0, 5)} was passed over`);
      } finally {
        close(pair);
      }
    }),
    { numRuns: 60 },
  );
});
