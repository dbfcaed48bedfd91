/** The options of Mapping.open and Mapping.anonymous, one by one. create, exclusive, truncate, byteLength: mapping.test.ts. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { MapError, Mapping, type MappingOptions, type MemoryOptions } from "../../mod.ts";
import { assertThrows, mapError, rangeError, typeError } from "../support/errors.ts";
import { currentRuntime, root } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { fingerprint, untouched } from "../support/untouched.ts";

const files = temporaryFiles();
const processes = children();
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const open = (path: string, options: unknown) => (): Mapping => Mapping.open(path, options as MappingOptions);
const anonymous = (options: unknown) => (): Mapping => Mapping.anonymous(10_000, options as MemoryOptions);

/** Runs a program in the runtime of the test: the body of a module that has Mapping, and its argument as `path`. */
function program(body: string, path: string): ReturnType<typeof processes.script> {
  const script = `import { Mapping } from ${JSON.stringify(`${root}mod.ts`)};\nconst path = process.argv[2] as string;\n${body}\n`;
  return processes.script(currentRuntime, files.file(script, "program.ts"), path);
}

/** Where a mapping lies, and what else `debug` told. */
function watched(make: (debug: (step: string, details: Readonly<Record<string, unknown>>) => void) => Mapping): { mapping: Mapping; address: number } {
  let address = 0;
  const mapping = make((step, details) => {
    if (step === "map") address = details.address as number;
  });
  return { mapping, address };
}

/** The field of /proc/self/smaps of the mapping at an address. */
function smaps(address: number, field: string): string {
  const lines = fs.readFileSync("/proc/self/smaps", "utf8").split("\n");
  const at = lines.findIndex((line) => {
    const [, start, end] = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line) ?? [];
    return start !== undefined && parseInt(start, 16) <= address && address < parseInt(end as string, 16);
  });
  assert.ok(at >= 0, "it is mapped");
  return lines.slice(at).find((line) => line.startsWith(`${field}:`))?.slice(field.length + 1).trim() as string;
}

test("options of the wrong type or out of range, in files and in memory", () => {
  const path = files.file("content");
  const wrong: Record<string, readonly (readonly [value: unknown, expected: ReturnType<typeof typeError>])[]> = {};
  const flags = ["fixedSize", "populate", "nonBlocking", "reserve", "lockPages", "fixed", "noCache", "uninitialized"];
  const fileFlags = ["autoUnlink", "sync", "guard"];
  for (const name of [...flags, ...fileFlags]) {
    wrong[name] = [0, 1, "true", null, {}, 1n].map((value) => [value, typeError(new RegExp(`"${name}"`))]);
  }
  wrong.sharing = [[1, typeError()], [null, typeError()], ["Shared", rangeError(/"shared" or "private" or "shared-validate"/)], ["", rangeError()]];
  wrong.growthLimit = [["1", typeError()], [1n, typeError()], [0, rangeError()], [-1, rangeError()], [0.5, rangeError()], [NaN, rangeError()], [2 ** 53, rangeError()]];
  wrong.hugePages = [[2, typeError()], [null, typeError()], ["4M", rangeError(/"2M" or "1G"/)], ["2m", rangeError()]];
  wrong.address = [["0x1000", typeError()], [4096n, typeError()], [0, rangeError()], [-4096, rangeError()], [1, rangeError(/multiple of the page size/)], [2 ** 53, rangeError()]];
  wrong.debug = [["yes", typeError(/a boolean or a function/)], [1, typeError()], [console, typeError()]];
  wrong.offset = [["1", typeError()], [-1, rangeError()], [0.5, rangeError()], [2 ** 53, rangeError()], [7, rangeError(/lies behind the 7 bytes/)], [2 ** 52, rangeError()]];
  untouched(path, () => {
    for (const [name, cases] of Object.entries(wrong)) {
      for (const [value, expected] of cases) {
        assertThrows(open(path, { [name]: value }), expected, `open with ${name}: ${String(value)}`);
        if (fileFlags.includes(name) || name === "offset") assertThrows(anonymous({ [name]: value }), typeError(new RegExp(`no option "${name}"`)));
        else assertThrows(anonymous({ [name]: value }), expected, `anonymous with ${name}: ${String(value)}`);
      }
    }
    for (const name of ["mode", "create", "exclusive", "truncate", "byteLength", "permissions", "path", "toString"]) {
      assertThrows(anonymous({ [name]: true }), typeError(new RegExp(`no option "${name}"`)));
    }
    for (const options of [null, 1, "private", [], true]) assertThrows(anonymous(options), typeError(/"options" must be an object/));
    assertThrows(open(path, { offset: 2 ** 52, byteLength: Number.MAX_SAFE_INTEGER }), rangeError());
  });
});

test("options that contradict each other", () => {
  const path = files.file("content");
  untouched(path, () => {
    for (const make of [(options: object) => open(path, options), anonymous]) {
      assertThrows(make({ fixed: true }), typeError(/"fixed" needs "address"/));
      assertThrows(make({ nonBlocking: true }), typeError(/"nonBlocking" needs "populate"/));
    }
    assertThrows(open(path, { sync: true, sharing: "private" }), typeError(/"sync"/));
    assertThrows(open(path, { mode: "r", create: true }), typeError());
    assertThrows(open(path, { exclusive: true }), typeError());
  });
});

test("what the platform lacks is EOPNOTSUPP with the option's name, and nothing is left of it", () => {
  const path = files.file("content");
  for (const name of ["noCache", "uninitialized", "sync"]) {
    const lacking = { ...mapError("EOPNOTSUPP", new RegExp(`"${name}"`)), syscall: "mmap" };
    for (const more of [{}, { mode: "r" }, { populate: true }]) {
      untouched(path, () => assertThrows(open(path, { ...more, [name]: true }), { ...lacking, path }, `${name} and ${JSON.stringify(more)}`));
    }
    const missing = files.next();
    assertThrows(open(missing, { create: true, byteLength: 10, [name]: true }), { ...lacking, path: missing });
    assert.equal(fs.existsSync(missing), false);
    if (name !== "sync") assertThrows(anonymous({ [name]: true }), lacking);
    Mapping.open(path, { [name]: false }).close();
  }
  // All that could be meant are named.
  assertThrows(open(path, { noCache: true, uninitialized: true }), mapError("EOPNOTSUPP", /"noCache", "uninitialized"/));
});

test("huge pages: memory of them, or an error that names the option", () => {
  for (const hugePages of [true, "2M", "1G"] as const) {
    let mapping: Mapping | undefined;
    try {
      mapping = Mapping.anonymous(5000, { hugePages });
    } catch (error) {
      assert.ok(error instanceof MapError && ["ENOMEM", "EOPNOTSUPP"].includes(error.code), String(error));
      assert.match(error.message, /"hugePages"/);
      continue;
    }
    using held = mapping;
    assert.equal(held.byteLength, 5000);
    held.pwrite(4999, "x");
    held.resize(3 << 20);
    assert.equal(held.pread(4999, 1)[0], 0x78);
  }
  const path = files.file(new Uint8Array(10_000));
  untouched(path, () => assertThrows(open(path, { hugePages: true }), { ...mapError("EOPNOTSUPP", /"hugePages"/), path }));
  Mapping.open(path, { hugePages: false }).close();
});

test("fixed maps there and nowhere else, and never over what is mapped", () => {
  const page = 4096;
  const { mapping: taken, address } = watched((debug) => Mapping.anonymous(4 * page, { debug }));
  taken.pwrite(0, "taken");
  const path = files.file("a file");
  for (const make of [(options: object) => open(path, options), anonymous]) {
    for (const at of [address, address + page, address + 3 * page]) {
      assertThrows(make({ address: at, fixed: true }), mapError("EEXIST", /"fixed"/), String(at - address));
    }
    // A wish that can't be granted is none.
    make({ address })().close();
  }
  assert.equal(text(taken.pread(0, 5)), "taken");
  taken.close();
  {
    const { mapping, address: got } = watched((debug) => Mapping.open(path, { address, fixed: true, debug }));
    assert.equal(got, address);
    assert.equal(text(mapping.pread(0, 6)), "a file");
    // It moves when it is resized: views hold the place.
    assert.equal(mapping.resize(3 * page), 3 * page);
    assert.equal(text(mapping.pread(0, 6)), "a file");
    mapping.close();
  }
  const { mapping, address: got } = watched((debug) => Mapping.open(path, { address, fixed: true, offset: 5, debug }));
  assert.equal(got - (got % page), address);
  assert.equal(text(mapping.pread(0, 1)), "e");
  mapping.close();
});

test("populate brings all pages in, nonBlocking only those that are at hand", () => {
  const size = 1 << 20;
  {
    using lazy = Mapping.anonymous(size);
    using eager = Mapping.anonymous(size, { populate: true });
    assert.equal(lazy.resident(), 0);
    assert.equal(eager.resident(), size);
  }
  const path = files.file(new Uint8Array(size));
  for (const options of [{ populate: true }, { populate: true, nonBlocking: true }, { populate: true, mode: "r" }] as const) {
    const { mapping, address } = watched((debug) => Mapping.open(path, { ...options, debug }));
    if (!("nonBlocking" in options)) assert.equal(smaps(address, "Rss"), "1024 kB");
    assert.ok(mapping.pread(0, size).every((byte) => byte === 0));
    mapping.close();
  }
});

test("lockPages keeps the pages in memory", () => {
  const size = 1 << 20;
  const path = files.file(new Uint8Array(size));
  for (const kind of ["file", "memory"]) {
    const { mapping, address } = watched((debug) =>
      kind === "file" ? Mapping.open(path, { lockPages: true, debug }) : Mapping.anonymous(size, { lockPages: true, debug })
    );
    assert.equal(smaps(address, "Locked"), "1024 kB");
    assert.equal(mapping.resident(), size);
    mapping.resize(size / 2);
    assert.equal(mapping.resident(), size / 2);
    mapping.close();
  }
});

const limitTest = "lockPages beyond the limit is an error that names it";
test(limitTest, skipFor(limitTest, process.getuid?.() === 0 ? undefined : "needs root, to become somebody without limits of its own"), async () => {
  const body = `
    Mapping.anonymous(8).close(); // the library is loaded while its files can be read for sure
    process.setgid(65534);
    process.setuid(65534);
    for (const make of [() => Mapping.anonymous(1 << 30, { lockPages: true })]) {
      try { make().close(); console.log("locked"); } catch (e) { console.log(e.code, e.message); }
    }`;
  const { stdout, stderr } = await program(body, "-");
  assert.match(stdout, /^(ENOMEM|EPERM|EAGAIN) .*"lockPages"|^locked/, stderr);
});

test("reserve: false sets no swap space aside", () => {
  const { mapping, address } = watched((debug) => Mapping.anonymous(1 << 20, { reserve: false, sharing: "private", debug }));
  assert.ok(smaps(address, "VmFlags").split(" ").includes("nr"));
  mapping.pwrite((1 << 20) - 1, "x");
  mapping.close();
  const { mapping: other, address: at } = watched((debug) => Mapping.anonymous(1 << 20, { reserve: true, sharing: "private", debug }));
  assert.equal(smaps(at, "VmFlags").split(" ").includes("nr"), false);
  other.close();
});

test("what is written privately stays in this handle", async () => {
  const path = files.file("what is in the file".padEnd(10_000, "."));
  const before = fingerprint(path);
  using mapping = Mapping.open(path, { sharing: "private" });
  using other = Mapping.open(path, { sharing: "private" });
  using shared = Mapping.open(path);
  assert.equal(mapping.writable, true);
  mapping.pwrite(0, "WHAT");
  mapping.atomics.add(8, 1n);
  mapping.view()[9999] = 1;
  mapping.dataView().setUint8(5000, 1);
  mapping.seek(100);
  mapping.write("written");
  mapping.flush();
  mapping.flush({ offset: 0, length: 10 });
  await mapping.flushAsync();
  mapping.advise("willneed");
  assert.equal(text(mapping.pread(0, 7)), "WHAT is");
  assert.equal(mapping.view(9999)[0], 1);
  assert.equal(text(other.pread(0, 4)), "what");
  assert.equal(text(shared.pread(100, 7)), ".......");
  mapping.close();
  assert.equal(fingerprint(path), before);
  using memory = Mapping.anonymous(100, { sharing: "private" });
  memory.pwrite(0, "x");
  assert.equal(memory.resize(200), 200);
  assert.equal(text(memory.pread(0, 1)), "x");
});

test("a private mapping of a file that one may only read", async () => {
  const path = files.file("for all to read");
  fs.chmodSync(path, 0o444);
  fs.chmodSync(files.folder, 0o755);
  const body = `
    Mapping.anonymous(8).close();
    if (process.getuid() === 0) { process.setgid(65534); process.setuid(65534); }
    const mapping = Mapping.open(path, { sharing: "private" });
    mapping.pwrite(0, "FOR");
    console.log(new TextDecoder().decode(mapping.pread(0, 7)));`;
  const { stdout, stderr } = await program(body, path);
  assert.equal(stdout, "FOR all\n", stderr);
  assert.equal(fs.readFileSync(path, "utf8"), "for all to read");
});

test("a private mapping can be opened with guard", () => {
  const path = files.file("content");
  untouched(path, () => {
    using mapping = Mapping.open(path, { sharing: "private", guard: true });
    mapping.pwrite(0, "CONTENT");
    assert.equal(text(mapping.pread(0, 7)), "CONTENT");
  });
});

test("shared-validate is shared", () => {
  const path = files.file("content");
  using mapping = Mapping.open(path, { sharing: "shared-validate" });
  using other = Mapping.open(path);
  mapping.pwrite(0, "CON");
  assert.equal(text(other.pread(0, 7)), "CONtent");
  mapping.resize(5000);
  // Linux knows it for files only.
  assertThrows(anonymous({ sharing: "shared-validate" }), mapError("EOPNOTSUPP", /"sharing"/));
});

test("permissions: the owner only by default, whatever the umask", () => {
  const umask = process.umask(0);
  try {
    for (const [permissions, expected] of [[undefined, 0o600], [0o640, 0o640], [0o666, 0o666], [0o400, 0o400], [0, 0]] as const) {
      const path = files.next();
      Mapping.open(path, { create: true, byteLength: 1, ...(permissions === undefined ? {} : { permissions }) }).close();
      assert.equal(fs.statSync(path).mode & 0o7777, expected);
    }
  } finally {
    process.umask(umask);
  }
});

test("autoUnlink removes the file on close, whichever way", () => {
  for (const end of [(mapping: Mapping) => mapping.close(), (mapping: Mapping) => mapping.unsafeClose(), (mapping: Mapping) => mapping[Symbol.dispose]()]) {
    for (const options of [{ create: true, byteLength: 10 }, { mode: "r" }] as const) {
      const path = "mode" in options ? files.file("content") : files.next();
      const mapping = Mapping.open(path, { ...options, autoUnlink: true });
      const view = mapping.view(0, 1);
      assert.ok(fs.existsSync(path));
      end(mapping);
      assert.equal(fs.existsSync(path), false);
      end(mapping);
      if (view.byteLength > 0) assert.equal(view[0], "mode" in options ? 0x63 : 0);
    }
  }
  // A file that is gone already is no error, nor is a folder in its place.
  for (const put of [() => {}, (path: string) => fs.mkdirSync(path), (path: string) => fs.symlinkSync("/nowhere", path)]) {
    const path = files.file("content");
    const mapping = Mapping.open(path, { autoUnlink: true });
    fs.rmSync(path);
    put(path);
    mapping.close();
  }
});

test("autoUnlink leaves another file of that name alone", () => {
  const path = files.file("first");
  const mapping = Mapping.open(path, { autoUnlink: true });
  fs.renameSync(path, `${path}.moved`);
  fs.writeFileSync(path, "second");
  mapping.close();
  assert.equal(fs.readFileSync(path, "utf8"), "second");
  assert.equal(fs.readFileSync(`${path}.moved`, "utf8"), "first");
});

test("autoUnlink does not touch what could not be opened", () => {
  const path = files.file("content");
  untouched(path, () => assertThrows(open(path, { autoUnlink: true, sync: true }), mapError("EOPNOTSUPP")));
  untouched(path, () => assertThrows(open(path, { autoUnlink: true, offset: 100 }), rangeError()));
});

test("autoUnlink removes the file when the process ends without closing", async () => {
  // Deno has neither "exit" nor "unload" after an exception that nobody caught.
  const thrown = currentRuntime === "deno" ? [] : ["throw new Error('on purpose');"];
  for (const ending of ["", "process.exit(0);", "setTimeout(() => process.exit(3), 10);", ...thrown]) {
    const path = files.next();
    const { stdout, stderr } = await program(
      `globalThis.kept = Mapping.open(path, { create: true, byteLength: 10, autoUnlink: true }); console.log("open");\n${ending}`,
      path,
    );
    assert.equal(stdout, "open\n", stderr);
    assert.equal(fs.existsSync(path), false, `at the end by ${ending || "itself"}`);
  }
});

test("offset can be any byte", () => {
  const content = Uint8Array.from({ length: 20_000 }, (_, i) => i % 251);
  for (const offset of [0, 1, 7, 4095, 4096, 4097, 8192, 12_345, 19_999]) {
    const path = files.file(content);
    const length = 20_000 - offset;
    {
      using reader = Mapping.open(path, { mode: "r", offset });
      assert.equal(reader.byteLength, length);
      assert.deepEqual(reader.pread(0, length), content.slice(offset));
      assert.deepEqual(reader.view().slice(), content.slice(offset));
      assert.equal(reader.dataView().getUint8(length - 1), content[19_999]);
      assert.throws(() => reader.pread(0, length + 1), RangeError);
      assert.throws(() => reader.view(length, 1), RangeError);
    }
    using mapping = Mapping.open(path, { offset });
    mapping.pwrite(0, new Uint8Array([255]));
    mapping.view()[length - 1] = 254;
    mapping.flush();
    mapping.flush({ offset: length - 1, length: 1 });
    mapping.advise("willneed", { offset: length - 1 });
    assert.ok(mapping.resident() >= 4096);
    const expected = content.slice();
    expected[offset] = 255;
    expected[19_999] = 254;
    assert.deepEqual(new Uint8Array(fs.readFileSync(path)), expected);
    mapping.resize(length + 5000);
    assert.equal(fs.statSync(path).size, 25_000);
    assert.equal(mapping.pread(length - 1, 2)[0], 254);
    mapping.resize(1);
    assert.equal(fs.statSync(path).size, offset + 1);
  }
});

test("atomics with an offset: cells lie at multiples of 8 of the file, or it is a RangeError", () => {
  const path = files.file(new Uint8Array(20_000));
  using whole = Mapping.open(path);
  for (const offset of [8, 4096, 4104]) {
    using mapping = Mapping.open(path, { offset });
    mapping.atomics.store(16, 77);
    assert.equal(whole.atomics.load(offset + 16), 77);
  }
  for (const offset of [1, 4, 4095, 4097]) {
    using mapping = Mapping.open(path, { offset });
    for (const call of [() => mapping.atomics.load(0), () => mapping.atomics.add(8, 1), () => mapping.atomics.loadBigInt(0), () => mapping.atomics.store(8, 1n)]) {
      assertThrows(call, rangeError(), `offset ${offset}: ${String(call)}`);
    }
  }
});

test("offset and byteLength make the file as long as both", () => {
  const path = files.next();
  using mapping = Mapping.open(path, { create: true, offset: 5000, byteLength: 100 });
  assert.equal(mapping.byteLength, 100);
  assert.equal(fs.statSync(path).size, 5100);
  using second = Mapping.open(path, { truncate: true, offset: 10, byteLength: 1 });
  assert.equal(second.byteLength, 1);
  assert.equal(fs.statSync(path).size, 11);
});

test("debug tells a listener each step, and true the standard error stream", async () => {
  const path = files.file(new Uint8Array(100));
  const steps: [string, Readonly<Record<string, unknown>>][] = [];
  const mapping = Mapping.open(path, { debug: (step, details) => steps.push([step, details]) });
  mapping.resize(200);
  mapping.close();
  assert.deepEqual(steps.map(([step]) => step), ["map", "resize", "map", "close"]);
  assert.ok(steps.every(([, details]) => details.path === path));
  assert.equal(steps[1]?.[1].to, 200);
  const { stdout, stderr, code } = await program("Mapping.open(path, { debug: true }).close(); Mapping.open(path, { debug: false }).close();", path);
  assert.deepEqual([stdout, code], ["", 0], stderr);
  assert.deepEqual(stderr.match(/holdfast: \w+/g), ["holdfast: map", "holdfast: close"]);
});
