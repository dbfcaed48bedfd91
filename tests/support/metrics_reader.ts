/**
 * A second implementation of the format of metrics, for reading: `node:fs`, DataView and the comment of lib/layout/metrics.ts. It uses
 * nothing of the library.
 */
import * as fs from "node:fs";
import { crc32c, type RawHeader, readRawHeader } from "./reader.ts";

export interface RawRecord {
  readonly offset: number;
  /** Bytes of the descriptor. */
  readonly length: number;
  readonly checksum: number;
  /** What the checksum should be. */
  readonly computed: number;
  readonly kind: number;
  readonly owner: number;
  readonly labels: number;
  readonly bounds: readonly number[];
  readonly texts: readonly string[];
  readonly cellsAt: number;
  readonly cells: readonly number[];
  /** All that belongs to nothing, up to the next record. */
  readonly padding: Uint8Array;
}

export interface RawMetrics {
  readonly header: RawHeader;
  readonly end: number;
  /** The check in the word of the end, and what it should be. */
  readonly endCheck: number;
  readonly endComputed: number;
  readonly records: readonly RawRecord[];
  /** Bytes between the end word and the records. */
  readonly padding: Uint8Array;
  readonly size: number;
}

const up = (bytes: number, unit: number): number => Math.ceil(bytes / unit) * unit;

function u64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
}

/** The low 16 bits of the CRC-32C of the end, seeded with that of the file's id. */
export function endCheck(end: number, id: Uint8Array): number {
  return crc32c(u64(end), crc32c(id)) & 0xffff;
}

/** The checksum that the record at `offset` should have. */
export function recordChecksum(bytes: Uint8Array, offset: number, length: number, id: Uint8Array): number {
  return crc32c(bytes.subarray(offset + 4, offset + length), crc32c(u64(offset), crc32c(id)));
}

function readRecord(bytes: Uint8Array, offset: number, id: Uint8Array): { record: RawRecord; next: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const word = (at: number): number => view.getUint32(offset + at, true);
  const [length, kind, cellCount, owner, labels, boundCount] = [word(4), word(8), word(12), word(16), word(20), word(24)];
  const bounds = Array.from({ length: boundCount }, (_, i) => view.getFloat64(offset + 32 + 8 * i, true));
  let at = offset + 32 + 8 * boundCount;
  const texts = Array.from({ length: kind === 4 ? labels : labels + 2 }, () => {
    const start = at + 4;
    at = start + view.getUint32(at, true);
    return Buffer.from(bytes.subarray(start, at)).toString("utf8");
  });
  const cellsAt = offset + up(length, 128);
  const next = cellsAt + up(8 * cellCount, 128);
  const record = {
    offset,
    length,
    checksum: word(0),
    computed: recordChecksum(bytes, offset, length, id),
    kind,
    owner,
    labels,
    bounds,
    texts,
    cellsAt,
    cells: Array.from({ length: cellCount }, (_, i) => view.getFloat64(cellsAt + 8 * i, true)),
    padding: new Uint8Array([...bytes.subarray(offset + 28, offset + 32), ...bytes.subarray(at, cellsAt), ...bytes.subarray(cellsAt + 8 * cellCount, next)]),
  };
  return { record, next };
}

export function readRawMetrics(source: string | Uint8Array): RawMetrics {
  const bytes = typeof source === "string" ? new Uint8Array(fs.readFileSync(source)) : source;
  const header = readRawHeader(bytes);
  const word = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(128, true);
  const end = Number(word & 0xffff_ffff_ffffn);
  const records: RawRecord[] = [];
  for (let offset = 1024; offset < end; ) {
    const { record, next } = readRecord(bytes, offset, header.id);
    records.push(record);
    offset = next;
  }
  return { header, end, endCheck: Number(word >> 48n), endComputed: endCheck(end, header.id), records, padding: bytes.slice(136, 1024), size: bytes.byteLength };
}

/** Gives a file another id, with all checks that depend on it. */
export function withId(bytes: Uint8Array, id: Uint8Array): Uint8Array {
  const changed = bytes.slice();
  const view = new DataView(changed.buffer);
  const { records, end } = readRawMetrics(bytes);
  changed.set(id, 24);
  view.setUint32(124, crc32c(changed.subarray(0, 124)), true);
  view.setUint16(134, endCheck(end, id), true);
  for (const { offset, length } of records) view.setUint32(offset, recordChecksum(changed, offset, length, id), true);
  return changed;
}
