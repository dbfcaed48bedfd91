import * as assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type Codec, Counters, Mapping, MapError, Queue } from "../../mod.ts";
import { temporaryFolder } from "../support/temporary.ts";

const folder = temporaryFolder();
let number = 0;
const fresh = (): string => join(folder, `q${number++}`);

const withCode = (code: string) => (error: unknown): boolean => {
  assert.ok(error instanceof MapError, String(error));
  assert.equal(error.code, code, error.message);
  return true;
};

test("values come out in the order in which they went in", () => {
  using queue = Queue.open(fresh());
  assert.equal(queue.push({ a: [1, null, "ü"] }), true);
  assert.equal(queue.pushMany(["two", 3]), 2);
  assert.equal(queue.pushMany([]), 0);
  assert.equal(queue.length, 3);
  assert.equal(queue.isEmpty, false);
  assert.deepEqual(queue.peek(), { a: [1, null, "ü"] });
  assert.deepEqual([...queue], [{ a: [1, null, "ü"] }, "two", 3]);
  assert.equal(queue.length, 3, "looking removes nothing");
  assert.deepEqual(queue.pop(), { a: [1, null, "ü"] });
  assert.deepEqual(queue.popMany(10), ["two", 3]);
  assert.equal(queue.pop(), undefined);
  assert.equal(queue.peek(), undefined);
  assert.deepEqual(queue.popMany(1), []);
  assert.equal(queue.isEmpty, true);
  assert.equal(queue.byteLength, 0);
});

test("null is a value, undefined is not", () => {
  using queue = Queue.open(fresh());
  queue.push(null);
  assert.equal(queue.pop(), null);
  assert.throws(() => queue.push(undefined as unknown as null), TypeError);
  assert.throws(() => queue.push((() => 1) as unknown as null), TypeError);
  assert.equal(queue.length, 0);
});

test("codec text", () => {
  using queue = Queue.open<string>(fresh(), { codec: "text" });
  for (const text of ["", "a", "\uFEFFbom", "日本語 🎉", "\0", "x".repeat(200_000)]) {
    queue.push(text);
    assert.equal(queue.pop(), text);
  }
  assert.throws(() => queue.push("\ud800"), TypeError);
  assert.throws(() => queue.push(1 as unknown as string), TypeError);
});

test("codec bytes: lengths around each boundary", () => {
  using queue = Queue.open<Uint8Array>(fresh(), { codec: "bytes" });
  for (let length = 0; length < 70; length++) queue.push(Uint8Array.from({ length }, (_, i) => i + length));
  for (let length = 0; length < 70; length++) {
    const value = queue.pop() as Uint8Array;
    assert.equal(value.constructor, Uint8Array);
    assert.deepEqual([...value], Array.from({ length }, (_, i) => (i + length) & 255));
  }
});

test("a popped array is the caller's own", () => {
  using queue = Queue.open<Uint8Array>(fresh(), { codec: "bytes" });
  queue.push(new Uint8Array([1, 2, 3]));
  const first = queue.pop() as Uint8Array;
  queue.push(new Uint8Array([9, 9, 9]));
  queue.pop();
  assert.deepEqual([...first], [1, 2, 3]);
});

test("values of all lengths stay what they are while others come out", () => {
  using queue = Queue.open<Uint8Array>(fresh(), { codec: "bytes" });
  const lengths = [1, 4096, 4097, 0, 70_000, 8, 300_000, 64, 20_000, 4095, 65_536, 2];
  const records = Array.from({ length: 60 }, (_, i) => new Uint8Array(lengths[(i * 7) % lengths.length] as number).fill(i + 1));
  assert.equal(queue.pushMany(records), records.length);
  const found: Uint8Array[] = [];
  while (!queue.isEmpty) {
    found.push(...queue.popMany(1 + (found.length % 5)));
    const value = queue.pop();
    if (value !== undefined) found.push(value);
    const lease = queue.lease();
    if (lease === undefined) continue;
    found.push(lease.value);
    lease.ack();
  }
  assert.deepEqual(found, records);
  for (const value of found) assert.ok(value.length <= 4096 || value.buffer.byteLength === value.length, "a large one has its own memory");
});

test("payloads from every kind of memory", () => {
  class Odd extends Uint8Array {
    override get byteLength(): number {
      return 1;
    }
    override get byteOffset(): number {
      return 0;
    }
  }
  using mapping = Mapping.anonymous(1 << 17);
  using queue = Queue.open<Uint8Array>(fresh(), { codec: "bytes" });
  const pushed: Uint8Array[] = [];
  for (const length of [0, 1, 7, 64, 4096, 4097, 5000, 70_001]) {
    const content = Uint8Array.from({ length }, (_, i) => (i * 31 + length) & 0xff);
    const wasm = new WebAssembly.Memory({ initial: 2 });
    const memories: Uint8Array[] = [
      content.slice(),
      new Uint8Array(new ArrayBuffer(length + 16), 3, length),
      new Uint8Array(new SharedArrayBuffer(length + 16), 5, length),
      new Uint8Array(new ArrayBuffer(length, { maxByteLength: length + 100 })),
      new Odd(length),
      Buffer.alloc(length),
      mapping.view(1, length),
      new Uint8Array(wasm.buffer, 8, length),
    ];
    for (const memory of memories) {
      memory.set(content);
      queue.push(memory);
      // Of the queue by now, whatever becomes of the array.
      memory.fill(0);
      pushed.push(content);
    }
  }
  for (const content of pushed) assert.deepEqual(queue.pop(), content);
  assert.equal(queue.pop(), undefined);
});

test("a codec of one's own, and what happens when it throws", () => {
  let failing = false;
  const codec: Codec<Date> = {
    encode: (value) => new TextEncoder().encode(String(value.getTime())),
    decode(payload) {
      if (failing) throw new Error("no dates today");
      return new Date(Number(new TextDecoder().decode(payload)));
    },
  };
  using queue = Queue.open<Date>(fresh(), { codec });
  queue.push(new Date(5));
  queue.push(new Date(6));
  failing = true;
  assert.throws(() => queue.pop(), withCode("ERR_CODEC"));
  assert.throws(() => queue.peek(), withCode("ERR_CODEC"));
  assert.equal(queue.length, 2);
  failing = false;
  assert.deepEqual(queue.popMany(5), [new Date(5), new Date(6)]);
});

test("a record that the codec refuses stays in the queue", () => {
  const path = fresh();
  using bytes = Queue.open<Uint8Array>(path, { codec: "bytes" });
  bytes.push(new TextEncoder().encode("1"));
  bytes.push(new TextEncoder().encode("{no json"));
  using json = Queue.open(path);
  assert.deepEqual(json.popMany(2), [1]);
  assert.throws(() => json.pop(), withCode("ERR_CODEC"));
  assert.throws(() => json.lease(), withCode("ERR_CODEC"));
  assert.equal(json.length, 1);
  assert.deepEqual(bytes.pop(), new TextEncoder().encode("{no json"));
});

test("tryPop removes the record only if the function returns", () => {
  using queue = Queue.open<number>(fresh());
  queue.pushMany([1, 2]);
  assert.throws(
    () =>
      queue.tryPop(() => {
        throw new RangeError("not now");
      }),
    /not now/,
  );
  assert.equal(queue.length, 2);
  assert.equal(queue.tryPop((value) => value * 10), 10);
  assert.equal(queue.tryPop((value) => value * 10), 20);
  assert.equal(queue.tryPop(() => assert.fail("called without a record")), undefined);
});

test("tryPop may use the queue inside", () => {
  using queue = Queue.open<number>(fresh());
  queue.push(1);
  queue.tryPop((value) => queue.push(value + 1));
  assert.deepEqual([...queue], [2]);
});

test("a lease stays in the queue until it is acknowledged", () => {
  using queue = Queue.open<string>(fresh());
  queue.pushMany(["a", "b", "c"]);
  const a = queue.lease();
  const b = queue.lease();
  assert.ok(a && b);
  assert.deepEqual([a.value, a.attempts, b.value, b.attempts], ["a", 1, "b", 1]);
  assert.equal(queue.length, 3);
  assert.deepEqual([...queue], ["a", "b", "c"]);
  assert.equal(queue.peek(), "c", "leased records are not offered");
  b.release();
  assert.equal(queue.peek(), "b");
  const again = queue.lease();
  assert.deepEqual([again?.value, again?.attempts], ["b", 2]);
  assert.throws(() => b.ack(), withCode("ERR_STALE_LEASE"));
  assert.throws(() => b.release(), withCode("ERR_STALE_LEASE"));
  again?.ack();
  assert.throws(() => again?.ack(), withCode("ERR_STALE_LEASE"));
  assert.equal(queue.pop(), "c");
  assert.equal(queue.length, 1);
  a.ack();
  assert.equal(queue.length, 0);
  assert.equal(queue.byteLength, 0);
});

test("a lease that goes out of scope is given back", () => {
  using queue = Queue.open<number>(fresh());
  queue.push(7);
  {
    using lease = queue.lease();
    assert.equal(lease?.attempts, 1);
  }
  assert.equal(queue.pop(), 7, "pop takes what was given back");
});

test("leases of a handle that closes are handed out again", () => {
  const path = fresh();
  using queue = Queue.open<number>(path);
  queue.pushMany([1, 2, 3]);
  const other = Queue.open<number>(path);
  const held = other.lease();
  other.lease()?.ack();
  other.close();
  assert.throws(() => held?.ack(), withCode("ERR_CLOSED"));
  const lease = queue.lease();
  // The dead are looked for when nothing else is there, or after a while.
  const values = [lease?.value, queue.lease()?.value].sort();
  assert.deepEqual(values, [1, 3]);
  assert.equal(queue.lease(), undefined);
});

test("leaseMs hands a record out again although its holder lives", async () => {
  using queue = Queue.open<number>(fresh());
  queue.push(1);
  const late = queue.lease({ leaseMs: 1 });
  await new Promise((resolve) => setTimeout(resolve, 20));
  const next = queue.lease();
  assert.deepEqual([next?.value, next?.attempts], [1, 2]);
  assert.throws(() => late?.ack(), withCode("ERR_STALE_LEASE"));
  next?.ack();
  assert.equal(queue.length, 0);
});

test("thousands of leases, acknowledged in any order", () => {
  using queue = Queue.open<number>(fresh());
  const count = 4096;
  queue.pushMany(Array.from({ length: count + 1 }, (_, i) => i));
  const leases = Array.from({ length: count }, () => queue.lease());
  assert.throws(() => queue.lease(), withCode("ERR_TOO_MANY_LEASES"));
  assert.equal(queue.length, count + 1);
  for (let i = 0; i < count; i++) leases[(i * 1789) % count]?.ack();
  assert.equal(queue.length, 1);
  assert.equal(queue.pop(), count);
});

test("records over many segments, and one larger than a segment", () => {
  const path = fresh();
  using queue = Queue.open<string>(path, { codec: "text", capacityBytes: 16384 });
  const sizes = [10, 9000, 20, 100_000, 30, 8000, 7000, 0, 6000];
  for (let round = 0; round < 20; round++) {
    assert.equal(queue.pushMany(sizes.map((size) => String(round % 10).repeat(size))), sizes.length);
    assert.deepEqual([...queue].map((text) => text.length), sizes);
    const held = queue.lease();
    for (const size of sizes.slice(1)) assert.equal(queue.pop(), String(round % 10).repeat(size));
    held?.ack();
    assert.equal(queue.length, 0);
  }
  const files = fs.readdirSync(path).length;
  assert.ok(files <= 3, `${files} files are left: the control file and two segments are enough`);
});

test("a backlog of one stays within two segments", () => {
  const path = fresh();
  using queue = Queue.open<Uint8Array>(path, { codec: "bytes", capacityBytes: 65536 });
  const value = new Uint8Array(1000);
  queue.push(value);
  for (let i = 0; i < 2000; i++) {
    queue.push(value);
    queue.pop();
    if (i % 100 === 0) assert.ok(fs.readdirSync(path).length <= 3, fs.readdirSync(path).join());
  }
});

test("consumption frees the space of a large backlog", () => {
  const path = fresh();
  using queue = Queue.open<Uint8Array>(path, { codec: "bytes", capacityBytes: 65536 });
  const bytesOnDisk = (): number => fs.readdirSync(path).reduce((sum, name) => sum + fs.statSync(join(path, name)).size, 0);
  const before = bytesOnDisk();
  for (let i = 0; i < 1000; i++) queue.push(new Uint8Array(2000));
  assert.ok(bytesOnDisk() > before + 1_900_000);
  assert.equal(queue.popMany(1000).length, 1000);
  assert.ok(bytesOnDisk() <= before, `${bytesOnDisk()} bytes are left of ${before}`);
});

test("a full queue says so, and takes one more for one less", () => {
  for (const options of [{ capacityBytes: 10_000, fixedSize: true }, { capacityBytes: 5_000, maxCapacityBytes: 10_000 }]) {
    using queue = Queue.open<Uint8Array>(fresh(), { codec: "bytes", ...options });
    const value = new Uint8Array(100);
    let count = 0;
    while (queue.push(value)) count++;
    assert.ok(count >= 60 && count <= 100, String(count));
    assert.ok(queue.byteLength <= 10_000);
    assert.equal(queue.length, count);
    assert.equal(queue.pushMany([value, value]), 0);
    for (let i = 0; i < 500; i++) {
      assert.ok(queue.pop());
      assert.equal(queue.push(value), true);
      assert.equal(queue.push(value), false);
    }
    const lease = queue.lease();
    assert.equal(queue.push(value), false, "a leased record takes its room");
    lease?.ack();
    queue.pop();
    assert.equal(queue.pushMany([value, value, value]), 2, "as many as fit");
    assert.equal(queue.length, count);
    assert.throws(() => queue.push(new Uint8Array(10_000)), RangeError);
  }
});

test("what is in the queue is there after it was closed", () => {
  const path = fresh();
  {
    using queue = Queue.open(path);
    queue.pushMany([1, 2, 3]);
    queue.pop();
  }
  using queue = Queue.open(path);
  assert.deepEqual([...queue], [2, 3]);
  assert.equal(queue.length, 2);
});

test("mode r looks and changes nothing", () => {
  const path = fresh();
  using queue = Queue.open(path);
  queue.pushMany(["a", "b"]);
  using reader = Queue.open(path, { mode: "r" });
  assert.equal(reader.length, 2);
  assert.equal(reader.peek(), "a");
  assert.deepEqual([...reader], ["a", "b"]);
  for (const change of [() => reader.push("c"), () => reader.pop(), () => reader.lease(), () => reader.pushMany(["d"]), () => reader.popMany(1)]) {
    assert.throws(change, withCode("ERR_READ_ONLY"));
  }
  queue.pop();
  assert.equal(reader.peek(), "b");
  assert.throws(() => Queue.open(fresh(), { mode: "r" }), withCode("ENOENT"));
});

test("an iteration goes on while others push and pop", () => {
  const path = fresh();
  using queue = Queue.open<number>(path, { capacityBytes: 16384 });
  using other = Queue.open<number>(path);
  for (let i = 0; i < 1000; i++) queue.push(i);
  let last = -1;
  for (const value of queue) {
    assert.ok(value > last, "in order, none twice");
    last = value;
    if (value % 10 === 0) for (let i = 0; i < 7; i++) other.pop();
    if (value < 1000 && value % 50 === 0) other.push(1000 + value);
  }
  assert.ok(last >= 1000, "it reaches what was pushed meanwhile");
});

test("options: unknown, wrong and contradictory ones", () => {
  const path = fresh();
  assert.throws(() => Queue.open(path, { capacity: 1 } as never), { name: "TypeError", code: "ERR_INVALID_ARG_TYPE" });
  assert.throws(() => Queue.open(path, { codec: "xml" } as never), TypeError);
  assert.throws(() => Queue.open(path, { capacityBytes: 0 }), RangeError);
  assert.throws(() => Queue.open(path, { capacityBytes: 1.5 }), RangeError);
  assert.throws(() => Queue.open(path, { fixedSize: 1 } as never), TypeError);
  assert.throws(() => Queue.open(path, { mode: "w" } as never), RangeError);
  assert.throws(() => Queue.open(path, { capacityBytes: 10_000, maxCapacityBytes: 5_000 }), RangeError);
  assert.throws(() => Queue.open(path, { capacityBytes: 10_000, maxCapacityBytes: 20_000, fixedSize: true }), RangeError);
  assert.throws(() => Queue.open(42 as never), TypeError);
  assert.throws(() => Queue.open("a\0b"), RangeError);
  assert.equal(fs.existsSync(path), false);
  using queue = Queue.open(path);
  assert.throws(() => queue.popMany(0), RangeError);
  assert.throws(() => queue.popMany("2" as never), TypeError);
  assert.throws(() => queue.pushMany("ab" as never), TypeError);
  assert.throws(() => queue.tryPop(1 as never), TypeError);
  assert.throws(() => queue.lease({ leaseMs: -1 }), RangeError);
  assert.throws(() => queue.lease({ ms: 1 } as never), TypeError);
});

test("what is no queue is refused and left alone", () => {
  const empty = fresh();
  fs.mkdirSync(empty);
  assert.throws(() => Queue.open(empty), withCode("ERR_NOT_HOLDFAST"));
  assert.deepEqual(fs.readdirSync(empty), []);
  const foreign = fresh();
  fs.mkdirSync(foreign);
  fs.writeFileSync(join(foreign, "control"), "not ours");
  assert.throws(() => Queue.open(foreign), withCode("ERR_NOT_HOLDFAST"));
  assert.equal(fs.readFileSync(join(foreign, "control"), "utf8"), "not ours");
  const file = fresh();
  fs.writeFileSync(file, "a file");
  assert.throws(() => Queue.open(file), withCode("ERR_NOT_HOLDFAST"));
  assert.equal(fs.readFileSync(file, "utf8"), "a file");
  const counters = fresh();
  fs.mkdirSync(counters);
  Counters.open(join(counters, "control"), { count: 1 }).close();
  assert.throws(() => Queue.open(counters), withCode("ERR_KIND"));
});

test("damage is reported, not passed on", () => {
  const path = fresh();
  {
    using queue = Queue.open<string>(path, { codec: "text" });
    queue.pushMany(["first", "second", "third"]);
  }
  const segment = join(path, "segment-1");
  const bytes = fs.readFileSync(segment);
  const at = bytes.indexOf("second");
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
  fs.writeFileSync(segment, bytes);
  using queue = Queue.open<string>(path, { codec: "text" });
  assert.equal(queue.pop(), "first");
  assert.throws(() => queue.pop(), withCode("ERR_CORRUPT"));
  assert.throws(() => queue.pop(), withCode("ERR_CORRUPT"));
  assert.throws(() => [...queue], withCode("ERR_CORRUPT"));
  assert.equal(queue.length, 2);
  assert.equal(queue.push("fourth"), true);
});

test("a segment that is gone or cut short is reported", () => {
  const path = fresh();
  {
    using queue = Queue.open<string>(path, { codec: "text" });
    queue.push("first");
    fs.truncateSync(join(path, "segment-1"), 0);
    assert.throws(() => queue.pop(), withCode("ERR_FAULT"));
    assert.throws(() => queue.push("second"), withCode("ERR_FAULT"));
  }
  {
    using queue = Queue.open<string>(path, { codec: "text" });
    assert.throws(() => queue.pop(), withCode("ERR_NOT_HOLDFAST"));
  }
  fs.rmSync(join(path, "segment-1"));
  using queue = Queue.open<string>(path, { codec: "text" });
  assert.throws(() => queue.pop(), withCode("ERR_CORRUPT"));
  assert.throws(() => queue.push("x"), withCode("ERR_CORRUPT"));
});

test("a control file that is cut short while it is open", () => {
  const path = fresh();
  using queue = Queue.open<string>(path, { codec: "text" });
  queue.push("first");
  fs.truncateSync(join(path, "control"), 0);
  assert.throws(() => queue.pop(), withCode("ERR_FAULT"));
  assert.throws(() => queue.push("second"), withCode("ERR_FAULT"));
  assert.throws(() => queue.length, withCode("ERR_FAULT"));
  assert.throws(() => Queue.open(path), withCode("ERR_NOT_HOLDFAST"));
});

test("close is final and may be repeated", () => {
  const queue = Queue.open(fresh());
  const iterator = queue[Symbol.iterator]();
  queue.push(1);
  queue.push(2);
  iterator.next();
  queue.close();
  queue.close();
  assert.equal(queue.closed, true);
  const uses: (() => unknown)[] = [
    () => queue.push(1), () => queue.pushMany([1]), () => queue.pop(), () => queue.popMany(1), () => queue.peek(),
    () => queue.lease(), () => queue.tryPop(() => 1), () => queue.length, () => queue.isEmpty, () => queue.byteLength,
    () => [...queue], () => iterator.next(),
  ];
  for (const use of uses) assert.throws(use, withCode("ERR_CLOSED"), use.toString());
});

test("200 handles of one queue", () => {
  const path = fresh();
  const handles = Array.from({ length: 200 }, () => Queue.open<number>(path));
  handles.forEach((handle, i) => handle.push(i));
  handles.forEach((handle, i) => assert.equal(handle.pop(), i));
  for (const handle of handles) handle.close();
});

test("a Unicode path, a URL, and the permissions of the files", () => {
  const path = join(folder, "Schlange 队列 #%");
  using queue = Queue.open(path, { permissions: 0o640 });
  queue.push(1);
  const url = new URL("file:");
  url.pathname = path.split("/").map(encodeURIComponent).join("/");
  using same = Queue.open(url);
  assert.equal(same.pop(), 1);
  const umask = process.umask();
  assert.equal(fs.statSync(join(path, "control")).mode & 0o777, 0o640 & ~umask);
  assert.equal(fs.statSync(path).mode & 0o777, 0o750 & ~umask);
});
