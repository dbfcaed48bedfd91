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
    if (!hf_cell_write(&given.pair->cells[version & 1], given.count, version, given.salt, given.values)) result = HF_E_INVAL;
  }
  if (result == 0) __atomic_store_n(&given.pair->version, hf_seal(2, given.salt), __ATOMIC_RELEASE);
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
  bool whole = hf_unseal(__atomic_load_n(given.word, __ATOMIC_ACQUIRE), given.salt, &value);
  if (hf_faulted(given.word)) return HF_E_FAULT;
  return whole ? hf_to_double(value) : HF_E_CORRUPT;
}

double hf_sealed_store(double address, double value, double salt) {
  struct sealed_arguments given;
  uint64_t stored;
  if (!sealed_arguments(&given, address, salt) || !sealable(value, &stored)) return HF_E_INVAL;
  __atomic_store_n(given.word, hf_seal(stored, given.salt), __ATOMIC_RELEASE);
  return hf_faulted(given.word) ? HF_E_FAULT : value;
}

double hf_sealed_cas(double address, double expected, double replacement, double salt) {
  struct sealed_arguments given;
  uint64_t from, to, value;
  if (!sealed_arguments(&given, address, salt) || !sealable(expected, &from) || !sealable(replacement, &to)) return HF_E_INVAL;
  uint64_t found = hf_seal(from, given.salt);
  (void)__atomic_compare_exchange_n(given.word, &found, hf_seal(to, given.salt), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  bool whole = hf_unseal(found, given.salt, &value);
  if (hf_faulted(given.word)) return HF_E_FAULT;
  return whole ? hf_to_double(value) : HF_E_CORRUPT;
}
