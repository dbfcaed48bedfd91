/** Shared memory objects, byte by byte, seen by a reader that shares no code with the library; and what becomes of damaged ones. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { MapError, SharedMemory } from "../../mod.ts";
import { assertError, assertThrows, mapError } from "../support/errors.ts";
import { crc32c } from "../support/reader.ts";
import { holdName, sharedNames } from "../support/shared_memory_names.ts";
import { forgeObject, pathOf, readRawObject, sealed } from "../support/shared_memory_raw.ts";
import { fingerprint } from "../support/untouched.ts";

const names = sharedNames();
const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

test("a new object, byte by byte", () => {
  using one = SharedMemory.from("some testing data", { capacity: 5001 });
  const { header, size, capacity, extent, lifetime, content, mark, bytes } = readRawObject(one.name);
  assert.deepEqual(header.magic, [0x48, 0x46, 0x53, 0x54, 0x0d, 0x0a, 0x1a, 0x00]);
  assert.deepEqual([header.version, header.kind, header.endian, header.headerLength, header.reserved], [1, 6, 0x0a0b0c0d, 128, 0]);
  assert.equal(header.checksum, header.computed);
  assert.ok(!isZero(header.id));
  assert.deepEqual(header.fields, Array.from({ length: 10 }, () => 0n));
  const whole = (value: number): object => ({ value, whole: true });
  assert.deepEqual(size, whole(17));
  assert.deepEqual(capacity, whole(5001));
  assert.deepEqual(extent, whole(4096 + 5008 + 8));
  assert.deepEqual(lifetime, whole(2));
  assert.deepEqual(mark, extent);
  assert.equal(text(content), "some testing data");
  assert.equal(bytes.byteLength, extent.value);
  for (const [from, to] of [[136, 256], [264, 384], [392, 512], [520, 4096], [4096 + 17, extent.value - 8]] as const) {
    assert.ok(isZero(bytes.subarray(from, to)), `${from} to ${to}`);
  }
});

test("what the operations leave", () => {
  using one = SharedMemory.create({ capacity: 10, unlinkOnClose: false, name: names.next() });
  assert.equal(readRawObject(one.name).lifetime.value, 1);
  const { header: { id } } = readRawObject(one.name);
  const check = (content: string, capacity: number, room: number): void => {
    const raw = readRawObject(one.name);
    assert.equal(text(raw.content), content);
    assert.equal(raw.capacity.value, capacity);
    assert.equal(raw.extent.value, 4096 + room + 8);
    assert.equal(raw.bytes.byteLength, raw.extent.value);
    for (const word of [raw.size, raw.capacity, raw.extent, raw.lifetime, raw.mark]) assert.ok(word.whole);
    assert.equal(raw.mark.value, raw.extent.value);
    assert.deepEqual(raw.header.id, id);
    assert.equal(raw.header.checksum, raw.header.computed);
  };
  check("", 10, 16);
  one.write("1234567890");
  check("1234567890", 10, 16);
  one.setCapacity(16);
  check("1234567890", 16, 16);
  one.write("x".repeat(10_001));
  check("x".repeat(10_001), 10_001, 10_008);
  one.trim(9991);
  check("xxxxxxxxxx", 10, 10_008);
  one.setCapacity(10_008);
  check("xxxxxxxxxx", 10_008, 10_008);
  using rest = one.splitAt(4);
  check("xxxx", 10_008, 10_008);
  one.append(rest);
  check("xxxxxxxxxx", 10, 10_008);
  one.adopt();
  assert.deepEqual(readRawObject(one.name).lifetime, { value: 2, whole: true });
});

test("an object that another program made", () => {
  const name = names.next();
  forgeObject(name, { size: 5, capacity: 100, content: [[0, "hello"]] });
  using one = SharedMemory.open(name);
  assert.deepEqual([text(one.read()), one.size, one.capacity], ["hello", 5, 100]);
  one.write("x".repeat(5000));
  assert.equal(text(readRawObject(name).content), "x".repeat(5000));
  one.unlink();
});

/** Every operation that reads or writes, on a copy of the damaged object. */
function tryAll(name: string): void {
  const original = fs.readFileSync(pathOf(name));
  const attempts: ((object: SharedMemory) => unknown)[] = [
    (object) => text(object.read()),
    (object) => (object.size, object.capacity),
    (object) => object.write("y".repeat(300)),
    (object) => object.append(object),
    (object) => object.trim(3),
    (object) => object.setCapacity(9000),
    (object) => object.adopt(),
  ];
  for (const attempt of attempts) {
    try {
      using object = SharedMemory.open(name);
      attempt(object);
    } catch (error) {
      assert.ok(error instanceof MapError && ["ERR_CORRUPT", "ERR_FAULT"].includes(error.code), String(error));
    }
    fs.writeFileSync(pathOf(name), original);
  }
}

test("every damaged byte of the header and of each word: a clear error, and the object as it was", () => {
  const [good, name] = [names.next(), names.next()];
  using _ = holdName(name);
  using one = SharedMemory.from("content", { name: good, capacity: 100 });
  const bytes = fs.readFileSync(pathOf(one.name));
  const end = bytes.byteLength;
  const words = [128, 256, 384, 512, end - 8].flatMap((start) => Array.from({ length: 8 }, (_, i) => start + i));
  for (const offset of [...Array(128).keys(), ...words]) {
    for (const flip of [0x01, 0x80, 0xff]) {
      const changed = Buffer.from(bytes);
      changed[offset] = (changed[offset] as number) ^ flip;
      fs.writeFileSync(pathOf(name), changed);
      const code = offset < 8 ? "ERR_NOT_HOLDFAST" : changed.readUInt32LE(8) > 1 ? "ERR_VERSION" : "ERR_CORRUPT";
      const before = fingerprint(pathOf(name));
      for (const mode of ["r", "rw"] as const) {
        assertThrows(() => SharedMemory.open(name, { mode }), { ...mapError(code), path: pathOf(name) }, `byte ${offset} ^ ${flip}, mode ${mode}`);
      }
      if (flip === 0xff) SharedMemory.list();
      assert.equal(fingerprint(pathOf(name)), before);
    }
  }
  SharedMemory.unlink(name);
});

test("words whose check holds and that are impossible", () => {
  const name = names.next();
  using _ = holdName(name);
  using one = SharedMemory.from("content", { capacity: 100 });
  const { bytes, header: { id } } = readRawObject(one.name);
  const changes: readonly (readonly [offset: number, value: number])[] = [
    [128, 105],
    [128, 2 ** 48 - 1],
    [256, 105],
    [384, 0],
    [384, 4096],
    [384, 4209],
    [384, 4216],
    [384, 2 ** 47],
    [512, 0],
    [512, 3],
  ];
  for (const [offset, value] of changes) {
    const changed = Uint8Array.from(bytes);
    changed.set(sealed(value, id), offset);
    fs.writeFileSync(pathOf(name), changed);
    const before = fingerprint(pathOf(name));
    assertThrows(() => SharedMemory.open(name), mapError("ERR_CORRUPT"), `${value} at ${offset}`);
    assert.equal(fingerprint(pathOf(name)), before);
  }
  const kind = Uint8Array.from(bytes);
  kind[12] = 1;
  new DataView(kind.buffer).setUint32(124, crc32c(kind.subarray(0, 124)), true);
  fs.writeFileSync(pathOf(name), kind);
  assertThrows(() => SharedMemory.open(name), mapError("ERR_KIND", /"counters"/));
  assert.equal(SharedMemory.list().find((entry) => entry.name === name), undefined);
  SharedMemory.unlink(name);
});

test("2,000 random damages: a clear error or the right content, never a rewrite", () => {
  const name = names.next();
  using _ = holdName(name);
  using one = SharedMemory.from("the right content", { capacity: 200 });
  const bytes = fs.readFileSync(pathOf(one.name));
  let seed = 12345;
  const random = (limit: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return Math.floor((seed / 2 ** 32) * limit);
  };
  let refused = 0;
  for (let round = 0; round < 2000; round++) {
    let changed = Buffer.from(bytes);
    // The part that says something twice as often as the rest before the content; the content's own bytes are whatever they are.
    for (let i = 0; i <= random(4); i++) {
      const offset = random(2) === 0 ? random(520) : random(4096);
      const length = 1 + random(random(2) === 0 ? 1 : 16);
      for (let j = 0; j < length; j++) if (offset + j < 4096) changed[offset + j] = random(256);
    }
    if (random(8) === 0) changed = changed.subarray(0, random(changed.byteLength));
    fs.writeFileSync(pathOf(name), changed);
    const before = round % 10 === 0 ? fingerprint(pathOf(name)) : undefined;
    try {
      using object = SharedMemory.open(name, { mode: round % 3 === 0 ? "r" : "rw" });
      assert.equal(text(object.read()), "the right content");
      assert.equal(object.capacity, 200);
    } catch (error) {
      refused++;
      const { code } = error as MapError;
      assert.ok(["ERR_NOT_HOLDFAST", "ERR_CORRUPT", "ERR_VERSION", "ERR_KIND"].includes(code), String(error));
      assertError(error, { ...mapError(code), path: pathOf(name) });
    }
    if (before !== undefined) assert.equal(fingerprint(pathOf(name)), before);
    else assert.ok(fs.readFileSync(pathOf(name)).equals(changed));
  }
  assert.ok(refused > 500 && refused < 2000, `${refused} of 2000 were refused`);
  SharedMemory.unlink(name);
});

test("damage under an open handle: a clear error or what the bytes say, by every operation", () => {
  const name = names.next();
  using _ = holdName(name);
  using source = SharedMemory.from("the right content", { capacity: 200 });
  const bytes = fs.readFileSync(pathOf(source.name));
  const uses: ((object: SharedMemory) => unknown)[] = [
    (object) => object.read(),
    (object) => object.write("y".repeat(150)),
    (object) => object.write("y".repeat(5000)),
    (object) => object.view(),
    (object) => object.trim(2),
    (object) => object.append(source),
    (object) => object.setCapacity(10),
    (object) => object.splitAt(3).close(),
    (object) => object.adopt(),
  ];
  for (const offset of [128, 256, 384, 512, bytes.byteLength - 8]) {
    for (let bit = 0; bit < 64; bit += 5) {
      for (const use of uses) {
        fs.writeFileSync(pathOf(name), bytes);
        using object = SharedMemory.open(name);
        const fd = fs.openSync(pathOf(name), "r+");
        const changed = Uint8Array.of((bytes[offset + (bit >> 3)] as number) ^ (1 << (bit & 7)));
        fs.writeSync(fd, changed, 0, 1, offset + (bit >> 3));
        fs.closeSync(fd);
        try {
          use(object);
          assert.ok(text(object.read()).length < 5001);
        } catch (error) {
          assert.ok(error instanceof MapError && error.code === "ERR_CORRUPT", `bit ${bit} at ${offset}, ${use}: ${error}`);
        }
      }
    }
  }
  fs.rmSync(pathOf(name), { force: true });
});

test("every operation on a damaged object", () => {
  const name = names.next();
  using _ = holdName(name);
  using one = SharedMemory.from("content of some length", { capacity: 100 });
  const bytes = fs.readFileSync(pathOf(one.name));
  for (const offset of [4096 + 3, 130, 260, 390, 514, bytes.byteLength - 3]) {
    const changed = Buffer.from(bytes);
    changed[offset] = (changed[offset] as number) ^ 0x10;
    fs.writeFileSync(pathOf(name), changed);
    tryAll(name);
  }
  fs.rmSync(pathOf(name), { force: true });
});
