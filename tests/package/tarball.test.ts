/** What is in the package: its files, its size, its declarations and checksums. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { brotliDecompressSync } from "node:zlib";
import * as api from "../../mod.ts";
import { PLATFORMS, quickSum } from "../../lib/native/library.ts";
import { pack, packageRefusal, unpack, bareEnvironment, output } from "../support/package.ts";
import { root } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const refusal = await packageRefusal();
const skip = (name: string): { skip: string | false } => skipFor(name, refusal);

const tarball = refusal === undefined ? await pack(files) : "";
const folder = refusal === undefined ? unpack(files, tarball) : "";

async function zig(): Promise<string> {
  const { findZig } = await import("../../scripts/zig.ts");
  const found = findZig();
  assert.ok("exe" in found);
  return found.exe;
}

const list = (from: string): string[] =>
  fs.readdirSync(from, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) =>
    join(entry.parentPath, entry.name).slice(from.length + 1)
  ).sort();
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** The goal of 400 KB is missed, for reasons (docs/decisions.md). Without the command and the bridges, which come on top. */
const LIBRARY_BYTES = 490_000;

test("the tarball has the library for each platform, and nothing to install", skip("the tarball has the library for each platform, and nothing to install"), () => {
  const manifest = JSON.parse(fs.readFileSync(join(folder, "package.json"), "utf8")) as Record<string, Record<string, string>>;
  for (const kind of ["dependencies", "optionalDependencies", "bundleDependencies"]) assert.equal(manifest[kind], undefined, kind);
  // The bridges' clients, for who uses the bridges.
  const peers = manifest["peerDependenciesMeta"] as unknown as Record<string, { optional: boolean }>;
  for (const name of Object.keys(manifest["peerDependencies"] ?? {})) assert.equal(peers[name]?.optional, true, name);
  const scripts = Object.keys(manifest["scripts"] ?? {});
  assert.deepEqual(scripts.filter((name) => /install|^prepare$/.test(name)), []);
  const found = list(folder);
  const natives = found.filter((name) => name.startsWith("dist/native/") && name.includes("holdfast"));
  assert.deepEqual(natives.map((name) => name.split("/")[2]).sort(), [...PLATFORMS].sort());
  assert.deepEqual(found.filter((name) => !/^(dist\/|package\.json$|README\.md$|LICENSE$)/.test(name)), []);
  assert.deepEqual(found.filter((name) => name.endsWith(".ts") && !name.endsWith(".d.ts")), []);
});

test("the library stays small", skip("the library stays small"), () => {
  const size = (name: string): number => fs.statSync(join(folder, name)).size;
  const total = list(folder).filter((name) => !/^dist\/(cli\/|bridge)/.test(name)).reduce((sum, name) => sum + size(name), 0);
  assert.ok(total <= LIBRARY_BYTES, `${total} bytes`);
});

test("the checksums are those of the libraries", skip("the checksums are those of the libraries"), () => {
  const native = join(folder, "dist", "native");
  const lines = fs.readFileSync(join(native, "SHA256SUMS"), "utf8").trimEnd().split("\n");
  assert.equal(lines.length, PLATFORMS.length);
  for (const line of lines) {
    const [sum, name = ""] = line.split("  ");
    const path = join(native, name);
    const bytes = fs.existsSync(path) ? fs.readFileSync(path) : brotliDecompressSync(fs.readFileSync(`${path}.br`));
    assert.equal(sha256(bytes), sum, name);
    assert.equal(sha256(fs.readFileSync(join(root, "build", "native", name))), sum, `${name} is what was built`);
  }
  const quick = ["linux-arm64", "linux-x64"].map((name) => `${quickSum(fs.readFileSync(join(native, name, "libholdfast.so")))}  ${name}/libholdfast.so`);
  assert.deepEqual(fs.readFileSync(join(native, "QUICKSUMS"), "utf8").trimEnd().split("\n").sort(), quick.sort());
});

test("nothing of this machine is in it", skip("nothing of this machine is in it"), () => {
  for (const name of list(folder)) {
    const text = fs.readFileSync(join(folder, name), "latin1");
    assert.ok(!text.includes(root) && !text.includes("/home/") && !text.includes("zig-cache"), name);
  }
});

test("the browser's stand-ins have the names of the library, and say what is the matter when used", skip("the browser's stand-ins have the names of the library, and say what is the matter when used"), async () => {
  const browser = (await import(pathToFileURL(join(folder, "dist", "browser.js")).href)) as Record<string, new () => unknown>;
  assert.deepEqual(Object.keys(browser).sort(), Object.keys(api).sort());
  for (const [name, value] of Object.entries(browser)) {
    const uses = [() => new value(), () => (value as unknown as () => void)(), () => (value as unknown as { open: unknown }).open];
    for (const use of uses) assert.throws(use, { code: "ERR_LIBRARY", message: new RegExp(`${name}.*needs Bun, Deno or Node`) });
    assert.equal({} instanceof value, false);
  }
});

test("the package exports what mod.ts does, under the same names", skip("the package exports what mod.ts does, under the same names"), async () => {
  const built = (await import(pathToFileURL(join(folder, "dist", "mod.js")).href)) as Record<string, { readonly name: string }>;
  assert.deepEqual(Object.keys(built).sort(), Object.keys(api).sort());
  for (const [name, value] of Object.entries(built)) if (/^[A-Z]/.test(name)) assert.equal(value.name, name);
});

test("publint finds nothing", skip("publint finds nothing"), async () => {
  const { publint } = await import("publint");
  const { messages } = await publint({ pkgDir: folder, level: "suggestion", strict: true, pack: false });
  assert.deepEqual(messages.map(({ code, args }) => ({ code, args })), []);
});

test("the types are right for who imports it", skip("the types are right for who imports it"), () => {
  const environment = bareEnvironment(files.next("attw"));
  output("attw", [tarball, "--profile", "esm-only", "--no-emoji"], { cwd: root, env: environment });
});

test("a strict program type-checks against the declarations", skip("a strict program type-checks against the declarations"), () => {
  const app = files.next("typed");
  fs.mkdirSync(join(app, "node_modules"), { recursive: true });
  fs.cpSync(folder, join(app, "node_modules", "holdfast"), { recursive: true });
  fs.writeFileSync(join(app, "package.json"), `{ "type": "module" }\n`);
  fs.writeFileSync(
    join(app, "main.ts"),
    `import { type Codec, compressed, Counters, type Lease, MapError, Mapping, Metrics, Queue, type QueueStats, SharedMemory } from "holdfast";
using queue = Queue.open<{ url: string }>("q", { codec: compressed<{ url: string }>("json") });
queue.push({ url: "x" });
// @ts-expect-error: no such property
queue.push({ uri: "x" });
const lease: Lease<{ url: string }> | undefined = queue.lease({ leaseMs: 1000 });
const stats: QueueStats = queue.stats();
const added: bigint = Mapping.anonymous(4096).atomics.add(0, 1n);
const codec: Codec<string> = { encode: (text: string) => new TextEncoder().encode(text), decode: (bytes: Uint8Array) => new TextDecoder().decode(bytes) };
const requests = Metrics.open("m").counter("requests_total", { help: "Requests.", labels: ["code"] });
requests.labels({ code: 200 }).inc();
// @ts-expect-error: the label is missing
requests.labels({});
export { added, codec, Counters, lease, MapError, SharedMemory, stats };
`,
  );
  const flags = ["--noEmit", "--strict", "--exactOptionalPropertyTypes", "--module", "nodenext", "--target", "es2024", "--lib", "es2024,esnext.disposable,dom", "--types", ""];
  output("tsc", [...flags, "main.ts"], { cwd: app, env: bareEnvironment(files.next("tsc")) });
});

test("a second build of the native libraries, in another folder, gives the same bytes", skip("a second build of the native libraries, in another folder, gives the same bytes"), async () => {
  const place = join(files.next("elsewhere"), "deeper");
  fs.mkdirSync(join(place, ".zig-cache"), { recursive: true });
  for (const name of ["build.zig", ".zig-version", "package.json", "csrc", "scripts", "bench"]) fs.cpSync(join(root, name), join(place, name), { recursive: true });
  // What Zig makes of itself and of the headers, not of our sources.
  for (const name of fs.readdirSync(join(root, ".zig-cache")).filter((name) => name === "global" || name.startsWith("maker-"))) {
    fs.symlinkSync(join(root, ".zig-cache", name), join(place, ".zig-cache", name));
  }
  output("node", ["scripts/build.ts", "--all"], { cwd: place, env: { ...process.env, ZIG: await zig() } });
  for (const platform of PLATFORMS) {
    const [name = ""] = fs.readdirSync(join(root, "build", "native", platform)).filter((file) => file.includes("holdfast"));
    const [made, first] = [place, root].map((from) => sha256(fs.readFileSync(join(from, "build", "native", platform, name))));
    assert.equal(made, first, platform);
  }
});

test("a second build gives the same bytes", skip("a second build gives the same bytes"), async () => {
  const { makePackage } = await import("../../scripts/package.ts");
  const again = files.next("again");
  await makePackage(again);
  for (const [made, place] of [["dist", join(root, "dist")], ["jsr", join(root, "build", "jsr")]] as const) {
    assert.deepEqual(list(join(again, made)), list(place));
    for (const name of list(place)) assert.equal(sha256(fs.readFileSync(join(again, made, name))), sha256(fs.readFileSync(join(place, name))), name);
  }
  // And a second tarball.
  assert.equal(sha256(fs.readFileSync(await pack(files))), sha256(fs.readFileSync(tarball)));
});
