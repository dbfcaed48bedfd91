/** Damaged files of blocks: a clear error or the right bytes, never another thing. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BlockStore } from "../../mod.ts";
import { fuzz, type FuzzContext } from "../support/fuzz.ts";
import { type ForgedBlock, forgeBlocks } from "../support/reader_blocks.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();

/** The same file each time: a word's check has 16 bits, so that of many random damages one could pass; with one id it is known which. */
const id = Uint8Array.from({ length: 16 }, (_, i) => i * 17 + 3);

function content(number: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => number * 31 + i * 7);
}

function check(blocks: ReadonlyMap<number, ForgedBlock>, count: number, store: BlockStore, { call, mode }: FuzzContext): void {
  for (let number = 0; number < count; number++) {
    const found = call(() => store.read(number));
    if (found !== undefined) assert.deepEqual(found.value, blocks.get(number)?.bytes, `block ${number}`);
  }
  const report = call(() => store.verify());
  const stored = [...blocks].filter(([, block]) => block.bytes !== undefined).map(([number]) => number);
  if (report !== undefined) {
    const lost = new Set(report.value.damaged.map((entry) => entry.id));
    assert.equal(report.value.stored, stored.filter((number) => !lost.has(number)).length);
    assert.equal(report.value.blocks, count);
  }
  const ids = call(() => [...store.ids()]);
  if (ids !== undefined) assert.deepEqual(ids.value.filter((number) => number < count), stored.sort((a, b) => a - b));
  const entries = call(() => [...store.entries({ reverse: true })]);
  if (entries !== undefined) assert.deepEqual(entries.value.map(([number]) => number), stored.toReversed());
  call(() => store.count);
  if (mode === "r") return;
  const bytes = content(99, 40);
  for (let i = 0; i < 3; i++) {
    const made = call(() => store.store(bytes));
    if (made?.value === undefined) continue;
    assert.equal(blocks.get(made.value)?.bytes, undefined, `block ${made.value} was given away although it is stored`);
    assert.deepEqual(store.read(made.value), bytes);
    assert.equal(store.free(made.value), true);
  }
  for (const number of stored) {
    const freed = call(() => store.free(number));
    if (freed !== undefined) assert.equal(freed.value, true, `block ${number}`);
  }
}

const CODES = ["ERR_NOT_HOLDFAST", "ERR_VERSION", "ERR_CORRUPT", "ERR_KIND", "ERR_FAULT"];

for (const [name, blockBytes, maxBlocks, groupBlocks, groups] of [
  ["two groups of four", 64, 0, 4, 2],
  ["a limit within the second group", 56, 6, 4, 2],
] as const) {
  test(`every byte of the start, and 2,000 random damages: ${name}`, () => {
    const count = maxBlocks === 0 ? groups * groupBlocks : maxBlocks;
    const blocks = new Map<number, ForgedBlock>([
      [0, { generation: 0, bytes: content(0, blockBytes) }],
      [1, { generation: 7, bytes: content(1, 13) }],
      [2, { generation: 3 }],
      [4, { generation: 0, bytes: new Uint8Array(0) }],
      [5, { generation: 2 ** 32 - 1, bytes: content(5, blockBytes - 1) }],
    ]);
    const report = fuzz({
      original: forgeBlocks({ id, blockBytes, maxBlocks, groupBlocks, groups, blocks }),
      path: files.next(),
      open: (path, mode) => BlockStore.open(path, { mode }),
      use: (store, context) => check(blocks, count, store, context),
      codes: CODES,
      headerBytes: 136,
      seed: 4,
    });
    console.log(`# ${JSON.stringify(report)}`);
    assert.ok(report.refused > 2 * 3 * 100, "most damage to the header is refused");
    assert.ok(report.errors > 100, "and much of the other damage is found");
  });
}
