/**
 * A state of the model in protocol.ts: the memory that the processes share, what each has in its own, and what should be true. One byte for each
 * word. With storage, also what is on it.
 */

export const SEGMENTS = 5; // ids 1 to 5; a push that would need a sixth finds the disk full
export const SPARES = 1;
export const LEASES = 2;
export const RECORDS = 5; // that are ever pushed, numbered from 1
export const PROCESSES = 3;
export const HALF = 255; // bytes of a record that is being written
export const MOST_CAPACITY = 2;

/** Where things are in a state. */
let size = 0;
const field = (count = 1): number => (size += count) - count;
// The control file: lib/layout/queue.ts.
export const PRODUCER_LOCK: number = field();
export const CONSUMER_LOCK: number = field();
export const DURABLE_LOCK: number = field();
export const SPARE: number = field(SPARES);
export const NEXT_ID: number = field();
export const SWEEP: number = field();
// From here to STORED_END: what can be on storage.
export const STORED: number = size;
export const TAIL: number = field(4); // the producer cell: sequence, segment, offset, base (which stands for the position)
/** The consumer cell: the same, and leased, head, the end of the lease table, and the sum of the seals, which is the set of the leased sequences here. */
export const CURSOR: number = field(8);
export const MARK: number = field(4); // the durable cell: as the producer cell
export const SEQUENCE = 0;
export const SEGMENT = 1;
export const OFFSET = 2;
export const BASE = 3;
export const LEASED = 4;
export const HEAD = 5;
export const LEASE_END = 6;
export const LEASE_SUM = 7;
export const CURSOR_WORDS = 8;
export const TAIL_WORDS = 4;
/** A lease entry: sequence (0 = free), owner (0 = given back), attempts, segment, offset, base, and whether it has a deadline. */
export const LEASE_WORDS = 7;
const LEASE: number = field(LEASES * LEASE_WORDS);
export const L_OWNER = 1;
export const L_ATTEMPTS = 2;
export const L_SEGMENT = 3;
export const L_OFFSET = 4;
export const L_BASE = 5;
export const L_LATE = 6;
/** A segment: whether its file exists, and is a large one, which holds one large record; base (0 = free), end, next; its records. */
export const S_EXISTS = 0;
export const S_LARGE = 1;
export const S_BASE = 2;
export const S_END = 3;
export const S_NEXT = 4;
export const S_RECORDS = 5;
/** A record: its number, and the base and the sequence that it was written with. */
export const RECORD_WORDS = 3;
export const SEGMENT_FIELDS: number = S_RECORDS + RECORD_WORDS * MOST_CAPACITY;
const SEGMENT_AT: number = field(SEGMENTS * SEGMENT_FIELDS);
export const STORED_END: number = size;
/** A process: alive, generation of its slot, which call, which step of it, and what it keeps in its own memory. */
export const LOCALS = 17;
export const PROCESS_FIELDS: number = 4 + LOCALS;
const PROCESS_AT: number = field(PROCESSES * PROCESS_FIELDS);
export const P_ALIVE = 0;
export const P_GENERATION = 1;
export const P_CALL = 2;
export const P_STEP = 3;
export const P_LOCALS = 4;
export const DEATHS: number = field();
// What should be true: the records in the order of their commits, how far they were handed out, and of each who has it and whether it was removed.
export const PUSHED: number = field(); // numbers given to calls of push
export const COMMITTED: number = field();
export const ORDER: number = field(RECORDS);
export const HANDED_OUT: number = field();
export const HOLDER: number = field(RECORDS + 1);
export const HOLDER_LATE: number = field(RECORDS + 1);
export const REMOVED: number = field(RECORDS + 1); // 1 = removed, BURIED = as a dead letter
export const BURIED = 2;
/** How often a record was pushed to the dead-letter queue. */
export const DEAD: number = field(RECORDS + 1);
export const SIZE: number = size;
// With storage: how many of the first commits are promised to be there, which removals, and what is there.
export const SURE: number = field();
export const GONE: number = field(RECORDS + 1);
/** The word of storage for the word of memory at `index` is at `index + STORAGE`. */
export const STORAGE: number = size - STORED;
field(STORED_END - STORED);
export const SIZE_WITH_STORAGE: number = size;

/** Locals. `cell` is a copy of the cell that the call works on, `mine` is about the lease that the process has: it stays from call to call. */
export const CELL = 0; // CURSOR_WORDS
export const VALUE = 8;
export const INDEX = 9;
export const TAKEN = 10; // the segment that was taken
export const COUNT = 11;
export const TAKEOVER = 12;
export const FREE = 13; // the set of segments that are to be given up
export const MINE_INDEX = 14; // + 1; 0 = none
export const MINE_SEQUENCE = 15;
export const MINE_ATTEMPTS = 16;

export type State = Uint8Array;

export class Violation extends Error {}

export function fail(text: string): never {
  throw new Violation(text);
}

export const at = (state: State, index: number): number => state[index] as number;
export const segment = (id: number): number => SEGMENT_AT + (id - 1) * SEGMENT_FIELDS;
export const lease = (index: number): number => LEASE + index * LEASE_WORDS;
export const processAt = (p: number): number => PROCESS_AT + p * PROCESS_FIELDS;
/** A set of small numbers as a word. */
export const bit = (number: number): number => 1 << number;

export function ownerWord(state: State, p: number): number {
  return at(state, processAt(p) + P_GENERATION) * PROCESSES + p + 1;
}

export function isAlive(state: State, owner: number): boolean {
  const p = (owner - 1) % PROCESSES;
  return at(state, processAt(p) + P_ALIVE) === 1 && ownerWord(state, p) === owner;
}

/** Where the record at `offset` of a segment is. */
export const recordAt = (id: number, offset: number): number => segment(id) + S_RECORDS + RECORD_WORDS * offset;

/**
 * The number of the record at a place, if it is the one of that sequence: its checksum is of the queue and of its position, so that what a
 * segment held in an earlier use is none. `from` is 0 in memory and STORAGE on it.
 */
export function readRecord(state: State, id: number, offset: number, base: number, sequence: number, from = 0): number | undefined {
  if (id === 0 || at(state, segment(id) + S_EXISTS + from) === 0 || offset >= MOST_CAPACITY) return undefined;
  const place = recordAt(id, offset) + from;
  const number = at(state, place);
  return number === 0 || number === HALF || at(state, place + 1) !== base || at(state, place + 2) !== sequence ? undefined : number;
}
