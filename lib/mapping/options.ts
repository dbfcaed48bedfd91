/**
 * The options of mappings: their documentation, their checks, and the flags that they become.
 *
 * @module
 */
import { boolean, checkOptions, integer, oneOf, type OptionCheck } from "../checks.ts";
import { errno, invalidType, MapError, nativeError, outOfRange, typeError } from "../errors.ts";
import { codes, mapFlags } from "../native/symbols.ts";

/**
 * What `debug` calls: a step's name and its figures.
 *
 * @example
 * ```ts
 * import { type DebugListener, Mapping } from "holdfast";
 * const steps: string[] = [];
 * const debug: DebugListener = (step) => steps.push(step);
 * Mapping.anonymous(4096, { debug }).close();
 * steps; // ["map", "close"]
 * ```
 */
export type DebugListener = (step: string, details: Readonly<Record<string, unknown>>) => void;

/**
 * Options that files and anonymous memory share.
 *
 * @example
 * ```ts
 * import { Mapping, type MemoryOptions } from "holdfast";
 * const options: MemoryOptions = { populate: true, growthLimit: 1 << 20, reserve: false };
 * using memory = Mapping.anonymous(1 << 20, options);
 * memory.resize(); // 2097152
 * ```
 */
export interface MemoryOptions {
  /**
   * "shared" (the default): writes go to the file, and to all who map it. "private": writes stay in this process, copied page by
   * page. "shared-validate": as shared, with every flag checked by the kernel.
   */
  sharing?: "shared" | "private" | "shared-validate";
  /** `resize()` is refused with `ERR_FIXED_SIZE`. */
  fixedSize?: boolean;
  /** `resize()` without a size doubles below this many bytes and adds as many above. Default 64 MiB. */
  growthLimit?: number;
  /** Fault all pages in at once instead of one by one (MAP_POPULATE). */
  populate?: boolean;
  /** With `populate`: only pages that are in memory already (MAP_NONBLOCK). */
  nonBlocking?: boolean;
  /** `false`: set no swap space aside (MAP_NORESERVE). */
  reserve?: boolean;
  /** Keep the pages in memory (mlock(2)); `ENOMEM` or `EPERM` beyond what the system allows. */
  lockPages?: boolean;
  /** Pages of 2 MiB or 1 GiB (MAP_HUGETLB): anonymous memory, or a file on hugetlbfs. `true` means "2M". */
  hugePages?: boolean | "2M" | "1G";
  /** Address to map at, a multiple of the page size; a wish unless `fixed`. */
  address?: number;
  /** Map at `address` and nowhere else (MAP_FIXED_NOREPLACE): `EEXIST` if something is mapped there. */
  fixed?: boolean;
  /** Do not cache (macOS); `EOPNOTSUPP` elsewhere. */
  noCache?: boolean;
  /** Memory with whatever is in it (MAP_UNINITIALIZED); `EOPNOTSUPP` on systems with memory protection, all that run here. */
  uninitialized?: boolean;
  /** `true` writes each step to the standard error stream; a function gets it. */
  debug?: boolean | DebugListener;
}

/**
 * Options of {@linkcode Mapping.open}.
 *
 * @example
 * ```ts
 * import { Mapping, type MappingOptions } from "holdfast";
 * const options: MappingOptions = { create: true, byteLength: 4096, permissions: 0o600, guard: true, autoUnlink: true };
 * using mapping = Mapping.open("/tmp/example-options.bin", options);
 * mapping.existed; // false, unless it was there
 * ```
 */
export interface MappingOptions extends MemoryOptions {
  /** "rw" (the default) maps for reading and writing, "r" for reading only. */
  mode?: "r" | "rw";
  /** Create the file if it is missing. Default false: a missing file is `ENOENT`. */
  create?: boolean;
  /** With `create`: an existing file is `EEXIST`. */
  exclusive?: boolean;
  /** Discard the content that is there. */
  truncate?: boolean;
  /**
   * Bytes of a new file, from `offset` on; a smaller one grows to it, with zeros and with its storage reserved (`ENOSPC` otherwise, the
   * file then as it was). A larger file stays as it is.
   */
  byteLength?: number;
  /** First byte of the file that is mapped; any byte. The mapping reaches to the end of the file. */
  offset?: number;
  /** Access bits of a new file, before the umask. Default 0o600: the owner only. */
  permissions?: number;
  /** Remove the file when the mapping is closed or collected, or the process exits; not if it is another file by then. */
  autoUnlink?: boolean;
  /** Persistent memory with synchronous page faults (MAP_SYNC); `EOPNOTSUPP` on file systems without it. */
  sync?: boolean;
  /**
   * Lock the range of each `pread`, `preadInto` and `pwrite` against others that do the same, in this or another process: a reader
   * never sees half of a write. `ERR_LOCKED` after ten seconds.
   */
  guard?: boolean;
}

const hugePages: OptionCheck<boolean | "2M" | "1G"> = (name, value) => {
  if (typeof value === "boolean" || value === "2M" || value === "1G") return value;
  if (typeof value !== "string") throw invalidType(name, 'a boolean, "2M" or "1G"', value);
  throw outOfRange(name, '"2M" or "1G"', value);
};

const debug: OptionCheck<boolean | DebugListener> = (name, value) => {
  if (typeof value !== "boolean" && typeof value !== "function") throw invalidType(name, "a boolean or a function", value);
  return value as boolean | DebugListener;
};

const MEMORY_CHECKS = {
  sharing: oneOf("shared", "private", "shared-validate"),
  fixedSize: boolean,
  growthLimit: integer(1),
  populate: boolean,
  nonBlocking: boolean,
  reserve: boolean,
  lockPages: boolean,
  hugePages,
  address: integer(1),
  fixed: boolean,
  noCache: boolean,
  uninitialized: boolean,
  debug,
};

const FILE_CHECKS = {
  ...MEMORY_CHECKS,
  mode: oneOf("r", "rw"),
  create: boolean,
  exclusive: boolean,
  truncate: boolean,
  byteLength: integer(1),
  offset: integer(0),
  permissions: integer(0, 0o7777),
  autoUnlink: boolean,
  sync: boolean,
  guard: boolean,
};

const DEFAULT_GROWTH_LIMIT: number = 64 << 20;

/** Options of anonymous memory and files with their defaults. */
export type MemoryPlan = Required<Omit<MemoryOptions, "address" | "debug">> & {
  readonly address: number;
  readonly sync: boolean;
  readonly debug: DebugListener | undefined;
};

export type FilePlan = MemoryPlan & Required<Omit<MappingOptions, keyof MemoryOptions | "byteLength">> & { readonly byteLength: number | undefined };

function report(step: string, details: Readonly<Record<string, unknown>>): void {
  console.error(`holdfast: ${step} ${JSON.stringify(details)}`);
}

function memoryPlan(given: Partial<MemoryOptions> & { sync?: boolean }): MemoryPlan {
  const { fixed = false, address = 0, nonBlocking = false, populate = false } = given;
  if (fixed && address === 0) throw typeError('"fixed" needs "address"');
  if (nonBlocking && !populate) throw typeError('"nonBlocking" needs "populate"');
  const { debug: listener } = given;
  return {
    sharing: given.sharing ?? "shared",
    fixedSize: given.fixedSize ?? false,
    growthLimit: given.growthLimit ?? DEFAULT_GROWTH_LIMIT,
    populate,
    nonBlocking,
    reserve: given.reserve ?? true,
    lockPages: given.lockPages ?? false,
    hugePages: given.hugePages ?? false,
    address,
    fixed,
    noCache: given.noCache ?? false,
    uninitialized: given.uninitialized ?? false,
    sync: given.sync ?? false,
    debug: listener === true ? report : typeof listener === "function" ? listener : undefined,
  };
}

/** The checked options of anonymous memory. */
export function anonymousPlan(options: unknown): MemoryPlan {
  return memoryPlan(checkOptions("Mapping.anonymous()", options, MEMORY_CHECKS) as MemoryOptions);
}

/** The checked options of a file. */
export function filePlan(options: unknown): FilePlan {
  const given = checkOptions("Mapping.open()", options, FILE_CHECKS) as MappingOptions;
  const { mode = "rw", create = false, exclusive = false, truncate = false, offset = 0, sharing } = given;
  if (mode === "r" && (create || truncate)) throw typeError('"create" and "truncate" need mode "rw"');
  if (exclusive && !create) throw typeError('"exclusive" needs "create"');
  if (given.sync === true && sharing === "private") throw typeError('"sync" needs shared pages, not "sharing" "private"');
  return {
    ...memoryPlan(given as MemoryOptions),
    mode,
    create,
    exclusive,
    truncate,
    byteLength: given.byteLength,
    offset,
    permissions: given.permissions ?? 0o600,
    autoUnlink: given.autoUnlink ?? false,
    guard: given.guard ?? false,
  };
}

/** The `HF_MAP_…` flags of a plan, without WRITE and ANONYMOUS. */
export function planFlags(plan: MemoryPlan): number {
  let flags = 0;
  if (plan.sharing === "private") flags |= mapFlags.PRIVATE;
  if (plan.sharing === "shared-validate") flags |= mapFlags.SHARED_VALIDATE;
  if (plan.populate && plan.sharing !== "private") flags |= mapFlags.POPULATE;
  if (plan.nonBlocking) flags |= mapFlags.NONBLOCK;
  if (!plan.reserve) flags |= mapFlags.NORESERVE;
  if (plan.hugePages !== false) flags |= plan.hugePages === "1G" ? mapFlags.HUGE_1G : mapFlags.HUGE_2M;
  if (plan.sync) flags |= mapFlags.SYNC;
  if (plan.fixed) flags |= mapFlags.FIXED;
  if (plan.noCache) flags |= mapFlags.NO_CACHE;
  if (plan.uninitialized) flags |= mapFlags.UNINITIALIZED;
  return flags;
}

/** Bytes of which the mapping's length must be a multiple. */
export function planGranularity(plan: MemoryPlan): number {
  if (plan.hugePages === false) return 1;
  return plan.hugePages === "1G" ? 2 ** 30 : 2 ** 21;
}

/** The options that a platform or file system may lack. */
const SPECIAL = ["hugePages", "sync", "noCache", "uninitialized", "fixed"] as const;

/** The error of an mmap(2) that the system refused: it names the options that it may have been for. */
export function mapRefusal(plan: MemoryPlan, path: string | undefined): (result: number) => Error {
  return (result) => {
    const special: string[] = SPECIAL.filter((name) => plan[name] !== false);
    if (plan.sharing === "shared-validate") special.push("sharing");
    if (special.length === 0) return nativeError(result, "mmap", path);
    const named = special.map((name) => `"${name}"`).join(", ");
    const lacking = result === codes.UNSUPPORTED || result === codes.INVAL || result === -errno.EOPNOTSUPP || (result === -errno.EINVAL && !plan.fixed);
    if (!lacking) return nativeError(result, "mmap", path, `with option ${named}`);
    const where = path === undefined ? "" : ` '${path}'`;
    const text = `this platform or file system does not support option ${named}, mmap${where}`;
    return new MapError("EOPNOTSUPP", text, { errno: -errno.EOPNOTSUPP, syscall: "mmap", path });
  };
}
