/*
 * record.h - one record between a mapping and the caller's memory, for record.c and for sources that join it with other steps; arguments are
 * checked by the caller.
 */
#ifndef HF_RECORD_H
#define HF_RECORD_H

#include "crc32c.h"
#include "guard.h"
#include "internal.h"

#include <string.h>

enum { CHECKSUM_BYTES = 4 };

HF_INLINE bool record_length(size_t length) { return length >= HF_RECORD_MIN && length % 8 == 0 && length <= UINT32_MAX; }

/* Copies a record but for its first eight bytes, checksum and length; returns the checksum of all that is behind it. */
HF_INLINE uint32_t hf_record_copy(unsigned char *to, const unsigned char *from, uint32_t length, uint32_t salt, uint64_t position) {
  uint32_t crc = hf_crc_words(~salt, &position, 1);
  crc = hf_crc_half(crc, length);
  return ~hf_crc_copy(crc, (uint64_t *)(void *)to + 1, (const uint64_t *)(const void *)from + 1, length / 8 - 1);
}

/* hf_record_write(): false if the record does not say that it has `length` bytes, or can't have them. */
HF_INLINE bool hf_record_put(unsigned char *to, const unsigned char *from, size_t length, uint32_t salt, uint64_t position) {
  uint32_t front[2];
  memcpy(front, from, sizeof front);
  if (!record_length(length) || front[1] != length) return false;
  front[0] = hf_record_copy(to, from, front[1], salt, position);
  memcpy(to, front, sizeof front);
  return true;
}

/* hf_record_read() */
HF_INLINE double hf_record_get(unsigned char *to, size_t room, const unsigned char *from, size_t most, uint32_t salt, uint64_t position) {
  if (most < HF_RECORD_MIN) return HF_E_CORRUPT;
  uint32_t front[2];
  memcpy(front, from, sizeof front);
  if (hf_faulted(from)) return HF_E_FAULT;
  uint32_t length = front[1];
  if (!record_length(length) || length > most) return HF_E_CORRUPT;
  if (length > room) return (double)length;
  memcpy(to, front, sizeof front);
  /* Checked as it is copied: what is in the mapping can change under a check. */
  uint32_t checksum = hf_record_copy(to, from, length, salt, position);
  if (hf_faulted(from)) return HF_E_FAULT;
  return checksum == front[0] ? (double)length : HF_E_CORRUPT;
}

#endif
