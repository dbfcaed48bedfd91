/** Power cuts: what was said to be on storage is there. Simulated ones everywhere, real ones where root may mount. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { currentRuntime } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { type CutReport, cutRefusal, cuts, violations } from "./power.ts";
import { pageCuts } from "./power_pages.ts";

const files = temporaryFiles();

function assertKept(reports: readonly CutReport[]): void {
  for (const report of reports) {
    console.log(`# ${JSON.stringify(report)}`);
    if (report.durability === "lie") assert.ok(violations(report) > 0, "a sync that does nothing is not found out");
    else assert.equal(violations(report), 0, JSON.stringify(report));
    assert.ok(report.promised > 0, report.durability);
  }
}

test("simulated power cuts: every record declared durable is there", () => {
  assertKept(pageCuts("queue", files.folder, 40, 1));
});

test("simulated power cuts of a log: there for each of its groups", () => {
  assertKept(pageCuts("log", files.folder, 40, 1));
});

const real = "real power cuts on ext4: every record declared durable is there";
const reason = currentRuntime !== "node" ? "it starts all three runtimes, so it runs under Node only" : cutRefusal();
test(real, skipFor(real, reason), async () => {
  const folder = join(files.folder, "power");
  fs.mkdirSync(folder);
  assertKept(await cuts(folder, 4, 1));
});
