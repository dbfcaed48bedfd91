/**
 * Counters, gauges and histograms: one series each, whose cells any number of processes change at once.
 *
 * Invariants:
 *  - Each change of a cell is one native call, atomic between processes; its result tells of a closed handle, of mode "r" and of a file
 *    that was cut short, so that nothing is asked before.
 *  - No counter and no bucket ever holds less than 0, or NaN: such a value is damage, and said to be.
 *
 * @module
 */
import { invalidType, outOfRange } from "../errors.ts";
import { native } from "../native/native.ts";
import { codes, type NativeFunctions } from "../native/symbols.ts";
import type { Cells } from "./file.ts";

/** From here down a result of the float functions may be a failure; `Cells.settle()` knows. */
const SUSPECT: number = codes.INVAL;

function notFinite(name: string, value: unknown): Error {
  return typeof value === "number" ? outOfRange(name, "finite", value) : invalidType(name, "a number", value);
}

function noDelta(value: unknown): Error {
  return typeof value === "number" ? outOfRange("delta", "finite and >= 0", value) : invalidType("delta", "a number", value);
}

/**
 * A number that only goes up: one series of a counter. See {@linkcode Metrics}.
 *
 * @example
 * ```ts
 * import { Metrics } from "holdfast";
 * using metrics = Metrics.open("/tmp/example.metrics");
 * const jobs = metrics.counter("jobs_total", { help: "Jobs that were done." });
 * jobs.inc();
 * jobs.inc(2.5);
 * jobs.value >= 3.5; // true: what all processes counted
 * ```
 */
export class Counter {
  readonly #cells: Cells;
  readonly #add: NativeFunctions["hf_float_add"];

  /** @internal */
  constructor(cells: Cells) {
    this.#cells = cells;
    this.#add = native().hf_float_add;
  }

  /**
   * Adds `delta`, by default 1, in one atomic step. Whole numbers are exact up to 2^53; beyond, and with fractions, sums are rounded as those of
   * JavaScript's numbers are.
   *
   * Errors: `RangeError` for a delta below 0 or not finite; `MapError` `ERR_CLOSED`, `ERR_READ_ONLY`, `ERR_FAULT`.
   */
  inc(delta?: number): void {
    let old: number;
    // Not a default value: Bun passes a constant 2.6 ns faster than a variable that may have come from one (docs/decisions.md).
    if (delta === undefined) {
      old = this.#add(this.#cells.writable, 1);
    } else {
      if (typeof delta !== "number" || !(delta >= 0 && delta < Infinity)) throw noDelta(delta);
      old = this.#add(this.#cells.writable, delta);
    }
    if (!(old >= 0)) this.#cells.refuse(true);
  }

  /** The value, counted by all processes. `MapError` `ERR_CLOSED`, `ERR_FAULT`; `ERR_CORRUPT` for one that no counting makes. */
  get value(): number {
    return this.#cells.count(0);
  }
}

/**
 * A number that goes up and down: one series of a gauge. See {@linkcode Metrics}.
 *
 * @example
 * ```ts
 * import { Metrics } from "holdfast";
 * using metrics = Metrics.open("/tmp/example.metrics");
 * const connections = metrics.gauge("connections", { help: "Connections that are open." });
 * connections.inc();
 * connections.dec();
 * connections.set(0);
 * connections.value; // 0
 * metrics.gauge("last_success_seconds", { help: "When it last went well." }).setToCurrentTime();
 * ```
 */
export class Gauge {
  readonly #cells: Cells;
  readonly #add: NativeFunctions["hf_float_add"];
  readonly #store: NativeFunctions["hf_float_store"];

  /** @internal */
  constructor(cells: Cells) {
    this.#cells = cells;
    this.#add = native().hf_float_add;
    this.#store = native().hf_float_store;
  }

  /** Sets the value: any number, also NaN and the infinite ones. `MapError` `ERR_CLOSED`, `ERR_READ_ONLY`, `ERR_FAULT`. */
  set(value: number): void {
    if (typeof value !== "number") throw invalidType("value", "a number", value);
    if (this.#store(this.#cells.writable, value) <= SUSPECT) this.#cells.settle(true);
  }

  /** Adds `delta`, by default 1, in one atomic step. `RangeError` if it is not finite; otherwise as {@linkcode set}. */
  inc(delta?: number): void {
    let old: number;
    if (delta === undefined) {
      old = this.#add(this.#cells.writable, 1);
    } else {
      // Finite: the difference is NaN for all else.
      if (typeof delta !== "number" || delta - delta !== 0) throw notFinite("delta", delta);
      old = this.#add(this.#cells.writable, delta);
    }
    if (old <= SUSPECT) this.#cells.settle(true);
  }

  /** Subtracts `delta`, by default 1, in one atomic step. As {@linkcode inc}. */
  dec(delta?: number): void {
    let old: number;
    if (delta === undefined) {
      old = this.#add(this.#cells.writable, -1);
    } else {
      if (typeof delta !== "number" || delta - delta !== 0) throw notFinite("delta", delta);
      old = this.#add(this.#cells.writable, -delta);
    }
    if (old <= SUSPECT) this.#cells.settle(true);
  }

  /** Sets the value to the seconds since 1970, with their fraction: when something last happened. */
  setToCurrentTime(): void {
    this.set(Date.now() / 1000);
  }

  /** The value. `MapError` `ERR_CLOSED`, `ERR_FAULT`. */
  get value(): number {
    return this.#cells.number(0);
  }
}

/**
 * Values sorted into buckets: one series of a histogram. See {@linkcode Metrics}.
 *
 * @example
 * ```ts
 * import { Metrics } from "holdfast";
 * using metrics = Metrics.open("/tmp/example.metrics");
 * const seconds = metrics.histogram("job_seconds", { help: "How long jobs take.", buckets: [0.1, 1, 10] });
 * seconds.observe(0.3);
 * const end = seconds.startTimer();
 * end();
 * console.log(seconds.count, seconds.sum, seconds.buckets);
 * ```
 */
export class Histogram {
  readonly #cells: Cells;
  readonly #add: NativeFunctions["hf_float_add"];
  readonly #bounds: readonly number[];

  /** @internal */
  constructor(cells: Cells, bounds: readonly number[]) {
    this.#cells = cells;
    this.#add = native().hf_float_add;
    this.#bounds = bounds;
  }

  /**
   * Counts `value` in the first bucket whose bound it does not exceed, and adds it to the sum. Two atomic steps: a process that is
   * killed between them leaves the sum one value behind; the count is that of the buckets, always.
   *
   * Errors: `RangeError` if it is not finite; `MapError` `ERR_CLOSED`, `ERR_READ_ONLY`, `ERR_FAULT`.
   */
  observe(value: number): void {
    if (typeof value !== "number" || value - value !== 0) throw notFinite("value", value);
    const cells = this.#cells.writable;
    const bounds = this.#bounds;
    let low = 0;
    let high = bounds.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (value <= (bounds[middle] as number)) high = middle;
      else low = middle + 1;
    }
    const old = this.#add(cells + 8 * (low + 1), 1);
    if (!(old >= 0)) this.#cells.refuse(true);
    if (this.#add(cells, value) <= SUSPECT) this.#cells.settle(true);
  }

  /** Starts to measure; the function that it returns observes the seconds since, and returns them. */
  startTimer(): () => number {
    const start = performance.now();
    return () => {
      const seconds = (performance.now() - start) / 1000;
      this.observe(seconds);
      return seconds;
    };
  }

  /** How many values were observed. `MapError` `ERR_CLOSED`, `ERR_FAULT`, `ERR_CORRUPT`. */
  get count(): number {
    let sum = 0;
    for (let i = 0; i <= this.#bounds.length; i++) sum += this.#cells.count(i + 1);
    return sum;
  }

  /** The sum of the values that were observed. */
  get sum(): number {
    return this.#cells.number(0);
  }

  /** How many values did not exceed each bound, in the order of the bounds; the last is Infinity. */
  get buckets(): [bound: number, count: number][] {
    let sum = 0;
    return [...this.#bounds, Infinity].map((bound, i) => [bound, (sum += this.#cells.count(i + 1))]);
  }
}
