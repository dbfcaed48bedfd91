#!/usr/bin/env node
/**
 * The command line, `holdfast`: finds the command, runs it, and ends the process by what came of it.
 *
 * @module
 */
import * as fs from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { type Command, helpOf, overview, parseCall } from "./command.ts";
import { commands } from "./commands.ts";
import { BrokenPipe, closest, describe, exitCodes, Interrupted, UsageError } from "./errors.ts";
import { complain, note, toJson, write } from "./output.ts";
import { dieOf } from "./signals.ts";

/** The version in the package's own package.json, which lies above this file wherever it is installed. */
function version(): string {
  for (const up of ["../package.json", "../../package.json"]) {
    try {
      const { name, version } = JSON.parse(fs.readFileSync(fileURLToPath(new URL(up, import.meta.url)), "utf8")) as { name?: string; version?: string };
      if (name === "holdfast" && version !== undefined) return version;
    } catch {
      // It is further up.
    }
  }
  return "unknown";
}

/** Flags that may stand before the command's words. */
const LEADING: ReadonlySet<string> = new Set(["--json", "--human", "--help", "-h", "--version"]);

/** The command of a command line, and what belongs to it. A string is text to print instead. */
function find(args: readonly string[]): { found: Command; rest: string[] } | string {
  let start = 0;
  while (LEADING.has(args[start] ?? "")) start++;
  const leading = args.slice(0, start);
  const [first, second] = args.slice(start);
  const groups = [...new Set(commands.filter(({ name }) => name.includes(" ")).map(({ name }) => name.split(" ")[0] as string))];
  if (leading.includes("--version")) return `${version()}\n`;
  if (first === undefined || first === "help") {
    if (first === "help" && second !== undefined) return find([...args.slice(start + 1), "--help"]);
    if (first === undefined && !leading.some((word) => word === "--help" || word === "-h")) throw new UsageError("which command?");
    return overview(commands, undefined);
  }
  const alone = commands.find(({ name }) => name === first);
  if (alone !== undefined) return { found: alone, rest: [...leading, ...args.slice(start + 1)] };
  if (!groups.includes(first)) {
    const near = closest(first, [...groups, ...commands.map(({ name }) => name)]);
    throw new UsageError(`there is no command '${first}'${near === undefined ? "" : `; did you mean '${near}'?`}`);
  }
  const group = commands.filter(({ name }) => name.startsWith(`${first} `));
  if (second === undefined || second === "--help" || second === "-h" || second === "help") {
    const asked = second !== undefined || leading.some((word) => word === "--help" || word === "-h");
    if (!asked) throw new UsageError(`which command of '${first}'? There are ${group.map(({ name }) => name.slice(first.length + 1)).join(", ")}`);
    return overview(group, first);
  }
  const found = group.find(({ name }) => name === `${first} ${second}`);
  if (found !== undefined) return { found, rest: [...leading, ...args.slice(start + 2)] };
  const near = closest(second, group.map(({ name }) => name.slice(first.length + 1)));
  throw new UsageError(`there is no command '${first} ${second}'${near === undefined ? "" : `; did you mean '${first} ${near}'?`}`);
}

async function main(args: readonly string[]): Promise<number> {
  let helpFor = "";
  try {
    const chosen = find(args);
    if (typeof chosen === "string") {
      await write(chosen);
      return exitCodes.done;
    }
    const { found, rest } = chosen;
    helpFor = ` ${found.name}`;
    const call = parseCall(found, rest);
    if (call.options.help) {
      await write(helpOf(found));
      return exitCodes.done;
    }
    return (await found.run(call)) ?? exitCodes.done;
  } catch (error) {
    return await failed(error, args.includes("--json"), helpFor);
  }
}

/** Says what went wrong; returns the exit code. */
async function failed(error: unknown, asJson: boolean, helpFor: string): Promise<number> {
  if (error instanceof BrokenPipe) return exitCodes.pipe;
  if (error instanceof Interrupted) return await dieOf(error.signal);
  const usage = error instanceof UsageError;
  if (asJson) {
    const { code = usage ? "ERR_USAGE" : "ERR_BUG" } = error as { code?: string };
    complain(toJson({ error: { code, message: describe(error) } }));
  } else {
    note(describe(error));
    if (usage) complain(`Try: holdfast${helpFor} --help`);
  }
  return usage ? exitCodes.usage : exitCodes.failed;
}

// Node's one on ffi would stand at the beginning of everything that is said on the standard error stream.
process.removeAllListeners("warning");
process.on("warning", ({ name, message }) => {
  if (name !== "ExperimentalWarning") note(message);
});

const code = await main(process.argv.slice(2));
// At once: a standard input that nobody reads any more would keep the process.
process.exit(code);

