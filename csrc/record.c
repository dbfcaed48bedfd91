/* record.c - checksummed records and plain words, copied between a mapping and the caller's own memory. */
#include "internal.h"

#include "guard.h"

#include <string.h>

enum { CHECKSUM_BYTES = 4 };

static uint32_t record_checksum(const unsigned char *record, size_t length, uint32_t salt, uint64_t position) {
  uint32_t seed = hf_crc32c_update(salt, &position, sizeof position);
  return hf_crc32c_update(seed, record + CHECKSUM_BYTES, length - CHECKSUM_BYTES);
}

static bool record_length(size_t length) { return length >= HF_RECORD_MIN && length % 8 == 0 && length <= UINT32_MAX; }

/* The guarded parts are functions of their own, so that no local of a caller lives across the jump. */
#define HF_APART __attribute__((noinline)) static

HF_APART double write_record(unsigned char *to, const unsigned char *from, size_t length, uint32_t checksum) {
  HF_GUARD_ENTER();
  memcpy(to, &checksum, CHECKSUM_BYTES);
  memcpy(to + CHECKSUM_BYTES, from + CHECKSUM_BYTES, length - CHECKSUM_BYTES);
  HF_GUARD_LEAVE();
  return 0;
}

/* The length that the record states, if it is a possible one, and the bytes where they fit into `room`. */
HF_APART double fetch_record(unsigned char *to, size_t room, const unsigned char *from, size_t limit) {
  HF_GUARD_ENTER();
  uint32_t stated;
  memcpy(&stated, from + CHECKSUM_BYTES, sizeof stated);
  double result = record_length(stated) && stated <= limit ? (double)stated : HF_E_CORRUPT;
  if (result > 0 && stated <= room) memcpy(to, from, stated);
  HF_GUARD_LEAVE();
  return result;
}

HF_APART double load_words(double *to, const uint64_t *from, size_t count) {
  HF_GUARD_ENTER();
  double result = 0;
  for (size_t i = 0; i < count; i++) {
    uint64_t word = __atomic_load_n(&from[i], __ATOMIC_ACQUIRE);
    if (word > HF_MAX_SAFE_WORD) result = HF_E_CORRUPT;
    to[i] = hf_to_double(word);
  }
  HF_GUARD_LEAVE();
  return result;
}

HF_APART double store_words(uint64_t *to, const double *from, size_t count) {
  HF_GUARD_ENTER();
  for (size_t i = count; i > 0; i--) __atomic_store_n(&to[i - 1], (uint64_t)(int64_t)from[i - 1], __ATOMIC_RELEASE);
  HF_GUARD_LEAVE();
  return 0;
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
  uint32_t stated;
  memcpy(&stated, from + CHECKSUM_BYTES, sizeof stated);
  if (!record_length(bytes) || stated != bytes) return HF_E_INVAL;
  return write_record(to, from, bytes, record_checksum(from, bytes, seed, place));
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
  if (most < HF_RECORD_MIN) return HF_E_CORRUPT;
  double length = fetch_record(to, room, from, most);
  if (length < 0 || length > capacity) return length;
  /* Checked in the copy: what is in the mapping can change under a check. */
  uint32_t checksum, stated;
  memcpy(&checksum, to, sizeof checksum);
  memcpy(&stated, to + CHECKSUM_BYTES, sizeof stated);
  bool whole = (double)stated == length && checksum == record_checksum(to, stated, seed, place);
  return whole ? length : HF_E_CORRUPT;
}

double hf_words_load(double address, double count, double values) {
  const uint64_t *from = (const uint64_t *)hf_pointer(address, 8);
  double *to = (double *)hf_pointer(values, 8);
  size_t words;
  if (from == NULL || to == NULL || !hf_size(count, &words)) return HF_E_INVAL;
  return load_words(to, from, words);
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
  return store_words(to, from, words);
}
