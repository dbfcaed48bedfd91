/**
 * Starts an asynchronous operation of the runtime on a view, closes the mapping meanwhile, and says whether it is still alive after the
 * operation has ended, well or not. Usage: close_in_use.ts PATH (close|unsafeClose) (gzip|writeFile) DELAY_MS
 */
import * as fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import * as zlib from "node:zlib";
import { Mapping } from "../../mod.ts";

const [path, close, operation, delay] = process.argv.slice(2) as [string, "close" | "unsafeClose", "gzip" | "writeFile", string];
const content = Uint8Array.from({ length: 8 << 20 }, (_, i) => (i * 7919) >> 3);
const mapping = Mapping.open(path, { create: true, byteLength: content.byteLength });
mapping.pwrite(0, content);
const view = mapping.view();

let sum = 0;
const ended = new Promise<string>((resolve) => {
  const done = (error: Error | null): void => resolve(error === null ? "done" : error.message);
  // Node's zlib throws from its own callback when it finds its input detached; the program sees an exception, not a signal.
  if (close === "unsafeClose") process.on("uncaughtException", done);
  if (operation === "gzip") zlib.gzip(view, done);
  else fs.writeFile(`${path}.copy`, view, done);
});
setTimeout(() => {
  mapping[close]();
  // What stays attached reads as something, whatever it is.
  for (let i = 0; i < view.byteLength; i += 4096) sum += view[i] as number;
}, Number(delay));
console.log(await ended);
await sleep(100);
console.log(sum >= 0 ? "alive" : "");
