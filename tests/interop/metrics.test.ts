/** Metrics between runtimes, and what Prometheus' own tools say of their text. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Metrics } from "../../mod.ts";
import { currentRuntime, runtimeNames } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { type Agent, children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const processes = children();

const elsewhere = currentRuntime === "node" ? undefined : "it starts all runtimes itself: run under Node only";
const noChecker = spawnSync("promtool", ["--version"]).status === 0 ? undefined : "promtool is not installed (Debian: prometheus)";

/** What `promtool check metrics` says of a text: nothing if it is all right, its complaints otherwise. */
function complaints(text: string): string {
  const { status, stdout, stderr } = spawnSync("promtool", ["check", "metrics"], { input: text, encoding: "utf8" });
  return status === 0 ? "" : `exit code ${status}: ${stdout}${stderr}`;
}

/** Text of OpenMetrics, as Prometheus reads it: how many samples it finds, or why it finds none. */
function openMetricsSamples(text: string): number | string {
  const input = files.file(text.replaceAll(/^([^#\n].*)$/gm, "$1 1700000000"), "openmetrics");
  const folder = files.next("blocks");
  const { status, stdout, stderr } = spawnSync("promtool", ["tsdb", "create-blocks-from", "openmetrics", input, folder], { encoding: "utf8" });
  const samples = /NUM SAMPLES.*\n\S+ +\S+ +\S+ +\S+ +(\d+)/.exec(stdout)?.[1];
  return status === 0 && samples !== undefined ? Number(samples) : `exit code ${status}: ${stdout}${stderr}`;
}

/** Fills a file with all that there is, and what is awkward. */
function fill(metrics: Metrics): void {
  const help = 'A help text with \\, " and\na second line.';
  const requests = metrics.counter("http_requests_total", { help, labels: ["method", "code"] });
  for (const text of ["", "GET", '\\ "\n\r\t\u0001\0', "ü 🚀 \ufeff", "{},=# \u2028", "x".repeat(1024)]) requests.labels(text, 200).inc(1.5);
  metrics.counter("jobs", { help }).inc(2 ** 53);
  const level = metrics.gauge("level_bytes", { help, labels: ["i"] });
  [Infinity, -Infinity, NaN, 1e21, -1e-7, 0, Number.MIN_VALUE].forEach((value, i) => level.labels(i).set(value));
  const seconds = metrics.histogram("http_request_seconds", { help, labels: ["path"] });
  for (let i = 0; i < 200; i++) seconds.labels(i % 2 === 0 ? "/" : "/ü").observe(i / 10);
  metrics.histogram("change_bytes", { help, buckets: [-10, 0, 10] }).observe(-11);
  metrics.gauge("no_series", { help, labels: ["x"] });
}

const checked = "promtool check metrics finds nothing to complain about";
test(checked, skipFor(checked, noChecker), () => {
  using metrics = Metrics.open(files.next());
  fill(metrics);
  const text = metrics.expose();
  assert.equal(complaints(text), "");
  // The checker bites.
  assert.match(complaints(text.replaceAll('code="200"', "code=200")), /exit code 1/);
  assert.match(complaints(text.replace("# TYPE level_bytes gauge", "# TYPE level_bytes counter")), /exit code 3/);
  assert.match(complaints(text.replace("# HELP level_bytes", "# HELP level_byte")), /no help text/);
});

const parsed = "Prometheus reads the OpenMetrics text: each sample of it";
test(parsed, skipFor(parsed, noChecker), () => {
  using metrics = Metrics.open(files.next());
  fill(metrics);
  const text = metrics.expose({ format: "openmetrics" });
  assert.equal(openMetricsSamples(text), text.split("\n").filter((line) => line !== "" && !line.startsWith("#")).length);
  assert.match(String(openMetricsSamples(text.replace("# EOF\n", ""))), /exit code 1/);
  assert.match(String(openMetricsSamples(text.replaceAll('code="200"', "code=200"))), /exit code 1/);
});

const pairs = "all ordered pairs: what each runtime declares and counts, each other counts on and writes";
test(pairs, skipFor(pairs, elsewhere), async () => {
  const path = files.next("metrics");
  const agents = runtimeNames.map((runtime) => processes.agent(runtime));
  const each = async (what: (agent: Agent) => Promise<unknown>): Promise<void> => {
    for (const agent of agents) await what(agent);
  };
  try {
    // The first open of each, at once: one of them creates the file.
    await Promise.all(agents.map((agent) => agent.send({ do: "static", class: "Metrics", method: "open", args: [path], as: "m" })));
    // Each declares a metric of its own, then all declare all of them.
    await each((agent) => agent.send({ do: "call", on: "m", method: "gauge", args: [`of_${agent.runtime}`, { help: "Its own." }], as: agent.runtime }));
    await each(async (agent) => {
      for (const other of runtimeNames) {
        if (other !== agent.runtime) await agent.send({ do: "call", on: "m", method: "gauge", args: [`of_${other}`, { help: "Another's." }], as: other });
      }
    });
    const declare = { help: "Counted by one for another.", labels: ["by", "of"] };
    await Promise.all(agents.map((agent) => agent.send({ do: "call", on: "m", method: "counter", args: ["pairs_total", declare], as: "pairs" })));
    const timing = { help: "Of all.", labels: ["by"], buckets: [1, 2] };
    await Promise.all(agents.map((agent) => agent.send({ do: "call", on: "m", method: "histogram", args: ["seconds", timing], as: "seconds" })));
    await each(async (agent) => {
      for (const [i, other] of runtimeNames.entries()) {
        await agent.send({ do: "call", on: other, method: "inc", args: [10 ** i] });
        await agent.send({ do: "call", on: "pairs", method: "labels", args: [{ by: agent.runtime, of: `${other} ü"\n` }], as: "one" });
        await agent.send({ do: "call", on: "one", method: "inc", args: [i + 0.5] });
        await agent.send({ do: "call", on: "seconds", method: "labels", args: [other], as: "two" });
        await agent.send({ do: "call", on: "two", method: "observe", args: [i] });
      }
    });
    using metrics = Metrics.open(path, { mode: "r" });
    const text = metrics.expose();
    for (const [i, runtime] of runtimeNames.entries()) {
      assert.ok(text.includes(`\nof_${runtime} ${3 * 10 ** i}\n`), text);
      assert.ok(text.includes(`\nseconds_sum{by="${runtime}"} ${3 * i}\n`), text);
      assert.ok(text.includes(`\nseconds_count{by="${runtime}"} 3\n`), text);
      for (const [j, other] of runtimeNames.entries()) {
        assert.ok(text.includes(`\npairs_total{by="${runtime}",of="${other} ü\\"\\n"} ${j + 0.5}\n`), text);
      }
    }
    await each(async (agent) => {
      const own = (await agent.send({ do: "call", on: "m", method: "expose", args: [] })) as string;
      assert.equal(own, text, agent.runtime);
      if (noChecker === undefined) assert.equal(complaints(own), "", agent.runtime);
      for (const format of ["prometheus", "openmetrics"]) {
        assert.equal(await agent.send({ do: "call", on: "m", method: "expose", args: [{ format }] }), metrics.expose({ format: format as "openmetrics" }));
      }
    });
    for (const agent of agents) assert.equal((await agent.end()).code, 0);
  } finally {
    await Promise.all(agents.map((agent) => agent.kill()));
  }
});

/** Checks what must hold of a histogram's lines, whenever they are read. */
function checkHistograms(text: string): number {
  let last = 0;
  let count = 0;
  for (const line of text.split("\n")) {
    const [name = "", value = ""] = line.split(" ");
    if (name.startsWith("seconds_bucket")) {
      if (name.includes('le="0.005"')) last = 0;
      assert.ok(Number(value) >= last, `${line} after ${last}`);
      last = Number(value);
    } else if (name.startsWith("seconds_count")) {
      assert.equal(Number(value), last, line);
      count += last;
    }
  }
  return count;
}

const busy = "while three runtimes count: each text is one that Prometheus takes, and in the end nothing is missing";
test(busy, skipFor(busy, elsewhere), async () => {
  const path = files.next("metrics");
  const script = new URL("../support/metrics_counter.ts", import.meta.url).pathname;
  using metrics = Metrics.open(path);
  const times = 100_000;
  let running = runtimeNames.length;
  const work = runtimeNames.map((runtime) => processes.script(runtime, script, path, String(times)).finally(() => running--));
  let texts = 0;
  let last = 0;
  while (running > 0) {
    const text = metrics.expose();
    const count = checkHistograms(text);
    assert.ok(count >= last, `${count} after ${last}`);
    if (noChecker === undefined && texts % 50 === 0 && text !== "") assert.equal(complaints(text), "");
    last = count;
    texts++;
    await sleep(1);
  }
  assert.ok(texts > 5, `${texts} texts: too few to mean anything`);
  for (const ending of await Promise.all(work)) assert.equal(ending.code, 0, ending.stderr);
  assert.equal(metrics.counter("times_total", { help: "" }).value, runtimeNames.length * times);
  assert.equal(checkHistograms(metrics.expose()), runtimeNames.length * times);
  const seconds = metrics.histogram("seconds", { help: "", labels: ["n"] });
  const sum = Array.from({ length: 10 }, (_, n) => seconds.labels(n).sum).reduce((a, b) => a + b);
  assert.equal(sum, runtimeNames.length * Array.from({ length: times }, (_, i) => (i % 16) / 4).reduce((a, b) => a + b));
});
