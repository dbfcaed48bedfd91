/** A program that may read and write one folder and nothing else still knows which boot of the machine it is. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { test } from "node:test";
import { BOOT, BOOT_ID_BYTES } from "../../lib/layout/queue.ts";
import { Queue, type QueueReport } from "../../mod.ts";
import { library, root } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { children } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";

const files = temporaryFiles();
const processes = children();

const PROGRAM = `import * as fs from "node:fs";
import { Queue } from ${JSON.stringify(`${root}mod.ts`)};
const [folder] = process.argv.slice(2);
const answer = { mayRead: true };
try {
  fs.readFileSync("/proc/sys/kernel/random/boot_id");
} catch {
  answer.mayRead = false;
}
Queue.open(folder + "/made", { codec: "text" }).close();
for (const name of ["same", "rebooted", "damaged"]) {
  const queue = Queue.open(folder + "/" + name, { codec: "text" });
  answer[name] = { length: queue.length, recovered: queue.recovered };
  queue.close();
}
console.log(JSON.stringify(answer));
`;

interface Answer {
  readonly mayRead: boolean;
  readonly same: { length: number; recovered?: unknown };
  readonly rebooted: { length: number; recovered?: unknown };
  readonly damaged: { length: number; recovered?: Partial<QueueReport> };
}

/** The id in the control file, as the system writes it. */
function bootOf(queue: string): string {
  const hex = fs.readFileSync(`${queue}/control`).subarray(BOOT, BOOT + BOOT_ID_BYTES).toString("hex");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

function patch(path: string, offset: number, bytes: Uint8Array): void {
  const fd = fs.openSync(path, "r+");
  fs.writeSync(fd, bytes, 0, bytes.byteLength, offset);
  fs.closeSync(fd);
}

const executable = (runtime: "deno" | "node"): string => fs.realpathSync(`${root}node_modules/.bin/${runtime}`);

const commands = {
  "deno run --allow-read=X --allow-write=X --allow-ffi": (folder: string): [string, string[]] =>
    [executable("deno"), ["run", "--no-check", "--no-prompt", `--allow-read=${folder},${root}`, `--allow-write=${folder}`, `--allow-ffi=${library}`]],
  "node --permission --allow-fs-read=X --allow-fs-write=X --allow-ffi": (folder: string): [string, string[]] =>
    [executable("node"), ["--disable-warning=ExperimentalWarning", "--disable-warning=SecurityWarning", "--permission", `--allow-fs-read=${root}`, `--allow-fs-read=${folder}`, `--allow-fs-write=${folder}`, "--allow-ffi"]],
};

for (const [flags, command] of Object.entries(commands)) {
  const name = `a reboot is told by: ${flags}`;
  test(name, skipFor(name, process.platform === "linux" ? undefined : "only Linux says which boot it is"), async () => {
    const folder = files.next("folder");
    fs.mkdirSync(folder);
    const script = `${folder}/program.ts`;
    fs.writeFileSync(script, PROGRAM);
    const boot = fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    for (const queue of ["same", "rebooted", "damaged"]) {
      using made = Queue.open<string>(`${folder}/${queue}`, { codec: "text", capacityBytes: 8192 });
      made.pushMany(Array.from({ length: 100 }, (_, i) => `${i}`.padEnd(100)));
      assert.equal(bootOf(`${folder}/${queue}`), boot, "as an earlier version, which read the file itself, stored it");
    }
    for (const queue of ["rebooted", "damaged"]) patch(`${folder}/${queue}/control`, BOOT, new Uint8Array(BOOT_ID_BYTES).fill(0xee));
    // Lost pages are looked for only after a reboot: in the queue of this boot they are met when they are read.
    for (const queue of ["same", "damaged"]) patch(`${folder}/${queue}/segment-3`, 0, new Uint8Array(4096));
    const [program, args] = command(folder);
    const { stdout, stderr } = await processes.run(program, [...args, script, folder]);
    assert.match(stdout, /^\{/, stderr);
    const { mayRead, same, rebooted, damaged } = JSON.parse(stdout) as Answer;
    assert.equal(mayRead, false, "the runtime lets nobody read the id");
    assert.deepEqual(same, { length: 100 });
    assert.deepEqual(rebooted, { length: 100 });
    assert.equal(damaged.recovered?.ok, false);
    assert.equal(damaged.length, 100 - (damaged.recovered?.lost as number));
    assert.ok(damaged.length < 100);
    for (const queue of ["same", "rebooted", "damaged", "made"]) assert.equal(bootOf(`${folder}/${queue}`), boot, queue);
  });
}
