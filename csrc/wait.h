/* wait.h - the futex calls, for the sources that wake someone as part of another step. */
#ifndef HF_WAIT_H
#define HF_WAIT_H

#include <stdint.h>

/* As hf_wait32 and hf_wake32, with checked arguments: 0 or more, or a negated errno. */
int hf_futex_wait(uint32_t *word, uint32_t expected, uint32_t timeout_ms);
int hf_futex_wake(uint32_t *word, int count);

#endif
