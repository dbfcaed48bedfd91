/**
 * What Prometheus and OpenMetrics allow as names, labels, help texts and buckets, and what this library does.
 *
 * @module
 */
import { invalidType, outOfRange, rangeError, typeError } from "../errors.ts";
import { type FamilyRecord, MAX_BOUNDS, MAX_HELP_BYTES, MAX_LABELS, MAX_NAME_BYTES, MAX_VALUE_BYTES } from "../layout/metrics.ts";

/**
 * A label's value; what is no string is written as `String()` does.
 *
 * @example
 * ```ts
 * import { type LabelValue, Metrics } from "holdfast";
 * using metrics = Metrics.open("/tmp/example-values.metrics");
 * const answers = metrics.counter("answers_total", { help: "Answers.", labels: ["code"] });
 * const codes: LabelValue[] = [200, "404", true];
 * for (const code of codes) answers.labels({ code }).inc();
 * ```
 */
export type LabelValue = string | number | bigint | boolean;

/** The buckets of Prometheus' own clients: made for seconds that a request takes. */
export const DEFAULT_BUCKETS: readonly number[] = Object.freeze([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]);

const METRIC_NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const LABEL_NAME = /^(?!__)[a-zA-Z_][a-zA-Z0-9_]*$/;
const TOTAL = "_total";

function checkName(what: string, name: unknown, pattern: RegExp, requirement: string): string {
  if (typeof name !== "string") throw invalidType(what, "a string", name);
  if (name.length > MAX_NAME_BYTES || !pattern.test(name)) throw outOfRange(what, `${requirement}, at most ${MAX_NAME_BYTES} characters`, name);
  return name;
}

/** Bytes of a text in UTF-8, without encoding it; undefined for one that is not well formed. */
function textBytes(text: string): number | undefined {
  return text.isWellFormed() ? Buffer.byteLength(text) : undefined;
}

function checkText(what: string, text: unknown, most: number): string {
  if (typeof text !== "string") throw invalidType(what, "a string", text);
  const bytes = textBytes(text);
  if (bytes === undefined || bytes > most) throw outOfRange(what, `well-formed text of at most ${most} bytes in UTF-8`, text);
  return text;
}

/** The name of a family as the file has it: a counter's without `_total`, which its samples get anyway. */
export function checkMetricName(kind: FamilyRecord["kind"], name: unknown): string {
  const checked = checkName("name", name, METRIC_NAME, "a name of letters, digits, _ and : that starts with no digit");
  if (kind !== "counter" || !checked.endsWith(TOTAL)) return checked;
  const base = checked.slice(0, -TOTAL.length);
  // The base is what the file has, where it means itself: with another _total it would be that of another counter.
  if (base === "" || base.endsWith(TOTAL)) throw outOfRange("name", "a name with at most one _total behind it", name);
  return base;
}

/** The names of a family's labels. */
export function checkLabelNames(kind: FamilyRecord["kind"], labels: unknown): readonly string[] {
  if (!Array.isArray(labels)) throw invalidType("labels", "an array of strings", labels);
  if (labels.length > MAX_LABELS) throw rangeError(`${labels.length} labels are more than the ${MAX_LABELS} that a metric can have`);
  // A copy, since forEach() leaves out the gaps of a sparse array.
  const list = [...(labels as unknown[])];
  list.forEach((label, i) => {
    const what = `labels[${i}]`;
    checkName(what, label, LABEL_NAME, "a name of letters, digits and _ that starts with no digit and not with __");
    if (kind === "histogram" && label === "le") throw outOfRange(what, 'another name than "le", which names the buckets', label);
    if (list.indexOf(label) !== i) throw outOfRange(what, "a name that is not in the list yet", label);
  });
  return Object.freeze(list as string[]);
}

export function checkHelp(help: unknown): string {
  return checkText("help", help, MAX_HELP_BYTES);
}

/** The upper bounds of a histogram's buckets. A last one of Infinity is there anyway, and may be given. */
export function checkBuckets(buckets: unknown): readonly number[] {
  if (!Array.isArray(buckets)) throw invalidType("buckets", "an array of numbers", buckets);
  const bounds = [...(buckets as unknown[])]; // without gaps, which forEach() leaves out
  if (bounds.at(-1) === Infinity) bounds.pop();
  if (bounds.length === 0 || bounds.length > MAX_BOUNDS) throw rangeError(`"buckets" must be 1 to ${MAX_BOUNDS} finite bounds; received ${bounds.length}`);
  bounds.forEach((bound, i) => {
    if (typeof bound !== "number") throw invalidType(`buckets[${i}]`, "a number", bound);
    if (!Number.isFinite(bound)) throw outOfRange(`buckets[${i}]`, "finite", bound);
    if (i > 0 && bound <= (bounds[i - 1] as number)) throw outOfRange(`buckets[${i}]`, `greater than the one before, ${bounds[i - 1]}`, bound);
  });
  // -0 and 0 are one bound, and read alike.
  return Object.freeze(bounds.map((bound) => (bound as number) + 0));
}

/** A label's value as text. */
export function checkLabelValue(label: string, value: unknown): string {
  switch (typeof value) {
    case "string":
      // The common case: no character of JavaScript takes more than three bytes.
      return value.length <= MAX_VALUE_BYTES / 3 && value.isWellFormed() ? value : checkText(`label ${label}`, value, MAX_VALUE_BYTES);
    case "number":
    case "bigint":
    case "boolean":
      return checkText(`label ${label}`, String(value), MAX_VALUE_BYTES);
    default:
      throw invalidType(`label ${label}`, "a string, a number or a boolean", value);
  }
}

/** The error for labels that are not those of the family. */
export function wrongLabels(name: string, labels: readonly string[], given: readonly string[]): TypeError {
  const list = (names: readonly string[]): string => (names.length === 0 ? "none" : names.join(", "));
  return typeError(`${name} has the labels ${list(labels)}; received ${list(given)}`);
}

/** The error for a number of values that is not the number of labels. */
export function wrongValueCount(name: string, labels: readonly string[], given: number): TypeError {
  return typeError(`${name} has the ${labels.length} labels ${labels.join(", ")}; received ${given} values`);
}

/** All names that a family's lines use in either format: no other family may use one of them. */
export function reservedNames({ kind, name }: Pick<FamilyRecord, "kind" | "name">): string[] {
  switch (kind) {
    case "counter":
      return [name, `${name}${TOTAL}`];
    case "gauge":
      return [name];
    case "histogram":
      return [name, `${name}_bucket`, `${name}_sum`, `${name}_count`];
  }
}

/** Throws unless a family that was read from a file is one that could have been declared. */
export function checkFamily({ kind, name, help, labels, bounds }: FamilyRecord): void {
  if (checkMetricName(kind, name) !== name) throw outOfRange("name", "one without _total", name);
  checkLabelNames(kind, labels);
  checkHelp(help);
  if (kind === "histogram") checkBuckets(bounds);
}
