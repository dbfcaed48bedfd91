/** The fleet example, small. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { missingServer } from "../bridge/servers.ts";
import { commandLine, currentRuntime, root } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const processes = children();
const program = join(root, "examples/fleet.ts");

const name = "three machines feed one stream through a server that is restarted midway, and the totals match";
const elsewhere = currentRuntime === "node" ? undefined : "runs under Node only: it starts all three runtimes itself";
test(name, skipFor(name, elsewhere ?? missingServer("nats")), async () => {
  const [executable, args] = commandLine(currentRuntime, program, "--records", "1500", "--away", "300");
  const { code, stdout, stderr } = await processes.run(executable, args, { env: { ...process.env, TMPDIR: files.folder } });
  assert.equal(code, 0, stdout + stderr);
  assert.match(stdout, /the server is killed after \d+ records\nthe server is back/);
  for (const machine of ["node-0", "bun-1", "deno-2"]) assert.match(stdout, new RegExp(`${machine} +1500 +1500 +1500 `));
  assert.match(stdout, /The totals match\./);
  assert.deepEqual(readdirSync(files.folder), []);
});

test("a command line of the fleet that makes no sense is exit code 2", async () => {
  for (const [args, message] of [[["--machines", "0"], /--machines must be a whole number from 1 to 16; received '0'/], [["--file", "/nowhere"], /no '\/nowhere'/], [["--x"], /--x/]] as const) {
    const { code, stderr } = await processes.script(currentRuntime, program, ...args);
    assert.equal(code, 2, stderr);
    assert.match(stderr, message);
  }
});
