/** All commands, in the order of the help, and how one is found. */
import * as fs from "node:fs";
import { fileURLToPath } from "node:url";
import { type Command, overview } from "./command.ts";
import { bench } from "./commands/bench.ts";
import { counterCommands } from "./commands/counters.ts";
import { doctor } from "./commands/doctor.ts";
import { info } from "./commands/info.ts";
import { mapCommands } from "./commands/map.ts";
import { metricsCommands } from "./commands/metrics.ts";
import { queueCommands } from "./commands/queue.ts";
import { shmCommands } from "./commands/shm.ts";
import { top } from "./commands/top.ts";
import { work } from "./commands/work.ts";
import { closest, UsageError } from "./errors.ts";

export const commands: readonly Command[] = [
  info,
  ...queueCommands,
  work,
  ...counterCommands,
  ...metricsCommands,
  ...shmCommands,
  ...mapCommands,
  top,
  bench,
  doctor,
];

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
export function find(args: readonly string[]): { found: Command; rest: string[] } | string {
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
