/** What there is to know of the machine and of a path. */
import * as fs from "node:fs";
import * as os from "node:os";
import process from "node:process";

/** What `look` gives; undefined where a permission of Deno withholds it. */
function permitted<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if ((error as Error).name === "NotCapable") return undefined;
    throw error;
  }
}

/** A variable of the environment; undefined if it is empty, or may not be asked: then the default applies. */
export function environment(name: string): string | undefined {
  const value = permitted(() => process.env[name]);
  return value === "" ? undefined : value;
}

/** The folder for temporary files. */
export function temporaryFolder(): string {
  return permitted(() => os.tmpdir()) ?? "/tmp";
}

/** The machine: the kernel's release, and its CPUs. Undefined if it may not be asked. */
export function machine(): { readonly release: string; readonly cpus: number; readonly model: string } | undefined {
  return permitted(() => ({ release: os.release(), cpus: os.cpus().length, model: os.cpus()[0]?.model ?? "unknown CPU" }));
}

export interface Runtime {
  readonly name: "bun" | "deno" | "node";
  readonly version: string;
}

export function runtime(): Runtime {
  const versions = process.versions as Readonly<Record<string, string | undefined>>;
  const name = versions.bun !== undefined ? "bun" : versions.deno !== undefined ? "deno" : "node";
  return { name, version: versions[name] ?? "unknown" };
}

/** Types of file systems as statfs(2) gives them. Those of the second kind lie on another machine, or go through a process. */
const LOCAL: Readonly<Record<number, string>> = {
  0xef53: "ext4",
  0x01021994: "tmpfs",
  0x58465342: "xfs",
  0x9123683e: "btrfs",
  0x794c7630: "overlay",
  0x2fc12fc1: "zfs",
  0xf2f52010: "f2fs",
  0xca451a4e: "bcachefs",
  0x958458f6: "hugetlbfs",
  0x4d44: "fat",
};
const REMOTE: Readonly<Record<number, string>> = {
  0x6969: "nfs",
  0xff534d42: "cifs",
  0xfe534d42: "smb2",
  0x65735546: "fuse",
  0x01021997: "9p",
  0x00c36400: "ceph",
};

export interface FileSystem {
  readonly name: string;
  readonly remote: boolean;
  readonly freeBytes: number;
  readonly totalBytes: number;
}

/** The file system of a path. Undefined if it may not be asked. */
export function fileSystemOf(path: string): FileSystem | undefined {
  const found = permitted(() => fs.statfsSync(path));
  if (found === undefined) return undefined;
  const { type, bavail, blocks, bsize } = found;
  const magic = type >>> 0;
  const name = LOCAL[magic] ?? REMOTE[magic] ?? `type 0x${magic.toString(16)}`;
  return { name, remote: magic in REMOTE, freeBytes: bavail * bsize, totalBytes: blocks * bsize };
}
