/**
 * One runtime's side of the benchmarks, a process of its own for each workload:
 *
 *     subject.ts WORKLOAD FOLDER WAY FILE
 *
 * WAY is "holdfast", or what it is compared with; FILE is the large file, if the workload has one. Prints `ready`; then each line on stdin is a number of operations to do, answered by the nanoseconds that they took. Ends at
 * the end of stdin. Every result is checked; a wrong one ends the process with an error.
 */
import { fdatasyncSync, fstatSync, fsyncSync, openSync, readSync, writeSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { Counters, Mapping, Metrics, Queue, SharedMemory } from "../mod.ts";
import { preadInto, pwrite, randomRead, randomWrite } from "./mapped.ts";
import { backlog, batchCount, loadedValue, payload, together, type Way } from "./workloads.ts";

/** Does `count` operations; returns the milliseconds that they took. */
type Run = (count: number) => number;

function need(condition: boolean, what: string): void {
  if (!condition) throw new Error(`wrong result: ${what}`);
}

function counterAdd(folder: string): Run {
  const counters = Counters.open(path.join(folder, "counters"), { names: ["operations"] });
  return (count) => {
    const first = counters.get(0);
    let last = 0;
    const start = performance.now();
    for (let i = 0; i < count; i++) last = counters.add(0);
    const end = performance.now();
    need(last === first + count - 1, "the old value at the end");
    need(counters.get(0) === first + count, "the value at the end");
    return end - start;
  };
}

/** As above, beside other processes. The one that ends last finds the sum of all. */
function counterAddTogether(folder: string): Run {
  const counters = Counters.open(path.join(folder, "counters"), { names: ["operations", "wanted", "ended"] });
  return (count) => {
    let last = 0;
    const start = performance.now();
    for (let i = 0; i < count; i++) last = counters.add(0);
    const end = performance.now();
    need(last >= count - 1, "the old value at the end");
    counters.add("wanted", count);
    const ended = counters.add("ended") + 1;
    if (ended % together === 0) need(counters.get(0) === counters.get("wanted"), "the sum of all processes");
    return end - start;
  };
}

function metricInc(folder: string): Run {
  const requests = Metrics.open(path.join(folder, "metrics")).counter("requests_total", { help: "Requests.", labels: ["method"] });
  const series = requests.labels({ method: "GET" });
  return (count) => {
    const first = series.value;
    const start = performance.now();
    for (let i = 0; i < count; i++) series.inc();
    const end = performance.now();
    need(series.value === first + count, "the value at the end");
    return end - start;
  };
}

function sharedMemory(timed: "read" | "write"): Run {
  const memory = SharedMemory.from(payload);
  const data = payload.slice();
  return (count) => {
    let read = data;
    const start = performance.now();
    if (timed === "write") {
      for (let i = 0; i < count; i++) memory.write(data);
    } else {
      for (let i = 0; i < count; i++) {
        read = memory.read() as typeof read;
        if (read.length !== data.length || read[0] !== data[0]) throw new Error("wrong result: the bytes read");
      }
    }
    const end = performance.now();
    const found = memory.read();
    need(payload.every((byte, i) => found[i] === byte && read[i] === byte), "the content");
    return end - start;
  };
}

function atomicLoad(folder: string): Run {
  const offset = 1024;
  const mapping = Mapping.open(path.join(folder, "mapped"), { create: true, byteLength: 4096 });
  mapping.atomics.store(offset, loadedValue);
  return (count) => {
    let sum = 0;
    const start = performance.now();
    for (let i = 0; i < count; i++) sum += mapping.atomics.load(offset);
    const end = performance.now();
    need(sum === count * loadedValue, "the values loaded");
    return end - start;
  };
}

/** A queue, and messages that carry their number. */
class Messages {
  readonly #queue: Queue<Uint8Array>;
  readonly #message = payload.slice();
  readonly #number = new Uint32Array(this.#message.buffer, 0, 1);
  readonly #last = payload.at(-1) as number;
  #nextIn = 0;
  #nextOut = 0;
  #received: Uint8Array | undefined;

  constructor(folder: string) {
    this.#queue = Queue.open<Uint8Array>(path.join(folder, "queue"), { codec: "bytes" });
  }

  pushNext(): void {
    this.#number[0] = this.#nextIn++;
    need(this.#queue.push(this.#message), "the queue is full");
  }

  /** Takes the next message and checks its length, its number and its last byte. */
  popNext(): void {
    const received = this.#queue.pop();
    if (received === undefined) throw new Error("wrong result: the queue is empty");
    const number = (received[0]! | (received[1]! << 8) | (received[2]! << 16) | (received[3]! << 24)) >>> 0;
    const good = received.length === payload.length && number === this.#nextOut++ && received[payload.length - 1] === this.#last;
    need(good, "the message");
    this.#received = received;
  }

  /** Checks all of the last message. */
  checkReceived(): void {
    const received = this.#received ?? new Uint8Array();
    need(payload.every((byte, i) => i < 4 || received[i] === byte), "the bytes of the message");
  }
}

function pushPop(folder: string): Run {
  const messages = new Messages(folder);
  return (count) => {
    const start = performance.now();
    for (let i = 0; i < count; i++) {
      messages.pushNext();
      messages.popNext();
    }
    const end = performance.now();
    messages.checkReceived();
    return end - start;
  };
}

/** Pushes and pops, `backlog` messages at a time; the clock runs for one of the two. */
function oneSide(folder: string, timed: "push" | "pop"): Run {
  const messages = new Messages(folder);
  return (count) => {
    let pushing = 0;
    let popping = 0;
    for (let done = 0; done < count; done += backlog) {
      const batch = Math.min(backlog, count - done);
      const start = performance.now();
      for (let i = 0; i < batch; i++) messages.pushNext();
      const middle = performance.now();
      for (let i = 0; i < batch; i++) messages.popNext();
      const end = performance.now();
      messages.checkReceived();
      pushing += middle - start;
      popping += end - middle;
    }
    return timed === "push" ? pushing : popping;
  };
}

/** Pushes with a durability; what was pushed is taken out again while the clock stands. */
function durablePush(folder: string, durability: "each" | "batch"): Run {
  const batch = durability === "batch" ? { flushEveryCount: batchCount, flushEveryMs: 60_000 } : {};
  const queue = Queue.open<Uint8Array>(path.join(folder, "queue"), { codec: "bytes", durability, ...batch });
  const taker = Queue.open<Uint8Array>(path.join(folder, "queue"), { codec: "bytes" });
  const message = payload.slice();
  let pushed = 0;
  return (count) => {
    const start = performance.now();
    for (let i = 0; i < count; i++) need(queue.push(message), "the queue is full");
    const end = performance.now();
    pushed += count;
    need(queue.durableSequence === pushed, "the mark");
    const messages = taker.popMany(count);
    need(messages.length === count && messages.every((found) => found.every((byte, i) => byte === payload[i])), "the messages");
    return end - start;
  };
}

/** The same by hand: written with node:fs to a file whose bytes are all on storage already, and an fdatasync(2) for each. */
function fsWrite(folder: string): Run {
  const fd = openSync(path.join(folder, "written"), "w+");
  const bytes = 1 << 20;
  writeSync(fd, new Uint8Array(bytes));
  fsyncSync(fd);
  let offset = 0;
  return (count) => {
    const start = performance.now();
    for (let i = 0; i < count; i++) {
      writeSync(fd, payload, 0, payload.length, offset);
      fdatasyncSync(fd);
      offset = (offset + payload.length) % (bytes / 2);
    }
    const end = performance.now();
    const found = new Uint8Array(payload.length);
    readSync(fd, found, 0, found.length, (offset + bytes / 2 - payload.length) % (bytes / 2));
    need(found.every((byte, i) => byte === payload[i]), "what was written");
    return end - start;
  };
}

/** The same by hand: appended to a file with node:fs, and one fdatasync(2) for a hundred. */
function fsAppend(folder: string): Run {
  const file = path.join(folder, "appended");
  const fd = openSync(file, "a+");
  let length = 0;
  return (count) => {
    const start = performance.now();
    for (let i = 1; i <= count; i++) {
      writeSync(fd, payload);
      if (i % batchCount === 0) fdatasyncSync(fd);
    }
    const end = performance.now();
    length += count * payload.length;
    need(fstatSync(fd).size === length, "the length of the file");
    return end - start;
  };
}

function open(workload: string, folder: string, way: Way, file: string): Run {
  switch (workload) {
    case "counter-add":
      return counterAdd(folder);
    case "counter-add-4":
      return counterAddTogether(folder);
    case "metric-inc":
      return metricInc(folder);
    case "shm-read-64":
      return sharedMemory("read");
    case "shm-write-64":
      return sharedMemory("write");
    case "atomic-load":
      return atomicLoad(folder);
    case "queue-push-pop":
      return pushPop(folder);
    case "queue-push":
      return oneSide(folder, "push");
    case "queue-pop":
      return oneSide(folder, "pop");
    case "queue-push-each":
      return way === "fs" ? fsWrite(folder) : durablePush(folder, "each");
    case "queue-push-batch":
      return way === "fs" ? fsAppend(folder) : durablePush(folder, "batch");
    case "pread-into-64":
      return preadInto(folder, way, 64);
    case "pwrite-64":
      return pwrite(folder, way, 64);
    case "pread-into-64k":
      return preadInto(folder, way, 65536);
    case "pwrite-64k":
      return pwrite(folder, way, 65536);
    case "random-read-8":
      return randomRead(file, way);
    case "random-write-8":
      return randomWrite(file, way);
    default:
      throw new Error(`there is no workload '${workload}'`);
  }
}

const [workload = "", folder = "", way = "", file = ""] = process.argv.slice(2);
const run = open(workload, folder, way as Way, file);
console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  console.log(Math.round(run(Number(line)) * 1e6));
}
