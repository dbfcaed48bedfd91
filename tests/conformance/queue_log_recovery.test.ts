/** A log that is damaged, or comes back from a power loss: what is kept, where its groups go on, what verify says of them. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { BOOT, CONSUMER, CONSUMER_CELLS, CONSUMER_LOCK, GROUP_BYTES, GROUP_LEASES, groupFileName, groupOfFile, LEASE, LEASE_BYTES, PRODUCER_CELLS, SEGMENT_TIME, SLOTS } from "../../lib/layout/queue.ts";
import { Queue, type QueueReport } from "../../mod.ts";
import { assertThrows, mapError } from "../support/errors.ts";
import { skipFor } from "../support/skip.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const text = (i: number): string => `${i}${"x".repeat(i % 50)}`;
const texts = (from: number, to: number): string[] => Array.from({ length: to - from }, (_, i) => text(from + i));
const open = (path: string, group: string): Queue<string> => Queue.open<string>(path, { codec: "text", group });
const numberOf = (value: string): number => Number.parseInt(value);
const bytesOf = (path: string): Record<string, string> => Object.fromEntries(fs.readdirSync(path).sort().map((name) => [name, fs.readFileSync(join(path, name), "base64")]));
const codesOf = (report: QueueReport): string[] => [...new Set(report.damage.map(({ code }) => code))].sort();

function patch(path: string, offset: number, bytes: Uint8Array): void {
  const fd = fs.openSync(path, "r+");
  fs.writeSync(fd, bytes, 0, bytes.byteLength, offset);
  fs.closeSync(fd);
}

function flip(path: string, offset: number): void {
  const fd = fs.openSync(path, "r+");
  const byte = new Uint8Array(1);
  fs.readSync(fd, byte, 0, 1, offset);
  byte[0] = (byte[0] as number) ^ 0x41;
  fs.writeSync(fd, byte, 0, 1, offset);
  fs.closeSync(fd);
}

const word = (value: number): Uint8Array => {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, BigInt(value), true);
  return new Uint8Array(view.buffer);
};

interface Left {
  readonly [group: string]: readonly string[];
}

/**
 * A log of 300 records in more than three segments. Group "a" has had 0 to 39 and 41, and has 40 leased for the second time; "b" has 0 and 1 leased and
 * nothing acknowledged; "c" has had all. Returns what each has yet to remove.
 */
function fill(path: string, options: { retainBytes?: number; retainMs?: number } = {}): Left {
  using a = Queue.open<string>(path, { codec: "text", capacityBytes: 8192, group: "a", ...options });
  using b = open(path, "b");
  using c = open(path, "c");
  for (const value of texts(0, 300)) a.push(value);
  a.popMany(40);
  a.lease()?.release();
  a.lease();
  a.lease()?.ack();
  b.lease();
  b.lease();
  c.popMany(300);
  return { a: [text(40), ...texts(42, 300)], b: texts(0, 300), c: [] };
}

/** Asserts that each group gets these and nothing else, that the log works, and is sound. */
function assertHas(path: string, left: Left, what = ""): void {
  const report = Queue.verify(path);
  assert.equal(report.ok, true, `${what}\n${report}`);
  assert.deepEqual(report.foreign, [], what);
  assert.deepEqual(report.groups.map(({ name, length }) => [name, length]), Object.entries(left).map(([name, values]) => [name, values.length]), `${what}\n${report}`);
  using log = Queue.open<string>(path, { codec: "text", groups: true });
  assert.equal(log.recovered, undefined, what);
  assert.deepEqual(log.groups().map(({ name, length }) => [name, length]), Object.entries(left).map(([name, values]) => [name, values.length]), what);
  for (const [name, values] of Object.entries(left)) {
    using group = open(path, name);
    assert.deepEqual([...group].sort((x, y) => numberOf(x) - numberOf(y)), values, `${what}, group ${name}`);
    assert.deepEqual(group.popMany(1000), values, `${what}, group ${name}`);
    assert.deepEqual([group.length, group.byteLength], [0, 0], what);
  }
  if (Object.keys(left).length === 0) return;
  log.pushMany(texts(1000, 1400));
  for (const name of Object.keys(left)) {
    using group = open(path, name);
    assert.deepEqual(group.popMany(1000), texts(1000, 1400), `${what}, group ${name}`);
  }
  assert.equal(log.length <= 400, true, "what no group needs is given up");
  assert.equal(Queue.verify(path).ok, true, what);
}

const withoutGap = (values: readonly string[], { gaps }: QueueReport): string[] =>
  values.filter((value) => !gaps.some(({ first, last }) => numberOf(value) + 1 >= first && numberOf(value) + 1 <= last));
const mapped = (left: Left, change: (values: readonly string[]) => readonly string[]): Left => Object.fromEntries(Object.entries(left).map(([name, values]) => [name, change(values)]));

test("verify says what it is, and what each group has yet to remove", () => {
  const path = files.next("log");
  fill(path, { retainBytes: 1e6 });
  const before = bytesOf(path);
  const report = Queue.verify(path);
  assert.deepEqual(bytesOf(path), before, "nothing was changed");
  assert.equal(report.ok, true, String(report));
  assert.deepEqual([report.log, report.records, report.leased, report.lost], [true, 300, 0, 0]);
  assert.deepEqual(report.shape, { segmentBytes: 4096, maxBytes: 0, spares: 1, retainBytes: 1e6, retainMs: 0 });
  const groups = [
    { name: "a", ok: true, length: 259, leased: 1, missed: 0 },
    { name: "b", ok: true, length: 300, leased: 2, missed: 0 },
    { name: "c", ok: true, length: 0, leased: 0, missed: 0 },
  ];
  assert.deepEqual(report.groups, groups);
  assert.deepEqual((JSON.parse(JSON.stringify(report)) as QueueReport).groups, groups);
  assert.match(String(report), /group +"a": 259 records to remove, 1 leased, 0 missed\n/);
  assert.deepEqual(report.foreign, []);
  using log = Queue.open(path, { groups: true });
  assert.deepEqual(log.groups(), groups.map(({ ok, ...group }) => group));
  fs.writeFileSync(join(path, "group-zz"), "");
  fs.writeFileSync(join(path, `${groupFileName("a")}.7`), "");
  assert.deepEqual(Queue.verify(path).foreign.toSorted(), ["group-61.7", "group-zz"]);
  const queue = files.next("queue");
  Queue.open(queue).close();
  assert.deepEqual([Queue.verify(queue).log, Queue.verify(queue).groups], [false, []]);
  const none = files.next("log");
  Queue.open(none, { groups: true }).close();
  assert.match(String(Queue.verify(none)), /groups +none/);
});

test("verify tells of groups that the log's limits overtook what they missed", () => {
  const path = files.next("log");
  using a = Queue.open<string>(path, { codec: "text", capacityBytes: 8192, group: "a", retainBytes: 6000 });
  a.push("first");
  const lease = a.lease();
  for (const value of texts(0, 300)) a.push(value);
  const [listed] = a.groups();
  const report = Queue.verify(path);
  assert.equal(report.ok, true, String(report));
  assert.deepEqual(report.groups, [{ ...listed, ok: true }]);
  assert.ok((listed?.missed as number) > 100);
  assertThrows(() => lease?.ack(), mapError("ERR_STALE_LEASE"));
  a.pop();
  assert.equal(Queue.verify(path).ok, true);
});

/** One way to damage the file of group "a": what verify says, and what the group has afterwards if it is not all. */
const groupDamage: [name: string, code: string, damage: (file: string, path: string) => void, left?: () => readonly string[]][] = [
  ["empty", "group", (file) => fs.truncateSync(file), () => texts(0, 300)],
  ["zeros", "group", (file) => patch(file, 0, new Uint8Array(GROUP_BYTES)), () => texts(0, 300)],
  ["a directory", "group", (file) => (fs.rmSync(file), fs.mkdirSync(file)), () => texts(0, 300)],
  ["another program's", "group", (file) => fs.writeFileSync(file, "hello"), () => texts(0, 300)],
  ["another group's", "group", (file, path) => fs.copyFileSync(join(path, groupFileName("c")), file), () => texts(0, 300)],
  ["the control file", "group", (file, path) => fs.copyFileSync(join(path, "control"), file), () => texts(0, 300)],
  ["of another log", "group", (file) => {
    const other = files.next("other");
    fill(other);
    fs.copyFileSync(join(other, groupFileName("a")), file);
  }, () => texts(0, 300)],
  ["cells of another group", "consumer-cell", (file, path) => patch(file, CONSUMER_CELLS, fs.readFileSync(join(path, groupFileName("c"))).subarray(CONSUMER_CELLS, CONSUMER_CELLS + 384)), () => texts(0, 300)],
  ["cells", "consumer-cell", (file) => patch(file, CONSUMER_CELLS, new Uint8Array(384)), () => texts(0, 300)],
  // The commit before is known, but not which leases went with it.
  ["the current cell, and the lock", "consumer-cell", (file) => {
    patch(file, CONSUMER_LOCK, word(1024 * 5));
    flip(file, CONSUMER_CELLS + 128 + 128 * (Number(fs.readFileSync(file).readBigUInt64LE(CONSUMER_CELLS) & 1n)));
  }, () => texts(0, 300)],
  // The cells have a checksum of their own.
  ["header", "group", (file) => flip(file, 40)],
  ["longer", "group", (file) => fs.appendFileSync(file, "more")],
  // From the oldest segment that it needed.
  ["cut short", "group", (file) => fs.truncateSync(file, GROUP_LEASES), () => texts(0, 300)],
  ["a lease entry", "lease", (file) => flip(file, GROUP_LEASES + 8 * LEASE.position), () => texts(0, 300)],
  ["an entry too many", "lease", (file) => patch(file, GROUP_LEASES + LEASE_BYTES, fs.readFileSync(file).subarray(GROUP_LEASES, GROUP_LEASES + LEASE_BYTES)), () => texts(0, 300)],
  ["an owner that never was", "lease", (file) => patch(file, GROUP_LEASES + 8 * LEASE.owner, word(77 * 1024))],
  ["the lock word", "control-word", (file) => patch(file, CONSUMER_LOCK, new Uint8Array(8).fill(255))],
];

test("each part of a group's file: verify tells, recover has the group go on, and the others as they were", () => {
  for (const [name, code, damage, expected] of groupDamage) {
    const path = files.next("log");
    const left = fill(path);
    if (name === "an entry too many") {
      // One that counts: the table has to end behind it.
      using a = open(path, "a");
      a.lease();
      a.lease();
    }
    damage(join(path, groupFileName("a")), path);
    const before = name === "a directory" ? undefined : bytesOf(path);
    const found = Queue.verify(path);
    assert.equal(found.ok, false, name);
    assert.ok(codesOf(found).includes(code), `${name}: ${found}`);
    assert.ok(found.damage.every(({ file }) => file === groupFileName("a")), `${name}: ${found}`);
    assert.deepEqual(found.groups.map(({ ok }) => ok), [false, true, true], name);
    assert.match(String(found), /group +"a".*DAMAGED/, name);
    assert.deepEqual([found.records, found.lost], [300, 0], name);
    if (before !== undefined) assert.deepEqual(bytesOf(path), before, "nothing was changed");
    const report = Queue.recover(path);
    if (before !== undefined) assert.deepEqual(bytesOf(report.quarantine as string), before, "the files as they were");
    assert.match(report.notes.join(), /group "a" goes on with/, name);
    if (name === "a directory") fs.rmdirSync(join(path, groupFileName("a")));
    assertHas(path, { ...left, a: expected?.() ?? (left.a as string[]) }, name);
  }
});

test("records behind damage are kept; cursors, leases, attempts and limits too; sequences go on", () => {
  const path = files.next("log");
  const left = fill(path, { retainBytes: 1e6, retainMs: 1e9 });
  fs.writeFileSync(join(path, "README"), "not the log's");
  patch(join(path, "segment-2"), 1000, new Uint8Array(100));
  const { README, ...own } = bytesOf(path);
  const last = Queue.verify(path).lastSequence as number;
  const report = Queue.recover(path);
  assert.deepEqual([report.ok, report.quarantine], [false, `${path}.quarantine-1`]);
  assert.deepEqual(bytesOf(report.quarantine as string), own, "the files as they were");
  assert.equal(fs.readFileSync(join(path, "README"), "base64"), README);
  fs.rmSync(join(path, "README"));
  assert.ok(report.lost > 0 && report.behindDamage > 100 && report.gaps.length === 1, String(report));
  const after = Queue.verify(path);
  assert.ok((after.firstSequence as number) > last, "no sequence is used twice");
  assert.notEqual(after.id, report.id);
  assert.deepEqual(after.shape, report.shape);
  assert.deepEqual(after.groups, [
    { name: "a", ok: true, length: 259 - report.lost, leased: 1, missed: 0 },
    { name: "b", ok: true, length: 300 - report.lost, leased: 2, missed: 0 },
    { name: "c", ok: true, length: 0, leased: 0, missed: 0 },
  ]);
  assert.deepEqual(fs.readdirSync(path).filter((name) => name.startsWith("group-")).sort(), ["a", "b", "c"].map((name) => groupFileName(name, 1)));
  {
    using a = open(path, "a");
    using b = open(path, "b");
    const leases = [a.lease(), b.lease(), b.lease()];
    assert.deepEqual(leases.map((lease) => [lease?.value, lease?.attempts]), [[text(40), 3], [text(0), 2], [text(1), 2]]);
  }
  // With limits all that is kept stays, and comes with its age.
  const kept = mapped(left, (values) => withoutGap(values, report));
  for (const [name, values] of Object.entries(kept)) {
    using group = open(path, name);
    assert.deepEqual(group.popMany(1000), values);
  }
  using log = Queue.open<string>(path, { codec: "text", groups: true });
  assert.equal(log.length, 300 - report.lost);
  assert.equal(Queue.verify(report.quarantine as string).lost, report.lost, "it can still be looked at");
});

test("a group that has part of a hole behind it, and one whose leases are in it", () => {
  const path = files.next("log");
  {
    using a = Queue.open<string>(path, { codec: "text", capacityBytes: 8192, group: "a" });
    using b = open(path, "b");
    using c = open(path, "c");
    for (const value of texts(0, 300)) a.push(value);
    // The hole will be from some 66 to 82.
    a.popMany(75);
    b.popMany(60);
    for (let i = 0; i < 30; i++) b.lease();
    c.popMany(200);
  }
  patch(join(path, "segment-2"), 256, new Uint8Array(1000));
  const report = Queue.recover(path);
  const gap = report.gaps[0] as { first: number; last: number };
  assert.ok(gap.first > 62 && gap.first < 74 && gap.last > 77 && gap.last < 88, String(report));
  assert.equal(report.damage.every(({ file }) => file === "segment-2"), true, String(report));
  const kept = (from: number): string[] => withoutGap(texts(from, 300), report);
  assertHas(path, { a: kept(75), b: kept(60), c: kept(200) });
});

test("damage of the control file, of segments and of their words: no record is lost, each group goes on", () => {
  const control = (path: string): string => join(path, "control");
  const cases: [name: string, damage: (path: string) => void, code: string, expected?: Left][] = [
    ["producer cell", (path) => patch(control(path), PRODUCER_CELLS, new Uint8Array(384)), "producer-cell"],
    ["producer version", (path) => flip(control(path), PRODUCER_CELLS + 6), "producer-cell"],
    ["retention cell", (path) => patch(control(path), CONSUMER_CELLS, new Uint8Array(384)), "consumer-cell"],
    ["retention version", (path) => flip(control(path), CONSUMER_CELLS + 6), "consumer-cell"],
    ["header", (path) => patch(control(path), 0, new Uint8Array(128)), "control"],
    ["all of it", (path) => fs.rmSync(control(path)), "control"],
    ["empty", (path) => fs.truncateSync(control(path), 0), "control"],
    ["base", (path) => patch(join(path, "segment-2"), 128, new Uint8Array(8)), "segment-words"],
    ["end", (path) => patch(join(path, "segment-2"), 136, new Uint8Array(8)), "segment-words"],
    ["next", (path) => patch(join(path, "segment-2"), 144, new Uint8Array(8)), "segment-words"],
    ["time", (path) => flip(join(path, "segment-2"), SEGMENT_TIME), "segment-words"],
    ["segment header", (path) => patch(join(path, "segment-2"), 0, new Uint8Array(128)), "segment"],
    ["no groups' files", (path) => {
      for (const name of fs.readdirSync(path)) if (name.startsWith("group-")) fs.rmSync(join(path, name));
      fs.rmSync(control(path));
    }, "control", {}],
  ];
  for (const [name, damage, code, expected] of cases) {
    const path = files.next("log");
    const left = fill(path);
    damage(path);
    assert.ok(codesOf(Queue.verify(path)).includes(code), `${name}: ${Queue.verify(path)}`);
    const report = Queue.recover(path);
    assert.deepEqual([report.ok, report.log, report.lost, report.records], [false, true, 0, 300], `${name}: ${report}`);
    assertHas(path, expected ?? left, name);
  }
});

test("what the limits and the wall clock say of a segment outlives a recovery", () => {
  const path = files.next("log");
  {
    using a = Queue.open<string>(path, { codec: "text", capacityBytes: 8192, group: "a", retainMs: 60_000 });
    for (const value of texts(0, 300)) a.push(value);
  }
  patch(join(path, "segment-1"), 300, new Uint8Array(16));
  const real = Date.now;
  try {
    const now = real();
    Date.now = () => now + 50_000;
    Queue.recover(path);
    using log = Queue.open<string>(path, { codec: "text", groups: true });
    log.compact();
    assert.ok(log.length > 200);
    Date.now = () => now + 70_000;
    log.compact();
    // Only the last segment has not been gone on from, and one may have had records of the old last one.
    assert.ok(log.length < 200, `${log.length} are kept`);
  } finally {
    Date.now = real;
  }
});

test("recovered again and again: a folder and a number for each", () => {
  const path = files.next("log");
  fill(path);
  for (const round of [1, 2, 3]) {
    const [segment] = fs.readdirSync(path).filter((name) => name.startsWith("segment-")).sort((x, y) => Number(x.slice(8)) - Number(y.slice(8)));
    patch(join(path, segment as string), 300, new Uint8Array(10));
    assert.equal(Queue.recover(path).quarantine, `${path}.quarantine-${round}`);
    assert.deepEqual(fs.readdirSync(path).flatMap((name) => groupOfFile(name)?.rebuilt ?? []), [round, round, round]);
    assert.equal(Queue.verify(path).ok, true);
  }
  using log = Queue.open(path, { groups: true, autoUnlink: true });
  assert.equal(log.removeGroup("a"), true);
  assert.equal(Queue.open(path, { group: "d" }).length, log.length);
  assert.equal(fs.existsSync(join(path, groupFileName("d", 3))), true, "a new group has the number too");
  fs.writeFileSync(join(path, groupFileName("b", 2)), "left by a recovery that died");
  log.compact();
  assert.equal(fs.existsSync(join(path, groupFileName("b", 2))), false);
  log.close();
  assert.equal(fs.existsSync(path), false);
});

test("a sound log is left alone, and one that is open is not touched", () => {
  const path = files.next("log");
  fill(path);
  const before = bytesOf(path);
  const report = Queue.recover(path);
  assert.deepEqual([report.ok, report.quarantine], [true, undefined]);
  assert.deepEqual(bytesOf(path), before);
  flip(join(path, groupFileName("a")), 40);
  using b = open(path, "b");
  const damaged = bytesOf(path);
  assertThrows(() => Queue.recover(path), mapError("ERR_BUSY"));
  assert.deepEqual(bytesOf(path), damaged);
  assert.equal(b.length, 300);
});

test("a lease in a group's file is not taken over by who gets the same slot", () => {
  const path = files.next("log");
  {
    using a = Queue.open<string>(path, { codec: "text", group: "a" });
    a.push("x");
    a.lease();
  }
  const file = join(path, groupFileName("a"));
  const owner = Number(fs.readFileSync(file).readBigUInt64LE(GROUP_LEASES + 8 * LEASE.owner));
  assert.equal(owner % 1024, 0);
  // The slot says that its generations are yet to come.
  patch(join(path, "control"), SLOTS, new Uint8Array(64));
  using first = Queue.open<string>(path, { groups: true, codec: "text" });
  using a = open(path, "a");
  const lease = a.lease();
  assert.deepEqual([first.length, lease?.value, lease?.attempts], [1, "x", 2], "its holder is dead");
});

// After a power loss.

const boot = (name: string): [string, { skip: string | false }] => [name, skipFor(name, process.platform === "linux" ? undefined : "only Linux says which boot it is")];
const reboot = (path: string): void => flip(join(path, "control"), BOOT);

test(...boot("another boot, all sound: nothing but the boot id and the owners change"), () => {
  const path = files.next("log");
  const left = fill(path);
  const group = join(path, groupFileName("a"));
  // A slot that did not get to storage: its next holder has the owner word that is in the lease and in the lock.
  patch(join(path, "control"), SLOTS, new Uint8Array(64));
  patch(group, CONSUMER_LOCK, word(1024));
  patch(group, GROUP_LEASES + 8 * LEASE.owner, word(1024));
  reboot(path);
  const id = Queue.verify(path).id;
  {
    using a = open(path, "a");
    assert.equal(a.recovered, undefined);
    assert.equal(a.lease()?.value, text(40), "its holder is gone");
  }
  assertHas(path, left);
  assert.equal(Queue.verify(path).id, id);
  assert.equal(fs.existsSync(`${path}.quarantine-1`), false);
});

test(...boot("mode \"r\" looks at a log of another boot as it is"), () => {
  const path = files.next("log");
  fill(path);
  reboot(path);
  const before = bytesOf(path);
  using a = Queue.open<string>(path, { codec: "text", group: "a", mode: "r" });
  assert.equal([...a].length, 259);
  assert.deepEqual(bytesOf(path), before);
});

test(...boot("records behind a gap behind the tail are kept, and the gap is told"), () => {
  const path = files.next("log");
  {
    using a = Queue.open<string>(path, { codec: "text", capacityBytes: 65536, group: "a" });
    using b = open(path, "b");
    a.pushMany(texts(0, 20));
    a.popMany(5);
    b.lease();
  }
  const control = fs.readFileSync(join(path, "control"));
  {
    using a = open(path, "a");
    for (const value of texts(20, 400)) a.push(value);
  }
  patch(join(path, "segment-1"), 8192, new Uint8Array(4096));
  fs.writeFileSync(join(path, "control"), control);
  reboot(path);
  let report: QueueReport | undefined;
  {
    using a = open(path, "a");
    report = a.recovered;
    assert.equal(a.length, [...a].length);
  }
  assert.ok(report !== undefined && report.lost > 20 && report.behindDamage > 100 && report.behindTail > 100, String(report));
  assertHas(path, { a: withoutGap(texts(5, 400), report), b: withoutGap(texts(0, 400), report) });
});

test(...boot("a group that is ahead of what came back goes on at its end; others have all"), () => {
  const path = files.next("log");
  {
    using a = Queue.open<string>(path, { codec: "text", capacityBytes: 8192, group: "a" });
    using b = open(path, "b");
    a.pushMany(texts(0, 50));
    assert.equal(b.length, 50);
  }
  const saved = fs.readdirSync(path).filter((name) => !name.startsWith("group-")).map((name) => [name, fs.readFileSync(join(path, name))] as const);
  {
    using a = open(path, "a");
    a.pushMany(texts(50, 60));
    a.popMany(55);
    a.lease();
  }
  for (const [name, bytes] of saved) fs.writeFileSync(join(path, name), bytes);
  reboot(path);
  {
    using a = open(path, "a");
    assert.match(String(a.recovered), /the cursor \(sequence 57\) is ahead of the tail \(51\)/);
    assert.deepEqual(a.recovered?.groups.map(({ name, ok }) => [name, ok]), [["a", false], ["b", true]]);
  }
  assert.ok((Queue.verify(path).firstSequence as number) > 56, "no sequence is used twice");
  assertHas(path, { a: [], b: texts(0, 50) });
});

test(...boot("a group's file that is damaged does not keep a log from being opened after a power loss"), () => {
  const path = files.next("log");
  const left = fill(path);
  patch(join(path, groupFileName("a")), CONSUMER_CELLS + 8 * CONSUMER.head, new Uint8Array(400));
  reboot(path);
  {
    using b = open(path, "b");
    assert.deepEqual(b.recovered?.groups.map(({ ok }) => ok), [false, true, true]);
    assert.ok(fs.existsSync(join(b.recovered?.quarantine as string, groupFileName("a"))));
  }
  assertHas(path, { ...left, a: texts(0, 300) });
});
