/**
 * The queue between processes: `npm run bench:queue`. Producers and consumers of one runtime on one queue, 64 bytes, codec "bytes",
 * durability "process". Rounds go through the runtimes in turn. README.md says what is measured.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { build, buildBench } from "../scripts/build.ts";
import { Child, killChildren, scriptOf } from "./child.ts";
import { describeMachine, type Machine } from "./report.ts";
import { payload, type Runtime, runtimes } from "./workloads.ts";

export const RECORD_BYTES = 64;

/** What a member is asked to do. */
export interface Task {
  readonly records: number;
  readonly batch: number;
  readonly producer: number;
  readonly perSecond: number;
  /** Whether there is one consumer: then nothing may be missing from what it gets. */
  readonly alone: boolean;
}

/** What it answers: times in milliseconds on one clock, and microseconds of the p50, p99 and p99.9. */
export interface Figures {
  readonly start: number;
  readonly end: number;
  readonly received: number;
  readonly latencies?: readonly number[];
}

export interface Pipeline {
  readonly name: string;
  readonly title: string;
  readonly producers: number;
  readonly consumers: number;
  readonly batch: number;
  readonly records: number;
  /** Records a second, where they come at a steady rate and what counts is how soon they arrive. */
  readonly perSecond?: number;
  /** Millions of records a second. */
  readonly goals: Partial<Readonly<Record<Runtime, number>>>;
}

/** Microseconds of the p50 and the p99 of a wake. */
export const WAKE_GOALS = [40, 400] as const;

/** Who does the work. C only wakes, and is woken: the least that there is, one futex(2). */
export type Subject = Runtime | "c";

/** One subject at one pipeline. */
export interface Result {
  readonly pipeline: string;
  readonly subject: Subject;
  /** Of each round: millions of records a second; or, of what comes at a steady rate, the microseconds of the p50, p99 and p99.9. */
  readonly rounds: readonly (readonly number[])[];
  /** The median of each. */
  readonly medians: readonly number[];
}

export interface Report {
  readonly date: string;
  readonly smoke: boolean;
  readonly machine: Machine;
  readonly results: readonly Result[];
}

export const pipelines: readonly Pipeline[] = [
  { name: "1-1", title: "1 producer, 1 consumer", producers: 1, consumers: 1, batch: 1, records: 2_000_000, goals: { bun: 4.5, deno: 4, node: 3 } },
  { name: "1-1-100", title: "the same, pushMany and popMany of 100", producers: 1, consumers: 1, batch: 100, records: 4_000_000, goals: { bun: 10, deno: 8, node: 10 } },
  { name: "2-2", title: "2 producers, 2 consumers", producers: 2, consumers: 2, batch: 1, records: 1_000_000, goals: { bun: 3.8, deno: 1.6 } },
  { name: "wake-1k", title: "wake, 1,000 a second", producers: 1, consumers: 1, batch: 1, records: 2_000, perSecond: 1_000, goals: {} },
  { name: "wake-10k", title: "wake, 10,000 a second", producers: 1, consumers: 1, batch: 1, records: 10_000, perSecond: 10_000, goals: {} },
];

const help = `Usage: npm run bench:queue -- [options]

Measures the queue between processes of each runtime.

  --rounds N    rounds that are measured (default 5)
  --only NAME   only pipelines whose name contains NAME (repeatable): ${pipelines.map(({ name }) => name).join(", ")}
  --json FILE   also write all figures to FILE
  --smoke       tiny sizes: shows that all of it works, the figures mean nothing
  --help        print this text
`;

/** Whether processes can be kept to a CPU each. */
const canPin: boolean = os.availableParallelism() > 1 && spawnSync("taskset", ["-c", "0", "true"]).status === 0;

/** The members of a pipeline in one runtime, on a queue of their own. */
class Crew {
  readonly subject: Subject;
  readonly #pipeline: Pipeline;
  readonly #producers: readonly Child[];
  readonly #consumers: readonly Child[];

  constructor(pipeline: Pipeline, subject: Subject, folder: string, program: string) {
    this.subject = subject;
    this.#pipeline = pipeline;
    const own = path.join(folder, `${pipeline.name}-${subject}`);
    mkdirSync(own);
    const paced = pipeline.perSecond !== undefined;
    const commandOf = (role: string): [exe: string, args: string[]] => {
      if (subject !== "c") return scriptOf(subject, "member.ts", role, own);
      return [program, [`wake-${role}`, own, Buffer.from(payload).toString("hex"), String(pipeline.perSecond), ""]];
    };
    const start = (role: string, cpu?: number): Child => {
      const [exe, args] = commandOf(role);
      const what = `${role} of ${pipeline.name} in ${subject}`;
      return cpu === undefined || !canPin ? new Child(what, exe, args) : new Child(what, "taskset", ["-c", String(cpu), exe, ...args]);
    };
    // What paces spins between two records: on the consumer's CPU it would be measured how long the scheduler lets it.
    this.#producers = Array.from({ length: pipeline.producers }, () => (paced ? start("pace", 1) : start("produce")));
    this.#consumers = Array.from({ length: pipeline.consumers }, () => (paced ? start("hear", 0) : start("consume")));
  }

  async ready(): Promise<void> {
    for (const member of [...this.#producers, ...this.#consumers]) await member.ready();
  }

  /** One round: millions of records a second, or the microseconds of a wake. */
  async round(records: number): Promise<number[]> {
    const { batch, perSecond, producers, consumers } = this.#pipeline;
    if (this.subject === "c") {
      const [heard = ""] = await Promise.all([...this.#consumers, ...this.#producers].map((member) => member.ask(String(records))));
      return heard.split(" ").map((ns) => Number(ns) / 1000);
    }
    const ask = async (member: Child, producer: number): Promise<Figures> => {
      const task: Task = { records, batch, producer, perSecond: perSecond ?? 0, alone: consumers === 1 };
      return JSON.parse(await member.ask(JSON.stringify(task))) as Figures;
    };
    const received = Promise.all(this.#consumers.map((member) => ask(member, 0)));
    const produced = await Promise.all(this.#producers.map(ask));
    const consumed = await received;
    const [first] = consumed;
    if (first?.latencies !== undefined) return [...first.latencies];
    const total = consumed.reduce((sum, figures) => sum + figures.received, 0);
    if (total !== records * producers) throw new Error(`${this.#pipeline.name} in ${this.subject}: ${total} of ${records * producers} records came`);
    const ms = Math.max(...consumed.map(({ end }) => end)) - Math.min(...produced.map(({ start }) => start));
    return [total / ms / 1000];
  }

  async close(): Promise<void> {
    for (const member of [...this.#producers, ...this.#consumers]) await member.close();
  }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return ((sorted[(sorted.length - 1) >> 1] as number) + (sorted[sorted.length >> 1] as number)) / 2;
}

function row(pipeline: Pipeline, { subject, rounds, medians }: Result, smoke: boolean): string[] {
  const verdict = (met: boolean, text: string): string => (smoke ? text : `${text}: ${met ? "met" : "missed"}`);
  if (pipeline.perSecond !== undefined) {
    const [p50 = 0, p99 = 0] = medians;
    const goal = verdict(p50 <= WAKE_GOALS[0] && p99 <= WAKE_GOALS[1], `≤ ${WAKE_GOALS.join(" / ")} µs`);
    return [pipeline.title, subject, `${medians.map((us) => us.toFixed(0)).join(" / ")} µs`, `p50 / p99 / p99.9`, subject === "c" ? "" : goal];
  }
  const rates = rounds.map(([rate = 0]) => rate);
  const [rate = 0] = medians;
  const range = `${Math.min(...rates).toFixed(2)} to ${Math.max(...rates).toFixed(2)}`;
  const goal = subject === "c" ? undefined : pipeline.goals[subject];
  return [pipeline.title, subject, `${rate.toFixed(2)} M/s`, range, goal === undefined ? "" : verdict(rate >= goal, `≥ ${goal} M/s`)];
}

async function measure(pipeline: Pipeline, folder: string, program: string, rounds: number, smoke: boolean): Promise<Result[]> {
  const records = smoke ? Math.ceil(pipeline.records / 2_000 / pipeline.batch) * pipeline.batch : pipeline.records;
  const subjects: readonly Subject[] = pipeline.perSecond === undefined ? runtimes : ["c", ...runtimes];
  const crews = subjects.map((subject) => new Crew(pipeline, subject, folder, program));
  for (const crew of crews) await crew.ready();
  for (const crew of crews) await crew.round(Math.ceil(records / 4 / pipeline.batch) * pipeline.batch); // for the compilers of the runtimes
  const results = new Map<Subject, number[][]>(crews.map(({ subject }) => [subject, []]));
  for (let i = 0; i < rounds; i++) for (const crew of crews) results.get(crew.subject)?.push(await crew.round(records));
  for (const crew of crews) await crew.close();
  return [...results].map(([subject, figures]) => {
    const medians = (figures[0] ?? []).map((_, i) => median(figures.map((figure) => figure[i] as number)));
    return { pipeline: pipeline.name, subject, rounds: figures, medians };
  });
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string" },
      only: { type: "string", multiple: true, default: [] },
      json: { type: "string" },
      smoke: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(help);
    return;
  }
  const rounds = Number(values.rounds ?? (values.smoke ? "1" : "5"));
  const chosen = pipelines.filter(({ name }) => values.only.length === 0 || values.only.some((part) => name.includes(part)));
  if (!Number.isInteger(rounds) || rounds < 1 || chosen.length === 0) {
    console.error(`bench: nothing to do\n${help}`);
    process.exitCode = 2;
    return;
  }
  build();
  const { program, compiler } = buildBench();
  const folder = mkdtempSync(path.join(realpathSync(os.tmpdir()), "holdfast-bench-"));
  const clean = (): void => {
    killChildren();
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  };
  process.once("exit", clean);
  try {
    const table = new Table({ head: ["", "", "median", "range", "goal"], style: { head: [], border: [], compact: true } });
    const machine = describeMachine(folder, compiler);
    const results: Result[] = [];
    for (const pipeline of chosen) {
      const found = await measure(pipeline, folder, program, rounds, values.smoke);
      for (const result of found) table.push(row(pipeline, result, values.smoke));
      results.push(...found);
    }
    console.log(`${machine.cpu}, ${machine.cpus} CPUs; ${machine.kernel}; load average ${machine.loadAverage.toFixed(2)}`);
    console.log(table.toString());
    const report: Report = { date: new Date().toISOString(), smoke: values.smoke, machine: { ...machine, folder: path.dirname(folder) }, results };
    if (values.json !== undefined) writeFileSync(values.json, JSON.stringify(report, null, 1) + "\n");
  } finally {
    clean();
    process.off("exit", clean);
  }
}

if (import.meta.main) {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(128 + os.constants.signals[signal]));
  await main();
}
