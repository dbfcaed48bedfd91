import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { Queue } from "../../mod.ts";
import { currentRuntime, type RuntimeName } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { steps } from "./owner.ts";
import { storm } from "./storm.ts";

const files = temporaryFiles();
const child = children();
const OWNER = fileURLToPath(new URL("owner.ts", import.meta.url));

/** What must hold after any death: all four records, in order, each once, and the queue goes on. */
function assertSound(queue: Queue<number>): void {
  assert.equal(queue.push(4), true);
  const lease = queue.lease();
  assert.deepEqual([lease?.value, lease?.attempts], [1, 1]);
  lease?.ack();
  assert.deepEqual([...queue], [2, 3, 4]);
  assert.equal(queue.length, 3);
  assert.deepEqual(queue.popMany(9), [2, 3, 4]);
  assert.equal(queue.length, 0);
  assert.equal(queue.byteLength, 0);
}

/** Fills and empties some segments, after which no file may be left that the queue does not need. */
function assertNothingWasted(queue: Queue<number>, path: string): void {
  for (let i = 0; i < 2000; i++) queue.push(i);
  assert.equal(queue.popMany(2000).length, 2000);
  assert.deepEqual(fs.readdirSync(path).length, 3, fs.readdirSync(path).join());
}

const onlyNode = (name: string): ReturnType<typeof skipFor> =>
  skipFor(name, currentRuntime === "node" ? undefined : "it starts all three runtimes, so it runs under Node only");

const storming = "kill storm: producers and consumers of all runtimes, nothing lost, nothing doubled without a dead holder";
test(storming, onlyNode(storming), async () => {
  const folder = join(files.folder, "storm");
  fs.mkdirSync(folder);
  const all: RuntimeName[] = ["node", "bun", "deno"];
  const report = await storm({ folder, records: 20_000, kills: 15, producers: all, consumers: all, seed: 1, hosts: true });
  console.log(`# ${JSON.stringify(report)}`);
  assert.equal(report.lost, 0);
  assert.equal(report.doubledWithoutDeath, 0);
  assert.equal(report.outOfOrder, 0);
  assert.equal(report.failures, 0);
  assert.ok(report.kills >= 6, `${report.kills} kills`);
});

for (const step of Object.keys(steps)) {
  test(`killed: ${step}`, async () => {
    const path = files.next();
    using queue = Queue.open<number>(path, { capacityBytes: 8192 });
    queue.pushMany([1, 2, 3]);
    const ending = await child.script(currentRuntime, OWNER, path, step, "die");
    assert.equal(ending.signal, "SIGKILL", ending.stderr);
    assertSound(queue);
    assertNothingWasted(queue, path);
  });
}

test("a Worker that ends inside the lock, while its process lives", async () => {
  for (const step of ["producer lock taken", "lease entry written, cursor not moved"] as const) {
    const path = files.next();
    using queue = Queue.open<number>(path, { capacityBytes: 8192 });
    queue.pushMany([1, 2, 3]);
    const worker = new Worker(new URL("owner_thread.ts", import.meta.url), { workerData: { path, step } });
    await new Promise((resolve, reject) => worker.on("message", resolve).on("error", reject));
    await worker.terminate();
    assertSound(queue);
  }
});

test("the leases of a killed process are handed out again, with their attempts", async () => {
  const path = files.next();
  using queue = Queue.open<string>(path);
  queue.pushMany(["a", "b", "c"]);
  const agent = child.agent(currentRuntime);
  await agent.send({ do: "open", as: "q", kind: "Queue", path });
  await agent.send({ do: "call", on: "q", method: "lease", as: "a" });
  await agent.send({ do: "call", on: "q", method: "lease", as: "b" });
  await agent.send({ do: "call", on: "b", method: "ack" });
  assert.equal(queue.pop(), "c", "the holder lives: its record is not offered");
  assert.equal(queue.pop(), undefined);
  assert.equal(queue.length, 1);
  await agent.kill();
  const lease = queue.lease();
  assert.deepEqual([lease?.value, lease?.attempts], ["a", 2]);
  lease?.ack();
  assert.equal(queue.length, 0);
});
