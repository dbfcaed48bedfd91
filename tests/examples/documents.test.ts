/** The programs in README.md and in docs/ run as they stand, and say what comes: a reader will copy them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { compared, documents, needsServer, programsOf, runPrograms } from "../support/documents.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const processes = children();

for (const document of documents) {
  const programs = programsOf(document).filter((program) => !needsServer(program));
  if (programs.length === 0) continue;
  test(`the programs in ${document} run`, () => runPrograms([{ where: document, programs }], files, processes));
}

test("what the programs say is compared with what comes", () => {
  const lines = compared("pop(); // 5\nawait take(); // undefined\nconsole.log(a, b); // 1 true\nadd(1); // the old value\nconst x = 1; // 1").split("\n");
  assert.match(lines[0] as string, /compareValue\(pop\(\), 5, /);
  assert.match(lines[1] as string, /^compareValue\(await take\(\), undefined, /);
  assert.equal(lines[2], 'compareLog([a, b], "1 true");');
  assert.deepEqual(lines.slice(3), ["add(1); // the old value", "const x = 1; // 1"]);
});

test("README.md has five programs or more", () => {
  assert.ok(programsOf("README.md").length >= 5);
});
