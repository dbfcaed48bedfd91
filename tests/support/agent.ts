/**
 * A child process that does with holdfast what it is told: JSON lines in on stdin, one JSON line out for each on stdout.
 * `spawn.ts` is the other end. It ends when its stdin does.
 */
import * as holdfast from "../../mod.ts";
import type { Counters, Mapping } from "../../mod.ts";

/** A value on the wire: bigints and bytes are wrapped. */
export type Wire = null | boolean | number | string | Wire[] | { [key: string]: Wire };

export type Command =
  /** Opens a file and keeps it under a name. */
  | { do: "open"; as: string; kind: "Mapping" | "Counters" | "Queue"; path: string; options?: Wire }
  /** Calls a static method of a class that mod.ts exports and keeps an object result under `as`. */
  | { do: "static"; class: string; method: string; args?: Wire[]; as?: string }
  /** Calls a method (with dots: of a property) and keeps an object result under `as`. */
  | { do: "call"; on: string; method: string; args?: Wire[]; as?: string }
  /** Reads a property. */
  | { do: "get"; on: string; property: string }
  /** Adds 1 to a counter `times` times; the number of adds that are done is stored at `offset` of the mapping `ledger`. */
  | { do: "count"; on: string; counter: string | number; times: number; ledger?: string; offset?: number };

export interface Reply {
  readonly result?: Wire;
  readonly error?: { name: string; code?: string; message: string; mapError: boolean };
}

export function encode(value: unknown): Wire {
  if (typeof value === "bigint") return { $bigint: String(value) };
  if (value instanceof Uint8Array) return { $bytes: Buffer.from(value).toString("base64") };
  if (Array.isArray(value)) return value.map(encode);
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, encode(item)]));
  }
  return (value ?? null) as Wire;
}

export function decode(value: Wire): unknown {
  if (Array.isArray(value)) return value.map(decode);
  if (typeof value !== "object" || value === null) return value;
  if (typeof value.$bigint === "string") return BigInt(value.$bigint);
  if (typeof value.$bytes === "string") return new Uint8Array(Buffer.from(value.$bytes, "base64"));
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, decode(item as Wire)]));
}

type Target = Record<string, unknown>;

const objects = new Map<string, Target>();

function find(name: string): Target {
  const object = objects.get(name);
  if (object === undefined) throw new Error(`the agent has nothing called ${name}`);
  return object;
}

/** The result, or nothing of it if it is kept here. */
function keep(name: string | undefined, result: unknown): unknown {
  if (name === undefined) return result;
  objects.set(name, result as Target);
  return null;
}

async function execute(command: Command): Promise<unknown> {
  switch (command.do) {
    case "open": {
      const { as, kind, path, options } = command;
      return await execute({ do: "static", class: kind, method: "open", args: options === undefined ? [path] : [path, options], as });
    }
    case "static": {
      const type = (holdfast as unknown as Record<string, Record<string, (...args: unknown[]) => unknown>>)[command.class];
      return keep(command.as, await type?.[command.method]?.(...(command.args ?? []).map(decode)));
    }
    case "call": {
      const steps = command.method.split(".");
      const method = steps.pop() as string;
      const target = steps.reduce((object, step) => object[step] as Target, find(command.on));
      return keep(command.as, await (target[method] as (...args: unknown[]) => unknown)(...(command.args ?? []).map(decode)));
    }
    case "get":
      return find(command.on)[command.property];
    case "count": {
      const { counter, times, offset = 0 } = command;
      const counters = find(command.on) as unknown as Counters;
      const ledger = command.ledger === undefined ? undefined : (find(command.ledger) as unknown as Mapping).atomics;
      for (let i = 1; i <= times; i++) {
        counters.add(counter);
        ledger?.store(offset, i);
      }
      return times;
    }
  }
}

async function answer(line: string): Promise<void> {
  let reply: Reply;
  try {
    reply = { result: encode(await execute(JSON.parse(line) as Command)) };
  } catch (error) {
    const { name, message, code } = error as Error & { code?: string };
    reply = { error: { name, message, ...(code === undefined ? {} : { code }), mapError: error instanceof holdfast.MapError } };
  }
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}

if (import.meta.main) {
  let rest = "";
  let work = Promise.resolve();
  process.stdin.setEncoding("utf8");
  process.stdin.on("data", (chunk: string) => {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) work = work.then(() => answer(line));
  });
  process.stdin.on("end", () => void work.then(() => process.exit(0)));
}
