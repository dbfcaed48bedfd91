/** `wait` and `notify`: how waits end, what is counted, and that nothing is left behind. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { native } from "../../lib/native/native.ts";
import { waitFor } from "../../lib/waiting.ts";
import { type Int64Atomics, Mapping } from "../../mod.ts";
import { assertRejects, mapError, rangeError } from "../support/errors.ts";
import { currentRuntime } from "../support/runtimes.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const processes = children();

/** Nothing here takes that long unless a wake is lost. */
const LIMIT = { timeoutMs: 5000 };

/** Until the first Worker is up, and every new wait asleep. */
async function asleep(atomics: Int64Atomics, offset = 0): Promise<void> {
  await atomics.wait(offset, atomics.loadBigInt(offset), { timeoutMs: 120 });
}

const settle = (): Promise<void> => sleep(60);

test("a notify without a change ends one wait after another, those first that came first", async () => {
  using mapping = Mapping.anonymous(64);
  const { atomics } = mapping;
  await asleep(atomics);
  const order: number[] = [];
  const waits = [0, 1, 2, 3, 4].map((i) =>
    atomics.wait(8, 0, LIMIT).then((result) => {
      assert.equal(result, "ok");
      order.push(i);
    })
  );
  await settle();
  assert.equal(atomics.notify(8, 0), 0);
  assert.equal(atomics.notify(16), 0, "another cell");
  assert.equal(atomics.notify(8, 1), 1);
  await settle();
  assert.deepEqual(order, [0]);
  assert.equal(atomics.notify(8, 2), 2);
  await settle();
  assert.deepEqual(order, [0, 1, 2]);
  assert.equal(atomics.notify(8), 2);
  await Promise.all(waits);
  assert.deepEqual(order, [0, 1, 2, 3, 4]);
  assert.equal(atomics.notify(8), 0);
});

test("a notify at once ends a wait of the same thread, asleep or not", async () => {
  using mapping = Mapping.anonymous(64);
  const { atomics } = mapping;
  for (let i = 0; i < 200; i++) {
    const waiting = atomics.wait(0, 0, LIMIT);
    if (i % 3 === 1) await Promise.resolve();
    if (i % 3 === 2) await sleep(0);
    assert.equal(atomics.notify(0, 1), 1);
    assert.equal(await waiting, "ok");
  }
});

test("a notify of another thread ends as many of the waits as it counts", async () => {
  const path = files.file(new Uint8Array(4096));
  using mapping = Mapping.open(path);
  const { atomics } = mapping;
  await asleep(atomics);
  const WAITS = 60;
  let ended = 0;
  const waits = Array.from({ length: WAITS }, () => atomics.wait(0, 0, LIMIT).then((result) => (ended += Number(result === "ok"))));
  await settle();
  // Another mapping of the file: nothing in this thread knows that it is the same cell.
  using other = Mapping.open(path);
  for (const count of [1, 2, 3, 10]) {
    const before = ended;
    assert.equal(other.atomics.notify(0, count), count);
    await settle();
    assert.equal(ended - before, count);
  }
  // Without a pause some find no sleeper, and say so; but nothing that was counted is lost.
  const before = ended;
  let woken = 0;
  for (let i = 0; i < 20; i++) woken += other.atomics.notify(0, 1);
  await settle();
  assert.ok(woken > 0 && ended - before >= woken, `${woken} woken, ${ended - before} ended`);
  other.atomics.notify(0);
  await Promise.all(waits);
  assert.equal(ended, WAITS);
});

test("a change is seen without a notify, in either half of the cell", async () => {
  using mapping = Mapping.anonymous(64);
  const { atomics } = mapping;
  await asleep(atomics);
  for (const value of [1n, 1n << 32n, -1n]) {
    const waiting = atomics.wait(0, 0, LIMIT);
    await settle();
    const start = performance.now();
    atomics.store(0, value);
    assert.equal(await waiting, "ok");
    assert.ok(performance.now() - start < 1000);
    atomics.store(0, 0);
  }
});

test("only the cell that changed, of many", async () => {
  using mapping = Mapping.anonymous(8192);
  const { atomics } = mapping;
  const CELLS = 300; // more than the kernel takes at once
  const ended = new Set<number>();
  const waits = Array.from({ length: CELLS }, (_, i) => atomics.wait(8 * i, 0, LIMIT).then(() => ended.add(i)));
  await sleep(120);
  for (const i of [0, 5, 126, 127, 128, 299]) {
    atomics.store(8 * i, 1);
    atomics.notify(8 * i);
  }
  await sleep(120);
  assert.deepEqual([...ended].sort((a, b) => a - b), [0, 5, 126, 127, 128, 299]);
  for (let i = 0; i < CELLS; i++) {
    atomics.store(8 * i, 1);
    atomics.notify(8 * i);
  }
  await Promise.all(waits);
});

test("ten thousand waits for one cell", async () => {
  using mapping = Mapping.anonymous(64);
  const { atomics } = mapping;
  const WAITS = 10_000;
  const abort = new AbortController();
  const start = (options: { timeoutMs?: number; signal?: AbortSignal }): Promise<string>[] =>
    Array.from({ length: WAITS }, () => atomics.wait(0, 0, options).catch((error: Error) => error.message));
  let waits = start(LIMIT);
  await settle();
  assert.ok(atomics.notify(0, 3) >= 3);
  await settle();
  atomics.notify(0);
  assert.deepEqual(new Set(await Promise.all(waits)), new Set(["ok"]));
  assert.deepEqual(new Set(await Promise.all(start({ timeoutMs: 30 }))), new Set(["timed-out"]));
  waits = start({ signal: abort.signal });
  await settle();
  abort.abort(new Error("enough"));
  assert.deepEqual(new Set(await Promise.all(waits)), new Set(["enough"]));
});

test("a wait that timed out or was aborted is no sleeper any more", async () => {
  using mapping = Mapping.anonymous(64);
  const { atomics } = mapping;
  await asleep(atomics);
  const abort = new AbortController();
  const aborted = atomics.wait(0, 0, { signal: abort.signal });
  const late = atomics.wait(0, 0, { timeoutMs: 20 });
  const stays = atomics.wait(0, 0, LIMIT);
  await settle();
  abort.abort(new Error("enough"));
  await assert.rejects(aborted, /enough/);
  assert.equal(await late, "timed-out");
  await settle();
  assert.equal(atomics.notify(0), 1);
  assert.equal(await stays, "ok");
});

test("timeouts are not early", async () => {
  using mapping = Mapping.anonymous(64);
  for (const timeoutMs of [0, 1, 2, 7, 30]) {
    const start = performance.now();
    assert.equal(await mapping.atomics.wait(0, 0, { timeoutMs }), "timed-out");
    const took = performance.now() - start;
    assert.ok(took >= timeoutMs, `${timeoutMs} ms took ${took}`);
  }
});

test("a deadline that passes while a wait begins is kept", async () => {
  const slow = (): number => {
    const end = performance.now() + 4;
    while (performance.now() < end);
    return 0;
  };
  const deadline = performance.now() + 2;
  assert.equal(await waitFor({ expected: 0, changed: () => false, address: slow }, { deadline }), "timed-out");
});

test("a word of 32 bits, and a condition that says more than the word does", async () => {
  // What a queue waits for: a sequence word at any address that is a multiple of 4.
  using mapping = Mapping.anonymous(64);
  const bytes = mapping.view();
  const hf = native();
  const address = hf.hf_address_of(bytes) + 12;
  const current = (): number => new DataView(bytes.buffer, bytes.byteOffset).getInt32(12, true); // this thread alone writes it
  let open = true;
  const condition = {
    address: () => {
      if (!open) throw new Error("closed");
      return address;
    },
    expected: 0,
    changed: () => (condition.address(), current() !== 0),
  };
  await asleep(mapping.atomics, 16);
  const waiting = waitFor(condition, { deadline: performance.now() + 5000 });
  await settle();
  assert.equal(hf.hf_wake32(address, 1), 1);
  assert.equal(await waiting, "woken");
  const other = waitFor(condition);
  open = false;
  await assert.rejects(other, /closed/);
  await assert.rejects(waitFor(condition), /closed/);
  // A kernel that finds another value than the condition does: no busy loop, and the condition counts.
  open = true;
  const before = process.cpuUsage();
  assert.equal(await waitFor({ ...condition, expected: 1 }, { deadline: performance.now() + 500 }), "timed-out");
  const { user, system } = process.cpuUsage(before);
  assert.ok((user + system) / 1000 < 250, `${(user + system) / 1000} ms of CPU`);
});

test("what comes as often as the timer looks is slept on all the same", async () => {
  const { stdout, stderr } = await processes.script(currentRuntime, fileURLToPath(new URL("../support/busy_waits.ts", import.meta.url)));
  assert.equal(stdout, "1\n", stderr);
});

test("a signal loses its listener however the wait ends", async () => {
  using mapping = Mapping.anonymous(64);
  const { atomics } = mapping;
  const abort = new AbortController();
  let listeners = 0;
  const { signal } = abort;
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = ((...args: Parameters<typeof add>) => (listeners++, add(...args))) as typeof add;
  signal.removeEventListener = ((...args: Parameters<typeof remove>) => (listeners--, remove(...args))) as typeof remove;
  await atomics.wait(0, 1, { signal });
  await atomics.wait(0, 0, { signal, timeoutMs: 3 });
  const notified = atomics.wait(0, 0, { signal });
  assert.equal(listeners, 1);
  atomics.notify(0);
  await notified;
  assert.equal(listeners, 0);
});

test("closing the mapping ends its waits, and only those", async () => {
  using other = Mapping.anonymous(64);
  for (const wait of [5, 200]) {
    const mapping = Mapping.anonymous(64);
    const stays = other.atomics.wait(0, 0, LIMIT);
    const waits = [0, 0, 8].map((offset) => mapping.atomics.wait(offset, 0));
    const ended = Promise.all(waits.map((waiting) => assertRejects(() => waiting, mapError("ERR_CLOSED"))));
    await sleep(wait);
    let timers = 0;
    const tick = setTimeout(() => timers++, 0);
    mapping.close();
    await ended;
    assert.equal(timers, 0, "they hear of it at once, not by a timer");
    clearTimeout(tick);
    assert.equal(other.atomics.notify(0), 1);
    assert.equal(await stays, "ok");
  }
});

test("a wait outlives growth, and ends with an error where its cell is cut off", async () => {
  const path = files.next();
  using mapping = Mapping.open(path, { create: true, byteLength: 4096 });
  const { atomics } = mapping;
  await asleep(atomics);
  const waiting = atomics.wait(0, 0, LIMIT);
  await settle();
  mapping.resize(1 << 20);
  await sleep(300);
  using other = Mapping.open(path);
  other.atomics.store(0, 1);
  assert.equal(other.atomics.notify(0), 1);
  assert.equal(await waiting, "ok");
  const cut = atomics.wait((1 << 20) - 8, 0);
  const rejected = assertRejects(() => cut, rangeError());
  mapping.resize(4096);
  await rejected;
});

test("a file cut short ends the wait with ERR_FAULT", async () => {
  const path = files.file(new Uint8Array(65_536));
  using mapping = Mapping.open(path);
  const waiting = mapping.atomics.wait(32_768, 0);
  const rejected = assertRejects(() => waiting, mapError("ERR_FAULT"));
  await sleep(100);
  fs.truncateSync(path, 100);
  await rejected;
});

test("read-only mappings see the change too", async () => {
  const path = files.file(new Uint8Array(64));
  using reader = Mapping.open(path, { mode: "r" });
  using writer = Mapping.open(path);
  assert.equal(await reader.atomics.wait(0, 0, { timeoutMs: 150 }), "timed-out");
  const waiting = reader.atomics.wait(0, 0, LIMIT);
  await settle();
  writer.atomics.store(0, 7);
  assert.equal(await waiting, "ok");
  assert.equal(reader.atomics.load(0), 7, "the wait did not copy the page");
});

test("waits in Workers of the program", async () => {
  const path = files.file(new Uint8Array(64));
  using mapping = Mapping.open(path);
  const worker = new Worker(new URL("../support/waiter.ts", import.meta.url), { workerData: path });
  const messages: unknown[] = [];
  const heard = async (count: number): Promise<void> => {
    while (messages.length < count) await sleep(5);
  };
  worker.on("message", (message) => messages.push(message));
  worker.on("error", (error) => messages.push(error, error));
  await heard(1);
  await sleep(150);
  mapping.atomics.store(0, 1);
  mapping.atomics.notify(0);
  await heard(2);
  assert.deepEqual(messages, ["waiting", ["ok"]]);
  await worker.terminate();
});

const script = fileURLToPath(new URL("../support/waiter.ts", import.meta.url));

for (const [how, code] of [["end", 0], ["exit", 7], ["throw", 1], ["keep", 0]] as const) {
  test(`a process with waits ends as it would without: ${how}`, async () => {
    const ending = await processes.script(currentRuntime, script, how);
    assert.equal(ending.code, code, ending.stderr);
    const { took, result } = JSON.parse(ending.stdout) as { took: number; result: string };
    assert.ok(Date.now() - took < 1500, `${Date.now() - took} ms`);
    assert.equal(result, how === "keep" ? "timed-out" : "");
  });
}

test("an idle wait costs next to nothing, and is no busy loop", async () => {
  using mapping = Mapping.anonymous(64);
  const { atomics } = mapping;
  await asleep(atomics);
  const before = process.cpuUsage();
  assert.equal(await atomics.wait(0, 0, { timeoutMs: 1500 }), "timed-out");
  const { user, system } = process.cpuUsage(before);
  // 0.1 to 0.2 % measured, 100 for a loop; other tests' garbage is collected meanwhile.
  assert.ok((user + system) / 1500 < 100, `${(user + system) / 15_000} %`);
});
