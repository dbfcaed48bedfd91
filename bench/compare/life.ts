/** What a queue costs over its life: opened with many records, beside many records, in memory. */
import process from "node:process";
import type { Fifo, Peer, Place } from "./peer.ts";
import { check, checkAll, fill, need, RECORD_BYTES, stamp } from "./workloads.ts";

const FILL_STEP = 1_000;

/** A queue that is filled, and whose records have running numbers. */
export class Filled {
  readonly #fifo: Fifo;
  readonly #records: readonly Uint8Array[] = Array.from({ length: FILL_STEP }, () => fill(new Uint8Array(RECORD_BYTES), 0));
  readonly #record: Uint8Array = fill(new Uint8Array(RECORD_BYTES), 0);
  #pushed = 0;
  #popped = 0;

  private constructor(fifo: Fifo) {
    this.#fifo = fifo;
  }

  /** Opens a new queue, with room for `most` records where that has to be said. */
  static async open(peer: Peer, place: Place, most: number): Promise<Filled> {
    return new Filled(await peer.fifo(place, { recordBytes: RECORD_BYTES, durability: "none", most: most + 2 * FILL_STEP }));
  }

  /** Pushes until so many records wait. */
  async fill(backlog: number): Promise<void> {
    while (this.#pushed - this.#popped < backlog) {
      const more = Math.min(FILL_STEP, backlog - (this.#pushed - this.#popped));
      const records = more === FILL_STEP ? this.#records : this.#records.slice(0, more);
      for (const record of records) stamp(record, this.#pushed++);
      need((await this.#fifo.pushMany(records)) === more, "the queue is full");
    }
  }

  /** Pushes `block` records and pops as many, so many times; the nanoseconds of a push and of a pop. */
  async round(steps: number, block: number): Promise<[push: number, pop: number]> {
    let pushing = 0;
    let popping = 0;
    for (let i = 0; i < steps; i++) {
      const start = performance.now();
      if (!this.#pushAtOnce(block)) await this.#pushLater(block);
      const middle = performance.now();
      const last = this.#popAtOnce(block) ?? (await this.#popLater(block));
      popping += performance.now() - middle;
      pushing += middle - start;
      checkAll(last);
    }
    const count = steps * block;
    return [(pushing * 1e6) / count, (popping * 1e6) / count];
  }

  /** False if the peer answers later; then the first is pushed already. */
  #pushAtOnce(block: number): boolean {
    for (let i = 0; i < block; i++) {
      const pushed = this.#fifo.push(stamp(this.#record, this.#pushed));
      if (pushed instanceof Promise) {
        this.#first = pushed;
        return false;
      }
      need(pushed, "the queue is full");
      this.#pushed++;
    }
    return true;
  }

  #first: Promise<boolean> | undefined;

  async #pushLater(block: number): Promise<void> {
    need((await this.#first) === true, "the queue is full");
    this.#pushed++;
    for (let i = 1; i < block; i++) need(await this.#fifo.push(stamp(this.#record, this.#pushed++)), "the queue is full");
  }

  /** Undefined if the peer answers later; then the first is under way. */
  #popAtOnce(block: number): Uint8Array | undefined {
    let last: Uint8Array | undefined;
    for (let i = 0; i < block; i++) {
      const popped = this.#fifo.pop();
      if (popped instanceof Promise) {
        this.#firstOut = popped;
        return undefined;
      }
      last = check(popped, RECORD_BYTES, this.#popped++);
    }
    return last;
  }

  #firstOut: Promise<Uint8Array | undefined> | undefined;

  async #popLater(block: number): Promise<Uint8Array> {
    let last = check(await this.#firstOut, RECORD_BYTES, this.#popped++);
    for (let i = 1; i < block; i++) last = check(await this.#fifo.pop(), RECORD_BYTES, this.#popped++);
    return last;
  }

  /** Resident memory of the peer's server, or 0. */
  async serverBytes(): Promise<number> {
    return (await this.#fifo.serverBytes?.()) ?? 0;
  }

  async close(): Promise<void> {
    await this.#fifo.close();
  }
}

/** Opens another queue, and does with it once what will be done: then the library is loaded and its code known to the compilers. */
export async function openAnother(peer: Peer, place: Place): Promise<void> {
  const record = fill(new Uint8Array(RECORD_BYTES), 0);
  for (let i = 0; i < 3; i++) {
    const fifo = await peer.fifo(place, { recordBytes: RECORD_BYTES, durability: "none" });
    need(await fifo.push(record), "the queue is full");
    checkAll(check(await fifo.peek(), RECORD_BYTES, 0));
    await fifo.close();
  }
}

/** Milliseconds until a queue is open and its first record read; then it is changed, so that a kill comes at an open queue with work behind it. */
export async function openFilled(peer: Peer, place: Place): Promise<{ ms: number; fifo: Fifo }> {
  const start = performance.now();
  const opening = peer.fifo(place, { recordBytes: RECORD_BYTES, durability: "none" });
  const fifo = opening instanceof Promise ? await opening : opening;
  const asked = fifo.peek();
  const first = asked instanceof Promise ? await asked : asked;
  const ms = performance.now() - start;
  checkAll(check(first, RECORD_BYTES, 0));
  need(await fifo.push(fill(new Uint8Array(RECORD_BYTES), 0)), "the queue is full");
  return { ms, fifo };
}

/** MiB that this process, and the server of a peer that has one, have more than before: the queue open, and with records. */
export async function memory(peer: Peer, place: Place, records: number): Promise<[open: number, filled: number]> {
  const own = process.memoryUsage().rss;
  // A server's share counts from the empty queue on: it is there before.
  const filled = await Filled.open(peer, place, records);
  const others = await filled.serverBytes();
  const open = process.memoryUsage().rss - own;
  await filled.fill(records);
  const grown = process.memoryUsage().rss - own + (await filled.serverBytes()) - others;
  await filled.close();
  return [open / 2 ** 20, grown / 2 ** 20];
}
