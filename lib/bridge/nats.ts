/**
 * Bridges to NATS JetStream, on the engine's own client: `@nats-io/transport-node` and `@nats-io/jetstream`, which have to be installed beside
 * holdfast.
 *
 * @example
 * ```ts
 * import { forward, natsSink } from "holdfast/bridge/nats";
 * await using bridge = forward(natsSink({ servers: "nats://nats.example:4222", stream: "LOGS" }), { queue: "/var/lib/app/log.queue", group: "nats" });
 * await bridge.done;
 * ```
 *
 * @module
 */
import { AckPolicy, DeliverPolicy, JetStreamApiError, jetstream, jetstreamManager, type JetStreamManager, type JsMsg, type StreamConfig, type StreamInfo } from "@nats-io/jetstream";
import { connect, type ConnectionOptions, createInbox, credsAuthenticator, type Msg, MsgHdrsImpl, type NatsConnection } from "@nats-io/transport-node";
import { oneOf } from "../checks.ts";
import { typeError } from "../errors.ts";
import {
  BridgeError,
  type IncomingRecord,
  type Origin,
  type OutgoingRecord,
  RefusedError,
  ResyncError,
  type Sink,
  type SinkConnection,
  type Source,
  type SourceConnection,
} from "./engine.ts";
import { Bell } from "./retry.ts";

export * from "./bridge.ts";

/** How to connect: the options of the client's own `connect()`, such as `servers`, `tls`, `authenticator`. What the bridge decides itself is left out. */
export type NatsConnectionOptions = Omit<ConnectionOptions, "reconnect" | "maxReconnectAttempts" | "waitOnFirstConnect">;

/** Options of {@linkcode natsSink}. */
export interface NatsSinkOptions extends NatsConnectionOptions {
  /** The stream that takes the records. */
  stream: string;
  /**
   * The subject that they are published with: one that nobody else publishes with, since the stream's last message of it says how far the bridge
   * is. Default: the stream's name, a dot, and the queue's id.
   */
  subject?: string;
  /** Makes the stream if there is none: on file, with all subjects that begin with its name and a dot; or as the object says. */
  create?: boolean | Partial<StreamConfig>;
}

/** Options of {@linkcode natsSource}. */
export interface NatsSourceOptions extends NatsConnectionOptions {
  /** The stream to receive from. */
  stream: string;
  /** Only messages with this subject; `*` and `>` as NATS has them. Default: all. */
  subject?: string;
  /** Where a queue starts that has received nothing yet. Default "oldest". */
  start?: "oldest" | "newest";
  /** Name of the durable consumer in the stream. Default: "holdfast_" and the queue's id. */
  consumer?: string;
}

/** The authenticator of what a `.creds` file has, for the option `authenticator`. */
export function credentials(text: string): NonNullable<NatsConnectionOptions["authenticator"]> {
  return credsAuthenticator(new TextEncoder().encode(text));
}

/** Codes of errors of JetStream, as its servers have them. */
const CODES = { streamNotFound: 10059, messageNotFound: 10037, wrongLastId: 10070, wrongLastSequence: 10071, messageTooLarge: 10054, consumerNotFound: 10014 } as const;
const MSG_ID = "Nats-Msg-Id";
const EXPECTED_OF_SUBJECT = "Nats-Expected-Last-Subject-Sequence";
const EXPECTED_ID = "Nats-Expected-Last-Msg-Id";
/** A server that says nothing is asked so often, and given up after the second time. */
const PING_MS = 5000;
/** A sequence with as many digits as there can be. */
const WIDEST: number = Number.MAX_SAFE_INTEGER;
const CONNECT_TIMEOUT_MS = 5000;

function isCode(error: unknown, code: number): boolean {
  return error instanceof JetStreamApiError && error.code === code;
}

/** Connects once: what happens when the connection is lost is the bridge's business, and what the client would send again by itself is not. */
async function open(options: NatsConnectionOptions, name: string, signal: AbortSignal): Promise<NatsConnection> {
  const connection = await connect({ timeout: CONNECT_TIMEOUT_MS, pingInterval: PING_MS, maxPingOut: 2, name, ...options, reconnect: false });
  if (signal.aborted) {
    await connection.close();
    throw signal.reason;
  }
  return connection;
}

/** Rejects, with the reason, when the connection ends. Nobody has to listen. */
function lost(connection: NatsConnection): Promise<never> {
  const promise = connection.closed().then((error) => {
    throw error instanceof Error ? error : new Error("the connection to NATS is closed");
  });
  promise.catch(() => {});
  return promise;
}

/**
 * A stream of NATS JetStream (server 2.9 or later) to forward to.
 *
 * Each message has the header `Nats-Msg-Id` with the queue's id, a colon and the sequence, and says which message it has to follow. So the server
 * takes none twice, whether its window for duplicates is over or not, and none behind a gap; several queues can feed one stream, each with its
 * subject. A stream with limits keeps each subject's last message, from which a bridge goes on after it was started anew. In one
 * that forgets what was read (retention "workqueue", "interest"), or whose last message is too old, only the window for duplicates stands between
 * a bridge that died right before it removed what it had sent, and a second delivery.
 */
export function natsSink({ stream, subject, create, ...options }: NatsSinkOptions): Sink {
  checkStream(stream);
  return {
    name: `nats:${stream}`,
    async connect({ queueId }: Origin, signal): Promise<SinkConnection> {
      const connection = await open(options, `holdfast ${queueId}`, signal);
      try {
        const manager = await jetstreamManager(connection, { checkAPI: false, timeout: CONNECT_TIMEOUT_MS });
        if (create !== undefined && create !== false) await ensureStream(manager, stream, create === true ? {} : create);
        return new NatsSinkConnection(connection, manager, { stream, subject: subject ?? `${stream}.${queueId}`, queueId, inboxPrefix: options.inboxPrefix });
      } catch (error) {
        await connection.close();
        throw error;
      }
    },
  };
}

function checkStream(stream: unknown): void {
  if (typeof stream === "string" && /^[^\s.*>/\\]+$/.test(stream)) return;
  throw typeError(`"stream" must be the name of a stream: text without blanks, dots, slashes, * and >; received ${JSON.stringify(stream)}`);
}

async function ensureStream(manager: JetStreamManager, name: string, config: Partial<StreamConfig>): Promise<void> {
  try {
    await manager.streams.info(name);
  } catch (error) {
    if (!isCode(error, CODES.streamNotFound)) throw error;
    await manager.streams.add({ subjects: [`${name}.>`], ...config, name });
  }
}

/** Messages that were published together and are not all confirmed yet. */
interface Sent {
  readonly first: number;
  readonly records: readonly OutgoingRecord[];
  missing: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** Headers that are written already: the client's own way to make them costs as much as all the rest of a message. */
class WrittenHeaders extends MsgHdrsImpl {
  readonly #text: string;

  constructor(text: string) {
    super();
    this.#text = text;
  }

  override encode(): Uint8Array {
    return encoder.encode(this.#text);
  }
}

const encoder = new TextEncoder();

interface Answer {
  readonly error?: { readonly code: number; readonly err_code?: number; readonly description: string };
}

/** Where to publish, and as whom. */
interface Target {
  readonly stream: string;
  readonly subject: string;
  readonly queueId: string;
  readonly inboxPrefix: string | undefined;
}

class NatsSinkConnection implements SinkConnection {
  maxPayloadBytes: number;
  readonly lost: Promise<never>;
  readonly #connection: NatsConnection;
  readonly #manager: JetStreamManager;
  readonly #stream: string;
  readonly #subject: string;
  readonly #queueId: string;
  readonly #inbox: string;
  /** In the order in which they were published. */
  #sent: Sent[] = [];
  /** Number of the next message; its answer comes with it. */
  #number = 0;
  /** Sequence of the record that was sent last; 0 if none was since last(). */
  #before = 0;
  /** Sequence in the stream of the subject's last message, as last() found it. */
  #lastOfSubject = 0;
  /** Why nothing can be sent. */
  #refusal: string | undefined;
  readonly #decoder = new TextDecoder();

  constructor(connection: NatsConnection, manager: JetStreamManager, { stream, subject, queueId, inboxPrefix }: Target) {
    this.#connection = connection;
    this.#inbox = createInbox(inboxPrefix);
    this.#manager = manager;
    this.#stream = stream;
    this.#subject = subject;
    this.#queueId = queueId;
    this.maxPayloadBytes = this.#limit(-1);
    connection.subscribe(`${this.#inbox}.*`, { callback: (error, message) => (error === null ? this.#answered(message) : this.#fail(error)) });
    this.lost = lost(connection);
    this.lost.catch((error: unknown) => this.#fail(error));
  }

  async last(): Promise<number> {
    this.#fail(new ResyncError("begun anew"));
    this.#refusal = undefined;
    let info: StreamInfo;
    try {
      info = await this.#manager.streams.info(this.#stream);
    } catch (error) {
      if (!isCode(error, CODES.streamNotFound)) throw error;
      this.#refusal = `NATS has no stream '${this.#stream}'`;
      return 0;
    }
    if (!(await this.#isOurs())) return 0;
    this.maxPayloadBytes = this.#limit(info.config.max_msg_size);
    let message;
    try {
      message = await this.#manager.streams.getMessage(this.#stream, { last_by_subj: this.#subject });
    } catch (error) {
      if (!isCode(error, CODES.messageNotFound)) throw error;
    }
    this.#before = 0;
    this.#lastOfSubject = message?.seq ?? 0;
    if (message === undefined || message === null) return 0;
    const id = message.header.get(MSG_ID);
    const sequence = id.startsWith(`${this.#queueId}:`) ? Number(id.slice(this.#queueId.length + 1)) : NaN;
    if (Number.isSafeInteger(sequence) && sequence > 0) return sequence;
    throw new BridgeError(
      "ERR_FOREIGN",
      `the last message with subject '${this.#subject}' in stream '${this.#stream}' ${id === "" ? "has no id" : `has the id '${id}'`}, so it is not of queue ${this.#queueId}: choose a subject that only this queue publishes with`,
    );
  }

  send(records: readonly OutgoingRecord[]): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#refusal !== undefined) {
        reject(new RefusedError((records[0] as OutgoingRecord).sequence, this.#refusal));
        return;
      }
      if (this.#connection.isClosed()) {
        reject(new Error("the connection to NATS is closed"));
        return;
      }
      const first = this.#number;
      this.#sent.push({ first, records, missing: records.length, resolve, reject });
      this.#number += records.length;
      for (let i = 0; i < records.length; i++) {
        const { sequence, payload } = records[i] as OutgoingRecord;
        this.#connection.publish(this.#subject, payload, { reply: `${this.#inbox}.${first + i}`, headers: new WrittenHeaders(this.#text(sequence)) });
        this.#before = sequence;
      }
    });
  }

  async close(): Promise<void> {
    await this.#connection.close().catch(() => {});
    this.#fail(new Error("the connection to NATS is closed"));
  }

  /** Whether the subject leads to the stream. */
  async #isOurs(): Promise<boolean> {
    const found = await this.#manager.streams.names(this.#subject).next();
    if (found.includes(this.#stream)) return true;
    if (found.length === 0) {
      this.#refusal = `no stream of NATS takes the subject '${this.#subject}'`;
      return false;
    }
    throw new BridgeError("ERR_FOREIGN", `the subject '${this.#subject}' leads to the stream '${found[0]}', not to '${this.#stream}': choose one that this stream takes`);
  }

  /**
   * The headers of a message: who it is, and what it has to follow. After the first that is the record before it, by its id, as the last message of the
   * stream: sequences of the stream would have to be guessed, and with another publisher in between a guess is right for the wrong record. What
   * comes behind another's message is refused, and goes on with what last() finds.
   */
  #text(sequence: number): string {
    const id = `NATS/1.0\r\n${MSG_ID}: ${this.#queueId}:${sequence}\r\n`;
    if (this.#before === 0) return `${id}${EXPECTED_OF_SUBJECT}: ${this.#lastOfSubject}\r\n\r\n`;
    return `${id}${EXPECTED_ID}: ${this.#queueId}:${this.#before}\r\n\r\n`;
  }

  /** Most bytes of a payload: a message's headers count too. */
  #limit(maxMessageBytes: number): number {
    const most = Math.min(this.#connection.info?.max_payload ?? 1 << 20, maxMessageBytes > 0 ? maxMessageBytes : Infinity);
    const id = `${this.#queueId}:${WIDEST}`;
    return most - `NATS/1.0\r\n${MSG_ID}: ${id}\r\n${EXPECTED_ID}: ${id}\r\n\r\n`.length;
  }

  #answered(message: Msg): void {
    const number = Number(message.subject.slice(this.#inbox.length + 1));
    const index = this.#sent.findIndex(({ first, records }) => number >= first && number < first + records.length);
    const sent = this.#sent[index];
    if (sent === undefined) return; // given up
    const error = this.#errorOf(message, (sent.records[number - sent.first] as OutgoingRecord).sequence);
    if (error !== undefined) {
      this.#fail(error);
      return;
    }
    if (--sent.missing > 0) return;
    this.#sent.splice(index, 1);
    sent.resolve();
  }

  #errorOf(message: Msg, sequence: number): Error | undefined {
    if (message.data.length === 0) {
      // "503": nobody listens on the subject. Whether there is a stream, last() finds out.
      const status = message.headers?.code;
      return new ResyncError(status === 503 ? `no stream takes the subject '${this.#subject}'` : `NATS answers with status ${status}`);
    }
    const text = this.#decoder.decode(message.data);
    if (!text.includes('"error"')) return undefined;
    const { error } = JSON.parse(text) as Answer;
    if (error === undefined) return undefined;
    if (error.err_code === CODES.wrongLastSequence || error.err_code === CODES.wrongLastId) return new ResyncError(error.description);
    if (error.err_code === CODES.messageTooLarge) return new RefusedError(sequence, `NATS: ${error.description}`);
    return new Error(`NATS: ${error.description}`);
  }

  /** What is under way will not be waited for. */
  #fail(error: unknown): void {
    const sent = this.#sent;
    this.#sent = [];
    for (const { reject } of sent) reject(error);
  }
}

/** How many messages NATS hands out before some are acknowledged: a queue that is full stops it there. */
const MAX_UNACKED = 4096;
/** After so long an unacknowledged message would come again; on one connection that is only noise. */
const ACK_WAIT_MS = 60_000;
const NEXT_MS = 1000;
const BATCH = 1000;

/**
 * A stream of NATS JetStream to receive from, through a durable consumer of its own, so that NATS sees how far the queue is. At each connection the
 * consumer is made anew behind the last message that the queue has: what the one before was given and did not push comes again, in order.
 */
export function natsSource({ stream, subject, start = "oldest", consumer, ...options }: NatsSourceOptions): Source {
  checkStream(stream);
  startOption("start", start);
  return {
    name: `nats:${stream}`,
    async connect({ queueId, position }, signal): Promise<SourceConnection> {
      const connection = await open(options, `holdfast ${queueId}`, signal);
      try {
        const manager = await jetstreamManager(connection, { checkAPI: false, timeout: CONNECT_TIMEOUT_MS });
        const info = await manager.streams.info(stream);
        const after = position === undefined ? undefined : Number(position);
        if (after !== undefined && info.state.last_seq < after) {
          throw new BridgeError("ERR_FOREIGN", `the stream '${stream}' ends with ${info.state.last_seq}, and the queue has received up to ${after}: it was made anew, or has lost messages`);
        }
        const name = consumer ?? `holdfast_${queueId}`;
        await prepareConsumer(manager, info, name, subject, after, start);
        const messages = await jetstream(connection, { timeout: CONNECT_TIMEOUT_MS }).consumers.get(stream, name);
        const created = `nats:${stream} of ${info.created}, subject ${subject ?? ">"}`;
        const result = new NatsSourceConnection(connection, created, after ?? 0);
        const pulled = await messages.consume({ max_messages: MAX_UNACKED, idle_heartbeat: PING_MS, callback: (message) => result.add(message) });
        pulled.closed().then((error) => result.fail(error instanceof Error ? error : new Error(`the consumer '${name}' has ended`)));
        return result;
      } catch (error) {
        await connection.close();
        throw error;
      }
    },
  };
}

const startOption = oneOf("oldest", "newest");

/** Makes the durable consumer anew, behind `after`. */
async function prepareConsumer(
  manager: JetStreamManager,
  { config: { name: stream, retention } }: StreamInfo,
  name: string,
  subject: string | undefined,
  after: number | undefined,
  start: "oldest" | "newest",
): Promise<void> {
  const everything = { deliver_policy: DeliverPolicy.All };
  const behind = (sequence: number): object => ({ deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: sequence });
  // A stream of retention "workqueue" has what nobody has acknowledged, and wants it to be given out from the start.
  const fresh = start === "newest" ? { deliver_policy: DeliverPolicy.New } : everything;
  const where = retention === "workqueue" ? everything : after === undefined ? fresh : behind(after + 1);
  const add = (durable: string): Promise<unknown> =>
    manager.consumers.add(stream, {
      durable_name: durable,
      ack_policy: AckPolicy.Explicit,
      ack_wait: ACK_WAIT_MS * 1e6,
      max_ack_pending: MAX_UNACKED,
      ...where,
      ...(subject === undefined ? {} : { filter_subject: subject }),
    });
  const remove = async (durable: string): Promise<void> => {
    try {
      await manager.consumers.delete(stream, durable);
    } catch (error) {
      if (!isCode(error, CODES.consumerNotFound)) throw error;
    }
  };
  // With retention "interest" messages go when no consumer wants them any more: for as long as there is none of this name, another one stands in.
  const standIn = `${name}_standin`;
  if (retention === "interest") {
    await remove(standIn);
    await add(standIn);
  }
  await remove(name);
  await add(name);
  if (retention === "interest") await remove(standIn);
}

class NatsSourceConnection implements SourceConnection {
  readonly identity: string;
  readonly #connection: NatsConnection;
  readonly #bell = new Bell();
  #waiting: JsMsg[] = [];
  /** Given out and not acknowledged. */
  #given: JsMsg[] = [];
  /** Sequence in the stream of the last message that came. */
  #last: number;
  #failure: { readonly error: unknown } | undefined;

  constructor(connection: NatsConnection, identity: string, after: number) {
    this.#connection = connection;
    this.identity = identity;
    this.#last = after;
    lost(connection).catch((error: unknown) => this.fail(error));
  }

  add(message: JsMsg): void {
    if (message.seq > this.#last) {
      this.#last = message.seq;
      this.#waiting.push(message);
      this.#bell.ring();
      return;
    }
    // Once more: after a long wait for room in the queue, or of a work queue whose acknowledgement was lost.
    const pending = this.#waiting.some(({ seq }) => seq === message.seq) || this.#given.some(({ seq }) => seq === message.seq);
    if (!pending) message.ack();
  }

  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#bell.ring();
  }

  async next(): Promise<readonly IncomingRecord[]> {
    if (this.#waiting.length === 0 && this.#failure === undefined) await this.#bell.wait(NEXT_MS);
    if (this.#failure !== undefined) throw this.#failure.error;
    this.#given = this.#waiting.splice(0, BATCH);
    return this.#given.map(({ seq, data }) => ({ position: String(seq), payload: data }));
  }

  ack(): Promise<void> {
    for (const message of this.#given) message.ack();
    this.#given = [];
    return Promise.resolve();
  }

  async close(): Promise<void> {
    await this.#connection.close().catch(() => {});
  }
}
