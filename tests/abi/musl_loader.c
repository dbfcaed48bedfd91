/*
 * musl_loader.c - built with musl-gcc by musl.test.ts: loads the library under musl and uses one function of each risky kind. Built for
 * arm64 by platforms.test.ts, with -DANY_LIBC -DEMULATED: an emulator does not populate pages.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../csrc/holdfast.h"

#define FUNCTIONS(each) \
  each(hf_abi_version) each(hf_add64) each(hf_crc32c) each(hf_guard_install) each(hf_copy_out) each(hf_map) each(hf_unmap) \
  each(hf_reserve) each(hf_page_size) each(hf_thread_id) each(hf_replace) each(hf_advise) each(hf_resident) \
  each(hf_lock_pages) each(hf_region_broken) each(hf_boot_id)
#define DECLARE(name) static __typeof__(name) *p_##name;
FUNCTIONS(DECLARE)

#define NEED(condition)                                            \
  do {                                                             \
    if (!(condition)) {                                            \
      printf("%s:%d: %s\n", __FILE__, __LINE__, #condition);       \
      exit(1);                                                     \
    }                                                              \
  } while (0)

int main(int count, char **arguments) {
#if defined(__GLIBC__) && !defined(ANY_LIBC)
#error "this is not musl"
#endif
  NEED(count == 3);
  void *library = dlopen(arguments[1], RTLD_NOW);
  if (library == NULL) {
    puts(dlerror());
    return 1;
  }
#define LOOK_UP(name) *(void **)&p_##name = dlsym(library, #name); NEED(p_##name != NULL);
  FUNCTIONS(LOOK_UP)

  NEED(p_hf_abi_version() == HF_ABI_VERSION);
  NEED(p_hf_page_size() == (double)sysconf(_SC_PAGESIZE));
  NEED(p_hf_thread_id() == (double)getpid());
  unsigned char boot[HF_BOOT_ID_BYTES];
  NEED(p_hf_boot_id((double)(uintptr_t)boot) == 0);
  static uint64_t cell = 41;
  NEED(p_hf_add64((double)(uintptr_t)&cell, 1) == 41 && cell == 42);
  NEED(p_hf_crc32c(0, (double)(uintptr_t) "123456789", 9) == 0xe3069283);

  NEED(p_hf_guard_install() == 0);
  int fd = open(arguments[2], O_RDWR | O_CREAT | O_EXCL, 0600);
  NEED(fd >= 0 && unlink(arguments[2]) == 0);
  double page = p_hf_page_size();
  NEED(p_hf_reserve(fd, 0, 2 * page) == 0);
  NEED(pwrite(fd, "here", 4, 0) == 4);
  double address = p_hf_map(fd, 0, 2 * page, HF_MAP_WRITE, 0);
  NEED(address > 0);
  NEED(ftruncate(fd, (off_t)page) == 0);
  char bytes[4];
  for (int i = 0; i < 1000; i++) {
    NEED(p_hf_copy_out(bytes, 0, address, 4) == 0 && memcmp(bytes, "here", 4) == 0);
    NEED(p_hf_copy_out(bytes, 0, address + page, 4) == HF_E_FAULT && p_hf_region_broken(address) == 1);
    NEED(p_hf_copy_out(bytes, 0, address, 4) == HF_E_FAULT);
    NEED(p_hf_unmap(address, 2 * page) == 0);
    address = p_hf_map(fd, 0, 2 * page, HF_MAP_WRITE, 0);
    NEED(address > 0);
  }
  NEED(p_hf_map(-2, 0, page, 0, 0) == -9); /* EBADF: errno is read the right way */
  double memory = p_hf_map(-1, 0, 2 * page, HF_MAP_WRITE + HF_MAP_ANONYMOUS + HF_MAP_POPULATE, 0);
  NEED(memory > 0);
#ifndef EMULATED
  NEED(p_hf_resident(memory, 2 * page) == 2);
#endif
  NEED(p_hf_advise(memory, 2 * page, HF_ADVISE_RANDOM) == 0);
  NEED(p_hf_lock_pages(memory, 2 * page, 1) == 0 && p_hf_lock_pages(memory, 2 * page, 0) == 0);
  NEED(p_hf_replace(memory, 2 * page) == 0 && p_hf_resident(memory, 2 * page) == 0);
  NEED(p_hf_unmap(memory, 2 * page) == 0);
  NEED(p_hf_unmap(address, 2 * page) == 0);
  puts("ok");
  return 0;
}
