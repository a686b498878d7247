#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=300
"""
Compressed archives, as each tool and its options make them: mounted, their disks are the true ones,
from the first moment on and when everything was saved; random reads by eight readers at once.
Damage is seen, a growing file is followed, and small limits are kept.
"""

import glob
import os
import random
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *
from readers import *

SIZE = 24 << 20
DISK = "disk-drive-scsi0.raw"

COMMANDS = {
    "zst": ["zstd -1", "zstd -3 --rsyncable -T1", "zstd -9", "zstd -19 --single-thread",
            "zstd --fast=5", "zstd --long=27", "zstd -T0", "zstd -3 --no-check"],
    "gz": ["gzip -1", "gzip -9 --rsyncable", "pigz"],
    "lzo": ["lzop -1", "lzop -9"],
    "lz4": ["lz4 -1", "lz4 -12", "lz4 -BD", "lz4 -BX"],
}


def shell(command, **options):
    subprocess.run(["bash", "-c", command], check=True, **options)


def make_disk():
    """Programs, text, noise and holes, in an order that changes often."""
    rng = random.Random(4)
    files = sorted(glob.glob("/usr/bin/*"))[:400]
    data = bytearray(SIZE)
    at = 0
    while at < SIZE - (1 << 20):
        kind = rng.randrange(4)
        if kind == 0:
            piece = rng.randbytes(rng.randrange(1, 100000))
        elif kind == 1:
            at += rng.randrange(1, 300000)      # a hole
            continue
        else:
            with open(rng.choice(files), "rb") as f:
                piece = f.read(rng.randrange(1, 400000))
        data[at:at + len(piece)] = piece
        at += len(piece)
    return bytes(data[:SIZE])


def make_archive_file():
    disk = make_disk()
    with open("true.raw", "wb") as f:
        f.write(disk)
    same(tool("create", "a.vma", "drive-scsi0=true.raw").returncode, 0, "create")
    return disk


os.chdir(TMP)
disk = make_archive_file()


def check_mount(path, *options):
    with mounted(path, *options) as mnt:
        # Before anything else, so that the readers are there while it is still indexed.
        read_at_random(mnt, {DISK: disk}, [read_buffered, read_direct])
        check(slurp(os.path.join(mnt, DISK)) == disk, f"{path}: wrong bytes")


def test_each_way_of_compressing():
    for suffix, commands in COMMANDS.items():
        for command in commands:
            shell(f"{command} -c a.vma >b.vma.{suffix}")
            path = f"b.vma.{suffix}"
            check_mount(path)
            check_mount(path)           # from what was saved
            for args in (["verify", path], ["list", path], ["diff", "a.vma", path]):
                result = tool(*args)
                same((result.returncode, result.stderr), (0, ""), f"{command}: {args[0]}")
            os.unlink(path)


def test_pipes_and_concatenations():
    shell("zstd -3 <a.vma >b.vma.zst")
    check_mount("b.vma.zst")
    for suffix, command in (("zst", "zstd -q"), ("gz", "gzip")):
        shell(f"(head -c 5000001 a.vma | {command}; tail -c +5000002 a.vma | {command}) "
              f">c.vma.{suffix}")
        check_mount(f"c.vma.{suffix}")


def test_our_own():
    for suffix in ("zst", "lz4"):
        same(tool("repack", "a.vma", f"own.vma.{suffix}").returncode, 0, "repack")
        check_mount(f"own.vma.{suffix}")


def test_small_limits():
    shell("zstd -3 -c a.vma >d.vma.zst")
    check_mount("d.vma.zst", "-o", "cache_size=1M")
    check_mount("d.vma.zst", "-o", "direct_io", "--index-cache=none")


def test_memory_limit():
    """A window of 128 MiB, which a pipe's reader cannot know to be too large for what comes."""
    shell("zstd --long=27 <a.vma >long.vma.zst")
    result = tool("verify", "--memory-limit=16M", "long.vma.zst")
    same(result.returncode, 1, "verify with too little memory")
    check("memory limit" in result.stderr and result.stderr.count("\n") == 1, result.stderr)
    same(tool("verify", "--memory-limit=1G", "long.vma.zst").returncode, 0, "with enough")


def test_truncated():
    for suffix, command in (("zst", "zstd -3"), ("gz", "gzip"), ("lzo", "lzop"), ("lz4", "lz4")):
        shell(f"{command} -c a.vma | head -c -200000 >t.vma.{suffix}")
        path = f"t.vma.{suffix}"
        result = tool("verify", path)
        same(result.returncode, 1, f"verify of a truncated {suffix}")
        same(result.stderr.count("\n"), 1, f"one line: {result.stderr}")
        # What came before is there, what is lost is an error, and nothing is wrong.
        with mounted(path, "-o", "salvage,wait") as mnt:
            good = bad = 0
            with open(os.path.join(mnt, DISK), "rb", buffering=0) as f:
                for at in range(0, SIZE, 65536):
                    try:
                        piece = os.pread(f.fileno(), 65536, at)
                    except OSError:
                        bad += 1
                        continue
                    check(piece == disk[at:at + 65536], f"{suffix}: wrong bytes at {at}")
                    good += 1
            check(good > 50 and bad > 0, f"{suffix}: {good} clusters good, {bad} bad")


def test_flipped_bits():
    """With a checksum in the stream a flipped bit is found; never is there a crash."""
    rng = random.Random(6)
    for suffix, command in (("zst", "zstd -3"), ("gz", "gzip"), ("lzo", "lzop"), ("lz4", "lz4")):
        shell(f"{command} -c a.vma >f.vma.{suffix}")
        whole = slurp(f"f.vma.{suffix}")
        for _ in range(6):
            broken = bytearray(whole)
            broken[rng.randrange(1000, len(whole))] ^= 1 << rng.randrange(8)
            with open("f.vma", "wb") as f:
                f.write(broken)
            result = tool("verify", "--index-cache=none", "f.vma")
            check(result.returncode == 1, f"{suffix}: a flipped bit was not found")
            same(result.stderr.count("\n"), 1, f"one line: {result.stderr}")


def test_follow():
    """Half of the file is there: that much can be read; then the rest comes."""
    shell("zstd -3 --rsyncable -c a.vma >whole.zst")
    whole = slurp("whole.zst")
    half = len(whole) // 2
    with open("grow.vma.dat", "wb") as f:
        f.write(whole[:half])
        f.flush()
        with mounted("grow.vma.dat", "-o", "follow") as mnt:
            path = os.path.join(mnt, DISK)
            with open(path, "rb", buffering=0) as g:
                check(os.pread(g.fileno(), 65536, 0) == disk[:65536], "the first cluster")
                late = []
                reader = threading.Thread(target=lambda: late.append(
                    os.pread(g.fileno(), 4096, SIZE - 4096)))
                reader.start()
                reader.join(1)
                check(reader.is_alive(), "the last block was there before it came")
                f.write(whole[half:])
                f.flush()
                f.close()
                os.rename("grow.vma.dat", "grow.vma.zst")
                reader.join(30)
                check(late == [disk[-4096:]], "the last block, when it had come")
            check(slurp(path) == disk, "the whole disk")


run(globals())
