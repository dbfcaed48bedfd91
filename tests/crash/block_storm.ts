/**
 * The block storm: processes store numbered blocks and free some, others free the rest, and all the while random ones are killed and
 * started again.
 *
 * From the shell: node tests/crash/block_storm.ts BLOCKS KILLS [SEED]
 */
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { BlockStore } from "../../mod.ts";
import { randomFrom } from "../support/fuzz.ts";
import { readRawBlocks } from "../support/reader_blocks.ts";
import { commandLine, type RuntimeName } from "../support/runtimes.ts";
import { contentOf, type Entry, FREED, FREEING, identityOf, keyOf, readLedger, STORED } from "./block_worker.ts";

export interface BlockStormOptions {
  readonly folder: string;
  /** Blocks of each process that stores. */
  readonly blocks: number;
  /** Most kills. */
  readonly kills: number;
  /** Pairs of a process that stores and one that frees what it stored. */
  readonly pairs: readonly (readonly [storer: RuntimeName, freer: RuntimeName])[];
  readonly seed: number;
}

export interface BlockStormReport {
  readonly stored: number;
  readonly kills: number;
  /** Acknowledged by store(), never to be freed, and not there or not the same. */
  readonly lost: number;
  /** Acknowledged by free(), and there. */
  readonly undead: number;
  /** Stored whole by a process that was killed before it could say so; at most one for each kill. */
  readonly unacknowledged: number;
  /** Stored blocks that nobody can have stored. */
  readonly foreign: number;
  /** Blocks that verify(), or the second implementation, calls damaged. */
  readonly damaged: number;
  /** Blocks that were filled when their process was killed. */
  readonly claimed: number;
  /** Blocks that are neither stored nor can be stored into. */
  readonly leaked: number;
  /** Children that ended by themselves with an error. */
  readonly failures: number;
  readonly seconds: number;
}

const WORKER = fileURLToPath(new URL("block_worker.ts", import.meta.url));
const BLOCK_BYTES = 128;

export async function blockStorm({ folder, blocks, kills: most, pairs, seed }: BlockStormOptions): Promise<BlockStormReport> {
  const path = join(folder, "blocks");
  // Each pair keeps some 200, and what a killed process had not freed yet.
  const maxBlocks = 400 * pairs.length + 40 * most;
  BlockStore.open(path, { blockBytes: BLOCK_BYTES, maxBlocks }).close();
  const random = randomFrom(seed);
  const living = new Set<ChildProcess>();
  const gone: Promise<unknown>[] = [];
  const storing = new Set<number>();
  const names = (pair: number): { stores: string; ownFrees: string; frees: string } => ({
    stores: join(folder, `stores-${pair}`),
    ownFrees: join(folder, `own-frees-${pair}`),
    frees: join(folder, `frees-${pair}`),
  });
  let over = false;
  let kills = 0;
  let failures = 0;
  const start = (pair: number, what: "store" | "free", life: number): void => {
    const { stores, ownFrees, frees } = names(pair);
    const [storer, freer] = pairs[pair] as readonly [RuntimeName, RuntimeName];
    const args = what === "store"
      ? ["store", path, stores, ownFrees, String(pair), String(life), String(blocks)]
      : ["free", path, stores, frees, String(pair)];
    const child = spawn(...commandLine(what === "store" ? storer : freer, WORKER, ...args), { stdio: ["ignore", "inherit", "inherit"] });
    living.add(child);
    if (what === "store") storing.add(pair);
    gone.push(new Promise((resolve) => child.on("close", resolve)));
    child.on("exit", (code, signal) => {
      living.delete(child);
      if (over) return;
      if (signal === "SIGKILL") return start(pair, what, life + 1);
      if (code !== 0) failures++;
      if (what === "store") storing.delete(pair);
    });
  };
  const began = performance.now();
  try {
    pairs.forEach((_, pair) => (start(pair, "store", 1), start(pair, "free", 1)));
    while (storing.size > 0 && failures === 0) {
      if (performance.now() - began > 300_000) throw new Error("the storm did not end");
      await new Promise((resolve) => setTimeout(resolve, 10 + random(100)));
      if (kills >= most || storing.size === 0) continue;
      const victims = [...living];
      victims[random(victims.length)]?.kill("SIGKILL");
      kills++;
    }
  } finally {
    over = true;
    for (const child of living) child.kill("SIGKILL");
    await Promise.all(gone);
  }
  const seconds = (performance.now() - began) / 1000;
  const found = judge(path, pairs.map((_, pair) => names(pair)));
  return { kills, failures, seconds, ...found, leaked: countLeaks(path, maxBlocks) };
}

type Ledgers = readonly { stores: string; ownFrees: string; frees: string }[];

function judge(path: string, ledgers: Ledgers): Omit<BlockStormReport, "kills" | "failures" | "seconds" | "leaked"> {
  const raw = readRawBlocks(path);
  const claimed = raw.blocks.filter(({ owner }) => owner !== 0 && owner !== 0xffff).length;
  const torn = raw.blocks.filter(({ owner, checksum, computed, word }) => word.check !== word.computed || (owner === 0xffff && checksum !== computed));
  using store = BlockStore.open(path, { mode: "r" });
  const report = store.verify();
  /** By pair and identity: where it is. */
  const present = ledgers.map(() => new Map<string, number>());
  let foreign = 0;
  for (const [id, bytes] of store) {
    const identity = identityOf(bytes);
    const known = present[identity.storer];
    if (known === undefined || known.has(keyOf(identity)) || Buffer.compare(bytes, contentOf(identity)) !== 0) foreign++;
    else known.set(keyOf(identity), id);
  }
  let stored = 0;
  let lost = 0;
  let undead = 0;
  let unacknowledged = 0;
  ledgers.forEach(({ stores, ownFrees, frees }, pair) => {
    const here = present[pair] as Map<string, number>;
    const acknowledged = new Map<string, Entry>(readLedger(stores).filter(({ kind }) => kind === STORED).map((entry) => [keyOf(entry), entry]));
    const all = [...readLedger(ownFrees), ...readLedger(frees)];
    const freeing = new Set(all.filter(({ kind }) => kind === FREEING).map(keyOf));
    const freed = new Set(all.filter(({ kind }) => kind === FREED).map(keyOf));
    stored += acknowledged.size;
    for (const [key, { id }] of acknowledged) {
      if (freed.has(key) ? here.has(key) : false) undead++;
      if (!freeing.has(key) && here.get(key) !== id) lost++;
    }
    for (const key of here.keys()) if (!acknowledged.has(key)) unacknowledged++;
  });
  return { stored, lost, undead, unacknowledged, foreign, damaged: report.damaged.length + torn.length, claimed };
}

/** Fills the store up: every block that is not stored must be there for it. */
function countLeaks(path: string, maxBlocks: number): number {
  using store = BlockStore.open(path);
  let stored = store.count;
  while (store.store(new Uint8Array(5)) !== undefined) stored++;
  return maxBlocks - stored;
}

if (import.meta.main) {
  const [blocks = "20000", kills = "30", seed = "1"] = process.argv.slice(2);
  const folder = fs.mkdtempSync(join(os.tmpdir(), "holdfast-storm-"));
  const pairs = [["node", "bun"], ["bun", "deno"], ["deno", "node"]] as const;
  console.log(await blockStorm({ folder, blocks: Number(blocks), kills: Number(kills), pairs, seed: Number(seed) }));
  fs.rmSync(folder, { recursive: true });
}
