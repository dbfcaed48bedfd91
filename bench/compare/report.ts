/** The figures: as JSON, and as a table. */
import Table from "cli-table3";
import type { Runtime } from "../workloads.ts";
import { peerFacts, type PeerName, subjectTitle, type Unit, workloads } from "./workloads.ts";

/** Where the figures come from; nothing that says whose machine it is. */
export interface Machine {
  readonly cpu: string;
  readonly cpus: number;
  readonly memoryGiB: number;
  readonly kernel: string;
  /** Type of the file system that the files are on. */
  readonly fileSystem: string;
  /** Of the last minute, before the first round: above 0.5 or so, others were at work. */
  readonly loadAverage: number;
  readonly versions: Readonly<Record<string, string>>;
}

/** One subject at one point of a workload. */
export interface Result {
  readonly workload: string;
  readonly point: string;
  readonly part: string;
  readonly peer: PeerName;
  readonly runtime: Runtime;
  readonly unit: Unit;
  readonly runs: readonly number[];
  readonly min: number;
  readonly median: number;
  readonly max: number;
}

/** Who is not there, and why. */
export interface Absence {
  readonly workload: string;
  readonly peer: PeerName;
  /** "" if at none. */
  readonly point: string;
  readonly why: string;
}

export interface Report {
  readonly date: string;
  readonly smoke: boolean;
  readonly seconds: number;
  readonly machine: Machine;
  readonly results: readonly Result[];
  readonly absent: readonly Absence[];
}

export function summarize(runs: readonly number[]): { min: number; median: number; max: number } {
  const sorted = runs.toSorted((a, b) => a - b);
  const lower = sorted[(sorted.length - 1) >> 1] ?? NaN;
  const upper = sorted[sorted.length >> 1] ?? NaN;
  return { min: sorted[0] ?? NaN, median: (lower + upper) / 2, max: sorted.at(-1) ?? NaN };
}

export function machineLines({ machine, date }: Report): string[] {
  const { cpu, cpus, memoryGiB, kernel, fileSystem, loadAverage, versions } = machine;
  return [
    `${cpu}, ${cpus} CPUs, ${memoryGiB} GiB; ${kernel}; ${fileSystem}; load average ${loadAverage.toFixed(2)}; ${date.slice(0, 10)}`,
    Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(", "),
  ];
}

export function format(report: Report): string {
  const lines = [...machineLines(report)];
  for (const { name, title, unit } of workloads) {
    const results = report.results.filter(({ workload }) => workload === name);
    if (results.length === 0) continue;
    const columns = [...new Set(results.map(({ point, part }) => columnTitle(point, part)))];
    const table = new Table({ head: [unit, ...columns], colAligns: ["left", ...columns.map(() => "right" as const)], style: { head: [], border: [], compact: true } });
    for (const row of new Set(results.map(subjectTitle))) {
      const cells = columns.map((column) => {
        const result = results.find((one) => subjectTitle(one) === row && columnTitle(one.point, one.part) === column);
        return result === undefined ? "" : `${number(result.median)}  ${number(result.min)} to ${number(result.max)}`;
      });
      table.push([row, ...cells]);
    }
    lines.push("", `${title}: median, min to max`, table.toString());
    for (const [why, who] of Map.groupBy(report.absent.filter(({ workload }) => workload === name), ({ why }) => why)) {
      const names = new Set(who.map(({ peer, point }) => (point === "" ? peerFacts[peer].title : `${peerFacts[peer].title} at ${point}`)));
      lines.push(`  without ${[...names].join(", ")}: ${why}`);
    }
  }
  if (report.results.length === 0) return [...lines, "", "Nobody was there to be measured."].join("\n");
  const runs = Math.min(...report.results.map((result) => result.runs.length));
  lines.push("", report.smoke ? "Smoke sizes: the figures mean nothing." : `${runs} runs of each, ${Math.round(report.seconds)} s in all.`);
  return lines.join("\n");
}

/** As JSON, a result on each line. */
export function toJson({ results, ...rest }: Report): string {
  const head = JSON.stringify(rest, null, 1).replace(/\n\}$/, "");
  return `${head},\n "results": [\n${results.map((result) => `  ${JSON.stringify(result)}`).join(",\n")}\n ]\n}\n`;
}

export function columnTitle(point: string, part: string): string {
  return [point, part].filter((text) => text !== "").join(", ");
}

/** Three digits that say something. */
function number(value: number): string {
  if (value >= 100) return Math.round(value).toLocaleString("en-US");
  return value.toFixed(value >= 10 ? 1 : 2);
}
