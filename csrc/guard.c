/* guard.c - SIGBUS turned into a result (sigaction(2), siglongjmp(3)). */
#include "internal.h"

#include "guard.h"

#include <string.h>

_Thread_local struct hf_guard hf_guard;

static struct sigaction previous; /* written once, before the handler is in place */
static int installed;             /* 0 no, 1 under way, 2 yes */

static void on_bus_error(int signal_number, siginfo_t *info, void *context) {
  if (hf_guard.armed) {
    hf_guard.armed = 0;
    siglongjmp(hf_guard.back, 1);
  }
  /* Not ours: what was there before decides. Without a handler the default action has to happen, so it is put back and the
     instruction faults again on return. */
  if ((previous.sa_flags & SA_SIGINFO) != 0 && previous.sa_sigaction != NULL) {
    previous.sa_sigaction(signal_number, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal_number);
  } else {
    struct sigaction standard;
    memset(&standard, 0, sizeof standard);
    standard.sa_handler = SIG_DFL;
    (void)sigaction(signal_number, &standard, NULL);
  }
}

double hf_guard_install(void) {
  int expected = 0;
  if (!__atomic_compare_exchange_n(&installed, &expected, 1, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
    /* Another thread is at it or done: a Worker that loads the library at the same time waits a few instructions. */
    while (__atomic_load_n(&installed, __ATOMIC_ACQUIRE) == 1) {
    }
    return 0;
  }
  struct sigaction ours;
  memset(&ours, 0, sizeof ours);
  ours.sa_sigaction = on_bus_error;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART;
  double result = 0;
  if (sigaction(SIGBUS, NULL, &previous) != 0 || sigaction(SIGBUS, &ours, NULL) != 0) result = hf_errno();
  __atomic_store_n(&installed, result < 0 ? 0 : 2, __ATOMIC_RELEASE);
  return result;
}

static double guarded_copy(void *target, const void *source, size_t length) {
  HF_GUARD_ENTER();
  memcpy(target, source, length);
  HF_GUARD_LEAVE();
  return 0;
}

double hf_copy_out(void *target, double target_offset, double source, double length) {
  size_t offset, count;
  const void *from = hf_pointer(source, 1);
  if (target == NULL || from == NULL || !hf_size(target_offset, &offset) || !hf_size(length, &count)) return HF_E_INVAL;
  return guarded_copy((unsigned char *)target + offset, from, count);
}

double hf_copy_in(double target, const void *source, double source_offset, double length) {
  size_t offset, count;
  void *to = hf_pointer(target, 1);
  if (to == NULL || source == NULL || !hf_size(source_offset, &offset) || !hf_size(length, &count)) return HF_E_INVAL;
  return guarded_copy(to, (const unsigned char *)source + offset, count);
}
