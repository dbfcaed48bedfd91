/* library.c - the library itself: its version, and addresses. */
#include "internal.h"

double hf_abi_version(void) { return HF_ABI_VERSION; }

double hf_address_of(const void *buffer) { return (double)(uintptr_t)buffer; }
