/**
 * Damaged files of counters: a clear error or the right names and values. A value has no checksum, since any process changes it by a
 * single instruction: damage inside a value is another value, of that counter alone.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { Counters } from "../../mod.ts";
import { fuzz, type FuzzContext } from "../support/fuzz.ts";
import { countWord, crc32c, nameSeed } from "../support/reader.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const NAMES = ["requests", "Größe 🚀", undefined, "x".repeat(255), undefined, undefined];
const COUNT = 200;

const valueAt = (i: number): number => 1024 + 512 * i;
const valueOf = (i: number): bigint => BigInt(i + 1) * 0x0101010101n;

/** The same bytes each time: the count's check has 21 bits, and with one id it is known which damage passes. */
function original(): Uint8Array {
  const path = files.next();
  {
    using counters = Counters.open(path, { names: ["requests", "Größe 🚀"], count: COUNT });
    for (let i = 0; i < COUNT; i++) counters.set(i, valueOf(i));
  }
  const bytes = fs.readFileSync(path);
  const id = Uint8Array.from({ length: 16 }, (_, i) => 200 - i);
  bytes.set(id, 24);
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, 124)), 124);
  bytes.set(countWord(COUNT, id), 128);
  for (let i = 0; i < COUNT; i++) {
    const name = new TextEncoder().encode(NAMES[i] ?? "");
    bytes.writeUInt32LE(name.byteLength, valueAt(i) + 132);
    bytes.set(name, valueAt(i) + 136);
    bytes.writeUInt32LE(crc32c(bytes.subarray(valueAt(i) + 132, valueAt(i) + 136 + name.byteLength), nameSeed(i, id)), valueAt(i) + 128);
  }
  return new Uint8Array(bytes);
}

const names = Array.from({ length: COUNT }, (_, i) => NAMES[i]);

function use(counters: Counters, { call, changed, mode }: FuzzContext): void {
  const count = call(() => counters.count);
  if (count !== undefined) assert.equal(count.value, COUNT);
  const found = call(() => counters.names);
  if (found !== undefined) assert.deepEqual(found.value, names);
  // All that lie in the part with names, and some of the others.
  for (let i = 0; i < COUNT; i += i < 8 ? 1 : 17) {
    const value = call(() => counters.getBigInt(i));
    if (value !== undefined && !changed(valueAt(i), 8)) assert.equal(value.value, valueOf(i), `counter ${i}`);
    if (mode === "r" || changed(valueAt(i), 8)) continue;
    const old = call(() => counters.add(i, 1n));
    if (old !== undefined) assert.equal(old.value, valueOf(i));
    const now = call(() => counters.getBigInt(i));
    if (old !== undefined && now !== undefined) assert.equal(now.value, valueOf(i) + 1n);
  }
  if (mode === "r") return;
  const added = call(() => counters.declare("new"));
  if (added === undefined) return;
  assert.deepEqual(added.value, [COUNT]);
  const fresh = call(() => counters.getBigInt("new"));
  if (fresh !== undefined) assert.equal(fresh.value, 0n, "a counter that is added starts at 0, whatever was behind the others");
}

test("every byte of the start, and 2,000 random damages", () => {
  const report = fuzz({
    original: original(),
    path: files.next(),
    open: (path, mode) => Counters.open(path, { mode }),
    use,
    codes: ["ERR_NOT_HOLDFAST", "ERR_VERSION", "ERR_CORRUPT", "ERR_KIND", "ERR_FAULT"],
    headerBytes: 136,
    seed: 2,
  });
  console.log(`# ${JSON.stringify(report)}`);
  assert.ok(report.refused > 2 * 3 * 100, "most damage to the header is refused");
});
