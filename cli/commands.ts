/** All commands, in the order of the help, and how one is found. */
import * as fs from "node:fs";
import { fileURLToPath } from "node:url";
import { type Command, overview } from "./command.ts";
import { closest, UsageError } from "./errors.ts";

/** The modules of commands by their first word. Loaded when they are needed: a command need not wait for what it does not use. */
const MODULES: Readonly<Record<string, () => Promise<{ readonly commands: readonly Command[] }>>> = {
  info: () => import("./commands/info.ts"),
  queue: () => import("./commands/queue.ts"),
  counters: () => import("./commands/counters.ts"),
  metrics: () => import("./commands/metrics.ts"),
  shm: () => import("./commands/shm.ts"),
  map: () => import("./commands/map.ts"),
  top: () => import("./commands/top.ts"),
  bench: () => import("./commands/bench.ts"),
  doctor: () => import("./commands/doctor.ts"),
};

/** As the list of commands shows it; ../bridge.ts parses and helps by itself. */
const BRIDGE = { name: "bridge", summary: "carry records to and from NATS JetStream or Redis Streams" };

/** All commands. */
export async function allCommands(): Promise<Command[]> {
  const modules = await Promise.all(Object.values(MODULES).map((load) => load()));
  return modules.flatMap(({ commands }) => commands);
}

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
export async function find(args: readonly string[]): Promise<{ found: Command; rest: string[] } | string> {
  let start = 0;
  while (LEADING.has(args[start] ?? "")) start++;
  const leading = args.slice(0, start);
  const [first, second] = args.slice(start);
  const helped = leading.some(isHelp);
  if (leading.includes("--version")) return `${version()}\n`;
  if (first === "help" && second !== undefined) return await find([...args.slice(start + 1), "--help"]);
  if (first === "help" || (first === undefined && helped)) return overview([...(await allCommands()), BRIDGE], undefined);
  if (first === undefined) throw new UsageError("which command?");
  const load = Object.hasOwn(MODULES, first) ? MODULES[first] : undefined;
  if (load === undefined) throw unknown(first, [...Object.keys(MODULES), BRIDGE.name]);
  const { commands } = await load();
  const [only] = commands;
  if (only?.name === first) return { found: only, rest: [...leading, ...args.slice(start + 1)] };
  if (second === undefined ? helped : isHelp(second)) return overview(commands, first);
  if (second === undefined) throw new UsageError(`which command of '${first}'? There are ${commands.map(({ name }) => name.slice(first.length + 1)).join(", ")}`);
  const found = commands.find(({ name }) => name === `${first} ${second}`);
  if (found === undefined) throw unknown(`${first} ${second}`, commands.map(({ name }) => name));
  return { found, rest: [...leading, ...args.slice(start + 2)] };
}

function isHelp(word: string): boolean {
  return word === "--help" || word === "-h" || word === "help";
}

function unknown(name: string, known: readonly string[]): UsageError {
  const near = closest(name, known);
  return new UsageError(`there is no command '${name}'${near === undefined ? "" : `; did you mean '${near}'?`}`);
}
