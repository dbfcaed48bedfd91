/**
 * Shared 64-bit cells in mapped memory.
 *
 * @module
 */
import {
  abortSignal,
  checkBigInt,
  checkInteger,
  checkOptions,
  checkSafe,
  integer,
  mixedForms,
  notNumeric,
} from "./checks.ts";
import { closedError, nativeError, rangeError, readOnlyError } from "./errors.ts";
import { allocateScratch, native, type Scratch } from "./native/native.ts";
import { codes, type NativeFunctions } from "./native/symbols.ts";
import { waitFor, wake } from "./waiting.ts";

/** What the cells lie in: a mapping, or a file of counters. */
export interface CellHost {
  /** First byte; any number once closed. */
  readonly address: number;
  /** Bytes that there are; negative once closed. */
  readonly byteLength: number;
  readonly writable: boolean;
  readonly what: string;
  readonly path: string | undefined;
  /** What keeps the memory mapped: it lives for as long as the atomics do. */
  readonly keeper: object;
}

/** Below this a native result is a failure: no cell value in number form is smaller than -(2^53 - 1). */
const FAILED = Number.MIN_SAFE_INTEGER;

/**
 * How {@linkcode Int64Atomics.wait} ends.
 *
 * @example
 * ```ts
 * import { Mapping, type WaitResult } from "holdfast";
 * using mapping = Mapping.anonymous(4096);
 * const result: WaitResult = await mapping.atomics.wait(0, 7, { timeoutMs: 1000 });
 * result; // "not-equal"
 * ```
 */
export type WaitResult = "ok" | "not-equal" | "timed-out";

/**
 * Options of {@linkcode Int64Atomics.wait}.
 *
 * @example
 * ```ts
 * import { Mapping, type WaitOptions } from "holdfast";
 * using mapping = Mapping.anonymous(4096);
 * const options: WaitOptions = { timeoutMs: 10, signal: AbortSignal.timeout(10_000) };
 * await mapping.atomics.wait(0, 0, options); // "timed-out"
 * ```
 */
export interface WaitOptions {
  /** Milliseconds to wait at most; without it there is no limit. */
  timeoutMs?: number;
  /** Ends the wait with the signal's reason. */
  signal?: AbortSignal;
}

let words: Scratch | undefined;
let exact: BigInt64Array | undefined;

/** The two 64-bit words of this realm through which exact operands and results travel. */
function exactWords(): { address: number; values: BigInt64Array } {
  if (words === undefined || exact === undefined) {
    words = allocateScratch(16);
    exact = new BigInt64Array(words.buffer);
  }
  return { address: words.address, values: exact };
}

/**
 * Atomic operations on signed 64-bit cells of a mapping, sequentially consistent across threads, processes and runtimes.
 * Names and argument order are those of JavaScript's `Atomics`; the first argument is a byte offset, a multiple of 8.
 *
 * Passing a `number` gives a `number`, passing a `bigint` gives a `bigint`. Arithmetic wraps at 64 bits. In number form a cell
 * whose value lies outside ±(2^53 - 1) is left as it is and a `RangeError` says so. A bigint operand is a 64-bit pattern:
 * 2^63..2^64-1 stand for the negative numbers of the same bits.
 *
 * Errors: `RangeError` for an offset that is misaligned or out of bounds and for an operand that is no safe integer,
 * `TypeError` for wrong types, `MapError` `ERR_CLOSED` and `ERR_READ_ONLY`.
 *
 * @example
 * ```ts
 * import { Mapping } from "holdfast";
 * using mapping = Mapping.anonymous(4096);
 * mapping.atomics.add(0, 5); // 0
 * mapping.atomics.compareExchange(0, 5, 6); // 5
 * mapping.atomics.loadBigInt(0); // 6n
 * ```
 *
 * @example
 * ```ts
 * import { Mapping } from "holdfast";
 * using mapping = Mapping.anonymous(4096);
 * const { atomics } = mapping;
 * atomics.store(8, 0b1100); // 12
 * atomics.and(8, 0b0110); // 12, the old value as with all of these
 * atomics.or(8, 0b0001); // 4
 * atomics.xor(8, 0b1111); // 5
 * atomics.sub(8, 20); // 10
 * atomics.exchange(8, 2n ** 62n); // -10n
 * atomics.loadBigInt(8); // 4611686018427387904n
 * atomics.store(8, 1);
 * atomics.load(8); // 1
 * ```
 */
export class Int64Atomics {
  readonly #host: CellHost;
  readonly #hf: NativeFunctions;

  /** @internal */
  constructor(host: CellHost) {
    this.#host = host;
    this.#hf = native();
  }

  /** The cell's value. `RangeError` if it is no safe integer. */
  load(offset: number): number {
    const value = this.#hf.hf_load64(this.#readable(offset), 0);
    return value < FAILED ? this.#fail(value, offset) : value;
  }

  /** The cell's value, all 64 bits. */
  loadBigInt(offset: number): bigint {
    const { address, values } = exactWords();
    this.#done(this.#hf.hf_load64_exact(this.#readable(offset), address), offset);
    return values[0] as bigint;
  }

  /** Sets the cell; returns `value`. */
  store(offset: number, value: number): number;
  /** As a bigint, for all 64 bits. */
  store(offset: number, value: bigint): bigint;
  store(offset: number, value: number | bigint): number | bigint {
    const cell = this.#writable(offset);
    if (typeof value === "number") return this.#number(this.#hf.hf_store64(cell, value), offset, value);
    this.#done(this.#hf.hf_store64_exact(cell, this.#operand("value", value)), offset);
    return value;
  }

  /** Adds; returns the old value. */
  add(offset: number, operand: number): number;
  /** As a bigint, for all 64 bits. */
  add(offset: number, operand: bigint): bigint;
  add(offset: number, operand: number | bigint): number | bigint {
    const cell = this.#writable(offset);
    if (typeof operand === "number") return this.#number(this.#hf.hf_add64(cell, operand), offset, operand);
    return this.#old(this.#hf.hf_add64_exact(cell, this.#operand("operand", operand)), offset);
  }

  /** Subtracts; returns the old value. */
  sub(offset: number, operand: number): number;
  /** As a bigint, for all 64 bits. */
  sub(offset: number, operand: bigint): bigint;
  sub(offset: number, operand: number | bigint): number | bigint {
    const cell = this.#writable(offset);
    if (typeof operand === "number") return this.#number(this.#hf.hf_sub64(cell, operand), offset, operand);
    return this.#old(this.#hf.hf_sub64_exact(cell, this.#operand("operand", operand)), offset);
  }

  /** Bitwise and, on all 64 bits of the sign-extended operand; returns the old value. */
  and(offset: number, operand: number): number;
  /** As a bigint, for all 64 bits. */
  and(offset: number, operand: bigint): bigint;
  and(offset: number, operand: number | bigint): number | bigint {
    const cell = this.#writable(offset);
    if (typeof operand === "number") return this.#number(this.#hf.hf_and64(cell, operand), offset, operand);
    return this.#old(this.#hf.hf_and64_exact(cell, this.#operand("operand", operand)), offset);
  }

  /** Bitwise or; returns the old value. */
  or(offset: number, operand: number): number;
  /** As a bigint, for all 64 bits. */
  or(offset: number, operand: bigint): bigint;
  or(offset: number, operand: number | bigint): number | bigint {
    const cell = this.#writable(offset);
    if (typeof operand === "number") return this.#number(this.#hf.hf_or64(cell, operand), offset, operand);
    return this.#old(this.#hf.hf_or64_exact(cell, this.#operand("operand", operand)), offset);
  }

  /** Bitwise exclusive or; returns the old value. */
  xor(offset: number, operand: number): number;
  /** As a bigint, for all 64 bits. */
  xor(offset: number, operand: bigint): bigint;
  xor(offset: number, operand: number | bigint): number | bigint {
    const cell = this.#writable(offset);
    if (typeof operand === "number") return this.#number(this.#hf.hf_xor64(cell, operand), offset, operand);
    return this.#old(this.#hf.hf_xor64_exact(cell, this.#operand("operand", operand)), offset);
  }

  /** Sets the cell; returns the old value. */
  exchange(offset: number, operand: number): number;
  /** As a bigint, for all 64 bits. */
  exchange(offset: number, operand: bigint): bigint;
  exchange(offset: number, operand: number | bigint): number | bigint {
    const cell = this.#writable(offset);
    if (typeof operand === "number") return this.#number(this.#hf.hf_exchange64(cell, operand), offset, operand);
    return this.#old(this.#hf.hf_exchange64_exact(cell, this.#operand("operand", operand)), offset);
  }

  /** Stores `replacement` if the cell holds `expected`; returns the value found. Never fails spuriously. */
  compareExchange(offset: number, expected: number, replacement: number): number;
  /** As a bigint, for all 64 bits. */
  compareExchange(offset: number, expected: bigint, replacement: bigint): bigint;
  compareExchange(offset: number, expected: number | bigint, replacement: number | bigint): number | bigint {
    const cell = this.#writable(offset);
    if (typeof expected === "number" && typeof replacement === "number") {
      const found = this.#hf.hf_cas64(cell, expected, replacement);
      if (found >= FAILED) return found;
      this.#checkAlignment(offset);
      checkSafe("expected", expected);
      checkSafe("replacement", replacement);
      return this.#fail(found, offset);
    }
    if (typeof expected === "number" || typeof expected === "bigint") {
      if (typeof replacement !== typeof expected) throw mixedForms("expected", "replacement", replacement);
    }
    const address = this.#operand("expected", expected);
    exactWords().values[1] = checkBigInt("replacement", replacement as bigint);
    return this.#old(this.#hf.hf_cas64_exact(cell, address), offset);
  }

  /**
   * Waits, without blocking the event loop, for as long as the cell holds `expected`: "not-equal" if it does not from the start, "ok"
   * when it is notified or has changed, "timed-out" after `timeoutMs`. Rejects with the signal's reason when that is aborted, and with
   * `ERR_CLOSED` when the mapping is closed. A pending wait keeps the process alive, as a timer does.
   *
   * Change the cell first, then notify: a change without a notify is seen within 0.1 to 0.5 s, a notify without a change only by waits
   * that are asleep at that moment, which takes some 50 ms for the first waits of a program and some 0.1 ms later on. With mode `"r"`
   * the wait does not sleep but looks at the cell, every millisecond at first and every ten later.
   *
   * @example
   * ```ts
   * import { Mapping } from "holdfast";
   * using mapping = Mapping.anonymous(4096);
   * setTimeout(() => {
   *   mapping.atomics.store(0, 1);
   *   mapping.atomics.notify(0);
   * }, 10);
   * await mapping.atomics.wait(0, 0, { timeoutMs: 1000 }); // "ok"
   * ```
   */
  async wait(offset: number, expected: number | bigint, options?: WaitOptions): Promise<WaitResult> {
    const { timeoutMs, signal } = checkOptions("wait()", options, { timeoutMs: integer(0), signal: abortSignal });
    if (typeof expected !== "number" && typeof expected !== "bigint") throw notNumeric("expected", expected);
    if (typeof expected === "number") checkSafe("expected", expected);
    const wanted = typeof expected === "bigint" ? checkBigInt("expected", expected) : BigInt(expected);
    signal?.throwIfAborted();
    const changed = (): boolean => this.loadBigInt(offset) !== wanted;
    if (changed()) return "not-equal";
    const host = this.#host;
    const condition = {
      changed,
      // The low half comes first. A read-only mapping is private: to the kernel its pages are no others' and sleeping would copy them.
      address: () => (host.writable ? this.#readable(offset) : 0),
      expected: Number(BigInt.asUintN(32, wanted)),
    };
    const deadline = timeoutMs === undefined ? Infinity : performance.now() + timeoutMs;
    return (await waitFor(condition, { deadline, signal })) === "woken" ? "ok" : "timed-out";
  }

  /**
   * Wakes up to `count` of those who wait on the cell, those first who came first, and returns how many: pending `wait` calls of all
   * processes, and threads that sleep on the cell in the kernel by other means (futex(2), the low half of the cell). Not counted are
   * waits in mode `"r"`, and waits in other processes that are not asleep yet; a change of the cell reaches them all the same. Of one
   * thread at most 127 waits are counted.
   */
  notify(offset: number, count: number = 0x7fffffff): number {
    const cell = this.#writable(offset);
    this.#checkAlignment(offset);
    const woken = wake(cell, checkInteger("count", count, 0, 0x7fffffff));
    if (woken < 0) throw nativeError(woken, "futex", this.#host.path);
    return woken;
  }

  #readable(offset: number): number {
    const host = this.#host;
    // One comparison covers bounds, closed (negative length) and NaN. Misalignment is left to the native function, which looks anyway.
    if (Number.isInteger(offset) && offset >= 0 && offset <= host.byteLength - 8) return host.address + offset;
    throw this.#refusal(offset);
  }

  #writable(offset: number): number {
    if (!this.#host.writable) throw this.#refusal(offset);
    return this.#readable(offset);
  }

  #refusal(offset: number): Error {
    const { address, byteLength, writable, what, path } = this.#host;
    if (byteLength < 0) return closedError(what, path);
    checkInteger("offset", offset, 0, Number.MAX_SAFE_INTEGER);
    if (offset % 8 !== 0) return rangeError(`"offset" must be a multiple of 8; received ${offset}`);
    if (offset > byteLength - 8) return rangeError(`"offset" ${offset} leaves no room for 8 bytes in the ${byteLength} bytes that there are`);
    if (!writable) return readOnlyError(what, path);
    return rangeError(`no offset of this ${what} is aligned: it starts ${address % 8} bytes behind a multiple of 8`);
  }

  #number(result: number, offset: number, operand: number): number {
    if (result >= FAILED) return result;
    this.#checkAlignment(offset);
    checkSafe("operand", operand);
    return this.#fail(result, offset);
  }

  /** Throws if the native function refused the address. */
  #checkAlignment(offset: number): void {
    if ((this.#host.address + offset) % 8 !== 0) throw this.#refusal(offset);
  }

  #fail(result: number, offset: number): never {
    this.#checkAlignment(offset);
    if (result !== codes.UNSAFE) throw nativeError(result, "atomics", this.#host.path);
    throw rangeError(
      `the cell at offset ${offset} holds ${this.loadBigInt(offset)}, which a number cannot hold exactly; pass a bigint, or use loadBigInt()`,
    );
  }

  /** Puts a bigint operand where the native function looks for it. */
  #operand(name: string, value: unknown): number {
    if (typeof value !== "bigint") throw notNumeric(name, value);
    const { address, values } = exactWords();
    values[0] = checkBigInt(name, value);
    return address;
  }

  #done(result: number, offset: number): void {
    if (result < 0) this.#fail(result, offset);
  }

  #old(result: number, offset: number): bigint {
    this.#done(result, offset);
    return exactWords().values[0] as bigint;
  }
}
