/**
 * The one place that makes errors: their classes, codes and wording.
 *
 * @module
 */
import { constants } from "node:os";
import { builtin } from "./builtins.ts";
import { codes } from "./native/symbols.ts";

/** The system error numbers that the library itself looks for, as this platform counts them. */
export const errno: Readonly<Record<"EAGAIN" | "EINVAL" | "EIO" | "EOPNOTSUPP" | "ETIMEDOUT", number>> = {
  EAGAIN: constants.errno.EAGAIN,
  EINVAL: constants.errno.EINVAL,
  EIO: constants.errno.EIO,
  EOPNOTSUPP: constants.errno.EOPNOTSUPP,
  ETIMEDOUT: constants.errno.ETIMEDOUT,
};

/**
 * What a {@linkcode MapError} may know besides its code.
 *
 * @example
 * ```ts
 * import { MapError, type MapErrorDetails } from "holdfast";
 * const details: MapErrorDetails = { path: "/tmp/x" };
 * new MapError("ERR_CODEC", "no such version", details).message; // "ERR_CODEC: no such version"
 * ```
 */
export interface MapErrorDetails {
  /** The negated system error number. */
  readonly errno?: number | undefined;
  /** The system call that failed. */
  readonly syscall?: string | undefined;
  /** The file that it was about. */
  readonly path?: string | undefined;
  /** The error that this one comes from. */
  readonly cause?: unknown;
}

/**
 * A failure that lies outside the program: the system said no, the file is not what it should be, or the object is closed.
 * Shaped like the errors of `node:fs`.
 *
 * @example
 * ```ts
 * import { MapError, Mapping } from "holdfast";
 * try {
 *   Mapping.open("missing.bin");
 * } catch (error) {
 *   if (!(error instanceof MapError) || error.code !== "ENOENT") throw error;
 *   console.log(error.message); // ENOENT: no such file or directory, open 'missing.bin'
 *   console.log(error.syscall, error.path); // open missing.bin
 *   error.errno === undefined; // false
 * }
 * ```
 */
export class MapError extends Error {
  /** A system error's name such as "ENOENT", or one of holdfast's own: `ERR_CLOSED`, `ERR_READ_ONLY`, `ERR_FAULT`, …; docs/errors.md has all of them. */
  readonly code: string;
  /** The negated system error number, where the system said no. */
  readonly errno?: number;
  /** The system call that failed. */
  readonly syscall?: string;
  /** The file that it was about. */
  readonly path?: string;

  /** The message becomes `code: message`. The library makes these errors itself; a codec of your own may throw one, too. */
  constructor(code: string, message: string, details: MapErrorDetails = {}) {
    super(`${code}: ${message}`, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "MapError";
    this.code = code;
    if (details.errno !== undefined) this.errno = details.errno;
    if (details.syscall !== undefined) this.syscall = details.syscall;
    if (details.path !== undefined) this.path = details.path;
  }
}

/** What the runtimes call otherwise than the manual pages do. */
const SYSTEM_ERRORS: ReadonlyMap<number, readonly [code: string, text: string]> = new Map([
  [-constants.errno.EOPNOTSUPP, ["EOPNOTSUPP", "operation not supported"]],
]);

/** The error of a system call: `ENOENT: no such file or directory, open 'x'`. `note` is added at the end. */
export function systemError(errno: number, syscall: string, path?: string, note?: string): MapError {
  const [code, text] = SYSTEM_ERRORS.get(errno) ?? builtin("node:util").getSystemErrorMap().get(errno) ?? [`E${-errno}`, "unknown system error"];
  const where = path === undefined ? "" : ` '${path}'`;
  const hint = note === undefined ? "" : ` (${note})`;
  return new MapError(code, `${text}, ${syscall}${where}${hint}`, { errno, syscall, path });
}

/**
 * A `MapError` for what `node:fs` threw, so that callers see one class; anything that is no system error stays as it is. It speaks
 * of `path`, which may be another than the one that the call was given: a temporary name says nothing to the user.
 */
export function fromFileSystem(error: unknown, path: string): unknown {
  const { name, code, errno, syscall } = error as NodeJS.ErrnoException;
  if (error instanceof Error && (name === "NotCapable" || code === "ERR_ACCESS_DENIED")) {
    // Their messages name the flag that is missing.
    return new MapError("ERR_ACCESS_DENIED", `the program may not use '${path}': ${error.message}`, { path, cause: error });
  }
  if (!(error instanceof Error) || code === undefined || syscall === undefined) return error;
  if (errno !== undefined && builtin("node:util").getSystemErrorMap().has(errno)) return systemError(errno, syscall, path);
  const text = error.message.startsWith(`${code}: `) ? error.message.slice(code.length + 2) : error.message;
  return new MapError(code, `${text}, ${syscall} '${path}'`, { errno, syscall, path, cause: error });
}

const OWN_CODES: ReadonlyMap<number, readonly [code: string, text: string]> = new Map([
  [codes.INVAL, ["EINVAL", "the native library refused an argument"]],
  [codes.CORRUPT, ["ERR_CORRUPT", "a checksum or a length does not hold"]],
  [codes.OWNER, ["ERR_LOST_LOCK", "the lock is no longer this handle's; nothing was published"]],
  [codes.FAULT, ["ERR_FAULT", "a page of the mapping is gone: the file was cut short"]],
  [codes.UNSUPPORTED, ["EOPNOTSUPP", "this platform has no such call"]],
]);

/** The error for a negative result of a native function. */
export function nativeError(result: number, syscall: string, path?: string, note?: string): MapError {
  if (result >= -4095) return systemError(result, syscall, path, note);
  const [code, text] = OWN_CODES.get(result) ?? ["EINVAL", `unexpected result ${result}`];
  const where = path === undefined ? "" : ` '${path}'`;
  return new MapError(code, `${text}, ${syscall}${where}${note === undefined ? "" : ` (${note})`}`, { syscall, path });
}

/** `result` if it is no failure; throws {@linkcode nativeError} otherwise. */
export function check(result: number, syscall: string, path?: string, note?: string): number {
  if (result < 0) throw nativeError(result, syscall, path, note);
  return result;
}

/** The error of any use after `close()`. */
export function closedError(what: string, path?: string): MapError {
  return new MapError("ERR_CLOSED", `the ${what} is closed${path === undefined ? "" : ` '${path}'`}`, { path });
}

/** The error of a write through something opened for reading. */
export function readOnlyError(what: string, path?: string): MapError {
  const where = path === undefined ? "" : ` '${path}'`;
  return new MapError("ERR_READ_ONLY", `the ${what} was opened with mode "r"; open it with mode "rw" to write${where}`, { path });
}

/** A value as an error message shows it: short, and never a getter's side effect. */
export function show(value: unknown): string {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value.length > 64 ? `${value.slice(0, 64)}…` : value);
    case "bigint":
      return `${value}n`;
    case "symbol":
      return value.toString();
    case "function":
      return `function ${value.name}`;
    case "object":
      return value === null ? "null" : `an instance of ${(value as object).constructor?.name ?? "Object"}`;
    default:
      return String(value);
  }
}

function coded<E extends Error>(error: E, code: string): E & { code: string } {
  return Object.assign(error, { code });
}

/** `ERR_INVALID_ARG_TYPE`: `name` must be `expected`. */
export function invalidType(name: string, expected: string, value: unknown): TypeError & { code: string } {
  return coded(new TypeError(`"${name}" must be ${expected}; received ${show(value)}`), "ERR_INVALID_ARG_TYPE");
}

/** `ERR_INVALID_ARG_TYPE` with a message of its own. */
export function typeError(message: string, cause?: unknown): TypeError & { code: string } {
  return coded(new TypeError(message, cause === undefined ? undefined : { cause }), "ERR_INVALID_ARG_TYPE");
}

/** `ERR_OUT_OF_RANGE`: `name` must be `requirement`. */
export function outOfRange(name: string, requirement: string, value: unknown): RangeError & { code: string } {
  return coded(new RangeError(`"${name}" must be ${requirement}; received ${show(value)}`), "ERR_OUT_OF_RANGE");
}

/** `ERR_OUT_OF_RANGE` with a message of its own. */
export function rangeError(message: string): RangeError & { code: string } {
  return coded(new RangeError(message), "ERR_OUT_OF_RANGE");
}
