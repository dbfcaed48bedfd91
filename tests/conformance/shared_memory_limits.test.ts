/** SharedMemory at its limits: more than 4 GiB, no room, no permission. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { SharedMemory } from "../../mod.ts";
import { assertThrows, rangeError } from "../support/errors.ts";
import { commandLine, currentRuntime } from "../support/runtimes.ts";
import { sharedNames } from "../support/shared_memory_names.ts";
import { forgeObject, pathOf } from "../support/shared_memory_raw.ts";
import { skipFor } from "../support/skip.ts";

const names = sharedNames();
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const GIB = 2 ** 30;

test("content beyond 2 GiB and 4 GiB", () => {
  for (const far of [2 * GIB, 4 * GIB, 5 * GIB + 4096]) {
    const name = names.next();
    // Sparse: an object like this takes no memory but for its ends.
    forgeObject(name, { size: far + 10, capacity: far + 20, content: [[0, "start"], [far - 3, "one"], [far, "0123456789"]] });
    using one = SharedMemory.open(name);
    one.adopt();
    assert.deepEqual([one.size, one.capacity], [far + 10, far + 20]);
    assert.equal(text(one.read(5)), "start");
    using more = SharedMemory.from("and more");
    one.append(more);
    assert.deepEqual([one.size, one.capacity], [far + 18, far + 18]);
    one.setCapacity(far + 100_000);
    assert.equal(one.capacity, far + 100_000);
    using tail = one.splitAt(far - 3);
    assert.equal(text(tail.read()), "one0123456789and more");
    assert.equal(one.size, far - 3);
    one.append(tail);
    one.trim(far);
    assert.deepEqual([text(one.read()), one.capacity], ["0123456789and more", 18]);
    assert.ok(fs.statSync(pathOf(name)).size > far, "never cut");
  }
});

test("a view of more than 4 GiB: all of it, or a RangeError where the runtime has none so long", () => {
  const name = names.next();
  const far = 4 * GIB + 123;
  forgeObject(name, { size: far + 3, capacity: far + 3, content: [[far, "end"]] });
  using one = SharedMemory.open(name);
  one.adopt();
  if (currentRuntime === "bun") assertThrows(() => one.view(), rangeError(/longer than an ArrayBuffer/));
  else assert.equal(text(one.view().subarray(far)), "end");
});

const real = "a capacity of more than 4 GiB, reserved for real";
// /dev/shm's room is the machine's memory: MemAvailable is what can be had without anybody's harm.
const available = Number(/^MemAvailable: +(\d+)/m.exec(fs.readFileSync("/proc/meminfo", "utf8"))?.[1] ?? 0) * 1024;
const room = Math.min(available, fs.statfsSync("/dev/shm").bavail * fs.statfsSync("/dev/shm").bsize);
test(real, skipFor(real, room > 9 * GIB ? undefined : `needs 9 GiB of free memory for 4; ${(room / GIB).toFixed(1)} of ${(os.totalmem() / GIB).toFixed(1)} are free`), () => {
  const capacity = 4 * GIB + 8191;
  using one = SharedMemory.from("content", { capacity: 10 });
  one.setCapacity(capacity);
  assert.equal(one.capacity, capacity);
  const { size, blocks } = fs.statSync(pathOf(one.name));
  assert.ok(size > capacity && blocks * 512 > capacity);
  using other = SharedMemory.open(one.name);
  assert.deepEqual([other.capacity, text(other.read())], [capacity, "content"]);
  other.trim();
  assert.equal(one.capacity, 7);
  assert.ok(fs.statSync(pathOf(one.name)).blocks * 512 < 20_000, "given back");
});

const full = "a full /dev/shm is ENOSPC, and changes nothing";
const probe = process.getuid?.() === 0
  ? spawnSync("unshare", ["-m", "mount", "-t", "tmpfs", "-o", "size=64k", "holdfast-test", "/dev/shm"], { encoding: "utf8" })
  : undefined;
const refusal = probe === undefined
  ? "needs root, to mount a /dev/shm of its own"
  : probe.status === 0
  ? undefined
  : `no mount namespace can be had here: ${probe.stderr ?? probe.error}`;
test(full, skipFor(full, refusal), () => {
  const script = fileURLToPath(new URL("../support/shared_memory_full.ts", import.meta.url));
  const [executable, args] = commandLine(currentRuntime, script);
  const inside = 'mount -t tmpfs -o size=1m holdfast-test /dev/shm && exec "$0" "$@"';
  const { status, stdout, stderr } = spawnSync("unshare", ["-m", "sh", "-c", inside, executable, ...args], { encoding: "utf8", timeout: 30_000 });
  assert.equal(stdout, "ok\n", stderr);
  assert.equal(status, 0, stderr);
});

test("permissions: what another user may", skipFor("permissions: what another user may", process.getuid?.() === 0 ? undefined : "needs root, to be another user"), () => {
  const script = fileURLToPath(new URL("../support/shared_memory_nobody.ts", import.meta.url));
  using secret = SharedMemory.from("secret");
  using readable = SharedMemory.from("readable", { permissions: 0o644 });
  using shared = SharedMemory.from("shared", { permissions: 0o666 });
  fs.chmodSync(pathOf(shared.name), 0o666); // past the umask
  const { stdout, stderr } = spawnSync(...commandLine(currentRuntime, script, secret.name, readable.name, shared.name), { encoding: "utf8" });
  assert.deepEqual(JSON.parse(stdout || "null"), {
    secret: { open: "EACCES", listed: false },
    readable: { open: "EACCES", r: "readable", listed: true, retained: true, retainedAfter: false },
    shared: { open: "shared", listed: true, adopt: "ERR_OWNED", unlink: "EPERM" },
    reaped: [],
  }, stderr);
  assert.equal(text(shared.read()), "by nobody");
});
