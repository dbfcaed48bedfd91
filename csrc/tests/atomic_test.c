/* atomic_test.c - the 64-bit cells: results, refusals, wrap-around, and exact sums under contention of processes. */
#include "test.h"

#define MAX_SAFE 9007199254740991.0
#define MIN64 UINT64_C(0x8000000000000000)
#define MAX64 UINT64_C(0x7fffffffffffffff)

static _Alignas(64) uint64_t cell;
static _Alignas(64) uint64_t words[2];

#define CELL address_of(&cell)
#define WORDS address_of(words)

static const struct {
  const char *name;
  double (*number)(double, double);
  double (*exact)(double, double);
} operations[] = {
    {"add", hf_add64, hf_add64_exact}, {"sub", hf_sub64, hf_sub64_exact},
    {"and", hf_and64, hf_and64_exact}, {"or", hf_or64, hf_or64_exact},
    {"xor", hf_xor64, hf_xor64_exact}, {"exchange", hf_exchange64, hf_exchange64_exact},
};

enum { OPERATIONS = sizeof operations / sizeof operations[0] };

static uint64_t model(int operation, uint64_t a, uint64_t b) {
  switch (operation) {
    case 0: return a + b;
    case 1: return a - b;
    case 2: return a & b;
    case 3: return a | b;
    case 4: return a ^ b;
    default: return b;
  }
}

static void set(int64_t value) { cell = (uint64_t)value; }

static void number_results(void) {
  static const double values[] = {0, 1, -1, 2, 255, -256, 4294967296.0, -4294967297.0, 123456789012345.0, MAX_SAFE, -MAX_SAFE};
  enum { VALUES = sizeof values / sizeof values[0] };
  for (int operation = 0; operation < OPERATIONS; operation++) {
    for (int i = 0; i < VALUES; i++) {
      for (int j = 0; j < VALUES; j++) {
        set((int64_t)values[i]);
        bool right = CHECK_NUMBER(operations[operation].number(CELL, values[j]), values[i]);
        right &= CHECK_WORD(cell, model(operation, (uint64_t)(int64_t)values[i], (uint64_t)(int64_t)values[j]));
        if (!right) printf("  %s of %.17g and %.17g\n", operations[operation].name, values[i], values[j]);
      }
    }
  }
}

static void load_and_store(void) {
  static const double values[] = {0, 1, -1, MAX_SAFE, -MAX_SAFE, 4503599627370496.0};
  for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
    CHECK_NUMBER(hf_store64(CELL, values[i]), values[i]);
    CHECK_WORD(cell, (uint64_t)(int64_t)values[i]);
    CHECK_NUMBER(hf_load64(CELL, 0), values[i]);
    cell = 77;
    CHECK_NUMBER(hf_store64_release(CELL, values[i]), values[i]);
    CHECK_NUMBER(hf_load64(CELL, 0), values[i]);
  }
  /* -0.0 is the integer 0. */
  CHECK_NUMBER(hf_store64(CELL, -0.0), 0);
  CHECK_WORD(cell, 0);
  /* The second argument means nothing. */
  set(5);
  CHECK_NUMBER(hf_load64(CELL, (double)NAN), 5);
}

static void compare_exchange(void) {
  set(5);
  CHECK_NUMBER(hf_cas64(CELL, 5, 6), 5);
  CHECK_WORD(cell, 6);
  CHECK_NUMBER(hf_cas64(CELL, 5, 7), 6);
  CHECK_WORD(cell, 6);
  CHECK_NUMBER(hf_cas64(CELL, 6, -MAX_SAFE), 6);
  CHECK_NUMBER(hf_cas64(CELL, -MAX_SAFE, MAX_SAFE), -MAX_SAFE);
  CHECK_NUMBER(hf_cas64(CELL, MAX_SAFE, MAX_SAFE), MAX_SAFE);
  CHECK_NUMBER(hf_load64(CELL, 0), MAX_SAFE);

  cell = UINT64_C(1) << 60;
  words[0] = cell, words[1] = MIN64;
  CHECK_NUMBER(hf_cas64_exact(CELL, WORDS), 0);
  CHECK_WORD(words[0], UINT64_C(1) << 60);
  CHECK_WORD(cell, MIN64);
  words[0] = 1, words[1] = 2;
  CHECK_NUMBER(hf_cas64_exact(CELL, WORDS), 0);
  CHECK_WORD(words[0], MIN64);
  CHECK_WORD(words[1], 2);
  CHECK_WORD(cell, MIN64);
}

/* A value that no number holds: the call says so and leaves it. */
static void unsafe_values_stay(void) {
  static const uint64_t unsafe[] = {
      UINT64_C(1) << 53, (UINT64_C(1) << 53) + 1, MAX64, MIN64, MIN64 + 1, (uint64_t)-INT64_C(9007199254740992), UINT64_C(1) << 62,
  };
  for (size_t i = 0; i < sizeof unsafe / sizeof unsafe[0]; i++) {
    cell = unsafe[i];
    CHECK_NUMBER(hf_load64(CELL, 0), HF_E_UNSAFE);
    for (int operation = 0; operation < OPERATIONS; operation++) {
      CHECK_NUMBER(operations[operation].number(CELL, 1), HF_E_UNSAFE);
      CHECK_WORD(cell, unsafe[i]);
    }
    CHECK_NUMBER(hf_cas64(CELL, 0, 1), HF_E_UNSAFE);
    CHECK_WORD(cell, unsafe[i]);
    /* A store needs no old value. */
    CHECK_NUMBER(hf_store64(CELL, 1), 1);
    CHECK_WORD(cell, 1);
  }
  /* The result may lie outside, the old value is still told. */
  set(9007199254740991);
  CHECK_NUMBER(hf_add64(CELL, 1), MAX_SAFE);
  CHECK_WORD(cell, UINT64_C(1) << 53);
  CHECK_NUMBER(hf_add64(CELL, 1), HF_E_UNSAFE);
  CHECK_WORD(cell, UINT64_C(1) << 53);
  set(-9007199254740991);
  CHECK_NUMBER(hf_sub64(CELL, 1), -MAX_SAFE);
  CHECK_NUMBER(hf_sub64(CELL, 1), HF_E_UNSAFE);
  CHECK_WORD(cell, (uint64_t)-INT64_C(9007199254740992));
}

static void exact_results(void) {
  static const uint64_t values[] = {0, 1, UINT64_MAX, MIN64, MAX64, UINT64_C(1) << 53, (UINT64_C(1) << 53) + 1,
                                    UINT64_C(0x0123456789abcdef), UINT64_C(0xfedcba9876543210)};
  enum { VALUES = sizeof values / sizeof values[0] };
  for (int i = 0; i < VALUES; i++) {
    for (int j = 0; j < VALUES; j++) {
      for (int operation = 0; operation < OPERATIONS; operation++) {
        cell = values[i];
        words[0] = values[j];
        words[1] = 42;
        CHECK_NUMBER(operations[operation].exact(CELL, WORDS), 0);
        CHECK_WORD(words[0], values[i]);
        CHECK_WORD(words[1], 42);
        CHECK_WORD(cell, model(operation, values[i], values[j]));
      }
      cell = values[i];
      words[0] = values[j];
      CHECK_NUMBER(hf_store64_exact(CELL, WORDS), 0);
      CHECK_WORD(cell, values[j]);
      CHECK_NUMBER(hf_load64_exact(CELL, WORDS), 0);
      CHECK_WORD(words[0], values[j]);
    }
  }
}

static void wraps_at_both_ends(void) {
  cell = MAX64, words[0] = 1;
  CHECK_NUMBER(hf_add64_exact(CELL, WORDS), 0);
  CHECK_WORD(words[0], MAX64);
  CHECK_WORD(cell, MIN64);
  words[0] = 1;
  CHECK_NUMBER(hf_sub64_exact(CELL, WORDS), 0);
  CHECK_WORD(words[0], MIN64);
  CHECK_WORD(cell, MAX64);
  words[0] = MIN64;
  CHECK_NUMBER(hf_add64_exact(CELL, WORDS), 0);
  CHECK_WORD(cell, UINT64_MAX);
  words[0] = (uint64_t)-INT64_C(1);
  CHECK_NUMBER(hf_sub64_exact(CELL, WORDS), 0);
  CHECK_WORD(cell, 0);
}

static void refuses_addresses(void) {
  double good = CELL;
  set(123);
  for (int operation = 0; operation < OPERATIONS; operation++) {
    CHECK_REFUSES_ADDRESS(good, 8, operations[operation].number(BAD, 1));
    words[0] = 9;
    CHECK_REFUSES_ADDRESS(good, 8, operations[operation].exact(BAD, WORDS));
    CHECK_REFUSES_ADDRESS(WORDS, 8, operations[operation].exact(CELL, BAD));
    CHECK_WORD(words[0], 9);
  }
  CHECK_REFUSES_ADDRESS(good, 8, hf_load64(BAD, 0));
  CHECK_REFUSES_ADDRESS(good, 8, hf_store64(BAD, 1));
  CHECK_REFUSES_ADDRESS(good, 8, hf_store64_release(BAD, 1));
  CHECK_REFUSES_ADDRESS(good, 8, hf_cas64(BAD, 123, 1));
  CHECK_REFUSES_ADDRESS(good, 8, hf_load64_exact(BAD, WORDS));
  CHECK_REFUSES_ADDRESS(good, 8, hf_load64_exact(CELL, BAD));
  CHECK_REFUSES_ADDRESS(good, 8, hf_store64_exact(BAD, WORDS));
  CHECK_REFUSES_ADDRESS(good, 8, hf_store64_exact(CELL, BAD));
  CHECK_REFUSES_ADDRESS(good, 8, hf_cas64_exact(BAD, WORDS));
  CHECK_REFUSES_ADDRESS(good, 8, hf_cas64_exact(CELL, BAD));
  CHECK_WORD(cell, 123);
}

static void refuses_operands(void) {
  set(123);
  for (int i = 0; i < TEST_BAD_NUMBERS; i++) {
    const double bad = test_bad_number(i);
    for (int operation = 0; operation < OPERATIONS; operation++) CHECK_NUMBER(operations[operation].number(CELL, bad), HF_E_INVAL);
    CHECK_NUMBER(hf_store64(CELL, bad), HF_E_INVAL);
    CHECK_NUMBER(hf_store64_release(CELL, bad), HF_E_INVAL);
    CHECK_NUMBER(hf_cas64(CELL, bad, 1), HF_E_INVAL);
    CHECK_NUMBER(hf_cas64(CELL, 123, bad), HF_E_INVAL);
    CHECK_WORD(cell, 123);
  }
}

/* ---- contention: two mappings of one page in four processes ---------------------------------------------------------- */

enum { PROCESSES = 4, ROUNDS = 400000 };

struct contended {
  _Alignas(64) uint64_t start;
  _Alignas(64) uint64_t cells[8][8]; /* cells[i][0], each on its own line */
  _Alignas(64) uint64_t sums[PROCESSES];
};

static double shared_cell(struct contended *shared, int i) { return address_of(&shared->cells[i][0]); }

static void contend(struct contended *shared, int self) {
  uint64_t own[2];
  uint64_t taken = 0;
  while (hf_load64(address_of(&shared->start), 0) == 0) {
  }
  for (int i = 0; i < ROUNDS; i++) {
    (void)hf_add64(shared_cell(shared, 0), 3);
    (void)hf_sub64(shared_cell(shared, 1), 5);
    own[0] = UINT64_C(1) << 40;
    (void)hf_add64_exact(shared_cell(shared, 2), address_of(own));
    own[0] = UINT64_C(1) << 41;
    (void)hf_sub64_exact(shared_cell(shared, 3), address_of(own));
    (void)hf_xor64(shared_cell(shared, 4), (double)(1 << self)); /* an even number of times */
    double seen = hf_load64(shared_cell(shared, 5), 0);
    for (;;) {
      double found = hf_cas64(shared_cell(shared, 5), seen, seen + 1);
      if (found == seen) break;
      seen = found;
    }
    /* What is put in by exchange is taken out by exactly one. */
    taken += (uint64_t)hf_exchange64(shared_cell(shared, 6), (double)(i + 1));
    if (i % 2 == 0) (void)hf_or64(shared_cell(shared, 7), (double)(1 << self));
    else (void)hf_and64(shared_cell(shared, 7), (double)~(1 << self));
  }
  shared->sums[self] = taken;
  (void)hf_or64(shared_cell(shared, 7), (double)(1 << self));
}

static void contended_sums_are_exact(void) {
  struct contended *shared = test_shared(sizeof *shared);
  pid_t children[PROCESSES];
  for (int i = 0; i < PROCESSES; i++) {
    children[i] = test_fork();
    if (children[i] == 0) {
      contend(shared, i);
      test_child_end();
    }
  }
  CHECK_NUMBER(hf_store64(address_of(&shared->start), 1), 1);
  for (int i = 0; i < PROCESSES; i++) CHECK_WORD(test_reap(children[i]), 0);
  const uint64_t total = (uint64_t)PROCESSES * ROUNDS;
  CHECK_WORD(shared->cells[0][0], total * 3);
  CHECK_WORD(shared->cells[1][0], 0 - total * 5);
  CHECK_WORD(shared->cells[2][0], total << 40);
  CHECK_WORD(shared->cells[3][0], 0 - (total << 41));
  CHECK_WORD(shared->cells[4][0], 0);
  CHECK_WORD(shared->cells[5][0], total);
  uint64_t exchanged = shared->cells[6][0];
  for (int i = 0; i < PROCESSES; i++) exchanged += shared->sums[i];
  CHECK_WORD(exchanged, (uint64_t)PROCESSES * ((uint64_t)ROUNDS * (ROUNDS + 1) / 2));
  CHECK_WORD(shared->cells[7][0], (1u << PROCESSES) - 1);
  NEED(munmap(shared, sizeof *shared) == 0);
}

/* A store is whole, and what was written before a release store is there for who sees it. */
static void stores_are_whole_and_ordered(void) {
  enum { COUNT = 300000 };
  struct contended *shared = test_shared(sizeof *shared);
  pid_t writer = test_fork();
  if (writer == 0) {
    uint64_t own[2];
    for (int i = 1; i <= COUNT; i++) {
      own[0] = i % 2 == 0 ? 0 : UINT64_MAX;
      (void)hf_store64_exact(shared_cell(shared, 0), address_of(own));
      shared->cells[1][0] = (uint64_t)i;
      (void)hf_store64_release(shared_cell(shared, 2), i);
    }
    test_child_end();
  }
  uint64_t own[2] = {0, 0};
  double published;
  do {
    published = hf_load64(shared_cell(shared, 2), 0);
    uint64_t data = __atomic_load_n(&shared->cells[1][0], __ATOMIC_RELAXED);
    CHECK(data >= (uint64_t)published);
    CHECK_NUMBER(hf_load64_exact(shared_cell(shared, 0), address_of(own)), 0);
    CHECK(own[0] == 0 || own[0] == UINT64_MAX);
  } while (published < (double)COUNT && test_checks_failed < 100);
  CHECK_WORD(test_reap(writer), 0);
  NEED(munmap(shared, sizeof *shared) == 0);
}

/* ---- doubles ----------------------------------------------------------------------------------------------------------- */

static uint64_t bits_of(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static double number_of(uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* Compared bit by bit, so that NaN and the sign of zero count. */
static void floats_are_kept_as_they_are(void) {
  static const uint64_t patterns[] = {
      UINT64_C(0),                  /* 0 */
      UINT64_C(0x8000000000000000), /* -0 */
      UINT64_C(0x3ff8000000000000), /* 1.5 */
      UINT64_C(1),                  /* the smallest one */
      UINT64_C(0x000fffffffffffff), /* the largest subnormal one */
      UINT64_C(0x7fefffffffffffff), /* the largest one */
      UINT64_C(0x7ff0000000000000), /* infinity */
      UINT64_C(0xfff0000000000000), /* -infinity */
      UINT64_C(0x7ff8000000000000), /* NaN */
      UINT64_C(0x4340000000000000), /* 2^53 */
  };
  for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
    const double value = number_of(patterns[i]);
    cell = 77;
    CHECK_WORD(bits_of(hf_float_store(CELL, value)), patterns[i]);
    CHECK_WORD(cell, patterns[i]);
    CHECK_WORD(bits_of(hf_float_load(CELL, (double)NAN)), patterns[i]);
    CHECK_WORD(bits_of(hf_float_add(CELL, 0.25)), patterns[i]);
    CHECK_WORD(cell, bits_of(value + 0.25));
  }
  /* Any double is a value: also the codes. */
  CHECK_NUMBER(hf_float_store(CELL, HF_E_FAULT), HF_E_FAULT);
  CHECK_NUMBER(hf_float_load(CELL, 0), HF_E_FAULT);
}

static void float_sums(void) {
  (void)hf_float_store(CELL, 1e16);
  CHECK_NUMBER(hf_float_add(CELL, 1), 1e16); /* rounded to even, as the CPU does */
  CHECK_NUMBER(hf_float_load(CELL, 0), 1e16);
  (void)hf_float_store(CELL, 0.1);
  CHECK_NUMBER(hf_float_add(CELL, 0.2), 0.1);
  CHECK_WORD(cell, bits_of(0.1 + 0.2));
  (void)hf_float_store(CELL, (double)INFINITY);
  CHECK_NUMBER(hf_float_add(CELL, -(double)INFINITY), (double)INFINITY);
  CHECK(isnan(hf_float_load(CELL, 0)));
  CHECK(isnan(hf_float_add(CELL, 1)));
}

static void floats_refuse_addresses(void) {
  set(123);
  CHECK_REFUSES_ADDRESS(CELL, 8, hf_float_load(BAD, 0));
  CHECK_REFUSES_ADDRESS(CELL, 8, hf_float_store(BAD, 1));
  CHECK_REFUSES_ADDRESS(CELL, 8, hf_float_add(BAD, 1));
  CHECK_WORD(cell, 123);
}

/* Quarters add up without rounding, so the sum is exact if no addition is lost. */
static void contended_float_sums_are_exact(void) {
  struct contended *shared = test_shared(sizeof *shared);
  pid_t children[PROCESSES];
  for (int i = 0; i < PROCESSES; i++) {
    children[i] = test_fork();
    if (children[i] == 0) {
      double before = -1;
      while (hf_load64(address_of(&shared->start), 0) == 0) {
      }
      for (int round = 0; round < ROUNDS; round++) {
        double old = hf_float_add(shared_cell(shared, 0), 0.25);
        CHECK(old > before); /* the sum only grows */
        before = old;
        (void)hf_float_add(shared_cell(shared, 1), round % 2 == 0 ? 3.5 : -3.5);
      }
      test_child_end();
    }
  }
  CHECK_NUMBER(hf_store64(address_of(&shared->start), 1), 1);
  for (int i = 0; i < PROCESSES; i++) CHECK_WORD(test_reap(children[i]), 0);
  CHECK_NUMBER(hf_float_load(shared_cell(shared, 0), 0), 0.25 * (double)(PROCESSES * ROUNDS));
  CHECK_NUMBER(hf_float_load(shared_cell(shared, 1), 0), 0);
  NEED(munmap(shared, sizeof *shared) == 0);
}

int main(void) {
  RUN(number_results);
  RUN(load_and_store);
  RUN(compare_exchange);
  RUN(unsafe_values_stay);
  RUN(exact_results);
  RUN(wraps_at_both_ends);
  RUN(refuses_addresses);
  RUN(refuses_operands);
  RUN(contended_sums_are_exact);
  RUN(stores_are_whole_and_ordered);
  RUN(floats_are_kept_as_they_are);
  RUN(float_sums);
  RUN(floats_refuse_addresses);
  RUN(contended_float_sums_are_exact);
  return test_report();
}
