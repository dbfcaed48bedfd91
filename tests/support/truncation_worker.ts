/** A Worker that reads a file which is cut short meanwhile, and tells what it met. */
import { parentPort, workerData } from "node:worker_threads";
import { Mapping } from "../../mod.ts";

const { path } = workerData as { path: string };

// Not at the top level: a worker that fails while its module loads is reported badly by some of the runtimes.
setTimeout(() => {
  const mapping = Mapping.open(path);
  const view = mapping.view();
  const code = (call: () => unknown): unknown => {
    try {
      return call();
    } catch (error) {
      return (error as { code?: string }).code;
    }
  };
  parentPort?.on("message", (message: string) => {
    if (message === "touch") {
      parentPort?.postMessage([
        code(() => mapping.pread(16_000, 10)),
        code(() => mapping.atomics.add(8, 1)),
        code(() => mapping.pwrite(0, "x")),
        view[12_000],
        code(() => mapping.view()),
      ]);
    } else {
      mapping.refresh();
      parentPort?.postMessage(new TextDecoder().decode(mapping.pread(16_000, 4)));
    }
  });
  parentPort?.postMessage("open");
}, 0);
