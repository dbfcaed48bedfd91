/** Finds or installs the pinned Zig, and runs `zig build` with its caches inside the checkout. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import { root, toolsDir, zigVersion } from "./project.ts";

export interface Zig {
  readonly exe: string;
  /** Where it was found, for messages. */
  readonly origin: string;
}

/** Why Zig cannot be had, in a few words. */
export interface NoZig {
  readonly missing: string;
}

const packageDir = path.join(toolsDir, `zig-${zigVersion}`);
const cacheDir = path.join(root, ".zig-cache");
const globalCacheDir = path.join(cacheDir, "global");

/** Looks only at this machine: ZIG, then PATH, then an earlier installation in .tools. */
export function findLocalZig(): Zig | NoZig {
  if (process.env.HOLDFAST_NO_ZIG === "1") return { missing: "HOLDFAST_NO_ZIG=1 is set" };

  const fromEnv = process.env.ZIG;
  if (fromEnv !== undefined && fromEnv !== "") {
    // A wrong ZIG is a mistake to report, not a reason to build with something else.
    const version = versionOf(fromEnv);
    if (version === undefined) throw new Error(`ZIG is ${fromEnv}, which cannot be run`);
    if (version !== zigVersion) {
      throw new Error(`ZIG is ${fromEnv}, Zig ${version}; this project needs Zig ${zigVersion} (.zig-version)`);
    }
    return { exe: fromEnv, origin: "ZIG" };
  }
  if (versionOf("zig") === zigVersion) return { exe: "zig", origin: "PATH" };

  const installed = packageExe(packageDir);
  if (versionOf(installed) === zigVersion) return { exe: installed, origin: `PyPI ziglang ${zigVersion}` };
  return { missing: `no Zig ${zigVersion} on this machine` };
}

/** Like findLocalZig, but installs the PyPI package into .tools where nothing was found. */
export function findZig(): Zig | NoZig {
  const local = findLocalZig();
  if ("exe" in local || process.env.HOLDFAST_NO_ZIG === "1") return local;
  process.stderr.write(`Zig ${zigVersion}: installing PyPI ziglang==${zigVersion} into .tools (about 100 MB)\n`);
  const problem = installPackage() && installPackage(); // the second call is the one retry
  if (problem !== undefined) return { missing: problem };
  return { exe: packageExe(packageDir), origin: `PyPI ziglang ${zigVersion}` };
}

/** Runs `zig build` with these arguments in the project folder. */
export function zigBuild(zig: Zig, args: readonly string[]): { ok: boolean; stdout: string; stderr: string } {
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    ZIG_GLOBAL_CACHE_DIR: globalCacheDir,
    ZIG_LOCAL_CACHE_DIR: cacheDir,
  };
  // Clang adds these folders to its search path, which would make the library depend on the machine.
  for (const name of ["CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH"]) delete env[name];

  const [exe, ...first] = findMaker(zig, env) ?? [zig.exe, "build"];
  const result = spawnSync(exe, [...first, ...args, "--color", "off"], {
    cwd: root,
    env,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    maxBuffer: 1 << 26,
  });
  if (result.error !== undefined) return { ok: false, stdout: "", stderr: result.error.message };
  const stderr = result.stderr.split("\n").filter((line) => !line.startsWith("debug: ")).join("\n");
  return { ok: result.status === 0, stdout: result.stdout, stderr };
}

/**
 * `zig build` first compiles its own build system, lib/compiler/Maker.zig, optimised: 100 s on two
 * cores for each clean checkout. Compiled without optimisation it takes 8 s and builds the same
 * bytes. Where that fails, plain `zig build` does the work.
 */
function findMaker(zig: Zig, env: NodeJS.ProcessEnv): [exe: string, ...args: string[]] | undefined {
  const settings = run(zig.exe, ["env"], env) ?? "";
  const lib = /\.lib_dir = "(.+)"/.exec(settings)?.[1];
  const exe = /\.zig_exe = "(.+)"/.exec(settings)?.[1];
  if (lib === undefined || exe === undefined) return undefined;

  const maker = path.join(cacheDir, `maker-${zigVersion}`);
  if (!existsSync(maker)) {
    mkdirSync(cacheDir, { recursive: true });
    const temporary = `${maker}.${process.pid}.tmp`;
    const source = path.join(lib, "compiler", "Maker.zig");
    run(exe, ["build-exe", source, "--name", "maker", "-Odebug", "-fstrip", `-femit-bin=${temporary}`], env);
    if (!existsSync(temporary)) return undefined;
    renameSync(temporary, maker);
  }
  // What `zig build` itself passes; the maker wants these in this order.
  return [maker, "build", `--zig-lib=${lib}`, `--zig=${exe}`, `--global-cache=${globalCacheDir}`, "--seed=0x0"];
}

/** Installs beside the final folder and renames, so that a half-made installation is never found. */
function installPackage(): string | undefined {
  mkdirSync(toolsDir, { recursive: true });
  removeAbandoned();
  const temporary = `${packageDir}.${process.pid}.tmp`;
  try {
    const pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", temporary, `ziglang==${zigVersion}`];
    const result = spawnSync("python3", pip, {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        ...process.env,
        // As variables, because older versions of pip refuse options that they do not know.
        PIP_DISABLE_PIP_VERSION_CHECK: "1",
        PIP_ROOT_USER_ACTION: "ignore",
        PIP_BREAK_SYSTEM_PACKAGES: "1",
        PIP_NO_INPUT: "1",
        PIP_NO_WARN_SCRIPT_LOCATION: "1",
        PIP_RETRIES: "2",
        // A user or prefix setting of the machine cannot be combined with --target.
        PIP_USER: "0",
      },
    });
    if (result.error !== undefined) return `python3 cannot be run (${result.error.message})`;
    if (result.status !== 0) return `pip: ${lastLine(result.stderr)}`;
    if (versionOf(packageExe(temporary)) !== zigVersion) return "the PyPI package does not run on this machine";
    try {
      renameSync(temporary, packageDir);
    } catch {
      // Something is there already: another process was faster, or it is a broken installation.
      if (versionOf(packageExe(packageDir)) === zigVersion) return undefined;
      rmSync(packageDir, { recursive: true, force: true });
      renameSync(temporary, packageDir);
    }
    return undefined;
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** Deletes what an installation that was killed left behind. */
function removeAbandoned(): void {
  for (const name of readdirSync(toolsDir)) {
    const pid = /^zig-.*\.(\d+)\.tmp$/.exec(name)?.[1];
    if (pid === undefined || isAlive(Number(pid))) continue;
    rmSync(path.join(toolsDir, name), { recursive: true, force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

function packageExe(folder: string): string {
  return path.join(folder, "ziglang", "zig");
}

function versionOf(exe: string): string | undefined {
  return run(exe, ["version"], process.env)?.trim();
}

/** Stdout of a command, or undefined when it cannot be run or fails. */
function run(exe: string, args: readonly string[], env: NodeJS.ProcessEnv): string | undefined {
  const result = spawnSync(exe, args, { encoding: "utf8", env, cwd: root, stdio: ["ignore", "pipe", "ignore"] });
  return result.status === 0 ? result.stdout : undefined;
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1) ?? "";
}
