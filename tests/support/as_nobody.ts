/**
 * A child that gives up being root and then tries to open files: prints, for each `mode path` argument pair, what came of it, as
 * JSON. Usage: as_nobody.ts (mapping|counters|create) (r|rw) PATH ...
 */
import { Counters, MapError, Mapping } from "../../mod.ts";

export interface Attempt {
  readonly code: string;
  readonly message: string;
  readonly mapError: boolean;
}

// The library is loaded while its files can be read for sure.
Mapping.anonymous(1).close();
process.setgroups?.([]);
process.setgid?.(65534);
process.setuid?.(65534);

function attempt(what: string, mode: "r" | "rw", path: string): Attempt {
  try {
    if (what === "counters") Counters.open(path, { mode }).close();
    else if (what === "mapping") Mapping.open(path, { mode }).close();
    else if (what === "create") Mapping.open(path, { create: true, byteLength: 10 }).close();
    else Counters.open(path, { count: 1 }).close();
    return { code: "opened", message: "", mapError: false };
  } catch (error) {
    const { code = "none", message } = error as Error & { code?: string };
    return { code, message, mapError: error instanceof MapError };
  }
}

const attempts: Attempt[] = [];
for (let i = 2; i < process.argv.length; i += 3) {
  attempts.push(attempt(...(process.argv.slice(i, i + 3) as [string, "r" | "rw", string])));
}
console.log(JSON.stringify(attempts));
