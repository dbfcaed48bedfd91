/*
 * Reads a shared memory object of holdfast with nothing but docs/format.md and POSIX. Prints its size, capacity and content; checks the
 * header's checksum, the words' checks and the end mark. With a second argument: writes that over the content's first bytes.
 *
 * Usage: shared_memory_reader /NAME [TEXT]
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static uint32_t crc32c(uint32_t seed, const unsigned char *bytes, size_t length) {
  uint32_t crc = ~seed;
  for (size_t i = 0; i < length; i++) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
  }
  return ~crc;
}

static void fail(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

static uint64_t load(const unsigned char *address) {
  /* One load of eight aligned bytes, in one piece; acquire, since it says how much of the content is there. */
  return __atomic_load_n((const uint64_t *)(const void *)address, __ATOMIC_ACQUIRE);
}

static uint64_t sealed(const unsigned char *object, size_t offset, uint32_t salt) {
  uint64_t word = load(object + offset);
  uint64_t value = word & 0xffffffffffffu;
  unsigned char bytes[8];
  for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(value >> 8 * i);
  if ((crc32c(salt, bytes, 8) & 0xffff) != word >> 48) fail("the check of a word does not hold");
  return value;
}

int main(int argc, char **argv) {
  if (argc < 2) fail("usage: shared_memory_reader /NAME [TEXT]");
  int fd = shm_open(argv[1], O_RDWR, 0);
  struct stat stat;
  if (fd < 0 || fstat(fd, &stat) != 0) fail("shm_open or fstat failed");
  size_t length = (size_t)stat.st_size;
  unsigned char *object = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (object == MAP_FAILED) fail("mmap failed");
  if (memcmp(object, "HFST\r\n\x1a\0", 8) != 0) fail("not an object of holdfast");
  uint32_t kind, checksum;
  memcpy(&kind, object + 12, 4);
  memcpy(&checksum, object + 124, 4);
  if (kind != 6) fail("another kind of file");
  if (checksum != crc32c(0, object, 124)) fail("the header's checksum does not hold");
  uint32_t salt = crc32c(0, object + 24, 16);
  uint64_t size = sealed(object, 128, salt), capacity = sealed(object, 256, salt), extent = sealed(object, 384, salt);
  if (extent > length || sealed(object, extent - 8, salt) != extent) fail("cut short");
  printf("%" PRIu64 " %" PRIu64 " ", size, capacity);
  fwrite(object + 4096, 1, size, stdout);
  if (argc > 2) memcpy(object + 4096, argv[2], strlen(argv[2]));
  return 0;
}
