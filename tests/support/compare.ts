/** What the programs of the documents compare themselves with: see documents.ts. */
import assert from "node:assert/strict";

/** What `line` shows must be what it says. */
export function compareValue(actual: unknown, expected: unknown, line: string): void {
  assert.deepEqual(actual instanceof Uint8Array ? [...actual] : actual, expected, `${line}\nis not what comes: ${String(actual)}`);
}

/** What is logged must read as the comment says, where it is no objects, which each runtime writes in its own way. */
export function compareLog(values: readonly unknown[], comment: string): void {
  console.log(...values);
  if (values.some((value) => typeof value === "object" && value !== null)) return;
  assert.equal(values.map((value) => (typeof value === "bigint" ? `${value}n` : String(value))).join(" "), comment);
}
