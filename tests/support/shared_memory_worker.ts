/** A Worker that owns one object, with a view, and retains another; and waits to be terminated. */
import { parentPort, workerData } from "node:worker_threads";
import { SharedMemory } from "../../mod.ts";

const [owned, retained] = workerData as [string, string];
const object = SharedMemory.from("content", { name: owned });
const other = SharedMemory.open(retained);
const kept = [object, object.view(), other, other.view(), other.retain()];
parentPort?.postMessage("ready");
setInterval(() => kept.length, 1000);
