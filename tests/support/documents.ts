/** The programs in the documents and in the docstrings, ready to be run and to be type-checked. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { marked, type Token, type Tokens } from "marked";
import { currentRuntime, root } from "./runtimes.ts";
import type { Children } from "./spawn.ts";
import type { TemporaryFiles } from "./temporary.ts";

/** README.md and all that lies in docs/, from the folder of the checkout. */
export const documents: readonly string[] = [
  "README.md",
  ...(fs.readdirSync(join(root, "docs"), { recursive: true }) as string[]).filter((name) => name.endsWith(".md")).map((name) => join("docs", name)).sort(),
];

/** A document's tokens, at all depths, in their order. */
export function tokensOf(document: string): Token[] {
  const tokens: Token[] = [];
  marked.walkTokens(marked.lexer(fs.readFileSync(join(root, document), "utf8")), (token) => void tokens.push(token));
  return tokens;
}

/** The programs of a document: all of its blocks of TypeScript. */
export function programsOf(document: string): string[] {
  return tokensOf(document).filter((token): token is Tokens.Code => token.type === "code" && token.lang === "ts").map(({ text }) => text);
}

/** Whether a program needs a server beyond holdfast, so that it can only be type-checked; the tests of the bridges do what it does. */
export function needsServer(program: string): boolean {
  return program.includes('from "holdfast/bridge/');
}

/** Places that programs name, which are a folder of the test instead. */
const PLACES = /"\/(tmp|run\/shop)\//g;

/** The program with the checkout's library, and its files in `folder`. */
function adapted(program: string, folder: string): string {
  // The files first: the checkout may lie in /tmp itself.
  const own = program.replaceAll(PLACES, `"${folder}/`).replaceAll('"examples/', `"${root}examples/`);
  return own.replaceAll('"holdfast"', JSON.stringify(join(root, "mod.ts")));
}

const AsyncFunction = (async () => {}).constructor as FunctionConstructor;

function parses(expression: string): boolean {
  try {
    new AsyncFunction(`return (${expression}\n)`);
    return true;
  } catch {
    return false;
  }
}

/** Whether a comment is nothing but a value: `5`, `"ok"`, `[1, 2]`, `{ id: 1 }`, `undefined`. Words are text. */
function isValue(comment: string): boolean {
  if (!/^(-?\d|["'[{]|true$|false$|undefined$|null$)/.test(comment) || !parses(comment)) return false;
  try {
    new Function(`return (${comment})`)();
    return true;
  } catch {
    return false;
  }
}

/**
 * The program, which now compares what it says with what is: `expression; // value` with the value, and `console.log(…); // text` with the text,
 * where what is logged are no objects. Comments that are no values are left alone.
 */
export function compared(program: string): string {
  const lines = program.split("\n").map((line) => {
    const [, indent = "", statement = "", comment = ""] = /^(\s*)(\S.*); \/\/ (.+)$/.exec(line) ?? [];
    if (/^(import|const|let|using|await using|return|throw|if|for|while|type) /.test(statement)) return line;
    const logged = /^console\.log\((.*)\)$/.exec(statement)?.[1];
    if (logged !== undefined && parses(`[${logged}]`)) return `${indent}compareLog([${logged}], ${JSON.stringify(comment)});`;
    if (statement === "" || !isValue(comment) || !parses(statement)) return line;
    return `${indent}compareValue(${statement}, ${comment}, ${JSON.stringify(line.trim())});`;
  });
  const helper = join(root, "tests/support/compare.ts");
  return `import { compareLog, compareValue } from ${JSON.stringify(helper)};${lines.join("\n")}`; // one line: the numbers stay
}

/** Programs, and where they stand. */
export interface Programs {
  readonly where: string;
  readonly programs: readonly string[];
}

/** A name for a file with the program: it is what an error shows. */
export function nameOf(where: string, index: number): string {
  return `${where.replaceAll(/\W+/g, "_")}-${index + 1}.ts`;
}

/** Runs programs, one after the other, in one process of the runtime that runs the test. */
export async function runPrograms(places: readonly Programs[], files: TemporaryFiles, processes: Children): Promise<void> {
  const scripts = places.flatMap(({ where, programs }) =>
    programs.map((program, i) => {
      assert.ok(program.includes('from "holdfast"'), `program ${i + 1} of ${where} does not import holdfast:\n${program}`);
      const folder = files.next("folder");
      fs.mkdirSync(folder);
      return files.file(compared(adapted(program, folder)), nameOf(where, i));
    })
  );
  const script = files.file(scripts.map((file) => `await import(${JSON.stringify(file)});\n`).join(""), "all.ts");
  const { code, signal, stderr } = await processes.script(currentRuntime, script);
  assert.equal(signal ?? code, 0, stderr);
}
