/** examples/line_index.ts, run for real under all runtimes, from Node. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { currentRuntime, root, runtimeNames } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { children, type Ending } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const script = `${root}examples/line_index.ts`;
const sample = `${root}examples/data/access_log.txt`;
const files = temporaryFiles();
const { script: run } = children();
const reason = currentRuntime === "node" ? undefined : "starts all runtimes itself, from Node";

/** What was printed, as it was meant: the number, and the line. */
function linesOf({ stdout }: Ending): [number: number, line: string][] {
  return stdout.split("\n").slice(0, -1).map((line) => {
    const at = line.indexOf(":");
    return [Number(line.slice(0, at)), line.slice(at + 1)];
  });
}

/** All files as they are, to see what was made anew. */
function inodeOf(path: string): number {
  return fs.statSync(path).ino;
}

for (const runtime of runtimeNames) {
  const title = `line_index, ${runtime}: the sample log, indexed once, read anywhere`;
  test(title, skipFor(title, reason), async () => {
    const text = files.file(fs.readFileSync(sample));
    const index = `${text}.lines`;
    const expected = fs.readFileSync(sample, "utf8").split("\n");

    const first = await run(runtime, script, text, "1", "2000", "17");
    assert.equal(first.code, 0, first.stderr);
    assert.deepEqual(linesOf(first), [1, 2000, 17].map((number) => [number, expected[number - 1]]));
    assert.match(first.stderr, /2000 lines, indexed in [\d.]+ ms\n3 lines in [\d.]+ µs, [\d.]+ µs each/);
    assert.equal(fs.statSync(index).size, (4 + 2001) * 8);

    const made = inodeOf(index);
    const second = await run(runtime, script, text, "--random", "500");
    assert.equal(second.code, 0, second.stderr);
    assert.match(second.stderr, /index was there/);
    assert.equal(inodeOf(index), made);
    const lines = linesOf(second);
    assert.equal(lines.length, 500);
    assert.ok(new Set(lines.map(([number]) => number)).size > 100);
    for (const [number, line] of lines) assert.equal(line, expected[number - 1]);
    assert.deepEqual(fs.readdirSync(files.folder).filter((name) => name.endsWith(".tmp")), []);
  });
}

const other = "line_index: an index is used by all runtimes, and rebuilt when the text has changed";
test(other, skipFor(other, reason), async () => {
  // Longer than a chunk, lines across its border, a last line without an end.
  const lines = Array.from({ length: 60_000 }, (_, i) => `${i} ${"é".repeat(i % 37)}${i % 3 === 0 ? "\r" : ""}`);
  const text = files.file(lines.join("\n"));
  const index = files.next("index");
  const shown = lines.map((line) => line.replace(/\r$/, ""));
  for (const [i, runtime] of runtimeNames.entries()) {
    const ending = await run(runtime, script, text, "--index", index, "1", "30000", "60000", "--random", "2000");
    assert.equal(ending.code, 0, ending.stderr);
    assert.match(ending.stderr, i === 0 ? /indexed in/ : /index was there/);
    for (const [number, line] of linesOf(ending)) assert.equal(line, shown[number - 1]);
  }

  const [atime, mtime] = [new Date(), new Date(1_000_000)];
  fs.utimesSync(text, atime, mtime);
  assert.match((await run("node", script, text, "--index", index)).stderr, /60000 lines, indexed in/);
  fs.appendFileSync(text, "\nmore\n");
  fs.utimesSync(text, atime, mtime);
  const longer = await run("bun", script, text, "--index", index, "60001");
  assert.match(longer.stderr, /60001 lines, indexed in/);
  assert.deepEqual(linesOf(longer), [[60001, "more"]]);
  fs.truncateSync(index, 4096); // a half index is made anew
  assert.match((await run("deno", script, text, "--index", index)).stderr, /60001 lines, indexed in/);
});

const wrong = "line_index: --help, and what makes no sense";
test(wrong, skipFor(wrong, reason), async () => {
  const help = await run("node", script, "--help");
  assert.equal(help.code, 0);
  for (const option of ["FILE", "LINE", "--random", "--index", "--help"]) assert.ok(help.stdout.includes(option), option);

  const text = files.file("one\ntwo\n");
  const noIndex = files.file("this is no index of lines, whatever else it may be");
  const cases: [args: string[], message: RegExp][] = [
    [[], /give a FILE/],
    [[text, "0"], /LINE must be a whole number/],
    [[text, "3"], /there is no line 3: .* has 2/],
    [[text, "--random", "x"], /--random must be/],
    [[text, "--nothing"], /--nothing/],
    [[files.file("")], /is empty/],
    [[text, "--index", noIndex], /is no index of lines/],
  ];
  for (const [args, message] of cases) {
    const { code, stdout, stderr } = await run("node", script, ...args);
    assert.equal(code, 2, args.join(" "));
    assert.equal(stdout, "");
    assert.match(stderr, message);
    assert.match(stderr, /Try --help/);
  }
  assert.equal(fs.readFileSync(noIndex, "utf8"), "this is no index of lines, whatever else it may be");
  const missing = await run("node", script, files.next());
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /ENOENT/);
});
