/**
 * A child that dies at a chosen point inside a critical section of a queue, or stays there. It uses the queue's own parts, since
 * the public calls never stop half-way.
 *
 * Usage: owner.ts QUEUE STEP [die|stay]
 */
import { CONSUMER, LEASE, LEASE_WORDS, LEASES, PRODUCER, RECORDS_OFFSET } from "../../lib/layout/queue.ts";
import { allocateScratch, native } from "../../lib/native/native.ts";
import { Control } from "../../lib/queue/control.ts";
import { LeaseTable } from "../../lib/queue/leases.ts";
import { Segments } from "../../lib/queue/segments.ts";

/** The points, by name. Each leaves the state that a kill right after it would leave. */
export const steps: Readonly<Record<string, (control: Control) => void>> = {
  "producer lock taken": (control) => void control.acquire(control.producer),
  "record half written": (control) => {
    control.acquire(control.producer);
    const { values } = control.producer;
    const segment = new Segments(control).get(values[PRODUCER.segment] as number);
    native().hf_copy_in(segment.address + (values[PRODUCER.offset] as number), new Uint8Array(40).fill(0xaa), 0, 40);
  },
  "segment taken and linked, not committed": (control) => {
    control.acquire(control.producer);
    const { values } = control.producer;
    const segments = new Segments(control);
    const id = segments.take(100, values[PRODUCER.segment] as number);
    const from = values[PRODUCER.segment] as number;
    const base = (values[PRODUCER.position] as number) - (values[PRODUCER.offset] as number);
    segments.setState(id, { base: base + segments.get(from).byteLength, end: 0, next: 0 });
    segments.setState(from, { base, end: values[PRODUCER.offset] as number, next: id });
  },
  "consumer lock taken": (control) => void control.acquire(control.consumer),
  "lease entry written, cursor not moved": (control) => {
    control.acquire(control.consumer);
    const { values } = control.consumer;
    new LeaseTable(control).write({
      index: 0,
      sequence: values[CONSUMER.sequence] as number,
      owner: control.owner,
      deadline: 0,
      attempts: 1,
      position: values[CONSUMER.position] as number,
      segment: values[CONSUMER.segment] as number,
      offset: RECORDS_OFFSET,
      bytes: 40,
    });
  },
  "lease entry half written": (control) => {
    control.acquire(control.consumer);
    const scratch = allocateScratch(8 * LEASE_WORDS);
    const words = new Float64Array(scratch.buffer).fill(12345);
    words[LEASE.sequence] = 0;
    native().hf_words_store(control.region.address + LEASES, LEASE_WORDS, scratch.address);
  },
  "segment taken, not linked": (control) => {
    control.acquire(control.producer);
    new Segments(control).take(100, control.producer.values[PRODUCER.segment] as number);
  },
  "segment given up, neither spare nor removed": (control) => {
    const segments = new Segments(control);
    control.acquire(control.producer);
    const id = segments.take(100, control.producer.values[PRODUCER.segment] as number);
    control.release(control.producer);
    control.acquire(control.consumer);
    segments.setState(id, { base: 4096, end: 4000, next: 1 });
  },
};

export function runStep(step: string, control: Control): void {
  const run = steps[step];
  if (run === undefined) throw new Error(`there is no step "${step}"`);
  run(control);
}

if (import.meta.main) {
  const [path, step, then] = process.argv.slice(2) as [string, string, string];
  runStep(step, new Control(path, "rw"));
  if (then === "stay") {
    process.stdout.write("there\n");
    setInterval(() => {}, 1000);
  } else process.kill(process.pid, "SIGKILL");
}
