/**
 * What happens to a mapping whose file is cut short: each scenario is run in a process of its own, since a dead process is what must not
 * happen. Usage: truncation.ts NAME FOLDER; ends with 0 and "alive", or with an assertion.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import * as zlib from "node:zlib";
import { Counters, MapError, Mapping, type MappingOptions } from "../../mod.ts";
import { assertRejects, assertThrows, mapError } from "./errors.ts";
import { library, root } from "./runtimes.ts";

const SIZE = 20_000;
const FAULT = mapError("ERR_FAULT", /cut short/);

/** Gives the file another length, by another process. */
function cut(path: string, size: number): void {
  assert.equal(spawnSync("truncate", ["-s", String(size), path]).status, 0);
}

function content(path: string): string {
  fs.writeFileSync(path, "a line of text\n".repeat(SIZE / 15 + 1).slice(0, SIZE));
  return path;
}

async function drain(stream: ReadableStream<Uint8Array>): Promise<number> {
  let bytes = 0;
  for await (const chunk of stream as unknown as AsyncIterable<Uint8Array>) bytes += chunk.byteLength;
  return bytes;
}

type Calls = Record<string, (mapping: Mapping) => unknown>;

/** Calls that touch pages behind the first 8192 bytes. */
const reads: Calls = {
  "pread of some bytes": (mapping) => mapping.pread(16_000, 10),
  "pread of many": (mapping) => mapping.pread(0, SIZE),
  "preadInto of some bytes": (mapping) => mapping.preadInto(new Uint8Array(10), 19_990),
  "preadInto of many": (mapping) => mapping.preadInto(new Uint8Array(15_000), 5000),
  read: (mapping) => (mapping.seek(12_000), mapping.read(100)),
  readLine: (mapping) => (mapping.seek(19_000), mapping.readLine()),
  lines: (mapping) => [...mapping.lines()],
  readable: (mapping) => drain(mapping.readable({ chunkSize: 1000 })),
  "atomics.load": ({ atomics }) => atomics.load(16_000),
  "atomics.loadBigInt": ({ atomics }) => atomics.loadBigInt(16_000),
  "atomics.wait": ({ atomics }) => atomics.wait(16_000, 5, { timeoutMs: 10 }),
};

const writes: Calls = {
  "pwrite of some bytes": (mapping) => mapping.pwrite(16_000, "x"),
  "pwrite of many": (mapping) => mapping.pwrite(0, new Uint8Array(SIZE)),
  "pwrite of a list": (mapping) => mapping.pwrite(16_000, ["x", new Uint8Array(2000)]),
  write: (mapping) => (mapping.seek(19_999), mapping.write("x")),
};
for (const name of ["store", "add", "sub", "and", "or", "xor", "exchange"] as const) {
  writes[`atomics.${name}`] = ({ atomics }) => atomics[name](16_000, 1);
  writes[`atomics.${name} of a bigint`] = ({ atomics }) => atomics[name](16_000, 1n);
}
writes["atomics.compareExchange"] = ({ atomics }) => atomics.compareExchange(16_000, 0, 1);
writes["atomics.compareExchange of bigints"] = ({ atomics }) => atomics.compareExchange(16_000, 0n, 1n);

/** Calls that touch nothing, and look at what was found before. */
const questions: Calls = {
  view: (mapping) => mapping.view(0, 10),
  dataView: (mapping) => mapping.dataView(0, 10),
};

const flushes: Calls = {
  flush: (mapping) => mapping.flush(),
  "flush of a part": (mapping) => mapping.flush({ offset: 0, length: 10 }),
  flushAsync: (mapping) => mapping.flushAsync(),
};

const fails = (call: (mapping: Mapping) => unknown, mapping: Mapping): Promise<void> =>
  assertRejects(async () => await call(mapping), FAULT);

/** Each call is the first to find out, on a mapping of its own, and then all others know. */
async function everyCall(folder: string, calls: Calls, later: Calls, options: MappingOptions): Promise<void> {
  for (const [name, call] of Object.entries(calls)) {
    for (const left of [0, 1, 8192]) {
      const path = content(join(folder, "file"));
      using mapping = Mapping.open(path, options);
      using other = Mapping.open(path, { mode: "r" });
      cut(path, left);
      try {
        await fails(call, mapping);
        for (const next of Object.values(later)) await fails(next, mapping);
        if (left > 0) assert.equal(other.pread(0, 1).byteLength, 1, "another handle is as it was, as far as there is a file");
        // Once the file is what it was, the mapping still is not, until it is told.
        cut(path, SIZE);
        await fails(call, mapping);
        assert.equal(mapping.refresh(), SIZE);
        assert.equal(mapping.pread(left, SIZE - left).every((byte) => byte === 0), true);
        if (name !== "atomics.wait") await call(mapping);
        assert.equal(fs.statSync(path).size, SIZE);
      } catch (error) {
        throw new Error(`${name}, cut to ${left}: ${(error as Error).message}`, { cause: error });
      }
    }
  }
}

export const scenarios: Record<string, (folder: string) => void | Promise<void>> = {
  "reads of a mapping": (folder) => everyCall(folder, reads, { ...questions, ...flushes }, {}),
  "writes to a mapping": (folder) => everyCall(folder, writes, { ...questions, ...flushes }, {}),
  "reads in mode r": (folder) => everyCall(folder, reads, questions, { mode: "r" }),
  "reads of a private mapping": (folder) => everyCall(folder, reads, questions, { sharing: "private" }),
  "writes to a private mapping": (folder) => everyCall(folder, writes, questions, { sharing: "private" }),
  "reads and writes with guard": (folder) =>
    everyCall(folder, { pread: (mapping) => mapping.pread(16_000, 10), pwrite: (mapping) => mapping.pwrite(16_000, "x") }, questions, { guard: true }),

  views(folder) {
    for (const options of [{}, { mode: "r" }, { sharing: "private" }] as MappingOptions[]) {
      const path = content(join(folder, "file"));
      using mapping = Mapping.open(path, options);
      const view = mapping.view();
      const data = mapping.dataView();
      assert.notEqual(view[16_000], 0);
      cut(path, 0);
      assert.equal(view[16_000], 0, "zeros take the place of what is gone");
      assert.equal(data.getBigInt64(8000), 0n);
      assert.ok(view.every((byte) => byte === 0));
      assert.equal(view.byteLength, SIZE);
      // Stores go nowhere, and kill nobody.
      view.fill(7);
      data.setFloat64(19_992, 1.5);
      assert.equal(fs.statSync(path).size, 0);
      assertThrows(() => mapping.pread(0, 1), { ...FAULT, path });
      assertThrows(() => mapping.view(), FAULT);
      assertThrows(() => mapping.refresh(), mapError("ERR_FAULT", /nothing is left to map/));
      fs.writeFileSync(path, "new");
      assert.equal(mapping.refresh(), 3);
      assert.equal(mapping.byteLength, 3);
      assert.equal(new TextDecoder().decode(mapping.view()), "new");
      assert.equal(view.byteLength, SIZE, "views of before are as long as they were");
      view[16_000] = 1;
      mapping.close();
      assert.equal(view[16_000], 1);
    }
  },

  "views in other clothes"(folder) {
    const path = content(join(folder, "file"));
    using mapping = Mapping.open(path);
    const { buffer, byteOffset } = mapping.view();
    const words = new BigInt64Array(buffer, byteOffset, SIZE / 8);
    cut(path, 0);
    assert.equal(Atomics.load(words, 2000), 0n);
    assert.equal(Atomics.add(words, 1000, 5n), 0n);
    assert.equal(words.indexOf(5n), 1000);
    assert.equal(new Float64Array(buffer, byteOffset, 10)[9], 0);
    const copy = new Uint8Array(SIZE);
    copy.set(new Uint8Array(buffer, byteOffset, SIZE));
    assert.equal(copy[8000], 5);
    assertThrows(() => mapping.pread(0, 1), FAULT);
  },

  async "views in the hands of the runtime"(folder) {
    const uses: Record<string, (view: Uint8Array<ArrayBuffer>) => unknown> = {
      hash: (view) => createHash("sha256").update(view).digest("hex"),
      deflateSync: (view) => zlib.deflateSync(view),
      gzip: (view) => new Promise((resolve, reject) => zlib.gzip(view, (error, result) => (error === null ? resolve(result) : reject(error)))),
      "crypto.subtle": (view) => crypto.subtle.digest("SHA-256", view),
      decode: (view) => new TextDecoder().decode(view),
      compare: (view) => Buffer.compare(view, new Uint8Array(SIZE)),
      sort: (view) => view.slice().sort(),
      structuredClone: (view) => structuredClone(view.subarray(0, 100)),
    };
    for (const [name, use] of Object.entries(uses)) {
      const path = content(join(folder, "file"));
      using mapping = Mapping.open(path);
      const view = mapping.view();
      cut(path, 0);
      await use(view);
      assertThrows(() => mapping.pread(0, 1), FAULT, name);
    }
    // A system call meets the missing pages without a signal: it says EFAULT, or copies them first.
    const path = content(join(folder, "file"));
    using mapping = Mapping.open(path);
    const view = mapping.view();
    cut(path, 0);
    for (const use of [() => fs.writeFileSync(`${path}.copy`, view), () => new Promise((resolve) => fs.writeFile(`${path}.copy`, view, resolve))]) {
      try {
        await use();
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, "EFAULT");
      }
    }
  },

  "refresh sees what becomes of the length"(folder) {
    const path = content(join(folder, "file"));
    for (const options of [{}, { mode: "r" }] as MappingOptions[]) {
      cut(path, SIZE);
      using mapping = Mapping.open(path, options);
      using other = Mapping.open(path);
      const before = mapping.view();
      const { atomics } = mapping;
      for (const size of [30_000, 5000, 70_000, 4096, 4097, SIZE]) {
        cut(path, size);
        assert.notEqual(mapping.byteLength, size, "as long as nobody asks");
        assert.equal(mapping.refresh(), size);
        assert.equal(mapping.byteLength, size);
        assert.equal(mapping.pread(0, size).byteLength, size);
        assert.throws(() => mapping.pread(size, 1), RangeError);
        assert.throws(() => atomics.load(Math.ceil(size / 8) * 8), RangeError);
        other.refresh();
        other.atomics.store(8, size);
        assert.equal(atomics.load(8), size);
        assert.equal(before[8], size & 255);
      }
      other.resize(9000);
      assert.equal(mapping.refresh(), 9000);
      assert.equal(mapping.refresh(), 9000);
    }
  },

  "refresh with an offset"(folder) {
    const path = content(join(folder, "file"));
    using mapping = Mapping.open(path, { offset: 5001 });
    assert.equal(mapping.byteLength, SIZE - 5001);
    cut(path, 5001);
    assertThrows(() => mapping.refresh(), mapError("ERR_FAULT", /5001 bytes by now: nothing is left/));
    assert.equal(mapping.byteLength, SIZE - 5001, "it stays as it is");
    assertThrows(() => mapping.pread(8000, 1), FAULT);
    cut(path, 5002);
    assert.equal(mapping.refresh(), 1);
    assert.equal(mapping.pwrite(0, "!"), 1);
    assert.equal(fs.readFileSync(path)[5001], 0x21);
  },

  "resize and close of a broken mapping"(folder) {
    for (const close of ["close", "unsafeClose"] as const) {
      for (const size of [1, SIZE, 50_000, undefined]) {
        const path = content(join(folder, "file"));
        const mapping = Mapping.open(path);
        const view = mapping.view();
        cut(path, 0);
        assertThrows(() => mapping.pread(0, 1), FAULT);
        let resized = false;
        try {
          resized = mapping.resize(size) === (size ?? SIZE * 2);
        } catch (error) {
          assert.ok(error instanceof MapError && error.code === "ERR_FAULT", String(error));
        }
        if (resized && size !== SIZE) {
          assert.equal(mapping.pread(0, mapping.byteLength).every((byte) => byte === 0), true);
          mapping.pwrite(mapping.byteLength - 1, "x");
          assert.equal(fs.statSync(path).size, mapping.byteLength);
        }
        mapping.resident();
        mapping.advise("random");
        mapping[close]();
        if (close === "close") assert.equal(view.byteLength, SIZE);
      }
    }
  },

  counters(folder) {
    for (const mode of ["rw", "r"] as const) {
      const path = join(folder, `counters-${mode}`);
      Counters.open(path, { names: ["a", "b"], count: 1000 }).close();
      using counters = Counters.open(path, { mode });
      assert.equal(counters.get("a"), 0);
      cut(path, 0);
      const calls: (() => unknown)[] = [() => counters.get("a"), () => counters.getBigInt(999), () => counters.snapshot(), () => [...counters.entries()]];
      if (mode === "rw") calls.push(() => counters.add("b"), () => counters.set("a", 5n), () => counters.compareExchange("a", 0, 1));
      for (const call of calls) assertThrows(call, { ...mapError("ERR_FAULT"), path }, String(call));
      assert.equal(fs.statSync(path).size, 0);
    }
  },

  async "in a Worker"(folder) {
    const path = content(join(folder, "file"));
    using mapping = Mapping.open(path);
    const worker = new Worker(new URL("truncation_worker.ts", import.meta.url), { workerData: { path } });
    const answer = (): Promise<unknown> =>
      new Promise((resolve, reject) => {
        worker.once("message", resolve);
        worker.once("error", reject);
      });
    try {
      assert.equal(await answer(), "open");
      cut(path, 0);
      worker.postMessage("touch");
      assert.deepEqual(await answer(), ["ERR_FAULT", "ERR_FAULT", "ERR_FAULT", 0, "ERR_FAULT"]);
      cut(path, SIZE);
      assert.equal(mapping.pwrite(16_000, "main"), 4, "what a Worker's mapping met is that mapping's alone");
      worker.postMessage("refresh");
      assert.deepEqual(await answer(), "main");
    } finally {
      await worker.terminate();
    }
    // The handler outlives the Worker that used it.
    cut(path, 0);
    assertThrows(() => mapping.pread(0, 1), FAULT);
  },

  async "in many Workers at once"(folder) {
    const path = content(join(folder, "file"));
    const workers = Array.from({ length: 4 }, () => new Worker(new URL("truncation_worker.ts", import.meta.url), { workerData: { path } }));
    try {
      const all = (): Promise<unknown[]> => Promise.all(workers.map((worker) => new Promise((resolve, reject) => {
        worker.once("message", resolve);
        worker.once("error", reject);
      })));
      assert.deepEqual(await all(), Array(4).fill("open"));
      cut(path, 0);
      const answers = all();
      for (const worker of workers) worker.postMessage("touch");
      assert.deepEqual(await answers, Array(4).fill(["ERR_FAULT", "ERR_FAULT", "ERR_FAULT", 0, "ERR_FAULT"]));
    } finally {
      await Promise.all(workers.map((worker) => worker.terminate()));
    }
  },

  async "beside a second copy of the library"(folder) {
    const copy = join(folder, "copy");
    fs.cpSync(`${root}lib`, join(copy, "lib"), { recursive: true });
    fs.copyFileSync(`${root}mod.ts`, join(copy, "mod.ts"));
    fs.writeFileSync(join(copy, "package.json"), '{"type":"module"}');
    fs.copyFileSync(library, join(copy, "libsecond.so"));
    const path = content(join(folder, "file"));
    using first = Mapping.open(path);
    process.env.HOLDFAST_LIBRARY = join(copy, "libsecond.so");
    const second = (await import(pathToFileURL(join(copy, "mod.ts")).href)) as typeof import("../../mod.ts");
    assert.notEqual(second.Mapping, Mapping);
    const other = second.Mapping.open(path);
    assert.match(fs.readFileSync("/proc/self/maps", "utf8"), /libsecond\.so/);
    const views = [first.view(), other.view()];
    const code = (call: () => unknown): unknown => {
      try {
        return call();
      } catch (error) {
        return (error as MapError).code;
      }
    };
    for (let round = 0; round < 3; round++) {
      cut(path, 0);
      assert.equal(code(() => first.pread(16_000, 1)), "ERR_FAULT");
      assert.equal(code(() => other.pread(16_000, 1)), "ERR_FAULT");
      for (const view of views) assert.equal(view[8000], 0);
      cut(path, SIZE);
      assert.deepEqual([first.refresh(), other.refresh()], [SIZE, SIZE]);
      first.pwrite(0, "both");
      assert.equal(new TextDecoder().decode(other.pread(0, 4)), "both");
      views.push(first.view(), other.view());
    }
    other.close();
    cut(path, 0);
    assert.equal(code(() => first.atomics.add(0, 1)), "ERR_FAULT");
  },

  async "while another process cuts and grows it all the time"(folder) {
    const path = content(join(folder, "file"));
    const handles = [Mapping.open(path), Mapping.open(path, { mode: "r" }), Mapping.open(path, { sharing: "private" })];
    const child = spawn("sh", ["-c", `while :; do truncate -s 0 "$0"; truncate -s ${SIZE} "$0"; done`, path], { stdio: "ignore" });
    const views = handles.map((mapping) => mapping.view());
    const target = new Uint8Array(10_000);
    let faults = 0;
    try {
      for (const end = Date.now() + 700; Date.now() < end; await new Promise((resolve) => setTimeout(resolve, 0))) {
        for (const [i, mapping] of handles.entries()) {
          for (const call of [
            () => mapping.preadInto(target, 5000),
            () => mapping.writable && mapping.pwrite(5000, target),
            () => mapping.atomics.load(16_000),
            () => mapping.writable && mapping.atomics.add(16_000, 1),
            () => [...mapping.lines()].length,
            () => mapping.flush(),
            () => (views[i] = mapping.view()),
            () => mapping.refresh(),
          ]) {
            try {
              call();
            } catch (error) {
              if (error instanceof RangeError) continue; // the file was short when it was refreshed
              assert.ok(error instanceof MapError && error.code === "ERR_FAULT", String(error));
              faults++;
            }
          }
          for (let at = 0; at < SIZE; at += 1000) if (views[i]?.[at] === 1) views[i]?.fill(2);
        }
      }
    } finally {
      child.kill("SIGKILL");
      for (const mapping of handles) mapping.close();
    }
    assert.ok(faults > 0, "the file was cut at least once");
  },
};

if (import.meta.main) {
  const [name, folder] = process.argv.slice(2) as [string, string];
  await scenarios[name]?.(folder);
  console.log("alive");
  process.exit(0);
}
