/**
 * The independent reader of a queue: `node:fs` and docs/format.md, nothing of the native library and nothing of the code that writes
 * queues, so that the two can be held against each other.
 *
 * Invariants:
 *   - It only reads, takes no lock, and may run while others use the queue. What they consumed meanwhile is left out: after the scan the
 *     cursor is read again, and damage in front of it is no damage.
 *   - A record counts if its checksum, which is seeded with the queue's id and the record's position, holds at its position. So it is
 *     that record, whatever else is damaged.
 *   - How many records there should be is taken from the two cells alone, which have checksums. So what is missing is never overlooked.
 *
 * @module
 */
import * as fs from "node:fs";
import { join, resolve } from "node:path";
import { fromFileSystem, MapError } from "../errors.ts";
import { type QueueDamage, type QueueDamageCode, type QueueGap, QueueReport, type QueueSegment } from "./report.ts";

// The numbers of docs/format.md, written down a second time on purpose.
const HEADER_BYTES = 128;
const FORMAT_VERSION = 1;
const KIND_QUEUE = 2;
const KIND_SEGMENT = 3;
const PRODUCER_LOCK = 1024;
const PRODUCER_CELLS = 1152;
const PRODUCER_WORDS = 6;
const MARKS = 256;
const MARK_BYTES = 128;
const MARK_OVERHEAD = 16;
const DURABLE_CELLS = 1664;
const DURABLE_WORDS = 5;
const CONSUMER_LOCK = 2048;
const CONSUMER_CELLS = 2176;
const CONSUMER_WORDS = 10;
const NEXT_SEGMENT = 3072;
const SPARES = 3200;
const MOST_SPARES = 16;
const SLOTS = 4096;
const SLOT_BYTES = 64;
const SLOT_COUNT = 1024;
const LEASES: number = SLOTS + SLOT_COUNT * SLOT_BYTES;
const LEASE_BYTES = 64;
const LEASE_COUNT = 4096;
const CONTROL_BYTES: number = LEASES + LEASE_COUNT * LEASE_BYTES;
const FIRST_RECORD = 256;
const RECORD_OVERHEAD = 32;
const MAX_WORD = 2n ** 53n - 1n;
const ATTEMPTS = 2 ** 21;

/** More damaged places than this are counted, not listed. */
const LISTED = 1000;

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

/** The checksum of the record in 32-bit words `from..to`, at a position of a queue. */
export function recordChecksum(words: Uint32Array, from: number, to: number, salt: number, position: number): number {
  return crcOfWords(words, from + 1, to, crcOfNumber(position, salt));
}

/** A file's header, as far as it holds. */
interface RawHeader {
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

function hex(bytes: Uint8Array): string {
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
  else if (found !== kind) error = refuse("ERR_KIND", `is a file of another kind (${found}), not a ${kind === KIND_QUEUE ? "queue" : "segment"}`);
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

interface ReadCell {
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
}

function readCell(view: DataView, offset: number, count: number, salt: number): ReadCell {
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
  if (versionHolds && chosen?.version === version) return { current: chosen.values, before: undefined, reason: "", bothWhole, sequence };
  let before: Cell | undefined;
  if (versionHolds && other?.version === version - 1n) before = other.values;
  // Without the version word the newer of two may be one that was never committed; the older one was for sure.
  if (!versionHolds && cells[0] !== undefined && cells[1] !== undefined) before = (cells[0].version < cells[1].version ? cells[0] : cells[1]).values;
  return { current: undefined, before, reason: versionHolds ? "the checksum of the current cell does not hold" : "the version word is damaged", bothWhole, sequence };
}

/** The mark of a number, undefined if it does not hold. */
function readMark(view: DataView, number: number, salt: number): Uint8Array | undefined {
  const at = MARKS + MARK_BYTES * (number % 2);
  const words = new Uint32Array(MARK_BYTES / 4);
  for (let i = 0; i < words.length; i++) words[i] = view.getUint32(at + 4 * i, true);
  const length = words[2] as number;
  if (words[1] !== MARK_BYTES || length > MARK_BYTES - MARK_OVERHEAD || words[0] !== recordChecksum(words, 0, words.length, salt, number)) return undefined;
  return new Uint8Array(view.buffer, at + MARK_OVERHEAD, length).slice();
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
interface ControlState {
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

class ControlFile {
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

  /**
   * All of the file. Others may change it while it is read: what does not hold is read again, until it holds or stays the same.
   */
  read(salt: number): ControlState {
    let last = "";
    for (let round = 0; ; round++) {
      const state = this.#readOnce(salt);
      const { producer, consumer, durable, view } = state;
      const holds = producer.current !== undefined && consumer.current !== undefined && durable.current !== undefined;
      if (holds && (state.settled || round >= 20)) return state;
      const now = [PRODUCER_CELLS, CONSUMER_CELLS, DURABLE_CELLS].map((offset) => hex(new Uint8Array(view.buffer, offset, 384))).join();
      if (now === last && round >= 3) return state;
      last = now;
      if (round >= 1000) return state;
    }
  }

  #readOnce(salt: number): ControlState {
    const bytes = new Uint8Array(CONTROL_BYTES);
    const size = this.fd < 0 ? -1 : system(this.path, () => fs.fstatSync(this.fd)).size;
    const has = this.fd < 0 ? 0 : readAt(this.fd, bytes, 0, this.path);
    const view = new DataView(bytes.buffer);
    // Whether nobody was at work: no lock, and the same version word before and after the lease table was read.
    let settled = view.getBigUint64(CONSUMER_LOCK, true) === 0n;
    const again = new Uint8Array(CONSUMER_CELLS + 8 - CONSUMER_LOCK);
    if (this.fd >= 0) readAt(this.fd, again, CONSUMER_LOCK, this.path);
    const later = new DataView(again.buffer);
    settled &&= later.getBigUint64(0, true) === 0n && later.getBigUint64(again.byteLength - 8, true) === view.getBigUint64(CONSUMER_CELLS, true);
    return {
      header: readHeader(bytes.subarray(0, Math.min(has, HEADER_BYTES)), KIND_QUEUE, this.path),
      size,
      view,
      producer: readCell(view, PRODUCER_CELLS, PRODUCER_WORDS, salt),
      consumer: readCell(view, CONSUMER_CELLS, CONSUMER_WORDS, salt),
      durable: readCell(view, DURABLE_CELLS, DURABLE_WORDS, salt),
      settled,
    };
  }

  close(): void {
    if (this.fd >= 0) fs.closeSync(this.fd);
  }
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
    this.close();
  }

  /** The id in a whole header, or that of the name. */
  get id(): number {
    return this.header.error === undefined ? Number(this.header.fields[0]) : this.nameId;
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

/** Whole records one behind the other, their sequences without a gap. */
export interface Run {
  readonly file: SegmentFile;
  readonly base: number;
  readonly offset: number;
  readonly end: number;
  readonly first: number;
  readonly last: number;
}

/** A segment at its place among the positions. */
interface Tile {
  readonly file: SegmentFile;
  readonly base: number;
}

/** A record that was handed out and not acknowledged. */
export interface LeasedRecord {
  readonly file: SegmentFile;
  readonly base: number;
  readonly offset: number;
  readonly bytes: number;
  readonly sequence: number;
  readonly attempts: number;
}

/** All that an examination finds, for {@linkcode recover}. */
export interface Scan {
  readonly report: QueueReport;
  /** Records that were never handed out, in order. */
  readonly runs: readonly Run[];
  /** Records that were, in order. */
  readonly leased: readonly LeasedRecord[];
  /** All sequences that are known to have been used are below. */
  readonly nextSequence: number;
  /** Whether that may not be all: a cell is damaged, or power was lost. */
  readonly sequencesUnsure: boolean;
  /** What a new control file is made with. */
  readonly shape: { readonly segmentBytes: number; readonly maxBytes: number; readonly spares: number };
  readonly salt: number;
  /** The mark that was committed last, if it is whole. */
  readonly mark: Uint8Array | undefined;
  /** Names of the files that are the queue's, or should be. */
  readonly names: readonly string[];
  /** A lease entry that was being written, or counts that a takeover would mend: no damage while machines run on. */
  readonly halfDone: boolean;
}

/** How {@linkcode scan} is to look. */
export interface ScanOptions {
  /**
   * The machine lost power since the queue was used last, so the files may be of different moments: records behind the tail are looked
   * for and count.
   */
  readonly powerLoss?: boolean;
}

/** The salt of the queue at `path`: the CRC-32C of its id. Throws as {@linkcode scan} does. */
export function saltOf(path: string): number {
  return new Examination(path, {}).salt();
}

/** Examines the queue at `path`. Throws only if there is nothing of a queue to examine. */
export function scan(path: string, options: ScanOptions = {}): Scan {
  return new Examination(path, options).run();
}

/** The words of a cell by name. */
interface Tail {
  readonly position: number;
  readonly segment: number;
  readonly offset: number;
  readonly sequence: number;
  readonly bytes: number;
}
interface Cursor extends Tail {
  readonly leased: number;
  readonly leasedBytes: number;
  readonly head: number;
  readonly leaseEnd: number;
  readonly leaseSum: number;
}

function tailOf(cell: Cell): Tail {
  const [position, segment, offset, sequence, bytes] = cell as [number, number, number, number, number];
  return { position, segment, offset, sequence, bytes };
}
function cursorOf(cell: Cell): Cursor {
  const [leased, leasedBytes, head, leaseEnd, leaseSum] = cell.slice(5) as [number, number, number, number, number];
  return { ...tailOf(cell), leased, leasedBytes, head, leaseEnd, leaseSum };
}

class Examination {
  readonly #given: string;
  readonly #directory: string;
  readonly #powerLoss: boolean;
  readonly #damage: QueueDamage[] = [];
  #unlisted = 0;
  readonly #notes: string[] = [];
  #salt = 0;
  #foreignControl = false;
  #mark: Uint8Array | undefined;
  #id: Uint8Array = new Uint8Array(16);

  constructor(path: string, options: ScanOptions) {
    this.#given = path;
    this.#directory = resolve(path);
    this.#powerLoss = options.powerLoss ?? false;
  }

  salt(): number {
    this.#list();
    const control = new ControlFile(join(this.#directory, "control"));
    try {
      this.#identify(control);
      return this.#salt;
    } finally {
      control.close();
    }
  }

  run(): Scan {
    this.#list();
    const control = new ControlFile(join(this.#directory, "control"));
    try {
      return this.#examine(control);
    } finally {
      control.close();
    }
  }

  #list(): string[] {
    const path = this.#directory;
    try {
      return fs.readdirSync(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOTDIR") throw fromFileSystem(error, path);
      throw new MapError("ERR_NOT_HOLDFAST", `'${path}' is a file; a queue is a directory`, { path });
    }
  }

  #report(code: QueueDamageCode, file: string, reason: string, place: Partial<QueueDamage> = {}): void {
    if (this.#damage.length < LISTED) this.#damage.push({ code, reason, file, ...place });
    else this.#unlisted++;
  }

  #examine(control: ControlFile): Scan {
    this.#identify(control);
    // First the cells, then the segments: the words of those in front of the tail do not change any more.
    const state = control.read(this.#salt);
    const names = this.#list();
    const files = this.#segmentFiles(names);
    this.#checkControl(state, files);
    const ours = [...files.values()].filter((file) => file.size >= 0 && !this.#isForeign(file));
    const tail = state.producer.current ?? state.producer.before;
    const cursor = state.consumer.current ?? state.consumer.before;
    return this.#look(state, control, names, files, ours, tail && tailOf(tail), cursor && cursorOf(cursor));
  }

  #segmentFiles(names: readonly string[]): Map<string, SegmentFile> {
    const files = new Map<string, SegmentFile>();
    for (const name of names) {
      const match = /^segment-([1-9][0-9]{0,15})$/.exec(name);
      if (match === null) continue;
      const file = new SegmentFile(this.#directory, name, Number(match[1]));
      // Removed since it was listed.
      if (file.size < 0 && fs.lstatSync(file.path, { throwIfNoEntry: false }) === undefined) continue;
      files.set(name, file);
    }
    return files;
  }

  #isForeign(file: SegmentFile): boolean {
    return file.header.whole && !file.header.id.every((byte, i) => byte === this.#id[i]);
  }

  /** Finds out the queue's id. Throws what opening would if nothing says that there is a queue here. */
  #identify(control: ControlFile): void {
    const header = control.header();
    if (header.whole && header.version > FORMAT_VERSION) throw header.error;
    const path = this.#directory;
    const names = this.#list();
    // The segments carry the id too. Should there be those of two queues, it is the one with more; the first one's if they are as many.
    const counts = new Map<string, { id: Uint8Array; count: number }>();
    const files = [...this.#segmentFiles(names).values()].sort((a, b) => a.nameId - b.nameId);
    for (const file of files) {
      if (file.header.error !== undefined) continue;
      const entry = counts.get(hex(file.header.id)) ?? { id: file.header.id, count: 0 };
      entry.count++;
      counts.set(hex(file.header.id), entry);
    }
    const [best] = [...counts.values()].sort((a, b) => b.count - a.count);
    const most = best?.id;
    let id = header.error === undefined ? header.id : most;
    if (id === undefined && control.fd < 0) {
      throw new MapError("ERR_NOT_HOLDFAST", `'${path}' is ${names.length === 0 ? "an empty directory" : "a directory of something else"}, not a queue: it has no control file`, { path });
    }
    if (id === undefined) throw header.error;
    // Against a whole control file it takes two, most of them, and none that is the control file's own.
    if (header.error === undefined && best !== undefined && best.count > 1 && 2 * best.count > files.length && !counts.has(hex(id))) {
      this.#report("control", "control", `it is the control file of another queue, ${hex(id)}; the queue's id is that of its segments`);
      this.#foreignControl = true;
      id = best.id;
    } else if (header.error !== undefined) {
      this.#report("control", "control", control.fd < 0 ? "the control file is missing; the queue's id is that of its segments" : `${header.error.message}; the queue's id is that of its segments`);
    }
    this.#id = id;
    this.#salt = crc32c(id);
  }

  #shape(state: ControlState, files: readonly SegmentFile[]): { shape: Scan["shape"]; known: boolean } {
    const { header } = state;
    const numbers = header.fields.map(Number);
    const [segmentBytes = 0, maxBytes = 0, slots, leases, spares = 0] = numbers;
    const sound = header.error === undefined && !this.#foreignControl && slots === SLOT_COUNT && leases === LEASE_COUNT && segmentBytes > FIRST_RECORD &&
      spares >= 1 && spares <= MOST_SPARES && Number.isSafeInteger(segmentBytes) && Number.isSafeInteger(maxBytes);
    if (sound) return { shape: { segmentBytes, maxBytes, spares }, known: true };
    if (header.error === undefined && !this.#foreignControl) this.#report("control", "control", "the header has a shape that no version of holdfast wrote");
    // The most frequent length is that of the shape; larger ones hold a single large record.
    const lengths = files.map((file) => file.length).filter((length) => length >= 4096).sort((a, b) => a - b);
    return { shape: { segmentBytes: lengths[0] ?? 1 << 20, maxBytes: 0, spares: 1 }, known: false };
  }

  #checkControl(state: ControlState, files: ReadonlyMap<string, SegmentFile>): void {
    const { view, size, producer, consumer, durable } = state;
    if (size < 0 || this.#foreignControl) return;
    if (size !== CONTROL_BYTES) this.#report("control", "control", `it has ${size} bytes instead of ${CONTROL_BYTES}`);
    if (producer.current === undefined) this.#report("producer-cell", "control", producer.reason, { offset: PRODUCER_CELLS });
    if (consumer.current === undefined) this.#report("consumer-cell", "control", consumer.reason, { offset: CONSUMER_CELLS });
    if (durable.current === undefined) this.#report("durable-cell", "control", durable.reason, { offset: DURABLE_CELLS });
    else if ((durable.current[3] as number) > producer.sequence && (durable.current[3] as number) > this.#again().producer.sequence) {
      this.#report("cells", "control", `records up to ${durable.current[3]} are said to be on storage, but the tail is at ${producer.sequence}`, { offset: DURABLE_CELLS });
    }
    this.#mark = this.#readMark(state);
    if (producer.current !== undefined && !producer.bothWhole) this.#notes.push("the producer cell that is not in use is not whole: its writer died, or these bytes were damaged; it will be overwritten");
    if (consumer.current !== undefined && !consumer.bothWhole) this.#notes.push("the consumer cell that is not in use is not whole: its writer died, or these bytes were damaged; it will be overwritten");
    for (const [side, offset] of [["producer", PRODUCER_LOCK], ["consumer", CONSUMER_LOCK]] as const) {
      const owner = view.getBigUint64(offset, true);
      if (owner > MAX_WORD) this.#report("control-word", "control", `the ${side} lock word is no owner's`, { offset });
      else if (owner !== 0n) this.#notes.push(`the ${side} lock is held, or was when its holder died`);
    }
    for (let slot = 0; slot < SLOT_COUNT; slot++) {
      const offset = SLOTS + SLOT_BYTES * slot;
      const words = [0, 8, 16, 24].map((at) => view.getBigUint64(offset + at, true));
      if (words.some((value) => value > MAX_WORD) || ((words[0] as bigint) + 1n) * BigInt(SLOT_COUNT) + BigInt(slot) > MAX_WORD) {
        this.#report("control-word", "control", `slot ${slot} has impossible words`, { offset });
      }
    }
    // Counted up before the file is made: read after the files were listed, none of them may have it.
    const next = this.#again().view.getBigUint64(NEXT_SEGMENT, true);
    const last = producer.current === undefined ? 0 : tailOf(producer.current).segment;
    if (next > MAX_WORD || Number(next) <= last || files.has(`segment-${next}`)) {
      this.#report("control-word", "control", `the next segment id, ${next}, is in use, or impossible`, { offset: NEXT_SEGMENT });
    }
  }

  /** The mark that was committed last. */
  #readMark(state: ControlState): Uint8Array | undefined {
    const number = (state.producer.current ?? state.producer.before)?.[5] ?? 0;
    if (number === 0) return undefined;
    const mark = readMark(state.view, number, this.#salt);
    if (mark !== undefined) return mark;
    // Two commits while it was read are possible; the same number twice says that it was none.
    const again = this.#again();
    if (again.producer.current !== undefined && again.producer.current[5] !== number) return this.#readMark(again);
    this.#report("mark", "control", "the checksum of the mark does not hold", { offset: MARKS + MARK_BYTES * (number % 2), bytes: MARK_BYTES });
    return undefined;
  }

  /** The checksum of what does not change in a lease entry. */
  #sealOf(sequence: number, position: number, segment: number, offset: number, bytes: number): number {
    let seal = this.#salt;
    for (const value of [sequence, position, segment, offset, bytes]) seal = crcOfNumber(value, seal);
    return seal;
  }

  /**
   * The leases that count, and which of them are damaged. `missing` is the seal of the one that the table lacks by the cell's count and sum;
   * undefined unless it lacks just one.
   */
  #leases(state: ControlState, cursor: Cursor | undefined): { entries: RawLease[]; complete: boolean; missing: number | undefined; halfDone: boolean } {
    const { view } = state;
    const halves = new Uint32Array(view.buffer);
    const entries: RawLease[] = [];
    let halfDone = false;
    let sum = 0;
    const seen = new Set<number>();
    for (let index = 0; index < LEASE_COUNT; index++) {
      const offset = LEASES + LEASE_BYTES * index;
      if (halves.subarray(offset / 4, (offset + LEASE_BYTES) / 4).every((half) => half === 0)) continue;
      const raw = Array.from({ length: 8 }, (_, i) => view.getBigUint64(offset + 8 * i, true));
      if (raw.some((value) => value > MAX_WORD)) {
        if (!this.#stays(offset, raw)) continue;
        this.#report("lease", "control", `lease entry ${index} has impossible words`, { offset });
        continue;
      }
      const [sequence, owner, , sealed, position, segment, at, bytes] = raw.map(Number) as [number, number, number, number, number, number, number, number];
      if (sequence === 0) continue;
      // Behind the end they do not count: a clear() that died has left them.
      if (cursor !== undefined && state.consumer.current !== undefined && index >= cursor.leaseEnd) continue;
      if (cursor !== undefined && sequence === cursor.sequence && state.consumer.current !== undefined) {
        halfDone = true; // was being written when its writer died
        continue;
      }
      const seal = this.#sealOf(sequence, position, segment, at, bytes);
      const holds = Math.floor(sealed / ATTEMPTS) === seal;
      if (!holds && !this.#stays(offset, raw)) {
        halfDone = true;
        continue;
      }
      if (!holds || seen.has(sequence) || (cursor !== undefined && sequence > cursor.sequence)) {
        const what = !holds ? "is damaged: its seal does not hold" : seen.has(sequence) ? "stands for a record that another one stands for" : "does not fit the consumer cell";
        if (state.settled || !holds) {
          if (state.settled || cursor === undefined || sequence <= cursor.sequence) {
            this.#report("lease", "control", `lease entry ${index} ${what}`, { offset });
          }
        } else halfDone = true;
        if (!holds || seen.has(sequence)) continue;
        if (cursor !== undefined && sequence > cursor.sequence) continue;
      }
      // Another process may be at it: what counts is what stays.
      const slot = SLOTS + SLOT_BYTES * (owner % SLOT_COUNT);
      if (Math.floor(owner / SLOT_COUNT) > Number(view.getBigUint64(slot, true)) && this.#stays(offset, raw) && Math.floor(owner / SLOT_COUNT) > Number(this.#again().view.getBigUint64(slot, true))) {
        this.#report("lease", "control", `lease entry ${index} has an owner that never was, ${owner}`, { offset });
      }
      seen.add(sequence);
      sum += seal;
      entries.push({ index, sequence, attempts: sealed % ATTEMPTS, position, segment, offset: at, bytes });
    }
    if (cursor !== undefined && state.consumer.current !== undefined && (entries.length !== cursor.leased || sum !== cursor.leaseSum)) {
      if (state.settled) {
        this.#report("lease", "control", `by the consumer cell ${cursor.leased} records are leased, by the lease table ${entries.length}${entries.length === cursor.leased ? " others" : ""}`, { offset: LEASES });
      } else halfDone = true;
    }
    const complete = cursor !== undefined && entries.length === cursor.leased && sum === cursor.leaseSum;
    const missing = cursor !== undefined && entries.length === cursor.leased - 1 ? cursor.leaseSum - sum : undefined;
    return { entries: entries.sort((a, b) => a.sequence - b.sequence), complete, missing, halfDone };
  }

  #look(
    state: ControlState,
    control: ControlFile,
    names: readonly string[],
    files: ReadonlyMap<string, SegmentFile>,
    ours: readonly SegmentFile[],
    tail: Tail | undefined,
    cursor: Cursor | undefined,
  ): Scan {
    const { shape, known } = this.#shape(state, ours);
    const sure = state.producer.current !== undefined;
    const beyond = this.#powerLoss || !sure;
    if (sure && state.consumer.current !== undefined && tail !== undefined && cursor !== undefined) {
      if (cursor.position > tail.position || cursor.sequence > tail.sequence || cursor.bytes > tail.bytes) this.#report("cells", "control", `the cursor (sequence ${cursor.sequence}) is ahead of the tail (${tail.sequence})`);
    }
    const leases = this.#leases(state, cursor);
    // Which records are leased is not known for certain unless the table is that of the cell; in memory it is, but for a change under way.
    const lostLeases = !leases.complete && (state.settled || this.#powerLoss);

    // Where the segments lie. From the head on if leased records have to be looked for one by one.
    const byId = new Map<number, SegmentFile>();
    for (const file of ours) if (!byId.has(file.id) || file.id === file.nameId) byId.set(file.id, file);
    const cursorBase = cursor === undefined ? undefined : cursor.position - cursor.offset;
    const tailBase = tail === undefined ? undefined : tail.position - tail.offset;
    const tiles = this.#tiles({ ours, byId, tail, tailBase, cursor, cursorBase, beyond, sure });

    // The records that were never handed out.
    const runs: Run[] = [];
    const bad: { file: SegmentFile; base: number; offset: number; bytes: number }[] = [];
    let behindTail = 0;
    let lastSequence = cursor === undefined ? 0 : cursor.sequence - 1;
    let slack: { file: SegmentFile; base: number; from: number } | undefined;
    for (const { file, base } of tiles) {
      const from = cursor !== undefined && base === cursorBase ? Math.max(FIRST_RECORD, cursor.offset) : FIRST_RECORD;
      const isTail = base === tailBase;
      const ends = file.end >= FIRST_RECORD && file.end <= file.length;
      // Up to where records are looked for, and up to where there should be some.
      const stop = isTail && !beyond ? (tail as Tail).offset : ends && (!isTail || file.end >= (tail as Tail).offset) ? file.end : file.size;
      const due = isTail ? (tail as Tail).offset : ends ? file.end : from;
      const limit = isTail && !beyond ? stop : file.size;
      const before = lastSequence;
      const found = this.#records({ file, base, from, stop, due, limit, after: before });
      lastSequence = found.runs.at(-1)?.last ?? lastSequence;
      // A damaged end may hide records of the segment before. Without a gap what is behind it is a push that was never committed.
      const first = found.runs[0]?.first ?? (isTail && !beyond ? (tail as Tail).sequence : 0);
      if (slack !== undefined && first > before + 1) {
        const hidden = this.#records({ ...slack, stop: slack.file.size, due: 0, limit: slack.file.size, after: before, below: first });
        slack.file.close();
        runs.push(...hidden.runs);
        for (const piece of hidden.bad) bad.push({ file: slack.file, base: slack.base, ...piece });
      }
      slack = isTail || stop >= file.size ? undefined : { file, base, from: Math.max(stop, found.end) };
      for (const run of found.runs) {
        runs.push(run);
        if (tail !== undefined && sure && run.last >= tail.sequence) behindTail += run.last - Math.max(run.first, tail.sequence) + 1;
      }
      for (const piece of found.bad) bad.push({ file, base, ...piece });
      if (file.size < file.length) this.#report("segment", file.name, `it is cut short: ${file.size} bytes instead of ${file.length}`, { segment: file.nameId, offset: file.size, position: base + file.size, bytes: file.length - file.size });
      file.close();
    }
    if (!sure) behindTail = tail === undefined ? 0 : runs.reduce((sum, run) => sum + Math.max(0, run.last - Math.max(run.first, tail.sequence) + 1), 0);

    // The leased ones. Without a cell or with damaged entries: all that are still there, rather than one too few.
    const leased = this.#leasedRecords({ entries: leases.entries, byId, ours, cursor, cursorBase, all: lostLeases && state.consumer.current !== undefined && (cursor?.leased ?? 0) > 0, missing: leases.missing, control, runs });

    // Without a cursor nothing says that they come first.
    if (cursor === undefined && leased.records.length > 0) {
      for (const { file, base, offset, bytes, sequence } of leased.records) runs.push({ file, base, offset, end: offset + bytes, first: sequence, last: sequence });
      runs.sort((a, b) => a.first - b.first);
      leased.records.length = 0;
    }

    // What was consumed while this looked is no matter any more.
    const later = control.fd < 0 ? undefined : control.read(this.#salt).consumer.current;
    const now = later !== undefined && state.consumer.current !== undefined ? cursorOf(later) : cursor;
    const from = now?.position ?? 0;
    const moved = now !== undefined && cursor !== undefined && now.position > cursor.position;
    for (const { file, base, offset, bytes } of bad) {
      if (base + offset + bytes <= from) continue;
      this.#report("records", file.name, "no whole records", { segment: file.nameId, offset, position: base + offset, bytes });
    }
    if (moved) {
      for (let i = this.#damage.length - 1; i >= 0; i--) {
        const { code, position, bytes = 0 } = this.#damage[i] as QueueDamage;
        if ((code === "segment-words" || code === "segment-missing" || code === "segment") && position !== undefined && position + bytes <= from) this.#damage.splice(i, 1);
      }
    }

    // Which are missing.
    const start = now?.sequence ?? runs[0]?.first ?? tail?.sequence ?? 1;
    const gaps: QueueGap[] = [];
    let expected = start;
    let waiting = 0;
    let behindDamage = 0;
    for (const { first, last } of runs) {
      if (last < start) continue;
      if (first > expected) gaps.push({ first: expected, last: first - 1 });
      waiting += last - Math.max(first, start) + 1;
      if (gaps.length > 0) behindDamage += last - Math.max(first, start) + 1;
      expected = last + 1;
    }
    if (tail !== undefined && tail.sequence > expected) gaps.push({ first: expected, last: tail.sequence - 1 });
    const lostWaiting = gaps.reduce((sum, { first, last }) => sum + last - first + 1, 0);
    const lostLeased = leased.lost;
    for (const sequence of lostLeased) gaps.push({ first: sequence, last: sequence });
    const lost = lostWaiting + lostLeased.length;
    if (lost > 0 && this.#damage.length === 0) this.#report("records", "control", `${lost} records are not where they should be`);

    const segments = this.#segments(files, tiles, state, cursor, byId);
    const foreign = names.filter((name) => name !== "control" && !(files.get(name) !== undefined && !this.#isForeign(files.get(name) as SegmentFile)));
    if (state.consumer.current === undefined) this.#notes.push("without the consumer cell nothing says which records were handed out: all that are there count, some for the second time");
    if (!sure) this.#notes.push("without the producer cell the tail is taken to be behind the last whole record");
    if (!known) this.#notes.push("without the control file's header the limit of the queue's size is not known");
    if (this.#unlisted > 0) this.#notes.push(`${this.#unlisted} more damaged places`);
    const sound = this.#damage.length === 0 && this.#unlisted === 0;
    const kept = leased.records;
    const first = kept[0]?.sequence ?? (waiting > 0 ? Math.max(runs.find((run) => run.last >= start)?.first ?? start, start) : undefined);
    const lastOne = waiting > 0 ? runs.at(-1)?.last : kept.at(-1)?.sequence;
    const bytes = sound && tail !== undefined && now !== undefined && behindTail === 0 && !leases.halfDone
      ? Math.max(0, tail.bytes - now.bytes) + kept.reduce((sum, record) => sum + record.bytes, 0)
      : runs.filter((run) => run.last >= start).reduce((sum, run) => sum + run.end - run.offset, 0) + kept.reduce((sum, record) => sum + record.bytes, 0);
    const report = new QueueReport({
      path: this.#given,
      ok: sound,
      id: hex(this.#id),
      shape: known ? shape : undefined,
      records: waiting + kept.length,
      bytes,
      leased: kept.length,
      firstSequence: first,
      lastSequence: lastOne,
      segments,
      damage: this.#damage,
      gaps,
      lost,
      behindDamage,
      behindTail,
      foreign,
      notes: this.#notes,
      quarantine: undefined,
    });
    const nextSequence = Math.max(
      tail?.sequence ?? 1,
      cursor?.sequence ?? 1,
      state.producer.sequence,
      state.consumer.sequence,
      ...leases.entries.map((entry) => entry.sequence + 1),
      (runs.at(-1)?.last ?? 0) + 1,
    );
    return {
      report,
      runs,
      leased: kept,
      nextSequence,
      sequencesUnsure: this.#powerLoss || !sure || state.consumer.current === undefined,
      shape,
      salt: this.#salt,
      mark: this.#mark,
      names: names.filter((name) => name === "control" || files.has(name)),
      halfDone: leases.halfDone,
    };
  }

  /** The segments that hold records which were never handed out, in order, with what is missing between them reported. */
  #tiles({ ours, byId, tail, tailBase, cursor, cursorBase, beyond, sure }: {
    ours: readonly SegmentFile[];
    byId: ReadonlyMap<number, SegmentFile>;
    tail: Tail | undefined;
    tailBase: number | undefined;
    cursor: Cursor | undefined;
    cursorBase: number | undefined;
    beyond: boolean;
    sure: boolean;
  }): Tile[] {
    const base = new Map<SegmentFile, number>();
    for (const file of ours) if (file.base > 0 && file.base % 8 === 0) base.set(file, file.base);
    // The cells say of two segments where they lie. For certain, unless storage has a cell as it was before the segment was used again: positions
    // only grow, and a record holds at one only.
    const vouched = new Set<SegmentFile>();
    for (const [segment, at] of [[cursor?.segment, cursorBase], [tail?.segment, tailBase]] as const) {
      const file = segment === undefined ? undefined : byId.get(segment);
      if (file === undefined || at === undefined) continue;
      if (file.base !== at) this.#report("segment-words", file.name, `its base is ${file.base}, by the control file it is ${at}`, { segment: file.nameId, offset: 128, position: at, bytes: file.length });
      if (file.base > at && this.#hasRecord(file, file.base)) continue;
      base.set(file, at);
      vouched.add(file);
    }
    const lower = cursorBase ?? Math.min(...base.values());
    const upper = beyond ? Infinity : (tailBase as number);
    const placed: Tile[] = [...base].filter(([, at]) => at >= lower && at <= upper).map(([file, at]) => ({ file, base: at }));
    // At equal bases the one that the cells or its name vouch for.
    const rank = ({ file }: Tile): number => (vouched.has(file) ? 0 : file.id === file.nameId && file.header.error === undefined ? 1 : 2);
    // Two may say to lie at one place: a producer that died between two segments has left one. Then the one that the segment before leads to, or
    // that has a record.
    const claim = (tile: Tile): number => {
      if (rank(tile) === 0) return 0;
      const { file, base: at } = tile;
      if (placed.some((other) => other.base + other.file.length === at && other.file.next === file.id)) return 1;
      const found = this.#hasRecord(file, at);
      file.close();
      return found ? 2 : 3;
    };
    placed.sort((a, b) => a.base - b.base || claim(a) - claim(b) || rank(a) - rank(b));
    // One that leaves a hole in front of it and has no record where it says to lie, lies elsewhere.
    let reached = lower;
    for (let i = 0; i < placed.length; i++) {
      const tile = placed[i] as Tile;
      if (tile.base > reached && rank(tile) !== 0 && !this.#hasRecord(tile.file, tile.base)) placed.splice(i--, 1);
      else reached = Math.max(reached, tile.base + tile.file.length);
      tile.file.close();
    }
    const tiles: Tile[] = [];
    const spare = new Set(ours.filter((file) => !placed.some((tile) => tile.file === file)));
    let position = lower;
    const fill = (until: number): void => {
      while (position < until) {
        const tile = this.#fit(spare, position, until);
        if (tile === undefined) break;
        spare.delete(tile.file);
        this.#report("segment-words", tile.file.name, `its base is ${tile.file.base}, but by its records it is ${tile.base}`, { segment: tile.file.nameId, offset: 128, position: tile.base, bytes: tile.file.length });
        tiles.push(tile);
        position = tile.base + tile.file.length;
      }
      if (position >= until || until === Infinity) return;
      const last = tiles.at(-1)?.file;
      const id = position === cursorBase ? cursor?.segment : last?.next;
      this.#report("segment-missing", id === undefined ? "segment" : `segment-${id}`, `no file has the ${until - position} bytes from position ${position} on`, { ...(id === undefined ? {} : { segment: id }), position, bytes: until - position });
    };
    for (const tile of placed) {
      if (tile.base < position) {
        spare.add(tile.file); // lies within another one: its base is not what it says
        continue;
      }
      fill(tile.base);
      tiles.push(tile);
      position = tile.base + tile.file.length;
    }
    // At least up to the tail's segment.
    if (sure && (tailBase as number) >= position) fill((tailBase as number) + FIRST_RECORD);
    if (beyond) fill(Infinity);
    tiles.sort((a, b) => a.base - b.base);
    for (const [i, tile] of tiles.entries()) this.#checkTile(tile, tiles[i + 1], sure ? tailBase : undefined);
    if (tiles.length === 0 && tail === undefined && cursor === undefined) this.#notes.push("no segment says where it lies");
    return tiles;
  }

  /** A file of `candidates` that has whole records if it lies at `position`, or right in front of `until`. */
  #fit(candidates: ReadonlySet<SegmentFile>, position: number, until: number): Tile | undefined {
    for (const base of until === Infinity ? [position] : [position, NaN]) {
      for (const file of candidates) {
        const at = Number.isNaN(base) ? until - file.length : base;
        if (file.length <= 0 || at < position || at + Math.min(file.length, FIRST_RECORD + RECORD_OVERHEAD) > until) continue;
        const found = this.#hasRecord(file, at);
        file.close();
        if (found) return { file, base: at };
      }
    }
    return undefined;
  }

  #hasRecord(file: SegmentFile, base: number): boolean {
    for (let offset = FIRST_RECORD; offset + RECORD_OVERHEAD <= file.size; offset += 8) {
      if (file.recordAt(offset, file.size, base, this.#salt) > 0) return true;
    }
    return false;
  }

  #checkTile({ file, base }: Tile, following: Tile | undefined, tailBase: number | undefined): void {
    const place = { segment: file.nameId, position: base, bytes: file.length };
    if (file.header.error !== undefined) this.#report("segment", file.name, file.header.error.message, { ...place, offset: 0 });
    else if (file.id !== file.nameId) this.#report("segment", file.name, `it is segment ${file.id}`, { ...place, offset: 0 });
    else if (file.size > file.length) this.#report("segment", file.name, `it has ${file.size} bytes instead of ${file.length}`, { ...place, offset: file.length });
    if (!file.wordsPossible) this.#report("segment-words", file.name, `its base ${file.base}, end ${file.end} and next ${file.next} are impossible`, { ...place, offset: 128 });
    if (tailBase === undefined || base >= tailBase) return;
    if (file.end < FIRST_RECORD) this.#report("segment-words", file.name, `its end is ${file.end}, which is impossible`, { ...place, offset: 136 });
    if (following !== undefined && following.base === base + file.length && file.next !== following.file.id) {
      this.#report("segment-words", file.name, `it goes on in segment ${file.next}, but what follows is segment ${following.file.id}`, { ...place, offset: 144 });
    }
  }

  /**
   * The whole records of a segment that start in `from..stop`, and the places between them that are none. Behind `due` there need not be
   * any. Their sequences are above `after` and below `below`.
   */
  #records({ file, base, from, stop, due, limit, after, below = Infinity }: {
    file: SegmentFile;
    base: number;
    from: number;
    stop: number;
    due: number;
    limit: number;
    after: number;
    below?: number;
  }): { runs: Run[]; bad: { offset: number; bytes: number }[]; end: number } {
    const runs: Run[] = [];
    const bad: { offset: number; bytes: number }[] = [];
    let last = after;
    let run: { offset: number; first: number } | undefined;
    let badFrom = -1;
    const endRun = (end: number): void => {
      if (run !== undefined) runs.push({ file, base, offset: run.offset, end, first: run.first, last });
      run = undefined;
    };
    let offset = from;
    while (offset < stop) {
      let bytes = file.recordAt(offset, limit, base, this.#salt);
      if (bytes === 0 && badFrom < 0) {
        file.refresh(); // it may have been changed while it was read
        bytes = file.recordAt(offset, limit, base, this.#salt);
      }
      // What is not above the one before is a remainder of an earlier push that was never committed.
      if (bytes === 0 || file.sequence <= last || file.sequence >= below) {
        endRun(offset);
        if (badFrom < 0) badFrom = offset;
        offset += 8;
        continue;
      }
      if (badFrom >= 0) bad.push({ offset: badFrom, bytes: offset - badFrom });
      badFrom = -1;
      if (run !== undefined && file.sequence !== last + 1) endRun(offset);
      run ??= { offset, first: file.sequence };
      last = file.sequence;
      offset += bytes;
    }
    endRun(offset);
    if (badFrom >= 0 && due > badFrom) bad.push({ offset: badFrom, bytes: due - badFrom });
    return { runs, bad, end: offset };
  }

  /**
   * The records that are leased. With `all` the table is not that of the cell: of the records in front of the cursor that are still there, the one
   * with the seal `missing` if one alone is missing, otherwise all of them.
   */
  #leasedRecords({ entries, byId, ours, cursor, cursorBase, all, missing, control, runs }: {
    entries: readonly RawLease[];
    byId: ReadonlyMap<number, SegmentFile>;
    ours: readonly SegmentFile[];
    cursor: Cursor | undefined;
    cursorBase: number | undefined;
    all: boolean;
    missing: number | undefined;
    control: ControlFile;
    runs: readonly Run[];
  }): { records: LeasedRecord[]; lost: number[] } {
    const records = new Map<number, LeasedRecord>();
    const lost: number[] = [];
    let open: SegmentFile | undefined;
    for (const entry of entries) {
      // Without a cursor they are among the others.
      if (runs.some((run) => entry.sequence >= run.first && entry.sequence <= run.last)) continue;
      const base = entry.position - entry.offset;
      const candidates = [byId.get(entry.segment), ...ours.filter((file) => file.base === base)].filter((file) => file !== undefined);
      const file = candidates.find((candidate) => candidate.recordAt(entry.offset, entry.offset + entry.bytes, base, this.#salt) === entry.bytes && candidate.sequence === entry.sequence);
      // One stays open: the next record is mostly in the same one.
      for (const candidate of candidates) if (candidate !== file) candidate.close();
      if (open !== file) open?.close();
      open = file;
      if (file !== undefined) {
        records.set(entry.sequence, { file, base, offset: entry.offset, bytes: entry.bytes, sequence: entry.sequence, attempts: entry.attempts });
        continue;
      }
      // It may have been acknowledged meanwhile.
      if (control.fd >= 0 && control.read(this.#salt).view.getBigUint64(LEASES + LEASE_BYTES * entry.index, true) !== BigInt(entry.sequence)) continue;
      lost.push(entry.sequence);
      const name = byId.get(entry.segment)?.name ?? `segment-${entry.segment}`;
      this.#report("records", name, `the leased record ${entry.sequence} is not whole`, { segment: entry.segment, offset: entry.offset, position: entry.position, bytes: entry.bytes });
    }
    open?.close();
    if (all && cursor !== undefined && cursorBase !== undefined) {
      const head = byId.get(cursor.head)?.base ?? 0;
      const others: LeasedRecord[] = [];
      for (const file of ours.filter((candidate) => candidate.base > 0 && candidate.base >= head && candidate.base <= cursorBase)) {
        const stop = file.base === cursorBase ? cursor.offset : Math.min(file.size, file.end >= FIRST_RECORD ? file.end : file.size);
        for (const run of this.#records({ file, base: file.base, from: FIRST_RECORD, stop, due: stop, limit: file.size, after: 0 }).runs) {
          for (let offset = run.offset; offset < run.end; ) {
            const bytes = file.recordAt(offset, run.end, file.base, this.#salt);
            if (bytes === 0) break;
            const { sequence } = file;
            if (sequence < cursor.sequence && !records.has(sequence)) others.push({ file, base: file.base, offset, bytes, sequence, attempts: 1 });
            offset += bytes;
          }
        }
        file.close();
      }
      const exact = others.filter(({ file, base, offset, bytes, sequence }) => this.#sealOf(sequence, base + offset, file.id, offset, bytes) === missing);
      const [only] = exact;
      if (only !== undefined && exact.length === 1) {
        records.set(only.sequence, only);
        this.#notes.push(`the lease table lacks record ${only.sequence}, which is leased by the sum in the consumer cell`);
      } else {
        for (const record of others) records.set(record.sequence, record);
        this.#notes.push(`the lease table does not say which records are leased: ${others.length} that are still there count as leased, acknowledged ones may be among them`);
      }
    }
    return { records: [...records.values()].sort((a, b) => a.sequence - b.sequence), lost };
  }

  /** The list of segments; what is wrong with those that hold no record that is needed is reported here. */
  #segments(
    files: ReadonlyMap<string, SegmentFile>,
    tiles: readonly Tile[],
    state: ControlState,
    cursor: Cursor | undefined,
    byId: ReadonlyMap<number, SegmentFile>,
  ): QueueSegment[] {
    const live = new Set(tiles.map((tile) => tile.file));
    // Those between the head and the cursor hold leased records; consumers walk over them.
    if (cursor !== undefined && state.consumer.current !== undefined && cursor.head !== cursor.segment) {
      let id = cursor.head;
      for (let steps = 0; id !== cursor.segment && steps <= byId.size; steps++) {
        const file = byId.get(id);
        const following = file === undefined ? undefined : byId.get(file.next);
        const sound = file !== undefined && file.header.error === undefined && file.size === file.length && file.wordsPossible;
        if (file === undefined || !sound || following === undefined || following.base !== file.base + file.length) {
          if (this.#headMoved(cursor)) break;
          if (file === undefined) this.#report("segment-missing", `segment-${id}`, "it has leased records, or leads to one that has", { segment: id });
          else this.#report(sound ? "segment-words" : "segment", file.name, `it does not lead to the segment of the cursor: ${sound ? `its base is ${file.base}, its end ${file.end}, its next ${file.next}` : (file.header.error?.message ?? `its length or its words (base ${file.base}, end ${file.end}, next ${file.next}) are wrong`)}`, { segment: file.nameId });
          break;
        }
        live.add(file);
        id = file.next;
      }
    }
    const spares = new Set<number>();
    if (state.size >= 0 && state.header.error === undefined) {
      for (let i = 0; i < MOST_SPARES; i++) {
        const offset = SPARES + 8 * i;
        const id = state.view.getBigUint64(offset, true);
        if (id === 0n) continue;
        const file = byId.get(Number(id));
        const good = id <= MAX_WORD && file !== undefined && file.header.error === undefined && file.size === file.length && file.nameId === file.id && file.wordsPossible && !live.has(file);
        if (good && file.base === 0) spares.add(Number(id));
        else if (!this.#spareMoved(offset, id)) {
          this.#report("control-word", "control", `spare ${i} is segment ${id}, which is ${file === undefined ? "missing" : good ? "not free" : "damaged, or in use"}`, { offset });
        }
      }
    }
    const segments: QueueSegment[] = [];
    for (const file of files.values()) {
      const state = this.#isForeign(file) ? "foreign" : live.has(file) ? "live" : file.size < 0 ? "missing" : spares.has(file.id) ? "spare" : "unused";
      segments.push({ id: file.nameId, bytes: Math.max(0, file.size), state });
    }
    const listed = new Set(segments.map((segment) => segment.id));
    for (const { code, segment } of this.#damage) {
      if (code === "segment-missing" && segment !== undefined && !listed.has(segment)) {
        segments.push({ id: segment, bytes: 0, state: "missing" });
        listed.add(segment);
      }
    }
    return segments.sort((a, b) => a.id - b.id);
  }

  /** Whether the head is another one by now. */
  #headMoved(cursor: Cursor): boolean {
    const now = this.#again().consumer.current;
    return now !== undefined && cursorOf(now).head !== cursor.head;
  }

  /** Whether a spare was taken, or given back, since it was read. */
  #spareMoved(offset: number, id: bigint): boolean {
    if (this.#again().view.getBigUint64(offset, true) !== id) return true;
    const file = new SegmentFile(this.#directory, `segment-${id}`, Number(id));
    return id <= MAX_WORD && file.header.error === undefined && file.size === file.length && file.id === file.nameId && file.wordsPossible && file.base === 0;
  }

  /** Whether an entry is the same in two more looks: nobody is at work on it. */
  #stays(offset: number, raw: readonly bigint[]): boolean {
    return [0, 1].every(() => {
      const { view } = this.#again();
      return raw.every((value, i) => view.getBigUint64(offset + 8 * i, true) === value);
    });
  }

  #again(): ControlState {
    const control = new ControlFile(join(this.#directory, "control"));
    try {
      return control.read(this.#salt);
    } finally {
      control.close();
    }
  }
}

/** How often a queue is read at most in which something looks damaged, and each time something else. */
const MOST_LOOKS = 10;

/** See {@linkcode Queue.verify}. */
export function verify(path: string): QueueReport {
  let { report } = scan(path);
  // A queue in use changes under the scan in more ways than one look at its cells before and after can tell. Damage stays.
  for (let looks = 1; !report.ok && looks < MOST_LOOKS; looks++) {
    const before = JSON.stringify(report.damage);
    ({ report } = scan(path));
    if (JSON.stringify(report.damage) === before) break;
  }
  return report;
}
