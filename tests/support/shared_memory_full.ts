/**
 * Checks what a full /dev/shm does. To be run where /dev/shm is a tmpfs of 1 MiB of its own, in a mount namespace: the real one is never
 * filled. Prints "ok".
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { SharedMemory } from "../../mod.ts";
import { assertThrows, mapError } from "./errors.ts";

const { bsize, blocks } = fs.statfsSync("/dev/shm");
assert.equal(bsize * blocks, 1 << 20, "/dev/shm is not the small one");
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const blocksOf = (name: string): number => fs.statSync(`/dev/shm/${name}`).blocks;
const full = mapError("ENOSPC");

assertThrows(() => SharedMemory.create({ capacity: 2 << 20 }), { ...full, syscall: "fallocate" });
assertThrows(() => SharedMemory.create({ capacity: (1 << 20) - 100 }), full);
assert.deepEqual(fs.readdirSync("/dev/shm"), [], "nothing is left of an object that found no room");

using one = SharedMemory.from("content", { capacity: 300_000 });
using two = SharedMemory.from("x".repeat(400_000));
const length = fs.statSync(`/dev/shm/${one.name}`).size;
for (const call of [
  () => one.write("y".repeat(700_000)),
  () => one.setCapacity(700_000),
  () => one.setCapacity(900_000),
  () => two.append(two),
  () => two.splitAt(0),
  () => SharedMemory.from("z".repeat(700_000)),
]) {
  assertThrows(call, full, String(call));
  assert.deepEqual([text(one.read()), one.size, one.capacity], ["content", 7, 300_000]);
  assert.equal(text(two.read()), "x".repeat(400_000));
  assert.equal(fs.statSync(`/dev/shm/${one.name}`).size, length);
  assert.equal(fs.readdirSync("/dev/shm").length, 2);
}
// What a shrink gave back is reserved again before it is used.
one.setCapacity(7);
using three = SharedMemory.create({ capacity: 500_000 });
const before = blocksOf(one.name);
assertThrows(() => one.setCapacity(300_000), full);
assert.deepEqual([text(one.read()), one.capacity, blocksOf(one.name)], ["content", 7, before]);
three.setCapacity(0);
one.write("y".repeat(300_000));
assert.equal(one.size, 300_000);
console.log("ok");
