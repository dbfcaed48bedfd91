/** The text that Metrics.expose() writes. What Prometheus' own checker says of it: tests/interop/metrics.test.ts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Metrics } from "../../mod.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();

test("nothing at all", () => {
  using metrics = Metrics.open(files.next());
  assert.equal(metrics.expose(), "");
  assert.equal(metrics.expose({ format: "prometheus" }), "");
  assert.equal(metrics.expose({ format: "openmetrics" }), "# EOF\n");
});

test("the types of content", () => {
  assert.deepEqual(Metrics.contentTypes, {
    prometheus: "text/plain; version=0.0.4; charset=utf-8",
    openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
  });
});

test("each kind, in both formats", () => {
  using metrics = Metrics.open(files.next());
  const requests = metrics.counter("requests_total", { help: "Requests answered.", labels: ["method", "code"] });
  requests.labels("GET", 200).inc(3);
  requests.labels("POST", 500).inc();
  metrics.gauge("level", { help: "How high it is." }).set(-2.5);
  metrics.counter("plain", { help: "" }).inc(0.5);
  const seconds = metrics.histogram("seconds", { help: "How long it takes.", labels: ["path"], buckets: [0.1, 1, 10] });
  for (const value of [0.05, 0.1, 0.5, 100]) seconds.labels("/").observe(value);
  metrics.histogram("bytes", { help: "How much it is.", buckets: [1024] }).observe(1);
  metrics.gauge("none", { help: "Has no series.", labels: ["x"] });
  assert.equal(metrics.expose(), `\
# HELP requests_total Requests answered.
# TYPE requests_total counter
requests_total{method="GET",code="200"} 3
requests_total{method="POST",code="500"} 1
# HELP level How high it is.
# TYPE level gauge
level -2.5
# TYPE plain_total counter
plain_total 0.5
# HELP seconds How long it takes.
# TYPE seconds histogram
seconds_bucket{path="/",le="0.1"} 2
seconds_bucket{path="/",le="1"} 3
seconds_bucket{path="/",le="10"} 3
seconds_bucket{path="/",le="+Inf"} 4
seconds_sum{path="/"} 100.65
seconds_count{path="/"} 4
# HELP bytes How much it is.
# TYPE bytes histogram
bytes_bucket{le="1024"} 1
bytes_bucket{le="+Inf"} 1
bytes_sum 1
bytes_count 1
# HELP none Has no series.
# TYPE none gauge
`);
  assert.equal(metrics.expose({ format: "openmetrics" }), `\
# TYPE requests counter
# HELP requests Requests answered.
requests_total{method="GET",code="200"} 3
requests_total{method="POST",code="500"} 1
# TYPE level gauge
# HELP level How high it is.
level -2.5
# TYPE plain counter
plain_total 0.5
# TYPE seconds histogram
# HELP seconds How long it takes.
seconds_bucket{path="/",le="0.1"} 2
seconds_bucket{path="/",le="1.0"} 3
seconds_bucket{path="/",le="10.0"} 3
seconds_bucket{path="/",le="+Inf"} 4
seconds_sum{path="/"} 100.65
seconds_count{path="/"} 4
# TYPE bytes histogram
# HELP bytes How much it is.
bytes_bucket{le="1024.0"} 1
bytes_bucket{le="+Inf"} 1
bytes_sum 1
bytes_count 1
# TYPE none gauge
# HELP none Has no series.
# EOF
`);
});

test("what must be escaped", () => {
  using metrics = Metrics.open(files.next());
  const gauge = metrics.gauge("g", { help: 'A \\ and\na "quote".\r\t', labels: ["x"] });
  gauge.labels('\\ "\n\r\t\\n ü 🚀 {},=#').set(1);
  gauge.labels("").set(2);
  assert.equal(metrics.expose(), `# HELP g A \\\\ and\\na "quote".\r\t\n# TYPE g gauge\ng{x="\\\\ \\"\\n\r\t\\\\n ü 🚀 {},=#"} 1\ng{x=""} 2\n`);
  assert.ok(metrics.expose({ format: "openmetrics" }).includes('# HELP g A \\\\ and\\na \\"quote\\".\r\t\n'));
});

test("numbers as Go's ParseFloat reads them", () => {
  using metrics = Metrics.open(files.next());
  const gauge = metrics.gauge("g", { help: "", labels: ["i"] });
  const values = [Infinity, -Infinity, NaN, 0, -0, 1e21, 1e-7, 0.1, 2 ** 53, Number.MAX_VALUE, Number.MIN_VALUE];
  values.forEach((value, i) => gauge.labels(i).set(value));
  const written = metrics.expose().split("\n").slice(1, -1).map((line) => line.split(" ")[1]);
  assert.deepEqual(written, ["+Inf", "-Inf", "NaN", "0", "0", "1e+21", "1e-7", "0.1", "9007199254740992", "1.7976931348623157e+308", "5e-324"]);
});

test("bounds below zero: OpenMetrics wants neither sum nor count", () => {
  using metrics = Metrics.open(files.next());
  metrics.histogram("h", { help: "", buckets: [-1.5, 1e21] }).observe(-2);
  const buckets = (text: string): string => `# TYPE h histogram\nh_bucket{le="-1.5"} 1\nh_bucket{le="${text}"} 1\nh_bucket{le="+Inf"} 1\n`;
  assert.equal(metrics.expose(), `${buckets("1e+21")}h_sum -2\nh_count 1\n`);
  assert.equal(metrics.expose({ format: "openmetrics" }), `${buckets("1e+21")}# EOF\n`);
});

test("the order is that of declaration, whoever writes", () => {
  const path = files.next();
  using one = Metrics.open(path);
  using two = Metrics.open(path);
  one.gauge("z", { help: "", labels: ["x"] }).labels("2").inc();
  two.gauge("a", { help: "" }).inc();
  two.gauge("z", { help: "", labels: ["x"] }).labels("1").inc();
  one.gauge("z", { help: "", labels: ["x"] }).labels("0").inc();
  using late = Metrics.open(path, { mode: "r" });
  const names = (text: string): string[] => text.split("\n").filter((line) => !line.startsWith("#") && line !== "");
  for (const handle of [one, two, late, one]) assert.deepEqual(names(handle.expose()), ['z{x="2"} 1', 'z{x="1"} 1', 'z{x="0"} 1', "a 1"]);
});
