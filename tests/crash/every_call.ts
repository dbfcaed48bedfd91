/**
 * A child that does a fixed list of things with a queue and kills itself at its n-th native call, before or after it. What it has
 * done it says on stdout, one line each, written before it goes on.
 *
 * Usage: every_call.ts QUEUE N before|after
 */
import * as fs from "node:fs";
import { native } from "../../lib/native/native.ts";
import { Queue } from "../../mod.ts";

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

const queue = Queue.open<string>(path, { codec: "text" });
const state = arm(Number(at));
const big = "x".repeat(1500);

/** Pushes values after saying which: they may or may not be in the queue until "pushed" is said. */
const push = (...values: string[]): void => {
  say(`pushing ${values.map((value) => value.slice(0, 2)).join(" ")}`);
  if (values.length === 1) queue.push(values[0] as string);
  else queue.pushMany(values);
  say("pushed");
};
/** Takes values: the same the other way round. */
const take = (count: number): void => {
  say(`taking ${count}`);
  const values = count === 1 ? [queue.pop() as string] : queue.popMany(count);
  say(`took ${values.map((value) => value.slice(0, 2)).join(" ")}`);
};

push("a1");
push(`b1${big}`, `b2${big}`, `b3${big}`); // over the end of a segment
const first = queue.lease();
const second = queue.lease();
say(`leased ${first?.value.slice(0, 2)} ${second?.value.slice(0, 2)}`);
say("acking b1");
second?.ack();
say("acked");
take(1);
say("releasing a1");
first?.release();
push(`c1${big}`, "c2");
take(2);
const third = queue.lease();
say(`acking ${third?.value.slice(0, 2)}`);
third?.ack();
say("acked");
push(`d1${big}`, `d2${big}`);
take(9);
say(`done ${state.calls}`);
