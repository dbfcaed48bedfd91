/** Looking from the back, statistics, clearing, compacting, and queues that go with their handle. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { native } from "../../lib/native/native.ts";
import { Queue, type QueueOptions } from "../../mod.ts";
import { assertThrows, mapError, typeError } from "../support/errors.ts";
import { commandLine, currentRuntime } from "../support/runtimes.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const processes = children();
const MODULE = JSON.stringify(new URL("../../mod.ts", import.meta.url).href);

/** A queue of texts with small segments, two of 4,096 bytes at first. */
function small(path: string = files.next("queue"), options: QueueOptions<string> = {}): Queue<string> {
  return Queue.open<string>(path, { codec: "text", capacityBytes: 8192, ...options });
}

const numbered = (count: number, bytes = 500): string[] => Array.from({ length: count }, (_, i) => `${i} `.padEnd(bytes, "x"));
const numberOf = (value: string | undefined): number => Number(value?.split(" ")[0]);
/** For messages that can be read. */
const short = (value: string | undefined): string => `${value?.slice(0, 8)}… ${value?.length}`;

test("peekBack is the record that was pushed last", () => {
  using queue = small();
  assert.equal(queue.peekBack(), undefined);
  queue.push("a");
  assert.equal(queue.peekBack(), "a", "also if it is the only one");
  assert.equal(queue.peek(), "a");
  queue.pushMany(["b", "", "c"]);
  assert.equal(queue.peekBack(), "c");
  assert.equal(queue.length, 4, "looking removes nothing");
  queue.popMany(3);
  assert.equal(queue.peekBack(), "c");
  const lease = queue.lease();
  assert.equal(queue.peek(), undefined, "nothing to hand out");
  assert.equal(queue.peekBack(), "c", "leased records are in the queue");
  lease?.ack();
  assert.equal(queue.peekBack(), undefined);
  queue.push("d".repeat(20_000));
  assert.equal(queue.peekBack()?.length, 20_000, "one that has a segment of its own");
});

test("reversed gives everything from back to front, over segments and leases", () => {
  using queue = small();
  assert.deepEqual([...queue.reversed()], []);
  // The first record does not fit into the first segment: that one stays empty.
  const values = ["9 ".padEnd(9000, "y"), ...numbered(30), "8 ".padEnd(50_000, "z"), ...numbered(40, 900), ""];
  queue.pushMany(values);
  assert.deepEqual([...queue.reversed()].map(short), values.toReversed().map(short));
  assert.deepEqual([...queue], values, "and forwards as before");
  const leases = Array.from({ length: 5 }, () => queue.lease());
  assert.deepEqual([...queue.reversed()], values.toReversed(), "leased ones are there");
  leases[1]?.ack();
  leases[3]?.release();
  assert.deepEqual([...queue.reversed()].map(short), values.toSpliced(1, 1).toReversed().map(short));
  queue.popMany(20);
  // Record 3, which was given back, and 19 others.
  const left = [values[0], values[2], values[4], ...values.slice(24)];
  assert.deepEqual([...queue.reversed()].map(short), left.toReversed().map(short));
  assert.deepEqual([...queue.reversed()], [...queue].toReversed());
});

test("entries have the sequences, in either direction", () => {
  using queue = small();
  assert.deepEqual([...queue.entries()], []);
  queue.pushMany(numbered(30));
  queue.popMany(4);
  const [lease, other] = [queue.lease(), queue.lease()];
  lease?.ack();
  const expected = [...queue].map((value) => [numberOf(value) + 1, value]);
  assert.equal(expected.length, 25);
  assert.deepEqual([...queue.entries()], expected);
  assert.deepEqual([...queue.entries({ reverse: true })], expected.toReversed());
  other?.release();
  // What is new since a sequence: from the back.
  const fresh = [];
  queue.pushMany(["a", "b"]);
  for (const [sequence, value] of queue.entries({ reverse: true })) {
    if (sequence <= 30) break;
    fresh.unshift([sequence, value]);
  }
  assert.deepEqual(fresh, [[31, "a"], [32, "b"]]);
  assertThrows(() => queue.entries({ backwards: true } as never), typeError(/"backwards"/));
  queue.close();
  assertThrows(() => queue.entries(), mapError("ERR_CLOSED"));
});

test("reversed may be left early, and begun anew", () => {
  using queue = small();
  queue.pushMany(numbered(20));
  for (const value of queue.reversed()) {
    assert.equal(numberOf(value), 19);
    break;
  }
  const [first, second] = queue.reversed();
  assert.deepEqual([numberOf(first), numberOf(second)], [19, 18]);
});

test("a walk backwards goes on while others push and pop, in order, none twice", () => {
  const path = files.next("queue");
  using queue = small(path);
  using other = small(path);
  for (const removed of [0, 1, 3, 10]) {
    queue.clear();
    queue.pushMany(numbered(200));
    let last = 200;
    let seen = 0;
    let gone = 0;
    for (const value of queue.reversed()) {
      assert.equal(value, `${numberOf(value)} `.padEnd(500, "x"));
      assert.ok(numberOf(value) < last, "descending");
      last = numberOf(value);
      seen++;
      gone += other.popMany(Math.max(1, removed)).length * Math.min(1, removed);
      // The segments that become free are used again at once.
      other.pushMany(["-1 ".padEnd(500, "y"), "-2 ".padEnd(500, "y")]);
    }
    // What nobody had removed must have come.
    if (removed === 0) assert.ok(seen > 0);
    else assert.ok(seen >= 200 / (1 + removed), `${seen} seen`);
    assert.ok(last < 200 && gone >= 0);
  }
});

test("a walk backwards ends where everything was removed under it", () => {
  const path = files.next("queue");
  using queue = small(path);
  using other = small(path);
  queue.pushMany(numbered(100));
  const walk = queue.reversed();
  assert.equal(numberOf(walk.next().value), 99);
  other.clear();
  other.pushMany(numbered(100).map((value) => value.replaceAll("x", "y")));
  // The rest of the segment may still be there; nothing of the second hundred is.
  for (const value of walk) assert.equal(value.at(-1), "x");
  assert.deepEqual([...queue.reversed()].map(numberOf), Array.from({ length: 100 }, (_, i) => 99 - i));
});

test("walks backwards while another process pushes and pops without a pause: never a wrong payload", async () => {
  const path = files.next("queue");
  using queue = small(path);
  const script = files.file(
    `import { Queue } from ${MODULE};
     using queue = Queue.open(${JSON.stringify(path)}, { codec: "text" });
     const end = Date.now() + 1500;
     let n = 0;
     while (Date.now() < end) {
       for (let i = 0; i < 40; i++) queue.push(\`\${n++} \`.padEnd(100 + n % 900, String.fromCharCode(97 + n % 26)));
       while (queue.length > 60) queue.pop();
       if (n % 4000 === 0) queue.clear();
     }
     console.log(n);`,
    "churn.ts",
  );
  const ended = processes.script(currentRuntime, script);
  let over = false;
  void ended.then(() => (over = true));
  let seen = 0;
  let walks = 0;
  while (!over) {
    for (let i = 0; i < 20; i++) {
      let last = Infinity;
      for (const value of queue.reversed()) {
        const n = numberOf(value);
        assert.equal(value, `${n} `.padEnd(100 + ((n + 1) % 900), String.fromCharCode(97 + ((n + 1) % 26))));
        assert.ok(n < last);
        last = n;
        seen++;
      }
      walks++;
      queue.peekBack();
    }
    await new Promise((resolve) => setTimeout(resolve));
  }
  const { code, stdout, stderr } = await ended;
  assert.equal(code, 0, stderr);
  assert.ok(Number(stdout) > 1000 && walks > 20 && seen > 1000, `${stdout} pushed, ${walks} walks, ${seen} seen`);
});

test("damage is reported backwards, too, behind what is whole", () => {
  for (const what of ["payload", "trailer", "segment"] as const) {
    const path = files.next("queue");
    small(path).close();
    {
      using queue = small(path);
      queue.pushMany(numbered(20));
    }
    const segment = join(path, "segment-1");
    const bytes = fs.readFileSync(segment);
    const at = bytes.indexOf(" xxx", bytes.indexOf(" xxx", 800) + 400);
    if (what === "payload") bytes.writeUInt8(bytes.readUInt8(at + 3) ^ 1, at + 3);
    // Of the record before: its length once more, 8 bytes before the checksum of the next.
    if (what === "trailer") bytes.writeUInt32LE(64, 256 + 3 * 536 - 8);
    if (what === "segment") bytes.writeBigUInt64LE(12n, 136);
    fs.writeFileSync(segment, bytes);
    using queue = small(path);
    const seen: number[] = [];
    assertThrows(() => {
      for (const value of queue.reversed()) seen.push(numberOf(value));
    }, mapError("ERR_CORRUPT"), what);
    assert.ok(seen.length >= 13 && seen.length < 20, `${what}: ${seen}`);
    assert.deepEqual(seen, Array.from(seen, (_, i) => 19 - i));
    assert.equal(numberOf(queue.peekBack()), 19);
  }
});

test("damage of a record that was consumed under the walk is reported if its segment is still there", () => {
  const path = files.next("queue");
  using queue = small(path);
  using other = small(path);
  queue.pushMany(numbered(20));
  using lease = other.lease(); // keeps the first segment
  const walk = queue.reversed();
  walk.next();
  other.popMany(12);
  const file = fs.openSync(join(path, "segment-1"), "r+");
  fs.writeSync(file, new TextEncoder().encode("damage"), 0, 6, 256 + 5 * 536 + 100);
  fs.closeSync(file);
  const seen: number[] = [];
  assertThrows(() => {
    for (const value of walk) seen.push(numberOf(value));
  }, mapError("ERR_CORRUPT", /record 6 /));
  assert.equal(seen.at(-1), 6);
  assert.equal(lease?.attempts, 1);
});

test("mode r looks from the back and at the statistics, and changes nothing", () => {
  const path = files.next("queue");
  using queue = small(path);
  queue.pushMany(numbered(20));
  using reader = small(path, { mode: "r" });
  assert.equal(numberOf(reader.peekBack()), 19);
  assert.equal([...reader.reversed()].length, 20);
  const { length, handles } = reader.stats();
  assert.equal(length, 20);
  assert.deepEqual(handles.map(({ own }) => own), [false], "a reader holds no slot");
  assertThrows(() => reader.clear(), mapError("ERR_READ_ONLY"));
  assertThrows(() => reader.compact(), mapError("ERR_READ_ONLY"));
  assert.equal(queue.length, 20);
});

test("stats: what is in the queue, what went through it, and its files", () => {
  const path = files.next("queue");
  using queue = small(path);
  const empty = queue.stats();
  assert.deepEqual({ ...empty, handles: [], fileBytes: 0 }, {
    length: 0,
    leased: 0,
    released: 0,
    byteLength: 0,
    maxByteLength: undefined,
    pushed: 0,
    pushedBytes: 0,
    popped: 0,
    poppedBytes: 0,
    oldestSequence: undefined,
    nextSequence: 1,
    segments: 1,
    segmentBytes: 4096,
    spares: 1,
    fileBytes: 0,
    handles: [],
  });
  queue.pushMany(numbered(30));
  queue.popMany(4);
  const leases = [queue.lease(), queue.lease(), queue.lease()];
  queue.pop();
  leases[1]?.ack();
  leases[2]?.release();
  const stats = queue.stats();
  const { handles, ...rest } = stats;
  assert.deepEqual(rest, {
    length: 24,
    leased: 2,
    released: 1,
    byteLength: queue.byteLength,
    maxByteLength: undefined,
    pushed: 30,
    pushedBytes: 30 * 536,
    popped: 6,
    poppedBytes: 6 * 536,
    oldestSequence: 5,
    nextSequence: 31,
    segments: fs.readdirSync(path).filter((name) => name.startsWith("segment-")).length - rest.spares,
    segmentBytes: 4096,
    spares: rest.spares,
    fileBytes: fs.readdirSync(path).reduce((sum, name) => sum + fs.statSync(join(path, name)).size, 0),
  });
  assert.equal(stats.segments, 5);
  assert.equal(queue.byteLength, 24 * 536);
  assert.deepEqual(handles.map(({ pid, own, leases }) => ({ pid, own, leases })), [{ pid: process.pid, own: true, leases: 1 }]);
  using fixed = small(undefined, { fixedSize: true });
  assert.equal(fixed.stats().maxByteLength, 8192);
});

test("stats: living handles, by the kernel's word", async () => {
  const path = files.next("queue");
  using queue = small(path);
  queue.pushMany(["a", "b", "c"]);
  const second = small(path);
  second.lease();
  assert.deepEqual(queue.stats().handles.map(({ own, leases }) => [own, leases]), [[true, 0], [false, 1]]);
  const agent = processes.agent(currentRuntime);
  await agent.send({ do: "open", as: "q", kind: "Queue", path, options: { codec: "text" } });
  await agent.send({ do: "call", on: "q", method: "lease", as: "lease" });
  const { handles, released } = queue.stats();
  assert.deepEqual(handles.map(({ pid, slot, leases }) => [pid, slot, leases]), [[process.pid, 0, 0], [process.pid, 1, 1], [agent.pid, 2, 1]]);
  assert.equal(released, 0);
  second.close();
  await agent.kill();
  const after = queue.stats();
  assert.deepEqual(after.handles.map(({ own }) => own), [true], "the closed one and the killed one are gone");
  assert.deepEqual([after.leased, after.released, after.length], [2, 2, 3]);
});

test("clear removes everything, leased records too, and says how many", () => {
  const path = files.next("queue");
  using queue = small(path);
  using other = small(path);
  assert.equal(queue.clear(), 0);
  queue.pushMany(numbered(100));
  const mine = queue.lease();
  const theirs = other.lease();
  other.lease()?.release();
  queue.pop();
  assert.equal(queue.clear(), 99);
  for (const handle of [queue, other]) {
    assert.deepEqual([handle.length, handle.byteLength, handle.isEmpty, handle.peek(), handle.peekBack(), handle.pop()], [0, 0, true, undefined, undefined, undefined]);
    assert.deepEqual([...handle, ...handle.reversed()], []);
  }
  assert.ok(fs.readdirSync(path).length <= 3, "the segments were given up");
  assertThrows(() => mine?.ack(), mapError("ERR_STALE_LEASE"));
  assertThrows(() => theirs?.release(), mapError("ERR_STALE_LEASE"));
  other.pushMany(["a", "b"]);
  assert.deepEqual([...queue.reversed()], ["b", "a"]);
  const again = queue.lease();
  assert.deepEqual([again?.value, again?.attempts], ["a", 1]);
  assertThrows(() => mine?.ack(), mapError("ERR_STALE_LEASE"), "its entry in the table is another's by now");
  again?.ack();
  assert.equal(other.pop(), "b");
  const { pushed, popped, leased } = queue.stats();
  assert.deepEqual([pushed, popped, leased], [102, 102, 0]);
  assert.ok(Queue.verify(path).ok, String(Queue.verify(path)));
});

test("clear makes room in a full queue", () => {
  using queue = small(undefined, { fixedSize: true });
  while (queue.push("x".repeat(300)));
  const count = queue.length;
  assert.equal(queue.clear(), count);
  for (let i = 0; i < count; i++) assert.equal(queue.push("y".repeat(300)), true);
  assert.equal(queue.push("y".repeat(300)), false);
});

test("others go on while clear removes many files", () => {
  const path = files.next("queue");
  using queue = Queue.open<string>(path, { codec: "text", capacityBytes: 8192 });
  using other = Queue.open<string>(path, { codec: "text" });
  queue.pushMany(Array.from({ length: 60 }, () => "x".repeat(3000)));
  assert.ok(fs.readdirSync(path).length > 60);
  const functions = native() as unknown as Record<string, (...args: number[]) => number>;
  const { hf_unlock: unlock, hf_unmap: unmap } = functions as { hf_unlock: (...args: number[]) => number; hf_unmap: (...args: number[]) => number };
  let released = false;
  let popped: string | undefined;
  let left = 0;
  functions.hf_unlock = (...args) => {
    released = true;
    return unlock(...args);
  };
  // One of the files that are removed is still mapped.
  functions.hf_unmap = (...args) => {
    if (released && popped === undefined) {
      popped = "";
      left = fs.readdirSync(path).length;
      other.push("meanwhile");
      popped = other.pop();
    }
    return unmap(...args);
  };
  try {
    assert.equal(queue.clear(), 60);
  } finally {
    Object.assign(functions, { hf_unlock: unlock, hf_unmap: unmap });
  }
  assert.equal(popped, "meanwhile");
  assert.ok(left > 3, `${left} files were left`);
  assert.equal(fs.readdirSync(path).length, 3);
});

test("clear is for who may consume", () => {
  const path = files.next("queue");
  using exclusive = small(path, { exclusive: true });
  exclusive.push("a");
  assert.equal(exclusive.pop(), "a");
  exclusive.push("b");
  using other = small(path);
  using standby = small(path, { exclusive: true });
  assertThrows(() => other.clear(), mapError("ERR_LOCKED"));
  assertThrows(() => standby.clear(), mapError("ERR_LOCKED"));
  assert.equal(exclusive.clear(), 1);
});

test("clear refuses a queue whose chain of segments is damaged, and changes nothing", () => {
  const path = files.next("queue");
  using queue = small(path);
  queue.pushMany(numbered(40));
  const file = fs.openSync(join(path, "segment-2"), "r+");
  const damage = new Uint8Array(8).fill(3);
  damage[7] = 0;
  fs.writeSync(file, damage, 0, 8, 144);
  fs.closeSync(file);
  assertThrows(() => queue.clear(), mapError("ERR_CORRUPT"));
  assert.equal(queue.length, 40);
});

test("compact gives back spares and files that nobody refers to", () => {
  const path = files.next("queue");
  const bytesOnDisk = (): number => fs.readdirSync(path).reduce((sum, name) => sum + fs.statSync(join(path, name)).size, 0);
  using queue = small(path, { capacityBytes: 65_536 });
  const first = bytesOnDisk();
  const values = Array.from({ length: 400 }, () => "v".repeat(3000));
  queue.pushMany(values);
  assert.ok(bytesOnDisk() > 1_000_000);
  // What a process that died at the wrong moment leaves.
  fs.copyFileSync(join(path, "segment-1"), join(path, "segment-4000000"));
  fs.writeFileSync(join(path, "notes.txt"), "not ours");
  queue.compact();
  assert.ok(!fs.existsSync(join(path, "segment-4000000")));
  assert.equal(fs.readFileSync(join(path, "notes.txt"), "utf8"), "not ours");
  fs.rmSync(join(path, "notes.txt"));
  assert.equal(queue.stats().spares, 0);
  assert.deepEqual([...queue], values, "nothing is lost");
  const lease = queue.lease();
  assert.equal(queue.popMany(500).length, 399);
  lease?.release();
  queue.compact();
  assert.equal(queue.pop(), values[0], "a leased record keeps its segment");
  queue.compact();
  assert.ok(bytesOnDisk() < first, `${bytesOnDisk()} bytes are left of ${first}`);
  assert.deepEqual(fs.readdirSync(path).length, 2);
  // And it goes on as before.
  for (let round = 0; round < 3; round++) {
    assert.equal(queue.pushMany(values), 400);
    assert.deepEqual(queue.popMany(400), values);
    queue.compact();
  }
});

test("compact of an empty queue leaves a segment that was made for a large record", () => {
  for (const [options, spares] of [[{}, 0], [{ fixedSize: true }, 1]] as const) {
    const path = files.next("queue");
    using queue = small(path, { capacityBytes: 10_000, ...options });
    using other = small(path);
    for (let round = 0; round < 3; round++) {
      queue.push("a");
      queue.push("b".repeat(9900));
      assert.equal(queue.clear(), 2);
      queue.compact();
      const { segments, segmentBytes, fileBytes, spares: free } = queue.stats();
      assert.deepEqual([segments, free], [1, spares]);
      assert.ok(Queue.verify(path).ok, String(Queue.verify(path)));
      assert.ok(Math.max(...fs.readdirSync(path).filter((name) => name !== "control").map((name) => fs.statSync(join(path, name)).size)) === segmentBytes, String(fileBytes));
      assert.deepEqual([other.length, other.peek(), other.peekBack(), other.pop(), ...other, ...other.reversed()], [0, undefined, undefined, undefined]);
      other.pushMany(["c", "d"]);
      assert.deepEqual([...queue], ["c", "d"]);
      assert.deepEqual([...queue.reversed()], ["d", "c"]);
      assert.deepEqual([queue.pop(), queue.lease()?.value], ["c", "d"]);
      // Not empty: nothing is left, and nothing lost.
      queue.compact();
      assert.equal(queue.clear(), 1);
    }
  }
});

test("compact leaves a queue of fixed size its storage", () => {
  const path = files.next("queue");
  using queue = small(path, { fixedSize: true });
  queue.compact();
  assert.deepEqual([queue.stats().segments, queue.stats().spares], [1, 1]);
});

test("other handles go on after a compaction", () => {
  const path = files.next("queue");
  using queue = small(path);
  using other = small(path);
  for (let round = 0; round < 5; round++) {
    other.pushMany(numbered(50));
    assert.equal([...other.reversed()].length, 50);
    queue.popMany(20);
    queue.compact();
    assert.deepEqual(other.popMany(100).map(numberOf), Array.from({ length: 30 }, (_, i) => i + 20));
    other.compact();
  }
});

test("autoUnlink removes the queue with its handle", () => {
  const path = files.next("queue");
  const queue = small(path, { autoUnlink: true });
  queue.pushMany(numbered(50));
  queue.close();
  assert.ok(!fs.existsSync(path));
  assert.deepEqual(fs.readdirSync(files.folder).filter((name) => name.includes(".tmp")), [], "nothing is left beside it");
  queue.close();
  // Also one that was there before.
  small(path).close();
  small(path, { autoUnlink: true }).close();
  assert.ok(!fs.existsSync(path));
  assertThrows(() => small(path, { autoUnlink: 1 as never }), typeError(/autoUnlink/));
});

test("autoUnlink: other handles go on with what they have mapped, or get ESTALE", () => {
  const path = files.next("queue");
  const queue = small(path, { autoUnlink: true });
  using other = small(path);
  other.push("a");
  queue.close();
  assert.equal(other.push("b"), true);
  assert.deepEqual([other.pop(), other.pop(), other.pop()], ["a", "b", undefined]);
  assertThrows(() => {
    for (let i = 0; i < 100; i++) other.push("x".repeat(500));
  }, mapError("ESTALE", /is gone/));
  assertThrows(() => other.stats(), mapError("ESTALE"));
  using next = small(path);
  next.push("new");
  assertThrows(() => other.push("x".repeat(5000)), mapError("ESTALE", /another queue/));
  assert.deepEqual([...next], ["new"]);
});

test("autoUnlink leaves alone what is not the queue's", () => {
  const path = files.next("queue");
  const queue = small(path, { autoUnlink: true });
  fs.writeFileSync(join(path, "notes.txt"), "not ours");
  fs.mkdirSync(join(path, "segment-99"));
  queue.push("a");
  queue.close();
  assert.deepEqual(fs.readdirSync(path).sort(), ["notes.txt", "segment-99"]);

  const moved = files.next("queue");
  const second = small(moved, { autoUnlink: true });
  fs.renameSync(moved, `${moved}-away`);
  small(moved).close();
  second.close();
  for (const place of [moved, `${moved}-away`]) small(place, { mode: "r" }).close();

  // The same directory, another queue in it.
  const reused = files.next("queue");
  const third = small(reused, { autoUnlink: true });
  small(`${reused}-other`).close();
  for (const name of fs.readdirSync(reused)) fs.rmSync(join(reused, name));
  for (const name of fs.readdirSync(`${reused}-other`)) fs.renameSync(join(`${reused}-other`, name), join(reused, name));
  third.close();
  small(reused, { mode: "r" }).close();
});

test("autoUnlink removes the queue at exit, wherever the program is by then", () => {
  const folder = files.next("folder");
  fs.mkdirSync(folder);
  const script = files.file(
    `import { Queue } from ${MODULE};
     process.chdir(${JSON.stringify(folder)});
     globalThis.kept = Queue.open("kept", { autoUnlink: true });
     kept.push(1);
     process.chdir("/");
     console.log(kept.length);`,
    "exit.ts",
  );
  const ended = spawnSync(...commandLine(currentRuntime, script), { encoding: "utf8" });
  assert.deepEqual([ended.status, ended.stdout], [0, "1\n"], ended.stderr);
  assert.deepEqual(fs.readdirSync(folder), []);
});

test("after close everything here is ERR_CLOSED", () => {
  const queue = small();
  queue.pushMany(["a", "b"]);
  const walk = queue.reversed();
  walk.next();
  queue.close();
  for (const use of [() => queue.peekBack(), () => queue.reversed(), () => walk.next(), () => queue.stats(), () => queue.clear(), () => queue.compact()]) {
    assertThrows(use, mapError("ERR_CLOSED"), use.toString());
  }
});

test("a program may transfer the buffer of a value: what comes later is whole", () => {
  using queue = Queue.open<Uint8Array>(files.next("queue"), { codec: "bytes" });
  const values = Array.from({ length: 40 }, (_, i) => new Uint8Array(64).fill(i));
  queue.pushMany(values);
  const taken: (number | undefined)[] = [];
  const transfer = ({ buffer, byteOffset }: Uint8Array): void => {
    const moved = structuredClone(buffer as ArrayBuffer, { transfer: [buffer as ArrayBuffer] });
    taken.push(new Uint8Array(moved, byteOffset)[63]);
  };
  for (let i = 0; i < 10; i++) transfer(queue.pop() as Uint8Array);
  transfer(queue.popMany(10).at(-1) as Uint8Array);
  transfer(queue.peek() as Uint8Array);
  transfer(queue.peekBack() as Uint8Array);
  transfer([...queue].at(-1) as Uint8Array);
  queue.tryPop(transfer);
  assert.deepEqual(taken, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 19, 20, 39, 39, 20]);
  assert.deepEqual(queue.popMany(100).map((value) => value[0]), Array.from({ length: 19 }, (_, i) => 21 + i));
});
