/**
 * One process of the queue's benchmarks between processes: `member.ts ROLE FOLDER`. Prints `ready`, then answers each line on stdin, a task in
 * JSON, with one of figures in JSON. Every record is checked; a wrong one ends the process with an error.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { native } from "../lib/native/native.ts";
import { Queue } from "../mod.ts";
import { type Figures, RECORD_BYTES, type Task } from "./pipelines.ts";

const [role = "", folder = ""] = process.argv.slice(2);
const queue = Queue.open<Uint8Array>(`${folder}/queue`, { codec: "bytes", capacityBytes: 16 << 20 });

/** Milliseconds on a clock that all processes share. */
const now = (): number => native().hf_clock_ms();

/** Byte 0: which producer; bytes 4 to 7: its count; the rest is the same in each. */
class Message {
  readonly bytes: Uint8Array = Uint8Array.from({ length: RECORD_BYTES }, (_, i) => (i * 37 + 11) & 0xff);
  readonly #words = new Uint32Array(this.bytes.buffer);
  readonly #time = new Float64Array(this.bytes.buffer, 8, 1);

  constructor(producer: number) {
    this.bytes[0] = producer;
  }

  stamp(count: number): Uint8Array {
    this.#words[1] = count;
    return this.bytes;
  }

  stampTime(): Uint8Array {
    this.#time[0] = now();
    return this.bytes;
  }
}

/** What says that a producer is at the end. */
const END = Uint8Array.of(255);

/** Each producer's records come in order: without a gap where there is one consumer. */
class Check {
  readonly #next = new Float64Array(256);
  received = 0;

  constructor(alone: boolean) {
    this.#alone = alone;
  }

  readonly #alone: boolean;

  /** False for an end. */
  accept(record: Uint8Array): boolean {
    if (record.length === 1) return false;
    const producer = record[0] as number;
    const count = ((record[4] as number) | ((record[5] as number) << 8) | ((record[6] as number) << 16) | ((record[7] as number) << 24)) >>> 0;
    const next = this.#next[producer] as number;
    const last = RECORD_BYTES - 1;
    const right = record.length === RECORD_BYTES && record[last] === ((last * 37 + 11) & 0xff) && (this.#alone ? count === next : count >= next);
    if (!right) throw new Error(`wrong record: producer ${producer}, ${count} where ${next} was due`);
    this.#next[producer] = count + 1;
    this.received++;
    return true;
  }
}

function produce({ records, batch, producer }: Task): Figures {
  const start = now();
  if (batch === 1) {
    const message = new Message(producer);
    for (let i = 0; i < records; i++) queue.push(message.stamp(i));
  } else {
    const messages = Array.from({ length: batch }, () => new Message(producer));
    for (let i = 0; i < records; i += batch) queue.pushMany(messages.map((message, k) => message.stamp(i + k)));
  }
  queue.push(END);
  return { start, end: now(), received: 0 };
}

/** How often an empty queue is looked at before the process sleeps. */
const LOOKS = 200;

async function consume({ batch, alone }: Task): Promise<Figures> {
  const check = new Check(alone);
  let looks = 0;
  for (;;) {
    if (batch === 1) {
      let record = queue.pop();
      if (record === undefined) {
        if (looks++ < LOOKS) continue;
        record = await queue.take();
      }
      looks = 0;
      if (!check.accept(record as Uint8Array)) break;
    } else {
      let records = queue.popMany(batch);
      if (records.length === 0) {
        if (looks++ < LOOKS) continue;
        records = await queue.popMany(batch, { wait: true });
      }
      looks = 0;
      if (!records.every((record) => check.accept(record))) break;
    }
  }
  return { start: 0, end: now(), received: check.received };
}

/** Pushes records of the time at a steady rate. */
async function pace({ records, perSecond }: Task): Promise<Figures> {
  const message = new Message(0);
  const start = now();
  for (let i = 0; i < records; i++) {
    const due = start + (i * 1000) / perSecond;
    while (now() < due) if (due - now() > 2) await new Promise((resolve) => setTimeout(resolve, 1));
    queue.push(message.stampTime());
  }
  return { start, end: now(), received: 0 };
}

/** Takes records, asleep between them; the microseconds from each push until it is here. */
async function hear({ records }: Task): Promise<Figures> {
  const latencies: number[] = [];
  while (latencies.length < records) {
    const record = (await queue.take()) as Uint8Array;
    const sent = new Float64Array(record.slice().buffer, 8, 1)[0] as number;
    latencies.push((now() - sent) * 1000);
  }
  latencies.sort((a, b) => a - b);
  const at = (part: number): number => latencies[Math.floor(part * (latencies.length - 1))] as number;
  return { start: 0, end: now(), received: records, latencies: [at(0.5), at(0.99), at(0.999)] };
}

const roles: Readonly<Record<string, (task: Task) => Figures | Promise<Figures>>> = { produce, consume, pace, hear };

console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await roles[role]?.(JSON.parse(line) as Task)));
}
queue.close();
