/** The end of Workers. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Worker } from "node:worker_threads";
import { currentRuntime } from "./runtimes.ts";

/**
 * Milliseconds that a Worker that called native functions in a loop rests before it ends. Node 26.10 frees a Worker's functions of node:ffi
 * while V8 may still be compiling calls of them in the background, and the process dies of it: see docs/caveats.md.
 */
export const REST_MS: number = currentRuntime === "node" ? 200 : 0;

/** Ends Workers that have done their work. */
export async function endWorkers(workers: readonly Worker[]): Promise<void> {
  await sleep(REST_MS);
  await Promise.all(workers.map((worker) => worker.terminate()));
}
