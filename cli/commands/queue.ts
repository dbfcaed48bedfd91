/** `holdfast queue …`: pushing, popping, looking, and looking after. */
import type { Readable } from "node:stream";
import type { QueueReport } from "../../lib/queue/report.ts";
import { type Lease, Queue } from "../../lib/queue.ts";
import { type Command, command, flag, oneOf, option, whole } from "../command.ts";
import { exitCodes, UsageError } from "../errors.ts";
import { chunksOf, Frames, openInput } from "../input.ts";
import { facts, isErrorTerminal, isInputTerminal, json, line, note, number, Progress, size, styled, table, write } from "../output.ts";
import { decodeInput, encodeOutput, type Format } from "../records.ts";
import { endInOrder, pause } from "../signals.ts";
import { asInput, asOutput, coded, creationOptions, durability, group, openQueue, outputFormat, separator } from "./queue_options.ts";
import { work } from "./work.ts";

const encoder = new TextEncoder();
const NEWLINE: Uint8Array = encoder.encode("\n");
const NUL = new Uint8Array(1);

/** Records of one output that are looked at, and bytes of any. */
const BATCH_RECORDS = 512;
const BATCH_BYTES: number = 1 << 20;
/** Records that are leased at once, and come again if this process is killed. Each lease looks at those that are out: 256 take three times as long. */
const BATCH_LEASES = 32;
/** How long between two looks at a queue that is full. */
const FULL_PAUSE_MS = 20;

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** Appends payloads, in order, all of them. */
class Pusher {
  pushed = 0;
  readonly #queue: Queue<Uint8Array>;
  readonly #wait: boolean;
  readonly #signal: AbortSignal;
  #told = false;

  constructor(queue: Queue<Uint8Array>, whenFull: "wait" | "fail", signal: AbortSignal) {
    this.#queue = queue;
    this.#wait = whenFull === "wait";
    this.#signal = signal;
  }

  /** False if the queue is full and that shall end it. */
  async push(payloads: readonly Uint8Array[]): Promise<boolean> {
    let rest = payloads;
    for (;;) {
      this.#append(rest, (count) => (rest = rest.slice(count)));
      if (rest.length === 0) return true;
      if (!this.#wait) return false;
      if (!this.#told) note(`'${this.#queue.path}' is full; waiting for room (--when-full fail gives up instead)`);
      this.#told = true;
      await pause(FULL_PAUSE_MS, this.#signal);
    }
  }

  #append(payloads: readonly Uint8Array[], done: (count: number) => void): void {
    const count = (some: number): void => {
      this.pushed += some;
      done(some);
    };
    try {
      count(this.#queue.pushMany(payloads));
    } catch (error) {
      if ((error as { code?: unknown }).code !== "ERR_OUT_OF_RANGE") throw error;
      // One of them could never fit, and nothing was pushed: those before it fit.
      for (const payload of payloads) {
        if (!this.#queue.push(payload)) return;
        count(1);
      }
    }
  }
}

const whenFull = option("WHAT", "if the queue is full: wait (the default) or fail", oneOf("wait", "fail"), "wait" as const);

/** Pushes what `batches` gives, and says how it went. */
async function pushAll(
  pusher: Pusher,
  batches: AsyncIterable<readonly Uint8Array[]>,
  asJson: boolean,
): Promise<number> {
  let complete = true;
  let failed = true;
  try {
    for await (const batch of batches) {
      complete = await pusher.push(batch);
      if (!complete) break;
    }
    failed = false;
  } finally {
    if (failed && !asJson && pusher.pushed > 0) note(`${plural(pusher.pushed, "record")} of the input ${pusher.pushed === 1 ? "is" : "are"} in the queue`);
    if (asJson) await json({ pushed: pusher.pushed });
  }
  if (complete) return exitCodes.done;
  note(`the queue is full; ${plural(pusher.pushed, "record")} went in`);
  return exitCodes.nothing;
}

/** The payloads of an input, a batch for each piece that arrives: prompt when input pauses, and a commit for many when it does not. */
async function* payloadsOf(
  input: Readable,
  format: Format,
  frames: Frames,
  signal: AbortSignal,
  progress: (bytes: number) => void,
): AsyncGenerator<Uint8Array[]> {
  let index = 0;
  const decode = function* (pieces: Uint8Array[]): Generator<Uint8Array[]> {
    const payloads: Uint8Array[] = [];
    for (const piece of pieces) {
      index++;
      try {
        const payload = decodeInput(format, piece, `record ${index} of the input`);
        if (payload !== undefined) payloads.push(payload);
      } catch (error) {
        // What came before it is pushed.
        yield payloads;
        throw error;
      }
    }
    yield payloads;
  };
  for await (const chunk of chunksOf(input, signal)) {
    yield* decode(frames.add(chunk));
    progress(chunk.byteLength);
  }
  yield* decode(frames.end());
}

async function pushInput(
  path: string,
  file: string | undefined,
  format: Format,
  options: Readonly<Record<string, unknown>> & { json: boolean; "when-full": "wait" | "fail" },
  separatorByte: number,
): Promise<number> {
  const signal = endInOrder();
  const input = openInput(file);
  using queue = openQueue(path, options, { mode: "rw", create: true });
  const pusher = new Pusher(queue, options["when-full"], signal);
  const progress = new Progress();
  let bytes = 0;
  const seen = (count: number): void => {
    bytes += count;
    progress.update(() => `${number(pusher.pushed, true)} records, ${size(bytes, true)}`);
  };
  try {
    return await pushAll(pusher, payloadsOf(input, format, new Frames(separatorByte), signal, seen), options.json);
  } finally {
    progress.end();
  }
}

const inputOptions = { ...coded, durability, "when-full": whenFull, ...creationOptions } as const;

const push: Command = command({
  name: "queue push",
  summary: "append records: the arguments, or each line of the standard input",
  args: "QUEUE [VALUE ...]",
  count: [1, Infinity],
  text: `The queue is made if there is none. A record is in the queue, and survives the death of any process, as soon as its line has been
read: lines are pushed as they come, many at once when they come fast. An empty line is an empty record; with --as json, base64
or record it means nothing. A line that is not what --as says ends it; the lines before it are in the queue.`,
  options: { as: asInput, ...separator, ...inputOptions },
  examples: [
    ["tail -F app.log | holdfast queue push jobs", "each line of a log, as it is written"],
    ["holdfast queue push jobs '{\"id\":1}' '{\"id\":2}'", "two records"],
    ["find . -type f -print0 | holdfast queue push jobs -0", "file names, whatever is in them"],
  ],
  async run({ options, args: [path = "", ...values] }) {
    const format = options.as;
    if (values.length === 0 && isInputTerminal()) note("reading records from the terminal, a line each; Ctrl-D ends the input");
    if (values.length === 0) return await pushInput(path, undefined, format, options, options.null ? 0 : 10);
    const signal = endInOrder();
    const payloads = values.flatMap((value, i) => decodeInput(format, encoder.encode(value), `VALUE ${i + 1}`) ?? []);
    using queue = openQueue(path, options, { mode: "rw", create: true });
    const batches = (async function* () {
      yield payloads;
    })();
    return await pushAll(new Pusher(queue, options["when-full"], signal), batches, options.json);
  },
});

/** Writes records and removes each once it is written. */
async function popBatch(leases: readonly Lease<Uint8Array>[], format: Format, end: Uint8Array): Promise<void> {
  const parts: Uint8Array[] = [];
  const ready: Lease<Uint8Array>[] = [];
  let failure: unknown;
  for (const lease of leases) {
    try {
      parts.push(encodeOutput(format, lease.value, `record ${lease.sequence}`, lease.sequence), end);
      ready.push(lease);
    } catch (error) {
      failure = error;
      break;
    }
  }
  await write(joined(parts));
  for (const lease of ready) lease.ack();
  for (const lease of leases.slice(ready.length)) lease.release();
  if (failure !== undefined) throw failure;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.byteLength;
  }
  return all;
}

const pop: Command = command({
  name: "queue pop",
  summary: "take the oldest records out and write them",
  args: "QUEUE",
  count: [1, 1],
  text: `A record is removed once all of it is written to the standard output: ended in between, by a signal, a full disk or a reader that
went away, it stays in the queue. What is written counts as taken, also if the reader does not read it; "queue work" waits for a
command's success instead. Exit code 3 if there was no record.`,
  options: {
    count: option("N", "how many at most (default 1)", whole(1)),
    all: flag("all that there are"),
    wait: flag("wait for records; with --all for ever"),
    "timeout-ms": option("N", "with --wait: how long for the next one at most", whole(0)),
    as: asOutput,
    ...separator,
    ...coded,
    group,
    durability,
  },
  examples: [
    ["holdfast queue pop jobs", "the oldest record"],
    ["holdfast queue pop jobs --all --wait | ./consumer", "a stream of all records, now and later"],
    ["holdfast queue pop jobs --count 10 --json | jq -r .text", "ten of them, as JSON"],
  ],
  async run({ options, args: [path = ""] }) {
    if (options.all && options.count !== undefined) throw new UsageError("--all and --count contradict each other");
    if (options["timeout-ms"] !== undefined && !options.wait) throw new UsageError("--timeout-ms needs --wait");
    const signal = endInOrder();
    using queue = openQueue(path, options, { mode: "rw" });
    const end = options.null ? NUL : NEWLINE;
    const format = outputFormat(options);
    const timeoutMs = options["timeout-ms"];
    let left = options.all ? Infinity : (options.count ?? 1);
    let taken = 0;
    while (left > 0) {
      signal.throwIfAborted();
      const first = options.wait ? await queue.leaseAsync({ signal, ...(timeoutMs === undefined ? {} : { timeoutMs }) }) : queue.lease();
      if (first === undefined) break;
      const leases = [first];
      let bytes = first.value.byteLength;
      while (leases.length < Math.min(left, BATCH_LEASES) && bytes < BATCH_BYTES) {
        const lease = queue.lease();
        if (lease === undefined) break;
        leases.push(lease);
        bytes += lease.value.byteLength;
      }
      await popBatch(leases, format, end);
      taken += leases.length;
      left -= leases.length;
    }
    return taken > 0 ? exitCodes.done : exitCodes.nothing;
  },
});

type Entries = Iterable<[sequence: number, value: Uint8Array]>;

/** Writes records without removing them; returns how many. */
async function writeEntries(entries: Entries, format: Format, end: Uint8Array, most: number, seen?: (sequence: number) => void): Promise<number> {
  let count = 0;
  let parts: Uint8Array[] = [];
  let bytes = 0;
  for (const [sequence, payload] of entries) {
    if (count === most) break;
    try {
      parts.push(encodeOutput(format, payload, `record ${sequence}`, sequence), end);
    } catch (error) {
      await write(joined(parts));
      throw error;
    }
    seen?.(sequence);
    count++;
    bytes += payload.byteLength;
    if (bytes >= BATCH_BYTES || parts.length >= 2 * BATCH_RECORDS) {
      await write(joined(parts));
      [parts, bytes] = [[], 0];
    }
  }
  await write(joined(parts));
  return count;
}

const lookOptions = { as: asOutput, ...separator, ...coded, group } as const;

const peek: Command = command({
  name: "queue peek",
  summary: "write the oldest records without taking them out",
  args: "QUEUE",
  count: [1, 1],
  text: `Also records that somebody has leased. It opens the queue for reading only and takes no lock. Exit code 3 if there is none.`,
  options: { count: option("N", "how many at most (default 1)", whole(1), 1), ...lookOptions },
  examples: [["holdfast queue peek jobs --count 3 --json", "the three oldest records with their sequences"]],
  async run({ options, args: [path = ""] }) {
    using queue = openQueue(path, options, { mode: "r" });
    const count = await writeEntries(queue.entries(), outputFormat(options), options.null ? NUL : NEWLINE, options.count);
    return count > 0 ? exitCodes.done : exitCodes.nothing;
  },
});

/** So many new records are collected from the back at most; more are found from the front, without keeping them. */
const MOST_COLLECTED = 10_000;

/** The records behind `after`, oldest first. */
function newEntries(queue: Queue<Uint8Array>, after: number, most: number): Entries {
  const found: [number, Uint8Array][] = [];
  for (const entry of queue.entries({ reverse: true })) {
    if (entry[0] <= after || found.length === most) break;
    if (found.length === MOST_COLLECTED) return entriesAfter(queue, after, most);
    found.push(entry);
  }
  return found.reverse();
}

function* entriesAfter(queue: Queue<Uint8Array>, after: number, most: number): Entries {
  const start = most === Infinity ? after : Math.max(after, queue.stats().nextSequence - most - 1);
  for (const entry of queue.entries()) if (entry[0] > start) yield entry;
}

const tail: Command = command({
  name: "queue tail",
  summary: "write the newest records, and with --follow those to come",
  args: "QUEUE",
  count: [1, 1],
  text: `It removes nothing, takes no lock and does not stand in anybody's way. With --follow it looks every --interval-ms; a record that is
pushed and taken out between two looks is not seen. A log with groups keeps records for as many readers as there are.`,
  options: {
    count: option("N", "how many of those that are there (default 10)", whole(0), 10),
    follow: flag("go on with what is pushed", "f"),
    "interval-ms": option("N", "how often to look (default 100)", whole(1, 3_600_000), 100),
    ...lookOptions,
  },
  examples: [
    ["holdfast queue tail jobs", "the ten newest records"],
    ["holdfast queue tail jobs --follow --count 0 | grep ERROR", "those that come, as they come"],
  ],
  async run({ options, args: [path = ""] }) {
    const signal = options.follow ? endInOrder() : undefined;
    using queue = openQueue(path, options, { mode: "r" });
    const end = options.null ? NUL : NEWLINE;
    const format = outputFormat(options);
    let last = options.count === 0 ? queue.stats().nextSequence - 1 : 0;
    const show = (most: number): Promise<number> => writeEntries(newEntries(queue, last, most), format, end, most, (sequence) => (last = Math.max(last, sequence)));
    if (options.count > 0) await show(options.count);
    while (signal !== undefined) {
      await pause(options["interval-ms"], signal);
      await show(Infinity);
    }
  },
});

const stats: Command = command({
  name: "queue stats",
  summary: "depth, rates so far, files, and who has the queue open",
  args: "QUEUE",
  count: [1, 1],
  text: "It opens the queue for reading only and takes no lock.",
  options: { group },
  examples: [
    ["holdfast queue stats jobs --human", "for people"],
    ["holdfast queue stats jobs --json | jq .length", "how many records there are"],
  ],
  async run({ options, args: [path = ""] }) {
    using queue = openQueue(path, options, { mode: "r" });
    const found = queue.stats();
    const groups = queue.groups();
    if (options.json) {
      await json({ path, ...found, groups });
      return;
    }
    const n = (value: number): string => number(value, options.human);
    const b = (value: number): string => size(value, options.human);
    await line(facts([
      ["records", n(found.length)],
      ["leased", `${n(found.leased)}${found.released > 0 ? ` (${n(found.released)} of them free to be handed out again)` : ""}`],
      ["bytes", `${b(found.byteLength)}${found.maxByteLength === undefined ? "" : ` of ${b(found.maxByteLength)}`}`],
      ["pushed", `${n(found.pushed)} records, ${b(found.pushedBytes)}${options.human ? "" : " bytes"}`],
      ["removed", `${n(found.popped)} records, ${b(found.poppedBytes)}${options.human ? "" : " bytes"}`],
      ["oldest", found.oldestSequence === undefined ? "none" : `sequence ${n(found.oldestSequence)}`],
      ["next", `sequence ${n(found.nextSequence)}`],
      ["segments", `${n(found.segments)} of ${b(found.segmentBytes)}${options.human ? "" : " bytes"}, ${n(found.spares)} spare`],
      ["files", b(found.fileBytes)],
      ["handles", found.handles.length === 0 ? "none" : found.handles.map(({ pid, leases }) => `pid ${pid}${leases > 0 ? ` (${plural(leases, "lease")})` : ""}`).join(", ")],
    ]));
    if (groups.length === 0) return;
    const columns = [{ title: "GROUP" }, { title: "RECORDS", right: true }, { title: "LEASED", right: true }, { title: "MISSED", right: true }];
    await line(`\n${table(columns, groups.map((one) => [one.name, n(one.length), n(one.leased), n(one.missed)]))}`);
  },
});

async function showReport(report: QueueReport, asJson: boolean): Promise<void> {
  if (asJson) return await json(report);
  const text = String(report);
  await line(text.replace(/: (sound|DAMAGED)/, (_, word: string) => `: ${styled(word === "sound" ? "green" : "red", word)}`));
}

/** From here on it takes seconds. */
const LARGE_BYTES: number = 1 << 30;

/** Verification is one long call: that it is under way is all that can be said. */
function announce(what: string, path: string): void {
  if (!isErrorTerminal()) return;
  try {
    using queue = openQueue(path, {}, { mode: "r" });
    const { fileBytes } = queue.stats();
    if (fileBytes >= LARGE_BYTES) note(`${what}: reading ${size(fileBytes, true)}`);
  } catch {
    // What is wrong with it the report will say.
  }
}

const verify: Command = command({
  name: "queue verify",
  summary: "read all of a queue and say what is damaged",
  args: "QUEUE",
  count: [1, 1],
  text: "It changes nothing, takes no lock and may run while the queue is in use. Exit code 1 if something is damaged.",
  options: {},
  examples: [["holdfast queue verify jobs && echo sound", "as a check in a script"]],
  async run({ options, args: [path = ""] }) {
    announce("verify", path);
    const report = Queue.verify(path);
    await showReport(report, options.json);
    return report.ok ? exitCodes.done : exitCodes.failed;
  },
});

const recover: Command = command({
  name: "queue recover",
  summary: "repair a damaged queue, keeping every whole record",
  args: "QUEUE",
  count: [1, 1],
  text: `Nobody may have it open for writing. The files as they were go to a folder beside the queue, which the report names; nothing is
deleted. A queue that is sound is left alone. The report says what was found before the repair; exit code 0 if the queue is sound now.`,
  options: {},
  examples: [["holdfast queue recover jobs", "repair, and say what was lost"]],
  async run({ options, args: [path = ""] }) {
    announce("recover", path);
    await showReport(Queue.recover(path), options.json);
  },
});

const clear: Command = command({
  name: "queue clear",
  summary: "remove all records, leased ones too",
  args: "QUEUE",
  count: [1, 1],
  text: "In one step: a record that is pushed at the same time is either among them or stays. Prints how many there were.",
  options: { group, durability },
  examples: [["holdfast queue export jobs > backup.ndjson && holdfast queue clear jobs", "with a copy"]],
  async run({ options, args: [path = ""] }) {
    using queue = openQueue(path, options, { mode: "rw" });
    const cleared = queue.clear();
    if (options.json) await json({ cleared });
    else await line(number(cleared, options.human));
  },
});

const exported: Command = command({
  name: "queue export",
  summary: "write all records, without taking them out, for \"queue import\"",
  args: "QUEUE",
  count: [1, 1],
  text: `A line of JSON for each record, oldest first: {"sequence":1,"text":"…"}, or "base64" where the payload is no UTF-8. Exact, whatever the
records hold. Records that are pushed or taken out meanwhile may or may not be among them.`,
  options: { ...coded, group },
  examples: [["holdfast queue export jobs | gzip > jobs.ndjson.gz", "a copy of all records"]],
  async run({ options, args: [path = ""] }) {
    using queue = openQueue(path, options, { mode: "r" });
    const progress = new Progress();
    const total = queue.length;
    let count = 0;
    try {
      await writeEntries(queue.entries(), "record", NEWLINE, Infinity, () => {
        count++;
        progress.update(() => `${number(count, true)} of ${number(total, true)} records`);
      });
    } finally {
      progress.end();
    }
  },
});

const imported: Command = command({
  name: "queue import",
  summary: "append the records that \"queue export\" wrote",
  args: "QUEUE [FILE]",
  count: [1, 2],
  text: `From FILE or the standard input. The queue is made if there is none. The records get new sequences, in the same order. A line that
is no such record ends it; those before it are in the queue.`,
  options: inputOptions,
  examples: [["gunzip < jobs.ndjson.gz | holdfast queue import other", "into another queue"]],
  async run({ options, args: [path = "", file] }) {
    return await pushInput(path, file, "record", options, 10);
  },
});

export const commands: readonly Command[] = [push, pop, peek, tail, stats, verify, recover, clear, exported, imported, work];
