/*
 * guard.c - SIGBUS turned into a zero page and a mark (sigaction(2), mmap(2)).
 *
 * Invariants:
 *   - The handler touches only the table, and calls only mmap(2): it is safe wherever the fault happens.
 *   - An entry's length and mark are written before its start is, and its start is cleared before the memory is unmapped.
 *   - A fault that lies in no entry goes on to the handler that was there before.
 */
#include "internal.h"

#if defined(HF_SYSTEM)

#include "guard.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* As many mappings as a process can have by default (vm.max_map_count is 65530). Untouched entries take no memory. */
enum { REGIONS = 65536 };

#if !defined(MAP_NORESERVE)
#define MAP_NORESERVE 0 /* FreeBSD sets nothing aside for untouched pages anyway */
#endif

/* What the system says of a page behind the file's end. */
#if defined(__FreeBSD__)
#define PAGE_IS_GONE BUS_OBJERR
#else
#define PAGE_IS_GONE BUS_ADRERR
#endif

/* Starts are page-aligned, so these are none. */
enum { FREE = 0, CLAIMED = 1 };

struct region {
  uintptr_t start;
  size_t length;
  uint32_t broken;
};

static struct region regions[REGIONS];
static size_t used_end; /* entries from here on were never used */
static size_t next_free; /* where to look for a free one first */
uint32_t hf_broken_regions;

static uintptr_t page_bytes;      /* set before the handler is in place */
static struct sigaction original; /* what was there first; the same */
static struct sigaction previous; /* what a fault that is not ours goes to */
static int installed;             /* 0 no, 1 under way, 2 yes */
static void *volatile passing;    /* the context of a fault that is on its way through the handlers before ours */

bool hf_region_add(uintptr_t start, size_t length) {
  size_t first = __atomic_load_n(&next_free, __ATOMIC_RELAXED);
  for (size_t i = 0; i < REGIONS; i++) {
    size_t index = (first + i) % REGIONS;
    struct region *entry = &regions[index];
    uintptr_t expected = FREE;
    if (!__atomic_compare_exchange_n(&entry->start, &expected, CLAIMED, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) continue;
    entry->length = length;
    __atomic_store_n(&entry->broken, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->start, start, __ATOMIC_RELEASE);
    size_t end = __atomic_load_n(&used_end, __ATOMIC_RELAXED);
    while (end <= index && !__atomic_compare_exchange_n(&used_end, &end, index + 1, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
    }
    __atomic_store_n(&next_free, (index + 1) % REGIONS, __ATOMIC_RELAXED);
    return true;
  }
  return false;
}

static struct region *region_of(uintptr_t address) {
  size_t end = __atomic_load_n(&used_end, __ATOMIC_ACQUIRE);
  for (size_t i = 0; i < end; i++) {
    uintptr_t start = __atomic_load_n(&regions[i].start, __ATOMIC_ACQUIRE);
    if (start > CLAIMED && address >= start && address - start < regions[i].length) return &regions[i];
  }
  return NULL;
}

void hf_region_remove(uintptr_t start) {
  struct region *entry = region_of(start);
  if (entry == NULL || __atomic_load_n(&entry->start, __ATOMIC_RELAXED) != start) return;
  bool broken = __atomic_load_n(&entry->broken, __ATOMIC_RELAXED) != 0;
  __atomic_store_n(&next_free, (size_t)(entry - regions), __ATOMIC_RELAXED);
  __atomic_store_n(&entry->start, FREE, __ATOMIC_RELEASE);
  if (broken) __atomic_fetch_sub(&hf_broken_regions, 1, __ATOMIC_RELAXED);
}

bool hf_is_broken(uintptr_t address) {
  const struct region *entry = region_of(address);
  return entry != NULL && __atomic_load_n(&entry->broken, __ATOMIC_RELAXED) != 0;
}

/* Puts zeros under the faulting page, or where that is impossible (too many mappings, pages of another size) under the whole
   region. */
static bool put_zeros(const struct region *entry, uintptr_t address) {
  const int protection = PROT_READ | PROT_WRITE;
  const int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
  uintptr_t page = address & ~(page_bytes - 1);
  if (mmap((void *)page, page_bytes, protection, kind, -1, 0) != MAP_FAILED) return true;
  return mmap((void *)entry->start, entry->length, protection, kind, -1, 0) != MAP_FAILED;
}

static bool mend(uintptr_t address) {
  struct region *entry = region_of(address);
  if (entry == NULL) return false;
  /* Marked first: whoever sees zeros must find the mark. */
  if (__atomic_exchange_n(&entry->broken, 1, __ATOMIC_RELAXED) == 0) {
    __atomic_fetch_add(&hf_broken_regions, 1, __ATOMIC_RELAXED);
  }
  return put_zeros(entry, address);
}

static void pass_on(const struct sigaction *next, int signal_number, siginfo_t *info, void *context) {
  if ((next->sa_flags & SA_SIGINFO) != 0 && next->sa_sigaction != NULL) {
    next->sa_sigaction(signal_number, info, context);
  } else if (next->sa_handler != SIG_DFL && next->sa_handler != SIG_IGN) {
    next->sa_handler(signal_number);
  } else if (info->si_code > 0 || next->sa_handler == SIG_DFL) {
    /* The default action has to happen: it is put back, and the instruction faults again on return. One that somebody sent has to be
       sent again; if such signals were ignored, they still are. */
    struct sigaction standard;
    memset(&standard, 0, sizeof standard);
    standard.sa_handler = SIG_DFL;
    (void)sigaction(signal_number, &standard, NULL);
    if (info->si_code <= 0) (void)raise(signal_number);
  }
}

static void on_bus_error(int signal_number, siginfo_t *info, void *context) {
  int saved = errno;
  bool mended = info->si_code == PAGE_IS_GONE && mend((uintptr_t)info->si_addr);
  errno = saved;
  if (mended) return;
  if (passing == context) {
    /* It has been round: two copies of this library each think that the other was there before. */
    pass_on(&original, signal_number, info, context);
    return;
  }
  passing = context;
  pass_on(&previous, signal_number, info, context);
  passing = NULL;
}

static double install(void) {
  struct sigaction ours, before;
  memset(&ours, 0, sizeof ours);
  ours.sa_sigaction = on_bus_error;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART;
  if (sigaction(SIGBUS, NULL, &before) != 0) return hf_errno();
  if ((before.sa_flags & SA_SIGINFO) != 0 && before.sa_sigaction == on_bus_error) return 0;
  previous = before;
  return sigaction(SIGBUS, &ours, NULL) == 0 ? 0 : hf_errno();
}

void hf_guard_renew(void) {
  /* A listener of the program's own (process.on("SIGBUS")) would return to the faulting instruction for ever. */
  if (__atomic_load_n(&installed, __ATOMIC_ACQUIRE) == 2) (void)install();
}

double hf_guard_install(void) {
  int expected = 0;
  if (!__atomic_compare_exchange_n(&installed, &expected, 1, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
    /* Another thread is at it or done: a Worker that loads the library at the same time waits a few instructions. */
    while (__atomic_load_n(&installed, __ATOMIC_ACQUIRE) == 1) {
    }
    return 0;
  }
  page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
  double result = install();
  original = previous;
  __atomic_store_n(&installed, result < 0 ? 0 : 2, __ATOMIC_RELEASE);
  return result;
}

double hf_region_broken(double address) {
  const void *place = hf_pointer(address, 1);
  return place == NULL ? HF_E_INVAL : hf_is_broken((uintptr_t)place);
}

double hf_copy_out(void *target, double target_offset, double source, double length) {
  size_t offset, count;
  const void *from = hf_pointer(source, 1);
  if (target == NULL || from == NULL || !hf_size(target_offset, &offset) || !hf_size(length, &count)) return HF_E_INVAL;
  memcpy((unsigned char *)target + offset, from, count);
  return hf_faulted(from) ? HF_E_FAULT : 0;
}

double hf_copy_in(double target, const void *source, double source_offset, double length) {
  size_t offset, count;
  void *to = hf_pointer(target, 1);
  if (to == NULL || source == NULL || !hf_size(source_offset, &offset) || !hf_size(length, &count)) return HF_E_INVAL;
  memcpy(to, (const unsigned char *)source + offset, count);
  return hf_faulted(to) ? HF_E_FAULT : 0;
}

double hf_copy(double target, double source, double length) {
  size_t count;
  void *to = hf_pointer(target, 1);
  const void *from = hf_pointer(source, 1);
  if (to == NULL || from == NULL || !hf_size(length, &count)) return HF_E_INVAL;
  memcpy(to, from, count);
  return hf_faulted(to) || hf_faulted(from) ? HF_E_FAULT : 0;
}

#endif /* HF_SYSTEM */
