/** What csrc/holdfast.h declares, read from its text. */
import * as fs from "node:fs";
import { root } from "./runtimes.ts";

export interface Prototype {
  readonly name: string;
  /** As in lib/native/symbols.ts: `*name` for a pointer. */
  readonly parameters: readonly string[];
  readonly result: string;
  /** The types as written, for messages. */
  readonly types: readonly string[];
  /** The comment before it, or before the block of prototypes that it stands in. */
  readonly comment: string;
}

export interface Header {
  readonly prototypes: readonly Prototype[];
  /** `#define NAME value`, as a number where it is one. */
  readonly constants: ReadonlyMap<string, number>;
}

function constantsOf(text: string): Map<string, number> {
  const constants = new Map<string, number>();
  for (const [, name, value] of text.matchAll(/^#define (HF_[A-Z0-9_]+) +([^\n]+?) *(?:\/\*[^\n]*)?$/gm)) {
    // Sums and products of numbers and of names that came before; `1u` is 1.
    const expression = (value as string)
      .replace(/HF_[A-Z0-9_]+/g, (known) => String(constants.get(known) ?? "NaN"))
      .replace(/(\d)u\b/g, "$1");
    if (!/^[-0-9.e+*() ]+$/.test(expression)) continue;
    const product = expression.replaceAll(/[()]/g, "").split("*").map(Number);
    constants.set(name as string, product.reduce((a, b) => a * b));
  }
  return constants;
}

export function readHeader(): Header {
  const text = fs.readFileSync(`${root}csrc/holdfast.h`, "utf8");
  const prototypes: Prototype[] = [];
  let comment = "";
  // Comments and prototypes in order; a blank line ends what a comment speaks of.
  for (const [token] of text.matchAll(/\/\*[\s\S]*?\*\/|^HF_EXPORT [^;]*;|\n[ \t]*\n/gm)) {
    if (token.startsWith("/*")) comment = token;
    else if (token.trim() === "") comment = "";
    else {
      const match = /^HF_EXPORT (\w+) (\w+)\(([^)]*)\);$/.exec(token.replaceAll(/\s+/g, " "));
      if (match === null) throw new Error(`not understood: ${token}`);
      const [, result, name, list] = match as unknown as [string, string, string, string];
      const types = list === "void" ? [] : list.split(",").map((parameter) => parameter.trim());
      const parameters = types.map((type) => {
        const parts = /^(double |(?:const )?void \*)(\w+)$/.exec(type);
        if (parts === null) throw new Error(`${name}: parameter "${type}" is neither a double nor a void pointer`);
        return `${parts[1] === "double " ? "" : "*"}${parts[2]}`;
      });
      prototypes.push({ name, parameters, result, types, comment });
    }
  }
  return { prototypes, constants: constantsOf(text) };
}
