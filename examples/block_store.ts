/**
 * Notes in a file of blocks: each note is a block, its id is the note's number. Any number of these programs may run at once.
 *
 *   block_store.ts FILE add TEXT...     stores a note for each text, prints the numbers
 *   block_store.ts FILE list [AFTER]    prints the notes behind number AFTER, from the start without it
 *   block_store.ts FILE latest COUNT    prints the last notes, highest number first
 *   block_store.ts FILE remove ID...    frees notes
 *   block_store.ts FILE verify          looks at every block
 */
import { BlockStore, MapError } from "../mod.ts";

const NOTE_BYTES = 500;
const USAGE = "usage: block_store.ts FILE add TEXT... | list [AFTER] | latest COUNT | remove ID... | verify";

class UsageError extends Error {}

function number(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new UsageError(`"${text}" is no number`);
  return Number(text);
}

function add(notes: BlockStore, texts: readonly string[]): void {
  for (const text of texts) {
    const bytes = new TextEncoder().encode(text);
    if (bytes.byteLength > NOTE_BYTES) throw new UsageError(`a note of ${bytes.byteLength} bytes is longer than ${NOTE_BYTES}`);
    console.log(notes.store(bytes));
  }
  notes.flush(); // what was printed survives a power failure too
}

function list(entries: Iterable<[id: number, bytes: Uint8Array]>, count = Infinity): void {
  const decoder = new TextDecoder();
  for (const [id, bytes] of entries) {
    if (count-- <= 0) return;
    console.log(`${id}\t${decoder.decode(bytes)}`);
  }
}

function main(args: readonly string[]): number {
  const [file, command = "", ...rest] = args;
  const [first] = rest;
  if (file === undefined) throw new UsageError("no file is given");
  if (command === "add") {
    using notes = BlockStore.open(file, { blockBytes: NOTE_BYTES });
    add(notes, rest);
    return 0;
  }
  using notes = BlockStore.open(file, { mode: command === "remove" ? "rw" : "r" });
  if (command === "list") list(first === undefined ? notes.entries() : notes.entries({ after: number(first) }));
  else if (command === "latest") list(notes.entries({ reverse: true }), number(first ?? "10"));
  else if (command === "remove") for (const id of rest.map(number)) console.log(`${id}\t${notes.free(id) ? "removed" : "was not there"}`);
  else if (command === "verify") {
    const { ok, blocks, stored, damaged } = notes.verify();
    console.log(`${stored} of ${blocks} blocks stored, ${damaged.length} damaged`);
    for (const { id, reason } of damaged) console.log(`${id}\t${reason}`);
    return ok ? 0 : 1;
  } else throw new UsageError(`"${command}" is no command`);
  return 0;
}

try {
  process.exitCode = main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof UsageError) && !(error instanceof MapError)) throw error;
  console.error(`block_store: ${error.message}`);
  if (error instanceof UsageError) console.error(USAGE);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
