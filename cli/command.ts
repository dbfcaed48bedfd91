/**
 * What a command is: its words, its options and its help, in one table each. Parsing, checks and help all come from that table.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { closest, UsageError } from "./errors.ts";

/** An option: how it is written, what it means, and how its text becomes a value. */
export interface Option<T> {
  /** What stands for the value in the help; undefined for a flag. */
  readonly placeholder: string | undefined;
  readonly text: string;
  readonly short?: string;
  /** The value of a text; `UsageError` if it is none. */
  readonly parse: (name: string, text: string) => T;
  /** The value if the option is not given. */
  readonly missing: T;
}

export type Options = Readonly<Record<string, Option<unknown>>>;
/** The values of a table of options, by the options' names as they are written. */
export type Values<O extends Options> = { readonly [Name in keyof O]: O[Name] extends Option<infer T> ? T : never };

/** What a command is run with. */
export interface Call<O extends Options = Options> {
  readonly options: Values<O> & Values<typeof commonOptions>;
  /** What stands on the command line beside the options. */
  readonly args: readonly string[];
  /** What stands behind `--`, for a command that takes one. */
  readonly rest: readonly string[];
}

/** One command. */
export interface Command {
  /** Its words: "queue push". */
  readonly name: string;
  /** What it does, in a line. */
  readonly summary: string;
  /** Its arguments as the help shows them: "QUEUE [VALUE ...]". */
  readonly args: string;
  /** Least and most arguments. */
  readonly count: readonly [least: number, most: number];
  /** What one would want to know besides, in lines. */
  readonly text: string;
  readonly options: Options;
  /** A command line, and what it does. */
  readonly examples: readonly (readonly [line: string, text: string])[];
  /** The exit code; undefined for 0. */
  readonly run: (call: Call) => Promise<number | void> | number | void;
}

/** Declares a command; its `run` gets the options' values as their types are. */
export function command<const O extends Options>(
  declared: Omit<Command, "options" | "run"> & { options: O; run: (call: Call<O>) => Promise<number | void> | number | void },
): Command {
  return declared as unknown as Command;
}

export function flag(text: string, short?: string): Option<boolean> {
  return { placeholder: undefined, text, parse: () => true, missing: false, ...(short === undefined ? {} : { short }) };
}

/** An option with a value of its own kind. */
export function option<T>(placeholder: string, text: string, parse: (name: string, text: string) => T): Option<T | undefined>;
export function option<T>(placeholder: string, text: string, parse: (name: string, text: string) => T, missing: T): Option<T>;
export function option<T>(placeholder: string, text: string, parse: (name: string, text: string) => T, missing?: T): Option<T | undefined> {
  return { placeholder, text, parse, missing };
}

export const asText = (_: string, text: string): string => text;

/** A whole number from `least` to `most`. */
export function whole(least: number, most: number = Number.MAX_SAFE_INTEGER): (name: string, text: string) => number {
  return (name, text) => {
    const value = /^[+-]?\d{1,16}$/.test(text) ? Number(text) : NaN;
    if (value >= least && value <= most) return value;
    const range = most === Number.MAX_SAFE_INTEGER ? `of ${least} or more` : `from ${least} to ${most}`;
    throw new UsageError(`${name} must be a whole number ${range}; received '${text}'`);
  };
}

const UNITS: Readonly<Record<string, number>> = { "": 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** A number of bytes, also as 64K, 10M, 1G: powers of 1024. */
export function bytes(least: number): (name: string, text: string) => number {
  return (name, text) => {
    const [, digits = "", unit = ""] = /^(\d{1,16})([kmgt]?)(?:i?b)?$/i.exec(text) ?? [];
    const value = digits === "" ? NaN : Number(digits) * (UNITS[unit.toLowerCase()] as number);
    if (value >= least && value <= Number.MAX_SAFE_INTEGER) return value;
    throw new UsageError(`${name} must be a number of bytes, ${least} or more, such as 4096, 64K, 10M or 1G; received '${text}'`);
  };
}

/** One of some words. */
export function oneOf<const W extends string>(...words: readonly W[]): (name: string, text: string) => W {
  return (name, text) => {
    const found = words.find((word) => word === text);
    if (found !== undefined) return found;
    throw new UsageError(`${name} must be ${words.slice(0, -1).join(", ")} or ${words.at(-1)}; received '${text}'`);
  };
}

/** Options that every command has. */
export const commonOptions: Readonly<Record<"json" | "human" | "help", Option<boolean>>> = {
  json: flag("machine-readable output: JSON, one value a line"),
  human: flag("sizes and numbers for people: 2.1 MiB, 12,345"),
  help: flag("print the help of the command", "h"),
};

/** All options of a command, the common ones last. */
export function optionsOf(declared: Command): Options {
  return { ...declared.options, ...commonOptions };
}

function parseTokens(args: readonly string[], options: Options) {
  return parseArgs({
    args: [...args],
    // The checks are below: the runtimes' own messages differ, and know of no closest word.
    strict: false,
    tokens: true,
    allowPositionals: true,
    options: Object.fromEntries(
      Object.entries(options).map(([name, { placeholder, short }]) => [name, { type: placeholder === undefined ? "boolean" : "string", ...(short === undefined ? {} : { short }) }]),
    ),
  }).tokens;
}

/** Reads what stands behind the command's words. */
export function parseCall(declared: Command, args: readonly string[]): Call {
  const options = optionsOf(declared);
  const values: Record<string, unknown> = Object.fromEntries(Object.entries(options).map(([name, { missing }]) => [name, missing]));
  const positionals: string[] = [];
  const rest: string[] = [];
  let ended = false;
  for (const token of parseTokens(args, options)) {
    if (token.kind === "option-terminator") ended = true;
    else if (token.kind === "positional") (ended && takesRest(declared) ? rest : positionals).push(token.value);
    else values[token.name] = valueOf(token, options);
  }
  if (values.help !== true) checkCount(declared, positionals, rest);
  return { options: values as Call["options"], args: positionals, rest };
}

function takesRest({ args }: Command): boolean {
  return args.includes(" -- ");
}

function valueOf({ name, rawName, value, inlineValue }: { name: string; rawName: string; value?: string | undefined; inlineValue?: boolean | undefined }, options: Options): unknown {
  const found = Object.hasOwn(options, name) ? options[name] : undefined;
  if (found === undefined) {
    const near = closest(name, Object.keys(options));
    throw new UsageError(`there is no option ${rawName}${near === undefined ? "" : `; did you mean --${near}?`}`);
  }
  if (found.placeholder === undefined) {
    if (value !== undefined) throw new UsageError(`${rawName} takes no value; received '${value}'`);
    return true;
  }
  if (value === undefined) throw new UsageError(`${rawName} needs a value: ${rawName} ${found.placeholder}`);
  // "--lease-ms --json" is a forgotten value rather than an odd one; a negative number is for the check to refuse.
  if (inlineValue !== true && /^-[^\d]/.test(value)) {
    throw new UsageError(`${rawName} needs a value: ${rawName} ${found.placeholder}; received '${value}' (a value that starts with "-" is written ${rawName}=${value})`);
  }
  return found.parse(rawName, value);
}

function checkCount(declared: Command, { length }: readonly string[], rest: readonly string[]): void {
  const [least, most] = declared.count;
  const usage = `usage: holdfast ${declared.name} [options] ${declared.args}`;
  if (length < least) throw new UsageError(`too few arguments: ${usage}`);
  if (length > most) throw new UsageError(`too many arguments: ${usage}`);
  if (takesRest(declared) && rest.length === 0) throw new UsageError(`the command to run is missing: ${usage}`);
}

/** Lines of a table with two columns. */
function listed(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, text]) => `  ${name.padEnd(width)}  ${text.replaceAll("\n", `\n${" ".repeat(width + 4)}`)}`).join("\n");
}

function shown(name: string, { placeholder, short }: Option<unknown>): string {
  return `${short === undefined ? "" : `-${short}, `}--${name}${placeholder === undefined ? "" : ` ${placeholder}`}`;
}

/** The help of one command. */
export function helpOf(declared: Command): string {
  const options = Object.entries(optionsOf(declared)).map(([name, one]) => [shown(name, one), one.text] as const);
  const parts = [
    `Usage: holdfast ${`${declared.name} [options] ${declared.args}`.trim()}`,
    declared.summary,
    declared.text,
    `Options:\n${listed(options)}`,
    `Examples:\n${declared.examples.map(([line, text]) => `  ${line}\n      ${text}`).join("\n")}`,
  ];
  return `${parts.filter((part) => part !== "").join("\n\n")}\n`;
}

/** The help of several commands: all, or those of a group. */
export function overview(commands: readonly Pick<Command, "name" | "summary">[], group: string | undefined): string {
  const title = group === undefined ? "Usage: holdfast COMMAND [options]" : `Usage: holdfast ${group} COMMAND [options]`;
  const about = group === undefined ? "\n\nMemory-mapped files, shared counters, metrics and persistent queues from the shell." : "";
  const rows = commands.map(({ name, summary }) => [name, summary] as const);
  return `${title}${about}

Commands:
${listed(rows)}

holdfast COMMAND --help says more of a command, with examples; holdfast --version prints the version. Every command has --json.

Exit codes: 0 done; 1 the system or the file said no, or damage was found; 2 the command line makes no sense; 3 there was nothing
to take, or no room; 141 nobody reads the output any more. Ended by a signal: 128 + its number. NO_COLOR=1 turns colours off.
`;
}
