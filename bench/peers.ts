/**
 * What else one would take for a queue or a counter, on this machine: `npm run bench:peers`. Each subject is a process of its own, which
 * starts what it needs, checks what comes out, and removes all that it made. docs/comparison.md has the result, and what the figures don't say.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { cpus, loadavg, release, tmpdir } from "node:os";
import { existsSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { Counters, Queue } from "../mod.ts";
import { build } from "../scripts/build.ts";

const RECORD_BYTES = 64;
const BATCH = 100;

/** One subject's ways; each returns once what it did is done. */
interface Peer {
  /** Adds 1 to a counter that outlives the process. */
  add(): unknown;
  /** Stores a record; returns once others see it. */
  push(record: Uint8Array): unknown;
  /** Removes the oldest record. */
  pop(): unknown;
  /** The same for many, the way that is the fastest here. */
  pushMany(records: readonly Uint8Array[]): unknown;
  popMany(count: number): unknown;
  /** The counter's value, and how many records are left. */
  totals(): Promise<readonly [counter: number, records: number]>;
  close(): unknown;
}

interface Subject {
  readonly title: string;
  readonly runtime: "node" | "bun" | "deno";
  readonly flags?: readonly string[];
  /** Operations of a round: a slow subject gets fewer. */
  readonly count: number;
  open(folder: string): Promise<Peer>;
}

/** What bun:sqlite and node:sqlite have in common. */
interface Sqlite {
  exec(sql: string): unknown;
  prepare(sql: string): { run(...values: unknown[]): unknown; get(...values: unknown[]): unknown; all(...values: unknown[]): unknown[] };
  close(): void;
}

async function sqlitePeer(db: Sqlite): Promise<Peer> {
  // WAL and NORMAL: as the queue's durability "process", a commit survives the death of the process and not a power cut.
  for (const sql of [
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "CREATE TABLE queue (id INTEGER PRIMARY KEY AUTOINCREMENT, payload BLOB)",
    "CREATE TABLE counter (value INTEGER)",
    "INSERT INTO counter VALUES (0)",
  ]) db.exec(sql);
  const add = db.prepare("UPDATE counter SET value = value + 1");
  const push = db.prepare("INSERT INTO queue (payload) VALUES (?)");
  const pop = db.prepare("DELETE FROM queue WHERE id IN (SELECT id FROM queue ORDER BY id LIMIT ?) RETURNING payload");
  const transaction = <T>(body: () => T): T => {
    db.exec("BEGIN IMMEDIATE");
    const result = body();
    db.exec("COMMIT");
    return result;
  };
  return {
    add: () => add.run(),
    push: (record) => push.run(record),
    pop: () => pop.get(1),
    pushMany: (records) => transaction(() => records.forEach((record) => push.run(record))),
    popMany: (count) => pop.all(count),
    totals: async () => {
      const [row] = db.prepare("SELECT (SELECT value FROM counter) AS counter, (SELECT count(*) FROM queue) AS records").all() as [{ counter: number; records: number }];
      return [row.counter, row.records];
    },
    close: () => db.close(),
  };
}

async function holdfastPeer(folder: string): Promise<Peer> {
  const queue = Queue.open<Uint8Array>(path.join(folder, "queue"), { codec: "bytes" });
  const counters = Counters.open(path.join(folder, "counters"), { count: 1 });
  return {
    add: () => counters.add(0),
    push: (record) => queue.push(record),
    pop: () => queue.pop(),
    pushMany: (records) => queue.pushMany(records),
    popMany: (count) => queue.popMany(count),
    totals: async () => [counters.get(0), queue.length],
    close: () => {
      queue.close();
      counters.close();
    },
  };
}

async function redisPeer(folder: string): Promise<Peer> {
  const socket = path.join(folder, "redis.sock");
  const options = ["--port", "0", "--unixsocket", socket, "--dir", folder, "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"];
  const server: ChildProcess = spawn("redis-server", options, { stdio: "ignore" });
  process.once("exit", () => server.kill("SIGKILL")).once("SIGTERM", () => process.exit(1));
  while (!existsSync(socket)) await sleep(10);
  const { RedisClient } = await import("bun");
  const redis = new RedisClient(`redis+unix://${socket}`);
  return {
    add: () => redis.incr("counter"),
    push: (record) => redis.lpush("queue", record as unknown as string),
    pop: () => redis.rpop("queue"),
    pushMany: (records) => Promise.all(records.map((record) => redis.lpush("queue", record as unknown as string))),
    popMany: (count) => redis.send("RPOP", ["queue", String(count)]),
    totals: async () => [Number(await redis.get("counter")), await redis.llen("queue")],
    close: () => {
      redis.close();
      server.kill("SIGKILL");
    },
  };
}

async function denoKvPeer(folder: string): Promise<Peer> {
  const kv = await Deno.openKv(path.join(folder, "kv"));
  let next = 0;
  const popMany = async (count: number): Promise<void> => {
    const change = kv.atomic();
    for await (const { key } of kv.list({ prefix: ["queue"] }, { limit: count })) change.delete(key);
    await change.commit();
  };
  return {
    add: () => kv.atomic().sum(["counter"], 1n).commit(),
    push: (record) => kv.set(["queue", next++], record),
    pop: () => popMany(1),
    pushMany: (records) => {
      const change = kv.atomic();
      for (const record of records) change.set(["queue", next++], record);
      return change.commit();
    },
    popMany,
    totals: async () => {
      let records = 0;
      for await (const _ of kv.list({ prefix: ["queue"] })) records++;
      return [Number((await kv.get<Deno.KvU64>(["counter"])).value?.value), records];
    },
    close: () => kv.close(),
  };
}

const subjects: Readonly<Record<string, Subject>> = {
  "holdfast-bun": { title: "holdfast, Bun", runtime: "bun", count: 100_000, open: holdfastPeer },
  "holdfast-deno": { title: "holdfast, Deno", runtime: "deno", flags: ["-A", "--no-check"], count: 100_000, open: holdfastPeer },
  "holdfast-node": { title: "holdfast, Node", runtime: "node", count: 100_000, open: holdfastPeer },
  "sqlite-bun": {
    title: "SQLite (bun:sqlite), Bun",
    runtime: "bun",
    count: 10_000,
    open: async (folder) => sqlitePeer(new (await import("bun:sqlite")).Database(path.join(folder, "db")) as unknown as Sqlite),
  },
  "sqlite-node": {
    title: "SQLite (node:sqlite), Node",
    runtime: "node",
    count: 10_000,
    open: async (folder) => sqlitePeer(new (await import("node:sqlite")).DatabaseSync(path.join(folder, "db")) as unknown as Sqlite),
  },
  "redis-bun": { title: "Redis, Unix socket, Bun", runtime: "bun", count: 10_000, open: redisPeer },
  "kv-deno": { title: "Deno KV, Deno", runtime: "deno", flags: ["-A", "--no-check", "--unstable-kv"], count: 1_000, open: denoKvPeer },
};

const works = ["add", "one", "many"] as const;
type Figures = Record<(typeof works)[number], number[]>;

/** Nanoseconds of each operation: of an add, of a push and a pop, of a record in batches. */
async function measure({ count: usual, open }: Subject, folder: string, rounds: number, smoke: boolean): Promise<Figures> {
  const count = smoke ? BATCH : usual;
  const peer = await open(folder);
  const record = new Uint8Array(RECORD_BYTES).fill(120);
  const batch = Array.from({ length: BATCH }, () => record);
  const figures: Figures = { add: [], one: [], many: [] };
  const timed = async (work: keyof Figures, operations: number, body: () => Promise<void>): Promise<void> => {
    const start = performance.now();
    await body();
    figures[work].push(((performance.now() - start) * 1e6) / operations);
  };
  // Awaits only what is a promise: a synchronous call would pay for what it does not use.
  const done = async (result: unknown): Promise<void> => void (await result);
  for (let round = 0; round <= rounds; round++) {
    await timed("add", count, async () => {
      for (let i = 0; i < count; i++) {
        const result = peer.add();
        if (result instanceof Promise) await done(result);
      }
    });
    await timed("one", count, async () => {
      for (let i = 0; i < count; i++) {
        const pushed = peer.push(record);
        if (pushed instanceof Promise) await done(pushed);
        const popped = peer.pop();
        if (popped instanceof Promise) await done(popped);
      }
    });
    await timed("many", count, async () => {
      for (let i = 0; i < count; i += BATCH) {
        const pushed = peer.pushMany(batch);
        if (pushed instanceof Promise) await done(pushed);
        const popped = peer.popMany(BATCH);
        if (popped instanceof Promise) await done(popped);
      }
    });
  }
  const totals = await peer.totals();
  await peer.close();
  if (totals[0] !== count * (rounds + 1) || totals[1] !== 0) throw new Error(`counted ${totals[0]}, ${totals[1]} records left`);
  for (const work of works) figures[work].shift(); // the first round warms up
  return figures;
}

const help = `Usage: npm run bench:peers -- [options]

  --rounds N    rounds that count, after one that does not (default 5)
  --smoke       as little as possible, to see that it works
  --only NAME   subjects whose name contains NAME: ${Object.keys(subjects).join(", ")}
  --help        print this text
`;

function inChild(name: string, { runtime, flags = [] }: Subject, more: readonly string[]): Figures | undefined {
  if (name.startsWith("redis")) {
    try {
      execFileSync("redis-server", ["--version"], { stdio: "ignore" });
    } catch {
      console.error(`${name}: left out, there is no redis-server`);
      return undefined;
    }
  }
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-peers-"));
  try {
    const executable = realpathSync(fileURLToPath(new URL(`../node_modules/.bin/${runtime}`, import.meta.url)));
    const run = runtime === "node" ? ["--disable-warning=ExperimentalWarning"] : ["run", ...flags];
    const output = execFileSync(executable, [...run, fileURLToPath(import.meta.url), "--subject", name, "--folder", folder, ...more], { encoding: "utf8", timeout: 300_000 });
    return JSON.parse(output) as Figures;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function shown(values: readonly number[]): string {
  const sorted = values.toSorted((a, b) => a - b);
  const text = (value: number): string => (value < 100 ? value.toPrecision(3) : Math.round(value).toLocaleString("en"));
  return `${text(sorted[0] as number)} / ${text(sorted[sorted.length >> 1] as number)}`;
}

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    smoke: { type: "boolean", default: false },
    only: { type: "string", default: "" },
    subject: { type: "string" },
    folder: { type: "string", default: "" },
    help: { type: "boolean", default: false },
  },
});
if (options.help) {
  process.stdout.write(help);
} else if (options.subject !== undefined) {
  console.log(JSON.stringify(await measure(subjects[options.subject] as Subject, options.folder, Number(options.rounds), options.smoke)));
} else {
  build();
  const table = new Table({ head: ["ns, min / median", "add 1", "push, pop", `the same, ${BATCH} at a time, a record`], style: { head: [], border: [], compact: true }, colAligns: ["left", "right", "right", "right"] });
  for (const [name, subject] of Object.entries(subjects).filter(([name]) => name.includes(options.only))) {
    const figures = inChild(name, subject, ["--rounds", options.rounds, ...(options.smoke ? ["--smoke"] : [])]);
    if (figures !== undefined) table.push([subject.title, ...works.map((work) => shown(figures[work]))]);
  }
  console.log(`${cpus()[0]?.model}, ${cpus().length} CPUs; Linux ${release()}; load average ${loadavg()[0]?.toFixed(2)}; ${RECORD_BYTES} bytes`);
  console.log(table.toString());
}
