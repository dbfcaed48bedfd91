/**
 * Random access to the lines of a large text: the offset of every line is kept in an index file, itself a mapping of 64-bit words,
 * so that line 17,000,000 is one look into the index and one copy. `--help` says how to call it.
 *
 * The index, in words of 64 bits, little-endian:
 *
 *     0 magic   1 bytes of the text   2 time of its last change, milliseconds   3 lines   4… where each line starts, then the text's end
 */
import { existsSync, renameSync, rmSync, statSync } from "node:fs";
import process from "node:process";
import { parseArgs } from "node:util";
import { Mapping } from "../mod.ts";
import { UsageError, wholeNumber } from "./usage.ts";

const help = `Usage: node examples/line_index.ts FILE [LINE ...] [options]     (or bun, or deno run -A)

Prints the lines with these numbers (the first is 1), each behind its number. The first run makes an index of the
lines; later ones use it, until the text has another size or another time of change.

  --random N       also print N random lines, 1 to 1000000
  --index FILE     where the index is (default: FILE.lines)
  --help           print this text
`;

/** "HFLINES" and a byte that no text has. */
const MAGIC = 0x8153_454e_494c_4648n - (1n << 64n);
const WORD = 8;
const HEADER_WORDS = 4;
/** The header's words. */
const [AT_MAGIC, AT_BYTES, AT_CHANGED, AT_LINES] = [0, WORD, 2 * WORD, 3 * WORD];
const CHUNK_BYTES = 1 << 20;
const NEWLINE = 10;

interface Options {
  readonly file: string;
  readonly index: string;
  readonly lines: readonly number[];
  readonly random: number;
}

function parse() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: { random: { type: "string" }, index: { type: "string" }, help: { type: "boolean", short: "h", default: false } },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function readOptions(): Options | "help" {
  const { values, positionals } = parse();
  if (values.help) return "help";
  const [file, ...lines] = positionals;
  if (file === undefined) throw new UsageError("give a FILE");
  return {
    file,
    index: values.index ?? `${file}.lines`,
    lines: lines.map((line) => wholeNumber("LINE", line, 1, Number.MAX_SAFE_INTEGER)),
    random: values.random === undefined ? 0 : wholeNumber("--random", values.random, 1, 1_000_000),
  };
}

/** What a text is told by: another size or time of change means that it is another one. */
interface Version {
  readonly bytes: number;
  readonly changed: number;
}

function versionOf(file: string): Version {
  const { size, mtimeMs } = statSync(file);
  return { bytes: size, changed: Math.floor(mtimeMs) }; // Deno has no more digits
}

/** Collects offsets and writes them behind each other into a mapping that grows. */
class OffsetWriter {
  readonly #target: Mapping;
  /** Low and high halves: quicker than a BigInt for each. */
  readonly #halves = new Uint32Array(16_384);
  #used = 0;
  #position = HEADER_WORDS * WORD;

  constructor(target: Mapping) {
    this.#target = target;
  }

  add(offset: number): void {
    if (this.#used === this.#halves.length) this.write();
    this.#halves[this.#used++] = offset;
    this.#halves[this.#used++] = offset / 2 ** 32;
  }

  /** Writes what was collected; returns the bytes of the index so far. */
  write(): number {
    const bytes = new Uint8Array(this.#halves.buffer, 0, this.#used * 4);
    while (this.#position + bytes.byteLength > this.#target.byteLength) this.#target.resize();
    this.#position += this.#target.pwrite(this.#position, bytes);
    this.#used = 0;
    return this.#position;
  }
}

/** Makes the index under another name and then gives it its own: nobody ever opens half an index. */
function build(text: Mapping, { bytes, changed }: Version, index: string): void {
  const temporary = `${index}.${process.pid}.tmp`;
  try {
    using target = Mapping.open(temporary, { create: true, exclusive: true, byteLength: 1 << 16, permissions: 0o644 });
    const writer = new OffsetWriter(target);
    const chunk = new Uint8Array(Math.min(CHUNK_BYTES, bytes));
    let lines = 0;
    let lineStart = 0;
    for (let offset = 0; offset < bytes; offset += chunk.byteLength) {
      const part = chunk.subarray(0, Math.min(chunk.byteLength, bytes - offset));
      text.preadInto(part, offset);
      for (let at = part.indexOf(NEWLINE); at >= 0; at = part.indexOf(NEWLINE, at + 1)) {
        writer.add(lineStart);
        lines++;
        lineStart = offset + at + 1;
      }
    }
    if (lineStart < bytes) {
      writer.add(lineStart); // the last line need not end in a line end
      lines++;
    }
    writer.add(bytes);
    target.resize(writer.write());
    target.atomics.store(AT_MAGIC, MAGIC);
    target.atomics.store(AT_BYTES, bytes);
    target.atomics.store(AT_CHANGED, changed);
    target.atomics.store(AT_LINES, lines);
    target.flush();
    renameSync(temporary, index);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/** The index if it is of that version of the text. What is no index at all is left alone. */
function openIndex(index: string, { bytes, changed }: Version): Mapping | undefined {
  if (!existsSync(index)) return undefined;
  const mapping = Mapping.open(index, { mode: "r" });
  const { atomics, byteLength } = mapping;
  if (byteLength < HEADER_WORDS * WORD || atomics.loadBigInt(AT_MAGIC) !== MAGIC) {
    mapping.close();
    throw new UsageError(`'${index}' is no index of lines: give another one by --index`);
  }
  const whole = atomics.load(AT_LINES) === byteLength / WORD - HEADER_WORDS - 1;
  if (whole && atomics.load(AT_BYTES) === bytes && atomics.load(AT_CHANGED) === changed) return mapping;
  mapping.close();
  return undefined;
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** A text and the index of its lines. */
class IndexedText implements Disposable {
  readonly #text: Mapping;
  readonly #index: Mapping;
  readonly count: number;
  /** Milliseconds that making the index took; undefined if it was there. */
  readonly buildMs: number | undefined;

  private constructor(text: Mapping, index: Mapping, buildMs: number | undefined) {
    this.#text = text;
    this.#index = index;
    this.count = index.atomics.load(AT_LINES);
    this.buildMs = buildMs;
  }

  static open(file: string, index: string): IndexedText {
    const version = versionOf(file);
    if (version.bytes === 0) throw new UsageError(`'${file}' is empty: it has no lines`);
    const text = Mapping.open(file, { mode: "r" });
    try {
      text.advise("random");
      const ready = openIndex(index, version);
      if (ready !== undefined) return new IndexedText(text, ready, undefined);
      const start = performance.now();
      build(text, version, index);
      const built = openIndex(index, versionOf(file));
      if (built === undefined) throw new Error(`'${file}' has changed while it was indexed; try again`);
      return new IndexedText(text, built, performance.now() - start);
    } catch (error) {
      text.close();
      throw error;
    }
  }

  /** The line with that number, from 1, without its line end. */
  line(number: number): string {
    const word = (HEADER_WORDS + number - 1) * WORD;
    const start = this.#index.atomics.load(word);
    const bytes = this.#text.pread(start, this.#index.atomics.load(word + WORD) - start);
    let end = bytes.length;
    if (bytes[end - 1] === NEWLINE) end -= bytes[end - 2] === 13 ? 2 : 1;
    return decoder.decode(bytes.subarray(0, end));
  }

  [Symbol.dispose](): void {
    this.#text.close();
    this.#index.close();
  }
}

function main(): void {
  const options = readOptions();
  if (options === "help") {
    process.stdout.write(help);
    return;
  }
  using text = IndexedText.open(options.file, options.index);
  const { count, buildMs } = text;
  console.error(`${count} lines, ${buildMs === undefined ? "index was there" : `indexed in ${buildMs.toFixed(1)} ms`}`);
  const beyond = options.lines.find((line) => line > count);
  if (beyond !== undefined) throw new UsageError(`there is no line ${beyond}: '${options.file}' has ${count}`);
  const numbers = [...options.lines];
  for (let i = 0; i < options.random; i++) numbers.push(1 + Math.floor(Math.random() * count));
  if (numbers.length === 0) return;

  const start = performance.now();
  const lines = numbers.map((number) => text.line(number));
  const microseconds = (performance.now() - start) * 1000;
  process.stdout.write(lines.map((line, i) => `${numbers[i]}:${line}\n`).join(""));
  console.error(`${lines.length} lines in ${microseconds.toFixed(1)} µs, ${(microseconds / lines.length).toFixed(2)} µs each`);
}

try {
  main();
} catch (error) {
  if (error instanceof UsageError) {
    console.error(`line_index: ${error.message}\nTry --help.`);
    process.exitCode = 2;
  } else {
    console.error(`line_index: ${error instanceof Error && "code" in error ? error.message : ((error as Error).stack ?? String(error))}`);
    process.exitCode = 1;
  }
}
