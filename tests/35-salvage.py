#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: sanitize
"""
Archives with random damage, mounted with salvage: every cluster of an extent that is intact can be
read and is right; of the others none is wrong.  Without salvage, verify and mount refuse them.
"""

import errno
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *

CLUSTER = 65536
ROUNDS = 8 if SLOW else 32


def extents(reader):
    """(offset, size, [(dev, cluster)]) of each extent of a sound archive."""
    at, found = reader.header.size, []
    while at < len(reader.data):
        used, size = reader.slots(at)
        found.append((at, size, [(dev, cluster) for dev, cluster, _ in used]))
        at += size
    return found


def spoil(data, listed, rng):
    """
    Damages the archive; returns it and the clusters that may be lost by it.

    Where a header is destroyed beyond recognition, it cannot be told from bytes that slipped into the
    extent before it, which may then be lost too rather than be read wrong.
    """
    data = bytearray(data)
    may_be_lost = set()
    for i in rng.sample(range(len(listed)), rng.randint(1, 3)):
        offset, _, clusters = listed[i]
        kind = rng.choice(("flip", "flip", "flip", "zero", "noise"))
        may_be_lost |= set(clusters)
        if kind != "flip" and i > 0:
            may_be_lost |= set(listed[i - 1][2])
        if kind == "flip":
            data[offset + rng.randrange(512)] ^= 1 << rng.randrange(8)
        elif kind == "zero":
            data[offset:offset + 512] = bytes(512)
        else:
            data[offset:offset + 512] = rng.randbytes(512)
    if rng.random() < 0.3:
        # Cut off; all that does not lie wholly before it may go.
        cut = rng.randrange(listed[0][0] + 1, len(data))
        for offset, size, clusters in listed:
            if offset + size > cut:
                may_be_lost |= set(clusters)
        del data[cut:]
    return bytes(data), may_be_lost


def compare(mnt, reader, may_be_lost):
    lost = 0
    for name, dev in reader.files().items():
        size = reader.disk_size(dev)
        with open(os.path.join(mnt, name), "rb", buffering=0) as f:
            same(os.fstat(f.fileno()).st_size, size, f"size of {name}")
            for number in range(-(-size // CLUSTER)):
                wanted = reader.cluster(dev, number)[:size - number * CLUSTER]
                place = f"{name}: cluster {number}"
                try:
                    got = os.pread(f.fileno(), CLUSTER, number * CLUSTER)
                except OSError as error:
                    same(error.errno, errno.EIO, "errno")
                    check((dev, number) in may_be_lost, f"{place} is intact, but EIO")
                    lost += 1
                    continue
                check(got == wanted, f"{place} has wrong bytes")
    return lost


def test_random_damage():
    for seed in range(ROUNDS):
        layout = ("interleaved", "random-masks", "one-per-extent", "slots-58")[seed % 4]
        path, _ = archive_of(layout, seed)
        reader = vmaread.load(path)
        data, may_be_lost = spoil(slurp(path), extents(reader), random.Random(seed))
        with open(path, "wb") as out:
            out.write(data)
        failed(tool("verify", path), path)
        with folder() as mnt:
            failed(run_program(VMAFS, path, mnt), path)
        with mounted(path, "-o", "salvage,wait") as mnt:
            lost = compare(mnt, reader, may_be_lost)
            errors = slurp(os.path.join(mnt, ".vmafs", "errors")).decode()
            if lost:
                check("lost: " in errors, f"{lost} clusters are lost, but not listed: {errors}")
        os.unlink(path)


def test_verify_tells_how_much():
    """One extent of many is lost: its bytes, and a share that is neither 0 nor all."""
    path, _ = archive_of("one-per-extent", 7)
    reader = vmaread.load(path)
    data = bytearray(slurp(path))
    offset, _, [(dev, cluster)] = next(e for e in extents(reader) if e[2][0][1] < 40)
    data[offset + 30] ^= 1
    with open(path, "wb") as out:
        out.write(data)
    result = tool("verify", "--salvage", path)
    same(result.returncode, 1, "status")
    text = result.stdout + result.stderr
    check("65536" in text.replace(",", ""), f"the lost bytes are not told: {text}")
    check("%" in text and "100%" not in text, f"the share is not told: {text}")


run(globals())
