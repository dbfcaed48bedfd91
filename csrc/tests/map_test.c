/* map_test.c - mapping, unmapping, reserving and syncing. */
#include "test.h"

#include <sys/resource.h>

static const double WRITE = HF_MAP_WRITE, PRIVATE = HF_MAP_PRIVATE, ANONYMOUS = HF_MAP_ANONYMOUS;

static off_t size_of(int fd) {
  struct stat status;
  NEED(fstat(fd, &status) == 0);
  return status.st_size;
}

static void maps_a_file(void) {
  const size_t page = page_bytes();
  int fd = test_file((off_t)(3 * page));
  double address = hf_map(fd, 0, (double)(3 * page), WRITE, 0);
  if (!CHECK(address > 0)) return;
  unsigned char *bytes = pointer_at(address);
  CHECK(bytes[0] == 0 && bytes[3 * page - 1] == 0);
  bytes[page] = 17;
  unsigned char read = 0;
  CHECK(pread(fd, &read, 1, (off_t)page) == 1 && read == 17);
  /* A second mapping, of the second page only, sees the same byte. */
  double second = hf_map(fd, (double)page, (double)page, 0, 0);
  if (CHECK(second > 0)) CHECK(*(unsigned char *)pointer_at(second) == 17);
  NEED(close(fd) == 0);
  bytes[page] = 18; /* outlives the descriptor */
  CHECK(*(unsigned char *)pointer_at(second) == 18);
  CHECK_NUMBER(hf_unmap(second, (double)page), 0);
  CHECK_NUMBER(hf_unmap(address, (double)(3 * page)), 0);
}

static void length_need_not_be_pages(void) {
  int fd = test_file(100);
  double address = hf_map(fd, 0, 100, WRITE, 0);
  if (!CHECK(address > 0)) return;
  *(unsigned char *)pointer_at(address + 99) = 5;
  unsigned char read = 0;
  CHECK(pread(fd, &read, 1, 99) == 1 && read == 5);
  CHECK_NUMBER(hf_unmap(address, 100), 0);
  NEED(close(fd) == 0);
}

static void private_pages_stay_private(void) {
  int read_only = -1;
  int fd = test_file_pair(4096, &read_only, O_RDONLY);
  double address = hf_map(read_only, 0, 4096, WRITE + PRIVATE, 0);
  if (!CHECK(address > 0)) return;
  *(unsigned char *)pointer_at(address) = 9;
  unsigned char read = 1;
  CHECK(pread(fd, &read, 1, 0) == 1 && read == 0);
  CHECK_NUMBER(hf_unmap(address, 4096), 0);
  NEED(close(fd) == 0 && close(read_only) == 0);
}

static void anonymous_memory_is_zeroed(void) {
  const size_t bytes = 1 << 20;
  double address = hf_map(-1, 0, (double)bytes, WRITE + ANONYMOUS, 0);
  if (!CHECK(address > 0)) return;
  unsigned char *memory = pointer_at(address);
  for (size_t i = 0; i < bytes; i += 512) CHECK(memory[i] == 0);
  /* MAP_SHARED: a forked child writes to the same pages. */
  pid_t child = test_fork();
  if (child == 0) {
    memory[7] = 3;
    test_child_end();
  }
  CHECK_WORD(test_reap(child), 0);
  CHECK(memory[7] == 3);
  CHECK_NUMBER(hf_unmap(address, (double)bytes), 0);
}

static void unmapped_is_gone(void) {
  double address = hf_map(-1, 0, 4096, WRITE + ANONYMOUS, 0);
  NEED(address > 0);
  CHECK_NUMBER(hf_unmap(address, 4096), 0);
  CHECK_NUMBER(hf_sync(address, 4096, 0), -ENOMEM); /* what msync(2) says of a hole */
}

static void map_refuses_arguments(void) {
  int fd = test_file(8192);
  CHECK_REFUSES(hf_map(fd, BAD, 4096, WRITE, 0));
  CHECK_REFUSES(hf_map(fd, 0, BAD, WRITE, 0));
  CHECK_REFUSES(hf_map(fd, 0, 4096, BAD, 0));
  CHECK_REFUSES(hf_map(fd, 0, 4096, WRITE, BAD));
  for (int i = 0; i < TEST_BAD_NUMBERS; i++) CHECK_NUMBER(hf_map(test_bad_number(i), 0, 4096, WRITE, 0), HF_E_INVAL);
  CHECK_NUMBER(hf_map(2147483648.0, 0, 4096, WRITE, 0), HF_E_INVAL);
  CHECK_NUMBER(hf_map(fd, 0, 0, WRITE, 0), HF_E_INVAL);
  CHECK_NUMBER(hf_map(fd, 0, 4096, HF_MAP_ALL + 1, 0), HF_E_INVAL);
  CHECK_NUMBER(hf_map(fd, 0, 4096, HF_MAP_PRIVATE + HF_MAP_SHARED_VALIDATE, 0), HF_E_INVAL);
  CHECK_NUMBER(hf_map(fd, 0, 4096, HF_MAP_PRIVATE + HF_MAP_SYNC, 0), HF_E_INVAL);
  CHECK_NUMBER(hf_map(fd, 0, 4096, WRITE + HF_MAP_FIXED, 0), HF_E_INVAL);
  CHECK_NUMBER(hf_map(fd, 0, 4096, 4294967296.0, 0), HF_E_INVAL);
  CHECK_NUMBER(hf_map(-1, 0, 4096, WRITE, 0), HF_E_INVAL);
  CHECK_NUMBER(hf_map(fd, 0, 4096, WRITE + ANONYMOUS, 0), HF_E_INVAL);
  CHECK_NUMBER(hf_map(-1, 4096, 4096, WRITE + ANONYMOUS, 0), HF_E_INVAL); /* the offset of anonymous memory is 0 */
  NEED(close(fd) == 0);
}

static void map_passes_errors_on(void) {
  int read_only = -1;
  int fd = test_file_pair(8192, &read_only, O_RDONLY);
  CHECK_NUMBER(hf_map(read_only, 0, 4096, WRITE, 0), -EACCES);
  CHECK_NUMBER(hf_map(fd, 100, 4096, WRITE, 0), -EINVAL); /* offset between pages */
  CHECK_NUMBER(hf_map(fd, 0, 4503599627370496.0, WRITE, 0), -ENOMEM);
  NEED(close(fd) == 0 && close(read_only) == 0);
  CHECK_NUMBER(hf_map(fd, 0, 4096, WRITE, 0), -EBADF);
  CHECK_NUMBER(hf_map(-2, 0, 4096, WRITE, 0), -EBADF);
  int ends[2];
  NEED(pipe(ends) == 0);
  CHECK_NUMBER(hf_map(ends[0], 0, 4096, 0, 0), -ENODEV);
  NEED(close(ends[0]) == 0 && close(ends[1]) == 0);
}

static void unmap_refuses(void) {
  double address = hf_map(-1, 0, 8192, WRITE + ANONYMOUS, 0);
  NEED(address > 0);
  CHECK_REFUSES(hf_unmap(BAD, 4096));
  CHECK_REFUSES(hf_unmap(address, BAD));
  CHECK_NUMBER(hf_unmap(0, 4096), HF_E_INVAL);
  CHECK_NUMBER(hf_unmap(address, 0), HF_E_INVAL);
  CHECK_NUMBER(hf_unmap(address + 8, 4096), -EINVAL);
  CHECK_NUMBER(hf_sync(address, 8192, 0), 0); /* still there */
  CHECK_NUMBER(hf_unmap(address, 8192), 0);
}

static void reserve_extends(void) {
  int fd = test_file(0);
  NEED(pwrite(fd, "abc", 3, 0) == 3);
  CHECK_NUMBER(hf_reserve(fd, 3, 100000), 0);
  CHECK_WORD(size_of(fd), 100003);
  struct stat status;
  NEED(fstat(fd, &status) == 0);
  CHECK(status.st_blocks * 512 >= 100003); /* storage, not a hole */
  char bytes[8] = "xxxxxxx";
  CHECK(pread(fd, bytes, 6, 0) == 6 && memcmp(bytes, "abc\0\0\0", 6) == 0);
  CHECK(pread(fd, bytes, 1, 100002) == 1 && bytes[0] == 0);
  /* Reserving what is there changes nothing. */
  CHECK_NUMBER(hf_reserve(fd, 0, 10), 0);
  CHECK_WORD(size_of(fd), 100003);
  CHECK(pread(fd, bytes, 3, 0) == 3 && memcmp(bytes, "abc", 3) == 0);
  NEED(close(fd) == 0);
}

static void reserve_refuses(void) {
  int read_only = -1;
  int fd = test_file_pair(10, &read_only, O_RDONLY);
  CHECK_REFUSES(hf_reserve(fd, BAD, 4096));
  CHECK_REFUSES(hf_reserve(fd, 0, BAD));
  for (int i = 0; i < TEST_BAD_NUMBERS; i++) CHECK_NUMBER(hf_reserve(test_bad_number(i), 0, 4096), HF_E_INVAL);
  CHECK_NUMBER(hf_reserve(fd, 0, 0), HF_E_INVAL);
  CHECK_NUMBER(hf_reserve(read_only, 0, 4096), -EBADF);
  int ends[2];
  NEED(pipe(ends) == 0);
  CHECK_NUMBER(hf_reserve(ends[1], 0, 4096), -ESPIPE);
  NEED(close(ends[0]) == 0 && close(ends[1]) == 0);
  CHECK_WORD(size_of(fd), 10);
  /* More than the process may write. */
  struct rlimit limit, before;
  NEED(getrlimit(RLIMIT_FSIZE, &before) == 0);
  NEED(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
  limit = before;
  limit.rlim_cur = 1 << 20;
  NEED(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  CHECK_NUMBER(hf_reserve(fd, 0, 2 << 20), -EFBIG);
  CHECK_NUMBER(hf_reserve(fd, 9007199254740991.0, 9007199254740991.0), -EFBIG);
  NEED(setrlimit(RLIMIT_FSIZE, &before) == 0);
  NEED(close(fd) == 0 && close(read_only) == 0);
  CHECK_NUMBER(hf_reserve(fd, 0, 4096), -EBADF);
}

static void sync_writes_back(void) {
  int fd = test_file(8192);
  double address = hf_map(fd, 0, 8192, WRITE, 0);
  NEED(address > 0);
  *(unsigned char *)pointer_at(address + 5000) = 1;
  CHECK_NUMBER(hf_sync(address, 8192, 1), 0);
  CHECK_NUMBER(hf_sync(address, 8192, 0), 0);
  CHECK_NUMBER(hf_sync(address + 4096, 1, 1), 0);
  CHECK_NUMBER(hf_sync(address, 0, 1), 0);
  CHECK_REFUSES(hf_sync(BAD, 4096, 1));
  CHECK_REFUSES(hf_sync(address, BAD, 1));
  CHECK_REFUSES(hf_sync(address, 4096, BAD));
  CHECK_NUMBER(hf_sync(address, 4096, 2), HF_E_INVAL);
  CHECK_NUMBER(hf_sync(0, 4096, 1), HF_E_INVAL);
  CHECK_NUMBER(hf_sync(address + 8, 4096, 1), -EINVAL);
  CHECK_NUMBER(hf_unmap(address, 8192), 0);
  CHECK_NUMBER(hf_sync(address, 8192, 1), -ENOMEM);
  NEED(close(fd) == 0);
}

/* ---- flags and addresses ---------------------------------------------------------------------------------------------- */

static void an_address_is_a_wish_unless_fixed(void) {
  const size_t page = page_bytes();
  double taken = hf_map(-1, 0, (double)(2 * page), WRITE + ANONYMOUS, 0);
  NEED(taken > 0);
  memset(pointer_at(taken), 7, 2 * page);
  CHECK_NUMBER(hf_map(-1, 0, (double)page, WRITE + ANONYMOUS + HF_MAP_FIXED, taken), -EEXIST);
  CHECK_NUMBER(hf_map(-1, 0, (double)(2 * page), WRITE + ANONYMOUS + HF_MAP_FIXED, taken + (double)page), -EEXIST);
  CHECK_NUMBER(hf_map(-1, 0, (double)page, WRITE + ANONYMOUS + HF_MAP_FIXED, taken + 8), -EINVAL);
  double elsewhere = hf_map(-1, 0, (double)page, WRITE + ANONYMOUS, taken);
  CHECK(elsewhere > 0 && elsewhere != taken);
  CHECK_NUMBER(hf_unmap(elsewhere, (double)page), 0);
  for (size_t i = 0; i < 2 * page; i++) CHECK(((unsigned char *)pointer_at(taken))[i] == 7);
  CHECK_NUMBER(hf_unmap(taken, (double)(2 * page)), 0);
  /* Free now. */
  CHECK_NUMBER(hf_map(-1, 0, (double)page, WRITE + ANONYMOUS + HF_MAP_FIXED, taken), taken);
  CHECK_NUMBER(hf_unmap(taken, (double)page), 0);
  CHECK_NUMBER(hf_map(-1, 0, (double)page, WRITE + ANONYMOUS, taken), taken);
  CHECK_NUMBER(hf_unmap(taken, (double)page), 0);
}

static void populated_pages_are_in_memory(void) {
  const size_t page = page_bytes();
  const double length = (double)(64 * page);
  double lazy = hf_map(-1, 0, length, WRITE + ANONYMOUS, 0);
  double full = hf_map(-1, 0, length, WRITE + ANONYMOUS + HF_MAP_POPULATE, 0);
  NEED(lazy > 0 && full > 0);
  CHECK_NUMBER(hf_resident(lazy, length), 0);
  CHECK_NUMBER(hf_resident(full, length), 64);
  ((unsigned char *)pointer_at(lazy))[5 * page] = 1;
  CHECK_NUMBER(hf_resident(lazy, length), 1);
  CHECK_NUMBER(hf_resident(lazy + (double)(5 * page), 1), 1);
  CHECK_NUMBER(hf_resident(lazy + (double)(6 * page), length - (double)(6 * page)), 0);
  CHECK_NUMBER(hf_unmap(lazy, length), 0);
  CHECK_NUMBER(hf_unmap(full, length), 0);
  /* More pages than hf_resident() asks for at a time. */
  const double large = (double)(5000 * page);
  full = hf_map(-1, 0, large, WRITE + ANONYMOUS + HF_MAP_POPULATE, 0);
  NEED(full > 0);
  CHECK_NUMBER(hf_resident(full, large), 5000);
  CHECK_NUMBER(hf_resident(full, large - 1), 5000);
  CHECK_NUMBER(hf_unmap(full, large), 0);
  CHECK_NUMBER(hf_resident(full, large), -ENOMEM);
}

static void flags_that_are_taken(void) {
  int fd = test_file(8192);
  static const double flags[] = {HF_MAP_POPULATE, HF_MAP_POPULATE + HF_MAP_NONBLOCK, HF_MAP_NORESERVE, HF_MAP_SHARED_VALIDATE,
                                 HF_MAP_PRIVATE + HF_MAP_NORESERVE};
  for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
    double address = hf_map(fd, 0, 8192, WRITE + flags[i], 0);
    if (!CHECK(address > 0)) continue;
    unsigned char byte = 9;
    *(unsigned char *)pointer_at(address + 4096) = 1;
    CHECK(pread(fd, &byte, 1, 4096) == 1 && byte == ((uint32_t)flags[i] & HF_MAP_PRIVATE ? 0 : 1));
    CHECK(pwrite(fd, "", 1, 4096) == 1);
    CHECK_NUMBER(hf_unmap(address, 8192), 0);
  }
  NEED(close(fd) == 0);
}

static void flags_that_this_platform_lacks(void) {
  int fd = test_file(2 << 20);
  CHECK_NUMBER(hf_map(fd, 0, 4096, WRITE + HF_MAP_NO_CACHE, 0), HF_E_UNSUPPORTED);
  CHECK_NUMBER(hf_map(-1, 0, 4096, WRITE + ANONYMOUS + HF_MAP_UNINITIALIZED, 0), HF_E_UNSUPPORTED);
  CHECK_NUMBER(hf_map(fd, 0, 2 << 20, WRITE + HF_MAP_HUGE_2M, 0), -EINVAL); /* no file of hugetlbfs */
  /* Persistent memory is what tmpfs and disks are not. */
  double synchronous = hf_map(fd, 0, 4096, WRITE + HF_MAP_SYNC, 0);
  CHECK_NUMBER(synchronous, -EOPNOTSUPP);
  double huge = hf_map(-1, 0, 2 << 20, WRITE + ANONYMOUS + HF_MAP_HUGE_2M, 0);
  CHECK(huge > 0 || huge == -ENOMEM || huge == -EINVAL);
  if (huge > 0) CHECK_NUMBER(hf_unmap(huge, 2 << 20), 0);
  NEED(close(fd) == 0);
}

static void replaced_by_zeros(void) {
  const size_t page = page_bytes();
  int fd = test_file((off_t)(2 * page));
  double address = hf_map(fd, 0, (double)(2 * page), WRITE, 0);
  NEED(address > 0);
  unsigned char *bytes = pointer_at(address);
  memset(bytes, 5, 2 * page);
  CHECK_NUMBER(hf_replace(address, (double)(2 * page)), 0);
  for (size_t i = 0; i < 2 * page; i++) CHECK(bytes[i] == 0);
  memset(bytes, 6, 2 * page); /* goes nowhere */
  unsigned char read = 0;
  CHECK(pread(fd, &read, 1, (off_t)page) == 1 && read == 5);
  CHECK_NUMBER(hf_region_broken(address), 0);
  NEED(munmap(bytes, 2 * page) == 0 && close(fd) == 0);

  CHECK_REFUSES(hf_replace(BAD, 4096));
  CHECK_REFUSES(hf_replace(address, BAD));
  CHECK_NUMBER(hf_replace(address, 0), HF_E_INVAL);
  CHECK_NUMBER(hf_replace(0, 4096), HF_E_INVAL);
  CHECK_NUMBER(hf_replace(address + 8, 4096), -EINVAL);
}

static void locks_pages(void) {
  const double length = 16384;
  double address = hf_map(-1, 0, length, WRITE + ANONYMOUS, 0);
  NEED(address > 0);
  CHECK_NUMBER(hf_lock_pages(address, length, 1), 0);
  CHECK_NUMBER(hf_resident(address, length), length / (double)page_bytes());
  CHECK_NUMBER(hf_lock_pages(address, length, 0), 0);
  CHECK_REFUSES(hf_lock_pages(BAD, length, 1));
  CHECK_REFUSES(hf_lock_pages(address, BAD, 1));
  CHECK_REFUSES(hf_lock_pages(address, length, BAD));
  CHECK_NUMBER(hf_lock_pages(address, length, 2), HF_E_INVAL);
  CHECK_NUMBER(hf_lock_pages(address, 0, 1), HF_E_INVAL);
  CHECK_NUMBER(hf_lock_pages(0, length, 1), HF_E_INVAL);
  CHECK_NUMBER(hf_unmap(address, length), 0);
  CHECK_NUMBER(hf_lock_pages(address, length, 1), -ENOMEM);
  /* Beyond RLIMIT_MEMLOCK, for one who is not root. */
  pid_t child = test_fork();
  if (child == 0) {
    const struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_MEMLOCK, &none) == 0 && (geteuid() != 0 || setuid(65534) == 0)) {
      double own = hf_map(-1, 0, length, WRITE + ANONYMOUS, 0);
      CHECK_NUMBER(hf_lock_pages(own, length, 1), -EPERM); /* what mlock(2) says of a limit of 0 */
    }
    test_child_end();
  }
  CHECK_WORD(test_reap(child), 0);
}

static void advises(void) {
  int fd = test_file(16384);
  double address = hf_map(fd, 0, 16384, WRITE, 0);
  NEED(address > 0);
  memset(pointer_at(address), 3, 16384);
  for (uint32_t advice = 0; advice < HF_ADVISE_COUNT; advice++) {
    double result = hf_advise(address, 16384, advice);
    /* A kernel may lack transparent huge pages. */
    bool right = result == 0 || (result == -EINVAL && (advice == HF_ADVISE_HUGEPAGE || advice == HF_ADVISE_NOHUGEPAGE));
    if (!CHECK(right)) printf("  advice %u gives %.17g\n", advice, result);
    CHECK(*(unsigned char *)pointer_at(address + 8192) == 3); /* shared pages keep what they hold */
  }
  CHECK_NUMBER(hf_advise(address, 0, HF_ADVISE_NORMAL), 0);
  CHECK_NUMBER(hf_advise(address, 4096, HF_ADVISE_COUNT), HF_E_INVAL);
  CHECK_REFUSES(hf_advise(BAD, 4096, 0));
  CHECK_REFUSES(hf_advise(address, BAD, 0));
  CHECK_REFUSES(hf_advise(address, 4096, BAD));
  CHECK_NUMBER(hf_advise(0, 4096, 0), HF_E_INVAL);
  CHECK_NUMBER(hf_advise(address + 8, 4096, 0), -EINVAL);
  CHECK_REFUSES(hf_resident(BAD, 4096));
  CHECK_REFUSES(hf_resident(address, BAD));
  CHECK_NUMBER(hf_resident(address, 0), HF_E_INVAL);
  CHECK_NUMBER(hf_resident(address + 8, 4096), -EINVAL);
  CHECK_NUMBER(hf_unmap(address, 16384), 0);
  CHECK_NUMBER(hf_advise(address, 16384, HF_ADVISE_RANDOM), -ENOMEM);
  NEED(close(fd) == 0);
}

static blkcnt_t blocks_of(int fd) {
  struct stat status;
  NEED(fstat(fd, &status) == 0);
  return status.st_blocks;
}

static void punches_holes(void) {
  const size_t page = page_bytes(), bytes = 64 * page;
  int fd = test_file((off_t)bytes);
  unsigned char *memory = test_map(fd, bytes), *second = test_map(fd, bytes);
  memset(memory, 7, bytes);
  NEED(fsync(fd) == 0);
  const blkcnt_t before = blocks_of(fd);
  /* Not on page borders: the bytes are zeroed, the whole pages within given back. */
  const size_t start = page + 100, length = 40 * page;
  double result = hf_punch(fd, (double)start, (double)length);
  if (result == -EOPNOTSUPP) {
    printf("punches_holes: skipped, this file system has none\n");
  } else if (CHECK_NUMBER(result, 0)) {
    bool right = true;
    for (size_t i = 0; i < bytes; i++) {
      unsigned char expected = i >= start && i < start + length ? 0 : 7;
      right &= memory[i] == expected && second[i] == expected;
    }
    CHECK(right);
    CHECK_WORD(size_of(fd), bytes);
    CHECK(blocks_of(fd) < before);
    memory[start] = 8; /* it can be written to again */
    CHECK(second[start] == 8);
    /* Beyond the end: nothing, and the file does not grow. */
    CHECK_NUMBER(hf_punch(fd, (double)bytes, (double)page), 0);
    CHECK_NUMBER(hf_punch(fd, (double)(bytes - page), (double)(2 * page)), 0);
    CHECK_WORD(size_of(fd), bytes);
    CHECK(memory[bytes - 1] == 0);
  }
  NEED(munmap(memory, bytes) == 0 && munmap(second, bytes) == 0 && close(fd) == 0);
}

static void punch_refuses(void) {
  int read_only = -1;
  int fd = test_file_pair(8192, &read_only, O_RDONLY);
  unsigned char *memory = test_map(fd, 8192);
  memset(memory, 7, 8192);
  for (int i = 0; i < TEST_BAD_NUMBERS; i++) CHECK_NUMBER(hf_punch(test_bad_number(i), 0, 4096), HF_E_INVAL);
  CHECK_NUMBER(hf_punch(-1, 0, 4096), -EBADF);
  CHECK_REFUSES(hf_punch(fd, BAD, 4096));
  CHECK_REFUSES(hf_punch(fd, 0, BAD));
  CHECK(hf_punch(fd, 0, 0) < 0);
  CHECK_NUMBER(hf_punch(read_only, 0, 4096), -EBADF);
  CHECK(memory[0] == 7 && memory[8191] == 7);
  NEED(munmap(memory, 8192) == 0 && close(fd) == 0 && close(read_only) == 0);
  CHECK_NUMBER(hf_punch(fd, 0, 4096), -EBADF);
}

int main(void) {
  RUN(maps_a_file);
  RUN(length_need_not_be_pages);
  RUN(private_pages_stay_private);
  RUN(anonymous_memory_is_zeroed);
  RUN(unmapped_is_gone);
  RUN(map_refuses_arguments);
  RUN(map_passes_errors_on);
  RUN(unmap_refuses);
  RUN(reserve_extends);
  RUN(reserve_refuses);
  RUN(punches_holes);
  RUN(punch_refuses);
  RUN(sync_writes_back);
  RUN_ON_KERNEL(an_address_is_a_wish_unless_fixed, "check of fixed addresses");
  RUN_ON_KERNEL(populated_pages_are_in_memory, "MAP_POPULATE");
  RUN_ON_KERNEL(flags_that_are_taken, "MAP_SHARED_VALIDATE");
  RUN_ON_KERNEL(flags_that_this_platform_lacks, "MAP_SYNC");
  RUN(replaced_by_zeros);
  RUN(locks_pages);
  RUN_ON_KERNEL(advises, "madvise that looks at addresses");
  return test_report();
}
