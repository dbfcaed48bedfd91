/**
 * Waiting between attempts, and small helpers for both directions.
 *
 * @module
 */
import { createHash } from "node:crypto";

/** The n-th wait in a row, n from 0: grows from `first` to `last` by doubling, and is cut by up to a half at random, so that a fleet does not come in step. */
export function backoffMs(n: number, first: number, last: number): number {
  return Math.min(last, first * 2 ** Math.min(n, 30)) * (0.5 + Math.random() / 2);
}

/** Sleeps; ends at once when the signal is aborted. Never rejects. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
  });
}

/** What `promise` gives, or an error with `text` if that takes longer than `ms`. */
export async function within<T>(promise: Promise<T>, ms: number, text: string): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    return await Promise.race([promise, new Promise<never>((_, reject) => (timer = setTimeout(() => reject(new Error(text)), ms)))]);
  } finally {
    clearTimeout(timer);
    promise.catch(() => {}); // too late for anyone to hear
  }
}

/** A text of any length as 16 characters: a mark has room for 112 bytes. */
export function digestOf(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 16);
}

/** What went wrong, in one line. */
export function textOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return textOf(error.errors[0]);
  const { message, code } = error as { message?: string; code?: unknown };
  const text = error instanceof Error ? message || (typeof code === "string" ? code : error.name) : String(error);
  return (text ?? "").split("\n")[0] as string;
}

/** Something that one waits for and many can set off. */
export class Bell {
  #ring: (() => void) | undefined;
  #rung = false;

  ring(): void {
    this.#rung = true;
    this.#ring?.();
  }

  /** Waits until it was rung since the last wait, or `ms` are over: then false. */
  async wait(ms: number): Promise<boolean> {
    if (!this.#rung) {
      await new Promise<void>((resolve) => {
        const timer = ms === Infinity ? undefined : setTimeout(resolve, ms);
        this.#ring = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.#ring = undefined;
    const rung = this.#rung;
    this.#rung = false;
    return rung;
  }
}
