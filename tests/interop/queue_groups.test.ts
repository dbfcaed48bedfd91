/** Publish and subscribe between runtimes: for every ordered pair one publishes and the other consumes for a group of its own. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Queue } from "../../mod.ts";
import { currentRuntime, runtimeNames } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const processes = children();
const elsewhere = currentRuntime === "node" ? undefined : "it starts all runtimes itself: run under Node only";

const pairs = "a record that one runtime pushes reaches the group of every other, asleep or not";
test(pairs, skipFor(pairs, elsewhere), async () => {
  const path = files.next("log");
  // Small segments, which the agents give up among themselves; each record needs one of its own.
  using log = Queue.open<string>(path, { groups: true, capacityBytes: 8192 });
  const subscribers = runtimeNames.map((runtime) => processes.agent(runtime));
  const publishers = runtimeNames.map((runtime) => processes.agent(runtime));
  await Promise.all(subscribers.map((agent) => agent.send({ do: "open", as: "q", kind: "Queue", path, options: { group: agent.runtime } })));
  await Promise.all(publishers.map((agent) => agent.send({ do: "open", as: "q", kind: "Queue", path, options: { groups: true } })));
  for (const publisher of publishers) {
    for (const delay of [0, 150]) {
      const value = `${publisher.runtime} after ${delay} ${"x".repeat(3000)}`;
      const taken = subscribers.map((agent) => agent.send({ do: "call", on: "q", method: "take", args: [{ timeoutMs: 20_000 }] }));
      await sleep(delay);
      await publisher.send({ do: "call", on: "q", method: "push", args: [value] });
      assert.deepEqual(await Promise.all(taken), [value, value, value]);
    }
  }
  assert.deepEqual(log.groups().map(({ name, length }) => [name, length]), runtimeNames.map((name) => [name, 0]).sort());
  assert.equal(log.length, 1, "all but the segment at the tail is given up");
  for (const agent of [...subscribers, ...publishers]) assert.equal((await agent.end()).code, 0);
});

const dead = "what a killed subscriber had leased goes to another of its group, in whatever runtime";
test(dead, skipFor(dead, elsewhere), async () => {
  const path = files.next("log");
  using log = Queue.open<number>(path, { groups: true });
  using other = Queue.open<number>(path, { group: "other" });
  for (const runtime of runtimeNames) {
    using here = Queue.open<number>(path, { group: "g" });
    const agent = processes.agent(runtime);
    await agent.send({ do: "open", as: "q", kind: "Queue", path, options: { group: "g" } });
    log.push(1);
    await agent.send({ do: "call", on: "q", method: "lease", as: "lease" });
    assert.equal(here.pop(), undefined);
    assert.deepEqual(log.groups()[0], { name: "g", length: 1, leased: 1, missed: 0 });
    const waiting = here.leaseAsync();
    await agent.kill("SIGKILL");
    const lease = await waiting;
    assert.deepEqual([lease?.value, lease?.attempts], [1, 2]);
    lease?.ack();
    const own = other.lease();
    assert.deepEqual([own?.value, own?.attempts], [1, 1]);
    own?.ack();
  }
});

const removal = "a group is in use for as long as a process lives that has it open";
test(removal, skipFor(removal, elsewhere), async () => {
  const path = files.next("log");
  using log = Queue.open<number>(path, { groups: true });
  for (const runtime of runtimeNames) {
    const agent = processes.agent(runtime);
    await agent.send({ do: "open", as: "q", kind: "Queue", path, options: { group: "g" } });
    assert.throws(() => log.removeGroup("g"), { code: "ERR_LOCKED" });
    await agent.kill("SIGKILL");
    assert.equal(log.removeGroup("g"), true);
  }
});
