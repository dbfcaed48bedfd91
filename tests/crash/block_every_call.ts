/**
 * A child that does a fixed list of things with a block store and kills itself at its n-th native call, before or after it. What it has
 * done it says on stdout, one line each, written before it goes on.
 *
 * Usage: block_every_call.ts STORE N before|after
 */
import { BlockStore } from "../../mod.ts";
import { arm, say } from "../support/mortal.ts";

const [path, at, when] = process.argv.slice(2) as [string, string, string];

const state = arm(Number(at), when);
const store = BlockStore.open(path);
const ids = new Map<string, number>();

const put = (name: string): void => {
  say(`storing ${name}`);
  const id = store.store(new TextEncoder().encode(name)) as number;
  ids.set(name, id);
  say(`stored ${name} ${id}`);
};
const free = (name: string): void => {
  say(`freeing ${name}`);
  if (!store.free(ids.get(name) as number)) throw new Error(`${name} was not there`);
  say(`freed ${name}`);
};

for (const name of ["a", "b", "c"]) put(name); // two groups
free("a");
put("d"); // into the block of a
free("c");
store.read(ids.get("b") as number);
{
  // Freed by another handle: found by looking.
  using other = BlockStore.open(path);
  say("freeing b");
  other.free(ids.get("b") as number);
  say("freed b");
}
for (const name of ["e", "f", "g"]) put(name);
say(`done ${state.calls}`);
