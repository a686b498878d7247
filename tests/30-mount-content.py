#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: sanitize
"""
Each generated layout, mounted: names, sizes and bytes are the true ones, and so are random reads by
eight readers at once: plain, O_DIRECT, mmap, and with -o direct_io; from the first moment on, while
the scan may still run.
"""

import mmap
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *
from readers import *


def check_layout(layout, how, *options):
    path, files = archive_of(layout)
    disks = {n: c for n, c in files.items() if n.endswith((".raw", ".bin"))}
    # --index-cache=none: each of these mounts shall scan.
    with mounted(path, "--index-cache=none", *options) as mnt:
        read_at_random(mnt, disks, how)
        same(sorted(os.listdir(mnt)), sorted(files), f"names in {layout}")
        for name, content in files.items():
            same(os.stat(os.path.join(mnt, name)).st_size, len(content), f"{layout}: {name}: size")
            check(slurp(os.path.join(mnt, name)) == content, f"{layout}: {name} has wrong bytes")
    os.unlink(path)


def test_layouts():
    for layout in vmagen.LAYOUTS:
        check_layout(layout, [read_buffered, read_direct, read_mapped])


def test_direct_io():
    for layout in ("out-of-order", "random-masks", "unaligned", "odd-header"):
        check_layout(layout, [read_buffered, read_direct], "-o", "direct_io")


def test_private_mmap_with_direct_io():
    path, files = archive_of("ordered")
    with mounted(path, "-o", "direct_io") as mnt, \
            open(os.path.join(mnt, "disk-drive-scsi0.raw"), "rb") as f, \
            mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as memory:
        check(memory[:] == files["disk-drive-scsi0.raw"], "a private mapping has wrong bytes")


def test_extract():
    """extract and mount come out the same for every layout."""
    for layout in vmagen.LAYOUTS:
        path, files = archive_of(layout, seed=2)
        with folder() as parent:
            result = tool("extract", path, os.path.join(parent, "out"))
            same((result.returncode, result.stderr), (0, ""), f"extract of {layout}")
            for name, content in files.items():
                check(slurp(os.path.join(parent, "out", name)) == content, f"{layout}: {name}")
        os.unlink(path)


run(globals())
