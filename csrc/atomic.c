/* atomic.c - signed 64-bit cells, shared between processes. */
#include "internal.h"

#include "guard.h"

/* Arithmetic goes through uint64_t, where wrapping is defined (C17 6.2.5p9), and back; the conversion of a value above
   INT64_MAX is implementation-defined and wraps in gcc and clang. */
typedef uint64_t hf_cell;

_Static_assert(__GCC_ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics must be lock-free to be address-free");

static inline hf_cell *cell_at(double address) { return (hf_cell *)hf_pointer(address, sizeof(hf_cell)); }

static inline bool is_safe(hf_cell value) {
  /* -(2^53 - 1)..2^53 - 1, shifted to start at 0. */
  return value + HF_MAX_SAFE_WORD <= 2 * HF_MAX_SAFE_WORD;
}

static inline double to_number(hf_cell value) { return (double)(int64_t)value; }

double hf_load64(double address, double unused) {
  (void)unused;
  const hf_cell *cell = cell_at(address);
  if (cell == NULL) return HF_E_INVAL;
  hf_cell value = __atomic_load_n(cell, __ATOMIC_SEQ_CST);
  if (hf_faulted(cell)) return HF_E_FAULT;
  return is_safe(value) ? to_number(value) : HF_E_UNSAFE;
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

/* A compare-exchange loop rather than a plain read-modify-write, so that a cell whose old value a number can't hold is left
   alone instead of being changed by a call that then reports an error. */
#define HF_NUMBER_FORM(name, expression)                                                                                \
  double name(double address, double operand) {                                                                         \
    hf_cell *cell = cell_at(address);                                                                                   \
    int64_t given;                                                                                                      \
    if (cell == NULL || !hf_safe(operand, &given)) return HF_E_INVAL;                                                   \
    const hf_cell b = (hf_cell)given;                                                                                   \
    hf_cell a = __atomic_load_n(cell, __ATOMIC_RELAXED);                                                                \
    do {                                                                                                                \
      if (!is_safe(a)) return hf_faulted(cell) ? HF_E_FAULT : HF_E_UNSAFE;                                              \
    } while (!__atomic_compare_exchange_n(cell, &a, (expression), true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));           \
    return hf_faulted(cell) ? HF_E_FAULT : to_number(a);                                                                \
  }

HF_NUMBER_FORM(hf_add64, a + b)
HF_NUMBER_FORM(hf_sub64, a - b)
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
  return is_safe(found) ? to_number(found) : HF_E_UNSAFE; /* an unsafe value never equals `expected`: nothing was stored */
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

double hf_float_add(double address, double operand) {
  hf_cell *cell = cell_at(address);
  if (cell == NULL) return HF_E_INVAL;
  union number old = {.bits = __atomic_load_n(cell, __ATOMIC_RELAXED)};
  union number sum;
  do {
    sum.value = old.value + operand;
  } while (!__atomic_compare_exchange_n(cell, &old.bits, sum.bits, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
  return hf_faulted(cell) ? HF_E_FAULT : old.value;
}
