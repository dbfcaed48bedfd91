/* crc32c_test.c - CRC-32C: known answers, every alignment, continuation, and the way without the CPU's instruction. */
#include "test.h"

#include "../crc32c.h"

/* The CRC without the instruction, of its own function. */
static uint32_t by_shifts(uint32_t seed, const void *data, size_t length) { return ~hf_crc_by_shifts(~seed, data, length); }

/* Has the library take the CPU for one without the instruction, or ask it anew. */
static void without_instruction(bool without) { __atomic_store_n(&hf_crc_known, without ? 1 : 0, __ATOMIC_RELAXED); }

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
      CHECK_NUMBER(crc(data + start, length), by_shifts(0, data + start, length));
    }
    CHECK_NUMBER(crc(data + start, 4096), by_shifts(0, data + start, 4096));
  }
}

static void continues_from_a_seed(void) {
  fill();
  const double whole = crc(data, 100);
  for (size_t split = 0; split <= 100; split++) {
    CHECK_NUMBER(hf_crc32c(crc(data, split), address_of(data + split), (double)(100 - split)), whole);
  }
  CHECK_NUMBER(hf_crc32c(4294967295.0, address_of(data), 10), by_shifts(UINT32_MAX, data, 10));
  CHECK(hf_crc32c(1, address_of(data), 100) != whole);
  CHECK_NUMBER(hf_crc32c(77, address_of(data), 0), 77);
}

static void software_knows_the_answers_too(void) {
  CHECK(hf_crc_find() == 1 || hf_crc_find() == 2);
  without_instruction(true);
  CHECK(!hf_crc_by_instruction());
  known_answers();
  every_alignment_and_length();
  continues_from_a_seed();
  without_instruction(false);
  CHECK(hf_crc_by_instruction() == (hf_crc_find() == 2));
}

/* The raw updates, with the instruction or without. They go on from any state, so that is not inverted here. */
static void words_and_halves(void) {
  static _Alignas(8) uint64_t words[64], copy[64 + 1];
  uint64_t state = 0x7654321;
  for (size_t i = 0; i < 64; i++) words[i] = test_random(&state);
  for (size_t count = 0; count <= 64; count++) {
    uint32_t start = (uint32_t)test_random(&state), half = (uint32_t)test_random(&state);
    CHECK_WORD(hf_crc_half(start, half), hf_crc_by_shifts(start, &half, sizeof half));
    uint32_t expected = hf_crc_by_shifts(start, words, 8 * count);
    CHECK_WORD(hf_crc_words(start, words, count), expected);
    memset(copy, 0xa5, sizeof copy);
    CHECK_WORD(hf_crc_copy(start, copy, words, count), expected);
    CHECK(memcmp(copy, words, 8 * count) == 0);
    CHECK_WORD(copy[count], UINT64_C(0xa5a5a5a5a5a5a5a5)); /* not one more */
    if (hf_crc_by_instruction()) CHECK_WORD(hf_crc_word(start, words[count % 64]), hf_crc_by_shifts(start, &words[count % 64], 8));
  }
}

static void words_and_halves_without_instruction(void) {
  without_instruction(true);
  words_and_halves();
  without_instruction(false);
}

/* Around each number of words at which a copy goes another way. */
static void long_copies(void) {
  enum { LONGEST = 3 * (3 * 680) };
  static _Alignas(8) uint64_t from[LONGEST], to[LONGEST + 1];
  static const size_t counts[] = {254, 255, 256, 509, 510, 511, 765, 2039, 2040, 2041, 2294, 2295, 2296, 4079, 4080, 4335, LONGEST};
  uint64_t state = 0xabcdef;
  for (size_t i = 0; i < LONGEST; i++) from[i] = test_random(&state);
  for (size_t k = 0; k < sizeof counts / sizeof counts[0]; k++) {
    size_t count = counts[k];
    uint32_t start = (uint32_t)test_random(&state);
    memset(to, 0xa5, sizeof to);
    CHECK_WORD(hf_crc_copy(start, to, from, count), hf_crc_by_shifts(start, from, 8 * count));
    CHECK(memcmp(to, from, 8 * count) == 0);
    CHECK_WORD(to[count], UINT64_C(0xa5a5a5a5a5a5a5a5)); /* not one more */
  }
}

static void long_copies_without_instruction(void) {
  without_instruction(true);
  long_copies();
  without_instruction(false);
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
  RUN(words_and_halves);
  RUN(words_and_halves_without_instruction);
  RUN(long_copies);
  RUN(long_copies_without_instruction);
  RUN(every_bit_counts);
  RUN(refuses);
  return test_report();
}
