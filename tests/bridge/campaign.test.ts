/** The campaign, small: bridges under all three runtimes, killed with their servers. The large one: node tests/bridge/campaign.ts */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { currentRuntime, root, runtimeNames } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { campaign, type CampaignOptions, directions, problemsOf } from "./campaign.ts";
import { engines, missingServer } from "./servers.ts";

const files = temporaryFiles();
const elsewhere = currentRuntime === "node" ? undefined : "runs under Node only: it starts bridges under all three runtimes itself";
const common = { runtimes: runtimeNames, file: join(root, "examples/data/access_log.txt") } as const;

function folder(): string {
  const path = files.next("campaign");
  fs.mkdirSync(path);
  return path;
}

for (const engine of engines) {
  for (const direction of directions) {
    const faults: CampaignOptions["faults"] = direction === "out" ? { bridge: 2, server: 1, acks: 1 } : { bridge: 2, server: 1 };
    const name = `${engine}, ${direction}: bridges and server killed, acknowledgements lost: each record once and in order`;
    test(name, skipFor(name, elsewhere ?? missingServer(engine)), async () => {
      const report = await campaign({ ...common, engine, direction, records: 4000, faults, folder: folder() });
      assert.deepEqual(problemsOf(report), [], JSON.stringify(report));
    });
  }
}

const bites = "the campaign sees it when a bridge only sends again what was not confirmed";
test(bites, skipFor(bites, elsewhere ?? missingServer("redis")), async () => {
  const report = await campaign({ ...common, engine: "redis", direction: "out", records: 4000, faults: { acks: 2 }, folder: folder(), naive: true });
  assert.ok(report.doubled > 0, JSON.stringify(report));
});
