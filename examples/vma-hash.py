#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""An example of libvma from Python, with nothing but ctypes: the SHA-256 sum of each disk.

    vma-hash.py ARCHIVE

The same sums as `sha256sum` has for the disks when they are extracted.
"""
import ctypes
import hashlib
import sys

CHUNK = 1 << 20

lib = ctypes.CDLL("libvma.so.0")
lib.vma_message.restype = ctypes.c_char_p
lib.vma_open.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_char_p, ctypes.c_void_p]
lib.vma_close.argtypes = [ctypes.c_void_p]
lib.vma_close.restype = None
lib.vma_n_disks.argtypes = [ctypes.c_void_p]
lib.vma_n_disks.restype = ctypes.c_size_t
lib.vma_disk.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
lib.vma_disk.restype = ctypes.c_void_p
lib.vma_disk_file_name.argtypes = [ctypes.c_void_p]
lib.vma_disk_file_name.restype = ctypes.c_char_p
lib.vma_disk_read.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64,
                              ctypes.POINTER(ctypes.c_int)]
lib.vma_disk_read.restype = ctypes.c_ssize_t


def check(good):
    if not good:
        sys.exit("vma-hash: " + lib.vma_message().decode(errors="replace"))


def hash_disk(disk):
    """The sum over all of a disk, read from its beginning to its end."""
    digest = hashlib.sha256()
    buffer = ctypes.create_string_buffer(CHUNK)
    offset = 0
    while (n := lib.vma_disk_read(disk, buffer, CHUNK, offset, None)) > 0:
        digest.update(memoryview(buffer)[:n])
        offset += n
    check(n == 0)
    return digest.hexdigest()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    handle = ctypes.c_void_p()
    check(lib.vma_open(ctypes.byref(handle), sys.argv[1].encode(), None) == 0)
    for i in range(lib.vma_n_disks(handle)):
        disk = lib.vma_disk(handle, i)
        print(f"{hash_disk(disk)}  {lib.vma_disk_file_name(disk).decode()}")
    lib.vma_close(handle)


if __name__ == "__main__":
    main()
