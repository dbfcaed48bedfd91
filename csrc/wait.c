/* wait.c - sleeping on a word of shared memory (futex(2)). */
#include "internal.h"

#if defined(HF_SYSTEM)

#include "wait.h"

#include <limits.h>

#if defined(__linux__)

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* An absolute deadline, so that a signal that interrupts the sleep does not lengthen it. */
static int deadline_after(uint32_t timeout_ms, struct timespec *deadline) {
  if (clock_gettime(CLOCK_MONOTONIC, deadline) != 0) return -errno;
  deadline->tv_sec += (time_t)(timeout_ms / 1000u);
  deadline->tv_nsec += (long)(timeout_ms % 1000u) * 1000000L;
  if (deadline->tv_nsec >= 1000000000L) {
    deadline->tv_nsec -= 1000000000L;
    deadline->tv_sec += 1;
  }
  return 0;
}

int hf_futex_wait(uint32_t *word, uint32_t expected, uint32_t timeout_ms) {
  struct timespec deadline;
  int failure = deadline_after(timeout_ms, &deadline);
  if (failure != 0) return failure;
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

/* The headers of glibc 2.17 know neither: struct futex_waitv of <linux/futex.h>, and its call, the same number on every CPU. */
struct wait_entry {
  uint64_t expected;
  uint64_t address;
  uint32_t flags;
  uint32_t reserved;
};

enum { WAITV_CALL = 449, WORD_OF_32_BITS = 2 };

static double wait_any(const double *waits, uint32_t count, uint32_t timeout_ms) {
  struct wait_entry entries[HF_WAITS_MAX];
  for (uint32_t i = 0; i < count; i++) {
    uint32_t expected;
    uint32_t *word = (uint32_t *)hf_pointer(waits[2 * i], sizeof(uint32_t));
    if (word == NULL || !hf_u32(waits[2 * i + 1], &expected)) return HF_E_INVAL;
    entries[i] = (struct wait_entry){.expected = expected, .address = (uint64_t)(uintptr_t)word, .flags = WORD_OF_32_BITS};
  }
  struct timespec deadline;
  int failure = deadline_after(timeout_ms, &deadline);
  if (failure != 0) return failure;
  for (;;) {
    long result = syscall(WAITV_CALL, entries, count, 0u, &deadline, CLOCK_MONOTONIC);
    if (result >= 0) return (double)result;
    if (errno != EINTR) return hf_errno();
  }
}

#else

#include <time.h>

/*
 * Elsewhere nobody sleeps in the kernel: who waits looks every millisecond, and who wakes finds no sleeper. The calls between processes
 * that there are (os_sync_wait_on_address of macOS 14.4, _umtx_op of FreeBSD) were never tried by those who wrote this.
 */
enum { LOOK_EVERY_NS = 1000000 };

static uint64_t now_ns(void) {
  struct timespec now;
  return clock_gettime(CLOCK_MONOTONIC, &now) == 0 ? (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec : 0;
}

/* Rests before the next look; false if the time is over. */
static bool rest(uint64_t end_ns) {
  uint64_t now = now_ns();
  if (now >= end_ns) return false;
  uint64_t left = end_ns - now;
  struct timespec pause = {.tv_sec = 0, .tv_nsec = (long)(left < LOOK_EVERY_NS ? left : LOOK_EVERY_NS)};
  (void)nanosleep(&pause, NULL);
  return true;
}

int hf_futex_wait(uint32_t *word, uint32_t expected, uint32_t timeout_ms) {
  if (__atomic_load_n(word, __ATOMIC_SEQ_CST) != expected) return -EAGAIN;
  uint64_t end = now_ns() + (uint64_t)timeout_ms * 1000000u;
  while (rest(end)) {
    if (__atomic_load_n(word, __ATOMIC_SEQ_CST) != expected) return 0;
  }
  return -ETIMEDOUT;
}

int hf_futex_wake(uint32_t *word, int count) {
  (void)word, (void)count;
  return 0;
}

static double wait_any(const double *waits, uint32_t count, uint32_t timeout_ms) {
  uint64_t end = now_ns() + (uint64_t)timeout_ms * 1000000u;
  bool first = true;
  do {
    for (uint32_t i = 0; i < count; i++) {
      uint32_t expected;
      const uint32_t *word = (const uint32_t *)hf_pointer(waits[2 * i], sizeof(uint32_t));
      if (word == NULL || !hf_u32(waits[2 * i + 1], &expected)) return HF_E_INVAL;
      if (__atomic_load_n(word, __ATOMIC_SEQ_CST) != expected) return first ? -(double)EAGAIN : (double)i;
    }
    first = false;
  } while (rest(end));
  return -(double)ETIMEDOUT;
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

double hf_wait_any(double waits, double count, double timeout_ms) {
  const double *pairs = (const double *)hf_pointer(waits, sizeof(double));
  uint32_t entries, limit;
  if (pairs == NULL || !hf_u32(count, &entries) || entries == 0 || entries > HF_WAITS_MAX || !hf_u32(timeout_ms, &limit)) {
    return HF_E_INVAL;
  }
  return wait_any(pairs, entries, limit);
}

#endif /* HF_SYSTEM */
