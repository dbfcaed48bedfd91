/** The check of the ingest example: one process counts the file by itself, with other code, and the two results are compared. */
import { createReadStream } from "node:fs";
import { cutPath } from "./log_line.ts";

/** Counts under the names that the shared counters have, "status 200" and so on. */
export type Counts = ReadonlyMap<string, number>;

/** What the file holds. */
export interface Expected {
  readonly lines: number;
  readonly bytes: number;
  /** The most bytes of one line: what a line counted twice adds at most. */
  readonly mostBytes: number;
  readonly notUnderstood: number;
  readonly counts: Counts;
}

/** What the processes made of it. */
export interface Counted {
  /** Lines that the producers say they pushed. */
  readonly pushed: number;
  readonly processed: number;
  readonly bytes: number;
  readonly notUnderstood: number;
  readonly counts: Counts;
  /** Lines that no consumer counted. */
  readonly lost: number;
  readonly duplicates: number;
  readonly pushedTwice: number;
  /** Records still in the queue. */
  readonly left: number;
  readonly consumersKilled: number;
}

/**
 * Counts the lines of a file. On purpose another way than the consumers': a stream instead of a mapping, split() instead of a
 * regular expression, a Map instead of shared counters.
 */
export async function countFile(file: string): Promise<Expected> {
  const counts = new Map<string, number>();
  const add = (name: string): void => void counts.set(name, (counts.get(name) ?? 0) + 1);
  let lines = 0;
  let bytes = 0;
  let mostBytes = 0;
  let notUnderstood = 0;

  const countLine = (line: string): void => {
    lines++;
    const fields = (line.endsWith("\r") ? line.slice(0, -1) : line).split(" ");
    const [quotedMethod = "", target, , status = "", size = ""] = fields.slice(5);
    const isLogLine =
      target !== undefined && /^"[A-Z]{1,20}$/.test(quotedMethod) && /^\d{3}$/.test(status) && /^(\d{1,12}|-)$/.test(size);
    if (!isLogLine) {
      notUnderstood++;
      return;
    }
    add(`status ${status}`);
    add(`method ${quotedMethod.slice(1)}`);
    add(`path ${cutPath(target.split("?")[0] as string)}`);
    const sent = size === "-" ? 0 : Number(size);
    bytes += sent;
    mostBytes = Math.max(mostBytes, sent);
  };

  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let rest = "";
  for await (const chunk of createReadStream(file) as AsyncIterable<Uint8Array>) {
    const pieces = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = pieces.pop() as string;
    for (const line of pieces) countLine(line);
  }
  rest += decoder.decode();
  if (rest !== "") countLine(rest);
  return { lines, bytes, mostBytes, notUnderstood, counts };
}

/**
 * Everything that is wrong with the result, a sentence each; empty if it is right. Without kills all counts must be equal. A
 * killed consumer may have counted the record that it held and had not acknowledged, once for each kill: counts may then be too
 * high, never too low. A record is one of the duplicates before it is one of the lines processed, and that before it is counted
 * anywhere else: what the one has too much bounds the next.
 */
export function compare(expected: Expected, counted: Counted): string[] {
  const { duplicates } = counted;
  const problems: string[] = [];
  const must = (ok: boolean, problem: string): void => void (ok || problems.push(problem));

  must(counted.lost === 0, `${counted.lost} lines were lost`);
  must(counted.pushed === expected.lines, `${counted.pushed} lines were pushed, the file has ${expected.lines}`);
  must(counted.pushedTwice === 0, `${counted.pushedTwice} lines were pushed twice`);
  must(counted.left === 0, `${counted.left} records are left in the queue`);
  must(
    duplicates <= counted.consumersKilled,
    `${duplicates} records came again, but only ${counted.consumersKilled} consumers were killed, each of which held one at most`,
  );

  const compareOne = (name: string, found: number, right: number, slack: number): void => {
    if (found >= right && found <= right + slack) return;
    problems.push(`${name}: counted ${found}, the file has ${right}${slack > 0 ? `, at most ${slack} more are explained` : ""}`);
  };
  compareOne("lines processed", counted.processed, expected.lines, duplicates);
  const twice = Math.max(0, counted.processed - expected.lines);
  compareOne("bytes", counted.bytes, expected.bytes, twice * expected.mostBytes);
  compareOne("lines not understood", counted.notUnderstood, expected.notUnderstood, twice);

  // A line has one status, one method and one path: all counters of a kind together have no more too much than the lines.
  const excess = new Map<string, number>();
  for (const name of new Set([...expected.counts.keys(), ...counted.counts.keys()])) {
    const right = expected.counts.get(name) ?? 0;
    const found = counted.counts.get(name) ?? 0;
    compareOne(`"${name}"`, found, right, twice);
    const kind = name.slice(0, name.indexOf(" "));
    excess.set(kind, (excess.get(kind) ?? 0) + Math.max(0, found - right));
  }
  for (const [kind, sum] of excess) {
    must(sum <= twice, `the ${kind} counters have ${sum} too much together, ${twice} are explained`);
  }
  return problems;
}
