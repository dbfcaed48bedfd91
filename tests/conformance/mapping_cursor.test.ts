/** The cursor of a mapping, its lines, and its streams. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { Mapping } from "../../mod.ts";
import { assertRejects, assertThrows, mapError, rangeError, typeError } from "../support/errors.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const text = (bytes: Uint8Array | undefined): string | undefined => (bytes === undefined ? undefined : new TextDecoder().decode(bytes));
const bytesOf = (content: string): Uint8Array => new TextEncoder().encode(content);

test("read goes on where it stopped, is short at the end, and undefined behind it", () => {
  using mapping = Mapping.open(files.file("0123456789"), { mode: "r" });
  assert.equal(mapping.position, 0);
  assert.equal(text(mapping.read(4)), "0123");
  assert.equal(mapping.position, 4);
  assert.equal(text(mapping.read(0)), "");
  assert.equal(text(mapping.read(100)), "456789");
  assert.equal(mapping.position, 10);
  assert.equal(mapping.read(1), undefined);
  assert.equal(mapping.read(0), undefined);
  assert.equal(mapping.seek(0), 0);
  assert.equal(text(mapping.read(Number.MAX_SAFE_INTEGER)), "0123456789");
  for (const length of [-1, 0.5, NaN, Infinity, 2 ** 53]) assertThrows(() => mapping.read(length), rangeError(/"length"/));
  for (const length of ["1", 1n, null, undefined]) assertThrows(() => mapping.read(length as unknown as number), typeError(/"length"/));
});

test("seek from the start, the position and the end, and never outside", () => {
  using mapping = Mapping.anonymous(100);
  assert.equal(mapping.seek(10), 10);
  assert.equal(mapping.seek(5, "current"), 15);
  assert.equal(mapping.seek(-15, "current"), 0);
  assert.equal(mapping.seek(0, "end"), 100);
  assert.equal(mapping.seek(-30, "end"), 70);
  for (const [offset, whence] of [[-1, "start"], [101, "start"], [1, "end"], [-101, "end"], [31, "current"], [-71, "current"], [2 ** 53 - 1, "current"], [-(2 ** 53 - 1), "end"]] as const) {
    assertThrows(() => mapping.seek(offset, whence), rangeError(/100 bytes/), `${offset} from ${whence}`);
  }
  for (const offset of [0.5, NaN, Infinity, 2 ** 53]) assertThrows(() => mapping.seek(offset), rangeError());
  for (const offset of ["1", 1n, null, undefined]) assertThrows(() => mapping.seek(offset as unknown as number), typeError());
  assertThrows(() => mapping.seek(0, "middle" as "start"), rangeError(/"start" or "current" or "end"/));
  assertThrows(() => mapping.seek(0, 1 as unknown as "start"), typeError());
  assert.equal(mapping.position, 70, "what was refused moved nothing");
  assert.throws(() => ((mapping as { position: number }).position = 5), TypeError);
});

test("write moves behind what it wrote, and writes all or nothing", () => {
  const path = files.file(".".repeat(20));
  using mapping = Mapping.open(path);
  assert.equal(mapping.write("ab"), 2);
  assert.equal(mapping.write([bytesOf("cd"), "é"]), 4);
  assert.equal(mapping.position, 6);
  assert.equal(mapping.write(""), 0);
  assertThrows(() => mapping.write("x".repeat(15)), rangeError());
  assert.equal(mapping.position, 6);
  assertThrows(() => mapping.write(5 as unknown as string), typeError());
  mapping.seek(0, "end");
  assert.equal(mapping.write(new Uint8Array(0)), 0);
  assertThrows(() => mapping.write("x"), rangeError());
  assert.equal(fs.readFileSync(path, "utf8"), `abcdé${".".repeat(14)}`);
  using reader = Mapping.open(path, { mode: "r" });
  assertThrows(() => reader.write("x"), mapError("ERR_READ_ONLY"));
  assert.equal(reader.position, 0);
});

test("each handle has a cursor of its own", () => {
  const path = files.file("abc");
  using one = Mapping.open(path);
  using two = Mapping.open(path);
  one.seek(2);
  assert.equal(two.position, 0);
  two.write("X");
  assert.deepEqual([one.position, two.position], [2, 1]);
});

/** Contents, and the lines that they have. */
const cases: readonly (readonly [name: string, content: string | Uint8Array, lines: readonly string[]])[] = [
  ["one without an end", "one", ["one"]],
  ["one with an end", "one\n", ["one"]],
  ["only a line end", "\n", [""]],
  ["only CRLF", "\r\n", [""]],
  ["empty ones", "\n\n\na\n\n", ["", "", "", "a", ""]],
  ["CRLF", "a\r\nb\r\n\r\nc", ["a", "b", "", "c"]],
  ["both kinds", "a\nb\r\nc\n", ["a", "b", "c"]],
  ["CR that ends no line", "a\rb\n\rc\r\r\nd", ["a\rb", "\rc\r", "d"]],
  ["NUL and blanks", "a\0b \n\t\n", ["a\0b ", "\t"]],
  ["a byte order mark stays", "\ufeffa\n", ["\ufeffa"]],
  ["UTF-8", "grüße\n日本語\n🚀", ["grüße", "日本語", "🚀"]],
  ["bytes that are no UTF-8", new Uint8Array([0xff, 0x61, 10, 0xc3, 10, 0xe2, 0x82, 13, 10, 0x62]), ["\ufffda", "\ufffd", "\ufffd", "b"]],
  ["a line end at the end of a chunk", `${"x".repeat(65_535)}\nb`, ["x".repeat(65_535), "b"]],
  ["a line end at the start of a chunk", `${"x".repeat(65_536)}\nb\n`, ["x".repeat(65_536), "b"]],
  ["CRLF cut by the end of a chunk", `${"x".repeat(65_535)}\r\nb`, ["x".repeat(65_535), "b"]],
  ["a character cut by the end of a chunk", `${"x".repeat(65_534)}🚀y\nz`, [`${"x".repeat(65_534)}🚀y`, "z"]],
  ["a line over many chunks", `a\n${"é".repeat(200_000)}\r\nb`, ["a", "é".repeat(200_000), "b"]],
  ["a last line over many chunks", `a\n${"y".repeat(140_000)}`, ["a", "y".repeat(140_000)]],
  ["chunks full of line ends", "\n".repeat(140_000), Array(140_000).fill("")],
  ["many", Array.from({ length: 30_000 }, (_, i) => `line ${i}`).join("\n"), Array.from({ length: 30_000 }, (_, i) => `line ${i}`)],
  ["around the first reads of readLine", [255, 256, 257, 1023, 1024, 1025].map((n) => "z".repeat(n)).join("\n"), [255, 256, 257, 1023, 1024, 1025].map((n) => "z".repeat(n))],
];

for (const [name, content, expected] of cases) {
  test(`lines: ${name}`, () => {
    using mapping = Mapping.open(files.file(content), { mode: "r" });
    const lines = [...mapping.lines()];
    assert.equal(lines.length, expected.length);
    assert.ok(lines.every((line, i) => line === expected[i]), "lines()");
    assert.equal(mapping.position, 0, "the cursor stays");
    // Of very many lines, some.
    const count = Math.min(expected.length, 2000);
    for (let i = 0; i < count; i++) assert.equal(mapping.readLine(), expected[i], `readLine() ${i}`);
    if (count === expected.length) {
      assert.equal(mapping.readLine(), undefined);
      assert.equal(mapping.position, mapping.byteLength);
      assert.equal(mapping.readLine(), undefined);
    }
  });
}

test("lines from start to end, and again", () => {
  using mapping = Mapping.open(files.file("abc\ndef\r\nghi\n"));
  const lines = mapping.lines();
  assert.deepEqual([...lines], ["abc", "def", "ghi"]);
  assert.deepEqual([...lines], ["abc", "def", "ghi"], "each iteration starts anew");
  assert.deepEqual([...mapping.lines({ start: 4 })], ["def", "ghi"]);
  assert.deepEqual([...mapping.lines({ start: 5, end: 8 })], ["ef"], "a CR at the end belongs to a line end");
  assert.deepEqual([...mapping.lines({ end: 2 })], ["ab"]);
  assert.deepEqual([...mapping.lines({ start: 13 })], []);
  assert.deepEqual([...mapping.lines({ start: 3, end: 3 })], []);
  assert.deepEqual([...mapping.lines({ start: 3, end: 4 })], [""]);
  for (const bad of [{ start: 14 }, { end: 14 }, { start: 5, end: 4 }, { start: -1 }, { end: 0.5 }, { end: 2 ** 53 }]) {
    assertThrows(() => mapping.lines(bad), rangeError(), JSON.stringify(bad));
    assertThrows(() => mapping.readable(bad), rangeError(), JSON.stringify(bad));
  }
  assertThrows(() => mapping.lines({ start: "0" as unknown as number }), typeError());
  assertThrows(() => mapping.lines({ from: 0 } as object), typeError(/"from"/));
  for (const line of mapping.lines()) {
    assert.equal(line, "abc");
    break;
  }
  // Text that was read before the first line end of a chunk is asked for late.
  const iterator = lines[Symbol.iterator]();
  iterator.next();
  mapping.close();
  assertThrows(() => { for (let i = 0; i < 5; i++) iterator.next(); lines[Symbol.iterator]().next(); }, mapError("ERR_CLOSED"));
});

test("readLine, read and seek share the position", () => {
  using mapping = Mapping.open(files.file("one\r\ntwo\nthree"));
  assert.equal(mapping.readLine(), "one");
  assert.equal(mapping.position, 5);
  assert.equal(text(mapping.read(2)), "tw");
  assert.equal(mapping.readLine(), "o");
  assert.equal(mapping.seek(-2, "end"), 12);
  assert.equal(mapping.readLine(), "ee");
  assert.equal(mapping.readLine(), undefined);
});

test("lines of a file that grows, after refresh()", () => {
  const path = files.file("one\n");
  using mapping = Mapping.open(path, { mode: "r" });
  assert.equal(mapping.readLine(), "one");
  assert.equal(mapping.readLine(), undefined);
  fs.appendFileSync(path, "two\nthr");
  assert.equal(mapping.readLine(), undefined);
  mapping.refresh();
  assert.equal(mapping.readLine(), "two");
  assert.deepEqual([...mapping.lines({ start: mapping.position })], ["thr"]);
});

async function chunks(stream: ReadableStream<Uint8Array>): Promise<Uint8Array[]> {
  const found: Uint8Array[] = [];
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return found;
    found.push(value);
  }
}

test("readable gives the bytes in chunks", async () => {
  const content = Uint8Array.from({ length: 200_000 }, (_, i) => i % 253);
  using mapping = Mapping.open(files.file(content), { mode: "r" });
  const cases = [
    [undefined, [65_536, 65_536, 65_536, 3392], 0, 200_000],
    [{ chunkSize: 100_000 }, [100_000, 100_000], 0, 200_000],
    [{ chunkSize: 2 ** 30 }, [200_000], 0, 200_000],
    [{ start: 199_999 }, [1], 199_999, 200_000],
    [{ start: 5, end: 12, chunkSize: 3 }, [3, 3, 1], 5, 12],
    [{ start: 200_000 }, [], 0, 0],
    [{ start: 7, end: 7 }, [], 0, 0],
  ] as const;
  for (const [options, sizes, start, end] of cases) {
    const found = await chunks(mapping.readable(options));
    assert.deepEqual(found.map(({ byteLength }) => byteLength), sizes);
    assert.deepEqual(new Uint8Array(Buffer.concat(found)), content.slice(start, end));
  }
  assert.equal((await chunks(mapping.readable({ end: 50, chunkSize: 1 }))).length, 50);
  for (const chunkSize of [0, -1, 0.5, NaN, 2 ** 30 + 1]) assertThrows(() => mapping.readable({ chunkSize }), rangeError(/"chunkSize"/));
  assertThrows(() => mapping.readable({ chunkSize: "1" as unknown as number }), typeError());
  assertThrows(() => mapping.readable({ highWaterMark: 1 } as object), typeError(/"highWaterMark"/));
  assert.equal(mapping.position, 0);
});

test("readable reads when it is asked, and the chunks are copies", async () => {
  using mapping = Mapping.anonymous(10);
  const reader = mapping.readable({ chunkSize: 5 }).getReader();
  mapping.pwrite(0, "first");
  const { value } = await reader.read();
  assert.equal(text(value), "first");
  mapping.pwrite(0, "other");
  mapping.pwrite(5, "later");
  assert.equal(text(value), "first");
  assert.equal(text((await reader.read()).value), "later");
  assert.equal((await reader.read()).done, true);
});

test("readable can be cancelled, and is like other streams", async () => {
  using mapping = Mapping.open(files.file("stream of text, 🚀"));
  const stream = mapping.readable({ chunkSize: 4 });
  const reader = stream.getReader();
  await reader.read();
  await reader.cancel("enough");
  assert.equal((await reader.read()).done, true);
  assert.equal(await new Response(mapping.readable({ chunkSize: 3 })).text(), "stream of text, 🚀");
  let piped = "";
  await mapping.readable({ chunkSize: 1 }).pipeThrough(new TextDecoderStream() as unknown as ReadableWritablePair<string, Uint8Array>)
    .pipeTo(new WritableStream({ write: (part: string) => void (piped += part) }));
  assert.equal(piped, "stream of text, 🚀");
  const [one, two] = mapping.readable().tee();
  assert.deepEqual(await chunks(one as ReadableStream<Uint8Array>), await chunks(two as ReadableStream<Uint8Array>));
});

test("a stream of a mapping that is closed or broken ends with the error", async () => {
  const path = files.file(new Uint8Array(20_000));
  const mapping = Mapping.open(path);
  const reader = mapping.readable({ chunkSize: 5000 }).getReader();
  assert.equal((await reader.read()).value?.byteLength, 5000);
  fs.truncateSync(path, 0);
  await assertRejects(() => reader.read(), { ...mapError("ERR_FAULT"), path });
  await assertRejects(() => reader.read(), mapError("ERR_FAULT"));
  await assertRejects(() => reader.closed, mapError("ERR_FAULT"));
  fs.truncateSync(path, 20_000);
  mapping.refresh();
  const other = mapping.readable().getReader();
  mapping.close();
  await assertRejects(() => other.read(), mapError("ERR_CLOSED"));
  other.closed.catch(() => {});
});
