/** Delivery beyond plain leases: extend, maxAttempts and dead letters, exclusive consumers. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { native, sleep as block } from "../../lib/native/native.ts";
import { Queue, type QueueOptions } from "../../mod.ts";
import { assertThrows, type Expected, mapError, rangeError, typeError } from "../support/errors.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();

test("extend moves the end of a lease, in both directions and for ever", async () => {
  const path = files.next("queue");
  using queue = Queue.open<number>(path);
  using other = Queue.open<number>(path);
  queue.push(1);
  const lease = queue.lease({ leaseMs: 40 });
  lease?.extend(10_000);
  await sleep(60);
  assert.equal(other.lease(), undefined);
  lease?.extend();
  lease?.extend(1);
  await sleep(20);
  assert.equal(other.lease()?.attempts, 2);
  for (const late of [() => lease?.extend(1000), () => lease?.extend(), () => lease?.ack()]) assertThrows(late, mapError("ERR_STALE_LEASE"));
  for (const wrong of [0, -1, 0.5, NaN]) assertThrows(() => lease?.extend(wrong), rangeError(/leaseMs/));
});

test("a lease that is late can be extended until another has the record", async () => {
  using queue = Queue.open<number>(files.next("queue"));
  queue.push(1);
  const lease = queue.lease({ leaseMs: 1 });
  await sleep(10);
  lease?.extend(10_000);
  assert.equal(queue.lease(), undefined);
  lease?.ack();
  assert.equal(queue.length, 0);
  assertThrows(() => lease?.extend(1), mapError("ERR_STALE_LEASE"));
});

test("a record that was handed out maxAttempts times goes to the dead-letter queue", () => {
  const path = files.next("queue");
  const deadLetter = files.next("dead");
  using queue = Queue.open<{ n: number }>(path, { maxAttempts: 2, deadLetter });
  queue.pushMany([{ n: 1 }, { n: 2 }]);
  for (const attempts of [1, 2]) {
    const lease = queue.lease();
    assert.deepEqual([lease?.value, lease?.attempts], [{ n: 1 }, attempts]);
    lease?.release();
  }
  assert.ok(!fs.existsSync(deadLetter));
  assert.deepEqual(queue.lease()?.value, { n: 2 });
  assert.equal(queue.length, 1);
  using dead = Queue.open<{ n: number }>(deadLetter);
  assert.equal(fs.statSync(deadLetter).mode & 0o077, 0);
  assert.deepEqual([...dead], [{ n: 1 }]);
});

test("who is slow to bury a record keeps it, whatever leaseMs is: it is buried once", () => {
  const path = files.next("queue");
  const deadLetter = files.next("dead");
  using queue = Queue.open<number>(path, { maxAttempts: 1, deadLetter });
  using other = Queue.open<number>(path, { maxAttempts: 1, deadLetter });
  queue.push(1);
  queue.lease()?.release();
  // A native call on the way, which takes longer than the lease.
  const functions = native() as unknown as Record<string, (...args: number[]) => number>;
  const real = functions.hf_cell_init as (...args: number[]) => number;
  let meanwhile: unknown = "not asked";
  functions.hf_cell_init = (...args) => {
    functions.hf_cell_init = real;
    block(20);
    meanwhile = other.lease({ leaseMs: 1 });
    return real(...args);
  };
  try {
    assert.equal(queue.lease({ leaseMs: 1 }), undefined);
  } finally {
    functions.hf_cell_init = real;
  }
  assert.equal(meanwhile, undefined);
  assert.equal(queue.length, 0);
  using dead = Queue.open<number>(deadLetter);
  assert.deepEqual([...dead], [1]);
});

test("pop takes a record however often it was handed out; what can't be buried stays", () => {
  const path = files.next("queue");
  const deadLetter = files.file("no queue", "dead");
  using queue = Queue.open<number>(path, { maxAttempts: 1, deadLetter });
  queue.push(1);
  queue.lease()?.release();
  assertThrows(() => queue.lease(), mapError("ERR_NOT_HOLDFAST"));
  assertThrows(() => queue.lease(), mapError("ERR_NOT_HOLDFAST"));
  assert.equal(queue.length, 1);
  assert.equal(queue.pop(), 1);
});

test("maxAttempts and deadLetter go together", () => {
  const path = files.next("queue");
  const wrong: [QueueOptions, Expected][] = [
    [{ maxAttempts: 1 }, typeError(/deadLetter/)],
    [{ deadLetter: files.next() }, typeError(/maxAttempts/)],
    [{ maxAttempts: 0, deadLetter: files.next() }, rangeError(/maxAttempts/)],
    [{ maxAttempts: 1, deadLetter: 5 as unknown as string }, typeError(/deadLetter/)],
  ];
  for (const [options, error] of wrong) assertThrows(() => Queue.open(path, options), error);
  assert.ok(!fs.existsSync(path));
});

test("an exclusive consumer is alone; another stands by and takes over when it is closed", async () => {
  const path = files.next("queue");
  const first = Queue.open<number>(path, { exclusive: true });
  using second = Queue.open<number>(path, { exclusive: true });
  using ordinary = Queue.open<number>(path);
  ordinary.pushMany([1, 2, 3, 4]);
  assert.equal(first.pop(), 1);
  assert.equal(second.pop(), undefined);
  assert.equal(second.lease(), undefined);
  assert.deepEqual(second.popMany(2), []);
  assert.equal(second.peek(), 2);
  for (const consume of [() => ordinary.pop(), () => ordinary.lease(), () => ordinary.popMany(1)]) {
    assertThrows(consume, mapError("ERR_LOCKED", /exclusive/));
  }
  ordinary.push(5);
  const held = first.lease();
  assert.equal(held?.value, 2);
  const taken = second.take();
  await sleep(50);
  first.close();
  assert.equal(await taken, 2, "what the holder had leased comes first: the order is strict");
  assert.deepEqual(second.popMany(9), [3, 4, 5]);
});

test("an exclusive consumer waits for the ordinary ones to be gone", async () => {
  const path = files.next("queue");
  using exclusive = Queue.open<number>(path, { exclusive: true });
  const ordinary = Queue.open<number>(path);
  ordinary.pushMany([1, 2]);
  assert.equal(ordinary.pop(), 1);
  assert.equal(exclusive.pop(), undefined);
  const taken = exclusive.take();
  ordinary.close();
  assert.equal(await taken, 2);
});
