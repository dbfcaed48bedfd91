/** For children that kill themselves at their n-th native call. */
import * as fs from "node:fs";
import { native } from "../../lib/native/native.ts";

/** Writes a line to stdout before anything else happens. */
export function say(text: string): void {
  fs.writeSync(1, `${text}\n`);
}

/** Lets every native function count from here on, and one of the calls be the last: the process ends before it is made, or after. */
export function arm(last: number, when: string): { readonly calls: number } {
  const functions = native() as unknown as Record<string, (...args: unknown[]) => number>;
  const state = { calls: 0 };
  const die = (): void => {
    process.kill(process.pid, "SIGKILL");
    for (;;); // until the signal arrives
  };
  for (const [name, call] of Object.entries(functions)) {
    functions[name] = (...args) => {
      state.calls++;
      const now = state.calls === last;
      if (now && when === "before") die();
      const result = call(...args);
      if (now) die();
      return result;
    };
  }
  return state;
}
