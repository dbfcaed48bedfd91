/**
 * Storage, in the model of protocol.ts: a second copy of what can be stored. Each part of memory may be written to it at any moment, in any
 * order, as a kernel does (a step of its own), and is there for certain after a sync. So what a power cut leaves after some step is the copy as
 * it is then, and all that can be left comes up as a state: each part as it was at some moment since its last sync.
 *
 * The parts are smaller than the pages of a disk, since a page that is written at once is its parts written one after the other: a commit cell
 * pair, a lease entry, a segment's words, a record, and the name of a segment's file.
 *
 * After each step, recovery is done on the copy (lib/queue/verify.ts with `powerLoss`, docs/durability.md), and:
 *
 *   - It finds every record that the mark is behind, or whose push with durability "each" has returned, unless it was removed.
 *   - It finds no record whose removal with durability "each" has returned, unless it can't tell which records are leased.
 *   - What it finds is whole, in order, and each once.
 */
import {
  at, BASE, bit, CURSOR, CURSOR_WORDS, fail, GONE, HEAD, L_BASE, L_OFFSET, L_SEGMENT, lease, LEASE_END, LEASE_SUM, LEASE_WORDS, LEASED, LEASES, MARK, MOST_CAPACITY, OFFSET,
  ORDER, readRecord, RECORD_WORDS, recordAt, RECORDS, REMOVED, S_BASE, S_END, S_EXISTS, S_LARGE, S_NEXT, segment, SEGMENT, SEGMENT_FIELDS, SEGMENTS, SEQUENCE, type State, STORAGE,
  STORED, STORED_END, SURE, TAIL, TAIL_WORDS,
} from "./state.ts";
import type { Mutant } from "./protocol.ts";

/** A part of memory that is written as a whole. */
interface Part {
  readonly name: string;
  readonly start: number;
  readonly length: number;
  /** The segment that it lies in. */
  readonly id?: number;
}

const names: readonly Part[] = Array.from({ length: SEGMENTS }, (_, i) => ({ name: `the name of segment ${i + 1}`, start: segment(i + 1) + S_EXISTS, length: S_LARGE - S_EXISTS + 1, id: i + 1 }));
const control: readonly Part[] = [
  { name: "the producer cell", start: TAIL, length: TAIL_WORDS },
  { name: "the consumer cell", start: CURSOR, length: CURSOR_WORDS },
  { name: "the durable cell", start: MARK, length: TAIL_WORDS },
  ...Array.from({ length: LEASES }, (_, i) => ({ name: `lease entry ${i}`, start: lease(i), length: LEASE_WORDS })),
];
const contents: readonly Part[] = Array.from({ length: SEGMENTS }, (_, i) => i + 1).flatMap((id) => [
  { name: `the words of segment ${id}`, start: segment(id) + S_BASE, length: S_NEXT - S_BASE + 1, id },
  ...Array.from({ length: MOST_CAPACITY }, (_, offset) => ({ name: `record ${offset} of segment ${id}`, start: recordAt(id, offset), length: RECORD_WORDS, id })),
]);
const parts: readonly Part[] = [...control, ...contents];

const isStored = (state: State, { start, length }: Part): boolean => {
  for (let i = start; i < start + length; i++) if (at(state, i) !== at(state, i + STORAGE)) return false;
  return true;
};
const store = (state: State, { start, length }: Part): void => void state.copyWithin(start + STORAGE, start, start + length);

/** The file's name as it is in memory; without it, nothing of what was in it. */
function storeName(state: State, part: Part): void {
  store(state, part);
  if (at(state, part.start) === 0) state.fill(0, part.start + STORAGE, part.start + STORAGE + SEGMENT_FIELDS);
}

/** All of memory: a queue that was just created is synced as a whole. */
export function allOnStorage(state: State): void {
  state.copyWithin(STORED + STORAGE, STORED, STORED_END);
}

/** What the kernel may write next. */
export function writebacks(state: State): { state: State; label: string }[] {
  const found: { state: State; label: string }[] = [];
  const add = (part: Part, write: typeof store): void => {
    const after = state.slice();
    write(after, part);
    found.push({ state: after, label: `storage gets ${part.name}` });
  };
  for (const part of names) if (!isStored(state, part)) add(part, storeName);
  for (const part of parts) {
    // A file that is gone has nothing left to write.
    if (part.id !== undefined && at(state, segment(part.id) + S_EXISTS) === 0) continue;
    if (!isStored(state, part)) add(part, store);
  }
  return found;
}

/** msync(2) of the control file. What is changed during the call may be written as well: that is a step of its own. */
export function syncControl(state: State): void {
  for (const part of control) store(state, part);
}

export function syncEntry(state: State, index: number): void {
  store(state, { name: "", start: lease(index), length: LEASE_WORDS });
}

/** msync(2) of the records from offset `from` to `to` of a segment, and of its words. */
export function syncSegment(state: State, id: number, from: number, to: number, words: boolean): void {
  if (words) store(state, { name: "", start: segment(id) + S_BASE, length: S_NEXT - S_BASE + 1 });
  for (let offset = from; offset < to; offset++) store(state, { name: "", start: recordAt(id, offset), length: RECORD_WORDS });
}

/** fsync(2) of the directory. */
export function syncDirectory(state: State): void {
  for (const part of names) storeName(state, part);
}

/** A record that recovery finds. */
interface Found {
  readonly number: number;
  readonly sequence: number;
}

/** lib/queue/verify.ts, scan with `powerLoss`. */
function recover(state: State, mutant: Mutant | undefined): { records: Found[]; certain: boolean } {
  const stored = (index: number): number => at(state, index + STORAGE);
  const exists = (id: number): boolean => id > 0 && stored(segment(id) + S_EXISTS) === 1;
  const tailBase = stored(TAIL + BASE);
  const cursorBase = stored(CURSOR + BASE);
  const cursorSequence = stored(CURSOR + SEQUENCE);
  const files = Array.from({ length: SEGMENTS }, (_, i) => i + 1).filter(exists);
  /** The record at a place, whatever its sequence is. */
  const record = (id: number, offset: number, base: number): Found | undefined => {
    const sequence = stored(recordAt(id, offset) + 2);
    const number = readRecord(state, id, offset, base, sequence, STORAGE);
    return number === undefined ? undefined : { number, sequence };
  };

  const hasRecord = (id: number, base: number): boolean => Array.from({ length: MOST_CAPACITY }, (_, offset) => offset).some((offset) => record(id, offset, base) !== undefined);
  const cells = new Set<number>();

  // #tiles: which segment lies where. By the files' own words, by the cells, by their records.
  const bases = new Map<number, number>();
  for (const id of files) if (stored(segment(id) + S_BASE) > 0) bases.set(id, stored(segment(id) + S_BASE));
  for (const [id, base] of [[stored(CURSOR + SEGMENT), cursorBase], [stored(TAIL + SEGMENT), tailBase]] as const) {
    if (!exists(id)) continue;
    // The cell may be of before the segment was used again.
    const own = stored(segment(id) + S_BASE);
    if (own > base && hasRecord(id, own) && mutant !== "a cell says where a segment lies that is used again") continue;
    bases.set(id, base);
    cells.add(id);
  }
  const vouched = (id: number): boolean => cells.has(id);
  // Of two that say to lie at one place: the one that the cells have, that the segment before leads to, that has a record.
  const before = (base: number): number | undefined => files.find((id) => bases.get(id) === base - 1 && stored(segment(id) + S_NEXT) > 0);
  const rank = (id: number, base: number): number => {
    if (mutant === "of two segments at one place, the first") return vouched(id) ? 0 : 1;
    const previous = before(base);
    const led = previous !== undefined && stored(segment(previous) + S_NEXT) === id;
    return vouched(id) ? 0 : led ? 1 : hasRecord(id, base) ? 2 : 3;
  };
  let reached = cursorBase;
  const placed = [...bases]
    .filter(([, base]) => base >= cursorBase)
    .sort(([a, baseA], [b, baseB]) => baseA - baseB || rank(a, baseA) - rank(b, baseB))
    .filter(([id, base]) => {
      if (base > reached && !vouched(id) && !hasRecord(id, base)) return false;
      reached = Math.max(reached, base + 1);
      return true;
    });
  const spare = new Set(files.filter((id) => !placed.some(([other]) => other === id)));
  const tiles: { id: number; base: number }[] = [];
  let position = cursorBase;
  const fill = (until: number): void => {
    for (; position < until; position++) {
      const id = [...spare].find((candidate) => hasRecord(candidate, position));
      if (id === undefined) return;
      spare.delete(id);
      tiles.push({ id, base: position });
    }
  };
  for (const [id, base] of placed) {
    if (base < position) {
      spare.add(id);
      continue;
    }
    fill(base);
    tiles.push({ id, base });
    position = base + 1;
  }
  fill(Infinity);

  // #records, of each segment.
  const waiting: Found[] = [];
  let last = cursorSequence - 1;
  let slack: { id: number; base: number; from: number } | undefined;
  const read = (id: number, base: number, from: number, to: number, below: number): Found[] => {
    const found: Found[] = [];
    for (let offset = from; offset < to; offset++) {
      const one = record(id, offset, base);
      if (one === undefined || one.sequence <= last || one.sequence >= below) continue;
      found.push(one);
      last = one.sequence;
    }
    return found;
  };
  for (const { id, base } of tiles) {
    const end = stored(segment(id) + S_END);
    const ends = stored(segment(id) + S_NEXT) > 0;
    const from = base === cursorBase ? stored(CURSOR + OFFSET) : 0;
    const stop = ends && (base !== tailBase || end >= stored(TAIL + OFFSET)) ? end : MOST_CAPACITY;
    const before = last;
    const found = read(id, base, from, stop, Infinity);
    if (slack !== undefined && found.length > 0 && (found[0] as Found).sequence > before + 1) {
      const kept = last;
      last = before;
      waiting.push(...read(slack.id, slack.base, slack.from, MOST_CAPACITY, (found[0] as Found).sequence));
      last = kept;
    }
    slack = base === tailBase || stop >= MOST_CAPACITY ? undefined : { id, base, from: Math.max(from, stop) };
    waiting.push(...found);
  }

  // #leases and #leasedRecords.
  const entries = Array.from({ length: LEASES }, (_, i) => i).filter((i) => {
    const sequence = stored(lease(i));
    return sequence > 0 && i < stored(CURSOR + LEASE_END) && sequence < cursorSequence;
  });
  const sum = entries.reduce((all, i) => all | bit(stored(lease(i))), 0);
  const leasedCount = stored(CURSOR + LEASED);
  const complete = entries.length === leasedCount && (mutant === "leases told by their count alone" || sum === stored(CURSOR + LEASE_SUM));
  let certain = complete || leasedCount === 0;
  const leased = new Map<number, Found>();
  for (const i of entries) {
    const [sequence, base] = [stored(lease(i)), stored(lease(i) + L_BASE)];
    const candidates = [stored(lease(i) + L_SEGMENT), ...files.filter((id) => stored(segment(id) + S_BASE) === base)];
    const found = candidates.map((id) => (exists(id) ? record(id, stored(lease(i) + L_OFFSET), base) : undefined)).find((one) => one?.sequence === sequence);
    if (found !== undefined) leased.set(sequence, found);
  }
  if (!certain) {
    const others: Found[] = [];
    const head = stored(CURSOR + HEAD);
    const from = exists(head) ? stored(segment(head) + S_BASE) : 0;
    for (const id of files) {
      const base = stored(segment(id) + S_BASE);
      if (base === 0 || base < from || base > cursorBase) continue;
      const to = base === cursorBase ? stored(CURSOR + OFFSET) : stored(segment(id) + S_NEXT) > 0 ? stored(segment(id) + S_END) : MOST_CAPACITY;
      for (let offset = 0; offset < to; offset++) {
        const one = record(id, offset, base);
        if (one !== undefined && one.sequence < cursorSequence && !leased.has(one.sequence)) others.push(one);
      }
    }
    const rest = entries.length === leasedCount - 1 && mutant !== "a missing lease not told by the sum" ? stored(CURSOR + LEASE_SUM) - sum : 0;
    const exact = others.filter(({ sequence }) => bit(sequence) === rest);
    certain = exact.length === 1;
    for (const one of certain ? exact : others) leased.set(one.sequence, one);
  }
  return { records: [...[...leased.values()].sort((a, b) => a.sequence - b.sequence), ...waiting], certain };
}

/**
 * The machine loses power now. What must be true of what recovery finds; with `strict`, also
 * that recovery found out which records are leased.
 */
export function powerCut(state: State, mutant: Mutant | undefined, strict: boolean): void {
  const { records, certain } = recover(state, mutant);
  const text = (): string => `after a power cut, recovery finds ${records.map(({ number }) => number).join(" ") || "nothing"}`;
  const numbers = records.map(({ number }) => number);
  for (let i = 1; i < records.length; i++) {
    if ((records[i] as Found).sequence <= (records[i - 1] as Found).sequence) fail(`${text()}: not in order`);
  }
  if (new Set(numbers).size < numbers.length) fail(`${text()}: one twice`);
  const promised = Math.max(at(state, SURE), at(state, MARK + SEQUENCE) - 1);
  for (let i = 0; i < promised; i++) {
    const number = at(state, ORDER + i);
    if (at(state, REMOVED + number) === 0 && !numbers.includes(number)) fail(`${text()}, but ${number} was promised to be on storage`);
  }
  for (let number = 1; number <= RECORDS; number++) {
    if ((certain || strict) && at(state, GONE + number) === 1 && numbers.includes(number)) fail(`${text()}, but ${number} was removed, and that was promised to be on storage`);
  }
}
