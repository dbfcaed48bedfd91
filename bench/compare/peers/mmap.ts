/** Bun.mmap, and `Atomics` on what it maps: they are real ones in Bun, though its buffer is no SharedArrayBuffer. */
import fs from "node:fs";
import path from "node:path";
import type { Counter, FifoOptions, Peer, Place } from "../peer.ts";
import { cellIn, ring, ringBytes, slotsIn, wordsIn } from "./ring.ts";

const { mmap } = (globalThis as unknown as { Bun: { mmap(file: string): Uint8Array<ArrayBuffer> } }).Bun;

function map(folder: string, name: string, bytes: number): Uint8Array<ArrayBuffer> {
  const file = path.join(folder, name);
  const fd = fs.openSync(file, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
  if (fs.fstatSync(fd).size < bytes) fs.ftruncateSync(fd, bytes);
  fs.closeSync(fd);
  return mmap(file);
}

const peer: Peer = {
  counter: ({ folder }: Place): Counter => cellIn(map(folder, "counter", 4096).buffer),
  slots: ({ folder }, count, bytes, first) => slotsIn(map(folder, `slots-${bytes}`, count * bytes), count, bytes, first),
  words(file, _, use) {
    const bytes = mmap(file);
    // Every page is there before the clock runs, and where it is written to also writable.
    for (let i = 0; i < bytes.length; i += 4096) {
      if (use === "write") bytes[i] = bytes[i] as number;
      else if ((bytes[i] as number) < 0) throw new Error("a byte below zero");
    }
    return wordsIn(bytes.buffer);
  },
  fifo: ({ folder }, options: FifoOptions) => ring(map(folder, "ring", ringBytes(options)), options, false),
};
export default peer;
