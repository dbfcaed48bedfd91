/**
 * What opening a log does in another boot of the machine: storage has each of its files as it was at another moment.
 *
 * Records are on storage before the control file says so (durability.ts), so the tail is moved on over the whole records behind it. A group's
 * place may be from before or after: behind the oldest record that is kept, it catches up by itself (groups.ts); ahead of the tail, it is moved
 * back there, or it would pass over records that are pushed next. Leases keep their records, but no owner.
 *
 * Invariants: nobody has the log open, by the lock of who calls this. Every change is one commit, and all may be done again.
 *
 * @module
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { check, MapError } from "../errors.ts";
import { fileSystem, openRegular, syncFile } from "../files.ts";
import {
  CONSUMER,
  CONSUMER_CELLS,
  CONSUMER_LOCK,
  CONTROL_BYTES,
  CONTROL_NAME,
  GROUP,
  GROUP_BYTES,
  GROUP_LEASES,
  GROUP_WORDS,
  groupOfFile,
  LEASE,
  LEASE_BYTES,
  MAX_ATTEMPTS,
  NEXT_SEGMENT,
  PRODUCER,
  PRODUCER_CELLS,
  PRODUCER_LOCK,
  PRODUCER_WORDS,
  RECORDS_OFFSET,
  segmentId,
} from "../layout/queue.ts";
import { type Address, allocateScratch, native } from "../native/native.ts";
import { mapFlags } from "../native/symbols.ts";
import { Region } from "../region.ts";
import { codecOption } from "./codec.ts";
import { Control } from "./control.ts";
import { mapGroup, pathOf, saltOf } from "./groups.ts";
import { LeaseTable } from "./leases.ts";
import { Reader } from "./reader.ts";
import { Segments } from "./segments.ts";

/** Any owner will do: nobody else is there. */
const OWNER = 1;

/** Makes a log fit for use. Damage is left as it is: who needs what is damaged is told. */
export function settleLog(directory: string): void {
  const control = new Control(directory, "r");
  const segments = new Segments(control);
  try {
    const reader = new Reader(control, segments, new LeaseTable(control), codecOption("codec", "bytes"));
    control.read(control.tail);
    const tail = control.tail.values.slice();
    while (moveOn(tail, reader, segments));
    writeTail(directory, control, tail);
    for (const file of fileSystem(directory, () => fs.readdirSync(directory))) {
      const name = groupOfFile(file);
      if (name !== undefined) settleGroup(control, name, tail, { reader, segments });
    }
  } finally {
    segments.close();
    control.close();
  }
}

/** Moves `tail` over the record behind it, in its segment or the next one. False if there is none. */
function moveOn(tail: Float64Array, reader: Reader, segments: Segments): boolean {
  try {
    segments.trim();
    const id = tail[PRODUCER.segment] as number;
    const { byteLength } = segments.get(id);
    if (isRecord(tail, reader, byteLength)) return true;
    const offset = tail[PRODUCER.offset] as number;
    const { base, end, next } = segments.state(id);
    if (end !== offset || next === 0 || base !== (tail[PRODUCER.position] as number) - offset || segments.state(next).base !== base + byteLength) return false;
    const there = tail.slice();
    there[PRODUCER.segment] = next;
    there[PRODUCER.offset] = RECORDS_OFFSET;
    there[PRODUCER.position] = base + byteLength + RECORDS_OFFSET;
    if (!isRecord(there, reader, segments.get(next).byteLength)) return false;
    tail.set(there);
    return true;
  } catch (error) {
    // A segment that is missing or damaged: nothing whole is behind the tail.
    if (error instanceof MapError) return false;
    throw error;
  }
}

/** Whether there is a record at `tail`, which is moved over it. */
function isRecord(tail: Float64Array, reader: Reader, byteLength: number): boolean {
  const offset = tail[PRODUCER.offset] as number;
  const position = tail[PRODUCER.position] as number;
  const bytes = reader.fetchAt(tail[PRODUCER.segment] as number, offset, position, byteLength - offset);
  if (bytes <= 0 || reader.inbox.sequence !== tail[PRODUCER.sequence]) return false;
  tail[PRODUCER.position] = position + bytes;
  tail[PRODUCER.offset] = offset + bytes;
  tail[PRODUCER.sequence] = (tail[PRODUCER.sequence] as number) + 1;
  tail[PRODUCER.bytes] = (tail[PRODUCER.bytes] as number) + bytes;
  return true;
}

/** Runs `change` with a cell whose lock is nobody's any more, and commits it. */
function commit(address: Address, cells: { lock: number; cells: number; count: number; salt: number }, change: (cell: Float64Array) => void): void {
  const hf = native();
  const { lock, cells: at, count, salt } = cells;
  const scratch = allocateScratch(8 * (count + 1));
  hf.hf_store64(address + lock, 0);
  hf.hf_store64(address + lock + 8, 0);
  check(hf.hf_begin(address + lock, OWNER, address + at, count, salt, scratch.address), "cell");
  change(new Float64Array(scratch.buffer, 0, count));
  check(hf.hf_commit(address + lock, OWNER, address + at, count, salt, scratch.address), "commit");
}

function writeTail(directory: string, control: Control, tail: Float64Array): void {
  const path = join(directory, CONTROL_NAME);
  const { fd } = openRegular(path, "rw");
  try {
    const region = new Region({ fd, offset: 0, byteLength: CONTROL_BYTES, flags: mapFlags.WRITE, writable: true, what: "queue", path });
    try {
      // Ids that were given out since the control file got to storage are not given out again.
      const ids = fs.readdirSync(directory).map((name) => segmentId(name) ?? 0);
      const next = control.loadWords(NEXT_SEGMENT, 1)[0] as number;
      native().hf_store64(region.address + NEXT_SEGMENT, Math.max(next, ...ids.map((id) => id + 1)));
      commit(region.address, { lock: PRODUCER_LOCK, cells: PRODUCER_CELLS, count: PRODUCER_WORDS, salt: control.salt }, (cell) => cell.set(tail.subarray(0, PRODUCER_WORDS)));
    } finally {
      region.release();
    }
    syncFile(fd, path);
  } finally {
    fs.closeSync(fd);
  }
}

interface Access {
  readonly reader: Reader;
  readonly segments: Segments;
}

function settleGroup(control: Control, name: string, tail: Float64Array, access: Access): void {
  const path = pathOf(control, name);
  const { fd } = openRegular(path, "rw");
  let region: Region | undefined;
  try {
    region = mapGroup(control, name, fd, true);
    const { address } = region;
    commit(address, { lock: CONSUMER_LOCK, cells: CONSUMER_CELLS, count: GROUP_WORDS, salt: saltOf(control, name) }, (cell) => {
      if (!settleCell(cell, tail, address)) goToHead(cell, tail, address, access);
    });
    syncFile(fd, path);
  } catch (error) {
    // Damage: who opens the group is told.
    if (!(error instanceof MapError)) throw error;
  } finally {
    region?.release();
    fs.closeSync(fd);
  }
}

/**
 * Moves a group that is ahead of the tail back to it, and makes its cell agree with its lease table. False if the table is of another moment than the
 * cell: then a record that was leased may be in neither.
 */
function settleCell(cell: Float64Array, tail: Float64Array, address: Address): boolean {
  const hf = native();
  const end = tail[PRODUCER.position] as number;
  const sequence = cell[CONSUMER.sequence] as number;
  if ((cell[CONSUMER.position] as number) > end) {
    cell[CONSUMER.position] = end;
    cell[CONSUMER.segment] = tail[PRODUCER.segment] as number;
    cell[CONSUMER.offset] = tail[PRODUCER.offset] as number;
    cell[CONSUMER.sequence] = tail[PRODUCER.sequence] as number;
    cell[CONSUMER.bytes] = tail[PRODUCER.bytes] as number;
  }
  const lost = cell[GROUP.headBase] as number;
  const base = end - (tail[PRODUCER.offset] as number);
  if (lost > base) {
    cell[CONSUMER.head] = tail[PRODUCER.segment] as number;
    cell[GROUP.headBase] = base;
  }
  const scratch = allocateScratch(LEASE_BYTES);
  const words = new Float64Array(scratch.buffer);
  /** What the table says of the cell as it was, and as it is to be. */
  const was = { leased: 0, sum: 0 };
  const is = { leased: 0, sum: 0, bytes: 0, end: 0 };
  for (let index = 0; GROUP_LEASES + index * LEASE_BYTES < GROUP_BYTES; index++) {
    const entry = address + GROUP_LEASES + index * LEASE_BYTES;
    check(hf.hf_words_load(entry, LEASE_BYTES / 8, scratch.address), "lease table");
    if (words[LEASE.sequence] === 0) continue;
    const position = words[LEASE.position] as number;
    const seal = Math.floor((words[LEASE.attempts] as number) / (MAX_ATTEMPTS + 1));
    const counts = (words[LEASE.sequence] as number) < sequence && position >= lost;
    if (counts) {
      was.leased++;
      was.sum += seal;
    }
    if (!counts || position >= end) {
      hf.hf_store64(entry, 0);
      continue;
    }
    hf.hf_store64(entry + 8 * LEASE.owner, 0);
    is.leased++;
    is.sum += seal;
    is.bytes += words[LEASE.bytes] as number;
    is.end = index + 1;
  }
  const same = was.leased === cell[CONSUMER.leased] && was.sum === cell[CONSUMER.leaseSum];
  cell[CONSUMER.leased] = is.leased;
  cell[CONSUMER.leaseSum] = is.sum;
  cell[CONSUMER.leasedBytes] = is.bytes;
  cell[CONSUMER.leaseEnd] = is.end;
  return same;
}

/** Moves a group back to the first record of its oldest segment: what it may have had comes once more, rather than one record never. */
function goToHead(cell: Float64Array, tail: Float64Array, address: Address, { reader, segments }: Access): void {
  const head = cell[CONSUMER.head] as number;
  const last = tail[PRODUCER.segment] as number;
  const position = (cell[GROUP.headBase] as number) + RECORDS_OFFSET;
  try {
    let behind = (tail[PRODUCER.offset] as number) - RECORDS_OFFSET;
    for (let id = head; id !== last; id = segments.following(id)) behind += segments.state(id).end - RECORDS_OFFSET;
    const { byteLength } = segments.get(head);
    if (reader.fetchAt(head, RECORDS_OFFSET, position, byteLength - RECORDS_OFFSET) <= 0) return;
    cell[CONSUMER.position] = position;
    cell[CONSUMER.segment] = head;
    cell[CONSUMER.offset] = RECORDS_OFFSET;
    cell[CONSUMER.sequence] = reader.inbox.sequence;
    cell[CONSUMER.bytes] = (tail[PRODUCER.bytes] as number) - behind;
  } catch (error) {
    // The log does not have that segment any more: the group goes on with the oldest one that there is.
    if (!(error instanceof MapError)) throw error;
    return;
  }
  for (let offset = GROUP_LEASES; offset < GROUP_BYTES; offset += LEASE_BYTES) native().hf_store64(address + offset, 0);
  for (const word of [CONSUMER.leased, CONSUMER.leasedBytes, CONSUMER.leaseEnd, CONSUMER.leaseSum]) cell[word] = 0;
}
