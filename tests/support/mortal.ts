/** For children that kill themselves at a native call. To be imported before anything is opened: who opens keeps some of the functions. */
import * as fs from "node:fs";
import { native } from "../../lib/native/native.ts";

/** Writes a line to stdout before anything else happens. */
export function say(text: string): void {
  fs.writeSync(1, `${text}\n`);
}

const state = { armed: false, calls: 0, last: 0, name: undefined as string | undefined, when: "" };

function die(): never {
  process.kill(process.pid, "SIGKILL");
  for (;;); // until the signal arrives
}

const functions = native() as unknown as Record<string, (...args: unknown[]) => number>;
for (const [name, call] of Object.entries(functions)) {
  functions[name] = (...args) => {
    if (!state.armed || (state.name !== undefined && state.name !== name)) return call(...args);
    const now = ++state.calls === state.last;
    if (now && state.when === "before") die();
    const result = call(...args);
    if (now) die();
    return result;
  };
}

/** Lets native calls count from here on, all or those of one function, and one of them be the last: the process ends before it is made, or after. */
export function arm(last: number, when: string, name?: string): { readonly calls: number } {
  Object.assign(state, { armed: true, last, when, name });
  return state;
}
