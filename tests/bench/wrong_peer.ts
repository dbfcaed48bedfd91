/** A peer of the comparison that hands out records in which one bit is wrong. */
import fs from "../../bench/compare/peers/fs.ts";
import type { Peer } from "../../bench/compare/peer.ts";

const WRONG = 30;

const peer: Peer = {
  async fifo(place, options) {
    const fifo = await fs.fifo(place, options);
    return {
      ...fifo,
      pop() {
        const record = fifo.pop() as Uint8Array | undefined;
        if (record !== undefined) record[WRONG] = (record[WRONG] as number) ^ 1;
        return record;
      },
    };
  },
};
export default peer;
