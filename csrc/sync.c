/* sync.c - to storage. */
#include "internal.h"

#if defined(HF_SYSTEM)

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

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

double hf_sync_file(double fd, double data_only) {
  int descriptor;
  if (!hf_int(fd, &descriptor) || !(data_only == 0.0 || data_only == 1.0)) return HF_E_INVAL;
  int result;
  do {
#if defined(__APPLE__)
    /* fsync(2) hands the bytes to the drive, which may keep them in memory. */
    result = fcntl(descriptor, F_FULLFSYNC);
    if (result == -1 && errno != EINTR && errno != EBADF && errno != EIO) result = fsync(descriptor); /* not every file system has it */
#else
    result = data_only == 1.0 ? fdatasync(descriptor) : fsync(descriptor);
#endif
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : hf_errno();
}

#endif /* HF_SYSTEM */
