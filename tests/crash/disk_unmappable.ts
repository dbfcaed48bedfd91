/**
 * A child whose new segments can't be mapped: pushes until it has met that error three times. Says as one line of JSON the codes, the files of the
 * queue, and whether all that was pushed is there.
 *
 * Usage: disk_unmappable.ts QUEUE
 */
import * as fs from "node:fs";
import { MapError, Queue } from "../../mod.ts";

const [path] = process.argv.slice(2) as [string];
const codes: string[] = [];
using queue = Queue.open<string>(path, { codec: "text", capacityBytes: 8192 });
let pushed = 0;
while (codes.length < 3 && pushed < 100) {
  try {
    queue.push("x".repeat(1500));
    pushed++;
  } catch (error) {
    if (!(error instanceof MapError)) throw error;
    codes.push(error.code);
  }
}
const files = fs.readdirSync(path).sort();
console.log(JSON.stringify({ codes, files, all: queue.popMany(1000).length === pushed }));
