/**
 * How records are written on the standard input and output.
 *
 * - text: the payload's bytes as they are, a record a line. A program reads it with codec "text"; a line of JSON also with codec "json".
 * - json: the same, and each line must be JSON.
 * - string: a payload that is a JSON string, as the text that it stands for: for programs with codec "json" and lines that are no JSON.
 * - base64: the payload's bytes in base64.
 * - record: `{"text":"…"}`, or `{"base64":"…"}` where the payload is no UTF-8; exact for any payload. With the sequence, where it is known.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { CommandError } from "./errors.ts";

export const formats = ["text", "json", "string", "base64", "record"] as const;
export type Format = (typeof formats)[number];

const encoder = new TextEncoder();
// A byte order mark is a character like others: text and bytes are the same.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const NEWLINE = 10;

function textOf(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

function bad(where: string, requirement: string): CommandError {
  return new CommandError(`${where} is not ${requirement}`, "ERR_FORMAT");
}

function parse(text: string | undefined, where: string): unknown {
  if (text === undefined) throw bad(where, "JSON: it is no UTF-8");
  try {
    return JSON.parse(text);
  } catch (error) {
    throw bad(where, `JSON: ${(error as Error).message}`);
  }
}

function utf8(text: string, where: string): Uint8Array {
  if (!text.isWellFormed()) throw bad(where, "well-formed text: it has a lone surrogate, for which there is no UTF-8");
  return encoder.encode(text);
}

function fromBase64(text: string, where: string): Uint8Array {
  const bytes = Buffer.from(text, "base64");
  if (bytes.toString("base64") !== text) throw bad(where, "base64");
  return bytes;
}

/** What a record of the form {@linkcode recordOf} stands for. */
function fromRecord(value: unknown, where: string): Uint8Array {
  const { text, base64, sequence: _, ...others } = (typeof value === "object" && value !== null ? value : {}) as Record<string, unknown>;
  const either = (typeof text === "string" && base64 === undefined) || (typeof base64 === "string" && text === undefined);
  if (!either || Object.keys(others).length > 0) throw bad(where, 'a record: {"text":"…"} or {"base64":"…"}');
  return typeof text === "string" ? utf8(text, where) : fromBase64(base64 as string, where);
}

/** The payload of a record of the input; undefined for a blank line, where that means nothing. `where` names it in errors. */
export function decodeInput(format: Format, frame: Uint8Array, where: string): Uint8Array | undefined {
  if (format === "text") return frame;
  const text = textOf(frame);
  if (format === "string") return text === undefined ? badText(where) : encoder.encode(JSON.stringify(text));
  const trimmed = text?.trim();
  if (trimmed === "") return undefined;
  if (format === "base64") return fromBase64(trimmed ?? "", where);
  const value = parse(text, where);
  return format === "json" ? frame : fromRecord(value, where);
}

function badText(where: string): never {
  throw bad(where, "UTF-8");
}

/** A record as JSON can hold it, whatever its payload is. */
export function recordOf(payload: Uint8Array, sequence?: number): { sequence?: number; text?: string; base64?: string } {
  const text = textOf(payload);
  const content = text === undefined ? { base64: Buffer.from(payload).toString("base64") } : { text };
  return sequence === undefined ? content : { sequence, ...content };
}

/** A payload as it is written, without the separator behind it. `where` names it in errors. */
export function encodeOutput(format: Format, payload: Uint8Array, where: string, sequence?: number): Uint8Array {
  switch (format) {
    case "text":
      return payload;
    case "json": {
      const value = parse(textOf(payload), where);
      return payload.includes(NEWLINE) ? encoder.encode(JSON.stringify(value)) : payload;
    }
    case "string": {
      const value = parse(textOf(payload), where);
      if (typeof value !== "string") throw bad(where, "a JSON string");
      return encoder.encode(value);
    }
    case "base64":
      return encoder.encode(Buffer.from(payload).toString("base64"));
    case "record":
      return encoder.encode(JSON.stringify(recordOf(payload, sequence)));
  }
}
