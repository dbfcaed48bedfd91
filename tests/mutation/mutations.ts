/**
 * The mutations: what is broken, how, and which tests ought to notice. The text that is replaced must be in its file exactly once; a change
 * of the sources that moves it is followed here.
 *
 * Not here, since no test on x86-64 can notice it: a weaker memory order on one store or load alone. The CPU keeps stores in order, and loads,
 * and the compiler has no reason to swap these; so the mutations swap the steps themselves.
 */

export interface Edit {
  readonly file: string;
  readonly find: string;
  readonly put: string;
}

export interface Mutation {
  readonly name: string;
  readonly edits: readonly Edit[];
  /** In the order in which they are tried; see `runTest` of run.ts. */
  readonly tests: readonly string[];
}

const EVERY_CALL = (scenario: string): string => `run tests/crash/every_call_table.ts 1 | ${scenario}`;
const STEPS = "tests/crash/step.test.ts";
const QUEUE = "tests/conformance/queue.test.ts";
const TROUBLE = "tests/conformance/queue_trouble.test.ts";
const CRASH = "tests/crash/queue.test.ts";
const STOPPED = "tests/crash/stopped.test.ts";
const NOTICES = "tests/mutation/notices.test.ts";
const LOG_RECOVERY = "tests/conformance/queue_log_recovery.test.ts";
const VERIFY_TEST = "tests/conformance/queue_verify.test.ts";
/** The steps, and the functions that are made of them. */
const COMMIT = "csrc/commit.h";
const COMMIT_CALLS = "csrc/commit.c";
const RECORD = "csrc/record.h";
const RECORD_CALLS = "csrc/record.c";
/** Single records in one step. */
const QUEUE_CALLS = "csrc/queue.c";
const CONTROL = "lib/queue/control.ts";
const CONSUMER = "lib/queue/consumer.ts";
const PRODUCER = "lib/queue/producer.ts";
const LEASES = "lib/queue/leases.ts";
const SEGMENTS = "lib/queue/segments.ts";
const RECOVER = "lib/queue/recover.ts";
const VERIFY = "lib/queue/verify.ts";

const WRITE_CELL = "if (!hf_cell_write(&pair->cells[next & 1], count, next, salt, values)) return HF_E_INVAL;";
const WRITE_RECORDS = "const result = this.#hf.hf_records_write(region.address + offset, this.#outbox.address + start, bytes, salt, position);";
const COPY_RECORD = "uint32_t front[2] = {enclose(target, payload, payload_bytes, sequence, own->record_salt, position), (uint32_t)bytes};";
const GET_RECORD = "double total = hf_record_get(to + done, bytes - done, from + done, bytes - done, seed, place + done);";
const KNOWN_END = "else if (values[HF_POSITION] - values[HF_OFFSET] == own->base) end = own->end;";

export const mutations: readonly Mutation[] = [
  // ---- the commit
  {
    name: "the version is stored before the cell's words",
    edits: [{ file: COMMIT, find: WRITE_CELL, put: `__atomic_store_n(&pair->version, hf_seal(next, salt), __ATOMIC_RELEASE);\n  ${WRITE_CELL}` }],
    tests: [STEPS],
  },
  {
    name: "the current cell is overwritten, not the other",
    edits: [
      { file: COMMIT, find: WRITE_CELL, put: WRITE_CELL.replace("next & 1]", "current & 1]") },
      { file: COMMIT, find: "const struct cell *cell = &pair->cells[version & 1];", put: "const struct cell *cell = &pair->cells[(version & 1) ^ (version > 2)];" },
    ],
    tests: [STEPS],
  },
  {
    name: "the cell's checksum is not looked at",
    edits: [{ file: COMMIT, find: "own != version || checksum != checksum_of(words, count, version, salt)", put: "own != version || (checksum == 0 && own == 0)" }],
    tests: ["c commit_test"],
  },
  {
    name: "the version word's check is not looked at",
    edits: [{ file: COMMIT, find: "return word == hf_seal(*version, salt);", put: "return word != 0 || salt == 0;" }],
    tests: [TROUBLE],
  },
  {
    name: "a commit does not look who the owner is",
    edits: [{ file: COMMIT_CALLS, find: "if (hf_lock_is(word, self)) {", put: "if (self != 0) {" }],
    tests: ["c commit_test"],
  },
  {
    name: "an unlock does not look who the owner is",
    edits: [{
      file: COMMIT,
      find: "if (!__atomic_compare_exchange_n(&lock->owner, &owner, 0, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) return HF_E_OWNER;",
      put: "if (owner == 0) return HF_E_OWNER;\n  __atomic_store_n(&lock->owner, 0, __ATOMIC_SEQ_CST);",
    }],
    tests: ["c commit_test"],
  },
  {
    name: "a lock is taken without looking whether it is free",
    edits: [{
      file: COMMIT,
      find: `if (__atomic_load_n(&lock->owner, __ATOMIC_RELAXED) == 0 &&
        __atomic_compare_exchange_n(&lock->owner, &expected, owner, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {`,
      put: "if (expected == 0) {\n      __atomic_store_n(&lock->owner, owner, __ATOMIC_SEQ_CST);",
    }],
    tests: ["c commit_test"],
  },
  {
    name: "who sleeps on a lock is not woken",
    edits: [{ file: COMMIT, find: "(void)hf_futex_wake((uint32_t *)(void *)&lock->owner, INT_MAX);", put: "" }],
    tests: ["c commit_test"],
  },
  {
    name: "who waits for a record is not woken",
    edits: [{ file: PRODUCER, find: "    this.#control.ring(1);\n", put: "" }],
    tests: [NOTICES],
  },
  // ---- records and words
  {
    name: "a record's checksum is not looked at",
    edits: [{ file: RECORD, find: "return checksum == front[0] ? (double)length : HF_E_CORRUPT;", put: "return checksum == front[0] || length > 0 ? (double)length : HF_E_CORRUPT;" }],
    tests: ["c record_test"],
  },
  {
    name: "the checksums of many records are not looked at",
    edits: [{ file: RECORD_CALLS, find: GET_RECORD, put: `${GET_RECORD}\n    if (total == HF_E_CORRUPT) total = (double)((const uint32_t *)(const void *)(from + done))[1];` }],
    tests: ["c record_test"],
  },
  {
    name: "a record's checksum is not of its position",
    edits: [{ file: RECORD, find: "uint32_t crc = hf_crc_words(~salt, &position, 1);", put: "uint32_t crc = hf_crc_words(~salt, &position, position == 0 ? 1 : 0);" }],
    tests: ["c record_test"],
  },
  {
    name: "a record may reach beyond the tail",
    edits: [{ file: RECORD, find: "if (!record_length(length) || length > most) return HF_E_CORRUPT;", put: "if (!record_length(length)) return HF_E_CORRUPT;" }],
    tests: ["c record_test"],
  },
  {
    name: "a group of words is stored with the first one first",
    edits: [{ file: RECORD_CALLS, find: "for (size_t i = words; i > 0; i--) __atomic_store_n(&to[i - 1], (uint64_t)(int64_t)from[i - 1], __ATOMIC_RELEASE);", put: "for (size_t i = 0; i < words; i++) __atomic_store_n(&to[i], (uint64_t)(int64_t)from[i], __ATOMIC_RELEASE);" }],
    tests: ["run tests/crash/step.ts 1 | a slot taken again"],
  },
  // ---- the lock and its owners
  {
    name: "a lock is stolen by time",
    edits: [{ file: CONTROL, find: "slept === -errno.ETIMEDOUT && !this.alive(holder) &&", put: "slept === -errno.ETIMEDOUT &&" }],
    tests: [STOPPED],
  },
  {
    name: "a dead one's lock is never taken over",
    edits: [{ file: CONTROL, find: "slept === -errno.ETIMEDOUT && !this.alive(holder) &&", put: "slept === -errno.ETIMEDOUT && !this.alive(holder) && this.closed &&" }],
    tests: [EVERY_CALL("pop")],
  },
  {
    name: "a slot's generation stays the same",
    edits: [{ file: CONTROL, find: "this.#generationInUse(slot)) + 1;", put: "this.#generationInUse(slot), 1);" }],
    tests: [QUEUE, STOPPED],
  },
  {
    name: "the generation does not tell one holder of a slot from the next",
    edits: [{ file: CONTROL, find: "if (held === 0 || words[SLOT.generation] !== generation) return false;", put: "if (held === 0 || generation < 0) return false;" }],
    tests: [STOPPED],
  },
  {
    name: "a Worker that ended in a living process counts as alive",
    edits: [{ file: CONTROL, find: "return this.#hf.hf_thread_alive(words[SLOT.process] as number, words[SLOT.thread] as number) !== 0;", put: "return true;" }],
    tests: [`bun ${CRASH}`],
  },
  {
    name: "thread ids of another PID namespace are believed",
    edits: [{ file: CONTROL, find: "if (namespace < 0 || namespace !== words[SLOT.namespace]) return true;", put: "if (namespace < 0) return true;" }],
    tests: [STOPPED],
  },
  {
    name: "a lock word that is this handle's own is waited for",
    edits: [{ file: CONTROL, find: "if (holder === this.owner) return this.#takeOver(side);", put: "" }],
    tests: [STOPPED],
  },
  {
    name: "values that were changed and not published are used again",
    edits: [{ file: CONTROL, find: "    side.forget();\n    this.#hf.hf_unlock(side.lock, this.owner);", put: "    this.#hf.hf_unlock(side.lock, this.owner);" }],
    tests: [NOTICES],
  },
  // ---- producers
  {
    name: "commit before payload, many records",
    edits: [{
      file: PRODUCER,
      find: WRITE_RECORDS,
      put: `const before = Array.from(cell);
        Object.assign(cell, { [POSITION]: position + bytes, [OFFSET]: offset + bytes, [SEQUENCE]: (cell[SEQUENCE] as number) + fitting, [BYTES]: (cell[BYTES] as number) + bytes });
        this.#control.publish(this.#control.producer);
        cell.set(before);
        ${WRITE_RECORDS}`,
    }],
    tests: [EVERY_CALL("pushMany over two segment ends")],
  },
  {
    name: "room check off by 8 bytes, many records",
    edits: [{ file: PRODUCER, find: "if (full || more > room) break;", put: "if (full || more > room + 8) break;" }],
    tests: [NOTICES],
  },
  {
    name: "a limit is one byte too low",
    edits: [{ file: PRODUCER, find: "    if (bytes - this.#removedBytes <= maxBytes) return true;\n    this.#removedBytes", put: "    if (bytes - this.#removedBytes < maxBytes) return true;\n    this.#removedBytes" },
      { file: PRODUCER, find: "    return bytes - this.#removedBytes <= maxBytes;", put: "    return bytes - this.#removedBytes < maxBytes;" }],
    tests: [NOTICES],
  },
  {
    name: "a limit is one byte too high",
    edits: [{ file: PRODUCER, find: "    if (bytes - this.#removedBytes <= maxBytes) return true;\n    this.#removedBytes", put: "    if (bytes - this.#removedBytes <= maxBytes + 1) return true;\n    this.#removedBytes" }],
    tests: [NOTICES],
  },
  {
    name: "segments of a push that failed stay taken",
    edits: [{ file: PRODUCER, find: "      try {\n        this.#segments.giveUp(this.#taken);", put: "      try {" }],
    tests: [NOTICES],
  },
  {
    name: "segments of a push whose mark does not fit stay taken",
    edits: [{ file: PRODUCER, find: "          this.#segments.giveUp(this.#taken);\n", put: "" }],
    tests: [NOTICES],
  },
  // ---- single records in one step
  {
    name: "commit before payload, one record",
    edits: [
      { file: QUEUE_CALLS, find: COPY_RECORD, put: `move(values, (double)(int64_t)bytes);\n  (void)hf_cell_publish(own->cells, own->count, own->salt, values);\n  ${COPY_RECORD}` },
      { file: QUEUE_CALLS, find: "  move(values, (double)(int64_t)bytes);\n  result = commit", put: "  result = commit" },
    ],
    tests: ["run tests/crash/step.ts 1 | push"],
  },
  {
    name: "room check off by 8 bytes, one record",
    edits: [{ file: QUEUE_CALLS, find: "bytes > own->length - offset ||", put: "bytes > own->length - offset + 8 ||" }],
    tests: ["c queue_test"],
  },
  {
    name: "a record is appended whichever segment is the tail's",
    edits: [{ file: QUEUE_CALLS, find: "if (values[HF_SEGMENT] != own->segment_id || offset", put: "if (offset" }],
    tests: ["c queue_test"],
  },
  {
    name: "a limit is one byte too high, one record",
    edits: [{ file: QUEUE_CALLS, find: "(double)(int64_t)bytes > own->limit)", put: "(double)(int64_t)bytes > own->limit + 1)" }],
    tests: ["c queue_test"],
  },
  {
    name: "the end of a payload is left out",
    edits: [{ file: QUEUE_CALLS, find: "for (size_t i = 0; i < rest; i++) last", put: "for (size_t i = 0; i + 1 < rest; i++) last" }],
    tests: ["c queue_test"],
  },
  {
    name: "a step that leaves it to others keeps the lock",
    edits: [{ file: QUEUE_CALLS, find: "  (void)hf_lock_release(side->lock, side->owner);\n", put: "  if (result == 0) (void)hf_lock_release(side->lock, side->owner);\n" }],
    tests: ["c queue_test"],
  },
  {
    name: "an append does not tell of those who wait",
    edits: [{ file: QUEUE_CALLS, find: "return result != 0 ? result : hf_awaited(side->lock);", put: "return result;" }],
    tests: ["c queue_test"],
  },
  {
    name: "an empty queue is said to be so though a record is leased",
    edits: [{ file: QUEUE_CALLS, find: "return values[HF_LEASED] == 0 ? 0 : HF_E_BUSY;", put: "return 0;" }],
    tests: ["c queue_test"],
  },
  {
    name: "the front is taken past what is leased",
    edits: [{ file: QUEUE_CALLS, find: "bool plain = values[HF_LEASED] == 0 &&", put: "bool plain =" }],
    tests: ["c queue_test"],
  },
  {
    name: "the front is taken in front of a head that stays behind",
    edits: [{ file: QUEUE_CALLS, find: "&& values[HF_HEAD] == own->segment_id &&", put: "&&" }],
    tests: ["c queue_test"],
  },
  {
    name: "the front is taken behind a tail of long ago",
    edits: [{ file: QUEUE_CALLS, find: "               values[HF_POSITION] < tail[HF_POSITION] && offset < end", put: "               offset < end" }],
    tests: ["c queue_test"],
  },
  {
    name: "the front is taken behind the end of its segment",
    edits: [{ file: QUEUE_CALLS, find: KNOWN_END, put: KNOWN_END.replace("end = own->end", "end = own->length") }],
    tests: ["c queue_test"],
  },
  {
    name: "the end of another use of a segment is taken for that of this one",
    edits: [{ file: QUEUE_CALLS, find: KNOWN_END, put: "else end = own->end;" }],
    tests: ["c queue_test"],
  },
  {
    name: "the front's sequence is not looked at",
    edits: [{ file: QUEUE_CALLS, find: "return record.sequence == (uint64_t)(int64_t)sequence &&", put: "return sequence >= 0 &&" }],
    tests: ["c queue_test"],
  },
  {
    name: "the front's payload may be of another length than its record",
    edits: [{ file: QUEUE_CALLS, find: "&& record_bytes((uint32_t)record.payload_bytes) == (uint64_t)(int64_t)length;", put: "&& length > 0;" }],
    tests: ["c queue_test"],
  },
  {
    name: "a record is passed without the lock",
    edits: [{ file: QUEUE_CALLS, find: "  if (!hf_lock_is(own->lock, own->owner)) return hf_faulted(own->lock) ? HF_E_FAULT : HF_E_OWNER;\n", put: "" }],
    tests: ["c queue_test"],
  },
  // ---- consumers and leases
  {
    name: "an acknowledgement does not look who the owner is",
    edits: [{ file: CONSUMER, find: "&& entry.owner === lease.owner && entry.attempts === lease.attempts) return entry;", put: ") return entry;" }],
    tests: [QUEUE],
  },
  {
    name: "an acknowledgement does not look at the attempts",
    edits: [{ file: CONSUMER, find: "&& entry.owner === lease.owner && entry.attempts === lease.attempts) return entry;", put: "&& entry.owner === lease.owner) return entry;" }],
    tests: [QUEUE, "tests/conformance/queue_delivery.test.ts", STOPPED],
  },
  {
    name: "the lease entry is written after the cursor has moved",
    edits: [
      { file: CONSUMER, find: "      this.#leases.write(entry);\n", put: "" },
      { file: CONSUMER, find: "Math.max(cell[CONSUMER.leaseEnd] as number, index + 1);\n      control.commit(control.consumer);", put: "Math.max(cell[CONSUMER.leaseEnd] as number, index + 1);\n      control.publish(control.consumer);\n      this.#leases.write(entry);\n      control.release(control.consumer);" },
    ],
    tests: [EVERY_CALL("lease")],
  },
  {
    name: "clear frees the leases before its commit",
    edits: [{
      file: CONSUMER,
      find: "      control.publish(control.consumer);\n      for (let index = 0; index < end; index++) this.#leases.clear(index);",
      put: "      for (let index = 0; index < end; index++) this.#leases.clear(index);\n      control.publish(control.consumer);",
    }],
    tests: [EVERY_CALL("clear, with a lease")],
  },
  {
    name: "a takeover does not repair the lease table",
    edits: [{ file: CONSUMER, find: "if (takenOver) this.#repair();", put: "" }],
    tests: [EVERY_CALL("pop after a death inside ack: counts are repaired")],
  },
  {
    name: "a segment is given up while a record in it is leased",
    edits: [{ file: CONSUMER, find: "leased.some((entry) => entry.segment === id);", put: "leased.some((entry) => entry.segment === id && id < 0);" }],
    tests: [QUEUE, "tests/model/queue.test.ts"],
  },
  {
    name: "a segment is given up before the commit that says so",
    edits: [{ file: CONSUMER, find: "    control.publish(control.consumer);\n    this.#halfDone = false;\n    this.#giveUpAndRelease(free, cell);", put: "    this.#segments.giveUp(free);\n    control.publish(control.consumer);\n    this.#halfDone = false;\n    control.release(control.consumer);" }],
    tests: [EVERY_CALL("pop over a segment end, which frees a spare")],
  },
  {
    name: "a lease given again keeps its attempts",
    edits: [{ file: CONSUMER, find: "const attempts = again.attempts + 1;", put: "const attempts = again.attempts;" }],
    tests: [QUEUE],
  },
  {
    name: "a dead holder's lease is not handed out again",
    edits: [{ file: LEASES, find: "if (entry.owner === 0 || late || this.#dead.has(entry.owner)) oldest = entry;", put: "if (entry.owner === 0 || late) oldest = entry;" }],
    tests: [EVERY_CALL("lease")],
  },
  {
    name: "a living holder's lease is handed out again",
    edits: [{ file: LEASES, find: "if (entry.owner === 0 || late || this.#dead.has(entry.owner)) oldest = entry;", put: "if (entry.owner >= 0) oldest = entry;" }],
    tests: [QUEUE],
  },
  {
    name: "a lease entry's seal is not looked at",
    edits: [{ file: LEASES, find: "if (Math.floor(sealed / ATTEMPTS_RANGE) !== ", put: "if (sealed < 0 && 0 !== " }],
    tests: [TROUBLE],
  },
  {
    name: "a transfer leaves the old owner to the end",
    edits: [{ file: LEASES, find: "    this.giveBack(entry.index);\n    words[0] = entry.deadline;", put: "    words[0] = entry.deadline;" }],
    tests: [EVERY_CALL("lease of what a living one has too late")],
  },
  {
    name: "a repair leaves the entry that was being written",
    edits: [{ file: LEASES, find: "if (stored === sequence || index >= free) {", put: "if (stored > sequence) {" }],
    tests: [EVERY_CALL("pop after a death inside lease: the entry is freed")],
  },
  // ---- segments
  {
    name: "a spare is used without being taken from the list",
    edits: [{ file: SEGMENTS, find: "this.#hf.hf_cas64(cell, id, 0) === id) return", put: "this.#hf.hf_cas64(cell, id, id) === id) return" }],
    tests: [QUEUE],
  },
  {
    name: "a sweep takes spares for waste",
    edits: [{ file: SEGMENTS, find: "for (let i = 0; i < shape.spares; i++) kept.add(", put: "for (let i = 0; i < 0; i++) kept.add(" }],
    tests: [EVERY_CALL("sweep of what a death inside push left"), QUEUE],
  },
  {
    name: "nothing is swept",
    edits: [{ file: SEGMENTS, find: "if (id === undefined || kept.has(id)) continue;", put: "if (id === undefined || id > 0) continue;" }],
    tests: [CRASH],
  },
  {
    name: "the end of a segment is said after the commit",
    edits: [
      { file: PRODUCER, find: "readonly #taken: number[] = [];", put: "readonly #taken: number[] = [];\n  readonly #late: (() => void)[] = [];" },
      { file: PRODUCER, find: "this.#segments.setState(from, { base, end, next: id });", put: "this.#late.push(() => this.#segments.setState(from, { base, end, next: id }));" },
      {
        file: PRODUCER,
        find: "else if (control.commit(side) && count > 0) control.ring(count);",
        put: "else {\n        if (control.commit(side) && count > 0) control.ring(count);\n        for (const link of this.#late.splice(0)) link();\n      }",
      },
    ],
    tests: [EVERY_CALL("push into the next segment, a spare")],
  },
  // ---- recovery of logs, and verify
  {
    name: "owners in groups' files are not looked at when a slot is taken",
    edits: [{ file: CONTROL, find: "for (const owner of groupOwners(this.directory, this.rebuilt)) look(owner);", put: "groupOwners(this.directory, this.rebuilt);" }],
    tests: [LOG_RECOVERY],
  },
  {
    name: "a recovered log's groups keep the names of their files",
    edits: [{ file: RECOVER, find: "writer.file(groupFileName(name, rebuilt), content);", put: "fs.rmSync(join(writer.created[0] as string, \"..\", groupFileName(name)), { force: true });\n    writer.file(groupFileName(name), content);" }],
    tests: [LOG_RECOVERY],
  },
  {
    name: "a recovered group starts behind the record that it is to have next",
    edits: [{ file: RECOVER, find: "for (; (waiting[0]?.next ?? Infinity) <= number;", put: "for (; (waiting[0]?.next ?? Infinity) < number;" }],
    tests: [LOG_RECOVERY],
  },
  {
    name: "a group's leases are taken as they are, whatever its cell says",
    edits: [{ file: VERIFY, find: "if (!table.complete && (state.settled || this.#powerLoss || consumer.current === undefined)) {", put: "if (table.entries.length < 0) {" }],
    tests: [LOG_RECOVERY],
  },
  {
    name: "what looks damaged in front of the cursor is not read again",
    edits: [{ file: VERIFY, find: "if (now?.head !== cursor.head || now.position - now.offset !== cursor.position - cursor.offset) continue;", put: "if (now?.head !== cursor.head) continue;" }, { file: VERIFY, find: "if (broken === undefined) return;", put: "" }],
    tests: [VERIFY_TEST],
  },
  {
    name: "damage at a place that was given up meanwhile counts",
    edits: [{ file: VERIFY, find: "const isGone = (position: number): boolean => (control.read(this.#salt).consumer.current?.[0] ?? 0) > position;", put: "const isGone = (position: number): boolean => position < 0;" }],
    tests: [VERIFY_TEST],
  },
];
