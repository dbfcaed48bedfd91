/**
 * One server process of the cluster example: answers on the port that all share, and counts in the file that all share.
 *
 * Usage: server.ts METRICS PORT NUMBER. It says "ready" on stdout, and ends when its stdin does.
 */
import { createServer } from "node:http";
import process from "node:process";
import { Metrics } from "../../mod.ts";

const [file, port, number] = process.argv.slice(2) as [string, string, string];

const metrics = Metrics.open(file);
metrics.counter("server_starts_total", { help: "How often a server was started.", labels: ["process"] }).labels(number).inc();
metrics.gauge("server_start_seconds", { help: "When a server was last started.", labels: ["process"] }).labels(number).setToCurrentTime();
const requests = metrics.counter("http_requests_total", { help: "Requests answered.", labels: ["path", "process"] });
const seconds = metrics.histogram("http_request_seconds", { help: "Time to make an answer.", buckets: [1e-5, 1e-4, 1e-3, 0.01, 0.1] });

interface Answer {
  readonly body: string;
  readonly type: string;
}

function answer(path: string): Answer {
  if (path === "/metrics") return { body: metrics.expose(), type: Metrics.contentTypes.prometheus };
  const end = seconds.startTimer();
  const body = `Hello from process ${number}\n`;
  end();
  // Before the answer goes out, so that no client ever has an answer that is not counted. (A real server has few paths, and labels are made
  // of those that it knows: here each path would be a series of its own.)
  requests.labels({ path, process: number }).inc();
  return { body, type: "text/plain" };
}

function ready(): void {
  process.stdout.write("ready\n");
}

const hostname = "127.0.0.1";
const pathOf = (request: Request): string => new URL(request.url).pathname;
const respond = (request: Request): Response => {
  const { body, type } = answer(pathOf(request));
  return new Response(body, { headers: { "content-type": type } });
};

if ("Bun" in globalThis) {
  Bun.serve({ port: Number(port), hostname, reusePort: true, fetch: respond });
  ready();
} else if ("Deno" in globalThis) {
  Deno.serve({ port: Number(port), hostname, reusePort: true, onListen: ready }, respond);
} else {
  const server = createServer((request, response) => {
    const { body, type } = answer(request.url ?? "/");
    response.setHeader("content-type", type);
    response.end(body);
  });
  server.listen({ port: Number(port), host: hostname, reusePort: true }, ready);
}

process.stdin.on("end", () => process.exit(0)).resume();
