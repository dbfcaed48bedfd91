/** The programs in README.md and in docs/ run as they stand, and say what comes: a reader will copy them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { documents, programsOf, runPrograms } from "../support/documents.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const processes = children();

for (const document of documents) {
  const programs = programsOf(document);
  if (programs.length === 0) continue;
  test(`the programs in ${document} run`, () => runPrograms([{ where: document, programs }], files, processes));
}

test("README.md has five programs or more", () => {
  assert.ok(programsOf("README.md").length >= 5);
});
