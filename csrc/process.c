/* process.c - who is who: the clock, threads, namespaces. */
#include "internal.h"

#if defined(HF_SYSTEM)

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#elif defined(__FreeBSD__)
#include <sys/thr.h>
#elif defined(__APPLE__)
#include <pthread.h>
#endif

#if !defined(CLOCK_BOOTTIME)
#define CLOCK_BOOTTIME CLOCK_MONOTONIC /* elsewhere it counts sleep already (macOS), or there is nothing better */
#endif

double hf_clock_ms(void) {
  struct timespec now;
  if (clock_gettime(CLOCK_BOOTTIME, &now) != 0) return hf_errno();
  return (double)now.tv_sec * 1000 + (double)now.tv_nsec / 1000000;
}

#if defined(__linux__)

double hf_thread_id(void) { return (double)syscall(SYS_gettid); }

double hf_pid_namespace(void) {
  /* The link reads "pid:[4026531836]". */
  char text[64];
  ssize_t length = readlink("/proc/self/ns/pid", text, sizeof text - 1);
  if (length < 0) return hf_errno();
  double number = 0;
  bool any = false;
  for (ssize_t i = 0; i < length; i++) {
    if (text[i] < '0' || text[i] > '9') continue;
    number = number * 10 + (text[i] - '0');
    any = true;
  }
  return any ? number : -(double)ENOENT;
}

double hf_thread_alive(double process, double thread) {
  int pid, tid;
  if (!hf_int(process, &pid) || !hf_int(thread, &tid) || pid <= 0 || tid <= 0) return HF_E_INVAL;
  if (syscall(SYS_tgkill, (long)pid, (long)tid, 0L) == 0) return 1;
  return errno == ESRCH ? 0 : 1; /* EPERM: it exists, it is only not ours to signal */
}

/* 0..15, or -1. */
static int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

double hf_boot_id(double bytes) {
  void *target = hf_pointer(bytes, 1);
  if (target == NULL) return HF_E_INVAL;
  long fd;
  do {
    fd = syscall(SYS_openat, (long)AT_FDCWD, "/proc/sys/kernel/random/boot_id", (long)(O_RDONLY | O_CLOEXEC), 0L);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return hf_errno();
  char text[64]; /* 36 characters and a newline, which come in one read */
  long length;
  do {
    length = syscall(SYS_read, fd, text, sizeof text);
  } while (length < 0 && errno == EINTR);
  double failure = length < 0 ? hf_errno() : 0;
  (void)syscall(SYS_close, fd);
  if (failure != 0) return failure;
  unsigned char id[HF_BOOT_ID_BYTES] = {0};
  size_t digits = 0;
  for (long i = 0; i < length; i++) {
    if (text[i] == '-' || text[i] == '\n') continue;
    int value = digit(text[i]);
    if (value < 0 || digits == 2 * sizeof id) return -(double)EIO;
    id[digits / 2] = (unsigned char)(id[digits / 2] << 4 | value);
    digits++;
  }
  if (digits != 2 * sizeof id) return -(double)EIO;
  memcpy(target, id, sizeof id);
  return 0;
}

#else

double hf_thread_id(void) {
#if defined(__FreeBSD__)
  long id;
  return thr_self(&id) == 0 ? (double)id : hf_errno();
#elif defined(__APPLE__)
  uint64_t id;
  int failure = pthread_threadid_np(NULL, &id);
  return failure == 0 ? (double)id : -(double)failure;
#else
  return HF_E_UNSUPPORTED;
#endif
}

double hf_pid_namespace(void) { return HF_E_UNSUPPORTED; }

double hf_thread_alive(double process, double thread) {
  (void)process;
  (void)thread;
  return HF_E_UNSUPPORTED;
}

double hf_boot_id(double bytes) {
  (void)bytes;
  return HF_E_UNSUPPORTED;
}

#endif

#endif /* HF_SYSTEM */
