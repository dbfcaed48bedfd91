/* atomic.c - signed 64-bit cells, shared between processes. */
#include "internal.h"

#include "guard.h"

/* Arithmetic goes through uint64_t, where wrapping is defined (C17 6.2.5p9), and back; the conversion of a value above
   INT64_MAX is implementation-defined and wraps in gcc and clang. */
typedef uint64_t hf_cell;

_Static_assert(__GCC_ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics must be lock-free to be address-free");

static inline hf_cell *cell_at(double address) { return (hf_cell *)hf_pointer(address, sizeof(hf_cell)); }

/* The functions below end in a call of this where something may be broken, so that the usual way needs no stack frame. */
static __attribute__((noinline, cold)) double number_unless_broken(const hf_cell *cell, hf_cell value) {
  return hf_is_broken((uintptr_t)cell) ? HF_E_FAULT : hf_to_double(value);
}

static inline double number_from(const hf_cell *cell, hf_cell value) {
  return __builtin_expect(hf_any_broken(), 0) ? number_unless_broken(cell, value) : hf_to_double(value);
}

double hf_load64(double address, double unused) {
  (void)unused;
  const hf_cell *cell = cell_at(address);
  if (cell == NULL) return HF_E_INVAL;
  hf_cell value = __atomic_load_n(cell, __ATOMIC_SEQ_CST);
  if (__builtin_expect(!hf_is_safe(value), 0)) return hf_faulted(cell) ? HF_E_FAULT : HF_E_UNSAFE;
  return number_from(cell, value);
}

double hf_store64(double address, double value) {
  hf_cell *cell = cell_at(address);
  int64_t stored;
  if (cell == NULL || !hf_safe(value, &stored)) return HF_E_INVAL;
  __atomic_store_n(cell, (hf_cell)stored, __ATOMIC_SEQ_CST);
  return hf_faulted(cell) ? HF_E_FAULT : value;
}

double hf_store64_release(double address, double value) {
  hf_cell *cell = cell_at(address);
  int64_t stored;
  if (cell == NULL || !hf_safe(value, &stored)) return HF_E_INVAL;
  __atomic_store_n(cell, (hf_cell)stored, __ATOMIC_RELEASE);
  return hf_faulted(cell) ? HF_E_FAULT : value;
}

/* Out of the way, and volatile: a compiler that knows the constant loads it before the first check, 0.3 ns of the usual way. */
static const volatile double refusal = HF_E_INVAL;

static __attribute__((noinline, cold)) double refuse(void) { return refusal; }

static __attribute__((noinline, cold)) double take_back(hf_cell *cell, hf_cell delta) {
  (void)__atomic_fetch_sub(cell, delta, __ATOMIC_SEQ_CST);
  return hf_faulted(cell) ? HF_E_FAULT : HF_E_UNSAFE;
}

/*
 * One `lock xadd` rather than a compare-exchange loop, which contenders make repeat. Where the old value is one that a number can't hold, the
 * addition is taken back: for everybody else that is an addition and a subtraction, two operations that are whole.
 */
static inline double add(double address, double operand, bool subtract) {
  hf_cell *cell = cell_at(address);
  int64_t given;
  if (__builtin_expect(cell == NULL, 0)) return refuse();
  if (__builtin_expect(!hf_safe(operand, &given), 0)) return refuse();
  const hf_cell delta = subtract ? 0 - (hf_cell)given : (hf_cell)given;
  hf_cell old = __atomic_fetch_add(cell, delta, __ATOMIC_SEQ_CST);
  if (__builtin_expect(!hf_is_safe(old), 0)) return take_back(cell, delta);
  return number_from(cell, old);
}

double hf_add64(double address, double operand) { return add(address, operand, false); }

double hf_sub64(double address, double operand) { return add(address, operand, true); }

/* These can't be taken back, so that they are a compare-exchange loop: a cell whose old value a number can't hold is left alone. */
#define HF_NUMBER_FORM(name, expression)                                                                                \
  double name(double address, double operand) {                                                                         \
    hf_cell *cell = cell_at(address);                                                                                   \
    int64_t given;                                                                                                      \
    if (cell == NULL || !hf_safe(operand, &given)) return HF_E_INVAL;                                                   \
    const hf_cell b = (hf_cell)given;                                                                                   \
    hf_cell a = __atomic_load_n(cell, __ATOMIC_RELAXED);                                                                \
    do {                                                                                                                \
      if (!hf_is_safe(a)) return hf_faulted(cell) ? HF_E_FAULT : HF_E_UNSAFE;                                           \
    } while (!__atomic_compare_exchange_n(cell, &a, (expression), true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));           \
    return hf_faulted(cell) ? HF_E_FAULT : hf_to_double(a);                                                             \
  }

HF_NUMBER_FORM(hf_and64, a & b)
HF_NUMBER_FORM(hf_or64, a | b)
HF_NUMBER_FORM(hf_xor64, a ^ b)
HF_NUMBER_FORM(hf_exchange64, b)

double hf_cas64(double address, double expected, double replacement) {
  hf_cell *cell = cell_at(address);
  int64_t from, to;
  if (cell == NULL || !hf_safe(expected, &from) || !hf_safe(replacement, &to)) return HF_E_INVAL;
  hf_cell found = (hf_cell)from;
  (void)__atomic_compare_exchange_n(cell, &found, (hf_cell)to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  if (hf_faulted(cell)) return HF_E_FAULT;
  return hf_is_safe(found) ? hf_to_double(found) : HF_E_UNSAFE; /* an unsafe value never equals `expected`: nothing was stored */
}

#define HF_EXACT_FORM(name, operation)                                                                                  \
  double name(double address, double words) {                                                                           \
    hf_cell *cell = cell_at(address);                                                                                   \
    hf_cell *word = cell_at(words);                                                                                     \
    if (cell == NULL || word == NULL) return HF_E_INVAL;                                                                \
    operation;                                                                                                          \
    return hf_faulted(cell) ? HF_E_FAULT : 0;                                                                           \
  }

HF_EXACT_FORM(hf_load64_exact, word[0] = __atomic_load_n(cell, __ATOMIC_SEQ_CST))
HF_EXACT_FORM(hf_store64_exact, __atomic_store_n(cell, word[0], __ATOMIC_SEQ_CST))
HF_EXACT_FORM(hf_add64_exact, word[0] = __atomic_fetch_add(cell, word[0], __ATOMIC_SEQ_CST))
HF_EXACT_FORM(hf_sub64_exact, word[0] = __atomic_fetch_sub(cell, word[0], __ATOMIC_SEQ_CST))
HF_EXACT_FORM(hf_and64_exact, word[0] = __atomic_fetch_and(cell, word[0], __ATOMIC_SEQ_CST))
HF_EXACT_FORM(hf_or64_exact, word[0] = __atomic_fetch_or(cell, word[0], __ATOMIC_SEQ_CST))
HF_EXACT_FORM(hf_xor64_exact, word[0] = __atomic_fetch_xor(cell, word[0], __ATOMIC_SEQ_CST))
HF_EXACT_FORM(hf_exchange64_exact, word[0] = __atomic_exchange_n(cell, word[0], __ATOMIC_SEQ_CST))
HF_EXACT_FORM(hf_cas64_exact, (void)__atomic_compare_exchange_n(cell, &word[0], word[1], false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))

/* A union, since a cast of the pointer would break the aliasing rules; reading the other member reinterprets (C17 6.5.2.3, note 97). */
union number {
  hf_cell bits;
  double value;
};

double hf_float_load(double address, double unused) {
  (void)unused;
  const hf_cell *cell = cell_at(address);
  if (cell == NULL) return HF_E_INVAL;
  union number found = {.bits = __atomic_load_n(cell, __ATOMIC_SEQ_CST)};
  return hf_faulted(cell) ? HF_E_FAULT : found.value;
}

double hf_float_store(double address, double value) {
  hf_cell *cell = cell_at(address);
  if (cell == NULL) return HF_E_INVAL;
  union number stored = {.value = value};
  __atomic_store_n(cell, stored.bits, __ATOMIC_SEQ_CST);
  return hf_faulted(cell) ? HF_E_FAULT : value;
}

static __attribute__((noinline, cold)) double float_unless_broken(const hf_cell *cell, double value) {
  return hf_is_broken((uintptr_t)cell) ? HF_E_FAULT : value;
}

double hf_float_add(double address, double operand) {
  hf_cell *cell = cell_at(address);
  if (__builtin_expect(cell == NULL, 0)) return refuse();
  union number old = {.bits = __atomic_load_n(cell, __ATOMIC_RELAXED)};
  union number sum;
  do {
    sum.value = old.value + operand;
  } while (!__atomic_compare_exchange_n(cell, &old.bits, sum.bits, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
  return __builtin_expect(hf_any_broken(), 0) ? float_unless_broken(cell, old.value) : old.value;
}
