/** Readers of the library formats of other systems, as far as the tests need them: what a Mach-O or PE file exports and what it needs. */
import * as fs from "node:fs";

export interface ForeignLibrary {
  /** Names that others may use, without the underscore that macOS puts before those of C. */
  readonly exported: readonly string[];
  /** Names that it takes from others. */
  readonly imported: readonly string[];
  /** Libraries that it names. */
  readonly needed: readonly string[];
  readonly cpu: "x64" | "arm64" | "other";
}

const textAt = (bytes: Buffer, offset: number): string => bytes.toString("latin1", offset, bytes.indexOf(0, offset));

const LC_SYMTAB = 2;
const LC_LOAD_DYLIB = 0xc;
const N_EXT = 1;
/** What the linker puts into each library. */
const MADE_BY_LINKER = new Set(["__dso_handle", "_mh_dylib_header"]);
const N_TYPE = 0xe;
const N_UNDF = 0;

/** A 64-bit Mach-O library (macOS), by its symbol table. */
export function readMachO(path: string): ForeignLibrary {
  const bytes = fs.readFileSync(path);
  if (bytes.readUInt32LE(0) !== 0xfeedfacf) throw new Error(`${path} is no 64-bit Mach-O file`);
  const cpu = new Map<number, ForeignLibrary["cpu"]>([[0x0100_0007, "x64"], [0x0100_000c, "arm64"]]).get(bytes.readUInt32LE(4)) ?? "other";
  const exported: string[] = [];
  const imported: string[] = [];
  const needed: string[] = [];
  for (let i = 0, at = 32; i < bytes.readUInt32LE(16); i++, at += bytes.readUInt32LE(at + 4)) {
    const command = bytes.readUInt32LE(at);
    if (command === LC_LOAD_DYLIB) needed.push(textAt(bytes, at + bytes.readUInt32LE(at + 8)));
    if (command !== LC_SYMTAB) continue;
    const [symbols = 0, count = 0, strings = 0] = [8, 12, 16].map((offset) => bytes.readUInt32LE(at + offset));
    for (let entry = symbols; entry < symbols + 16 * count; entry += 16) {
      const type = bytes[entry + 4] as number;
      if ((type & N_EXT) === 0) continue;
      const name = textAt(bytes, strings + bytes.readUInt32LE(entry)).replace(/^_/, "");
      if (!MADE_BY_LINKER.has(name)) ((type & N_TYPE) === N_UNDF ? imported : exported).push(name);
    }
  }
  return { exported, imported, needed, cpu };
}

/** A 64-bit PE library (Windows), by its export and import directories. */
export function readPE(path: string): ForeignLibrary {
  const bytes = fs.readFileSync(path);
  const header = bytes.readUInt32LE(0x3c);
  if (bytes.readUInt32LE(header) !== 0x4550) throw new Error(`${path} is no PE file`);
  const cpu = new Map<number, ForeignLibrary["cpu"]>([[0x8664, "x64"], [0xaa64, "arm64"]]).get(bytes.readUInt16LE(header + 4)) ?? "other";
  const optional = header + 24;
  if (bytes.readUInt16LE(optional) !== 0x20b) throw new Error(`${path} is no 64-bit PE file`);
  const sections = Array.from({ length: bytes.readUInt16LE(header + 6) }, (_, i) => optional + bytes.readUInt16LE(header + 20) + 40 * i);
  const offsetOf = (address: number): number => {
    const section = sections.find((at) => address >= bytes.readUInt32LE(at + 12) && address < bytes.readUInt32LE(at + 12) + bytes.readUInt32LE(at + 8));
    if (section === undefined) throw new Error(`address ${address} lies in no section`);
    return address - bytes.readUInt32LE(section + 12) + bytes.readUInt32LE(section + 20);
  };
  const directory = (index: number): number => bytes.readUInt32LE(optional + 112 + 8 * index);
  const exports = offsetOf(directory(0));
  const names = offsetOf(bytes.readUInt32LE(exports + 32));
  const exported = Array.from({ length: bytes.readUInt32LE(exports + 24) }, (_, i) => textAt(bytes, offsetOf(bytes.readUInt32LE(names + 4 * i))));
  const needed: string[] = [];
  if (directory(1) !== 0) {
    for (let at = offsetOf(directory(1)); bytes.readUInt32LE(at + 12) !== 0; at += 20) needed.push(textAt(bytes, offsetOf(bytes.readUInt32LE(at + 12))));
  }
  return { exported, imported: needed.length === 0 ? [] : ["?"], needed, cpu };
}
