/**
 * A child that declares metrics, adds series and counts, and kills itself at its n-th native call, before or after it. What it does it says
 * on stdout, before and after.
 *
 * Usage: metrics_every_call.ts METRICS N before|after
 */
import { Metrics } from "../../mod.ts";
import { arm, say } from "../support/mortal.ts";

const [path, at, when] = process.argv.slice(2) as [string, string, string];

const metrics = Metrics.open(path);
const filling = metrics.counter("filling", { help: "", labels: ["n"] });
const state = arm(Number(at), when); // what went before only read

const count = (name: string, what: () => void): void => {
  say(`counting ${name}`);
  what();
  say(`counted ${name}`);
};
count("filling 0", () => filling.labels(0).inc());
count("filling new", () => filling.labels("new").inc()); // the file has no room for it
count("plain", () => metrics.counter("plain", { help: "" }).inc());
count("seconds a", () => metrics.histogram("seconds", { help: "", labels: ["x"], buckets: [1] }).labels("a").observe(1));
say(`done ${state.calls}`);
