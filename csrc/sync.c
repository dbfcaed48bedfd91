/* sync.c - to storage. */
#include "internal.h"

#include <sys/mman.h>

double hf_sync(double address, double length, double wait) {
  size_t bytes;
  void *start = hf_pointer(address, 1);
  if (start == NULL || !hf_size(length, &bytes) || !(wait == 0.0 || wait == 1.0)) return HF_E_INVAL;
  int result;
  do {
    result = msync(start, bytes, wait == 1.0 ? MS_SYNC : MS_ASYNC);
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : hf_errno();
}
