/** What lies at a path. */
import * as fs from "node:fs";
import { join } from "node:path";
import { decodeHeader, HEADER_BYTES, type Header, type Kind, kinds, MAGIC } from "../lib/layout/header.ts";
import { CONTROL_NAME } from "../lib/layout/queue.ts";

const START_BYTES = 4096;
const KIND_OFFSET = 12;

/** The first bytes of a file. */
export function startOf(path: string): Uint8Array {
  // Not for a FIFO: who opens one waits for its other end.
  const fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  try {
    const bytes = new Uint8Array(START_BYTES);
    return bytes.subarray(0, fs.readSync(fd, bytes, 0, START_BYTES, 0));
  } finally {
    fs.closeSync(fd);
  }
}

/** Whether a file begins as those of holdfast do. */
export function isOurs(start: Uint8Array): boolean {
  return start.byteLength >= MAGIC.length && MAGIC.every((byte, i) => start[i] === byte);
}

/** The header of a file that begins as ours do. `MapError` `ERR_CORRUPT` or `ERR_VERSION` if it is damaged or newer. */
export function headerOf(start: Uint8Array, path: string): Header {
  const number = start.byteLength >= HEADER_BYTES ? new DataView(start.buffer, start.byteOffset).getUint32(KIND_OFFSET, true) : 0;
  const kind = (Object.keys(kinds) as Kind[]).find((name) => kinds[name] === number) ?? "counters";
  return decodeHeader(start.subarray(0, HEADER_BYTES), kind, path);
}

/** Whether the directory is a queue, sound or not. */
export function isQueue(directory: string): boolean {
  try {
    return isOurs(startOf(join(directory, CONTROL_NAME)));
  } catch {
    return false;
  }
}

/** The kind of what lies at `path`: a queue's directory, or a file; undefined if it is nothing of ours, or damaged. */
export function kindAt(path: string): Kind | undefined {
  try {
    if (fs.statSync(path).isDirectory()) return isQueue(path) ? "queue" : undefined;
    if (!fs.statSync(path).isFile()) return undefined;
    const start = startOf(path);
    return isOurs(start) ? headerOf(start, path).kind : undefined;
  } catch {
    return undefined;
  }
}
