/** The examples of docs/cli.md: typed as they stand, they print what stands below them. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { Metrics } from "../../mod.ts";
import { cli } from "../support/cli.ts";
import { root } from "../support/runtimes.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const { shell, startShell } = cli();

interface Example {
  readonly section: string;
  readonly command: string;
  readonly expected: string;
}

/** The commands of the document's blocks, each with what it prints. */
function examplesOf(document: string): Example[] {
  const text = fs.readFileSync(`${root}${document}`, "utf8");
  const examples: Example[] = [];
  for (const block of text.matchAll(/^```console\n(.*?)^```$/gms)) {
    const section = text.slice(0, block.index).match(/^#+ .*$/gm)?.at(-1) ?? "";
    for (const [, command = "", expected = ""] of (block[1] as string).matchAll(/^\$ (.*)\n((?:(?!\$ ).*\n)*)/gm)) examples.push({ section, command, expected });
  }
  return examples;
}

/** What is expected, with "…" for anything, and a line of just that for any lines. */
function pattern(expected: string): RegExp {
  return new RegExp(`^${expected.replace(/^…\n/gm, "…").split("…").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("[^]*?")}$`);
}

test("the examples of docs/cli.md print what stands below them", async () => {
  const examples = examplesOf("docs/cli.md");
  assert.ok(examples.length > 40, `${examples.length} examples`);
  const folder = files.next("folder");
  fs.mkdirSync(folder);
  {
    using metrics = Metrics.open(`${folder}/app.metrics`);
    metrics.counter("jobs_total", { help: "Jobs done." }).inc(3);
  }
  for (const { section, command, expected } of examples) {
    const wanted = pattern(expected);
    if (command.endsWith(" &")) {
      // It runs until it is ended.
      const run = startShell(`exec ${command.slice(0, -2)}`, { cwd: folder });
      await run.until(({ stdout }) => wanted.test(stdout));
      run.signal("SIGINT");
      assert.equal((await run.ended).status, "SIGINT", command);
    } else {
      const { stdout } = await shell(`exec 2>&1\n${command}`, { cwd: folder });
      assert.match(stdout, wanted, `${section}: ${command}`);
    }
  }
});
