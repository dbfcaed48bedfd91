import assert from "node:assert/strict";
import { test } from "node:test";
import { currentRuntime } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { everyCall, table } from "./every_call_table.ts";

const name = "killed at native calls of each thing a queue does: nothing lost, nothing torn, no lock stuck";
test(name, skipFor(name, currentRuntime === "node" ? undefined : "it runs 150 children, one for each call; under Node only"), async () => {
  // Some of them here, all by `node tests/crash/every_call_table.ts`. A prime, so that calls that come in turn are all met.
  const rows = await everyCall(11);
  console.log(table(rows).replace(/^/gm, "# "));
  assert.ok(rows.length > 25);
  for (const { scenario, kills } of rows) assert.ok(kills > 0, scenario);
});
