/**
 * Writes 64 KiB of one byte, then of another, over and over: a reader that sees two different bytes saw half of a write.
 * Usage: block_writer.ts PATH CONTROL (guard|plain) OFFSET; stops when cell 0 of the control file is not 0.
 */
import { Mapping } from "../../mod.ts";

const [path, control, guard, offset] = process.argv.slice(2) as [string, string, "guard" | "plain", string];
const { atomics } = Mapping.open(control);
const mapping = Mapping.open(path, { guard: guard === "guard", offset: Number(offset) });
const blocks = [1, 2, 3].map((byte) => new Uint8Array(65_536).fill(byte));
const end = Date.now() + 20_000;
for (let i = 0; atomics.load(0) === 0 && Date.now() < end; i++) {
  mapping.pwrite(65_536 - Number(offset), blocks[i % 3] as Uint8Array);
  atomics.store(8, i + 1);
}
