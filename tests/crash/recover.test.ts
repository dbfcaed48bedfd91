/** A recovery that is ended at any step, and power losses that leave each page as it was at another moment. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { BOOT, GROUP_LEASES, groupFileName } from "../../lib/layout/queue.ts";
import { type Lease, Queue, type QueueReport } from "../../mod.ts";
import { randomFrom } from "../support/fuzz.ts";
import { currentRuntime } from "../support/runtimes.ts";
import { assertHas, fill, patch, text, texts } from "../support/repaired.ts";
import { skipFor } from "../support/skip.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();

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

const inNode = currentRuntime === "node" ? undefined : "it puts itself before the calls of node:fs, which works in Node only";

/**
 * Copies of the folder around a queue, each as it is before a call of `recover` that changes something: what a process that is killed leaves is what
 * the files are at that moment.
 */
function stepsOf(path: string, recover: () => void): { name: string; folder: string }[] {
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
  try {
    recover();
  } finally {
    for (const name of changing) target[name] = real[name];
    syncBuiltinESMExports();
  }
  assert.ok(["renameSync", "linkSync", "unlinkSync", "writeSync"].every((name) => seen.has(name)), "the calls were seen");
  return copies;
}

const everyStep = "ended at any step, the queue is the old one or the new one, and a second recovery finishes";
test(everyStep, skipFor(everyStep, inNode), () => {
  const path = join(files.next("folder"), "queue");
  fs.mkdirSync(join(path, ".."));
  const values = fill(path);
  patch(join(path, "segment-2"), 1000, new Uint8Array(100));
  const before = Queue.verify(path);
  const copies = stepsOf(path, () => Queue.recover(path));
  const gap = before.gaps[0] as { first: number; last: number };
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

const ofLog = "a log, too, and each of its groups";
test(ofLog, skipFor(ofLog, inNode), () => {
  const path = join(files.next("folder"), "log");
  fs.mkdirSync(join(path, ".."));
  {
    using a = Queue.open<string>(path, { codec: "text", capacityBytes: 8192, group: "a" });
    using b = Queue.open<string>(path, { codec: "text", group: "b" });
    a.pushMany(texts(0, 300));
    a.popMany(40);
    a.lease()?.release();
    a.lease();
    b.popMany(200);
  }
  patch(join(path, "segment-2"), 1000, new Uint8Array(100));
  patch(join(path, groupFileName("b")), 0, new Uint8Array(GROUP_LEASES));
  const before = Queue.verify(path);
  const copies = stepsOf(path, () => Queue.recover(path));
  const gap = before.gaps[0] as { first: number; last: number };
  const kept = (from: number): string[] => texts(from, 300).filter((value) => Number.parseInt(value) + 1 < gap.first || Number.parseInt(value) + 1 > gap.last);
  const counts = { old: 0, done: 0 };
  for (const [i, { name, folder }] of copies.entries()) {
    const what = `step ${i}, before ${name}`;
    const copy = join(folder, "log");
    const found = Queue.verify(copy);
    if (found.ok) counts.done++;
    else {
      counts.old++;
      const of = ({ id, lost, damage }: QueueReport): unknown[] => [id, lost, damage.map(({ code, file, offset }) => [code, file, offset])];
      assert.deepEqual(of(found), of(before), what);
    }
    {
      // Group "b" can't be opened before.
      using a = Queue.open<string>(copy, { codec: "text", group: "a" });
      assert.deepEqual([a.length, a.peek()], [found.ok ? kept(40).length : 260, text(40)], what);
    }
    Queue.recover(copy);
    for (const [group, values] of [["a", kept(40)], ["b", kept(0)]] as const) {
      using queue = Queue.open<string>(copy, { codec: "text", group });
      assert.deepEqual([...queue], values, `${what}, ${group}`);
      assert.deepEqual(queue.popMany(1000), values, `${what}, ${group}`);
    }
    const after = Queue.verify(copy);
    assert.ok(after.ok && after.groups.length === 2, `${what}\n${after}`);
    fs.rmSync(folder, { recursive: true });
  }
  assert.ok(counts.old > 10 && counts.done > 2, JSON.stringify(counts));
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
function mixture(moments: readonly Pick<Moment, "files">[], random: (below: number) => number): Map<string, Uint8Array> {
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

/** What a log was at a moment: its files, and what each group had to remove. */
interface LogMoment {
  readonly files: ReadonlyMap<string, Uint8Array>;
  readonly groups: ReadonlyMap<string, ReadonlySet<string>>;
}

const GROUPS = ["a", "b"];

/** As {@linkcode history}, of a log with two groups. */
function logHistory(path: string, random: (below: number) => number): { moments: LogMoment[]; pushed: string[] } {
  const moments: LogMoment[] = [];
  const pushed: string[] = [];
  const handles = GROUPS.map((group) => ({ queue: Queue.open<string>(path, { codec: "text", capacityBytes: 16384, group }), inside: new Set<string>(), leases: [] as Lease<string>[] }));
  for (let step = 0; step < 20; step++) {
    for (let i = random(60); i > 0; i--) {
      const value = `${pushed.length} ${"z".repeat(random(random(20) === 0 ? 5000 : 120))}`;
      pushed.push(value);
      for (const { inside } of handles) inside.add(value);
      handles[random(2)]?.queue.push(value);
    }
    for (const { queue, inside, leases } of handles) {
      for (let i = random(8); i > 0; i--) {
        const lease = queue.lease();
        if (lease !== undefined) leases.push(lease);
      }
      for (let i = random(leases.length + 1); i > 0; i--) {
        const [lease] = leases.splice(random(leases.length), 1) as [Lease<string>];
        if (random(4) === 0) lease.release();
        else {
          lease.ack();
          inside.delete(lease.value);
        }
      }
      for (const value of queue.popMany(1 + random(random(3) === 0 ? 150 : 30))) inside.delete(value);
    }
    const files = new Map(fs.readdirSync(path).map((name) => [name, new Uint8Array(fs.readFileSync(join(path, name)))]));
    moments.push({ files, groups: new Map(GROUPS.map((group, i) => [group, new Set(handles[i]?.inside)])) });
  }
  for (const { queue } of handles) queue.close();
  return { moments, pushed };
}

const logPages = "the same of a log: nothing that a group still needs is lost";
test(logPages, skipFor(logPages, process.platform === "linux" ? undefined : "only Linux says which boot it is"), () => {
  const seed = Number(process.env.HOLDFAST_FUZZ_SEED ?? 1);
  const rounds = Number(process.env.HOLDFAST_FUZZ_ROUNDS ?? 20);
  const figures = { rounds, seed, recovered: 0, behindTail: 0, lost: 0, groupsMoved: 0 };
  for (let round = 0; round < rounds; round++) {
    const random = randomFrom(seed * 1000 + round);
    const path = files.next("queue");
    const { moments, pushed } = logHistory(path, random);
    fs.rmSync(path, { recursive: true });
    const from = random(moments.length);
    const window = moments.slice(from, from + 1 + random(moments.length - from));
    const mixed = mixture(window, random);
    const control = mixed.get("control") as Uint8Array;
    control[BOOT] = (control[BOOT] as number) ^ 0xff;
    fs.mkdirSync(path);
    for (const [name, bytes] of mixed) fs.writeFileSync(join(path, name), bytes);
    const what = `seed ${seed}, round ${round}`;
    using log = Queue.open<string>(path, { codec: "text", groups: true });
    const { recovered } = log;
    if (recovered !== undefined) {
      figures.recovered++;
      figures.behindTail += recovered.behindTail;
      figures.lost += recovered.lost;
      figures.groupsMoved += recovered.groups.filter(({ ok }) => !ok).length;
    }
    assert.deepEqual(log.groups().map(({ name }) => name), GROUPS, what);
    const found = new Map<string, string[]>();
    for (const group of GROUPS) {
      using queue = Queue.open<string>(path, { codec: "text", group });
      const values = [...queue];
      found.set(group, values);
      assert.equal(queue.length, values.length, `${what}\n${recovered}`);
      const numbers = values.map((value) => Number.parseInt(value));
      assert.ok(values.every((value, i) => value === pushed[numbers[i] as number]), `${what}: a value that was never pushed`);
      assert.ok(numbers.every((number, i) => i === 0 || number > (numbers[i - 1] as number)), `${what}: in order, each once: ${numbers}`);
      const needed = window[0]?.groups.get(group) as Set<string>;
      const last = window.at(-1)?.groups.get(group) as Set<string>;
      for (const value of needed) {
        if (last.has(value)) assert.ok(values.includes(value), `${what}: ${value.slice(0, 20)} was durable and is lost for ${group}\n${recovered}`);
      }
    }
    const report = Queue.verify(path);
    assert.ok(report.ok, `${what}\n${recovered}\n${report}`);
    log.push("one more");
    for (const group of GROUPS) {
      using queue = Queue.open<string>(path, { codec: "text", group });
      assert.deepEqual(queue.popMany(5000), [...(found.get(group) as string[]), "one more"], what);
      assert.deepEqual([queue.length, queue.byteLength], [0, 0], what);
    }
    assert.equal(Queue.verify(path).ok, true, what);
    for (const name of fs.readdirSync(files.folder)) if (name.includes("queue")) fs.rmSync(join(files.folder, name), { recursive: true });
  }
  console.log(`# ${JSON.stringify(figures)}`);
  assert.ok(figures.recovered > rounds / 4, JSON.stringify(figures));
});
