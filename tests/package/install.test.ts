/** The packed package, installed into empty folders by each package manager, runs a real queue and counters in each runtime. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { before, test } from "node:test";
import { assertUsed, bareEnvironment, output, pack, packageRefusal, RUN, unpack, writeProgram } from "../support/package.ts";
import { commandLine, root, type RuntimeName, runtimeNames } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { mountRefusal, withTmpfs } from "../support/tmpfs.ts";

const files = temporaryFiles();
const processes = children();
const refusal = await packageRefusal();

let tarball = "";
before(async () => {
  if (refusal === undefined) tarball = await pack(files);
});

/** An empty folder with the program, and an environment for it. */
function newApp(): { app: string; env: NodeJS.ProcessEnv; data: () => string } {
  const app = files.next("app");
  writeProgram(app);
  return { app, env: bareEnvironment(files.next("home")), data: newData };
}

function newData(): string {
  const folder = files.next("data");
  fs.mkdirSync(folder);
  fs.chmodSync(folder, 0o777);
  return folder;
}

const executable = (runtime: RuntimeName): string => commandLine(runtime, "")[0];

function run(runtime: RuntimeName, app: string, env: NodeJS.ProcessEnv, data: string, runs = 1, main = "main.mjs"): void {
  assertUsed(output(executable(runtime), [...RUN[runtime], main, data], { cwd: app, env }), runs);
}

/** Installs the tarball into the app as it would be. */
function place(app: string): string {
  const folder = join(app, "node_modules", "holdfast");
  fs.mkdirSync(join(app, "node_modules"), { recursive: true });
  fs.renameSync(unpack(files, tarball), folder);
  return folder;
}

const skip = (name: string, reason?: string): { skip: string | false } => skipFor(name, refusal ?? reason);

const npm = "npm install, and one queue for all three runtimes";
test(npm, skip(npm), () => {
  const { app, env, data } = newApp();
  output("npm", ["install", "--offline", "--no-audit", "--no-fund", tarball], { cwd: app, env });
  assert.deepEqual(fs.readdirSync(join(app, "node_modules")).filter((name) => !name.startsWith(".")), ["holdfast"]);
  const shared = data();
  runtimeNames.forEach((runtime, i) => run(runtime, app, env, shared, 1 + i));
});

const command = "the command, as it is installed";
const manifest = JSON.parse(fs.readFileSync(join(root, "package.json"), "utf8")) as { bin?: unknown };
test(command, skip(command, manifest.bin === undefined ? "package.json names no command" : undefined), () => {
  const { app, env, data } = newApp();
  output("npm", ["install", "--offline", "--no-audit", "--no-fund", tarball], { cwd: app, env });
  const queue = join(data(), "queue");
  const file = join(app, "node_modules", "holdfast", "dist", "cli", "main.js");
  const ways = [["npx", "--offline", "holdfast"], ["bunx", "--bun", "holdfast"], ["bun", "run", file], ["deno", "run", "-A", file]] as const;
  for (const [i, [executable, ...args]] of ways.entries()) {
    output(executable, [...args, "queue", "push", queue], { cwd: app, env, input: `${i}\n` });
  }
  assert.equal(output(file, ["queue", "pop", queue, "--count", "10"], { cwd: app, env }).trim().split("\n").length, ways.length);
});

const bunAdd = "bun add";
test(bunAdd, skip(bunAdd), () => {
  const { app, env, data } = newApp();
  output("bun", ["add", tarball], { cwd: app, env });
  run("bun", app, env, data());
});

const pnpm = "pnpm add: the package is a link into a store";
test(pnpm, skip(pnpm), () => {
  const { app, env, data } = newApp();
  output("pnpm", ["add", "--offline", "--store-dir", files.next("store"), tarball], { cwd: app, env });
  assert.ok(fs.lstatSync(join(app, "node_modules", "holdfast")).isSymbolicLink());
  for (const runtime of ["node", "bun"] as const) run(runtime, app, env, data());
});

const deno = "deno with an npm: specifier, from a registry";
test(deno, skip(deno), async () => {
  const { app, env, data } = newApp();
  fs.rmSync(join(app, "package.json"));
  fs.writeFileSync(join(app, "deno.json"), `{ "imports": { "holdfast": "npm:holdfast@0.1.0" } }\n`);
  const bytes = fs.readFileSync(tarball);
  const manifest = JSON.parse(fs.readFileSync(join(unpack(files, tarball), "package.json"), "utf8")) as object;
  const server = createServer((request, response) => {
    if (request.url?.endsWith(".tgz") === true) return void response.end(bytes);
    const { port } = server.address() as AddressInfo;
    const dist = { tarball: `http://127.0.0.1:${port}/holdfast.tgz`, integrity: `sha512-${createHash("sha512").update(bytes).digest("base64")}` };
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ name: "holdfast", "dist-tags": { latest: "0.1.0" }, versions: { "0.1.0": { ...manifest, dist } } }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const registry = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const { code, stdout, stderr } = await processes.run(executable("deno"), [...RUN.deno, "main.mjs", data()], {
      cwd: app,
      env: { ...env, NPM_CONFIG_REGISTRY: registry },
    });
    assert.equal(code, 0, stderr);
    assertUsed(stdout, 1);
  } finally {
    server.close();
  }
});

const homeless = "without HOME, or any other variable";
test(homeless, skip(homeless), () => {
  const { app, data } = newApp();
  place(app);
  for (const runtime of runtimeNames) run(runtime, app, { PATH: process.env.PATH, NODE_NO_WARNINGS: "1" }, data());
});

const worker = "in a Worker";
test(worker, skip(worker), () => {
  const { app, env, data } = newApp();
  place(app);
  fs.writeFileSync(
    join(app, "worker.mjs"),
    `import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
if (isMainThread) {
  const worker = new Worker(new URL(import.meta.url), { workerData: process.argv[2] });
  worker.on("message", (result) => { console.log(JSON.stringify(result)); worker.postMessage("end"); });
} else {
  const { use } = await import("./use.mjs");
  parentPort.postMessage(await use(workerData).run());
  parentPort.on("message", () => parentPort.close());
}
`,
  );
  for (const runtime of runtimeNames) run(runtime, app, env, data(), 1, "worker.mjs");
});

const twice = "twice in one process: two copies of the package, one queue";
test(twice, skip(twice), () => {
  const { app, env, data } = newApp();
  for (const copy of ["one", "two"]) {
    writeProgram(join(app, copy));
    place(join(app, copy));
  }
  fs.writeFileSync(
    join(app, "main.mjs"),
    `import { use as useOne } from "./one/use.mjs";
import { use as useTwo } from "./two/use.mjs";
const [one, two] = [useOne(process.argv[2]), useTwo(process.argv[2])];
await one.run();
console.log(JSON.stringify(await two.run()));
`,
  );
  for (const runtime of runtimeNames) run(runtime, app, env, data(), 2);
});

const noMount = refusal === undefined ? mountRefusal(files) : undefined;

const readOnly = "from a read-only tree, with nothing else to write to";
test(readOnly, skip(readOnly, noMount), () => {
  withTmpfs(files, "size=4m", (mount) => {
    const app = join(mount, "app");
    writeProgram(app);
    fs.mkdirSync(join(app, "node_modules"));
    fs.cpSync(unpack(files, tarball), join(app, "node_modules", "holdfast"), { recursive: true });
    output("mount", ["-o", "remount,ro", mount], {});
    const env = { ...bareEnvironment(files.next("home")), HOME: join(mount, "home"), TMPDIR: join(mount, "tmp") };
    for (const runtime of runtimeNames) run(runtime, app, env, newData());
  });
});

const noExec = "with a noexec folder for temporary files";
test(noExec, skip(noExec, noMount), () => {
  withTmpfs(files, "size=4m,noexec", (mount) => {
    const { app, env, data } = newApp();
    place(app);
    for (const runtime of runtimeNames) run(runtime, app, { ...env, HOME: join(mount, "home"), TMPDIR: mount }, data());
  });
});

/** Why nobody can't run the runtimes; undefined if he can. */
function nobodyRefusal(): string | undefined {
  if (process.getuid?.() !== 0) return "needs root, to become another user";
  const { status, stderr, error } = spawnSync("setpriv", [...NOBODY, executable("node"), "--version"], { encoding: "utf8" });
  return status === 0 ? undefined : `another user can't run the runtimes here: ${error?.message ?? stderr.trim()}`;
}

const NOBODY = ["--reuid=65534", "--regid=65534", "--clear-groups"];
const nobody = "as a user who owns nothing of it";
test(nobody, skip(nobody, refusal === undefined ? nobodyRefusal() : undefined), () => {
  const { app, env, data } = newApp();
  place(app);
  fs.chmodSync(files.folder, 0o755);
  // What a runtime keeps for itself has to be writable: Deno's caches.
  fs.mkdirSync(env["HOME"] as string, { recursive: true });
  for (const path of [env["HOME"] as string, join(env["HOME"] as string, "..")]) fs.chmodSync(path, 0o777);
  for (const runtime of runtimeNames) {
    const folder = data();
    assertUsed(output("setpriv", [...NOBODY, executable(runtime), ...RUN[runtime], "main.mjs", folder], { cwd: app, env }), 1);
    assert.equal(fs.statSync(join(folder, "counters")).uid, 65534);
  }
});
