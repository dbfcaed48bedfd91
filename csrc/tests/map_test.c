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
  double address = hf_map(fd, 0, (double)(3 * page), WRITE);
  if (!CHECK(address > 0)) return;
  unsigned char *bytes = pointer_at(address);
  CHECK(bytes[0] == 0 && bytes[3 * page - 1] == 0);
  bytes[page] = 17;
  unsigned char read = 0;
  CHECK(pread(fd, &read, 1, (off_t)page) == 1 && read == 17);
  /* A second mapping, of the second page only, sees the same byte. */
  double second = hf_map(fd, (double)page, (double)page, 0);
  if (CHECK(second > 0)) CHECK(*(unsigned char *)pointer_at(second) == 17);
  NEED(close(fd) == 0);
  bytes[page] = 18; /* outlives the descriptor */
  CHECK(*(unsigned char *)pointer_at(second) == 18);
  CHECK_NUMBER(hf_unmap(second, (double)page), 0);
  CHECK_NUMBER(hf_unmap(address, (double)(3 * page)), 0);
}

static void length_need_not_be_pages(void) {
  int fd = test_file(100);
  double address = hf_map(fd, 0, 100, WRITE);
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
  double address = hf_map(read_only, 0, 4096, WRITE + PRIVATE);
  if (!CHECK(address > 0)) return;
  *(unsigned char *)pointer_at(address) = 9;
  unsigned char read = 1;
  CHECK(pread(fd, &read, 1, 0) == 1 && read == 0);
  CHECK_NUMBER(hf_unmap(address, 4096), 0);
  NEED(close(fd) == 0 && close(read_only) == 0);
}

static void anonymous_memory_is_zeroed(void) {
  const size_t bytes = 1 << 20;
  double address = hf_map(-1, 0, (double)bytes, WRITE + ANONYMOUS);
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
  double address = hf_map(-1, 0, 4096, WRITE + ANONYMOUS);
  NEED(address > 0);
  CHECK_NUMBER(hf_unmap(address, 4096), 0);
  CHECK_NUMBER(hf_sync(address, 4096, 0), -ENOMEM); /* what msync(2) says of a hole */
}

static void map_refuses_arguments(void) {
  int fd = test_file(8192);
  CHECK_REFUSES(hf_map(fd, BAD, 4096, WRITE));
  CHECK_REFUSES(hf_map(fd, 0, BAD, WRITE));
  CHECK_REFUSES(hf_map(fd, 0, 4096, BAD));
  for (int i = 0; i < TEST_BAD_NUMBERS; i++) CHECK_NUMBER(hf_map(test_bad_number(i), 0, 4096, WRITE), HF_E_INVAL);
  CHECK_NUMBER(hf_map(2147483648.0, 0, 4096, WRITE), HF_E_INVAL);
  CHECK_NUMBER(hf_map(fd, 0, 0, WRITE), HF_E_INVAL);
  CHECK_NUMBER(hf_map(fd, 0, 4096, 8), HF_E_INVAL);
  CHECK_NUMBER(hf_map(fd, 0, 4096, 4294967296.0), HF_E_INVAL);
  CHECK_NUMBER(hf_map(-1, 0, 4096, WRITE), HF_E_INVAL);
  CHECK_NUMBER(hf_map(fd, 0, 4096, WRITE + ANONYMOUS), HF_E_INVAL);
  CHECK_NUMBER(hf_map(-1, 4096, 4096, WRITE + ANONYMOUS), HF_E_INVAL); /* the offset of anonymous memory is 0 */
  NEED(close(fd) == 0);
}

static void map_passes_errors_on(void) {
  int read_only = -1;
  int fd = test_file_pair(8192, &read_only, O_RDONLY);
  CHECK_NUMBER(hf_map(read_only, 0, 4096, WRITE), -EACCES);
  CHECK_NUMBER(hf_map(fd, 100, 4096, WRITE), -EINVAL); /* offset between pages */
  CHECK_NUMBER(hf_map(fd, 0, 4503599627370496.0, WRITE), -ENOMEM);
  NEED(close(fd) == 0 && close(read_only) == 0);
  CHECK_NUMBER(hf_map(fd, 0, 4096, WRITE), -EBADF);
  CHECK_NUMBER(hf_map(-2, 0, 4096, WRITE), -EBADF);
  int ends[2];
  NEED(pipe(ends) == 0);
  CHECK_NUMBER(hf_map(ends[0], 0, 4096, 0), -ENODEV);
  NEED(close(ends[0]) == 0 && close(ends[1]) == 0);
}

static void unmap_refuses(void) {
  double address = hf_map(-1, 0, 8192, WRITE + ANONYMOUS);
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
  double address = hf_map(fd, 0, 8192, WRITE);
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
  RUN(sync_writes_back);
  return test_report();
}
