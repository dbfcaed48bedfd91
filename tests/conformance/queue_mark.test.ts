/** Marks: bytes of the program's own that are committed with records; and what names a queue and its records. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { BOOT, MARK_BYTES, MARKS, MAX_MARK_BYTES, PRODUCER_CELLS } from "../../lib/layout/queue.ts";
import { Queue } from "../../mod.ts";
import { assertThrows, mapError, rangeError, typeError } from "../support/errors.ts";
import { skipFor } from "../support/skip.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const textOf = (bytes: Uint8Array | undefined): string | undefined => (bytes === undefined ? undefined : new TextDecoder().decode(bytes));

function damage(path: string, offset: number): void {
  const fd = fs.openSync(join(path, "control"), "r+");
  try {
    const byte = new Uint8Array(1);
    fs.readSync(fd, byte, 0, 1, offset);
    byte[0] = (byte[0] as number) ^ 1;
    fs.writeSync(fd, byte, 0, 1, offset);
  } finally {
    fs.closeSync(fd);
  }
}

test("a mark goes with the records, and alone", () => {
  const path = files.next("queue");
  using queue = Queue.open<number>(path);
  assert.equal(queue.mark, undefined);
  assert.equal(queue.pushMany([1, 2], { mark: bytesOf("2") }), 2);
  assert.equal(textOf(queue.mark), "2");
  queue.push(3);
  assert.equal(textOf(queue.mark), "2", "it stays");
  for (let i = 3; i < 20; i++) assert.equal(queue.pushMany([], { mark: bytesOf(`only ${i}`) }), 0);
  assert.equal(textOf(queue.mark), "only 19");
  assert.equal(queue.length, 3);
  queue.pushMany([], { mark: new Uint8Array(0) });
  assert.deepEqual(queue.mark, new Uint8Array(0), "an empty one is one");
  const longest = new Uint8Array(MAX_MARK_BYTES).fill(7);
  queue.pushMany([4], { mark: longest });
  using other = Queue.open<number>(path, { mode: "r" });
  assert.deepEqual(other.mark, longest);
  assert.deepEqual([...other], [1, 2, 3, 4]);
});

test("with a mark all records are pushed or none", () => {
  using queue = Queue.open<string>(files.next("queue"), { codec: "text", capacityBytes: 4096, fixedSize: true });
  queue.pushMany(["a"], { mark: bytesOf("a") });
  const many = Array.from({ length: 50 }, () => "x".repeat(100));
  assert.equal(queue.pushMany(many, { mark: bytesOf("many") }), 0);
  assert.equal(textOf(queue.mark), "a");
  assert.deepEqual([...queue], ["a"]);
  const fitting = queue.pushMany(many);
  assert.ok(fitting > 0 && fitting < many.length, "without one, as many as fit");
  queue.popMany(100);
  assert.equal(queue.pushMany(many.slice(0, 20), { mark: bytesOf("some") }), 20);
  assert.equal(textOf(queue.mark), "some");
});

test("marks across segments, and with durability", () => {
  for (const durability of ["process", "batch", "each"] as const) {
    using queue = Queue.open<string>(files.next("queue"), { codec: "text", capacityBytes: 8192, durability });
    for (let i = 0; i < 40; i++) {
      assert.equal(queue.pushMany(["y".repeat(700), "z"], { mark: bytesOf(`${i}`) }), 2);
      assert.equal(textOf(queue.mark), `${i}`);
    }
    if (durability === "each") assert.equal(queue.durableSequence, 80);
    assert.equal(queue.popMany(100).length, 80);
  }
});

test("what makes no sense as a mark", () => {
  using queue = Queue.open<number>(files.next("queue"));
  assertThrows(() => queue.pushMany([1], { mark: "text" as unknown as Uint8Array }), typeError(/"mark".*Uint8Array/));
  assertThrows(() => queue.pushMany([1], { mark: new Uint8Array(MAX_MARK_BYTES + 1) }), rangeError(/112/));
  assertThrows(() => queue.pushMany([1], { marks: 1 } as object), typeError(/marks/));
  assert.equal(queue.length, 0);
  assert.equal(queue.mark, undefined);
});

test("a damaged mark is told, and a repair goes on without it; a whole one is kept", () => {
  const path = files.next("queue");
  {
    using queue = Queue.open<number>(path);
    queue.pushMany([1], { mark: bytesOf("first") });
  }
  assert.equal(Queue.verify(path).ok, true);
  // The mark of number 1 lies in the second slot.
  damage(path, MARKS + MARK_BYTES + 20);
  const report = Queue.verify(path);
  assert.deepEqual(report.damage.map(({ code, file, offset }) => ({ code, file, offset })), [{ code: "mark", file: "control", offset: MARKS + MARK_BYTES }]);
  {
    using queue = Queue.open<number>(path);
    assertThrows(() => queue.mark, mapError("ERR_CORRUPT"));
    assert.equal(queue.peek(), 1, "records are none of its business");
  }
  assert.equal(Queue.recover(path).ok, false);
  {
    using queue = Queue.open<number>(path);
    assert.equal(queue.mark, undefined);
    assert.equal(queue.pop(), 1);
    queue.pushMany([2], { mark: bytesOf("second") });
  }
  // The repair of something else carries it over.
  damage(path, PRODUCER_CELLS);
  assert.equal(Queue.recover(path).ok, false);
  using queue = Queue.open<number>(path);
  assert.deepEqual([...queue], [2]);
  // The version word was damaged, so that the last commit counts as never made: its mark does not count either.
  assert.equal(textOf(queue.mark), undefined);
  assert.equal(Queue.verify(path).ok, true);
});

const cut = "after a power cut no mark speaks for records that are lost";
test(cut, skipFor(cut, process.platform === "linux" ? undefined : "only Linux says which boot it is"), () => {
  /** The queue as a power cut leaves it whose control file got to storage, and of the records only those in front of `change`. */
  const cutAfter = (change: (queue: Queue<string>) => void): Queue<string> => {
    const path = files.next("queue");
    const segment = join(path, "segment-1");
    let stored: Uint8Array;
    {
      using queue = Queue.open<string>(path, { codec: "text" });
      queue.pushMany(["a", "b"], { mark: bytesOf("b") });
      stored = fs.readFileSync(segment);
      change(queue);
    }
    fs.writeFileSync(segment, stored);
    damage(path, BOOT);
    return Queue.open<string>(path, { codec: "text" });
  };
  {
    using queue = cutAfter((queue) => queue.pushMany(["c", "d"], { mark: bytesOf("d") }));
    assert.deepEqual([...queue], ["a", "b"]);
    assert.deepEqual(queue.recovered?.gaps, [{ first: 3, last: 4 }]);
    assert.equal(textOf(queue.mark), "b", "the one before is still there");
    assert.equal(queue.recovered.damage.filter(({ code }) => code === "mark").length, 1, "and it is said");
    queue.pushMany(["c"], { mark: bytesOf("c") });
    assert.equal(textOf(queue.mark), "c");
    assert.equal(Queue.verify(queue.path).ok, true);
  }
  {
    using queue = cutAfter((queue) => {
      queue.pushMany(["c"], { mark: bytesOf("c") });
      queue.pushMany([], { mark: bytesOf("c, and no more") });
    });
    assert.deepEqual([...queue], ["a", "b"]);
    assert.equal(queue.mark, undefined, "rather none than one that lies");
    assert.equal(queue.recovered?.damage.filter(({ code }) => code === "mark").length, 1);
  }
  {
    using queue = cutAfter((queue) => queue.push("c"));
    assert.equal(textOf(queue.mark), "b", "what is lost came after it");
    assert.equal(queue.recovered?.damage.filter(({ code }) => code === "mark").length, 0);
  }
  {
    using queue = cutAfter((queue) => {
      queue.pushMany(["c"], { mark: bytesOf("c") });
      queue.popMany(3);
    });
    assert.equal(textOf(queue.mark), "c", "what was consumed is not lost");
    assert.equal(queue.isEmpty, true);
  }
});

test("a queue's id stays, and a lease tells its record's sequence", () => {
  const path = files.next("queue");
  using queue = Queue.open<string>(path);
  assert.match(queue.id, /^[0-9a-f]{32}$/);
  using again = Queue.open<string>(path, { mode: "r" });
  assert.equal(again.id, queue.id);
  using other = Queue.open<string>(files.next("queue"));
  assert.notEqual(other.id, queue.id);
  queue.pushMany(["a", "b"]);
  using a = queue.lease();
  assert.equal(a?.sequence, 1);
  a?.release();
  assert.equal(queue.pop(), "a");
  using b = queue.lease();
  assert.equal(b?.sequence, 2);
});
