/** bun:sqlite. */
import type { Database as BunDatabase } from "bun:sqlite";
import { type Database, sqlite } from "./sqlite.ts";
import type { Peer } from "../peer.ts";

const { Database } = (await import("bun:sqlite")) as unknown as { Database: typeof BunDatabase };
const peer: Peer = sqlite((file) => new Database(file, { create: true }) as unknown as Database);
export default peer;
