/** What a reader of the API reference finds: the exports of mod.ts with their docstrings, as `deno doc` sees them. */
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import { root } from "./runtimes.ts";

interface JsDoc {
  readonly doc?: string;
  readonly tags?: readonly { readonly kind: string; readonly doc?: string }[];
}

interface Member {
  readonly name: string;
  readonly jsDoc?: JsDoc;
}

interface Module {
  readonly module_doc: JsDoc;
  readonly symbols: readonly { readonly name: string; readonly declarations: readonly Declaration[] }[];
}

interface Declaration {
  readonly kind: string;
  readonly jsDoc?: JsDoc;
  readonly location: { readonly filename: string };
  readonly def?: { readonly properties?: readonly Member[]; readonly methods?: readonly Member[] };
}

/** An exported symbol. */
export interface ExportedSymbol {
  readonly name: string;
  /** "class", "function", "interface", "typeAlias", "module". */
  readonly kind: string;
  /** From the folder of the checkout. */
  readonly file: string;
  /** Programs of its docstring, and of its members. */
  readonly examples: readonly string[];
  /** Programs of its own docstring. */
  readonly ownExamples: readonly string[];
  /** Of a class: methods, accessors and properties, without those marked as internal and without symbols. */
  readonly members: readonly string[];
}

/** The deno that npm installed. */
export const deno: string = fs.realpathSync(`${root}node_modules/.bin/deno`);

function examplesOf(doc: JsDoc | undefined): string[] {
  return (doc?.tags ?? []).filter(({ kind }) => kind === "example").flatMap(({ doc = "" }) => [...doc.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code = ""]) => code));
}

/** mod.ts and all that it exports. */
export function exportedSymbols(): ExportedSymbol[] {
  const text = execFileSync(deno, ["doc", "--json", "mod.ts"], { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"], maxBuffer: 1 << 26 });
  const [module] = Object.values((JSON.parse(text) as { nodes: Record<string, Module> }).nodes) as [Module];
  const examples = examplesOf(module.module_doc);
  const symbols = module.symbols.map(({ name, declarations }): ExportedSymbol => {
    const { kind, location } = declarations[0] as Declaration;
    const members = declarations.flatMap(({ def }) => [...(def?.properties ?? []), ...(def?.methods ?? [])]);
    const open = members.filter(({ jsDoc }) => !(jsDoc?.tags ?? []).some((tag) => tag.kind === "internal"));
    const ownExamples = declarations.flatMap(({ jsDoc }) => examplesOf(jsDoc));
    return {
      name,
      kind,
      file: relative(root, fileURLToPath(location.filename)),
      ownExamples,
      examples: [...ownExamples, ...open.flatMap(({ jsDoc }) => examplesOf(jsDoc))],
      members: kind === "class" ? [...new Set(open.map((member) => member.name))].filter((member) => !member.startsWith("[")) : [],
    };
  });
  return [{ name: "mod.ts", kind: "module", file: "mod.ts", ownExamples: examples, examples, members: [] }, ...symbols];
}
