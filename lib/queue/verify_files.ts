/**
 * The files of a queue as the independent reader sees them (verify.ts): `node:fs` and docs/format.md, nothing of the code that writes queues.
 *
 * @module
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { fromFileSystem, MapError } from "../errors.ts";

// The numbers of docs/format.md, written down a second time on purpose.
const HEADER_BYTES = 128;
/** A cell pair with its version. */
const CELLS_BYTES = 384;
export const FORMAT_VERSION = 1;
const KIND_QUEUE = 2;
const KIND_SEGMENT = 3;
const KIND_GROUP = 7;
export const PRODUCER_LOCK = 1024;
export const PRODUCER_CELLS = 1152;
const PRODUCER_WORDS = 6;
export const MARKS = 256;
export const MARK_BYTES = 128;
const MARK_OVERHEAD = 16;
export const DURABLE_CELLS = 1664;
const DURABLE_WORDS = 5;
export const CONSUMER_LOCK = 2048;
export const CONSUMER_CELLS = 2176;
const CONSUMER_WORDS = 10;
const GROUP_WORDS = 12;
export const NEXT_SEGMENT = 3072;
export const SPARES = 3200;
export const MOST_SPARES = 16;
export const SLOTS = 4096;
export const SLOT_BYTES = 64;
export const SLOT_COUNT = 1024;
export const LEASES: number = SLOTS + SLOT_COUNT * SLOT_BYTES;
export const LEASE_BYTES = 64;
export const LEASE_COUNT = 4096;
export const CONTROL_BYTES: number = LEASES + LEASE_COUNT * LEASE_BYTES;
/** In a group's file; its consumer lock and cells lie where the control file has them. */
export const GROUP_LEASES = 4096;
export const GROUP_BYTES: number = GROUP_LEASES + LEASE_COUNT * LEASE_BYTES;
export const FIRST_RECORD = 256;
export const RECORD_OVERHEAD = 32;
export const MAX_WORD: bigint = 2n ** 53n - 1n;
export const ATTEMPTS: number = 2 ** 21;

// CRC-32C eight bytes at a time: TABLES[k * 256 + b] is the checksum of byte b with k zero bytes behind it.
const TABLES: Int32Array = makeTables();

function makeTables(): Int32Array {
  const tables = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) === 0 ? 0 : 0x82f63b78);
    tables[byte] = crc;
  }
  for (let i = 256; i < 8 * 256; i++) {
    const before = tables[i - 256] as number;
    tables[i] = (before >>> 8) ^ (tables[before & 255] as number);
  }
  return tables;
}

/** CRC-32C of 32-bit words `from..to` of `words`, continued from `seed`. */
function crcOfWords(words: Uint32Array, from: number, to: number, seed: number): number {
  const t = TABLES;
  let crc = ~seed;
  let i = from;
  if ((to - from) & 1) {
    const a = (words[i++] as number) ^ crc;
    crc = (t[768 + (a & 255)] as number) ^ (t[512 + ((a >>> 8) & 255)] as number) ^ (t[256 + ((a >>> 16) & 255)] as number) ^ (t[a >>> 24] as number);
  }
  for (; i < to; i += 2) {
    const a = (words[i] as number) ^ crc;
    const b = words[i + 1] as number;
    crc = (t[1792 + (a & 255)] as number) ^ (t[1536 + ((a >>> 8) & 255)] as number) ^ (t[1280 + ((a >>> 16) & 255)] as number) ^
      (t[1024 + (a >>> 24)] as number) ^ (t[768 + (b & 255)] as number) ^ (t[512 + ((b >>> 8) & 255)] as number) ^
      (t[256 + ((b >>> 16) & 255)] as number) ^ (t[b >>> 24] as number);
  }
  return ~crc >>> 0;
}

/** CRC-32C of bytes. Their number is a multiple of 4. */
export function crc32c(bytes: Uint8Array, seed = 0): number {
  const copy = bytes.slice();
  return crcOfWords(new Uint32Array(copy.buffer, 0, copy.byteLength / 4), 0, copy.byteLength / 4, seed);
}

const word = new Uint32Array(2);

/** CRC-32C of a number as eight bytes. */
export function crcOfNumber(value: number, seed: number): number {
  word[0] = value;
  word[1] = Math.floor(value / 2 ** 32);
  return crcOfWords(word, 0, 2, seed);
}

/** CRC-32C of any number of bytes. */
export function crcOfBytes(bytes: Uint8Array, seed: number): number {
  let crc = ~seed;
  for (const byte of bytes) crc = (crc >>> 8) ^ (TABLES[(crc ^ byte) & 255] as number);
  return ~crc >>> 0;
}

/** The value of a sealed word; undefined if its seal does not hold. */
function unsealed(sealed: bigint, salt: number): number | undefined {
  const value = Number(sealed & 0xffff_ffff_ffffn);
  return Number(sealed >> 48n) === (crcOfNumber(value, salt) & 0xffff) ? value : undefined;
}

/** The checksum of the record in 32-bit words `from..to`, at a position of a queue. */
export function recordChecksum(words: Uint32Array, from: number, to: number, salt: number, position: number): number {
  return crcOfWords(words, from + 1, to, crcOfNumber(position, salt));
}

/** A file's header, as far as it holds. */
export interface RawHeader {
  /** The error that opening has for it; undefined if it is whole. */
  readonly error: MapError | undefined;
  /** Whether the checksum holds. */
  readonly whole: boolean;
  readonly version: number;
  readonly kind: number;
  readonly id: Uint8Array;
  readonly fields: readonly bigint[];
}

const MAGIC = "48465354 0d0a1a00".replace(" ", "");
const KIND_NAMES: Readonly<Record<number, string>> = { [KIND_QUEUE]: "queue", [KIND_SEGMENT]: "segment", [KIND_GROUP]: "group" };

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function readHeader(bytes: Uint8Array, kind: number, path: string): RawHeader {
  const padded = new Uint8Array(HEADER_BYTES);
  padded.set(bytes.subarray(0, HEADER_BYTES));
  const view = new DataView(padded.buffer);
  const version = view.getUint32(8, true);
  const found = view.getUint32(12, true);
  const magic = hex(padded.subarray(0, 8)) === MAGIC;
  const whole = magic && bytes.byteLength >= HEADER_BYTES && view.getUint32(124, true) === crc32c(padded.subarray(0, 124));
  const refuse = (code: string, text: string): MapError => new MapError(code, `'${path}' ${text}`, { path });
  let error: MapError | undefined;
  if (bytes.byteLength === 0) error = refuse("ERR_NOT_HOLDFAST", "is empty, not a file of holdfast");
  else if (!magic) error = refuse("ERR_NOT_HOLDFAST", padded.every((byte) => byte === 0) ? "starts with zeros, not with holdfast's header" : "is a file of something else, not of holdfast");
  else if (bytes.byteLength < HEADER_BYTES) error = refuse("ERR_CORRUPT", `is cut short: ${bytes.byteLength} bytes, a header has ${HEADER_BYTES}`);
  else if (version > FORMAT_VERSION) error = refuse("ERR_VERSION", `has format version ${version}; this version of holdfast reads up to ${FORMAT_VERSION}, update it`);
  else if (!whole) error = refuse("ERR_CORRUPT", "has a damaged header: its checksum does not hold");
  else if (version === 0 || view.getUint32(16, true) !== 0x0a0b0c0d || view.getUint32(20, true) !== HEADER_BYTES) error = refuse("ERR_CORRUPT", "has a header that no version of holdfast wrote");
  else if (found !== kind) error = refuse("ERR_KIND", `is a file of another kind (${found}), not a ${KIND_NAMES[kind]}`);
  const fields = Array.from({ length: 10 }, (_, i) => view.getBigUint64(40 + 8 * i, true));
  return { error, whole, version, kind: found, id: padded.slice(24, 40), fields };
}

function system<T>(path: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw fromFileSystem(error, path);
  }
}

function readAt(fd: number, target: Uint8Array, offset: number, path: string): number {
  let done = 0;
  while (done < target.byteLength) {
    const count = system(path, () => fs.readSync(fd, target, done, target.byteLength - done, offset + done));
    if (count === 0) break;
    done += count;
  }
  return done;
}

/** The words of a producer or consumer cell. */
export type Cell = readonly number[];

export interface ReadCell {
  /** The words of the current cell; undefined if version word or cell do not hold. */
  readonly current: Cell | undefined;
  /** If they do not: those of the commit before, if that is known for sure. */
  readonly before: Cell | undefined;
  /** What is wrong. */
  readonly reason: string;
  /** Whether the cell that is not current holds too; if not, a writer died while it wrote it, or the bytes are damaged. */
  readonly bothWhole: boolean;
  /** The highest sequence that either cell has. */
  readonly sequence: number;
  /** The pair as it was read. */
  readonly bytes: Uint8Array;
}

function readCell(view: DataView, offset: number, count: number, salt: number): ReadCell {
  const bytes = new Uint8Array(view.buffer, view.byteOffset + offset, CELLS_BYTES);
  const versionWord = view.getBigUint64(offset, true);
  const version = versionWord & 0xffff_ffff_ffffn;
  const versionHolds = Number(versionWord >> 48n) === (crcOfNumber(Number(version), salt) & 0xffff);
  const cells = [0, 1].map((index) => {
    const at = offset + 128 + 128 * index;
    const words = new Uint32Array(2 * (count + 1));
    for (let i = 0; i < 2 * count; i++) words[i] = view.getUint32(at + 4 * i, true);
    words[2 * count] = view.getUint32(at + 112, true);
    words[2 * count + 1] = view.getUint32(at + 116, true);
    const own = view.getBigUint64(at + 112, true);
    if (view.getUint32(at + 120, true) !== crcOfWords(words, 0, words.length, salt) || Number(own & 1n) !== index) return undefined;
    const values = Array.from({ length: count }, (_, i) => view.getBigUint64(at + 8 * i, true));
    if (values.some((value) => value > MAX_WORD)) return undefined;
    return { version: own, values: values.map(Number) };
  });
  const bothWhole = cells[0] !== undefined && cells[1] !== undefined;
  const sequence = Math.max(0, ...cells.map((cell) => cell?.values[3] ?? 0));
  const chosen = cells[Number(version & 1n)];
  const other = cells[1 - Number(version & 1n)];
  if (versionHolds && chosen?.version === version) return { current: chosen.values, before: undefined, reason: "", bothWhole, sequence, bytes };
  let before: Cell | undefined;
  if (versionHolds && other?.version === version - 1n) before = other.values;
  // Without the version word the newer of two may be one that was never committed; the older one was for sure.
  if (!versionHolds && cells[0] !== undefined && cells[1] !== undefined) before = (cells[0].version < cells[1].version ? cells[0] : cells[1]).values;
  return { current: undefined, before, reason: versionHolds ? "the checksum of the current cell does not hold" : "the version word is damaged", bothWhole, sequence, bytes };
}

/** A mark, and the low half of the sequence of the first record that it does not speak for. */
export interface Mark {
  readonly bytes: Uint8Array;
  readonly sequence: number;
}

/** The mark of a number, undefined if it does not hold. */
export function readMark(view: DataView, number: number, salt: number): Mark | undefined {
  const at = MARKS + MARK_BYTES * (number % 2);
  const words = new Uint32Array(MARK_BYTES / 4);
  for (let i = 0; i < words.length; i++) words[i] = view.getUint32(at + 4 * i, true);
  const length = words[2] as number;
  if (words[1] !== MARK_BYTES || length > MARK_BYTES - MARK_OVERHEAD || words[0] !== recordChecksum(words, 0, words.length, salt, number)) return undefined;
  return { bytes: new Uint8Array(view.buffer, at + MARK_OVERHEAD, length).slice(), sequence: words[3] as number };
}

/** An entry of the lease table whose record is still in the queue. */
export interface RawLease {
  readonly index: number;
  readonly sequence: number;
  readonly attempts: number;
  readonly position: number;
  readonly segment: number;
  readonly offset: number;
  readonly bytes: number;
}

/** What the control file says at one moment. */
export interface ControlState {
  readonly header: RawHeader;
  /** Length of the file; -1 if there is none. */
  readonly size: number;
  readonly view: DataView;
  readonly producer: ReadCell;
  readonly consumer: ReadCell;
  readonly durable: ReadCell;
  /** Nobody was in the middle of a change of the consumer side while it was read. */
  readonly settled: boolean;
}

export class ControlFile {
  readonly path: string;
  readonly fd: number;

  constructor(path: string) {
    this.path = path;
    this.fd = openFile(path);
  }

  /** The header, as far as it is there. */
  header(): RawHeader {
    const bytes = new Uint8Array(HEADER_BYTES);
    return readHeader(bytes.subarray(0, this.fd < 0 ? 0 : readAt(this.fd, bytes, 0, this.path)), KIND_QUEUE, this.path);
  }

  /** All of the file, as it was at one moment as far as {@linkcode whole} can say. */
  read(salt: number): ControlState {
    return whole(
      () => this.#readOnce(salt),
      ({ producer, consumer, durable }) => [producer, consumer, durable],
    );
  }

  /** The producer side as it is now. */
  producer(salt: number): ReadCell {
    return whole(() => ({ producer: readCell(this.#again(new Uint8Array(PRODUCER_CELLS + CELLS_BYTES)), PRODUCER_CELLS, PRODUCER_WORDS, salt), settled: true }), ({ producer }) => [producer]).producer;
  }

  /** Whether the name stands for another file by now: the queue was recovered. */
  get replaced(): boolean {
    if (this.fd < 0) return fs.existsSync(this.path);
    const own = fs.fstatSync(this.fd);
    const there = fs.statSync(this.path, { throwIfNoEntry: false });
    return there?.ino !== own.ino || there.dev !== own.dev;
  }

  #readOnce(salt: number): ControlState {
    const bytes = new Uint8Array(CONTROL_BYTES);
    const size = this.fd < 0 ? -1 : system(this.path, () => fs.fstatSync(this.fd)).size;
    const { has, settled } = readSide(this.fd, bytes, this.path);
    const view = new DataView(bytes.buffer);
    // Once more, after the others: neither the cursor nor the mark of what is on storage is ahead of this tail.
    const producer = this.#again(bytes.slice(0, PRODUCER_CELLS + CELLS_BYTES));
    return {
      header: readHeader(bytes.subarray(0, Math.min(has, HEADER_BYTES)), KIND_QUEUE, this.path),
      size,
      view,
      producer: readCell(producer, PRODUCER_CELLS, PRODUCER_WORDS, salt),
      consumer: readCell(view, CONSUMER_CELLS, CONSUMER_WORDS, salt),
      durable: readCell(view, DURABLE_CELLS, DURABLE_WORDS, salt),
      settled,
    };
  }

  /** What the file has now, as many bytes of it. */
  #again(bytes: Uint8Array): DataView {
    if (this.fd >= 0) readAt(this.fd, bytes, 0, this.path);
    return new DataView(bytes.buffer);
  }

  close(): void {
    if (this.fd >= 0) fs.closeSync(this.fd);
  }
}

/** What a group's file says at one moment. */
export interface GroupState {
  readonly header: RawHeader;
  readonly size: number;
  readonly view: DataView;
  readonly consumer: ReadCell;
  /** As that of the control file. */
  readonly settled: boolean;
}

/** A group's file, by its name in the directory. */
export class GroupFile {
  /** The file's name. */
  readonly name: string;
  /** The group's. */
  readonly group: string;
  /** How often the log had been rebuilt when the file was made. */
  readonly rebuilt: number;
  readonly path: string;

  constructor(directory: string, name: string, group: string, rebuilt: number) {
    this.name = name;
    this.group = group;
    this.rebuilt = rebuilt;
    this.path = join(directory, name);
  }

  /** All of the file now. `queueSalt`: that of the queue. */
  read(queueSalt: number): GroupState {
    const salt = this.salt(queueSalt);
    const fd = openFile(this.path);
    try {
      return whole(() => this.#readOnce(fd, salt), ({ consumer }) => [consumer]);
    } finally {
      if (fd >= 0) fs.closeSync(fd);
    }
  }

  /** Seed of the file's checksums. */
  salt(queueSalt: number): number {
    return crcOfBytes(new TextEncoder().encode(this.group), queueSalt);
  }

  /** Whether the header says that it is this group's file, of the queue with this id. */
  isGroup(header: RawHeader, id: Uint8Array): boolean {
    const bytes = new TextEncoder().encode(this.group);
    const [leases, length, checksum] = header.fields.map(Number);
    return header.error === undefined && isSame(header.id, id) && leases === LEASE_COUNT && length === bytes.byteLength && checksum === crcOfBytes(bytes, 0);
  }

  #readOnce(fd: number, salt: number): GroupState {
    const bytes = new Uint8Array(GROUP_BYTES);
    const size = fd < 0 ? -1 : system(this.path, () => fs.fstatSync(fd)).size;
    const { has, settled } = readSide(fd, bytes, this.path);
    const view = new DataView(bytes.buffer);
    return {
      header: readHeader(bytes.subarray(0, Math.min(has, HEADER_BYTES)), KIND_GROUP, this.path),
      size,
      view,
      consumer: readCell(view, CONSUMER_CELLS, GROUP_WORDS, salt),
      settled,
    };
  }
}

/** The group's file of a name in the directory; undefined for another name. */
export function groupFileOf(directory: string, name: string): GroupFile | undefined {
  const [, digits, rebuilt = "0"] = /^group-((?:[0-9a-f]{2}){1,100})(?:\.([1-9][0-9]{0,14}))?$/.exec(name) ?? [];
  if (digits === undefined) return undefined;
  try {
    const bytes = Uint8Array.from(digits.match(/../g) as string[], (pair) => Number.parseInt(pair, 16));
    return new GroupFile(directory, name, new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes), Number(rebuilt));
  } catch {
    return undefined; // no UTF-8
  }
}

/** Whether two ids are the same. */
export function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.every((byte, i) => byte === b[i]);
}

/**
 * A look at cells that others may change while they are read: what does not hold is read again, until it holds or stays the same; and for a while
 * until nobody is in the middle of a change.
 */
function whole<State extends { readonly settled: boolean }>(once: () => State, cells: (state: State) => readonly ReadCell[]): State {
  let last = "";
  for (let round = 0; ; round++) {
    const state = once();
    const looked = cells(state);
    if (looked.every((cell) => cell.current !== undefined) && (state.settled || round >= 20)) return state;
    const now = looked.map(({ bytes }) => hex(bytes)).join();
    if ((now === last && round >= 3) || round >= 1000) return state;
    last = now;
  }
}

/**
 * Reads a file with a consumer side into `bytes`. `settled`: nobody was at work there, since the lock was nobody's and the version the same
 * before and after the lease table was read.
 */
function readSide(fd: number, bytes: Uint8Array, path: string): { has: number; settled: boolean } {
  if (fd < 0) return { has: 0, settled: true };
  const has = readAt(fd, bytes, 0, path);
  const view = new DataView(bytes.buffer);
  const again = new Uint8Array(CONSUMER_CELLS + 8 - CONSUMER_LOCK);
  readAt(fd, again, CONSUMER_LOCK, path);
  const later = new DataView(again.buffer);
  const free = view.getBigUint64(CONSUMER_LOCK, true) === 0n && later.getBigUint64(0, true) === 0n;
  return { has, settled: free && later.getBigUint64(again.byteLength - 8, true) === view.getBigUint64(CONSUMER_CELLS, true) };
}

/** A descriptor of a regular file; -1 if there is none of that name. */
function openFile(path: string): number {
  let fd: number;
  try {
    // A FIFO must not be waited for.
    fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ELOOP" || code === "ENXIO") return -1;
    throw fromFileSystem(error, path);
  }
  if (fs.fstatSync(fd).isFile()) return fd;
  fs.closeSync(fd);
  return -1;
}

/** A segment's file, as it was found. */
export class SegmentFile {
  readonly name: string;
  readonly path: string;
  /** By its name. */
  readonly nameId: number;
  readonly size: number;
  readonly header: RawHeader;
  /** Its words, whatever they are. */
  readonly base: number;
  readonly end: number;
  readonly next: number;
  readonly #time: bigint;
  #fd: number;
  #buffer: Uint8Array = new Uint8Array(0);
  #words: Uint32Array = new Uint32Array(0);
  #start = 0;
  #bytes = 0;

  constructor(directory: string, name: string, nameId: number) {
    this.name = name;
    this.path = join(directory, name);
    this.nameId = nameId;
    this.#fd = openFile(this.path);
    const bytes = new Uint8Array(FIRST_RECORD);
    const has = this.#fd < 0 ? 0 : readAt(this.#fd, bytes, 0, this.path);
    this.size = this.#fd < 0 ? -1 : fs.fstatSync(this.#fd).size;
    this.header = readHeader(bytes.subarray(0, Math.min(has, HEADER_BYTES)), KIND_SEGMENT, this.path);
    const view = new DataView(bytes.buffer);
    const number = (offset: number): number => {
      const value = view.getBigUint64(offset, true);
      return value > MAX_WORD ? -1 : Number(value);
    };
    this.base = number(128);
    this.end = number(136);
    this.next = number(144);
    this.#time = view.getBigUint64(152, true);
    this.close();
  }

  /** The id in a whole header, or that of the name. */
  get id(): number {
    return this.header.error === undefined ? Number(this.header.fields[0]) : this.nameId;
  }

  /** When a log went on from it, milliseconds since 1970; undefined if it never did, or the word is damaged. */
  time(salt: number): number | undefined {
    return this.#time === 0n ? undefined : unsealed(this.#time, salt);
  }

  /** Whether its words are such as readers take. */
  get wordsPossible(): boolean {
    return this.base >= 0 && this.next >= 0 && this.end >= 0 && this.end <= this.size;
  }

  /** Bytes that the segment takes in the queue's positions. */
  get length(): number {
    return this.header.error === undefined ? Number(this.header.fields[1]) : this.size;
  }

  /** Closes the file until it is read again. */
  close(): void {
    if (this.#fd >= 0) fs.closeSync(this.#fd);
    this.#fd = -1;
    this.#buffer = new Uint8Array(0);
    this.#words = new Uint32Array(0);
    this.#bytes = 0;
  }

  /** Forgets what was read, so that the next look is at the file again. */
  refresh(): void {
    this.#bytes = 0;
  }

  /** Has `length` bytes from `offset` on in memory; returns the index of the first as a 32-bit word, -1 beyond the end of the file. */
  #load(offset: number, length: number): number {
    if (offset >= this.#start && offset + length <= this.#start + this.#bytes) return (offset - this.#start) / 4;
    if (offset + length > this.size) return -1;
    if (this.#fd < 0) this.#fd = openFile(this.path);
    if (this.#fd < 0) return -1;
    const wanted = Math.max(length, 1 << 20);
    if (this.#buffer.byteLength < wanted || this.#buffer.byteLength > Math.max(1 << 22, 2 * wanted)) {
      this.#buffer = new Uint8Array(wanted);
      this.#words = new Uint32Array(this.#buffer.buffer);
    }
    this.#start = offset;
    this.#bytes = readAt(this.#fd, this.#buffer, offset, this.path);
    return length <= this.#bytes ? 0 : -1;
  }

  /**
   * The bytes of the whole record at `offset`, which lies within `limit`, if its checksum holds there; 0 otherwise. Its sequence is in
   * `sequence` then.
   */
  recordAt(offset: number, limit: number, base: number, salt: number): number {
    const head = this.#load(offset, RECORD_OVERHEAD);
    if (head < 0) return 0;
    const total = this.#words[head + 1] as number;
    const length = this.#words[head + 2] as number;
    const high = this.#words[head + 5] as number;
    if (total < RECORD_OVERHEAD || total % 8 !== 0 || total > limit - offset || high >= 2 ** 21) return 0;
    const padding = total - RECORD_OVERHEAD - length;
    if (padding < 0 || padding > 7) return 0;
    // Looked at first: what is only taken for a record's start must not have much memory read for it.
    const tail = this.#load(offset + total - 8, 8);
    if (tail < 0 || this.#words[tail] !== total) return 0;
    const at = this.#load(offset, total);
    if (at < 0 || this.#words[at] !== recordChecksum(this.#words, at, at + total / 4, salt, base + offset)) return 0;
    this.sequence = (this.#words[at + 4] as number) + high * 2 ** 32;
    return this.sequence === 0 ? 0 : total;
  }

  sequence = 0;

  /** The record of `bytes` at `offset`, as 32-bit words; they are overwritten by the next read. */
  words(offset: number, bytes: number): Uint32Array {
    const at = this.#load(offset, bytes);
    if (at < 0) throw new MapError("ERR_CORRUPT", `'${this.path}' has changed while it was read`, { path: this.path });
    return this.#words.subarray(at, at + bytes / 4);
  }
}
