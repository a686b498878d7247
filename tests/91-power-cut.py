#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=240
"""
The power fails at any moment while an index, checkpoints, an archive or disks are written: no
final name is ever on something incomplete, what a cache has is used or made anew but never wrong,
and what a program has said to be done is there.  More often at each moment in 93-deep.py.
(Overlays: unit/overlay-faults.)
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *
from faults import digest, packed
import powercut

ROUNDS = 40 if "TEST_DEEP" in os.environ else 3
ARCHIVE, TRUE = archive_of("tiny")
ZST = packed(ARCHIVE, "zst", "zstd", "-qc")
FIXED = ["--uuid", "01234567-89ab-cdef-0123-456789abcdef", "--ctime", "1"]


def recorded(name, *command, **more):
    """Runs it in an empty folder; (events, what it made)."""
    where = os.path.join(BIG, "recorded." + name)
    os.mkdir(where)
    env = dict(os.environ, XDG_CACHE_HOME=where + "/cache")
    found = powercut.record(where, where + ".log", *(str(c).replace("{}", where) for c in command),
                            env=env, **more)
    made = {os.path.normpath(n): c for n, c in digest(where)[0].items()}
    shutil.rmtree(where)
    os.unlink(where + ".log")
    check(len(found) > 3, f"only {len(found)} events: {found}")
    return found, made


def new_archive(name, *command, temporary=r"\..*\.part", **more):
    """No name, or the whole archive; and that when all is done."""
    found, made = recorded(name, VMATOOL, *command, **more)
    states = 0
    for done, path in powercut.failures(found, 1, ROUNDS):
        there = {os.path.normpath(n): c for n, c in digest(path)[0].items()}
        for file, content in there.items():
            if not re.fullmatch(temporary, os.path.basename(file)):
                same(content, made.get(file), f"{name}: {file} after {done} of {len(found)} events")
        if done == len(found):
            check(made.items() <= there.items(), f"{name}: done, but not there: {sorted(there)}")
        states += 1
    print(f"    {name}: {len(found)} events, {states} states")


def test_create():
    disk = os.path.join(TMP, "disk.raw")
    with open(disk, "wb") as f:
        f.write(os.urandom(150000))
        f.truncate(400000)
        f.write(os.urandom(5000))
    for suffix in ("vma", "vma.zst"):
        new_archive("create." + suffix, "create", *FIXED, "{}/x." + suffix, disk)
    new_archive("create.hidden", "create", *FIXED, "{}/x.vma", disk, RECORD_NO_TMPFILE="1")
    new_archive("repack", "repack", "--index-cache=none", *FIXED, ARCHIVE, "{}/x.vma")


def test_extract():
    new_archive("extract", "extract", "--index-cache=none", ARCHIVE, "{}/out",
                temporary=r"tmp-.*|\.tmp-config|out")


def cache(name, archive, *command, reader="map"):
    """Whatever is left of the cache, the next program reads the archive right, and repairs the cache."""
    found, _ = recorded(name, VMATOOL, *command, archive)
    wanted = tool(reader, "--index-cache=none", archive)
    states = noted = 0
    for done, path in powercut.failures(found, 2, ROUNDS):
        env = dict(os.environ, XDG_CACHE_HOME=path + "/cache")
        left = sorted(digest(path)[1])
        got = tool(reader, archive, env=env)
        same((got.returncode, got.stdout), (0, wanted.stdout), f"{name}: after {done} events, {left}")
        # Only a journal that nobody finished may turn out to be nothing.
        if got.stderr:
            check("checkpoints" in got.stderr and any(n.endswith(".part") for n in left),
                  f"{name}: after {done} events, {left}: {got.stderr}")
            noted += 1
        again = tool(reader, archive, env=env)
        same((again.returncode, again.stdout, again.stderr), (0, wanted.stdout, ""),
             f"{name}: again after {done} events")
        states += 1
    print(f"    {name}: {len(found)} events, {states} states, {noted} with a note")


def test_index():
    cache("index", ARCHIVE, "index")
    cache("index checksums", ARCHIVE, "index", "--checksums")


def test_checkpoints():
    cache("index zst", ZST, "index")


def test_checksums():
    cache("checksums", ARCHIVE, "index", "--checksums", reader="verify")


if __name__ == "__main__":
    run(globals())
