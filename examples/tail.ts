/**
 * Prints the end of a log and then what is appended to it, as `tail -F` does: through a mapping that takes in the file's growth,
 * its truncation and its replacement by another file (rotation). `--help` says how to call it.
 */
import { statSync } from "node:fs";
import { once } from "node:events";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { MapError, Mapping } from "../mod.ts";
import { UsageError, wholeNumber } from "./usage.ts";

const help = `Usage: node examples/tail.ts FILE [options]     (or bun, or deno run -A)

Prints the last lines of FILE and then each line that is added, until Ctrl-C. A line is printed once it is complete.
Goes on with the new content when FILE is cut short, and with the new file when FILE is replaced; waits for a FILE
that is not there. What the old file has left is printed first, then also a last line without a line end.

  --lines N        how many of the lines that are there already, 0 or more (default 10)
  --from-start     all of them
  --until TEXT     end after the first line that contains TEXT
  --interval MS    how often to look, 1 to 60000 milliseconds (default 100)
  --help           print this text
`;

/** How much is read at once. */
const BATCH_BYTES = 1 << 20;
/** How much is looked through at once for a line end. */
const CHUNK_BYTES = 1 << 16;
const NEWLINE = 10;

interface Options {
  readonly file: string;
  readonly lines: number;
  readonly until: string | undefined;
  readonly intervalMs: number;
}

function parse() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        lines: { type: "string", default: "10" },
        "from-start": { type: "boolean", default: false },
        until: { type: "string" },
        interval: { type: "string", default: "100" },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function readOptions(): Options | "help" {
  const { values, positionals } = parse();
  if (values.help) return "help";
  const [file, ...rest] = positionals;
  if (file === undefined || rest.length > 0) throw new UsageError(`give one FILE; received ${positionals.length}`);
  return {
    file,
    lines: values["from-start"] ? Infinity : wholeNumber("--lines", values.lines, 0, Number.MAX_SAFE_INTEGER),
    until: values.until,
    intervalMs: wholeNumber("--interval", values.interval, 1, 60_000),
  };
}

/** Where the byte behind the last line end in `start`..`end` is; `start` if there is none. */
function lastLineEnd(mapping: Mapping, start: number, end: number): number {
  for (let high = end; high > start; ) {
    const low = Math.max(start, high - CHUNK_BYTES);
    const at = mapping.pread(low, high - low).lastIndexOf(NEWLINE);
    if (at >= 0) return low + at + 1;
    high = low;
  }
  return start;
}

/** Where the last `count` complete lines begin. */
function startOfLast(mapping: Mapping, count: number): number {
  let offset = lastLineEnd(mapping, 0, mapping.byteLength);
  // The line end before the one that a line itself has.
  for (let i = 0; i < count && offset > 0; i++) offset = lastLineEnd(mapping, 0, offset - 1);
  return offset;
}

/** One file of that name, from when it is found until it is replaced. */
class Log implements Disposable {
  readonly #mapping: Mapping;
  readonly #identity: string;
  /** First byte that was not printed. */
  #position = 0;
  /** Up to here there is no line end behind the position: an unfinished line is not looked through again and again. */
  #searched = 0;

  private constructor(mapping: Mapping, identity: string) {
    this.#mapping = mapping;
    this.#identity = identity;
  }

  /** Undefined if there is no such file, or an empty one, which can't be mapped. */
  static open(file: string): Log | undefined {
    const identity = identityOf(file);
    if (identity === undefined) return undefined;
    let mapping;
    try {
      mapping = Mapping.open(file, { mode: "r" });
    } catch (error) {
      if (error instanceof MapError && (error.code === "ENOENT" || error.code === "EINVAL")) return undefined;
      throw error;
    }
    if (identityOf(file) === identity) return new Log(mapping, identity);
    mapping.close(); // replaced in between
    return undefined;
  }

  skipTo(lastLines: number): void {
    this.#position = this.#searched = startOfLast(this.#mapping, lastLines);
  }

  isReplaced(file: string): boolean {
    return identityOf(file) !== this.#identity;
  }

  /** The next complete lines, none if there are none yet; "cut" if the file was cut short, after which it is read from its start. */
  next(): string[] | "cut" {
    try {
      const length = this.#mapping.refresh();
      if (length < this.#position) return this.#restart();
      const limit = Math.min(length, Math.max(this.#position, this.#searched) + BATCH_BYTES);
      const end = lastLineEnd(this.#mapping, this.#searched, limit);
      if (end === this.#searched) {
        this.#searched = limit;
        return limit < length ? this.next() : [];
      }
      const lines = [...this.#mapping.lines({ start: this.#position, end })];
      // A file that was cut short meanwhile reads zeros up to the end of its last page: what was read counts only now.
      if (this.#mapping.refresh() < end) return this.#restart();
      this.#position = this.#searched = end;
      return lines;
    } catch (error) {
      // Cut short between two calls, or to nothing.
      if (error instanceof MapError && error.code === "ERR_FAULT") return this.#position === 0 ? [] : this.#restart();
      throw error;
    }
  }

  /** The last line of a file that will not be followed any longer. */
  rest(): string[] {
    try {
      return [...this.#mapping.lines({ start: Math.min(this.#position, this.#mapping.refresh()) })];
    } catch (error) {
      if (error instanceof MapError && error.code === "ERR_FAULT") return [];
      throw error;
    }
  }

  #restart(): "cut" {
    this.#position = this.#searched = 0;
    return "cut";
  }

  [Symbol.dispose](): void {
    this.#mapping.close();
  }
}

/** What tells a file from another one of the same name. */
function identityOf(file: string): string | undefined {
  const stat = statSync(file, { bigint: true, throwIfNoEntry: false });
  return stat === undefined ? undefined : `${stat.dev}:${stat.ino}`;
}

/** Batches of lines as they come; ends when `signal` says so. */
async function* follow({ file, lines: lastLines, intervalMs }: Options, signal: AbortSignal): AsyncGenerator<string[]> {
  let log: Log | undefined;
  try {
    log = Log.open(file);
    if (lastLines !== Infinity) log?.skipTo(lastLines);
    if (log === undefined) console.error(`tail: waiting for '${file}' to have a line`);
    while (!signal.aborted) {
      log ??= Log.open(file);
      if (log !== undefined) {
        // Asked first: what was written before the file was replaced is there by the time it is read.
        const replaced = log.isReplaced(file);
        const lines = log.next();
        if (lines === "cut") console.error(`tail: '${file}' was cut short; from its start`);
        else if (lines.length > 0) yield lines;
        if (lines.length > 0) continue; // there may be more
        if (replaced && identityOf(file) !== undefined) {
          const rest = log.rest();
          if (rest.length > 0) yield rest;
          console.error(`tail: '${file}' was replaced; going on with the new one`);
          log[Symbol.dispose]();
          log = Log.open(file);
          continue;
        }
      }
      await sleep(intervalMs, undefined, { signal }).catch(() => {}); // the loop looks at the signal
    }
  } finally {
    log?.[Symbol.dispose]();
  }
}

async function print(lines: readonly string[]): Promise<void> {
  if (!process.stdout.write(lines.map((line) => `${line}\n`).join(""))) await once(process.stdout, "drain");
}

async function main(): Promise<void> {
  const options = readOptions();
  if (options === "help") {
    process.stdout.write(help);
    return;
  }
  const ending = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => ending.abort());
  // Nobody reads any longer, as with `tail.ts FILE | head`.
  process.stdout.on("error", () => process.exit(0));
  const { until } = options;
  for await (const lines of follow(options, ending.signal)) {
    const last = until === undefined ? -1 : lines.findIndex((line) => line.includes(until));
    await print(last < 0 ? lines : lines.slice(0, last + 1));
    if (last >= 0) break;
  }
}

try {
  await main();
} catch (error) {
  if (error instanceof UsageError) {
    console.error(`tail: ${error.message}\nTry --help.`);
    process.exitCode = 2;
  } else {
    console.error(`tail: ${error instanceof MapError ? error.message : ((error as Error).stack ?? String(error))}`);
    process.exitCode = 1;
  }
}
