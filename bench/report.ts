/** What the benchmarks say at the end: where they ran, and the table. */
import { spawnSync } from "node:child_process";
import { readFileSync, realpathSync } from "node:fs";
import os from "node:os";
import Table from "cli-table3";
import { executableOf } from "./child.ts";
import { type Goal, runtimes, type Subject, subjectTitles, workloads } from "./workloads.ts";

/** Where the figures come from. */
export interface Machine {
  readonly cpu: string;
  readonly cpus: number;
  readonly kernel: string;
  /** Type of the file system that the mapped files are on. */
  readonly fileSystem: string;
  readonly folder: string;
  /** Of the last minute, before the first round: above 0.5 or so, others were at work. */
  readonly loadAverage: number;
  /** By subject; "c" is what compiled the C program. */
  readonly versions: Readonly<Record<string, string>>;
}

/** One subject at one workload; times are nanoseconds of one operation. */
export interface Result {
  readonly workload: string;
  readonly subject: Subject;
  /** In each round. */
  readonly operations: number;
  readonly rounds: readonly number[];
  readonly min: number;
  readonly median: number;
  readonly max: number;
  /** `min` divided by that of "c". */
  readonly ratio: number;
}

export interface Report {
  readonly date: string;
  readonly smoke: boolean;
  readonly machine: Machine;
  readonly results: readonly Result[];
}

export function describeMachine(folder: string, compiler: string): Machine {
  const versions = runtimes.map((runtime) => [runtime, versionOf(runtime)] as const);
  return {
    cpu: os.cpus()[0]?.model.trim() ?? "unknown",
    cpus: os.cpus().length,
    kernel: `${os.type()} ${os.release()} ${os.arch()}`,
    fileSystem: fileSystemOf(folder),
    folder,
    loadAverage: os.loadavg()[0] ?? 0,
    versions: { c: compiler, ...Object.fromEntries(versions) },
  };
}

function versionOf(runtime: (typeof runtimes)[number]): string {
  const result = spawnSync(executableOf(runtime), ["--version"], { encoding: "utf8" });
  const version = /\d+\.\d+\.\d+\S*/.exec(result.stdout ?? "")?.[0];
  if (version === undefined) throw new Error(`${runtime} --version: ${result.error?.message ?? result.stderr}`);
  return version;
}

/** Type of the file system that holds a folder, from the mount point that is nearest above it (proc_pid_mountinfo(5)). */
function fileSystemOf(folder: string): string {
  let text: string;
  try {
    text = readFileSync("/proc/self/mountinfo", "utf8");
  } catch {
    return "unknown";
  }
  const real = realpathSync(folder);
  let best = { point: "", type: "unknown" };
  for (const line of text.split("\n")) {
    const [left = "", right = ""] = line.split(" - ");
    const point = (left.split(" ")[4] ?? "").replace(/\\(\d{3})/g, (_, digits) => String.fromCharCode(parseInt(digits, 8)));
    const above = point === "/" || real === point || real.startsWith(`${point}/`);
    // The later of two at the same place covers the earlier.
    if (point !== "" && above && point.length >= best.point.length) best = { point, type: right.split(" ")[0] ?? "unknown" };
  }
  return best.type;
}

export function summarize(workload: string, subject: Subject, operations: number, rounds: readonly number[], c: readonly number[]): Result {
  const sorted = rounds.toSorted((a, b) => a - b);
  const [min = NaN] = sorted;
  const max = sorted.at(-1) ?? NaN;
  const lower = sorted[(sorted.length - 1) >> 1] ?? NaN;
  const upper = sorted[sorted.length >> 1] ?? NaN;
  const ratio = min / Math.min(...c);
  return { workload, subject, operations, rounds, min, median: (lower + upper) / 2, max, ratio };
}

export function format({ date, smoke, machine, results }: Report): string {
  const { cpu, cpus, kernel, fileSystem, folder, loadAverage, versions } = machine;
  const facts = [
    `${cpu}, ${cpus} CPUs; ${kernel}; ${fileSystem} (${folder}); load average ${loadAverage.toFixed(2)}; ${date.slice(0, 10)}`,
    `Node ${versions.node}, Bun ${versions.bun}, Deno ${versions.deno}; C by ${versions.c}`,
  ];
  const table = new Table({
    head: ["ns per operation", "", "min", "median", "max", "min / C", "goal"],
    colAligns: ["left", "left", "right", "right", "right", "right", "left"],
    // Without colours: the text is the same in a terminal and in a file.
    style: { head: [], border: [], compact: true },
  });
  let last = "";
  for (const result of results) {
    const { workload, subject, min, median, max, ratio } = result;
    const definition = workloads.find(({ name }) => name === workload);
    const goal = definition?.goals?.[subject];
    table.push([
      workload === last ? "" : (definition?.title ?? workload),
      subjectTitles[subject],
      number(min),
      number(median),
      number(max),
      number(ratio),
      goal === undefined ? "" : verdict(judge(goal, result, results), smoke),
    ]);
    last = workload;
  }
  const rounds = results[0]?.rounds.length ?? 0;
  const note = smoke ? "Smoke sizes: the figures mean nothing." : `${rounds} rounds, each through all subjects of a line in turn.`;
  return [...facts, table.toString(), note].join("\n");
}

/** A goal in words, and whether the median reached it: that of the rounds, or of their ratios where another way is beside it. Undefined where it can't be said. */
export function judge(goal: Goal, { workload, subject }: Pick<Result, "workload" | "subject">, results: readonly Result[]): { text: string; met: boolean | undefined } {
  const find = (name: string, who: string): Result | undefined => results.find((one) => one.workload === name && one.subject === who);
  const own = find(workload, subject);
  const against = (text: string, limit: number | undefined) => ({ text, met: own === undefined || limit === undefined ? undefined : own.median <= limit });
  if ("ns" in goal) return against(`≤ ${goal.ns} ns`, goal.ns);
  const { ratio, to, beside } = goal;
  if (beside !== undefined) {
    const other = `${subject}-${beside}` as Subject;
    const theirs = find(workload, other);
    const text = `≤ ${ratio}× ${subjectTitles[other]}`;
    if (own === undefined || theirs === undefined) return { text, met: undefined };
    const { median } = summarize(workload, subject, 0, own.rounds.map((time, i) => time / (theirs.rounds[i] ?? NaN)), [1]);
    return { text: `${text}, round by round ${number(median)}`, met: median <= ratio };
  }
  const other = to === undefined ? find(workload, "c") : find(to, subject);
  const name = to === undefined ? "C" : (workloads.find((one) => one.name === to)?.title ?? to);
  return against(`≤ ${ratio}× ${name}`, other && ratio * other.median);
}

function verdict({ text, met }: { text: string; met: boolean | undefined }, smoke: boolean): string {
  return smoke || met === undefined ? text : `${text}: ${met ? "met" : "missed"}`;
}

/** Three digits that say something. */
export function number(value: number): string {
  if (value >= 100) return Math.round(value).toLocaleString("en-US");
  return value.toFixed(value >= 10 ? 1 : 2);
}
