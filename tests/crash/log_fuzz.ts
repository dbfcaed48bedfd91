/**
 * Damaged logs, as queue_fuzz.ts damages queues, the files of their groups included. What must come of it, for each group: a clear error or the right
 * records; never a wrong one, never fewer without a word, never a hang; `Queue.verify` tells of damage whenever anything was lost, or a group's place
 * is not known; and a group goes on after a recovery.
 *
 * Usage: log_fuzz.ts COUNT SEED [FIRST]. Prints a line of figures; a failure names round, seed and damage.
 */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { LEASES, SLOTS } from "../../lib/layout/queue.ts";
import { Queue, type QueueReport } from "../../mod.ts";
import { assertAmong, errorOf, type Files, fuzz, type FuzzFigures, type FuzzOptions, main, type Outcome, readFiles, type Sample, sameFiles, valueOf, writeFiles } from "./queue_fuzz.ts";

const GROUPS = ["a", "b"];
const NEW = ["new one", "new two"];

/** A sound log. */
interface Template extends Sample {
  readonly pushed: readonly string[];
  /** What each group has yet to remove, in order, leased records included. */
  readonly left: ReadonlyMap<string, readonly string[]>;
}

function template(folder: string, tag: string, use: (groups: readonly Queue<string>[], push: (count: number) => void) => void, retainBytes?: number): Template {
  const path = join(folder, `template-${tag}`);
  const pushed: string[] = [];
  const handles = GROUPS.map((group) => Queue.open<string>(path, { codec: "text", capacityBytes: 8192, group, ...(retainBytes === undefined ? {} : { retainBytes }) }));
  use(handles, (count) => {
    for (let i = 0; i < count; i++) {
      const value = valueOf(tag, pushed.length);
      pushed.push(value);
      handles[0]?.push(value);
    }
  });
  const left = new Map(GROUPS.map((group, i) => [group, [...(handles[i] as Queue<string>)]]));
  for (const handle of handles) handle.close();
  const files = readFiles(path);
  const report = Queue.verify(path);
  assert.ok(report.ok, String(report));
  assert.deepEqual(report.groups.map(({ length }) => length), GROUPS.map((group) => left.get(group)?.length));
  fs.rmSync(path, { recursive: true });
  return { name: tag, id: report.id, files, pushed, left };
}

function templates(folder: string): Template[] {
  return [
    template(folder, "few", (_, push) => push(9)),
    template(folder, "several", ([a, b], push) => {
      push(180);
      a?.popMany(50);
      b?.popMany(120);
    }),
    template(folder, "leased", ([a, b], push) => {
      push(150);
      a?.popMany(10);
      for (let i = 0; i < 6; i++) a?.lease();
      a?.lease()?.ack();
      a?.popMany(60);
      for (let i = 0; i < 3; i++) b?.lease();
    }),
    template(folder, "read", ([a, b], push) => {
      push(200);
      a?.popMany(200);
      b?.popMany(200);
    }),
    template(folder, "limits", ([a, b], push) => {
      b?.lease();
      push(20);
      a?.lease();
      push(250);
      a?.popMany(30);
    }, 5000),
  ];
}

const openGroup = (path: string, group: string, mode: "r" | "rw"): Queue<string> => Queue.open<string>(path, { codec: "text", group, mode });

/** Asserts that nothing is missing from what the groups have that the report does not tell of. */
function assertKept(found: ReadonlyMap<string, readonly string[]>, report: QueueReport, { left, id }: Template): void {
  // Where most of the files are another log's, it is that one.
  if (report.id !== id) return;
  // Without the cells, how far the log went, or a group, is not known; without them not all that is lost can be counted.
  const uncounted = report.damage.some(({ code, file }) => code === "control" || code === "producer-cell" || (code === "consumer-cell" && file === "control"));
  for (const [group, values] of found) {
    const missing = (left.get(group) as readonly string[]).filter((value) => !values.includes(value)).length;
    if (missing > report.lost) assert.ok(uncounted, `${missing} are missing for ${group}: ${report}`);
    if (missing > 0) assert.ok(!report.ok);
  }
}

function sameButSlots(path: string, files: Files): boolean {
  const control = files.get("control") as Uint8Array;
  const now = new Uint8Array(fs.readFileSync(join(path, "control")));
  now.set(control.subarray(SLOTS, LEASES), SLOTS);
  fs.writeFileSync(join(path, "control"), now);
  return sameFiles(path, files);
}

/** One damaged directory, all through. */
function examine(folder: string, files: Files, original: Template, other: Template): Outcome {
  const { left, pushed } = original;
  const path = join(folder, "queue");
  const fresh = (): void => {
    fs.rmSync(folder, { recursive: true, force: true });
    writeFiles(path, files);
  };
  fresh();
  const all = (id: string | undefined): readonly string[] => [...(id === other.id ? other.pushed : pushed), ...NEW, "last"];
  let report: QueueReport | undefined;
  const refusal = errorOf(() => {
    report = Queue.verify(path);
    assert.deepEqual((JSON.parse(JSON.stringify(report)) as QueueReport).groups, report.groups);
    assert.ok(String(report).startsWith(path));
  });
  const told = report === undefined || !report.ok;
  const named = `verify: ${refusal?.message ?? String(report)}`;

  // Looked at only.
  for (const group of GROUPS) {
    const values = left.get(group) as readonly string[];
    let seen: string[] = [];
    const error = files.has(`group-6${group === "a" ? 1 : 2}`)
      ? errorOf(() => {
        seen = [];
        using queue = openGroup(path, group, "r");
        const { length } = queue;
        for (const value of queue) seen.push(value);
        assert.equal(length, seen.length, "length");
      })
      : undefined;
    assertAmong(seen, values, `iteration of ${group}`);
    if (error !== undefined) assert.ok(told, `${error.message}; but ${named}`);
    else if (files.has(`group-6${group === "a" ? 1 : 2}`)) assert.deepEqual(seen, values, `an iteration of ${group} without an error has all; ${named}`);
  }
  assert.ok(sameFiles(path, files), "looking changed the files");

  // Pushed to and emptied, by each group that there is.
  const accepted: string[] = [];
  let opened = 0;
  let failed = false;
  let healed: QueueReport | undefined;
  const popped = new Map<string, string[]>();
  const present = GROUPS.filter((group) => files.has(`group-6${group === "a" ? 1 : 2}`));
  const errors = new Set<string>();
  for (const group of present) {
    const own: string[] = [];
    const error = errorOf(() => {
      using queue = openGroup(path, group, "rw");
      opened++;
      healed ??= queue.recovered;
      const pushError = errorOf(() => {
        for (const value of NEW.filter((each) => !accepted.includes(each))) {
          assert.equal(queue.push(value), true);
          accepted.push(value);
        }
      });
      for (let value = queue.pop(); value !== undefined; value = queue.pop()) own.push(value);
      assert.equal(queue.length, 0);
      if (pushError !== undefined) throw pushError;
    });
    if (error !== undefined) {
      failed = true;
      errors.add(group);
      assert.ok(told, `${error.message}; but ${named}`);
    }
    popped.set(group, own);
  }
  // But for the slot that a handle takes before it opens its group.
  if (opened === 0 && present.length > 0) assert.ok(sameFiles(path, files) || sameButSlots(path, files), "a log that could not be opened was changed");
  for (const [group, values] of popped) {
    assertAmong(values, healed === undefined ? [...(left.get(group) as readonly string[]), ...NEW] : all(healed.id), `pop of ${group}`);
    if (healed === undefined && !errors.has(group)) assert.deepEqual(values, [...(left.get(group) as readonly string[]), ...accepted], `without an error all come out of ${group}; ${named}`);
  }
  if (healed !== undefined && errors.size === 0) assertKept(popped, healed, original);

  // Recovered.
  fresh();
  let repaired: QueueReport | undefined;
  const recoverError = errorOf(() => {
    repaired = Queue.recover(path);
  });
  let kept = 0;
  if (repaired !== undefined) {
    const after = Queue.verify(path);
    assert.ok(after.ok, `still damaged: ${after}`);
    assert.deepEqual(after.groups.map(({ name, length, leased, missed }) => [name, length, leased, missed]), repaired.groups.map(({ name, length, leased, missed }) => [name, length, leased, missed]), String(repaired));
    if (repaired.quarantine !== undefined) {
      const saved = [...files].filter(([name]) => /^(control|segment-\d+)$/.test(name) || (name.startsWith("group-") && repaired?.log));
      assert.ok(sameFiles(repaired.quarantine, new Map(saved)), "the quarantine has the files as they were");
    }
    // Without a control file, a group or a segment that was gone on from, nothing says that it was a log.
    if (repaired.log) {
      if (repaired.id === original.id) assert.deepEqual(repaired.groups.map(({ name }) => name), present, "each group goes on");
      const found = new Map(repaired.groups.map(({ name, length }): [string, string[]] => {
        using queue = openGroup(path, name, "rw");
        assert.equal(queue.recovered, undefined);
        const values = [...queue];
        assert.equal(values.length, length);
        return [name, values];
      }));
      {
        using log = Queue.open<string>(path, { codec: "text", groups: true });
        assert.equal(log.push("last"), true);
        kept = log.length;
      }
      for (const [name, values] of found) {
        assertAmong(values, all(repaired.id), `recovered, ${name}`);
        using queue = openGroup(path, name, "rw");
        assert.deepEqual(queue.popMany(values.length + 2), [...values, "last"]);
        assert.deepEqual([queue.length, queue.byteLength], [0, 0]);
      }
      assertKept(found, repaired, original);
      assert.ok(Queue.verify(path).ok);
    }
  } else assert.ok(recoverError !== undefined && refusal !== undefined, `recover fails where verify does not: ${recoverError?.message}`);
  return { refused: opened === 0, failed, report, repaired, kept };
}

export function fuzzLogs(options: FuzzOptions): FuzzFigures {
  return fuzz(options, templates(options.folder), examine);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) main(fuzzLogs);
