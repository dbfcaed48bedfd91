/** A SharedArrayBuffer, as the threads of one process have it. */
import type { FifoOptions, Peer, Place } from "../peer.ts";
import { cellIn, ring, ringBytes, slotsIn, wordsIn } from "./ring.ts";

const peer: Peer = {
  counter: () => cellIn(new SharedArrayBuffer(8)),
  slots: (_, count, bytes, first) => slotsIn(new Uint8Array(new SharedArrayBuffer(count * bytes)), count, bytes, first),
  words(_, bytes) {
    const buffer = new SharedArrayBuffer(bytes);
    // As the file has it.
    const halves = new Uint32Array(buffer);
    for (let i = 0; i < halves.length; i += 2) halves[i] = i >> 1;
    return wordsIn(buffer);
  },
  fifo: ({ memory }: Place, options: FifoOptions) => ring(new Uint8Array(memory ?? new SharedArrayBuffer(ringBytes(options))), options, true),
};
export default peer;
