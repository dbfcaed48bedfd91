/** A store of blocks whose process dies at each of its native calls. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { BlockStore } from "../../mod.ts";
import { readRawBlocks } from "../support/reader_blocks.ts";
import { currentRuntime } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const child = children();
const SCRIPT = fileURLToPath(new URL("block_every_call.ts", import.meta.url));

const calls = "killed before and after each native call: each block stored whole or free, none leaked";
test(calls, skipFor(calls, currentRuntime === "node" ? undefined : "it runs 200 children, one for each call; under Node only"), async () => {
  let last = Infinity;
  let killed = 0;
  let claimed = 0;
  const run = async (at: number, when: string): Promise<void> => {
    const path = files.next();
    // Two blocks to a group.
    BlockStore.open(path, { blockBytes: 300_000, maxBlocks: 5 }).close();
    const ending = await child.script("bun", SCRIPT, path, String(at), when);
    const lines = ending.stdout.split("\n").slice(0, -1);
    const what = `call ${at}, ${when}: ${lines.join("; ")}\n${ending.stderr}`;
    if (lines.at(-1)?.startsWith("done") === true) {
      last = Math.min(last, Number(lines.at(-1)?.slice(5)));
      assert.equal(ending.code, 0, what);
    } else {
      killed++;
      assert.equal(ending.signal, "SIGKILL", what);
    }
    const sure = new Map<string, number>();
    let unsure = "";
    for (const [word, name = "", id] of lines.map((line) => line.split(" "))) {
      if (word === "stored") sure.set(name, Number(id));
      if (word === "freeing") sure.delete(name);
      unsure = word === "storing" || word === "freeing" ? name : "";
    }
    const raw = readRawBlocks(path);
    claimed += raw.blocks.filter(({ owner }) => owner !== 0 && owner !== 0xffff).length;
    using store = BlockStore.open(path);
    assert.equal(store.verify().ok, true, what);
    const found = new Map([...store].map(([id, bytes]) => [new TextDecoder().decode(bytes), id]));
    assert.equal(found.size, store.count, `each once: ${what}`);
    for (const [name, id] of sure) assert.equal(found.get(name), id, `${name} is lost: ${what}`);
    for (const name of found.keys()) assert.ok(sure.has(name) || name === unsure, `${name} came back: ${what}`);
    while (store.store(new Uint8Array(1)) !== undefined);
    assert.equal(store.count, 5, `leaked: ${what}`);
    store.close();
    fs.rmSync(path);
  };
  // Two at a time, until a child gets through its list.
  for (let at = 1; at <= last + 1; at++) await Promise.all([run(at, "before"), run(at, "after")]);
  console.log(`# ${killed} kills at ${last} native calls, ${claimed} while a block was filled`);
  assert.ok(killed > 100, `${killed} kills`);
  assert.ok(claimed > 15, `${claimed} blocks that were being filled`);
});
