/**
 * The repair of a queue: by {@linkcode Queue.recover}, and when a queue is opened that was written in another boot of the machine.
 *
 * The whole records that were not consumed are written anew, into segments with new ids in the same directory, of a queue with a new id; of a
 * log, all that it keeps, and a file for each group, under a name with a new number. A new control file then takes the place of the old one by
 * rename(2). Invariants:
 *   - Nothing is written before it is known what is there, and nothing at all if that is sound.
 *   - That rename is the commit: before it the directory is the old queue, after it the new one, at every moment one of them. All that it
 *     refers to is on storage before.
 *   - Nothing of the old queue is deleted: before the commit each of its files gets a second name in the quarantine folder.
 *   - Nobody has the queue open. Byte RECOVERY_OFFSET of the control file is locked exclusively, which keeps those who open it waiting.
 *   - Who dies in between leaves files that nobody refers to, and perhaps a quarantine folder that is one too many.
 *
 * @module
 */
import * as fs from "node:fs";
import { join, resolve } from "node:path";
import { randomBytes } from "../builtins.ts";
import { errno, fromFileSystem, MapError } from "../errors.ts";
import { discard, fileSystem, openRegular, readUpTo, reserve, syncDirectory, syncFile, writeFully } from "../files.ts";
import { crc32c, encodeHeader } from "../layout/header.ts";
import {
  BOOT,
  BOOT_BYTES,
  CONSUMER,
  CONSUMER_CELLS,
  CONSUMER_LOCK,
  CONSUMER_WORDS,
  CONTROL_BYTES,
  CONTROL_NAME,
  DURABLE,
  DURABLE_CELLS,
  DURABLE_LOCK,
  DURABLE_WORDS,
  FIRST_BASE,
  GROUP,
  GROUP_BYTES,
  GROUP_LEASES,
  GROUP_WORDS,
  groupFileName,
  groupOfFile,
  LEASE,
  LEASE_BYTES,
  LEASE_COUNT,
  LEASES,
  MARK_BYTES,
  MARK_LENGTH,
  MARK_PAYLOAD,
  MARK_SEQUENCE,
  MARKS,
  MAX_ATTEMPTS,
  NEXT_SEGMENT,
  PRODUCER,
  PRODUCER_CELLS,
  PRODUCER_LOCK,
  PRODUCER_WORDS,
  RECORD_TOTAL,
  RECORDS_OFFSET,
  RECOVERY_OFFSET,
  SEGMENT_WORDS_OFFSET,
  segmentId,
  segmentName,
  SLOT_BYTES,
  SLOT_COUNT,
  SLOTS,
  SPARES,
  SWEEP_FLAG,
} from "../layout/queue.ts";
import { native } from "../native/native.ts";
import { takeLock } from "../range_lock.ts";
import { bootField, isThisBoot } from "./boot.ts";
import { Control, type GroupRequest } from "./control.ts";
import { QueueReport } from "./report.ts";
import { createSegment } from "./segments.ts";
import { type GroupScan, type LeasedRecord, saltOf, type Scan, scan } from "./verify.ts";
import { crcOfBytes, crcOfNumber, recordChecksum } from "./verify_files.ts";

/** New segment ids are above the old ones by this: what a recovery that died leaves behind is never in the way of the old queue. */
const ID_HEADROOM: number = 2 ** 20;

/** Where sequences that were used may be unknown, new ones are above the known ones by this: no queue gets that far between two writebacks. */
const SEQUENCE_HEADROOM: number = 2 ** 32;

/** How often a queue that is replaced while it is being opened is tried again. */
const OPEN_ATTEMPTS = 100;

/** An open queue, and what was found if it was recovered for that. */
export interface OpenedControl {
  readonly control: Control;
  readonly recovered: QueueReport | undefined;
}

/** Opens the control file of a queue; after a power loss, the queue is examined and if need be recovered first. */
export function openControl(
  name: string,
  directory: string,
  mode: "r" | "rw",
  log = false,
  group?: GroupRequest,
): OpenedControl {
  let recovered: QueueReport | undefined;
  for (let attempt = 1; ; attempt++) {
    let control: Control;
    try {
      control = new Control(directory, mode, log, group);
    } catch (error) {
      if (attempt < OPEN_ATTEMPTS && error instanceof MapError && error.code === "ESTALE") continue;
      throw error;
    }
    if (mode === "r" || control.owner !== 0) return { control, recovered };
    control.close();
    if (attempt >= OPEN_ATTEMPTS) throw new MapError("ERR_LOCKED", `'${directory}' is changed again and again while it is opened`, { path: directory });
    recovered = afterPowerLoss(name, directory) ?? recovered;
  }
}

/** See {@linkcode Queue.recover}. */
export function recover(name: string): QueueReport {
  const directory = resolve(name);
  native();
  for (let attempt = 1; ; attempt++) {
    const file = lockControl(directory);
    if (file === "replaced" && attempt < OPEN_ATTEMPTS) continue;
    if (file === "replaced") throw new MapError("ESTALE", `'${directory}' is replaced again and again while it is to be recovered`, { path: directory });
    try {
      if (file !== undefined) refuseIfOpen(file, directory);
      const powerLoss = file !== undefined && !isThisBoot(readUpTo(file, BOOT, BOOT_BYTES, directory), saltOf(name));
      const found = scan(name, { powerLoss });
      // What a takeover of a dead owner's lock mends is no damage, unless the machine forgot who that was.
      if (isSound(found, powerLoss)) {
        if (file !== undefined && powerLoss) settle(directory, file, found);
        return found.report;
      }
      return rebuild(directory, found);
    } finally {
      if (file !== undefined) fs.closeSync(file);
    }
  }
}

function isSound({ report, halfDone }: Scan, powerLoss: boolean): boolean {
  return report.ok && (!powerLoss || (report.behindTail === 0 && !halfDone));
}

/**
 * The control file, locked against those who open the queue: its descriptor, which is the lock. Undefined if there is none; "replaced" if its
 * name stands for another file by now.
 */
function lockControl(directory: string): number | "replaced" | undefined {
  const path = join(directory, CONTROL_NAME);
  let fd: number;
  try {
    ({ fd } = openRegular(path, "rw"));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // What is no regular file is no control file; the examination says what there is instead.
    if (code === "ENOENT" || code === "ENOTDIR" || code === "EISDIR" || code === "ENODEV" || code === "ENXIO") return undefined;
    throw error;
  }
  try {
    takeLock({ fd, offset: RECOVERY_OFFSET, length: 1, shared: false, path: directory });
    const own = fs.fstatSync(fd);
    const there = fs.statSync(path, { throwIfNoEntry: false });
    if (there?.ino === own.ino && there.dev === own.dev) return fd;
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
  fs.closeSync(fd);
  return "replaced";
}

/** `ERR_BUSY` if a handle that lives has the queue open for writing. */
function refuseIfOpen(fd: number, directory: string): void {
  const holder = livingHolder(fd, directory);
  if (holder === undefined) return;
  throw new MapError("ERR_BUSY", `'${directory}' is open in process ${holder}; close it there before it is recovered`, { path: directory });
}

/** The process of a handle that has the queue open for writing, by the kernel's word. */
function livingHolder(fd: number, path: string): number | undefined {
  const hf = native();
  const held = (slot: number, count: number): boolean => {
    const result = hf.hf_lock_probe(fd, slot, count);
    if (result < 0) throw new MapError(result === -errno.EINVAL ? "EINVAL" : "EIO", `the locks of '${path}' can't be asked for, fcntl`, { path });
    return result > 0;
  };
  if (!held(0, SLOT_COUNT)) return undefined;
  const namespace = hf.hf_pid_namespace();
  for (let slot = 0; slot < SLOT_COUNT; slot++) {
    if (!held(slot, 1)) continue;
    const bytes = readUpTo(fd, SLOTS + SLOT_BYTES * slot, 32, path);
    if (bytes.byteLength < 32) return 0;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const [process, thread, ns] = [8, 16, 24].map((offset) => Number(view.getBigUint64(offset, true))) as [number, number, number];
    // Bun leaves the descriptors of a Worker open that was terminated.
    if (namespace > 0 && ns === namespace && hf.hf_thread_alive(process, thread) === 0) continue;
    return process;
  }
  return undefined;
}

/**
 * What opening does in another boot. Undefined if all was sound, or another process did it; then the queue is as it was but for its boot id
 * and for what was held by processes of the other boot.
 */
function afterPowerLoss(name: string, directory: string): QueueReport | undefined {
  const fd = lockControl(directory);
  if (fd === "replaced" || fd === undefined) return undefined;
  try {
    const path = join(directory, CONTROL_NAME);
    const salt = saltOf(name);
    if (isThisBoot(readUpTo(fd, BOOT, BOOT_BYTES, path), salt)) return undefined;
    // Somebody has it open: so it was looked at in this boot, and only the field is damaged.
    if (livingHolder(fd, directory) === undefined) {
      const found = scan(name, { powerLoss: true });
      if (!isSound(found, true)) return rebuild(directory, found);
      settle(directory, fd, found);
    } else writeFully(fd, bootField(salt), BOOT, path);
    return undefined;
  } finally {
    fs.closeSync(fd);
  }
}

/**
 * Has a sound queue be one of this boot. Makes locks and leases nobody's: the owners are gone, but a handle of this boot may get the same slot and
 * the same generation, if that of the slot did not get to storage.
 */
function settle(directory: string, control: number, { groups, rebuilt, salt }: Scan): void {
  for (const { name } of groups) {
    const path = join(directory, groupFileName(name, rebuilt));
    const { fd } = openRegular(path, "rw");
    try {
      forgetOwners(fd, path, [CONSUMER_LOCK], GROUP_LEASES);
    } finally {
      fs.closeSync(fd);
    }
  }
  const path = join(directory, CONTROL_NAME);
  forgetOwners(control, path, [PRODUCER_LOCK, CONSUMER_LOCK, DURABLE_LOCK], LEASES);
  const flag = new Uint8Array(8);
  flag[0] = 1;
  writeFully(control, flag, SWEEP_FLAG, path);
  writeFully(control, bootField(salt), BOOT, path);
}

function forgetOwners(fd: number, path: string, locks: readonly number[], leases: number): void {
  for (const lock of locks) writeFully(fd, new Uint8Array(16), lock, path);
  const table = readUpTo(fd, leases, LEASE_COUNT * LEASE_BYTES, path);
  const view = new DataView(table.buffer, table.byteOffset);
  for (let index = 0; index < LEASE_COUNT; index++) {
    if (view.getBigUint64(LEASE_BYTES * index, true) === 0n) continue;
    writeFully(fd, new Uint8Array(8), leases + LEASE_BYTES * index + 8 * LEASE.owner, path);
  }
}

/** Where a record was written. */
interface Placed {
  readonly position: number;
  readonly segment: number;
  readonly offset: number;
  readonly sequence: number;
  readonly bytes: number;
  /** Bytes of all records before. */
  readonly before: number;
}

/** A new queue's files while they are written. */
class Writer {
  readonly #directory: string;
  readonly #queueId: Uint8Array;
  readonly #salt: number;
  readonly #segmentBytes: number;
  readonly #log: boolean;
  readonly #permissions: number;
  readonly #owner: fs.Stats;
  readonly #buffer = new Uint8Array(1 << 20);
  readonly #words = new Uint32Array(this.#buffer.buffer);
  #fd = -1;
  #length = 0;
  #buffered = 0;
  /** Files that were made. */
  readonly created: string[] = [];
  /** Where the next record goes. */
  base: number = FIRST_BASE;
  segment: number;
  offset: number = RECORDS_OFFSET;
  /** Bytes of all records. */
  bytes = 0;

  /** Of a log: when it went on from the segment that the last record was in. */
  time = 0;

  constructor(directory: string, queueId: Uint8Array, firstId: number, { segmentBytes, log }: { segmentBytes: number; log: boolean }, owner: fs.Stats) {
    this.#directory = directory;
    this.#queueId = queueId;
    this.#salt = crc32c(queueId);
    this.#segmentBytes = segmentBytes;
    this.#log = log;
    this.#permissions = owner.mode & 0o777;
    this.#owner = owner;
    this.segment = firstId;
  }

  get position(): number {
    return this.base + this.offset;
  }

  /** Appends the record in `source` with a sequence of its own; returns where it lies. */
  add(source: Uint32Array, sequence: number): Placed {
    const total = source.byteLength;
    if (this.#fd < 0) this.#create(total, this.base);
    else if (this.offset + total > this.#length) this.#roll(total);
    const place = this.place(sequence, total);
    if (this.#buffered + total > this.#buffer.byteLength) this.#flush();
    const large = total > this.#buffer.byteLength;
    const words = large ? source.slice() : this.#words;
    const at = large ? 0 : this.#buffered / 4;
    if (!large) words.set(source, at);
    words[at + 4] = sequence; // modulo 2^32
    words[at + 5] = Math.floor(sequence / 2 ** 32);
    words[at] = recordChecksum(words, at, at + total / 4, this.#salt, this.position);
    if (large) writeFully(this.#fd, new Uint8Array(words.buffer), this.offset, this.#path);
    else this.#buffered += total;
    this.offset += total;
    this.bytes += total;
    return place;
  }

  /** Where the next record goes, of such a sequence and so many bytes. */
  place(sequence: number, bytes = 0): Placed {
    return { position: this.position, segment: this.segment, offset: this.offset, sequence, bytes, before: this.bytes };
  }

  /** Creates another file of the queue, on storage when this returns. */
  file(name: string, bytes: Uint8Array): void {
    const path = join(this.#directory, name);
    const { fd } = openRegular(path, "rw", fs.constants.O_CREAT | fs.constants.O_EXCL, this.#permissions);
    this.created.push(path);
    try {
      reserve(fd, bytes.byteLength, path);
      writeFully(fd, bytes, 0, path);
      giveTo(path, this.#owner);
      syncFile(fd, path);
    } finally {
      fs.closeSync(fd);
    }
  }

  /** Makes sure that there is a segment, and all of it on storage. */
  finish(): void {
    if (this.#fd < 0) this.#create(0, this.base);
    this.#close();
  }

  /** Creates a free segment behind the tail; returns its id. */
  spare(number: number): number {
    const id = this.segment + 1 + number;
    this.#make(id, this.#segmentBytes, 0);
    syncPath(join(this.#directory, segmentName(id)));
    return id;
  }

  get #path(): string {
    return join(this.#directory, segmentName(this.segment));
  }

  #create(total: number, base: number): void {
    this.#length = Math.max(this.#segmentBytes, Math.ceil((RECORDS_OFFSET + total) / 4096) * 4096);
    this.#make(this.segment, this.#length, base);
    this.#fd = openRegular(this.#path, "rw").fd;
  }

  #make(id: number, byteLength: number, base: number): void {
    const path = join(this.#directory, segmentName(id));
    this.created.push(path);
    createSegment(path, { queueId: this.#queueId, id, byteLength, base, permissions: this.#permissions });
    giveTo(path, this.#owner);
  }

  #roll(total: number): void {
    this.#flush();
    const words = new DataView(new ArrayBuffer(24));
    words.setBigUint64(0, BigInt(this.offset), true);
    words.setBigUint64(8, BigInt(this.segment + 1), true);
    if (this.#log) words.setBigUint64(16, sealedWord(this.time, this.#salt), true);
    writeFully(this.#fd, new Uint8Array(words.buffer), SEGMENT_WORDS_OFFSET + 8, this.#path);
    this.#close();
    this.base += this.#length;
    this.segment++;
    this.offset = RECORDS_OFFSET;
    this.#create(total, this.base);
  }

  #flush(): void {
    writeFully(this.#fd, this.#buffer.subarray(0, this.#buffered), this.offset - this.#buffered, this.#path);
    this.#buffered = 0;
  }

  #close(): void {
    this.#flush();
    syncFile(this.#fd, this.#path);
    fs.closeSync(this.#fd);
    this.#fd = -1;
  }

  /** Removes what was made. */
  undo(): void {
    if (this.#fd >= 0) fs.closeSync(this.#fd);
    this.#fd = -1;
    for (const path of this.created) discard(path);
  }
}

function syncPath(path: string): void {
  const { fd } = openRegular(path, "rw");
  try {
    syncFile(fd, path);
  } finally {
    fs.closeSync(fd);
  }
}

/**
 * Has a new file belong to who had the queue, where root repairs it for another. Whether this is root, the file says: asking the runtime for the
 * user takes a permission in Deno.
 */
function giveTo(path: string, owner: fs.Stats): void {
  fileSystem(path, () => {
    const { uid, gid } = fs.statSync(path);
    if (uid === 0 && (owner.uid !== 0 || owner.gid !== gid)) fs.chownSync(path, owner.uid, owner.gid);
  });
}

/** Builds a new queue of the whole records, in the place of the old one. Returns the report of what was found, with what was done. */
function rebuild(directory: string, found: Scan): QueueReport {
  const control = join(directory, CONTROL_NAME);
  const temporary = join(directory, `.control.${randomBytes(8).toString("hex")}.tmp`);
  const owner = ownerOf(directory, found);
  const id = randomBytes(16);
  const present = fs.readdirSync(directory);
  const ids = present.map((name) => segmentId(name) ?? 0);
  const rebuilt = 1 + Math.max(found.rebuilt, ...present.map((name) => groupOfFile(name)?.rebuilt ?? 0));
  const writer = new Writer(directory, id, Math.max(...ids, 0) + ID_HEADROOM, { segmentBytes: found.shape.segmentBytes, log: found.log }, owner);
  const quarantine = makeQuarantine(directory);
  try {
    for (const name of found.names) keep(join(directory, name), join(quarantine, name));
    syncDirectory(quarantine);
    syncDirectory(join(directory, ".."));
    const { bytes, first } = found.log ? writeLog(writer, id, found, rebuilt) : write(writer, id, found);
    const { fd } = openRegular(temporary, "rw", fs.constants.O_CREAT | fs.constants.O_EXCL, owner.mode & 0o777);
    try {
      reserve(fd, CONTROL_BYTES, control);
      writeFully(fd, bytes, 0, control);
      giveTo(temporary, owner);
      syncFile(fd, control);
    } finally {
      fs.closeSync(fd);
    }
    syncDirectory(directory);
    replaceControl(temporary, control, found);
    syncDirectory(directory);
    clearAway(directory, found);
    const { report } = found;
    const kept = report.records;
    const notes = [...report.notes, `${kept} records were kept; the next one has sequence ${first + kept}`];
    for (const { name, ok, length } of report.groups) {
      if (!ok) notes.push(`group ${JSON.stringify(name)} goes on with ${length} records: it may get some for the second time`);
    }
    return new QueueReport({ ...report, notes, quarantine });
  } catch (error) {
    discard(temporary);
    writer.undo();
    // Second names only, unless one of the first is gone already.
    if (found.names.every((name) => fs.existsSync(join(directory, name)))) discard(quarantine, { recursive: true });
    throw error;
  } finally {
    // Closed as they are through with; after a failure in the middle (a full disk) one is open.
    for (const { file } of [...found.runs, ...found.leased]) file.close();
  }
}

function ownerOf(directory: string, { names }: Scan): fs.Stats {
  for (const name of [CONTROL_NAME, ...names]) {
    const stat = fs.statSync(join(directory, name), { throwIfNoEntry: false });
    if (stat?.isFile() === true) return stat;
  }
  const stat = fs.statSync(directory);
  stat.mode &= 0o666;
  return stat;
}

/** The folder for the old files: beside the queue, `….quarantine-1`, or the next number. */
function makeQuarantine(directory: string): string {
  const owner = fs.statSync(directory);
  for (let number = 1; ; number++) {
    const path = `${directory}.quarantine-${number}`;
    try {
      fs.mkdirSync(path, { mode: owner.mode & 0o777 });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EEXIST") continue;
      throw fromFileSystem(error, path);
    }
    giveTo(path, owner);
    return path;
  }
}

/** Gives a file a second name; where the file system has no such thing, a copy. */
function keep(path: string, other: string): void {
  const stat = fs.lstatSync(path, { throwIfNoEntry: false });
  // What is no regular file, nobody put there for the queue: it stays where it is, or is moved with the control file.
  if (stat === undefined || !stat.isFile()) return;
  try {
    fs.linkSync(path, other);
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    if (!["EPERM", "EXDEV", "EMLINK", "EOPNOTSUPP", "ENOTSUP", "ENOSYS"].includes(code)) throw fromFileSystem(error, path);
    fileSystem(path, () => fs.copyFileSync(path, other, fs.constants.COPYFILE_EXCL | fs.constants.COPYFILE_FICLONE));
    syncPath(other);
  }
}

/** What {@linkcode write} and {@linkcode writeLog} have made: the bytes of the control file, and the first sequence. */
interface Written {
  readonly bytes: Uint8Array;
  readonly first: number;
}

/** The sequence of the first of `count` records that are kept, the oldest of which has `lowest`. */
function firstSequence({ nextSequence, sequencesUnsure }: Scan, lowest: number, count: number): number {
  // Readers expect sequences without a gap. So they stay only if there is none.
  const gapless = lowest + count === nextSequence;
  return gapless && !sequencesUnsure ? lowest : nextSequence + (sequencesUnsure ? SEQUENCE_HEADROOM : 0);
}

function countOf({ runs }: Scan): number {
  return runs.reduce((sum, run) => sum + run.last - run.first + 1, 0);
}

/** Writes the segments of a work queue. */
function write(writer: Writer, id: Uint8Array, found: Scan): Written {
  const { leased, runs, nextSequence } = found;
  const salt = crc32c(id);
  const first = firstSequence(found, leased[0]?.sequence ?? runs[0]?.first ?? nextSequence, leased.length + countOf(found));
  let sequence = first;
  const head = writer.segment;
  const bytes = new Uint8Array(CONTROL_BYTES);

  const read = (record: LeasedRecord, before: LeasedRecord | undefined): Uint32Array => {
    if (before !== undefined && before.file !== record.file) before.file.close();
    return record.file.words(record.offset, record.bytes);
  };
  const entries = leased.slice(0, LEASE_COUNT).map((record, i) => ({ ...writer.add(read(record, leased[i - 1]), sequence++), attempts: record.attempts }));
  const cursor = writer.place(sequence);
  for (let i = LEASE_COUNT; i < leased.length; i++) writer.add(read(leased[i] as LeasedRecord, leased[i - 1]), sequence++);
  leased.at(-1)?.file.close();
  for (const { file, offset, end } of runs) {
    for (let at = offset; at < end; ) {
      const total = file.words(at, 8)[1] as number;
      writer.add(file.words(at, total), sequence++);
      at += total;
    }
    file.close();
  }
  writer.finish();
  const leases = writeLeases(bytes, LEASES, entries, salt);
  writeControl(bytes, id, writer, found, { consumer: consumerWords(cursor, leases, head), sequence, fields: [] });
  return { bytes, first };
}

/**
 * Writes the segments of a log, and its groups' files, with the number that their names have from now on. Each group goes on with the first record
 * that is kept from its place on; its leases are nobody's, and keep their attempts.
 */
function writeLog(writer: Writer, id: Uint8Array, found: Scan, rebuilt: number): Written {
  const { runs, groups, shape, nextSequence, salt: oldSalt } = found;
  const salt = crc32c(id);
  const first = firstSequence(found, runs[0]?.first ?? nextSequence, countOf(found));
  const start = writer.place(first);
  const leased = new Map<number, Placed | undefined>(groups.flatMap(({ leases }) => leases.map((entry) => [entry.sequence, undefined])));
  const waiting = groups.toSorted((a, b) => a.next - b.next);
  const cursors = new Map<string, Placed>();
  let sequence = first;
  for (const { file, offset, end, first: firstOfRun } of runs) {
    let number = firstOfRun;
    for (let at = offset; at < end; number++) {
      const total = file.words(at, 8)[1] as number;
      const place = writer.add(file.words(at, total), sequence++);
      // The segment of its tail has none yet.
      writer.time = file.time(oldSalt) ?? Date.now();
      if (leased.has(number)) leased.set(number, place);
      for (; (waiting[0]?.next ?? Infinity) <= number; waiting.shift()) cursors.set((waiting[0] as GroupScan).name, place);
      at += total;
    }
    file.close();
  }
  writer.finish();
  const tail = writer.place(sequence);
  for (const { name, leases, missed } of groups) {
    const bytes = new TextEncoder().encode(name);
    const groupSalt = crcOfBytes(bytes, salt);
    const content = new Uint8Array(GROUP_BYTES);
    const entries = leases.map((entry) => ({ ...(leased.get(entry.sequence) as Placed), attempts: entry.attempts }));
    const cursor = cursors.get(name) ?? tail;
    const head = entries[0] ?? cursor;
    const cell = consumerWords(cursor, writeLeases(content, GROUP_LEASES, entries, groupSalt), head.segment);
    cell[GROUP.headBase] = head.position - head.offset;
    cell[GROUP.missed] = missed;
    content.set(encodeHeader({ kind: "group", id, fields: [LEASE_COUNT, bytes.byteLength, crc32c(bytes)] }));
    writeCells(new DataView(content.buffer), CONSUMER_CELLS, GROUP_WORDS, cell, groupSalt);
    writer.file(groupFileName(name, rebuilt), content);
  }
  const bytes = new Uint8Array(CONTROL_BYTES);
  const consumer = consumerWords(start, writeLeases(bytes, LEASES, [], salt), start.segment);
  writeControl(bytes, id, writer, found, { consumer, sequence, fields: [1, shape.retainBytes, shape.retainMs, rebuilt] });
  return { bytes, first };
}

function setWords(bytes: Uint8Array, offset: number, values: readonly number[]): void {
  const view = new DataView(bytes.buffer);
  values.forEach((value, i) => view.setBigUint64(offset + 8 * i, BigInt(value), true));
}

/** What a consumer cell says of a lease table. */
interface Leases {
  readonly count: number;
  readonly bytes: number;
  readonly sum: number;
}

/** Writes a lease table of records that are nobody's, one behind the other. */
function writeLeases(bytes: Uint8Array, offset: number, entries: readonly (Placed & { readonly attempts: number })[], salt: number): Leases {
  let sum = 0;
  entries.forEach((record, index) => {
    let seal = salt;
    for (const value of [record.sequence, record.position, record.segment, record.offset, record.bytes]) seal = crcOfNumber(value, seal);
    sum += seal;
    const entry: number[] = [];
    entry[LEASE.sequence] = record.sequence;
    entry[LEASE.owner] = 0;
    entry[LEASE.deadline] = 0;
    entry[LEASE.attempts] = seal * (MAX_ATTEMPTS + 1) + Math.min(record.attempts, MAX_ATTEMPTS);
    entry[LEASE.position] = record.position;
    entry[LEASE.segment] = record.segment;
    entry[LEASE.offset] = record.offset;
    entry[LEASE.bytes] = record.bytes;
    setWords(bytes, offset + LEASE_BYTES * index, entry);
  });
  return { count: entries.length, bytes: entries.reduce((total, entry) => total + entry.bytes, 0), sum };
}

function consumerWords(cursor: Placed, leases: Leases, head: number): number[] {
  const words: number[] = [];
  words[CONSUMER.position] = cursor.position;
  words[CONSUMER.segment] = cursor.segment;
  words[CONSUMER.offset] = cursor.offset;
  words[CONSUMER.sequence] = cursor.sequence;
  words[CONSUMER.bytes] = cursor.before;
  words[CONSUMER.leased] = leases.count;
  words[CONSUMER.leasedBytes] = leases.bytes;
  words[CONSUMER.head] = head;
  words[CONSUMER.leaseEnd] = leases.count;
  words[CONSUMER.leaseSum] = leases.sum;
  return words;
}

/** Fills in the control file that goes with what was written; `fields` are those of its header that only a log has. */
function writeControl(bytes: Uint8Array, id: Uint8Array, writer: Writer, { shape, mark }: Scan, { consumer, sequence, fields }: { consumer: readonly number[]; sequence: number; fields: readonly number[] }): void {
  const salt = crc32c(id);
  const view = new DataView(bytes.buffer);
  const producer: number[] = [];
  producer[PRODUCER.position] = writer.position;
  producer[PRODUCER.segment] = writer.segment;
  producer[PRODUCER.offset] = writer.offset;
  producer[PRODUCER.sequence] = sequence;
  producer[PRODUCER.bytes] = writer.bytes;
  producer[PRODUCER.mark] = mark === undefined ? 0 : 2;
  if (mark !== undefined) writeMark(bytes, mark, sequence, salt);
  const durable: number[] = [];
  durable[DURABLE.position] = writer.position;
  durable[DURABLE.segment] = writer.segment;
  durable[DURABLE.offset] = writer.offset;
  durable[DURABLE.sequence] = sequence;
  durable[DURABLE.failed] = 0;
  bytes.set(encodeHeader({ kind: "queue", id, fields: [shape.segmentBytes, shape.maxBytes, SLOT_COUNT, LEASE_COUNT, shape.spares, ...fields] }));
  writeCells(view, PRODUCER_CELLS, PRODUCER_WORDS, producer, salt);
  writeCells(view, CONSUMER_CELLS, CONSUMER_WORDS, consumer, salt);
  writeCells(view, DURABLE_CELLS, DURABLE_WORDS, durable, salt);
  const spares = Array.from({ length: shape.spares }, (_, i) => writer.spare(i));
  setWords(bytes, SPARES, spares);
  setWords(bytes, NEXT_SEGMENT, [writer.segment + 1 + shape.spares]);
  bytes.set(bootField(salt), BOOT);
}

/** The mark of number 2, whose slot is the first: what the old one's number was does not matter. */
function writeMark(bytes: Uint8Array, mark: Uint8Array, sequence: number, salt: number): void {
  const view = new DataView(bytes.buffer, MARKS, MARK_BYTES);
  view.setUint32(RECORD_TOTAL, MARK_BYTES, true);
  view.setUint32(MARK_LENGTH, mark.byteLength, true);
  view.setUint32(MARK_SEQUENCE, sequence % 2 ** 32, true);
  bytes.set(mark, MARKS + MARK_PAYLOAD);
  const words = new Uint32Array(bytes.buffer, MARKS, MARK_BYTES / 4);
  words[0] = recordChecksum(words, 0, words.length, salt, 2);
}

/** A cell pair as `hf_cell_init` makes it: both cells the same, versions 1 and 2. */
function writeCells(view: DataView, offset: number, count: number, values: readonly number[], salt: number): void {
  for (const version of [1, 2]) {
    const at = offset + 128 + 128 * (version & 1);
    let checksum = salt;
    for (let i = 0; i < count; i++) {
      view.setBigUint64(at + 8 * i, BigInt(values[i] as number), true);
      checksum = crcOfNumber(values[i] as number, checksum);
    }
    view.setBigUint64(at + 112, BigInt(version), true);
    view.setUint32(at + 120, crcOfNumber(version, checksum), true);
  }
  view.setBigUint64(offset, sealedWord(2, salt), true);
}

/** A value of 48 bits with its seal. */
function sealedWord(value: number, salt: number): bigint {
  return BigInt(value) | (BigInt(crcOfNumber(value, salt) & 0xffff) << 48n);
}

/** The commit. */
function replaceControl(temporary: string, control: string, { names }: Scan): void {
  const stat = fs.lstatSync(control, { throwIfNoEntry: false });
  if (stat?.isFile() === true) {
    fileSystem(control, () => fs.renameSync(temporary, control));
    return;
  }
  if (stat !== undefined || names.includes(CONTROL_NAME)) {
    throw new MapError("ERR_NOT_HOLDFAST", `'${control}' is no regular file; move it away before the queue is recovered`, { path: control });
  }
  // Without a control file there was nothing to lock: should another recovery have come first, its result stays.
  fileSystem(control, () => fs.linkSync(temporary, control));
  discard(temporary);
}

/** Takes the old names away; each file has another one in the quarantine. What can't be removed is in nobody's way. */
function clearAway(directory: string, { names }: Scan): void {
  for (const name of fs.readdirSync(directory)) {
    const old = name !== CONTROL_NAME && names.includes(name);
    if (!old && !/^\.control\.[0-9a-f]{16}\.tmp$/.test(name)) continue;
    const path = join(directory, name);
    try {
      // Deno's unlinkSync removes empty directories, too.
      if (fs.lstatSync(path).isFile()) fs.unlinkSync(path);
    } catch {
      // Nobody refers to it.
    }
  }
  syncDirectory(directory);
}
