/** The other commands: info, counters, metrics, shm, map, top, bench, doctor. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { request } from "node:http";
import { test } from "node:test";
import { BlockStore, Counters, Metrics, Queue, SharedMemory } from "../../mod.ts";
import { cli, jsonLines } from "../support/cli.ts";
import { currentRuntime, library, runtimeNames } from "../support/runtimes.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { fingerprint } from "../support/untouched.ts";

const files = temporaryFiles();
const { run, start } = cli();
const processes = children();

async function ok(args: string[], input?: string): Promise<string> {
  const { status, stdout, stderr } = await run(args, input);
  assert.deepEqual([status, stderr], [0, ""], args.join(" "));
  return stdout;
}

async function fails(args: string[], expected: RegExp, status = 1): Promise<void> {
  const ended = await run(args);
  assert.match(ended.stderr, expected, args.join(" "));
  assert.deepEqual([ended.status, ended.stdout], [status, ""], args.join(" "));
  assert.doesNotMatch(ended.stderr, /^ +at /m, "no stack");
}

test("counters: add, set, get, list", async () => {
  const path = files.next("counters");
  await fails(["counters", "add", path, "hits"], /ENOENT/);
  assert.equal(await ok(["counters", "add", path, "hits", "--create"]), "1\n");
  await fails(["counters", "add", path, "misses"], /has no counter 'misses'; it has hits; --create adds one/);
  assert.equal(await ok(["counters", "set", path, "misses", "--create", "--", "-5"]), "-5\n");
  assert.equal(await ok(["counters", "add", path, "1", "9007199254740993", "--json"]), '{"name":"1","old":-5,"value":9007199254740988}\n');
  assert.equal(await ok(["counters", "add", path, "misses", "100"]), "9007199254741088\n");
  assert.equal(await ok(["counters", "get", path, "misses", "hits"]), "9007199254741088\n1\n");
  assert.equal(await ok(["counters", "list", path, "--json"]), '{"index":0,"name":"hits","value":1}\n{"index":1,"name":"misses","value":9007199254741088}\n');
  assert.equal(await ok(["counters", "list", path]), "INDEX  NAME               VALUE\n    0  hits                   1\n    1  misses  9007199254741088\n");
  await fails(["counters", "get", path, "hots"], /has no counter 'hots'; it has hits, misses/);
  using counters = Counters.open(path, { mode: "r" });
  assert.deepEqual([counters.get("hits"), counters.getBigInt("misses")], [1, 9_007_199_254_741_088n]);
});

test("counters watch: what changed, with its rate", async () => {
  const path = files.next("counters");
  using counters = Counters.open(path, { names: ["a", "b"] });
  const watch = start(["counters", "watch", path, "--interval-ms", "50", "--json"]);
  await watch.until(({ stdout }) => stdout.includes('"b"'));
  counters.add("b", 7);
  await watch.until(({ stdout }) => stdout.split("\n").length > 3);
  watch.signal("SIGINT");
  const { status, stdout } = await watch.ended;
  assert.equal(status, "SIGINT");
  const rows = jsonLines<{ name: string; value: number; perSecond: number | null }>(stdout);
  assert.deepEqual(rows.map(({ name, value }) => [name, value]), [["a", 0], ["b", 0], ["b", 7]]);
  assert.ok((rows[2]?.perSecond as number) > 0);
  assert.match(await ok(["counters", "watch", path, "b", "--count", "1"]), /^0\.0 b 7 -\n$/);
});

test("metrics show and serve", async () => {
  const path = files.next("metrics");
  using metrics = Metrics.open(path);
  metrics.counter("requests_total", { help: "Requests." }).inc(3);
  const expected = "# HELP requests_total Requests.\n# TYPE requests_total counter\nrequests_total 3\n";
  assert.equal(await ok(["metrics", "show", path]), expected);
  assert.equal((JSON.parse(await ok(["metrics", "show", path, "--format", "openmetrics", "--json"])) as { text: string }).text.includes("# EOF"), true);
  const server = start(["metrics", "serve", path, "--port", "0"]);
  await server.until(({ stdout }) => stdout.endsWith("/metrics\n"));
  const address = new URL(server.output.stdout);
  const get = (pathname: string, method = "GET", accept = "*/*"): Promise<[number | undefined, string | undefined, string]> =>
    new Promise((resolve, reject) => {
      const asked = request(new URL(pathname, address), { method, headers: { accept, connection: "close" } }, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (part: string) => (text += part)).on("end", () => resolve([response.statusCode, response.headers["content-type"], text]));
      });
      asked.on("error", reject).end();
    });
  assert.deepEqual(await get("/metrics"), [200, Metrics.contentTypes.prometheus, expected]);
  metrics.counter("requests_total", { help: "Requests." }).inc();
  assert.match((await get("/metrics", "GET", "application/openmetrics-text; version=1.0.0"))[2], /requests_total 4\n# EOF\n$/);
  assert.deepEqual((await get("/metrics", "HEAD")).slice(0, 1), [200]);
  assert.equal((await get("/other"))[0], 404);
  assert.equal((await get("/metrics", "POST"))[0], 405);
  // Another file of that name, and none.
  fs.renameSync(path, `${path}.old`);
  assert.equal((await get("/metrics"))[0], 500);
  Metrics.open(path).close();
  assert.deepEqual(await get("/metrics"), [200, Metrics.contentTypes.prometheus, ""]);
  await fails(["metrics", "serve", path, "--port", address.port], new RegExp(`can't listen on 127.0.0.1:${address.port}: `));
  server.signal("SIGTERM");
  assert.equal((await server.ended).status, "SIGTERM");
});

test("shm list and reap", async () => {
  using shared = SharedMemory.from("content", { capacity: 100 });
  const entries = jsonLines<{ name: string; size: number; capacity: number; state: string }>(await ok(["shm", "list", "--json"]));
  const { size, capacity, state } = entries.find(({ name }) => name === shared.name) ?? {};
  assert.deepEqual([size, capacity, state], [7, 100, "owned"]);
  assert.match(await ok(["shm", "list"]), new RegExp(`^${shared.name} +7 +100  owned$`, "m"));
  const agent = processes.agent(currentRuntime);
  const name = `hf-cli-${process.pid}`;
  await agent.send({ do: "static", class: "SharedMemory", method: "from", args: ["orphan", { name }], as: "object" });
  await agent.kill("SIGKILL");
  const reaped = JSON.parse(await ok(["shm", "reap", "--json"])) as { removed: string[] };
  assert.ok(!reaped.removed.includes(shared.name), "its owner lives");
  assert.ok(!fs.existsSync(`/dev/shm/${name}`), "removed, here or by another run of the tests");
  assert.match(await ok(["info", `/dev/shm/${shared.name}`]), /^what +shared memory object$.*^owned +true$/ms);
});

test("map cat, write, advise, resident", async () => {
  const path = files.next("file");
  await fails(["map", "cat", path], /ENOENT/);
  assert.equal(await ok(["map", "write", path, "--create", "--byte-length", "10000", "--offset", "100", "--flush"], "hello"), "5\n");
  assert.equal(await ok(["map", "cat", path, "--offset", "100", "--length", "5"]), "hello");
  assert.equal((await ok(["map", "cat", path])).length, 10_000);
  assert.equal(await ok(["map", "write", path, "text", "--offset", "9996", "--json"]), `{"path":${JSON.stringify(path)},"offset":9996,"written":4}\n`);
  assert.equal(await ok(["map", "cat", path, "--offset", "9990", "--json"]), `{"path":${JSON.stringify(path)},"offset":9990,"length":10,"base64":"AAAAAAAAdGV4dA=="}\n`);
  const before = fingerprint(path);
  const much = await run(["map", "write", path, "--offset", "9990"], "x".repeat(11));
  assert.deepEqual([much.status, much.stdout], [1, ""]);
  assert.match(much.stderr, /the input has more than the 10 bytes .*nothing was written/);
  await fails(["map", "write", path, "x".repeat(11), "--offset", "9990"], /11 bytes from offset 9990 do not lie within/);
  await fails(["map", "cat", path, "--offset", "10001"], /do not lie within the 10000 bytes/);
  await fails(["map", "advise", path, "fast"], /HINT must be/, 2);
  assert.equal(await ok(["map", "advise", path, "populate-read"]), "");
  const { resident, byteLength, percent } = JSON.parse(await ok(["map", "resident", path, "--json"])) as { resident: number; byteLength: number; percent: number };
  assert.deepEqual([resident, byteLength, percent], [12_288, 10_000, 100]);
  assert.equal(fingerprint(path), before);
});

test("info of each kind, and of what is none of ours", async () => {
  const folder = files.next("folder");
  fs.mkdirSync(folder);
  const at = (name: string): string => `${folder}/${name}`;
  Queue.open(at("queue")).close();
  Counters.open(at("counters"), { names: ["one", "evil\u{1b}[2J"] }).close();
  Metrics.open(at("metrics")).close();
  {
    using blocks = BlockStore.open(at("blocks"), { blockBytes: 100 });
    blocks.store(new Uint8Array(5));
  }
  fs.writeFileSync(at("text"), "hello\n");
  fs.writeFileSync(at("zeros"), new Uint8Array(5000));
  fs.writeFileSync(at("empty"), "");
  fs.writeFileSync(at("binary"), new Uint8Array([1, 2, 0, 255, 254, 3, 4, 5]));
  fs.writeFileSync(at("damaged"), fs.readFileSync(at("counters")).fill(0x55, 64, 70));
  fs.writeFileSync(at("short"), fs.readFileSync(at("counters")).subarray(0, 100));
  interface Info {
    what: string;
    health: string | null;
    header?: { kind: string; id: string };
    details: Record<string, unknown>;
    fileBytes: number;
    reason: string | null;
  }
  const info = async (name: string, status = 0, ...more: string[]): Promise<Info> => {
    const ended = await run(["info", at(name), "--json", ...more]);
    assert.deepEqual([ended.status, ended.stderr], [status, ""], name);
    return JSON.parse(ended.stdout) as Info;
  };
  const [queue, counters, metrics, blocks, damaged, short] = await Promise.all([
    info("queue", 0, "--verify"), info("counters"), info("metrics"), info("blocks", 0, "--verify"), info("damaged", 1), info("short", 1),
  ]);
  assert.deepEqual([queue.what, queue.health, queue.details.records], ["queue", "sound", 0]);
  assert.deepEqual([counters.what, counters.health, counters.header?.kind, counters.details.counters], ["counters", "sound", "counters", 2]);
  assert.deepEqual([metrics.what, metrics.details.metrics], ["metrics", 0]);
  assert.deepEqual([blocks.what, blocks.health, blocks.details.stored], ["block store", "sound", 1]);
  assert.deepEqual([damaged.health, short.health], ["damaged", "damaged"]);
  assert.match(`${damaged.reason} ${short.reason}`, /damaged header.*cut short/);
  const others = await Promise.all(["text", "zeros", "empty", "binary", "queue/control", ""].map((name) => info(name)));
  assert.deepEqual(others.map(({ what }) => what), [
    "no file of holdfast: text", "no file of holdfast: it starts with zeros", "no file of holdfast: it is empty",
    "no file of holdfast: binary", "control file of a queue", "a folder, no queue",
  ]);
  assert.equal(others[5]?.details.holds, "1 block store, 1 counters, 1 metrics, 1 queue");
  const text = await ok(["info", at("counters"), "--human"]);
  assert.match(text, /^health +sound$/m);
  assert.ok(!text.includes("\u{1b}"), "a terminal does not obey a name");
  await fails(["info", at("missing")], /ENOENT/);
});

test("top: queues and counters of a folder, with rates, those that come later, and damaged ones", async () => {
  const folder = files.next("folder");
  fs.mkdirSync(folder);
  using queue = Queue.open<string>(`${folder}/jobs`, { codec: "text" });
  queue.push("old");
  const top = start(["top", folder, "--interval-ms", "60", "--json"]);
  await top.until(({ stdout }) => stdout.includes("\n"));
  queue.pushMany(["a", "b"]);
  const lease = queue.lease();
  lease?.ack();
  const held = queue.lease();
  using counters = Counters.open(`${folder}/app.counters`, { names: ["hits"] });
  counters.add("hits", 5);
  const seen = top.output.stdout.split("\n").length;
  await top.until(({ stdout }) => stdout.split("\n").length > seen + 3);
  top.signal("SIGINT");
  const { status, stdout } = await top.ended;
  assert.equal(status, "SIGINT");
  interface Look {
    queues: { name: string; records: number; leased: number; pushedPerSecond?: number; oldestSequence: number; oldestSeconds: number; holders: { pid: number; leases: number }[] }[];
    counters: { file: string; name: string; value: number }[];
  }
  const looks = jsonLines<Look>(stdout);
  assert.equal(looks[0]?.queues[0]?.records, 1);
  const last = looks.at(-1) as Look;
  assert.deepEqual(last.counters.map(({ file, name, value }) => [file, name, value]), [["app.counters", "hits", 5]]);
  const [row] = last.queues;
  assert.deepEqual([row?.name, row?.records, row?.leased, row?.oldestSequence, row?.holders], ["jobs", 2, 1, 2, [{ pid: process.pid, leases: 1 }]]);
  assert.ok(looks.some(({ queues: [one] }) => (one?.pushedPerSecond ?? 0) > 0), "a rate");
  held?.release();
  fs.mkdirSync(`${folder}/broken`);
  fs.copyFileSync(`${folder}/jobs/control`, `${folder}/broken/control`);
  fs.truncateSync(`${folder}/broken/control`, 5000);
  const text = await ok(["top", folder, "--count", "2", "--interval-ms", "20"]);
  assert.match(text, /^QUEUE +RECORDS +LEASED +BYTES +IN\/S +OUT\/S +OLDEST +AGE +HOLDERS\njobs +2 +0 +80 +- +- +2 +>0\.0s +\d+$/m);
  assert.match(text, /^app\.counters +hits +5 +0\.0$/m);
  assert.match(text, /^broken: ERR_CORRUPT/m);
  const empty = files.next("empty");
  fs.mkdirSync(empty);
  assert.equal(await ok(["top", empty, "--count", "1"]), "no queues or counters here\n");
  await fails(["top", files.next("missing")], /ENOENT/);
});

test("bench measures, and leaves nothing behind", async () => {
  const folder = files.next("folder");
  fs.mkdirSync(folder);
  const found = JSON.parse(await ok(["bench", "--rounds", "1", "--folder", folder, "--json"])) as { runtime: string; results: { name: string; medianNs: number }[] };
  assert.ok((runtimeNames as readonly string[]).includes(found.runtime));
  assert.ok(found.results.length >= 5 && found.results.every(({ medianNs }) => medianNs > 0 && medianNs < 1e9));
  assert.deepEqual(fs.readdirSync(folder), []);
});

test("doctor finds everything in order here, names the library, and says what is not", async () => {
  const folder = files.next("folder");
  fs.mkdirSync(folder);
  const { ok: sound, findings } = JSON.parse(await ok(["doctor", folder, "--json"])) as { ok: boolean; findings: { check: string; state: string; text: string }[] };
  assert.ok(sound);
  assert.ok(findings.every(({ state }) => state === "ok" || state === "note"));
  assert.match(findings.find(({ check }) => check === "library")?.text ?? "", new RegExp(fs.realpathSync(library)));
  assert.deepEqual(fs.readdirSync(folder), []);
  const without = await run(["doctor", files.next("missing")], "", { env: { HOLDFAST_LIBRARY: "/nowhere.so" } });
  assert.equal(without.status, 1);
  assert.match(without.stdout, /^library +BAD +ERR_LIBRARY/m);
  assert.match(without.stdout, /^file system +BAD +ENOENT/m);
});
