/** Int64Atomics as api.md describes it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import fc from "fast-check";
import { Counters, type Int64Atomics, Mapping } from "../../mod.ts";
import { assertRejects, assertThrows, mapError, rangeError, typeError } from "../support/errors.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();

const MAX = Number.MAX_SAFE_INTEGER;
const MIN64 = -(2n ** 63n);
const MAX64 = 2n ** 63n - 1n;

/** The read-modify-write operations with their models. */
const operations: Record<"add" | "sub" | "and" | "or" | "xor" | "exchange", (a: bigint, b: bigint) => bigint> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  and: (a, b) => a & b,
  or: (a, b) => a | b,
  xor: (a, b) => a ^ b,
  exchange: (_, b) => b,
};
const names = Object.keys(operations) as (keyof typeof operations)[];

test("each operation returns the old value and stores the new one, in both forms", () => {
  using mapping = Mapping.anonymous(4096);
  const { atomics } = mapping;
  for (const name of names) {
    for (const a of [0, 1, -1, 6, -7, 2 ** 40, -(2 ** 52)]) {
      for (const b of [0, 1, -1, 3, -2, 2 ** 33 + 1]) {
        atomics.store(16, a);
        assert.equal(atomics[name](16, b), a, name);
        const expected = operations[name](BigInt(a), BigInt(b));
        assert.equal(atomics.loadBigInt(16), expected, `${name} of ${a} and ${b}`);
        assert.equal(atomics.load(16), Number(expected));

        atomics.store(16, BigInt(a));
        assert.equal(atomics[name](16, BigInt(b)), BigInt(a), name);
        assert.equal(atomics.loadBigInt(16), expected, `${name} of ${a}n and ${b}n`);
      }
    }
  }
  assert.equal(atomics.load(8), 0);
  assert.equal(atomics.load(24), 0);
});

test("store returns what it was given", () => {
  using mapping = Mapping.anonymous(8);
  assert.equal(mapping.atomics.store(0, -5), -5);
  assert.equal(mapping.atomics.store(0, -5n), -5n);
  assert.equal(mapping.atomics.loadBigInt(0), -5n);
});

test("compareExchange stores on a match, and returns the value found either way", () => {
  using mapping = Mapping.anonymous(8);
  const { atomics } = mapping;
  assert.equal(atomics.compareExchange(0, 0, 5), 0);
  assert.equal(atomics.compareExchange(0, 0, 6), 5);
  assert.equal(atomics.load(0), 5);
  assert.equal(atomics.compareExchange(0, 5n, MIN64), 5n);
  assert.equal(atomics.compareExchange(0, 5n, 7n), MIN64);
  assert.equal(atomics.compareExchange(0, MIN64, MAX64), MIN64);
  assert.equal(atomics.loadBigInt(0), MAX64);
});

test("values wrap at both ends of 64 bits", () => {
  using mapping = Mapping.anonymous(8);
  const { atomics } = mapping;
  atomics.store(0, MAX64);
  assert.equal(atomics.add(0, 1n), MAX64);
  assert.equal(atomics.loadBigInt(0), MIN64);
  assert.equal(atomics.sub(0, 1n), MIN64);
  assert.equal(atomics.loadBigInt(0), MAX64);
  atomics.store(0, 2n ** 64n - 1n); // the pattern of -1
  assert.equal(atomics.loadBigInt(0), -1n);
  assert.equal(atomics.load(0), -1);
});

test("the number form never returns a rounded value, and leaves such a cell alone", () => {
  using mapping = Mapping.anonymous(8);
  const { atomics } = mapping;
  for (const value of [2n ** 53n, 2n ** 53n + 1n, -(2n ** 53n), MAX64, MIN64]) {
    atomics.store(0, value);
    const expected = rangeError(new RegExp(`holds ${value}, .*bigint`));
    assertThrows(() => atomics.load(0), expected);
    for (const name of names) assertThrows(() => atomics[name](0, 1), expected, name);
    assertThrows(() => atomics.compareExchange(0, 1, 2), expected);
    assert.equal(atomics.loadBigInt(0), value);
  }
  atomics.store(0, MAX);
  assert.equal(atomics.add(0, 1), MAX, "the old value is safe, the new one need not be");
  assert.equal(atomics.loadBigInt(0), 2n ** 53n);
});

test("operands: number or bigint, nothing rounded, nothing of more than 64 bits", () => {
  using mapping = Mapping.anonymous(8);
  const { atomics } = mapping;
  atomics.store(0, 7);
  const call = atomics as unknown as Record<string, (...args: unknown[]) => unknown>;
  for (const name of [...names, "store"]) {
    for (const bad of [0.5, NaN, Infinity, -Infinity, 2 ** 53, -(2 ** 53), 1e300]) {
      assertThrows(() => call[name]?.(0, bad), rangeError(/2\^53 - 1/), `${name}(0, ${bad})`);
    }
    for (const bad of [2n ** 64n, -(2n ** 63n) - 1n]) assertThrows(() => call[name]?.(0, bad), rangeError(/64 bits/), `${name}(0, ${bad})`);
    for (const bad of [undefined, null, "1", true, {}, [1], Symbol("s")]) {
      assertThrows(() => call[name]?.(0, bad), typeError(/a number or a bigint/), `${name}(0, ${String(bad)})`);
    }
  }
  for (const [expected, replacement] of [[1, 2n], [1n, 2]]) {
    assertThrows(() => call.compareExchange?.(0, expected, replacement), typeError(/both be numbers or both be bigints/));
  }
  assertThrows(() => call.compareExchange?.(0, "1", 2), typeError(/a number or a bigint/));
  assertThrows(() => call.compareExchange?.(0, 1, 0.5), rangeError());
  assertThrows(() => call.compareExchange?.(0, 0.5, 1), rangeError());
  assertThrows(() => call.compareExchange?.(0, 7, undefined), typeError());
  assertThrows(() => call.compareExchange?.(0, 7n, 2n ** 64n), rangeError());
  assertThrows(() => call.compareExchange?.(0, 2n ** 64n + 7n, 1n), rangeError());
  assert.equal(atomics.load(0), 7);
});

/** Every method with arguments that are right but for the offset. */
const uses: readonly (readonly [name: string, use: (atomics: Int64Atomics, offset: number) => unknown])[] = [
  ["load", (atomics, offset) => atomics.load(offset)],
  ["loadBigInt", (atomics, offset) => atomics.loadBigInt(offset)],
  ["store", (atomics, offset) => atomics.store(offset, 1)],
  ["store of a bigint", (atomics, offset) => atomics.store(offset, 1n)],
  ...names.map((name) => [name, (atomics: Int64Atomics, offset: number) => atomics[name](offset, 1)] as const),
  ...names.map((name) => [`${name} of a bigint`, (atomics: Int64Atomics, offset: number) => atomics[name](offset, 1n)] as const),
  ["compareExchange", (atomics, offset) => atomics.compareExchange(offset, 0, 1)],
  ["compareExchange of bigints", (atomics, offset) => atomics.compareExchange(offset, 0n, 1n)],
  ["notify", (atomics, offset) => atomics.notify(offset)],
];

test("offsets: aligned to 8 and within the mapping, or a RangeError that changes nothing", () => {
  using mapping = Mapping.anonymous(100);
  const before = mapping.pread(0, 100);
  for (const [name, use] of uses) {
    for (const offset of [1, 2, 4, 7, 12, 92]) assertThrows(() => use(mapping.atomics, offset), rangeError(/multiple of 8/), `${name} at ${offset}`);
    for (const offset of [96, 104, 2 ** 40, 2 ** 52]) assertThrows(() => use(mapping.atomics, offset), rangeError(/leaves no room/), `${name} at ${offset}`);
    for (const offset of [-8, -1, 0.5, 8.5, NaN, Infinity, 2 ** 53, 1e300]) assertThrows(() => use(mapping.atomics, offset), rangeError(), `${name} at ${offset}`);
    for (const offset of ["0", 0n, null, undefined, {}]) {
      assertThrows(() => use(mapping.atomics, offset as unknown as number), typeError(/a number/), `${name} at ${String(offset)}`);
    }
  }
  assert.deepEqual(mapping.pread(0, 100), before);
  assert.equal(mapping.atomics.add(88, 1), 0); // the last cell that fits
});

test("the last cell is the last one that fits, whatever the length", () => {
  for (let length = 8; length <= 32; length++) {
    using mapping = Mapping.anonymous(length);
    const last = length - (length % 8) - 8;
    mapping.atomics.store(last, 1);
    assertThrows(() => mapping.atomics.load(last + 8), rangeError(/leaves no room/), `${length} bytes`);
  }
});

test("a read-only mapping can be read and not changed", () => {
  const path = files.file(new Uint8Array(64));
  using mapping = Mapping.open(path, { mode: "r" });
  for (const [name, use] of uses) {
    if (name.startsWith("load")) use(mapping.atomics, 0);
    else assertThrows(() => use(mapping.atomics, 0), mapError("ERR_READ_ONLY", /mode "rw"/), name);
  }
});

test("two mappings of one file have the same cells, little-endian", () => {
  const path = files.file(new Uint8Array(64));
  using one = Mapping.open(path);
  using two = Mapping.open(path);
  one.atomics.store(8, 0x0102030405060708n);
  assert.equal(two.atomics.loadBigInt(8), 0x0102030405060708n);
  assert.deepEqual([...two.pread(8, 8)], [8, 7, 6, 5, 4, 3, 2, 1]);
});

test("four workers adding to one cell lose nothing", async () => {
  const times = 50_000;
  const mapping = files.file(new Uint8Array(64));
  const counters = files.next("counters");
  using counts = Counters.open(counters, { count: 1 });
  const run = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const worker = new Worker(new URL("../support/adder.ts", import.meta.url), { workerData: { mapping, counters, times } });
      let done = false;
      worker.on("message", () => (done = true));
      worker.on("error", reject);
      worker.on("exit", (code) => (done ? resolve() : reject(new Error(`the worker ended with ${code}`))));
    });
  await Promise.all(Array.from({ length: 4 }, run));
  using cells = Mapping.open(mapping);
  assert.equal(cells.atomics.load(0), 4 * times);
  assert.equal(cells.atomics.loadBigInt(8), BigInt(4 * times));
  assert.equal(counts.get(0), 4 * times);
});

test("wait: not-equal, timed-out, ok, aborted", async () => {
  using mapping = Mapping.anonymous(16);
  const { atomics } = mapping;
  assert.equal(await atomics.wait(0, 1), "not-equal");
  assert.equal(await atomics.wait(0, 1n), "not-equal");
  assert.equal(await atomics.wait(0, 0, { timeoutMs: 0 }), "timed-out");
  assert.equal(await atomics.wait(0, 0n, { timeoutMs: 5 }), "timed-out");
  const waiting = atomics.wait(0, 0);
  atomics.store(0, MAX64);
  assert.equal(await waiting, "ok");
  const abort = new AbortController();
  const aborted = atomics.wait(0, MAX64, { signal: abort.signal });
  const reason = new Error("enough");
  abort.abort(reason);
  await assert.rejects(aborted, reason);
  await assert.rejects(atomics.wait(0, MAX64, { signal: abort.signal }), reason);
});

test("wait checks its arguments", async () => {
  using mapping = Mapping.anonymous(16);
  const { atomics } = mapping;
  await assertRejects(() => atomics.wait(4, 0), rangeError(/multiple of 8/));
  await assertRejects(() => atomics.wait(16, 0), rangeError());
  await assertRejects(() => atomics.wait(0, 0.5), rangeError());
  await assertRejects(() => atomics.wait(0, 2n ** 64n), rangeError());
  await assertRejects(() => atomics.wait(0, "0" as unknown as number), typeError());
  await assertRejects(() => atomics.wait(0, 0, { timeoutMs: -1 }), rangeError());
  await assertRejects(() => atomics.wait(0, 0, { timeout: 1 } as unknown as { timeoutMs: number }), typeError(/"timeout"/));
  await assertRejects(() => atomics.wait(0, 0, { signal: {} as AbortSignal }), typeError(/AbortSignal/));
  const waiting = atomics.wait(0, 0);
  mapping.close();
  await assertRejects(() => waiting, mapError("ERR_CLOSED"));
});

test("notify says how many waits it ended", () => {
  using mapping = Mapping.anonymous(16);
  assert.equal(mapping.atomics.notify(0), 0);
  assert.equal(mapping.atomics.notify(8, 0), 0);
  assertThrows(() => mapping.atomics.notify(0, -1), rangeError());
  assertThrows(() => mapping.atomics.notify(0, 1.5), rangeError());
});

test("property: any sequence of operations agrees with a model of BigInts", () => {
  const interesting = [0n, 1n, -1n, 2n, 255n, 2n ** 32n, 2n ** 53n - 1n, 2n ** 53n, -(2n ** 53n), 2n ** 62n, MAX64, MIN64];
  const value = fc.oneof(fc.constantFrom(...interesting), fc.bigInt({ min: MIN64, max: MAX64 }), fc.maxSafeInteger().map(BigInt));
  const step = fc.record({ name: fc.constantFrom(...names, "compareExchange" as const), operand: value, expected: value, number: fc.boolean() });
  const isSafe = (cell: bigint): boolean => cell >= -BigInt(MAX) && cell <= BigInt(MAX);
  using mapping = Mapping.anonymous(64);
  const { atomics } = mapping;
  fc.assert(
    fc.property(value, fc.array(step, { maxLength: 30 }), (first, steps) => {
      let model = first;
      atomics.store(32, first);
      for (const { name, operand, expected: wanted, number } of steps) {
        const asNumber = number && isSafe(operand) && isSafe(wanted);
        // Half of the exchanges are to succeed.
        const expected = name === "compareExchange" && operand % 2n === 0n && (!asNumber || isSafe(model)) ? model : wanted;
        const call = (): number | bigint => {
          if (name !== "compareExchange") return asNumber ? atomics[name](32, Number(operand)) : atomics[name](32, operand);
          return asNumber ? atomics.compareExchange(32, Number(expected), Number(operand)) : atomics.compareExchange(32, expected, operand);
        };
        if (asNumber && !isSafe(model)) {
          assertThrows(call, rangeError(), name);
        } else {
          assert.equal(call(), asNumber ? Number(model) : model, name);
          if (name !== "compareExchange") model = BigInt.asIntN(64, operations[name](model, operand));
          else if (model === expected) model = operand;
        }
        assert.equal(atomics.loadBigInt(32), model, name);
      }
      assert.equal(atomics.loadBigInt(24), 0n);
      assert.equal(atomics.loadBigInt(40), 0n);
    }),
    { numRuns: 300 },
  );
});
