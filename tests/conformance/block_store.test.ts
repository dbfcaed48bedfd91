/** BlockStore as its documentation describes it. The bytes: tests/format/; deaths: tests/crash/. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { BlockStore, Counters, MapError } from "../../mod.ts";
import { tryLock } from "../../lib/range_lock.ts";
import { assertThrows, mapError, rangeError, typeError } from "../support/errors.ts";
import { forgeBlocks } from "../support/reader_blocks.ts";
import { skipFor } from "../support/skip.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { mountRefusal, withTmpfs } from "../support/tmpfs.ts";
import { untouched } from "../support/untouched.ts";
import { endWorkers } from "../support/workers.ts";

const files = temporaryFiles();

function bytes(length: number, seed = 1): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, i) => seed * 31 + i * 7 + (i >> 8));
}

const put = (store: BlockStore, content: Uint8Array): number => {
  const id = store.store(content);
  assert.ok(id !== undefined && Number.isSafeInteger(id) && id >= 0, `${id} is no id`);
  return id;
};

test("what is stored is read, until it is freed", () => {
  const path = files.next();
  using store = BlockStore.open(path, { blockBytes: 100 });
  assert.equal(store.path, path);
  assert.equal(store.blockBytes, 100);
  assert.equal(store.maxBlocks, undefined);
  assert.equal(store.writable, true);
  assert.equal(store.closed, false);
  assert.equal(store.count, 0);
  assert.equal(fs.statSync(path).mode & 0o777, 0o600);
  const ids = [0, 1, 7, 8, 99, 100].map((length) => [put(store, bytes(length, length)), length] as const);
  assert.equal(new Set(ids.map(([id]) => id)).size, ids.length);
  assert.equal(store.count, ids.length);
  for (const [id, length] of ids) {
    assert.equal(store.has(id), true);
    assert.deepEqual(store.read(id), bytes(length, length));
  }
  for (const [id] of ids) {
    assert.equal(store.free(id), true);
    assert.equal(store.free(id), false);
    assert.equal(store.has(id), false);
    assert.equal(store.read(id), undefined);
  }
  assert.equal(store.count, 0);
  assert.deepEqual(store.verify().ok, true);
});

test("blocks of every size, from 1 byte to 3 MiB", () => {
  for (const blockBytes of [1, 2, 7, 8, 9, 63, 64, 65, 1000, 4096, 16_384, 100_000, (1 << 20) - 1, 3 << 20]) {
    const path = files.next();
    using store = BlockStore.open(path, { blockBytes });
    const contents = [blockBytes, 0, 1, blockBytes - 1, blockBytes >> 1].map((length, i) => bytes(length, i));
    const ids = contents.map((content) => put(store, content));
    ids.forEach((id, i) => assert.ok(Buffer.compare(store.read(id) as Uint8Array, contents[i] as Uint8Array) === 0, `${blockBytes}, ${i}`));
    using again = BlockStore.open(path, { mode: "r" });
    ids.forEach((id, i) => assert.ok(Buffer.compare(again.read(id) as Uint8Array, contents[i] as Uint8Array) === 0));
    fs.rmSync(path);
  }
});

test("what is read is a copy, and what is stored is one", () => {
  using store = BlockStore.open(files.next(), { blockBytes: 8 });
  const content = bytes(8);
  const id = put(store, content);
  content.fill(0);
  const read = store.read(id);
  assert.deepEqual(read, bytes(8));
  read?.fill(9);
  assert.deepEqual(store.read(id), bytes(8));
  assert.equal(read?.buffer.byteLength, 8, "of its own");
});

test("views, Buffers, subclasses and shared memory are stored by their bytes", () => {
  using store = BlockStore.open(files.next(), { blockBytes: 32 });
  class Odd extends Uint8Array {
    override get byteLength(): number {
      return 1_000_000;
    }
  }
  const whole = bytes(32);
  const shared = new Uint8Array(new SharedArrayBuffer(5)).fill(3);
  for (const [given, expected] of [
    [whole.subarray(3, 20), whole.slice(3, 20)],
    [Buffer.from("hello"), new TextEncoder().encode("hello")],
    [new Odd([1, 2, 3]), Uint8Array.of(1, 2, 3)],
    [shared, new Uint8Array(5).fill(3)],
  ] as const) {
    assert.deepEqual(store.read(put(store, given)), expected);
  }
});

test("more bytes than a block has, and wrong types", () => {
  using store = BlockStore.open(files.next(), { blockBytes: 10 });
  assertThrows(() => store.store(bytes(11)), rangeError(/11 bytes, more than the 10/));
  for (const bad of ["text", null, undefined, 5, [1], new ArrayBuffer(3), new Uint16Array(2)]) {
    assertThrows(() => store.store(bad as unknown as Uint8Array), typeError(/"bytes"/), String(bad));
  }
  assert.equal(store.count, 0);
});

test("ids that no block has", () => {
  using store = BlockStore.open(files.next(), { blockBytes: 10 });
  const id = put(store, bytes(1));
  for (const unknown of [id + 1, 5000, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
    assert.equal(store.read(unknown), undefined);
    assert.equal(store.free(unknown), false);
    assert.equal(store.has(unknown), false);
  }
  for (const name of ["read", "free", "has"] as const) {
    for (const bad of [-1, 0.5, NaN, Infinity, 2 ** 53]) assertThrows(() => store[name](bad), rangeError(/"id"/), `${name} ${bad}`);
    for (const bad of ["0", null, undefined, 0n, {}]) assertThrows(() => store[name](bad as unknown as number), typeError(/"id"/), `${name} ${String(bad)}`);
  }
  assert.deepEqual(store.read(id), bytes(1));
});

test("ids come again only after a free, also through many handles", () => {
  const path = files.next();
  const handles = Array.from({ length: 4 }, () => BlockStore.open(path, { blockBytes: 16 }));
  try {
    const living = new Map<number, Uint8Array>();
    for (let i = 0; i < 3000; i++) {
      const store = handles[i % 4] as BlockStore;
      const content = bytes(i % 17, i);
      const id = put(store, content);
      assert.equal(living.has(id), false, `id ${id} is in use`);
      living.set(id, content);
      if (i % 3 !== 0) continue;
      const [victim] = [...living.keys()].slice(i % living.size) as [number];
      assert.equal((handles[(i + 1) % 4] as BlockStore).free(victim), true);
      living.delete(victim);
    }
    for (const store of handles) {
      assert.equal(store.count, living.size);
      for (const [id, content] of living) assert.deepEqual(store.read(id), content);
    }
  } finally {
    for (const store of handles) store.close();
  }
});

test("more than 262,144 blocks", () => {
  using store = BlockStore.open(files.next(), { blockBytes: 8 });
  const word = new Uint8Array(8);
  const number = new Float64Array(word.buffer);
  const total = 262_144 + 1000;
  let last = -1;
  for (let i = 0; i < total; i++) {
    number[0] = i;
    last = put(store, word);
  }
  assert.equal(store.count, total);
  assert.equal(new Float64Array((store.read(last) as Uint8Array<ArrayBuffer>).buffer)[0], total - 1);
});

test("free blocks are used before the file grows much", () => {
  const path = files.next();
  using store = BlockStore.open(path, { blockBytes: 64 });
  const ids = Array.from({ length: 20_000 }, () => put(store, bytes(64)));
  const { blocks } = store.verify();
  const size = fs.statSync(path).size;
  {
    using other = BlockStore.open(path);
    for (const id of ids) assert.equal(other.free(id), true);
  }
  for (let i = 0; i < 20_000; i++) put(store, bytes(64));
  assert.equal(store.verify().blocks, blocks, "all that were freed elsewhere were found");
  assert.equal(fs.statSync(path).size, size);
});

test("maxBlocks: undefined when all are stored, for every handle, and each free makes room for one", () => {
  for (const maxBlocks of [1, 2, 63, 64, 65, 1000]) {
    const path = files.next();
    using one = BlockStore.open(path, { blockBytes: 20, maxBlocks });
    using two = BlockStore.open(path);
    assert.equal(two.maxBlocks, maxBlocks);
    const ids: number[] = [];
    for (let i = 0; i < maxBlocks; i++) ids.push(put(i % 2 === 0 ? one : two, bytes(20, i)));
    assert.deepEqual([one.store(bytes(1)), two.store(bytes(1))], [undefined, undefined]);
    assert.deepEqual(ids.toSorted((a, b) => a - b), Array.from({ length: maxBlocks }, (_, i) => i));
    const size = fs.statSync(path).size;
    const victim = ids[ids.length >> 1] as number;
    assert.equal(one.free(victim), true);
    assert.equal(two.store(bytes(3)), victim, "any handle gets it");
    assert.equal(one.store(bytes(3)), undefined);
    assert.equal(one.count, maxBlocks);
    assert.equal(fs.statSync(path).size, size);
    assert.deepEqual(two.verify(), { ok: true, blocks: maxBlocks, stored: maxBlocks, free: 0, damaged: [] });
  }
});

test("iteration in both directions, from any cursor", () => {
  const path = files.next();
  using store = BlockStore.open(path, { blockBytes: 16 });
  assert.deepEqual([...store], []);
  assert.deepEqual([...store.ids({ reverse: true })], []);
  const all = Array.from({ length: 200 }, (_, i) => put(store, bytes(8, i)));
  const contents = new Map(all.map((id, i) => [id, bytes(8, i)]));
  for (const id of all.filter((_, i) => i % 3 === 1)) {
    store.free(id);
    contents.delete(id);
  }
  const ids = [...contents.keys()].sort((a, b) => a - b);
  assert.deepEqual([...store.ids()], ids);
  assert.deepEqual([...store.ids({ reverse: true })], ids.toReversed());
  assert.deepEqual([...store], ids.map((id) => [id, contents.get(id)]));
  assert.deepEqual([...store.entries({ reverse: true })], ids.toReversed().map((id) => [id, contents.get(id)]));
  using reader = BlockStore.open(path, { mode: "r" });
  for (const after of [0, 1, 2, ids[50] as number, 198, 199, 5000, Number.MAX_SAFE_INTEGER]) {
    assert.deepEqual([...reader.ids({ after })], ids.filter((id) => id > after));
    assert.deepEqual([...reader.ids({ after, reverse: true })], ids.toReversed().filter((id) => id < after));
    assert.deepEqual([...reader.entries({ after })].map(([id]) => id), ids.filter((id) => id > after));
  }
  const iterator = store.ids();
  assert.equal(iterator.next().value, ids[0]);
  assert.equal(iterator[Symbol.iterator](), iterator);
  for (const bad of [-1, 0.5, NaN]) assertThrows(() => store.ids({ after: bad }), rangeError(/"after"/));
  assertThrows(() => store.entries({ from: 3 } as object), typeError(/no option "from"/));
  assertThrows(() => store.ids({ reverse: 1 } as unknown as object), typeError(/"reverse"/));
});

test("iteration while blocks are stored and freed", () => {
  using store = BlockStore.open(files.next(), { blockBytes: 16 });
  const first = Array.from({ length: 100 }, (_, i) => put(store, bytes(4, i)));
  const seen: number[] = [];
  for (const [id] of store) {
    seen.push(id);
    store.free(id);
    if (seen.length <= 100) put(store, bytes(5));
    assert.ok(seen.length < 1000);
  }
  for (const id of first) assert.ok(seen.includes(id));
  for (const id of store.ids({ reverse: true })) store.free(id);
  assert.equal(store.count, 0);
});

test("stores and frees are seen by every handle, and last", () => {
  const path = files.next();
  let kept: number;
  {
    using one = BlockStore.open(path, { blockBytes: 50 });
    using two = BlockStore.open(pathToFileURL(path));
    using reader = BlockStore.open(path, { mode: "r" });
    const id = put(one, bytes(50));
    assert.deepEqual(two.read(id), bytes(50));
    assert.deepEqual(reader.read(id), bytes(50));
    assert.equal(two.free(id), true);
    assert.equal(one.read(id), undefined);
    assert.equal(one.free(id), false);
    kept = put(two, bytes(7));
    one.flush();
    reader.flush();
  }
  using again = BlockStore.open(path, { blockBytes: 50 });
  assert.deepEqual([...again], [[kept, bytes(7)]]);
});

test("mode r reads and changes nothing", () => {
  const path = files.next();
  let id: number;
  {
    using store = BlockStore.open(path, { blockBytes: 10 });
    id = put(store, bytes(10));
  }
  untouched(path, () => {
    using reader = BlockStore.open(path, { mode: "r" });
    assert.equal(reader.writable, false);
    assert.deepEqual(reader.read(id), bytes(10));
    assert.equal(reader.count, 1);
    assert.equal(reader.verify().ok, true);
    assertThrows(() => reader.store(bytes(1)), { ...mapError("ERR_READ_ONLY"), path });
    assertThrows(() => reader.free(id), mapError("ERR_READ_ONLY"));
    assertThrows(() => reader.free(id + 10_000), mapError("ERR_READ_ONLY"));
  });
});

test("an existing file keeps its shape", () => {
  const path = files.next();
  BlockStore.open(path, { blockBytes: 10, maxBlocks: 5 }).close();
  const unlimited = files.next();
  BlockStore.open(unlimited, { blockBytes: 10 }).close();
  BlockStore.open(path).close();
  BlockStore.open(path, { maxBlocks: 5 }).close();
  untouched(path, () => {
    assertThrows(() => BlockStore.open(path, { blockBytes: 11 }), rangeError(/"blockBytes" 10, not 11/));
    assertThrows(() => BlockStore.open(path, { blockBytes: 10, maxBlocks: 6 }), rangeError(/"maxBlocks" 5, not 6/));
    assertThrows(() => BlockStore.open(unlimited, { maxBlocks: 6 }), rangeError(/no limit, not 6/));
  });
});

test("a missing file: created with blockBytes, ENOENT otherwise", () => {
  const path = files.next();
  assertThrows(() => BlockStore.open(path), { ...mapError("ENOENT"), syscall: "open", path });
  assertThrows(() => BlockStore.open(path, { mode: "r", blockBytes: 5 }), mapError("ENOENT"));
  assertThrows(() => BlockStore.open(path, { maxBlocks: 5 }), mapError("ENOENT"));
  assert.equal(fs.existsSync(path), false);
  const before = fs.readdirSync(files.folder).length;
  BlockStore.open(path, { blockBytes: 5, permissions: 0o640 }).close();
  assert.equal(fs.statSync(path).mode & 0o777, 0o640 & ~process.umask());
  assert.equal(fs.readdirSync(files.folder).length, before + 1, "no temporary name is left");
});

test("files of another kind", () => {
  const counters = files.next();
  Counters.open(counters, { count: 1 }).close();
  const store = files.next();
  BlockStore.open(store, { blockBytes: 5 }).close();
  untouched(counters, () => assertThrows(() => BlockStore.open(counters, { blockBytes: 5 }), mapError("ERR_KIND", /"counters", not "block store"/)));
  untouched(store, () => assertThrows(() => Counters.open(store, { count: 5 }), mapError("ERR_KIND")));
  const empty = files.file("");
  untouched(empty, () => assertThrows(() => BlockStore.open(empty, { blockBytes: 5 }), mapError("ERR_NOT_HOLDFAST")));
  assertThrows(() => BlockStore.open(files.folder, { blockBytes: 5 }), mapError("EISDIR"));
});

test("options are checked, and nothing is created by a wrong one", () => {
  const path = files.next();
  const open = (options: unknown) => () => BlockStore.open(path, options as { blockBytes: number });
  for (const bad of [0, -1, 1.5, NaN, 2 ** 30 + 1, 2 ** 53]) assertThrows(open({ blockBytes: bad }), rangeError(/"blockBytes"/), String(bad));
  for (const bad of [0, -1, 1.5, 2 ** 53]) assertThrows(open({ blockBytes: 5, maxBlocks: bad }), rangeError(/"maxBlocks"/), String(bad));
  assertThrows(open({ blockBytes: "5" }), typeError(/"blockBytes"/));
  assertThrows(open({ blockBytes: 5, mode: "w" }), rangeError(/"r" or "rw"/));
  assertThrows(open({ blockBytes: 5, autoUnlink: 1 }), typeError(/"autoUnlink"/));
  assertThrows(open({ blockBytes: 5, size: 3 }), typeError(/"size".*blockBytes/));
  assertThrows(open(null), typeError());
  assertThrows(() => BlockStore.open("", { blockBytes: 5 }), rangeError());
  assert.equal(fs.existsSync(path), false);
});

test("after close every use is ERR_CLOSED, and the file can be opened again", () => {
  const path = files.next();
  const store = BlockStore.open(path, { blockBytes: 10 });
  const id = put(store, bytes(10));
  const iterators = [store.ids(), store.entries(), store.ids({ reverse: true })];
  const begun = store.ids();
  put(store, bytes(3));
  begun.next();
  store.close();
  store.close();
  store[Symbol.dispose]();
  assert.equal(store.closed, true);
  assert.equal(store.blockBytes, 10);
  const calls: (() => unknown)[] = [
    () => store.store(bytes(1)), () => store.read(id), () => store.free(id), () => store.has(id), () => store.count,
    () => store.verify(), () => store.flush(), () => store.ids(), () => store.entries(), () => [...store], () => begun.next(),
    ...iterators.slice(0, 2).map((iterator) => () => iterator.next()),
  ];
  for (const call of calls) assertThrows(call, { ...mapError("ERR_CLOSED"), path }, String(call));
  using again = BlockStore.open(path);
  assert.equal(again.count, 2);
});

test("autoUnlink removes the file with the handle", () => {
  const path = files.next();
  const store = BlockStore.open(path, { blockBytes: 10, autoUnlink: true });
  using other = BlockStore.open(path);
  const id = put(store, bytes(10));
  store.close();
  assert.equal(fs.existsSync(path), false);
  assert.deepEqual(other.read(id), bytes(10), "who has it open goes on");
});

test("a block of a handle that died while it filled it is free, one of a living handle is not", () => {
  const id = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
  const content = bytes(5);
  const forged = forgeBlocks({
    id, blockBytes: 10, maxBlocks: 4, groupBlocks: 4, groups: 1,
    blocks: new Map([
      [0, { generation: 2, bytes: content }],
      [1, { generation: 2 ** 32 - 1, owner: 77 }],
      [2, { generation: 9, owner: 78 }],
      [3, { generation: 1, owner: 65_534 }],
    ]),
  });
  const path = files.file(forged);
  const fd = fs.openSync(path, "r+");
  try {
    const living = { fd, offset: 2 ** 50 + 78, length: 1, shared: false, path };
    assert.equal(tryLock(living), true);
    using store = BlockStore.open(path);
    assert.deepEqual(store.verify(), { ok: true, blocks: 4, stored: 1, free: 3, damaged: [] });
    for (const number of [1, 2, 3]) {
      assert.equal(store.read(number), undefined);
      assert.equal(store.free(number), false);
    }
    assert.deepEqual([put(store, bytes(10)), put(store, bytes(9))].sort(), [1, 3]);
    assert.equal(store.store(content), undefined, "block 2 is being filled");
  } finally {
    fs.closeSync(fd);
  }
  using store = BlockStore.open(path);
  assert.equal(store.store(content), 2, "now nobody fills it");
  assert.equal(store.verify().ok, true);
});

test("a damaged block is an error of its own, the others are as they were", () => {
  const path = files.next();
  using store = BlockStore.open(path, { blockBytes: 16 });
  const ids = [1, 2, 3].map((seed) => put(store, bytes(16, seed)));
  const at = fs.readFileSync(path).indexOf(bytes(16, 2));
  const fd = fs.openSync(path, "r+");
  fs.writeSync(fd, Uint8Array.of(255), 0, 1, at + 5);
  fs.closeSync(fd);
  const [first, bad, last] = ids as [number, number, number];
  assertThrows(() => store.read(bad), { ...mapError("ERR_CORRUPT", new RegExp(`block ${bad} .*damaged`)), path });
  assertThrows(() => [...store], mapError("ERR_CORRUPT"));
  assert.deepEqual([...store.entries({ after: bad })], [[last, bytes(16, 3)]]);
  assert.deepEqual(store.read(first), bytes(16, 1));
  assert.equal(store.count, 3);
  const report = store.verify();
  assert.equal(report.ok, false);
  assert.equal(report.stored, 2);
  assert.deepEqual(report.damaged.map(({ id }) => id), [bad]);
  assert.match(report.damaged[0]?.reason ?? "", /checksum/);
  assert.equal(store.free(bad), true, "it can be given up");
  assert.equal(store.verify().ok, true);
});

test("a file that is cut short while it is open", () => {
  for (const length of [0, 1024, 5000]) {
    const path = files.next();
    using store = BlockStore.open(path, { blockBytes: 4000 });
    using reader = BlockStore.open(path, { mode: "r" });
    const ids = Array.from({ length: 50 }, () => put(store, bytes(4000)));
    reader.read(ids[0] as number);
    fs.truncateSync(path, length);
    const id = ids.at(-1) as number;
    for (const call of [() => reader.read(id), () => reader.read(id), () => store.read(id), () => { for (let i = 0; i < 99; i++) store.store(bytes(4000)); }]) {
      // What is left of the file's last page reads as zeros without a fault, and zeros are damage.
      if (length === 0) assertThrows(call, { ...mapError("ERR_FAULT"), path }, `${length} ${call}`);
      else assert.throws(call, (error) => error instanceof MapError && ["ERR_FAULT", "ERR_CORRUPT"].includes(error.code) && error.path === path, `${length} ${call}`);
    }
    assertThrows(() => BlockStore.open(path), mapError(length === 0 ? "ERR_NOT_HOLDFAST" : "ERR_CORRUPT"));
    assert.equal(fs.statSync(path).size, length);
  }
});

const full = "a full disk: ENOSPC, all as it was, and free blocks can still be used";
test(full, skipFor(full, mountRefusal(files)), () => {
  withTmpfs(files, "size=1m", (folder) => {
    using store = BlockStore.open(`${folder}/store`, { blockBytes: 4000 });
    const ids: number[] = [];
    assertThrows(() => {
      for (;;) ids.push(put(store, bytes(4000, ids.length)));
    }, mapError("ENOSPC"));
    assert.ok(ids.length >= 64, `${ids.length} blocks`);
    const size = fs.statSync(`${folder}/store`).size;
    assertThrows(() => store.store(bytes(1)), mapError("ENOSPC"));
    assert.equal(fs.statSync(`${folder}/store`).size, size);
    ids.forEach((id, i) => assert.deepEqual(store.read(id), bytes(4000, i)));
    assert.equal(store.verify().ok, true);
    assert.equal(store.free(ids[3] as number), true);
    assert.equal(put(store, bytes(3)), ids[3]);
  });
});

function threads(path: string, what: "keep" | "churn" | "race", count: number, times: number): Worker[] {
  const script = new URL("../support/block_thread.ts", import.meta.url);
  return Array.from({ length: count }, (_, number) => new Worker(script, { workerData: { path, what, number, times } }));
}

function answers<T>(workers: readonly Worker[]): Promise<T[]> {
  return Promise.all(workers.map((worker) => new Promise<T>((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  })));
}

test("Workers store, read and free at once", async () => {
  const path = files.next();
  using store = BlockStore.open(path, { blockBytes: 40 });
  const workers = threads(path, "keep", 4, 4000);
  try {
    const kept = (await answers<[id: number, content: Uint8Array][]>(workers)).flat();
    assert.equal(kept.length, 4 * 400);
    assert.equal(new Set(kept.map(([id]) => id)).size, kept.length);
    for (const [id, content] of kept) assert.deepEqual(store.read(id), new Uint8Array(content));
    assert.equal(store.count, kept.length);
    assert.equal(store.verify().ok, true);
  } finally {
    await endWorkers(workers);
  }
});

test("blocks that are stored and freed all the time are read whole or not at all", async () => {
  const path = files.next();
  const blockBytes = 20_000;
  using store = BlockStore.open(path, { blockBytes, maxBlocks: 2 });
  const workers = threads(path, "churn", 2, 500);
  try {
    await answers(workers);
    const over = answers(workers);
    let seen = 0;
    for (const end = performance.now() + 400; performance.now() < end;) {
      for (const id of [0, 1]) {
        const bytes = store.read(id);
        if (bytes === undefined) continue;
        seen++;
        const [first = 0] = bytes;
        assert.ok(Buffer.compare(bytes, new Uint8Array(bytes.length).fill(first)) === 0, `block ${id} is of two stores`);
        assert.equal(blockBytes - bytes.length, (blockBytes - bytes.length) & ~7);
      }
    }
    await over;
    assert.ok(seen > 0, "blocks were seen");
    assert.deepEqual(store.verify(), { ok: true, blocks: 2, stored: 0, free: 2, damaged: [] });
  } finally {
    await endWorkers(workers);
  }
});

test("of several that free a block at once one gets true", async () => {
  const path = files.next();
  const total = 50_000;
  using store = BlockStore.open(path, { blockBytes: 8 });
  const ids = Array.from({ length: total + 1 }, () => put(store, bytes(8)));
  assert.deepEqual(ids, ids.map((_, i) => i));
  store.free(total);
  const workers = threads(path, "race", 2, total);
  try {
    const won = answers<number>(workers);
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.equal(put(store, bytes(1)), total); // the start
    assert.equal((await won).reduce((sum, count) => sum + count, 0), total);
    assert.equal(store.count, 1);
  } finally {
    await endWorkers(workers);
  }
});

test("opening and closing leaves no descriptor and no mapping behind", () => {
  const path = files.next("no-mapping-left");
  BlockStore.open(path, { blockBytes: 10 }).close();
  const open = (): number => fs.readdirSync("/proc/self/fd").length;
  const before = open();
  for (let i = 0; i < 50; i++) {
    using store = BlockStore.open(path);
    put(store, bytes(10));
    assertThrows(() => BlockStore.open(path, { blockBytes: 11 }), rangeError());
  }
  const grown = files.next("no-mapping-left");
  {
    using store = BlockStore.open(grown, { blockBytes: 100_000 });
    for (let i = 0; i < 200; i++) put(store, bytes(3));
  }
  assert.ok(open() <= before, "fewer is right: a collection may close what a test before has dropped");
  assert.ok(!fs.readFileSync("/proc/self/maps", "utf8").includes("no-mapping-left"));
});
