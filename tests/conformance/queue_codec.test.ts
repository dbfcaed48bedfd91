/** Compressed payloads: what goes in comes out, what is damaged does not, and a bomb costs nothing. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as zlib from "node:zlib";
import { type Codec, compressed, type CompressionOptions, MapError, Queue } from "../../mod.ts";
import { assertThrows, mapError, rangeError, typeError } from "../support/errors.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const formats = ["gzip", "deflate", "brotli", "zstd"] as const;
const text = "to be or not to be, that is the question; ".repeat(100);
/** Numbers that look random and are the same each time (xorshift). */
let state = 1;
const random = (below: number): number => {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
};
const noise = Uint8Array.from({ length: 1000 }, () => random(256));
/** Something that is worth the effort of a high level. */
const prose = Array.from({ length: 10_000 }, () => `word${random(300)}`).join(" ");

for (const format of formats) {
  test(`${format}: what goes in comes out, of every inner codec`, () => {
    using json = Queue.open<{ text: string }>(files.next("json"), { codec: compressed("json", { format }) });
    json.push({ text });
    assert.ok(json.byteLength < text.length / 10, `${json.byteLength} bytes`);
    assert.deepEqual(json.pop(), { text });
    using words = Queue.open(files.next("text"), { codec: compressed("text", { format }) });
    for (const value of ["", "a", "\uFEFFbom ü 日本語 🎉", text]) {
      words.push(value);
      assert.equal(words.peek(), value);
      assert.equal(words.pop(), value);
    }
    using bytes = Queue.open(files.next("bytes"), { codec: compressed("bytes", { format }) });
    for (const value of [new Uint8Array(0), noise, new Uint8Array(300_000), new TextEncoder().encode(text)]) {
      bytes.push(value);
      const found = bytes.pop() as Uint8Array;
      assert.equal(found.constructor, Uint8Array, "no Buffer");
      assert.deepEqual(found, value);
      // The caller's own: of a pool or of the queue's memory it would be a part.
      assert.equal(found.buffer.byteLength, found.byteLength);
    }
    const dates: Codec<Date> = { encode: (date) => new TextEncoder().encode(date.toISOString().repeat(50)), decode: (payload) => new Date(new TextDecoder().decode(payload.subarray(0, 24))) };
    using own = Queue.open(files.next("own"), { codec: compressed(dates, { format }) });
    own.push(new Date(5));
    assert.deepEqual([...own], [new Date(5)]);
    assert.deepEqual(own.popMany(2), [new Date(5)]);
  });

  test(`${format}: damage of any byte is ERR_CODEC or the value itself, and the record stays`, () => {
    const path = files.next("damaged");
    using raw = Queue.open<Uint8Array>(path, { codec: "bytes" });
    using queue = Queue.open<string>(path, { codec: compressed("text", { format }) });
    queue.push(text);
    const payload = raw.pop() as Uint8Array;
    assert.ok(payload.length < 500);
    let refused = 0;
    const cases: Uint8Array[] = [];
    for (let i = 0; i < payload.length; i++) {
      cases.push(payload.with(i, (payload[i] as number) ^ (1 << i % 8)), payload.slice(0, i));
    }
    for (const damaged of cases) {
      raw.push(damaged);
      try {
        // A bit that the format does not use (gzip's time, or the rest of its last byte) changes nothing.
        assert.equal(queue.pop(), text);
      } catch (error) {
        assert.ok(error instanceof MapError, String(error));
        assert.equal(error.code, "ERR_CODEC", error.message);
        assert.equal(queue.length, 1, "the record stays");
        assert.deepEqual(raw.pop(), damaged);
        refused++;
      }
      assert.equal(queue.length, 0);
    }
    assert.ok(refused >= cases.length * 0.9, `${refused} of ${cases.length} were refused`);
  });

  test(`${format}: levels`, () => {
    const most = { gzip: 9, deflate: 9, brotli: 11, zstd: 22 }[format];
    const least = format === "zstd" ? 1 : 0;
    for (const level of [least, most]) {
      const codec = compressed("text", { format, level });
      assert.equal(codec.decode(codec.encode(text)), text);
    }
    assertThrows(() => compressed("text", { format, level: most + 1 }), rangeError(/level/));
    if (least === 1) assertThrows(() => compressed("text", { format, level: 0 }), rangeError(/1 to 22/));
    const size = (level: number): number => compressed("text", { format, level }).encode(prose).length;
    assert.ok(size(most) < size(1) * 0.97, `${size(most)} bytes with level ${most}, ${size(1)} with 1`);
  });
}

test("a payload that does not get shorter is stored with one byte before it", () => {
  const codec = compressed("bytes");
  for (const value of [new Uint8Array(0), new Uint8Array([7]), noise]) {
    const payload = codec.encode(value);
    assert.equal(payload.length, value.length + 1);
    assert.equal(payload[0], 0);
    assert.deepEqual(codec.decode(payload), value);
  }
});

test("every format is read, whichever is written; the default is zstd", () => {
  const codec = compressed("text");
  assert.equal(codec.encode(text)[0], 4);
  for (const format of formats) assert.equal(codec.decode(compressed("text", { format }).encode(text)), text);
});

test("a bomb is refused before it unpacks", () => {
  const small = compressed("bytes", { maxOutputLength: 1000 });
  for (const format of formats) {
    const packed = compressed("bytes", { format }).encode(new Uint8Array(1 << 20));
    assertThrows(() => small.decode(packed), mapError("ERR_CODEC", /1048576 bytes uncompressed/));
    // One that lies about its length.
    const lying = packed.slice();
    new DataView(lying.buffer).setUint32(1, 1000, true);
    // Refused on the way, not by what came out.
    assertThrows(() => small.decode(lying), mapError("ERR_CODEC", /can't be unpacked/));
    new DataView(lying.buffer).setUint32(1, 0, true);
    assertThrows(() => small.decode(lying), mapError("ERR_CODEC", /can't be unpacked/));
  }
  assertThrows(() => small.decode(new Uint8Array(1002)), mapError("ERR_CODEC", /1001 bytes/));
  assert.equal(small.decode(new Uint8Array(1001)).length, 1000);
  assertThrows(() => small.encode(new Uint8Array(1001)), rangeError(/maxOutputLength/));
  assert.equal(small.decode(small.encode(new Uint8Array(1000))).length, 1000);
});

test("a payload of 0 bytes that is said to be packed", () => {
  const packed = zlib.gzipSync(new Uint8Array(0));
  const payload = new Uint8Array(9 + packed.length);
  payload[0] = 1;
  payload.set(packed, 9);
  assert.equal(compressed("text").decode(payload), "");
});

test("what was pushed with another codec is refused and stays", () => {
  const path = files.next("other");
  using plain = Queue.open(path);
  using queue = Queue.open(path, { codec: compressed() });
  plain.push("not packed");
  assertThrows(() => queue.pop(), mapError("ERR_CODEC", /another codec/));
  assertThrows(() => queue.peekBack(), mapError("ERR_CODEC"));
  assert.equal(plain.pop(), "not packed");
});

test("inner codecs check their values, and options are checked", () => {
  using queue = Queue.open<string>(files.next("checks"), { codec: compressed("text") });
  assertThrows(() => queue.push(1 as never), typeError());
  assertThrows(() => queue.push("\ud800"), typeError(/surrogate/));
  assert.equal(queue.length, 0);
  assertThrows(() => compressed("xml" as never), typeError(/"inner"/));
  assertThrows(() => compressed({} as never), typeError(/"inner"/));
  assertThrows(() => compressed("text", { format: "lzma" } as never), rangeError(/format/));
  assertThrows(() => compressed("text", { quality: 1 } as never), typeError(/quality/));
  assertThrows(() => compressed("text", { level: 1.5 }), rangeError());
  assertThrows(() => compressed("text", { maxOutputLength: 0 }), rangeError());
  assertThrows(() => compressed("text", { maxOutputLength: 2 ** 31 }), rangeError());
});

test("a compressed codec may use another queue while it decodes: no lock is held", () => {
  const path = files.next("nested");
  const seen: number[] = [];
  using log = Queue.open<number>(path, { codec: "json" });
  const inner: Codec<number> = {
    encode: (value) => new Uint8Array(100).fill(value),
    decode(payload) {
      seen.push(log.length);
      return payload[0] as number;
    },
  };
  using queue = Queue.open<number>(path, { codec: compressed(inner) });
  queue.push(7);
  assert.equal(queue.pop(), 7);
  assert.deepEqual(seen, [1]);
});

test("types: values are those of the inner codec", () => {
  const options: CompressionOptions = { format: "gzip" };
  const json: Codec<{ id: number }> = compressed("json", options);
  const words: Codec<string> = compressed("text");
  const bytes: Codec<Uint8Array> = compressed("bytes");
  assert.deepEqual(json.decode(json.encode({ id: 1 })), { id: 1 });
  assert.equal(words.decode(words.encode("x")), "x");
  assert.deepEqual(bytes.decode(bytes.encode(noise)), noise);
});
