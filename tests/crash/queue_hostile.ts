/**
 * A hostile peer: rewrites random bytes of a queue's files, which others have mapped, until it is killed. Now and then it puts everything back, so
 * that the others get somewhere.
 *
 * Usage: queue_hostile.ts QUEUE SEED
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { randomFrom } from "../support/fuzz.ts";

const [path, seed] = process.argv.slice(2) as [string, string];
const random = randomFrom(Number(seed));
const files = fs.readdirSync(path).map((name) => {
  const bytes = new Uint8Array(fs.readFileSync(join(path, name)));
  return { fd: fs.openSync(join(path, name), "r+"), bytes, isControl: name === "control" };
});
const places = [1024, 1152, 1280, 1408, 2048, 2176, 2304, 2432, 3072, 3200, 3584, 4096, 4096 + 1024 * 64];

console.log("ready");
for (let round = 0; ; round++) {
  const { fd, bytes, isControl } = files[random(files.length)] as (typeof files)[0];
  const start = isControl && random(4) > 0 ? (places[random(places.length)] as number) + random(128) : random(bytes.byteLength);
  const noise = Uint8Array.from({ length: 1 + random(random(8) === 0 ? 300 : 8) }, () => random(256)).subarray(0, bytes.byteLength - start);
  fs.writeSync(fd, noise, 0, noise.byteLength, start);
  if (round % 20 === 19) for (const file of files) fs.writeSync(file.fd, file.bytes, 0, file.bytes.byteLength, 0);
}
