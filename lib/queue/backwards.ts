/**
 * The walk from the newest record to the oldest, without a lock and without removing anything.
 *
 * A record ends with its length, so within a segment the walk steps back from one to the next. A segment knows the next one and not the one
 * before: when the walk first crosses to an earlier segment it follows the chain from the oldest to where it is, once, and keeps the ids.
 *
 * Invariant: what is given out has passed its checksum, which depends on the queue and the position, and has the sequence below that of the
 * record before. So a segment that was given up and used again under the walk is noticed: its base, and with it every position, is
 * another. All that lies before such a segment was given up before it, so that the walk is over then.
 *
 * @module
 */
import { MapError } from "../errors.ts";
import { CONSUMER, PRODUCER, RECORD_TRAILER_BYTES, RECORDS_OFFSET } from "../layout/queue.ts";
import { native } from "../native/native.ts";
import { codes, type NativeFunctions } from "../native/symbols.ts";
import type { Control } from "./control.ts";
import type { LeaseEntry } from "./leases.ts";
import type { Reader } from "./reader.ts";
import type { Segments } from "./segments.ts";

/** How often the chain is followed anew because it changed meanwhile. Each time a segment was given up, which is progress. */
const MAX_TRIES = 100;

/** One walk backwards. It sees the records that are there when it is made. */
export class Backwards {
  readonly #control: Control;
  readonly #segments: Segments;
  readonly #reader: Reader;
  readonly #hf: NativeFunctions;
  /** Records from this sequence on had not been handed out. */
  readonly #first: number;
  /** The ones that had, oldest first. */
  readonly #leased: LeaseEntry[];
  // Behind the record that comes next.
  #sequence: number;
  #segment: number;
  #offset: number;
  #base: number;
  /** The segments before that of the walk, oldest first; undefined until they are needed. */
  #before: number[] | undefined;

  constructor(control: Control, segments: Segments, reader: Reader) {
    this.#control = control;
    this.#segments = segments;
    this.#reader = reader;
    this.#hf = native();
    // The cursor is read before the tail, so that it is not ahead of it.
    const { cursor, tail } = reader.look();
    this.#first = cursor[CONSUMER.sequence] as number;
    this.#sequence = tail[PRODUCER.sequence] as number;
    this.#segment = tail[PRODUCER.segment] as number;
    this.#offset = tail[PRODUCER.offset] as number;
    this.#base = (tail[PRODUCER.position] as number) - this.#offset;
    this.#leased = reader.entriesWithoutLock(cursor.slice()).toSorted((a, b) => a.sequence - b.sequence);
  }

  /** Reads the record before the last one into the inbox and returns its sequence; undefined at the end. */
  previous(): number | undefined {
    this.#segments.trim();
    while (this.#sequence > this.#first) {
      if (this.#offset > RECORDS_OFFSET) {
        const position = this.#base + this.#offset;
        if (this.#unlessGone(this.#segment, this.#base, position, () => this.#read())) return this.#sequence;
      } else if (this.#cross()) continue;
      // What lies before was removed since.
      this.#sequence = this.#first;
    }
    for (let entry = this.#leased.pop(); entry !== undefined; entry = this.#leased.pop()) {
      if (this.#reader.fetchLeased(entry)) return entry.sequence;
    }
    return undefined;
  }

  /** Reads the record that ends at the walk's offset and moves before it. */
  #read(): true {
    const control = this.#control;
    const place = { segment: this.#segment, offset: this.#offset, sequence: this.#sequence - 1 };
    const region = this.#segments.get(place.segment);
    if (place.offset > region.byteLength) throw this.#reader.fetchError(codes.CORRUPT, place);
    const loaded = this.#hf.hf_words_load(region.address + place.offset - RECORD_TRAILER_BYTES, 1, control.wordsAddress);
    if (loaded < 0) throw this.#reader.fetchError(loaded, place);
    // The upper half of the word, reserved, is 0; with anything else there the length is too much.
    const total = control.words[0] as number;
    place.offset -= total;
    if (place.offset < RECORDS_OFFSET || total % 8 !== 0) throw this.#reader.fetchError(codes.CORRUPT, { ...place, offset: this.#offset });
    const bytes = this.#reader.fetchAt(place.segment, place.offset, this.#base + place.offset, total);
    if (bytes !== total || this.#reader.inbox.sequence !== place.sequence) throw this.#reader.fetchError(bytes < 0 ? bytes : codes.CORRUPT, place);
    this.#offset = place.offset;
    this.#sequence = place.sequence;
    return true;
  }

  /** Moves to the end of the segment before. False if that was given up. */
  #cross(): boolean {
    this.#before ??= this.#chain();
    const id = this.#before.pop();
    // None, although records lie before: the walk's segment is the oldest by now.
    if (id === undefined) return false;
    const start = this.#base;
    const moved = this.#unlessGone(id, undefined, start, () => {
      const { base, end } = this.#segments.state(id);
      const fits = base > 0 && base + this.#segments.get(id).byteLength === start && end >= RECORDS_OFFSET && end % 8 === 0;
      if (!fits) throw this.#reader.corrupt(`segment ${id} ends at ${end} and does not lead to the next one`);
      return { base, end };
    });
    if (moved === undefined) return false;
    this.#segment = id;
    this.#base = moved.base;
    this.#offset = moved.end;
    return true;
  }

  /** The segments from the oldest needed one to the one before the walk's. */
  #chain(): number[] {
    for (let tries = 1; ; tries++) {
      const seen = this.#reader.look().cursor.slice();
      try {
        const ids: number[] = [];
        for (let id = seen[CONSUMER.head] as number; id !== this.#segment; id = this.#segments.following(id)) {
          if (this.#segments.state(id).base > this.#base) return [];
          ids.push(id);
        }
        return ids;
      } catch (error) {
        const { cursor } = this.#reader.look();
        if (!(error instanceof MapError) || tries === MAX_TRIES || cursor.every((value, i) => value === seen[i])) throw error;
      }
    }
  }

  /**
   * The result of `look`, which reads what ends at `position` in a segment; undefined if it fails since that was consumed meanwhile and its
   * segment given up. `base` is the segment's; undefined if only `look` can tell.
   */
  #unlessGone<R>(segment: number, base: number | undefined, position: number, look: () => R): R | undefined {
    try {
      return look();
    } catch (error) {
      if (!(error instanceof MapError)) throw error;
      // Read in full, with its fence: bytes of a later use were seen, so the base of that use is seen below.
      this.#control.cursor.forget();
      this.#control.kept.forget();
      const { cursor: at } = this.#reader.look();
      if ((at[CONSUMER.position] as number) < position) throw error;
      if (base !== undefined && this.#baseOf(segment) === base) throw error;
      return undefined;
    }
  }

  /** The base that a segment has now; undefined if its file is gone. */
  #baseOf(segment: number): number | undefined {
    try {
      return this.#segments.state(segment).base;
    } catch (error) {
      if (error instanceof MapError && error.code === "ERR_CORRUPT") return undefined;
      throw error;
    }
  }
}
