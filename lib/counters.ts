/**
 * Persistent counters that any number of processes change at once.
 *
 * @module
 */
import * as fs from "node:fs";
import { randomBytes } from "./builtins.ts";
import { Int64Atomics } from "./atomics.ts";
import { doom } from "./auto_unlink.ts";
import { boolean, checkInteger, checkOptions, checkPath, integer, oneOf, type OptionCheck } from "./checks.ts";
import { check, closedError, invalidType, nativeError, MapError, outOfRange, rangeError, readOnlyError } from "./errors.ts";
import { createWhole, Descriptor, fileSystem, openRegular, readUpTo, reserve, writeFully } from "./files.ts";
import {
  COUNT_OFFSET,
  decodeCount,
  decodeName,
  encodeCount,
  encodeName,
  ENTRY_BYTES,
  fileBytes,
  MAX_COUNT,
  MAX_NAME_BYTES,
  NAME_OFFSET,
  valueOffset,
} from "./layout/counters.ts";
import { crc32c, encodeHeader, readHeader } from "./layout/header.ts";
import { native } from "./native/native.ts";
import { codes, mapFlags, type NativeFunctions } from "./native/symbols.ts";
import { takeLock, unlock } from "./range_lock.ts";
import { Region } from "./region.ts";

/**
 * Options of {@linkcode Counters.open}.
 *
 * @example
 * ```ts
 * import { Counters, type CountersOptions } from "holdfast";
 * const options: CountersOptions = { count: 10, names: ["first"], permissions: 0o640, autoUnlink: true };
 * using counters = Counters.open("/tmp/example-options.counters", options);
 * counters.count; // 10
 * ```
 */
export interface CountersOptions {
  /** How many counters there shall be; more than the file has adds them at the end. Default: one for each name. */
  count?: number;
  /** Names of the first counters: up to 255 bytes of UTF-8 each, all different. */
  names?: readonly string[];
  /** "rw" (the default) or "r". */
  mode?: "r" | "rw";
  /** Access bits of a new file, before the umask. Default 0o600. */
  permissions?: number;
  /** Whether the file is removed when this handle is closed or collected, or the process exits. Not after a kill. */
  autoUnlink?: boolean;
}

/**
 * A counter: its index, or its name.
 *
 * @example
 * ```ts
 * import { type CounterKey, Counters } from "holdfast";
 * using counters = Counters.open("/tmp/example-keys.counters", { names: ["hits"] });
 * const keys: CounterKey[] = ["hits", 0];
 * keys.map((key) => counters.add(key)); // [0, 1]
 * ```
 */
export type CounterKey = number | string;

const encoder = new TextEncoder();

const names: OptionCheck<readonly string[]> = (option, value) => {
  if (!Array.isArray(value)) throw invalidType(option, "an array of strings", value);
  const seen = new Set<string>();
  // A copy, since forEach() leaves out the gaps of a sparse array.
  const list = [...(value as unknown[])];
  list.forEach((name, i) => {
    if (typeof name !== "string") throw invalidType(`${option}[${i}]`, "a string", name);
    if (name === "" || !name.isWellFormed() || encoder.encode(name).byteLength > MAX_NAME_BYTES) {
      throw outOfRange(`${option}[${i}]`, `well-formed text of 1 to ${MAX_NAME_BYTES} bytes in UTF-8`, name);
    }
    if (seen.has(name)) throw outOfRange(`${option}[${i}]`, "a name that is not in the list yet", name);
    seen.add(name);
  });
  return list as string[];
};

const OPEN_OPTIONS = {
  count: integer(1, MAX_COUNT),
  names,
  mode: oneOf("r", "rw"),
  permissions: integer(0, 0o7777),
  autoUnlink: boolean,
};

/** A file of counters that is ready to be used. */
interface Opened {
  readonly path: string;
  readonly file: Descriptor;
  readonly writable: boolean;
  /** CRC-32C of the file's id. */
  readonly salt: number;
  /** All of the file, as far as there are counters. */
  readonly region: Region;
  readonly count: number;
  readonly countWord: number;
}

/**
 * What the constructor's fields start with. By way of a variable, since a field that only its initializer sets is a constant for
 * JavaScriptCore, and one that a constructor sets is not: 0.7 ns of each add.
 */
const NOTHING = {} as Opened;
let opening = NOTHING;

// As a constant of this module: an imported one is loaded anew at each use in V8, 0.4 ns.
const FAILED: number = Number.MIN_SAFE_INTEGER;

/** How many counters have the short way; the table of their addresses takes 8 bytes each. */
const SHORT_WAY = 4096;

/** Addresses of the first counters' values. A table, since adding them up at each use costs V8 1 ns. */
function cellsOf(region: Region, count: number): number[] {
  const cells: number[] = [];
  for (let i = 0; i < Math.min(count, SHORT_WAY); i++) cells.push(region.address + valueOffset(i));
  return [...cells]; // an array that never grew: 0.3 ns faster in Bun
}

/**
 * 64-bit counters in a file, by index or by name. Each lies on a cache line of its own, so that processes that count
 * different things do not slow each other. Every change is one atomic operation on shared memory: it is visible to all
 * processes at once, none is lost when a process is killed, and it reaches storage when the kernel writes it back.
 *
 * Passing a `number` gives a `number`, passing a `bigint` gives a `bigint`; see {@linkcode Int64Atomics} for the range.
 *
 * @example
 * ```ts
 * import { Counters } from "holdfast";
 * using counters = Counters.open("/tmp/example.counters", { names: ["requests", "errors"] });
 * counters.add("requests");
 * counters.get("requests"); // 1
 * ```
 *
 * @example
 * ```ts
 * import { Counters } from "holdfast";
 * const counters = Counters.open("/tmp/example-all.counters", { names: ["hits", "flags"] });
 * counters.add(0, 10); // 0, the old value as with all of these
 * counters.sub("hits"); // 10
 * counters.set("hits", 5); // 9
 * counters.exchange("hits", 6n); // 5n
 * counters.compareExchange("hits", 6, 7); // 6
 * counters.or("flags", 0b110); // 0
 * counters.and("flags", 0b011); // 6
 * counters.xor("flags", 0b111); // 2
 * counters.getBigInt("flags"); // 5n
 * counters.declare("misses"); // [2]
 * counters.count; // 3
 * counters.names; // ["hits", "flags", "misses"]
 * [...counters.entries()]; // [["hits", 7], ["flags", 5], ["misses", 0]]
 * counters.snapshot(); // { hits: 7, flags: 5, misses: 0 }
 * counters.close();
 * console.log(counters.path, counters.closed);
 * ```
 */
export class Counters implements Disposable {
  /** The file's path as given. */
  readonly path: string = opening.path;
  readonly #file: Descriptor = opening.file;
  readonly #writable: boolean = opening.writable;
  /** CRC-32C of the file's id. */
  readonly #salt: number = opening.salt;
  #region: Region = opening.region;
  readonly #hf: NativeFunctions = native();
  /** Addresses of the first counters' values, for the short way of reading: none once closed. */
  readonly #loads: number[] = cellsOf(opening.region, opening.count);
  /** The same for changing: none in mode "r" either. */
  readonly #stores: number[] = opening.writable ? cellsOf(opening.region, opening.count) : [];
  #count: number = opening.count;
  /** The count word that `#count` was taken from. */
  #countWord: number = opening.countWord;
  readonly #names: (string | undefined)[] = [];
  readonly #indexes = new Map<string, number>();
  /** Where the cells are at present: it changes when the file grows. */
  readonly #host = {
    address: opening.region.address,
    byteLength: opening.region.byteLength,
    writable: opening.writable,
    what: "counters",
    path: opening.path,
    keeper: this,
  };
  readonly #cells = new Int64Atomics(this.#host);
  /** Removes the file, if the handle is to. */
  #unlink: (() => void) | undefined;

  private constructor() {
    this.#readNames(this.#count);
  }

  /**
   * Opens the counters at `path`; in mode "rw" a missing file is created with `count` counters or one for each of `names`.
   *
   * An existing file keeps its counters. Asking for more, by `count` or by names beyond the ones that it has, adds them, also
   * while other processes count. Asking for fewer, or for other names, is a `RangeError`.
   *
   * Errors: `MapError` `ENOENT` for a missing file without `count` and `names` or in mode "r"; `ERR_NOT_HOLDFAST`,
   * `ERR_VERSION`, `ERR_KIND`, `ERR_CORRUPT` for a file that is not one of counters, which is left as it is; system errors.
   */
  static open(path: string | URL, options?: CountersOptions): Counters {
    const file = checkPath("path", path);
    const given = checkOptions("Counters.open()", options, OPEN_OPTIONS);
    const { mode = "rw", permissions = 0o600, autoUnlink = false } = given;
    const wantedNames = given.names ?? [];
    const wanted = given.count ?? wantedNames.length;
    if (wanted < wantedNames.length) throw rangeError(`"count" ${wanted} is less than the ${wantedNames.length} names`);
    native();
    const opened = openOrCreate(file, mode, wanted, wantedNames, permissions);
    const descriptor = new Descriptor(opened);
    let region: Region | undefined;
    try {
      const salt = crc32c(readHeader(opened, "counters", file).id);
      const counted = readCount(opened, salt, file);
      region = mapCounters(opened, counted.count, mode === "rw", file);
      // Pairs with the release store of #append(): the entries below the count are whole. The read before promises no order.
      check(native().hf_load64(region.address + COUNT_OFFSET, 0), "load64", file);
      opening = { path: file, file: descriptor, writable: mode === "rw", salt, region, ...counted };
      const counters = new Counters();
      if (wanted > 0) counters.#require(wanted, wantedNames);
      // Last: a file that is not opened after all stays.
      if (autoUnlink) counters.#unlink = doom(file, opened, counters);
      return counters;
    } catch (error) {
      region?.release();
      descriptor.close();
      throw error;
    } finally {
      opening = NOTHING; // what it refers to could never be collected
    }
  }

  /** How many counters there are. */
  get count(): number {
    this.#refresh();
    return this.#count;
  }

  /** The counters' names by index; undefined for one without. */
  get names(): readonly (string | undefined)[] {
    this.#refresh();
    return [...this.#names];
  }

  /** Adds `delta`; returns the old value. */
  add(counter: CounterKey, delta?: number): number;
  /** As a bigint, for all 64 bits. */
  add(counter: CounterKey, delta: bigint): bigint;
  add(counter: CounterKey, delta?: number | bigint): number | bigint {
    // The short way: an index that exists, a number. What fails here has changed nothing, and the long way says what is wrong. Two conditions
    // and no default parameter: as one, or with one, it costs Bun 3.5 ns.
    if (typeof counter === "number") {
      const cell = this.#stores[counter];
      if (cell !== undefined) {
        const old = delta === undefined ? this.#hf.hf_add64(cell, 1) : typeof delta === "number" ? this.#hf.hf_add64(cell, delta) : NaN;
        if (old >= FAILED) return old;
      }
    }
    return this.#cells.add(this.#offset(counter), delta === undefined ? 1 : (delta as number));
  }

  /** Subtracts `delta`; returns the old value. */
  sub(counter: CounterKey, delta?: number): number;
  /** As a bigint, for all 64 bits. */
  sub(counter: CounterKey, delta: bigint): bigint;
  sub(counter: CounterKey, delta?: number | bigint): number | bigint {
    if (typeof counter === "number") {
      const cell = this.#stores[counter];
      if (cell !== undefined) {
        const old = delta === undefined ? this.#hf.hf_sub64(cell, 1) : typeof delta === "number" ? this.#hf.hf_sub64(cell, delta) : NaN;
        if (old >= FAILED) return old;
      }
    }
    return this.#cells.sub(this.#offset(counter), delta === undefined ? 1 : (delta as number));
  }

  /** Sets the value; returns the old value. */
  set(counter: CounterKey, value: number): number;
  /** As a bigint, for all 64 bits. */
  set(counter: CounterKey, value: bigint): bigint;
  set(counter: CounterKey, value: number | bigint): number | bigint {
    return this.#cells.exchange(this.#offset(counter), value as number);
  }

  /** Sets the value; returns the old value. The same as {@linkcode set}. */
  exchange(counter: CounterKey, value: number): number;
  /** As a bigint, for all 64 bits. */
  exchange(counter: CounterKey, value: bigint): bigint;
  exchange(counter: CounterKey, value: number | bigint): number | bigint {
    return this.#cells.exchange(this.#offset(counter), value as number);
  }

  /** Sets `replacement` if the value is `expected`; returns the value found. */
  compareExchange(counter: CounterKey, expected: number, replacement: number): number;
  /** As a bigint, for all 64 bits. */
  compareExchange(counter: CounterKey, expected: bigint, replacement: bigint): bigint;
  compareExchange(counter: CounterKey, expected: number | bigint, replacement: number | bigint): number | bigint {
    return this.#cells.compareExchange(this.#offset(counter), expected as number, replacement as number);
  }

  /** Bitwise and; returns the old value. */
  and(counter: CounterKey, operand: number): number;
  /** As a bigint, for all 64 bits. */
  and(counter: CounterKey, operand: bigint): bigint;
  and(counter: CounterKey, operand: number | bigint): number | bigint {
    return this.#cells.and(this.#offset(counter), operand as number);
  }

  /** Bitwise or; returns the old value. */
  or(counter: CounterKey, operand: number): number;
  /** As a bigint, for all 64 bits. */
  or(counter: CounterKey, operand: bigint): bigint;
  or(counter: CounterKey, operand: number | bigint): number | bigint {
    return this.#cells.or(this.#offset(counter), operand as number);
  }

  /** Bitwise exclusive or; returns the old value. */
  xor(counter: CounterKey, operand: number): number;
  /** As a bigint, for all 64 bits. */
  xor(counter: CounterKey, operand: bigint): bigint;
  xor(counter: CounterKey, operand: number | bigint): number | bigint {
    return this.#cells.xor(this.#offset(counter), operand as number);
  }

  /** The value. `RangeError` if it is no safe integer. */
  get(counter: CounterKey): number {
    if (typeof counter === "number") {
      const cell = this.#loads[counter];
      if (cell !== undefined) {
        const value = this.#hf.hf_load64(cell, 0);
        if (value >= FAILED) return value;
      }
    }
    return this.#cells.load(this.#offset(counter));
  }

  /** The value, all 64 bits. */
  getBigInt(counter: CounterKey): bigint {
    return this.#cells.loadBigInt(this.#offset(counter));
  }

  /** Each counter's name (its index where it has none) and value, in the order of the indexes. */
  entries(): IterableIterator<[counter: CounterKey, value: number]> {
    return this.#walk(this.count);
  }

  /**
   * All values by name (by index where there is none). Each value is read atomically, one after the other: counters that other
   * processes change meanwhile are not of one moment. A counter without a name hides one whose name is that index ("3"): {@linkcode entries}
   * has both.
   */
  snapshot(): Record<CounterKey, number> {
    return Object.fromEntries(this.entries());
  }

  /**
   * The indexes of the counters called `wanted`; those that do not exist yet are added, by whichever process is first. No other
   * process's counting is disturbed. `ERR_READ_ONLY` in mode "r".
   */
  declare(...wanted: string[]): number[] {
    names("names", wanted);
    this.#refresh();
    if (wanted.some((name) => !this.#indexes.has(name))) {
      this.#locked(() => {
        const missing = wanted.filter((name) => !this.#indexes.has(name));
        const first = this.#count;
        this.#append(first + missing.length, (index) => missing[index - first]);
      });
    }
    return wanted.map((name) => this.#indexes.get(name) as number);
  }

  /** Whether `close()` was called. */
  get closed(): boolean {
    return this.#file.fd < 0;
  }

  /** Ends the use of the counters. Closing again does nothing. */
  close(): void {
    this.#region.release();
    this.#host.byteLength = -1;
    this.#loads.length = 0;
    this.#stores.length = 0;
    this.#file.close();
    this.#unlink?.();
  }

  /** {@linkcode close}, at the end of a block with `using`. */
  [Symbol.dispose](): void {
    this.close();
  }

  *#walk(count: number): IterableIterator<[counter: CounterKey, value: number]> {
    for (let i = 0; i < count; i++) yield [this.#names[i] ?? i, this.get(i)];
  }

  #use(region: Region, count: number): void {
    this.#region.release();
    this.#region = region;
    this.#host.address = region.address;
    this.#host.byteLength = region.byteLength;
    for (const cells of this.#writable ? [this.#loads, this.#stores] : [this.#loads]) cells.splice(0, Infinity, ...cellsOf(region, count));
  }

  #offset(counter: CounterKey): number {
    if (typeof counter === "number" && counter >= 0 && counter < this.#count && Number.isInteger(counter)) return valueOffset(counter);
    return valueOffset(this.#find(counter));
  }

  /** The index of a counter that is given by name, or that may have been added since the last look. */
  #find(counter: CounterKey): number {
    if (typeof counter === "string") {
      const known = this.#indexes.get(counter);
      if (known !== undefined) return known;
      this.#refresh();
      const index = this.#indexes.get(counter);
      if (index !== undefined) return index;
      const list = [...this.#indexes.keys()].slice(0, 20).map((name) => JSON.stringify(name));
      throw outOfRange("counter", list.length === 0 ? "an index: no counter has a name" : `one of ${list.join(", ")}`, counter);
    }
    if (typeof counter !== "number") throw invalidType("counter", "an index or a name", counter);
    this.#refresh();
    return checkInteger("counter", counter, 0, this.#count - 1);
  }

  /** Takes in the counters that the file has by now. */
  #refresh(): void {
    if (this.closed) throw closedError("counters", this.path);
    // Pairs with the release store of #append(): the entries below the count are whole.
    const word = native().hf_load64(this.#region.address + COUNT_OFFSET, 0);
    if (word === this.#countWord) return;
    if (word === codes.FAULT) throw nativeError(word, "load64", this.path);
    const { fd } = this.#file;
    const count = checkCount(word, fd, this.#salt, this.path);
    if (count < this.#count) throw corrupt(this.path, `says that it has ${count} counters, and had ${this.#count}`);
    this.#readNames(count);
    this.#use(mapCounters(fd, count, this.#writable, this.path), count);
    this.#count = count;
    this.#countWord = word;
  }

  /** Takes in the names up to `count`, or none if one is damaged. */
  #readNames(count: number): void {
    const added: (string | undefined)[] = [];
    for (let i = this.#names.length; i < count; i++) {
      const field = readUpTo(this.#file.fd, valueOffset(i) + NAME_OFFSET, ENTRY_BYTES - NAME_OFFSET, this.path);
      added.push(decodeName(field, i, this.#salt, this.path));
    }
    for (const name of added) {
      if (name !== undefined) this.#indexes.set(name, this.#names.length);
      this.#names.push(name);
    }
  }

  /** Runs `change` as the only one that adds counters, with all that others added taken in. */
  #locked(change: () => void): void {
    if (!this.#writable) throw readOnlyError("counters", this.path);
    // The first byte stands for the right to add.
    const range = { fd: this.#file.fd, offset: 0, length: 1, shared: false, path: this.path };
    takeLock(range);
    try {
      this.#refresh();
      change();
    } finally {
      unlock(range);
    }
  }

  /** Adds counters, so that there are `count`; `nameOf` says what each is called. The caller holds the lock. */
  #append(count: number, nameOf: (index: number) => string | undefined): void {
    if (count === this.#count) return;
    const { fd } = this.#file;
    if (count > MAX_COUNT) throw rangeError(`${count} counters are more than the ${MAX_COUNT} that a file can have`);
    const { size } = fileSystem(this.path, () => fs.fstatSync(fd));
    if (size < fileBytes(this.#count)) {
      // By somebody else: nothing is built on that.
      throw new MapError("ERR_FAULT", `'${this.path}' is cut short: it has ${size} bytes, too few for its ${this.#count} counters`, { path: this.path });
    }
    reserve(fd, fileBytes(count), this.path);
    // Written whole: a process that died while adding may have left something behind the count.
    for (let i = this.#count; i < count; i++) writeFully(fd, encodeEntry(nameOf(i), i, this.#salt), valueOffset(i), this.path);
    // The publication: whoever reads this count finds the entries above. Pairs with the load in #refresh().
    check(native().hf_store64_release(this.#region.address + COUNT_OFFSET, encodeCount(count, this.#salt)), "store64_release", this.path);
    this.#refresh();
  }

  /** Sees to it that there are `count` counters whose first names are `wanted`. */
  #require(count: number, wanted: readonly string[]): void {
    const differ = (): void => {
      wanted.forEach((name, i) => {
        if (i < this.#count && this.#names[i] !== name) {
          const found = this.#names[i] === undefined ? "has no name" : `is called ${JSON.stringify(this.#names[i])}`;
          throw rangeError(`counter ${i} of '${this.path}' ${found}, not ${JSON.stringify(name)}: the names must be those of the file, with new ones behind`);
        }
      });
      if (count < this.#count) {
        throw rangeError(`'${this.path}' has ${this.#count} counters, more than the ${count} asked for; leave "count" and "names" out to take what there is`);
      }
    };
    differ();
    if (count === this.#count) return;
    this.#locked(() => {
      differ();
      this.#append(count, (index) => wanted[index]);
    });
  }
}

function encodeEntry(name: string | undefined, index: number, salt: number): Uint8Array {
  const bytes = new Uint8Array(ENTRY_BYTES);
  bytes.set(encodeName(encoder.encode(name ?? ""), index, salt), NAME_OFFSET);
  return bytes;
}

function mapCounters(fd: number, count: number, writable: boolean, path: string): Region {
  const flags = writable ? mapFlags.WRITE : 0;
  return new Region({ fd, offset: 0, byteLength: fileBytes(count), flags, writable, what: "counters", path });
}

function corrupt(path: string, text: string): MapError {
  return new MapError("ERR_CORRUPT", `'${path}' ${text}`, { path });
}

/** The count in the word, if the file is long enough for it. */
function checkCount(word: number, fd: number, salt: number, path: string): number {
  const count = decodeCount(word, salt);
  if (count === undefined) throw corrupt(path, "has a damaged count");
  const { size } = fileSystem(path, () => fs.fstatSync(fd));
  if (size < fileBytes(count)) throw corrupt(path, `says that it has ${count} counters, but has ${size} bytes`);
  return count;
}

/** The count word of an open file, and what it says. */
function readCount(fd: number, salt: number, path: string): { countWord: number; count: number } {
  const bytes = readUpTo(fd, COUNT_OFFSET, 8, path);
  if (bytes.byteLength < 8) throw corrupt(path, "is cut short: it ends before its count");
  const countWord = Number(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true));
  return { countWord, count: checkCount(countWord, fd, salt, path) };
}

/** A descriptor of the file, created whole if it is missing and may be. */
function openOrCreate(path: string, mode: "r" | "rw", count: number, wanted: readonly string[], permissions: number): number {
  for (let attempt = 0; ; attempt++) {
    try {
      return openRegular(path, mode).fd;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT" || mode === "r" || count === 0 || attempt === 3) throw error;
    }
    createWhole(path, fileBytes(count), permissions, (fd) => {
      const id = randomBytes(16);
      const salt = crc32c(id);
      writeFully(fd, encodeHeader({ kind: "counters", id, fields: [] }), 0, path);
      for (let i = 0; i < count; i++) writeFully(fd, encodeEntry(wanted[i], i, salt), valueOffset(i), path);
      const stored = new Uint8Array(8);
      new DataView(stored.buffer).setBigUint64(0, BigInt(encodeCount(count, salt)), true);
      writeFully(fd, stored, COUNT_OFFSET, path);
    });
  }
}
