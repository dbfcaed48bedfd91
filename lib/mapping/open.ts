/**
 * From a path and a plan to an open file of the wanted length.
 *
 * @module
 */
import * as fs from "node:fs";
import { errno, rangeError, systemError } from "../errors.ts";
import { discard, fileSystem, openRegular, reserve } from "../files.ts";
import type { FilePlan } from "./options.ts";

/** A file that is ready to be mapped. */
export interface OpenedFile {
  readonly fd: number;
  /** Whether it was there before. */
  readonly existed: boolean;
  /** Bytes to map, from the plan's offset. */
  readonly byteLength: number;
}

const CREATE: number = fs.constants.O_CREAT | fs.constants.O_EXCL;

/** What the file has to be opened for: a private mapping of it as it is changes nothing, so reading is enough. */
function accessOf(plan: FilePlan): "r" | "rw" {
  const changes = plan.create || plan.truncate || plan.byteLength !== undefined;
  return plan.sharing === "private" && !changes ? "r" : plan.mode;
}

/** Opens the file, creating it if asked to. */
function openOrCreate(path: string, plan: FilePlan): { fd: number; byteLength: number; existed: boolean } {
  const { create, exclusive, permissions } = plan;
  const access = accessOf(plan);
  for (let attempt = 0; ; attempt++) {
    if (!exclusive) {
      try {
        return { ...openRegular(path, access), existed: true };
      } catch (error) {
        if (!create || (error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      }
    }
    try {
      return { ...openRegular(path, access, CREATE, permissions), existed: false };
    } catch (error) {
      // Created by another process between the two: open that file. A dangling symbolic link says the same for ever.
      if (exclusive || (error as NodeJS.ErrnoException).code !== "EEXIST" || attempt === 3) throw error;
    }
  }
}

/** Opens the file and gives it the wanted length. After a failure it is as it was, or gone if it is new. */
export function openFile(path: string, plan: FilePlan): OpenedFile {
  const opened = openOrCreate(path, plan);
  const { fd, existed } = opened;
  try {
    return { fd, existed, byteLength: prepare(path, plan, fd, opened.byteLength) };
  } catch (error) {
    fs.closeSync(fd);
    if (!existed) discard(path);
    throw error;
  }
}

function prepare(path: string, plan: FilePlan, fd: number, found: number): number {
  const { offset, byteLength = 0, mode, truncate } = plan;
  let size = found;
  if (truncate && size > 0) {
    fileSystem(path, () => fs.ftruncateSync(fd, 0));
    size = 0;
  }
  const wanted = offset + byteLength;
  if (!Number.isSafeInteger(wanted)) throw rangeError(`"offset" ${offset} and "byteLength" ${byteLength} are too much together`);
  if (byteLength > 0 && wanted > size) {
    if (mode === "r") throw rangeError(`"byteLength" ${byteLength} is more than '${path}' has, ${size - offset}, and mode "r" cannot grow it`);
    reserve(fd, wanted, path);
    size = wanted;
  }
  if (size === 0) {
    throw systemError(-errno.EINVAL, "mmap", path, 'an empty file cannot be mapped; pass "byteLength" to give it a size');
  }
  if (offset >= size) throw rangeError(`"offset" ${offset} lies behind the ${size} bytes of '${path}'; pass "byteLength" to grow it`);
  return size - offset;
}
