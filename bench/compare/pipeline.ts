/** Producers and consumers that are at work at the same time: each is a process, or a thread where the memory is a process's own. */
import { native } from "../../lib/native/native.ts";
import type { Fifo, FifoOptions } from "./peer.ts";
import { check, checkAll, fill, need, numberOf, PER_SECOND, RECORD_BYTES, stamp } from "./workloads.ts";

export type Role = "produce" | "consume" | "pace" | "hear";

/** What a member is asked to do in a round. */
export interface Round {
  /** Of each producer. */
  readonly records: number;
  readonly batch: number;
  readonly producer: number;
  /** Whether there is one producer: then nothing may be missing from what its consumer gets. */
  readonly alone: boolean;
}

/** What it answers: times in milliseconds on one clock, and the microseconds of p50, p99 and p99.9. */
export interface Figures {
  readonly start: number;
  readonly end: number;
  readonly received: number;
  readonly latencies?: readonly number[];
}

/** What each queue of a pipeline is opened with. */
export const pipelineOptions: FifoOptions = { recordBytes: RECORD_BYTES, durability: "none", capacityBytes: 16 << 20 };

/** Milliseconds on a clock that all processes share. */
const now = (): number => native().hf_clock_ms();

/** What says that a producer is at the end. */
const END = Uint8Array.of(255);

/** A record's number has the producer above these bits. */
const COUNT_BITS = 28;

/** How often an empty or full queue is looked at before the thread sleeps. */
const LOOKS = 200;

const pillow = new Int32Array(new SharedArrayBuffer(4));

async function pushAll(fifo: Fifo, records: readonly Uint8Array[]): Promise<void> {
  for (let looks = 0, done = 0; ;) {
    const left = done === 0 ? records : records.slice(done);
    const pushed = left.length === 1 ? fifo.push(left[0] as Uint8Array) : fifo.pushMany(left);
    done += Number(pushed instanceof Promise ? await pushed : pushed);
    if (done === records.length) return;
    if (looks++ > LOOKS) Atomics.wait(pillow, 0, 0, 0.05); // full
  }
}

async function produce(fifo: Fifo, { records, batch, producer }: Round): Promise<Figures> {
  const messages = Array.from({ length: batch }, () => fill(new Uint8Array(RECORD_BYTES), 0));
  const [message] = messages as [Uint8Array];
  const base = producer * 2 ** COUNT_BITS;
  const start = now();
  for (let i = 0; i < records; i += batch) {
    if (batch === 1) {
      // What answers at once and has room is not waited for.
      const pushed = fifo.push(stamp(message, base + i));
      if (pushed === true) continue;
      if (!(pushed instanceof Promise ? await pushed : pushed)) await pushAll(fifo, [message]);
    } else {
      for (let k = 0; k < batch; k++) stamp(messages[k] as Uint8Array, base + i + k);
      const pushed = fifo.pushMany(messages);
      const done = pushed instanceof Promise ? await pushed : pushed;
      if (done < batch) await pushAll(fifo, messages.slice(done));
    }
  }
  await pushAll(fifo, [END]);
  return { start, end: now(), received: 0 };
}

/** Each producer's records come in order: without a gap where there is one consumer. */
class Checker {
  readonly #next = new Float64Array(16);
  readonly #alone: boolean;
  #last: Uint8Array | undefined;
  received = 0;

  constructor(alone: boolean) {
    this.#alone = alone;
  }

  /** False for an end. */
  accept(record: Uint8Array): boolean {
    if (record.length === 1) return false;
    const number = numberOf(record);
    check(record, RECORD_BYTES, number);
    const producer = number >>> COUNT_BITS;
    const count = number & (2 ** COUNT_BITS - 1);
    const next = this.#next[producer] as number;
    need(this.#alone ? count === next : count >= next, `record ${count} of producer ${producer}, where ${next} was due`);
    this.#next[producer] = count + 1;
    this.#last = record;
    this.received++;
    return true;
  }

  /** All bytes of the last one. */
  checkLast(): void {
    if (this.#last !== undefined) checkAll(this.#last);
  }
}

/** The next record, as soon as the peer can say that there is one. */
async function take(fifo: Fifo): Promise<Uint8Array> {
  if (fifo.take !== undefined) return await fifo.take();
  for (;;) {
    const record = await fifo.pop();
    if (record !== undefined) return record;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

async function consume(fifo: Fifo, { batch, alone }: Round): Promise<Figures> {
  const checker = new Checker(alone);
  for (let looks = 0; ;) {
    if (batch === 1) {
      const popped = fifo.pop();
      let record = popped instanceof Promise ? await popped : popped;
      if (record === undefined) {
        if (looks++ < LOOKS) continue;
        record = await take(fifo);
      }
      looks = 0;
      if (!checker.accept(record)) break;
    } else {
      const popped = fifo.popMany(batch);
      let records = popped instanceof Promise ? await popped : popped;
      if (records.length === 0) {
        if (looks++ < LOOKS) continue;
        records = [await take(fifo)];
      }
      looks = 0;
      let going = true;
      for (const record of records) going = checker.accept(record) && going;
      if (!going) break;
    }
  }
  checker.checkLast();
  return { start: 0, end: now(), received: checker.received };
}

/** Where a record has the time of its push. */
const TIME_OFFSET = 8;

/** Pushes records of the time at a steady rate. */
async function pace(fifo: Fifo, { records }: Round): Promise<Figures> {
  const message = fill(new Uint8Array(RECORD_BYTES), 0);
  const time = new DataView(message.buffer);
  const start = now() + 5;
  for (let i = 0; i < records; i++) {
    const due = start + (i * 1000) / PER_SECOND;
    while (now() < due) if (due - now() > 2) await new Promise((resolve) => setTimeout(resolve, 1));
    stamp(message, i);
    time.setFloat64(TIME_OFFSET, now(), true);
    const pushed = fifo.push(message);
    need(pushed instanceof Promise ? await pushed : pushed, "the queue is full");
  }
  return { start, end: now(), received: 0 };
}

/** Takes records, asleep between them; the microseconds from each push until it is here. */
async function hear(fifo: Fifo, { records }: Round): Promise<Figures> {
  const latencies: number[] = [];
  for (let i = 0; i < records; i++) {
    const record = check(await take(fifo), RECORD_BYTES, i);
    const sent = new DataView(record.buffer, record.byteOffset).getFloat64(TIME_OFFSET, true);
    latencies.push((now() - sent) * 1000);
  }
  latencies.sort((a, b) => a - b);
  const at = (part: number): number => latencies[Math.floor(part * (latencies.length - 1))] as number;
  return { start: 0, end: now(), received: records, latencies: [at(0.5), at(0.99), at(0.999)] };
}

export const roles: Readonly<Record<Role, (fifo: Fifo, round: Round) => Promise<Figures>>> = { produce, consume, pace, hear };
