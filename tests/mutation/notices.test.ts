/** Tests that a mutation of mutations.ts made necessary: no other noticed it. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { RECORD_PAYLOAD, RECORD_TRAILER_BYTES, RECORDS_OFFSET, SPARES } from "../../lib/layout/queue.ts";
import { Queue } from "../../mod.ts";
import { assertThrows, mapError } from "../support/errors.ts";
import { currentRuntime } from "../support/runtimes.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const child = children();

test("who waits for a record is woken by its push, not by a timer", async () => {
  const path = files.next();
  using queue = Queue.open<number>(path);
  const agent = child.agent(currentRuntime);
  await agent.send({ do: "open", as: "q", kind: "Queue", path });
  const late: number[] = [];
  for (let i = 0; i < 12; i++) {
    const taken = queue.take();
    // The timer looks every 100 ms at first: the push comes soon after one of its looks.
    await new Promise((resolve) => setTimeout(resolve, 115));
    const began = performance.now();
    const pushed = agent.send({ do: "call", on: "q", method: "push", args: [i] });
    assert.equal(await taken, i);
    late.push(performance.now() - began);
    await pushed;
  }
  late.sort((a, b) => a - b);
  assert.ok((late[6] as number) < 40, `half of them took ${late.map((ms) => ms.toFixed(0))} ms`);
  await agent.end();
});

const SEGMENT_BYTES = 4096;
const AROUND = RECORD_PAYLOAD + RECORD_TRAILER_BYTES;

/** The ids of the spare segments, read past the library. */
function spares(path: string): number[] {
  const words = new BigUint64Array(fs.readFileSync(join(path, "control")).buffer.slice(SPARES, SPARES + 16 * 8));
  return [...words].map(Number).filter((id) => id > 0);
}

test("a record that fills a segment to its last byte, and one of 8 bytes more", () => {
  const room = SEGMENT_BYTES - RECORDS_OFFSET - AROUND;
  for (const many of [false, true]) {
    for (const before of [0, 40]) {
      for (const length of [room - 8, room, room + 8]) {
        const path = files.next();
        using queue = Queue.open<Uint8Array>(path, { codec: "bytes", capacityBytes: 2 * SEGMENT_BYTES });
        const values = [...(before === 0 ? [] : [new Uint8Array(before - AROUND).fill(1)]), new Uint8Array(length - before).fill(2)];
        if (many) assert.equal(queue.pushMany(values), values.length);
        else for (const value of values) assert.equal(queue.push(value), true);
        const segments = fs.readdirSync(path).filter((name) => name.startsWith("segment-"));
        const fits = length <= room;
        // One that is too large for any segment gets a file of its own; one that does not fit any more, the spare.
        const larger = !fits && before === 0;
        assert.equal(segments.length, larger ? 3 : 2, `${length} bytes behind ${before}`);
        assert.equal(spares(path).length, fits || larger ? 1 : 0, `${length} bytes behind ${before}`);
        assert.equal(queue.push(new Uint8Array([3])), true);
        assert.deepEqual(queue.popMany(9), [...values, new Uint8Array([3])]);
      }
    }
  }
});

test("a limit is met to the byte", () => {
  const payload = new Uint8Array(8);
  const total = payload.length + AROUND;
  for (const many of [false, true]) {
    for (const [maxCapacityBytes, count] of [[10 * total - 1, 9], [10 * total, 10], [10 * total + 1, 10]] as const) {
      using queue = Queue.open<Uint8Array>(files.next(), { codec: "bytes", maxCapacityBytes });
      const push = (): number => {
        if (many) return queue.pushMany(Array.from({ length: 12 }, () => payload));
        let pushed = 0;
        while (queue.push(payload)) pushed++;
        return pushed;
      };
      assert.equal(push(), count, `${maxCapacityBytes} bytes`);
      assert.equal(push(), 0);
      assert.equal(queue.byteLength, count * total);
      // Room that others make counts to the byte, too.
      queue.popMany(3);
      assert.equal(push(), 3);
      assert.equal(push(), 0);
      assert.equal(queue.popMany(20).length, count);
    }
  }
});

test("a pushMany that fails half-way leaves neither its records nor its segments", () => {
  const path = files.next();
  using queue = Queue.open<string>(path, { codec: "text", capacityBytes: 2 * SEGMENT_BYTES });
  queue.push("first");
  assert.deepEqual(spares(path), [2]);
  // The third segment can't be made: there is something of its name.
  const third = join(path, "segment-3");
  fs.mkdirSync(third);
  const large = Array.from({ length: 5 }, (_, i) => `${i}`.repeat(1500));
  assertThrows(() => queue.pushMany(["small", ...large]), mapError("ERR_CORRUPT"));
  assert.equal(queue.length, 1);
  assert.deepEqual(spares(path), [2], "the one that it had taken is a spare again");
  fs.rmdirSync(third);
  // In the same place, by the same handle: nothing of the failed one is left in its memory.
  assert.equal(queue.push("second"), true);
  assert.equal(queue.pushMany(large), 5);
  assert.deepEqual([...queue], ["first", "second", ...large]);
  assert.deepEqual(queue.popMany(9), ["first", "second", ...large]);
});

test("a pushMany whose mark does not fit leaves none of its segments taken", () => {
  const path = files.next();
  const capacityBytes = 2 * SEGMENT_BYTES;
  using queue = Queue.open<string>(path, { codec: "text", capacityBytes, maxCapacityBytes: capacityBytes });
  queue.push("first");
  const before = [spares(path), fs.readdirSync(path).sort()];
  // Two in a segment: the limit is met in the third.
  const large = Array.from({ length: 6 }, (_, i) => `${i}`.repeat(1500));
  for (let i = 0; i < 5; i++) {
    assert.equal(queue.pushMany(large, { mark: new Uint8Array(1) }), 0);
    assert.deepEqual([spares(path), fs.readdirSync(path).sort()], before);
  }
  assert.equal(queue.pushMany(large.slice(0, 4), { mark: new Uint8Array(1) }), 4);
  assert.deepEqual(queue.popMany(9), ["first", ...large.slice(0, 4)]);
});

test("a pop that fails leaves nothing of it in its handle's memory", () => {
  const path = files.next();
  const refuses = { on: false };
  using queue = Queue.open<string>(path, {
    codec: {
      encode: (text: string) => new TextEncoder().encode(text),
      decode(bytes) {
        if (refuses.on) throw new Error("not now");
        return new TextDecoder().decode(bytes);
      },
    },
  });
  queue.pushMany(["a", "b", "c"]);
  refuses.on = true;
  assertThrows(() => queue.pop(), mapError("ERR_CODEC"));
  refuses.on = false;
  assert.deepEqual(queue.popMany(9), ["a", "b", "c"]);
});
