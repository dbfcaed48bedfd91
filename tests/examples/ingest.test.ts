/**
 * The main job, examples/ingest.ts. It runs its children under all three runtimes whatever runs the test, so the runs themselves
 * are made once, under Node; the parts that are plain code are tested in each.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { compare, type Counted, countFile, type Expected } from "../../examples/ingest/check.ts";
import { killPlan, randomNumbers } from "../../examples/ingest/crew.ts";
import { counterNames, cutPath, parseLogLine } from "../../examples/ingest/log_line.ts";
import { parseOptions, sample } from "../../examples/ingest/options.ts";
import { UsageError } from "../../examples/usage.ts";
import { linesOf, splitFile } from "../../examples/ingest/parts.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const isNode = process.versions.bun === undefined && process.versions.deno === undefined;

/** A test that starts processes; their temporary files go to a folder of its own. */
function run(name: string, body: (folder: string) => Promise<void>): void {
  const reason = "runs under Node only: what it starts is the same under each";
  if (!isNode) console.log(`# skip [${name}] ${reason}`);
  test(name, { skip: isNode ? false : reason }, async () => {
    const folder = mkdtempSync(path.join(os.tmpdir(), "holdfast-test-ingest-"));
    try {
      await body(folder);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
}

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly errors: string;
}

/** Runs the program; with `signal`, ends it once it shows that lines are being pushed. */
function ingest(folder: string, args: readonly string[], signal?: NodeJS.Signals): Promise<Ended> {
  const node = path.join(root, "node_modules/.bin/node");
  const child = spawn(node, ["--disable-warning=ExperimentalWarning", "examples/ingest.ts", ...args], {
    cwd: root,
    env: { ...process.env, TMPDIR: folder },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let out = "";
  let errors = "";
  let sent = false;
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
    if (signal === undefined || sent || !out.includes("pushed")) return;
    sent = true;
    child.kill(signal);
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => (errors += text));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, out, errors }));
  });
}

/** The number behind a name in the first table. */
function figure(out: string, name: string): number {
  const match = new RegExp(`│ ${name} +│ +([\\d,]+) │`).exec(out);
  assert.ok(match, `no "${name}" in:\n${out}`);
  return Number((match[1] as string).replaceAll(",", ""));
}

async function withFile(content: string | Uint8Array, body: (file: string) => unknown): Promise<void> {
  const file = path.join(os.tmpdir(), `holdfast-test-lines-${process.pid}-${Math.random().toString(36).slice(2)}`);
  writeFileSync(file, content);
  try {
    await body(file);
  } finally {
    rmSync(file);
  }
}

run("ingest: --help explains every option", async (folder) => {
  const { code, out, errors } = await ingest(folder, ["--help"]);
  assert.equal(code, 0);
  assert.equal(errors, "");
  for (const name of ["FILE", "producers", "consumers", "runtime", "kill", "kills", "seed", "batch", "keep"]) assert.match(out, new RegExp(name));
});

run("ingest: a command line that makes no sense is exit code 2 and a clear error", async (folder) => {
  const cases: [args: string[], message: RegExp][] = [
    [["--colour"], /--colour/],
    [["--producers", "0"], /--producers must be a whole number from 1 to 64; received '0'/],
    [["/nowhere/at all.log"], /ENOENT.*\/nowhere\/at all\.log/],
    [[os.tmpdir()], /is a directory/],
    [["/dev/null"], /no regular file/],
  ];
  for (const [args, message] of cases) {
    const { code, out, errors } = await ingest(folder, args);
    assert.equal(code, 2, args.join(" "));
    assert.equal(out, "");
    assert.match(errors, message);
    assert.match(errors, /--help/);
  }
});

run("ingest: the sample file, counted exactly and quickly", async (folder) => {
  const started = performance.now();
  const { code, out, errors } = await ingest(folder, []);
  assert.equal(code, 0, out + errors);
  assert.ok(performance.now() - started < 20_000);
  assert.equal(figure(out, "lines in"), 2000);
  assert.equal(figure(out, "processed"), 2000);
  assert.equal(figure(out, "duplicates"), 0);
  assert.equal(figure(out, "lost"), 0);
  assert.ok(figure(out, "lines/s") > 0);
  assert.equal(figure(out, "status 200"), 1845);
  for (const runtime of ["node", "bun", "deno"]) assert.match(out, new RegExp(`(producer|consumer) \\d │ ${runtime}`));
  assert.match(out, /Equal to a single-process count\./);
  assert.deepEqual(readdirSync(folder), []);
});

run("ingest: nothing is lost when producers and consumers are killed", async (folder) => {
  const { code, out, errors } = await ingest(folder, ["--kill", "--seed", "7", "--producers", "2", "--consumers", "3", "--batch", "16"]);
  assert.equal(code, 0, out + errors);
  assert.equal(figure(out, "lines in"), 2000);
  assert.equal(figure(out, "processed"), 2000);
  assert.equal(figure(out, "lost"), 0);
  const killed = /(\d+) producers, (\d+) consumers \(3 of each planned, --seed 7\)/.exec(out);
  assert.ok(killed, out);
  assert.ok(Number(killed[1]) >= 2 && Number(killed[2]) >= 2, killed[0]);
  assert.equal(figure(out, "killed"), Number(killed[1]) + Number(killed[2]));
  assert.ok(figure(out, "duplicates") <= Number(killed[2]));
  assert.deepEqual(readdirSync(folder), []);
});

run("ingest: lines that are no log lines, an unfinished last line, more producers than lines", async (folder) => {
  await withFile("\n\nnothing of the kind\r\nä\ufffd 1", async (file) => {
    const { code, out, errors } = await ingest(folder, [file, "--producers", "6", "--consumers", "1", "--runtime", "node"]);
    assert.equal(code, 0, out + errors);
    assert.equal(figure(out, "lines in"), 4);
    assert.equal(figure(out, "lines not understood"), 4);
  });
});

/** A file that takes some seconds. */
function longFile(): string {
  return `1.1.1.1 - - [17/May/2015:10:05:03 +0000] "GET /page HTTP/1.1" 200 5 "-" "x"\n`.repeat(600_000);
}

run("ingest: Ctrl-C ends it with nothing left behind", async (folder) => {
  await withFile(longFile(), async (file) => {
    const { code, errors } = await ingest(folder, [file, "--runtime", "node"], "SIGINT");
    assert.equal(code, 130, errors);
    assert.match(errors, /ended by SIGINT/);
  });
  assert.deepEqual(readdirSync(folder), []);
  assert.deepEqual(processesIn(folder), []);
});

run("ingest: children end by themselves when the parent is killed", async (folder) => {
  await withFile(longFile(), async (file) => {
    const { code } = await ingest(folder, [file], "SIGKILL");
    assert.equal(code, null);
    const end = performance.now() + 30_000;
    while (processesIn(folder).length > 0 && performance.now() < end) await sleep(50);
    assert.deepEqual(processesIn(folder), []);
  });
});

/** Command lines of the processes that were given that folder. */
function processesIn(folder: string): string[] {
  const found: string[] = [];
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      if (line.includes(folder)) found.push(line);
    } catch {
      // It ended while we looked.
    }
  }
  return found;
}

test("ingest: options have defaults and bounds", () => {
  const options = parseOptions([]);
  assert.ok(options !== "help");
  assert.deepEqual({ ...options, seed: 0 }, {
    file: sample,
    producers: 2,
    consumers: 2,
    runtime: "mixed",
    kill: false,
    kills: undefined,
    seed: 0,
    batch: 64,
    keep: false,
  });
  const many = parseOptions(["x.log", "--producers=3", "--consumers", "5", "--runtime", "bun", "--kills", "9", "--seed", "1", "--batch", "10"]);
  assert.deepEqual(many, { file: "x.log", producers: 3, consumers: 5, runtime: "bun", kill: true, kills: 9, seed: 1, batch: 10, keep: false });
  assert.equal(parseOptions(["-h"]), "help");
  const wrong = [["a", "b"], ["--producers", "65"], ["--consumers", "1.5"], ["--consumers", "-1"], ["--runtime", "perl"], ["--kills", "0"],
    ["--seed", "x"], ["--batch", ""], ["--kill=yes"], ["--nothing"]];
  for (const args of wrong) assert.throws(() => parseOptions(args), UsageError, args.join(" "));
});

test("ingest: a log line is read as far as it is counted", () => {
  const line = `::1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a%20b/?x=1 HTTP/1.0" 200 2326 "-" "Mozilla"`;
  assert.deepEqual(parseLogLine(line), { method: "GET", path: "/a%20b/", status: "200", bytes: 2326 });
  assert.equal(parseLogLine(line.replace("2326", "-"))?.bytes, 0);
  for (const other of ["", "x", line.replace(" 200 ", " 2000 "), line.replace("GET", "get"), line.replace(" HTTP/1.0", "")]) {
    assert.equal(parseLogLine(other), undefined, other);
  }
});

test("ingest: a counter's name never takes more than 255 bytes, and is cut at a character", () => {
  assert.equal(cutPath("/short"), "/short");
  for (const character of ["a", "é", "€", "😀"]) {
    const cut = cutPath(`/${character.repeat(300)}`);
    assert.ok(cut.isWellFormed());
    assert.ok(!cut.includes("\ufffd"));
    const bytes = Buffer.byteLength(`path ${cut}`);
    assert.ok(bytes <= 255 && bytes > 255 - 4, String(bytes));
    assert.equal(cutPath(cut), cut);
  }
});

test("ingest: the parts of a file are all of its lines, once", async () => {
  for (const content of ["a", "a\n", "\n", "\n\n\n", "a\nbb\nccc", "a\r\nb\n\n", `${"x".repeat(1000)}\ny\n`, "\u{feff}a\n\u{feff}b\n"]) {
    await withFile(content, (file) => {
      const expected = content.split("\n");
      if (expected.at(-1) === "") expected.pop();
      const bytes = new TextEncoder().encode(content);
      for (let count = 1; count <= 5; count++) {
        const parts = splitFile(file, count);
        assert.equal(parts.length, count);
        const lines = parts.flatMap(({ start, end }) => [...linesOf(bytes.subarray(start, end), 0)]);
        assert.deepEqual(lines, expected, JSON.stringify(content));
        let firstLine = 0;
        for (const part of parts) {
          assert.equal(part.firstLine, firstLine);
          const own = [...linesOf(bytes.subarray(part.start, part.end), 0)];
          assert.equal(part.lines, own.length);
          assert.deepEqual([...linesOf(bytes.subarray(part.start, part.end), 1)], own.slice(1));
          firstLine += part.lines;
        }
      }
    });
  }
});

test("ingest: the single-process count agrees with the consumers' way of reading, whatever the lines", async () => {
  // Lines put together at random from what matters: mostly no log lines, but close to ones.
  const random = randomNumbers(1);
  const pieces = ["-", "", "h", `"GET`, `"get`, `"POST`, "/", "/a?b", "?", "/ä", "\u2028", "HTTP/1.1\"", "200", "20", "404", "0", "17", "-", "1x", "\r", "x\ufffd"];
  const likely = ["h", "-", "-", "[t", "z]", `"GET`, "/a", "HTTP/1.1\"", "200", "17", "more"];
  const lines = Array.from({ length: 5000 }, () => {
    const fields = likely.slice(0, 8 + Math.floor(random() * 4)).map((field) => (random() < 0.9 ? field : (pieces[Math.floor(random() * pieces.length)] as string)));
    return fields.join(" ") + (random() < 0.2 ? "\r" : "");
  });
  await withFile(`${lines.join("\n")}\n`, async (file) => {
    const expected = await countFile(file);
    const counts = new Map<string, number>();
    let bytes = 0;
    let notUnderstood = 0;
    for (const line of linesOf(readFileSync(file), 0)) {
      const entry = parseLogLine(line);
      if (entry === undefined) notUnderstood++;
      else for (const name of counterNames(entry)) counts.set(name, (counts.get(name) ?? 0) + 1);
      bytes += entry?.bytes ?? 0;
    }
    assert.equal(expected.lines, lines.length);
    assert.ok(notUnderstood > 500 && notUnderstood < 4500, String(notUnderstood));
    assert.deepEqual([expected.notUnderstood, expected.bytes], [notUnderstood, bytes]);
    assert.deepEqual(new Map([...expected.counts].sort()), new Map([...counts].sort()));
  });
});

const expected: Expected = {
  lines: 10,
  bytes: 1000,
  mostBytes: 200,
  notUnderstood: 1,
  counts: new Map([["status 200", 7], ["status 404", 2], ["method GET", 9], ["path /", 9]]),
};
const right: Counted = {
  pushed: 10,
  processed: 10,
  bytes: 1000,
  notUnderstood: 1,
  counts: expected.counts,
  lost: 0,
  duplicates: 0,
  pushedTwice: 0,
  left: 0,
  consumersKilled: 0,
};

function changed(name: string, by: number, from = right.counts): Map<string, number> {
  return new Map(from).set(name, (from.get(name) ?? 0) + by);
}

test("ingest: the check passes what is right", () => {
  assert.deepEqual(compare(expected, right), []);
  const afterKill = { ...right, consumersKilled: 2, duplicates: 1 };
  assert.deepEqual(compare(expected, afterKill), []);
  // One line counted a second time, as far as its status.
  assert.deepEqual(compare(expected, { ...afterKill, processed: 11, counts: changed("status 404", 1), bytes: 1200 }), []);
});

test("ingest: the check finds whatever is wrong", () => {
  const killed: Counted = { ...right, consumersKilled: 1, duplicates: 1, processed: 11 };
  const wrong: [what: Partial<Counted>, from: Counted, message: RegExp][] = [
    [{ lost: 1 }, right, /1 lines were lost/],
    [{ lost: 1 }, killed, /1 lines were lost/],
    [{ pushed: 9 }, right, /9 lines were pushed/],
    [{ pushedTwice: 1 }, killed, /pushed twice/],
    [{ left: 1 }, right, /left in the queue/],
    [{ duplicates: 1 }, right, /only 0 consumers were killed/],
    [{ duplicates: 2 }, killed, /only 1 consumers were killed/],
    [{ processed: 9 }, killed, /lines processed: counted 9/],
    [{ processed: 11 }, right, /lines processed: counted 11/],
    [{ processed: 12 }, killed, /lines processed: counted 12/],
    [{ bytes: 999 }, killed, /bytes: counted 999/],
    [{ bytes: 1001 }, right, /bytes: counted 1001/],
    [{ bytes: 1201 }, killed, /bytes: counted 1201/],
    [{ notUnderstood: 0 }, killed, /not understood: counted 0/],
    [{ counts: changed("status 200", -1) }, killed, /"status 200": counted 6/],
    [{ counts: changed("status 200", 1) }, right, /"status 200": counted 8/],
    [{ counts: changed("status 200", 2) }, killed, /"status 200": counted 9/],
    [{ counts: changed("status 200", 1, changed("status 404", 1)) }, killed, /status counters have 2 too much/],
    [{ counts: changed("path /new", 1) }, right, /"path \/new": counted 1/],
    [{ counts: new Map() }, right, /"method GET": counted 0/],
  ];
  for (const [what, from, message] of wrong) {
    assert.match(compare(expected, { ...from, ...what }).join("\n"), message);
  }
});

test("ingest: kills are spread over the run, and the same for the same seed", () => {
  const plan = killPlan(10, 1000, randomNumbers(5));
  assert.deepEqual(plan, killPlan(10, 1000, randomNumbers(5)));
  assert.deepEqual(plan, plan.toSorted((a, b) => a - b));
  assert.ok((plan[0] as number) >= 30 && (plan.at(-1) as number) < 850);
  assert.notDeepEqual(plan, killPlan(10, 1000, randomNumbers(6)));
});
