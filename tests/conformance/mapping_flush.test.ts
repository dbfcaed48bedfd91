/** flush, flushAsync, advise and resident. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { type Advice, Mapping } from "../../mod.ts";
import { assertError, assertRejects, assertThrows, mapError, rangeError, typeError } from "../support/errors.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const hints: readonly Advice[] = [
  "normal", "random", "sequential", "willneed", "dontneed", "hugepage", "nohugepage", "cold", "pageout",
  "populate-read", "populate-write", "dontdump", "dodump", "dontfork", "dofork",
];

test("flush of any range of a mapping of any offset", async () => {
  for (const offset of [0, 1, 4096, 4097]) {
    const path = files.file(new Uint8Array(50_000));
    using mapping = Mapping.open(path, { offset });
    const size = mapping.byteLength;
    mapping.pwrite(0, new Uint8Array(size).fill(3));
    for (const [at, length] of [[0, 1], [0, size], [4095, 2], [4096, 4096], [size - 1, 1], [size, 0], [0, 0], [12_345, 20_000]] as const) {
      mapping.flush({ offset: at, length });
      mapping.flush({ offset: at, length, async: true });
      mapping.flush({ offset: at });
    }
    mapping.flush({ length: 5 });
    await mapping.flushAsync();
    assert.ok(fs.readFileSync(path).subarray(offset).every((byte) => byte === 3));
    assertThrows(() => mapping.flush({ offset: size + 1 }), rangeError());
    assertThrows(() => mapping.flush({ offset: 1, length: size }), rangeError());
    assertThrows(() => mapping.flush({ async: 1 } as object), typeError(/"async"/));
  }
});

test("flush and flushAsync have nothing to do in mode r and in memory", async () => {
  const path = files.file("content");
  for (const mapping of [Mapping.open(path, { mode: "r" }), Mapping.open(path, { sharing: "private" }), Mapping.anonymous(10_000)]) {
    mapping.view()[0] = 1;
    mapping.flush();
    await mapping.flushAsync();
    assertThrows(() => mapping.flush({ offset: 20_000 }), rangeError());
    mapping.close();
  }
  assert.equal(fs.readFileSync(path, "utf8"), "content");
});

test("flushAsync does not block, many run at once, and close, resize or unsafeClose may come in between", async () => {
  const path = files.file(new Uint8Array(4 << 20));
  for (const end of ["close", "unsafeClose", "resize", "refresh"] as const) {
    const mapping = Mapping.open(path);
    mapping.view().fill(4);
    let ticks = 0;
    const timer = setInterval(() => ticks++, 0);
    const flushes = Array.from({ length: 20 }, () => mapping.flushAsync());
    const reused = [mapping[end](), ...Array.from({ length: 10 }, () => fs.openSync("/dev/null", "r"))];
    assert.deepEqual(await Promise.all(flushes), Array(20).fill(undefined));
    clearInterval(timer);
    for (const fd of reused.slice(1)) fs.closeSync(fd as number);
    mapping.close();
    await assertRejects(() => mapping.flushAsync(), mapError("ERR_CLOSED"));
  }
  const open = (): number => fs.readdirSync("/proc/self/fd").length;
  const before = open();
  for (let i = 0; i < 20; i++) {
    const mapping = Mapping.open(path);
    const flushed = mapping.flushAsync();
    mapping.close();
    await flushed;
  }
  assert.ok(open() <= before, "fewer is right: a collection may close what a test before has dropped");
});

test("every hint can be given, or says EOPNOTSUPP with its name, and no byte changes", () => {
  const content = Uint8Array.from({ length: 50_000 }, (_, i) => i % 251);
  const path = files.file(content);
  const kinds: readonly (readonly [string, () => Mapping])[] = [
    ["shared", () => Mapping.open(path)],
    ["read-only", () => Mapping.open(path, { mode: "r" })],
    ["private", () => Mapping.open(path, { sharing: "private" })],
    ["anonymous", () => Mapping.anonymous(50_000)],
    ["anonymous and private", () => Mapping.anonymous(50_000, { sharing: "private" })],
  ];
  for (const [kind, make] of kinds) {
    const given: string[] = [];
    for (const hint of hints) {
      using mapping = make();
      // What was written and is not in the file is what a careless hint would lose.
      if (kind === "private" || kind.startsWith("anonymous")) mapping.pwrite(0, content);
      if (kind === "read-only") mapping.view()[5] = 200;
      const before = mapping.view().slice();
      if (kind === "read-only" && hint === "populate-write") {
        assertThrows(() => mapping.advise(hint), { ...mapError("ERR_READ_ONLY"), path });
        continue;
      }
      for (const range of [{}, { offset: 1 }, { offset: 4095, length: 2 }, { offset: 50_000 }, { length: 0 }]) {
        try {
          mapping.advise(hint, range);
          given.push(hint);
        } catch (error) {
          assertError(error, mapError("EOPNOTSUPP", new RegExp(`"${hint}"`)));
        }
        assert.deepEqual(mapping.pread(0, 50_000), before, `${hint} of ${kind}`);
      }
    }
    for (const hint of ["normal", "random", "sequential", "willneed", "dontdump", "dodump", "dontfork", "dofork"]) {
      assert.ok(given.includes(hint), `${hint} of ${kind}`);
    }
    assert.equal(given.includes("dontneed"), kind === "shared");
  }
  assert.deepEqual(new Uint8Array(fs.readFileSync(path)), content);
});

test("advise checks its arguments", () => {
  using mapping = Mapping.anonymous(100);
  assertThrows(() => mapping.advise("remove" as Advice), rangeError(/"normal" or "random"/));
  assertThrows(() => mapping.advise("free" as Advice), rangeError());
  for (const hint of [undefined, 4, null, {}]) assertThrows(() => mapping.advise(hint as unknown as Advice), typeError(/"hint"/));
  for (const range of [{ offset: 101 }, { offset: 1, length: 100 }, { offset: -1 }, { length: 0.5 }]) {
    assertThrows(() => mapping.advise("normal", range), rangeError(), JSON.stringify(range));
  }
  assertThrows(() => mapping.advise("normal", { start: 1 } as object), typeError(/"start"/));
});

test("resident counts the pages in memory", () => {
  const page = 4096;
  using mapping = Mapping.anonymous(100 * page);
  assert.equal(mapping.resident(), 0);
  mapping.pwrite(0, "x");
  mapping.pwrite(50 * page - 1, "yz");
  assert.equal(mapping.resident(), 3 * page);
  mapping.pwrite(0, new Uint8Array(100 * page));
  assert.equal(mapping.resident(), 100 * page);
  using odd = Mapping.open(files.file(new Uint8Array(page + 1)), { offset: 100 });
  assert.equal(odd.resident(), 2 * page, "whole pages");
  const path = files.file("");
  fs.truncateSync(path, 2 ** 30);
  using hole = Mapping.open(path);
  assert.equal(hole.resident(), 0);
  assert.equal(text(hole.pread(2 ** 29, 2)), "\0\0");
  assert.ok(hole.resident() >= page);
});
