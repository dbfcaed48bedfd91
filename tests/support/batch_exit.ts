/** Pushes with durability "batch" and ends without closing. Usage: batch_exit.ts QUEUE return|exit */
import { Queue } from "../../mod.ts";

const [path, how] = process.argv.slice(2) as [string, string];
const queue = Queue.open<number>(path, { durability: "batch", flushEveryMs: 60_000, flushEveryCount: 1000 });
queue.pushMany([1, 2, 3]);
if (queue.durableSequence !== 0) throw new Error("synced too early");
if (how === "exit") process.exit(0);
