/*
 * crc32c.h - CRC-32C a word at a time, inline: for a few words a call costs more than the checksum. These are raw updates: the checksum is
 * inverted before the first and after the last.
 */
#ifndef HF_CRC32C_H
#define HF_CRC32C_H

#include "internal.h"

/* 0 unknown, 1 no, 2 yes: a cache of whether the CPU has the instruction, the same whoever writes it. */
extern int hf_crc_known __attribute__((visibility("hidden")));

/* Asks the CPU. */
int hf_crc_find(void);

/* The same without the instruction. */
uint32_t hf_crc_by_shifts(uint32_t crc, const void *data, size_t length);

HF_INLINE bool hf_crc_by_instruction(void) {
  int known = __atomic_load_n(&hf_crc_known, __ATOMIC_RELAXED);
  return (__builtin_expect(known == 0, 0) ? hf_crc_find() : known) == 2;
}

/* The instruction, as assembly: a compiler takes the intrinsic only where all CPUs have it. To be used if hf_crc_by_instruction() says so. */
HF_INLINE uint32_t hf_crc_word(uint32_t crc, uint64_t word) {
#if defined(__x86_64__)
  uint64_t wide = crc;
  __asm__("crc32q %1, %0" : "+r"(wide) : "r"(word));
  return (uint32_t)wide;
#elif defined(__aarch64__)
  __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(word));
  return crc;
#else
  return hf_crc_by_shifts(crc, &word, sizeof word);
#endif
}

HF_INLINE uint32_t hf_crc_half(uint32_t crc, uint32_t half) {
  if (__builtin_expect(!hf_crc_by_instruction(), 0)) return hf_crc_by_shifts(crc, &half, sizeof half);
#if defined(__x86_64__)
  __asm__("crc32l %1, %0" : "+r"(crc) : "r"(half));
#elif defined(__aarch64__)
  __asm__(".arch_extension crc\n\tcrc32cw %w0, %w0, %w1" : "+r"(crc) : "r"(half));
#endif
  return crc;
}

HF_INLINE uint32_t hf_crc_words(uint32_t crc, const uint64_t *words, size_t count) {
  if (__builtin_expect(!hf_crc_by_instruction(), 0)) return hf_crc_by_shifts(crc, words, 8 * count);
  for (size_t i = 0; i < count; i++) crc = hf_crc_word(crc, words[i]);
  return crc;
}

/* The same of a word, which is written to `to`. */
HF_INLINE uint32_t hf_crc_put(uint32_t crc, uint64_t *to, uint64_t word) {
  *to = word;
  return hf_crc_words(crc, &word, 1);
}

/* A word that may lie at any address. */
typedef uint64_t hf_word __attribute__((aligned(1), may_alias));

/* From so many words on, a copy goes by several streams. */
enum { HF_CRC_LONG = 255 };

/* Reads it once: what is in memory that others write to can change under a check. */
HF_INLINE uint64_t hf_word_at(const hf_word *word) { return *(const volatile hf_word *)word; }

/* hf_crc_copy() of the first of `count` words, with the instruction; returns of how many. */
size_t hf_crc_copy_long(uint32_t *crc, uint64_t *to, const hf_word *from, size_t count);

/* The same while they are copied. Each word is read once: another process may write to `from`, and the checksum is of what arrives. */
HF_INLINE uint32_t hf_crc_copy(uint32_t crc, uint64_t *to, const hf_word *from, size_t count) {
  bool fast = hf_crc_by_instruction();
  size_t first = __builtin_expect(count >= HF_CRC_LONG && fast, 0) ? hf_crc_copy_long(&crc, to, from, count) : 0;
  for (size_t i = first; __builtin_expect(fast, 1) && i < count; i++) {
    uint64_t word = hf_word_at(&from[i]);
    crc = hf_crc_word(crc, word);
    to[i] = word;
  }
  if (__builtin_expect(fast, 1)) return crc;
  for (size_t i = 0; i < count; i++) to[i] = hf_word_at(&from[i]);
  return hf_crc_by_shifts(crc, to, 8 * count);
}

#endif
