/** The library depends on no C library by name or version: one file for glibc and musl. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { DT, readElf } from "../support/elf.ts";
import { library } from "../support/runtimes.ts";

const elf = readElf(library);

/**
 * What the library may take from the process that loads it. Each is in glibc since 2.17 at the latest, unversioned use
 * included, and in musl since 1.2 (checked with `nm -D` of both). `fstat`, `stat` and their like are not among them: glibc has
 * them only since 2.33.
 */
const ALLOWED = new Set([
  "__errno_location",
  "clock_gettime",
  "fallocate",
  "fcntl",
  "fdatasync",
  "fsync",
  "getauxval",
  "madvise",
  "memcpy",
  "memset",
  "mincore",
  "mlock",
  "mmap",
  "msync",
  "munlock",
  "munmap",
  "raise",
  "readlink",
  "sigaction",
  "syscall",
  "sysconf",
]);

test("no library is needed by name", () => assert.deepEqual(elf.needed, []));

test("no symbol version is needed or defined", () => {
  const tags = elf.dynamic.map(([tag]) => tag);
  for (const tag of [DT.VERNEED, DT.VERSYM, DT.VERDEF]) assert.ok(!tags.includes(tag), `tag 0x${tag.toString(16)}`);
});

test("no search path and no text relocation", () => {
  const tags = elf.dynamic.map(([tag]) => tag);
  for (const tag of [DT.RPATH, DT.RUNPATH, DT.TEXTREL]) assert.ok(!tags.includes(tag), `tag ${tag}`);
});

test("only what glibc and musl both have is taken from the process", () => {
  const undefinedNames = elf.symbols.filter(({ defined }) => !defined).map(({ name }) => name);
  assert.deepEqual(undefinedNames.filter((name) => !ALLOWED.has(name)), []);
  assert.ok(undefinedNames.includes("mmap"), "the reader sees undefined symbols");
});
