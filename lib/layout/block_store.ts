/**
 * A block store: blocks of one size in a growing file. Little-endian.
 *
 * ```
 *    0  header          128 bytes, kind block store; fields: block bytes, most blocks (0 = no limit), blocks of a group
 *  128  groups          u64     sealed; groups that there are; grows, by one store after the new words are whole
 * 1024  groups, each, padded to a multiple of 128:
 *         0  words      u64     one for each block, sealed; padded to a multiple of 128
 *         +  blocks     records of one block each, 16 + block bytes, padded to a multiple of 8
 * ```
 *
 * A block's word, `owner × 2^32 + generation`, which is all that says what the block is:
 *
 * ```
 * owner 0               free; the bytes of the block mean nothing
 * owner 1..65534        being filled by the handle that has byte 2^50 + owner of the file locked; if none has, it is free
 * owner 65535           stored: the record is whole
 * generation            u32     changes whenever the block becomes free, wraps at 2^32
 * ```
 *
 * A record:
 *
 * ```
 *    0  checksum        u32     CRC-32C of all that follows, up to total, seeded with the block's salt and the generation
 *    4  total           u32     bytes of the record: 16 + length, up to a multiple of 8
 *    8  length          u32     bytes that were stored
 *   12  reserved        u32     0
 *   16  bytes, padding with zeros to a multiple of 8
 * ```
 *
 * Words and records of block 0, 1, 2, … are seeded with the CRC-32C of the file's id, exclusive-or the low 32 bits of the block's number, so
 * that a whole word or record in the wrong place is damage; the word `groups` with the same, exclusive-or 2^32 − 1.
 *
 * @module
 */
import { MapError } from "../errors.ts";
import { crc32c, type Header } from "./header.ts";

export const GROUPS_OFFSET = 128;
export const FIRST_GROUP_OFFSET = 1024;
export const RECORD_HEADER_BYTES = 16;
/** Most bytes of a block: a record's length is a u32. */
export const MAX_BLOCK_BYTES: number = 2 ** 30;
/** The word of a free block is below this, that of any other is not. */
export const GENERATIONS: number = 2 ** 32;
/** Most owners: the one above stands for a stored block. */
export const MAX_OWNER = 65534;
/** The word of a stored block of generation 0; no other word is as large. */
export const STORED: number = (MAX_OWNER + 1) * GENERATIONS;
/** The byte whose lock is the right to add groups. The one of owner n is n behind it; all lie behind what a file can hold. */
export const LOCKS_OFFSET: number = 2 ** 50;

const WORD_BYTES = 8;
const LINE_BYTES = 128;
const MAX_GROUP_BLOCKS = 64;
const MAX_GROUP_BYTES: number = 1 << 20;

/** What the header of a file says of its blocks, and what follows from it. */
export interface Shape {
  readonly blockBytes: number;
  /** 0 = no limit. */
  readonly maxBlocks: number;
  readonly groupBlocks: number;
  /** Bytes from one record to the next. */
  readonly recordBytes: number;
  /** Bytes of a group's words. */
  readonly wordsBytes: number;
  readonly groupBytes: number;
  /** Most groups. */
  readonly maxGroups: number;
}

function roundUp(bytes: number, unit: number): number {
  return Math.ceil(bytes / unit) * unit;
}

function shapeOf(blockBytes: number, maxBlocks: number, groupBlocks: number): Shape {
  const recordBytes = roundUp(RECORD_HEADER_BYTES + blockBytes, 8);
  const wordsBytes = roundUp(WORD_BYTES * groupBlocks, LINE_BYTES);
  const groupBytes = wordsBytes + roundUp(groupBlocks * recordBytes, LINE_BYTES);
  const maxGroups = maxBlocks === 0 ? Infinity : Math.ceil(maxBlocks / groupBlocks);
  return { blockBytes, maxBlocks, groupBlocks, recordBytes, wordsBytes, groupBytes, maxGroups };
}

/** The shape of a new file: groups of 64 blocks, of fewer (a power of two) where that would be more than 1 MiB. */
export function newShape(blockBytes: number, maxBlocks: number): Shape {
  let groupBlocks = MAX_GROUP_BLOCKS;
  while (groupBlocks > 1 && shapeOf(blockBytes, maxBlocks, groupBlocks).groupBytes > MAX_GROUP_BYTES) groupBlocks /= 2;
  return shapeOf(blockBytes, maxBlocks, groupBlocks);
}

/** The header's fields for a shape. */
export function fieldsOf({ blockBytes, maxBlocks, groupBlocks }: Shape): number[] {
  return [blockBytes, maxBlocks, groupBlocks];
}

/** The shape that a header tells of. `ERR_CORRUPT` if it is none. */
export function readShape({ fields }: Header, path: string): Shape {
  const [blockBytes = 0, maxBlocks = 0, groupBlocks = 0] = fields;
  const power = groupBlocks >= 1 && groupBlocks <= MAX_GROUP_BLOCKS && Number.isInteger(Math.log2(groupBlocks));
  if (blockBytes < 1 || blockBytes > MAX_BLOCK_BYTES || !power) {
    throw new MapError("ERR_CORRUPT", `'${path}' has a header with impossible blocks: ${blockBytes} bytes, ${groupBlocks} in a group`, { path });
  }
  return shapeOf(blockBytes, maxBlocks, groupBlocks);
}

/** How many blocks `groups` groups have. */
export function blocksOf({ groupBlocks, maxBlocks }: Shape, groups: number): number {
  const blocks = groups * groupBlocks;
  return maxBlocks === 0 ? blocks : Math.min(blocks, maxBlocks);
}

/** Bytes of a file of `groups` groups. */
export function fileBytes({ groupBytes }: Shape, groups: number): number {
  return FIRST_GROUP_OFFSET + groups * groupBytes;
}

/** Offset of a block's word. */
export function wordOffset({ groupBlocks, groupBytes }: Shape, id: number): number {
  const group = Math.floor(id / groupBlocks);
  return FIRST_GROUP_OFFSET + group * groupBytes + (id - group * groupBlocks) * WORD_BYTES;
}

/** Offset of a block's record. */
export function recordOffset({ groupBlocks, groupBytes, recordBytes, wordsBytes }: Shape, id: number): number {
  const group = Math.floor(id / groupBlocks);
  return FIRST_GROUP_OFFSET + group * groupBytes + wordsBytes + (id - group * groupBlocks) * recordBytes;
}

/** Bytes of a record with `length` bytes in it. */
export function totalBytes(length: number): number {
  return roundUp(RECORD_HEADER_BYTES + length, 8);
}

/** The seed of a block's word and record. */
export function blockSalt(salt: number, id: number): number {
  return (salt ^ id) >>> 0;
}

/** The seed of the word `groups`. */
export function groupsSalt(salt: number): number {
  return ~salt >>> 0;
}

/** A sealed word's bytes (`HF_SEALED…` in csrc/holdfast.h). */
export function encodeSealed(value: number, salt: number): Uint8Array {
  const bytes = new Uint8Array(WORD_BYTES);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(value), true);
  view.setUint16(6, crc32c(bytes, salt) & 0xffff, true);
  return bytes;
}
