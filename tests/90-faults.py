#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=240
"""
Each call of the system that vmatool makes fails once: what it says then, and that it leaves
nothing. At more places in 93-deep.py.
"""

import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *
import faults
from faults import Command

DEEP = "TEST_DEEP" in os.environ
campaign = faults.Campaign(deep=DEEP, verbose="FAULTS_VERBOSE" in os.environ)
ARCHIVE, TRUE = archive_of("tiny")

ZST, GZ = faults.packed(ARCHIVE, "zst", "zstd", "-qc"), faults.packed(ARCHIVE, "gz", "gzip", "-c")


def vmatool(name, *argv, **more):
    campaign.run(Command(name, VMATOOL, *argv, **more))


def test_list():
    vmatool("list", "list", ARCHIVE)
    vmatool("config", "config", ARCHIVE, "-c", "qemu-server.conf")


def test_verify():
    vmatool("verify", "verify", ARCHIVE)
    vmatool("verify zst", "verify", ZST)
    vmatool("verify gz", "verify", GZ)
    vmatool("verify from a pipe", "verify", "-", stdin=ARCHIVE)


def test_extract():
    vmatool("extract", "extract", ARCHIVE, "{}/out")
    vmatool("extract zst", "extract", ZST, "{}/out")


def test_index():
    vmatool("index", "index", ARCHIVE)
    vmatool("index zst", "index", ZST)
    vmatool("index with checksums", "index", "--checksums", ARCHIVE)


def test_map():
    vmatool("map", "map", ARCHIVE, honest=b"missing")
    vmatool("info", "info", ARCHIVE, honest=b"missing")


def test_create():
    disk, config = (os.path.join(TMP, name) for name in ("disk.raw", "some.conf"))
    with open(disk, "wb") as f:
        f.write(os.urandom(100000))
        f.truncate(300000)
        f.write(os.urandom(5000))
    with open(config, "w") as f:
        f.write("name: some\n")
    fixed = ["--uuid", "01234567-89ab-cdef-0123-456789abcdef", "--ctime", "1"]
    for suffix in ("", ".zst", ".lz4"):
        vmatool("create" + suffix, "create", "{}/x.vma" + suffix, *fixed, "-c", config, disk)
    vmatool("create to a pipe", "create", "-", *fixed, disk)
    vmatool("create with a command", "create", "exec:cat >/dev/null && touch good", *fixed, disk)
    vmatool("repack", "repack", *fixed, ARCHIVE, "{}/x.vma")
    vmatool("repack zst", "repack", *fixed, ZST, "{}/x.vma.zst")


def test_diff():
    other, _ = archive_of("tiny", 2)
    vmatool("diff of the same", "diff", ARCHIVE, ZST, bad=2)
    vmatool("diff", "diff", ARCHIVE, other, good=1, bad=2)


def guest_archive():
    """An archive of a disk with a file system."""
    disk, files, path = (os.path.join(TMP, name) for name in ("guest.raw", "files", "guest.vma"))
    if not os.path.exists(path):
        os.makedirs(files + "/etc")
        for name, size in (("a", 10), ("b", 70000), ("etc/c", 5000)):
            with open(os.path.join(files, name), "wb") as f:
                f.write(random.Random(size).randbytes(size))
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", files, disk, "2M"], check=True)
        subprocess.run([VMATOOL, "create", path, disk], check=True)
    return path


def test_guest_files():
    guest = guest_archive()
    vmatool("parts", "parts", guest, honest=b"cannot")
    vmatool("ls", "ls", "-lR", guest + ":/")
    vmatool("cat", "cat", guest + ":/b", guest + ":/etc/c")
    vmatool("cp", "cp", "-a", guest + ":/", "{}/copy", parts_stay=True)


def test_all_met():
    campaign.end()


if __name__ == "__main__":
    run(globals())
