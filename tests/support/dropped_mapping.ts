/** Keeps the atomics of mappings that it drops, and uses them after many collections. Usage: dropped_mapping.ts PATH */
import { type Int64Atomics, Mapping } from "../../mod.ts";

const path = process.argv[2] as string;
const kept: Int64Atomics[] = [Mapping.anonymous(1 << 20).atomics, Mapping.open(path, { create: true, byteLength: 1 << 20 }).atomics];
const waits = kept.map((atomics) => atomics.wait(8, 0, { timeoutMs: 300 }));
const garbage: Uint8Array[] = [];
for (let round = 0; round < 60; round++) {
  garbage.length = 0;
  for (let i = 0; i < 3000; i++) garbage.push(new Uint8Array(2000));
  (globalThis as unknown as { Bun?: { gc(force: boolean): void } }).Bun?.gc(true);
  await new Promise((resolve) => setTimeout(resolve, 5));
  for (const atomics of kept) atomics.add(0, 1);
}
console.log(kept.map((atomics) => atomics.load(0)).join(), await Promise.all(waits), "alive");
