/**
 * A child of the kill storm: pushes numbered records, or leases and acknowledges them. What it has done it writes down where a
 * kill can't take it back: in a mapping (pushed) or a file of its own (processed).
 *
 * Usage: worker.ts produce QUEUE LEDGER ID LAST | worker.ts consume QUEUE LEDGER
 */
import * as fs from "node:fs";
import { Mapping, Queue } from "../../mod.ts";

const [role, path, ledger, id, last] = process.argv.slice(2) as [string, string, string, string, string];

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

if (role === "produce") await produce(Number(id), Number(last));
else await consume();
