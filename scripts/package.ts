/**
 * Builds what is published, from the sources and the libraries of all platforms: dist/ for npm, build/jsr/ for JSR.
 *
 *     dist/mod.js, mod.d.ts   the library, minified, and its declarations with their comments
 *     dist/bun.js             the same for Bun: it names the native libraries, so that `bun build --compile` takes them along
 *     dist/browser.js         the same names where there are no files to map; each says so when it is used
 *     dist/waiting/worker.js  the thread that sleeps for waits
 *     dist/cli/               the command
 *     dist/native/            the native libraries, SHA256SUMS of them, and QUICKSUMS of those that are not compressed
 *     build/jsr/mod.ts        mod.ts with the native libraries inside a module; cli.ts and bridge/, the command and the bridges with them
 *
 * The same sources give the same bytes. What is up to date is left alone (but for --force).
 */
import { createHash } from "node:crypto";
import { chmodSync, existsSync, globSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { brotliCompressSync } from "node:zlib";
import { rolldown } from "rolldown";
import { dts } from "rolldown-plugin-dts";
import { minify } from "terser";
import { quickSum } from "../lib/native/library.ts";
import { build, nativeDir } from "./build.ts";
import { root } from "./project.ts";
import { findZig } from "./zig.ts";

/** The platforms that the tests run have their library as it is, the others compressed: the package is to stay below 400 KB. */
const PLAIN = /^linux-/;

interface NativeLibrary {
  readonly platform: string;
  readonly file: string;
  readonly bytes: Buffer;
  readonly sha256: string;
  readonly packed: Buffer;
}

/** Why the package can't be built on this machine; undefined if it can. */
export function noPackage(): string | undefined {
  const zig = findZig();
  return "exe" in zig ? undefined : `the libraries of other platforms need Zig: ${zig.missing}`;
}

const places = [["dist", path.join(root, "dist")], ["jsr", path.join(root, "build", "jsr")]] as const;
const stampFile = path.join(root, "build", "package.sha256");

/** Builds both where they belong, unless they are up to date; returns one line that says so. */
export async function buildPackage(force = false): Promise<string> {
  build({ all: true });
  const stamp = hashInputs();
  if (!force && readStamp() === stamp && places.every(([, place]) => existsSync(place))) return "dist/ and build/jsr/ are up to date";
  const temporary = path.join(root, "build", `.package-${process.pid}`);
  try {
    await makePackage(temporary);
    rmSync(stampFile, { force: true });
    for (const [name, place] of places) {
      rmSync(place, { recursive: true, force: true });
      renameSync(path.join(temporary, name), place);
    }
    writeFileSync(stampFile, stamp);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  const files = globSync("**/*", { cwd: path.join(root, "dist"), withFileTypes: true }).filter((entry) => entry.isFile());
  const bytes = files.reduce((sum, entry) => sum + statSync(path.join(entry.parentPath, entry.name)).size, 0);
  return `built dist/ (${files.length} files, ${bytes} bytes) and build/jsr/`;
}

/** Makes `dist` and `jsr` in a folder, from the native libraries as they are. */
export async function makePackage(folder: string): Promise<void> {
  const libraries = readLibraries();
  const dist = path.join(folder, "dist");
  await writeScripts(dist);
  await writeDeclarations(dist);
  writeLibraries(dist, libraries);
  writeJsr(path.join(folder, "jsr"), libraries);
}

/** Of everything that the bytes depend on. */
function hashInputs(): string {
  const sum = createHash("sha256");
  const files = ["mod.ts", "lib/**/*.ts", "cli/**/*.ts", "scripts/package.ts", "package-lock.json", "build/native/*/*holdfast.*"];
  for (const file of globSync(files, { cwd: root }).sort()) sum.update(`${file}\0`).update(readFileSync(path.join(root, file))).update("\0");
  return sum.digest("hex");
}

function readStamp(): string | undefined {
  try {
    return readFileSync(stampFile, "latin1");
  } catch {
    return undefined; // absent: build
  }
}

function readLibraries(): NativeLibrary[] {
  return globSync("*/*holdfast.*", { cwd: nativeDir }).sort().map((found) => {
    const [platform, file] = found.split(path.sep) as [string, string];
    const bytes = readFileSync(path.join(nativeDir, found));
    return { platform, file, bytes, sha256: createHash("sha256").update(bytes).digest("hex"), packed: brotliCompressSync(bytes) };
  });
}

/** Where something in `dist` is read from: what is imported from Bun's entry has to be a file. */
const entries: Readonly<Record<string, string>> = {
  mod: "mod.ts",
  browser: "lib/browser.ts",
  library: "lib/native/library.ts",
  "waiting/worker": "lib/waiting/worker.ts",
  "cli/main": "cli/main.ts",
  "bridge/bridge": "lib/bridge/bridge.ts",
  "bridge/nats": "lib/bridge/nats.ts",
  "bridge/redis": "lib/bridge/redis.ts",
};

// The clients of the bridges are for the user to install.
const external = [/^node:/, /^bun:/, /^@nats-io\//, /^@redis\//];

async function writeScripts(dist: string): Promise<void> {
  const input = Object.entries(entries).filter(([, file]) => existsSync(path.join(root, file)));
  const bundle = await rolldown({
    input: Object.fromEntries(input),
    cwd: root,
    platform: "node",
    external,
    transform: { target: "es2024" },
    checks: { pluginTimings: false },
  });
  await bundle.write({
    dir: dist,
    format: "esm",
    chunkFileNames: ({ moduleIds }) => `${moduleIds.every((id) => id.includes("/cli/")) ? "cli/" : ""}[name]-[hash].js`,
    // One file for who imports the library, whatever parts of it the command's files share with it, and a small one for the worker.
    codeSplitting: {
      groups: [
        { name: "native", test: /\/lib\/(native\/|waiting\/list|errors|builtins|permissions)/, priority: 2 },
        { name: "lib", test: /\/(lib\/(?!browser|bridge|waiting\/worker)|mod\.ts)/, priority: 1 },
      ],
    },
    minify: false, // and not printed again after terser
    plugins: [{ name: "terser", renderChunk: minified }],
  });
  await bundle.close();
  const command = path.join(dist, "cli", "main.js");
  if (existsSync(command)) chmodSync(command, 0o755);
}

async function minified(code: string): Promise<string> {
  // What inspect() and error messages show are the names of classes.
  const classes = Array.from(code.matchAll(/\bclass ([A-Z]\w*)|\bvar ([A-Z]\w*) = class\b/g), ([, name, assigned]) => (name ?? assigned) as string);
  const result = await minify(code, {
    module: true,
    ecma: 2020,
    compress: { keep_classnames: true },
    mangle: { keep_classnames: true, reserved: classes },
    // An uncaught error shows the line that it comes from.
    format: { comments: false, max_line_len: 160 },
  });
  // Bun takes a file that starts like this as it is; it transpiles any other, which would be half of the time that an import takes.
  const pragma = code.startsWith("#!") ? "" : "// @bun\n";
  return pragma + result.code;
}

/**
 * What the entries export, and what that needs, with the comments but for their examples. The sources say all types, so that no compiler has to find
 * them out. What mod.ts and the bridges share is one file, since a class that is declared twice would be two types.
 */
async function writeDeclarations(dist: string): Promise<void> {
  const bridges = Object.entries(entries).filter(([name]) => name.startsWith("bridge/"));
  const bundle = await rolldown({
    input: { mod: "mod.ts", ...Object.fromEntries(bridges) },
    cwd: root,
    platform: "node",
    external,
    plugins: [dts({ generator: "oxc", tsconfig: false, emitDtsOnly: true, sourcemap: false })],
  });
  await bundle.write({ dir: dist, format: "esm", chunkFileNames: "[name]-[hash].js" });
  await bundle.close();
  // The examples, a quarter of the bytes, are in the reference (`npm run docs`).
  const example = /^ *\* @example\n(?: *\*(?!\/)(?! @).*\n)*/gm;
  for (const name of globSync("**/*.d.ts", { cwd: dist })) {
    const file = path.join(dist, name);
    writeFileSync(file, readFileSync(file, "utf8").replaceAll(example, "").replaceAll(/(?:^ *\*\n)+(?= *\*\/)/gm, ""));
  }
}

function writeLibraries(dist: string, libraries: readonly NativeLibrary[]): void {
  const names: [platform: string, file: string][] = [];
  const quick: string[] = [];
  for (const { platform, file, bytes, packed } of libraries) {
    const plain = PLAIN.test(platform);
    const [name, content] = plain ? [file, bytes] : [`${file}.br`, packed];
    if (plain) quick.push(`${quickSum(bytes)}  ${platform}/${file}\n`);
    mkdirSync(path.join(dist, "native", platform), { recursive: true });
    writeFileSync(path.join(dist, "native", platform, name), content);
    names.push([platform, name]);
  }
  const sums = libraries.map(({ platform, file, sha256 }) => `${sha256}  ${platform}/${file}\n`);
  writeFileSync(path.join(dist, "native", "SHA256SUMS"), sums.join(""));
  writeFileSync(path.join(dist, "native", "QUICKSUMS"), quick.join(""));

  const variable = (platform: string): string => platform.replace("-", "_");
  const imports = names.map(([platform, name]) => `import ${variable(platform)} from "./native/${platform}/${name}" with { type: "file" };\n`);
  const list = names.map(([platform]) => `"${platform}": ${variable(platform)}`);
  writeFileSync(
    path.join(dist, "bun.js"),
    `${imports.join("")}import { provideLibraries } from "./library.js";
provideLibraries({ ${list.join(", ")} }, import.meta.url);
export * from "./mod.js";
`,
  );
}

function writeJsr(jsr: string, libraries: readonly NativeLibrary[]): void {
  const rows = libraries.map(({ platform, sha256, packed }) =>
    `  "${platform}": {\n    sha256: "${sha256}",\n    data: "${packed.toString("base64")}",\n  },\n`
  );
  mkdirSync(jsr, { recursive: true });
  writeFileSync(
    path.join(jsr, "libraries.ts"),
    `/** Made by scripts/package.ts: the native libraries. @module */
import type { EmbeddedLibrary } from "../../lib/native/library.ts";

export const libraries: Readonly<Record<string, EmbeddedLibrary>> = {\n${rows.join("")}};\n`,
  );
  writeFileSync(
    path.join(jsr, "embed.ts"),
    `/** Gives the library its native libraries. @module */
import { embedLibraries } from "../../lib/native/library.ts";
import { libraries } from "./libraries.ts";

embedLibraries(libraries);
`,
  );
  // Each entry in a folder of its own depth: `here` leads to build/jsr, `up` to the root.
  const writeEntry = (file: string, source: string, here: string, up: string): void => {
    const documentation = /^\/\*\*[^]*?\*\/\n/.exec(readFileSync(path.join(root, source), "utf8"))?.[0] ?? "";
    mkdirSync(path.dirname(path.join(jsr, file)), { recursive: true });
    writeFileSync(path.join(jsr, file), `${documentation}import "${here}embed.ts";\n\nexport * from "${up}${source}";\n`);
  };
  writeEntry("mod.ts", "mod.ts", "./", "../../");
  for (const name of ["bridge", "nats", "redis"]) writeEntry(`bridge/${name}.ts`, `lib/bridge/${name}.ts`, "../", "../../../");
  if (existsSync(path.join(root, entries["cli/main"] as string))) {
    writeFileSync(path.join(jsr, "cli.ts"), `/** The command. @module */\nimport "./embed.ts";\nimport "../../cli/main.ts";\n`);
  }
}

if (import.meta.main) {
  try {
    // On the other channel, since `npm pack --json` runs this and prints to the first.
    console.error(await buildPackage(process.argv.includes("--force")));
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
