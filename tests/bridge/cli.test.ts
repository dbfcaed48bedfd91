/** `holdfast bridge`: under the runtime of the test. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { Queue } from "../../mod.ts";
import { atEnd } from "../support/cleanup.ts";
import { commandLine, currentRuntime, root } from "../support/runtimes.ts";
import { skipFor } from "../support/skip.ts";
import { children, type Ending } from "../support/spawn.ts";
import { temporaryFiles } from "../support/temporary.ts";
import { fill, readAll } from "./remote.ts";
import { type Engine, engines, makeCertificates, missingCertificates, missingServer, Server } from "./servers.ts";

const files = temporaryFiles();
const processes = children();
const program = join(root, "cli/main.ts");
const servers: Server[] = [];
const running = new Set<ChildProcess>();
const killAll = (): void => {
  servers.forEach((server) => server.signal("SIGKILL"));
  running.forEach((child) => child.kill("SIGKILL"));
};
atEnd(async () => {
  killAll();
  await Promise.all(servers.map((server) => server.kill()));
}, killAll);

function run(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ending> {
  const [executable, all] = commandLine(currentRuntime, program, "bridge", ...args);
  return processes.run(executable, all, { env: { ...process.env, ...env } });
}

interface Live {
  /** All that it has said, on either stream. */
  readonly text: string;
  says(pattern: RegExp): Promise<void>;
  /** Ends it by a signal, which it takes as a request. */
  end(signal: NodeJS.Signals): Promise<void>;
}

/** A command that runs until it is told to end. */
function started(args: readonly string[], env: NodeJS.ProcessEnv = {}): Live {
  const [executable, all] = commandLine(currentRuntime, program, "bridge", ...args);
  const child = spawn(executable, all, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env } });
  running.add(child);
  const gone = new Promise<number | null>((resolve) => child.once("close", (code) => resolve(code))).finally(() => running.delete(child));
  let text = "";
  const bell = new EventTarget();
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (more: string) => {
      text += more;
      bell.dispatchEvent(new Event("more"));
    });
  }
  return {
    get text() {
      return text;
    },
    async says(pattern) {
      await new Promise<void>((resolve, reject) => {
        const look = (): void => void (pattern.test(text) && resolve());
        bell.addEventListener("more", look);
        void gone.then(() => reject(new Error(`it ended without saying ${pattern}:\n${text}`)));
        look();
      });
    },
    async end(signal) {
      child.kill(signal);
      const code = await gone;
      // Deno tells its parent's node:child_process the signal that was sent, not how the child ended.
      if (currentRuntime !== "deno") assert.equal(code, 0, text);
    },
  };
}

async function serverOf(engine: Engine): Promise<Server> {
  const server = await Server.start(engine, files.next(engine), false);
  servers.push(server);
  return server;
}

for (const engine of engines) {
  const name = `${engine}: a queue is forwarded until it is empty, and another one receives the stream`;
  test(name, skipFor(name, missingServer(engine)), async () => {
    const server = await serverOf(engine);
    const url = Object.values(server.connection())[0] as string;
    const path = files.next("queue");
    {
      using queue = Queue.open<string>(path, { codec: "text" });
      queue.pushMany(["a", "b", "c"]);
    }
    const create = engine === "nats" ? ["--create"] : [];
    const out = await run([engine, path, "--stream", "CLI", "--server", url, ...create, "--until-empty"]);
    assert.equal(out.code, 0, out.stderr);
    assert.match(out.stderr, /stopped · .* 3 in all · lag 0 · under way 0 · last id 3/);
    assert.deepEqual((await readAll(engine, server.port, "CLI")).map(({ text }) => text), ["a", "b", "c"]);

    const there = files.next("queue");
    const live = started([engine, there, "--receive", "--stream", "CLI", "--server", url, "--json"]);
    await live.says(/"state":"running","records":3,/);
    await live.end("SIGTERM");
    assert.match(live.text.trimEnd().split("\n").at(-1) as string, /"state":"stopped","records":3,/);
    using queue = Queue.open<string>(there, { codec: "text" });
    assert.deepEqual([...queue], ["a", "b", "c"]);
  });
}

for (const engine of engines) {
  const name = `${engine}: with TLS, and a certificate of one's own`;
  test(name, skipFor(name, missingServer(engine) ?? missingCertificates()), async () => {
    const certificates = makeCertificates(files.next("certificates"));
    const server = await Server.start(engine, files.next(engine), false, certificates);
    servers.push(server);
    const { ca, cert, key } = certificates;
    const url = `${engine === "nats" ? "tls" : "rediss"}://localhost:${server.port}`;
    const own = ["--ca", ca, "--cert", cert, "--key", key];
    const path = files.next("queue");
    {
      using queue = Queue.open<string>(path, { codec: "text" });
      queue.pushMany(["a", "b", "c"]);
    }
    const out = [engine, path, "--stream", "TLS", "--server", url, ...(engine === "nats" ? ["--create"] : [])];
    // Without the authority the server's certificate means nothing; nothing is sent, and the bridge says why.
    const lonely = started(out);
    await lonely.says(/certificate|UnknownIssuer|self.signed/i);
    await lonely.end("SIGTERM");
    const sent = await run([...out, ...own, "--until-empty"]);
    assert.equal(sent.code, 0, sent.stderr);
    assert.match(sent.stderr, /stopped · .* 3 in all · lag 0 · under way 0 · last id 3/);

    const there = files.next("queue");
    const live = started([engine, there, "--receive", "--stream", "TLS", "--server", url, "--json", ...own]);
    await live.says(/"state":"running","records":3,/);
    await live.end("SIGTERM");
    using queue = Queue.open<string>(there, { codec: "text" });
    assert.deepEqual([...queue], ["a", "b", "c"]);
  });
}

test("a command line that makes no sense is exit code 2 and says why", async () => {
  const cases: readonly (readonly [readonly string[], RegExp, NodeJS.ProcessEnv?])[] = [
    [[], /first argument must be nats or redis; received none/],
    [["kafka", "q"], /received 'kafka'/],
    [["nats"], /which queue/],
    [["nats", "q"], /--stream is missing/],
    [["nats", "q", "--stream", "s", "--field", "f"], /--field is for Redis only/],
    [["redis", "q", "--stream", "s", "--receive", "--group", "g"], /--group is for forwarding only/],
    [["nats", "q", "--stream", "s", "--pasword", "x"], /--pasword/],
    [["nats", "q", "--stream", "s", "--server", "nats://user:secret@host"], /password in it/],
    [["redis", files.next(), "--stream", "s", "--receive", "--durability", "often"], /"durability" must be "process" or "each"; received "often"/],
    [["redis", "q", "--stream", "s"], /both set/, { HOLDFAST_BRIDGE_PASSWORD: "x", HOLDFAST_BRIDGE_PASSWORD_FILE: "y" }],
    [["redis", "q", "--stream", "s"], /HOLDFAST_BRIDGE_PASSWORD_FILE: ENOENT/, { HOLDFAST_BRIDGE_PASSWORD_FILE: "/nowhere" }],
  ];
  const endings = await Promise.all(cases.map(([args, , env]) => run(args, env)));
  endings.forEach(({ code, stdout, stderr }, i) => {
    assert.equal(code, 2, `${cases[i]?.[0].join(" ")}: ${stderr}`);
    assert.equal(stdout, "");
    assert.match(stderr, cases[i]?.[1] as RegExp);
    assert.ok(!stderr.includes("secret"), stderr);
  });
  const { code, stdout } = await run(["--help"]);
  assert.equal(code, 0);
  for (const option of ["stream", "server", "receive", "group", "dead-letter", "metrics", "name", "durability", "start", "subject", "field", "create", "ca", "cert", "key", "until-empty", "json", "quiet"]) {
    assert.match(stdout, new RegExp(`--${option}`));
  }
});

const secret = "redis: a password comes from a file, a wrong one is told and tried again";
test(secret, skipFor(secret, missingServer("redis")), async () => {
  const server = await serverOf("redis");
  const url = Object.values(server.connection())[0] as string;
  await fill("redis", server.port, "CLI", ["x"]);
  const { createClient } = await import("@redis/client");
  const client = createClient({ url });
  await client.connect();
  await client.configSet("requirepass", "opensesame");
  client.destroy();
  const path = files.next("queue");
  {
    using queue = Queue.open<string>(path, { codec: "text" });
    queue.push("one");
  }
  const file = files.file("opensesame\n", "password");
  const { code, stderr } = await run(["redis", path, "--stream", "OTHER", "--server", url, "--until-empty"], { HOLDFAST_BRIDGE_PASSWORD_FILE: file });
  assert.equal(code, 0, stderr);
  assert.match(stderr, /1 in all/);

  const live = started(["redis", path, "--stream", "OTHER", "--server", url], { HOLDFAST_BRIDGE_PASSWORD: "not this" });
  await live.says(/WRONGPASS/);
  await live.end("SIGINT");
  assert.match(live.text, /bridge: stopped/);
  assert.ok(!live.text.includes("not this"), live.text);
});
