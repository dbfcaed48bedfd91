/** The installed package under permissions: what it can do with the least, and what it says when that is too little. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { bareEnvironment, pack, packageRefusal, unpack } from "../support/package.ts";
import { commandLine } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const refusal = await packageRefusal();
const skip = (name: string): { skip: string | false } => skipFor(name, refusal);

/** Everything but zero-copy views; prints what failed. Each use has a name of its own, so that it says what it was. */
const PROGRAM = `import { BlockStore, compressed, Counters, Mapping, Metrics, Queue, SharedMemory } from "holdfast";
const folder = process.argv[2];
const uses = {
  mapping() {
    using mapping = Mapping.open(folder + "/mapping", { create: true, byteLength: 10_000, guard: true });
    mapping.pwrite(0, "one\\ntwo\\n");
    mapping.atomics.add(8, 1n);
    mapping.resize(20_000);
    mapping.advise("willneed");
    mapping.flush();
    using lock = mapping.lock();
    return [mapping.pread(0, 3).length, mapping.readLine(), mapping.resident() > 0].join();
  },
  counters() {
    using counters = Counters.open(folder + "/counters", { names: ["a"] });
    counters.add("a");
    return counters.get("a");
  },
  async queue() {
    using queue = Queue.open(folder + "/queue", { codec: compressed("json"), durability: "batch" });
    queue.pushMany([1, 2, 3]);
    const lease = queue.lease();
    lease.ack();
    setTimeout(() => queue.push(4), 50);
    const rest = [queue.pop(), queue.pop(), await queue.take({ timeoutMs: 20_000 })];
    return [lease.value, ...rest, queue.length, Queue.verify(folder + "/queue").ok].join();
  },
  recover() {
    Queue.open(folder + "/broken").close();
    Queue.recover(folder + "/broken");
    return Queue.verify(folder + "/broken").ok;
  },
  async waiting() {
    using cells = Mapping.anonymous(4096);
    const changed = cells.atomics.wait(0, 0, { timeoutMs: 20_000 });
    cells.atomics.store(0, 1);
    cells.atomics.notify(0);
    return await changed;
  },
  metrics() {
    using metrics = Metrics.open(folder + "/metrics");
    metrics.counter("a_total", { help: "A." }).inc();
    return metrics.expose().includes("a_total 1");
  },
  blocks() {
    using blocks = BlockStore.open(folder + "/blocks", { blockBytes: 4096 });
    return blocks.read(blocks.store(new Uint8Array([1, 2]))).join();
  },
  shared() {
    using memory = SharedMemory.from("hello");
    return new TextDecoder().decode(SharedMemory.open(memory.name).read());
  },
  view() {
    using mapping = Mapping.anonymous(4096);
    return mapping.view(0, 8).length;
  },
};
const results = {};
for (const [name, use] of Object.entries(uses)) {
  try {
    results[name] = String(await use());
  } catch (error) {
    results[name] = error.name + " " + error.code + " " + error.message;
  }
}
console.log(JSON.stringify(results));
process.exit();
`;

const EXPECTED = {
  mapping: "3,one,true",
  counters: "1",
  queue: "1,2,3,4,0,true",
  recover: "true",
  waiting: "ok",
  metrics: "true",
  blocks: "1,2",
  shared: "hello",
};

let app = "";
let library = "";
before(async () => {
  if (refusal !== undefined) return;
  app = files.next("app");
  fs.mkdirSync(join(app, "node_modules"), { recursive: true });
  fs.renameSync(unpack(files, await pack(files)), join(app, "node_modules", "holdfast"));
  fs.writeFileSync(join(app, "package.json"), `{ "type": "module" }\n`);
  fs.writeFileSync(join(app, "main.mjs"), PROGRAM);
  library = join(app, "node_modules/holdfast/dist/native", `${process.platform}-${process.arch}`, "libholdfast.so");
});

type Results = Readonly<Record<string, string>>;

/** Runs the program under Deno with these flags, which name a fresh folder by "DATA". */
function runDeno(flags: readonly string[]): { results: Results; stderr: string } {
  const data = files.next("data");
  fs.mkdirSync(data);
  const args = ["run", "--no-check", ...flags.map((flag) => flag.replace("DATA", data)), "main.mjs", data];
  const env = bareEnvironment(files.next("home"));
  delete env["DENO_NO_PROMPT"]; // without a terminal nobody is asked, and what would be is an error all the same
  const { stdout, stderr } = spawnSync(commandLine("deno", "")[0], args, { cwd: app, env, encoding: "utf8" });
  assert.match(stdout, /^\{/, stderr);
  return { results: JSON.parse(stdout) as Results, stderr };
}

const narrow = (): string[] => [`--allow-ffi=${library}`, "--allow-read=DATA", "--allow-write=DATA"];

/** Shared memory needs all permissions: Deno lets nobody at /dev with less. */
function assertDeno({ view, shared, ...results }: Results, expectedView: string | RegExp): void {
  const { shared: _, ...expected } = EXPECTED;
  assert.deepEqual(results, expected);
  assert.match(shared as string, /^MapError ERR_ACCESS_DENIED .*--allow-/);
  assert.match(view as string, new RegExp(expectedView));
}

const least = "deno with the narrowest flags: everything but views";
test(least, skip(least), () => {
  const { results, stderr } = runDeno(narrow());
  assertDeno(results, "--allow-ffi");
  assert.equal(stderr, "");
});

const unlimited = "deno with an unlimited --allow-ffi: views too";
test(unlimited, skip(unlimited), () => {
  const { results } = runDeno(["--allow-ffi", ...narrow().slice(1)]);
  assertDeno(results, "^8$");
});

for (const [i, flag] of ["--allow-ffi", "--allow-read", "--allow-write"].entries()) {
  const name = `deno without ${flag}: the error names it`;
  test(name, skip(name), () => {
    const { results } = runDeno(narrow().filter((_, k) => k !== i));
    const { counters = "", queue = "" } = results;
    for (const result of [counters, queue]) {
      assert.match(result, /^MapError /);
      assert.ok(result.includes(flag), result);
    }
    if (flag === "--allow-ffi") assert.ok(counters.includes(`${flag}=${library}`), counters);
  });
}

const node = "node --permission: everything, views too";
test(node, skip(node), () => {
  const data = files.next("data");
  fs.mkdirSync(data);
  const run = (flags: readonly string[]): Results => {
    const args = ["--no-warnings", "--permission", ...flags, "main.mjs", data];
    const { stdout, stderr } = spawnSync(commandLine("node", "")[0], args, { cwd: app, env: bareEnvironment(files.next("home")), encoding: "utf8" });
    assert.match(stdout, /^\{/, stderr);
    return JSON.parse(stdout) as Results;
  };
  const reading = [app, data, "/dev/shm"].map((path) => `--allow-fs-read=${path}`);
  const writing = [data, "/dev/shm"].map((path) => `--allow-fs-write=${path}`);
  assert.deepEqual(run([...reading, ...writing, "--allow-ffi"]), { ...EXPECTED, view: "8" });
  for (const [flags, missing] of [[[...reading, ...writing], "--allow-ffi"], [[...reading, "--allow-ffi"], "--allow-fs-write"]] as const) {
    const { counters = "" } = run(flags);
    assert.match(counters, /^MapError /);
    assert.ok(counters.includes(missing), counters);
  }
});
