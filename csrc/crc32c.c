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

#define POLYNOMIAL 0x82f63b78u

/* Eight shifts a byte. A table would be faster, but the only CPUs that come here are x86-64 from before 2009. */
uint32_t hf_crc_by_shifts(uint32_t crc, const void *data, size_t length) {
  const unsigned char *bytes = (const unsigned char *)data;
  for (size_t i = 0; i < length; i++) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (POLYNOMIAL & (0u - (crc & 1u)));
  }
  return crc;
}

/*
 * The instruction's result is there after three cycles, and the next one may begin after one: so three parts are summed up side by side, the later two from
 * zero, and put together: the sum of A and B is that of A with as many zeros behind it as B is long, plus that of B (addition is XOR). To put zeros behind is
 * to multiply by a power of x modulo the polynomial; it is a constant for parts of one length. (Gopal et al., "Fast CRC Computation for iSCSI Polynomial
 * Using CRC32 Instruction", Intel 2011.) Bits are reflected: the highest is the coefficient of x^0.
 */
static uint32_t product(uint32_t a, uint32_t b) {
  uint32_t sum = 0;
  for (int bit = 0; bit < 32; bit++) {
    sum ^= b & (0u - (a >> 31));
    a <<= 1;
    b = (b >> 1) ^ (POLYNOMIAL & (0u - (b & 1u)));
  }
  return sum;
}

/* Words of a part, and x to the power of their bits. Two parts of a page would be taken for one another by CPUs that compare the low bits of addresses. */
enum { LONG_PART = 680, SHORT_PART = 85 };
#define LONG_POWER 0xaca00c83u
#define SHORT_POWER 0x26859ff7u
_Static_assert(3 * SHORT_PART == HF_CRC_LONG, "the shortest copy by parts");

static uint32_t copy_parts(uint32_t crc, uint64_t *to, const hf_word *from, size_t part, uint32_t power) {
  uint32_t second = 0, third = 0;
  for (size_t i = 0; i < part; i++) {
    uint64_t a = hf_word_at(&from[i]);
    uint64_t b = hf_word_at(&from[part + i]);
    uint64_t c = hf_word_at(&from[2 * part + i]);
    crc = hf_crc_word(crc, a);
    second = hf_crc_word(second, b);
    third = hf_crc_word(third, c);
    to[i] = a;
    to[part + i] = b;
    to[2 * part + i] = c;
  }
  return product(product(crc, power) ^ second, power) ^ third;
}

size_t hf_crc_copy_long(uint32_t *crc, uint64_t *to, const hf_word *from, size_t count) {
  size_t done = 0;
  for (; count - done >= 3 * LONG_PART; done += 3 * LONG_PART) *crc = copy_parts(*crc, to + done, from + done, LONG_PART, LONG_POWER);
  for (; count - done >= 3 * SHORT_PART; done += 3 * SHORT_PART) *crc = copy_parts(*crc, to + done, from + done, SHORT_PART, SHORT_POWER);
  return done;
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
