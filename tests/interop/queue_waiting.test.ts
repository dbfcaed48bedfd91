/** A consumer that sleeps in one process hears of a push in another, for every ordered pair of runtimes; and what a killed one leaves. */
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

const pairs = "take wakes for a push of any runtime, asleep or not";
test(pairs, skipFor(pairs, elsewhere), async () => {
  const path = files.next("queue");
  Queue.open(path).close();
  const agents = runtimeNames.map((runtime) => processes.agent(runtime));
  await Promise.all(agents.map((agent) => agent.send({ do: "open", as: "q", kind: "Queue", path })));
  for (const consumer of agents) {
    // An agent does one thing after the other: the producer of its own runtime is another one.
    const twin = processes.agent(consumer.runtime);
    await twin.send({ do: "open", as: "q", kind: "Queue", path });
    for (const producer of [...agents.filter((agent) => agent !== consumer), twin]) {
      for (const delay of [0, 120]) {
        const value = `${producer.runtime} to ${consumer.runtime} after ${delay}`;
        const taken = consumer.send({ do: "call", on: "q", method: "take", args: [{ timeoutMs: 20_000 }] });
        await sleep(delay);
        await producer.send({ do: "call", on: "q", method: "push", args: [value] });
        assert.equal(await taken, value);
      }
    }
    assert.equal((await twin.end()).code, 0);
  }
  for (const agent of agents) assert.equal((await agent.end()).code, 0);
});

const killed = "a consumer that is killed while it waits takes nothing along";
test(killed, skipFor(killed, elsewhere), async () => {
  const path = files.next("queue");
  using queue = Queue.open<number>(path);
  for (const runtime of runtimeNames) {
    const agent = processes.agent(runtime);
    await agent.send({ do: "open", as: "q", kind: "Queue", path });
    const taken = assert.rejects(agent.send({ do: "call", on: "q", method: "take" }), /is gone: SIGKILL/);
    const here = queue.take();
    await sleep(150);
    await agent.kill("SIGKILL");
    await taken;
    queue.push(1);
    assert.equal(await here, 1);
    queue.push(2);
    assert.equal(queue.pop(), 2);
  }
});

const ends = "a process that has waited ends by itself";
test(ends, skipFor(ends, elsewhere), async () => {
  const path = files.next("queue");
  const script = files.file(
    `import { Queue } from ${JSON.stringify(new URL("../../mod.ts", import.meta.url).href)};
     const queue = Queue.open(${JSON.stringify(path)});
     setTimeout(() => queue.push("late"), 150);
     for await (const value of queue) { console.log(value); break; }
     await queue.take({ timeoutMs: 120 });`,
    "script.ts",
  );
  for (const runtime of runtimeNames) {
    const { code, stdout, stderr } = await processes.script(runtime, script);
    assert.equal(code, 0, stderr);
    assert.equal(stdout, "late\n");
  }
});
