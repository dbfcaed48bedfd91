/** SQLite, as two runtimes have it: one table for each use, statements prepared once, a write-ahead log. */
import path from "node:path";
import type { Counter, Fifo, FifoOptions, Peer, Place, Slots } from "../peer.ts";

/** What both have, by these names here. */
export interface Database {
  exec(sql: string): void;
  prepare(sql: string): Statement;
  close(): void;
}

export interface Statement {
  /** The first row, as an object; null or undefined if there is none. */
  get(...values: unknown[]): Row | null | undefined;
  all(...values: unknown[]): Row[];
  run(...values: unknown[]): unknown;
}

type Row = Readonly<Record<string, unknown>>;

function open({ folder }: Place, openFile: (file: string) => Database, onStorage: boolean): Database {
  const database = openFile(path.join(folder, "database"));
  database.exec("PRAGMA busy_timeout = 60000");
  database.exec("PRAGMA journal_mode = WAL");
  // OFF outlives a killed process, as holdfast's default does, and syncs never.
  database.exec(`PRAGMA synchronous = ${onStorage ? "FULL" : "OFF"}`);
  return database;
}

export function sqlite(openFile: (file: string) => Database): Peer {
  function counter(place: Place): Counter {
    const database = open(place, openFile, false);
    database.exec("CREATE TABLE IF NOT EXISTS counters (id INTEGER PRIMARY KEY, value INTEGER)");
    database.exec("INSERT OR IGNORE INTO counters VALUES (0, 0)");
    const add = database.prepare("UPDATE counters SET value = value + 1 WHERE id = 0 RETURNING value");
    const get = database.prepare("SELECT value FROM counters WHERE id = 0");
    return { add: () => add.get()?.value as number, get: () => get.get()?.value as number, close: () => database.close() };
  }

  function slots(place: Place, count: number, bytes: number, first: (slot: number) => Uint8Array): Slots {
    const database = open(place, openFile, false);
    const table = `slots_${bytes}`;
    database.exec(`CREATE TABLE ${table} (id INTEGER PRIMARY KEY, data BLOB)`);
    const insert = database.prepare(`INSERT INTO ${table} VALUES (?, ?)`);
    database.exec("BEGIN");
    for (let slot = 0; slot < count; slot++) insert.run(slot, first(slot));
    database.exec("COMMIT");
    const read = database.prepare(`SELECT data FROM ${table} WHERE id = ?`);
    const write = database.prepare(`UPDATE ${table} SET data = ? WHERE id = ?`);
    return { read: (slot) => read.get(slot)?.data as Uint8Array, write: (slot, data) => void write.run(data, slot), close: () => database.close() };
  }

  function fifo(place: Place, { durability }: FifoOptions): Fifo {
    const database = open(place, openFile, durability !== "none");
    database.exec("CREATE TABLE IF NOT EXISTS queue (id INTEGER PRIMARY KEY, data BLOB)");
    const insert = database.prepare("INSERT INTO queue (data) VALUES (?)");
    const first = database.prepare("SELECT data FROM queue ORDER BY id LIMIT 1");
    const remove = database.prepare("DELETE FROM queue WHERE id = (SELECT min(id) FROM queue) RETURNING data");
    const removeMany = database.prepare("DELETE FROM queue WHERE id IN (SELECT id FROM queue ORDER BY id LIMIT ?) RETURNING id, data");
    let empty = false;
    /** Who finds nothing looks for the next time before it takes the write lock, which a producer waits for. */
    const nothing = (): boolean => empty && (first.get() ?? undefined) === undefined;
    return {
      push(record) {
        insert.run(record);
        return true;
      },
      pop() {
        if (nothing()) return undefined;
        const row = remove.get() ?? undefined;
        empty = row === undefined;
        return row?.data as Uint8Array | undefined;
      },
      pushMany(records) {
        database.exec("BEGIN IMMEDIATE");
        for (const record of records) insert.run(record);
        database.exec("COMMIT");
        return records.length;
      },
      popMany(max) {
        if (nothing()) return [];
        const rows = removeMany.all(max);
        empty = rows.length === 0;
        rows.sort((a, b) => (a.id as number) - (b.id as number)); // RETURNING promises no order
        return rows.map((row) => row.data as Uint8Array);
      },
      peek: () => first.get()?.data as Uint8Array | undefined,
      close: () => database.close(),
    };
  }

  return { counter, slots, fifo };
}
