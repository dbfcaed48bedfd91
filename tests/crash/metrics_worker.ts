/**
 * A child of the storm: counts in a series of its own and in one of all, and adds ever new series. What it has done it writes into a mapping,
 * where a kill can't take it back.
 *
 * Usage: metrics_worker.ts METRICS LEDGER NAME TIMES
 */
import { Mapping, Metrics } from "../../mod.ts";

const [path, ledger, name, times] = process.argv.slice(2) as [string, string, string, string];

using metrics = Metrics.open(path);
using done = Mapping.open(ledger, { create: true, byteLength: 64 });
const all = metrics.counter("all_total", { help: "By all." });
const own = metrics.counter("own_total", { help: "By one.", labels: ["child"] }).labels(name);
const seconds = metrics.histogram("seconds", { help: "By all, 1 each.", buckets: [0.5, 2] });
const fresh = metrics.counter("fresh_total", { help: "A series for each thousandth.", labels: ["child", "n"] });
// Word 0: rounds that are done. Word 8: how often it was started.
done.atomics.add(8, 1);
for (let i = done.atomics.load(0); i < Number(times); ) {
  all.inc();
  own.inc();
  seconds.observe(1);
  if (i % 100 === 0) fresh.labels(name, i).inc();
  done.atomics.store(0, ++i);
}
