/** The benchmarks at their smallest: every subject does all of its work, in all runtimes. No time is asserted, ever. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { promisify } from "node:util";
import type { Report } from "../../bench/report.ts";
import { workloads } from "../../bench/workloads.ts";

const root = path.resolve(import.meta.dirname, "../..");
const bench = path.join(root, "bench", "run.ts");
const pipelines = path.join(root, "bench", "pipelines.ts");

/** A test that runs in Node alone: bench/run.ts starts the other runtimes itself. */
function nodeTest(name: string, body: () => Promise<void>): void {
  const reason = "Bun" in globalThis || "Deno" in globalThis ? "the benchmarks start all runtimes from Node" : undefined;
  if (reason !== undefined) console.log(`# skip [${name}] ${reason}`);
  test(name, { skip: reason ?? false }, body);
}

let folder: string | undefined;

function temporaryFolder(): string {
  folder ??= mkdtempSync(path.join(os.tmpdir(), "holdfast-test-bench-"));
  return folder;
}

after(() => {
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
});

async function runScript(script: string, ...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const command = ["--disable-warning=ExperimentalWarning", script, ...args];
  try {
    return { code: 0, ...(await promisify(execFile)(process.execPath, command, { cwd: root, timeout: 240_000 })) };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { code, stdout, stderr };
  }
}

nodeTest("bench: every subject does every workload, and nothing is left behind", async () => {
  const dir = path.join(temporaryFolder(), "files");
  mkdirSync(dir);
  const json = path.join(temporaryFolder(), "bench.json");
  const { code, stdout, stderr } = await runScript(bench, "--smoke", "--dir", dir, "--json", json);
  assert.equal(code, 0, stderr);

  const report = JSON.parse(readFileSync(json, "utf8")) as Report;
  const expected = workloads.flatMap(({ name, subjects }) => subjects.map((subject) => `${name} ${subject}`));
  assert.deepEqual(report.results.map(({ workload, subject }) => `${workload} ${subject}`), expected);
  for (const runtime of ["node", "bun", "deno"]) assert.ok(expected.some((name) => name.endsWith(` ${runtime}`)));
  for (const { workload, subject, rounds, min, median, max, ratio } of report.results) {
    const figures = [...rounds, min, median, max, ratio];
    assert.ok(rounds.length > 0 && figures.every((figure) => figure > 0 && Number.isFinite(figure)), `${workload} ${subject}: ${figures}`);
    assert.ok(min <= median && median <= max, `${workload} ${subject}: ${figures}`);
  }
  for (const title of [...workloads.map((workload) => workload.title), report.machine.cpu, report.machine.kernel]) {
    assert.ok(stdout.includes(title), title);
  }
  assert.deepEqual(readdirSync(dir), []);
});

nodeTest("bench: what makes no sense is refused before anything runs", async () => {
  const json = path.join(temporaryFolder(), "none.json");
  for (const wrong of [["--rounds", "0"], ["--rounds", "1.5"], ["--only", "nothing"], ["--unknown"], ["file"]]) {
    const { code, stderr } = await runScript(bench, "--smoke", "--json", json, ...wrong);
    assert.equal(code, 2, wrong.join(" "));
    assert.match(stderr, /^bench: .*\nTry/s);
  }
  assert.ok(!existsSync(json));
});

nodeTest("bench: --help explains every option", async () => {
  const { code, stdout } = await runScript(bench, "--help");
  assert.equal(code, 0);
  for (const option of ["--rounds", "--only", "--json", "--dir", "--smoke", "--help"]) assert.ok(stdout.includes(option), option);
});

nodeTest("bench: the queue between processes, every pipeline in every runtime", async () => {
  const { code, stdout, stderr } = await runScript(pipelines, "--smoke");
  assert.equal(code, 0, stderr);
  for (const runtime of ["node", "bun", "deno"]) assert.equal(stdout.match(new RegExp(`│ ${runtime} `, "g"))?.length, 5, stdout);
  assert.equal((await runScript(pipelines, "--only", "nothing")).code, 2);
});
