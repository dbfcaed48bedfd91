/**
 * A process that locks a range of a file, told by a control file of 64-bit cells. Usage: locker.ts PATH CONTROL OFFSET LENGTH (shared|exclusive)
 * Cell 0 goes from 0 to 1 once it is locked; when somebody makes that 2 it lets go, and makes it 3. Cell 1 has its process id.
 */
import { Mapping } from "../../mod.ts";

const [path, control, offset, length, kind] = process.argv.slice(2) as [string, string, string, string, "shared" | "exclusive"];
const { atomics } = Mapping.open(control);
const mapping = Mapping.open(path);
atomics.store(8, process.pid);
const lock = mapping.lock({ offset: Number(offset), length: Number(length), shared: kind === "shared" });
atomics.store(0, 1);
await atomics.wait(0, 1, { timeoutMs: 20_000 });
lock[Symbol.dispose]();
atomics.store(0, 3);
