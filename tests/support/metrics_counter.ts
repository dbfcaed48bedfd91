/**
 * A child that counts `times` times, in series that it shares with others of its kind.
 *
 * Usage: metrics_counter.ts METRICS TIMES
 */
import { Metrics } from "../../mod.ts";

const [path, times] = process.argv.slice(2) as [string, string];

using metrics = Metrics.open(path);
const counter = metrics.counter("times_total", { help: "How often." });
const seconds = metrics.histogram("seconds", { help: "How long.", labels: ["n"] });
for (let i = 0; i < Number(times); i++) {
  counter.inc();
  seconds.labels(i % 10).observe((i % 16) / 4);
}
