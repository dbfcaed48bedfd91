/**
 * What a bundler puts in the place of holdfast for browsers: the same names, so that a program that only imports it still runs, and a clear
 * error at the first use of one.
 *
 * @module
 */

function missing(name: string): never {
  throw Object.assign(
    new Error(`ERR_LIBRARY: ${name} of holdfast needs Bun, Deno or Node 26.9 or later: a browser has no files to map`),
    { code: "ERR_LIBRARY" },
  );
}

/** Stands for a class or function. `instanceof` and printing it are no use. */
function standIn(name: string): unknown {
  return new Proxy(class {}, {
    get: (target, key) => (typeof key === "symbol" || key === "prototype" || key === "name" ? Reflect.get(target, key) : missing(name)),
    apply: () => missing(name),
    construct: () => missing(name),
  });
}

export const BlockStore: unknown = standIn("BlockStore");
export const compressed: unknown = standIn("compressed");
export const Counter: unknown = standIn("Counter");
export const Counters: unknown = standIn("Counters");
export const DurabilityError: unknown = standIn("DurabilityError");
export const Gauge: unknown = standIn("Gauge");
export const Histogram: unknown = standIn("Histogram");
export const Int64Atomics: unknown = standIn("Int64Atomics");
export const LabelledMetric: unknown = standIn("LabelledMetric");
export const Lease: unknown = standIn("Lease");
export const MapError: unknown = standIn("MapError");
export const Mapping: unknown = standIn("Mapping");
export const Metrics: unknown = standIn("Metrics");
export const Queue: unknown = standIn("Queue");
export const QueueReport: unknown = standIn("QueueReport");
export const SharedMemory: unknown = standIn("SharedMemory");
