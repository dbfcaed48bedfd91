/**
 * The segment files of a queue: creation, use, reuse, removal.
 *
 * A segment is referred to by the chain from the oldest needed segment to the tail, or it is a spare, or nobody refers to it
 * and its file is only waste. Every change goes through "nobody refers to it", so a process that dies in between wastes a file
 * and harms nothing; {@linkcode Segments.sweep} finds such files.
 *
 * @module
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { check, MapError } from "../errors.ts";
import { discard, fileSystem, fill, openRegular, readUpTo, reserve, syncFile, unlink, writeFully } from "../files.ts";
import { decodeHeader, encodeHeader, HEADER_BYTES } from "../layout/header.ts";
import {
  NEXT_SEGMENT,
  RECORDS_OFFSET,
  SEGMENT,
  SEGMENT_TIME,
  SEGMENT_WORDS,
  SEGMENT_WORDS_OFFSET,
  segmentId,
  segmentName,
  SLOT_COUNT,
  SPARES,
  SWEEP_FLAG,
} from "../layout/queue.ts";
import { type Address, native } from "../native/native.ts";
import { advices, codes, mapFlags, type NativeFunctions } from "../native/symbols.ts";
import { Region } from "../region.ts";
import type { Control } from "./control.ts";

/** So much of a segment is made ready at once when the queue goes on to it; what lies behind, page by page as it is written. */
const FAULTED_BYTES: number = 8 << 20;

/** What a new segment file is. */
export interface NewSegment {
  readonly queueId: Uint8Array;
  readonly id: number;
  readonly byteLength: number;
  /** 0 for a free one. */
  readonly base: number;
  readonly permissions: number;
  /** Whether the file is to be on storage before the call returns; its name is not. Default: no. */
  readonly durable?: boolean;
  /** Whether it is written to at once, so that its pages had better be in memory. Default: no. */
  readonly filled?: boolean;
}

/** Creates a segment file, its storage reserved. It may be left half-made by a crash: nobody refers to it before it is used. */
export function createSegment(path: string, { queueId, id, byteLength, base, permissions, durable = false, filled = false }: NewSegment): void {
  const { fd } = openRegular(path, "rw", fs.constants.O_CREAT | fs.constants.O_EXCL, permissions);
  try {
    reserve(fd, byteLength, path);
    if (filled) fill(fd, Math.min(byteLength, FAULTED_BYTES), path);
    writeFully(fd, encodeHeader({ kind: "segment", id: queueId, fields: [id, byteLength] }), 0, path);
    const word = new Uint8Array(8);
    new DataView(word.buffer).setBigUint64(0, BigInt(base), true);
    writeFully(fd, word, SEGMENT_WORDS_OFFSET, path);
    if (durable) syncFile(fd, path);
  } catch (error) {
    discard(path);
    throw error;
  } finally {
    fs.closeSync(fd);
  }
}

/** What a segment says of itself at present. */
export interface SegmentState {
  readonly base: number;
  /** 0 while it is the tail. */
  readonly end: number;
  readonly next: number;
}

/** One handle's mappings of the segments of its queue. */
export class Segments {
  readonly #control: Control;
  readonly #hf: NativeFunctions;
  readonly #mapped = new Map<number, Region>();
  readonly #permissions: number;
  readonly #filled: boolean;
  // The one asked for last, which is nearly always the one asked for next.
  #lastId = 0;
  #last: Region | undefined;

  /**
   * With `filled`, segments are written and mapped as a whole before they are used. Not for who syncs: the kernel keeps what is written in large pieces,
   * and writes a piece as a whole when a page of it has changed.
   */
  constructor(control: Control, filled = true) {
    this.#filled = filled;
    this.#control = control;
    this.#hf = native();
    this.#permissions = fileSystem(control.directory, () => fs.statSync(join(control.directory, "control"))).mode & 0o777;
  }

  /** The mapping of a segment. `ERR_CORRUPT` if its file is missing or is not that segment. */
  get(id: number): Region {
    if (id === this.#lastId && this.#last !== undefined) return this.#last;
    const region = this.#mapped.get(id) ?? this.#map(id);
    this.#lastId = id;
    this.#last = region;
    return region;
  }

  /** A segment's changing words. */
  state(id: number): SegmentState {
    const control = this.#control;
    const result = this.#hf.hf_words_load(this.get(id).address + SEGMENT_WORDS_OFFSET, SEGMENT_WORDS, control.wordsAddress);
    if (result < 0) throw control.error(result, segmentName(id));
    const { words } = control;
    const state = { base: words[SEGMENT.base] as number, end: words[SEGMENT.end] as number, next: words[SEGMENT.next] as number };
    const { byteLength } = this.get(id);
    if (state.end <= byteLength) return state;
    throw new MapError("ERR_CORRUPT", `segment ${id} of '${control.directory}' says that it ends at ${state.end}, but has ${byteLength} bytes`, { path: control.directory });
  }

  /** The segment behind one that is not the tail. `ERR_CORRUPT` unless its base follows: damage must not lead round in a circle. */
  following(id: number): number {
    const { base, next } = this.state(id);
    const end = base + this.get(id).byteLength;
    this.trim();
    if (next > 0 && this.state(next).base === end) return next;
    const { directory } = this.#control;
    throw new MapError("ERR_CORRUPT", `segment ${id} of '${directory}' goes on in segment ${next}, which does not follow it`, { path: directory });
  }

  /** Sets a segment's changing words. The caller holds the producer lock, or the segment is nobody's. */
  setState(id: number, state: SegmentState): void {
    const control = this.#control;
    control.words[SEGMENT.base] = state.base;
    control.words[SEGMENT.end] = state.end;
    control.words[SEGMENT.next] = state.next;
    const result = this.#hf.hf_words_store(this.get(id).address + SEGMENT_WORDS_OFFSET, SEGMENT_WORDS, control.wordsAddress);
    if (result < 0) throw control.error(result, segmentName(id));
  }

  /** Notes the time at which the queue goes on from a segment to the next. The caller holds the producer lock. */
  setTime(id: number, milliseconds: number): void {
    const control = this.#control;
    check(this.#hf.hf_sealed_store(this.get(id).address + SEGMENT_TIME, milliseconds, control.salt), segmentName(id), control.directory);
  }

  /** When the queue went on from a segment to the next. */
  time(id: number): number {
    const control = this.#control;
    return check(this.#hf.hf_sealed_load(this.get(id).address + SEGMENT_TIME, control.salt), segmentName(id), control.directory);
  }

  /** A segment to follow `tail`, for a record of `recordBytes`: a spare, or a new file. The caller holds the producer lock. */
  take(recordBytes: number, tail: number): number {
    const { shape, region } = this.#control;
    const needed = RECORDS_OFFSET + recordBytes;
    if (needed <= shape.segmentBytes) {
      for (let i = 0; i < shape.spares; i++) {
        const cell = region.address + SPARES + 8 * i;
        const id = this.#hf.hf_load64(cell, 0);
        // The base is looked at so that a damaged id can't hand out a segment that holds records.
        if (id > 0 && this.state(id).base === 0 && this.#hf.hf_cas64(cell, id, 0) === id) return this.#faulted(id);
      }
    }
    const id = this.#newId(tail);
    const byteLength = Math.max(shape.segmentBytes, Math.ceil(needed / 4096) * 4096);
    const permissions = this.#permissions;
    createSegment(this.#path(id), { queueId: this.#control.id, id, byteLength, base: 0, permissions, filled: this.#filled });
    try {
      this.get(id);
    } catch (error) {
      // No room for a mapping, say. Who only pushes never sweeps, and each further try would leave one more file.
      discard(this.#path(id));
      throw error;
    }
    return this.#faulted(id);
  }

  /**
   * Has the pages of a segment mapped for writing, all in one call instead of a fault for each. Never fails: the faults follow, or the caller, who has the
   * id by then, meets the error.
   */
  #faulted(id: number): number {
    if (!this.#filled) return id;
    try {
      const { address, byteLength } = this.get(id);
      this.#hf.hf_advise(address, Math.min(byteLength, FAULTED_BYTES), advices["populate-write"]);
    } catch {
      // No descriptor left, or no room for a mapping.
    }
    return id;
  }

  /** Keeps a segment that nobody refers to any more as a spare, or removes its file. The caller holds one of the locks. */
  recycle(id: number): void {
    const { shape, region } = this.#control;
    if (this.get(id).byteLength === shape.segmentBytes) {
      this.setState(id, { base: 0, end: 0, next: 0 });
      for (let i = 0; i < shape.spares; i++) {
        if (this.#hf.hf_cas64(region.address + SPARES + 8 * i, 0, id) === 0) return;
      }
    }
    this.#unmap(id);
    this.#remove(id);
  }

  /**
   * Makes segments that nobody refers to spares, or removes them. Never fails: what the caller did is done and must be reported. A
   * file that can't be removed now is left to a sweep.
   */
  giveUp(ids: readonly number[]): void {
    for (const id of ids) {
      try {
        this.recycle(id);
      } catch {
        this.requestSweep();
      }
    }
  }

  /** Has the next consumer that gives a segment up look for files that nobody refers to. */
  requestSweep(): void {
    this.#hf.hf_store64(this.#sweepFlag, 1);
  }

  /** Whether a sweep is due: it was asked for, or who was about to remove files itself has died. */
  get sweepRequested(): boolean {
    const flag = this.#hf.hf_load64(this.#sweepFlag, 0);
    return flag > 0 && (flag < SLOT_COUNT || !this.#control.alive(flag));
  }

  /**
   * Says that this handle is about to remove files of segments that nobody refers to, by {@linkcode Segments.removeFiles}. From then on its death is
   * the request for a sweep. The caller holds the consumer lock.
   */
  announceRemoval(): void {
    // Where another is at it: whoever gives a segment up next sweeps for both.
    if (this.#hf.hf_cas64(this.#sweepFlag, 0, this.#control.owner) !== 0) this.requestSweep();
  }

  /**
   * Removes the files of segments that nobody refers to, without a lock: an id is never used again, so all that another can do meanwhile is to
   * remove one as well. Never fails: what can't be removed is left to a sweep.
   */
  removeFiles(ids: readonly number[]): void {
    for (const id of ids) {
      try {
        this.#unmap(id);
        this.#remove(id);
      } catch {
        this.requestSweep();
      }
    }
    this.#hf.hf_cas64(this.#sweepFlag, this.#control.owner, 0);
  }

  get #sweepFlag(): Address {
    return this.#control.region.address + SWEEP_FLAG;
  }

  /** Makes the spares nobody's. The caller holds both locks, and sweeps. */
  dropSpares(): void {
    const { shape, region } = this.#control;
    for (let i = 0; i < shape.spares; i++) this.#hf.hf_store64(region.address + SPARES + 8 * i, 0);
  }

  /**
   * Removes the files of segments that are neither in `live` nor spares, left by processes that died at the wrong moment. The
   * caller holds both locks.
   */
  sweep(live: ReadonlySet<number>): void {
    const { shape, region, directory } = this.#control;
    const kept = new Set(live);
    for (let i = 0; i < shape.spares; i++) kept.add(this.#hf.hf_load64(region.address + SPARES + 8 * i, 0));
    for (const name of fileSystem(directory, () => fs.readdirSync(directory))) {
      const id = segmentId(name);
      if (id === undefined || kept.has(id)) continue;
      this.#unmap(id);
      this.#remove(id);
    }
    this.#hf.hf_store64(this.#sweepFlag, 0);
  }

  /**
   * Unmaps the segments that were mapped first if there are many: those that others removed would keep their storage otherwise.
   * Called between operations only, so that no region is taken away from one that is under way.
   */
  trim(): void {
    const most = 3 + this.#control.shape.spares;
    if (this.#mapped.size <= most) return;
    for (const id of this.#mapped.keys()) {
      if (this.#mapped.size <= most) return;
      this.#unmap(id);
    }
  }

  /** Unmaps all segments. */
  close(): void {
    for (const region of this.#mapped.values()) region.release();
    for (const id of this.#mapped.keys()) this.#leave(id);
    this.#mapped.clear();
    this.#last = undefined;
  }

  #remove(id: number): void {
    this.#control.assertSame();
    unlink(this.#path(id));
  }

  #newId(tail: number): number {
    const { region, directory } = this.#control;
    this.#control.assertSame();
    const next = this.#hf.hf_load64(region.address + NEXT_SEGMENT, 0);
    if (next === codes.FAULT) throw this.#control.error(next, "next segment");
    // Ids go up, so that of the tail is below. A damaged word must not lead to a file that is in use.
    if (!(next > tail) || fs.existsSync(this.#path(next))) {
      throw new MapError("ERR_CORRUPT", `'${directory}' has a damaged count of segments`, { path: directory });
    }
    return check(this.#hf.hf_add64(region.address + NEXT_SEGMENT, 1), "next segment", directory);
  }

  #path(id: number): string {
    return join(this.#control.directory, segmentName(id));
  }

  #map(id: number): Region {
    const path = this.#path(id);
    const { writable, id: queueId } = this.#control;
    this.#control.assertSame();
    const { fd, byteLength } = openSegment(path, writable ? "rw" : "r");
    try {
      const header = decodeHeader(readUpTo(fd, 0, HEADER_BYTES, path), "segment", path);
      const same = header.id.every((byte, i) => byte === queueId[i]);
      if (!same || header.fields[0] !== id || header.fields[1] !== byteLength || byteLength <= RECORDS_OFFSET) {
        throw new MapError("ERR_CORRUPT", `'${path}' is not segment ${id} of this queue, or not all of it`, { path });
      }
      const region = new Region({ fd, offset: 0, byteLength, flags: writable ? mapFlags.WRITE : 0, writable, what: "queue", path });
      this.#mapped.set(id, region);
      return region;
    } finally {
      fs.closeSync(fd);
    }
  }

  /** Nobody may use the mapping any more without looking it up. */
  #leave(id: number): void {
    this.#control.producer.leave(id);
    this.#control.consumer.leave(id);
  }

  #unmap(id: number): void {
    this.#leave(id);
    this.#mapped.get(id)?.release();
    this.#mapped.delete(id);
    if (id === this.#lastId) this.#last = undefined;
  }
}

function openSegment(path: string, mode: "r" | "rw"): { fd: number; byteLength: number } {
  try {
    return openRegular(path, mode);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    throw new MapError("ERR_CORRUPT", `'${path}' is missing`, { path, cause: error });
  }
}
