/* internal.h - checks and helpers that the sources share; nothing here is exported. */
#ifndef HF_INTERNAL_H
#define HF_INTERNAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast.h"

#define HF_MAX_SAFE 9007199254740991.0 /* 2^53 - 1 */
#define HF_MAX_SAFE_WORD UINT64_C(9007199254740991)

/* The error of the last call as a result. */
static inline double hf_errno(void) { return -(double)errno; }

/* A whole number in 0..2^53-1; false for NaN and everything else. */
static inline bool hf_whole(double value, uint64_t *out) {
  if (!(value >= 0.0 && value <= HF_MAX_SAFE)) return false;
  /* By way of the signed type, here and in hf_to_double: x86-64 converts it with one instruction, the unsigned one with ten. */
  int64_t whole = (int64_t)value;
  *out = (uint64_t)whole;
  return (double)whole == value;
}

/* A word that is at most 2^53 - 1 as a double. */
static inline double hf_to_double(uint64_t word) { return (double)(int64_t)word; }

/* A whole number within +-(2^53 - 1). */
static inline bool hf_safe(double value, int64_t *out) {
  if (!(value >= -HF_MAX_SAFE && value <= HF_MAX_SAFE)) return false;
  *out = (int64_t)value;
  return (double)*out == value;
}

static inline bool hf_size(double value, size_t *out) {
  uint64_t whole;
  if (!hf_whole(value, &whole) || whole > SIZE_MAX / 2) return false;
  *out = (size_t)whole;
  return true;
}

static inline bool hf_u32(double value, uint32_t *out) {
  if (!(value >= 0.0 && value <= 4294967295.0)) return false;
  *out = (uint32_t)value;
  return (double)*out == value;
}

static inline bool hf_int(double value, int *out) {
  if (!(value >= -2147483648.0 && value <= 2147483647.0)) return false;
  *out = (int)value;
  return (double)*out == value;
}

/* A non-null address that is a multiple of `alignment`, a power of two. The conversion is the one place where a number
   becomes a pointer. */
static inline void *hf_pointer(double address, size_t alignment) {
  uint64_t whole;
  if (!hf_whole(address, &whole) || (whole & (alignment - 1)) != 0) return NULL;
  return (void *)(uintptr_t)whole; /* NULL for 0 */
}

/* crc32c.c: the raw update without argument checks or guard. */
uint32_t hf_crc32c_update(uint32_t seed, const void *data, size_t length);

#endif
