/** Owners that live and do nothing, that can't be seen, or whose place another has by now: a lock goes by the kernel's word alone. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { CONSUMER_LOCK, PRODUCER_LOCK, SLOT_COUNT } from "../../lib/layout/queue.ts";
import { type Lease, Queue } from "../../mod.ts";
import { atEnd } from "../support/cleanup.ts";
import { assertThrows, mapError } from "../support/errors.ts";
import { commandLine, currentRuntime, type RuntimeName } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { AgentError, children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const child = children();
const HOLDER = fileURLToPath(new URL("stopped_holder.ts", import.meta.url));
const started = new Set<ChildProcess>();
const killAll = (): void => started.forEach((process) => process.kill("SIGKILL"));
atEnd(killAll, killAll);

/** A child whose lines can be waited for. */
function talker(executable: string, args: readonly string[]): { readonly process: ChildProcess; line(start: string): Promise<string> } {
  const process = spawn(executable, args, { stdio: ["ignore", "pipe", "inherit"] });
  started.add(process);
  process.on("close", () => started.delete(process));
  let said = "";
  process.stdout.setEncoding("utf8").on("data", (text: string) => (said += text));
  return {
    process,
    async line(start) {
      for (let waited = 0; ; waited += 5) {
        const line = said.split("\n").slice(0, -1).find((text) => text.startsWith(start));
        if (line !== undefined) return line;
        assert.ok(waited < 20_000, `no line "${start}", only: ${said}`);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
  };
}

const holder = (runtime: RuntimeName, ...args: string[]): ReturnType<typeof talker> => talker(...commandLine(runtime, HOLDER, ...args));

function lockWord(path: string, offset: number): number {
  const fd = fs.openSync(join(path, "control"), "r");
  try {
    const bytes = new DataView(new ArrayBuffer(8));
    fs.readSync(fd, bytes, 0, 8, offset);
    return Number(bytes.getBigUint64(0, true));
  } finally {
    fs.closeSync(fd);
  }
}

/** Waits for a process to be in state T of proc(5), stopped. */
async function untilStopped(pid: number): Promise<void> {
  while (!/\) T /.test(fs.readFileSync(`/proc/${pid}/stat`, "latin1"))) await new Promise((resolve) => setTimeout(resolve, 5));
}

const onlyNode = (name: string): ReturnType<typeof skipFor> =>
  skipFor(name, currentRuntime === "node" ? undefined : "it starts other runtimes, so it runs under Node only");

const stopped = "owners stopped inside push and inside pop: the others are told who, nothing is stolen, all go on after SIGCONT";
test(stopped, onlyNode(stopped), async () => {
  const path = files.next();
  using queue = Queue.open<string>(path, { codec: "text" });
  queue.pushMany(["a", "b", "c"]);
  const pusher = holder("node", path, "push", "hf_records_write", "stop");
  const popper = holder("bun", path, "pop", "hf_commit", "stop");
  await Promise.all([pusher.line("inside"), popper.line("inside")]);
  const pids = [pusher.process.pid as number, popper.process.pid as number] as const;
  await Promise.all(pids.map(untilStopped));
  const words = [lockWord(path, PRODUCER_LOCK), lockWord(path, CONSUMER_LOCK)] as const;
  assert.ok(words[0] > 0 && words[1] > 0, "each is stopped with its lock");

  const agents = [child.agent("bun"), child.agent("deno")] as const;
  for (const agent of agents) await agent.send({ do: "open", as: "q", kind: "Queue", path, options: { codec: "text" } });
  const began = performance.now();
  const refused = async (index: 0 | 1, method: string, args: string[]): Promise<void> => {
    await assert.rejects(agents[index].send({ do: "call", on: "q", method, args }), (error) => {
      assert.ok(error instanceof AgentError && error.code === "ERR_LOCKED", String(error));
      assert.match(error.message, new RegExp(`pid ${pids[index]}, .*slot ${words[index] % SLOT_COUNT}\\b`));
      return true;
    });
    const took = performance.now() - began;
    assert.ok(took > 9_900 && took < 13_000, `${took} ms`);
  };
  // Looking needs no lock.
  assert.equal(queue.length, 3);
  assert.deepEqual([...queue], ["a", "b", "c"]);
  await Promise.all([refused(0, "push", ["refused"]), refused(1, "pop", [])]);
  assert.deepEqual([lockWord(path, PRODUCER_LOCK), lockWord(path, CONSUMER_LOCK)], words, "nothing was stolen");
  assert.equal(queue.length, 3);

  // These wait when the owners go on.
  const waiting = [agents[0].send({ do: "call", on: "q", method: "push", args: ["after"] }), agents[1].send({ do: "call", on: "q", method: "pop" })];
  await new Promise((resolve) => setTimeout(resolve, 100));
  for (const pid of pids) process.kill(pid, "SIGCONT");
  assert.equal(await pusher.line("pushed"), "pushed true");
  assert.equal(await popper.line("popped"), "popped a");
  assert.deepEqual(await Promise.all(waiting), [true, "b"]);
  assert.deepEqual(queue.popMany(9), ["c", "stopped", "after"]);
  assert.deepEqual([lockWord(path, PRODUCER_LOCK), lockWord(path, CONSUMER_LOCK)], [0, 0]);
  await Promise.all(agents.map((agent) => agent.end()));
  console.log(`# stopped owners: ERR_LOCKED after ${((performance.now() - began) / 1000).toFixed(1)} s, naming pid and slot; nothing stolen`);
});

/** A process id that nothing has outside, for a process in a namespace of its own; it gets the one after this. */
function unusedPid(): number {
  for (let pid = 30_000; pid > 1000; pid--) if (!fs.existsSync(`/proc/${pid}`) && !fs.existsSync(`/proc/${pid + 1}`)) return pid;
  throw new Error("all process ids are in use");
}

/** The command that runs another in a PID namespace of its own; undefined where that is not permitted. */
function unshare(): readonly [string, ...string[]] | undefined {
  for (const flags of [["-p", "-f"], ["-U", "-r", "-p", "-f"]]) {
    const { status } = spawnSync("unshare", [...flags, "sh", "-c", "echo 20000 > /proc/sys/kernel/ns_last_pid"], { stdio: "ignore" });
    if (status === 0) return ["unshare", ...flags, "--kill-child", "sh", "-c", `echo ${unusedPid()} > /proc/sys/kernel/ns_last_pid; "$@" & wait`, "sh"];
  }
  return undefined;
}

const apart = "processes in PID namespaces of their own: alive, though their ids are nobody's here, and dead when they are";
const namespaced = currentRuntime === "node" ? unshare() : undefined;
const noNamespaces = currentRuntime === "node" ? "unshare(1) may not make a PID namespace here" : "it starts other runtimes, so it runs under Node only";
test(apart, skipFor(apart, namespaced === undefined ? noNamespaces : undefined), async () => {
  const [executable, ...first] = namespaced as readonly [string, ...string[]];
  const inside = (runtime: RuntimeName, ...args: string[]): ReturnType<typeof talker> => {
    const [command, options] = commandLine(runtime, HOLDER, ...args);
    return talker(executable, [...first, command, ...options]);
  };
  const path = files.next();
  using queue = Queue.open<string>(path, { codec: "text" });
  queue.pushMany(["a", "b", "c"]);
  const lease = queue.lease();
  const other = inside("bun", path, "lease");
  const said = await other.line("leased");
  const pid = Number(said.split(" ").at(-1));
  assert.match(said, /^leased b pid/, "what this process has leased is not offered there, though it can't see this process");
  assert.ok(!fs.existsSync(`/proc/${pid}`), `${pid} means nobody here`);
  assert.equal(queue.pop(), "c", "its record is not offered here");
  assert.equal(queue.pop(), undefined);

  // It holds the lock for half a second, some hundred looks at it long.
  const slow = inside("bun", path, "push", "hf_records_write", "500");
  await slow.line("inside");
  const began = performance.now();
  assert.equal(queue.push("after"), true);
  assert.ok(performance.now() - began > 200, "waited for");
  assert.equal(await slow.line("pushed"), "pushed true");

  const gone = new Promise((resolve) => other.process.on("close", resolve));
  other.process.kill("SIGKILL");
  await gone;
  let again: Lease<string> | undefined;
  for (let waited = 0; again === undefined && waited < 5000; waited += 10) {
    again = queue.lease();
    if (again?.value !== "b") {
      again?.release();
      again = undefined;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
  assert.deepEqual([again?.value, again?.attempts], ["b", 2], "dead now: handed out again");
  again?.ack();
  lease?.ack();
  assert.deepEqual(queue.popMany(9), ["stopped", "after"]);
});

const many = "200 handles in four processes, three of them killed: every lease comes back, every slot is used again";
test(many, onlyNode(many), async () => {
  const path = files.next();
  const EACH = 50;
  using queue = Queue.open<string>(path, { codec: "text" });
  const names: string[] = [];
  const agents = (["node", "bun", "deno"] as const).map((runtime) => child.agent(runtime));
  for (const agent of agents) {
    for (let i = 0; i < EACH; i++) {
      const as = `q${i}`;
      await agent.send({ do: "open", as, kind: "Queue", path, options: { codec: "text" } });
      const name = `${agent.runtime} ${i}`;
      names.push(name);
      await agent.send({ do: "call", on: as, method: "push", args: [name] });
      await agent.send({ do: "call", on: as, method: "lease", as: `lease${i}` });
    }
  }
  assert.equal(queue.length, 3 * EACH);
  assert.equal(queue.lease(), undefined, "all are leased, all holders live");
  await Promise.all(agents.map((agent) => agent.kill()));
  // These have the slots of the dead, and are others.
  const handles = Array.from({ length: 3 * EACH }, () => Queue.open<string>(path, { codec: "text" }));
  const leases = handles.map((handle) => handle.lease());
  assert.deepEqual(leases.map((lease) => lease?.value), names);
  assert.ok(leases.every((lease) => lease?.attempts === 2));
  assert.equal(queue.lease(), undefined);
  for (const lease of leases) lease?.ack();
  assert.equal(queue.length, 0);
  for (const handle of handles) handle.close();
});

test("the next holder of a slot is not the one before it", () => {
  const path = files.next();
  using watcher = Queue.open<string>(path, { codec: "text" });
  watcher.pushMany(["a", "b"]);
  const first = Queue.open<string>(path, { codec: "text" });
  const leases = [first.lease(), first.lease()];
  first.close();
  using second = Queue.open<string>(path, { codec: "text" });
  assertThrows(() => leases[0]?.ack(), mapError("ERR_CLOSED"));
  // To itself, and to others, who find the slot's lock held.
  for (const [queue, value] of [[second, "a"], [watcher, "b"]] as const) {
    const again = queue.lease();
    assert.deepEqual([again?.value, again?.attempts], [value, 2]);
    again?.ack();
  }
});

test("a lock that an earlier call of the same handle left is taken at once", () => {
  const path = files.next();
  using queue = Queue.open<string>(path, { codec: "text" });
  queue.push("a");
  const fd = fs.openSync(join(path, "control"), "r+");
  // Slot 0, generation 1: this handle. An exception in the middle, a stack overflow say, can leave it.
  for (const lock of [PRODUCER_LOCK, CONSUMER_LOCK]) fs.writeSync(fd, new Uint8Array(new BigUint64Array([BigInt(SLOT_COUNT)]).buffer), 0, 8, lock);
  fs.closeSync(fd);
  assert.equal(queue.push("b"), true);
  assert.deepEqual(queue.popMany(9), ["a", "b"]);
});

test("a handle that was given its own late lease again can't settle it by the first one", async () => {
  using queue = Queue.open<string>(files.next(), { codec: "text" });
  queue.push("a");
  const first = queue.lease({ leaseMs: 1 });
  await new Promise((resolve) => setTimeout(resolve, 10));
  const second = queue.lease();
  assert.deepEqual([second?.value, second?.attempts], ["a", 2]);
  assertThrows(() => first?.ack(), mapError("ERR_STALE_LEASE"));
  assert.equal(queue.length, 1);
  second?.ack();
  assert.equal(queue.length, 0);
});
