/** What goes wrong around a queue: damage in its files, cleaning up that fails, programs that call back. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  CONSUMER_CELLS,
  CONSUMER_LOCK,
  LEASE,
  LEASES,
  NEXT_SEGMENT,
  PRODUCER_CELLS,
  PRODUCER_LOCK,
  SLOTS,
  SWEEP_FLAG,
} from "../../lib/layout/queue.ts";
import { type Codec, Queue } from "../../mod.ts";
import { assertThrows, mapError, rangeError, typeError } from "../support/errors.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();

/** A word of a queue's control file, read and written past the library. */
function word(path: string, offset: number, value?: bigint): bigint {
  const fd = fs.openSync(join(path, "control"), "r+");
  try {
    const bytes = new Uint8Array(8);
    const view = new DataView(bytes.buffer);
    fs.readSync(fd, bytes, 0, 8, offset);
    const found = view.getBigInt64(0, true);
    if (value !== undefined) {
      view.setBigInt64(0, value, true);
      fs.writeSync(fd, bytes, 0, 8, offset);
    }
    return found;
  } finally {
    fs.closeSync(fd);
  }
}

const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

test("a sweep that is due waits for a free producer lock: nobody else waits, nothing is lost", () => {
  const path = files.next();
  using producer = Queue.open<number>(path, { capacityBytes: 8192 });
  using consumer = Queue.open<number>(path);
  for (const i of numbers(600)) producer.push(i);
  word(path, SWEEP_FLAG, 1n);
  word(path, PRODUCER_LOCK, word(path, SLOTS) * 1024n); // slot 0, whose holder lives
  const popped: (number | undefined)[] = [];
  for (let i = 0; i < 600; i++) popped.push(consumer.pop());
  assert.deepEqual(popped, numbers(600));
  word(path, PRODUCER_LOCK, 0n);
  for (const i of numbers(600)) producer.push(i);
  assert.deepEqual(consumer.popMany(600), numbers(600));
  assert.equal(word(path, SWEEP_FLAG), 0n, "and it was done in the end");
});

test("a segment that can't be removed costs no record", () => {
  const path = files.next();
  using queue = Queue.open<number>(path, { capacityBytes: 8192 });
  for (const i of numbers(1000)) queue.push(i);
  using other = Queue.open<number>(path);
  const popped = other.popMany(150); // the cursor is in the second segment, which is mapped from now on
  // A directory in its place can't be unlinked, whoever asks.
  const second = join(path, "segment-2");
  fs.renameSync(second, `${second}.away`);
  fs.mkdirSync(join(second, "not empty"), { recursive: true });
  for (let value = other.pop(); value !== undefined; value = other.pop()) popped.push(value);
  assert.deepEqual(popped, numbers(1000));
  assert.equal(other.length, 0);
  assert.ok(fs.statSync(second).isDirectory());
});

test("popMany with a codec that throws gives what it had, and keeps the rest", () => {
  const codec: Codec<string> = {
    encode: (text) => new TextEncoder().encode(text),
    decode(bytes) {
      const text = new TextDecoder().decode(bytes);
      if (text === "bad") throw new Error("this one is bad");
      return text;
    },
  };
  using queue = Queue.open<string>(files.next(), { codec });
  queue.pushMany(["a", "b", "bad", "d"]);
  assert.deepEqual(queue.popMany(10), ["a", "b"]);
  assert.equal(queue.length, 2);
  assertThrows(() => queue.popMany(10), mapError("ERR_CODEC"));
  assert.equal(queue.length, 2);
});

test("a codec that uses one buffer again and again", () => {
  const shared = new Uint8Array(1);
  const codec: Codec<number> = {
    encode(value) {
      shared[0] = value;
      return shared;
    },
    decode: (bytes) => bytes[0] as number,
  };
  using queue = Queue.open<number>(files.next(), { codec });
  queue.pushMany([1, 2, 3]);
  assert.deepEqual(queue.popMany(3), [1, 2, 3]);
});

test("a value whose toJSON pushes itself", () => {
  using queue = Queue.open<unknown>(files.next());
  const value = {
    toJSON() {
      queue.push("inner");
      return "outer";
    },
  };
  assert.equal(queue.push(value), true);
  assert.equal(queue.pushMany([value, "last"]), 2);
  assert.deepEqual(queue.popMany(10), ["inner", "outer", "inner", "outer", "last"]);
});

test("a value whose toJSON closes the queue", () => {
  const queue = Queue.open<unknown>(files.next());
  assertThrows(() => queue.push({ toJSON: () => queue.close() ?? 1 }), mapError("ERR_CLOSED"));
});

test("values that no codec takes: a TypeError with a code, nothing pushed", () => {
  using json = Queue.open<unknown>(files.next());
  const cycle: { self?: unknown } = {};
  cycle.self = cycle;
  // deno-lint-ignore no-sparse-arrays
  const hole = [1, , 3];
  for (const value of [1n, cycle, undefined, () => 1, Symbol("s")]) {
    assertThrows(() => json.push(value), typeError());
    assertThrows(() => json.pushMany([1, value]), typeError());
  }
  assertThrows(() => json.pushMany(hole), typeError());
  assert.equal(json.length, 0);
  using bytes = Queue.open<Uint8Array>(files.next(), { codec: "bytes" });
  const detached = new Uint8Array(8);
  detached.buffer.transfer();
  assertThrows(() => bytes.push(detached), typeError(/detached/));
  assertThrows(() => bytes.pushMany([new Uint8Array(1), detached]), typeError(/detached/));
  assert.equal(bytes.length, 0);
});

test("leaseMs beyond what a deadline can say", () => {
  using queue = Queue.open<number>(files.next());
  queue.push(1);
  assertThrows(() => queue.lease({ leaseMs: Number.MAX_SAFE_INTEGER }), rangeError());
  assert.equal(queue.lease({ leaseMs: 2 ** 40 })?.value, 1);
});

test("an error after a takeover leaves no lock behind", () => {
  const path = files.next();
  using queue = Queue.open<number>(path);
  queue.pushMany([1, 2]);
  const dead = 5n * 1024n + 900n; // a slot that nobody holds
  word(path, CONSUMER_LOCK, dead);
  word(path, LEASES + 50 * 64, -1n);
  assertThrows(() => queue.pop(), mapError("ERR_CORRUPT"));
  assert.equal(word(path, CONSUMER_LOCK), 0n);
  word(path, LEASES + 50 * 64, 0n);
  assert.deepEqual(queue.popMany(2), [1, 2]);
});

test("lock words that are no owner's", () => {
  const path = files.next();
  using queue = Queue.open<number>(path);
  queue.push(1);
  for (const value of [-1n, 2n ** 60n]) {
    word(path, PRODUCER_LOCK, value);
    assertThrows(() => queue.push(2), mapError("ERR_CORRUPT", /lock word/));
    word(path, PRODUCER_LOCK, 0n);
    word(path, CONSUMER_LOCK, value);
    assertThrows(() => queue.pop(), mapError("ERR_CORRUPT", /lock word/));
    word(path, CONSUMER_LOCK, 0n);
  }
  word(path, PRODUCER_LOCK, 77n * 1024n + 1000n); // an owner that never was
  assert.equal(queue.push(2), true);
  assert.deepEqual(queue.popMany(3), [1, 2]);
});

test("a version word that is off by one, or by one bit", () => {
  for (const [cells, use] of [[PRODUCER_CELLS, "push"], [CONSUMER_CELLS, "pop"]] as const) {
    const path = files.next();
    using queue = Queue.open<number>(path);
    queue.pushMany([1, 2]);
    queue.push(3);
    queue.pop();
    const sound = word(path, cells);
    for (const damaged of [sound - 1n, sound + 1n, sound ^ 1n, sound ^ 2n, 0n, sound ^ (1n << 50n)]) {
      word(path, cells, damaged);
      assertThrows(() => (use === "push" ? queue.push(4) : queue.pop()), mapError("ERR_CORRUPT"));
      assertThrows(() => queue.length, mapError("ERR_CORRUPT"));
      assert.equal(word(path, cells), damaged, "nothing was written");
    }
    word(path, cells, sound);
    assert.deepEqual([...queue], [2, 3]);
  }
});

test("damaged lease entries are told, and nothing is handed out by them", () => {
  const path = files.next();
  using queue = Queue.open<number>(path);
  queue.pushMany([1, 2, 3]);
  const lease = queue.lease();
  const entry = LEASES;
  const sound = (field: number): bigint => word(path, entry + 8 * field);
  for (const field of [LEASE.sequence, LEASE.position, LEASE.segment, LEASE.offset, LEASE.bytes]) {
    const before = sound(field);
    for (const damaged of [0n, before + 1n, before + 1000n]) {
      word(path, entry + 8 * field, damaged);
      assertThrows(() => queue.pop(), mapError("ERR_CORRUPT"));
      assertThrows(() => queue.lease(), mapError("ERR_CORRUPT"));
      assert.equal(sound(field), damaged, "nothing was written");
    }
    word(path, entry + 8 * field, before);
  }
  const attempts = sound(LEASE.attempts);
  word(path, entry + 8 * LEASE.attempts, attempts + (1n << 30n));
  assertThrows(() => queue.pop(), mapError("ERR_CORRUPT"));
  word(path, entry + 8 * LEASE.attempts, attempts);
  lease?.ack();
  assert.deepEqual(queue.popMany(5), [2, 3]);
  assert.equal(queue.length, 0);
});

test("a damaged count of segments leads to no file that is in use", () => {
  for (const damaged of [0n, 1n, 2n, -5n]) {
    const path = files.next();
    using queue = Queue.open<number>(path, { capacityBytes: 8192 });
    queue.push(0);
    word(path, NEXT_SEGMENT, damaged);
    let pushed = 1;
    assertThrows(() => {
      for (; pushed < 1000; pushed++) queue.push(pushed);
    }, mapError("ERR_CORRUPT", /count of segments/));
    assert.equal(word(path, NEXT_SEGMENT), damaged);
    assert.equal(queue.length, pushed);
    assert.deepEqual(queue.popMany(2000), numbers(pushed));
  }
});

test("a slot with an impossible generation", () => {
  const path = files.next();
  Queue.open(path).close();
  for (const generation of [2n ** 50n, -1n]) {
    word(path, SLOTS, generation);
    assertThrows(() => Queue.open(path), mapError("ERR_CORRUPT"));
    assert.equal(word(path, SLOTS), generation);
  }
  word(path, SLOTS, 7n);
  Queue.open(path).close();
});

test("an error behind a record that was handed out before costs nothing", () => {
  const path = files.next();
  using queue = Queue.open<string>(path, { codec: "text" });
  queue.pushMany(["first", "second", "third"]);
  queue.lease()?.release();
  const segment = join(path, "segment-1");
  const at = fs.readFileSync(segment).indexOf("second");
  const damage = (): void => {
    const fd = fs.openSync(segment, "r+");
    const byte = new Uint8Array(1);
    fs.readSync(fd, byte, 0, 1, at);
    byte[0] = (byte[0] as number) ^ 1;
    fs.writeSync(fd, byte, 0, 1, at);
    fs.closeSync(fd);
  };
  damage();
  assert.deepEqual(queue.popMany(10), ["first"], "what is whole goes out");
  assertThrows(() => queue.popMany(10), mapError("ERR_CORRUPT"));
  damage();
  assert.deepEqual(queue.popMany(10), ["second", "third"]);
});

test("an exception in the middle of a call leaves no lock behind", () => {
  const path = files.next();
  using queue = Queue.open<number>(path);
  using other = Queue.open<number>(path);
  let pushed = 0;
  const dive = (): void => {
    try {
      if (queue.push(1)) pushed++;
    } catch {
      // the stack is full: here, or inside the lock
    }
    dive();
  };
  for (let i = 0; i < 5; i++) assertThrowsRange(dive);
  assert.equal(queue.push(2), true, "the handle itself goes on");
  assert.equal(other.push(3), true, "and others with it");
  assert.ok(queue.length >= pushed + 2);
  assert.deepEqual(queue.popMany(queue.length).slice(-2), [2, 3]);
});

/** The runtimes have different words, and Bun and Node different classes, for a full stack. */
function assertThrowsRange(call: () => void): void {
  assert.throws(call, RangeError);
}

test("a directory that another queue took over is left alone", () => {
  const path = files.next();
  using old = Queue.open<number>(path, { capacityBytes: 8192 });
  for (const i of numbers(400)) old.push(i);
  fs.rmSync(path, { recursive: true });
  using queue = Queue.open<number>(path, { capacityBytes: 8192 });
  for (const i of numbers(400)) queue.push(i);
  assertThrows(() => {
    for (let i = 0; i < 400; i++) old.pop();
  }, mapError("ESTALE"));
  assertThrows(() => {
    for (let i = 0; i < 400; i++) old.push(i);
  }, mapError("ESTALE"));
  assert.deepEqual(queue.popMany(400), numbers(400));
});

test("a relative path stands for one place, whatever the working directory becomes", () => {
  const folder = files.next();
  fs.mkdirSync(folder);
  const before = process.cwd();
  process.chdir(folder);
  try {
    using queue = Queue.open<number>("relative", { capacityBytes: 8192 });
    process.chdir(before);
    for (const i of numbers(400)) queue.push(i);
    assert.deepEqual(queue.popMany(400), numbers(400));
  } finally {
    process.chdir(before);
  }
});

test("segments that lead in a circle, or end behind their end", () => {
  const path = files.next();
  using queue = Queue.open<string>(path, { codec: "text", capacityBytes: 8192 });
  const text = "x".repeat(3000);
  queue.pushMany([text, text, text]);
  const lease = queue.lease();
  assert.equal(queue.pop(), text);
  const segment = (offset: number, value?: bigint): bigint => {
    const fd = fs.openSync(join(path, "segment-1"), "r+");
    const bytes = new Uint8Array(8);
    fs.readSync(fd, bytes, 0, 8, offset);
    const view = new DataView(bytes.buffer);
    const found = view.getBigUint64(0, true);
    if (value !== undefined) {
      view.setBigUint64(0, value, true);
      fs.writeSync(fd, bytes, 0, 8, offset);
    }
    return found;
  };
  const next = segment(144, 1n);
  assertThrows(() => lease?.ack(), mapError("ERR_CORRUPT"));
  segment(144, next);
  const end = segment(136, 2n ** 37n);
  assertThrows(() => lease?.ack(), mapError("ERR_CORRUPT"));
  segment(136, end);
  lease?.ack();
  assert.equal(queue.pop(), text);
  assert.equal(queue.length, 0);
});

test("an iteration that a pop of a leased record overtakes", () => {
  const path = files.next();
  using queue = Queue.open<string>(path, { codec: "text", capacityBytes: 8192 });
  using other = Queue.open<string>(path, { codec: "text" });
  const texts = ["a", "b", "c"].map((letter) => letter.repeat(3000));
  queue.pushMany(texts);
  queue.lease()?.release();
  const walk = queue[Symbol.iterator]();
  assert.equal(walk.next().value, texts[0]);
  assert.equal(other.pop(), texts[0]);
  assert.equal(walk.next().value, texts[1]);
  assert.equal(walk.next().value, texts[2]);
});

test("a damaged sequence of a lease is not taken for a half-written one", () => {
  const path = files.next();
  using queue = Queue.open<number>(path);
  queue.pushMany([1, 2]);
  queue.lease();
  const sound = word(path, LEASES, 1000n);
  word(path, CONSUMER_LOCK, 5n * 1024n + 900n); // a dead owner: what follows is a repair
  assertThrows(() => queue.pop(), mapError("ERR_CORRUPT"));
  assert.equal(word(path, LEASES), 1000n, "it was not cleared away");
  word(path, LEASES, sound);
  assert.equal(queue.pop(), 2);
  assert.equal(queue.length, 1);
});

test("a failed open leaves nothing open", () => {
  const path = files.next();
  Queue.open(path).close();
  word(path, CONSUMER_CELLS, 0n);
  const descriptors = (): number => fs.readdirSync("/proc/self/fd").length;
  const before = descriptors();
  for (let i = 0; i < 20; i++) {
    const queue = Queue.open(path);
    assertThrows(() => queue.length, mapError("ERR_CORRUPT"));
    queue.close();
  }
  word(path, 0, 0n); // the magic
  for (let i = 0; i < 20; i++) assertThrows(() => Queue.open(path), mapError("ERR_NOT_HOLDFAST"));
  assert.ok(descriptors() <= before + 1, `${descriptors() - before} descriptors more`);
});
