/** What a peer can do, in the same words for all. A workload uses nothing else. */

/** Calls of some peers answer at once, of others later. Each peer does either the one or the other, and never waits for nothing. */
export type Maybe<T> = T | Promise<T>;

export interface Counter {
  /** Adds 1 and returns the new value, as one step where the peer has one. */
  add(): Maybe<number>;
  get(): Maybe<number>;
  close(): Maybe<void>;
}

/** Places for the same number of bytes each. */
export interface Slots {
  /** The bytes, for the caller to keep until the next read. */
  read(slot: number): Maybe<Uint8Array>;
  write(slot: number, data: Uint8Array): Maybe<void>;
  close(): Maybe<void>;
}

/** The 64-bit words of a large file, or memory; word i holds i at first. */
export interface Words {
  load(word: number): number;
  store(word: number, value: number): void;
}

/** A queue. */
export interface Fifo {
  /** False if it is full. */
  push(record: Uint8Array): Maybe<boolean>;
  pop(): Maybe<Uint8Array | undefined>;
  /** All of them; a queue that may be full takes a first part and says how many. */
  pushMany(records: readonly Uint8Array[]): Maybe<number>;
  popMany(max: number): Maybe<readonly Uint8Array[]>;
  /** The next one without taking it. */
  peek(): Maybe<Uint8Array | undefined>;
  /** The next one, as soon as there is one; peers without it are asked again after a millisecond. */
  take?(): Promise<Uint8Array>;
  /** Resident memory of another process that has the records. */
  serverBytes?(): Promise<number>;
  close(): Maybe<void>;
}

export interface FifoOptions {
  /** Of each record, but for ends, which are shorter. */
  readonly recordBytes: number;
  /** "none" outlives a killed process where the peer has files; "each" waits for storage at each push, "batch" at each pushMany. */
  readonly durability: "none" | "each" | "batch";
  /** How many records have to fit, of a peer that has to know. */
  readonly most?: number;
  /** Room to have from the start, of a peer that can be told. */
  readonly capacityBytes?: number;
}

/** Where things are. */
export interface Place {
  /** A folder of this subject at this workload. */
  readonly folder: string;
  /** Of the Redis server that forgets, or of that which writes each command to storage. */
  readonly redisPort: number;
  /** Memory of other threads' making; of the peer "shared" alone. */
  readonly memory?: SharedArrayBuffer | undefined;
}

export interface Peer {
  counter?(place: Place): Maybe<Counter>;
  /** `bytes` of each slot; all slots are filled by `first`. */
  slots?(place: Place, slots: number, bytes: number, first: (slot: number) => Uint8Array): Maybe<Slots>;
  /** On a file that is there, or in memory of `bytes`. */
  words?(file: string, bytes: number, use: "read" | "write"): Words;
  fifo(place: Place, options: FifoOptions): Maybe<Fifo>;
}
