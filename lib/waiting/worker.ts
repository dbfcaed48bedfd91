/**
 * The thread that sleeps in the kernel for a realm; `../waiting.ts` starts it and `list.ts` says how they speak.
 *
 * It is in native calls of at most 250 ms: Node and Bun wait for them when the realm is itself a Worker that is terminated. (A process that
 * ends rings the doorbell.) Nothing here awaits at the top level, and the loop starts from an event: Node aborts when a Worker is
 * terminated in its module's evaluation.
 *
 * @module
 */
import { constants } from "node:os";
import { parentPort, workerData } from "node:worker_threads";
import { errno } from "../errors.ts";
import { allocateScratch, native } from "../native/native.ts";
import { LIST_WORDS, lowHalf, type Report, STOP } from "./list.ts";

const SLICE_MS = 250;

const port = parentPort;
const list = workerData as number;

function report(generation: number, result: number): void {
  port?.postMessage([generation, result] satisfies Report);
}

// Node warns of node:ffi in each thread; the program had its warning.
process.removeAllListeners("warning");
const hf = native();
const scratch = allocateScratch(8 * LIST_WORDS);
const words = new Float64Array(scratch.buffer);

/**
 * A function of its own, since a call is where Node sees at once that it is to terminate: in a loop of nothing but native calls it took a
 * dozen rounds.
 */
function sleep(count: number): number {
  return hf.hf_wait_any(scratch.address + 16, 1 + count, SLICE_MS);
}

/** Sleeps on list after list. Ends when told to, and when for a while there is nothing to wait for. */
function run(): void {
  for (;;) {
    // Pairs with the hf_words_store() of the Sleeper in ../waiting.ts: the list is at least as new as its generation.
    hf.hf_words_load(list, LIST_WORDS, scratch.address);
    const generation = words[0] as number;
    let count = words[1] as number;
    if (count >= STOP) return;
    words[3] = lowHalf(generation);
    for (;;) {
      const result = sleep(count);
      if (hf.hf_load64(list, 0) !== generation) {
        if (result > 0) report(generation, result);
        break;
      }
      if (result === 0) continue; // a stray wake
      if (result === -errno.ETIMEDOUT) {
        if (count > 0) continue;
        report(0, 0);
        return;
      }
      report(generation, result === -errno.EAGAIN ? 0 : result);
      if (result < 0 && result !== -errno.EAGAIN && result !== -constants.errno.EFAULT) return;
      // What is to be slept on now is for the realm to say.
      count = 0;
    }
  }
}

port?.on("message", run);
setTimeout(() => report(0, 0), 0);
