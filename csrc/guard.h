/*
 * guard.h - running a piece of code that may touch a page that is gone.
 *
 *   HF_GUARD_ENTER();
 *   ...touch mapped memory...
 *   HF_GUARD_LEAVE();
 *
 * Between the two the SIGBUS handler jumps back to HF_GUARD_ENTER(), which then returns HF_E_FAULT from the function. Guards
 * do not nest, and nothing between them may return or own something that has to be released.
 */
#ifndef HF_GUARD_H
#define HF_GUARD_H

#include <setjmp.h>
#include <signal.h>

struct hf_guard {
  volatile sig_atomic_t armed;
  sigjmp_buf back;
};

extern _Thread_local struct hf_guard hf_guard __attribute__((visibility("hidden")));

/* The signal mask is not saved (second argument 0): the handler runs with SA_NODEFER, so there is nothing to restore, and
   saving it would be a system call. The fences keep the compiler from moving the guarded accesses out. */
#define HF_GUARD_ENTER()                                       \
  do {                                                         \
    if (sigsetjmp(hf_guard.back, 0) != 0) return HF_E_FAULT;   \
    hf_guard.armed = 1;                                        \
    __atomic_signal_fence(__ATOMIC_SEQ_CST);                   \
  } while (0)
#define HF_GUARD_LEAVE()                                       \
  do {                                                         \
    __atomic_signal_fence(__ATOMIC_SEQ_CST);                   \
    hf_guard.armed = 0;                                        \
  } while (0)

#endif
