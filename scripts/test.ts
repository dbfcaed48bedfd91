/**
 * The whole gate: build, C tests, type check, then tests/**\/*.test.ts under Node, Bun and Deno. Every
 * runtime gets the same list of files. Ends with a table and the line `N passed, N failed, N skipped`.
 */
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { globSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { build, noArm64, runCTests } from "./build.ts";
import { type Case, readJUnit } from "./junit.ts";
import { buildPackage, noPackage } from "./package.ts";
import { root, toolsDir } from "./project.ts";

/** Test files that run at once under Node, each in a process of its own. (Deno would run them in threads of one process, whose CPU time is measured.) */
const AT_ONCE = Math.max(2, os.availableParallelism());

const runtimes = ["node", "bun", "deno"] as const;
type Runtime = (typeof runtimes)[number];

interface Step {
  readonly name: string;
  readonly ok: boolean;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: readonly { readonly name: string; readonly reason: string }[];
  /** Why the step failed, beyond the failed tests. */
  readonly problems: readonly string[];
  readonly seconds: number;
}

type Outcome = Partial<Omit<Step, "name" | "seconds">>;

const help = `Usage: npm test -- [options] [test files]

Builds the library, runs the C tests and tsc, then the suite under Node, Bun and Deno.

  --runtime NAME   only this runtime: ${runtimes.join(", ")} (repeatable)
  --only NAME      only tests whose name contains NAME
  --no-c           leave out the C tests
  --timeout SECS   end a runtime that takes longer (default 600)
  --help           print this text

Test files are given from the project folder; without any, all of tests/**/*.test.ts.
`;

const { values: options, positionals } = readArguments();

// Marks every process of this run: a child keeps it in /proc/<pid>/environ even when its parent is gone.
const runId = randomUUID();
const reports = path.join(toolsDir, "reports", runId);
const bin = path.join(root, "node_modules", ".bin");
const env: NodeJS.ProcessEnv = {
  ...process.env,
  HOLDFAST_TEST_RUN: runId,
  // Tests start the other runtimes by name.
  PATH: `${bin}${path.delimiter}${process.env.PATH ?? ""}`,
  // Caches inside the checkout; nothing is fetched and nobody is asked.
  DENO_DIR: path.join(toolsDir, "deno"),
  DENO_NO_PROMPT: "1",
  DENO_NO_UPDATE_CHECK: "1",
  BUN_RUNTIME_TRANSPILER_CACHE_PATH: "0",
  DO_NOT_TRACK: "1",
};

function readArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        runtime: { type: "string", multiple: true, default: [...runtimes] },
        only: { type: "string" },
        "no-c": { type: "boolean", default: false },
        timeout: { type: "string", default: "600" },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${help}`);
    process.exit(2);
  }
}

async function main(): Promise<number> {
  if (options.help) {
    process.stdout.write(help);
    return 0;
  }
  const chosen = runtimes.filter((name) => options.runtime.includes(name));
  const unknown = options.runtime.filter((name) => !(runtimes as readonly string[]).includes(name));
  if (unknown.length > 0) throw new Error(`--runtime ${unknown[0]}: known are ${runtimes.join(", ")}`);
  const timeout = Number(options.timeout);
  if (!(timeout > 0)) throw new Error(`--timeout ${options.timeout}: not a number of seconds`);

  const files = positionals.length > 0 ? positionals : globSync("tests/**/*.test.ts", { cwd: root }).sort();
  const steps: Step[] = [];
  mkdirSync(reports, { recursive: true });
  try {
    steps.push(await step("build", runBuild));
    if (!steps[0]!.ok) return finish(steps);
    if (!options["no-c"]) {
      steps.push(await step("C tests", () => runC("host")));
      steps.push(await step("C on arm64", () => runC("arm64")));
    }
    steps.push(await step("tsc", runTypeCheck));
    for (const runtime of chosen) {
      steps.push(await step(runtime, () => withoutLeftovers(() => runSuite(runtime, files, timeout))));
    }
    return finish(steps);
  } finally {
    rmSync(reports, { recursive: true, force: true });
  }
}

async function step(name: string, body: () => Outcome | Promise<Outcome>): Promise<Step> {
  console.log(`\n=== ${name}`);
  const started = performance.now();
  let outcome: Outcome;
  try {
    outcome = await body();
  } catch (error) {
    outcome = { problems: [error instanceof Error ? error.message : String(error)] };
  }
  const { passed = 0, failed = 0, skipped = [], problems = [] } = outcome;
  const ok = (outcome.ok ?? true) && failed === 0 && problems.length === 0;
  const seconds = (performance.now() - started) / 1000;
  for (const problem of problems) console.log(`${name}: ${problem}`);
  console.log(`=== ${name}: ${ok ? "ok" : "FAILED"} in ${seconds.toFixed(1)} s`);
  return { name, ok, passed, failed, skipped, problems, seconds };
}

async function runBuild(): Promise<Outcome> {
  console.log(build().message);
  const missing = noPackage();
  if (missing === undefined) console.log(await buildPackage());
  return {};
}

function runC(cpu: "host" | "arm64"): Outcome {
  const missing = cpu === "arm64" ? noArm64() : undefined;
  if (missing !== undefined) return { skipped: [{ name: "csrc/tests for arm64", reason: missing }] };
  const { ok, passed, failed, output } = runCTests(cpu);
  process.stdout.write(output);
  const problems = ok && passed === 0 ? ["no C test was executed"] : [];
  const skipped = Array.from(output.matchAll(/^# skip \[(.+?)\] (.+)$/gm), ([, name, reason]) => ({ name: name as string, reason: reason as string }));
  return { ok, passed, failed, skipped, problems };
}

async function runTypeCheck(): Promise<Outcome> {
  const { code } = await spawnLive(path.join(bin, "tsc"), ["--project", root], 600);
  return { ok: code === 0 };
}

async function runSuite(runtime: Runtime, files: readonly string[], timeout: number): Promise<Outcome> {
  if (files.length === 0) return { problems: ["there is no test file"] };
  const report = path.join(reports, `${runtime}.xml`);
  const { code, lines } = await spawnLive(...commandOf(runtime, files, report), timeout);

  const problems: string[] = [];
  if (typeof code === "string") problems.push(code);
  let cases: readonly Case[] = [];
  try {
    cases = readJUnit(readFileSync(report, "utf8"));
  } catch {
    problems.push(`no report was written (exit code ${code})`);
  }
  rememberReasons(lines, cases);
  const skipped = cases
    .filter((test) => test.result === "skipped")
    .map(({ name }) => ({ name, reason: reasonOf(name) }))
    // Bun and Deno also report what --only leaves out as skipped.
    .filter(({ reason }) => options.only === undefined || reason !== undefined)
    .map(({ name, reason }) => ({ name, reason: reason ?? "no reason given" }));
  const passed = cases.filter((test) => test.result === "passed").length;
  const failed = cases.filter((test) => test.result === "failed").length;
  if (passed + failed === 0) problems.push("no test was executed");
  return { ok: code === 0, passed, failed, skipped, problems };
}

function commandOf(runtime: Runtime, files: readonly string[], report: string): [exe: string, args: string[]] {
  const { only } = options;
  switch (runtime) {
    case "node":
      return [process.execPath, [
        "--test",
        // Most of the time a file waits for the children that it has started; with 2 CPUs Node would run one file at a time.
        `--test-concurrency=${AT_ONCE}`,
        "--disable-warning=ExperimentalWarning",
        // Node 26.10 may end the process with a failed check of V8 if it ends while native calls are being compiled (docs/caveats.md).
        "--no-concurrent-recompilation",
        ...reporter("spec", "stdout"),
        ...reporter("junit", report),
        ...(only === undefined ? [] : [`--test-name-pattern=${escape(only)}`]),
        ...files,
      ]];
    case "bun":
      return [path.join(bin, "bun"), [
        "test",
        "--timeout=300000", // Bun ends a test after 5 s by default, the other two never do
        "--reporter=junit",
        `--reporter-outfile=${report}`,
        ...(only === undefined ? [] : [`--test-name-pattern=${escape(only)}`]),
        ...files.map((file) => path.resolve(root, file)), // a bare name would be a filter
      ]];
    case "deno":
      return [path.join(bin, "deno"), [
        "test",
        "--allow-all",
        "--no-check", // tsc has checked; Deno brings another TypeScript
        `--junit-path=${report}`,
        ...(only === undefined ? [] : [`--filter=${only}`]),
        ...files,
      ]];
  }
}

function reporter(name: string, destination: string): string[] {
  return [`--test-reporter=${name}`, `--test-reporter-destination=${destination}`];
}

function escape(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

/**
 * Why tests are skipped, by name. Only Node reports it, and runs first; a test that is skipped in Bun
 * or Deno alone prints `# skip [its name] the reason` on a line of its own.
 */
const reasons = new Map<string, string>();

function rememberReasons(lines: readonly string[], cases: readonly Case[]): void {
  for (const { name, reason } of cases) {
    if (reason !== "") reasons.set(name, reason);
  }
  for (const line of lines) {
    const match = /^\s*# skip \[(.+?)\] (.+)$/.exec(line);
    if (match !== null) reasons.set(match[1]!, match[2]!.trim());
  }
}

function reasonOf(name: string): string | undefined {
  // Deno puts the names of the groups before the test's own.
  return reasons.get(name) ?? reasons.get(name.split(" > ").at(-1)!);
}

/** Runs a command in its own process group, shows its output as it comes, and keeps the lines. */
async function spawnLive(
  exe: string,
  args: readonly string[],
  timeout: number,
): Promise<{ code: number | string; lines: string[] }> {
  const child = spawn(exe, args, {
    cwd: root,
    env: process.stdout.isTTY ? { FORCE_COLOR: "1", ...env } : { NO_COLOR: "1", ...env },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  const stop = (): void => {
    if (child.pid !== undefined) killGroup(child.pid);
  };
  const onSignal = (signal: NodeJS.Signals): void => {
    stop();
    process.exit(signal === "SIGINT" ? 130 : 143);
  };
  process.once("SIGINT", onSignal).once("SIGTERM", onSignal);
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    stop();
  }, timeout * 1000);

  const chunks: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => {
    process.stdout.write(chunk);
    chunks.push(chunk);
  });
  child.stderr.on("data", (chunk: Buffer) => process.stderr.write(chunk));
  try {
    const code = await new Promise<number | string>((resolve, reject) => {
      child.once("error", reject);
      // "exit", not "close": a grandchild that outlives the runner may hold the pipes open.
      child.once("exit", (status, signal) => resolve(signal === null ? status! : `ended by ${signal}`));
    });
    await Promise.race([drained(child.stdout), sleep(500)]);
    const lines = Buffer.concat(chunks).toString("utf8").split("\n");
    return { code: late ? `took longer than ${timeout} s and was ended` : code, lines };
  } finally {
    clearTimeout(timer);
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
    child.stdout.destroy();
    child.stderr.destroy();
  }
}

function drained(stream: NodeJS.ReadableStream & { readonly readableEnded?: boolean }): Promise<void> {
  return stream.readableEnded === true
    ? Promise.resolve()
    : new Promise((resolve) => stream.once("end", () => resolve()));
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It ended by itself.
  }
}

/** Fails a step that leaves temporary files or processes behind. */
async function withoutLeftovers(body: () => Promise<Outcome>): Promise<Outcome> {
  const before = new Set(temporaryFiles());
  const outcome = await body();

  // Processes that were told to end may need a moment.
  let processes = processesOfThisRun();
  for (let waited = 0; processes.length > 0 && waited < 3000; waited += 100) {
    await sleep(100);
    processes = processesOfThisRun();
  }
  const problems = [...(outcome.problems ?? [])];
  for (const { pid, command } of processes) {
    problems.push(`process ${pid} is still running: ${command}`);
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It ended by itself.
    }
  }
  for (const file of temporaryFiles()) {
    if (!before.has(file)) problems.push(`${file} was left behind`);
  }
  return { ...outcome, problems };
}

function temporaryFiles(): string[] {
  const files: string[] = [];
  for (const folder of new Set([os.tmpdir(), "/dev/shm"])) {
    for (const name of list(folder)) {
      if (/^(holdfast|hf-)/.test(name)) files.push(path.join(folder, name));
    }
  }
  return files;
}

function processesOfThisRun(): { pid: number; command: string }[] {
  const found: { pid: number; command: string }[] = [];
  for (const name of list("/proc")) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    try {
      const environment = readFileSync(`/proc/${name}/environ`, "latin1");
      if (!environment.includes(`HOLDFAST_TEST_RUN=${runId}`)) continue;
      readlinkSync(`/proc/${name}/exe`); // fails for a zombie, which is no longer running
      const command = readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ").trim();
      found.push({ pid, command: command.slice(0, 200) });
    } catch {
      // It ended meanwhile, or belongs to somebody else.
    }
  }
  return found;
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function finish(steps: readonly Step[]): number {
  const skipped = steps.flatMap((each) => each.skipped.map((skip) => ({ step: each.name, ...skip })));
  if (skipped.length > 0) console.log("\nSkipped:");
  for (const { step, name, reason } of skipped) console.log(`  ${step}: ${name}: ${reason}`);

  const problems = steps.flatMap((each) => each.problems.map((problem) => `  ${each.name}: ${problem}`));
  if (problems.length > 0) console.log(`\nProblems:\n${problems.join("\n")}`);

  console.log(`\n${row("step", "passed", "failed", "skipped", "seconds", "result")}`);
  for (const each of steps) {
    const { name, passed, failed, seconds, ok } = each;
    console.log(row(name, passed, failed, each.skipped.length, seconds.toFixed(1), ok ? "ok" : "FAILED"));
  }
  const ok = steps.every((each) => each.ok);
  const passed = steps.reduce((sum, each) => sum + each.passed, 0);
  // A step that failed without a failed test (tsc, a crash, a leftover) counts as one failure, so
  // that this line never says `0 failed` of a gate that failed.
  const failed = steps.reduce((sum, each) => sum + (each.ok ? 0 : Math.max(each.failed, 1)), 0);
  console.log(`\n${passed} passed, ${failed} failed, ${skipped.length} skipped`);
  return ok ? 0 : 1;
}

function row(name: string, ...cells: (string | number)[]): string {
  return name.padEnd(11) + cells.map((cell) => String(cell).padStart(9)).join("");
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
