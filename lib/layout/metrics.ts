/**
 * A file of metrics. Little-endian.
 *
 * ```
 *    0  header          128 bytes, kind metrics
 *  128  end             sealed u64: offset behind the last record, a multiple of 128; grows, by one store after the new records
 *                       are whole
 * 1024  records         each at a multiple of 128, one behind the other, never changed:
 *         0  checksum   u32     CRC-32C of bytes 4..length-1, seeded with the salt and the record's offset
 *         4  length     u32     bytes of the descriptor, this word and the checksum included; a multiple of 8
 *         8  kind       u32     1 counter, 2 gauge, 3 histogram: a family; 4 a series
 *        12  cells      u32     how many cells the record has: 0 for a family
 *        16  owner      u32     of a series: the number of its family, 0 = the file's first
 *        20  labels     u32     how many labels there are
 *        24  bounds     u32     of a histogram: how many buckets have a bound; otherwise 0
 *        28  reserved   u32     0
 *        32  bounds             f64 each, ascending
 *         +  texts              u32 bytes, then UTF-8. A family: name, help, the labels' names. A series: the labels' values
 *         +  padding            zeros up to `length`
 *         +  cells      f64     at the next multiple of 128, up to the one behind. A counter, a gauge: the value. A histogram: the
 *                               sum, then how many values fell into each bucket, at last those above all bounds
 * ```
 *
 * @module
 */
import { MapError } from "../errors.ts";
import { crc32c } from "./header.ts";

export const END_OFFSET = 128;
export const RECORDS_OFFSET = 1024;
/** Records and cells lie at multiples of this, so that no two series share a cache line. */
export const ALIGNMENT = 128;
/** Most bytes of a label's value. */
export const MAX_VALUE_BYTES = 1024;
/** Most bytes of a help text. */
export const MAX_HELP_BYTES = 1024;
/** Most bytes of the name of a family or label. */
export const MAX_NAME_BYTES = 255;
/** Most labels of a family. */
export const MAX_LABELS = 32;
/** Most buckets with a bound of a histogram. */
export const MAX_BOUNDS = 1000;
/** No descriptor is longer: 32 values of 1,024 bytes, or 1,000 bounds with 32 names. */
export const MAX_DESCRIPTOR_BYTES: number = 1 << 16;

const LENGTH = 4;
const KIND = 8;
const CELLS = 12;
const OWNER = 16;
const LABELS = 20;
const BOUNDS = 24;
const RESERVED = 28;
const BODY = 32;

/** What a family measures. */
export const familyKinds = { counter: 1, gauge: 2, histogram: 3 } as const;
export type FamilyKind = keyof typeof familyKinds;
const SERIES_KIND = 4;

/** What all series of a name have in common. */
export interface FamilyRecord {
  readonly kind: FamilyKind;
  /** As it was declared, but a counter's without `_total`. */
  readonly name: string;
  readonly help: string;
  readonly labels: readonly string[];
  /** Upper bounds of a histogram's buckets, without the last, which has none. Empty for other kinds. */
  readonly bounds: readonly number[];
}

/** One series: the values of its family's labels. */
export interface SeriesRecord {
  /** Number of its family. */
  readonly family: number;
  readonly values: readonly string[];
  /** How many cells it has. */
  readonly cells: number;
}

export type MetricRecord = FamilyRecord | SeriesRecord;

/** The cells of a series of a family. */
export function cellCount({ kind, bounds }: Pick<FamilyRecord, "kind" | "bounds">): number {
  return kind === "histogram" ? bounds.length + 2 : 1;
}

/** `bytes`, rounded up to whole lines. */
export function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

/** Where the cells of a record lie, from its start. */
export function cellsOffset(descriptorBytes: number): number {
  return aligned(descriptorBytes);
}

/** Bytes of a whole record. */
export function recordBytes(descriptorBytes: number, cells: number): number {
  return aligned(descriptorBytes) + aligned(8 * cells);
}

/** The sealed word of `end`, as bytes: only for a file that nobody else can see yet. */
export function encodeEnd(end: number, salt: number): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(end), true);
  view.setUint16(6, crc32c(bytes, salt) & 0xffff, true);
  return bytes;
}

const encoder = new TextEncoder();
// A byte order mark is a character like others here.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A record's descriptor; its checksum is set where it is written. */
export function encodeDescriptor(record: MetricRecord): Uint8Array<ArrayBuffer> {
  const series = "family" in record;
  const texts = (series ? record.values : [record.name, record.help, ...record.labels]).map((text) => encoder.encode(text));
  const bounds = series ? [] : record.bounds;
  const length = BODY + 8 * bounds.length + texts.reduce((sum, text) => sum + 4 + text.byteLength, 0);
  const bytes = new Uint8Array(new ArrayBuffer(Math.ceil(length / 8) * 8));
  const view = new DataView(bytes.buffer);
  view.setUint32(LENGTH, bytes.byteLength, true);
  view.setUint32(KIND, series ? SERIES_KIND : familyKinds[record.kind], true);
  view.setUint32(CELLS, series ? record.cells : 0, true);
  view.setUint32(OWNER, series ? record.family : 0, true);
  view.setUint32(LABELS, series ? record.values.length : record.labels.length, true);
  view.setUint32(BOUNDS, bounds.length, true);
  bounds.forEach((bound, i) => view.setFloat64(BODY + 8 * i, bound, true));
  let offset = BODY + 8 * bounds.length;
  for (const text of texts) {
    view.setUint32(offset, text.byteLength, true);
    bytes.set(text, offset + 4);
    offset += 4 + text.byteLength;
  }
  return bytes;
}

/**
 * The record of a descriptor whose checksum holds. `ERR_CORRUPT` if it is none all the same: no version of holdfast wrote it. Whether
 * names are names and series match their family is for the caller to look at.
 */
export function decodeDescriptor(bytes: Uint8Array, offset: number, path: string): MetricRecord {
  const refuse = (): never => {
    throw new MapError("ERR_CORRUPT", `'${path}': the record at offset ${offset} is none that holdfast wrote`, { path });
  };
  if (bytes.byteLength < BODY) refuse();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const kindNumber = view.getUint32(KIND, true);
  const kind = (Object.keys(familyKinds) as FamilyKind[]).find((name) => familyKinds[name] === kindNumber);
  const labels = view.getUint32(LABELS, true);
  const boundCount = view.getUint32(BOUNDS, true);
  const cells = view.getUint32(CELLS, true);
  if ((kind === undefined && kindNumber !== SERIES_KIND) || view.getUint32(RESERVED, true) !== 0) refuse();
  if (labels > MAX_LABELS || boundCount > (kind === "histogram" ? MAX_BOUNDS : 0) || cells > (kind === undefined ? MAX_BOUNDS + 2 : 0)) refuse();
  if (BODY + 8 * boundCount > bytes.byteLength || (kind !== undefined && view.getUint32(OWNER, true) !== 0)) refuse();
  const bounds = Array.from({ length: boundCount }, (_, i) => view.getFloat64(BODY + 8 * i, true));
  let at = BODY + 8 * boundCount;
  const texts = Array.from({ length: labels + (kind === undefined ? 0 : 2) }, () => {
    if (at + 4 > bytes.byteLength) refuse();
    const start = at + 4;
    const length = view.getUint32(at, true);
    if (length > bytes.byteLength - start) refuse();
    at = start + length;
    try {
      return decoder.decode(bytes.subarray(start, at));
    } catch {
      return refuse();
    }
  });
  if (Math.ceil(at / 8) * 8 !== bytes.byteLength || bytes.subarray(at).some((byte) => byte !== 0)) refuse();
  if (kind === undefined) return { family: view.getUint32(OWNER, true), values: texts, cells };
  const [name = "", help = "", ...names] = texts;
  return { kind, name, help, labels: names, bounds };
}
