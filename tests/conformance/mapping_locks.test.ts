/** Range locks between handles, processes and runtimes, and `guard`. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { type LockOptions, Mapping } from "../../mod.ts";
import { assertRejects, assertThrows, mapError, rangeError, typeError } from "../support/errors.ts";
import { root, type RuntimeName, runtimeNames } from "../support/runtimes.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const processes = children();

/** Whether the range can be locked within a few milliseconds; it is given back at once. */
async function free(mapping: Mapping, options: LockOptions): Promise<boolean> {
  const signal = AbortSignal.timeout(15);
  try {
    (await mapping.lockAsync({ ...options, signal }))[Symbol.dispose]();
    return true;
  } catch (error) {
    assert.equal(error, signal.reason);
    return false;
  }
}

/** Ranges against bytes 1000 to 1999, and which of them overlap. */
const ranges: readonly (readonly [offset: number, length: number | undefined, overlaps: boolean])[] = [
  [0, 1000, false],
  [2000, 1000, false],
  [2000, undefined, false],
  [1000, 1000, true],
  [0, 1001, true],
  [1999, 1, true],
  [1500, 10, true],
  [0, undefined, true],
];

test("handles of one process: exclusive keeps all others out, shared only exclusive ones", async () => {
  const path = files.file(new Uint8Array(5000));
  using one = Mapping.open(path);
  using two = Mapping.open(path);
  using reader = Mapping.open(path, { mode: "r" });
  for (const shared of [false, true]) {
    const held = one.lock({ offset: 1000, length: 1000, shared });
    for (const [offset, length, overlaps] of ranges) {
      const range = length === undefined ? { offset } : { offset, length };
      for (const mapping of [one, two]) {
        assert.equal(await free(mapping, range), !overlaps, `exclusive from ${offset} beside shared: ${shared}`);
        assert.equal(await free(mapping, { ...range, shared: true }), !overlaps || shared);
      }
      assert.equal(await free(reader, { ...range, shared: true }), !overlaps || shared);
    }
    held[Symbol.dispose]();
    held[Symbol.dispose]();
    assert.equal(await free(two, {}), true, "given back");
  }
  assertThrows(() => reader.lock(), { ...mapError("ERR_READ_ONLY"), path });
});

test("locks of one handle that overlap are apart: releasing one leaves the other", async () => {
  const path = files.file(new Uint8Array(5000));
  using mapping = Mapping.open(path);
  using other = Mapping.open(path);
  const first = mapping.lock({ offset: 0, length: 100, shared: true });
  const second = mapping.lock({ offset: 50, length: 100, shared: true });
  first[Symbol.dispose]();
  assert.equal(await free(other, { offset: 0, length: 50 }), true);
  assert.equal(await free(other, { offset: 60, length: 1 }), false);
  second[Symbol.dispose]();
  assert.equal(await free(other, {}), true);
});

test("ranges are bytes of the mapping, whatever its offset", async () => {
  const path = files.file(new Uint8Array(20_000));
  using whole = Mapping.open(path);
  using part = Mapping.open(path, { offset: 5001 });
  using held = part.lock({ offset: 10, length: 1 });
  assert.ok(held);
  assert.equal(await free(whole, { offset: 5011, length: 1 }), false);
  assert.equal(await free(whole, { offset: 10, length: 1 }), true);
  assert.equal(await free(whole, { offset: 0, length: 5011 }), true);
  assert.equal(await free(whole, { offset: 5012 }), true);
});

test("using releases, and the mapping may be closed before", async () => {
  const path = files.file(new Uint8Array(100));
  using other = Mapping.open(path);
  {
    using mapping = Mapping.open(path);
    using held = mapping.lock();
    assert.ok(held);
    assert.equal(await free(other, {}), false);
  }
  assert.equal(await free(other, {}), true);
  const mapping = Mapping.open(path);
  const held = mapping.lock();
  mapping.close();
  held[Symbol.dispose]();
  assert.equal(await free(other, {}), true);
});

test("lockAsync waits its turn, ends with the signal's reason or when the mapping closes", async () => {
  const path = files.file(new Uint8Array(100));
  using one = Mapping.open(path);
  const two = Mapping.open(path);
  const held = one.lock();
  const turn = two.lockAsync();
  const reason = new Error("changed my mind");
  const controller = new AbortController();
  const aborted = two.lockAsync({ signal: controller.signal });
  const closing = Mapping.open(path);
  const closed = closing.lockAsync();
  // Handled when they are looked at.
  for (const promise of [aborted, closed]) promise.catch(() => {});
  await new Promise((resolve) => setTimeout(resolve, 5));
  controller.abort(reason);
  closing.close();
  await assert.rejects(aborted, (error) => error === reason);
  await assertRejects(() => closed, mapError("ERR_CLOSED"));
  held[Symbol.dispose]();
  const got = await turn;
  assert.equal(await free(one, {}), false);
  got[Symbol.dispose]();
  for (const lock of [(options: LockOptions) => one.lock(options), (options: LockOptions) => one.lockAsync(options)]) {
    await assert.rejects(async () => await lock({ signal: AbortSignal.abort(reason) }), (error) => error === reason);
  }
  two.close();
  assert.equal(await free(one, {}), true, "nothing was left locked");
});

test("many that wait all get it, one at a time", async () => {
  const path = files.file(new Uint8Array(8));
  const handles = Array.from({ length: 10 }, () => Mapping.open(path));
  let inside = 0;
  await Promise.all(handles.map(async (mapping) => {
    using held = await mapping.lockAsync();
    assert.ok(held);
    assert.equal(++inside, 1);
    await new Promise((resolve) => setTimeout(resolve, 1));
    inside--;
  }));
  handles.forEach((mapping) => mapping.close());
});

test("waiting and giving up leave no descriptor behind", async () => {
  const path = files.file(new Uint8Array(100));
  using one = Mapping.open(path);
  using held = one.lock({ length: 50 });
  assert.ok(held);
  const open = (): number => fs.readdirSync("/proc/self/fd").length;
  await free(one, {});
  const before = open();
  for (let i = 0; i < 5; i++) await free(one, {});
  for (let i = 0; i < 50; i++) one.lock({ offset: 50 })[Symbol.dispose]();
  assertThrows(() => one.lock({ offset: 101 }), rangeError());
  assert.ok(open() <= before, "fewer is right: a collection may close what a test before has dropped");
});

test("wrong ranges and options", async () => {
  const path = files.file(new Uint8Array(100));
  using mapping = Mapping.open(path);
  for (const bad of [{ offset: 101 }, { offset: 50, length: 51 }, { offset: -1 }, { length: 0 }, { offset: 100 }, { length: 0.5 }, { offset: 2 ** 53 }]) {
    assertThrows(() => mapping.lock(bad), rangeError(), JSON.stringify(bad));
    await assertRejects(() => mapping.lockAsync(bad), rangeError());
  }
  for (const bad of [{ shared: 1 }, { signal: {} }, { offset: "0" }, { wait: true }]) {
    assertThrows(() => mapping.lock(bad as unknown as LockOptions), typeError(), JSON.stringify(bad));
  }
  using memory = Mapping.anonymous(100);
  assertThrows(() => memory.lock(), mapError("EOPNOTSUPP", /anonymous memory/));
  fs.renameSync(path, `${path}.moved`);
  assertThrows(() => mapping.lock(), mapError("ENOENT"));
  fs.writeFileSync(path, "another");
  assertThrows(() => mapping.lock(), { ...mapError("ESTALE", /another file/), path });
});

/** A process that holds a lock, once `locked` is over. */
async function holder(runtime: RuntimeName, path: string, kind: "shared" | "exclusive"): Promise<{ control: Mapping; ended: Promise<unknown> }> {
  const control = Mapping.open(files.file(new Uint8Array(16)));
  const ended = processes.script(runtime, `${root}tests/support/locker.ts`, path, control.path as string, "1000", "1000", kind);
  assert.equal(await Promise.race([control.atomics.wait(0, 0, { timeoutMs: 20_000 }), ended]), "ok");
  return { control, ended };
}

for (const runtime of runtimeNames) {
  test(`a lock held by a process of ${runtime}: released by dispose, and by kill -9`, async () => {
    const path = files.file(new Uint8Array(5000));
    using mapping = Mapping.open(path);
    for (const kind of ["shared", "exclusive"] as const) {
      const { control, ended } = await holder(runtime, path, kind);
      const { atomics } = control;
      for (const [offset, length, overlaps] of ranges) {
        const range = length === undefined ? { offset } : { offset, length };
        assert.equal(await free(mapping, range), !overlaps);
        assert.equal(await free(mapping, { ...range, shared: true }), !overlaps || kind === "shared");
      }
      const turn = mapping.lockAsync();
      if (kind === "shared") {
        atomics.store(0, 2);
        assert.equal(await atomics.wait(0, 2, { timeoutMs: 20_000 }), "ok");
      } else {
        process.kill(atomics.load(8), "SIGKILL");
      }
      (await turn)[Symbol.dispose]();
      await ended;
      // The blocking form as well.
      mapping.lock()[Symbol.dispose]();
      control.close();
    }
  });
}

/** How often a reader saw a block of which parts are different, in some reads beside a process that writes. */
async function torn(writer: RuntimeName, guard: boolean, enough: (torn: number, reads: number) => boolean, offset = 0): Promise<{ torn: number; reads: number; writes: number }> {
  const path = files.file(new Uint8Array(200_000));
  using control = Mapping.open(files.file(new Uint8Array(16)));
  using mapping = Mapping.open(path, { mode: "r", guard });
  const ended = processes.script(writer, `${root}tests/support/block_writer.ts`, path, control.path as string, guard ? "guard" : "plain", String(offset));
  const block = new Uint8Array(65_536);
  assert.equal(await Promise.race([control.atomics.wait(8, 0, { timeoutMs: 20_000 }), ended.then(({ stderr }) => stderr)]), "ok");
  let [found, reads] = [0, 0];
  const first = control.atomics.load(8);
  for (const end = Date.now() + 15_000; Date.now() < end && !enough(found, reads); reads++) {
    mapping.preadInto(block, 65_536);
    const byte = block[0] as number;
    if (!block.every((other) => other === byte)) found++;
  }
  const writes = control.atomics.load(8) - first;
  control.atomics.store(0, 1);
  const { code, stderr } = await ended;
  assert.equal(code, 0, stderr);
  return { torn: found, reads, writes };
}

for (const writer of runtimeNames) {
  test(`guard: no half of a 64 KiB write by ${writer} is ever seen`, async () => {
    const seen = await torn(writer, true, (_, reads) => reads >= 400);
    assert.equal(seen.torn, 0, `in ${seen.reads} reads`);
    assert.ok(seen.writes >= 10, `${seen.writes} writes meanwhile`);
  });
}

test("without guard halves are seen: the test above can fail", async () => {
  const seen = await torn("node", false, (found) => found >= 3);
  assert.ok(seen.torn >= 3, `${seen.torn} in ${seen.reads} reads beside ${seen.writes} writes`);
});

test("guard holds between handles of different offsets", async () => {
  const seen = await torn("node", true, (found, reads) => found >= 3 || reads >= 400, 65_536);
  assert.equal(seen.torn, 0, `in ${seen.reads} reads`);
});

test("guard and lock() do not stand in each other's way", async () => {
  const path = files.file(new Uint8Array(100));
  using one = Mapping.open(path, { guard: true });
  using two = Mapping.open(path, { guard: true });
  using held = one.lock();
  assert.ok(held);
  assert.equal(two.pwrite(0, ["not ", "kept ", "out"]), 12);
  assert.equal(new TextDecoder().decode(two.pread(0, 12)), "not kept out");
  assert.equal(two.preadInto(new Uint8Array(100), 0), 100);
  using reader = Mapping.open(path, { mode: "r", guard: true });
  assert.equal(reader.pread(4, 4).byteLength, 4);
  assert.equal(await free(two, {}), false);
});
