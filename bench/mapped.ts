/** One runtime's side of the workloads of `Mapping`: copies, and random accesses to 64-bit words, by holdfast and by other means. */
import * as fs from "node:fs";
import path from "node:path";
import { Mapping } from "../mod.ts";
import { byteAt, slotsOf, type Way } from "./workloads.ts";

/** Does `count` operations; returns the milliseconds that they took. */
type Run = (count: number) => number;

function need(condition: boolean, what: string): void {
  if (!condition) throw new Error(`wrong result: ${what}`);
}

type BunGlobal = { mmap(path: string): Uint8Array<ArrayBuffer> };

function bunMap(file: string): Uint8Array<ArrayBuffer> {
  return (globalThis as unknown as { Bun: BunGlobal }).Bun.mmap(file);
}

/** Copies from and to the file, by one of the ways. */
interface Copies {
  read(target: Uint8Array, offset: number): void;
  write(offset: number, data: Uint8Array): void;
}

function copiesBy(way: Way, file: string): Copies {
  if (way === "fs") {
    const fd = fs.openSync(file, "r+");
    return {
      read: (target, offset) => void fs.readSync(fd, target, 0, target.length, offset),
      write: (offset, data) => void fs.writeSync(fd, data, 0, data.length, offset),
    };
  }
  if (way === "holdfast") {
    const mapping = Mapping.open(file);
    return {
      read: (target, offset) => void mapping.preadInto(target, offset),
      write: (offset, data) => void mapping.pwrite(offset, data),
    };
  }
  const view = way === "view" ? Mapping.open(file).view() : bunMap(file);
  return {
    read: (target, offset) => target.set(view.subarray(offset, offset + target.length)),
    write: (offset, data) => view.set(data, offset),
  };
}

function newFile(folder: string, bytes: number): string {
  const file = path.join(folder, "mapped");
  fs.writeFileSync(file, Uint8Array.from({ length: bytes * slotsOf(bytes) }, (_, i) => byteAt(i)));
  return file;
}

/** Reads of `bytes` bytes, each from the next of the file's slots. The first byte of each is checked, and all of the last one. */
export function preadInto(folder: string, way: Way, bytes: number): Run {
  const { read } = copiesBy(way, newFile(folder, bytes));
  const slots = slotsOf(bytes);
  const target = new Uint8Array(bytes);
  return (count) => {
    let sum = 0;
    const start = performance.now();
    for (let i = 0; i < count; i++) {
      read(target, (i % slots) * bytes);
      sum += target[0] as number;
    }
    const end = performance.now();
    let expected = 0;
    for (let i = 0; i < count; i++) expected += byteAt((i % slots) * bytes);
    need(sum === expected, "the first bytes");
    const last = ((count - 1) % slots) * bytes;
    need(target.every((byte, i) => byte === byteAt(last + i)), "the bytes of the last read");
    return end - start;
  };
}

/** Writes of `bytes` bytes, each to the next of the file's slots. Their first byte counts up; all slots are compared at the end. */
export function pwrite(folder: string, way: Way, bytes: number): Run {
  const file = newFile(folder, bytes);
  const { write } = copiesBy(way, file);
  const slots = slotsOf(bytes);
  const data = Uint8Array.from({ length: bytes }, (_, i) => byteAt(i + 1));
  let round = 0;
  return (count) => {
    round++;
    const start = performance.now();
    for (let i = 0; i < count; i++) {
      data[0] = i + round;
      write((i % slots) * bytes, data);
    }
    const end = performance.now();
    const found = fs.readFileSync(file);
    for (let i = Math.max(0, count - slots); i < count; i++) {
      data[0] = i + round;
      const offset = (i % slots) * bytes;
      need(Buffer.compare(found.subarray(offset, offset + bytes), data) === 0, `the bytes of write ${i}`);
    }
    return end - start;
  };
}

/** Accesses to the file's 64-bit words, by one of the ways. */
interface Words {
  load(word: number): number;
  store(word: number, value: number): void;
}

function wordsBy(way: Way, file: string, use: "read" | "write"): Words {
  if (way === "fs") {
    const fd = fs.openSync(file, "r+");
    const halves = new Uint32Array(2);
    const bytes = new Uint8Array(halves.buffer);
    return {
      load(word) {
        fs.readSync(fd, bytes, 0, 8, word * 8);
        return (halves[1] as number) * 2 ** 32 + (halves[0] as number);
      },
      store(word, value) {
        halves[0] = value;
        halves[1] = 0;
        fs.writeSync(fd, bytes, 0, 8, word * 8);
      },
    };
  }
  if (way === "mmap") {
    const bytes = bunMap(file);
    // Every page is there before the clock runs, and where it is written to also writable.
    let sum = 0;
    for (let i = 0; i < bytes.length; i += 4096) sum += use === "write" ? (bytes[i] = bytes[i] as number) : (bytes[i] as number);
    need(sum >= 0, "the pages");
    return typedWords(bytes);
  }
  const mapping = Mapping.open(file);
  mapping.advise(use === "write" ? "populate-write" : "populate-read");
  if (way === "view") return typedWords(mapping.view());
  if (way === "doubles") return doubleWords(mapping.view());
  return { load: (word) => mapping.atomics.load(word * 8), store: (word, value) => void mapping.atomics.store(word * 8, value) };
}

function typedWords(bytes: Uint8Array<ArrayBuffer>): Words {
  const words = new BigInt64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8);
  return {
    load: (word) => Number(words[word]),
    store(word, value) {
      words[word] = BigInt(value);
    },
  };
}

/**
 * One plain 8-byte access for each word, without a BigInt. The words here are at most 2^53 - 1: no bits of a NaN, which a runtime may
 * change.
 */
function doubleWords(bytes: Uint8Array<ArrayBuffer>): Words {
  const words = new Float64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8);
  const bits = new Float64Array(new ArrayBuffer(8));
  const halves = new Uint32Array(bits.buffer);
  return {
    load(word) {
      bits[0] = words[word] as number;
      return (halves[1] as number) * 2 ** 32 + (halves[0] as number);
    },
    store(word, value) {
      halves[0] = value;
      halves[1] = value / 2 ** 32;
      words[word] = bits[0] as number;
    },
  };
}

/** Marsaglia's xorshift, 32 bits: the same numbers in all subjects. */
const SEED = 2463534242 | 0;

/** Reads of words all over the file; word i holds i. All sums are checked. */
export function randomRead(file: string, way: Way): Run {
  const { load } = wordsBy(way, file, "read");
  const mask = fs.statSync(file).size / 8 - 1;
  let state = SEED;
  return (count) => {
    let x = state;
    let sum = 0;
    let expected = 0;
    const start = performance.now();
    for (let i = 0; i < count; i++) {
      x ^= x << 13;
      x ^= x >>> 17;
      x ^= x << 5;
      const word = x & mask;
      expected += word;
      sum += load(word);
    }
    const end = performance.now();
    need(sum === expected, "the words");
    state = x;
    return end - start;
  };
}

/** Writes of words all over the file. The first thousand of a round are read again at its end. */
export function randomWrite(file: string, way: Way): Run {
  const { load, store } = wordsBy(way, file, "write");
  const mask = fs.statSync(file).size / 8 - 1;
  let state = SEED;
  let round = 0;
  return (count) => {
    round++;
    let x = state;
    const start = performance.now();
    for (let i = 0; i < count; i++) {
      x ^= x << 13;
      x ^= x >>> 17;
      x ^= x << 5;
      const word = x & mask;
      store(word, word + round);
    }
    const end = performance.now();
    let again = state;
    for (let i = 0; i < Math.min(count, 1000); i++) {
      again ^= again << 13;
      again ^= again >>> 17;
      again ^= again << 5;
      need(load(again & mask) === (again & mask) + round, `the word of write ${i}`);
    }
    state = x;
    return end - start;
  };
}
