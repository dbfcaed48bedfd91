/** The comparison at its smallest: everybody who is installed does all of the work, and is checked. No time is asserted, ever. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { test } from "node:test";
import type { Report } from "../../bench/compare/report.ts";
import { peerFacts, subjectsOf, workloads } from "../../bench/compare/workloads.ts";
import { root } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { children } from "../support/spawn.ts";
import { temporaryFolder } from "../support/temporary.ts";

const script = path.join(root, "bench", "compare", "run.ts");
const { run } = children();
const folder = temporaryFolder();
const reason = "Bun" in globalThis || "Deno" in globalThis ? "the comparison starts all runtimes from Node" : undefined;

function nodeTest(name: string, body: () => Promise<void>): void {
  test(name, skipFor(name, reason), body);
}

/** With a cache for what Node makes of TypeScript: it is started dozens of times. */
function compare(...args: string[]) {
  const env = { ...process.env, NODE_COMPILE_CACHE: path.join(folder, "cache") };
  return run(process.execPath, ["--disable-warning=ExperimentalWarning", script, ...args], { cwd: root, env });
}

nodeTest("bench: compare: everybody who is here does every workload, and the others are named with the reason", async () => {
  const dir = path.join(folder, "files");
  mkdirSync(dir);
  const json = path.join(folder, "compare.json");
  const { code, stdout, stderr } = await compare("--smoke", "--dir", dir, "--json", json);
  assert.equal(code, 0, stderr);
  assert.deepEqual(readdirSync(dir), []);

  const { results, absent, machine } = JSON.parse(readFileSync(json, "utf8")) as Report;
  for (const workload of workloads) {
    const { name } = workload;
    for (const { peer, runtime } of subjectsOf(workload)) {
      if (peer !== "holdfast" && runtime !== peerFacts[peer].runtimes[0]) continue;
      for (const point of workload.points) {
        const why = absent.find((one) => one.workload === name && one.peer === peer && (one.point === "" || one.point === point.title))?.why;
        const found = results.filter((result) => result.workload === name && result.peer === peer && result.runtime === runtime && result.point === point.title);
        if (peer === "holdfast") assert.equal(why, undefined);
        if (why === undefined) assert.equal(found.length, workload.parts?.length ?? 1, `${name} at '${point.title}': ${peer} in ${runtime}`);
        else assert.ok(found.length === 0 && why !== "" && stdout.includes(why), `${name}: ${peer}: ${why}`);
      }
    }
  }
  for (const { workload, peer, runs, min, median, max, unit } of results) {
    const what = `${workload} of ${peer}: ${runs}`;
    assert.ok(runs.length > 0 && runs.every(Number.isFinite) && min <= median && median <= max, what);
    if (unit !== "MiB") assert.ok(min > 0, what); // memory is also given back
  }
  for (const text of [...workloads.map(({ title }) => title), machine.cpu, machine.fileSystem]) assert.ok(stdout.includes(text), text);
  // Whoever is missing is named at once, and what to do about it.
  for (const [, { title, needs }] of Object.entries(peerFacts)) {
    if (needs === undefined || existsSync(path.join(root, "bench", "compare", "node_modules", needs))) continue;
    assert.ok(stderr.includes(`bench: ${title} is left out: `) && stderr.includes("npm install --prefix bench/compare"), stderr);
  }
  const drawn = readdirSync(folder).filter((name) => name.endsWith(".svg")).sort();
  if (existsSync(path.join(root, "bench", "compare", "node_modules", "vega"))) {
    assert.deepEqual(drawn, ["compare-all.svg", "compare-sizes.svg", "compare.svg"]);
    for (const name of drawn) assert.match(readFileSync(path.join(folder, name), "utf8"), /^<svg .*holdfast, Deno|Deno KV.*<\/svg>\n$/s);
  } else {
    assert.deepEqual(drawn, []);
    assert.match(stderr, /nothing is drawn: vega and vega-lite are not installed/);
  }
});

nodeTest("bench: compare: a wrong byte ends the run", async () => {
  const place = { folder: path.join(folder, "wrong"), redisPort: 0 };
  const open = { do: "open", task: "pair", value: 64, place, file: "", ms: 0, operations: 0 };
  const subject = path.join(root, "bench", "compare", "subject.ts");
  const lines = (peer: string): string => `${JSON.stringify({ do: "be", peer })}\n${JSON.stringify(open)}`;
  const ask = (peer: string) =>
    run("/bin/sh", ["-c", `printf '%s\\n' "$0" | exec "$@"`, lines(peer), process.execPath, "--disable-warning=ExperimentalWarning", subject]);
  const right = await ask("fs");
  assert.equal(right.code, 0, right.stderr);
  const wrong = await ask("../../../tests/bench/wrong_peer");
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /wrong record: byte 30 /);
});

nodeTest("bench: compare: what makes no sense is refused before anything runs", async () => {
  const json = path.join(folder, "none.json");
  for (const wrong of [["--rounds", "0"], ["--only", "nothing"], ["--peer", "nobody"], ["--json", path.join(folder, "none", "f.json")], ["--unknown"], ["file"]]) {
    const { code, stderr } = await compare("--smoke", "--json", json, ...wrong);
    assert.equal(code, 2, wrong.join(" "));
    assert.match(stderr, /^bench: .*\nTry/s);
  }
  assert.ok(!existsSync(json));
  const { code, stdout } = await compare("--help");
  assert.equal(code, 0);
  for (const option of ["--rounds", "--only", "--peer", "--json", "--dir", "--smoke", "--help"]) assert.ok(stdout.includes(option), option);
});
