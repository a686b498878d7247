#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: serial timeout=200
"""
An empty disk of 1 TiB: 290 000 bare headers in a row and one block of data at the very end.
"""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *


def test_empty_tebibyte():
    path = os.path.join(TMP, "empty.vma")
    facts = vmagen.empty(path, 1 << 40)
    start = time.monotonic()
    with mounted(path, "-o", "wait", "--index-cache=none") as mnt:
        seconds = time.monotonic() - start
        print(f"  indexed in {seconds:.2f} s")
        check(seconds < 10, f"{seconds:.1f} s for {facts['extents']} headers")
        disk = os.path.join(mnt, facts["disk"])
        status = json.loads(slurp(os.path.join(mnt, ".vmafs", "status")))
        # 0.5 bytes a cluster would be 8 MiB; zero clusters must be cheaper than data.
        check(status["index"]["memory"] < 8 << 20, f"memory: {status['index']['memory']}")
        same(os.stat(disk).st_blocks, 8, "st_blocks")
        fd = os.open(disk, os.O_RDONLY)
        start = time.monotonic()
        same(os.lseek(fd, 0, os.SEEK_DATA), facts["data_at"], "the only data")
        same(os.lseek(fd, 0, os.SEEK_HOLE), 0, "the first hole")
        same(os.lseek(fd, facts["data_at"], os.SEEK_HOLE), facts["data_at"] + 4096, "the last hole")
        check(time.monotonic() - start < 3, "seeking over a tebibyte of zeros is slow")
        same(os.pread(fd, 8192, facts["data_at"]), b"\xa5" * 4096 + bytes(4096), "the data")
        same(os.pread(fd, 4096, 1 << 39), bytes(4096), "zeros in the middle")
        os.close(fd)

    start = time.monotonic()
    same(tool("verify", path).returncode, 0, "verify")
    out = os.path.join(TMP, "out")
    same(tool("extract", path, out).returncode, 0, "extract")
    print(f"  verify and extract: {time.monotonic() - start:.2f} s")
    stat = os.stat(os.path.join(out, facts["disk"]))
    same(stat.st_size, 1 << 40, "the extracted size")
    check(stat.st_blocks <= 256, f"{stat.st_blocks} sectors for one block of data")
    shutil.rmtree(out)


def test_sixteen_tebibytes_of_holes():
    """As large as a disk can reasonably be, cut off after its first headers: sizes are no problem."""
    path = os.path.join(TMP, "large.vma")
    disk = vmagen.Disk(1, "drive-scsi0", b"\1" * 65536, size=16 << 40)
    vmagen.Archive(3, [disk]).write(path)
    failed(tool("verify", path), path)
    with mounted(path, "-o", "salvage,wait") as mnt:
        disk = os.path.join(mnt, "disk-drive-scsi0.raw")
        same(os.stat(disk).st_size, 16 << 40, "the size")
        fd = os.open(disk, os.O_RDONLY)
        same(os.pread(fd, 65536, 0), b"\1" * 65536, "the only cluster")
        try:
            os.pread(fd, 4096, 15 << 40)
            raise AssertionError("a missing cluster could be read")
        except OSError:
            pass
        os.close(fd)
    os.unlink(path)


run(globals())
