/** `holdfast top`: what goes on in a folder. */
import * as fs from "node:fs";
import { basename, join } from "node:path";
import { Counters } from "../../lib/counters.ts";
import type { QueueStats } from "../../lib/queue/stats.ts";
import { Queue } from "../../lib/queue.ts";
import { type Command, command, option, whole } from "../command.ts";
import { kindAt } from "../identify.ts";
import { draw, isTerminal, json, line, number, safe, size, styled, table } from "../output.ts";
import { endInOrder, pause } from "../signals.ts";

/** What one look at a queue shows. */
interface QueueRow {
  readonly name: string;
  readonly records: number;
  /** Records that somebody works on. */
  readonly leased: number;
  readonly bytes: number;
  /** Records a second; undefined at the first look. */
  readonly pushedPerSecond: number | undefined;
  readonly removedPerSecond: number | undefined;
  readonly oldestSequence: number | undefined;
  /** Seconds since the oldest record was pushed. */
  readonly oldestSeconds: number | undefined;
  /** Whether it is older than that: it was there at the first look. */
  readonly older: boolean;
  /** Processes with the queue open for writing, and how many records each has leased. */
  readonly holders: readonly { readonly pid: number; readonly leases: number }[];
}

interface CounterRow {
  readonly file: string;
  readonly name: string;
  readonly value: bigint;
  readonly perSecond: number | undefined;
}

interface Failure {
  readonly name: string;
  readonly message: string;
}

/** So many looks back the age of a record is known. */
const MOST_LOOKS = 3600;

/** A queue that is looked at again and again. */
class QueueView implements Disposable {
  readonly #queue: Queue<Uint8Array>;
  readonly #name: string;
  #last: { at: number; stats: QueueStats } | undefined;
  /** The next sequence at each look, from which follows when a record had been pushed. */
  readonly #looks: { at: number; next: number }[] = [];

  constructor(path: string) {
    this.#queue = Queue.open<Uint8Array>(path, { mode: "r", codec: "bytes" });
    this.#name = basename(path);
  }

  look(): QueueRow {
    const stats = this.#queue.stats();
    const at = performance.now();
    const last = this.#last;
    this.#last = { at, stats };
    this.#looks.push({ at, next: stats.nextSequence });
    if (this.#looks.length > MOST_LOOKS) this.#looks.splice(0, MOST_LOOKS / 2);
    const rate = (now: number, before: number | undefined): number | undefined =>
      last === undefined || before === undefined ? undefined : (now - before) / ((at - last.at) / 1000);
    const { oldestSequence } = stats;
    const seen = oldestSequence === undefined ? undefined : this.#looks.find(({ next }) => next > oldestSequence);
    return {
      name: this.#name,
      records: stats.length,
      leased: stats.leased - stats.released,
      bytes: stats.byteLength,
      pushedPerSecond: rate(stats.pushed, last?.stats.pushed),
      removedPerSecond: rate(stats.popped, last?.stats.popped),
      oldestSequence,
      oldestSeconds: seen === undefined ? undefined : (at - seen.at) / 1000,
      older: seen === this.#looks[0],
      holders: stats.handles.map(({ pid, leases }) => ({ pid, leases })),
    };
  }

  [Symbol.dispose](): void {
    this.#queue.close();
  }
}

class CountersView implements Disposable {
  readonly #counters: Counters;
  readonly #file: string;
  #last: { at: number; values: readonly bigint[] } | undefined;

  constructor(path: string) {
    this.#counters = Counters.open(path, { mode: "r" });
    this.#file = basename(path);
  }

  look(): CounterRow[] {
    const { names } = this.#counters;
    const values = names.map((_, i) => this.#counters.getBigInt(i));
    const at = performance.now();
    const last = this.#last;
    this.#last = { at, values };
    return values.map((value, i) => {
      const before = last?.values[i];
      const perSecond = last === undefined || before === undefined ? undefined : Number(value - before) / ((at - last.at) / 1000);
      return { file: this.#file, name: names[i] ?? String(i), value, perSecond };
    });
  }

  [Symbol.dispose](): void {
    this.#counters.close();
  }
}

/** The queues and counters of a folder; those that come and go meanwhile, too. */
class Folder implements Disposable {
  readonly #path: string;
  readonly #views = new Map<string, QueueView | CountersView>();

  constructor(path: string) {
    this.#path = path;
  }

  look(): { queues: QueueRow[]; counters: CounterRow[]; failures: Failure[] } {
    const queues: QueueRow[] = [];
    const counters: CounterRow[] = [];
    const failures: Failure[] = [];
    const paths = new Map(this.#paths());
    for (const key of this.#views.keys()) if (!paths.has(key)) this.#drop(key);
    for (const [key, path] of paths) {
      try {
        let view = this.#views.get(key);
        if (view === undefined) {
          const kind = kindAt(path);
          if (kind !== "queue" && kind !== "counters") continue;
          if (kind === "queue" && !fs.statSync(path).isDirectory()) continue; // a control file
          view = kind === "queue" ? new QueueView(path) : new CountersView(path);
          this.#views.set(key, view);
        }
        if (view instanceof QueueView) queues.push(view.look());
        else counters.push(...view.look());
      } catch (error) {
        // It was removed, replaced or damaged: looked at anew the next time.
        this.#drop(key);
        if (fs.existsSync(path)) failures.push({ name: basename(path), message: (error as Error).message });
      }
    }
    return { queues, counters, failures };
  }

  /** What may be one, by path and inode: another one of the same name is another. */
  *#paths(): Iterable<[key: string, path: string]> {
    const itself = kindAt(this.#path);
    const names = itself === "queue" || itself === "counters" ? [""] : fs.readdirSync(this.#path).sort();
    for (const name of names) {
      const path = name === "" ? this.#path : join(this.#path, name);
      const stat = fs.statSync(path, { throwIfNoEntry: false });
      if (stat !== undefined) yield [`${path} ${stat.dev} ${stat.ino}`, path];
    }
  }

  #drop(key: string): void {
    this.#views.get(key)?.[Symbol.dispose]();
    this.#views.delete(key);
  }

  [Symbol.dispose](): void {
    for (const key of this.#views.keys()) this.#drop(key);
  }
}

const rateText = (value: number | undefined): string => value?.toFixed(1) ?? "-";

function ageText({ oldestSeconds, older, records }: QueueRow): string {
  if (records === 0 || oldestSeconds === undefined) return "-";
  return `${older ? ">" : ""}${oldestSeconds.toFixed(oldestSeconds < 10 ? 1 : 0)}s`;
}

function holdersText({ holders }: QueueRow): string {
  const byPid = new Map<number, number>();
  for (const { pid, leases } of holders) byPid.set(pid, (byPid.get(pid) ?? 0) + leases);
  return [...byPid].map(([pid, leases]) => (leases > 0 ? `${pid}(${leases})` : String(pid))).join(" ") || "-";
}

function render({ queues, counters, failures }: ReturnType<Folder["look"]>, human: boolean): string {
  const n = (value: number | bigint): string => number(value, human);
  const right = true;
  const parts: string[] = [];
  if (queues.length > 0) {
    const columns = [
      { title: "QUEUE" }, { title: "RECORDS", right }, { title: "LEASED", right }, { title: "BYTES", right }, { title: "IN/S", right },
      { title: "OUT/S", right }, { title: "OLDEST", right }, { title: "AGE", right }, { title: "HOLDERS" },
    ];
    parts.push(table(columns, queues.map((row) => [
      safe(row.name), n(row.records), n(row.leased), size(row.bytes, human), rateText(row.pushedPerSecond), rateText(row.removedPerSecond),
      row.oldestSequence === undefined ? "-" : n(row.oldestSequence), ageText(row), holdersText(row),
    ])));
  }
  if (counters.length > 0) {
    const columns = [{ title: "COUNTERS" }, { title: "NAME" }, { title: "VALUE", right }, { title: "PER SECOND", right }];
    parts.push(table(columns, counters.map((row) => [safe(row.file), safe(row.name), n(row.value), rateText(row.perSecond)])));
  }
  for (const { name, message } of failures) parts.push(`${styled("red", safe(name))}: ${safe(message)}`);
  return parts.length === 0 ? "no queues or counters here" : parts.join("\n\n");
}

const top: Command = command({
  name: "top",
  summary: "a live view of the queues and counters of a folder",
  args: "[FOLDER]",
  count: [0, 1],
  text: `FOLDER is the current one by default; a single queue or file of counters will do. For each queue: records, leased ones, bytes, records
in and out a second, the sequence of the oldest and how long ago it was pushed (">": it was there before), and the processes that have
the queue open for writing, with how many records each holds. It opens everything for reading only.

On a terminal it is drawn anew at each look, as far as it fits; otherwise one text after the other, with an empty line between.`,
  options: {
    "interval-ms": option("N", "how often to look (default 1000)", whole(10, 3_600_000), 1000),
    count: option("N", "end after so many looks (default: never)", whole(1), Infinity),
  },
  examples: [["holdfast top /var/lib/app", "until Ctrl-C"], ["holdfast top /var/lib/app --count 2 --json | tail -n 1", "rates over a second, once"]],
  async run({ options, args: [path = "."] }) {
    const signal = endInOrder();
    fs.statSync(path);
    using folder = new Folder(path);
    const drawn = isTerminal() && !options.json;
    for (let look = 1; ; look++) {
      const seen = folder.look();
      if (options.json) await json({ time: new Date().toISOString(), ...seen });
      else if (drawn) await draw(render(seen, options.human));
      else await line(`${look === 1 ? "" : "\n"}${render(seen, options.human)}`);
      if (look >= options.count) return;
      await pause(options["interval-ms"], signal);
    }
  },
});

export const commands: readonly Command[] = [top];
