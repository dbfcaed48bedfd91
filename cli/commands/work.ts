/** `holdfast queue work`: a command for each record. */
import { type ChildProcess, spawn } from "node:child_process";
import { MapError } from "../../lib/errors.ts";
import type { Lease, Queue } from "../../lib/queue.ts";
import { asText, type Command, command, flag, option, whole } from "../command.ts";
import { CommandError, UsageError } from "../errors.ts";
import { isErrorTerminal, json, note } from "../output.ts";
import { recordOf } from "../records.ts";
import { endInOrder, pause } from "../signals.ts";
import { coded, durability, group, openQueue } from "./queue_options.ts";

/** How a command ended. */
interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** What becomes of a record. */
type Result = "acknowledged" | "released" | "late";

interface Plan {
  readonly file: string;
  readonly args: readonly string[];
  /** Undefined: until the holder dies. */
  readonly leaseMs: number | undefined;
  readonly timeoutMs: number | undefined;
  readonly retryDelayMs: number;
  readonly json: boolean;
}

/** After SIGTERM, until SIGKILL. */
const KILL_AFTER_MS = 5000;
/** How long until another look, while records are in the queue that others hold. */
const EMPTY_PAUSE_MS = 50;

function isStale(error: unknown): boolean {
  return error instanceof MapError && error.code === "ERR_STALE_LEASE";
}

function describeEnding({ code, signal }: Ending): string {
  return signal === null ? `exited with ${code}` : `was ended by ${signal}`;
}

/** Runs commands, one for each record, and settles the records by how they end. */
class Workers {
  acknowledged = 0;
  failed = 0;
  readonly #queue: Queue<Uint8Array>;
  readonly #plan: Plan;
  readonly #running = new Set<ChildProcess>();
  /** Taken records that are not settled. */
  #held = 0;
  /** Records that may still be taken. */
  #left: number;

  constructor(queue: Queue<Uint8Array>, plan: Plan, most: number) {
    this.#queue = queue;
    this.#plan = plan;
    this.#left = most;
  }

  /** How many commands run. */
  get running(): number {
    return this.#running.size;
  }

  /** Ends the commands that run. */
  stop(signal: NodeJS.Signals): void {
    for (const child of this.#running) child.kill(signal);
  }

  /** Takes one record after the other, until `ending`, or until there is none if `untilEmpty`. */
  async work(untilEmpty: boolean, ending: AbortSignal): Promise<void> {
    while (this.#left > 0 && !ending.aborted) {
      this.#left--;
      const lease = await this.#take(untilEmpty, ending);
      if (lease === undefined) return;
      this.#held++;
      try {
        if (!(await this.#handle(lease, ending))) this.#left++; // it is still to be done
      } finally {
        this.#held--;
      }
    }
  }

  async #take(untilEmpty: boolean, ending: AbortSignal): Promise<Lease<Uint8Array> | undefined> {
    const limit = this.#plan.leaseMs === undefined ? {} : { leaseMs: this.#plan.leaseMs };
    try {
      if (!untilEmpty) return await this.#queue.leaseAsync({ ...limit, signal: ending });
      for (;;) {
        const lease = this.#queue.lease(limit);
        // What this process holds may come back.
        if (lease !== undefined || this.#held === 0) return lease;
        await pause(EMPTY_PAUSE_MS, ending);
      }
    } catch (error) {
      if (ending.aborted) return undefined;
      throw error;
    }
  }

  /** Whether the record is done. */
  async #handle(lease: Lease<Uint8Array>, ending: AbortSignal): Promise<boolean> {
    const started = performance.now();
    const extending = this.#keep(lease);
    let ended: Ending;
    let result: Result;
    try {
      try {
        ended = await this.#run(lease, extending.lost);
      } catch (error) {
        lease.release(); // it was not the record's fault
        throw error;
      }
      const done = ended.code === 0;
      // A pause before it is handed out again, at once as a rule: a command that can't work would be started a hundred times a second.
      if (!done && this.#plan.retryDelayMs > 0) await pause(this.#plan.retryDelayMs, ending).catch(() => {});
      result = settle(lease, done);
    } finally {
      extending.end();
    }
    if (result === "acknowledged") this.acknowledged++;
    else this.failed++;
    await this.#tell(lease, ended, result, performance.now() - started);
    return result === "acknowledged";
  }

  async #tell(lease: Lease<Uint8Array>, ended: Ending, result: Result, ms: number): Promise<void> {
    if (result !== "acknowledged") {
      const then = result === "late" ? "the record was given to another meanwhile" : "the record stays in the queue";
      note(`record ${lease.sequence}: ${this.#plan.file} ${describeEnding(ended)}, attempt ${lease.attempts}; ${then}`);
    }
    if (this.#plan.json) await json({ result, exit: ended.code, signal: ended.signal, attempts: lease.attempts, ms: Math.round(ms), record: recordOf(lease.value, lease.sequence) });
  }

  /** Extends the lease for as long as the command runs; `lost` is called when another has got the record. */
  #keep(lease: Lease<Uint8Array>): { end: () => void; lost: (stop: () => void) => void } {
    const { leaseMs } = this.#plan;
    if (leaseMs === undefined) return { end: () => {}, lost: () => {} };
    let stop = (): void => {};
    const timer = setInterval(() => {
      try {
        lease.extend(leaseMs);
      } catch (error) {
        clearInterval(timer);
        note(isStale(error) ? "a record was given to another, since this process was too late to extend its lease; ending its command" : String((error as Error).message));
        stop();
      }
    }, Math.max(1, Math.floor(leaseMs / 3)));
    return { end: () => clearInterval(timer), lost: (then) => (stop = then) };
  }

  /** Runs the command with the record on its standard input. Rejects if it can't be started. */
  #run(lease: Lease<Uint8Array>, whenLost: (stop: () => void) => void): Promise<Ending> {
    const { file, args, timeoutMs, json: asJson } = this.#plan;
    return new Promise((resolve, reject) => {
      const cannot = (error: unknown): void => {
        const { code = "", message } = error as NodeJS.ErrnoException;
        reject(new CommandError(`can't run '${file}': ${code === "ENOENT" ? "no such command" : message}; the record stays in the queue`, code || "ERR_COMMAND", error));
      };
      let child: ChildProcess;
      try {
        child = spawn(file, args, {
          // The results are on this process's standard output then.
          stdio: ["pipe", asJson ? 2 : "inherit", "inherit"],
          env: { ...process.env, HOLDFAST_QUEUE: this.#queue.path, HOLDFAST_ATTEMPTS: String(lease.attempts) },
        });
      } catch (error) {
        cannot(error);
        return;
      }
      this.#running.add(child);
      let killing: NodeJS.Timeout | undefined;
      const end = (): void => {
        child.kill("SIGTERM");
        killing ??= setTimeout(() => child.kill("SIGKILL"), KILL_AFTER_MS);
      };
      whenLost(end);
      const limit = timeoutMs === undefined ? undefined : setTimeout(() => {
        note(`${file} took more than ${timeoutMs} ms; ending it`);
        end();
      }, timeoutMs);
      const over = (): void => {
        clearTimeout(limit);
        clearTimeout(killing);
        this.#running.delete(child);
      };
      child.once("error", (error) => {
        over();
        cannot(error);
      });
      // "exit" and not "close": a grandchild that keeps a pipe open is no reason to wait.
      child.once("exit", (code, signal) => {
        over();
        resolve({ code: code ?? null, signal: signal ?? null });
      });
      // A command need not read its input.
      child.stdin?.on("error", () => {});
      child.stdin?.end(lease.value);
    });
  }
}

function settle(lease: Lease<Uint8Array>, done: boolean): Result {
  try {
    if (done) lease.ack();
    else lease.release();
    return done ? "acknowledged" : "released";
  } catch (error) {
    if (isStale(error)) return "late";
    throw error;
  }
}

export const work: Command = command({
  name: "queue work",
  summary: "run a command for each record, which is removed if it succeeds",
  args: "QUEUE -- CMD [ARG ...]",
  count: [1, 1],
  text: `CMD gets the record on its standard input, and HOLDFAST_ATTEMPTS and HOLDFAST_QUEUE in its environment. If it exits with 0 the record is
removed; otherwise it goes back to the queue and is handed out again, first of all. If this process or the machine dies, the record
is handed out again as well: CMD may see a record twice, and must bear that. Any number of workers, on one queue, share the work.

A first SIGINT, SIGTERM or SIGHUP takes no more records and waits for the commands that run; a second one ends those, too.
With --json a line is written for each record, and what CMD writes goes to the standard error stream.`,
  options: {
    concurrency: option("N", "how many commands at once (default 1)", whole(1, 4096), 1),
    count: option("N", "end after so many records are done", whole(1), Infinity),
    "until-empty": flag("end when there is no record left"),
    "max-attempts": option("N", "hand a record out so often at most; then it goes to --dead-letter", whole(1)),
    "dead-letter": option("QUEUE", "the queue for records that failed --max-attempts times", asText),
    "lease-ms": option("N", "give a record to another if this process does not extend its lease\nfor so long, stopped or hanging; a dead one is noticed anyhow", whole(1, 2 ** 31 - 1)),
    "timeout-ms": option("N", "end a command that takes longer (SIGTERM, after 5 s SIGKILL)", whole(1, 2 ** 31 - 1)),
    "retry-delay-ms": option("N", "hold a record back so long after a failure (default 1000)", whole(0, 2 ** 31 - 1), 1000),
    ...coded,
    group,
    durability,
  },
  examples: [
    ["holdfast queue work jobs -- ./resize.sh", "for ever"],
    ["holdfast queue work jobs --concurrency 4 --max-attempts 3 --dead-letter failed -- ./send.sh", "four at once; what fails three times is set aside"],
    ["holdfast queue work jobs --until-empty -- sh -c 'cat >> done.txt; echo >> done.txt'", "all that there is"],
  ],
  async run({ options, args: [path = ""], rest: [file = "", ...args] }) {
    if ((options["max-attempts"] === undefined) !== (options["dead-letter"] === undefined)) {
      throw new UsageError("--max-attempts and --dead-letter go together: the first says when a record goes to the second");
    }
    using queue = openQueue(path, options, { mode: "rw" });
    const workers = new Workers(queue, {
      file,
      args,
      leaseMs: options["lease-ms"],
      timeoutMs: options["timeout-ms"],
      retryDelayMs: options["retry-delay-ms"],
      json: options.json,
    }, options.count);
    const ending = endInOrder((count) => workers.stop(count === 2 ? "SIGTERM" : "SIGKILL"));
    ending.addEventListener("abort", () => {
      if (workers.running > 0) note("waiting for the commands that run; once more ends them");
    });
    // One that fails ends all.
    const failing = new AbortController();
    const either = AbortSignal.any([ending, failing.signal]);
    const results = await Promise.allSettled(Array.from({ length: Math.min(options.concurrency, options.count) }, async () => {
      try {
        await workers.work(options["until-empty"], either);
      } catch (error) {
        failing.abort();
        throw error;
      }
    }));
    const failure = results.find((result) => result.status === "rejected");
    if (isErrorTerminal() || failure !== undefined) note(`${workers.acknowledged} done, ${workers.failed} failed`);
    if (failure !== undefined) throw failure.reason;
    ending.throwIfAborted();
  },
});
