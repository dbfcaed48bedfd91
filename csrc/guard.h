/*
 * guard.h - memory whose file another process may cut short.
 *
 * Every mapping that hf_map() makes is a region in a table. A fault in one of them (SIGBUS: the page lies behind the file's
 * end, or there is no storage for it) puts a zero page under the fault, marks the region broken, and lets the access go on. So a
 * function that touches mapped memory does so without ado and asks hf_faulted() before it believes what it saw:
 *
 *   memcpy(target, mapped, length);
 *   return hf_faulted(mapped) ? HF_E_FAULT : 0;
 *
 * A region stays broken until it is unmapped: the zero page is this process's own, whatever becomes of the file.
 */
#ifndef HF_GUARD_H
#define HF_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many regions are broken at present; nearly always 0, which makes the question cost one load. */
extern uint32_t hf_broken_regions __attribute__((visibility("hidden")));

/* Puts the handler in place again if another one took its place. */
void hf_guard_renew(void);

/* Enters a mapping into the table; false if it is full. */
bool hf_region_add(uintptr_t start, size_t length);

/* Takes the region that starts there out of the table. */
void hf_region_remove(uintptr_t start);

/* Whether the region that `address` lies in is broken. */
bool hf_is_broken(uintptr_t address);

static inline bool hf_any_broken(void) {
  /* The accesses before must not be moved behind the question; the handler runs on this thread. */
  __atomic_signal_fence(__ATOMIC_SEQ_CST);
  return __atomic_load_n(&hf_broken_regions, __ATOMIC_RELAXED) != 0;
}

static inline bool hf_faulted(const volatile void *address) {
  return __builtin_expect(hf_any_broken(), 0) && hf_is_broken((uintptr_t)address);
}

#endif
