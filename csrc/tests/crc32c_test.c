/* crc32c_test.c - CRC-32C: known answers, every alignment, continuation, and the way without the CPU's instruction. */
#include "test.h"

#include "../guard.h"

/* The source once more, as for a CPU that is none of the known ones, under other names. */
#undef __x86_64__
#undef __aarch64__
#define hf_crc32c software_crc32c
#define hf_crc32c_update software_update
double software_crc32c(double seed, double address, double length);
uint32_t software_update(uint32_t seed, const void *data, size_t length);
#include "../crc32c.c"
#undef hf_crc32c
#undef hf_crc32c_update

static double crc(const void *data, size_t length) { return hf_crc32c(0, address_of(data), (double)length); }

static void known_answers(void) {
  unsigned char zeros[32], ones[32], up[32], down[32];
  for (int i = 0; i < 32; i++) zeros[i] = 0, ones[i] = 0xff, up[i] = (unsigned char)i, down[i] = (unsigned char)(31 - i);
  CHECK_NUMBER(crc(zeros, 32), 0x8a9136aa);
  CHECK_NUMBER(crc(ones, 32), 0x62a8ab43);
  CHECK_NUMBER(crc(up, 32), 0x46dd794e);
  CHECK_NUMBER(crc(down, 32), 0x113fdb5c);
  CHECK_NUMBER(crc("123456789", 9), 0xe3069283);
  CHECK_NUMBER(crc("", 0), 0);
  /* RFC 3720 B.4: an iSCSI read command. */
  static const unsigned char command[48] = {0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0,
                                            0, 0, 0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02};
  CHECK_NUMBER(crc(command, 48), 0xd9963a56);
}

static unsigned char data[4096 + 16];

static void fill(void) {
  uint64_t state = 0x1234567;
  for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)(test_random(&state) >> 56);
}

static void every_alignment_and_length(void) {
  fill();
  for (size_t start = 0; start < 16; start++) {
    for (size_t length = 0; length <= 100; length++) {
      CHECK_NUMBER(crc(data + start, length), software_update(0, data + start, length));
    }
    CHECK_NUMBER(crc(data + start, 4096), software_update(0, data + start, 4096));
  }
}

static void continues_from_a_seed(void) {
  fill();
  const double whole = crc(data, 100);
  for (size_t split = 0; split <= 100; split++) {
    CHECK_NUMBER(hf_crc32c(crc(data, split), address_of(data + split), (double)(100 - split)), whole);
  }
  CHECK_NUMBER(hf_crc32c(4294967295.0, address_of(data), 10), software_update(UINT32_MAX, data, 10));
  CHECK(hf_crc32c(1, address_of(data), 100) != whole);
  CHECK_NUMBER(hf_crc32c(77, address_of(data), 0), 77);
}

static void software_knows_the_answers_too(void) {
  unsigned char zeros[32] = {0};
  CHECK_NUMBER(software_crc32c(0, address_of("123456789"), 9), 0xe3069283);
  CHECK_NUMBER(software_crc32c(0, address_of(zeros), 32), 0x8a9136aa);
}

static void every_bit_counts(void) {
  fill();
  const double whole = crc(data, 64);
  for (size_t bit = 0; bit < 64 * 8; bit++) {
    data[bit / 8] = (unsigned char)(data[bit / 8] ^ (1u << bit % 8));
    CHECK(crc(data, 64) != whole);
    data[bit / 8] = (unsigned char)(data[bit / 8] ^ (1u << bit % 8));
  }
}

static void refuses(void) {
  CHECK_REFUSES(hf_crc32c(BAD, address_of(data), 1));
  CHECK_REFUSES(hf_crc32c(0, BAD, 1));
  CHECK_REFUSES(hf_crc32c(0, address_of(data), BAD));
  CHECK_NUMBER(hf_crc32c(4294967296.0, address_of(data), 1), HF_E_INVAL);
  CHECK_NUMBER(hf_crc32c(0, 0, 1), HF_E_INVAL);
}

int main(void) {
  RUN(known_answers);
  RUN(every_alignment_and_length);
  RUN(continues_from_a_seed);
  RUN(software_knows_the_answers_too);
  RUN(every_bit_counts);
  RUN(refuses);
  return test_report();
}
