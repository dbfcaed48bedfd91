/** One line of an access log, as the consumers read it. */

/** What is counted of a line. */
export interface LogLine {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly status: string;
  /** Bytes sent; 0 where the log has "-". */
  readonly bytes: number;
}

// host, identity, user, [time, zone], "method, path, protocol", status, bytes: fields end at a space, and what follows is free.
const PATTERN = /^(?:[^ ]* ){5}"([A-Z]{1,20}) ([^ ]*) [^ ]* (\d{3}) (\d{1,12}|-)(?: |\r?$)/;

/** The fields of `line`, or undefined if it is no log line. */
export function parseLogLine(line: string): LogLine | undefined {
  const match = PATTERN.exec(line);
  if (match === null) return undefined;
  const [, method, target, status, bytes] = match as unknown as [string, string, string, string, string];
  const query = target.indexOf("?");
  return { method, path: query < 0 ? target : target.slice(0, query), status, bytes: bytes === "-" ? 0 : Number(bytes) };
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Most bytes of a path in a counter's name: 255, less the "path " before it. */
export const MAX_PATH_BYTES = 250;

/** `path` cut to what a counter's name holds, at the start of a character. */
export function cutPath(path: string): string {
  // No character of UTF-16 takes more than 3 bytes of UTF-8: nearly all paths end here.
  if (path.length * 3 <= MAX_PATH_BYTES) return path;
  const bytes = encoder.encode(path);
  if (bytes.byteLength <= MAX_PATH_BYTES) return path;
  let end = MAX_PATH_BYTES;
  while (((bytes[end] as number) & 0xc0) === 0x80) end--;
  return decoder.decode(bytes.subarray(0, end));
}

/** The names of the counters that a line is counted under; all different. */
export function counterNames(line: LogLine): [status: string, method: string, path: string] {
  return [`status ${line.status}`, `method ${line.method}`, `path ${cutPath(line.path)}`];
}
