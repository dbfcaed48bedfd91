/**
 * A queue that is removed with the handle that opened it.
 *
 * Invariant: only files of the queue are removed, and only while the directory and its control file are those that the handle opened. The
 * directory is renamed first, so that who opens the path meanwhile finds no half a queue; and it is removed only if it is empty then.
 *
 * @module
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { whenGone } from "../auto_unlink.ts";
import { fileSystem, temporaryName, unlink } from "../files.ts";
import { CONTROL_NAME, groupOfFile, isUnfinishedGroup, segmentId } from "../layout/queue.ts";
import type { Control } from "./control.ts";

/** What a name stands for. */
interface Identity {
  readonly dev: number;
  readonly ino: number;
}

function same(path: string, known: Identity): boolean {
  const stat = fs.lstatSync(path, { throwIfNoEntry: false });
  return stat !== undefined && stat.dev === known.dev && stat.ino === known.ino;
}

/** Has an open queue removed when `holder` is collected or the process exits; the result does so at once. */
export function doomQueue(open: Control, holder: object): () => void {
  const place = fileSystem(open.directory, () => fs.realpathSync(open.directory));
  const own = fs.statSync(place);
  const control = fs.statSync(join(place, CONTROL_NAME));
  open.assertSame();
  return whenGone(holder, () => fileSystem(place, () => removeQueue(place, own, control)));
}

function removeQueue(place: string, own: Identity, control: Identity): void {
  if (!same(place, own) || !same(join(place, CONTROL_NAME), control)) return;
  if (!fs.readdirSync(place).every(ours)) {
    // Somebody keeps other things there: they stay where they are.
    removeFiles(place);
    return;
  }
  const hidden = temporaryName(place);
  try {
    fs.renameSync(place, hidden);
  } catch {
    // Not allowed in the folder above: then the error is that of removing the directory.
    removeFiles(place);
    removeIfEmpty(place);
    return;
  }
  if (same(hidden, own)) {
    removeFiles(hidden);
    if (removeIfEmpty(hidden)) return;
  }
  // Another directory came in between, or something came into ours: back to its name, if that is free.
  if (!fs.existsSync(place)) fs.renameSync(hidden, place);
}

function ours(name: string): boolean {
  return name === CONTROL_NAME || segmentId(name) !== undefined || groupOfFile(name) !== undefined || isUnfinishedGroup(name);
}

/** Removes the queue's files, the control file first: without it nobody takes the rest for a queue. */
function removeFiles(directory: string): void {
  const names = fs.readdirSync(directory).filter(ours);
  for (const name of names.toSorted((a, b) => Number(b === CONTROL_NAME) - Number(a === CONTROL_NAME))) {
    const path = join(directory, name);
    if (fs.lstatSync(path, { throwIfNoEntry: false })?.isFile() === true) unlink(path);
  }
}

function removeIfEmpty(directory: string): boolean {
  try {
    fs.rmdirSync(directory);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOTEMPTY" && code !== "EEXIST") throw error;
    return false;
  }
}
