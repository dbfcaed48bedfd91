/** What one runtime compresses, each of the others reads. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { compressed, Queue } from "../../mod.ts";
import { currentRuntime, runtimeNames } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const processes = children();
const elsewhere = currentRuntime === "node" ? undefined : "it starts all runtimes itself: run under Node only";
const formats = ["gzip", "deflate", "brotli", "zstd"] as const;

const name = "payloads of each format go from each runtime to each other one";
test(name, skipFor(name, elsewhere), async () => {
  const values = ["", "short", "to be or not to be; ".repeat(200), "ü 日本語 🎉".repeat(50)];
  const paths = runtimeNames.map((runtime) => files.next(runtime));
  const script = new URL("../support/compressor.ts", import.meta.url).pathname;
  const plain = JSON.stringify(values);
  // Each runtime writes a queue of its own, in all formats.
  await Promise.all(runtimeNames.map(async (runtime, i) => {
    const ended = await processes.script(runtime, script, "write", plain, paths[i] as string);
    assert.equal(ended.code, 0, ended.stderr);
  }));
  // Each reads all of them.
  await Promise.all(runtimeNames.map(async (runtime) => {
    const ended = await processes.script(runtime, script, "read", plain, ...paths);
    assert.equal(ended.code, 0, ended.stderr);
    assert.equal(ended.stdout.trim(), `${runtime} read ${paths.length * formats.length * values.length}`);
  }));
  // They were packed: or this test would say nothing.
  using queue = Queue.open<Uint8Array>(paths[0] as string, { codec: "bytes" });
  assert.deepEqual([...new Set([...queue].map((payload) => payload[0]))].sort(), [0, 1, 2, 3, 4]);
  using text = Queue.open<string>(paths[1] as string, { codec: compressed("text") });
  assert.deepEqual([...text], formats.flatMap(() => values));
});
