/** examples/shared_memory.ts, run for real under each runtime, started from Node. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { commandLine, currentRuntime, root, runtimeNames } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const script = `${root}examples/shared_memory.ts`;
const files = temporaryFiles();
const processes = children();
const reason = currentRuntime === "node" ? undefined : "starts all runtimes itself, from Node";
// The example finds the runtimes as a user's shell does.
const env = { ...process.env, PATH: `${root}node_modules/.bin:${process.env.PATH}` };

for (const [i, runtime] of runtimeNames.entries()) {
  const name = `the shared memory example, ${runtime}`;
  test(name, skipFor(name, reason), async () => {
    const helpers = [runtimeNames[(i + 1) % 3], runtimeNames[(i + 2) % 3]].join();
    const [executable, args] = commandLine(runtime, script, "--count", "20001", "--runtimes", helpers);
    const { code, stdout, stderr } = await processes.run(executable, args, { env });
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^20001 numbers sorted by \w+ and \w+ in \d+ ms\n$/);
  });
}

const missing = "the shared memory example: a runtime that is not installed is one clear line";
test(missing, skipFor(missing, reason), async () => {
  const folder = files.next("path");
  fs.mkdirSync(folder);
  fs.symlinkSync(commandLine("node", "")[0], `${folder}/node`);
  const [executable, args] = commandLine("node", script, "--count", "20", "--runtimes", "node,deno");
  const { code, stderr } = await processes.run(executable, args, { env: { ...process.env, PATH: folder } });
  assert.equal(code, 1, stderr);
  assert.match(stderr, /^shared_memory: .*spawn deno ENOENT/);
  assert.doesNotMatch(stderr, /UnhandledPromiseRejection|triggerUncaught/);
});

const wrong = "the shared memory example: --help, and command lines that make no sense";
test(wrong, skipFor(wrong, reason), async () => {
  const help = await processes.script("node", script, "--help");
  assert.equal(help.code, 0);
  assert.match(help.stdout, /--count[^]*--runtimes/);
  for (const args of [["--count", "1"], ["--count", "x"], ["--runtimes", "bun"], ["--runtimes", "bun,perl"], ["--colour"], ["file"]]) {
    const { code, stderr } = await processes.script("node", script, ...args);
    assert.equal(code, 2, args.join(" "));
    assert.match(stderr, /^shared_memory: .*\nTry --help/m);
  }
});
