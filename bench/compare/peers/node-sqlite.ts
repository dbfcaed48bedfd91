/** node:sqlite. */
import { DatabaseSync } from "node:sqlite";
import type { Peer } from "../peer.ts";
import { type Database, sqlite } from "./sqlite.ts";

const peer: Peer = sqlite((file) => new DatabaseSync(file) as Database);
export default peer;
