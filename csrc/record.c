/* record.c - checksummed records and plain words, copied between a mapping and the caller's own memory. */
#include "record.h"
#include "internal.h"

#include "guard.h"

#include <string.h>

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
