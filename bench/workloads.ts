/** What is measured: the one definition that every subject gets, the C program by its arguments. */

export const runtimes = ["node", "bun", "deno"] as const;
export type Runtime = (typeof runtimes)[number];

/** Who does the work. "c-call" is C that calls the function of the library which the runtimes call. */
export type Subject = "c" | "c-call" | Runtime;

export const subjectTitles: Readonly<Record<Subject, string>> = {
  c: "C",
  "c-call": "C, calls libholdfast",
  node: "Node",
  bun: "Bun",
  deno: "Deno",
};

export interface Workload {
  /** As `--only` and the JSON name it. */
  readonly name: string;
  readonly title: string;
  /** Operations of each subject in one round. */
  readonly operations: number;
  /** The same with `--smoke`. */
  readonly smokeOperations: number;
  readonly subjects: readonly Subject[];
}

const atomic = { operations: 5_000_000, smokeOperations: 2_000, subjects: ["c", "c-call", ...runtimes] } as const;
// The C program of the queue calls libholdfast anyhow: it is the protocol of lib/queue.ts written in C.
const queue = { operations: 200_000, smokeOperations: 500, subjects: ["c", ...runtimes] } as const;

export const workloads: readonly Workload[] = [
  { name: "counter-add", title: "Counters.add", ...atomic },
  { name: "atomic-load", title: "mapping.atomics.load", ...atomic },
  { name: "queue-push-pop", title: "Queue.push then pop, 64 bytes", ...queue },
  { name: "queue-push", title: "Queue.push alone, 64 bytes", ...queue },
  { name: "queue-pop", title: "Queue.pop alone, 64 bytes", ...queue },
];

/** The message of the queue. Its first four bytes are replaced by a number that counts up (u32, little-endian). */
export const payload: Uint8Array<ArrayBuffer> = Uint8Array.from({ length: 64 }, (_, i) => (i * 37 + 11) & 0xff);

/**
 * Records in the queue at most, in the workloads of one side alone: half a megabyte, which stays within the first two segments,
 * so that no files are made while the clock runs.
 */
export const backlog = 5_000;

/** Value of the cell that "atomic-load" reads. */
export const loadedValue = 123_456_789;
