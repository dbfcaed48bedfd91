/** A worker thread that adds to the first cell of a mapping and to a counter, each `times` times. */
import { parentPort, workerData } from "node:worker_threads";
import { Counters, Mapping } from "../../mod.ts";
import { REST_MS } from "./workers.ts";

const { mapping, counters, times } = workerData as { mapping: string; counters: string; times: number };

// Not at the top level: a worker that fails while its module loads is reported badly by some of the runtimes.
setTimeout(() => {
  using cells = Mapping.open(mapping);
  using counts = Counters.open(counters);
  for (let i = 0; i < times; i++) {
    cells.atomics.add(0, 1);
    cells.atomics.add(8, 1n);
    counts.add(0);
  }
  parentPort?.postMessage("done");
  setTimeout(() => {}, REST_MS);
}, 0);
