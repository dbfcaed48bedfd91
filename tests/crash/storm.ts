/**
 * The kill storm: producers push numbered records, consumers lease, write down and acknowledge them, and all the while random
 * ones are killed and started again. Part of them work in Workers, which their processes terminate as well.
 *
 * From the shell: node tests/crash/storm.ts RECORDS KILLS [SEED]   (RECORDS of each producer; ends when all are through)
 */
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Counters, Queue } from "../../mod.ts";
import { commandLine, type RuntimeName } from "../support/runtimes.ts";
import { unsureOf } from "./worker.ts";

export interface StormOptions {
  readonly folder: string;
  /** Records of each producer. */
  readonly records: number;
  /** Most kills. */
  readonly kills: number;
  readonly producers: readonly RuntimeName[];
  readonly consumers: readonly RuntimeName[];
  readonly seed: number;
  /** Whether each second child does its work in Workers that it terminates. */
  readonly hosts?: boolean;
}

export interface StormReport {
  readonly records: number;
  readonly kills: number;
  /** Workers that were terminated while their process lived. */
  readonly terminated: number;
  /** Acknowledged by push(), never seen by a consumer. */
  readonly lost: number;
  /** Seen more than once because a consumer died with it. */
  readonly redelivered: number;
  /** Seen more than once although no consumer died with it and no producer died while pushing it. */
  readonly doubledWithoutDeath: number;
  /** First deliveries that a consumer got in another order than their producer pushed them. */
  readonly outOfOrder: number;
  /** Children that ended by themselves with an error. */
  readonly failures: number;
  readonly seconds: number;
}

/** A storm that lasts longer hangs. */
const LONGEST_MS = 1_800_000;

const WORKER = fileURLToPath(new URL("worker.ts", import.meta.url));

/** Numbers in 0..1 from a seed (mulberry32). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export async function storm(options: StormOptions): Promise<StormReport> {
  const { folder, records, producers, consumers } = options;
  const path = join(folder, "queue");
  using queue = Queue.open(path);
  const chance = random(options.seed);
  const living = new Set<ChildProcess>();
  const gone: Promise<unknown>[] = [];
  const producing = new Set<number>();
  // Numbers that a producer was about to push when it was killed: it may push them again.
  const unsure = new Set<string>();
  let over = false;
  let kills = 0;
  let failures = 0;
  let ledgers = 0;
  let started = 0;
  const start = (runtime: RuntimeName, producer: number | undefined): void => {
    const args = producer === undefined
      ? ["consume", path, join(folder, `processed-${ledgers++}`)]
      : ["produce", path, join(folder, `pushed-${producer}`), String(producer), String(records)];
    // Node 26.10 can crash when a Worker ends whose native calls are being compiled (docs/caveats.md): its hosts do without fast calls.
    const hosted = options.hosts === true && started++ % 2 === 1;
    const role = hosted ? ["host", folder, String(1 + Math.floor(chance() * 1e9)), ...args] : args;
    const [exe, line] = commandLine(runtime, WORKER, ...role);
    const child = spawn(exe, hosted && runtime === "node" ? ["--no-turbo-fast-api-calls", ...line] : line, { stdio: ["ignore", "inherit", "inherit"] });
    living.add(child);
    if (producer !== undefined) producing.add(producer);
    gone.push(new Promise((resolve) => child.on("close", resolve)));
    child.on("exit", (code, signal) => {
      living.delete(child);
      if (over) return;
      if (signal === "SIGKILL") {
        if (producer !== undefined) noteUnsure(join(folder, `pushed-${producer}`), producer, unsure);
        start(runtime, producer);
        return;
      }
      if (code !== 0) failures++;
      if (producer !== undefined) producing.delete(producer);
    });
  };
  producers.forEach((runtime, i) => start(runtime, i));
  consumers.forEach((runtime) => start(runtime, undefined));
  const began = performance.now();
  try {
    while (producing.size > 0 || !queue.isEmpty) {
      if (performance.now() - began > LONGEST_MS) throw new Error(`the storm did not end: ${queue.length} records are left`);
      await new Promise((resolve) => setTimeout(resolve, 5 + 40 * chance()));
      if (kills >= options.kills) continue;
      const victims = [...living];
      victims[Math.floor(chance() * victims.length)]?.kill("SIGKILL");
      kills++;
    }
  } finally {
    over = true;
    for (const child of living) child.kill("SIGKILL");
    await Promise.all(gone);
  }
  const seconds = (performance.now() - began) / 1000;
  const terminated = readHosts(folder, unsure);
  return { records: records * producers.length, kills, terminated, failures, seconds, ...judge(folder, options, unsure) };
}

export function noteUnsure(ledger: string, producer: number, unsure: Set<string>): void {
  for (const number of unsureOf(ledger)) unsure.add(`${producer} ${number}`);
}

/** What hosts have noted, and how many Workers they have terminated. */
function readHosts(folder: string, unsure: Set<string>): number {
  for (const name of fs.readdirSync(folder).filter((file) => file.startsWith("unsure-"))) {
    for (const line of fs.readFileSync(join(folder, name), "utf8").split("\n").slice(0, -1)) unsure.add(line);
  }
  if (!fs.existsSync(join(folder, "counters"))) return 0;
  using counters = Counters.open(join(folder, "counters"), { mode: "r" });
  return counters.get("terminated");
}

export function judge(folder: string, { records, producers }: Pick<StormOptions, "records" | "producers">, unsure: ReadonlySet<string>): Pick<StormReport, "lost" | "redelivered" | "doubledWithoutDeath" | "outOfOrder"> {
  /** By record: the attempts of its deliveries. */
  const deliveries = new Map<string, number[]>();
  let outOfOrder = 0;
  for (const name of fs.readdirSync(folder).filter((file) => file.startsWith("processed-"))) {
    const last = new Map<number, number>();
    for (const line of fs.readFileSync(join(folder, name), "utf8").split("\n").slice(0, -1)) {
      const [producer = -1, number = -1, attempts = -1] = line.split(" ").map(Number);
      const key = `${producer} ${number}`;
      const seen = deliveries.get(key);
      if (seen === undefined) deliveries.set(key, [attempts]);
      else seen.push(attempts);
      if (attempts > 1 || unsure.has(key)) continue;
      if ((last.get(producer) ?? -1) > number) outOfOrder++;
      last.set(producer, number);
    }
  }
  let lost = 0;
  let redelivered = 0;
  let doubledWithoutDeath = 0;
  for (let producer = 0; producer < producers.length; producer++) {
    for (let number = 0; number < records; number++) {
      const key = `${producer} ${number}`;
      const attempts = deliveries.get(key) ?? [];
      if (attempts.length === 0) lost++;
      if (attempts.some((attempt) => attempt > 1)) redelivered++;
      const firsts = attempts.filter((attempt) => attempt === 1).length;
      if (firsts > 1 && !unsure.has(key)) doubledWithoutDeath++;
    }
  }
  return { lost, redelivered, doubledWithoutDeath, outOfOrder };
}

if (import.meta.main) {
  const [records = 20_000, kills = 50, seed = Date.now() % 1_000_000] = process.argv.slice(2).map(Number);
  const folder = fs.mkdtempSync(join(os.tmpdir(), "holdfast-storm-"));
  try {
    const all: RuntimeName[] = ["node", "bun", "deno"];
    const report = await storm({ folder, records, kills, producers: all, consumers: all, seed, hosts: true });
    console.log({ seed, ...report });
    if (report.lost + report.doubledWithoutDeath + report.outOfOrder + report.failures > 0) process.exitCode = 1;
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}
