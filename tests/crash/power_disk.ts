/**
 * What is on storage after a power cut, read with `node:fs` alone: every whole record of a queue's files, wherever it lies, and what the control
 * file says of those that were removed. Knows nothing of the library but its layout (docs/format.md).
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { CONSUMER_CELLS, CONSUMER_WORDS, DURABLE_CELLS, DURABLE_WORDS, LEASES } from "../../lib/layout/queue.ts";
import { crc32c } from "../support/reader.ts";

/** Where a header has the id, which all files of a queue share. */
const ID_OFFSET = 24;

function word(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
}

/** A whole record that was found. */
export interface Found {
  readonly sequence: number;
  readonly value: unknown;
}

/** What was found. */
export interface OnDisk {
  /** By sequence. */
  readonly records: ReadonlyMap<number, Found>;
  /** Sequence of the next record to hand out, as the newest whole cell has it; undefined if there is none. */
  readonly cursor: number | undefined;
  /** Sequences of the lease table. */
  readonly leased: ReadonlySet<number>;
  /** Sequence of the first record that is not known to be on storage. */
  readonly durable: number | undefined;
}

/** The words of the newest whole cell of a pair. */
function newestCell(control: DataView, offset: number, count: number, salt: number): number[] | undefined {
  let newest: { version: bigint; words: number[] } | undefined;
  for (const cell of [offset + 128, offset + 256]) {
    const bytes = new Uint8Array((count + 1) * 8);
    const words: number[] = [];
    for (let i = 0; i < count; i++) {
      const value = control.getBigUint64(cell + 8 * i, true);
      words.push(Number(value));
      bytes.set(word(Number(value)), 8 * i);
    }
    const version = control.getBigUint64(cell + 112, true);
    bytes.set(word(Number(version)), 8 * count);
    if (version === 0n || crc32c(bytes, salt) !== control.getUint32(cell + 120, true)) continue;
    if (newest === undefined || version > newest.version) newest = { version, words };
  }
  return newest?.words;
}

/** Reads the queue at `path`. */
export function readDisk(path: string): OnDisk {
  const file = fs.readFileSync(join(path, "control"));
  const control = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const salt = crc32c(file.subarray(ID_OFFSET, ID_OFFSET + 16));
  const consumer = newestCell(control, CONSUMER_CELLS, CONSUMER_WORDS, salt);
  const durable = newestCell(control, DURABLE_CELLS, DURABLE_WORDS, salt);
  const leased = new Set<number>();
  for (let entry = LEASES; entry < file.byteLength; entry += 64) {
    const sequence = Number(control.getBigUint64(entry, true));
    if (sequence > 0) leased.add(sequence);
  }
  const records = new Map<number, Found>();
  for (const name of fs.readdirSync(path)) {
    if (!/^segment-\d+$/.test(name)) continue;
    const bytes = fs.readFileSync(join(path, name));
    if (bytes.byteLength < 256) continue; // its length was not on storage
    for (const record of recordsOf(bytes, salt)) records.set(record.sequence, record);
  }
  return { records, cursor: consumer?.[3], leased, durable: durable?.[3] };
}

function* recordsOf(bytes: Buffer, salt: number): Generator<Found> {
  const base = Number(bytes.readBigUInt64LE(128));
  if (base === 0) return;
  for (let offset = 256; offset + 32 <= bytes.byteLength; ) {
    const total = bytes.readUInt32LE(offset + 4);
    const whole = total >= 32 && total % 8 === 0 && total <= bytes.byteLength - offset &&
      crc32c(bytes.subarray(offset + 4, offset + total), crc32c(word(base + offset), salt)) === bytes.readUInt32LE(offset);
    if (!whole) {
      offset += 8;
      continue;
    }
    const length = bytes.readUInt32LE(offset + 8);
    const text = bytes.toString("utf8", offset + 24, offset + 24 + length);
    yield { sequence: Number(bytes.readBigUInt64LE(offset + 16)), value: JSON.parse(text) };
    offset += total;
  }
}
