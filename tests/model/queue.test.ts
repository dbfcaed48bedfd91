import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { type Lease, Queue } from "../../mod.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();

/** What a queue is, in plain memory. */
class Model {
  ready: string[] = [];
  /** Given back, oldest first: they go before the others. */
  again: { text: string; number: number }[] = [];
  leased: { text: string; number: number; lease: Lease<string>; attempts: number }[] = [];
  number = 0;

  get length(): number {
    return this.ready.length + this.again.length + this.leased.length;
  }

  take(): { text: string; number: number } | undefined {
    const old = this.again.shift();
    if (old !== undefined) return old;
    const text = this.ready.shift();
    return text === undefined ? undefined : { text, number: this.number++ };
  }
}

type Handles = readonly Queue<string>[];

const handle = fc.nat(2);
const size = fc.oneof({ weight: 6, arbitrary: fc.nat(600) }, { weight: 1, arbitrary: fc.nat(9000) });

interface Step {
  readonly name: string;
  run(model: Model, queues: Handles): void;
}

let counter = 0;
const text = (length: number): string => `${counter++}:`.padEnd(length, "x");

const steps: fc.Arbitrary<Step>[] = [
  fc.tuple(handle, fc.array(size, { minLength: 1, maxLength: 12 })).map(([h, sizes]) => ({
    name: `${h}.pushMany ${sizes.join()}`,
    run(model, queues) {
      const values = sizes.map(text);
      assert.equal(queues[h]?.pushMany(values), values.length);
      model.ready.push(...values);
    },
  })),
  fc.tuple(handle, size).map(([h, length]) => ({
    name: `${h}.push ${length}`,
    run(model, queues) {
      const value = text(length);
      assert.equal(queues[h]?.push(value), true);
      model.ready.push(value);
    },
  })),
  handle.map((h) => ({
    name: `${h}.pop`,
    run: (model, queues) => assert.equal(queues[h]?.pop(), model.take()?.text),
  })),
  fc.tuple(handle, fc.integer({ min: 1, max: 30 })).map(([h, max]) => ({
    name: `${h}.popMany ${max}`,
    run(model, queues) {
      const expected: string[] = [];
      while (expected.length < max) {
        const taken = model.take();
        if (taken === undefined) break;
        expected.push(taken.text);
      }
      assert.deepEqual(queues[h]?.popMany(max), expected);
    },
  })),
  handle.map((h) => ({
    name: `${h}.lease`,
    run(model, queues) {
      const given = model.again[0];
      const lease = queues[h]?.lease();
      const taken = model.take();
      assert.equal(lease?.value, taken?.text);
      if (lease === undefined || taken === undefined) return;
      assert.equal(lease.attempts > 1, given !== undefined);
      model.leased.push({ ...taken, lease, attempts: lease.attempts });
    },
  })),
  fc.nat().map((n) => ({
    name: `ack ${n}`,
    run(model) {
      const [entry] = model.leased.splice(n % Math.max(1, model.leased.length), 1);
      entry?.lease.ack();
    },
  })),
  fc.nat().map((n) => ({
    name: `release ${n}`,
    run(model) {
      const [entry] = model.leased.splice(n % Math.max(1, model.leased.length), 1);
      if (entry === undefined) return;
      entry.lease.release();
      model.again.push(entry);
      model.again.sort((a, b) => a.number - b.number);
    },
  })),
  handle.map((h) => ({
    name: `${h}.look`,
    run(model, queues) {
      const all = [...model.again, ...model.leased].sort((a, b) => a.number - b.number).map((entry) => entry.text);
      assert.deepEqual([...(queues[h] as Queue<string>)], [...all, ...model.ready]);
      assert.equal(queues[h]?.peek(), model.again[0]?.text ?? model.ready[0]);
    },
  })),
];

test("three handles of one queue against a model in plain memory", () => {
  const commands = fc.array(fc.oneof(...steps), { minLength: 1, maxLength: 300, size: "max" });
  // fast-check prints seed and path of a failure.
  fc.assert(
    fc.property(commands, (list) => {
      const path = files.next();
      const queues = Array.from({ length: 3 }, () => Queue.open<string>(path, { codec: "text", capacityBytes: 8192 }));
      try {
        const model = new Model();
        for (const step of list) {
          step.run(model, queues);
          assert.equal(queues[0]?.length, model.length, step.name);
        }
        while (model.leased.length > 0) model.leased.pop()?.lease.ack();
        while (model.take() !== undefined) assert.notEqual(queues[1]?.pop(), undefined);
        assert.equal(queues[2]?.byteLength, 0);
      } finally {
        for (const queue of queues) queue.close();
      }
    }),
    { numRuns: 40 },
  );
});
