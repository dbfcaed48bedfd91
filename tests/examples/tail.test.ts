/** examples/tail.ts, run for real: a file that grows, is cut short and is replaced under it. All runtimes, started from Node. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { atEnd } from "../support/cleanup.ts";
import { commandLine, currentRuntime, root, type RuntimeName, runtimeNames } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { temporaryFiles } from "../support/temporary.ts";

const script = `${root}examples/tail.ts`;
const sample = `${root}examples/data/access_log.txt`;
const files = temporaryFiles();
const reason = currentRuntime === "node" ? undefined : "starts all runtimes itself, from Node";

const running = new Set<ChildProcess>();
const killAll = (): void => running.forEach((child) => child.kill("SIGKILL"));
atEnd(killAll);

/** A run of the program. */
class Tail {
  out = "";
  errors = "";
  readonly ended: Promise<number | string | null>;
  readonly #child: ChildProcess;

  constructor(runtime: RuntimeName, ...args: string[]) {
    const child = spawn(...commandLine(runtime, script, ...args), { stdio: ["ignore", "pipe", "pipe"] });
    this.#child = child;
    running.add(child);
    child.stdout.setEncoding("utf8").on("data", (text: string) => (this.out += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (this.errors += text));
    this.ended = new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code, signal) => {
        running.delete(child);
        resolve(signal ?? code);
      });
    });
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Waits until the output is `expected`. */
  async shows(expected: string): Promise<void> {
    await this.#until(() => this.out === expected);
    assert.equal(this.out, expected, this.errors);
  }

  async says(expected: RegExp): Promise<void> {
    await this.#until(() => expected.test(this.errors));
    assert.match(this.errors, expected);
  }

  async #until(condition: () => boolean): Promise<void> {
    const end = performance.now() + 20_000;
    while (!condition() && performance.now() < end && this.#child.exitCode === null) await sleep(10);
    await sleep(30); // whatever comes too much
  }
}

const quick = ["--interval", "10"];

for (const runtime of runtimeNames) {
  const run = (name: string, body: () => Promise<void>): void => {
    const title = `tail, ${runtime}: ${name}`;
    test(title, skipFor(title, reason), body);
  };

  run("the last lines, then what is added, line by line", async () => {
    const log = files.file("one\ntwo\nthree\n");
    const tail = new Tail(runtime, log, "--lines", "2", "--until", "end", ...quick);
    await tail.shows("two\nthree\n");
    fs.appendFileSync(log, "fo");
    await sleep(100);
    assert.equal(tail.out, "two\nthree\n", "an unfinished line waits");
    fs.appendFileSync(log, "ur\nfive, ä€😀\r\n\n");
    await tail.shows("two\nthree\nfour\nfive, ä€😀\n\n");
    fs.appendFileSync(log, "the end\nafter it\n");
    assert.equal(await tail.ended, 0, tail.errors);
    assert.equal(tail.out, "two\nthree\nfour\nfive, ä€😀\n\nthe end\n");
    assert.equal(tail.errors.replace(/.*ExperimentalWarning.*\n/g, ""), "");
  });

  run("a file that is cut short is read from its start", async () => {
    const log = files.file(`${"a line of the first content\n".repeat(1000)}last\n`);
    const tail = new Tail(runtime, log, "--lines", "1", "--until", "end", ...quick);
    await tail.shows("last\n");
    fs.truncateSync(log, 0);
    await tail.says(/cut short/);
    fs.appendFileSync(log, "new 1\nnew 2\n");
    await tail.shows("last\nnew 1\nnew 2\n");
    fs.writeFileSync(log, "3\n"); // shorter, but not empty for long
    await tail.shows("last\nnew 1\nnew 2\n3\n");
    fs.appendFileSync(log, "end\n");
    assert.equal(await tail.ended, 0, tail.errors);
  });

  run("a file that is replaced: what is left of the old one, then the new one", async () => {
    const log = files.file("old 1\n");
    const tail = new Tail(runtime, log, "--from-start", "--until", "end", ...quick);
    await tail.shows("old 1\n");
    fs.renameSync(log, `${log}.1`);
    fs.appendFileSync(`${log}.1`, "old 2\nold 3, unfinished");
    await tail.shows("old 1\nold 2\n");
    fs.writeFileSync(log, "");
    await tail.says(/replaced/);
    fs.writeFileSync(log, "new 1\nnew 2\n");
    await tail.shows("old 1\nold 2\nold 3, unfinished\nnew 1\nnew 2\n");
    fs.appendFileSync(log, "end\n");
    assert.equal(await tail.ended, 0, tail.errors);
  });

  run("a file that comes later, and the sample log as it grows", async () => {
    const log = files.next();
    const tail = new Tail(runtime, log, "--until", "END OF LOG", ...quick);
    await tail.says(/waiting/);
    const content = fs.readFileSync(sample, "utf8");
    const fd = fs.openSync(log, "a");
    // In pieces that have nothing to do with lines.
    for (let at = 0; at < content.length; at += 50_021) {
      fs.writeSync(fd, content.slice(at, at + 50_021));
      await sleep(5);
    }
    fs.writeSync(fd, "END OF LOG\n");
    fs.closeSync(fd);
    assert.equal(await tail.ended, 0, tail.errors);
    assert.equal(tail.out, `${content.replace(/\n?$/, "\n")}END OF LOG\n`);
  });

  run("SIGINT ends it with code 0", async () => {
    const log = files.file("one\n");
    const tail = new Tail(runtime, log, ...quick);
    await tail.shows("one\n");
    tail.kill("SIGINT");
    assert.equal(await tail.ended, 0, tail.errors);
  });
}

test("tail: --help, and a command line that makes no sense", skipFor("tail: --help", reason), async () => {
  const helped = new Tail("node", "--help");
  assert.equal(await helped.ended, 0);
  for (const option of ["--lines", "--from-start", "--until", "--interval", "--help"]) assert.ok(helped.out.includes(option), option);
  for (const wrong of [[], ["a", "b"], ["a", "--lines=-1"], ["a", "--lines", "x"], ["a", "--interval", "0"], ["a", "--colour"]]) {
    const tail = new Tail("node", ...wrong);
    assert.equal(await tail.ended, 2, wrong.join(" "));
    assert.match(tail.errors, /^tail: .*\nTry --help/ms);
  }
  const folder = new Tail("node", files.folder);
  assert.equal(await folder.ended, 1);
  assert.match(folder.errors, /EISDIR/);
});
