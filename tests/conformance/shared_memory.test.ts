/** SharedMemory as api.md describes it, in one process. Its bytes: tests/format/; other processes: tests/interop/ and tests/crash/. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { SharedMemory, type SharedMemoryEntry } from "../../mod.ts";
import { assertThrows, mapError, rangeError, typeError } from "../support/errors.ts";
import { sharedNames } from "../support/shared_memory_names.ts";
import { pathOf } from "../support/shared_memory_raw.ts";

const names = sharedNames();
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const data = "some testing data";
const find = (name: string): SharedMemoryEntry | undefined => SharedMemory.list().find((entry) => entry.name === name);

test("a new object is empty, has its memory and a name of its own", () => {
  using one = SharedMemory.create();
  using two = SharedMemory.create({ capacity: 100_000 });
  assert.deepEqual([one.size, one.capacity, one.owner, one.closed], [0, 4096, true, false]);
  assert.deepEqual([two.size, two.capacity], [0, 100_000]);
  assert.notEqual(one.name, two.name);
  for (const { name } of [one, two]) {
    assert.match(name, /^hf-[0-9a-f]+$/);
    assert.ok(name.length <= 31);
    assert.equal(fs.statSync(pathOf(name)).mode & 0o777, 0o600);
  }
  assert.ok(fs.statSync(pathOf(two.name)).blocks * 512 >= 100_000, "reserved");
  assert.deepEqual(one.read(), new Uint8Array(0));
  assert.deepEqual(one.view(), new Uint8Array(0));
});

test("a given name, with and without the slash of POSIX; a second of that name is EEXIST", () => {
  const name = names.next();
  using one = SharedMemory.create({ name: `/${name}` });
  assert.equal(one.name, name);
  assertThrows(() => SharedMemory.create({ name }), { ...mapError("EEXIST", /reap/), path: pathOf(name) });
  assertThrows(() => SharedMemory.from("x", { name: `/${name}` }), mapError("EEXIST"));
  one.write("kept");
  for (const other of [name, `/${name}`]) {
    using same = SharedMemory.open(other);
    assert.equal(same.name, name);
    assert.equal(same.owner, false);
    assert.equal(text(same.read()), "kept");
  }
  assert.equal(fs.readdirSync("/dev/shm").filter((file) => file.includes(name)).length, 1);
  using longest = SharedMemory.create({ name: names.prefix.padEnd(31, "x") });
  assert.equal(longest.name.length, 31);
});

test("from: the content, and the greater of capacity and size", () => {
  using one = SharedMemory.from("grüße 🚀");
  assert.deepEqual([text(one.read()), one.size, one.capacity], ["grüße 🚀", 12, 12]);
  using two = SharedMemory.from(new TextEncoder().encode(data).subarray(5), { capacity: 500 });
  assert.deepEqual([text(two.read()), two.size, two.capacity], ["testing data", 12, 500]);
  using three = SharedMemory.from(data, { capacity: 6 });
  assert.deepEqual([text(three.read()), three.capacity], [data, 17]);
  using none = SharedMemory.from("");
  assert.deepEqual([none.size, none.capacity], [0, 0]);
  none.write("now");
  assert.deepEqual([text(none.read()), none.capacity], ["now", 3]);
});

test("write replaces the content, grows the capacity to fit and keeps a larger one", () => {
  using one = SharedMemory.create({ capacity: 27 });
  one.write(data);
  assert.deepEqual([text(one.read()), one.size, one.capacity], [data, 17, 27]);
  one.write("short");
  assert.deepEqual([text(one.read()), one.size, one.capacity], ["short", 5, 27]);
  const large = Uint8Array.from({ length: 1_000_003 }, (_, i) => (i * 7) >> 3);
  one.write(large);
  assert.deepEqual([one.size, one.capacity], [1_000_003, 1_000_003]);
  assert.ok(Buffer.from(one.read()).equals(large));
  one.write("");
  assert.deepEqual([one.size, one.capacity, one.read().byteLength], [0, 1_000_003, 0]);
});

test("read gives exactly the bytes asked for, and never more than there are", () => {
  using one = SharedMemory.from(data, { capacity: 4096 });
  assert.equal(text(one.read(6)), "some t");
  assert.equal(one.read(0).byteLength, 0);
  assert.equal(text(one.read(17)), data);
  assertThrows(() => one.read(18), rangeError(/17 bytes/));
  for (const bad of [-1, 0.5, NaN, Infinity, 2 ** 53]) assertThrows(() => one.read(bad), rangeError(/"length"/), String(bad));
  for (const bad of ["1", null, 1n]) assertThrows(() => one.read(bad as unknown as number), typeError(), String(bad));
  const copy = one.read();
  copy.fill(0);
  assert.equal(text(one.read()), data);
});

test("no handle has a stale size or capacity", () => {
  using one = SharedMemory.create({ capacity: 10 });
  using two = SharedMemory.open(one.name);
  using reader = SharedMemory.open(one.name, { mode: "r" });
  const large = "x".repeat(50_000);
  for (const [writer, content] of [[one, "a"], [two, large], [one, "bc"], [one, `${large}y`], [two, ""], [two, "end"]] as const) {
    writer.write(content);
    for (const handle of [one, two, reader]) {
      assert.equal(handle.size, content.length);
      assert.equal(text(handle.read()), content);
      assert.equal(handle.capacity, writer.capacity);
      assert.equal(text(handle.view()), content);
    }
  }
});

test("append: left and right one behind the other, the capacity just that", () => {
  using left = SharedMemory.create();
  left.write(data);
  using right = SharedMemory.from(" and more", { capacity: 9000 });
  left.append(right);
  assert.deepEqual([text(left.read()), left.size, left.capacity], [`${data} and more`, 26, 26]);
  assert.deepEqual([text(right.read()), right.capacity], [" and more", 9000]);
  left.append(left);
  assert.equal(text(left.read()), `${data} and more${data} and more`);
  using other = SharedMemory.open(left.name);
  left.append(other);
  assert.equal(text(left.read()), `${data} and more`.repeat(4));
  using empty = SharedMemory.create();
  left.append(empty);
  empty.append(left);
  assert.equal(text(empty.read()), text(left.read()));
  for (let i = 0; i < 10; i++) left.append(other);
  assert.equal(left.size, 104 * 1024);
  assert.equal(text(other.read()), `${data} and more`.repeat(4096));
  assertThrows(() => left.append("x" as unknown as SharedMemory), typeError(/SharedMemory/));
});

test("splitAt: the first bytes here, the rest in a new object of the same permissions", () => {
  using one = SharedMemory.from(data, { capacity: 100, permissions: 0o640 });
  using rest = one.splitAt(6);
  assert.deepEqual([text(one.read()), one.size, one.capacity], ["some t", 6, 100]);
  assert.deepEqual([text(rest.read()), rest.size, rest.capacity, rest.owner], ["esting data", 11, 11, true]);
  assert.equal(fs.statSync(pathOf(rest.name)).mode & 0o777, 0o640);
  using all = rest.splitAt(0);
  assert.deepEqual([rest.size, text(all.read())], [0, "esting data"]);
  using none = all.splitAt(11);
  assert.deepEqual([none.size, none.capacity, all.size], [0, 0, 11]);
  assertThrows(() => all.splitAt(12), rangeError(/11 bytes/));
  for (const bad of [-1, 1.5, NaN]) assertThrows(() => all.splitAt(bad), rangeError());
  assertThrows(() => all.splitAt("1" as unknown as number), typeError());
  const large = Uint8Array.from({ length: 3_000_000 }, (_, i) => (i * 13) >> 4);
  all.write(large);
  using tail = all.splitAt(1_234_567);
  assert.ok(Buffer.from(tail.read()).equals(large.subarray(1_234_567)));
  assert.ok(Buffer.from(all.read()).equals(large.subarray(0, 1_234_567)));
});

test("trim: drops bytes at the front and makes the capacity the size", () => {
  using one = SharedMemory.from(data, { capacity: 500 });
  one.trim();
  assert.deepEqual([text(one.read()), one.size, one.capacity], [data, 17, 17]);
  one.setCapacity(500);
  one.trim(13);
  assert.deepEqual([text(one.read()), one.size, one.capacity], ["data", 4, 4]);
  assertThrows(() => one.trim(5), rangeError(/4 bytes/));
  assertThrows(() => one.trim(-1), rangeError());
  one.trim(4);
  assert.deepEqual([one.size, one.capacity], [0, 0]);
  for (const drop of [1, 7, 4096, 1_500_000, 2_999_999]) {
    const large = Uint8Array.from({ length: 3_000_000 }, (_, i) => (i * 13 + drop) >> 4);
    one.write(large);
    one.trim(drop);
    assert.ok(Buffer.from(one.read()).equals(large.subarray(drop)), String(drop));
    assert.equal(one.capacity, large.byteLength - drop);
  }
});

test("setCapacity: a smaller one cuts the size and gives the memory back, the file stays as long", () => {
  using one = SharedMemory.from("x".repeat(1_000_000));
  using other = SharedMemory.open(one.name);
  const { size: length, blocks } = fs.statSync(pathOf(one.name));
  assert.ok(blocks * 512 >= 1_000_000);
  const view = other.view();
  one.setCapacity(6);
  assert.deepEqual([one.size, one.capacity, other.size, other.capacity], [6, 6, 6, 6]);
  const after = fs.statSync(pathOf(one.name));
  assert.equal(after.size, length, "never cut: others have it mapped");
  assert.ok(after.blocks * 512 < 20_000, `${after.blocks * 512} bytes are kept`);
  assert.equal(view[500_000], 0, "a view of before is readable");
  one.setCapacity(500_000);
  assert.ok(fs.statSync(pathOf(one.name)).blocks * 512 >= 500_000, "reserved again");
  assert.deepEqual([text(one.read()), one.capacity], ["xxxxxx", 500_000]);
  other.write("y".repeat(2_000_000));
  assert.deepEqual([one.size, one.capacity, one.read()[1_999_999]], [2_000_000, 2_000_000, 121]);
  one.setCapacity(2_000_000);
  assert.equal(one.size, 2_000_000);
  for (const bad of [-1, 0.5, NaN, 2 ** 46 + 1]) assertThrows(() => one.setCapacity(bad), rangeError(/"bytes"/), String(bad));
  assertThrows(() => one.setCapacity("1" as unknown as number), typeError());
  assert.equal(one.capacity, 2_000_000);
});

test("view is the content itself, and outlives the handle", () => {
  const one = SharedMemory.from(data);
  const view = one.view();
  using other = SharedMemory.open(one.name);
  other.view()[0] = 83;
  assert.equal(text(view), "Some testing data");
  view[1] = 79;
  assert.equal(text(other.read()), "SOme testing data");
  other.write("x".repeat(10_000)); // another mapping from now on
  assert.equal(text(view), "x".repeat(17), "the old view sees the same memory");
  one.close();
  assert.equal(text(view), "x".repeat(17));
});

test("mode r reads and changes nothing", () => {
  using one = SharedMemory.from(data);
  using reader = SharedMemory.open(one.name, { mode: "r" });
  const refused: (() => unknown)[] = [
    () => reader.write("x"),
    () => reader.write(""),
    () => reader.append(one),
    () => reader.splitAt(1),
    () => reader.trim(),
    () => reader.setCapacity(1),
    () => reader.adopt(),
    () => reader.unlink(),
  ];
  for (const call of refused) assertThrows(call, { ...mapError("ERR_READ_ONLY"), path: pathOf(one.name) }, String(call));
  assert.equal(text(reader.read()), data);
  const view = reader.view();
  view[0] = 83; // a copy of the page
  assert.equal(text(one.read()), data);
  assert.equal(text(reader.read()), data);
  one.write("other");
  assert.equal(text(reader.read()), "other");
  one.append(reader);
  assert.equal(text(reader.read()), "otherother");
});

test("the owner removes the object when it is closed; others keep its memory", () => {
  const one = SharedMemory.from(data);
  const { name } = one;
  using other = SharedMemory.open(name);
  one.close();
  assert.equal(fs.existsSync(pathOf(name)), false);
  assertThrows(() => SharedMemory.open(name), { ...mapError("ENOENT"), path: pathOf(name) });
  assert.equal(text(other.read()), data);
  other.write("goes on".repeat(1000));
  assert.equal(other.size, 7000);
  assertThrows(() => other.adopt(), mapError("ENOENT", /removed/));
  assertThrows(() => other.retain(), mapError("ENOENT"));
  using same = SharedMemory.create({ name });
  other.close();
  assert.equal(same.size, 0);
  assert.ok(fs.existsSync(pathOf(name)), "the name is another object's by now");
});

test("closing another handle than the owner's removes nothing", () => {
  using one = SharedMemory.from(data);
  SharedMemory.open(one.name).close();
  SharedMemory.open(one.name, { mode: "r" }).close();
  assert.ok(fs.existsSync(pathOf(one.name)));
});

test("unlinkOnClose false: an object that stays until it is removed, or adopted", () => {
  const name = names.next();
  {
    using one = SharedMemory.from(data, { name, unlinkOnClose: false });
    assert.equal(one.owner, false);
    assert.deepEqual(find(name), { name, size: 17, capacity: 17, owned: false, retained: false, persistent: true, unfinished: false });
  }
  {
    using one = SharedMemory.open(name);
    one.retain()[Symbol.dispose]();
    assert.equal(text(one.read()), data);
  }
  using one = SharedMemory.open(name);
  one.adopt();
  assert.deepEqual([one.owner, find(name)?.owned, find(name)?.persistent], [true, true, false]);
  one.close();
  assert.equal(fs.existsSync(pathOf(name)), false);
});

test("unlink, by name and by handle", () => {
  const name = names.next();
  using one = SharedMemory.create({ name });
  SharedMemory.unlink(`/${name}`);
  assert.equal(fs.existsSync(pathOf(name)), false);
  assertThrows(() => SharedMemory.unlink(name), { ...mapError("ENOENT"), syscall: "shm_unlink", path: pathOf(name) });
  one.write(data);
  assert.equal(text(one.read()), data);
  one.unlink();
  using two = SharedMemory.create({ name });
  one.unlink();
  assert.ok(fs.existsSync(pathOf(name)), "not the other's name");
  two.unlink();
  two.unlink();
  assert.equal(fs.existsSync(pathOf(name)), false);
  assert.equal(two.size, 0);
});

test("retain: the object outlives its owner, until it is released", () => {
  const one = SharedMemory.from(data);
  const { name } = one;
  const first = one.retain();
  const second = one.retain();
  assert.deepEqual([find(name)?.owned, find(name)?.retained], [true, true]);
  one.close();
  assert.deepEqual([find(name)?.owned, find(name)?.retained], [false, true]);
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  using other = SharedMemory.open(name, { mode: "r" });
  assert.equal(text(other.read()), data);
  second[Symbol.dispose]();
  assert.equal(fs.existsSync(pathOf(name)), false);
});

test("adopt: only what has no owner", () => {
  const one = SharedMemory.from(data);
  const { name } = one;
  const retention = one.retain();
  using two = SharedMemory.open(name);
  assertThrows(() => two.adopt(), { ...mapError("ERR_OWNED", /living owner/), path: pathOf(name) });
  one.adopt();
  assert.deepEqual([one.owner, two.owner], [true, false]);
  one.close();
  two.adopt();
  two.adopt();
  assert.equal(two.owner, true);
  using three = SharedMemory.open(name);
  assertThrows(() => three.adopt(), mapError("ERR_OWNED"));
  retention[Symbol.dispose]();
  assert.equal(text(three.read()), data, "an owner lives");
  assert.ok(fs.existsSync(pathOf(name)));
  two.close();
  assert.equal(fs.existsSync(pathOf(name)), false);
});

test("a view keeps memory, and no right", () => {
  const one = SharedMemory.from(data);
  const { name } = one;
  const [view, retention] = [one.view(), one.retain()];
  one.close();
  assert.deepEqual([find(name)?.owned, find(name)?.retained], [false, true]);
  const two = SharedMemory.open(name);
  const second = two.view();
  two.adopt(); // at once, although the pages of the first owner are still mapped
  two.close();
  retention[Symbol.dispose]();
  assert.equal(fs.existsSync(pathOf(name)), false);
  assert.deepEqual([text(view), text(second)], [data, data]);
});

test("list shows this library's objects, and only those", () => {
  const [foreign, damaged] = [names.next(), names.next()];
  fs.writeFileSync(pathOf(foreign), "something else");
  using one = SharedMemory.from(data, { capacity: 100 });
  fs.writeFileSync(pathOf(damaged), fs.readFileSync(pathOf(one.name)).fill(1, 128, 130));
  try {
    assert.deepEqual(find(one.name), { name: one.name, size: 17, capacity: 100, owned: true, retained: false, persistent: false, unfinished: false });
    assert.equal(find(foreign), undefined);
    assert.equal(find(damaged)?.error?.code, "ERR_CORRUPT");
    assertThrows(() => SharedMemory.open(foreign), mapError("ERR_NOT_HOLDFAST"));
    assertThrows(() => SharedMemory.open(damaged), mapError("ERR_CORRUPT"));
    SharedMemory.unlink(foreign);
    SharedMemory.unlink(damaged);
  } finally {
    for (const name of [foreign, damaged]) fs.rmSync(pathOf(name), { force: true });
  }
});

test("what is no object: a folder, a link", () => {
  const [folder, link] = [names.next(), names.next()];
  using one = SharedMemory.from(data);
  fs.mkdirSync(pathOf(folder));
  fs.symlinkSync(pathOf(one.name), pathOf(link));
  try {
    assertThrows(() => SharedMemory.open(folder, { mode: "r" }), mapError("EISDIR"));
    assertThrows(() => SharedMemory.open(link), mapError("ELOOP"));
    assert.equal(find(link), undefined);
  } finally {
    fs.rmdirSync(pathOf(folder));
    fs.unlinkSync(pathOf(link));
  }
});

test("names and options are checked", () => {
  for (const bad of ["", "/", ".", "..", "a/b", "//a", "a\0b", "x".repeat(32), "ü".repeat(16), "\ud800"]) {
    assertThrows(() => SharedMemory.open(bad), rangeError(/"name"/), JSON.stringify(bad));
    assertThrows(() => SharedMemory.create({ name: bad }), rangeError(/"name"/), JSON.stringify(bad));
    assertThrows(() => SharedMemory.unlink(bad), rangeError(/"name"/), JSON.stringify(bad));
  }
  for (const bad of [undefined, null, 1, {}]) assertThrows(() => SharedMemory.open(bad as unknown as string), typeError(/"name"/));
  const create = (options: unknown) => () => SharedMemory.create(options as { name: string }).close();
  for (const capacity of [-1, 0.5, NaN, 2 ** 46 + 1]) assertThrows(create({ capacity }), rangeError(/"capacity"/), String(capacity));
  assertThrows(create({ capacity: "1" }), typeError());
  assertThrows(create({ permissions: 0o10000 }), rangeError());
  assertThrows(create({ unlinkOnClose: 1 }), typeError());
  assertThrows(create({ size: 1 }), typeError(/"size".*name, capacity/));
  assertThrows(create(null), typeError());
  assertThrows(() => SharedMemory.open("x", { mode: "w" as "r" }), rangeError(/"r" or "rw"/));
  assertThrows(() => SharedMemory.open("x", { create: true } as object), typeError(/"create"/));
  assertThrows(() => SharedMemory.from(1 as unknown as string), typeError(/Uint8Array/));
  using one = SharedMemory.create();
  for (const bad of [1, null, [1], new ArrayBuffer(1)]) assertThrows(() => one.write(bad as unknown as string), typeError(/"data"/));
  assertThrows(() => new (SharedMemory as unknown as new () => SharedMemory)(), { type: TypeError, code: undefined as unknown as string });
});

test("after close every use is ERR_CLOSED", () => {
  using other = SharedMemory.create();
  const one = SharedMemory.from(data);
  one.close();
  one.close();
  one[Symbol.dispose]();
  assert.equal(one.closed, true);
  const uses: (() => unknown)[] = [
    () => one.size,
    () => one.capacity,
    () => one.owner,
    () => one.read(),
    () => one.read(0),
    () => one.write("x"),
    () => one.view(),
    () => one.append(other),
    () => other.append(one),
    () => one.splitAt(0),
    () => one.trim(),
    () => one.setCapacity(1),
    () => one.adopt(),
    () => one.retain(),
    () => one.unlink(),
  ];
  for (const use of uses) assertThrows(use, { ...mapError("ERR_CLOSED"), path: pathOf(one.name) }, String(use));
});

test("a peer that cuts the object short: ERR_FAULT, also within the last page, and never a wrong size", () => {
  const uses: Readonly<Record<string, (object: SharedMemory) => unknown>> = {
    read: (object) => object.read(),
    "read of a byte": (object) => object.read(1),
    write: (object) => object.write("x".repeat(9000)),
    view: (object) => object.view(),
    size: (object) => object.size,
    capacity: (object) => object.capacity,
    trim: (object) => object.trim(1),
    splitAt: (object) => object.splitAt(5),
    append: (object) => object.append(object),
    setCapacity: (object) => object.setCapacity(100_000),
  };
  for (const [what, use] of Object.entries(uses)) {
    for (const length of [13_100, 13_000, 8192, 5000, 4096, 4095, 300, 0]) {
      using one = SharedMemory.from("x".repeat(9001));
      using reader = SharedMemory.open(one.name, { mode: "r" });
      const path = pathOf(one.name);
      assert.equal(fs.statSync(path).size, 13_112);
      fs.truncateSync(path, length);
      assertThrows(() => use(one), { ...mapError("ERR_FAULT"), path }, `${what} after a cut to ${length}`);
      assertThrows(() => use(one), mapError("ERR_FAULT"), `${what} again after a cut to ${length}`);
      assertThrows(() => reader.read(), mapError("ERR_FAULT"), `read in mode r after a cut to ${length}`);
      assert.equal(fs.statSync(path).size, length, `${what} leaves the file as it is`);
      assertThrows(() => SharedMemory.open(one.name), mapError(length === 0 ? "ERR_NOT_HOLDFAST" : "ERR_CORRUPT"));
    }
  }
});

test("cut short and made longer again: what is gone is noticed", () => {
  using one = SharedMemory.from("x".repeat(9001));
  fs.truncateSync(pathOf(one.name), 13_000);
  fs.truncateSync(pathOf(one.name), 13_112);
  assertThrows(() => one.read(), mapError("ERR_CORRUPT", /end mark/));
  assertThrows(() => SharedMemory.open(one.name), mapError("ERR_CORRUPT", /end mark/));
});

test("handles leave no descriptor, mapping or name behind", () => {
  const generated: string[] = [];
  const open = (): number => fs.readdirSync("/proc/self/fd").length;
  SharedMemory.create().close();
  const descriptors = open();
  for (let i = 0; i < 30; i++) {
    using one = SharedMemory.create({ name: names.next() });
    using two = SharedMemory.open(one.name);
    two.write("x".repeat(10_000));
    one.read();
    using _ = one.retain();
    using rest = one.splitAt(1);
    generated.push(rest.name);
    assertThrows(() => SharedMemory.create({ name: one.name }), mapError("EEXIST"));
    assertThrows(() => two.adopt(), mapError("ERR_OWNED"));
    SharedMemory.list();
  }
  assert.ok(open() <= descriptors, "fewer is right: a collection may close what a test before has dropped");
  assert.ok(!fs.readFileSync("/proc/self/maps", "utf8").includes(names.prefix));
  assert.ok(generated.every((name) => !fs.existsSync(pathOf(name))));
  assert.deepEqual(names.left(), []);
});
