/**
 * One runtime's side of the comparison, a process. Prints `ready`, then answers each line on stdin, a request in JSON, with one of JSON. Ends at the end of
 * stdin. Every result is checked; a wrong one ends the process with an error.
 */
import { mkdirSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { Worker } from "node:worker_threads";
import { Filled, memory, openAnother, openFilled } from "./life.ts";
import { openLoop, type Work } from "./loops.ts";
import type { Fifo, Peer, Place } from "./peer.ts";
import { ringBytes } from "./peers/ring.ts";
import { type Figures, pipelineOptions, type Role, roles, type Round } from "./pipeline.ts";
import type { Task } from "./workloads.ts";

/** What is asked of a subject. Each is answered by an array of numbers, but a pipeline's round by figures. */
export type Request =
  /** Which peer it is from now on: a file of `peers/`. */
  | { do: "be"; peer: string }
  /** Opens what a task needs and warms up; the number of operations that take `ms`, or of `operations` if that is more than 0. */
  | { do: "open"; task: Task; value: number; place: Place; file: string; ms: number; operations: number }
  /** Does a round of them; the nanoseconds of one. */
  | { do: "round"; count: number }
  /** What was added to a counter here, and its value. */
  | { do: "total" }
  | { do: "close" }
  | { do: "join"; place: Place; roles: readonly Role[] }
  | { do: "pipeline"; rounds: readonly Round[] }
  /** A queue that is filled, closed again. */
  | { do: "fill"; place: Place; records: number }
  /** The milliseconds until a queue is open and its first record read, after another one if `another` is a place. */
  | { do: "open-filled"; place: Place; another?: Place | undefined }
  | { do: "die" }
  | { do: "backlog"; place: Place; most: number }
  /** Fills up to a backlog; then nanoseconds of push and pop, a pair for each round. */
  | { do: "grow"; backlog: number; rounds: number; steps: number; block: number }
  | { do: "memory"; place: Place; records: number };

let name = "";
let peer: Peer;
let work: Work | undefined;
let filled: Filled | undefined;
let opened: Fifo | undefined;
let member: ((rounds: readonly Round[]) => Promise<Figures[]>) | undefined;
let leave: (() => unknown) | undefined;

/** Operations that take `ms`, found by doing twice as many until they do; and some more rounds of them for the compilers. */
async function warmUp(work: Work, ms: number): Promise<number> {
  let count = 1;
  for (let took = await work.run(count); took < ms; took = await work.run(count)) count = Math.ceil(count * Math.min(8, Math.max(1.5, ms / Math.max(took, 0.001))));
  for (let i = 0; i < 2; i++) await work.run(count);
  return count;
}

/** Threads for a peer whose memory is a process's own, which end with it; otherwise this process is the one member. */
async function join(place: Place, wanted: readonly Role[]): Promise<void> {
  if (name !== "shared") {
    const fifo = await peer.fifo(place, pipelineOptions);
    const [role] = wanted as [Role];
    member = async ([round]) => [await roles[role](fifo, round as Round)];
    leave = () => fifo.close();
    return;
  }
  const memory = new SharedArrayBuffer(ringBytes(pipelineOptions));
  const workers = wanted.map((role) => new Worker(new URL("thread.ts", import.meta.url), { workerData: { role, place: { ...place, memory } } }));
  const answer = (worker: Worker): Promise<Figures> =>
    new Promise((resolve, reject) => {
      worker.once("message", (figures: Figures) => resolve(figures));
      worker.once("error", reject);
    });
  await Promise.all(workers.map(answer)); // they have opened it
  member = (rounds) =>
    Promise.all(workers.map((worker, i) => {
      const answered = answer(worker);
      worker.postMessage(rounds[i]);
      return answered;
    }));
}

async function answer(request: Request): Promise<readonly unknown[]> {
  if ("place" in request) mkdirSync(request.place.folder, { recursive: true });
  switch (request.do) {
    case "be":
      name = request.peer;
      peer = ((await import(`./peers/${name}.ts`)) as { default: Peer }).default;
      return [];
    case "open":
      work = await openLoop(request.task, peer, request.place, request.value, request.file);
      return [request.operations > 0 ? request.operations : await warmUp(work, request.ms)];
    case "round":
      return [((await work!.run(request.count)) * 1e6) / (request.count * (work!.each ?? 1))];
    case "total": {
      const { added, value } = await work!.total!();
      return [added, value];
    }
    case "join":
      await join(request.place, request.roles);
      return [];
    case "pipeline":
      return await member!(request.rounds);
    case "fill": {
      const queue = await Filled.open(peer, request.place, request.records);
      await queue.fill(request.records);
      await queue.close();
      return [];
    }
    case "open-filled": {
      if (request.another !== undefined) {
        mkdirSync(request.another.folder);
        await openAnother(peer, request.another);
      }
      const { ms, fifo } = await openFilled(peer, request.place);
      opened = fifo;
      return [ms];
    }
    case "die":
      process.kill(process.pid, "SIGKILL");
      return await new Promise(() => {});
    case "backlog":
      filled = await Filled.open(peer, request.place, request.most);
      return [];
    case "grow": {
      await filled!.fill(request.backlog);
      await filled!.round(request.steps, request.block); // for the compilers, and for what it makes first
      const figures: number[] = [];
      for (let i = 0; i < request.rounds; i++) figures.push(...(await filled!.round(request.steps, request.block)));
      return figures;
    }
    case "memory":
      return await memory(peer, request.place, request.records);
    case "close":
      await work?.close();
      await filled?.close();
      await opened?.close();
      await leave?.();
      work = filled = opened = member = leave = undefined;
      return [];
  }
}

console.log("ready");
for await (const line of createInterface({ input: process.stdin })) console.log(JSON.stringify(await answer(JSON.parse(line) as Request)));
process.exit(0); // threads and connections would keep it
