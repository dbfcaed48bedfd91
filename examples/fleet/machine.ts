/**
 * One machine of the fleet: a program that writes records and counts, both to files of its own folder, and two bridges that carry them to the server.
 * The program itself never waits for the network.
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { CounterForwarder, forward, natsSink } from "../../lib/bridge/nats.ts";
import { Counters, Queue } from "../../mod.ts";

const [folder, node, url, file, count, perSecond] = process.argv.slice(2) as [string, string, string, string, string, string];
const records = path.join(folder, "records.queue");
const deltas = path.join(folder, "deltas.queue");
const counted = path.join(folder, "counters");

using queue = Queue.open<{ node: string; number: number; line: string }>(records);
using counters = Counters.open(counted, { names: ["lines", "bytes"] });
const growth = new CounterForwarder({ counters: counted, queue: deltas, node, everyMs: 200 });
const retry = { retryMs: 50, retryMaxMs: 500, ackTimeoutMs: 3000 };
await using recordBridge = forward(natsSink({ servers: url, stream: "FLEET", create: true }), { ...retry, queue: records });
await using deltaBridge = forward(natsSink({ servers: url, stream: "COUNTERS", create: true }), { ...retry, queue: deltas });

const lines = readFileSync(file, "utf8").split("\n").filter((line) => line !== "");
const started = performance.now();
for (let number = 0; number < Number(count); number++) {
  const line = lines[number % lines.length] as string;
  // A queue without a limit: it holds what comes while the server is away.
  queue.push({ node, number, line });
  counters.add("lines");
  counters.add("bytes", line.length);
  const ahead = (number / Number(perSecond)) * 1000 - (performance.now() - started);
  if (ahead > 10) await sleep(ahead);
}
growth.close();
while (recordBridge.status.state !== "stopped" && deltaBridge.status.state !== "stopped") {
  using rest = Queue.open(deltas);
  if (queue.isEmpty && rest.isEmpty) break;
  await sleep(20);
}
const lost = recordBridge.status.reconnects + deltaBridge.status.reconnects;
await Promise.all([recordBridge.stop(), deltaBridge.stop()]);
await Promise.all([recordBridge.done, deltaBridge.done]);
process.stdout.write(`${JSON.stringify({ node, lines: counters.get("lines"), bytes: counters.get("bytes"), reconnects: lost })}\n`);
