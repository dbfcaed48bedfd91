/**
 * holdfast beside what else there is for the same work: `npm run bench:compare`. Every subject is a process of its own at every workload, and rounds go
 * through all subjects in turn. `--help` says how to call it; ../README.md says what is measured.
 */
import { accessSync, constants, existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { killChildren } from "../child.ts";
import { describeMachine } from "../report.ts";
import { drawCharts } from "./chart.ts";
import { Bench, type Options } from "./measure.ts";
import { redisVersion, type RedisServer, startRedis } from "./redis_server.ts";
import { format, type Machine, type Report, type Result, toJson } from "./report.ts";
import { peerFacts, type PeerName, peers, runtimeTitles, workloads } from "./workloads.ts";

const help = `Usage: npm run bench:compare -- [options]

Measures holdfast in Node, Bun and Deno beside what else there is for the same work. Without "npm install --prefix bench/compare" those that
are npm packages are left out, and nothing is drawn; without redis-server on the PATH, Redis.

  --rounds N    runs of each (default 5, with --smoke 1)
  --only NAME   only workloads whose name contains NAME (repeatable): ${workloads.map(({ name }) => name).join(", ")}
  --peer NAME   only this peer (repeatable): ${peers.join(", ")}
  --json FILE   also write all figures to FILE, and three charts beside it (.svg)
  --dir DIR     where the files are to lie, in a folder that is removed at the end (default ${os.tmpdir()})
  --smoke       tiny sizes: shows that all of it works, the figures mean nothing
  --help        print this text
`;

class UsageError extends Error {}

function readOptions(): Options | "help" {
  const { values } = parse();
  if (values.help) return "help";
  const { smoke, json, dir, only, peer } = values;
  const rounds = Number(values.rounds ?? (smoke ? "1" : "5"));
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > 1000) {
    throw new UsageError(`--rounds must be a whole number from 1 to 1000; received '${values.rounds}'`);
  }
  for (const name of only) {
    if (!workloads.some((workload) => workload.name.includes(name))) throw new UsageError(`--only ${name}: there is no such workload`);
  }
  for (const name of peer) {
    if (!(peers as readonly string[]).includes(name)) throw new UsageError(`--peer ${name}: known are ${peers.join(", ")}`);
  }
  if (json !== undefined && !writable(path.dirname(json))) throw new UsageError(`--json ${json}: its folder is not there, or not to be written to`);
  return {
    rounds,
    workloads: workloads.filter(({ name }) => only.length === 0 || only.some((part) => name.includes(part))),
    peers: peers.filter((name) => peer.length === 0 || peer.includes(name)),
    json,
    dir,
    smoke,
  };
}

/** Looked at before the first round: a quarter of an hour is too much to lose. */
function writable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function parse() {
  try {
    return parseArgs({
      options: {
        rounds: { type: "string" },
        only: { type: "string", multiple: true, default: [] },
        peer: { type: "string", multiple: true, default: [] },
        json: { type: "string" },
        dir: { type: "string", default: os.tmpdir() },
        smoke: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** Peers that this machine does not have, and what to do about it. */
function missingPeers(): Map<PeerName, string> {
  const missing = new Map<PeerName, string>();
  for (const name of peers) {
    const { needs } = peerFacts[name];
    if (needs !== undefined && !existsSync(packageFile(needs))) missing.set(name, `the package ${needs} is not installed ("npm install --prefix bench/compare")`);
  }
  if (!missing.has("redis") && redisVersion() === undefined) missing.set("redis", "there is no redis-server on the PATH (Debian: apt-get install redis-server)");
  return missing;
}

function packageFile(name: string): string {
  return path.join(import.meta.dirname, "node_modules", name, "package.json");
}

function describe(folder: string, missing: ReadonlyMap<PeerName, string>): Machine {
  const { cpu, cpus, kernel, fileSystem, loadAverage, versions } = describeMachine(folder, "");
  const all = Object.entries(runtimeTitles).map(([name, title]) => [title, versions[name] as string]);
  for (const name of peers) {
    const { needs } = peerFacts[name];
    if (needs !== undefined && !missing.has(name)) all.push([needs, (JSON.parse(readFileSync(packageFile(needs), "utf8")) as { version: string }).version]);
  }
  if (!missing.has("redis")) all.push(["redis-server", redisVersion() as string]);
  return { cpu, cpus, memoryGiB: Math.round(os.totalmem() / 2 ** 30), kernel, fileSystem, loadAverage, versions: Object.fromEntries(all) };
}

async function run(options: Options): Promise<void> {
  const missing = missingPeers();
  for (const [peer, why] of missing) if (options.peers.includes(peer)) console.error(`bench: ${peerFacts[peer].title} is left out: ${why}`);
  const folder = mkdtempSync(path.join(realpathSync(options.dir), "holdfast-bench-"));
  const servers: RedisServer[] = [];
  const clean = (): void => {
    killChildren();
    for (const server of servers) void server.stop();
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  };
  process.once("exit", clean); // also when something unforeseen ends this process
  try {
    const started = performance.now();
    const machine = describe(folder, missing);
    if (options.peers.includes("redis") && !missing.has("redis")) for (const onStorage of [false, true]) servers.push(await startRedis(folder, onStorage));
    const [quick, onStorage] = servers;
    const bench = new Bench(options, folder, missing, quick !== undefined && onStorage !== undefined ? { quick, onStorage } : undefined);
    await bench.run();
    const { absent } = bench;
    const order = peers.flatMap((peer) => peerFacts[peer].runtimes.map((runtime) => `${peer} ${runtime}`));
    const place = ({ peer, runtime }: Result): number => order.indexOf(`${peer} ${runtime}`);
    const results = options.workloads.flatMap(({ name }) => bench.results.filter(({ workload }) => workload === name).sort((a, b) => place(a) - place(b)));
    const report: Report = { date: new Date().toISOString(), smoke: options.smoke, seconds: (performance.now() - started) / 1000, machine, results, absent };
    console.log(format(report));
    if (options.json !== undefined) {
      writeFileSync(options.json, toJson(report));
      const drawn = await drawCharts(report, options.json);
      if (drawn !== undefined) console.error(`bench: nothing is drawn: ${drawn}`);
    }
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
    clean();
    process.off("exit", clean);
  }
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, () => process.exit(128 + os.constants.signals[signal]));
}
try {
  const options = readOptions();
  if (options === "help") process.stdout.write(help);
  else await run(options);
} catch (error) {
  if (error instanceof UsageError) {
    console.error(`bench: ${error.message}\nTry "npm run bench:compare -- --help".`);
    process.exitCode = 2;
  } else {
    console.error(`bench: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
  }
}
