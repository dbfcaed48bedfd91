/**
 * What a bridge asks of an engine: a {@linkcode Sink} to forward to, a {@linkcode Source} to receive from. Everything else (the local queue, the
 * window, order, retries, dead letters, the mark) is the bridge's, so an engine is some hundred lines.
 *
 * @module
 */

/** A record on its way out. */
export interface OutgoingRecord {
  /** The record's number in its queue. With the queue's id it names the record for ever. */
  readonly sequence: number;
  readonly payload: Uint8Array;
}

/** The queue that is forwarded. */
export interface Origin {
  /** The queue's id, 32 hexadecimal digits. */
  readonly queueId: string;
}

/** Somewhere to forward a queue to. */
export interface Sink {
  /** What it is, for people and as a label: "nats:LOGS". No secrets. */
  readonly name: string;
  /** Connects. Must not connect anew by itself later: when the connection is lost, `send` rejects, and the bridge comes again. */
  connect(origin: Origin, signal: AbortSignal): Promise<SinkConnection>;
}

/** One connection to a sink. */
export interface SinkConnection {
  /** Most bytes of a payload that the remote takes. A longer one is refused without asking. */
  readonly maxPayloadBytes: number;
  /**
   * Asks the remote for the sequence of the last record of this queue that it has; 0 if it has none. Later records are sent from there. Called at
   * first and after each {@linkcode ResyncError} and {@linkcode RefusedError}.
   */
  last(): Promise<number>;
  /**
   * Sends records and resolves when the remote has confirmed all of them. It is called again before that, up to a window. The contract on which
   * order and "exactly once" stand: **the remote takes a record only if it has taken the one that was sent before it** since `last()`, and none
   * that it has already. So when anything fails, what the remote has is all up to some record, and nothing behind.
   */
  send(records: readonly OutgoingRecord[]): Promise<void>;
  /** Rejects when the connection ends, also while nothing is under way; so the bridge is there again before the next record. */
  readonly lost?: Promise<never>;
  /** Ends the connection. What was sent and is not confirmed may still arrive. Never rejects. */
  close(): Promise<void>;
}

/** A record on its way in. */
export interface IncomingRecord {
  /** Where it is in the source: a text of at most 64 bytes of ASCII from which the source can go on. */
  readonly position: string;
  readonly payload: Uint8Array;
  /** Why it can't be a record of the queue: then it goes to the dead letters. */
  readonly refused?: string;
}

/** Somewhere to receive from. */
export interface Source {
  readonly name: string;
  /** Connects, and goes on behind `position`; without it, where the source is set to start. As with a sink, once. */
  connect(target: Origin & { readonly position: string | undefined }, signal: AbortSignal): Promise<SourceConnection>;
}

/** One connection to a source. */
export interface SourceConnection {
  /**
   * What the position is of: another identity than the one before is another stream, and the bridge stops instead of taking its positions for
   * the old ones'.
   */
  readonly identity: string;
  /** Waits for the next records, in order, none of them twice; an empty array if there were none for about a second. */
  next(): Promise<readonly IncomingRecord[]>;
  /** Tells the remote that all records up to the last that `next` gave are safe here. */
  ack(): Promise<void>;
  close(): Promise<void>;
}

/** The remote will never take this record: it goes to the dead letters. `send` rejects with it. */
export class RefusedError extends Error {
  readonly sequence: number;
  constructor(sequence: number, reason: string) {
    super(reason);
    this.name = "RefusedError";
    this.sequence = sequence;
  }
}

/** What was sent does not go on from what the remote has: ask it with `last()` and send again, on the same connection. */
export class ResyncError extends Error {
  override readonly name = "ResyncError";
}

/** The bridge must not go on by itself: somebody has to look. `code` is `ERR_FOREIGN`, `ERR_AHEAD` or `ERR_REFUSED`. */
export class BridgeError extends Error {
  readonly code: string;
  constructor(code: string, message: string, cause?: unknown) {
    super(`${code}: ${message}`, cause === undefined ? undefined : { cause });
    this.name = "BridgeError";
    this.code = code;
  }
}
