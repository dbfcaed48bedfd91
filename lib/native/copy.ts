/**
 * Copies between mapped memory and arrays of the runtime.
 *
 * @module
 */
import { type Address, allocateScratch, native, type Scratch } from "./native.ts";

/**
 * Up to here a copy goes through scratch memory, whose address is known: passing an array costs Node 100 ns. Above, the array
 * itself is passed; arrays of more than 1000 bytes also lie outside Bun's moving memory (oven-sh/bun issue 32054).
 */
const SMALL_BYTES = 1024;

let scratch: Scratch | undefined;
/** The first n bytes of the scratch memory, for each n that was asked for. */
const heads: Uint8Array[] = [];

function small(): Scratch {
  scratch ??= allocateScratch(SMALL_BYTES);
  return scratch;
}

/** Fills `target` from `address`. 0, or the failure of the native function. */
export function copyOut(address: Address, target: Uint8Array): number {
  const length = target.byteLength;
  if (length > SMALL_BYTES) return native().hf_copy_out(target, 0, address, length);
  if (length === 0) return 0; // an empty array has no address
  const { address: from, bytes } = small();
  const result = native().hf_copy(from, address, length);
  if (result === 0) target.set((heads[length] ??= bytes.subarray(0, length)));
  return result;
}

/** Writes `data` to `address`. 0, or the failure of the native function. */
export function copyIn(address: Address, data: Uint8Array): number {
  const length = data.byteLength;
  if (length > SMALL_BYTES) return native().hf_copy_in(address, data, 0, length);
  if (length === 0) return 0;
  const { address: from, bytes } = small();
  bytes.set(data);
  return native().hf_copy(address, from, length);
}
