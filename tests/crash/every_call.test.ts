import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Queue } from "../../mod.ts";
import { currentRuntime } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const child = children();
const SCRIPT = fileURLToPath(new URL("every_call.ts", import.meta.url));

/** What a child said, as a ledger: what is surely in the queue, and what may be. */
function ledger(lines: readonly string[]): { sure: Set<string>; unsure: Set<string>; order: string[] } {
  const sure = new Set<string>();
  let unsure = new Set<string>();
  const order: string[] = [];
  const leased = new Set<string>();
  let taking = 0;
  for (const line of lines) {
    const [word = "", ...names] = line.split(" ");
    if (word === "pushing") {
      unsure = new Set(names);
      order.push(...names);
    } else if (word === "pushed") {
      unsure.forEach((name) => sure.add(name));
      unsure = new Set();
    } else if (word === "taking") taking = Number(names[0]);
    else if (word === "leased") names.forEach((name) => leased.add(name));
    else if (word === "releasing") names.forEach((name) => leased.delete(name));
    else if (word === "took") {
      names.forEach((name) => sure.delete(name));
      taking = 0;
    } else if (word === "acking") {
      unsure = new Set(names);
      names.forEach((name) => sure.delete(name));
    } else if (word === "acked") unsure = new Set();
  }
  if (taking > 0) {
    // The next ones in order may have been removed by a pop that never reported.
    for (const name of [...sure].filter((name) => !leased.has(name)).slice(0, taking)) {
      sure.delete(name);
      unsure.add(name);
    }
  }
  return { sure, unsure, order };
}

const name = "killed before and after each native call: nothing lost, nothing torn, no lock stuck";
test(name, skipFor(name, currentRuntime === "node" ? undefined : "it runs 400 children, one for each call; under Node only"), async () => {
  let calls = Infinity;
  let killed = 0;
  const run = async (at: number, when: string): Promise<void> => {
    const path = files.next();
    using queue = Queue.open<string>(path, { codec: "text", capacityBytes: 8192 });
    const ending = await child.script("bun", SCRIPT, path, String(at), when);
    const lines = ending.stdout.split("\n").slice(0, -1);
    const what = `call ${at}, ${when}: ${lines.join("; ")}\n${ending.stderr}`;
    const last = lines.at(-1) ?? "";
    if (last.startsWith("done")) {
      calls = Math.min(calls, Number(last.slice(5)));
      assert.equal(ending.code, 0, what);
    } else {
      killed++;
      assert.equal(ending.signal, "SIGKILL", what);
    }
    const { sure, unsure, order } = ledger(lines);
    assert.equal(queue.push("zz"), true, what);
    // A death while a lease entry is freed leaves the count one too high, until the next consumer takes the lock over.
    const excess = queue.length - [...queue].length;
    assert.ok(excess === 0 || (excess === 1 && /^(acking|taking)/.test(last)), `${excess} too many: ${what}`);
    // Records that the dead child had leased come first, the oldest before the others.
    const found = queue.popMany(100).map((value) => value.slice(0, 2));
    assert.deepEqual(found.at(-1), "zz", what);
    found.pop();
    assert.deepEqual(found, order.filter((item) => found.includes(item)), `in order, each once: ${found} after ${what}`);
    for (const item of sure) assert.ok(found.includes(item), `${item} is lost, found ${found} after ${what}`);
    for (const item of found) assert.ok(sure.has(item) || unsure.has(item), `${item} came back, found ${found} after ${what}`);
    assert.equal(queue.length, 0, what);
    assert.equal(queue.byteLength, 0, what);
    assert.equal(queue.lease(), undefined, what);
  };
  // Two at a time, until a child gets through its list.
  for (let at = 1; at <= calls + 2; at++) await Promise.all([run(at, "before"), run(at, "after")]);
  console.log(`# ${killed} kills at ${calls} native calls`);
  assert.ok(killed > 100, `${killed} kills`);
});
