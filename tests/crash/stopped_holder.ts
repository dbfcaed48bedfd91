/**
 * A child that stops, or waits, in the middle of a call of a queue: before the native function of that name is called, with the lock held.
 *
 * Usage: stopped_holder.ts QUEUE push|pop FUNCTION stop|MILLISECONDS | stopped_holder.ts QUEUE lease
 */
import * as fs from "node:fs";
import { native, sleep } from "../../lib/native/native.ts";
import { Queue } from "../../mod.ts";

const [path, what, at, how] = process.argv.slice(2) as [string, string, string, string];
const say = (text: string): void => void fs.writeSync(1, `${text}\n`);

const queue = Queue.open<string>(path, { codec: "text" });
if (what === "lease") {
  const lease = queue.lease();
  say(`leased ${lease?.value} pid ${process.pid}`);
  // Kept reachable: a handle that is collected is closed, and its leases are handed out again.
  setInterval(() => void lease?.value, 1000);
} else {
  const functions = native() as unknown as Record<string, (...args: unknown[]) => number>;
  const call = functions[at] as (...args: unknown[]) => number;
  functions[at] = (...args) => {
    functions[at] = call;
    say(`inside pid ${process.pid}`);
    if (how === "stop") process.kill(process.pid, "SIGSTOP");
    else sleep(Number(how));
    return call(...args);
  };
  say(what === "push" ? `pushed ${queue.push("stopped")}` : `popped ${queue.pop()}`);
}
