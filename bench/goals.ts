/**
 * Each goal of speed beside what was measured: `npm run bench:goals` makes a run of the three benchmarks, one after the other, into `results/`, and prints
 * one table of them. `--from FOLDER` makes it of an earlier run.
 *
 * What is measured is said by workloads.ts, pipelines.ts and compare/workloads.ts; here is only which of their figures belong together.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { peerFacts, runtimeTitles } from "./compare/workloads.ts";
import type { Report as CompareReport, Result as Compared } from "./compare/report.ts";
import { pipelines, type Report as PipelineReport, WAKE_GOALS } from "./pipelines.ts";
import { judge, number, type Report } from "./report.ts";
import { type Runtime, runtimes, type Subject, subjectTitles, workloads } from "./workloads.ts";

const help = `Usage: npm run bench:goals -- [options]

Runs npm run bench, bench:queue and bench:compare, in some twenty minutes, and prints each goal beside what was measured, in C and by the best peer.

  --from DIR   only print the table of the figures in DIR (own.json, queue.json, compare.json)
  --to DIR     where the figures go (default bench/results)
  --help       print this text
`;

/** Where the figures of a run are, by what made them. */
const files = { own: "own.json", queue: "queue.json", compare: "compare.json" } as const;

export interface Figures {
  readonly own: Report;
  readonly queue: PipelineReport;
  readonly compare: CompareReport;
}

/** Where the comparison asks the same. */
interface Question {
  readonly workload: string;
  readonly point?: string;
  readonly part?: string;
}

/** By workload of workloads.ts and pipeline of pipelines.ts. */
const questions: Readonly<Record<string, Question>> = {
  "counter-add": { workload: "counter-add" },
  "counter-add-4": { workload: "counter-add-4" },
  "queue-push-pop": { workload: "queue-pair", point: "64 B" },
  "queue-push": { workload: "backlog", point: "none", part: "push" },
  "queue-push-each": { workload: "durable", point: "each" },
  "queue-push-batch": { workload: "durable", point: "a batch of 100, per record" },
  "pread-into-64": { workload: "read", point: "64 B" },
  "pwrite-64": { workload: "write", point: "64 B" },
  "pread-into-64k": { workload: "read", point: "64 KiB" },
  "pwrite-64k": { workload: "write", point: "64 KiB" },
  "random-read-8": { workload: "random-read" },
  "random-write-8": { workload: "random-write" },
  "1-1": { workload: "pipeline", point: "one at a time" },
  "1-1-100": { workload: "pipeline", point: "by 100" },
  "2-2": { workload: "pipeline-2", point: "one at a time" },
  "wake-1k": { workload: "latency", part: "p50" },
};

/** Goals of what only the comparison measures. */
const OPEN_MS = 2;
const BACKLOG_RATIO = 1.3;

export interface Row {
  readonly what: string;
  readonly who: string;
  readonly goal: string;
  readonly measured: string;
  /** Undefined where it can't be said. */
  readonly met: boolean | undefined;
  readonly toC: string;
  readonly peer: string;
}

const times = (ratio: number): string => `${number(ratio)}×`;

/** The best of the others at a question, and what holdfast takes of its time, or does of its work, in the same run. */
function bestPeer({ results }: CompareReport, { workload, point = "", part = "" }: Question, runtime: Runtime): string {
  const there = results.filter((one) => one.workload === workload && one.point === point && one.part === part);
  const own = there.find((one) => one.peer === "holdfast" && one.runtime === runtime);
  const better = (a: Compared, b: Compared): number => (a.unit === "records/s" ? b.median - a.median : a.median - b.median);
  const [best] = there.filter((one) => one.peer !== "holdfast").sort(better);
  if (own === undefined || best === undefined) return "";
  return `${peerFacts[best.peer].title} ${amount(best)}; ${times(own.median / best.median)}`;
}

function amount({ median, unit }: Compared): string {
  return unit === "records/s" ? `${number(median / 1e6)} M/s` : `${number(median)} ${unit}`;
}

function runtimeOfSubject(subject: Subject): Runtime {
  return subject.split("-")[0] as Runtime;
}

/** What workloads.ts has goals for. */
function ownRows({ own, compare }: Figures): Row[] {
  return workloads.flatMap(({ name, title, goals = {} }) =>
    Object.entries(goals).map(([subject, goal]) => {
      const find = (who: string) => own.results.find((one) => one.workload === name && one.subject === who);
      const result = find(subject);
      const c = find("c");
      const { text, met } = judge(goal, { workload: name, subject: subject as Subject }, own.results);
      const question = questions[name];
      return {
        what: title,
        who: subjectTitles[subject as Subject],
        goal: text,
        measured: result === undefined ? "" : `${number(result.median)} ns`,
        met,
        toC: result === undefined || c === undefined ? "" : times(result.median / c.median),
        // The other ways of the same runtime are no question of the comparison.
        peer: question === undefined || subject.includes("-") ? "" : bestPeer(compare, question, runtimeOfSubject(subject as Subject)),
      };
    })
  );
}

/** What pipelines.ts has goals for. */
function queueRows({ queue, compare }: Figures): Row[] {
  return pipelines.flatMap(({ name, title, goals, perSecond }) =>
    runtimes.flatMap((runtime): Row[] => {
      const [first = NaN, p99 = NaN] = queue.results.find((one) => one.pipeline === name && one.subject === runtime)?.medians ?? [];
      const question = questions[name];
      const row = { what: title, who: runtimeTitles[runtime], peer: question === undefined ? "" : bestPeer(compare, question, runtime) };
      if (perSecond !== undefined) {
        const [c = NaN, cP99 = NaN] = queue.results.find((one) => one.pipeline === name && one.subject === "c")?.medians ?? [];
        const [goal, goalP99] = WAKE_GOALS;
        return [
          { ...row, what: `${title}, p50`, goal: `≤ ${goal} µs`, measured: `${number(first)} µs`, met: first <= goal, toC: times(first / c) },
          { ...row, what: `${title}, p99`, goal: `≤ ${goalP99} µs`, measured: `${number(p99)} µs`, met: p99 <= goalP99, toC: times(p99 / cP99), peer: "" },
        ];
      }
      const goal = goals[runtime];
      return goal === undefined ? [] : [{ ...row, goal: `≥ ${goal} M/s`, measured: `${number(first)} M/s`, met: first >= goal, toC: "" }];
    })
  );
}

/** What only the comparison measures. */
function compareRows({ compare }: Figures): Row[] {
  const median = (runtime: Runtime, workload: string, point: string, part: string): number =>
    compare.results.find((one) => one.peer === "holdfast" && one.runtime === runtime && one.workload === workload && one.point === point && one.part === part)?.median ?? NaN;
  return runtimes.flatMap((runtime) => {
    const who = runtimeTitles[runtime];
    const open = ["after another", "first of its process"].map((part): Row => {
      const question = { workload: "cold-open", point: "after kill -9", part };
      const ms = median(runtime, question.workload, question.point, part);
      const what = `Open 1,000,000 records after kill -9, read the first, ${part}`;
      return { what, who, goal: `≤ ${OPEN_MS} ms`, measured: `${number(ms)} ms`, met: ms <= OPEN_MS, toC: "", peer: bestPeer(compare, question, runtime) };
    });
    const backlog = ["push", "pop"].map((part): Row => {
      const question = { workload: "backlog", point: "10,000,000", part };
      const ratio = median(runtime, "backlog", question.point, part) / median(runtime, "backlog", "none", part);
      const what = `Queue.${part} beside 10,000,000 records, to the same at an empty queue`;
      return { what, who, goal: `≤ ${BACKLOG_RATIO}×`, measured: times(ratio), met: ratio <= BACKLOG_RATIO, toC: "", peer: bestPeer(compare, question, runtime) };
    });
    return [...open, ...backlog];
  });
}

export function rowsOf(figures: Figures): Row[] {
  const rows = [...ownRows(figures), ...queueRows(figures), ...compareRows(figures)];
  // Questions together, each runtime's answer below.
  return [...Map.groupBy(rows, ({ what }) => what).values()].flat();
}

/** As a table of Markdown. */
export function table(figures: Figures): string {
  const mark = (met: boolean | undefined): string => (met === undefined ? "" : met ? "met" : "**missed**");
  let last = "";
  const lines = rowsOf(figures).map(({ what, who, goal, measured, met, toC, peer }) => {
    const title = what === last ? "" : what;
    last = what;
    return [title, who, goal, measured, mark(met), toC, peer];
  });
  const head = ["", "", "goal", "median", "", "to C", "best peer; holdfast to it"];
  return [head, head.map(() => "---"), ...lines].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

export function readFigures(folder: string): Figures {
  const read = (file: string): unknown => JSON.parse(readFileSync(path.join(folder, file), "utf8"));
  return { own: read(files.own) as Report, queue: read(files.queue) as PipelineReport, compare: read(files.compare) as CompareReport };
}

/** Runs the three benchmarks. */
function measure(folder: string): void {
  const scripts = { own: "run.ts", queue: "pipelines.ts", compare: "compare/run.ts" } as const;
  for (const [name, script] of Object.entries(scripts)) {
    const json = path.join(folder, files[name as keyof typeof files]);
    const args = ["--disable-warning=ExperimentalWarning", path.join(import.meta.dirname, script), "--json", json];
    const { status, signal } = spawnSync(process.execPath, args, { stdio: ["ignore", "inherit", "inherit"] });
    if (status !== 0) throw new Error(`${script} ended with ${signal ?? status}`);
  }
}

if (import.meta.main) {
  try {
    const { values } = parseArgs({ options: { from: { type: "string" }, to: { type: "string", default: path.join(import.meta.dirname, "results") }, help: { type: "boolean", default: false } } });
    if (values.help) process.stdout.write(help);
    else {
      if (values.from === undefined) measure(values.to);
      console.log(table(readFigures(values.from ?? values.to)));
    }
  } catch (error) {
    console.error(`bench: ${(error as Error).message}\n${help}`);
    process.exitCode = 1;
  }
}
