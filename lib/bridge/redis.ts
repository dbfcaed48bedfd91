/**
 * Bridges to streams of Redis and Valkey, on the client `@redis/client`, which has to be installed beside holdfast (it comes with `redis`).
 *
 * @example
 * ```ts
 * import { forward, redisSink } from "holdfast/bridge/redis";
 * await using bridge = forward(redisSink({ url: "redis://redis.example:6379", stream: "logs" }), { queue: "/var/lib/app/log.queue", group: "redis" });
 * await bridge.done;
 * ```
 *
 * @module
 */
import { createClient, ErrorReply, RESP_TYPES, type RedisClientOptions } from "@redis/client";
import { oneOf } from "../checks.ts";
import { invalidType, typeError } from "../errors.ts";
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

export * from "./bridge.ts";

/** How to connect: the options of the client's own `createClient()`, such as `url`, `username`, `password`, `socket` with `tls`. */
export type RedisConnectionOptions = Pick<RedisClientOptions, "url" | "username" | "password" | "credentialsProvider" | "database" | "socket">;

/** Options of {@linkcode redisSink}. */
export interface RedisSinkOptions extends RedisConnectionOptions {
  /** Key of the stream: one for each queue, since the ids in a stream only go up. */
  stream: string;
  /** Field of an entry that has the payload. Default "data". */
  field?: string;
  /** Whether the stream is made if there is none (the default). With false its records are refused. */
  create?: boolean;
}

/** Options of {@linkcode redisSource}. */
export interface RedisSourceOptions extends RedisConnectionOptions {
  /** Key of the stream to receive from. */
  stream: string;
  /** Field of an entry that has the payload; an entry without it is refused. Default "data". */
  field?: string;
  /** Where a queue starts that has received nothing yet. Default "oldest". */
  start?: "oldest" | "newest";
  /** The consumer group of the stream, made if there is none. Several queues with one group share the entries. Default: "holdfast:" and the queue's id. */
  group?: string;
}

/**
 * Appends entries if the stream ends where the bridge thinks that it does, all or none: Redis looks at the memory limit before the script writes
 * anything, and runs it alone. KEYS: the stream. ARGV: the id that the stream has to end with, the field, "1" if the stream may be made, then an id and a
 * payload for each entry.
 */
const APPEND = `
local last = '0-0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do if info[i] == 'last-generated-id' then last = info[i + 1] end end
elseif ARGV[3] ~= '1' then
  return redis.error_reply('HOLDFASTNONE there is no stream')
end
if last ~= ARGV[1] then return redis.error_reply('HOLDFASTLAST the stream ends with ' .. last .. ' and not with ' .. ARGV[1]) end
for i = 4, #ARGV, 2 do redis.call('XADD', KEYS[1], ARGV[i], ARGV[2], ARGV[i + 1]) end
return #ARGV
`;
const CONNECT_TIMEOUT_MS = 5000;
/** What a value of Redis can hold, unless it was set otherwise. */
const DEFAULT_MAX_VALUE_BYTES: number = 512 << 20;
const startOption = oneOf("oldest", "newest");

type Client = ReturnType<typeof open>;

// What the return type would be written out as is half a page of the client's type parameters.
// deno-lint-ignore explicit-module-boundary-types
function open({ socket, ...options }: RedisConnectionOptions, name: string) {
  const once = { connectTimeout: CONNECT_TIMEOUT_MS, ...socket, reconnectStrategy: false } as NonNullable<RedisClientOptions["socket"]>;
  const client = createClient({ ...options, name, socket: once, disableOfflineQueue: true, commandOptions: { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } } });
  client.on("error", () => {}); // whoever waits for an answer gets it too
  return client;
}

/** Connects once: what happens when the connection is lost is the bridge's business. */
async function connected(options: RedisConnectionOptions, name: string, signal: AbortSignal): Promise<Client> {
  const client = open(options, name);
  try {
    await client.connect();
    signal.throwIfAborted();
  } catch (error) {
    close(client);
    throw error;
  }
  return client;
}

function close(client: Client): void {
  if (client.isOpen) client.destroy();
}

function checkText(name: string, value: unknown): string {
  if (typeof value === "string" && value !== "") return value;
  throw invalidType(name, "a text that is not empty", value);
}

/** The options for the client, the address checked: what is wrong with it, no attempt would mend. The message does not show it, since it may have a password. */
function checkConnection(options: RedisConnectionOptions): RedisConnectionOptions {
  const { url } = options;
  if (url !== undefined && !(URL.canParse(url) && /^rediss?:$/.test(new URL(url).protocol))) {
    throw typeError('"url" must be an address of the form redis://host:port or rediss://host:port');
  }
  return options;
}

const textOfReply = (reply: unknown): string => String(reply);

/** Whether the error is an answer of the server that begins with this word. */
function says(error: unknown, word: string): boolean {
  return error instanceof ErrorReply && error.message.startsWith(word);
}

/** The id that the stream ends with, of entries that are gone too; undefined if there is no stream. */
async function lastId(client: Client, stream: string): Promise<string | undefined> {
  let info: unknown;
  try {
    info = await client.sendCommand(["XINFO", "STREAM", stream]);
  } catch (error) {
    if (says(error, "ERR no such key")) return undefined;
    throw error;
  }
  const pairs: [unknown, unknown][] = Array.isArray(info)
    ? Array.from({ length: info.length / 2 }, (_, i) => [info[2 * i], info[2 * i + 1]])
    : info instanceof Map ? [...info] : Object.entries(info as object);
  const found = pairs.find(([key]) => textOfReply(key) === "last-generated-id");
  if (found === undefined) throw new Error(`Redis does not say where the stream '${stream}' ends`);
  return textOfReply(found[1]);
}

/**
 * A stream of Redis 5 or later, or of Valkey, to forward to: one stream for each queue.
 *
 * The entry of record 17 has the id `17-0`: Redis refuses ids that it has had. Beside the stream a key of its name and ":holdfast" has the queue's id, so
 * that no other queue is taken for it. Entries are appended by a script (EVAL), each batch only behind the one before it.
 */
export function redisSink({ stream, field = "data", create = true, ...connection }: RedisSinkOptions): Sink {
  checkText("stream", stream);
  checkText("field", field);
  const options = checkConnection(connection);
  return {
    name: `redis:${stream}`,
    async connect({ queueId }: Origin, signal): Promise<SinkConnection> {
      const client = await connected(options, `holdfast-${queueId}`, signal);
      try {
        const connection = new RedisSinkConnection(client, stream, field, create, queueId);
        await connection.prepare();
        return connection;
      } catch (error) {
        close(client);
        throw error;
      }
    },
  };
}

class RedisSinkConnection implements SinkConnection {
  maxPayloadBytes: number = DEFAULT_MAX_VALUE_BYTES;
  readonly lost: Promise<never>;
  readonly #client: Client;
  readonly #stream: string;
  readonly #field: string;
  readonly #create: boolean;
  readonly #queueId: string;
  #script = "";
  /** The id that the stream ends with once all that was sent is there. */
  #expected = "0-0";
  #refusal: string | undefined;

  constructor(client: Client, stream: string, field: string, create: boolean, queueId: string) {
    this.#client = client;
    this.#stream = stream;
    this.#field = field;
    this.#create = create;
    this.#queueId = queueId;
    this.lost = new Promise((_, reject) => {
      client.once("error", reject);
      client.once("end", () => reject(new Error("the connection to Redis is closed")));
    });
    this.lost.catch(() => {}); // nobody has to listen
  }

  async prepare(): Promise<void> {
    this.#script = textOfReply(await this.#client.sendCommand(["SCRIPT", "LOAD", APPEND]));
    try {
      const reply = await this.#client.sendCommand(["CONFIG", "GET", "proto-max-bulk-len"]);
      const value = Array.isArray(reply) ? reply[1] : reply instanceof Map ? [...reply.values()][0] : Object.values(reply as object)[0];
      const bytes = Number(textOfReply(value));
      if (Number.isSafeInteger(bytes) && bytes > 0) this.maxPayloadBytes = bytes;
    } catch (error) {
      if (!(error instanceof ErrorReply)) throw error; // not every user may ask
    }
  }

  async last(): Promise<number> {
    this.#refusal = undefined;
    let id: string | undefined;
    try {
      id = await lastId(this.#client, this.#stream);
    } catch (error) {
      if (!says(error, "WRONGTYPE")) throw error;
      this.#refusal = `the key '${this.#stream}' of Redis is no stream`;
      return 0;
    }
    if (id === undefined && !this.#create) this.#refusal = `Redis has no stream '${this.#stream}'`;
    await this.#own();
    this.#expected = id ?? "0-0";
    const [sequence, part] = this.#expected.split("-").map(Number) as [number, number];
    if (Number.isSafeInteger(sequence) && part === 0) return sequence;
    throw new BridgeError("ERR_FOREIGN", `the stream '${this.#stream}' ends with the id ${id}, which is none of a holdfast queue: choose a key that only this queue appends to`);
  }

  /** Says whose stream it is, for the time before its first entry too. */
  async #own(): Promise<void> {
    const key = `${this.#stream}:holdfast`;
    if (this.#refusal === undefined) await this.#client.sendCommand(["SET", key, this.#queueId, "NX"]);
    const reply = await this.#client.sendCommand(["GET", key]);
    const owner = reply === null ? this.#queueId : textOfReply(reply);
    if (owner === this.#queueId) return;
    throw new BridgeError(
      "ERR_FOREIGN",
      `the stream '${this.#stream}' has the records of queue ${owner}, and this is queue ${this.#queueId}: choose another key, or remove the stream and '${key}'`,
    );
  }

  async send(records: readonly OutgoingRecord[]): Promise<void> {
    const first = records[0] as OutgoingRecord;
    if (this.#refusal !== undefined) throw new RefusedError(first.sequence, this.#refusal);
    const command: (string | Buffer)[] = ["EVALSHA", this.#script, "1", this.#stream, this.#expected, this.#field, this.#create ? "1" : "0"];
    for (const { sequence, payload } of records) command.push(`${sequence}-0`, Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength));
    this.#expected = `${(records.at(-1) as OutgoingRecord).sequence}-0`;
    try {
      await this.#client.sendCommand(command);
    } catch (error) {
      if (says(error, "HOLDFASTLAST")) throw new ResyncError((error as Error).message);
      // What last() finds tells which record is refused.
      if (says(error, "HOLDFASTNONE") || says(error, "WRONGTYPE")) throw new ResyncError((error as Error).message);
      if (error instanceof ErrorReply) throw new Error(`Redis: ${error.message}`);
      throw error;
    }
  }

  close(): Promise<void> {
    close(this.#client);
    return Promise.resolve();
  }
}

const BATCH = 1000;
/** How long Redis waits for an entry before it says that there is none. */
const BLOCK_MS = 1000;

/**
 * A stream of Redis or Valkey to receive from, through a consumer group, in which the queue is a consumer. After a restart the entries come first that
 * it was given and had not acknowledged.
 */
export function redisSource({ stream, field = "data", start = "oldest", group, ...connection }: RedisSourceOptions): Source {
  checkText("stream", stream);
  checkText("field", field);
  const options = checkConnection(connection);
  startOption("start", start);
  return {
    name: `redis:${stream}`,
    async connect({ queueId, position }, signal): Promise<SourceConnection> {
      const client = await connected(options, `holdfast-${queueId}`, signal);
      try {
        const end = await lastId(client, stream);
        if (position !== undefined && isBehind(position, end ?? "0-0")) {
          throw new BridgeError("ERR_FOREIGN", `the stream '${stream}' ends with ${end ?? "nothing"}, and the queue has received up to ${position}: it was made anew, or has lost entries`);
        }
        const name = group ?? `holdfast:${queueId}`;
        try {
          await client.sendCommand(["XGROUP", "CREATE", stream, name, position ?? (start === "newest" ? "$" : "0"), "MKSTREAM"]);
        } catch (error) {
          if (!says(error, "BUSYGROUP")) throw error;
        }
        return new RedisSourceConnection(client, stream, name, queueId, Buffer.from(field), position);
      } catch (error) {
        close(client);
        throw error;
      }
    },
  };
}

/** Whether id `b` comes before `a`. */
function isBehind(a: string, b: string): boolean {
  const [first, firstPart = 0n] = a.split("-").map(BigInt) as [bigint, bigint?];
  const [second, secondPart = 0n] = b.split("-").map(BigInt) as [bigint, bigint?];
  return second < first || (second === first && secondPart < firstPart);
}

type Entry = [id: Buffer, fields: Buffer[] | null];

class RedisSourceConnection implements SourceConnection {
  readonly identity: string;
  readonly #client: Client;
  readonly #stream: string;
  readonly #group: string;
  readonly #consumer: string;
  readonly #field: Buffer;
  readonly #position: string | undefined;
  /** Of the entries that were given to this consumer before: the last one that was read; undefined once all were. */
  #pending: string | undefined = "0";
  /** Entries that the queue has, or that are gone, and those given out. */
  #had: string[] = [];
  #given: string[] = [];

  constructor(client: Client, stream: string, group: string, consumer: string, field: Buffer, position: string | undefined) {
    this.identity = `redis:${stream}, group ${group}`;
    this.#client = client;
    this.#stream = stream;
    this.#group = group;
    this.#consumer = consumer;
    this.#field = field;
    this.#position = position;
  }

  async next(): Promise<readonly IncomingRecord[]> {
    const from = this.#pending ?? ">";
    const reply = await this.#client.sendCommand([
      ...["XREADGROUP", "GROUP", this.#group, this.#consumer, "COUNT", String(BATCH)],
      ...(this.#pending === undefined ? ["BLOCK", String(BLOCK_MS)] : []),
      ...["STREAMS", this.#stream, from],
    ]);
    const entries = entriesOf(reply);
    if (this.#pending !== undefined) this.#pending = entries.length === 0 ? undefined : entries.at(-1)?.[0].toString();
    const records: IncomingRecord[] = [];
    for (const [id, fields] of entries) {
      const position = id.toString();
      const had = this.#position !== undefined && !isBehind(position, this.#position);
      (had || fields === null ? this.#had : this.#given).push(position);
      if (!had && fields !== null) records.push(this.#recordOf(position, fields));
    }
    if (this.#had.length > 0) {
      await this.#acknowledge(this.#had);
      this.#had = [];
    }
    return records;
  }

  #recordOf(position: string, fields: readonly Buffer[]): IncomingRecord {
    for (let i = 0; i + 1 < fields.length; i += 2) if (this.#field.equals(fields[i] as Buffer)) return { position, payload: new Uint8Array(fields[i + 1] as Buffer) };
    const payload = new TextEncoder().encode(JSON.stringify(fields.map(String)));
    return { position, payload, refused: `the entry has no field '${this.#field}'` };
  }

  async ack(): Promise<void> {
    await this.#acknowledge(this.#given);
    this.#given = [];
  }

  async #acknowledge(ids: readonly string[]): Promise<void> {
    await this.#client.sendCommand(["XACK", this.#stream, this.#group, ...ids]);
  }

  close(): Promise<void> {
    close(this.#client);
    return Promise.resolve();
  }
}

/** The entries in the reply of XREADGROUP of one stream, in either protocol. */
function entriesOf(reply: unknown): Entry[] {
  if (reply === null) return [];
  if (Array.isArray(reply)) return (reply[0] as [unknown, Entry[]])[1];
  return (reply instanceof Map ? [...reply.values()][0] : Object.values(reply as object)[0]) as Entry[];
}
