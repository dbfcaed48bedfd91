/** Deno KV on a local file. It waits for storage at each commit, and can't be told not to. */
import path from "node:path";
import { native } from "../../../lib/native/native.ts";
import type { Counter, Fifo, Peer, Place, Slots } from "../peer.ts";

/** The part of Deno that is used here; it needs --unstable-kv. */
interface Kv {
  get(key: Key): Promise<Entry>;
  set(key: Key, value: unknown): Promise<unknown>;
  list(what: { prefix: Key }, options: { limit: number; batchSize?: number }): AsyncIterable<Entry>;
  atomic(): Atomic;
  close(): void;
}

interface Atomic {
  check(entry: Entry): Atomic;
  set(key: Key, value: unknown): Atomic;
  delete(key: Key): Atomic;
  sum(key: Key, value: bigint): Atomic;
  commit(): Promise<{ ok: boolean }>;
}

type Key = readonly (string | number)[];
type Entry = { readonly key: Key; readonly value: unknown; readonly versionstamp: string | null };

const { openKv } = (globalThis as unknown as { Deno: { openKv(file: string): Promise<Kv> } }).Deno;

/** Entries that one commit may check. */
const MOST_CHECKS = 100;

/** What several processes do at once may be refused; whoever wants it done tries again. */
async function insist<R>(change: () => Promise<R>): Promise<R> {
  for (;;) {
    try {
      return await change();
    } catch (error) {
      if (!String(error).includes("database is locked")) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}

async function counter({ folder }: Place): Promise<Counter> {
  const kv = await insist(() => openKv(path.join(folder, "kv")));
  const key = ["counter"];
  const get = async (): Promise<number> => Number(((await insist(() => kv.get(key))).value as { value: bigint } | null)?.value ?? 0n);
  return {
    // The sum is not said; it is read where it counts.
    async add() {
      await insist(() => kv.atomic().sum(key, 1n).commit());
      return NaN;
    },
    get,
    close: () => kv.close(),
  };
}

async function slots({ folder }: Place, count: number, bytes: number, first: (slot: number) => Uint8Array): Promise<Slots> {
  const kv = await openKv(path.join(folder, "kv"));
  // Four at a time: each commit syncs, and has a limit of bytes.
  for (let slot = 0; slot < count; slot += 4) {
    let change = kv.atomic();
    for (let i = slot; i < Math.min(slot + 4, count); i++) change = change.set([bytes, i], first(i).slice());
    await change.commit();
  }
  return {
    read: async (slot) => (await kv.get([bytes, slot])).value as Uint8Array,
    write: async (slot, data) => void (await kv.set([bytes, slot], data)),
    close: () => kv.close(),
  };
}

/** Records in the order of the clock, which all processes share. */
async function fifo({ folder }: Place): Promise<Fifo> {
  const kv = await insist(() => openKv(path.join(folder, "kv")));
  let last = 0;
  const key = (): Key => ["queue", (last = Math.max(native().hf_clock_ms(), last + 1e-6)), process.pid];
  const list = (limit: number): Promise<Entry[]> =>
    insist(async () => {
      const entries: Entry[] = [];
      for await (const entry of kv.list({ prefix: ["queue"] }, { limit, batchSize: limit })) entries.push(entry);
      return entries;
    });
  /** Who comes second to an entry begins anew. */
  const popMany = async (max: number): Promise<Uint8Array[]> => {
    for (;;) {
      const entries = await list(Math.min(max, MOST_CHECKS));
      if (entries.length === 0) return [];
      let change = kv.atomic();
      for (const entry of entries) change = change.check(entry).delete(entry.key);
      if ((await insist(() => change.commit())).ok) return entries.map(({ value }) => value as Uint8Array);
    }
  };
  return {
    async push(record) {
      const own = key();
      await insist(() => kv.set(own, record));
      return true;
    },
    pop: async () => (await popMany(1))[0],
    async pushMany(records) {
      let change = kv.atomic();
      for (const record of records) change = change.set(key(), record);
      await insist(() => change.commit());
      return records.length;
    },
    popMany,
    peek: async () => (await list(1))[0]?.value as Uint8Array | undefined,
    close: () => kv.close(),
  };
}

const peer: Peer = { counter, slots, fifo };
export default peer;
