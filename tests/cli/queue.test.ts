/** `holdfast queue …`: what goes in, what comes out, and what is left. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { formats, decodeInput, encodeOutput, recordOf } from "../../cli/records.ts";
import { compressed, Queue, type QueueStats } from "../../mod.ts";
import { cli, jsonLines } from "../support/cli.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { fingerprint } from "../support/untouched.ts";

const files = temporaryFiles();
const { run, start, shell } = cli();
const encoder = new TextEncoder();

/** The texts in a queue. */
function contentOf(path: string): string[] {
  using queue = Queue.open<string>(path, { codec: "text", mode: "r" });
  return [...queue];
}

function queueOf(...values: string[]): string {
  const path = files.next("queue");
  using queue = Queue.open<string>(path, { codec: "text" });
  queue.pushMany(values);
  return path;
}

async function ok(args: string[], input?: string | Uint8Array): Promise<string> {
  const { status, stdout, stderr } = await run(args, input);
  assert.deepEqual([status, stderr], [0, ""], args.join(" "));
  return stdout;
}

test("push takes each line as it is, also an empty one, and the last one without a line end", async () => {
  const path = files.next("queue");
  assert.equal(await ok(["queue", "push", path], "one\n\nthree ä€😀\r\nlast"), "");
  assert.deepEqual(contentOf(path), ["one", "", "three ä€😀\r", "last"]);
  assert.equal(await ok(["queue", "push", path, "five", "", "--json"]), '{"pushed":2}\n');
  assert.deepEqual(contentOf(path).slice(4), ["five", ""]);
  assert.equal(await ok(["queue", "push", path, "-0"], "a\nb\0c\0"), "");
  assert.deepEqual(contentOf(path).slice(6), ["a\nb", "c"]);
});

test("push --as string is for programs with codec \"json\"; json is checked, and what comes before a bad line is in the queue", async () => {
  const path = files.next("queue");
  await ok(["queue", "push", path, "--as", "string"], 'plain "text"\n');
  const bad = await run(["queue", "push", path, "--as", "json"], '{"a":1}\n\n[2]\nnot json\n{"b":2}\n');
  assert.equal(bad.status, 1);
  assert.match(bad.stderr, /^holdfast: 2 records of the input are in the queue\nholdfast: record 4 of the input is not JSON: /);
  using queue = Queue.open(path);
  assert.deepEqual([...queue], ['plain "text"', { a: 1 }, [2]]);
});

test("push: a queue that is full, and a record that can never fit", async () => {
  const path = files.next("queue");
  const input = Array.from({ length: 200 }, (_, i) => `${i} `.padEnd(100, "x")).join("\n");
  const full = await run(["queue", "push", path, "--capacity-bytes", "8K", "--fixed-size", "--when-full", "fail", "--json"], input);
  assert.equal(full.status, 3);
  const { pushed } = JSON.parse(full.stdout) as { pushed: number };
  assert.ok(pushed > 30 && pushed < 100, `${pushed}`);
  assert.match(full.stderr, new RegExp(`the queue is full; ${pushed} records went in`));
  assert.deepEqual(contentOf(path).map((text) => parseInt(text)), Array.from({ length: pushed }, (_, i) => i));
  const large = await run(["queue", "push", path], `${"y".repeat(20_000)}\n`);
  assert.equal(large.status, 1);
  assert.match(large.stderr, /^holdfast: .*20000 bytes|^holdfast: .*bytes/);

  // The default: it waits for room, and nothing is lost.
  const waiting = start(["queue", "push", path]);
  waiting.child.stdin?.end(input);
  await waiting.until(({ stderr }) => stderr.includes("is full; waiting for room"));
  using queue = Queue.open<string>(path, { codec: "text" });
  const seen: number[] = [];
  while (seen.length < pushed + 200) {
    const value = await queue.take({ timeoutMs: 20_000 });
    assert.ok(value !== undefined);
    seen.push(parseInt(value));
  }
  assert.equal((await waiting.ended).status, 0);
  assert.deepEqual(seen.slice(pushed), Array.from({ length: 200 }, (_, i) => i));
});

test("pop writes the oldest and takes it out; code 3 if there is none", async () => {
  const path = queueOf("one", '"two"', "[3]", "four", "\u{1}\n");
  assert.equal(await ok(["queue", "pop", path]), "one\n");
  assert.equal(await ok(["queue", "pop", path, "--as", "string"]), "two\n");
  const wrong = await run(["queue", "pop", path, "--as", "string"]);
  assert.deepEqual([wrong.status, wrong.stdout], [1, ""]);
  assert.match(wrong.stderr, /record 3 is not a JSON string/);
  assert.equal(await ok(["queue", "pop", path, "--count", "2", "--json"]), '{"sequence":3,"text":"[3]"}\n{"sequence":4,"text":"four"}\n');
  assert.equal(await ok(["queue", "pop", path, "--all", "--null"]), "\u{1}\n\0");
  const none = await run(["queue", "pop", path]);
  assert.deepEqual([none.status, none.stdout, none.stderr], [3, "", ""]);
  const late = await run(["queue", "pop", path, "--wait", "--timeout-ms", "50"]);
  assert.deepEqual([late.status, late.stdout], [3, ""]);
});

test("pop --all stops before a record that can't be written in the form, and the records before it are out", async () => {
  const path = queueOf("1", "2", "none", "4");
  const { status, stdout, stderr } = await run(["queue", "pop", path, "--all", "--as", "json"]);
  assert.deepEqual([status, stdout], [1, "1\n2\n"]);
  assert.match(stderr, /is not JSON/);
  assert.deepEqual(contentOf(path), ["none", "4"]);
});

test("pop: what could not be written stays in the queue", async () => {
  const path = queueOf(...Array.from({ length: 600 }, (_, i) => String(i)));
  const { status, stderr } = await shell(`holdfast queue pop '${path}' --all > /dev/full`);
  assert.equal(status, 1);
  assert.match(stderr, /ENOSPC/);
  assert.equal(contentOf(path).length, 600);
});

test("pop and tail end with 141 when nobody reads, and pop loses no more than what is in the pipe", async () => {
  const bytes = 1000;
  const count = 4000;
  const path = queueOf(...Array.from({ length: count }, (_, i) => `${i} `.padEnd(bytes - 1, "x")));
  const shown = await shell(`(holdfast queue tail '${path}' --count ${count}; echo "code $?" >&2) | head -n 1`);
  assert.equal(shown.stdout.slice(0, 5), "0 xxx");
  assert.match(shown.stderr, /^code 141$/m);
  assert.equal(contentOf(path).length, count);
  const taken = await shell(`(holdfast queue pop '${path}' --all; echo "code $?" >&2) | head -n 100`);
  assert.match(taken.stderr, /^code 141$/m);
  assert.equal(taken.stdout.split("\n").length, 101);
  const left = contentOf(path).map((text) => parseInt(text));
  // A pipe holds 64 KiB, and "head" reads a little ahead.
  const gone = count - left.length;
  assert.ok(gone >= 100 - 32 && gone * bytes <= 100 * bytes + 3 * 65_536, `${gone} records are gone`);
  assert.deepEqual(left, Array.from({ length: left.length }, (_, i) => gone + i), "the rest is there, in order");
});

test("peek and tail look from either end, with sequences", async () => {
  const path = queueOf("a", "b", "c", "d");
  const before = fingerprint(`${path}/control`);
  assert.equal(await ok(["queue", "peek", path]), "a\n");
  assert.equal(await ok(["queue", "peek", path, "--count", "2", "--json"]), '{"sequence":1,"text":"a"}\n{"sequence":2,"text":"b"}\n');
  assert.equal(await ok(["queue", "tail", path, "--count", "2"]), "c\nd\n");
  assert.equal(await ok(["queue", "tail", path, "--as", "base64"]), "YQ==\nYg==\nYw==\nZA==\n");
  assert.equal(fingerprint(`${path}/control`), before, "nothing is written");
  const empty = await run(["queue", "peek", queueOf()]);
  assert.deepEqual([empty.status, empty.stdout], [3, ""]);
});

test("tail --follow shows what is pushed, once, in order, and ends by the signal", async () => {
  const path = queueOf("old", "older");
  using queue = Queue.open<string>(path, { codec: "text" });
  const tail = start(["queue", "tail", path, "--follow", "--count", "1", "--interval-ms", "10"]);
  await tail.until(({ stdout }) => stdout === "older\n");
  const expected = ["older"];
  for (let i = 0; i < 30; i++) {
    const batch = Array.from({ length: i % 7 }, (_, j) => `${i}.${j}`);
    queue.pushMany(batch);
    expected.push(...batch);
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
  // More than is collected from the back.
  const many = Array.from({ length: 12_000 }, (_, i) => `many ${i}`);
  queue.pushMany(many);
  await tail.until(({ stdout }) => stdout.endsWith("many 11999\n"));
  tail.signal("SIGINT");
  const { status, stdout, stderr } = await tail.ended;
  assert.deepEqual([status, stderr], ["SIGINT", ""]);
  assert.deepEqual(stdout.trimEnd().split("\n"), [...expected, ...many]);
});

test("stats, for people and as JSON, with the groups of a log", async () => {
  const path = files.next("log");
  await ok(["queue", "push", path, "--groups", "x", "y", "z"]);
  {
    using group = Queue.open<string>(path, { codec: "text", group: "mail" });
    group.pop();
  }
  const found = JSON.parse(await ok(["queue", "stats", path, "--json"])) as QueueStats & { path: string; groups: { name: string; length: number }[] };
  assert.deepEqual([found.path, found.length, found.pushed, found.handles, found.groups[0]?.name, found.groups[0]?.length], [path, 3, 3, [], "mail", 2]);
  const text = await ok(["queue", "stats", path]);
  assert.match(text, /^records +3$/m);
  assert.match(text, /^GROUP +RECORDS.*\nmail +2 +0 +0$/m);
  assert.equal(await ok(["queue", "pop", path, "--group", "mail"]), "y\n");
  assert.equal(await ok(["queue", "peek", path, "--group", "mail"]), "z\n");
  const without = await run(["queue", "pop", path]);
  assert.equal(without.status, 1);
  assert.match(without.stderr, /ERR_KIND: .* is a log/);
});

test("verify says what is damaged, with code 1, and changes nothing; recover keeps every whole record", async () => {
  const path = queueOf(...Array.from({ length: 10 }, (_, i) => `record ${i}`));
  assert.match(await ok(["queue", "verify", path]), /: sound\n/);
  const segment = `${path}/${fs.readdirSync(path).find((name) => name.startsWith("segment-")) as string}`;
  const bytes = fs.readFileSync(segment);
  bytes[bytes.indexOf("record 4") + 7] = 0x58;
  fs.writeFileSync(segment, bytes);
  const before = fingerprint(segment);
  const verified = await run(["queue", "verify", path, "--json"]);
  assert.equal(verified.status, 1);
  const report = JSON.parse(verified.stdout) as { ok: boolean; lost: number; gaps: unknown };
  assert.deepEqual([report.ok, report.lost, report.gaps], [false, 1, [{ first: 5, last: 5 }]]);
  assert.equal(fingerprint(segment), before);
  const recovered = await run(["queue", "recover", path]);
  assert.equal(recovered.status, 0, recovered.stderr);
  assert.match(recovered.stdout, /recovered; the files as they were are in/);
  assert.deepEqual(contentOf(path), [0, 1, 2, 3, 5, 6, 7, 8, 9].map((i) => `record ${i}`));
});

test("clear removes all, and says how many", async () => {
  const path = queueOf("a", "b");
  assert.equal(await ok(["queue", "clear", path]), "2\n");
  assert.equal(await ok(["queue", "clear", path, "--json"]), '{"cleared":0}\n');
});

test("what is no queue is refused and left as it is", async () => {
  const file = files.file("a file of something else\n");
  const folder = files.next("folder");
  fs.mkdirSync(folder);
  fs.writeFileSync(`${folder}/control`, "x".repeat(400_000));
  const before = [fingerprint(file), fingerprint(`${folder}/control`)];
  await Promise.all([["push", file, "x"], ["pop", file], ["clear", folder], ["push", folder, "x"]].map(async (args) => {
    const { status, stdout, stderr } = await run(["queue", ...args]);
    assert.deepEqual([status, stdout], [1, ""], args.join(" "));
    assert.match(stderr, /holdfast: (ERR_NOT_HOLDFAST|ENOTDIR): /);
    assert.doesNotMatch(stderr, /^ +at /m, "no stack");
  }));
  assert.deepEqual([fingerprint(file), fingerprint(`${folder}/control`)], before);
});

test("--compressed", async () => {
  const path = files.next("queue");
  const text = "to be or not to be ".repeat(50);
  await ok(["queue", "push", path, "--compressed"], `${text}\n`);
  {
    using queue = Queue.open<string>(path, { codec: compressed("text"), mode: "r" });
    assert.deepEqual([...queue], [text]);
    assert.ok(queue.byteLength < 200);
  }
  assert.equal(await ok(["queue", "export", path, "--compressed"]), `${JSON.stringify({ sequence: 1, text })}\n`);
  assert.equal(await ok(["queue", "pop", path, "--compressed"]), `${text}\n`);
});

/** Payloads of all kinds: text, bytes that are none, JSON, and what looks like something else. */
const payload: fc.Arbitrary<Uint8Array> = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc.string({ unit: "binary" }).filter((text) => text.isWellFormed()).map((text) => encoder.encode(text)),
  fc.constantFrom("", "\ufeff", "\n", "\0", '{"text":"x"}', '{"base64":"AA=="}', "\u2028", "ä".repeat(9_000)).map((text) => encoder.encode(text)),
);
const plain = (bytes: Uint8Array): number[] => [...bytes];

test("every form of a record gives back what went in", () => {
  fc.assert(fc.property(payload, fc.option(fc.nat()), (bytes, sequence) => {
    const record = encodeOutput("record", bytes, "it", sequence ?? undefined);
    assert.ok(!record.includes(10), "one line");
    assert.deepEqual(plain(decodeInput("record", record, "it") as Uint8Array), plain(bytes));
    assert.deepEqual(JSON.parse(new TextDecoder().decode(record)), recordOf(bytes, sequence ?? undefined));
    assert.deepEqual(plain(encodeOutput("text", decodeInput("text", bytes, "it") as Uint8Array, "it")), plain(bytes));
    if (bytes.byteLength > 0) {
      assert.deepEqual(plain(decodeInput("base64", encodeOutput("base64", bytes, "it"), "it") as Uint8Array), plain(bytes));
    }
    const { text } = recordOf(bytes);
    if (text !== undefined) assert.deepEqual(plain(encodeOutput("string", decodeInput("string", bytes, "it") as Uint8Array, "it")), plain(bytes));
  }), { numRuns: 300 });
});

test("what is no record is refused in every form, by an error that names it", () => {
  const bad: Record<string, string[]> = {
    json: ["{", "nul", "1 2"],
    base64: ["A", "AA=", "A A=", "ä"],
    record: ["1", "null", "{}", '{"text":1}', '{"text":"a","base64":"AA=="}', '{"base64":"A"}', '{"text":"\\ud800"}', '{"text":"a","more":1}', '["text"]'],
  };
  for (const form of formats) {
    for (const text of bad[form] ?? []) {
      assert.throws(() => decodeInput(form, encoder.encode(text), "record 7"), (error: Error) => error.message.startsWith("record 7 is not "), `${form}: ${text}`);
    }
  }
  assert.throws(() => decodeInput("string", new Uint8Array([0xff]), "record 1"), /record 1 is not UTF-8/);
});

test("export and import give any queue back, record by record", async () => {
  await fc.assert(fc.asyncProperty(fc.array(payload, { minLength: 1, maxLength: 60 }), async (payloads) => {
    const path = files.next("queue");
    const copy = files.next("copy");
    {
      using queue = Queue.open<Uint8Array>(path, { codec: "bytes" });
      queue.pushMany(payloads);
    }
    const text = await ok(["queue", "export", path]);
    assert.equal(jsonLines(text).length, payloads.length);
    await ok(["queue", "import", copy], text);
    using queue = Queue.open<Uint8Array>(copy, { codec: "bytes", mode: "r" });
    assert.deepEqual([...queue].map(plain), payloads.map(plain));
  }), { numRuns: 3 });
});

test("import of a file; a line that is no record ends it", async () => {
  const path = files.next("queue");
  const file = files.file('{"text":"a"}\n{"base64":"/w==","sequence":9}\n');
  assert.equal(await ok(["queue", "import", path, file, "--json"]), '{"pushed":2}\n');
  const bad = await run(["queue", "import", path], '{"text":"b"}\nc\n');
  assert.equal(bad.status, 1);
  assert.match(bad.stderr, /1 record of the input is in the queue\nholdfast: record 2 of the input is not JSON/);
  using queue = Queue.open<Uint8Array>(path, { codec: "bytes", mode: "r" });
  assert.deepEqual([...queue].map(plain), [[97], [255], [98]]);
  const missing = await run(["queue", "import", path, files.next("missing")]);
  assert.equal(missing.status, 1);
  assert.match(missing.stderr, /^holdfast: ENOENT/);
});

test("push is prompt while its input pauses, and a signal loses nothing that was read", async () => {
  const path = files.next("queue");
  const push = start(["queue", "push", path]);
  const seen = async (count: number): Promise<void> => {
    for (const end = performance.now() + 20_000; performance.now() < end; ) {
      if (fs.existsSync(path) && contentOf(path).length >= count) return;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert.fail(`${count} records did not come`);
  };
  push.child.stdin?.write("one\ntwo\nthr");
  await seen(2);
  push.child.stdin?.write("ee\n");
  await seen(3);
  push.child.stdin?.write("half of a record");
  push.signal("SIGTERM");
  const { status } = await push.ended;
  assert.equal(status, "SIGTERM");
  assert.deepEqual(contentOf(path), ["one", "two", "three"]);
});

test("a stream from push to pop, through pipes on both ends", async () => {
  const path = files.next("queue");
  await ok(["queue", "push", path, "start"]);
  const pop = start(["queue", "pop", path, "--all", "--wait"]);
  const push = start(["queue", "push", path]);
  await pop.until(({ stdout }) => stdout === "start\n");
  const lines = Array.from({ length: 20_000 }, (_, i) => `line ${i} ${"x".repeat(i % 90)}`);
  push.child.stdin?.end(`${lines.join("\n")}\n`);
  assert.equal((await push.ended).status, 0);
  await pop.until(({ stdout }) => stdout.endsWith(`${lines.at(-1)}\n`));
  pop.signal("SIGINT");
  const { status, stdout } = await pop.ended;
  assert.equal(status, "SIGINT");
  assert.deepEqual(stdout.trimEnd().split("\n"), ["start", ...lines]);
  assert.deepEqual(contentOf(path), []);
});

test("killed in the middle, push and pop lose nothing", async () => {
  const count = 6000;
  const input = Array.from({ length: count }, (_, i) => `${i} `.padEnd(500, "x"));
  const path = queueOf();
  const push = start(["queue", "push", path]);
  push.child.stdin?.end(`${input.join("\n")}\n`);
  for (const end = performance.now() + 20_000; contentOf(path).length < 500 && performance.now() < end; ) await new Promise((resolve) => setTimeout(resolve, 1));
  push.signal("SIGKILL");
  await push.ended;
  const pushed = contentOf(path);
  assert.ok(pushed.length >= 500);
  assert.deepEqual(pushed, input.slice(0, pushed.length), "what went in is whole, and in order");
  {
    using queue = Queue.open<string>(path, { codec: "text" });
    queue.pushMany(input.slice(pushed.length));
  }
  const pop = start(["queue", "pop", path, "--all"]);
  await pop.until(({ stdout }) => stdout.length > 100_000);
  pop.signal("SIGKILL");
  const lines = (await pop.ended).stdout.split("\n").slice(0, -1);
  const left = contentOf(path);
  assert.deepEqual(lines, input.slice(0, lines.length));
  assert.deepEqual(left, input.slice(count - left.length), "in order, those that were handed out, too");
  const twice = lines.length + left.length - count;
  assert.ok(twice >= 0, `${-twice} records are lost`);
  assert.ok(twice <= 32, `${twice} records come again`);
});
