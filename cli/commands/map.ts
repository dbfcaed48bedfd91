/** `holdfast map …`: files through a mapping. */
import { Buffer } from "node:buffer";
import { type Advice, Mapping } from "../../lib/mapping.ts";
import { bytes, type Command, command, flag, oneOf, option } from "../command.ts";
import { CommandError } from "../errors.ts";
import { chunksOf, openInput } from "../input.ts";
import { facts, json, line, Progress, size, write } from "../output.ts";
import { endInOrder } from "../signals.ts";

const CHUNK_BYTES: number = 1 << 20;

const offset = option("N", "first byte (default 0)", bytes(0), 0);
const length = option("N", "how many bytes (default: to the end)", bytes(0));
const range = { offset, length } as const;

/** What of the mapping is meant. */
function rangeOf(mapping: Mapping, options: { readonly offset: number; readonly length: number | undefined }): { offset: number; length: number } {
  const { byteLength } = mapping;
  const count = options.length ?? Math.max(0, byteLength - options.offset);
  if (options.offset > byteLength || count > byteLength - options.offset) {
    throw new CommandError(`${count} bytes from ${options.offset} do not lie within the ${byteLength} bytes of '${mapping.path}'`, "ERR_OUT_OF_RANGE");
  }
  return { offset: options.offset, length: count };
}

const cat: Command = command({
  name: "map cat",
  summary: "write the bytes of a file, or of a part of it",
  args: "FILE",
  count: [1, 1],
  text: "A file that is cut short meanwhile is an error, ERR_FAULT, never a signal. With --json the bytes are in base64.",
  options: range,
  examples: [["holdfast map cat data.bin --offset 128 --length 64 | xxd", "64 bytes of it"]],
  async run({ options, args: [path = ""] }) {
    using mapping = Mapping.open(path, { mode: "r" });
    const { offset: first, length: count } = rangeOf(mapping, options);
    if (options.json) {
      await json({ path, offset: first, length: count, base64: Buffer.from(mapping.pread(first, count)).toString("base64") });
      return;
    }
    for (let at = first; at < first + count; at += CHUNK_BYTES) await write(mapping.pread(at, Math.min(CHUNK_BYTES, first + count - at)));
  },
});

/** All of the standard input; an error as soon as it is more than `room`. */
async function readAll(room: number, path: string): Promise<Uint8Array> {
  const signal = endInOrder();
  const progress = new Progress();
  const parts: Uint8Array[] = [];
  let total = 0;
  try {
    for await (const chunk of chunksOf(openInput(undefined), signal)) {
      total += chunk.byteLength;
      if (total > room) throw new CommandError(`the input has more than the ${room} bytes that '${path}' has from there on; nothing was written (--byte-length N grows the file first)`, "ERR_OUT_OF_RANGE");
      parts.push(chunk.slice());
      progress.update(() => size(total, true));
    }
  } finally {
    progress.end();
  }
  return Buffer.concat(parts);
}

const writeCommand: Command = command({
  name: "map write",
  summary: "write text, or the standard input, into a file in place",
  args: "FILE [TEXT]",
  count: [1, 2],
  text: "Nothing is written unless all of it fits. All processes that map the file see it at once. Prints how many bytes were written.",
  options: {
    offset,
    create: flag("make the file if it is missing; needs --byte-length"),
    "byte-length": option("N", "bytes that the file shall have at least; reserved, filled with zeros", bytes(1)),
    flush: flag("wait until storage has it"),
  },
  examples: [["echo hello | holdfast map write data.bin --create --byte-length 4096 --offset 128", "into a new file"]],
  async run({ options, args: [path = "", text] }) {
    const byteLength = options["byte-length"];
    using mapping = Mapping.open(path, { create: options.create, ...(byteLength === undefined ? {} : { byteLength }) });
    const room = rangeOf(mapping, { offset: options.offset, length: undefined }).length;
    const data = text ?? (await readAll(room, path));
    const written = mapping.pwrite(options.offset, data);
    if (options.flush) mapping.flush();
    if (options.json) await json({ path, offset: options.offset, written });
    else await line(size(written, options.human));
  },
});

/** Hints about pages that outlast this process, that is, about the page cache. */
const hints = ["willneed", "dontneed", "cold", "pageout", "populate-read", "sequential", "random", "normal"] as const satisfies readonly Advice[];

const advise: Command = command({
  name: "map advise",
  summary: "tell the kernel how a file will be used",
  args: "FILE HINT",
  count: [2, 2],
  text: `HINT is willneed (read it in), populate-read (read it in, and wait), dontneed, cold, pageout (it may leave memory); sequential,
random and normal end with this process, and are of use to try whether the file system takes them. No hint changes a byte. "dontneed"
needs write permission.`,
  options: range,
  examples: [["holdfast map advise data.bin willneed", "warm the page cache"]],
  async run({ options, args: [path = "", word = ""] }) {
    const hint = oneOf(...hints)("HINT", word);
    using mapping = Mapping.open(path, { mode: hint === "dontneed" ? "rw" : "r" });
    const part = rangeOf(mapping, options);
    mapping.advise(hint, part);
    if (options.json) await json({ path, hint, ...part });
  },
});

const resident: Command = command({
  name: "map resident",
  summary: "say how much of a file is in memory",
  args: "FILE",
  count: [1, 1],
  text: "Whole pages, as mincore(2) counts them.",
  options: {},
  examples: [["holdfast map resident data.bin --human", "bytes in memory, of all"]],
  async run({ options, args: [path = ""] }) {
    using mapping = Mapping.open(path, { mode: "r" });
    const { byteLength, pageSize } = mapping;
    const inMemory = mapping.resident();
    const pages = Math.ceil(byteLength / pageSize) * pageSize;
    const percent = (100 * inMemory) / pages;
    if (options.json) {
      await json({ path, resident: inMemory, byteLength, pageSize, percent });
      return;
    }
    await line(facts([
      ["resident", size(inMemory, options.human)],
      ["of", size(byteLength, options.human)],
      ["percent", percent.toFixed(1)],
    ]));
  },
});

export const commands: readonly Command[] = [cat, writeCommand, advise, resident];
