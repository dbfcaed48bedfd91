/**
 * A second implementation of the block store's file, for reading and for making: `node:fs`, DataView and the comment of
 * lib/layout/block_store.ts. It uses nothing of the library.
 */
import * as fs from "node:fs";
import { crc32c, type RawHeader, readRawHeader } from "./reader.ts";

const STORED = 0xffff;

/** A word that carries a check. */
export interface RawSealed {
  /** 48 bits. */
  readonly value: bigint;
  readonly check: number;
  /** What the check should be. */
  readonly computed: number;
}

export interface RawBlock {
  readonly id: number;
  readonly word: RawSealed;
  /** 0 free, 65535 stored. */
  readonly owner: number;
  readonly generation: number;
  /** The record; what it says means something for a stored block only. */
  readonly checksum: number;
  readonly computed: number;
  readonly total: number;
  readonly length: number;
  readonly reserved: number;
  readonly bytes: Uint8Array;
  readonly padding: Uint8Array;
}

export interface RawBlockStore {
  readonly header: RawHeader;
  readonly blockBytes: number;
  readonly maxBlocks: number;
  readonly groupBlocks: number;
  readonly groups: RawSealed;
  readonly blocks: readonly RawBlock[];
  /** Bytes that belong to nothing, up to the first group. */
  readonly padding: Uint8Array;
  readonly size: number;
  /** What the size should be. */
  readonly computedSize: number;
}

const up = (bytes: number, unit: number): number => Math.ceil(bytes / unit) * unit;

function u64(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return bytes;
}

/** The places of a store's blocks. */
function layout(blockBytes: number, groupBlocks: number): { word(id: number): number; record(id: number): number; group: number; recordBytes: number } {
  const recordBytes = up(16 + blockBytes, 8);
  const words = up(8 * groupBlocks, 128);
  const group = words + up(groupBlocks * recordBytes, 128);
  const start = (id: number): number => 1024 + Math.floor(id / groupBlocks) * group;
  return {
    word: (id) => start(id) + 8 * (id % groupBlocks),
    record: (id) => start(id) + words + recordBytes * (id % groupBlocks),
    group,
    recordBytes,
  };
}

const sealCheck = (value: bigint, salt: number): number => crc32c(u64(value), salt) & 0xffff;

function readSealed(view: DataView, offset: number, salt: number): RawSealed {
  const word = view.getBigUint64(offset, true);
  const value = word & 0xffff_ffff_ffffn;
  return { value, check: Number(word >> 48n), computed: sealCheck(value, salt) };
}

export function readRawBlocks(path: string): RawBlockStore {
  const bytes = new Uint8Array(fs.readFileSync(path));
  const view = new DataView(bytes.buffer);
  const header = readRawHeader(bytes);
  const [blockBytes, maxBlocks, groupBlocks] = header.fields.map(Number) as [number, number, number];
  const salt = crc32c(header.id);
  const groups = readSealed(view, 128, ~salt >>> 0);
  const at = layout(blockBytes, groupBlocks);
  const all = Number(groups.value) * groupBlocks;
  const count = maxBlocks === 0 ? all : Math.min(all, maxBlocks);
  const blocks = Array.from({ length: count }, (_, id): RawBlock => {
    const seed = (salt ^ id) >>> 0;
    const word = readSealed(view, at.word(id), seed);
    const generation = word.value & 0xffff_ffffn;
    const start = at.record(id);
    const length = view.getUint32(start + 8, true);
    const total = view.getUint32(start + 4, true);
    const end = Math.min(start + total, start + at.recordBytes);
    const used = Math.min(start + 16 + length, end);
    return {
      id,
      word,
      owner: Number(word.value >> 32n),
      generation: Number(generation),
      checksum: view.getUint32(start, true),
      computed: crc32c(bytes.subarray(start + 4, end), crc32c(u64(generation), seed)),
      total,
      length,
      reserved: view.getUint32(start + 12, true),
      bytes: bytes.slice(start + 16, used),
      padding: bytes.slice(used, end),
    };
  });
  const computedSize = 1024 + Number(groups.value) * at.group;
  return { header, blockBytes, maxBlocks, groupBlocks, groups, blocks, padding: bytes.slice(136, 1024), size: bytes.byteLength, computedSize };
}

/** A block to be made: free if it has no bytes. */
export interface ForgedBlock {
  readonly generation: number;
  readonly bytes?: Uint8Array;
  /** Being filled by this owner. */
  readonly owner?: number;
}

/** What a file to be made has. */
export interface Forged {
  readonly id: Uint8Array;
  readonly blockBytes: number;
  readonly maxBlocks?: number;
  readonly groupBlocks: number;
  readonly groups: number;
  /** Those that are not here are free, of generation 0. */
  readonly blocks: ReadonlyMap<number, ForgedBlock>;
}

/** The bytes of a whole file, the same for the same arguments. */
export function forgeBlocks({ id, blockBytes, maxBlocks = 0, groupBlocks, groups, blocks }: Forged): Uint8Array {
  const at = layout(blockBytes, groupBlocks);
  const bytes = new Uint8Array(1024 + groups * at.group);
  const view = new DataView(bytes.buffer);
  bytes.set([0x48, 0x46, 0x53, 0x54, 0x0d, 0x0a, 0x1a, 0x00]);
  [1, 5, 0x0a0b0c0d, 128].forEach((value, i) => view.setUint32(8 + 4 * i, value, true));
  bytes.set(id, 24);
  [blockBytes, maxBlocks, groupBlocks].forEach((field, i) => view.setBigUint64(40 + 8 * i, BigInt(field), true));
  view.setUint32(124, crc32c(bytes.subarray(0, 124)), true);
  const salt = crc32c(id);
  const seal = (offset: number, value: bigint, seed: number): void =>
    view.setBigUint64(offset, (BigInt(sealCheck(value, seed)) << 48n) | value, true);
  seal(128, BigInt(groups), ~salt >>> 0);
  const count = maxBlocks === 0 ? groups * groupBlocks : Math.min(groups * groupBlocks, maxBlocks);
  for (let number = 0; number < count; number++) {
    const { generation, bytes: content, owner = 0 } = blocks.get(number) ?? { generation: 0 };
    const seed = (salt ^ number) >>> 0;
    const state = content === undefined ? owner : STORED;
    seal(at.word(number), (BigInt(state) << 32n) | BigInt(generation), seed);
    if (content === undefined) continue;
    const start = at.record(number);
    const total = up(16 + content.byteLength, 8);
    view.setUint32(start + 4, total, true);
    view.setUint32(start + 8, content.byteLength, true);
    bytes.set(content, start + 16);
    view.setUint32(start, crc32c(bytes.subarray(start + 4, start + total), crc32c(u64(BigInt(generation)), seed)), true);
  }
  return bytes;
}
