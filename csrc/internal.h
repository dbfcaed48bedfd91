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

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "holdfast.h"

/*
 * Whether there is a port to this system: the sources that call the system are compiled then, and unsupported.c otherwise. A build
 * with -DHF_NO_SYSTEM leaves them out on any system, so that what happens then can be tried anywhere.
 */
#if defined(__unix__) || defined(__APPLE__)
#if !defined(HF_NO_SYSTEM)
#define HF_SYSTEM 1
#endif
#endif

#define HF_MAX_SAFE 9007199254740991.0 /* 2^53 - 1 */
#define HF_MAX_SAFE_WORD UINT64_C(9007199254740991)

/* For what joins steps without a call between them. */
#define HF_INLINE static inline __attribute__((always_inline))

/* The error of the last call as a result. */
static inline double hf_errno(void) { return -(double)errno; }

/*
 * Rounded towards zero; below -2^62 for NaN and for what 64 bits do not hold. A plain conversion of such a value is undefined (C17
 * 6.3.1.4), so everywhere else a comparison goes before it; the instruction of x86-64 is defined for all.
 */
static inline int64_t hf_truncated(double value) {
#if defined(__x86_64__)
  return _mm_cvttsd_si64(_mm_set_sd(value));
#else
  return value >= -HF_MAX_SAFE && value <= HF_MAX_SAFE ? (int64_t)value : INT64_MIN;
#endif
}

/* A whole number in 0..2^53-1; false for NaN and everything else. */
static inline bool hf_whole(double value, uint64_t *out) {
  int64_t whole = hf_truncated(value);
  *out = (uint64_t)whole;
  return *out <= HF_MAX_SAFE_WORD && (double)whole == value;
}

/* A word that is at most 2^53 - 1 as a double. By way of the signed type: x86-64 converts it with one instruction. */
static inline double hf_to_double(uint64_t word) { return (double)(int64_t)word; }

/* -(2^53 - 1)..2^53 - 1, shifted to start at 0. */
static inline bool hf_is_safe(uint64_t word) { return word + HF_MAX_SAFE_WORD <= 2 * HF_MAX_SAFE_WORD; }

/* A whole number within +-(2^53 - 1). */
static inline bool hf_safe(double value, int64_t *out) {
  *out = hf_truncated(value);
  if (__builtin_expect(!((double)*out == value), 0)) return false; /* a branch each: as one expression it costs four instructions more */
  return hf_is_safe((uint64_t)*out);
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
  int64_t whole = hf_truncated(address);
  /* Turned so that the low bits of a misaligned one, and the sign, come out on top: one comparison refuses them, what is too large, and 0. */
  const unsigned shift = (unsigned)__builtin_ctzll(alignment);
  uint64_t turned = (uint64_t)whole >> shift | (uint64_t)whole << ((64 - shift) & 63);
  if (__builtin_expect(turned - 1 >= HF_MAX_SAFE_WORD >> shift, 0)) return NULL;
  /* A positive number rounded towards zero is not below itself only if it is whole: one comparison, which NaN fails as well. */
  if (__builtin_expect(!((double)whole >= address), 0)) return NULL;
  return (void *)(uintptr_t)whole;
}

/* crc32c.c: the raw update without argument checks or guard. */
uint32_t hf_crc32c_update(uint32_t seed, const void *data, size_t length);

#endif
