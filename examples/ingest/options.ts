/** The command line of the ingest example. */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { UsageError, wholeNumber } from "../usage.ts";

export const runtimes = ["node", "bun", "deno"] as const;
export type Runtime = (typeof runtimes)[number];

/** What the user asked for. */
export interface Options {
  readonly file: string;
  readonly producers: number;
  readonly consumers: number;
  readonly runtime: Runtime | "mixed";
  readonly kill: boolean;
  /** Kills of each kind of process; undefined: by the size of the file. */
  readonly kills: number | undefined;
  readonly seed: number;
  readonly batch: number;
  readonly keep: boolean;
}

export const sample: string = fileURLToPath(new URL("../data/access_log.txt", import.meta.url));

export const help = `Usage: npm start -- [FILE] [options]

Counts the lines of a web server's access log with several processes and one shared queue. Producers push the lines of FILE to
the queue; consumers lease them, count status codes, methods, bytes and paths in shared counters, and acknowledge. At the end
the counts are compared with those of a single process that reads FILE by itself: any difference is an error.

  FILE             a newline-delimited file (default: 2,000 lines of a real log, examples/data/access_log.txt)
  --producers N    producer processes, 1 to 64 (default 2)
  --consumers N    consumer processes, 1 to 64 (default 2)
  --runtime NAME   what they run under: node, bun, deno, or mixed = one after the other (default mixed)
  --kill           SIGKILL random producers and consumers while they work, and start them again
  --kills N        how many of each kind to kill, 1 to 1000 (default: 3, more for a large file); implies --kill
  --seed N         start of the random numbers that choose whom to kill and when (default: different every time)
  --batch N        lines that a producer pushes at once, 1 to 10000 (default 64)
  --keep           leave the folder with the queue and the counters in place, and say where it is
  --help           print this text

Any file will do: a line that is no log line is counted as "not understood". Each different path takes 512 bytes in the file of
counters; paths are counted without their query and cut at 250 bytes.

Exit code: 0 all lines counted, 1 something lost or miscounted or a process failed, 2 bad command line, 128 + N ended by signal N.
`;

const MAX_SEED = 2 ** 32 - 1;

/** Reads the arguments behind the program's name; "help" if that is what they ask for. `UsageError` if they make no sense. */
export function parseOptions(args: readonly string[]): Options | "help" {
  const { values, positionals } = parse(args);
  if (values.help) return "help";
  if (positionals.length > 1) throw new UsageError(`one FILE at a time; received ${positionals.map((name) => `'${name}'`).join(", ")}`);
  const kills = values.kills === undefined ? undefined : wholeNumber("--kills", values.kills, 1, 1000);
  return {
    file: positionals[0] ?? sample,
    producers: wholeNumber("--producers", values.producers, 1, 64),
    consumers: wholeNumber("--consumers", values.consumers, 1, 64),
    runtime: runtimeName(values.runtime),
    kill: values.kill || kills !== undefined,
    kills,
    seed: values.seed === undefined ? Math.floor(Math.random() * MAX_SEED) : wholeNumber("--seed", values.seed, 0, MAX_SEED),
    batch: wholeNumber("--batch", values.batch, 1, 10_000),
    keep: values.keep,
  };
}

// The return type is left to parseArgs(), which derives it from the table.
function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        producers: { type: "string", default: "2" },
        consumers: { type: "string", default: "2" },
        runtime: { type: "string", default: "mixed" },
        kill: { type: "boolean", default: false },
        kills: { type: "string" },
        seed: { type: "string" },
        batch: { type: "string", default: "64" },
        keep: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function runtimeName(text: string): Runtime | "mixed" {
  const known = [...runtimes, "mixed"] as const;
  const found = known.find((name) => name === text);
  if (found === undefined) throw new UsageError(`--runtime must be one of ${known.join(", ")}; received '${text}'`);
  return found;
}
