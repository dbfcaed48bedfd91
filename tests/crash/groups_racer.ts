/**
 * A child that reads a log which gives records up under its hands, in every way there is, until it comes to a record from END on. It throws at
 * anything but whole records in order, and prints how many it had.
 *
 * Usage: groups_racer.ts LOG GROUP
 */
import { type Lease, MapError, Queue } from "../../mod.ts";

/** From this number on records only say that it is over. */
const END = 1e12;

const [path, name] = process.argv.slice(2) as [string, string];
using group = Queue.open<[number, string]>(path, { group: name });
let count = 0;
let last = -1;
let over = false;
let turn = 0;

/** Checks a record that nobody had before. */
function see(value: [number, string]): void {
  const [number, text] = value;
  if (text !== "x".repeat(number % 97)) throw new Error(`record ${number} is torn: ${text}`);
  if (number <= last) throw new Error(`${number} after ${last}`);
  last = number;
}
function lookAt(values: Iterable<[number, string]>, back: boolean): void {
  let before: number | undefined;
  for (const [number] of values) {
    if (before !== undefined && (back ? number >= before : number <= before)) throw new Error(`${number} behind ${before} in a walk`);
    before = number;
  }
}
function settle(lease: Lease<[number, string]>): void {
  try {
    lease.ack();
    count++;
  } catch (error) {
    // Counted as missed.
    if (!(error instanceof MapError) || error.code !== "ERR_STALE_LEASE") throw error;
  }
}

const held: Lease<[number, string]>[] = [];
while (!over) {
  let values: [number, string][] = [];
  switch (turn++ % 6) {
    case 0:
      values = group.popMany(1 + (turn % 200));
      break;
    case 1: {
      const value = group.pop();
      if (value !== undefined) values = [value];
      break;
    }
    case 2: {
      const lease = group.lease();
      if (lease === undefined) break;
      if (lease.value[0] >= END) over = true;
      else see(lease.value);
      held.push(lease);
      if (held.length > 5) settle(held.shift() as Lease<[number, string]>);
      break;
    }
    case 3:
      lookAt(group, false);
      break;
    case 4:
      lookAt(group.reversed(), true);
      break;
    case 5:
      if (group.length < 0 || group.groups().length === 0) throw new Error("wrong numbers");
      // From time to time it falls behind.
      if (turn % 60 < 6) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  for (const value of values) {
    if (value[0] >= END) over = true;
    else see(value);
    count++;
  }
  if (last >= 0 && turn % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
}
for (const lease of held) settle(lease);
console.log(count);
