# SPDX-License-Identifier: GPL-2.0-or-later
"""
Readers of a mounted disk that compare what they get with the true bytes: at random places, several
at once, in each of the ways that a program can read a file.
"""

import mmap
import os
import random
import sys
import traceback

from harness import SLOW, same

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
