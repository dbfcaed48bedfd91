import assert from "node:assert/strict";
import { test } from "node:test";
import { currentRuntime } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { stepMissing } from "../crash/step.ts";
import { mutations } from "./mutations.ts";
import { misfits, mutate } from "./run.ts";

test("each mutation still applies to the sources", () => {
  assert.deepEqual(misfits(), []);
  assert.equal(new Set(mutations.map(({ name }) => name)).size, mutations.length);
});

// All of them by `node tests/mutation/run.ts`, in some minutes.
const name = "one mutation is made, and a test turns red";
const elsewhere = currentRuntime === "node" ? stepMissing : "it builds a copy of the checkout and runs tests there, under Node only";
test(name, skipFor(name, elsewhere), () => {
  assert.deepEqual(mutate(mutations.slice(0, 1), (line) => console.log(`# ${line}`)), []);
});
