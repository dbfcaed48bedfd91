/**
 * Power cuts: programs push, take, and write down outside the disk what they were promised; then the file system is shut down under them as
 * if the power was gone (EXT4_IOC_SHUTDOWN without a flush of its journal), is mounted again, and every promise is looked up.
 *
 * From the shell, as root: node tests/crash/power.ts [ROUNDS] [SEED]. The simulated ones of any machine are in power_pages.ts.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { BOOT, BOOT_BYTES } from "../../lib/layout/queue.ts";
import { Queue } from "../../mod.ts";
import { commandLine, type RuntimeName, runtimeNames } from "../support/runtimes.ts";
import { type OnDisk, readDisk } from "./power_disk.ts";
import { random } from "./power_random.ts";
import type { Numbered } from "./power_worker.ts";

const WORKER = fileURLToPath(new URL("power_worker.ts", import.meta.url));
/** A repair writes the records anew beside the old files. */
const IMAGE_BYTES: number = 192 << 20;
const SEGMENTS_BYTES = 64 << 10;

/** "lie": "each" with a sync that does nothing, which has to be found out. */
export type Durability = "process" | "batch" | "each" | "lie";
export const durabilities: readonly Durability[] = ["each", "batch", "process", "lie"];

/** What the cuts of one durability came to. */
export interface CutReport {
  readonly durability: Durability;
  cuts: number;
  /** Records that were found whole. */
  found: number;
  /** Promises that were looked up: records said to be on storage. */
  promised: number;
  /** Of those: neither found nor taken. */
  lost: number;
  /** Sequences below the watermark that are neither there nor taken. */
  lostBelowMark: number;
  /** Records said to be removed on storage that the disk would hand out again. */
  removed: number;
  handedOutAgain: number;
  /** Queues that had to be recovered when they were opened again, and promised records that were not handed out then. */
  recovered: number;
  lostAtOpen: number;
  /** Queues that did not work after that. */
  unusable: number;
  /** A producer's numbers that were found twice, or in another order than they were pushed. */
  doubled: number;
  outOfOrder: number;
  /** Records pushed behind what was promised that came back as well. */
  beyond: number;
}

export function emptyReport(durability: Durability): CutReport {
  return { durability, cuts: 0, found: 0, promised: 0, lost: 0, lostBelowMark: 0, removed: 0, handedOutAgain: 0, recovered: 0, lostAtOpen: 0, unusable: 0, doubled: 0, outOfOrder: 0, beyond: 0 };
}

/** What must be 0. */
export function violations({ lost, lostAtOpen, unusable, lostBelowMark, handedOutAgain, doubled, outOfOrder }: CutReport): number {
  return lost + lostAtOpen + unusable + lostBelowMark + handedOutAgain + doubled + outOfOrder;
}

/** Why there can be no real cuts here; undefined if there can. */
export function cutRefusal(): string | undefined {
  if (process.getuid?.() !== 0) return "needs root, to mount an image";
  for (const tool of ["mkfs.ext4", "losetup", "python3"]) {
    if (spawnSync(tool, ["--version"]).error !== undefined) return `there is no ${tool}`;
  }
  const folder = fs.mkdtempSync(join(os.tmpdir(), "holdfast-power-"));
  try {
    const disk = new Disk(folder);
    try {
      disk.mount();
      disk.cut();
      return undefined;
    } finally {
      disk.unmount();
    }
  } catch (error) {
    return `an image can't be mounted and shut down here: ${(error as Error).message}`;
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

function run(command: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${command}: ${error?.message ?? stderr.trim()}`);
  return stdout;
}

/** A file system in a file, whose power can be cut. */
export class Disk {
  /** Where it is mounted. */
  readonly path: string;
  readonly #image: string;
  readonly #folder: string;

  constructor(folder: string, bytes: number = IMAGE_BYTES) {
    this.#folder = folder;
    this.#image = join(folder, "image");
    this.path = join(folder, "disk");
    fs.mkdirSync(this.path);
    fs.writeFileSync(this.#image, "");
    fs.truncateSync(this.#image, bytes);
    run("mkfs.ext4", "-q", "-F", "-m", "0", this.#image);
  }

  mount(): void {
    run("mount", "-o", "loop", this.#image, this.path);
    this.#assertOwn();
  }

  /**
   * Nothing that was not on storage by now will be. Returns the time just before. Calls that are under way may still return, and say what they
   * like: ext4 reports a sync as done that met the shutdown half-way. So no promise counts that is not older.
   */
  cut(): number {
    this.#assertOwn();
    // EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH (fs/ext4/ext4.h).
    const script = `
import fcntl,os,struct,sys,time
fd = os.open(sys.argv[1], os.O_RDONLY)
now = time.time()
fcntl.ioctl(fd, 0x8004587d, struct.pack('I', 2))
print(int(now * 1000))`;
    return Number(run("python3", "-c", script, this.path));
  }

  unmount(): void {
    for (let attempt = 0; this.#mounted; attempt++) {
      const { status, stderr } = spawnSync("umount", [this.path], { encoding: "utf8" });
      if (status === 0) return;
      if (attempt === 100) throw new Error(stderr);
      spawnSync("sleep", ["0.02"]);
    }
  }

  get #mounted(): boolean {
    return fs.statSync(this.path).dev !== fs.statSync(this.#folder).dev;
  }

  /** Never shut down, or fill, the file system that everything else is on. */
  #assertOwn(): void {
    if (!this.#mounted) throw new Error(`'${this.path}' is not mounted`);
  }
}

/** What children were promised. */
export class Promises {
  /** By producer: the highest number said to be on storage. */
  readonly durable: Map<number, number> = new Map();
  mark = 0;
  readonly taken: Set<string> = new Set();
  /** Of those: said to be removed on storage. */
  readonly removed: Set<string> = new Set();
  readonly errors: string[] = [];
  readonly #lines: string[] = [];

  add(line: string): void {
    this.#lines.push(line);
  }

  /** Takes what was said before `time`, and at any time of what was taken. */
  settle(time: number): void {
    for (const line of this.#lines) this.#settle(line, time);
  }

  #settle(line: string, time: number): void {
    const [kind, ...rest] = line.split(" ");
    const said = Number(rest.pop());
    const [a = 0, b = 0] = rest.map(Number);
    if (kind === "T" || kind === "R") this.taken.add(`${a} ${b}`);
    if (kind === "E") this.errors.push(rest.join(" "));
    if (said >= time) return;
    if (kind === "D") this.durable.set(a, Math.max(b, this.durable.get(a) ?? 0));
    else if (kind === "W") this.mark = Math.max(this.mark, a);
    else if (kind === "R") this.removed.add(`${a} ${b}`);
  }
}

/** Adds to `report` what became of the promises. `taken`: how many records may be on their way to a consumer that said nothing yet. */
export function judge(report: CutReport, { records, cursor = 1, leased }: OnDisk, promises: Promises, taken: number): void {
  const sequences = new Map<string, number>();
  const last = new Map<number, number>();
  let onTheWay = taken;
  for (const [sequence, { value }] of [...records].sort(([a], [b]) => a - b)) {
    const [producer, number] = value as [number, number];
    const key = `${producer} ${number}`;
    if (sequences.has(key)) report.doubled++;
    sequences.set(key, sequence);
    if (number <= (last.get(producer) ?? 0)) report.outOfOrder++;
    last.set(producer, number);
    if (number > (promises.durable.get(producer) ?? 0)) report.beyond++;
    // Removed, as the disk has it, but given to nobody. With "each" a lease is on storage before the cursor has passed the record; otherwise the
    // two may be of different moments, and opening has to find out.
    else if (report.durability === "each" && sequence < cursor && !leased.has(sequence) && !promises.taken.has(key) && onTheWay-- <= 0) report.lost++;
  }
  for (const [producer, highest] of promises.durable) {
    for (let number = 1; number <= highest; number++) {
      report.promised++;
      const key = `${producer} ${number}`;
      if (!sequences.has(key) && !promises.taken.has(key) && onTheWay-- <= 0) report.lost++;
    }
  }
  // Of segments that were given up, nothing is left; that of those that were taken may be on storage before it is known who took them.
  if (promises.taken.size === 0) for (let sequence = cursor; sequence <= promises.mark; sequence++) if (!records.has(sequence)) report.lostBelowMark++;
  for (const key of promises.removed) {
    report.removed++;
    const sequence = sequences.get(key);
    if (sequence !== undefined && (sequence >= cursor || leased.has(sequence))) report.handedOutAgain++;
  }
  report.found += records.size;
  report.cuts++;
}

/** What a queue hands out that is opened after a cut, or a log to a group, held to the same promises. */
export function judgeOpened(report: CutReport, path: string, promises: Promises, taken: number, group?: string): void {
  try {
    consumeAll(report, path, promises, taken, group);
  } catch (error) {
    report.unusable++;
    if (report.durability !== "lie") console.error(`# ${report.durability}, cut ${report.cuts}: ${(error as Error).stack}`);
  }
}

function consumeAll(report: CutReport, path: string, promises: Promises, taken: number, group: string | undefined): void {
  anotherBoot(path);
  using queue = Queue.open<Numbered>(path, group === undefined ? {} : { group });
  if (queue.recovered !== undefined) report.recovered++;
  const seen = new Set<string>();
  const last = new Map<number, number>();
  for (let lease = queue.lease(); lease !== undefined; lease = queue.lease()) {
    const [producer, number] = lease.value;
    const key = `${producer} ${number}`;
    if (seen.has(key)) report.doubled++;
    seen.add(key);
    if (promises.removed.has(key)) report.handedOutAgain++;
    if (number <= (last.get(producer) ?? 0)) report.outOfOrder++;
    last.set(producer, number);
    lease.ack();
  }
  let onTheWay = taken;
  for (const [producer, highest] of promises.durable) {
    for (let number = 1; number <= highest; number++) {
      const key = `${producer} ${number}`;
      if (!seen.has(key) && !promises.taken.has(key) && onTheWay-- <= 0) report.lostAtOpen++;
    }
  }
  if (!queue.push([-1, 1, ""]) || queue.pop()?.[0] !== -1) throw new Error(`'${path}' does not work after the cut`);
}

/** Has the control file say that it was written in another boot of the machine. */
export function anotherBoot(path: string): void {
  const fd = fs.openSync(join(path, "control"), "r+");
  fs.writeSync(fd, new Uint8Array(BOOT_BYTES).fill(0xee), 0, BOOT_BYTES, BOOT);
  fs.closeSync(fd);
}

/** One real power cut. */
export async function cutOnce(disk: Disk, report: CutReport, consumer: "pop" | "lease" | undefined, runtimes: readonly RuntimeName[], afterMs: number): Promise<void> {
  disk.mount();
  const path = join(disk.path, "queue");
  fs.rmSync(path, { recursive: true, force: true });
  Queue.open(path, { capacityBytes: SEGMENTS_BYTES }).close();
  const promises = new Promises();
  const living = new Set<ChildProcess>();
  const gone: Promise<unknown>[] = [];
  const errors: string[] = [];
  let time = Infinity;
  let started: (() => void) | undefined;
  const going = new Promise<void>((resolve) => (started = resolve));
  const start = (role: string, id: number): void => {
    const runtime = runtimes[id % runtimes.length] as RuntimeName;
    const child = spawn(...commandLine(runtime, WORKER, role, path, report.durability, String(id)), { stdio: ["ignore", "pipe", "pipe"] });
    living.add(child);
    let rest = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        promises.add(line);
        // However slow the disk is: there is something to be looked up.
        if (/^D \d+ [1-9]/.test(line)) started?.();
      }
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => errors.push(text));
    gone.push(new Promise((resolve) => child.on("close", resolve)));
  };
  try {
    start("push", 0);
    start("push", 1);
    if (consumer !== undefined) start(consumer, 2);
    await Promise.race([going, Promise.all(gone)]);
    await new Promise((resolve) => setTimeout(resolve, afterMs));
    time = disk.cut();
  } finally {
    await new Promise((resolve) => setTimeout(resolve, 5));
    for (const child of living) child.kill("SIGKILL");
    await Promise.all(gone);
    disk.unmount();
  }
  promises.settle(time);
  if (errors.length > 0) throw new Error(`a child failed: ${errors.join("")}`);
  const odd = promises.errors.filter((error) => !/^(ERR_DURABILITY|EIO|EROFS|EFAULT|ERR_FAULT|ERR_CORRUPT) /.test(error));
  if (odd.length > 0) throw new Error(`a child met ${odd.join("; ")}`);
  disk.mount();
  try {
    const taken = consumer === undefined ? 0 : 1;
    judge(report, readDisk(path), promises, taken);
    judgeOpened(report, path, promises, taken);
  } finally {
    disk.unmount();
  }
}

/** Cuts the power `rounds` times, with each durability in turn. */
export async function cuts(folder: string, rounds: number, seed: number): Promise<CutReport[]> {
  const chance = random(seed);
  const reports = durabilities.map(emptyReport);
  const disk = new Disk(folder);
  for (let round = 0; round < rounds; round++) {
    const report = reports[round % reports.length] as CutReport;
    const consumer = [undefined, "pop", "lease"][Math.floor(chance() * 3)] as "pop" | "lease" | undefined;
    const first = Math.floor(chance() * 3);
    const runtimes = runtimeNames.map((_, i) => runtimeNames[(first + i) % 3] as RuntimeName);
    await cutOnce(disk, report, consumer, runtimes, 20 + 400 * chance());
  }
  return reports;
}

if (import.meta.main) {
  const [rounds = 30, seed = Date.now() % 1_000_000] = process.argv.slice(2).map(Number);
  const refusal = cutRefusal();
  if (refusal !== undefined) {
    console.error(`no power can be cut: ${refusal}`);
    process.exit(1);
  }
  const folder = fs.mkdtempSync(join(os.tmpdir(), "holdfast-power-"));
  process.on("uncaughtException", (error) => {
    console.error(error);
    process.exitCode = 1;
  });
  try {
    const reports = await cuts(folder, rounds, seed);
    console.log(`seed ${seed}`);
    console.table(reports);
    const wrong = reports.filter((report) => report.cuts > 0 && violations(report) > 0 !== (report.durability === "lie"));
    for (const { durability } of wrong) console.error(`${durability}: ${durability === "lie" ? "not found out" : "a promise was broken"}`);
    if (wrong.length > 0) process.exitCode = 1;
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}
