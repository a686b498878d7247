#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: asan
"""
Every broken reference archive is refused with one line that names it and the place, and nothing is
left behind; where only data are damaged, the salvage mount gives what is intact and EIO for the rest.
"""

import errno
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *

MISSING = "30_missing_cluster 3b_no_extents 57_trunc_at_extent".split()
DAMAGED = """31_duplicate_same_extent 34_unknown_dev 37_beyond_end_in_bitmap_data
    39_beyond_end_off_bitmap_data 40_ext_badmd5 43_ext_reserved1 45_bc_plus1_with_data 47_bc_huge
    54_trunc_ext_header 55_trunc_ext_data 58_trail_10 82_vmstate_out_of_order""".split()
HEADER = """50_trunc_header_100 61_hdr_badmd5 66_hs_ffffffff 6a_bs_wrap 70_cfg_bad_ptr
    71_cfg_name_no_nul 75_cfg_empty_name_blob""".split()
CLUSTER = 65536


def refused(path, commands, advice):
    for command in commands:
        with folder() as parent:
            args = [command, path] + ([os.path.join(parent, "out")] if command == "extract" else [])
            line = failed(tool(*args), path)
            check(line.startswith("vmatool: ") or line.startswith("vma: "), line)
            same(os.listdir(parent), [], f"what {command} of {path} left")
    with folder() as mnt:
        line = failed(run_program(VMAFS, path, mnt), path)
        check(line.startswith("vmafs: "), line)
        check(("salvage" in line) == advice, f"wrong advice: {line}")
        check(not is_mounted(mnt), "a refused archive is mounted")
        wait_for(lambda: server(mnt) is None, 5, "the server of a refused mount ends")


def read_cluster(fd, number, size):
    """The bytes, or None for EIO."""
    try:
        return os.pread(fd, min(CLUSTER, size - number * CLUSTER), number * CLUSTER)
    except OSError as error:
        same(error.errno, errno.EIO, "errno of a read of what is damaged")
        return None


def test_missing_and_damaged():
    for name in MISSING + DAMAGED:
        refused(edge(name), ["verify", "extract"], advice=True)


def test_header():
    for name in HEADER:
        refused(edge(name), ["list", "config", "verify", "extract"], advice=False)


def test_salvage():
    for name in MISSING + DAMAGED:
        path = edge(name)
        reader = vmaread.load(path, salvage=True)
        lost = 0
        with mounted(path, "-o", "salvage") as mnt:
            for filename, dev in reader.files().items():
                if filename == "vmstate.bin":
                    continue    # what its length is when some is lost, nobody can say
                size = reader.disk_size(dev)
                with open(os.path.join(mnt, filename), "rb", buffering=0) as f:
                    same(os.fstat(f.fileno()).st_size, size, f"{name}: size of {filename}")
                    for number in range(-(-size // CLUSTER)):
                        wanted = reader.cluster(dev, number)
                        got = read_cluster(f.fileno(), number, size)
                        place = f"{name}: {filename} cluster {number}"
                        if wanted is None:
                            # A broken extent may still hold sound clusters; those may be given.
                            lost += got is None
                        else:
                            check(got is not None, f"{place} is intact, but cannot be read")
                            check(got == wanted[:len(got)], f"{place} has wrong bytes")
        if name in MISSING:
            check(lost > 0, f"{name}: a missing cluster was read as something")
            same(lost, sum(reader.cluster(dev, i) is None for dev in reader.header.devices
                           for i in range(-(-reader.disk_size(dev) // CLUSTER))),
                 f"{name}: clusters that give EIO")


def test_verify_salvage():
    """Says per disk what is lost."""
    for name in ("30_missing_cluster", "40_ext_badmd5", "57_trunc_at_extent"):
        result = tool("verify", "--salvage", edge(name))
        same(result.returncode, 1, f"status of verify --salvage {name}: {result.stderr}")
        text = result.stdout + result.stderr
        check("drive-scsi0" in text and "%" in text and "bytes" in text, text)
    result = tool("verify", "--salvage", edge("00_good"))
    same(result.returncode, 0, "status of verify --salvage of a sound archive")


run(globals())
