/** The permission scopes of Deno and Node hold for mapped files: what a program may not open with node:fs it may not map. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { library, root, runtimeNames } from "../support/runtimes.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const processes = children();

/** Tries each way to open a file inside and one outside of what is allowed; prints what came of it. */
const PROGRAM = `import { Counters, Mapping, Queue } from ${JSON.stringify(`${root}mod.ts`)};
const [inside, outside] = process.argv.slice(2);
const results = {};
for (const [where, folder] of [["inside", inside], ["outside", outside]]) {
  const ways = {
    read: () => Mapping.open(folder + "/file", { mode: "r" }),
    write: () => Mapping.open(folder + "/file"),
    private: () => Mapping.open(folder + "/file", { sharing: "private" }),
    create: () => Mapping.open(folder + "/new", { create: true, byteLength: 10, autoUnlink: true }),
    lock: () => { const mapping = Mapping.open(folder + "/file"); mapping.lock()[Symbol.dispose](); return mapping; },
    resize: () => { const mapping = Mapping.open(folder + "/file"); mapping.resize(10_000); mapping.resize(7); mapping.refresh(); return mapping; },
    truncate: () => Mapping.open(folder + "/file", { truncate: true, byteLength: 7 }),
    flush: () => { const mapping = Mapping.open(folder + "/file"); mapping.flush(); return mapping; },
    flushAsync: async () => { const mapping = Mapping.open(folder + "/file"); await mapping.flushAsync(); return mapping; },
    guard: () => { const mapping = Mapping.open(folder + "/file", { guard: true }); mapping.pwrite(0, "X"); return mapping; },
    Counters: () => Counters.open(folder + "/counters", { count: 1 }),
    Queue: () => { const queue = Queue.open(folder + "/queue"); queue.push("x"); queue.pop(); return queue; },
  };
  for (const [name, way] of Object.entries(ways)) {
    try {
      const opened = await way();
      if (name === "write") opened.pwrite(0, "X");
      opened.close();
      results[where + " " + name] = "done";
    } catch (error) {
      results[where + " " + name] = error.name + " " + error.code + " " + error.message;
    }
  }
}
console.log(JSON.stringify(results));
`;

function scopes(): { inside: string; outside: string; script: string } {
  const inside = files.next("inside");
  const outside = files.next("outside");
  for (const folder of [inside, outside]) {
    fs.mkdirSync(folder);
    fs.writeFileSync(`${folder}/file`, "content");
  }
  return { inside, outside, script: files.file(PROGRAM, "program.ts") };
}

function verify(stdout: string, stderr: string, outside: string): void {
  assert.match(stdout, /^\{/, stderr);
  const results = Object.entries(JSON.parse(stdout) as Record<string, string>);
  assert.equal(results.length, 24);
  for (const [name, result] of results.filter(([name]) => name.startsWith("outside"))) assert.match(result, /permission|access|allow/i, name);
  assert.equal(fs.readFileSync(`${outside}/file`, "utf8"), "content");
  assert.deepEqual(fs.readdirSync(outside), ["file"]);
  assert.deepEqual(results.filter(([name, result]) => name.startsWith("inside") && result !== "done"), []);
}

const executable = (runtime: (typeof runtimeNames)[number]): string => fs.realpathSync(`${root}node_modules/.bin/${runtime}`);

test("deno run --allow-read=X --allow-write=X --allow-ffi", async () => {
  const { inside, outside, script } = scopes();
  const args = ["run", "--no-check", "--no-prompt", `--allow-read=${inside},${root}`, `--allow-write=${inside}`, `--allow-ffi=${library}`];
  const { stdout, stderr } = await processes.run(executable("deno"), [...args, script, inside, outside]);
  verify(stdout, stderr, outside);
  // Without --allow-ffi nothing can be mapped, and the error says what is missing.
  const refused = await processes.run(executable("deno"), [...args.slice(0, -1), script, inside, outside]);
  const results = JSON.parse(refused.stdout) as Record<string, string>;
  assert.match(results["inside read"] as string, /ERR_LIBRARY.*--allow-ffi/s);
});

test("node --permission --allow-fs-read=X --allow-fs-write=X --allow-ffi", async () => {
  const { inside, outside, script } = scopes();
  const args = ["--disable-warning=ExperimentalWarning", "--disable-warning=SecurityWarning", "--permission", `--allow-fs-read=${root}`,
    `--allow-fs-read=${inside}`, `--allow-fs-read=${script}`, `--allow-fs-write=${inside}`, "--allow-ffi"];
  const { stdout, stderr } = await processes.run(executable("node"), [...args, script, inside, outside]);
  verify(stdout, stderr, outside);
  const refused = await processes.run(executable("node"), [...args.slice(0, -1), script, inside, outside]);
  const results = JSON.parse(refused.stdout) as Record<string, string>;
  assert.match(results["inside read"] as string, /ERR_LIBRARY.*--allow-ffi/s);
});
