/*
 * step.c - kills a process at every instruction of the queue's native steps.
 *
 *   step LIBRARY FILE [STRIDE [OPERATION]]
 *
 * A child does one operation of lib/queue on a mapped file, with the functions of LIBRARY, the bytes that users load. The parent stops it
 * after n instructions (ptrace(2)), reads both cells while it is stopped there, kills it, and goes on as a survivor does:
 * lib/queue/control.ts (alive, acquireSlowly, takeOver), consumer.ts (repair). This for n = 0, STRIDE, 2 * STRIDE, ... and the last.
 *
 * After each death:
 *   - both cells are whole, also before the takeover; the lock is free or the dead one's, and can be had;
 *   - what the survivor finds is one of the operation's states, and never an earlier one than after fewer instructions;
 *   - every record that is there is whole; one more can be pushed; all can be taken; then nothing is leased.
 *
 * One line for each operation: instructions, deaths, how many left the lock held, and how many deaths left which state. Exit code 0, 1 on a
 * violation, 77 where ptrace(2) is not permitted. For x86-64: on other CPUs a single step ends the pair of a load and a store that an atomic
 * operation is made of, so that it would never get through.
 */
#include "../../csrc/holdfast.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *operation_name = "setup";
static long step_now;

#define NEED(condition)                                                                                                              \
  do {                                                                                                                               \
    if (!(condition)) {                                                                                                              \
      (void)fprintf(stderr, "step.c:%d: %s, killed after %ld instructions: %s does not hold (errno: %s)\n", __LINE__, operation_name, \
                    step_now, #condition, strerror(errno));                                                                          \
      exit(1);                                                                                                                       \
    }                                                                                                                                \
  } while (0)

#define FUNCTIONS(X)                                                                                                  \
  X(hf_load64) X(hf_store64) X(hf_add64) X(hf_cas64) X(hf_float_add) X(hf_float_load)                                 \
  X(hf_lock_range) X(hf_lock_probe)                                                                                   \
  X(hf_cell_read) X(hf_cell_init) X(hf_begin) X(hf_commit) X(hf_publish) X(hf_unlock) X(hf_expect) X(hf_ring)         \
  X(hf_sealed_load) X(hf_sealed_store) X(hf_sealed_cas)                                                               \
  X(hf_record_write) X(hf_record_read) X(hf_records_write) X(hf_records_read)                                         \
  X(hf_words_load) X(hf_words_store) X(hf_words_checksum)                                                             \
  X(hf_side_init) X(hf_side_tail) X(hf_side_segment) X(hf_append) X(hf_front) X(hf_pass)

#define DECLARE(name) __typeof__(name) *name;
static struct {
  FUNCTIONS(DECLARE)
} lib;

/* ISO C has no conversion from void * to a function; POSIX dlsym(3) is used like this. */
#define RESOLVE(name)                                   \
  do {                                                  \
    void *symbol = dlsym(library, #name);               \
    NEED(symbol != NULL);                               \
    memcpy(&lib.name, &symbol, sizeof symbol);          \
  } while (0);

/* ---- the file: a control page as in lib/layout/queue.ts, a small lease table, three segments ------------------------------- */

enum {
  MARKS = 256,
  MARK_BYTES = 128,
  MARK_WORDS = 14, /* behind checksum, length and the mark's own length */
  PRODUCER_LOCK = 1024,
  PRODUCER_CELLS = 1152,
  CONSUMER_LOCK = 2048,
  CONSUMER_CELLS = 2176,
  SPARES = 3200,
  SPARE_COUNT = 2,
  SLOT = 3776, /* that of the victim */
  LONE_WORD = 3840, /* for the steps on one word: sealed words, counters, metrics */
  LEASES = 4096,
  LEASE_BYTES = 64,
  LEASE_COUNT = 4,
  SEGMENTS = 8192,
  SEGMENT_BYTES = 1024,
  SEGMENT_COUNT = 3,
  SEGMENT_WORDS_OFFSET = 128,
  RECORDS_OFFSET = 256,
  FILE_BYTES = SEGMENTS + SEGMENT_COUNT * SEGMENT_BYTES,
  RECORD_BYTES = 88, /* 32 around a payload of 56 */
  PAYLOAD_WORDS = 7,
};

enum { POSITION, SEGMENT, OFFSET, SEQUENCE, BYTES, MARK, PRODUCER_WORDS, LEASED = 5, LEASED_BYTES, HEAD, LEASE_END, LEASE_SUM, CONSUMER_WORDS };
enum { BASE, END, NEXT, SEGMENT_WORDS };
enum { L_SEQUENCE, L_OWNER, L_DEADLINE, L_ATTEMPTS, L_POSITION, L_SEGMENT, L_OFFSET, L_BYTES, LEASE_WORDS };

static const double SALT = 0x12345678, SLOT_COUNT = 1024, ATTEMPTS_RANGE = 2097152;
static const double segment_bytes = SEGMENT_BYTES, records_offset = RECORDS_OFFSET, record_bytes = RECORD_BYTES;
static const double segment_words_offset = SEGMENT_WORDS_OFFSET, lease_count = LEASE_COUNT;
/* Owner words: generation 1, slots 0 to 2. The slot of GONE was never anybody's, as after a death. */
static const double SURVIVOR = 1024, VICTIM = 1025, GONE = 1026;

struct record {
  uint32_t checksum, total, length, flags;
  uint64_t sequence;
  uint64_t payload[PAYLOAD_WORDS];
  uint32_t trailer, reserved;
};
_Static_assert(sizeof(struct record) == RECORD_BYTES, "record");

static unsigned char *file;
static int fd;
static double self = 1024;

static double address_of(const volatile void *pointer) { return (double)(uintptr_t)pointer; }
static double at(size_t offset) { return address_of(file + offset); }

/* Behind the values of a side, or of the tail: the word that is the library's. Together, since each child starts with the same. */
enum { SIDE_DOUBLES = HF_SIDE_BYTES / 8, VALUES = HF_SIDE_VALUES / 8 };
static struct {
  double producer[SIDE_DOUBLES], consumer[SIDE_DOUBLES], tail[PRODUCER_WORDS + 1], words[16];
} own;
static double *const producer = own.producer + VALUES, *const consumer = own.consumer + VALUES, *const tail = own.tail, *const words = own.words;

struct side {
  size_t lock, cells;
  double count, *side, *values;
};
static const struct side PRODUCER = {PRODUCER_LOCK, PRODUCER_CELLS, PRODUCER_WORDS, own.producer, own.producer + VALUES};
static const struct side CONSUMER = {CONSUMER_LOCK, CONSUMER_CELLS, CONSUMER_WORDS, own.consumer, own.consumer + VALUES};

static double segment_at(double id) { return at(SEGMENTS + (size_t)(id - 1) * SEGMENT_BYTES); }
static double lease_at(double index) { return at(LEASES + (size_t)index * LEASE_BYTES); }

static void forget(const struct side *side) { side->values[(size_t)side->count] = 0; }

/* ---- lib/queue/control.ts ------------------------------------------------------------------------------------------------- */

static bool alive(double owner) {
  if (owner == self) return true;
  double held = lib.hf_lock_probe(fd, (double)((uint64_t)owner % (uint64_t)SLOT_COUNT), 1);
  NEED(held >= 0);
  return held > 0;
}

/*
 * True if the lock was taken from a dead owner. Without the sleep that comes before the look at the owner: it changes nothing but the flag of
 * sleepers, and reads a clock, which never takes the same steps twice.
 */
static bool acquire(const struct side *side) {
  double result = lib.hf_begin(at(side->lock), self, at(side->cells), side->count, SALT, address_of(side->values));
  if (result == 0) return false;
  NEED(result == HF_E_BUSY);
  double holder = lib.hf_load64(at(side->lock), 0);
  NEED(holder > 0);
  NEED(!alive(holder));
  NEED(lib.hf_cas64(at(side->lock), holder, self) == holder);
  forget(side);
  NEED(lib.hf_cell_read(at(side->cells), side->count, SALT, address_of(side->values)) == 0);
  return true;
}

static void ring(void) { NEED(lib.hf_ring(at(PRODUCER_LOCK), 1) >= 0); }

static void commit(const struct side *side) {
  double waiting = lib.hf_commit(at(side->lock), self, at(side->cells), side->count, SALT, address_of(side->values));
  NEED(waiting == 0 || waiting == 1);
  if (waiting == 1) ring();
}

static void publish(const struct side *side) {
  NEED(lib.hf_publish(at(side->lock), self, at(side->cells), side->count, SALT, address_of(side->values)) == 0);
}

static void release(const struct side *side) {
  forget(side);
  NEED(lib.hf_unlock(at(side->lock), self) == 0);
}

/* ---- lib/queue/segments.ts ------------------------------------------------------------------------------------------------ */

static void set_segment(double id, double base, double end, double next) {
  words[BASE] = base;
  words[END] = end;
  words[NEXT] = next;
  NEED(lib.hf_words_store(segment_at(id) + segment_words_offset, SEGMENT_WORDS, address_of(words)) == 0);
}

static void get_segment(double id) {
  NEED(lib.hf_words_load(segment_at(id) + segment_words_offset, SEGMENT_WORDS, address_of(words)) == 0);
}

static double take_segment(void) {
  for (size_t i = 0; i < SPARE_COUNT; i++) {
    double id = lib.hf_load64(at(SPARES + 8 * i), 0);
    if (id <= 0) continue;
    get_segment(id);
    if (words[BASE] == 0 && lib.hf_cas64(at(SPARES + 8 * i), id, 0) == id) return id;
  }
  bool spare_found = false;
  NEED(spare_found);
  return 0;
}

static void recycle(double id) {
  set_segment(id, 0, 0, 0);
  for (size_t i = 0; i < SPARE_COUNT; i++) {
    if (lib.hf_cas64(at(SPARES + 8 * i), 0, id) == 0) return;
  }
  bool room_found = false;
  NEED(room_found);
}

/* ---- lib/queue/producer.ts ------------------------------------------------------------------------------------------------ */

enum { MOST_AT_ONCE = 4 };

static struct record records[MOST_AT_ONCE];

static void fill_payload(struct record *record, uint64_t number) {
  for (size_t word = 0; word < PAYLOAD_WORDS; word++) record->payload[word] = number * (word + 1);
}

/* Records `first` and up, one behind the other, behind the tail: those of one segment go with one native call, as in Producer.write. */
static void write_records(uint64_t first, size_t count) {
  NEED(count <= MOST_AT_ONCE);
  for (size_t i = 0; i < count; i++) {
    struct record *record = &records[i];
    record->total = record->trailer = RECORD_BYTES;
    record->length = PAYLOAD_WORDS * 8;
    record->sequence = (uint64_t)producer[SEQUENCE] + i;
    fill_payload(record, first + i);
  }
  double target = segment_at(producer[SEGMENT]) + producer[OFFSET], bytes = record_bytes * (double)count;
  NEED(lib.hf_records_write(target, address_of(records), bytes, SALT, producer[POSITION]) == 0);
  producer[POSITION] += bytes;
  producer[OFFSET] += bytes;
  producer[SEQUENCE] += (double)count;
  producer[BYTES] += bytes;
}

static void roll(void) {
  double id = take_segment(), from = producer[SEGMENT], end = producer[OFFSET], base = producer[POSITION] - end;
  set_segment(id, base + segment_bytes, 0, 0);
  set_segment(from, base, end, id);
  producer[SEGMENT] = id;
  producer[OFFSET] = RECORDS_OFFSET;
  producer[POSITION] = base + segment_bytes + records_offset;
}

static void push_many(uint64_t first, size_t count) {
  (void)acquire(&PRODUCER);
  for (size_t done = 0, now; done < count; done += now) {
    size_t room = (size_t)((segment_bytes - producer[OFFSET]) / record_bytes), wanted = count - done;
    if (room == 0) roll();
    now = room < wanted ? room : wanted;
    if (now > MOST_AT_ONCE) now = MOST_AT_ONCE;
    if (now > 0) write_records(first + done, now);
  }
  commit(&PRODUCER);
}

/* Producer.appendOne. */
static void push_one(uint64_t number) {
  fill_payload(&records[0], number);
  double result = lib.hf_append(address_of(own.producer), address_of(records[0].payload), PAYLOAD_WORDS * 8);
  if (result == HF_E_BUSY) push_many(number, 1);
  else NEED(result == 1 || result == 2);
  if (result == 2) ring();
}

/* writeMark of lib/queue/mark.ts: mark `number`, in whose words the number stands. */
static void write_mark(double number) {
  static struct {
    uint32_t checksum, total, length, reserved;
    uint64_t words[MARK_WORDS];
  } mark = {0, MARK_BYTES, MARK_WORDS * 8, 0, {0}};
  for (size_t i = 0; i < MARK_WORDS; i++) mark.words[i] = (uint64_t)number;
  double slot = at(MARKS + MARK_BYTES * ((size_t)number % 2));
  NEED(lib.hf_record_write(slot, address_of(&mark), MARK_BYTES, SALT, number) == 0);
  producer[MARK] = number;
}

/* Producer.append of one record with a mark. */
static void push_marked(uint64_t first, double number) {
  (void)acquire(&PRODUCER);
  write_records(first, 1);
  write_mark(number);
  commit(&PRODUCER);
}

/* ---- lib/queue/reader.ts, consumer.ts, leases.ts -------------------------------------------------------------------------- */

static uint64_t read_record(double segment, double offset, double position, double sequence) {
  static struct record record;
  double source = segment_at(segment) + offset;
  double total = lib.hf_record_read(address_of(&record), sizeof record, source, segment_bytes - offset, SALT, position);
  NEED(total == record_bytes && record.sequence == (uint64_t)sequence);
  for (size_t i = 0; i < PAYLOAD_WORDS; i++) NEED(record.payload[i] == record.payload[0] * (i + 1));
  return record.payload[0];
}

/* Moves the cursor over the end of its segment; false if there is no record behind it. */
static bool at_record(void) {
  tail[PRODUCER_WORDS] = 0;
  NEED(lib.hf_cell_read(at(PRODUCER_CELLS), PRODUCER_WORDS, SALT, address_of(tail)) == 0);
  if (consumer[POSITION] >= tail[POSITION]) return false;
  while (consumer[SEGMENT] != tail[SEGMENT]) {
    get_segment(consumer[SEGMENT]);
    if (consumer[OFFSET] < words[END]) break;
    double end_position = words[BASE] + segment_bytes, next = words[NEXT];
    NEED(consumer[OFFSET] == words[END]);
    get_segment(next);
    NEED(words[BASE] == end_position);
    consumer[SEGMENT] = next;
    consumer[OFFSET] = RECORDS_OFFSET;
    consumer[POSITION] = end_position + records_offset;
  }
  return true;
}

/* Reader.nextMany: the records at the cursor with one native call, the cursor moved over them. */
static void read_many(size_t count) {
  NEED(count <= MOST_AT_ONCE);
  double source = segment_at(consumer[SEGMENT]) + consumer[OFFSET], limit = segment_bytes - consumer[OFFSET];
  double bytes = lib.hf_records_read(address_of(records), sizeof records, source, limit, (double)count, SALT, consumer[POSITION]);
  NEED(bytes == record_bytes * (double)count);
  for (size_t i = 0; i < count; i++) {
    NEED(records[i].sequence == (uint64_t)consumer[SEQUENCE] + i && records[i].payload[0] * 2 == records[i].payload[1]);
  }
  consumer[POSITION] += bytes;
  consumer[OFFSET] += bytes;
  consumer[SEQUENCE] += (double)count;
  consumer[BYTES] += bytes;
}

static void advance(void) {
  consumer[POSITION] += record_bytes;
  consumer[OFFSET] += record_bytes;
  consumer[SEQUENCE] += 1;
  consumer[BYTES] += record_bytes;
}

/* Publishes, then gives the head's segment up if the cursor has left it: no lease is in it. */
static void finish(void) {
  double head = consumer[HEAD];
  if (head == consumer[SEGMENT]) {
    commit(&CONSUMER);
    return;
  }
  consumer[HEAD] = consumer[SEGMENT];
  publish(&CONSUMER);
  recycle(head);
  release(&CONSUMER);
}

static double seal_of(const double *entry) {
  double sealed[5] = {entry[L_SEQUENCE], entry[L_POSITION], entry[L_SEGMENT], entry[L_OFFSET], entry[L_BYTES]};
  return lib.hf_words_checksum(5, SALT, address_of(sealed));
}

/* The entry at `index`, whole, in `entry`; false if it is free. */
static bool open_lease(double index, double *entry) {
  NEED(lib.hf_words_load(lease_at(index), LEASE_WORDS, address_of(entry)) == 0);
  if (entry[L_SEQUENCE] == 0) return false;
  NEED((double)(uint64_t)(entry[L_ATTEMPTS] / ATTEMPTS_RANGE) == seal_of(entry));
  return true;
}

static double attempts_of(const double *entry) { return (double)((uint64_t)entry[L_ATTEMPTS] % (uint64_t)ATTEMPTS_RANGE); }

static void clear_lease(double index) {
  words[0] = 0;
  NEED(lib.hf_words_store(lease_at(index), 1, address_of(words)) == 0);
}

static void give_back(double index) {
  words[0] = 0;
  NEED(lib.hf_words_store(lease_at(index) + 8 * L_OWNER, 1, address_of(words)) == 0);
}

/* Consumer.grant of the record at the cursor, into entry `index`. */
static void lease(double index) {
  NEED(at_record());
  (void)read_record(consumer[SEGMENT], consumer[OFFSET], consumer[POSITION], consumer[SEQUENCE]);
  double entry[LEASE_WORDS] = {consumer[SEQUENCE], self, 0, 0, consumer[POSITION], consumer[SEGMENT], consumer[OFFSET], record_bytes};
  entry[L_ATTEMPTS] = seal_of(entry) * ATTEMPTS_RANGE + 1;
  advance();
  NEED(lib.hf_words_store(lease_at(index), LEASE_WORDS, address_of(entry)) == 0);
  consumer[LEASED] += 1;
  consumer[LEASE_SUM] += seal_of(entry);
  consumer[LEASED_BYTES] += record_bytes;
  if (consumer[LEASE_END] < index + 1) consumer[LEASE_END] = index + 1;
  commit(&CONSUMER);
}

/* LeaseTable.transfer. */
static void transfer(double index) {
  double entry[LEASE_WORDS];
  NEED(open_lease(index, entry));
  double attempts = seal_of(entry) * ATTEMPTS_RANGE + attempts_of(entry) + 1;
  give_back(index);
  words[0] = 0;
  words[1] = attempts;
  NEED(lib.hf_words_store(lease_at(index) + 8 * L_DEADLINE, 2, address_of(words)) == 0);
  words[0] = self;
  NEED(lib.hf_words_store(lease_at(index) + 8 * L_OWNER, 1, address_of(words)) == 0);
}

/* Consumer.settle without `keep`, Consumer.forget. The head stays: no segment was left in the setups that use this. */
static void acknowledge(double index) {
  double entry[LEASE_WORDS];
  NEED(open_lease(index, entry) && entry[L_OWNER] == self);
  clear_lease(index);
  consumer[LEASED] -= 1;
  consumer[LEASED_BYTES] -= entry[L_BYTES];
  consumer[LEASE_SUM] -= seal_of(entry);
  if (consumer[LEASED] == 0) consumer[LEASE_END] = 0;
  commit(&CONSUMER);
}

/* Consumer.repair. */
static void repair(void) {
  double leased = 0, bytes = 0, end = 0, sum = 0, entry[LEASE_WORDS];
  for (double index = 0; index < lease_count; index++) {
    NEED(lib.hf_words_load(lease_at(index), LEASE_WORDS, address_of(entry)) == 0);
    if (entry[L_SEQUENCE] == consumer[SEQUENCE]) {
      clear_lease(index);
      continue;
    }
    if (!open_lease(index, entry)) continue;
    leased++;
    bytes += entry[L_BYTES];
    sum += seal_of(entry);
    end = index + 1;
  }
  if (leased == consumer[LEASED] && bytes == consumer[LEASED_BYTES] && end <= consumer[LEASE_END]) return;
  consumer[LEASED] = leased;
  consumer[LEASED_BYTES] = bytes;
  consumer[LEASE_END] = end;
  consumer[LEASE_SUM] = sum;
  publish(&CONSUMER);
}

/* ---- what a survivor finds ------------------------------------------------------------------------------------------------ */

static char found[512];

static void note(const char *format, ...) {
  size_t length = strlen(found);
  va_list arguments;
  va_start(arguments, format);
  int more = vsnprintf(found + length, sizeof found - length, format, arguments);
  va_end(arguments);
  NEED(more >= 0 && (size_t)more < sizeof found - length);
}

/* Takes everything: leases first, each given back or of a dead holder, then the rest; notes all but the last record, which the survivor pushed. */
static void drain(void) {
  if (acquire(&CONSUMER)) repair();
  double entry[LEASE_WORDS], leased = 0, sum = 0;
  for (double index = 0; index < consumer[LEASE_END]; index++) {
    if (!open_lease(index, entry)) continue;
    NEED(entry[L_SEQUENCE] < consumer[SEQUENCE]);
    NEED(entry[L_OWNER] == 0 || !alive(entry[L_OWNER]));
    uint64_t number = read_record(entry[L_SEGMENT], entry[L_OFFSET], entry[L_POSITION], entry[L_SEQUENCE]);
    note("%" PRIu64 "%s*%d ", number, entry[L_OWNER] == 0 ? "" : "!", (int)attempts_of(entry));
    clear_lease(index);
    sum += seal_of(entry);
    leased++;
  }
  NEED(leased == consumer[LEASED] && leased * record_bytes == consumer[LEASED_BYTES] && sum == consumer[LEASE_SUM]);
  consumer[LEASED] = consumer[LEASED_BYTES] = consumer[LEASE_END] = consumer[LEASE_SUM] = 0;
  bool last = false;
  while (at_record()) {
    NEED(!last);
    uint64_t number = read_record(consumer[SEGMENT], consumer[OFFSET], consumer[POSITION], consumer[SEQUENCE]);
    advance();
    last = number == 99;
    if (!last) note("%" PRIu64 " ", number);
  }
  NEED(last && consumer[SEQUENCE] == tail[SEQUENCE] && consumer[BYTES] == tail[BYTES]);
  commit(&CONSUMER);
}

static void describe_queue(void) {
  char spares[32] = "spare";
  for (size_t i = 0; i < SPARE_COUNT; i++) {
    double id = lib.hf_load64(at(SPARES + 8 * i), 0);
    if (id == 0) continue;
    size_t length = strlen(spares);
    (void)snprintf(spares + length, sizeof spares - length, " %d", (int)id);
  }
  (void)acquire(&PRODUCER);
  if (producer[OFFSET] + record_bytes > segment_bytes) roll();
  write_records(99, 1);
  commit(&PRODUCER);
  drain();
  note("%s", spares);
}

static void describe_mark(void) {
  struct {
    uint32_t front[4];
    uint64_t words[MARK_WORDS];
  } mark;
  forget(&PRODUCER);
  NEED(lib.hf_cell_read(at(PRODUCER_CELLS), PRODUCER_WORDS, SALT, address_of(producer)) == 0);
  double number = producer[MARK], slot = at(MARKS + MARK_BYTES * ((size_t)number % 2));
  NEED(lib.hf_record_read(address_of(&mark), sizeof mark, slot, MARK_BYTES, SALT, number) == MARK_BYTES);
  for (size_t i = 0; i < MARK_WORDS; i++) NEED(mark.words[i] == (uint64_t)number);
  note("mark %d: ", (int)number);
  describe_queue();
}

static void describe_sealed(void) { note("%.0f", lib.hf_sealed_load(at(LONE_WORD), SALT)); }
static void describe_word(void) { note("%.0f", lib.hf_load64(at(LONE_WORD), 0)); }
static void describe_float(void) { note("%g", lib.hf_float_load(at(LONE_WORD), 0)); }

enum { GENERATION, PROCESS, THREAD, NAMESPACE, SLOT_WORDS };
static const double OLD = 100, NEW = 200;

static void store_slot(double generation, double first) {
  double slot[SLOT_WORDS] = {generation, first, first + 1, first + 2};
  NEED(lib.hf_words_store(at(SLOT), SLOT_WORDS, address_of(slot)) == 0);
}

/* Who sees the new generation sees the new holder's words; with the old one they mean nothing, since its lock says that it is gone. */
static void describe_slot(void) {
  double slot[SLOT_WORDS];
  NEED(lib.hf_words_load(at(SLOT), SLOT_WORDS, address_of(slot)) == 0);
  bool whole = slot[PROCESS] == NEW && slot[THREAD] == NEW + 1 && slot[NAMESPACE] == NEW + 2;
  note("generation %d%s", (int)slot[GENERATION], slot[GENERATION] == 1 || whole ? "" : ", torn");
}

/* ---- the operations ------------------------------------------------------------------------------------------------------- */

static void empty_queue(void) {
  memset(file, 0, FILE_BYTES);
  memset(&own, 0, sizeof own);
  producer[POSITION] = consumer[POSITION] = SEGMENT_BYTES + RECORDS_OFFSET;
  producer[SEGMENT] = consumer[SEGMENT] = consumer[HEAD] = 1;
  producer[OFFSET] = consumer[OFFSET] = RECORDS_OFFSET;
  producer[SEQUENCE] = consumer[SEQUENCE] = 1;
  set_segment(1, SEGMENT_BYTES, 0, 0);
  NEED(lib.hf_cell_init(at(PRODUCER_CELLS), PRODUCER_WORDS, SALT, address_of(producer)) == 0);
  NEED(lib.hf_cell_init(at(CONSUMER_CELLS), CONSUMER_WORDS, SALT, address_of(consumer)) == 0);
  forget(&PRODUCER);
  forget(&CONSUMER);
  NEED(lib.hf_store64(at(SPARES), 2) == 2 && lib.hf_store64(at(SPARES + 8), 3) == 3);
}

static void pop_many(size_t count) {
  (void)acquire(&CONSUMER);
  NEED(at_record());
  read_many(count);
  finish();
}

/* Consumer.removeOne. */
static void pop_one(void) {
  double bytes = lib.hf_front(address_of(own.consumer), address_of(records), sizeof records);
  if (bytes == HF_E_BUSY) {
    pop_many(1);
    return;
  }
  NEED(bytes == record_bytes && records[0].sequence == (uint64_t)consumer[SEQUENCE]);
  for (size_t i = 0; i < PAYLOAD_WORDS; i++) NEED(records[0].payload[i] == records[0].payload[0] * (i + 1));
  double waiting = lib.hf_pass(address_of(own.consumer), bytes);
  NEED(waiting == 0 || waiting == 1);
}

/*
 * The sides of a handle that has pushed and popped before: Side.describe, Producer.useTail, Consumer.useSegment. Its segments are those that
 * tail and cursor are in, for a cursor behind which the queue has gone on with the end.
 */
static void describe_sides(void) {
  const struct side *sides[] = {&PRODUCER, &CONSUMER};
  for (int i = 0; i < 2; i++) {
    double lock = at(sides[i]->lock), cells = at(sides[i]->cells), side = address_of(sides[i]->side), id = sides[i]->values[SEGMENT];
    NEED(lib.hf_side_init(side, lock, self, cells, sides[i]->count, SALT, SALT) == 0);
    get_segment(id);
    bool behind = producer[SEGMENT] != id;
    NEED(lib.hf_side_segment(side, id, segment_at(id), segment_bytes, behind ? words[END] : 0, behind ? words[BASE] : 0) == 0);
  }
  NEED(lib.hf_side_tail(address_of(own.consumer), at(PRODUCER_CELLS), address_of(tail)) == 0);
}

static void two_records(void) { empty_queue(); push_many(1, 2); }
static void eight_records(void) { empty_queue(); push_many(1, 8); } /* a segment is full */
static void seven_records(void) { empty_queue(); push_many(1, 7); }
static void at_the_end(void) {
  empty_queue();
  push_many(1, 10);
  for (int i = 0; i < 8; i++) pop_many(1);
}
static void near_the_end(void) {
  empty_queue();
  push_many(1, 10);
  for (int i = 0; i < 7; i++) pop_many(1);
}
static void marked(void) {
  empty_queue();
  push_marked(1, 1);
  push_marked(2, 2);
}
static void lease_of(double owner) {
  two_records();
  self = owner;
  (void)acquire(&CONSUMER);
  lease(0);
  self = SURVIVOR;
}
static void leased(void) { lease_of(VICTIM); }
static void given_back(void) {
  leased();
  give_back(0);
}
static void leased_by_the_dead(void) { lease_of(GONE); }
static void held_by_the_dead(void) {
  two_records();
  NEED(lib.hf_store64(at(PRODUCER_LOCK), GONE) == GONE);
}
static void half_acknowledged(void) {
  lease_of(GONE);
  NEED(lib.hf_store64(at(CONSUMER_LOCK), GONE) == GONE);
  clear_lease(0);
}
static void half_leased(void) {
  lease_of(GONE); /* the first; a second entry is there for the record at the cursor, which has not moved */
  double entry[LEASE_WORDS];
  NEED(open_lease(0, entry));
  entry[L_SEQUENCE]++;
  entry[L_POSITION] += record_bytes;
  entry[L_OFFSET] += record_bytes;
  entry[L_ATTEMPTS] = seal_of(entry) * ATTEMPTS_RANGE + 1;
  NEED(lib.hf_words_store(lease_at(1), LEASE_WORDS, address_of(entry)) == 0);
  NEED(lib.hf_store64(at(CONSUMER_LOCK), GONE) == GONE);
}
static void with_sleepers(void) {
  two_records();
  uint32_t sleepers = 1;
  memcpy(file + PRODUCER_LOCK + 8, &sleepers, sizeof sleepers);
}
static void awaited(void) {
  two_records();
  NEED(lib.hf_expect(at(PRODUCER_LOCK), 0) == 0);
}
static void sealed_five(void) {
  memset(file, 0, FILE_BYTES);
  NEED(lib.hf_sealed_store(at(LONE_WORD), 5, SALT) == 5);
}
static void five(void) {
  memset(file, 0, FILE_BYTES);
  NEED(lib.hf_store64(at(LONE_WORD), 5) == 5);
}
static void old_slot(void) {
  memset(file, 0, FILE_BYTES);
  store_slot(1, OLD);
}
static void zeros(void) { memset(file, 0, FILE_BYTES); }

static void run_push(void) { push_one(3); }
static void run_push_by_steps(void) { push_many(3, 1); }
static void run_push_marked(void) { push_marked(3, 3); }
static void run_push_many(void) { push_many(3, 3); }
static void run_push_many_roll(void) { push_many(9, 3); }
static void run_push_roll(void) { push_one(9); }
static void run_pop(void) { pop_one(); }
static void run_pop_by_steps(void) { pop_many(1); }
static void run_pop_many(void) { pop_many(2); }
static void run_lease(void) { (void)acquire(&CONSUMER); lease(0); }
static void run_ack(void) { (void)acquire(&CONSUMER); acknowledge(0); }
static void run_release(void) { (void)acquire(&CONSUMER); give_back(0); release(&CONSUMER); }
static void run_transfer(void) { (void)acquire(&CONSUMER); transfer(0); release(&CONSUMER); }
static void run_repair(void) { NEED(acquire(&CONSUMER)); repair(); release(&CONSUMER); }
static void run_unlock(void) { (void)acquire(&PRODUCER); release(&PRODUCER); }
static void run_take_slot(void) { store_slot(2, NEW); }
static void run_sealed_store(void) { NEED(lib.hf_sealed_store(at(LONE_WORD), 6, SALT) == 6); }
static void run_sealed_cas(void) { NEED(lib.hf_sealed_cas(at(LONE_WORD), 5, 6, SALT) == 5); }
static void run_add(void) { NEED(lib.hf_add64(at(LONE_WORD), 3) == 5); }
static void run_float_add(void) { NEED(lib.hf_float_add(at(LONE_WORD), 1.5) == 0); }

/*
 * The states in the order in which a death may leave them. Of a queue: the leased records with `*attempts`, `!` where the holder is a dead
 * one and not nobody, then the others, then the spare segments.
 */
enum { MAX_STATES = 5 };
static const struct operation {
  const char *name;
  void (*setup)(void);
  void (*run)(void);
  void (*describe)(void);
  const char *states[MAX_STATES];
} operations[] = {
  {"push", two_records, run_push, describe_queue, {"1 2 spare 2 3", "1 2 3 spare 2 3"}},
  {"pushMany of 3", two_records, run_push_many, describe_queue, {"1 2 spare 2 3", "1 2 3 4 5 spare 2 3"}},
  {"push over a segment's end", eight_records, run_push_roll, describe_queue,
   {"1 2 3 4 5 6 7 8 spare 2 3", "1 2 3 4 5 6 7 8 spare 3", "1 2 3 4 5 6 7 8 9 spare 3"}},
  {"pushMany of 3 over a segment's end", seven_records, run_push_many_roll, describe_queue,
   {"1 2 3 4 5 6 7 spare 2 3", "1 2 3 4 5 6 7 spare 3", "1 2 3 4 5 6 7 9 10 11 spare 3"}},
  {"push that wakes who waits", awaited, run_push, describe_queue, {"1 2 spare 2 3", "1 2 3 spare 2 3"}},
  {"push, step by step", two_records, run_push_by_steps, describe_queue, {"1 2 spare 2 3", "1 2 3 spare 2 3"}},
  {"push with a mark", marked, run_push_marked, describe_mark, {"mark 2: 1 2 spare 2 3", "mark 3: 1 2 3 spare 2 3"}},
  {"popMany of 2", eight_records, run_pop_many, describe_queue, {"1 2 3 4 5 6 7 8 spare 2 3", "3 4 5 6 7 8 spare 2 3"}},
  {"pop", two_records, run_pop, describe_queue, {"1 2 spare 2 3", "2 spare 2 3"}},
  {"pop, step by step", two_records, run_pop_by_steps, describe_queue, {"1 2 spare 2 3", "2 spare 2 3"}},
  {"pop, the last one of a segment", near_the_end, run_pop, describe_queue, {"8 9 10 spare 3", "9 10 spare 3"}},
  {"pop over a segment's end", at_the_end, run_pop, describe_queue, {"9 10 spare 3", "10 spare 3", "10 spare 1 3"}},
  {"lease", two_records, run_lease, describe_queue, {"1 2 spare 2 3", "1!*1 2 spare 2 3"}},
  {"ack", leased, run_ack, describe_queue, {"1!*1 2 spare 2 3", "2 spare 2 3"}},
  {"release", leased, run_release, describe_queue, {"1!*1 2 spare 2 3", "1*1 2 spare 2 3"}},
  {"lease given again", given_back, run_transfer, describe_queue, {"1*1 2 spare 2 3", "1*2 2 spare 2 3", "1!*2 2 spare 2 3"}},
  {"lease of a dead holder given again", leased_by_the_dead, run_transfer, describe_queue,
   {"1!*1 2 spare 2 3", "1*1 2 spare 2 3", "1*2 2 spare 2 3", "1!*2 2 spare 2 3"}},
  {"takeover of a dead one's lock, push", held_by_the_dead, run_push, describe_queue, {"1 2 spare 2 3", "1 2 3 spare 2 3"}},
  {"takeover after half an ack: counts repaired", half_acknowledged, run_repair, describe_queue, {"2 spare 2 3"}},
  {"takeover after half a lease: entry freed", half_leased, run_repair, describe_queue, {"1!*1 2 spare 2 3"}},
  {"unlock with sleepers", with_sleepers, run_unlock, describe_queue, {"1 2 spare 2 3"}},
  {"a slot taken again", old_slot, run_take_slot, describe_slot, {"generation 1", "generation 2"}},
  {"sealed word, store", sealed_five, run_sealed_store, describe_sealed, {"5", "6"}},
  {"sealed word, compare-exchange", sealed_five, run_sealed_cas, describe_sealed, {"5", "6"}},
  {"counter, add", five, run_add, describe_word, {"5", "8"}},
  {"metric, add", zeros, run_float_add, describe_float, {"0", "1.5"}},
};

/* ---- the child, and its death --------------------------------------------------------------------------------------------- */

enum { FORBIDDEN = 77, MAX_STEPS = 1 << 20 };

static struct {
  volatile int started, done;
} *progress;

/*
 * What the first child of an operation did, a single step at a time: where it was after n steps, and what the file was then. The others are
 * brought to the same place by a hardware breakpoint, which is a hundred times faster, and the file must be the same there.
 */
static struct {
  long first, steps; /* the first step of the operation, and all of them */
  uint64_t place[MAX_STEPS + 1], file[MAX_STEPS + 1];
} trace;

static unsigned char file_before[FILE_BYTES];
static __typeof__(own) own_before;

static void start_over(void) {
  memcpy(file, file_before, FILE_BYTES);
  own = own_before;
}

static _Noreturn void be_the_victim(const struct operation *operation, const char *path) {
  self = VICTIM;
  /* A parent that finds something ends at once: who is stopped then would stay so, and hold the pipe that its words are read from. */
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) _exit(2);
  fd = open(path, O_RDWR | O_CLOEXEC); /* a description of its own, so that the kernel drops its lock with it */
  if (fd < 0 || lib.hf_lock_range(fd, 1, 1, HF_LOCK_EXCLUSIVE) != 0) _exit(2);
  if (operation->describe == describe_queue || operation->describe == describe_mark) describe_sides();
  if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) _exit(FORBIDDEN);
  (void)raise(SIGSTOP);
  progress->started = 1;
  operation->run();
  progress->done = 1;
  for (;;) (void)raise(SIGSTOP);
}

/* The signal that stopped the child. */
static int wait_stopped(pid_t child) {
  int status;
  NEED(waitpid(child, &status, 0) == child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == FORBIDDEN) {
    (void)printf("skip ptrace(2) is not permitted here\n");
    exit(FORBIDDEN);
  }
  NEED(WIFSTOPPED(status)); /* an exit is a violation that the child has found, and said */
  return WSTOPSIG(status);
}

static pid_t start_victim(const struct operation *operation, const char *path) {
  progress->started = progress->done = 0;
  (void)fflush(stdout);
  pid_t child = fork();
  NEED(child >= 0);
  if (child == 0) be_the_victim(operation, path);
  NEED(wait_stopped(child) == SIGSTOP);
  return child;
}

static void kill_victim(pid_t child) {
  NEED(kill(child, SIGKILL) == 0);
  int status;
  NEED(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
}

static uint64_t place_of(pid_t child) {
  errno = 0;
  long place = ptrace(PTRACE_PEEKUSER, child, offsetof(struct user, regs.rip), NULL);
  NEED(errno == 0);
  return (uint64_t)place;
}

/* FNV-1a over words. */
static uint64_t fingerprint(void) {
  uint64_t sum = UINT64_C(0xcbf29ce484222325);
  for (size_t i = 0; i < FILE_BYTES; i += 8) {
    uint64_t word;
    memcpy(&word, file + i, sizeof word);
    sum = (sum ^ word) * UINT64_C(0x100000001b3);
  }
  return sum;
}

static void trace_victim(const struct operation *operation, const char *path) {
  pid_t child = start_victim(operation, path);
  trace.first = -1;
  for (trace.steps = 0; !progress->done; trace.steps++) {
    NEED(trace.steps < MAX_STEPS);
    if (trace.first < 0 && progress->started) trace.first = trace.steps;
    trace.place[trace.steps] = place_of(child);
    trace.file[trace.steps] = fingerprint();
    /* A repeated string instruction is many steps, but one to a breakpoint: none is in use. */
    NEED(trace.steps == 0 || trace.place[trace.steps] != trace.place[trace.steps - 1]);
    NEED(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) == 0);
    NEED(wait_stopped(child) == SIGTRAP);
  }
  trace.place[trace.steps] = place_of(child);
  trace.file[trace.steps] = fingerprint();
  kill_victim(child);
}

/* A child that has done `count` steps and is stopped there. */
static pid_t victim_after(const struct operation *operation, const char *path, long count) {
  start_over();
  pid_t child = start_victim(operation, path);
  long visits = 0;
  for (long i = 1; i <= count; i++) visits += trace.place[i] == trace.place[count];
  NEED(ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg[0]), trace.place[count]) == 0);
  NEED(ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg[7]), 1) == 0); /* execution, this task */
  for (; visits > 0; visits--) {
    NEED(ptrace(PTRACE_CONT, child, NULL, NULL) == 0);
    NEED(wait_stopped(child) == SIGTRAP);
  }
  NEED(place_of(child) == trace.place[count] && fingerprint() == trace.file[count]);
  return child;
}

/* The child is stopped, not dead: whoever reads without the lock sees whole cells, and its lock is a living one's. */
static void look_at_the_living(void) {
  const struct side *sides[] = {&PRODUCER, &CONSUMER};
  for (int i = 0; i < 2; i++) {
    forget(sides[i]);
    NEED(lib.hf_cell_read(at(sides[i]->cells), sides[i]->count, SALT, address_of(sides[i]->values)) == 0);
    forget(sides[i]);
    double holder = lib.hf_load64(at(sides[i]->lock), 0);
    NEED(holder == 0 || (holder == VICTIM && alive(VICTIM)) || (holder == GONE && !alive(GONE)));
  }
}

static long run(const struct operation *operation, const char *path, long stride) {
  operation_name = operation->name;
  operation->setup();
  memcpy(file_before, file, FILE_BYTES);
  own_before = own;
  step_now = 0;
  trace_victim(operation, path);
  long deaths[MAX_STATES] = {0}, total = 0, held = 0, states = 0, state = 0;
  while (states < MAX_STATES && operation->states[states] != NULL) states++;
  for (long count = trace.first; count <= trace.steps; count = count < trace.steps && count + stride > trace.steps ? trace.steps : count + stride) {
    step_now = count - trace.first;
    pid_t child = victim_after(operation, path, count);
    if (operation->describe == describe_queue || operation->describe == describe_mark) look_at_the_living();
    kill_victim(child);
    held += lib.hf_load64(at(PRODUCER_LOCK), 0) == VICTIM || lib.hf_load64(at(CONSUMER_LOCK), 0) == VICTIM;
    found[0] = '\0';
    operation->describe();
    while (state < states && strcmp(operation->states[state], found) != 0) state++;
    if (state == states) {
      (void)fprintf(stderr, "step.c: %s, killed after %ld instructions: the survivor finds \"%s\", which is none of the states that may follow\n",
                    operation->name, step_now, found);
      exit(1);
    }
    deaths[state]++;
    total++;
  }
  NEED(state == states - 1); /* the whole operation leaves the last one */
  (void)printf("%-46s %6ld %7ld %7ld  ", operation->name, trace.steps - trace.first, total, held);
  for (long i = 0; i < states; i++) (void)printf(" %ld", deaths[i]);
  (void)printf("\n");
  return total;
}

int main(int count, char **arguments) {
  NEED(count >= 3);
  void *library = dlopen(arguments[1], RTLD_NOW);
  if (library == NULL) (void)fprintf(stderr, "%s\n", dlerror());
  NEED(library != NULL);
  FUNCTIONS(RESOLVE)
  fd = open(arguments[2], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  NEED(fd >= 0 && ftruncate(fd, FILE_BYTES) == 0);
  file = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  NEED(file != MAP_FAILED);
  progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  NEED(progress != MAP_FAILED);
  NEED(lib.hf_lock_range(fd, 0, 1, HF_LOCK_EXCLUSIVE) == 0);
  long stride = count > 3 ? strtol(arguments[3], NULL, 10) : 1;
  NEED(stride > 0);
  (void)printf("%-46s %6s %7s %7s   %s\n", "operation", "steps", "deaths", "locked", "left in each state, from old to new");
  long total = 0;
  for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
    if (count <= 4 || strcmp(arguments[4], operations[i].name) == 0) total += run(&operations[i], arguments[2], stride);
  }
  NEED(total > 0);
  (void)printf("%ld deaths, nothing lost, nothing torn, no lock stuck\n", total);
  return 0;
}
