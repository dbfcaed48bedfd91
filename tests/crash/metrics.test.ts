/** Processes that are killed while they count and while they add series: exact sums, no half-added series, no lock that stays. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Mapping, Metrics } from "../../mod.ts";
import { atEnd } from "../support/cleanup.ts";
import { readRawMetrics } from "../support/metrics_reader.ts";
import { commandLine, currentRuntime, type RuntimeName, runtimeNames } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const child = children();
const script = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

const onlyNode = (name: string, why: string): ReturnType<typeof skipFor> => skipFor(name, currentRuntime === "node" ? undefined : `${why}; under Node only`);

/** Each record whole, as one that reads the file by its description finds it. */
function assertWhole(path: string, what = ""): void {
  const { end, endCheck, endComputed, records, size } = readRawMetrics(path);
  assert.equal(endCheck, endComputed, what);
  assert.ok(end <= size, what);
  for (const { checksum, computed, padding } of records) {
    assert.equal(checksum, computed, what);
    assert.ok(padding.every((byte) => byte === 0), what);
  }
}

/** A file in which there is no room for another series. */
function fullFile(): string {
  const path = files.next();
  using metrics = Metrics.open(path);
  const filling = metrics.counter("filling", { help: "", labels: ["n"] });
  // The family takes 128 bytes, each series 256.
  for (let i = 0; i < Math.floor((65536 - 1024 - 128) / 256); i++) filling.labels(i);
  const { end, size } = readRawMetrics(path);
  assert.ok(size === 65536 && end + 256 > size, `${end} of ${size}`);
  return path;
}

const everywhere = "killed before and after each native call: each series is there whole or not at all, and what was counted is there";
test(everywhere, onlyNode(everywhere, "it runs two children for each call"), async () => {
  let calls = Infinity;
  let killed = 0;
  const run = async (at: number, when: string): Promise<void> => {
    const path = fullFile();
    const ending = await child.script("bun", script("metrics_every_call.ts"), path, String(at), when);
    const lines = ending.stdout.split("\n").slice(0, -1);
    const what = `call ${at}, ${when}: ${lines.join("; ")}\n${ending.stderr}`;
    const last = lines.at(-1) ?? "";
    if (last.startsWith("done")) {
      calls = Math.min(calls, Number(last.slice(5)));
      assert.equal(ending.code, 0, what);
    } else {
      killed++;
      assert.equal(ending.signal, "SIGKILL", what);
    }
    assertWhole(path, what);
    using metrics = Metrics.open(path);
    const filling = metrics.counter("filling", { help: "", labels: ["n"] });
    // Declared only now where the child did not get there: then they start at 0.
    const histogram = metrics.histogram("seconds", { help: "", labels: ["x"], buckets: [1] });
    const found: Record<string, number> = {
      "filling 0": filling.labels(0).value,
      "filling new": filling.labels("new").value,
      plain: metrics.counter("plain", { help: "" }).value,
      "seconds a": histogram.labels("a").count,
    };
    for (const [name, value] of Object.entries(found)) {
      const sure = lines.includes(`counted ${name}`) ? 1 : 0;
      const most = lines.includes(`counting ${name}`) ? 1 : 0;
      assert.ok(value >= sure && value <= most, `${name} is ${value}: ${what}`);
    }
    const { count, sum } = histogram.labels("a");
    assert.ok(sum === count || sum === count - 1, `the sum is ${sum} of ${count}: ${what}`);
    assert.equal(filling.labels("another").value, 0, what);
    filling.labels("another").inc();
    assertWhole(path, what);
    using again = Metrics.open(path, { mode: "r" });
    assert.equal(again.expose(), metrics.expose(), what);
  };
  // Two at a time, until a child gets through its list.
  for (let at = 1; at <= calls + 1; at++) await Promise.all([run(at, "before"), run(at, "after")]);
  console.log(`# ${killed} kills at ${calls} native calls`);
  assert.ok(killed > 60, `${killed} kills`);
});

const storm = "kill storm: exact sums of what was acknowledged, no half-added series";
test(storm, onlyNode(storm, "it starts all runtimes"), async () => {
  const path = files.next();
  const times = 400_000;
  const started = performance.now();
  const living = new Map<RuntimeName, ChildProcess>();
  const gone: Promise<unknown>[] = [];
  const kills: Record<RuntimeName, number> = { bun: 0, deno: 0, node: 0 };
  const failures: string[] = [];
  let over = false;
  const ledgers = Object.fromEntries(runtimeNames.map((runtime) => [runtime, files.next("ledger")])) as Record<RuntimeName, string>;
  const start = (runtime: RuntimeName): void => {
    const process = spawn(...commandLine(runtime, script("metrics_worker.ts"), path, ledgers[runtime], runtime, String(times)), {
      stdio: ["ignore", "ignore", "inherit"],
    });
    living.set(runtime, process);
    gone.push(new Promise((resolve) => process.on("close", resolve)));
    process.on("exit", (code, signal) => {
      living.delete(runtime);
      if (over) return;
      if (signal === "SIGKILL") {
        kills[runtime]++;
        start(runtime);
      } else if (code !== 0) failures.push(`${runtime}: exit code ${code}`);
    });
  };
  const stop = (): void => {
    over = true;
    for (const process of living.values()) process.kill("SIGKILL");
  };
  atEnd(stop);
  using bun = Mapping.open(ledgers.bun, { create: true, byteLength: 64 });
  using deno = Mapping.open(ledgers.deno, { create: true, byteLength: 64 });
  using node = Mapping.open(ledgers.node, { create: true, byteLength: 64 });
  const written = { bun, deno, node };
  try {
    runtimeNames.forEach(start);
    for (let round = 0; living.size > 0; round++) {
      assert.ok(performance.now() - started < 60_000, "the storm does not end");
      await sleep(10 + ((round * 37) % 60));
      const runtime = runtimeNames[round % 3] as RuntimeName;
      // Only one that is at work by now.
      if (kills[runtime] < 6 && written[runtime].atomics.load(8) > kills[runtime]) living.get(runtime)?.kill("SIGKILL");
    }
  } finally {
    stop();
    await Promise.all(gone);
  }
  assert.deepEqual(failures, []);
  assertWhole(path);
  using metrics = Metrics.open(path);
  const own = metrics.counter("own", { help: "", labels: ["child"] });
  const fresh = metrics.counter("fresh", { help: "", labels: ["child", "n"] });
  const seconds = metrics.histogram("seconds", { help: "", buckets: [0.5, 2] });
  let starts = 0;
  for (const runtime of runtimeNames) {
    assert.equal(written[runtime].atomics.load(0), times);
    starts += written[runtime].atomics.load(8);
    const surplus = own.labels(runtime).value - times;
    // What a process had counted and not yet written down when it was killed: at most one each time.
    assert.ok(surplus >= 0 && surplus <= kills[runtime], `${runtime}: ${surplus} too many after ${kills[runtime]} kills`);
    for (let i = 0; i < times; i += 100) {
      const { value } = fresh.labels(runtime, i);
      assert.ok(value >= 1 && value <= 1 + kills[runtime], `series ${i} of ${runtime} is ${value}`);
    }
  }
  const total = kills.bun + kills.deno + kills.node;
  const all = metrics.counter("all", { help: "" }).value;
  console.log(`# ${JSON.stringify({ kills, starts, all, count: seconds.count, sum: seconds.sum })}`);
  assert.ok(all >= 3 * times && all <= 3 * times + total, `${all}`);
  assert.ok(seconds.count >= 3 * times && seconds.count <= 3 * times + total, `${seconds.count}`);
  assert.ok(seconds.sum <= seconds.count && seconds.sum >= seconds.count - total, `${seconds.sum} of ${seconds.count}`);
  assert.ok(starts >= 9, `only ${starts} starts: the kills came too late to mean anything`);
  assert.equal(readRawMetrics(path).records.length, 4 + 1 + 3 + 1 + 3 * (times / 100), "each series once");
});
