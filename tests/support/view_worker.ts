/** A Worker that sums up the words of a view of a file, and writes to a view of mode "r", which stays its own affair. */
import { parentPort, workerData } from "node:worker_threads";
import { Mapping } from "../../mod.ts";

const { path, number } = workerData as { path: string; number: number };

// Not at the top level: a worker that fails while its module loads is reported badly by some of the runtimes.
setTimeout(() => {
  const mapping = Mapping.open(path, { mode: "r" });
  const { buffer, byteOffset, byteLength } = mapping.view();
  const words = new Uint32Array(buffer, byteOffset, byteLength / 4);
  let sum = 0;
  for (let round = 0; round < 5; round++) sum = words.reduce((all, word) => all + word, 0);
  mapping.close();
  words[number] = 77;
  parentPort?.postMessage([sum, words[number], words[number + 1]]);
}, 0);
