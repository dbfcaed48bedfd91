/** holdfast, by what mod.ts exports. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { Counters, Mapping, Queue } from "../../../mod.ts";
import type { Counter, Fifo, FifoOptions, Peer, Place, Slots, Words } from "../peer.ts";
import { BATCH, need } from "../workloads.ts";

function counter({ folder }: Place): Counter {
  const counters = Counters.open(path.join(folder, "counters"), { count: 1 });
  return { add: () => counters.add(0) + 1, get: () => counters.get(0), close: () => counters.close() };
}

function slots({ folder }: Place, count: number, bytes: number, first: (slot: number) => Uint8Array): Slots {
  const file = path.join(folder, `slots-${bytes}`);
  const content = new Uint8Array(count * bytes);
  for (let slot = 0; slot < count; slot++) content.set(first(slot), slot * bytes);
  writeFileSync(file, content);
  const mapping = Mapping.open(file);
  const target = new Uint8Array(bytes);
  return {
    read(slot) {
      mapping.preadInto(target, slot * bytes);
      return target;
    },
    write: (slot, data) => void mapping.pwrite(slot * bytes, data),
    close: () => mapping.close(),
  };
}

function words(file: string, _bytes: number, use: "read" | "write"): Words {
  const mapping = Mapping.open(file);
  mapping.advise(use === "write" ? "populate-write" : "populate-read");
  const { atomics } = mapping;
  return { load: (word) => atomics.load(word * 8), store: (word, value) => void atomics.store(word * 8, value) };
}

function fifo({ folder }: Place, { durability, capacityBytes }: FifoOptions): Fifo {
  const queue = Queue.open<Uint8Array>(path.join(folder, "queue"), {
    codec: "bytes",
    ...(capacityBytes === undefined ? {} : { capacityBytes }),
    ...(durability === "none" ? {} : { durability }),
    ...(durability === "batch" ? { flushEveryCount: BATCH, flushEveryMs: 60_000 } : {}),
  });
  const stored = (): void => need(queue.durableSequence === queue.stats().pushed, "the mark of what is on storage");
  return {
    push: (record) => queue.push(record),
    pop: () => queue.pop(),
    pushMany(records) {
      const pushed = queue.pushMany(records);
      if (durability === "batch") stored();
      return pushed;
    },
    popMany: (max) => queue.popMany(max),
    peek: () => queue.peek(),
    take: async () => (await queue.take()) as Uint8Array,
    close: () => queue.close(),
  };
}

const peer: Peer = { counter, slots, words, fifo };
export default peer;
