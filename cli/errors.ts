/** How the command line ends: exit codes, and what is said of an error. */

/** Exit codes. Ended by a signal, a command dies of that signal, which shells show as 128 + its number. */
export const exitCodes = {
  done: 0,
  /** The system or the library said no, or damage was found. */
  failed: 1,
  /** The command line makes no sense; nothing was done. */
  usage: 2,
  /** There was nothing: no record to pop, no room to push. */
  nothing: 3,
  /** Who reads the output went away (128 + SIGPIPE). */
  pipe: 141,
} as const;

/** A command line that makes no sense: its message is all that the user is shown, with the help to ask for. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** A failure that is no bug and has no code of the library's: its message is all that the user is shown. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly code: string;

  constructor(message: string, code: string = "ERR_COMMAND", cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}

/** Who reads the standard output went away. */
export class BrokenPipe extends Error {
  override readonly name = "BrokenPipe";
}

/** The command was ended by a signal. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
  readonly signal: NodeJS.Signals;

  constructor(signal: NodeJS.Signals) {
    super(`ended by ${signal}`);
    this.signal = signal;
  }
}

/** What to print of an error: what the library and the system say speaks for itself, anything else is a bug and needs its stack. */
export function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // Deno's permissions have no code.
  const expected = error instanceof UsageError || "code" in error || error.name === "NotCapable";
  return expected ? error.message : (error.stack ?? String(error));
}

/** The words of `known` that `word` may have been meant for, the closest first. */
export function closest(word: string, known: readonly string[]): string | undefined {
  const ranked = known.map((name) => [distance(word, name), name] as const).sort(([a], [b]) => a - b);
  const [best] = ranked;
  if (best === undefined) return undefined;
  const [edits, name] = best;
  if (edits <= Math.max(1, Math.floor(word.length / 3))) return name;
  return known.find((other) => word.length > 1 && other.startsWith(word));
}

/** Insertions, deletions, replacements and swaps of neighbours that lead from one word to the other. */
function distance(from: string, to: string): number {
  let last: number[] = [];
  let previous = Array.from({ length: to.length + 1 }, (_, i) => i);
  for (let i = 1; i <= from.length; i++) {
    const row = [i];
    for (let j = 1; j <= to.length; j++) {
      const same = from[i - 1] === to[j - 1];
      let cost = Math.min((previous[j] as number) + 1, (row[j - 1] as number) + 1, (previous[j - 1] as number) + (same ? 0 : 1));
      const swapped = i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1];
      if (swapped) cost = Math.min(cost, (last[j - 2] as number) + 1);
      row.push(cost);
    }
    [last, previous] = [previous, row];
  }
  return previous[to.length] as number;
}
