/** Names in /dev/shm that are gone after the tests. */
import * as fs from "node:fs";
import { randomBytes } from "node:crypto";
import { lockKinds } from "../../lib/native/symbols.ts";
import { native } from "../../lib/native/native.ts";
import { SharedMemory } from "../../mod.ts";
import { atEnd } from "./cleanup.ts";

export interface SharedNames {
  readonly prefix: string;
  /** A name that nobody uses. */
  next(): string;
  /** What is there of them. */
  left(): string[];
}

/**
 * Makes an empty file of that name and retains it, until the result is disposed of: what a test writes there has no owner, and another run of
 * the tests on this machine would reap it. It can be adopted all the same.
 */
export function holdName(name: string): Disposable {
  const fd = fs.openSync(`/dev/shm/${name}`, "wx+", 0o600);
  if (native().hf_lock_range(fd, 2, 1, lockKinds.SHARED) !== 0) throw new Error(`${name} can't be locked`);
  return { [Symbol.dispose]: () => fs.closeSync(fd) };
}

/**
 * Reaps until none of these names is there, for at most 5 s; returns those that are. Once is enough unless others reap at the same time, as
 * another run of the tests does: an object that another reap() is at is left to that.
 */
export function reapUntilGone(...names: readonly string[]): string[] {
  const end = performance.now() + 5000;
  for (;;) {
    SharedMemory.reap();
    const left = names.filter((name) => fs.existsSync(`/dev/shm/${name}`));
    if (left.length === 0 || performance.now() > end) return left;
  }
}

/** Called at the top of a test file. */
export function sharedNames(): SharedNames {
  const prefix = `hft-${randomBytes(4).toString("hex")}-`;
  const left = (): string[] => fs.readdirSync("/dev/shm").filter((name) => name.startsWith(prefix));
  atEnd(() => left().forEach((name) => fs.rmSync(`/dev/shm/${name}`, { force: true })));
  let count = 0;
  return { prefix, left, next: () => `${prefix}${count++}` };
}
