/** Names in /dev/shm that are gone after the tests. */
import * as fs from "node:fs";
import { randomBytes } from "node:crypto";
import { atEnd } from "./cleanup.ts";

export interface SharedNames {
  readonly prefix: string;
  /** A name that nobody uses. */
  next(): string;
  /** What is there of them. */
  left(): string[];
}

/** Called at the top of a test file. */
export function sharedNames(): SharedNames {
  const prefix = `hft-${randomBytes(4).toString("hex")}-`;
  const left = (): string[] => fs.readdirSync("/dev/shm").filter((name) => name.startsWith(prefix));
  atEnd(() => left().forEach((name) => fs.rmSync(`/dev/shm/${name}`, { force: true })));
  let count = 0;
  return { prefix, left, next: () => `${prefix}${count++}` };
}
