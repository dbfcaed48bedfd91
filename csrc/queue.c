/*
 * queue.c - one record of a queue in one step, where nothing has to be decided on the way.
 *
 * It joins the steps of commit.c and record.c in the order in which lib/queue/ calls them one by one, and stops with nothing done at
 * whatever is not the plain case: what is right then is decided there.
 */
#include "commit.h"
#include "guard.h"
#include "internal.h"
#include "record.h"

#include <string.h>


/* What was checked when it was put here is not checked again at every call. */
struct side {
  uint64_t mark; /* says that it was made, and made for this place */
  struct lock_words *lock;
  uint64_t owner;
  struct cell_pair *cells;
  uint32_t count;
  uint32_t salt;
  uint32_t record_salt;
  uint32_t reserved;
  const struct cell_pair *tail_cells;
  double *tail;
  unsigned char *segment;
  size_t length;
  size_t end;
  double segment_id;
  double base;
  double limit;
};
_Static_assert(sizeof(struct side) <= HF_SIDE_VALUES, "side");
_Static_assert(HF_SIDE_VALUES + (HF_CELL_WORDS + 1) * sizeof(double) <= HF_SIDE_BYTES, "values of a side");

static uint64_t mark_of(const struct side *side) { return UINT64_C(0x6564697374636566) ^ (uintptr_t)side; }

static inline struct side *side_at(double address) {
  struct side *side = (struct side *)hf_pointer(address, 8);
  return side != NULL && side->mark == mark_of(side) ? side : NULL;
}

static inline double *values_of(struct side *side) { return (double *)(void *)((unsigned char *)side + HF_SIDE_VALUES); }

double hf_side_init(double side, double lock, double owner, double cells, double count, double salt, double record_salt) {
  struct side *made = (struct side *)hf_pointer(side, 8), given;
  memset(&given, 0, sizeof given);
  given.lock = (struct lock_words *)hf_pointer(lock, 16);
  given.cells = (struct cell_pair *)hf_pointer(cells, 128);
  if (made == NULL || given.lock == NULL || given.cells == NULL || !hf_whole(owner, &given.owner) || given.owner == 0 ||
      !hf_u32(count, &given.count) || given.count <= HF_BYTES || given.count > HF_CELL_WORDS || !hf_u32(salt, &given.salt) ||
      !hf_u32(record_salt, &given.record_salt)) {
    return HF_E_INVAL;
  }
  given.limit = HF_MAX_SAFE;
  given.mark = mark_of(made);
  *made = given;
  return 0;
}

double hf_side_tail(double side, double cells, double values) {
  struct side *own = side_at(side);
  const struct cell_pair *tail_cells = (const struct cell_pair *)hf_pointer(cells, 128);
  double *tail = (double *)hf_pointer(values, 8);
  if (own == NULL || tail_cells == NULL || tail == NULL || own->count <= HF_HEAD) return HF_E_INVAL;
  own->tail_cells = tail_cells;
  own->tail = tail;
  return 0;
}

double hf_side_segment(double side, double id, double address, double length, double end, double base) {
  struct side *own = side_at(side);
  unsigned char *segment = address == 0 ? NULL : (unsigned char *)hf_pointer(address, 8);
  uint64_t number, start;
  size_t bytes, known;
  if (own == NULL || (segment == NULL && address != 0) || !hf_whole(id, &number) || !hf_size(length, &bytes) || !hf_size(end, &known) ||
      !hf_whole(base, &start) || known > bytes) {
    return HF_E_INVAL;
  }
  own->segment = segment;
  own->segment_id = id;
  own->length = bytes;
  own->end = known;
  own->base = base;
  return 0;
}

double hf_side_limit(double side, double bytes) {
  struct side *own = side_at(side);
  uint64_t limit;
  if (own == NULL || !hf_whole(bytes, &limit)) return HF_E_INVAL;
  own->limit = bytes;
  return 0;
}

/* Ends without a change. The values may be of a cell that was read, but then the version word behind them says so. */
static double leave(const struct side *side, double result) {
  (void)hf_lock_release(side->lock, side->owner);
  return result;
}

static inline void move(double *values, double length) {
  values[HF_POSITION] += length;
  values[HF_OFFSET] += length;
  values[HF_SEQUENCE] += 1;
  values[HF_BYTES] += length;
}

static double commit(struct side *side, double *values) {
  double result = hf_cell_publish(side->cells, side->count, side->salt, values);
  if (result != 0) return leave(side, result);
  result = hf_lock_release(side->lock, side->owner);
  if (hf_faulted(side->cells)) return HF_E_FAULT;
  return result != 0 ? result : hf_awaited(side->lock);
}

HF_INLINE uint64_t record_bytes(uint64_t payload_bytes) { return (payload_bytes + 7) / 8 * 8 + HF_RECORD_AROUND; }

struct record {
  uint32_t front[2]; /* checksum, length */
  uint64_t payload_bytes; /* flags above them: none */
  uint64_t sequence;
  uint64_t payload[];
};
_Static_assert(offsetof(struct record, payload) == HF_RECORD_PAYLOAD, "record");

/*
 * Writes a record around a payload that lies anywhere; returns its checksum. As hf_record_copy() of the whole: in words, in the order in which they are
 * read, and each byte of the payload is read once, since another thread may be writing it.
 */
HF_INLINE uint32_t enclose(struct record *record, const unsigned char *payload, size_t payload_bytes, uint64_t sequence, uint32_t salt, uint64_t position) {
  size_t words = payload_bytes / 8, rest = payload_bytes % 8;
  uint64_t bytes = record_bytes(payload_bytes), last = 0;
  uint32_t crc = hf_crc_words(~salt, &position, 1);
  crc = hf_crc_half(crc, (uint32_t)bytes);
  crc = hf_crc_put(crc, &record->payload_bytes, payload_bytes);
  crc = hf_crc_put(crc, &record->sequence, sequence);
  crc = hf_crc_copy(crc, record->payload, (const hf_word *)(const void *)payload, words);
  for (size_t i = 0; i < rest; i++) last |= (uint64_t)payload[8 * words + i] << 8 * i;
  if (rest != 0) crc = hf_crc_put(crc, &record->payload[words++], last);
  return ~hf_crc_put(crc, &record->payload[words], bytes);
}

/* Not inline: it is what two functions end in, and a jump to it costs less than to have it twice. */
static __attribute__((noinline)) double append(double side, const unsigned char *payload, double length) {
  struct side *own = side_at(side);
  size_t payload_bytes;
  if (own == NULL || payload == NULL || !hf_size(length, &payload_bytes) || payload_bytes > INT32_MAX) return HF_E_INVAL;
  double *values = values_of(own);
  if (own->segment == NULL) return HF_E_BUSY;
  if (!hf_lock_take(own->lock, own->owner)) return hf_faulted(own->lock) ? HF_E_FAULT : HF_E_BUSY;
  double result = hf_cell_get(own->cells, own->count, own->salt, values);
  if (hf_faulted(own->cells)) result = HF_E_FAULT;
  if (result != 0) return leave(own, result);
  /* What the cell holds is whole, and safe integers. */
  size_t offset = (size_t)(int64_t)values[HF_OFFSET], bytes = record_bytes(payload_bytes);
  if (values[HF_SEGMENT] != own->segment_id || offset > own->length || bytes > own->length - offset || offset % 8 != 0 ||
      values[HF_BYTES] + (double)(int64_t)bytes > own->limit) {
    return leave(own, HF_E_BUSY);
  }
  struct record *target = (struct record *)(void *)(own->segment + offset);
  uint64_t position = (uint64_t)(int64_t)values[HF_POSITION], sequence = (uint64_t)(int64_t)values[HF_SEQUENCE];
  uint32_t front[2] = {enclose(target, payload, payload_bytes, sequence, own->record_salt, position), (uint32_t)bytes};
  memcpy(target->front, front, sizeof front);
  if (hf_faulted(own->segment)) return leave(own, HF_E_FAULT);
  move(values, (double)(int64_t)bytes);
  result = commit(own, values);
  return result < 0 ? result : result + 1;
}

double hf_append(double side, double payload, double length) { return append(side, (const unsigned char *)hf_pointer(payload, 1), length); }

double hf_append_bytes(double side, const void *payload, double length) { return append(side, (const unsigned char *)payload, length); }

/* Whether the record in `record` is the one of this sequence, with a payload of the length that it says. */
static bool is_record(const unsigned char *copy, double length, double sequence) {
  struct record record;
  memcpy(&record, copy, sizeof record);
  return record.sequence == (uint64_t)(int64_t)sequence && record_bytes((uint32_t)record.payload_bytes) == (uint64_t)(int64_t)length;
}

/* hf_cell_get() where it is not what a pop waits for: inline, it would be a third of the library's longest function. */
static __attribute__((noinline)) double get_cell(const struct cell_pair *pair, uint32_t count, uint32_t salt, double *values) {
  return hf_cell_get(pair, count, salt, values);
}

/* Whether there is a record as far as can be seen without the lock: 1, 0 if there is none and none is leased, or a failure. */
static double look(struct side *side, double *values) {
  if (values[HF_POSITION] < side->tail[HF_POSITION]) return 1;
  double result = hf_cell_get(side->tail_cells, HF_TAIL_WORDS, side->record_salt, side->tail);
  if (result == 0 && values[HF_POSITION] < side->tail[HF_POSITION]) return hf_faulted(side->tail_cells) ? HF_E_FAULT : 1;
  /* The cursor first: it only grows. */
  if (result == 0) result = get_cell(side->cells, side->count, side->salt, values);
  if (result == 0) result = get_cell(side->tail_cells, HF_TAIL_WORDS, side->record_salt, side->tail);
  if (hf_faulted(side->tail_cells) || hf_faulted(side->cells)) return HF_E_FAULT;
  if (result != 0) return result == -(double)EAGAIN ? HF_E_BUSY : result;
  if (values[HF_POSITION] < side->tail[HF_POSITION]) return 1;
  return values[HF_LEASED] == 0 ? 0 : HF_E_BUSY;
}

double hf_front(double side, double target, double capacity) {
  struct side *own = side_at(side);
  unsigned char *to = (unsigned char *)hf_pointer(target, 8);
  size_t room;
  if (own == NULL || to == NULL || !hf_size(capacity, &room) || own->tail == NULL) return HF_E_INVAL;
  double *values = values_of(own), *tail = own->tail;
  /* Without the lock at first: where there is nothing, that leaves the others alone. */
  double result = look(own, values);
  if (result != 1) return result;
  if (own->segment == NULL) return HF_E_BUSY;
  if (!hf_lock_take(own->lock, own->owner)) return hf_faulted(own->lock) ? HF_E_FAULT : HF_E_BUSY;
  result = hf_cell_get(own->cells, own->count, own->salt, values);
  if (hf_faulted(own->cells)) result = HF_E_FAULT;
  if (result != 0) return leave(own, result);
  /* Not beyond the tail, nor beyond where the queue went on to another segment: there may be a whole record whose writer died before it
     committed, and whose place in the queue is another's by now. */
  size_t offset = (size_t)(int64_t)values[HF_OFFSET], end = 0;
  if (tail[HF_SEGMENT] == own->segment_id) end = (size_t)(int64_t)tail[HF_OFFSET];
  else if (values[HF_POSITION] - values[HF_OFFSET] == own->base) end = own->end;
  bool plain = values[HF_LEASED] == 0 && values[HF_SEGMENT] == own->segment_id && values[HF_HEAD] == own->segment_id &&
               values[HF_POSITION] < tail[HF_POSITION] && offset < end && end <= own->length && offset % 8 == 0;
  if (!plain) return leave(own, HF_E_BUSY);
  uint64_t position = (uint64_t)(int64_t)values[HF_POSITION];
  result = hf_record_get(to, room, own->segment + offset, end - offset, own->record_salt, position);
  if (result == HF_E_FAULT) return leave(own, result);
  if (!(result >= HF_RECORD_AROUND && result <= capacity) || !is_record(to, result, values[HF_SEQUENCE])) return leave(own, HF_E_BUSY);
  return result;
}

double hf_pass(double side, double length) {
  struct side *own = side_at(side);
  size_t bytes;
  if (own == NULL || !hf_size(length, &bytes) || bytes < HF_RECORD_AROUND || bytes % 8 != 0) return HF_E_INVAL;
  if (!hf_lock_is(own->lock, own->owner)) return hf_faulted(own->lock) ? HF_E_FAULT : HF_E_OWNER;
  double *values = values_of(own);
  move(values, length);
  return commit(own, values);
}
