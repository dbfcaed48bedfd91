/**
 * Memory-mapped files, shared 64-bit atomics, persistent counters and a persistent queue for Bun, Deno and Node.
 *
 * @example
 * ```ts
 * import { Queue } from "holdfast";
 * using queue = Queue.open<string>("/tmp/example.queue", { codec: "text" });
 * queue.push("hello");
 * queue.pop(); // "hello"
 * ```
 *
 * @module
 */
export { Int64Atomics, type WaitOptions, type WaitResult } from "./lib/atomics.ts";
export { BlockStore, type BlockRange, type BlockReport, type BlockStoreOptions } from "./lib/block_store.ts";
export { type CounterKey, Counters, type CountersOptions } from "./lib/counters.ts";
export { MapError, type MapErrorDetails } from "./lib/errors.ts";
export {
  type Advice,
  type DebugListener,
  type FlushOptions,
  type LinesOptions,
  type LockOptions,
  Mapping,
  type MappingOptions,
  type MemoryOptions,
  type RangeOptions,
  type ReadableOptions,
  type WriteData,
} from "./lib/mapping.ts";
export { Lease, type LeaseOptions, type PushManyOptions, Queue, type QueueOptions, type TakeOptions } from "./lib/queue.ts";
export type { AheadRecord, ReadAhead } from "./lib/queue/ahead.ts";
export type { Codec, JsonValue } from "./lib/queue/codec.ts";
export { compressed, type CompressionOptions } from "./lib/queue/compressed.ts";
export { DurabilityError } from "./lib/queue/durability.ts";
export type { QueueGroup } from "./lib/queue/groups.ts";
export {
  type QueueDamage,
  type QueueDamageCode,
  type QueueGap,
  QueueReport,
  type QueueReportData,
  type QueueReportGroup,
  type QueueSegment,
  type QueueShape,
} from "./lib/queue/report.ts";
export type { QueueHandle, QueueStats } from "./lib/queue/stats.ts";
export {
  type ExposeOptions,
  type HistogramOptions,
  LabelledMetric,
  type Metric,
  type MetricOptions,
  Metrics,
  type MetricsOptions,
} from "./lib/metrics.ts";
export type { MetricsFormat } from "./lib/metrics/expose.ts";
export type { LabelValue } from "./lib/metrics/names.ts";
export { Counter, Gauge, Histogram } from "./lib/metrics/series.ts";
export { SharedMemory, type SharedMemoryEntry, type SharedMemoryOpenOptions, type SharedMemoryOptions } from "./lib/shared_memory.ts";
