/**
 * classic-level, the npm package. One process at a time can have a database open, so that the places of head and tail are known to it: a read of the
 * next key, and no search.
 */
import path from "node:path";
import type { Counter, Fifo, FifoOptions, Peer, Place, Slots } from "../peer.ts";

/** The part of the package that is used here: it is not installed where the types are checked. */
interface Level {
  ClassicLevel: new (folder: string, options: { keyEncoding: "buffer"; valueEncoding: "view" }) => Store;
}

interface Store {
  open(): Promise<void>;
  get(key: Uint8Array): Promise<Uint8Array | undefined>;
  getSync(key: Uint8Array): Uint8Array | undefined;
  put(key: Uint8Array, value: Uint8Array, options?: { sync: boolean }): Promise<void>;
  del(key: Uint8Array): Promise<void>;
  batch(changes: readonly ({ type: "put"; key: Uint8Array; value: Uint8Array } | { type: "del"; key: Uint8Array })[], options?: { sync: boolean }): Promise<void>;
  keys(options: { limit: number; reverse?: boolean }): { all(): Promise<Uint8Array[]> };
  close(): Promise<void>;
}

const packageName: string = "classic-level";
const { ClassicLevel } = (await import(packageName)) as Level;

async function store(folder: string): Promise<Store> {
  const opened = new ClassicLevel(folder, { keyEncoding: "buffer", valueEncoding: "view" });
  await opened.open();
  return opened;
}

/** Big-endian, so that keys are in order. */
function keyOf(number: number): Buffer {
  const key = Buffer.alloc(8);
  key.writeBigUInt64BE(BigInt(number));
  return key;
}

async function counter({ folder }: Place): Promise<Counter> {
  const values = await store(path.join(folder, "level"));
  const key = keyOf(0);
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  await values.put(key, bytes);
  const get = (): number => {
    const found = values.getSync(key) as Uint8Array;
    return new DataView(found.buffer, found.byteOffset).getFloat64(0);
  };
  return {
    // No step of its own: the next one has to wait until this is done.
    async add() {
      const next = get() + 1;
      view.setFloat64(0, next);
      await values.put(key, bytes);
      return next;
    },
    get,
    close: () => values.close(),
  };
}

async function slots({ folder }: Place, count: number, bytes: number, first: (slot: number) => Uint8Array): Promise<Slots> {
  const values = await store(path.join(folder, `slots-${bytes}`));
  const keys = Array.from({ length: count }, (_, slot) => keyOf(slot));
  await values.batch(keys.map((key, slot) => ({ type: "put", key, value: first(slot).slice() })));
  return {
    read: (slot) => values.getSync(keys[slot] as Buffer) as Uint8Array,
    write: (slot, data) => values.put(keys[slot] as Buffer, data),
    close: () => values.close(),
  };
}

async function fifo({ folder }: Place, { durability }: FifoOptions): Promise<Fifo> {
  const records = await store(path.join(folder, "level"));
  const sync = durability !== "none";
  const edge = async (reverse: boolean): Promise<number | undefined> => {
    const [key] = await records.keys({ limit: 1, reverse }).all();
    return key === undefined ? undefined : Number(Buffer.from(key).readBigUInt64BE());
  };
  let head = (await edge(false)) ?? 0;
  // The far end is only looked for by who pushes.
  let tail: number | undefined;
  const end = async (): Promise<number> => (tail ??= ((await edge(true)) ?? head - 1) + 1);
  return {
    async push(record) {
      const key = tail ?? (await end());
      tail = key + 1;
      await records.put(keyOf(key), record, { sync });
      return true;
    },
    async pop() {
      const key = keyOf(head);
      const record = records.getSync(key);
      if (record === undefined) return undefined;
      head++;
      await records.del(key);
      return record;
    },
    async pushMany(added) {
      const from = tail ?? (await end());
      tail = from + added.length;
      await records.batch(added.map((value, i) => ({ type: "put", key: keyOf(from + i), value })), { sync });
      return added.length;
    },
    async popMany(max) {
      const found: Uint8Array[] = [];
      const changes: { type: "del"; key: Uint8Array }[] = [];
      while (found.length < max) {
        const key = keyOf(head + found.length);
        const record = records.getSync(key);
        if (record === undefined) break;
        found.push(record);
        changes.push({ type: "del", key });
      }
      head += found.length;
      if (found.length > 0) await records.batch(changes);
      return found;
    },
    peek: () => records.getSync(keyOf(head)),
    close: () => records.close(),
  };
}

const peer: Peer = { counter, slots, fifo };
export default peer;
