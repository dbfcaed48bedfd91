/**
 * Advisory locks on byte ranges of a file (fcntl(2), open file description locks): between processes, and between handles of one
 * process. The kernel releases them when the descriptor goes, however that happens.
 *
 * @module
 */
import { check, errno, MapError } from "./errors.ts";
import { native, sleep } from "./native/native.ts";
import { lockKinds } from "./native/symbols.ts";

/** How long a blocking wait for a lock lasts at most. */
export const LOCK_TIMEOUT_MS = 10_000;

/** A range of a file, and how it is to be locked. */
export interface LockRange {
  readonly fd: number;
  readonly offset: number;
  readonly length: number;
  readonly shared: boolean;
  /** For errors. */
  readonly path: string | undefined;
}

/** Takes the lock if it is free. */
export function tryLock({ fd, offset, length, shared, path }: LockRange): boolean {
  const result = native().hf_lock_range(fd, offset, length, shared ? lockKinds.SHARED : lockKinds.EXCLUSIVE);
  if (result === -errno.EAGAIN) return false;
  check(result, "fcntl", path);
  return true;
}

/** Takes the lock, blocking the thread for up to {@linkcode LOCK_TIMEOUT_MS}; then `ERR_LOCKED`. */
export function takeLock(range: LockRange): void {
  if (tryLock(range)) return;
  const end = performance.now() + LOCK_TIMEOUT_MS;
  do {
    if (performance.now() > end) throw lockedError(range);
    sleep(1);
  } while (!tryLock(range));
}

/** The error of a lock that could not be had in time. */
export function lockedError({ offset, length, path }: LockRange): MapError {
  return new MapError("ERR_LOCKED", `${length} bytes from offset ${offset} of '${path}' are locked by another for too long`, { path });
}

/** Gives the range free. */
export function unlock({ fd, offset, length }: Pick<LockRange, "fd" | "offset" | "length">): void {
  native().hf_lock_range(fd, offset, length, lockKinds.NONE);
}
