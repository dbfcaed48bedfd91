/** The small size of the fuzz proof, and a peer that rewrites the files while others have them mapped. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { MapError, Queue } from "../../mod.ts";
import { atEnd } from "../support/cleanup.ts";
import { commandLine, currentRuntime } from "../support/runtimes.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { fuzzLogs } from "./log_fuzz.ts";
import { fuzzQueues } from "./queue_fuzz.ts";

const files = temporaryFiles();

test("damaged queues: a clear error or the right records, and verify tells", () => {
  const folder = files.next("fuzz");
  fs.mkdirSync(folder);
  const figures = fuzzQueues({ folder, count: 40, seed: Number(process.env.HOLDFAST_FUZZ_SEED ?? 1) });
  console.log(`# ${JSON.stringify(figures)}`);
  assert.ok(figures.refused > 0 && figures.failed > 0 && figures.unnoticed > 0 && figures.damaged > 0 && figures.recovered > 0);
});

test("damaged logs: the same for each group", () => {
  const folder = files.next("fuzz");
  fs.mkdirSync(folder);
  const figures = fuzzLogs({ folder, count: 40, seed: Number(process.env.HOLDFAST_FUZZ_SEED ?? 1) });
  console.log(`# ${JSON.stringify(figures)}`);
  assert.ok(figures.refused > 0 && figures.failed > 0 && figures.unnoticed > 0 && figures.damaged > 0 && figures.recovered > 0);
});

// While a record is leased, none goes the way of single records (csrc/queue.c).
for (const leased of [true, false]) test(`a hostile peer, ${leased ? "a record" : "nothing"} leased: no crash, no hang, no wrong value`, async () => {
  const path = files.next("queue");
  const values = Array.from({ length: 150 }, (_, i) => `value ${i} ${"y".repeat(i % 40)}`);
  {
    using queue = Queue.open<string>(path, { codec: "text", capacityBytes: 8192 });
    queue.pushMany(values);
    if (leased) queue.lease();
    queue.popMany(20);
  }
  // As long as a handle lives, nothing is recovered: the files stay those that the peer writes to.
  using holder = Queue.open<string>(path, { codec: "text" });
  const known = new Set([...values, "pushed"]);
  const [executable, args] = commandLine(currentRuntime, fileURLToPath(new URL("queue_hostile.ts", import.meta.url)), path, "1");
  const peer = spawn(executable, args, { stdio: ["ignore", "pipe", "inherit"] });
  const kill = (): void => void peer.kill("SIGKILL");
  atEnd(kill);
  await new Promise((resolve) => peer.stdout.once("data", resolve));
  const counts = { right: 0, errors: 0, reports: 0 };
  let slowest = 0;
  const attempt = (call: () => void): void => {
    const start = performance.now();
    try {
      call();
    } catch (error) {
      if (!(error instanceof MapError)) throw error;
      counts.errors++;
    }
    slowest = Math.max(slowest, performance.now() - start);
  };
  const look = (value: string | undefined): void => {
    if (value === undefined) return;
    assert.ok(known.has(value), JSON.stringify(value));
    counts.right++;
  };
  for (const end = performance.now() + 2000; performance.now() < end; ) {
    attempt(() => {
      Queue.verify(path);
      counts.reports++;
    });
    for (const mode of ["r", "rw"] as const) {
      attempt(() => {
        using queue = Queue.open<string>(path, { codec: "text", mode });
        for (let i = 0; i < 20; i++) {
          attempt(() => {
            for (const value of queue) look(value);
          });
          attempt(() => void queue.length);
          attempt(() => look(queue.peek()));
          if (mode === "r") continue;
          attempt(() => void queue.push("pushed"));
          attempt(() => look(queue.pop()));
          attempt(() => {
            const lease = queue.lease();
            look(lease?.value);
            lease?.release();
          });
        }
      });
    }
  }
  kill();
  await new Promise((resolve) => peer.once("close", resolve));
  assert.equal(holder.closed, false);
  assert.ok(!fs.existsSync(`${path}.quarantine-1`));
  console.log(`# ${JSON.stringify({ ...counts, slowestMs: Math.round(slowest) })}`);
  assert.ok(counts.right > 100 && counts.errors > 20 && counts.reports > 3, JSON.stringify(counts));
  assert.ok(slowest < 15_000, `${slowest} ms`);
});
