/**
 * node:fs: reads and writes at a place of a file, and a file that records are appended to. Who takes records reads large parts of it and keeps
 * in mind where it is; the place is nowhere on the disk, and what was taken stays in the file.
 */
import fs from "node:fs";
import path from "node:path";
import type { Fifo, FifoOptions, Peer, Place, Slots, Words } from "../peer.ts";

function slots({ folder }: Place, count: number, bytes: number, first: (slot: number) => Uint8Array): Slots {
  const fd = fs.openSync(path.join(folder, `slots-${bytes}`), "w+");
  for (let slot = 0; slot < count; slot++) fs.writeSync(fd, first(slot), 0, bytes, slot * bytes);
  const target = new Uint8Array(bytes);
  return {
    read(slot) {
      fs.readSync(fd, target, 0, bytes, slot * bytes);
      return target;
    },
    write: (slot, data) => void fs.writeSync(fd, data, 0, bytes, slot * bytes),
    close: () => fs.closeSync(fd),
  };
}

function words(file: string): Words {
  const fd = fs.openSync(file, "r+");
  const halves = new Uint32Array(2);
  const bytes = new Uint8Array(halves.buffer);
  return {
    load(word) {
      fs.readSync(fd, bytes, 0, 8, word * 8);
      return (halves[1] as number) * 2 ** 32 + (halves[0] as number);
    },
    store(word, value) {
      halves[0] = value;
      halves[1] = value / 2 ** 32;
      fs.writeSync(fd, bytes, 0, 8, word * 8);
    },
  };
}

/** Length of a record, in front of it. */
const LENGTH_BYTES = 4;
const READ_BYTES = 65536;

function fifo({ folder }: Place, { durability, recordBytes }: FifoOptions): Fifo {
  const fd = fs.openSync(path.join(folder, "appended"), "a+");
  let outbox = new Uint8Array(LENGTH_BYTES + recordBytes);
  let outboxView = new DataView(outbox.buffer);
  const inbox = new Uint8Array(Math.max(READ_BYTES, LENGTH_BYTES + recordBytes));
  const inboxView = new DataView(inbox.buffer);
  let position = 0; // of the file, where the next read starts
  let start = 0; // of the inbox, what was not taken yet
  let end = 0;
  const append = (records: readonly Uint8Array[]): void => {
    const bytes = records.reduce((sum, record) => sum + LENGTH_BYTES + record.length, 0);
    if (bytes > outbox.length) {
      outbox = new Uint8Array(bytes);
      outboxView = new DataView(outbox.buffer);
    }
    let offset = 0;
    for (const record of records) {
      outboxView.setUint32(offset, record.length);
      outbox.set(record, offset + LENGTH_BYTES);
      offset += LENGTH_BYTES + record.length;
    }
    fs.writeSync(fd, outbox, 0, bytes);
    if (durability !== "none") fs.fdatasyncSync(fd);
  };
  /** Whether all of a record is in the inbox, after another read if need be. */
  const whole = (): boolean => {
    const enough = (): boolean => end - start >= LENGTH_BYTES && end - start >= LENGTH_BYTES + inboxView.getUint32(start);
    if (enough()) return true;
    inbox.copyWithin(0, start, end);
    end -= start;
    start = 0;
    const read = fs.readSync(fd, inbox, end, inbox.length - end, position);
    position += read;
    end += read;
    return enough();
  };
  const peek = (): Uint8Array | undefined =>
    whole() ? inbox.slice(start + LENGTH_BYTES, start + LENGTH_BYTES + inboxView.getUint32(start)) : undefined;
  const pop = (): Uint8Array | undefined => {
    const record = peek();
    if (record !== undefined) start += LENGTH_BYTES + record.length;
    return record;
  };
  return {
    push(record) {
      append([record]);
      return true;
    },
    pop,
    pushMany(records) {
      append(records);
      return records.length;
    },
    popMany(max) {
      const records: Uint8Array[] = [];
      for (let record; records.length < max && (record = pop()) !== undefined;) records.push(record);
      return records;
    },
    peek,
    close: () => fs.closeSync(fd),
  };
}

const peer: Peer = { slots, words, fifo };
export default peer;
