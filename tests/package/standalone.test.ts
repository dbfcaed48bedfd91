/** Programs that have the package inside: compiled ones, and bundles. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { assertUsed, bareEnvironment, output, pack, packageRefusal, unpack, writeProgram } from "../support/package.ts";
import { commandLine, root } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const refusal = await packageRefusal();
const skip = (name: string, reason?: string): { skip: string | false } => skipFor(name, refusal ?? reason);

let packed = "";
before(async () => {
  if (refusal === undefined) packed = unpack(files, await pack(files));
});

interface App {
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
  /** A new empty folder for what is made of it. */
  readonly out: string;
}

function newApp(): App {
  const folder = files.next("app");
  writeProgram(folder);
  fs.cpSync(packed, join(folder, "node_modules", "holdfast"), { recursive: true });
  const out = files.next("out");
  fs.mkdirSync(out);
  return { folder, env: bareEnvironment(files.next("home")), out };
}

/** Runs a program where nothing of the package or the checkout is, twice. */
function assertAlone({ folder, out }: App, command: string, args: readonly string[] = []): void {
  fs.rmSync(folder, { recursive: true });
  const alone = files.next("alone");
  const data = join(alone, "data");
  fs.mkdirSync(data, { recursive: true });
  const env = { PATH: "/usr/bin:/bin", TMPDIR: alone, NODE_NO_WARNINGS: "1" };
  for (const runs of [1, 2]) assertUsed(output(command, [...args, data], { cwd: alone, env }), runs);
  // Bun keeps a library of its own programs there, under the same name each time.
  const left = fs.readdirSync(alone).filter((name) => !name.startsWith(".bun-"));
  assert.deepEqual(left, ["data"], "nothing else is left behind");
  fs.rmSync(out, { recursive: true });
}

const bunCompile = "bun build --compile: the program runs alone";
test(bunCompile, skip(bunCompile), () => {
  const app = newApp();
  output("bun", ["build", "--compile", "main.mjs", "--outfile", join(app.out, "program")], { cwd: app.folder, env: app.env });
  assertAlone(app, join(app.out, "program"));
});

const bunBundle = "bun build --target bun: the bundle runs alone";
test(bunBundle, skip(bunBundle), () => {
  const app = newApp();
  output("bun", ["build", "--target", "bun", "main.mjs", "--outdir", app.out], { cwd: app.folder, env: app.env });
  assertAlone(app, commandLine("bun", "")[0], ["run", join(app.out, "main.js")]);
});

const nodeBundle = "a bundle for Node runs with the folder of the libraries beside it, and says so without";
test(nodeBundle, skip(nodeBundle), () => {
  const app = newApp();
  output("bun", ["build", "--target", "node", "main.mjs", "--outdir", app.out], { cwd: app.folder, env: app.env });
  const data = files.next("data");
  fs.mkdirSync(data);
  const refused = spawnSync(commandLine("node", "")[0], [join(app.out, "main.js"), data], { env: app.env, encoding: "utf8" });
  assert.match(refused.stderr, /ERR_LIBRARY[^]*a bundle needs the package's folder dist\/native beside it/);
  fs.cpSync(join(app.folder, "node_modules/holdfast/dist/native"), join(app.out, "native"), { recursive: true });
  assertAlone(app, commandLine("node", "")[0], [join(app.out, "main.js")]);
});

const denoCompile = "deno compile: the program runs alone";
const noDenort = process.env.DENORT_BIN === undefined ? "its runtime, denort, is not part of the npm package deno: name one in DENORT_BIN" : undefined;
test(denoCompile, skip(denoCompile, noDenort), () => {
  const app = newApp();
  const env = { ...app.env, DENORT_BIN: process.env.DENORT_BIN };
  output("deno", ["compile", "-A", "--no-check", "--output", join(app.out, "program"), "main.mjs"], { cwd: app.folder, env });
  assertAlone(app, join(app.out, "program"));
});

const example = "bun build --compile of an example";
test(example, skip(example), () => {
  const { folder, env, out } = newApp();
  // As a user of the package would have written it.
  const source = fs.readFileSync(join(root, "examples", "block_store.ts"), "utf8");
  fs.writeFileSync(join(folder, "example.ts"), source.replace('"../mod.ts"', '"holdfast"'));
  const program = join(out, "program");
  output("bun", ["build", "--compile", "example.ts", "--outfile", program], { cwd: folder, env });
  fs.rmSync(folder, { recursive: true });
  const alone = files.next("alone");
  fs.mkdirSync(alone);
  const run = (...args: string[]): string => output(program, ["notes", ...args], { cwd: alone, env: { PATH: "/usr/bin:/bin", TMPDIR: alone } });
  const id = run("add", "a note").trim();
  assert.equal(run("list"), `${id}\ta note\n`);
});

const started = "cold start in Bun";
test(started, skip(started), () => {
  const { folder, env } = newApp();
  fs.writeFileSync(
    join(folder, "start.mjs"),
    `const cpu = () => { const { user, system } = process.cpuUsage(); return (user + system) / 1000; };
const start = [performance.now(), cpu()];
const { Queue } = await import("holdfast");
const imported = [performance.now(), cpu()];
Queue.open(process.argv[2] + "/queue").push(1);
console.log(JSON.stringify([0, 1].flatMap((i) => [imported[i] - start[i], [performance.now(), cpu()][i] - imported[i]])));
`,
  );
  const times = Array.from({ length: 5 }, () => {
    const data = files.next("data");
    fs.mkdirSync(data);
    return JSON.parse(output(commandLine("bun", "")[0], ["run", "start.mjs", data], { cwd: folder, env })) as number[];
  });
  const best = [0, 1, 2, 3].map((i) => Math.min(...times.map((time) => time[i] as number)));
  const [imported, first, importCpu, firstCpu] = best as [number, number, number, number];
  const text = `import ${imported.toFixed(1)} ms (${importCpu.toFixed(1)} of CPU time), first use ${first.toFixed(1)} ms (${firstCpu.toFixed(1)})`;
  console.log(`# ${text}, the best of 5`);
  // The goals are 10 and 30 ms on a machine that does nothing else (docs/decisions.md); CPU time doubles on one that does.
  assert.ok(importCpu < 40 && firstCpu < 60, text);
});
