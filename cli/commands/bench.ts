/** `holdfast bench`: what this machine and runtime do. */
import * as fs from "node:fs";
import { join } from "node:path";
import { Counters, Mapping, Queue } from "../../mod.ts";
import { asText, type Command, command, option, whole } from "../command.ts";
import { json, line, number, Progress, table } from "../output.ts";
import { endInOrder, pause } from "../signals.ts";
import { fileSystemOf, machine, runtime, temporaryFolder } from "../system.ts";

/** Something that is measured: `run` does it `times` times. */
interface Subject {
  readonly name: string;
  readonly times: number;
  readonly run: () => void;
}

const PAYLOAD_BYTES = 64;
const BATCH = 100;
/** Before what counts, for the runtime's compilers. */
const WARM_UP = 2;

function subjects(folder: string): { list: Subject[]; close: () => void } {
  const counters = Counters.open(join(folder, "counters"), { count: 1 });
  const queue = Queue.open<Uint8Array>(join(folder, "queue"), { codec: "bytes" });
  const flushed = Queue.open<Uint8Array>(join(folder, "flushed"), { codec: "bytes", durability: "each" });
  const mapping = Mapping.open(join(folder, "mapping"), { create: true, byteLength: 1 << 20 });
  const payload = new Uint8Array(PAYLOAD_BYTES).fill(7);
  const many = Array.from({ length: BATCH }, () => payload);
  const target = new Uint8Array(PAYLOAD_BYTES);
  const repeat = (times: number, call: () => void): Pick<Subject, "times" | "run"> => ({
    times,
    run: () => {
      for (let i = 0; i < times; i++) call();
    },
  });
  const list: Subject[] = [
    { name: "counter add", ...repeat(200_000, () => counters.add(0, 1)) },
    { name: "counter get", ...repeat(200_000, () => counters.get(0)) },
    { name: `mapping preadInto, ${PAYLOAD_BYTES} bytes`, ...repeat(50_000, () => mapping.preadInto(target, 4096)) },
    { name: `queue push and pop, ${PAYLOAD_BYTES} bytes`, ...repeat(20_000, () => {
      queue.push(payload);
      queue.pop();
    }) },
    { name: `the same, ${BATCH} at once, each`, times: 20_000, run: () => {
      for (let i = 0; i < 20_000; i += BATCH) {
        queue.pushMany(many);
        queue.popMany(BATCH);
      }
    } },
    { name: "queue push on storage (each)", ...repeat(20, () => flushed.push(payload)) },
  ];
  const close = (): void => {
    for (const handle of [counters, queue, flushed, mapping]) handle.close();
  };
  return { list, close };
}

const bench: Command = command({
  name: "bench",
  summary: "what this machine does in this runtime: counters, mapping, queue",
  args: "",
  count: [0, 0],
  text: `Nanoseconds for one operation in one process, the median and the least of some rounds; about two seconds in all. In a folder of its own,
which is removed. "On storage" is as fast as the disk under --folder.`,
  options: {
    rounds: option("N", "rounds of each (default 7)", whole(1, 1000), 7),
    folder: option("DIR", "where the files lie (default: the temporary folder)", asText),
  },
  examples: [["holdfast bench --human", "in Node"], ["bunx --bun holdfast bench", "in Bun"], ["holdfast bench --folder /var/lib/app", "on the disk that matters"]],
  async run({ options }) {
    const signal = endInOrder();
    const parent = options.folder ?? temporaryFolder();
    const folder = fs.mkdtempSync(join(parent, "holdfast-bench-"));
    const remove = (): void => fs.rmSync(folder, { recursive: true, force: true });
    process.once("exit", remove);
    const progress = new Progress();
    const { name, version } = runtime();
    const system = fileSystemOf(folder)?.name ?? "unknown";
    const { cpus = 0, model = "unknown CPU" } = machine() ?? {};
    const { list, close } = subjects(folder);
    const results: { name: string; medianNs: number; leastNs: number; perSecond: number }[] = [];
    try {
      for (const subject of list) {
        const rounds: number[] = [];
        for (let round = -WARM_UP; round < options.rounds; round++) {
          progress.update(() => subject.name);
          await pause(0, signal);
          const started = performance.now();
          subject.run();
          if (round >= 0) rounds.push(((performance.now() - started) * 1e6) / subject.times);
        }
        rounds.sort((a, b) => a - b);
        const medianNs = rounds[rounds.length >> 1] as number;
        results.push({ name: subject.name, medianNs, leastNs: rounds[0] as number, perSecond: 1e9 / medianNs });
      }
    } finally {
      progress.end();
      close();
      remove();
    }
    if (options.json) {
      await json({ runtime: name, version, cpu: model, cpus, fileSystem: system, results });
      return;
    }
    await line(`${name} ${version}, ${cpus === 0 ? "" : `${cpus} x ${model}, `}${parent} (${system})\n`);
    const ns = (value: number): string => (value < 100 ? value.toFixed(1) : number(Math.round(value), options.human));
    const columns = [{ title: "OPERATION" }, { title: "NS", right: true }, { title: "LEAST", right: true }, { title: "PER SECOND", right: true }];
    await line(table(columns, results.map((row) => [row.name, ns(row.medianNs), ns(row.leastNs), number(Math.round(row.perSecond), options.human)])));
  },
});

export const commands: readonly Command[] = [bench];
