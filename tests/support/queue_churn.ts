/** A Worker that uses a queue in every way until it is told to stop. */
import { parentPort, workerData } from "node:worker_threads";
import { type Lease, type MapError, Queue } from "../../mod.ts";

const { path } = workerData as { path: string };

/** Another one may have cleared the queue. */
function settle(lease: Lease<number> | undefined, done: boolean): void {
  try {
    if (done) lease?.ack();
    else lease?.release();
  } catch (error) {
    if ((error as MapError).code !== "ERR_STALE_LEASE") throw error;
  }
}

parentPort?.once("message", (stop: Int32Array) => {
  const queue = Queue.open<number>(path);
  const leases: Lease<number>[] = [];
  parentPort?.postMessage("ready");
  for (let i = 0; Atomics.load(stop, 0) === 0; i++) {
    queue.push(i);
    if (i % 7 === 0) queue.pushMany([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    if (i % 3 === 0) {
      const lease = queue.lease();
      if (lease !== undefined) leases.push(lease);
      if (leases.length > 40) settle(leases.splice(i % 40, 1)[0], true);
      if (i % 30 === 0) settle(leases.shift(), false);
    }
    if (i % 3000 === 2999) queue.clear();
    if (i % 500 === 0) queue.popMany(queue.length > 2000 ? 3000 : 100);
    else queue.pop();
  }
  queue.close();
  parentPort?.postMessage("done");
});
