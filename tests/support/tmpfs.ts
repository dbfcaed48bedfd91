/** A small file system of one's own, where a test may fill the disk. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import type { TemporaryFiles } from "./temporary.ts";

/** Why no tmpfs can be mounted here; undefined if one can. */
export function mountRefusal(files: TemporaryFiles): string | undefined {
  if (process.getuid?.() !== 0) return "needs root, to mount a tmpfs";
  const folder = files.next("probe");
  fs.mkdirSync(folder);
  const { status, stderr } = spawnSync("mount", ["-t", "tmpfs", "-o", "size=64k", "holdfast-test", folder], { encoding: "utf8" });
  if (status !== 0) return `a tmpfs can't be mounted here: ${stderr?.trim()}`;
  spawnSync("umount", [folder]);
  return undefined;
}

/** Mounts a tmpfs, with `what` of it, and takes it away again. */
export function withTmpfs(files: TemporaryFiles, options: string, what: (folder: string) => void): void {
  const folder = files.next("mount");
  fs.mkdirSync(folder);
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", `mode=0755,${options}`, "holdfast-test", folder], { encoding: "utf8" });
  assert.equal(mounted.status, 0, mounted.stderr);
  try {
    // Never fill the file system that everything else is on.
    assert.notEqual(fs.statSync(folder).dev, fs.statSync(files.folder).dev, "the tmpfs is not mounted");
    what(folder);
  } finally {
    let unmounted = spawnSync("umount", [folder], { encoding: "utf8" });
    // Something that a failed test left open must not leave the mount behind.
    if (unmounted.status !== 0) unmounted = spawnSync("umount", ["--lazy", folder], { encoding: "utf8" });
    assert.equal(unmounted.status, 0, unmounted.stderr);
  }
}
