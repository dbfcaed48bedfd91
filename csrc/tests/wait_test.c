/* wait_test.c - sleeping on a word and waking, between processes. No test here depends on how long anything takes. */
#include "test.h"

#include <sys/time.h>

struct shared {
  uint32_t word;
  uint32_t woken; /* sleepers that came back with 0 */
  uint32_t words[256];
  double result; /* of hf_wait_any() in a child */
};

static struct shared *shared;

static double word(void) { return address_of(&shared->word); }

/* A child that sleeps on the word while it is 0, again and again, and counts how often it was woken; ends when it is not. */
static pid_t sleeper(void) {
  pid_t child = test_fork();
  if (child == 0) {
    for (;;) {
      double result = hf_wait32(word(), 0, 20000);
      if (result == -EAGAIN) break;
      CHECK_NUMBER(result, 0);
      if (result != 0) break;
      (void)__atomic_fetch_add(&shared->woken, 1, __ATOMIC_SEQ_CST);
    }
    test_child_end();
  }
  return child;
}

/* Until the kernel lists the child as asleep in futex(2). */
static void until_asleep(pid_t child) {
  char path[64], text[64];
  (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)child);
  for (int i = 0;; i++) {
    NEED(i < 20000); /* it never slept */
    FILE *file = fopen(path, "r");
    NEED(file != NULL);
    size_t length = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    text[length] = '\0';
    const char *state = strrchr(text, ')');
    if (state != NULL && state[1] != '\0' && state[2] == 'S') return;
    test_sleep_us(500);
  }
}

static void word_differs(void) {
  shared->word = 5;
  CHECK_NUMBER(hf_wait32(word(), 4, 1000), -EAGAIN);
  CHECK_NUMBER(hf_wait32(word(), 4294967295.0, 4294967295.0), -EAGAIN);
  shared->word = UINT32_MAX;
  CHECK_NUMBER(hf_wait32(word(), 0, 1000), -EAGAIN);
}

static void times_out(void) {
  shared->word = UINT32_MAX;
  CHECK_NUMBER(hf_wait32(word(), 4294967295.0, 0), -ETIMEDOUT);
  CHECK_NUMBER(hf_wait32(word(), 4294967295.0, 1), -ETIMEDOUT);
  CHECK_NUMBER(hf_wait32(word(), 4294967295.0, 30), -ETIMEDOUT);
}

static volatile sig_atomic_t alarms;

static void on_alarm(int number) {
  (void)number;
  alarms++;
}

static void signals_do_not_end_it(void) {
  shared->word = 0;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_alarm; /* without SA_RESTART */
  NEED(sigaction(SIGALRM, &action, NULL) == 0);
  struct itimerval every = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
  NEED(setitimer(ITIMER_REAL, &every, NULL) == 0);
  CHECK_NUMBER(hf_wait32(word(), 0, 100), -ETIMEDOUT);
  NEED(setitimer(ITIMER_REAL, &never, NULL) == 0);
  CHECK(alarms > 0);
}

static void wakes_other_processes(void) {
  enum { SLEEPERS = 3 };
  shared->word = shared->woken = 0;
  CHECK_NUMBER(hf_wake32(word(), 2147483647.0), 0); /* nobody sleeps */
  pid_t children[SLEEPERS];
  for (int i = 0; i < SLEEPERS; i++) children[i] = sleeper();
  for (int i = 0; i < SLEEPERS; i++) until_asleep(children[i]);
  /* One of them, two, then all. */
  CHECK_NUMBER(hf_wake32(word(), 1), 1);
  while (__atomic_load_n(&shared->woken, __ATOMIC_SEQ_CST) < 1) test_sleep_us(100);
  for (int i = 0; i < SLEEPERS; i++) until_asleep(children[i]);
  CHECK_NUMBER(hf_wake32(word(), 2), 2);
  while (__atomic_load_n(&shared->woken, __ATOMIC_SEQ_CST) < 3) test_sleep_us(100);
  for (int i = 0; i < SLEEPERS; i++) until_asleep(children[i]);
  CHECK_WORD(__atomic_load_n(&shared->woken, __ATOMIC_SEQ_CST), 3);
  __atomic_store_n(&shared->word, 1, __ATOMIC_SEQ_CST);
  CHECK_NUMBER(hf_wake32(word(), 2147483647.0), SLEEPERS);
  for (int i = 0; i < SLEEPERS; i++) CHECK_WORD(test_reap(children[i]), 0);
}

static void wakes_none_if_told_so(void) {
  shared->word = shared->woken = 0;
  pid_t child = sleeper();
  until_asleep(child);
  CHECK_NUMBER(hf_wake32(word(), 0), 0);
  test_sleep_us(20000);
  CHECK_WORD(__atomic_load_n(&shared->woken, __ATOMIC_SEQ_CST), 0);
  __atomic_store_n(&shared->word, 1, __ATOMIC_SEQ_CST);
  (void)hf_wake32(word(), 1);
  CHECK_WORD(test_reap(child), 0);
}

/* A wake on one mapping of a file reaches a sleeper on another. */
static void wakes_across_mappings(void) {
  int fd = test_file(4096);
  unsigned char *here = test_map(fd, 4096), *there = test_map(fd, 4096);
  pid_t child = test_fork();
  if (child == 0) {
    double result;
    do {
      result = hf_wait32(address_of(there), 0, 20000);
    } while (result == 0);
    CHECK_NUMBER(result, -EAGAIN);
    test_child_end();
  }
  until_asleep(child);
  __atomic_store_n((uint32_t *)(void *)here, 1, __ATOMIC_SEQ_CST);
  CHECK_NUMBER(hf_wake32(address_of(here), 1), 1);
  CHECK_WORD(test_reap(child), 0);
  NEED(munmap(here, 4096) == 0 && munmap(there, 4096) == 0 && close(fd) == 0);
}

static void refuses(void) {
  shared->word = 1; /* so that nothing sleeps by mistake */
  CHECK_REFUSES_ADDRESS(word(), 4, hf_wait32(BAD, 0, 1));
  CHECK_REFUSES(hf_wait32(word(), BAD, 1));
  CHECK_REFUSES(hf_wait32(word(), 0, BAD));
  CHECK_NUMBER(hf_wait32(word(), 4294967296.0, 1), HF_E_INVAL);
  CHECK_NUMBER(hf_wait32(word(), 0, 4294967296.0), HF_E_INVAL);
  CHECK_REFUSES_ADDRESS(word(), 4, hf_wake32(BAD, 1));
  CHECK_REFUSES(hf_wake32(word(), BAD));
  CHECK_NUMBER(hf_wake32(word(), -1), HF_E_INVAL);
  CHECK_NUMBER(hf_wake32(word(), 2147483648.0), HF_E_INVAL);
}

/* ---- many words ------------------------------------------------------------------------------------------------------ */

static double waits[2 * (HF_WAITS_MAX + 1)];

static double other(int i) { return address_of(&shared->words[i]); }

/* The first `count` words, each expected to be 0. */
static void want_zeros(uint32_t count) {
  memset(shared->words, 0, sizeof shared->words);
  for (uint32_t i = 0; i <= HF_WAITS_MAX; i++) {
    waits[2 * i] = other((int)i);
    waits[2 * i + 1] = i < count ? 0 : 99;
  }
}

static double wait_any(double count, double timeout_ms) { return hf_wait_any(address_of(waits), count, timeout_ms); }

/* A child that sleeps once on the first `count` of `waits` and leaves the result in shared->result. */
static pid_t sleeper_on_many(uint32_t count) {
  pid_t child = test_fork();
  if (child == 0) {
    shared->result = wait_any(count, 20000);
    test_child_end();
  }
  until_asleep(child);
  return child;
}

static void any_differs(void) {
  want_zeros(5);
  CHECK_NUMBER(wait_any(6, 20000), -EAGAIN); /* the sixth is expected to be 99 */
  shared->words[3] = UINT32_MAX;
  CHECK_NUMBER(wait_any(5, 20000), -EAGAIN);
  waits[7] = 4294967295.0;
  CHECK_NUMBER(wait_any(5, 1), -ETIMEDOUT); /* all 32 bits are compared */
}

static void any_times_out(void) {
  want_zeros(HF_WAITS_MAX);
  struct timespec start, end;
  NEED(clock_gettime(CLOCK_MONOTONIC, &start) == 0);
  CHECK_NUMBER(wait_any(1, 0), -ETIMEDOUT);
  CHECK_NUMBER(wait_any(HF_WAITS_MAX, 0), -ETIMEDOUT);
  CHECK_NUMBER(wait_any(HF_WAITS_MAX, 30), -ETIMEDOUT);
  NEED(clock_gettime(CLOCK_MONOTONIC, &end) == 0);
  CHECK((double)(end.tv_sec - start.tv_sec) * 1e3 + (double)(end.tv_nsec - start.tv_nsec) / 1e6 >= 30);
}

static void signals_do_not_end_any(void) {
  want_zeros(3);
  alarms = 0;
  struct itimerval every = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
  NEED(setitimer(ITIMER_REAL, &every, NULL) == 0);
  CHECK_NUMBER(wait_any(3, 100), -ETIMEDOUT);
  NEED(setitimer(ITIMER_REAL, &never, NULL) == 0);
  CHECK(alarms > 0);
}

static void any_tells_which_was_woken(void) {
  static const struct {
    uint32_t count, woken;
  } cases[] = {{1, 0}, {2, 1}, {7, 0}, {7, 3}, {HF_WAITS_MAX, HF_WAITS_MAX - 1}, {HF_WAITS_MAX, 64}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    want_zeros(cases[i].count);
    pid_t child = sleeper_on_many(cases[i].count);
    CHECK_NUMBER(hf_wake32(other((int)cases[i].count), 1), 0); /* not on the list */
    CHECK_NUMBER(hf_wake32(other((int)cases[i].woken), 2147483647.0), 1);
    CHECK_WORD(test_reap(child), 0);
    CHECK_NUMBER(shared->result, cases[i].woken);
  }
}

/* What lib/waiting.ts relies on: a word that is listed more than once is as many sleepers, which are woken in the order of the list, and
   the last one woken is told. */
static void a_word_listed_twice_is_two_sleepers(void) {
  for (int count = 1; count <= 5; count++) {
    want_zeros(6);
    /* 5 0 5 5 1 5 */
    for (int i = 0; i < 6; i++) waits[2 * i] = i == 1 ? other(0) : i == 4 ? other(1) : other(5);
    pid_t child = sleeper_on_many(6);
    CHECK_NUMBER(hf_wake32(other(5), count), count < 4 ? count : 4);
    CHECK_WORD(test_reap(child), 0);
    static const double last[] = {0, 2, 3, 5, 5};
    CHECK_NUMBER(shared->result, last[count - 1]);
  }
}

static void any_wakes_across_mappings(void) {
  int fd = test_file(8192);
  unsigned char *here = test_map(fd, 8192), *there = test_map(fd, 8192);
  want_zeros(1);
  waits[2] = address_of(there + 4096), waits[3] = 0;
  pid_t child = sleeper_on_many(2);
  CHECK_NUMBER(hf_wake32(address_of(here + 4096), 1), 1);
  CHECK_WORD(test_reap(child), 0);
  CHECK_NUMBER(shared->result, 1);
  NEED(munmap(here, 8192) == 0 && munmap(there, 8192) == 0 && close(fd) == 0);
}

static void any_says_that_memory_is_gone(void) {
  unsigned char *page = test_shared(4096);
  want_zeros(2);
  waits[2] = address_of(page);
  NEED(munmap(page, 4096) == 0);
  CHECK_NUMBER(wait_any(2, 20000), -EFAULT);
}

static void any_refuses(void) {
  want_zeros(0); /* no word is what is expected: nothing sleeps by mistake */
  CHECK_REFUSES_ADDRESS(address_of(waits), 8, hf_wait_any(BAD, 1, 1));
  CHECK_REFUSES(wait_any(BAD, 1));
  CHECK_REFUSES(wait_any(1, BAD));
  CHECK_NUMBER(wait_any(0, 1), HF_E_INVAL);
  CHECK_NUMBER(wait_any(HF_WAITS_MAX + 1, 1), HF_E_INVAL);
  CHECK_NUMBER(wait_any(1, 4294967296.0), HF_E_INVAL);
  CHECK_NUMBER(wait_any(HF_WAITS_MAX, 4294967295.0), -EAGAIN);
  for (int i = 0; i < 3; i++) {
    want_zeros(0);
    CHECK_REFUSES_ADDRESS(other(0), 4, (waits[2 * i] = BAD, wait_any(3, 1)));
    want_zeros(0);
    CHECK_REFUSES((waits[2 * i + 1] = BAD, wait_any(3, 1)));
    waits[2 * i + 1] = 4294967296.0;
    CHECK_NUMBER(wait_any(3, 1), HF_E_INVAL);
  }
}

int main(void) {
  shared = test_shared(4096);
  RUN(word_differs);
  RUN(times_out);
  RUN(signals_do_not_end_it);
  RUN(wakes_other_processes);
  RUN(wakes_none_if_told_so);
  RUN(wakes_across_mappings);
  RUN(refuses);
  RUN_ON_KERNEL(any_differs, "futex_waitv");
  RUN_ON_KERNEL(any_times_out, "futex_waitv");
  RUN_ON_KERNEL(signals_do_not_end_any, "futex_waitv");
  RUN_ON_KERNEL(any_tells_which_was_woken, "futex_waitv");
  RUN_ON_KERNEL(a_word_listed_twice_is_two_sleepers, "futex_waitv");
  RUN_ON_KERNEL(any_wakes_across_mappings, "futex_waitv");
  RUN_ON_KERNEL(any_says_that_memory_is_gone, "futex_waitv");
  RUN_ON_KERNEL(any_refuses, "futex_waitv");
  return test_report();
}
