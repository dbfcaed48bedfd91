/**
 * Breaks the queue on purpose, one small change at a time, and sees to it that a test turns red: a test that can't fail proves nothing.
 *
 * The checkout is copied to a temporary folder (node_modules stays where it is, behind a link); there each mutation of mutations.ts is made,
 * the library is built, and the mutation's tests run until one fails: killed. Where none does, it survived, and the exit code is 1. Before
 * that, all those tests must pass unchanged.
 *
 * From the shell: node tests/mutation/run.ts [--list] [--only NAME …]
 */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { findCompiler } from "../../scripts/cc.ts";
import { root } from "../support/runtimes.ts";
import { type Edit, type Mutation, mutations } from "./mutations.ts";

/** What none of the tests needs. */
const LEFT_OUT = new Set([".git", ".tools", ".zig-cache", "zig-out", "node_modules"]);
const TIMEOUT_MS = 120_000;

/** A source file with an edit made; throws unless the text is there exactly once. */
export function edited(folder: string, { file, find, put }: Edit): string {
  const source = fs.readFileSync(join(folder, file), "utf8");
  const times = source.split(find).length - 1;
  if (times !== 1) throw new Error(`${file} has this ${times} times instead of once; the mutation has to be written anew:\n${find}`);
  return source.replace(find, () => put);
}

/** The mutations that no longer apply to the sources, and why. */
export function misfits(): string[] {
  return mutations.flatMap(({ name, edits }) =>
    edits.flatMap((edit) => {
      try {
        edited(root, edit);
        return [];
      } catch (error) {
        return [`${name}: ${(error as Error).message}`];
      }
    })
  );
}

interface Outcome {
  readonly passed: boolean;
  /** What the test said, or why it was ended. */
  readonly said: string;
}

function execute(folder: string, command: string, args: readonly string[]): Outcome {
  const env: NodeJS.ProcessEnv = { ...process.env, ...(findCompiler() === undefined ? {} : { HOLDFAST_NO_ZIG: "1" }) };
  // What a test leaves that crashes goes with the copy.
  env.TMPDIR = join(folder, "tmp");
  // A test that runs under a test runner reports to that one instead.
  delete env.NODE_TEST_CONTEXT;
  delete env.HOLDFAST_LIBRARY;
  const { status, error, stdout, stderr } = spawnSync(command, args, { cwd: folder, env, encoding: "utf8", timeout: TIMEOUT_MS, killSignal: "SIGKILL", maxBuffer: 1 << 26 });
  return { passed: status === 0, said: error === undefined ? stdout + stderr : String(error) };
}

/** A test is a file of tests, `bun` and such a file, `run` and a script with its arguments, or `c` and a program of csrc/tests. */
function runTest(folder: string, test: string): Outcome {
  const [kind, file = "", ...args] = test.startsWith("tests/") ? ["node", ...test.split(" ")] : test.split(" ");
  const node = [process.execPath, "--disable-warning=ExperimentalWarning"] as const;
  if (kind === "run") return execute(folder, node[0], [node[1], file, ...args.join(" ").split(" | ").filter((arg) => arg !== "")]);
  if (kind === "bun") return execute(folder, join(folder, "node_modules/.bin/bun"), ["test", "--timeout=60000", join(folder, file)]);
  if (kind === "c") return runCTest(folder, file);
  return execute(folder, node[0], [node[1], "--test", file]);
}

function runCTest(folder: string, name: string): Outcome {
  const compiler = findCompiler();
  if (compiler === undefined) return execute(folder, process.execPath, ["scripts/build.ts", "--test"]);
  const [command = "", ...first] = compiler.command;
  const sources = fs.globSync("csrc/*.c", { cwd: folder });
  const program = join(folder, "build", name);
  const made = execute(folder, command, [...first, "-std=c17", "-D_GNU_SOURCE", "-O1", "-pthread", "-o", program, `csrc/tests/${name}.c`, ...sources]);
  if (!made.passed) throw new Error(`${name}.c can't be compiled:\n${made.said}`);
  return execute(folder, program, []);
}

function build(folder: string): void {
  const built = execute(folder, process.execPath, ["scripts/build.ts"]);
  if (!built.passed) throw new Error(`it can't be built:\n${built.said}`);
}

/** A copy of the checkout; gone when the process ends. */
function copy(): string {
  const folder = fs.mkdtempSync(join(os.tmpdir(), "holdfast-mutation-"));
  process.on("exit", () => fs.rmSync(folder, { recursive: true, force: true }));
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1));
  fs.mkdirSync(join(folder, "tmp"));
  for (const name of fs.readdirSync(root)) {
    if (!LEFT_OUT.has(name)) fs.cpSync(join(root, name), join(folder, name), { recursive: true });
  }
  for (const name of ["node_modules", ".tools"]) {
    if (fs.existsSync(join(root, name))) fs.symlinkSync(join(root, name), join(folder, name));
  }
  return folder;
}

/** The line that says most of why a test failed. */
function reason(said: string): string {
  const lines = said.split("\n").map((line) => line.trim());
  const telling = [/^step\.c/, /^\S*\.c:\d+/, /(^|\[)[A-Za-z]*Error\b.*: ./, /expected|failed|ended by|killed|SIG[A-Z]+|ETIMEDOUT/];
  for (const pattern of telling) {
    const found = lines.find((line) => pattern.test(line));
    if (found !== undefined) return found.slice(0, 160);
  }
  return lines.find((line) => line !== "") ?? "no output";
}

/** Makes a mutation, runs its tests, and takes it back. The test that failed, and why; undefined if none did. */
function killer(folder: string, { name, edits, tests }: Mutation): { test: string; why: string } | undefined {
  const before = new Map<string, string>();
  try {
    for (const edit of edits) {
      const source = edited(folder, edit);
      if (!before.has(edit.file)) before.set(edit.file, fs.readFileSync(join(folder, edit.file), "utf8"));
      fs.writeFileSync(join(folder, edit.file), source);
    }
    build(folder);
    for (const test of tests) {
      const { passed, said } = runTest(folder, test);
      if (/SyntaxError|ReferenceError/.test(said)) throw new Error(`"${name}" is no program any more:\n${said}`);
      if (!passed) return { test, why: reason(said) };
    }
    return undefined;
  } finally {
    for (const [file, source] of before) fs.writeFileSync(join(folder, file), source);
  }
}

/** Runs mutations; returns the names of those that survived. */
export function mutate(chosen: readonly Mutation[], log: (line: string) => void): string[] {
  const folder = copy();
  build(folder);
  const tests = [...new Set(chosen.flatMap((mutation) => mutation.tests))];
  for (const test of tests) {
    const { passed, said } = runTest(folder, test);
    if (!passed) throw new Error(`${test} fails without any mutation:\n${said}`);
  }
  log(`${tests.length} tests pass unchanged`);
  const survivors: string[] = [];
  for (const mutation of chosen) {
    const began = performance.now();
    const by = killer(folder, mutation);
    if (by === undefined) survivors.push(mutation.name);
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    log(`${by === undefined ? "SURVIVED" : "killed  "} ${seconds.padStart(5)} s  ${mutation.name}${by === undefined ? "" : `  [${by.test}]\n                   ${by.why}`}`);
  }
  fs.rmSync(folder, { recursive: true, force: true });
  log(`${chosen.length} mutations: ${chosen.length - survivors.length} killed, ${survivors.length} survived`);
  return survivors;
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { list: { type: "boolean", default: false }, only: { type: "string", multiple: true, default: [] as string[] } } });
  const wrong = misfits();
  for (const line of wrong) console.error(line);
  if (wrong.length > 0) process.exitCode = 1;
  const chosen = mutations.filter(({ name }) => values.only.length === 0 || values.only.some((part) => name.includes(part)));
  if (values.list) for (const { name, edits, tests } of chosen) console.log(`${name}  (${edits.map(({ file }) => file).join(", ")}; ${tests.join(", ")})`);
  else if (chosen.length === 0) throw new Error(`no mutation's name contains "${values.only.join('" or "')}"`);
  else if (wrong.length === 0 && mutate(chosen, (line) => console.log(line)).length > 0) process.exitCode = 1;
}
