/** Metrics: what they count and what they refuse. The text: metrics_expose.test.ts; wrong files: tests/format/. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { Counter, Gauge, Histogram, LabelledMetric, Metrics } from "../../mod.ts";
import { assertThrows, mapError, rangeError, typeError } from "../support/errors.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { untouched } from "../support/untouched.ts";
import { endWorkers } from "../support/workers.ts";

const files = temporaryFiles();
const help = "Help.";

test("a counter counts up, by whole numbers and fractions", () => {
  const path = files.next();
  using metrics = Metrics.open(path);
  const jobs = metrics.counter("jobs_total", { help });
  assert.ok(jobs instanceof Counter);
  assert.equal(jobs.value, 0);
  assert.equal(jobs.inc(), undefined);
  jobs.inc(41);
  assert.equal(jobs.value, 42);
  jobs.inc(0.5);
  jobs.inc(0);
  assert.equal(jobs.value, 42.5);
  jobs.inc(undefined);
  assert.equal(jobs.value, 43.5);
  assert.equal(metrics.path, path);
  assert.equal(metrics.closed, false);
  assert.equal(fs.statSync(path).mode & 0o777, 0o600);
});

test("whole numbers are exact up to 2^53", () => {
  using metrics = Metrics.open(files.next());
  const jobs = metrics.counter("jobs", { help });
  jobs.inc(2 ** 53 - 2);
  jobs.inc();
  assert.equal(jobs.value, 2 ** 53 - 1);
  jobs.inc();
  assert.equal(jobs.value, 2 ** 53);
  jobs.inc();
  assert.equal(jobs.value, 2 ** 53, "as 2 ** 53 + 1 is in JavaScript");
});

test("a counter refuses what would not count up", () => {
  using metrics = Metrics.open(files.next());
  const jobs = metrics.counter("jobs", { help });
  for (const bad of [-1, -0.001, NaN, Infinity, -Infinity]) assertThrows(() => jobs.inc(bad), rangeError(/"delta" must be finite and >= 0/), String(bad));
  for (const bad of ["1", null, 1n, {}, true]) assertThrows(() => jobs.inc(bad as number), typeError(/"delta"/), String(bad));
  jobs.inc(-0);
  assert.equal(jobs.value, 0);
});

test("a gauge goes up and down and takes any number", () => {
  using metrics = Metrics.open(files.next());
  const gauge = metrics.gauge("level", { help });
  assert.ok(gauge instanceof Gauge);
  gauge.inc();
  gauge.inc(2.5);
  gauge.dec();
  gauge.dec(10);
  assert.equal(gauge.value, -7.5);
  // Also the numbers that the native functions say their failures with.
  for (const value of [0, -0, 1e300, -1e300, -(2 ** 63), -(2 ** 66), -(2 ** 68), -Infinity, Infinity, Number.MIN_VALUE, NaN]) {
    gauge.set(value);
    assert.ok(Object.is(gauge.value, value), String(value));
  }
  gauge.set(-(2 ** 68));
  gauge.inc();
  gauge.dec(1);
  assert.equal(gauge.value, -(2 ** 68));
  const before = Date.now() / 1000;
  gauge.setToCurrentTime();
  assert.ok(gauge.value >= before && gauge.value <= Date.now() / 1000);
  for (const bad of [NaN, Infinity, -Infinity]) {
    assertThrows(() => gauge.inc(bad), rangeError(/finite/), String(bad));
    assertThrows(() => gauge.dec(bad), rangeError(/finite/), String(bad));
  }
  for (const bad of ["1", null, 1n, {}]) {
    assertThrows(() => gauge.set(bad as number), typeError(), String(bad));
    assertThrows(() => gauge.inc(bad as number), typeError(), String(bad));
    assertThrows(() => gauge.dec(bad as number), typeError(), String(bad));
  }
  assertThrows(() => gauge.set(undefined as unknown as number), typeError());
});

test("a histogram sorts values into buckets", () => {
  using metrics = Metrics.open(files.next());
  const sizes = metrics.histogram("sizes", { help, buckets: [-1, 0, 2.5, 100] });
  assert.ok(sizes instanceof Histogram);
  assert.deepEqual(sizes.buckets, [[-1, 0], [0, 0], [2.5, 0], [100, 0], [Infinity, 0]]);
  for (const value of [-2, -1, -0.5, 0, 1, 2.5, 2.6, 100, 100.1, 1e9]) sizes.observe(value);
  assert.deepEqual(sizes.buckets, [[-1, 2], [0, 4], [2.5, 6], [100, 8], [Infinity, 10]]);
  assert.equal(sizes.count, 10);
  assert.equal(sizes.sum, -2 - 1 - 0.5 + 0 + 1 + 2.5 + 2.6 + 100 + 100.1 + 1e9);
  for (const bad of [NaN, Infinity, -Infinity]) assertThrows(() => sizes.observe(bad), rangeError(/finite/), String(bad));
  for (const bad of ["1", null, undefined, 1n]) assertThrows(() => sizes.observe(bad as unknown as number), typeError(), String(bad));
  assert.equal(sizes.count, 10);
});

test("each bound of many is the last that its bucket takes", () => {
  using metrics = Metrics.open(files.next());
  for (const count of [1, 2, 3, 16, 17, 1000]) {
    const bounds = Array.from({ length: count }, (_, i) => i / 8);
    const histogram = metrics.histogram(`h${count}`, { help, buckets: bounds });
    for (const bound of bounds) {
      histogram.observe(bound);
      histogram.observe(bound + 1 / 16);
    }
    // Each bucket but the first has the value between the bound before and its own, too.
    assert.deepEqual(histogram.buckets.map(([, value]) => value), [...bounds.map((_, i) => 2 * i + 1), 2 * count]);
  }
});

test("the default buckets, and a timer in seconds", async () => {
  using metrics = Metrics.open(files.next());
  const seconds = metrics.histogram("seconds", { help });
  assert.deepEqual(seconds.buckets.map(([bound]) => bound), [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, Infinity]);
  const end = seconds.startTimer();
  await new Promise((resolve) => setTimeout(resolve, 20));
  const took = end();
  assert.ok(took >= 0.015 && took < 10, String(took));
  assert.equal(seconds.count, 1);
  assert.equal(seconds.sum, took);
});

test("labels: a series for each combination, always the same object", () => {
  using metrics = Metrics.open(files.next());
  const requests = metrics.counter("requests", { help, labels: ["method", "code"] });
  assert.ok(requests instanceof LabelledMetric);
  assert.equal(requests.name, "requests");
  assert.deepEqual(requests.labelNames, ["method", "code"]);
  const found = requests.labels({ method: "GET", code: 200 });
  assert.equal(requests.labels({ code: 200, method: "GET" }), found);
  assert.equal(requests.labels({ method: "GET", code: "200" }), found);
  assert.equal(requests.labels({ method: "GET", code: 200n }), found);
  assert.equal(requests.labels("GET", 200), found);
  assert.equal(requests.labels("GET", "200"), found);
  assert.notEqual(requests.labels("GET", 404), found);
  found.inc();
  requests.labels("GET", 404).inc(2);
  requests.labels("GET", true).inc(3);
  assert.deepEqual(["200", "404", "true"].map((code) => requests.labels("GET", code).value), [1, 2, 3]);
  assert.equal(metrics.counter("requests_total", { help, labels: ["method", "code"] }), requests);
});

test("labels: no two combinations are mixed up", () => {
  const path = files.next();
  using metrics = Metrics.open(path);
  const pairs = metrics.gauge("pairs", { help, labels: ["a", "b"] });
  const values = ["", "a", "b", "ab", "1:a", "a1:", "\0", "\u0001a", "\n", '"', "\\", "\\n", "{}", ",", "\ufeff", "\ufeffa", "ü", "u\u0308", "🚀", "__proto__", "constructor"];
  values.forEach((a, i) => values.forEach((b, j) => pairs.labels({ a, b }).set(i * 100 + j)));
  using other = Metrics.open(path);
  const again = other.gauge("pairs", { help, labels: ["a", "b"] });
  values.forEach((a, i) => values.forEach((b, j) => assert.equal(again.labels(a, b).value, i * 100 + j, JSON.stringify([a, b]))));
});

test("labels that are wrong", () => {
  using metrics = Metrics.open(files.next());
  const requests = metrics.counter("requests", { help, labels: ["method", "code"] });
  const labels = requests.labels.bind(requests) as (...values: unknown[]) => unknown;
  assertThrows(() => labels({ method: "GET" }), typeError(/requests has the labels method, code; received method/));
  assertThrows(() => labels({ method: "GET", code: 200, path: "/" }), typeError(/received method, code, path/));
  assertThrows(() => labels({ method: "GET", path: "/" }), typeError());
  assertThrows(() => labels({}), typeError(/received none/));
  assertThrows(() => labels(), typeError(/2 labels method, code; received 0 values/));
  assertThrows(() => labels("GET"), typeError(/received 1 values/));
  assertThrows(() => labels("GET", 200, "/"), typeError());
  for (const bad of [undefined, null, {}, [], Symbol("s"), () => 1]) {
    assertThrows(() => labels("GET", bad), typeError(/"label code"/), String(bad));
    assertThrows(() => labels({ method: bad, code: 1 }), typeError(/"label method"/));
  }
  assertThrows(() => labels("\ud800", 200), rangeError(/well-formed/));
  assertThrows(() => labels("x".repeat(1025), 200), rangeError(/1024 bytes/));
  assertThrows(() => labels("ü".repeat(513), 200), rangeError(/1024 bytes/));
  labels("x".repeat(1024), "ü".repeat(512));
  assert.equal(metrics.expose().split("\n").filter((line) => !line.startsWith("#")).length, 2, "the rest left nothing behind");
});

test("names and labels that Prometheus does not allow", () => {
  using metrics = Metrics.open(files.next());
  for (const bad of ["", "1a", "a-b", "a b", "a.b", "ä", "a\n", "_total", "a_total_total", "_total_total", "x".repeat(256)]) {
    assertThrows(() => metrics.counter(bad, { help }), rangeError(/"name"/), bad);
  }
  for (const bad of [1, null, undefined, {}]) assertThrows(() => metrics.gauge(bad as unknown as string, { help }), typeError(/"name"/));
  for (const bad of ["", "1a", "a:b", "a-b", "__a", "__name__", "ä", "x".repeat(256)]) {
    assertThrows(() => metrics.gauge("g", { help, labels: [bad] }), rangeError(/"labels\[0\]"/), bad);
  }
  assertThrows(() => metrics.gauge("g", { help, labels: ["a", "a"] }), rangeError(/labels\[1\].*not in the list yet/));
  for (const gaps of [new Array(2), [, "a"], ["a", , "b"]]) {
    assertThrows(() => metrics.gauge("g", { help, labels: gaps as string[] }), typeError(/"labels\[\d\]"/), "a gap");
  }
  assertThrows(() => metrics.gauge("g", { help, labels: "a" as unknown as string[] }), typeError(/"labels"/));
  assertThrows(() => metrics.gauge("g", { help, labels: [1] as unknown as string[] }), typeError(/"labels\[0\]"/));
  assertThrows(() => metrics.gauge("g", { help, labels: Array.from({ length: 33 }, (_, i) => `l${i}`) }), rangeError(/33 labels/));
  assertThrows(() => metrics.histogram("h", { help, labels: ["le"] }), rangeError(/"le"/));
  assertThrows(() => metrics.gauge("g", {} as { help: string }), typeError(/"help"/));
  assertThrows(() => metrics.gauge("g", { help: 1 } as unknown as { help: string }), typeError(/"help"/));
  assertThrows(() => metrics.gauge("g", { help: "x".repeat(1025) }), rangeError(/"help"/));
  assertThrows(() => metrics.gauge("g", { help: "\udc00" }), rangeError(/"help"/));
  assertThrows(() => metrics.gauge("g", { help, buckets: [1] } as { help: string }), typeError(/"buckets"/));
  assert.equal(metrics.expose(), "");
  // What is allowed, to the limit.
  metrics.gauge("le", { help, labels: ["le"] }).labels("x").inc();
  metrics.gauge(`:${"x".repeat(254)}`, { help: "ü".repeat(512), labels: Array.from({ length: 32 }, (_, i) => `${"l".repeat(252)}_${i}`) })
    .labels(...(Array.from({ length: 32 }, () => "x".repeat(1024)))).inc();
  metrics.histogram("most", { help: "x".repeat(1024), buckets: Array.from({ length: 1000 }, (_, i) => i) }).observe(999);
  assert.equal(metrics.expose().split("\n").length, 2 + 2 + 1 + 2 + 1001 + 2 + 1 + 1);
});

test("buckets that are none", () => {
  using metrics = Metrics.open(files.next());
  const declare = (buckets: unknown) => () => metrics.histogram("h", { help, buckets: buckets as number[] });
  for (const bad of [[], [Infinity], [1, 1], [2, 1], [NaN], [-Infinity, 1], [1, Infinity, 2], [0, -0], Array.from({ length: 1001 }, (_, i) => i)]) {
    assertThrows(declare(bad), rangeError(), String(bad).slice(0, 20));
  }
  for (const bad of ["1", 1, [1, "2"], [null], new Array(2), [1, , 3], [1, , 3, Infinity]]) assertThrows(declare(bad), typeError(), String(bad));
  assert.equal(metrics.expose(), "");
  const with1 = metrics.histogram("h", { help, buckets: [-0, 1, Infinity] });
  assert.equal(metrics.histogram("h", { help, buckets: [0, 1] }), with1);
});

test("declared again with the same shape it is the same, with another an error that changes nothing", () => {
  const path = files.next();
  using metrics = Metrics.open(path);
  const counter = metrics.counter("a_total", { help, labels: [] });
  assert.equal(metrics.counter("a", { help: "Another text." }), counter);
  metrics.histogram("h", { help, labels: ["x"], buckets: [1, 2] });
  metrics.gauge("g", { help });
  using other = Metrics.open(path);
  untouched(path, () => {
    for (const handle of [metrics, other]) {
      assertThrows(() => handle.counter("a", { help, labels: ["x"] }), rangeError(/the counter a has the labels none.*not x/));
      assertThrows(() => handle.gauge("a", { help }), rangeError(/"a" belongs to the counter a/));
      assertThrows(() => handle.gauge("a_total", { help }), rangeError(/"a_total" belongs to the counter a/));
      assertThrows(() => handle.counter("g", { help }), rangeError(/gauge g/));
      assertThrows(() => handle.histogram("h", { help, labels: ["y"], buckets: [1, 2] }), rangeError(/labels x.*not y/));
      assertThrows(() => handle.histogram("h", { help, labels: ["x"], buckets: [1, 3] }), rangeError(/buckets 1, 2.*not 1, 3/));
      assertThrows(() => handle.histogram("h", { help, labels: ["x"] }), rangeError(/buckets/));
      for (const name of ["h_sum", "h_count", "h_bucket"]) assertThrows(() => handle.gauge(name, { help }), rangeError(/histogram h/), name);
    }
  });
  assertThrows(() => metrics.histogram("a", { help }), rangeError());
  metrics.gauge("x_sum", { help });
  assertThrows(() => metrics.histogram("x", { help }), rangeError(/"x_sum" belongs to the gauge x_sum/));
  assert.ok(metrics.expose().includes(`# HELP a_total ${help}\n`), "the first text stays");
});

test("all handles see the same values, also of series that are new, and a new handle goes on", () => {
  const path = files.next();
  {
    using one = Metrics.open(path);
    using two = Metrics.open(pathToFileURL(path));
    const first = one.counter("c", { help, labels: ["x"] });
    const second = two.counter("c", { help, labels: ["x"] });
    first.labels("a").inc(3);
    assert.equal(second.labels("a").value, 3);
    second.labels("b").inc(4);
    assert.equal(first.labels("b").value, 4);
    second.labels("a").inc();
    assert.equal(first.labels("a").value, 4);
    two.gauge("late", { help }).set(5);
    assert.equal(one.expose(), two.expose());
    assert.ok(one.expose().includes("late 5\n"));
  }
  using again = Metrics.open(path);
  again.counter("c", { help, labels: ["x"] }).labels("a").inc();
  assert.equal(again.expose(), `# HELP c_total ${help}\n# TYPE c_total counter\nc_total{x="a"} 5\nc_total{x="b"} 4\n# HELP late ${help}\n# TYPE late gauge\nlate 5\n`);
});

test("a file that grows: series that were there before go on, in each handle", () => {
  const path = files.next();
  using one = Metrics.open(path);
  using two = Metrics.open(path);
  const early = one.counter("early", { help });
  const many = one.counter("many", { help, labels: ["n"] });
  const size = fs.statSync(path).size;
  for (let i = 0; i < 3000; i++) {
    many.labels(i).inc(i);
    early.inc();
  }
  assert.ok(fs.statSync(path).size > 8 * size);
  const seen = two.counter("many", { help, labels: ["n"] });
  for (let i = 0; i < 3000; i++) assert.equal(seen.labels(String(i)).value, i);
  two.counter("early", { help }).inc();
  assert.equal(early.value, 3001);
});

test("series that do not fit into what is mapped at first", () => {
  const path = files.next();
  using metrics = Metrics.open(path);
  using other = Metrics.open(path);
  // About 16.6 KiB each: some lie across the border of two windows of 16 MiB.
  const big = metrics.histogram("big", { help, labels: ["n", "text"], buckets: Array.from({ length: 1000 }, (_, i) => i) });
  const text = "x".repeat(1000);
  for (let i = 0; i < 2000; i++) big.labels(i, text).observe(i);
  assert.ok(fs.statSync(path).size > 17 << 20, String(fs.statSync(path).size));
  const seen = other.histogram("big", { help, labels: ["n", "text"], buckets: Array.from({ length: 1000 }, (_, i) => i) });
  for (let i = 0; i < 2000; i++) {
    seen.labels(i, text).observe(0.5);
    assert.deepEqual([big.labels(i, text).count, big.labels(i, text).sum], [2, i + 0.5]);
  }
});

test("maxSeries: a clear error instead of a disk that fills", () => {
  const path = files.next();
  using metrics = Metrics.open(path, { maxSeries: 3 });
  const counter = metrics.counter("c", { help, labels: ["x"] });
  for (const x of ["a", "b", "c"]) counter.labels(x).inc();
  untouched(path, () => {
    assertThrows(() => counter.labels("d"), mapError("ERR_TOO_MANY_SERIES", /3 series.*"maxSeries" allows 3/));
    assertThrows(() => metrics.gauge("g", { help }), mapError("ERR_TOO_MANY_SERIES"));
    assert.equal(counter.labels("a").value, 1);
  });
  using more = Metrics.open(path, { maxSeries: 4 });
  more.counter("c", { help, labels: ["x"] }).labels("d").inc();
  assert.equal(counter.labels("d").value, 1, "what others added is there");
  for (const name of ["g", "h"]) metrics.gauge(name, { help, labels: ["x"] });
  assertThrows(() => metrics.gauge("i", { help, labels: ["x"] }), mapError("ERR_TOO_MANY_SERIES"));
});

test("mode r reads, exposes and changes nothing", () => {
  const path = files.next();
  using writer = Metrics.open(path);
  writer.counter("c", { help }).inc(5);
  writer.gauge("g", { help, labels: ["x"] }).labels("a").set(-1);
  writer.histogram("h", { help }).observe(1);
  using reader = Metrics.open(path, { mode: "r" });
  untouched(path, () => {
    const counter = reader.counter("c", { help });
    const gauge = reader.gauge("g", { help, labels: ["x"] });
    const histogram = reader.histogram("h", { help });
    assert.deepEqual([counter.value, gauge.labels("a").value, histogram.count, histogram.sum], [5, -1, 1, 1]);
    assert.equal(reader.expose(), writer.expose());
    const refused = mapError("ERR_READ_ONLY", /mode "rw"/);
    assertThrows(() => counter.inc(), refused);
    assertThrows(() => counter.inc(2), refused);
    assertThrows(() => gauge.labels("a").set(1), refused);
    assertThrows(() => gauge.labels("a").inc(), refused);
    assertThrows(() => gauge.labels("a").dec(1), refused);
    assertThrows(() => histogram.observe(1), refused);
    assertThrows(() => gauge.labels("b"), refused);
    assertThrows(() => reader.gauge("new", { help }), refused);
  });
  writer.gauge("late", { help, labels: ["x"] }).labels("b").set(7);
  assert.equal(reader.gauge("late", { help, labels: ["x"] }).labels("b").value, 7);
  assert.equal(reader.expose(), writer.expose());
});

test("after close every use is ERR_CLOSED", () => {
  const path = files.next();
  const metrics = Metrics.open(path);
  const counter = metrics.counter("c", { help });
  const gauge = metrics.gauge("g", { help });
  const histogram = metrics.histogram("h", { help });
  const labelled = metrics.counter("l", { help, labels: ["x"] });
  const series = labelled.labels({ x: "a" });
  const end = histogram.startTimer();
  metrics.close();
  metrics.close();
  metrics[Symbol.dispose]();
  assert.equal(metrics.closed, true);
  const calls: (() => unknown)[] = [
    () => counter.inc(), () => counter.inc(2), () => counter.value, () => gauge.set(1), () => gauge.inc(), () => gauge.inc(1), () => gauge.dec(),
    () => gauge.dec(1), () => gauge.setToCurrentTime(), () => gauge.value, () => histogram.observe(1), () => histogram.observe(100), end,
    () => histogram.count, () => histogram.sum, () => histogram.buckets, () => series.inc(), () => labelled.labels({ x: "a" }), () => labelled.labels("a"),
    () => labelled.labels("b"), () => metrics.expose(), () => metrics.counter("c", { help }), () => metrics.counter("n", { help }),
    () => metrics.gauge("g", { help }), () => metrics.histogram("h", { help }),
  ];
  for (const call of calls) assertThrows(call, mapError("ERR_CLOSED", /the metrics is closed/), String(call));
  assert.equal(metrics.path, path);
});

test("options are checked, and nothing is created by a wrong one", () => {
  const path = files.next();
  const open = (options: unknown) => () => Metrics.open(path, options as { mode: "r" });
  assertThrows(open({ mode: "w" }), rangeError(/"r" or "rw"/));
  assertThrows(open({ permissions: -1 }), rangeError());
  assertThrows(open({ maxSeries: 0 }), rangeError());
  assertThrows(open({ maxSeries: "1" }), typeError());
  assertThrows(open({ autoUnlink: 1 }), typeError());
  assertThrows(open({ count: 1 }), typeError(/"count".*mode, permissions, autoUnlink, maxSeries/));
  assertThrows(open(null), typeError());
  assertThrows(() => Metrics.open(""), rangeError());
  assertThrows(() => Metrics.open(1 as unknown as string), typeError());
  assertThrows(open({ mode: "r" }), { ...mapError("ENOENT"), syscall: "open", path });
  assert.equal(fs.existsSync(path), false);
  using metrics = Metrics.open(path, { permissions: 0o640 });
  assert.equal(fs.statSync(path).mode & 0o777, 0o640);
  assertThrows(() => metrics.expose({ format: "json" } as unknown as { format: "openmetrics" }), rangeError(/"prometheus" or "openmetrics"/));
  assertThrows(() => metrics.expose({ formats: 1 } as unknown as { format: "openmetrics" }), typeError());
});

test("autoUnlink removes the file with the handle", () => {
  const path = files.next();
  const metrics = Metrics.open(path, { autoUnlink: true });
  metrics.counter("c", { help }).inc();
  assert.equal(fs.existsSync(path), true);
  metrics.close();
  assert.equal(fs.existsSync(path), false);
});

test("a file that is cut short is ERR_FAULT, and no dead process", () => {
  const path = files.next();
  const metrics = Metrics.open(path);
  const counter = metrics.counter("c", { help, labels: ["x"] });
  for (let i = 0; i < 100; i++) counter.labels(i).inc();
  const last = counter.labels(99);
  const gauge = metrics.gauge("g", { help });
  fs.truncateSync(path, 4096);
  assertThrows(() => last.inc(), mapError("ERR_FAULT"));
  assertThrows(() => last.value, mapError("ERR_FAULT"));
  assertThrows(() => gauge.set(1), mapError("ERR_FAULT"));
  assertThrows(() => gauge.inc(), mapError("ERR_FAULT"));
  assertThrows(() => metrics.expose(), mapError("ERR_FAULT"));
  assertThrows(() => counter.labels("new"), mapError("ERR_FAULT"));
  metrics.close();
  untouched(path, () => assertThrows(() => Metrics.open(path), mapError("ERR_CORRUPT", /4096 bytes/)));
});

test("a file that is cut short while it is open is not made longer again", () => {
  const path = files.next();
  using metrics = Metrics.open(path);
  const counter = metrics.counter("c", { help, labels: ["x"] });
  for (let i = 0; i < 100; i++) counter.labels(i).inc();
  for (const length of [8192, 1100]) {
    fs.truncateSync(path, length);
    untouched(path, () => assertThrows(() => counter.labels("new"), { ...mapError("ERR_FAULT", /cut short/), path }, String(length)));
    untouched(path, () => assertThrows(() => metrics.gauge("g", { help }), { ...mapError("ERR_FAULT", /cut short/), path }, String(length)));
  }
});

test("no two series share a cache line", () => {
  const path = files.next();
  using metrics = Metrics.open(path);
  const gauge = metrics.gauge("g", { help, labels: ["x"] });
  for (let i = 0; i < 5; i++) gauge.labels(i).set(12345678.5 + i);
  const bytes = fs.readFileSync(path);
  const lines = Array.from({ length: 5 }, (_, i) => {
    const cell = Buffer.alloc(8);
    cell.writeDoubleLE(12345678.5 + i);
    const offset = bytes.indexOf(cell);
    assert.equal(offset % 128, 0);
    assert.ok(bytes.subarray(offset + 8, offset + 128).every((byte) => byte === 0));
    return offset / 128;
  });
  assert.equal(new Set(lines).size, 5);
});

test("opening and closing leaves no descriptor and no mapping behind", () => {
  const path = files.next("no-mapping-left");
  Metrics.open(path).close();
  const open = (): number => fs.readdirSync("/proc/self/fd").length;
  const before = open();
  for (let i = 0; i < 50; i++) {
    using metrics = Metrics.open(path);
    metrics.counter(`c${i}`, { help }).inc();
  }
  const wrong = files.file(fs.readFileSync(path).fill(1, 128, 136));
  for (let i = 0; i < 50; i++) assertThrows(() => Metrics.open(wrong), mapError("ERR_CORRUPT"));
  assert.ok(open() <= before, "fewer is right: a collection may close what a test before has dropped");
  assert.ok(!fs.readFileSync("/proc/self/maps", "utf8").includes("no-mapping-left"));
});

test("Workers count in the same cells", async () => {
  const path = files.next();
  using metrics = Metrics.open(path);
  const times = 20_000;
  await Promise.all(Array.from({ length: 3 }, (_, i) => {
    const worker = new Worker(new URL("../support/metrics_worker.ts", import.meta.url), { workerData: { path, times, name: `w${i}` } });
    return new Promise<void>((resolve, reject) => {
      worker.once("message", () => resolve());
      worker.once("error", reject);
    }).finally(() => endWorkers([worker]));
  }));
  assert.equal(metrics.counter("shared", { help }).value, 3 * times);
  const seconds = metrics.histogram("seconds", { help, labels: ["worker"] });
  for (let i = 0; i < 3; i++) assert.deepEqual([seconds.labels(`w${i}`).count, seconds.labels(`w${i}`).sum], [times, times / 2]);
});
