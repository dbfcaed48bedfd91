/** One process does one thing again and again: calls of a peer, each checked, by the clock. */
import { statSync } from "node:fs";
import type { Counter, Fifo, Maybe, Peer, Place, Slots, Words } from "./peer.ts";
import { BATCH, check, checkAll, fill, need, RECORD_BYTES, stamp, type Task } from "./workloads.ts";

/** A task under way. */
export interface Work {
  /** Does `count` operations; the milliseconds that they took. */
  run(count: number): Promise<number>;
  /** Operations that one of `count` is, if not one. */
  readonly each?: number;
  /** What "add-together" is checked by: what this process has added, and the counter's value. */
  total?(): Promise<{ added: number; value: number }>;
  close(): Maybe<void>;
}

/** Does `step` for 0, 1, ... and waits for it if it does not answer at once; the milliseconds. */
async function repeat(count: number, step: (i: number) => Maybe<unknown>): Promise<number> {
  const start = performance.now();
  const first = step(0);
  if (first instanceof Promise) {
    await first;
    for (let i = 1; i < count; i++) await step(i);
  } else {
    repeatAtOnce(count, step);
  }
  return performance.now() - start;
}

function repeatAtOnce(count: number, step: (i: number) => unknown): void {
  for (let i = 1; i < count; i++) step(i);
}

function add(counter: Counter): Work {
  let added = 0;
  let last = 0;
  const asked = (result: Maybe<number>): Maybe<void> => {
    if (result instanceof Promise) return result.then((value) => void (last = value));
    last = result;
  };
  return {
    async run(count) {
      const before = await counter.get();
      const ms = await repeat(count, () => asked(counter.add()));
      added += count;
      const after = await counter.get();
      // Others may add at the same time. Who can't say what an addition gave says NaN.
      need(after >= before + count && !(last < before + count), "the value of the counter");
      return ms;
    },
    total: async () => ({ added, value: await counter.get() }),
    close: () => counter.close(),
  };
}

async function load(counter: Counter): Promise<Work> {
  const value = 3;
  for (let i = 0; i < value; i++) await counter.add();
  let sum = 0;
  const asked = (result: Maybe<number>): Maybe<void> => {
    if (result instanceof Promise) return result.then((found) => void (sum += found));
    sum += result;
  };
  return {
    async run(count) {
      sum = 0;
      const ms = await repeat(count, () => asked(counter.get()));
      need(sum === count * value, "the values of the counter");
      return ms;
    },
    close: () => counter.close(),
  };
}

/** Places that copies go to, one behind the other: few enough for the processor's caches. */
function slotsOf(bytes: number): number {
  return bytes > 4096 ? 4 : 64;
}

function read(slots: Slots, bytes: number): Work {
  const mask = slotsOf(bytes) - 1;
  let last: Uint8Array = new Uint8Array();
  const asked = (result: Maybe<Uint8Array>, slot: number): Maybe<void> => {
    if (result instanceof Promise) return result.then((found) => void (last = check(found, bytes, slot)));
    last = check(result, bytes, slot);
  };
  return {
    async run(count) {
      const ms = await repeat(count, (i) => asked(slots.read(i & mask), i & mask));
      checkAll(last);
      return ms;
    },
    close: () => slots.close(),
  };
}

function write(slots: Slots, bytes: number): Work {
  const count = slotsOf(bytes);
  const data = fill(new Uint8Array(bytes), 0);
  const wanted = Array.from({ length: count }, (_, slot) => slot); // the number in each
  let next = count;
  return {
    async run(times) {
      const from = next;
      const ms = await repeat(times, (i) => slots.write(i % count, stamp(data, from + i)));
      next += times;
      for (let i = Math.max(0, times - count); i < times; i++) wanted[i % count] = from + i;
      for (let slot = 0; slot < count; slot++) checkAll(check(await slots.read(slot), bytes, wanted[slot] as number));
      return ms;
    },
    close: () => slots.close(),
  };
}

/** Marsaglia's xorshift, 32 bits: the same places in all subjects. */
function xorshift(x: number): number {
  x ^= x << 13;
  x ^= x >>> 17;
  return x ^ (x << 5);
}

function randomRead(words: Words, mask: number): Work {
  let x = 2463534242 | 0;
  return {
    run(count) {
      let sum = 0;
      let expected = 0;
      const start = performance.now();
      for (let i = 0; i < count; i++) {
        x = xorshift(x);
        sum += words.load(x & mask);
        expected += x & mask;
      }
      const ms = performance.now() - start;
      need(sum === expected, "the words");
      return Promise.resolve(ms);
    },
    close() {},
  };
}

function randomWrite(words: Words, mask: number): Work {
  let x = 2463534242 | 0;
  let round = 0;
  return {
    run(count) {
      round++;
      let again = x;
      const start = performance.now();
      for (let i = 0; i < count; i++) {
        x = xorshift(x);
        words.store(x & mask, (x & mask) + round);
      }
      const ms = performance.now() - start;
      for (let i = 0; i < Math.min(count, 1000); i++) {
        again = xorshift(again);
        need(words.load(again & mask) === (again & mask) + round, "the words written");
      }
      return Promise.resolve(ms);
    },
    close() {},
  };
}

function pair(fifo: Fifo, bytes: number): Work {
  const record = fill(new Uint8Array(bytes), 0);
  let next = 0;
  let last: Uint8Array = record;
  const wait = async (pushed: Promise<boolean>, number: number): Promise<void> => {
    need(await pushed, "the queue is full");
    last = check(await fifo.pop(), bytes, number);
  };
  const step = (): Maybe<void> => {
    const number = next++ >>> 0;
    const pushed = fifo.push(stamp(record, number));
    if (pushed instanceof Promise) return wait(pushed, number);
    need(pushed, "the queue is full");
    last = check(fifo.pop() as Uint8Array | undefined, bytes, number);
  };
  return {
    async run(count) {
      const ms = await repeat(count, step);
      checkAll(last);
      return ms;
    },
    close: () => fifo.close(),
  };
}

/** Pushes onto storage, one at a time or `batch`; what was pushed is taken out again while the clock stands. */
function durable(fifo: Fifo, batch: number): Work {
  const records = Array.from({ length: batch }, () => fill(new Uint8Array(RECORD_BYTES), 0));
  const [record] = records as [Uint8Array];
  let pushed = 0;
  let popped = 0;
  return {
    each: batch,
    async run(count) {
      const ms = await repeat(count, () => {
        if (batch === 1) return fifo.push(stamp(record, pushed++));
        for (const one of records) stamp(one, pushed++);
        return fifo.pushMany(records);
      });
      while (popped < pushed) {
        const found = await fifo.popMany(pushed - popped);
        need(found.length > 0, "records are missing");
        for (const one of found) checkAll(check(one, RECORD_BYTES, popped++));
      }
      return ms;
    },
    close: () => fifo.close(),
  };
}

/** Opens what a task needs. `value` is that of the point; `file` the large file, if the task has one. */
export async function openLoop(task: Task, peer: Peer, place: Place, value: number, file: string): Promise<Work> {
  const counter = (): Maybe<Counter> => peer.counter!(place);
  const slots = (): Maybe<Slots> => {
    const buffer = new Uint8Array(value);
    return peer.slots!(place, slotsOf(value), value, (slot) => fill(buffer, slot));
  };
  const words = (use: "read" | "write"): [Words, number] => {
    const bytes = statSync(file).size;
    return [peer.words!(file, bytes, use), bytes / 8 - 1];
  };
  switch (task) {
    case "add":
    case "add-together":
      return add(await counter());
    case "load":
      return await load(await counter());
    case "read":
      return read(await slots(), value);
    case "write":
      return write(await slots(), value);
    case "random-read":
      return randomRead(...words("read"));
    case "random-write":
      return randomWrite(...words("write"));
    case "pair":
      return pair(await peer.fifo(place, { recordBytes: value, durability: "none" }), value);
    case "durable": {
      const fifo = await peer.fifo(place, { recordBytes: RECORD_BYTES, durability: value === BATCH ? "batch" : "each" });
      return durable(fifo, value);
    }
    default:
      throw new Error(`'${task}' is no loop`);
  }
}
