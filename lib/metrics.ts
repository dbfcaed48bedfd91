/**
 * Counters, gauges and histograms for Prometheus that any number of processes update at once.
 *
 * @module
 */
import { boolean, checkOptions, checkPath, integer, oneOf, type OptionCheck } from "./checks.ts";
import { closedError, invalidType, MapError, outOfRange, rangeError } from "./errors.ts";
import { cellCount, type FamilyRecord, type MetricRecord } from "./layout/metrics.ts";
import { type ExposedSeries, joinLines, type MetricsFormat, writeFamily } from "./metrics/expose.ts";
import { type Cells, MetricsFile, openOrCreate } from "./metrics/file.ts";
import {
  checkBuckets,
  checkFamily,
  checkHelp,
  checkLabelNames,
  checkLabelValue,
  checkMetricName,
  DEFAULT_BUCKETS,
  type LabelValue,
  reservedNames,
  wrongLabels,
  wrongValueCount,
} from "./metrics/names.ts";
import { Counter, Gauge, Histogram } from "./metrics/series.ts";
import { native } from "./native/native.ts";

/**
 * Options of {@linkcode Metrics.open}.
 *
 * @example
 * ```ts
 * import { Metrics, type MetricsOptions } from "holdfast";
 * const options: MetricsOptions = { maxSeries: 1000, autoUnlink: true };
 * using metrics = Metrics.open("/tmp/example-options.metrics", options);
 * ```
 */
export interface MetricsOptions {
  /** "rw" (the default) or "r": only to look and to `expose()`. */
  mode?: "r" | "rw";
  /** Access bits of a new file, before the umask. Default 0o600. */
  permissions?: number;
  /** Removes the file when the handle is closed or collected or the process exits by itself. Default false. */
  autoUnlink?: boolean;
  /**
   * This handle adds no series, and no metric, to a file that has so many already: `ERR_TOO_MANY_SERIES`. A label that can have any
   * value would else fill the disk. Default 100,000.
   */
  maxSeries?: number;
}

/**
 * What {@linkcode Metrics.counter} and {@linkcode Metrics.gauge} need to know.
 *
 * @example
 * ```ts
 * import { type MetricOptions, Metrics } from "holdfast";
 * const options: MetricOptions<readonly ["kind"]> = { help: "Jobs that were done.", labels: ["kind"] };
 * using metrics = Metrics.open("/tmp/example-metric.metrics");
 * metrics.counter("jobs_total", options).labels({ kind: "mail" }).inc();
 * ```
 */
export interface MetricOptions<Labels extends readonly string[] = readonly []> {
  /** What is measured, for people; at most 1,024 bytes of UTF-8. The text that came first is kept. */
  help: string;
  /** Names of labels; each combination of their values is a series. */
  labels?: Labels;
}

/**
 * What {@linkcode Metrics.histogram} needs to know.
 *
 * @example
 * ```ts
 * import { type HistogramOptions, Metrics } from "holdfast";
 * const options: HistogramOptions = { help: "Bytes of an answer.", buckets: [1e3, 1e4, 1e5] };
 * using metrics = Metrics.open("/tmp/example-histogram.metrics");
 * metrics.histogram("answer_bytes", options).observe(2500);
 * ```
 */
export interface HistogramOptions<Labels extends readonly string[] = readonly []> extends MetricOptions<Labels> {
  /** Upper bounds, ascending; a last bucket for all that is greater is there anyway. Default: 0.005 to 10, made for seconds. */
  buckets?: readonly number[];
}

/**
 * Options of {@linkcode Metrics.expose}.
 *
 * @example
 * ```ts
 * import { type ExposeOptions, Metrics } from "holdfast";
 * const options: ExposeOptions = { format: "openmetrics" };
 * using metrics = Metrics.open("/tmp/example-expose.metrics", { autoUnlink: true });
 * metrics.expose(options); // "# EOF\n"
 * ```
 */
export interface ExposeOptions {
  /** Default "prometheus". */
  format?: MetricsFormat;
}

/**
 * What a declaration gives: the series itself if there are no labels, otherwise the family that has its series by their labels.
 *
 * @example
 * ```ts
 * import { type Counter, type Metric, Metrics } from "holdfast";
 * using metrics = Metrics.open("/tmp/example-kinds.metrics");
 * const plain: Metric<readonly [], Counter> = metrics.counter("a_total", { help: "Without labels: the series itself." });
 * const labelled: Metric<readonly ["code"], Counter> = metrics.counter("b_total", { help: "With labels.", labels: ["code"] });
 * plain.inc();
 * labelled.labels({ code: 200 }).inc();
 * ```
 */
export type Metric<Labels extends readonly string[], Series> = Labels extends readonly [] ? Series : LabelledMetric<Labels, Series>;

type Series = Counter | Gauge | Histogram;

interface KnownSeries extends ExposedSeries {
  /** What users get for it, once one asked. */
  series: Series | undefined;
}

interface KnownFamily extends FamilyRecord {
  readonly number: number;
  readonly series: Map<string, KnownSeries>;
  metric: Series | LabelledMetric<readonly string[], Series> | undefined;
}

/** Values of labels as one text: the lengths keep `a`, `bc` and `ab`, `c` apart. */
function keyOf(values: readonly string[]): string {
  if (values.length === 1) return values[0] as string;
  let key = "";
  for (const value of values) key += `${value.length}:${value}`;
  return key;
}

type Level<Series> = Map<unknown, Level<Series> | Series>;

/**
 * A metric with labels: has a series for each combination of their values. See {@linkcode Metrics}.
 *
 * @example
 * ```ts
 * import { Metrics } from "holdfast";
 * using metrics = Metrics.open("/tmp/example.metrics");
 * const requests = metrics.counter("requests_total", { help: "Requests answered.", labels: ["method", "code"] });
 * const found = requests.labels({ method: "GET", code: 200 }); // once, not for each request
 * found.inc();
 * requests.labels("GET", 404).inc();
 * requests.name; // "requests"
 * requests.labelNames; // ["method", "code"]
 * ```
 */
export class LabelledMetric<Labels extends readonly string[], Series> {
  /** Its name: a counter's without `_total`. */
  readonly name: string;
  /** Names of its labels, in the order of {@linkcode labels}. */
  readonly labelNames: Labels;
  readonly #file: MetricsFile;
  readonly #find: (values: readonly string[]) => Series;
  /** Series by the values that were asked for, one level for each label: 200 and "200" are two ways to one series. */
  readonly #known: Level<Series> = new Map();

  /** @internal */
  constructor(name: string, labelNames: Labels, file: MetricsFile, find: (values: readonly string[]) => Series) {
    this.name = name;
    this.labelNames = labelNames;
    this.#file = file;
    this.#find = find;
  }

  /**
   * The series with these values: always the same object. It is added to the file if it is not there yet. Values are well-formed text of
   * up to 1,024 bytes of UTF-8, or what `String()` makes of numbers and booleans.
   *
   * Looking it up takes several times as long as counting: keep what you got where you can.
   *
   * Errors: `TypeError` for a label that is missing or unknown, `RangeError` for a value that is too long or not well-formed;
   * `MapError` `ERR_TOO_MANY_SERIES`, `ERR_CLOSED`, `ERR_READ_ONLY` for a new one in mode "r", `ENOSPC`.
   */
  labels(values: { readonly [Name in Labels[number]]: LabelValue }): Series;
  /** The same by the values alone, in the order of {@linkcode labelNames}. */
  labels(...values: { readonly [Index in keyof Labels]: LabelValue }): Series;
  labels(...given: readonly unknown[]): Series {
    const names = this.labelNames;
    const first = given[0];
    if (given.length === 1 && typeof first === "object" && first !== null) {
      const byName = first as Record<string, unknown>;
      let count = 0;
      for (const _ in byName) count++;
      if (count === names.length) {
        let node: Level<Series> | Series | undefined = this.#known;
        for (let i = 0; i < count && node !== undefined; i++) node = (node as Level<Series>).get(byName[names[i] as string]);
        if (node !== undefined && !this.#file.closed) return node as Series;
      }
      const keys = Object.keys(byName);
      if (keys.length !== names.length || !names.every((name) => Object.hasOwn(byName, name))) throw wrongLabels(this.name, names, keys);
      return this.#learn(names.map((name) => byName[name]));
    }
    if (given.length !== names.length) throw wrongValueCount(this.name, names, given.length);
    let node: Level<Series> | Series | undefined = this.#known;
    for (let i = 0; i < given.length && node !== undefined; i++) node = (node as Level<Series>).get(given[i]);
    return node === undefined || this.#file.closed ? this.#learn(given) : (node as Series);
  }

  /** The series with these values, which is remembered. */
  #learn(given: readonly unknown[]): Series {
    const found = this.#find(given.map((value, i) => checkLabelValue(this.labelNames[i] as string, value)));
    let node = this.#known;
    for (const value of given.slice(0, -1)) {
      let next = node.get(value) as Level<Series> | undefined;
      if (next === undefined) node.set(value, (next = new Map()));
      node = next;
    }
    node.set(given.at(-1), found);
    return found;
  }
}

const help: OptionCheck<string> = (_, value) => checkHelp(value);
const labelsOf = (kind: FamilyRecord["kind"]): OptionCheck<readonly string[]> => (_, value) => checkLabelNames(kind, value);
const buckets: OptionCheck<readonly number[]> = (_, value) => checkBuckets(value);

const OPEN_OPTIONS = {
  mode: oneOf("r", "rw"),
  permissions: integer(0, 0o7777),
  autoUnlink: boolean,
  maxSeries: integer(1),
};
const METRIC_OPTIONS = {
  counter: { help, labels: labelsOf("counter") },
  gauge: { help, labels: labelsOf("gauge") },
  histogram: { help, labels: labelsOf("histogram"), buckets },
};
const EXPOSE_OPTIONS = { format: oneOf("prometheus", "openmetrics") };

const MAX_SERIES = 100_000;

/**
 * Metrics in a file that any number of processes and Workers have open: each counts in the same cells, at once, and each can write all of
 * it as text for Prometheus. Nothing is merged, a killed process loses nothing that it has counted, and a restart goes on where the file
 * stands.
 *
 * Every change is an atomic operation on shared memory. It is visible to all processes at once, and reaches storage when the kernel
 * writes it back.
 *
 * @example
 * ```ts
 * import { Metrics } from "holdfast";
 * using metrics = Metrics.open("/tmp/example.metrics");
 * const requests = metrics.counter("http_requests_total", { help: "Requests answered.", labels: ["method", "code"] });
 * const seconds = metrics.histogram("http_request_seconds", { help: "Time to answer." });
 * requests.labels({ method: "GET", code: 200 }).inc();
 * seconds.observe(0.012);
 * metrics.expose().split("\n")[0]; // "# HELP http_requests_total Requests answered."
 * ```
 *
 * @example
 * ```ts
 * import { Metrics } from "holdfast";
 * const metrics = Metrics.open("/tmp/example-all.metrics", { autoUnlink: true });
 * metrics.gauge("temperature", { help: "Degrees Celsius." }).set(21.5);
 * Metrics.contentTypes.prometheus; // "text/plain; version=0.0.4; charset=utf-8"
 * metrics.close();
 * console.log(metrics.path, metrics.closed);
 * ```
 */
export class Metrics implements Disposable {
  /** The `Content-Type` of each format of {@linkcode expose}. */
  static readonly contentTypes: Readonly<Record<MetricsFormat, string>> = Object.freeze({
    prometheus: "text/plain; version=0.0.4; charset=utf-8",
    openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
  });

  /** The file's path as given. */
  readonly path: string;
  readonly #file: MetricsFile;
  readonly #maxSeries: number;
  readonly #families: KnownFamily[] = [];
  /** Families by their names. */
  readonly #byName = new Map<string, KnownFamily>();
  /** Whose lines use a name. */
  readonly #reserved = new Map<string, KnownFamily>();
  #seriesCount = 0;

  private constructor(path: string, fd: number, writable: boolean, autoUnlink: boolean, maxSeries: number) {
    this.path = path;
    this.#maxSeries = maxSeries;
    this.#file = new MetricsFile(path, fd, writable, autoUnlink, (record, cells) => this.#take(record, cells));
  }

  /**
   * Opens the metrics at `path`; in mode "rw" a missing file is created, without metrics.
   *
   * Errors: `MapError` `ENOENT` for a missing file in mode "r"; `ERR_NOT_HOLDFAST`, `ERR_VERSION`, `ERR_KIND`, `ERR_CORRUPT` for a file
   * that is not one of metrics, which is left as it is; system errors.
   */
  static open(path: string | URL, options?: MetricsOptions): Metrics {
    const file = checkPath("path", path);
    const given = checkOptions("Metrics.open()", options, OPEN_OPTIONS);
    const { mode = "rw", permissions = 0o600, autoUnlink = false, maxSeries = MAX_SERIES } = given;
    native();
    return new Metrics(file, openOrCreate(file, mode, permissions), mode === "rw", autoUnlink, maxSeries);
  }

  /**
   * The counter called `name`, with or without `_total` at the end: the samples have it, in either format. Declared by whichever process
   * is first; all others get the same one.
   *
   * Without labels the result is the {@linkcode Counter} itself, otherwise a {@linkcode LabelledMetric} that has a counter for each
   * combination of their values.
   *
   * Errors: `RangeError` for a name, label or help text that is not allowed, and for a name that is another metric's, or the same with
   * other labels or buckets; `TypeError` for wrong types; `MapError` `ERR_CLOSED`, `ERR_TOO_MANY_SERIES`, `ERR_READ_ONLY` for a new one
   * in mode "r", `ENOSPC`.
   */
  counter<const Labels extends readonly string[] = readonly []>(name: string, options: MetricOptions<Labels>): Metric<Labels, Counter> {
    return this.#declare("counter", name, options) as Metric<Labels, Counter>;
  }

  /** The gauge called `name`; as {@linkcode counter}. */
  gauge<const Labels extends readonly string[] = readonly []>(name: string, options: MetricOptions<Labels>): Metric<Labels, Gauge> {
    return this.#declare("gauge", name, options) as Metric<Labels, Gauge>;
  }

  /** The histogram called `name`; as {@linkcode counter}. No label can be called `le`. */
  histogram<const Labels extends readonly string[] = readonly []>(name: string, options: HistogramOptions<Labels>): Metric<Labels, Histogram> {
    return this.#declare("histogram", name, options) as Metric<Labels, Histogram>;
  }

  /**
   * All metrics of the file, also those that only other processes know, as text. Each value is read atomically, one after the other: they
   * are not of one moment. Metrics come in the order in which they were declared, series in the order in which they were made.
   *
   * Errors: `MapError` `ERR_CLOSED`, `ERR_FAULT`, `ERR_CORRUPT`.
   */
  expose(options?: ExposeOptions): string {
    const { format = "prometheus" } = checkOptions("expose()", options, EXPOSE_OPTIONS);
    this.#file.refresh();
    const lines: string[] = [];
    for (const family of this.#families) writeFamily(family, family.series.values(), format, lines);
    return joinLines(lines, format);
  }

  /** Whether `close()` was called. */
  get closed(): boolean {
    return this.#file.closed;
  }

  /** Ends the use of the metrics and of all that was declared through this handle. Closing again does nothing. */
  close(): void {
    this.#file.close();
  }

  /** {@linkcode close}, at the end of a block with `using`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #declare(kind: FamilyRecord["kind"], name: string, options: unknown): unknown {
    if (this.closed) throw closedError("metrics", this.path);
    const base = checkMetricName(kind, name);
    const given: { help?: string; labels?: readonly string[]; buckets?: readonly number[] } = checkOptions(`${kind}()`, options, METRIC_OPTIONS[kind]);
    if (given.help === undefined) throw invalidType("help", "a string", given.help);
    const bounds = kind === "histogram" ? (given.buckets ?? DEFAULT_BUCKETS) : [];
    const wanted: FamilyRecord = { kind, name: base, help: given.help, labels: given.labels ?? [], bounds };
    const { labels } = wanted;
    const alone = labels.length === 0;
    let known = this.#same(wanted);
    if (known === undefined) {
      this.#file.refresh();
      known = this.#same(wanted);
    }
    if (known === undefined || (alone && known.series.size === 0)) {
      this.#file.append(() => {
        const found = this.#same(wanted);
        if (found === undefined) {
          checkFamily(wanted); // as it is when it is read: what would not pass then must not be written
          this.#checkCount(this.#families.length);
        }
        if (alone) this.#checkCount(this.#seriesCount);
        const records: MetricRecord[] = found === undefined ? [wanted] : [];
        const number = found?.number ?? this.#families.length;
        if (alone && (found === undefined || found.series.size === 0)) records.push({ family: number, values: [], cells: cellCount(wanted) });
        return records;
      });
    }
    const family = this.#byName.get(base) as KnownFamily;
    family.metric ??= alone ? this.#series(family, []) : new LabelledMetric(base, family.labels, this.#file, (values) => this.#series(family, values));
    return family.metric;
  }

  /** The family that is like `wanted`; `RangeError` if its name is taken by something else. */
  #same(wanted: FamilyRecord): KnownFamily | undefined {
    const { kind, name, labels, bounds } = wanted;
    for (const used of reservedNames(wanted)) {
      const other = this.#reserved.get(used);
      if (other === undefined || (other.name === name && other.kind === kind)) continue;
      throw rangeError(`the ${kind} ${name} can't be declared: "${used}" belongs to the ${other.kind} ${other.name} in '${this.path}'`);
    }
    const family = this.#byName.get(name);
    if (family === undefined) return undefined;
    const differ = (what: string, found: readonly unknown[], asked: readonly unknown[]): void => {
      if (found.length === asked.length && found.every((value, i) => value === asked[i])) return;
      throw rangeError(`the ${kind} ${name} has the ${what} ${found.join(", ") || "none"} in '${this.path}', not ${asked.join(", ") || "none"}`);
    };
    differ("labels", family.labels, labels);
    differ("buckets", family.bounds, bounds);
    return family;
  }

  #series(family: KnownFamily, values: readonly string[]): Series {
    if (this.closed) throw closedError("metrics", this.path);
    const key = keyOf(values);
    let known = family.series.get(key);
    if (known === undefined) {
      this.#file.refresh();
      known = family.series.get(key);
    }
    if (known === undefined) {
      this.#file.append(() => {
        if (family.series.has(key)) return [];
        this.#checkCount(this.#seriesCount);
        return [{ family: family.number, values, cells: cellCount(family) }];
      });
      known = family.series.get(key) as KnownSeries;
    }
    return (known.series ??= seriesOf(family, known.cells));
  }

  #checkCount(count: number): void {
    if (count < this.#maxSeries) return;
    const text = `'${this.path}' has ${count} series or metrics, and "maxSeries" allows ${this.#maxSeries}: is there a label with ever new values?`;
    throw new MapError("ERR_TOO_MANY_SERIES", text, { path: this.path });
  }

  /** Takes in a record of the file. */
  #take(record: MetricRecord, cells: Cells): void {
    try {
      if ("family" in record) this.#takeSeries(record, cells);
      else this.#takeFamily(record);
    } catch (error) {
      const why = (error as Error).message;
      throw new MapError("ERR_CORRUPT", `'${this.path}' has a record that no version of holdfast wrote: ${why}`, { path: this.path, cause: error });
    }
  }

  #takeFamily(record: FamilyRecord): void {
    checkFamily(record);
    if (this.#same(record) !== undefined) throw rangeError(`${record.name} is there twice`);
    const family: KnownFamily = { ...record, number: this.#families.length, series: new Map(), metric: undefined };
    this.#families.push(family);
    this.#byName.set(record.name, family);
    for (const name of reservedNames(record)) this.#reserved.set(name, family);
  }

  #takeSeries({ family: number, values, cells: count }: { family: number; values: readonly string[]; cells: number }, cells: Cells): void {
    const family = this.#families[number];
    if (family === undefined) throw outOfRange("family", `below ${this.#families.length}`, number);
    if (values.length !== family.labels.length || count !== cellCount(family)) throw rangeError(`a series does not match its family ${family.name}`);
    const key = keyOf(values);
    if (family.series.has(key)) throw rangeError(`a series of ${family.name} is there twice`);
    family.series.set(key, { values, cells, text: undefined, series: undefined });
    this.#seriesCount++;
  }
}

function seriesOf(family: FamilyRecord, cells: Cells): Series {
  switch (family.kind) {
    case "counter":
      return new Counter(cells);
    case "gauge":
      return new Gauge(cells);
    case "histogram":
      return new Histogram(cells, family.bounds);
  }
}
