/** Files that are cut short while they are mapped, each in a child: a process that dies is a failed test. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { currentRuntime, root } from "../support/runtimes.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { scenarios } from "../support/truncation.ts";

const files = temporaryFiles();
const processes = children();

for (const name of Object.keys(scenarios)) {
  test(`a file that is cut short: ${name}`, async () => {
    const folder = files.next("folder");
    fs.mkdirSync(folder);
    const { code, signal, stdout, stderr } = await processes.script(currentRuntime, `${root}tests/support/truncation.ts`, name, folder);
    assert.deepEqual({ code, signal }, { code: 0, signal: null }, `${stdout}${stderr}`);
    assert.equal(stdout, "alive\n", stderr);
  });
}

for (const how of ["fault", "kill", "listener"] as const) {
  test(`a SIGBUS that is not the library's goes where it went without it: ${how}`, async () => {
    const script = `${root}tests/support/foreign_fault.ts`;
    const run = (holdfast: string) => processes.script(currentRuntime, script, files.file(new Uint8Array(16_384).fill(1)), holdfast, how);
    const [without, with_] = await Promise.all([run("without"), run("with")]);
    assert.deepEqual([with_.code, with_.signal, with_.stdout], [without.code, without.signal, without.stdout], with_.stderr);
    if (how === "fault") {
      assert.ok(without.code !== 0, "it ends the process");
      assert.equal(with_.stdout, "mapped true\n");
    }
  });
}
