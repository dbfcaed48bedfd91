/** A Worker that stops inside a critical section and waits there to be terminated. */
import { parentPort, workerData } from "node:worker_threads";
import { Control } from "../../lib/queue/control.ts";
import { runStep } from "./owner.ts";

// Not during module evaluation: Node 26.10 aborts if a Worker is terminated in it.
setTimeout(() => {
  const { path, step } = workerData as { path: string; step: string };
  const control = new Control(path, "rw");
  runStep(step, control);
  parentPort?.postMessage("there");
  setInterval(() => void control, 1000);
}, 0);
