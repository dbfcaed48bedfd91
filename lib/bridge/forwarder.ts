/**
 * Forwarding a queue to a sink, in order, each record once.
 *
 * Invariants:
 *   - A record leaves the local queue only when the remote has confirmed it, or when it is on storage among the dead letters.
 *   - What is sent goes on from what the remote says that it has; the sink takes no record without the one before. So the remote has all up to
 *     some record and nothing behind it, whenever whatever dies.
 *   - Nothing is sent that a power cut here could take back: its sequence would be given to another record, which the remote would take for the
 *     one that it has.
 *
 * @module
 */
import { abortSignal, boolean, checkName, checkOptions, checkPath, integer, type OptionCheck } from "../checks.ts";
import { invalidType, MapError } from "../errors.ts";
import { Metrics } from "../metrics.ts";
import { Queue, type QueueOptions } from "../queue.ts";
import type { AheadRecord, ReadAhead } from "../queue/ahead.ts";
import { DeadLetters } from "./dead_letters.ts";
import { BridgeError, type OutgoingRecord, RefusedError, ResyncError, type Sink, type SinkConnection } from "./engine.ts";
import { backoffMs, Bell, pause, textOf } from "./retry.ts";
import { type BridgeStatus, StatusBoard } from "./status.ts";

/** Options that both directions have. */
export interface BridgeOptions {
  /** The local queue: its directory. Created if there is none. */
  queue: string | URL;
  /** Options for the creation of the local queue: `capacityBytes`, `maxCapacityBytes`, … */
  create?: Pick<QueueOptions, "capacityBytes" | "maxCapacityBytes" | "fixedSize" | "permissions" | "groups" | "retainBytes" | "retainMs">;
  /** A queue for records that are refused for good, one for each bridge: see {@linkcode DeadLetter}. Without it such a record stops the bridge. */
  deadLetter?: string | URL;
  /** A file of metrics, or its path: rate, lag and the like as series with the label `bridge`. */
  metrics?: Metrics | string | URL;
  /** The label's value. Default: the name of the engine and the stream. */
  name?: string;
  /** First and longest wait before another attempt, in milliseconds; it doubles in between and has jitter. Default 100 and 10,000. */
  retryMs?: number;
  retryMaxMs?: number;
  /** How long the remote may take to answer, in milliseconds, before the connection is given up. Default 10,000. */
  ackTimeoutMs?: number;
  /** Stops the bridge, as `stop()` does. */
  signal?: AbortSignal;
}

/** Options of {@linkcode forward}. */
export interface ForwardOptions extends BridgeOptions {
  /** The group whose cursor the bridge moves; the queue is then a log, which others can read too. Without it the queue is a work queue, which the bridge empties. */
  group?: string;
  /** Records and bytes of payload that are sent in one batch. Default 512 and 1 MiB. */
  batchRecords?: number;
  batchBytes?: number;
  /** Records and bytes that are under way at most. Default 4,096 and 8 MiB. */
  windowRecords?: number;
  windowBytes?: number;
  /**
   * Whether records are on this machine's storage before they are sent (the default). With false a power cut here may give the sequences of records that
   * were sent to others, which the remote then takes for the old ones and drops.
   */
  flushFirst?: boolean;
}

const metricsOption: OptionCheck<Metrics | string> = (name, value) => (value instanceof Metrics ? value : checkPath(name, value));
const createOption: OptionCheck<NonNullable<BridgeOptions["create"]>> = (name, value) => {
  if (typeof value !== "object" || value === null) throw invalidType(name, "an object of queue options", value);
  return value; // Queue.open() looks closer
};

const milliseconds = integer(1, 2 ** 31 - 1);
const nameOption: OptionCheck<string> = (name, value) => checkName(name, value, 200);

/** How the options are checked that both directions have. */
export const BRIDGE_OPTIONS: {
  queue: OptionCheck<string>;
  create: OptionCheck<NonNullable<BridgeOptions["create"]>>;
  deadLetter: OptionCheck<string>;
  metrics: OptionCheck<Metrics | string>;
  name: OptionCheck<string>;
  retryMs: OptionCheck<number>;
  retryMaxMs: OptionCheck<number>;
  ackTimeoutMs: OptionCheck<number>;
  signal: OptionCheck<AbortSignal>;
} = {
  queue: checkPath,
  create: createOption,
  deadLetter: checkPath,
  metrics: metricsOption,
  name: nameOption,
  retryMs: milliseconds,
  retryMaxMs: milliseconds,
  ackTimeoutMs: milliseconds,
  signal: abortSignal,
};
const FORWARD_OPTIONS = {
  ...BRIDGE_OPTIONS,
  group: nameOption, // Queue.open() looks closer
  batchRecords: integer(1, 100_000),
  batchBytes: integer(1),
  windowRecords: integer(1),
  windowBytes: integer(1),
  flushFirst: boolean,
};

/** How often a standby looks whether it is its turn. */
const TURN_MS = 50;

/** How often in a row the remote is asked where it is without a record getting through, before the bridge takes a break. */
const MAX_VAIN = 3;

interface Batch {
  readonly last: number;
  readonly count: number;
  readonly bytes: number;
  done: boolean;
}

/** A running forwarder: see {@linkcode forward}. */
export class Forwarder implements AsyncDisposable {
  /** Resolves when the bridge has stopped; rejects if it had to. */
  readonly done: Promise<void>;
  readonly #sink: Sink;
  readonly #queue: Queue<Uint8Array>;
  readonly #ahead: ReadAhead<Uint8Array>;
  readonly #deadLetters: DeadLetters | undefined;
  readonly #board: StatusBoard;
  readonly #batch: { readonly records: number; readonly bytes: number };
  readonly #window: { readonly records: number; readonly bytes: number };
  readonly #retry: { readonly first: number; readonly last: number };
  readonly #ackTimeoutMs: number;
  readonly #flushFirst: boolean;
  readonly #ended = new AbortController();
  readonly #bell = new Bell();
  /** Why the remote refused records that are still to be moved to the dead letters. */
  readonly #refused = new Map<number, string>();
  /** Records that were read and wait for their turn. */
  #held: AheadRecord<Uint8Array>[] = [];
  #failures = 0;
  /** Why the connection has ended, if it has. */
  #lost: { readonly error: unknown } | undefined;

  /** @internal */
  constructor(sink: Sink, options: ForwardOptions) {
    const given = checkOptions("forward()", options, FORWARD_OPTIONS);
    if (given.queue === undefined) throw invalidType("queue", "the path of the local queue", undefined);
    const { group, batchRecords = 512, batchBytes = 1 << 20, windowRecords = 4096, windowBytes = 8 << 20 } = given;
    const { retryMs = 100, retryMaxMs = Math.max(10_000, retryMs), ackTimeoutMs = 10_000, flushFirst = true, signal, name = sink.name } = given;
    this.#sink = sink;
    this.#batch = { records: batchRecords, bytes: batchBytes };
    this.#window = { records: windowRecords, bytes: windowBytes };
    this.#retry = { first: retryMs, last: retryMaxMs };
    this.#ackTimeoutMs = ackTimeoutMs;
    this.#flushFirst = flushFirst;
    this.#queue = Queue.open<Uint8Array>(given.queue, { ...given.create, codec: "bytes", exclusive: true, ...(group === undefined ? {} : { group }) });
    try {
      this.#ahead = this.#queue.readAhead();
      this.#board = new StatusBoard(given.metrics, name);
    } catch (error) {
      this.#queue.close();
      throw error;
    }
    this.#deadLetters = given.deadLetter === undefined ? undefined : new DeadLetters(given.deadLetter);
    signal?.addEventListener("abort", () => void this.stop(), { signal: this.#ended.signal });
    if (signal?.aborted === true) this.#ended.abort();
    this.done = this.#run();
    this.done.catch(() => {}); // whoever awaits it hears of it; nobody has to
  }

  /** What the bridge is doing. */
  get status(): BridgeStatus {
    return { ...this.#board.now };
  }

  /** Ends the bridge: reads no more, waits for what is under way, for at most `ackTimeoutMs`, and closes. */
  async stop(): Promise<void> {
    this.#ended.abort();
    this.#bell.ring();
    await this.done.catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #run(): Promise<void> {
    const { signal } = this.#ended;
    try {
      while (!signal.aborted && !this.#ahead.active) await pause(TURN_MS * (0.5 + Math.random()), signal);
      while (!signal.aborted) {
        try {
          await this.#connected();
          break;
        } catch (error) {
          if (signal.aborted && !isFinal(error)) break;
          if (isFinal(error)) throw error;
          this.#note("waiting", error);
          this.#board.now.reconnects++;
          this.#board.write(true);
        }
        await pause(backoffMs(this.#failures++, this.#retry.first, this.#retry.last), signal);
      }
    } catch (error) {
      this.#note("stopped", error);
      throw error;
    } finally {
      this.#board.now.state = "stopped";
      this.#board.now.inFlight = 0;
      this.#board.close();
      this.#deadLetters?.[Symbol.dispose]();
      this.#queue.close();
    }
  }

  #note(state: BridgeStatus["state"], error: unknown): void {
    this.#board.now.state = state;
    this.#board.now.inFlight = 0;
    this.#board.now.lastError = textOf(error);
  }

  /** One connection, until it fails or the bridge is stopped. */
  async #connected(): Promise<void> {
    const { signal } = this.#ended;
    this.#board.now.state = "connecting";
    this.#board.now.lag = this.#queue.length;
    this.#board.write(true);
    const connection = await this.#sink.connect({ queueId: this.#queue.id }, signal);
    const { now } = this.#board;
    this.#lost = undefined;
    const ended = new AbortController();
    connection.lost?.catch((error: unknown) => {
      if (ended.signal.aborted) return;
      this.#lost = { error };
      this.#bell.ring();
    });
    try {
      for (let vain = 0; ; ) {
        const before = now.records + now.deadLetters + now.skipped;
        try {
          await this.#pump(connection, await connection.last());
          return;
        } catch (error) {
          if (error instanceof RefusedError) this.#refused.set(error.sequence, error.message);
          else if (!(error instanceof ResyncError)) throw error;
          if (signal.aborted) return;
          vain = now.records + now.deadLetters + now.skipped > before ? 0 : vain + 1;
          if (vain > MAX_VAIN) throw error;
        }
      }
    } finally {
      ended.abort();
      await connection.close();
    }
  }

  /** Sends records until something fails, or the bridge is stopped and nothing is under way. */
  async #pump(connection: SinkConnection, last: number): Promise<void> {
    this.#begin(last);
    const { now } = this.#board;
    const { signal } = this.#ended;
    const batches: Batch[] = [];
    const pump = new AbortController();
    let failure: { readonly error: unknown } | undefined;
    let watching = false;
    let records = 0;
    let bytes = 0;
    let progress = performance.now();
    const watch = (): void => {
      if (watching) return;
      watching = true;
      const end = (): void => {
        watching = false;
        this.#bell.ring();
      };
      this.#ahead.wait({ signal: pump.signal }).then(end, (error: unknown) => {
        if (!pump.signal.aborted) failure ??= { error };
        end();
      });
    };
    try {
      for (;;) {
        while (failure === undefined && !signal.aborted && records < this.#window.records && bytes < this.#window.bytes) {
          const next = this.#next(connection.maxPayloadBytes, batches.length === 0);
          if (next.length === 0) break;
          const batch: Batch = { last: next.at(-1)!.sequence, count: next.length, bytes: next.reduce((sum, { payload }) => sum + payload.length, 0), done: false };
          if (batches.length === 0) progress = performance.now();
          batches.push(batch);
          records += batch.count;
          bytes += batch.bytes;
          connection.send(next).then(
            () => {
              batch.done = true;
              this.#bell.ring();
            },
            (error: unknown) => {
              failure ??= { error };
              this.#bell.ring();
            },
          );
        }
        let confirmed: Batch | undefined;
        while (batches[0]?.done === true) {
          confirmed = batches.shift() as Batch;
          records -= confirmed.count;
          bytes -= confirmed.bytes;
          now.records += confirmed.count;
          now.bytes += confirmed.bytes;
        }
        if (confirmed !== undefined) {
          this.#ahead.removeThrough(confirmed.last);
          now.last = String(confirmed.last);
          progress = performance.now();
          this.#failures = 0;
        }
        now.inFlight = records;
        now.lag = this.#queue.length;
        this.#board.write(records === 0);
        failure ??= this.#lost;
        if (failure !== undefined) throw failure.error;
        if (signal.aborted && batches.length === 0) return;
        if (confirmed !== undefined) continue;
        if (records < this.#window.records && bytes < this.#window.bytes && !signal.aborted && this.#held.length === 0) watch();
        const left = batches.length === 0 ? 1000 : progress + this.#ackTimeoutMs - performance.now();
        if (left <= 0) throw new Error(`${this.#sink.name} has not confirmed anything for ${this.#ackTimeoutMs} ms`);
        await this.#bell.wait(left);
      }
    } finally {
      pump.abort();
    }
  }

  /** Goes back to the oldest record, and over those that the remote has. */
  #begin(last: number): void {
    const { now } = this.#board;
    this.#held = [];
    this.#ahead.rewind();
    const { nextSequence } = this.#queue.stats();
    if (last >= nextSequence) {
      throw new BridgeError(
        "ERR_AHEAD",
        `${this.#sink.name} has record ${last} of queue '${this.#queue.path}', which itself has none beyond ${nextSequence - 1}: it was restored from an older copy, or another queue has its id`,
      );
    }
    const skipped = this.#ahead.removeThrough(last);
    now.skipped += skipped;
    if (last > 0) now.last = String(last);
    for (const sequence of this.#refused.keys()) if (sequence <= last) this.#refused.delete(sequence);
    now.state = "running";
    now.lag = this.#queue.length;
    this.#board.write(true);
  }

  /** The next records to send. One that is refused for good is moved away, once nothing that goes before it is under way. */
  #next(maxPayloadBytes: number, nothingUnderWay: boolean): OutgoingRecord[] {
    for (;;) {
      if (this.#held.length === 0) {
        this.#held = this.#ahead.next(this.#batch.records, this.#batch.bytes);
        const last = this.#held.at(-1)?.sequence;
        if (last === undefined) return [];
        if (this.#flushFirst && last > this.#queue.durableSequence) this.#queue.flush();
      }
      const reasonOf = ({ sequence, value }: AheadRecord<Uint8Array>): string | undefined =>
        this.#refused.get(sequence) ?? (value.length > maxPayloadBytes ? `${value.length} bytes are more than the ${maxPayloadBytes} that ${this.#sink.name} takes` : undefined);
      const end = this.#held.findIndex((record) => reasonOf(record) !== undefined);
      if (end !== 0) {
        const good = end < 0 ? this.#held : this.#held.slice(0, end);
        this.#held = end < 0 ? [] : this.#held.slice(end);
        return good.map(({ sequence, value }) => ({ sequence, payload: value }));
      }
      if (!nothingUnderWay) return [];
      const record = this.#held[0] as AheadRecord<Uint8Array>;
      this.#bury(record, reasonOf(record) as string);
      this.#held.shift();
    }
  }

  /** Moves a record, the oldest in the queue, to the dead letters. */
  #bury({ sequence, value }: AheadRecord<Uint8Array>, reason: string): void {
    const { path, id } = this.#queue;
    if (this.#deadLetters === undefined) {
      throw new BridgeError("ERR_REFUSED", `record ${sequence} of '${path}' can't be forwarded and stays: ${reason}. With "deadLetter" such records are put aside`);
    }
    if (!this.#deadLetters.add({ origin: id, id: String(sequence), reason, payload: value })) {
      throw new Error(`the queue of dead letters is full; record ${sequence} of '${path}' stays: ${reason}`);
    }
    this.#ahead.removeThrough(sequence);
    this.#refused.delete(sequence);
    this.#board.now.deadLetters++;
    this.#failures = 0;
  }
}

/** What of the local queue's failures goes by: another process was stopped inside it, or the disk is full. */
const PASSING: readonly string[] = ["ERR_LOCKED", "ENOSPC", "EDQUOT"];

/** Whether trying again would not help: the bridge must not go on, or the local queue failed. */
export function isFinal(error: unknown): boolean {
  return error instanceof BridgeError || (error instanceof MapError && !PASSING.includes(error.code));
}

/**
 * Forwards a queue to a sink until it is stopped: in order, each record once, whatever dies in between. Records leave the queue when the remote has
 * confirmed them. Started twice, also in different processes, one works and the other stands by.
 *
 * It never gives up because of the network. It ends, and `done` rejects, when going on would lose or double records: `BridgeError` `ERR_FOREIGN` (the
 * stream has another queue's records), `ERR_AHEAD` (the remote has records that this queue never had), `ERR_REFUSED` (a record is refused for good
 * and there is no `deadLetter`); and when the local queue fails, with its `MapError`.
 */
export function forward(sink: Sink, options: ForwardOptions): Forwarder {
  return new Forwarder(sink, options);
}
