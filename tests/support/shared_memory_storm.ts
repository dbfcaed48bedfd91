/**
 * A child of the kill storm: makes, opens, retains, adopts, splits and closes objects at random, together with others that do the same to
 * the same names, and reaps. Ends with code 3 and a message if anything but an expected error comes, or if an object vanishes that this
 * process has a right to.
 *
 * Usage: shared_memory_storm.ts PREFIX SEED
 */
import { SharedMemory } from "../../mod.ts";

const [prefix, seedText] = process.argv.slice(2) as [string, string];
let seed = Number(seedText);
const random = (limit: number): number => {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  return Math.floor((seed / 2 ** 32) * limit);
};

/** The name gone or taken, an owner there: what others do meanwhile. */
const EXPECTED = ["ENOENT", "EEXIST", "ERR_OWNED"];

interface Held {
  readonly object: SharedMemory;
  readonly retentions: Disposable[];
}
const held: Held[] = [];

/** Nobody unlinks here, so that what this process has a right to is there, and is the object that it has open. */
function check({ object, retentions }: Held): void {
  if (!object.owner && retentions.length === 0) return;
  if (!SharedMemory.list().some((entry) => entry.name === object.name)) throw new Error(`${object.name} is gone under its ${object.owner ? "owner" : "retention"}`);
  using same = SharedMemory.open(object.name, { mode: "r" });
  if (same.capacity !== object.capacity) throw new Error(`${object.name} is another object`);
}

function attempt(call: () => void): void {
  try {
    call();
  } catch (error) {
    if (!EXPECTED.includes((error as { code: string }).code)) throw error;
  }
}

function keep(object: SharedMemory): void {
  held.push({ object, retentions: [] });
}

function step(): void {
  const one = held[random(Math.max(1, held.length))];
  const name = `${prefix}${random(4)}`;
  switch (random(9)) {
    case 0:
      return attempt(() => keep(SharedMemory.create({ name, capacity: 1 + random(20_000) })));
    case 1:
      return attempt(() => keep(SharedMemory.from("x".repeat(random(3000)), { name })));
    case 2:
      return attempt(() => keep(SharedMemory.open(name)));
    case 3:
      return void (one === undefined || attempt(() => one.retentions.push(one.object.retain())));
    case 4:
      return void (one === undefined || attempt(() => one.object.adopt()));
    case 5:
      if (one === undefined) return;
      // The rest has a generated name: closed at once, or left to whoever kills this process.
      return attempt(() => one.object.splitAt(one.object.size).close());
    case 6:
      SharedMemory.reap();
      return;
    case 7:
      if (one === undefined) return;
      check(one);
      one.retentions.pop()?.[Symbol.dispose]();
      return;
    default:
      if (one === undefined) return;
      check(one);
      held.splice(held.indexOf(one), 1);
      if (random(2) === 0) one.object.close();
      for (const retention of one.retentions) retention[Symbol.dispose]();
      one.object.close();
  }
}

const end = performance.now() + 20_000;
process.stdout.write("ready\n");
try {
  while (performance.now() < end) {
    for (let i = 0; i < 20; i++) step();
    while (held.length > 12) {
      const { object, retentions } = held.shift() as Held;
      for (const retention of retentions) retention[Symbol.dispose]();
      object.close();
    }
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
} catch (error) {
  process.stderr.write(`storm: ${(error as Error).stack}\n`);
  process.exit(3);
}
