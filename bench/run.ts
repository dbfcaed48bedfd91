/**
 * The benchmarks: counters, atomics, mappings and the queue in Node, Bun and Deno beside the same work in C. Every subject is a process of
 * its own at every workload, and every round goes through all subjects in turn, so that what else the machine does hits them
 * alike. `npm run bench -- --help` says how to call it; README.md says what it measures.
 */
import { closeSync, mkdtempSync, openSync, realpathSync, rmSync, statfsSync, writeFileSync, writeSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { buildBench } from "../scripts/build.ts";
import { killChildren, Team } from "./child.ts";
import { describeMachine, format, type Report, type Result, summarize } from "./report.ts";
import { operationsOf, type Workload, wordBytes, workloads } from "./workloads.ts";

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

/** Makes a file whose 64-bit word i has the value i, every page of it written. */
function writeWords(file: string, bytes: number): void {
  const part = new BigUint64Array(Math.min(bytes, 1 << 22) / 8);
  const fd = openSync(file, "wx", 0o600);
  try {
    for (let offset = 0; offset < bytes; offset += part.byteLength) {
      for (let i = 0; i < part.length; i++) part[i] = BigInt(offset / 8 + i);
      writeSync(fd, part, 0, part.byteLength, offset);
    }
  } finally {
    closeSync(fd);
  }
}

/** Why a workload cannot be measured there; undefined if it can. */
function obstacle(workload: Workload, folder: string, smoke: boolean): string | undefined {
  if (workload.words !== true) return undefined;
  const { bavail, bsize } = statfsSync(folder);
  const wanted = 2 * wordBytes(smoke); // half of it for all others who write there
  return bavail * bsize >= wanted ? undefined : `${workload.name} is left out: '${folder}' has less than ${wanted / 2 ** 20} MiB free`;
}

/** Measures one workload in all its subjects. */
async function measure(workload: Workload, program: string, folder: string, rounds: number, smoke: boolean): Promise<Result[]> {
  const file = workload.words === true ? path.join(folder, "words") : "";
  if (file !== "") writeWords(file, wordBytes(smoke));
  const teams: Team[] = [];
  for (const subject of workload.subjects) {
    const team = new Team(program, workload, subject, folder, file);
    await team.ready();
    for (let i = 0; i < WARM_UP_ROUNDS; i++) await team.round(operationsOf(workload, subject, smoke));
    teams.push(team);
  }
  const times = new Map(teams.map(({ subject }) => [subject, [] as number[]]));
  for (let i = 0; i < rounds; i++) {
    for (const team of teams) times.get(team.subject)?.push(await team.round(operationsOf(workload, team.subject, smoke)));
  }
  for (const team of teams) await team.close();
  if (file !== "") rmSync(file);
  const c = times.get("c") ?? [];
  return [...times].map(([subject, figures]) => summarize(workload.name, subject, operationsOf(workload, subject, smoke), figures, c));
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
      const reason = obstacle(workload, folder, smoke);
      if (reason !== undefined) {
        console.error(`bench: ${reason}`);
        continue;
      }
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
