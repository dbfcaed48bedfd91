/** Child processes that never outlive the test file that started them. */
import { type ChildProcess, spawn, type SpawnOptions } from "node:child_process";
import { fileURLToPath } from "node:url";
import { atEnd } from "./cleanup.ts";
import { type Command, decode, type Reply } from "./agent.ts";
import { commandLine, type RuntimeName } from "./runtimes.ts";

const AGENT = fileURLToPath(new URL("agent.ts", import.meta.url));

/** How a child ended. */
export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** An error that an agent answered with. */
export class AgentError extends Error {
  readonly code: string | undefined;
  constructor({ name, message, code }: { name: string; message: string; code?: string }) {
    super(`${name}: ${message}`);
    this.code = code;
  }
}

/** A running agent. */
export interface Agent {
  readonly runtime: RuntimeName;
  readonly pid: number;
  /** What the command returned. */
  send(command: Command): Promise<unknown>;
  /** Ends it with a signal, and waits until it is gone. */
  kill(signal?: NodeJS.Signals): Promise<Ending>;
  /** Lets it end by itself. */
  end(): Promise<Ending>;
}

/** Starts children for one test file; whatever still runs after its last test is killed and reaped. */
export interface Children {
  agent(runtime: RuntimeName): Agent;
  /** Runs a command to its end. */
  run(executable: string, args: readonly string[], options?: SpawnOptions): Promise<Ending>;
  /** Runs a script to its end under a runtime. */
  script(runtime: RuntimeName, script: string, ...args: string[]): Promise<Ending>;
}

interface Started {
  readonly child: ChildProcess;
  readonly ended: Promise<Ending>;
}

function start(executable: string, args: readonly string[], options: SpawnOptions = {}, stdin: "pipe" | "ignore" = "ignore"): Started {
  const child = spawn(executable, args, { ...options, stdio: [stdin, "pipe", "pipe"] });
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name]?.setEncoding("utf8");
    child[name]?.on("data", (text: string) => (output[name] += text));
  }
  const ended = new Promise<Ending>((resolve) => {
    child.on("error", (error) => resolve({ code: -1, signal: null, stdout: output.stdout, stderr: String(error) }));
    child.on("close", (code, signal) => resolve({ code, signal, ...output }));
  });
  return { child, ended };
}

/** Called at the top of a test file. */
export function children(): Children {
  const running = new Set<Started>();
  const watch = (started: Started): Started => {
    running.add(started);
    void started.ended.then(() => running.delete(started));
    return started;
  };
  const killAll = (): void => running.forEach(({ child }) => child.kill("SIGKILL"));
  atEnd(async () => {
    killAll();
    await Promise.all([...running].map(({ ended }) => ended));
  }, killAll);
  const run = (executable: string, args: readonly string[], options?: SpawnOptions): Promise<Ending> =>
    watch(start(executable, args, options)).ended;
  return {
    run,
    script: (runtime, script, ...args) => run(...commandLine(runtime, script, ...args)),
    agent: (runtime) => agentOf(runtime, watch(start(...commandLine(runtime, AGENT), {}, "pipe"))),
  };
}

function agentOf(runtime: RuntimeName, { child, ended }: Started): Agent {
  const waiting: ((reply: Reply) => void)[] = [];
  let rest = "";
  child.stdout?.on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) waiting.shift()?.(JSON.parse(line) as Reply);
  });
  const gone = ended.then((ending): Reply => {
    const message = `the ${runtime} agent is gone: ${ending.signal ?? ending.code}\n${ending.stderr}`;
    return { error: { name: "AgentGone", message, mapError: false } };
  });
  return {
    runtime,
    pid: child.pid as number,
    async send(command) {
      const answered = new Promise<Reply>((resolve) => waiting.push(resolve));
      child.stdin?.write(`${JSON.stringify(command)}\n`);
      const { result = null, error } = await Promise.race([answered, gone]);
      if (error !== undefined) throw new AgentError(error);
      return decode(result);
    },
    kill(signal = "SIGKILL") {
      child.kill(signal);
      return ended;
    },
    end() {
      child.stdin?.end();
      return ended;
    },
  };
}
