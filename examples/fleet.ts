/**
 * Three machines (processes with folders of their own) feed one stream of NATS JetStream, and a fourth receives it. The server is killed midway and
 * started again a second later. At the end every record is there once, each machine's in order, and the sum of the machines' counters is what they
 * counted.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type CounterDelta, CounterSums, natsSource, receive } from "../lib/bridge/nats.ts";
import { Queue } from "../mod.ts";
import { UsageError, wholeNumber } from "./usage.ts";

const help = `Usage: node examples/fleet.ts [options]   (or bun, or deno run -A)

Needs nats-server (Debian: nats-server) in PATH; it is started on this machine.

  --machines N       machines, 1 to 16 (default 3)
  --records N        records that each of them writes (default 5000)
  --per-second N     as many in a second (default 2000)
  --away MS          how long the server is away (default 1000)
  --file PATH        the lines, from the start again where there are too few (default: the example's log)
  --help             this text
`;

const runtimes = ["node", "bun", "deno"] as const;
const flags: Readonly<Record<(typeof runtimes)[number], readonly string[]>> = {
  node: ["--disable-warning=ExperimentalWarning"],
  bun: ["run"],
  deno: ["run", "-A", "--no-check"],
};
const root = fileURLToPath(new URL("..", import.meta.url));
const STALLED_MS = 60_000;

interface Options {
  readonly machines: number;
  readonly records: number;
  readonly perSecond: number;
  readonly awayMs: number;
  readonly file: string;
}

/** What a machine says at its end. */
interface Total {
  readonly node: string;
  readonly lines: number;
  readonly bytes: number;
  readonly reconnects: number;
}

function parseOptions(args: string[]): Options | "help" {
  const text = { type: "string" } as const;
  let values;
  try {
    ({ values } = parseArgs({ args, options: { machines: text, records: text, "per-second": text, away: text, file: text, help: { type: "boolean", short: "h" } } }));
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  if (values.help) return "help";
  const file = values.file ?? path.join(root, "examples/data/access_log.txt");
  if (!existsSync(file)) throw new UsageError(`--file: there is no '${file}'`);
  return {
    machines: wholeNumber("--machines", values.machines ?? "3", 1, 16),
    records: wholeNumber("--records", values.records ?? "5000", 2, 100_000_000),
    perSecond: wholeNumber("--per-second", values["per-second"] ?? "2000", 1, 1_000_000),
    awayMs: wholeNumber("--away", values.away ?? "1000", 0, 60_000),
    file,
  };
}

const children = new Set<ChildProcess>();
process.once("exit", () => children.forEach((child) => child.kill("SIGKILL")));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(128 + os.constants.signals[signal]));

/** The server of the fleet. */
class Nats {
  readonly url: string;
  readonly #port: number;
  readonly #config: string;
  #child: ChildProcess | undefined;

  private constructor(port: number, config: string) {
    this.url = `nats://127.0.0.1:${port}`;
    this.#port = port;
    this.#config = config;
  }

  static async start(folder: string): Promise<Nats> {
    const probe = createServer();
    await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
    const { port } = probe.address() as { port: number };
    await new Promise((resolve) => probe.close(resolve));
    const config = path.join(folder, "nats.conf");
    writeFileSync(config, `listen: "127.0.0.1:${port}"\njetstream { store_dir: "${path.join(folder, "store")}" }\n`);
    const nats = new Nats(port, config);
    await nats.start();
    return nats;
  }

  async start(): Promise<void> {
    const child = spawn("nats-server", ["-c", this.#config], { stdio: "ignore" });
    children.add(child);
    let failure: Error | undefined;
    child.once("error", () => (failure = new Error("nats-server can't be started; it is in the package nats-server of Debian")));
    child.once("exit", () => children.delete(child));
    this.#child = child;
    for (const end = Date.now() + 20_000; !(await this.#answers()); await sleep(20)) {
      if (failure !== undefined) throw failure;
      if (Date.now() > end || child.exitCode !== null) throw new Error("nats-server does not answer");
    }
  }

  #answers(): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect(this.#port, "127.0.0.1", () => {
        socket.destroy();
        resolve(true);
      });
      socket.once("error", () => resolve(false));
    });
  }

  /** As nothing can be prepared for. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }
}

/** Runs machine `i` to its end. */
function machine(i: number, url: string, folder: string, { records, perSecond, file }: Options): Promise<Total> {
  const runtime = runtimes[i % runtimes.length] as (typeof runtimes)[number];
  const own = path.join(folder, `machine-${i}`);
  mkdirSync(own);
  const executable = path.join(root, "node_modules/.bin", runtime);
  if (!existsSync(executable)) throw new Error(`there is no '${executable}': run "npm install" first`);
  const script = path.join(root, "examples/fleet/machine.ts");
  const child = spawn(executable, [...flags[runtime], script, own, `${runtime}-${i}`, url, file, String(records), String(perSecond)], { stdio: ["ignore", "pipe", "pipe"] });
  children.add(child);
  let said = "";
  let complaint = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (said += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (complaint = (complaint + text).slice(-4000)));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      children.delete(child);
      if (code === 0) resolve(JSON.parse(said) as Total);
      else reject(new Error(`machine ${i} (${runtime}) ended: ${signal ?? code}\n${complaint}`));
    });
  });
}

async function run(options: Options, folder: string): Promise<number> {
  const nats = await Nats.start(folder);
  let totals: Total[] | undefined;
  let failure: unknown;
  Promise.all(Array.from({ length: options.machines }, (_, i) => machine(i, nats.url, folder, options))).then((all) => (totals = all), (error: unknown) => (failure = error));

  const retry = { retryMs: 50, retryMaxMs: 500, ackTimeoutMs: 3000 };
  const paths = { records: path.join(folder, "hub-records.queue"), deltas: path.join(folder, "hub-deltas.queue") };
  // The streams are made by the first machine; until then the hub tries again.
  const bridges = [receive(natsSource({ servers: nats.url, stream: "FLEET" }), { ...retry, queue: paths.records }), receive(natsSource({ servers: nats.url, stream: "COUNTERS" }), { ...retry, queue: paths.deltas })];
  using records = Queue.open<{ node: string; number: number; line: string }>(paths.records);
  using deltas = Queue.open(paths.deltas);
  const got = new Map<string, { lines: number; bytes: number }>();
  const sums = new CounterSums();
  const problems: string[] = [];
  let received = 0;
  let restarted: Promise<void> | undefined;
  try {
    for (let moved = Date.now(); ; await sleep(10)) {
      const before = received;
      for (const { node, number, line } of records.popMany(5000)) {
        const known = got.get(node) ?? { lines: 0, bytes: 0 };
        if (number !== known.lines) problems.push(`record ${number} of ${node} came where ${known.lines} was to come`);
        got.set(node, { lines: known.lines + 1, bytes: known.bytes + line.length });
        received++;
      }
      for (const delta of deltas.popMany(1000)) sums.add(delta as unknown as CounterDelta);
      if (restarted === undefined && received > (options.records * options.machines) / 2) {
        restarted = (async () => {
          await nats.kill();
          console.log(`the server is killed after ${received} records`);
          await sleep(options.awayMs);
          await nats.start();
          console.log("the server is back");
        })();
        restarted.catch((error: unknown) => (failure = error));
      }
      if (failure !== undefined) throw failure;
      if (received > before) moved = Date.now();
      const written = totals?.reduce((sum, { lines }) => sum + lines, 0);
      const told = Number(sums.totals()["lines"] ?? 0n);
      if (written !== undefined && received >= written && told >= written) break;
      if (Date.now() - moved > STALLED_MS) throw new Error(`nothing comes any more: ${received} records, ${told} counted; ${bridges.map(({ status }) => status.lastError).join(", ")}`);
    }
    await restarted;
  } finally {
    await Promise.all(bridges.map((bridge) => bridge.stop()));
    await nats.kill();
  }

  console.log(`\n${"machine".padEnd(12)}${["written", "received", "counted", "reconnects"].map((title) => title.padStart(12)).join("")}`);
  for (const { node, lines, bytes, reconnects } of totals ?? []) {
    const there = got.get(node) ?? { lines: 0, bytes: 0 };
    const counted = sums.of(node);
    console.log(`${node.padEnd(12)}${[lines, there.lines, Number(counted["lines"]), reconnects].map((number) => String(number).padStart(12)).join("")}`);
    if (there.lines !== lines || there.bytes !== bytes) problems.push(`${node} wrote ${lines} lines of ${bytes} bytes, and ${there.lines} of ${there.bytes} came`);
    if (counted["lines"] !== BigInt(lines) || counted["bytes"] !== BigInt(bytes)) problems.push(`${node} counted ${lines} lines of ${bytes} bytes, and the sum has ${counted["lines"]} of ${counted["bytes"]}`);
  }
  for (const problem of problems) console.error(`fleet: ${problem}`);
  if (problems.length === 0) console.log("\nThe totals match.");
  return problems.length === 0 ? 0 : 1;
}

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (options === "help") {
    process.stdout.write(help);
    return 0;
  }
  const folder = mkdtempSync(path.join(os.tmpdir(), "holdfast-fleet-"));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  process.once("exit", remove);
  try {
    return await run(options, folder);
  } finally {
    children.forEach((child) => child.kill("SIGKILL"));
    remove();
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  const usage = error instanceof UsageError;
  console.error(`fleet: ${error instanceof Error ? error.message : String(error)}${usage ? "\nTry --help." : ""}`);
  process.exitCode = usage ? 2 : 1;
}
