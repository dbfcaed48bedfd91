/* crc32c.c - CRC-32C by instruction where the CPU has one, in software elsewhere; chosen at run time. */
#include "crc32c.h"
#include "guard.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
static bool has_instruction(void) {
  /* Not __builtin_cpu_supports: that needs the compiler's own runtime library, and we link none. */
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_SSE4_2) != 0;
}
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
static bool has_instruction(void) { return (getauxval(AT_HWCAP) & (1ul << 7)) != 0; /* HWCAP_CRC32 */ }
#elif defined(__aarch64__) && defined(__APPLE__)
static bool has_instruction(void) { return true; /* every Mac with such a CPU */ }
#else
static bool has_instruction(void) { return false; }
#endif

int hf_crc_known;

int hf_crc_find(void) {
  int known = has_instruction() ? 2 : 1;
  __atomic_store_n(&hf_crc_known, known, __ATOMIC_RELAXED);
  return known;
}

/* Eight shifts a byte. A table would be faster, but the only CPUs that come here are x86-64 from before 2009. */
uint32_t hf_crc_by_shifts(uint32_t crc, const void *data, size_t length) {
  const unsigned char *bytes = (const unsigned char *)data;
  for (size_t i = 0; i < length; i++) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0x82f63b78u & (0u - (crc & 1u)));
  }
  return crc;
}

uint32_t hf_crc32c_update(uint32_t seed, const void *data, size_t length) {
  const unsigned char *bytes = (const unsigned char *)data;
  uint32_t crc = ~seed;
  if (hf_crc_by_instruction()) {
    for (; length >= 8; bytes += 8, length -= 8) {
      uint64_t word;
      memcpy(&word, bytes, 8);
      crc = hf_crc_word(crc, word);
    }
  }
  return ~hf_crc_by_shifts(crc, bytes, length);
}

double hf_crc32c(double seed, double address, double length) {
  uint32_t start;
  size_t bytes;
  const void *data = hf_pointer(address, 1);
  if (!hf_u32(seed, &start) || data == NULL || !hf_size(length, &bytes)) return HF_E_INVAL;
  uint32_t crc = hf_crc32c_update(start, data, bytes);
  return hf_faulted(data) ? HF_E_FAULT : (double)crc;
}
