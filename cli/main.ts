#!/usr/bin/env node
/**
 * The command line, `holdfast`: finds the command, runs it, and ends the process by what came of it.
 *
 * @module
 */
import process from "node:process";
import { helpOf, parseCall } from "./command.ts";
import { find } from "./commands.ts";
import { BrokenPipe, describe, exitCodes, Interrupted, UsageError } from "./errors.ts";
import { complain, note, toJson, write } from "./output.ts";
import { dieOf } from "./signals.ts";

async function main(args: readonly string[]): Promise<number> {
  let helpFor = "";
  try {
    // It has clients of its own to load, and a table of options that depends on the engine.
    if (args[0] === "bridge") return await (await import("./bridge.ts")).bridge(args.slice(1));
    const chosen = await find(args);
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

