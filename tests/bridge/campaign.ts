/**
 * Records are carried over while things are killed, paused, cut off and full; at the end the other side is compared with what was put in.
 *
 * From the shell: node tests/bridge/campaign.ts --help
 */
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Queue } from "../../mod.ts";
import { commandLine, currentRuntime, root, type RuntimeName, runtimeNames } from "../support/runtimes.ts";
import { fill, limit, makeStream, readAll } from "./remote.ts";
import { type Engine, engines, missingServer, Proxy, Server } from "./servers.ts";
import type { Work } from "./worker.ts";

export const faults = ["bridge", "server", "pause", "acks", "full"] as const;
export type Fault = (typeof faults)[number];
export const directions = ["out", "in"] as const;

export interface CampaignOptions {
  readonly engine: Engine;
  readonly direction: "out" | "in";
  readonly records: number;
  /** How often each fault comes. */
  readonly faults: Readonly<Partial<Record<Fault, number>>>;
  /** What the bridges run under; two of them at once, one standing by. */
  readonly runtimes: readonly RuntimeName[];
  readonly folder: string;
  /** A file of lines. */
  readonly file: string;
  readonly say?: (text: string) => void;
  /** Forward with a sink that does not know what the remote has: the campaign must see that. */
  readonly naive?: boolean;
}

export interface CampaignReport {
  readonly engine: Engine;
  readonly direction: "out" | "in";
  readonly records: number;
  readonly faults: Readonly<Partial<Record<Fault, number>>>;
  readonly arrived: number;
  readonly missing: number;
  /** The first of them. */
  readonly firstMissing: readonly number[];
  readonly doubled: number;
  readonly outOfOrder: number;
  /** Of NATS and Redis: records whose id is not that of their sequence. */
  readonly wrongIds: number;
  /** Times that `push` gave false because the local queue was full. */
  readonly refusedPushes: number;
  /** Bridges that ended by themselves. */
  readonly failures: readonly string[];
  readonly seconds: number;
}

const STREAM = "CAMPAIGN";
const WORKER = fileURLToPath(new URL("worker.ts", import.meta.url));
/** A campaign that makes no progress for so long hangs. */
const STALLED_MS = 60_000;
/** How long the remote may be silent: shorter than a pause of the server, so that the bridge gives up in it. */
const ACK_TIMEOUT_MS = 700;
const PAUSE_MS = 1200;
const FULL_MS = 1500;

interface Bridge {
  readonly child: ChildProcess;
  state: string;
  stderr: string;
}

/** The bridges: two processes at once, of which one works. */
class Bridges {
  readonly failures: string[] = [];
  readonly #work: Work;
  readonly #runtimes: readonly RuntimeName[];
  readonly #running: Bridge[] = [];
  #started = 0;
  #ending = false;

  constructor(work: Work, runtimes: readonly RuntimeName[]) {
    this.#work = work;
    this.#runtimes = runtimes;
  }

  start(): void {
    const runtime = this.#runtimes[this.#started++ % this.#runtimes.length] as RuntimeName;
    const [executable, args] = commandLine(runtime, WORKER, JSON.stringify(this.#work));
    const child = spawn(executable, args, { stdio: ["ignore", "pipe", "pipe"] });
    const bridge: Bridge = { child, state: "starting", stderr: "" };
    this.#running.push(bridge);
    child.stdout.setEncoding("utf8").on("data", (text: string) => (bridge.state = /"state":"(\w+)"/.exec(text.trimEnd().split("\n").at(-1) as string)?.[1] ?? bridge.state));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (bridge.stderr += text));
    child.on("close", (code, signal) => {
      const index = this.#running.indexOf(bridge);
      if (index >= 0) this.#running.splice(index, 1);
      if (signal === "SIGKILL" || this.#ending) return;
      this.failures.push(`${runtime}: ${signal ?? code} ${bridge.stderr.slice(-2000)}`);
      this.start();
    });
  }

  /** Kills the one that works, and starts another: the one that stood by takes over. */
  async killWorking(): Promise<void> {
    const find = (): Bridge | undefined => this.#running.find(({ state }) => ["connecting", "running", "waiting"].includes(state));
    for (let round = 0; find() === undefined && round < 500; round++) await sleep(10);
    find()?.child.kill("SIGKILL");
    this.start();
  }

  async end(): Promise<void> {
    this.#ending = true;
    const all = [...this.#running];
    await Promise.all(all.map(async ({ child }) => {
      const gone = new Promise((resolve) => child.once("close", resolve));
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), 10_000);
      await gone;
      clearTimeout(timer);
    }));
  }
}

/** Does `action` when so many records have come through; the faults are spread over the whole. */
interface Event {
  readonly at: number;
  readonly fault: Fault;
}

function schedule(records: number, wanted: CampaignOptions["faults"]): Event[] {
  const events = faults.flatMap((fault) => {
    const count = wanted[fault] ?? 0;
    return Array.from({ length: count }, (_, i) => ({ at: Math.floor((records * (i + 0.5)) / count), fault }));
  });
  return events.toSorted((a, b) => a.at - b.at);
}

export async function campaign(options: CampaignOptions): Promise<CampaignReport> {
  const { engine, direction, records, runtimes, folder, say = () => {} } = options;
  const lines = fs.readFileSync(options.file, "utf8").split("\n").filter((line) => line !== "");
  const textOf = (i: number): string => `${i} ${lines[i % lines.length]}`;
  const started = performance.now();
  const server = await Server.start(engine, join(folder, "server"));
  const proxy = await Proxy.start(server.port);
  const path = join(folder, "queue");
  const full = (options.faults.full ?? 0) > 0;
  const bytes = Math.ceil((records / lines.length) * fs.statSync(options.file).size);
  // So small that a remote that is full for a while fills it.
  const capacity = { capacityBytes: 1 << 20, maxCapacityBytes: Math.max(1 << 20, Math.ceil(bytes / 6)) };
  const bridges = new Bridges(
    {
      engine,
      direction,
      naive: options.naive ?? false,
      remote: { ...server.connection(proxy.port), stream: STREAM },
      local: { queue: path, retryMs: 20, retryMaxMs: 200, ackTimeoutMs: ACK_TIMEOUT_MS, ...(direction === "out" ? { group: "bridge" } : {}) },
    },
    runtimes,
  );
  const refused = { pushes: 0 };
  const arrived: string[] = [];
  let wrongIds = 0;
  try {
    await makeStreamFor(options, server, textOf);
    using queue = direction === "out" ? Queue.open<string>(path, { codec: "text", groups: true, ...capacity }) : Queue.open<string>(path, { codec: "text", ...capacity });
    // The group is there before the first record, so that its backlog counts from the first push.
    if (direction === "out") Queue.open(path, { group: "bridge" }).close();
    bridges.start();
    bridges.start();

    const events = schedule(records, options.faults);
    const injector = new Injector({ server, proxy, bridges, engine, direction, say });
    let pushed = 0;
    let through = 0;
    let moved = performance.now();
    while (through < records || !injector.idle || events.length > 0) {
      const before = through;
      if (direction === "out") {
        const some = Array.from({ length: Math.min(500, records - pushed) }, (_, i) => textOf(pushed + i));
        const count = some.length === 0 ? 0 : queue.pushMany(some);
        if (count < some.length) refused.pushes++;
        pushed += count;
        through = pushed - (queue.groups().find(({ name }) => name === "bridge")?.length ?? pushed);
      } else if (!injector.holding) {
        // While the remote is to be stopped by a full queue, nobody takes anything.
        for (let some = queue.popMany(2000); some.length > 0; some = queue.popMany(2000)) arrived.push(...some);
        through = arrived.length;
      }
      if (through > before) moved = performance.now();
      if (injector.idle && events[0] !== undefined && (through >= events[0].at || through >= records)) {
        injector.begin((events.shift() as Event).fault);
        moved = performance.now();
      }
      if (performance.now() - moved > STALLED_MS) throw new Error(`nothing moves: ${through} of ${records} are through\n${bridges.failures.join("\n")}`);
      await sleep(through === before ? 3 : 0);
    }
    await injector.done;
    await bridges.end();
    if (direction === "out") {
      using log = Queue.open<string>(path, { codec: "text", group: "bridge" });
      if (log.length > 0) throw new Error(`${log.length} records are still in the queue`);
      for (const { id, text } of await readAll(engine, server.port, STREAM)) {
        arrived.push(text);
        const sequence = Number.parseInt(text) + 1;
        if (id !== (engine === "nats" ? `${log.id}:${sequence}` : `${sequence}-0`)) wrongIds++;
      }
    } else {
      arrived.push(...queue);
    }
    const report = Queue.verify(path);
    if (!report.ok) throw new Error(String(report));
  } finally {
    await bridges.end();
    await proxy.close();
    await server.kill();
  }
  if (full && direction === "out" && refused.pushes === 0) throw new Error("the stream was full, and the local queue never was");
  return { engine, direction, records, faults: options.faults, ...compare(arrived, records, textOf), wrongIds, refusedPushes: refused.pushes, failures: bridges.failures, seconds: (performance.now() - started) / 1000 };
}

async function makeStreamFor({ engine, direction, records }: CampaignOptions, { port }: Server, textOf: (i: number) => string): Promise<void> {
  if (direction === "out") await makeStream(engine, port, STREAM);
  else await fill(engine, port, STREAM, Array.from({ length: records }, (_, i) => textOf(i)));
}

function compare(arrived: readonly string[], records: number, textOf: (i: number) => string): Pick<CampaignReport, "arrived" | "missing" | "firstMissing" | "doubled" | "outOfOrder"> {
  const times = new Map<string, number>();
  for (const text of arrived) times.set(text, (times.get(text) ?? 0) + 1);
  const missing = Array.from({ length: records }, (_, i) => i).filter((i) => !times.has(textOf(i)));
  let outOfOrder = 0;
  arrived.forEach((text, i) => {
    if (i > 0 && Number.parseInt(text) < Number.parseInt(arrived[i - 1] as string)) outOfOrder++;
  });
  return { arrived: arrived.length, missing: missing.length, firstMissing: missing.slice(0, 5), doubled: [...times.values()].filter((count) => count > 1).length, outOfOrder };
}

interface Scene {
  readonly server: Server;
  readonly proxy: Proxy;
  readonly bridges: Bridges;
  readonly engine: Engine;
  readonly direction: "out" | "in";
  readonly say: (text: string) => void;
}

/** Does one fault after the other. */
class Injector {
  readonly #scene: Scene;
  done: Promise<void> = Promise.resolve();
  idle = true;
  /** Whether the local queue is to stay full. */
  holding = false;

  constructor(scene: Scene) {
    this.#scene = scene;
  }

  begin(fault: Fault): void {
    this.idle = false;
    this.#scene.say(fault);
    this.done = this.#do(fault).finally(() => (this.idle = true));
    this.done.catch(() => {}); // awaited at the end
  }

  async #do(fault: Fault): Promise<void> {
    const { server, proxy, bridges, engine, direction } = this.#scene;
    switch (fault) {
      case "bridge":
        return await bridges.killWorking();
      case "server":
        await server.kill();
        await sleep(100);
        return await server.start();
      case "pause":
        server.signal("SIGSTOP");
        await sleep(PAUSE_MS);
        server.signal("SIGCONT");
        return;
      case "acks":
        return await proxy.lose(direction === "out" ? "server" : "client", ACK_TIMEOUT_MS / 2);
      case "full":
        if (direction === "in") {
          this.holding = true;
          await sleep(FULL_MS);
          this.holding = false;
          return;
        }
        // Nothing may come in between: to a limit below what is there NATS comes by dropping the oldest.
        await proxy.held(() => limit(engine, server.port, STREAM, 64 << 10));
        await sleep(FULL_MS);
        return await limit(engine, server.port, STREAM, undefined);
    }
  }
}

/** What is wrong with a report; empty if nothing is. */
export function problemsOf({ records, arrived, missing, doubled, outOfOrder, wrongIds, failures }: CampaignReport): string[] {
  const problems = [...failures];
  if (arrived !== records) problems.push(`${arrived} records arrived instead of ${records}`);
  for (const [what, count] of Object.entries({ missing, doubled, "out of order": outOfOrder, "with a wrong id": wrongIds })) {
    if (count > 0) problems.push(`${count} records are ${what}`);
  }
  return problems;
}

const help = `Usage: node tests/bridge/campaign.ts [options]   (or bun, or deno run -A)

Carries records over while things fail, and compares both sides.

  --engine nats|redis      (default: both, one after the other)
  --direction out|in       (default: both)
  --records N              (default 200000)
  --faults LIST            how often each comes (default bridge:20,server:3,pause:3,acks:3,full:1)
  --runtime LIST           what the bridges run under, in turn (default bun,deno,node)
  --file PATH              the lines (default examples/data/access_log.txt)
  --help                   this text
`;

async function main(): Promise<number> {
  const text = { type: "string" } as const;
  const { values } = parseArgs({ options: { engine: text, direction: text, records: text, faults: text, runtime: text, file: text, help: { type: "boolean" } } });
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  const chosen = <T extends string>(name: string, given: string | undefined, all: readonly T[]): T[] => {
    const list = given?.split(",") ?? [...all];
    for (const word of list) if (!all.includes(word as T)) throw new Error(`--${name} ${word}: known are ${all.join(", ")}`);
    return list as T[];
  };
  const counts: Partial<Record<Fault, number>> = {};
  for (const part of (values.faults ?? "bridge:20,server:3,pause:3,acks:3,full:1").split(",").filter((part) => part !== "")) {
    const [fault = "", count = "1"] = part.split(":");
    counts[chosen("faults", fault, faults)[0] as Fault] = Number(count);
  }
  let problems = 0;
  for (const engine of chosen("engine", values.engine, engines)) {
    const missing = missingServer(engine);
    if (missing !== undefined) {
      console.log(`${engine}: skipped, ${missing}`);
      continue;
    }
    for (const direction of chosen("direction", values.direction, directions)) {
      const folder = fs.mkdtempSync(join(os.tmpdir(), "holdfast-campaign-"));
      try {
        const report = await campaign({
          engine,
          direction,
          records: Number(values.records ?? 200_000),
          faults: counts,
          runtimes: chosen("runtime", values.runtime, runtimeNames),
          folder,
          file: values.file ?? join(root, "examples/data/access_log.txt"),
          say: (fault) => process.stderr.write(`${fault} `),
        });
        process.stderr.write("\n");
        console.log(JSON.stringify({ ...report, parent: currentRuntime, seconds: Number(report.seconds.toFixed(1)) }));
        for (const problem of problemsOf(report)) {
          problems++;
          console.error(`campaign: ${problem}`);
        }
      } finally {
        fs.rmSync(folder, { recursive: true, force: true });
      }
    }
  }
  return problems === 0 ? 0 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await main();
