/**
 * An HTTP server on all cores whose processes share one file of metrics: whichever process answers `/metrics` writes what all of them
 * counted. One is killed under load and started again. At the end what the clients counted is compared with what the servers did.
 *
 * What must be equal, and why: a server counts a request before its answer goes out. So no client has an answer that is not counted, and
 * what is counted beyond that are requests whose answer never arrived: none without a kill, and at a kill those that were under way.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Metrics } from "../mod.ts";
import { ask, fetchText, wrk } from "./cluster/client.ts";
import { UsageError, wholeNumber } from "./usage.ts";

const help = `Usage: node examples/cluster.ts [options]   (or bun, or deno run -A)

  --runtime bun|deno|node  what the servers run under (default: what this runs under)
  --processes N            server processes, 1 to 64 (default: one for each core, at least 2)
  --seconds S              how long the load with the kill lasts (default 3)
  --requests N             requests of the exact part (default 5000)
  --port P                 TCP port (default: a free one)
  --help                   this text
`;

const runtimes = ["bun", "deno", "node"] as const;
type Runtime = (typeof runtimes)[number];

const CONNECTIONS = 8;

interface Options {
  readonly runtime: Runtime;
  readonly processes: number;
  readonly seconds: number;
  readonly requests: number;
  readonly port: number;
}

function parseOptions(args: string[]): Options | "help" {
  const text = { type: "string" } as const;
  let values;
  try {
    const options = { runtime: text, processes: text, seconds: text, requests: text, port: text, help: { type: "boolean", short: "h" } } as const;
    ({ values } = parseArgs({ args, options }));
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  if (values.help) return "help";
  const here: Runtime = "Bun" in globalThis ? "bun" : "Deno" in globalThis ? "deno" : "node";
  const runtime = runtimes.find((name) => name === (values.runtime ?? here));
  if (runtime === undefined) throw new UsageError(`--runtime must be bun, deno or node; received '${values.runtime}'`);
  return {
    runtime,
    processes: wholeNumber("--processes", values.processes ?? String(Math.max(2, os.availableParallelism())), 1, 64),
    seconds: wholeNumber("--seconds", values.seconds ?? "3", 1, 3600),
    requests: wholeNumber("--requests", values.requests ?? "5000", 1, 10_000_000),
    port: wholeNumber("--port", values.port ?? "0", 0, 65_535),
  };
}

const serverFile = fileURLToPath(new URL("./cluster/server.ts", import.meta.url));
const flags: Readonly<Record<Runtime, readonly string[]>> = {
  node: ["--disable-warning=ExperimentalWarning"],
  bun: ["run"],
  // Deno wants to be told before it lets processes share a port.
  deno: ["run", "-A", "--no-check", "--unstable-net"],
};

/** The server processes. */
class Servers {
  readonly #children: ChildProcess[] = [];
  readonly #options: Options;
  readonly #file: string;
  readonly #port: number;

  constructor(options: Options, file: string, port: number) {
    this.#options = options;
    this.#file = file;
    this.#port = port;
  }

  /** Starts server `number`, and waits until it answers. */
  async start(number: number): Promise<void> {
    const { runtime } = this.#options;
    const executable = fileURLToPath(new URL(`../node_modules/.bin/${runtime}`, import.meta.url));
    if (!existsSync(executable)) throw new Error(`there is no '${executable}': run "npm install" first`);
    // Its stdin is a pipe that ends with this process, however that happens; then it ends too.
    const child = spawn(executable, [...flags[runtime], serverFile, this.#file, String(this.#port), String(number)], { stdio: ["pipe", "pipe", "pipe"] });
    this.#children[number] = child;
    let complaint = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (complaint = (complaint + text).slice(-4000)));
    await new Promise<void>((resolve, reject) => {
      child.stdout.once("data", () => resolve());
      child.once("error", reject);
      child.once("close", (code, signal) => reject(new Error(`server ${number} (${runtime}) ended: ${signal ?? code}\n${complaint}`)));
    });
  }

  async startAll(): Promise<void> {
    await Promise.all(Array.from({ length: this.#options.processes }, (_, i) => this.start(i)));
  }

  /** Kills server `number`, as nothing can be prepared for, and waits until it is gone. */
  async kill(number: number): Promise<void> {
    const child = this.#children[number];
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }

  async stop(): Promise<void> {
    await Promise.all(this.#children.map((_, i) => this.kill(i)));
  }
}

/** A port that is free now. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port is free");
  return address.port;
}

/** Adds up the samples of a text whose name is `name` and which have the label. */
function total(text: string, name: string, label: string): number {
  return text.split("\n").reduce((sum, line) => (line.startsWith(`${name}{`) && line.includes(label) ? sum + Number(line.slice(line.lastIndexOf(" "))) : sum), 0);
}

interface Row {
  readonly what: string;
  readonly responses: number;
  readonly counted: number;
  /** Most that the servers can have counted beyond the responses. */
  readonly slack: number;
}

const isRight = ({ responses, counted, slack }: Row): boolean => counted >= responses && counted <= responses + slack;

async function run(options: Options, file: string): Promise<number> {
  const { runtime, processes, seconds, requests } = options;
  const port = options.port === 0 ? await freePort() : options.port;
  const servers = new Servers(options, file, port);
  const rows: Row[] = [];
  let metricsText = "";
  try {
    await servers.startAll();
    console.log(`${processes} ${runtime} processes at http://127.0.0.1:${port}/, metrics at /metrics`);

    let left = requests;
    const exact = await ask({ port, path: "/exact", connections: CONNECTIONS, next: () => left-- > 0 });

    const end = performance.now() + 1000 * seconds;
    const client = ask({ port, path: "/client", connections: CONNECTIONS, next: () => performance.now() < end });
    const tool = wrk(port, "/wrk", CONNECTIONS, seconds);
    const killed = (async () => {
      await sleep(500 * seconds);
      await servers.kill(0);
      await servers.start(0);
    })();
    const [asked, wrkLoad] = await Promise.all([client, tool, killed]);

    // Whichever process answers. Not before the servers have come to the end of what wrk left in their sockets.
    for (let before = ""; metricsText === "" || metricsText !== before; await sleep(50)) {
      before = metricsText;
      metricsText = await fetchText(port, "/metrics");
    }
    const counted = (what: string): number => total(metricsText, "http_requests_total", `path="/${what}"`);
    rows.push({ what: "the example's own client, no kill", responses: exact.responses, counted: counted("exact"), slack: exact.unanswered });
    rows.push({ what: "its own client, a server killed", responses: asked.responses, counted: counted("client"), slack: asked.unanswered });
    if (wrkLoad === undefined) console.log("wrk is not installed (Debian: wrk); its part is left out");
    // wrk does not say what it was waiting for: at the kill and at its end at most one request on each connection.
    else rows.push({ what: "wrk, a server killed", responses: wrkLoad.responses, counted: counted("wrk"), slack: 2 * CONNECTIONS });
  } finally {
    await servers.stop();
  }

  console.log(`\n${"".padEnd(42)}${["responses", "counted", "allowed more"].map((title) => title.padStart(14)).join("")}`);
  for (const row of rows) {
    const numbers = [row.responses, row.counted, row.slack].map((number) => String(number).padStart(14)).join("");
    console.log(`${row.what.padEnd(42)}${numbers}  ${isRight(row) ? "ok" : "WRONG"}`);
  }
  console.log();
  for (let i = 0; i < processes; i++) {
    const label = `process="${i}"`;
    console.log(`process ${i}: ${total(metricsText, "http_requests_total", label)} requests, started ${total(metricsText, "server_starts_total", label)} times`);
  }

  const problems = rows.filter((row) => !isRight(row)).map(({ what }) => `the servers did not count what the clients did: ${what}`);
  const starts = total(metricsText, "server_starts_total", "process=");
  if (starts !== processes + 1) problems.push(`${starts} starts instead of ${processes + 1}`);
  if ((rows[0]?.slack ?? 0) > 0 || rows[0]?.responses !== requests) problems.push("requests were lost without a kill");
  // All servers are gone; the file has what they wrote.
  using metrics = Metrics.open(file, { mode: "r" });
  if (metrics.expose() !== metricsText) problems.push("the file does not say what /metrics said");
  for (const problem of problems) console.error(`cluster: ${problem}`);
  if (problems.length === 0) console.log("\nThe metrics match the responses.");
  return problems.length === 0 ? 0 : 1;
}

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (options === "help") {
    process.stdout.write(help);
    return 0;
  }
  const folder = mkdtempSync(path.join(os.tmpdir(), "holdfast-cluster-"));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  process.once("exit", remove);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(128 + os.constants.signals[signal]));
  try {
    return await run(options, path.join(folder, "metrics"));
  } finally {
    remove();
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  const usage = error instanceof UsageError;
  console.error(`cluster: ${error instanceof Error ? error.message : String(error)}${usage ? "\nTry --help." : ""}`);
  process.exitCode = usage ? 2 : 1;
}
