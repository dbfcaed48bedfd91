/* guard_test.c - guarded copies: right bytes, a result instead of a signal, and signals that are not ours passed on. */
#include "test.h"

#include <pthread.h>
#include <setjmp.h>

/* Two pages of a file of which the second one has gone. */
struct cut {
  unsigned char *bytes;
  size_t page;
  int fd;
};

static struct cut cut_file(void) {
  struct cut cut = {NULL, page_bytes(), -1};
  cut.fd = test_file((off_t)(2 * cut.page));
  cut.bytes = test_map(cut.fd, 2 * cut.page);
  memset(cut.bytes, 0x5a, 2 * cut.page);
  NEED(ftruncate(cut.fd, (off_t)cut.page) == 0);
  return cut;
}

static void restore(const struct cut *cut) { NEED(ftruncate(cut->fd, (off_t)(2 * cut->page)) == 0); }

static void drop(const struct cut *cut) { NEED(munmap(cut->bytes, 2 * cut->page) == 0 && close(cut->fd) == 0); }

/* ---- the handler that was there before: each in a child, before this process has installed ours ----------------------- */

enum { CHAINED = 42 };

static struct cut broken;
static sigjmp_buf way_out;
static volatile sig_atomic_t previous_calls;

static void with_info(int number, siginfo_t *info, void *context) {
  (void)context;
  previous_calls++;
  _exit(number == SIGBUS && info->si_addr == broken.bytes + broken.page ? CHAINED : 1);
}

static void without_info(int number) { _exit(number == SIGBUS ? CHAINED : 1); }

static void jumps(int number) {
  (void)number;
  previous_calls++;
  siglongjmp(way_out, 1);
}

static void handle_before(void (*simple)(int), void (*info)(int, siginfo_t *, void *)) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  if (info != NULL) {
    action.sa_sigaction = info;
    action.sa_flags = SA_SIGINFO;
  } else {
    action.sa_handler = simple;
  }
  NEED(sigaction(SIGBUS, &action, NULL) == 0);
}

static unsigned char touch(void) { return *(volatile unsigned char *)(broken.bytes + broken.page); }

/* What becomes of a child that touches the gone page outside of a guarded function, with this handler put in place before. */
static int unarmed_fault(void (*simple)(int), void (*info)(int, siginfo_t *, void *), bool copy_first) {
  pid_t child = test_fork();
  if (child == 0) {
    unsigned char byte = 0;
    handle_before(simple, info);
    if (hf_guard_install() != 0) _exit(2);
    /* A guarded fault must not reach the handler before, nor stay armed. */
    if (copy_first && hf_copy_out(&byte, 0, address_of(broken.bytes + broken.page), 1) != HF_E_FAULT) _exit(3);
    if (copy_first && hf_copy_out(&byte, 0, address_of(broken.bytes), 1) != 0) _exit(4);
    _exit(100 + (touch() != 0));
  }
  return test_reap(child);
}

static void chains_to_the_handler_before(void) {
  broken = cut_file();
  for (int copy_first = 0; copy_first < 2; copy_first++) {
    CHECK_WORD(unarmed_fault(NULL, with_info, copy_first != 0), CHAINED);
    CHECK_WORD(unarmed_fault(without_info, NULL, copy_first != 0), CHAINED);
    CHECK_WORD(unarmed_fault(SIG_DFL, NULL, copy_first != 0), 1000 + SIGBUS);
    CHECK_WORD(unarmed_fault(SIG_IGN, NULL, copy_first != 0), 1000 + SIGBUS);
  }
  pid_t child = test_fork();
  if (child == 0) { /* a handler that jumps, as another library's would */
    handle_before(jumps, NULL);
    NEED(hf_guard_install() == 0);
    for (int i = 1; i <= 1000; i++) {
      unsigned char byte = 0;
      if (sigsetjmp(way_out, 1) == 0) (void)touch();
      CHECK(previous_calls == i);
      CHECK_NUMBER(hf_copy_out(&byte, 0, address_of(broken.bytes + broken.page), 1), HF_E_FAULT);
    }
    test_child_end();
  }
  CHECK_WORD(test_reap(child), 0);
  drop(&broken);
}

/* ---- from here on with the handler ------------------------------------------------------------------------------------ */

static void installs_once(void) {
  struct sigaction first, second;
  handle_before(NULL, with_info); /* for nothing_stays_armed() */
  CHECK_NUMBER(hf_guard_install(), 0);
  NEED(sigaction(SIGBUS, NULL, &first) == 0);
  CHECK(first.sa_sigaction != NULL && (first.sa_flags & SA_SIGINFO) != 0 && (first.sa_flags & SA_ONSTACK) != 0);
  CHECK_NUMBER(hf_guard_install(), 0);
  NEED(sigaction(SIGBUS, NULL, &second) == 0);
  CHECK(first.sa_sigaction == second.sa_sigaction);
}

static void copies(void) {
  enum { BYTES = 300 };
  unsigned char mapped[BYTES], own[BYTES];
  for (size_t length = 0; length <= 200; length += length < 20 ? 1 : 37) {
    for (size_t offset = 0; offset < 9; offset++) {
      for (int i = 0; i < BYTES; i++) mapped[i] = (unsigned char)(i * 7), own[i] = 0xee;
      CHECK_NUMBER(hf_copy_out(own, (double)offset, address_of(mapped + 3), (double)length), 0);
      CHECK(memcmp(own + offset, mapped + 3, length) == 0);
      CHECK((offset == 0 || own[offset - 1] == 0xee) && own[offset + length] == 0xee);

      for (int i = 0; i < BYTES; i++) own[i] = (unsigned char)(i * 5), mapped[i] = 0xee;
      CHECK_NUMBER(hf_copy_in(address_of(mapped + 3), own, (double)offset, (double)length), 0);
      CHECK(memcmp(mapped + 3, own + offset, length) == 0);
      CHECK(mapped[2] == 0xee && mapped[3 + length] == 0xee);
    }
  }
}

static void copies_refuse(void) {
  unsigned char mapped[16] = {1}, own[16] = {2};
  CHECK_NUMBER(hf_copy_out(NULL, 0, address_of(mapped), 1), HF_E_INVAL);
  CHECK_NUMBER(hf_copy_out(own, 0, 0, 1), HF_E_INVAL);
  CHECK_REFUSES(hf_copy_out(own, BAD, address_of(mapped), 1));
  CHECK_REFUSES(hf_copy_out(own, 0, BAD, 1));
  CHECK_REFUSES(hf_copy_out(own, 0, address_of(mapped), BAD));
  CHECK(own[0] == 2);
  CHECK_NUMBER(hf_copy_in(address_of(mapped), NULL, 0, 1), HF_E_INVAL);
  CHECK_NUMBER(hf_copy_in(0, own, 0, 1), HF_E_INVAL);
  CHECK_REFUSES(hf_copy_in(BAD, own, 0, 1));
  CHECK_REFUSES(hf_copy_in(address_of(mapped), own, BAD, 1));
  CHECK_REFUSES(hf_copy_in(address_of(mapped), own, 0, BAD));
  CHECK(mapped[0] == 1);
}

/* Every function that says that it is guarded, at a page that is gone: result number `call`. */
enum { GUARDED = 14 };

static double guarded(int call, double gone) {
  static _Alignas(128) double values[16];
  static _Alignas(16) uint64_t lock[2];
  static _Alignas(8) unsigned char record[64] = {0, 0, 0, 0, 64};
  lock[0] = 7, lock[1] = 0;
  values[0] = 1;
  switch (call) {
    case 0: return hf_copy_out(values, 0, gone, 8);
    case 1: return hf_copy_in(gone, values, 0, 8);
    case 2: return hf_crc32c(0, gone, 8);
    case 3: return hf_cell_read(gone, 1, 0, address_of(values));
    case 4: return hf_cell_init(gone, 1, 0, address_of(values));
    case 5: return hf_begin(gone, 7, gone + 128, 1, 0, address_of(values));
    case 6: return hf_commit(address_of(lock), 7, gone, 1, 0, address_of(values));
    case 7: return hf_publish(address_of(lock), 7, gone, 1, 0, address_of(values));
    case 8: return hf_unlock(gone, 7);
    case 9: return hf_lock_sleep(gone, 7, 1);
    case 10: return hf_record_write(gone, address_of(record), 64, 0, 0);
    case 11: return hf_record_read(address_of(values), 64, gone, 64, 0, 0);
    case 12: return hf_words_load(gone, 2, address_of(values));
    default: return hf_words_store(gone, 2, address_of(values));
  }
}

static void every_guarded_function_reports(void) {
  struct cut cut = cut_file();
  double gone = address_of(cut.bytes + cut.page);
  for (int round = 0; round < 3; round++) {
    for (int call = 0; call < GUARDED; call++) {
      if (!CHECK_NUMBER(guarded(call, gone), HF_E_FAULT)) printf("  call %d\n", call);
    }
  }
  /* The futex calls fault in the kernel, which says so by itself. */
  CHECK_NUMBER(hf_wait32(gone, 0, 1), -EFAULT);
  CHECK_NUMBER(hf_wake32(gone, 1), -EFAULT);
  sigset_t mask;
  NEED(sigprocmask(SIG_SETMASK, NULL, &mask) == 0);
  CHECK(sigismember(&mask, SIGBUS) == 0);
  /* The page is there again: so is its content, zeros. */
  restore(&cut);
  unsigned char byte = 1;
  CHECK_NUMBER(hf_copy_out(&byte, 0, gone, 1), 0);
  CHECK(byte == 0);
  drop(&cut);
}

/* No guarded function leaves the guard armed, whatever its result: a fault after it must reach the handler before. */
static void nothing_stays_armed(void) {
  broken = cut_file();
  static _Alignas(128) unsigned char whole[1024];
  for (int call = 0; call < GUARDED; call++) {
    for (int faulting = 0; faulting < 2; faulting++) {
      pid_t child = test_fork();
      if (child == 0) {
        /* This process has the handler already, installs_once() put with_info() before it. */
        (void)guarded(call, faulting != 0 ? address_of(broken.bytes + broken.page) : address_of(whole));
        _exit(100 + (touch() != 0));
      }
      if (!CHECK_WORD(test_reap(child), CHAINED)) printf("  call %d, %s\n", call, faulting != 0 ? "fault" : "no fault");
    }
  }
  drop(&broken);
}

static void copy_across_the_end(void) {
  struct cut cut = cut_file();
  unsigned char own[64];
  CHECK_NUMBER(hf_copy_out(own, 0, address_of(cut.bytes + cut.page - 32), 32), 0);
  CHECK(own[0] == 0x5a && own[31] == 0x5a);
  CHECK_NUMBER(hf_copy_out(own, 0, address_of(cut.bytes + cut.page - 32), 64), HF_E_FAULT);
  CHECK_NUMBER(hf_copy_in(address_of(cut.bytes + cut.page - 32), own, 0, 64), HF_E_FAULT);
  drop(&cut);
}

enum { FAULTS = 100000 };

static void *fault_often(void *failures) {
  struct cut cut = cut_file();
  long wrong = 0;
  for (int i = 0; i < FAULTS; i++) {
    unsigned char own[32];
    memset(own, 0, sizeof own);
    wrong += hf_copy_out(own, 0, address_of(cut.bytes + cut.page + (size_t)i % 1000), 32) != HF_E_FAULT;
    wrong += hf_copy_out(own, 0, address_of(cut.bytes + (size_t)i % 1000), 32) != 0 || own[0] != 0x5a || own[31] != 0x5a;
  }
  drop(&cut);
  *(long *)failures = wrong;
  return NULL;
}

static void faults_on_two_threads_at_once(void) {
  long wrong[2] = {-1, -1};
  pthread_t thread;
  NEED(pthread_create(&thread, NULL, fault_often, &wrong[1]) == 0);
  (void)fault_often(&wrong[0]);
  NEED(pthread_join(thread, NULL) == 0);
  CHECK_WORD(wrong[0], 0);
  CHECK_WORD(wrong[1], 0);
}

/* A file that is cut and grown by another process while this one copies: either whole pages or a fault, nothing else. */
static void file_cut_while_copying(void) {
  const size_t page = page_bytes();
  int fd = test_file((off_t)(2 * page));
  unsigned char *bytes = test_map(fd, 2 * page);
  unsigned char *own = malloc(2 * page);
  NEED(own != NULL);
  pid_t child = test_fork();
  if (child == 0) {
    for (;;) {
      NEED(ftruncate(fd, (off_t)page) == 0);
      NEED(ftruncate(fd, (off_t)(2 * page)) == 0);
    }
  }
  long faults = 0, wholes = 0;
  for (long i = 0; i < 2000000 && (i < 20000 || faults == 0 || wholes == 0); i++) {
    double result = hf_copy_out(own, 0, address_of(bytes), (double)(2 * page));
    faults += result == HF_E_FAULT;
    wholes += result == 0;
    CHECK(result == 0 || result == HF_E_FAULT);
  }
  CHECK(faults > 0 && wholes > 0);
  NEED(kill(child, SIGKILL) == 0);
  CHECK_WORD(test_reap(child), 1000 + SIGKILL);
  free(own);
  NEED(munmap(bytes, 2 * page) == 0 && close(fd) == 0);
}

int main(void) {
  RUN(chains_to_the_handler_before);
  RUN(installs_once);
  RUN(copies);
  RUN(copies_refuse);
  RUN(every_guarded_function_reports);
  RUN(nothing_stays_armed);
  RUN(copy_across_the_end);
  RUN(faults_on_two_threads_at_once);
  RUN(file_cut_while_copying);
  return test_report();
}
