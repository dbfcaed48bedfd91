/** What the commands on queues share: their options, and how they open a queue. */
import * as fs from "node:fs";
import { MapError } from "../../lib/errors.ts";
import { compressed } from "../../lib/queue/compressed.ts";
import { Queue, type QueueOptions } from "../../lib/queue.ts";
import { asText, bytes, flag, type Option, oneOf, option, whole } from "../command.ts";
import { UsageError } from "../errors.ts";
import { type Format, formats } from "../records.ts";

const octal = (name: string, text: string): number => {
  if (/^[0-7]{1,4}$/.test(text)) return parseInt(text, 8);
  throw new UsageError(`${name} must be access bits in octal, such as 600 or 660; received '${text}'`);
};

/** Of a queue that the command may have to make. */
export const creationOptions: Readonly<
  Record<"capacity-bytes" | "max-capacity-bytes" | "retain-bytes" | "retain-ms" | "permissions", Option<number | undefined>> &
    Record<"fixed-size" | "groups", Option<boolean>>
> = {
  "capacity-bytes": option("N", "a new queue: bytes reserved at first (default 2M)", bytes(1)),
  "max-capacity-bytes": option("N", "a new queue: most bytes of records that it holds (default: no limit)", bytes(1)),
  "fixed-size": flag("a new queue: never more than --capacity-bytes"),
  groups: flag("a new queue: make it a log, which groups of consumers read"),
  "retain-bytes": option("N", "a new log: give its oldest records up beyond so many bytes", bytes(1)),
  "retain-ms": option("N", "a new log: give records up after so many milliseconds", whole(1)),
  permissions: option("BITS", "a new queue: access bits of its files, octal (default 600)", octal),
};

export const durability: Option<"process" | "batch" | "each" | undefined> = option(
  "WHEN",
  "when it is on storage: process (the default; survives the death\nof any process), batch (some ms later), each (before the next)",
  oneOf("process", "batch", "each"),
);

export const group: Option<string | undefined> = option("NAME", "of a log: the group that reads", asText);

export const coded: Readonly<Record<"compressed", Option<boolean>>> = { compressed: flag("the payloads are compressed (codec compressed())") };

const FORMS = "text (as it is, the default), json (checked), string (a JSON string,\nfor programs with codec \"json\"), base64, record ({\"text\":…} or\n{\"base64\":…}, exact for any bytes)";

/** How records are read. */
export const asInput: Option<Format> = option("FORM", `how a record is written: ${FORMS}`, oneOf(...formats), "text");

/** How records are written. */
export const asOutput: Option<Format | undefined> = option("FORM", `how a record is written: ${FORMS};\n--json is --as record`, oneOf(...formats));

export const separator: Readonly<Record<"null", Option<boolean>>> = { null: flag("records end with a NUL byte, not with a newline", "0") };

/** The format that the options ask for. */
export function outputFormat(options: { readonly as: Format | undefined; readonly json: boolean }): Format {
  return options.as ?? (options.json ? "record" : "text");
}

const NAMES: Readonly<Record<string, string>> = {
  "capacity-bytes": "capacityBytes",
  "max-capacity-bytes": "maxCapacityBytes",
  "fixed-size": "fixedSize",
  "retain-bytes": "retainBytes",
  "retain-ms": "retainMs",
  "max-attempts": "maxAttempts",
  "dead-letter": "deadLetter",
};

/** The library's options for those of a command line. Flags that are not given are left out. */
function libraryOptions(options: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const known = [...Object.keys(creationOptions), "durability", "group", "max-attempts", "dead-letter"];
  const given = known.filter((name) => options[name] !== undefined && options[name] !== false);
  return Object.fromEntries(given.map((name) => [NAMES[name] ?? name, options[name]]));
}

/** An error about an option, in the words of the command line. */
function translated(error: unknown): unknown {
  const { code, message } = error as { code?: unknown; message: string };
  if (code !== "ERR_INVALID_ARG_TYPE" && code !== "ERR_OUT_OF_RANGE") return error;
  return new UsageError(message.replace(/"(\w+)"/g, (quoted, name: string) => {
    const [option] = Object.entries(NAMES).find(([, own]) => own === name) ?? [name];
    return option in creationOptions || option in NAMES || name === "group" ? `--${option}` : quoted;
  }));
}

/** Opens a queue of payloads. With `create` one that is not there is made; looking only, by mode "r", never. */
export function openQueue(path: string, options: Readonly<Record<string, unknown>>, how: { mode: "r" | "rw"; create?: boolean }): Queue<Uint8Array> {
  // In mode "rw" the library would make one: of a mistyped name.
  if (how.create !== true && !fs.existsSync(path)) {
    throw new MapError("ENOENT", `no such queue: '${path}'`, { syscall: "open", path });
  }
  const own: QueueOptions<Uint8Array> = {
    mode: how.mode,
    codec: options.compressed === true ? compressed("bytes") : "bytes",
    ...libraryOptions(options),
  };
  try {
    return Queue.open<Uint8Array>(path, own);
  } catch (error) {
    throw translated(error);
  }
}
