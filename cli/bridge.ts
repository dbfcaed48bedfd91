/**
 * `holdfast bridge nats|redis`: carries a queue's records to a server, or a server's into a queue.
 *
 * Secrets come from the environment or from files, never from arguments: those are shown to every user of the machine by ps.
 */
import * as fs from "node:fs";
import process from "node:process";
import { parseArgs, type ParseArgsOptionsConfig } from "node:util";
import type { BridgeStatus, Forwarder, ForwardOptions, Receiver, ReceiveOptions } from "../lib/bridge/bridge.ts";

const help = `Usage: holdfast bridge nats|redis QUEUE --stream NAME [options]

Forwards the records of a queue to a stream of NATS JetStream or Redis, or with --receive a stream's to the queue: each once and in order, whatever dies
in between. Runs until it is ended (SIGINT, SIGTERM). A second one for the same queue stands by.

  --stream NAME            stream of NATS, key of Redis
  --server URL             nats://HOST:PORT, tls://HOST:PORT; redis://HOST:PORT, rediss://HOST:PORT (default: this machine)
  --receive                from the stream into the queue
  --group NAME             forward as a group of a log; without it the queue is emptied
  --dead-letter QUEUE      put records aside that the other side refuses for good; without it they end the bridge
  --metrics FILE           show rate, lag and the like as holdfast metrics
  --name TEXT              the bridge's label there (default: the engine and the stream)
  --durability process|each  with --receive: tell the server that a record is safe when it is in the queue, or on storage (default process)
  --start oldest|newest    with --receive: where a new queue starts (default oldest)
  --subject TEXT           NATS: the subject to publish with, or to filter by
  --field TEXT             Redis: the field with the payload (default data)
  --create                 NATS: make the stream if there is none
  --ca FILE --cert FILE --key FILE   TLS: certificate authority, own certificate and key
  --until-empty            end when everything that was in the queue is carried over
  --json                   a line of JSON each second instead of the live line
  --quiet                  no live line
  --help                   this text

From the environment, each also as ..._FILE with the path of a file that has it:
  HOLDFAST_BRIDGE_USER, HOLDFAST_BRIDGE_PASSWORD, HOLDFAST_BRIDGE_TOKEN (NATS), HOLDFAST_BRIDGE_CREDS (NATS: what a .creds file has)

Exit codes: 0 ended as asked, 1 failed, 2 the command line makes no sense.

  holdfast bridge nats /var/lib/app/log.queue --group nats --stream LOGS --create
  holdfast bridge redis inbox.queue --receive --stream events --durability each
`;

class UsageError extends Error {}

const text = { type: "string" } as const;
const flag = { type: "boolean" } as const;
const OPTIONS = {
  stream: text,
  server: text,
  receive: flag,
  group: text,
  "dead-letter": text,
  metrics: text,
  name: text,
  durability: text,
  start: text,
  subject: text,
  field: text,
  create: flag,
  ca: text,
  cert: text,
  key: text,
  "until-empty": flag,
  json: flag,
  quiet: flag,
  help: { type: "boolean", short: "h" },
} as const satisfies ParseArgsOptionsConfig;

const engines = ["nats", "redis"] as const;
const LIVE_MS = 500;
const JSON_MS = 1000;
/** Which options make sense for what. */
const ONLY: Readonly<Record<string, readonly ["nats" | "redis" | "forward" | "receive", string]>> = {
  subject: ["nats", "NATS"],
  create: ["nats", "NATS"],
  field: ["redis", "Redis"],
  group: ["forward", "forwarding"],
  "until-empty": ["forward", "forwarding"],
  durability: ["receive", "--receive"],
  start: ["receive", "--receive"],
};

function parse(args: readonly string[]) {
  let parsed;
  try {
    parsed = parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  const { values, positionals } = parsed;
  if (values.help) return "help";
  const [name, queue, ...more] = positionals;
  const engine = engines.find((known) => known === name);
  if (engine === undefined) throw new UsageError(`the first argument must be nats or redis; received ${name === undefined ? "none" : `'${name}'`}`);
  if (queue === undefined) throw new UsageError("which queue? Give its path behind the engine");
  if (more.length > 0) throw new UsageError(`unexpected argument '${more[0]}'`);
  const { stream } = values;
  if (stream === undefined) throw new UsageError("--stream is missing");
  const receive = values.receive ?? false;
  for (const [option, [only, what]] of Object.entries(ONLY)) {
    if (values[option as keyof typeof values] !== undefined && ![engine, receive ? "receive" : "forward"].includes(only)) throw new UsageError(`--${option} is for ${what} only`);
  }
  if (receive && values.create) throw new UsageError("--create is for forwarding: there is nothing to receive from a stream that is not there");
  return { ...values, engine, queue, stream, receive };
}

/** A secret of the environment, or of the file that it names. */
function secret(name: string): string | undefined {
  const value = process.env[name];
  const file = process.env[`${name}_FILE`];
  if (value !== undefined && file !== undefined) throw new UsageError(`${name} and ${name}_FILE are both set: which one is meant?`);
  if (file === undefined) return value;
  try {
    return fs.readFileSync(file, "utf8").replace(/\r?\n$/, "");
  } catch (error) {
    throw new UsageError(`${name}_FILE: ${(error as Error).message}`);
  }
}

function checkServer(server: string | undefined): void {
  if (server === undefined) return;
  for (const one of server.split(",")) {
    const url = URL.canParse(one) ? new URL(one) : undefined;
    if (url !== undefined && (url.username !== "" || url.password !== "")) {
      throw new UsageError("--server has a user or a password in it, which every user of this machine could read: set HOLDFAST_BRIDGE_USER and HOLDFAST_BRIDGE_PASSWORD");
    }
  }
}

type Given = Exclude<ReturnType<typeof parse>, "help">;

function tlsFiles({ ca, cert, key }: Given): { ca?: string; cert?: string; key?: string } | undefined {
  if (ca === undefined && cert === undefined && key === undefined) return undefined;
  if ((cert === undefined) !== (key === undefined)) throw new UsageError("--cert and --key go together");
  const read = (option: string, file: string): string => {
    try {
      return fs.readFileSync(file, "utf8");
    } catch (error) {
      throw new UsageError(`--${option}: ${(error as Error).message}`);
    }
  };
  return { ...(ca === undefined ? {} : { ca: read("ca", ca) }), ...(cert === undefined || key === undefined ? {} : { cert: read("cert", cert), key: read("key", key) }) };
}

async function load<T>(module: Promise<T>, packages: string): Promise<T> {
  try {
    return await module;
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    if (code === "ERR_MODULE_NOT_FOUND" || /Cannot find (module|package)/.test(message)) throw new Error(`the client is not installed: npm install ${packages}`, { cause: error });
    throw error;
  }
}

async function start(given: Given): Promise<Forwarder | Receiver> {
  const { engine, stream, receive, server } = given;
  checkServer(server);
  const tls = tlsFiles(given);
  const [user, password, token, creds] = ["USER", "PASSWORD", "TOKEN", "CREDS"].map((name) => secret(`HOLDFAST_BRIDGE_${name}`));
  const local: ForwardOptions & ReceiveOptions = { queue: given.queue };
  if (given.group !== undefined) local.group = given.group;
  if (given["dead-letter"] !== undefined) local.deadLetter = given["dead-letter"];
  if (given.metrics !== undefined) local.metrics = given.metrics;
  if (given.name !== undefined) local.name = given.name;
  if (given.durability !== undefined) local.durability = given.durability as "each";
  const from = given.start === undefined ? {} : { start: given.start as "oldest" };
  if (engine === "nats") {
    const nats = await load(import("../lib/bridge/nats.ts"), "@nats-io/transport-node @nats-io/jetstream");
    const options = {
      stream,
      ...(server === undefined ? {} : { servers: server.split(",") }),
      ...(given.subject === undefined ? {} : { subject: given.subject }),
      ...(user === undefined ? {} : { user }),
      ...(password === undefined ? {} : { pass: password }),
      ...(token === undefined ? {} : { token }),
      ...(creds === undefined ? {} : { authenticator: nats.credentials(creds) }),
      ...(tls === undefined ? {} : { tls }),
    };
    return receive ? nats.receive(nats.natsSource({ ...options, ...from }), local) : nats.forward(nats.natsSink({ ...options, create: given.create ?? false }), local);
  }
  if (token !== undefined || creds !== undefined) throw new UsageError("HOLDFAST_BRIDGE_TOKEN and HOLDFAST_BRIDGE_CREDS are for NATS only");
  const redis = await load(import("../lib/bridge/redis.ts"), "@redis/client");
  const options = {
    stream,
    ...(server === undefined ? {} : { url: server }),
    ...(given.field === undefined ? {} : { field: given.field }),
    ...(user === undefined ? {} : { username: user }),
    ...(password === undefined ? {} : { password }),
    ...(tls === undefined ? {} : { socket: { tls: true as const, ...tls } }),
  };
  return receive ? redis.receive(redis.redisSource({ ...options, ...from }), local) : redis.forward(redis.redisSink(options), local);
}

/** What is going on, in a line. */
function lineOf({ state, records, skipped, deadLetters, reconnects, inFlight, lag, last, lastError }: BridgeStatus, rate: number, receive: boolean): string {
  const parts = [
    state,
    `${Math.round(rate).toLocaleString("en")} records/s`,
    `${records.toLocaleString("en")} in all`,
    `${receive ? "waiting here" : "lag"} ${lag.toLocaleString("en")}`,
    `under way ${inFlight}`,
    `last id ${last ?? "none"}`,
  ];
  if (skipped > 0) parts.push(`skipped ${skipped}`);
  if (deadLetters > 0) parts.push(`dead letters ${deadLetters}`);
  if (reconnects > 0) parts.push(`reconnects ${reconnects}`);
  if (state === "waiting" && lastError !== undefined) parts.push(lastError);
  return parts.join(" · ");
}

/** Shows what a bridge does until it has ended. */
async function watch(bridge: Forwarder | Receiver, { json, quiet, receive, "until-empty": untilEmpty }: Given): Promise<void> {
  const live = process.stderr.isTTY === true && !json && !quiet;
  let before = 0;
  let at = performance.now();
  let problem: string | undefined;
  const show = (): void => {
    const { status } = bridge;
    const now = performance.now();
    const rate = ((status.records - before) / Math.max(1, now - at)) * 1000;
    before = status.records;
    at = now;
    if (json) process.stdout.write(`${JSON.stringify({ ...status, recordsPerSecond: Math.round(rate) })}\n`);
    else if (live) process.stderr.write(`\r\x1b[K${lineOf(status, rate, receive).slice(0, Math.max(20, (process.stderr.columns ?? 80) - 1))}`);
    // Where nobody watches, what goes wrong is said once.
    else if (status.lastError !== problem && status.lastError !== undefined) process.stderr.write(`bridge: ${status.lastError}\n`);
    problem = status.lastError;
    if (untilEmpty === true && status.state === "running" && status.lag === 0) void bridge.stop();
  };
  const timer = setInterval(show, json ? JSON_MS : LIVE_MS);
  const stop = (): void => void bridge.stop();
  process.on("SIGINT", stop).on("SIGTERM", stop);
  process.stdout.on("error", stop); // who read it went away
  try {
    await bridge.done;
  } finally {
    clearInterval(timer);
    process.off("SIGINT", stop).off("SIGTERM", stop);
    show();
    if (live) process.stderr.write("\n");
    else if (!json && quiet !== true) process.stderr.write(`bridge: ${lineOf(bridge.status, 0, receive)}\n`);
  }
}

/** Runs the command with the arguments behind `bridge`; returns the exit code. */
export async function bridge(args: readonly string[]): Promise<number> {
  try {
    const given = parse(args);
    if (given === "help") {
      process.stdout.write(help);
      return 0;
    }
    await watch(await start(given), given);
    return 0;
  } catch (error) {
    // The arguments are wrong too if the library says so of a name or a word.
    const usage = error instanceof UsageError || ["ERR_INVALID_ARG_TYPE", "ERR_OUT_OF_RANGE"].includes((error as { code?: string }).code ?? "");
    process.stderr.write(`holdfast bridge: ${error instanceof Error ? error.message : String(error)}${usage ? "\nTry: holdfast bridge --help" : ""}\n`);
    return usage ? 2 : 1;
  }
}
