/**
 * A child that declares metrics, adds series and counts, and kills itself at its n-th native call, before or after it. What it does it says
 * on stdout, before and after.
 *
 * Usage: metrics_every_call.ts METRICS N before|after
 */
import * as fs from "node:fs";
import { native } from "../../lib/native/native.ts";
import { Metrics } from "../../mod.ts";

const [path, at, when] = process.argv.slice(2) as [string, string, string];

const say = (text: string): void => {
  fs.writeSync(1, `${text}\n`);
};

/** Lets every native function count, and one of the calls be the last. */
function arm(last: number): { readonly calls: number } {
  const functions = native() as unknown as Record<string, (...args: unknown[]) => number>;
  const state = { calls: 0 };
  const die = (): void => {
    process.kill(process.pid, "SIGKILL");
    for (;;); // until the signal arrives
  };
  for (const [name, call] of Object.entries(functions)) {
    functions[name] = (...args) => {
      state.calls++;
      const now = state.calls === last;
      if (now && when === "before") die();
      const result = call(...args);
      if (now) die();
      return result;
    };
  }
  return state;
}

const metrics = Metrics.open(path);
const filling = metrics.counter("filling", { help: "", labels: ["n"] });
const state = arm(Number(at)); // what went before only read

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
