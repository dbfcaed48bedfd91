/** A bridge in a process of its own, to be killed. Argument: what to do, as JSON. Says each new state on stdout. */
import { createClient } from "@redis/client";
import process from "node:process";
import { forward, type Forwarder, type ForwardOptions, receive, type Receiver, type ReceiveOptions, type Sink } from "../../lib/bridge/bridge.ts";
import { natsSink, type NatsSinkOptions, natsSource, type NatsSourceOptions } from "../../lib/bridge/nats.ts";
import { redisSink, type RedisSinkOptions, redisSource, type RedisSourceOptions } from "../../lib/bridge/redis.ts";
import type { Engine } from "./servers.ts";

export interface Work {
  readonly engine: Engine;
  readonly direction: "out" | "in";
  readonly naive: boolean;
  readonly remote: NatsSinkOptions | RedisSinkOptions | NatsSourceOptions | RedisSourceOptions;
  readonly local: ForwardOptions | ReceiveOptions;
}

/** What a program does that sends again what was not confirmed, and does not ask what is there. */
function naiveSink({ url, stream }: { url: string; stream: string }): Sink {
  return {
    name: "naive",
    async connect() {
      const client = createClient({ url, disableOfflineQueue: true, socket: { reconnectStrategy: false } });
      client.on("error", () => {});
      await client.connect();
      return {
        maxPayloadBytes: 1 << 20,
        last: () => Promise.resolve(0),
        async send(records) {
          await Promise.all(records.map(({ payload }) => client.xAdd(stream, "*", { data: Buffer.from(payload) })));
        },
        close() {
          if (client.isOpen) client.destroy();
          return Promise.resolve();
        },
      };
    },
  };
}

function start({ engine, direction, naive, remote, local }: Work): Forwarder | Receiver {
  if (naive) return forward(naiveSink(remote as { url: string; stream: string }), local);
  if (direction === "out") return forward(engine === "nats" ? natsSink(remote as NatsSinkOptions) : redisSink(remote as RedisSinkOptions), local);
  return receive(engine === "nats" ? natsSource(remote as NatsSourceOptions) : redisSource(remote as RedisSourceOptions), local as ReceiveOptions);
}

const bridge = start(JSON.parse(process.argv[2] as string) as Work);
let before = "";
const timer = setInterval(() => {
  const { state, reconnects, lastError } = bridge.status;
  const line = JSON.stringify({ state, reconnects, lastError });
  if (line !== before) process.stdout.write(`${line}\n`);
  before = line;
}, 10);
process.on("SIGTERM", () => void bridge.stop());
try {
  await bridge.done;
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 1;
}
clearInterval(timer);
process.stdout.write(`${JSON.stringify({ ...bridge.status, ended: true })}\n`);
