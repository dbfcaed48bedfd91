/** A consumer: leases lines, counts them, acknowledges them, until there is none left. Started by ../ingest.ts. */
import type { Counters } from "../../mod.ts";
import { counterNames, type LogLine, parseLogLine } from "./log_line.ts";
import { childArguments, names, Shared } from "./shared.ts";

/** Counts a line under its status code, method and path. */
class LineCounter {
  readonly #counters: Counters;
  // A counter's index never changes, and adding by index spares the look at its name.
  readonly #known = new Map<string, number>();

  constructor(counters: Counters) {
    this.#counters = counters;
  }

  add(line: LogLine): void {
    const keys = counterNames(line);
    if (!keys.every((key) => this.#known.has(key))) {
      this.#counters.declare(...keys).forEach((index, i) => this.#known.set(keys[i] as string, index));
    }
    for (const key of keys) this.#counters.add(this.#known.get(key) as number);
    this.#counters.add(names.bytes, line.bytes);
  }
}

async function consume(folder: string, index: number): Promise<void> {
  using shared = Shared.open(folder);
  const { queue, counters, seen } = shared;
  const lineCounter = new LineCounter(counters);
  const done = names.done("consumer", index);
  await shared.begin("consumer", index);

  for (;;) {
    const lease = queue.lease();
    if (lease === undefined) {
      // In this order: once all is pushed, nothing comes after a length of 0. Records that others hold count as long as they
      // are not acknowledged, for whoever holds one may be killed.
      if (counters.get(names.finished) === 1 && queue.length === 0) return;
      await shared.pause();
      continue;
    }

    // A kill can come between any two of these lines. Whatever it leaves undone is done again when the record is given out
    // again, so nothing is missed; what it had done is counted twice. Therefore "duplicates" and "processed" go first: neither
    // has less too much than any counter after it.
    if (lease.attempts > 1) counters.add(names.duplicates);
    counters.add(names.processed);
    const { line, text } = lease.value;
    const entry = parseLogLine(text);
    if (entry === undefined) counters.add(names.notUnderstood);
    else lineCounter.add(entry);
    counters.add(done);
    if (seen.add(line) && lease.attempts === 1) counters.add(names.pushedTwice);
    lease.ack();
  }
}

await consume(...childArguments());
