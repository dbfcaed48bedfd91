/** The API reference (`npm run docs`): every public symbol has a docstring with an example, and the examples are right. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { documents, nameOf, type Programs, programsOf, runPrograms } from "../support/documents.ts";
import { deno, exportedSymbols } from "../support/reference.ts";
import { currentRuntime, root } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const processes = children();
const symbols = exportedSymbols();

test("every public symbol and member has a docstring, and no export speaks of a type that is not exported", async () => {
  const { code, stderr } = await processes.run(deno, ["doc", "--lint", "mod.ts"], { cwd: root, env: { ...process.env, NO_COLOR: "1" } });
  assert.equal(code, 0, stderr);
});

test("the reference can be made", async () => {
  const folder = files.next("reference");
  const { code, stderr } = await processes.run(deno, ["doc", "--html", "--name=holdfast", `--output=${folder}`, "mod.ts"], { cwd: root });
  assert.equal(code, 0, stderr);
  assert.match(fs.readFileSync(join(folder, "~/Queue.html"), "utf8"), /first-in-first-out/);
});

test("every public symbol has an example", () => {
  assert.ok(symbols.length > 50, `${symbols.length} symbols`);
  const without = symbols.filter(({ ownExamples }) => ownExamples.length === 0).map(({ name, file }) => `${file}: ${name}`);
  assert.deepEqual(without, []);
});

test("every public member of a class is used in an example of the class or of its own", () => {
  const without = symbols.flatMap(({ name, file, members, examples }) => {
    const text = examples.join("\n");
    return members.filter((member) => !new RegExp(`\\.${member}\\b`).test(text)).map((member) => `${file}: ${name}.${member}`);
  });
  assert.deepEqual(without, []);
});

const examples: Programs[] = symbols.map(({ name, file, examples }) => ({ where: `${file} ${name}`, programs: examples }));

// One process for all: starting one costs more than running what is in it.
test("the examples run", () => runPrograms(examples, files, processes));

const types = "the programs of the documents and docstrings pass the type check";
test(types, skipFor(types, currentRuntime === "node" ? undefined : "tsc says the same under each runtime; under Node only"), async () => {
  const folder = files.next("types");
  fs.mkdirSync(folder);
  for (const { where, programs } of [...documents.map((document) => ({ where: document, programs: programsOf(document) })), ...examples]) {
    programs.forEach((program, i) => fs.writeFileSync(join(folder, nameOf(where, i)), program));
  }
  const options = {
    paths: { holdfast: [join(root, "mod.ts")], "holdfast/bridge/*": [join(root, "lib/bridge/*.ts")] },
    typeRoots: [join(root, "node_modules/@types"), join(root, "node_modules")],
    declaration: false,
    isolatedDeclarations: false,
    noUnusedLocals: false, // an example may show what it does not use
  };
  fs.writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
  fs.writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ extends: join(root, "tsconfig.json"), compilerOptions: options, include: [folder] }));
  const { code, stdout } = await processes.run(join(root, "node_modules/.bin/tsc"), ["--project", folder]);
  assert.equal(code, 0, stdout);
});
