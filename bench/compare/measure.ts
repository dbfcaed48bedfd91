/** Goes through the workloads: starts the processes of the subjects, asks for rounds, keeps what they say. */
import { closeSync, openSync, rmSync, statfsSync, writeSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { Child, scriptOf } from "../child.ts";
import type { Runtime } from "../workloads.ts";
import type { Place } from "./peer.ts";
import type { Figures, Role, Round } from "./pipeline.ts";
import type { RedisServer } from "./redis_server.ts";
import { type Absence, type Result, summarize } from "./report.ts";
import type { Request } from "./subject.ts";
import {
  BACKLOG_STEP,
  MEMORY_RECORDS,
  notAt,
  OPENED_RECORDS,
  peerFacts,
  type PeerName,
  PER_SECOND,
  type Point,
  type Subject,
  subjectsOf,
  subjectTitle,
  type Task,
  TOGETHER,
  type Workload,
} from "./workloads.ts";

/** What a run is asked for. */
export interface Options {
  readonly rounds: number;
  readonly workloads: readonly Workload[];
  readonly peers: readonly PeerName[];
  readonly json: string | undefined;
  readonly dir: string;
  readonly smoke: boolean;
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

export interface RedisServers {
  readonly quick: RedisServer;
  readonly onStorage: RedisServer;
}

/** All that the workloads have in common. */
export class Bench {
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
      if (subjects.length === 0 || !this.#hasRoom(workload)) continue;
      if (workload.task === "random-read" || workload.task === "random-write") this.#writeWords();
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

  #add(workload: Workload, point: Point, part: string, { peer, runtime }: Subject, figures: readonly number[]): void {
    const runs = figures.map((figure) => Number(figure.toPrecision(5)));
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
            const [rate = NaN] = await this.#flow(workload, members, whole(Math.max(200, records)), batch, pairs);
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
      // How many blocks take 200 ms; asked twice, since the first time is also the compilers'.
      let steps = 1;
      for (let i = 0; i < 2 && !this.#options.smoke; i++) {
        const [push = 0, pop = 0] = await member.ask({ do: "grow", backlog: 0, rounds: 1, steps, block });
        steps = Math.max(1, Math.round(2e8 / ((push + pop) * block)));
      }
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

  /** Whether the files that a workload makes fit onto the disk, and as many others' again. */
  #hasRoom({ name, task }: Workload): boolean {
    const { wordBytes, divisor } = this.#sizes;
    const needed: Partial<Readonly<Record<Task, number>>> = { "random-read": wordBytes, "random-write": wordBytes, "cold-open": 2 ** 29 / divisor, backlog: 3 * 2 ** 30 / divisor };
    const bytes = 2 * (needed[task] ?? 0);
    const { bavail, bsize } = statfsSync(this.#folder);
    if (bavail * bsize >= bytes) return true;
    console.error(`bench: ${name} is left out: '${this.#options.dir}' has less than ${Math.ceil(bytes / 2 ** 20)} MiB free`);
    return false;
  }

  /** Makes the large file, whose 64-bit word i has the value i. */
  #writeWords(): void {
    const { wordBytes } = this.#sizes;
    this.#file = path.join(this.#folder, "words");
    const part = new BigUint64Array(Math.min(wordBytes, 1 << 22) / 8);
    const fd = openSync(this.#file, "wx", 0o600);
    for (let offset = 0; offset < wordBytes; offset += part.byteLength) {
      for (let i = 0; i < part.length; i++) part[i] = BigInt(offset / 8 + i);
      writeSync(fd, part, 0, part.byteLength, offset);
    }
    closeSync(fd);
  }
}
