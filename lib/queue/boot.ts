/**
 * Which start of the machine a queue was written in last: what tells a power loss from the end of a process.
 *
 * The control file holds the id of the last boot in which the queue was opened for writing. If it is that of now, every byte that any
 * process has written is there, whatever became of the process. If not, storage has the files as they were at different moments.
 *
 * @module
 */
import * as fs from "node:fs";
import { crc32c } from "../layout/header.ts";
import { BOOT_ID_BYTES } from "../layout/queue.ts";

const BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id";

let known: Uint8Array | undefined | null = null;

/** Whether the file may be read without asking the user. */
function mayRead(): boolean {
  const { Deno: deno } = globalThis as { Deno?: { permissions: { querySync(descriptor: { name: "read"; path: string }): { state: string } } } };
  return deno === undefined || deno.permissions.querySync({ name: "read", path: BOOT_ID_FILE }).state === "granted";
}

/** The id of this boot; undefined where it can't be had: another system than Linux, Deno without `--allow-all`. */
export function bootId(): Uint8Array | undefined {
  if (known === null) {
    known = undefined;
    try {
      if (!mayRead()) return undefined;
      const digits = fs.readFileSync(BOOT_ID_FILE, "latin1").replaceAll(/[^0-9a-f]/g, "");
      if (digits.length === 2 * BOOT_ID_BYTES) known = Uint8Array.from(digits.match(/../g) as string[], (pair) => Number.parseInt(pair, 16));
    } catch {
      // No such file, or a permission is missing: whether power was lost is not to be known then.
    }
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
