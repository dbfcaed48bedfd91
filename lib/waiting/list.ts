/**
 * What a realm and the Worker that sleeps for it say to each other.
 *
 * The list of waits lies in memory that both reach by address, as 64-bit words:
 *
 *     0  generation: one more for each new list; the doorbell, since the Worker sleeps on its low half too
 *     1  count of words waited for; STOP ends the Worker's loop
 *     2  address of word 0, 3  low half of the generation: together the first pair that hf_wait_any() gets
 *     4  address of the first word, 5  the 32 bits expected there, and so on
 *
 * Only the realm writes. The generation is stored last, and the doorbell rung after it (hf_words_store, hf_wake32); the Worker loads
 * it first (hf_words_load). A Worker that reads while the realm writes may get a mixed list; it does not sleep on it for long, since the
 * kernel compares the generation again, or the doorbell rings: what it then reports is of a generation that is over.
 *
 * The Worker posts pairs `[generation, result]`: the index of a woken word among those waited for, from 1; 0 when one did not hold what
 * was expected; a failure of hf_wait_any(). Then it sleeps on the doorbell alone until the next list, or, after another failure than EFAULT,
 * ends its service. `[0, 0]` says that it is in no native call
 * and wants a message to begin.
 *
 * @module
 */

/** So many words at most: hf_wait_any() takes 128, and one is the doorbell. */
export const LIST_MAX = 127;

/** Words of a full list. */
export const LIST_WORDS: number = 4 + 2 * LIST_MAX;

/** Instead of a count. */
export const STOP: number = 2 ** 32;

/** The pair that the Worker posts. */
export type Report = readonly [generation: number, result: number];

/** What a generation is as a 32-bit word. */
export function lowHalf(generation: number): number {
  return generation % 2 ** 32;
}
