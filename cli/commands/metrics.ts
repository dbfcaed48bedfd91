/** `holdfast metrics …`. */
import * as fs from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Metrics, type MetricsOptions } from "../../lib/metrics.ts";
import { asText, type Command, command, oneOf, option, whole } from "../command.ts";
import { CommandError } from "../errors.ts";
import { json, line, note, write } from "../output.ts";
import { endInOrder } from "../signals.ts";

const LOOK_ONLY: MetricsOptions = { mode: "r" };

const show: Command = command({
  name: "metrics show",
  summary: "print the metrics of a file as text for Prometheus",
  args: "FILE",
  count: [1, 1],
  text: "",
  options: { format: option("NAME", "prometheus (the default) or openmetrics", oneOf("prometheus", "openmetrics"), "prometheus" as const) },
  examples: [["holdfast metrics show app.metrics", "once, on the standard output"]],
  async run({ options, args: [path = ""] }) {
    using metrics = Metrics.open(path, LOOK_ONLY);
    const text = metrics.expose({ format: options.format });
    if (options.json) await json({ contentType: Metrics.contentTypes[options.format], text });
    else await write(text);
  },
});

/** Answers one request. The file is asked each time: it may have been replaced by a new one since. */
function answer(source: Source, request: IncomingMessage, response: ServerResponse): void {
  const { pathname } = new URL(request.url ?? "/", "http://localhost");
  const reply = (status: number, type: string, body: string, headers: Record<string, string> = {}): void => {
    response.writeHead(status, { "content-type": type, "content-length": String(new TextEncoder().encode(body).byteLength), ...headers });
    response.end(request.method === "HEAD" ? undefined : body);
  };
  const plain = "text/plain; charset=utf-8";
  if (pathname !== "/metrics" && pathname !== "/") return reply(404, plain, "the metrics are at /metrics\n");
  if (request.method !== "GET" && request.method !== "HEAD") return reply(405, plain, "GET or HEAD\n", { allow: "GET, HEAD" });
  try {
    const format = /application\/openmetrics-text/.test(request.headers.accept ?? "") ? "openmetrics" : "prometheus";
    reply(200, Metrics.contentTypes[format], source.metrics().expose({ format }));
  } catch (error) {
    note((error as Error).message);
    reply(500, plain, `${(error as Error).message}\n`);
  }
}

/** The metrics at a path: opened anew when another file lies there. */
class Source implements Disposable {
  readonly #path: string;
  #open: { metrics: Metrics; identity: string } | undefined;

  constructor(path: string) {
    this.#path = path;
    this.metrics();
  }

  metrics(): Metrics {
    const { dev, ino } = fs.statSync(this.#path, { bigint: true });
    const identity = `${dev}:${ino}`;
    if (this.#open?.identity !== identity) {
      const metrics = Metrics.open(this.#path, LOOK_ONLY);
      this.#open?.metrics.close();
      this.#open = { metrics, identity };
    }
    return this.#open.metrics;
  }

  [Symbol.dispose](): void {
    this.#open?.metrics.close();
  }
}

function listen(server: Server, port: number, host: string): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(new CommandError(`can't listen on ${host}:${port}: ${error.message}`, error.code, error)));
    server.listen(port, host, () => resolve(server.address() as AddressInfo));
  });
}

const serve: Command = command({
  name: "metrics serve",
  summary: "answer Prometheus over HTTP with the metrics of a file",
  args: "FILE",
  count: [1, 1],
  text: `GET /metrics gives the text, as OpenMetrics if that is asked for. FILE is opened for reading only, and may be replaced meanwhile.
Prints the address once it listens, and serves until it is ended.`,
  options: {
    port: option("N", "the TCP port; 0 takes a free one (default 9464)", whole(0, 65_535), 9464),
    host: option("NAME", "the address to listen on (default 127.0.0.1: this machine only)", asText, "127.0.0.1"),
  },
  examples: [["holdfast metrics serve app.metrics --port 9464", "for a scrape of http://127.0.0.1:9464/metrics"]],
  async run({ options, args: [path = ""] }) {
    const signal = endInOrder();
    using source = new Source(path);
    const server = createServer((request, response) => answer(source, request, response));
    const { address, port, family } = await listen(server, options.port, options.host);
    const url = `http://${family === "IPv6" ? `[${address}]` : address}:${port}/metrics`;
    if (options.json) await json({ url });
    else await line(url);
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve());
    });
    server.close();
    server.closeAllConnections();
    signal.throwIfAborted();
  },
});

export const commands: readonly Command[] = [show, serve];
