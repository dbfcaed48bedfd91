/**
 * A second implementation of the layout of shared memory objects: `node:fs`, DataView and the text of docs/format.md. It uses nothing of
 * the library.
 */
import * as fs from "node:fs";
import { crc32c, type RawHeader, readRawHeader } from "./reader.ts";

export const pathOf = (name: string): string => `/dev/shm/${name}`;

/** The eight bytes of a sealed word. */
export function sealed(value: number, id: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(value), true);
  view.setUint16(6, crc32c(bytes, crc32c(id)) & 0xffff, true);
  return bytes;
}

export interface RawWord {
  readonly value: number;
  /** Whether its check holds. */
  readonly whole: boolean;
}

function readWord(bytes: Uint8Array, offset: number, id: Uint8Array): RawWord {
  const value = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(offset, true) & 0xffff_ffff_ffffn);
  return { value, whole: Buffer.from(sealed(value, id)).equals(bytes.subarray(offset, offset + 8)) };
}

export interface RawObject {
  readonly header: RawHeader;
  readonly size: RawWord;
  readonly capacity: RawWord;
  readonly extent: RawWord;
  readonly lifetime: RawWord;
  readonly content: Uint8Array;
  readonly mark: RawWord;
  /** Bytes of the file. */
  readonly bytes: Uint8Array;
}

export function readRawObject(name: string): RawObject {
  const bytes = new Uint8Array(fs.readFileSync(pathOf(name)));
  const header = readRawHeader(bytes);
  const word = (offset: number): RawWord => readWord(bytes, offset, header.id);
  const size = word(128);
  const extent = word(384);
  return {
    header,
    size,
    capacity: word(256),
    extent,
    lifetime: word(512),
    content: bytes.slice(4096, 4096 + size.value),
    mark: word(extent.value - 8),
    bytes,
  };
}

/** Makes an object, sparse but for `content`, a list of offsets in the content and bytes there. */
export function forgeObject(
  name: string,
  { size, capacity, lifetime = 1, content = [] }: { size: number; capacity: number; lifetime?: number; content?: readonly [number, string][] },
): void {
  const id = Uint8Array.from({ length: 16 }, (_, i) => i * 7 + 1);
  const header = new Uint8Array(128);
  const view = new DataView(header.buffer);
  header.set([0x48, 0x46, 0x53, 0x54, 0x0d, 0x0a, 0x1a, 0x00]);
  [1, 6, 0x0a0b0c0d, 128].forEach((value, i) => view.setUint32(8 + 4 * i, value, true));
  header.set(id, 24);
  view.setUint32(124, crc32c(header.subarray(0, 124)), true);
  const extent = 4096 + Math.ceil(capacity / 8) * 8 + 8;
  const fd = fs.openSync(pathOf(name), "wx", 0o600);
  try {
    fs.ftruncateSync(fd, extent);
    fs.writeSync(fd, header, 0, 128, 0);
    const words: readonly [number, number][] = [[128, size], [256, capacity], [384, extent], [512, lifetime], [extent - 8, extent]];
    for (const [offset, value] of words) fs.writeSync(fd, sealed(value, id), 0, 8, offset);
    for (const [offset, text] of content) fs.writeSync(fd, Buffer.from(text), 0, Buffer.byteLength(text), 4096 + offset);
  } finally {
    fs.closeSync(fd);
  }
}
