/*
 * commit.c - the lock word and the commit cell: how a change of several words becomes one store.
 *
 * Invariants:
 *   - Only the owner in the lock word writes cells and version. Who takes the lock from a dead owner finds the version that
 *     the dead one published last, or the one before it; never a mixture.
 *   - Cell `version & 1` is never written while it is current. A reader without the lock that sees the same version before
 *     and after its copy has a whole cell.
 */
#include "commit.h"
#include "internal.h"

#include "guard.h"
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

static inline void pause_cpu(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb" ::: "memory");
#endif
}

/* Of a cell's words and its version, which is put behind them: there is room for one more. */
static uint32_t checksum_of(uint64_t *words, uint32_t count, uint64_t version, uint32_t salt) {
  words[count] = version;
  return hf_crc32c_update(salt, words, (count + 1) * sizeof words[0]);
}

/*
 * The version word carries 16 bits of checksum above 48 bits of version, so that a damaged one is told from an older one: each of the
 * two cells is whole, and only this word says which is current. 2^48 commits are 300 days of ten million a second.
 */
#define VERSION_BITS 48
#define VERSION_MAX ((UINT64_C(1) << VERSION_BITS) - 1)

static uint64_t seal(uint64_t version, uint32_t salt) {
  return version | (uint64_t)(hf_crc32c_update(salt, &version, sizeof version) & 0xffff) << VERSION_BITS;
}

static bool unseal(uint64_t word, uint32_t salt, uint64_t *version) {
  *version = word & VERSION_MAX;
  return word == seal(*version, salt);
}

/* Behind the caller's values: the version word that they are of. */
static uint64_t *seen_at(double *values, uint32_t count) { return (uint64_t *)(void *)(values + count); }

double hf_cell_get(const struct cell_pair *pair, uint32_t count, uint32_t salt, double *values) {
  uint64_t *seen = seen_at(values, count);
  for (int round = 0; round < READ_ROUNDS; round++) {
    /* Pairs with the release store of hf_cell_publish(): the cell's words are those written before it. */
    uint64_t sealed = __atomic_load_n(&pair->version, __ATOMIC_ACQUIRE);
    /* Nobody has published since: the values are what a look at the cell would give. */
    if (sealed == *seen && sealed != 0) return 0;
    *seen = 0;
    uint64_t version;
    if (!unseal(sealed, salt, &version)) return HF_E_CORRUPT;
    const struct cell *cell = &pair->cells[version & 1];
    uint64_t words[HF_CELL_WORDS + 1];
    for (uint32_t i = 0; i < count; i++) words[i] = __atomic_load_n(&cell->words[i], __ATOMIC_RELAXED);
    uint64_t own = __atomic_load_n(&cell->version, __ATOMIC_RELAXED);
    uint32_t checksum = __atomic_load_n(&cell->checksum, __ATOMIC_RELAXED);
    /* The words above are read before the version is read again (Boehm, "Can seqlocks get along with programming language
       memory models?", 2012). */
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (__atomic_load_n(&pair->version, __ATOMIC_RELAXED) != sealed) {
      pause_cpu();
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

static bool write_cell(struct cell *cell, uint32_t count, uint64_t version, uint32_t salt, const double *values) {
  uint64_t words[HF_CELL_WORDS + 1];
  for (uint32_t i = 0; i < count; i++) {
    if (!hf_whole(values[i], &words[i])) return false;
  }
  for (uint32_t i = 0; i < count; i++) __atomic_store_n(&cell->words[i], words[i], __ATOMIC_RELAXED);
  __atomic_store_n(&cell->version, version, __ATOMIC_RELAXED);
  __atomic_store_n(&cell->checksum, checksum_of(words, count, version, salt), __ATOMIC_RELAXED);
  return true;
}

double hf_cell_publish(struct cell_pair *pair, uint32_t count, uint32_t salt, double *values) {
  uint64_t *seen = seen_at(values, count);
  uint64_t before = __atomic_load_n(&pair->version, __ATOMIC_RELAXED);
  uint64_t current = before & VERSION_MAX;
  /* A word that was seen was checked then. */
  bool whole = before == *seen ? before != 0 : unseal(before, salt, &current);
  *seen = 0;
  if (!whole || current == VERSION_MAX) return HF_E_CORRUPT;
  uint64_t next = current + 1;
  /* A reader that is still at the cell being overwritten must see the version move first or its words whole: the fence
     orders the version store of the commit before this one ahead of the stores below; it pairs with the reader's fence. */
  __atomic_thread_fence(__ATOMIC_RELEASE);
  if (!write_cell(&pair->cells[next & 1], count, next, salt, values)) return HF_E_INVAL;
  uint64_t sealed = seal(next, salt);
  /* THE commit. Pairs with the acquire load of hf_cell_get(). */
  __atomic_store_n(&pair->version, sealed, __ATOMIC_RELEASE);
  *seen = sealed;
  return 0;
}

double hf_lock_release(struct lock_words *lock, uint64_t owner) {
  /* Sequentially consistent, so that the load of `sleepers` is not taken before the lock is seen free: it pairs with
     hf_lock_sleep(), which stores the flag and then looks at the owner again. */
  if (!__atomic_compare_exchange_n(&lock->owner, &owner, 0, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) return HF_E_OWNER;
  if (__atomic_load_n(&lock->sleepers, __ATOMIC_SEQ_CST) != 0) {
    __atomic_store_n(&lock->sleepers, 0, __ATOMIC_SEQ_CST);
    (void)hf_futex_wake((uint32_t *)(void *)&lock->owner, INT_MAX);
  }
  return 0;
}

bool hf_lock_take(struct lock_words *lock, uint64_t owner) {
  for (int round = 0; round < SPIN_ROUNDS; round++) {
    uint64_t expected = 0;
    /* Reading first keeps the line shared while another holds the lock. */
    if (__atomic_load_n(&lock->owner, __ATOMIC_RELAXED) == 0 &&
        __atomic_compare_exchange_n(&lock->owner, &expected, owner, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
      return true;
    }
    pause_cpu();
  }
  return false;
}

bool hf_lock_is(const struct lock_words *lock, uint64_t owner) { return __atomic_load_n(&lock->owner, __ATOMIC_RELAXED) == owner; }

bool hf_awaited(const struct lock_words *lock) {
  /* After the release's full fence: either this sees the flag, or hf_expect() comes after it and its caller sees the commit. */
  return __atomic_load_n(&lock->waiting, __ATOMIC_SEQ_CST) != 0;
}

static struct lock_words *lock_at(double address) { return (struct lock_words *)hf_pointer(address, 16); }

static bool owner_word(double owner, uint64_t *out) { return hf_whole(owner, out) && *out != 0; }

struct cell_arguments {
  struct cell_pair *pair;
  double *values;
  uint32_t count;
  uint32_t salt;
};

static bool cell_arguments(struct cell_arguments *out, double cells, double count, double salt, double values) {
  out->pair = (struct cell_pair *)hf_pointer(cells, 128);
  out->values = (double *)hf_pointer(values, sizeof(double));
  return out->pair != NULL && out->values != NULL && hf_u32(count, &out->count) && out->count > 0 &&
         out->count <= HF_CELL_WORDS && hf_u32(salt, &out->salt);
}

double hf_cell_read(double cells, double count, double salt, double values) {
  struct cell_arguments given;
  if (!cell_arguments(&given, cells, count, salt, values)) return HF_E_INVAL;
  double result = hf_cell_get(given.pair, given.count, given.salt, given.values);
  return hf_faulted(given.pair) ? HF_E_FAULT : result;
}

double hf_cell_init(double cells, double count, double salt, double values) {
  struct cell_arguments given;
  if (!cell_arguments(&given, cells, count, salt, values)) return HF_E_INVAL;
  double result = 0;
  for (uint64_t version = 1; version <= 2; version++) {
    if (!write_cell(&given.pair->cells[version & 1], given.count, version, given.salt, given.values)) result = HF_E_INVAL;
  }
  if (result == 0) __atomic_store_n(&given.pair->version, seal(2, given.salt), __ATOMIC_RELEASE);
  return hf_faulted(given.pair) ? HF_E_FAULT : result;
}

double hf_begin(double lock, double owner, double cells, double count, double salt, double values) {
  struct cell_arguments given;
  struct lock_words *word = lock_at(lock);
  uint64_t self;
  if (word == NULL || !owner_word(owner, &self) || !cell_arguments(&given, cells, count, salt, values)) return HF_E_INVAL;
  if (!hf_lock_take(word, self)) return hf_faulted(word) ? HF_E_FAULT : HF_E_BUSY;
  double result = hf_cell_get(given.pair, given.count, given.salt, given.values);
  if (hf_faulted(given.pair)) result = HF_E_FAULT;
  if (result != 0) (void)hf_lock_release(word, self);
  return result;
}

static double publish_as(double lock, double owner, double cells, double count, double salt, double values, bool unlock) {
  struct cell_arguments given;
  struct lock_words *word = lock_at(lock);
  uint64_t self;
  if (word == NULL || !owner_word(owner, &self) || !cell_arguments(&given, cells, count, salt, values)) return HF_E_INVAL;
  double result = HF_E_OWNER;
  if (hf_lock_is(word, self)) {
    result = hf_cell_publish(given.pair, given.count, given.salt, given.values);
    if (result == 0 && unlock) result = hf_lock_release(word, self);
    if (result == 0) result = hf_awaited(word) ? 1 : 0;
  }
  return hf_faulted(given.pair) ? HF_E_FAULT : result;
}

double hf_commit(double lock, double owner, double cells, double count, double salt, double values) {
  return publish_as(lock, owner, cells, count, salt, values, true);
}

double hf_publish(double lock, double owner, double cells, double count, double salt, double values) {
  return publish_as(lock, owner, cells, count, salt, values, false);
}

double hf_unlock(double lock, double owner) {
  struct lock_words *word = lock_at(lock);
  uint64_t self;
  if (word == NULL || !owner_word(owner, &self)) return HF_E_INVAL;
  double result = hf_lock_release(word, self);
  return hf_faulted(word) ? HF_E_FAULT : result;
}

double hf_lock_sleep(double lock, double owner, double timeout_ms) {
  struct lock_words *word = lock_at(lock);
  uint64_t holder;
  uint32_t limit;
  if (word == NULL || !owner_word(owner, &holder) || !hf_u32(timeout_ms, &limit)) return HF_E_INVAL;
  double result = 0;
  /* Pairs with hf_lock_release(): either it sees the flag, or the load below sees the lock released. */
  __atomic_store_n(&word->sleepers, 1, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&word->owner, __ATOMIC_SEQ_CST) == holder) {
    /* The low half of the owner word is the futex word; the kernel compares it once more before it sleeps. */
    result = hf_futex_wait((uint32_t *)(void *)&word->owner, (uint32_t)holder, limit);
    if (result == -(double)EAGAIN) result = 0;
  }
  return hf_faulted(word) ? HF_E_FAULT : result;
}

double hf_expect(double lock, double unused) {
  (void)unused;
  struct lock_words *word = lock_at(lock);
  if (word == NULL) return HF_E_INVAL;
  /* In this order: a ring between the two is then seen as another bell, and the flag is set before the caller looks for a commit. */
  uint32_t bell = __atomic_load_n(&word->bell, __ATOMIC_SEQ_CST);
  __atomic_store_n(&word->waiting, 1, __ATOMIC_SEQ_CST);
  return hf_faulted(word) ? HF_E_FAULT : (double)bell;
}

double hf_ring(double lock, double count) {
  struct lock_words *word = lock_at(lock);
  int most;
  if (word == NULL || !hf_int(count, &most) || most <= 0) return HF_E_INVAL;
  double woken = 0;
  /* The flag is taken down first: who sets it anew from here on keeps it, and who set it before finds another bell than it expects. */
  if (__atomic_exchange_n(&word->waiting, 0, __ATOMIC_SEQ_CST) != 0) {
    (void)__atomic_fetch_add(&word->bell, 1, __ATOMIC_SEQ_CST);
    woken = hf_futex_wake(&word->bell, most);
    /* There may be more of them. Otherwise nobody slept, and a flag that a dead one left is gone. */
    if (woken > 0) __atomic_store_n(&word->waiting, 1, __ATOMIC_SEQ_CST);
  }
  return hf_faulted(word) ? HF_E_FAULT : woken;
}

struct sealed_arguments {
  uint64_t *word;
  uint32_t salt;
};

static bool sealed_arguments(struct sealed_arguments *out, double address, double salt) {
  out->word = (uint64_t *)hf_pointer(address, 8);
  return out->word != NULL && hf_u32(salt, &out->salt);
}

static bool sealable(double value, uint64_t *out) { return hf_whole(value, out) && *out <= VERSION_MAX; }

double hf_sealed_load(double address, double salt) {
  struct sealed_arguments given;
  if (!sealed_arguments(&given, address, salt)) return HF_E_INVAL;
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  uint64_t value;
  bool whole = unseal(__atomic_load_n(given.word, __ATOMIC_ACQUIRE), given.salt, &value);
  if (hf_faulted(given.word)) return HF_E_FAULT;
  return whole ? hf_to_double(value) : HF_E_CORRUPT;
}

double hf_sealed_store(double address, double value, double salt) {
  struct sealed_arguments given;
  uint64_t stored;
  if (!sealed_arguments(&given, address, salt) || !sealable(value, &stored)) return HF_E_INVAL;
  __atomic_store_n(given.word, seal(stored, given.salt), __ATOMIC_RELEASE);
  return hf_faulted(given.word) ? HF_E_FAULT : value;
}

double hf_sealed_cas(double address, double expected, double replacement, double salt) {
  struct sealed_arguments given;
  uint64_t from, to, value;
  if (!sealed_arguments(&given, address, salt) || !sealable(expected, &from) || !sealable(replacement, &to)) return HF_E_INVAL;
  uint64_t found = seal(from, given.salt);
  (void)__atomic_compare_exchange_n(given.word, &found, seal(to, given.salt), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  bool whole = unseal(found, given.salt, &value);
  if (hf_faulted(given.word)) return HF_E_FAULT;
  return whole ? hf_to_double(value) : HF_E_CORRUPT;
}
