/** A child that gives up being root and tells, as JSON, what it may do with three objects. Usage: … SECRET READABLE SHARED */
import { SharedMemory } from "../../mod.ts";

const [secret, readable, shared] = process.argv.slice(2) as [string, string, string];
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

// The library is loaded while its files can be read for sure.
SharedMemory.create().close();
process.setgroups?.([]);
process.setgid?.(65534);
process.setuid?.(65534);

function attempt(call: () => string): string {
  try {
    return call();
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

const opened = (name: string, mode: "r" | "rw"): string =>
  attempt(() => {
    using object = SharedMemory.open(name, { mode });
    return text(object.read());
  });
const entry = (name: string) => SharedMemory.list().find((found) => found.name === name);

using reader = SharedMemory.open(readable, { mode: "r" });
const retention = reader.retain();
const retained = entry(readable)?.retained;
retention[Symbol.dispose]();

const result = {
  secret: { open: opened(secret, "r"), listed: entry(secret) !== undefined },
  readable: { open: opened(readable, "rw"), r: opened(readable, "r"), listed: entry(readable) !== undefined, retained, retainedAfter: entry(readable)?.retained },
  shared: {
    open: opened(shared, "rw"),
    listed: entry(shared) !== undefined,
    adopt: attempt(() => (SharedMemory.open(shared).adopt(), "adopted")),
    unlink: attempt(() => (SharedMemory.unlink(shared), "removed")),
  },
  reaped: SharedMemory.reap(),
};
{
  using object = SharedMemory.open(shared);
  object.write("by nobody");
}
console.log(JSON.stringify(result));
