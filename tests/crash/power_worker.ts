/**
 * A child of the power cuts: pushes numbered records, or takes them, and says on stdout, line by line, what it was promised:
 *
 *     D producer number   records up to this number are on storage
 *     W sequence          durableSequence
 *     T producer number   a record was taken
 *     R producer number   and its removal is on storage
 *
 * Each with the time, in milliseconds: what was said when the power was gone already, nobody would have heard.
 *
 * Usage: power_worker.ts push|pop|lease QUEUE DURABILITY ID. DURABILITY "lie" is "each" with a sync that does nothing.
 */
import * as fs from "node:fs";
import { native } from "../../lib/native/native.ts";
import type { NativeFunctions } from "../../lib/native/symbols.ts";
import { Queue } from "../../mod.ts";
import { currentRuntime } from "../support/runtimes.ts";

/** A record: who pushed it, its number, and some bytes, so that records differ in length. */
export type Numbered = [producer: number, number: number, filler: string];

const [role, path, given, id] = process.argv.slice(2) as [string, string, "process" | "batch" | "each" | "lie", string];
const durability = given === "lie" ? "each" : given;
const producer = Number(id);
const FLUSH_EVERY_COUNT = 20;

function say(line: string): void {
  fs.writeSync(1, `${line} ${Date.now()}\n`);
}

function push(queue: Queue<Numbered>): void {
  for (let number = 1; ; ) {
    const values = Array.from({ length: number % 7 === 0 ? 5 : 1 }, (_, i): Numbered => [producer, number + i, "x".repeat(((number + i) * 37) % 400)]);
    if (values.length === 1) queue.push(values[0] as Numbered);
    else queue.pushMany(values);
    number += values.length;
    if (durability === "each") say(`D ${producer} ${number - 1}`);
    // All but the records of the batch that is not full.
    else if (durability === "batch") say(`D ${producer} ${number - FLUSH_EVERY_COUNT}`);
    else if (number % 64 < values.length) {
      queue.flush();
      say(`D ${producer} ${number - 1}`);
    }
    if (number % 16 < values.length) say(`W ${queue.durableSequence}`);
  }
}

async function take(queue: Queue<Numbered>): Promise<void> {
  for (;;) {
    let value: Numbered | undefined;
    if (role === "pop") value = queue.pop();
    else {
      const lease = queue.lease();
      value = lease?.value;
      lease?.ack();
    }
    if (value !== undefined) say(`${durability === "each" ? "R" : "T"} ${value[0]} ${value[1]}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

if (given === "lie") (native() as { hf_sync: NativeFunctions["hf_sync"] }).hf_sync = () => 0;
const batch = durability === "batch" ? { flushEveryCount: FLUSH_EVERY_COUNT, flushEveryMs: 1000 } : {};
try {
  const queue = Queue.open<Numbered>(path, { durability, ...batch });
  if (role === "push") push(queue);
  else await take(queue);
} catch (error) {
  // The power is gone: whatever the program is told, it must be told.
  const { code, removed = [] } = error as { code?: string; removed?: Numbered[] };
  for (const [from, number] of removed) say(`T ${from} ${number}`);
  // In one line, and with the code first.
  say(`E ${code} ${currentRuntime} ${String((error as Error).stack).replaceAll("\n", " ")}`);
  process.exit(0);
}
