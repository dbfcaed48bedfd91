/** Files of counters, byte by byte, seen by a reader that shares no code with the library. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { Counters } from "../../mod.ts";
import { crc32c as nativeCrc } from "../../lib/layout/header.ts";
import { assertThrows, mapError } from "../support/errors.ts";
import { countWord, crc32c, type RawHeader, readRawCounters } from "../support/reader.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { untouched } from "../support/untouched.ts";

const files = temporaryFiles();
const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);

function checkHeader(header: RawHeader): void {
  assert.deepEqual(header.magic, [0x48, 0x46, 0x53, 0x54, 0x0d, 0x0a, 0x1a, 0x00]);
  assert.equal(header.version, 1);
  assert.equal(header.kind, 1);
  assert.equal(header.endian, 0x0a0b0c0d);
  assert.equal(header.headerLength, 128);
  assert.equal(header.reserved, 0);
  assert.equal(header.checksum, header.computed);
  assert.deepEqual(header.fields, Array.from({ length: 10 }, () => 0n));
  assert.ok(!isZero(header.id));
}

test("the reader's CRC-32C has the known answers, and agrees with the library's", () => {
  assert.equal(crc32c(new TextEncoder().encode("123456789")), 0xe3069283);
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.equal(crc32c(new Uint8Array(32).fill(255)), 0x62a8ab43);
  assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e);
  assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, i) => 31 - i)), 0x113fdb5c);
  for (let length = 0; length < 100; length++) {
    const bytes = Uint8Array.from({ length }, (_, i) => i * 37 + length);
    assert.equal(nativeCrc(bytes), crc32c(bytes));
    assert.equal(nativeCrc(bytes, 0xdeadbeef), crc32c(bytes, 0xdeadbeef));
  }
});

test("a new file, byte by byte", () => {
  const path = files.next();
  const names = ["requests", "Größe 🚀", "x".repeat(255)];
  Counters.open(path, { names, count: 5 }).close();
  const { header, count, countCheck, countComputed, entries, padding, size } = readRawCounters(path);
  checkHeader(header);
  assert.equal(count, 5n);
  assert.equal(countCheck, countComputed);
  assert.equal(size, 1024 + 5 * 512);
  assert.ok(isZero(padding));
  assert.deepEqual(entries.map(({ name }) => name), [...names, "", ""]);
  for (const entry of entries) {
    assert.equal(entry.value, 0n);
    assert.equal(entry.checksum, entry.computed);
    assert.ok(isZero(entry.padding));
  }
});

test("values, and counters that were added later", () => {
  const path = files.next();
  {
    using counters = Counters.open(path, { names: ["a"] });
    counters.set("a", -(2n ** 63n));
    counters.declare("b", "c");
    using same = Counters.open(path, { count: 20 });
    same.set("c", 0x0102030405060708n);
    same.add(19, 7);
  }
  const before = readRawCounters(path);
  checkHeader(before.header);
  assert.equal(before.count, 20n);
  assert.equal(before.countCheck, before.countComputed);
  assert.equal(before.size, 1024 + 20 * 512);
  assert.ok(isZero(before.padding));
  assert.deepEqual(before.entries.map(({ name }) => name).slice(0, 4), ["a", "b", "c", ""]);
  assert.deepEqual([0, 1, 2, 19].map((i) => before.entries[i]?.value), [-(2n ** 63n), 0n, 0x0102030405060708n, 7n]);
  for (const entry of before.entries) {
    assert.equal(entry.checksum, entry.computed);
    assert.ok(isZero(entry.padding));
  }
  Counters.open(path).close();
  assert.deepEqual(readRawCounters(path), before);
});

test("each file has an id of its own", () => {
  const ids = Array.from({ length: 20 }, () => {
    const path = files.next();
    Counters.open(path, { count: 1 }).close();
    return Buffer.from(readRawCounters(path).header.id).toString("hex");
  });
  assert.equal(new Set(ids).size, ids.length);
});

test("every damaged byte of the header: a clear error, and the file as it was", () => {
  const original = files.next();
  Counters.open(original, { names: ["a"], count: 2 }).close();
  const bytes = fs.readFileSync(original);
  const path = files.next();
  for (let offset = 0; offset < 128; offset++) {
    for (const flip of [0x01, 0x80, 0xff]) {
      const changed = Buffer.from(bytes);
      changed[offset] = (changed[offset] as number) ^ flip;
      fs.writeFileSync(path, changed);
      const code = offset < 8
        ? "ERR_NOT_HOLDFAST"
        // The version tells of itself before the checksum does: a newer one may sum differently.
        : changed.readUInt32LE(8) > 1
        ? "ERR_VERSION"
        : "ERR_CORRUPT";
      untouched(path, () => {
        for (const mode of ["r", "rw"] as const) {
          assertThrows(() => Counters.open(path, { mode }), { ...mapError(code), path }, `byte ${offset} ^ ${flip}, mode ${mode}`);
        }
        assertThrows(() => Counters.open(path, { names: ["a"], count: 9 }), { ...mapError(code), path }, `byte ${offset} ^ ${flip}`);
      });
    }
  }
  fs.writeFileSync(path, bytes);
  Counters.open(path).close();
});

test("a header that checks out and still is none: kind, endian mark, length, version 0", () => {
  const original = files.next();
  Counters.open(original, { count: 2 }).close();
  const bytes = fs.readFileSync(original);
  const changes: readonly (readonly [offset: number, value: number, code: string])[] = [
    [8, 0, "ERR_CORRUPT"],
    [8, 2, "ERR_VERSION"],
    [12, 0, "ERR_KIND"],
    [12, 2, "ERR_KIND"],
    [12, 99, "ERR_KIND"],
    [16, 0x0d0c0b0a, "ERR_CORRUPT"],
    [20, 64, "ERR_CORRUPT"],
    [44, 0x200000, "ERR_CORRUPT"], // field 0 becomes 2^53
  ];
  for (const [offset, value, code] of changes) {
    const changed = Buffer.from(bytes);
    changed.writeUInt32LE(value, offset);
    changed.writeUInt32LE(crc32c(changed.subarray(0, 124)), 124);
    const path = files.file(changed);
    untouched(path, () => assertThrows(() => Counters.open(path), { ...mapError(code), path }, `${value} at ${offset}`));
  }
});

test("every damaged bit of the count word: a clear error, and the file as it was", () => {
  const original = files.next();
  Counters.open(original, { names: ["a"], count: 300 }).close();
  const bytes = fs.readFileSync(original);
  const path = files.next();
  for (let bit = 0; bit < 64; bit++) {
    const changed = Buffer.from(bytes);
    const offset = 128 + (bit >> 3);
    changed[offset] = (changed[offset] as number) ^ (1 << (bit & 7));
    fs.writeFileSync(path, changed);
    untouched(path, () => {
      for (const options of [{}, { mode: "r" }, { names: ["a"], count: 400 }] as const) {
        assertThrows(() => Counters.open(path, options), { ...mapError("ERR_CORRUPT", /count/), path }, `bit ${bit}`);
      }
    });
  }
});

test("a smaller count under the check of another file is damage; under its own it is what the file says", () => {
  const original = files.next();
  Counters.open(original, { count: 9 }).close();
  const bytes = fs.readFileSync(original);
  const { header: { id } } = readRawCounters(original);
  const other = Uint8Array.from(id, (byte) => byte ^ 1);
  const withCount = (word: number[]): string => {
    const changed = Buffer.from(bytes);
    changed.set(word, 128);
    return files.file(changed);
  };
  const foreign = withCount(countWord(5, other));
  untouched(foreign, () => assertThrows(() => Counters.open(foreign), mapError("ERR_CORRUPT", /damaged count/)));
  using five = Counters.open(withCount(countWord(5, id)));
  assert.equal(five.count, 5);
});

test("every damaged byte of a name field: a clear error, and the file as it was", () => {
  const original = files.next();
  Counters.open(original, { names: ["name"], count: 2 }).close();
  const bytes = fs.readFileSync(original);
  for (let offset = 1024 + 128; offset < 1024 + 136 + 4; offset++) {
    const changed = Buffer.from(bytes);
    changed[offset] = (changed[offset] as number) ^ 0x01;
    const path = files.file(changed);
    untouched(path, () => assertThrows(() => Counters.open(path), { ...mapError("ERR_CORRUPT", /name of counter 0/), path }, `byte ${offset}`));
  }
});
