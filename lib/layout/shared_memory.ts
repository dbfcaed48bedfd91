/**
 * A shared memory object. Little-endian. A sealed word is a u64: 48 bits of value, and above them the low 16 bits of the CRC-32C of the
 * value as u64, seeded with the CRC-32C of the id.
 *
 * ```
 *    0  header          128 bytes, kind shared memory
 *  128  size            sealed  bytes of content
 *  256  capacity        sealed  bytes that the content may have without growth; reserved
 *  384  extent          sealed  bytes of the object that are in use, a multiple of 8; grows, never shrinks
 *  512  lifetime        sealed  1 = persistent: removed by nobody; 2 = removed with its owner and the last retention
 * 4096  content
 *    +  end mark        sealed  the extent once more, in its last 8 bytes: whoever cuts the object short takes it away
 *
 * Open-file-description locks on single bytes say who lives:
 *    0  gate            held for a moment by whoever changes who owns or retains the object, or removes it
 *    1  owner           exclusive, for as long as the owner lives
 *    2  retention       shared, for as long as each retention lives
 *    3  capacity        held by whoever changes capacity and extent
 * ```
 *
 * @module
 */
import { MapError } from "../errors.ts";
import { crc32c, decodeHeader, encodeHeader, HEADER_BYTES } from "./header.ts";

export const SIZE = 128;
export const CAPACITY = 256;
export const EXTENT = 384;
export const LIFETIME = 512;
/** Bytes of everything before the content that means something. */
export const WORDS_END = 520;
export const CONTENT = 4096;
export const MARK_BYTES = 8;

export const lifetimes = { persistent: 1, owned: 2 } as const;
export type Lifetime = keyof typeof lifetimes;

/** The bytes that stand for a right: see the diagram. */
export const locks = { gate: 0, owner: 1, retention: 2, capacity: 3 } as const;

/** Most bytes of content: the offsets of files and the 48 bits of a sealed word hold it by far. */
export const MAX_CAPACITY: number = 2 ** 46;

const VALUE_RANGE: bigint = 2n ** 48n;

/** Bytes of an object that has room for `capacity` bytes of content. */
export function extentFor(capacity: number): number {
  return CONTENT + Math.ceil(capacity / 8) * 8 + MARK_BYTES;
}

/** Bytes of content that fit into an object of `extent` bytes. */
export function roomIn(extent: number): number {
  return extent - CONTENT - MARK_BYTES;
}

/** The eight bytes of a sealed word. */
export function seal(value: number, salt: number): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(value), true);
  view.setUint16(6, crc32c(bytes, salt) & 0xffff, true);
  return bytes;
}

/** The value of a sealed word; undefined if its check does not hold. */
export function unseal(bytes: Uint8Array, salt: number): number | undefined {
  const word = new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
  const value = Number(word % VALUE_RANGE);
  return seal(value, salt).every((byte, i) => byte === bytes[i]) ? value : undefined;
}

/** What an object says of itself. */
export interface ObjectState {
  /** CRC-32C of the id: what its words are sealed with. */
  readonly salt: number;
  readonly size: number;
  readonly capacity: number;
  readonly extent: number;
  readonly lifetime: Lifetime;
}

/** Everything before the content. */
export function encodeStart(id: Uint8Array, { size, capacity, extent, lifetime }: Omit<ObjectState, "salt">): Uint8Array {
  const salt = crc32c(id);
  const bytes = new Uint8Array(WORDS_END);
  bytes.set(encodeHeader({ kind: "shared memory", id, fields: [] }));
  bytes.set(seal(size, salt), SIZE);
  bytes.set(seal(capacity, salt), CAPACITY);
  bytes.set(seal(extent, salt), EXTENT);
  bytes.set(seal(lifetimes[lifetime], salt), LIFETIME);
  return bytes;
}

/**
 * What the first {@linkcode WORDS_END} bytes say. `ERR_NOT_HOLDFAST`, `ERR_VERSION`, `ERR_KIND` or `ERR_CORRUPT` if they don't hold. Size
 * and capacity change without a lock: each holds by itself, and both lie within the extent.
 */
export function decodeStart(bytes: Uint8Array, path: string): ObjectState {
  const { id } = decodeHeader(bytes.subarray(0, HEADER_BYTES), "shared memory", path);
  const refuse = (what: string): never => {
    throw new MapError("ERR_CORRUPT", `'${path}' ${what}`, { path });
  };
  if (bytes.byteLength < WORDS_END) refuse(`is cut short: it has ${bytes.byteLength} bytes`);
  const salt = crc32c(id);
  const word = (name: string, offset: number): number =>
    unseal(bytes.subarray(offset, offset + 8), salt) ?? refuse(`has a damaged ${name}: its check does not hold`);
  const size = word("size", SIZE);
  const capacity = word("capacity", CAPACITY);
  const extent = word("extent", EXTENT);
  const state = word("lifetime", LIFETIME);
  const lifetime = (Object.keys(lifetimes) as Lifetime[]).find((name) => lifetimes[name] === state);
  if (lifetime === undefined) return refuse(`has an impossible lifetime: ${state}`);
  if (!isExtent(extent) || size > roomIn(extent) || capacity > roomIn(extent)) {
    refuse(`has impossible lengths: size ${size}, capacity ${capacity}, extent ${extent}`);
  }
  return { salt, size, capacity, extent, lifetime };
}

/** Whether an object can have this extent. */
export function isExtent(extent: number): boolean {
  return extent >= extentFor(0) && extent <= extentFor(MAX_CAPACITY) && extent % 8 === 0;
}
