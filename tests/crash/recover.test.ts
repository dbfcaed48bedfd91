/** A recovery that is ended at any step, and power losses that leave each page as it was at another moment. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { BOOT } from "../../lib/layout/queue.ts";
import { type Lease, Queue, type QueueReport } from "../../mod.ts";
import { randomFrom } from "../support/fuzz.ts";
import { currentRuntime } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();

function patch(path: string, offset: number, bytes: Uint8Array): void {
  const fd = fs.openSync(path, "r+");
  fs.writeSync(fd, bytes, 0, bytes.byteLength, offset);
  fs.closeSync(fd);
}

const text = (i: number): string => `${i}${"x".repeat(i % 50)}`;
const texts = (from: number, to: number): string[] => Array.from({ length: to - from }, (_, i) => text(from + i));

/** 0 to 39 consumed, 40 leased (twice), 41 acknowledged, up to 299. */
function fill(path: string): string[] {
  {
    using queue = Queue.open<string>(path, { codec: "text", capacityBytes: 8192 });
    queue.pushMany(texts(0, 300));
    queue.popMany(40);
    queue.lease()?.release();
    queue.lease();
    queue.lease()?.ack();
  }
  return [text(40), ...texts(42, 300)];
}

const open = (path: string): Queue<string> => Queue.open<string>(path, { codec: "text" });
/** Asserts that the queue has these, works, and is sound. */
function assertHas(path: string, expected: readonly string[], what = ""): void {
  const report = Queue.verify(path);
  assert.equal(report.ok, true, `${what}\n${report}`);
  using queue = open(path);
  assert.equal(queue.recovered, undefined, what);
  assert.deepEqual([...queue], expected, what);
  assert.equal(queue.length, expected.length, what);
  assert.equal(queue.push("one more"), true);
  assert.deepEqual(queue.popMany(expected.length + 5), [...expected, "one more"], what);
  assert.equal(queue.length, 0);
  assert.equal(queue.byteLength, 0);
  queue.pushMany(texts(0, 400));
  assert.equal(queue.popMany(500).length, 400);
}

/** Names and contents of all files below a folder. */
function digest(folder: string): string {
  const hash = createHash("sha1");
  for (const name of fs.readdirSync(folder, { recursive: true, encoding: "utf8" }).sort()) {
    const path = join(folder, name);
    hash.update(`${name}\n`);
    if (fs.statSync(path).isFile()) hash.update(fs.readFileSync(path));
  }
  return hash.digest("hex");
}

const everyStep = "ended at any step, the queue is the old one or the new one, and a second recovery finishes";
test(everyStep, skipFor(everyStep, currentRuntime === "node" ? undefined : "it puts itself before the calls of node:fs, which works in Node only"), () => {
  const path = join(files.next("folder"), "queue");
  fs.mkdirSync(join(path, ".."));
  const values = fill(path);
  patch(join(path, "segment-2"), 1000, new Uint8Array(100));
  const before = Queue.verify(path);
  // What a process that is killed leaves is what the files are at that moment: a copy of them before each call that changes something.
  const copies: { name: string; folder: string }[] = [];
  const real = { ...fs } as unknown as Record<string, (...args: unknown[]) => unknown>;
  const target = (fs as unknown as { default: Record<string, unknown> }).default;
  const changing = ["openSync", "writeSync", "mkdirSync", "linkSync", "renameSync", "unlinkSync", "rmSync", "ftruncateSync", "chownSync"];
  let busy = false;
  const seen = new Set<string>();
  let last = "";
  for (const name of changing) {
    target[name] = (...args: unknown[]) => {
      if (!busy) {
        busy = true;
        seen.add(name);
        const folder = files.next("step");
        fs.cpSync(join(path, ".."), folder, { recursive: true });
        const now = digest(folder);
        // Many calls only look.
        if (now === last) fs.rmSync(folder, { recursive: true });
        else copies.push({ name, folder });
        last = now;
        busy = false;
      }
      return (real[name] as (...args: unknown[]) => unknown)(...args);
    };
  }
  syncBuiltinESMExports();
  let report: QueueReport;
  try {
    report = Queue.recover(path);
  } finally {
    for (const name of changing) target[name] = real[name];
    syncBuiltinESMExports();
  }
  assert.ok(["renameSync", "linkSync", "unlinkSync", "writeSync"].every((name) => seen.has(name)), "the calls were seen");
  const gap = report.gaps[0] as { first: number; last: number };
  const kept = values.filter((value) => Number.parseInt(value) + 1 < gap.first || Number.parseInt(value) + 1 > gap.last);
  let old = 0;
  let done = 0;
  for (const [i, { name, folder }] of copies.entries()) {
    const what = `step ${i}, before ${name}`;
    const copy = join(folder, "queue");
    const found = Queue.verify(copy);
    if (found.ok) done++;
    else {
      old++;
      assert.equal(found.id, before.id, what);
      assert.equal(found.lost, before.lost, what);
    }
    // Whoever opens it before the second recovery finds what there was before, or after.
    {
      using queue = Queue.open<string>(copy, { codec: "text" });
      assert.equal(queue.length, found.ok ? kept.length : 259, what);
    }
    Queue.recover(copy);
    assertHas(copy, kept, what);
    fs.rmSync(folder, { recursive: true });
  }
  assert.ok(old > 10 && done > 2, `${old} times the old one, ${done} times the new one`);
});

/** What a queue was at a moment: its files, and what was in it. */
interface Moment {
  readonly files: ReadonlyMap<string, Uint8Array>;
  readonly values: ReadonlySet<string>;
}

const PAGE = 4096;

/** Uses a queue at random, and keeps what it was after each step. */
function history(path: string, random: (below: number) => number): { moments: Moment[]; pushed: string[] } {
  const moments: Moment[] = [];
  const pushed: string[] = [];
  const inside = new Set<string>();
  const leases: Lease<string>[] = [];
  using queue = Queue.open<string>(path, { codec: "text", capacityBytes: 16384 });
  for (let step = 0; step < 24; step++) {
    for (let i = random(60); i > 0; i--) {
      const value = `${pushed.length} ${"z".repeat(random(random(20) === 0 ? 5000 : 120))}`;
      pushed.push(value);
      inside.add(value);
      queue.push(value);
    }
    for (let i = random(8); i > 0; i--) {
      const lease = queue.lease();
      if (lease !== undefined) leases.push(lease);
    }
    for (let i = random(leases.length + 1); i > 0; i--) {
      const [lease] = leases.splice(random(leases.length), 1) as [Lease<string>];
      if (random(4) > 0) inside.delete(lease.value);
      if (inside.has(lease.value)) lease.release();
      else lease.ack();
    }
    for (const value of queue.popMany(1 + random(random(3) === 0 ? 150 : 30))) inside.delete(value);
    const files = new Map(fs.readdirSync(path).map((name) => [name, new Uint8Array(fs.readFileSync(join(path, name)))]));
    moments.push({ files, values: new Set(inside) });
  }
  return { moments, pushed };
}

/** Files of which each page is that of any moment since the first. A file that came or went meanwhile may be there or not. */
function mixture(moments: readonly Moment[], random: (below: number) => number): Map<string, Uint8Array> {
  const names = new Set(moments.flatMap(({ files }) => [...files.keys()]));
  const mixed = new Map<string, Uint8Array>();
  for (const name of names) {
    const versions = moments.flatMap(({ files }) => files.get(name) ?? []);
    const sure = versions.length === moments.length;
    if (!sure && random(2) === 0) continue;
    const bytes = (versions[0] as Uint8Array).slice();
    const isNew = !moments[0]?.files.has(name);
    for (let at = 0; at < bytes.byteLength; at += PAGE) {
      // Of a new file, a page that was never written back reads as zeros.
      if (isNew && random(4) === 0) bytes.fill(0, at, at + PAGE);
      else bytes.set((versions[random(versions.length)] as Uint8Array).subarray(at, at + PAGE), at);
    }
    mixed.set(name, bytes);
  }
  return mixed;
}

const pages = "power lost: each page as it was at some moment since the last sync; nothing that was durable and is still needed is lost";
test(pages, skipFor(pages, process.platform === "linux" ? undefined : "only Linux says which boot it is"), () => {
  const seed = Number(process.env.HOLDFAST_FUZZ_SEED ?? 1);
  const rounds = Number(process.env.HOLDFAST_FUZZ_ROUNDS ?? 25);
  const figures = { rounds, seed, recovered: 0, behindTail: 0, lost: 0 };
  for (let round = 0; round < rounds; round++) {
    const random = randomFrom(seed * 1000 + round);
    const path = files.next("queue");
    const { moments, pushed } = history(path, random);
    fs.rmSync(path, { recursive: true });
    const from = random(moments.length);
    const until = from + 1 + random(moments.length - from);
    const window = moments.slice(from, until);
    const mixed = mixture(window, random);
    const control = mixed.get("control") as Uint8Array;
    control[BOOT] = (control[BOOT] as number) ^ 0xff;
    fs.mkdirSync(path);
    for (const [name, bytes] of mixed) fs.writeFileSync(join(path, name), bytes);
    const what = `seed ${seed}, round ${round}`;
    let found: string[];
    {
      using queue = Queue.open<string>(path, { codec: "text" });
      const { recovered } = queue;
      if (recovered !== undefined) {
        figures.recovered++;
        figures.behindTail += recovered.behindTail;
        figures.lost += recovered.lost;
      }
      found = [...queue];
      assert.equal(queue.length, found.length, `${what}\n${recovered}`);
      const numbers = found.map((value) => Number.parseInt(value));
      assert.ok(found.every((value, i) => value === pushed[numbers[i] as number]), `${what}: a value that was never pushed`);
      assert.ok(numbers.every((number, i) => i === 0 || number > (numbers[i - 1] as number)), `${what}: in order, each once: ${numbers}`);
      const durable = window[0] as Moment;
      const last = window.at(-1) as Moment;
      for (const value of durable.values) {
        if (last.values.has(value)) assert.ok(found.includes(value), `${what}: ${value.slice(0, 20)} was durable and is lost\n${recovered}`);
      }
    }
    assertHas(path, found, what);
    for (const name of fs.readdirSync(files.folder)) if (name.includes("queue")) fs.rmSync(join(files.folder, name), { recursive: true });
  }
  console.log(`# ${JSON.stringify(figures)}`);
  assert.ok(figures.recovered > rounds / 4, JSON.stringify(figures));
});
