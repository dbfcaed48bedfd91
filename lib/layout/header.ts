/**
 * The header that every file of holdfast starts with. Little-endian.
 *
 * ```
 *   0  magic           8 bytes  "HFST" CR LF 0x1A 0x00: a text-mode transfer or a terminal damages it
 *   8  format version  u32      a newer one is refused
 *  12  kind            u32      what the file is
 *  16  endian mark     u32      0x0A0B0C0D
 *  20  header length   u32      128
 *  24  id             16 bytes  random; shared by the files of one queue
 *  40  fields         80 bytes  of the kind: ten u64
 * 120  reserved        u32      0
 * 124  checksum        u32      CRC-32C of bytes 0..123
 * ```
 *
 * All of it is immutable once the file has its name.
 *
 * @module
 */
import { MapError } from "../errors.ts";
import { readUpTo } from "../files.ts";
import { allocateScratch, native, type Scratch } from "../native/native.ts";

export const HEADER_BYTES = 128;
export const FORMAT_VERSION = 1;
export const MAGIC: readonly number[] = [0x48, 0x46, 0x53, 0x54, 0x0d, 0x0a, 0x1a, 0x00];

/** The kinds of file. */
export const kinds = { counters: 1, queue: 2, segment: 3, metrics: 4, "block store": 5, "shared memory": 6, group: 7 } as const;
export type Kind = keyof typeof kinds;

const VERSION = 8;
const KIND = 12;
const ENDIAN = 16;
const LENGTH = 20;
const ID = 24;
const FIELDS = 40;
const CHECKSUM = 124;
const ENDIAN_MARK = 0x0a0b0c0d;
export const FIELD_COUNT = 10;

/** A file's header. */
export interface Header {
  readonly kind: Kind;
  /** 16 random bytes. */
  readonly id: Uint8Array;
  /** Up to ten integers of the kind's own. */
  readonly fields: readonly number[];
}

let scratch: Scratch | undefined;

/** CRC-32C of a few bytes (at most a header's) in ordinary memory. */
export function crc32c(bytes: Uint8Array, seed = 0): number {
  // Copied first: a small typed array of the runtime's own may move.
  scratch ??= allocateScratch(HEADER_BYTES * 8);
  if (bytes.byteLength > scratch.bytes.byteLength) throw new RangeError(`${bytes.byteLength} bytes are too many here`);
  scratch.bytes.set(bytes);
  return native().hf_crc32c(seed, scratch.address, bytes.byteLength);
}

/** The header's bytes. */
export function encodeHeader({ kind, id, fields }: Header): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC);
  view.setUint32(VERSION, FORMAT_VERSION, true);
  view.setUint32(KIND, kinds[kind], true);
  view.setUint32(ENDIAN, ENDIAN_MARK, true);
  view.setUint32(LENGTH, HEADER_BYTES, true);
  bytes.set(id, ID);
  fields.forEach((field, i) => view.setBigUint64(FIELDS + 8 * i, BigInt(field), true));
  view.setUint32(CHECKSUM, crc32c(bytes.subarray(0, CHECKSUM)), true);
  return bytes;
}

function kindName(number: number): string {
  return Object.entries(kinds).find(([, value]) => value === number)?.[0] ?? `kind ${number}`;
}

/**
 * The header in `bytes`, the start of the file at `path`, if it is a whole one of `kind`. Otherwise `MapError`:
 * `ERR_NOT_HOLDFAST` (empty, zeroed or foreign), `ERR_VERSION`, `ERR_KIND`, `ERR_CORRUPT` (cut short or damaged).
 */
export function decodeHeader(bytes: Uint8Array, kind: Kind, path: string): Header {
  const refuse = (code: string, text: string): never => {
    throw new MapError(code, `'${path}' ${text}`, { path });
  };
  if (bytes.byteLength === 0) refuse("ERR_NOT_HOLDFAST", "is empty, not a file of holdfast");
  const magic = bytes.byteLength >= MAGIC.length && MAGIC.every((byte, i) => bytes[i] === byte);
  if (!magic && bytes.every((byte) => byte === 0)) refuse("ERR_NOT_HOLDFAST", "starts with zeros, not with holdfast's header");
  if (!magic) refuse("ERR_NOT_HOLDFAST", "is a file of something else, not of holdfast");
  if (bytes.byteLength < HEADER_BYTES) refuse("ERR_CORRUPT", `is cut short: ${bytes.byteLength} bytes, a header has ${HEADER_BYTES}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  const whole = view.getUint32(CHECKSUM, true) === crc32c(bytes.subarray(0, CHECKSUM));
  const version = view.getUint32(VERSION, true);
  if (version > FORMAT_VERSION) {
    refuse("ERR_VERSION", `has format version ${version}; this version of holdfast reads up to ${FORMAT_VERSION}, update it`);
  }
  if (!whole) refuse("ERR_CORRUPT", "has a damaged header: its checksum does not hold");
  if (version === 0 || view.getUint32(ENDIAN, true) !== ENDIAN_MARK || view.getUint32(LENGTH, true) !== HEADER_BYTES) {
    refuse("ERR_CORRUPT", "has a header that no version of holdfast wrote");
  }
  const found = view.getUint32(KIND, true);
  if (found !== kinds[kind]) refuse("ERR_KIND", `is a file of kind "${kindName(found)}", not "${kind}"`);
  const fields: number[] = [];
  for (let i = 0; i < FIELD_COUNT; i++) {
    const field = view.getBigUint64(FIELDS + 8 * i, true);
    if (field > BigInt(Number.MAX_SAFE_INTEGER)) refuse("ERR_CORRUPT", `has an impossible header field ${i}: ${field}`);
    fields.push(Number(field));
  }
  return { kind, id: bytes.slice(ID, ID + 16), fields };
}

/** Reads and checks the header of an open file. */
export function readHeader(fd: number, kind: Kind, path: string): Header {
  return decodeHeader(readUpTo(fd, 0, HEADER_BYTES, path), kind, path);
}
