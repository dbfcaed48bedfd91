/**
 * The text formats: Prometheus' text format 0.0.4 and OpenMetrics 1.0.
 *
 * Invariants: families in the order in which they were declared, series in the order in which they were made; a histogram's `_count` is
 * its last bucket, whatever is counted meanwhile, since both are one sum of what was read.
 *
 * @module
 */
import type { FamilyRecord } from "../layout/metrics.ts";
import type { Cells } from "./file.ts";

/**
 * How metrics are written: "prometheus" is the text format 0.0.4, "openmetrics" OpenMetrics 1.0.
 *
 * @example
 * ```ts
 * import { Metrics, type MetricsFormat } from "holdfast";
 * using metrics = Metrics.open("/tmp/example-format.metrics");
 * const accept = "application/openmetrics-text; version=1.0.0";
 * const format: MetricsFormat = accept.includes("application/openmetrics-text") ? "openmetrics" : "prometheus";
 * new Response(metrics.expose({ format }), { headers: { "content-type": Metrics.contentTypes[format] } });
 * ```
 */
export type MetricsFormat = "prometheus" | "openmetrics";

/** A series to be written. */
export interface ExposedSeries {
  readonly values: readonly string[];
  readonly cells: Cells;
  /** Its labels as they are written, once they were. */
  text: string | undefined;
}

function escapeLine(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}

function escapeQuoted(text: string): string {
  return escapeLine(text).replaceAll('"', '\\"');
}

/** A number as Go's strconv.ParseFloat reads it, which is what Prometheus does. */
function number(value: number): string {
  if (value === Infinity) return "+Inf";
  if (value === -Infinity) return "-Inf";
  return String(value);
}

/** A bucket's bound. OpenMetrics wants a number with a point, so that a label has one spelling. */
function bound(value: number, format: MetricsFormat): string {
  const text = number(value);
  return format === "openmetrics" && /^-?\d+$/.test(text) ? `${text}.0` : text;
}

function labelsOf(family: FamilyRecord, series: ExposedSeries): string {
  return (series.text ??= family.labels.map((name, i) => `${name}="${escapeQuoted(series.values[i] as string)}"`).join(","));
}

function writeHistogram(family: FamilyRecord, series: Iterable<ExposedSeries>, format: MetricsFormat, lines: string[]): void {
  const { name } = family;
  const bounds = [...family.bounds, Infinity].map((value) => `le="${bound(value, format)}"`);
  // With negative values a sum is no counter, and OpenMetrics wants none then, nor a count.
  const summed = format === "prometheus" || (family.bounds[0] as number) >= 0;
  for (const one of series) {
    const labels = labelsOf(family, one);
    const lead = labels === "" ? "" : `${labels},`;
    let count = 0;
    bounds.forEach((text, i) => {
      count += one.cells.count(i + 1);
      lines.push(`${name}_bucket{${lead}${text}} ${count}`);
    });
    if (!summed) continue;
    const braces = labels === "" ? "" : `{${labels}}`;
    lines.push(`${name}_sum${braces} ${number(one.cells.number(0))}`, `${name}_count${braces} ${count}`);
  }
}

/** Writes one family. A family without series has its head all the same: who looks for it finds that it is there. */
export function writeFamily(family: FamilyRecord, series: Iterable<ExposedSeries>, format: MetricsFormat, lines: string[]): void {
  const { kind, name, help } = family;
  const sample = kind === "counter" ? `${name}_total` : name;
  const title = format === "openmetrics" ? name : sample;
  if (format === "openmetrics") {
    lines.push(`# TYPE ${title} ${kind}`);
    if (help !== "") lines.push(`# HELP ${title} ${escapeQuoted(help)}`);
  } else {
    if (help !== "") lines.push(`# HELP ${title} ${escapeLine(help)}`);
    lines.push(`# TYPE ${title} ${kind}`);
  }
  if (kind === "histogram") {
    writeHistogram(family, series, format, lines);
    return;
  }
  for (const one of series) {
    const labels = labelsOf(family, one);
    const value = kind === "counter" ? one.cells.count(0) : one.cells.number(0);
    lines.push(`${sample}${labels === "" ? "" : `{${labels}}`} ${number(value)}`);
  }
}

/** The whole text. */
export function joinLines(lines: string[], format: MetricsFormat): string {
  if (format === "openmetrics") lines.push("# EOF");
  lines.push("");
  return lines.join("\n");
}
