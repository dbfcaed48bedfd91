/**
 * A Worker that uses a block store. "keep": stores blocks, reads each back, frees nine of ten, and tells which are left. "churn": stores and
 * frees blocks that are full of one byte, for a while, after it has said that it begins. "race": frees blocks from 0 on when the
 * one behind them is there, and tells how many it got.
 */
import { parentPort, workerData } from "node:worker_threads";
import { BlockStore } from "../../mod.ts";

const { path, what, number, times } = workerData as { path: string; what: "keep" | "churn" | "race"; number: number; times: number };

function keep(store: BlockStore): [id: number, content: Uint8Array][] {
  const kept: [number, Uint8Array][] = [];
  const living: number[] = [];
  for (let i = 0; i < times; i++) {
    const content = new Uint8Array(i % 41).fill(number * 50 + (i % 50));
    const id = store.store(content) as number;
    if (Buffer.compare(store.read(id) as Uint8Array, content) !== 0) throw new Error(`block ${id} is not what was stored`);
    if (i % 10 === 0) kept.push([id, content]);
    else living.push(id);
    if (living.length > 20 && !store.free(living.shift() as number)) throw new Error("a block was freed by another");
  }
  for (const id of living) if (!store.free(id)) throw new Error("a block was freed by another");
  return kept;
}

function churn(store: BlockStore): void {
  parentPort?.postMessage("begin");
  const end = performance.now() + times;
  for (let i = 1; performance.now() < end; i++) {
    const id = store.store(new Uint8Array(store.blockBytes - (i % 7) * 8).fill(i));
    if (id === undefined) continue;
    store.read(id); // it stays for a moment
    store.free(id);
  }
}

function race(store: BlockStore): number {
  let won = 0;
  for (let id = 0; id < times; id++) if (store.free(id)) won++;
  return won;
}

// Not at the top level: a worker that fails while its module loads is reported badly by some of the runtimes.
setTimeout(() => {
  using store = BlockStore.open(path);
  if (what !== "race") {
    parentPort?.postMessage(what === "keep" ? keep(store) : churn(store));
    return;
  }
  const end = performance.now() + 5000;
  while (!store.has(times) && performance.now() < end);
  parentPort?.postMessage(race(store));
}, 0);
