/**
 * The one place that writes: the standard output for results, the standard error stream for everything said about them.
 *
 * Output is written by write(2) and nothing else: what this module has returned from is in the pipe, so that a record may be taken out of
 * its queue. A reader that went away is {@linkcode BrokenPipe}.
 *
 * @module
 */
import * as fs from "node:fs";
import { constants } from "node:os";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import * as tty from "node:tty";
import { styleText, stripVTControlCharacters } from "node:util";
import { systemError } from "../lib/errors.ts";
import { BrokenPipe } from "./errors.ts";
import { environment } from "./system.ts";

const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;

const encoder = new TextEncoder();

/** Writes all of `data` to the standard output. */
export async function write(data: Uint8Array | string): Promise<void> {
  const bytes = typeof data === "string" ? encoder.encode(data) : data;
  for (let done = 0, pause = 1; done < bytes.byteLength; ) {
    try {
      done += fs.writeSync(STDOUT, bytes, done, bytes.byteLength - done);
      pause = 1;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EPIPE") throw new BrokenPipe("nobody reads the output any more");
      // Somebody made the pipe non-blocking, and it is full.
      if (code !== "EAGAIN") throw outputError(error as NodeJS.ErrnoException);
      await sleep(pause);
      pause = Math.min(50, pause * 2);
    }
  }
}

/** Deno does not say the code of every error, only its number, in the text. */
function outputError({ errno, message }: NodeJS.ErrnoException): Error {
  const number = errno ?? -Number(/\(os error (\d+)\)/.exec(message)?.[1] ?? constants.errno.EIO);
  return systemError(number, "write", "the standard output");
}

export async function line(text: string): Promise<void> {
  await write(`${text}\n`);
}

/** Writes to the standard error stream; that it is closed is no reason to fail. */
export function complain(text: string): void {
  try {
    fs.writeSync(STDERR, `${text}\n`);
  } catch {
    // There is nowhere to say it.
  }
}

/** Draws a text on the terminal in place of the one before: as many lines as it has, none of them wrapped. */
export async function draw(text: string): Promise<void> {
  const lines = text.split("\n");
  const rows = process.stdout.rows || 24; // 0 where nobody has said
  const shown = lines.length < rows ? lines : [...lines.slice(0, rows - 2), `… ${lines.length - rows + 2} more lines`];
  await write(`\x1b[?7l\x1b[H\x1b[J${shown.join("\n")}\n\x1b[?7h`);
}

/** Says something about what is going on. */
export function note(text: string): void {
  complain(`holdfast: ${text}`);
}

export const isTerminal = (): boolean => tty.isatty(STDOUT);
export const isInputTerminal = (): boolean => tty.isatty(STDIN);
export const isErrorTerminal = (): boolean => tty.isatty(STDERR);

/** A line on the terminal that says how far long work is; nothing where nobody looks. */
export class Progress {
  #last = 0;
  #shown = false;
  readonly #active = isErrorTerminal();

  /** At most five times a second. */
  update(text: () => string): void {
    const now = performance.now();
    if (!this.#active || now - this.#last < 200) return;
    this.#last = now;
    this.#shown = true;
    fs.writeSync(STDERR, `\r\x1b[K${text()}`);
  }

  /** Takes the line away. */
  end(): void {
    if (this.#shown) fs.writeSync(STDERR, "\r\x1b[K");
    this.#shown = false;
  }
}

/** One value as a line of JSON. 64-bit integers are written digit by digit: exact, though a reader may round them. */
export async function json(value: unknown): Promise<void> {
  await line(toJson(value));
}

export function toJson(value: unknown): string {
  const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };
  return JSON.stringify(value, (_, one: unknown) => (typeof one === "bigint" ? rawJSON(String(one)) : one));
}

type Style = "bold" | "dim" | "green" | "yellow" | "red";

function coloured(): boolean {
  if (environment("NO_COLOR") !== undefined) return false;
  const forced = environment("FORCE_COLOR");
  return forced === undefined ? isTerminal() && environment("TERM") !== "dumb" : forced !== "0";
}

/** The text in a style, on a terminal that shall have styles. */
export function styled(style: Style, text: string): string {
  return coloured() ? styleText(style, text, { validateStream: false }) : text;
}

/** Text out of a file as it may be shown: it can hold anything, and a terminal must not obey it. */
export function safe(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}]/gu, "\u{fffd}");
}

/** Characters of an East Asian width, and emoji: two columns. */
const WIDE = /[\p{Emoji_Presentation}\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Hangul}\u3000-\u303f\uff01-\uff60]/u;

function widthOf(text: string): number {
  let width = 0;
  for (const character of stripVTControlCharacters(text)) width += /\p{M}/u.test(character) ? 0 : WIDE.test(character) ? 2 : 1;
  return width;
}

/** A column of a table: its title, and whether it holds numbers. */
export interface Column {
  readonly title: string;
  readonly right?: boolean;
}

/** Columns, aligned, with two spaces in between: for people, and for awk. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const titles = columns.map(({ title }) => styled("bold", title));
  const widths = columns.map((_, i) => Math.max(...[titles, ...rows].map((row) => widthOf(row[i] ?? ""))));
  const lines = [titles, ...rows].map((row) =>
    row.map((cell, i) => {
      const gap = " ".repeat((widths[i] as number) - widthOf(cell));
      return columns[i]?.right === true ? gap + cell : cell + gap;
    }).join("  ").trimEnd(),
  );
  return lines.join("\n");
}

/** Names and what belongs to them, one below the other. */
export function facts(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([name]) => widthOf(name)));
  return rows.map(([name, text]) => `${styled("bold", name)}${" ".repeat(width - widthOf(name))}  ${text}`.trimEnd()).join("\n");
}

/** A number. */
export function number(value: number | bigint, human: boolean): string {
  return human ? value.toLocaleString("en-US") : String(value);
}

const SIZES = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** A number of bytes. */
export function size(value: number, human: boolean): string {
  if (!human) return String(value);
  let unit = 0;
  let left = value;
  while (left >= 1024 && unit < SIZES.length - 1) {
    left /= 1024;
    unit++;
  }
  return `${unit === 0 ? left : left.toFixed(1)} ${SIZES[unit]}`;
}
