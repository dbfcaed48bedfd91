/**
 * A ring of slots of one size, by hand, in memory that several threads or processes have: how fast it gets without safety. Whoever dies inside the
 * lock stops all others for ever, nothing is checked, nothing grows, nothing is on storage.
 */
import type { Counter, Fifo, FifoOptions, Slots, Words } from "../peer.ts";

// Words of 32 bits, 128 bytes apart.
const LOCK = 0;
const HEAD = 32;
const TAIL = 64;
const RECORDS = 96;
const HEADER_BYTES = 512;
const LENGTH_BYTES = 8;

/** Bytes of a ring. */
export function ringBytes({ recordBytes, most = 64, capacityBytes = 1 << 20 }: FifoOptions): number {
  return HEADER_BYTES + Math.max(capacityBytes, slotBytes(recordBytes) * most);
}

function slotBytes(recordBytes: number): number {
  return LENGTH_BYTES + Math.ceil(recordBytes / 8) * 8;
}

/** `sleeps` says whether a consumer can sleep in the memory itself: then a push wakes it. */
export function ring(bytes: Uint8Array<ArrayBufferLike>, { recordBytes }: FifoOptions, sleeps: boolean): Fifo {
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
  const size = slotBytes(recordBytes);
  const capacity = Math.floor((bytes.byteLength - HEADER_BYTES) / size);
  const locked = <R>(change: () => R): R => {
    while (Atomics.compareExchange(words, LOCK, 0, 1) !== 0);
    const result = change();
    Atomics.store(words, LOCK, 0);
    return result;
  };
  // Places and the number of records; the locks' operations order the plain accesses.
  const put = (record: Uint8Array): boolean => {
    const tail = words[TAIL] as number;
    const count = words[RECORDS] as number;
    if (count === capacity) return false;
    const offset = HEADER_BYTES + tail * size;
    words[offset >> 2] = record.length;
    bytes.set(record, offset + LENGTH_BYTES);
    words[TAIL] = tail + 1 === capacity ? 0 : tail + 1;
    words[RECORDS] = count + 1;
    return true;
  };
  const first = (): Uint8Array | undefined => {
    if (words[RECORDS] === 0) return undefined;
    const offset = HEADER_BYTES + (words[HEAD] as number) * size;
    return new Uint8Array(bytes.subarray(offset + LENGTH_BYTES, offset + LENGTH_BYTES + (words[offset >> 2] as number)));
  };
  const get = (): Uint8Array | undefined => {
    const record = first();
    if (record === undefined) return undefined;
    const head = words[HEAD] as number;
    words[HEAD] = head + 1 === capacity ? 0 : head + 1;
    words[RECORDS] = (words[RECORDS] as number) - 1;
    return record;
  };
  const wake = (): void => {
    if (sleeps) Atomics.notify(words, RECORDS, 1);
  };
  const pop = (): Uint8Array | undefined => (Atomics.load(words, RECORDS) === 0 ? undefined : locked(get));
  const fifo: Fifo = {
    push(record) {
      const done = locked(() => put(record));
      wake();
      return done;
    },
    pop,
    pushMany(records) {
      const done = locked(() => {
        let count = 0;
        while (count < records.length && put(records[count] as Uint8Array)) count++;
        return count;
      });
      wake();
      return done;
    },
    popMany(max) {
      if (Atomics.load(words, RECORDS) === 0) return [];
      return locked(() => {
        const found: Uint8Array[] = [];
        for (let record; found.length < max && (record = get()) !== undefined;) found.push(record);
        return found;
      });
    },
    peek: () => locked(first),
    close() {},
  };
  if (!sleeps) return fifo;
  // The thread that waits does nothing else.
  fifo.take = async () => {
    for (;;) {
      const record = pop();
      if (record !== undefined) return record;
      Atomics.wait(words, RECORDS, 0, 1000);
    }
  };
  return fifo;
}

/** A counter in the first word. */
export function cellIn(buffer: ArrayBufferLike): Counter {
  const words = new BigInt64Array(buffer, 0, 1);
  return { add: () => Number(Atomics.add(words, 0, 1n)) + 1, get: () => Number(Atomics.load(words, 0)), close() {} };
}

export function slotsIn(all: Uint8Array<ArrayBufferLike>, count: number, bytes: number, first: (slot: number) => Uint8Array): Slots {
  for (let slot = 0; slot < count; slot++) all.set(first(slot), slot * bytes);
  const target = new Uint8Array(bytes);
  return {
    read(slot) {
      target.set(all.subarray(slot * bytes, (slot + 1) * bytes));
      return target;
    },
    write: (slot, data) => all.set(data, slot * bytes),
    close() {},
  };
}

export function wordsIn(buffer: ArrayBufferLike): Words {
  const words = new BigInt64Array(buffer);
  return {
    load: (word) => Number(Atomics.load(words, word)),
    store: (word, value) => void Atomics.store(words, word, BigInt(value)),
  };
}
