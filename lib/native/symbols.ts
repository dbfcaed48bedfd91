/**
 * THE table of native functions: one line each, in the order of csrc/holdfast.h. Everything that crosses is a double
 * (`name`) or the start of a buffer (`*name`); every result is a double. A test holds this table to the header and to the
 * symbols that the library exports; the types that the adapters and callers use are derived from it.
 *
 * @module
 */

/** The ABI version that this table describes, `HF_ABI_VERSION` of the header. */
export const ABI_VERSION = 7;

/** Parameter names of each native function. */
export const symbols = {
  hf_abi_version: [],
  hf_page_size: [],
  hf_address_of: ["*buffer"],
  hf_clock_ms: [],
  hf_thread_id: [],
  hf_pid_namespace: [],
  hf_thread_alive: ["process", "thread"],
  hf_boot_id: ["bytes"],
  hf_map: ["fd", "offset", "length", "flags", "address"],
  hf_unmap: ["address", "length"],
  hf_replace: ["address", "length"],
  hf_reserve: ["fd", "offset", "length"],
  hf_punch: ["fd", "offset", "length"],
  hf_lock_pages: ["address", "length", "lock"],
  hf_advise: ["address", "length", "advice"],
  hf_resident: ["address", "length"],
  hf_sync: ["address", "length", "wait"],
  hf_sync_file: ["fd", "data_only"],
  hf_load64: ["address", "unused"],
  hf_store64: ["address", "value"],
  hf_add64: ["address", "operand"],
  hf_sub64: ["address", "operand"],
  hf_and64: ["address", "operand"],
  hf_or64: ["address", "operand"],
  hf_xor64: ["address", "operand"],
  hf_exchange64: ["address", "operand"],
  hf_cas64: ["address", "expected", "replacement"],
  hf_store64_release: ["address", "value"],
  hf_load64_exact: ["address", "words"],
  hf_store64_exact: ["address", "words"],
  hf_add64_exact: ["address", "words"],
  hf_sub64_exact: ["address", "words"],
  hf_and64_exact: ["address", "words"],
  hf_or64_exact: ["address", "words"],
  hf_xor64_exact: ["address", "words"],
  hf_exchange64_exact: ["address", "words"],
  hf_cas64_exact: ["address", "words"],
  hf_float_load: ["address", "unused"],
  hf_float_store: ["address", "value"],
  hf_float_add: ["address", "operand"],
  hf_guard_install: [],
  hf_region_broken: ["address"],
  hf_copy_out: ["*target", "target_offset", "source", "length"],
  hf_copy_in: ["target", "*source", "source_offset", "length"],
  hf_copy: ["target", "source", "length"],
  hf_crc32c: ["seed", "address", "length"],
  hf_lock_range: ["fd", "offset", "length", "kind"],
  hf_lock_probe: ["fd", "offset", "length"],
  hf_wait32: ["address", "expected", "timeout_ms"],
  hf_wake32: ["address", "count"],
  hf_wait_any: ["waits", "count", "timeout_ms"],
  hf_cell_read: ["cells", "count", "salt", "values"],
  hf_cell_init: ["cells", "count", "salt", "values"],
  hf_begin: ["lock", "owner", "cells", "count", "salt", "values"],
  hf_commit: ["lock", "owner", "cells", "count", "salt", "values"],
  hf_publish: ["lock", "owner", "cells", "count", "salt", "values"],
  hf_unlock: ["lock", "owner"],
  hf_lock_sleep: ["lock", "owner", "timeout_ms"],
  hf_expect: ["lock", "unused"],
  hf_ring: ["lock", "count"],
  hf_sealed_load: ["address", "salt"],
  hf_sealed_store: ["address", "value", "salt"],
  hf_sealed_cas: ["address", "expected", "replacement", "salt"],
  hf_record_write: ["target", "source", "length", "salt", "position"],
  hf_record_read: ["target", "capacity", "source", "limit", "salt", "position"],
  hf_records_write: ["target", "source", "length", "salt", "position"],
  hf_records_read: ["target", "capacity", "source", "limit", "count", "salt", "position"],
  hf_words_load: ["address", "count", "values"],
  hf_words_store: ["address", "count", "values"],
  hf_words_checksum: ["count", "salt", "values"],
  hf_side_init: ["side", "lock", "owner", "cells", "count", "salt", "record_salt"],
  hf_side_tail: ["side", "cells", "values"],
  hf_side_segment: ["side", "id", "address", "length", "end", "base"],
  hf_side_limit: ["side", "bytes"],
  hf_append: ["side", "payload", "length"],
  hf_append_bytes: ["side", "*payload", "length"],
  hf_front: ["side", "target", "capacity"],
  hf_pass: ["side", "length"],
} as const;

type Symbols = typeof symbols;
type Argument<Name extends string> = Name extends `*${string}` ? Uint8Array : number;
type Arguments<Names extends readonly string[]> = { [I in keyof Names]: Argument<Names[I]> };

/** The native functions as TypeScript sees them. */
export type NativeFunctions = {
  readonly [Name in keyof Symbols]: (...args: Arguments<Symbols[Name]>) => number;
};

/** Own result codes of the library (`HF_E_…` in the header); everything in -4095..-1 is a negated errno. */
export const codes: Readonly<Record<"INVAL" | "UNSAFE" | "CORRUPT" | "BUSY" | "OWNER" | "FAULT" | "UNSUPPORTED", number>> = {
  INVAL: -(2 ** 63),
  UNSAFE: -(2 ** 64),
  CORRUPT: -(2 ** 65),
  BUSY: -(2 ** 66),
  OWNER: -(2 ** 67),
  FAULT: -(2 ** 68),
  UNSUPPORTED: -(2 ** 69),
};

/** `HF_MAP_…` flags of the header. */
export const mapFlags = {
  WRITE: 1,
  PRIVATE: 2,
  ANONYMOUS: 4,
  SHARED_VALIDATE: 8,
  POPULATE: 16,
  NONBLOCK: 32,
  NORESERVE: 64,
  HUGE_2M: 128,
  HUGE_1G: 256,
  SYNC: 512,
  FIXED: 1024,
  UNINITIALIZED: 2048,
  NO_CACHE: 4096,
} as const;

/**
 * How pages will be used: see {@linkcode Mapping.advise}.
 *
 * @example
 * ```ts
 * import { type Advice, Mapping } from "holdfast";
 * using mapping = Mapping.anonymous(1 << 20);
 * const hints: Advice[] = ["random", "willneed"];
 * for (const hint of hints) mapping.advise(hint);
 * ```
 */
export type Advice =
  | "normal"
  | "random"
  | "sequential"
  | "willneed"
  | "dontneed"
  | "hugepage"
  | "nohugepage"
  | "cold"
  | "pageout"
  | "populate-read"
  | "populate-write"
  | "dontdump"
  | "dodump"
  | "dontfork"
  | "dofork";

/** `HF_ADVISE_…` hints of the header, by the names that users know them by. */
export const advices: Readonly<Record<Advice, number>> = {
  normal: 0,
  random: 1,
  sequential: 2,
  willneed: 3,
  dontneed: 4,
  hugepage: 5,
  nohugepage: 6,
  cold: 7,
  pageout: 8,
  "populate-read": 9,
  "populate-write": 10,
  dontdump: 11,
  dodump: 12,
  dontfork: 13,
  dofork: 14,
};

/** `HF_LOCK_…` kinds of the header. */
export const lockKinds = { NONE: 0, SHARED: 1, EXCLUSIVE: 2 } as const;

/** Layout of a lock, `HF_LOCKWORD_BYTES` and `HF_BELL_OFFSET` of the header. */
export const LOCKWORD_BYTES = 24;
export const BELL_OFFSET = 16;

/** Layout of a commit cell pair, `HF_CELL_…` of the header. */
export const CELL_PAIR_BYTES = 384;

/** A side, `HF_SIDE_…` of the header. */
export const SIDE_BYTES = 256;
export const SIDE_VALUES = 128;
