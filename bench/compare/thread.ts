/** One thread of a pipeline in memory that is shared within a process. */
import { parentPort, workerData } from "node:worker_threads";
import type { Place } from "./peer.ts";
import peer from "./peers/shared.ts";
import { pipelineOptions, type Role, roles, type Round } from "./pipeline.ts";

const { role, place } = workerData as { role: Role; place: Place };
const fifo = await peer.fifo(place, pipelineOptions);
parentPort!.on("message", async (round: Round) => parentPort!.postMessage(await roles[role](fifo, round)));
parentPort!.postMessage("open");
