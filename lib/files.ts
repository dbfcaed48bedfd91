/**
 * Opening, reserving and creating files, all through `node:fs`, so that the permission scopes of Deno and Node apply.
 *
 * @module
 */
import * as fs from "node:fs";
import { constants } from "node:os";
import { basename, dirname, join } from "node:path";
import { randomBytes } from "./builtins.ts";
import { check, errno, fromFileSystem, MapError, systemError } from "./errors.ts";
import { codes } from "./native/symbols.ts";
import { native } from "./native/native.ts";
import { takeLock, unlock } from "./range_lock.ts";

/** Runs a `node:fs` call about `path`; its errors become {@linkcode MapError}. */
export function fileSystem<T>(path: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw fromFileSystem(error, path);
  }
}

/** An open regular file. */
export interface OpenFile {
  readonly fd: number;
  readonly byteLength: number;
}

// A safety net for handles that are dropped without close(); never runs at exit, where the kernel closes everything.
const collected = new FinalizationRegistry<number>((fd) => fs.closeSync(fd));

/** A descriptor that belongs to one handle: closed with it, or when it is collected. */
export class Descriptor {
  /** -1 once closed, and for anonymous memory. */
  fd: number;
  #users = 0;
  #closing: number | undefined;

  constructor(fd: number) {
    this.fd = fd;
    if (fd >= 0) collected.register(this, fd, this);
  }

  /**
   * Runs an asynchronous operation on the descriptor, which stays open until it is over: its number could belong to another file
   * by then.
   */
  async use<T>(operation: (fd: number) => Promise<T>): Promise<T> {
    this.#users++;
    try {
      return await operation(this.fd);
    } finally {
      this.#users--;
      if (this.#users === 0 && this.#closing !== undefined) fs.closeSync(this.#closing);
    }
  }

  close(): void {
    if (this.fd < 0) return;
    collected.unregister(this);
    if (this.#users > 0) this.#closing = this.fd;
    else fs.closeSync(this.fd);
    this.fd = -1;
  }
}

/**
 * Opens a regular file for `mode`, with extra `O_…` flags. Anything else than a regular file is refused; O_NONBLOCK keeps the
 * open of a FIFO from waiting for its other end. Descriptors are close-on-exec in all three runtimes. Errors speak of `name`.
 */
export function openRegular(path: string, mode: "r" | "rw", flags = 0, permissions = 0o600, name: string = path): OpenFile {
  const access = mode === "r" ? fs.constants.O_RDONLY : fs.constants.O_RDWR;
  const fd = fileSystem(name, () => fs.openSync(path, access | fs.constants.O_NONBLOCK | flags, permissions));
  try {
    const stat = fileSystem(path, () => fs.fstatSync(fd));
    if (stat.isDirectory()) throw new MapError("EISDIR", `illegal operation on a directory, open '${path}'`, { syscall: "open", path });
    if (!stat.isFile()) throw new MapError("ENODEV", `not a regular file, open '${path}'`, { syscall: "open", path });
    return { fd, byteLength: stat.size };
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
}

const ZEROS = new Uint8Array(1 << 16);

/** A byte behind every file's end whose lock is the right to change the file's length. */
const GROWTH_OFFSET: number = 2 ** 52 - 1;

/**
 * Makes the file at least `byteLength` bytes long with all of its storage reserved, so that no later store through a mapping can
 * find the disk full. On failure the file is as long as before: processes that grow it at once take turns, so that none cuts off what
 * another has added.
 */
export function reserve(fd: number, byteLength: number, path: string): void {
  const turn = { fd, offset: GROWTH_OFFSET, length: 1, shared: false, path };
  takeLock(turn);
  try {
    const from = fileSystem(path, () => fs.fstatSync(fd)).size;
    if (byteLength > from) extend(fd, from, byteLength, path);
  } finally {
    unlock(turn);
  }
}

function extend(fd: number, from: number, byteLength: number, path: string): void {
  checkRoom(byteLength - from, path);
  try {
    const result = native().hf_reserve(fd, from, byteLength - from);
    if (result === -errno.EOPNOTSUPP || result === codes.UNSUPPORTED) writeZeros(fd, from, byteLength, path);
    else check(result, "fallocate", path);
  } catch (error) {
    fileSystem(path, () => fs.ftruncateSync(fd, from));
    throw error;
  }
}

/** From here on it is worth a look whether there is room at all. */
const LARGE_BYTES: number = 1 << 20;

/**
 * `ENOSPC` if a large reservation can't fit: some file systems (ext4) fill the disk to its last block before they say so, and everybody
 * else on it meets a full disk meanwhile.
 */
function checkRoom(bytes: number, path: string): void {
  if (bytes < LARGE_BYTES) return;
  let free: number;
  try {
    const { bavail, bsize } = fs.statfsSync(dirname(path));
    free = bavail * bsize;
  } catch {
    return; // not to be known, or not to be asked (a permission): fallocate(2) decides
  }
  if (bytes > free) throw systemError(-constants.errno.ENOSPC, "fallocate", path, `${bytes} bytes are needed, ${free} are free`);
}

/** Type of a tmpfs(5), whose pages are there once they are reserved. */
const TMPFS = 0x01021994;

/**
 * Has the first bytes of a file that is reserved and empty be in memory, written and not only reserved: ext4 takes 3 to 4 µs for the first store into
 * each page that is only reserved, and 0.2 µs a page for this (docs/decisions.md).
 */
export function fill(fd: number, byteLength: number, path: string): void {
  try {
    if (fs.statfsSync(dirname(path)).type === TMPFS) return;
  } catch {
    // Not to be known: it does no harm.
  }
  writeZeros(fd, 0, byteLength, path);
}

/** What fallocate(2) would do, on file systems without it. */
function writeZeros(fd: number, from: number, to: number, path: string): void {
  for (let offset = from; offset < to; ) {
    const length = Math.min(ZEROS.byteLength, to - offset);
    offset += fileSystem(path, () => fs.writeSync(fd, ZEROS, 0, length, offset));
  }
}

/** Writes all of `bytes` at `offset`. */
export function writeFully(fd: number, bytes: Uint8Array, offset: number, path: string): void {
  for (let done = 0; done < bytes.byteLength; ) {
    done += fileSystem(path, () => fs.writeSync(fd, bytes, done, bytes.byteLength - done, offset + done));
  }
}

/** Up to `length` bytes from `offset`; fewer at the end of the file. */
export function readUpTo(fd: number, offset: number, length: number, path: string): Uint8Array {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const count = fileSystem(path, () => fs.readSync(fd, bytes, done, length - done, offset + done));
    if (count === 0) break;
    done += count;
  }
  return bytes.subarray(0, done);
}

/**
 * Waits until storage has all of a file (fsync(2)). Past `node:fs`, whose call Node's permission model takes away even from files that may
 * be written.
 */
export function syncFile(fd: number, path: string): void {
  check(native().hf_sync_file(fd, 0), "fsync", path);
}

/** Makes the names in a directory durable (fsync(2) of the directory). */
export function syncDirectory(path: string): void {
  const fd = fileSystem(path, () => fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY));
  try {
    syncFile(fd, path);
  } finally {
    fs.closeSync(fd);
  }
}

/** Removes a file that may be gone already. */
export function unlink(path: string): void {
  try {
    // Not rmSync: in Node its errors other than the most common have no code.
    fs.unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw fromFileSystem(error, path);
  }
}

/** Removes what an operation that failed, or is through with it, leaves behind. If that fails as well, it is the operation's own error that counts. */
export function discard(path: string, options: { readonly recursive?: boolean } = {}): void {
  try {
    fs.rmSync(path, { ...options, force: true });
  } catch {
    // A later sweep may find it; nobody refers to it.
  }
}

/** A name beside `path` that nobody else uses. */
export function temporaryName(path: string): string {
  return join(dirname(path), `.${basename(path)}.${randomBytes(8).toString("hex")}.tmp`);
}

/**
 * Creates a file whose content is whole before its name exists: temporary name, reserved space, content, fsync, link,
 * fsync of the directory. False if another process created `path` first; its file is left alone.
 */
export function createWhole(
  path: string,
  byteLength: number,
  permissions: number,
  fill: (fd: number) => void,
): boolean {
  const temporary = temporaryName(path);
  const { fd } = openRegular(temporary, "rw", fs.constants.O_CREAT | fs.constants.O_EXCL, permissions, path);
  try {
    reserve(fd, byteLength, path);
    fill(fd);
    syncFile(fd, path);
    try {
      // Not rename(2): that would replace what another process created meanwhile.
      fs.linkSync(temporary, path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
      throw fromFileSystem(error, path);
    }
    syncDirectory(dirname(path));
    return true;
  } finally {
    fs.closeSync(fd);
    discard(temporary);
  }
}
