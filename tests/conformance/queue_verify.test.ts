/** Queue.verify: what it says of sound, busy and damaged queues, and of what is no queue. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { syncBuiltinESMExports } from "node:module";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { CONSUMER, CONSUMER_CELLS, DURABLE_CELLS, LEASES, NEXT_SEGMENT, PRODUCER_CELLS, SLOTS, SPARES } from "../../lib/layout/queue.ts";
import { Counters, type Lease, Queue, type QueueReport } from "../../mod.ts";
import { assertThrows, mapError, typeError } from "../support/errors.ts";
import { randomFrom } from "../support/fuzz.ts";
import { currentRuntime } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
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
  for (const end = performance.now() + 2000; performance.now() < end || looks <= 5; looks++) {
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

/** Runs `look` with `before` called ahead of each call that reads files, with its number. Returns how many calls there were. */
function interrupted(look: () => void, before: (call: number) => void): number {
  const target = (fs as unknown as { default: Record<string, (...args: unknown[]) => unknown> }).default;
  const names = ["openSync", "readSync", "fstatSync", "statSync", "lstatSync", "readdirSync"];
  const real = names.map((name) => target[name] as (...args: unknown[]) => unknown);
  let calls = 0;
  let inside = false;
  names.forEach((name, i) => {
    target[name] = (...args: unknown[]) => {
      if (!inside) {
        inside = true;
        try {
          before(++calls);
        } finally {
          inside = false;
        }
      }
      return (real[i] as (...args: unknown[]) => unknown)(...args);
    };
  });
  syncBuiltinESMExports();
  try {
    look();
  } finally {
    names.forEach((name, i) => (target[name] = real[i] as (...args: unknown[]) => unknown));
    syncBuiltinESMExports();
  }
  return calls;
}

const nodeOnly = currentRuntime === "node" ? undefined : "it puts itself before the calls of node:fs, which works in Node only";
const sound = (path: string, what: string) => (): void => {
  const report = Queue.verify(path);
  assert.ok(report.ok && report.lost === 0, `${what}: ${report}`);
};

const cycle = "in the middle of it the queue goes round, until the oldest segment is the same file again: no damage";
test(cycle, skipFor(cycle, nodeOnly), () => {
  const path = files.next("queue");
  using queue = Queue.open<number>(path, { capacityBytes: 8192 });
  const inSegment = 90;
  let lease: Lease<number> | undefined;
  const headOf = (): number => {
    const control = fs.readFileSync(join(path, "control"));
    const current = Number(control.readBigUInt64LE(CONSUMER_CELLS) & 1n);
    return Number(control.readBigUInt64LE(CONSUMER_CELLS + 128 + 128 * current + 8 * CONSUMER.head));
  };
  // The oldest segment has a lease, and the cursor is some segments further.
  const span = (): void => {
    queue.pushMany(Array.from({ length: 4 * inSegment }, (_, i) => i));
    lease = queue.lease();
    queue.popMany(3 * inSegment);
  };
  const round = (): void => {
    const head = headOf();
    lease?.ack();
    // The first segment that is given up is the spare, which is used again next.
    queue.popMany(1000);
    for (let i = 0; headOf() !== head; i++) {
      assert.ok(i < 2 * inSegment, `segment ${head} is not the oldest again`);
      queue.push(i);
      queue.pop();
    }
    span();
    assert.equal(headOf(), head);
  };
  span();
  const look = sound(path, "going round");
  const calls = interrupted(look, () => {});
  assert.ok(calls > 10);
  for (let at = 1; at <= calls; at++) {
    interrupted(sound(path, `before call ${at}`), (call) => {
      if (call === at) round();
    });
  }
});

const readOn = "in the middle of it the groups of a log read on, and their segments are used again: no damage";
test(readOn, skipFor(readOn, nodeOnly), () => {
  const path = files.next("log");
  using a = Queue.open<number>(path, { capacityBytes: 8192, group: "a" });
  using b = Queue.open<number>(path, { group: "b" });
  const leases: Lease<number>[] = [];
  const round = (): void => {
    for (const lease of leases.splice(0)) lease.ack();
    for (const queue of [a, b]) queue.popMany(1000);
    a.pushMany(Array.from({ length: 250 }, (_, i) => i));
    for (const queue of [a, b]) {
      for (let i = 0; i < 3; i++) leases.push(queue.lease() as Lease<number>);
      queue.popMany(120);
    }
  };
  round();
  const calls = interrupted(sound(path, "reading on"), () => {});
  assert.ok(calls > 10);
  for (let at = 1; at <= calls; at++) {
    interrupted(sound(path, `before call ${at}`), (call) => {
      if (call === at) round();
    });
  }
});

for (const kind of ["queue", "log"]) {
  const name = `a ${kind} that is changed between any two of its steps: no damage`;
  test(name, skipFor(name, nodeOnly), () => {
    const first = Number(process.env.HOLDFAST_FUZZ_SEED ?? 1);
    for (let seed = first; seed < first + Number(process.env.HOLDFAST_FUZZ_ROUNDS ?? 3); seed++) {
      const path = files.next(kind);
      const random = randomFrom(seed);
      const queues = kind === "queue"
        ? [0, 1].map(() => Queue.open<string>(path, { codec: "text", capacityBytes: 8192 }))
        : ["a", "b"].map((group) => Queue.open<string>(path, { codec: "text", capacityBytes: 8192, group, ...(seed % 3 === 0 ? { retainBytes: 9000 } : {}) }));
      const leases: Lease<string>[] = [];
      const settle = (): void => {
        const [lease] = leases.splice(random(leases.length), 1);
        try {
          if (random(3) === 0) lease?.release();
          else lease?.ack();
        } catch (error) {
          assert.equal((error as { code?: string }).code, "ERR_STALE_LEASE");
        }
      };
      const act = (): void => {
        const queue = queues[random(2)] as Queue<string>;
        if (queue.length > 400) queue.popMany(300);
        const what = random(12);
        if (what < 4) queue.pushMany(Array.from({ length: 1 + random(random(3) === 0 ? 120 : 4) }, () => "v".repeat(random(100))));
        else if (what < 6) queue.popMany(1 + random(random(3) === 0 ? 150 : 4));
        else if (what < 8 && leases.length < 20) {
          const lease = queue.lease();
          if (lease !== undefined) leases.push(lease);
        } else if (what < 10) settle();
        else if (what < 11 && random(6) === 0) queue.clear();
        else if (random(4) === 0) queue.compact();
        else if (random(30) === 0) queue.push("L".repeat(9000));
      };
      for (let i = 0; i < 60; i++) act();
      const often = 1 + random(5);
      for (let look = 0; look < 3; look++) {
        let acts = 0;
        interrupted(sound(path, `seed ${seed}, look ${look}`), () => {
          // At some time it stops: the examination has its end, too.
          while (random(6) < often && acts++ < 300) act();
        });
      }
      sound(path, `seed ${seed}, at rest`)();
      for (const queue of queues) queue.close();
      fs.rmSync(path, { recursive: true });
    }
  });
}
