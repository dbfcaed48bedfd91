/** What the documents point to is there: files, headings, scripts. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";
import GithubSlugger from "github-slugger";
import type { Tokens } from "marked";
import { documents, tokensOf } from "../support/documents.ts";
import { root } from "../support/runtimes.ts";

const all = [...documents, "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md", "examples/README.md", "examples/data/README.md"];

/** The anchors of a document, as GitHub makes them. */
function anchorsOf(document: string): Set<string> {
  const slugger = new GithubSlugger();
  const headings = tokensOf(document).filter((token): token is Tokens.Heading => token.type === "heading");
  return new Set(headings.map(({ text }) => slugger.slug(text.replaceAll(/[`*]|\]\([^)]*\)|\[/g, ""))));
}

/** What is wrong with a link of `document`; undefined if nothing is. */
function wrong(document: string, href: string): string | undefined {
  if (/^(https?|mailto):/.test(href)) return undefined;
  const [path = "", anchor] = decodeURI(href).split("#");
  const target = path === "" ? document : relative(root, join(root, dirname(document), path));
  if (target.startsWith("..")) return "it leads out of the checkout";
  if (!fs.existsSync(join(root, target))) return "there is no such file";
  if (anchor === undefined) return undefined;
  if (!target.endsWith(".md")) return "only documents have anchors";
  return anchorsOf(target).has(anchor) ? undefined : `there is no heading #${anchor} in ${target}`;
}

test("every link in the documents leads somewhere", () => {
  const broken: string[] = [];
  let count = 0;
  for (const document of all) {
    for (const token of tokensOf(document)) {
      if (token.type !== "link" && token.type !== "image") continue;
      count++;
      const problem = wrong(document, (token as Tokens.Link).href);
      if (problem !== undefined) broken.push(`${document}: ${(token as Tokens.Link).href}: ${problem}`);
    }
  }
  assert.ok(count > 50, `${count} links`);
  assert.deepEqual(broken, []);
});

test("every document in docs/ can be reached from docs/README.md", () => {
  const linked = new Set(tokensOf("docs/README.md").filter((token) => token.type === "link").map((token) => join("docs", ((token as Tokens.Link).href).split("#")[0] as string)));
  assert.deepEqual(documents.filter((document) => document.startsWith("docs/") && document !== "docs/README.md" && !linked.has(document)), []);
});

test("docs/errors.md has every code of holdfast", () => {
  const text = fs.readFileSync(join(root, "docs/errors.md"), "utf8");
  const sources = (fs.readdirSync(join(root, "lib"), { recursive: true }) as string[]).filter((name) => name.endsWith(".ts"));
  const codes = new Set(sources.flatMap((name) => fs.readFileSync(join(root, "lib", name), "utf8").match(/\bERR_[A-Z_]+\b/g) ?? []));
  assert.ok(codes.size > 20, `${codes.size} codes`);
  assert.deepEqual([...codes].filter((code) => !text.includes(`\`${code}\``)), []);
});

test("the commands in the documents name scripts and files that exist", () => {
  const { scripts } = JSON.parse(fs.readFileSync(join(root, "package.json"), "utf8")) as { scripts: Record<string, string> };
  const missing: string[] = [];
  for (const document of all) {
    const code = tokensOf(document).filter((token): token is Tokens.Code | Tokens.Codespan => token.type === "codespan" || (token.type === "code" && token.lang === "sh"));
    for (const { text } of code) {
      for (const [, script = ""] of text.matchAll(/\bnpm run ([\w:-]+)/g)) if (!Object.hasOwn(scripts, script)) missing.push(`${document}: npm run ${script}`);
      for (const [, script = ""] of text.matchAll(/\bnpm (test|start)\b/g)) if (!Object.hasOwn(scripts, script)) missing.push(`${document}: npm ${script}`);
      for (const [, file = ""] of text.matchAll(/\b(?:node|bun|deno run -A) ((?:examples|tests|scripts|bench)\/[\w/.-]+\.ts)/g)) {
        if (!fs.existsSync(join(root, file))) missing.push(`${document}: ${file}`);
      }
    }
  }
  assert.deepEqual(missing, []);
});
