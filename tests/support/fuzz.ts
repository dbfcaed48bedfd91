/**
 * Damage to files: every byte of a file's start, and seeded random damage anywhere. What must come of it, each time: a clear error or
 * correct data, in bounded time, and a file that could not be opened is as it was, byte for byte.
 *
 * A failure names the damage, the way the file was opened, and the seed; `HOLDFAST_FUZZ_SEED` in the environment repeats a run. The same
 * original and the same seed give the same damage.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { MapError } from "../../mod.ts";

/** What is done to a file. */
export interface Damage {
  /** For messages. */
  readonly name: string;
  /** The bytes that are left. */
  apply(original: Uint8Array): Uint8Array;
}

export interface FuzzOptions<T extends Disposable> {
  /** A whole, valid file. */
  readonly original: Uint8Array;
  /** Where the damaged files are put; nothing else uses the path. */
  readonly path: string;
  /** Opens the file at `path` as a program would. */
  open(path: string, mode: "r" | "rw"): T;
  /**
   * Uses what was opened, in mode "rw" also for writing, and asserts that each answer is right for `original` or a `MapError` of `codes`, which
   * {@linkcode FuzzContext.call} sees to. Damage that the format allows to be a difference in data is to be told by `context.changed()`.
   */
  use(opened: T, context: FuzzContext): void;
  /** Codes that an error may have, at opening and later. */
  readonly codes: readonly string[];
  /** How many bytes of the start are damaged one by one. */
  readonly headerBytes: number;
  /** How many random damages; default 2,000. */
  readonly rounds?: number;
  /** The seed of the random damages; default 1. `HOLDFAST_FUZZ_SEED` replaces it. */
  readonly seed?: number;
}

/** What {@linkcode FuzzOptions.use} is told. */
export interface FuzzContext {
  readonly mode: "r" | "rw";
  readonly damage: string;
  /** The result, or undefined after an error of the allowed codes; any other error is a failure. */
  call<R>(what: () => R): { readonly value: R } | undefined;
  /** Whether a byte in `offset..offset + length` is not what it was, or is gone. */
  changed(offset: number, length: number): boolean;
}

export interface FuzzReport {
  readonly seed: number;
  readonly damages: number;
  /** Opens that were refused, of two for each damage. */
  readonly refused: number;
  /** Calls on an open file that failed with an allowed code. */
  readonly errors: number;
}

/** Numbers 0 <= n < `below` from a seed (mulberry32). */
export function randomFrom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

function changedCopy(original: Uint8Array, change: (copy: Uint8Array) => void): Uint8Array {
  const copy = original.slice();
  change(copy);
  return copy;
}

function byteDamage(offset: number, flip: number): Damage {
  return {
    name: `byte ${offset} ^ 0x${flip.toString(16)}`,
    apply: (original) => changedCopy(original, (copy) => (copy[offset] = (copy[offset] as number) ^ flip)),
  };
}

/** One random damage. Half of them hit the start of the file, where a format has its words. */
function randomDamage(size: number, random: (below: number) => number): Damage {
  const place = (): number => (random(2) === 0 ? random(Math.min(size, 2048)) : random(size));
  const at = place();
  const run = Math.min(1 + random(random(4) === 0 ? 4096 : 16), size - at);
  switch (random(7)) {
    case 0:
    case 1: {
      const flips = Array.from({ length: 1 + random(3) }, () => [place(), 1 << random(8)] as const);
      return {
        name: `bits ${flips.map(([offset, bit]) => `${offset}:${bit}`).join()}`,
        apply: (original) => changedCopy(original, (copy) => flips.forEach(([offset, bit]) => (copy[offset] = (copy[offset] as number) ^ bit))),
      };
    }
    case 2: {
      const noise = Uint8Array.from({ length: run }, () => random(256));
      return { name: `${run} random bytes at ${at}`, apply: (original) => changedCopy(original, (copy) => copy.set(noise, at)) };
    }
    case 3: {
      const byte = random(2) === 0 ? 0 : 255;
      return { name: `${run} bytes of ${byte} at ${at}`, apply: (original) => changedCopy(original, (copy) => copy.fill(byte, at, at + run)) };
    }
    case 4: {
      // Aligned too, so that whole words and records get into the place of others.
      const unit = [1, 8, 512][random(3)] as number;
      const from = Math.floor(random(size) / unit) * unit;
      const to = Math.floor(at / unit) * unit;
      const length = Math.min(unit * (1 + random(8)), size - from, size - to);
      return { name: `${length} bytes from ${from} copied to ${to}`, apply: (original) => changedCopy(original, (copy) => copy.copyWithin(to, from, from + length)) };
    }
    case 5: {
      const length = random(2) === 0 ? at : size - 1 - random(Math.min(64, size));
      return { name: `cut to ${length} bytes`, apply: (original) => original.slice(0, length) };
    }
    default: {
      const more = Uint8Array.from({ length: 1 + random(5000) }, () => random(256));
      return {
        name: `${more.byteLength} random bytes at the end`,
        apply: (original) => {
          const longer = new Uint8Array(size + more.byteLength);
          longer.set(original);
          longer.set(more, size);
          return longer;
        },
      };
    }
  }
}

/** Every damage of a run, in order. */
export function* damages(size: number, headerBytes: number, rounds: number, seed: number): IterableIterator<Damage> {
  for (let offset = 0; offset < headerBytes; offset++) {
    for (const flip of [0x01, 0x80, 0xff]) yield byteDamage(offset, flip);
  }
  const random = randomFrom(seed);
  for (let i = 0; i < rounds; i++) yield randomDamage(size, random);
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** Runs it all. */
export function fuzz<T extends Disposable>(options: FuzzOptions<T>): FuzzReport {
  const { original, path, codes, headerBytes, rounds = 2000 } = options;
  const seed = Number(process.env.HOLDFAST_FUZZ_SEED ?? options.seed ?? 1);
  let count = 0;
  let refused = 0;
  let errors = 0;
  const allowed = (error: unknown): boolean =>
    error instanceof MapError && codes.includes(error.code) && error.path === path && error.message.includes(path);
  for (const damage of damages(original.byteLength, headerBytes, rounds, seed)) {
    const damaged = damage.apply(original);
    count++;
    for (const mode of ["r", "rw"] as const) {
      fs.writeFileSync(path, damaged);
      const context: FuzzContext = {
        mode,
        damage: damage.name,
        call(what) {
          try {
            return { value: what() };
          } catch (error) {
            if (!allowed(error)) throw error;
            errors++;
            return undefined;
          }
        },
        changed: (offset, length) =>
          offset + length > damaged.byteLength || !sameBytes(damaged.subarray(offset, offset + length), original.subarray(offset, offset + length)),
      };
      try {
        let opened: T;
        try {
          opened = options.open(path, mode);
        } catch (error) {
          if (!allowed(error)) throw error;
          refused++;
          assert.ok(sameBytes(fs.readFileSync(path), damaged), "a file that could not be opened was changed");
          continue;
        }
        using handle = opened;
        options.use(handle, context);
        if (mode === "r") assert.ok(sameBytes(fs.readFileSync(path), damaged), 'mode "r" changed the file');
      } catch (error) {
        const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
        throw new Error(`${damage.name}, mode ${mode}, seed ${seed}: ${text}`, { cause: error });
      }
    }
  }
  fs.rmSync(path, { force: true });
  return { seed, damages: count, refused, errors };
}
