/**
 * The kill storm of a log: producers push numbered records, the consumers of two groups lease, write down and acknowledge them, and all the
 * while random ones are killed and started again. Each group is judged by itself.
 */
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Queue } from "../../mod.ts";
import { commandLine, type RuntimeName } from "../support/runtimes.ts";
import { judge, noteUnsure, random, type StormReport } from "./storm.ts";

export interface GroupsStormOptions {
  readonly folder: string;
  /** Records of each producer. */
  readonly records: number;
  /** Most kills. */
  readonly kills: number;
  readonly producers: readonly RuntimeName[];
  /** By group. */
  readonly consumers: Readonly<Record<string, readonly RuntimeName[]>>;
  readonly seed: number;
}

const PRODUCER = fileURLToPath(new URL("worker.ts", import.meta.url));
const CONSUMER = fileURLToPath(new URL("groups_worker.ts", import.meta.url));

export async function groupsStorm(options: GroupsStormOptions): Promise<Omit<StormReport, "seconds" | "terminated"> & { files: number }> {
  const { folder, records, producers, consumers } = options;
  const path = join(folder, "log");
  const names = Object.keys(consumers);
  // Small segments, so that many end.
  using log = Queue.open(path, { groups: true, capacityBytes: 16_384 });
  for (const group of names) Queue.open(path, { group }).close();
  const chance = random(options.seed);
  const living = new Set<ChildProcess>();
  const gone: Promise<unknown>[] = [];
  const producing = new Set<number>();
  const unsure = new Set<string>();
  let over = false;
  let kills = 0;
  let failures = 0;
  let ledgers = 0;
  const start = (runtime: RuntimeName, script: string, args: string[], again: () => void, done?: () => void): void => {
    const child = spawn(...commandLine(runtime, script, ...args), { stdio: ["ignore", "inherit", "inherit"] });
    living.add(child);
    gone.push(new Promise((resolve) => child.on("close", resolve)));
    child.on("exit", (code, signal) => {
      living.delete(child);
      if (over) return;
      if (signal === "SIGKILL") again();
      else {
        if (code !== 0) failures++;
        done?.();
      }
    });
  };
  const produce = (runtime: RuntimeName, producer: number): void => {
    const ledger = join(folder, `pushed-${producer}`);
    const again = (): void => {
      noteUnsure(ledger, producer, unsure);
      produce(runtime, producer);
    };
    producing.add(producer);
    start(runtime, PRODUCER, ["produce", path, ledger, String(producer), String(records)], again, () => producing.delete(producer));
  };
  const consume = (runtime: RuntimeName, group: string): void => {
    fs.mkdirSync(join(folder, group), { recursive: true });
    start(runtime, CONSUMER, [path, join(folder, group, `processed-${ledgers++}`), group], () => consume(runtime, group));
  };
  producers.forEach(produce);
  for (const group of names) consumers[group]?.forEach((runtime) => consume(runtime, group));
  const began = performance.now();
  try {
    while (producing.size > 0 || log.groups().some(({ length }) => length > 0)) {
      if (performance.now() - began > 120_000) throw new Error(`the storm did not end: ${JSON.stringify(log.groups())}`);
      await new Promise((resolve) => setTimeout(resolve, 50 + 250 * chance()));
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
  const reports = names.map((group) => judge(join(folder, group), options, unsure));
  const sum = (of: (report: (typeof reports)[number]) => number): number => reports.reduce((total, report) => total + of(report), 0);
  return {
    records: records * producers.length,
    kills,
    failures,
    lost: sum(({ lost }) => lost),
    redelivered: sum(({ redelivered }) => redelivered),
    doubledWithoutDeath: sum(({ doubledWithoutDeath }) => doubledWithoutDeath),
    outOfOrder: sum(({ outOfOrder }) => outOfOrder),
    files: fs.readdirSync(path).length,
  };
}
