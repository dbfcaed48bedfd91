/** lmdb, the npm package: synchronous transactions, keys that are numbers. */
import path from "node:path";
import type { Counter, Fifo, FifoOptions, Peer, Place, Slots } from "../peer.ts";

/** The part of the package that is used here: it is not installed where the types are checked. */
interface Lmdb {
  open(options: { path: string; encoding?: "binary"; noSync?: boolean; mapSize?: number }): Store;
}

interface Store {
  get(key: number): unknown;
  putSync(key: number, value: unknown): unknown;
  removeSync(key: number): unknown;
  getKeys(options: { limit: number; reverse?: boolean }): Iterable<number>;
  getRange(options: { limit: number }): Iterable<{ key: number; value: unknown }>;
  transactionSync<R>(change: () => R): R;
  close(): Promise<void>;
}

const packageName: string = "lmdb";
const { open } = (await import(packageName)) as Lmdb;

// Without syncs what is written outlives the process, and not a power loss: the promise of holdfast's default.
function store({ folder }: Place, binary: boolean, onStorage: boolean): Store {
  return open({ path: path.join(folder, "lmdb"), ...(binary ? { encoding: "binary" } : {}), noSync: !onStorage });
}

function counter(place: Place): Counter {
  const numbers = store(place, false, false);
  const add = (): number => {
    const next = ((numbers.get(0) as number | undefined) ?? 0) + 1;
    numbers.putSync(0, next);
    return next;
  };
  return { add: () => numbers.transactionSync(add), get: () => (numbers.get(0) as number | undefined) ?? 0, close: () => numbers.close() };
}

function slots(place: Place, count: number, bytes: number, first: (slot: number) => Uint8Array): Slots {
  const values = store({ ...place, folder: path.join(place.folder, `slots-${bytes}`) }, true, false);
  values.transactionSync(() => {
    for (let slot = 0; slot < count; slot++) values.putSync(slot, first(slot));
  });
  return { read: (slot) => values.get(slot) as Uint8Array, write: (slot, data) => void values.putSync(slot, data), close: () => values.close() };
}

function fifo(place: Place, { durability }: FifoOptions): Fifo {
  const records = store(place, true, durability !== "none");
  const next = (): number => {
    for (const key of records.getKeys({ limit: 1, reverse: true })) return key + 1;
    return 1;
  };
  const popMany = (max: number): Uint8Array[] => {
    const found = [...records.getRange({ limit: max })];
    for (const { key } of found) records.removeSync(key);
    return found.map(({ value }) => value as Uint8Array);
  };
  const peek = (): Uint8Array | undefined => {
    for (const { value } of records.getRange({ limit: 1 })) return value as Uint8Array;
    return undefined;
  };
  const push = (record: Uint8Array): void => void records.putSync(next(), record);
  let empty = false;
  /** Who finds nothing looks for the next time before it takes the write lock, which a producer waits for. */
  const nothing = (): boolean => empty && peek() === undefined;
  const pop = (max: number): Uint8Array[] => {
    if (nothing()) return [];
    const values = records.transactionSync(() => popMany(max));
    empty = values.length === 0;
    return values;
  };
  return {
    push(record) {
      records.transactionSync(() => push(record));
      return true;
    },
    pop: () => pop(1)[0],
    pushMany(added) {
      records.transactionSync(() => {
        let key = next();
        for (const record of added) records.putSync(key++, record);
      });
      return added.length;
    },
    popMany: pop,
    peek,
    close: () => records.close(),
  };
}

const peer: Peer = { counter, slots, fifo };
export default peer;
