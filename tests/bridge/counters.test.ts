/** Counters forwarded as deltas, and their sum. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { CounterForwarder, CounterSums, type CounterDelta } from "../../lib/bridge/bridge.ts";
import { Counters, MapError, Queue } from "../../mod.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();

function deltasIn(path: string): CounterDelta[] {
  using queue = Queue.open(path);
  return [...queue] as unknown as CounterDelta[];
}

test("what counters have grown by is pushed, by two nodes, and adds up, all 64 bits of it", () => {
  const sums = new CounterSums();
  const queues = ["a", "b"].map((node) => {
    const path = files.next("counters");
    const queue = files.next("queue");
    using counters = Counters.open(path, { names: ["hits", "bytes", "still"] });
    using forwarder = new CounterForwarder({ counters: path, queue, node });
    counters.add("hits", 5);
    counters.add("bytes", 2n ** 62n);
    assert.equal(forwarder.push(), true);
    assert.equal(forwarder.push(), false, "nothing has changed");
    counters.add("hits", 2);
    counters.sub("bytes", 1n);
    counters.declare("late");
    counters.add("late");
    return queue;
  });
  for (const queue of queues) for (const delta of deltasIn(queue)) assert.equal(sums.add(delta), true);
  assert.deepEqual(sums.of("a"), { hits: 7n, bytes: 2n ** 62n - 1n, late: 1n });
  assert.deepEqual(sums.totals(), { hits: 14n, bytes: 2n ** 63n - 2n, late: 2n });
  assert.deepEqual(sums.nodes, ["a", "b"]);
  for (const queue of queues) for (const delta of deltasIn(queue)) assert.equal(sums.add(delta), false, "again");
  assert.equal(sums.totals()["hits"], 14n);
});

test("a death between noting a delta and pushing it loses and doubles nothing", () => {
  const path = files.next("counters");
  const queue = files.next("queue");
  using counters = Counters.open(path, { names: ["hits"] });
  const states: string[] = [];
  const push = (): void => {
    using forwarder = new CounterForwarder({ counters: path, queue, node: "n" });
    forwarder.push();
  };
  counters.add("hits", 3);
  push();
  states.push(fs.readFileSync(`${queue}.deltas`, "utf8"));
  counters.add("hits", 4);
  push();
  states.push(fs.readFileSync(`${queue}.deltas`, "utf8"));
  // Died after the push: the same state again changes nothing.
  push();
  assert.deepEqual(deltasIn(queue).map(({ number, deltas }) => [number, deltas["hits"]]), [[1, "3"], [2, "4"]]);
  // Died before it: the queue has the first record only, and the state says that there is a second.
  const other = files.next("queue");
  fs.writeFileSync(`${other}.deltas`, states[0] as string);
  { using forwarder = new CounterForwarder({ counters: path, queue: other, node: "n" }); void forwarder; }
  assert.deepEqual(deltasIn(other).map(({ number, deltas }) => [number, deltas["hits"]]), [[1, "3"], [2, "4"]]);
});

test("a second forwarder, another node, or a state that is gone is refused", () => {
  const path = files.next("counters");
  const queue = files.next("queue");
  using counters = Counters.open(path, { names: ["hits"] });
  counters.add("hits");
  {
    using forwarder = new CounterForwarder({ counters: path, queue, node: "n" });
    forwarder.push();
    assert.throws(() => new CounterForwarder({ counters: path, queue, node: "n" }), (error) => error instanceof MapError && error.code === "ERR_LOCKED");
  }
  assert.throws(() => new CounterForwarder({ counters: path, queue, node: "other" }), /node 'n', not of 'other'/);
  fs.rmSync(`${queue}.deltas`);
  assert.throws(() => new CounterForwarder({ counters: path, queue, node: "n" }), /is gone/);
});

test("a queue that is full keeps the delta for later", () => {
  const path = files.next("counters");
  const queue = files.next("queue");
  using counters = Counters.open(path, { names: ["hits"] });
  using full = Queue.open<string>(queue, { capacityBytes: 4096, fixedSize: true });
  full.push("x".repeat(3000));
  while (full.push("y".repeat(100)));
  using forwarder = new CounterForwarder({ counters: path, queue, node: "n" });
  counters.add("hits", 9);
  assert.equal(forwarder.push(), false);
  full.clear();
  counters.add("hits", 1);
  assert.equal(forwarder.push(), true);
  assert.deepEqual(deltasIn(queue).map(({ deltas }) => deltas["hits"]), ["9", "1"]);
});
