/** What a stream has, read with the engine's client and none of the bridge's code; and filling one. */
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { createClient } from "@redis/client";
import type { Engine } from "./servers.ts";

/** An entry of a stream: the id that it has there, of NATS the `Nats-Msg-Id`. */
export interface Entry {
  readonly id: string;
  readonly text: string;
}

/** Everything in the stream, in its order. */
export async function readAll(engine: Engine, port: number, stream: string): Promise<Entry[]> {
  return engine === "nats" ? await readNats(port, stream) : await readRedis(port, stream);
}

/** How many messages a stream of NATS has. */
export async function lengthOf(port: number, stream: string): Promise<number> {
  const connection = await connect({ servers: `127.0.0.1:${port}` });
  try {
    return (await (await jetstreamManager(connection)).streams.info(stream)).state.messages;
  } finally {
    await connection.close();
  }
}

async function readNats(port: number, stream: string): Promise<Entry[]> {
  const connection = await connect({ servers: `127.0.0.1:${port}` });
  try {
    const manager = await jetstreamManager(connection);
    const { state } = await manager.streams.info(stream);
    const entries: Entry[] = [];
    if (state.messages === 0) return entries;
    const consumer = await jetstream(connection).consumers.get(stream);
    for await (const message of await consumer.consume({ max_messages: 5000 })) {
      entries.push({ id: message.headers?.get("Nats-Msg-Id") ?? "", text: message.string() });
      if (message.seq >= state.last_seq) break;
    }
    return entries;
  } finally {
    await connection.close();
  }
}

async function withRedis<T>(port: number, use: (client: ReturnType<typeof createClient>) => Promise<T>): Promise<T> {
  const client = createClient({ url: `redis://127.0.0.1:${port}` });
  client.on("error", () => {});
  await client.connect();
  try {
    return await use(client as ReturnType<typeof createClient>);
  } finally {
    client.destroy();
  }
}

async function readRedis(port: number, stream: string): Promise<Entry[]> {
  return await withRedis(port, async (client) => {
    const entries: Entry[] = [];
    for (let from = "-"; ; from = `(${entries.at(-1)?.id}`) {
      const some = await client.xRange(stream, from, "+", { COUNT: 5000 });
      if (some === null || some.length === 0) return entries;
      for (const { id, message } of some) entries.push({ id: id.toString(), text: String(message["data"]) });
    }
  });
}

/** Appends texts to a stream as a program would that knows nothing of holdfast; makes the stream. */
export async function fill(engine: Engine, port: number, stream: string, texts: readonly string[]): Promise<void> {
  if (engine === "redis") {
    await withRedis(port, async (client) => {
      for (let i = 0; i < texts.length; i += 1000) await Promise.all(texts.slice(i, i + 1000).map((text) => client.xAdd(stream, "*", { data: text })));
    });
    return;
  }
  const connection = await connect({ servers: `127.0.0.1:${port}` });
  try {
    await (await jetstreamManager(connection)).streams.add({ name: stream, subjects: [`${stream}.>`] });
    const js = jetstream(connection);
    for (let i = 0; i < texts.length; i += 1000) await Promise.all(texts.slice(i, i + 1000).map((text) => js.publish(`${stream}.other`, text)));
  } finally {
    await connection.close();
  }
}

/** Has the stream take `bytes` more and no others; without a number takes the limit away. */
export async function limit(engine: Engine, port: number, stream: string, bytes: number | undefined): Promise<void> {
  if (engine === "redis") {
    await withRedis(port, async (client) => {
      const used = Number(/used_memory:(\d+)/.exec(String(await client.info("memory")))?.[1]);
      await client.configSet("maxmemory", bytes === undefined ? "0" : String(used + bytes));
    });
    return;
  }
  const connection = await connect({ servers: `127.0.0.1:${port}` });
  try {
    const { streams } = await jetstreamManager(connection);
    const used = (await streams.info(stream)).state.bytes;
    await streams.update(stream, { max_bytes: bytes === undefined ? -1 : used + bytes });
  } finally {
    await connection.close();
  }
}

/** Makes an empty stream of NATS that refuses what is beyond its limits; Redis makes its streams itself. */
export async function makeStream(engine: Engine, port: number, stream: string): Promise<void> {
  if (engine === "redis") return;
  const connection = await connect({ servers: `127.0.0.1:${port}` });
  try {
    const config = { name: stream, subjects: [`${stream}.>`], discard: "new" } as Parameters<Awaited<ReturnType<typeof jetstreamManager>>["streams"]["add"]>[0];
    await (await jetstreamManager(connection)).streams.add(config);
  } finally {
    await connection.close();
  }
}
