/**
 * Waits for a cell. As a Worker: for the first one of the file that workerData names, and posts that it does and how it ended. As a program: with a
 * wait of each kind pending or over, ends as its argument says; prints when, and how the last wait ended.
 */
import { isMainThread, parentPort, workerData } from "node:worker_threads";
import { Mapping } from "../../mod.ts";

async function main(how: string | undefined): Promise<void> {
  const mapping = Mapping.anonymous(64);
  const { atomics } = mapping;
  const print = (result: string): void => console.log(JSON.stringify({ took: Date.now(), result }));
  await atomics.wait(0, 0, { timeoutMs: 100 });
  if (how === "keep") return print(await atomics.wait(0, 0, { timeoutMs: 200 }));
  if (how === "end") return print("");
  void atomics.wait(0, 0);
  setTimeout(() => {
    print("");
    if (how === "exit") process.exit(7);
    throw new Error("as asked for");
  }, 50);
}

if (isMainThread) {
  await main(process.argv[2]);
} else {
  const mapping = Mapping.open(workerData as string);
  void mapping.atomics.wait(0, 0, { timeoutMs: 5000 }).then((result) => parentPort?.postMessage([result]));
  parentPort?.postMessage("waiting");
}
