/**
 * The groups of a log, each with a cursor and leases of its own, and the retention: which segments are kept.
 *
 * Invariants:
 *   - A segment is given up by who holds the retention lock, and only once the retention cell, published, lies behind it. So a reader that
 *     finds this cell at or before its own place has read nothing that was given up.
 *   - Without limits nothing is given up that a group needs: a group is made, under the retention lock, at a place that is kept, and from
 *     then on its own cell says what it needs. Its head only moves forward, so an older copy of the cell errs on the safe side.
 *   - With limits (`retainBytes`, `retainMs`) they alone decide. A group that was overtaken finds the retention cell in front of its own head,
 *     counts what it has missed, and goes on from there.
 *   - A group's file is removed only while no handle has the group open, on the kernel's word: each holds a shared lock on a byte of it.
 *
 * Order of locks: a group's consumer lock, retention, producer.
 *
 * @module
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { MapError } from "../errors.ts";
import { createWhole, Descriptor, fileSystem, openRegular, readUpTo, syncDirectory, unlink, writeFully } from "../files.ts";
import { crc32c, decodeHeader, encodeHeader, HEADER_BYTES } from "../layout/header.ts";
import {
  CONSUMER,
  CONSUMER_CELLS,
  CONSUMER_LOCK,
  CONTROL_NAME,
  GROUP,
  GROUP_BYTES,
  GROUP_LEASES,
  GROUP_WORDS,
  groupFileName,
  groupOfFile,
  isUnfinishedGroup,
  LEASE,
  LEASE_BYTES,
  LEASE_COUNT,
  PRODUCER,
  RECORDS_OFFSET,
  SWEEP_FLAG,
} from "../layout/queue.ts";
import { allocateScratch, native } from "../native/native.ts";
import { mapFlags } from "../native/symbols.ts";
import { type LockRange, takeLock, tryLock } from "../range_lock.ts";
import { Region } from "../region.ts";
import type { Control, GroupRequest } from "./control.ts";
import { type LeaseEntry, LeaseTable } from "./leases.ts";
import type { Reader } from "./reader.ts";
import type { Segments } from "./segments.ts";

/**
 * A group of a log, as `Queue.groups()` shows it.
 *
 * @example
 * ```ts
 * import { Queue, type QueueGroup } from "holdfast";
 * using queue = Queue.open<number>("/tmp/example-group.log", { group: "mail", autoUnlink: true });
 * queue.push(1);
 * const groups: QueueGroup[] = queue.groups();
 * groups; // [{ name: "mail", length: 1, leased: 0, missed: 0 }]
 * ```
 */
export interface QueueGroup {
  /** The name that it is opened by. */
  readonly name: string;
  /** Records that the group has still to remove, leased ones included: its backlog. */
  readonly length: number;
  /** Of those, the ones that are leased. */
  readonly leased: number;
  /** Records that the group never had, or had leased and not acknowledged, when the log's limits gave them up. */
  readonly missed: number;
}

/** A byte behind the end of a group's file that each handle of the group has locked, shared. */
const USE_OFFSET: number = 2 ** 40 + 1;
/** How long the end of a segment waits for the retention lock. What is not given up then is given up at the next end. */
const TRIM_TIMEOUT_MS = 20;

/** A group's file, open and mapped. */
export class Group {
  readonly name: string;
  readonly region: Region;
  /** Seed of the file's checksums: bytes of another group's file never pass. */
  readonly salt: number;
  readonly #file: Descriptor;

  constructor(name: string, file: Descriptor, region: Region, salt: number) {
    this.name = name;
    this.region = region;
    this.salt = salt;
    this.#file = file;
  }

  /** The lock on who may consume is on this descriptor. */
  get fd(): number {
    return this.#file.fd;
  }

  close(): void {
    this.#file.close();
    this.region.release();
  }
}

/** The path of a group's file. */
function pathOf(control: Control, name: string): string {
  return join(control.directory, groupFileName(name, control.rebuilt));
}

/** Seed of the checksums in a group's file. */
function saltOf(control: Control, name: string): number {
  return crc32c(new TextEncoder().encode(name), control.salt);
}

function useOf(fd: number, shared: boolean, path: string): LockRange {
  return { fd, offset: USE_OFFSET, length: 1, shared, path };
}

/** Whether `path` still is the file that is open as `fd`. */
function isStill(path: string, fd: number): boolean {
  const own = fs.fstatSync(fd);
  const there = fs.statSync(path, { throwIfNoEntry: false });
  return there !== undefined && there.ino === own.ino && there.dev === own.dev;
}

/** Opens the group's file, or undefined if there is none. */
function openFile(path: string, mode: "r" | "rw"): number | undefined {
  try {
    return openRegular(path, mode).fd;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** The owners in a lease table. */
export function* ownersOf(table: Uint8Array): Generator<number> {
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  for (let at = 8 * LEASE.owner; at + 8 <= table.byteLength; at += LEASE_BYTES) {
    const owner = view.getBigUint64(at, true);
    if (owner <= BigInt(Number.MAX_SAFE_INTEGER)) yield Number(owner);
  }
}

/** The owners that the files of a log's groups name, in locks and leases. A file that can't be read is passed over: who opens it is told. */
export function* groupOwners(directory: string, rebuilt: number): Generator<number> {
  for (const name of fileSystem(directory, () => fs.readdirSync(directory))) {
    if (groupOfFile(name)?.rebuilt === rebuilt) yield* ownersInFile(join(directory, name));
  }
}

function ownersInFile(path: string): number[] {
  try {
    const { fd } = openRegular(path, "r");
    try {
      const bytes = readUpTo(fd, 0, GROUP_LEASES, path);
      if (bytes.byteLength < GROUP_LEASES) return [];
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      // Both cells as they are, whole or not: an entry too many does no harm.
      const ends = [1, 2].map((cell) => Number(view.getBigUint64(CONSUMER_CELLS + 128 * cell + 8 * CONSUMER.leaseEnd, true)));
      const table = readUpTo(fd, GROUP_LEASES, Math.min(LEASE_COUNT, Math.max(...ends)) * LEASE_BYTES, path);
      return [Number(view.getBigUint64(CONSUMER_LOCK, true)), ...ownersOf(table)].filter(Number.isSafeInteger);
    } finally {
      fs.closeSync(fd);
    }
  } catch (error) {
    if (error instanceof MapError) return [];
    throw error;
  }
}

/** Maps the file of a group that is open as `fd`. `ERR_CORRUPT` if it is another's, or not all of it. */
function mapGroup(control: Control, name: string, fd: number, writable: boolean): Region {
  const path = pathOf(control, name);
  const size = fileSystem(path, () => fs.fstatSync(fd)).size;
  const { id, fields } = decodeHeader(readUpTo(fd, 0, HEADER_BYTES, path), "group", path);
  const bytes = new TextEncoder().encode(name);
  const same = id.every((byte, i) => byte === control.id[i]) && fields[0] === LEASE_COUNT && fields[1] === bytes.byteLength && fields[2] === crc32c(bytes);
  if (!same || size !== GROUP_BYTES) throw new MapError("ERR_CORRUPT", `'${path}' is not the file of group "${name}" of this queue, or not all of it`, { path });
  return new Region({ fd, offset: 0, byteLength: GROUP_BYTES, flags: writable ? mapFlags.WRITE : 0, writable, what: "queue", path });
}

/** Opens a group; in a writable queue it is made if there is none of that name. */
export function openGroup(control: Control, { name, start }: GroupRequest): Group {
  const path = pathOf(control, name);
  for (;;) {
    control.assertSame();
    const fd = openFile(path, control.writable ? "rw" : "r");
    if (fd === undefined) {
      if (!control.writable) throw new MapError("ENOENT", `'${control.directory}' has no group "${name}"`, { path: control.directory });
      createGroup(control, name, start);
      continue;
    }
    const file = new Descriptor(fd);
    try {
      takeLock(useOf(fd, true, path));
      // Removed before the lock was ours: there may be another one by now.
      if (!isStill(path, fd)) {
        file.close();
        continue;
      }
      return new Group(name, file, mapGroup(control, name, fd, control.writable), saltOf(control, name));
    } catch (error) {
      file.close();
      throw error;
    }
  }
}

/** Makes a group's file, whole before it has its name. Does nothing if another came first. */
function createGroup(control: Control, name: string, start: GroupRequest["start"]): void {
  const { retention, tail } = control;
  const path = pathOf(control, name);
  const { mode } = fileSystem(control.directory, () => fs.statSync(join(control.directory, CONTROL_NAME)));
  const takenOver = control.acquire(retention);
  try {
    if (takenOver) requestSweep(control);
    // While the lock is held nothing is given up from here on.
    const cell = new Float64Array(GROUP_WORDS);
    const from = retention.values;
    for (const word of Object.values(PLACE)) cell[word] = from[word] as number;
    if (start === "newest") {
      control.read(tail);
      cell[CONSUMER.position] = tail.values[PRODUCER.position] as number;
      cell[CONSUMER.segment] = tail.values[PRODUCER.segment] as number;
      cell[CONSUMER.offset] = tail.values[PRODUCER.offset] as number;
      cell[CONSUMER.sequence] = tail.values[PRODUCER.sequence] as number;
      cell[CONSUMER.bytes] = tail.values[PRODUCER.bytes] as number;
    }
    cell[CONSUMER.head] = cell[CONSUMER.segment] as number;
    cell[GROUP.headBase] = (cell[CONSUMER.position] as number) - (cell[CONSUMER.offset] as number);
    createWhole(path, GROUP_BYTES, mode & 0o777, (fd) => {
      const bytes = new TextEncoder().encode(name);
      writeFully(fd, encodeHeader({ kind: "group", id: control.id, fields: [LEASE_COUNT, bytes.byteLength, crc32c(bytes)] }), 0, path);
      const region = mapGroup(control, name, fd, true);
      try {
        const scratch = allocateScratch(8 * (GROUP_WORDS + 1));
        new Float64Array(scratch.buffer).set(cell);
        const result = native().hf_cell_init(region.address + CONSUMER_CELLS, GROUP_WORDS, saltOf(control, name), scratch.address);
        if (result < 0) throw control.error(result, "consumer cell");
      } finally {
        region.release();
      }
    });
  } finally {
    control.release(retention);
  }
}

/** The words that say where a cursor is. */
const PLACE = {
  position: CONSUMER.position,
  segment: CONSUMER.segment,
  offset: CONSUMER.offset,
  sequence: CONSUMER.sequence,
  bytes: CONSUMER.bytes,
} as const;

/** Whether the log has given up something that the group of `cell` had not finished with. */
export function overtaken(cell: Float64Array, kept: Float64Array): boolean {
  return (kept[CONSUMER.position] as number) > firstNeeded(cell);
}

/** Position in front of which a group needs nothing. */
export function firstNeeded(cell: Float64Array): number {
  return Math.min(cell[CONSUMER.position] as number, (cell[GROUP.headBase] as number) + RECORDS_OFFSET);
}

/** Moves an overtaken group's cell to what is kept. `entries` are its leases, of `table`; those of lost records are returned. */
export function skipLost(cell: Float64Array, kept: Float64Array, entries: readonly LeaseEntry[], table: LeaseTable): LeaseEntry[] {
  const from = kept[CONSUMER.position] as number;
  const lost = entries.filter((entry) => entry.position < from);
  const left = entries.filter((entry) => entry.position >= from);
  let missed = lost.length;
  if ((cell[CONSUMER.position] as number) < from) {
    missed += (kept[CONSUMER.sequence] as number) - (cell[CONSUMER.sequence] as number);
    for (const word of Object.values(PLACE)) cell[word] = kept[word] as number;
  }
  cell[CONSUMER.leased] = left.length;
  cell[CONSUMER.leasedBytes] = left.reduce((sum, { bytes }) => sum + bytes, 0);
  cell[CONSUMER.leaseSum] = left.reduce((sum, entry) => sum + table.sealOf(entry), 0);
  cell[CONSUMER.leaseEnd] = left.reduce((end, { index }) => Math.max(end, index + 1), 0);
  cell[CONSUMER.head] = kept[CONSUMER.segment] as number;
  cell[GROUP.headBase] = from - RECORDS_OFFSET;
  cell[GROUP.missed] = (cell[GROUP.missed] as number) + missed;
  return lost;
}

function requestSweep(control: Control): void {
  // As Segments.requestSweep(), which is not there yet while a queue is opened.
  native().hf_store64(control.region.address + SWEEP_FLAG, 1);
}

/** A group as another handle sees it. */
interface View {
  readonly name: string;
  readonly dev: number;
  readonly ino: number;
  readonly region: Region;
  readonly salt: number;
  /** The consumer cell, as it was looked at last. */
  readonly cell: Float64Array;
  readonly address: number;
}

/** One handle's view of all groups of its log. */
export class Groups {
  readonly #control: Control;
  readonly #segments: Segments;
  readonly #reader: Reader;
  readonly #views = new Map<string, View>();

  constructor(control: Control, segments: Segments, reader: Reader) {
    this.#control = control;
    this.#segments = segments;
    this.#reader = reader;
  }

  /** What there is to know of each group, in the order of their names. */
  list(): QueueGroup[] {
    const control = this.#control;
    const views = this.#look();
    control.read(control.kept);
    const kept = control.kept.values;
    control.read(control.tail);
    const next = control.tail.values[PRODUCER.sequence] as number;
    const groups = views.map(({ name, cell, region, salt }): QueueGroup => {
      if (overtaken(cell, kept)) {
        const table = new LeaseTable(control, { region, offset: GROUP_LEASES, salt });
        skipLost(cell, kept, table.load(Math.min(LEASE_COUNT, cell[CONSUMER.leaseEnd] as number), cell[CONSUMER.sequence] as number), table);
      }
      const leased = cell[CONSUMER.leased] as number;
      return { name, length: next - (cell[CONSUMER.sequence] as number) + leased, leased, missed: cell[GROUP.missed] as number };
    });
    return groups.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Bytes of all records that no group needs any more: a lower bound. */
  removedBytes(): number {
    const control = this.#control;
    const cells = this.#look().map(({ cell }) => (cell[CONSUMER.bytes] as number) - (cell[CONSUMER.leasedBytes] as number));
    if (cells.length > 0) return Math.min(...cells);
    control.read(control.kept);
    return control.kept.values[CONSUMER.bytes] as number;
  }

  /** Removes a group, with its cursor and its leases. False if there is none. */
  remove(name: string): boolean {
    const control = this.#control;
    const path = pathOf(control, name);
    control.assertSame();
    const fd = openFile(path, "rw");
    if (fd === undefined) return false;
    try {
      if (!tryLock(useOf(fd, false, path))) {
        throw new MapError("ERR_LOCKED", `group "${name}" of '${control.directory}' is open; close the handles that consume for it first`, { path: control.directory });
      }
      const takenOver = control.acquire(control.retention);
      try {
        if (takenOver) this.#segments.requestSweep();
        if (!isStill(path, fd)) return false;
        fileSystem(path, () => fs.unlinkSync(path));
        syncDirectory(control.directory);
        this.#trim();
        return true;
      } finally {
        control.release(control.retention);
      }
    } finally {
      fs.closeSync(fd);
    }
  }

  /**
   * Gives up the segments that are not to be kept any longer. Never fails: what the caller did is done. What can't be given up now is at
   * the next time.
   */
  trim(): void {
    const control = this.#control;
    try {
      // With a limit: a process that is stopped inside holds nobody up. What a dead one left is taken over all the same.
      if (control.acquire(control.retention, TRIM_TIMEOUT_MS)) this.#segments.requestSweep();
    } catch {
      return;
    }
    try {
      this.#trim();
    } finally {
      control.release(control.retention);
    }
  }

  /** As {@linkcode Groups.trim}, and gives back the storage of spares and of files that dead processes left. */
  compact(): void {
    const control = this.#control;
    const { retention, producer, shape } = control;
    control.acquire(retention);
    try {
      this.#trim();
      control.acquire(producer);
      try {
        // Asked for first: who dies on the way leaves it to the next one.
        this.#segments.requestSweep();
        const reserved = shape.maxBytes > 0 && shape.maxBytes <= shape.segmentBytes * (1 + shape.spares);
        if (!reserved) this.#segments.dropSpares();
        this.#sweep();
      } finally {
        control.release(producer);
      }
    } finally {
      control.release(retention);
    }
  }

  close(): void {
    for (const { region } of this.#views.values()) region.release();
    this.#views.clear();
  }

  /** The caller holds the retention lock. */
  #trim(): void {
    const control = this.#control;
    const { retention, producer } = control;
    try {
      const free = this.#unneeded(retention.values);
      if (free.length > 0) {
        // First nobody refers to them, then they are used again.
        control.publish(retention);
        this.#segments.giveUp(free);
      }
    } catch {
      // A group's file that can't be read, or a damaged segment: all is kept. Who reads it says so.
      retention.forget();
    }
    try {
      control.read(retention);
      if (!this.#segments.sweepRequested) return;
      if (!control.tryAcquire(producer)) return;
      try {
        this.#sweep();
      } finally {
        control.release(producer);
      }
    } catch {
      // The request stays.
    }
  }

  /** Moves the retention's cell over the segments that are not to be kept, and returns them. */
  #unneeded(cell: Float64Array): number[] {
    const control = this.#control;
    const { retainBytes, retainMs } = control.shape;
    // Read before the tail: a group that reads on meanwhile does not matter.
    const upTo = retainBytes === 0 && retainMs === 0 ? Math.min(...this.#look().map((view) => view.cell[GROUP.headBase] as number)) : undefined;
    control.read(control.tail);
    const tail = control.tail.values;
    const free: number[] = [];
    // Without a group, Infinity: nobody has had anything.
    if (upTo === Infinity) return free;
    while (cell[CONSUMER.segment] !== tail[PRODUCER.segment]) {
      const id = cell[CONSUMER.segment] as number;
      const { base, end } = this.#segments.state(id);
      if (base !== (cell[CONSUMER.position] as number) - RECORDS_OFFSET || end < RECORDS_OFFSET) throw this.#reader.corrupt(`segment ${id} is not the oldest`);
      const bytes = (cell[CONSUMER.bytes] as number) + end - RECORDS_OFFSET;
      const kept = upTo === undefined ? !this.#beyond(id, (tail[PRODUCER.bytes] as number) - bytes) : base >= upTo;
      if (kept) break;
      this.#toNext(cell, this.#segments.following(id), bytes);
      free.push(id);
    }
    return free;
  }

  /** Whether a segment that has `after` bytes of records behind it is beyond the log's limits. */
  #beyond(id: number, after: number): boolean {
    const { retainBytes, retainMs } = this.#control.shape;
    if (retainBytes > 0 && after >= retainBytes) return true;
    // A damaged time is a failure: kept rather than given up.
    return retainMs > 0 && Date.now() - this.#segments.time(id) > retainMs;
  }

  /** Moves the retention's cell to the first record of a segment; `bytes` are those of all records before. */
  #toNext(cell: Float64Array, id: number, bytes: number): void {
    const { values: tail } = this.#control.tail;
    const { base, end } = this.#segments.state(id);
    const position = base + RECORDS_OFFSET;
    const limit = (id === tail[PRODUCER.segment] ? (tail[PRODUCER.offset] as number) : end) - RECORDS_OFFSET;
    let sequence = tail[PRODUCER.sequence] as number;
    // The tail may be in a segment that has no record yet.
    if (id !== tail[PRODUCER.segment] || limit > 0) {
      if (this.#reader.fetchAt(id, RECORDS_OFFSET, position, limit) < 0) throw this.#reader.corrupt(`the first record of segment ${id} is damaged`);
      sequence = this.#reader.inbox.sequence;
    }
    cell[CONSUMER.position] = position;
    cell[CONSUMER.segment] = id;
    cell[CONSUMER.offset] = RECORDS_OFFSET;
    cell[CONSUMER.sequence] = sequence;
    cell[CONSUMER.bytes] = bytes;
    cell[CONSUMER.head] = id;
    this.#reader.inbox.shrink();
  }

  /** Removes files that dead processes left. The caller holds the retention lock and the producer lock. */
  #sweep(): void {
    const { retention, producer, directory, rebuilt } = this.#control;
    const last = producer.values[PRODUCER.segment] as number;
    const live = new Set<number>([last]);
    for (let id = retention.values[CONSUMER.segment] as number; id !== last; id = this.#segments.following(id)) live.add(id);
    // Who makes a group holds the retention lock: nobody does now. Nor is there a recovery; one that died may have left files of another number.
    const left = (name: string): boolean => isUnfinishedGroup(name) || (groupOfFile(name)?.rebuilt ?? rebuilt) !== rebuilt;
    for (const name of fileSystem(directory, () => fs.readdirSync(directory)).filter(left)) unlink(join(directory, name));
    this.#segments.sweep(live);
  }

  /** The groups that there are, each with its cell, whole. */
  #look(): View[] {
    const control = this.#control;
    control.assertSame();
    const views: View[] = [];
    const names = new Set<string>();
    for (const file of fileSystem(control.directory, () => fs.readdirSync(control.directory))) {
      const { group: name, rebuilt } = groupOfFile(file) ?? {};
      if (name === undefined || rebuilt !== control.rebuilt) continue;
      const view = this.#view(name);
      if (view === undefined) continue;
      names.add(name);
      this.#readCell(view);
      views.push(view);
    }
    for (const [name, { region }] of this.#views) {
      if (names.has(name)) continue;
      region.release();
      this.#views.delete(name);
    }
    return views;
  }

  /** The mapping of a group's file; undefined if it was just removed. A group that was removed and made again is another one. */
  #view(name: string): View | undefined {
    const path = pathOf(this.#control, name);
    const stat = fileSystem(path, () => fs.statSync(path, { throwIfNoEntry: false }));
    const known = this.#views.get(name);
    // While it is mapped, the file's number is not used again.
    if (stat !== undefined && known?.ino === stat.ino && known.dev === stat.dev) return known;
    known?.region.release();
    this.#views.delete(name);
    const fd = openFile(path, "r");
    if (fd === undefined) return undefined;
    try {
      const { dev, ino } = fs.fstatSync(fd);
      const region = mapGroup(this.#control, name, fd, false);
      const scratch = allocateScratch(8 * (GROUP_WORDS + 1));
      const cell = new Float64Array(scratch.buffer, 0, GROUP_WORDS);
      const view: View = { name, dev, ino, region, salt: saltOf(this.#control, name), cell, address: scratch.address };
      this.#views.set(name, view);
      return view;
    } finally {
      fs.closeSync(fd);
    }
  }

  #readCell({ region, salt, cell, address }: View): void {
    // The values may have been changed here.
    new Float64Array(cell.buffer)[GROUP_WORDS] = 0;
    this.#control.readCell(region.address + CONSUMER_CELLS, GROUP_WORDS, salt, address);
  }
}
