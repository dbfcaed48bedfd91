/*
 * holdfast.h - the contract of the native library: every exported function, and the rules they share.
 *
 * What crosses the boundary. All three runtimes have one call shape that is fast: doubles in, a double out. So every
 * number is a `double` that holds an integer, addresses too: user-space addresses end below 2^47 on x86-64 (2^56 with
 * five-level paging, which Linux gives only on request), so a double holds them exactly. The only other argument type is
 * a `void *` to memory of the runtime's own heap, alive for the call. C checks each argument again: a NaN, a fraction, a
 * negative or too large number is HF_EINVAL, never a wrapped integer.
 *
 * What comes back. A value >= 0 is the result. A value in -4095..-1 is a negated errno, taken at once, so that nobody reads
 * `errno` later on another thread. Own codes lie at HF_E_BASE and below. The functions whose result can be any 64-bit
 * value (the number form of the atomics) say failure with a value below -2^53, which no result can have.
 *
 * What is shared. The library keeps one piece of process-wide state: the SIGBUS handler that hf_guard_install() puts in place,
 * with the table of mappings that it looks at. Everything else is in the memory that the caller passes.
 *
 * Ordering. Atomic operations are sequentially consistent unless their name says release or acquire. They work between
 * processes because they act on the one physical page that the processes map (C17 7.17.5, lock-free and address-free).
 */
#ifndef HOLDFAST_H
#define HOLDFAST_H

#include <stdint.h>

#if defined(_WIN32)
#define HF_EXPORT __declspec(dllexport)
#else
#define HF_EXPORT __attribute__((visibility("default")))
#endif

/* Raised by one whenever a function's meaning or signature changes; lib/native/symbols.ts holds the same number. */
#define HF_ABI_VERSION 7

/* Own result codes. They stand clear of every errno, and below -2^53 so that the atomics can use them too. */
#define HF_E_BASE (-9223372036854775808.0) /* -2^63 */
#define HF_E_INVAL HF_E_BASE                          /* an argument is no integer, out of range or misaligned */
#define HF_E_UNSAFE (HF_E_BASE * 2)                   /* the cell holds a value beyond +-(2^53 - 1); nothing was changed */
#define HF_E_CORRUPT (HF_E_BASE * 4)                  /* a checksum or a length does not hold */
#define HF_E_BUSY (HF_E_BASE * 8)                     /* the lock word is another owner's */
#define HF_E_OWNER (HF_E_BASE * 16)                   /* the lock word is not the caller's: nothing was published */
#define HF_E_FAULT (HF_E_BASE * 32)                   /* the page is gone: the file was cut short under the mapping */
#define HF_E_UNSUPPORTED (HF_E_BASE * 64)             /* this platform has no such call */

/* ---- library ------------------------------------------------------------------------------------------------------- */

/* HF_ABI_VERSION of the library that was loaded. */
HF_EXPORT double hf_abi_version(void);

/* Size of a page in bytes (sysconf(3), _SC_PAGESIZE). */
HF_EXPORT double hf_page_size(void);

/* Address of `buffer`, which the caller keeps alive and unmoved for as long as it uses the address. 0 for NULL. */
HF_EXPORT double hf_address_of(const void *buffer);

/*
 * Milliseconds and their fractions since the machine started, sleep included (clock_gettime(2), CLOCK_BOOTTIME): the same clock in every process,
 * which no change of the date moves.
 */
HF_EXPORT double hf_clock_ms(void);

/* Id of the calling thread (gettid(2)). */
HF_EXPORT double hf_thread_id(void);

/* Inode number of the caller's PID namespace (namespaces(7)): process and thread ids mean nothing across namespaces. */
HF_EXPORT double hf_pid_namespace(void);

/*
 * 1 if thread `thread` of process `process` exists, 0 if not (tgkill(2) with signal 0). An id that was used again counts as
 * alive. Only meaningful for ids of the caller's own PID namespace.
 */
HF_EXPORT double hf_thread_alive(double process, double thread);

#define HF_BOOT_ID_BYTES 16u

/*
 * Writes the id of this start of the machine to the HF_BOOT_ID_BYTES at `bytes`, the caller's own memory: the bytes of the UUID in
 * /proc/sys/kernel/random/boot_id (random(4)) in the order of its digits. 0; -errno: -ENOENT where /proc is not mounted, -EIO if what is
 * there is no UUID; HF_E_UNSUPPORTED. After a failure the bytes are as they were.
 */
HF_EXPORT double hf_boot_id(double bytes);

/* ---- map: files and memory (map.c) --------------------------------------------------------------------------------- */

#define HF_MAP_WRITE 1u            /* PROT_WRITE as well as PROT_READ */
#define HF_MAP_PRIVATE 2u          /* MAP_PRIVATE: writes are copied and never reach the file */
#define HF_MAP_ANONYMOUS 4u        /* zeroed memory without a file; `fd` must be -1 and `offset` 0 */
#define HF_MAP_SHARED_VALIDATE 8u  /* MAP_SHARED_VALIDATE */
#define HF_MAP_POPULATE 16u        /* MAP_POPULATE: fault the pages in now */
#define HF_MAP_NONBLOCK 32u        /* MAP_NONBLOCK: with the one above, only those that are in memory */
#define HF_MAP_NORESERVE 64u       /* MAP_NORESERVE: no swap is set aside */
#define HF_MAP_HUGE_2M 128u        /* MAP_HUGETLB, 2 MiB */
#define HF_MAP_HUGE_1G 256u        /* MAP_HUGETLB, 1 GiB */
#define HF_MAP_SYNC 512u           /* MAP_SYNC: persistent memory only */
#define HF_MAP_FIXED 1024u         /* MAP_FIXED_NOREPLACE: at `address` or -EEXIST */
#define HF_MAP_UNINITIALIZED 2048u /* no Linux with memory protection has it */
#define HF_MAP_NO_CACHE 4096u      /* MAP_NOCACHE of macOS */
#define HF_MAP_ALL 8191u           /* all of these */

/*
 * Maps `length` > 0 bytes of `fd` from `offset`, a multiple of the page size (mmap(2)), at `address` if it is not 0 and possible. The
 * mapping outlives the descriptor and is guarded until hf_unmap(). Returns its address; -errno; HF_E_UNSUPPORTED for a flag
 * that the platform does not have. Pages behind the file's end fault: see hf_guard_install().
 */
HF_EXPORT double hf_map(double fd, double offset, double length, double flags, double address);

/* Removes the mapping of `length` bytes at `address` (munmap(2)). 0 or -errno. */
HF_EXPORT double hf_unmap(double address, double length);

/*
 * Puts anonymous zeroed memory in the place of the mapping of `length` bytes at `address`, for good: what still points there
 * reads zeros instead of faulting. 0 or -errno.
 */
HF_EXPORT double hf_replace(double address, double length);

/*
 * Reserves `length` bytes of storage for `fd` from `offset` on and extends the file to hold them (fallocate(2)), so that
 * a later store into a mapping can't fail for want of space. Bytes that were there keep their values, new ones are zero.
 * 0 or -errno. After a failure the file may be longer than before, by zeros: the caller cuts it back.
 */
HF_EXPORT double hf_reserve(double fd, double offset, double length);

/*
 * Gives the storage of `length` bytes of `fd` from `offset` on back and leaves the file as long as it is: the bytes read as zeros, in
 * every mapping (fallocate(2), FALLOC_FL_PUNCH_HOLE). 0 or -errno: -EOPNOTSUPP on file systems that can't.
 */
HF_EXPORT double hf_punch(double fd, double offset, double length);

/* Keeps the pages in memory (`lock` 1, mlock(2)) or lets them go (0). 0 or -errno: -ENOMEM beyond RLIMIT_MEMLOCK. */
HF_EXPORT double hf_lock_pages(double address, double length, double lock);

#define HF_ADVISE_NORMAL 0u
#define HF_ADVISE_RANDOM 1u
#define HF_ADVISE_SEQUENTIAL 2u
#define HF_ADVISE_WILLNEED 3u
#define HF_ADVISE_DONTNEED 4u
#define HF_ADVISE_HUGEPAGE 5u
#define HF_ADVISE_NOHUGEPAGE 6u
#define HF_ADVISE_COLD 7u
#define HF_ADVISE_PAGEOUT 8u
#define HF_ADVISE_POPULATE_READ 9u
#define HF_ADVISE_POPULATE_WRITE 10u
#define HF_ADVISE_DONTDUMP 11u
#define HF_ADVISE_DODUMP 12u
#define HF_ADVISE_DONTFORK 13u
#define HF_ADVISE_DOFORK 14u
#define HF_ADVISE_COUNT 15u /* how many there are */

/*
 * Tells the kernel how the pages at `address`, a multiple of the page size, will be used (madvise(2)). Beware of HF_ADVISE_DONTNEED on
 * private memory: it zeroes it. 0; -errno; HF_E_UNSUPPORTED.
 */
HF_EXPORT double hf_advise(double address, double length, double advice);

/* How many of the pages at `address`, a multiple of the page size, are in memory (mincore(2)); -errno. */
HF_EXPORT double hf_resident(double address, double length);

/* ---- sync (sync.c) ------------------------------------------------------------------------------------------------- */

/*
 * Starts (`wait` 0, MS_ASYNC) or completes (`wait` 1, MS_SYNC) the write of the pages at `address`, a multiple of the page
 * size, to storage (msync(2)). Only the completed form is durability: on Linux MS_ASYNC does nothing. 0 or -errno.
 */
HF_EXPORT double hf_sync(double address, double length, double wait);

/*
 * Waits until storage has all of the file `fd`, or its directory entries (fsync(2)); with `data_only` 1 what is needed to read its bytes
 * again (fdatasync(2)). 0 or -errno.
 */
HF_EXPORT double hf_sync_file(double fd, double data_only);

/* ---- atomic (atomic.c): signed 64-bit cells at 8-byte aligned addresses ---------------------------------------------- */

/*
 * The number form. Operands are integers within +-(2^53 - 1). Arithmetic wraps at 64 bits. Each returns the old value
 * (load: the value; store: the value stored). HF_E_UNSAFE where the cell's value before the operation is no safe integer:
 * the cell is then unchanged, or, after hf_add64 and hf_sub64, changed and changed back. HF_E_FAULT if its page is gone. HF_E_INVAL for a null or misaligned address or an operand that is no safe integer.
 * `unused` keeps hf_load64 on the fast path of Node, which wants two arguments.
 */
HF_EXPORT double hf_load64(double address, double unused);
HF_EXPORT double hf_store64(double address, double value);
HF_EXPORT double hf_add64(double address, double operand);
HF_EXPORT double hf_sub64(double address, double operand);
HF_EXPORT double hf_and64(double address, double operand);
HF_EXPORT double hf_or64(double address, double operand);
HF_EXPORT double hf_xor64(double address, double operand);
HF_EXPORT double hf_exchange64(double address, double operand);
/* Strong compare-exchange; returns the value found: `replacement` was stored if and only if that equals `expected`. */
HF_EXPORT double hf_cas64(double address, double expected, double replacement);

/* Store with release ordering: what this thread wrote before is visible to whoever loads the value with acquire. */
HF_EXPORT double hf_store64_release(double address, double value);

/*
 * The exact form, for all 2^64 values: operands are read from the int64_t words at `words` (8-byte aligned memory of the
 * caller's own, not shared), and the old value is written to words[0]. 0, HF_E_INVAL or HF_E_FAULT.
 */
HF_EXPORT double hf_load64_exact(double address, double words);
HF_EXPORT double hf_store64_exact(double address, double words);
HF_EXPORT double hf_add64_exact(double address, double words);
HF_EXPORT double hf_sub64_exact(double address, double words);
HF_EXPORT double hf_and64_exact(double address, double words);
HF_EXPORT double hf_or64_exact(double address, double words);
HF_EXPORT double hf_xor64_exact(double address, double words);
HF_EXPORT double hf_exchange64_exact(double address, double words);
/* words[0] expected, words[1] replacement; the value found goes to words[0]. */
HF_EXPORT double hf_cas64_exact(double address, double words);

/*
 * The cell as a double (IEEE 754 binary64): its value, `value`, the old value. hf_float_add() adds as the CPU does, so a sum may be rounded.
 * Every double is a possible result: one that equals HF_E_FAULT or HF_E_INVAL is that failure if hf_region_broken() says so, or if the
 * address is null or misaligned.
 */
HF_EXPORT double hf_float_load(double address, double unused);
HF_EXPORT double hf_float_store(double address, double value);
HF_EXPORT double hf_float_add(double address, double operand);

/* ---- guard (guard.c): memory whose file another process may cut short ------------------------------------------------ */

/*
 * Puts the SIGBUS handler in place, once per process. A fault in a mapping of hf_map() then finds a zero page that is put under it, and
 * the mapping is marked broken until it is unmapped: every function that touches it says HF_E_FAULT from then on (and may have
 * touched it). Any other fault goes on to the handler that was there before. 0 or -errno.
 */
HF_EXPORT double hf_guard_install(void);

/* 1 if the mapping that `address` lies in is broken, 0 if not. */
HF_EXPORT double hf_region_broken(double address);

/*
 * Copies `length` bytes between mapped memory and a buffer of the runtime, or between two addresses. HF_E_FAULT if a page of a
 * mapping is gone: what was copied from there is zeros, what was copied there is lost. The ranges must not overlap.
 */
HF_EXPORT double hf_copy_out(void *target, double target_offset, double source, double length);
HF_EXPORT double hf_copy_in(double target, const void *source, double source_offset, double length);
HF_EXPORT double hf_copy(double target, double source, double length);

/* ---- crc32c (crc32c.c) --------------------------------------------------------------------------------------------- */

/*
 * CRC-32C (Castagnoli, RFC 3720 appendix B.4) of `length` bytes at `address`, continuing from `seed` (0 to start; the result
 * of the bytes before to go on). With the CPU's instruction where it has one, in software otherwise. HF_E_FAULT if a page is
 * gone.
 */
HF_EXPORT double hf_crc32c(double seed, double address, double length);

/* ---- lock (lock.c): advisory locks that the kernel releases when their holder dies ------------------------------------ */

#define HF_LOCK_NONE 0u
#define HF_LOCK_SHARED 1u
#define HF_LOCK_EXCLUSIVE 2u

/*
 * Takes, changes or drops an open-file-description lock on `length` bytes of `fd` from `offset` (fcntl(2), F_OFD_SETLK)
 * without waiting. 0; -EAGAIN where another open file description holds it; other -errno.
 */
HF_EXPORT double hf_lock_range(double fd, double offset, double length, double kind);

/*
 * 1 if another open file description than that of `fd` holds a lock on the range, 0 if not (F_OFD_GETLK). -errno.
 */
HF_EXPORT double hf_lock_probe(double fd, double offset, double length);

/* ---- wait (wait.c): sleeping on a 32-bit word ------------------------------------------------------------------------ */

/*
 * Sleeps while the 32-bit word at `address` (4-byte aligned, shared between processes) equals `expected`, for at most
 * `timeout_ms` milliseconds (futex(2), FUTEX_WAIT_BITSET, monotonic clock). 0 when woken, -EAGAIN when the word differs at
 * once, -ETIMEDOUT. Blocks the calling thread.
 */
HF_EXPORT double hf_wait32(double address, double expected, double timeout_ms);

/* Wakes up to `count` sleepers of the word; returns how many there were. */
HF_EXPORT double hf_wake32(double address, double count);

#define HF_WAITS_MAX 128u

/*
 * Sleeps while each of `count` words equals what is expected of it, for at most `timeout_ms` milliseconds (futex_waitv(2)): `waits` are
 * `count` pairs of doubles, address and expected value, in the caller's own memory, 1 to HF_WAITS_MAX of them. The index of a word that
 * was woken, -EAGAIN when one differs at once, -ETIMEDOUT, -ENOSYS before Linux 5.16. Blocks the calling thread.
 */
HF_EXPORT double hf_wait_any(double waits, double count, double timeout_ms);

/* ---- commit (commit.c): a lock word and a checksummed double cell ------------------------------------------------------ */

/*
 * A lock is HF_LOCKWORD_BYTES at a 16-byte aligned address: u64 owner (0 = free), u32 sleepers flag, u32 flag of those who wait for a
 * commit, and their bell, u32 at HF_BELL_OFFSET. A commit cell pair is, at a
 * 128-byte aligned address: u64 version (48 bits, and above them the low 16 bits of the CRC-32C of the version as u64, seeded with
 * `salt`), then at +128 and +256 the two cells of 128 bytes: up to HF_CELL_WORDS u64 words at
 * +0, u64 version at +112, u32 CRC-32C at +120 over those `count` words and the version, seeded with `salt`. The version
 * word's lowest bit selects the cell. A commit fills the other cell and then stores the next version with release
 * ordering: that one store is the publication, and a writer that dies before it has changed nothing.
 *
 * Words are passed as `count` doubles at `values` (the caller's own memory), each a safe integer >= 0. Behind them lies one u64 more, the
 * version word that the values are of: while it still is the current one, they are not read again. It is the library's; the caller
 * starts with 0, and puts 0 there again when it changes values and does not publish them.
 */
#define HF_LOCKWORD_BYTES 24u
#define HF_BELL_OFFSET 16u
#define HF_CELL_WORDS 14u
#define HF_CELL_PAIR_BYTES 384u

/* Reads the current cell without the lock. HF_E_CORRUPT if its checksum does not hold; -EAGAIN if writers never paused. */
HF_EXPORT double hf_cell_read(double cells, double count, double salt, double values);

/* Writes both cells and version 2: only for a file that nobody else can see yet. */
HF_EXPORT double hf_cell_init(double cells, double count, double salt, double values);

/*
 * Takes the lock for `owner` > 0 and reads the cell. 0; HF_E_BUSY when it stayed another's for a short spin; HF_E_CORRUPT
 * (the lock is not held then).
 */
HF_EXPORT double hf_begin(double lock, double owner, double cells, double count, double salt, double values);

/*
 * Publishes `values` as the next cell, then releases the lock as hf_unlock does. 0, or 1 if someone may wait for the commit: then
 * hf_ring() is due. HF_E_OWNER if the lock is not `owner`'s.
 */
HF_EXPORT double hf_commit(double lock, double owner, double cells, double count, double salt, double values);

/* Publishes like hf_commit and keeps the lock. */
HF_EXPORT double hf_publish(double lock, double owner, double cells, double count, double salt, double values);

/* Releases the lock and wakes its sleepers, if it says that there are any. HF_E_OWNER if it is not `owner`'s. */
HF_EXPORT double hf_unlock(double lock, double owner);

/*
 * Marks the lock as having sleepers and sleeps until it is released or `timeout_ms` is over, if it still is `owner`'s. 0
 * when there is a reason to try again, -ETIMEDOUT.
 */
HF_EXPORT double hf_lock_sleep(double lock, double owner, double timeout_ms);

/*
 * Announces that the caller is about to wait for a commit under this lock, and returns the bell. Who then finds no commit sleeps
 * on the bell while it has that value (hf_wait32, hf_wait_any). `unused` keeps it on the fast path of Node.
 */
HF_EXPORT double hf_expect(double lock, double unused);

/*
 * Changes the bell and wakes up to `count` > 0 of those who sleep on it; returns how many. Nothing, if nobody has announced to wait since
 * a ring found nobody asleep.
 */
HF_EXPORT double hf_ring(double lock, double count);

#define HF_SEALED_MAX 281474976710655.0 /* 2^48 - 1 */

/*
 * A sealed word is a u64 that tells of its own damage: a value of 48 bits, and above them the low 16 bits of the CRC-32C of the value as
 * u64, seeded with `salt`. Load: the value; what was read before the call is read before the word, and what is read after it after the
 * word. Store: with release ordering; `value`. Compare-exchange: the value found, `replacement` was stored if and only if that equals
 * `expected`; sequentially consistent. HF_E_CORRUPT where the word's check does not hold: nothing was changed, except by the store,
 * which does not look.
 */
HF_EXPORT double hf_sealed_load(double address, double salt);
HF_EXPORT double hf_sealed_store(double address, double value, double salt);
HF_EXPORT double hf_sealed_cas(double address, double expected, double replacement, double salt);

/* ---- record (record.c): checksummed copies in and out of a segment ---------------------------------------------------- */

/*
 * A record starts with u32 CRC-32C of everything behind it, seeded with `salt` and its position, and u32 total length, a
 * multiple of 8 and at least HF_RECORD_MIN. What lies behind is the caller's.
 */
#define HF_RECORD_MIN 16u

/* Copies the record of `length` bytes at `source` to `target` and sets its checksum there. 0, HF_E_INVAL, HF_E_FAULT. */
HF_EXPORT double hf_record_write(double target, double source, double length, double salt, double position);

/*
 * Copies the record at `source` to `target` and checks it there. Returns its length: greater than `capacity` if it did not
 * fit, nothing was copied then. HF_E_CORRUPT if length or checksum do not hold; a record never reaches beyond `limit` bytes.
 */
HF_EXPORT double hf_record_read(double target, double capacity, double source, double limit, double salt, double position);

/*
 * The same for records one behind the other. Write: all of `length` bytes are records; HF_E_INVAL if they are not, with some written. Read:
 * up to `count` records within `capacity` and `limit` bytes; returns their bytes. It ends before a record that is longer or damaged, with 0
 * if that is the first: hf_record_read() says which.
 */
HF_EXPORT double hf_records_write(double target, double source, double length, double salt, double position);
HF_EXPORT double hf_records_read(double target, double capacity, double source, double limit, double count, double salt, double position);

/*
 * Loads `count` u64 words from `address`, or stores them so that words[0] comes last and with release ordering. Each is
 * an integer in 0..2^53-1; HF_E_CORRUPT where a word read is larger.
 */
HF_EXPORT double hf_words_load(double address, double count, double values);
HF_EXPORT double hf_words_store(double address, double count, double values);

/* CRC-32C of `count` words as they would be stored, seeded with `salt`. The words are the caller's own memory. */
HF_EXPORT double hf_words_checksum(double count, double salt, double values);

/* ---- queue (queue.c): one record of a queue in one step ----------------------------------------------------------------- */

/*
 * A queue has two sides, each a lock with its commit cells. The first words of a producer's cell are HF_POSITION to HF_BYTES: where the next
 * record goes. The first words of a consumer's are HF_POSITION to HF_HEAD: where the next record to hand out lies.
 */
#define HF_POSITION 0u /* bytes from the queue's beginning */
#define HF_SEGMENT 1u  /* which segment, and where in it */
#define HF_OFFSET 2u
#define HF_SEQUENCE 3u /* of that record */
#define HF_BYTES 4u    /* of all records in front of it */
#define HF_LEASED 5u   /* records that are handed out and may come back */
#define HF_HEAD 7u     /* oldest segment that is needed */

/*
 * A record as these functions know it: behind checksum and length, u32 payload length, u32 0, u64 sequence, the payload at HF_RECORD_PAYLOAD
 * with zeros up to a multiple of 8, the length once more as u64.
 */
#define HF_RECORD_PAYLOAD 24u
#define HF_RECORD_AROUND 32u

/*
 * A side is HF_SIDE_BYTES of the caller's own memory, at an 8-byte aligned address that does not change: how one owner gets at one side of a
 * queue. At HF_SIDE_VALUES in it lie the values of its cell, and behind them the version word that they are of (see above, commit); the rest
 * is the library's. The addresses that it is told must stay mapped for as long as it is used.
 */
#define HF_SIDE_BYTES 256u
#define HF_SIDE_VALUES 128u
#define HF_TAIL_WORDS 6u

/* Makes a side: see hf_begin. `record_salt` is the seed of the records' checksums. It has no segment yet. 0 or HF_E_INVAL. */
HF_EXPORT double hf_side_init(double side, double lock, double owner, double cells, double count, double salt, double record_salt);

/*
 * Of a consumer: where the producer's cells are, whose checksums are seeded with `record_salt`, and where the HF_TAIL_WORDS values of them that it
 * has seen, with the word behind. 0 or HF_E_INVAL.
 */
HF_EXPORT double hf_side_tail(double side, double cells, double values);

/*
 * The segment that the functions below work on: its id, the `length` bytes at `address`, and for a consumer, if the queue has gone on to another
 * segment, where its records end in the use of it whose first byte has position `base`; otherwise both are 0. An `address` of 0: none.
 * 0 or HF_E_INVAL.
 */
HF_EXPORT double hf_side_segment(double side, double id, double address, double length, double end, double base);

/* Of a producer: hf_append() leaves records to others that would bring the cell's HF_BYTES above this. 0 or HF_E_INVAL. */
HF_EXPORT double hf_side_limit(double side, double bytes);

/*
 * Appends a record with the payload of `length` < 2^31 bytes at `payload` if nothing has to be decided: the lock is free, the tail lies in the segment of the
 * side, and the record fits there and below the limit. As hf_begin, hf_record_write and hf_commit. 1, or 2 if someone may wait for the commit; HF_E_BUSY
 * otherwise, with the queue as it was and the lock not held. Nor is it held after another failure.
 */
HF_EXPORT double hf_append(double side, double payload, double length);

/* The same of an array of the runtime. */
HF_EXPORT double hf_append_bytes(double side, const void *payload, double length);

/*
 * Takes the lock and copies the next record to `target`, if nothing has to be decided: the lock is free, nothing is leased, and cursor and head
 * lie in the segment of the side, with a record behind the cursor in it. As hf_begin and hf_record_read. Its length, with the lock held:
 * hf_pass() or hf_unlock() is to follow. 0 if it saw without the lock that there is no record and none is leased; HF_E_BUSY otherwise, also if
 * the record is longer than `capacity` or damaged. The lock is not held then, nor after another failure.
 */
HF_EXPORT double hf_front(double side, double target, double capacity);

/*
 * Moves the cursor over the record of `length` bytes that hf_front() gave, and commits as hf_commit does: 0, or 1 if someone may wait. HF_E_OWNER
 * if the lock is not the side's owner's; it is not held after another failure, unless an argument was refused.
 */
HF_EXPORT double hf_pass(double side, double length);

#endif
