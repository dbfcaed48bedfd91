"""Reads shared memory objects of holdfast with multiprocessing.shared_memory and mmap; writes over the content's first bytes.

Usage: shared_memory_reader.py NAME TEXT
"""
import mmap
import os
import struct
import sys
from multiprocessing import resource_tracker, shared_memory

name, text = sys.argv[1], sys.argv[2].encode()


def content(view):
    assert bytes(view[:8]) == b"HFST\r\n\x1a\0"
    assert struct.unpack_from("<I", view, 12)[0] == 6
    size, capacity = (struct.unpack_from("<Q", view, offset)[0] & 0xFFFFFFFFFFFF for offset in (128, 256))
    return size, capacity, bytes(view[4096:4096 + size])


shared = shared_memory.SharedMemory(name)
# Until Python 3.13's track=False, whoever attaches an object would remove it when it ends.
resource_tracker.unregister(shared._name, "shared_memory")
size, capacity, first = content(shared.buf)

with open(f"/dev/shm/{name}", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
    assert content(mapped) == (size, capacity, first)
    mapped[4096:4096 + len(text)] = text

assert bytes(shared.buf[4096:4096 + len(text)]) == text
shared.close()
sys.stdout.buffer.write(b"%d %d %s" % (size, capacity, first))
