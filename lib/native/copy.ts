/**
 * Copies between mapped memory and arrays of the runtime.
 *
 * Where passing an array is dear (Node), a short copy goes through scratch memory, whose address is known, and a long one to the
 * address of the array's buffer, which is asked for once.
 *
 * @module
 */
import { type Address, allocateScratch, arraysAreCheap, native, type Scratch, smallArraysAreDear } from "./native.ts";
import type { NativeFunctions } from "./symbols.ts";

/** Up to here two copies cost less than to find an address. */
export const SMALL_BYTES = 4096;

interface Copier {
  readonly hf: NativeFunctions;
  /** Undefined where arrays are passed as they are. */
  readonly scratch: Scratch | undefined;
}

let copier: Copier | undefined;

function load(): Copier {
  copier = { hf: native(), scratch: arraysAreCheap() ? undefined : allocateScratch(SMALL_BYTES) };
  return copier;
}

/** The first n bytes of the scratch memory, for each n that was asked for. */
const heads: Uint8Array[] = [];

/** Where the buffers lie that were used. A buffer does not move; one that is detached has no bytes left to copy. */
const addresses = new WeakMap<ArrayBufferLike, Address>();

/** The getters that every typed array has, past what a subclass or an object's own property says. */
function getter<T>(name: string): (this: Uint8Array) => T {
  return Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), name)?.get as (this: Uint8Array) => T;
}

const getByteLength = getter<number>("byteLength");
const getByteOffset = getter<number>("byteOffset");
const getBuffer = getter<ArrayBufferLike>("buffer");

/** Where an array's bytes lie that is not empty: for a call, not to be kept. */
export function addressOf(array: Uint8Array, hf: NativeFunctions): Address {
  const buffer = getBuffer.call(array);
  let address = addresses.get(buffer);
  if (address === undefined) {
    address = hf.hf_address_of(new Uint8Array(buffer));
    addresses.set(buffer, address);
  }
  return address + getByteOffset.call(array);
}

/** Bytes of an array, whatever a subclass makes of the property: what C is told must be true. */
export function byteLengthOf(array: Uint8Array): number {
  return getByteLength.call(array);
}

/** Fills `target`, of `length` bytes by {@linkcode byteLengthOf}, from `address`. 0, or the failure of the native function. */
export function copyOut(address: Address, target: Uint8Array, length: number): number {
  if (length === 0) return 0; // an empty array has no address
  const { hf, scratch } = copier ?? load();
  if (scratch === undefined) return hf.hf_copy_out(target, 0, address, length);
  if (length > SMALL_BYTES) return hf.hf_copy(addressOf(target, hf), address, length);
  const result = hf.hf_copy(scratch.address, address, length);
  if (result === 0) target.set((heads[length] ??= scratch.bytes.subarray(0, length)));
  return result;
}

/** Writes `data`, of `length` bytes by {@linkcode byteLengthOf}, to `address`. 0, or the failure of the native function. */
export function copyIn(address: Address, data: Uint8Array, length: number): number {
  if (length === 0) return 0;
  const { hf, scratch } = copier ?? load();
  if (scratch === undefined) return hf.hf_copy_in(address, data, 0, length);
  if (length > SMALL_BYTES) return hf.hf_copy(address, addressOf(data, hf), length);
  scratch.bytes.set(data);
  return hf.hf_copy(address, scratch.address, length);
}

/** Results up to here are cut from a common buffer where small arrays are dear. */
const CARVED_BYTES = 1024;
const POOL_BYTES = 1 << 16;
let pool: ArrayBuffer = new ArrayBuffer(0);
let poolUsed = 0;

/** New zeroed bytes for the program to keep: an array of their own, or where that is dear, a part of a larger buffer that nobody else gets. */
export function newBytes(length: number): Uint8Array<ArrayBuffer> {
  if (length === 0 || length > CARVED_BYTES || !smallArraysAreDear()) return new Uint8Array(length);
  if (poolUsed + length > pool.byteLength) {
    pool = new ArrayBuffer(POOL_BYTES);
    poolUsed = 0;
  }
  const bytes = new Uint8Array(pool, poolUsed, length);
  poolUsed += (length + 7) & ~7;
  return bytes;
}
