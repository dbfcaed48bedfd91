/** The table of goals: of the figures that are in the repository, whole, and the one that README.md shows. No time is asserted, ever. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { readFigures, rowsOf, table } from "../../bench/goals.ts";
import { pipelines } from "../../bench/pipelines.ts";
import { runtimes, workloads } from "../../bench/workloads.ts";
import { root } from "../support/runtimes.ts";

const figures = readFigures(join(root, "bench", "results"));

test("bench: each goal has a figure of a full run, and a verdict", () => {
  assert.deepEqual([figures.own.smoke, figures.queue.smoke, figures.compare.smoke], [false, false, false]);
  const rows = rowsOf(figures);
  const titles = new Set(rows.map(({ what }) => what.replace(/, p\d+$/, "")));
  for (const { title, goals } of workloads) assert.equal(titles.has(title), goals !== undefined, title);
  for (const { title } of pipelines) assert.ok(titles.has(title), title);
  for (const row of rows) {
    assert.equal(typeof row.met, "boolean", JSON.stringify(row));
    assert.match(row.measured, /^[\d,.]+ ?(ns|µs|ms|M\/s|×)$/);
  }
  assert.ok(rows.length >= 10 * runtimes.length);
});

test("bench: README.md shows the table of these figures", () => {
  assert.ok(readFileSync(join(root, "bench", "README.md"), "utf8").includes(table(figures)), "run `npm run bench:goals -- --from bench/results` and put its table there");
});
