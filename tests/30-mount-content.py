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
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *

READERS = 8
READS = 150 if SLOW else 600


def in_parallel(work):
    """Calls work(seed) in READERS processes; all must succeed."""
    sys.stdout.flush()
    children = []
    for seed in range(READERS):
        pid = os.fork()
        if pid == 0:
            try:
                work(seed)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        children.append(pid)
    same([os.waitpid(pid, 0)[1] for pid in children], [0] * READERS, "results of the readers")


def places(rng, size):
    """Random (offset, length) pairs: small and large, across edges of clusters, past the end."""
    for i in range(READS):
        kind = i % 4
        if kind == 0:
            yield rng.randrange(size + 10), rng.randrange(1, 5000)
        elif kind == 1:
            edge_ = rng.randrange(0, size + 1, 65536)
            yield max(0, edge_ - rng.randrange(5000)), rng.randrange(1, 10000)
        elif kind == 2:
            yield rng.randrange(0, size, 4096), 4096 * rng.randrange(1, 64)
        else:
            yield max(0, size - rng.randrange(1, 70000)), 70000


def read_buffered(path, data, seed):
    rng = random.Random(seed)
    with open(path, "rb", buffering=0) as f:
        for at, length in places(rng, len(data)):
            if os.pread(f.fileno(), length, at) != data[at:at + length]:
                raise AssertionError(f"{path}: {length} bytes at {at} are wrong")


def read_direct(path, data, seed):
    """O_DIRECT wants aligned memory, which an anonymous mapping is."""
    rng = random.Random(seed)
    buffer = mmap.mmap(-1, 1 << 18)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    for at, length in places(rng, len(data)):
        at, length = at // 4096 * 4096, -(-length // 4096) * 4096
        got = os.preadv(fd, [memoryview(buffer)[:length]], at)
        if buffer[:got] != data[at:at + length]:
            raise AssertionError(f"{path}: O_DIRECT: {length} bytes at {at} are wrong")
    os.close(fd)


def read_mapped(path, data, seed):
    rng = random.Random(seed)
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as memory:
        for at, length in places(rng, len(data)):
            if memory[at:at + length] != data[at:at + length]:
                raise AssertionError(f"{path}: mmap: {length} bytes at {at} are wrong")


def read_at_random(mnt, disks, how):
    """Each reader takes another disk and, where there are several, another way."""
    names = sorted(disks)

    def work(seed):
        name = names[seed * 37 % len(names)]
        how[seed % len(how)](os.path.join(mnt, name), disks[name], seed)
    in_parallel(work)


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
