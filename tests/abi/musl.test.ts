/** The library that glibc loads also loads under musl. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { library, root } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const name = "the library loads and works under musl";

const compiler = spawnSync("musl-gcc", ["--version"], { encoding: "utf8" });
const missing = compiler.status === 0 ? undefined : "there is no musl-gcc (Debian: apt-get install musl-tools)";

test(name, skipFor(name, missing), () => {
  const program = files.next("musl_loader");
  const built = spawnSync("musl-gcc", ["-std=gnu11", "-Wall", "-Wextra", "-o", program, "tests/abi/musl_loader.c"], {
    cwd: root,
    encoding: "utf8",
  });
  assert.equal(built.status, 0, built.stderr);
  const { status, signal, stdout, stderr } = spawnSync(program, [library, files.next()], { encoding: "utf8" });
  assert.equal(stdout, "ok\n", stderr);
  assert.equal(signal, null);
  assert.equal(status, 0);
});
