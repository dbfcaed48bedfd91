/**
 * Kills a child before and after each of its native calls, for each scenario of every_call.ts, and looks at what a survivor finds:
 *
 *   - Every record whose push was reported and whose removal was not begun is there; none that was reported removed; each once, in order.
 *   - A change of many records is there as a whole or not at all.
 *   - A record that was to be a dead letter is in the queue, or in the other one; in both only by a death in between.
 *   - What a dead holder had leased is handed out again, and was counted as handed out.
 *   - Locks can be had, the queue goes on, its counts come to zero, and no file is left that it does not need.
 *
 * From the shell: node tests/crash/every_call_table.ts [STRIDE [SCENARIO]]
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Queue } from "../../mod.ts";
import { commandLine } from "../support/runtimes.ts";
import { deadLettersOf, nameOf, type Scenario, scenarios } from "./every_call.ts";

const SCRIPT = fileURLToPath(new URL("every_call.ts", import.meta.url));

export interface Row {
  readonly scenario: string;
  /** Native calls of the scenario. */
  readonly calls: number;
  readonly kills: number;
  /** How many deaths left the records as they were before, as they are after all of it, and something in between. */
  readonly old: number;
  readonly new: number;
  readonly between: number;
}

interface Ending {
  readonly lines: readonly string[];
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

function run(path: string, at: string, when: string, scenario: string): Promise<Ending> {
  const child = spawn(...commandLine("bun", SCRIPT, path, at, when, scenario), { stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ lines: stdout.split("\n").slice(0, -1), code, signal, stderr }));
  });
}

/** What children said, as a ledger: what is surely in the queue, what may be, and how often each was handed out. */
class Ledger {
  readonly sure = new Set<string>();
  readonly unsure = new Set<string>();
  readonly order: string[] = [];
  readonly handedOut = new Map<string, number>();
  /** What must be a dead letter, and what may be. */
  readonly buried = new Set<string>();
  readonly burying = new Set<string>();
  readonly #leased = new Set<string>();

  /** Takes in what one child said until it died. */
  read(lines: readonly string[]): void {
    this.#leased.clear();
    let pushing: string[] = [];
    let taking = 0;
    let acking: string | undefined;
    let clearing = false;
    for (const line of lines) {
      const [word = "", ...names] = line.split(" ");
      const name = names[0] as string;
      if (word === "pushing") this.order.push(...(pushing = names));
      else if (word === "pushed") pushing = this.#add(pushing);
      else if (word === "taking") taking = Number(name);
      else if (word === "took") taking = this.#remove(names);
      else if (word === "leased") this.#handOut(name);
      else if (word === "releasing") this.#leased.delete(name);
      else if (word === "acking") acking = name;
      else if (word === "clearing") clearing = true;
      else if (word === "cleared") clearing = this.#removeAll();
      else if (word === "burying") this.#bury(name);
      else if (word === "buried") this.buried.add(name);
      else if (word === "acked") acking = void this.#remove([acking as string]);
    }
    pushing.forEach((name) => this.unsure.add(name));
    const doubtful = clearing ? [...this.sure] : acking === undefined ? [...this.sure].filter((name) => !this.#leased.has(name)).slice(0, taking) : [acking];
    for (const name of doubtful) {
      this.sure.delete(name);
      this.unsure.add(name);
    }
  }

  #add(names: readonly string[]): [] {
    names.forEach((name) => this.sure.add(name));
    return [];
  }

  #remove(names: readonly string[]): 0 {
    for (const name of names) {
      this.sure.delete(name);
      this.unsure.delete(name);
    }
    return 0;
  }

  #bury(name: string): void {
    this.burying.add(name);
    this.sure.delete(name);
    this.unsure.add(name);
  }

  #removeAll(): false {
    this.sure.clear();
    this.unsure.clear();
    return false;
  }

  #handOut(name: string): void {
    this.#leased.add(name);
    this.handedOut.set(name, (this.handedOut.get(name) ?? 0) + 1);
  }
}

/** The queue that a scenario starts from, in a folder that is copied for each child, and what was said of it. */
async function prepare(path: string, scenario: Scenario): Promise<readonly string[][]> {
  if (scenario.creates === true) return [];
  const { before = [], popped = 0, after, deadLetters = 0 } = scenario;
  if (deadLetters > 0) {
    using letters = Queue.open<string>(deadLettersOf(path), { codec: "text", capacityBytes: 8192 });
    for (let i = 0; i < deadLetters; i++) letters.push("earlier");
  }
  using queue = Queue.open<string>(path, { codec: "text", capacityBytes: 8192 });
  for (const [name, bytes] of before) queue.push(name.padEnd(bytes, "x"));
  for (let i = 0; i < popped; i++) queue.pop();
  const said = [[`pushing ${before.map(([name]) => name).join(" ")}`, "pushed", `took ${before.slice(0, popped).map(([name]) => name).join(" ")}`]];
  if (after === undefined) return said;
  const ending = await run(path, after.at, after.when, after.scenario);
  assert.equal(ending.signal, "SIGKILL", `the earlier victim: ${ending.lines.join("; ")}\n${ending.stderr}`);
  return [...said, [...ending.lines]];
}

/** What a survivor finds; throws if that may not be. */
function survive(path: string, ledger: Ledger, what: string): string[] {
  const began = performance.now();
  using queue = Queue.open<string>(path, { codec: "text", capacityBytes: 8192 });
  const { sure, unsure, order, handedOut } = ledger;
  assert.equal(queue.push("zz"), true, what);
  // A death while lease entries are freed leaves the count too high, until the next consumer takes the lock over.
  const excess = queue.length - [...queue].length;
  assert.ok(excess >= 0 && excess <= unsure.size, `${excess} too many: ${what}`);
  const first = queue.lease();
  const name = nameOf(first?.value as string);
  const counted = (first?.attempts as number) - 1 - (handedOut.get(name) ?? 0);
  // The victim may have been handed it without coming to say so; so may one that died before it.
  assert.ok(counted >= 0 && counted <= 2, `${name} has ${first?.attempts} attempts: ${what}`);
  first?.release();
  const found = queue.popMany(100).map(nameOf);
  assert.equal(found.pop(), "zz", `the last one pushed comes last: ${found} after ${what}`);
  assert.deepEqual(found, order.filter((item) => found.includes(item)), `in order, each once: ${found} after ${what}`);
  for (const item of sure) assert.ok(found.includes(item), `${item} is lost, found ${found} after ${what}`);
  for (const item of found) assert.ok(sure.has(item) || unsure.has(item), `${item} came back, found ${found} after ${what}`);
  assert.equal(queue.length, 0, what);
  assert.equal(queue.byteLength, 0, what);
  assert.equal(queue.lease(), undefined, what);
  // Over some segments: the next sweep, if one is due, leaves nothing that is not needed.
  for (let i = 0; i < 12; i++) queue.push("y".repeat(1500));
  assert.equal(queue.popMany(12).length, 12, what);
  const left = fs.readdirSync(path);
  assert.equal(left.length, 3, `${left} after ${what}`);
  mourn(path, ledger, found, what);
  assert.ok(performance.now() - began < 2000, `it took ${performance.now() - began} ms after ${what}`);
  return found;
}

/** Looks at the dead letters; `found` is what was in the queue. */
function mourn(path: string, { buried, burying, unsure }: Ledger, found: readonly string[], what: string): void {
  if (!fs.existsSync(deadLettersOf(path))) {
    assert.equal(buried.size, 0, `no dead letters: ${what}`);
    for (const name of burying) assert.ok(found.includes(name), `${name} is nowhere: ${what}`);
    return;
  }
  using queue = Queue.open<string>(deadLettersOf(path), { codec: "text" });
  const letters = queue.popMany(100).map(nameOf).filter((name) => name !== nameOf("earlier"));
  for (const name of burying) {
    const count = letters.filter((letter) => letter === name).length;
    assert.ok(count <= 2, `${name} is ${count} times a dead letter: ${what}`);
    assert.ok(count > 0 || found.includes(name), `${name} is nowhere: ${what}`);
    if (buried.has(name)) assert.ok(count > 0 && !found.includes(name), `${name} was buried: ${what}`);
  }
  for (const letter of letters) assert.ok(unsure.has(letter) && burying.has(letter), `${letter} is a dead letter: ${what}`);
  assert.equal(queue.push("one more"), true);
}

/** Kills before the first call of a scenario, and at every `stride`-th, after and before it in turn; with a stride of 1 both, each time. */
async function tabulate(folder: string, name: string, stride: number): Promise<Row> {
  const scenario = scenarios[name] as Scenario;
  const template = join(folder, "template");
  const said = await prepare(template, scenario);
  let calls = Infinity;
  let kills = 0;
  let whole: string | undefined;
  const outcomes: string[] = [];
  const one = async (at: number, when: "before" | "after"): Promise<void> => {
    const path = join(folder, `${at}-${when}`);
    if (scenario.creates !== true) fs.cpSync(template, path, { recursive: true });
    if (fs.existsSync(deadLettersOf(template))) fs.cpSync(deadLettersOf(template), deadLettersOf(path), { recursive: true });
    using holder = scenario.lateHolder === true ? Queue.open<string>(path, { codec: "text" }) : undefined;
    const late = holder?.lease({ leaseMs: 1 });
    if (late !== undefined) await new Promise((resolve) => setTimeout(resolve, 5));
    const { lines, code, signal, stderr } = await run(path, String(at), when, name);
    const what = `"${name}", ${when} call ${at}: ${[...said.flat(), ...lines].join("; ")}\n${stderr}`;
    const done = lines.at(-1)?.startsWith("done") === true;
    if (done) calls = Math.min(calls, Number((lines.at(-1) as string).slice(5)));
    else kills++;
    assert.equal(done ? code : signal, done ? 0 : "SIGKILL", what);
    const ledger = new Ledger();
    const held = late === undefined ? [] : [[`leased ${nameOf(late.value)}`]];
    [...said, ...held, lines].forEach((part) => ledger.read(part));
    const found = survive(path, ledger, what).join(" ");
    if (done) whole = found;
    else outcomes.push(found);
    fs.rmSync(path, { recursive: true });
    fs.rmSync(deadLettersOf(path), { recursive: true, force: true });
  };
  await one(1, "before");
  if (stride === 1) await one(1, "after");
  let turn = 0;
  for (let at = stride === 1 ? 2 : stride; at <= calls + 1; at += stride) {
    if (stride === 1) await together([one(at, "before"), one(at, "after")]);
    else await one(at, turn++ % 2 === 0 ? "after" : "before");
  }
  // Nothing has been done before the first call.
  const old = outcomes[0] as string;
  const count = (wanted: string): number => outcomes.filter((found) => found === wanted).length;
  const changed = whole === old ? 0 : count(whole as string);
  const between = kills - count(old) - changed;
  const partial = outcomes.find((found) => found !== old && found !== whole);
  assert.ok(between === 0 || scenario.several === true, `"${name}" is all or nothing, from "${old}" to "${whole}", but one death left "${partial}"`);
  for (const folder of [template, deadLettersOf(template)]) fs.rmSync(folder, { recursive: true, force: true });
  return { scenario: name, calls, kills, old: count(old), new: changed, between };
}

/** As Promise.all, but waits for all of them also if one fails: nobody is left at work in a folder that is removed. */
async function together(work: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(work)).find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}

/** All scenarios, two at a time. */
export async function everyCall(stride: number, only?: string): Promise<Row[]> {
  const folder = fs.mkdtempSync(join(os.tmpdir(), "holdfast-every-call-"));
  try {
    const names = Object.keys(scenarios).filter((name) => only === undefined || name.includes(only));
    const rows: Row[] = [];
    const worker = async (): Promise<void> => {
      for (let name = names.shift(); name !== undefined; name = names.shift()) {
        const own = fs.mkdtempSync(join(folder, "scenario-"));
        rows.push(await tabulate(own, name, stride));
      }
    };
    await together(stride === 1 ? [worker()] : [worker(), worker()]);
    const all = Object.keys(scenarios);
    return rows.sort((a, b) => all.indexOf(a.scenario) - all.indexOf(b.scenario));
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/** As text. */
export function table(rows: readonly Row[]): string {
  const line = (name: string, ...cells: (string | number)[]): string => name.padEnd(56) + cells.map((cell) => String(cell).padStart(8)).join("");
  const lines = rows.map((row) => line(row.scenario, row.calls, row.kills, row.old, row.new, row.between));
  const kills = rows.reduce((sum, row) => sum + row.kills, 0);
  return [line("scenario", "calls", "kills", "old", "new", "between"), ...lines, `${kills} kills, nothing lost, nothing torn, no lock stuck`].join("\n");
}

if (import.meta.main) {
  const [stride = "1", only] = process.argv.slice(2);
  const began = performance.now();
  console.log(table(await everyCall(Number(stride), only)));
  console.log(`${((performance.now() - began) / 1000).toFixed(0)} s`);
}
