/** What the ingest example prints: progress while it runs, tables at the end. */
import process from "node:process";
import { Presets, SingleBar } from "cli-progress";
import Table from "cli-table3";
import type { Counted, Counts, Expected } from "./check.ts";
import type { Member } from "./crew.ts";

export interface ProgressState {
  readonly pushed: number;
  readonly processed: number;
  readonly killed: number;
}

/** Shows how far the run is. */
export interface Progress {
  update(state: ProgressState): void;
  stop(state: ProgressState): void;
}

/** A bar on a terminal; otherwise a line each second and one at the end. */
export function startProgress(lines: number): Progress {
  return process.stdout.isTTY ? progressBar(lines) : progressLines(lines);
}

function progressBar(lines: number): Progress {
  const format = "{bar} {percentage} % | {value} of {total} lines | {pushed} pushed | {killed} killed | {duration_formatted}";
  const bar = new SingleBar({ format, stream: process.stdout, hideCursor: true, barsize: 30 }, Presets.shades_classic);
  bar.start(lines, 0, { pushed: 0, killed: 0 });
  const update = ({ pushed, processed, killed }: ProgressState): void => bar.update(Math.min(processed, lines), { pushed, killed });
  return {
    update,
    stop: (state) => {
      update(state);
      bar.stop();
    },
  };
}

function progressLines(lines: number): Progress {
  const started = performance.now();
  let last = started;
  const print = ({ pushed, processed, killed }: ProgressState): void => {
    const seconds = ((performance.now() - started) / 1000).toFixed(1).padStart(6);
    const percent = Math.floor((100 * Math.min(processed, lines)) / lines);
    console.log(`${seconds} s  ${number(pushed)} pushed, ${number(processed)} counted of ${number(lines)} (${percent} %), ${killed} killed`);
  };
  return {
    update: (state) => {
      if (performance.now() - last < 1000) return;
      last = performance.now();
      print(state);
    },
    stop: print,
  };
}

/** The outcome of a run. */
export interface Outcome {
  readonly expected: Expected;
  readonly counted: Counted;
  readonly members: readonly Member[];
  /** Lines pushed or counted by each member. */
  readonly linesOf: (member: Member) => number;
  readonly killsPlanned: number;
  readonly killed: { readonly producers: number; readonly consumers: number };
  readonly seconds: number;
  readonly seed: number;
}

/** The tables. */
export function report(outcome: Outcome): string {
  return [lineTable(outcome), processTable(outcome), countTable(outcome.expected, outcome.counted)].join("\n\n");
}

function lineTable({ expected, counted, killed, killsPlanned, seconds, seed }: Outcome): string {
  const twice = counted.processed - expected.lines;
  const table = plainTable(["", "", ""], [null, "right", null]);
  table.push(
    ["lines in", number(expected.lines), ""],
    ["processed", number(expected.lines - counted.lost), ""],
    ["duplicates", number(counted.duplicates), duplicatesNote(counted.duplicates, twice)],
    ["lost", number(counted.lost), ""],
    ["lines/s", number(Math.round(expected.lines / seconds)), `${seconds.toFixed(2)} s from the first push to the last ack`],
  );
  if (killsPlanned > 0) {
    const { producers, consumers } = killed;
    const note = `${producers} producers, ${consumers} consumers (${killsPlanned} of each planned, --seed ${seed})`;
    table.push(["killed", number(producers + consumers), note]);
  }
  return table.toString();
}

function duplicatesNote(duplicates: number, twice: number): string {
  if (duplicates === 0) return "";
  return `held by a killed consumer and delivered again; ${number(Math.max(0, twice))} of them counted twice, at least in part`;
}

function processTable({ members, linesOf }: Outcome): string {
  const table = plainTable(["process", "runtime", "lines", "killed"], [null, null, "right", "right"]);
  for (const member of members) {
    table.push([`${member.kind} ${member.index}`, member.runtime, number(linesOf(member)), number(member.killed)]);
  }
  return table.toString();
}

function countTable(expected: Expected, counted: Counted): string {
  const table = plainTable(["", "counted", "in the file"], [null, "right", "right"]);
  const row = (name: string): void => {
    table.push([cell(name), number(counted.counts.get(name) ?? 0), number(expected.counts.get(name) ?? 0)]);
  };
  highest(expected.counts, "status ").forEach(row);
  highest(expected.counts, "method ").forEach(row);
  highest(expected.counts, "path ").slice(0, 5).forEach(row);
  table.push(["bytes", number(counted.bytes), number(expected.bytes)]);
  table.push(["lines not understood", number(counted.notUnderstood), number(expected.notUnderstood)]);
  return table.toString();
}

/** The names that begin with `prefix`, highest count first. */
function highest(counts: Counts, prefix: string): string[] {
  const found = [...counts].filter(([name]) => name.startsWith(prefix));
  return found.sort(([nameA, a], [nameB, b]) => b - a || (nameA < nameB ? -1 : 1)).map(([name]) => name);
}

function plainTable(head: string[], colAligns: ("right" | null)[]): Table.Table {
  const aligns = colAligns.map((align) => align ?? "left");
  // Without colours: the text is the same in a terminal and in a file.
  return new Table({ ...(head.every((name) => name === "") ? {} : { head }), colAligns: aligns, style: { head: [], border: [], compact: true } });
}

/** Text of the file as it may be shown: a log can hold anything, a terminal must not obey it. */
function cell(text: string): string {
  const clean = text.replace(/[\p{Cc}\p{Cf}]/gu, "?");
  return clean.length <= 60 ? clean : `${clean.slice(0, 59)}…`;
}

function number(value: number): string {
  return value.toLocaleString("en-US");
}
