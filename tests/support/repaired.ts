/** Queues that are damaged and repaired: how they are made, and what is asked of them afterwards. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { Queue } from "../../mod.ts";

export function patch(path: string, offset: number, bytes: Uint8Array): void {
  const fd = fs.openSync(path, "r+");
  fs.writeSync(fd, bytes, 0, bytes.byteLength, offset);
  fs.closeSync(fd);
}

export const text = (i: number): string => `${i}${"x".repeat(i % 50)}`;
export const texts = (from: number, to: number): string[] => Array.from({ length: to - from }, (_, i) => text(from + i));

/** 0 to 39 consumed, 40 leased (twice), 41 acknowledged, up to 299. */
export function fill(path: string): string[] {
  {
    using queue = Queue.open<string>(path, { codec: "text", capacityBytes: 8192 });
    queue.pushMany(texts(0, 300));
    queue.popMany(40);
    queue.lease()?.release();
    queue.lease();
    queue.lease()?.ack();
  }
  return [text(40), ...texts(42, 300)];
}

export const open = (path: string): Queue<string> => Queue.open<string>(path, { codec: "text" });

/** Asserts that the queue has these, works, and is sound. */
export function assertHas(path: string, expected: readonly string[], what = ""): void {
  const report = Queue.verify(path);
  assert.equal(report.ok, true, `${what}\n${report}`);
  using queue = open(path);
  assert.equal(queue.recovered, undefined, what);
  assert.deepEqual([...queue], expected, what);
  assert.equal(queue.length, expected.length, what);
  assert.equal(queue.push("one more"), true);
  assert.deepEqual(queue.popMany(expected.length + 5), [...expected, "one more"], what);
  assert.equal(queue.length, 0);
  assert.equal(queue.byteLength, 0);
  queue.pushMany(texts(0, 400));
  assert.equal(queue.popMany(500).length, 400);
}
