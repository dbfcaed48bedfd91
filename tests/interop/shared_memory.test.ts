/**
 * Shared memory between runtimes and languages. Each runner tests the pairs whose creator it is itself, so that the three runners together
 * test all nine. What it takes to remove objects of killed owners: tests/crash/.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { SharedMemory } from "../../mod.ts";
import { findLocalZig } from "../../scripts/zig.ts";
import { currentRuntime, runtimeNames } from "../support/runtimes.ts";
import { sharedNames } from "../support/shared_memory_names.ts";
import { pathOf } from "../support/shared_memory_raw.ts";
import { skipFor } from "../support/skip.ts";
import { type Agent, AgentError, children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const names = sharedNames();
const files = temporaryFiles();
const processes = children();
const text = (bytes: unknown): string => new TextDecoder().decode(bytes as Uint8Array);
const content = "grüße 日本 🚀";
const length = new TextEncoder().encode(content).byteLength;

/** The object that an agent keeps under the name "s". */
class Remote {
  readonly agent: Agent;
  constructor(agent: Agent) {
    this.agent = agent;
  }
  call(method: string, ...args: (string | number)[]): Promise<unknown> {
    return this.agent.send({ do: "call", on: "s", method, args });
  }
  get(property: string): Promise<unknown> {
    return this.agent.send({ do: "get", on: "s", property });
  }
  make(method: string, ...args: (string | number | { [key: string]: string | number | boolean })[]): Promise<unknown> {
    return this.agent.send({ do: "static", class: "SharedMemory", method, args, as: "s" });
  }
  async fails(code: string, call: Promise<unknown>): Promise<void> {
    await assert.rejects(call, (error) => error instanceof AgentError && error.code === code);
  }
}

async function withPair(opener: (typeof runtimeNames)[number], use: (one: Remote, two: Remote) => Promise<void>): Promise<void> {
  const agents = [processes.agent(currentRuntime), processes.agent(opener)];
  try {
    await use(...(agents.map((agent) => new Remote(agent)) as [Remote, Remote]));
    for (const agent of agents) {
      const { code, stderr } = await agent.end();
      assert.equal(code, 0, stderr);
    }
  } finally {
    await Promise.all(agents.map((agent) => agent.kill()));
  }
}

for (const opener of runtimeNames) {
  test(`${currentRuntime} creates, ${opener} opens: both change it, neither is stale`, async () => {
    const name = names.next();
    await withPair(opener, async (one, two) => {
      await one.make("from", content, { name });
      await two.make("open", name);
      assert.equal(text(await two.call("read")), content);
      assert.deepEqual([await one.get("owner"), await two.get("owner")], [true, false]);
      await two.call("write", "x".repeat(100_000));
      assert.deepEqual([await one.get("size"), await one.get("capacity")], [100_000, 100_000]);
      await one.call("write", content);
      assert.equal(text(await two.call("read")), content);
      await two.agent.send({ do: "call", on: "s", method: "splitAt", args: [6], as: "rest" });
      assert.equal(await one.get("size"), 6);
      await one.call("setCapacity", 3);
      assert.deepEqual([await two.get("size"), await two.get("capacity")], [3, 3]);
      await two.fails("ERR_OWNED", two.call("adopt"));
      await one.call("close");
      assert.equal(fs.existsSync(pathOf(name)), false);
      assert.equal(await two.get("size"), 3);
      await two.fails("ENOENT", two.call("adopt"));
    });
    assert.deepEqual(names.left(), []);
  });

  test(`${currentRuntime} retains and closes, ${opener} adopts: the object is handed over`, async () => {
    const name = names.next();
    await withPair(opener, async (one, two) => {
      await one.make("from", content, { name });
      await one.agent.send({ do: "call", on: "s", method: "retain", as: "r" });
      await one.call("close");
      await two.make("open", name);
      await two.call("adopt");
      const { code, stderr } = await one.agent.end(); // its retention goes at its exit
      assert.equal(code, 0, stderr);
      assert.ok(fs.existsSync(pathOf(name)), "it has an owner");
      assert.equal(text(await two.call("read")), content);
    });
    assert.equal(fs.existsSync(pathOf(name)), false, "its owner's exit removes it");
  });

  test(`${currentRuntime} owns, ${opener} retains: the object goes with the last of them`, async () => {
    const name = names.next();
    await withPair(opener, async (one, two) => {
      await one.make("from", content, { name });
      await two.make("open", name, { mode: "r" });
      await two.agent.send({ do: "call", on: "s", method: "retain", as: "r" });
      await one.call("close");
      using here = SharedMemory.open(name);
      assert.equal(text(here.read()), content);
      await two.agent.end();
      assert.equal(fs.existsSync(pathOf(name)), false);
      assert.equal(text(here.read()), content);
    });
  });

  test(`${currentRuntime} leaves a persistent object and is killed, ${opener} reads it`, async () => {
    const name = names.next();
    await withPair(opener, async (_, two) => {
      const third = new Remote(processes.agent(currentRuntime));
      await third.make("from", content, { name, unlinkOnClose: false });
      await third.agent.kill("SIGKILL");
      await two.make("open", name);
      assert.equal(text(await two.call("read")), content);
      await two.call("unlink");
      assert.equal(fs.existsSync(pathOf(name)), false);
    });
  });
}

/** Compiles the reader in C; undefined and the reason if nothing here can. */
function compiled(): { program: string } | { missing: string } {
  const source = fileURLToPath(new URL("../support/shared_memory_reader.c", import.meta.url));
  const program = files.next("reader");
  const args = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, source];
  const zig = findLocalZig();
  const compilers: readonly (readonly [string, ...string[]])[] = [["cc"], ...("exe" in zig ? [[zig.exe, "cc"] as const] : [])];
  for (const [compiler, ...first] of compilers) {
    if (spawnSync(compiler, [...first, "--version"]).status !== 0) continue;
    const { status, stderr } = spawnSync(compiler, [...first, ...args], { encoding: "utf8" });
    assert.equal(status, 0, stderr);
    return { program };
  }
  return { missing: "there is no C compiler: neither cc nor Zig" };
}

const inC = "a C program reads what TypeScript wrote, and writes";
const reader = compiled();
test(inC, skipFor(inC, "missing" in reader ? reader.missing : undefined), () => {
  const { program } = reader as { program: string };
  using one = SharedMemory.from(content, { name: names.next(), capacity: 5000 });
  const run = (...args: string[]): string => {
    const { status, stdout, stderr } = spawnSync(program, [`/${one.name}`, ...args], { encoding: "utf8" });
    assert.equal(status, 0, stderr);
    return stdout;
  };
  assert.equal(run(), `${length} 5000 ${content}`);
  one.write("x".repeat(9000));
  one.setCapacity(4);
  assert.equal(run("from C"), "4 4 xxxx");
  assert.equal(text(one.read()), "from");
  fs.truncateSync(pathOf(one.name), 13_000);
  assert.match(spawnSync(program, [`/${one.name}`], { encoding: "utf8" }).stderr, /cut short/);
});

const inPython = "Python's multiprocessing.shared_memory and mmap read what TypeScript wrote, and write";
const python = spawnSync("python3", ["--version"]).status === 0 ? undefined : "there is no python3";
test(inPython, skipFor(inPython, python), () => {
  using one = SharedMemory.from(content, { name: names.next(), capacity: 5000 });
  const script = fileURLToPath(new URL("../support/shared_memory_reader.py", import.meta.url));
  const { status, stdout, stderr } = spawnSync("python3", [script, one.name, "by snake"], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  assert.equal(stdout, `${length} 5000 ${content}`);
  assert.equal(stderr, "");
  assert.equal(text(one.read(8)), "by snake");
  assert.ok(fs.existsSync(pathOf(one.name)), "Python has not removed it");
});
