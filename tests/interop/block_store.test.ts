/** What one runtime stores, the others read and free: all ordered pairs. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BlockStore, type BlockReport } from "../../mod.ts";
import { encode } from "../support/agent.ts";
import { readRawBlocks } from "../support/reader_blocks.ts";
import { currentRuntime, runtimeNames } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const processes = children();
const elsewhere = currentRuntime === "node" ? undefined : "it starts all runtimes itself: run under Node only";

const pairs = "all ordered pairs: stored by one, read, found and freed by the other, seen by the first";
test(pairs, skipFor(pairs, elsewhere), async () => {
  const contents = [0, 1, 63, 64, 5000, 70_000].map((length, n) => Uint8Array.from({ length }, (_, i) => n + i * 7 + (i >> 8)));
  const agents = new Map(runtimeNames.map((name) => [name, processes.agent(name)]));
  try {
    for (const writerName of runtimeNames) {
      for (const readerName of runtimeNames) {
        const what = `${writerName} to ${readerName}`;
        const path = files.next();
        const [writer, reader] = [agents.get(writerName), agents.get(readerName)];
        if (writer === undefined || reader === undefined) throw new Error("an agent is missing");
        await writer.send({ do: "static", class: "BlockStore", method: "open", args: [path, { blockBytes: 70_000 }], as: "w" });
        await reader.send({ do: "static", class: "BlockStore", method: "open", args: [path], as: "r" });
        const ids: number[] = [];
        for (const content of contents) ids.push((await writer.send({ do: "call", on: "w", method: "store", args: [encode(content)] })) as number);
        for (const [i, id] of ids.entries()) {
          const found = await reader.send({ do: "call", on: "r", method: "read", args: [id] });
          assert.deepEqual(found, contents[i], `${what}, block ${id}`);
        }
        const report = (await reader.send({ do: "call", on: "r", method: "verify" })) as BlockReport;
        assert.deepEqual([report.ok, report.stored], [true, contents.length], what);
        const [gone] = ids as [number];
        assert.equal(await reader.send({ do: "call", on: "r", method: "free", args: [gone] }), true, what);
        assert.equal(await writer.send({ do: "call", on: "w", method: "free", args: [gone] }), false, what);
        assert.equal(await writer.send({ do: "call", on: "w", method: "read", args: [gone] }), null, what);
        assert.equal(await writer.send({ do: "get", on: "w", property: "count" }), contents.length - 1, what);
        // The reader's store takes the free block or another, never one that is stored.
        const more = (await reader.send({ do: "call", on: "r", method: "store", args: [encode(contents[2])] })) as number;
        assert.equal(ids.slice(1).includes(more), false, what);
        for (const [agent, as] of [[writer, "w"], [reader, "r"]] as const) await agent.send({ do: "call", on: as, method: "close" });
        using store = BlockStore.open(path, { mode: "r" });
        assert.deepEqual(new Set([...store.ids()]), new Set([...ids.slice(1), more]));
        const raw = readRawBlocks(path);
        for (const [i, id] of ids.entries()) {
          if (i > 0) assert.deepEqual([raw.blocks[id]?.checksum, raw.blocks[id]?.bytes], [raw.blocks[id]?.computed, contents[i]], what);
        }
      }
    }
  } finally {
    await Promise.all([...agents.values()].map((agent) => agent.kill()));
  }
});
