/**
 * Records that the other side will never take, kept in a queue of their own with the reason.
 *
 * @module
 */
import type { Codec } from "../queue/codec.ts";
import { Queue } from "../queue.ts";
import { digestOf } from "./retry.ts";

/** A record that was refused for good. */
export interface DeadLetter {
  /** Where it came from: the id of the queue, or the name of the source. */
  readonly origin: string;
  /** What names it there: the sequence, or the position. */
  readonly id: string;
  readonly reason: string;
  /** When it was given up: an ISO 8601 text. */
  readonly time: string;
  readonly payload: Uint8Array;
}

const NEWLINE = 10;

/** Codec of a queue of dead letters: a line of JSON that says what and why, and behind it the payload as it was. */
export const deadLetterCodec: Codec<DeadLetter> = {
  encode({ payload, ...head }) {
    const line = new TextEncoder().encode(`${JSON.stringify(head)}\n`);
    const bytes = new Uint8Array(line.length + payload.length);
    bytes.set(line);
    bytes.set(payload, line.length);
    return bytes;
  },
  decode(bytes) {
    const end = bytes.indexOf(NEWLINE);
    if (end < 0) throw new TypeError("this is no dead letter of a bridge: it has no line of JSON");
    const head = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end))) as Omit<DeadLetter, "payload">;
    return { ...head, payload: bytes.slice(end + 1) };
  },
};

/** The dead letters of one bridge. */
export class DeadLetters implements Disposable {
  readonly #path: string;
  #queue: Queue<DeadLetter> | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  /**
   * Keeps a record, on storage when it returns; false if the queue is full. The mark says which came last, so that a bridge that was killed before it
   * had removed the record does not bring it twice.
   */
  add(letter: Omit<DeadLetter, "time">): boolean {
    this.#queue ??= Queue.open<DeadLetter>(this.#path, { codec: deadLetterCodec });
    const queue = this.#queue;
    const name = `holdfast-dead ${digestOf(letter.origin)} ${letter.id}`;
    const before = queue.mark;
    if (before !== undefined && new TextDecoder().decode(before) === name) return true;
    if (queue.pushMany([{ ...letter, time: new Date().toISOString() }], { mark: new TextEncoder().encode(name) }) === 0) return false;
    queue.flush();
    return true;
  }

  [Symbol.dispose](): void {
    this.#queue?.close();
  }
}
