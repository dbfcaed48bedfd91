/**
 * Simulated power cuts, on any machine: a queue, or a log with two groups, is used while a model of the disk follows it. What a sync covers is
 * on the disk of the model; besides, the kernel writes back pages whenever it likes, and it is a matter of chance which. A cut leaves, of each
 * page that was changed since, the old or the new content, of each new file its name or nothing, and each removed file perhaps still there.
 *
 * From the shell: node tests/crash/power_pages.ts [CUTS] [SEED]
 */
import * as fs from "node:fs";
import * as os from "node:os";
import { join } from "node:path";
import { native } from "../../lib/native/native.ts";
import type { NativeFunctions } from "../../lib/native/symbols.ts";
import { Queue } from "../../mod.ts";
import { random } from "./power_random.ts";
import { type CutReport, type Durability, durabilities, emptyReport, judge, judgeOpened, Promises, violations } from "./power.ts";
import { readDisk } from "./power_disk.ts";
import type { Numbered } from "./power_worker.ts";

const PAGE = 4096;
const SEGMENTS_BYTES = 16 << 10;
const FLUSH_EVERY_COUNT = 20;

/** One file, whatever its name: an inode's number is used again. */
function fileOf(stat: fs.Stats): string {
  return `${stat.ino} ${stat.birthtimeMs}`;
}

interface Mapped {
  readonly file: string;
  readonly address: number;
  readonly byteLength: number;
}

/** A disk that has what was synced, and by chance more. */
class ModelDisk {
  readonly #folder: string;
  readonly #chance: () => number;
  /** By file: the content on the disk, as far as it is there. */
  readonly #files = new Map<string, Uint8Array>();
  /** The names on the disk. */
  #names = new Map<string, string>();
  readonly #mapped: Mapped[] = [];
  readonly #original: Pick<NativeFunctions, "hf_map" | "hf_sync" | "hf_sync_file">;
  /** With this, syncs do nothing at all. */
  lying = false;
  syncs = 0;

  constructor(folder: string, chance: () => number) {
    this.#folder = folder;
    this.#chance = chance;
    const hf = native() as { -readonly [Name in keyof NativeFunctions]: NativeFunctions[Name] };
    const { hf_map, hf_sync, hf_sync_file } = hf;
    this.#original = { hf_map, hf_sync, hf_sync_file };
    hf.hf_map = (fd, offset, length, flags, address) => {
      const result = hf_map(fd, offset, length, flags, address);
      if (result > 0 && fd >= 0) {
        // An address may be used again.
        const old = this.#mapped.findIndex((mapped) => mapped.address === result);
        if (old >= 0) this.#mapped.splice(old, 1);
        this.#mapped.push({ file: fileOf(fs.fstatSync(fd)), address: result, byteLength: length });
      }
      return result;
    };
    hf.hf_sync = (address, length, wait) => {
      const mapped = this.#mapped.findLast((other) => address >= other.address && address < other.address + other.byteLength);
      if (mapped === undefined) throw new Error("a sync of what is not mapped");
      const start = address - mapped.address;
      this.#written(mapped.file, start, Math.ceil((start + length) / PAGE) * PAGE);
      return hf_sync(address, length, wait);
    };
    hf.hf_sync_file = (fd) => {
      const stat = fs.fstatSync(fd);
      if (stat.isDirectory()) this.#named();
      else this.#written(fileOf(stat), 0, stat.size);
      return 0;
    };
  }

  /** The native functions are what they were. */
  restore(): void {
    Object.assign(native(), this.#original);
  }

  /** The files of the folder are on the disk as they are. */
  settle(): void {
    const lying = this.lying;
    this.lying = false;
    this.#named();
    for (const [name, file] of this.#names) this.#written(file, 0, fs.statSync(join(this.#folder, name)).size);
    this.lying = lying;
  }

  /** The kernel writes back some pages. */
  writeBack(part: number): void {
    for (const { name, content } of this.#now()) {
      const disk = this.#room(fileOf(fs.statSync(join(this.#folder, name))), content.byteLength);
      for (let page = 0; page < content.byteLength; page += PAGE) {
        if (this.#chance() < part) disk.set(content.subarray(page, page + PAGE), page);
      }
    }
    if (this.#chance() < 0.1) this.#names = this.#present();
  }

  /** Writes what a cut leaves into `folder`. */
  cut(folder: string): void {
    const lying = this.lying;
    const part = this.#chance();
    this.writeBack(part);
    this.lying = lying;
    const present = this.#present();
    const names = new Map(this.#names);
    for (const [name, file] of present) if (this.#chance() < 0.5) names.set(name, file);
    for (const name of this.#names.keys()) if (!present.has(name) && this.#chance() < 0.5) names.delete(name);
    fs.mkdirSync(folder);
    for (const [name, file] of names) fs.writeFileSync(join(folder, name), this.#files.get(file) ?? new Uint8Array());
  }

  #present(): Map<string, string> {
    return new Map(fs.readdirSync(this.#folder).map((name) => [name, fileOf(fs.statSync(join(this.#folder, name)))]));
  }

  *#now(): Generator<{ name: string; content: Uint8Array }> {
    for (const name of fs.readdirSync(this.#folder)) yield { name, content: fs.readFileSync(join(this.#folder, name)) };
  }

  #named(): void {
    this.syncs++;
    if (!this.lying) this.#names = this.#present();
  }

  /** What the disk has of a file, as long as the file is. */
  #room(file: string, byteLength: number): Uint8Array {
    let disk = this.#files.get(file);
    if (disk === undefined || disk.byteLength < byteLength) {
      const longer = new Uint8Array(byteLength);
      if (disk !== undefined) longer.set(disk);
      this.#files.set(file, (disk = longer));
    }
    return disk;
  }

  #written(file: string, start: number, end: number): void {
    this.syncs++;
    if (this.lying) return;
    for (const [name, other] of this.#present()) {
      if (other !== file) continue;
      const content = fs.readFileSync(join(this.#folder, name));
      this.#room(file, content.byteLength).set(content.subarray(start, end), start);
      return;
    }
  }
}

/** A log is read by two groups, by each with one of the two handles. */
export type CutKind = "queue" | "log";
const GROUPS = ["a", "b"];

/** One run of a queue, with a cut at its end. */
function runOnce(kind: CutKind, folder: string, report: CutReport, chance: () => number): void {
  const path = join(folder, "queue");
  const after = join(folder, "after");
  const promises = new Promises();
  // Of a log each group has its own; gone from all of it is what both have taken.
  const own = kind === "log" ? GROUPS.map(() => new Promises()) : [];
  const taken = new Set<string>();
  Queue.open(path, { capacityBytes: SEGMENTS_BYTES, groups: kind === "log" }).close();
  // Creating a group is not what is cut here.
  if (kind === "log") for (const group of GROUPS) Queue.open(path, { group }).close();
  const disk = new ModelDisk(path, chance);
  const mode = report.durability === "lie" ? "each" : report.durability;
  const batch = mode === "batch" ? { flushEveryCount: FLUSH_EVERY_COUNT, flushEveryMs: 100_000 } : {};
  try {
    disk.settle();
    disk.lying = report.durability === "lie";
    const queues = GROUPS.map((group) => Queue.open<Numbered>(path, { durability: mode, ...batch, ...(kind === "log" ? { group } : {}) }));
    const pushed = [0, 0];
    const consuming = chance();
    // In half of the runs all records have one length, so that sums of bytes give nothing away.
    const fixed = chance() < 0.5;
    const steps = 5 + Math.floor(200 * chance());
    const started = performance.timeOrigin;
    const say = (line: string): void => [promises, ...own].forEach((each) => each.add(`${line} ${started}`));
    const sayTaken = (line: string, by: number): void => {
      if (kind === "queue") return say(`${mode === "each" ? "R" : "T"} ${line}`);
      own[by]?.add(`${mode === "each" ? "R" : "T"} ${line} ${started}`);
      if (taken.has(line)) promises.add(`T ${line} ${started}`);
      taken.add(line);
    };
    for (let step = 0; step < steps; step++) {
      const producer = Math.floor(2 * chance());
      const queue = queues[producer] as Queue<Numbered>;
      const what = chance();
      if (what < consuming * 0.5) {
        let value: Numbered | undefined;
        if (what < consuming * 0.25) value = queue.pop();
        else {
          const lease = queue.lease();
          // Some are given back, or are still held when the power goes.
          if (chance() < 0.2) lease?.release();
          else if (chance() < 0.8) (value = lease?.value), lease?.ack();
        }
        if (value !== undefined) sayTaken(`${value[0]} ${value[1]}`, producer);
      } else {
        const count = chance() < 0.2 ? 1 + Math.floor(6 * chance()) : 1;
        const first = (pushed[producer] as number) + 1;
        const values = Array.from({ length: count }, (_, i): Numbered => [producer, first + i, "x".repeat(fixed ? 100 : Math.floor(900 * chance() ** 3))]);
        if (queue.pushMany(values) !== count) throw new Error("the queue is full");
        const last = (pushed[producer] as number) + count;
        pushed[producer] = last;
        if (mode === "each") say(`D ${producer} ${last}`);
        if (mode === "batch") say(`D ${producer} ${last - FLUSH_EVERY_COUNT + 1}`);
      }
      if (chance() < 0.02) {
        queue.flush();
        pushed.forEach((last, i) => say(`D ${i} ${last}`));
      }
      say(`W ${queue.durableSequence}`);
      if (chance() < 0.1) disk.writeBack(chance() ** 2);
    }
    for (const each of [promises, ...own]) each.settle(Infinity);
    disk.cut(after);
    queues.forEach((queue) => queue.close());
  } finally {
    disk.restore();
  }
  judge(report, readDisk(after), promises, 0);
  if (kind === "queue") judgeOpened(report, after, promises, 0);
  own.forEach((each, i) => {
    report.removed += each.removed.size;
    judgeOpened(report, after, each, 0, GROUPS[i]);
  });
}

/** Cuts `cuts` times, with each durability in turn. */
export function pageCuts(kind: CutKind, folder: string, cuts: number, seed: number): CutReport[] {
  const reports = durabilities.map(emptyReport);
  for (let cut = 0; cut < cuts; cut++) {
    const own = fs.mkdtempSync(join(folder, "cut-"));
    const chance = random(seed + cut);
    try {
      runOnce(kind, own, reports[cut % reports.length] as CutReport, chance);
    } catch (error) {
      throw new Error(`${kind}, cut ${cut} of seed ${seed} (${(durabilities[cut % reports.length] as Durability)}): ${(error as Error).stack}`);
    } finally {
      fs.rmSync(own, { recursive: true, force: true });
    }
  }
  return reports;
}

if (import.meta.main) {
  const [cuts = 200, seed = Date.now() % 1_000_000] = process.argv.slice(2).map(Number);
  const folder = fs.mkdtempSync(join(os.tmpdir(), "holdfast-power-"));
  try {
    for (const kind of ["queue", "log"] as const) {
      const reports = pageCuts(kind, folder, cuts, seed);
      console.log(`${kind}, seed ${seed}`);
      console.table(reports);
      if (reports.some((report) => report.cuts > 0 && violations(report) > 0 !== (report.durability === "lie"))) process.exitCode = 1;
    }
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}
