/**
 * Kills a process at every instruction of the queue's native steps: compiles step.c and runs it on the native library.
 *
 * From the shell: node tests/crash/step.ts [STRIDE [OPERATION]]
 */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { findLocalZig } from "../../scripts/zig.ts";
import { library } from "../support/runtimes.ts";

const SOURCE = fileURLToPath(new URL("step.c", import.meta.url));
const FORBIDDEN = 77;

/** What came of it: `skipped` says why it could not be run. */
export type StepReport =
  | { readonly skipped: string }
  | { readonly ok: boolean; readonly output: string; readonly deaths: number };

/** Why it can't be run on this machine, as far as one can tell without running it. */
export const stepMissing: string | undefined = process.platform !== "linux" || process.arch !== "x64"
  ? `it counts instructions with the debug registers of an x86-64 CPU under Linux, this is ${process.platform} on ${process.arch}`
  : undefined;

function compile(folder: string): { program: string } | { missing: string } {
  const program = join(folder, "step");
  // Bound at once: a symbol that is looked up at its first use would make a child's steps others than those of the next.
  const args = ["-std=gnu17", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Wconversion", "-o", program, SOURCE, "-ldl", "-Wl,-z,now"];
  const zig = findLocalZig();
  const compilers: readonly (readonly [string, ...string[]])[] = [["cc"], ...("exe" in zig ? [[zig.exe, "cc"] as const] : [])];
  for (const [compiler, ...first] of compilers) {
    if (spawnSync(compiler, [...first, "--version"]).status !== 0) continue;
    const { status, stderr } = spawnSync(compiler, [...first, ...args], { encoding: "utf8" });
    if (status !== 0) throw new Error(`${compiler} can't compile ${SOURCE}:\n${stderr}`);
    return { program };
  }
  return { missing: "there is no C compiler: neither cc nor Zig" };
}

/** Kills at every `stride`-th instruction; of one operation only if it is named. */
export function killAtSteps(stride: number, operation?: string): StepReport {
  if (stepMissing !== undefined) return { skipped: stepMissing };
  const folder = fs.mkdtempSync(join(os.tmpdir(), "holdfast-step-"));
  try {
    const compiled = compile(folder);
    if ("missing" in compiled) return { skipped: compiled.missing };
    const args = [library, join(folder, "file"), String(stride), ...(operation === undefined ? [] : [operation])];
    const { status, signal, stdout, stderr } = spawnSync(compiled.program, args, { encoding: "utf8" });
    if (status === FORBIDDEN) return { skipped: "ptrace(2) is not permitted here" };
    const output = stdout + stderr + (signal === null ? "" : `ended by ${signal}\n`);
    return { ok: status === 0, output, deaths: Number(/^(\d+) deaths/m.exec(stdout)?.[1] ?? 0) };
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

if (import.meta.main) {
  const [stride = "1", operation] = process.argv.slice(2);
  const report = killAtSteps(Number(stride), operation);
  if ("skipped" in report) console.log(`skipped: ${report.skipped}`);
  else {
    process.stdout.write(report.output);
    if (!report.ok) process.exitCode = 1;
  }
}
