/**
 * Records in memory of this realm: encoded before they are written to a segment, decoded after they were read.
 *
 * @module
 */
import { rangeError } from "../errors.ts";
import { MAX_PAYLOAD_BYTES, RECORD_LENGTH, RECORD_PAYLOAD, RECORD_SEQUENCE, RECORD_TOTAL, RECORD_TRAILER_BYTES, recordBytes } from "../layout/queue.ts";
import { allocateScratch, type Scratch } from "../native/native.ts";
import { mostBytes, type PayloadCodec, type Prepared, writePayload } from "./codec.ts";

const FIRST_BYTES = 1 << 16;
/** Memory above this is given back after use, so that one large record does not weigh on a process for ever. */
const KEPT_BYTES = 1 << 22;

/** Memory that grows. */
class Stage {
  scratch: Scratch;
  /** The same memory as 32-bit words. */
  words: Uint32Array;

  constructor() {
    this.scratch = allocateScratch(FIRST_BYTES);
    this.words = new Uint32Array(this.scratch.buffer);
  }

  /** Makes room for `bytes`, keeping the first `kept`. */
  grow(bytes: number, kept: number): void {
    if (bytes <= this.scratch.bytes.byteLength) return;
    const larger = allocateScratch(2 ** Math.ceil(Math.log2(bytes)));
    larger.bytes.set(this.scratch.bytes.subarray(0, kept));
    this.#replace(larger);
  }

  /** Gives memory back that is not needed every day. */
  shrink(): void {
    if (this.scratch.bytes.byteLength > KEPT_BYTES) this.#replace(allocateScratch(FIRST_BYTES));
  }

  #replace(scratch: Scratch): void {
    this.scratch = scratch;
    this.words = new Uint32Array(scratch.buffer);
  }
}

/** Encoded records, one behind the other, on their way into the queue. */
export class Outbox {
  readonly #stage = new Stage();
  /** Bytes of each record. */
  readonly sizes: number[] = [];
  #end = 0;

  /** Drops what is there. */
  reset(): void {
    this.#end = 0;
    this.sizes.length = 0;
    this.#stage.shrink();
  }

  /** Writes a payload as the next record, without checksum and sequence; returns its bytes. */
  add(prepared: Prepared): number {
    const most = mostBytes(prepared);
    // Of a text, a UTF-16 unit is at least a byte.
    const least = typeof prepared === "string" ? prepared.length : most;
    if (least > MAX_PAYLOAD_BYTES) {
      throw rangeError(`a payload of ${least} bytes is more than the ${MAX_PAYLOAD_BYTES} that a record can hold`);
    }
    const start = this.#end;
    this.#stage.grow(start + recordBytes(most), start);
    const { scratch, words } = this.#stage;
    const length = writePayload(prepared, scratch.bytes, start + RECORD_PAYLOAD);
    const total = recordBytes(length);
    const trailer = start + total - RECORD_TRAILER_BYTES;
    // At most 7 bytes: a call of fill() costs more.
    for (let i = start + RECORD_PAYLOAD + length; i < trailer; i++) scratch.bytes[i] = 0;
    const word = start / 4;
    words[word + RECORD_TOTAL / 4] = total;
    words[word + RECORD_LENGTH / 4] = length;
    words[word + RECORD_LENGTH / 4 + 1] = 0;
    words[trailer / 4] = total;
    words[trailer / 4 + 1] = 0;
    this.#end = start + total;
    this.sizes.push(total);
    return total;
  }

  /** Gives the record at `start` its sequence; returns its address. */
  stamp(start: number, sequence: number): number {
    const { scratch, words } = this.#stage;
    const word = (start + RECORD_SEQUENCE) / 4;
    words[word] = sequence; // modulo 2^32
    words[word + 1] = sequence / 2 ** 32;
    return scratch.address + start;
  }
}

/** Memory for one record on its way out of the queue. */
export class Inbox {
  readonly #stage = new Stage();

  get address(): number {
    return this.#stage.scratch.address;
  }

  get byteLength(): number {
    return this.#stage.scratch.bytes.byteLength;
  }

  /** Makes room for a record of `bytes`. */
  grow(bytes: number): void {
    this.#stage.grow(bytes, 0);
  }

  /** Sequence of the record that is there. */
  get sequence(): number {
    const { words } = this.#stage;
    return (words[RECORD_SEQUENCE / 4] as number) + (words[RECORD_SEQUENCE / 4 + 1] as number) * 2 ** 32;
  }

  /** Value of the record that is there. */
  decode(codec: PayloadCodec): unknown {
    const { scratch, words } = this.#stage;
    return codec.decode(scratch.bytes, RECORD_PAYLOAD, words[RECORD_LENGTH / 4] as number);
  }

  /** Whether the record's payload lies within its `total` bytes. */
  fits(total: number): boolean {
    return recordBytes(this.#stage.words[RECORD_LENGTH / 4] as number) === total;
  }

  shrink(): void {
    this.#stage.shrink();
  }
}
