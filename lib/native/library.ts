/**
 * Where the native library may be, in the order in which it is looked for:
 *   1. the file that `HOLDFAST_LIBRARY` names, and nothing else then;
 *   2. the file that the program brought (`provideLibraries`);
 *   3. the file beside this module: `native/` of a package, `build/native/` of a clone;
 *   4. a compressed one, beside this module or inside a module (`embedLibraries`), unpacked first (unpack.ts).
 *
 * A file is looked at before it is loaded: a library that was cut short would end the process (SIGBUS) while it is loaded.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { builtin } from "../builtins.ts";
import { permitted } from "../permissions.ts";
import type { Adapter } from "./adapter.ts";
import { unpacked } from "./unpack.ts";

/** A place to load the library from. */
export interface Candidate {
  /** For the error that lists what was tried. */
  readonly place: string;
  /** The path, where it is known without work. */
  readonly path?: string;
  /** The path to load; throws why there is none. */
  file(): string;
}

/** A library as a module brings it. */
export interface EmbeddedLibrary {
  /** Of the library, in hexadecimal digits. */
  readonly sha256: string;
  /** The library, compressed with Brotli, in base64. */
  readonly data: string;
}

/** `process.env[name]` where it is not withheld: otherwise the default applies. */
export function environment(name: string): string | undefined {
  return permitted({ name: "env", variable: name }) ? process.env[name] || undefined : undefined;
}

/** The system and CPU, as Node spells them; the folders of the libraries have these names. */
export function platform(): string {
  return `${process.platform}-${process.arch}`;
}

/** The platforms that build.zig has a row for. */
export const PLATFORMS: readonly string[] = ["linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64", "freebsd-x64", "win32-x64"];

const FILES: Readonly<Record<string, string>> = { darwin: "libholdfast.dylib", win32: "holdfast.dll" };

/** What the library's file is called, `fn file` of build.zig. */
export function fileName(): string {
  return FILES[process.platform] ?? "libholdfast.so";
}

/** What a compressed library's name ends in. */
const PACKED = ".br";

/** Beside the folders of the libraries in a package: a line of sha256sum(1) for each library, unpacked. */
const SUMS = "SHA256SUMS";

/** And one of {@linkcode quickSum} for each that is not compressed. */
const QUICK_SUMS = "QUICKSUMS";

let provided: Readonly<Record<string, string>> = {};
let embedded: Readonly<Record<string, EmbeddedLibrary>> = {};

/** Names the files that a program brings: by platform, paths, those that start with "." from `base` on. */
export function provideLibraries(files: Readonly<Record<string, string>>, base: string): void {
  const resolved = Object.entries(files).map(([name, file]) => [name, file.startsWith(".") ? fileURLToPath(new URL(file, base)) : file]);
  provided = Object.fromEntries(resolved);
}

/** Gives the libraries to a program that has no file beside it, by platform. */
export function embedLibraries(libraries: Readonly<Record<string, EmbeddedLibrary>>): void {
  embedded = libraries;
}

/** Each place to load the library from; those that need work do it only when asked for their file. */
export function* candidates(adapter: Adapter): Generator<Candidate> {
  const override = environment("HOLDFAST_LIBRARY");
  if (override !== undefined) {
    yield { place: `HOLDFAST_LIBRARY=${override}`, path: override, file: () => checked(override) };
    return;
  }
  for (const path of [provided[platform()], beside()]) {
    if (path === undefined) continue;
    if (!path.endsWith(PACKED)) yield { place: path, path, file: () => checked(path) };
    const packed = path.endsWith(PACKED) ? path : path + PACKED;
    if (!permitted({ name: "read", path: packed }) || !fs.existsSync(packed)) continue;
    yield* unpacked(fileName(), () => unpackFile(packed), adapter);
  }
  const library = embedded[platform()];
  if (library !== undefined) yield* unpacked(fileName(), () => unpack(Buffer.from(library.data, "base64"), library.sha256), adapter);
}

/** The file beside this module; undefined where modules have none: it was loaded over the network. */
function beside(): string | undefined {
  if (!import.meta.url.startsWith("file:")) return undefined;
  const folder = import.meta.url.endsWith(".ts") ? "../../build/native" : "./native";
  return fileURLToPath(new URL(`${folder}/${platform()}/${fileName()}`, import.meta.url));
}

function unpackFile(path: string): Uint8Array {
  return unpack(fs.readFileSync(path), listedSum(path.slice(0, -PACKED.length), SUMS));
}

function unpack(data: Uint8Array, sum: string | undefined): Uint8Array {
  const bytes = builtin("node:zlib").brotliDecompressSync(data);
  if (sum !== undefined && builtin("node:crypto").createHash("sha256").update(bytes).digest("hex") !== sum) throw damaged("SHA-256");
  return bytes;
}

function damaged(sum: string): Error {
  return new Error(`the file is damaged: its ${sum} is not that of the library that was built`);
}

/**
 * A checksum of 32 bits, in hexadecimal digits: FNV-1a of words in place of bytes, each change of one word changes it. To load `node:crypto` for a better one
 * takes longer than to load the library; and it is damage that is to be found, not malice.
 */
export function quickSum(bytes: Uint8Array): string {
  const words = new Uint32Array(Math.ceil(bytes.byteLength / 4));
  new Uint8Array(words.buffer).set(bytes);
  let sum = 0x811c9dc5;
  for (let i = 0; i < words.length; i++) sum = Math.imul(sum ^ (words[i] as number), 0x01000193);
  return ((sum ^ bytes.byteLength) >>> 0).toString(16).padStart(8, "0");
}

/** The sum that a list of the package has for a library; undefined where there is no list or it may not be read. */
function listedSum(path: string, name: string): string | undefined {
  const folder = dirname(path);
  const list = join(dirname(folder), name);
  if (!permitted({ name: "read", path: list })) return undefined;
  let text: string;
  try {
    text = fs.readFileSync(list, "latin1");
  } catch {
    return undefined; // a clone has none
  }
  const file = path.slice(dirname(folder).length + 1).replaceAll("\\", "/");
  return text.split("\n").find((line) => line.endsWith(`  ${file}`))?.split(" ", 1)[0];
}

/** `path`, if what can be read of it is a whole library. What may not be read is for the system to judge. */
function checked(path: string): string {
  if (!permitted({ name: "read", path })) return path;
  let bytes: Uint8Array;
  try {
    bytes = fs.readFileSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") throw new Error("no such file");
    if (code === "ERR_ACCESS_DENIED") return path; // by Node's permissions, which are about fs alone
    throw error;
  }
  const sum = listedSum(path, QUICK_SUMS);
  if (sum !== undefined && quickSum(bytes) !== sum) throw damaged("checksum");
  if (isCutShort(bytes)) throw new Error(`the file is cut short: it has ${bytes.byteLength} bytes`);
  return path;
}

const ELF_MAGIC = 0x464c457f;
const ELF_HEADER_BYTES = 64;
const ELF_SEGMENT_BYTES = 56;

/** Whether an ELF file ends before its segments do. Other formats are for the system to judge. */
function isCutShort(bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.byteLength < 4 || view.getUint32(0, true) !== ELF_MAGIC) return bytes.byteLength === 0;
  if (bytes.byteLength < ELF_HEADER_BYTES) return true;
  const table = Number(view.getBigUint64(32, true));
  const count = view.getUint16(56, true);
  if (table + count * ELF_SEGMENT_BYTES > bytes.byteLength) return true;
  for (let at = table; at < table + count * ELF_SEGMENT_BYTES; at += ELF_SEGMENT_BYTES) {
    if (view.getBigUint64(at + 8, true) + view.getBigUint64(at + 32, true) > BigInt(bytes.byteLength)) return true;
  }
  return false;
}
