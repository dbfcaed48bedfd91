/**
 * A process of the block storm (block_storm.ts), which is killed at any moment and started again.
 *
 *   block_worker.ts store PATH LEDGER OWN_FREES NUMBER LIFE COUNT     stores COUNT blocks, frees a third of them
 *   block_worker.ts free  PATH LEDGER OWN_FREES                       frees the others of one that stores, but for the newest
 *
 * A ledger is a list of {kind, life, sequence, id}, four u32 each, appended after a store returned, before a free is called and after it
 * returned: a killed process leaves the page cache to the kernel, so that what was appended is there.
 */
import * as fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { BlockStore } from "../../mod.ts";

export const STORED = 1;
export const FREEING = 2;
export const FREED = 3;

/** Who stored a block, in which of its lives, as which of its blocks. */
export interface Identity {
  readonly storer: number;
  readonly life: number;
  readonly sequence: number;
}

export interface Entry {
  readonly kind: number;
  readonly life: number;
  readonly sequence: number;
  readonly id: number;
}

/** The bytes of a block: who it is, and as many more as the sequence says. */
export function contentOf({ storer, life, sequence }: Identity): Uint8Array {
  const bytes = new Uint8Array(12 + ((sequence * 37) % 117));
  new Uint32Array(bytes.buffer, 0, 3).set([storer, life, sequence]);
  for (let i = 12; i < bytes.length; i++) bytes[i] = sequence + i;
  return bytes;
}

export function identityOf(bytes: Uint8Array): Identity {
  const [storer = 0, life = 0, sequence = 0] = new Uint32Array(bytes.slice(0, 12).buffer);
  return { storer, life, sequence };
}

export const keyOf = ({ life, sequence }: { life: number; sequence: number }): string => `${life} ${sequence}`;

/** The whole entries of a ledger from the `from`th on. */
export function readLedger(path: string, from = 0): Entry[] {
  if (!fs.existsSync(path)) return [];
  const bytes = fs.readFileSync(path);
  const entries: Entry[] = [];
  for (let at = from * 16; at + 16 <= bytes.length; at += 16) {
    entries.push({ kind: bytes.readUInt32LE(at), life: bytes.readUInt32LE(at + 4), sequence: bytes.readUInt32LE(at + 8), id: bytes.readUInt32LE(at + 12) });
  }
  return entries;
}

function ledger(path: string): (kind: number, entry: Pick<Entry, "life" | "sequence" | "id">) => void {
  const fd = fs.openSync(path, "a");
  return (kind, { life, sequence, id }) => {
    fs.writeSync(fd, new Uint8Array(Uint32Array.of(kind, life, sequence, id).buffer));
  };
}

async function storeAll(path: string, ledgerPath: string, freesPath: string, storer: number, life: number, count: number): Promise<void> {
  const done = readLedger(ledgerPath);
  const note = ledger(ledgerPath);
  const noteFree = ledger(freesPath);
  using store = BlockStore.open(path);
  const own: Entry[] = [];
  for (let sequence = (done.at(-1)?.sequence ?? 0) + 1; sequence <= count; sequence++) {
    const bytes = contentOf({ storer, life, sequence });
    let id = store.store(bytes);
    for (; id === undefined; id = store.store(bytes)) await sleep(1); // the other process will free some
    note(STORED, { life, sequence, id });
    if (sequence % 3 === 0) own.push({ kind: STORED, life, sequence, id });
    if (own.length < 20) continue;
    const old = own.shift() as Entry;
    noteFree(FREEING, old);
    if (!store.free(old.id)) throw new Error(`block ${old.id} was freed by somebody else`);
    noteFree(FREED, old);
  }
}

/** Newest blocks that stay. */
const KEPT = 150;

async function freeOthers(path: string, ledgerPath: string, freesPath: string, storer: number): Promise<void> {
  const done = readLedger(freesPath);
  const freed = new Set(done.filter(({ kind }) => kind === FREED).map(keyOf));
  const begun = new Set(done.filter(({ kind }) => kind === FREEING).map(keyOf));
  const note = ledger(freesPath);
  using store = BlockStore.open(path);
  for (let from = 0, waiting: Entry[] = []; ; await sleep(1)) {
    const entries = readLedger(ledgerPath, from);
    from += entries.length;
    waiting.push(...entries.filter((entry) => entry.sequence % 3 !== 0 && !freed.has(keyOf(entry))));
    while (waiting.length > KEPT) {
      const entry = waiting.shift() as Entry;
      const bytes = store.read(entry.id);
      const same = bytes !== undefined && Buffer.compare(bytes, contentOf({ ...entry, storer })) === 0;
      if (!same) {
        // Freed by a former life of this process, which died before it could note that.
        if (begun.has(keyOf(entry))) continue;
        throw new Error(`block ${entry.id} is not what was stored as ${storer} ${keyOf(entry)}`);
      }
      note(FREEING, entry);
      if (!store.free(entry.id)) throw new Error(`block ${entry.id} was freed by somebody else`);
      note(FREED, entry);
    }
  }
}

if (import.meta.main) {
  const [what, path, ledgerPath, freesPath, storer, life, count] = process.argv.slice(2) as [string, string, string, string, string, string, string];
  if (what === "store") await storeAll(path, ledgerPath, freesPath, Number(storer), Number(life), Number(count));
  else await freeOthers(path, ledgerPath, freesPath, Number(storer));
}
