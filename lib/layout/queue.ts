/**
 * The files of a queue. A queue is a directory with one control file, `control`, and segment files, `segment-<id>`; a log, which is read by
 * groups, has a file `group-<hex digits of the name's UTF-8>` for each group as well, with `.<number>` behind it if the log was rebuilt so
 * often. All numbers are little-endian u64 below 2^53 unless said otherwise.
 *
 * The control file, of a fixed length:
 *
 * ```
 *     0  header           128 bytes, kind queue; fields: segment bytes, most bytes of content (0 = no limit), slots, lease
 *                         entries, spare segments that are kept, 1 = a log, bytes and milliseconds that it retains (0 = no
 *                         limit), how often it was rebuilt
 *   256  marks            2 of 128 bytes: a program's own bytes, as a record whose position is the mark's number, with the tail's
 *                         sequence where a record has its flags. That of an even number is the first
 *  1024  producer lock    owner u64, sleepers u32, waiting u32, bell u32 (csrc/holdfast.h, commit)
 *  1152  producer cells   version, two cells of: PRODUCER words
 *  1536  durable lock
 *  1664  durable cells    version, two cells of: DURABLE words
 *  2048  consumer lock
 *  2176  consumer cells   version, two cells of: CONSUMER words
 *  3072  next segment id  counts up, never used twice
 *  3200  spares           16 ids of segments that are free to be used again, 0 = none
 *  3456  sweep flag       1 while segment files may be left that nobody refers to; or the owner word of who is removing such
 *                        files, whose death is the 1
 *  3584  boot             16 bytes: id of the last boot in which the queue was opened for writing; CRC-32C of them u32, seeded
 *                         with the CRC-32C of the queue's id; 0 u32. Byte 2^50 + 1 is locked by who opens or recovers
 *  4096  slots            64 bytes each: generation, process, thread, PID namespace; byte i of the file is locked by the
 *                         holder of slot i
 *     +  lease entries    64 bytes each: LEASE words
 * ```
 *
 * A segment file, of a fixed length:
 *
 * ```
 *     0  header           128 bytes, kind segment; fields: id, file length
 *   128  base             position of the file's first byte while the segment is part of the queue; 0 while it is free
 *   136  end              offset behind the last record, once the queue has gone on to the next segment
 *   144  next             id of that segment
 *   152  time             sealed; of a log: when it went on to the next segment, milliseconds since 1970
 *   256  records
 * ```
 *
 * A group's file, of a fixed length:
 *
 * ```
 *     0  header           128 bytes, kind group; fields: lease entries, bytes of the name, CRC-32C of the name
 *  2048  consumer lock
 *  2176  consumer cells   version, two cells of: GROUP words
 *  4096  lease entries    64 bytes each: LEASE words
 * ```
 *
 * A record, a multiple of 8 bytes:
 *
 * ```
 *     0  checksum         u32   CRC-32C of all that follows, seeded with the CRC-32C of the queue's id and the position
 *     4  total            u32   bytes of the record
 *     8  payload length   u32
 *    12  flags            u32   0
 *    16  sequence         u64   1, 2, 3, … without a gap, never used twice
 *    24  payload, padding with zeros to a multiple of 8
 *     +  total            u32   once more, so that records can be read backwards
 *     +  reserved         u32   0
 * ```
 *
 * @module
 */

export const CONTROL_NAME = "control";
export const MARKS = 256;
export const MARK_BYTES = 128;
/** Offsets in a mark: those of a record, whose payload begins where a record has its sequence. */
export const MARK_LENGTH = 8;
/** Low 32 bits of the sequence of the first record that the mark does not speak for. */
export const MARK_SEQUENCE = 12;
export const MARK_PAYLOAD = 16;
export const MAX_MARK_BYTES: number = MARK_BYTES - MARK_PAYLOAD;
export const PRODUCER_LOCK = 1024;
export const PRODUCER_CELLS = 1152;
export const DURABLE_LOCK = 1536;
export const DURABLE_CELLS = 1664;
export const CONSUMER_LOCK = 2048;
export const CONSUMER_CELLS = 2176;
export const NEXT_SEGMENT = 3072;
export const SPARES = 3200;
export const MAX_SPARES = 16;
export const SWEEP_FLAG = 3456;
export const BOOT = 3584;
export const BOOT_ID_BYTES = 16;
export const BOOT_BYTES: number = BOOT_ID_BYTES + 8;
/** Locked shared while a handle is opened, exclusively while the queue is recovered. */
export const RECOVERY_OFFSET: number = 2 ** 50 + 1;
export const SLOTS = 4096;
export const SLOT_BYTES = 64;
export const SLOT_COUNT = 1024;
export const LEASES: number = SLOTS + SLOT_COUNT * SLOT_BYTES;
export const LEASE_BYTES = 64;
export const LEASE_COUNT = 4096;
export const CONTROL_BYTES: number = LEASES + LEASE_COUNT * LEASE_BYTES;
/** In a group's file; its consumer lock and cells lie where the control file has them. */
export const GROUP_LEASES = 4096;
export const GROUP_BYTES: number = GROUP_LEASES + LEASE_COUNT * LEASE_BYTES;
export const MAX_GROUP_NAME_BYTES = 100;

/** Words of the producer cell: where the next record goes. */
export const PRODUCER = {
  /** Position of the tail. */
  position: 0,
  /** Segment of the tail, and the offset in it. */
  segment: 1,
  offset: 2,
  /** Sequence of the next record. */
  sequence: 3,
  /** Bytes of all records ever pushed. */
  bytes: 4,
  /** Number of the mark that was committed last; 0 = none yet. */
  mark: 5,
} as const;
export const PRODUCER_WORDS = 6;

/** Words of the durable cell: up to where all records are on storage. It may lag behind, and never lies. */
export const DURABLE = {
  position: 0,
  segment: 1,
  offset: 2,
  /** Sequence of the first record that is not known to be on storage. */
  sequence: 3,
  /** 1 after a sync that failed: what is not on storage may look as if it were. */
  failed: 4,
} as const;
/** Each side has another number of words: the checksum of a cell does not say whose it is, and with as many one would pass for the other. */
export const DURABLE_WORDS = 5;

/** Words of the consumer cell: the cursor, which record is handed out next, and what is leased. */
export const CONSUMER = {
  position: 0,
  segment: 1,
  offset: 2,
  sequence: 3,
  /** Bytes of all records ever handed out. */
  bytes: 4,
  /** Records that are leased: handed out, neither acknowledged nor given back for good. */
  leased: 5,
  leasedBytes: 6,
  /** Oldest segment that holds a record still needed. */
  head: 7,
  /** Lease entries from this one on are free. */
  leaseEnd: 8,
  /** Sum of the seals of the lease entries in use: tells, after a power loss, a table of another moment from that of the cell. */
  leaseSum: 9,
} as const;
export const CONSUMER_WORDS = 10;

/** Words of a group's consumer cell: those of any consumer cell, and two more. */
export const GROUP: Readonly<Record<"headBase" | "missed", number>> = {
  /** Base of the head: what lies before it is no longer needed, or lost. */
  headBase: CONSUMER_WORDS,
  /** Records that the group has not had: the log's limits overtook it. */
  missed: CONSUMER_WORDS + 1,
};
export const GROUP_WORDS: number = CONSUMER_WORDS + 2;

/** Words of a lease entry. */
export const LEASE = {
  /** 0 = free. An entry counts only if its sequence is below that of the consumer cell. */
  sequence: 0,
  /** 0 = given back: free to be handed out again. */
  owner: 1,
  /** On the clock of `hf_clock_ms`; 0 = no limit. */
  deadline: 2,
  /**
   * How often the record was handed out (21 bits), and above it 32 bits of CRC-32C, seeded like the records', of the words that
   * do not change while the entry is in use: sequence, position, segment, offset, bytes.
   */
  attempts: 3,
  position: 4,
  segment: 5,
  offset: 6,
  /** Bytes of the record. */
  bytes: 7,
} as const;
export const LEASE_WORDS = 8;
export const MAX_ATTEMPTS: number = 2 ** 21 - 1;

/** Words of a slot. */
export const SLOT = { generation: 0, process: 1, thread: 2, namespace: 3 } as const;
export const SLOT_WORDS = 4;

export const SEGMENT_WORDS_OFFSET = 128;
/** Words of a segment that change. */
export const SEGMENT = { base: 0, end: 1, next: 2 } as const;
export const SEGMENT_WORDS = 3;
/** A sealed word. */
export const SEGMENT_TIME = 152;
export const RECORDS_OFFSET = 256;
/** Base of the first segment. Not 0, which means free. */
export const FIRST_BASE = 4096;

export const RECORD_TOTAL = 4;
export const RECORD_LENGTH = 8;
export const RECORD_SEQUENCE = 16;
export const RECORD_PAYLOAD = 24;
export const RECORD_TRAILER_BYTES = 8;
/** Longest payload: the record's length is a u32, and a typed array of it must be possible everywhere. */
export const MAX_PAYLOAD_BYTES: number = 2 ** 30;

/** Bytes of the record of a payload. */
export function recordBytes(payloadBytes: number): number {
  // The bytes of 3 for every UTF-16 unit of a long text do not fit into 32 bits.
  return payloadBytes < 0x7fff_fff8 ? RECORD_PAYLOAD + ((payloadBytes + 7) & ~7) + RECORD_TRAILER_BYTES : RECORD_PAYLOAD + Math.ceil(payloadBytes / 8) * 8 + RECORD_TRAILER_BYTES;
}

/** Name of a segment's file. */
export function segmentName(id: number): string {
  return `segment-${id}`;
}

/** The id in a segment's file name; undefined for another name. */
export function segmentId(name: string): number | undefined {
  const match = /^segment-([1-9][0-9]{0,15})$/.exec(name);
  return match === null ? undefined : Number(match[1]);
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Name of a group's file, of a log that was rebuilt so often. */
export function groupFileName(group: string, rebuilt = 0): string {
  const digits = Array.from(encoder.encode(group), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `group-${digits}${rebuilt === 0 ? "" : `.${rebuilt}`}`;
}

/** The group of a file name, and how often the log had been rebuilt; undefined for another name. */
export function groupOfFile(name: string): { readonly group: string; readonly rebuilt: number } | undefined {
  const [, digits, rebuilt = "0"] = /^group-((?:[0-9a-f]{2})+)(?:\.([1-9][0-9]{0,14}))?$/.exec(name) ?? [];
  if (digits === undefined || digits.length > 2 * MAX_GROUP_NAME_BYTES) return undefined;
  try {
    const bytes = Uint8Array.from({ length: digits.length / 2 }, (_, i) => parseInt(digits.slice(2 * i, 2 * i + 2), 16));
    return { group: decoder.decode(bytes), rebuilt: Number(rebuilt) };
  } catch {
    return undefined;
  }
}

/** Whether a name is that of a group's file which is being made, or whose maker died. */
export function isUnfinishedGroup(name: string): boolean {
  return /^\.group-[0-9a-f]+(\.[0-9]+)?\.[0-9a-f]{16}\.tmp$/.test(name);
}
