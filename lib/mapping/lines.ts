/**
 * Lines and streams of a mapping, on top of its copies: a file that is cut short is an error, not a signal.
 *
 * @module
 */
import { Buffer } from "node:buffer";

/** What is read from: a mapping, as far as this module needs it. */
export interface Source {
  readonly byteLength: number;
  pread(offset: number, length: number): Uint8Array<ArrayBuffer>;
}

const NEWLINE = 10;
const CARRIAGE_RETURN = 13;
const CHUNK_BYTES: number = 1 << 16;

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** The text of a line without its line end, "\n" or "\r\n". Bytes that are no UTF-8 become U+FFFD. */
function text(bytes: Uint8Array): string {
  const end = bytes.byteLength > 0 && bytes[bytes.byteLength - 1] === CARRIAGE_RETURN ? bytes.byteLength - 1 : bytes.byteLength;
  return decoder.decode(bytes.subarray(0, end));
}

/** A line and where the next one starts. */
export interface Line {
  readonly text: string;
  readonly next: number;
}

/** The line that starts at `offset`; undefined at the end. The last line need not end in a line end. */
export function lineAt(source: Source, offset: number): Line | undefined {
  const total = source.byteLength;
  if (offset >= total) return undefined;
  for (let length = 256; ; length *= 4) {
    const bytes = source.pread(offset, Math.min(length, total - offset));
    const at = bytes.indexOf(NEWLINE);
    if (at >= 0) return { text: text(bytes.subarray(0, at)), next: offset + at + 1 };
    if (length >= total - offset) return { text: text(bytes), next: total };
  }
}

/** The lines from `start` to `end`, read in chunks. */
export function* linesOf(source: Source, start: number, end: number): IterableIterator<string> {
  // A line that goes over several chunks: what of it was read so far.
  let parts: Uint8Array[] = [];
  for (let offset = start; offset < end; ) {
    const chunk = source.pread(offset, Math.min(CHUNK_BYTES, end - offset));
    offset += chunk.byteLength;
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, from)) {
      const last = chunk.subarray(from, at);
      yield text(parts.length === 0 ? last : Buffer.concat([...parts, last]));
      parts = [];
      from = at + 1;
    }
    if (from < chunk.byteLength) parts.push(chunk.subarray(from));
  }
  if (parts.length > 0) yield text(Buffer.concat(parts));
}

/** The bytes from `start` to `end` as a stream of chunks, read when they are asked for. */
export function streamOf(source: Source, start: number, end: number, chunkSize: number): ReadableStream<Uint8Array> {
  let offset = start;
  return new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        const length = Math.min(chunkSize, end - offset);
        // An error thrown here becomes the stream's.
        if (length > 0) controller.enqueue(source.pread(offset, length));
        offset += length;
        if (offset >= end) controller.close();
      },
    },
    { highWaterMark: 0 },
  );
}
