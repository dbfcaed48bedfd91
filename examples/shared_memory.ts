/**
 * Sorts numbers with the help of processes under other runtimes, through shared memory: each part is an object that is handed to a child,
 * which adopts it, sorts it in place without a copy, and hands it back. `--help` says how to call it.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { MapError, SharedMemory } from "../mod.ts";
import { UsageError, wholeNumber } from "./usage.ts";

const help = `Usage: node examples/shared_memory.ts [options]     (or bun, or deno run -A)

Makes random numbers, gives one half each to a process under another runtime through shared memory, has them
sorted there, and merges what comes back. Only names go through the pipes. Ends with 1 if the result is not sorted.

  --count N             how many numbers, 2 to 50000000 (default 1000000)
  --runtimes A,B        who sorts: two of node, bun, deno (default bun,deno)
  --help                print this text
`;

const COMMANDS: Readonly<Record<string, readonly [string, ...string[]]>> = {
  node: ["node", "--disable-warning=ExperimentalWarning"],
  bun: ["bun", "run"],
  deno: ["deno", "run", "-A", "--no-check"],
};

const script = fileURLToPath(import.meta.url);

function parse() {
  try {
    return parseArgs({
      options: {
        count: { type: "string", default: "1000000" },
        runtimes: { type: "string", default: "bun,deno" },
        worker: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** The object's content as numbers, without a copy. */
function numbers(object: SharedMemory): Float64Array {
  const bytes = object.view();
  return new Float64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8);
}

/**
 * Gives an object away: from here on it is neither this process's to remove nor lost before the other one has adopted it. Should the other
 * die first, the retention's end removes it; should this one be killed, SharedMemory.reap() does.
 */
function letGo(object: SharedMemory): Disposable {
  const retention = object.retain();
  object.close();
  return retention;
}

/** The child: takes an object over, sorts it, and hands it back. */
async function work(): Promise<void> {
  const says = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const object = SharedMemory.open((await says.next()).value ?? "");
  object.adopt();
  process.stdout.write("adopted\n");
  numbers(object).sort();
  using _ = letGo(object);
  process.stdout.write("sorted\n");
  await says.next(); // until the parent has it
}

/** Has an object sorted under another runtime; the result is the same object, owned by this process again. */
async function sortElsewhere(object: SharedMemory, runtime: string): Promise<SharedMemory> {
  const { name } = object;
  const [executable, ...args] = COMMANDS[runtime] as [string, ...string[]];
  const child = spawn(executable, [...args, script, "--worker"], { stdio: ["pipe", "pipe", "inherit"] });
  const failed = once(child, "error").then(([error]) => Promise.reject(error as Error));
  const ended = once(child, "close") as Promise<[code: number | null]>;
  // One of them is waited for at a time; both fail if the process can't be started.
  for (const promise of [failed, ended]) promise.catch(() => {});
  const says = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const expect = async (word: string): Promise<void> => {
    const { value } = await Promise.race([says.next(), failed]);
    if (value !== word) throw new Error(`the process under ${runtime} said '${value ?? "nothing"}', not '${word}'`);
  };
  {
    using _ = letGo(object);
    child.stdin.write(`${name}\n`);
    await expect("adopted");
  }
  await expect("sorted");
  const back = SharedMemory.open(name);
  back.adopt();
  child.stdin.end();
  const [code] = await ended;
  if (code !== 0) throw new Error(`the process under ${runtime} ended with ${code}`);
  return back;
}

/** One sorted list of two. */
function merge(left: Float64Array, right: Float64Array): Float64Array {
  const merged = new Float64Array(left.length + right.length);
  for (let i = 0, l = 0, r = 0; i < merged.length; i++) {
    const fromLeft = r === right.length || (l < left.length && (left[l] as number) <= (right[r] as number));
    merged[i] = (fromLeft ? left[l++] : right[r++]) as number;
  }
  return merged;
}

async function main(): Promise<void> {
  const options = parse();
  if (options.help) return void process.stdout.write(help);
  if (options.worker) return await work();
  const count = wholeNumber("--count", options.count, 2, 50_000_000);
  const [first, second, ...more] = options.runtimes.split(",");
  if (first === undefined || second === undefined || more.length > 0 || ![first, second].every((name) => Object.hasOwn(COMMANDS, name))) {
    throw new UsageError(`--runtimes must be two of ${Object.keys(COMMANDS).join(", ")}, with a comma between; received '${options.runtimes}'`);
  }

  const half = Math.floor(count / 2) * 8;
  const all = SharedMemory.create({ capacity: count * 8 });
  all.write(new Uint8Array(Float64Array.from({ length: count }, () => Math.random()).buffer));
  const rest = all.splitAt(half);
  const started = performance.now();
  const parts = await Promise.all([sortElsewhere(all, first), sortElsewhere(rest, second)]);
  const merged = merge(...(parts.map(numbers) as [Float64Array, Float64Array]));
  const took = performance.now() - started;
  for (const part of parts) part.close();

  const sorted = merged.every((value, i) => i === 0 || value >= (merged[i - 1] as number));
  if (!sorted || merged.length !== count) throw new Error("the result is not sorted");
  console.log(`${count} numbers sorted by ${first} and ${second} in ${took.toFixed(0)} ms`);
}

try {
  await main();
} catch (error) {
  if (error instanceof UsageError) {
    console.error(`shared_memory: ${error.message}\nTry --help.`);
    process.exitCode = 2;
  } else {
    console.error(`shared_memory: ${error instanceof MapError ? error.message : ((error as Error).stack ?? String(error))}`);
    process.exitCode = 1;
  }
}
