/**
 * Records in memory of this realm: encoded before they are written to a segment, decoded after they were read.
 *
 * @module
 */
import { rangeError } from "../errors.ts";
import { MAX_PAYLOAD_BYTES, RECORD_LENGTH, RECORD_PAYLOAD, RECORD_SEQUENCE, RECORD_TOTAL, RECORD_TRAILER_BYTES, recordBytes } from "../layout/queue.ts";
import { byteLengthOf } from "../native/copy.ts";
import { type Address, allocateScratch, type Scratch } from "../native/native.ts";
import { encodeText, type PayloadCodec, type Prepared } from "./codec.ts";

// As constants of this module: an imported one is loaded anew at each use in V8.
const MAX_BYTES: number = MAX_PAYLOAD_BYTES;
const PAYLOAD: number = RECORD_PAYLOAD;
const TRAILER: number = RECORD_TRAILER_BYTES;
const TOTAL_WORD: number = RECORD_TOTAL / 4;
const LENGTH_WORD: number = RECORD_LENGTH / 4;
const SEQUENCE_WORD: number = RECORD_SEQUENCE / 4;

/** The most bytes that a record has behind its payload. */
const MOST_BEHIND = 7 + TRAILER;

const FIRST_BYTES = 1 << 16;
/** Memory above this is given back after use, so that one large record does not weigh on a process for ever. */
const KEPT_BYTES = 1 << 22;

/** Memory that grows. What is asked for at every record is a field of its own. */
class Stage {
  /** Address of the first byte. */
  address: Address;
  byteLength: number;
  bytes: Uint8Array<ArrayBuffer>;
  /** The same memory as 32-bit words. */
  words: Uint32Array<ArrayBuffer>;

  constructor() {
    const scratch = allocateScratch(FIRST_BYTES);
    this.address = scratch.address;
    this.byteLength = FIRST_BYTES;
    this.bytes = scratch.bytes;
    this.words = new Uint32Array(scratch.buffer);
  }

  /** Makes room for `bytes`, keeping the first `kept`. */
  grow(bytes: number, kept: number): void {
    if (bytes <= this.byteLength) return;
    const larger = allocateScratch(2 ** Math.ceil(Math.log2(bytes)));
    larger.bytes.set(this.bytes.subarray(0, kept));
    this.#replace(larger);
  }

  /** Gives memory back that is not needed every day. */
  shrink(): void {
    if (this.byteLength > KEPT_BYTES) this.renew();
  }

  /** Goes on with other memory: what was there belongs to others now. */
  renew(): void {
    this.#replace(allocateScratch(FIRST_BYTES));
  }

  #replace(scratch: Scratch): void {
    this.address = scratch.address;
    this.bytes = scratch.bytes;
    this.byteLength = scratch.bytes.byteLength;
    this.words = new Uint32Array(scratch.buffer);
  }
}

/** Encoded records, one behind the other, on their way into the queue. */
export class Outbox {
  readonly #stage = new Stage();
  /** Records that are there. */
  count = 0;
  /** Bytes of each record. Longer than `count` where there were more before: an array that is cut has to grow again. */
  readonly sizes: number[] = [];
  #end = 0;

  /** Drops what is there. */
  reset(): void {
    this.#end = 0;
    this.count = 0;
    this.#stage.shrink();
  }

  /** Writes a payload as that of the next record, which is not there yet; returns its bytes. There is room for the record. */
  place(prepared: Prepared): number {
    return typeof prepared === "string" ? this.placeText(prepared) : this.placeBytes(prepared, byteLengthOf(prepared));
  }

  /** The same of bytes, `length` of them by {@linkcode byteLengthOf}. */
  placeBytes(payload: Uint8Array, length: number): number {
    const stage = this.#stage;
    const at = this.#end + PAYLOAD;
    if (at + length + MOST_BEHIND > stage.byteLength) this.#grow(length);
    stage.bytes.set(payload, at);
    return length;
  }

  /** The same of text. */
  placeText(text: string): number {
    // A UTF-16 unit becomes 1 to 3 bytes (Encoding Standard, encodeInto).
    assertFits(text.length);
    this.#stage.grow(this.#end + recordBytes(text.length * 3), this.#end);
    const length = encodeText(text, this.#stage.bytes, this.#end + PAYLOAD);
    assertFits(length);
    return length;
  }

  #grow(length: number): void {
    assertFits(length);
    this.#stage.grow(this.#end + recordBytes(length), this.#end);
  }

  /** Makes the payload that was placed last a record, without checksum and sequence; returns its bytes. */
  enclose(length: number): number {
    const { bytes, words } = this.#stage;
    const start = this.#end;
    const total = recordBytes(length);
    const trailer = start + total - TRAILER;
    // At most 7 bytes: a call of fill() costs more.
    for (let i = start + PAYLOAD + length; i < trailer; i++) bytes[i] = 0;
    const word = start >>> 2;
    words[word + TOTAL_WORD] = total;
    words[word + LENGTH_WORD] = length;
    words[word + LENGTH_WORD + 1] = 0;
    words[trailer >>> 2] = total;
    words[(trailer >>> 2) + 1] = 0;
    this.#end = start + total;
    this.sizes[this.count++] = total;
    return total;
  }

  /** Address of the first record. */
  get address(): Address {
    return this.#stage.address;
  }

  /** Address of the first record's payload. */
  get payloadAddress(): Address {
    return this.#stage.address + PAYLOAD;
  }

  /** Gives the record at `start` its sequence; returns its address. */
  stamp(start: number, sequence: number): Address {
    const { address, words } = this.#stage;
    const word = (start >>> 2) + SEQUENCE_WORD;
    words[word] = sequence; // modulo 2^32
    words[word + 1] = sequence / 2 ** 32;
    return address + start;
  }
}

function assertFits(length: number): void {
  if (length > MAX_BYTES) throw rangeError(`a payload of ${length} bytes is more than the ${MAX_BYTES} that a record can hold`);
}

/** Memory for records on their way out of the queue: for one, or for as many as fit, if their values are views of it. */
export class Inbox {
  readonly #codec: PayloadCodec;
  readonly #stage = new Stage();
  readonly #viewsUpTo: number;
  /** Where the record lies in the memory; behind those whose values are in use. */
  #start = 0;

  constructor(codec: PayloadCodec) {
    this.#codec = codec;
    this.#viewsUpTo = codec.viewsUpTo ?? -1;
  }

  /** Where the next record goes; to be asked for anew before each native call. */
  get address(): Address {
    // Detached: the program has transferred the buffer of a value that is a view of it, and the memory is no longer ours to write to.
    if (this.#stage.bytes.length === 0) this.#renew();
    return this.#stage.address + this.#start;
  }

  get byteLength(): number {
    return this.#stage.byteLength - this.#start;
  }

  /** Makes room for a record of `bytes`. */
  grow(bytes: number): void {
    if (this.#start > 0) this.#renew();
    this.#stage.grow(bytes, 0);
  }

  /** Sequence of the record that is there. */
  get sequence(): number {
    const { words } = this.#stage;
    const word = (this.#start >>> 2) + SEQUENCE_WORD;
    return (words[word] as number) + (words[word + 1] as number) * 2 ** 32;
  }

  /** Value of the record that is there. */
  decode(): unknown {
    const { bytes, words } = this.#stage;
    const start = this.#start;
    const length = words[(start >>> 2) + LENGTH_WORD] as number;
    const value = this.#codec.decode(bytes, start + PAYLOAD, length);
    if (length <= this.#viewsUpTo) this.#start = start + recordBytes(length);
    return value;
  }

  /**
   * Values of the records in the first `size` bytes, whose sequences go up from `sequence`, put behind `values`. Ends before one that does not fit
   * or can't be decoded; returns the bytes of those before it.
   */
  decodeMany(size: number, sequence: number, values: unknown[]): number {
    const { bytes, words } = this.#stage;
    const start = this.#start;
    const viewsUpTo = this.#viewsUpTo;
    let done = 0;
    let used = 0;
    try {
      for (let expected = sequence; done < size; expected++) {
        const word = (start + done) >>> 2;
        const length = words[word + LENGTH_WORD] as number;
        const found = (words[word + SEQUENCE_WORD] as number) + (words[word + SEQUENCE_WORD + 1] as number) * 2 ** 32;
        if (found !== expected || recordBytes(length) !== words[word + TOTAL_WORD]) break;
        values.push(this.#codec.decode(bytes, start + done + PAYLOAD, length));
        done += recordBytes(length);
        if (length <= viewsUpTo) used = done;
      }
    } catch {
      // The caller comes back to it, and has the error then.
    }
    this.#start = start + used;
    return done;
  }

  /** A copy of the payload of the record that is there. */
  payload(): Uint8Array {
    const { bytes, words } = this.#stage;
    const start = this.#start + PAYLOAD;
    return bytes.slice(start, start + (words[(this.#start >>> 2) + LENGTH_WORD] as number));
  }

  /** Whether the record's payload lies within its `total` bytes. */
  fits(total: number): boolean {
    return recordBytes(this.#stage.words[(this.#start >>> 2) + LENGTH_WORD] as number) === total;
  }

  shrink(): void {
    if (this.#start > 0 && this.#stage.byteLength > FIRST_BYTES) this.#renew();
    else this.#stage.shrink();
  }

  /** New memory: what was there belongs to the values now. */
  #renew(): void {
    this.#stage.renew();
    this.#start = 0;
  }
}
