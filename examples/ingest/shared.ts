/** What the processes of the ingest example share: one folder with the job, the queue, the counters and the seen lines. */
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { Counters, Mapping, Queue } from "../../mod.ts";
import type { Part } from "./parts.ts";

/** Written once by the parent, before any child starts. */
export interface Job {
  /** The input, absolute. */
  readonly file: string;
  /** Process id of the parent: a child whose parent is another one by now has been orphaned. */
  readonly parent: number;
  readonly lines: number;
  /** Lines that a producer pushes at once. */
  readonly batch: number;
  /** Producers wait while the queue has more records than this. */
  readonly backlog: number;
  /** One for each producer. */
  readonly parts: readonly Part[];
  readonly consumers: number;
}

/** A record of the queue. */
export interface Entry {
  /** Index in the file. */
  readonly line: number;
  readonly producer: number;
  readonly text: string;
}

/** Counters that are there from the start. Those of status codes, methods and paths are declared by whoever meets one first. */
export const names = {
  /** 1: every child has been started, off they go. */
  go: "go",
  /** 1: all producers have pushed all their lines. */
  finished: "finished",
  /** Lines that consumers began to count; one that was begun twice adds 2. */
  processed: "processed",
  /** Records that came again because the consumer that held them was killed. */
  duplicates: "duplicates",
  /** Records whose line had been counted out of another record: never, unless a producer pushes a line twice. */
  pushedTwice: "pushed twice",
  /** Bytes that the web server sent. */
  bytes: "bytes",
  notUnderstood: "not understood",
  /** Process id of a child that is at work, else 0. */
  pid: (kind: "producer" | "consumer", index: number): string => `${kind} ${index} pid`,
  /** Lines that a producer has pushed, or that a consumer has counted. */
  done: (kind: "producer" | "consumer", index: number): string => `${kind} ${index} done`,
} as const;

/** Bits of each 64-bit cell in use: the number form of the atomics is fast, and ends at 2^53. */
const BITS = 32;

/** One bit for each line, set once the line has been counted. */
export class SeenLines implements Disposable {
  readonly #mapping: Mapping;

  constructor(mapping: Mapping) {
    this.#mapping = mapping;
  }

  static create(file: string, lines: number): SeenLines {
    return new SeenLines(Mapping.open(file, { create: true, exclusive: true, byteLength: 8 * Math.ceil(lines / BITS) }));
  }

  static open(file: string): SeenLines {
    return new SeenLines(Mapping.open(file));
  }

  /** Marks the line; returns whether it had been. */
  add(line: number): boolean {
    const bit = 2 ** (line % BITS);
    return isSet(this.#mapping.atomics.or(offsetOf(line), bit), bit);
  }

  has(line: number): boolean {
    return isSet(this.#mapping.atomics.load(offsetOf(line)), 2 ** (line % BITS));
  }

  [Symbol.dispose](): void {
    this.#mapping.close();
  }
}

function offsetOf(line: number): number {
  return 8 * Math.floor(line / BITS);
}

function isSet(cell: number, bit: number): boolean {
  return Math.floor(cell / bit) % 2 === 1; // `&` would take bit 31 for the sign
}

/** The open files of one process. */
export class Shared implements Disposable {
  readonly job: Job;
  readonly queue: Queue<Entry>;
  readonly counters: Counters;
  readonly seen: SeenLines;

  private constructor(job: Job, queue: Queue<Entry>, counters: Counters, seen: SeenLines) {
    this.job = job;
    this.queue = queue;
    this.counters = counters;
    this.seen = seen;
  }

  /** The parent's: makes the files. */
  static create(folder: string, job: Job): Shared {
    const { go, finished, processed, duplicates, pushedTwice, bytes, notUnderstood, pid, done } = names;
    const list: string[] = [go, finished, processed, duplicates, pushedTwice, bytes, notUnderstood];
    job.parts.forEach((_, i) => list.push(pid("producer", i), done("producer", i)));
    for (let i = 0; i < job.consumers; i++) list.push(pid("consumer", i), done("consumer", i));
    writeFileSync(path.join(folder, "job.json"), JSON.stringify(job));
    const queue = Queue.open<Entry>(path.join(folder, "queue"), { codec: "json" });
    const counters = Counters.open(path.join(folder, "counters"), { names: list });
    return new Shared(job, queue, counters, SeenLines.create(path.join(folder, "seen"), job.lines));
  }

  /** A child's: opens the files that the parent has made. */
  static open(folder: string): Shared {
    const job = JSON.parse(readFileSync(path.join(folder, "job.json"), "utf8")) as Job;
    const queue = Queue.open<Entry>(path.join(folder, "queue"), { codec: "json" });
    return new Shared(job, queue, Counters.open(path.join(folder, "counters")), SeenLines.open(path.join(folder, "seen")));
  }

  /** A child's: says that it is at work, and waits for the parent's word to begin. */
  async begin(kind: "producer" | "consumer", index: number): Promise<void> {
    this.counters.set(names.pid(kind, index), process.pid);
    while (this.counters.get(names.go) === 0) await this.pause();
  }

  /** A child's: waits a moment. Ends the process if nobody waits for its work any more. */
  async pause(): Promise<void> {
    if (process.ppid !== this.job.parent) {
      console.error("the parent is gone");
      process.exit(3);
    }
    await sleep(1);
  }

  [Symbol.dispose](): void {
    this.queue.close();
    this.counters.close();
    this.seen[Symbol.dispose]();
  }
}

/** The arguments of a child: the folder, and which of its kind it is. */
export function childArguments(): [folder: string, index: number] {
  const [, , folder, index] = process.argv;
  if (folder === undefined || index === undefined) throw new Error("this program is started by examples/ingest.ts");
  return [folder, Number(index)];
}
