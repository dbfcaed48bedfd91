/** Disks that are full or fail: a clear error, the data untouched, the process alive, the queue usable afterwards. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { currentRuntime } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { mountRefusal, withTmpfs } from "../support/tmpfs.ts";
import { faultRefusal, faults, faultViolations, fillUp, LIMITED, limited, unmappable } from "./disk.ts";
import { cutRefusal, Disk } from "./power.ts";

const files = temporaryFiles();
const onlyNode = currentRuntime === "node" ? undefined : "it is about the files, not the runtime; under Node only";

const tmpfs = "a full tmpfs";
test(tmpfs, skipFor(tmpfs, mountRefusal(files)), () => {
  withTmpfs(files, "size=1m", (folder) => assert.ok(fillUp(folder, "each", files.folder) > 50));
});

const ext4 = "a full ext4";
test(ext4, skipFor(ext4, onlyNode ?? cutRefusal()), () => {
  const folder = join(files.folder, "ext4");
  fs.mkdirSync(folder);
  const disk = new Disk(folder, 8 << 20);
  try {
    disk.mount();
    assert.ok(fillUp(disk.path, "each", folder) > 200);
  } finally {
    disk.unmount();
  }
});

test("a limit on the length of files", () => {
  assert.deepEqual(limited(files.next("queue"), currentRuntime), LIMITED);
});

const unmapped = "new segments for which there is no address space leave no files behind";
test(unmapped, skipFor(unmapped, faultRefusal()), () => {
  const said = unmappable(files.next("queue"), currentRuntime);
  assert.deepEqual(said, { codes: ["ENOMEM", "ENOMEM", "ENOMEM"], files: ["control", "segment-1", "segment-2"], all: true });
});

const stuck = "nor can they be removed: the error is the first one";
test(stuck, skipFor(stuck, faultRefusal()), () => {
  const said = unmappable(files.next("queue"), currentRuntime, false) as { codes: string[]; all: boolean };
  assert.deepEqual(said.codes, ["ENOMEM", "ENOMEM", "ENOMEM"]);
  assert.ok(said.all);
});

const failing = "system calls that fail";
test(failing, skipFor(failing, onlyNode ?? faultRefusal()), async () => {
  const folder = join(files.folder, "faults");
  fs.mkdirSync(folder);
  // All of them by `node tests/crash/disk.ts`.
  const rows = await faults(folder, "node", 179);
  for (const row of rows) {
    if (row.failed > 0) console.log(`# ${JSON.stringify(row)}`);
    assert.equal(faultViolations(row), 0, JSON.stringify(row));
  }
  assert.ok(rows.reduce((sum, row) => sum + row.failed, 0) >= 3);
});
