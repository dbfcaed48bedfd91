/** Dividing a newline-delimited file among producers, and reading lines out of it. */
import { Mapping } from "../../mod.ts";

const NEWLINE = 10;

/** The lines of one producer: bytes `start` to `end` of the file. */
export interface Part {
  readonly start: number;
  readonly end: number;
  /** Index in the file of the part's first line. */
  readonly firstLine: number;
  readonly lines: number;
}

/** Cuts the file at line ends into `count` parts of about as many bytes; a part may be empty. */
export function splitFile(path: string, count: number): Part[] {
  using file = Mapping.open(path, { mode: "r" });
  const bytes = file.view();
  const parts: Part[] = [];
  let start = 0;
  let firstLine = 0;
  for (let i = 1; i <= count; i++) {
    const end = lineEnd(bytes, start, Math.floor((bytes.byteLength * i) / count));
    const lines = countLines(bytes.subarray(start, end));
    parts.push({ start, end, firstLine, lines });
    start = end;
    firstLine += lines;
  }
  return parts;
}

/** Where the line ends that the byte before `target` is part of. */
function lineEnd(bytes: Uint8Array, start: number, target: number): number {
  if (target <= start) return start;
  const newline = bytes.indexOf(NEWLINE, target - 1);
  return newline < 0 ? bytes.byteLength : newline + 1;
}

function countLines(bytes: Uint8Array): number {
  let lines = 0;
  let start = 0;
  while (start < bytes.byteLength) {
    const newline = bytes.indexOf(NEWLINE, start);
    lines++; // the last line may lack its newline
    start = newline < 0 ? bytes.byteLength : newline + 1;
  }
  return lines;
}

// A byte order mark is kept: it is part of the line, as everything else is.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** The lines of `bytes`, without their newlines, from the one with index `from` on. */
export function* linesOf(bytes: Uint8Array, from: number): Generator<string> {
  let start = 0;
  for (let line = 0; start < bytes.byteLength; line++) {
    const newline = bytes.indexOf(NEWLINE, start);
    const end = newline < 0 ? bytes.byteLength : newline;
    if (line >= from) yield decoder.decode(bytes.subarray(start, end));
    start = end + 1;
  }
}
