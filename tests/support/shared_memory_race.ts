/**
 * One side of a race for one name. "own": creates and closes it over and over, until there is a file STOP. "retain": opens and retains what it
 * finds, 400 times, and counts how often that succeeded and the object was gone nevertheless. Prints "rounds vanished".
 *
 * Usage: shared_memory_race.ts own|retain NAME STOP
 */
import * as fs from "node:fs";
import { SharedMemory } from "../../mod.ts";

const [role, name, stop] = process.argv.slice(2) as [string, string, string];
const EXPECTED = ["ENOENT", "EEXIST"];
let rounds = 0;
let vanished = 0;

function round(): void {
  if (role === "own") {
    SharedMemory.create({ name, capacity: 8 }).close();
    rounds++;
    return;
  }
  using object = SharedMemory.open(name);
  const retention = object.retain();
  rounds++;
  if (!fs.existsSync(`/dev/shm/${name}`)) vanished++;
  retention[Symbol.dispose]();
}

const goesOn = (): boolean => (role === "own" ? rounds % 50 !== 0 || !fs.existsSync(stop) : rounds < 400);
for (const end = performance.now() + 20_000; performance.now() < end && goesOn(); ) {
  try {
    round();
  } catch (error) {
    if (!EXPECTED.includes((error as { code: string }).code)) throw error;
  }
}
console.log(`${rounds} ${vanished}`);
