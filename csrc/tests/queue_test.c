/* queue_test.c - one record of a queue in one step: what it does, what it leaves to others, and with owners that are killed at any moment. */
#include "test.h"

enum {
  SALT = 0x5eed,         /* of the producer's cells and the records */
  CONSUMER_SALT = 0x6ea, /* another one, as in a group's file */
  PRODUCER_WORDS = 6,
  CONSUMER_WORDS = 10,
  SEGMENTS = 3,
  OWN = 7,
  OTHER = 8,
};

/* Not of the enumeration: they are reckoned with as doubles, too. */
#define SEGMENT_BYTES 1024
#define FIRST 256 /* where the records of a segment begin */
#define BASE 4096 /* position of the first segment's first byte */

/* What processes share. */
struct shared {
  uint64_t lock[16];
  unsigned char cells[HF_CELL_PAIR_BYTES];
  uint64_t consumer_lock[16];
  unsigned char consumer_cells[HF_CELL_PAIR_BYTES];
  unsigned char segments[SEGMENTS][SEGMENT_BYTES];
};

/* What each of them has for itself: the two sides, what it has seen of the tail, and a record. */
struct handle {
  _Alignas(8) double producer[HF_SIDE_BYTES / 8], consumer[HF_SIDE_BYTES / 8], tail[HF_TAIL_WORDS + 1];
  _Alignas(8) unsigned char record[2048];
};

static _Alignas(128) struct shared here, before;
static struct shared *shared = &here;
static struct handle handle, handle_before;

#define PRODUCER address_of(handle.producer)
#define CONSUMER address_of(handle.consumer)
#define RECORD address_of(handle.record)
#define RECORD_PAYLOAD_AT address_of(handle.record + HF_RECORD_PAYLOAD)
#define ROOM ((double)sizeof handle.record)

static double *producer_values(void) { return handle.producer + HF_SIDE_VALUES / 8; }
static double *consumer_values(void) { return handle.consumer + HF_SIDE_VALUES / 8; }
static double segment_at(int id) { return address_of(shared->segments[id - 1]); }

static double record_bytes(size_t payload) { return (double)(HF_RECORD_AROUND + (payload + 7) / 8 * 8); }

static uint64_t word_at(const void *place) {
  uint64_t word;
  memcpy(&word, place, sizeof word);
  return word;
}

static uint32_t half_at(const void *place) {
  uint32_t half;
  memcpy(&half, place, sizeof half);
  return half;
}

/* ---- the cells, without the functions that are tested -------------------------------------------------------------------- */

static void get_cell(double *words, bool of_consumer) {
  double count = of_consumer ? CONSUMER_WORDS : PRODUCER_WORDS, salt = of_consumer ? CONSUMER_SALT : SALT;
  words[of_consumer ? CONSUMER_WORDS : PRODUCER_WORDS] = 0;
  NEED(hf_cell_read(address_of(of_consumer ? shared->consumer_cells : shared->cells), count, salt, address_of(words)) == 0);
}

/* Publishes one word of a cell as another. */
static void set_word(bool of_consumer, unsigned index, double value) {
  double words[CONSUMER_WORDS + 1];
  get_cell(words, of_consumer);
  words[index] = value;
  const double lock = address_of(of_consumer ? shared->consumer_lock : shared->lock);
  const double cells = address_of(of_consumer ? shared->consumer_cells : shared->cells);
  NEED(hf_cas64(lock, 0, 1) == 0);
  NEED(hf_commit(lock, 1, cells, of_consumer ? CONSUMER_WORDS : PRODUCER_WORDS, of_consumer ? CONSUMER_SALT : SALT, address_of(words)) >= 0);
}

static void set_producer(unsigned index, double value) { set_word(false, index, value); }
static void set_consumer(unsigned index, double value) { set_word(true, index, value); }

static void check_cell(bool of_consumer, double position, double segment, double offset, double sequence, double bytes) {
  double words[CONSUMER_WORDS + 1];
  get_cell(words, of_consumer);
  CHECK_NUMBER(words[HF_POSITION], position);
  CHECK_NUMBER(words[HF_SEGMENT], segment);
  CHECK_NUMBER(words[HF_OFFSET], offset);
  CHECK_NUMBER(words[HF_SEQUENCE], sequence);
  CHECK_NUMBER(words[HF_BYTES], bytes);
}

/* The sides of an owner, with segment 1. */
static void open_handle(double owner) {
  memset(&handle, 0, sizeof handle);
  NEED(hf_side_init(PRODUCER, address_of(shared->lock), owner, address_of(shared->cells), PRODUCER_WORDS, SALT, SALT) == 0);
  NEED(hf_side_init(CONSUMER, address_of(shared->consumer_lock), owner, address_of(shared->consumer_cells), CONSUMER_WORDS, CONSUMER_SALT, SALT) == 0);
  NEED(hf_side_tail(CONSUMER, address_of(shared->cells), address_of(handle.tail)) == 0);
  NEED(hf_side_segment(PRODUCER, 1, segment_at(1), SEGMENT_BYTES, 0, 0) == 0);
  NEED(hf_side_segment(CONSUMER, 1, segment_at(1), SEGMENT_BYTES, 0, 0) == 0);
}

static void start_cells(void) {
  memset(shared, 0, sizeof *shared);
  double words[CONSUMER_WORDS + 1] = {BASE + FIRST, 1, FIRST, 1, 0, 0, 0, 0, 0, 0};
  NEED(hf_cell_init(address_of(shared->cells), PRODUCER_WORDS, SALT, address_of(words)) == 0);
  words[HF_HEAD] = 1;
  NEED(hf_cell_init(address_of(shared->consumer_cells), CONSUMER_WORDS, CONSUMER_SALT, address_of(words)) == 0);
}

static void start(void) {
  start_cells();
  open_handle(OWN);
}

/* Fills the memory of the record with ones, but for a payload of `length` bytes. */
static void place_payload(size_t length, unsigned char first) {
  memset(handle.record, 0xff, sizeof handle.record);
  for (size_t i = 0; i < length; i++) handle.record[HF_RECORD_PAYLOAD + i] = (unsigned char)(first + i);
}

static double append(size_t length, unsigned char first) {
  place_payload(length, first);
  return hf_append(PRODUCER, RECORD_PAYLOAD_AT, (double)length);
}

static double front(void) {
  memset(handle.record, 0xff, sizeof handle.record);
  return hf_front(CONSUMER, RECORD, ROOM);
}

static bool is_payload(size_t length, unsigned char first) {
  bool same = half_at(handle.record + 8) == length;
  for (size_t i = 0; i < length; i++) same &= handle.record[HF_RECORD_PAYLOAD + i] == (unsigned char)(first + i);
  return same;
}

/* Nothing that is shared may change from here on. */
static void remember(void) {
  before = *shared;
  handle_before = handle;
}

static void check_untouched(void) { CHECK(memcmp(&before, shared, sizeof before) == 0); }

/* The call has this result and changes nothing that is shared: no record is published, and the lock is as it was. */
#define CHECK_LEAVES(call, result) \
  do {                             \
    remember();                    \
    CHECK_NUMBER(call, result);    \
    check_untouched();             \
  } while (0)

/* ---- the plain case ------------------------------------------------------------------------------------------------------- */

static void append_as_documented(void) {
  for (size_t length = 0; length <= 40; length++) {
    start();
    double position = BASE + FIRST, bytes = record_bytes(length), sum = 0;
    for (unsigned char turn = 1; turn <= 3; turn++) {
      const unsigned char *record = shared->segments[0] + (int)(position - BASE);
      CHECK_NUMBER(append(length, turn), 1);
      /* Word by word as holdfast.h has it. */
      CHECK_WORD(half_at(record + 4), bytes);
      CHECK_WORD(half_at(record + 8), length);
      CHECK_WORD(half_at(record + 12), 0);
      CHECK_WORD(word_at(record + 16), turn);
      for (size_t i = 0; i < (length + 7) / 8 * 8; i++) CHECK_WORD(record[24 + i], i < length ? (unsigned char)(turn + i) : 0);
      CHECK_WORD(word_at(record + (size_t)bytes - 8), bytes);
      uint64_t place = (uint64_t)position;
      uint32_t seed = hf_crc32c_update(SALT, &place, sizeof place);
      CHECK_WORD(half_at(record), hf_crc32c_update(seed, record + 4, (size_t)bytes - 4));
      CHECK_WORD(word_at(record + (size_t)bytes), 0); /* nothing behind it */
      /* record.c is of the same opinion. */
      CHECK_NUMBER(hf_record_read(RECORD, ROOM, address_of(record), bytes, SALT, position), bytes);
      position += bytes;
      sum += bytes;
      check_cell(false, position, 1, position - BASE, turn + 1, sum);
      CHECK_WORD(shared->lock[0], 0);
      CHECK_NUMBER(producer_values()[HF_POSITION], position);
      CHECK_NUMBER(producer_values()[HF_SEQUENCE], turn + 1);
      CHECK_NUMBER(producer_values()[5], 0); /* words that are not its business stay */
      CHECK_WORD(word_at(producer_values() + PRODUCER_WORDS), word_at(shared->cells));
    }
    for (size_t i = 0; i < FIRST; i++) CHECK_WORD(shared->segments[0][i], 0);
  }
}

/* Payloads that end where their memory does: nothing behind them is read. By address and as an array. */
static void append_from_anywhere(void) {
  const size_t page = (size_t)hf_page_size();
  unsigned char *memory = (unsigned char *)mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  NEED(memory != MAP_FAILED && mprotect(memory + page, page, PROT_NONE) == 0);
  for (size_t length = 1; length <= 70; length++) {
    unsigned char *payload = memory + page - length;
    for (size_t i = 0; i < length; i++) payload[i] = (unsigned char)(length + i);
    start();
    CHECK_NUMBER(hf_append(PRODUCER, address_of(payload), (double)length), 1);
    CHECK_NUMBER(hf_append_bytes(PRODUCER, payload, (double)length), 1);
    for (int i = 0; i < 2; i++) {
      CHECK_NUMBER(front(), record_bytes(length));
      CHECK(is_payload(length, (unsigned char)length));
      CHECK_NUMBER(hf_pass(CONSUMER, record_bytes(length)), 0);
    }
  }
  NEED(munmap(memory, 2 * page) == 0);
}

static void front_and_pass(void) {
  for (size_t length = 0; length <= 40; length++) {
    start();
    set_consumer(8, 77); /* a word that is not its business */
    for (unsigned char turn = 1; turn <= 3; turn++) NEED(append(length, turn) == 1);
    double position = BASE + FIRST, bytes = record_bytes(length);
    for (unsigned char turn = 1; turn <= 3; turn++) {
      CHECK_NUMBER(front(), bytes);
      CHECK_WORD(shared->consumer_lock[0], OWN);
      CHECK(is_payload(length, turn));
      CHECK_WORD(word_at(handle.record + 16), turn);
      CHECK_WORD(handle.record[(size_t)bytes], 0xff); /* not one byte more */
      check_cell(true, position, 1, position - BASE, turn, (turn - 1) * bytes);
      CHECK_NUMBER(hf_pass(CONSUMER, bytes), 0);
      position += bytes;
      CHECK_WORD(shared->consumer_lock[0], 0);
      check_cell(true, position, 1, position - BASE, turn + 1, turn * bytes);
      CHECK_NUMBER(consumer_values()[HF_POSITION], position);
      CHECK_NUMBER(consumer_values()[HF_HEAD], 1);
      CHECK_NUMBER(consumer_values()[8], 77);
      CHECK_WORD(word_at(consumer_values() + CONSUMER_WORDS), word_at(shared->consumer_cells));
    }
    CHECK_NUMBER(front(), 0);
    CHECK_WORD(shared->consumer_lock[0], 0);
    CHECK_WORD(handle.record[0], 0xff);
  }
}

/* What others commit is seen, though values are kept: between any two calls another handle appends and takes. */
static void others_are_seen(void) {
  start();
  struct handle own = handle;
  for (unsigned char turn = 0; turn < 8; turn++) {
    CHECK_NUMBER(append(8, turn), 1);
    own = handle;
    open_handle(OTHER);
    CHECK_NUMBER(append(8, (unsigned char)(100 + turn)), 1);
    CHECK_NUMBER(front(), 40);
    CHECK(is_payload(8, turn));
    CHECK_NUMBER(hf_pass(CONSUMER, 40), 0);
    handle = own;
    CHECK_NUMBER(front(), 40);
    CHECK(is_payload(8, (unsigned char)(100 + turn)));
    CHECK_NUMBER(hf_pass(CONSUMER, 40), 0);
    CHECK_NUMBER(front(), 0);
  }
}

static void a_record_that_is_not_passed_stays(void) {
  start();
  NEED(append(8, 1) == 1);
  for (int i = 0; i < 3; i++) {
    remember();
    CHECK_NUMBER(front(), 40);
    CHECK_NUMBER(hf_unlock(address_of(shared->consumer_lock), OWN), 0);
    check_untouched();
  }
}

static void tells_of_those_who_wait(void) {
  start();
  CHECK_NUMBER(append(8, 1), 1);
  NEED(hf_expect(address_of(shared->lock), 0) == 0);
  CHECK_NUMBER(append(8, 2), 2);
  CHECK_NUMBER(append(8, 3), 2); /* until it is rung */
  NEED(hf_ring(address_of(shared->lock), 1) == 0);
  CHECK_NUMBER(append(8, 4), 1);
  NEED(front() == 40);
  CHECK_NUMBER(hf_pass(CONSUMER, 40), 0); /* those wait for a record, not for this */
  NEED(hf_expect(address_of(shared->consumer_lock), 0) == 0);
  NEED(front() == 40);
  CHECK_NUMBER(hf_pass(CONSUMER, 40), 1);
}

/* ---- what is left to others ----------------------------------------------------------------------------------------------- */

static void append_decides_nothing(void) {
  start();
  NEED(append(8, 1) == 1);
  for (int i = 0; i < 2; i++) { /* also its own lock, which an earlier call left */
    shared->lock[0] = i == 0 ? OTHER : OWN;
    CHECK_LEAVES(append(8, 2), HF_E_BUSY);
    shared->lock[0] = 0;
    CHECK_NUMBER(append(8, 2), 1);
  }

  NEED(hf_side_segment(PRODUCER, 0, 0, 0, 0, 0) == 0);
  CHECK_LEAVES(append(8, 3), HF_E_BUSY);
  NEED(hf_side_segment(PRODUCER, 2, segment_at(2), SEGMENT_BYTES, 0, 0) == 0);
  CHECK_LEAVES(append(8, 3), HF_E_BUSY);
  NEED(hf_side_segment(PRODUCER, 1, segment_at(1), SEGMENT_BYTES, 0, 0) == 0);
  CHECK_NUMBER(append(8, 3), 1);

  /* To the last byte of the segment, and not one more. */
  size_t room = SEGMENT_BYTES - FIRST - 4 * 40;
  CHECK_LEAVES(append(room - HF_RECORD_AROUND + 1, 4), HF_E_BUSY);
  CHECK_LEAVES(hf_append(PRODUCER, RECORD, 2147483647.0), HF_E_BUSY);
  CHECK_LEAVES(hf_append_bytes(PRODUCER, handle.record, 2147483647.0), HF_E_BUSY);
  CHECK_NUMBER(append(room - HF_RECORD_AROUND, 4), 1);
  CHECK_LEAVES(append(0, 5), HF_E_BUSY);
  CHECK_WORD(shared->segments[1][0], 0);

  /* Places that no tail has. */
  set_producer(HF_OFFSET, FIRST + 4);
  CHECK_LEAVES(append(8, 5), HF_E_BUSY);
  set_producer(HF_OFFSET, SEGMENT_BYTES + 8);
  CHECK_LEAVES(append(8, 5), HF_E_BUSY);
  set_producer(HF_OFFSET, 9007199254740984.0);
  CHECK_LEAVES(append(8, 5), HF_E_BUSY);
  set_producer(HF_OFFSET, FIRST);
  CHECK_NUMBER(append(8, 5), 1);
}

/* A limit is of the bytes that were ever pushed, and met to the byte. */
static void append_below_a_limit(void) {
  for (int more = -1; more <= 1; more++) {
    start();
    NEED(append(8, 1) == 1);
    CHECK_NUMBER(hf_side_limit(PRODUCER, 80 + more), 0);
    if (more < 0) CHECK_LEAVES(append(8, 2), HF_E_BUSY);
    else CHECK_NUMBER(append(8, 2), 1);
    CHECK_LEAVES(append(8, 3), HF_E_BUSY);
    CHECK_NUMBER(hf_side_limit(PRODUCER, 160), 0); /* consumers have made room */
    CHECK_NUMBER(append(8, 3), 1);
    CHECK_NUMBER(hf_side_limit(PRODUCER, 0), 0);
    CHECK_LEAVES(append(0, 4), HF_E_BUSY);
    NEED(hf_side_segment(PRODUCER, 1, segment_at(1), SEGMENT_BYTES, 0, 0) == 0);
    CHECK_LEAVES(append(0, 4), HF_E_BUSY); /* it is not the segment's */
  }
}

/* The payload that was placed is whole afterwards: the step-by-step way goes on with it. */
static void append_leaves_the_payload(void) {
  start();
  set_producer(HF_SEGMENT, 2);
  for (size_t length = 0; length <= 17; length++) {
    CHECK_NUMBER(append(length, 9), HF_E_BUSY);
    for (size_t i = 0; i < length; i++) CHECK_WORD(handle.record[HF_RECORD_PAYLOAD + i], 9 + i);
  }
}

static void numbers_that_end(void) {
  start();
  set_producer(HF_BYTES, 9007199254740991.0);
  CHECK_LEAVES(append(8, 1), HF_E_BUSY); /* beyond the limit, though there is none */
  static const unsigned words[] = {HF_POSITION, HF_SEQUENCE};
  for (size_t i = 0; i < 2; i++) {
    start();
    NEED(append(8, 1) == 1);
    set_producer(words[i], 9007199254740991.0);
    remember();
    CHECK_NUMBER(append(8, 2), HF_E_INVAL);
    CHECK(memcmp(before.cells, shared->cells, 8) == 0); /* not published */
    CHECK_WORD(shared->lock[0], 0);
    CHECK_WORD(word_at(producer_values() + PRODUCER_WORDS), 0); /* and so the values are not those of the cell */
    CHECK_NUMBER(append(8, 2), HF_E_INVAL);
  }
  start();
  for (unsigned char turn = 1; turn <= 2; turn++) NEED(append(8, turn) == 1);
  set_consumer(HF_BYTES, 9007199254740991.0);
  NEED(front() == 40);
  remember();
  CHECK_NUMBER(hf_pass(CONSUMER, 40), HF_E_INVAL);
  CHECK(memcmp(before.consumer_cells, shared->consumer_cells, 8) == 0);
  CHECK_WORD(shared->consumer_lock[0], 0);
  CHECK_NUMBER(front(), 40); /* still the same */
  CHECK(is_payload(8, 1));
}

static void damaged_cells(void) {
  for (int which = 0; which < 2; which++) {
    for (size_t byte = 0; byte < HF_CELL_PAIR_BYTES; byte++) {
      start();
      NEED(append(8, 1) == 1);
      unsigned char *cells = which == 0 ? shared->cells : shared->consumer_cells;
      size_t current = (cells[0] & 1u) == 0 ? 128 : 256, count = which == 0 ? PRODUCER_WORDS : CONSUMER_WORDS;
      bool matters = byte < 8 || (byte >= current && byte < current + 8 * count) || (byte >= current + 112 && byte < current + 124);
      handle.producer[HF_SIDE_VALUES / 8 + PRODUCER_WORDS] = 0; /* it has not seen them yet */
      cells[byte] ^= 0x10;
      remember();
      double result = which == 0 ? append(8, 2) : front();
      if (!matters) {
        CHECK_NUMBER(result, which == 0 ? 1 : 40);
        continue;
      }
      CHECK_NUMBER(result, HF_E_CORRUPT);
      check_untouched();
      if (which != 0) continue;
      /* The tail is where a consumer looks. */
      CHECK_LEAVES(front(), HF_E_CORRUPT);
    }
  }
  start();
  NEED(append(8, 1) == 1);
  /* The last version there can be. */
  uint64_t last = (UINT64_C(1) << 48) - 1, next;
  next = last | (uint64_t)(hf_crc32c_update(SALT, &last, 8) & 0xffff) << 48;
  unsigned char *cell = shared->cells + 128 + (last & 1) * 128;
  memcpy(cell, shared->cells + 128 + (shared->cells[0] & 1) * 128, 128);
  memcpy(cell + 112, &last, 8);
  uint32_t checksum = hf_crc32c_update(hf_crc32c_update(SALT, cell, 8 * PRODUCER_WORDS), &last, 8);
  memcpy(cell + 120, &checksum, 4);
  memcpy(shared->cells, &next, 8);
  remember();
  CHECK_NUMBER(append(8, 2), HF_E_CORRUPT);
  CHECK(memcmp(before.cells, shared->cells, sizeof before.cells) == 0);
  CHECK_WORD(shared->lock[0], 0);
}

static void front_decides_nothing(void) {
  start();
  CHECK_LEAVES(front(), HF_E_BUSY); /* it has not seen the cursor yet */
  /* Nothing there: said without the lock, whoever has it, and without a segment. */
  shared->consumer_lock[0] = OTHER;
  CHECK_LEAVES(front(), 0);
  NEED(hf_side_segment(CONSUMER, 0, 0, 0, 0, 0) == 0);
  CHECK_LEAVES(front(), 0);
  shared->consumer_lock[0] = 0;
  set_consumer(HF_LEASED, 1); /* it may come back */
  CHECK_LEAVES(front(), HF_E_BUSY);
  set_consumer(HF_LEASED, 0);

  NEED(append(8, 1) == 1);
  CHECK_LEAVES(front(), HF_E_BUSY); /* no segment */
  NEED(hf_side_segment(CONSUMER, 2, segment_at(2), SEGMENT_BYTES, 0, 0) == 0);
  CHECK_LEAVES(front(), HF_E_BUSY); /* another one */
  NEED(hf_side_segment(CONSUMER, 1, segment_at(1), SEGMENT_BYTES, 0, 0) == 0);
  for (int i = 0; i < 2; i++) {
    shared->consumer_lock[0] = i == 0 ? OTHER : OWN;
    CHECK_LEAVES(front(), HF_E_BUSY);
    shared->consumer_lock[0] = 0;
  }
  set_consumer(HF_LEASED, 1);
  CHECK_LEAVES(front(), HF_E_BUSY);
  set_consumer(HF_LEASED, 0);
  set_consumer(HF_HEAD, 2); /* the segment is not given up with this record */
  CHECK_LEAVES(front(), HF_E_BUSY);
  set_consumer(HF_HEAD, 1);
  set_consumer(HF_OFFSET, FIRST + 4);
  CHECK_LEAVES(front(), HF_E_BUSY);
  set_consumer(HF_OFFSET, 9007199254740984.0);
  CHECK_LEAVES(front(), HF_E_BUSY);
  set_consumer(HF_OFFSET, FIRST);
  set_consumer(HF_SEQUENCE, 2); /* the record is another's */
  CHECK_LEAVES(front(), HF_E_BUSY);
  set_consumer(HF_SEQUENCE, 1);
  set_consumer(HF_POSITION, BASE + FIRST - 8);
  CHECK_LEAVES(front(), HF_E_BUSY);
  set_consumer(HF_POSITION, BASE + FIRST);
  NEED(hf_side_segment(CONSUMER, 1, segment_at(1), FIRST + 32, 0, 0) == 0);
  CHECK_LEAVES(front(), HF_E_BUSY); /* the tail lies behind what is mapped */
  NEED(hf_side_segment(CONSUMER, 1, segment_at(1), SEGMENT_BYTES, 0, 0) == 0);

  static const double small[] = {0, 1, 16, 32, 39};
  for (size_t i = 0; i < sizeof small / sizeof small[0]; i++) CHECK_LEAVES(hf_front(CONSUMER, RECORD, small[i]), HF_E_BUSY);
  CHECK_NUMBER(hf_front(CONSUMER, RECORD, 40), 40);
  CHECK(is_payload(8, 1));
}

static void damaged_records(void) {
  start();
  NEED(append(13, 1) == 1);
  for (size_t byte = 0; byte < (size_t)record_bytes(13); byte++) {
    unsigned char *damaged = shared->segments[0] + FIRST + byte;
    *damaged ^= 0x20;
    CHECK_LEAVES(front(), HF_E_BUSY);
    *damaged ^= 0x20;
  }
  CHECK_NUMBER(front(), record_bytes(13));
}

/* Records whose checksum holds, and that say something else than a record of this place does. */
static void impossible_records(void) {
  static const struct {
    uint32_t total, payload;
    uint64_t sequence;
    double result;
  } records[] = {
      {48, 16, 1, 48}, {48, 9, 1, 48},  {48, 8, 1, HF_E_BUSY},  {48, 17, 1, HF_E_BUSY},        {48, UINT32_MAX, 1, HF_E_BUSY},
      {48, 16, 2, HF_E_BUSY},           {48, 16, 0, HF_E_BUSY}, {48, 16, UINT64_C(1) << 32 | 1, HF_E_BUSY},
      {32, 0, 1, 32},  {24, 0, 1, HF_E_BUSY}, {16, 0, 1, HF_E_BUSY},  {56, 16, 1, HF_E_BUSY},
  };
  for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
    start();
    NEED(append(24, 1) == 1); /* 56 bytes up to the tail */
    memset(handle.record, 0, sizeof handle.record);
    memcpy(handle.record + 4, &records[i].total, 4);
    memcpy(handle.record + 8, &records[i].payload, 4);
    memcpy(handle.record + 16, &records[i].sequence, 8);
    NEED(hf_record_write(segment_at(1) + FIRST, RECORD, records[i].total, SALT, BASE + FIRST) == 0);
    if (!CHECK_NUMBER(front(), records[i].result)) printf("  record %zu\n", i);
    CHECK_WORD(shared->consumer_lock[0], records[i].result > 0 ? OWN : 0);
  }
}

/* ---- the ends of segments ------------------------------------------------------------------------------------------------- */

/* Moves the tail to the first record of segment 2, as a push does that finds no room. */
static void go_on(void) {
  set_producer(HF_SEGMENT, 2);
  set_producer(HF_OFFSET, FIRST);
  set_producer(HF_POSITION, BASE + SEGMENT_BYTES + FIRST);
}

/* A record of a writer that died before its commit lies behind the end, whole, and right but for that. */
static void leave_a_dead_ones_record(double base, double offset, uint64_t sequence) {
  place_payload(8, 66);
  const uint32_t front_words[4] = {0, 40, 8, 0};
  memcpy(handle.record, front_words, sizeof front_words);
  memcpy(handle.record + 16, &sequence, 8);
  NEED(hf_record_write(segment_at(1) + offset, RECORD, 40, SALT, base + offset) == 0);
}

static void behind_the_tail_is_nothing(void) {
  start();
  leave_a_dead_ones_record(BASE, FIRST, 1);
  CHECK_LEAVES(front(), HF_E_BUSY);
  CHECK_LEAVES(front(), 0);
  CHECK_NUMBER(append(3, 1), 1);
  leave_a_dead_ones_record(BASE, FIRST + 40, 2);
  CHECK_NUMBER(front(), 40);
  CHECK(is_payload(3, 1));
  CHECK_NUMBER(hf_pass(CONSUMER, 40), 0);
  CHECK_LEAVES(front(), 0);
}

static void the_end_of_a_segment(void) {
  start();
  NEED(append(8, 1) == 1 && append(8, 2) == 1);
  go_on();
  leave_a_dead_ones_record(BASE, FIRST + 80, 3);
  const double end = FIRST + 80;

  /* Not known where it is; known of another use of the segment, earlier or later. */
  CHECK_LEAVES(front(), HF_E_BUSY);
  NEED(hf_side_segment(CONSUMER, 1, segment_at(1), SEGMENT_BYTES, end, BASE - SEGMENT_BYTES) == 0);
  CHECK_LEAVES(front(), HF_E_BUSY);
  NEED(hf_side_segment(CONSUMER, 1, segment_at(1), SEGMENT_BYTES, end, BASE + SEGMENT_BYTES) == 0);
  CHECK_LEAVES(front(), HF_E_BUSY);
  NEED(hf_side_segment(CONSUMER, 1, segment_at(1), SEGMENT_BYTES, 0, BASE) == 0);
  CHECK_LEAVES(front(), HF_E_BUSY);

  NEED(hf_side_segment(CONSUMER, 1, segment_at(1), SEGMENT_BYTES, end, BASE) == 0);
  for (unsigned char turn = 1; turn <= 2; turn++) {
    CHECK_NUMBER(front(), 40);
    CHECK(is_payload(8, turn));
    CHECK_NUMBER(hf_pass(CONSUMER, 40), 0);
  }
  CHECK_LEAVES(front(), HF_E_BUSY); /* at the end; the next segment has a record or not, which is for others to see */
  NEED(hf_side_segment(PRODUCER, 2, segment_at(2), SEGMENT_BYTES, 0, 0) == 0);
  NEED(append(8, 3) == 1);
  CHECK_LEAVES(front(), HF_E_BUSY);
  /* The dead one's record would have been the right one otherwise. */
  NEED(hf_side_segment(CONSUMER, 1, segment_at(1), SEGMENT_BYTES, end + 40, BASE) == 0);
  CHECK_NUMBER(front(), 40);
  CHECK(is_payload(8, 66));
}

/* An end within a record: the record does not reach beyond it. */
static void an_end_within_a_record(void) {
  start();
  NEED(append(8, 1) == 1);
  go_on();
  for (int end = FIRST; end < FIRST + 40; end += 8) {
    NEED(hf_side_segment(CONSUMER, 1, segment_at(1), SEGMENT_BYTES, end, BASE) == 0);
    CHECK_LEAVES(front(), HF_E_BUSY);
  }
}

/*
 * A tail that was seen a while ago says that there is a record, and no more: when the cursor has gone beyond it, into another use of the same
 * segment, its offset is not that of an end.
 */
static void a_tail_of_long_ago(void) {
  start();
  for (unsigned char turn = 1; turn <= 4; turn++) NEED(append(8, turn) == 1);
  NEED(front() == 40 && hf_pass(CONSUMER, 40) == 0); /* sees the tail at FIRST + 160, the cursor at FIRST + 40 */
  /* Others take all, the queue goes on, and comes back to segment 1 for another use. */
  const double base = BASE + 2 * SEGMENT_BYTES;
  for (int of_consumer = 0; of_consumer < 2; of_consumer++) {
    set_word(of_consumer, HF_SEQUENCE, 5);
    set_word(of_consumer, HF_OFFSET, FIRST);
    set_word(of_consumer, HF_POSITION, base + FIRST);
  }
  leave_a_dead_ones_record(base, FIRST, 5); /* not a record of the queue either */
  CHECK_LEAVES(front(), HF_E_BUSY);
  CHECK_LEAVES(front(), 0); /* which it knows from then on */
  NEED(append(8, 5) == 1);
  CHECK_NUMBER(front(), 40);
  CHECK(is_payload(8, 5));
}

/* ---- arguments ------------------------------------------------------------------------------------------------------------ */

static void sides_refuse(void) {
  start();
  const double lock = address_of(shared->lock), cells = address_of(shared->cells);
  remember();
  CHECK_REFUSES_ADDRESS(PRODUCER, 8, hf_side_init(BAD, lock, OWN, cells, PRODUCER_WORDS, SALT, SALT));
  CHECK_REFUSES_ADDRESS(lock, 16, hf_side_init(PRODUCER, BAD, OWN, cells, PRODUCER_WORDS, SALT, SALT));
  CHECK_REFUSES(hf_side_init(PRODUCER, lock, BAD, cells, PRODUCER_WORDS, SALT, SALT));
  CHECK_NUMBER(hf_side_init(PRODUCER, lock, 0, cells, PRODUCER_WORDS, SALT, SALT), HF_E_INVAL);
  CHECK_REFUSES_ADDRESS(cells, 128, hf_side_init(PRODUCER, lock, OWN, BAD, PRODUCER_WORDS, SALT, SALT));
  CHECK_REFUSES(hf_side_init(PRODUCER, lock, OWN, cells, BAD, SALT, SALT));
  for (int count = 0; count <= (int)HF_BYTES; count++) CHECK_NUMBER(hf_side_init(PRODUCER, lock, OWN, cells, count, SALT, SALT), HF_E_INVAL);
  CHECK_NUMBER(hf_side_init(PRODUCER, lock, OWN, cells, HF_CELL_WORDS + 1, SALT, SALT), HF_E_INVAL);
  CHECK_REFUSES(hf_side_init(PRODUCER, lock, OWN, cells, PRODUCER_WORDS, BAD, SALT));
  CHECK_REFUSES(hf_side_init(PRODUCER, lock, OWN, cells, PRODUCER_WORDS, SALT, BAD));
  CHECK_NUMBER(hf_side_init(PRODUCER, lock, OWN, cells, PRODUCER_WORDS, 4294967296.0, SALT), HF_E_INVAL);
  CHECK_NUMBER(hf_side_init(PRODUCER, lock, OWN, cells, PRODUCER_WORDS, SALT, 4294967296.0), HF_E_INVAL);

  CHECK_REFUSES_ADDRESS(CONSUMER, 8, hf_side_tail(BAD, cells, address_of(handle.tail)));
  CHECK_REFUSES_ADDRESS(cells, 128, hf_side_tail(CONSUMER, BAD, address_of(handle.tail)));
  CHECK_REFUSES_ADDRESS(address_of(handle.tail), 8, hf_side_tail(CONSUMER, cells, BAD));
  CHECK_NUMBER(hf_side_tail(PRODUCER, cells, address_of(handle.tail)), HF_E_INVAL); /* it has too few words for a consumer */

  CHECK_REFUSES_ADDRESS(CONSUMER, 8, hf_side_segment(BAD, 1, segment_at(1), SEGMENT_BYTES, 0, 0));
  CHECK_REFUSES(hf_side_segment(CONSUMER, BAD, segment_at(1), SEGMENT_BYTES, 0, 0));
  CHECK_REFUSES(hf_side_segment(CONSUMER, 1, BAD, SEGMENT_BYTES, 0, 0));
  for (int step = 1; step < 8; step++) CHECK_NUMBER(hf_side_segment(CONSUMER, 1, segment_at(1) + step, SEGMENT_BYTES, 0, 0), HF_E_INVAL);
  CHECK_REFUSES(hf_side_segment(CONSUMER, 1, segment_at(1), BAD, 0, 0));
  CHECK_REFUSES(hf_side_segment(CONSUMER, 1, segment_at(1), SEGMENT_BYTES, BAD, 0));
  CHECK_NUMBER(hf_side_segment(CONSUMER, 1, segment_at(1), SEGMENT_BYTES, SEGMENT_BYTES + 1, 0), HF_E_INVAL);
  CHECK_REFUSES(hf_side_segment(CONSUMER, 1, segment_at(1), SEGMENT_BYTES, 0, BAD));
  CHECK_REFUSES_ADDRESS(PRODUCER, 8, hf_side_limit(BAD, 1));
  CHECK_REFUSES(hf_side_limit(PRODUCER, BAD));
  CHECK(memcmp(&handle, &handle_before, sizeof handle) == 0);
  check_untouched();
}

static void steps_refuse(void) {
  start();
  NEED(append(8, 1) == 1);
  remember();
  CHECK_REFUSES_ADDRESS(PRODUCER, 8, hf_append(BAD, RECORD, 8));
  CHECK_REFUSES_ADDRESS(RECORD, 1, hf_append(PRODUCER, BAD, 8));
  CHECK_REFUSES(hf_append(PRODUCER, RECORD, BAD));
  CHECK_NUMBER(hf_append(PRODUCER, RECORD, 2147483648.0), HF_E_INVAL);
  CHECK_REFUSES_ADDRESS(PRODUCER, 8, hf_append_bytes(BAD, handle.record, 8));
  CHECK_REFUSES(hf_append_bytes(PRODUCER, handle.record, BAD));
  CHECK_NUMBER(hf_append_bytes(PRODUCER, NULL, 8), HF_E_INVAL);
  CHECK_REFUSES_ADDRESS(CONSUMER, 8, hf_front(BAD, RECORD, ROOM));
  CHECK_REFUSES_ADDRESS(RECORD, 8, hf_front(CONSUMER, BAD, ROOM));
  CHECK_REFUSES(hf_front(CONSUMER, RECORD, BAD));
  CHECK_NUMBER(hf_front(PRODUCER, RECORD, ROOM), HF_E_INVAL); /* it was told of no tail */
  CHECK_REFUSES_ADDRESS(CONSUMER, 8, hf_pass(BAD, 40));
  shared->consumer_lock[0] = before.consumer_lock[0] = OWN;
  CHECK_REFUSES(hf_pass(CONSUMER, BAD));
  for (int length = 0; length < 40; length++) {
    if (length != HF_RECORD_AROUND) CHECK_NUMBER(hf_pass(CONSUMER, length), HF_E_INVAL);
  }
  check_untouched();
  CHECK(memcmp(&handle, &handle_before, sizeof handle) == 0);

  /* A side that nobody made, and one that was copied to another place. */
  static _Alignas(8) double other[HF_SIDE_BYTES / 8];
  for (int i = 0; i < 2; i++) {
    if (i == 1) memcpy(other, handle.consumer, sizeof other);
    const double side = address_of(other);
    CHECK_NUMBER(hf_side_tail(side, address_of(shared->cells), address_of(handle.tail)), HF_E_INVAL);
    CHECK_NUMBER(hf_side_segment(side, 1, segment_at(1), SEGMENT_BYTES, 0, 0), HF_E_INVAL);
    CHECK_NUMBER(hf_side_limit(side, 1), HF_E_INVAL);
    CHECK_NUMBER(hf_append(side, RECORD, 8), HF_E_INVAL);
    CHECK_NUMBER(hf_append_bytes(side, handle.record, 8), HF_E_INVAL);
    CHECK_NUMBER(hf_front(side, RECORD, ROOM), HF_E_INVAL);
    CHECK_NUMBER(hf_pass(side, 40), HF_E_INVAL);
  }
  check_untouched();
}

static void only_the_owner_passes(void) {
  start();
  NEED(append(8, 1) == 1);
  for (int i = 0; i < 2; i++) {
    shared->consumer_lock[0] = i == 0 ? 0 : OTHER;
    CHECK_LEAVES(hf_pass(CONSUMER, 40), HF_E_OWNER);
    CHECK(memcmp(&handle, &handle_before, sizeof handle) == 0); /* the values too */
  }
  shared->consumer_lock[0] = 0;
  CHECK_NUMBER(front(), 40);
  CHECK_NUMBER(hf_pass(CONSUMER, 40), 0);
  CHECK_LEAVES(hf_pass(CONSUMER, 40), HF_E_OWNER); /* once is enough */
}

/* ---- files that are cut short --------------------------------------------------------------------------------------------- */

enum { APPEND, FRONT, PASS, STEPS };

static double step(int which) {
  if (which == APPEND) return append(8, 2);
  return which == FRONT ? front() : hf_pass(CONSUMER, 40);
}

/* In a mapping of hf_map(), with the control part and each segment on pages of their own. */
static void cut_short(void) {
  const size_t page = page_bytes();
  NEED(hf_guard_install() == 0);
  for (int which = 0; which < STEPS; which++) {
    for (int control = 0; control < 2; control++) {
      if (which == PASS && control == 0) continue; /* it does not touch the segment */
      int files[2] = {test_file((off_t)page), test_file((off_t)page)};
      double parts[2];
      for (int i = 0; i < 2; i++) NEED((parts[i] = hf_map(files[i], 0, (double)page, HF_MAP_WRITE, 0)) > 0);
      shared = pointer_at(parts[0]);
      start();
      NEED(hf_side_segment(PRODUCER, 1, parts[1], SEGMENT_BYTES, 0, 0) == 0);
      NEED(hf_side_segment(CONSUMER, 1, parts[1], SEGMENT_BYTES, 0, 0) == 0);
      NEED(append(8, 1) == 1);
      if (which == PASS) NEED(front() == 40);
      NEED(ftruncate(files[control == 1 ? 0 : 1], 0) == 0);
      for (int again = 0; again < 2; again++) {
        if (!CHECK_NUMBER(step(which), HF_E_FAULT)) printf("  step %d, control %d, again %d\n", which, control, again);
        CHECK_WORD(shared->lock[0], 0);
        CHECK_WORD(shared->consumer_lock[0], 0);
      }
      if (control == 0) check_cell(false, BASE + FIRST + 40, 1, FIRST + 40, 2, 40); /* nothing was published */
      for (int i = 0; i < 2; i++) NEED(hf_unmap(parts[i], (double)page) == 0 && close(files[i]) == 0);
    }
  }
  shared = &here;
}

/* ---- owners killed at any moment ------------------------------------------------------------------------------------------ */

enum { PRODUCERS = 2, CONSUMERS = 2, WORKERS = PRODUCERS + CONSUMERS, KILLS = 250, MAX_OWNERS = KILLS + WORKERS + 1 };

/* A ring of three segments, so that each is used again and again. Which words of it change only under which lock, is said there. */
struct arena {
  struct shared shared;
  double base[SEGMENTS + 1], end[SEGMENTS + 1]; /* of a segment by id; the producer lock */
  uint64_t stop;
  uint64_t dead[MAX_OWNERS];     /* 1 once the parent has reaped the owner: the proof of its death */
  uint64_t appended[MAX_OWNERS]; /* records of which it has heard that they are there */
  uint64_t last[MAX_OWNERS];     /* number of the owner's record that was taken last; the consumer lock */
  uint64_t noted;                /* sequence of the record that was taken last; the consumer lock */
  uint64_t taken;                /* records passed by those who lived to count them */
};

static struct arena *arena;

/* A payload says whose it is, which of its records, and that it is whole: between 3 and 7 words. */
static size_t number_payload(uint64_t owner, uint64_t number) {
  size_t words = 3 + (size_t)(number % 5);
  uint64_t payload[8] = {owner, number}, state = owner << 32 | number;
  for (size_t i = 2; i < words; i++) payload[i] = test_random(&state);
  memcpy(handle.record + HF_RECORD_PAYLOAD, payload, 8 * words);
  return 8 * words;
}

static bool is_numbered(uint64_t *owner, uint64_t *number) {
  unsigned char found[sizeof handle.record];
  memcpy(found, handle.record, sizeof found);
  *owner = word_at(found + HF_RECORD_PAYLOAD);
  *number = word_at(found + HF_RECORD_PAYLOAD + 8);
  size_t length = number_payload(*owner, *number);
  return half_at(found + 8) == length && memcmp(found + HF_RECORD_PAYLOAD, handle.record + HF_RECORD_PAYLOAD, length) == 0;
}

/* Takes the lock the other way, also from a dead owner; false if a living one has it. The values are those of the cell then. */
static bool take_lock(bool of_consumer, double self) {
  const double lock = address_of(of_consumer ? shared->consumer_lock : shared->lock);
  const double cells = address_of(of_consumer ? shared->consumer_cells : shared->cells);
  const double count = of_consumer ? CONSUMER_WORDS : PRODUCER_WORDS, salt = of_consumer ? CONSUMER_SALT : SALT;
  double *values = of_consumer ? consumer_values() : producer_values();
  double result = hf_begin(lock, self, cells, count, salt, address_of(values));
  if (result == 0) return true;
  CHECK_NUMBER(result, HF_E_BUSY);
  double holder = hf_load64(lock, 0);
  if (holder <= 0) return false;
  if (!CHECK(holder < (double)MAX_OWNERS)) test_child_end();
  if (__atomic_load_n(&arena->dead[(int)holder], __ATOMIC_ACQUIRE) == 0) {
    (void)hf_lock_sleep(lock, holder, 1);
    return false;
  }
  if (hf_cas64(lock, holder, self) != holder) return false;
  values[(int)count] = 0;
  CHECK_NUMBER(hf_cell_read(cells, count, salt, address_of(values)), 0);
  return true;
}

static void let_go(bool of_consumer, double self) {
  CHECK_NUMBER(hf_unlock(address_of(of_consumer ? shared->consumer_lock : shared->lock), self), 0);
}

static bool commit_side(bool of_consumer, double self) {
  const double lock = address_of(of_consumer ? shared->consumer_lock : shared->lock);
  const double cells = address_of(of_consumer ? shared->consumer_cells : shared->cells);
  double *values = of_consumer ? consumer_values() : producer_values();
  return CHECK_NUMBER(hf_commit(lock, self, cells, of_consumer ? CONSUMER_WORDS : PRODUCER_WORDS, of_consumer ? CONSUMER_SALT : SALT, address_of(values)), 0);
}

/* What a push does that hf_append leaves to others: it goes on to the next segment, unless consumers are still there. */
static void make_room(double self) {
  if (!take_lock(false, self)) return;
  double *values = producer_values();
  const int id = (int)values[HF_SEGMENT], next = id % SEGMENTS + 1;
  double cursor[CONSUMER_WORDS + 1];
  get_cell(cursor, true);
  CHECK_NUMBER(hf_side_segment(PRODUCER, id, segment_at(id), SEGMENT_BYTES, 0, 0), 0);
  const bool full = SEGMENT_BYTES - values[HF_OFFSET] < record_bytes(56), free_segment = cursor[HF_HEAD] != next;
  if (!full || !free_segment) {
    let_go(false, self);
    if (full) test_sleep_us(20);
    return;
  }
  arena->end[id] = values[HF_OFFSET];
  arena->base[next] = values[HF_POSITION] - values[HF_OFFSET] + SEGMENT_BYTES;
  values[HF_SEGMENT] = next;
  values[HF_OFFSET] = FIRST;
  values[HF_POSITION] = arena->base[next] + FIRST;
  if (next == 1) test_sleep_us(50); /* long enough to die here */
  if (!commit_side(false, self)) return;
  CHECK_NUMBER(hf_side_segment(PRODUCER, next, segment_at(next), SEGMENT_BYTES, 0, 0), 0);
}

static _Noreturn void append_until_killed(uint64_t self) {
  open_handle((double)self);
  for (uint64_t number = 1; __atomic_load_n(&arena->stop, __ATOMIC_RELAXED) == 0 && test_checks_failed == 0;) {
    const double length = (double)number_payload(self, number);
    double result = hf_append(PRODUCER, RECORD_PAYLOAD_AT, length);
    if (result == HF_E_BUSY) {
      make_room((double)self);
      continue;
    }
    CHECK_NUMBER(result, 1);
    __atomic_store_n(&arena->appended[self], number++, __ATOMIC_RELAXED);
  }
  test_child_end();
}

/* Under the consumer lock: the record is whole and the next one, or that of one who died before it passed it. */
static void note_record(double sequence) {
  uint64_t owner, number;
  if (!CHECK(is_numbered(&owner, &number)) || !CHECK(owner > 0 && owner < MAX_OWNERS)) return;
  const bool again = (uint64_t)sequence == arena->noted;
  CHECK(again || (uint64_t)sequence == arena->noted + 1);
  /* Who comes again may find that the one before him died between the two stores below. */
  CHECK(arena->last[owner] + 1 == number || (again && arena->last[owner] == number));
  arena->noted = (uint64_t)sequence;
  __atomic_signal_fence(__ATOMIC_SEQ_CST);
  arena->last[owner] = number;
  if (number % 64 == 0) test_sleep_us(50); /* long enough to die here */
}

/* What a pop does that hf_front leaves to others: it goes over the end of a segment. False if there was nothing to do. */
static void go_over_the_end(double self) {
  if (!take_lock(true, self)) return;
  double *values = consumer_values(), tail[PRODUCER_WORDS + 1];
  get_cell(tail, false);
  const int id = (int)values[HF_SEGMENT];
  const double base = values[HF_POSITION] - values[HF_OFFSET];
  const bool behind = tail[HF_SEGMENT] != id;
  if (!behind || values[HF_OFFSET] < arena->end[id]) {
    CHECK_NUMBER(hf_side_segment(CONSUMER, id, segment_at(id), SEGMENT_BYTES, behind ? arena->end[id] : 0, behind ? base : 0), 0);
    let_go(true, self);
    return;
  }
  CHECK_NUMBER(values[HF_OFFSET], arena->end[id]);
  const int next = id % SEGMENTS + 1;
  CHECK_NUMBER(arena->base[next], base + SEGMENT_BYTES);
  values[HF_SEGMENT] = values[HF_HEAD] = next;
  values[HF_OFFSET] = FIRST;
  values[HF_POSITION] = arena->base[next] + FIRST;
  (void)commit_side(true, self);
}

static _Noreturn void take_until_killed(uint64_t self) {
  open_handle((double)self);
  while (test_checks_failed == 0) {
    double bytes = front();
    if (bytes == 0 && __atomic_load_n(&arena->stop, __ATOMIC_RELAXED) == 2) break;
    if (bytes == 0) continue;
    if (bytes == HF_E_BUSY) {
      go_over_the_end((double)self);
      continue;
    }
    if (!CHECK(bytes > 0)) break;
    note_record(consumer_values()[HF_SEQUENCE]);
    if (CHECK_NUMBER(hf_pass(CONSUMER, bytes), 0)) (void)__atomic_fetch_add(&arena->taken, 1, __ATOMIC_RELAXED);
  }
  test_child_end();
}

static pid_t start_worker(int which, uint64_t owner) {
  pid_t child = test_fork();
  if (child == 0 && which < PRODUCERS) append_until_killed(owner);
  if (child == 0) take_until_killed(owner);
  return child;
}

static void survives_killed_owners(void) {
  arena = test_shared(sizeof *arena);
  shared = &arena->shared;
  start_cells();
  arena->base[1] = BASE;
  uint64_t state = (uint64_t)time(NULL) | 1;
  printf("survives_killed_owners: seed %" PRIu64 "\n", state);
  pid_t workers[WORKERS];
  uint64_t owners[WORKERS], next = 1, held = 0;
  for (int i = 0; i < WORKERS; i++) workers[i] = start_worker(i, owners[i] = next++);
  for (int i = 0; i < KILLS && test_checks_failed == 0; i++) {
    test_sleep_us((long)(test_random(&state) % 5000));
    const int victim = (int)(test_random(&state) % WORKERS);
    NEED(kill(workers[victim], SIGKILL) == 0);
    CHECK_WORD(test_reap(workers[victim]), 1000 + SIGKILL);
    held += __atomic_load_n(&shared->lock[0], __ATOMIC_SEQ_CST) == owners[victim];
    held += __atomic_load_n(&shared->consumer_lock[0], __ATOMIC_SEQ_CST) == owners[victim];
    __atomic_store_n(&arena->dead[owners[victim]], 1, __ATOMIC_RELEASE);
    workers[victim] = start_worker(victim, owners[victim] = next++);
  }
  for (int i = 0; i < WORKERS; i++) {
    __atomic_store_n(&arena->stop, i < PRODUCERS ? 1 : 2, __ATOMIC_SEQ_CST);
    CHECK_WORD(test_reap(workers[i]), 0);
  }
  /* Every record that was acknowledged was taken; a killed producer may have appended one more. */
  double producer[PRODUCER_WORDS + 1], consumer[CONSUMER_WORDS + 1];
  get_cell(producer, false);
  get_cell(consumer, true);
  CHECK_NUMBER(consumer[HF_SEQUENCE], producer[HF_SEQUENCE]);
  CHECK_NUMBER(consumer[HF_BYTES], producer[HF_BYTES]);
  CHECK_WORD(arena->noted, producer[HF_SEQUENCE] - 1);
  uint64_t all = 0;
  for (int i = 0; i < MAX_OWNERS; i++) {
    CHECK(arena->last[i] == arena->appended[i] || (arena->dead[i] == 1 && arena->last[i] == arena->appended[i] + 1));
    all += arena->last[i];
  }
  CHECK_WORD(all, arena->noted);
  CHECK(arena->taken <= all && arena->taken + KILLS >= all);
  CHECK(producer[HF_POSITION] > BASE + 100.0 * SEGMENT_BYTES); /* each segment was used many times */
  CHECK(held > 5); /* else this never tested a takeover */
  shared = &here;
  NEED(munmap(arena, sizeof *arena) == 0);
}

int main(void) {
  RUN(append_as_documented);
  RUN(append_from_anywhere);
  RUN(front_and_pass);
  RUN(others_are_seen);
  RUN(a_record_that_is_not_passed_stays);
  RUN(tells_of_those_who_wait);
  RUN(append_decides_nothing);
  RUN(append_below_a_limit);
  RUN(append_leaves_the_payload);
  RUN(numbers_that_end);
  RUN(damaged_cells);
  RUN(front_decides_nothing);
  RUN(damaged_records);
  RUN(impossible_records);
  RUN(behind_the_tail_is_nothing);
  RUN(the_end_of_a_segment);
  RUN(an_end_within_a_record);
  RUN(a_tail_of_long_ago);
  RUN(sides_refuse);
  RUN(steps_refuse);
  RUN(only_the_owner_passes);
  RUN(cut_short);
  RUN(survives_killed_owners);
  return test_report();
}
