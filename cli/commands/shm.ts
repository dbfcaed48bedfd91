/** `holdfast shm …`. */
import { SharedMemory, type SharedMemoryEntry } from "../../lib/shared_memory.ts";
import { type Command, command } from "../command.ts";
import { exitCodes } from "../errors.ts";
import { json, line, safe, size, table } from "../output.ts";

function stateOf({ owned, retained, persistent, unfinished, error }: SharedMemoryEntry): string {
  if (error !== undefined) return `damaged: ${safe(error.message)}`;
  if (owned) return unfinished ? "being made" : "owned";
  if (retained) return "retained";
  return persistent ? "persistent" : "orphan";
}

const list: Command = command({
  name: "shm list",
  summary: "list the shared memory objects of holdfast",
  args: "",
  count: [0, 0],
  text: `Those that this user can read. State: owned (its owner lives), retained (somebody keeps it for another), persistent (stays by itself),
orphan (all who had a right to it were killed: "shm reap" removes it), being made, damaged.`,
  options: {},
  examples: [["holdfast shm list --human", "names, sizes and states"]],
  async run({ options }) {
    const entries = SharedMemory.list();
    if (options.json) {
      for (const { error, ...entry } of entries) await json({ ...entry, state: stateOf({ ...entry, ...(error === undefined ? {} : { error }) }), error: error?.message ?? null });
      return;
    }
    const columns = [{ title: "NAME" }, { title: "SIZE", right: true }, { title: "CAPACITY", right: true }, { title: "STATE" }];
    const b = (bytes: number): string => size(bytes, options.human);
    await line(table(columns, entries.map((entry) => [safe(entry.name), b(entry.size), b(entry.capacity), stateOf(entry)])));
  },
});

const reap: Command = command({
  name: "shm reap",
  summary: "remove the shared memory objects whose owners were killed",
  args: "",
  count: [0, 0],
  text: "The kernel's locks say who is dead. Persistent, retained and damaged objects stay. Prints the names of what it removed.",
  options: {},
  examples: [["holdfast shm reap", "after a crash"]],
  async run({ options }) {
    const names = SharedMemory.reap();
    if (options.json) await json({ removed: names });
    else for (const name of names) await line(safe(name));
    return exitCodes.done;
  },
});

export const commands: readonly Command[] = [list, reap];
