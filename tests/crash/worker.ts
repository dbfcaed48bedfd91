/**
 * A child of the kill storm: pushes numbered records, or leases and acknowledges them. What it has done it writes down where a
 * kill can't take it back: in a mapping (pushed) or a file of its own (processed).
 *
 * Usage: worker.ts produce QUEUE LEDGER ID LAST | worker.ts consume QUEUE LEDGER | worker.ts host FOLDER SEED ROLE...
 *
 * A host does its role in Workers, which it terminates at random moments while its process lives.
 */
import * as fs from "node:fs";
import { isMainThread, Worker, workerData } from "node:worker_threads";
import { Counters, Mapping, Queue } from "../../mod.ts";

const [role, path, ledger, id, last] = (isMainThread ? process.argv.slice(2) : workerData) as [string, string, string, string, string];

/** A record: who pushed it, and its number. */
export type Numbered = [producer: number, number: number];

async function produce(producer: number, count: number): Promise<void> {
  using queue = Queue.open<Numbered>(path);
  using done = Mapping.open(ledger, { create: true, byteLength: 64 });
  // Word 0: pushed and acknowledged by push(). Word 8: about to be pushed; one more than word 0 after a kill in between.
  for (let number = done.atomics.load(0); number < count; ) {
    const batch = 1 + (number % 3);
    const values = Array.from({ length: Math.min(batch, count - number) }, (_, i): Numbered => [producer, number + i]);
    done.atomics.store(8, number + values.length);
    if (values.length === 1) queue.push(values[0] as Numbered);
    else queue.pushMany(values);
    number += values.length;
    done.atomics.store(0, number);
    if (number % 500 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

async function consume(): Promise<void> {
  using queue = Queue.open<Numbered>(path);
  const fd = fs.openSync(ledger, "a");
  for (;;) {
    const lease = queue.lease();
    if (lease === undefined) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      continue;
    }
    fs.writeSync(fd, `${lease.value[0]} ${lease.value[1]} ${lease.attempts}\n`);
    lease.ack();
  }
}

/** Numbers that a producer was about to push when it ended: they may be pushed again. */
export function unsureOf(ledger: string): number[] {
  if (!fs.existsSync(ledger) || fs.statSync(ledger).size === 0) return [];
  using done = Mapping.open(ledger, { mode: "r" });
  const from = done.atomics.load(0);
  return Array.from({ length: done.atomics.load(8) - from }, (_, i) => from + i);
}

async function host(folder: string, seed: number, task: readonly string[]): Promise<void> {
  using counters = Counters.open(`${folder}/counters`, { names: ["terminated"] });
  const [role, , ledger = "", producer] = task;
  let state = seed;
  for (let ended = false, count = 0; !ended; count++) {
    // A consumer's ledger is its own: one that is being terminated may write beside the next.
    const own = role === "consume" ? task.with(2, `${ledger}.${count}`) : task;
    const worker = new Worker(new URL(import.meta.url), { workerData: own });
    worker.on("error", (error) => {
      console.error(error);
      process.exit(1);
    });
    // A Worker that is done ends by itself.
    const over = new Promise<boolean>((resolve) => worker.on("exit", () => resolve(true)));
    state = (state * 48271) % 0x7fffffff;
    ended = await Promise.race([over, new Promise<boolean>((resolve) => setTimeout(() => resolve(false), 80 + (state % 150)))]);
    if (ended) break;
    await worker.terminate();
    counters.add("terminated");
    if (role !== "produce") continue;
    for (const number of unsureOf(ledger)) fs.appendFileSync(`${folder}/unsure-${process.pid}`, `${producer} ${number}\n`);
  }
}

// In a Worker from a task of its own: Node aborts when one is terminated while its module waits at the top level.
const main = async (): Promise<void> => {
  if (role === "produce") await produce(Number(id), Number(last));
  else if (role === "consume") await consume();
  else if (role === "host") await host(path, Number(ledger), process.argv.slice(5));
};
if (isMainThread && import.meta.main) await main();
else if (!isMainThread && Array.isArray(workerData)) setTimeout(() => void main(), 0);
