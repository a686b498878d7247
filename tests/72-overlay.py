#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: asan
"""
-o overlay: what is written comes back, through every way of writing, next to what is the archive's;
also from a file that is mounted again; and the archive stays as it is.
"""

import ctypes
import hashlib
import mmap
import os
import random
import sys
import threading
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *

LIBC = ctypes.CDLL(None, use_errno=True)
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
ROUNDS = 25 if SLOW else 100


def fallocate(fd, mode, offset, size):
    result = LIBC.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(size))
    if result != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def sha(path):
    return hashlib.sha256(slurp(path)).hexdigest()


def disks_of(files):
    return {n: bytearray(c) for n, c in files.items() if n.startswith("disk-")}


def some_range(rng, size):
    unit = rng.choice((1, 512, 4096, 65536))
    start = rng.randrange(size) // unit * unit
    return start, min(size, start + max(unit, rng.choice((1, 600, 5000, 300000)) // unit * unit))


def change(path, data, seed):
    """Random writes through all ways; `data` follows."""
    rng = random.Random(seed)
    fd = os.open(path, os.O_RDWR)
    size = len(data)
    with mmap.mmap(fd, 0) as memory:
        for _ in range(ROUNDS):
            start, end = some_range(rng, size)
            new = rng.randbytes(end - start)
            way = rng.randrange(8)
            if way < 4:
                same(os.pwrite(fd, new, start), end - start, "bytes written")
            elif way < 6:
                memory[start:end] = new
            elif way == 6:
                fallocate(fd, rng.choice((PUNCH_HOLE, ZERO_RANGE)) | KEEP_SIZE, start, end - start)
                new = bytes(end - start)
            else:
                os.fsync(fd)
                new = data[start:end]
            data[start:end] = new
            start, end = some_range(rng, size)
            got = os.pread(fd, end - start, start)
            check(got == data[start:end], f"{path}: {start}-{end} is wrong")
            check(memory[start:end] == data[start:end], f"{path}: {start}-{end} is wrong in memory")
    if rng.random() < 0.5:
        os.fsync(fd)
    os.close(fd)


def check_disks(mnt, disks):
    for name, data in disks.items():
        path = os.path.join(mnt, name)
        same(os.stat(path).st_size, len(data), f"size of {name}")
        check(slurp(path) == data, f"{name} has wrong bytes")
        fd = os.open(path, os.O_RDONLY)
        at = 0
        while at < len(data):
            try:
                found = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:
                found = len(data)
            check(not any(data[at:found]), f"{name}: data between {at} and {found} pass for a hole")
            at = os.lseek(fd, found, os.SEEK_HOLE) if found < len(data) else found
        os.close(fd)
        check(os.stat(path).st_blocks > 0 or not any(data), f"{name} passes for empty")


def test_layouts():
    layouts = ("out-of-order", "random-masks", "unaligned", "sparse", "vmstate")
    for seed, layout in enumerate(layouts):
        path, files = archive_of(layout)
        before, disks = sha(path), disks_of(files)
        overlay = os.path.join(TMP, layout + ".overlay")
        for turn in range(2):
            with mounted(path, "-o", f"overlay={overlay}") as mnt:
                check_disks(mnt, disks)
                threads = [threading.Thread(target=change,
                                            args=(os.path.join(mnt, n), d, seed + turn))
                           for n, d in disks.items()]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                check_disks(mnt, disks)
                for name, content in files.items():
                    if name not in disks:
                        check(slurp(os.path.join(mnt, name)) == content, f"{name} has wrong bytes")
        with mounted(path, "-o", f"overlay={overlay},ro") as mnt:
            check_disks(mnt, disks)
        same(sha(path), before, "the archive")
        with mounted(path) as mnt:
            check_disks(mnt, disks_of(files))
        os.unlink(overlay)
        os.unlink(path)


def test_temporary():
    """Nothing of it is left, and nothing of it is seen in the next mount."""
    path, files = archive_of("ordered")
    with folder() as scratch:
        env = dict(os.environ, TMPDIR=scratch)
        for _ in range(2):
            disks = disks_of(files)
            with mounted(path, "-o", "overlay", env=env) as mnt:
                check_disks(mnt, disks)
                for name, data in disks.items():
                    change(os.path.join(mnt, name), data, 9)
                check_disks(mnt, disks)
                same(os.listdir(scratch), [], "files of a temporary overlay")
    os.unlink(path)


def test_direct_io():
    path, files = archive_of("random-masks")
    with mounted(path, "-o", "overlay,direct_io") as mnt:
        for name, data in disks_of(files).items():
            rng = random.Random(3)
            with open(os.path.join(mnt, name), "r+b", buffering=0) as f:
                for _ in range(ROUNDS):
                    start, end = some_range(rng, len(data))
                    data[start:end] = rng.randbytes(end - start)
                    f.seek(start)
                    same(f.write(data[start:end]), end - start, "bytes written")
            check_disks(mnt, {name: data})
    os.unlink(path)


def test_damaged():
    """What is lost stays lost until it is written as a whole; a part of it cannot be written."""
    path, files = archive_of("random-masks")
    data = bytearray(slurp(path))
    reader = vmaread.load(path)
    at, extents = reader.header.size, []
    while at < len(reader.data):
        extents.append(at)
        at += reader.slots(at)[1]
    spoiled = extents[len(extents) // 2]
    data[spoiled + 100] ^= 1
    with open(path, "wb") as f:
        f.write(data)
    with mounted(path, "-o", "overlay,salvage,wait") as mnt:
        with open(os.path.join(mnt, ".vmafs/errors"), encoding="utf-8") as f:
            lost = [line.split(": ") for line in f if line.startswith("lost:")]
        check(lost, "nothing is lost")
        name, (start, end) = lost[0][1], map(int, lost[0][2].split("-"))
        fd = os.open(os.path.join(mnt, name), os.O_RDWR)
        for work in (lambda: os.pread(fd, 512, start), lambda: os.pread(fd, 4096, start),
                     lambda: os.pwrite(fd, bytes(512), start + 512)):
            try:
                work()
            except OSError as error:
                same(error.errno, 5, "errno")
            else:
                raise AssertionError("what is lost can be read, or written in part")
        same(os.pwrite(fd, b"x" * 4096, start), 4096, "bytes written")
        same(os.pread(fd, 4096, start), b"x" * 4096, "a block that was lost")
        same(os.pwrite(fd, b"y" * 10, start + 20), 10, "bytes written")
        same(os.pread(fd, 60, start), b"x" * 20 + b"y" * 10 + b"x" * 30, "a block that was lost")
        if end - start > 4096:
            try:
                os.pread(fd, 4096, start + 4096)
                raise AssertionError("the rest is not lost any more")
            except OSError as error:
                same(error.errno, 5, "errno")
        os.close(fd)
    os.unlink(path)


def test_delta():
    """Over a delta and its base; the overlay is bound to both."""
    rng = random.Random(5)
    old = bytearray(rng.randbytes(20 * 65536))
    new = bytearray(old)
    for cluster in (3, 4, 11):
        new[cluster * 65536:(cluster + 1) * 65536] = rng.randbytes(65536)
    base, delta, other = (os.path.join(TMP, name) for name in ("base.vma", "delta.vma", "other.vma"))
    lower = vmagen.Archive(5, [vmagen.Disk(1, "drive-scsi0", old)])
    lower.write(base)

    class Delta(vmagen.Archive):
        def listing(self):
            return [(disk, cluster) for disk, cluster in super().listing() if cluster in (3, 4, 11)]

    Delta(6, [vmagen.Disk(1, "drive-scsi0", new)],
          [(0, ("vma-base.uuid", str(uuid.UUID(bytes=lower.uuid)).encode()))]).write(delta)
    overlay = os.path.join(TMP, "delta.overlay")
    disks = {"disk-drive-scsi0.raw": new}
    for turn in range(2):
        with mounted(delta, "-o", f"base={base},overlay={overlay}") as mnt:
            check_disks(mnt, disks)
            change(os.path.join(mnt, "disk-drive-scsi0.raw"), new, turn)
            check_disks(mnt, disks)
    with open(base, "rb") as f, open(other, "wb") as g:
        g.write(f.read() + b"x")
    with folder() as mnt:
        line = failed(run_program(VMAFS, delta, mnt, "-o", f"base={other},overlay={overlay}"),
                      overlay, offset=False)
        check("in another file" in line, line)


run(globals())
