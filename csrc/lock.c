/* lock.c - open-file-description locks (fcntl(2)): the kernel's own proof that a holder lives. */
#include "internal.h"

#if defined(HF_SYSTEM)

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#if defined(F_OFD_SETLK)

static bool describe(struct flock *range, double offset, double length, short kind) {
  uint64_t start, bytes;
  if (!hf_whole(offset, &start) || !hf_whole(length, &bytes) || bytes == 0) return false;
  memset(range, 0, sizeof *range); /* l_pid must be 0 for these commands */
  range->l_type = kind;
  range->l_whence = SEEK_SET;
  range->l_start = (off_t)start;
  range->l_len = (off_t)bytes;
  return true;
}

double hf_lock_range(double fd, double offset, double length, double kind) {
  static const short kinds[] = {F_UNLCK, F_RDLCK, F_WRLCK};
  int descriptor;
  uint32_t wanted;
  struct flock range;
  if (!hf_int(fd, &descriptor) || !hf_u32(kind, &wanted) || wanted > HF_LOCK_EXCLUSIVE) return HF_E_INVAL;
  if (!describe(&range, offset, length, kinds[wanted])) return HF_E_INVAL;
  int result;
  do {
    result = fcntl(descriptor, F_OFD_SETLK, &range);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return 0;
  return errno == EACCES ? -(double)EAGAIN : hf_errno(); /* POSIX allows either for "held by another" */
}

double hf_lock_probe(double fd, double offset, double length) {
  int descriptor;
  struct flock range;
  if (!hf_int(fd, &descriptor) || !describe(&range, offset, length, F_WRLCK)) return HF_E_INVAL;
  if (fcntl(descriptor, F_OFD_GETLK, &range) != 0) return hf_errno();
  return range.l_type == F_UNLCK ? 0 : 1;
}

#else

double hf_lock_range(double fd, double offset, double length, double kind) {
  (void)fd, (void)offset, (void)length, (void)kind;
  return HF_E_UNSUPPORTED;
}

double hf_lock_probe(double fd, double offset, double length) {
  (void)fd, (void)offset, (void)length;
  return HF_E_UNSUPPORTED;
}

#endif

#endif /* HF_SYSTEM */
