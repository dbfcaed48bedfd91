/* record.c - checksummed records and plain words, copied between a mapping and the caller's own memory. */
#include "record.h"
#include "internal.h"

#include "guard.h"

#include <string.h>

enum { CHECKSUM_BYTES = 4 };

static bool record_length(size_t length) { return length >= HF_RECORD_MIN && length % 8 == 0 && length <= UINT32_MAX; }

/* Copies a record but for its first eight bytes, checksum and length; returns the checksum of all that is behind it. */
static uint32_t copy_record(unsigned char *to, const unsigned char *from, uint32_t length, uint32_t salt, uint64_t position) {
  uint32_t crc = hf_crc32c_update(salt, &position, sizeof position);
  crc = hf_crc32c_update(crc, &length, sizeof length);
  return hf_crc32c_copy(crc, (uint64_t *)(void *)to + 1, (const uint64_t *)(const void *)from + 1, length / 8 - 1);
}

bool hf_record_put(unsigned char *to, const unsigned char *from, size_t length, uint32_t salt, uint64_t position) {
  uint32_t front[2];
  memcpy(front, from, sizeof front);
  if (!record_length(length) || front[1] != length) return false;
  front[0] = copy_record(to, from, front[1], salt, position);
  memcpy(to, front, sizeof front);
  return true;
}

double hf_record_get(unsigned char *to, size_t room, const unsigned char *from, size_t most, uint32_t salt, uint64_t position) {
  if (most < HF_RECORD_MIN) return HF_E_CORRUPT;
  uint32_t front[2];
  memcpy(front, from, sizeof front);
  if (hf_faulted(from)) return HF_E_FAULT;
  uint32_t length = front[1];
  if (!record_length(length) || length > most) return HF_E_CORRUPT;
  if (length > room) return (double)length;
  memcpy(to, front, sizeof front);
  /* Checked as it is copied: what is in the mapping can change under a check. */
  uint32_t checksum = copy_record(to, from, length, salt, position);
  if (hf_faulted(from)) return HF_E_FAULT;
  return checksum == front[0] ? (double)length : HF_E_CORRUPT;
}

double hf_record_write(double target, double source, double length, double salt, double position) {
  unsigned char *to = (unsigned char *)hf_pointer(target, 8);
  const unsigned char *from = (const unsigned char *)hf_pointer(source, 8);
  size_t bytes;
  uint32_t seed;
  uint64_t place;
  if (to == NULL || from == NULL || !hf_size(length, &bytes) || !hf_u32(salt, &seed) || !hf_whole(position, &place)) {
    return HF_E_INVAL;
  }
  if (!hf_record_put(to, from, bytes, seed, place)) return HF_E_INVAL;
  return hf_faulted(to) ? HF_E_FAULT : 0;
}

double hf_record_read(double target, double capacity, double source, double limit, double salt, double position) {
  unsigned char *to = (unsigned char *)hf_pointer(target, 8);
  const unsigned char *from = (const unsigned char *)hf_pointer(source, 8);
  size_t room, most;
  uint32_t seed;
  uint64_t place;
  if (to == NULL || from == NULL || !hf_size(capacity, &room) || !hf_size(limit, &most) || !hf_u32(salt, &seed) ||
      !hf_whole(position, &place)) {
    return HF_E_INVAL;
  }
  return hf_record_get(to, room, from, most, seed, place);
}

double hf_records_write(double target, double source, double length, double salt, double position) {
  unsigned char *to = (unsigned char *)hf_pointer(target, 8);
  const unsigned char *from = (const unsigned char *)hf_pointer(source, 8);
  size_t bytes;
  uint32_t seed;
  uint64_t place;
  if (to == NULL || from == NULL || !hf_size(length, &bytes) || !hf_u32(salt, &seed) || !hf_whole(position, &place)) {
    return HF_E_INVAL;
  }
  for (size_t done = 0; done < bytes;) {
    uint32_t total;
    if (bytes - done < HF_RECORD_MIN) return HF_E_INVAL;
    memcpy(&total, from + done + CHECKSUM_BYTES, sizeof total);
    if (total > bytes - done || !hf_record_put(to + done, from + done, total, seed, place + done)) return HF_E_INVAL;
    done += total;
  }
  return hf_faulted(to) ? HF_E_FAULT : 0;
}

double hf_records_read(double target, double capacity, double source, double limit, double count, double salt, double position) {
  unsigned char *to = (unsigned char *)hf_pointer(target, 8);
  const unsigned char *from = (const unsigned char *)hf_pointer(source, 8);
  size_t room, most, records;
  uint32_t seed;
  uint64_t place;
  if (to == NULL || from == NULL || !hf_size(capacity, &room) || !hf_size(limit, &most) || !hf_size(count, &records) ||
      !hf_u32(salt, &seed) || !hf_whole(position, &place)) {
    return HF_E_INVAL;
  }
  size_t bytes = room < most ? room : most, done = 0;
  for (; records > 0 && bytes - done >= HF_RECORD_MIN; records--) {
    double total = hf_record_get(to + done, bytes - done, from + done, bytes - done, seed, place + done);
    if (!(total > 0)) break;
    done += (size_t)total;
  }
  return hf_faulted(from) ? HF_E_FAULT : (double)done;
}

double hf_words_load(double address, double count, double values) {
  const uint64_t *from = (const uint64_t *)hf_pointer(address, 8);
  double *to = (double *)hf_pointer(values, 8);
  size_t words;
  if (from == NULL || to == NULL || !hf_size(count, &words)) return HF_E_INVAL;
  double result = 0;
  for (size_t i = 0; i < words; i++) {
    uint64_t word = __atomic_load_n(&from[i], __ATOMIC_ACQUIRE);
    if (word > HF_MAX_SAFE_WORD) result = HF_E_CORRUPT;
    to[i] = hf_to_double(word);
  }
  return hf_faulted(from) ? HF_E_FAULT : result;
}

double hf_words_store(double address, double count, double values) {
  uint64_t *to = (uint64_t *)hf_pointer(address, 8);
  const double *from = (const double *)hf_pointer(values, 8);
  size_t words;
  if (to == NULL || from == NULL || !hf_size(count, &words)) return HF_E_INVAL;
  for (size_t i = 0; i < words; i++) {
    uint64_t word;
    if (!hf_whole(from[i], &word)) return HF_E_INVAL;
  }
  for (size_t i = words; i > 0; i--) __atomic_store_n(&to[i - 1], (uint64_t)(int64_t)from[i - 1], __ATOMIC_RELEASE);
  return hf_faulted(to) ? HF_E_FAULT : 0;
}

double hf_words_checksum(double count, double salt, double values) {
  const double *from = (const double *)hf_pointer(values, 8);
  size_t words;
  uint32_t crc;
  if (from == NULL || !hf_size(count, &words) || !hf_u32(salt, &crc)) return HF_E_INVAL;
  for (size_t i = 0; i < words; i++) {
    uint64_t word;
    if (!hf_whole(from[i], &word)) return HF_E_INVAL;
    crc = hf_crc32c_update(crc, &word, sizeof word);
  }
  return (double)crc;
}
