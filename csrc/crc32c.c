/* crc32c.c - CRC-32C by instruction where the CPU has one, in software elsewhere; chosen at run time. */
#include "internal.h"

#include "guard.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <nmmintrin.h>
#define HF_CRC_TARGET __attribute__((target("sse4.2,crc32")))
#define HF_CRC_8(crc, value) ((uint32_t)_mm_crc32_u64((crc), (value)))
#define HF_CRC_4(crc, value) _mm_crc32_u32((crc), (value))
#define HF_CRC_1(crc, value) _mm_crc32_u8((crc), (value))
static bool has_instruction(void) {
  /* Not __builtin_cpu_supports: that needs the compiler's own runtime library, and we link none. */
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_SSE4_2) != 0;
}
#elif defined(__aarch64__) && defined(__linux__)
#include <arm_acle.h>
#include <sys/auxv.h>
#define HF_CRC_TARGET __attribute__((target("crc")))
#define HF_CRC_8(crc, value) __crc32cd((crc), (value))
#define HF_CRC_4(crc, value) __crc32cw((crc), (value))
#define HF_CRC_1(crc, value) __crc32cb((crc), (value))
static bool has_instruction(void) { return (getauxval(AT_HWCAP) & (1ul << 7)) != 0; /* HWCAP_CRC32 */ }
#endif

#if defined(HF_CRC_TARGET)
HF_CRC_TARGET static uint32_t copy_by_instruction(uint32_t crc, uint64_t *to, const uint64_t *from, size_t count) {
  for (size_t i = 0; i < count; i++) {
    /* Atomic so that it is read once: another process may write there. */
    uint64_t word = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
    crc = HF_CRC_8(crc, word);
    to[i] = word;
  }
  return crc;
}

HF_CRC_TARGET static inline uint32_t update_by_instruction(uint32_t crc, const unsigned char *data, size_t length) {
  while (length >= 8) {
    uint64_t word;
    memcpy(&word, data, 8);
    crc = HF_CRC_8(crc, word);
    data += 8;
    length -= 8;
  }
  if (length >= 4) {
    uint32_t word;
    memcpy(&word, data, 4);
    crc = HF_CRC_4(crc, word);
    data += 4;
    length -= 4;
  }
  while (length > 0) {
    crc = HF_CRC_1(crc, *data);
    data++;
    length--;
  }
  return crc;
}
#endif

/* Eight shifts a byte. A table would be faster, but the only CPUs that come here are x86-64 from before 2009. */
static uint32_t update_by_shifts(uint32_t crc, const unsigned char *data, size_t length) {
  for (size_t i = 0; i < length; i++) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0x82f63b78u & (0u - (crc & 1u)));
  }
  return crc;
}

#if defined(HF_CRC_TARGET)
static bool by_instruction(void) {
  /* 0 unknown, 1 no, 2 yes: a cache of what the CPU says, the same whoever writes it. */
  static int available;
  int known = __atomic_load_n(&available, __ATOMIC_RELAXED);
  if (__builtin_expect(known == 0, 0)) {
    known = has_instruction() ? 2 : 1;
    __atomic_store_n(&available, known, __ATOMIC_RELAXED);
  }
  return known == 2;
}
#endif

uint32_t hf_crc32c_update(uint32_t seed, const void *data, size_t length) {
#if defined(HF_CRC_TARGET)
  if (by_instruction()) return ~update_by_instruction(~seed, (const unsigned char *)data, length);
#endif
  return ~update_by_shifts(~seed, (const unsigned char *)data, length);
}

uint32_t hf_crc32c_copy(uint32_t seed, uint64_t *to, const uint64_t *from, size_t count) {
#if defined(HF_CRC_TARGET)
  if (by_instruction()) return ~copy_by_instruction(~seed, to, from, count);
#endif
  memcpy(to, from, 8 * count);
  return ~update_by_shifts(~seed, (const unsigned char *)to, 8 * count);
}

double hf_crc32c(double seed, double address, double length) {
  uint32_t start;
  size_t bytes;
  const void *data = hf_pointer(address, 1);
  if (!hf_u32(seed, &start) || data == NULL || !hf_size(length, &bytes)) return HF_E_INVAL;
  uint32_t crc = hf_crc32c_update(start, data, bytes);
  return hf_faulted(data) ? HF_E_FAULT : (double)crc;
}
