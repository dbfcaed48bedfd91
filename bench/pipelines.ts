/**
 * The queue between processes: `npm run bench:queue`. Producers and consumers of one runtime on one queue, 64 bytes, codec "bytes",
 * durability "process". Rounds go through the runtimes in turn. README.md says what is measured.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { build } from "../scripts/build.ts";
import { Child, killChildren, scriptOf } from "./child.ts";
import { type Runtime, runtimes } from "./workloads.ts";

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

interface Pipeline {
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
const WAKE_GOALS = [40, 400] as const;

const pipelines: readonly Pipeline[] = [
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
  --smoke       tiny sizes: shows that all of it works, the figures mean nothing
  --help        print this text
`;

/** Whether processes can be kept to a CPU each. */
const canPin: boolean = os.availableParallelism() > 1 && spawnSync("taskset", ["-c", "0", "true"]).status === 0;

/** The members of a pipeline in one runtime, on a queue of their own. */
class Crew {
  readonly runtime: Runtime;
  readonly #pipeline: Pipeline;
  readonly #producers: readonly Child[];
  readonly #consumers: readonly Child[];

  constructor(pipeline: Pipeline, runtime: Runtime, folder: string) {
    this.runtime = runtime;
    this.#pipeline = pipeline;
    const own = path.join(folder, `${pipeline.name}-${runtime}`);
    mkdirSync(own);
    const paced = pipeline.perSecond !== undefined;
    const start = (role: string, cpu?: number): Child => {
      const [exe, args] = scriptOf(runtime, "member.ts", role, own);
      const what = `${role} of ${pipeline.name} in ${runtime}`;
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
    if (total !== records * producers) throw new Error(`${this.#pipeline.name} in ${this.runtime}: ${total} of ${records * producers} records came`);
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

function row(pipeline: Pipeline, runtime: Runtime, rounds: readonly number[][], smoke: boolean): string[] {
  const column = (i: number): number[] => rounds.map((round) => round[i] as number);
  const verdict = (met: boolean, text: string): string => (smoke ? text : `${text}: ${met ? "met" : "missed"}`);
  if (pipeline.perSecond !== undefined) {
    const [p50 = 0, p99 = 0, p999 = 0] = [0, 1, 2].map((i) => median(column(i)));
    const text = [p50, p99, p999].map((us) => us.toFixed(0)).join(" / ");
    const goal = verdict(p50 <= WAKE_GOALS[0] && p99 <= WAKE_GOALS[1], `≤ ${WAKE_GOALS.join(" / ")} µs`);
    return [pipeline.title, runtime, `${text} µs`, `p50 / p99 / p99.9`, goal];
  }
  const rates = column(0);
  const range = `${Math.min(...rates).toFixed(2)} to ${Math.max(...rates).toFixed(2)}`;
  const goal = pipeline.goals[runtime];
  return [pipeline.title, runtime, `${median(rates).toFixed(2)} M/s`, range, goal === undefined ? "" : verdict(median(rates) >= goal, `≥ ${goal} M/s`)];
}

async function measure(pipeline: Pipeline, folder: string, rounds: number, smoke: boolean): Promise<string[][]> {
  const records = smoke ? Math.ceil(pipeline.records / 2_000 / pipeline.batch) * pipeline.batch : pipeline.records;
  const rows: string[][] = [];
  const crews = runtimes.map((runtime) => new Crew(pipeline, runtime, folder));
  for (const crew of crews) await crew.ready();
  for (const crew of crews) await crew.round(Math.ceil(records / 4 / pipeline.batch) * pipeline.batch); // for the compilers of the runtimes
  const results = new Map<Runtime, number[][]>(crews.map(({ runtime }) => [runtime, []]));
  for (let i = 0; i < rounds; i++) for (const crew of crews) results.get(crew.runtime)?.push(await crew.round(records));
  for (const crew of crews) await crew.close();
  for (const [runtime, figures] of results) rows.push(row(pipeline, runtime, figures, smoke));
  return rows;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string" },
      only: { type: "string", multiple: true, default: [] },
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
  const folder = mkdtempSync(path.join(realpathSync(os.tmpdir()), "holdfast-bench-"));
  const clean = (): void => {
    killChildren();
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  };
  process.once("exit", clean);
  try {
    const table = new Table({ head: ["", "", "median", "range", "goal"], style: { head: [], border: [], compact: true } });
    for (const pipeline of chosen) for (const cells of await measure(pipeline, folder, rounds, values.smoke)) table.push(cells);
    console.log(`${os.cpus()[0]?.model}, ${os.cpus().length} CPUs; ${os.type()} ${os.release()}; load average ${os.loadavg()[0]?.toFixed(2)}`);
    console.log(table.toString());
  } finally {
    clean();
    process.off("exit", clean);
  }
}

if (import.meta.main) {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(128 + os.constants.signals[signal]));
  await main();
}
