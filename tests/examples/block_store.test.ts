/** examples/block_store.ts, run for real, each command under another runtime. All runtimes, started from Node. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { currentRuntime, root, type RuntimeName } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const processes = children();
const script = `${root}examples/block_store.ts`;

async function run(runtime: RuntimeName, ...args: string[]): Promise<{ code: number | null; out: string; errors: string }> {
  const { code, stdout, stderr } = await processes.script(runtime, script, ...args);
  return { code, out: stdout, errors: stderr };
}

const name = "notes are added, listed, removed and verified by programs of three runtimes";
test(name, skipFor(name, currentRuntime === "node" ? undefined : "starts all runtimes itself, from Node"), async () => {
  const path = files.next("notes");
  assert.deepEqual(await run("node", path, "add", "one", "zwei 🚀"), { code: 0, out: "0\n1\n", errors: "" });
  assert.deepEqual(await run("bun", path, "list"), { code: 0, out: "0\tone\n1\tzwei 🚀\n", errors: "" });
  // A new process looks for a free block from anywhere on: which number it gets is not said.
  const { out: third } = await run("deno", path, "add", "three");
  const id = Number(third);
  assert.ok(id > 1);
  assert.equal((await run("deno", path, "latest", "2")).out, `${id}\tthree\n1\tzwei 🚀\n`);
  assert.equal((await run("node", path, "list", "0")).out, `1\tzwei 🚀\n${id}\tthree\n`);
  assert.equal((await run("bun", path, "remove", "1", "1")).out, "1\tremoved\n1\twas not there\n");
  assert.deepEqual(await run("deno", path, "verify"), { code: 0, out: "2 of 64 blocks stored, 0 damaged\n", errors: "" });
  const bytes = fs.readFileSync(path);
  bytes[bytes.indexOf("one")] = 0x4f;
  fs.writeFileSync(path, bytes);
  const { code, out } = await run("node", path, "verify");
  assert.equal(code, 1);
  assert.match(out, /^1 of 64 blocks stored, 1 damaged\n0\t.*checksum/);
  assert.match((await run("bun", path, "list")).errors, /ERR_CORRUPT: block 0 of/);
  assert.equal((await run("node", path, "frobnicate")).code, 2);
  assert.equal((await run("node", files.next("missing"), "list")).code, 1);
});
