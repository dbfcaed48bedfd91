/** Queue.recover, and opening after a power loss: what is kept, what is said, what is left alone. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { BOOT, CONSUMER_CELLS, CONSUMER_LOCK, LEASE, LEASES, PRODUCER_CELLS, SLOTS, SPARES } from "../../lib/layout/queue.ts";
import { Queue, type QueueReport } from "../../mod.ts";
import { assertThrows, mapError } from "../support/errors.ts";
import { currentRuntime } from "../support/runtimes.ts";
import { assertHas, fill, open, patch, text, texts } from "../support/repaired.ts";
import { skipFor } from "../support/skip.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const child = children();

const open8192 = (path: string): Queue<string> => Queue.open<string>(path, { codec: "text", capacityBytes: 8192 });
const bytesOf = (path: string): Record<string, string> => Object.fromEntries(fs.readdirSync(path).sort().map((name) => [name, fs.readFileSync(join(path, name), "base64")]));
const highest = (path: string): number => Queue.verify(path).lastSequence as number;

test("a sound queue is left alone", () => {
  const path = files.next("queue");
  fill(path);
  const before = bytesOf(path);
  const report = Queue.recover(path);
  assert.equal(report.ok, true);
  assert.equal(report.quarantine, undefined);
  assert.deepEqual(bytesOf(path), before);
  assert.equal(fs.existsSync(`${path}.quarantine-1`), false);
});

test("a queue that is open is not touched, and the error says where it is open", async () => {
  const path = files.next("queue");
  fill(path);
  patch(join(path, "segment-2"), 1000, new Uint8Array(100));
  const queue = open(path);
  assertThrows(() => Queue.recover(path), mapError("ERR_BUSY", new RegExp(`process ${process.pid}`)));
  queue.close();
  const agent = child.agent(currentRuntime);
  await agent.send({ do: "open", as: "q", kind: "Queue", path });
  const before = bytesOf(path);
  assertThrows(() => Queue.recover(path), mapError("ERR_BUSY", new RegExp(`process ${agent.pid}`)));
  assert.deepEqual(bytesOf(path), before);
  await agent.kill();
  assert.equal(typeof Queue.recover(path).quarantine, "string");
});

test("records behind damage are kept, the files as they were too, and sequences go on", () => {
  const path = files.next("queue");
  const values = fill(path);
  fs.writeFileSync(join(path, "README"), "not the queue's");
  patch(join(path, "segment-2"), 1000, new Uint8Array(100));
  const before = bytesOf(path);
  const last = highest(path);
  const report = Queue.recover(path);
  assert.equal(report.ok, false);
  assert.equal(report.quarantine, `${path}.quarantine-1`);
  const { README, ...own } = before;
  assert.deepEqual(bytesOf(report.quarantine as string), own, "the files as they were");
  assert.equal(fs.readFileSync(join(path, "README"), "base64"), README, "what is not the queue's stays");
  assert.ok(report.lost > 0);
  const gap = report.gaps[0] as { first: number; last: number };
  const kept = values.filter((value) => Number.parseInt(value) + 1 < gap.first || Number.parseInt(value) + 1 > gap.last);
  assert.equal(kept.length, 259 - report.lost);
  assert.ok((Queue.verify(path).firstSequence as number) > last, "no sequence is used twice");
  assert.notEqual(Queue.verify(path).id, report.id);
  {
    using queue = open(path);
    const lease = queue.lease();
    assert.equal(lease?.value, text(40), "the leased one comes first");
    assert.equal(lease?.attempts, 3, "with its attempts");
  }
  assertHas(path, kept);
  assert.equal(Queue.verify(report.quarantine as string).lost, report.lost, "it can still be looked at");
});

test("a second recovery has a folder of its own", () => {
  const path = files.next("queue");
  fill(path);
  patch(join(path, "segment-2"), 1000, new Uint8Array(100));
  Queue.recover(path);
  const [name] = fs.readdirSync(path).filter((entry) => entry.startsWith("segment-"));
  patch(join(path, name as string), 300, new Uint8Array(10));
  assert.equal(Queue.recover(path).quarantine, `${path}.quarantine-2`);
});

test("damage of the control file: no record is lost", () => {
  const all = texts(0, 300);
  const cases: [name: string, damage: (control: string) => void, expected: (values: readonly string[]) => readonly string[]][] = [
    ["producer cell", (control) => patch(control, PRODUCER_CELLS, new Uint8Array(384)), (values) => values],
    ["producer version", (control) => patch(control, PRODUCER_CELLS + 6, new Uint8Array(2)), (values) => values],
    // Consumed records come again as far as their segments are there.
    ["consumer cell", (control) => patch(control, CONSUMER_CELLS, new Uint8Array(384)), () => all],
    // The older of the two cells is known to be one that was valid: the lease of 41 was not acknowledged then.
    ["consumer version", (control) => patch(control, CONSUMER_CELLS + 6, new Uint8Array(2)), (values) => values],
    // The one entry that is missing is told by the sum in the cell.
    ["lease table", (control) => patch(control, LEASES, new Uint8Array(128)), (values) => values],
    ["header", (control) => patch(control, 0, new Uint8Array(128)), (values) => values],
    ["all of it", (control) => fs.rmSync(control), () => all],
    ["empty", (control) => fs.truncateSync(control, 0), () => all],
  ];
  for (const [name, damage, expected] of cases) {
    const path = files.next("queue");
    const values = fill(path);
    const control = join(path, "control");
    damage(control);
    const report = Queue.recover(path);
    assert.equal(report.ok, false, name);
    assert.equal(report.lost, 0, `${name}: ${report}`);
    assertHas(path, expected(values), `${name}: ${report}`);
  }
});

test("damage of segments: all that is whole is kept", () => {
  const cases: [name: string, damage: (path: string) => void][] = [
    ["base", (path) => patch(join(path, "segment-2"), 128, new Uint8Array(8))],
    ["end", (path) => patch(join(path, "segment-2"), 136, new Uint8Array(8))],
    ["next", (path) => patch(join(path, "segment-2"), 144, new Uint8Array(8))],
    ["all three", (path) => patch(join(path, "segment-2"), 128, new Uint8Array(24))],
    ["header", (path) => patch(join(path, "segment-2"), 0, new Uint8Array(128))],
    ["swapped", (path) => {
      fs.renameSync(join(path, "segment-2"), join(path, "x"));
      fs.renameSync(join(path, "segment-4"), join(path, "segment-2"));
      fs.renameSync(join(path, "x"), join(path, "segment-4"));
    }],
  ];
  for (const [name, damage] of cases) {
    const path = files.next("queue");
    const values = fill(path);
    damage(path);
    const report = Queue.recover(path);
    assert.equal(report.ok, false, name);
    assertHas(path, values, `${name}: ${report}`);
  }
});

test("limits, access bits and large records stay", () => {
  const path = files.next("queue");
  const large = new Uint8Array(2 << 20).map((_, i) => i);
  {
    using queue = Queue.open<Uint8Array>(path, { codec: "bytes", capacityBytes: 8192, maxCapacityBytes: 3 << 20, permissions: 0o640 });
    queue.push(new Uint8Array(10));
    queue.push(large);
    queue.push(new Uint8Array(20));
  }
  patch(join(path, "segment-1"), 270, new Uint8Array([1]));
  const report = Queue.recover(path);
  assert.equal(report.lost, 1);
  assert.equal(fs.statSync(join(path, "control")).mode & 0o777, 0o640);
  using queue = Queue.open<Uint8Array>(path, { codec: "bytes" });
  assert.deepEqual(Queue.verify(path).shape, { segmentBytes: 4096, maxBytes: 3 << 20, spares: 1 });
  assert.equal(queue.push(new Uint8Array(1 << 20)), false, "full");
  assert.equal(Buffer.compare(queue.pop() as Uint8Array, large), 0);
  assert.equal(queue.pop()?.byteLength, 20);
});

test("more leases than the table has room for, when it is damaged", () => {
  const path = files.next("queue");
  {
    using queue = Queue.open<number>(path, { capacityBytes: 4 << 20 });
    queue.pushMany(Array.from({ length: 6000 }, (_, i) => i));
    queue.lease();
    queue.lease();
    queue.popMany(5500);
  }
  patch(join(path, "control"), LEASES, new Uint8Array(128));
  const report = Queue.recover(path);
  using queue = Queue.open<number>(path);
  assert.equal(report.records, 6000, "duplicates rather than loss");
  assert.deepEqual([...queue], Array.from({ length: 6000 }, (_, i) => i));
  assert.equal(queue.popMany(7000).length, 6000);
});

test("one lease that the table lacks is told by the sum in the cell; of two, all that may be leased come again", () => {
  for (const [lost, expected] of [[[1], [0, 1, 2]], [[0, 1], [0, 1, 2, 3, 4, 5, 6, 7]], [[0, 1, 2], [0, 1, 2, 3, 4, 5, 6, 7]]] as const) {
    const path = files.next("queue");
    {
      using queue = Queue.open<number>(path);
      queue.pushMany(Array.from({ length: 12 }, (_, i) => i));
      for (let i = 0; i < 3; i++) queue.lease();
      queue.popMany(5);
    }
    for (const index of lost) patch(join(path, "control"), LEASES + 64 * index, new Uint8Array(8));
    const report = Queue.recover(path);
    assert.equal(report.ok, false);
    assert.match(`${report}`, lost.length === 1 ? /lacks record 2, which is leased/ : /does not say which/);
    using queue = Queue.open<number>(path);
    assert.deepEqual([...queue], [...expected, 8, 9, 10, 11]);
  }
});

const owned = "root repairs for another: the new files are the owner's";
const isRoot = process.getuid?.() === 0;
test(owned, skipFor(owned, isRoot ? undefined : "only root may give files away"), () => {
  const path = files.next("queue");
  fill(path);
  for (const name of fs.readdirSync(path)) fs.chownSync(join(path, name), 12345, 23456);
  fs.chownSync(path, 12345, 23456);
  patch(join(path, "segment-3"), 0, new Uint8Array(4096));
  const { quarantine } = Queue.recover(path);
  const made = [path, quarantine as string, ...fs.readdirSync(path).map((name) => join(path, name))];
  assert.ok(made.length > 4);
  for (const name of made) assert.deepEqual([fs.statSync(name).uid, fs.statSync(name).gid], [12345, 23456], name);
});

// After a power loss.

const zeros = new Uint8Array(24);
/** As if the machine had been started again since. */
function rebootBytes(control: Uint8Array): void {
  control[BOOT] = (control[BOOT] as number) ^ 0xff;
}
function reboot(path: string): void {
  const control = new Uint8Array(fs.readFileSync(join(path, "control")));
  rebootBytes(control);
  fs.writeFileSync(join(path, "control"), control);
}
const linux = process.platform === "linux";
const bootName = (name: string): [string, { skip: string | false }] => [name, skipFor(name, linux ? undefined : "only Linux says which boot it is")];

test(...bootName("another boot, all sound: nothing but the boot id changes"), () => {
  for (const field of [zeros, undefined]) {
    const path = files.next("queue");
    const values = fill(path);
    const before = fs.readFileSync(join(path, "control")).subarray(BOOT, BOOT + 24).toString("hex");
    if (field === undefined) reboot(path);
    else patch(join(path, "control"), BOOT, field);
    {
      using queue = open(path);
      assert.equal(queue.recovered, undefined);
      assert.deepEqual([...queue], values);
    }
    assert.equal(fs.readFileSync(join(path, "control")).subarray(BOOT, BOOT + 24).toString("hex"), before);
    assert.equal(fs.existsSync(`${path}.quarantine-1`), false);
    assertHas(path, values);
  }
});

test(...bootName("mode \"r\" looks at a queue of another boot as it is"), () => {
  const path = files.next("queue");
  const values = fill(path);
  reboot(path);
  const before = bytesOf(path);
  using queue = Queue.open<string>(path, { codec: "text", mode: "r" });
  assert.deepEqual([...queue], values);
  assert.deepEqual(bytesOf(path), before);
});

test(...bootName("another boot, pages lost: what is whole is kept, and the queue says what was found"), () => {
  const path = files.next("queue");
  fill(path);
  patch(join(path, "segment-3"), 0, new Uint8Array(4096));
  reboot(path);
  let report: QueueReport | undefined;
  {
    using queue = open(path);
    report = queue.recovered;
    assert.equal(report?.ok, false);
    assert.equal(queue.length, 259 - (report?.lost as number));
    assert.ok(fs.existsSync(report?.quarantine as string));
  }
  using again = open(path);
  assert.equal(again.recovered, undefined, "once");
});

test(...bootName("the control file is older than the segments: records behind the tail are kept"), () => {
  const path = files.next("queue");
  {
    using queue = Queue.open<string>(path, { codec: "text", capacityBytes: 8192 });
    queue.pushMany(texts(0, 20));
  }
  const control = new Uint8Array(fs.readFileSync(join(path, "control")));
  {
    using queue = open(path);
    for (const value of texts(20, 200)) queue.push(value);
  }
  rebootBytes(control);
  fs.writeFileSync(join(path, "control"), control);
  using queue = open(path);
  assert.equal(queue.recovered?.behindTail, 180, String(queue.recovered));
  assert.deepEqual([...queue], texts(0, 200));
});

test(...bootName("two segments at one place, since a producer died between them: the one with the records counts"), () => {
  for (const leads of [true, false]) {
    const path = files.next("queue");
    const control = join(path, "control");
    const values = ["a", "b", "c", "d"].map((name) => name.repeat(1500));
    const base = new Uint8Array(8);
    {
      using queue = open8192(path);
      queue.pushMany(values.slice(0, 2));
    }
    // It had taken the spare, and given it its place.
    new DataView(base.buffer).setBigUint64(0, fs.readFileSync(join(path, "segment-1")).readBigUInt64LE(128) + 4096n, true);
    patch(join(path, "segment-2"), 128, base);
    patch(control, SPARES, new Uint8Array(8));
    const before = new Uint8Array(fs.readFileSync(control));
    {
      using queue = open8192(path);
      queue.pushMany(values.slice(2));
    }
    assert.deepEqual(fs.readdirSync(path).sort(), ["control", "segment-1", "segment-2", "segment-3"]);
    // The other way round: by the files' names nothing is told.
    if (!leads) patch(join(path, "segment-1"), 144, new Uint8Array(8));
    rebootBytes(before);
    fs.writeFileSync(control, before);
    {
      using queue = open8192(path);
      assert.equal(queue.recovered?.lost, 0, `${queue.recovered}`);
      assert.deepEqual([...queue], values);
    }
  }
});

test(...bootName("a segment that was used again since the cells were written: its new records count"), () => {
  const path = files.next("queue");
  const control = join(path, "control");
  const [a, b, c, d, e] = ["a", "b", "c", "d", "e"].map((name) => name.repeat(1500)) as [string, string, string, string, string];
  {
    using queue = open8192(path);
    queue.pushMany([a, b, c]);
  }
  const before = new Uint8Array(fs.readFileSync(control));
  {
    using queue = open8192(path);
    assert.equal(queue.popMany(3).length, 3);
    queue.pushMany([d, e]);
  }
  assert.equal(fs.existsSync(join(path, "segment-3")), false, "the last one is in segment 1");
  rebootBytes(before);
  fs.writeFileSync(control, before);
  using queue = open8192(path);
  assert.deepEqual([...queue], [c, d, e]);
  // Consumed, but nothing on storage says so.
  assert.deepEqual(queue.recovered?.gaps, [{ first: 1, last: 2 }]);
});

test(...bootName("the same with a hole behind the tail"), () => {
  const path = files.next("queue");
  {
    using queue = Queue.open<string>(path, { codec: "text", capacityBytes: 65536 });
    queue.pushMany(texts(0, 20));
  }
  const control = new Uint8Array(fs.readFileSync(join(path, "control")));
  {
    using queue = open(path);
    for (const value of texts(20, 400)) queue.push(value);
  }
  patch(join(path, "segment-1"), 8192, new Uint8Array(4096));
  rebootBytes(control);
  fs.writeFileSync(join(path, "control"), control);
  using queue = open(path);
  const report = queue.recovered as QueueReport;
  assert.ok(report.lost > 20 && report.behindDamage > 100, String(report));
  const gap = report.gaps[0] as { first: number; last: number };
  assert.deepEqual([...queue], texts(0, 400).filter((_, i) => i + 1 < gap.first || i + 1 > gap.last));
});

test(...bootName("the control file is newer than the segments: what is missing is said"), () => {
  const path = files.next("queue");
  {
    using queue = Queue.open<string>(path, { codec: "text", capacityBytes: 8192 });
    queue.pushMany(texts(0, 20));
  }
  const segments = Object.entries(bytesOf(path)).filter(([name]) => name !== "control");
  {
    using queue = open(path);
    for (const value of texts(20, 200)) queue.push(value);
    queue.popMany(5);
  }
  const last = highest(path);
  for (const [name, bytes] of segments) fs.writeFileSync(join(path, name), Buffer.from(bytes, "base64"));
  reboot(path);
  {
    using queue = open(path);
    const report = queue.recovered as QueueReport;
    assert.equal(report.records, queue.length);
    assert.equal(report.records + report.lost, 195, String(report));
    const found = [...queue];
    assert.deepEqual(found.slice(0, 15), texts(5, 20));
    queue.push("new");
  }
  assert.ok(highest(path) > last);
});

test(...bootName("locks and leases of another boot are nobody's, even of a slot with the same generation"), () => {
  const path = files.next("queue");
  const values = fill(path);
  const control = join(path, "control");
  reboot(path);
  // Slot 0 did not get to storage after its first use; the next holder has generation 1 again.
  const owner = new DataView(new ArrayBuffer(8));
  owner.setBigUint64(0, 1024n, true);
  patch(control, SLOTS, new Uint8Array(64));
  patch(control, LEASES + 8 * LEASE.owner, new Uint8Array(owner.buffer));
  patch(control, CONSUMER_LOCK, new Uint8Array(owner.buffer));
  using queue = open(path);
  const popped: string[] = [];
  for (let value = queue.pop(); value !== undefined; value = queue.pop()) popped.push(value);
  assert.deepEqual(popped, values);
});

test(...bootName("many open it at once after a power loss: one recovers it, the others wait"), async () => {
  const path = files.next("queue");
  fill(path);
  patch(join(path, "segment-2"), 1000, new Uint8Array(100));
  const { lost } = Queue.verify(path);
  reboot(path);
  const agents = [1, 2, 3].map(() => child.agent(currentRuntime));
  await Promise.all(agents.map((agent) => agent.send({ do: "static", class: "Counters", method: "name" }).catch(() => 0)));
  await Promise.all(agents.map((agent) => agent.send({ do: "open", as: "q", kind: "Queue", path, options: { codec: "text" } })));
  const found = await Promise.all(agents.map((agent) => agent.send({ do: "get", on: "q", property: "recovered" })));
  assert.equal(found.filter((report) => report !== null && report !== undefined).length, 1);
  for (const agent of agents) assert.equal(await agent.send({ do: "get", on: "q", property: "length" }), 259 - lost);
  assert.equal(fs.existsSync(`${path}.quarantine-2`), false);
  await Promise.all(agents.map((agent) => agent.end()));
});

test(...bootName("a boot id that is damaged while others have the queue open is only stored again"), () => {
  const path = files.next("queue");
  fill(path);
  using first = open(path);
  patch(join(path, "control"), BOOT, zeros);
  using second = open(path);
  assert.equal(second.recovered, undefined);
  second.push("x");
  assert.equal(first.length, 260);
});
