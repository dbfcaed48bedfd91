/**
 * A file of counters. Little-endian.
 *
 * ```
 *    0  header          128 bytes, kind counters
 *  128  count           u64     counters that there are (32 bits), and above them the low 21 bits of the CRC-32C of that u32,
 *                               seeded with the CRC-32C of the id; grows, by one store after the new entries are whole
 * 1024  entries         512 bytes each:
 *         0  value      i64, alone on its 128-byte line
 *       128  checksum   u32     CRC-32C of bytes 132..135 + name length, seeded with the CRC-32C of the counter's index
 *                               as u32, seeded with that of the id
 *       132  name       u32     its length in bytes, 0 = no name
 *       136  name bytes         UTF-8, at most 255
 * ```
 *
 * @module
 */
import { MapError } from "../errors.ts";
import { crc32c } from "./header.ts";

export const COUNT_OFFSET = 128;
export const ENTRIES_OFFSET = 1024;
export const ENTRY_BYTES = 512;
export const NAME_OFFSET = 128;
export const MAX_NAME_BYTES = 255;
/** Most counters of a file: its length stays a safe integer by far. */
export const MAX_COUNT: number = 2 ** 31;

const NAME_LENGTH = 4;
const NAME_BYTES = 8;

const COUNT_RANGE: number = 2 ** 32;

/** CRC-32C of a number as u32. */
function checksumOf(number: number, salt: number): number {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, number, true);
  return crc32c(bytes, salt);
}

function countCheck(count: number, salt: number): number {
  return checksumOf(count, salt) % 2 ** 21;
}

/** The count word: one that is damaged must not pass for a smaller count, behind which counters would be made anew. */
export function encodeCount(count: number, salt: number): number {
  return countCheck(count, salt) * COUNT_RANGE + count;
}

/** The count in a count word; undefined if its check does not hold. */
export function decodeCount(word: number, salt: number): number | undefined {
  const count = word % COUNT_RANGE;
  return count >= 1 && count <= MAX_COUNT && word === encodeCount(count, salt) ? count : undefined;
}

/** Offset of a counter's value. */
export function valueOffset(index: number): number {
  return ENTRIES_OFFSET + index * ENTRY_BYTES;
}

/** Bytes of a file of `count` counters. */
export function fileBytes(count: number): number {
  return valueOffset(count);
}

/** The name field of counter `index`: checksum, length, bytes. Under the seed of its index, since a name that lies elsewhere is damage. */
export function encodeName(name: Uint8Array, index: number, salt: number): Uint8Array {
  const bytes = new Uint8Array(NAME_BYTES + name.byteLength);
  const view = new DataView(bytes.buffer);
  view.setUint32(NAME_LENGTH, name.byteLength, true);
  bytes.set(name, NAME_BYTES);
  view.setUint32(0, crc32c(bytes.subarray(NAME_LENGTH), checksumOf(index, salt)), true);
  return bytes;
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The name in a name field; undefined for a counter without one. `ERR_CORRUPT` if it does not hold. */
export function decodeName(bytes: Uint8Array, index: number, salt: number, path: string): string | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = view.getUint32(NAME_LENGTH, true);
  const seed = checksumOf(index, salt);
  const whole =
    length <= MAX_NAME_BYTES && view.getUint32(0, true) === crc32c(bytes.subarray(NAME_LENGTH, NAME_BYTES + length), seed);
  if (!whole) throw new MapError("ERR_CORRUPT", `'${path}': the name of counter ${index} is damaged`, { path });
  return length === 0 ? undefined : decoder.decode(bytes.subarray(NAME_BYTES, NAME_BYTES + length));
}
