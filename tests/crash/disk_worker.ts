/**
 * A child whose disk fails: pushes and pops, goes on after every error, and says as one line of JSON what it was told.
 *
 * Usage: disk_worker.ts QUEUE DURABILITY OPERATIONS
 */
import { DurabilityError, MapError, Queue } from "../../mod.ts";

export interface Told {
  /** Numbers that push() acknowledged, and those where it threw. */
  readonly pushed: number[];
  readonly unsure: number[];
  /** Numbers that pop() returned, or that an error had. */
  readonly popped: number[];
  /** Codes of the errors, and what was no error of the library. */
  readonly codes: string[];
  readonly odd: string[];
  /** Whether all worked after the last error, to the end. */
  readonly usable: boolean;
}

const [path, durability, operations] = process.argv.slice(2) as [string, "process" | "batch" | "each", string];
const told = { pushed: [] as number[], unsure: [] as number[], popped: [] as number[], codes: [] as string[], odd: [] as string[] };
// Several segments, the last ones new files.
const FILLER = "x".repeat(1500);

function note(error: unknown): void {
  if (!(error instanceof MapError)) told.odd.push(String((error as Error)?.stack ?? error));
  else told.codes.push(error.code);
  if (error instanceof DurabilityError) for (const value of error.removed) told.popped.push((value as [number])[0]);
}

/** Runs `what` again and again, with errors written down, until it succeeds. */
function insist<R>(what: () => R): R {
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      return what();
    } catch (error) {
      note(error);
    }
  }
  throw new Error(`gave up after three errors: ${told.codes.slice(-3).join()} ${told.odd.join()}`);
}

let queue: Queue<[number, string]> | undefined;
/** The queue, opened anew after a sync that failed. */
function open(): Queue<[number, string]> {
  return (queue ??= Queue.open<[number, string]>(path, { capacityBytes: 8192, durability }));
}

function drop(error: unknown): never {
  if (error instanceof DurabilityError || queue?.closed === true) {
    try {
      queue?.close();
    } catch (late) {
      note(late);
    }
    queue = undefined;
  }
  throw error;
}

function attempt<R>(what: (queue: Queue<[number, string]>) => R): R {
  const opened = open();
  try {
    return what(opened);
  } catch (error) {
    return drop(error);
  }
}

let usable = false;
try {
  insist(open);
  for (let number = 1; number <= Number(operations); number++) {
    try {
      if (attempt((opened) => opened.push([number, FILLER]))) told.pushed.push(number);
    } catch (error) {
      told.unsure.push(number);
      note(error);
    }
    if (number % 3 === 0) {
      const value = insist(() => attempt((opened) => opened.pop()));
      if (value !== undefined) told.popped.push(value[0]);
    }
  }
  insist(() => attempt((opened) => opened.flush()));
  insist(() => open().close());
  usable = true;
} catch (error) {
  told.odd.push(String((error as Error).stack));
}
console.log(JSON.stringify({ ...told, usable } satisfies Told));
