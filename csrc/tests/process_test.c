/* process_test.c - the library itself, pages, addresses and threads. */
#include "test.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static void version_and_page_size(void) {
  CHECK_NUMBER(hf_abi_version(), HF_ABI_VERSION);
  CHECK_NUMBER(hf_page_size(), (double)sysconf(_SC_PAGESIZE));
}

static void result_codes_stand_apart(void) {
  static const double codes[] = {HF_E_INVAL, HF_E_UNSAFE, HF_E_CORRUPT, HF_E_BUSY, HF_E_OWNER, HF_E_FAULT, HF_E_UNSUPPORTED};
  for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
    CHECK(codes[i] < -9007199254740991.0);
    CHECK(i == 0 || codes[i] < codes[i - 1]);
  }
}

static void addresses(void) {
  char byte = 0;
  CHECK_NUMBER(hf_address_of(&byte), address_of(&byte));
  CHECK_NUMBER(hf_address_of(NULL), 0);
}

static void *thread_id(void *out) {
  *(double *)out = hf_thread_id();
  return NULL;
}

static void thread_ids(void) {
  CHECK_NUMBER(hf_thread_id(), (double)getpid()); /* the first thread's id is the process's */
  pthread_t thread;
  double id = 0;
  NEED(pthread_create(&thread, NULL, thread_id, &id) == 0);
  NEED(pthread_join(thread, NULL) == 0);
  CHECK(id > 0);
  CHECK(id != hf_thread_id());
  /* The kernel may take a moment to remove a thread that was joined. */
  for (int i = 0; i < 5000 && hf_thread_alive(getpid(), id) == 1; i++) test_sleep_us(1000);
  CHECK_NUMBER(hf_thread_alive(getpid(), id), 0);
}

static void thread_alive(void) {
  CHECK_NUMBER(hf_thread_alive(getpid(), hf_thread_id()), 1);
  CHECK_NUMBER(hf_thread_alive(getppid(), getppid()), 1);
  pid_t child = test_fork();
  if (child == 0) {
    for (;;) (void)pause();
  }
  CHECK_NUMBER(hf_thread_alive(child, child), 1);
  /* A thread of another process is not one of this. */
  CHECK_NUMBER(hf_thread_alive(getpid(), child), 0);
  NEED(kill(child, SIGKILL) == 0);
  CHECK_WORD(test_reap(child), 1000 + SIGKILL);
  CHECK_NUMBER(hf_thread_alive(child, child), 0);
  CHECK_REFUSES(hf_thread_alive(BAD, 1));
  CHECK_REFUSES(hf_thread_alive(1, BAD));
  CHECK_NUMBER(hf_thread_alive(0, 1), HF_E_INVAL);
  CHECK_NUMBER(hf_thread_alive(1, 0), HF_E_INVAL);
  CHECK_NUMBER(hf_thread_alive(2147483648.0, 1), HF_E_INVAL);
}

static void pid_namespace(void) {
  struct stat status;
  NEED(stat("/proc/self/ns/pid", &status) == 0);
  CHECK_NUMBER(hf_pid_namespace(), (double)status.st_ino);
}

static void boot_id(void) {
  /* By other means: as text, with its dashes. */
  FILE *file = fopen("/proc/sys/kernel/random/boot_id", "r");
  char expected[64] = "";
  NEED(file != NULL && fgets(expected, sizeof expected, file) != NULL && fclose(file) == 0);
  unsigned char bytes[HF_BOOT_ID_BYTES + 2];
  memset(bytes, 0xa5, sizeof bytes);
  CHECK_NUMBER(hf_boot_id(address_of(bytes + 1)), 0); /* anywhere, and no byte beside it */
  CHECK(bytes[0] == 0xa5 && bytes[HF_BOOT_ID_BYTES + 1] == 0xa5);
  char actual[64];
  char *end = actual;
  for (int i = 0; i < (int)HF_BOOT_ID_BYTES; i++) {
    const char *dash = i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "";
    end += snprintf(end, 8, "%s%02x", dash, bytes[1 + i]);
  }
  CHECK(strncmp(actual, expected, 36) == 0);
  /* No descriptor is left open. */
  int before = dup(0);
  NEED(before >= 0 && close(before) == 0);
  for (int i = 0; i < 100; i++) CHECK_NUMBER(hf_boot_id(address_of(bytes)), 0);
  int after = dup(0);
  NEED(after >= 0 && close(after) == 0);
  CHECK(after == before);
  CHECK_NUMBER(hf_boot_id(0), HF_E_INVAL);
  CHECK_REFUSES(hf_boot_id(BAD));
  /* Without a free descriptor: an error, and the bytes as they were. */
  pid_t child = test_fork();
  if (child == 0) {
    struct rlimit none = {0, 0};
    NEED(setrlimit(RLIMIT_NOFILE, &none) == 0);
    memset(bytes, 0xa5, sizeof bytes);
    CHECK_NUMBER(hf_boot_id(address_of(bytes)), -EMFILE);
    for (size_t i = 0; i < sizeof bytes; i++) CHECK(bytes[i] == 0xa5);
    test_child_end();
  }
  CHECK_WORD(test_reap(child), 0);
}

int main(void) {
  RUN(version_and_page_size);
  RUN(result_codes_stand_apart);
  RUN(addresses);
  RUN(thread_ids);
  RUN(thread_alive);
  RUN(pid_namespace);
  RUN(boot_id);
  return test_report();
}
