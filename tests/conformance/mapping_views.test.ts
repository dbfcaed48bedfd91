/** Views: windows of large mappings, what they cost, and that they let go. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { Mapping } from "../../mod.ts";
import { assertError, assertThrows, mapError, rangeError } from "../support/errors.ts";
import { commandLine, currentRuntime, root } from "../support/runtimes.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { untouched } from "../support/untouched.ts";

const files = temporaryFiles();
const processes = children();
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const GiB = 2 ** 30;
const MiB = 2 ** 20;

/** A file without storage of its own. */
function sparse(byteLength: number): string {
  const path = files.file("");
  fs.truncateSync(path, byteLength);
  return path;
}

test("windows of a mapping of more than 64 MiB", () => {
  const path = sparse(200 * MiB);
  const mapping = Mapping.open(path);
  const views: Uint8Array[] = [];
  for (const offset of [0, 1, 4095, 4096, 64 * MiB - 1, 64 * MiB, 100 * MiB + 5, 200 * MiB - 16]) {
    const view = mapping.view(offset, 16);
    assert.equal(view.byteLength, 16);
    mapping.pwrite(offset, "seen");
    assert.equal(text(view.subarray(0, 4)), "seen");
    view[15] = 9;
    assert.equal(mapping.pread(offset + 15, 1)[0], 9);
    mapping.dataView(offset, 16).setUint16(5, 0x1234);
    assert.deepEqual([...view.subarray(5, 7)], [0x12, 0x34]);
    mapping.pwrite(offset, new Uint8Array(16).fill(views.length + 1));
    views.push(view);
  }
  const long = mapping.view(10, 150 * MiB);
  assert.equal(long.byteLength, 150 * MiB);
  assert.equal(long[64 * MiB - 10], 6);
  assert.equal(mapping.view().byteLength, 200 * MiB);
  assert.equal(mapping.view(200 * MiB).byteLength, 0);
  assert.equal(mapping.view(200 * MiB - 1).byteLength, 1);
  mapping.close();
  for (const [i, view] of views.entries()) assert.equal(view[14], [0, 2, 4].includes(i) ? i + 2 : i + 1, `window ${i} after close()`);
});

test("unsafeClose detaches every window", () => {
  const mapping = Mapping.open(sparse(200 * MiB));
  const views = [mapping.view(), mapping.view(5, 10), mapping.view(100 * MiB), mapping.dataView(0, 8), mapping.view(0, 0)];
  mapping.unsafeClose();
  for (const view of views.slice(0, 3)) assert.equal(view.byteLength, 0);
  assert.throws(() => (views[3] as DataView).getUint8(0));
});

test("a sparse file of 16 GiB: copies, views, atomics, lines, streams and flushes above 4 GiB", async () => {
  const size = 16 * GiB;
  const path = sparse(size);
  using mapping = Mapping.open(path);
  using reader = Mapping.open(path, { mode: "r" });
  assert.equal(mapping.byteLength, size);
  const places = [4 * GiB - 3, 4 * GiB + 1, 5 * GiB, 8 * GiB + 4097, size - 10];
  for (const [i, offset] of places.entries()) {
    assert.equal(mapping.pwrite(offset, `place ${i}`), 7);
    assert.equal(text(reader.pread(offset, 7)), `place ${i}`);
    assert.equal(text(reader.view(offset, 7)), `place ${i}`);
    mapping.flush({ offset, length: 7 });
    mapping.advise("willneed", { offset, length: 7 });
  }
  const { atomics } = mapping;
  for (const offset of [4 * GiB + 8, 8 * GiB, size - 24]) {
    assert.equal(atomics.store(offset, 2 ** 40), 2 ** 40);
    assert.equal(atomics.add(offset, 1n), 2n ** 40n);
    assert.equal(reader.atomics.load(offset), 2 ** 40 + 1);
  }
  for (const offset of [size - 7, size, size + 8, 2 ** 53 - 8]) assert.throws(() => atomics.load(offset), RangeError);
  for (const offset of [size - 6, size, 2 ** 53 - 1]) assertThrows(() => mapping.pread(offset, 7), rangeError());
  mapping.pwrite(12 * GiB, "one\ntwo\nthree");
  assert.deepEqual([...reader.lines({ start: 12 * GiB, end: 12 * GiB + 13 })], ["one", "two", "three"]);
  reader.seek(12 * GiB + 4);
  assert.equal(reader.readLine(), "two");
  assert.equal(reader.position, 12 * GiB + 8);
  assert.equal(await new Response(reader.readable({ start: 12 * GiB + 4, end: 12 * GiB + 7 })).text(), "two");
  using held = mapping.lock({ offset: 10 * GiB, length: 5 * GiB });
  assert.ok(held);
  using part = Mapping.open(path, { offset: 8 * GiB + 4097, mode: "r" });
  assert.equal(text(part.view(0, 7)), "place 3");
  assert.equal(mapping.resize(size + 4096), size + 4096);
  assert.equal(text(mapping.pread(places[2] as number, 7)), "place 2");
  assert.equal(mapping.resize(6 * GiB), 6 * GiB);
  assert.equal(text(mapping.view(5 * GiB, 7)), "place 2");
  assertThrows(() => reader.pread(12 * GiB, 3), mapError("ERR_FAULT"));
  assert.equal(reader.refresh(), 6 * GiB);
  assert.equal(text(reader.pread(4 * GiB - 3, 7)), "place 0".slice(0, 4) + text(reader.pread(4 * GiB + 1, 3)));
});

test("views and copies of more than the runtime can have are a clear RangeError", () => {
  const size = 2 ** 43;
  using mapping = Mapping.open(sparse(size), { mode: "r" });
  for (const length of [3 * GiB, 4 * GiB, 4 * GiB + 1, 5 * GiB, 2 ** 40, size]) {
    for (const make of [() => mapping.view(0, length), () => mapping.view(4096, length - 4096), () => mapping.dataView(0, length)]) {
      try {
        const view = make();
        assert.ok(view.byteLength >= length - 4096, "whole, or an error");
        assert.equal(new Uint8Array(view.buffer, view.byteOffset + view.byteLength - 1, 1)[0], 0);
      } catch (error) {
        assertError(error, rangeError(/longer than an ArrayBuffer of this runtime can be/));
        assert.ok(length > 4 * GiB, "4 GiB are possible everywhere");
      }
    }
  }
  assert.equal(mapping.view(size - 10, 10).byteLength, 10);
  // Where the kernel promises any memory, this would be given and then be too much.
  if (fs.readFileSync("/proc/sys/vm/overcommit_memory", "utf8").trim() === "1") return;
  for (const length of [2 ** 42, size]) assertThrows(() => mapping.pread(0, length), rangeError(/more than this runtime can make/));
});

test("writes through views of mode r stay in the view", () => {
  for (const path of [files.file(new Uint8Array(20_000).fill(1)), sparse(100 * MiB)]) {
    const small = fs.statSync(path).size < MiB;
    const work = (): void => {
      using mapping = Mapping.open(path, { mode: "r" });
      using other = Mapping.open(path, { mode: "r" });
      const view = mapping.view(0, 20_000);
      const data = mapping.dataView(8, 16);
      const before = other.pread(0, 20_000);
      view.fill(5);
      data.setBigInt64(0, -1n);
      Atomics.add(new BigInt64Array(view.buffer, view.byteOffset, 100), 50, 1n);
      assert.equal(view[19_999], 5);
      assert.equal(data.getBigInt64(0), -1n);
      assert.deepEqual(other.pread(0, 20_000), before);
      mapping.close();
      view[0] = 9;
      assert.equal(view[0], 9);
      mapping.unsafeClose();
    };
    if (small) untouched(path, work);
    else {
      work();
      assert.equal(fs.statSync(path).blocks, 0, "the file got no storage");
    }
  }
});

test("16 Workers read views of one file", async () => {
  const words = Uint32Array.from({ length: 1 << 18 }, (_, i) => i % 1000);
  const path = files.file(new Uint8Array(words.buffer));
  const sum = words.reduce((all, word) => all + word, 0);
  const workers: Worker[] = [];
  try {
    const results = await Promise.all(Array.from({ length: 16 }, (_, number) => {
      const worker = new Worker(new URL("../support/view_worker.ts", import.meta.url), { workerData: { path, number } });
      workers.push(worker);
      return new Promise((resolve, reject) => {
        worker.once("message", resolve);
        worker.once("error", reject);
      });
    }));
    assert.deepEqual(results, Array.from({ length: 16 }, (_, number) => [sum, 77, number + 1]));
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
  assert.equal(fs.readFileSync(path).readUInt32LE(4), 1);
});

/** Runs view_child.ts with a garbage collector that it can call. */
async function figures(what: "cycles" | "heap"): Promise<Record<string, unknown>> {
  const folder = files.next("folder");
  fs.mkdirSync(folder);
  const [executable, args] = commandLine(currentRuntime, `${root}tests/support/view_child.ts`, what, folder);
  const flag = { bun: undefined, deno: "--v8-flags=--expose-gc", node: "--expose-gc" }[currentRuntime];
  if (flag !== undefined) args.splice(currentRuntime === "deno" ? 1 : 0, 0, flag);
  const { code, signal, stdout, stderr } = await processes.run(executable, args);
  assert.deepEqual({ code, signal }, { code: 0, signal: null }, stderr);
  return JSON.parse(stdout) as Record<string, unknown>;
}

test("10,000 cycles of open, view, close and drop leave mappings and descriptors where they were", async () => {
  const { before, after, most } = await figures("cycles");
  assert.deepEqual(after, before);
  assert.ok((most as number) > 0, "views kept their pages while they were there");
});

test("a view of 64 MiB costs less than 1 MiB of the heap", async () => {
  const { one, many, bytes } = await figures("heap") as Record<string, number>;
  assert.equal(bytes, 64 * MiB);
  assert.ok((one as number) < MiB, `${one} bytes for one`);
  assert.ok((many as number) < MiB, `${many} bytes for a hundred more`);
});
