/** Runs `holdfast bridge` with the arguments of this process. */
import process from "node:process";
import { bridge } from "../../cli/bridge.ts";

process.exitCode = await bridge(process.argv.slice(2));
