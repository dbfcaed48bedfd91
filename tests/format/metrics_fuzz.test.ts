/**
 * Damaged files of metrics: a clear error or the right names, labels and values. A value has no checksum, since any process changes it by
 * a single instruction: damage inside a value is another value, of that series alone, or an error.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { Metrics } from "../../mod.ts";
import { fuzz, type FuzzContext } from "../support/fuzz.ts";
import { type RawRecord, readRawMetrics, withId } from "../support/metrics_reader.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const labels = ["method", "code"] as const;
const buckets = [0.1, 1, 10];

/** The same bytes each time: the end's check has 16 bits, and with one id it is known which damage passes. */
function original(): Uint8Array {
  const path = files.next();
  {
    using metrics = Metrics.open(path);
    const requests = metrics.counter("requests", { help: "Requests \n answered.", labels });
    for (let i = 0; i < 20; i++) requests.labels(`M${i}"\\\n`, i).inc(i + 1);
    metrics.gauge("level", { help: "Größe 🚀" }).set(-7.5);
    const seconds = metrics.histogram("seconds", { help: "Time.", labels: ["path"], buckets });
    for (let i = 0; i < 5; i++) for (const value of [0.05, 0.5, 5, 50]) seconds.labels(`/${"x".repeat(50 * i)}`).observe(value);
  }
  // Without most of the room that is reserved, where damage does nothing.
  const bytes = new Uint8Array(fs.readFileSync(path)).slice(0, readRawMetrics(path).end + 1024);
  return withId(bytes, Uint8Array.from({ length: 16 }, (_, i) => 200 - i));
}

const bytes = original();
const series: readonly RawRecord[] = readRawMetrics(bytes).records.filter(({ kind }) => kind === 4);
const lines = ((): readonly string[] => {
  using metrics = Metrics.open(files.file(bytes), { mode: "r" });
  return metrics.expose().split("\n");
})();

/** For each line of the text the cells that its number is made of. */
const cellsOf = ((): readonly (readonly number[])[] => {
  const samples = series.flatMap(({ cells, cellsAt }) => {
    if (cells.length === 1) return [[cellsAt]];
    const all = cells.slice(1).map((_, i) => cellsAt + 8 * (i + 1));
    return [...all.map((_, i) => all.slice(0, i + 1)), [cellsAt], all];
  });
  return lines.map((line) => (line === "" || line.startsWith("#") ? [] : (samples.shift() ?? assert.fail("too many lines"))));
})();

function use(metrics: Metrics, { call, changed, mode }: FuzzContext): void {
  const text = call(() => metrics.expose());
  if (text !== undefined) {
    const found = text.value.split("\n");
    assert.equal(found.length, lines.length);
    lines.forEach((line, i) => {
      if (found[i] === line) return;
      const cut = line.lastIndexOf(" ");
      assert.equal(found[i]?.slice(0, cut), line.slice(0, cut));
      assert.ok(cellsOf[i]?.some((offset) => changed(offset, 8)), `${found[i]} instead of ${line}`);
    });
  }
  if (mode === "r") return;
  const requests = call(() => metrics.counter("requests", { help: "", labels }));
  for (let i = 0; i < 20 && requests !== undefined; i += 3) {
    const counter = call(() => requests.value.labels(`M${i}"\\\n`, i));
    const offset = series[i]?.cellsAt ?? 0;
    if (counter === undefined || changed(offset, 8)) continue;
    if (call(() => counter.value.inc()) === undefined) continue;
    const value = call(() => counter.value.value);
    if (value !== undefined) assert.equal(value.value, i + 2);
  }
  const fresh = call(() => metrics.histogram("seconds", { help: "", labels: ["path"], buckets }).labels("new"));
  if (fresh === undefined) return;
  const before = call(() => fresh.value.buckets);
  if (before !== undefined) assert.deepEqual(before.value, [[0.1, 0], [1, 0], [10, 0], [Infinity, 0]], "a new series starts at 0, whatever was there");
  const sum = call(() => fresh.value.sum);
  if (sum !== undefined) assert.equal(sum.value, 0);
}

test("every byte of the start, and 2,000 random damages", () => {
  assert.equal(cellsOf.flat().length > 20, true);
  const report = fuzz({
    original: bytes,
    path: files.next(),
    open: (path, mode) => Metrics.open(path, { mode }),
    use,
    codes: ["ERR_NOT_HOLDFAST", "ERR_VERSION", "ERR_CORRUPT", "ERR_KIND", "ERR_FAULT"],
    headerBytes: 136,
  });
  console.log(`# ${JSON.stringify(report)}`);
  assert.ok(report.refused > 2 * 3 * 136, "all damage to the start is refused, and most to the descriptors");
});
