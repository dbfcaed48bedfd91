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
  #child: ChildProcess | undefined;

  private constructor(engine: Engine, port: number, folder: string, durable: boolean) {
    this.engine = engine;
    this.port = port;
    this.#folder = folder;
    this.#durable = durable;
  }

  /** Starts one; `durable`: as the guide says for who must not lose a confirmed record at a kill -9. */
  static async start(engine: Engine, folder: string, durable = true): Promise<Server> {
    fs.mkdirSync(folder, { recursive: true });
    const server = new Server(engine, await freePort(), folder, durable);
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
      return ["redis-server", ["--bind", "127.0.0.1", "--port", String(this.port), "--dir", this.#folder, "--save", "", ...durable]];
    }
    const config = join(this.#folder, "nats.conf");
    fs.writeFileSync(config, `listen: "127.0.0.1:${this.port}"\njetstream { store_dir: "${join(this.#folder, "store")}" }\n`);
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
