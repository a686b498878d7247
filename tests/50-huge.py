#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: serial timeout=300
"""
A terabyte of archive (extent headers are real, the data are holes), mounted for the first time: the first
byte in less than a second, reads anywhere are right while the scan runs, the index is complete in time
that grows linearly, and the second mount is ready at once.
"""

import glob
import json
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *

BLOCK = 4096
# With --long on a disk, whose cache is emptied first; else in memory.
LONG = "TEST_LONG" in os.environ


def status(mnt):
    return json.loads(slurp(os.path.join(mnt, ".vmafs", "status")))


def wait_for_index(mnt):
    start = time.monotonic()
    wait_for(lambda: status(mnt)["index"]["state"] != "building", 120, "the index is complete")
    same(status(mnt)["index"]["state"], "complete", "the index")
    return time.monotonic() - start


def drop_cache(path):
    """As after a reboot: the headers are not in memory any more."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def check_marks(fd, facts, rng, count):
    """Marked blocks hold their cluster's number, everything around them is zero."""
    for at, cluster in rng.sample(facts["marks"], min(count, len(facts["marks"]))):
        got = os.pread(fd, 3 * BLOCK, at - BLOCK)
        wanted = bytes(BLOCK) + cluster.to_bytes(8, "big") * 512 + bytes(BLOCK)
        check(got == wanted, f"wrong bytes around {at}")


def first_byte(path, facts, *options):
    """Seconds from the start of vmafs until a byte of the disk is there."""
    start = time.monotonic()
    with mounted(path, *options) as mnt:
        with open(os.path.join(mnt, facts["disk"]), "rb", buffering=0) as f:
            same(f.read(1), b"\0", "the first byte")
        return time.monotonic() - start


def test_terabyte():
    path = os.path.join(TMP if LONG else BIG, "huge.vma")
    facts = vmagen.huge(path, 10**12)
    rng = random.Random(1)

    seconds = first_byte(path, facts, "--index-cache=none")
    print(f"  first byte, headers in memory: {seconds:.2f} s")
    check(seconds < 1.5, f"first byte after {seconds:.2f} s")

    if LONG:
        drop_cache(path)
    start = time.monotonic()
    with mounted(path) as mnt:
        with open(os.path.join(mnt, facts["disk"]), "rb", buffering=0) as f:
            same(os.fstat(f.fileno()).st_size, facts["disk_size"], "the disk's size")
            same(f.read(1), b"\0", "the first byte")
            seconds = time.monotonic() - start
            print(f"  first byte, new: {seconds:.2f} s")
            check(seconds < 1.5, f"first byte after {seconds:.2f} s, then")
            check_marks(f.fileno(), facts, rng, 20)     # some of them wait for the scan
            print(f"  index complete: {wait_for_index(mnt):.1f} s later")
            check_marks(f.fileno(), facts, rng, 200)
            last = facts["disk_size"] - BLOCK
            same(len(os.pread(f.fileno(), 2 * BLOCK, last)), BLOCK, "bytes at the end")
        # It is saved a moment after it is complete.
        wait_for(lambda: glob.glob(os.path.join(TMP, "cache", "vmafs", "*.vmaidx")), 10,
                 "the index is saved")
        index = status(mnt)["index"]
        same(index["extents"], facts["extents"], "extents")
        # At most 8 bytes a cluster at worst, 0.5 where clusters stand in order.
        clusters = facts["disk_size"] // 65536
        print(f"  memory: {index['memory'] / clusters:.2f} bytes a cluster")
        check(index["memory"] <= clusters * 0.5, f"{index['memory']} bytes for {clusters} clusters")

    start = time.monotonic()
    with mounted(path) as mnt:
        with open(os.path.join(mnt, facts["disk"]), "rb", buffering=0) as f:
            f.read(1)
            seconds = time.monotonic() - start
            same(status(mnt)["index"]["loaded"], True, "the saved index was used")
            print(f"  second mount: {1000 * seconds:.0f} ms")
            check(seconds < 0.5, f"the second mount took {seconds:.2f} s")
            check_marks(f.fileno(), facts, rng, 200)
    os.unlink(path)


def test_linear():
    """A quarter of the headers takes about a quarter of the time, and a start takes none."""
    times = []
    for size in (5 * 10**10, 2 * 10**11):
        path = os.path.join(BIG, "part.vma")
        facts = vmagen.huge(path, size)
        best = 1e9
        for _ in range(3):
            start = time.monotonic()
            with mounted(path, "-o", "wait", "--index-cache=none") as mnt:
                best = min(best, time.monotonic() - start)
                same(status(mnt)["index"]["extents"], facts["extents"], "extents")
        times.append(best)
        os.unlink(path)
    print(f"  0.05 TB: {times[0]:.2f} s, 0.2 TB: {times[1]:.2f} s")
    check(times[1] < 8 * times[0] + 0.2, f"not linear: {times}")


run(globals())
