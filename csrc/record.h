/* record.h - one record between a mapping and the caller's memory; arguments are checked by the caller. */
#ifndef HF_RECORD_H
#define HF_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* hf_record_write(): false if the record does not say that it has `length` bytes, or can't have them. */
bool hf_record_put(unsigned char *to, const unsigned char *from, size_t length, uint32_t salt, uint64_t position);

/* hf_record_read() */
double hf_record_get(unsigned char *to, size_t room, const unsigned char *from, size_t most, uint32_t salt, uint64_t position);

#endif
