/**
 * What one runtime writes, another one reads, after the writer was killed. Each runner tests the pairs whose writer it is itself, so
 * that the three runners together test all nine.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { currentRuntime, runtimeNames } from "../support/runtimes.ts";
import { type Agent, children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const processes = children();

/** Starts the writer, lets it write, kills it, and gives what was written to the reader. */
async function handOver(reader: (typeof runtimeNames)[number], write: (agent: Agent) => Promise<void>, read: (agent: Agent) => Promise<void>): Promise<void> {
  const first = processes.agent(currentRuntime);
  const second = processes.agent(reader);
  try {
    await write(first);
    assert.equal((await first.kill("SIGKILL")).signal, "SIGKILL");
    await read(second);
    const { code, stderr } = await second.end();
    assert.equal(code, 0, stderr);
  } finally {
    await Promise.all([first.kill(), second.kill()]);
  }
}

const text = "grüße 日本 🚀";
const bytes = new TextEncoder().encode(text);
const wire = { $bytes: Buffer.from(bytes).toString("base64") };

for (const reader of runtimeNames) {
  test(`mapping: ${currentRuntime} writes, is killed, ${reader} reads`, async () => {
    const path = files.next("mapping");
    await handOver(
      reader,
      async (agent) => {
        await agent.send({ do: "open", as: "m", kind: "Mapping", path, options: { create: true, byteLength: 10_000 } });
        assert.equal(await agent.send({ do: "call", on: "m", method: "pwrite", args: [9000, wire] }), bytes.byteLength);
        assert.equal(await agent.send({ do: "call", on: "m", method: "pwrite", args: [5000, [text, wire]] }), 2 * bytes.byteLength);
        assert.equal(await agent.send({ do: "call", on: "m", method: "atomics.add", args: [8, -5] }), 0);
        assert.equal(await agent.send({ do: "call", on: "m", method: "atomics.store", args: [16, { $bigint: "-9223372036854775807" }] }), -(2n ** 63n) + 1n);
      },
      async (agent) => {
        await agent.send({ do: "open", as: "m", kind: "Mapping", path });
        assert.equal(await agent.send({ do: "get", on: "m", property: "existed" }), true);
        assert.equal(await agent.send({ do: "get", on: "m", property: "byteLength" }), 10_000);
        assert.deepEqual(await agent.send({ do: "call", on: "m", method: "pread", args: [9000, bytes.byteLength] }), bytes);
        const twice = await agent.send({ do: "call", on: "m", method: "pread", args: [5000, 2 * bytes.byteLength] });
        assert.equal(new TextDecoder().decode(twice as Uint8Array), text + text);
        assert.equal(await agent.send({ do: "call", on: "m", method: "atomics.load", args: [8] }), -5);
        assert.equal(await agent.send({ do: "call", on: "m", method: "atomics.add", args: [16, { $bigint: "-2" }] }), -(2n ** 63n) + 1n);
        assert.equal(await agent.send({ do: "call", on: "m", method: "atomics.loadBigInt", args: [16] }), 2n ** 63n - 1n);
        assert.deepEqual(await agent.send({ do: "call", on: "m", method: "pread", args: [0, 8] }), new Uint8Array(8));
      },
    );
  });

  test(`counters: ${currentRuntime} counts, is killed, ${reader} counts on`, async () => {
    const path = files.next("counters");
    await handOver(
      reader,
      async (agent) => {
        await agent.send({ do: "open", as: "c", kind: "Counters", path, options: { names: ["requests", text], count: 3 } });
        await agent.send({ do: "count", on: "c", counter: "requests", times: 1000 });
        assert.equal(await agent.send({ do: "call", on: "c", method: "add", args: [text, { $bigint: "9223372036854775807" }] }), 0n);
        assert.deepEqual(await agent.send({ do: "call", on: "c", method: "declare", args: ["late"] }), [3]);
        assert.equal(await agent.send({ do: "call", on: "c", method: "set", args: ["late", -7] }), 0);
      },
      async (agent) => {
        await agent.send({ do: "open", as: "c", kind: "Counters", path });
        assert.deepEqual(await agent.send({ do: "get", on: "c", property: "names" }), ["requests", text, null, "late"]);
        assert.equal(await agent.send({ do: "call", on: "c", method: "get", args: ["requests"] }), 1000);
        await agent.send({ do: "count", on: "c", counter: 0, times: 500 });
        assert.equal(await agent.send({ do: "call", on: "c", method: "get", args: [0] }), 1500);
        assert.equal(await agent.send({ do: "call", on: "c", method: "getBigInt", args: [text] }), 2n ** 63n - 1n);
        assert.equal(await agent.send({ do: "call", on: "c", method: "sub", args: ["late"] }), -7);
        assert.equal(await agent.send({ do: "call", on: "c", method: "get", args: [3] }), -8);
      },
    );
  });

  test(`queue: ${currentRuntime} pushes and leases, is killed, ${reader} gets all of it`, async () => {
    const path = files.next("queue");
    const values = Array.from({ length: 200 }, (_, i) => ({ number: i, text: `${text} ${i}` }));
    await handOver(
      reader,
      async (agent) => {
        await agent.send({ do: "open", as: "q", kind: "Queue", path, options: { codec: "json" } });
        assert.equal(await agent.send({ do: "call", on: "q", method: "push", args: [{ gone: true }] }), true);
        assert.equal(await agent.send({ do: "call", on: "q", method: "pushMany", args: [values] }), values.length);
        assert.deepEqual(await agent.send({ do: "call", on: "q", method: "pop" }), { gone: true });
        // Two leases that the kill leaves behind, and one that was done with.
        await agent.send({ do: "call", on: "q", method: "lease", as: "first" });
        await agent.send({ do: "call", on: "q", method: "lease", as: "second" });
        await agent.send({ do: "call", on: "q", method: "lease", as: "third" });
        await agent.send({ do: "call", on: "second", method: "ack" });
        assert.deepEqual(await agent.send({ do: "get", on: "first", property: "value" }), values[0]);
        assert.equal(await agent.send({ do: "get", on: "q", property: "length" }), values.length - 1);
      },
      async (agent) => {
        await agent.send({ do: "open", as: "q", kind: "Queue", path, options: { codec: "json" } });
        assert.equal(await agent.send({ do: "get", on: "q", property: "length" }), values.length - 1);
        await agent.send({ do: "call", on: "q", method: "lease", as: "again" });
        assert.deepEqual(await agent.send({ do: "get", on: "again", property: "value" }), values[0]);
        assert.equal(await agent.send({ do: "get", on: "again", property: "attempts" }), 2);
        await agent.send({ do: "call", on: "again", method: "ack" });
        // The third, whose holder is dead too, has lost its turn; all others come in order.
        const rest = (await agent.send({ do: "call", on: "q", method: "popMany", args: [1000] })) as typeof values;
        assert.deepEqual(rest.filter(({ number }) => number !== 2), values.slice(3));
        assert.deepEqual(rest.filter(({ number }) => number === 2), [values[2]]);
        assert.equal(await agent.send({ do: "get", on: "q", property: "isEmpty" }), true);
        assert.equal(await agent.send({ do: "call", on: "q", method: "push", args: [1] }), true);
        assert.equal(await agent.send({ do: "call", on: "q", method: "pop" }), 1);
      },
    );
  });
}

test("errors cross the pairs too: wrong kind, closed, read-only", async () => {
  const path = files.next("counters");
  const agent = processes.agent(currentRuntime);
  try {
    await agent.send({ do: "open", as: "c", kind: "Counters", path, options: { count: 1 } });
    await assert.rejects(agent.send({ do: "open", as: "q", kind: "Queue", path }), (error: { code?: string }) => error.code !== undefined);
    await agent.send({ do: "open", as: "r", kind: "Counters", path, options: { mode: "r" } });
    await assert.rejects(agent.send({ do: "call", on: "r", method: "add", args: [0] }), { code: "ERR_READ_ONLY" });
    await agent.send({ do: "call", on: "c", method: "close" });
    await assert.rejects(agent.send({ do: "call", on: "c", method: "add", args: [0] }), { code: "ERR_CLOSED" });
  } finally {
    await agent.kill();
  }
});
