/** What is compared: one definition for each question, and who takes part. README.md, the section about it, says what each means. */
import { type Runtime, runtimes } from "../workloads.ts";

export const peers = ["holdfast", "mmap", "shared", "bun-sqlite", "node-sqlite", "lmdb", "level", "redis", "kv", "fs"] as const;
export type PeerName = (typeof peers)[number];

export interface PeerFacts {
  readonly title: string;
  /** Where it runs. What runs in all three alike, by an addon or a socket, does so in Node alone. */
  readonly runtimes: readonly Runtime[];
  /** The npm package that it needs, of package.json here. */
  readonly needs?: string;
}

export const peerFacts: Readonly<Record<PeerName, PeerFacts>> = {
  holdfast: { title: "holdfast", runtimes },
  mmap: { title: "Bun.mmap", runtimes: ["bun"] },
  shared: { title: "SharedArrayBuffer", runtimes },
  "bun-sqlite": { title: "bun:sqlite", runtimes: ["bun"] },
  "node-sqlite": { title: "node:sqlite", runtimes: ["node"] },
  lmdb: { title: "lmdb", runtimes: ["node"], needs: "lmdb" },
  level: { title: "classic-level", runtimes: ["node"], needs: "classic-level" },
  redis: { title: "Redis", runtimes: ["node"], needs: "ioredis" },
  kv: { title: "Deno KV", runtimes: ["deno"] },
  fs: { title: "node:fs", runtimes },
};

/** One peer in one runtime. */
export interface Subject {
  readonly peer: PeerName;
  readonly runtime: Runtime;
}

export const runtimeTitles: Readonly<Record<Runtime, string>> = { node: "Node", bun: "Bun", deno: "Deno" };

export function subjectTitle({ peer, runtime }: Subject): string {
  return `${peerFacts[peer].title}, ${runtimeTitles[runtime]}`;
}

/** What a subject does. `loops.ts`, `pipeline.ts` and `life.ts` have the code. */
export type Task =
  | "add"
  | "add-together"
  | "load"
  | "read"
  | "write"
  | "random-read"
  | "random-write"
  | "pair"
  | "durable"
  | "pipeline"
  | "latency"
  | "cold-open"
  | "backlog"
  | "memory";

export interface Point {
  readonly title: string;
  /** Bytes of a record or a copy, records that wait, or records of a batch: as the workload says. */
  readonly value: number;
}

/** The measure that a workload's figures have. Of records a second more is better, of all others less. */
export type Unit = "ns" | "µs" | "ms" | "MiB" | "records/s";

export interface Workload {
  /** As `--only` and the JSON name it. */
  readonly name: string;
  /** The question. */
  readonly title: string;
  readonly task: Task;
  readonly unit: Unit;
  readonly points: readonly Point[];
  /** Who is left out, and why. */
  readonly leftOut: Partial<Readonly<Record<PeerName, string>>>;
  /** Up to which point a peer goes, and why. */
  readonly most?: Partial<Readonly<Record<PeerName, { readonly value: number; readonly why: string }>>>;
  /** What one round gives several figures of. */
  readonly parts?: readonly string[];
  /** Producers, and as many consumers. */
  readonly pairs?: number;
}

/** Bytes of a record, where nothing else is said. */
export const RECORD_BYTES = 64;

/** Processes of "counter-add-4". */
export const TOGETHER = 4;

/** Records of a batch. */
export const BATCH = 100;

/** Records that are there when a queue is opened. */
export const OPENED_RECORDS = 1_000_000;

/** Records in the queue whose memory is looked at. */
export const MEMORY_RECORDS = 100_000;

/** Records a second, where it counts how soon they arrive. */
export const PER_SECOND = 1_000;

/** Pushes, then pops, as many at a time, at each backlog. */
export const BACKLOG_STEP = 1_000;

function bytes(...sizes: number[]): Point[] {
  const title = (size: number): string => (size < 1024 ? `${size} B` : size < 2 ** 20 ? `${size / 1024} KiB` : `${size / 2 ** 20} MiB`);
  return sizes.map((value) => ({ title: title(value), value }));
}

const one: readonly Point[] = [{ title: "", value: 0 }];
const count = (value: number): Point => ({ title: value.toLocaleString("en-US"), value });
const oneByOne: Point = { title: "one at a time", value: 1 };
const oneProcess = "one process at a time can have it open";
const inProcess = "it is no memory of several processes";
const inMemory = "it is gone with its process";
const noCells = "it has no atomic cells";
const noValues = "a gigabyte of 64-bit words in it is no use of it";
const noTail = "a file that grows has no place for a second reader to say what it took";
const kvValues = { value: 65_536, why: "values end at 64 KiB" } as const;
const notDurable = "it never waits for storage";

const random = {
  unit: "ns",
  points: one,
  leftOut: { "bun-sqlite": noValues, "node-sqlite": noValues, lmdb: noValues, level: noValues, redis: noValues, kv: noValues },
} as const;
const pipelines = { task: "pipeline", unit: "records/s", leftOut: { level: oneProcess } } as const;

export const workloads: readonly Workload[] = [
  { name: "counter-add", title: "Add 1 to a counter", task: "add", unit: "ns", points: one, leftOut: { fs: noCells } },
  {
    name: "counter-add-4",
    title: `Add 1 to one counter, ${TOGETHER} processes at once`,
    task: "add-together",
    unit: "ns",
    points: one,
    leftOut: { fs: noCells, shared: inProcess, level: oneProcess },
  },
  { name: "atomic-load", title: "Read a counter", task: "load", unit: "ns", points: one, leftOut: { fs: noCells } },
  { name: "read", title: "Read a copy of bytes", task: "read", unit: "ns", points: bytes(8, 64, 1024, 65536), leftOut: {}, most: { kv: kvValues } },
  { name: "write", title: "Write bytes", task: "write", unit: "ns", points: bytes(8, 64, 1024, 65536), leftOut: {}, most: { kv: kvValues } },
  { name: "random-read", title: "Read 8 bytes anywhere in 1 GiB", task: "random-read", ...random },
  { name: "random-write", title: "Write 8 bytes anywhere in 1 GiB", task: "random-write", ...random },
  {
    name: "queue-pair",
    title: "Push a record, pop it",
    task: "pair",
    unit: "ns",
    points: bytes(16, RECORD_BYTES, 1024, 16384, 2 ** 20),
    leftOut: {},
    most: { kv: kvValues },
  },
  {
    name: "durable",
    title: "Push a record onto storage",
    task: "durable",
    unit: "ns",
    points: [{ title: "each", value: 1 }, { title: `a batch of ${BATCH}, per record`, value: BATCH }],
    leftOut: { mmap: notDurable, shared: notDurable },
  },
  { name: "pipeline", title: "One producer, one consumer", ...pipelines, points: [oneByOne, { title: `by ${BATCH}`, value: BATCH }], pairs: 1 },
  {
    name: "pipeline-2",
    title: "Two producers, two consumers",
    ...pipelines,
    leftOut: { ...pipelines.leftOut, fs: noTail },
    points: [oneByOne],
    pairs: 2,
  },
  {
    name: "latency",
    title: `From push to a consumer that waits, ${PER_SECOND.toLocaleString("en-US")} a second`,
    task: "latency",
    unit: "µs",
    points: one,
    parts: ["p50", "p99", "p99.9"],
    leftOut: { level: oneProcess },
    pairs: 1,
  },
  {
    name: "cold-open",
    title: `Open a queue of ${OPENED_RECORDS.toLocaleString("en-US")} records, read the first`,
    task: "cold-open",
    unit: "ms",
    points: [{ title: "after a clean close", value: 0 }, { title: "after kill -9", value: 1 }],
    parts: ["first of its process", "after another"],
    leftOut: { mmap: "its ring has no records after a kill that anybody could trust", shared: inMemory },
  },
  {
    name: "backlog",
    title: "Push and pop beside records that wait",
    task: "backlog",
    unit: "ns",
    points: [{ title: "none", value: 0 }, ...[1e3, 1e4, 1e5, 1e6, 1e7].map(count)],
    parts: ["push", "pop"],
    leftOut: {},
    most: {
      "node-sqlite": { value: 1e6, why: "it is the same library as bun:sqlite" },
      level: { value: 1e6, why: "filling it takes too long" },
      redis: { value: 1e6, why: "filling it takes too long" },
      kv: { value: 1e5, why: "filling it takes too long" },
      mmap: { value: 1e6, why: "its ring is made at its full size" },
      shared: { value: 1e6, why: "its ring is made at its full size" },
    },
  },
  {
    name: "memory",
    title: "Resident memory that a queue adds to its process",
    task: "memory",
    unit: "MiB",
    points: one,
    parts: ["open, empty", `${MEMORY_RECORDS.toLocaleString("en-US")} records`],
    leftOut: {},
  },
];

/** Who takes part in a workload, in which runtime. */
export function subjectsOf({ leftOut }: Workload): Subject[] {
  return peers.filter((peer) => leftOut[peer] === undefined).flatMap((peer) => peerFacts[peer].runtimes.map((runtime) => ({ peer, runtime })));
}

/** Why a subject is not at a point; undefined if it is. */
export function notAt(workload: Workload, { peer }: Subject, point: Point): string | undefined {
  const most = workload.most?.[peer];
  return most !== undefined && point.value > most.value ? most.why : undefined;
}

/** Fills `target` as a record or a copy: its first four bytes are its number (u32, little-endian), the rest goes by their places. */
export function fill(target: Uint8Array, number: number): Uint8Array {
  for (let i = 4; i < target.length; i++) target[i] = byteAt(i);
  return stamp(target, number);
}

/** Writes the number of a record or a copy that is filled already. */
export function stamp(target: Uint8Array, number: number): Uint8Array {
  target[0] = number;
  target[1] = number >>> 8;
  target[2] = number >>> 16;
  target[3] = number >>> 24;
  return target;
}

export function numberOf(record: Uint8Array): number {
  return ((record[0] as number) | ((record[1] as number) << 8) | ((record[2] as number) << 16) | ((record[3] as number) << 24)) >>> 0;
}

function byteAt(i: number): number {
  return (i * 37 + 11) & 0xff;
}

/** Length, number and last byte: what is looked at of each record, while the clock runs. Throws if they are wrong. */
export function check(record: Uint8Array | undefined, bytes: number, number: number): Uint8Array {
  if (record !== undefined && record.length === bytes && numberOf(record) === number && record[bytes - 1] === byteAt(bytes - 1)) return record;
  const found = record === undefined ? "nothing" : `${record.length} bytes, number ${numberOf(record)}`;
  throw new Error(`wrong record: ${found}, where number ${number} of ${bytes} bytes was due`);
}

/** All bytes but the number. */
export function checkAll(record: Uint8Array): void {
  for (let i = 4; i < record.length; i++) if (record[i] !== byteAt(i)) throw new Error(`wrong record: byte ${i} is ${record[i]}`);
}

export function need(condition: boolean, what: string): void {
  if (!condition) throw new Error(`wrong result: ${what}`);
}
