/** Durability: when a handle's changes are on storage, what it says of that, and what a failed sync does. Real power cuts: tests/crash/power.ts. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { errno } from "../../lib/errors.ts";
import { native } from "../../lib/native/native.ts";
import type { NativeFunctions } from "../../lib/native/symbols.ts";
import { type Codec, DurabilityError, MapError, Queue } from "../../mod.ts";
import { assertThrows, mapError, rangeError, typeError } from "../support/errors.ts";
import { currentRuntime } from "../support/runtimes.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const child = children();
const BATCH_EXIT = fileURLToPath(new URL("../support/batch_exit.ts", import.meta.url));
const pause = (ms: number): Promise<unknown> => new Promise((resolve) => setTimeout(resolve, ms));

type Syncs = Pick<NativeFunctions, "hf_sync" | "hf_sync_file">;

/** Runs `what` with calls of the sync functions counted; they fail while `failing` is set, as the kernel lets them. */
function withSyncs<R>(what: (syncs: { calls: number; files: number; failing: number }) => R): R {
  const hf = native() as { -readonly [Name in keyof NativeFunctions]: NativeFunctions[Name] };
  const { hf_sync, hf_sync_file }: Syncs = hf;
  const syncs = { calls: 0, files: 0, failing: 0 };
  hf.hf_sync = (address, length, wait) => {
    syncs.calls++;
    return syncs.failing === 0 ? hf_sync(address, length, wait) : syncs.failing;
  };
  hf.hf_sync_file = (fd, dataOnly) => {
    syncs.files++;
    return hf_sync_file(fd, dataOnly);
  };
  const restore = (): unknown => Object.assign(hf, { hf_sync, hf_sync_file });
  let result: R;
  try {
    result = what(syncs);
  } catch (error) {
    restore();
    throw error;
  }
  if (result instanceof Promise) return result.finally(restore) as R;
  restore();
  return result;
}

test('"each": one sync a push, and the mark is behind every record', () => {
  withSyncs((syncs) => {
    using queue = Queue.open<number>(files.next(), { durability: "each" });
    assert.equal(queue.durableSequence, 0);
    for (let number = 1; number <= 20; number++) {
      syncs.calls = syncs.files = 0;
      queue.push(number);
      assert.equal(queue.durableSequence, number);
      assert.deepEqual([syncs.calls, syncs.files], [1, 0]);
    }
    syncs.calls = 0;
    queue.pushMany([21, 22, 23]);
    assert.equal(queue.durableSequence, 23);
    assert.equal(syncs.calls, 1, "one for all");
    queue.pushMany([]);
    assert.equal(syncs.calls, 1);
  });
});

test('"each": one sync a removal, none where there is nothing', () => {
  withSyncs((syncs) => {
    using queue = Queue.open<number>(files.next(), { durability: "each" });
    queue.pushMany([1, 2, 3, 4, 5, 6]);
    const during = (what: () => unknown): number => {
      syncs.calls = 0;
      what();
      return syncs.calls;
    };
    assert.equal(during(() => queue.pop()), 1);
    assert.equal(during(() => queue.popMany(2)), 1);
    assert.equal(during(() => queue.tryPop(() => 0)), 2, "the lease before it is given out, and the removal");
    assert.equal(during(() => queue.lease()?.release()), 1, "nothing is removed");
    assert.equal(during(() => queue.peek()), 0);
    assert.equal(during(() => queue.clear()), 1);
    assert.equal(during(() => [queue.pop(), queue.popMany(5), queue.lease(), queue.clear()]), 0);
  });
});

test('"process": nothing is synced before flush()', () => {
  withSyncs((syncs) => {
    using queue = Queue.open<number>(files.next());
    syncs.calls = syncs.files = 0;
    for (let number = 0; number < 500; number++) queue.push(number);
    queue.popMany(100);
    assert.deepEqual([syncs.calls, syncs.files], [0, 0]);
    assert.equal(queue.durableSequence, 0);
    queue.flush();
    assert.equal(syncs.calls, 2, "records and control file");
    assert.equal(queue.durableSequence, 500);
  });
});

test("the mark counts the records of all handles, and goes through segments that come and go", () => {
  const path = files.next();
  using each = Queue.open<string>(path, { capacityBytes: 8192, durability: "each" });
  using other = Queue.open<string>(path);
  using reader = Queue.open<string>(path, { mode: "r" });
  const value = "x".repeat(700);
  let pushed = 0;
  for (let round = 0; round < 60; round++) {
    for (let i = 0; i < round % 7; i++) other.push(value), pushed++;
    each.push(value);
    pushed++;
    assert.equal(reader.durableSequence, pushed);
    if (round % 3 === 0) other.popMany(1 + (round % 11));
    if (round % 20 === 19) assert.equal(other.clear() > 0, true);
  }
  other.push(value);
  assert.equal(each.durableSequence, pushed);
  assert.equal(each.pop(), value);
  other.flush();
  assert.equal(each.durableSequence, pushed + 1);
  assertThrows(() => reader.flush(), mapError("ERR_READ_ONLY"));
});

test("a record that another handle has synced needs no sync of its own", () => {
  withSyncs((syncs) => {
    const path = files.next();
    using batch = Queue.open<number>(path, { durability: "batch", flushEveryCount: 3, flushEveryMs: 60_000 });
    using each = Queue.open<number>(path, { durability: "each" });
    batch.push(1);
    batch.push(2);
    each.push(3);
    syncs.calls = 0;
    batch.close();
    assert.equal(syncs.calls, 0);
    assert.equal(each.durableSequence, 3);
  });
});

test("a new segment's name is on storage before a record in it counts", () => {
  withSyncs((syncs) => {
    using queue = Queue.open<string>(files.next(), { capacityBytes: 8192, durability: "each" });
    let names = 0;
    for (let i = 0; i < 12; i++) {
      syncs.files = 0;
      queue.push("x".repeat(1000));
      names += syncs.files;
    }
    assert.equal(names, 3, "at each of the three segments that were gone on to");
  });
});

test('"batch": a sync after so many records', () => {
  withSyncs((syncs) => {
    using queue = Queue.open<number>(files.next(), { durability: "batch", flushEveryCount: 10, flushEveryMs: 60_000 });
    syncs.calls = 0;
    for (let number = 1; number <= 35; number++) {
      queue.push(number);
      assert.equal(queue.durableSequence, number - (number % 10));
    }
    assert.equal(syncs.calls, 3);
    queue.pushMany([36, 37, 38, 39, 40]);
    assert.equal(queue.durableSequence, 40);
    syncs.calls = 0;
    queue.popMany(9);
    assert.equal(syncs.calls, 0);
    queue.pop();
    assert.equal(syncs.calls, 1, "removals count as well");
    queue.push(41);
    queue.flush();
    assert.equal(queue.durableSequence, 41);
  });
});

test('"batch": a sync after so many milliseconds, whether the program pauses or not', async () => {
  using queue = Queue.open<number>(files.next(), { durability: "batch", flushEveryCount: 1e9, flushEveryMs: 20 });
  queue.push(1);
  assert.equal(queue.durableSequence, 0);
  for (let i = 0; i < 100 && queue.durableSequence === 0; i++) await pause(5);
  assert.equal(queue.durableSequence, 1);
  const end = performance.now() + 200;
  while (queue.durableSequence < 2 && performance.now() < end) queue.push(2);
  assert.ok(queue.durableSequence >= 2, "no timer can run in this loop");
  queue.push(3);
  for (let i = 0; i < 100 && queue.durableSequence < queue.stats().pushed; i++) await pause(5);
  assert.equal(queue.durableSequence, queue.stats().pushed);
});

test('"batch": close() and the end of the program sync', async () => {
  const path = files.next();
  const queue = Queue.open<number>(path, { durability: "batch", flushEveryMs: 60_000 });
  queue.push(1);
  queue.close();
  for (const how of ["return", "exit"]) {
    const own = files.next();
    const ending = await child.script(currentRuntime, BATCH_EXIT, own, how);
    assert.equal(ending.code, 0, ending.stderr);
    using after = Queue.open(own, { mode: "r" });
    assert.equal(after.durableSequence, 3, how);
  }
  using after = Queue.open(path, { mode: "r" });
  assert.equal(after.durableSequence, 1);
});

test("a failed sync: this call and all later ones say so, and the records are there", () => {
  withSyncs((syncs) => {
    const path = files.next();
    const queue = Queue.open<number>(path, { durability: "each" });
    queue.pushMany([1, 2]);
    const lease = queue.lease();
    syncs.failing = -errno.EIO;
    assertThrows(() => queue.push(3), mapError("ERR_DURABILITY", /EIO/));
    syncs.failing = 0;
    for (const call of [
      () => queue.push(4),
      () => queue.pushMany([4]),
      () => queue.pop(),
      () => queue.popMany(1),
      () => queue.tryPop(() => 1),
      () => queue.lease(),
      () => lease?.ack(),
      () => lease?.release(),
      () => queue.clear(),
      () => queue.flush(),
    ]) {
      assertThrows(call, mapError("ERR_DURABILITY"), String(call));
    }
    try {
      queue.flush();
    } catch (error) {
      assert.ok(error instanceof DurabilityError);
      assert.equal((error.cause as MapError).code, "EIO");
      assert.equal(error.path, path);
      assert.deepEqual(error.removed, []);
    }
    assert.deepEqual([...queue], [1, 2, 3], "looking is allowed");
    assert.equal(queue.durableSequence, 2);
    lease?.[Symbol.dispose]();
    queue.close();
    using again = Queue.open<number>(path);
    assert.deepEqual(again.popMany(9), [1, 2, 3]);
  });
});

test("whichever sync fails, it is told once, and the mark stays in front of what it covered", () => {
  for (let failing = 1, done = false; !done; failing++) {
    withSyncs((syncs) => {
      const queue = Queue.open<string>(files.next(), { capacityBytes: 8192, durability: "each" });
      syncs.calls = 0;
      const hf = native() as { -readonly [Name in keyof NativeFunctions]: NativeFunctions[Name] };
      const { hf_sync } = hf;
      hf.hf_sync = (address, length, wait) => (syncs.calls + 1 === failing ? (syncs.calls++, -errno.EIO) : hf_sync(address, length, wait));
      let pushed = 0;
      let told = false;
      try {
        // Segments are left behind and come again; in the end there is a backlog of several.
        for (; pushed < 24; pushed++) {
          queue.push("x".repeat(1400));
          if (pushed % 3 === 2 && pushed < 12) queue.pop();
        }
      } catch (error) {
        assert.ok(error instanceof DurabilityError, String(error));
        told = true;
        if (error.removed.length === 0) assert.equal(queue.durableSequence, pushed, `sync ${failing}`);
      }
      done = syncs.calls < failing;
      assert.equal(told, !done, `sync ${failing}`);
      queue.close();
    });
    assert.ok(failing < 100);
  }
});

test("after a failed sync a new handle writes every page once more", () => {
  withSyncs((syncs) => {
    const path = files.next();
    const queue = Queue.open<number>(path, { durability: "each" });
    queue.push(1);
    syncs.failing = -errno.EIO;
    assertThrows(() => queue.push(2), mapError("ERR_DURABILITY"));
    syncs.failing = 0;
    using other = Queue.open<number>(path, { durability: "each" });
    assert.equal(other.durableSequence, 1);
    const hf = native() as { -readonly [Name in keyof NativeFunctions]: NativeFunctions[Name] };
    const { hf_cas64_exact } = hf;
    let dirtied = 0;
    hf.hf_cas64_exact = (address, words) => (dirtied++, hf_cas64_exact(address, words));
    try {
      other.push(3);
      assert.ok(dirtied > 80, `${dirtied} pages: those of the control file and of the records`);
      dirtied = 0;
      other.push(4);
      assert.equal(dirtied, 0, "mended");
    } finally {
      hf.hf_cas64_exact = hf_cas64_exact;
    }
    assert.equal(other.durableSequence, 4);
    assertThrows(() => queue.push(5), mapError("ERR_DURABILITY"), "the one that met the failure");
    assert.deepEqual(other.popMany(9), [1, 2, 3, 4]);
    queue.close();
  });
});

test("after a failed sync records that were dropped are not believed", () => {
  withSyncs((syncs) => {
    const path = files.next();
    using queue = Queue.open<string>(path, { durability: "each" });
    queue.push("kept");
    syncs.failing = -errno.EIO;
    assertThrows(() => queue.push("dropped by the kernel"), mapError("ERR_DURABILITY"));
    syncs.failing = 0;
    const fd = fs.openSync(join(path, "segment-1"), "r+");
    fs.writeSync(fd, new Uint8Array(64), 0, 64, 256 + 40);
    fs.closeSync(fd);
    using other = Queue.open<string>(path, { durability: "each" });
    assertThrows(() => other.push("more"), mapError("ERR_DURABILITY", /ERR_CORRUPT/));
    assert.equal(other.durableSequence, 1);
  });
});

test("values that were removed when the sync failed come with the error", () => {
  const codec: Codec<number> = { encode: (value) => Uint8Array.of(value), decode: ([byte = 0]) => byte };
  for (const [what, take, expected] of [
    ["pop", (queue: Queue<number>) => queue.pop(), [1]],
    ["popMany", (queue: Queue<number>) => queue.popMany(2), [1, 2]],
  ] as const) {
    withSyncs((syncs) => {
      using queue = Queue.open<number>(files.next(), { durability: "each" });
      queue.pushMany([1, 2, 3]);
      syncs.failing = -errno.EIO;
      assert.throws(() => take(queue), (error: unknown) => {
        assert.deepEqual((error as DurabilityError).removed, expected, what);
        return true;
      });
      assert.equal(queue.length, 3 - expected.length);
    });
  }
  withSyncs((syncs) => {
    // With a codec of one's own a record is leased first, which is synced as well: then nothing is removed yet.
    using queue = Queue.open<number>(files.next(), { durability: "batch", flushEveryCount: 2, flushEveryMs: 60_000, codec });
    queue.pushMany([1, 2]);
    syncs.failing = -errno.EIO;
    queue.pop();
    assert.throws(() => queue.popMany(2), (error: unknown) => {
      assert.deepEqual((error as DurabilityError).removed, [2]);
      return true;
    });
  });
});

test("a batch that fails: the timer is silent, the next call says so; close() says so and closes", async () => {
  await withSyncs(async (syncs) => {
    const queue = Queue.open<number>(files.next(), { durability: "batch", flushEveryMs: 5 });
    syncs.failing = -errno.EIO;
    queue.push(1);
    const before = syncs.calls;
    for (let i = 0; i < 100 && syncs.calls === before; i++) await pause(5);
    assert.equal(syncs.calls, before + 1, "the timer's");
    assertThrows(() => queue.push(2), mapError("ERR_DURABILITY"));
    queue.close();
    const late = Queue.open<number>(files.next(), { durability: "batch", flushEveryMs: 60_000 });
    late.push(1);
    assertThrows(() => late.close(), mapError("ERR_DURABILITY"));
    assert.equal(late.closed, true);
    late.close();
  });
});

test("options", () => {
  const open = (options: object): (() => unknown) => () => Queue.open(files.next(), options);
  assertThrows(open({ durability: "always" }), rangeError(/"process" or "batch" or "each"/));
  assertThrows(open({ durability: 1 }), typeError());
  assertThrows(open({ flushEveryMs: 5 }), typeError(/need "durability" "batch"/));
  assertThrows(open({ flushEveryCount: 5, durability: "each" }), typeError());
  assertThrows(open({ flushEveryMs: 0, durability: "batch" }), rangeError());
  assertThrows(open({ flushEveryCount: 0, durability: "batch" }), rangeError());
  const queue = Queue.open(files.next());
  queue.close();
  assertThrows(() => queue.flush(), mapError("ERR_CLOSED"));
  assertThrows(() => queue.durableSequence, mapError("ERR_CLOSED"));
});
