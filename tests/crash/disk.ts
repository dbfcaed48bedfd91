/**
 * Disks that are full or fail, under a queue in use. What is held to: a clear error, the data untouched, the process alive, and the queue usable
 * afterwards.
 *
 * From the shell: node tests/crash/disk.ts [STRIDE]. STRIDE n tries each n-th of the system calls; 1, the default, all of them.
 */
import { spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { MapError, Queue } from "../../mod.ts";
import { commandLine, type RuntimeName } from "../support/runtimes.ts";
import type { Told } from "./disk_worker.ts";
import { cutRefusal, Disk, type Durability } from "./power.ts";

const WORKER = fileURLToPath(new URL("disk_worker.ts", import.meta.url));
const LIMIT = fileURLToPath(new URL("disk_limit.ts", import.meta.url));
const UNMAPPABLE = fileURLToPath(new URL("disk_unmappable.ts", import.meta.url));
const OPERATIONS = 24;

/** What failing calls of one kind came to. */
export interface FaultRow {
  readonly call: string;
  readonly error: string;
  readonly durability: Durability;
  /** How many calls there are, and how many were made to fail, each in a run of its own. */
  readonly calls: number;
  failed: number;
  /** Errors that programs met, by code. */
  codes: string;
  /** Must be 0: records that were acknowledged and are gone, that nobody pushed, or that came twice or out of order. */
  lost: number;
  strange: number;
  /** Must be 0: syncs that failed and nobody was told. */
  silent: number;
  /** Must be 0: runs that died, met an error that is none of the library's, or could not go on. */
  dead: number;
}

/** Why no system call can be made to fail here; undefined if it can. */
export function faultRefusal(): string | undefined {
  const { status, error, stderr } = spawnSync("strace", ["-f", "-qq", "-o", "/dev/null", "-e", "trace=msync", "true"], { encoding: "utf8" });
  if (error !== undefined) return "there is no strace";
  return status === 0 ? undefined : `strace does not work here: ${stderr.trim()}`;
}

/** The files of a queue, for strace's option -P. */
function paths(queue: string): string[] {
  const names = Array.from({ length: 40 }, (_, i) => join(queue, `segment-${i + 1}`));
  return [queue, join(queue, "control"), ...names].flatMap((path) => ["-P", path]);
}

interface Run {
  readonly told: Told | undefined;
  readonly trace: string;
  readonly stderr: string;
}

/** Runs the worker under strace. msync(2) knows no path, and only the library calls it. */
async function traced(runtime: RuntimeName, queue: string, durability: Durability, calls: readonly string[], fault: string | undefined): Promise<Run> {
  const trace = `${queue}.trace`;
  const [executable, args] = commandLine(runtime, WORKER, queue, durability, String(OPERATIONS));
  const filter = calls.includes("msync") ? [] : paths(queue);
  const inject = fault === undefined ? [] : ["-e", `inject=${calls.join()}:${fault}`];
  const child = spawn("strace", ["-f", "-qq", "-o", trace, "-e", `trace=${calls.join()}`, ...inject, ...filter, executable, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const timer = setTimeout(() => child.kill("SIGKILL"), 60_000);
  await new Promise((resolve) => child.on("close", resolve));
  clearTimeout(timer);
  let told: Told | undefined;
  try {
    told = JSON.parse(stdout) as Told;
  } catch {
    // It died.
  }
  return { told, trace: fs.readFileSync(trace, "utf8"), stderr };
}

/** The queue as it is handed out afterwards, whatever the failures before. */
function drain(path: string): number[] {
  using queue = Queue.open<[number, string]>(path);
  const numbers = queue.popMany(10_000).map(([number]) => number);
  if (!queue.push([-1, ""]) || queue.pop()?.[0] !== -1) throw new Error(`'${path}' does not work afterwards`);
  return numbers;
}

function judge(row: FaultRow, { told, stderr }: Run, path: string, codes: Map<string, number>): void {
  if (told === undefined || !told.usable || told.odd.length > 0) {
    row.dead++;
    console.error(`# ${row.call} ${row.error}: ${told?.odd.join("\n") ?? stderr}`);
    return;
  }
  for (const code of told.codes) codes.set(code, (codes.get(code) ?? 0) + 1);
  if (row.call.endsWith("sync") && row.error !== "EINTR" && told.codes.length === 0) row.silent++;
  const all = [...told.popped, ...drain(path)];
  const seen = new Set(all);
  row.lost += told.pushed.filter((number) => !seen.has(number)).length;
  const known = new Set([...told.pushed, ...told.unsure]);
  row.strange += all.filter((number, i) => !known.has(number) || (i > 0 && number <= (all[i - 1] as number))).length;
}

const FAULTS: readonly [call: string, errors: readonly string[]][] = [
  ["msync", ["EIO", "ENOSPC", "EINTR"]],
  ["fsync", ["EIO", "ENOSPC", "EINTR"]],
  ["fallocate", ["ENOSPC", "EIO", "EINTR"]],
  ["pwrite64", ["ENOSPC", "EIO", "EINTR"]],
  ["openat", ["ENOSPC", "EIO", "EINTR", "EMFILE"]],
  ["mmap", ["ENOMEM"]],
  ["pread64", ["EIO", "EINTR"]],
  ["statx", ["EIO"]],
];

/** Makes each `stride`-th call of each kind fail once. */
export async function faults(folder: string, runtime: RuntimeName, stride: number): Promise<FaultRow[]> {
  const rows: FaultRow[] = [];
  let runs = 0;
  let turn = 0;
  for (const durability of ["each", "process"] as const) {
    const lines: string[] = [];
    for (const group of [["msync"], FAULTS.map(([call]) => call).filter((call) => call !== "msync")]) {
      const { trace, told, stderr } = await traced(runtime, join(folder, `run-${runs++}`), durability, group, undefined);
      if (told?.usable !== true) throw new Error(`the worker does not work: ${stderr}`);
      lines.push(...trace.split("\n"));
    }
    for (const [call, errors] of FAULTS) {
      const calls = lines.filter((line) => line.includes(` ${call}(`)).length;
      for (const error of errors) {
        const row: FaultRow = { call, error, durability, calls, failed: 0, codes: "", lost: 0, strange: 0, silent: 0, dead: 0 };
        const codes = new Map<string, number>();
        for (let n = 1; n <= calls; n++) {
          if (turn++ % stride !== 0) continue;
          const own = join(folder, `run-${runs++}`);
          const run = await traced(runtime, own, durability, [call], `error=${error}:when=${n}`);
          if (!run.trace.includes("(INJECTED)")) continue; // it is another call by now, of a thread that is not always there
          row.failed++;
          judge(row, run, own, codes);
          fs.rmSync(own, { recursive: true, force: true });
        }
        row.codes = [...codes].map(([code, count]) => `${code} ${count}`).join(", ");
        if (calls > 0) rows.push(row);
      }
    }
  }
  return rows;
}

/** What must be 0. */
export function faultViolations({ lost, strange, silent, dead }: FaultRow): number {
  return lost + strange + silent + dead;
}

/** New segments that can't be mapped: what a program was told that only pushes, and the files there are then. */
export function unmappable(path: string, runtime: RuntimeName, removable = true): unknown {
  const [executable, args] = commandLine(runtime, UNMAPPABLE, path);
  // Those that are made when they are needed; the first allocation has 1 and 2.
  const segments = Array.from({ length: 20 }, (_, i) => join(path, `segment-${i + 3}`)).flatMap((segment) => ["-P", segment]);
  const kept = removable ? [] : ["-e", "inject=unlink,unlinkat:error=EIO"];
  const strace = ["-f", "-qq", "-o", "/dev/null", ...segments, "-e", "trace=mmap,unlink,unlinkat", "-e", "inject=mmap:error=ENOMEM", ...kept, executable, ...args];
  const { stdout, stderr } = spawnSync("strace", strace, { encoding: "utf8", timeout: 60_000 });
  if (stdout === "") throw new Error(`${runtime}: ${stderr}`);
  return JSON.parse(stdout);
}

/** Fills the file system that `folder` is on, and has the queue get over it; returns how many records fitted. The caller has mounted it for that. */
export function fillUp(folder: string, durability: Durability, parent: string): number {
  if (fs.statSync(folder).dev === fs.statSync(parent).dev) throw new Error(`'${folder}' is no file system of its own`);
  const path = join(folder, "queue");
  const filler = "x".repeat(10_000);
  using queue = Queue.open<string>(path, { codec: "text", capacityBytes: 64 << 10, durability: durability as "each" });
  let pushed = 0;
  for (;;) {
    try {
      queue.push(`${pushed} ${filler}`);
      pushed++;
    } catch (error) {
      if (!(error instanceof MapError) || error.code !== "ENOSPC") throw error;
      break;
    }
  }
  const need = (condition: boolean, what: string): void => {
    if (!condition) throw new Error(`a full disk: ${what}`);
  };
  need(queue.length === pushed, "the length");
  // Full it stays: nothing is half done, and asking again changes nothing.
  for (let i = 0; i < 3; i++) {
    try {
      queue.push(filler);
      // The last one was refused for its file; a record more may fit into what is left of the last segment, never this one.
      need(false, "a push that went through");
    } catch (error) {
      if (!(error instanceof MapError) || error.code !== "ENOSPC") throw error;
    }
  }
  for (let i = 0; i < pushed; i++) {
    const value = queue.pop();
    need(value === `${i} ${filler}`, `record ${i}`);
  }
  need(queue.pop() === undefined && queue.length === 0, "the end");
  for (let i = 0; i < 20; i++) need(queue.push(`${i} ${filler}`), "a push afterwards");
  need(queue.popMany(100).length === 20, "the records afterwards");
  return pushed;
}

/** RLIMIT_FSIZE: what the child said. Deno leaves SIGXFSZ at its default, which ends a process: there the shell has it ignored. */
export function limited(path: string, runtime: RuntimeName): unknown {
  const kib = 4096;
  const command = commandLine(runtime, LIMIT, path, String(kib * 1024)).flat();
  const { stdout, stderr, signal } = spawnSync("bash", ["-c", `trap "" XFSZ; ulimit -f ${kib}; exec "$@"`, "bash", ...command], { encoding: "utf8" });
  if (stdout === "") throw new Error(`${runtime}: ${signal ?? ""} ${stderr}`);
  return JSON.parse(stdout);
}

/** What {@linkcode limited} must say. */
export const LIMITED: readonly unknown[] = [true, "EFBIG", true, "before", "after", null];

if (import.meta.main) {
  const [stride = 1] = process.argv.slice(2).map(Number);
  const folder = fs.mkdtempSync(join(os.tmpdir(), "holdfast-disk-"));
  let wrong = 0;
  try {
    for (const runtime of ["node", "bun", "deno"] as const) {
      const said = JSON.stringify(limited(join(folder, `limit-${runtime}`), runtime));
      console.log(`RLIMIT_FSIZE in ${runtime}: ${said}`);
      if (said !== JSON.stringify(LIMITED)) wrong++;
    }
    const refusal = cutRefusal();
    if (refusal !== undefined) console.log(`no ext4 and no tmpfs can be filled: ${refusal}`);
    else {
      const ext4 = join(folder, "ext4");
      fs.mkdirSync(ext4);
      const disk = new Disk(ext4, 16 << 20);
      const tmpfs = join(folder, "tmpfs");
      fs.mkdirSync(tmpfs);
      try {
        disk.mount();
        for (const durability of ["each", "process"] as const) {
          console.log(`ext4 of 16 MiB full, "${durability}": ${fillUp(disk.path, durability, ext4)} records fitted, all came back`);
          fs.rmSync(join(disk.path, "queue"), { recursive: true });
        }
        spawnSync("mount", ["-t", "tmpfs", "-o", "size=4m", "holdfast-test", tmpfs]);
        console.log(`tmpfs of 4 MiB full: ${fillUp(tmpfs, "each", folder)} records fitted, all came back`);
      } finally {
        spawnSync("umount", [tmpfs]);
        disk.unmount();
      }
    }
    const none = faultRefusal();
    if (none !== undefined) console.log(`no system call can be made to fail: ${none}`);
    else {
      const rows = await faults(folder, "node", stride);
      console.table(rows);
      wrong += rows.filter((row) => faultViolations(row) > 0).length;
    }
    if (wrong > 0) process.exitCode = 1;
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}
