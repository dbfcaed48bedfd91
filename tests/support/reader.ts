/**
 * A second implementation of the file formats, for reading: `node:fs`, DataView and the comments of lib/layout/*.ts. It uses nothing
 * of the library.
 */
import * as fs from "node:fs";

/** CRC-32C by table: reflected polynomial 0x82f63b78, initial value and final xor all ones (RFC 3720 appendix B.4). */
const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ 0x82f63b78;
  return crc;
});

export function crc32c(bytes: Uint8Array, seed = 0): number {
  let crc = ~seed;
  for (const byte of bytes) crc = (crc >>> 8) ^ (table[(crc ^ byte) & 255] as number);
  return ~crc >>> 0;
}

export interface RawHeader {
  readonly magic: readonly number[];
  readonly version: number;
  readonly kind: number;
  readonly endian: number;
  readonly headerLength: number;
  readonly id: Uint8Array;
  readonly fields: readonly bigint[];
  readonly reserved: number;
  readonly checksum: number;
  /** What the checksum should be. */
  readonly computed: number;
}

export interface RawEntry {
  readonly value: bigint;
  readonly checksum: number;
  readonly computed: number;
  readonly name: string;
  /** Bytes of the entry that belong to nothing. */
  readonly padding: Uint8Array;
}

export interface RawCounters {
  readonly header: RawHeader;
  readonly count: bigint;
  /** The check in the count word, and what it should be. */
  readonly countCheck: number;
  readonly countComputed: number;
  readonly entries: readonly RawEntry[];
  /** Bytes between the count and the entries. */
  readonly padding: Uint8Array;
  readonly size: number;
}

export function readRawHeader(bytes: Uint8Array): RawHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, 128);
  return {
    magic: [...bytes.subarray(0, 8)],
    version: view.getUint32(8, true),
    kind: view.getUint32(12, true),
    endian: view.getUint32(16, true),
    headerLength: view.getUint32(20, true),
    id: bytes.slice(24, 40),
    fields: Array.from({ length: 10 }, (_, i) => view.getBigUint64(40 + 8 * i, true)),
    reserved: view.getUint32(120, true),
    checksum: view.getUint32(124, true),
    computed: crc32c(bytes.subarray(0, 124)),
  };
}

/** What the checksum of a counter's name is seeded with: the CRC-32C of its index, seeded with that of the file's id. */
export function nameSeed(index: number, id: Uint8Array): number {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, index, true);
  return crc32c(bytes, crc32c(id));
}

/** What lies above the count: 21 bits of the CRC-32C of the count, seeded with that of the file's id. */
export function countCheck(count: number, id: Uint8Array): number {
  return nameSeed(count, id) & 0x1fffff;
}

/** The eight bytes of a count word. */
export function countWord(count: number, id: Uint8Array): number[] {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, (BigInt(countCheck(count, id)) << 32n) | BigInt(count), true);
  return [...bytes];
}

export function readRawCounters(path: string): RawCounters {
  const bytes = new Uint8Array(fs.readFileSync(path));
  const view = new DataView(bytes.buffer);
  const word = view.getBigUint64(128, true);
  const count = word & 0xffff_ffffn;
  const header = readRawHeader(bytes);
  const entries = Array.from({ length: Number(count) }, (_, i): RawEntry => {
    const start = 1024 + 512 * i;
    const length = view.getUint32(start + 132, true);
    const end = start + 136 + length;
    return {
      value: view.getBigInt64(start, true),
      checksum: view.getUint32(start + 128, true),
      computed: crc32c(bytes.subarray(start + 132, end), nameSeed(i, header.id)),
      name: new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(start + 136, end)),
      padding: new Uint8Array([...bytes.subarray(start + 8, start + 128), ...bytes.subarray(end, start + 512)]),
    };
  });
  return {
    header,
    count,
    countCheck: Number(word >> 32n),
    countComputed: countCheck(Number(count), header.id),
    entries,
    padding: bytes.slice(136, 1024),
    size: bytes.byteLength,
  };
}
