# SPDX-License-Identifier: GPL-2.0-or-later
"""
Compressed archives: the index pass against the decompressor of each kind, what it leaves in the cache,
random and sequential reads through the mount, and the second mount.

The disk is a concatenation of this system's own files, which compresses like a guest's does (random
bytes would not).  Compressed as vzdump does it.  Sequential reading is measured with the checkpoints there,
which is how every mount but the first one reads.
"""

import os
import random
import statistics
import subprocess
import time

import inputs
import mounts
from inputs import DISK, MIB
from measure import interleave, ratio, row, timed

# Suffix: (package, how it is made, how it is unpacked).
KINDS = {
    "zst": (["zstd"], "zstd -q -3 --rsyncable --threads=1 -c", "zstd -q -dc"),
    "gz": (["gzip"], "gzip -6 -c", "gzip -dc"),
    "lzo": (["lzop"], "lzop -c", "lzop -dc"),
    "lz4": (["lz4"], "lz4 -q -c", "lz4 -q -dc"),
}
PIECE = 64 << 10
APART = 16 << 20     # no two random reads come out of one chunk
TREES = ("/usr/bin", "/usr/lib", "/usr/share", "/usr/sbin")


def _files():
    for tree in TREES:
        for folder, dirs, names in os.walk(tree):
            dirs.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    yield path


def _disk(path, size):
    with open(path, "wb") as out:
        for name in _files():
            with open(name, "rb") as file:
                data = file.read(min(64 * MIB, size - out.tell()))
            out.write(data)
            out.write(bytes(-len(data) % 4096))
            if out.tell() >= size:
                break
        out.truncate(size)


def _shell(command, file):
    subprocess.run(["sh", "-c", f'{command} "$1" >/dev/null', "sh", file], check=True,
                   stdin=subprocess.DEVNULL)


def _pass(bench, archive, cache):
    """The index and the checkpoints of an archive that was never seen."""
    def one():
        for name in os.listdir(cache) if os.path.isdir(cache) else ():
            os.unlink(os.path.join(cache, name))
        return timed(bench.command, [bench.vmatool, "index", f"--index-cache={cache}", archive])
    return one


def _sequential(bench, archive, cache):
    def one():
        with mounts.vmafs(bench, archive, f"index_cache={cache}") as disk:
            return timed(bench.command, [bench.reader, disk, "seq", str(MIB), "1"])
    return one


def _random(bench, archive, cache, rounds):
    """Seconds of reads in places that nobody read near before: a mount a round."""
    rng = random.Random(3)
    took = []
    for _ in range(rounds):
        places = [start + rng.randrange(min(APART, bench.size - start) // PIECE) * PIECE
                  for start in range(0, bench.size, APART)]
        rng.shuffle(places)
        with mounts.vmafs(bench, archive, f"index_cache={cache}", "direct_io") as disk:
            fd = os.open(disk, os.O_RDONLY)
            took += [timed(os.pread, fd, PIECE, at) for at in places]
            os.close(fd)
    return took


def _second_mount(bench, archive, cache, count):
    """From the command to the first byte of some cluster, its decoding included."""
    rng = random.Random(4)
    took = []
    for _ in range(count):
        start = time.monotonic()
        with mounts.vmafs_mount(bench, archive, f"index_cache={cache}") as mnt:
            fd = os.open(os.path.join(mnt, DISK), os.O_RDONLY)
            os.pread(fd, 1, rng.randrange(bench.size))
            took.append(time.monotonic() - start)
            os.close(fd)
    return took


def _kind(bench, kind, archive):
    programs, pack, unpack = KINDS[kind]
    if not bench.has(*programs):
        return [], {}
    with bench.files(f"disk.vma.{kind}", "cache", memory=True) as (packed, cache):
        bench.note(f"making disk.vma.{kind}")
        subprocess.run(["sh", "-c", f'{pack} "$1" > "$2"', "sh", archive, packed], check=True)
        s = interleave({
            "tool": lambda: timed(_shell, unpack, packed),
            "pass": _pass(bench, packed, cache),
        }, bench.runs, lambda text: bench.note(f"{kind} {text}"))
        left = sum(os.path.getsize(os.path.join(cache, name)) for name in os.listdir(cache))
        s.update({f"mount {name}": values for name, values in interleave({
            "tool": lambda: timed(_shell, unpack, packed),
            "sequential": _sequential(bench, packed, cache),
        }, bench.runs, lambda text: bench.note(f"{kind} {text}")).items()})
        bench.note(f"{kind} random reads")
        s["random"] = _random(bench, packed, cache, bench.runs)
        s["second mount"] = _second_mount(bench, packed, cache, bench.runs)
        share = 100 * left / os.path.getsize(archive)

    tool = unpack.split()[0]
    limits = {"zst": (1.15, 0.25), "gz": (1.2, 0.1)}.get(kind, (None, None))
    decoding = statistics.median(s["random"])
    return [
        ratio(f"{kind}: index pass / {tool} -dc", s["pass"], s["tool"], at_most=limits[0]),
        row(f"{kind}: checkpoints and index / disk", [share], "%", at_most=limits[1]),
        row(f"{kind}: random 64 KiB, not cached", [t * 1000 for t in s["random"]], "ms",
            at_most=10),
        ratio(f"{kind}: sequential through the mount / {tool} -dc", s["mount tool"],
              s["mount sequential"], at_least=0.9 if kind == "zst" else None),
        row(f"{kind}: second mount, first byte, less its decoding",
            [(t - decoding) * 1000 for t in s["second mount"]], "ms", at_most=50),
    ], s


def run(bench):
    with bench.files("disk.raw", "disk.vma", memory=True) as (raw, archive):
        bench.note("making a disk and its archive")
        _disk(raw, bench.size)
        inputs.archive_of(raw, archive)
        os.unlink(raw)
        rows, samples = [], {}
        for kind in KINDS:
            more, samples[kind] = _kind(bench, kind, archive)
            rows += more
    return rows, [], samples
