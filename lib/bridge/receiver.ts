/**
 * Receiving from a source into a queue, in order, each record once.
 *
 * Invariants:
 *   - The queue's mark says how far the source has been received, and is committed with the records: whatever dies, they are of one moment.
 *   - The remote hears that a record is safe only once the push has returned, and, with durability "each", once it is on storage.
 *   - One receiver at a time: {@linkcode Turn} says whose turn it is.
 *
 * @module
 */
import { checkOptions, oneOf } from "../checks.ts";
import { invalidType } from "../errors.ts";
import { Queue } from "../queue.ts";
import { DeadLetters } from "./dead_letters.ts";
import { BridgeError, type IncomingRecord, type Source, type SourceConnection } from "./engine.ts";
import { BRIDGE_OPTIONS, type BridgeOptions, isFinal } from "./forwarder.ts";
import { backoffMs, digestOf, pause, textOf, within } from "./retry.ts";
import { type BridgeStatus, StatusBoard } from "./status.ts";
import { Turn } from "./turn.ts";

/** Options of {@linkcode receive}. */
export interface ReceiveOptions extends BridgeOptions {
  /**
   * When the remote hears that a record is safe. "process" (the default): when it is in the queue, which the death of any process does not undo. "each":
   * when it is on storage; then a power cut costs nothing, and at worst brings the last records again.
   */
  durability?: "process" | "each";
}

const RECEIVE_OPTIONS = { ...BRIDGE_OPTIONS, durability: oneOf("process", "each") };

/** How often a standby looks whether it is its turn. */
const TURN_MS = 50;
/** How long a source may take to say that there is nothing. */
const QUIET_MS = 2000;
/** How often a full queue is looked at. */
const FULL_FIRST_MS = 2;
const FULL_LAST_MS = 200;
const MARK = "holdfast-bridge";

/** A running receiver: see {@linkcode receive}. */
export class Receiver implements AsyncDisposable {
  /** Resolves when the bridge has stopped; rejects if it had to. */
  readonly done: Promise<void>;
  readonly #source: Source;
  readonly #queue: Queue<Uint8Array>;
  readonly #turn: Turn;
  readonly #deadLetters: DeadLetters | undefined;
  readonly #board: StatusBoard;
  readonly #retry: { readonly first: number; readonly last: number };
  readonly #flush: boolean;
  readonly #ackTimeoutMs: number;
  readonly #ended = new AbortController();
  #failures = 0;
  #connection: SourceConnection | undefined;

  /** @internal */
  constructor(source: Source, options: ReceiveOptions) {
    const given = checkOptions("receive()", options, RECEIVE_OPTIONS);
    if (given.queue === undefined) throw invalidType("queue", "the path of the local queue", undefined);
    const { retryMs = 100, retryMaxMs = Math.max(10_000, retryMs), durability = "process", ackTimeoutMs = 10_000, signal, name = source.name } = given;
    this.#source = source;
    this.#retry = { first: retryMs, last: retryMaxMs };
    this.#flush = durability === "each";
    this.#ackTimeoutMs = ackTimeoutMs;
    this.#queue = Queue.open<Uint8Array>(given.queue, { ...given.create, codec: "bytes" });
    try {
      this.#turn = new Turn(this.#queue.path);
      try {
        this.#board = new StatusBoard(given.metrics, name);
      } catch (error) {
        this.#turn[Symbol.dispose]();
        throw error;
      }
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

  /** Ends the bridge. What was received and not pushed stays with the remote. */
  async stop(): Promise<void> {
    this.#ended.abort();
    await this.#connection?.close();
    await this.done.catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #run(): Promise<void> {
    const { signal } = this.#ended;
    const { now } = this.#board;
    try {
      while (!signal.aborted && !this.#turn.take()) await pause(TURN_MS * (0.5 + Math.random()), signal);
      while (!signal.aborted) {
        try {
          await this.#connected();
          break;
        } catch (error) {
          if (signal.aborted && !isFinal(error)) break;
          now.lastError = textOf(error);
          if (isFinal(error)) throw error;
          now.state = "waiting";
          now.reconnects++;
          now.inFlight = 0;
          this.#board.write(true);
        }
        await pause(backoffMs(this.#failures++, this.#retry.first, this.#retry.last), signal);
      }
    } finally {
      now.state = "stopped";
      now.inFlight = 0;
      this.#board.close();
      this.#deadLetters?.[Symbol.dispose]();
      this.#turn[Symbol.dispose]();
      this.#queue.close();
    }
  }

  /** One connection, until it fails or the bridge is stopped. */
  async #connected(): Promise<void> {
    const { signal } = this.#ended;
    const { now } = this.#board;
    now.state = "connecting";
    this.#board.write(true);
    const mark = this.#mark();
    const connection = await this.#source.connect({ queueId: this.#queue.id, position: mark?.position }, signal);
    this.#connection = connection;
    try {
      const identity = digestOf(connection.identity);
      if (mark !== undefined && mark.identity !== identity) {
        throw new BridgeError(
          "ERR_FOREIGN",
          `queue '${this.#queue.path}' has received from another stream than ${connection.identity}, up to ${mark.position}: one queue has one source, so receive into another queue`,
        );
      }
      now.state = "running";
      const late = `${this.#source.name} has not answered for ${this.#ackTimeoutMs} ms`;
      while (!signal.aborted) {
        now.lag = this.#queue.length;
        this.#board.write();
        const records = await within(connection.next(), this.#ackTimeoutMs + QUIET_MS, late);
        if (records.length === 0) continue;
        now.inFlight = records.length;
        await this.#take(records, identity);
        if (this.#flush) this.#queue.flush();
        await within(connection.ack(), this.#ackTimeoutMs, late);
        now.last = (records.at(-1) as IncomingRecord).position;
        now.inFlight = 0;
        this.#failures = 0;
      }
    } finally {
      this.#connection = undefined;
      await connection.close();
    }
  }

  /** How far the queue has received, and from what. */
  #mark(): { identity: string; position: string } | undefined {
    const { mark } = this.#queue;
    if (mark === undefined) return undefined;
    const [name, identity, position] = new TextDecoder().decode(mark).split(" ");
    if (name === MARK && identity !== undefined && position !== undefined) return { identity, position };
    throw new BridgeError("ERR_FOREIGN", `queue '${this.#queue.path}' has a mark that no bridge has set: another program copies records into it`);
  }

  /** Pushes records, waiting for room; those that can be no record of the queue go to the dead letters. */
  async #take(records: readonly IncomingRecord[], identity: string): Promise<void> {
    const { now } = this.#board;
    let from = 0;
    while (from < records.length) {
      const refused = (records[from] as IncomingRecord).refused;
      if (refused !== undefined) {
        await this.#bury(records[from] as IncomingRecord, refused, identity);
        from++;
        continue;
      }
      let end = from + 1;
      while (end < records.length && records[end]?.refused === undefined) end++;
      const count = await this.#push(records.slice(from, end), identity);
      for (const { payload } of records.slice(from, from + count)) now.bytes += payload.length;
      now.records += count;
      from += count;
    }
  }

  /** Pushes as many as there is room for; waits for room for one. Returns how many. */
  async #push(records: readonly IncomingRecord[], identity: string): Promise<number> {
    const { signal } = this.#ended;
    for (let wait = FULL_FIRST_MS; ; wait = Math.min(2 * wait, FULL_LAST_MS)) {
      for (let count = records.length; count > 0; count = Math.floor(count / 2)) {
        const some = records.slice(0, count);
        try {
          if (this.#queue.pushMany(some.map(({ payload }) => payload), { mark: this.#markOf(some.at(-1) as IncomingRecord, identity) }) > 0) return count;
        } catch (error) {
          if (!(error instanceof RangeError)) throw error;
          if (count > 1) continue; // one of them is too large for the queue
          await this.#bury(some[0] as IncomingRecord, error.message, identity);
          return 1;
        }
      }
      this.#board.now.lag = this.#queue.length;
      this.#board.write();
      await pause(wait, signal);
      signal.throwIfAborted();
    }
  }

  #markOf({ position }: IncomingRecord, identity: string): Uint8Array {
    return new TextEncoder().encode(`${MARK} ${identity} ${position}`);
  }

  async #bury(record: IncomingRecord, reason: string, identity: string): Promise<void> {
    const { path } = this.#queue;
    const { signal } = this.#ended;
    if (this.#deadLetters === undefined) {
      throw new BridgeError("ERR_REFUSED", `${this.#source.name} has at ${record.position} what can't become a record of '${path}': ${reason}. With "deadLetter" such records are put aside`);
    }
    while (!this.#deadLetters.add({ origin: this.#source.name, id: record.position, reason, payload: record.payload })) {
      this.#board.now.lastError = "the queue of dead letters is full";
      await pause(FULL_LAST_MS, signal);
      signal.throwIfAborted();
    }
    this.#queue.pushMany([], { mark: this.#markOf(record, identity) });
    this.#board.now.deadLetters++;
  }
}

/**
 * Receives from a source into a queue until it is stopped: in order, each record once. While the queue is full it waits, and the remote keeps the
 * rest. Any number of programs consume the queue meanwhile. Started twice for one queue, also in different processes, one works and the other stands by.
 *
 * It never gives up because of the network. It ends, and `done` rejects, with `BridgeError` `ERR_FOREIGN` (the queue has received from another
 * stream, or the stream was made anew) or `ERR_REFUSED`, and when the local queue fails, with its `MapError`.
 */
export function receive(source: Source, options: ReceiveOptions): Receiver {
  return new Receiver(source, options);
}

