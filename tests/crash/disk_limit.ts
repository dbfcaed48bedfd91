/**
 * A child that may not make files longer than the limit of its shell: pushes a record whose segment fits, one that needs a longer file, and
 * goes on.
 *
 * Usage: disk_limit.ts QUEUE LIMIT_BYTES
 */
import { MapError, Queue } from "../../mod.ts";

const [path, limit] = process.argv.slice(2) as [string, string];
using queue = Queue.open<string>(path, { codec: "text" });
const said: unknown[] = [queue.push("before")];
try {
  said.push(queue.push("x".repeat(Number(limit))));
} catch (error) {
  said.push(error instanceof MapError ? error.code : String(error));
}
said.push(queue.push("after"), queue.pop(), queue.pop(), queue.pop() ?? null);
console.log(JSON.stringify(said));
