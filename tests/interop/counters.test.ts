/** Four processes of three runtimes at one counter: nothing is lost, also when one is killed. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Counters, Mapping } from "../../mod.ts";
import { currentRuntime, type RuntimeName } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { type Agent, children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const processes = children();

const TIMES = 1_000_000;
const team: readonly RuntimeName[] = ["bun", "deno", "node", "bun"];
const elsewhere = currentRuntime === "node" ? undefined : "it starts all runtimes itself: run under Node only";

async function startTeam(counters: string): Promise<Agent[]> {
  const agents = team.map((runtime) => processes.agent(runtime));
  await Promise.all(agents.map((agent) => agent.send({ do: "open", as: "c", kind: "Counters", path: counters })));
  return agents;
}

const exact = "four processes add 1,000,000 each: exactly 4,000,000";
test(exact, skipFor(exact, elsewhere), async () => {
  const path = files.next("counters");
  using counters = Counters.open(path, { names: ["hits", "other"] });
  const agents = await startTeam(path);
  try {
    await Promise.all(agents.map((agent) => agent.send({ do: "count", on: "c", counter: "hits", times: TIMES })));
    assert.equal(counters.get("hits"), team.length * TIMES);
    assert.equal(counters.get("other"), 0);
    for (const agent of agents) assert.equal((await agent.end()).code, 0);
  } finally {
    await Promise.all(agents.map((agent) => agent.kill()));
  }
});

const killed = "one of four is killed while it counts: every acknowledged add is there, and at most one more";
test(killed, skipFor(killed, elsewhere), async () => {
  for (const [victim, runtime] of team.slice(0, 3).entries()) {
    const path = files.next("counters");
    const ledgerPath = files.next("ledger");
    using counters = Counters.open(path, { count: 1 });
    // Each child notes its acknowledged adds in a cell of its own.
    using ledger = Mapping.open(ledgerPath, { create: true, byteLength: 4096 });
    const acknowledged = (i: number): number => ledger.atomics.load(i * 128);
    const agents = await startTeam(path);
    try {
      await Promise.all(agents.map((agent) => agent.send({ do: "open", as: "l", kind: "Mapping", path: ledgerPath })));
      const work = agents.map((agent, i) => agent.send({ do: "count", on: "c", counter: 0, times: TIMES, ledger: "l", offset: i * 128 }));
      const dead = assert.rejects(work[victim] as Promise<unknown>, /is gone: SIGKILL/);
      // Killed in the middle of its work, wherever that is.
      while (acknowledged(victim) === 0) await sleep(1);
      await (agents[victim] as Agent).kill("SIGKILL");
      await dead;
      await Promise.all(work.filter((_, i) => i !== victim));

      const sum = team.reduce((total, _, i) => total + acknowledged(i), 0);
      const found = counters.get(0);
      assert.ok(acknowledged(victim) < TIMES, `the ${runtime} process was killed too late for this test to mean anything`);
      assert.ok(found === sum || found === sum + 1, `${found} counted, ${sum} acknowledged`);
    } finally {
      await Promise.all(agents.map((agent) => agent.kill()));
    }
  }
});
