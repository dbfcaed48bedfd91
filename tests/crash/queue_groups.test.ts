/** Groups of a log whose users are killed: at each native call of a list, and at random moments. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Queue } from "../../mod.ts";
import { currentRuntime, type RuntimeName } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { groupsStorm } from "./groups_storm.ts";

const files = temporaryFiles();
const child = children();
const SCRIPT = fileURLToPath(new URL("groups_every_call.ts", import.meta.url));
/** At every how manieth call; all of them take a minute and more. */
const EVERY = Number(process.env.HOLDFAST_EVERY ?? 7);
const RACER = fileURLToPath(new URL("groups_racer.ts", import.meta.url));
const onlyNode = (name: string): ReturnType<typeof skipFor> =>
  skipFor(name, currentRuntime === "node" ? undefined : "it starts other runtimes, so it runs under Node only");

/** What a child said: what must be in the log, what may be, and the same of what each group has yet to see. */
class Ledger {
  readonly order: string[] = [];
  readonly #sure = new Set<string>();
  #pushing: string[] = [];
  readonly #taken = { a: new Set<string>(), b: new Set<string>() };
  readonly #taking = { a: 0, b: 0 };
  readonly #acking = { a: "", b: "" };
  c: "no" | "maybe" | "yes" = "no";

  constructor(lines: readonly string[]) {
    for (const line of lines) this.#read(line.split(" "));
  }

  #read([word, ...rest]: string[]): void {
    const group = rest[0] as "a" | "b";
    if (word === "pushing") {
      this.#pushing = rest;
      this.order.push(...rest);
    } else if (word === "pushed") {
      this.#pushing.forEach((name) => this.#sure.add(name));
      this.#pushing = [];
    } else if (word === "taking") this.#taking[group] = Number(rest[1]);
    else if (word === "took") {
      rest.slice(1).forEach((name) => this.#taken[group].add(name));
      this.#taking[group] = 0;
    } else if (word === "acking") this.#acking[group] = rest[1] as string;
    else if (word === "acked") {
      this.#taken[group].add(this.#acking[group]);
      this.#acking[group] = "";
    } else if (word === "making" || word === "removing") this.c = "maybe";
    else if (word === "made") this.c = "yes";
    else if (word === "removed") this.c = "no";
  }

  /** What a group must still get of what is `kept`, and what it may get. */
  of(group: string, kept: readonly string[]): { sure: string[]; possible: string[] } {
    const possible = group === "c" ? this.order : this.order.filter((name) => !this.#taken[group as "a"].has(name));
    let sure = possible.filter((name) => this.#sure.has(name) && kept.includes(name));
    // A new group starts with what is kept.
    if (group === "c") sure = [];
    else sure = sure.filter((name) => name !== this.#acking[group as "a"]).slice(this.#taking[group as "a"]);
    return { sure, possible };
  }
}

interface Variant {
  readonly retainBytes?: number;
}

async function killAt(at: number, when: string, { retainBytes }: Variant): Promise<number | undefined> {
  const path = files.next("log");
  using producer = Queue.open<string>(path, { groups: true, codec: "text", capacityBytes: 8192, ...(retainBytes === undefined ? {} : { retainBytes }) });
  const ending = await child.script("bun", SCRIPT, path, String(at), when);
  const lines = ending.stdout.split("\n").slice(0, -1);
  const what = `call ${at}, ${when}, ${retainBytes}: ${lines.join("; ")}\n${ending.stderr}`;
  const done = lines.at(-1)?.startsWith("done") === true ? Number(lines.at(-1)?.slice(5)) : undefined;
  if (done === undefined) assert.equal(ending.signal, "SIGKILL", what);
  else assert.equal(ending.code, 0, what);
  const ledger = new Ledger(lines);
  assert.equal(producer.push("zz"), true, what);
  const names = producer.groups().map(({ name }) => name);
  assert.deepEqual(names.filter((name) => name !== "c"), ["a", "b"], what);
  if (ledger.c !== "maybe") assert.equal(names.includes("c"), ledger.c === "yes", what);
  for (const name of names) {
    using group = Queue.open<string>(path, { group: name, codec: "text" });
    // By now: the group before may have given something up.
    const kept = [...producer].map((value) => value.slice(0, 2));
    // Without limits all that a group has not had.
    const { sure, possible } = ledger.of(name, retainBytes === undefined ? ledger.order : kept);
    const found = group.popMany(100).map((value) => value.slice(0, 2));
    assert.equal(found.pop(), "zz", what);
    assert.deepEqual(found, possible.filter((item) => found.includes(item)), `${name} found ${found}, each once and in order of ${possible}: ${what}`);
    for (const item of sure) {
      assert.ok(found.includes(item), `${item} is lost for ${name}, found ${found}, kept ${kept}: ${what}`);
    }
    assert.deepEqual([group.length, group.byteLength, group.lease()], [0, 0, undefined], what);
  }
  // Nothing is wasted, and nothing is stuck.
  producer.compact();
  const left = fs.readdirSync(path).filter((name) => name !== "control" && !/^group-6[123]$/.test(name));
  if (retainBytes === undefined) assert.equal(left.length, 1, `${left} are left: ${what}`);
  assert.deepEqual(left.filter((name) => !name.startsWith("segment-")), [], what);
  for (const name of names) assert.equal(producer.removeGroup(name), true, what);
  return done;
}

for (const variant of [{}, { retainBytes: 4000 }]) {
  const name = `killed at native calls, ${variant.retainBytes === undefined ? "the slowest group decides" : "limits decide"}: nothing lost, no lock stuck`;
  test(name, onlyNode(name), async () => {
    let calls = Infinity;
    let killed = 0;
    const run = async (at: number): Promise<void> => {
      // Every other one before the call, the others after it: between two calls there is little that could be left half done.
      const done = await killAt(at, (at % 2 === 0) === (variant.retainBytes === undefined) ? "before" : "after", variant);
      if (done === undefined) killed++;
      else calls = Math.min(calls, done);
    };
    for (let at = 1; at <= calls + EVERY; at += 3 * EVERY) await Promise.all([run(at), run(at + EVERY), run(at + 2 * EVERY)]);
    console.log(`# ${killed} kills at ${calls} native calls`);
    assert.ok(killed >= 250 / EVERY, `${killed} kills`);
  });
}

const storming = "kill storm: two groups with two consumers each, of all runtimes: each group has every record";
test(storming, onlyNode(storming), async () => {
  const folder = join(files.folder, "storm");
  fs.mkdirSync(folder);
  const producers: RuntimeName[] = ["bun", "node"];
  const report = await groupsStorm({ folder, records: 8000, kills: 10, producers, consumers: { one: ["bun", "node"], two: ["deno", "bun"] }, seed: 1 });
  console.log(`# ${JSON.stringify(report)}`);
  assert.deepEqual([report.lost, report.doubledWithoutDeath, report.outOfOrder, report.failures], [0, 0, 0, 0]);
  assert.ok(report.kills >= 5, `${report.kills} kills`);
});

const racing = "limits that overtake readers of all runtimes: whole records in order, and what is missed is counted";
test(racing, onlyNode(racing), async () => {
  const path = files.next("log");
  using log = Queue.open<[number, string]>(path, { groups: true, capacityBytes: 8192, retainBytes: 12_000 });
  const racers: [RuntimeName, group: string][] = [["node", "one"], ["bun", "one"], ["deno", "two"]];
  for (const [, group] of racers) Queue.open(path, { group }).close();
  let running = racers.length;
  const endings = racers.map(([runtime, group]) => child.script(runtime, RACER, path, group).finally(() => running--));
  // They have to be there before it begins.
  while (log.stats().handles.length < 1 + running) await new Promise((resolve) => setTimeout(resolve, 10));
  const end = performance.now() + 2500;
  let number = 0;
  while (performance.now() < end) {
    for (let i = 0; i < 40; i++, number++) log.push([number, "x".repeat(number % 97)]);
    await new Promise((resolve) => setImmediate(resolve));
  }
  // One racer may take several of them.
  for (; running > 0; number++) {
    log.push([1e12 + number, ""]);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const had = { one: 0, two: 0 };
  for (const [i, { code, stdout, stderr }] of (await Promise.all(endings)).entries()) {
    assert.equal(code, 0, stderr);
    had[racers[i]?.[1] as "one"] += Number(stdout);
  }
  const groups = log.groups();
  console.log(`# ${number} records; ${groups.map(({ name, missed }) => `${name} had ${had[name as "one"]}, missed ${missed}`).join("; ")}`);
  for (const { name, length, missed } of groups) assert.equal(had[name as "one"] + length + missed, number, name);
  assert.ok(groups.some(({ missed }) => missed > 1000));
});
