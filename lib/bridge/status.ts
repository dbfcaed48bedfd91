/**
 * What a bridge is doing, for programs, people and the shared metrics.
 *
 * @module
 */
import { Metrics } from "../metrics.ts";
import type { Counter, Gauge } from "../metrics/series.ts";

/** "standby": another holds the queue. "waiting": between two attempts to connect. */
export type BridgeState = "standby" | "connecting" | "running" | "waiting" | "stopped";

/** What a bridge has done since it was started, and what it is doing. */
export interface BridgeStatus {
  readonly state: BridgeState;
  /** Records that were confirmed by the remote and removed here, or received and acknowledged. */
  readonly records: number;
  /** Their payloads. */
  readonly bytes: number;
  /** Records that the other side had already, as a restart found out. */
  readonly skipped: number;
  readonly deadLetters: number;
  /** Connections that were lost, or could not be made. */
  readonly reconnects: number;
  /** Records that were sent and are not confirmed yet, or received and not acknowledged. */
  readonly inFlight: number;
  /** Records in the local queue that the bridge has still to forward; of a receiver, those that nobody has consumed. */
  readonly lag: number;
  /** The last record that the remote has confirmed: its sequence. Of a receiver, its position in the source. Undefined before the first. */
  readonly last: string | undefined;
  /** What went wrong last. */
  readonly lastError: string | undefined;
}

type Writable<T> = { -readonly [Name in keyof T]: T[Name] };

const COUNTS = {
  records: ["holdfast_bridge_records_total", "Records that a bridge has carried over."],
  bytes: ["holdfast_bridge_bytes_total", "Bytes of their payloads."],
  skipped: ["holdfast_bridge_skipped_total", "Records that the other side had already after a restart."],
  deadLetters: ["holdfast_bridge_dead_letters_total", "Records that the other side refused for good."],
  reconnects: ["holdfast_bridge_reconnects_total", "Connections that were lost or could not be made."],
} as const;
const LEVELS = {
  inFlight: ["holdfast_bridge_in_flight_records", "Records that are under way."],
  lag: ["holdfast_bridge_lag_records", "Records in the local queue that are still to be carried over, or consumed."],
} as const;
const UPDATE_MS = 100;

/** Keeps the status, and writes it to a file of metrics now and then. */
export class StatusBoard {
  readonly now: Writable<BridgeStatus> = {
    state: "standby",
    records: 0,
    bytes: 0,
    skipped: 0,
    deadLetters: 0,
    reconnects: 0,
    inFlight: 0,
    lag: 0,
    last: undefined,
    lastError: undefined,
  };
  readonly #metrics: Metrics | undefined;
  readonly #own: boolean;
  readonly #counters: { readonly counter: Counter; readonly name: keyof typeof COUNTS }[] = [];
  readonly #gauges: { readonly gauge: Gauge; readonly name: keyof typeof LEVELS }[] = [];
  readonly #last: Gauge | undefined;
  readonly #up: Gauge | undefined;
  readonly #written: Partial<Record<keyof typeof COUNTS, number>> = {};
  #due = 0;

  constructor(metrics: Metrics | string | undefined, name: string) {
    this.#own = typeof metrics === "string";
    this.#metrics = typeof metrics === "string" ? Metrics.open(metrics) : metrics;
    const file = this.#metrics;
    if (file === undefined) return;
    const labels = ["bridge"] as const;
    for (const [key, [metric, help]] of Object.entries(COUNTS)) {
      this.#counters.push({ counter: file.counter(metric, { help, labels }).labels(name), name: key as keyof typeof COUNTS });
    }
    for (const [key, [metric, help]] of Object.entries(LEVELS)) {
      this.#gauges.push({ gauge: file.gauge(metric, { help, labels }).labels(name), name: key as keyof typeof LEVELS });
    }
    this.#last = file.gauge("holdfast_bridge_last_id", { help: "Sequence of the last record that the remote has confirmed, or that came from it.", labels }).labels(name);
    this.#up = file.gauge("holdfast_bridge_connected", { help: "Whether the bridge has a connection.", labels }).labels(name);
  }

  /** Writes the metrics if the last time is some while ago, or `force`. */
  write(force = false): void {
    if (this.#metrics === undefined || this.#metrics.closed) return;
    const time = performance.now();
    if (!force && time < this.#due) return;
    this.#due = time + UPDATE_MS;
    for (const { counter, name } of this.#counters) {
      const delta = this.now[name] - (this.#written[name] ?? 0);
      if (delta > 0) counter.inc(delta);
      this.#written[name] = this.now[name];
    }
    for (const { gauge, name } of this.#gauges) gauge.set(this.now[name]);
    this.#last?.set(Number.parseFloat(this.now.last ?? "0"));
    this.#up?.set(this.now.state === "running" ? 1 : 0);
  }

  close(): void {
    this.write(true);
    if (this.#own) this.#metrics?.close();
  }
}
