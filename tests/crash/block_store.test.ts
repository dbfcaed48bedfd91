/** A store of blocks whose processes are killed. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { currentRuntime } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { blockStorm } from "./block_storm.ts";

const files = temporaryFiles();
const elsewhere = currentRuntime === "node" ? undefined : "it starts all three runtimes, so it runs under Node only";

const storming = "kill storm: every acknowledged store is there, every acknowledged free is free, nothing is half, nothing leaks";
test(storming, skipFor(storming, elsewhere), async () => {
  const folder = join(files.folder, "storm");
  fs.mkdirSync(folder);
  const pairs = [["node", "bun"], ["bun", "deno"], ["deno", "node"]] as const;
  const report = await blockStorm({ folder, blocks: 20_000, kills: 25, pairs, seed: 1 });
  console.log(`# ${JSON.stringify(report)}`);
  const { lost, undead, foreign, damaged, leaked, failures } = report;
  assert.deepEqual({ lost, undead, foreign, damaged, leaked, failures }, { lost: 0, undead: 0, foreign: 0, damaged: 0, leaked: 0, failures: 0 });
  assert.equal(report.stored + report.unacknowledged >= 60_000, true);
  assert.ok(report.unacknowledged <= report.kills);
  assert.ok(report.kills >= 8, `${report.kills} kills`);
});
