/** Random steps on two handles of one file, against plain arrays. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import * as fc from "fast-check";
import { MapError, Mapping } from "../../mod.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const PAGE = 4096;
const MOST = 40_000;

/** One mapping of the system, as the model sees it: broken once a page was touched that lies behind the file's end. */
interface Pages {
  broken: boolean;
}

interface Handle {
  mapping: Mapping;
  length: number;
  pages: Pages;
}

interface View {
  readonly bytes: Uint8Array;
  readonly offset: number;
  readonly pages: Pages;
}

class Model {
  /** What the file holds. */
  content: Uint8Array = new Uint8Array(10_000);
  readonly views: View[] = [];
  readonly handles: Handle[];
  readonly path: string;

  constructor(path: string) {
    this.path = path;
    fs.writeFileSync(path, this.content);
    this.handles = [this.open(), this.open()];
  }

  open(): Handle {
    return { mapping: Mapping.open(this.path), length: this.content.length, pages: { broken: false } };
  }

  /** Whether touching bytes up to `end` meets a page that is gone. */
  gone(end: number): boolean {
    return end > Math.ceil(this.content.length / PAGE) * PAGE;
  }

  setLength(length: number): void {
    const content = new Uint8Array(length);
    content.set(this.content.subarray(0, length));
    this.content = content;
  }
}

function faults(call: () => unknown): void {
  assert.throws(call, (error) => error instanceof MapError && error.code === "ERR_FAULT");
}

interface Step {
  readonly name: string;
  run(model: Model): void;
}

const which = fc.nat(1);
/** A place, as a part of what there is. */
const part = fc.oneof({ weight: 5, arbitrary: fc.double({ min: 0, max: 1, noNaN: true }) }, { weight: 1, arbitrary: fc.constantFrom(0, 1) });
const size = fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 1, max: 300 }) }, { weight: 2, arbitrary: fc.integer({ min: 1, max: 9000 }) });

function step(name: string, run: (model: Model, handle: Handle, at: number, length: number, value: number) => void): fc.Arbitrary<Step> {
  return fc.tuple(which, part, size, fc.integer({ min: 1, max: 255 })).map(([h, place, wanted, value]) => ({
    name: `${name} by ${h} at ${place} of ${wanted} with ${value}`,
    run(model) {
      const handle = model.handles[h] as Handle;
      const length = Math.min(wanted, handle.length);
      run(model, handle, Math.floor(place * (handle.length - length)), length, value);
    },
  }));
}

const read = step("pread", (model, { mapping, pages }, at, length) => {
  if (pages.broken || model.gone(at + length)) {
    faults(() => mapping.pread(at, length));
    pages.broken = true;
    return;
  }
  const there = model.content.subarray(at, at + length);
  const found = mapping.pread(at, length).subarray(0, there.length);
  assert.ok(Buffer.compare(found, there) === 0, "what was read");
});

const write = step("pwrite", (model, { mapping, pages }, at, length, value) => {
  if (at + length > model.content.length) return; // behind the end, what becomes of it is nobody's promise
  const data = new Uint8Array(length).fill(value);
  if (pages.broken) faults(() => mapping.pwrite(at, data));
  else assert.equal(mapping.pwrite(at, data), length);
  if (pages.broken) model.content = new Uint8Array(fs.readFileSync(model.path)); // it failed, so it may be there or not
  else model.content.set(data, at);
});

const add = step("atomics.add", (model, { mapping, pages, length }, at, _, value) => {
  const offset = at - (at % 8);
  if (offset + 8 > Math.min(model.content.length, length)) return;
  if (pages.broken) {
    faults(() => mapping.atomics.add(offset, BigInt(value)));
    model.content = new Uint8Array(fs.readFileSync(model.path));
    return;
  }
  const cell = new DataView(model.content.buffer, offset, 8);
  const old = cell.getBigInt64(0, true);
  assert.equal(mapping.atomics.add(offset, BigInt(value)), old);
  cell.setBigInt64(0, old + BigInt(value), true);
});

const view = step("view", (model, { mapping, pages }, at, length) => {
  if (pages.broken) {
    faults(() => mapping.view(at, length));
    return;
  }
  const bytes = mapping.view(at, length);
  assert.equal(bytes.byteLength, length);
  model.views.push({ bytes, offset: at, pages });
  if (model.views.length > 8) model.views.shift();
});

const useView = step("use of a view", (model, _, at, __, value) => {
  const chosen = model.views[at % Math.max(1, model.views.length)];
  if (chosen === undefined) return;
  const { bytes, offset, pages } = chosen;
  if (pages.broken) {
    assert.equal(bytes.every((byte) => byte >= 0), true, "it can be read, whatever is there");
    return;
  }
  const end = Math.min(offset + bytes.length, model.content.length);
  for (let i = offset; i < end; i += 97) assert.equal(bytes[i - offset], model.content[i], `byte ${i}`);
  if (end > offset) {
    bytes[end - 1 - offset] = value;
    model.content[end - 1] = value;
  }
  if (model.gone(offset + bytes.length)) {
    assert.equal(bytes[bytes.length - 1], 0);
    pages.broken = true;
  }
});

const resize = step("resize", (model, handle, at, length, value) => {
  const wanted = value < 20 ? undefined : Math.max(1, (at + length * 4) % MOST);
  if (wanted === undefined && handle.length * 2 > MOST) return;
  const target = wanted ?? handle.length * 2;
  assert.equal(handle.mapping.resize(wanted), target);
  // To the same length it does nothing, unless the file is shorter by now or the mapping is broken.
  if (target === handle.length && !handle.pages.broken && model.content.length >= target) return;
  // Growing never cuts what another handle has added.
  model.setLength(target >= handle.length ? Math.max(target, model.content.length) : target);
  handle.length = target;
  handle.pages = { broken: false };
});

const refresh = step("refresh", (model, handle) => {
  const { length } = model.content;
  assert.equal(handle.mapping.refresh(), length);
  if (length === handle.length && !handle.pages.broken) return;
  handle.length = length;
  handle.pages = { broken: false };
});

const reopen = step("close and open", (model, handle, at) => {
  if (at % 3 > 0) handle.mapping.close(); // or dropped as it is
  if (at % 3 === 2) handle.mapping.close();
  if (handle.mapping.closed) assert.throws(() => handle.mapping.pread(0, 1), { code: "ERR_CLOSED" });
  Object.assign(handle, model.open());
});

const drop = step("drop of views", (model, _, at) => void model.views.splice(0, at % 9));

const flush = step("flush", (_, { mapping, pages }, at, length) => {
  if (pages.broken) faults(() => mapping.flush({ offset: at, length }));
  else mapping.flush({ offset: at, length, async: length % 2 === 0 });
});

const lines = step("lines", (model, { mapping, pages, length }, at) => {
  if (length > model.content.length || pages.broken) return;
  const expected = new TextDecoder("utf-8", { ignoreBOM: true }).decode(model.content.subarray(at, length)).split("\n");
  if (expected[expected.length - 1] === "") expected.pop();
  assert.deepEqual([...mapping.lines({ start: at })], expected.map((line) => line.replace(/\r$/, "")));
});

const check = step("look at the file", (model) => {
  assert.ok(Buffer.compare(fs.readFileSync(model.path), model.content) === 0, "what the file holds");
});

const steps = fc.oneof(
  { weight: 5, arbitrary: read },
  { weight: 5, arbitrary: write },
  { weight: 4, arbitrary: add },
  { weight: 3, arbitrary: view },
  { weight: 6, arbitrary: useView },
  { weight: 2, arbitrary: resize },
  { weight: 3, arbitrary: refresh },
  { weight: 1, arbitrary: reopen },
  { weight: 1, arbitrary: drop },
  { weight: 1, arbitrary: flush },
  { weight: 1, arbitrary: lines },
  { weight: 2, arbitrary: check },
);

test("two handles do what two arrays would, in 200 steps of any order", () => {
  const path = files.next();
  fc.assert(
    fc.property(fc.array(steps, { minLength: 200, maxLength: 200, size: "max" }), (list) => {
      const model = new Model(path);
      try {
        for (const [i, { name, run }] of list.entries()) {
          try {
            run(model);
          } catch (error) {
            throw new Error(`step ${i}, ${name}: ${(error as Error).message}`, { cause: error });
          }
        }
      } finally {
        for (const { mapping } of model.handles) mapping.close();
      }
    }),
    { numRuns: 100 },
  );
});
