/**
 * Counters of many machines in one sum: each machine pushes what its counters have grown by, as records of a queue that a bridge forwards; who
 * receives them adds them up.
 *
 * Invariant: a record's content is on storage, with its number, before it is pushed, and the push commits the number as the queue's mark. So after a
 * death at any moment the record that was begun is pushed if it was not, and no growth is told twice or not at all.
 *
 * @module
 */
import * as fs from "node:fs";
import { checkName, checkOptions, checkPath, integer, type OptionCheck } from "../checks.ts";
import { Counters } from "../counters.ts";
import { invalidType, MapError } from "../errors.ts";
import { Queue } from "../queue.ts";
import { Turn } from "./turn.ts";

/** What one machine's counters have grown by. */
export interface CounterDelta {
  readonly node: string;
  /** 1, 2, 3, … of its node. */
  readonly number: number;
  /** When it was read: an ISO 8601 text. */
  readonly time: string;
  /** By name, in decimal digits: all 64 bits. Counters that have not changed are left out. */
  readonly deltas: Readonly<Record<string, string>>;
}

/** Options of {@linkcode CounterForwarder}. */
export interface CounterForwarderOptions {
  /** The counters file. Its counters have names; made anew, it belongs to a new node. */
  counters: string | URL;
  /** The queue for the deltas, which nothing else is pushed to; a bridge forwards it. */
  queue: string | URL;
  /** What the machine is called in the sum. */
  node: string;
  /** Milliseconds between two looks. Default 10,000. */
  everyMs?: number;
}

const nodeName: OptionCheck<string> = (name, value) => checkName(name, value, 200);
const FORWARDER_OPTIONS = { counters: checkPath, queue: checkPath, node: nodeName, everyMs: integer(1, 2 ** 31 - 1) };

/** The record that was made last, and the values that all records up to it add up to. */
interface State {
  readonly record: CounterDelta;
  readonly values: Readonly<Record<string, string>>;
}

/** Pushes what counters have grown by, now and then and at `close()`. One for each queue at a time: `ERR_LOCKED` for a second one. */
export class CounterForwarder implements Disposable {
  readonly #counters: Counters;
  readonly #queue: Queue;
  readonly #turn: Turn;
  readonly #node: string;
  readonly #statePath: string;
  readonly #timer: ReturnType<typeof setInterval>;
  #state: State | undefined;
  #failure: { readonly error: unknown } | undefined;

  constructor(options: CounterForwarderOptions) {
    const { counters, queue, node, everyMs = 10_000 } = checkOptions("CounterForwarder", options, FORWARDER_OPTIONS);
    if (counters === undefined || queue === undefined || node === undefined) throw invalidType("options", 'an object with "counters", "queue" and "node"', options);
    this.#counters = Counters.open(counters, { mode: "r" });
    try {
      this.#queue = Queue.open(queue);
      this.#turn = new Turn(this.#queue.path);
    } catch (error) {
      this.#counters.close();
      throw error;
    }
    this.#node = node;
    this.#statePath = `${this.#queue.path}.deltas`;
    try {
      if (!this.#turn.take()) throw new MapError("ERR_LOCKED", `another CounterForwarder, or a bridge, copies into '${this.#queue.path}'`, { path: this.#queue.path });
      this.#state = this.#load();
      this.#catchUp();
    } catch (error) {
      this.#release();
      throw error;
    }
    this.#timer = setInterval(() => this.#tick(), everyMs);
  }

  /** Pushes what has changed since the last time; false if nothing has, or the queue is full: then it is pushed the next time. */
  push(): boolean {
    if (this.#failure !== undefined) throw this.#failure.error;
    if (!this.#catchUp()) return false;
    const before = this.#state?.values ?? {};
    const values: Record<string, string> = {};
    const deltas: Record<string, string> = {};
    for (const counter of this.#counters.names) {
      if (counter === undefined) continue;
      const value = this.#counters.getBigInt(counter);
      values[counter] = String(value);
      const delta = BigInt.asIntN(64, value - BigInt(before[counter] ?? "0"));
      if (delta !== 0n) deltas[counter] = String(delta);
    }
    if (Object.keys(deltas).length === 0) return false;
    const record = { node: this.#node, number: (this.#state?.record.number ?? 0) + 1, time: new Date().toISOString(), deltas };
    this.#save({ record, values });
    return this.#catchUp();
  }

  #tick(): void {
    try {
      this.push();
    } catch (error) {
      this.#failure ??= { error }; // the next push() or close() says it
    }
  }

  /** Pushes the record that was made last, if it was not. False if the queue is full. */
  #catchUp(): boolean {
    if (this.#state === undefined) return true;
    const { record } = this.#state;
    const { mark } = this.#queue;
    const name = `holdfast-deltas ${record.number}`;
    if (mark !== undefined && new TextDecoder().decode(mark) === name) return true;
    return this.#queue.pushMany([{ ...record, deltas: { ...record.deltas } }], { mark: new TextEncoder().encode(name) }) === 1;
  }

  #load(): State | undefined {
    let text: string;
    try {
      text = fs.readFileSync(this.#statePath, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      if (this.#queue.mark === undefined) return undefined;
      throw new MapError("ENOENT", `'${this.#statePath}' is gone: without it nothing says what was pushed of the counters so far. Begin with a new queue and a new node`, { path: this.#statePath });
    }
    try {
      const state = JSON.parse(text) as State;
      if (state.record.node !== this.#node) throw new Error(`it is of node '${state.record.node}', not of '${this.#node}'`);
      for (const value of Object.values(state.values)) BigInt(value);
      return state;
    } catch (error) {
      throw new MapError("ERR_CORRUPT", `'${this.#statePath}': ${(error as Error).message}`, { path: this.#statePath, cause: error });
    }
  }

  /** Replaces the state file, whole or not at all. */
  #save(state: State): void {
    const temporary = `${this.#statePath}.new`;
    const fd = fs.openSync(temporary, "w", 0o600);
    try {
      fs.writeFileSync(fd, JSON.stringify(state));
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
    fs.renameSync(temporary, this.#statePath);
    this.#state = state;
  }

  #release(): void {
    this.#turn[Symbol.dispose]();
    this.#queue.close();
    this.#counters.close();
  }

  /** Pushes what has changed, and ends. */
  close(): void {
    clearInterval(this.#timer);
    if (this.#queue.closed) return;
    try {
      this.push();
    } finally {
      this.#release();
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Adds deltas up: by node and over all. One that comes twice counts once. */
export class CounterSums {
  readonly #nodes = new Map<string, { number: number; readonly values: Map<string, bigint> }>();

  /** Takes a delta in; false if it was there before. They have to come in the order of their node, as a bridge brings them. */
  add({ node, number, deltas }: CounterDelta): boolean {
    let known = this.#nodes.get(node);
    if (known === undefined) this.#nodes.set(node, (known = { number: 0, values: new Map() }));
    if (number <= known.number) return false;
    known.number = number;
    for (const [name, delta] of Object.entries(deltas)) known.values.set(name, (known.values.get(name) ?? 0n) + BigInt(delta));
    return true;
  }

  /** The sums over all nodes. */
  totals(): Record<string, bigint> {
    const result: Record<string, bigint> = {};
    for (const { values } of this.#nodes.values()) for (const [name, value] of values) result[name] = (result[name] ?? 0n) + value;
    return result;
  }

  /** What one node has counted. */
  of(node: string): Record<string, bigint> {
    return Object.fromEntries(this.#nodes.get(node)?.values ?? []);
  }

  /** The nodes that deltas came from. */
  get nodes(): string[] {
    return [...this.#nodes.keys()];
  }
}
