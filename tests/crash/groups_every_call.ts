/**
 * A child that does a fixed list of things with the groups of a log and kills itself at its n-th native call, before or after it. What it
 * has done it says on stdout, one line each, written before it goes on.
 *
 * Usage: groups_every_call.ts LOG N before|after
 */
import { type Lease, Queue } from "../../mod.ts";
import { arm, say } from "../support/mortal.ts";

const [path, at, when] = process.argv.slice(2) as [string, string, string];

const groups = { a: Queue.open<string>(path, { group: "a", codec: "text" }), b: Queue.open<string>(path, { group: "b", codec: "text" }) };
type Name = keyof typeof groups;
const state = arm(Number(at), when);
const big = "x".repeat(1500);
const short = (values: readonly (string | undefined)[]): string => values.map((value) => value?.slice(0, 2)).join(" ");

function push(...values: string[]): void {
  say(`pushing ${short(values)}`);
  groups.a.pushMany(values);
  say("pushed");
}
function take(name: Name, count: number): void {
  say(`taking ${name} ${count}`);
  const values = count === 1 ? [groups[name].pop()] : groups[name].popMany(count);
  say(`took ${name} ${short(values)}`);
}
function ack(name: Name, lease: Lease<string> | undefined): void {
  say(`acking ${name} ${lease?.value.slice(0, 2)}`);
  try {
    lease?.ack();
  } catch (error) {
    // Given up by the limits meanwhile.
    if ((error as { code?: string }).code !== "ERR_STALE_LEASE") throw error;
  }
  say(`acked ${name}`);
}

push("a1", `a2${big}`, `a3${big}`, `a4${big}`); // over the end of a segment
const first = groups.a.lease();
const second = groups.a.lease();
say(`leased ${short([first?.value, second?.value])}`);
ack("a", second);
take("b", 3);
first?.release();
say("making c");
Queue.open<string>(path, { group: "c", codec: "text" }).close();
say("made c");
take("a", 3);
push(`b1${big}`, `b2${big}`, `b3${big}`);
const third = groups.b.lease();
push(`c1${big}`, `c2${big}`);
ack("b", third);
take("a", 2);
say("removing c");
groups.a.removeGroup("c");
say("removed c");
take("b", 9);
groups.b.compact();
take("a", 9);
say(`done ${state.calls}`);
