/** Writes or reads queues of compressed texts: `compressor.ts write|read JSON PATH…`. Used by tests/interop/queue_compressed.test.ts. */
import assert from "node:assert/strict";
import { compressed, Queue } from "../../mod.ts";
import { currentRuntime } from "./runtimes.ts";

const [what, json = "[]", ...paths] = process.argv.slice(2);
const values = JSON.parse(json) as string[];
const formats = ["gzip", "deflate", "brotli", "zstd"] as const;
let count = 0;
for (const path of paths) {
  if (what === "write") {
    for (const format of formats) {
      using queue = Queue.open<string>(path, { codec: compressed("text", { format }) });
      count += queue.pushMany(values);
    }
  } else {
    using queue = Queue.open<string>(path, { codec: compressed("text"), mode: "r" });
    const found = [...queue];
    assert.deepEqual(found, formats.flatMap(() => values));
    count += found.length;
  }
}
console.log(`${currentRuntime} ${what} ${count}`);
