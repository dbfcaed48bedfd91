/** Reading the standard input, or a file, record by record. */
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import process from "node:process";
import type { Readable } from "node:stream";
import { CommandError } from "./errors.ts";

/** What a record may have at most; the library's limit is a little less. */
const MAX_FRAME_BYTES: number = 2 ** 30;

/** A file, or the standard input. A file that can't be opened is an error at once. */
export function openInput(file: string | undefined): Readable {
  return file === undefined || file === "-" ? process.stdin : fs.createReadStream(file, { fd: fs.openSync(file, "r") });
}

/** The bytes of an input, as they come. Rejects with the signal's reason. */
export async function* chunksOf(input: Readable, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const stop = (): void => void input.destroy(signal.reason as Error);
  signal.throwIfAborted();
  signal.addEventListener("abort", stop);
  try {
    for await (const chunk of input) {
      yield chunk as Uint8Array;
      signal.throwIfAborted();
    }
    signal.throwIfAborted();
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

/** Cuts bytes into records, at each newline or NUL. */
export class Frames {
  readonly #separator: number;
  /** The beginning of a record whose end has not come yet. */
  #parts: Uint8Array[] = [];
  #pending = 0;

  constructor(separator: number) {
    this.#separator = separator;
  }

  /** The records that are complete by now. */
  add(chunk: Uint8Array): Uint8Array[] {
    const frames: Uint8Array[] = [];
    let from = 0;
    for (let at = chunk.indexOf(this.#separator); at >= 0; at = chunk.indexOf(this.#separator, from)) {
      frames.push(this.#whole(chunk.subarray(from, at)));
      from = at + 1;
    }
    if (from < chunk.byteLength) {
      this.#pending += chunk.byteLength - from;
      if (this.#pending > MAX_FRAME_BYTES) throw new CommandError(`a record of the input is longer than ${MAX_FRAME_BYTES} bytes`, "ERR_INPUT");
      // A copy: the stream may use the chunk's memory again.
      this.#parts.push(chunk.slice(from));
    }
    return frames;
  }

  /** What is left at the end: the last record need not end in a separator. */
  end(): Uint8Array[] {
    return this.#parts.length === 0 ? [] : [this.#whole(new Uint8Array(0))];
  }

  #whole(last: Uint8Array): Uint8Array {
    if (this.#parts.length === 0) return last;
    const whole = Buffer.concat([...this.#parts, last]);
    this.#parts = [];
    this.#pending = 0;
    return whole;
  }
}
