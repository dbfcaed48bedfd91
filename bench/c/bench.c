/*
 * bench.c - the C side of the benchmarks: the workloads of ../workloads.ts on the same kind of memory, a mapped file.
 *
 *   holdfast-bench WORKLOAD FOLDER PAYLOAD BACKLOG FILE
 *
 * PAYLOAD is in hexadecimal; FILE is the large file, if the workload has one. Prints `ready`; then each line on stdin is a number of operations to do, answered by the
 * nanoseconds that they took (`wake-hear`: by the p50, p99 and p99.9 of them). Ends at the end of stdin. Every result is checked; a wrong one ends the program with code 1.
 */
#include "../../csrc/holdfast.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const char *workload_name = "";

#define NEED(condition)                                                                                                  \
  do {                                                                                                                   \
    if (!(condition)) {                                                                                                  \
      (void)fprintf(stderr, "bench.c:%d: %s: %s does not hold (%s)\n", __LINE__, workload_name, #condition, strerror(errno)); \
      exit(1);                                                                                                           \
    }                                                                                                                    \
  } while (0)

static double address_of(const volatile void *pointer) { return (double)(uintptr_t)pointer; }

static uint64_t now_ns(void) {
  struct timespec time;
  NEED(clock_gettime(CLOCK_MONOTONIC, &time) == 0);
  return (uint64_t)time.tv_sec * UINT64_C(1000000000) + (uint64_t)time.tv_nsec;
}

/* `bytes` of the folder's file, its storage reserved. Processes of one workload share it. */
static unsigned char *map_file(const char *folder, size_t bytes) {
  char path[4096];
  int length = snprintf(path, sizeof path, "%s/mapped", folder);
  NEED(length > 0 && (size_t)length < sizeof path);
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  NEED(fd >= 0);
  NEED(hf_reserve(fd, 0, (double)bytes) == 0);
  double address = hf_map(fd, 0, (double)bytes, HF_MAP_WRITE, 0);
  NEED(address > 0);
  NEED(close(fd) == 0);
  return (unsigned char *)(uintptr_t)address;
}

/* ---- atomics ------------------------------------------------------------------------------------------------------- */

enum { CELL_FILE_BYTES = 4096, CELL_OFFSET = 1024 };
static const int64_t LOADED_VALUE = 123456789;

static int64_t *cell;

/* The cells of counter-add-4: as far from each other as the counters of a file. */
enum { TOGETHER = 4, CELL_STRIDE = 512 / sizeof(int64_t), WANTED = CELL_STRIDE, ENDED = 2 * CELL_STRIDE };

static void open_cell(const char *folder) { cell = (int64_t *)(void *)(map_file(folder, CELL_FILE_BYTES) + CELL_OFFSET); }

static void open_loaded_cell(const char *folder) {
  open_cell(folder);
  __atomic_store_n(cell, LOADED_VALUE, __ATOMIC_SEQ_CST);
}

/* The old values of `count` additions of 1 that began at `first`, summed up. */
static uint64_t sum_of_old(uint64_t first, uint64_t count) { return count * first + count * (count - 1) / 2; }

static uint64_t run_add(uint64_t count) {
  uint64_t first = (uint64_t)__atomic_load_n(cell, __ATOMIC_SEQ_CST), sum = 0;
  uint64_t start = now_ns();
  for (uint64_t i = 0; i < count; i++) sum += (uint64_t)__atomic_fetch_add(cell, 1, __ATOMIC_SEQ_CST);
  uint64_t end = now_ns();
  NEED(sum == sum_of_old(first, count));
  return end - start;
}

/* The process that ends last finds the sum of all. */
static void check_together(uint64_t count) {
  (void)__atomic_fetch_add(cell + WANTED, (int64_t)count, __ATOMIC_SEQ_CST);
  int64_t ended = __atomic_fetch_add(cell + ENDED, 1, __ATOMIC_SEQ_CST) + 1;
  if (ended % TOGETHER == 0) NEED(__atomic_load_n(cell, __ATOMIC_SEQ_CST) == __atomic_load_n(cell + WANTED, __ATOMIC_SEQ_CST));
}

static uint64_t run_add_together(uint64_t count) {
  uint64_t sum = 0;
  uint64_t start = now_ns();
  for (uint64_t i = 0; i < count; i++) sum += (uint64_t)__atomic_fetch_add(cell, 1, __ATOMIC_SEQ_CST);
  uint64_t end = now_ns();
  NEED(sum >= sum_of_old(0, count));
  check_together(count);
  return end - start;
}

static uint64_t run_add_together_call(uint64_t count) {
  double sum = 0, address = address_of(cell);
  uint64_t start = now_ns();
  for (uint64_t i = 0; i < count; i++) sum += hf_add64(address, 1);
  uint64_t end = now_ns();
  NEED(sum >= (double)sum_of_old(0, count));
  check_together(count);
  return end - start;
}

static uint64_t run_add_call(uint64_t count) {
  uint64_t first = (uint64_t)__atomic_load_n(cell, __ATOMIC_SEQ_CST);
  double sum = 0, address = address_of(cell);
  uint64_t start = now_ns();
  for (uint64_t i = 0; i < count; i++) sum += hf_add64(address, 1);
  uint64_t end = now_ns();
  NEED(sum == (double)sum_of_old(first, count));
  return end - start;
}

/* As a double, by compare-exchange: what the value of a metric is. */
static uint64_t run_add_double(uint64_t count) {
  uint64_t old_bits, new_bits;
  double value, first;
  old_bits = (uint64_t)__atomic_load_n(cell, __ATOMIC_SEQ_CST);
  memcpy(&first, &old_bits, sizeof first);
  uint64_t start = now_ns();
  for (uint64_t i = 0; i < count; i++) {
    int64_t old = __atomic_load_n(cell, __ATOMIC_RELAXED), next;
    do {
      memcpy(&value, &old, sizeof value);
      value += 1;
      memcpy(&next, &value, sizeof next);
    } while (!__atomic_compare_exchange_n(cell, &old, next, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
  }
  uint64_t end = now_ns();
  new_bits = (uint64_t)__atomic_load_n(cell, __ATOMIC_SEQ_CST);
  memcpy(&value, &new_bits, sizeof value);
  NEED(value == first + (double)count);
  return end - start;
}

static uint64_t run_load(uint64_t count) {
  uint64_t sum = 0;
  uint64_t start = now_ns();
  for (uint64_t i = 0; i < count; i++) sum += (uint64_t)__atomic_load_n(cell, __ATOMIC_SEQ_CST);
  uint64_t end = now_ns();
  NEED(sum == count * (uint64_t)LOADED_VALUE);
  return end - start;
}

static uint64_t run_load_call(uint64_t count) {
  double sum = 0, address = address_of(cell);
  uint64_t start = now_ns();
  for (uint64_t i = 0; i < count; i++) sum += hf_load64(address, 0);
  uint64_t end = now_ns();
  NEED(sum == (double)(count * (uint64_t)LOADED_VALUE));
  return end - start;
}

/* ---- queue: the steps of lib/queue.ts, on one file that holds a control page and two segments ----------------------- */

/* Offsets, words and the record are those of lib/layout/queue.ts. */
enum {
  PRODUCER_LOCK = 1024,
  PRODUCER_CELLS = 1152,
  CONSUMER_LOCK = 2048,
  CONSUMER_CELLS = 2176,
  CONTROL_BYTES = 4096,
  SEGMENT_BYTES = 1 << 20, /* that of a queue with the default capacity */
  SEGMENT_WORDS_OFFSET = 128,
  RECORDS_OFFSET = 256,
  RECORD_TOTAL = 4,
  RECORD_LENGTH = 8,
  RECORD_SEQUENCE = 16,
  RECORD_PAYLOAD = 24,
  RECORD_TRAILER_BYTES = 8,
  STAGE_BYTES = 4096,
};

/* Words that both cells begin with, and how many each has. */
enum { POSITION, SEGMENT, OFFSET, SEQUENCE, BYTES, PRODUCER_WORDS = 6, HEAD = 7, CONSUMER_WORDS = 10 };
enum { BASE, END, NEXT, SEGMENT_WORDS };

static const double OWNER = 1024, SALT = 0x12345678;
static const double segment_bytes = SEGMENT_BYTES, records_offset = RECORDS_OFFSET, stage_bytes = STAGE_BYTES;

static unsigned char *control;
static double producer_side[HF_SIDE_BYTES / 8], consumer_side[HF_SIDE_BYTES / 8];
/* Their cells, with the word behind them that is the library's. */
static double *const producer = producer_side + HF_SIDE_VALUES / 8, *const consumer = consumer_side + HF_SIDE_VALUES / 8;
static double tail[PRODUCER_WORDS + 1], words[SEGMENT_WORDS];
static _Alignas(8) unsigned char outbox[STAGE_BYTES], inbox[STAGE_BYTES];

/* Segment ids are 1 and 2, in turn. */
static unsigned char *segment_at(double id) { return control + CONTROL_BYTES + (id == 1 ? 0 : SEGMENT_BYTES); }
static double other_segment(double id) { return 3 - id; }

static void set_segment(double id, double base, double end, double next) {
  words[BASE] = base;
  words[END] = end;
  words[NEXT] = next;
  NEED(hf_words_store(address_of(segment_at(id) + SEGMENT_WORDS_OFFSET), SEGMENT_WORDS, address_of(words)) == 0);
}

static void get_segment(double id) {
  NEED(hf_words_load(address_of(segment_at(id) + SEGMENT_WORDS_OFFSET), SEGMENT_WORDS, address_of(words)) == 0);
}

/* The segment that the steps for single records work on; where its records end, if the queue has gone on from there. */
static void use_segment(double *side, double id, double end, double base) {
  NEED(hf_side_segment(address_of(side), id, address_of(segment_at(id)), segment_bytes, end, base) == 0);
}

static void open_queue(const char *folder) {
  control = map_file(folder, CONTROL_BYTES + 2 * SEGMENT_BYTES);
  producer[POSITION] = consumer[POSITION] = SEGMENT_BYTES + RECORDS_OFFSET;
  producer[SEGMENT] = consumer[SEGMENT] = consumer[HEAD] = 1;
  producer[OFFSET] = consumer[OFFSET] = RECORDS_OFFSET;
  producer[SEQUENCE] = consumer[SEQUENCE] = 1;
  set_segment(1, SEGMENT_BYTES, 0, 0);
  NEED(hf_cell_init(address_of(control + PRODUCER_CELLS), PRODUCER_WORDS, SALT, address_of(producer)) == 0);
  NEED(hf_cell_init(address_of(control + CONSUMER_CELLS), CONSUMER_WORDS, SALT, address_of(consumer)) == 0);
  double lock = address_of(control + PRODUCER_LOCK), cells = address_of(control + PRODUCER_CELLS);
  NEED(hf_side_init(address_of(producer_side), lock, OWNER, cells, PRODUCER_WORDS, SALT, SALT) == 0);
  lock = address_of(control + CONSUMER_LOCK);
  NEED(hf_side_init(address_of(consumer_side), lock, OWNER, address_of(control + CONSUMER_CELLS), CONSUMER_WORDS, SALT, SALT) == 0);
  NEED(hf_side_tail(address_of(consumer_side), cells, address_of(tail)) == 0);
  use_segment(producer_side, 1, 0, 0);
  use_segment(consumer_side, 1, 0, 0);
}

static void roll(void) {
  double from = producer[SEGMENT], to = other_segment(from), end = producer[OFFSET], base = producer[POSITION] - end;
  set_segment(to, base + segment_bytes, 0, 0);
  set_segment(from, base, end, to);
  producer[SEGMENT] = to;
  producer[OFFSET] = RECORDS_OFFSET;
  producer[POSITION] = base + segment_bytes + records_offset;
}

static uint32_t record_bytes(uint32_t payload_bytes) {
  return RECORD_PAYLOAD + (payload_bytes + 7) / 8 * 8 + RECORD_TRAILER_BYTES;
}

static uint32_t word_at(const unsigned char *bytes) {
  uint32_t word;
  memcpy(&word, bytes, sizeof word);
  return word;
}

static void put_word(unsigned char *bytes, uint32_t word) { memcpy(bytes, &word, sizeof word); }

/* A push that goes on to the other segment; the payload lies in the outbox. */
static void push_slowly(uint32_t length) {
  uint32_t total = record_bytes(length);
  memset(outbox + RECORD_PAYLOAD + length, 0, total - RECORD_TRAILER_BYTES - RECORD_PAYLOAD - length);
  put_word(outbox + RECORD_TOTAL, total);
  put_word(outbox + RECORD_LENGTH, length);
  put_word(outbox + RECORD_LENGTH + 4, 0);
  put_word(outbox + total - RECORD_TRAILER_BYTES, total);
  put_word(outbox + total - RECORD_TRAILER_BYTES + 4, 0);

  double lock = address_of(control + PRODUCER_LOCK), cells = address_of(control + PRODUCER_CELLS);
  NEED(hf_begin(lock, OWNER, cells, PRODUCER_WORDS, SALT, address_of(producer)) == 0);
  NEED(producer[OFFSET] + total > segment_bytes);
  roll();
  uint64_t sequence = (uint64_t)producer[SEQUENCE];
  memcpy(outbox + RECORD_SEQUENCE, &sequence, sizeof sequence);
  double target = address_of(segment_at(producer[SEGMENT])) + producer[OFFSET];
  NEED(hf_records_write(target, address_of(outbox), total, SALT, producer[POSITION]) == 0);
  producer[POSITION] += total;
  producer[OFFSET] += total;
  producer[SEQUENCE] += 1;
  producer[BYTES] += total;
  use_segment(producer_side, producer[SEGMENT], 0, 0);
  NEED(hf_commit(lock, OWNER, cells, PRODUCER_WORDS, SALT, address_of(producer)) == 0);
}

static void push(const unsigned char *payload, uint32_t length) {
  NEED(record_bytes(length) <= STAGE_BYTES);
  double result = hf_append(address_of(producer_side), address_of(payload), length);
  if (result == 1) return;
  NEED(result == HF_E_BUSY);
  memcpy(outbox + RECORD_PAYLOAD, payload, length);
  push_slowly(length);
}

/* Moves the cursor over the end of its segment. */
static void skip_end(void) {
  get_segment(consumer[SEGMENT]);
  if (consumer[OFFSET] < words[END]) return;
  double end_position = words[BASE] + segment_bytes, next = words[NEXT];
  NEED(consumer[OFFSET] == words[END] && next == other_segment(consumer[SEGMENT]));
  get_segment(next);
  NEED(words[BASE] == end_position);
  consumer[SEGMENT] = consumer[HEAD] = next;
  consumer[OFFSET] = RECORDS_OFFSET;
  consumer[POSITION] = words[BASE] + records_offset;
}

/* A pop that goes on to the other segment, or finds that the tail has. The record lies in the inbox; its payload's length. */
static uint32_t pop_slowly(void) {
  double lock = address_of(control + CONSUMER_LOCK), cells = address_of(control + CONSUMER_CELLS);
  NEED(hf_begin(lock, OWNER, cells, CONSUMER_WORDS, SALT, address_of(consumer)) == 0);
  if (consumer[POSITION] >= tail[POSITION]) {
    NEED(hf_cell_read(address_of(control + PRODUCER_CELLS), PRODUCER_WORDS, SALT, address_of(tail)) == 0);
    NEED(consumer[POSITION] < tail[POSITION]);
  }
  if (consumer[SEGMENT] != tail[SEGMENT]) skip_end();
  double end = tail[OFFSET];
  bool behind = consumer[SEGMENT] != tail[SEGMENT];
  if (behind) {
    get_segment(consumer[SEGMENT]);
    end = words[END];
  }
  double source = address_of(segment_at(consumer[SEGMENT])) + consumer[OFFSET];
  double total = hf_records_read(address_of(inbox), stage_bytes, source, end - consumer[OFFSET], 1, SALT, consumer[POSITION]);
  NEED(total > 0 && total <= stage_bytes);
  uint64_t sequence;
  memcpy(&sequence, inbox + RECORD_SEQUENCE, sizeof sequence);
  uint32_t length = word_at(inbox + RECORD_LENGTH);
  NEED(sequence == (uint64_t)consumer[SEQUENCE] && record_bytes(length) == (uint32_t)total);
  consumer[POSITION] += total;
  consumer[OFFSET] += total;
  consumer[SEQUENCE] += 1;
  consumer[BYTES] += total;
  use_segment(consumer_side, consumer[SEGMENT], behind ? end : 0, behind ? words[BASE] : 0);
  NEED(hf_commit(lock, OWNER, cells, CONSUMER_WORDS, SALT, address_of(consumer)) == 0);
  return length;
}

/* Copies the oldest payload to `payload`, which has room for STAGE_BYTES; returns its length. There must be one. */
static uint32_t pop(unsigned char *payload) {
  double total = hf_front(address_of(consumer_side), address_of(inbox), stage_bytes);
  uint32_t length;
  if (total == HF_E_BUSY) {
    length = pop_slowly();
  } else {
    NEED(total > 0);
    length = word_at(inbox + RECORD_LENGTH);
    NEED(hf_pass(address_of(consumer_side), total) == 0);
  }
  memcpy(payload, inbox + RECORD_PAYLOAD, length);
  return length;
}

/* The message: PAYLOAD, its first four bytes replaced by a number that counts up. */
static unsigned char message[STAGE_BYTES], received[STAGE_BYTES];
static uint32_t message_bytes, backlog, next_in, next_out;

static void read_payload(const char *hex) {
  size_t digits = strlen(hex);
  NEED(digits % 2 == 0 && digits / 2 >= 8 && digits / 2 <= STAGE_BYTES / 2);
  message_bytes = (uint32_t)(digits / 2);
  for (uint32_t i = 0; i < message_bytes; i++) {
    unsigned byte;
    NEED(sscanf(hex + 2 * i, "%2x", &byte) == 1);
    message[i] = (unsigned char)byte;
  }
}

static void push_next(void) {
  put_word(message, next_in++);
  push(message, message_bytes);
}

/* Takes the next message and checks its length, its number and its last byte; all of it is checked once a round. */
static void pop_next(void) {
  uint32_t length = pop(received);
  NEED(length == message_bytes && word_at(received) == next_out && received[length - 1] == message[length - 1]);
  next_out++;
}

static void check_received(void) { NEED(memcmp(received + 4, message + 4, message_bytes - 4) == 0); }

static uint64_t run_pair(uint64_t count) {
  uint64_t start = now_ns();
  for (uint64_t i = 0; i < count; i++) {
    push_next();
    pop_next();
  }
  uint64_t end = now_ns();
  check_received();
  return end - start;
}

/* Pushes and pops `count` messages, `backlog` at a time; what each side took goes to `pushing` and `popping`. */
static void run_sides(uint64_t count, uint64_t *pushing, uint64_t *popping) {
  *pushing = *popping = 0;
  for (uint64_t done = 0; done < count;) {
    uint64_t batch = count - done < backlog ? count - done : backlog;
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < batch; i++) push_next();
    uint64_t middle = now_ns();
    for (uint64_t i = 0; i < batch; i++) pop_next();
    uint64_t end = now_ns();
    check_received();
    *pushing += middle - start;
    *popping += end - middle;
    done += batch;
  }
}

static uint64_t run_push(uint64_t count) {
  uint64_t pushing, popping;
  run_sides(count, &pushing, &popping);
  return pushing;
}

static uint64_t run_pop(uint64_t count) {
  uint64_t pushing, popping;
  run_sides(count, &pushing, &popping);
  return popping;
}

/* ---- copies: from and to the slots of a file, one behind the other ---------------------------------------------------- */

enum { SMALL_BYTES = 64, SMALL_SLOTS = 1024, LARGE_BYTES = 65536, LARGE_SLOTS = 4 };

static unsigned char *slots_start;
static _Alignas(64) unsigned char buffer[LARGE_BYTES];
static uint64_t copy_round;

static unsigned char byte_at(size_t offset) { return (unsigned char)(offset * 37 + (offset >> 6) * 11 + 5); }

static void open_slots(const char *folder, size_t bytes) {
  slots_start = map_file(folder, bytes);
  for (size_t i = 0; i < bytes; i++) slots_start[i] = byte_at(i);
  for (size_t i = 0; i < sizeof buffer; i++) buffer[i] = byte_at(i + 1);
}

static void open_small(const char *folder) { open_slots(folder, (size_t)SMALL_BYTES * SMALL_SLOTS); }
static void open_large(const char *folder) { open_slots(folder, (size_t)LARGE_BYTES * LARGE_SLOTS); }

/* Keeps the compiler from leaving out copies whose bytes it need not look at. */
static inline void used(void *memory) { __asm__ volatile("" : : "r"(memory) : "memory"); }

static inline uint64_t run_read(uint64_t count, size_t bytes, size_t slots, bool call) {
  uint64_t sum = 0, expected = 0;
  double from = address_of(slots_start), to = address_of(buffer);
  uint64_t start = now_ns();
  for (uint64_t i = 0; i < count; i++) {
    size_t offset = (i & (slots - 1)) * bytes;
    if (call) NEED(hf_copy(to, from + (double)offset, (double)bytes) == 0);
    else memcpy(buffer, slots_start + offset, bytes);
    used(buffer);
    sum += buffer[0];
  }
  uint64_t end = now_ns();
  for (uint64_t i = 0; i < count; i++) expected += byte_at((i & (slots - 1)) * bytes);
  NEED(sum == expected && memcmp(buffer, slots_start + ((count - 1) & (slots - 1)) * bytes, bytes) == 0);
  return end - start;
}

static inline uint64_t run_write(uint64_t count, size_t bytes, size_t slots, bool call) {
  double to = address_of(slots_start), from = address_of(buffer);
  uint64_t round = ++copy_round;
  uint64_t start = now_ns();
  for (uint64_t i = 0; i < count; i++) {
    size_t offset = (i & (slots - 1)) * bytes;
    buffer[0] = (unsigned char)(i + round);
    if (call) NEED(hf_copy(to + (double)offset, from, (double)bytes) == 0);
    else memcpy(slots_start + offset, buffer, bytes);
    used(slots_start);
  }
  uint64_t end = now_ns();
  for (uint64_t i = count < slots ? 0 : count - slots; i < count; i++) {
    buffer[0] = (unsigned char)(i + round);
    NEED(memcmp(buffer, slots_start + (i & (slots - 1)) * bytes, bytes) == 0);
  }
  return end - start;
}

static uint64_t run_read_small(uint64_t count) { return run_read(count, SMALL_BYTES, SMALL_SLOTS, false); }
static uint64_t run_read_small_call(uint64_t count) { return run_read(count, SMALL_BYTES, SMALL_SLOTS, true); }
static uint64_t run_write_small(uint64_t count) { return run_write(count, SMALL_BYTES, SMALL_SLOTS, false); }
static uint64_t run_write_small_call(uint64_t count) { return run_write(count, SMALL_BYTES, SMALL_SLOTS, true); }
static uint64_t run_read_large(uint64_t count) { return run_read(count, LARGE_BYTES, LARGE_SLOTS, false); }
static uint64_t run_read_large_call(uint64_t count) { return run_read(count, LARGE_BYTES, LARGE_SLOTS, true); }
static uint64_t run_write_large(uint64_t count) { return run_write(count, LARGE_BYTES, LARGE_SLOTS, false); }
static uint64_t run_write_large_call(uint64_t count) { return run_write(count, LARGE_BYTES, LARGE_SLOTS, true); }

/* ---- random accesses: 64-bit words of FILE, whose word i holds i ------------------------------------------------------- */

enum { ADVICE_POPULATE_READ = 9, ADVICE_POPULATE_WRITE = 10 };

static const char *words_file;
static int64_t *file_words;
static uint32_t word_mask, random_state = UINT32_C(2463534242), word_round;

static void open_words(double advice) {
  int fd = open(words_file, O_RDWR | O_CLOEXEC);
  NEED(fd >= 0);
  off_t bytes = lseek(fd, 0, SEEK_END);
  NEED(bytes >= 8 && (bytes & (bytes - 1)) == 0 && bytes / 8 <= INT32_MAX);
  double address = hf_map(fd, 0, (double)bytes, HF_MAP_WRITE, 0);
  NEED(address > 0);
  NEED(hf_advise(address, (double)bytes, advice) == 0);
  NEED(close(fd) == 0);
  file_words = (int64_t *)(uintptr_t)address;
  word_mask = (uint32_t)(bytes / 8 - 1);
}

static void open_read_words(const char *folder) {
  (void)folder;
  open_words(ADVICE_POPULATE_READ);
}

static void open_written_words(const char *folder) {
  (void)folder;
  open_words(ADVICE_POPULATE_WRITE);
}

/* Marsaglia's xorshift. */
static inline uint32_t next_random(uint32_t x) {
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  return x;
}

static uint64_t run_random_read(uint64_t count) {
  uint64_t sum = 0, expected = 0;
  uint32_t x = random_state;
  uint64_t start = now_ns();
  for (uint64_t i = 0; i < count; i++) {
    x = next_random(x);
    expected += x & word_mask;
    sum += (uint64_t)__atomic_load_n(&file_words[x & word_mask], __ATOMIC_SEQ_CST);
  }
  uint64_t end = now_ns();
  NEED(sum == expected);
  random_state = x;
  return end - start;
}

static uint64_t run_random_read_call(uint64_t count) {
  double sum = 0, expected = 0, first = address_of(file_words);
  uint32_t x = random_state;
  uint64_t start = now_ns();
  for (uint64_t i = 0; i < count; i++) {
    x = next_random(x);
    expected += x & word_mask;
    sum += hf_load64(first + 8.0 * (x & word_mask), 0);
  }
  uint64_t end = now_ns();
  NEED(sum == expected);
  random_state = x;
  return end - start;
}

static inline uint64_t random_write(uint64_t count, bool call) {
  double first = address_of(file_words);
  uint32_t x = random_state;
  word_round++;
  uint64_t start = now_ns();
  for (uint64_t i = 0; i < count; i++) {
    x = next_random(x);
    uint32_t word = x & word_mask;
    if (call) NEED(hf_store64(first + 8.0 * word, (double)(word + word_round)) >= 0);
    else __atomic_store_n(&file_words[word], (int64_t)word + word_round, __ATOMIC_SEQ_CST);
  }
  uint64_t end = now_ns();
  uint32_t again = random_state;
  for (uint64_t i = 0; i < count && i < 1000; i++) {
    again = next_random(again);
    NEED(file_words[again & word_mask] == (int64_t)(again & word_mask) + word_round);
  }
  random_state = x;
  return end - start;
}

static uint64_t run_random_write(uint64_t count) { return random_write(count, false); }
static uint64_t run_random_write_call(uint64_t count) { return random_write(count, true); }

/* ---- durable appends: what a program does that has no queue ---------------------------------------------------------- */

enum { BATCH_COUNT = 100 };

static int appended;

static void open_appended(const char *folder) {
  char path[4096];
  int length = snprintf(path, sizeof path, "%s/appended", folder);
  NEED(length > 0 && (size_t)length < sizeof path);
  appended = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  NEED(appended >= 0);
}

/* A file whose bytes are all on storage already: a sync of it has nothing but the page to write. */
enum { WRITTEN_BYTES = 1 << 20 };

static void open_written(const char *folder) {
  static const unsigned char zeros[4096];
  open_appended(folder);
  NEED(fcntl(appended, F_SETFL, 0) == 0); /* not at the end: pwrite(2) would take it there */
  for (off_t offset = 0; offset < WRITTEN_BYTES; offset += (off_t)sizeof zeros) NEED(pwrite(appended, zeros, sizeof zeros, offset) == (ssize_t)sizeof zeros);
  NEED(fsync(appended) == 0);
}

static uint64_t run_write_each(uint64_t count) {
  static off_t offset;
  uint64_t start = now_ns();
  for (uint64_t i = 0; i < count; i++) {
    NEED(pwrite(appended, message, message_bytes, offset) == (ssize_t)message_bytes && fdatasync(appended) == 0);
    offset = (offset + message_bytes) % (WRITTEN_BYTES / 2);
  }
  return now_ns() - start;
}

/* Appends the message `count` times, with an fdatasync(2) after each `batch`. */
static uint64_t append(uint64_t count, uint64_t batch) {
  off_t before = lseek(appended, 0, SEEK_END);
  uint64_t start = now_ns();
  for (uint64_t i = 1; i <= count; i++) {
    NEED(write(appended, message, message_bytes) == (ssize_t)message_bytes);
    if (i % batch == 0) NEED(fdatasync(appended) == 0);
  }
  uint64_t end = now_ns();
  NEED(lseek(appended, 0, SEEK_END) == before + (off_t)(count * message_bytes));
  return end - start;
}

static uint64_t run_append_batch(uint64_t count) { return append(count, BATCH_COUNT); }

/* ---- a wake: the least that there is, one futex(2) between two processes --------------------------------------------- */

enum { TIMES = 1024, WAKE_FILE_BYTES = 16384 };

struct bell {
  uint32_t count; /* of wakes in this round */
  uint32_t reserved[31];
  uint64_t times[TIMES]; /* when each was sent */
};
_Static_assert(sizeof(struct bell) <= WAKE_FILE_BYTES, "bell");

static struct bell *bell;
/* p99 and p99.9, behind the p50 that a round of `wake-hear` is answered with. */
static uint64_t quantiles[2];

static void open_bell(const char *folder) { bell = (struct bell *)(void *)map_file(folder, WAKE_FILE_BYTES); }

/* `backlog` wakes a second. */
static uint64_t run_wake_pace(uint64_t count) {
  uint64_t start = now_ns(), gap = UINT64_C(1000000000) / backlog;
  for (uint64_t i = 1; i <= count; i++) {
    while (now_ns() < start + i * gap) {}
    bell->times[i % TIMES] = now_ns();
    __atomic_store_n(&bell->count, (uint32_t)i, __ATOMIC_SEQ_CST);
    NEED(hf_wake32(address_of(&bell->count), 1) >= 0);
  }
  return now_ns() - start;
}

static int by_size(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

/* Nanoseconds from when each wake was sent; of those that came while it was still up, the last. */
static uint64_t run_wake_hear(uint64_t count) {
  uint64_t *taken = malloc(count * sizeof *taken), kept = 0;
  NEED(taken != NULL);
  for (uint32_t seen = 0; seen < count;) {
    uint32_t now = __atomic_load_n(&bell->count, __ATOMIC_SEQ_CST);
    if (now == seen || now > count) {
      (void)hf_wait32(address_of(&bell->count), now, 1000); /* or it has changed by now */
      continue;
    }
    taken[kept++] = now_ns() - bell->times[now % TIMES];
    seen = now;
  }
  __atomic_store_n(&bell->count, 0, __ATOMIC_SEQ_CST);
  qsort(taken, kept, sizeof *taken, by_size);
  quantiles[0] = taken[(kept - 1) * 99 / 100];
  quantiles[1] = taken[(kept - 1) * 999 / 1000];
  uint64_t median = taken[(kept - 1) / 2];
  free(taken);
  return median;
}

/* ---- main ---------------------------------------------------------------------------------------------------------- */

static const struct workload {
  const char *name;
  void (*open)(const char *folder);
  uint64_t (*run)(uint64_t count);
} workloads[] = {
    {"counter-add", open_cell, run_add},          {"counter-add-call", open_cell, run_add_call},
    {"counter-add-4", open_cell, run_add_together}, {"counter-add-4-call", open_cell, run_add_together_call},
    {"metric-inc", open_cell, run_add_double},
    {"shm-read-64", open_small, run_read_small},  {"shm-write-64", open_small, run_write_small},
    {"atomic-load", open_loaded_cell, run_load},  {"atomic-load-call", open_loaded_cell, run_load_call},
    {"queue-push-pop", open_queue, run_pair},     {"queue-push", open_queue, run_push},
    {"queue-pop", open_queue, run_pop},
    {"queue-push-each", open_written, run_write_each},
    {"queue-push-batch", open_appended, run_append_batch},
    {"wake-pace", open_bell, run_wake_pace},      {"wake-hear", open_bell, run_wake_hear},
    {"pread-into-64", open_small, run_read_small},
    {"pread-into-64-call", open_small, run_read_small_call},
    {"pwrite-64", open_small, run_write_small},
    {"pwrite-64-call", open_small, run_write_small_call},
    {"pread-into-64k", open_large, run_read_large},
    {"pread-into-64k-call", open_large, run_read_large_call},
    {"pwrite-64k", open_large, run_write_large},
    {"pwrite-64k-call", open_large, run_write_large_call},
    {"random-read-8", open_read_words, run_random_read},
    {"random-read-8-call", open_read_words, run_random_read_call},
    {"random-write-8", open_written_words, run_random_write},
    {"random-write-8-call", open_written_words, run_random_write_call},
};

int main(int argc, char **argv) {
  if (argc != 6) {
    (void)fprintf(stderr, "usage: %s WORKLOAD FOLDER PAYLOAD BACKLOG FILE\n", argv[0]);
    return 2;
  }
  workload_name = argv[1];
  const struct workload *workload = NULL;
  for (size_t i = 0; i < sizeof workloads / sizeof workloads[0]; i++) {
    if (strcmp(workloads[i].name, argv[1]) == 0) workload = &workloads[i];
  }
  NEED(workload != NULL);
  NEED(hf_guard_install() == 0);
  read_payload(argv[3]);
  backlog = (uint32_t)strtoul(argv[4], NULL, 10);
  NEED(backlog > 0);
  words_file = argv[5];
  workload->open(argv[2]);
  NEED(puts("ready") >= 0 && fflush(stdout) == 0);

  char line[64];
  while (fgets(line, sizeof line, stdin) != NULL) {
    uint64_t count = strtoull(line, NULL, 10);
    NEED(count > 0);
    NEED(printf("%" PRIu64, workload->run(count)) > 0);
    if (quantiles[0] > 0) NEED(printf(" %" PRIu64 " %" PRIu64, quantiles[0], quantiles[1]) > 0);
    NEED(puts("") >= 0 && fflush(stdout) == 0);
  }
  return 0;
}
