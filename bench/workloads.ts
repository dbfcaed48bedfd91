/** What is measured: the one definition that every subject gets, the C program by its arguments. */

export const runtimes = ["node", "bun", "deno"] as const;
export type Runtime = (typeof runtimes)[number];

/** How a runtime does the work. Without a word it is holdfast's own call; the others are for comparison. */
export type Way = "holdfast" | "view" | "doubles" | "fs" | "mmap";

/**
 * Who does the work. "c-call" is C that calls the function of the library which the runtimes call; "…-view" is a typed array over
 * `mapping.view()`, of bytes or of BigInts; "…-doubles" a Float64Array over it, the halves of each word taken out of the double;
 * "…-fs" is `node:fs`, "bun-mmap" as "bun-view" over `Bun.mmap`.
 */
export type Subject = "c" | "c-call" | Runtime | `${Runtime}-view` | `${Runtime}-doubles` | `${Runtime}-fs` | "bun-mmap";

export const subjectTitles: Readonly<Record<Subject, string>> = {
  c: "C",
  "c-call": "C, calls libholdfast",
  node: "Node",
  bun: "Bun",
  deno: "Deno",
  "node-view": "Node, view()",
  "bun-view": "Bun, view()",
  "deno-view": "Deno, view()",
  "node-doubles": "Node, view(), doubles",
  "bun-doubles": "Bun, view(), doubles",
  "deno-doubles": "Deno, view(), doubles",
  "node-fs": "Node, node:fs",
  "bun-fs": "Bun, node:fs",
  "deno-fs": "Deno, node:fs",
  "bun-mmap": "Bun, Bun.mmap",
};

/** The runtime and the way of a subject that is not C. */
export function runtimeOf(subject: Exclude<Subject, "c" | "c-call">): { runtime: Runtime; way: Way } {
  const [runtime, way = "holdfast"] = subject.split("-") as [Runtime, Way?];
  return { runtime, way };
}

/**
 * What a subject is meant to reach: nanoseconds of an operation, or a multiple of C's, of its own at another workload, or of what its runtime takes in
 * another way, in the same round.
 */
export type Goal = { readonly ns: number } | { readonly ratio: number; readonly to?: string; readonly beside?: Way };

export interface Workload {
  /** As `--only` and the JSON name it. */
  readonly name: string;
  readonly title: string;
  /** Operations of each subject in one round. */
  readonly operations: number;
  /** The same with `--smoke`. */
  readonly smokeOperations: number;
  readonly subjects: readonly Subject[];
  readonly goals?: Partial<Readonly<Record<Subject, Goal>>>;
  /** How many times fewer operations the "…-fs" subjects get, which go through the kernel at each. Default 20. */
  readonly slower?: number;
  /** How many processes of a subject do the work at once, on the same files. Default 1. The operations are those of all together. */
  readonly processes?: number;
  /** Whether all subjects work on one large file, of {@linkcode wordBytes}, whose word i has the value i. */
  readonly words?: boolean;
}

/** Operations of a subject in one round. */
export function operationsOf(workload: Workload, subject: Subject, smoke: boolean): number {
  const operations = smoke ? workload.smokeOperations : workload.operations;
  return subject.endsWith("-fs") ? Math.ceil(operations / (workload.slower ?? 20)) : operations;
}

function each(goal: Goal): Record<Runtime, Goal> {
  return { node: goal, bun: goal, deno: goal };
}

/** A goal of atomic accesses and of plain ones. */
function both(goal: Goal): NonNullable<Workload["goals"]> {
  return { ...each(goal), "node-doubles": goal, "bun-doubles": goal, "deno-doubles": goal };
}

const atomic = { operations: 5_000_000, smokeOperations: 2_000, subjects: ["c", "c-call", ...runtimes] } as const;
// The C program of the queue calls libholdfast anyhow: it is the protocol of lib/queue.ts written in C.
const queue = { operations: 200_000, smokeOperations: 500, subjects: ["c", ...runtimes] } as const;
// Here C, and node:fs in each runtime, is what a program would do without a queue: "each" is pwrite(2) to a file that is written already and
// fdatasync(2), which is the least that there is; "batch" is a hundred times write(2) at the end of a file, and fdatasync(2).
const durable = { operations: 200, smokeOperations: 10, subjects: ["c", ...runtimes] } as const;
const views = runtimes.map((runtime) => `${runtime}-view` as const);
const doubles = runtimes.map((runtime) => `${runtime}-doubles` as const);
const others: readonly Subject[] = [...runtimes.map((runtime) => `${runtime}-fs` as const), "bun-mmap"];
const copySubjects: readonly Subject[] = ["c", "c-call", ...runtimes, ...views, ...others];
const wordSubjects: readonly Subject[] = ["c", "c-call", ...runtimes, ...doubles, ...views, ...others];
const small = { operations: 1_000_000, smokeOperations: 2_000, subjects: copySubjects, goals: { ...each({ ns: 60 }), bun: { ns: 30 } } } as const;
const large = { operations: 20_000, smokeOperations: 100, subjects: copySubjects, goals: each({ ratio: 1.2 }) } as const;
const random = { operations: 1_000_000, smokeOperations: 2_000, subjects: wordSubjects, words: true } as const;

/** Processes of the workload "counter-add-4". */
export const together = 4;

export const workloads: readonly Workload[] = [
  { name: "counter-add", title: "Counters.add", ...atomic, goals: { bun: { ratio: 1.8 }, deno: { ratio: 4.5 }, node: { ratio: 3.5 } } },
  { name: "counter-add-4", title: "Counters.add, 4 processes", ...atomic, processes: together, goals: each({ ratio: 1.5 }) },
  { name: "metric-inc", title: "Counter.inc of Metrics", ...atomic, subjects: ["c", ...runtimes], goals: each({ ratio: 1.5, to: "counter-add" }) },
  { name: "atomic-load", title: "mapping.atomics.load", ...atomic },
  { name: "queue-push-pop", title: "Queue.push then pop, 64 bytes", ...queue, goals: { ...each({ ns: 200 }), deno: { ns: 320 } } },
  { name: "queue-push", title: "Queue.push alone, 64 bytes", ...queue, goals: each({ ns: 70 }) },
  { name: "queue-pop", title: "Queue.pop alone, 64 bytes", ...queue },
  {
    name: "queue-push-each",
    title: 'Queue.push, durability "each"',
    ...durable,
    // Side by side: what a sync takes drifts by half within seconds.
    subjects: ["c", ...runtimes.flatMap((runtime) => [runtime, `${runtime}-fs`] as const)],
    goals: each({ ratio: 1.1, beside: "fs" }),
    slower: 1,
  },
  {
    name: "queue-push-batch",
    title: 'Queue.push, durability "batch" of 100',
    ...durable,
    operations: 20_000,
    smokeOperations: 200,
    subjects: ["c", ...runtimes, ...runtimes.map((runtime) => `${runtime}-fs` as const)],
    goals: each({ ns: 2_100 }),
    slower: 1,
  },
  { name: "pread-into-64", title: "mapping.preadInto, 64 bytes", ...small },
  { name: "pwrite-64", title: "mapping.pwrite, 64 bytes", ...small },
  { name: "shm-read-64", title: "SharedMemory.read, 64 bytes", ...small, subjects: ["c", ...runtimes], goals: each({ ns: 500 }) },
  { name: "shm-write-64", title: "SharedMemory.write, 64 bytes", ...small, subjects: ["c", ...runtimes], goals: each({ ns: 500 }) },
  { name: "pread-into-64k", title: "mapping.preadInto, 64 KiB", ...large },
  { name: "pwrite-64k", title: "mapping.pwrite, 64 KiB", ...large },
  { name: "random-read-8", title: "atomics.load, anywhere in 1 GiB", ...random, goals: both({ ns: 40 }) },
  { name: "random-write-8", title: "atomics.store, anywhere in 1 GiB", ...random, slower: 400, goals: both({ ns: 25 }) },
];

/** The message of the queue. Its first four bytes are replaced by a number that counts up (u32, little-endian). */
export const payload: Uint8Array<ArrayBuffer> = Uint8Array.from({ length: 64 }, (_, i) => (i * 37 + 11) & 0xff);

/**
 * Records in the queue at most, in the workloads of one side alone: half a megabyte, which stays within the first two segments,
 * so that no files are made while the clock runs.
 */
export const backlog = 5_000;

/** Records that one sync is for, in "queue-push-batch". */
export const batchCount = 100;

/** Value of the cell that "atomic-load" reads. */
export const loadedValue = 123_456_789;

/** Bytes of the file that the random accesses go to; a power of two. */
export function wordBytes(smoke: boolean): number {
  return smoke ? 1 << 20 : 1 << 30;
}

/** How many places of the file the copies go to, one behind the other: few enough for the processor's caches. */
export function slotsOf(bytes: number): number {
  return bytes > 4096 ? 4 : 1024;
}

/** What byte `offset` of the file of the copies holds at first. */
export function byteAt(offset: number): number {
  return (offset * 37 + (offset >> 6) * 11 + 5) & 0xff;
}
