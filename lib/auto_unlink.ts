/**
 * Files that are removed with the handle that opened them.
 *
 * @module
 */
import * as fs from "node:fs";

/** A file to be removed: its name, and what it was when it was opened. */
export interface Doomed {
  readonly path: string;
  readonly device: number;
  readonly inode: number;
}

const waiting = new Set<Doomed>();
let listening = false;

/** Removes the file, unless the name stands for another one by now. */
function remove(doomed: Doomed): void {
  if (!waiting.delete(doomed)) return;
  const stat = fs.statSync(doomed.path, { throwIfNoEntry: false });
  if (stat !== undefined && stat.dev === doomed.device && stat.ino === doomed.inode) fs.rmSync(doomed.path, { force: true });
}

const collected = new FinalizationRegistry<Doomed>(remove);

/** Has the open file removed when `holder` is collected or the process exits; the result does so at once. */
export function doom(path: string, fd: number, holder: object): () => void {
  const { dev, ino } = fs.fstatSync(fd);
  const doomed = { path, device: dev, inode: ino };
  waiting.add(doomed);
  collected.register(holder, doomed, doomed);
  if (!listening) {
    listening = true;
    process.on("exit", () => waiting.forEach(remove));
  }
  return () => {
    collected.unregister(doomed);
    remove(doomed);
  };
}
