/**
 * A sink of one's own: forwards a queue to one partition of a topic of Kafka, with the client `@platformatic/kafka`. It shows what a sink has to do; see
 * docs/bridge.md.
 *
 * Kafka does not say "only behind the record before", so batches go one after the other, each confirmed by all replicas, and the partition's last record
 * says where the bridge is. What is left: a batch that a killed bridge had on the wire may arrive after the next bridge has looked, and then comes twice. Each
 * record has the header `holdfast-id`, by which a consumer can tell. Nobody else may produce to the partition.
 *
 * It was run against the broker that librdkafka has for its own tests, which took 2,000 records as they were; not against a Kafka, and so `last()`, which
 * that broker can't answer, not beyond an empty topic.
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { Admin, Consumer, FetchIsolationLevels, ListOffsetTimestamps, MessagesStreamModes, Producer } from "@platformatic/kafka";
import { BridgeError, forward, type OutgoingRecord, type Sink, type SinkConnection } from "../lib/bridge/bridge.ts";

const ID = "holdfast-id";
const TIMEOUT_MS = 5000;

interface KafkaSinkOptions {
  readonly brokers: string[];
  readonly topic: string;
  readonly partition: number;
}

export function kafkaSink({ brokers, topic, partition }: KafkaSinkOptions): Sink {
  return {
    name: `kafka:${topic}/${partition}`,
    async connect({ queueId }): Promise<SinkConnection> {
      // No retries of its own: when something fails, the bridge asks where it is.
      const common = { clientId: `holdfast-${queueId}`, bootstrapBrokers: brokers, retries: 0, timeout: TIMEOUT_MS, connectTimeout: TIMEOUT_MS };
      const producer = new Producer<Buffer, Buffer, Buffer, Buffer>({ ...common, acks: -1, autocreateTopics: true });
      let before: Promise<unknown> = Promise.resolve();
      return {
        maxPayloadBytes: 900_000, // Kafka's message.max.bytes is 1 MiB with everything, unless it was set
        async last() {
          // All that was sent before is answered first.
          await before.catch(() => {});
          before = Promise.resolve();
          return await lastSequence({ brokers, topic, partition }, common.clientId, queueId);
        },
        send(records: readonly OutgoingRecord[]) {
          const messages = records.map(({ sequence, payload }) => ({
            topic,
            partition,
            value: Buffer.from(payload),
            headers: new Map([[Buffer.from(ID), Buffer.from(`${queueId}:${sequence}`)]]),
          }));
          // Once a batch has failed, those behind it fail too, unsent.
          const sent = before.then(() => producer.send({ messages }));
          before = sent;
          return sent.then(() => {});
        },
        async close() {
          await producer.close().catch(() => {});
        },
      };
    },
  };
}

/** The sequence of the partition's last record; 0 if there is none. */
async function lastSequence({ brokers, topic, partition }: KafkaSinkOptions, clientId: string, queueId: string): Promise<number> {
  const common = { clientId, bootstrapBrokers: brokers, retries: 0, timeout: TIMEOUT_MS, connectTimeout: TIMEOUT_MS };
  const admin = new Admin(common);
  const consumer = new Consumer<Buffer, Buffer, Buffer, Buffer>({ ...common, groupId: `${clientId}-last`, maxWaitTime: 100 });
  try {
    if (!(await admin.listTopics()).includes(topic)) return 0;
    const isolationLevel = FetchIsolationLevels.READ_UNCOMMITTED;
    const [listed] = await admin.listOffsets({ topics: [{ name: topic, partitions: [{ partitionIndex: partition, timestamp: ListOffsetTimestamps.LATEST }] }], isolationLevel });
    const end = listed?.partitions[0]?.offset ?? 0n;
    if (end === 0n) return 0;
    const stream = await consumer.consume({ topics: [topic], mode: MessagesStreamModes.MANUAL, offsets: [{ topic, partition, offset: end - 1n }] });
    try {
      for await (const { headers } of stream) {
        const id = [...headers].find(([name]) => name.toString() === ID)?.[1].toString() ?? "";
        const sequence = id.startsWith(`${queueId}:`) ? Number(id.slice(queueId.length + 1)) : NaN;
        if (Number.isSafeInteger(sequence)) return sequence;
        throw new BridgeError("ERR_FOREIGN", `the last record of ${topic}/${partition} ${id === "" ? "has no id" : `is ${id}`}, so it is not of queue ${queueId}`);
      }
      throw new Error(`the last record of ${topic}/${partition} can't be read`);
    } finally {
      await stream.close();
    }
  } finally {
    await consumer.close(true).catch(() => {});
    await admin.close().catch(() => {});
  }
}

if (import.meta.main) {
  const text = { type: "string" } as const;
  const { values } = parseArgs({ options: { queue: text, brokers: text, topic: text, partition: text } });
  if (values.queue === undefined || values.topic === undefined) {
    console.error("Usage: node examples/bridge_kafka.ts --queue PATH --topic NAME [--brokers HOST:PORT,...] [--partition N]");
    process.exit(2);
  }
  const sink = kafkaSink({ brokers: (values.brokers ?? "127.0.0.1:9092").split(","), topic: values.topic, partition: Number(values.partition ?? "0") });
  const bridge = forward(sink, { queue: values.queue });
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void bridge.stop());
  const timer = setInterval(() => console.log(JSON.stringify(bridge.status)), 1000);
  try {
    await bridge.done;
  } finally {
    clearInterval(timer);
  }
}
