/**
 * Which start of the machine a queue was written in last: what tells a power loss from the end of a process.
 *
 * The control file holds the id of the last boot in which the queue was opened for writing. If it is that of now, every byte that any
 * process has written is there, whatever became of the process. If not, storage has the files as they were at different moments.
 *
 * @module
 */
import { crc32c } from "../layout/header.ts";
import { BOOT_ID_BYTES } from "../layout/queue.ts";
import { allocateScratch, native } from "../native/native.ts";

let known: Uint8Array | undefined | null = null;

/**
 * The id of this boot; undefined where it can't be had: another system than Linux, or no /proc. By way of C: a runtime that is given permissions
 * for the queue's directory only may not open the file, and a program should not need one for it.
 */
export function bootId(): Uint8Array | undefined {
  if (known === null) {
    const { address, bytes } = allocateScratch(BOOT_ID_BYTES);
    known = native().hf_boot_id(address) === 0 ? bytes : undefined;
  }
  return known;
}

/** The field of the control file for this boot; zeros if its id is not known. */
export function bootField(salt: number): Uint8Array {
  const bytes = new Uint8Array(BOOT_ID_BYTES + 8);
  const id = bootId();
  if (id === undefined) return bytes;
  bytes.set(id);
  new DataView(bytes.buffer).setUint32(BOOT_ID_BYTES, crc32c(id, salt), true);
  return bytes;
}

/** Whether the field in `bytes` is of this boot. Also if this boot's id is not known: then nothing can be said. */
export function isThisBoot(bytes: Uint8Array, salt: number): boolean {
  if (bootId() === undefined) return true;
  const field = bootField(salt);
  return bytes.byteLength === field.byteLength && field.every((byte, i) => byte === bytes[i]);
}
