/** Redis, by ioredis, from a server on loopback that the bench starts. A name for each folder. */
import type { Counter, Fifo, Peer, Place, Slots } from "../peer.ts";

/** The part of the package that is used here: it is not installed where the types are checked. */
interface IoRedis {
  Redis: new (options: { host: string; port: number; maxRetriesPerRequest: number }) => Client;
}

interface Client {
  call(command: string, ...args: (string | number | Uint8Array)[]): Promise<unknown>;
  callBuffer(command: string, ...args: (string | number | Uint8Array)[]): Promise<unknown>;
  quit(): Promise<unknown>;
}

const packageName: string = "ioredis";
const { Redis } = (await import(packageName)) as IoRedis;

function connect({ redisPort: port }: Place): Client {
  return new Redis({ host: "127.0.0.1", port, maxRetriesPerRequest: 0 });
}

/** Bytes as the client wants them; nothing is copied. */
function buffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

async function counter(place: Place): Promise<Counter> {
  const client = connect(place);
  const key = `${place.folder}:counter`;
  await client.call("SETNX", key, 0);
  return {
    add: () => client.call("INCR", key) as Promise<number>,
    get: async () => Number(await client.call("GET", key)),
    close: async () => void (await client.quit()),
  };
}

async function slots(place: Place, count: number, bytes: number, first: (slot: number) => Uint8Array): Promise<Slots> {
  const client = connect(place);
  const key = (slot: number): string => `${place.folder}:${bytes}:${slot}`;
  for (let slot = 0; slot < count; slot++) await client.call("SET", key(slot), buffer(first(slot)));
  return {
    read: (slot) => client.callBuffer("GET", key(slot)) as Promise<Uint8Array>,
    write: async (slot, data) => void (await client.call("SET", key(slot), buffer(data))),
    async close() {
      for (let slot = 0; slot < count; slot++) await client.call("DEL", key(slot));
      await client.quit();
    },
  };
}

function fifo(place: Place): Fifo {
  const client = connect(place);
  let waiting: Client | undefined; // a command that waits has its connection to itself
  const key = `${place.folder}:queue`;
  return {
    async push(record) {
      await client.call("RPUSH", key, buffer(record));
      return true;
    },
    pop: async () => ((await client.callBuffer("LPOP", key)) as Uint8Array | null) ?? undefined,
    async pushMany(records) {
      await client.call("RPUSH", key, ...records.map(buffer));
      return records.length;
    },
    popMany: async (max) => ((await client.callBuffer("LPOP", key, max)) as Uint8Array[] | null) ?? [],
    peek: async () => ((await client.callBuffer("LINDEX", key, 0)) as Uint8Array | null) ?? undefined,
    async take() {
      waiting ??= connect(place);
      return ((await waiting.callBuffer("BLPOP", key, 0)) as [Uint8Array, Uint8Array])[1];
    },
    async serverBytes() {
      const info = (await client.call("INFO", "memory")) as string;
      return Number(/^used_memory_rss:(\d+)/m.exec(info)?.[1]);
    },
    async close() {
      await client.quit();
      await waiting?.quit();
    },
  };
}

const peer: Peer = { counter, slots, fifo };
export default peer;
