/* lock_test.c - advisory locks between open file descriptions, and their end with their holder. */
#include "test.h"

static const double NONE = HF_LOCK_NONE, SHARED = HF_LOCK_SHARED, EXCLUSIVE = HF_LOCK_EXCLUSIVE;

static int one, two; /* two open file descriptions of one file */

static void open_both(void) { one = test_file_pair(100, &two, O_RDWR); }

static void close_both(void) { NEED(close(one) == 0 && close(two) == 0); }

static void exclusive_keeps_others_out(void) {
  open_both();
  CHECK_NUMBER(hf_lock_probe(two, 0, 10), 0);
  CHECK_NUMBER(hf_lock_range(one, 0, 10, EXCLUSIVE), 0);
  CHECK_NUMBER(hf_lock_range(two, 0, 10, EXCLUSIVE), -EAGAIN);
  CHECK_NUMBER(hf_lock_range(two, 0, 10, SHARED), -EAGAIN);
  CHECK_NUMBER(hf_lock_range(two, 9, 1, SHARED), -EAGAIN);
  CHECK_NUMBER(hf_lock_probe(two, 0, 10), 1);
  CHECK_NUMBER(hf_lock_probe(two, 9, 100), 1);
  CHECK_NUMBER(hf_lock_probe(one, 0, 10), 0); /* one's own lock is not another's */
  CHECK_NUMBER(hf_lock_range(one, 0, 10, EXCLUSIVE), 0);
  /* Beside it all is free. */
  CHECK_NUMBER(hf_lock_probe(two, 10, 1), 0);
  CHECK_NUMBER(hf_lock_range(two, 10, 1, EXCLUSIVE), 0);
  CHECK_NUMBER(hf_lock_range(one, 10, 1, EXCLUSIVE), -EAGAIN);
  /* Dropping does not need to be of what was taken. */
  CHECK_NUMBER(hf_lock_range(one, 5, 5, NONE), 0);
  CHECK_NUMBER(hf_lock_probe(two, 0, 5), 1);
  CHECK_NUMBER(hf_lock_probe(two, 5, 5), 0);
  CHECK_NUMBER(hf_lock_range(one, 0, 5, NONE), 0);
  CHECK_NUMBER(hf_lock_probe(two, 0, 10), 0);
  CHECK_NUMBER(hf_lock_range(one, 0, 5, NONE), 0);
  close_both();
}

static void shared_lets_shared_in(void) {
  open_both();
  CHECK_NUMBER(hf_lock_range(one, 50, 1, SHARED), 0);
  CHECK_NUMBER(hf_lock_range(two, 50, 1, SHARED), 0);
  CHECK_NUMBER(hf_lock_range(two, 50, 1, EXCLUSIVE), -EAGAIN); /* and keeps what it had */
  CHECK_NUMBER(hf_lock_probe(one, 50, 1), 1);
  CHECK_NUMBER(hf_lock_range(one, 50, 1, NONE), 0);
  CHECK_NUMBER(hf_lock_range(two, 50, 1, EXCLUSIVE), 0);
  CHECK_NUMBER(hf_lock_range(two, 50, 1, SHARED), 0);
  CHECK_NUMBER(hf_lock_range(one, 50, 1, SHARED), 0);
  close_both();
}

static void offsets_go_beyond_the_end(void) {
  open_both();
  CHECK_NUMBER(hf_lock_range(one, 4503599627370496.0, 1, EXCLUSIVE), 0);
  CHECK_NUMBER(hf_lock_probe(two, 4503599627370496.0, 1), 1);
  CHECK_NUMBER(hf_lock_probe(two, 4503599627370495.0, 1), 0);
  close_both();
}

static void closing_releases(void) {
  open_both();
  CHECK_NUMBER(hf_lock_range(one, 0, 1, EXCLUSIVE), 0);
  int same = dup(one);
  NEED(same >= 0 && close(one) == 0);
  CHECK_NUMBER(hf_lock_probe(two, 0, 1), 1); /* the description lives on */
  NEED(close(same) == 0);
  CHECK_NUMBER(hf_lock_probe(two, 0, 1), 0);
  NEED(close(two) == 0);
}

static void death_releases(void) {
  for (int i = 0; i < 20; i++) {
    open_both();
    volatile int *ready = test_shared(4096);
    pid_t child = test_fork();
    if (child == 0) {
      *ready = hf_lock_range(two, 7, 1, EXCLUSIVE) == 0 ? 1 : 2;
      for (;;) (void)pause();
    }
    NEED(close(two) == 0); /* only the child has it now */
    while (*ready == 0) test_sleep_us(50);
    CHECK(*ready == 1);
    CHECK_NUMBER(hf_lock_probe(one, 7, 1), 1);
    CHECK_NUMBER(hf_lock_range(one, 7, 1, EXCLUSIVE), -EAGAIN);
    NEED(kill(child, SIGKILL) == 0);
    CHECK_WORD(test_reap(child), 1000 + SIGKILL);
    CHECK_NUMBER(hf_lock_probe(one, 7, 1), 0);
    CHECK_NUMBER(hf_lock_range(one, 7, 1, EXCLUSIVE), 0);
    NEED(close(one) == 0 && munmap((void *)(uintptr_t)ready, 4096) == 0);
  }
}

static void refuses(void) {
  open_both();
  for (int i = 0; i < TEST_BAD_NUMBERS; i++) {
    CHECK_NUMBER(hf_lock_range(test_bad_number(i), 0, 1, EXCLUSIVE), HF_E_INVAL);
    CHECK_NUMBER(hf_lock_probe(test_bad_number(i), 0, 1), HF_E_INVAL);
  }
  CHECK_REFUSES(hf_lock_range(one, BAD, 1, EXCLUSIVE));
  CHECK_REFUSES(hf_lock_range(one, 0, BAD, EXCLUSIVE));
  CHECK_REFUSES(hf_lock_range(one, 0, 1, BAD));
  CHECK_REFUSES(hf_lock_probe(one, BAD, 1));
  CHECK_REFUSES(hf_lock_probe(one, 0, BAD));
  CHECK_NUMBER(hf_lock_range(one, 0, 1, 3), HF_E_INVAL);
  CHECK_NUMBER(hf_lock_range(one, 0, 0, EXCLUSIVE), HF_E_INVAL);
  CHECK_NUMBER(hf_lock_probe(one, 0, 0), HF_E_INVAL);
  CHECK_NUMBER(hf_lock_probe(two, 0, 100), 0); /* nothing was locked */
  close_both();
  CHECK_NUMBER(hf_lock_range(one, 0, 1, EXCLUSIVE), -EBADF);
  CHECK_NUMBER(hf_lock_probe(one, 0, 1), -EBADF);
  CHECK_NUMBER(hf_lock_range(-1, 0, 1, EXCLUSIVE), -EBADF);
  one = test_file_pair(100, &two, O_RDONLY);
  CHECK_NUMBER(hf_lock_range(two, 0, 1, EXCLUSIVE), -EBADF);
  CHECK_NUMBER(hf_lock_range(two, 0, 1, SHARED), 0);
  CHECK_NUMBER(hf_lock_probe(one, 0, 1), 1);
  close_both();
}

int main(void) {
  RUN(exclusive_keeps_others_out);
  RUN(shared_lets_shared_in);
  RUN(offsets_go_beyond_the_end);
  RUN(closing_releases);
  RUN(death_releases);
  RUN(refuses);
  return test_report();
}
