/** The programs in README.md and in the guides run as they stand: a reader will copy them. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { currentRuntime, root } from "../support/runtimes.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const processes = children();

/** The programs of a document: its blocks of TypeScript that import holdfast. */
function programs(document: string): string[] {
  const text = fs.readFileSync(join(root, document), "utf8");
  return [...text.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code = ""]) => code).filter((code) => code.includes('from "holdfast"'));
}

/** The program with the checkout's library, and its files in a folder of the test. */
function adapted(code: string): string {
  const folder = files.next("folder");
  fs.mkdirSync(folder);
  // The files first: the checkout may lie in /tmp itself.
  const own = code.replaceAll(/"\/(tmp|run\/shop)\//g, `"${folder}/`);
  return own.replaceAll('"holdfast"', JSON.stringify(join(root, "mod.ts"))).replaceAll('"examples/', `"${root}examples/`);
}

const documents = ["README.md", "docs/block_store.md", "docs/metrics.md", "docs/shared_memory.md", "docs/mapping.md", "docs/queue.md", "docs/queue_groups.md"];

for (const document of documents) {
  test(`the programs in ${document} run`, async () => {
    const found = programs(document);
    assert.ok(found.length > 0, "there is one");
    for (const [i, code] of found.entries()) {
      const script = files.file(adapted(code), `program-${i}.ts`);
      const { code: status, stderr } = await processes.script(currentRuntime, script);
      assert.equal(status, 0, `program ${i + 1} of ${document}:\n${stderr}`);
    }
  });
}
