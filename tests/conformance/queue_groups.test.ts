/** Consumer groups: a log that each group reads whole. Killed consumers and other runtimes: tests/crash and tests/interop. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { BOOT, BOOT_BYTES, CONSUMER_CELLS, GROUP_BYTES, GROUP_LEASES, groupFileName, RECORDS_OFFSET } from "../../lib/layout/queue.ts";
import { native } from "../../lib/native/native.ts";
import { lockKinds } from "../../lib/native/symbols.ts";
import { Queue, type QueueOptions } from "../../mod.ts";
import { assertThrows, mapError, rangeError, typeError } from "../support/errors.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const numbers = (count: number, from = 0): number[] => Array.from({ length: count }, (_, i) => from + i);
/** Two pages: segments of 4096 bytes, each with 96 records of 40 bytes. */
const SMALL: QueueOptions<number> = { capacityBytes: 8192 };
const PER_SEGMENT: number = Math.floor((4096 - RECORDS_OFFSET) / 40);
const segments = (path: string): number => fs.readdirSync(path).filter((name) => name.startsWith("segment-")).length;
const push = (queue: Queue<number>, values: number[]): void => values.forEach((value) => assert.equal(queue.push(value), true));

/** Has `before` called ahead of each call of a native function. */
function hooked(name: "hf_ring" | "hf_lock_range", before: (...args: number[]) => void): Disposable {
  const functions = native() as unknown as Record<string, (...args: number[]) => number>;
  const call = functions[name] as (...args: number[]) => number;
  functions[name] = (...args) => {
    before(...args);
    return call(...args);
  };
  return {
    [Symbol.dispose]() {
      functions[name] = call;
    },
  };
}

test("each group has every record in order; within a group each goes to one consumer", () => {
  const path = files.next("log");
  using producer = Queue.open<number>(path, { groups: true, ...SMALL });
  push(producer, numbers(300));
  using a = Queue.open<number>(path, { group: "a" });
  using a2 = Queue.open<number>(path, { group: "a" });
  using b = Queue.open<number>(path, { group: "b" });
  assert.deepEqual([a.length, b.length, producer.length], [300, 300, 300]);
  assert.equal(a.pop(), 0);
  assert.equal(a2.pop(), 1);
  assert.deepEqual(a.popMany(200), numbers(200, 2));
  const lease = a2.lease();
  assert.deepEqual([lease?.value, lease?.attempts], [202, 1]);
  assert.equal(a.pop(), 203);
  lease?.release();
  assert.equal(a.pop(), 202);
  push(producer, numbers(300, 300));
  assert.deepEqual(b.popMany(1000), numbers(600));
  assert.deepEqual(a2.popMany(1000), numbers(396, 204));
  assert.deepEqual([a.length, b.length, a.pop(), b.lease()], [0, 0, undefined, undefined]);
  assert.equal(b.push(7), true, "a consumer may push too");
  assert.deepEqual([a.peek(), a2.pop(), b.pop()], [7, 7, 7]);
});

test("the kinds of queue are kept apart", async () => {
  const log = files.next("log");
  Queue.open(log, { group: "a" }).close();
  using bare = Queue.open<number>(log);
  using producer = Queue.open<number>(log, { groups: true });
  push(bare, [1, 2]);
  push(producer, [3]);
  for (const queue of [bare, producer]) {
    assert.deepEqual([queue.length, queue.peek(), queue.peekBack(), [...queue], [...queue.reversed()]], [3, 1, 3, [1, 2, 3], [3, 2, 1]]);
    const refused = mapError("ERR_KIND", /log.*"group"/);
    assertThrows(() => queue.pop(), refused);
    assertThrows(() => queue.popMany(2), refused);
    assertThrows(() => queue.lease(), refused);
    assertThrows(() => queue.tryPop(() => 1), refused);
    assertThrows(() => queue.clear(), refused);
    await assert.rejects(queue.take(), { code: "ERR_KIND" });
    await assert.rejects(queue.leaseAsync(), { code: "ERR_KIND" });
    await assert.rejects(queue.consume().next(), { code: "ERR_KIND" });
  }
  const work = files.next("work");
  using queue = Queue.open<number>(work);
  push(queue, [1]);
  assertThrows(() => Queue.open(work, { group: "a" }), mapError("ERR_KIND", /work queue/));
  assertThrows(() => Queue.open(work, { groups: true }), mapError("ERR_KIND", /work queue/));
  assert.deepEqual([queue.groups(), queue.removeGroup("a"), queue.pop()], [[], false, 1]);
  assert.equal(fs.readdirSync(work).some((name) => name.includes("group")), false);
});

test("options that contradict each other", () => {
  const path = files.next("log");
  assertThrows(() => Queue.open(path, { groupStart: "newest" }), typeError(/"group"/));
  assertThrows(() => Queue.open(path, { retainBytes: 1 }), typeError(/"groups"/));
  assertThrows(() => Queue.open(path, { groups: true, retainMs: 1, maxCapacityBytes: 10_000 }), typeError(/choose one/));
  assertThrows(() => Queue.open(path, { groups: true, retainBytes: 1, fixedSize: true }), typeError(/choose one/));
  assertThrows(() => Queue.open(path, { group: "" }), rangeError(/group/));
  assertThrows(() => Queue.open(path, { group: "ä".repeat(51) }), rangeError(/100 bytes/));
  assertThrows(() => Queue.open(path, { group: "\ud800" }), rangeError(/surrogate/));
  assertThrows(() => Queue.open(path, { group: 1 as unknown as string }), typeError(/group/));
  assertThrows(() => Queue.open(path, { group: "a", groupStart: "last" as "newest" }), rangeError(/groupStart/));
  assert.equal(fs.existsSync(path), false);
});

test("names: any text, two of which never meet in one file", () => {
  const path = files.next("log");
  const names = ["a", "A", "ä", "a\u0308", "../up", "a/b", ".", "\0", " ", "x".repeat(100), "ß".repeat(50), "日本"];
  using queue = Queue.open<number>(path, { groups: true });
  for (const name of names) {
    using group = Queue.open<number>(path, { group: name });
    assert.equal(group.pop(), undefined);
  }
  assert.deepEqual(queue.groups().map(({ name }) => name), names.toSorted((x, y) => (x < y ? -1 : 1)));
  assert.deepEqual(fs.readdirSync(join(path, "..")).filter((name) => name === "up"), []);
  for (const name of names) assert.equal(queue.removeGroup(name), true);
  assert.deepEqual(queue.groups(), []);
});

test("groupStart: the oldest record there is, or the next one; a group that is there keeps its place", () => {
  const path = files.next("log");
  using producer = Queue.open<number>(path, { groups: true });
  push(producer, [1, 2]);
  using oldest = Queue.open<number>(path, { group: "oldest" });
  using newest = Queue.open<number>(path, { group: "newest", groupStart: "newest" });
  push(producer, [3]);
  assert.deepEqual(producer.groups(), [
    { name: "newest", length: 1, leased: 0, missed: 0 },
    { name: "oldest", length: 3, leased: 0, missed: 0 },
  ]);
  assert.deepEqual(newest.popMany(9), [3]);
  assert.equal(oldest.pop(), 1);
  oldest.close();
  using again = Queue.open<number>(path, { group: "oldest", groupStart: "newest" });
  assert.deepEqual(again.popMany(9), [2, 3]);
});

test("a segment is kept until the slowest group is through with it", () => {
  const path = files.next("log");
  using producer = Queue.open<number>(path, { groups: true, ...SMALL });
  push(producer, numbers(10 * PER_SEGMENT));
  assert.equal(segments(path), 10, "without a group everything is kept");
  using fast = Queue.open<number>(path, { group: "fast" });
  using slow = Queue.open<number>(path, { group: "slow" });
  assert.equal(fast.popMany(1e6).length, 10 * PER_SEGMENT);
  assert.equal(segments(path), 10);
  assert.equal(producer.length, 10 * PER_SEGMENT);
  const lease = slow.lease();
  assert.equal(slow.popMany(5 * PER_SEGMENT).length, 5 * PER_SEGMENT);
  assert.equal(segments(path), 10, "a leased record is needed");
  lease?.ack();
  assert.equal(segments(path), 5 + 1, "with a spare");
  assert.equal(producer.length, 5 * PER_SEGMENT, "what the log keeps begins with a segment");
  // A third one, which has only been opened, holds all up; without it the others decide.
  Queue.open<number>(path, { group: "idle" }).close();
  push(producer, numbers(5 * PER_SEGMENT));
  assert.equal(slow.popMany(1e6).length, 10 * PER_SEGMENT - 1);
  assert.equal(fast.popMany(1e6).length, 5 * PER_SEGMENT);
  assert.equal(segments(path), 10);
  assert.equal(producer.removeGroup("idle"), true);
  assert.equal(segments(path), 1 + 1);
  producer.compact();
  assert.equal(segments(path), 1);
  push(producer, numbers(1));
  assert.deepEqual([fast.pop(), slow.pop()], [0, 0]);
});

test("a full log takes more as soon as the slowest group has made room", () => {
  const path = files.next("log");
  using producer = Queue.open<number>(path, { groups: true, capacityBytes: 8192, fixedSize: true });
  let count = 0;
  while (producer.push(count)) count++;
  assert.equal(count, Math.floor(8192 / 40));
  using fast = Queue.open<number>(path, { group: "fast" });
  using slow = Queue.open<number>(path, { group: "slow" });
  assert.equal(fast.popMany(1000).length, count);
  assert.equal(producer.push(-1), false);
  for (let round = 0; round < 500; round++) {
    assert.equal(slow.pop(), round);
    assert.equal(producer.push(count), true);
    assert.equal(producer.push(-1), false);
    assert.equal(fast.pop(), count++);
  }
  const lease = slow.lease();
  assert.equal(producer.push(-1), false, "a lease needs its record");
  lease?.ack();
  assert.equal(producer.push(count), true);
  assert.equal(slow.clear(), Math.floor(8192 / 40));
  assert.deepEqual([slow.length, slow.pop(), fast.pop()], [0, undefined, count]);
});

test("a small limit never locks a log up", () => {
  const path = files.next("log");
  using producer = Queue.open<number>(path, { groups: true, maxCapacityBytes: 100 });
  using group = Queue.open<number>(path, { group: "a" });
  for (let i = 0; i < 1000; i++) {
    assert.equal(producer.push(i), true);
    assert.equal(producer.push(i), true);
    assert.equal(producer.push(i), false);
    assert.deepEqual(group.popMany(9), [i, i]);
  }
});

test("retainBytes: the newest records are kept, whoever has had them; an overtaken group goes on with what there is", () => {
  const path = files.next("log");
  const retainBytes = 20 * 40 * 10;
  using producer = Queue.open<number>(path, { groups: true, capacityBytes: 8192, retainBytes });
  using fast = Queue.open<number>(path, { group: "fast" });
  using slow = Queue.open<number>(path, { group: "slow" });
  for (let i = 0; i < 3000; i++) {
    push(producer, [i]);
    assert.equal(fast.pop(), i);
    assert.ok(producer.byteLength >= Math.min(retainBytes, 40 * (i + 1)), `${producer.byteLength} bytes after ${i}`);
    assert.ok(producer.byteLength <= retainBytes + 2 * 4096, `${producer.byteLength} bytes after ${i}`);
  }
  const kept = producer.length;
  assert.deepEqual([slow.length, slow.peek(), [...slow].length, [...slow.reversed()].length], [kept, 3000 - kept, kept, kept]);
  const expected = [{ name: "fast", length: 0, leased: 0, missed: 0 }, { name: "slow", length: kept, leased: 0, missed: 3000 - kept }];
  assert.deepEqual(producer.groups(), expected);
  assert.deepEqual(slow.groups(), expected, "looking changes nothing");
  assert.equal(slow.stats().length, kept);
  assert.equal(slow.pop(), 3000 - kept);
  assert.deepEqual(slow.popMany(1e6), numbers(kept - 1, 3001 - kept));
  using late = Queue.open<number>(path, { group: "late" });
  assert.equal(late.length, producer.length, "a new group starts with what is kept");
  assert.ok(late.length >= retainBytes / 40);
});

test("leases of records that the log has given up are stale, those of others hold", () => {
  const path = files.next("log");
  using producer = Queue.open<number>(path, { groups: true, capacityBytes: 8192, retainBytes: 4096 });
  using group = Queue.open<number>(path, { group: "a" });
  using other = Queue.open<number>(path, { group: "a" });
  push(producer, numbers(3 * PER_SEGMENT - 10));
  // Leases in each of the three segments.
  const leases = [];
  for (let i = 0; i < 3; i++) {
    leases.push(group.lease());
    if (i < 2) other.popMany(PER_SEGMENT - 1);
  }
  const values = leases.map((lease) => lease?.value as number);
  push(producer, numbers(PER_SEGMENT));
  const oldest = [...producer][0] as number;
  const lost = values.filter((value) => value < oldest);
  assert.ok(lost.length > 0 && lost.length < 3, `${values} of which ${oldest} is the oldest kept`);
  assert.deepEqual(producer.groups(), [{ name: "a", length: other.length, leased: 3 - lost.length, missed: lost.length }]);
  for (const lease of leases) {
    if (lost.includes(lease?.value as number)) {
      assertThrows(() => lease?.extend(), mapError("ERR_STALE_LEASE"));
      assertThrows(() => lease?.release(), mapError("ERR_STALE_LEASE"));
      assertThrows(() => lease?.ack(), mapError("ERR_STALE_LEASE"));
    } else lease?.ack();
  }
  const [before] = producer.groups();
  assert.deepEqual([before?.leased, before?.missed], [0, lost.length]);
  assert.equal(group.popMany(1e6).length, before?.length);
});

test("retainMs: what is older goes when a segment ends or on compact; the segment at the tail stays", async () => {
  const path = files.next("log");
  using producer = Queue.open<number>(path, { groups: true, capacityBytes: 8192, retainMs: 150 });
  using group = Queue.open<number>(path, { group: "a" });
  push(producer, numbers(3 * PER_SEGMENT));
  const before = producer.length;
  assert.equal(group.popMany(2 * PER_SEGMENT + 1).length, 2 * PER_SEGMENT + 1);
  assert.equal(producer.length, before, "young ones are kept though all groups had them");
  await sleep(200);
  push(producer, numbers(PER_SEGMENT, 3 * PER_SEGMENT));
  // The third segment ended just now, the first two 200 ms ago.
  assert.deepEqual([producer.length, group.length], [2 * PER_SEGMENT, 2 * PER_SEGMENT - 1]);
  await sleep(200);
  producer.compact();
  assert.equal(producer.length, PER_SEGMENT);
  assert.deepEqual(group.popMany(1e6), numbers(PER_SEGMENT, 3 * PER_SEGMENT));
  assert.deepEqual(producer.groups(), [{ name: "a", length: 0, leased: 0, missed: PER_SEGMENT - 1 }]);
});

test("a push wakes those who wait in every group", async () => {
  const path = files.next("log");
  using producer = Queue.open<number>(path, { groups: true });
  const groups = ["a", "b", "c"].map((group) => Queue.open<number>(path, { group }));
  for (const delay of [0, 150]) {
    const taken = groups.map((group) => group.take({ timeoutMs: 10_000 }));
    const twin = groups[0]?.take({ timeoutMs: 300 + delay });
    await sleep(delay);
    // A timer would find them in the end.
    const most: unknown[] = [];
    using _ = hooked("hf_ring", (...args) => void most.push(args[1]));
    push(producer, [delay]);
    assert.deepEqual(await Promise.all(taken), [delay, delay, delay]);
    assert.ok(most.length > 0 && most.every((count) => (count as number) > 1e9), `${most} are woken`);
    assert.equal(await twin, undefined);
  }
  const found: number[] = [];
  const iteration = (async () => {
    for await (const value of groups[1] as Queue<number>) found.push(value);
  })();
  const lease = groups[0]?.leaseAsync();
  await sleep(50);
  push(producer, [1, 2]);
  assert.equal((await lease)?.value, 1);
  await sleep(150);
  for (const group of groups) group.close();
  await iteration;
  assert.deepEqual(found, [1, 2]);
  assert.deepEqual(producer.groups().map(({ length }) => length), [2, 0, 2]);
});

test("exclusive, maxAttempts and deadLetter go by group", () => {
  const path = files.next("log");
  const deadLetter = files.next("dead");
  using a = Queue.open<number>(path, { group: "a", exclusive: true });
  using b = Queue.open<number>(path, { group: "b", maxAttempts: 1, deadLetter });
  using b2 = Queue.open<number>(path, { group: "b" });
  push(a, [1, 2]);
  assert.equal(a.pop(), 1);
  using a2 = Queue.open<number>(path, { group: "a", exclusive: true });
  using a3 = Queue.open<number>(path, { group: "a" });
  assert.equal(a2.pop(), undefined);
  assertThrows(() => a3.pop(), mapError("ERR_LOCKED"));
  assert.equal(b.lease()?.release(), undefined);
  assert.equal(b.pop(), 1, "pop does not count");
  b.lease()?.release();
  assert.equal(b.lease(), undefined);
  assert.equal(b2.length, 0);
  using dead = Queue.open<number>(deadLetter);
  assert.equal(dead.pop(), 2);
  a.close();
  assert.equal(a2.pop(), 2);
});

test("leases come back when their handle is closed, in their group", () => {
  const path = files.next("log");
  using producer = Queue.open<number>(path, { groups: true });
  const a = Queue.open<number>(path, { group: "a" });
  using a2 = Queue.open<number>(path, { group: "a" });
  using b = Queue.open<number>(path, { group: "b" });
  push(producer, [1]);
  const [first, second] = [a.lease(), b.lease()];
  assert.deepEqual([first?.value, second?.value, a2.lease()], [1, 1, undefined]);
  a.close();
  const again = a2.lease();
  assert.deepEqual([again?.value, again?.attempts], [1, 2]);
  second?.ack();
  again?.ack();
  assert.deepEqual([a2.length, b.length], [0, 0]);
});

test("removeGroup: not while it is open; afterwards the name is a new group's", () => {
  const path = files.next("log");
  using producer = Queue.open<number>(path, { groups: true });
  push(producer, [1]);
  const a = Queue.open<number>(path, { group: "a" });
  const reading = Queue.open<number>(path, { group: "a", mode: "r" });
  assert.equal(a.pop(), 1);
  assert.equal(producer.removeGroup("b"), false);
  for (const open of [a, reading]) {
    assertThrows(() => producer.removeGroup("a"), mapError("ERR_LOCKED", /"a".*is open/));
    assertThrows(() => a.closed || a.removeGroup("a") || a.closed, mapError("ERR_LOCKED"));
    open.close();
    if (open === a) break;
  }
  reading.close();
  assert.equal(producer.removeGroup("a"), true);
  assert.equal(producer.removeGroup("a"), false);
  using again = Queue.open<number>(path, { group: "a" });
  assert.equal(again.pop(), 1);
  assertThrows(() => producer.removeGroup(""), rangeError());
});

test("a group that is removed and made again while others look is not taken for the old one", () => {
  const path = files.next("log");
  using producer = Queue.open<number>(path, { groups: true, ...SMALL });
  using b = Queue.open<number>(path, { group: "b" });
  for (let round = 0; round < 5; round++) {
    push(producer, numbers(4 * PER_SEGMENT));
    const a = Queue.open<number>(path, { group: "a", groupStart: "newest" });
    assert.equal(b.groups()[0]?.length, 0);
    a.close();
    producer.removeGroup("a");
    using again = Queue.open<number>(path, { group: "a" });
    assert.equal(b.popMany(4 * PER_SEGMENT).length, 4 * PER_SEGMENT);
    assert.deepEqual(again.popMany(1e6).slice(-4 * PER_SEGMENT), numbers(4 * PER_SEGMENT));
    again.close();
    producer.removeGroup("a");
  }
});

test("a group that is removed and made again between the open of its file and the lock on it", () => {
  const path = files.next("log");
  using producer = Queue.open<number>(path, { groups: true });
  using other = Queue.open<number>(path, { groups: true });
  for (const kind of [lockKinds.SHARED, lockKinds.EXCLUSIVE]) {
    push(producer, [1]);
    Queue.open<number>(path, { group: "a" }).close();
    let done = false;
    using _ = hooked("hf_lock_range", (_fd, offset, _length, asked) => {
      if (done || offset !== 2 ** 40 + 1 || asked !== kind) return;
      done = true;
      assert.equal(other.removeGroup("a"), true);
      Queue.open<number>(path, { group: "a", groupStart: "newest" }).close();
    });
    if (kind === lockKinds.SHARED) {
      using group = Queue.open<number>(path, { group: "a" });
      assert.equal(group.length, 0, "the new one");
      push(producer, [2]);
      assert.equal(group.pop(), 2);
    } else assert.equal(producer.removeGroup("a"), false, "the one that was asked for is gone");
    assert.ok(done);
    assert.equal(producer.groups().length, 1);
  }
});

test('mode "r": looks at a group, makes none', () => {
  const path = files.next("log");
  using producer = Queue.open<number>(path, { groups: true });
  push(producer, [1, 2]);
  assertThrows(() => Queue.open(path, { group: "a", mode: "r" }), mapError("ENOENT", /"a"/));
  using a = Queue.open<number>(path, { group: "a" });
  using reading = Queue.open<number>(path, { group: "a", mode: "r" });
  assert.equal(a.pop(), 1);
  assert.deepEqual([reading.length, reading.peek(), [...reading], reading.groups().length], [1, 2, [2], 1]);
  assertThrows(() => reading.pop(), mapError("ERR_READ_ONLY"));
  assertThrows(() => reading.removeGroup("a"), mapError("ERR_READ_ONLY"));
  reading.close();
  assertThrows(() => reading.groups(), mapError("ERR_CLOSED"));
});

test("durability: removals of a group are synced too; what other groups need counts", () => {
  const path = files.next("log");
  using producer = Queue.open<number>(path, { groups: true, durability: "each", ...SMALL });
  using a = Queue.open<number>(path, { group: "a", durability: "each" });
  using b = Queue.open<number>(path, { group: "b", durability: "batch", flushEveryCount: 7 });
  push(producer, numbers(300));
  assert.equal(producer.durableSequence, 300);
  for (let i = 0; i < 299; i++) assert.equal(i % 2 === 0 ? a.pop() : a.tryPop((value) => value), i);
  assert.equal(b.popMany(300).length, 300);
  a.lease()?.ack();
  b.flush();
  assert.deepEqual([a.length, b.length, b.durableSequence], [0, 0, 300]);
});

test("autoUnlink takes the groups' files along", () => {
  const path = files.next("log");
  const queue = Queue.open<number>(path, { group: "a", autoUnlink: true });
  Queue.open<number>(path, { group: "b" }).close();
  fs.writeFileSync(join(path, `.${groupFileName("c")}.0123456789abcdef.tmp`), "left");
  queue.close();
  assert.equal(fs.existsSync(path), false);
});

test("a damaged group's file is refused as it is, holds everything, and can be removed", () => {
  const path = files.next("log");
  using producer = Queue.open<number>(path, { groups: true, ...SMALL });
  push(producer, numbers(5 * PER_SEGMENT));
  for (const name of ["a", "b"]) Queue.open<number>(path, { group: name }).close();
  const [a, b] = ["a", "b"].map((name) => join(path, groupFileName(name))) as [string, string];
  const sound = fs.readFileSync(a);
  const check = (content: Uint8Array, code: string, pattern?: RegExp): void => {
    fs.writeFileSync(a, content);
    assertThrows(() => {
      using queue = Queue.open<number>(path, { group: "a" });
      return queue.length;
    }, mapError(code, pattern));
    assertThrows(() => producer.groups(), mapError(code));
    assert.deepEqual(new Uint8Array(fs.readFileSync(a)), new Uint8Array(content));
  };
  check(new Uint8Array(0), "ERR_NOT_HOLDFAST");
  check(new Uint8Array(GROUP_BYTES), "ERR_NOT_HOLDFAST");
  check(sound.subarray(0, GROUP_BYTES - 1), "ERR_CORRUPT", /not all of it/);
  check(fs.readFileSync(b), "ERR_CORRUPT", /not the file of group "a"/);
  check(fs.readFileSync(join(path, "control")).subarray(0, GROUP_BYTES), "ERR_KIND");
  const zeroed = new Uint8Array(sound);
  zeroed.fill(0, CONSUMER_CELLS, GROUP_LEASES);
  check(zeroed, "ERR_CORRUPT");
  // Whole cells of another group.
  const mixed = new Uint8Array(sound);
  mixed.set(fs.readFileSync(b).subarray(CONSUMER_CELLS, GROUP_LEASES), CONSUMER_CELLS);
  check(mixed, "ERR_CORRUPT");
  using other = Queue.open<number>(path, { group: "b" });
  assert.equal(other.popMany(1e6).length, 5 * PER_SEGMENT);
  assert.equal(segments(path), 5, "who knows what it needs");
  assert.equal(producer.removeGroup("a"), true);
  assert.equal(segments(path), 2);
});

test("names that are no group's are left alone", () => {
  const path = files.next("log");
  using producer = Queue.open<number>(path, { groups: true });
  for (const name of ["group-", "group-6", "group-zz", "group-ff", `group-${"61".repeat(101)}`, "group-61.bak"]) fs.writeFileSync(join(path, name), "x");
  assert.deepEqual(producer.groups(), []);
  producer.compact();
  assert.equal(fs.readdirSync(path).filter((name) => name.startsWith("group")).length, 6);
});

/** The files of a log as they are now. */
function saved(path: string): Map<string, Uint8Array> {
  return new Map(fs.readdirSync(path).map((name) => [name, fs.readFileSync(join(path, name))]));
}

/** Has a log come back from a power loss with files of different moments. */
function comeBack(path: string, files: ReadonlyMap<string, Uint8Array>): void {
  for (const name of fs.readdirSync(path)) if (!files.has(name)) fs.rmSync(join(path, name));
  for (const [name, bytes] of files) fs.writeFileSync(join(path, name), bytes);
  const fd = fs.openSync(join(path, "control"), "r+");
  fs.writeSync(fd, new Uint8Array(BOOT_BYTES).fill(7), 0, BOOT_BYTES, BOOT);
  fs.closeSync(fd);
}

test("after a power loss: records that the control file does not know of yet, groups that are ahead or behind", () => {
  const path = files.next("log");
  const both = (use: (a: Queue<number>, b: Queue<number>) => void): void => {
    using a = Queue.open<number>(path, { group: "a", ...SMALL });
    using b = Queue.open<number>(path, { group: "b" });
    use(a, b);
  };
  both((a) => {
    push(a, numbers(100));
    assert.equal(a.popMany(30).length, 30);
  });
  const before = saved(path);
  both((a, b) => {
    push(a, numbers(300, 100));
    assert.equal(a.popMany(250).length, 250);
    a.lease();
    assert.equal(b.pop(), 0);
  });
  const after = saved(path);
  const group = (name: string): string => groupFileName(name);
  const mixed = (base: Map<string, Uint8Array>, other: Map<string, Uint8Array>, ...names: string[]): Map<string, Uint8Array> =>
    new Map([...base, ...names.map((name): [string, Uint8Array] => [name, other.get(name) as Uint8Array])]);

  comeBack(path, mixed(after, before, "control"));
  both((a, b) => {
    assert.deepEqual([a.length, b.length], [120, 399]);
    push(b, numbers(100, 400));
    const lease = a.lease();
    assert.deepEqual([lease?.value, lease?.attempts], [280, 2]);
    lease?.ack();
    assert.deepEqual(a.popMany(1e6), numbers(219, 281));
    assert.deepEqual(b.popMany(1e6), numbers(499, 1));
  });

  // The records are lost; the group must not wait for as many others to be pushed.
  comeBack(path, mixed(before, after, group("a"), group("b")));
  both((a, b) => {
    push(a, [1000]);
    assert.deepEqual(a.popMany(1e6), [1000]);
    assert.deepEqual(b.popMany(1e6), [...numbers(99, 1), 1000]);
  });

  // Both had had everything, and the first segments were given up.
  comeBack(path, after);
  both((a, b) => {
    a.clear();
    b.clear();
    push(a, numbers(100, 400));
  });
  comeBack(path, mixed(saved(path), before, group("a")));
  both((a) => {
    const [{ missed = 0 } = {}] = a.groups();
    const rest = a.popMany(1e6);
    assert.ok(missed > 0 && rest.length > 0, `${missed} missed, ${rest.length} left`);
    assert.deepEqual(rest, numbers(470 - missed, 30 + missed));
  });
});

test("after a power loss: a lease table of another moment than its cell costs no record", () => {
  const path = files.next("log");
  {
    using a = Queue.open<number>(path, { group: "a", ...SMALL });
    push(a, numbers(200));
    assert.equal(a.popMany(150).length, 150);
  }
  const before = saved(path);
  {
    using a = Queue.open<number>(path, { group: "a" });
    a.lease();
    a.lease();
    assert.equal(a.popMany(9).length, 9);
  }
  const after = saved(path);
  const name = groupFileName("a");
  const table = (of: Map<string, Uint8Array>): Uint8Array => (of.get(name) as Uint8Array).subarray(GROUP_LEASES);
  const file = new Uint8Array(after.get(name) as Uint8Array);
  file.set(table(before), GROUP_LEASES);
  comeBack(path, new Map([...after, [name, file]]));
  {
    using a = Queue.open<number>(path, { group: "a" });
    // From the oldest segment that the group needed.
    const rest = [...a];
    assert.deepEqual(rest, numbers(rest.length, 200 - rest.length));
    assert.ok(rest.length >= 50, `${rest.length} come again`);
    assert.equal(a.byteLength, 40 * rest.length);
    const lease = a.lease();
    assert.equal(a.popMany(1e6).length, rest.length - 1);
    lease?.ack();
    assert.deepEqual([a.length, a.byteLength], [0, 0]);
  }
  comeBack(path, after);
  using a = Queue.open<number>(path, { group: "a" });
  assert.deepEqual(a.popMany(1e6), [150, 151, ...numbers(39, 161)], "of one moment: just what is due");
});

test("model: groups with leases against plain arrays", () => {
  let state = 7;
  const random = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  for (const retainBytes of [undefined, 6000]) {
    const path = files.next("log");
    using producer = Queue.open<string>(path, { groups: true, codec: "text", capacityBytes: 8192, ...(retainBytes === undefined ? {} : { retainBytes }) });
    const groups = ["a", "b", "c"].map((group) => ({
      handles: [0, 1].map(() => Queue.open<string>(path, { group, codec: "text" })),
      /** Numbers that the group has yet to remove, oldest first, and those that are leased. */
      left: [] as number[],
      leased: new Map<number, { ack(): void; release(): void }>(),
      seen: 0,
    }));
    let next = 0;
    for (let step = 0; step < 1500; step++) {
      const what = random(10);
      if (what < 3) {
        for (let i = random(6); i >= 0; i--) {
          producer.push(`${next}`.padEnd(8 + random(3) * random(400), "."));
          for (const group of groups) group.left.push(next);
          next++;
        }
        continue;
      }
      const group = groups[random(3)] as (typeof groups)[number];
      const queue = group.handles[random(2)] as Queue<string>;
      // What the limits gave up is gone for every group.
      const [first] = producer;
      const oldest = first === undefined ? next : parseInt(first);
      for (const number of group.leased.keys()) if (number < oldest) group.leased.delete(number);
      group.left = group.left.filter((number) => number >= oldest);
      if (retainBytes === undefined) assert.ok(oldest <= Math.min(...groups.flatMap(({ left, leased }) => [...left, ...leased.keys()]), next));
      assert.equal(queue.length, group.left.length + group.leased.size);
      if (what < 6) {
        const count = 1 + random(12);
        const values = (count === 1 ? [queue.pop()] : queue.popMany(count)).filter((value) => value !== undefined);
        assert.deepEqual(values.map((value) => parseInt(value)), group.left.splice(0, count));
        group.seen += values.length;
      } else if (what < 7) {
        const lease = queue.lease();
        const expected = group.left.shift();
        assert.equal(lease === undefined ? undefined : parseInt(lease.value), expected);
        if (lease !== undefined) group.leased.set(expected as number, lease);
      } else if (what < 9) {
        const [entry] = [...group.leased].slice(random(group.leased.size));
        if (entry === undefined) continue;
        const [number, lease] = entry;
        group.leased.delete(number);
        if (what === 7) {
          lease.release();
          group.left = [number, ...group.left].sort((x, y) => x - y);
        } else {
          lease.ack();
          group.seen++;
        }
      } else {
        const all = [...group.leased.keys(), ...group.left].sort((x, y) => x - y);
        assert.deepEqual([...queue].map((value) => parseInt(value)).sort((x, y) => x - y), all);
        assert.equal([...queue.reversed()].length, all.length);
      }
    }
    const listed = producer.groups();
    groups.forEach(({ seen }, i) => {
      const { length = 0, missed = 0 } = listed[i] ?? {};
      assert.equal(seen + length + missed, next);
      if (retainBytes === undefined) assert.equal(missed, 0);
    });
    if (retainBytes !== undefined) assert.ok(listed.some(({ missed }) => missed > 0));
    for (const { handles } of groups) for (const handle of handles) handle.close();
  }
});
