/** What the examples' command lines share. */

/** A command line that makes no sense: its message is all that the user is shown. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** The number in an argument. */
export function wholeNumber(name: string, text: string, min: number, max: number): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : NaN;
  if (value >= min && value <= max) return value;
  throw new UsageError(`${name} must be a whole number from ${min} to ${max}; received '${text}'`);
}
