/* wait.c - sleeping on a word of shared memory (futex(2)). */
#include "internal.h"

#include "wait.h"

#include <limits.h>

#if defined(__linux__)

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int hf_futex_wait(uint32_t *word, uint32_t expected, uint32_t timeout_ms) {
  /* An absolute deadline, so that a signal that interrupts the sleep does not lengthen it. */
  struct timespec deadline;
  if (clock_gettime(CLOCK_MONOTONIC, &deadline) != 0) return -errno;
  deadline.tv_sec += (time_t)(timeout_ms / 1000u);
  deadline.tv_nsec += (long)(timeout_ms % 1000u) * 1000000L;
  if (deadline.tv_nsec >= 1000000000L) {
    deadline.tv_nsec -= 1000000000L;
    deadline.tv_sec += 1;
  }
  for (;;) {
    long result = syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected, &deadline, NULL, FUTEX_BITSET_MATCH_ANY);
    if (result == 0) return 0;
    if (errno != EINTR) return -errno;
  }
}

int hf_futex_wake(uint32_t *word, int count) {
  long result = syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
  return result >= 0 ? (int)result : -errno;
}

#else

int hf_futex_wait(uint32_t *word, uint32_t expected, uint32_t timeout_ms) {
  (void)word, (void)expected, (void)timeout_ms;
  return -ENOSYS;
}

int hf_futex_wake(uint32_t *word, int count) {
  (void)word, (void)count;
  return -ENOSYS;
}

#endif

double hf_wait32(double address, double expected, double timeout_ms) {
  uint32_t *word = (uint32_t *)hf_pointer(address, sizeof(uint32_t));
  uint32_t value, limit;
  if (word == NULL || !hf_u32(expected, &value) || !hf_u32(timeout_ms, &limit)) return HF_E_INVAL;
  return hf_futex_wait(word, value, limit);
}

double hf_wake32(double address, double count) {
  uint32_t *word = (uint32_t *)hf_pointer(address, sizeof(uint32_t));
  int sleepers;
  if (word == NULL || !hf_int(count, &sleepers) || sleepers < 0) return HF_E_INVAL;
  return sleepers == 0 ? 0 : hf_futex_wake(word, sleepers); /* the kernel takes 0 for 1 */
}
