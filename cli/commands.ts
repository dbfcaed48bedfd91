/** All commands, in the order of the help. */
import type { Command } from "./command.ts";
import { bench } from "./commands/bench.ts";
import { counterCommands } from "./commands/counters.ts";
import { doctor } from "./commands/doctor.ts";
import { info } from "./commands/info.ts";
import { mapCommands } from "./commands/map.ts";
import { metricsCommands } from "./commands/metrics.ts";
import { queueCommands } from "./commands/queue.ts";
import { shmCommands } from "./commands/shm.ts";
import { top } from "./commands/top.ts";
import { work } from "./commands/work.ts";

export const commands: readonly Command[] = [
  info,
  ...queueCommands,
  work,
  ...counterCommands,
  ...metricsCommands,
  ...shmCommands,
  ...mapCommands,
  top,
  bench,
  doctor,
];
