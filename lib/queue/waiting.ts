/**
 * Waiting for a record without blocking the event loop.
 *
 * A wait loses nothing: a record is taken only in the step that hands it to the caller. Invariant: who waits has announced it before it
 * looked for a record, and sleeps only for as long as the bell is the one of then; so either it finds the record, or the producer finds the
 * announcement.
 *
 * @module
 */
import { closedError } from "../errors.ts";
import { native } from "../native/native.ts";
import { type Outcome, waitFor, type WaitLimits } from "../waiting.ts";
import type { Consumer } from "./consumer.ts";
import type { Control } from "./control.ts";

/** How many records are taken without a pause before the event loop has its turn. */
const TURN = 64;

/** Whether there is something to take, and in how many milliseconds there may be without anyone ringing. */
interface Outlook {
  readonly ready: boolean;
  readonly leaseEndsInMs: number;
}

/** One handle's waits. */
export class Waiting {
  readonly #control: Control;
  readonly #consumer: Consumer;
  #taken = 0;

  constructor(control: Control, consumer: Consumer) {
    this.#control = control;
    this.#consumer = consumer;
  }

  /**
   * What `take` finds, now or after waiting for it; undefined when the time is over. `take` is called again and again, and says undefined
   * for nothing; `outlook` looks without taking. Rejects with the signal's reason, or `ERR_CLOSED`.
   */
  async until<R>(
    take: () => R | undefined,
    timeoutMs: number | undefined,
    signal: AbortSignal | undefined,
    outlook: () => Outlook = () => this.#consumer.outlook(),
  ): Promise<R | undefined> {
    const deadline = timeoutMs === undefined ? Infinity : performance.now() + timeoutMs;
    for (;;) {
      signal?.throwIfAborted();
      const found = take();
      if (found !== undefined) {
        // A queue that is never empty must not keep everything else waiting.
        if (++this.#taken % TURN === 0) await new Promise((resolve) => setImmediate(resolve));
        return found;
      }
      if (performance.now() >= deadline) return undefined;
      await this.#sleep({ deadline, signal }, outlook);
    }
  }

  /** Sleeps until there may be a record, or the time is over, or a lease ends, or it is this handle's turn. */
  #sleep({ deadline = Infinity, signal }: WaitLimits, outlook: () => Outlook): Promise<Outcome> {
    const control = this.#control;
    const hf = native();
    const open = (): void => {
      if (control.closed) throw closedError("queue", control.directory);
    };
    if (!control.mayConsume) {
      // Nothing wakes a standby when the kernel drops the lock of the one before it: it has to look, every ten milliseconds at the latest.
      const changed = (): boolean => (open(), control.takeTurn(true));
      return waitFor({ expected: 0, address: () => 0, changed }, { deadline, signal });
    }
    const bell = control.expect();
    const { ready, leaseEndsInMs } = outlook();
    if (ready) return Promise.resolve("woken");
    return waitFor({
      expected: bell,
      address() {
        open();
        return control.bell;
      },
      changed: () => {
        open();
        return hf.hf_load64(control.bell, 0) !== bell || outlook().ready;
      },
    }, { deadline: Math.min(deadline, performance.now() + leaseEndsInMs), signal });
  }
}

/** Takes values one by one, each when it is asked for. Ends when the queue is closed; a signal ends it with its reason. */
export class Consumption<T> implements AsyncIterableIterator<T> {
  readonly #take: (signal: AbortSignal) => Promise<T>;
  readonly #isClosed: () => boolean;
  readonly #ended = new AbortController();
  readonly #signal: AbortSignal;

  constructor(take: (signal: AbortSignal) => Promise<T>, isClosed: () => boolean, signal: AbortSignal | undefined) {
    this.#take = take;
    this.#isClosed = isClosed;
    this.#signal = signal === undefined ? this.#ended.signal : AbortSignal.any([signal, this.#ended.signal]);
  }

  async next(): Promise<IteratorResult<T>> {
    const over = (): boolean => this.#ended.signal.aborted || this.#isClosed();
    if (over()) return { done: true, value: undefined };
    try {
      return { done: false, value: await this.#take(this.#signal) };
    } catch (error) {
      if (over()) return { done: true, value: undefined };
      throw error;
    }
  }

  return(): Promise<IteratorResult<T>> {
    this.#ended.abort();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
