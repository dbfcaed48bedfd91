/**
 * The mark: bytes of the program's own that are committed together with records.
 *
 * Invariant: the mark that the producer cell names lies in one slot, and the next one is written to the other slot before the commit that
 * names it. So a process that dies in between has changed nothing.
 *
 * @module
 */
import { invalidType, MapError, outOfRange } from "../errors.ts";
import type { OptionCheck } from "../checks.ts";
import { MARK_BYTES, MARK_LENGTH, MARK_PAYLOAD, MARK_SEQUENCE, MARKS, MAX_MARK_BYTES, PRODUCER, RECORD_TOTAL } from "../layout/queue.ts";
import { byteLengthOf } from "../native/copy.ts";
import { type Address, allocateScratch, native } from "../native/native.ts";
import { codes } from "../native/symbols.ts";
import type { Control } from "./control.ts";

/** The option `mark`. */
export const markOption: OptionCheck<Uint8Array> = (name, value) => {
  if (!(value instanceof Uint8Array)) throw invalidType(name, "a Uint8Array", value);
  const length = byteLengthOf(value);
  if (length > MAX_MARK_BYTES) throw outOfRange(`${name}.byteLength`, `at most ${MAX_MARK_BYTES}`, length);
  return value;
};

function slotOf(control: Control, number: number): Address {
  return control.region.address + MARKS + MARK_BYTES * (number % 2);
}

/** Writes the mark that follows the one of `cell`, which is behind its records, and has `cell` name it. The caller holds the producer lock, and commits. */
export function writeMark(control: Control, cell: Float64Array, mark: Uint8Array): void {
  const { address, bytes, buffer } = allocateScratch(MARK_BYTES);
  const words = new Uint32Array(buffer);
  words[RECORD_TOTAL / 4] = MARK_BYTES;
  words[MARK_LENGTH / 4] = byteLengthOf(mark);
  // Storage may have this page and not those of the records (verify.ts).
  words[MARK_SEQUENCE / 4] = cell[PRODUCER.sequence] as number; // modulo 2^32
  bytes.set(mark, MARK_PAYLOAD);
  const number = (cell[PRODUCER.mark] as number) + 1;
  const result = native().hf_record_write(slotOf(control, number), address, MARK_BYTES, control.salt, number);
  if (result < 0) throw control.error(result, "mark");
  cell[PRODUCER.mark] = number;
}

/** The mark that was committed last, without a lock; undefined if there is none. `ERR_CORRUPT` if it is damaged. */
export function readMark(control: Control): Uint8Array | undefined {
  const { address, bytes, buffer } = allocateScratch(MARK_BYTES);
  const { tail } = control;
  for (;;) {
    control.read(tail);
    const number = tail.values[PRODUCER.mark] as number;
    if (number === 0) return undefined;
    const result = native().hf_record_read(address, MARK_BYTES, slotOf(control, number), MARK_BYTES, control.salt, number);
    const length = new Uint32Array(buffer)[MARK_LENGTH / 4] as number;
    if (result === MARK_BYTES && length <= MAX_MARK_BYTES) return bytes.slice(MARK_PAYLOAD, MARK_PAYLOAD + length);
    if (result < 0 && result !== codes.CORRUPT) throw control.error(result, "mark");
    // Two marks further, its slot is used again.
    control.read(tail);
    if (tail.values[PRODUCER.mark] === number) {
      throw new MapError("ERR_CORRUPT", `the mark of '${control.directory}' is damaged; nothing was changed`, { path: control.directory });
    }
  }
}
