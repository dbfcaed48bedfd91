import assert from "node:assert/strict";
import { test } from "node:test";
import { explore, mutants, small } from "./protocol.ts";

// The larger ones by `node tests/model/protocol.ts`.
for (const configuration of small) {
  test(`model: ${configuration.name}`, () => {
    const { states, depth, violation, trace } = explore(configuration, 100_000);
    assert.equal(violation, undefined, [...trace, violation].join("\n"));
    assert.ok(states > (configuration.strict === true ? 100 : 1000), `only ${states} states`);
    console.log(`# ${states} states, up to ${depth} steps deep`);
  });
}

for (const configuration of mutants) {
  test(`model, wrong on purpose: ${configuration.name}`, () => {
    const { violation, trace } = explore(configuration, 100_000);
    assert.notEqual(violation, undefined, "nothing was found");
    assert.ok(trace.length > 0);
  });
}
