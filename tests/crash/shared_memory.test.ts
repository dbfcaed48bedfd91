/**
 * Shared memory whose owners are killed: nothing is left after reap(), and nothing is taken from the living. Another run of these tests
 * on the same machine may reap what is orphaned here first, or be at it: so "gone after reap()" is what is asserted, not who did it, and
 * nothing lies there that nobody has a right to, not even for a moment, if it is to stay.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import * as fs from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { type MapError, SharedMemory, type SharedMemoryEntry } from "../../mod.ts";
import { lockKinds } from "../../lib/native/symbols.ts";
import { native } from "../../lib/native/native.ts";
import { assertThrows, mapError } from "../support/errors.ts";
import { atEnd } from "../support/cleanup.ts";
import { commandLine, currentRuntime, runtimeNames } from "../support/runtimes.ts";
import { reapUntilGone, sharedNames } from "../support/shared_memory_names.ts";
import { pathOf } from "../support/shared_memory_raw.ts";
import { skipFor } from "../support/skip.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const names = sharedNames();
const files = temporaryFiles();
const processes = children();
const find = (name: string): SharedMemoryEntry | undefined => SharedMemory.list().find((entry) => entry.name === name);
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

test("the object of a killed owner is shown as such, can be adopted, and is reaped", async () => {
  const [reaped, adopted, persistent] = [names.next(), names.next(), names.next()];
  const agent = processes.agent(currentRuntime);
  const make = (name: string, options: object): Promise<unknown> =>
    agent.send({ do: "static", class: "SharedMemory", method: "from", args: ["content", { name, ...options }], as: name });
  await make(reaped, {});
  await make(adopted, {});
  await make(persistent, { unlinkOnClose: false });
  using heir = SharedMemory.open(adopted);
  using _ = heir.retain();
  process.kill(agent.pid, "SIGSTOP");
  assert.deepEqual([find(reaped)?.owned, find(adopted)?.owned, find(persistent)?.owned], [true, true, false]);
  const kept = SharedMemory.reap();
  for (const name of [reaped, adopted, persistent]) assert.ok(!kept.includes(name) && fs.existsSync(pathOf(name)), "stopped is not dead");
  await agent.kill("SIGKILL");

  assert.notEqual(find(reaped)?.owned, true);
  assert.deepEqual([find(adopted)?.owned, find(adopted)?.retained], [false, true]);
  assertThrows(() => SharedMemory.create({ name: adopted }), mapError("EEXIST"));
  heir.adopt();
  const first = SharedMemory.reap();
  assert.deepEqual(reapUntilGone(reaped), []);
  assert.ok(!first.includes(adopted) && !first.includes(persistent));
  assert.deepEqual(names.left().sort(), [adopted, persistent].sort());
  assert.equal(text(heir.read()), "content");
  SharedMemory.unlink(persistent);
});

test("a killed retention is none; a living one keeps the object of a killed owner", async () => {
  const name = names.next();
  const owner = processes.agent(currentRuntime);
  await owner.send({ do: "static", class: "SharedMemory", method: "from", args: ["content", { name }], as: "s" });
  const holder = processes.agent(currentRuntime);
  await holder.send({ do: "static", class: "SharedMemory", method: "open", args: [name], as: "s" });
  await holder.send({ do: "call", on: "s", method: "retain", as: "r" });
  await owner.kill("SIGKILL");
  assert.ok(!SharedMemory.reap().includes(name));
  assert.deepEqual([find(name)?.owned, find(name)?.retained], [false, true]);
  await holder.kill("SIGKILL");
  assert.notEqual(find(name)?.retained, true);
  assert.deepEqual(reapUntilGone(name), []);
});

test("what an exception that nobody catches leaves is reaped, if it leaves anything", async () => {
  const name = names.next();
  const script = `import { SharedMemory } from ${JSON.stringify(new URL("../../mod.ts", import.meta.url).href)};
    SharedMemory.from("content", { name: "${name}" }); throw new Error("on purpose");`;
  const [executable, args] = commandLine(currentRuntime, "-");
  const child = spawn(executable, currentRuntime === "node" ? ["--disable-warning=ExperimentalWarning", "--input-type=module", "-"] : args, { stdio: ["pipe", "ignore", "ignore"] });
  child.stdin?.end(script);
  const [code] = (await once(child, "close")) as [number];
  assert.notEqual(code, 0);
  assert.deepEqual(reapUntilGone(name), []);
});

test("an unfinished object: its creator's while that lives, reaped after", () => {
  // As it is at each moment of create(): the empty file, and with the first bytes in it.
  using whole = SharedMemory.from("content");
  const bytes = fs.readFileSync(pathOf(whole.name));
  const name = `.hf-${randomBytes(12).toString("hex")}.tmp`;
  for (const length of [0, 60, 128, 520, bytes.byteLength]) {
    // Its lock first, under a name that nobody reaps: create() begins anew where it loses that race.
    const safe = pathOf(names.next());
    const fd = fs.openSync(safe, "wx+", 0o600);
    assert.equal(native().hf_lock_range(fd, 1, 1, lockKinds.EXCLUSIVE), 0);
    fs.writeSync(fd, bytes.subarray(0, length));
    fs.renameSync(safe, pathOf(name));
    assert.deepEqual(find(name), { name, size: 0, capacity: 0, owned: true, retained: false, persistent: false, unfinished: true });
    assert.ok(!SharedMemory.reap().includes(name));
    assert.ok(fs.existsSync(pathOf(name)));
    fs.closeSync(fd);
    assert.notEqual(find(name)?.owned, true);
    assert.deepEqual(reapUntilGone(name), [], `${length} bytes`);
  }
});

test("reap leaves alone what is not this library's, damaged, or at the gate", () => {
  const [foreign, damaged, gated] = [names.next(), names.next(), names.next()];
  fs.writeFileSync(pathOf(foreign), "something else");
  using whole = SharedMemory.from("content");
  const bytes = fs.readFileSync(pathOf(whole.name));
  fs.writeFileSync(pathOf(damaged), Buffer.from(bytes).fill(9, 512, 514));
  const fd = fs.openSync(pathOf(gated), "wx+", 0o600);
  assert.equal(native().hf_lock_range(fd, 0, 1, lockKinds.SHARED), 0);
  fs.writeSync(fd, bytes);
  const reaped = SharedMemory.reap();
  for (const name of [foreign, damaged, gated]) assert.ok(!reaped.includes(name) && fs.existsSync(pathOf(name)), name);
  fs.closeSync(fd);
  assert.deepEqual(reapUntilGone(gated), [], "an orphan, once nobody is at the gate");
  for (const name of [foreign, damaged]) fs.rmSync(pathOf(name));
});

const collected = "an owner that is collected takes its object with it";
const gc = (globalThis as { gc?: () => void; Bun?: { gc(force: boolean): void } }).Bun !== undefined
  ? (): void => (globalThis as unknown as { Bun: { gc(force: boolean): void } }).Bun.gc(true)
  : (globalThis as { gc?: () => void }).gc;
test(collected, async () => {
  const name = names.next();
  // Where no collection can be asked for, garbage brings one about.
  const collect = gc ?? ((): void => void Array.from({ length: 200 }, () => new Uint8Array(1 << 20)));
  (() => SharedMemory.from("content", { name }))();
  for (let i = 0; i < 200 && fs.existsSync(pathOf(name)); i++) {
    collect();
    await sleep(5);
  }
  assert.equal(fs.existsSync(pathOf(name)), false);
});

const terminated = "a Worker that is terminated loses its rights, whatever it had mapped";
const late = currentRuntime === "bun" ? "Bun leaves the descriptors of a terminated Worker open until the process ends" : undefined;
test(terminated, skipFor(terminated, late), async () => {
  const [owned, retained] = [names.next(), names.next()];
  const one = SharedMemory.from("content", { name: retained });
  const script = new URL("../support/shared_memory_worker.ts", import.meta.url);
  const worker = new Worker(script, { workerData: [owned, retained] });
  await once(worker, "message");
  assert.deepEqual([find(owned)?.owned, find(retained)?.retained], [true, true]);
  await worker.terminate();
  // Deno closes them some time after.
  for (let i = 0; i < 200 && (find(owned)?.owned === true || find(retained)?.retained === true); i++) await sleep(10);
  assert.equal(find(retained)?.retained, false);
  one.close();
  assert.equal(fs.existsSync(pathOf(retained)), false);
  assert.deepEqual(reapUntilGone(owned), []);
});

const storm = "kill -9 storm over three runtimes: nothing is left after reap(), nothing is taken from the living";
const running = new Set<ChildProcess>();
atEnd(() => running.forEach((child) => child.kill("SIGKILL")));
test(storm, skipFor(storm, currentRuntime === "node" ? undefined : "it starts all runtimes itself: run under Node only"), async () => {
  const script = fileURLToPath(new URL("../support/shared_memory_storm.ts", import.meta.url));
  const problems: string[] = [];
  let kills = 0;
  const start = async (i: number): Promise<ChildProcess> => {
    const child = spawn(...commandLine(runtimeNames[i % 3] as "bun", script, names.prefix, String(1000 + i)), { stdio: ["ignore", "pipe", "pipe"] });
    running.add(child);
    child.once("close", () => running.delete(child));
    child.stderr.setEncoding("utf8").on("data", (line: string) => line.includes("storm:") && problems.push(line));
    await Promise.race([once(child.stdout, "data"), once(child, "close")]);
    return child;
  };
  const kill = async (child: ChildProcess): Promise<void> => {
    if (child.exitCode !== null) return;
    const closed = once(child, "close");
    child.kill("SIGKILL");
    await closed;
    kills++;
  };
  const started = performance.now();
  // On a busy machine longer, until there were enough kills.
  const goesOn = (): boolean => performance.now() < started + (kills < 10 ? 20_000 : 2500);
  let next = 0;
  // Each lane has one process at a time, killed after a while.
  await Promise.all(Array.from({ length: 4 }, async () => {
    while (goesOn() && problems.length === 0) {
      const child = await start(next++);
      await sleep(20 + ((next * 37) % 150));
      await kill(child);
    }
  }));
  assert.deepEqual(problems, []);
  assert.ok(kills >= 10, `${kills} kills`);
  assert.deepEqual(reapUntilGone(...names.left()), []);
  const abandoned = (): SharedMemoryEntry[] =>
    SharedMemory.list().filter(({ owned, retained, persistent, error }) => !owned && !retained && !persistent && error === undefined);
  // Split off, or unfinished. Another run on the machine may leave some at any time.
  for (let i = 0; i < 100 && abandoned().length > 0; i++) SharedMemory.reap();
  assert.deepEqual(abandoned(), []);
  console.log(`# ${kills} processes were killed`);
});

const race = "of many processes that adopt one object, one wins; of many that create one name, one does";
test(race, async () => {
  const agents = Array.from({ length: 3 }, () => processes.agent(currentRuntime));
  try {
    for (let round = 0; round < 10; round++) {
      const [orphan, fresh] = [names.next(), names.next()];
      using one = SharedMemory.from("content", { name: orphan });
      const retention = one.retain();
      await Promise.all(agents.map((agent) => agent.send({ do: "static", class: "SharedMemory", method: "open", args: [orphan], as: "s" })));
      one.close();
      const settle = async (call: Promise<unknown>): Promise<string> => await call.then(() => "done", (error: MapError) => error.code);
      const adopted = await Promise.all(agents.map((agent) => settle(agent.send({ do: "call", on: "s", method: "adopt" }))));
      assert.deepEqual(adopted.sort(), ["ERR_OWNED", "ERR_OWNED", "done"]);
      retention[Symbol.dispose]();
      assert.ok(!SharedMemory.reap().includes(orphan) && fs.existsSync(pathOf(orphan)));
      const created = await Promise.all(agents.map((agent) => settle(agent.send({ do: "static", class: "SharedMemory", method: "create", args: [{ name: fresh }], as: "t" }))));
      assert.deepEqual(created.sort(), ["EEXIST", "EEXIST", "done"]);
      // The agent that lost has no "t" of this round: closing that of an earlier one again does nothing.
      await Promise.all(agents.flatMap((agent) => ["s", "t"].map((on) => settle(agent.send({ do: "call", on, method: "close" })))));
      assert.deepEqual(names.left(), []);
    }
  } finally {
    await Promise.all(agents.map((agent) => agent.kill()));
  }
});

test("retaining races with the owner's close: what was retained is there, and in the end nothing is", async () => {
  const name = names.next();
  const script = fileURLToPath(new URL("../support/shared_memory_race.ts", import.meta.url));
  const stop = files.next("stop");
  const owner = processes.script(currentRuntime, script, "own", name, stop);
  const endings = await Promise.all([1, 2].map(() => processes.script(currentRuntime, script, "retain", name, stop)));
  fs.writeFileSync(stop, "");
  for (const { code, stdout, stderr } of [await owner, ...endings]) {
    assert.equal(code, 0, stderr);
    const [rounds, vanished] = stdout.split(" ").map(Number) as [number, number];
    assert.ok(rounds >= 50, `${rounds} rounds`);
    assert.equal(vanished, 0, `of ${rounds}`);
  }
  assert.equal(fs.existsSync(pathOf(name)), false, "whoever was last has removed it, without reap()");
});
