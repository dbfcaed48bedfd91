/** Real servers for the bridges' tests, on loopback, with their files in a folder of the test. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as net from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export const engines = ["nats", "redis"] as const;
export type Engine = (typeof engines)[number];

/** Why the engine's server can't be had here; undefined if it can. */
export function missingServer(engine: Engine): string | undefined {
  const command = `${engine}-server`;
  const { error } = spawnSync(command, ["--version"], { stdio: "ignore" });
  return error === undefined ? undefined : `${command} is not installed (Debian: ${command})`;
}

/** Files of a certificate authority, and of a certificate by it for localhost, which server and client both show. */
export interface Certificates {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** Why there can be no certificates here; undefined if there can. */
export function missingCertificates(): string | undefined {
  return spawnSync("openssl", ["version"]).error === undefined ? undefined : "openssl is not installed";
}

export function makeCertificates(folder: string): Certificates {
  fs.mkdirSync(folder, { recursive: true });
  const openssl = (...args: string[]): void => {
    const { status, stderr } = spawnSync("openssl", args, { cwd: folder, encoding: "utf8" });
    if (status !== 0) throw new Error(`openssl ${args[0]}: ${stderr}`);
  };
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  openssl("req", "-x509", ...key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority");
  openssl("req", ...key, "-keyout", "own.key", "-out", "own.csr", "-subj", "/CN=localhost");
  fs.writeFileSync(join(folder, "own.ext"), "subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n");
  openssl("x509", "-req", "-in", "own.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "own.pem", "-days", "2", "-extfile", "own.ext");
  return { ca: join(folder, "ca.pem"), cert: join(folder, "own.pem"), key: join(folder, "own.key") };
}

/** A port that is free now. */
export async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function answers(port: number): Promise<boolean> {
  return await new Promise<boolean>((resolve) => {
    const socket = net.connect({ port, host: "127.0.0.1" });
    socket.on("error", () => resolve(false));
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
  });
}

const running = new Set<ChildProcess>();
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));

/** A server that can be killed, paused and started again with what it has on storage. */
export class Server {
  readonly engine: Engine;
  readonly port: number;
  readonly #folder: string;
  readonly #durable: boolean;
  readonly #tls: Certificates | undefined;
  #child: ChildProcess | undefined;

  private constructor(engine: Engine, port: number, folder: string, durable: boolean, tls: Certificates | undefined) {
    this.engine = engine;
    this.port = port;
    this.#folder = folder;
    this.#durable = durable;
    this.#tls = tls;
  }

  /** Starts one; `durable`: as the guide says for who must not lose a confirmed record at a kill -9. With `tls` it takes nothing else, and asks for a certificate. */
  static async start(engine: Engine, folder: string, durable = true, tls?: Certificates): Promise<Server> {
    fs.mkdirSync(folder, { recursive: true });
    const server = new Server(engine, await freePort(), folder, durable, tls);
    await server.start();
    return server;
  }

  async start(): Promise<void> {
    const [command, args] = this.#commandLine();
    const child = spawn(command, args, { stdio: ["ignore", "ignore", fs.openSync(join(this.#folder, "log"), "a")] });
    running.add(child);
    child.on("exit", () => running.delete(child));
    this.#child = child;
    for (const end = Date.now() + 20_000; !(await answers(this.port)); await sleep(10)) {
      if (Date.now() < end && child.exitCode === null && child.signalCode === null) continue;
      throw new Error(`${command} does not answer:\n${fs.readFileSync(join(this.#folder, "log"), "utf8").slice(-2000)}`);
    }
  }

  #commandLine(): [string, string[]] {
    if (this.engine === "redis") {
      const durable = ["--appendonly", "yes", "--appendfsync", this.#durable ? "always" : "everysec"];
      const { ca, cert, key } = this.#tls ?? {};
      const port = this.#tls === undefined ? ["--port", String(this.port)] : ["--port", "0", "--tls-port", String(this.port), "--tls-ca-cert-file", `${ca}`, "--tls-cert-file", `${cert}`, "--tls-key-file", `${key}`];
      return ["redis-server", ["--bind", "127.0.0.1", ...port, "--dir", this.#folder, "--save", "", ...durable]];
    }
    const config = join(this.#folder, "nats.conf");
    const tls = this.#tls === undefined ? "" : `tls { cert_file: "${this.#tls.cert}", key_file: "${this.#tls.key}", ca_file: "${this.#tls.ca}", verify: true }\n`;
    fs.writeFileSync(config, `listen: "127.0.0.1:${this.port}"\njetstream { store_dir: "${join(this.#folder, "store")}" }\n${tls}`);
    return ["nats-server", ["-c", config]];
  }

  signal(name: NodeJS.Signals): void {
    this.#child?.kill(name);
  }

  /** As nothing can be prepared for; waits until it is gone. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }

  /** How to connect to it, or to a proxy in front of it. */
  connection(port: number = this.port): { servers: string } | { url: string } {
    return this.engine === "nats" ? { servers: `nats://127.0.0.1:${port}` } : { url: `redis://127.0.0.1:${port}` };
  }
}

/** A TCP proxy that can stop passing on what one side says, as a network does that loses acknowledgements. */
export class Proxy {
  readonly port: number;
  readonly #server: net.Server;
  readonly #pairs = new Set<[client: net.Socket, server: net.Socket]>();
  /** What is dropped: the server's answers, the client's, or nothing. */
  drop: "server" | "client" | undefined;
  #held = false;

  private constructor(server: net.Server, port: number) {
    this.#server = server;
    this.port = port;
  }

  static async start(target: number): Promise<Proxy> {
    const server = net.createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const proxy = new Proxy(server, (server.address() as net.AddressInfo).port);
    server.on("connection", (client) => {
      const remote = net.connect({ port: target, host: "127.0.0.1" });
      const pair: [net.Socket, net.Socket] = [client, remote];
      proxy.#pairs.add(pair);
      const end = (): void => {
        proxy.#pairs.delete(pair);
        client.destroy();
        remote.destroy();
      };
      const pass = (from: net.Socket, to: net.Socket, side: "client" | "server"): void => {
        from.on("data", (data) => {
          if (proxy.drop === side) return;
          if (!to.write(data)) from.pause();
        });
        to.on("drain", () => {
          if (!proxy.#held) from.resume();
        });
        from.on("error", end).on("close", end);
      };
      pass(client, remote, "client");
      pass(remote, client, "server");
      if (proxy.#held) for (const socket of pair) socket.pause();
    });
    return proxy;
  }

  /** Drops what the side says for `ms`, then ends the connections. */
  async lose(side: "server" | "client", ms: number): Promise<void> {
    this.drop = side;
    await sleep(ms);
    this.cut();
    this.drop = undefined;
  }

  /** Passes nothing on while `action` runs; what was passed on before has a moment to arrive. */
  async held(action: () => Promise<void>): Promise<void> {
    this.#held = true;
    for (const pair of this.#pairs) for (const socket of pair) socket.pause();
    try {
      await sleep(200);
      await action();
    } finally {
      this.#held = false;
      for (const pair of this.#pairs) for (const socket of pair) socket.resume();
    }
  }

  /** Ends all connections. */
  cut(): void {
    for (const [client, remote] of this.#pairs) {
      client.destroy();
      remote.destroy();
    }
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
