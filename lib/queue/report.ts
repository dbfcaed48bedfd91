/**
 * What an examination of a queue says: {@linkcode QueueReport}, for programs as plain data, for people as text.
 *
 * @module
 */

/**
 * The kinds of damage. All but "records" say that a part of the queue's own bookkeeping is not what it should be. "consumer-cell",
 * "cells", "control-word" and "lease" may be of the control file or of a group's file: `file` says which.
 *
 * @example
 * ```ts
 * import { Queue, type QueueDamageCode } from "holdfast";
 * Queue.open("/tmp/example-code.queue").close();
 * const codes: QueueDamageCode[] = Queue.verify("/tmp/example-code.queue").damage.map(({ code }) => code);
 * codes; // []
 * ```
 */
export type QueueDamageCode =
  /** The control file is missing, or its header is not whole. */
  | "control"
  /** A file that is not the group's that it should be: header, length, or the file of another group or queue. */
  | "group"
  /** The version word or the current cell of a side does not hold. */
  | "producer-cell"
  | "consumer-cell"
  | "durable-cell"
  /** The mark (see `mark` of a queue) does not hold, or speaks for records that are lost. */
  | "mark"
  /** Both cells hold, but can't both be of the same moment. */
  | "cells"
  /** A lock word, a slot, the next segment id or a spare that the queue would refuse. */
  | "control-word"
  /** An entry of the lease table does not hold, or there are not as many as there should be. */
  | "lease"
  /** A segment that should be there has no file. */
  | "segment-missing"
  /** A file that is not the segment that it should be: header, length, or the file of another queue. */
  | "segment"
  /** A segment's words (base, end, next) contradict what surrounds it. */
  | "segment-words"
  /** Bytes where records should be are no whole records. */
  | "records";

/**
 * One damaged place.
 *
 * @example
 * ```ts
 * import { Queue, type QueueDamage } from "holdfast";
 * Queue.open("/tmp/example-damage.queue").close();
 * const tell = ({ code, reason, file, offset }: QueueDamage) => console.error(`${code}: ${reason} (${file}, byte ${offset})`);
 * Queue.verify("/tmp/example-damage.queue").damage.forEach(tell);
 * ```
 */
export interface QueueDamage {
  /** What kind of damage. */
  readonly code: QueueDamageCode;
  /** What is wrong, as a sentence. */
  readonly reason: string;
  /** The file, from the queue's directory. */
  readonly file: string;
  /** Id of the segment. */
  readonly segment?: number;
  /** Bytes from the start of the file. */
  readonly offset?: number;
  /** Position in the queue. */
  readonly position?: number;
  /** Bytes from there on. */
  readonly bytes?: number;
}

/**
 * Records that are missing, by their sequences.
 *
 * @example
 * ```ts
 * import { Queue, type QueueGap } from "holdfast";
 * Queue.open("/tmp/example-gap.queue").close();
 * const count = ({ first, last }: QueueGap) => last - first + 1;
 * Queue.verify("/tmp/example-gap.queue").gaps.map(count); // []
 * ```
 */
export interface QueueGap {
  /** Sequence of the first one. */
  readonly first: number;
  /** Sequence of the last one. */
  readonly last: number;
}

/**
 * A segment file, or one that should be there.
 *
 * @example
 * ```ts
 * import { Queue, type QueueSegment } from "holdfast";
 * Queue.open("/tmp/example-segment.queue", { capacityBytes: 1 << 20 }).close();
 * const live: QueueSegment[] = Queue.verify("/tmp/example-segment.queue").segments.filter(({ state }) => state === "live");
 * live.map(({ bytes }) => bytes); // [524288]
 * ```
 */
export interface QueueSegment {
  /** Its number, in the name of the file. */
  readonly id: number;
  /** Length of the file; 0 if it is missing. */
  readonly bytes: number;
  /** "live": holds records that are needed; "spare": kept for use; "unused": nobody's, to be removed; "foreign": of another queue. */
  readonly state: "live" | "spare" | "unused" | "missing" | "foreign";
}

/**
 * What a queue was made with.
 *
 * @example
 * ```ts
 * import { Queue, type QueueShape } from "holdfast";
 * Queue.open("/tmp/example-shape.queue", { capacityBytes: 1 << 20 }).close();
 * const shape: QueueShape | undefined = Queue.verify("/tmp/example-shape.queue").shape;
 * shape; // { segmentBytes: 524288, maxBytes: 0, spares: 1 }
 * ```
 */
export interface QueueShape {
  /** Bytes of a segment file, unless a record needs a larger one. */
  readonly segmentBytes: number;
  /** Most bytes of records; 0: without a limit. */
  readonly maxBytes: number;
  /** Free segments that are kept. */
  readonly spares: number;
  /** Of a log: bytes that it retains; 0: without a limit. */
  readonly retainBytes?: number;
  /** Of a log: milliseconds that it retains; 0: without a limit. */
  readonly retainMs?: number;
}

/**
 * A group of a log as an examination found it. If its file is damaged, what it has to remove is what recovery would give it.
 *
 * @example
 * ```ts
 * import { Queue, type QueueReportGroup } from "holdfast";
 * using queue = Queue.open<number>("/tmp/example-report-group.log", { group: "mail", autoUnlink: true });
 * queue.push(1);
 * const groups: readonly QueueReportGroup[] = Queue.verify("/tmp/example-report-group.log").groups;
 * groups; // [{ name: "mail", ok: true, length: 1, leased: 0, missed: 0 }]
 * ```
 */
export interface QueueReportGroup {
  /** The name that it is opened by. */
  readonly name: string;
  /** Whether nothing in its file is damaged. */
  readonly ok: boolean;
  /** Records that it has still to remove, leased ones included. */
  readonly length: number;
  /** Of those, the ones that are leased. */
  readonly leased: number;
  /** Records that it never had, or had leased and not acknowledged, when the log's limits gave them up. */
  readonly missed: number;
}

/**
 * What was examined and found.
 *
 * @example
 * ```ts
 * import { Queue, type QueueReportData } from "holdfast";
 * Queue.open("/tmp/example-data.queue").close();
 * const text = JSON.stringify(Queue.verify("/tmp/example-data.queue"));
 * const data: QueueReportData = JSON.parse(text);
 * data.ok; // true
 * ```
 */
export interface QueueReportData {
  /** The queue's directory as given. */
  readonly path: string;
  /** Whether nothing is damaged. */
  readonly ok: boolean;
  /** The queue's id, 32 hexadecimal digits. */
  readonly id: string;
  /** What the queue was made with; undefined if the control file does not say. */
  readonly shape: QueueShape | undefined;
  /** Whether it is a log, read by groups. */
  readonly log: boolean;
  /** Its groups, by name. */
  readonly groups: readonly QueueReportGroup[];
  /** Whole records that are in the queue, leased ones included. */
  readonly records: number;
  /** Their bytes, with their headers. */
  readonly bytes: number;
  /** How many of them are leased; of a log, whose groups have leases of their own: 0. */
  readonly leased: number;
  /** Sequence of the first whole record, leased ones included; undefined if there is none. */
  readonly firstSequence: number | undefined;
  /** Sequence of the last one. */
  readonly lastSequence: number | undefined;
  /** Segment files that there are or should be. */
  readonly segments: readonly QueueSegment[];
  /** Damaged places. */
  readonly damage: readonly QueueDamage[];
  /**
   * Records that should be there and are not whole: all that are lost, unless the damage is in the control file's cells
   * or lease table, without which not all can be counted.
   */
  readonly gaps: readonly QueueGap[];
  /** How many they are. */
  readonly lost: number;
  /** Whole records that lie behind a gap. */
  readonly behindDamage: number;
  /** Whole records behind the tail; only looked for after a power loss, or where the producer cell is damaged. */
  readonly behindTail: number;
  /** Names in the directory that are no part of the queue. */
  readonly foreign: readonly string[];
  /** What is worth knowing and no damage. */
  readonly notes: readonly string[];
  /** Where the files went that a recovery replaced; undefined if nothing was done. */
  readonly quarantine: string | undefined;
}

function plural(count: number, noun: string): string {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

/**
 * What {@linkcode Queue.verify} and {@linkcode Queue.recover} found. `JSON.stringify(report)` has all of it, `String(report)` is a text
 * for people.
 *
 * @example
 * ```ts
 * import { Queue } from "holdfast";
 * using queue = Queue.open("/tmp/example-report.queue");
 * const report = Queue.verify("/tmp/example-report.queue");
 * if (!report.ok) console.error(String(report));
 * ```
 *
 * @example
 * ```ts
 * import { Queue } from "holdfast";
 * using queue = Queue.open<string>("/tmp/example-found.queue", { codec: "text", autoUnlink: true });
 * queue.pushMany(["a", "b"]);
 * const report = Queue.verify("/tmp/example-found.queue");
 * console.log(report.ok, report.records, report.leased, report.firstSequence, report.lastSequence); // true 2 0 1 2
 * console.log(report.id.length, report.bytes, report.shape?.maxBytes); // 32 80 0
 * console.log(report.log, report.groups.length); // false 0
 * [...report.damage, ...report.gaps, ...report.foreign, ...report.notes]; // []
 * console.log(report.lost, report.behindDamage, report.behindTail, report.quarantine); // 0 0 0 undefined
 * console.log(report.path !== "", report.segments.length > 0, report.toString().includes("sound")); // true true true
 * ```
 */
export class QueueReport implements QueueReportData {
  readonly path: string;
  readonly ok: boolean;
  readonly id: string;
  readonly shape: QueueReportData["shape"];
  readonly log: boolean;
  readonly groups: readonly QueueReportGroup[];
  readonly records: number;
  readonly bytes: number;
  readonly leased: number;
  readonly firstSequence: number | undefined;
  readonly lastSequence: number | undefined;
  readonly segments: readonly QueueSegment[];
  readonly damage: readonly QueueDamage[];
  readonly gaps: readonly QueueGap[];
  readonly lost: number;
  readonly behindDamage: number;
  readonly behindTail: number;
  readonly foreign: readonly string[];
  readonly notes: readonly string[];
  readonly quarantine: string | undefined;

  /** @internal */
  constructor(data: QueueReportData) {
    this.path = data.path;
    this.ok = data.ok;
    this.id = data.id;
    this.shape = data.shape;
    this.log = data.log;
    this.groups = data.groups;
    this.records = data.records;
    this.bytes = data.bytes;
    this.leased = data.leased;
    this.firstSequence = data.firstSequence;
    this.lastSequence = data.lastSequence;
    this.segments = data.segments;
    this.damage = data.damage;
    this.gaps = data.gaps;
    this.lost = data.lost;
    this.behindDamage = data.behindDamage;
    this.behindTail = data.behindTail;
    this.foreign = data.foreign;
    this.notes = data.notes;
    this.quarantine = data.quarantine;
  }

  /** The report as text of several lines. */
  toString(): string {
    const { segments } = this;
    const states = ["live", "spare", "unused", "missing", "foreign"] as const;
    const counts = states.map((state) => [state, segments.filter((segment) => segment.state === state).length] as const);
    const range = this.firstSequence === undefined ? "" : `, sequences ${this.firstSequence} to ${this.lastSequence}`;
    const lines = [
      `${this.path}: ${this.ok ? "sound" : "DAMAGED"}`,
      `  id        ${this.id}`,
      `  records   ${plural(this.records, "record")}, ${plural(this.bytes, "byte")}${this.log ? "" : `, ${this.leased} leased`}${range}`,
      `  segments  ${counts.filter(([, count]) => count > 0).map(([state, count]) => `${count} ${state}`).join(", ") || "none"}`,
    ];
    for (const { name, ok, length, leased, missed } of this.groups) {
      lines.push(`  group     ${JSON.stringify(name)}: ${plural(length, "record")} to remove, ${leased} leased, ${missed} missed${ok ? "" : "; DAMAGED"}`);
    }
    if (this.log && this.groups.length === 0) lines.push("  groups    none");
    if (this.lost > 0) {
      const gaps = this.gaps.slice(0, 20).map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`));
      if (this.gaps.length > gaps.length) gaps.push(`and ${this.gaps.length - gaps.length} more`);
      lines.push(`  lost      ${plural(this.lost, "record")}: ${gaps.join(", ")}; ${this.behindDamage} whole ones behind`);
    }
    if (this.behindTail > 0) lines.push(`  found     ${plural(this.behindTail, "record")} behind the tail`);
    for (const { code, file, offset, position, bytes, reason } of this.damage) {
      const at = offset === undefined ? "" : ` at ${offset}`;
      const where = position === undefined ? "" : ` (position ${position}${bytes === undefined ? "" : `, ${plural(bytes, "byte")}`})`;
      lines.push(`  damage    [${code}] ${file}${at}${where}: ${reason}`);
    }
    for (const note of this.notes) lines.push(`  note      ${note}`);
    if (this.foreign.length > 0) lines.push(`  foreign   ${this.foreign.join(", ")}`);
    if (this.quarantine !== undefined) lines.push(`  recovered; the files as they were are in ${this.quarantine}`);
    return lines.join("\n");
  }
}
