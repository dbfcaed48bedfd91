/* wait_test.c - sleeping on a word and waking, between processes. No test here depends on how long anything takes. */
#include "test.h"

#include <sys/time.h>

struct shared {
  uint32_t word;
  uint32_t woken; /* sleepers that came back with 0 */
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

int main(void) {
  shared = test_shared(4096);
  RUN(word_differs);
  RUN(times_out);
  RUN(signals_do_not_end_it);
  RUN(wakes_other_processes);
  RUN(wakes_none_if_told_so);
  RUN(wakes_across_mappings);
  RUN(refuses);
  return test_report();
}
