/** A reader of 64-bit little-endian ELF files, as far as the tests need it: the dynamic section and its symbols. */
import * as fs from "node:fs";

export interface Symbol {
  readonly name: string;
  readonly defined: boolean;
  readonly binding: "local" | "global" | "weak" | "other";
  readonly visibility: "default" | "internal" | "hidden" | "protected";
}

export interface Elf {
  /** Tag and value of each entry of the dynamic section, in order, without the closing DT_NULL. */
  readonly dynamic: readonly (readonly [tag: number, value: number])[];
  /** Libraries that it needs (DT_NEEDED). */
  readonly needed: readonly string[];
  /** The dynamic symbols, without the unnamed first. */
  readonly symbols: readonly Symbol[];
}

export const DT = {
  NEEDED: 1,
  HASH: 4,
  STRTAB: 5,
  SYMTAB: 6,
  SYMENT: 11,
  RPATH: 15,
  TEXTREL: 22,
  RUNPATH: 29,
  VERSYM: 0x6ffffff0,
  VERDEF: 0x6ffffffc,
  VERNEED: 0x6ffffffe,
} as const;

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const SHT_DYNSYM = 11;
const BINDINGS = ["local", "global", "weak"] as const;
const VISIBILITIES = ["default", "internal", "hidden", "protected"] as const;

export function readElf(path: string): Elf {
  const bytes = fs.readFileSync(path);
  const u16 = (offset: number): number => bytes.readUInt16LE(offset);
  const u32 = (offset: number): number => bytes.readUInt32LE(offset);
  const u64 = (offset: number): number => Number(bytes.readBigUInt64LE(offset));
  const text = (offset: number): string => bytes.toString("latin1", offset, bytes.indexOf(0, offset));
  if (u32(0) !== 0x464c457f) throw new Error(`${path} is no ELF file`);
  if (bytes[4] !== 2 || bytes[5] !== 1) throw new Error(`${path} is no 64-bit little-endian ELF file`);

  const segments = Array.from({ length: u16(56) }, (_, i) => u64(32) + i * u16(54))
    .map((at) => ({ type: u32(at), offset: u64(at + 8), address: u64(at + 16), size: u64(at + 32) }));
  const sections = Array.from({ length: u16(60) }, (_, i) => u64(40) + i * u16(58))
    .map((at) => ({ type: u32(at + 4), offset: u64(at + 24), size: u64(at + 32) }));
  const offsetOf = (address: number): number => {
    const segment = segments.find(({ type, address: start, size }) => type === PT_LOAD && address >= start && address < start + size);
    if (segment === undefined) throw new Error(`address ${address} lies in no segment`);
    return address - segment.address + segment.offset;
  };

  const table = segments.find(({ type }) => type === PT_DYNAMIC);
  if (table === undefined) throw new Error(`${path} has no dynamic section`);
  const dynamic: [number, number][] = [];
  for (let at = table.offset; u64(at) !== 0; at += 16) dynamic.push([u64(at), u64(at + 8)]);
  const value = (tag: number): number | undefined => dynamic.find(([found]) => found === tag)?.[1];
  const strings = offsetOf(value(DT.STRTAB) as number);
  const symbolTable = offsetOf(value(DT.SYMTAB) as number);

  // The dynamic section does not say how many symbols there are; the old hash table does, and the section header.
  const hash = value(DT.HASH);
  const section = sections.find(({ type, offset }) => type === SHT_DYNSYM && offset === symbolTable);
  const count = section !== undefined ? section.size / 24 : hash !== undefined ? u32(offsetOf(hash) + 4) : undefined;
  if (count === undefined) throw new Error(`${path} does not say how many symbols it has`);

  const symbols = Array.from({ length: count }, (_, i) => symbolTable + i * 24).slice(1).map((at): Symbol => ({
    name: text(strings + u32(at)),
    binding: BINDINGS[(bytes[at + 4] as number) >> 4] ?? "other",
    visibility: VISIBILITIES[(bytes[at + 5] as number) & 3] as Symbol["visibility"],
    defined: u16(at + 6) !== 0,
  }));
  const needed = dynamic.filter(([tag]) => tag === DT.NEEDED).map(([, at]) => text(strings + at));
  return { dynamic, needed, symbols };
}
