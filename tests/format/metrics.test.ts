/** Files of metrics, byte by byte, seen by a reader that shares no code with the library. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { Counters, Metrics } from "../../mod.ts";
import { assertThrows, mapError } from "../support/errors.ts";
import { endCheck, readRawMetrics, recordChecksum } from "../support/metrics_reader.ts";
import { crc32c } from "../support/reader.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { untouched } from "../support/untouched.ts";

const files = temporaryFiles();
const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);

/** A file with one of each kind. */
function sample(): string {
  const path = files.next();
  using metrics = Metrics.open(path);
  metrics.counter("requests_total", { help: "Größe 🚀", labels: ["method", "code"] }).labels("GET", 200).inc(3.5);
  metrics.gauge("level", { help: "" }).set(-7);
  const histogram = metrics.histogram("seconds", { help: "Time.", labels: ["path"], buckets: [-0.5, 1, 1e9] });
  for (const value of [-1, 0, 1, 2, 1e10]) histogram.labels("\ufeff/ü").observe(value);
  return path;
}

test("a new file, byte by byte", () => {
  const path = files.next();
  Metrics.open(path).close();
  const { header, end, endCheck: check, endComputed, records, padding, size } = readRawMetrics(path);
  assert.deepEqual(header.magic, [0x48, 0x46, 0x53, 0x54, 0x0d, 0x0a, 0x1a, 0x00]);
  assert.deepEqual([header.version, header.kind, header.endian, header.headerLength, header.reserved], [1, 4, 0x0a0b0c0d, 128, 0]);
  assert.equal(header.checksum, header.computed);
  assert.deepEqual(header.fields, Array.from({ length: 10 }, () => 0n));
  assert.ok(!isZero(header.id));
  assert.equal(end, 1024);
  assert.equal(check, endComputed);
  assert.deepEqual(records, []);
  assert.ok(isZero(padding));
  assert.equal(size, 65536);
  assert.ok(isZero(fs.readFileSync(path).subarray(1024)));
});

test("families, series and cells", () => {
  const { end, endCheck: check, endComputed, records, padding } = readRawMetrics(sample());
  assert.equal(check, endComputed);
  assert.ok(isZero(padding));
  assert.deepEqual(
    records.map(({ kind, owner, labels, bounds, texts, cells }) => ({ kind, owner, labels, bounds, texts, cells })),
    [
      { kind: 1, owner: 0, labels: 2, bounds: [], texts: ["requests", "Größe 🚀", "method", "code"], cells: [] },
      { kind: 4, owner: 0, labels: 2, bounds: [], texts: ["GET", "200"], cells: [3.5] },
      { kind: 2, owner: 0, labels: 0, bounds: [], texts: ["level", ""], cells: [] },
      { kind: 4, owner: 1, labels: 0, bounds: [], texts: [], cells: [-7] },
      { kind: 3, owner: 0, labels: 1, bounds: [-0.5, 1, 1e9], texts: ["seconds", "Time.", "path"], cells: [] },
      { kind: 4, owner: 2, labels: 1, bounds: [], texts: ["\ufeff/ü"], cells: [-1 + 0 + 1 + 2 + 1e10, 1, 2, 1, 1] },
    ],
  );
  for (const { offset, length, checksum, computed, cellsAt, padding: rest } of records) {
    assert.equal(checksum, computed);
    assert.deepEqual([offset % 128, length % 8, cellsAt % 128], [0, 0, 0]);
    assert.ok(isZero(rest));
  }
  assert.equal(end % 128, 0);
});

test("a file that is only read stays as it is", () => {
  const path = sample();
  untouched(path, () => {
    using metrics = Metrics.open(path);
    metrics.gauge("level", { help: "Another." });
    metrics.counter("requests", { help: "Another.", labels: ["method", "code"] }).labels("GET", "200");
    metrics.expose();
  });
});

test("each file has an id of its own", () => {
  const ids = Array.from({ length: 20 }, () => {
    const path = files.next();
    Metrics.open(path).close();
    return Buffer.from(readRawMetrics(path).header.id).toString("hex");
  });
  assert.equal(new Set(ids).size, ids.length);
});

test("what lies behind the end means nothing, and is gone from what is added there", () => {
  const path = sample();
  const { end, records, header } = readRawMetrics(path);
  const bytes = new Uint8Array(fs.readFileSync(path));
  // What a process left that died while adding: first a whole record, valid at its place, then noise.
  const last = records.at(-1);
  assert.ok(last !== undefined);
  bytes.copyWithin(end, last.offset, last.offset + 512);
  new DataView(bytes.buffer).setUint32(end, recordChecksum(bytes, end, last.length, header.id), true);
  bytes.fill(0xa5, end + 512);
  const dirty = files.file(bytes);
  using metrics = Metrics.open(dirty);
  assert.equal(metrics.expose().split("\n").length, readRawMetricsLines(path));
  const counter = metrics.counter("new", { help: "", labels: ["x"] });
  for (let i = 0; i < 400; i++) assert.equal(counter.labels(i).value, 0);
  const histogram = metrics.histogram("seconds", { help: "", labels: ["path"], buckets: [-0.5, 1, 1e9] });
  assert.deepEqual(histogram.labels("new").buckets.map(([, count]) => count), [0, 0, 0, 0]);
  for (const { checksum, computed, padding } of readRawMetrics(dirty).records) {
    assert.equal(checksum, computed);
    assert.ok(isZero(padding));
  }
});

function readRawMetricsLines(path: string): number {
  using metrics = Metrics.open(path, { mode: "r" });
  return metrics.expose().split("\n").length;
}

test("the wrong kind of file, either way round", () => {
  const counters = files.next();
  Counters.open(counters, { count: 1 }).close();
  const metrics = sample();
  untouched(counters, () => assertThrows(() => Metrics.open(counters), mapError("ERR_KIND", /"counters", not "metrics"/)));
  untouched(metrics, () => assertThrows(() => Counters.open(metrics), mapError("ERR_KIND", /"metrics", not "counters"/)));
  for (const content of ["", "\0".repeat(4096), "# HELP a b\n"]) {
    const path = files.file(content);
    untouched(path, () => assertThrows(() => Metrics.open(path), mapError("ERR_NOT_HOLDFAST")));
  }
});

test("every damaged bit of the end: a clear error, and the file as it was", () => {
  const bytes = fs.readFileSync(sample());
  const path = files.next();
  for (let bit = 0; bit < 64; bit++) {
    const changed = Buffer.from(bytes);
    const offset = 128 + (bit >> 3);
    changed[offset] = (changed[offset] as number) ^ (1 << (bit & 7));
    fs.writeFileSync(path, changed);
    untouched(path, () => {
      for (const mode of ["r", "rw"] as const) assertThrows(() => Metrics.open(path, { mode }), { ...mapError("ERR_CORRUPT", /end/), path }, `bit ${bit}`);
    });
  }
});

test("an end that checks out and still is none", () => {
  const original = sample();
  const bytes = fs.readFileSync(original);
  const { header: { id }, end, records } = readRawMetrics(original);
  const path = files.next();
  const withEnd = (value: number): void => {
    const changed = Buffer.from(bytes);
    changed.writeBigUInt64LE(BigInt(value) | (BigInt(endCheck(value, id)) << 48n), 128);
    fs.writeFileSync(path, changed);
  };
  for (const wrong of [0, 128, 1023, end - 1, end + 8, end - 128, end + 128, bytes.byteLength, bytes.byteLength + 128, 2 ** 47, (records[1]?.cellsAt ?? 0)]) {
    withEnd(wrong);
    untouched(path, () => assertThrows(() => Metrics.open(path), { ...mapError("ERR_CORRUPT"), path }, String(wrong)));
  }
  withEnd(records[2]?.offset ?? 0);
  using fewer = Metrics.open(path);
  assert.ok(!fewer.expose().includes("level"), "fewer records is what that file says");
});

test("a file that is cut short: a clear error down to the last byte that counts", () => {
  const original = sample();
  const bytes = fs.readFileSync(original);
  const { end } = readRawMetrics(original);
  const path = files.next();
  for (let length = 0; length < end; length += length > end - 10 || length < 2 ? 1 : 61) {
    fs.writeFileSync(path, bytes.subarray(0, length));
    const code = length < 8 ? "ERR_NOT_HOLDFAST" : "ERR_CORRUPT";
    untouched(path, () => assertThrows(() => Metrics.open(path), { ...mapError(code), path }, `${length} of ${end} bytes`));
  }
  fs.writeFileSync(path, bytes.subarray(0, end));
  using metrics = Metrics.open(path);
  metrics.gauge("new", { help: "" }).set(1);
  assert.equal(metrics.expose().split("\n").at(-2), "new 1", "without the room behind the end it goes on");
});

test("every damaged byte of a descriptor: a clear error that says where, and the file as it was", () => {
  const original = sample();
  const bytes = fs.readFileSync(original);
  const path = files.next();
  for (const { offset, length } of readRawMetrics(original).records) {
    for (let i = 0; i < length; i++) {
      const changed = Buffer.from(bytes);
      changed[offset + i] = (changed[offset + i] as number) ^ 0x10;
      fs.writeFileSync(path, changed);
      untouched(path, () => assertThrows(() => Metrics.open(path), { ...mapError("ERR_CORRUPT", new RegExp(`offset ${offset}`)), path }, `byte ${i} of ${offset}`));
    }
  }
});

test("records with a right checksum that no version wrote", () => {
  const original = sample();
  const bytes = fs.readFileSync(original);
  const { header: { id }, records } = readRawMetrics(original);
  const at = (index: number, offset: number): number => (records[index]?.offset ?? 0) + offset;
  const changes: readonly (readonly [record: number, at: number, bytes: readonly number[], message: RegExp])[] = [
    [0, 8, [5], /none that holdfast wrote/], // kind
    [0, 8, [0], /none that holdfast wrote/],
    [0, 12, [1], /none that holdfast wrote/], // cells of a family
    [0, 16, [1], /none that holdfast wrote/], // owner of a family
    [0, 20, [33], /none that holdfast wrote/], // labels
    [0, 20, [3], /none that holdfast wrote/],
    [0, 24, [1], /none that holdfast wrote/], // bounds of a counter
    [0, 28, [1], /none that holdfast wrote/], // reserved
    [0, 32, [255, 255, 255, 255], /none that holdfast wrote/], // bytes of the name
    [0, 32, [7], /none that holdfast wrote/],
    [0, 36, [0xff], /none that holdfast wrote/], // no UTF-8
    [0, 36, ["-".charCodeAt(0)], /"name" must be/],
    [1, 16, [1], /"family" must be below 1/],
    [1, 16, [9], /"family"/],
    [1, 12, [2], /does not match/],
    [3, 12, [2], /does not match its family level/],
    [3, 16, [0], /does not match its family requests/],
    [4, 32, [0, 0, 0, 0, 0, 0, 0xf8, 0x7f], /"buckets\[0\]"/], // NaN
    [4, 32, [0, 0, 0, 0, 0, 0, 0xf0, 0x40], /"buckets\[1\]"/], // 65536, then 1
  ];
  for (const [record, offset, change, message] of changes) {
    const changed = Buffer.from(bytes);
    changed.set(change, at(record, offset));
    const { offset: start = 0, length = 0 } = records[record] ?? {};
    changed.writeUInt32LE(recordChecksum(changed, start, length, id), start);
    const path = files.file(changed);
    untouched(path, () => assertThrows(() => Metrics.open(path), { ...mapError("ERR_CORRUPT", message), path }, `${change} at ${offset} of record ${record}`));
  }
});

test("values that no counting makes are damage, not numbers", () => {
  const original = sample();
  const { records } = readRawMetrics(original);
  const cell = (record: number, index: number): number => (records[record]?.cellsAt ?? 0) + 8 * index;
  for (const [offset, name] of [[cell(1, 0), "counter"], [cell(5, 1), "histogram"]] as const) {
    for (const value of [-1, NaN, -Infinity]) {
      const changed = fs.readFileSync(original);
      changed.writeDoubleLE(value, offset);
      const path = files.file(changed);
      using metrics = Metrics.open(path);
      const damaged = mapError("ERR_CORRUPT", /value of the series at offset/);
      assertThrows(() => metrics.expose(), damaged);
      const counter = metrics.counter("requests", { help: "", labels: ["method", "code"] }).labels("GET", 200);
      const histogram = metrics.histogram("seconds", { help: "", labels: ["path"], buckets: [-0.5, 1, 1e9] }).labels("\ufeff/ü");
      assertThrows(() => (name === "counter" ? counter.value : histogram.count), damaged);
      assertThrows(() => (name === "counter" ? counter.inc() : histogram.observe(-1)), damaged);
      assert.equal(name === "counter" ? histogram.count : counter.value, name === "counter" ? 5 : 3.5);
    }
  }
});

test("an end that is damaged while the file is open: nothing is added, what is known goes on", () => {
  const path = sample();
  using metrics = Metrics.open(path);
  const requests = metrics.counter("requests", { help: "", labels: ["method", "code"] });
  const fd = fs.openSync(path, "r+");
  const word = Buffer.alloc(8);
  fs.readSync(fd, word, 0, 8, 128);
  fs.writeSync(fd, Buffer.from([word.readUInt8(0) ^ 1]), 0, 1, 128);
  untouched(path, () => {
    assertThrows(() => requests.labels("GET", 404), mapError("ERR_CORRUPT", /damaged end/));
    assertThrows(() => metrics.gauge("new", { help: "" }), mapError("ERR_CORRUPT"));
    assertThrows(() => metrics.expose(), mapError("ERR_CORRUPT"));
  });
  requests.labels("GET", 200).inc();
  assert.equal(requests.labels("GET", 200).value, 4.5);
  fs.writeSync(fd, word, 0, 8, 128);
  requests.labels("GET", 404).inc();
  assert.ok(metrics.expose().includes('code="404"} 1\n'));
  fs.closeSync(fd);
});

test("the reader's checks are those of the format's text", () => {
  assert.equal(crc32c(new TextEncoder().encode("123456789")), 0xe3069283);
});
