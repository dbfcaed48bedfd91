/**
 * What views cost, in a process of its own with a garbage collector that can be called. Usage: view_child.ts (cycles|heap) FOLDER; prints
 * figures as JSON.
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Mapping } from "../../mod.ts";

const [what, folder] = process.argv.slice(2) as [string, string];

async function collect(): Promise<void> {
  const { Bun, gc } = globalThis as unknown as { Bun?: { gc(force: boolean): void }; gc?: () => void };
  if (Bun !== undefined) Bun.gc(true);
  else gc?.();
  // Finalizers run as tasks.
  await sleep(2);
}

async function settled(figures: () => unknown, wanted: unknown): Promise<unknown> {
  const end = Date.now() + 10_000;
  for (;;) {
    await collect();
    const found = figures();
    if (JSON.stringify(found) === JSON.stringify(wanted) || Date.now() > end) return found;
  }
}

function isOurs(descriptor: string): boolean {
  try {
    return fs.readlinkSync(`/proc/self/fd/${descriptor}`).includes(folder);
  } catch {
    return false; // the one that lists them
  }
}

/** Mappings and descriptors of the files in the folder: the runtime opens others when it sees fit. */
function figures(): { maps: number; descriptors: number } {
  const maps = fs.readFileSync("/proc/self/maps", "utf8").split("\n").filter((line) => line.includes(folder)).length;
  return { maps, descriptors: fs.readdirSync("/proc/self/fd").filter(isOurs).length };
}

async function cycles(): Promise<void> {
  const small = join(folder, "small");
  const large = join(folder, "large");
  fs.writeFileSync(small, new Uint8Array(10_000).fill(1));
  fs.writeFileSync(large, "");
  fs.truncateSync(large, 100 << 20);
  let sum = 0;
  const once = (i: number): void => {
    const mapping = Mapping.open(i % 4 === 3 ? large : small, { mode: i % 2 === 0 ? "rw" : "r" });
    const view = mapping.view(i, 100);
    sum += view[0] as number;
    if (i % 3 === 0) mapping.resident();
    if (i % 5 === 0) mapping.dataView(0, 50).getUint8(0);
    // Closed by force, closed with a view, and dropped as it is.
    if (i % 6 === 1) mapping.unsafeClose();
    else if (i % 3 !== 2) mapping.close();
  };
  for (let i = 0; i < 20; i++) once(i);
  for (let i = 0; i < 20; i++) await collect();
  const before = figures();
  let most = 0;
  const start = Date.now();
  const rounds = 10_000;
  for (let i = 0; i < rounds; i++) {
    once(i % 5000);
    if (i % 500 === 499) {
      most = Math.max(most, figures().maps);
      await collect();
    }
  }
  const after = await settled(figures, before);
  console.log(JSON.stringify({ before, after, most, sum, ms: Date.now() - start }));
}

async function heap(): Promise<void> {
  const path = join(folder, "heap");
  fs.writeFileSync(path, "");
  fs.truncateSync(path, 64 << 20);
  const wide = join(folder, "wide");
  fs.writeFileSync(wide, "");
  fs.truncateSync(wide, 256 << 20);
  const used = async (): Promise<number> => {
    for (let i = 0; i < 3; i++) await collect();
    if (!("Bun" in globalThis)) return process.memoryUsage().heapUsed;
    // Bun's heapUsed has what is outside of the heap in it, mapped pages included.
    const jsc = (process as unknown as { getBuiltinModule(id: string): typeof import("bun:jsc") }).getBuiltinModule("bun:jsc");
    const { heapSize, extraMemorySize } = jsc.heapStats();
    return heapSize - extraMemorySize;
  };
  const kept: unknown[] = [Mapping.open(path).view()];
  kept.length = 0;
  const before = await used();
  const mapping = Mapping.open(path, { mode: "r" });
  const view = mapping.view();
  kept.push(mapping, view);
  const one = await used();
  const window = Mapping.open(wide, { mode: "r" });
  kept.push(window, window.view(1 << 20, 64 << 20));
  for (let i = 0; i < 100; i++) kept.push(mapping.view(i, 1 << 20));
  const many = await used();
  console.log(JSON.stringify({ one: one - before, many: many - before, bytes: view.byteLength, kept: kept.length }));
}

await (what === "cycles" ? cycles() : heap());
process.exit(0);
