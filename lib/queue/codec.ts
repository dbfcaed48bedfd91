/**
 * Codecs: values to payload bytes and back.
 *
 * @module
 */
import { invalidType, typeError } from "../errors.ts";
import type { OptionCheck } from "../checks.ts";
import { smallArraysAreDear } from "../native/native.ts";

/**
 * What JSON can hold.
 *
 * @example
 * ```ts
 * import { type JsonValue, Queue } from "holdfast";
 * const value: JsonValue = { tags: ["a", null], count: 2 };
 * using queue = Queue.open("/tmp/example-json.queue", { autoUnlink: true });
 * queue.push(value);
 * queue.pop(); // { tags: ["a", null], count: 2 }
 * ```
 */
export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue };

/**
 * Turns values into payloads and back. Neither function may use the queue that it serves.
 *
 * @example
 * ```ts
 * import { type Codec, Queue } from "holdfast";
 * const points: Codec<{ x: number; y: number }> = {
 *   encode: ({ x, y }) => new Uint8Array(Float64Array.of(x, y).buffer),
 *   decode: (payload) => {
 *     const [x = 0, y = 0] = new Float64Array(payload.slice().buffer); // a copy is aligned
 *     return { x, y };
 *   },
 * };
 * using queue = Queue.open("/tmp/example-codec.queue", { codec: points, autoUnlink: true });
 * queue.push({ x: 1, y: 2 });
 * queue.pop(); // { x: 1, y: 2 }
 * ```
 */
export interface Codec<T> {
  /** The payload of a value. The bytes are copied before `encode` is called again. */
  encode(value: T): Uint8Array;
  /** The value of a payload. `payload` is the caller's to keep. */
  decode(payload: Uint8Array): T;
}

/** A codec that also says how to write into memory that is there. */
export interface PayloadCodec {
  /** Built-in: `decode` can't call back into the program, so it may run inside the queue's lock. */
  readonly builtIn: boolean;
  /** Checks and prepares a value: what is to be written, and the most bytes that it may take. */
  prepare(value: unknown): Prepared;
  /** The value of `bytes[offset..offset + length)`, which are overwritten by the next record, unless the value is a view ({@linkcode viewsUpTo}). */
  decode(bytes: Uint8Array, offset: number, length: number): unknown;
  /** Values of payloads up to so many bytes are views of the bytes that they were decoded from. Default: none. */
  readonly viewsUpTo?: number;
}

/** A payload to be written: bytes, or text that becomes UTF-8. */
export type Prepared = Uint8Array | string;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Writes text as UTF-8; returns its bytes. There must be room for all of it. */
export function encodeText(text: string, bytes: Uint8Array, offset: number): number {
  return encoder.encodeInto(text, bytes.subarray(offset)).written;
}

/** A value's payload as bytes; of "bytes", and of a codec of one's own, the very array. */
export function payloadOf(codec: PayloadCodec, value: unknown): Uint8Array {
  const prepared = codec.prepare(value);
  return typeof prepared === "string" ? encoder.encode(prepared) : prepared;
}

function stringify(value: unknown): string | undefined {
  try {
    return JSON.stringify(value);
  } catch (error) {
    // A bigint, a cycle, or what the value's own toJSON() threw.
    throw typeError(`"value" can't be written as JSON: ${error instanceof Error ? error.message : error}`, error);
  }
}

const json: PayloadCodec = {
  builtIn: true,
  prepare(value) {
    const text = stringify(value);
    if (text === undefined) throw invalidType("value", "something that JSON can hold", value);
    return text;
  },
  decode: (bytes, offset, length) => JSON.parse(decoder.decode(bytes.subarray(offset, offset + length))),
};

const text: PayloadCodec = {
  builtIn: true,
  prepare(value) {
    if (typeof value !== "string") throw invalidType("value", 'a string (codec "text")', value);
    // UTF-8 has no form for a lone surrogate: it would come back as another character.
    if (!value.isWellFormed()) throw typeError('"value" has a lone surrogate, which codec "text" cannot store');
    return value;
  },
  decode: (bytes, offset, length) => decoder.decode(bytes.subarray(offset, offset + length)),
};

const bytes: PayloadCodec = {
  builtIn: true,
  prepare(value) {
    if (!(value instanceof Uint8Array)) throw invalidType("value", 'a Uint8Array (codec "bytes")', value);
    // A detached view is empty; to ask every value's buffer costs more.
    if (value.length === 0 && value.buffer instanceof ArrayBuffer && value.buffer.detached) throw typeError('"value" is a view of a detached ArrayBuffer');
    return value;
  },
  decode: (source, offset, length) => source.slice(offset, offset + length),
};

const VIEWS_UP_TO = 4096;

/**
 * Where a small array of its own is dear, a small value is a part of a larger buffer. One that is large gets its own: it would use the buffer up, and a new one
 * costs more than the copy.
 */
const carvedBytes: PayloadCodec = {
  ...bytes,
  decode: (source, offset, length) => (length <= VIEWS_UP_TO ? new Uint8Array(source.buffer, offset, length) : source.slice(offset, offset + length)),
  viewsUpTo: VIEWS_UP_TO,
};

function custom(codec: Codec<unknown>): PayloadCodec {
  return {
    builtIn: false,
    prepare(value) {
      const payload = codec.encode(value);
      if (!(payload instanceof Uint8Array)) throw invalidType("codec.encode(value)", "a Uint8Array", payload);
      return payload;
    },
    decode: (source, offset, length) => codec.decode(source.slice(offset, offset + length)),
  };
}

const BUILT_IN: Readonly<Record<string, PayloadCodec>> = { json, text, bytes };

/** The codec as it suits this runtime. */
export function suited(codec: PayloadCodec): PayloadCodec {
  return codec === bytes && smallArraysAreDear() ? carvedBytes : codec;
}

/** The option `codec`: a built-in's name, or an object with `encode` and `decode`. */
export const codecOption: OptionCheck<PayloadCodec> = (name, value) => {
  if (typeof value === "string" && Object.hasOwn(BUILT_IN, value)) return BUILT_IN[value] as PayloadCodec;
  const { encode, decode } = (typeof value === "object" && value !== null ? value : {}) as Partial<Codec<unknown>>;
  if (typeof encode !== "function" || typeof decode !== "function") {
    throw invalidType(name, '"json", "text", "bytes" or an object with encode() and decode()', value);
  }
  return custom(value as Codec<unknown>);
};

export { json as defaultCodec };
