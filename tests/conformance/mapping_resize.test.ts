/** Mapping.resize and refresh. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { Mapping } from "../../mod.ts";
import { assertThrows, mapError, rangeError, typeError } from "../support/errors.ts";
import { runtimeNames } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { mountRefusal, withTmpfs } from "../support/tmpfs.ts";
import { untouched } from "../support/untouched.ts";

const files = temporaryFiles();
const processes = children();
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

test("grow keeps the content, adds zeros, and reserves their storage", () => {
  const path = files.file("start".padEnd(1000, "."));
  using mapping = Mapping.open(path);
  for (const size of [1001, 4096, 4097, 100_000]) {
    assert.equal(mapping.resize(size), size);
    assert.equal(mapping.byteLength, size);
    assert.equal(fs.statSync(path).size, size);
    assert.equal(text(mapping.pread(0, 6)), "start.");
    assert.ok(mapping.pread(1000, size - 1000).every((byte) => byte === 0));
  }
  assert.ok(fs.statSync(path).blocks * 512 >= 100_000);
  mapping.pwrite(99_999, "!");
  assert.equal(fs.readFileSync(path)[99_999], 0x21);
});

test("shrink cuts the file, and what comes back is zeros", () => {
  const path = files.file(new Uint8Array(100_000).fill(7));
  using mapping = Mapping.open(path);
  assert.equal(mapping.resize(5000), 5000);
  assert.equal(fs.statSync(path).size, 5000);
  assert.throws(() => mapping.pread(5000, 1), RangeError);
  assert.equal(mapping.resize(100_000), 100_000);
  const bytes = mapping.pread(0, 100_000);
  assert.ok(bytes.subarray(0, 5000).every((byte) => byte === 7));
  assert.ok(bytes.subarray(5000).every((byte) => byte === 0));
  assert.equal(mapping.resize(1), 1);
  assert.equal(mapping.resize(1), 1, "nothing to do is no error");
});

test("without a size it doubles below growthLimit and adds it above", () => {
  for (const make of [() => Mapping.open(files.file(new Uint8Array(1000)), { growthLimit: 3000 }), () => Mapping.anonymous(1000, { growthLimit: 3000 })]) {
    using mapping = make();
    const sizes = Array.from({ length: 5 }, () => mapping.resize());
    assert.deepEqual(sizes, [2000, 4000, 7000, 10_000, 13_000]);
    assert.equal(mapping.byteLength, 13_000);
  }
  using mapping = Mapping.anonymous(64 << 20, { reserve: false });
  assert.equal(mapping.resize(), 128 << 20, "64 MiB is the default");
  using exact = Mapping.anonymous(3000, { growthLimit: 3000 });
  assert.equal(exact.resize(), 6000);
});

test("refusals: fixedSize, private, mode r, lengths that are none", () => {
  const path = files.file("content");
  untouched(path, () => {
    using fixed = Mapping.open(path, { fixedSize: true });
    for (const size of [undefined, 1, 7, 100]) assertThrows(() => fixed.resize(size), { ...mapError("ERR_FIXED_SIZE", /"fixedSize"/), path });
    using whole = Mapping.open(path, { sharing: "private" });
    for (const size of [undefined, 1, 100]) assertThrows(() => whole.resize(size), { ...mapError("EOPNOTSUPP", /private/), path });
    using reader = Mapping.open(path, { mode: "r" });
    for (const size of [undefined, 1, 100]) assertThrows(() => reader.resize(size), { ...mapError("ERR_READ_ONLY", /mode "rw"/), path });
    using mapping = Mapping.open(path);
    for (const size of [0, -1, 0.5, NaN, Infinity, 2 ** 53]) assertThrows(() => mapping.resize(size), rangeError(/"byteLength"/), String(size));
    for (const size of ["1", 1n, null, {}]) assertThrows(() => mapping.resize(size as number), typeError(/"byteLength"/));
    for (const size of [2 ** 52, Number.MAX_SAFE_INTEGER]) {
      assert.throws(() => mapping.resize(size), (error: { code?: string }) => ["EFBIG", "ENOSPC", "ENOMEM"].includes(error.code as string));
    }
    assert.equal(text(mapping.pread(0, 7)), "content");
  });
  using memory = Mapping.anonymous(100, { fixedSize: true });
  assertThrows(() => memory.resize(), mapError("ERR_FIXED_SIZE"));
  using other = Mapping.anonymous(100);
  other.pwrite(0, "x");
  assertThrows(() => other.resize(Number.MAX_SAFE_INTEGER), mapError("ENOMEM"));
  assert.equal(text(other.pread(0, 1)), "x", "a refusal leaves all as it was");
});

test("anonymous memory keeps its content; views of before keep the bytes of that moment", () => {
  using mapping = Mapping.anonymous(5000);
  mapping.pwrite(0, "first");
  mapping.pwrite(4990, "last");
  const view = mapping.view();
  mapping.resize(100_000);
  assert.equal(text(mapping.pread(0, 5)), "first");
  assert.equal(text(mapping.pread(4990, 4)), "last");
  assert.ok(mapping.pread(5000, 95_000).every((byte) => byte === 0));
  mapping.pwrite(0, "FIRST");
  assert.equal(text(view.subarray(0, 5)), "first");
  assert.equal(view.byteLength, 5000);
  view[0] = 1;
  mapping.resize(3);
  assert.equal(text(mapping.pread(0, 3)), "FIR");
  assert.equal(text(view.subarray(4990, 4994)), "last");
});

test("views of a file made before stay valid, through grow, shrink and close", () => {
  const path = files.file("begin".padEnd(20_000, "."));
  const mapping = Mapping.open(path);
  const views: Uint8Array[] = [mapping.view()];
  for (const size of [40_000, 100, 9000, 70_000]) {
    mapping.resize(size);
    views.push(mapping.view());
    mapping.pwrite(0, `size ${size}`);
    for (const view of views) {
      assert.equal(text(view.subarray(0, 8)), `size ${size}`.slice(0, 8));
      // Behind the file's end: zeros, and no dead process.
      assert.equal(typeof view[view.byteLength - 1], "number");
    }
  }
  assert.deepEqual(views.map(({ byteLength }) => byteLength), [20_000, 40_000, 100, 9000, 70_000]);
  mapping.close();
  assert.equal(text((views[0] as Uint8Array).subarray(0, 8)), "size 700");
});

test("unsafeClose detaches views of before a resize as well", () => {
  const mapping = Mapping.open(files.file(new Uint8Array(5000)));
  const before = mapping.view();
  mapping.resize(10_000);
  const after = mapping.view();
  mapping.unsafeClose();
  assert.equal(after.byteLength, 0);
  assert.equal(before.byteLength, 0);
});

test("the atomics object and the cursor go on", () => {
  const path = files.file(new Uint8Array(1000));
  using mapping = Mapping.open(path);
  const { atomics } = mapping;
  atomics.store(0, 5);
  mapping.seek(900);
  mapping.resize(100_000);
  assert.equal(mapping.atomics, atomics);
  assert.equal(atomics.add(0, 1), 5);
  assert.equal(atomics.store(99_992, 7), 7);
  assert.equal(mapping.position, 900);
  mapping.resize(500);
  assert.equal(mapping.position, 500, "within the mapping");
  assert.equal(mapping.read(1), undefined);
  assert.throws(() => atomics.load(504), RangeError);
  assert.equal(atomics.load(0), 6);
});

test("a wait goes on through a resize", async () => {
  using mapping = Mapping.open(files.file(new Uint8Array(1000)));
  const waited = mapping.atomics.wait(8, 0, { timeoutMs: 10_000 });
  await new Promise((resolve) => setTimeout(resolve, 5));
  mapping.resize(50_000);
  mapping.atomics.store(8, 1);
  assert.equal(await waited, "ok");
});

test("an iteration and a stream see the end that they started with, or an error", async () => {
  const lines = Array.from({ length: 30_000 }, (_, i) => `line ${i}`);
  const path = files.file(lines.join("\n"));
  using mapping = Mapping.open(path);
  const size = mapping.byteLength;
  const iterator = mapping.lines()[Symbol.iterator]();
  assert.equal(iterator.next().value, "line 0");
  const reader = mapping.readable({ chunkSize: 1000 }).getReader();
  assert.equal((await reader.read()).value?.byteLength, 1000);
  mapping.resize(size * 2);
  assert.equal((await reader.read()).value?.byteLength, 1000);
  assert.equal(iterator.next().value, "line 1");
  mapping.resize(1500);
  assert.throws(() => { for (let i = 0; i < 40_000; i++) if (iterator.next().done === true) return; }, RangeError);
  await assert.rejects(async () => { for (;;) if ((await reader.read()).done) return; }, RangeError);
});

test("other handles, in every runtime, see it after refresh()", async () => {
  const path = files.file("content".padEnd(5000, "."));
  using mapping = Mapping.open(path);
  await Promise.all(runtimeNames.map(async (runtime) => {
    const agent = processes.agent(runtime);
    await agent.send({ do: "open", as: "m", kind: "Mapping", path, options: { mode: runtime === "bun" ? "r" : "rw" } });
    assert.equal(await agent.send({ do: "get", on: "m", property: "byteLength" }), 5000);
    return agent;
  })).then(async (agents) => {
    mapping.resize(50_000);
    mapping.pwrite(49_995, "grown");
    for (const agent of agents) {
      assert.equal(await agent.send({ do: "get", on: "m", property: "byteLength" }), 5000);
      assert.equal(await agent.send({ do: "call", on: "m", method: "refresh" }), 50_000);
      assert.equal(text((await agent.send({ do: "call", on: "m", method: "pread", args: [49_995, 5] })) as Uint8Array), "grown");
    }
    mapping.resize(3000);
    for (const agent of agents) {
      await assert.rejects(agent.send({ do: "call", on: "m", method: "pread", args: [45_000, 5] }), { code: "ERR_FAULT" });
      assert.equal(await agent.send({ do: "call", on: "m", method: "refresh" }), 3000);
      assert.equal(text((await agent.send({ do: "call", on: "m", method: "pread", args: [0, 7] })) as Uint8Array), "content");
    }
    const node = agents.find(({ runtime }) => runtime === "node");
    assert.equal(await node?.send({ do: "call", on: "m", method: "resize", args: [8000] }), 8000);
    assert.equal(mapping.refresh(), 8000);
    await Promise.all(agents.map((agent) => agent.end()));
  });
});

test("refresh of anonymous and private memory", () => {
  using memory = Mapping.anonymous(100);
  assert.equal(memory.refresh(), 100);
  const path = files.file("content");
  using mapping = Mapping.open(path, { sharing: "private" });
  mapping.pwrite(0, "CON");
  assert.equal(mapping.refresh(), 7);
  assert.equal(text(mapping.pread(0, 7)), "CONtent", "nothing changed, so nothing is lost");
});

test("resizing leaves no descriptors and no mappings behind", () => {
  const path = files.file(new Uint8Array(5000), "resized-often");
  const count = (): [number, number] => [
    fs.readdirSync("/proc/self/fd").length,
    fs.readFileSync("/proc/self/maps", "utf8").split("\n").filter((line) => line.endsWith("resized-often")).length,
  ];
  using mapping = Mapping.open(path);
  mapping.resize();
  const before = count();
  for (let i = 1; i < 200; i++) mapping.resize(i * 1000);
  // Fewer is right: a collection may close what a test before has dropped.
  count().forEach((now, i) => assert.ok(now <= (before[i] as number), `${now} after, ${before[i]} before`));
});

const fullTest = "a full file system is ENOSPC at create and at resize, and all is as it was";
test(fullTest, skipFor(fullTest, mountRefusal(files)), () => {
  withTmpfs(files, "size=1m", (folder) => {
    const full = { ...mapError("ENOSPC", /no space left on device, fallocate/), syscall: "fallocate" };
    assertThrows(() => Mapping.open(`${folder}/new`, { create: true, byteLength: 4 << 20 }), full);
    assertThrows(() => Mapping.open(`${folder}/new`, { create: true, offset: 4 << 20, byteLength: 1 }), full);
    assert.deepEqual(fs.readdirSync(folder), []);
    const path = `${folder}/file`;
    using mapping = Mapping.open(path, { create: true, byteLength: 500_000 });
    mapping.pwrite(0, "old content");
    mapping.pwrite(499_990, "at the end");
    const view = mapping.view();
    const { atomics } = mapping;
    for (let i = 0; i < 3; i++) {
      untouched(path, () => {
        assertThrows(() => mapping.resize(4 << 20), { ...full, path });
        assertThrows(() => mapping.resize(1_500_000), full);
      });
      assert.equal(mapping.byteLength, 500_000);
      assert.equal(text(mapping.pread(0, 11)), "old content");
      assert.equal(text(view.subarray(499_990)), "at the end");
      assert.equal(atomics.add(1000, 1), i);
    }
    assert.equal(mapping.resize(600_000), 600_000, "as much as there is can still be had");
    assert.equal(mapping.resize(100), 100);
    mapping.pwrite(0, new Uint8Array(100).fill(1));
    mapping.close();
    fs.rmSync(path);

    // A hole in a file that was there before: nothing was promised for it, and still nobody dies.
    const sparse = `${folder}/sparse`;
    fs.writeFileSync(sparse, "");
    fs.truncateSync(sparse, 4 << 20);
    using hole = Mapping.open(sparse);
    assertThrows(() => hole.pwrite(0, new Uint8Array(4 << 20).fill(1)), mapError("ERR_FAULT"));
  });
});
