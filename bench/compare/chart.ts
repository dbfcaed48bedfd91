/**
 * Draws a report as SVG, by Vega: `node bench/compare/chart.ts REPORT.json` writes three files beside it. One has the questions that most will ask, a panel
 * each; one (-all) all questions with one answer; one (-sizes) what grows with a size. All axes are logarithmic, and nobody is left out who is in the report.
 */
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { machineLines, type Report, type Result } from "./report.ts";
import { BATCH, type PeerName, peerFacts, peers, runtimeTitles, subjectTitle, type Unit, type Workload, workloads } from "./workloads.ts";

/** The parts of the packages that are used here: they are not installed where the types are checked. */
interface Vega {
  View: new (runtime: unknown, options: { renderer: "none" }) => { toSVG(): Promise<string> };
  parse(spec: unknown): unknown;
}

interface VegaLite {
  compile(spec: unknown): { spec: unknown };
}

type Spec = Readonly<Record<string, unknown>>;

const packages = { vega: "vega", vegaLite: "vega-lite" } as const;

/** Holdfast stands out, in a colour that stays apart from grey for everybody. */
const OURS = "#d9480f";
const OTHERS = "#4a5a6a";
const palette = [OURS, "#1f77b4", "#17a2a2", "#2f9e44", "#82c91e", "#9467bd", "#8c564b", "#e64980", "#f2b705", "#7f7f7f"];

/** Workloads whose points are sizes, drawn as lines. */
const lines: readonly string[] = ["read", "write", "queue-pair", "backlog"];

/** What most will ask: names of workloads, points and parts. */
const headlines: readonly (readonly [workload: string, point: string, part: string])[] = [
  ["counter-add", "", ""],
  ["counter-add-4", "", ""],
  ["queue-pair", "64 B", ""],
  ["pipeline", "one at a time", ""],
  ["pipeline", `by ${BATCH}`, ""],
  ["pipeline-2", "one at a time", ""],
  ["latency", "", "p50"],
  ["durable", "each", ""],
  ["cold-open", "after kill -9", "first of its process"],
];

/** Panels of a row. */
const COLUMNS = 3;

/** Values as Vega gets them; a logarithmic axis has no 0, so that what is not measurable is at the left edge. */
function values(results: readonly Result[], floor: number): Spec[] {
  return results.map((result) => ({
    subject: subjectTitle(result),
    peer: peerFacts[result.peer].title,
    ours: result.peer === "holdfast",
    runtime: runtimeTitles[result.runtime],
    text: figure(result.median, result.unit),
    median: Math.max(floor, result.median),
    min: Math.max(floor, result.min),
    max: Math.max(floor, result.max),
  }));
}

/** An axis in whole powers of ten. */
function powers(results: readonly Spec[], least: string, most: string): { domain: [number, number]; values: number[] } {
  const low = Math.floor(Math.log10(Math.min(...results.map((one) => one[least] as number))));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...results.map((one) => one[most] as number)))));
  return { domain: [10 ** low, 10 ** high], values: Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i)) };
}

const times: readonly (readonly [nanoseconds: number, unit: string])[] = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [0, "ns"]];
const inNanoseconds: Partial<Readonly<Record<Unit, number>>> = { ns: 1, µs: 1e3, ms: 1e6 };

/** How an axis says its values. */
function labels(unit: Unit): string {
  const factor = inNanoseconds[unit];
  if (factor === undefined) return unit === "MiB" ? `format(datum.value, "~r")` : `format(datum.value, "~s")`;
  const value = `datum.value * ${factor}`;
  return times.reduceRight((other, [ns, name]) => (ns === 0 ? `format(${value}, "~r") + " ns"` : `${value} >= ${ns} ? format(${value} / ${ns}, "~r") + " ${name}" : ${other}`), "");
}

/** A figure with its unit, three digits of it. */
function figure(value: number, unit: Unit): string {
  const factor = inNanoseconds[unit];
  if (factor !== undefined) {
    const [ns, name] = times.find(([ns]) => value * factor >= ns) as [number, string];
    return `${digits((value * factor) / Math.max(1, ns))} ${name}`;
  }
  if (unit === "MiB") return `${digits(value)} MiB`;
  return value >= 1e6 ? `${digits(value / 1e6)} M` : value >= 1e3 ? `${digits(value / 1e3)} k` : digits(value);
}

function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2);
}

function titleOf(workload: Workload, point: string, part: string): string[] {
  const detail = [point, part].filter((text) => text !== "").join(", ");
  return detail === "" ? [workload.title] : [workload.title, detail];
}

const better = (unit: string): string => (unit === "records/s" ? "more is better" : "less is better");

/** One question at one point: everybody in a line, the best first, the median between the least and the most. */
function panel(workload: Workload, point: string, part: string, results: readonly Result[]): Spec {
  const more = workload.unit === "records/s";
  const color = { field: "ours", type: "nominal", legend: null, scale: { domain: [true, false], range: [OURS, OTHERS] } };
  const data = values(results, 0.01);
  const { domain, values: ticks } = powers(data, "min", "max");
  const title = `${workload.unit === "records/s" ? "records a second, " : workload.unit === "MiB" ? "MiB, " : ""}${better(workload.unit)}`;
  const x = { type: "quantitative", scale: { type: "log", domain, nice: false }, axis: { values: ticks, labelExpr: labels(workload.unit), title } };
  const y = { field: "subject", type: "nominal", sort: { field: "median", order: more ? "descending" : "ascending" }, axis: { title: null, labelLimit: 0, minExtent: 140 } };
  return {
    title: { text: titleOf(workload, point, part), fontSize: 12, anchor: "start" },
    width: 210,
    height: { step: 14 },
    data: { values: data },
    layer: [
      { mark: { type: "rule", strokeWidth: 1.5 }, encoding: { x: { ...x, field: "min" }, x2: { field: "max" }, y, color } },
      { mark: { type: "point", filled: true, size: 45, opacity: 1 }, encoding: { x: { ...x, field: "median" }, y, color } },
      { mark: { type: "text", align: "left", dx: 7, fontSize: 9 }, encoding: { x: { ...x, field: "max" }, y, color, text: { field: "text" } } },
    ],
  };
}

/** What grows with a size: a line for everybody. */
function growth(workload: Workload, part: string, results: readonly Result[]): Spec {
  const points = new Map(workload.points.map(({ title, value }) => [title, value]));
  const data = results.map((result, i) => ({ ...values(results, 1)[i], size: Math.max(1, points.get(result.point) as number) }));
  const backlog = workload.name === "backlog";
  const x = powers(data, "size", "size");
  const y = powers(data, "median", "median");
  return {
    title: { text: titleOf(workload, "", part), fontSize: 12, anchor: "start" },
    width: 330,
    height: 260,
    data: { values: data },
    layer: [
      { mark: { type: "line", strokeWidth: 1.5 }, encoding: { strokeDash: { field: "runtime", type: "nominal", scale: { domain: Object.values(runtimeTitles), range: [[1, 0], [6, 3], [2, 2]] }, legend: { title: null, symbolType: "stroke", symbolSize: 400, symbolStrokeColor: "#333333", symbolStrokeWidth: 1.5 } } } },
      { mark: { type: "point", filled: true, size: 25, opacity: 1 } },
    ],
    encoding: {
      x: { field: "size", type: "quantitative", scale: { type: "log", domain: x.domain }, axis: { values: x.values, format: "~s", title: backlog ? "records that wait (at the left: none)" : "bytes" } },
      y: { field: "median", type: "quantitative", scale: { type: "log", domain: y.domain }, axis: { values: y.values, labelExpr: labels(workload.unit), title: better(workload.unit) } },
      detail: { field: "subject" },
      color: { field: "peer", type: "nominal", sort: null, scale: { domain: peers.map((peer: PeerName) => peerFacts[peer].title), range: palette }, legend: { title: null } },
    },
  };
}

function page(report: Report, panels: readonly Spec[], columns: number): Spec {
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    background: "white",
    padding: 12,
    title: {
      text: "holdfast beside what else there is for the same work",
      subtitle: [...machineLines(report), "Point: median. Bar: least to most. Logarithmic axes."],
      anchor: "start",
      fontSize: 15,
      subtitleFontSize: 11,
      offset: 14,
    },
    concat: panels,
    columns,
    resolve: { scale: { x: "independent", y: "independent" } },
    // Without the texts for screen readers, which say each value again and are a quarter of the file.
    config: { aria: false, font: "sans-serif", axis: { labelFontSize: 10, titleFontSize: 10, titleFontWeight: "normal", gridColor: "#e6e6e6" }, view: { stroke: "#cccccc" } },
  };
}

interface Column {
  readonly workload: Workload;
  readonly point: string;
  readonly part: string;
  readonly results: readonly Result[];
}

/** What each question has been answered for: all points and parts that are in a report. */
function columnsOf(report: Report): Column[] {
  return workloads.flatMap((workload) => {
    const own = report.results.filter((result) => result.workload === workload.name);
    const keys = new Map(own.map(({ point, part }) => [`${point} ${part}`, { point, part }]));
    return [...keys.values()].map(({ point, part }) => ({ workload, point, part, results: own.filter((result) => result.point === point && result.part === part) }));
  });
}

/** The panels of each file, by what its name ends in. */
function filesOf(report: Report): readonly (readonly [ending: string, columns: number, panels: readonly Spec[]])[] {
  const columns = columnsOf(report);
  const draw = (column: Column): Spec => panel(column.workload, column.point, column.part, column.results);
  const isHeadline = ({ workload, point, part }: Column): boolean => headlines.some(([name, a, b]) => name === workload.name && a === point && b === part);
  const grown = workloads.filter(({ name }) => lines.includes(name)).flatMap((workload) => {
    const own = report.results.filter((result) => result.workload === workload.name);
    return [...new Set(own.map(({ part }) => part))].map((part) => growth(workload, part, own.filter((result) => result.part === part)));
  });
  return [
    ["", COLUMNS, columns.filter(isHeadline).map(draw)],
    ["-all", COLUMNS, columns.filter(({ workload }) => !lines.includes(workload.name)).map(draw)],
    ["-sizes", 2, grown],
  ];
}

/** Writes the charts beside a report's file; why not, if it can't. */
export async function drawCharts(report: Report, json: string): Promise<string | undefined> {
  let vega: Vega;
  let vegaLite: VegaLite;
  try {
    vega = (await import(packages.vega as string)) as Vega;
    vegaLite = (await import(packages.vegaLite as string)) as VegaLite;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw error;
    return `vega and vega-lite are not installed ("npm install --prefix bench/compare")`;
  }
  const base = json.replace(/\.json$/, "");
  for (const [ending, columns, panels] of filesOf(report)) {
    if (panels.length === 0) continue;
    const view = new vega.View(vega.parse(vegaLite.compile(page(report, panels, columns)).spec), { renderer: "none" });
    const svg = await view.toSVG();
    writeFileSync(`${base}${ending}.svg`, `${svg.replace(/(\.\d\d)\d+/g, "$1")}\n`); // hundredths of a pixel are enough
  }
  return undefined;
}

if (import.meta.main) {
  const json = process.argv[2];
  if (json === undefined || process.argv.length > 3) {
    console.error("Usage: node bench/compare/chart.ts REPORT.json");
    process.exitCode = 2;
  } else {
    const why = await drawCharts(JSON.parse(readFileSync(json, "utf8")) as Report, json);
    if (why !== undefined) {
      console.error(`bench: nothing is drawn: ${why}`);
      process.exitCode = 1;
    }
  }
}
