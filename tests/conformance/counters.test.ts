/** Counters as api.md describes them. Wrong files: errors.test.ts; the bytes: tests/format/. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { Counters } from "../../mod.ts";
import { assertThrows, mapError, rangeError, typeError } from "../support/errors.ts";
import { commandLine, currentRuntime } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { mountRefusal, withTmpfs } from "../support/tmpfs.ts";
import { untouched } from "../support/untouched.ts";

const files = temporaryFiles();
const bun = (globalThis as { Bun?: { gc(force: boolean): void } }).Bun;
const gc = bun === undefined ? (globalThis as { gc?: () => void }).gc : (): void => bun.gc(true);
// Where no collection can be asked for, garbage brings one about.
const collect = gc ?? ((): void => void Array.from({ length: 200 }, () => new Uint8Array(1 << 20)));
const operations = ["add", "sub", "set", "exchange", "and", "or", "xor"] as const;

test("a new file has the counters asked for, all zero", () => {
  const path = files.next();
  using counters = Counters.open(path, { count: 3 });
  assert.equal(counters.count, 3);
  assert.deepEqual(counters.names, [undefined, undefined, undefined]);
  assert.deepEqual(counters.snapshot(), { 0: 0, 1: 0, 2: 0 });
  assert.equal(counters.path, path);
  assert.equal(counters.closed, false);
  assert.equal(fs.statSync(path).mode & 0o777, 0o600);
});

test("names are indexes too", () => {
  using counters = Counters.open(files.next(), { names: ["requests", "errors", "Größe 🚀"] });
  assert.equal(counters.count, 3);
  assert.deepEqual(counters.names, ["requests", "errors", "Größe 🚀"]);
  assert.equal(counters.add("errors", 5), 0);
  assert.equal(counters.get(1), 5);
  assert.equal(counters.add(2), 0);
  assert.equal(counters.get("Größe 🚀"), 1);
  assert.deepEqual([...counters.entries()], [["requests", 0], ["errors", 5], ["Größe 🚀", 1]]);
  assert.deepEqual(counters.snapshot(), { requests: 0, errors: 5, "Größe 🚀": 1 });
});

test("more counters than names", () => {
  using counters = Counters.open(files.next(), { names: ["a"], count: 3 });
  assert.deepEqual(counters.names, ["a", undefined, undefined]);
  counters.add(2, 7);
  assert.deepEqual([...counters.entries()], [["a", 0], [1, 0], [2, 7]]);
  assert.deepEqual(counters.snapshot(), { a: 0, 1: 0, 2: 7 });
});

test("each operation returns the old value, in the form that it was given", () => {
  using counters = Counters.open(files.next(), { names: ["n"], count: 2 });
  assert.equal(counters.add("n"), 0);
  assert.equal(counters.add("n", 41), 1);
  assert.equal(counters.add("n", 0n), 42n);
  assert.equal(counters.sub("n"), 42);
  assert.equal(counters.sub("n", -1), 41);
  assert.equal(counters.sub("n", 2n), 42n);
  assert.equal(counters.set("n", 12), 40);
  assert.equal(counters.set("n", 12n), 12n);
  assert.equal(counters.exchange("n", 13), 12);
  assert.equal(counters.and("n", 9), 13);
  assert.equal(counters.or("n", 2n), 9n);
  assert.equal(counters.xor("n", 1), 11);
  assert.equal(counters.compareExchange("n", 10, 20), 10);
  assert.equal(counters.compareExchange("n", 10, 30), 20);
  assert.equal(counters.compareExchange("n", 20n, 40n), 20n);
  assert.equal(counters.get("n"), 40);
  assert.equal(counters.getBigInt("n"), 40n);
  assert.equal(counters.get(1), 0, "the neighbour is as it was");
});

test("each counter wraps at both ends of 64 bits, in every form that can", () => {
  using counters = Counters.open(files.next(), { count: 5000 });
  const [least, most] = [-(2n ** 63n), 2n ** 63n - 1n];
  for (const counter of [0, 4999]) { // the short way, and the long one
    counters.set(counter, most);
    assert.equal(counters.add(counter, 1n), most);
    assert.equal(counters.sub(counter, 1n), least);
    assert.equal(counters.add(counter, most), most);
    assert.equal(counters.getBigInt(counter), -2n);
    assert.equal(counters.get(counter), -2);
    assert.equal(counters.sub(counter, most), -2n);
    assert.equal(counters.getBigInt(counter), most, "-2 - (2^63 - 1) is -2^63 - 1");
    // A number form never wraps: it would have to start at, or give back, a value that it can't hold.
    for (const edge of [most, least]) {
      counters.set(counter, edge);
      for (const change of [() => counters.add(counter), () => counters.add(counter, -1), () => counters.sub(counter), () => counters.sub(counter, -1)]) {
        assertThrows(change, rangeError(), `${change} at ${edge}`);
        assert.equal(counters.getBigInt(counter), edge);
      }
    }
    // The old value fits, the new one does not: the next call says so.
    counters.set(counter, BigInt(Number.MAX_SAFE_INTEGER));
    assert.equal(counters.add(counter), Number.MAX_SAFE_INTEGER);
    assertThrows(() => counters.get(counter), rangeError(/9007199254740992/));
    assert.equal(counters.getBigInt(counter), 2n ** 53n);
  }
});

test("values beyond 2^53 are bigints or an error, and wrap at 64 bits", () => {
  using counters = Counters.open(files.next(), { count: 1 });
  counters.set(0, 2n ** 63n - 1n);
  assertThrows(() => counters.get(0), rangeError(/9223372036854775807/));
  assertThrows(() => counters.add(0), rangeError());
  assertThrows(() => counters.snapshot(), rangeError());
  assert.equal(counters.add(0, 1n), 2n ** 63n - 1n);
  assert.equal(counters.getBigInt(0), -(2n ** 63n));
});

test("values last, and every handle sees them", () => {
  const path = files.next();
  {
    using one = Counters.open(path, { names: ["a", "b"] });
    using two = Counters.open(path);
    one.add("a", 3);
    assert.equal(two.get("a"), 3);
    two.add("b", 4n);
    assert.equal(one.get("b"), 4);
  }
  using again = Counters.open(pathToFileURL(path));
  assert.deepEqual(again.snapshot(), { a: 3, b: 4 });
});

test("an existing file keeps its count; more grows it, for handles that are open too", () => {
  const path = files.next();
  using one = Counters.open(path, { count: 2 });
  one.add(1, 5);
  using same = Counters.open(path);
  assert.equal(same.count, 2);
  using more = Counters.open(path, { count: 300 });
  assert.equal(more.count, 300);
  assert.equal(more.get(1), 5);
  assert.equal(more.get(299), 0);
  more.add(299, 9);
  assert.equal(one.get(299), 9, "an open handle finds a counter that was added");
  assert.equal(same.count, 300);
  one.add(1);
  assert.equal(more.get(1), 6);
});

test("names behind those of the file are added", () => {
  const path = files.next();
  using one = Counters.open(path, { names: ["a"] });
  one.add("a", 1);
  using two = Counters.open(path, { names: ["a", "b"], count: 3 });
  assert.deepEqual(two.names, ["a", "b", undefined]);
  assert.equal(two.get("a"), 1);
  assert.equal(one.add("b", 2), 0);
  assert.equal(two.get("b"), 2);
});

test("fewer, or other names, is an error that changes nothing", () => {
  const path = files.next();
  Counters.open(path, { names: ["a", "b"], count: 3 }).close();
  untouched(path, () => {
    assertThrows(() => Counters.open(path, { count: 2 }), rangeError(/3 counters, more than the 2/));
    assertThrows(() => Counters.open(path, { names: ["a"] }), rangeError(/3 counters/));
    assertThrows(() => Counters.open(path, { names: ["a", "c", "d"] }), rangeError(/"b", not "c"/));
    assertThrows(() => Counters.open(path, { names: ["a", "b", "c"] }), rangeError(/no name/));
    assertThrows(() => Counters.open(path, { names: ["a", "c"], count: 100 }), rangeError(/"b", not "c"/));
  });
});

test("declare adds the names that are missing and gives their indexes", () => {
  const path = files.next();
  using one = Counters.open(path, { names: ["a"] });
  using two = Counters.open(path);
  assert.deepEqual(one.declare("b", "a"), [1, 0]);
  assert.deepEqual(two.declare("c", "b"), [2, 1]);
  assert.deepEqual(one.declare("c"), [2]);
  assert.deepEqual(one.names, ["a", "b", "c"]);
  assert.deepEqual(two.declare(), []);
  assertThrows(() => one.declare(""), rangeError());
  assertThrows(() => one.declare("x", "x"), rangeError());
  assertThrows(() => one.declare(1 as unknown as string), typeError());
  using reader = Counters.open(path, { mode: "r" });
  assert.deepEqual(reader.declare("a"), [0]);
  assertThrows(() => reader.declare("new"), mapError("ERR_READ_ONLY"));
  assert.deepEqual(one.names, ["a", "b", "c"]);
});

test("mode r reads and changes nothing", () => {
  const path = files.next();
  using writer = Counters.open(path, { names: ["a"], count: 2 });
  writer.add("a", 5);
  untouched(path, () => {
    using reader = Counters.open(path, { mode: "r" });
    assert.equal(reader.get("a"), 5);
    assert.equal(reader.getBigInt(0), 5n);
    assert.deepEqual(reader.snapshot(), { a: 5, 1: 0 });
    for (const name of operations) assertThrows(() => reader[name](0, 1), mapError("ERR_READ_ONLY"), name);
    assertThrows(() => reader.compareExchange(0, 5, 6), mapError("ERR_READ_ONLY"));
    assertThrows(() => Counters.open(path, { mode: "r", count: 5 }), mapError("ERR_READ_ONLY"));
  });
  writer.add("a");
  using reader = Counters.open(path, { mode: "r" });
  writer.add("a");
  assert.equal(reader.get("a"), 7, "and sees what others count");
});

test("a missing file: created with a count or names, ENOENT otherwise", () => {
  const path = files.next();
  assertThrows(() => Counters.open(path), { ...mapError("ENOENT"), syscall: "open", path });
  assertThrows(() => Counters.open(path, { mode: "r", count: 3 }), mapError("ENOENT"));
  assert.equal(fs.existsSync(path), false);
});

test("counters that do not exist", () => {
  using counters = Counters.open(files.next(), { names: ["a", "b"], count: 3 });
  for (const bad of [3, -1, 0.5, NaN, Infinity, 2 ** 53, 1e300]) {
    assertThrows(() => counters.get(bad), rangeError(/"counter"/), String(bad));
    assertThrows(() => counters.getBigInt(bad), rangeError(), String(bad));
    for (const name of operations) assertThrows(() => counters[name](bad, 1), rangeError(), `${name} ${bad}`);
    assertThrows(() => counters.compareExchange(bad, 0, 1), rangeError(), String(bad));
  }
  assertThrows(() => counters.get("c"), rangeError(/"a", "b"/));
  assertThrows(() => counters.get(""), rangeError());
  assertThrows(() => counters.get("0"), rangeError());
  for (const bad of [null, undefined, 0n, {}, true]) assertThrows(() => counters.get(bad as unknown as number), typeError(/"counter"/), String(bad));
  assert.deepEqual(counters.snapshot(), { a: 0, b: 0, 2: 0 });
});

test("operands are checked as those of Int64Atomics", () => {
  using counters = Counters.open(files.next(), { count: 1 });
  for (const name of operations) {
    const call = counters[name].bind(counters) as (counter: number, value: unknown) => unknown;
    for (const bad of [0.5, NaN, 2 ** 53, 2n ** 64n]) assertThrows(() => call(0, bad), rangeError(), `${name} ${bad}`);
    for (const bad of ["1", null, {}]) assertThrows(() => call(0, bad), typeError(), `${name} ${String(bad)}`);
  }
  assert.equal(counters.get(0), 0);
});

test("options are checked, and nothing is created by a wrong one", () => {
  const path = files.next();
  const open = (options: unknown) => () => Counters.open(path, options as { count: number });
  for (const count of [0, -1, 1.5, NaN, 2 ** 31 + 1, 2 ** 53]) assertThrows(open({ count }), rangeError(/"count"/), String(count));
  assertThrows(open({ count: "3" }), typeError(/"count"/));
  assertThrows(open({ names: "a" }), typeError(/array/));
  assertThrows(open({ names: [1] }), typeError(/names\[0\]/));
  assertThrows(open({ names: ["a", "a"] }), rangeError(/names\[1\]/));
  assertThrows(open({ names: [""] }), rangeError());
  assertThrows(open({ names: ["x".repeat(256)] }), rangeError(/255 bytes/));
  assertThrows(open({ names: ["ü".repeat(128)] }), rangeError(/255 bytes/));
  assertThrows(open({ names: ["\ud800"] }), rangeError(/well-formed/));
  assertThrows(open({ names: ["a", "b"], count: 1 }), rangeError(/less than the 2 names/));
  assertThrows(open({ count: 1, mode: "w" }), rangeError(/"r" or "rw"/));
  assertThrows(open({ count: 1, permissions: -1 }), rangeError());
  assertThrows(open({ count: 1, size: 3 }), typeError(/"size".*count, names/));
  assertThrows(open(null), typeError());
  assertThrows(open([]), typeError());
  assert.equal(fs.existsSync(path), false);
  using longest = Counters.open(files.next(), { names: ["x".repeat(255), `${"ü".repeat(127)}y`] });
  assert.equal(longest.count, 2);
});

test("creation leaves no temporary name behind", () => {
  const before = fs.readdirSync(files.folder).length;
  const path = files.next();
  Counters.open(path, { count: 1 }).close();
  assert.equal(fs.readdirSync(files.folder).length, before + 1);
});

test("each counter is alone on its cache line", () => {
  const path = files.next();
  using counters = Counters.open(path, { count: 5 });
  for (let i = 0; i < 5; i++) counters.set(i, 0x1111111111111100n + BigInt(i));
  const bytes = fs.readFileSync(path);
  const offsets = Array.from({ length: 5 }, (_, i) => {
    const word = Buffer.alloc(8);
    word.writeBigInt64LE(0x1111111111111100n + BigInt(i));
    return bytes.indexOf(word);
  });
  offsets.forEach((offset) => assert.equal(offset % 128, 0));
  for (let i = 1; i < 5; i++) assert.ok((offsets[i] as number) - (offsets[i - 1] as number) >= 128);
});

test("close is idempotent, and using closes", () => {
  const path = files.next();
  const counters = Counters.open(path, { count: 1 });
  counters.close();
  counters.close();
  counters[Symbol.dispose]();
  assert.equal(counters.closed, true);
});

test("after close every use is ERR_CLOSED, when it is called and not later", () => {
  const path = files.next();
  const counters = Counters.open(path, { names: ["a"], count: 2 });
  const entries = counters.entries();
  counters.close();
  const uses: (() => unknown)[] = [
    ...operations.flatMap((name) => [() => counters[name](0, 1), () => counters[name]("a", 1n)]),
    () => counters.add(1), () => counters.sub("a"), () => counters.compareExchange(0, 0, 1), () => counters.get(0), () => counters.get("a"),
    () => counters.get("b"), () => counters.get(2), () => counters.getBigInt(0), () => counters.count, () => counters.names, () => counters.entries(),
    () => entries.next(), () => counters.snapshot(), () => counters.declare(), () => counters.declare("a"), () => counters.declare("b"),
  ];
  for (const use of uses) assertThrows(use, { ...mapError("ERR_CLOSED"), path }, String(use));
});

test("a handle that is dropped is closed when it is collected, the last one too", async () => {
  const path = files.next("dropped");
  (() => Counters.open(path, { count: 1 }))();
  const isOpen = (): boolean => fs.readdirSync("/proc/self/fd").some((fd) => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch {
      return false; // closed meanwhile
    }
  });
  assert.equal(isOpen(), true);
  for (let i = 0; i < 200 && isOpen(); i++) {
    collect();
    await sleep(5);
  }
  assert.equal(isOpen(), false);
  assert.ok(!fs.readFileSync("/proc/self/maps", "utf8").includes(path));
});

const full = "more counters than there is room for: ENOSPC, and nothing has changed";
test(full, skipFor(full, mountRefusal(files)), () => {
  withTmpfs(files, "size=64k", (folder) => {
    const path = `${folder}/counters`;
    Counters.open(path, { names: ["a"] }).close();
    // Up to 1 TiB of them, which are never listed in memory.
    for (const count of [200, 2 ** 31]) {
      untouched(path, () => assertThrows(() => Counters.open(path, { count }), { ...mapError("ENOSPC"), path }));
      assertThrows(() => Counters.open(`${folder}/new`, { count }), mapError("ENOSPC"));
    }
    using counters = Counters.open(path);
    untouched(path, () => assertThrows(() => counters.declare(...Array.from({ length: 200 }, (_, i) => `n${i}`)), { ...mapError("ENOSPC"), path }));
    assert.equal(counters.declare("b")[0], 1);
  });
});

test("a file that is cut short while it is open is not made longer again", () => {
  const path = files.next();
  using counters = Counters.open(path, { count: 100 });
  for (const length of [8192, 1100]) {
    fs.truncateSync(path, length);
    untouched(path, () => assertThrows(() => counters.declare("new"), { ...mapError("ERR_FAULT", /cut short/), path }, String(length)));
  }
});

test("a name that begins with a byte order mark keeps it", () => {
  const path = files.next();
  Counters.open(path, { names: ["\ufeffa", "a"] }).close();
  using counters = Counters.open(path);
  assert.deepEqual(counters.names, ["\ufeffa", "a"]);
});

test("autoUnlink removes the file with the handle, and no other of its name", () => {
  const path = files.next();
  const counters = Counters.open(path, { count: 1, autoUnlink: true });
  assert.ok(fs.existsSync(path));
  counters.close();
  assert.ok(!fs.existsSync(path));

  using second = Counters.open(path, { count: 1, autoUnlink: true });
  fs.rmSync(path);
  fs.writeFileSync(path, "another");
  second.close();
  assert.equal(fs.readFileSync(path, "utf8"), "another");
  assertThrows(() => Counters.open(files.next(), { count: 1, autoUnlink: 1 as unknown as boolean }), typeError(/"autoUnlink"/));
});

test("autoUnlink leaves alone what could not be opened", () => {
  const path = files.next();
  Counters.open(path, { names: ["a"] }).close();
  const script = files.file(
    `import { Counters } from ${JSON.stringify(new URL("../../mod.ts", import.meta.url).href)};
     for (const options of [{ names: ["b"] }, { names: ["a", "c"], count: 1 }, { names: ["a", "c"], mode: "r" }]) {
       try {
         Counters.open(${JSON.stringify(path)}, { ...options, autoUnlink: true });
         console.log("opened");
       } catch {}
     }`,
    "script.ts",
  );
  untouched(path, () => {
    const ended = spawnSync(...commandLine(currentRuntime, script), { encoding: "utf8" });
    assert.deepEqual([ended.status, ended.stdout], [0, ""], ended.stderr);
  });
});

test("autoUnlink removes the file that was opened, wherever the program goes", () => {
  const [first, second] = [files.next("first"), files.next("second")];
  for (const folder of [first, second]) fs.mkdirSync(folder);
  const script = files.file(
    `import { Counters } from ${JSON.stringify(new URL("../../mod.ts", import.meta.url).href)};
     process.chdir(${JSON.stringify(first)});
     const closed = Counters.open("closed", { count: 1, autoUnlink: true });
     globalThis.kept = Counters.open("kept", { count: 1, autoUnlink: true });
     process.chdir(${JSON.stringify(second)});
     closed.close();`,
    "script.ts",
  );
  const ended = spawnSync(...commandLine(currentRuntime, script), { encoding: "utf8" });
  assert.equal(ended.status, 0, ended.stderr);
  assert.deepEqual(fs.readdirSync(first), []);
});

test("autoUnlink: a removal that the system refuses is the error of close(), and the handle is closed", () => {
  const folder = files.next("folder");
  fs.mkdirSync(folder);
  const path = `${folder}/counters`;
  const counters = Counters.open(path, { count: 1, autoUnlink: true });
  fs.renameSync(folder, `${folder}-away`);
  fs.symlinkSync(folder, folder); // a loop
  assertThrows(() => counters.close(), { ...mapError("ELOOP"), path });
  assert.equal(counters.closed, true);
  counters.close();
});

test("autoUnlink removes the file at exit", () => {
  const path = files.next();
  const script = files.file(
    `import { Counters } from ${JSON.stringify(new URL("../../mod.ts", import.meta.url).href)};
     Counters.open(${JSON.stringify(path)}, { count: 1, autoUnlink: true }).add(0);
     console.log("counted");`,
    "script.ts",
  );
  const [executable, args] = commandLine(currentRuntime, script);
  const ended = spawnSync(executable, args, { encoding: "utf8" });
  assert.equal(ended.status, 0, ended.stderr);
  assert.equal(ended.stdout, "counted\n");
  assert.ok(!fs.existsSync(path));
});

test("counters behind the first 4,096 take the long way, with the same results", () => {
  using counters = Counters.open(files.next(), { count: 4100 });
  for (const i of [0, 4095, 4096, 4099]) {
    assert.equal(counters.add(i, 5), 0);
    assert.equal(counters.sub(i), 5);
    assert.equal(counters.get(i), 4);
  }
  assertThrows(() => counters.add(4100), rangeError(/4099/));
  for (const wrong of ["0", "length", 0.5, -1, NaN]) assertThrows(() => counters.add(wrong as number), rangeError());
});

test("a growth keeps the short way right: every cell is that of the file as it is now", () => {
  const path = files.next();
  using counters = Counters.open(path, { count: 2 });
  using other = Counters.open(path);
  counters.add(1, 7);
  using grown = Counters.open(path, { count: 3000 });
  grown.set(2999, 9);
  assert.equal(counters.add(2999), 9);
  assert.equal(counters.add(1), 7);
  assert.equal(other.get(1), 8);
  assert.equal(other.get(2999), 10);
  using reading = Counters.open(path, { mode: "r" });
  assert.equal(reading.get(2999), 10);
  assertThrows(() => reading.add(0), mapError("ERR_READ_ONLY"));
  counters.close();
  assertThrows(() => counters.add(0), mapError("ERR_CLOSED"));
  assertThrows(() => counters.get(0), mapError("ERR_CLOSED"));
});

test("opening and closing leaves no descriptor and no mapping behind", () => {
  const path = files.next("no-mapping-left");
  Counters.open(path, { count: 2 }).close();
  const open = (): number => fs.readdirSync("/proc/self/fd").length;
  const before = open();
  for (let i = 0; i < 50; i++) {
    Counters.open(path).close();
    assertThrows(() => Counters.open(path, { count: 1 }), rangeError());
  }
  assert.ok(open() <= before, "fewer is right: a collection may close what a test before has dropped");
  assert.ok(!fs.readFileSync("/proc/self/maps", "utf8").includes("no-mapping-left"));
});

