/**
 * Ending in order. A command that needs it asks for a signal; all others die as the system has it, also in the middle of a long call.
 *
 * @module
 */
import { constants } from "node:os";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { Interrupted } from "./errors.ts";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Aborts, with {@linkcode Interrupted}, at the first signal that asks the process to end. At further ones `again` is called with their
 * count, 2 for the second; without it the process dies at once.
 */
export function endInOrder(again?: (count: number) => void): AbortSignal {
  const ending = new AbortController();
  let count = 0;
  for (const name of SIGNALS) {
    process.on(name, () => {
      count++;
      if (count === 1) ending.abort(new Interrupted(name));
      else if (again === undefined) void dieOf(name);
      else again(count);
    });
  }
  return ending.signal;
}

/** Ends the process by the signal itself, as whoever started it expects: shells show 128 + its number. Does not return. */
export async function dieOf(signal: NodeJS.Signals): Promise<never> {
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
  // Where the runtime takes its time to give the signal back to the system, or does not.
  await sleep(1000);
  process.exit(128 + constants.signals[signal]);
}

/** Waits; rejects with the signal's reason. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}
