/** Queue.verify: what it says of sound, busy and damaged queues, and of what is no queue. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { CONSUMER_CELLS, DURABLE_CELLS, LEASES, NEXT_SEGMENT, PRODUCER_CELLS, SLOTS, SPARES } from "../../lib/layout/queue.ts";
import { Counters, Queue, type QueueReport } from "../../mod.ts";
import { assertThrows, mapError, typeError } from "../support/errors.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();

/** Changes bytes of a file past the library. */
function patch(path: string, offset: number, change: (bytes: Uint8Array) => void, length = 8): void {
  const fd = fs.openSync(path, "r+");
  try {
    const bytes = new Uint8Array(length);
    fs.readSync(fd, bytes, 0, length, offset);
    change(bytes);
    fs.writeSync(fd, bytes, 0, length, offset);
  } finally {
    fs.closeSync(fd);
  }
}

const flip = (bytes: Uint8Array): void => {
  bytes[0] = (bytes[0] as number) ^ 1;
};

/** A queue of three and a half segments: 0 to 39 consumed, 40 leased, 41 acknowledged, up to 299. */
function fill(path: string): void {
  using queue = Queue.open<string>(path, { codec: "text", capacityBytes: 8192 });
  for (let i = 0; i < 300; i++) queue.push(`${i}${"x".repeat(i % 50)}`);
  queue.popMany(40);
  queue.lease();
  queue.lease()?.ack();
}

function bytesOf(path: string): Map<string, string> {
  return new Map(fs.readdirSync(path).map((name) => [name, fs.readFileSync(join(path, name), "base64")]));
}

const codesOf = (report: QueueReport): string[] => [...new Set(report.damage.map((damage) => damage.code))];

test("a sound queue: what is in it", () => {
  const path = files.next("queue");
  fill(path);
  const before = bytesOf(path);
  const report = Queue.verify(path);
  assert.deepEqual(bytesOf(path), before, "nothing was changed");
  assert.equal(report.ok, true, String(report));
  assert.equal(report.path, path);
  assert.equal(report.records, 259);
  assert.equal(report.leased, 1);
  assert.equal(report.firstSequence, 41);
  assert.equal(report.lastSequence, 300);
  assert.deepEqual(report.damage, []);
  assert.deepEqual(report.gaps, []);
  assert.equal(report.lost, 0);
  assert.match(report.id, /^[0-9a-f]{32}$/);
  assert.deepEqual(report.shape, { segmentBytes: 4096, maxBytes: 0, spares: 1 });
  assert.deepEqual(report.segments.map((segment) => segment.id), fs.readdirSync(path).flatMap((name) => (name === "control" ? [] : [Number(name.slice(8))])).sort((a, b) => a - b));
  using queue = Queue.open<string>(path, { codec: "text" });
  assert.equal(report.records, queue.length);
  assert.equal(report.bytes, queue.byteLength);
  assert.match(String(report), /sound\n/);
  const plain = JSON.parse(JSON.stringify(report)) as QueueReport;
  assert.equal(plain.records, 259);
  assert.equal(Queue.verify(pathToFileURL(path)).records, 259);
});

test("an empty queue, and one that was emptied", () => {
  const path = files.next("queue");
  using queue = Queue.open<string>(path, { capacityBytes: 8192 });
  for (const _ of [0, 1]) {
    const report = Queue.verify(path);
    assert.equal(report.ok, true, String(report));
    assert.equal(report.records, 0);
    assert.equal(report.firstSequence, undefined);
    for (let i = 0; i < 500; i++) queue.push("x");
    queue.popMany(500);
  }
  assert.deepEqual(Queue.verify(path).segments.map((segment) => segment.state).sort(), ["live", "spare"]);
});

test("what is no queue: the errors of open()", () => {
  const missing = files.next("missing");
  assertThrows(() => Queue.verify(missing), mapError("ENOENT"));
  assertThrows(() => Queue.verify(files.file("hello", "plain")), mapError("ERR_NOT_HOLDFAST", /a queue is a directory/));
  const empty = files.next("empty");
  fs.mkdirSync(empty);
  assertThrows(() => Queue.verify(empty), mapError("ERR_NOT_HOLDFAST", /an empty directory/));
  fs.writeFileSync(join(empty, "notes"), "hello");
  assertThrows(() => Queue.verify(empty), mapError("ERR_NOT_HOLDFAST", /something else/));
  fs.writeFileSync(join(empty, "control"), "hello");
  assertThrows(() => Queue.verify(empty), mapError("ERR_NOT_HOLDFAST"));
  fs.writeFileSync(join(empty, "control"), "");
  assertThrows(() => Queue.verify(empty), mapError("ERR_NOT_HOLDFAST"));
  fs.rmSync(join(empty, "control"));
  Counters.open(join(empty, "control"), { count: 1 }).close();
  assertThrows(() => Queue.verify(empty), mapError("ERR_KIND"));
  assertThrows(() => Queue.verify(7 as unknown as string), typeError());
});

test("a newer version is refused, not repaired", async () => {
  const path = files.next("queue");
  fill(path);
  const { crc32c } = await import("../support/reader.ts");
  patch(join(path, "control"), 0, (bytes) => {
    const view = new DataView(bytes.buffer);
    view.setUint32(8, 9, true);
    view.setUint32(124, crc32c(bytes.subarray(0, 124)), true);
  }, 128);
  assertThrows(() => Queue.verify(path), mapError("ERR_VERSION"));
  assertThrows(() => Queue.recover(path), mapError("ERR_VERSION"));
  assertThrows(() => Queue.open(path), mapError("ERR_VERSION"));
});

test("damaged records: which, where, and how many lie behind", () => {
  const path = files.next("queue");
  fill(path);
  patch(join(path, "segment-2"), 1000, (bytes) => bytes.fill(7), 100);
  const report = Queue.verify(path);
  assert.equal(report.ok, false);
  assert.deepEqual(codesOf(report), ["records"]);
  const [damage] = report.damage;
  assert.equal(damage?.segment, 2);
  assert.ok((damage?.offset as number) <= 1000 && (damage?.offset as number) + (damage?.bytes as number) >= 1100, String(report));
  assert.equal(damage?.position, 4096 + 4096 + (damage?.offset as number));
  assert.equal(report.gaps.length, 1);
  assert.equal(report.records + report.lost, 259);
  const gap = report.gaps[0] as { first: number; last: number };
  assert.equal(gap.last - gap.first + 1, report.lost);
  assert.equal(report.behindDamage, 300 - gap.last);
  assert.match(String(report), /DAMAGED/);
  assert.match(String(report), new RegExp(`lost +${report.lost} records: ${gap.first}-${gap.last}`));
});

test("each part of the control file", () => {
  const parts: [name: string, offset: number, code: string][] = [
    ["header", 30, "control"],
    ["producer version", PRODUCER_CELLS, "producer-cell"],
    ["consumer version", CONSUMER_CELLS + 7, "consumer-cell"],
    ["lease entry", LEASES + 32, "lease"],
    ["slot", SLOTS + 7, "control-word"],
    ["next segment", NEXT_SEGMENT, "control-word"],
    ["spare", SPARES + 7, "control-word"],
  ];
  for (const [name, offset, code] of parts) {
    const path = files.next("queue");
    fill(path);
    patch(join(path, "control"), offset, (bytes) => (bytes[0] = offset === NEXT_SEGMENT ? 1 : (bytes[0] as number) ^ 0x41), 1);
    const report = Queue.verify(path);
    assert.equal(report.ok, false, name);
    assert.ok(codesOf(report).includes(code as never), `${name}: ${report}`);
    assert.ok(report.records >= 258, `${name}: ${report}`);
  }
});

test("the cells of one side in the place of another's", () => {
  const sides = [PRODUCER_CELLS, CONSUMER_CELLS, DURABLE_CELLS];
  for (const from of sides) {
    for (const to of sides.filter((side) => side !== from)) {
      const path = files.next("queue");
      fill(path);
      const cells = new Uint8Array(fs.readFileSync(join(path, "control")).subarray(from, from + 384));
      patch(join(path, "control"), to, (bytes) => bytes.set(cells), 384);
      assert.ok(codesOf(Queue.verify(path)).some((code) => code.endsWith("-cell")), `${from} to ${to}`);
    }
  }
});

test("segments that are missing, cut short, of another queue, or in each other's place", () => {
  const change: [name: string, change: (path: string, other: string) => void, code: string][] = [
    ["missing", (path) => fs.rmSync(join(path, "segment-2")), "segment-missing"],
    ["cut short", (path) => fs.truncateSync(join(path, "segment-2"), 2000), "segment"],
    ["of another queue", (path, other) => fs.copyFileSync(join(other, "segment-2"), join(path, "segment-2")), "segment-missing"],
    ["swapped", (path) => {
      fs.renameSync(join(path, "segment-2"), join(path, "x"));
      fs.renameSync(join(path, "segment-3"), join(path, "segment-2"));
      fs.renameSync(join(path, "x"), join(path, "segment-3"));
    }, "segment"],
    ["base", (path) => patch(join(path, "segment-2"), 128, flip), "segment-words"],
    ["end", (path) => patch(join(path, "segment-2"), 137, flip), "segment-words"],
    ["next", (path) => patch(join(path, "segment-2"), 144, flip), "segment-words"],
    ["header", (path) => patch(join(path, "segment-2"), 60, flip), "segment"],
  ];
  const other = files.next("other");
  fill(other);
  for (const [name, apply, code] of change) {
    const path = files.next("queue");
    fill(path);
    apply(path, other);
    const report = Queue.verify(path);
    assert.equal(report.ok, false, name);
    assert.ok(codesOf(report).includes(code as never) || (name === "end" && report.lost > 0), `${name}: ${report}`);
    if (["swapped", "base", "next", "header", "end"].includes(name)) assert.equal(report.records, 259, `${name}: every record is found all the same: ${report}`);
    else assert.equal(report.records + report.lost, 259, `${name}: ${report}`);
  }
});

test("bytes that nobody uses are no damage", () => {
  const path = files.next("queue");
  fill(path);
  patch(join(path, "control"), 200, flip);
  patch(join(path, "control"), LEASES + 64 * 4000 + 16, flip);
  patch(join(path, "segment-1"), 180, flip);
  fs.writeFileSync(join(path, "README"), "whose is this?");
  const report = Queue.verify(path);
  assert.equal(report.ok, true, String(report));
  assert.deepEqual(report.foreign, ["README"]);
});

test("a record that is longer than what is read at once, and one that looks like another's", () => {
  const path = files.next("queue");
  using queue = Queue.open<Uint8Array>(path, { codec: "bytes", capacityBytes: 8192 });
  const large = new Uint8Array(3 << 20).map((_, i) => i * 7);
  queue.push(large);
  // A payload that has a whole record in it, as it lies in the file.
  queue.push(new Uint8Array(fs.readFileSync(join(path, "segment-1")).subarray(256, 400)));
  queue.push(new Uint8Array(0));
  assert.equal(Queue.verify(path).records, 3);
  const name = fs.readdirSync(path).find((file) => fs.statSync(join(path, file)).size > 3 << 20) as string;
  patch(join(path, name), 2 << 20, flip);
  const report = Queue.verify(path);
  assert.equal(report.records, 2, String(report));
  assert.equal(report.lost, 1);
  assert.equal(report.behindDamage, 2);
});

test("while others push, pop, lease and give segments up, nothing looks damaged", async () => {
  const path = files.next("queue");
  Queue.open<number>(path, { capacityBytes: 8192 }).close();
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const workers = [0, 1].map(() => new Worker(new URL("../support/queue_churn.ts", import.meta.url), { workerData: { path } }));
  const answer = (): Promise<unknown> => Promise.all(workers.map((worker) => new Promise((done, failed) => worker.once("message", done).once("error", failed))));
  const ready = answer();
  for (const worker of workers) worker.postMessage(stop);
  await ready;
  const ended = answer();
  let looks = 0;
  for (const end = performance.now() + 2000; performance.now() < end; looks++) {
    const report = Queue.verify(path);
    assert.equal(report.ok, true, String(report));
    assert.equal(report.lost, 0);
  }
  Atomics.store(stop, 0, 1);
  await ended;
  for (const worker of workers) await worker.terminate();
  assert.ok(looks > 5, `${looks} looks`);
  assert.equal(Queue.verify(path).ok, true);
});
