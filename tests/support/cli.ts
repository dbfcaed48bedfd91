/** Runs of the command line, under the runtime of the test. */
import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import { atEnd } from "./cleanup.ts";
import { commandLine, currentRuntime, root } from "./runtimes.ts";
import { temporaryFiles } from "./temporary.ts";

export const main: string = `${root}cli/main.ts`;

/** How a run ended. */
export interface Ended {
  /** The exit code, or the signal that it died of. */
  readonly status: number | NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A run under way. */
export interface Run {
  readonly child: ChildProcess;
  /** What it has written by now. */
  readonly output: { stdout: string; stderr: string };
  readonly ended: Promise<Ended>;
  /** Sends a signal, and nothing else: Deno's `child.kill()` closes the pipes as well. */
  signal(name: NodeJS.Signals): void;
  /** Waits until `condition` holds for what was written. */
  until(condition: (output: { stdout: string; stderr: string }) => boolean): Promise<void>;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** The command line of a test file; whatever still runs after its last test is killed. */
export interface Cli {
  start(args: readonly string[], options?: RunOptions): Run;
  /** Runs it to its end, with `input` on its standard input. */
  run(args: readonly string[], input?: string | Uint8Array, options?: RunOptions): Promise<Ended>;
  /** Runs a shell script that has a command `holdfast`. */
  shell(script: string, options?: RunOptions): Promise<Ended>;
  startShell(script: string, options?: RunOptions): Run;
}


/** Called at the top of a test file. */
export function cli(): Cli {
  const running = new Set<ChildProcess>();
  const killAll = (): void => running.forEach((child) => child.kill("SIGKILL"));
  atEnd(killAll);
  const files = temporaryFiles();
  // Node keeps the TypeScript that it has translated: without that each run takes 0.3 s longer.
  const common = (): Record<string, string | undefined> => ({ ...process.env, NO_COLOR: "1", NODE_COMPILE_CACHE: `${files.folder}/cache` });
  /** A folder with a program `holdfast`. */
  const programFolder = (): string => {
    const path = `${files.folder}/holdfast`;
    const [executable, args] = commandLine(currentRuntime, main);
    if (!fs.existsSync(path)) fs.writeFileSync(path, `#!/bin/sh\nexec ${[executable, ...args].map((word) => `'${word}'`).join(" ")} "$@"\n`, { mode: 0o700 });
    return files.folder;
  };
  const launch = ([executable, args]: [string, string[]], { cwd = root, env = {} }: RunOptions = {}): Run => {
    const child = spawn(executable, args, { cwd, env: { ...common(), ...env }, stdio: ["pipe", "pipe", "pipe"] });
    running.add(child);
    const output = { stdout: "", stderr: "" };
    const waiting = new Set<() => void>();
    for (const name of ["stdout", "stderr"] as const) {
      child[name]?.setEncoding("utf8");
      child[name]?.on("data", (text: string) => {
        output[name] += text;
        waiting.forEach((look) => look());
      });
    }
    child.stdin?.on("error", () => {}); // it need not read
    const ended = new Promise<Ended>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code, signal) => {
        running.delete(child);
        resolve({ status: signal ?? code, ...output });
        waiting.forEach((look) => look());
      });
    });
    const until: Run["until"] = (condition) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          if (condition(output)) resolve();
          else if (running.has(child)) return;
          else reject(new Error(`it ended: ${JSON.stringify(output)}`));
          waiting.delete(look);
        };
        waiting.add(look);
        look();
      });
    return { child, output, ended, until, signal: (name) => void process.kill(child.pid as number, name) };
  };
  const toEnd = ({ child, ended }: Run, input: string | Uint8Array = ""): Promise<Ended> => {
    child.stdin?.end(input);
    return ended;
  };
  const startShell: Cli["startShell"] = (script, options = {}) => launch(["/bin/sh", ["-c", script]], { ...options, env: { ...options.env, PATH: `${programFolder()}:${process.env.PATH}` } });
  const start: Cli["start"] = (args, options) => launch(commandLine(currentRuntime, main, ...args), options);
  return {
    start,
    run: (args, input, options) => toEnd(start(args, options), input),
    shell: (script, options) => toEnd(startShell(script, options)),
    startShell,
  };
}

/** The lines of an output, each as JSON. */
export function jsonLines<T>(text: string): T[] {
  return text.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line) as T);
}
