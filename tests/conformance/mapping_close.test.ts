/** Closing a mapping whose views are in use. In children: a process that dies is a failed test. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { currentRuntime, root } from "../support/runtimes.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const processes = children();

for (const close of ["close", "unsafeClose"] as const) {
  for (const operation of ["gzip", "writeFile"] as const) {
    test(`${close}() while ${operation} uses a view`, async () => {
      for (const delay of [0, 1, 10]) {
        const script = `${root}tests/support/close_in_use.ts`;
        const { code, signal, stdout, stderr } = await processes.script(currentRuntime, script, files.next(), close, operation, String(delay));
        assert.deepEqual({ code, signal }, { code: 0, signal: null }, `after ${delay} ms: ${stdout}${stderr}`);
        assert.match(stdout, /alive\n$/);
      }
    });
  }
}
