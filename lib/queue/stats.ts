/**
 * What there is to know of a queue from outside: its content, its files and who has it open.
 *
 * @module
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { fileSystem } from "../files.ts";
import { CONSUMER, PRODUCER, segmentId, SLOT, SLOT_BYTES, SLOT_COUNT, SLOTS, SPARES } from "../layout/queue.ts";
import { allocateScratch, native } from "../native/native.ts";
import type { Control } from "./control.ts";
import type { LeaseEntry } from "./leases.ts";
import type { Reader } from "./reader.ts";

/**
 * A handle that has the queue open in mode "rw", in any process.
 *
 * @example
 * ```ts
 * import { Queue, type QueueHandle } from "holdfast";
 * using queue = Queue.open("/tmp/example-handles.queue", { autoUnlink: true });
 * const others: QueueHandle[] = queue.stats().handles.filter(({ own }) => !own);
 * others.map(({ pid, leases }) => `process ${pid} works on ${leases} records`); // []
 * ```
 */
export interface QueueHandle {
  /** Its number among the 1,024 that there can be. */
  readonly slot: number;
  /** Process that opened it, as its own PID namespace counts. */
  readonly pid: number;
  /** Thread that opened it, counted likewise. */
  readonly thread: number;
  /** Whether it is the handle that was asked. */
  readonly own: boolean;
  /** Records that are leased to it. */
  readonly leases: number;
}

/**
 * The result of `Queue.stats()`.
 *
 * @example
 * ```ts
 * import { Queue, type QueueStats } from "holdfast";
 * using queue = Queue.open("/tmp/example-stats.queue", { autoUnlink: true });
 * queue.push(1);
 * const { length, pushed, oldestSequence, nextSequence }: QueueStats = queue.stats();
 * [length, pushed, oldestSequence, nextSequence]; // [1, 1, 1, 2]
 * ```
 */
export interface QueueStats {
  /** Records in the queue, leased ones included. */
  readonly length: number;
  /** Records that were handed out and are neither acknowledged nor handed out again. */
  readonly leased: number;
  /** Of those, the ones that the next `lease` or `pop` may have: given back, late, or their holder is gone. */
  readonly released: number;
  /** Bytes of the records in the queue, with their headers. */
  readonly byteLength: number;
  /** Most bytes of records that the queue holds; undefined without a limit. */
  readonly maxByteLength: number | undefined;
  /** Records that were ever pushed. */
  readonly pushed: number;
  /** Their bytes. */
  readonly pushedBytes: number;
  /** Records that were ever removed: popped, acknowledged or cleared. */
  readonly popped: number;
  /** Their bytes. */
  readonly poppedBytes: number;
  /** Sequence of the oldest record in the queue, leased or not; undefined if there is none. */
  readonly oldestSequence: number | undefined;
  /** Sequence of the next record to be pushed. The first record of a queue has 1. */
  readonly nextSequence: number;
  /** Segment files that hold records, or are waste that the next sweep removes. */
  readonly segments: number;
  /** Bytes of a segment file. One that holds a larger record is larger. */
  readonly segmentBytes: number;
  /** Free segment files that are kept for use. */
  readonly spares: number;
  /** Bytes of all files of the queue. */
  readonly fileBytes: number;
  /** The living handles of mode "rw", this one included; the kernel's locks say who lives. */
  readonly handles: readonly QueueHandle[];
}

/** Looks without a lock: each number is true of some moment during the call. */
export function queueStats(control: Control, reader: Reader): QueueStats {
  const { cursor, tail } = reader.look();
  // Copies: later calls look again.
  const at = cursor.slice();
  const end = tail.slice();
  const entries = reader.entriesWithoutLock(at);
  const next = end[PRODUCER.sequence] as number;
  const leased = at[CONSUMER.leased] as number;
  const length = next - (at[CONSUMER.sequence] as number) + leased;
  const byteLength = (end[PRODUCER.bytes] as number) - (at[CONSUMER.bytes] as number) + (at[CONSUMER.leasedBytes] as number);
  const pushedBytes = end[PRODUCER.bytes] as number;
  const oldest = entries.reduce((least, { sequence }) => Math.min(least, sequence), at[CONSUMER.sequence] as number);
  const handles = livingHandles(control, entries);
  const { shape } = control;
  return {
    length,
    leased,
    released: releasedOf(entries, handles, control),
    byteLength,
    maxByteLength: shape.maxBytes === 0 ? undefined : shape.maxBytes,
    pushed: next - 1,
    pushedBytes,
    popped: next - 1 - length,
    poppedBytes: pushedBytes - byteLength,
    oldestSequence: length === 0 ? undefined : oldest,
    nextSequence: next,
    ...filesOf(control),
    segmentBytes: shape.segmentBytes,
    handles: handles.map(({ owner: _, ...handle }) => handle),
  };
}

interface Holder extends QueueHandle {
  readonly owner: number;
}

/** Asks the kernel about each slot that was ever taken; slots are taken from the lowest, so these are few. */
function livingHandles(control: Control, entries: readonly LeaseEntry[]): Holder[] {
  const words = SLOT_BYTES / 8;
  const copy = allocateScratch(SLOT_COUNT * SLOT_BYTES);
  const result = native().hf_words_load(control.region.address + SLOTS, SLOT_COUNT * words, copy.address);
  if (result < 0) throw control.error(result, "slots");
  const slots = new Float64Array(copy.buffer);
  const handles: Holder[] = [];
  for (let slot = 0; slot < SLOT_COUNT; slot++) {
    const generation = slots[slot * words + SLOT.generation] as number;
    if (generation === 0) continue;
    const owner = generation * SLOT_COUNT + slot;
    if (!control.alive(owner)) continue;
    handles.push({
      slot,
      pid: slots[slot * words + SLOT.process] as number,
      thread: slots[slot * words + SLOT.thread] as number,
      own: owner === control.owner,
      leases: entries.filter((entry) => entry.owner === owner).length,
      owner,
    });
  }
  return handles;
}

function releasedOf(entries: readonly LeaseEntry[], handles: readonly Holder[], control: Control): number {
  if (entries.length === 0) return 0;
  const now = native().hf_clock_ms();
  const living = new Set(handles.map(({ owner }) => owner));
  // One that opened since the slots were read lives too.
  const gone = (owner: number): boolean => owner === 0 || (!living.has(owner) && !control.alive(owner));
  return entries.filter(({ owner, deadline }) => gone(owner) || (deadline > 0 && deadline <= now)).length;
}

/** Lists the directory: a segment file costs some microseconds. */
function filesOf(control: Control): Pick<QueueStats, "segments" | "spares" | "fileBytes"> {
  const { directory, shape } = control;
  control.assertSame();
  const free = new Set(control.loadWords(SPARES, shape.spares).slice(0, shape.spares));
  let segments = 0;
  let spares = 0;
  let fileBytes = 0;
  for (const name of fileSystem(directory, () => fs.readdirSync(directory))) {
    const path = join(directory, name);
    // Another may just have removed it.
    const stat = fileSystem(path, () => fs.statSync(path, { throwIfNoEntry: false }));
    if (stat?.isFile() !== true) continue;
    fileBytes += stat.size;
    const id = segmentId(name);
    if (id === undefined) continue;
    if (free.has(id)) spares++;
    else segments++;
  }
  return { segments, spares, fileBytes };
}
