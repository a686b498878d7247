# SPDX-License-Identifier: GPL-2.0-or-later
"""
Makes what is measured: raw disks, archives of them, and archives of real headers over holes.

The archives come from tests/lib/vmagen.py's header and extents, which know nothing of the programs
that are measured.
"""

import array
import os
import random
import shutil
import struct
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests",
                                "lib"))
import vmagen
from vmagen import BLOCK, CLUSTER, SLOTS

MIB, GIB, TB, TIB = 1 << 20, 1 << 30, 10**12, 1 << 40
DISK = "disk-drive-scsi0.raw"
FULL = 0xffff


def random_disk(path, size):
    """A disk without a zero block: random bytes, the same each time."""
    rng = random.Random(1)
    with open(path, "wb", buffering=0) as out:
        for at in range(0, size, MIB):
            out.write(rng.randbytes(min(MIB, size - at)))


def _header(size, seed=1):
    disk = vmagen.Disk(1, "drive-scsi0", b"", size=size)
    archive = vmagen.Archive(seed, [disk], [vmagen.CONF])
    return archive.uuid, archive.header()


def archive_of(raw, path):
    """The archive of a raw disk, in order, as Proxmox writes it: zero blocks are left out."""
    size = os.path.getsize(raw)
    uuid, header = _header(size)
    zeros = bytes(CLUSTER)
    with open(raw, "rb", buffering=0) as disk, open(path, "wb", buffering=0) as out:
        out.write(header)
        cluster = 0
        while True:
            data = disk.read(SLOTS * CLUSTER)
            if not data:
                break
            fields, parts = [], []
            for at in range(0, len(data), CLUSTER):
                piece = data[at:at + CLUSTER]
                mask = 0
                if piece != zeros[:len(piece)]:
                    for i in range(0, len(piece), BLOCK):
                        block = piece[i:i + BLOCK]
                        if block != zeros[:len(block)]:
                            mask |= 1 << i // BLOCK
                            parts.append(block.ljust(BLOCK, b"\0"))
                fields += [mask, 0, 1, cluster]
                cluster += 1
            fields += [0] * (4 * SLOTS - len(fields))
            payload = b"".join(parts)
            out.write(vmagen.extent_header(uuid, len(payload) // BLOCK, fields) + payload)


def headers(path, size, shuffled=False):
    """
    An archive of about `size` bytes whose payload is one hole: real headers of 59 full clusters
    each, in order or in the worst one.  Returns its number of clusters.
    """
    step = 512 + SLOTS * CLUSTER
    count = max(1, size // step)
    clusters = count * SLOTS
    uuid, header = _header(clusters * CLUSTER)
    order = range(clusters)
    if shuffled:
        order = array.array("I", order)
        random.Random(1).shuffle(order)
    with open(path, "wb", buffering=0) as out:
        out.write(header)
        for i in range(count):
            fields = [x for c in order[i * SLOTS:(i + 1) * SLOTS] for x in (FULL, 0, 1, c)]
            os.pwrite(out.fileno(), vmagen.extent_header(uuid, SLOTS * 16, fields),
                      len(header) + i * step)
        os.truncate(out.fileno(), len(header) + count * step)
        os.fsync(out.fileno())
    return clusters


def empty(path, size):
    """The archive of an empty disk: nothing but bare headers.  Returns their number."""
    clusters = -(-size // CLUSTER)
    uuid, header = _header(size)
    count = 0
    with open(path, "wb", buffering=MIB) as out:
        out.write(header)
        for first in range(0, clusters, SLOTS):
            last = min(first + SLOTS, clusters)
            fields = [x for c in range(first, last) for x in (0, 0, 1, c)]
            fields += [0] * (4 * SLOTS - len(fields))
            out.write(vmagen.extent_header(uuid, 0, fields))
            count += 1
        out.flush()
        os.fsync(out.fileno())
    return count


def _file_sizes(rng, total):
    """Many small files, some large ones: what a guest's disk is made of."""
    while total > 0:
        kind = rng.random()
        if kind < 0.80:
            size = int(rng.paretovariate(1.1) * 1200)
        elif kind < 0.98:
            size = rng.randint(32 << 10, 512 << 10)
        else:
            size = rng.randint(1 << 20, 16 << 20)
        size = min(size, 32 << 20, total)
        yield size
        total -= size


def guest_disk(path, size):
    """A raw disk with an ext4 of small and large files on it, three quarters full."""
    rng = random.Random(2)
    tree = path + ".tree"
    shutil.rmtree(tree, ignore_errors=True)
    for i, length in enumerate(_file_sizes(rng, size * 3 // 4)):
        folder = os.path.join(tree, f"d{i // 1000}", f"e{i // 50 % 20}")
        if i % 50 == 0:
            os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"file-{i}"), "wb") as out:
            out.write(rng.randbytes(length))
    with open(path, "wb") as out:
        out.truncate(size)
    try:
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0",
                        "-i", "16384", "-d", tree, path], check=True, stdout=subprocess.DEVNULL)
    finally:
        shutil.rmtree(tree)


def evict(path):
    """Drops a file from the page cache, written back first."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def warm(path):
    """Reads a file into the page cache."""
    with open(path, "rb", buffering=0) as f:
        while f.read(MIB):
            pass
