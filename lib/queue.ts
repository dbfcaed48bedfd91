/**
 * A persistent first-in-first-out queue that any number of processes and runtimes use at once.
 *
 * @module
 */
import * as fs from "node:fs";
import { resolve } from "node:path";
import { abortSignal, boolean, checkInteger, checkName, checkOptions, checkPath, integer, oneOf, type OptionCheck } from "./checks.ts";
import { closedError, invalidType, MapError, outOfRange, rangeError, readOnlyError, typeError } from "./errors.ts";
import { fileSystem } from "./files.ts";
import { CONSUMER, MAX_ATTEMPTS, MAX_GROUP_NAME_BYTES, MAX_SPARES, PRODUCER } from "./layout/queue.ts";
import { native } from "./native/native.ts";
import { type Codec, codecOption, defaultCodec, type JsonValue, type PayloadCodec, type Prepared, suited } from "./queue/codec.ts";
import { type AheadParts, ReadAhead } from "./queue/ahead.ts";
import { doomQueue } from "./queue/auto_unlink.ts";
import { Backwards } from "./queue/backwards.ts";
import { Consumer } from "./queue/consumer.ts";
import { type Control, createQueue, type Shape } from "./queue/control.ts";
import { Groups, type QueueGroup } from "./queue/groups.ts";
import { type LeaseEntry, LeaseTable } from "./queue/leases.ts";
import { Durability, DurabilityError, type DurabilityOptions } from "./queue/durability.ts";
import { markOption, readMark } from "./queue/mark.ts";
import { Producer } from "./queue/producer.ts";
import { Reader } from "./queue/reader.ts";
import { type OpenedControl, openControl, recover } from "./queue/recover.ts";
import type { QueueReport } from "./queue/report.ts";
import { Segments } from "./queue/segments.ts";
import { type QueueStats, queueStats } from "./queue/stats.ts";
import { Consumption, Waiting } from "./queue/waiting.ts";
import { verify } from "./queue/verify.ts";
import { lookNow } from "./waiting.ts";

/**
 * Options of {@linkcode Queue.open}. Those on sizes are for the creation; a queue that is there keeps its own.
 *
 * @example
 * ```ts
 * import { Queue, type QueueOptions } from "holdfast";
 * const options: QueueOptions<string> = { codec: "text", maxCapacityBytes: 1 << 20, durability: "batch", flushEveryMs: 5, autoUnlink: true };
 * using queue = Queue.open("/tmp/example-options.queue", options);
 * queue.push("on storage after 5 ms"); // true
 * ```
 */
export interface QueueOptions<T = JsonValue> {
  /** How values become bytes: "json" (the default), "text", "bytes", or a codec of your own. */
  codec?: "json" | "text" | "bytes" | Codec<T>;
  /** Bytes that are reserved at first. Default 2 MiB. Half of it is a segment; larger records get one of their own. */
  capacityBytes?: number;
  /** Most bytes of records (payloads, with 32 to 39 bytes each beside) that the queue holds; then `push` gives false. */
  maxCapacityBytes?: number;
  /** The queue never holds more than `capacityBytes`. */
  fixedSize?: boolean;
  /**
   * The group that this handle consumes for. A queue that is made with it is a log: each of its groups gets every record, in order, and within
   * a group each record goes to one consumer, as in a work queue. A group is made when it is first opened (in mode "rw"). A name has 1 to 100
   * bytes of UTF-8.
   */
  group?: string;
  /** With `true` the queue is, or is made as, a log, which this handle pushes to and looks at without consuming. */
  groups?: boolean;
  /** Where a new group starts: with the oldest record that the log still has (the default), or with the next one that is pushed. */
  groupStart?: "oldest" | "newest";
  /**
   * Of a log, for its creation: its oldest segments are given up while those behind them hold at least so many bytes of records, whether
   * groups have had them or not. Without `retainBytes` and `retainMs` a record is kept until every group has removed it.
   */
  retainBytes?: number;
  /**
   * Of a log, for its creation: a segment is given up when its last record is older than so many milliseconds, by the wall clock, whether groups
   * have had it or not. With `retainBytes`: when either says so.
   */
  retainMs?: number;
  /**
   * Whether this handle consumes alone, which makes the order strict: while it is open no other handle consumes. Further exclusive ones stand
   * by: they find nothing, and one of them takes over as soon as the holder is closed or dies. With an ordinary consumer about,
   * the exclusive one waits; an ordinary one that finds an exclusive gets `ERR_LOCKED`. In a log: among the consumers of the group.
   */
  exclusive?: boolean;
  /** How often `lease` hands out a record at most: one that comes up once more goes to `deadLetter` instead. */
  maxAttempts?: number;
  /** The queue for such records, at this path; it is created when the first one comes. Open it with the same codec. */
  deadLetter?: string | URL;
  /**
   * Removes the queue with this handle: at `close()`, when it is collected, at the end of the process. Only the queue's own files go, and its
   * directory if nothing else is in it.
   */
  autoUnlink?: boolean;
  /**
   * When what this handle does is on storage, safe from a power cut. "process" (the default): when the kernel writes it back, some seconds
   * later, or at {@linkcode Queue.flush}; the death of any process costs nothing. "batch": a sync follows after `flushEveryCount` records or
   * `flushEveryMs`, and at `close()` and at the end of the program. "each": before the call returns. docs/durability.md says what a power cut
   * leaves in each case.
   */
  durability?: "process" | "batch" | "each";
  /** With "batch": milliseconds until a record is on storage. Default 10. */
  flushEveryMs?: number;
  /** With "batch": records, pushed and removed, of which the last is on storage before its call returns. Default 100. */
  flushEveryCount?: number;
  /** "rw" (the default), or "r" to look only. */
  mode?: "r" | "rw";
  /** Access bits of the new files, before the umask. Default 0o600. */
  permissions?: number;
}

/**
 * Options of {@linkcode Queue.lease}.
 *
 * @example
 * ```ts
 * import { type LeaseOptions, Queue } from "holdfast";
 * const options: LeaseOptions = { leaseMs: 30_000 };
 * using queue = Queue.open<number>("/tmp/example-lease-options.queue", { autoUnlink: true });
 * queue.push(1);
 * queue.lease(options)?.ack();
 * ```
 */
export interface LeaseOptions {
  /** Milliseconds after which the record is given to another, whether the holder lives or not. Default: no limit. */
  leaseMs?: number;
}

/**
 * Options of {@linkcode Queue.pushMany}.
 *
 * @example
 * ```ts
 * import { type PushManyOptions, Queue } from "holdfast";
 * using queue = Queue.open<string>("/tmp/example-mark.queue", { codec: "text", autoUnlink: true });
 * const options: PushManyOptions = { mark: new TextEncoder().encode("as far as line 2") };
 * queue.pushMany(["line 1", "line 2"], options);
 * new TextDecoder().decode(queue.mark); // "as far as line 2"
 * ```
 */
export interface PushManyOptions {
  /**
   * At most 112 bytes of the program's own, which replace {@linkcode Queue.mark} in the very commit that makes the records part of the queue,
   * or, with no records, alone. A program that copies from elsewhere notes there how far it is, and after a crash goes on without a gap or a duplicate.
   * A power cut may leave the last records with the mark from before, and where storage had a mark without its records, recovery goes back to the one
   * before it, or to none, and {@linkcode Queue.recovered} says so.
   */
  mark?: Uint8Array;
}

/**
 * Limits of {@linkcode Queue.take} and its like.
 *
 * @example
 * ```ts
 * import { Queue, type TakeOptions } from "holdfast";
 * const options: TakeOptions = { timeoutMs: 10, signal: AbortSignal.timeout(10_000) };
 * using queue = Queue.open<number>("/tmp/example-take-options.queue", { autoUnlink: true });
 * await queue.take(options); // undefined
 * ```
 */
export interface TakeOptions {
  /** Milliseconds to wait at most; without it there is no limit. */
  timeoutMs?: number;
  /** Ends the wait with the signal's reason. */
  signal?: AbortSignal;
}

const DEFAULT_CAPACITY_BYTES = 2 << 20;
const MIN_SEGMENT_BYTES = 4096;
const MAX_SEGMENT_BYTES: number = 64 << 20;

function groupName(name: string, value: unknown): string {
  return checkName(name, value, MAX_GROUP_NAME_BYTES);
}

const OPEN_OPTIONS = {
  codec: codecOption as OptionCheck<PayloadCodec>,
  capacityBytes: integer(1),
  maxCapacityBytes: integer(1),
  fixedSize: boolean,
  group: groupName,
  groups: boolean,
  groupStart: oneOf("oldest", "newest"),
  retainBytes: integer(1),
  retainMs: integer(1),
  exclusive: boolean,
  maxAttempts: integer(1, MAX_ATTEMPTS - 1),
  deadLetter: checkPath,
  autoUnlink: boolean,
  durability: oneOf("process", "batch", "each"),
  flushEveryMs: integer(1, 2 ** 31 - 1),
  flushEveryCount: integer(1),
  mode: oneOf("r", "rw"),
  permissions: integer(0, 0o7777),
};

// Some thirty years: beyond, a deadline is no exact number any more.
const leaseMs = integer(1, 2 ** 40);
const LEASE_OPTIONS = { leaseMs };
const PUSH_MANY_OPTIONS = { mark: markOption };
const leaseMsArgument: OptionCheck<number> = leaseMs;
const TAKE_OPTIONS = { timeoutMs: integer(0), signal: abortSignal };
const WAITING_LEASE_OPTIONS = { leaseMs, ...TAKE_OPTIONS };
const POP_MANY_OPTIONS = { wait: boolean, ...TAKE_OPTIONS };
const CONSUME_OPTIONS = { signal: abortSignal };
const ENTRIES_OPTIONS = { reverse: boolean };

function shapeOf(capacityBytes: number, maxBytes: number): Omit<Shape, "log" | "retainBytes" | "retainMs"> {
  const half = Math.ceil(capacityBytes / 2 / 4096) * 4096;
  const segmentBytes = Math.min(MAX_SEGMENT_BYTES, Math.max(MIN_SEGMENT_BYTES, half));
  // One segment is the tail, the others of the first allocation are spares.
  const spares = Math.min(MAX_SPARES, Math.max(1, Math.ceil(capacityBytes / segmentBytes) - 1));
  return { segmentBytes, maxBytes, spares };
}

/**
 * A record that is handed out but still in the queue: {@linkcode Lease.ack} removes it, {@linkcode Lease.release} gives it back.
 * If its holder's process or thread dies, or its queue handle is closed, or `leaseMs` is over, another gets it.
 *
 * @example
 * ```ts
 * import { Queue } from "holdfast";
 * using queue = Queue.open<string>("/tmp/example-lease.queue", { codec: "text", autoUnlink: true });
 * queue.push("a job");
 * {
 *   using lease = queue.lease({ leaseMs: 1000 }); // given back at the end of the block unless it was settled
 *   lease?.extend(5000); // it takes longer
 *   lease?.release(); // or not now
 * }
 * const again = queue.lease();
 * console.log(again?.value, again?.attempts, again?.sequence); // a job 2 1
 * again?.ack(); // done: the record is removed
 * queue.length; // 0
 * ```
 */
export class Lease<T> implements Disposable {
  /** The value that was pushed. */
  readonly value: T;
  /** The record's number: 1, 2, 3, … in the order in which records are pushed, never used twice in a queue. */
  readonly sequence: number;
  /** How often the record has been handed out, this time included. More than 1: an earlier holder may have worked on it. */
  readonly attempts: number;
  readonly #settle: (keep: boolean) => void;
  readonly #extend: (leaseMs: number) => void;
  #settled = false;

  /** @internal */
  constructor(value: T, sequence: number, attempts: number, settle: (keep: boolean) => void, extend: (leaseMs: number) => void) {
    this.value = value;
    this.sequence = sequence;
    this.attempts = attempts;
    this.#settle = settle;
    this.#extend = extend;
  }

  /**
   * Has the lease end `leaseMs` milliseconds from now, whatever it had before; without it, not before its holder dies. `ERR_STALE_LEASE`
   * as with {@linkcode Lease.ack}: a lease that is late can be extended only until another has the record.
   */
  extend(leaseMs?: number): void {
    this.#extend(leaseMs === undefined ? 0 : leaseMsArgument("leaseMs", leaseMs));
  }

  /** Removes the record. `MapError` `ERR_STALE_LEASE` if it was given to another meanwhile, or settled before. */
  ack(): void {
    this.#settle(false);
    this.#settled = true;
  }

  /** Gives the record back, to be handed out again at once. `ERR_STALE_LEASE` as with {@linkcode Lease.ack}. */
  release(): void {
    this.#settle(true);
    this.#settled = true;
  }

  /** Gives the record back unless it was settled; a lease that is stale by then is left alone. */
  [Symbol.dispose](): void {
    if (this.#settled) return;
    this.#settled = true;
    try {
      this.#settle(true);
    } catch (error) {
      if (!(error instanceof MapError) || !["ERR_STALE_LEASE", "ERR_CLOSED", "ERR_DURABILITY"].includes(error.code)) throw error;
    }
  }
}

/** What a handle's consuming follows. */
interface ConsumerRules {
  readonly exclusive: boolean;
  readonly maxAttempts: number;
  readonly deadLetter: string | undefined;
  /** Of the files of a dead-letter queue. */
  readonly permissions: number;
  readonly durability: DurabilityOptions;
}

/**
 * A first-in-first-out queue in a directory. Any number of processes, threads and runtimes push and pop at once, in one total
 * order. A record is in the queue from the moment that `push` returns: it survives the death of any process. Whether it survives a power
 * cut is up to `durability` and {@linkcode Queue.flush}.
 *
 * `push`, `pop` and the other calls take a lock for some hundred nanoseconds. A process that is killed inside leaves nothing half
 * done: the next one takes the lock over on the kernel's word that its owner is dead. One that is stopped inside keeps it, and
 * the others get `MapError` `ERR_LOCKED` after ten seconds, with nothing changed.
 *
 * Errors: `ERR_CLOSED`, `ERR_READ_ONLY`, `ERR_LOCKED`, `ERR_CORRUPT` (a checksum does not hold; nothing is changed), `ERR_FAULT`
 * (a file was cut short), `ERR_DURABILITY` (storage failed at a sync: what was done is in the queue, but may not outlive a power cut; the
 * handle refuses everything but reading and `close()` from then on), system errors such as `ENOSPC`.
 *
 * @example
 * ```ts
 * import { Queue } from "holdfast";
 * using queue = Queue.open<{ id: number }>("/tmp/example.queue");
 * queue.push({ id: 1 });
 * const lease = queue.lease();
 * if (lease !== undefined) {
 *   console.log(lease.value.id); // 1
 *   lease.ack();
 * }
 * ```
 *
 * @example
 * ```ts
 * import { Queue } from "holdfast";
 * const queue = Queue.open<number>("/tmp/example-all.queue", { autoUnlink: true });
 * queue.pushMany([1, 2, 3, 4, 5, 6]); // 6
 * queue.pop(); // 1
 * queue.popMany(2); // [2, 3]
 * queue.tryPop((value) => value * 10); // 40; the record stays if the function throws
 * console.log(queue.peek(), queue.peekBack()); // 5 6
 * [...queue]; // [5, 6]
 * [...queue.reversed()]; // [6, 5]
 * console.log(queue.length, queue.isEmpty, queue.byteLength > 0); // 2 false true
 * console.log(queue.stats().pushed, queue.recovered); // 6 undefined
 * queue.flush();
 * queue.durableSequence; // 6
 * queue.clear(); // 2
 * queue.pushMany([7], { mark: Uint8Array.of(1) }); // 1: the record and the mark in one commit
 * queue.mark; // [1]
 * queue.compact(); // gives spare storage back
 * queue.close();
 * console.log(queue.closed, queue.path !== ""); // true true
 * ```
 *
 * @example
 * ```ts
 * import { Queue } from "holdfast";
 * using queue = Queue.open<string>("/tmp/example-wait.queue", { codec: "text", autoUnlink: true });
 * setTimeout(() => queue.pushMany(["a", "b", "c", "d"]), 10);
 * await queue.take(); // "a"
 * (await queue.leaseAsync({ timeoutMs: 1000 }))?.ack(); // that was "b"
 * for await (const value of queue.consume({ signal: AbortSignal.timeout(10_000) })) {
 *   console.log(value); // c
 *   break;
 * }
 * await queue.popMany(10, { wait: true }); // ["d"]
 * ```
 *
 * @example
 * ```ts
 * import { Queue } from "holdfast";
 * using log = Queue.open<string>("/tmp/example.log", { groups: true, autoUnlink: true }); // each group gets every record
 * log.push("event");
 * {
 *   using billing = Queue.open<string>("/tmp/example.log", { group: "billing" });
 *   billing.pop(); // "event"
 * }
 * log.groups().map(({ name, length }) => `${name} ${length}`); // ["billing 0"]
 * log.removeGroup("billing"); // true
 * ```
 */
export class Queue<T = JsonValue> implements Disposable {
  /** The queue's directory as given. */
  readonly path: string;
  /**
   * What was found if the queue was repaired when it was opened: the machine had lost power (or been restarted) since its last use, and storage
   * had not all of it. Undefined if all was sound, which is the rule.
   */
  readonly recovered: QueueReport | undefined;
  readonly #control: Control;
  readonly #segments: Segments;
  readonly #leases: LeaseTable;
  readonly #codec: PayloadCodec;
  readonly #reader: Reader;
  readonly #producer: Producer;
  readonly #consumer: Consumer;
  readonly #waiting: Waiting;
  readonly #rules: ConsumerRules;
  readonly #durability: Durability;
  /** Of a log. */
  readonly #groups: Groups | undefined;
  /** Where records go that were handed out too often; opened when the first one comes. */
  #deadLetters: Queue<Uint8Array> | undefined;
  /** Removes the queue. */
  #unlink: (() => void) | undefined;

  private constructor(path: string, { control, recovered }: OpenedControl, codec: PayloadCodec, rules: ConsumerRules) {
    this.path = path;
    this.recovered = recovered;
    this.#control = control;
    this.#codec = codec;
    this.#segments = new Segments(control, rules.durability.mode === "process");
    this.#leases = new LeaseTable(control);
    this.#reader = new Reader(control, this.#segments, this.#leases, codec);
    this.#producer = new Producer(control, this.#segments);
    this.#consumer = new Consumer(control, this.#segments, this.#leases, this.#reader);
    this.#waiting = new Waiting(control, this.#consumer);
    this.#rules = rules;
    this.#durability = new Durability(control, this.#segments, this.#reader, rules.durability);
    if (control.shape.log) {
      const groups = new Groups(control, this.#segments, this.#reader);
      this.#groups = groups;
      const trim = (): void => groups.trim();
      this.#consumer.giveUpInLog = trim;
      this.#producer.removedFromLog = () => groups.removedBytes();
      if (control.shape.retainBytes > 0 || control.shape.retainMs > 0) this.#producer.afterRoll = trim;
    }
    if (rules.durability.mode === "each") this.#consumer.beforeGrant = (index) => this.#durability.leased(index);
  }

  /**
   * Opens the queue at `path`, a directory; in mode "rw" it is created if there is nothing of that name.
   *
   * Errors: `MapError` `ENOENT` (mode "r"), `ERR_NOT_HOLDFAST`, `ERR_VERSION`, `ERR_KIND`, `ERR_CORRUPT` for something that is
   * no sound queue, which is left as it is; `ENOSPC` if the first allocation does not fit, with nothing left behind. `ERR_KIND` too for a
   * work queue that is opened with `group` or `groups`; `ENOENT` for a group that there is not, in mode "r".
   */
  static open<T = JsonValue>(path: string | URL, options?: QueueOptions<T>): Queue<T> {
    const name = checkPath("path", path);
    // Segments are opened by name later: a relative one would mean another place after process.chdir().
    const directory = resolve(name);
    const given = checkOptions("Queue.open()", options, OPEN_OPTIONS);
    const { codec = defaultCodec, capacityBytes = DEFAULT_CAPACITY_BYTES, maxCapacityBytes, fixedSize = false } = given;
    const { mode = "rw", permissions = 0o600, autoUnlink = false, exclusive = false, maxAttempts = Infinity, deadLetter } = given;
    if ((given.maxAttempts === undefined) !== (deadLetter === undefined)) {
      throw typeError('"maxAttempts" and "deadLetter" go together: the first says when a record goes to the second');
    }
    const { durability = "process", flushEveryMs = 10, flushEveryCount = 100 } = given;
    if (durability !== "batch" && (given.flushEveryMs !== undefined || given.flushEveryCount !== undefined)) {
      throw typeError(`"flushEveryMs" and "flushEveryCount" need "durability" "batch"; it is "${durability}"`);
    }
    if (fixedSize && maxCapacityBytes !== undefined && maxCapacityBytes !== capacityBytes) {
      throw rangeError(`"maxCapacityBytes" ${maxCapacityBytes} contradicts "fixedSize" with "capacityBytes" ${capacityBytes}`);
    }
    if (maxCapacityBytes !== undefined && maxCapacityBytes < capacityBytes && given.capacityBytes !== undefined) {
      throw outOfRange("maxCapacityBytes", `at least "capacityBytes", ${capacityBytes}`, maxCapacityBytes);
    }
    const { group, groups = false, groupStart, retainBytes = 0, retainMs = 0 } = given;
    const log = group !== undefined || groups;
    if (groupStart !== undefined && group === undefined) throw typeError('"groupStart" needs "group"');
    if (retainBytes + retainMs > 0 && !log) throw typeError('"retainBytes" and "retainMs" are for a log: they need "group" or "groups"');
    if (retainBytes + retainMs > 0 && (fixedSize || maxCapacityBytes !== undefined)) {
      throw typeError('"retainBytes" and "retainMs" give the oldest records up, "maxCapacityBytes" and "fixedSize" refuse new ones: choose one');
    }
    native();
    const maxBytes = fixedSize ? capacityBytes : (maxCapacityBytes ?? 0);
    const shape: Shape = { ...shapeOf(maxBytes === 0 ? capacityBytes : Math.min(capacityBytes, maxBytes), maxBytes), log, retainBytes, retainMs };
    if (mode === "rw" && !fileSystem(directory, () => fs.existsSync(directory))) createQueue(directory, shape, permissions);
    const opened = openControl(name, directory, mode, log, group === undefined ? undefined : { name: group, start: groupStart ?? "oldest" });
    const { control } = opened;
    try {
      const queue = new Queue<T>(name, opened, suited(codec), {
        exclusive,
        maxAttempts,
        deadLetter: deadLetter === undefined ? undefined : resolve(deadLetter),
        permissions,
        durability: { mode: durability, everyMs: flushEveryMs, everyCount: flushEveryCount },
      });
      if (autoUnlink) queue.#unlink = doomQueue(control, queue);
      return queue;
    } catch (error) {
      control.close();
      throw error;
    }
  }

  /**
   * Reads all of the queue at `path` and says what is there and what is damaged. It changes nothing, takes no lock and may run while others use
   * the queue; what they push meanwhile is not looked at. Independent of the rest of the library: it needs no native code, only
   * `node:fs`. Linear in the size of the queue.
   *
   * Damage is reported and not thrown. Errors: `MapError` `ENOENT`, `ERR_NOT_HOLDFAST`, `ERR_VERSION`, `ERR_CORRUPT` where nothing says that
   * there is a queue that could be read, and system errors.
   *
   * @example
   * ```ts
   * import { Queue } from "holdfast";
   * Queue.open("/tmp/example-verify.queue").close();
   * console.log(String(Queue.verify("/tmp/example-verify.queue")));
   * ```
   */
  static verify(path: string | URL): QueueReport {
    return verify(checkPath("path", path));
  }

  /**
   * Repairs a damaged queue: every whole record that was not consumed is kept, in order, also those behind damage, and those that were leased,
   * with their attempts. The files as they were go to `report.quarantine`, a folder beside the queue; nothing is deleted. The report says what
   * was found before the repair. A queue that is sound is left alone.
   *
   * Of a log all whole records are kept that it kept, and each group goes on where it was, with its leases. A group whose place is not known for
   * certain goes on further back, at worst with the oldest record; `report.groups` says which. Groups are found by the names of their files.
   *
   * What the damage left in doubt is kept rather than lost: without the consumer's part of the control file, records that were consumed may come
   * again. Sequences go on above all that are known to have been used. Handles of mode "r" see the old files until they are opened anew. Afterwards the queue is on storage (fsync(2)). It may be ended at any
   * moment: the queue is then as it was, or repaired.
   *
   * Errors: those of {@linkcode Queue.verify}; `ERR_BUSY` if any handle has the queue open for writing, this process's own included;
   * `ERR_LOCKED` if another recovery takes more than ten seconds; system errors such as `ENOSPC`, with the queue as it was.
   *
   * @example
   * ```ts
   * import { Queue } from "holdfast";
   * Queue.open("/tmp/example-recover.queue").close();
   * const report = Queue.recover("/tmp/example-recover.queue");
   * console.log(report.ok, report.quarantine); // true undefined
   * ```
   */
  static recover(path: string | URL): QueueReport {
    return recover(checkPath("path", path));
  }

  /** Whether `close()` was called. */
  get closed(): boolean {
    return this.#control.closed;
  }

  /** Records in the queue, those that are leased included. Constant time. In a log: of the group; without one, what the log keeps. */
  get length(): number {
    const { cursor, tail } = this.#open().look();
    return (tail[PRODUCER.sequence] as number) - (cursor[CONSUMER.sequence] as number) + (cursor[CONSUMER.leased] as number);
  }

  /** Whether there is no record in the queue, leased or not. */
  get isEmpty(): boolean {
    return this.length === 0;
  }

  /** The queue's identity: 32 hexadecimal digits. It stays for as long as the queue's files; after {@linkcode Queue.recover} it is another. */
  get id(): string {
    this.#open();
    return Array.from(this.#control.id, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  /**
   * The mark that was committed last: see {@linkcode PushManyOptions.mark}; undefined if there is none. A copy. Without a lock. `ERR_CORRUPT` if it is
   * damaged.
   */
  get mark(): Uint8Array | undefined {
    this.#open();
    return readMark(this.#control);
  }

  /** Bytes of the records in the queue, with their headers. */
  get byteLength(): number {
    const { cursor, tail } = this.#open().look();
    return (tail[PRODUCER.bytes] as number) - (cursor[CONSUMER.bytes] as number) + (cursor[CONSUMER.leasedBytes] as number);
  }

  /** Appends a value. False if the queue is full (`maxCapacityBytes`, `fixedSize`). `RangeError` if it could never fit. */
  push(value: T): boolean {
    this.#writable();
    const prepared = this.#codec.prepare(value);
    // The program's own code may have run, and used or closed the queue.
    this.#writable();
    const done = this.#producer.appendOne(prepared);
    if (done && this.#durability.active) this.#durability.pushed(1);
    return done;
  }

  /**
   * Appends values, one behind the other with nothing of others in between, and all visible at once. Returns how many: fewer than
   * given only if the queue is full. With `mark` all of them, or if they do not fit none, and the mark stays as it was.
   */
  pushMany(values: readonly T[], options?: PushManyOptions): number {
    this.#writable();
    const { mark } = checkOptions("pushMany()", options, PUSH_MANY_OPTIONS);
    if (!Array.isArray(values)) throw invalidType("values", "an array", values);
    const prepared: Prepared[] = [];
    // All before the first is written: the program's own code may run meanwhile. A hole is undefined, which no codec takes.
    for (let i = 0; i < values.length; i++) prepared.push(this.#prepare(values[i] as T));
    this.#writable();
    this.#producer.reset();
    for (const payload of prepared) this.#producer.add(payload);
    if (prepared.length === 0 && mark === undefined) return 0;
    const count = this.#producer.append(mark);
    if (this.#durability.active) {
      if (count > 0) this.#durability.pushed(count);
      // In the control file, like what is removed; and after the records, which it must not outlive.
      if (mark !== undefined && (count > 0 || prepared.length === 0)) this.#durability.removed(1);
    }
    return count;
  }

  /**
   * Removes and returns the oldest value; undefined if there is none. A record that can't be decoded stays. As with all calls that
   * consume: `ERR_KIND` if the queue is a log and was opened without `group`.
   */
  pop(): T | undefined {
    if (!this.#codec.builtIn) return this.#takeOne()?.value;
    if (!this.#turn()) return undefined;
    const value = this.#consumer.removeOne() as T | undefined;
    if (value !== undefined && this.#durability.active) this.#durability.removed(1, [value]);
    return value;
  }

  /**
   * Removes and returns the oldest value, after waiting for one if there is none; undefined when `timeoutMs` is over. Waiting costs no CPU
   * time to speak of and does not block the event loop; it keeps the process alive, as a timer does. Rejects with the signal's reason, or
   * `ERR_CLOSED` when the queue is closed: then nothing was taken.
   */
  async take(options?: TakeOptions): Promise<T | undefined> {
    const { timeoutMs, signal } = checkOptions("take()", options, TAKE_OPTIONS);
    this.#writable();
    return (await this.#waiting.until(() => this.#takeOne(), timeoutMs, signal))?.value;
  }

  /**
   * Values one by one, removed as they are handed out, waiting for each: `for await (const value of queue)`. Ends when the queue is closed;
   * `break` and `return` lose nothing.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<T> {
    return this.consume();
  }

  /** As `for await` over the queue itself, with a signal that ends it with its reason. */
  consume(options?: { signal?: AbortSignal }): AsyncIterableIterator<T> {
    const { signal } = checkOptions("consume()", options, CONSUME_OPTIONS);
    this.#writable();
    const take = async (either: AbortSignal): Promise<T> => {
      this.#writable();
      const taken = await this.#waiting.until(() => this.#takeOne(), undefined, either);
      return (taken as { value: T }).value;
    };
    return new Consumption(take, () => this.closed, signal);
  }

  /** Removes and returns up to `max` values, the oldest first. With `wait` it waits for the first one: see {@linkcode Queue.take}. */
  popMany(max: number, options?: { wait?: false }): T[];
  /** The same, waiting for the first one; an empty array when `timeoutMs` is over. */
  popMany(max: number, options: { wait: true } & TakeOptions): Promise<T[]>;
  popMany(max: number, options?: { wait?: boolean } & TakeOptions): T[] | Promise<T[]> {
    checkInteger("max", max, 1, Number.MAX_SAFE_INTEGER);
    const { wait = false, timeoutMs, signal } = checkOptions("popMany()", options, POP_MANY_OPTIONS);
    if (!wait && (timeoutMs !== undefined || signal !== undefined)) throw typeError('"timeoutMs" and "signal" need "wait"');
    if (!wait) return this.#popMany(max);
    this.#writable();
    const some = (): T[] | undefined => {
      const values = this.#popMany(max);
      return values.length === 0 ? undefined : values;
    };
    return this.#waiting.until(some, timeoutMs, signal).then((values) => values ?? []);
  }

  #popMany(max: number): T[] {
    if (!this.#turn()) return [];
    if (this.#codec.builtIn) {
      const removed = this.#consumer.remove(max) as T[];
      if (removed.length > 0 && this.#durability.active) this.#durability.removed(removed.length, removed);
      return removed;
    }
    const values: T[] = [];
    while (values.length < max) {
      try {
        const taken = this.#takeOne();
        if (taken === undefined) break;
        values.push(taken.value);
      } catch (error) {
        // What was taken before is the caller's; the next call meets the same error.
        if (error instanceof DurabilityError) throw error.with([...values, ...error.removed]);
        if (values.length === 0) throw error;
        break;
      }
    }
    return values;
  }

  /**
   * Calls `use` with the oldest value and removes it if `use` returns; if it throws, the record stays and is handed out again.
   * Returns what `use` returned; undefined if there is no record.
   */
  tryPop<R>(use: (value: T) => R): R | undefined {
    if (typeof use !== "function") throw invalidType("use", "a function", use);
    const lease = this.lease();
    if (lease === undefined) return undefined;
    using held = lease;
    const result = use(held.value);
    held.ack();
    return result;
  }

  /** The value that `pop` would return, left in the queue; undefined if there is none. */
  peek(): T | undefined {
    for (const value of this.#walk(false, this.#valueOf)) return value;
    return undefined;
  }

  /**
   * The value that was pushed last, of those in the queue, leased or not; undefined if the queue is empty. Without a lock; its cost does not grow
   * with the queue.
   */
  peekBack(): T | undefined {
    for (const value of this.#walkBack(this.#valueOf)) return value;
    return undefined;
  }

  /**
   * Hands out the oldest record without removing it: see {@linkcode Lease}. Undefined if there is none to hand out. Records whose
   * holder died come first, as soon as the kernel reports the death.
   */
  lease(options?: LeaseOptions): Lease<T> | undefined {
    const { leaseMs } = checkOptions("lease()", options, LEASE_OPTIONS);
    return this.#lease(leaseMs ?? 0);
  }

  /** As {@linkcode Queue.lease}, after waiting for a record if there is none, as {@linkcode Queue.take} does. */
  async leaseAsync(options?: LeaseOptions & TakeOptions): Promise<Lease<T> | undefined> {
    const { leaseMs = 0, timeoutMs, signal } = checkOptions("leaseAsync()", options, WAITING_LEASE_OPTIONS);
    this.#writable();
    return await this.#waiting.until(() => this.#lease(leaseMs), timeoutMs, signal);
  }

  #lease(leaseMs: number): Lease<T> | undefined {
    if (!this.#turn()) return undefined;
    const { maxAttempts } = this.#rules;
    let entry: LeaseEntry | undefined;
    while ((entry = this.#consumer.grant(leaseMs, maxAttempts)) !== undefined && entry.attempts > maxAttempts) this.#bury(entry);
    return entry === undefined ? undefined : this.#leaseOf(entry);
  }

  #leaseOf(entry: LeaseEntry): Lease<T> {
    const settle = (keep: boolean): void => {
      this.#writable();
      this.#consumer.settle(entry, keep);
      if (!keep && this.#durability.active) this.#durability.removed(1);
    };
    const extend = (leaseMs: number): void => {
      this.#writable();
      this.#consumer.extend(entry, leaseMs);
    };
    try {
      const value = this.#reader.decoded(entry.sequence) as T;
      this.#reader.inbox.shrink();
      return new Lease(value, entry.sequence, entry.attempts, settle, extend);
    } catch (error) {
      if (!this.closed) settle(true);
      throw error;
    }
  }

  /**
   * Reads records in order without removing them, and removes them later, many in one step: for a program that hands them on and hears later that
   * they arrived. Other than leases it has no limit on how many are under way, and costs what a walk does. The handle has to be `exclusive`
   * (`TypeError`); further such handles stand by and take over when it dies, beginning with the oldest record that was not removed.
   *
   * @example
   * ```ts
   * import { Queue } from "holdfast";
   * using queue = Queue.open<string>("/tmp/example-ahead.queue", { codec: "text", exclusive: true });
   * queue.pushMany(["a", "b", "c"]);
   * const ahead = queue.readAhead();
   * ahead.next(2); // [{ sequence: 1, value: "a" }, { sequence: 2, value: "b" }]
   * ahead.removeThrough(2); // 2
   * console.log(queue.length); // 1
   * ```
   */
  readAhead(): ReadAhead<T> {
    this.#writable();
    if (!this.#rules.exclusive) throw typeError('readAhead() needs a queue that was opened with "exclusive": others would take the records meanwhile');
    const parts: AheadParts = {
      control: this.#control,
      segments: this.#segments,
      reader: this.#reader,
      consumer: this.#consumer,
      waiting: this.#waiting,
      turn: () => this.#turn(),
      removed: (count) => {
        if (this.#durability.active) this.#durability.removed(count);
      },
    };
    return new ReadAhead<T>(parts);
  }

  /** Values from front to back, leased ones included, without removing them. Records removed meanwhile may be passed over. */
  [Symbol.iterator](): IterableIterator<T> {
    this.#open();
    return this.#walk(true, this.#valueOf);
  }

  /**
   * Values from back to front, leased ones included, without removing them and without a lock: what is in the queue at the first step. Records
   * removed meanwhile may be passed over; records pushed meanwhile are not seen. Each step costs what one forwards does; the first one that
   * leaves a segment looks at each segment before it once, and the walk remembers 8 bytes for each.
   */
  reversed(): IterableIterator<T> {
    this.#open();
    return this.#walkBack(this.#valueOf);
  }

  /**
   * As iterating over the queue, or with `reverse` as {@linkcode reversed}, with each record's sequence: records are numbered 1, 2, 3, … in the
   * order in which they are pushed. Who remembers the last one that it saw finds what is new from the back.
   *
   * @example
   * ```ts
   * import { Queue } from "holdfast";
   * using queue = Queue.open<string>("/tmp/example-entries.queue", { codec: "text", autoUnlink: true });
   * queue.pushMany(["a", "b"]);
   * console.log([...queue.entries({ reverse: true })]); // [ [ 2, "b" ], [ 1, "a" ] ]
   * ```
   */
  entries(options?: { reverse?: boolean }): IterableIterator<[sequence: number, value: T]> {
    this.#open();
    const { reverse = false } = checkOptions("entries()", options, ENTRIES_OPTIONS);
    const entryOf = (sequence: number): [number, T] => [sequence, this.#valueOf(sequence)];
    return reverse ? this.#walkBack(entryOf) : this.#walk(true, entryOf);
  }

  /**
   * What an operator wants to know: see {@linkcode QueueStats}. Takes no lock. Constant time but for a file status for each file of the queue
   * and a lock probe for each handle that was ever open at once.
   */
  stats(): QueueStats {
    return queueStats(this.#control, this.#open());
  }

  /**
   * Removes all records, leased ones too, in one step, and returns how many. Their leases are stale then: `ack()` is `ERR_STALE_LEASE`. A record
   * that is pushed at the same time is either among them or stays. Storage is given back as after consumption. Consuming, as `pop` is:
   * `ERR_LOCKED` while another handle consumes exclusively.
   */
  clear(): number {
    if (!this.#turn()) throw new MapError("ERR_LOCKED", `'${this.path}' is consumed by another exclusive consumer, which alone may clear it`, { path: this.path });
    const count = this.#consumer.clear();
    if (count > 0 && this.#durability.active) this.#durability.removed(count);
    return count;
  }

  /**
   * Gives storage back that holds no records: spare segments, and files that killed processes left. A queue that was made to hold no more than its
   * first allocation (`fixedSize`) keeps that; another one reserves storage again when it needs it, and `push` may find the disk full
   * then (`ENOSPC`).
   */
  compact(): void {
    this.#writable();
    if (this.#groups !== undefined) this.#groups.compact();
    else this.#consumer.compact();
  }

  /** The groups of a log, by name; none in a work queue. Without a lock: some microseconds for each. */
  groups(): QueueGroup[] {
    this.#open();
    return this.#groups?.list() ?? [];
  }

  /**
   * Removes a group of a log: its cursor and its leases. What no other group needs is given up with it. False if there is none of that
   * name. `ERR_LOCKED` while a handle of the group is open.
   */
  removeGroup(name: string): boolean {
    this.#writable();
    return this.#groups?.remove(groupName("name", name)) ?? false;
  }

  /**
   * Waits until all records that are in the queue, whoever pushed them, and all removals are on storage: a power cut from then on loses
   * none of them. `MapError` `ERR_DURABILITY` if storage fails; then this handle refuses everything but reading and `close()`.
   */
  flush(): void {
    this.#writable();
    this.#durability.flush();
  }

  /**
   * Sequence of the last record that is known to be on storage with all before it; 0 if there is none. Records are numbered 1, 2, 3, … in the
   * order in which they are pushed. With durability "process" in all handles it moves at {@linkcode Queue.flush} only.
   */
  get durableSequence(): number {
    this.#open();
    return this.#durability.sequence;
  }

  /**
   * Ends the use of the queue. What this handle has leased is handed out again. Closing again does nothing. With durability "batch" it waits
   * for the sync that is due; `ERR_DURABILITY` if that fails, with the queue closed.
   */
  close(): void {
    try {
      if (!this.closed) this.#durability.close();
    } finally {
      this.#segments.close();
      this.#groups?.close();
      this.#control.close();
      this.#deadLetters?.close();
      lookNow(); // who waits here hears of it at once
      this.#unlink?.();
    }
  }

  /** {@linkcode close}, at the end of a block with `using`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Throws if the queue is closed. */
  #open(): Reader {
    if (this.#control.closed) throw closedError("queue", this.path);
    return this.#reader;
  }

  /** Throws if the queue is closed or read-only, or a sync has failed. */
  #writable(): void {
    if (!this.#control.usable) this.#refuse();
  }

  #refuse(): void {
    this.#open();
    if (!this.#control.writable) throw readOnlyError("queue", this.path);
    this.#durability.assertSound();
  }

  /** Whether it is this handle's turn to consume. */
  #turn(): boolean {
    this.#writable();
    if (this.#control.mayConsume) return true;
    if (this.#groups !== undefined && this.#control.group === undefined) {
      throw new MapError("ERR_KIND", `'${this.path}' is a log, which is read by groups: open it with "group" to consume`, { path: this.path });
    }
    const { exclusive } = this.#rules;
    if (this.#control.takeTurn(exclusive)) return true;
    if (exclusive) return false;
    throw new MapError("ERR_LOCKED", `'${this.path}' is consumed by an exclusive consumer; open it with "exclusive" to stand by, or push only`, { path: this.path });
  }

  /** The oldest value, removed; undefined if there is none. */
  #takeOne(): { value: T } | undefined {
    if (this.#codec.builtIn) {
      const value = this.pop();
      return value === undefined ? undefined : { value };
    }
    const lease = this.lease();
    if (lease === undefined) return undefined;
    try {
      lease.ack();
    } catch (error) {
      throw error instanceof DurabilityError ? error.with([lease.value]) : error; // removed, and the value is here alone by now
    }
    return { value: lease.value };
  }

  /** Moves a record, which is in the inbox, to the dead-letter queue. Killed in between it is in both. */
  #bury(entry: LeaseEntry): void {
    const { deadLetter, permissions, maxAttempts, durability } = this.#rules;
    try {
      this.#deadLetters ??= Queue.open<Uint8Array>(deadLetter as string, {
        codec: "bytes",
        permissions,
        durability: durability.mode,
        ...(durability.mode === "batch" ? { flushEveryMs: durability.everyMs, flushEveryCount: durability.everyCount } : {}),
      });
      if (!this.#deadLetters.push(this.#reader.inbox.payload())) {
        throw new MapError("ERR_FULL", `the dead-letter queue '${deadLetter}' is full; record ${entry.sequence} was handed out ${maxAttempts} times and stays in '${this.path}'`, { path: this.path });
      }
    } catch (error) {
      if (!this.closed) this.#consumer.settle(entry, true);
      throw error;
    }
    this.#consumer.settle(entry, false);
    if (this.#durability.active) this.#durability.removed(1);
  }

  /** A payload that is kept while others are prepared: a codec of one's own may use its memory again. */
  #prepare(value: T): Prepared {
    const prepared = this.#codec.prepare(value);
    return this.#codec.builtIn || typeof prepared === "string" ? prepared : prepared.slice();
  }

  /** The value of the record that was read last. */
  readonly #valueOf = (sequence: number): T => this.#reader.decoded(sequence) as T;

  /** What `make` makes of each record from front to back, without a lock; with `all` of the ones that others hold as leases too. */
  *#walk<R>(all: boolean, make: (sequence: number) => R): IterableIterator<R> {
    const reader = this.#open();
    const cell = reader.look().cursor.slice();
    const entries = reader.entriesWithoutLock(cell);
    for (const entry of all ? entries.toSorted((a, b) => a.sequence - b.sequence) : this.#offered(entries)) {
      this.#open();
      if (reader.fetchLeased(entry)) yield make(entry.sequence);
    }
    for (;;) {
      this.#open();
      const sequence = this.#step(cell);
      if (sequence === undefined) return;
      yield make(sequence);
    }
  }

  /** The same from back to front, of all. */
  *#walkBack<R>(make: (sequence: number) => R): IterableIterator<R> {
    const reader = this.#open();
    const walk = new Backwards(this.#control, this.#segments, reader);
    for (let sequence = walk.previous(); sequence !== undefined; sequence = walk.previous()) {
      yield make(sequence);
      this.#open();
    }
  }

  /** What `pop` would take first, if that is a record that was handed out before. */
  #offered(entries: readonly LeaseEntry[]): LeaseEntry[] {
    if (entries.length === 0) return [];
    const entry = this.#leases.again(entries, this.length <= entries.length);
    return entry === undefined ? [] : [entry];
  }

  /** Reads the next record of a walk, moves `cell` over it, and returns its sequence; undefined at the end. */
  #step(cell: Float64Array): number | undefined {
    for (;;) {
      this.#segments.trim();
      const from = cell[CONSUMER.position] as number;
      try {
        return this.#reader.next(cell)?.sequence;
      } catch (error) {
        if (!(error instanceof MapError)) throw error;
        // The record may have been consumed and its segment used for others while it was read: the walk goes on at the cursor.
        this.#control.kept.forget(); // read in full, with its fence
        const { cursor } = this.#reader.look();
        const ahead = (cursor[CONSUMER.position] as number) > from;
        if (!ahead) throw error;
        cell.set(cursor);
      }
    }
  }
}
