#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=300 sanitize
"""
Each way in which a guest's request can lie over clusters: whole, in part, across, beside, again,
zeros, discards, at a ragged end.  After every one the live view is what it was, and so is the archive.
"""

import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from harness import *
from guest import Disk, Guest
from live import Backup, Graph, disks_of, extracted, no_leftovers

K = 1024
CLUSTER = 64 * K
# Ends within a cluster, and within 4 KiB.
SIZE = 60 * CLUSTER + 3 * 4 * K + 512

# (command of qemu-io, offset, length); the first half has data, of the rest every other cluster.
REQUESTS = [
    ("write -P 1", 4 * CLUSTER, CLUSTER),                       # one cluster
    ("write -P 2", 4 * CLUSTER, CLUSTER),                       # and again
    ("write -P 3", 5 * CLUSTER, 512),                           # beside it, its first sector
    ("write -P 4", 3 * CLUSTER + CLUSTER - 512, 512),           # the last sector before it
    ("write -P 5", 5 * CLUSTER + 512, CLUSTER - 512),           # what was left of a cluster
    ("write -P 6", 7 * CLUSTER + 20 * K, 4 * K),                # the middle
    ("write -P 7", 7 * CLUSTER + 22 * K, 4 * K),                # over half of that
    ("write -P 8", 9 * CLUSTER - 3 * K, 6 * K),                 # across a boundary
    ("write -P 9", 10 * CLUSTER + 1 * K, 3 * CLUSTER),          # several, ragged at both ends
    ("write -P 10", 9 * CLUSTER, 8 * CLUSTER),                  # over all these
    ("write -z", 18 * CLUSTER, CLUSTER),                        # zeros over data
    ("write -z", 19 * CLUSTER + 4 * K, 8 * K),
    ("write -z -u", 20 * CLUSTER, 2 * CLUSTER),
    ("discard", 22 * CLUSTER, 2 * CLUSTER),                     # discards
    ("discard", 24 * CLUSTER + 4 * K, 8 * K),
    ("write -P 11", 22 * CLUSTER, CLUSTER),                     # data over what was discarded
    ("write -P 12", 31 * CLUSTER, CLUSTER),                     # data over a hole
    ("write -P 13", 33 * CLUSTER + 8 * K, 512),
    ("write -z", 35 * CLUSTER, CLUSTER),                        # zeros over a hole
    ("discard", 37 * CLUSTER, CLUSTER),
    ("write -P 14", 58 * CLUSTER + 12 * K, 2 * CLUSTER),        # up to near the end
    ("write -P 15", SIZE - 512, 512),                           # the very last sector
    ("write -P 16", 60 * CLUSTER, SIZE - 60 * CLUSTER),         # all of the short cluster
    ("write -P 17", 0, 1),                                      # rounded up by QEMU itself
    ("write -P 18", 40 * CLUSTER, 16 * CLUSTER),                # 1 MiB
]


def prepared(path):
    source = random.Random(5)
    with open(path, "wb") as f:
        f.truncate(SIZE)
        for cluster in range(61):
            if cluster < 30 or cluster % 2 == 0:
                f.seek(cluster * CLUSTER)
                f.write(source.randbytes(min(CLUSTER, SIZE - cluster * CLUSTER)))
    return slurp(path)


def one(disk, name, *options, from_hook=True):
    """All requests, each with a look at the view; then the rest of the backup."""
    raw = os.path.join(TMP, name + ".raw")
    truth = prepared(raw)
    disk.path = raw
    if disk.fmt != "raw":
        disk.path = os.path.join(TMP, f"{name}.{disk.fmt}")
        run_program("qemu-img", "convert", "-f", "raw", "-O", disk.fmt, raw, disk.path)
    now = bytearray(truth)
    archive = os.path.join(TMP, name + ".vma")
    with Guest([disk], boot=False) as guest:
        graph = Graph(guest.qmp)
        # So slow that hardly anything is there when the guest writes, or so fast that all is.
        speed = ["--speed", 64 * K] if from_hook else []
        with Backup(guest, archive, *speed, *options, mount=from_hook) as backup:
            backup.wait_started()
            if from_hook:
                (view,) = disks_of(backup.mountpoint)
            for number, (command, offset, length) in enumerate(REQUESTS):
                guest.io(0, f"{command} {offset} {length}")
                value = int(command.split()[2]) if "-P" in command else 0
                # A part of a cluster cannot be discarded in qcow2.
                if disk.fmt == "raw" or "discard" not in command or length >= CLUSTER:
                    now[offset:offset + length] = bytes([value]) * length
                if from_hook and number % 4 == 0:
                    same_data(slurp(view), truth, f"the view after {command} {offset}+{length}")
                elif from_hook:
                    first = max(0, offset - 100)
                    with open(view, "rb") as f:
                        f.seek(first)
                        same_data(f.read(offset + length + 100 - first),
                                  truth[first:offset + length + 100],
                                  f"the view around {command} {offset}+{length}")
            if from_hook:
                same_data(slurp(view), truth, "the view at the end")
            if from_hook:
                same(vmabackup_speed(backup), 0, "set-speed")
            backup.succeed()
        graph.unchanged()
        guest.quit()
    with extracted(archive) as (copy,):
        same_data(slurp(copy), truth, f"the archive of {name}")
    # And what the guest wrote is on its disk.
    run_program("qemu-img", "convert", "-f", disk.fmt, "-O", "raw", disk.path, raw + ".after")
    after = slurp(raw + ".after")
    same_data(after, bytes(now), f"the disk of {name} afterwards")
    no_leftovers()


def vmabackup_speed(backup):
    from live import vmabackup
    return vmabackup("set-speed", backup.id, "0").returncode


def same_data(got, wanted, what):
    if got != wanted:
        same(len(got), len(wanted), f"length of {what}")
        first = next(i for i in range(len(got)) if got[i] != wanted[i])
        raise AssertionError(f"{what} is wrong at {first} (cluster {first // CLUSTER})")


def test_raw():
    one(Disk(SIZE), "raw")


def test_qcow2():
    one(Disk(SIZE, fmt="qcow2"), "qcow2")


def test_scsi_as_proxmox():
    one(Disk(SIZE, bus="scsi", style="drive"), "scsi")


def test_scratch():
    one(Disk(SIZE), "scratch", "--scratch", os.path.join(TMP, "scratch.tmp"))


def test_compressed():
    one(Disk(SIZE), "zstd", "--compress", "zstd", "--scratch", os.path.join(TMP, "scratch.tmp"))


def test_unthrottled():
    one(Disk(SIZE), "fast", from_hook=False)


run(globals())
