/**
 * Puts a library that comes compressed where it can be loaded: into the user's cache folder, else into the one for temporary files, else
 * on Linux into memory without a name.
 *
 * Invariants:
 *   - Only a file is loaded that belongs to the owner of its folder, that nobody else can write to, and whose bytes were compared with the
 *     library a moment before.
 *   - A file appears under its name whole (rename(2)), once for all programs of the user: the name has the library's checksum.
 *
 * @module
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { builtin, randomBytes } from "../builtins.ts";
import { permitted, userId } from "../permissions.ts";
import type { Adapter } from "./adapter.ts";
import { type Candidate, environment } from "./library.ts";

/** Each place where the library can be put, `bytes` being asked for at the first. */
export function* unpacked(name: string, bytes: () => Uint8Array, adapter: Adapter): Generator<Candidate> {
  let library: Uint8Array | undefined;
  const get = (): Uint8Array => (library ??= bytes());
  for (const folder of folders()) yield { place: `${folder}, unpacked`, file: () => writeOut(folder, name, get()) };
  if (process.platform === "linux") yield { place: "memory, unpacked (memfd_create)", file: () => memoryFile(get(), adapter) };
}

function folders(): string[] {
  const home = environment("HOME");
  const cache = environment("XDG_CACHE_HOME") ?? (home === undefined ? undefined : join(home, ".cache"));
  const temporary = join(environment("TMPDIR") ?? "/tmp", `holdfast-${userId() ?? "user"}`);
  return cache === undefined ? [temporary] : [join(cache, "holdfast"), temporary];
}

const OTHERS_WRITE = 0o022;

function writeOut(folder: string, name: string, bytes: Uint8Array): string {
  for (const kind of ["read", "write"] as const) {
    if (!permitted({ name: kind, path: folder })) throw new Error(`Deno needs --allow-${kind}=${folder}`);
  }
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
  const { uid, mode } = fs.lstatSync(folder);
  if ((mode & OTHERS_WRITE) !== 0) throw new Error("others may write to this folder");
  const path = join(folder, `${builtin("node:crypto").createHash("sha256").update(bytes).digest("hex").slice(0, 16)}-${name}`);
  if (isThere(path, bytes, uid)) return path;
  const temporary = join(folder, `.${randomBytes(8).toString("hex")}.tmp`);
  try {
    const fd = fs.openSync(temporary, fs.constants.O_WRONLY | fs.constants.O_CREAT | fs.constants.O_EXCL, 0o500);
    try {
      fs.writeFileSync(fd, bytes);
      if (fs.fstatSync(fd).uid !== uid) throw new Error("this folder is another user's");
    } finally {
      fs.closeSync(fd);
    }
    fs.renameSync(temporary, path);
  } finally {
    fs.rmSync(temporary, { force: true });
  }
  if (!isThere(path, bytes, uid)) throw new Error("what was written is not what is there");
  return path;
}

/** Whether the file is the library, of this user, and nobody else can change it. */
function isThere(path: string, bytes: Uint8Array, uid: number): boolean {
  let fd: number;
  try {
    fd = fs.openSync(path, fs.constants.O_RDONLY | (fs.constants.O_NOFOLLOW ?? 0));
  } catch {
    return false;
  }
  try {
    const stat = fs.fstatSync(fd);
    if (!stat.isFile() || stat.uid !== uid || (stat.mode & OTHERS_WRITE) !== 0 || stat.size !== bytes.byteLength) return false;
    return fs.readFileSync(fd).equals(bytes);
  } finally {
    fs.closeSync(fd);
  }
}

/** The C library's own calls: there is no other way to such a file from JavaScript. */
const CALLS = {
  memfd_create: { parameters: ["bytes", "i32"], result: "i32" },
  write: { parameters: ["i32", "bytes", "u64"], result: "i32" },
} as const;

const MFD_CLOEXEC = 1;

/** A file in memory (memfd_create(2)), as long as the process lives. */
function memoryFile(bytes: Uint8Array, adapter: Adapter): string {
  const { memfd_create: create, write } = cLibrary(adapter) as Record<keyof typeof CALLS, (...values: unknown[]) => number>;
  const fd = create(new TextEncoder().encode("holdfast\0"), MFD_CLOEXEC);
  if (fd < 0) throw new Error("memfd_create(2) failed");
  for (let done = 0; done < bytes.byteLength; ) {
    // A copy with a buffer of its own: Bun takes addresses of such only.
    const rest = new Uint8Array(bytes.byteLength - done);
    rest.set(bytes.subarray(done));
    const count = write(fd, rest, BigInt(rest.byteLength));
    if (count <= 0) throw new Error("write(2) to memory failed");
    done += count;
  }
  return `/proc/self/fd/${fd}`;
}

/** By the names that glibc and musl give their files. */
function cLibrary(adapter: Adapter): Record<string, unknown> {
  const musl = `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`;
  try {
    return adapter.load("libc.so.6", CALLS);
  } catch (error) {
    try {
      return adapter.load(musl, CALLS);
    } catch {
      throw error;
    }
  }
}
