/** Assertions about errors. */
import assert from "node:assert/strict";
import { MapError } from "../../mod.ts";

export interface Expected {
  readonly type: typeof TypeError | typeof RangeError | typeof MapError;
  readonly code: string;
  /** What the message must say. */
  readonly message?: RegExp;
  readonly syscall?: string;
  readonly path?: string;
}

/** Asserts that `error` is as expected. */
export function assertError(error: unknown, expected: Expected): void {
  assert.ok(error instanceof Error, `not an Error: ${String(error)}`);
  const { type, code, message, syscall, path } = expected;
  const text = `${error.name} ${(error as { code?: string }).code}: ${error.message}`;
  assert.ok(error instanceof type, `expected a ${type.name}, got ${text}`);
  assert.equal((error as Error & { code?: string }).code, code, text);
  if (message !== undefined) assert.match(error.message, message);
  if (error instanceof MapError) assert.ok(error.message.startsWith(`${code}: `), text);
  if (syscall !== undefined) assert.equal((error as MapError).syscall, syscall, text);
  if (path !== undefined) assert.equal((error as MapError).path, path, text);
}

/** Asserts that `call` throws what is expected. `what` names the case. */
export function assertThrows(call: () => unknown, expected: Expected, what = ""): void {
  let returned: unknown;
  try {
    returned = call();
  } catch (error) {
    assertError(error, expected);
    return;
  }
  assert.fail(`nothing was thrown${what === "" ? "" : ` by ${what}`}; ${expected.code} was expected, ${String(returned)} was returned`);
}

/** The same for a promise. */
export async function assertRejects(call: () => Promise<unknown>, expected: Expected): Promise<void> {
  let returned: unknown;
  try {
    returned = await call();
  } catch (error) {
    assertError(error, expected);
    return;
  }
  assert.fail(`the promise was fulfilled with ${String(returned)}; ${expected.code} was expected`);
}

export const typeError = (message?: RegExp): Expected => expected(TypeError, "ERR_INVALID_ARG_TYPE", message);
export const rangeError = (message?: RegExp): Expected => expected(RangeError, "ERR_OUT_OF_RANGE", message);
export const mapError = (code: string, message?: RegExp): Expected => expected(MapError, code, message);

function expected(type: Expected["type"], code: string, message: RegExp | undefined): Expected {
  return message === undefined ? { type, code } : { type, code, message };
}
