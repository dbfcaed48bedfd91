/**
 * A file of metrics as one handle sees it: mapped piece by piece, its records taken in as they are added.
 *
 * Invariants:
 *  - A record below `end` is whole, checked and never changes; only its cells do. What lies behind `end` means nothing.
 *  - `end` is stored by the holder of the lock on byte 0 alone, after it took in everything below the old one.
 *  - A cell never moves in this process: a growing file is mapped on, not anew. So a series keeps plain addresses, and `close()` takes
 *    them away before the pages go.
 *
 * @module
 */
import * as fs from "node:fs";
import { randomBytes } from "../builtins.ts";
import { doom } from "../auto_unlink.ts";
import { check, closedError, MapError, nativeError, readOnlyError } from "../errors.ts";
import { createWhole, Descriptor, fileSystem, openRegular, reserve, writeFully } from "../files.ts";
import { crc32c, encodeHeader, readHeader } from "../layout/header.ts";
import {
  ALIGNMENT,
  cellsOffset,
  decodeDescriptor,
  encodeDescriptor,
  encodeEnd,
  END_OFFSET,
  MAX_DESCRIPTOR_BYTES,
  type MetricRecord,
  recordBytes,
  RECORDS_OFFSET,
} from "../layout/metrics.ts";
import { type Address, allocateScratch, native, type Scratch } from "../native/native.ts";
import { codes, mapFlags } from "../native/symbols.ts";
import { takeLock, unlock } from "../range_lock.ts";
import { Region } from "../region.ts";

/** Bytes of a new file: room for about 250 series. */
const FIRST_BYTES: number = 1 << 16;
/** A file that is full doubles, but grows by no more than this. */
const MOST_GROWTH: number = 4 << 20;
/** Bytes that are mapped at once, also those that the file does not have yet: they are used once `end` says that they are there. */
const WINDOW_BYTES: number = 16 << 20;

let scratch: Scratch | undefined;

/** Memory of this realm for one descriptor on its way in or out. */
function stage(): Scratch {
  return (scratch ??= allocateScratch(MAX_DESCRIPTOR_BYTES));
}

/** Where the cells of one series lie. */
export class Cells {
  /** First cell; NaN, which no native function takes, once closed. */
  readable: Address;
  /** The same for changes; NaN also in mode "r". */
  writable: Address;
  readonly file: MetricsFile;
  /** Offset in the file, for error messages. */
  readonly offset: number;

  /** @internal */
  constructor(file: MetricsFile, address: Address, offset: number) {
    this.file = file;
    this.offset = offset;
    this.readable = address;
    this.writable = file.writable ? address : NaN;
  }

  /** Throws if the cells can't be read, or with `change` not be changed: closed, mode "r", cut short. */
  settle(change: boolean): void {
    const { file } = this;
    if (Number.isNaN(this.readable)) throw closedError("metrics", file.path);
    if (change && Number.isNaN(this.writable)) throw readOnlyError("metrics", file.path);
    if (native().hf_region_broken(this.readable) !== 0) throw nativeError(codes.FAULT, "metrics", file.path);
  }

  /** Throws: what a cell holds is none of the values that it can have, or it could not be reached. */
  refuse(change: boolean): never {
    this.settle(change);
    throw new MapError("ERR_CORRUPT", `'${this.file.path}': a value of the series at offset ${this.offset} is damaged`, { path: this.file.path });
  }

  /** A cell that only ever counts up from 0. */
  count(index: number): number {
    const value = native().hf_float_load(this.readable + 8 * index, 0);
    return value >= 0 ? value : this.refuse(false);
  }

  /** A cell that can have any value. */
  number(index: number): number {
    const value = native().hf_float_load(this.readable + 8 * index, 0);
    if (value <= codes.INVAL) this.settle(false);
    return value;
  }
}

/** A record, and the cells behind its descriptor. */
export type Taken = (record: MetricRecord, cells: Cells) => void;

export class MetricsFile {
  readonly path: string;
  readonly writable: boolean;
  readonly #file: Descriptor;
  /** CRC-32C of the file's id. */
  readonly #salt: number;
  readonly #take: Taken;
  readonly #unlink: (() => void) | undefined;
  readonly #windows: { readonly start: number; readonly end: number; readonly region: Region }[] = [];
  readonly #cells: Cells[] = [];
  /** First byte of the file's first window. */
  readonly #base: Address;
  /** Offset behind the last record that was taken in. */
  #end = RECORDS_OFFSET;
  /** The file's length as far as it is known. */
  #byteLength = 0;

  /** Takes over the open file `fd`. `take` is told each record, once, in their order. */
  constructor(path: string, fd: number, writable: boolean, autoUnlink: boolean, take: Taken) {
    this.path = path;
    this.writable = writable;
    this.#take = take;
    this.#file = new Descriptor(fd);
    try {
      this.#salt = crc32c(readHeader(fd, "metrics", path).id);
      this.#byteLength = fileSystem(path, () => fs.fstatSync(fd)).size;
      if (this.#byteLength < RECORDS_OFFSET) throw this.#corrupt(`is cut short: it has ${this.#byteLength} bytes`);
      this.#base = this.#address(0, RECORDS_OFFSET);
      this.refresh();
      this.#unlink = autoUnlink ? doom(path, fd, this) : undefined;
    } catch (error) {
      this.close();
      throw error;
    }
  }

  get closed(): boolean {
    return this.#file.fd < 0;
  }

  /** Takes in the records that the file has by now. A failure leaves what was taken in before. */
  refresh(): void {
    if (this.closed) throw closedError("metrics", this.path);
    // Pairs with the store in append(): the records below are whole.
    const end = native().hf_sealed_load(this.#base + END_OFFSET, this.#salt);
    if (end === this.#end) return;
    if (end === codes.CORRUPT) throw this.#corrupt("has a damaged end of its records");
    check(end, "metrics", this.path);
    if (end > this.#byteLength) this.#byteLength = fileSystem(this.path, () => fs.fstatSync(this.#file.fd)).size;
    if (end < this.#end || end % ALIGNMENT !== 0 || end > this.#byteLength) {
      throw this.#corrupt(`says that its records end at ${end}, but has ${this.#byteLength} bytes, with records up to ${this.#end}`);
    }
    while (this.#end < end) this.#end += this.#read(this.#end, end);
  }

  /**
   * Adds records, after everything that other processes have added is taken in: `missing` says then which ones there shall be. They are
   * published together.
   */
  append(missing: () => readonly MetricRecord[]): void {
    if (this.closed) throw closedError("metrics", this.path);
    if (!this.writable) throw readOnlyError("metrics", this.path);
    // The first byte stands for the right to add.
    const range = { fd: this.#file.fd, offset: 0, length: 1, shared: false, path: this.path };
    takeLock(range);
    try {
      this.refresh();
      const { size } = fileSystem(this.path, () => fs.fstatSync(this.#file.fd));
      if (size < this.#end) {
        // By somebody else: nothing is built on that.
        throw new MapError("ERR_FAULT", `'${this.path}' is cut short: it has ${size} of the ${this.#end} bytes of its records`, { path: this.path });
      }
      let end = this.#end;
      for (const record of missing()) end += this.#write(record, end);
      if (end === this.#end) return;
      // The publication: whoever reads this end finds the records below it. Pairs with the load in refresh().
      check(native().hf_sealed_store(this.#base + END_OFFSET, end, this.#salt), "metrics", this.path);
    } finally {
      unlock(range);
    }
    this.refresh();
  }

  close(): void {
    for (const cells of this.#cells) cells.readable = cells.writable = NaN;
    this.#cells.length = 0;
    for (const { region } of this.#windows) region.release();
    this.#windows.length = 0;
    this.#file.close();
    this.#unlink?.();
  }

  /** Where `length` bytes from `offset` lie in this process. The file has them, or will before they are touched. */
  #address(offset: number, length: number): Address {
    let window = this.#windows.findLast(({ start, end }) => offset >= start && offset + length <= end);
    if (window === undefined) {
      // What lies across the border of two windows gets one of double length.
      const start = Math.floor(offset / WINDOW_BYTES) * WINDOW_BYTES;
      const end = start + Math.ceil((offset + length - start) / WINDOW_BYTES) * WINDOW_BYTES;
      const flags = this.writable ? mapFlags.WRITE : 0;
      const { path, writable } = this;
      const region = new Region({ fd: this.#file.fd, offset: start, byteLength: end - start, flags, writable, what: "metrics", path });
      window = { start, end, region };
      this.#windows.push(window);
    }
    return window.region.address + (offset - window.start);
  }

  /** Takes in the record at `offset`, which ends at `end` or before; returns its bytes. */
  #read(offset: number, end: number): number {
    const { address, bytes } = stage();
    const limit = Math.min(end - offset, MAX_DESCRIPTOR_BYTES);
    const source = this.#address(offset, limit);
    const length = native().hf_record_read(address, MAX_DESCRIPTOR_BYTES, source, limit, this.#salt, offset);
    if (length === codes.CORRUPT) throw this.#corrupt(`has a damaged record at offset ${offset}`);
    check(length, "metrics", this.path);
    const record = decodeDescriptor(bytes.subarray(0, length), offset, this.path);
    const count = "family" in record ? record.cells : 0;
    const total = recordBytes(length, count);
    if (total > end - offset) throw this.#corrupt(`has a record at offset ${offset} that is longer than its records are`);
    const cells = new Cells(this, count === 0 ? NaN : this.#address(offset + cellsOffset(length), 8 * count), offset);
    this.#take(record, cells);
    if (count > 0) this.#cells.push(cells);
    return total;
  }

  /** Writes a record at `offset`, behind the end; returns its bytes. The caller holds the lock. */
  #write(record: MetricRecord, offset: number): number {
    const descriptor = encodeDescriptor(record);
    const count = "family" in record ? record.cells : 0;
    const total = recordBytes(descriptor.byteLength, count);
    this.#makeRoom(offset + total);
    // Whole: a process that died while adding may have left something there.
    const whole = new Uint8Array(total);
    whole.set(descriptor);
    writeFully(this.#file.fd, whole, offset, this.path);
    const { address, bytes } = stage();
    bytes.set(descriptor);
    const target = this.#address(offset, descriptor.byteLength);
    check(native().hf_record_write(target, address, descriptor.byteLength, this.#salt, offset), "metrics", this.path);
    return total;
  }

  /** Sees to it that the file has `byteLength` bytes, and some more, so that not each series has to ask. */
  #makeRoom(byteLength: number): void {
    if (byteLength <= this.#byteLength) return;
    const { fd } = this.#file;
    const size = fileSystem(this.path, () => fs.fstatSync(fd)).size;
    if (byteLength > size) {
      const enough = size + Math.min(MOST_GROWTH, size);
      reserve(fd, byteLength > enough ? byteLength : enough, this.path);
    }
    this.#byteLength = fileSystem(this.path, () => fs.fstatSync(fd)).size;
  }

  #corrupt(what: string): MapError {
    return new MapError("ERR_CORRUPT", `'${this.path}' ${what}`, { path: this.path });
  }
}

/** A descriptor of the file, created whole if it is missing and may be. */
export function openOrCreate(path: string, mode: "r" | "rw", permissions: number): number {
  for (let attempt = 0; ; attempt++) {
    try {
      return openRegular(path, mode).fd;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT" || mode === "r" || attempt === 3) throw error;
    }
    createWhole(path, FIRST_BYTES, permissions, (fd) => {
      const id = randomBytes(16);
      writeFully(fd, encodeHeader({ kind: "metrics", id, fields: [] }), 0, path);
      writeFully(fd, encodeEnd(RECORDS_OFFSET, crc32c(id)), END_OFFSET, path);
    });
  }
}
