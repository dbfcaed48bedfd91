/*
 * unsupported.c - in the place of the sources that call the system, where there is no port: each function says so. The library still loads
 * and knows its version, so that whoever loads it can say what is the matter. (On Windows a descriptor of node:fs is a number of the
 * runtime's own C library, which another module can't turn into a handle: mappings need a way to open files there first.)
 */
#include "internal.h"

#if !defined(HF_SYSTEM)

#include "guard.h"
#include "wait.h"

double hf_page_size(void) { return HF_E_UNSUPPORTED; }
double hf_clock_ms(void) { return HF_E_UNSUPPORTED; }
double hf_thread_id(void) { return HF_E_UNSUPPORTED; }
double hf_pid_namespace(void) { return HF_E_UNSUPPORTED; }
double hf_thread_alive(double process, double thread) { (void)process, (void)thread; return HF_E_UNSUPPORTED; }
double hf_boot_id(double bytes) { (void)bytes; return HF_E_UNSUPPORTED; }
double hf_map(double fd, double offset, double length, double flags, double address) {
  (void)fd, (void)offset, (void)length, (void)flags, (void)address;
  return HF_E_UNSUPPORTED;
}
double hf_unmap(double address, double length) { (void)address, (void)length; return HF_E_UNSUPPORTED; }
double hf_replace(double address, double length) { (void)address, (void)length; return HF_E_UNSUPPORTED; }
double hf_reserve(double fd, double offset, double length) { (void)fd, (void)offset, (void)length; return HF_E_UNSUPPORTED; }
double hf_punch(double fd, double offset, double length) { (void)fd, (void)offset, (void)length; return HF_E_UNSUPPORTED; }
double hf_lock_pages(double address, double length, double lock) { (void)address, (void)length, (void)lock; return HF_E_UNSUPPORTED; }
double hf_advise(double address, double length, double advice) { (void)address, (void)length, (void)advice; return HF_E_UNSUPPORTED; }
double hf_resident(double address, double length) { (void)address, (void)length; return HF_E_UNSUPPORTED; }
double hf_sync(double address, double length, double wait) { (void)address, (void)length, (void)wait; return HF_E_UNSUPPORTED; }
double hf_sync_file(double fd, double data_only) { (void)fd, (void)data_only; return HF_E_UNSUPPORTED; }
double hf_guard_install(void) { return HF_E_UNSUPPORTED; }
double hf_region_broken(double address) { (void)address; return HF_E_UNSUPPORTED; }
double hf_copy_out(void *target, double target_offset, double source, double length) {
  (void)target, (void)target_offset, (void)source, (void)length;
  return HF_E_UNSUPPORTED;
}
double hf_copy_in(double target, const void *source, double source_offset, double length) {
  (void)target, (void)source, (void)source_offset, (void)length;
  return HF_E_UNSUPPORTED;
}
double hf_copy(double target, double source, double length) { (void)target, (void)source, (void)length; return HF_E_UNSUPPORTED; }
double hf_lock_range(double fd, double offset, double length, double kind) {
  (void)fd, (void)offset, (void)length, (void)kind;
  return HF_E_UNSUPPORTED;
}
double hf_lock_probe(double fd, double offset, double length) { (void)fd, (void)offset, (void)length; return HF_E_UNSUPPORTED; }
double hf_wait32(double address, double expected, double timeout_ms) {
  (void)address, (void)expected, (void)timeout_ms;
  return HF_E_UNSUPPORTED;
}
double hf_wake32(double address, double count) { (void)address, (void)count; return HF_E_UNSUPPORTED; }
double hf_wait_any(double waits, double count, double timeout_ms) {
  (void)waits, (void)count, (void)timeout_ms;
  return HF_E_UNSUPPORTED;
}

#if defined(_WIN32)
/* No C library is linked there. */
void *memcpy(void *restrict to, const void *restrict from, size_t count);
void *memcpy(void *restrict to, const void *restrict from, size_t count) {
  void *const start = to;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
  return start;
}
#endif

/* What the sources that are compiled everywhere need of those that are not. */

uint32_t hf_broken_regions;

bool hf_is_broken(uintptr_t address) {
  (void)address;
  return false;
}

int hf_futex_wait(uint32_t *word, uint32_t expected, uint32_t timeout_ms) {
  (void)word, (void)expected, (void)timeout_ms;
  return -ENOSYS;
}

int hf_futex_wake(uint32_t *word, int count) {
  (void)word, (void)count;
  return -ENOSYS;
}

#endif
