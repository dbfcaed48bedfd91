/* commit_test.c - the lock word and the double cell, alone and with owners that are killed at any moment. */
#include "test.h"

enum { VERSION_AT = 112, CHECKSUM_AT = 120, SALT = 0x5eed };

struct place {
  _Alignas(128) uint64_t lock[4];
  _Alignas(128) unsigned char cells[HF_CELL_PAIR_BYTES];
};

static _Alignas(128) struct place place;
static _Alignas(8) double values[16];

#define LOCK address_of(place.lock)
#define CELLS address_of(place.cells)
#define VALUES address_of(values)

static uint64_t *version_word(void) { return (uint64_t *)(void *)place.cells; }

/* What the word says without its check, which must hold; the library's own crc32c.c is held to known answers by its test. */
static uint64_t sealed(uint64_t version) {
  return version | (uint64_t)(hf_crc32c_update(SALT, &version, 8) & 0xffff) << 48;
}

static uint64_t version(void) {
  uint64_t bare = *version_word() & ((UINT64_C(1) << 48) - 1);
  CHECK_WORD(*version_word(), sealed(bare));
  return bare;
}

static unsigned char *current_cell(void) { return place.cells + 128 + (*version_word() & 1) * 128; }

static void set_values(double first) {
  for (int i = 0; i < 16; i++) values[i] = first + i;
}

static void check_values(double first, int count) {
  for (int i = 0; i < count; i++) CHECK_NUMBER(values[i], first + i);
}

/* The version that the values are of. */
static uint64_t seen(int count) {
  uint64_t word;
  memcpy(&word, &values[count], sizeof word);
  return word;
}

static void start(int count) {
  memset(&place, 0, sizeof place);
  set_values(100);
  NEED(hf_cell_init(CELLS, count, SALT, VALUES) == 0);
  set_values(-1);
}

static void init_and_read(void) {
  for (int count = 1; count <= 14; count++) {
    start(count);
    CHECK_WORD(version(), 2);
    CHECK_NUMBER(hf_cell_read(CELLS, count, SALT, VALUES), 0);
    check_values(100, count);
    CHECK_WORD(seen(count), *version_word());
    CHECK_NUMBER(values[count + 1], -1.0 + count + 1); /* not one more than asked for */
  }
  values[0] = 9007199254740991.0;
  CHECK_NUMBER(hf_cell_init(CELLS, 1, 4294967295.0, VALUES), 0);
  values[0] = 0;
  CHECK_NUMBER(hf_cell_read(CELLS, 1, 4294967295.0, VALUES), 0);
  CHECK_NUMBER(values[0], 9007199254740991.0);
}

static void begin_commit(void) {
  start(3);
  for (int i = 0; i < 10; i++) {
    CHECK_NUMBER(hf_begin(LOCK, 7, CELLS, 3, SALT, VALUES), 0);
    check_values(100 + i, 3);
    CHECK_WORD(place.lock[0], 7);
    set_values(101 + i);
    CHECK_NUMBER(hf_commit(LOCK, 7, CELLS, 3, SALT, VALUES), 0);
    CHECK_WORD(place.lock[0], 0);
    CHECK_WORD(version(), 3 + i);
    set_values(0);
    CHECK_NUMBER(hf_cell_read(CELLS, 3, SALT, VALUES), 0);
    check_values(101 + i, 3);
  }
}

/* Values of the current version are the caller's until it says that they are none. */
static void own_values_are_kept(void) {
  enum { COUNT = 3 };
  start(COUNT);
  CHECK_NUMBER(hf_begin(LOCK, 7, CELLS, COUNT, SALT, VALUES), 0);
  for (int i = 0; i < COUNT; i++) values[i] = 500 + i;
  CHECK_NUMBER(hf_commit(LOCK, 7, CELLS, COUNT, SALT, VALUES), 0);
  CHECK_WORD(seen(COUNT), *version_word());
  current_cell()[0] ^= 1; /* not looked at */
  CHECK_NUMBER(hf_begin(LOCK, 7, CELLS, COUNT, SALT, VALUES), 0);
  check_values(500, COUNT);
  CHECK_NUMBER(hf_unlock(LOCK, 7), 0);
  values[COUNT] = 0;
  CHECK_NUMBER(hf_begin(LOCK, 7, CELLS, COUNT, SALT, VALUES), HF_E_CORRUPT);
  CHECK_WORD(seen(COUNT), 0);
  CHECK_WORD(place.lock[0], 0);

  start(COUNT);
  CHECK_NUMBER(hf_cell_read(CELLS, COUNT, SALT, VALUES), 0);
  double others[COUNT + 1] = {0};
  CHECK_NUMBER(hf_begin(LOCK, 9, CELLS, COUNT, SALT, address_of(others)), 0);
  for (int i = 0; i < COUNT; i++) others[i] = 700 + i;
  CHECK_NUMBER(hf_commit(LOCK, 9, CELLS, COUNT, SALT, address_of(others)), 0);
  CHECK_NUMBER(hf_cell_read(CELLS, COUNT, SALT, VALUES), 0);
  check_values(700, COUNT);
  /* What was not published counts for nothing. */
  CHECK_NUMBER(hf_begin(LOCK, 7, CELLS, COUNT, SALT, VALUES), 0);
  values[1] = -1;
  CHECK_NUMBER(hf_commit(LOCK, 7, CELLS, COUNT, SALT, VALUES), HF_E_INVAL);
  CHECK_WORD(seen(COUNT), 0);
  CHECK_NUMBER(hf_cell_read(CELLS, COUNT, SALT, VALUES), 0);
  check_values(700, COUNT);
}

static void publish_keeps_the_lock(void) {
  start(2);
  const double owner = 9007199254740991.0;
  CHECK_NUMBER(hf_begin(LOCK, owner, CELLS, 2, SALT, VALUES), 0);
  set_values(5);
  CHECK_NUMBER(hf_publish(LOCK, owner, CELLS, 2, SALT, VALUES), 0);
  CHECK_WORD(place.lock[0], (uint64_t)owner);
  set_values(6);
  CHECK_NUMBER(hf_publish(LOCK, owner, CELLS, 2, SALT, VALUES), 0);
  CHECK_NUMBER(hf_begin(LOCK, 8, CELLS, 2, SALT, VALUES), HF_E_BUSY);
  CHECK_NUMBER(hf_cell_read(CELLS, 2, SALT, VALUES), 0); /* reading needs no lock */
  check_values(6, 2);
  CHECK_NUMBER(hf_unlock(LOCK, owner), 0);
  CHECK_WORD(place.lock[0], 0);
  CHECK_NUMBER(hf_begin(LOCK, 8, CELLS, 2, SALT, VALUES), 0);
}

static void only_the_owner(void) {
  start(2);
  set_values(5);
  /* Nobody's, then another's. */
  for (int held = 0; held < 2; held++) {
    place.lock[0] = held != 0 ? 8 : 0;
    CHECK_NUMBER(hf_commit(LOCK, 7, CELLS, 2, SALT, VALUES), HF_E_OWNER);
    CHECK_NUMBER(hf_publish(LOCK, 7, CELLS, 2, SALT, VALUES), HF_E_OWNER);
    CHECK_NUMBER(hf_unlock(LOCK, 7), HF_E_OWNER);
    CHECK_WORD(place.lock[0], held != 0 ? 8 : 0);
  }
  CHECK_NUMBER(hf_begin(LOCK, 7, CELLS, 2, SALT, VALUES), HF_E_BUSY);
  CHECK_WORD(place.lock[0], 8);
  CHECK_WORD(version(), 2);
  CHECK_NUMBER(hf_cell_read(CELLS, 2, SALT, VALUES), 0);
  check_values(100, 2);
  /* The lock is not re-entrant. */
  CHECK_NUMBER(hf_begin(LOCK, 8, CELLS, 2, SALT, VALUES), HF_E_BUSY);
  /* Owners whose low halves are the same are different. */
  place.lock[0] = (UINT64_C(1) << 32) + 7;
  CHECK_NUMBER(hf_unlock(LOCK, 7), HF_E_OWNER);
}

/* Every byte that the current cell's checksum covers, and the checksum; the other cell and what is unused do not matter. */
static void damage_is_found(void) {
  enum { COUNT = 3 };
  for (int round = 0; round < 2; round++) {
    for (size_t i = 0; i < 128; i++) {
      for (unsigned flip = 1; flip < 256; flip = flip * 2 + 1) {
        start(COUNT);
        if (round == 1) {
          NEED(hf_begin(LOCK, 7, CELLS, COUNT, SALT, VALUES) == 0 && hf_commit(LOCK, 7, CELLS, COUNT, SALT, VALUES) == 0);
        }
        unsigned char *byte = current_cell() + i;
        *byte = (unsigned char)(*byte ^ flip);
        bool matters = i < 8 * COUNT || (i >= VERSION_AT && i < CHECKSUM_AT + 4);
        double expected = matters ? HF_E_CORRUPT : 0;
        values[COUNT] = 0;
        if (!CHECK_NUMBER(hf_cell_read(CELLS, COUNT, SALT, VALUES), expected)) printf("  byte %zu\n", i);
        CHECK_NUMBER(hf_begin(LOCK, 7, CELLS, COUNT, SALT, VALUES), expected);
        CHECK_WORD(place.lock[0], matters ? 0 : 7); /* a lock that is not taken is not kept */
        *byte = (unsigned char)(*byte ^ flip);

        unsigned char *other = place.cells + 128 + (1 - (*version_word() & 1)) * 128 + i;
        *other = (unsigned char)(*other ^ flip);
        CHECK_NUMBER(hf_cell_read(CELLS, COUNT, SALT, VALUES), 0);
      }
    }
    /* A version word that no commit wrote. */
    for (unsigned bit = 0; bit < 64; bit++) {
      start(COUNT);
      *version_word() ^= UINT64_C(1) << bit;
      CHECK_NUMBER(hf_cell_read(CELLS, COUNT, SALT, VALUES), HF_E_CORRUPT);
    }
  }
  /* The version before: its cell is whole, so that only the word's own check tells. */
  start(COUNT);
  uint64_t word = *version_word();
  *version_word() = (word & ~UINT64_C(3)) | 1;
  CHECK_NUMBER(hf_cell_read(CELLS, COUNT, SALT, VALUES), HF_E_CORRUPT);
  place.lock[0] = 7;
  CHECK_NUMBER(hf_publish(LOCK, 7, CELLS, COUNT, SALT, VALUES), HF_E_CORRUPT);
  place.lock[0] = 0;
  CHECK_NUMBER(hf_begin(LOCK, 7, CELLS, COUNT, SALT, VALUES), HF_E_CORRUPT);
  CHECK_WORD(place.lock[0], 0);
  *version_word() = sealed(1);
  CHECK_NUMBER(hf_cell_read(CELLS, COUNT, SALT, VALUES), 0);
  start(COUNT);
  CHECK_NUMBER(hf_cell_read(CELLS, COUNT, SALT + 1, VALUES), HF_E_CORRUPT);
  CHECK_NUMBER(hf_cell_read(CELLS, COUNT + 1, SALT, VALUES), HF_E_CORRUPT);
  CHECK_NUMBER(hf_cell_read(CELLS, COUNT - 1, SALT, VALUES), HF_E_CORRUPT);
  memset(&place, 0, sizeof place);
  CHECK_NUMBER(hf_cell_read(CELLS, COUNT, SALT, VALUES), HF_E_CORRUPT); /* zeros are no cell */
}

/* A word that no double holds, under a checksum that is right. */
static void impossible_words_are_found(void) {
  start(1);
  unsigned char *cell = current_cell();
  uint64_t word = UINT64_C(1) << 53;
  memcpy(cell, &word, sizeof word);
  uint32_t sum = hf_crc32c_update(SALT, cell, 8);
  sum = hf_crc32c_update(sum, cell + VERSION_AT, 8);
  memcpy(cell + CHECKSUM_AT, &sum, sizeof sum);
  CHECK_NUMBER(hf_cell_read(CELLS, 1, SALT, VALUES), HF_E_CORRUPT);
  word--;
  memcpy(cell, &word, sizeof word);
  sum = hf_crc32c_update(SALT, cell, 8);
  sum = hf_crc32c_update(sum, cell + VERSION_AT, 8);
  memcpy(cell + CHECKSUM_AT, &sum, sizeof sum);
  CHECK_NUMBER(hf_cell_read(CELLS, 1, SALT, VALUES), 0);
}

static void the_last_version_is_the_end(void) {
  start(2);
  place.lock[0] = 7;
  *version_word() = sealed((UINT64_C(1) << 48) - 1);
  set_values(5);
  struct place before = place;
  CHECK_NUMBER(hf_publish(LOCK, 7, CELLS, 2, SALT, VALUES), HF_E_CORRUPT);
  CHECK_NUMBER(hf_commit(LOCK, 7, CELLS, 2, SALT, VALUES), HF_E_CORRUPT);
  CHECK(memcmp(&before, &place, sizeof place) == 0);
}

static void bad_values_publish_nothing(void) {
  start(3);
  NEED(hf_begin(LOCK, 7, CELLS, 3, SALT, VALUES) == 0);
  struct place before = place;
  for (int i = -1; i < TEST_BAD_NUMBERS; i++) {
    for (int at = 0; at < 3; at++) {
      set_values(5);
      values[at] = i < 0 ? -1 : test_bad_number(i);
      CHECK_NUMBER(hf_publish(LOCK, 7, CELLS, 3, SALT, VALUES), HF_E_INVAL);
      CHECK_NUMBER(hf_commit(LOCK, 7, CELLS, 3, SALT, VALUES), HF_E_INVAL);
      CHECK_NUMBER(hf_cell_init(CELLS, 3, SALT, VALUES), HF_E_INVAL);
    }
  }
  CHECK(memcmp(&before, &place, sizeof place) == 0); /* the lock is kept */
}

static void refuses(void) {
  static double (*const cell_functions[])(double, double, double, double) = {hf_cell_read, hf_cell_init};
  static double (*const owner_functions[])(double, double, double, double, double, double) = {hf_begin, hf_commit, hf_publish};
  start(2);
  for (int i = 0; i < 2; i++) {
    double (*call)(double, double, double, double) = cell_functions[i];
    CHECK_REFUSES_ADDRESS(CELLS, 128, call(BAD, 2, SALT, VALUES));
    CHECK_REFUSES(call(CELLS, BAD, SALT, VALUES));
    CHECK_NUMBER(call(CELLS, 0, SALT, VALUES), HF_E_INVAL);
    CHECK_NUMBER(call(CELLS, 15, SALT, VALUES), HF_E_INVAL);
    CHECK_REFUSES(call(CELLS, 2, BAD, VALUES));
    CHECK_NUMBER(call(CELLS, 2, 4294967296.0, VALUES), HF_E_INVAL);
    CHECK_REFUSES_ADDRESS(VALUES, 8, call(CELLS, 2, SALT, BAD));
  }
  for (int i = 0; i < 3; i++) {
    double (*call)(double, double, double, double, double, double) = owner_functions[i];
    place.lock[0] = i == 0 ? 0 : 7;
    CHECK_REFUSES_ADDRESS(LOCK, 16, call(BAD, 7, CELLS, 2, SALT, VALUES));
    CHECK_REFUSES(call(LOCK, BAD, CELLS, 2, SALT, VALUES));
    CHECK_NUMBER(call(LOCK, 0, CELLS, 2, SALT, VALUES), HF_E_INVAL);
    CHECK_REFUSES_ADDRESS(CELLS, 128, call(LOCK, 7, BAD, 2, SALT, VALUES));
    CHECK_REFUSES(call(LOCK, 7, CELLS, BAD, SALT, VALUES));
    CHECK_NUMBER(call(LOCK, 7, CELLS, 0, SALT, VALUES), HF_E_INVAL);
    CHECK_NUMBER(call(LOCK, 7, CELLS, 15, SALT, VALUES), HF_E_INVAL);
    CHECK_REFUSES(call(LOCK, 7, CELLS, 2, BAD, VALUES));
    CHECK_NUMBER(call(LOCK, 7, CELLS, 2, 4294967296.0, VALUES), HF_E_INVAL);
    CHECK_REFUSES_ADDRESS(VALUES, 8, call(LOCK, 7, CELLS, 2, SALT, BAD));
    CHECK_WORD(place.lock[0], i == 0 ? 0 : 7);
  }
  CHECK_REFUSES_ADDRESS(LOCK, 16, hf_unlock(BAD, 7));
  CHECK_REFUSES(hf_unlock(LOCK, BAD));
  CHECK_NUMBER(hf_unlock(LOCK, 0), HF_E_INVAL);
  CHECK_REFUSES_ADDRESS(LOCK, 16, hf_lock_sleep(BAD, 7, 1));
  CHECK_REFUSES(hf_lock_sleep(LOCK, BAD, 1));
  CHECK_NUMBER(hf_lock_sleep(LOCK, 0, 1), HF_E_INVAL);
  CHECK_REFUSES(hf_lock_sleep(LOCK, 7, BAD));
  CHECK_WORD(place.lock[0], 7);
  CHECK_WORD(place.lock[1], 0);
  CHECK_WORD(version(), 2);
}

static void sleeps_while_it_is_held(void) {
  start(1);
  place.lock[0] = 7;
  CHECK_NUMBER(hf_lock_sleep(LOCK, 8, 1000), 0); /* another's already: try again */
  CHECK_NUMBER(hf_lock_sleep(LOCK, 7, 1), -ETIMEDOUT);
  CHECK_NUMBER(hf_unlock(LOCK, 7), 0);
  CHECK_NUMBER(hf_lock_sleep(LOCK, 7, 1000), 0);
}

/* Sleepers are woken by the release; none sleeps on although the lock is free. Each of them takes it in turn. */
static void release_wakes_sleepers(void) {
  enum { CHILDREN = 3, TURNS = 300 };
  struct place *shared = test_shared(sizeof *shared);
  const double lock = address_of(shared->lock), cells = address_of(shared->cells);
  values[0] = 0;
  NEED(hf_cell_init(cells, 1, SALT, VALUES) == 0);
  pid_t children[CHILDREN];
  for (int i = 0; i < CHILDREN; i++) {
    children[i] = test_fork();
    if (children[i] != 0) continue;
    const double self = i + 1;
    for (int turn = 0; turn < TURNS; turn++) {
      double result;
      while ((result = hf_begin(lock, self, cells, 1, SALT, VALUES)) == HF_E_BUSY) {
        double holder = hf_load64(lock, 0);
        /* A lost wake-up would need all of these 20 s. */
        if (holder > 0 && !CHECK_NUMBER(hf_lock_sleep(lock, holder, 20000), 0)) test_child_end();
      }
      CHECK_NUMBER(result, 0);
      values[0]++;
      if (turn % 8 == 0) test_sleep_us(100); /* long enough for the others to fall asleep */
      CHECK_NUMBER(hf_commit(lock, self, cells, 1, SALT, VALUES), 0);
    }
    test_child_end();
  }
  for (int i = 0; i < CHILDREN; i++) CHECK_WORD(test_reap(children[i]), 0);
  CHECK_NUMBER(hf_cell_read(cells, 1, SALT, VALUES), 0);
  CHECK_NUMBER(values[0], CHILDREN * TURNS);
  NEED(munmap(shared, sizeof *shared) == 0);
}

/* ---- owners killed at any moment -------------------------------------------------------------------------------------- */

enum { WRITERS = 2, KILLS = 250, WORDS = 14, MAX_OWNERS = KILLS + WRITERS + 1 };

struct arena {
  struct place place;
  uint64_t stop;
  uint64_t dead[MAX_OWNERS];         /* 1 once the parent has reaped the owner: the proof of its death */
  uint64_t acknowledged[MAX_OWNERS]; /* commits that returned to the owner */
  uint64_t reads;
};

/* Each commit adds one to word 0; the others follow from it. */
static bool is_whole(const double *words) {
  for (int i = 1; i < WORDS; i++) {
    if (words[i] != words[0] * (i + 1)) return false;
  }
  return true;
}

static void write_until_killed(struct arena *arena, uint64_t self) {
  const double lock = address_of(arena->place.lock), cells = address_of(arena->place.cells);
  for (uint64_t turn = 0; __atomic_load_n(&arena->stop, __ATOMIC_RELAXED) == 0; turn++) {
    double result = hf_begin(lock, (double)self, cells, WORDS, SALT, VALUES);
    if (result == HF_E_BUSY) {
      double holder = hf_load64(lock, 0);
      if (holder <= 0) continue;
      if (!CHECK(holder < (double)MAX_OWNERS)) break;
      if (__atomic_load_n(&arena->dead[(int)holder], __ATOMIC_ACQUIRE) == 0) {
        (void)hf_lock_sleep(lock, holder, 1);
        continue;
      }
      /* The holder is dead: exactly one of those who see that takes the lock from it, and finds a whole cell. */
      if (hf_cas64(lock, holder, (double)self) != holder) continue;
      result = hf_cell_read(cells, WORDS, SALT, VALUES);
    }
    if (!CHECK_NUMBER(result, 0) || !CHECK(is_whole(values))) break;
    for (int i = 0; i < WORDS; i++) values[i] += i + 1;
    if (turn % 3 == 0) {
      if (!CHECK_NUMBER(hf_publish(lock, (double)self, cells, WORDS, SALT, VALUES), 0)) break;
      arena->acknowledged[self]++;
      if (!CHECK_NUMBER(hf_unlock(lock, (double)self), 0)) break;
    } else {
      if (!CHECK_NUMBER(hf_commit(lock, (double)self, cells, WORDS, SALT, VALUES), 0)) break;
      arena->acknowledged[self]++;
    }
  }
  test_child_end();
}

static void read_all_the_time(struct arena *arena) {
  double last = 0;
  while (__atomic_load_n(&arena->stop, __ATOMIC_RELAXED) == 0) {
    double result = hf_cell_read(address_of(arena->place.cells), WORDS, SALT, VALUES);
    if (result == -EAGAIN) continue;
    if (!CHECK_NUMBER(result, 0) || !CHECK(is_whole(values)) || !CHECK(values[0] >= last)) break;
    last = values[0];
    arena->reads++;
  }
  test_child_end();
}

static pid_t start_writer(struct arena *arena, uint64_t owner) {
  pid_t child = test_fork();
  if (child == 0) write_until_killed(arena, owner);
  return child;
}

static void survives_killed_owners(void) {
  struct arena *arena = test_shared(sizeof *arena);
  const double cells = address_of(arena->place.cells);
  uint64_t state = (uint64_t)time(NULL) | 1;
  printf("survives_killed_owners: seed %" PRIu64 "\n", state);
  memset(values, 0, sizeof values);
  NEED(hf_cell_init(cells, WORDS, SALT, VALUES) == 0);
  pid_t reader = test_fork();
  if (reader == 0) read_all_the_time(arena);

  pid_t writers[WRITERS];
  uint64_t owners[WRITERS], next = 1, held = 0;
  for (int i = 0; i < WRITERS; i++) {
    owners[i] = next++;
    writers[i] = start_writer(arena, owners[i]);
  }
  for (int i = 0; i < KILLS && test_checks_failed == 0; i++) {
    test_sleep_us((long)(test_random(&state) % 5000));
    int victim = (int)(test_random(&state) % WRITERS);
    NEED(kill(writers[victim], SIGKILL) == 0);
    CHECK_WORD(test_reap(writers[victim]), 1000 + SIGKILL);
    held += __atomic_load_n(&arena->place.lock[0], __ATOMIC_SEQ_CST) == owners[victim];
    __atomic_store_n(&arena->dead[owners[victim]], 1, __ATOMIC_RELEASE);
    owners[victim] = next++;
    writers[victim] = start_writer(arena, owners[victim]);
  }
  __atomic_store_n(&arena->stop, 1, __ATOMIC_SEQ_CST);
  for (int i = 0; i < WRITERS; i++) CHECK_WORD(test_reap(writers[i]), 0);
  CHECK_WORD(test_reap(reader), 0);

  CHECK_NUMBER(hf_cell_read(cells, WORDS, SALT, VALUES), 0);
  CHECK(is_whole(values));
  uint64_t acknowledged = 0;
  for (int i = 0; i < MAX_OWNERS; i++) acknowledged += arena->acknowledged[i];
  /* Every acknowledged commit is there; a killed writer may have made one more. */
  CHECK(values[0] >= (double)acknowledged);
  CHECK(values[0] <= (double)(acknowledged + KILLS));
  CHECK(acknowledged > 0 && arena->reads > 0);
  CHECK(held > 0); /* else this never tested a takeover */
  NEED(munmap(arena, sizeof *arena) == 0);
}

/* ---- words that stand alone -------------------------------------------------------------------------------------------- */

static _Alignas(8) uint64_t word;

#define WORD address_of(&word)

static const double sealed_values[] = {0, 1, 2, 65535, 65536, 4294967295.0, 4294967296.0, 281474976710654.0, HF_SEALED_MAX};

enum { SEALED_VALUES = sizeof sealed_values / sizeof sealed_values[0] };

static void sealed_words(void) {
  for (int i = 0; i < SEALED_VALUES; i++) {
    const double value = sealed_values[i];
    word = UINT64_MAX; /* a store does not look at what was there */
    CHECK_NUMBER(hf_sealed_store(WORD, value, SALT), value);
    CHECK_WORD(word, sealed((uint64_t)value));
    CHECK_NUMBER(hf_sealed_load(WORD, SALT), value);
    for (int j = 0; j < SEALED_VALUES; j++) {
      const double to = sealed_values[j];
      (void)hf_sealed_store(WORD, value, SALT);
      CHECK_NUMBER(hf_sealed_cas(WORD, value, to, SALT), value);
      CHECK_WORD(word, sealed((uint64_t)to));
      if (i == j) continue;
      CHECK_NUMBER(hf_sealed_cas(WORD, value, 7, SALT), to); /* lost: nothing is stored */
      CHECK_WORD(word, sealed((uint64_t)to));
    }
  }
}

static void sealed_damage_is_found(void) {
  for (int i = 0; i < SEALED_VALUES; i++) {
    const double value = sealed_values[i];
    for (int bit = 0; bit < 64; bit++) {
      (void)hf_sealed_store(WORD, value, SALT);
      const uint64_t damaged = word ^= UINT64_C(1) << bit;
      CHECK_NUMBER(hf_sealed_load(WORD, SALT), HF_E_CORRUPT);
      CHECK_NUMBER(hf_sealed_cas(WORD, value, 7, SALT), HF_E_CORRUPT);
      CHECK_NUMBER(hf_sealed_cas(WORD, (double)(damaged & ((UINT64_C(1) << 48) - 1)), 7, SALT), HF_E_CORRUPT);
      CHECK_WORD(word, damaged);
    }
    /* A word of another file. */
    (void)hf_sealed_store(WORD, value, SALT + 1);
    CHECK_NUMBER(hf_sealed_load(WORD, SALT), HF_E_CORRUPT);
    CHECK_NUMBER(hf_sealed_load(WORD, SALT + 1), value);
  }
  /* What a hole in a file or stray bytes leave. */
  static const uint64_t stray[] = {0, UINT64_MAX, 1, UINT64_C(0x0123456789abcdef)};
  for (size_t i = 0; i < sizeof stray / sizeof stray[0]; i++) {
    word = stray[i];
    CHECK_NUMBER(hf_sealed_load(WORD, SALT), HF_E_CORRUPT);
  }
}

static void sealed_refuses(void) {
  (void)hf_sealed_store(WORD, 5, SALT);
  const uint64_t before = word;
  CHECK_REFUSES_ADDRESS(WORD, 8, hf_sealed_load(BAD, SALT));
  CHECK_REFUSES_ADDRESS(WORD, 8, hf_sealed_store(BAD, 6, SALT));
  CHECK_REFUSES_ADDRESS(WORD, 8, hf_sealed_cas(BAD, 5, 6, SALT));
  CHECK_REFUSES(hf_sealed_load(WORD, BAD));
  CHECK_REFUSES(hf_sealed_store(WORD, BAD, SALT));
  CHECK_REFUSES(hf_sealed_store(WORD, 6, BAD));
  CHECK_REFUSES(hf_sealed_cas(WORD, BAD, 6, SALT));
  CHECK_REFUSES(hf_sealed_cas(WORD, 5, BAD, SALT));
  CHECK_REFUSES(hf_sealed_cas(WORD, 5, 6, BAD));
  CHECK_NUMBER(hf_sealed_store(WORD, HF_SEALED_MAX + 1, SALT), HF_E_INVAL);
  CHECK_NUMBER(hf_sealed_cas(WORD, 5, HF_SEALED_MAX + 1, SALT), HF_E_INVAL);
  CHECK_NUMBER(hf_sealed_load(WORD, 4294967296.0), HF_E_INVAL);
  CHECK_WORD(word, before);
}

struct sealed_arena {
  _Alignas(64) uint64_t counter; /* sealed */
  _Alignas(64) uint64_t data;
  _Alignas(64) uint64_t published; /* sealed */
};

/* Each increment by compare-exchange succeeds once; and what is written before a store is there for who loads its value. */
static void sealed_contended(void) {
  enum { ADDERS = 3, TIMES = 100000 };
  struct sealed_arena *arena = test_shared(sizeof *arena);
  const double counter = address_of(&arena->counter), published = address_of(&arena->published);
  (void)hf_sealed_store(counter, 0, SALT);
  (void)hf_sealed_store(published, 0, SALT);
  pid_t children[ADDERS + 1];
  for (int i = 0; i <= ADDERS; i++) {
    children[i] = test_fork();
    if (children[i] != 0) continue;
    for (int round = 1; round <= TIMES; round++) {
      if (i == ADDERS) {
        __atomic_store_n(&arena->data, (uint64_t)round, __ATOMIC_RELAXED);
        (void)hf_sealed_store(published, round, SALT);
        continue;
      }
      double seen = hf_sealed_load(counter, SALT);
      for (;;) {
        NEED(seen >= 0);
        double found = hf_sealed_cas(counter, seen, seen + 1, SALT);
        if (found == seen) break;
        seen = found;
      }
    }
    test_child_end();
  }
  double seen;
  do {
    seen = hf_sealed_load(published, SALT);
    CHECK(seen >= 0 && (double)__atomic_load_n(&arena->data, __ATOMIC_RELAXED) >= seen);
  } while (seen < (double)TIMES && test_checks_failed < 100);
  for (int i = 0; i <= ADDERS; i++) CHECK_WORD(test_reap(children[i]), 0);
  CHECK_NUMBER(hf_sealed_load(counter, SALT), (double)(ADDERS * TIMES));
  NEED(munmap(arena, sizeof *arena) == 0);
}

static uint32_t *waiting_flag(void) { return (uint32_t *)(void *)place.lock + 3; }
static uint32_t *bell(void) { return (uint32_t *)(void *)place.lock + 4; }

static void a_commit_tells_of_those_who_wait(void) {
  start(2);
  CHECK_NUMBER(hf_ring(LOCK, 1), 0);
  CHECK_WORD(*bell(), 0);
  *bell() = UINT32_MAX;
  CHECK_NUMBER(hf_expect(LOCK, 0), 4294967295.0);
  CHECK_WORD(*waiting_flag(), 1);
  CHECK_NUMBER(hf_begin(LOCK, 7, CELLS, 2, SALT, VALUES), 0);
  CHECK_NUMBER(hf_publish(LOCK, 7, CELLS, 2, SALT, VALUES), 1);
  CHECK_NUMBER(hf_commit(LOCK, 7, CELLS, 2, SALT, VALUES), 1);
  CHECK_WORD(place.lock[0], 0);
  CHECK_NUMBER(hf_ring(LOCK, 1), 0); /* nobody sleeps */
  CHECK_WORD(*bell(), 0);
  CHECK_WORD(*waiting_flag(), 0);
  CHECK_NUMBER(hf_begin(LOCK, 7, CELLS, 2, SALT, VALUES), 0);
  CHECK_NUMBER(hf_commit(LOCK, 7, CELLS, 2, SALT, VALUES), 0);
  CHECK_REFUSES_ADDRESS(LOCK, 16, hf_expect(BAD, 0));
  CHECK_REFUSES_ADDRESS(LOCK, 16, hf_ring(BAD, 1));
  CHECK_REFUSES(hf_ring(LOCK, BAD));
  CHECK_NUMBER(hf_ring(LOCK, 0), HF_E_INVAL);
}

/* A consumer that sleeps on the bell gets every one of many commits; it would hang with one wake lost (up to 20 s, then the test fails). */
static void rings_reach_sleepers(void) {
  enum { COMMITS = 20000 };
  struct bell_arena {
    uint64_t lock[4];
    _Alignas(128) unsigned char cells[HF_CELL_PAIR_BYTES];
    uint64_t late;
  } *arena = test_shared(sizeof *arena);
  double lock = address_of(arena->lock), cells = address_of(arena->cells);
  set_values(0);
  NEED(hf_cell_init(cells, 1, SALT, VALUES) == 0);
  pid_t consumer = test_fork();
  if (consumer == 0) {
    values[1] = 0;
    double seen_count = 0;
    while (seen_count < (double)COMMITS) {
      double expected = hf_expect(lock, 0);
      if (!CHECK_NUMBER(hf_cell_read(cells, 1, SALT, VALUES), 0)) break;
      if (values[0] > seen_count) {
        seen_count = values[0];
        continue;
      }
      double result = hf_wait32(lock + HF_BELL_OFFSET, expected, 20000);
      if (!CHECK(result == 0 || result == -EAGAIN)) break;
    }
    test_child_end();
  }
  double own[2] = {0, 0};
  for (int i = 1; i <= COMMITS; i++) {
    double begun;
    while ((begun = hf_begin(lock, 5, cells, 1, SALT, address_of(own))) == HF_E_BUSY) {
    }
    CHECK_NUMBER(begun, 0);
    own[0] = i;
    if (hf_commit(lock, 5, cells, 1, SALT, address_of(own)) == 1) CHECK(hf_ring(lock, 1) >= 0);
    if (i % 64 == 0) test_sleep_us(50); /* lets it fall asleep */
  }
  CHECK_WORD(test_reap(consumer), 0);
  NEED(munmap(arena, sizeof *arena) == 0);
}

int main(void) {
  RUN(init_and_read);
  RUN(begin_commit);
  RUN(own_values_are_kept);
  RUN(a_commit_tells_of_those_who_wait);
  RUN(rings_reach_sleepers);
  RUN(publish_keeps_the_lock);
  RUN(only_the_owner);
  RUN(damage_is_found);
  RUN(impossible_words_are_found);
  RUN(the_last_version_is_the_end);
  RUN(bad_values_publish_nothing);
  RUN(refuses);
  RUN(sleeps_while_it_is_held);
  RUN(release_wakes_sleepers);
  RUN(survives_killed_owners);
  RUN(sealed_words);
  RUN(sealed_damage_is_found);
  RUN(sealed_refuses);
  RUN(sealed_contended);
  return test_report();
}
