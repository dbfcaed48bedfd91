/** `holdfast doctor`: whether everything that holdfast needs is there. It tries it out. */
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { type Advice, Counters, Mapping, Queue, SharedMemory } from "../../mod.ts";
import { native } from "../../lib/native/native.ts";
import { ABI_VERSION, advices } from "../../lib/native/symbols.ts";
import { type Command, command } from "../command.ts";
import { exitCodes } from "../errors.ts";
import { facts, json, line, safe, size, styled } from "../output.ts";
import { endInOrder } from "../signals.ts";
import { environment, fileSystemOf, machine, runtime, temporaryFolder } from "../system.ts";

type State = "ok" | "note" | "bad";

interface Finding {
  readonly check: string;
  readonly state: State;
  readonly text: string;
}

/** What a check finds; what it throws is bad. */
type Look = () => Omit<Finding, "check"> | Promise<Omit<Finding, "check">>;

const ok = (text: string): Omit<Finding, "check"> => ({ state: "ok", text });
const remark = (text: string): Omit<Finding, "check"> => ({ state: "note", text });
const bad = (text: string): Omit<Finding, "check"> => ({ state: "bad", text });

/** The first version of each runtime that has all that is needed. */
const LEAST: Readonly<Record<string, readonly [number, number]>> = { bun: [1, 4], deno: [2, 9], node: [26, 0] };

function checkRuntime(): Omit<Finding, "check"> {
  const { name, version } = runtime();
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const [leastMajor, leastMinor] = LEAST[name] as readonly [number, number];
  const enough = major > leastMajor || (major === leastMajor && minor >= leastMinor);
  return enough ? ok(`${name} ${version}`) : bad(`${name} ${version}; ${leastMajor}.${leastMinor} or later is needed`);
}

function checkPlatform(): Omit<Finding, "check"> {
  const found = machine();
  const text = `${process.platform} ${process.arch}${found === undefined ? "" : `, kernel ${found.release}, ${found.cpus} CPUs`}`;
  return process.platform === "linux" ? ok(text) : remark(`${text}; not everything works there yet`);
}

/** The library that is loaded, as the kernel has it; undefined where it does not say. */
function loadedLibrary(): string | undefined {
  const override = environment("HOLDFAST_LIBRARY");
  try {
    const named = override === undefined ? undefined : fs.realpathSync(override);
    const files = fs.readFileSync("/proc/self/maps", "utf8").split("\n").map((text) => text.slice(text.indexOf("/")));
    return files.find((file) => file === named) ?? files.find((file) => /holdfast[^/]*$/.test(file) && /\.(so|dylib|dll)\b|memfd:/.test(file));
  } catch {
    return undefined;
  }
}

function checkLibrary(): Omit<Finding, "check"> {
  native();
  const by = environment("HOLDFAST_LIBRARY") === undefined ? "" : " (by HOLDFAST_LIBRARY)";
  return ok(`${loadedLibrary() ?? "loaded"}${by}, ABI version ${ABI_VERSION}`);
}

/** Hints that the library offers and this kernel does not take. */
function lackingHints(): string[] {
  using memory = Mapping.anonymous(1 << 16);
  return (Object.keys(advices) as Advice[]).filter((hint) => {
    if (hint === "dontneed") return false; // refused on private memory, for a reason of its own
    try {
      memory.advise(hint);
      return false;
    } catch (error) {
      return (error as { code?: unknown }).code === "EOPNOTSUPP";
    }
  });
}

function checkKernel(): Omit<Finding, "check"> {
  const lacking = lackingHints();
  return lacking.length === 0 ? ok("all hints of madvise(2)") : remark(`no hint ${lacking.join(", ")}: advise() of these is EOPNOTSUPP`);
}

function checkFileSystem(folder: string): Omit<Finding, "check"> {
  const found = fileSystemOf(folder);
  if (found === undefined) return remark(`${folder}; Deno says of which kind it is with --allow-sys`);
  const { name, remote, freeBytes } = found;
  const text = `${folder} is on ${name}, ${size(freeBytes, true)} free`;
  return remote ? remark(`${text}; other machines that have it mounted do not share memory with this one: use it from one machine only`) : ok(text);
}

/** Does in `folder` what programs do. */
async function checkFiles(folder: string): Promise<Omit<Finding, "check">> {
  const own = fs.mkdtempSync(join(folder, "holdfast-doctor-"));
  const remove = (): void => fs.rmSync(own, { recursive: true, force: true });
  process.once("exit", remove);
  try {
    using first = Mapping.open(join(own, "mapping"), { create: true, byteLength: 1 << 16 });
    using second = Mapping.open(join(own, "mapping"));
    first.pwrite(100, "shared");
    if (new TextDecoder().decode(second.pread(100, 6)) !== "shared") return bad("a write through one mapping is not seen by another");
    first.atomics.add(0, 1);
    if (second.atomics.load(0) !== 1) return bad("an atomic addition through one mapping is not seen by another");
    first.flush();
    const lock = first.lock();
    const refused = await second.lockAsync({ signal: AbortSignal.timeout(50) }).then(() => false, () => true);
    lock[Symbol.dispose]();
    if (!refused) return bad("locks do not exclude each other (fcntl(2), F_OFD_SETLK): a queue would be damaged");
    using counters = Counters.open(join(own, "counters"), { names: ["one"] });
    counters.add("one");
    using queue = Queue.open<string>(join(own, "queue"), { codec: "text" });
    queue.push("record");
    queue.flush();
    const lease = queue.lease();
    lease?.ack();
    const report = Queue.verify(join(own, "queue"));
    if (lease?.value !== "record" || !report.ok || queue.length !== 0) return bad(`a queue does not work: ${report}`);
    return ok("mapping, atomics, flush, locks, counters and queue work");
  } finally {
    remove();
  }
}

function checkSharedMemory(): Omit<Finding, "check"> {
  using shared = SharedMemory.from("doctor");
  using same = SharedMemory.open(shared.name);
  if (new TextDecoder().decode(same.read()) !== "doctor") return bad("a shared memory object does not have what was written");
  const system = fileSystemOf("/dev/shm");
  const orphans = SharedMemory.list().filter(({ owned, retained, persistent, error }) => !owned && !retained && !persistent && error === undefined);
  const text = `/dev/shm${system === undefined ? "" : `, ${size(system.freeBytes, true)} of ${size(system.totalBytes, true)} free`}`;
  return orphans.length === 0 ? ok(text) : remark(`${text}; ${orphans.length} objects of killed owners, which "holdfast shm reap" removes`);
}

function checkMemoryLock(): Omit<Finding, "check"> {
  try {
    using _ = Mapping.anonymous(1 << 16, { lockPages: true });
    const [, soft = "unknown"] = /^Max locked memory\s+(\S+)/m.exec(fs.readFileSync("/proc/self/limits", "utf8")) ?? [];
    return ok(soft === "unlimited" ? "no limit on locked memory" : `up to ${size(Number(soft), true)} of locked memory (ulimit -l)`);
  } catch (error) {
    return remark(`${(error as Error).message}: only the option "lockPages" needs it`);
  }
}

function checkBoot(): Omit<Finding, "check"> {
  try {
    fs.readFileSync("/proc/sys/kernel/random/boot_id");
    return ok("the boot id can be read: a queue knows a power loss from the death of a process");
  } catch {
    return remark("no boot id (/proc/sys/kernel/random/boot_id): a queue looks through its records at each first opening");
  }
}

/** The permissions of Deno, or of Node's permission model. */
function checkPermissions(): Omit<Finding, "check"> {
  const { Deno } = globalThis as { Deno?: { permissions: { querySync(one: { name: string }): { state: string; partial?: boolean } } } };
  if (Deno !== undefined) {
    const states = ["ffi", "read", "write", "env"].map((name) => {
      const { state, partial } = Deno.permissions.querySync({ name });
      return `${name} ${partial === true ? "in part" : state}`;
    });
    const all = states.every((text) => text.endsWith("granted"));
    return all ? ok(`all granted: ${states.join(", ")}`) : remark(`${states.join(", ")}; views need --allow-ffi without a path, files --allow-read and --allow-write`);
  }
  const { permission } = process as { permission?: { has(scope: string): boolean } };
  if (permission === undefined) return ok(`user ${process.getuid?.() ?? "unknown"}, umask ${process.umask().toString(8).padStart(3, "0")}`);
  return remark(`Node's permission model is on: ${["fs.read", "fs.write"].map((scope) => `${scope} ${permission.has(scope) ? "granted" : "in part or denied"}`).join(", ")}`);
}

/** Checks that can say nothing without it. */
const NEED_LIBRARY: ReadonlySet<string> = new Set(["kernel", "files", "shared memory", "locked memory"]);

const MARKS: Readonly<Record<State, readonly [word: string, style: "green" | "yellow" | "red"]>> = {
  ok: ["ok", "green"],
  note: ["note", "yellow"],
  bad: ["BAD", "red"],
};

const doctor: Command = command({
  name: "doctor",
  summary: "try out whether everything that holdfast needs is there",
  args: "[FOLDER]",
  count: [0, 1],
  text: `Runtime, native library, kernel, permissions, and the file system of FOLDER (the temporary folder by default), where it makes files of its
own and removes them. Exit code 1 if something does not work; what is only worth knowing is a note.`,
  options: {},
  examples: [["holdfast doctor /var/lib/app", "for the folder that the files will lie in"], ["holdfast doctor --json", "for a bug report"]],
  async run({ options, args: [folder = temporaryFolder()] }) {
    const signal = endInOrder(); // what it has made is removed
    const looks: readonly (readonly [string, Look])[] = [
      ["runtime", checkRuntime],
      ["platform", checkPlatform],
      ["library", checkLibrary],
      ["permissions", checkPermissions],
      ["kernel", checkKernel],
      ["boot", checkBoot],
      ["file system", () => checkFileSystem(folder)],
      ["files", () => checkFiles(folder)],
      ["shared memory", checkSharedMemory],
      ["locked memory", checkMemoryLock],
    ];
    const findings: Finding[] = [];
    let library = true;
    for (const [check, look] of looks) {
      if (!library && NEED_LIBRARY.has(check)) continue;
      try {
        findings.push({ check, ...(await look()) });
        signal.throwIfAborted();
      } catch (error) {
        if (signal.aborted) throw error;
        findings.push({ check, ...bad((error as Error).message) });
      }
      if (check === "library") library = findings.at(-1)?.state === "ok";
    }
    const sound = findings.every(({ state }) => state !== "bad");
    if (options.json) await json({ ok: sound, findings });
    else {
      await line(facts(findings.map(({ check, state, text }) => {
        const [word, style] = MARKS[state];
        return [check, `${styled(style, word.padEnd(4))}  ${safe(text.replace(/\s*\n\s*/g, " "))}`] as const;
      })));
    }
    return sound ? exitCodes.done : exitCodes.failed;
  },
});

export const commands: readonly Command[] = [doctor];
