/** A subject's process: started, asked for rounds, ended. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { root, toolsDir } from "../scripts/project.ts";
import { backlog, payload, type Runtime, runtimeOf, type Subject, type Workload } from "./workloads.ts";

/** No answer for so long means that something hangs. */
const TIMEOUT_MS = 300_000;

const children = new Set<ChildProcess>();

/** Ends every child, at once. */
export function killChildren(): void {
  for (const child of children) child.kill("SIGKILL");
}

/** Caches inside the checkout; nothing is fetched and nobody is asked. */
const env: NodeJS.ProcessEnv = {
  ...process.env,
  DENO_DIR: path.join(toolsDir, "deno"),
  DENO_NO_PROMPT: "1",
  DENO_NO_UPDATE_CHECK: "1",
  BUN_RUNTIME_TRANSPILER_CACHE_PATH: "0",
  DO_NOT_TRACK: "1",
};

/** The executable of a runtime: the pinned one of package.json. */
export function executableOf(runtime: Runtime): string {
  const executable = path.join(root, "node_modules", ".bin", runtime);
  if (!existsSync(executable)) throw new Error(`there is no '${executable}': run "npm install" first`);
  return executable;
}

function commandOf(program: string, workload: Workload, subject: Subject, folder: string, file: string): [exe: string, args: string[]] {
  if (subject === "c" || subject === "c-call") {
    const name = subject === "c" ? workload.name : `${workload.name}-call`;
    return [program, [name, folder, Buffer.from(payload).toString("hex"), String(backlog), file]];
  }
  const { runtime, way } = runtimeOf(subject);
  return scriptOf(runtime, "subject.ts", workload.name, folder, way, file);
}

/** The command line that runs a script of this folder. */
export function scriptOf(runtime: Runtime, script: string, ...args: string[]): [exe: string, args: string[]] {
  const options = {
    node: ["--disable-warning=ExperimentalWarning"],
    bun: ["run"],
    deno: ["run", "--allow-all", "--no-check"],
  };
  return [executableOf(runtime), [...options[runtime], path.join(import.meta.dirname, script), ...args]];
}

/** One subject at one workload, in one process or several. They wait, asleep, while the others have their turn. */
export class Team {
  readonly subject: Subject;
  readonly #members: readonly Child[];

  /** Starts the processes, with an empty folder inside `folder`. `program` is the compiled C program, `file` the large file or "". */
  constructor(program: string, workload: Workload, subject: Subject, folder: string, file: string) {
    const own = path.join(folder, `${workload.name}-${subject}`);
    mkdirSync(own);
    this.subject = subject;
    const [exe, args] = commandOf(program, workload, subject, own, file);
    this.#members = Array.from({ length: workload.processes ?? 1 }, () => new Child(`${workload.name} in ${subject}`, exe, args));
  }

  /** Waits until all have opened their files. */
  async ready(): Promise<void> {
    await Promise.all(this.#members.map((member) => member.ready()));
  }

  /** Has them do `operations`, each its part; returns the nanoseconds until the last was done, by the number of operations. */
  async round(operations: number): Promise<number> {
    const share = Math.ceil(operations / this.#members.length);
    const times = await Promise.all(this.#members.map((member) => member.nanoseconds(`${share}`)));
    return Math.max(...times) / (share * this.#members.length);
  }

  /** Lets them end by themselves. */
  async close(): Promise<void> {
    await Promise.all(this.#members.map((member) => member.close()));
  }
}

/** A process that answers each line with one. */
export class Child {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #what: string;
  readonly #ended: Promise<string>;

  /** `what` is what errors call it. */
  constructor(what: string, exe: string, args: readonly string[]) {
    this.#what = what;
    const child = spawn(exe, args, { cwd: root, env, stdio: ["pipe", "pipe", "inherit"] });
    children.add(child);
    this.#child = child;
    this.#ended = new Promise((resolve) => {
      const end = (how: string): void => {
        children.delete(child);
        resolve(how);
      };
      child.once("error", (error) => end(error.message));
      child.once("exit", (code, signal) => end(signal ?? `exit code ${code}`));
    });
    child.stdin!.on("error", () => {}); // it has ended: the answer that does not come says so
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  }

  /** Waits until it has opened its files. */
  async ready(): Promise<void> {
    const line = await this.#line();
    if (line !== "ready") throw new Error(`${this.#what}: expected "ready", received "${line}"`);
  }

  /** The answer to a line. */
  async ask(line: string): Promise<string> {
    this.#child.stdin!.write(`${line}\n`);
    return await this.#line();
  }

  /** The answer to a line, which is a number of nanoseconds. */
  async nanoseconds(question: string): Promise<number> {
    const line = await this.ask(question);
    const nanoseconds = Number(line);
    if (!(nanoseconds > 0)) throw new Error(`${this.#what}: expected nanoseconds, received "${line}"`);
    return nanoseconds;
  }

  /** Lets it end by itself. */
  async close(): Promise<void> {
    this.#child.stdin!.end();
    const how = await this.#before(this.#ended);
    if (how !== "exit code 0") throw new Error(`${this.#what}: ended with ${how}`);
  }

  async #line(): Promise<string> {
    const result = await this.#before(this.#lines.next());
    if (result.done !== true) return result.value;
    throw new Error(`${this.#what}: ended with ${await this.#ended}`);
  }

  async #before<T>(promise: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`${this.#what}: no answer for ${TIMEOUT_MS / 1000} s`)), TIMEOUT_MS);
    });
    try {
      return await Promise.race([promise, late]);
    } finally {
      clearTimeout(timer);
    }
  }
}
