/**
 * How fast the bridges are: records of a log from a full local queue to a server on this machine, beside the best loop that the engine's client can
 * do by itself from memory. Both share the machine with the server, so on two CPUs the server is the other half of what is measured.
 *
 * From the shell: bun bench/bridge.ts [--records 200000] [--rounds 3] [--engine nats|redis]
 */
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect, createInbox, headers } from "@nats-io/transport-node";
import { createClient } from "@redis/client";
import Table from "cli-table3";
import * as fs from "node:fs";
import * as os from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { forward, type Sink } from "../lib/bridge/bridge.ts";
import { natsSink } from "../lib/bridge/nats.ts";
import { redisSink } from "../lib/bridge/redis.ts";
import { Queue } from "../mod.ts";
import { type Engine, engines, missingServer, Server } from "../tests/bridge/servers.ts";
import { root } from "../tests/support/runtimes.ts";

const { values } = parseArgs({ options: { records: { type: "string", default: "200000" }, rounds: { type: "string", default: "3" }, engine: { type: "string" } } });
const records = Number(values.records);
const rounds = Number(values.rounds);
const lines = fs.readFileSync(join(root, "examples/data/access_log.txt"), "utf8").split("\n").filter((line) => line !== "").map((line) => new TextEncoder().encode(line));
const payload = (i: number): Uint8Array => lines[i % lines.length] as Uint8Array;
const goals: Readonly<Record<Engine, number>> = { nats: 50_000, redis: 80_000 };

/** Records a second, and microseconds of CPU time of this process for each. */
interface Speed {
  readonly rate: number;
  readonly cpu: number;
}

async function timed(action: () => Promise<void>): Promise<Speed> {
  const before = process.cpuUsage();
  const started = performance.now();
  await action();
  const seconds = (performance.now() - started) / 1000;
  const { user, system } = process.cpuUsage(before);
  return { rate: records / seconds, cpu: (user + system) / records };
}

/** Runs `step` for each record, with so many under way. */
async function windowed(most: number, step: (i: number) => Promise<unknown>): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    let next = 0;
    let underWay = 0;
    const go = (): void => {
      while (underWay < most && next < records) {
        underWay++;
        step(next++).then(() => {
          underWay--;
          if (next === records && underWay === 0) resolve();
          else go();
        }, reject);
      }
    };
    go();
  });
}

async function natsLoops(server: Server, report: (name: string, speed: Speed) => void): Promise<void> {
  const connection = await connect(server.connection() as { servers: string });
  const { streams } = await jetstreamManager(connection);
  const fresh = async (): Promise<void> => {
    await streams.delete("LOOP").catch(() => {});
    await streams.add({ name: "LOOP", subjects: ["LOOP.>"] });
  };
  const js = jetstream(connection);
  await fresh();
  report("jetstream publish(), 1,024 under way", await timed(() => windowed(1024, (i) => js.publish("LOOP.a", payload(i), { msgID: `loop:${i}` }))));
  await fresh();
  // What the client can do at best: publish() with the answers to one subscription.
  let answered = 0;
  let next = 0;
  let done = (): void => {};
  const inbox = createInbox();
  const go = (): void => {
    for (; next < records && next - answered < 4096; next++) {
      const head = headers();
      head.set("Nats-Msg-Id", `loop:${next}`);
      connection.publish("LOOP.a", payload(next), { reply: `${inbox}.${next}`, headers: head });
    }
  };
  connection.subscribe(`${inbox}.*`, {
    callback: () => {
      if (++answered === records) done();
      else if (next - answered < 2048) go();
    },
  });
  report("core publish() with answers, 4,096 under way", await timed(() => new Promise<void>((resolve) => {
    done = resolve;
    go();
  })));
  await streams.delete("LOOP");
  await connection.close();
}

async function redisLoops(server: Server, report: (name: string, speed: Speed) => void): Promise<void> {
  const client = createClient(server.connection() as { url: string });
  client.on("error", () => {});
  await client.connect();
  const data = (i: number): { data: Buffer } => {
    const bytes = payload(i);
    return { data: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength) };
  };
  await client.del("loop");
  report("xAdd(), 1,000 under way", await timed(() => windowed(1000, (i) => client.xAdd("loop", `${i + 1}-0`, data(i)))));
  await client.del("loop");
  report("multi() of 1,000, execAsPipeline()", await timed(async () => {
    for (let i = 0; i < records; ) {
      const multi = client.multi();
      for (const end = Math.min(records, i + 1000); i < end; i++) multi.xAdd("loop", `${i + 1}-0`, data(i));
      await multi.execAsPipeline();
    }
  }));
  await client.del("loop");
  client.destroy();
}

async function bridge(engine: Engine, server: Server, folder: string, round: number): Promise<Speed> {
  const path = join(folder, `queue-${round}`);
  {
    using queue = Queue.open<Uint8Array>(path, { codec: "bytes", capacityBytes: 64 << 20 });
    for (let i = 0; i < records; ) i += queue.pushMany(Array.from({ length: Math.min(5000, records - i) }, (_, j) => payload(i + j)));
    queue.flush();
  }
  const stream = `BENCH${round}`;
  const sink: Sink = engine === "nats" ? natsSink({ ...server.connection(), stream, create: true }) : redisSink({ ...server.connection(), stream });
  return await timed(async () => {
    await using forwarder = forward(sink, { queue: path });
    while (forwarder.status.records < records) {
      await new Promise((resolve) => setTimeout(resolve, 2));
      if (forwarder.status.state === "stopped") await forwarder.done;
    }
  });
}

const table = new Table({ head: ["engine", "what", "records/s, best", "bridge / it", "µs CPU here"], colAligns: ["left", "left", "right", "right", "right"], style: { head: [], border: [] } });
let missed = 0;
for (const engine of engines) {
  if (values.engine !== undefined && values.engine !== engine) continue;
  const missing = missingServer(engine);
  if (missing !== undefined) {
    console.log(`${engine}: skipped, ${missing}`);
    continue;
  }
  const folder = fs.mkdtempSync(join(os.tmpdir(), "holdfast-bench-bridge-"));
  const server = await Server.start(engine, join(folder, "server"), false);
  const best = new Map<string, Speed>();
  const report = (name: string, { rate, cpu }: Speed): void => {
    const before = best.get(name) ?? { rate: 0, cpu: Infinity };
    best.set(name, { rate: Math.max(rate, before.rate), cpu: Math.min(cpu, before.cpu) });
  };
  try {
    for (let round = 0; round < rounds; round++) {
      await (engine === "nats" ? natsLoops : redisLoops)(server, report);
      report("bridge", await bridge(engine, server, folder, round));
    }
  } finally {
    await server.kill();
    fs.rmSync(folder, { recursive: true, force: true });
  }
  const ours = (best.get("bridge") as Speed).rate;
  const theirs = Math.max(...[...best].filter(([name]) => name !== "bridge").map(([, { rate }]) => rate));
  for (const [name, { rate, cpu }] of best) table.push([engine, name, Math.round(rate).toLocaleString("en"), (ours / rate).toFixed(2), cpu.toFixed(1)]);
  if (ours < goals[engine] || ours / theirs < 0.8) missed++;
}
console.log(table.toString());
console.log(`goals: nats ${goals.nats.toLocaleString("en")}, redis ${goals.redis.toLocaleString("en")} records/s, and 0.8 of the client's best loop: ${missed === 0 ? "reached" : "missed"}`);
