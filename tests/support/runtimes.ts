/** The three runtimes as npm installed them, and how each runs a TypeScript file. */
import * as fs from "node:fs";
import { fileURLToPath } from "node:url";

/** The folder of the checkout. */
export const root: string = fileURLToPath(new URL("../../", import.meta.url));

export const runtimeNames = ["bun", "deno", "node"] as const;
export type RuntimeName = (typeof runtimeNames)[number];

/** The runtime that runs this test. */
export const currentRuntime: RuntimeName = "Bun" in globalThis ? "bun" : "Deno" in globalThis ? "deno" : "node";

const flags: Readonly<Record<RuntimeName, readonly string[]>> = {
  bun: ["run"],
  deno: ["run", "-A", "--no-check"],
  node: ["--disable-warning=ExperimentalWarning"],
};

/** The command line that runs `script` under a runtime. The executable is the runtime itself, so that a kill reaches it. */
export function commandLine(runtime: RuntimeName, script: string, ...args: string[]): [executable: string, args: string[]] {
  const link = `${root}node_modules/.bin/${runtime}`;
  return [fs.realpathSync(link), [...flags[runtime], script, ...args]];
}

/** The native library that the tests load. */
export const library: string = process.env.HOLDFAST_LIBRARY ||
  `${root}build/native/${process.platform}-${process.arch}/libholdfast.so`;
