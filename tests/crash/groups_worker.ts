/**
 * A child of the groups' kill storm: leases and acknowledges the records of one group, and writes down what it got.
 *
 * Usage: groups_worker.ts LOG LEDGER GROUP
 */
import * as fs from "node:fs";
import { Queue } from "../../mod.ts";
import type { Numbered } from "./worker.ts";

const [path, ledger, group] = process.argv.slice(2) as [string, string, string];
const queue = Queue.open<Numbered>(path, { group });
const fd = fs.openSync(ledger, "a");
for (;;) {
  const lease = await queue.leaseAsync();
  if (lease === undefined) continue;
  fs.writeSync(fd, `${lease.value[0]} ${lease.value[1]} ${lease.attempts}\n`);
  lease.ack();
}
