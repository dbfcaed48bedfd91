/** Files of blocks, byte by byte, seen and made by a second implementation that shares no code with the library. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { BlockStore } from "../../mod.ts";
import { assertThrows, mapError } from "../support/errors.ts";
import { crc32c } from "../support/reader.ts";
import { forgeBlocks, type RawBlockStore, readRawBlocks } from "../support/reader_blocks.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { untouched } from "../support/untouched.ts";

const files = temporaryFiles();
const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** What holds of every whole file. */
function checkWhole({ header, groups, blocks, padding, size, computedSize }: RawBlockStore): void {
  assert.deepEqual(header.magic, [0x48, 0x46, 0x53, 0x54, 0x0d, 0x0a, 0x1a, 0x00]);
  assert.deepEqual([header.version, header.kind, header.endian, header.headerLength, header.reserved], [1, 5, 0x0a0b0c0d, 128, 0]);
  assert.equal(header.checksum, header.computed);
  assert.ok(!isZero(header.id));
  assert.deepEqual(header.fields.slice(3), Array.from({ length: 7 }, () => 0n));
  assert.equal(groups.check, groups.computed);
  assert.equal(size, computedSize);
  assert.ok(isZero(padding));
  for (const block of blocks) {
    assert.equal(block.word.check, block.word.computed, `word of block ${block.id}`);
    assert.ok(block.owner === 0 || block.owner === 0xffff, `block ${block.id} is nobody's`);
    if (block.owner === 0) continue;
    assert.equal(block.checksum, block.computed, `record of block ${block.id}`);
    assert.equal(block.total, Math.ceil((16 + block.length) / 8) * 8);
    assert.equal(block.reserved, 0);
    assert.ok(isZero(block.padding));
  }
}

test("a new file has no blocks, a first store makes a group", () => {
  const path = files.next();
  using store = BlockStore.open(path, { blockBytes: 100 });
  const empty = readRawBlocks(path);
  checkWhole(empty);
  assert.deepEqual([empty.blockBytes, empty.maxBlocks, empty.groupBlocks, empty.groups.value, empty.size], [100, 0, 64, 0n, 1024]);
  const id = store.store(text("hello")) as number;
  const one = readRawBlocks(path);
  checkWhole(one);
  assert.equal(one.groups.value, 1n);
  assert.equal(one.size, 1024 + 512 + 64 * 120);
  assert.equal(one.blocks.length, 64);
  for (const block of one.blocks) assert.deepEqual([block.owner, block.generation], [block.id === id ? 0xffff : 0, 0]);
  assert.deepEqual(one.blocks[id]?.bytes, text("hello"));
});

test("stores and frees, and what they leave", () => {
  const path = files.next();
  using store = BlockStore.open(path, { blockBytes: 33 });
  const contents = Array.from({ length: 300 }, (_, i) => new Uint8Array(i % 34).fill(i));
  const ids = contents.map((content) => store.store(content) as number);
  for (const id of ids.filter((_, i) => i % 2 === 0)) store.free(id);
  const raw = readRawBlocks(path);
  checkWhole(raw);
  ids.forEach((id, i) => {
    const block = raw.blocks[id];
    assert.equal(block?.generation, i % 2 === 0 ? 1 : 0);
    assert.equal(block?.owner, i % 2 === 0 ? 0 : 0xffff);
    if (i % 2 !== 0) assert.deepEqual(block?.bytes, contents[i]);
  });
  const again = store.store(text("again")) as number;
  assert.equal(readRawBlocks(path).blocks[again]?.generation, 1);
});

test("groups hold fewer blocks where these are large, and a limit ends the last one", () => {
  for (const [blockBytes, groupBlocks] of [[1, 64], [16_000, 64], [16_400, 32], [100_000, 8], [1 << 20, 1], [5_000_000, 1]] as const) {
    const path = files.next();
    using store = BlockStore.open(path, { blockBytes, maxBlocks: 3 });
    for (let i = 0; i < 3; i++) assert.equal(typeof store.store(text("x")), "number");
    const raw = readRawBlocks(path);
    checkWhole(raw);
    assert.deepEqual([raw.groupBlocks, raw.blocks.length, raw.maxBlocks], [groupBlocks, 3, 3]);
    fs.rmSync(path);
  }
});

test("the library reads a file that the second implementation made, and goes on with it", () => {
  const blocks = new Map([
    [0, { generation: 5, bytes: text("zero") }],
    [3, { generation: 2 ** 32 - 1, bytes: text("three") }],
    [7, { generation: 4_000_000_000 }],
  ]);
  const id = Uint8Array.from({ length: 16 }, (_, i) => 255 - i);
  const path = files.file(forgeBlocks({ id, blockBytes: 10, maxBlocks: 8, groupBlocks: 8, groups: 1, blocks }));
  using store = BlockStore.open(path);
  assert.deepEqual([...store], [[0, text("zero")], [3, text("three")]]);
  assert.equal(store.free(3), true);
  for (let i = 0; i < 7; i++) assert.equal(typeof store.store(text(`new ${i}`)), "number");
  assert.equal(store.store(text("more")), undefined);
  const raw = readRawBlocks(path);
  checkWhole(raw);
  assert.equal(raw.blocks[3]?.generation, 0, "a generation wraps");
  assert.equal(raw.blocks[7]?.generation, 4_000_000_000);
});

test("a header that checks out and has impossible blocks", () => {
  const id = Uint8Array.from({ length: 16 }, (_, i) => i);
  for (const [field, value] of [[0, 0], [0, 2 ** 30 + 1], [2, 0], [2, 3], [2, 128]] as const) {
    const bytes = Buffer.from(forgeBlocks({ id, blockBytes: 10, groupBlocks: 8, groups: 1, blocks: new Map() }));
    bytes.writeBigUInt64LE(BigInt(value), 40 + 8 * field);
    bytes.writeUInt32LE(crc32c(bytes.subarray(0, 124)), 124);
    const path = files.file(bytes);
    untouched(path, () => assertThrows(() => BlockStore.open(path), { ...mapError("ERR_CORRUPT", /impossible/), path }, `${value}`));
  }
});

test("every damaged bit of the number of groups and of a block's word", () => {
  const id = Uint8Array.from({ length: 16 }, (_, i) => i * 3);
  const original = forgeBlocks({ id, blockBytes: 10, groupBlocks: 2, groups: 2, blocks: new Map([[1, { generation: 6, bytes: text("one") }]]) });
  for (let bit = 0; bit < 64; bit++) {
    const flipped = (offset: number): string => {
      const bytes = Uint8Array.from(original);
      bytes[offset + (bit >> 3)] = (bytes[offset + (bit >> 3)] as number) ^ (1 << (bit & 7));
      return files.file(bytes);
    };
    const groups = flipped(128);
    untouched(groups, () => assertThrows(() => BlockStore.open(groups), { ...mapError("ERR_CORRUPT", /groups/), path: groups }));
    const path = flipped(1024 + 8);
    using store = BlockStore.open(path);
    for (const call of [() => store.read(1), () => store.free(1), () => store.has(1), () => store.count, () => [...store.ids()]]) {
      assertThrows(call, { ...mapError("ERR_CORRUPT", /block 1 /), path }, `bit ${bit}`);
    }
    assert.deepEqual(store.verify().damaged.map((entry) => entry.id), [1]);
    for (let i = 0; i < 6; i++) assert.notEqual(store.store(text("new")), 1, "it is never given away");
  }
});
