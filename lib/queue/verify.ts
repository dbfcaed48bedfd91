/**
 * The independent reader of a queue: `node:fs` and docs/format.md, nothing of the native library and nothing of the code that writes
 * queues, so that the two can be held against each other.
 *
 * Invariants:
 *   - It only reads, takes no lock, and may run while others use the queue. The groups' files are read first, then the cursor, the tail, the
 *     segments' words, the records, each before what may go in front of it; so what a group or the cursor has had was pushed before the tail was
 *     read. What was consumed meanwhile is left out: after the records the cursor is read again, and damage in front of it is no damage. A
 *     segment is given up only once the cursor that is published lies behind it.
 *   - A record counts if its checksum, which is seeded with the queue's id and the record's position, holds at its position. So it is
 *     that record, whatever else is damaged.
 *   - How many records there should be is taken from the two cells alone, which have checksums. So what is missing is never overlooked.
 *
 * @module
 */
import * as fs from "node:fs";
import { join, resolve } from "node:path";
import { fromFileSystem, MapError } from "../errors.ts";
import { type QueueDamage, type QueueDamageCode, type QueueGap, QueueReport, type QueueReportGroup, type QueueSegment } from "./report.ts";
import {
  ATTEMPTS,
  type Cell,
  CONSUMER_CELLS,
  CONSUMER_LOCK,
  CONTROL_BYTES,
  ControlFile,
  type ControlState,
  crc32c,
  crcOfNumber,
  DURABLE_CELLS,
  FIRST_RECORD,
  FORMAT_VERSION,
  GROUP_BYTES,
  GROUP_LEASES,
  type GroupFile,
  groupFileOf,
  type GroupState,
  hex,
  isSame,
  LEASE_BYTES,
  LEASE_COUNT,
  LEASES,
  MARK_BYTES,
  MARKS,
  MAX_WORD,
  MOST_SPARES,
  NEXT_SEGMENT,
  PRODUCER_CELLS,
  PRODUCER_LOCK,
  type RawLease,
  type Mark,
  readMark,
  RECORD_OVERHEAD,
  SegmentFile,
  SLOT_BYTES,
  SLOT_COUNT,
  SLOTS,
  SPARES,
} from "./verify_files.ts";

/** More damaged places than this are counted, not listed. */
const LISTED = 1000;

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

/** What is known of a group: where a new file of it starts. */
export interface GroupScan {
  readonly name: string;
  /** Sequence of the next record to hand out, or of one that is lost in front of it. */
  readonly next: number;
  /** Entries of its lease table of whole records in front of that, by sequence. */
  readonly leases: readonly RawLease[];
  readonly missed: number;
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
  readonly shape: { readonly segmentBytes: number; readonly maxBytes: number; readonly spares: number; readonly retainBytes: number; readonly retainMs: number };
  /** Whether it is a log; then how often it was rebuilt, and its groups. */
  readonly log: boolean;
  readonly rebuilt: number;
  readonly groups: readonly GroupScan[];
  readonly salt: number;
  /** The mark that counts, if there is one. */
  readonly mark: Uint8Array | undefined;
  /** Names of the files that are the queue's, or should be. */
  readonly names: readonly string[];
  /** A lease entry that was being written, or counts that a takeover would mend: no damage while machines run on. */
  readonly halfDone: boolean;
  /** Whether the control file was replaced meanwhile: then this is of two queues. */
  readonly replaced: boolean;
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

/** A lease table, and what goes with it. */
interface LeaseTable {
  /** The name of its file. */
  readonly file: string;
  readonly view: DataView;
  /** Where it starts there. */
  readonly offset: number;
  readonly salt: number;
  readonly cursor: Cursor | undefined;
  /** Whether the cell of the cursor is the current one. */
  readonly current: boolean;
  readonly settled: boolean;
  /** Entries of records in front of this position count no more. */
  readonly lost: number;
  /** The control file, which has the slots. */
  readonly slots: DataView;
  /** The file as it is now. */
  readonly again: () => DataView;
}

/** What the records of a log are, for the examination of its groups. */
interface Records {
  readonly runs: readonly Run[];
  readonly tiles: readonly Tile[];
  /** Position and sequence of the oldest that is kept. */
  readonly kept: { readonly position: number; readonly sequence: number };
  readonly tail: Tail | undefined;
  readonly slots: DataView;
  /** All sequences that are there, and those that the tail counts, are below. */
  readonly end: number;
  /** Whether a position is no longer kept by now: then what was just read there may be of another use of the segment. */
  readonly isGone: (position: number) => boolean;
}

interface ExaminedGroup {
  readonly group: QueueReportGroup;
  readonly scan: GroupScan;
  readonly halfDone: boolean;
}

/** The checksum of what does not change in a lease entry. */
function sealOf(salt: number, sequence: number, position: number, segment: number, offset: number, bytes: number): number {
  let seal = salt;
  for (const value of [sequence, position, segment, offset, bytes]) seal = crcOfNumber(value, seal);
  return seal;
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
  /** The mark that was committed last, and the one before it; each only if it is whole. */
  #marks: readonly (Mark | undefined)[] = [];
  #log = false;
  #rebuilt = 0;
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
    // First the groups, so that what they have had lies in front of the tail; then the cells; then the segments: the words of those in front of the
    // tail do not change any more.
    const groups = this.#groupFiles(this.#list());
    const state = control.read(this.#salt);
    const names = this.#list();
    const files = this.#segmentFiles(names);
    this.#checkControl(state, files);
    const ours = [...files.values()].filter((file) => file.size >= 0 && !this.#isForeign(file));
    const tail = state.producer.current ?? state.producer.before;
    // A log's older cell says that more is kept than is.
    const cursor = state.consumer.current ?? (this.#log ? undefined : state.consumer.before);
    return this.#look({ state, control, names, files, ours, groups, tail: tail && tailOf(tail), cursor: cursor && cursorOf(cursor) });
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

  /** The files of the log's groups, by name, as they are now. */
  #groupFiles(names: readonly string[]): { file: GroupFile; state: GroupState }[] {
    if (!this.#log) return [];
    const files = names.flatMap((name) => groupFileOf(this.#directory, name) ?? []).filter((file) => file.rebuilt === this.#rebuilt);
    const found = files.map((file) => ({ file, state: file.read(this.#salt) }));
    // Removed since it was listed.
    const there = found.filter(({ file, state }) => state.size >= 0 || fs.lstatSync(file.path, { throwIfNoEntry: false }) !== undefined);
    return there.sort((a, b) => (a.file.group < b.file.group ? -1 : 1));
  }

  /** Finds out whether it is a log. Without a control file's word: one that has groups, or has noted when it went on from a segment. */
  #identifyLog(header: { readonly error: MapError | undefined; readonly fields: readonly bigint[] }, names: readonly string[], files: readonly SegmentFile[]): void {
    if (header.error === undefined && !this.#foreignControl) {
      this.#log = header.fields[5] === 1n;
      this.#rebuilt = Number(header.fields[8]);
      return;
    }
    const groups = names.flatMap((name) => groupFileOf(this.#directory, name) ?? []);
    this.#log = groups.length > 0 || files.some((file) => !this.#isForeign(file) && file.time(this.#salt) !== undefined);
    const own = groups.filter((file) => isSame(file.read(this.#salt).header.id, this.#id));
    this.#rebuilt = Math.max(0, ...(own.length > 0 ? own : groups).map(({ rebuilt }) => rebuilt));
  }

  #isForeign(file: SegmentFile): boolean {
    return file.header.whole && !isSame(file.header.id, this.#id);
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
    this.#identifyLog(header, names, files);
  }

  #shape(state: ControlState, files: readonly SegmentFile[]): { shape: Scan["shape"]; known: boolean } {
    const { header } = state;
    const numbers = header.fields.map(Number);
    const [segmentBytes = 0, maxBytes = 0, slots, leases, spares = 0, log = 0, retainBytes = 0, retainMs = 0] = numbers;
    const sound = header.error === undefined && !this.#foreignControl && slots === SLOT_COUNT && leases === LEASE_COUNT && segmentBytes > FIRST_RECORD &&
      spares >= 1 && spares <= MOST_SPARES && log <= 1 && Number.isSafeInteger(segmentBytes) && Number.isSafeInteger(maxBytes);
    if (sound) return { shape: { segmentBytes, maxBytes, spares, retainBytes, retainMs }, known: true };
    if (header.error === undefined && !this.#foreignControl) this.#report("control", "control", "the header has a shape that no version of holdfast wrote");
    // The most frequent length is that of the shape; larger ones hold a single large record.
    const lengths = files.map((file) => file.length).filter((length) => length >= 4096).sort((a, b) => a - b);
    return { shape: { segmentBytes: lengths[0] ?? 1 << 20, maxBytes: 0, spares: 1, retainBytes: 0, retainMs: 0 }, known: false };
  }

  #checkControl(state: ControlState, files: ReadonlyMap<string, SegmentFile>): void {
    const { view, size, producer, consumer, durable } = state;
    if (size < 0 || this.#foreignControl) return;
    if (size !== CONTROL_BYTES) this.#report("control", "control", `it has ${size} bytes instead of ${CONTROL_BYTES}`);
    if (producer.current === undefined) this.#report("producer-cell", "control", producer.reason, { offset: PRODUCER_CELLS });
    if (consumer.current === undefined) this.#report("consumer-cell", "control", consumer.reason, { offset: CONSUMER_CELLS });
    if (durable.current === undefined) this.#report("durable-cell", "control", durable.reason, { offset: DURABLE_CELLS });
    else if ((durable.current[3] as number) > producer.sequence) {
      this.#report("cells", "control", `records up to ${durable.current[3]} are said to be on storage, but the tail is at ${producer.sequence}`, { offset: DURABLE_CELLS });
    }
    this.#marks = this.#readMarks(state);
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

  #readMarks(state: ControlState): (Mark | undefined)[] {
    for (let number = (state.producer.current ?? state.producer.before)?.[5] ?? 0; number !== 0; ) {
      // The cell was read before the mark, and is read again after it: its slot is only written to once the number is another one.
      const again = this.#again();
      const mark = readMark(again.view, number, this.#salt);
      if (mark !== undefined) return [mark, number === 1 ? undefined : readMark(again.view, number - 1, this.#salt)];
      const now = again.producer.current?.[5] ?? number;
      if (now === number) {
        this.#report("mark", "control", "the checksum of the mark does not hold", { offset: MARKS + MARK_BYTES * (number % 2), bytes: MARK_BYTES });
        return [];
      }
      number = now;
    }
    return [];
  }

  /**
   * The mark that counts. Storage may have the control file with a mark, and not the last records that it speaks for: who believed that mark
   * would pass over them. Then the one before it counts, or none. `end` is the sequence behind the last record that is there or was consumed.
   */
  #markUpTo(end: number, tail: Tail | undefined): Uint8Array | undefined {
    if (tail === undefined || tail.sequence <= end) return this.#marks[0]?.bytes;
    const honest = this.#marks.findIndex((mark) => {
      if (mark === undefined) return false;
      const behind = (tail.sequence - mark.sequence) % 2 ** 32;
      return tail.sequence - (behind < 0 ? behind + 2 ** 32 : behind) <= end;
    });
    if (honest !== 0 && this.#marks[0] !== undefined) {
      this.#report("mark", "control", `the mark speaks for records that are not there; ${honest < 0 ? "nor does the one before it hold" : "the one before it holds"}`, { offset: MARKS });
    }
    return this.#marks[honest]?.bytes;
  }

  /**
   * The leases that count, and which of them are damaged. `missing` is the seal of the one that the table lacks by the cell's count and sum;
   * undefined unless it lacks just one.
   */
  #leases({ file, view, offset: start, salt, cursor, current, settled, lost, slots, again }: LeaseTable): { entries: RawLease[]; complete: boolean; missing: number | undefined; halfDone: boolean } {
    const halves = new Uint32Array(view.buffer);
    const entries: RawLease[] = [];
    let halfDone = false;
    let sum = 0;
    const seen = new Set<number>();
    const words = (of: DataView, offset: number): bigint[] => Array.from({ length: 8 }, (_, i) => of.getBigUint64(offset + 8 * i, true));
    // The same in two more looks: nobody is at work on it.
    const stays = (offset: number, raw: readonly bigint[]): boolean => [0, 1].every(() => words(again(), offset).every((value, i) => value === raw[i]));
    for (let index = 0; index < LEASE_COUNT; index++) {
      const offset = start + LEASE_BYTES * index;
      if (halves.subarray(offset / 4, (offset + LEASE_BYTES) / 4).every((half) => half === 0)) continue;
      const raw = words(view, offset);
      if (raw.some((value) => value > MAX_WORD)) {
        if (!stays(offset, raw)) continue;
        this.#report("lease", file, `lease entry ${index} has impossible words`, { offset });
        continue;
      }
      const [sequence, owner, , sealed, position, segment, at, bytes] = raw.map(Number) as [number, number, number, number, number, number, number, number];
      if (sequence === 0) continue;
      // Behind the end they do not count: a clear() that died has left them.
      if (cursor !== undefined && current && index >= cursor.leaseEnd) continue;
      if (cursor !== undefined && sequence === cursor.sequence && current) {
        halfDone = true; // was being written when its writer died
        continue;
      }
      const seal = sealOf(salt, sequence, position, segment, at, bytes);
      const holds = Math.floor(sealed / ATTEMPTS) === seal;
      // A group that catches up has its head behind them before it frees them.
      if (holds && position < lost) continue;
      if (!holds && !stays(offset, raw)) {
        halfDone = true;
        continue;
      }
      if (!holds || seen.has(sequence) || (cursor !== undefined && sequence > cursor.sequence)) {
        const what = !holds ? "is damaged: its seal does not hold" : seen.has(sequence) ? "stands for a record that another one stands for" : "does not fit the consumer cell";
        if (settled || !holds) {
          if (settled || cursor === undefined || sequence <= cursor.sequence) {
            this.#report("lease", file, `lease entry ${index} ${what}`, { offset });
          }
        } else halfDone = true;
        if (!holds || seen.has(sequence)) continue;
        if (cursor !== undefined && sequence > cursor.sequence) continue;
      }
      // Another process may be at it: what counts is what stays. The slot's generation was there before the entry.
      const isNew = (of: DataView): boolean => Math.floor(owner / SLOT_COUNT) > Number(of.getBigUint64(SLOTS + SLOT_BYTES * (owner % SLOT_COUNT), true));
      // After a power loss the slot may not be on storage; and the owner is gone anyway.
      if (!this.#powerLoss && isNew(slots) && stays(offset, raw) && isNew(this.#again().view)) {
        this.#report("lease", file, `lease entry ${index} has an owner that never was, ${owner}`, { offset });
      }
      seen.add(sequence);
      sum += seal;
      entries.push({ index, sequence, attempts: sealed % ATTEMPTS, position, segment, offset: at, bytes });
    }
    const complete = cursor !== undefined && entries.length === cursor.leased && sum === cursor.leaseSum;
    if (cursor !== undefined && current && !complete) {
      if (settled) {
        this.#report("lease", file, `by the consumer cell ${cursor.leased} records are leased, by the lease table ${entries.length}${entries.length === cursor.leased ? " others" : ""}`, { offset: start });
      } else halfDone = true;
    }
    const missing = cursor !== undefined && entries.length === cursor.leased - 1 ? cursor.leaseSum - sum : undefined;
    return { entries: entries.sort((a, b) => a.sequence - b.sequence), complete, missing, halfDone };
  }

  /** Examines a group's file. What it starts with if it is built anew is never behind what it has to have. */
  #group({ file, state }: { file: GroupFile; state: GroupState }, records: Records): ExaminedGroup {
    const { runs, tiles, kept, tail, slots, end, isGone } = records;
    const { name } = file;
    const { header, size, view, consumer } = state;
    const found = (): number => this.#damage.length + this.#unlisted;
    const before = found();
    if (size !== GROUP_BYTES) this.#report("group", name, size < 0 ? "it is no regular file" : header.error?.message ?? `it has ${size} bytes instead of ${GROUP_BYTES}`);
    else if (!file.isGroup(header, this.#id)) this.#report("group", name, header.error?.message ?? `it is not the file of group ${JSON.stringify(file.group)} of this queue`);
    if (consumer.current === undefined) this.#report("consumer-cell", name, consumer.reason, { offset: CONSUMER_CELLS });
    const owner = view.getBigUint64(CONSUMER_LOCK, true);
    if (owner > MAX_WORD) this.#report("control-word", name, "the consumer lock word is no owner's", { offset: CONSUMER_LOCK });
    else if (owner !== 0n) this.#notes.push(`the consumer lock of group ${JSON.stringify(file.group)} is held, or was when its holder died`);
    const cell = consumer.current ?? consumer.before;
    const count = (from: number): number => runs.reduce((sum, { first, last }) => sum + Math.max(0, last - Math.max(first, from) + 1), 0);
    const answer = (next: number, leases: readonly RawLease[], missed: number, halfDone: boolean): ExaminedGroup => ({
      group: { name: file.group, ok: found() === before, length: count(next) + leases.length, leased: leases.length, missed },
      scan: { name: file.group, next, leases, missed },
      halfDone,
    });
    if (cell === undefined) return answer(runs[0]?.first ?? end, [], 0, false);

    const cursor = cursorOf(cell);
    const [headBase, missedBefore] = cell.slice(10) as [number, number];
    const table = this.#leases({
      file: name,
      view,
      offset: GROUP_LEASES,
      salt: file.salt(this.#salt),
      cursor,
      current: consumer.current !== undefined,
      settled: state.settled,
      lost: headBase,
      slots,
      again: () => file.read(this.#salt).view,
    });
    const base = cursor.position - cursor.offset;
    const place = { offset: CONSUMER_CELLS, position: cursor.position };
    const ahead = cursor.sequence > end || (!this.#powerLoss && tail !== undefined && (cursor.position > tail.position || cursor.bytes > tail.bytes));
    if (ahead) this.#report("cells", name, `the cursor (sequence ${cursor.sequence}) is ahead of the tail (${end})`, place);
    else if (headBase > base) this.#report("cells", name, `the oldest segment that it needs, at ${headBase}, is behind its cursor, at ${cursor.position}`, place);
    else if (cursor.position >= kept.position) this.#groupPlace(name, cursor, records);
    const head = tiles.find((tile) => tile.base === headBase);
    const missing = this.#damage.some(({ code }) => code.startsWith("segment"));
    if (!ahead && headBase + FIRST_RECORD >= kept.position && head?.file.id !== cursor.head && (head !== undefined || !missing)) {
      this.#report("cells", name, `the oldest segment that it needs, ${cursor.head}, is not at position ${headBase}`, place);
    }

    // If it is not known for certain which records are leased: from the oldest one that may be on. What a death leaves half done, a takeover mends.
    if (!table.complete && (state.settled || this.#powerLoss || consumer.current === undefined)) {
      return answer(runs.find((run) => run.base >= headBase)?.first ?? end, [], missedBefore, table.halfDone);
    }
    const lost = table.entries.filter(({ position }) => position < kept.position);
    const leases = table.entries.filter((entry) => {
      if (lost.includes(entry) || entry.sequence >= Math.min(cursor.sequence, end)) return false;
      const run = runs.find(({ first, last }) => entry.sequence >= first && entry.sequence <= last);
      // It is among those that are lost.
      if (run === undefined) return false;
      const { file: segment } = run;
      const whole = entry.position - entry.offset === run.base && segment.recordAt(entry.offset, entry.offset + entry.bytes, run.base, this.#salt) === entry.bytes;
      if (whole && segment.sequence === entry.sequence) return true;
      if (isGone(entry.position)) return false;
      this.#report("lease", name, `lease entry ${entry.index} says that record ${entry.sequence} lies where it does not`, { offset: GROUP_LEASES + LEASE_BYTES * entry.index });
      return false;
    });
    for (const { file: segment } of runs) segment.close();
    const overtaken = Math.max(0, kept.sequence - cursor.sequence);
    return answer(Math.max(kept.sequence, cursor.sequence), leases, missedBefore + overtaken + lost.length, table.halfDone);
  }

  /** Whether there is what a group's cursor says of its place, in what is kept. */
  #groupPlace(name: string, { position, segment, offset, sequence }: Cursor, { runs, tiles, isGone }: Records): void {
    const tile = tiles.find(({ base }) => base === position - offset);
    const place = { offset: CONSUMER_CELLS, position };
    if (tile === undefined) {
      // Where a segment is missing, that was said.
      if (!this.#damage.some(({ code }) => code.startsWith("segment"))) this.#report("cells", name, `the cursor is in segment ${segment} at position ${position}, where none lies`, place);
      return;
    }
    if (tile.file.id !== segment) this.#report("cells", name, `the cursor is in segment ${segment}, but at position ${position} lies segment ${tile.file.id}`, place);
    const run = runs.find((other) => other.base === tile.base && other.offset <= offset && other.end > offset);
    if (run === undefined) return;
    const whole = tile.file.recordAt(offset, run.end, tile.base, this.#salt) > 0;
    if ((!whole || tile.file.sequence !== sequence) && !isGone(position)) this.#report("cells", name, `the cursor's record ${sequence} is not the one at position ${position}`, place);
  }

  #look({ state, control, names, files, ours, groups, tail, cursor }: {
    state: ControlState;
    control: ControlFile;
    names: readonly string[];
    files: ReadonlyMap<string, SegmentFile>;
    ours: readonly SegmentFile[];
    groups: readonly { file: GroupFile; state: GroupState }[];
    tail: Tail | undefined;
    cursor: Cursor | undefined;
  }): Scan {
    const { shape, known } = this.#shape(state, ours);
    const sure = state.producer.current !== undefined;
    const beyond = this.#powerLoss || !sure;
    if (sure && state.consumer.current !== undefined && tail !== undefined && cursor !== undefined) {
      if (cursor.position > tail.position || cursor.sequence > tail.sequence || cursor.bytes > tail.bytes) this.#report("cells", "control", `the cursor (sequence ${cursor.sequence}) is ahead of the tail (${tail.sequence})`);
    }
    const leases = this.#leases({
      file: "control",
      view: state.view,
      offset: LEASES,
      salt: this.#salt,
      cursor,
      current: state.consumer.current !== undefined,
      settled: state.settled,
      lost: 0,
      slots: state.view,
      again: () => this.#again().view,
    });
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
    const mark = this.#markUpTo(expected, tail);

    const segments = this.#segments(files, tiles, state, cursor, byId);
    const end = Math.max(tail?.sequence ?? 1, (runs.at(-1)?.last ?? 0) + 1);
    const kept = { position: now?.position ?? 0, sequence: now?.sequence ?? 0 };
    const isGone = (position: number): boolean => (control.read(this.#salt).consumer.current?.[0] ?? 0) > position;
    const examined = { runs: runs.filter((run) => run.last >= start), tiles, kept, tail: sure ? tail : undefined, slots: state.view, end, isGone };
    const found = groups.map((group) => this.#group(group, examined));
    const groupNames = new Set(groups.map(({ file }) => file.name));
    const foreign = names.filter((name) => name !== "control" && !groupNames.has(name) && !(files.get(name) !== undefined && !this.#isForeign(files.get(name) as SegmentFile)));
    const halfDone = leases.halfDone || found.some((group) => group.halfDone);
    if (state.consumer.current === undefined && this.#log) this.#notes.push("without the retention's cell all records that are there count as kept");
    if (state.consumer.current === undefined && !this.#log) this.#notes.push("without the consumer cell nothing says which records were handed out: all that are there count, some for the second time");
    if (!sure) this.#notes.push("without the producer cell the tail is taken to be behind the last whole record");
    if (!known) this.#notes.push("without the control file's header the limits of the queue are not known");
    if (this.#unlisted > 0) this.#notes.push(`${this.#unlisted} more damaged places`);
    const sound = this.#damage.length === 0 && this.#unlisted === 0;
    const records = leased.records;
    const first = records[0]?.sequence ?? (waiting > 0 ? Math.max(runs.find((run) => run.last >= start)?.first ?? start, start) : undefined);
    const lastOne = waiting > 0 ? runs.at(-1)?.last : records.at(-1)?.sequence;
    const bytes = sound && tail !== undefined && now !== undefined && behindTail === 0 && !leases.halfDone
      ? Math.max(0, tail.bytes - now.bytes) + records.reduce((sum, record) => sum + record.bytes, 0)
      : runs.filter((run) => run.last >= start).reduce((sum, run) => sum + run.end - run.offset, 0) + records.reduce((sum, record) => sum + record.bytes, 0);
    const report = new QueueReport({
      path: this.#given,
      ok: sound,
      id: hex(this.#id),
      shape: known ? { segmentBytes: shape.segmentBytes, maxBytes: shape.maxBytes, spares: shape.spares, ...(this.#log ? { retainBytes: shape.retainBytes, retainMs: shape.retainMs } : {}) } : undefined,
      log: this.#log,
      groups: found.map(({ group }) => group),
      records: waiting + records.length,
      bytes,
      leased: records.length,
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
      ...groups.map((group) => group.state.consumer.sequence),
      ...found.flatMap(({ scan: { leases } }) => leases.map((entry) => entry.sequence + 1)),
    );
    return {
      report,
      runs,
      leased: records,
      nextSequence,
      sequencesUnsure: this.#powerLoss || !sure || state.consumer.current === undefined,
      shape,
      salt: this.#salt,
      mark,
      log: this.#log,
      rebuilt: this.#rebuilt,
      groups: found.map((group) => group.scan),
      // Of a log also those of groups that a recovery has left which died.
      names: names.filter((name) => name === "control" || files.has(name) || (this.#log && groupFileOf(this.#directory, name) !== undefined)),
      halfDone,
      replaced: control.replaced,
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
    if (this.#log && file.time(this.#salt) === undefined) this.#report("segment-words", file.name, "the time at which the log went on from it is damaged", { ...place, offset: 152 });
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
      const exact = others.filter(({ file, base, offset, bytes, sequence }) => sealOf(this.#salt, sequence, base + offset, file.id, offset, bytes) === missing);
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
    if (cursor !== undefined && state.consumer.current !== undefined) {
      const { walked, broken } = this.#walk(cursor, (id) => byId.get(id));
      for (const file of walked) live.add(file);
      if (broken !== undefined) this.#checkChain(byId);
    }
    const spares = new Set<number>();
    if (state.size >= 0 && state.header.error === undefined) {
      for (let i = 0; i < MOST_SPARES; i++) {
        const offset = SPARES + 8 * i;
        const id = state.view.getBigUint64(offset, true);
        if (id === 0n) continue;
        const file = byId.get(Number(id));
        const good = id <= MAX_WORD && file !== undefined && isWhole(file) && file.nameId === file.id && !live.has(file);
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

  /** The segments from the head on to that of the cursor; `broken`: the id of one that does not lead on. */
  #walk({ head, segment }: Cursor, of: (id: number) => SegmentFile | undefined): { walked: SegmentFile[]; broken: number | undefined } {
    const walked: SegmentFile[] = [];
    let id = head;
    for (let file = of(id); id !== segment; file = of(id)) {
      const following = file === undefined ? undefined : of(file.next);
      if (file === undefined || !isWhole(file) || following === undefined || following.base !== file.base + file.length) return { walked, broken: id };
      walked.push(file);
      id = file.next;
    }
    return { walked, broken: undefined };
  }

  /**
   * Reports where the segments do not lead from the head to that of the cursor. They may have been given up since they were read: so they are read
   * again, between two looks at the cursor. If both have the same head, and the cursor in the same segment, none was given up meanwhile: the head
   * is the same file a second time only after the tail has gone on into it, and the cursor has followed.
   */
  #checkChain(known: ReadonlyMap<number, SegmentFile>): void {
    for (let look = 1; look <= MOST_CHAINS; look++) {
      const before = this.#again().consumer.current;
      if (before === undefined) return;
      const cursor = cursorOf(before);
      const files = new Map<number, SegmentFile>();
      const { broken } = this.#walk(cursor, (id) => {
        // By its name, or by its header, as they were found.
        const file = files.get(id) ?? new SegmentFile(this.#directory, known.get(id)?.name ?? `segment-${id}`, known.get(id)?.nameId ?? id);
        files.set(id, file);
        return file.size < 0 ? undefined : file;
      });
      if (broken === undefined) return;
      const after = this.#again().consumer.current;
      const now = after && cursorOf(after);
      if (now?.head !== cursor.head || now.position - now.offset !== cursor.position - cursor.offset) continue;
      const file = files.get(broken);
      if (file === undefined || file.size < 0) this.#report("segment-missing", `segment-${broken}`, "it has leased records, or leads to one that has", { segment: broken });
      else this.#report(isWhole(file) ? "segment-words" : "segment", file.name, `it does not lead to the segment of the cursor: ${file.header.error?.message ?? `its base is ${file.base}, its end ${file.end}, its next ${file.next}, its length ${file.size}`}`, { segment: file.nameId });
      return;
    }
  }

  /**
   * Whether a spare was taken, or given back, since it was read: it is damaged if that shows at a moment when no push is under way. A segment is
   * free before it is a spare, and stays so until it is taken out.
   */
  #spareMoved(offset: number, id: bigint): boolean {
    for (let look = 1; ; look++) {
      const before = this.#again();
      if (before.view.getBigUint64(offset, true) !== id) return true;
      const file = new SegmentFile(this.#directory, `segment-${id}`, Number(id));
      if (id <= MAX_WORD && isWhole(file) && file.id === file.nameId && file.base === 0) return true;
      const after = this.#again();
      if (after.view.getBigUint64(offset, true) !== id) return true;
      const idle = [before, after].every(({ view }) => view.getBigUint64(PRODUCER_LOCK, true) === 0n) && isSame(before.producer.bytes, after.producer.bytes);
      // A push that died, or is stopped, holds the lock for good.
      if ((idle && look >= 3) || look >= 100) return false;
    }
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

/** Whether a segment's file is such as readers take. */
function isWhole(file: SegmentFile): boolean {
  return file.header.error === undefined && file.size === file.length && file.wordsPossible;
}

/** How often the segments in front of the cursor are read again while they are given up. */
const MOST_CHAINS = 100;
/** How often a queue is read again that is replaced meanwhile. */
const MOST_REPLACED = 100;

/** See {@linkcode Queue.verify}. */
export function verify(path: string): QueueReport {
  for (let look = 1; ; look++) {
    const { report, replaced } = scan(path);
    if (report.ok || !replaced || look >= MOST_REPLACED) return report;
  }
}
