/**
 * Damaged queues: directories of which bits, bytes, pages, lengths or whole files are not what they were. Each is examined, opened, read,
 * pushed to, emptied and recovered. What must come of it: a clear error or the right records; never a wrong one, never fewer without a word, never a
 * hang; and `Queue.verify` tells of damage whenever anything was lost.
 *
 * The same of logs: log_fuzz.ts. Usage: queue_fuzz.ts COUNT SEED [FIRST]. Prints a line of figures; a failure names round, seed and damage.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import * as os from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { CONSUMER_CELLS, CONSUMER_LOCK, GROUP_LEASES, LEASES, SLOTS } from "../../lib/layout/queue.ts";
import { MapError, Queue, type QueueReport } from "../../mod.ts";
import { randomFrom } from "../support/fuzz.ts";

export type Files = Map<string, Uint8Array>;
export type Random = (below: number) => number;

/** A sound directory as it lies on disk. */
export interface Sample {
  readonly name: string;
  /** The queue's id. */
  readonly id: string;
  readonly files: Files;
}

export interface FuzzOptions {
  readonly folder: string;
  readonly count: number;
  readonly seed: number;
  readonly first?: number;
}

/** A sound queue, and what is in it. */
interface Template extends Sample {
  /** All values that were ever pushed, in order; and how many of the first are consumed. */
  readonly pushed: readonly string[];
  /** What is in the queue, in order, leased records included. */
  readonly values: readonly string[];
}

export interface FuzzFigures {
  readonly rounds: number;
  readonly seed: number;
  /** Rounds in which opening was refused, in which some call failed, in which nothing was noticed at all. */
  readonly refused: number;
  readonly failed: number;
  readonly unnoticed: number;
  /** Rounds in which verify found damage, and in which it threw. */
  readonly damaged: number;
  readonly thrown: number;
  /** Rounds that recover repaired; records that it kept and that were lost in them. */
  readonly recovered: number;
  readonly kept: number;
  readonly lost: number;
  readonly slowestMs: number;
}

const CODES = new Set(["ERR_NOT_HOLDFAST", "ERR_VERSION", "ERR_KIND", "ERR_CORRUPT", "ERR_FAULT", "ESTALE"]);

export function readFiles(path: string): Files {
  return new Map(fs.readdirSync(path).sort().map((name) => [name, new Uint8Array(fs.readFileSync(join(path, name)))]));
}

/** Writes a directory; zeros are left out as holes, which makes it cheap. */
export function writeFiles(path: string, files: Files): void {
  fs.mkdirSync(path, { recursive: true });
  for (const [name, bytes] of files) {
    const fd = fs.openSync(join(path, name), "w", 0o600);
    fs.ftruncateSync(fd, bytes.byteLength);
    for (let at = 0; at < bytes.byteLength; at += 4096) {
      const page = bytes.subarray(at, at + 4096);
      if (page.some((byte) => byte !== 0)) fs.writeSync(fd, page, 0, page.byteLength, at);
    }
    fs.closeSync(fd);
  }
}

export function sameFiles(path: string, files: Files): boolean {
  const names = fs.readdirSync(path);
  return names.length === files.size && names.every((name) => Buffer.compare(fs.readFileSync(join(path, name)), files.get(name) as Uint8Array) === 0);
}

/** A value that says of itself which one it is, and is no other one's part. */
export function valueOf(tag: string, number: number): string {
  return `${tag}${number}:${"abcdefghij".repeat(8).slice(number % 7, (number * 13) % 80)};${number}`;
}

function template(folder: string, tag: string, fill: (queue: Queue<string>, push: (count: number) => void) => number[]): Template {
  // push(count) pushes that many values, push(-bytes) a large one.
  const path = join(folder, `template-${tag}`);
  const pushed: string[] = [];
  let inside: string[] = [];
  {
    using queue = Queue.open<string>(path, { codec: "text", capacityBytes: 8192 });
    const push = (count: number): void => {
      for (let i = 0; i < Math.max(1, count); i++) {
        const value = count < 0 ? "L".repeat(-count) : valueOf(tag, pushed.length);
        pushed.push(value);
        queue.push(value);
      }
    };
    const gone = new Set(fill(queue, push));
    inside = pushed.filter((_, i) => !gone.has(i));
    assert.deepEqual([...queue], inside);
  }
  const files = readFiles(path);
  const { id } = Queue.verify(path);
  fs.rmSync(path, { recursive: true });
  return { name: tag, id, files, pushed, values: inside };
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

function templates(folder: string): Template[] {
  return [
    template(folder, "few", (_, push) => (push(9), [])),
    template(folder, "several", (queue, push) => {
      push(180);
      queue.popMany(50);
      return upTo(50);
    }),
    template(folder, "leased", (queue, push) => {
      push(70);
      queue.popMany(10);
      for (let i = 0; i < 6; i++) queue.lease(); // 10 to 15
      queue.lease()?.ack(); // 16
      queue.popMany(60);
      push(60); // the segment that was given up is in use again
      queue.lease();
      return [...upTo(10), ...upTo(70).slice(16)];
    }),
    template(folder, "emptied", (queue, push) => {
      push(200);
      queue.popMany(200);
      return upTo(200);
    }),
    template(folder, "large", (_, push) => {
      push(20);
      push(-9000);
      return [];
    }),
  ];
}

/** Half of the places are in what matters most. */
function place(name: string, size: number, random: Random): number {
  const ofGroup = [[0, 128], [CONSUMER_LOCK, 8], [CONSUMER_CELLS, 384], [GROUP_LEASES, 640]];
  const areas: number[][] = name.startsWith("group-") ? ofGroup : name === "control" ? [[0, 128], [1024, 700], [1152, 384], [1664, 384], [2048, 600], [2176, 384], [3072, 8], [3200, 24], [3456, 8], [3584, 24], [SLOTS, 128], [LEASES, 640]] : [[0, 128], [128, 24], [256, 2048], [256, 3840]];
  if (size === 0) return 0;
  const [start, length] = random(3) > 0 ? (areas[random(areas.length)] as [number, number]) : [0, size];
  return Math.min(size - 1, start + random(length));
}

/** Does one damage to `files`; says what. Groups' files are swapped with each other, and with those of another log. */
export function damage(files: Files, other: Files, random: Random): string {
  const names = [...files.keys()];
  const segments = names.filter((name) => name.startsWith("segment-"));
  const name = names.length === 0 ? undefined : random(3) === 0 && files.has("control") ? "control" : (names[random(names.length)] as string);
  if (name === undefined) return "nothing is left";
  const bytes = files.get(name) as Uint8Array;
  const size = bytes.byteLength;
  const at = place(name, size, random);
  const run = Math.min(1 + random(random(4) === 0 ? 4096 : 24), size - at);
  switch (random(14)) {
    case 0:
    case 1:
    case 2: {
      const flips = Array.from({ length: 1 + random(3) }, () => place(name, size, random));
      for (const offset of flips) if (size > 0) bytes[offset] = (bytes[offset] as number) ^ (1 << random(8));
      return `bits of ${name} at ${flips.join()}`;
    }
    case 3:
    case 4:
      for (let i = 0; i < run; i++) bytes[at + i] = random(256);
      return `${run} random bytes in ${name} at ${at}`;
    case 5:
      bytes.fill(random(2) === 0 ? 0 : 255, at, at + run);
      return `${run} bytes of ${bytes[at]} in ${name} at ${at}`;
    case 6: {
      const unit = [1, 8, 128, 512][random(4)] as number;
      const from = Math.floor(place(name, size, random) / unit) * unit;
      const to = Math.floor(at / unit) * unit;
      const length = Math.min(unit * (1 + random(8)), size - from, size - to);
      bytes.copyWithin(to, from, from + length);
      return `${length} bytes of ${name} from ${from} copied to ${to}`;
    }
    case 7: {
      const length = random(3) === 0 ? Math.floor(at / 4096) * 4096 : random(2) === 0 ? at : Math.max(0, size - 1 - random(64));
      files.set(name, bytes.slice(0, length));
      return `${name} cut to ${length} bytes`;
    }
    case 8: {
      const longer = new Uint8Array(size + 1 + random(5000));
      longer.set(bytes);
      files.set(name, longer);
      return `${name} made longer by ${longer.byteLength - size} bytes`;
    }
    case 9: {
      const alike = name.startsWith("group-") ? names.filter((other) => other.startsWith("group-")) : segments;
      if (alike.length < 2) return "no two to swap";
      const [first, second] = [alike[random(alike.length)], alike[random(alike.length)]] as [string, string];
      const kept = files.get(first) as Uint8Array;
      files.set(first, files.get(second) as Uint8Array);
      if (random(2) === 0) {
        files.set(second, kept);
        return `${first} and ${second} swapped`;
      }
      files.set(first, (files.get(first) as Uint8Array).slice());
      return `${second} copied over ${first}`;
    }
    case 10: {
      const foreign = other.get(name) ?? other.get("segment-1") as Uint8Array;
      files.set(name, foreign.slice());
      return `${name} of another queue`;
    }
    case 11:
      files.delete(name);
      return `${name} removed`;
    case 12: {
      const page = Math.floor(at / 4096) * 4096;
      bytes.fill(0, page, page + 4096);
      return `page ${page} of ${name} zeroed`;
    }
    default: {
      // A part of another file of the queue.
      const source = files.get(names[random(names.length)] as string) as Uint8Array;
      const unit = [8, 128, 512, 4096][random(4)] as number;
      const from = Math.floor(random(Math.max(1, source.byteLength)) / unit) * unit;
      const to = Math.floor(at / unit) * unit;
      const length = Math.max(0, Math.min(unit, source.byteLength - from, size - to));
      bytes.set(source.slice(from, from + length), to);
      return `${length} bytes of another file from ${from} copied to ${to} of ${name}`;
    }
  }
}

export function copyOf(files: Files): Files {
  return new Map([...files].map(([name, bytes]) => [name, bytes.slice()]));
}

/** The error of an allowed code; anything else is thrown on. */
export function errorOf(call: () => void): MapError | undefined {
  try {
    call();
    return undefined;
  } catch (error) {
    if (error instanceof MapError && CODES.has(error.code)) return error;
    throw error;
  }
}

/** Asserts that `found` are some of `all`, in order, each at most once. */
export function assertAmong(found: readonly string[], all: readonly string[], what: string): void {
  let at = -1;
  for (const value of found) {
    at = all.indexOf(value, at + 1);
    assert.ok(at >= 0, `${what}: ${JSON.stringify(value.slice(0, 60))} is no record of the queue, or not in order, or twice`);
  }
}

export interface Outcome {
  readonly refused: boolean;
  readonly failed: boolean;
  readonly report: QueueReport | undefined;
  readonly repaired: QueueReport | undefined;
  readonly kept: number;
}

/** One damaged directory, all through. */
function examine(folder: string, files: Files, original: Template, other: Template): Outcome {
  const { values, pushed } = original;
  const path = join(folder, "queue");
  const fresh = (): void => {
    fs.rmSync(folder, { recursive: true, force: true });
    writeFiles(path, files);
  };
  fresh();
  let report: QueueReport | undefined;
  const refusal = errorOf(() => {
    report = Queue.verify(path);
    JSON.stringify(report);
    assert.ok(String(report).startsWith(path));
  });
  const told = report === undefined || !report.ok;
  const named = `verify: ${refusal?.message ?? String(report)}`;

  // Looked at only.
  let seen: string[] = [];
  const lookError = errorOf(() => {
    seen = [];
    using queue = Queue.open<string>(path, { codec: "text", mode: "r" });
    const { length } = queue;
    for (const value of queue) seen.push(value);
    assert.equal(length, seen.length, "length");
  });
  assertAmong(seen, values, "iteration");
  if (lookError === undefined) assert.deepEqual(seen, values, `an iteration without an error has all; ${named}`);
  else assert.ok(told, `${lookError.message}; but ${named}`);
  assert.ok(sameFiles(path, files), "looking changed the files");

  // Pushed to and emptied.
  const added = ["new one", "new two"];
  const popped: string[] = [];
  let accepted: string[] = [];
  let opened = false;
  let healed: QueueReport | undefined;
  const useError = errorOf(() => {
    using queue = Queue.open<string>(path, { codec: "text" });
    opened = true;
    healed = queue.recovered;
    const pushError = errorOf(() => {
      for (const value of added) {
        assert.equal(queue.push(value), true);
        accepted = [...accepted, value];
      }
    });
    for (let value = queue.pop(); value !== undefined; value = queue.pop()) popped.push(value);
    assert.equal(queue.length, 0);
    if (pushError !== undefined) throw pushError;
  });
  if (!opened) assert.ok(sameFiles(path, files), `a queue that could not be opened was changed: ${useError?.message}`);
  // One that was recovered when it was opened may give consumed records again, if the consumer cell was lost.
  assertAmong(popped, [...(healed === undefined ? values : healed.id === other.id ? other.pushed : pushed), ...added], "pop");
  if (useError !== undefined) assert.ok(told, `${useError.message}; but ${named}`);
  else if (healed === undefined) assert.deepEqual(popped, [...values, ...accepted], `without an error all come out; ${named}`);
  else assertKept(popped.filter((value) => !added.includes(value)), healed, original);

  // Recovered.
  fresh();
  let repaired: QueueReport | undefined;
  const recoverError = errorOf(() => {
    repaired = Queue.recover(path);
  });
  let kept = 0;
  if (repaired !== undefined) {
    const after = Queue.verify(path);
    assert.ok(after.ok, `still damaged: ${after}`);
    using queue = Queue.open<string>(path, { codec: "text" });
    assert.equal(queue.push("last"), true);
    const found = [...queue];
    assert.equal(found.pop(), "last");
    assert.equal(queue.length, found.length + 1);
    assertAmong(found, repaired.id === other.id ? other.pushed : pushed, "recovered");
    assert.deepEqual(queue.popMany(found.length + 2), [...found, "last"]);
    assert.equal(queue.length, 0);
    assert.equal(queue.byteLength, 0);
    assertKept(found, repaired, original);
    kept = found.length;
    if (repaired.quarantine !== undefined) assert.ok(sameFiles(repaired.quarantine, new Map([...files].filter(([name]) => /^(control|segment-\d+)$/.test(name)))), "the quarantine has the files as they were");
  } else assert.ok(recoverError !== undefined && refusal !== undefined, `recover fails where verify does not: ${recoverError?.message}`);
  return { refused: !opened, failed: useError !== undefined, report, repaired, kept };
}

/** Asserts that nothing is missing from `found` that the report does not call lost. */
function assertKept(found: readonly string[], report: QueueReport, { values, id }: Template): void {
  assert.equal(found.length, report.records, `as many as the report says: ${report}`);
  const missing = values.filter((value) => !found.includes(value)).length;
  // Where most of the files are another queue's, it is that one.
  if (report.id !== id) return;
  // Without the cells, how far the queue went is not known, and without the lease table, which records it had: then not all that is lost can be
  // counted.
  const uncounted = new Set(["producer-cell", "consumer-cell", "control", "lease"]);
  if (missing > report.lost) assert.ok(report.damage.some(({ code }) => uncounted.has(code)), `${missing} are missing: ${report}`);
  if (missing > 0) assert.ok(!report.ok);
}

/** Runs `count` rounds from round `first` on: damages one of `all` each time, with parts of another, and examines it. */
export function fuzz<T extends Sample>({ folder, count, seed, first = 0 }: FuzzOptions, all: readonly T[], examineOne: (folder: string, files: Files, original: T, other: T) => Outcome): FuzzFigures {
  const figures = { rounds: 0, seed, refused: 0, failed: 0, unnoticed: 0, damaged: 0, thrown: 0, recovered: 0, kept: 0, lost: 0, slowestMs: 0 };
  for (let round = first; round < first + count; round++) {
    const random = randomFrom(seed * 1_000_003 + round);
    const chosen = all[random(all.length)] as T;
    const other = all[(all.indexOf(chosen) + 1 + random(all.length - 1)) % all.length] as T;
    const files = copyOf(chosen.files);
    const done = Array.from({ length: random(4) === 0 ? 2 + random(3) : 1 }, () => damage(files, other.files, random));
    const start = performance.now();
    try {
      // With the control file of another queue it is that queue, of which most is missing.
      const control = files.get("control");
      const isOther = control !== undefined && Buffer.from(control.subarray(24, 40)).toString("hex") === other.id;
      const { refused, failed, report, repaired, kept } = examineOne(join(folder, "round"), files, isOther ? other : chosen, isOther ? chosen : other);
      figures.rounds++;
      if (refused) figures.refused++;
      if (failed) figures.failed++;
      if (report === undefined) figures.thrown++;
      else if (!report.ok) figures.damaged++;
      else figures.unnoticed++;
      if (repaired?.quarantine !== undefined) {
        figures.recovered++;
        figures.kept += kept;
        figures.lost += repaired.lost;
      }
    } catch (error) {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      throw new Error(`round ${round}, seed ${seed}, template ${chosen.name}: ${done.join("; ")}: ${text.slice(0, 4000)}`);
    }
    const took = performance.now() - start;
    figures.slowestMs = Math.max(figures.slowestMs, Math.round(took));
    assert.ok(took < 15_000, `round ${round}, seed ${seed} took ${Math.round(took)} ms: ${done.join("; ")}`);
  }
  fs.rmSync(join(folder, "round"), { recursive: true, force: true });
  return figures;
}

export function fuzzQueues(options: FuzzOptions): FuzzFigures {
  return fuzz(options, templates(options.folder), examine);
}

/** What a program of damaged directories does: COUNT SEED [FIRST] from the command line, a line of figures. */
export function main(fuzzAll: (options: FuzzOptions) => FuzzFigures): void {
  const [count = "5000", seed = "1", first = "0"] = process.argv.slice(2);
  const folder = fs.mkdtempSync(join(os.tmpdir(), "holdfast-fuzz-"));
  process.on("exit", () => fs.rmSync(folder, { recursive: true, force: true }));
  const start = performance.now();
  const figures = fuzzAll({ folder, count: Number(count), seed: Number(seed), first: Number(first) });
  console.log(JSON.stringify({ ...figures, seconds: Math.round((performance.now() - start) / 100) / 10 }));
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) main(fuzzQueues);
