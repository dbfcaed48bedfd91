/**
 * Waiting for a word of shared memory without blocking the event loop.
 *
 * One Worker per realm sleeps in the kernel (futex_waitv(2)) for all waits of the realm, each of which is a sleeper of its own. It is
 * started when waiting takes longer than some milliseconds, and stays. Invariants:
 *   - What counts is the condition. A timer looks at each one by itself, however a wake got lost: a killed notifier, a kernel without the
 *     call, a Worker that could not start. It looks every 100 to 500 ms, or every 1 to 10 ms at what the Worker does not sleep on.
 *   - The timer keeps the process alive for as long as anyone waits; the Worker never does.
 *   - After a report the Worker sleeps on nothing but its doorbell until it has a new list. So between a wake and the next sleep a notify
 *     finds no sleeper, and says so; the kernel compares the words anew before it lets the Worker sleep.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { constants } from "node:os";
import type { Worker } from "node:worker_threads";
import { fileURLToPath } from "node:url";
import { builtin } from "./builtins.ts";
import { type Address, allocateScratch, native, type Scratch } from "./native/native.ts";
import { mapFlags } from "./native/symbols.ts";
import { permitted } from "./permissions.ts";
import { Region } from "./region.ts";
import { LIST_MAX, LIST_WORDS, lowHalf, type Report, STOP } from "./waiting/list.ts";

/** How often the timer looks: the longer there is no news, the less. A wake-up of a process costs 20 to 200 µs of CPU time. */
interface Rhythm {
  readonly first: number;
  readonly last: number;
  /** The part of the time since the last news. */
  readonly part: number;
}

/** At words that the Worker sleeps on, and at others. */
const SLEPT_ON: Rhythm = { first: 100, last: 500, part: 1 / 5 };
const ONLY_LOOKED_AT: Rhythm = { first: 1, last: 10, part: 1 / 20 };

/** After this many looks at words that nobody sleeps on, the Worker is started. */
const POLLS_BEFORE_WORKER = 2;

/** How long a timer can be set. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** What is waited for. */
export interface Condition {
  /**
   * Where the 32-bit word lies at present, a multiple of 4; 0 if it cannot be slept on, only looked at. Throws when there is nothing
   * left to wait for, and the wait ends with that error.
   */
  address(): Address;
  /** What the word holds for as long as there is a reason to sleep. */
  readonly expected: number;
  /** Whether the wait is over; true whenever the word does not hold `expected`. Throws as `address` does. */
  changed(): boolean;
}

/** When to stop waiting. */
export interface WaitLimits {
  /** A time of `performance.now()`; default: never. */
  readonly deadline?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** How a wait ended. */
export type Outcome = "woken" | "timed-out";

interface Wait {
  /** One more for each wait. */
  readonly number: number;
  readonly condition: Condition;
  address: Address;
  /** Stops what else could end it. */
  readonly quit: () => void;
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: unknown) => void;
}

/** All that wait, in the order in which they came, and those that can be slept on by their addresses. */
const waits = new Set<Wait>();
const groups = new Map<Address, Set<Wait>>();
/** How many of them cannot be slept on. */
let onlyLookedAt = 0;
/** How many waits there were so far. */
let begun = 0;

function join(wait: Wait, address: Address): void {
  wait.address = address;
  if (address === 0) {
    onlyLookedAt++;
    return;
  }
  const group = groups.get(address);
  if (group === undefined) groups.set(address, new Set([wait]));
  else group.add(wait);
}

function leave(wait: Wait): void {
  if (wait.address === 0) onlyLookedAt--;
  const group = groups.get(wait.address);
  if (group?.delete(wait) === true && group.size === 0) groups.delete(wait.address);
}

function remove(wait: Wait): boolean {
  if (!waits.delete(wait)) return false;
  leave(wait);
  wait.quit();
  if (waits.size === 0) stopTimer();
  // The Worker sleeps for it still, which a notify would count.
  if (sleeper.asleep) sleeper.renew();
  return true;
}

function end(wait: Wait, outcome: Outcome): boolean {
  if (!remove(wait)) return false;
  wait.resolve(outcome);
  return true;
}

function fail(wait: Wait, error: unknown): void {
  if (remove(wait)) wait.reject(error);
}

/**
 * Waits until the condition has changed, or its word is notified: "woken"; or until the deadline: "timed-out". An aborted signal ends
 * the wait with its reason. A notify that changes nothing is seen only by waits that are asleep.
 */
export function waitFor(condition: Condition, { deadline = Infinity, signal }: WaitLimits = {}): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    if (condition.changed()) return resolve("woken");
    if (deadline <= performance.now()) return resolve("timed-out");
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = (): void => {
      const left = deadline - performance.now();
      // Timers may be early by part of a millisecond.
      if (left <= 0) end(wait, "timed-out");
      else timer = setTimeout(late, Math.min(Math.ceil(left), TIMER_MAX_MS));
    };
    const abort = (): void => fail(wait, signal?.reason);
    const quit = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    };
    const wait: Wait = { number: ++begun, condition, address: 0, quit, resolve, reject };
    const address = condition.address();
    waits.add(wait);
    join(wait, address);
    signal?.addEventListener("abort", abort);
    if (deadline !== Infinity) late();
    news = performance.now();
    if (address !== 0) sleeper.renew();
    startTimer();
  });
}

/**
 * Wakes up to `count` sleepers of the word at `address`, in any process, and returns how many. Waits of this realm that are not asleep
 * yet are ended as well, and counted.
 */
export function wake(address: Address, count: number): number {
  const woken = native().hf_wake32(address, count);
  if (woken < 0 || woken >= count) return woken;
  const group = groups.get(address);
  if (group === undefined) return woken;
  // The kernel has no more sleepers of the word. Those of ours that it had are among the woken; the Worker will report them.
  const ours = woken > 0 && sleeper.settle(address);
  const room = ours ? count : count - woken;
  let ended = 0;
  for (const wait of group) {
    if (ended === room) break;
    end(wait, "woken");
    ended++;
  }
  return ours ? Math.max(woken, ended) : woken + ended;
}

/** Has every wait look at its condition now. For who ends some of them: a `close()`. */
export function lookNow(): void {
  if (waits.size > 0) look();
}

// ---- the timer ------------------------------------------------------------------------------------------------------

let timer: ReturnType<typeof setTimeout> | undefined;
/** When the timer is due. */
let due = 0;
/** When a wait last began, or the Worker last reported. */
let news = 0;
let polls = 0;

function period(): number {
  const { first, last, part } = sleeper.covers ? SLEPT_ON : ONLY_LOOKED_AT;
  return Math.min(Math.max((performance.now() - news) * part, first), last);
}

/** Has the timer run, and soon enough. */
function startTimer(): void {
  if (waits.size === 0) return;
  const now = performance.now();
  const next = now + period();
  if (timer !== undefined) {
    if (due <= next + ONLY_LOOKED_AT.first) return;
    clearTimeout(timer);
  }
  due = next;
  timer = setTimeout(tick, next - now);
}

function stopTimer(): void {
  clearTimeout(timer);
  timer = undefined;
}

function tick(): void {
  timer = undefined;
  if (!sleeper.covers) polls++;
  // Also if this look ends all that wait: where something comes as often as the timer looks, each does, and each comes late.
  if (groups.size > 0 && polls >= POLLS_BEFORE_WORKER) sleeper.start();
  look();
  if (groups.size > 0 && !sleeper.asleep) sleeper.renew();
  startTimer();
}

/** Ends the waits that are over. False if there were none. */
function look(): boolean {
  let found = false;
  for (const wait of waits) {
    try {
      if (wait.condition.changed()) {
        found = true;
        end(wait, "woken");
        continue;
      }
      // The memory of a mapping that grows may move.
      const address = wait.condition.address();
      if (address === wait.address) continue;
      leave(wait);
      join(wait, address);
      sleeper.renew();
    } catch (error) {
      found = true;
      fail(wait, error);
    }
  }
  return found;
}

// ---- the Worker -----------------------------------------------------------------------------------------------------

/** A list that the Worker was given; the waits of one word stand together and in the order in which they came. */
interface Listed {
  readonly generation: number;
  readonly entries: readonly Wait[];
  /** The last wait there was then, on the list or not. */
  readonly newest: number;
}

/** A report may be about a list that is not the last one any more. */
const LISTS_KEPT = 8;

/** The realm's side of the Worker. */
class Sleeper {
  /** Whether the Worker sleeps on a list with something on it, or is about to. */
  asleep = false;
  #state: "none" | "starting" | "idle" | "running" | "failed" = "none";
  #worker: Worker | undefined;
  #memory: Region | undefined;
  #scratch: Scratch | undefined;
  #words = new Float64Array(0);
  #generation = 0;
  readonly #lists: Listed[] = [];
  /** Up to which generation a notify of this realm has ended all that it meant: what is reported of them adds nothing. */
  readonly #settled = new Map<Address, number>();
  #renewing = false;

  /** Whether all that is waited for is slept on, or will be at once. */
  get covers(): boolean {
    if (this.#state !== "running" && this.#state !== "idle") return false;
    return (this.asleep || this.#renewing) && groups.size <= LIST_MAX && onlyLookedAt === 0;
  }

  start(): void {
    if (this.#state !== "none") return;
    this.#state = "starting";
    try {
      const file = new URL(`./waiting/worker.${import.meta.url.endsWith(".ts") ? "ts" : "js"}`, import.meta.url);
      // A bundle does not have it, and Deno would print an error.
      if (file.protocol !== "file:" || !permitted({ name: "read", path: fileURLToPath(file) }) || !existsSync(file)) return this.#failed();
      this.#memory = new Region({
        fd: -1,
        offset: 0,
        byteLength: 8 * LIST_WORDS,
        flags: mapFlags.WRITE | mapFlags.ANONYMOUS,
        writable: true,
        what: "list of waits",
      });
      this.#scratch = allocateScratch(8 * LIST_WORDS);
      this.#words = new Float64Array(this.#scratch.buffer);
      // Without the flags of the process: Node refuses some of them in a Worker (`--input-type`).
      const options = { workerData: this.#memory.address, execArgv: [] };
      const worker = new (builtin("node:worker_threads").Worker)(file, options);
      worker.on("message", (report: Report) => this.#heard(report));
      worker.on("error", () => this.#failed());
      worker.on("exit", () => this.#failed());
      worker.unref();
      this.#worker = worker;
      // Node waits for the Worker's native call to return.
      process.on("exit", () => this.#store([this.#generation + 1, STOP]));
    } catch {
      this.#failed();
    }
  }

  /** Says that a notify ends its waits of the word, whatever the Worker reports of its lists so far. False if it has none. */
  settle(address: Address): boolean {
    if (this.#state !== "running") return false;
    this.#settled.set(address, this.#generation);
    return true;
  }

  /**
   * Gives the Worker a new list, when what runs now is through with changing it: not before those have run that were woken. They are what matters,
   * and most of them wait again, which is then on the same list.
   */
  renew(): void {
    if (this.#renewing || (this.#state !== "running" && this.#state !== "idle")) return;
    this.#renewing = true;
    setImmediate(() => {
      this.#renewing = false;
      this.#publish();
    });
  }

  #publish(): void {
    // Nothing to wait for, and no sleeper to call off.
    if (groups.size === 0 && !this.asleep) return;
    const entries = this.#choose();
    const words = [++this.#generation, entries.length, this.#memory?.address ?? 0, lowHalf(this.#generation)];
    for (const { address, condition } of entries) words.push(address, condition.expected);
    this.#lists[this.#generation % LISTS_KEPT] = { generation: this.#generation, entries, newest: begun };
    this.asleep = entries.length > 0;
    this.#store(words);
    if (this.#state === "running") return;
    this.#state = "running";
    this.#worker?.postMessage(null);
  }

  /** What goes on the list: each word once, and as many more of its waits as there is room for. */
  #choose(): Wait[] {
    const entries: Wait[] = [];
    let room = LIST_MAX - Math.min(groups.size, LIST_MAX);
    for (const group of groups.values()) {
      let more = Math.min(group.size - 1, room);
      room -= more;
      for (const wait of group) {
        entries.push(wait);
        if (more-- === 0) break;
      }
      if (entries.length === LIST_MAX) break;
    }
    return entries;
  }

  #store(words: readonly number[]): void {
    if (this.#memory === undefined || this.#scratch === undefined) return;
    const { address } = this.#memory;
    this.#words.set(words);
    // Pairs with the hf_words_load() of run() in waiting/worker.ts.
    native().hf_words_store(address, words.length, this.#scratch.address);
    native().hf_wake32(address, 1);
  }

  #heard([generation, result]: Report): void {
    news = performance.now();
    if (generation === 0) {
      this.#state = "idle";
      this.asleep = false;
      // Nothing is reported of them any more; they would keep mappings from being collected.
      this.#lists.length = 0;
      this.#settled.clear();
      this.renew();
    } else {
      if (generation === this.#generation) this.asleep = false;
      const list = this.#lists[generation % LISTS_KEPT];
      // Where nothing is found, the next list is for the timer to give: if kernel and condition do not agree, nothing must spin.
      if (result > 0 && list?.generation === generation) {
        this.#woken(list, result - 1);
        this.renew();
      } else if (result > 0 || look()) {
        this.renew();
      } else if (result !== 0 && result !== -constants.errno.EFAULT) {
        this.#failed();
      }
    }
    startTimer();
  }

  /**
   * The kernel woke the entry at `index` of the list, and possibly others. It queues sleepers of a word in the order of the list, wakes
   * from the front and reports the last one that was woken: so those of the same word before it were woken too. (Or taken out of the
   * queue by the Worker's return, if a second notify came in that microsecond: then too many are ended, which beats too few.)
   */
  #woken({ generation, entries, newest }: Listed, index: number): void {
    const address = entries[index]?.address ?? 0;
    const group = groups.get(address);
    if (group === undefined) return;
    let first = index;
    while (entries[first - 1]?.address === address) first--;
    const settled = generation <= (this.#settled.get(address) ?? 0);
    // One that a timeout, say, ended before it could hear of the notify leaves it to the next.
    let owed = 0;
    for (const wait of entries.slice(first, index + 1)) if (!end(wait, "woken") && !settled) owed++;
    // All were woken, and the word had more waits than there was room for on the list: a notify of all meant them too.
    const all = entries.length === LIST_MAX && entries[index + 1]?.address !== address && !settled;
    for (const wait of group) {
      try {
        if (owed > 0) owed--;
        else if (!(all && wait.number <= newest) && !wait.condition.changed()) continue;
        end(wait, "woken");
      } catch (error) {
        fail(wait, error);
      }
    }
  }

  /** No Worker: the timer looks. */
  #failed(): void {
    this.#state = "failed";
    this.asleep = false;
    startTimer();
  }
}

const sleeper = new Sleeper();
