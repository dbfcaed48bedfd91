/** Reading ahead of what is removed: `Queue.readAhead()`. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { MapError, Queue } from "../../mod.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const hasCode = (code: string) => (error: unknown): boolean => error instanceof MapError && error.code === code;

test("records are read in order and stay until they are removed, up to one of them", () => {
  for (const group of [undefined, "g"]) {
    const path = files.next();
    const options = { codec: "text", exclusive: true, ...(group === undefined ? {} : { group }) } as const;
    using queue = Queue.open<string>(path, { ...options, capacityBytes: 8192 });
    const all = Array.from({ length: 500 }, (_, i) => `record ${i} ${"x".repeat(i % 97)}`);
    assert.equal(queue.pushMany(all.slice(0, 400)), 400);
    const ahead = queue.readAhead();
    const seen: string[] = [];
    for (let next = ahead.next(7); next.length > 0; next = ahead.next(7)) {
      assert.ok(next.length <= 7);
      for (const { sequence, value } of next) assert.equal(seen.push(value), sequence);
    }
    assert.equal(seen.length, 400);
    assert.equal(queue.length, 400);
    queue.pushMany(all.slice(400));
    assert.deepEqual(ahead.next(1000).map(({ value }) => value), all.slice(400), "it goes on behind what it gave");
    assert.equal(ahead.removeThrough(250), 250);
    assert.equal(ahead.removeThrough(250), 0);
    assert.equal(ahead.removeThrough(100), 0);
    assert.equal(queue.length, 250);
    ahead.rewind();
    assert.deepEqual(ahead.next(1)[0], { sequence: 251, value: all[250] });
    // Another one begins with what was not removed, whatever this one has read.
    assert.equal(queue.readAhead().next(1)[0]?.sequence, 251);
    assert.equal(ahead.removeThrough(Number.MAX_SAFE_INTEGER), 250);
    assert.equal(queue.isEmpty, true);
    assert.deepEqual(ahead.next(1), []);
    assert.ok(Queue.verify(path).ok);
  }
});

test("a limit on bytes ends a batch soon after it is reached", () => {
  using queue = Queue.open<Uint8Array>(files.next(), { codec: "bytes", exclusive: true });
  queue.pushMany(Array.from({ length: 1000 }, () => new Uint8Array(100)));
  const ahead = queue.readAhead();
  const count = ahead.next(1000, 10_000).length;
  assert.ok(count >= 50 && count <= 200, String(count));
});

test("records that a consumer before had leased come first, and are removed with the others", () => {
  const path = files.next();
  {
    using before = Queue.open<number>(path);
    before.pushMany([1, 2, 3, 4]);
    before.lease();
    before.lease();
    before.lease()?.ack();
  }
  using queue = Queue.open<number>(path, { exclusive: true });
  const ahead = queue.readAhead();
  assert.deepEqual(ahead.next(10).map(({ sequence, value }) => [sequence, value]), [[1, 1], [2, 2], [4, 4]]);
  assert.equal(ahead.removeThrough(1), 1);
  assert.equal(queue.length, 2);
  assert.equal(ahead.removeThrough(4), 2);
  assert.equal(queue.length, 0);
  assert.ok(Queue.verify(path).ok);
});

test("it waits for a push, and ends when the time is over, the signal says so, or the queue is closed", async () => {
  const path = files.next();
  using queue = Queue.open<number>(path, { exclusive: true });
  using other = Queue.open<number>(path);
  other.push(1);
  const ahead = queue.readAhead();
  assert.equal(ahead.next(5).length, 1);
  assert.equal(await ahead.wait({ timeoutMs: 5 }), false, "what was read is no reason to wake");
  setTimeout(() => other.push(2), 20);
  assert.equal(await ahead.wait({ timeoutMs: 10_000 }), true);
  assert.deepEqual(ahead.next(5), [{ sequence: 2, value: 2 }]);
  const reason = new Error("enough");
  await assert.rejects(ahead.wait({ signal: AbortSignal.abort(reason) }), reason);
  const waiting = ahead.wait();
  queue.close();
  await assert.rejects(waiting, hasCode("ERR_CLOSED"));
  assert.throws(() => ahead.next(1), hasCode("ERR_CLOSED"));
  assert.throws(() => ahead.removeThrough(1), hasCode("ERR_CLOSED"));
});

test("only an exclusive handle has it; a second one stands by and takes over", async () => {
  const path = files.next();
  using ordinary = Queue.open<number>(path);
  assert.throws(() => ordinary.readAhead(), TypeError);
  const first = Queue.open<number>(path, { exclusive: true });
  ordinary.pushMany([1, 2, 3]);
  const ahead = first.readAhead();
  assert.equal(ahead.next(10).length, 3);
  ahead.removeThrough(1);
  using second = Queue.open<number>(path, { exclusive: true });
  const standby = second.readAhead();
  assert.deepEqual(standby.next(10), []);
  assert.throws(() => standby.removeThrough(3), hasCode("ERR_LOCKED"));
  const turn = standby.wait({ timeoutMs: 10_000 });
  first.close();
  assert.equal(await turn, true);
  assert.deepEqual(standby.next(10).map(({ sequence }) => sequence), [2, 3]);
});

test("records that the log gave up are passed over, and a removal does not take others for them", () => {
  const path = files.next();
  using queue = Queue.open<string>(path, { codec: "text", group: "slow", exclusive: true, capacityBytes: 8192, retainBytes: 8192 });
  const text = (i: number): string => `${i} `.padEnd(100, "x");
  queue.pushMany(Array.from({ length: 10 }, (_, i) => text(i + 1)));
  const ahead = queue.readAhead();
  assert.equal(ahead.next(5).length, 5);
  for (let i = 11; i <= 1000; i++) queue.push(text(i));
  const after = ahead.next(10);
  assert.ok((after[0]?.sequence ?? 0) > 6);
  for (const { sequence, value } of after) assert.equal(value, text(sequence));
  assert.equal(ahead.removeThrough(5), 0);
  const [oldest] = queue;
  assert.equal(oldest, after[0]?.value);
  assert.equal(ahead.removeThrough(after[1]?.sequence as number), 2);
});
