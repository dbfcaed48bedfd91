/* map.c - mapping files and memory, reserving space for them, and what the kernel is told of them. */
#include "internal.h"

#if defined(HF_SYSTEM)

#include "guard.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Newer than some of the headers that this is compiled with; the kernel says EINVAL where it does not know them. */
#if defined(__linux__)
#if !defined(MAP_SHARED_VALIDATE)
#define MAP_SHARED_VALIDATE 0x03
#endif
#if !defined(MAP_SYNC)
#define MAP_SYNC 0x80000
#endif
#if !defined(MAP_FIXED_NOREPLACE)
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#define HF_HUGE_SHIFT 26 /* MAP_HUGE_SHIFT */
#endif

double hf_page_size(void) { return (double)sysconf(_SC_PAGESIZE); }

/* The mmap(2) flags for ours; -1 for a combination that is none, -2 for one that this platform does not have. */
static int map_kind(uint32_t wanted) {
  uint32_t sharing = wanted & (HF_MAP_PRIVATE | HF_MAP_SHARED_VALIDATE);
  if (sharing == (HF_MAP_PRIVATE | HF_MAP_SHARED_VALIDATE)) return -1;
  int kind = (wanted & HF_MAP_PRIVATE) != 0 ? MAP_PRIVATE : MAP_SHARED;
  if ((wanted & HF_MAP_ANONYMOUS) != 0) kind |= MAP_ANONYMOUS;
#if defined(__linux__)
  /* MAP_UNINITIALIZED is only for systems without memory protection, MAP_NOCACHE is of macOS. */
  if ((wanted & (HF_MAP_UNINITIALIZED | HF_MAP_NO_CACHE)) != 0) return -2;
  if ((wanted & HF_MAP_SYNC) != 0) {
    if ((wanted & HF_MAP_PRIVATE) != 0) return -1;
    kind |= MAP_SHARED_VALIDATE | MAP_SYNC; /* MAP_SHARED ignores flags that it does not know */
  }
  if ((wanted & HF_MAP_SHARED_VALIDATE) != 0) kind |= MAP_SHARED_VALIDATE;
  if ((wanted & HF_MAP_POPULATE) != 0) kind |= MAP_POPULATE;
  if ((wanted & HF_MAP_NONBLOCK) != 0) kind |= MAP_NONBLOCK;
  if ((wanted & HF_MAP_NORESERVE) != 0) kind |= MAP_NORESERVE;
  if ((wanted & HF_MAP_HUGE_2M) != 0) kind |= MAP_HUGETLB | (21 << HF_HUGE_SHIFT);
  if ((wanted & HF_MAP_HUGE_1G) != 0) kind |= MAP_HUGETLB | (30 << HF_HUGE_SHIFT);
  if ((wanted & HF_MAP_FIXED) != 0) kind |= MAP_FIXED_NOREPLACE;
#else
  const uint32_t linux_only = HF_MAP_SHARED_VALIDATE | HF_MAP_POPULATE | HF_MAP_NONBLOCK | HF_MAP_HUGE_2M | HF_MAP_HUGE_1G |
                              HF_MAP_SYNC | HF_MAP_FIXED | HF_MAP_UNINITIALIZED;
  if ((wanted & linux_only) != 0) return -2;
#if defined(MAP_NOCACHE)
  if ((wanted & HF_MAP_NO_CACHE) != 0) kind |= MAP_NOCACHE;
#else
  if ((wanted & HF_MAP_NO_CACHE) != 0) return -2;
#endif
#if defined(MAP_NORESERVE)
  if ((wanted & HF_MAP_NORESERVE) != 0) kind |= MAP_NORESERVE;
#endif
#endif
  return kind;
}

double hf_map(double fd, double offset, double length, double flags, double address) {
  int descriptor;
  uint64_t start, place;
  size_t bytes;
  uint32_t wanted;
  if (!hf_int(fd, &descriptor) || !hf_whole(offset, &start) || !hf_size(length, &bytes) || !hf_u32(flags, &wanted) ||
      !hf_whole(address, &place)) {
    return HF_E_INVAL;
  }
  if (bytes == 0 || (wanted & ~(uint32_t)HF_MAP_ALL) != 0) return HF_E_INVAL;
  if (((wanted & HF_MAP_ANONYMOUS) != 0) != (descriptor == -1)) return HF_E_INVAL;
  if (descriptor == -1 && start != 0) return HF_E_INVAL;
  if ((wanted & HF_MAP_FIXED) != 0 && place == 0) return HF_E_INVAL;
  int kind = map_kind(wanted);
  if (kind < 0) return kind == -2 ? HF_E_UNSUPPORTED : HF_E_INVAL;
  int protection = (wanted & HF_MAP_WRITE) != 0 ? PROT_READ | PROT_WRITE : PROT_READ;
  void *mapped = mmap((void *)(uintptr_t)place, bytes, protection, kind, descriptor, (off_t)start);
  if (mapped == MAP_FAILED) return hf_errno();
  /* A kernel before 4.17 takes MAP_FIXED_NOREPLACE for a hint. */
  if ((wanted & HF_MAP_FIXED) != 0 && (uintptr_t)mapped != (uintptr_t)place) {
    (void)munmap(mapped, bytes);
    return -(double)EEXIST;
  }
  hf_guard_renew();
  if (!hf_region_add((uintptr_t)mapped, bytes)) {
    (void)munmap(mapped, bytes);
    return -(double)ENOMEM;
  }
  return (double)(uintptr_t)mapped;
}

double hf_unmap(double address, double length) {
  size_t bytes;
  void *start = hf_pointer(address, 1);
  if (start == NULL || !hf_size(length, &bytes) || bytes == 0) return HF_E_INVAL;
  hf_region_remove((uintptr_t)start);
  return munmap(start, bytes) == 0 ? 0 : hf_errno();
}

double hf_replace(double address, double length) {
  size_t bytes;
  void *start = hf_pointer(address, 1);
  if (start == NULL || !hf_size(length, &bytes) || bytes == 0) return HF_E_INVAL;
  hf_region_remove((uintptr_t)start);
  int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
#if defined(MAP_NORESERVE)
  kind |= MAP_NORESERVE;
#endif
  return mmap(start, bytes, PROT_READ | PROT_WRITE, kind, -1, 0) == MAP_FAILED ? hf_errno() : 0;
}

#if defined(__linux__)

static double allocate(double fd, double offset, double length, int mode) {
  int descriptor;
  uint64_t start, bytes;
  if (!hf_int(fd, &descriptor) || !hf_whole(offset, &start) || !hf_whole(length, &bytes) || bytes == 0) return HF_E_INVAL;
  int result;
  do {
    result = fallocate(descriptor, mode, (off_t)start, (off_t)bytes);
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : hf_errno();
}

double hf_reserve(double fd, double offset, double length) { return allocate(fd, offset, length, 0); }

double hf_punch(double fd, double offset, double length) {
  return allocate(fd, offset, length, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
}

#else

double hf_reserve(double fd, double offset, double length) {
  (void)fd, (void)offset, (void)length;
  return HF_E_UNSUPPORTED;
}

double hf_punch(double fd, double offset, double length) {
  (void)fd, (void)offset, (void)length;
  return HF_E_UNSUPPORTED;
}

#endif

double hf_lock_pages(double address, double length, double lock) {
  size_t bytes;
  void *start = hf_pointer(address, 1);
  if (start == NULL || !hf_size(length, &bytes) || bytes == 0 || !(lock == 0.0 || lock == 1.0)) return HF_E_INVAL;
  return (lock == 1.0 ? mlock(start, bytes) : munlock(start, bytes)) == 0 ? 0 : hf_errno();
}

/* The madvise(2) value of each HF_ADVISE_; -1 where the platform has none. The numbers of Linux are part of its ABI and newer than
   some headers. */
static const int advices[] = {
    MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED,
#if defined(__linux__)
    14 /* MADV_HUGEPAGE */, 15 /* MADV_NOHUGEPAGE */, 20 /* MADV_COLD */, 21 /* MADV_PAGEOUT */,
    22 /* MADV_POPULATE_READ */, 23 /* MADV_POPULATE_WRITE */, 16 /* MADV_DONTDUMP */, 17 /* MADV_DODUMP */,
    10 /* MADV_DONTFORK */, 11 /* MADV_DOFORK */,
#else
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
#endif
};
_Static_assert(sizeof advices / sizeof advices[0] == HF_ADVISE_COUNT, "one value for each advice");

double hf_advise(double address, double length, double advice) {
  size_t bytes;
  uint32_t index;
  void *start = hf_pointer(address, 1);
  if (start == NULL || !hf_size(length, &bytes) || !hf_u32(advice, &index) || index >= HF_ADVISE_COUNT) return HF_E_INVAL;
  if (advices[index] < 0) return HF_E_UNSUPPORTED;
  int result;
  do {
    result = madvise(start, bytes, advices[index]);
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : hf_errno();
}

double hf_resident(double address, double length) {
  size_t bytes;
  unsigned char *at = (unsigned char *)hf_pointer(address, 1);
  if (at == NULL || !hf_size(length, &bytes) || bytes == 0) return HF_E_INVAL;
  enum { PAGES = 4096 };
  unsigned char pages[PAGES];
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  double count = 0;
  while (bytes > 0) {
    size_t part = bytes < PAGES * page ? bytes : PAGES * page;
    if (mincore(at, part, (void *)pages) != 0) return hf_errno();
    for (size_t i = 0; i < (part + page - 1) / page; i++) count += pages[i] & 1;
    at += part;
    bytes -= part;
  }
  return count;
}

#endif /* HF_SYSTEM */
