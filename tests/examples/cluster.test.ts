/** The cluster example, small: each runtime once as the servers' and once as what starts them. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { commandLine, currentRuntime, root, type RuntimeName, runtimeNames } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { children, type Ending } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const processes = children();
const program = join(root, "examples/cluster.ts");
const elsewhere = currentRuntime === "node" ? undefined : "runs under Node only: it starts all three runtimes itself";

function cluster(parent: RuntimeName, ...args: string[]): Promise<Ending> {
  const [executable, all] = commandLine(parent, program, ...args);
  return processes.run(executable, all, { env: { ...process.env, TMPDIR: files.folder } });
}

for (const [i, servers] of runtimeNames.entries()) {
  const parent = runtimeNames[(i + 1) % runtimeNames.length] as RuntimeName;
  const name = `${servers} servers, started by ${parent}: what they counted is what the clients got, one of them killed`;
  test(name, skipFor(name, elsewhere), async () => {
    const { code, stdout, stderr } = await cluster(parent, "--runtime", servers, "--processes", "2", "--seconds", "1", "--requests", "1000");
    assert.equal(code, 0, stdout + stderr);
    assert.match(stdout, /The metrics match the responses\./);
    assert.match(stdout, /own client, no kill +1000 +1000 +0 +ok/);
    const killed = /own client, a server killed +(\d+) +(\d+) +(\d+) +ok/.exec(stdout);
    assert.ok(Number(killed?.[1]) > 100 && Number(killed?.[3]) <= 40, stdout);
    assert.match(stdout, /process 0: [1-9]\d* requests, started 2 times/);
    assert.match(stdout, /process 1: [1-9]\d* requests, started 1 times/);
    assert.match(stdout, /wrk, a server killed +[1-9]\d* +\d+ +16 +ok|wrk is not installed/);
    assert.deepEqual(readdirSync(files.folder), []);
  });
}

const usage = "a command line that makes no sense is exit code 2 and a clear error";
test(usage, skipFor(usage, elsewhere), async () => {
  for (const [args, message] of [[["--processes", "0"], /--processes must be a whole number from 1 to 64; received '0'/], [["--runtime", "perl"], /perl/], [["--x"], /--x/]] as const) {
    const { code, stdout, stderr } = await cluster("node", ...args);
    assert.equal(code, 2, stderr);
    assert.equal(stdout, "");
    assert.match(stderr, message);
  }
  const { code, stdout } = await cluster("node", "--help");
  assert.equal(code, 0);
  for (const option of ["runtime", "processes", "seconds", "requests", "port"]) assert.match(stdout, new RegExp(`--${option}`));
});
