/** The command line itself: help, options, exit codes, errors. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { helpOf, optionsOf, overview, parseCall } from "../../cli/command.ts";
import { allCommands, find } from "../../cli/commands.ts";
import { closest, UsageError } from "../../cli/errors.ts";
import { cli } from "../support/cli.ts";
import { root } from "../support/runtimes.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const { run } = cli();
const commands = await allCommands();

test("the help of each command tells of each option, and of the exit codes", () => {
  const all = overview(commands, undefined);
  for (const command of commands) {
    assert.ok(all.includes(`  ${command.name} `) && all.includes(command.summary), command.name);
    const help = helpOf(command);
    for (const name of Object.keys(optionsOf(command))) assert.match(help, new RegExp(`--${name}\\b`), command.name);
    assert.ok(command.examples.length > 0, `${command.name} has an example`);
    for (const [line] of command.examples) assert.ok(line.includes(`holdfast ${command.name}`), line);
  }
  assert.match(all, /Exit codes: 0 .*1 .*2 .*3 .*141 /s);
});

test("docs/cli.md tells of each command and each option", () => {
  const text = fs.readFileSync(`${root}docs/cli.md`, "utf8");
  for (const command of commands) {
    assert.ok(text.includes(`holdfast ${command.name}`), command.name);
    for (const name of Object.keys(optionsOf(command))) assert.ok(text.includes(`--${name}`), `--${name} of ${command.name}`);
  }
});

test("the examples of the help are command lines that are understood", () => {
  for (const { examples } of commands) {
    for (const [line] of examples) {
      // Words as a shell cuts them, up to what ends a command; several commands of one line.
      for (const [, text = ""] of line.matchAll(/holdfast ((?:'[^']*'|[^'|&>])*)/g)) {
        const words = (text.match(/'[^']*'|\S+/g) ?? []).map((word) => word.replace(/^'(.*)'$/, "$1"));
        const command = commands.find(({ name }) => name === words.slice(0, name.split(" ").length).join(" "));
        assert.ok(command !== undefined, line);
        parseCall(command, words.slice(command.name.split(" ").length));
      }
    }
  }
});

test("what is printed on demand goes to the standard output, with code 0", async () => {
  const texts: [string[], RegExp][] = [
    [["--help"], /^Usage: holdfast COMMAND/],
    [["help"], /^Usage: holdfast COMMAND/],
    [["queue", "--help"], /^Usage: holdfast queue COMMAND/],
    [["help", "queue"], /^Usage: holdfast queue COMMAND/],
    [["--version"], /^\d+\.\d+\.\d+\n$/],
  ];
  for (const [args, expected] of texts) assert.match((await find(args)) as string, expected, args.join(" "));
  for (const args of [["queue", "push", "--help"], ["help", "queue", "push"]]) {
    const { status, stdout, stderr } = await run(args);
    assert.deepEqual([status, stderr], [0, ""]);
    assert.match(stdout, /^Usage: holdfast queue push \[options\] QUEUE .*--capacity-bytes N/s);
  }
});

test("a command line that makes no sense names what is wrong, and the closest word", async () => {
  const cases: [string, RegExp][] = [
    ["", /^which command\?/],
    ["quue push", /^there is no command 'quue'; did you mean 'queue'\?/],
    ["queue", /^which command of 'queue'\? There are push, pop/],
    ["queue psuh q", /^there is no command 'queue psuh'; did you mean 'queue push'\?/],
    ["queue push q --capcity-bytes 1M", /^there is no option --capcity-bytes; did you mean --capacity-bytes\?/],
    ["queue push q --zzz", /^there is no option --zzz$/],
    ["queue push q -x", /^there is no option -x$/],
    ["queue push q --capacity-bytes", /^--capacity-bytes needs a value: --capacity-bytes N/],
    ["queue push q --capacity-bytes --json", /^--capacity-bytes needs a value.*received '--json'/],
    ["queue push q --capacity-bytes 12x", /^--capacity-bytes must be a number of bytes.*received '12x'/],
    ["queue push q --fixed-size=no", /^--fixed-size takes no value; received 'no'/],
    ["queue push q --as xml", /^--as must be text, json, string, base64 or record; received 'xml'/],
    ["queue push q --permissions 888", /^--permissions must be access bits in octal/],
    ["queue push", /^too few arguments: usage: holdfast queue push \[options\] QUEUE/],
    ["queue pop q more", /^too many arguments/],
    ["queue pop q --count 0", /^--count must be a whole number of 1 or more; received '0'/],
    ["queue pop q --count -1", /^--count must be a whole number of 1 or more; received '-1'/],
    ["queue work q", /^the command to run is missing/],
    ["queue work q --concurrency 5000 -- x", /^--concurrency must be a whole number from 1 to 4096; received '5000'/],
    ["metrics serve m --port 70000", /^--port must be a whole number from 0 to 65535/],
  ];
  for (const [text, expected] of cases) {
    const parse = async (): Promise<unknown> => {
      const chosen = await find(text.split(" ").filter((word) => word !== ""));
      return typeof chosen === "string" ? chosen : parseCall(chosen.found, chosen.rest);
    };
    await assert.rejects(parse, (error: Error) => error instanceof UsageError && expected.test(error.message), text);
  }
});

test("flags may stand before the command's words; what stands behind -- is not looked at", async () => {
  const chosen = await find(["--json", "queue", "work", "jobs", "--concurrency=2", "--", "cmd", "--json", "--", "-x"]);
  assert.ok(typeof chosen !== "string");
  const { options, args, rest } = parseCall(chosen.found, chosen.rest);
  assert.deepEqual([options.json, options.concurrency, args, rest], [true, 2, ["jobs"], ["cmd", "--json", "--", "-x"]]);
  const push = await find(["queue", "push", "jobs", "--capacity-bytes", "64K", "--", "-x", "--json"]);
  assert.ok(typeof push !== "string");
  const call = parseCall(push.found, push.rest);
  assert.deepEqual([call.options.json, call.options["capacity-bytes"], call.args], [false, 65_536, ["jobs", "-x", "--json"]]);
});

test("it is code 2, with a hint, and does nothing", async () => {
  const queue = files.next("queue");
  const cases: [string[], RegExp][] = [
    [["queue", "push", queue, "--capcity-bytes", "1M"], /^holdfast: there is no option --capcity-bytes; did you mean --capacity-bytes\?\nTry: holdfast queue push --help\n$/],
    [["queue", "push", queue, "x", "--retain-ms", "5"], /^holdfast: --retain-bytes and --retain-ms are for a log/],
    [["queue", "pop", queue, "--all", "--count", "2"], /^holdfast: --all and --count contradict each other/],
    [["queue", "pop", queue, "--timeout-ms", "5"], /^holdfast: --timeout-ms needs --wait/],
    [["queue", "work", queue, "--max-attempts", "5", "--", "true"], /^holdfast: --max-attempts and --dead-letter go together/],
    [["counters", "set", queue, "a", "many", "--create"], /^holdfast: VALUE must be an integer of 64 bits; received 'many'/],
  ];
  await Promise.all(cases.map(async ([args, expected]) => {
    const { status, stdout, stderr } = await run(args);
    assert.match(stderr, expected, args.join(" "));
    assert.deepEqual([status, stdout], [2, ""], args.join(" "));
  }));
  assert.ok(!fs.existsSync(queue));
});

test("an error is one line on the standard error stream, or JSON", async () => {
  const missing = files.next("missing");
  const text = await run(["queue", "stats", missing]);
  assert.deepEqual([text.status, text.stdout, text.stderr], [1, "", `holdfast: ENOENT: no such queue: '${missing}'\n`]);
  const asJson = await run(["queue", "stats", missing, "--json"]);
  assert.equal(asJson.status, 1);
  assert.deepEqual(JSON.parse(asJson.stderr), { error: { code: "ENOENT", message: `ENOENT: no such queue: '${missing}'` } });
  const usage = await run(["--json", "queue", "stats"]);
  assert.equal(usage.status, 2);
  assert.equal((JSON.parse(usage.stderr) as { error: { code: string } }).error.code, "ERR_USAGE");
});

test("no library: one clear message, code 1", async () => {
  const { status, stderr } = await run(["counters", "list", files.next()], "", { env: { HOLDFAST_LIBRARY: "/nowhere/lib.so" } });
  assert.equal(status, 1);
  assert.match(stderr, /^holdfast: ERR_LIBRARY: .*\/nowhere\/lib\.so: no such file/s);
  assert.doesNotMatch(stderr, /^ +at /m, "no stack");
});

test("the closest word", () => {
  const words = ["count", "compressed", "as", "interval-ms", "lease-ms"];
  assert.equal(closest("cuont", words), "count");
  assert.equal(closest("leasems", words), "lease-ms");
  assert.equal(closest("comp", words), "compressed");
  assert.equal(closest("zzzzzz", words), undefined);
});
