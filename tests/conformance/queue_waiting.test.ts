/** Waiting for records: take, for await, popMany with wait, leaseAsync. Other processes: tests/interop/queue_waiting.test.ts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Codec, Queue } from "../../mod.ts";
import { assertRejects, assertThrows, mapError, rangeError, typeError } from "../support/errors.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const open = (): Queue<number> => Queue.open<number>(files.next("queue"));
/** Long enough to be asleep in every runtime. */
const ASLEEP_MS = 150;
const pending = Symbol("pending");

/** What a promise has come to by now. */
const state = (promise: Promise<unknown>): Promise<unknown> => Promise.race([promise, sleep(20, pending)]);

test("take gives what is there at once, in order", async () => {
  using queue = open();
  queue.pushMany([1, 2, 3]);
  assert.deepEqual([await queue.take(), await queue.take(), await queue.take()], [1, 2, 3]);
  assert.equal(await queue.take({ timeoutMs: 0 }), undefined);
  assert.equal(queue.length, 0);
});

test("take waits for a push, whichever handle it comes from", async () => {
  const path = files.next("queue");
  using queue = Queue.open<number>(path);
  using other = Queue.open<number>(path);
  for (const delay of [0, 5, ASLEEP_MS]) {
    for (const producer of [queue, other]) {
      const taken = queue.take();
      await sleep(delay);
      assert.equal(await state(taken), pending);
      producer.push(delay);
      assert.equal(await taken, delay);
    }
  }
  assert.equal(queue.length, 0);
});

test("several that wait get one record each", async () => {
  using queue = open();
  const taken = Array.from({ length: 10 }, () => queue.take());
  await sleep(ASLEEP_MS);
  for (let i = 0; i < 5; i++) queue.push(i);
  queue.pushMany([5, 6, 7, 8, 9]);
  assert.deepEqual((await Promise.all(taken)).toSorted(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test("timeoutMs ends a wait with undefined, and takes nothing", async () => {
  using queue = open();
  const start = performance.now();
  assert.equal(await queue.take({ timeoutMs: 60 }), undefined);
  assert.ok(performance.now() - start >= 59);
  assert.deepEqual(await queue.popMany(5, { wait: true, timeoutMs: 10 }), []);
  assert.equal(await queue.leaseAsync({ timeoutMs: 10 }), undefined);
  queue.push(1);
  assert.equal(queue.length, 1);
});

test("a signal ends a wait with its reason, and takes nothing", async () => {
  using queue = open();
  for (const delay of [0, ASLEEP_MS]) {
    const abort = new AbortController();
    const waits = [queue.take({ signal: abort.signal }), queue.popMany(2, { wait: true, signal: abort.signal }), queue.leaseAsync({ signal: abort.signal })];
    const ended = Promise.all(waits.map((wait) => assert.rejects(wait, /enough/)));
    await sleep(delay);
    abort.abort(new Error("enough"));
    await ended;
  }
  await assert.rejects(queue.take({ signal: AbortSignal.abort(new Error("before")) }), /before/);
  queue.push(1);
  assert.equal(queue.length, 1);
});

test("close ends every wait with ERR_CLOSED, and an iteration without an error", async () => {
  const queue = open();
  const waits = [queue.take(), queue.popMany(2, { wait: true }), queue.leaseAsync()];
  const ended = Promise.all(waits.map((wait) => assertRejects(() => wait, mapError("ERR_CLOSED"))));
  const iteration = (async () => {
    for await (const value of queue) assert.fail(`there is no ${value}`);
    return "over";
  })();
  await sleep(ASLEEP_MS);
  queue.close();
  await ended;
  assert.equal(await iteration, "over");
  await assertRejects(() => queue.take(), mapError("ERR_CLOSED"));
  assertThrows(() => queue.consume(), mapError("ERR_CLOSED"));
});

test("for await takes each record when it is asked for; break leaves the others", async () => {
  using queue = open();
  queue.pushMany([1, 2, 3]);
  const found: number[] = [];
  setTimeout(() => queue.pushMany([4, 5, 6]), 30);
  for await (const value of queue) {
    found.push(value);
    if (value === 4) break;
  }
  assert.deepEqual(found, [1, 2, 3, 4]);
  assert.deepEqual(queue.popMany(9), [5, 6]);
});

test("consume: a signal ends it with its reason; return ends a pending next; both lose nothing", async () => {
  using queue = open();
  const abort = new AbortController();
  const iteration = (async () => {
    for await (const _ of queue.consume({ signal: abort.signal }));
  })();
  const ended = assert.rejects(iteration, /enough/);
  await sleep(20);
  abort.abort(new Error("enough"));
  await ended;

  const values = queue.consume();
  const next = values.next();
  await sleep(ASLEEP_MS);
  assert.deepEqual(await values.return?.(), { done: true, value: undefined });
  assert.deepEqual(await next, { done: true, value: undefined });
  queue.push(1);
  await sleep(10);
  assert.equal(queue.length, 1);
  assert.deepEqual(await values.next(), { done: true, value: undefined });
});

test("popMany with wait gives up to max of what there is", async () => {
  using queue = open();
  const some = queue.popMany(3, { wait: true });
  await sleep(30);
  queue.pushMany([1, 2, 3, 4]);
  assert.deepEqual(await some, [1, 2, 3]);
  assert.deepEqual(await queue.popMany(3, { wait: true }), [4]);
});

test("a waiting lease hears of a release, of a late lease, and of a holder that is gone", async () => {
  const path = files.next("queue");
  using queue = Queue.open<number>(path);
  const other = Queue.open<number>(path);
  queue.push(1);
  const held = other.lease();
  const waiting = queue.leaseAsync();
  await sleep(ASLEEP_MS);
  assert.equal(await state(waiting), pending);
  held?.release();
  const second = await waiting;
  assert.equal(second?.attempts, 2);
  second?.release();

  const late = other.lease({ leaseMs: 100 });
  assert.equal(late?.attempts, 3);
  const start = performance.now();
  const third = await queue.leaseAsync();
  assert.ok(performance.now() - start >= 50);
  assert.equal(third?.attempts, 4);
  assertThrows(() => late?.ack(), mapError("ERR_STALE_LEASE"));
  third?.release();

  assert.equal(other.lease()?.attempts, 5);
  const fourth = queue.take();
  await sleep(ASLEEP_MS);
  other.close();
  assert.equal(await fourth, 1);
  assert.equal(queue.length, 0);
});

test("a queue that is never empty lets the event loop have its turn", async () => {
  using queue = open();
  queue.pushMany(Array.from({ length: 5000 }, (_, i) => i));
  let turns = 0;
  const timer = setInterval(() => turns++, 0);
  let count = 0;
  for await (const value of queue) {
    assert.equal(value, count++);
    if (count === 5000) break;
  }
  clearInterval(timer);
  assert.ok(turns > 0);
});

test("a codec of one's own may decode to undefined; what it refuses stays", async () => {
  let fail = false;
  const codec: Codec<undefined> = {
    encode: () => new Uint8Array(1),
    decode() {
      if (fail) throw new Error("not now");
      return undefined;
    },
  };
  using queue = Queue.open<undefined>(files.next("queue"), { codec });
  queue.pushMany([undefined, undefined]);
  fail = true;
  await assertRejects(() => queue.take(), mapError("ERR_CODEC"));
  assert.equal(queue.length, 2);
  fail = false;
  assert.equal(await queue.take(), undefined);
  assert.equal(queue.length, 1);
});

test("wrong arguments", async () => {
  using queue = open();
  await assertRejects(() => queue.take({ timeoutMs: -1 }), rangeError(/timeoutMs/));
  await assertRejects(() => queue.take({ signal: 1 as unknown as AbortSignal }), typeError(/signal/));
  await assertRejects(() => queue.take({ wait: true } as object), typeError(/"wait"/));
  assertThrows(() => queue.popMany(1, { timeoutMs: 1 } as object), typeError(/"wait"/));
  assertThrows(() => queue.popMany(0, { wait: true }), rangeError(/max/));
  assertThrows(() => queue.consume({ timeoutMs: 1 } as object), typeError(/timeoutMs/));
  const path = files.next("queue");
  Queue.open(path).close();
  using reading = Queue.open(path, { mode: "r" });
  await assertRejects(() => reading.take(), mapError("ERR_READ_ONLY"));
  assertThrows(() => reading.consume(), mapError("ERR_READ_ONLY"));
});
