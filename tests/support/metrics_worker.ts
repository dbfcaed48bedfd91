/** A worker thread that counts `times` times, in a counter of all workers and a histogram's series of its own. */
import { parentPort, workerData } from "node:worker_threads";
import { Metrics } from "../../mod.ts";

const { path, times, name } = workerData as { path: string; times: number; name: string };

// Not at the top level: a worker that fails while its module loads is reported badly by some of the runtimes.
setTimeout(() => {
  using metrics = Metrics.open(path);
  const shared = metrics.counter("shared_total", { help: "Counted by all." });
  const seconds = metrics.histogram("seconds", { help: "Of one.", labels: ["worker"] }).labels({ worker: name });
  for (let i = 0; i < times; i++) {
    shared.inc();
    seconds.observe(0.5);
  }
  parentPort?.postMessage("done");
}, 0);
