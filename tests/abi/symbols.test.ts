/** Header, table and library describe the same functions. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { native } from "../../lib/native/native.ts";
import * as table from "../../lib/native/symbols.ts";
import { readElf } from "../support/elf.ts";
import { readHeader } from "../support/header.ts";
import { library } from "../support/runtimes.ts";
import {
  CONSUMER,
  CONSUMER_CELLS,
  CONSUMER_LOCK,
  CONSUMER_WORDS,
  GROUP_WORDS,
  NEXT_SEGMENT,
  PRODUCER,
  PRODUCER_CELLS,
  PRODUCER_WORDS,
  RECORD_PAYLOAD,
  RECORD_TRAILER_BYTES,
  recordBytes,
} from "../../lib/layout/queue.ts";

const header = readHeader();

test("the table has the header's functions, in its order", () => {
  assert.ok(header.prototypes.length > 40);
  assert.deepEqual(Object.keys(table.symbols), header.prototypes.map(({ name }) => name));
});

test("the table has the header's parameters: names, order and kind", () => {
  const expected = Object.fromEntries(header.prototypes.map(({ name, parameters }) => [name, parameters]));
  assert.deepEqual(Object.fromEntries(Object.entries(table.symbols).map(([name, list]) => [name, [...list]])), expected);
});

test("every function of the header returns a double", () => {
  for (const { name, result } of header.prototypes) assert.equal(result, "double", name);
});

test("every function of the header is documented", () => {
  for (const { name, comment } of header.prototypes) {
    const words = comment.replaceAll(/[^A-Za-z]+/g, " ").trim().split(" ");
    assert.ok(words.length >= 5, `${name} has no comment before it`);
  }
});

test("the library exports the header's functions and nothing else", () => {
  const exported = readElf(library).symbols.filter(({ defined, binding }) => defined && binding !== "local");
  assert.deepEqual(exported.map(({ name }) => name).sort(), header.prototypes.map(({ name }) => name).sort());
});

test("the ABI version is that of the header and of the library", () => {
  assert.equal(table.ABI_VERSION, header.constants.get("HF_ABI_VERSION"));
  assert.equal(native().hf_abi_version(), table.ABI_VERSION);
});

/** The header's constants with this prefix, by the rest of their names. */
function constants(prefix: string): Record<string, number> {
  const found = [...header.constants].filter(([name]) => name.startsWith(prefix) && name !== "HF_E_BASE");
  return Object.fromEntries(found.map(([name, value]) => [name.slice(prefix.length), value]));
}

test("result codes, flags and kinds are the header's", () => {
  assert.deepEqual({ ...table.codes }, constants("HF_E_"));
  const { ALL, ...flags } = constants("HF_MAP_");
  assert.deepEqual({ ...table.mapFlags }, flags);
  assert.equal(Object.values(flags).reduce((all, flag) => all | flag), ALL);
  const { COUNT, ...advices } = constants("HF_ADVISE_");
  const named = Object.entries(table.advices).map(([name, value]) => [name.toUpperCase().replace("-", "_"), value]);
  assert.deepEqual(Object.fromEntries(named), advices);
  assert.equal(named.length, COUNT);
  assert.deepEqual({ ...table.lockKinds }, constants("HF_LOCK_"));
  assert.equal(Object.keys(table.codes).length, 7);
});

test("the layout of the commit cells is the header's", () => {
  assert.equal(table.CELL_PAIR_BYTES, header.constants.get("HF_CELL_PAIR_BYTES"));
  assert.ok(PRODUCER_CELLS + table.CELL_PAIR_BYTES <= CONSUMER_LOCK, "the producer's cells end before the consumer's lock");
  assert.ok(CONSUMER_CELLS + table.CELL_PAIR_BYTES <= NEXT_SEGMENT, "the consumer's cells end before the next word");
});

test("the queue's cells and records are the header's", () => {
  const words = (cell: Readonly<Record<string, number>>, names: readonly string[]): (readonly [string, number | undefined])[] =>
    names.map((name) => [name.toUpperCase(), cell[name]] as const);
  const constant = (name: string): number | undefined => header.constants.get(`HF_${name}`);
  const both = ["position", "segment", "offset", "sequence", "bytes"];
  for (const [name, index] of [...words(PRODUCER, both), ...words(CONSUMER, [...both, "leased", "head"])]) {
    assert.equal(typeof index, "number", name);
    assert.equal(index, constant(name), name);
  }
  assert.equal(PRODUCER_WORDS, constant("TAIL_WORDS"));
  assert.equal(RECORD_PAYLOAD, constant("RECORD_PAYLOAD"));
  assert.equal(RECORD_PAYLOAD + RECORD_TRAILER_BYTES, constant("RECORD_AROUND"));
  assert.equal(recordBytes(0), constant("RECORD_AROUND"));
});

test("a side has room for each of the queue's cells, and the word behind it", () => {
  assert.equal(table.SIDE_BYTES, header.constants.get("HF_SIDE_BYTES"));
  assert.equal(table.SIDE_VALUES, header.constants.get("HF_SIDE_VALUES"));
  const most = header.constants.get("HF_CELL_WORDS") as number;
  for (const count of [PRODUCER_WORDS, CONSUMER_WORDS, GROUP_WORDS]) assert.ok(count <= most, `${count} words`);
  assert.ok(table.SIDE_VALUES + 8 * (most + 1) <= table.SIDE_BYTES);
});
