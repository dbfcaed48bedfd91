/** `holdfast queue work`: a command for each record, and nothing lost, however anybody ends. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { Queue } from "../../mod.ts";
import { cli, jsonLines } from "../support/cli.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const { run, start } = cli();

function queueOf(...values: string[]): string {
  const path = files.next("queue");
  using queue = Queue.open<string>(path, { codec: "text" });
  queue.pushMany(values);
  return path;
}

function contentOf(path: string): string[] {
  using queue = Queue.open<string>(path, { codec: "text", mode: "r" });
  return [...queue];
}

const linesOf = (file: string): string[] => (fs.existsSync(file) ? fs.readFileSync(file, "utf8").split("\n").slice(0, -1) : []);

/** Waits until `condition` holds. */
async function until(condition: () => boolean, what: string): Promise<void> {
  for (const end = performance.now() + 30_000; !condition(); await new Promise((resolve) => setTimeout(resolve, 10))) {
    assert.ok(performance.now() < end, `it did not come that ${what}`);
  }
}

interface Told {
  result: string;
  exit: number | null;
  signal: string | null;
  attempts: number;
  record: { text: string };
}

test("each record is the standard input of a command, in order, and is removed when that succeeds", async () => {
  const path = queueOf("one", "two\nlines", "", "ä€😀");
  const { status, stdout, stderr } = await run(["queue", "work", path, "--until-empty", "--", "sh", "-c", 'printf "[%s %s]" "$(cat)" "$HOLDFAST_ATTEMPTS"']);
  assert.deepEqual([status, stdout, stderr], [0, "[one 1][two\nlines 1][ 1][ä€😀 1]", ""]);
  assert.deepEqual(contentOf(path), []);
});

test("what fails is handed out again, first of all, and goes to the dead letters after so many attempts", async () => {
  const path = queueOf("good", "bad", "late");
  const dead = files.next("dead");
  const args = ["queue", "work", path, "--until-empty", "--retry-delay-ms", "0", "--max-attempts", "2", "--dead-letter", dead, "--json"];
  const { status, stdout, stderr } = await run([...args, "--", "sh", "-c", 'read -r text; echo "saw $text"; [ "$text" != bad ] || exit 7']);
  assert.equal(status, 0, stderr);
  const told = jsonLines<Told>(stdout).map(({ result, exit, attempts, record }) => [record.text, attempts, exit, result]);
  assert.deepEqual(told, [
    ["good", 1, 0, "acknowledged"],
    ["bad", 1, 7, "released"],
    ["bad", 2, 7, "released"],
    ["late", 1, 0, "acknowledged"],
  ]);
  assert.match(stderr, /^saw good\n/, "what the command writes does not mix with the results");
  assert.match(stderr, /^holdfast: record 2: sh exited with 7, attempt 2; the record stays in the queue$/m);
  assert.deepEqual([contentOf(path), contentOf(dead)], [[], ["bad"]]);
});

test("a command that can't be run ends the work, and the record stays", async () => {
  const path = queueOf("one", "two");
  for (const [command, expected] of [["/nowhere/command", /no such command/], [files.file("no program"), /EACCES|permission denied/i]] as const) {
    const { status, stderr } = await run(["queue", "work", path, "--concurrency", "2", "--", command]);
    assert.equal(status, 1);
    assert.match(stderr, new RegExp(`holdfast: can't run '${command}': .*; the record stays in the queue`));
    assert.match(stderr, expected);
  }
  assert.deepEqual(contentOf(path), ["one", "two"]);
});

test("commands run at once, and no more of them than asked for", async () => {
  const path = queueOf(...Array.from({ length: 12 }, (_, i) => String(i)));
  const log = files.next("log");
  const script = 'echo + >> "$0"; sleep 0.2; cat > /dev/null; echo - >> "$0"';
  const { status } = await run(["queue", "work", path, "--count", "10", "--concurrency", "3", "--", "sh", "-c", script, log]);
  assert.equal(status, 0);
  let running = 0;
  let most = 0;
  for (const mark of linesOf(log)) most = Math.max(most, (running += mark === "+" ? 1 : -1));
  assert.deepEqual([linesOf(log).length, running], [20, 0]);
  assert.ok(most === 2 || most === 3, `${most} at once`);
  assert.deepEqual(contentOf(path), ["10", "11"], "--count ends it");
});

test("a command that takes too long is ended; one that does not read its input is not a problem", async () => {
  const path = queueOf("x".repeat(1 << 20), "second");
  const begun = performance.now();
  const { status, stdout } = await run(["queue", "work", path, "--count", "1", "--timeout-ms", "300", "--retry-delay-ms", "0", "--json", "--", "sh", "-c", '[ "$HOLDFAST_ATTEMPTS" != 1 ] || exec sleep 60']);
  assert.equal(status, 0);
  assert.ok(performance.now() - begun < 30_000);
  assert.deepEqual(jsonLines<Told>(stdout).map(({ result, signal }) => [result, signal]), [["released", "SIGTERM"], ["acknowledged", null]]);
  assert.deepEqual(contentOf(path), ["second"]);
});

test("a lease is extended for as long as the command runs", async () => {
  const path = queueOf("long");
  const log = files.next("log");
  const worker = start(["queue", "work", path, "--lease-ms", "1000", "--until-empty", "--", "sh", "-c", 'echo "begun" >> "$0"; sleep 2; echo "done" >> "$0"', log]);
  await until(() => linesOf(log).length === 1, "the command begins");
  using queue = Queue.open<string>(path, { codec: "text" });
  for (let i = 0; i < 16; i++) {
    assert.equal(queue.lease(), undefined, "nobody else gets it");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.equal((await worker.ended).status, 0);
  assert.deepEqual([linesOf(log), contentOf(path)], [["begun", "done"], []]);
});

test("a first signal waits for the commands that run and takes no more; the process then dies of it", async () => {
  const path = queueOf("one", "two", "three");
  const [log, go] = [files.next("log"), files.next("go")];
  const worker = start(["queue", "work", path, "--", "sh", "-c", 'cat >> "$0"; echo >> "$0"; while [ ! -e "$1" ]; do sleep 0.02; done; echo "done" >> "$0"', log, go]);
  await until(() => linesOf(log).length === 1, "the command begins");
  worker.signal("SIGTERM");
  await worker.until(({ stderr }) => stderr.includes("waiting for the commands that run"));
  fs.writeFileSync(go, "");
  const { status } = await worker.ended;
  assert.deepEqual([status, linesOf(log), contentOf(path)], ["SIGTERM", ["one", "done"], ["two", "three"]]);
});

test("a second signal ends the commands; their records stay", async () => {
  const path = queueOf("one", "two");
  const log = files.next("log");
  const worker = start(["queue", "work", path, "--concurrency", "2", "--", "sh", "-c", 'echo $$ >> "$0"; exec sleep 60', log]);
  await until(() => linesOf(log).length === 2, "both commands begin");
  worker.signal("SIGINT");
  await worker.until(({ stderr }) => stderr.includes("once more ends them"));
  worker.signal("SIGINT");
  assert.equal((await worker.ended).status, "SIGINT");
  assert.deepEqual(contentOf(path), ["one", "two"]);
  for (const pid of linesOf(log)) assert.ok(!fs.existsSync(`/proc/${pid}`), "the command is gone");
});

test("an idle worker ends at a signal", async () => {
  const path = queueOf("one");
  const worker = start(["queue", "work", path, "--json", "--", "true"]);
  await worker.until(({ stdout }) => stdout.includes("acknowledged"));
  worker.signal("SIGINT");
  const { status, stderr } = await worker.ended;
  assert.deepEqual([status, stderr], ["SIGINT", ""]);
});

test("workers that are killed in the middle lose nothing", async () => {
  const count = 60;
  const path = queueOf(...Array.from({ length: count }, (_, i) => String(i)));
  const log = files.next("log");
  const args = ["queue", "work", path, "--concurrency", "2", "--until-empty", "--", "sh", "-c", 'sleep 0.02; printf "%s\\n" "$(cat)" >> "$0"', log]; // one write a record
  let workers = [start(args), start(args)];
  for (let killed = 1; killed <= 3; killed++) {
    await until(() => linesOf(log).length >= killed * 8, "some records are done");
    workers[killed % 2]?.signal("SIGKILL");
    assert.equal((await workers[killed % 2]?.ended)?.status, "SIGKILL");
    workers = workers.with(killed % 2, start(args));
  }
  for (const worker of workers) assert.equal((await worker.ended).status, 0);
  const done = linesOf(log).map(Number);
  assert.deepEqual([...new Set(done)].sort((a, b) => a - b), Array.from({ length: count }, (_, i) => i), "each was done");
  assert.ok(done.length <= count + 3 * 2, "again only what a killed one held");
  assert.deepEqual(contentOf(path), []);
});

test("a queue that is not there", async () => {
  const { status, stderr } = await run(["queue", "work", files.next("missing"), "--", "true"]);
  assert.equal(status, 1);
  assert.match(stderr, /ENOENT: no such queue/);
});
