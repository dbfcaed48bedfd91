/** Redis servers of the bench's own, on loopback, at ports that are free. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { connect, createServer, type AddressInfo } from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** What is said of the program; undefined if there is none. */
export function redisVersion(): string | undefined {
  const { stdout, status } = spawnSync("redis-server", ["--version"], { encoding: "utf8" });
  return status === 0 ? /v=(\S+)/.exec(stdout)?.[1] : undefined;
}

export interface RedisServer {
  readonly port: number;
  /** Ends it at once; resolves when it is gone. */
  stop(): Promise<void>;
}

/** `onStorage`: each command is answered once it is on storage. Otherwise nothing is written. */
export async function startRedis(folder: string, onStorage: boolean): Promise<RedisServer> {
  const dir = path.join(folder, onStorage ? "redis-storage" : "redis");
  mkdirSync(dir);
  const port = await freePort();
  const persistence = onStorage ? ["--appendonly", "yes", "--appendfsync", "always"] : ["--appendonly", "no"];
  const args = ["--port", `${port}`, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--daemonize", "no", ...persistence];
  const server = spawn("redis-server", args, { stdio: "ignore" });
  const gone = new Promise<void>((resolve) => server.once("exit", () => resolve()).once("error", () => resolve()));
  const stop = (): Promise<void> => {
    server.kill("SIGKILL");
    return gone;
  };
  for (let i = 0; i < 200; i++) {
    if (await accepts(port, server)) return { port, stop };
    await sleep(25);
  }
  await stop();
  throw new Error("redis-server does not answer");
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

function accepts(port: number, server: ChildProcess): Promise<boolean> {
  if (server.exitCode !== null) throw new Error(`redis-server ended with exit code ${server.exitCode}`);
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}
