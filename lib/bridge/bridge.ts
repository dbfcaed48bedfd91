/**
 * Bridges between a local queue and an engine that spans machines. This entry has what does not depend on the engine; `holdfast/bridge/nats` and
 * `holdfast/bridge/redis` have it too, with a sink and a source.
 *
 * @module
 */
export {
  BridgeError,
  type IncomingRecord,
  type Origin,
  type OutgoingRecord,
  RefusedError,
  ResyncError,
  type Sink,
  type SinkConnection,
  type Source,
  type SourceConnection,
} from "./engine.ts";
export { type DeadLetter, deadLetterCodec } from "./dead_letters.ts";
export { type BridgeOptions, forward, type ForwardOptions, Forwarder } from "./forwarder.ts";
export type { BridgeState, BridgeStatus } from "./status.ts";
export { receive, type ReceiveOptions, Receiver } from "./receiver.ts";
export { type CounterDelta, CounterForwarder, type CounterForwarderOptions, CounterSums } from "./counters.ts";
