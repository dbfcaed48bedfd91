import assert from "node:assert/strict";
import { test } from "node:test";
import { currentRuntime } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { killAtSteps, type StepReport } from "./step.ts";

const name = "killed at the instructions of each native step: nothing lost, nothing torn, no lock stuck";
const elsewhere = currentRuntime === "node" ? undefined : "it is a program in C, which is run under Node only";
// About every 50th here, all of them by `node tests/crash/step.ts`. A prime, so that no loop is met at the same place each time.
const report: StepReport = elsewhere === undefined ? killAtSteps(53) : { skipped: elsewhere };

test(name, skipFor(name, "skipped" in report ? report.skipped : undefined), () => {
  if ("skipped" in report) return;
  console.log(report.output.replace(/^/gm, "# "));
  assert.ok(report.ok, report.output);
  assert.ok(report.deaths > 300, report.output);
});
