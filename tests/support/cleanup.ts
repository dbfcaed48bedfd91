/** Cleaning up after a test file, whichever way it ends. */
import { after } from "node:test";
import { currentRuntime } from "./runtimes.ts";

/**
 * Runs `clean` after the calling file's last test. It may run twice. `sync`, if given, is what is left to do where nobody waits for
 * a promise: a runner that is stopped between its tests, and Deno, which runs no `after` in a file with a skipped test.
 */
export function atEnd(clean: () => void | Promise<void>, sync: () => void = clean as () => void): void {
  after(clean);
  process.on("exit", sync);
  if (currentRuntime === "deno") globalThis.addEventListener("unload", sync);
}
