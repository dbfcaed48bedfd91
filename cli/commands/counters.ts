/** `holdfast counters …`. */
import { type CounterKey, Counters } from "../../lib/counters.ts";
import { type Command, command, flag, option, whole } from "../command.ts";
import { CommandError, UsageError } from "../errors.ts";
import { draw, isTerminal, json, line, number, safe, table } from "../output.ts";
import { endInOrder, pause } from "../signals.ts";

/** A 64-bit integer of the command line; as for the library, 2^63 to 2^64 - 1 wrap. */
function integer(name: string, text: string): bigint {
  if (/^[+-]?\d{1,20}$/.test(text)) {
    const value = BigInt(text.replace(/^\+/, ""));
    if (value >= -(2n ** 63n) && value < 2n ** 64n) return BigInt.asIntN(64, value);
  }
  throw new UsageError(`${name} must be an integer of 64 bits; received '${text}'`);
}

/** The counter that an argument means: a name, or an index where there is no such name. */
function keyOf(counters: Counters, argument: string): CounterKey | undefined {
  const { names, count } = counters;
  if (names.includes(argument)) return argument;
  const index = /^\d{1,10}$/.test(argument) ? Number(argument) : NaN;
  return index < count ? index : undefined;
}

function find(counters: Counters, argument: string, hint = ""): CounterKey {
  const key = keyOf(counters, argument);
  if (key !== undefined) return key;
  const names = counters.names.filter((name) => name !== undefined).slice(0, 20).map(safe);
  const known = names.length === 0 ? `indexes 0 to ${counters.count - 1}` : names.join(", ");
  throw new CommandError(`'${counters.path}' has no counter '${argument}'; it has ${known}${hint}`, "ERR_NO_COUNTER");
}

interface Row {
  readonly index: number;
  readonly name: string | undefined;
  readonly value: bigint;
}

function rowsOf(counters: Counters, wanted: readonly string[]): Row[] {
  const { names, count } = counters;
  const row = (index: number): Row => ({ index, name: names[index], value: counters.getBigInt(index) });
  if (wanted.length === 0) return Array.from({ length: count }, (_, index) => row(index));
  return wanted.map((argument) => {
    const key = find(counters, argument);
    return row(typeof key === "number" ? key : names.indexOf(key));
  });
}

const named = ({ name, index }: Row): string => (name === undefined ? String(index) : safe(name));

const get: Command = command({
  name: "counters get",
  summary: "print the values of counters",
  args: "FILE NAME [NAME ...]",
  count: [2, Infinity],
  text: "NAME is a counter's name, or its index. One value a line, in the order asked for.",
  options: {},
  examples: [["holdfast counters get app.counters requests", "one value"]],
  async run({ options, args: [path = "", ...wanted] }) {
    using counters = Counters.open(path, { mode: "r" });
    for (const row of rowsOf(counters, wanted)) {
      if (options.json) await json(row);
      else await line(number(row.value, options.human));
    }
  },
});

const create = { create: flag("make the file, or the counter, if it is not there") } as const;

/** Opens the counters for changing, and finds the one called `argument`; with `mayCreate` what is not there is made. */
function openFor(path: string, argument: string, mayCreate: boolean): { counters: Counters; key: CounterKey } {
  const counters = mayCreate ? openOrCreate(path, argument) : Counters.open(path);
  try {
    if (mayCreate && keyOf(counters, argument) === undefined) counters.declare(argument);
    return { counters, key: find(counters, argument, "; --create adds one") };
  } catch (error) {
    counters.close();
    throw error;
  }
}

function openOrCreate(path: string, name: string): Counters {
  const unless = (code: string, call: () => Counters): Counters | undefined => {
    try {
      return call();
    } catch (error) {
      if ((error as { code?: unknown }).code !== code) throw error;
      return undefined;
    }
  };
  return unless("ENOENT", () => Counters.open(path))
    ?? unless("ERR_OUT_OF_RANGE", () => Counters.open(path, { names: [name] }))
    ?? Counters.open(path); // another made it in between, with other names
}

async function changed(options: { json: boolean; human: boolean }, name: string, old: bigint, value: bigint): Promise<void> {
  if (options.json) await json({ name, old, value });
  else await line(number(value, options.human));
}

const add: Command = command({
  name: "counters add",
  summary: "add to a counter, and print its new value",
  args: "FILE NAME [DELTA]",
  count: [2, 3],
  text: "DELTA is an integer, 1 if it is left out; a negative one subtracts (behind --: counters add FILE NAME -- -5). One atomic operation: none is lost, whoever else counts.",
  options: create,
  examples: [["holdfast counters add app.counters deploys --create", "count one, and make the counter the first time"]],
  async run({ options, args: [path = "", name = "", delta = "1"] }) {
    const by = integer("DELTA", delta);
    const { counters, key } = openFor(path, name, options.create);
    using _ = counters;
    const old = counters.add(key, by);
    await changed(options, name, old, BigInt.asIntN(64, old + by));
  },
});

const set: Command = command({
  name: "counters set",
  summary: "set a counter, and print its new value",
  args: "FILE NAME VALUE",
  count: [3, 3],
  text: "A negative VALUE stands behind --: counters set FILE NAME -- -5.",
  options: create,
  examples: [["holdfast counters set app.counters errors 0", "back to zero"]],
  async run({ options, args: [path = "", name = "", text = ""] }) {
    const value = integer("VALUE", text);
    const { counters, key } = openFor(path, name, options.create);
    using _ = counters;
    await changed(options, name, counters.set(key, value), value);
  },
});

const list: Command = command({
  name: "counters list",
  summary: "print all counters of a file",
  args: "FILE",
  count: [1, 1],
  text: "",
  options: {},
  examples: [["holdfast counters list app.counters", "index, name and value of each"]],
  async run({ options, args: [path = ""] }) {
    using counters = Counters.open(path, { mode: "r" });
    const rows = rowsOf(counters, []);
    if (options.json) {
      for (const row of rows) await json(row);
      return;
    }
    const columns = [{ title: "INDEX", right: true }, { title: "NAME" }, { title: "VALUE", right: true }];
    await line(table(columns, rows.map((row) => [String(row.index), safe(row.name ?? ""), number(row.value, options.human)])));
  },
});

const watch: Command = command({
  name: "counters watch",
  summary: "print counters again and again, with their rates",
  args: "FILE [NAME ...]",
  count: [1, Infinity],
  text: `On a terminal as a table that is drawn anew; otherwise a line for each counter that changed: seconds since the start, name, value,
changes per second.`,
  options: {
    "interval-ms": option("N", "how often to look (default 1000)", whole(1, 3_600_000), 1000),
    count: option("N", "end after so many looks (default: never)", whole(1), Infinity),
  },
  examples: [["holdfast counters watch app.counters requests errors", "two of them, each second"]],
  async run({ options, args: [path = "", ...wanted] }) {
    const signal = endInOrder();
    using counters = Counters.open(path, { mode: "r" });
    const drawn = isTerminal() && !options.json;
    const started = performance.now();
    let last: { at: number; values: Map<number, bigint> } | undefined;
    for (let look = 1; ; look++) {
      const rows = rowsOf(counters, wanted);
      const at = performance.now();
      const seconds = (at - started) / 1000;
      const rates = new Map(rows.map(({ index, value }) => {
        const before = last?.values.get(index);
        return [index, last === undefined || before === undefined ? undefined : Number(value - before) / ((at - last.at) / 1000)];
      }));
      const rate = (row: Row): string => rates.get(row.index)?.toFixed(1) ?? "-";
      if (drawn) {
        const columns = [{ title: "NAME" }, { title: "VALUE", right: true }, { title: "PER SECOND", right: true }];
        await draw(table(columns, rows.map((row) => [named(row), number(row.value, options.human), rate(row)])));
      } else {
        for (const row of rows) {
          if (last !== undefined && last.values.get(row.index) === row.value) continue;
          if (options.json) await json({ seconds, ...row, perSecond: rates.get(row.index) ?? null });
          else await line(`${seconds.toFixed(1)} ${named(row)} ${number(row.value, options.human)} ${rate(row)}`);
        }
      }
      last = { at, values: new Map(rows.map(({ index, value }) => [index, value])) };
      if (look >= options.count) return;
      await pause(options["interval-ms"], signal);
    }
  },
});

export const commands: readonly Command[] = [get, add, set, list, watch];
