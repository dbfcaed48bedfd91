/** A producer: pushes its part of the file to the queue, a batch at a time. Started by ../ingest.ts. */
import { Mapping } from "../../mod.ts";
import { linesOf } from "./parts.ts";
import { childArguments, type Entry, names, Shared } from "./shared.ts";

/**
 * Whether an earlier life of this producer pushed `line` (and so the whole of its batch: pushMany() makes all of it visible at
 * once or nothing). It may be in the queue, or counted by now. The second look at the bit is for a record that was acknowledged
 * while the queue was read: consumers set the bit before they acknowledge.
 */
function pushedBefore(shared: Shared, line: number): boolean {
  const { seen, queue } = shared;
  if (seen.has(line)) return true;
  for (const entry of queue) {
    if (entry.line === line) return true;
  }
  return seen.has(line);
}

async function produce(folder: string, index: number): Promise<void> {
  using shared = Shared.open(folder);
  const { job, queue, counters } = shared;
  const part = job.parts[index];
  if (part === undefined) throw new RangeError(`there is no producer ${index}`);
  using file = Mapping.open(job.file, { mode: "r" });
  const progress = names.done("producer", index);
  await shared.begin("producer", index);

  // A producer killed between pushing a batch and noting it down must not push it again. Batches begin at multiples of
  // `job.batch` in every life, so one line stands for its batch.
  let done = counters.get(progress);
  if (done < part.lines && pushedBefore(shared, part.firstLine + done)) {
    done = Math.min(done + job.batch, part.lines);
    counters.set(progress, done);
  }

  const pushBatch = async (batch: readonly Entry[]): Promise<void> => {
    while (queue.length > job.backlog) await shared.pause();
    const pushed = queue.pushMany(batch);
    if (pushed !== batch.length) throw new Error(`the queue took ${pushed} of ${batch.length} lines`);
    done += pushed;
    counters.set(progress, done);
  };

  let batch: Entry[] = [];
  let line = part.firstLine + done;
  for (const text of linesOf(file.view(part.start, part.end - part.start), done)) {
    batch.push({ line: line++, producer: index, text });
    if (batch.length === job.batch) {
      await pushBatch(batch);
      batch = [];
    }
  }
  if (batch.length > 0) await pushBatch(batch);
}

await produce(...childArguments());
