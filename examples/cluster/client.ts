/**
 * The load of the cluster example. The client of its own knows of each request what became of it, which no general one tells: it asks over
 * plain sockets, one request at a time on each connection, and never asks a second time for an answer that did not come.
 */
import { spawn } from "node:child_process";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** What became of the requests. */
export interface Load {
  /** Answers that arrived whole. */
  readonly responses: number;
  /** Requests that were sent and whose connection ended before the answer was there. */
  readonly unanswered: number;
}

export interface LoadOptions {
  readonly port: number;
  readonly path: string;
  readonly connections: number;
  /** Asked before each request: whether there is one more. */
  readonly next: () => boolean;
}

/** After so many answers a connection is made anew, so that a server that was started again gets its share. */
const PER_CONNECTION = 200;

/** Bytes of the answer that `text` starts with, once it is whole. */
function answerLength(text: string): number | undefined {
  const head = text.indexOf("\r\n\r\n");
  if (head < 0) return undefined;
  if (!text.startsWith("HTTP/1.1 200 ")) throw new Error(`the server says ${text.slice(0, 40)}`);
  const length = /\r\ncontent-length: *(\d+)/i.exec(text.slice(0, head));
  if (length === null) throw new Error("the answer does not say how long it is");
  const whole = head + 4 + Number(length[1]);
  return text.length >= whole ? whole : undefined;
}

/** Asks on one connection until it ends; false once there is nothing more to ask. */
function converse(socket: Socket, request: string, next: () => boolean, count: { responses: number; unanswered: number }): Promise<boolean> {
  return new Promise((resolve, reject) => {
    let more = true;
    let waiting = false;
    let answers = 0;
    let text = "";
    const send = (): void => {
      if (answers < PER_CONNECTION && (more = next())) {
        waiting = true;
        socket.write(request);
      } else {
        socket.destroy();
      }
    };
    socket.setEncoding("latin1"); // one character for each byte
    socket.setNoDelay(true);
    socket.on("connect", send);
    socket.on("data", (chunk: string) => {
      text += chunk;
      let length: number | undefined;
      try {
        length = answerLength(text);
      } catch (error) {
        reject(error as Error);
        socket.destroy();
        return;
      }
      if (length === undefined) return;
      text = text.slice(length);
      waiting = false;
      answers++;
      count.responses++;
      send();
    });
    socket.on("error", () => {}); // "close" follows
    socket.on("end", () => socket.destroy());
    socket.on("close", () => {
      if (waiting) count.unanswered++;
      resolve(more);
    });
  });
}

/** Asks on some connections at once; ends with no request under way. */
export async function ask({ port, path, connections, next }: LoadOptions): Promise<Load> {
  const count = { responses: 0, unanswered: 0 };
  const request = `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`;
  const one = async (): Promise<void> => {
    for (let before = 0; await converse(connect({ port, host: "127.0.0.1" }), request, next, count); before = count.responses) {
      if (count.responses === before) await sleep(5); // nobody there at the moment
    }
  };
  await Promise.all(Array.from({ length: connections }, one));
  return count;
}

/** The body of one answer. */
export async function fetchText(port: number, path: string): Promise<string> {
  return await (await fetch(`http://127.0.0.1:${port}${path}`)).text();
}

/** What wrk counted; undefined if it is not installed. */
export async function wrk(port: number, path: string, connections: number, seconds: number): Promise<{ responses: number; output: string } | undefined> {
  const child = spawn("wrk", ["-t", "1", "-c", String(connections), "-d", `${seconds}s`, `http://127.0.0.1:${port}${path}`], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  const missing = await new Promise<boolean>((resolve, reject) => {
    child.once("error", (error: NodeJS.ErrnoException) => (error.code === "ENOENT" ? resolve(true) : reject(error)));
    child.once("close", () => resolve(false));
  });
  if (missing) return undefined;
  const responses = /(\d+) requests in/.exec(output)?.[1];
  if (responses === undefined) throw new Error(`wrk says no number of requests:\n${output}`);
  return { responses: Number(responses), output };
}
