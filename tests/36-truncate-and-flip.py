#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=300
"""
The programs themselves on an archive that is cut at every extent boundary and at random places, and
with single bytes changed: refused with one good line, no crash, and nothing left.  (The unit test
"damage" does the same for every byte.)
"""

import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *


def boundaries(path):
    reader = vmaread.load(path)
    at, found = reader.header.size, []
    while at < len(reader.data):
        found.append(at)
        at += reader.slots(at)[1]
    return found


def refused(path, data, what, extract=True):
    with open(path, "wb") as out:
        out.write(data)
    failed(tool("verify", path), path)
    if extract:
        with folder() as parent:
            failed(tool("extract", path, os.path.join(parent, "out")), path)
            same(os.listdir(parent), [], f"what extract left of an archive {what}")


def test_truncate():
    rng = random.Random(1)
    for layout in ("tiny", "random-masks"):
        path, _ = archive_of(layout)
        data = slurp(path)
        cuts = [c + delta for c in boundaries(path) for delta in (-1, 0, 1)]
        cuts += [rng.randrange(len(data)) for _ in range(40)] + [0, 1, 4, 100, 12287, len(data) - 1]
        for cut in cuts:
            refused(path, data[:cut], f"cut at {cut}")


def test_flip():
    path, _ = archive_of("tiny")
    data = bytearray(slurp(path))
    places = list(range(0, boundaries(path)[0], 41)) + list(range(64))
    for start in boundaries(path):
        places += range(start, start + 512, 3)
    for place in places:
        data[place] ^= 0x20
        refused(path, data, f"changed at {place}", extract=place % 8 == 0)
        data[place] ^= 0x20


def test_flip_mount():
    path, _ = archive_of("tiny")
    data = bytearray(slurp(path))
    rng = random.Random(2)
    for start in [0] + boundaries(path):
        for place in [start + rng.randrange(512 if start else 12288) for _ in range(15)]:
            data[place] ^= 0x01
            with open(path, "wb") as out:
                out.write(data)
            with folder() as mnt:
                failed(run_program(VMAFS, path, mnt), path)
                check(not is_mounted(mnt), f"mounted with byte {place} changed")
            data[place] ^= 0x01


run(globals())
