/**
 * The benchmarks: counters, atomics and the queue in Node, Bun and Deno beside the same work in C. Every subject is a process of
 * its own at every workload, and every round goes through all subjects in turn, so that what else the machine does hits them
 * alike. `npm run bench -- --help` says how to call it; README.md says what it measures.
 */
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { buildBench } from "../scripts/build.ts";
import { Child, killChildren } from "./child.ts";
import { describeMachine, format, type Report, type Result, summarize } from "./report.ts";
import { type Workload, workloads } from "./workloads.ts";

const help = `Usage: npm run bench -- [options]

Measures nanoseconds per operation in Node, Bun and Deno beside a C program that does the same.

  --rounds N    rounds that are measured, 1 to 1000 (default 9, with --smoke 2)
  --only NAME   only workloads whose name contains NAME (repeatable): ${workloads.map(({ name }) => name).join(", ")}
  --json FILE   also write all figures to FILE
  --dir DIR     where the mapped files are to lie, in a folder that is removed at the end (default ${os.tmpdir()})
  --smoke       tiny sizes: shows that all of it works, the figures mean nothing
  --help        print this text
`;

/** Rounds before the ones that count, for the compilers of the runtimes. */
const WARM_UP_ROUNDS = 3;

class UsageError extends Error {}

interface Options {
  readonly rounds: number;
  readonly workloads: readonly Workload[];
  readonly json: string | undefined;
  readonly dir: string;
  readonly smoke: boolean;
}

function readOptions(): Options | "help" {
  const { values } = parse();
  if (values.help) return "help";
  const { smoke, json, dir, only } = values;
  const rounds = Number(values.rounds ?? (smoke ? "2" : "9"));
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > 1000) {
    throw new UsageError(`--rounds must be a whole number from 1 to 1000; received '${values.rounds}'`);
  }
  for (const name of only) {
    if (!workloads.some((workload) => workload.name.includes(name))) throw new UsageError(`--only ${name}: there is no such workload`);
  }
  const chosen = workloads.filter(({ name }) => only.length === 0 || only.some((part) => name.includes(part)));
  return { rounds, workloads: chosen, json, dir, smoke };
}

function parse() {
  try {
    return parseArgs({
      options: {
        rounds: { type: "string" },
        only: { type: "string", multiple: true, default: [] },
        json: { type: "string" },
        dir: { type: "string", default: os.tmpdir() },
        smoke: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** Measures one workload in all its subjects. */
async function measure(workload: Workload, program: string, folder: string, rounds: number, smoke: boolean): Promise<Result[]> {
  const operations = smoke ? workload.smokeOperations : workload.operations;
  const children: Child[] = [];
  for (const subject of workload.subjects) {
    const child = new Child(program, workload, subject, folder);
    await child.ready();
    for (let i = 0; i < WARM_UP_ROUNDS; i++) await child.round(operations);
    children.push(child);
  }
  const times = new Map(children.map(({ subject }) => [subject, [] as number[]]));
  for (let i = 0; i < rounds; i++) {
    for (const child of children) times.get(child.subject)?.push(await child.round(operations));
  }
  for (const child of children) await child.close();
  const c = times.get("c") ?? [];
  return [...times].map(([subject, figures]) => summarize(workload.name, subject, operations, figures, c));
}

async function run({ rounds, workloads, json, dir, smoke }: Options): Promise<void> {
  const { program, compiler } = buildBench();
  const folder = mkdtempSync(path.join(realpathSync(dir), "holdfast-bench-"));
  const clean = (): void => {
    killChildren();
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  };
  process.once("exit", clean); // also when something unforeseen ends this process
  try {
    const machine = describeMachine(folder, compiler);
    const results: Result[] = [];
    for (const workload of workloads) {
      if (process.stderr.isTTY) process.stderr.write(`${workload.title} ...\n`);
      results.push(...(await measure(workload, program, folder, rounds, smoke)));
    }
    const report: Report = { date: new Date().toISOString(), smoke, machine: { ...machine, folder: path.dirname(folder) }, results };
    console.log(format(report));
    if (json !== undefined) writeFileSync(json, JSON.stringify(report, null, 2) + "\n");
  } finally {
    clean();
    process.off("exit", clean);
  }
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, () => process.exit(128 + os.constants.signals[signal]));
}
try {
  const options = readOptions();
  if (options === "help") process.stdout.write(help);
  else await run(options);
} catch (error) {
  if (error instanceof UsageError) {
    console.error(`bench: ${error.message}\nTry "npm run bench -- --help".`);
    process.exitCode = 2;
  } else {
    console.error(`bench: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
  }
}
