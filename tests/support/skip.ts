/** Skipping a test with a reason that every runner shows. */

/**
 * `{ skip }` for `test()`: skipped for `reason`, not skipped without one. Bun and Deno do not print the reason of a skipped test,
 * so it is printed here, in the form that scripts/test.ts collects.
 */
export function skipFor(name: string, reason: string | undefined): { skip: string | false } {
  if (reason === undefined) return { skip: false };
  console.log(`# skip [${name}] ${reason}`);
  return { skip: reason };
}
