/** Proof that a file is as it was. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import * as fs from "node:fs";

/** All that matters of a file: its bytes, length, access bits and inode. */
export function fingerprint(path: string): string {
  const { ino, size, mode } = fs.statSync(path);
  return `inode ${ino}, ${size} bytes, mode ${mode.toString(8)}, ${createHash("sha256").update(fs.readFileSync(path)).digest("hex")}`;
}

/** Runs `call` and asserts that the file at `path` is as it was, and its folder has the same names. */
export function untouched(path: string, call: () => void): void {
  const folder = path.slice(0, path.lastIndexOf("/"));
  const before = { file: fingerprint(path), names: fs.readdirSync(folder) };
  call();
  assert.deepEqual({ file: fingerprint(path), names: fs.readdirSync(folder) }, before);
}
