/**
 * Files that are removed with the handle that opened them.
 *
 * @module
 */
import * as fs from "node:fs";
import { resolve } from "node:path";
import { fileSystem, unlink } from "./files.ts";

/** Something to be removed. */
interface Doomed {
  remove(): void;
}

const waiting = new Set<Doomed>();
let listening = false;

/** Removes it, once. */
function remove(doomed: Doomed): void {
  if (waiting.delete(doomed)) doomed.remove();
}

/** The same where nobody could be told of a failure: one must not keep the others from going. */
function removeQuietly(doomed: Doomed): void {
  try {
    remove(doomed);
  } catch {
    // see above
  }
}

const collected = new FinalizationRegistry<Doomed>(removeQuietly);

/** The path as it is now: the program may go to another folder meanwhile. */
function absolute(path: string): string {
  try {
    return resolve(path);
  } catch {
    return path; // a permission withholds the folder that the program is in
  }
}

/**
 * Runs `removal`, which must not reach `holder`, when that is collected or the process exits; the result runs it at once and passes its
 * errors on.
 */
export function whenGone(holder: object, removal: () => void): () => void {
  const doomed: Doomed = { remove: removal };
  waiting.add(doomed);
  collected.register(holder, doomed, doomed);
  if (!listening) {
    listening = true;
    process.on("exit", () => waiting.forEach(removeQuietly));
  }
  return () => {
    collected.unregister(doomed);
    remove(doomed);
  };
}

/**
 * Has the open file removed when `holder` is collected or the process exits, unless the name stands for another one by then; the result does
 * so at once, and throws the `MapError` of a system that refuses.
 */
export function doom(path: string, fd: number, holder: object): () => void {
  const { dev, ino } = fs.fstatSync(fd);
  const place = absolute(path);
  return whenGone(holder, () => {
    fileSystem(place, () => {
      const stat = fs.statSync(place, { throwIfNoEntry: false });
      if (stat !== undefined && stat.dev === dev && stat.ino === ino) unlink(place);
    });
  });
}
