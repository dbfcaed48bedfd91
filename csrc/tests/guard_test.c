/* guard_test.c - mapped memory whose file is cut short: results instead of signals, and signals that are not ours passed on. */
#include "test.h"

#include "../guard.h"

#include <pthread.h>
#include <setjmp.h>

/* Two pages of a file of which the second one has gone. */
struct cut {
  unsigned char *bytes;
  size_t page;
  int fd;
};

/* Maps the file again, as hf_map() does: whole, and cut short at once. */
static void map_cut(struct cut *cut) {
  NEED(ftruncate(cut->fd, (off_t)(2 * cut->page)) == 0);
  double address = hf_map(cut->fd, 0, (double)(2 * cut->page), HF_MAP_WRITE, 0);
  NEED(address > 0);
  cut->bytes = pointer_at(address);
  memset(cut->bytes, 0x5a, 2 * cut->page);
  NEED(ftruncate(cut->fd, (off_t)cut->page) == 0);
}

static struct cut cut_file(void) {
  struct cut cut = {NULL, page_bytes(), -1};
  cut.fd = test_file((off_t)(2 * cut.page));
  map_cut(&cut);
  return cut;
}

static double good_page(const struct cut *cut) { return address_of(cut->bytes); }
static double gone_page(const struct cut *cut) { return address_of(cut->bytes + cut->page); }

static void unmap_cut(const struct cut *cut) { CHECK_NUMBER(hf_unmap(good_page(cut), (double)(2 * cut->page)), 0); }

static void drop(const struct cut *cut) {
  unmap_cut(cut);
  NEED(close(cut->fd) == 0);
}

/* ---- the handler that was there before: each in a child, before this process has installed ours ----------------------- */

enum { CHAINED = 42 };

/* The same in memory that hf_map() did not map: a fault there is not the library's. */
static struct cut foreign;
static sigjmp_buf way_out;
static volatile sig_atomic_t previous_calls;

static void make_foreign(void) {
  foreign.page = page_bytes();
  foreign.fd = test_file((off_t)(2 * foreign.page));
  foreign.bytes = test_map(foreign.fd, 2 * foreign.page);
  NEED(ftruncate(foreign.fd, (off_t)foreign.page) == 0);
}

static void drop_foreign(void) { NEED(munmap(foreign.bytes, 2 * foreign.page) == 0 && close(foreign.fd) == 0); }

static void with_info(int number, siginfo_t *info, void *context) {
  (void)context;
  previous_calls++;
  _exit(number == SIGBUS && info->si_addr == foreign.bytes + foreign.page ? CHAINED : 1);
}

static void without_info(int number) { _exit(number == SIGBUS ? CHAINED : 1); }

static void jumps(int number) {
  (void)number;
  previous_calls++;
  siglongjmp(way_out, 1);
}

static void counts(int number) {
  (void)number;
  previous_calls++;
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

static unsigned char touch(const struct cut *cut) { return *(volatile unsigned char *)(cut->bytes + cut->page); }

/* The guard does its work: a fault in a mapping of ours is a result, not a signal. */
static bool guard_works(void) {
  unsigned char byte = 0;
  struct cut cut = cut_file();
  bool works = hf_copy_out(&byte, 0, good_page(&cut), 1) == 0 && byte == 0x5a && touch(&cut) == 0 &&
               hf_copy_out(&byte, 0, gone_page(&cut), 1) == HF_E_FAULT;
  drop(&cut);
  return works;
}

/* What becomes of a child that touches a gone page of memory that is not ours, with this handler put in place before. */
static int foreign_fault(void (*simple)(int), void (*info)(int, siginfo_t *, void *), bool use_first) {
  pid_t child = test_fork();
  if (child == 0) {
    handle_before(simple, info);
    if (hf_guard_install() != 0) _exit(2);
    if (use_first && !guard_works()) _exit(3);
    _exit(100 + (touch(&foreign) != 0));
  }
  return test_reap(child);
}

static void chains_to_the_handler_before(void) {
  make_foreign();
  for (int use_first = 0; use_first < 2; use_first++) {
    CHECK_WORD(foreign_fault(NULL, with_info, use_first != 0), CHAINED);
    CHECK_WORD(foreign_fault(without_info, NULL, use_first != 0), CHAINED);
    CHECK_WORD(foreign_fault(SIG_DFL, NULL, use_first != 0), 1000 + SIGBUS);
    CHECK_WORD(foreign_fault(SIG_IGN, NULL, use_first != 0), 1000 + SIGBUS);
  }
  pid_t child = test_fork();
  if (child == 0) { /* a handler that jumps, as another library's would */
    handle_before(jumps, NULL);
    NEED(hf_guard_install() == 0);
    for (int i = 1; i <= 1000; i++) {
      if (sigsetjmp(way_out, 1) == 0) (void)touch(&foreign);
      CHECK(previous_calls == i);
      if (i % 100 == 0) CHECK(guard_works());
      CHECK(previous_calls == i);
    }
    test_child_end();
  }
  CHECK_WORD(test_reap(child), 0);
  drop_foreign();
}

/* A SIGBUS that somebody sends is no fault: what was to become of it before becomes of it, and the guard stays. */
static void sent_signals_do_what_they_did(void) {
  for (int round = 0; round < 3; round++) {
    pid_t child = test_fork();
    if (child == 0) {
      handle_before(round == 0 ? counts : round == 1 ? SIG_IGN : SIG_DFL, NULL);
      NEED(hf_guard_install() == 0);
      CHECK(guard_works());
      for (int i = 1; i <= 3; i++) {
        NEED(kill(getpid(), SIGBUS) == 0);
        if (round == 2) _exit(9); /* it should have ended the process */
        CHECK(previous_calls == (round == 0 ? i : 0));
        CHECK(guard_works());
      }
      test_child_end();
    }
    if (!CHECK_WORD(test_reap(child), round == 2 ? 1000 + SIGBUS : 0)) printf("  round %d\n", round);
  }
}

/* ---- from here on with the handler ------------------------------------------------------------------------------------ */

static void installs_once(void) {
  struct sigaction first, second;
  handle_before(NULL, with_info); /* for faults_elsewhere_are_passed_on() */
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

      for (int i = 0; i < BYTES; i++) own[i] = (unsigned char)(i * 3), mapped[i] = 0xee;
      CHECK_NUMBER(hf_copy(address_of(mapped + 3), address_of(own + offset), (double)length), 0);
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
  CHECK_REFUSES(hf_copy(BAD, address_of(own), 1));
  CHECK_REFUSES(hf_copy(address_of(mapped), BAD, 1));
  CHECK_REFUSES(hf_copy(address_of(mapped), address_of(own), BAD));
  CHECK_NUMBER(hf_copy(0, address_of(own), 1), HF_E_INVAL);
  CHECK_NUMBER(hf_copy(address_of(mapped), 0, 1), HF_E_INVAL);
  CHECK(mapped[0] == 1 && own[0] == 2);
  CHECK_REFUSES(hf_region_broken(BAD));
  CHECK_NUMBER(hf_region_broken(0), HF_E_INVAL);
  CHECK_NUMBER(hf_region_broken(address_of(own)), 0);
}

/* Every function that touches mapped memory: result number `call` of it at `place`, an address in a mapping. */
enum { GUARDED = 35 };

static double guarded(int call, double place) {
  static double (*const number_forms[])(double, double) = {hf_load64, hf_store64, hf_add64,      hf_sub64,          hf_and64,
                                                           hf_or64,   hf_xor64,   hf_exchange64, hf_store64_release};
  static double (*const exact_forms[])(double, double) = {hf_load64_exact, hf_store64_exact, hf_add64_exact,
                                                          hf_sub64_exact,  hf_and64_exact,   hf_or64_exact,
                                                          hf_xor64_exact,  hf_exchange64_exact, hf_cas64_exact};
  static _Alignas(128) double values[16];
  static _Alignas(16) uint64_t lock[2];
  static _Alignas(8) uint64_t words[2];
  static _Alignas(8) unsigned char record[64] = {0, 0, 0, 0, 64};
  lock[0] = 7, lock[1] = 0;
  values[0] = values[1] = 1;
  words[0] = words[1] = 0;
  if (call < 9) return number_forms[call](place, 1);
  if (call < 18) return exact_forms[call - 9](place, address_of(words));
  switch (call) {
    case 18: return hf_copy_out(values, 0, place, 8);
    case 19: return hf_copy_in(place, values, 0, 8);
    case 20: return hf_copy(place, address_of(words), 8);
    case 21: return hf_copy(address_of(words), place, 8);
    case 22: return hf_crc32c(0, place, 8);
    case 23: return hf_cell_read(place, 1, 0, address_of(values));
    case 24: return hf_cell_init(place, 1, 0, address_of(values));
    case 25: return hf_begin(place, 7, place + 128, 1, 0, address_of(values));
    case 26: return hf_commit(address_of(lock), 7, place, 1, 0, address_of(values));
    case 27: return hf_publish(address_of(lock), 7, place, 1, 0, address_of(values));
    case 28: return hf_unlock(place, 7);
    case 29: return hf_lock_sleep(place, 7, 1);
    case 30: return hf_record_write(place, address_of(record), 64, 0, 0);
    case 31: return hf_record_read(address_of(values), 64, place, 64, 0, 0);
    case 32: return hf_words_load(place, 2, address_of(values));
    case 33: return hf_words_store(place, 2, address_of(values));
    default: return hf_cas64(place, 0, 1);
  }
}

static void every_guarded_function_reports(void) {
  struct cut cut = cut_file();
  for (int call = 0; call < GUARDED; call++) {
    NEED(hf_region_broken(good_page(&cut)) == 0);
    bool right = CHECK_NUMBER(guarded(call, gone_page(&cut)), HF_E_FAULT);
    /* And from then on, wherever in the mapping. */
    right &= CHECK_NUMBER(guarded(call, gone_page(&cut)), HF_E_FAULT);
    right &= CHECK_NUMBER(guarded(call, good_page(&cut)), HF_E_FAULT);
    right &= CHECK_NUMBER(hf_region_broken(good_page(&cut)), 1);
    right &= CHECK_NUMBER(hf_region_broken(gone_page(&cut) + 17), 1);
    if (!right) printf("  call %d\n", call);
    /* The file whole again does not mend it: the zero page is this process's own. */
    NEED(ftruncate(cut.fd, (off_t)(2 * cut.page)) == 0);
    CHECK_NUMBER(guarded(call, good_page(&cut)), HF_E_FAULT);
    unmap_cut(&cut);
    CHECK_NUMBER(hf_region_broken(good_page(&cut)), 0);
    map_cut(&cut);
    CHECK(guarded(call, good_page(&cut)) != HF_E_FAULT);
  }
  /* The futex calls fault in the kernel, which says so by itself. */
  CHECK_NUMBER(hf_wait32(gone_page(&cut), 0, 1), -EFAULT);
  CHECK_NUMBER(hf_wake32(gone_page(&cut), 1), -EFAULT);
  CHECK_NUMBER(hf_region_broken(gone_page(&cut)), 0);
  sigset_t mask;
  NEED(sigprocmask(SIG_SETMASK, NULL, &mask) == 0);
  CHECK(sigismember(&mask, SIGBUS) == 0);
  drop(&cut);
}

/* Nothing that the library did keeps a fault elsewhere from the handler before. */
static void faults_elsewhere_are_passed_on(void) {
  make_foreign();
  for (int call = 0; call < GUARDED; call++) {
    for (int faulting = 0; faulting < 2; faulting++) {
      pid_t child = test_fork();
      if (child == 0) {
        /* This process has the handler already, installs_once() put with_info() before it. */
        struct cut cut = cut_file();
        (void)guarded(call, faulting != 0 ? gone_page(&cut) : good_page(&cut));
        _exit(100 + (touch(&foreign) != 0));
      }
      if (!CHECK_WORD(test_reap(child), CHAINED)) printf("  call %d, %s\n", call, faulting != 0 ? "fault" : "no fault");
    }
  }
  /* Nor does a mapping that is no longer ours. */
  pid_t child = test_fork();
  if (child == 0) {
    struct cut cut = cut_file();
    foreign = cut;
    unmap_cut(&cut);
    NEED(ftruncate(cut.fd, (off_t)(2 * cut.page)) == 0);
    NEED(mmap(cut.bytes, 2 * cut.page, PROT_READ, MAP_SHARED | MAP_FIXED, cut.fd, 0) == (void *)cut.bytes);
    NEED(ftruncate(cut.fd, (off_t)cut.page) == 0);
    _exit(100 + (touch(&foreign) != 0));
  }
  CHECK_WORD(test_reap(child), CHAINED);
  drop_foreign();
}

/* What touches the memory by itself, as a view does, goes on with zeros, and what it writes there is lost. */
static void bare_accesses_see_zeros(void) {
  struct cut cut = cut_file();
  volatile unsigned char *gone = cut.bytes + cut.page;
  for (size_t i = 0; i < cut.page; i++) CHECK(gone[i] == 0);
  gone[5] = 9;
  CHECK(gone[5] == 9);
  CHECK(cut.bytes[0] == 0x5a); /* the page that is there is the file's still */
  CHECK_NUMBER(hf_region_broken(good_page(&cut)), 1);
  struct stat status;
  NEED(fstat(cut.fd, &status) == 0);
  CHECK_WORD(status.st_size, cut.page);
  drop(&cut);
}

static void each_mapping_has_a_mark_of_its_own(void) {
  enum { COUNT = 100 };
  struct cut cut = cut_file();
  double others[COUNT];
  unsigned char byte;
  for (int i = 0; i < COUNT; i++) others[i] = hf_map(cut.fd, 0, (double)(2 * cut.page), HF_MAP_WRITE, 0);
  for (int i = 0; i < COUNT; i += 3) (void)*(volatile unsigned char *)pointer_at(others[i] + (double)cut.page);
  for (int i = 0; i < COUNT; i++) {
    CHECK_NUMBER(hf_region_broken(others[i]), i % 3 == 0);
    CHECK_NUMBER(hf_copy_out(&byte, 0, others[i], 1), i % 3 == 0 ? HF_E_FAULT : 0);
  }
  CHECK_NUMBER(hf_copy_out(&byte, 0, good_page(&cut), 1), 0);
  /* From a sound mapping to a broken one, and back. */
  CHECK_NUMBER(hf_copy(others[0], others[1], 8), HF_E_FAULT);
  CHECK_NUMBER(hf_copy(others[1], others[0], 8), HF_E_FAULT);
  CHECK_NUMBER(hf_copy(others[1], others[2], 8), 0);
  CHECK_NUMBER(hf_replace(others[0], (double)(2 * cut.page)), 0);
  CHECK_NUMBER(hf_region_broken(others[0]), 0);
  NEED(munmap(pointer_at(others[0]), 2 * cut.page) == 0);
  for (int i = 1; i < COUNT; i++) CHECK_NUMBER(hf_unmap(others[i], (double)(2 * cut.page)), 0);
  drop(&cut);
}

static void copy_across_the_end(void) {
  struct cut cut = cut_file();
  unsigned char own[64];
  CHECK_NUMBER(hf_copy_out(own, 0, gone_page(&cut) - 32, 32), 0);
  CHECK(own[0] == 0x5a && own[31] == 0x5a);
  CHECK_NUMBER(hf_copy_out(own, 0, gone_page(&cut) - 32, 64), HF_E_FAULT);
  CHECK(own[31] == 0x5a && own[32] == 0 && own[63] == 0);
  CHECK_NUMBER(hf_copy_in(gone_page(&cut) - 32, own, 0, 64), HF_E_FAULT);
  drop(&cut);
}

/* In a child, which leaves it to the kernel to unmap so many. */
static void a_full_table_is_enomem(void) {
  pid_t child = test_fork();
  if (child == 0) {
    /* Private memory of one kind side by side is one mapping to the kernel, so that its own limit is not met. */
    long made = 0;
    double last = 0, result;
    while ((result = hf_map(-1, 0, 4096, HF_MAP_WRITE + HF_MAP_ANONYMOUS + HF_MAP_PRIVATE, 0)) > 0 && made < 1000000) {
      made++;
      last = result;
    }
    CHECK_NUMBER(result, -ENOMEM);
    CHECK(made > 60000 && made <= 65536);
    CHECK_NUMBER(hf_unmap(last, 4096), 0);
    CHECK(hf_map(-1, 0, 4096, HF_MAP_WRITE + HF_MAP_ANONYMOUS + HF_MAP_PRIVATE, 0) > 0);
    test_child_end();
  }
  CHECK_WORD(test_reap(child), 0);
}

enum { FAULTS = 50000 }; /* on each thread */

static void *fault_often(void *failures) {
  struct cut cut = cut_file();
  long wrong = 0;
  for (int i = 0; i < FAULTS; i++) {
    unsigned char own[32];
    memset(own, 0, sizeof own);
    wrong += hf_copy_out(own, 0, good_page(&cut) + i % 1000, 32) != 0 || own[0] != 0x5a || own[31] != 0x5a;
    wrong += hf_copy_out(own, 0, gone_page(&cut) + i % 1000, 32) != HF_E_FAULT || own[0] != 0 || own[31] != 0;
    wrong += hf_copy_out(own, 0, good_page(&cut) + i % 1000, 32) != HF_E_FAULT;
    wrong += hf_unmap(good_page(&cut), (double)(2 * cut.page)) != 0;
    map_cut(&cut);
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
  /* Nothing is broken: the count went back to none. */
  CHECK_WORD(hf_broken_regions, 0);
}

/* A file that is cut and grown by another process while this one copies: either whole pages or a fault, nothing else. */
static void file_cut_while_copying(void) {
  const size_t page = page_bytes();
  int fd = test_file((off_t)(2 * page));
  double bytes = hf_map(fd, 0, (double)(2 * page), HF_MAP_WRITE, 0);
  unsigned char *own = malloc(2 * page);
  NEED(own != NULL && bytes > 0);
  pid_t child = test_fork();
  if (child == 0) {
    for (;;) {
      NEED(ftruncate(fd, (off_t)page) == 0);
      NEED(ftruncate(fd, (off_t)(2 * page)) == 0);
    }
  }
  long faults = 0, wholes = 0;
  for (long i = 0; i < 2000000 && (i < 20000 || faults == 0 || wholes == 0); i++) {
    double result = hf_copy_out(own, 0, bytes, (double)(2 * page));
    faults += result == HF_E_FAULT;
    wholes += result == 0;
    CHECK(result == 0 || result == HF_E_FAULT);
    if (result == 0) continue;
    NEED(hf_unmap(bytes, (double)(2 * page)) == 0);
    bytes = hf_map(fd, 0, (double)(2 * page), HF_MAP_WRITE, 0);
    NEED(bytes > 0);
  }
  CHECK(faults > 0 && wholes > 0);
  NEED(kill(child, SIGKILL) == 0);
  CHECK_WORD(test_reap(child), 1000 + SIGKILL);
  free(own);
  NEED(hf_unmap(bytes, (double)(2 * page)) == 0 && close(fd) == 0);
}

int main(void) {
  RUN(chains_to_the_handler_before);
  RUN(sent_signals_do_what_they_did);
  RUN(installs_once);
  RUN(copies);
  RUN(copies_refuse);
  RUN(every_guarded_function_reports);
  RUN(faults_elsewhere_are_passed_on);
  RUN(bare_accesses_see_zeros);
  RUN(each_mapping_has_a_mark_of_its_own);
  RUN(copy_across_the_end);
  RUN(a_full_table_is_enomem);
  RUN(faults_on_two_threads_at_once);
  RUN(file_cut_while_copying);
  return test_report();
}
