import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { BlockStore } from "../../mod.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const BLOCK_BYTES = 100;

/** What a store is, in plain memory. */
class Model {
  readonly blocks = new Map<number, Uint8Array>();
  /** Ids that were ever given, stored or not. */
  readonly ids = new Set<number>();
  readonly maxBlocks: number | undefined;

  constructor(maxBlocks: number | undefined) {
    this.maxBlocks = maxBlocks;
  }

  /** One of the ids, most often one that is stored. */
  pick(n: number): number {
    const list = n % 4 === 0 ? [...this.ids, 3] : [...this.blocks.keys(), 3];
    return list[n % list.length] as number;
  }

  sorted(): number[] {
    return [...this.blocks.keys()].sort((a, b) => a - b);
  }
}

type Handles = BlockStore[];

interface Step {
  readonly name: string;
  run(model: Model, stores: Handles, path: string): void;
}

const handle = fc.nat(2);
let counter = 0;

function storeOne(model: Model, store: BlockStore | undefined, length: number): void {
  const content = new Uint8Array(length).fill(counter++);
  const id = store?.store(content);
  if (model.blocks.size === model.maxBlocks) {
    assert.equal(id, undefined, "full");
    return;
  }
  assert.ok(id !== undefined && Number.isSafeInteger(id) && id >= 0);
  assert.equal(model.blocks.has(id), false, `id ${id} is in use`);
  model.blocks.set(id, content);
  model.ids.add(id);
}

function freeOne(model: Model, store: BlockStore | undefined, id: number): void {
  assert.equal(store?.free(id), model.blocks.delete(id));
}

const steps: fc.Arbitrary<Step>[] = [
  fc.tuple(handle, fc.nat(BLOCK_BYTES)).map(([h, length]) => ({
    name: `${h}.store ${length}`,
    run: (model, stores) => storeOne(model, stores[h], length),
  })),
  fc.tuple(handle, fc.integer({ min: 1, max: 90 })).map(([h, count]) => ({
    name: `${h}.store many ${count}`,
    run(model, stores) {
      for (let i = 0; i < count; i++) storeOne(model, stores[h], i);
    },
  })),
  fc.tuple(handle, fc.nat()).map(([h, n]) => ({
    name: `${h}.free ${n}`,
    run: (model, stores) => freeOne(model, stores[h], model.pick(n)),
  })),
  fc.tuple(handle, fc.nat(7)).map(([h, n]) => ({
    name: `${h}.free many ${n}`,
    run(model, stores) {
      for (const id of model.sorted()) if (id % 8 !== n) freeOne(model, stores[h], id);
    },
  })),
  fc.tuple(handle, fc.nat()).map(([h, n]) => ({
    name: `${h}.read ${n}`,
    run(model, stores) {
      const id = model.pick(n);
      assert.deepEqual(stores[h]?.read(id), model.blocks.get(id));
      assert.equal(stores[h]?.has(id), model.blocks.has(id));
    },
  })),
  fc.tuple(handle, fc.nat(), fc.boolean()).map(([h, n, reverse]) => ({
    name: `${h}.ids ${n} ${reverse}`,
    run(model, stores) {
      const after = model.pick(n);
      const all = model.sorted();
      const expected = reverse ? all.toReversed().filter((id) => id < after) : all.filter((id) => id > after);
      assert.deepEqual([...(stores[h] as BlockStore).ids({ after, reverse })], expected);
    },
  })),
  handle.map((h) => ({
    name: `${h}.look`,
    run(model, stores) {
      assert.deepEqual([...(stores[h] as BlockStore)], model.sorted().map((id) => [id, model.blocks.get(id)]));
      const { ok, stored, blocks, free } = (stores[h] as BlockStore).verify();
      assert.deepEqual([ok, stored, free], [true, model.blocks.size, blocks - model.blocks.size]);
    },
  })),
  handle.map((h) => ({
    name: `${h} closed and opened`,
    run(_, stores, path) {
      stores[h]?.close();
      stores[h] = BlockStore.open(path);
    },
  })),
];

test("three handles of one store against a model in plain memory", () => {
  const commands = fc.array(fc.oneof(...steps), { minLength: 1, maxLength: 150, size: "max" });
  const limit = fc.option(fc.constantFrom(1, 10, 64, 100, 300), { nil: undefined });
  // fast-check prints seed and path of a failure.
  fc.assert(
    fc.property(commands, limit, (list, maxBlocks) => {
      const path = files.next();
      const options = { blockBytes: BLOCK_BYTES, ...(maxBlocks === undefined ? {} : { maxBlocks }) };
      const stores = Array.from({ length: 3 }, () => BlockStore.open(path, options));
      try {
        const model = new Model(maxBlocks);
        for (const step of list) {
          step.run(model, stores, path);
          assert.equal(stores[0]?.count, model.blocks.size, step.name);
        }
        for (const [id, content] of model.blocks) assert.deepEqual(stores[1]?.read(id), content);
      } finally {
        for (const store of stores) store.close();
      }
    }),
    { numRuns: 80 },
  );
});
