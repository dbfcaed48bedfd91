/** A wait in one process, a notify in another: every ordered pair of runtimes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Mapping } from "../../mod.ts";
import { currentRuntime, type RuntimeName, runtimeNames } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { type Agent, children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const processes = children();

const elsewhere = currentRuntime === "node" ? undefined : "it starts all runtimes itself: run under Node only";

const wait = (agent: Agent, expected: number, timeoutMs = 5000): Promise<unknown> =>
  agent.send({ do: "call", on: "m", method: "atomics.wait", args: [8, expected, { timeoutMs }] });
const store = (agent: Agent, value: number): Promise<unknown> => agent.send({ do: "call", on: "m", method: "atomics.store", args: [8, value] });
const notify = (agent: Agent, count?: number): Promise<unknown> =>
  agent.send({ do: "call", on: "m", method: "atomics.notify", args: count === undefined ? [8] : [8, count] });

/** An agent of each runtime that has the file open as `m`. */
async function openAll(path: string): Promise<Record<RuntimeName, Agent>> {
  const agents = runtimeNames.map((runtime) => processes.agent(runtime));
  await Promise.all(agents.map((agent) => agent.send({ do: "open", as: "m", kind: "Mapping", path })));
  return Object.fromEntries(agents.map((agent) => [agent.runtime, agent])) as Record<RuntimeName, Agent>;
}

const pairs = "one waits, the other stores and notifies: every ordered pair of runtimes";
test(pairs, skipFor(pairs, elsewhere), async () => {
  const path = files.file(new Uint8Array(4096));
  const [waiters, notifiers] = await Promise.all([openAll(path), openAll(path)]);
  // Until each has its sleeping Worker.
  const first = await Promise.all(runtimeNames.map((runtime) => wait(waiters[runtime], 0, 300)));
  assert.deepEqual(first, ["timed-out", "timed-out", "timed-out"]);
  let value = 0;
  for (const waiter of runtimeNames) {
    for (const notifier of runtimeNames) {
      const pair = `${notifier} → ${waiter}`;
      // A change and a notify, a notify alone, a change alone.
      let waiting = wait(waiters[waiter], value);
      await sleep(60);
      await store(notifiers[notifier], ++value);
      const woken = await notify(notifiers[notifier]);
      // 0 where the waiter's timer was faster.
      assert.ok(woken === 1 || woken === 0, `${pair}: ${String(woken)} woken`);
      assert.equal(await waiting, "ok", pair);

      waiting = wait(waiters[waiter], value);
      await sleep(60);
      assert.equal(await notify(notifiers[notifier], 1), 1, pair);
      assert.equal(await waiting, "ok", pair);
      assert.equal(await notify(notifiers[notifier]), 0, pair);

      waiting = wait(waiters[waiter], value);
      await sleep(60);
      await store(notifiers[notifier], ++value);
      assert.equal(await waiting, "ok", pair);
      assert.equal(await wait(waiters[waiter], value - 1), "not-equal", pair);
    }
  }
  for (const agent of [...Object.values(waiters), ...Object.values(notifiers)]) assert.equal((await agent.end()).code, 0);
});

const several = "waits of three processes are woken one by one, then together";
test(several, skipFor(several, elsewhere), async () => {
  const path = files.file(new Uint8Array(4096));
  const waiters = Object.values(await openAll(path));
  using mapping = Mapping.open(path);
  await Promise.all(waiters.map((agent) => wait(agent, 0, 300)));
  let ended = 0;
  const waits = waiters.map((agent) => wait(agent, 0).then((result) => (assert.equal(result, "ok"), ended++)));
  await sleep(100);
  assert.equal(mapping.atomics.notify(8, 1), 1);
  await sleep(100);
  assert.equal(ended, 1);
  assert.equal(mapping.atomics.notify(8), 2);
  await Promise.all(waits);
});

const killed = "a waiter that is killed is no waiter; a notifier that is killed before it notifies holds nobody up";
test(killed, skipFor(killed, elsewhere), async () => {
  const path = files.file(new Uint8Array(4096));
  const { bun, deno, node } = await openAll(path);
  using mapping = Mapping.open(path);
  await Promise.all([bun, deno].map((agent) => wait(agent, 0, 300)));
  const gone = assert.rejects(wait(bun, 0), /is gone: SIGKILL/);
  const stays = wait(deno, 0);
  await sleep(100);
  await bun.kill("SIGKILL");
  await gone;
  assert.equal(mapping.atomics.notify(8), 1);
  assert.equal(await stays, "ok");
  const waiting = wait(deno, 0);
  await sleep(100);
  await store(node, 5);
  await node.kill("SIGKILL");
  assert.equal(await waiting, "ok");
});
