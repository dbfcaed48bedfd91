/** `holdfast info`: what lies at a path. */
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { dirname, join, resolve } from "node:path";
import { BlockStore, Counters, MapError, Mapping, Metrics, Queue, SharedMemory } from "../../mod.ts";
import { FORMAT_VERSION, type Header } from "../../lib/layout/header.ts";
import { CONTROL_NAME } from "../../lib/layout/queue.ts";
import { decodeStart } from "../../lib/layout/shared_memory.ts";
import { type Command, command, flag } from "../command.ts";
import { exitCodes } from "../errors.ts";
import { headerOf, isOurs, isQueue, kindAt, startOf } from "../identify.ts";
import { facts, json, line, number, safe, size, styled } from "../output.ts";

/** What is said of a path besides what any file has. Values are numbers of bytes where the name ends in Bytes. */
interface Finding {
  /** What it is, in a few words. */
  readonly what: string;
  /** Undefined: nothing of ours, so there is nothing to say. */
  readonly health: "sound" | "looks sound" | "damaged" | undefined;
  /** Why it is damaged, or what would be looked at besides. */
  readonly reason?: string;
  readonly details: Readonly<Record<string, string | number | boolean | undefined>>;
}

interface Wanted {
  readonly path: string;
  readonly verify: boolean;
}

function queueFinding({ path, verify }: Wanted): Finding {
  const what = "queue";
  try {
    using queue = Queue.open(path, { mode: "r", codec: "bytes" });
    const stats = queue.stats();
    const groups = queue.groups();
    const details = {
      records: stats.length,
      leased: stats.leased,
      contentBytes: stats.byteLength,
      maxContentBytes: stats.maxByteLength,
      segments: stats.segments,
      segmentBytes: stats.segmentBytes,
      spares: stats.spares,
      pushed: stats.pushed,
      removed: stats.popped,
      handles: stats.handles.length,
      ...(groups.length > 0 ? { groups: groups.map(({ name }) => safe(name)).join(", ") } : {}),
    };
    if (!verify) return { what, health: "looks sound", reason: "--verify reads all of it", details };
    const report = Queue.verify(path);
    return report.ok ? { what, health: "sound", details } : { what, health: "damaged", reason: damageOf(path), details };
  } catch (error) {
    if (!(error instanceof MapError)) throw error;
    return { what, health: "damaged", reason: `${error.message}; holdfast queue verify says more`, details: {} };
  }
}

function damageOf(path: string): string {
  const { damage } = Queue.verify(path);
  return `${damage[0]?.file}: ${damage[0]?.reason}${damage.length > 1 ? `, and ${damage.length - 1} more` : ""}; holdfast queue recover repairs it`;
}

function countersFinding({ path }: Wanted): Finding {
  using counters = Counters.open(path, { mode: "r" });
  const names = counters.names.filter((name) => name !== undefined).map(safe);
  const shown = names.slice(0, 20).join(", ") + (names.length > 20 ? `, and ${names.length - 20} more` : "");
  return { what: "counters", health: "sound", details: { counters: counters.count, names: shown === "" ? "none" : shown } };
}

function metricsFinding({ path }: Wanted): Finding {
  using metrics = Metrics.open(path, { mode: "r" });
  const lines = metrics.expose().split("\n");
  const families = lines.filter((text) => text.startsWith("# TYPE ")).length;
  return { what: "metrics", health: "sound", details: { metrics: families, samples: lines.filter((text) => text !== "" && !text.startsWith("#")).length } };
}

function blocksFinding({ path, verify }: Wanted): Finding {
  using blocks = BlockStore.open(path, { mode: "r" });
  const what = "block store";
  const details = { blockBytes: blocks.blockBytes, maxBlocks: blocks.maxBlocks, stored: blocks.count };
  if (!verify) return { what, health: "looks sound", reason: "--verify reads every block", details };
  const { ok, damaged } = blocks.verify();
  if (ok) return { what, health: "sound", details };
  return { what, health: "damaged", reason: `${damaged.length} blocks, the first is ${damaged[0]?.id}: ${damaged[0]?.reason}`, details };
}

function memoryFinding({ path }: Wanted, start: Uint8Array): Finding {
  const { size: contentBytes, capacity, lifetime } = decodeStart(start, path);
  const real = resolve(path);
  const entry = dirname(real) === "/dev/shm" ? SharedMemory.list().find(({ name }) => join("/dev/shm", name) === real) : undefined;
  return {
    what: "shared memory object",
    health: "sound",
    details: { contentBytes, capacityBytes: capacity, lifetime, owned: entry?.owned, retained: entry?.retained },
  };
}

/** What a file of ours is, once its header holds. */
function ourFinding(wanted: Wanted, header: Header, start: Uint8Array): Finding {
  const folder = dirname(resolve(wanted.path));
  switch (header.kind) {
    case "counters":
      return countersFinding(wanted);
    case "metrics":
      return metricsFinding(wanted);
    case "block store":
      return blocksFinding(wanted);
    case "shared memory":
      return memoryFinding(wanted, start);
    default: {
      const part = header.kind === "queue" ? "control file" : header.kind === "segment" ? "segment" : "file of a group";
      return { what: `${part} of a queue`, health: "looks sound", reason: "only its header was looked at", details: { queue: isQueue(folder) ? folder : undefined } };
    }
  }
}

function fileFinding(wanted: Wanted): Finding & { header?: object } {
  const start = startOf(wanted.path);
  if (!isOurs(start)) return { what: `no file of holdfast: ${guess(start)}`, health: undefined, details: {} };
  let header: Header | undefined;
  try {
    header = headerOf(start, wanted.path);
    return { ...ourFinding(wanted, header, start), header: headerJson(header) };
  } catch (error) {
    if (!(error instanceof MapError)) throw error;
    const what = header === undefined ? "a file of holdfast" : header.kind;
    return { what, health: "damaged", reason: error.message, details: {}, ...(header === undefined ? {} : { header: headerJson(header) }) };
  }
}

function headerJson({ kind, id }: Header): { version: number; kind: string; id: string } {
  return { version: FORMAT_VERSION, kind, id: Buffer.from(id).toString("hex") };
}

/** What a file of something else may be. */
function guess(start: Uint8Array): string {
  if (start.byteLength === 0) return "it is empty";
  if (start.every((byte) => byte === 0)) return "it starts with zeros";
  const text = new TextDecoder().decode(start.subarray(0, start.byteLength - 3));
  return /[\p{Cc}\ufffd]/u.test(text.replace(/[\t\n\r\f\x1b]/g, "")) ? "binary" : "text";
}

function typeOf(stat: fs.Stats): string {
  if (stat.isFile()) return "file";
  if (stat.isDirectory()) return "directory";
  if (stat.isFIFO()) return "FIFO";
  if (stat.isSocket()) return "socket";
  return stat.isCharacterDevice() || stat.isBlockDevice() ? "device" : "unknown";
}

/** Bytes of a file in memory; undefined where that can't be asked. */
function residentOf(path: string): number | undefined {
  try {
    using mapping = Mapping.open(path, { mode: "r" });
    return mapping.resident();
  } catch {
    return undefined;
  }
}

function directoryFinding({ path, verify }: Wanted): Finding {
  if (isQueue(path)) return queueFinding({ path, verify });
  const ours = fs.readdirSync(path).map((name) => kindAt(join(path, name))).filter((kind) => kind !== undefined);
  const counted = [...new Set(ours)].sort().map((kind) => `${ours.filter((one) => one === kind).length} ${kind}`);
  const half = fs.existsSync(join(path, CONTROL_NAME)) ? "; its file 'control' is none of a queue" : "";
  return { what: `a folder, no queue${half}`, health: undefined, details: { holds: counted.length === 0 ? "nothing of holdfast" : counted.join(", ") } };
}

/** "maxContentBytes" as people read it. */
function label(name: string): string {
  return name.replace(/Bytes$/, "").replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

const info: Command = command({
  name: "info",
  summary: "say what lies at a path: kind, header, sizes, health",
  args: "PATH",
  count: [1, 1],
  text: `PATH is a queue's directory, any other file of holdfast, or any file at all. It is opened for reading only. Exit code 1 if it is damaged.`,
  options: { verify: flag("read all of a queue or block store, for its health") },
  examples: [["holdfast info jobs --human", "a queue"], ["holdfast info /dev/shm/hf-1 --json | jq .health", "a shared memory object"]],
  async run({ options, args: [path = ""] }) {
    const stat = fs.statSync(path);
    const type = typeOf(stat);
    const wanted = { path, verify: options.verify };
    const found: Finding & { header?: object } = type === "file" ? fileFinding(wanted) : type === "directory" ? directoryFinding(wanted) : { what: `a ${type}`, health: undefined, details: {} };
    const sizes = type === "file"
      ? { fileBytes: stat.size, storageBytes: stat.blocks * 512, residentBytes: stat.size === 0 ? 0 : residentOf(path) }
      : {};
    const permissions = (stat.mode & 0o7777).toString(8).padStart(4, "0");
    const damaged = found.health === "damaged";
    if (options.json) {
      const { what, health, reason, details, header } = found;
      await json({ path, type, what, permissions, ...sizes, header, details, health: health ?? null, reason: reason ?? null });
      return damaged ? exitCodes.failed : exitCodes.done;
    }
    const value = (name: string, one: string | number | boolean): string =>
      typeof one !== "number" ? String(one) : name.endsWith("Bytes") ? `${size(one, options.human)}${options.human ? "" : " bytes"}` : number(one, options.human);
    const rows: [string, string][] = [["path", safe(path)], ["what", found.what]];
    const { health, reason } = found;
    if (health !== undefined) {
      const colour = damaged ? "red" : "green";
      rows.push(["health", `${styled(colour, health)}${reason === undefined ? "" : ` (${safe(reason)})`}`]);
    }
    for (const [name, one] of Object.entries({ ...found.details, ...sizes })) if (one !== undefined) rows.push([label(name), value(name, one)]);
    rows.push(["permissions", permissions]);
    const header = found.header as { version: number; kind: string; id: string } | undefined;
    if (header !== undefined) rows.push(["header", `format ${header.version}, kind ${header.kind}, id ${header.id}`]);
    await line(facts(rows));
    return damaged ? exitCodes.failed : exitCodes.done;
  },
});

export const commands: readonly Command[] = [info];
