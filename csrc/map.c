/* map.c - mapping files and memory, and reserving space for them. */
#include "internal.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

double hf_page_size(void) { return (double)sysconf(_SC_PAGESIZE); }

double hf_map(double fd, double offset, double length, double flags) {
  int descriptor;
  uint64_t start;
  size_t bytes;
  uint32_t wanted;
  if (!hf_int(fd, &descriptor) || !hf_whole(offset, &start) || !hf_size(length, &bytes) || !hf_u32(flags, &wanted)) {
    return HF_E_INVAL;
  }
  if (bytes == 0 || (wanted & ~(HF_MAP_WRITE | HF_MAP_PRIVATE | HF_MAP_ANONYMOUS)) != 0) return HF_E_INVAL;
  if (((wanted & HF_MAP_ANONYMOUS) != 0) != (descriptor == -1)) return HF_E_INVAL;
  if (descriptor == -1 && start != 0) return HF_E_INVAL;
  int protection = (wanted & HF_MAP_WRITE) != 0 ? PROT_READ | PROT_WRITE : PROT_READ;
  int kind = (wanted & HF_MAP_PRIVATE) != 0 ? MAP_PRIVATE | MAP_NORESERVE : MAP_SHARED;
  if ((wanted & HF_MAP_ANONYMOUS) != 0) kind |= MAP_ANONYMOUS;
  void *address = mmap(NULL, bytes, protection, kind, descriptor, (off_t)start);
  if (address == MAP_FAILED) return hf_errno();
  return (double)(uintptr_t)address;
}

double hf_unmap(double address, double length) {
  size_t bytes;
  void *start = hf_pointer(address, 1);
  if (start == NULL || !hf_size(length, &bytes) || bytes == 0) return HF_E_INVAL;
  return munmap(start, bytes) == 0 ? 0 : hf_errno();
}

double hf_reserve(double fd, double offset, double length) {
  int descriptor;
  uint64_t start, bytes;
  if (!hf_int(fd, &descriptor) || !hf_whole(offset, &start) || !hf_whole(length, &bytes) || bytes == 0) return HF_E_INVAL;
#if defined(__linux__)
  int result;
  do {
    result = fallocate(descriptor, 0, (off_t)start, (off_t)bytes);
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : hf_errno();
#else
  return HF_E_UNSUPPORTED;
#endif
}
