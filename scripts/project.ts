/** Paths of this checkout that more than one script needs. */
import { readFileSync } from "node:fs";
import path from "node:path";

export const root: string = path.dirname(import.meta.dirname);

/** Downloaded tools and caches: inside the checkout, never under HOME, ignored by git. */
export const toolsDir: string = path.join(root, ".tools");

/** The Zig version this project is built with; build.zig refuses any other. */
export const zigVersion: string = readFileSync(path.join(root, ".zig-version"), "utf8").trim();

/** Names of the library folders under build/native, as build.zig's table spells them. */
export const hostName: string = `${process.platform}-${process.arch}`;
