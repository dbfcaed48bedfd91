/** Bad input: each a clear error of the right class and code, and nothing changed. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { Counters, Int64Atomics, MapError, Mapping, Queue } from "../../mod.ts";
import { assertError, assertThrows, type Expected, mapError, rangeError, typeError } from "../support/errors.ts";
import { commandLine, currentRuntime, root } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { countWord, readRawCounters } from "../support/reader.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { mountRefusal, withTmpfs } from "../support/tmpfs.ts";
import { fingerprint, untouched } from "../support/untouched.ts";

const files = temporaryFiles();

/** The ways to open a file. */
const openers: readonly (readonly [name: string, open: (path: string) => { close(): void }])[] = [
  ["Mapping rw", (path) => Mapping.open(path)],
  ["Mapping r", (path) => Mapping.open(path, { mode: "r" })],
  ["Mapping with byteLength", (path) => Mapping.open(path, { byteLength: 100 })],
  ["Mapping with create", (path) => Mapping.open(path, { create: true, byteLength: 100 })],
  ["Mapping with truncate", (path) => Mapping.open(path, { create: true, truncate: true, byteLength: 100 })],
  ["Counters rw", (path) => Counters.open(path)],
  ["Counters r", (path) => Counters.open(path, { mode: "r" })],
  ["Counters with count", (path) => Counters.open(path, { count: 2 })],
];
const mappings = openers.filter(([name]) => name.startsWith("Mapping"));
const counters = openers.filter(([name]) => name.startsWith("Counters"));

function refuses(list: typeof openers, path: string, expected: Expected): void {
  for (const [name, open] of list) assertThrows(() => open(path), { path, ...expected }, name);
}

test("a missing file", () => {
  const path = files.next();
  const reading = openers.filter(([name]) => !/create|truncate|count/.test(name));
  assert.equal(reading.length, 5);
  refuses(reading, path, { ...mapError("ENOENT", /^ENOENT: no such file or directory, open '.*'$/), syscall: "open" });
  assert.equal(fs.existsSync(path), false);
  const lost = `${path}/in/no/folder`;
  refuses(openers, lost, mapError("ENOENT"));
});

test("system errors are shaped like those of node:fs", () => {
  const path = files.next();
  let expected: NodeJS.ErrnoException | undefined;
  try {
    fs.openSync(path, "r");
  } catch (error) {
    expected = error as NodeJS.ErrnoException;
  }
  try {
    Mapping.open(path);
  } catch (error) {
    assert.ok(error instanceof MapError);
    assert.ok(error instanceof Error);
    assert.equal(error.name, "MapError");
    const { code, errno, syscall, message } = error;
    assert.deepEqual({ code, errno, syscall, path: error.path, message }, {
      code: "ENOENT",
      errno: expected?.errno,
      syscall: "open",
      path,
      message: expected?.message,
    });
    assert.equal(errno, -2);
    return;
  }
  assert.fail("nothing was thrown");
});

test("a directory", () => {
  const path = files.next("directory");
  fs.mkdirSync(path);
  refuses(openers, path, mapError("EISDIR", /directory/));
  assert.deepEqual(fs.readdirSync(path), []);
});

test("a file in the place of a folder", () => {
  const path = files.file("content");
  untouched(path, () => refuses(openers, `${path}/inside`, mapError("ENOTDIR")));
});

test("a FIFO, without waiting for its other end", () => {
  const path = files.next("fifo");
  assert.equal(spawnSync("mkfifo", [path]).status, 0);
  refuses(openers, path, mapError("ENODEV", /not a regular file/));
  assert.ok(fs.statSync(path).isFIFO());
});

test("a device", () => refuses(openers, "/dev/zero", mapError("ENODEV", /not a regular file/)));

test("symbolic links: to a file it works, in a circle and into nowhere it does not", () => {
  const target = files.file("target");
  const link = files.next("link");
  fs.symlinkSync(target, link);
  using mapping = Mapping.open(link);
  assert.equal(mapping.byteLength, 6);
  const circle = files.next("circle");
  fs.symlinkSync(circle, circle);
  refuses(openers, circle, mapError("ELOOP"));
  const nowhere = files.next("nowhere");
  fs.symlinkSync(files.next("missing"), nowhere);
  for (const [name, open] of openers) {
    let thrown: unknown;
    try {
      open(nowhere).close();
    } catch (error) {
      thrown = error;
    }
    assert.ok(thrown instanceof MapError, name);
    assert.ok(["ENOENT", "EEXIST"].includes(thrown.code), `${name}: ${thrown.message}`);
  }
});

test("a name that is too long", () => refuses(openers, files.next("x".repeat(300)), mapError("ENAMETOOLONG")));

test("an empty file", () => {
  const path = files.file("");
  untouched(path, () => {
    const opened = mappings.filter(([name]) => name === "Mapping rw" || name === "Mapping r");
    refuses(opened, path, mapError("EINVAL", /an empty file cannot be mapped; pass "byteLength"/));
    refuses(counters, path, mapError("ERR_NOT_HOLDFAST", /is empty/));
  });
});

/** A file of counters with some bytes replaced. */
function damaged(changes: Record<number, number[]>): string {
  const path = files.next("damaged");
  Counters.open(path, { names: ["a"], count: 2 }).close();
  const fd = fs.openSync(path, "r+");
  for (const [offset, bytes] of Object.entries(changes)) fs.writeSync(fd, new Uint8Array(bytes), 0, bytes.length, Number(offset));
  fs.closeSync(fd);
  return path;
}

test("a file that is not holdfast's", () => {
  const foreign = [
    files.file("some notes of somebody\n".repeat(100)),
    files.file("x"),
    files.file(new Uint8Array(5000).fill(255)),
    files.file("HFST\r\n\x1a"), // one byte short of the magic
    files.file("HFST\n\x1a\0".padEnd(200, "\0")), // as a text-mode transfer leaves it
  ];
  for (const path of foreign) untouched(path, () => refuses(counters, path, mapError("ERR_NOT_HOLDFAST", /something else/)));
  for (const size of [1, 127, 128, 5000]) {
    const zeros = files.file(new Uint8Array(size));
    untouched(zeros, () => refuses(counters, zeros, mapError("ERR_NOT_HOLDFAST", /zeros/)));
  }
});

test("a file of another kind", () => {
  const path = files.next("queue");
  Queue.open(path).close();
  let seen = 0;
  for (const name of fs.readdirSync(path)) {
    const file = `${path}/${name}`;
    const bytes = fs.readFileSync(file);
    if (bytes.length < 128 || bytes.toString("latin1", 0, 4) !== "HFST") continue;
    seen++;
    untouched(file, () => refuses(counters, file, mapError("ERR_KIND", /kind ".*", not "counters"/)));
  }
  assert.ok(seen > 0);
  refuses(openers, path, mapError("EISDIR"));
});

test("a file of a newer version", () => {
  const path = damaged({ 8: [2, 0, 0, 0] });
  untouched(path, () => refuses(counters, path, mapError("ERR_VERSION", /version 2.*up to 1/)));
});

test("a damaged file", () => {
  for (const offset of [12, 16, 20, 24, 39, 40, 119, 120, 124, 127]) {
    const path = damaged({});
    const bytes = fs.readFileSync(path);
    // Another byte than it was, whatever it was: some are random.
    bytes[offset] = (bytes[offset] as number) ^ 0xa5;
    fs.writeFileSync(path, bytes);
    untouched(path, () => refuses(counters, path, mapError("ERR_CORRUPT", /damaged/)));
  }
});

test("a file cut short", () => {
  const whole = fs.readFileSync(damaged({}));
  for (const size of [8, 100, 127, 128, 135, 1023, 1024, 1500, whole.length - 1]) {
    const path = files.file(whole.subarray(0, size));
    untouched(path, () => refuses(counters, path, mapError("ERR_CORRUPT")));
  }
});

test("a count that the file is too short for", () => {
  for (const count of [3, 1000, 2 ** 31]) {
    const path = damaged({});
    const fd = fs.openSync(path, "r+");
    fs.writeSync(fd, new Uint8Array(countWord(count, readRawCounters(path).header.id)), 0, 8, 128);
    fs.closeSync(fd);
    untouched(path, () => refuses(counters, path, mapError("ERR_CORRUPT", /counters, but has/)));
  }
});

test("a count whose check does not hold", () => {
  for (const count of [[1, 0, 0, 0], [3, 0, 0, 0], [0, 0, 0, 0x40], [255, 255, 255, 255, 255, 255, 31, 0]]) {
    const path = damaged({ 128: count });
    untouched(path, () => refuses(counters, path, mapError("ERR_CORRUPT", /damaged count/)));
  }
});

test("a count of none, as damage may leave it: no file is created like that", () => {
  const path = damaged({ 128: [0, 0, 0, 0, 0, 0, 0, 0] });
  untouched(path, () => refuses(counters, path, mapError("ERR_CORRUPT")));
});

test("a damaged name", () => {
  for (const offset of [1024 + 128, 1024 + 132, 1024 + 136]) {
    const path = damaged({ [offset]: [0x7e] });
    untouched(path, () => refuses(counters, path, mapError("ERR_CORRUPT", /name of counter 0/)));
  }
});

test("paths: NUL, empty, no string, no file: URL", () => {
  const before = fs.readdirSync(files.folder);
  for (const [name, open] of openers) {
    const any = open as (path: unknown) => unknown;
    for (const path of [`${files.folder}/a\0b`, "\0", "a\0"]) assertThrows(() => any(path), rangeError(/NUL/), name);
    assertThrows(() => any(""), rangeError(/not empty/), name);
    for (const path of [undefined, null, 5, 5n, {}, [], new Uint8Array(3), Symbol("x")]) {
      assertThrows(() => any(path), typeError(/"path" must be a string or a file: URL/), `${name} of ${String(path)}`);
    }
    assertThrows(() => any(new URL("https://example.org/x")), typeError(), `${name} of an https: URL`);
    assertThrows(() => any(new URL(`${pathToFileURL(files.folder)}/a%00b`)), rangeError(/NUL/), `${name} of a URL with NUL`);
  }
  assert.deepEqual(fs.readdirSync(files.folder), before);
});

test("options of Mapping.open", () => {
  const path = files.file("content");
  const missing = files.next();
  const open = (options: unknown, file = path) => () => Mapping.open(file, options as object);
  untouched(path, () => {
    for (const file of [path, missing]) {
      assertThrows(open({ byteLenght: 100 }, file), typeError(/no option "byteLenght".*byteLength/));
      assertThrows(open({ create: true, byteLength: 10, toString: 1 }, file), typeError(/"toString"/));
      assertThrows(open({ create: true, __proto__: null, constructor: 1 }, file), typeError(/"constructor"/));
      assertThrows(open({ mode: "w" }, file), rangeError(/"r" or "rw"/));
      assertThrows(open({ mode: 1 }, file), typeError());
      for (const name of ["create", "exclusive", "truncate"]) {
        for (const value of [1, "yes", null]) assertThrows(open({ [name]: value }, file), typeError(new RegExp(`"${name}"`)));
      }
      for (const byteLength of [0, -1, 0.5, NaN, Infinity, 2 ** 53, 1e300]) {
        assertThrows(open({ create: true, byteLength }, file), rangeError(/"byteLength"/), String(byteLength));
      }
      for (const byteLength of ["10", 10n, null, {}]) assertThrows(open({ create: true, byteLength }, file), typeError(/"byteLength"/));
      for (const permissions of [-1, 0o10000, 0.5, NaN]) assertThrows(open({ create: true, byteLength: 1, permissions }, file), rangeError());
      assertThrows(open({ create: true, byteLength: 1, permissions: "600" }, file), typeError());
      assertThrows(open({ mode: "r", create: true, byteLength: 10 }, file), typeError(/need mode "rw"/));
      assertThrows(open({ mode: "r", truncate: true }, file), typeError(/need mode "rw"/));
      assertThrows(open({ exclusive: true }, file), typeError(/needs "create"/));
      for (const options of [null, 1, "rw", [], true]) assertThrows(open(options, file), typeError(/"options" must be an object/));
    }
    assertThrows(open({ mode: "r", byteLength: 100 }), rangeError(/mode "r" cannot grow/));
  });
  assert.equal(fs.existsSync(missing), false);
  assertThrows(open({ create: true }, missing), mapError("EINVAL", /"byteLength"/));
  assert.equal(fs.existsSync(missing), false, "a file that could not be mapped is not left behind");
  Mapping.open(path, { mode: undefined, byteLength: undefined } as object).close();
});

test("more bytes than there can be", () => {
  const path = files.file("content");
  untouched(path, () => {
    for (const byteLength of [2 ** 52, Number.MAX_SAFE_INTEGER]) {
      let thrown: unknown;
      try {
        Mapping.open(path, { byteLength }).close();
      } catch (error) {
        thrown = error;
      }
      assert.ok(thrown instanceof MapError && ["EFBIG", "ENOSPC", "ENOMEM"].includes(thrown.code), String(thrown));
    }
  });
  for (const byteLength of [2 ** 52, Number.MAX_SAFE_INTEGER]) assertThrows(() => Mapping.anonymous(byteLength), mapError("ENOMEM"));
});

test("Mapping.anonymous checks its length", () => {
  const anonymous = Mapping.anonymous as (byteLength: unknown) => Mapping;
  for (const bad of [0, -1, 0.5, NaN, Infinity, 2 ** 53]) assertThrows(() => anonymous(bad), rangeError(/"byteLength"/), String(bad));
  for (const bad of [undefined, null, "10", 10n, {}]) assertThrows(() => anonymous(bad), typeError(/"byteLength"/), String(bad));
});

test("offsets and lengths of a mapping", () => {
  const path = files.file(new Uint8Array(100).fill(7));
  using mapping = Mapping.open(path);
  const uses: Record<string, (offset: never, length: never) => unknown> = {
    pread: (offset, length) => mapping.pread(offset, length),
    view: (offset, length) => mapping.view(offset, length),
    dataView: (offset, length) => mapping.dataView(offset, length),
    flush: (offset, length) => mapping.flush({ offset, length }),
    pwrite: (offset, length) => mapping.pwrite(offset, new Uint8Array(Math.max(0, Math.min(1000, Math.floor(Number(length)) || 0)))),
    preadInto: (offset, length) => mapping.preadInto(new Uint8Array(Math.max(0, Math.min(1000, Math.floor(Number(length)) || 0))), offset),
  };
  untouched(path, () => {
    for (const [name, use] of Object.entries(uses)) {
      const call = use as unknown as (offset: unknown, length: unknown) => unknown;
      for (const offset of [-1, -0.5, 0.5, 101, NaN, Infinity, -Infinity, 2 ** 53, 1e300, -(2 ** 53)]) {
        assertThrows(() => call(offset, 1), rangeError(), `${name} from ${offset}`);
      }
      for (const [offset, length] of [[0, 101], [100, 1], [99, 2], [1, 100]]) {
        assertThrows(() => call(offset, length), rangeError(/do not lie within the 100 bytes/), `${name} of ${length} from ${offset}`);
      }
      for (const offset of ["0", 0n, null, {}]) assertThrows(() => call(offset, 1), typeError(/"offset"/), `${name} from ${String(offset)}`);
      if (name === "pwrite" || name === "preadInto") continue;
      for (const length of [-1, 0.5, NaN, Infinity, 2 ** 53, Number.MAX_SAFE_INTEGER]) {
        assertThrows(() => call(50, length), rangeError(), `${name} of ${length}`);
      }
      for (const length of ["1", 1n, null, {}]) assertThrows(() => call(0, length), typeError(/"length"/), `${name} of ${String(length)}`);
    }
  });
});

test("data that is neither bytes nor text", () => {
  const path = files.file(new Uint8Array(100));
  using mapping = Mapping.open(path);
  untouched(path, () => {
    for (const data of [undefined, null, 5, {}, new ArrayBuffer(4), new DataView(new ArrayBuffer(4)), new Uint16Array(4)]) {
      assertThrows(() => mapping.pwrite(0, data as unknown as string), typeError(/"data" must be a string or a Uint8Array/));
      assertThrows(() => mapping.preadInto(data as unknown as Uint8Array, 0), typeError(/"target" must be a Uint8Array/));
    }
    assertThrows(() => mapping.preadInto("text" as unknown as Uint8Array, 0), typeError());
  });
});

/** What can be called or read on an object, down its prototypes, that a closed one must refuse. */
function members(object: object): string[] {
  const names: string[] = [];
  for (let at = object; at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    for (const key of Reflect.ownKeys(at)) {
      if (typeof key === "string") names.push(key);
      else if (key === Symbol.iterator || key === Symbol.asyncIterator) names.push(key.toString());
    }
  }
  const fields = Object.keys(object); // plain facts such as `path` stay readable
  return names.filter((name) => !["constructor", "close", "unsafeClose", "closed", ...fields].includes(name));
}

/** Arguments with which the open object would do something. */
const sensible: Record<string, readonly unknown[]> = {
  pread: [0, 1],
  preadInto: [new Uint8Array(1), 0],
  pwrite: [0, "x"],
  read: [1],
  readLine: [],
  write: ["x"],
  seek: [0],
  lines: [],
  readable: [],
  view: [0, 1],
  dataView: [0, 1],
  flush: [],
  flushAsync: [],
  advise: ["normal"],
  resident: [],
  resize: [50],
  refresh: [],
  lock: [],
  lockAsync: [],
  compareExchange: [0, 0, 1],
  load: [0],
  loadBigInt: [0],
  wait: [0, 0],
  notify: [0],
  get: [0],
  getBigInt: [0],
  declare: ["a"],
  push: ["x"],
  pushMany: [["x"]],
  popMany: [1],
  tryPop: [() => 1],
  lease: [],
  leaseAsync: [],
  take: [],
  consume: [],
  removeGroup: ["a"],
};

async function refusesWhenClosed(object: object, expectedMembers: readonly string[]): Promise<void> {
  const found = members(object);
  for (const name of expectedMembers) assert.ok(found.includes(name), `${name} was found`);
  for (const name of found) {
    const key = name === "Symbol(Symbol.iterator)" ? Symbol.iterator : name === "Symbol(Symbol.asyncIterator)" ? Symbol.asyncIterator : name;
    let thrown: unknown;
    let result: unknown;
    try {
      const member = (object as Record<string | symbol, unknown>)[key];
      result = typeof member === "function" ? await member.call(object, ...(sensible[name] ?? [0, 1, 1])) : member;
      // An iterator may do nothing before its first step.
      if (typeof (result as { next?: unknown } | null)?.next === "function") result = await (result as Iterator<unknown>).next();
    } catch (error) {
      thrown = error;
    }
    assert.ok(thrown !== undefined, `${object.constructor.name}.${name} gave ${String(result)} after close()`);
    assertError(thrown, mapError("ERR_CLOSED", /closed/));
  }
}

test("use after close: every method and getter of Mapping", async () => {
  for (const mapping of [Mapping.open(files.file("content")), Mapping.open(files.file("content"), { mode: "r" }), Mapping.anonymous(100)]) {
    mapping.close();
    await refusesWhenClosed(mapping, ["byteLength", "pageSize", "atomics", "pread", "preadInto", "pwrite", "view", "dataView", "flush", "flushAsync", "read", "readLine", "write", "seek", "position", "lines", "readable", "advise", "resident", "resize", "refresh", "lock", "lockAsync"]);
    mapping.unsafeClose();
    mapping.close();
    assert.equal(mapping.closed, true);
  }
});

test("use after close: every method of Int64Atomics", async () => {
  for (const mode of ["r", "rw"] as const) {
    const mapping = Mapping.open(files.file(new Uint8Array(100)), { mode });
    const { atomics } = mapping;
    assert.ok(atomics instanceof Int64Atomics);
    atomics.load(0);
    mapping.close();
    await refusesWhenClosed(atomics, ["load", "store", "add", "sub", "and", "or", "xor", "exchange", "compareExchange", "wait", "notify"]);
  }
});

test("use after close: every method and getter of Counters", async () => {
  const path = files.next();
  for (const mode of ["rw", "r"] as const) {
    const object = Counters.open(path, mode === "r" ? { mode } : { names: ["a"], count: 2 });
    object.get("a");
    object.close();
    await refusesWhenClosed(object, ["count", "names", "add", "sub", "set", "get", "getBigInt", "entries", "snapshot", "declare"]);
  }
});

test("use after close: every method and getter of Queue", async () => {
  const queue = Queue.open(files.next());
  queue.push("x");
  queue.close();
  await refusesWhenClosed(queue, ["length", "isEmpty", "byteLength", "push", "pushMany", "pop", "popMany", "tryPop", "peek", "peekBack", "reversed", "lease", "leaseAsync", "take", "consume", "stats", "clear", "compact", "flush", "groups", "removeGroup", "Symbol(Symbol.iterator)"]);
});

const permissionsTest = "a file that one may not read or write";
const needsRoot = process.getuid?.() === 0 ? undefined : "needs root, to become somebody else";

test(permissionsTest, skipFor(permissionsTest, needsRoot), () => {
  fs.chmodSync(files.folder, 0o755);
  const folder = files.next("locked");
  fs.mkdirSync(folder, { mode: 0o755 });
  const make = (name: string, mode: number): string => {
    const path = `${folder}/${name}`;
    Counters.open(path, { count: 1 }).close();
    fs.chmodSync(path, mode);
    return path;
  };
  const secret = make("secret", 0o600);
  const readable = make("readable", 0o644);
  const before = [secret, readable].map(fingerprint);
  const open = "open '.*'$";
  const cases: readonly (readonly [what: string, mode: string, path: string, code: string])[] = [
    ["mapping", "r", secret, "EACCES"],
    ["mapping", "rw", secret, "EACCES"],
    ["counters", "r", secret, "EACCES"],
    ["counters", "rw", secret, "EACCES"],
    ["mapping", "r", readable, "opened"],
    ["counters", "r", readable, "opened"],
    ["mapping", "rw", readable, "EACCES"], // a read-only file opened for writing
    ["counters", "rw", readable, "EACCES"],
    ["create", "rw", `${folder}/new`, "EACCES"],
    ["createCounters", "rw", `${folder}/new`, "EACCES"],
  ];
  const [executable, args] = commandLine(currentRuntime, `${root}tests/support/as_nobody.ts`, ...cases.flatMap(([what, mode, path]) => [what, mode, path]));
  const { stdout, stderr } = spawnSync(executable, args, { encoding: "utf8", cwd: root });
  assert.match(stdout, /^\[/, stderr);
  const attempts = JSON.parse(stdout) as { code: string; message: string; mapError: boolean }[];
  cases.forEach(([what, mode, path, code], i) => {
    const found = attempts[i];
    assert.equal(found?.code, code, `${what} ${mode} ${path}: ${found?.message}`);
    if (code === "opened") return;
    assert.match(found.message, new RegExp(`^EACCES: permission denied, ${open}`));
    assert.equal(found.mapError, true);
  });
  assert.deepEqual([secret, readable].map(fingerprint), before);
  assert.deepEqual(fs.readdirSync(folder).sort(), ["readable", "secret"]);
});


const noMount = mountRefusal(files);

const fullTest = "a full file system is ENOSPC, and files are as they were";
test(fullTest, skipFor(fullTest, noMount), () => {
  withTmpfs(files, "size=2m", (folder) => {
    const full = { ...mapError("ENOSPC", /no space left on device, fallocate/), syscall: "fallocate" };
    assertThrows(() => Mapping.open(`${folder}/new`, { create: true, byteLength: 8 << 20 }), full);
    assertThrows(() => Counters.open(`${folder}/new`, { count: 8192 }), full);
    assert.deepEqual(fs.readdirSync(folder), [], "nothing is left of a file that did not fit");

    const path = `${folder}/mapping`;
    fs.writeFileSync(path, "content that stays");
    untouched(path, () => assertThrows(() => Mapping.open(path, { byteLength: 8 << 20 }), full));
    using mapping = Mapping.open(path, { byteLength: 1 << 20 });
    mapping.pwrite((1 << 20) - 4, "last");

    const count = `${folder}/counters`;
    {
      using opened = Counters.open(count, { names: ["a"], count: 2 });
      opened.add("a", 5);
      untouched(count, () => assertThrows(() => Counters.open(count, { count: 8192 }), full));
      assert.equal(opened.add("a"), 5);
    }
    untouched(path, () => assertThrows(() => Queue.open(`${folder}/queue`, { capacityBytes: 8 << 20 }), mapError("ENOSPC")));

    // Every byte that was promised is there, also once the rest is full.
    const rest = fs.openSync(`${folder}/rest`, "w");
    assert.throws(() => {
      for (;;) fs.writeSync(rest, new Uint8Array(1 << 16));
    }, { code: "ENOSPC" });
    fs.closeSync(rest);
    mapping.pwrite(0, new Uint8Array(1 << 20).fill(1));
    assert.equal(mapping.pread((1 << 20) - 1, 1)[0], 1);
    assertThrows(() => Counters.open(`${folder}/other`, { count: 1 }), mapError("ENOSPC"));
    assert.deepEqual(fs.readdirSync(folder).sort(), ["counters", "mapping", "rest"]);
  });
});

const readOnlyTest = "a read-only file system";
test(readOnlyTest, skipFor(readOnlyTest, noMount), () => {
  withTmpfs(files, "size=2m", (folder) => {
    const path = `${folder}/counters`;
    Counters.open(path, { names: ["a"] }).close();
    const remounted = spawnSync("mount", ["-o", "remount,ro", folder], { encoding: "utf8" });
    assert.equal(remounted.status, 0, remounted.stderr);
    untouched(path, () => {
      for (const [name, open] of openers) {
        if (name.endsWith(" r")) open(path).close();
        else assertThrows(() => open(path), { ...mapError("EROFS"), path }, name);
      }
      assertThrows(() => Mapping.open(`${folder}/new`, { create: true, byteLength: 1 }), mapError("EROFS"));
      assertThrows(() => Counters.open(`${folder}/new`, { count: 1 }), mapError("EROFS"));
    });
  });
});

test("a library that can't be loaded: ERR_LIBRARY, with every path tried, at first use and not before", () => {
  const script = files.file(
    `import { Mapping } from ${JSON.stringify(`${root}mod.ts`)};\n` +
      "console.log('imported');\n" +
      "for (let i = 0; i < 2; i++) { try { Mapping.anonymous(8); } catch (e) { console.log(JSON.stringify([e.name, e.code, e.message])); } }\n",
    "no-library.ts",
  );
  const missing = files.next("libmissing.so");
  const foreign = files.file("not a library", "libforeign.so");
  for (const library of [missing, foreign]) {
    const [executable, args] = commandLine(currentRuntime, script);
    const { stdout, stderr } = spawnSync(executable, args, { encoding: "utf8", cwd: root, env: { ...process.env, HOLDFAST_LIBRARY: library } });
    const [imported, first, second] = stdout.trim().split("\n");
    assert.equal(imported, "imported", stderr);
    assert.equal(first, second);
    const [name, code, message] = JSON.parse(first as string) as [string, string, string];
    assert.equal(name, "MapError");
    assert.equal(code, "ERR_LIBRARY");
    assert.ok(message.includes(library) && message.includes(currentRuntime) && message.includes("--allow-ffi"), message);
  }
});
