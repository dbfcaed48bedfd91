/**
 * The one place that checks arguments and options. Runtimes wrap wrong numbers silently at the FFI, so nothing gets there
 * unchecked.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { invalidType, outOfRange, rangeError, show, typeError } from "./errors.ts";

/** `value` as an integer in `min`..`max`. A wrong type is a TypeError, everything else a RangeError. */
export function checkInteger(name: string, value: unknown, min: number, max: number): number {
  if (typeof value !== "number") throw invalidType(name, "a number", value);
  if (!Number.isSafeInteger(value) || value < min || value > max) {
    const range = max === Number.MAX_SAFE_INTEGER ? `>= ${min}` : `>= ${min} and <= ${max}`;
    throw outOfRange(name, `an integer ${range}`, value);
  }
  return value;
}

/** Throws unless `length` bytes from `offset` lie within `total`. Safe against overflow: nothing is added. */
export function checkRange(offset: unknown, length: unknown, total: number): void {
  // The case that makes the speed: safe integers within bounds.
  if (Number.isSafeInteger(offset) && Number.isSafeInteger(length)) {
    if ((offset as number) >= 0 && (length as number) >= 0 && (length as number) <= total - (offset as number)) return;
  }
  const start = checkInteger("offset", offset, 0, Number.MAX_SAFE_INTEGER);
  const bytes = checkInteger("length", length, 0, Number.MAX_SAFE_INTEGER);
  if (start > total || bytes > total - start) {
    throw rangeError(`${bytes} bytes from offset ${start} do not lie within the ${total} bytes that there are`);
  }
}

/** How an option is checked: its value in, the checked value out. */
export type OptionCheck<T> = (name: string, value: unknown) => T;

export const boolean: OptionCheck<boolean> = (name, value) => {
  if (typeof value !== "boolean") throw invalidType(name, "a boolean", value);
  return value;
};

export const string: OptionCheck<string> = (name, value) => {
  if (typeof value !== "string") throw invalidType(name, "a string", value);
  return value;
};

export const abortSignal: OptionCheck<AbortSignal> = (name, value) => {
  if (!(value instanceof AbortSignal)) throw invalidType(name, "an AbortSignal", value);
  return value;
};

/** An integer option in `min`..`max`. */
export function integer(min: number, max: number = Number.MAX_SAFE_INTEGER): OptionCheck<number> {
  return (name, value) => checkInteger(name, value, min, max);
}

/** An option that is one of some words. */
export function oneOf<const T extends string>(...words: readonly T[]): OptionCheck<T> {
  const list = words.map((word) => `"${word}"`).join(" or ");
  return (name, value) => {
    if (typeof value !== "string") throw invalidType(name, list, value);
    if (!words.includes(value as T)) throw outOfRange(name, list, value);
    return value as T;
  };
}

type Checked<Checks extends Record<string, OptionCheck<unknown>>> = {
  [Name in keyof Checks]?: ReturnType<Checks[Name]>;
};

/**
 * The options of `what`, each checked. Unknown names are a TypeError that lists the known ones; `undefined` counts as not
 * given.
 */
export function checkOptions<Checks extends Record<string, OptionCheck<unknown>>>(
  what: string,
  options: unknown,
  checks: Checks,
): Checked<Checks> {
  if (options === undefined) return {};
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    throw invalidType("options", "an object", options);
  }
  const result: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(options)) {
    const checkOption = Object.hasOwn(checks, name) ? checks[name] : undefined;
    if (checkOption === undefined) {
      throw typeError(`${what} has no option "${name}"; it has ${Object.keys(checks).join(", ")}`);
    }
    if (value !== undefined) result[name] = checkOption(name, value);
  }
  return result as Checked<Checks>;
}

function fromUrl(name: string, url: URL): string {
  try {
    return fileURLToPath(url);
  } catch {
    throw invalidType(name, "a string or a file: URL of this machine", url.href);
  }
}

/** A path as a string. URLs must be `file:`; a NUL byte is refused here, since C would cut the path there. */
export function checkPath(name: string, path: unknown): string {
  const text = path instanceof URL ? fromUrl(name, path) : path;
  if (typeof text !== "string") throw invalidType(name, "a string or a file: URL", path);
  if (text === "") throw outOfRange(name, "a path that is not empty", text);
  if (text.includes("\0")) throw outOfRange(name, "a path without NUL bytes", text);
  return text;
}

const textEncoder = new TextEncoder();

/** Bytes of a string (UTF-8) or a byte array. */
export function checkBytes(name: string, data: unknown): Uint8Array {
  if (typeof data === "string") return textEncoder.encode(data);
  if (!(data instanceof Uint8Array)) throw invalidType(name, "a string or a Uint8Array", data);
  return data;
}

/** A name of 1 to `max` bytes of UTF-8, without a lone surrogate, for which there is no UTF-8. */
export function checkName(name: string, value: unknown, max: number): string {
  if (typeof value !== "string") throw invalidType(name, "a string", value);
  if (!value.isWellFormed()) throw outOfRange(name, "a string without lone surrogates", value);
  const bytes = textEncoder.encode(value).byteLength;
  if (bytes === 0 || bytes > max) throw outOfRange(name, `1 to ${max} bytes of UTF-8`, value);
  return value;
}

/** An operand or value of a 64-bit cell in number form. */
export function checkSafe(name: string, value: number): void {
  if (!Number.isSafeInteger(value)) throw outOfRange(name, "an integer within ±(2^53 - 1), or a bigint", value);
}

/**
 * A bigint as a signed 64-bit pattern: -2^63..2^63-1 as they are, 2^63..2^64-1 wrapped. Beyond, a RangeError, since the
 * pattern would be another number.
 */
export function checkBigInt(name: string, value: bigint): bigint {
  if (value < -(2n ** 63n) || value >= 2n ** 64n) throw outOfRange(name, "a bigint of 64 bits", value);
  return BigInt.asIntN(64, value);
}

/** The error for an operand that is neither number nor bigint. */
export function notNumeric(name: string, value: unknown): TypeError {
  return invalidType(name, "a number or a bigint", value);
}

/** The error for a pair of operands of which one is a number and one a bigint. */
export function mixedForms(first: string, second: string, value: unknown): TypeError {
  return typeError(`"${first}" and "${second}" must both be numbers or both be bigints; received ${show(value)}`);
}
