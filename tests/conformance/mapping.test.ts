/** Mapping as api.md describes it. Wrong arguments and files: errors.test.ts. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { dirname } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { MapError, Mapping } from "../../mod.ts";
import { assertThrows, mapError, rangeError, typeError } from "../support/errors.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { fingerprint, untouched } from "../support/untouched.ts";

const files = temporaryFiles();
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

test("create makes a file of zeros, reserved, for its owner only", () => {
  const path = files.next();
  using mapping = Mapping.open(path, { create: true, byteLength: 100_000 });
  assert.equal(mapping.existed, false);
  assert.equal(mapping.byteLength, 100_000);
  assert.equal(mapping.writable, true);
  assert.equal(mapping.path, path);
  assert.equal(mapping.closed, false);
  const { size, mode, blocks } = fs.statSync(path);
  assert.equal(size, 100_000);
  assert.equal(mode & 0o777, 0o600);
  assert.ok(blocks * 512 >= 100_000, `${blocks} blocks: a hole, not reserved space`);
  assert.ok(mapping.pread(0, 100_000).every((byte) => byte === 0));
});

test("create opens a file that is there, and keeps its content", () => {
  const path = files.file("content that stays");
  using mapping = Mapping.open(path, { create: true, byteLength: 10 });
  assert.equal(mapping.existed, true);
  assert.equal(mapping.byteLength, 18);
  assert.equal(text(mapping.pread(0, 18)), "content that stays");
});

test("exclusive refuses a file that is there", () => {
  const path = files.file("x");
  untouched(path, () =>
    assertThrows(() => Mapping.open(path, { create: true, exclusive: true, byteLength: 10 }), { ...mapError("EEXIST"), syscall: "open", path }));
  using mapping = Mapping.open(files.next(), { create: true, exclusive: true, byteLength: 10 });
  assert.equal(mapping.existed, false);
});

test("byteLength grows a smaller file with zeros and never shrinks a larger one", () => {
  const path = files.file("abc");
  {
    using mapping = Mapping.open(path, { byteLength: 5000 });
    assert.equal(mapping.byteLength, 5000);
    assert.equal(mapping.existed, true);
    assert.equal(text(mapping.pread(0, 4)), "abc\0");
    assert.ok(mapping.pread(3, 4997).every((byte) => byte === 0));
  }
  assert.equal(fs.statSync(path).size, 5000);
  using mapping = Mapping.open(path, { byteLength: 10 });
  assert.equal(mapping.byteLength, 5000);
});

test("truncate discards what was there", () => {
  const path = files.file("discard me");
  using mapping = Mapping.open(path, { truncate: true, byteLength: 20 });
  assert.equal(mapping.existed, true);
  assert.equal(mapping.byteLength, 20);
  assert.ok(mapping.pread(0, 20).every((byte) => byte === 0));
});

test("permissions are those of a new file, and leave an old one's alone", () => {
  const umask = process.umask(0o022);
  try {
    const path = files.next();
    Mapping.open(path, { create: true, byteLength: 1, permissions: 0o664 }).close();
    assert.equal(fs.statSync(path).mode & 0o7777, 0o644);
    Mapping.open(path, { create: true, byteLength: 1, permissions: 0o600 }).close();
    assert.equal(fs.statSync(path).mode & 0o7777, 0o644);
  } finally {
    process.umask(umask);
  }
});

test("a path can be a file: URL, and any Unicode", () => {
  for (const name of ["plain", "Grüße 日本 🚀 %41 #x ?y", " space ", "new\nline", "ü".repeat(100)]) {
    const path = files.next(name);
    Mapping.open(path, { create: true, byteLength: 8 }).close();
    assert.ok(fs.existsSync(path), name);
    using mapping = Mapping.open(pathToFileURL(path));
    assert.equal(mapping.path, path);
    assert.equal(mapping.existed, true);
  }
});

test("a relative path is one from the working directory", () => {
  const path = files.file("relative");
  const before = process.cwd();
  process.chdir(dirname(path));
  try {
    using mapping = Mapping.open(path.slice(dirname(path).length + 1));
    assert.equal(text(mapping.pread(0, 8)), "relative");
  } finally {
    process.chdir(before);
  }
});

test("what one handle writes another one reads, and so does the file", () => {
  const path = files.file(new Uint8Array(10_000));
  using one = Mapping.open(path);
  using two = Mapping.open(path);
  assert.equal(one.pwrite(5000, "grüße"), 7);
  assert.equal(text(two.pread(5000, 7)), "grüße");
  assert.equal(text(fs.readFileSync(path).subarray(5000, 5007)), "grüße");
  fs.writeFileSync(path, "ab", { flag: "r+" });
  assert.equal(text(one.pread(0, 2)), "ab");
});

test("pwrite takes bytes, text, and lists of both", () => {
  using mapping = Mapping.anonymous(100);
  assert.equal(mapping.pwrite(0, new Uint8Array([1, 2, 3]).subarray(1)), 2);
  assert.deepEqual([...mapping.pread(0, 3)], [2, 3, 0]);
  assert.equal(mapping.pwrite(10, ["a", new Uint8Array([98]), "", new Uint8Array(0), "ç"]), 4);
  assert.equal(text(mapping.pread(10, 4)), "abç");
  assert.equal(mapping.pwrite(10, Buffer.from("xyz")), 3);
  assert.equal(text(mapping.pread(10, 4)), "xyz\xa7".slice(0, 3) + text(new Uint8Array([0xa7])));
  assert.equal(mapping.pwrite(100, ""), 0);
  assert.equal(mapping.pwrite(100, []), 0);
  assert.equal(mapping.pwrite(0, new Uint8Array(0)), 0);
  assert.equal(mapping.pwrite(0, new Uint8Array(100).fill(7)), 100);
  assert.ok(mapping.pread(0, 100).every((byte) => byte === 7));
});

test("pwrite writes nothing unless all of it fits", () => {
  using mapping = Mapping.anonymous(100);
  for (const data of [new Uint8Array(21).fill(1), ["x".repeat(10), "y".repeat(11)]]) {
    assertThrows(() => mapping.pwrite(80, data), rangeError(/21 bytes from offset 80 .* 100 bytes/));
  }
  assertThrows(() => mapping.pwrite(0, ["x", 5 as unknown as string]), typeError(/data\[1\]/));
  assertThrows(() => mapping.pwrite(0, new Uint8Array(101)), rangeError());
  assert.ok(mapping.pread(0, 100).every((byte) => byte === 0));
});

test("pread copies, and preadInto fills what it is given", () => {
  using mapping = Mapping.anonymous(100);
  mapping.pwrite(50, "hello");
  const copy = mapping.pread(50, 5);
  mapping.pwrite(50, "HELLO");
  assert.equal(text(copy), "hello");
  copy[0] = 0;
  assert.equal(text(mapping.pread(50, 5)), "HELLO");
  const target = new Uint8Array(9).fill(0x2e);
  assert.equal(mapping.preadInto(target.subarray(2, 7), 50), 5);
  assert.equal(text(target), "..HELLO..");
  assert.equal(mapping.preadInto(new Uint8Array(0), 100), 0);
  assert.equal(mapping.pread(100, 0).byteLength, 0);
  assert.equal(mapping.pread(0, 0).byteLength, 0);
});

test("a view is the memory itself", () => {
  const path = files.file(new Uint8Array(10_000));
  using one = Mapping.open(path);
  using two = Mapping.open(path);
  const view = one.view();
  assert.equal(view.byteLength, 10_000);
  two.pwrite(9_999, new Uint8Array([5]));
  assert.equal(view[9_999], 5, "a view sees what another handle writes");
  view[0] = 6;
  assert.equal(two.pread(0, 1)[0], 6);
  const part = one.view(9_990, 10);
  assert.equal(part.byteLength, 10);
  assert.equal(part[9], 5);
  assert.equal(one.view(9_000).byteLength, 1000);
  assert.equal(one.view(10_000).byteLength, 0);
  const data = one.dataView(8, 8);
  data.setUint16(0, 0x1234);
  assert.deepEqual([...two.pread(8, 2)], [0x12, 0x34]);
  assert.equal(data.byteLength, 8);
});

test("views stay readable after close", async () => {
  const path = files.file("still here".padEnd(5000, "."));
  let view: Uint8Array | undefined;
  let data: DataView | undefined;
  {
    using mapping = Mapping.open(path);
    view = mapping.view(0, 10);
    data = mapping.dataView(0, 10);
  }
  for (let i = 0; i < 20; i++) {
    // Garbage, so that a collection would take the mapping's object.
    Array.from({ length: 1000 }, () => new Uint8Array(1000));
    await new Promise((resolve) => setTimeout(resolve, 1));
    (globalThis as { gc?: () => void }).gc?.();
    assert.equal(text(view), "still here");
    assert.equal(data.getUint8(0), 0x73);
  }
  fs.writeFileSync(path, "STILL", { flag: "r+" });
  assert.equal(text(view), "STILL here", "it is the file still");
});

test("mode r reads, refuses to write, and never changes the file", () => {
  const path = files.file("read only");
  untouched(path, () => {
    using mapping = Mapping.open(path, { mode: "r" });
    assert.equal(mapping.writable, false);
    assert.equal(text(mapping.pread(0, 9)), "read only");
    assertThrows(() => mapping.pwrite(0, "x"), { ...mapError("ERR_READ_ONLY", /mode "rw"/), path });
    const view = mapping.view();
    view[0] = 0x58; // a private copy, not a dead process
    assert.equal(view[0], 0x58);
    mapping.flush();
  });
});

test("mode r sees what others write", () => {
  const path = files.file("before");
  using reader = Mapping.open(path, { mode: "r" });
  using writer = Mapping.open(path);
  writer.pwrite(0, "after!");
  assert.equal(text(reader.pread(0, 6)), "after!");
});

test("anonymous memory is zeroed and has no path", async () => {
  using mapping = Mapping.anonymous(10_000);
  assert.equal(mapping.path, undefined);
  assert.equal(mapping.existed, false);
  assert.equal(mapping.writable, true);
  assert.equal(mapping.byteLength, 10_000);
  assert.ok(mapping.view().every((byte) => byte === 0));
  mapping.pwrite(9_999, "x");
  mapping.flush();
  await mapping.flushAsync();
});

test("pageSize is the machine's", () => {
  using mapping = Mapping.anonymous(1);
  assert.ok(Number.isInteger(Math.log2(mapping.pageSize)));
  assert.ok(mapping.pageSize >= 4096);
});

test("flush and flushAsync", async () => {
  const path = files.file(new Uint8Array(20_000));
  using mapping = Mapping.open(path);
  mapping.pwrite(4097, "flushed");
  mapping.flush();
  mapping.flush({ offset: 4097, length: 7 });
  mapping.flush({ offset: 19_999 });
  mapping.flush({ offset: 20_000 });
  mapping.flush({ length: 0 });
  mapping.flush({ async: true });
  assert.equal(await mapping.flushAsync(), undefined);
  for (const options of [{ offset: 20_001 }, { offset: 1, length: 20_000 }, { offset: -1 }, { length: 0.5 }, { offset: 2 ** 53 }]) {
    assertThrows(() => mapping.flush(options), rangeError(), JSON.stringify(options));
  }
  assertThrows(() => mapping.flush({ offset: "1" as unknown as number }), typeError());
  assertThrows(() => mapping.flush({ wait: true } as object), typeError(/"wait"/));
  assertThrows(() => mapping.flush(1 as unknown as object), typeError());
});

test("close is idempotent, and using closes", () => {
  const path = files.file("x");
  const mapping = Mapping.open(path);
  mapping.close();
  mapping.close();
  mapping[Symbol.dispose]();
  assert.equal(mapping.closed, true);
  let kept: Mapping;
  {
    using scoped = Mapping.open(path);
    kept = scoped;
    assert.equal(kept.closed, false);
  }
  assert.equal(kept.closed, true);
});

test("opening and closing leaves no descriptor behind", () => {
  const path = files.file(new Uint8Array(100));
  const open = (): number => fs.readdirSync("/proc/self/fd").length;
  Mapping.open(path).close();
  const before = open();
  for (let i = 0; i < 50; i++) {
    Mapping.open(path).close();
    try {
      Mapping.open(path, { mode: "r", byteLength: 200 });
    } catch (error) {
      assert.ok(error instanceof RangeError);
    }
    try {
      Mapping.open(files.folder);
    } catch (error) {
      assert.ok(error instanceof MapError);
    }
  }
  assert.ok(open() <= before, "fewer is right: a collection may close what a test before has dropped");
});

test("closing unmaps", () => {
  const path = files.file(new Uint8Array(1 << 20), "closing-unmaps");
  const mapped = (): number => fs.readFileSync("/proc/self/maps", "utf8").split("\n").filter((line) => line.endsWith("closing-unmaps")).length;
  const mapping = Mapping.open(path);
  assert.equal(mapped(), 1);
  mapping.close();
  assert.equal(mapped(), 0);
});

test("a file cut short by someone else is ERR_FAULT, not a dead process", () => {
  const path = files.file(new Uint8Array(20_000).fill(1));
  using mapping = Mapping.open(path);
  fs.truncateSync(path, 0);
  for (let i = 0; i < 100; i++) {
    assertThrows(() => mapping.pread(0, 10), { ...mapError("ERR_FAULT", /cut short/), path });
    assertThrows(() => mapping.preadInto(new Uint8Array(10), 10_000), mapError("ERR_FAULT"));
    assertThrows(() => mapping.pwrite(19_000, "x"), mapError("ERR_FAULT"));
  }
  // All of it, whatever becomes of the file, until the file is taken in anew.
  fs.truncateSync(path, 20_000);
  assertThrows(() => mapping.pread(0, 3), { ...mapError("ERR_FAULT", /refresh\(\)/), path });
  assert.equal(mapping.refresh(), 20_000);
  assert.deepEqual([...mapping.pread(0, 3)], [0, 0, 0]);
  assert.equal(mapping.pwrite(19_000, "x"), 1);
});

test("many handles of one file at once", () => {
  const path = files.file(new Uint8Array(8));
  const handles = Array.from({ length: 200 }, () => Mapping.open(path));
  handles.forEach(({ atomics }, i) => assert.equal(atomics.add(0, 1), i));
  handles.forEach((handle) => handle.close());
  assert.equal(fs.readFileSync(path).readBigInt64LE(), 200n);
});

test("creating takes nothing from a file that lost the race to another creator", () => {
  const path = files.next();
  const first = Mapping.open(path, { create: true, byteLength: 16 });
  first.pwrite(0, "first");
  const before = fingerprint(path);
  using second = Mapping.open(path, { create: true, byteLength: 16 });
  assert.equal(second.existed, true);
  assert.equal(fingerprint(path), before);
  first.close();
});
