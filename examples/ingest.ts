/**
 * The main job of holdfast: several processes under three runtimes count the lines of a log through one queue, and the result
 * holds although some of them are killed. `npm start -- --help` says how to call it; ingest/ has the parts.
 */
import { mkdtempSync, rmSync, statSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { compare, countFile, type Counted, type Expected } from "./ingest/check.ts";
import { Crew, killPlan, type Kind, randomNumbers } from "./ingest/crew.ts";
import { help, type Options, parseOptions } from "./ingest/options.ts";
import { splitFile } from "./ingest/parts.ts";
import { type Outcome, type ProgressState, report, startProgress } from "./ingest/report.ts";
import { names, Shared } from "./ingest/shared.ts";
import { UsageError } from "./usage.ts";

/** No line pushed or counted for so long means that something hangs. */
const STALL_MS = 60_000;
/** Between two looks at the counters; short, so that kills come close to the line that they are meant for. */
const LOOK_MS = 2;

class Interrupted extends Error {
  readonly signal: NodeJS.Signals;

  constructor(signal: NodeJS.Signals) {
    super(`ended by ${signal}`);
    this.signal = signal;
  }
}

let interruption: Interrupted | undefined;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    interruption ??= new Interrupted(signal);
  });
}

/** Runs the children to the end; returns the seconds from the first push to the last acknowledgement. */
async function supervise(crew: Crew, shared: Shared, options: Options, kills: number): Promise<number> {
  const { job, counters, queue } = shared;
  const random = randomNumbers(options.seed);
  const plans: Record<Kind, number[]> = {
    producer: killPlan(kills, job.lines, random),
    consumer: killPlan(kills, job.lines, random),
  };
  const look = (): ProgressState => ({
    pushed: job.parts.reduce((sum, _, i) => sum + counters.get(names.done("producer", i)), 0),
    processed: counters.get(names.processed),
    killed: crew.killed("producer") + crew.killed("consumer"),
  });
  const rest = async (): Promise<void> => {
    await sleep(LOOK_MS);
    if (interruption !== undefined) throw interruption;
    if (crew.failure !== undefined) throw crew.failure;
  };
  let movedAt = performance.now();
  const checkStall = (what: string): void => {
    if (performance.now() - movedAt > STALL_MS) throw new Error(`nothing has moved for ${STALL_MS / 1000} s: ${what}`);
  };

  crew.start();
  while (!crew.ready()) {
    await rest();
    checkStall("some child has not started");
  }

  const progress = startProgress(job.lines);
  const started = performance.now();
  let drained: number | undefined;
  let state = look();
  try {
    counters.set(names.go, 1);
    movedAt = performance.now();
    while (!crew.finished()) {
      const last = state;
      state = look();
      // A kill that finds nobody at work stays due.
      if (state.pushed >= (plans.producer[0] ?? Infinity) && crew.kill("producer", random)) plans.producer.shift();
      if (state.processed >= (plans.consumer[0] ?? Infinity) && crew.kill("consumer", random)) plans.consumer.shift();
      if (crew.finished("producer")) {
        counters.set(names.finished, 1);
        if (queue.length === 0) drained ??= performance.now();
      }
      progress.update(state);
      if (state.pushed !== last.pushed || state.processed !== last.processed) movedAt = performance.now();
      checkStall(`${state.pushed} lines pushed, ${state.processed} counted, ${queue.length} in the queue`);
      await rest();
    }
  } finally {
    progress.stop(look());
  }
  return ((drained ?? performance.now()) - started) / 1000;
}

/** Reads what the children have counted. */
function takeCounts(shared: Shared, consumersKilled: number): Counted {
  const { job, counters, queue, seen } = shared;
  const all = [...counters.entries()].map(([name, value]): [string, number] => [String(name), value]);
  let lost = 0;
  for (let line = 0; line < job.lines; line++) if (!seen.has(line)) lost++;
  return {
    pushed: job.parts.reduce((sum, _, i) => sum + counters.get(names.done("producer", i)), 0),
    processed: counters.get(names.processed),
    bytes: counters.get(names.bytes),
    notUnderstood: counters.get(names.notUnderstood),
    counts: new Map(all.filter(([name]) => /^(status|method|path) /.test(name))),
    lost,
    duplicates: counters.get(names.duplicates),
    pushedTwice: counters.get(names.pushedTwice),
    left: queue.length,
    consumersKilled,
  };
}

async function run(options: Options, folder: string, expected: Expected): Promise<number> {
  const { producers, consumers, runtime, batch } = options;
  const parts = splitFile(options.file, producers);
  const lines = parts.reduce((sum, part) => sum + part.lines, 0);
  // Producers wait for consumers: the queue stays small whatever the size of the file, and there is somebody to kill.
  const backlog = Math.min(4096, Math.max(2 * batch, Math.ceil(lines / 20)));
  const file = path.resolve(options.file);
  using shared = Shared.create(folder, { file, parent: process.pid, lines, batch, backlog, parts, consumers });
  const crew = new Crew(folder, shared, producers, consumers, runtime);
  const stopNow = (): void => crew.stopNow();
  process.prependOnceListener("exit", stopNow);
  try {
    const kills = options.kill ? (options.kills ?? Math.min(20, Math.max(3, Math.round(lines / 25_000)))) : 0;
    const seconds = await supervise(crew, shared, options, kills);
    const killed = { producers: crew.killed("producer"), consumers: crew.killed("consumer") };
    const counted = takeCounts(shared, killed.consumers);
    const linesOf: Outcome["linesOf"] = ({ kind, index }) => shared.counters.get(names.done(kind, index));
    const { members } = crew;
    console.log(report({ expected, counted, members, linesOf, killsPlanned: kills, killed, seconds, seed: options.seed }));

    const problems = compare(expected, counted);
    if (problems.length === 0) {
      console.log(counted.duplicates === 0 ? "\nEqual to a single-process count." : "\nEqual to a single-process count, but for the duplicates.");
      return 0;
    }
    console.error(`\nDiffers from a single-process count:\n${list(problems)}`);
    return 1;
  } finally {
    await crew.stop();
    process.off("exit", stopNow);
  }
}

function list(problems: readonly string[]): string {
  const shown = problems.slice(0, 20).map((problem) => `  ${problem}`);
  return [...shown, ...(problems.length > shown.length ? [`  and ${problems.length - shown.length} more`] : [])].join("\n");
}

/** Says early and clearly what is wrong with the input. */
function checkFile(file: string): void {
  let stats;
  try {
    stats = statSync(file);
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  if (!stats.isFile()) throw new UsageError(`'${file}' is ${stats.isDirectory() ? "a directory" : "no regular file"}`);
  if (stats.size === 0) throw new UsageError(`'${file}' is empty: there is nothing to count`);
}

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (options === "help") {
    process.stdout.write(help);
    return 0;
  }
  checkFile(options.file);
  const expected = await countFile(options.file);
  const folder = mkdtempSync(path.join(os.tmpdir(), "holdfast-ingest-"));
  const remove = (): void => {
    if (!options.keep) rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  };
  // Also when something unforeseen ends this process.
  process.once("exit", remove);
  try {
    if (interruption !== undefined) throw interruption;
    return await run(options, folder, expected);
  } finally {
    remove();
    process.off("exit", remove);
    if (options.keep) console.log(`The queue and the counters are in ${folder}`);
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  if (error instanceof Interrupted) {
    console.error(`\ningest: ${error.message}`);
    process.exitCode = 128 + os.constants.signals[error.signal];
  } else if (error instanceof UsageError) {
    console.error(`ingest: ${error.message}\nTry "npm start -- --help".`);
    process.exitCode = 2;
  } else {
    // What the system or the library said speaks for itself; anything else is a bug and needs its stack.
    const expectedKind = error instanceof Error && ("code" in error || error.constructor === Error);
    console.error(`ingest: ${expectedKind ? (error as Error).message : ((error as Error).stack ?? String(error))}`);
    process.exitCode = 1;
  }
}
