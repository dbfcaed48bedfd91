import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { root } from "../support/runtimes.ts";

test("docs/format.md shows the layouts as lib/layout has them", () => {
  const document = fs.readFileSync(join(root, "docs/format.md"), "utf8");
  const folder = join(root, "lib/layout");
  let blocks = 0;
  for (const name of fs.readdirSync(folder)) {
    const source = fs.readFileSync(join(folder, name), "utf8");
    const comment = source.slice(0, source.indexOf("*/")).replaceAll(/^ \* ?/gm, "");
    for (const [, block] of comment.matchAll(/```\n(.*?)```/gs)) {
      blocks++;
      assert.ok(document.includes(block as string), `${name} has a diagram that docs/format.md does not have:\n${block}`);
    }
  }
  assert.ok(blocks >= 5, `${blocks} diagrams`);
});
