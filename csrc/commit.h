/* commit.h - the parts of a commit, for sources that join several; addresses are checked by the caller. */
#ifndef HF_COMMIT_H
#define HF_COMMIT_H

#include <stdbool.h>
#include <stdint.h>

struct lock_words;
struct cell_pair;

/* The parts of hf_begin: false if the lock stayed another's for a short spin; 0 or a failure. */
bool hf_lock_take(struct lock_words *lock, uint64_t owner);
double hf_cell_get(const struct cell_pair *pair, uint32_t count, uint32_t salt, double *values);

/* Whether the lock is this owner's. */
bool hf_lock_is(const struct lock_words *lock, uint64_t owner);

/* The parts of hf_commit: 0 or a failure. */
double hf_cell_publish(struct cell_pair *pair, uint32_t count, uint32_t salt, double *values);
double hf_lock_release(struct lock_words *lock, uint64_t owner);

/* After a release: whether someone may wait for the commit. */
bool hf_awaited(const struct lock_words *lock);

#endif
