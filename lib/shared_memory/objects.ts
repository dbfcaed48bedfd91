/**
 * Shared memory objects as files of /dev/shm, which is what shm_open(3) makes them too: names, creation, who has a right to an object, and
 * its removal.
 *
 * A right is a lock that the kernel takes back when its holder dies. Who takes a right, or gives one back and looks whether it was the
 * last, holds the object's gate meanwhile; so does everybody who removes the name. Hence, with the gate held: an object that nobody has a
 * right to stays so, and a name that stands for the object goes on to do so.
 *
 * An object is made whole under a temporary name, its owner's lock held from before there is anything in it, and then linked to its name.
 * Whatever a killed creator leaves has no owner, and so does not differ from what a killed owner leaves.
 *
 * @module
 */
import * as fs from "node:fs";
import { constants } from "node:os";
import { randomBytes } from "../builtins.ts";
import { check, errno, fromFileSystem, invalidType, MapError, outOfRange, systemError } from "../errors.ts";
import { discard, fileSystem, openRegular, readUpTo, reserve, writeFully } from "../files.ts";
import { crc32c, MAGIC } from "../layout/header.ts";
import {
  CONTENT,
  decodeStart,
  encodeStart,
  extentFor,
  type Lifetime,
  locks,
  MARK_BYTES,
  type ObjectState,
  seal,
  WORDS_END,
} from "../layout/shared_memory.ts";
import { native } from "../native/native.ts";
import { takeLock, tryLock, unlock } from "../range_lock.ts";

const DIRECTORY = "/dev/shm";
/** What macOS allows. */
const MAX_NAME_BYTES = 31;
/** Longer than a name can be, so that it is never one. */
const TEMPORARY = /^\.hf-[0-9a-f]{24}\.tmp$/;
/** How often something is tried that others can get in the way of. */
const ATTEMPTS = 10;

const encoder = new TextEncoder();

/** An object's name, without the "/" that POSIX puts before it. */
export function checkName(option: string, name: unknown): string {
  if (typeof name !== "string") throw invalidType(option, "a string", name);
  const bare = name.startsWith("/") ? name.slice(1) : name;
  const length = encoder.encode(bare).byteLength;
  const bad = length < 1 || length > MAX_NAME_BYTES || /[/\0]/.test(bare) || bare === "." || bare === ".." || !bare.isWellFormed();
  if (bad) throw outOfRange(option, `well-formed text of 1 to ${MAX_NAME_BYTES} bytes in UTF-8, without "/" (but for one before it) and NUL`, name);
  return bare;
}

/** The file of the object called `name`. `EOPNOTSUPP` where there is no /dev/shm to have it. */
export function pathOf(name: string): string {
  if (process.platform !== "linux") throw systemError(-errno.EOPNOTSUPP, "shm_open", name, "shared memory objects need Linux so far");
  return `${DIRECTORY}/${name}`;
}

function generateName(): string {
  return `hf-${randomBytes(12).toString("hex")}`;
}

/** Opens the file of an object. Symbolic links are refused, as shm_open(3) does. */
export function openFile(path: string, mode: "r" | "rw"): number {
  return openRegular(path, mode, fs.constants.O_NOFOLLOW).fd;
}

/** What the object says of itself. Others may be changing it: what does not hold is read again before it counts as damage. */
export function readState(fd: number, path: string): ObjectState {
  for (let attempt = 1; ; attempt++) {
    try {
      return decodeStart(readUpTo(fd, 0, WORDS_END, path), path);
    } catch (error) {
      if (!(error instanceof MapError) || error.code !== "ERR_CORRUPT" || attempt === 3) throw error;
    }
  }
}

type Right = "owner" | "retention";

/** Whether somebody else than this descriptor has a lock on the byte, says the kernel. */
function isHeld(fd: number, byte: number, path: string): boolean {
  return check(native().hf_lock_probe(fd, byte, 1), "fcntl", path) === 1;
}

function isUnclaimed(fd: number, path: string): boolean {
  return !isHeld(fd, locks.owner, path) && !isHeld(fd, locks.retention, path);
}

/** Whether the name stands for the open file. */
function hasName(fd: number, path: string): boolean {
  const named = fileSystem(path, () => fs.lstatSync(path, { throwIfNoEntry: false }));
  if (named === undefined) return false;
  const { dev, ino } = fileSystem(path, () => fs.fstatSync(fd));
  return named.dev === dev && named.ino === ino;
}

/** Removes the name if it stands for the open file, whose gate the caller holds. Whether it did. */
function removeName(fd: number, path: string): boolean {
  if (!hasName(fd, path)) return false;
  fileSystem(path, () => fs.unlinkSync(path));
  return true;
}

function gateOf(fd: number, path: string, shared = false): Parameters<typeof takeLock>[0] {
  return { fd, offset: locks.gate, length: 1, shared, path };
}

// Kept alive here: whoever has a right must give it back when the process ends, and a retention lasts until it is released.
const claims = new Set<Claim>();
let listening = false;

/**
 * A right to an object, and a descriptor of its own for the lock: a lock lasts as long as anything refers to its open file, and a mapping
 * does, for as long as there are views.
 */
export class Claim {
  readonly #path: string;
  readonly #right: Right;
  /** -1 once released. */
  #fd: number;

  /** The right's lock is held by `fd`, which belongs to the claim from now on. */
  constructor(right: Right, fd: number, path: string) {
    this.#right = right;
    this.#fd = fd;
    this.#path = path;
    claims.add(this);
    if (listening) return;
    listening = true;
    process.on("exit", () => {
      for (const claim of claims) claim.releaseQuietly();
    });
  }

  /** Makes the caller the owner of the open object, if it has none: `ERR_OWNED` if it has one, `ENOENT` if it has lost its name. */
  static adopt(object: number, path: string, setLifetime: (lifetime: Lifetime) => void): Claim {
    return withRightFile(object, path, "rw", (fd) =>
      atGate(fd, path, false, () => {
        requireName(object, path);
        requireName(fd, path);
        // Nobody but an owner takes this lock, so there is no need to wait.
        if (!tryLock({ fd, offset: locks.owner, length: 1, shared: false, path })) {
          throw new MapError("ERR_OWNED", `'${path}' has a living owner, which must close it before another handle can adopt it`, { path });
        }
        setLifetime("owned");
        return new Claim("owner", fd, path);
      }));
  }

  /** A retention of the open object: `ENOENT` if it has lost its name. */
  static retain(object: number, path: string): Claim {
    // For writing where that is allowed, since the last one removes the object.
    return withRightFile(object, path, "rw or r", (fd) =>
      // Shared: a reader can't lock otherwise, and retentions do not stand against each other.
      atGate(fd, path, true, () => {
        requireName(object, path);
        requireName(fd, path);
        takeLock({ fd, offset: locks.retention, length: 1, shared: true, path });
        return new Claim("retention", fd, path);
      }));
  }

  /** Gives the right back, and removes the object if that was the last one. */
  release(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    claims.delete(this);
    try {
      giveBack(fd, this.#path, this.#right);
    } finally {
      // Not left to the close: a child process that is being started may have the open file, too, for a moment.
      unlock({ fd, offset: 0, length: LOCK_BYTES });
      fs.closeSync(fd);
    }
  }

  /** The same where nobody could be told of a failure. What is left is for `reap()`. */
  releaseQuietly(): void {
    try {
      this.release();
    } catch {
      // see above
    }
  }
}

const LOCK_BYTES: number = Object.keys(locks).length;

function giveBack(fd: number, path: string, right: Right): void {
  if (!takeGate(fd, path)) return;
  // The gate is held until all of the descriptor's locks go.
  unlock({ fd, offset: locks[right], length: 1 });
  if (!isUnclaimed(fd, path)) return;
  // The owner's object goes with it whatever its bytes say; others go by them.
  if (right === "owner" || readState(fd, path).lifetime === "owned") removeName(fd, path);
}

/** False where the object has to be left to reap(). */
function takeGate(fd: number, path: string): boolean {
  try {
    takeLock(gateOf(fd, path));
    return true;
  } catch (error) {
    // Somebody was stopped at the gate, and may be for long; or the descriptor is one for reading, that of somebody who may not remove it.
    if (error instanceof MapError && (error.code === "ERR_LOCKED" || error.code === "EBADF")) return false;
    throw error;
  }
}

function atGate<T>(fd: number, path: string, shared: boolean, action: () => T): T {
  const gate = gateOf(fd, path, shared);
  takeLock(gate);
  try {
    return action();
  } finally {
    unlock(gate);
  }
}

function lostName(path: string): MapError {
  return systemError(-constants.errno.ENOENT, "shm_open", path, "the object was removed while it was open");
}

function requireName(fd: number, path: string): void {
  if (!hasName(fd, path)) throw lostName(path);
}

/** Gives `use` a new descriptor of the open object, which is closed if it throws. */
function withRightFile(object: number, path: string, mode: "rw" | "rw or r", use: (fd: number) => Claim): Claim {
  requireName(object, path);
  let fd: number;
  try {
    fd = openFile(path, "rw");
  } catch (error) {
    if ((error as MapError).code === "ENOENT") throw lostName(path);
    if (mode === "rw") throw error;
    fd = openFile(path, "r");
  }
  try {
    return use(fd);
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
}

/** Removes the open object's name, if it still stands for it. Whether it did. */
export function unlinkOpen(fd: number, path: string): boolean {
  return atGate(fd, path, false, () => removeName(fd, path));
}

/** What a new object is to be. */
export interface ObjectPlan {
  /** Undefined: one is generated. */
  readonly name: string | undefined;
  readonly size: number;
  /** At least the size. */
  readonly capacity: number;
  readonly permissions: number;
  readonly lifetime: Lifetime;
  /** Writes the content to `fd` at `offset`. */
  readonly fill: (fd: number, offset: number, path: string) => void;
}

/** A new object: a descriptor of it, and the owner's claim if its lifetime is "owned". */
export interface NewObject {
  readonly name: string;
  readonly fd: number;
  readonly claim: Claim | undefined;
}

/** Makes an object. `EEXIST` if there is one of that name; `ENOSPC`. */
export function createObject(plan: ObjectPlan): NewObject {
  for (let attempt = 1; ; attempt++) {
    const name = plan.name ?? generateName();
    const path = pathOf(name);
    try {
      return { name, ...createAt(path, plan) };
    } catch (error) {
      const { code } = error as MapError;
      // Its temporary name was reaped in the moment before its lock was taken; or the generated name is another's.
      const again = code === TAKEN_AWAY || (code === "EEXIST" && plan.name === undefined);
      if (!again || attempt === ATTEMPTS) throw error;
    }
  }
}

const TAKEN_AWAY = "ERR_TAKEN_AWAY";

function createAt(path: string, plan: ObjectPlan): Omit<NewObject, "name"> {
  const temporary = `${DIRECTORY}/.hf-${randomBytes(12).toString("hex")}.tmp`;
  const flags = fs.constants.O_CREAT | fs.constants.O_EXCL | fs.constants.O_NOFOLLOW;
  const right = openRegular(temporary, "rw", flags, plan.permissions, path).fd;
  let fd: number | undefined;
  try {
    const owner = { fd: right, offset: locks.owner, length: 1, shared: false, path };
    takeLock(owner);
    fd = reopen(temporary, path);
    const extent = extentFor(plan.capacity);
    reserve(fd, extent, path);
    const id = randomBytes(16);
    writeFully(fd, encodeStart(id, { ...plan, extent }), 0, path);
    plan.fill(fd, CONTENT, path);
    writeFully(fd, seal(extent, crc32c(id)), extent - MARK_BYTES, path);
    link(temporary, path);
    discard(temporary);
    if (plan.lifetime === "owned") return { fd, claim: new Claim("owner", right, path) };
    unlock(owner);
    fs.closeSync(right);
    return { fd, claim: undefined };
  } catch (error) {
    discard(temporary);
    if (fd !== undefined) fs.closeSync(fd);
    fs.closeSync(right);
    throw error;
  }
}

/** A second descriptor of a file that was just made; another than a copy, which would share the locks. */
function reopen(temporary: string, path: string): number {
  try {
    return openFile(temporary, "rw");
  } catch (error) {
    const { code } = error as MapError;
    if (code === "ENOENT") throw takenAway(path);
    throw systemError(-constants.errno.EACCES, "shm_open", path, `${code}: "permissions" and the umask must let the owner read and write`);
  }
}

function takenAway(path: string): MapError {
  return new MapError(TAKEN_AWAY, `'${path}' could not be created: it was removed before it had its name`, { path });
}

function link(temporary: string, path: string): void {
  try {
    // Not rename(2): that would replace what another process created meanwhile.
    fs.linkSync(temporary, path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") throw takenAway(path);
    if (code !== "EEXIST") throw fromFileSystem(error, path);
    throw systemError(-constants.errno.EEXIST, "shm_open", path, "SharedMemory.reap() removes it if its owner was killed");
  }
}

/** Removes the name, whatever stands behind it, as shm_unlink(3) does. */
export function unlinkObject(path: string): void {
  const missing = (): MapError => systemError(-constants.errno.ENOENT, "shm_unlink", path);
  let fd: number;
  try {
    fd = openFile(path, "rw");
  } catch (error) {
    if ((error as MapError).code === "ENOENT") throw missing();
    // What can't be opened may still be removed; only without the gate.
    return fileSystem(path, () => fs.unlinkSync(path));
  }
  try {
    if (!unlinkOpen(fd, path)) throw missing(); // another was faster
  } finally {
    fs.closeSync(fd);
  }
}

/**
 * A shared memory object as {@linkcode SharedMemory.list} shows it.
 *
 * @example
 * ```ts
 * import { SharedMemory, type SharedMemoryEntry } from "holdfast";
 * using shared = SharedMemory.from("hello");
 * const own: SharedMemoryEntry | undefined = SharedMemory.list().find(({ name }) => name === shared.name);
 * console.log(own?.size, own?.owned, own?.persistent); // 5 true false
 * ```
 */
export interface SharedMemoryEntry {
  /** Its name; that of an unfinished one can't be opened. */
  readonly name: string;
  /** Bytes of content; 0 where that is not known. */
  readonly size: number;
  /** Bytes that the content may have; 0 where that is not known. */
  readonly capacity: number;
  /** Whether its owner, or the creator of an unfinished one, lives. */
  readonly owned: boolean;
  /** Whether a retention of it lives. */
  readonly retained: boolean;
  /** Whether it stays without an owner. */
  readonly persistent: boolean;
  /** Whether it has no name of its own yet: it is being made, or its creator was killed meanwhile. */
  readonly unfinished: boolean;
  /** Why it can't be opened. `reap()` leaves a damaged object alone. */
  readonly error?: MapError;
}

/** Runs `look` for each file that is an object of this library, or is about to be one. Files that can't be opened are left out. */
function forEachObject(mode: "r" | "rw", look: (name: string, path: string, fd: number) => void): void {
  for (const name of fileSystem(DIRECTORY, () => fs.readdirSync(pathOf("")))) {
    const path = pathOf(name);
    let fd: number;
    try {
      fd = openFile(path, mode);
    } catch (error) {
      if (error instanceof MapError) continue; // gone, another user's, no regular file
      throw error;
    }
    try {
      const start = readUpTo(fd, 0, MAGIC.length, path);
      if (TEMPORARY.test(name) || MAGIC.every((byte, i) => start[i] === byte)) look(name, path, fd);
    } finally {
      fs.closeSync(fd);
    }
  }
}

/** The objects of this library. */
export function listObjects(): SharedMemoryEntry[] {
  const entries: SharedMemoryEntry[] = [];
  forEachObject("r", (name, path, fd) => {
    const unfinished = TEMPORARY.test(name);
    const rights = { owned: isHeld(fd, locks.owner, path), retained: isHeld(fd, locks.retention, path) };
    try {
      const { size, capacity, lifetime } = unfinished ? { size: 0, capacity: 0, lifetime: "owned" } : readState(fd, path);
      entries.push({ name, size, capacity, ...rights, persistent: lifetime === "persistent", unfinished });
    } catch (error) {
      if (!(error instanceof MapError)) throw error;
      if (error.code === "ERR_KIND") return; // a queue or counters that somebody keeps there
      entries.push({ name, size: 0, capacity: 0, ...rights, persistent: false, unfinished, error });
    }
  });
  return entries;
}

/** Removes the objects that nobody has a right to any more; returns their names. */
export function reapObjects(): string[] {
  const reaped: string[] = [];
  forEachObject("rw", (name, path, fd) => {
    if (!TEMPORARY.test(name)) {
      try {
        if (readState(fd, path).lifetime !== "owned") return;
      } catch {
        return; // damaged, or a file of another kind
      }
    }
    // Whoever is at the gate lives, and will see to the object.
    if (!tryLock(gateOf(fd, path)) || !isUnclaimed(fd, path)) return;
    // It may have been adopted and let go between the look at its lifetime and the gate, but that changes nothing: it stays "owned".
    try {
      if (removeName(fd, path)) reaped.push(name);
    } catch (error) {
      if (!(error instanceof MapError)) throw error; // another user's
    }
  });
  return reaped;
}

