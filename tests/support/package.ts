/** The package as it is published: packed once for a test file, installed into empty folders. */
import assert from "node:assert/strict";
import { spawnSync, type SpawnSyncOptions } from "node:child_process";
import * as fs from "node:fs";
import { delimiter, join } from "node:path";
import { currentRuntime, root } from "./runtimes.ts";
import type { TemporaryFiles } from "./temporary.ts";

/** Why tests of the package are not run here; undefined if they are. They start all runtimes themselves, so once is enough. */
export async function packageRefusal(): Promise<string | undefined> {
  if (currentRuntime !== "node") return "once is enough, under Node: it starts all runtimes itself";
  const { noPackage } = await import("../../scripts/package.ts");
  return noPackage();
}

/** An environment with nothing of this user's: caches and temporary files in `folder`, and the runtimes on the path. */
export function bareEnvironment(folder: string, more: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const temporary = join(folder, "tmp");
  fs.mkdirSync(temporary, { recursive: true });
  fs.chmodSync(temporary, 0o777);
  return {
    PATH: [`${root}node_modules/.bin`, process.env.PATH].join(delimiter),
    HOME: join(folder, "home"),
    TMPDIR: temporary,
    // A process of a test that hangs belongs to the gate's run.
    ...(process.env.HOLDFAST_TEST_RUN === undefined ? {} : { HOLDFAST_TEST_RUN: process.env.HOLDFAST_TEST_RUN }),
    DENO_DIR: join(folder, "deno"),
    DENO_NO_PROMPT: "1",
    DENO_NO_UPDATE_CHECK: "1",
    BUN_INSTALL_CACHE_DIR: join(folder, "bun"),
    BUN_RUNTIME_TRANSPILER_CACHE_PATH: "0",
    DO_NOT_TRACK: "1",
    NO_COLOR: "1",
    NODE_NO_WARNINGS: "1",
    npm_config_cache: join(folder, "npm"),
    npm_config_update_notifier: "false",
    CI: "1",
    ...more,
  };
}

/** What a command printed; it must have succeeded. */
export function output(command: string, args: readonly string[], options: SpawnSyncOptions): string {
  const { status, signal, stdout, stderr, error } = spawnSync(command, args, { timeout: 120_000, ...options, encoding: "utf8" });
  assert.equal(status, 0, `${command} ${args.join(" ")}: ${error?.message ?? signal ?? status}\n${stdout}\n${stderr}`);
  return stdout;
}

/** Builds the package if it is not up to date, and packs it; the path of the tarball. */
export async function pack(files: TemporaryFiles): Promise<string> {
  const { buildPackage } = await import("../../scripts/package.ts");
  await buildPackage();
  const folder = files.next("packed");
  fs.mkdirSync(folder);
  output("npm", ["pack", "--ignore-scripts", "--pack-destination", folder], { cwd: root, env: bareEnvironment(folder) });
  const [name = ""] = fs.readdirSync(folder).filter((file) => file.endsWith(".tgz"));
  return join(folder, name);
}

/** Unpacks the tarball into an empty folder; the folder of the package in it. */
export function unpack(files: TemporaryFiles, tarball: string): string {
  const folder = files.next("unpacked");
  fs.mkdirSync(folder);
  output("tar", ["-xzf", tarball, "-C", folder], {});
  return join(folder, "package");
}

/** A program that uses a real queue and real counters in a folder, once with waiting; prints a line of JSON. */
export const PROGRAM = `import { Counters, Queue } from "holdfast";
export function use(folder) {
  const queue = Queue.open(folder + "/queue");
  const counters = Counters.open(folder + "/counters", { names: ["runs"] });
  return {
    async run() {
      queue.push({ hello: "world" });
      const first = queue.pop();
      setTimeout(() => queue.push("late"), 50);
      const late = await queue.take({ timeoutMs: 20_000 });
      counters.add("runs");
      const result = { first, late, runs: counters.get("runs") };
      queue.close();
      counters.close();
      return result;
    },
  };
}
`;

const MAIN = `import { use } from "./use.mjs";
const folder = process.argv[2] ?? process.env.FOLDER;
console.log(JSON.stringify(await use(folder).run()));
`;

/** Writes the program into a folder, as use.mjs and main.mjs. */
export function writeProgram(folder: string): void {
  fs.mkdirSync(folder, { recursive: true });
  fs.writeFileSync(join(folder, "use.mjs"), PROGRAM);
  fs.writeFileSync(join(folder, "main.mjs"), MAIN);
  if (!fs.existsSync(join(folder, "package.json"))) fs.writeFileSync(join(folder, "package.json"), `{ "type": "module" }\n`);
}

/** How each runtime runs a file of a folder with node_modules. */
export const RUN: Readonly<Record<"node" | "bun" | "deno", readonly string[]>> = {
  node: [],
  bun: ["run"],
  deno: ["run", "-A", "--no-check"],
};

/** Checks what the program printed, the `runs`-th time in its folder. */
export function assertUsed(stdout: string, runs: number): void {
  assert.deepEqual(JSON.parse(stdout), { first: { hello: "world" }, late: "late", runs });
}
