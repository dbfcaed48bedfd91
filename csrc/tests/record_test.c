/* record_test.c - checksummed records and plain words. */
#include "test.h"

enum { BYTES = 4096, SALT = 0xabcd };

static _Alignas(8) unsigned char source[BYTES], segment[BYTES], target[BYTES];

#define SOURCE address_of(source)
#define SEGMENT address_of(segment)
#define TARGET address_of(target)

static const double POSITION = 123456789012344.0;

static void make(uint32_t length) {
  for (size_t i = 0; i < BYTES; i++) source[i] = (unsigned char)(i * 31 + 7);
  memset(source, 0x77, 4);
  memcpy(source + 4, &length, sizeof length);
  memset(segment, 0xcc, BYTES);
  memset(target, 0xdd, BYTES);
}

static void round_trip(void) {
  for (uint32_t length = 16; length <= 1024; length += 8) {
    make(length);
    CHECK_NUMBER(hf_record_write(SEGMENT + 64, SOURCE, length, SALT, POSITION), 0);
    CHECK(source[0] == 0x77 && source[3] == 0x77); /* the source is left alone */
    CHECK(segment[63] == 0xcc && segment[64 + length] == 0xcc);
    CHECK(memcmp(segment + 68, source + 4, length - 4) == 0);
    CHECK_NUMBER(hf_record_read(TARGET, BYTES, SEGMENT + 64, BYTES - 64, SALT, POSITION), length);
    CHECK(memcmp(target + 4, source + 4, length - 4) == 0);
    CHECK(target[length] == 0xdd);
    /* Exactly enough room and limit. */
    CHECK_NUMBER(hf_record_read(TARGET, length, SEGMENT + 64, length, SALT, POSITION), length);
  }
}

/* The checksum is what holdfast.h says: of everything behind it, seeded with salt, then position. */
static void checksum_as_documented(void) {
  make(40);
  CHECK_NUMBER(hf_record_write(SEGMENT, SOURCE, 40, SALT, POSITION), 0);
  uint64_t position = (uint64_t)POSITION;
  uint32_t sum = hf_crc32c_update(SALT, &position, 8), stored;
  sum = hf_crc32c_update(sum, source + 4, 36);
  memcpy(&stored, segment, sizeof stored);
  CHECK_WORD(stored, sum);
}

static void too_small_a_target(void) {
  make(64);
  CHECK_NUMBER(hf_record_write(SEGMENT, SOURCE, 64, SALT, POSITION), 0);
  for (double capacity = 0; capacity < 64; capacity++) {
    CHECK_NUMBER(hf_record_read(TARGET, capacity, SEGMENT, BYTES, SALT, POSITION), 64);
  }
  for (int i = 0; i < 64; i++) CHECK(target[i] == 0xdd);
}

static void every_damaged_byte_is_found(void) {
  enum { LENGTH = 64 };
  make(LENGTH);
  CHECK_NUMBER(hf_record_write(SEGMENT, SOURCE, LENGTH, SALT, POSITION), 0);
  for (size_t bit = 0; bit < LENGTH * 8; bit++) {
    segment[bit / 8] = (unsigned char)(segment[bit / 8] ^ (1u << bit % 8));
    if (!CHECK_NUMBER(hf_record_read(TARGET, BYTES, SEGMENT, BYTES, SALT, POSITION), HF_E_CORRUPT)) printf("  bit %zu\n", bit);
    segment[bit / 8] = (unsigned char)(segment[bit / 8] ^ (1u << bit % 8));
  }
  for (size_t byte = 0; byte < LENGTH; byte++) {
    for (unsigned value = 0; value < 256; value++) {
      unsigned char before = segment[byte];
      if (value == before) continue;
      segment[byte] = (unsigned char)value;
      CHECK_NUMBER(hf_record_read(TARGET, BYTES, SEGMENT, BYTES, SALT, POSITION), HF_E_CORRUPT);
      segment[byte] = before;
    }
  }
  CHECK_NUMBER(hf_record_read(TARGET, BYTES, SEGMENT, BYTES, SALT, POSITION), LENGTH);
  memset(segment, 0, BYTES);
  CHECK_NUMBER(hf_record_read(TARGET, BYTES, SEGMENT, BYTES, SALT, POSITION), HF_E_CORRUPT);
}

static void belongs_to_its_place(void) {
  make(32);
  CHECK_NUMBER(hf_record_write(SEGMENT, SOURCE, 32, SALT, POSITION), 0);
  for (int bit = 0; bit < 53; bit++) {
    double other = (double)((uint64_t)POSITION ^ (UINT64_C(1) << bit));
    CHECK_NUMBER(hf_record_read(TARGET, BYTES, SEGMENT, BYTES, SALT, other), HF_E_CORRUPT);
  }
  for (int bit = 0; bit < 32; bit++) {
    CHECK_NUMBER(hf_record_read(TARGET, BYTES, SEGMENT, BYTES, (double)(SALT ^ (1u << bit)), POSITION), HF_E_CORRUPT);
  }
  /* It ends beyond what there is. */
  for (double limit = 0; limit < 32; limit++) {
    CHECK_NUMBER(hf_record_read(TARGET, BYTES, SEGMENT, limit, SALT, POSITION), HF_E_CORRUPT);
  }
}

static void impossible_lengths(void) {
  static const uint32_t lengths[] = {0, 8, 12, 15, 17, 20, 33, 0xfffffff9, 0xffffffff};
  for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
    make(lengths[i]);
    CHECK_NUMBER(hf_record_write(SEGMENT, SOURCE, lengths[i], SALT, POSITION), HF_E_INVAL);
    memcpy(segment, source, 64);
    CHECK_NUMBER(hf_record_read(TARGET, BYTES, SEGMENT, BYTES, SALT, POSITION), HF_E_CORRUPT);
  }
  make(32);
  CHECK_NUMBER(hf_record_write(SEGMENT, SOURCE, 40, SALT, POSITION), HF_E_INVAL); /* says 32 itself */
  CHECK(segment[0] == 0xcc);
}

static void records_refuse(void) {
  make(32);
  CHECK_REFUSES_ADDRESS(SEGMENT, 8, hf_record_write(BAD, SOURCE, 32, SALT, POSITION));
  CHECK_REFUSES_ADDRESS(SOURCE, 8, hf_record_write(SEGMENT, BAD, 32, SALT, POSITION));
  CHECK_REFUSES(hf_record_write(SEGMENT, SOURCE, BAD, SALT, POSITION));
  CHECK_REFUSES(hf_record_write(SEGMENT, SOURCE, 32, BAD, POSITION));
  CHECK_REFUSES(hf_record_write(SEGMENT, SOURCE, 32, SALT, BAD));
  CHECK_NUMBER(hf_record_write(SEGMENT, SOURCE, 32, 4294967296.0, POSITION), HF_E_INVAL);
  CHECK(segment[0] == 0xcc && segment[4] == 0xcc);
  CHECK_NUMBER(hf_record_write(SEGMENT, SOURCE, 32, SALT, POSITION), 0);
  CHECK_REFUSES_ADDRESS(TARGET, 8, hf_record_read(BAD, BYTES, SEGMENT, BYTES, SALT, POSITION));
  CHECK_REFUSES(hf_record_read(TARGET, BAD, SEGMENT, BYTES, SALT, POSITION));
  CHECK_REFUSES_ADDRESS(SEGMENT, 8, hf_record_read(TARGET, BYTES, BAD, BYTES, SALT, POSITION));
  CHECK_REFUSES(hf_record_read(TARGET, BYTES, SEGMENT, BAD, SALT, POSITION));
  CHECK_REFUSES(hf_record_read(TARGET, BYTES, SEGMENT, BYTES, BAD, POSITION));
  CHECK_REFUSES(hf_record_read(TARGET, BYTES, SEGMENT, BYTES, SALT, BAD));
  CHECK_NUMBER(hf_record_read(TARGET, BYTES, SEGMENT, BYTES, 4294967296.0, POSITION), HF_E_INVAL);
  for (int i = 0; i < 64; i++) CHECK(target[i] == 0xdd);
}

/* Many records of growing lengths are what the same number of single ones is, and reading ends where one is damaged. */
static void many_at_once(void) {
  enum { COUNT = 12 };
  static _Alignas(8) unsigned char single[BYTES];
  make(16);
  size_t at[COUNT + 1];
  at[0] = 0;
  for (int i = 0; i < COUNT; i++) {
    uint32_t length = 16 + 8 * (uint32_t)i;
    memcpy(source + at[i] + 4, &length, sizeof length);
    CHECK_NUMBER(hf_record_write(address_of(single + at[i]), SOURCE + (double)at[i], length, SALT, POSITION + (double)at[i]), 0);
    at[i + 1] = at[i] + length;
  }
  const double all = (double)at[COUNT];
  CHECK_NUMBER(hf_records_write(SEGMENT + 8, SOURCE, all, SALT, POSITION), 0);
  CHECK(memcmp(segment + 8, single, at[COUNT]) == 0);
  CHECK(segment[7] == 0xcc && segment[8 + at[COUNT]] == 0xcc);
  for (int i = 0; i <= COUNT; i++) {
    memset(target, 0xdd, BYTES);
    CHECK_NUMBER(hf_records_read(TARGET, BYTES, SEGMENT + 8, BYTES - 8, i, SALT, POSITION), (double)at[i]);
    CHECK(memcmp(target, single, at[i]) == 0 && target[at[i]] == 0xdd);
    CHECK_NUMBER(hf_records_read(TARGET, BYTES, SEGMENT + 8, (double)at[i], COUNT, SALT, POSITION), (double)at[i]);
    CHECK_NUMBER(hf_records_read(TARGET, (double)at[i], SEGMENT + 8, all, COUNT, SALT, POSITION), (double)at[i]);
    if (i < COUNT) {
      CHECK_NUMBER(hf_records_read(TARGET, (double)at[i + 1] - 1, SEGMENT + 8, all, COUNT, SALT, POSITION), (double)at[i]);
      unsigned char *byte = segment + 8 + at[i + 1] - 1;
      *byte = (unsigned char)(*byte ^ 4);
      CHECK_NUMBER(hf_records_read(TARGET, BYTES, SEGMENT + 8, all, COUNT, SALT, POSITION), (double)at[i]);
      *byte = (unsigned char)(*byte ^ 4);
    }
  }
  CHECK_NUMBER(hf_records_read(TARGET, BYTES, SEGMENT + 8, all, COUNT, SALT, POSITION + 8), 0);
  CHECK_NUMBER(hf_records_write(SEGMENT, SOURCE, all - 8, SALT, POSITION), HF_E_INVAL);
  CHECK_NUMBER(hf_records_write(SEGMENT, SOURCE, all + 8, SALT, POSITION), HF_E_INVAL);
  CHECK_NUMBER(hf_records_write(SEGMENT, SOURCE, 0, SALT, POSITION), 0);
  CHECK_REFUSES_ADDRESS(SEGMENT, 8, hf_records_write(BAD, SOURCE, all, SALT, POSITION));
  CHECK_REFUSES_ADDRESS(SOURCE, 8, hf_records_write(SEGMENT, BAD, all, SALT, POSITION));
  CHECK_REFUSES(hf_records_write(SEGMENT, SOURCE, BAD, SALT, POSITION));
  CHECK_REFUSES(hf_records_write(SEGMENT, SOURCE, all, BAD, POSITION));
  CHECK_REFUSES(hf_records_write(SEGMENT, SOURCE, all, SALT, BAD));
  CHECK_REFUSES_ADDRESS(TARGET, 8, hf_records_read(BAD, BYTES, SEGMENT, all, COUNT, SALT, POSITION));
  CHECK_REFUSES_ADDRESS(SEGMENT, 8, hf_records_read(TARGET, BYTES, BAD, all, COUNT, SALT, POSITION));
  CHECK_REFUSES(hf_records_read(TARGET, BAD, SEGMENT, all, COUNT, SALT, POSITION));
  CHECK_REFUSES(hf_records_read(TARGET, BYTES, SEGMENT, BAD, COUNT, SALT, POSITION));
  CHECK_REFUSES(hf_records_read(TARGET, BYTES, SEGMENT, all, BAD, SALT, POSITION));
  CHECK_REFUSES(hf_records_read(TARGET, BYTES, SEGMENT, all, COUNT, BAD, POSITION));
  CHECK_REFUSES(hf_records_read(TARGET, BYTES, SEGMENT, all, COUNT, SALT, BAD));
}

static void words(void) {
  _Alignas(8) uint64_t cells[4] = {1, 2, 3, 4};
  _Alignas(8) double values[4] = {0, 9007199254740991.0, 7, -1};
  CHECK_NUMBER(hf_words_store(address_of(cells), 3, address_of(values)), 0);
  CHECK(cells[0] == 0 && cells[1] == UINT64_C(9007199254740991) && cells[2] == 7 && cells[3] == 4);
  memset(values, 0, sizeof values);
  CHECK_NUMBER(hf_words_load(address_of(cells), 3, address_of(values)), 0);
  CHECK(values[0] == 0 && values[1] == 9007199254740991.0 && values[2] == 7 && values[3] == 0);
  cells[2] = UINT64_C(1) << 53;
  CHECK_NUMBER(hf_words_load(address_of(cells), 3, address_of(values)), HF_E_CORRUPT);
  CHECK_NUMBER(hf_words_load(address_of(cells), 2, address_of(values)), 0);
  CHECK_NUMBER(hf_words_load(address_of(cells), 0, address_of(values)), 0);
  CHECK_NUMBER(hf_words_store(address_of(cells), 0, address_of(values)), 0);
  cells[2] = 1;
  for (int i = -1; i < TEST_BAD_NUMBERS; i++) {
    values[0] = 55, values[1] = i < 0 ? -1 : test_bad_number(i);
    CHECK_NUMBER(hf_words_store(address_of(cells), 2, address_of(values)), HF_E_INVAL);
    CHECK(cells[0] == 0); /* all or nothing */
  }
  CHECK_REFUSES_ADDRESS(address_of(cells), 8, hf_words_load(BAD, 1, address_of(values)));
  CHECK_REFUSES(hf_words_load(address_of(cells), BAD, address_of(values)));
  CHECK_REFUSES_ADDRESS(address_of(values), 8, hf_words_load(address_of(cells), 1, BAD));
  CHECK_REFUSES_ADDRESS(address_of(cells), 8, hf_words_store(BAD, 1, address_of(values)));
  CHECK_REFUSES(hf_words_store(address_of(cells), BAD, address_of(values)));
  CHECK_REFUSES_ADDRESS(address_of(values), 8, hf_words_store(address_of(cells), 1, BAD));
}

/* words[0] is stored last: who sees it sees the others. */
static void first_word_comes_last(void) {
  enum { COUNT = 300000 };
  uint64_t *shared = test_shared(4096);
  pid_t child = test_fork();
  if (child == 0) {
    for (int i = 1; i <= COUNT; i++) {
      _Alignas(8) double values[4] = {i, i, i, i};
      (void)hf_words_store(address_of(shared), 4, address_of(values));
    }
    test_child_end();
  }
  _Alignas(8) double values[4];
  do {
    CHECK_NUMBER(hf_words_load(address_of(shared), 4, address_of(values)), 0);
    for (int i = 1; i < 4; i++) CHECK(values[i] >= values[0]);
  } while (values[0] < (double)COUNT && test_checks_failed < 100);
  CHECK_WORD(test_reap(child), 0);
  NEED(munmap(shared, 4096) == 0);
}

/* The sum of words is that of the bytes that a store makes of them. */
static void words_checksum(void) {
  static _Alignas(8) double values[5] = {0, 1, 9007199254740991.0, 4294967296.0, 77};
  static _Alignas(8) uint64_t stored[5];
  for (int count = 0; count <= 5; count++) {
    CHECK_NUMBER(hf_words_store(address_of(stored), count, address_of(values)), 0);
    double expected = count == 0 ? (double)SALT : hf_crc32c(SALT, address_of(stored), count * 8.0);
    CHECK_NUMBER(hf_words_checksum(count, SALT, address_of(values)), expected);
  }
  CHECK_REFUSES(hf_words_checksum(BAD, SALT, address_of(values)));
  CHECK_REFUSES(hf_words_checksum(5, BAD, address_of(values)));
  CHECK_NUMBER(hf_words_checksum(5, 4294967296.0, address_of(values)), HF_E_INVAL);
  CHECK_REFUSES_ADDRESS(address_of(values), 8, hf_words_checksum(5, SALT, BAD));
  for (int i = 0; i < TEST_BAD_NUMBERS; i++) {
    values[3] = test_bad_number(i);
    CHECK_NUMBER(hf_words_checksum(5, SALT, address_of(values)), HF_E_INVAL);
  }
  values[3] = -1;
  CHECK_NUMBER(hf_words_checksum(5, SALT, address_of(values)), HF_E_INVAL);
}

int main(void) {
  RUN(round_trip);
  RUN(checksum_as_documented);
  RUN(too_small_a_target);
  RUN(every_damaged_byte_is_found);
  RUN(belongs_to_its_place);
  RUN(impossible_lengths);
  RUN(records_refuse);
  RUN(many_at_once);
  RUN(words);
  RUN(words_checksum);
  RUN(first_word_comes_last);
  return test_report();
}
