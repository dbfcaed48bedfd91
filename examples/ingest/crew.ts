/** The child processes of the ingest example: started, killed and started again, and ended at the end. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { type Runtime, runtimes } from "./options.ts";
import { names, type Shared } from "./shared.ts";

export type Kind = "producer" | "consumer";

/** One place in the crew; several processes may fill it, one after the other. */
export interface Member {
  readonly kind: Kind;
  readonly index: number;
  readonly runtime: Runtime;
  /** Its process, while there is one. */
  child: ChildProcess | undefined;
  /** It ended by itself, its work done. */
  finished: boolean;
  /** Told to die; the system has not said yet that it has. */
  dying: boolean;
  killed: number;
}

const binaries = new URL("../../node_modules/.bin/", import.meta.url);

function command(runtime: Runtime, program: string): [executable: string, args: string[]] {
  const executable = fileURLToPath(new URL(runtime, binaries));
  if (!existsSync(executable)) throw new Error(`there is no '${executable}': run "npm install" first`);
  const args = {
    node: ["--disable-warning=ExperimentalWarning", program],
    bun: ["run", program],
    deno: ["run", "-A", "--no-check", program],
  };
  return [executable, args[runtime]];
}

/** All children of a run. */
export class Crew {
  readonly members: readonly Member[];
  /** The first thing that went wrong. */
  failure: Error | undefined;
  readonly #folder: string;
  readonly #shared: Shared;
  #stopping = false;

  constructor(folder: string, shared: Shared, producers: number, consumers: number, runtime: Runtime | "mixed") {
    this.#folder = folder;
    this.#shared = shared;
    const runtimeOf = (place: number): Runtime => (runtime === "mixed" ? (runtimes[place % runtimes.length] as Runtime) : runtime);
    const member = (kind: Kind, index: number, place: number): Member => {
      return { kind, index, runtime: runtimeOf(place), child: undefined, finished: false, dying: false, killed: 0 };
    };
    this.members = [
      ...Array.from({ length: producers }, (_, i) => member("producer", i, i)),
      ...Array.from({ length: consumers }, (_, i) => member("consumer", i, producers + i)),
    ];
  }

  start(): void {
    for (const member of this.members) this.#start(member);
  }

  /** Whether all of a kind (or all) have done their work. */
  finished(kind?: Kind): boolean {
    return this.members.every((member) => member.finished || (kind !== undefined && member.kind !== kind));
  }

  /** Whether each child has opened the shared files. */
  ready(): boolean {
    return this.members.every((member) => this.#shared.counters.get(names.pid(member.kind, member.index)) !== 0);
  }

  killed(kind: Kind): number {
    return this.members.reduce((sum, member) => sum + (member.kind === kind ? member.killed : 0), 0);
  }

  /** Kills one of a kind that is at work; false if there is none at the moment. */
  kill(kind: Kind, random: () => number): boolean {
    const { counters, job } = this.#shared;
    const candidates = this.members.filter((member) => {
      if (member.kind !== kind || member.child === undefined || member.dying) return false;
      const starting = counters.get(names.pid(kind, member.index)) === 0;
      const lines = kind === "producer" ? (job.parts[member.index]?.lines ?? 0) : Infinity;
      return !starting && counters.get(names.done(kind, member.index)) < lines;
    });
    const member = candidates[Math.floor(random() * candidates.length)];
    if (member === undefined) return false;
    member.dying = true;
    member.child?.kill("SIGKILL");
    return true;
  }

  /** Kills all that are left and waits until they are gone. */
  async stop(): Promise<void> {
    this.stopNow();
    await Promise.all(this.members.map(({ child }) => child === undefined || new Promise((resolve) => child.once("exit", resolve))));
  }

  /** Kills all that are left. */
  stopNow(): void {
    this.#stopping = true;
    for (const { child } of this.members) child?.kill("SIGKILL");
  }

  #start(member: Member): void {
    const { kind, index, runtime } = member;
    const [executable, args] = command(runtime, fileURLToPath(new URL(`./${kind}.ts`, import.meta.url)));
    const child = spawn(executable, [...args, this.#folder, String(index)], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, NO_COLOR: "1", FORCE_COLOR: undefined, DENO_NO_UPDATE_CHECK: "1", DENO_NO_PROMPT: "1" },
    });
    member.child = child;
    member.dying = false;
    let complaint = "";
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      complaint = (complaint + text).slice(-4000);
    });
    child.once("error", (error) => {
      // Not started: there will be no "exit".
      member.child = undefined;
      this.failure ??= error;
    });
    // Restarting waits for nothing but the death; what the process wrote is read to the end where it matters.
    child.once("exit", (code, signal) => {
      member.child = undefined;
      if (this.#stopping) return;
      if (code === 0) {
        member.finished = true;
      } else if (member.dying && signal === "SIGKILL") {
        member.killed++;
        this.#shared.counters.set(names.pid(kind, index), 0);
        this.#start(member);
      } else {
        child.once("close", () => {
          const how = signal === null ? `ended with exit code ${code}` : `was ended by ${signal}`;
          this.failure ??= new Error(`${kind} ${index} (${runtime}) ${how}\n${complaint.trimEnd()}`);
        });
      }
    });
  }
}

/** Random numbers from 0 to 1, the same ones for the same seed (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** When to kill: `count` numbers of lines, spread over the run, at random within their stretch of it. */
export function killPlan(count: number, lines: number, random: () => number): number[] {
  // Not in the last part: a process that is started again shall find something left to do.
  return Array.from({ length: count }, (_, i) => Math.floor(lines * (0.03 + (0.82 * (i + random())) / count)));
}
