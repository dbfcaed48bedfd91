/** What a bridge does with a real server, step by step. What it does while everything fails is campaign.test.ts's. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  BridgeError,
  type BridgeStatus,
  type DeadLetter,
  deadLetterCodec,
  forward,
  type Forwarder,
  type ForwardOptions,
  receive,
  type Receiver,
  type ReceiveOptions,
  type Sink,
  type Source,
} from "../../lib/bridge/bridge.ts";
import { natsSink, natsSource } from "../../lib/bridge/nats.ts";
import { redisSink, redisSource } from "../../lib/bridge/redis.ts";
import { Metrics, Queue } from "../../mod.ts";
import { atEnd } from "../support/cleanup.ts";
import { skipFor } from "../support/skip.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { fill, lengthOf, readAll } from "./remote.ts";
import { type Engine, engines, missingServer, Server } from "./servers.ts";

const files = temporaryFiles();
const servers = new Map<Engine, Server>();
atEnd(async () => {
  await Promise.all([...servers.values()].map((server) => server.kill()));
}, () => servers.forEach((server) => server.signal("SIGKILL")));

async function serverOf(engine: Engine): Promise<Server> {
  const known = servers.get(engine);
  if (known !== undefined) return known;
  const server = await Server.start(engine, join(files.folder, engine)); // one test kills it
  servers.set(engine, server);
  return server;
}

const FAST = { retryMs: 10, retryMaxMs: 50, ackTimeoutMs: 3000 };
let streams = 0;
const newStream = (): string => `S${streams++}`;

function sinkOf(engine: Engine, server: Server, stream: string, more: object = {}): Sink {
  if (engine === "nats") return natsSink({ ...(server.connection() as { servers: string }), stream, create: true, ...more });
  return redisSink({ ...(server.connection() as { url: string }), stream, ...more });
}

function sourceOf(engine: Engine, server: Server, stream: string): Source {
  if (engine === "nats") return natsSource({ ...(server.connection() as { servers: string }), stream });
  return redisSource({ ...(server.connection() as { url: string }), stream });
}

function queueWith(texts: readonly string[], path: string = files.next("queue")): { path: string; id: string } {
  using queue = Queue.open<string>(path, { codec: "text" });
  queue.pushMany(texts);
  return { path, id: queue.id };
}

const numbered = (count: number, from = 1): string[] => Array.from({ length: count }, (_, i) => `record ${from + i}`);
const idOf = (engine: Engine, queue: string, sequence: number): string => (engine === "nats" ? `${queue}:${sequence}` : `${sequence}-0`);

/** Waits until the status is so; fails with the status otherwise. */
async function until(bridge: Forwarder | Receiver, is: (status: BridgeStatus) => boolean): Promise<void> {
  for (const end = Date.now() + 20_000; !is(bridge.status); await sleep(5)) assert.ok(Date.now() < end, JSON.stringify(bridge.status));
}

/** Runs a forwarder until it has done what `is` says. */
async function forwarded(sink: Sink, options: ForwardOptions, is: (status: BridgeStatus) => boolean): Promise<BridgeStatus> {
  await using bridge = forward(sink, { ...FAST, ...options });
  await until(bridge, (status) => is(status) || status.state === "stopped");
  await bridge.stop();
  await bridge.done;
  return bridge.status;
}

async function received(source: Source, options: ReceiveOptions, records: number): Promise<BridgeStatus> {
  await using bridge = receive(source, { ...FAST, ...options });
  await until(bridge, (status) => status.state !== "connecting" && status.state !== "standby" && status.records + status.deadLetters >= records && status.inFlight === 0);
  await bridge.stop();
  await bridge.done;
  return bridge.status;
}

function lettersIn(path: string): DeadLetter[] {
  using queue = Queue.open<DeadLetter>(path, { codec: deadLetterCodec });
  return [...queue];
}

const failsWith = (code: string, pattern: RegExp) => (error: unknown): boolean => {
  assert.ok(error instanceof BridgeError, String(error));
  assert.equal(error.code, code);
  assert.match(error.message, pattern);
  return true;
};

for (const engine of engines) {
  const check = (name: string, body: (server: Server) => Promise<void>): void => {
    const full = `${engine}: ${name}`;
    test(full, skipFor(full, missingServer(engine)), async () => await body(await serverOf(engine)));
  };

  check("records arrive in order with the ids of their sequences, and leave the queue", async (server) => {
    const stream = newStream();
    const { path, id } = queueWith(numbered(1500));
    const status = await forwarded(sinkOf(engine, server, stream), { queue: path }, ({ records }) => records === 1500);
    assert.equal(status.last, "1500");
    assert.deepEqual([status.lag, status.inFlight, status.reconnects, status.deadLetters, status.skipped], [0, 0, 0, 0, 0]);
    assert.deepEqual(await readAll(engine, server.port, stream), numbered(1500).map((text, i) => ({ id: idOf(engine, id, i + 1), text })));
    using queue = Queue.open(path);
    assert.ok(queue.isEmpty);
    assert.equal(queue.durableSequence, 1500, "on storage here before it was sent");
  });

  check("what is pushed later comes too, and a group leaves the log to others", async (server) => {
    const stream = newStream();
    const path = files.next("log");
    using log = Queue.open<string>(path, { codec: "text", group: "other" });
    log.push("one");
    await using bridge = forward(sinkOf(engine, server, stream), { ...FAST, queue: path, group: "bridge", flushFirst: false });
    await until(bridge, ({ records }) => records === 1);
    assert.equal(log.durableSequence, 0, "as asked");
    log.push("two");
    await until(bridge, ({ records }) => records === 2);
    await bridge.stop();
    assert.deepEqual((await readAll(engine, server.port, stream)).map(({ text }) => text), ["one", "two"]);
    assert.equal(log.length, 2);
    assert.equal(log.groups().find(({ name }) => name === "bridge")?.length, 0);
  });

  check("what the remote has is skipped, not sent again, when the bridge died before it removed it here", async (server) => {
    const stream = newStream();
    const path = files.next("log");
    {
      using log = Queue.open<string>(path, { codec: "text", groups: true });
      log.pushMany(numbered(100));
    }
    await forwarded(sinkOf(engine, server, stream), { queue: path, group: "first" }, ({ records }) => records === 100);
    // To another group of the same log nothing was removed: as if the bridge had died after the last confirmation.
    {
      using log = Queue.open<string>(path, { codec: "text", groups: true });
      log.pushMany(numbered(20, 101));
    }
    const status = await forwarded(sinkOf(engine, server, stream), { queue: path, group: "second" }, ({ last, lag }) => last === "120" && lag === 0);
    assert.deepEqual([status.skipped, status.records], [100, 20]);
    assert.deepEqual((await readAll(engine, server.port, stream)).map(({ text }) => text), numbered(120));
  });

  check("a second bridge stands by and takes over", async (server) => {
    const stream = newStream();
    const { path } = queueWith(numbered(3));
    using queue = Queue.open<string>(path, { codec: "text" });
    await using first = forward(sinkOf(engine, server, stream), { ...FAST, queue: path });
    await until(first, ({ records }) => records === 3);
    await using second = forward(sinkOf(engine, server, stream), { ...FAST, queue: path });
    queue.push("record 4");
    await until(first, ({ records }) => records === 4);
    assert.equal(second.status.state, "standby");
    await first.stop();
    queue.push("record 5");
    await until(second, ({ records }) => records === 1);
    assert.deepEqual((await readAll(engine, server.port, stream)).map(({ text }) => text), numbered(5));
  });

  check("a record that is too large goes to the dead letters with the reason, those around it arrive", async (server) => {
    const stream = newStream();
    const sink = sinkOf(engine, server, stream);
    // NATS: 1 MiB with headers; Redis: set to its least.
    if (engine === "redis") await withConfig(server, "proto-max-bulk-len", "1048576");
    const large = "x".repeat((1 << 20) + 1);
    const { path, id } = queueWith(["a", "b", large, "c", large, "d"]);
    const deadLetter = files.next("dead");
    const status = await forwarded(sink, { queue: path, deadLetter }, ({ records }) => records === 4);
    assert.equal(status.deadLetters, 2);
    const texts = await readAll(engine, server.port, stream);
    assert.deepEqual(texts.map(({ text }) => text), ["a", "b", "c", "d"]);
    assert.deepEqual(texts.map((entry) => entry.id), [1, 2, 4, 6].map((sequence) => idOf(engine, id, sequence)));
    const letters = lettersIn(deadLetter);
    assert.deepEqual(letters.map((letter) => [letter.origin, letter.id, new TextDecoder().decode(letter.payload) === large]), [[id, "3", true], [id, "5", true]]);
    assert.match(letters[0]?.reason ?? "", /1048577 bytes are more than the \d+ that/);
  });

  check("without a queue for dead letters such a record stops the bridge and stays", async (server) => {
    const { path } = queueWith(["fine", "y".repeat((1 << 20) + 1), "behind"]);
    const bridge = forward(sinkOf(engine, server, newStream()), { ...FAST, queue: path });
    await assert.rejects(bridge.done, failsWith("ERR_REFUSED", /record 2 of .* can't be forwarded and stays: 1048577 bytes/));
    using queue = Queue.open<string>(path, { codec: "text" });
    assert.equal(queue.length, 2);
  });

  check("without a stream records go to the dead letters, each once", async (server) => {
    const stream = newStream();
    const sink = sinkOf(engine, server, stream, { create: false });
    const { path } = queueWith(numbered(5));
    const deadLetter = files.next("dead");
    const status = await forwarded(sink, { queue: path, deadLetter }, ({ deadLetters }) => deadLetters === 5);
    assert.equal(status.records, 0);
    assert.deepEqual(lettersIn(deadLetter).map(({ id }) => id), ["1", "2", "3", "4", "5"]);
    assert.match(lettersIn(deadLetter)[0]?.reason ?? "", new RegExp(`no stream '${stream}'`));
    await assert.rejects(forward(sink, { ...FAST, queue: queueWith(["x"]).path }).done, failsWith("ERR_REFUSED", /no stream/));
  });

  check("a stream that is ahead of the queue is refused: the queue was restored from an older copy", async (server) => {
    const stream = newStream();
    const { path } = queueWith(numbered(5));
    const copy = files.next("copy");
    fs.cpSync(path, copy, { recursive: true });
    queueWith(numbered(5, 6), path);
    await forwarded(sinkOf(engine, server, stream), { queue: path }, ({ records }) => records === 10);
    await assert.rejects(forward(sinkOf(engine, server, stream), { ...FAST, queue: copy }).done, failsWith("ERR_AHEAD", /has record 10 of queue .* none beyond 5/));
    using queue = Queue.open(copy);
    assert.equal(queue.length, 5);
  });

  check("another queue's stream is refused", async (server) => {
    const stream = newStream();
    const subject = engine === "nats" ? { subject: `${stream}.fixed` } : {};
    await forwarded(sinkOf(engine, server, stream, subject), { queue: queueWith(numbered(10)).path }, ({ records }) => records === 10);
    const other = queueWith(["other"]);
    await assert.rejects(forward(sinkOf(engine, server, stream, subject), { ...FAST, queue: other.path }).done, failsWith("ERR_FOREIGN", /choose another key|choose a subject/));
    using queue = Queue.open<string>(other.path, { codec: "text" });
    assert.equal(queue.length, 1, "nothing was taken for sent");
  });

  check("the metrics file has what the status says, with the bridge's name", async (server) => {
    const path = files.next("metrics");
    await forwarded(sinkOf(engine, server, newStream()), { queue: queueWith(numbered(50)).path, metrics: path, name: "west" }, ({ records }) => records === 50);
    using metrics = Metrics.open(path, { mode: "r" });
    const text = metrics.expose();
    for (const line of ['records_total{bridge="west"} 50', 'lag_records{bridge="west"} 0', 'in_flight_records{bridge="west"} 0', 'last_id{bridge="west"} 50', 'reconnects_total{bridge="west"} 0']) {
      assert.ok(text.includes(`holdfast_bridge_${line}\n`), `${line}\n${text}`);
    }
  });

  check("a server that is not there is waited for", async (server) => {
    const gone = engine === "nats" ? natsSink({ servers: "127.0.0.1:1", stream: "X" }) : redisSink({ url: "redis://127.0.0.1:1", stream: "X" });
    await using bridge = forward(gone, { ...FAST, queue: queueWith(["x"]).path });
    await until(bridge, ({ reconnects }) => reconnects >= 3);
    assert.match(bridge.status.lastError ?? "", /refused/i);
    assert.equal(bridge.status.lag, 1);
    assert.ok(server.port > 0);
  });

  check("a server that goes away while nothing is to be done is missed at once", async (server) => {
    const stream = newStream();
    const { path } = queueWith(["one"]);
    await using bridge = forward(sinkOf(engine, server, stream), { ...FAST, queue: path });
    await until(bridge, ({ records }) => records === 1);
    await server.kill();
    await until(bridge, ({ reconnects }) => reconnects >= 1);
    await server.start();
    await until(bridge, ({ state }) => state === "running");
    queueWith(["two"], path);
    await until(bridge, ({ records }) => records === 2);
    assert.deepEqual((await readAll(engine, server.port, stream)).map(({ text }) => text), ["one", "two"]);
  });

  check("entries of any program are received in order, each once, also after a restart", async (server) => {
    const stream = newStream();
    await fill(engine, server.port, stream, numbered(1200));
    const path = files.next("queue");
    const status = await received(sourceOf(engine, server, stream), { queue: path, durability: "each" }, 1200);
    await received(sourceOf(engine, server, stream), { queue: path }, 0);
    await fill(engine, server.port, stream, numbered(3, 1201));
    await received(sourceOf(engine, server, stream), { queue: path }, 3);
    using queue = Queue.open<string>(path, { codec: "text" });
    assert.deepEqual([...queue], numbered(1203));
    assert.equal(status.reconnects, 0);
  });

  check("from queue to stream to queue: the same bytes", async (server) => {
    const stream = newStream();
    const path = files.next("queue");
    const payloads = [new Uint8Array(0), Uint8Array.of(0, 255, 10, 13), new TextEncoder().encode("ü€"), crypto.getRandomValues(new Uint8Array(5000))];
    {
      using queue = Queue.open<Uint8Array>(path, { codec: "bytes" });
      queue.pushMany(payloads);
    }
    await forwarded(sinkOf(engine, server, stream), { queue: path }, ({ records }) => records === 4);
    const there = files.next("queue");
    await received(sourceOf(engine, server, stream), { queue: there }, 4);
    using queue = Queue.open<Uint8Array>(there, { codec: "bytes" });
    assert.deepEqual([...queue].map((bytes) => [...bytes]), payloads.map((bytes) => [...bytes]));
  });

  check("a full queue makes the remote wait, and loses nothing", async (server) => {
    const stream = newStream();
    await fill(engine, server.port, stream, numbered(2000));
    const path = files.next("queue");
    await using bridge = receive(sourceOf(engine, server, stream), { ...FAST, queue: path, create: { capacityBytes: 8192, fixedSize: true } });
    using queue = Queue.open<string>(path, { codec: "text" });
    await until(bridge, ({ lag }) => lag > 50);
    const texts: string[] = [];
    for (const end = Date.now() + 20_000; texts.length < 2000 && Date.now() < end; await sleep(1)) texts.push(...queue.popMany(1000));
    assert.deepEqual(texts, numbered(2000));
  });

  check("a queue that has received from one stream refuses another", async (server) => {
    const [one, two] = [newStream(), newStream()];
    await fill(engine, server.port, one, ["a"]);
    await fill(engine, server.port, two, ["b"]);
    const path = files.next("queue");
    await received(sourceOf(engine, server, one), { queue: path }, 1);
    await assert.rejects(receive(sourceOf(engine, server, two), { ...FAST, queue: path }).done, failsWith("ERR_FOREIGN", /one queue has one source/));
  });
}

const field = "redis: an entry without the field goes to the dead letters as it is";
test(field, skipFor(field, missingServer("redis")), async () => {
  const server = await serverOf("redis");
  const stream = newStream();
  await fill("redis", server.port, stream, ["good"]);
  const source = redisSource({ ...(server.connection() as { url: string }), stream, field: "other" });
  const deadLetter = files.next("dead");
  const path = files.next("queue");
  const status = await received(source, { queue: path, deadLetter }, 1);
  assert.deepEqual([status.records, status.deadLetters], [0, 1]);
  const [letter] = lettersIn(deadLetter);
  assert.equal(new TextDecoder().decode(letter?.payload), '["data","good"]');
  assert.match(letter?.reason ?? "", /no field 'other'/);
});

const shared = "nats: three queues feed one stream at once, each in order";
test(shared, skipFor(shared, missingServer("nats")), async () => {
  const server = await serverOf("nats");
  const stream = newStream();
  const queues = [1, 2, 3].map((queue) => queueWith(Array.from({ length: 800 }, (_, i) => `${queue} ${i}`)).path);
  const bridges = queues.map((queue) => forward(sinkOf("nats", server, stream), { ...FAST, queue }));
  try {
    // What came through right before another was in between is found there, and counts as skipped.
    await Promise.all(bridges.map((bridge) => until(bridge, ({ records, skipped }) => records + skipped === 800)));
  } finally {
    await Promise.all(bridges.map((bridge) => bridge.stop()));
  }
  const texts = (await readAll("nats", server.port, stream)).map(({ text }) => text);
  assert.equal(texts.length, 2400);
  for (const queue of ["1", "2", "3"]) {
    assert.deepEqual(texts.filter((text) => text.startsWith(queue)), Array.from({ length: 800 }, (_, i) => `${queue} ${i}`));
  }
});

for (const retention of ["workqueue", "interest"] as const) {
  const name = `nats: a stream of retention ${retention} is forwarded to and received from, with restarts, and forgets what was acknowledged`;
  test(name, skipFor(name, missingServer("nats")), async () => {
    const server = await serverOf("nats");
    const stream = newStream();
    const options = server.connection() as { servers: string };
    const path = files.next("queue");
    const there = files.next("queue");
    const sink = natsSink({ ...options, stream, create: { retention } });
    // The stream, and then the receiver's interest in it.
    await forwarded(sink, { queue: queueWith([], path).path }, ({ state }) => state === "running");
    await received(sourceOf("nats", server, stream), { queue: there }, 0);
    for (let round = 0; round < 3; round++) {
      queueWith(numbered(300, 300 * round + 1), path);
      await forwarded(sink, { queue: path }, ({ lag }) => lag === 0);
      await received(sourceOf("nats", server, stream), { queue: there }, 300);
    }
    using queue = Queue.open<string>(there, { codec: "text" });
    assert.deepEqual([...queue], numbered(900));
    for (const end = Date.now() + 10_000; (await lengthOf(server.port, stream)) > 0; await sleep(20)) assert.ok(Date.now() < end);
  });
}

test("options that make no sense are refused at once", () => {
  const sink = redisSink({ stream: "s" });
  assert.throws(() => forward(sink, {} as ForwardOptions), /"queue"/);
  assert.throws(() => forward(sink, { queue: files.next(), windowRecord: 1 } as unknown as ForwardOptions), /windowRecord/);
  assert.throws(() => forward(sink, { queue: files.next(), batchRecords: 0 }), RangeError);
  assert.throws(() => receive(redisSource({ stream: "s" }), { queue: files.next(), durability: "batch" } as unknown as ReceiveOptions), RangeError);
  assert.throws(() => redisSink({ stream: "" }), /"stream"/);
  for (const url of ["somewhere", "http://u:secret@host"]) {
    assert.throws(() => redisSource({ url, stream: "s" }), (error) => error instanceof TypeError && /"url" must be/.test(error.message) && !error.message.includes("secret"));
  }
  assert.throws(() => natsSink({ stream: "a.b" }), /"stream"/);
  assert.throws(() => natsSource({ stream: "A", start: "now" as "oldest" }), RangeError);
});

async function withConfig(server: Server, name: string, value: string): Promise<void> {
  const { createClient } = await import("@redis/client");
  const client = createClient(server.connection() as { url: string });
  await client.connect();
  await client.configSet(name, value);
  client.destroy();
}
