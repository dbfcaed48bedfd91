/*
 * commit.h - the steps of a commit, for commit.c and for sources that join several of them. Inline, since a call costs as much as some of the
 * steps; the addresses are checked by the caller. The invariants are at the head of commit.c.
 */
#ifndef HF_COMMIT_H
#define HF_COMMIT_H

#include "crc32c.h"
#include "guard.h"
#include "internal.h"
#include "wait.h"

#include <limits.h>

struct lock_words {
  uint64_t owner;
  uint32_t sleepers; /* 1 while someone may be asleep on the low half of `owner` */
  uint32_t waiting;  /* 1 while someone may wait for a commit, asleep on `bell` */
  uint32_t bell;
  uint32_t reserved;
};

struct cell {
  uint64_t words[HF_CELL_WORDS];
  uint64_t version;
  uint32_t checksum;
  uint32_t reserved;
};

struct cell_pair {
  uint64_t version;
  uint64_t reserved[15];
  struct cell cells[2];
};

_Static_assert(sizeof(struct lock_words) == HF_LOCKWORD_BYTES && offsetof(struct lock_words, bell) == HF_BELL_OFFSET, "lock words");
_Static_assert(offsetof(struct cell, version) == 112 && offsetof(struct cell, checksum) == 120, "cell");
_Static_assert(sizeof(struct cell) == 128, "cell");
_Static_assert(offsetof(struct cell_pair, cells) == 128 && sizeof(struct cell_pair) == HF_CELL_PAIR_BYTES, "cell pair");

/* The spin before a lock is reported busy: longer than a critical section (some 100 ns), shorter than a context switch. */
enum { SPIN_ROUNDS = 100, READ_ROUNDS = 1000 };

HF_INLINE void hf_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb" ::: "memory");
#endif
}

/* Of a cell's words and its version. */
HF_INLINE uint32_t checksum_of(const uint64_t *words, uint32_t count, uint64_t version, uint32_t salt) {
  return ~hf_crc_words(hf_crc_words(~salt, words, count), &version, 1);
}

/*
 * The version word carries 16 bits of checksum above 48 bits of version, so that a damaged one is told from an older one: each of the
 * two cells is whole, and only this word says which is current. 2^48 commits are 300 days of ten million a second.
 */
#define VERSION_BITS 48
#define VERSION_MAX ((UINT64_C(1) << VERSION_BITS) - 1)

HF_INLINE uint64_t hf_seal(uint64_t version, uint32_t salt) {
  uint32_t checksum = ~hf_crc_words(~salt, &version, 1);
  return version | (uint64_t)(checksum & 0xffff) << VERSION_BITS;
}

HF_INLINE bool hf_unseal(uint64_t word, uint32_t salt, uint64_t *version) {
  *version = word & VERSION_MAX;
  return word == hf_seal(*version, salt);
}

/* Behind the caller's values: the version word that they are of. */
HF_INLINE uint64_t *seen_at(double *values, uint32_t count) { return (uint64_t *)(void *)(values + count); }

HF_INLINE double hf_cell_get(const struct cell_pair *pair, uint32_t count, uint32_t salt, double *values) {
  uint64_t *seen = seen_at(values, count);
  for (int round = 0; round < READ_ROUNDS; round++) {
    /* Pairs with the release store of hf_cell_publish(): the cell's words are those written before it. */
    uint64_t sealed = __atomic_load_n(&pair->version, __ATOMIC_ACQUIRE);
    /* Nobody has published since: the values are what a look at the cell would give. */
    if (sealed == *seen && sealed != 0) return 0;
    *seen = 0;
    uint64_t version;
    if (!hf_unseal(sealed, salt, &version)) return HF_E_CORRUPT;
    const struct cell *cell = &pair->cells[version & 1];
    uint64_t words[HF_CELL_WORDS];
    for (uint32_t i = 0; i < count; i++) words[i] = __atomic_load_n(&cell->words[i], __ATOMIC_RELAXED);
    uint64_t own = __atomic_load_n(&cell->version, __ATOMIC_RELAXED);
    uint32_t checksum = __atomic_load_n(&cell->checksum, __ATOMIC_RELAXED);
    /* The words above are read before the version is read again (Boehm, "Can seqlocks get along with programming language
       memory models?", 2012). */
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (__atomic_load_n(&pair->version, __ATOMIC_RELAXED) != sealed) {
      hf_pause();
      continue;
    }
    if (own != version || checksum != checksum_of(words, count, version, salt)) return HF_E_CORRUPT;
    for (uint32_t i = 0; i < count; i++) {
      if (words[i] > HF_MAX_SAFE_WORD) return HF_E_CORRUPT;
      values[i] = hf_to_double(words[i]);
    }
    *seen = sealed;
    return 0;
  }
  return -(double)EAGAIN;
}

HF_INLINE bool hf_cell_write(struct cell *cell, uint32_t count, uint64_t version, uint32_t salt, const double *values) {
  uint64_t words[HF_CELL_WORDS];
  for (uint32_t i = 0; i < count; i++) {
    if (!hf_whole(values[i], &words[i])) return false;
  }
  for (uint32_t i = 0; i < count; i++) __atomic_store_n(&cell->words[i], words[i], __ATOMIC_RELAXED);
  __atomic_store_n(&cell->version, version, __ATOMIC_RELAXED);
  __atomic_store_n(&cell->checksum, checksum_of(words, count, version, salt), __ATOMIC_RELAXED);
  return true;
}

HF_INLINE double hf_cell_publish(struct cell_pair *pair, uint32_t count, uint32_t salt, double *values) {
  uint64_t *seen = seen_at(values, count);
  uint64_t before = __atomic_load_n(&pair->version, __ATOMIC_RELAXED);
  uint64_t current = before & VERSION_MAX;
  /* A word that was seen was checked then. */
  bool whole = before == *seen ? before != 0 : hf_unseal(before, salt, &current);
  *seen = 0;
  if (!whole || current == VERSION_MAX) return HF_E_CORRUPT;
  uint64_t next = current + 1;
  /* A reader that is still at the cell being overwritten must see the version move first or its words whole: the fence
     orders the version store of the commit before this one ahead of the stores below; it pairs with the reader's fence. */
  __atomic_thread_fence(__ATOMIC_RELEASE);
  if (!hf_cell_write(&pair->cells[next & 1], count, next, salt, values)) return HF_E_INVAL;
  uint64_t sealed = hf_seal(next, salt);
  /* THE commit. Pairs with the acquire load of hf_cell_get(). */
  __atomic_store_n(&pair->version, sealed, __ATOMIC_RELEASE);
  *seen = sealed;
  return 0;
}

HF_INLINE double hf_lock_release(struct lock_words *lock, uint64_t owner) {
  /* Sequentially consistent, so that the load of `sleepers` is not taken before the lock is seen free: it pairs with
     hf_lock_sleep(), which stores the flag and then looks at the owner again. */
  if (!__atomic_compare_exchange_n(&lock->owner, &owner, 0, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) return HF_E_OWNER;
  if (__atomic_load_n(&lock->sleepers, __ATOMIC_SEQ_CST) != 0) {
    __atomic_store_n(&lock->sleepers, 0, __ATOMIC_SEQ_CST);
    (void)hf_futex_wake((uint32_t *)(void *)&lock->owner, INT_MAX);
  }
  return 0;
}

HF_INLINE bool hf_lock_take(struct lock_words *lock, uint64_t owner) {
  for (int round = 0; round < SPIN_ROUNDS; round++) {
    uint64_t expected = 0;
    /* Reading first keeps the line shared while another holds the lock. */
    if (__atomic_load_n(&lock->owner, __ATOMIC_RELAXED) == 0 &&
        __atomic_compare_exchange_n(&lock->owner, &expected, owner, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
      return true;
    }
    hf_pause();
  }
  return false;
}

HF_INLINE bool hf_lock_is(const struct lock_words *lock, uint64_t owner) { return __atomic_load_n(&lock->owner, __ATOMIC_RELAXED) == owner; }

HF_INLINE bool hf_awaited(const struct lock_words *lock) {
  /* After the release's full fence: either this sees the flag, or hf_expect() comes after it and its caller sees the commit. */
  return __atomic_load_n(&lock->waiting, __ATOMIC_SEQ_CST) != 0;
}

#endif
