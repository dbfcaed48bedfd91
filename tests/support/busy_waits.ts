/**
 * A child that waits again and again, for what is there whenever its timer looks: prints how many sleepers a wake found, of the first wait that slept; 0 if
 * none did within five seconds.
 */
import { setImmediate as turn } from "node:timers/promises";
import { native } from "../../lib/native/native.ts";
import { waitFor } from "../../lib/waiting.ts";
import { Mapping } from "../../mod.ts";

using mapping = Mapping.anonymous(64);
const hf = native();
const address = hf.hf_address_of(mapping.view());
let woken = 0;
for (const end = performance.now() + 5000; woken === 0 && performance.now() < end; ) {
  let looks = 0;
  const waiting = waitFor({ address: () => address, expected: 0, changed: () => looks++ > 0 });
  for (let i = 0; i < 5; i++) await turn();
  woken = hf.hf_wake32(address, 1);
  await waiting;
}
console.log(woken);
