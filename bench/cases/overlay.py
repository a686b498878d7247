# SPDX-License-Identifier: GPL-2.0-or-later
"""
Writes to an overlay, against the same writes to a raw file on the same disk, and to what does
the same with QEMU's tools: a qcow2 file over the raw disk, exported through FUSE.

Both begin anew for each run: the raw file as an empty one of the disk's size, so that both
allocate; "again" is a second time over the same places.  Writes end with one fsync, or have one
each.  Reads are of blocks that are in the overlay, with the pages of the mount's file dropped; those
of the scratch file and of the raw file are in the page cache.
"""

import contextlib
import os
import random

import inputs
import mounts
from measure import interleave, ratio, timed

MIB = 1 << 20
SYNCED = 60


def _sequential(fd, size):
    data = b"s" * MIB
    for at in range(0, size, MIB):
        os.pwrite(fd, data, at)
    os.fsync(fd)


def _places(size, count):
    rng = random.Random(7)
    return [4096 * at for at in rng.sample(range(size // 4096), count)]


def _random(fd, places):
    data = b"r" * 4096
    for at in places:
        os.pwrite(fd, data, at)
    os.fsync(fd)


def _each_synced(fd, places):
    data = b"f" * 4096
    for at in places:
        os.pwrite(fd, data, at)
        os.fsync(fd)


def _reads(fd, places):
    for at in places:
        os.pread(fd, 4096, at)


def _measure(path, size, is_mount):
    """Seconds of each kind of work, in one file."""
    places = _places(size, min(20000, size // 4096 // 2))
    fd = os.open(path, os.O_RDWR)
    try:
        found = {
            "random, first": timed(_random, fd, places),
            "random, again": timed(_random, fd, places),
            "each synced, first": timed(_each_synced, fd, _places(size // 2, SYNCED)),
            "each synced, again": timed(_each_synced, fd, _places(size // 2, SYNCED)),
            "sequential, first": timed(_sequential, fd, size),
            "sequential, again": timed(_sequential, fd, size),
        }
        if is_mount:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        found["random reads"] = timed(_reads, fd, places)
        return found
    finally:
        os.close(fd)


def run(bench):
    size = bench.size // 4
    names = ("disk.raw", "disk.vma", "empty.raw", "overlay", "over.qcow2")
    with bench.files(*names) as (raw, archive, empty, scratch, qcow2):
        bench.note("making a disk and its archive")
        inputs.random_disk(raw, size)
        inputs.archive_of(raw, archive)

        def on_raw():
            with open(empty, "wb") as f:
                f.truncate(size)
            found = _measure(empty, size, False)
            os.unlink(empty)
            return found

        def on_overlay():
            with mounts.vmafs(bench, archive, f"overlay={scratch}") as disk:
                found = _measure(disk, size, True)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(scratch)
            return found

        def on_qcow2():
            with mounts.qsd_overlay(bench, raw, qcow2) as disk:
                found = _measure(disk, size, True)
            os.unlink(qcow2)
            return found

        subjects = {"raw file": on_raw, "overlay": on_overlay}
        if bench.has("qemu-storage-daemon", "qemu-img"):
            subjects["qcow2 through FUSE"] = on_qcow2
        s = interleave(subjects, bench.runs, lambda text: bench.note(f"overlay {text}"))
    samples = {f"{name}: {kind}": [one[kind] for one in found]
               for name, found in s.items() for kind in found[0]}
    rows = [ratio(f"{kind}: overlay / {peer}", samples[f"{peer}: {kind}"],
                  samples[f"overlay: {kind}"])
            for peer in subjects if peer != "overlay" for kind in s[peer][0]]
    return rows, [], samples
