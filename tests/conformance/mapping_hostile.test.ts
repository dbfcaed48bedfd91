/** Programs that lie, drop what they should keep, and fail half-way. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Mapping } from "../../mod.ts";
import { currentRuntime } from "../support/runtimes.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { assertThrows, mapError, rangeError } from "../support/errors.ts";

const files = temporaryFiles();
const child = children();
const DROPPED = fileURLToPath(new URL("../support/dropped_mapping.ts", import.meta.url));

test("arrays that lie about their length", () => {
  class Liar extends Uint8Array {
    override get byteLength(): number {
      return 1 << 20;
    }
    override get length(): number {
      return 1 << 20;
    }
  }
  using mapping = Mapping.open(files.next(), { create: true, byteLength: 2 << 20 });
  mapping.pwrite(0, "abcdefghij");
  for (const size of [8, 8192]) {
    const target = new Liar(size);
    assert.equal(mapping.preadInto(target, 0), size);
    assert.equal(target[7], 104);
    assert.equal(mapping.pwrite(100, new Liar(size)), size);
    assert.equal(mapping.pwrite(100, [new Liar(size), "x"]), size + 1);
  }
});

test("the memory lives for as long as its atomics do", async () => {
  const ending = await child.script(currentRuntime, DROPPED, files.next());
  assert.equal(ending.signal, null, ending.stderr);
  assert.match(ending.stdout, /alive/, ending.stderr);
});

test("a resize that fails cuts off nothing that another process has added", () => {
  const path = files.next();
  using one = Mapping.open(path, { create: true, byteLength: 4096 });
  using other = Mapping.open(path);
  other.resize(12288);
  other.pwrite(8192, "kept");
  assertThrows(() => one.resize(2 ** 50), mapError("ENOSPC"));
  assert.equal(one.byteLength, 4096);
  assert.equal(one.refresh(), 12288);
  assert.equal(new TextDecoder().decode(one.pread(8192, 4)), "kept");
});

test("a view whose buffer was transferred does not spoil the next", () => {
  using mapping = Mapping.open(files.next(), { create: true, byteLength: 4096 });
  mapping.pwrite(0, "abc");
  const first = mapping.view();
  const taken = structuredClone(first.buffer, { transfer: [first.buffer] });
  assert.equal(first.byteLength, 0);
  assert.equal(mapping.view(0, 3)[1], 98);
  assert.equal(taken.byteLength, 4096);
});

test("atomics of a mapping that starts at an odd byte", () => {
  const path = files.next();
  Mapping.open(path, { create: true, byteLength: 4096 }).close();
  using mapping = Mapping.open(path, { offset: 3 });
  for (const use of [() => mapping.atomics.load(0), () => mapping.atomics.add(8, 1), () => mapping.atomics.add(8, 1n), () => mapping.atomics.notify(0)]) {
    assertThrows(use, rangeError(/aligned/));
  }
});

test("an empty view of a large mapping", () => {
  using mapping = Mapping.anonymous(100 << 20);
  assert.equal(mapping.view(5000, 0).byteLength, 0);
  assert.equal(mapping.view(100 << 20).byteLength, 0);
});

test("resize to the length that is mapped, of a file that was cut short meanwhile", () => {
  const path = files.next();
  using mapping = Mapping.open(path, { create: true, byteLength: 8192 });
  fs.truncateSync(path, 10);
  assert.equal(mapping.resize(8192), 8192);
  assert.equal(fs.statSync(path).size, 8192);
  mapping.pwrite(8000, "there");
  assert.equal(new TextDecoder().decode(mapping.pread(8000, 5)), "there");
});
