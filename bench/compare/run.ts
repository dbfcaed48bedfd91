/**
 * holdfast beside what else there is for the same work: `npm run bench:compare`. Every subject is a process of its own at every workload, and rounds go
 * through all subjects in turn. `--help` says how to call it; ../README.md says what is measured.
 */
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, realpathSync, rmSync, statfsSync, writeFileSync, writeSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { Child, killChildren, scriptOf } from "../child.ts";
import { describeMachine } from "../report.ts";
import type { Runtime } from "../workloads.ts";
import { drawCharts } from "./chart.ts";
import type { Place } from "./peer.ts";
import type { Figures, Role, Round } from "./pipeline.ts";
import { redisVersion, type RedisServer, startRedis } from "./redis_server.ts";
import { type Absence, format, type Machine, type Report, type Result, summarize } from "./report.ts";
import type { Request } from "./subject.ts";
import {
  BACKLOG_STEP,
  MEMORY_RECORDS,
  notAt,
  OPENED_RECORDS,
  peerFacts,
  type PeerName,
  peers,
  PER_SECOND,
  type Point,
  runtimeTitles,
  type Subject,
  subjectsOf,
  subjectTitle,
  TOGETHER,
  type Workload,
  workloads,
} from "./workloads.ts";

const help = `Usage: npm run bench:compare -- [options]

Measures holdfast in Node, Bun and Deno beside what else there is for the same work. Without "npm ci --prefix bench/compare" those that
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

interface Options {
  readonly rounds: number;
  readonly workloads: readonly Workload[];
  readonly peers: readonly PeerName[];
  readonly json: string | undefined;
  readonly dir: string;
  readonly smoke: boolean;
}

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
  return {
    rounds,
    workloads: workloads.filter(({ name }) => only.length === 0 || only.some((part) => name.includes(part))),
    peers: peers.filter((name) => peer.length === 0 || peer.includes(name)),
    json,
    dir,
    smoke,
  };
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

/** Sizes of a run. */
interface Sizes {
  readonly rounds: number;
  /** Milliseconds that a round is to take, where nothing waits for storage. */
  readonly roundMs: number;
  /** Operations of a round; 0 for as many as take `roundMs`. */
  readonly operations: number;
  /** What records waiting, opened or counted are divided by. */
  readonly divisor: number;
  readonly together: number;
  readonly wordBytes: number;
  readonly heard: number;
  readonly block: number;
}

function sizesOf({ rounds, smoke }: Options): Sizes {
  return smoke
    ? { rounds, roundMs: 0, operations: 10, divisor: 1000, together: 2, wordBytes: 1 << 16, heard: 20, block: 10 }
    : { rounds, roundMs: 50, operations: 0, divisor: 1, together: TOGETHER, wordBytes: 1 << 30, heard: PER_SECOND, block: BACKLOG_STEP };
}

/** A process of a subject. */
class Member {
  readonly #child: Child;

  private constructor(child: Child) {
    this.#child = child;
  }

  static async start({ peer, runtime }: Subject, what: string): Promise<Member> {
    const [exe, args] = scriptOf(runtime, path.join("compare", "subject.ts"));
    if (runtime === "deno") args.splice(1, 0, "--unstable-kv");
    const member = new Member(new Child(`${what} of ${peer} in ${runtime}`, exe, args));
    await member.#child.ready();
    return member;
  }

  async ask<T = number>(request: Request): Promise<T[]> {
    return JSON.parse(await this.#child.ask(JSON.stringify(request))) as T[];
  }

  /**
   * Has it kill itself: what it has found is said, and what it has opened is closed or to be left as it is. Node 26.10 may crash where it ends by
   * itself right after hot calls (docs/caveats.md).
   */
  async die(): Promise<void> {
    await this.ask({ do: "die" }).then(() => Promise.reject(new Error("it lives")), (error: Error) => {
      if (!error.message.includes("SIGKILL")) throw error;
    });
  }
}

interface RedisServers {
  readonly quick: RedisServer;
  readonly onStorage: RedisServer;
}

/** All that the workloads have in common. */
class Bench {
  readonly #options: Options;
  readonly #sizes: Sizes;
  readonly #folder: string;
  readonly #absentPeers: ReadonlyMap<PeerName, string>;
  readonly #redis: RedisServers | undefined;
  /** Where only sizes are tiny, a process of a runtime does one thing after the other. */
  readonly #idle = new Map<Runtime, Member[]>();
  readonly results: Result[] = [];
  readonly absent: Absence[] = [];
  #file = "";

  constructor(options: Options, folder: string, absentPeers: ReadonlyMap<PeerName, string>, redis: RedisServers | undefined) {
    this.#options = options;
    this.#sizes = sizesOf(options);
    this.#folder = folder;
    this.#absentPeers = absentPeers;
    this.#redis = redis;
  }

  async run(): Promise<void> {
    for (const workload of this.#options.workloads) {
      if (process.stderr.isTTY) process.stderr.write(`${workload.title} ...\n`);
      const subjects = this.#subjects(workload);
      if (subjects.length === 0) continue;
      if (workload.task === "random-read" || workload.task === "random-write") {
        if (!this.#writeWords(workload)) continue;
      }
      if (workload.task === "cold-open") await this.#coldOpen(workload, subjects);
      else if (workload.task === "backlog") await this.#backlog(workload, subjects);
      else if (workload.task === "memory") await this.#memory(workload, subjects);
      else if (workload.pairs !== undefined) await this.#pipeline(workload, subjects, workload.pairs);
      else await this.#loops(workload, subjects);
      if (this.#file !== "") rmSync(this.#file);
      this.#file = "";
    }
    await Promise.all([...this.#idle.values()].flat().map((member) => member.die()));
  }

  #subjects(workload: Workload): Subject[] {
    for (const [peer, why] of Object.entries(workload.leftOut) as [PeerName, string][]) this.absent.push({ workload: workload.name, peer, point: "", why });
    return subjectsOf(workload).filter(({ peer, runtime }) => {
      // Where only sizes are tiny, what is compared shows in one runtime that it works.
      if (this.#options.smoke && peer !== "holdfast" && runtime !== peerFacts[peer].runtimes[0]) return false;
      const why = this.#absentPeers.get(peer);
      if (why !== undefined && this.#options.peers.includes(peer)) this.absent.push({ workload: workload.name, peer, point: "", why });
      return why === undefined && this.#options.peers.includes(peer);
    });
  }

  /** Those of the subjects that are at a point. */
  #at(workload: Workload, subjects: readonly Subject[], point: Point): Subject[] {
    return subjects.filter((subject) => {
      const why = notAt(workload, subject, point);
      const { peer } = subject;
      if (why === undefined) return true;
      const known = this.absent.some((one) => one.workload === workload.name && one.peer === peer && one.point === point.title);
      if (!known) this.absent.push({ workload: workload.name, peer, point: point.title, why });
      return false;
    });
  }

  #place(workload: Workload, { peer, runtime }: Subject, point: string): Place {
    const storage = workload.task === "durable";
    const folder = path.join(this.#folder, `${workload.name}-${peer}-${runtime}-${point}`.replace(/[^\w-]/g, "_"));
    return { folder, redisPort: (storage ? this.#redis?.onStorage : this.#redis?.quick)?.port ?? 0 };
  }

  async #start(subject: Subject, what: string): Promise<Member> {
    const member = this.#idle.get(subject.runtime)?.pop() ?? (await Member.start(subject, what));
    await member.ask({ do: "be", peer: subject.peer });
    return member;
  }

  async #stop({ runtime }: Subject, member: Member): Promise<void> {
    await member.ask({ do: "close" });
    if (this.#options.smoke) this.#idle.set(runtime, [...(this.#idle.get(runtime) ?? []), member]);
    else await member.die();
  }

  /** One subject after the other. Where times mean nothing, the runtimes at once. */
  async #each(subjects: readonly Subject[], body: (subject: Subject) => Promise<void>): Promise<void> {
    const lanes = this.#options.smoke ? [...Map.groupBy(subjects, ({ runtime }) => runtime).values()] : [subjects];
    await Promise.all(lanes.map(async (lane) => {
      for (const subject of lane) await body(subject);
    }));
  }

  /** All are there, and then rounds go through all of them in turn. Where times mean nothing, one subject after the other has all of its rounds. */
  async #inTurn(subjects: readonly Subject[], steps: Record<"open" | "round" | "close", (subject: Subject) => Promise<void>>): Promise<void> {
    const rounds = Array.from({ length: this.#sizes.rounds }, () => steps.round);
    const all = [steps.open, ...rounds, steps.close];
    if (this.#options.smoke) {
      await this.#each(subjects, async (subject) => {
        for (const step of all) await step(subject);
      });
    } else {
      for (const step of all) for (const subject of subjects) await step(subject);
    }
  }

  #add(workload: Workload, point: Point, part: string, { peer, runtime }: Subject, runs: readonly number[]): void {
    this.results.push({ workload: workload.name, point: point.title, part, peer, runtime, unit: workload.unit, runs, ...summarize(runs) });
  }

  #clean(place: Place): void {
    rmSync(place.folder, { recursive: true, force: true, maxRetries: 3 });
  }

  /** Calls by the clock, in one process or several at once. */
  async #loops(workload: Workload, all: readonly Subject[]): Promise<void> {
    const { roundMs, operations, together } = this.#sizes;
    const { name, task } = workload;
    for (const point of workload.points) {
      const teams = new Map<Subject, { members: Member[]; count: number; runs: number[] }>();
      const ms = task === "durable" ? 4 * roundMs : roundMs;
      await this.#inTurn(this.#at(workload, all, point), {
        open: async (subject) => {
          const place = this.#place(workload, subject, point.title);
          const members: Member[] = [];
          const counts: number[] = [];
          for (let i = 0; i < (task === "add-together" ? together : 1); i++) {
            const member = await this.#start(subject, name);
            counts.push(...(await member.ask({ do: "open", task, value: point.value, place, file: this.#file, ms, operations })));
            members.push(member);
          }
          teams.set(subject, { members, count: Math.min(...counts), runs: [] });
        },
        round: async (subject) => {
          const { members, count, runs } = teams.get(subject)!;
          const times = await Promise.all(members.map((member) => member.ask({ do: "round", count })));
          runs.push(Math.max(...times.flat()) / members.length);
        },
        close: async (subject) => {
          const { members, runs } = teams.get(subject)!;
          if (members.length > 1) await this.#checkTotals(members, `${name} of ${subjectTitle(subject)}`);
          for (const member of members) await this.#stop(subject, member);
          this.#clean(this.#place(workload, subject, point.title));
          this.#add(workload, point, "", subject, runs);
        },
      });
    }
  }

  async #checkTotals(members: readonly Member[], what: string): Promise<void> {
    let added = 0;
    const values = new Set<number>();
    for (const member of members) {
      const [own = NaN, value = NaN] = await member.ask({ do: "total" });
      added += own;
      values.add(value);
    }
    if (values.size !== 1 || !values.has(added)) throw new Error(`wrong result: ${what}: ${added} were added, the counter says ${[...values].join(", ")}`);
  }

  async #pipeline(workload: Workload, all: readonly Subject[], pairs: number): Promise<void> {
    const { roundMs, heard, operations } = this.#sizes;
    const paced = workload.task === "latency";
    const roles = [...Array(pairs).fill(paced ? "hear" : "consume"), ...Array(pairs).fill(paced ? "pace" : "produce")] as Role[];
    for (const point of workload.points) {
      const batch = Math.max(1, point.value);
      const whole = (records: number): number => Math.ceil(records / batch) * batch;
      const crews = new Map<Subject, { members: Member[]; records: number; runs: number[][] }>();
      await this.#inTurn(this.#at(workload, all, point), {
        open: async (subject) => {
          const place = this.#place(workload, subject, point.title);
          const groups = subject.peer === "shared" ? [roles] : roles.map((role) => [role]);
          const members: Member[] = [];
          for (const group of groups) {
            const member = await this.#start(subject, workload.name);
            await member.ask({ do: "join", place, roles: group });
            members.push(member);
          }
          let records = paced ? heard : operations;
          // As many as take eight times a loop's round. The first ones are for the compilers as well.
          for (const part of records > 0 ? [] : [1, 2, 8]) {
            const [rate = NaN] = await this.#flow(workload, members, whole(Math.max(1_000, records)), batch, pairs);
            records = (rate / pairs / 1000) * part * roundMs;
          }
          crews.set(subject, { members, records: whole(records), runs: [] });
        },
        round: async (subject) => {
          const { members, records, runs } = crews.get(subject)!;
          runs.push(await this.#flow(workload, members, records, batch, pairs));
        },
        close: async (subject) => {
          const { members, runs } = crews.get(subject)!;
          for (const member of members) await this.#stop(subject, member);
          this.#clean(this.#place(workload, subject, point.title));
          for (const [i, part] of (workload.parts ?? [""]).entries()) this.#add(workload, point, part, subject, runs.map((run) => run[i] as number));
        },
      });
    }
  }

  /** One round of all members: records a second, or the microseconds of p50, p99 and p99.9. */
  async #flow(workload: Workload, members: readonly Member[], records: number, batch: number, pairs: number): Promise<number[]> {
    const share = 2 * pairs / members.length;
    const answers = await Promise.all(members.map((member, i) => {
      const rounds = Array.from({ length: share }, (_, k): Round => ({ records, batch, producer: Math.max(0, i * share + k - pairs), alone: pairs === 1 }));
      return member.ask<Figures>({ do: "pipeline", rounds });
    }));
    const all = answers.flat();
    const latencies = all.find((figures) => figures.latencies !== undefined)?.latencies;
    if (latencies !== undefined) return [...latencies];
    const received = all.reduce((sum, figures) => sum + figures.received, 0);
    if (received !== records * pairs) throw new Error(`wrong result: ${workload.name}: ${received} of ${records * pairs} records came`);
    const consumers = all.slice(0, pairs);
    const producers = all.slice(pairs);
    const ms = Math.max(...consumers.map(({ end }) => end)) - Math.min(...producers.map(({ start }) => start));
    return [(received / ms) * 1000];
  }

  /** A new process for each run; the one asks at once, the next after it has opened another queue. */
  async #coldOpen(workload: Workload, subjects: readonly Subject[]): Promise<void> {
    const { rounds, divisor } = this.#sizes;
    await this.#each(subjects, async (subject) => {
      const place = this.#place(workload, subject, "");
      const filler = await this.#start(subject, workload.name);
      await filler.ask({ do: "fill", place, records: OPENED_RECORDS / divisor });
      await this.#stop(subject, filler);
      for (const point of workload.points) {
        const killed = point.value === 1;
        const runs = (workload.parts ?? []).map((): number[] => []);
        // The first to be killed opens what was closed.
        for (let i = killed ? -1 : 0; i < rounds * runs.length; i++) {
          const part = Math.abs(i) % runs.length;
          const another = part === 1 ? this.#place(workload, subject, `${point.title}-${i}`) : undefined;
          const member = await this.#start(subject, workload.name);
          const [ms = NaN] = await member.ask({ do: "open-filled", place, another });
          if (i >= 0) runs[part]?.push(ms);
          if (killed) await member.die();
          else await this.#stop(subject, member);
          if (another !== undefined) this.#clean(another);
        }
        for (const [k, part] of (workload.parts ?? []).entries()) this.#add(workload, point, part, subject, runs[k] as number[]);
      }
      this.#clean(place);
    });
  }

  /** One subject after the other: ten million records take a gigabyte. */
  async #backlog(workload: Workload, subjects: readonly Subject[]): Promise<void> {
    const { rounds, divisor, block } = this.#sizes;
    await this.#each(subjects, async (subject) => {
      const place = this.#place(workload, subject, "");
      const points = workload.points.filter((point) => this.#at(workload, [subject], point).length > 0);
      const member = await this.#start(subject, workload.name);
      await member.ask({ do: "backlog", place, most: (points.at(-1) as Point).value / divisor });
      // A probe says how many thousands take long enough.
      const [push = 0, pop = 0] = await member.ask({ do: "grow", backlog: 0, rounds: 1, steps: 1, block });
      const steps = this.#options.smoke ? 1 : Math.max(1, Math.min(100, Math.round(2e8 / ((push + pop) * block))));
      for (const point of points) {
        const figures = await member.ask({ do: "grow", backlog: point.value / divisor, rounds, steps, block });
        for (const [k, part] of (workload.parts ?? []).entries()) this.#add(workload, point, part, subject, figures.filter((_, i) => i % 2 === k));
      }
      await this.#stop(subject, member);
      this.#clean(place);
    });
  }

  async #memory(workload: Workload, subjects: readonly Subject[]): Promise<void> {
    const { rounds, divisor } = this.#sizes;
    const [point] = workload.points as [Point];
    await this.#each(subjects, async (subject) => {
      const runs: number[][] = [];
      for (let i = 0; i < rounds; i++) {
        const place = this.#place(workload, subject, `${i}`);
        const member = await this.#start(subject, workload.name);
        runs.push(await member.ask({ do: "memory", place, records: MEMORY_RECORDS / divisor }));
        await this.#stop(subject, member);
        this.#clean(place);
      }
      for (const [k, part] of (workload.parts ?? []).entries()) this.#add(workload, point, part, subject, runs.map((run) => run[k] as number));
    });
  }

  /** Makes the large file, whose 64-bit word i has the value i. False if there is no room for it. */
  #writeWords(workload: Workload): boolean {
    const { wordBytes } = this.#sizes;
    const { bavail, bsize } = statfsSync(this.#folder);
    if (bavail * bsize < 2 * wordBytes) {
      console.error(`bench: ${workload.name} is left out: '${this.#options.dir}' has less than ${wordBytes >> 19} MiB free`);
      return false;
    }
    this.#file = path.join(this.#folder, "words");
    const part = new BigUint64Array(Math.min(wordBytes, 1 << 22) / 8);
    const fd = openSync(this.#file, "wx", 0o600);
    for (let offset = 0; offset < wordBytes; offset += part.byteLength) {
      for (let i = 0; i < part.length; i++) part[i] = BigInt(offset / 8 + i);
      writeSync(fd, part, 0, part.byteLength, offset);
    }
    closeSync(fd);
    return true;
  }
}

/** Peers that this machine does not have, and what to do about it. */
function missingPeers(): Map<PeerName, string> {
  const missing = new Map<PeerName, string>();
  for (const name of peers) {
    const { needs } = peerFacts[name];
    if (needs !== undefined && !existsSync(packageFile(needs))) missing.set(name, `the package ${needs} is not installed ("npm ci --prefix bench/compare")`);
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
    for (const server of servers) server.stop();
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
      writeFileSync(options.json, JSON.stringify(report, null, 1) + "\n");
      const drawn = await drawCharts(report, options.json);
      if (drawn !== undefined) console.error(`bench: nothing is drawn: ${drawn}`);
    }
  } finally {
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
