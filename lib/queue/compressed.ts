/**
 * Compression of payloads on the runtime's own zlib, Brotli and Zstandard.
 *
 * A payload starts with one byte. 0: the payload of the inner codec follows, since compression would not make it shorter. 1 gzip, 2 zlib
 * ("deflate"), 3 Brotli, 4 Zstandard: two u32 follow, little-endian, the length of the inner codec's payload and its CRC-32, and then the compressed bytes.
 *
 * Invariant: what comes out has the length and the CRC-32 of what went in. The formats alone do not promise that: Brotli has no checksum, and
 * the three runtimes take Zstandard data that is cut short for empty, as Deno takes Brotli's.
 *
 * @module
 */
import { builtin } from "../builtins.ts";
import { checkOptions, integer, oneOf } from "../checks.ts";
import { MapError, outOfRange, rangeError } from "../errors.ts";
import { MAX_PAYLOAD_BYTES } from "../layout/queue.ts";
import { type Codec, codecOption, type JsonValue, type PayloadCodec, payloadOf } from "./codec.ts";

/**
 * Options of {@linkcode compressed}.
 *
 * @example
 * ```ts
 * import { type CompressionOptions, compressed, Queue } from "holdfast";
 * const options: CompressionOptions = { format: "brotli", level: 9, maxOutputLength: 1 << 20 };
 * using queue = Queue.open("/tmp/example-brotli.queue", { codec: compressed("text", options), autoUnlink: true });
 * queue.push("again ".repeat(1000));
 * queue.byteLength < 100; // true
 * ```
 */
export interface CompressionOptions {
  /** How payloads are compressed. Default "zstd". Payloads of the other formats are read as well. */
  format?: "gzip" | "deflate" | "brotli" | "zstd";
  /** More is smaller and slower. gzip and deflate 0 to 9, default 6; brotli 0 to 11, default 4; zstd 1 to 22, default 3. */
  level?: number;
  /** Most bytes that a payload may have before compression and after decompression. Default 64 MiB, at most 1 GiB. */
  maxOutputLength?: number;
}

type Format = NonNullable<CompressionOptions["format"]>;
type Compress = (bytes: Uint8Array, options?: object) => Uint8Array;

interface Method {
  readonly format: Format;
  readonly marker: number;
  readonly levels: readonly [least: number, usual: number, most: number];
  readonly compress: () => Compress | undefined;
  readonly decompress: () => Compress | undefined;
  options(level: number): object;
}

const STORED = 0;
const HEAD_BYTES = 9;
const DEFAULT_MAX_OUTPUT: number = 64 << 20;

const zlib = (): typeof import("node:zlib") => builtin("node:zlib");

/** A call of node:zlib; undefined where the runtime lacks it. */
const call = (name: string): Compress | undefined => (zlib() as unknown as Readonly<Record<string, Compress | undefined>>)[name];

const METHODS: readonly Method[] = [
  { format: "gzip", marker: 1, levels: [0, 6, 9], compress: () => call("gzipSync"), decompress: () => call("gunzipSync"), options: (level) => ({ level }) },
  { format: "deflate", marker: 2, levels: [0, 6, 9], compress: () => call("deflateSync"), decompress: () => call("inflateSync"), options: (level) => ({ level }) },
  {
    format: "brotli",
    marker: 3,
    levels: [0, 4, 11],
    compress: () => call("brotliCompressSync"),
    decompress: () => call("brotliDecompressSync"),
    options: (level) => ({ params: { [zlib().constants.BROTLI_PARAM_QUALITY]: level } }),
  },
  {
    format: "zstd",
    marker: 4,
    levels: [1, 3, 22],
    compress: () => call("zstdCompressSync"),
    decompress: () => call("zstdDecompressSync"),
    options: (level) => ({ params: { [zlib().constants.ZSTD_c_compressionLevel]: level } }),
  },
];

const OPTIONS = {
  format: oneOf("gzip", "deflate", "brotli", "zstd"),
  level: integer(0),
  maxOutputLength: integer(1, MAX_PAYLOAD_BYTES - HEAD_BYTES),
};

function runtime(): string {
  const { versions } = process as { versions: Readonly<Record<string, string | undefined>> };
  const name = versions.bun !== undefined ? "bun" : versions.deno !== undefined ? "deno" : "node";
  return `${name} ${versions[name]}`;
}

function unsupported(format: Format): MapError {
  return new MapError("EOPNOTSUPP", `${runtime()} has no ${format} in node:zlib; take another "format"`);
}

function damaged(what: string, cause?: unknown): MapError {
  return new MapError("ERR_CODEC", `a compressed payload ${what}`, cause === undefined ? {} : { cause });
}

/**
 * A codec that compresses what another one makes of a value. A payload that would not get shorter is stored as it is, with one byte
 * before it. Each value is compressed by itself, by synchronous calls of `node:zlib`.
 *
 * Errors: `EOPNOTSUPP` if the runtime has no such format; `RangeError` for a level that the format does not have, and from `push` for a value
 * of more than `maxOutputLength` bytes; `ERR_CODEC` when a payload is read that is no compressed one, is damaged, or is larger than
 * `maxOutputLength`: no more memory than that is used for it, and its record stays in the queue.
 *
 * @example
 * ```ts
 * import { compressed, Queue } from "holdfast";
 * using queue = Queue.open<{ text: string }>("/tmp/compressed.queue", { codec: compressed("json", { format: "gzip" }), autoUnlink: true });
 * queue.push({ text: "to be or not to be ".repeat(100) });
 * console.log(queue.byteLength < 200, queue.pop()?.text.length); // true 1900
 * ```
 */
export function compressed<T = JsonValue>(inner?: "json", options?: CompressionOptions): Codec<T>;
/** Of strings. */
export function compressed(inner: "text", options?: CompressionOptions): Codec<string>;
/** Of bytes. */
export function compressed(inner: "bytes", options?: CompressionOptions): Codec<Uint8Array>;
/** Of what a codec of your own makes. */
export function compressed<T>(inner: Codec<T>, options?: CompressionOptions): Codec<T>;
export function compressed(inner: unknown = "json", options?: CompressionOptions): Codec<unknown> {
  const codec = codecOption("inner", inner);
  const { format = "zstd", level, maxOutputLength = DEFAULT_MAX_OUTPUT } = checkOptions("compressed()", options, OPTIONS);
  const method = METHODS.find((candidate) => candidate.format === format) as Method;
  const [least, usual, most] = method.levels;
  if (level !== undefined && (level < least || level > most)) throw outOfRange("level", `${least} to ${most} with format "${format}"`, level);
  const compress = method.compress();
  if (compress === undefined || method.decompress() === undefined) throw unsupported(format);
  const settings = method.options(level ?? usual);
  return {
    encode: (value) => encode(payloadOf(codec, value), method.marker, (bytes) => compress(bytes, settings), maxOutputLength),
    decode: (payload) => decode(codec, payload, maxOutputLength),
  };
}

function encode(plain: Uint8Array, marker: number, compress: Compress, most: number): Uint8Array {
  const length = plain.byteLength;
  if (length > most) throw rangeError(`a value of ${length} bytes is more than the "maxOutputLength" of its codec, ${most}`);
  const packed = compress(plain);
  const total = HEAD_BYTES + packed.byteLength;
  if (total > length) {
    const payload = new Uint8Array(1 + length);
    payload[0] = STORED;
    payload.set(plain, 1);
    return payload;
  }
  const payload = new Uint8Array(total);
  payload[0] = marker;
  const head = new DataView(payload.buffer);
  head.setUint32(1, length, true);
  head.setUint32(5, zlib().crc32(plain), true);
  payload.set(packed, HEAD_BYTES);
  return payload;
}

/** The same bytes as a plain Uint8Array: `slice()` of a Buffer is no copy. */
function plainArray({ buffer, byteOffset, byteLength }: Uint8Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

function decode(codec: PayloadCodec, given: Uint8Array, most: number): unknown {
  const payload = plainArray(given);
  if (payload[0] === STORED) {
    if (payload.byteLength - 1 > most) throw damaged(`has ${payload.byteLength - 1} bytes, more than the "maxOutputLength" of ${most}`);
    return codec.decode(payload, 1, payload.byteLength - 1);
  }
  const plain = unpack(payload, most);
  return codec.decode(plain, 0, plain.byteLength);
}

function unpack(payload: Uint8Array, most: number): Uint8Array {
  const method = METHODS.find(({ marker }) => marker === payload[0]);
  if (method === undefined || payload.byteLength < HEAD_BYTES) throw damaged("does not start like one: was it pushed with another codec?");
  const head = new DataView(payload.buffer, payload.byteOffset, HEAD_BYTES);
  const length = head.getUint32(1, true);
  if (length > most) throw damaged(`has ${length} bytes uncompressed, more than the "maxOutputLength" of ${most}`);
  const decompress = method.decompress();
  if (decompress === undefined) throw unsupported(method.format);
  let plain: Uint8Array;
  try {
    // The stated length is the limit: a payload that says 10 and unpacks to more costs no memory. At least 1: 0 is no limit to zlib.
    plain = decompress(payload.subarray(HEAD_BYTES), { maxOutputLength: Math.max(1, length) });
  } catch (error) {
    throw damaged(`can't be unpacked (${method.format}): ${error instanceof Error ? error.message : error}`, error);
  }
  if (plain.byteLength !== length || zlib().crc32(plain) !== head.getUint32(5, true)) throw damaged("unpacks to other bytes than were packed");
  return plainArray(plain);
}
