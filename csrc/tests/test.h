/*
 * test.h - what the C tests share: checks that print where and what, and files and processes that are gone afterwards.
 *
 * A program is a main() of RUN(test) lines that ends with `return test_report();`. A failed check prints and the test goes on;
 * a program prints `N passed, M failed` at its end, counted in tests, and exits with 1 if one failed.
 */
#ifndef HF_TEST_H
#define HF_TEST_H

#include "../internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int test_passed, test_failed;
static int test_checks_failed; /* of the test that runs */
static const char *test_name = "";

/* Not more than this many lines for one test: a loop over 100,000 values that fails has said enough by then. */
enum { TEST_MAX_LINES = 10 };

static inline void test_fail(const char *file, int line, const char *text) {
  test_checks_failed++;
  if (test_checks_failed <= TEST_MAX_LINES) printf("%s:%d: %s: %s\n", file, line, test_name, text);
}

static inline const char *test_code_name(double value) {
  static const struct {
    double code;
    const char *name;
  } names[] = {{HF_E_INVAL, " (HF_E_INVAL)"},   {HF_E_UNSAFE, " (HF_E_UNSAFE)"}, {HF_E_CORRUPT, " (HF_E_CORRUPT)"},
               {HF_E_BUSY, " (HF_E_BUSY)"},     {HF_E_OWNER, " (HF_E_OWNER)"},   {HF_E_FAULT, " (HF_E_FAULT)"},
               {HF_E_UNSUPPORTED, " (HF_E_UNSUPPORTED)"}};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    if (names[i].code == value) return names[i].name;
  }
  return "";
}

static inline bool test_number(const char *file, int line, const char *expression, double actual, double expected) {
  if (actual == expected) return true;
  char text[512];
  (void)snprintf(text, sizeof text, "%s is %.17g%s, expected %.17g%s", expression, actual, test_code_name(actual), expected,
                 test_code_name(expected));
  test_fail(file, line, text);
  return false;
}

static inline bool test_word(const char *file, int line, const char *expression, uint64_t actual, uint64_t expected) {
  if (actual == expected) return true;
  char text[512];
  (void)snprintf(text, sizeof text, "%s is 0x%" PRIx64 ", expected 0x%" PRIx64, expression, actual, expected);
  test_fail(file, line, text);
  return false;
}

static inline bool test_true(const char *file, int line, const char *expression, bool holds) {
  if (!holds) test_fail(file, line, expression);
  return holds;
}

/* A double that a function returned; a 64-bit word, compared bit by bit; anything else. Each is true if it holds. */
#define CHECK_NUMBER(actual, expected) test_number(__FILE__, __LINE__, #actual, (actual), (expected))
#define CHECK_WORD(actual, expected) test_word(__FILE__, __LINE__, #actual, (uint64_t)(actual), (uint64_t)(expected))
#define CHECK(condition) test_true(__FILE__, __LINE__, #condition, (condition))

/* For what the test itself needs: there is no going on without it. */
#define NEED(condition)                                                                         \
  do {                                                                                          \
    if (!(condition)) {                                                                         \
      printf("%s:%d: %s: %s: %s\n", __FILE__, __LINE__, test_name, #condition, strerror(errno)); \
      fflush(stdout);                                                                           \
      exit(1);                                                                                  \
    }                                                                                           \
  } while (0)

#define RUN(test)                             \
  do {                                        \
    test_name = #test;                        \
    test_checks_failed = 0;                   \
    test();                                   \
    if (test_checks_failed == 0) test_passed++; \
    else test_failed++;                       \
    fflush(stdout);                           \
  } while (0)

/* For what needs a call or an answer that emulators of a CPU (qemu-user) do not pass on from the kernel: `missing` says which. */
#define RUN_ON_KERNEL(test, missing)                                              \
  do {                                                                            \
    const char *emulator = getenv("HF_TEST_EMULATOR");                            \
    if (emulator == NULL) RUN(test);                                              \
    else printf("# skip [%s] %s has no %s\n", #test, emulator, missing);          \
  } while (0)

static inline int test_report(void) {
  printf("%d passed, %d failed\n", test_passed, test_failed);
  return test_failed == 0 ? 0 : 1;
}

/* ---- numbers that no argument accepts --------------------------------------------------------------------------------- */

enum { TEST_BAD_NUMBERS = 10 };

/* NaN, infinities, fractions and what lies beyond +-(2^53 - 1): refused as an operand, an address, an offset, a count. */
static inline double test_bad_number(int i) {
  const double numbers[TEST_BAD_NUMBERS] = {
      (double)NAN, (double)INFINITY, -(double)INFINITY, 0.5,   -0.5,
      4.5,         9007199254740992.0, -9007199254740992.0, 1e300, 18446744073709551616.0,
  };
  return numbers[i];
}

/* Every bad number, and a negative one, as the argument `BAD` of `call`. */
#define CHECK_REFUSES(call)                                                        \
  do {                                                                             \
    for (int bad_index = -2; bad_index < TEST_BAD_NUMBERS; bad_index++) {          \
      const double BAD = bad_index < 0 ? bad_index * 8.0 : test_bad_number(bad_index); \
      CHECK_NUMBER(call, HF_E_INVAL);                                              \
    }                                                                              \
  } while (0)

/* The same, and null and a misaligned address (`good` is an aligned one) as the argument `BAD` of `call`. */
#define CHECK_REFUSES_ADDRESS(good, alignment, call)                               \
  do {                                                                             \
    CHECK_REFUSES(call);                                                           \
    for (int step = 0; step < (alignment); step++) {                               \
      const double BAD = step == 0 ? 0.0 : (good) + step;                          \
      CHECK_NUMBER(call, HF_E_INVAL);                                              \
    }                                                                              \
  } while (0)

/* ---- memory, files, processes ----------------------------------------------------------------------------------------- */

static inline double address_of(const volatile void *pointer) { return (double)(uintptr_t)pointer; }

static inline void *pointer_at(double address) { return (void *)(uintptr_t)(uint64_t)address; }

/* Zeroed memory that forked children share. */
static inline void *test_shared(size_t bytes) {
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  NEED(memory != MAP_FAILED);
  return memory;
}

/* Opens a new file of `bytes` zeros without a name; with `second`, also another open file description of it. */
static inline int test_file_pair(off_t bytes, int *second, int second_flags) {
  const char *folder = getenv("TMPDIR");
  char path[4096];
  (void)snprintf(path, sizeof path, "%s/hf-test-XXXXXX", folder != NULL && *folder != '\0' ? folder : "/tmp");
  int fd = mkstemp(path);
  NEED(fd >= 0);
  if (second != NULL) *second = open(path, second_flags);
  NEED(unlink(path) == 0);
  NEED(second == NULL || *second >= 0);
  NEED(ftruncate(fd, bytes) == 0);
  return fd;
}

static inline int test_file(off_t bytes) { return test_file_pair(bytes, NULL, 0); }

static inline size_t page_bytes(void) { return (size_t)sysconf(_SC_PAGESIZE); }

/* A shared, writable mapping of `bytes` of `fd`. */
static inline unsigned char *test_map(int fd, size_t bytes) {
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  NEED(memory != MAP_FAILED);
  return memory;
}

static inline pid_t test_fork(void) {
  fflush(stdout);
  pid_t child = fork();
  NEED(child >= 0);
  return child;
}

/* In a forked child: ends it, with 0 if no check of it failed. */
static inline _Noreturn void test_child_end(void) {
  fflush(stdout);
  _exit(test_checks_failed == 0 ? 0 : 1);
}

/* Waits for a child: its exit code, or 1000 + the signal that ended it. */
static inline int test_reap(pid_t child) {
  int status;
  pid_t reaped;
  do {
    reaped = waitpid(child, &status, 0);
  } while (reaped < 0 && errno == EINTR);
  NEED(reaped == child);
  return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static inline void test_sleep_us(long us) {
  struct timespec time = {us / 1000000, us % 1000000 * 1000};
  (void)nanosleep(&time, NULL);
}

/* xorshift64* (Vigna 2016): random enough for moments and lengths. */
static inline uint64_t test_random(uint64_t *state) {
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return *state * UINT64_C(0x2545f4914f6cdd1d);
}

#endif
