# SPDX-License-Identifier: GPL-2.0-or-later
"""
The scan: its time, its memory and its share of the archive, and how soon a mount can be read.

On archives of real headers whose payload is a hole of the file system: 1 TB in order, 1 TiB in
random order, and the bare headers of an empty disk.  Cold means that the archive was dropped from the
page cache (with --drop-caches all was, the file system's own blocks too).
"""

import os
import time

import inputs
import mounts
from inputs import CLUSTER, DISK, TB, TIB
from measure import interleave, ratio, row


def _rss(pid):
    """VmRSS, and of it what is not mapped from files, in bytes."""
    fields = {}
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
        for line in f:
            name, _, value = line.partition(":")
            fields[name] = value.split()
    return (int(fields["VmRSS"][0]) * 1024, int(fields["RssAnon"][0]) * 1024)


def _io(pid):
    with open(f"/proc/{pid}/io", encoding="ascii") as f:
        return {name: int(value) for name, value in (line.split(": ") for line in f)}


def _cpu(pid):
    """Seconds of processor time, of all threads."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        fields = f.read().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _evict(bench, archive):
    inputs.evict(archive)
    if bench.drop_caches:
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as out:
            out.write("3")


def _scan(bench, archive, cold=False):
    """Mounts, and looks at the driver when the index is there."""
    if cold:
        _evict(bench, archive)
    start = time.monotonic()
    with mounts.vmafs_mount(bench, archive, "wait") as mnt:
        took = time.monotonic() - start
        status = mounts.status(mnt)
        io = _io(status["pid"])
        rss, anonymous = _rss(status["pid"])
        cpu = _cpu(status["pid"])
    return {"seconds": took, "cpu": cpu, "index": status["index"]["memory"], "rss": rss,
            "anonymous": anonymous, "asked": io["rchar"], "from_disk": io["read_bytes"]}


def _first_byte(bench, archive, cold=True, options=(), offset=0):
    """From the command to the first byte of the disk."""
    if cold:
        _evict(bench, archive)
    start = time.monotonic()
    with mounts.vmafs_mount(bench, archive, *options) as mnt:
        fd = os.open(os.path.join(mnt, DISK), os.O_RDONLY)
        os.pread(fd, 1, offset)
        took = time.monotonic() - start
        os.close(fd)
    return took


def _second_mount(bench, archive, cold, cache):
    """Until the command is done, the first byte, and a byte at the far end."""
    if cold:
        _evict(bench, archive)
    start = time.monotonic()
    with mounts.vmafs_mount(bench, archive, f"index_cache={cache}") as mnt:
        mounted = time.monotonic() - start
        fd = os.open(os.path.join(mnt, DISK), os.O_RDONLY)
        os.pread(fd, 1, 0)
        os.pread(fd, 1, os.fstat(fd).st_size - 1)
        took = time.monotonic() - start
        if not mounts.status(mnt)["index"]["loaded"]:
            raise RuntimeError("the saved index was not used")
        os.close(fd)
    return {"mounted": mounted, "read": took}


def _of(samples, name, divisor=1):
    return [s[name] / divisor for s in samples]


def _in_order(bench, scale):
    size = int(TB * scale)
    rows, raw = [], {}
    with bench.files("ordered.vma", "quarter.vma", "cache") as (archive, quarter, cache):
        bench.note("making an archive in order")
        clusters = inputs.headers(archive, size)
        inputs.headers(quarter, size // 4)
        for path in (archive, quarter):
            _scan(bench, path)          # warms it
        s = interleave({"whole": lambda: _scan(bench, archive),
                        "quarter": lambda: _scan(bench, quarter)},
                       bench.runs, lambda text: bench.note(f"scan {text}"))
        raw["warm"] = s
        rows.append(row("scan, warm, per TB", _of(s["whole"], "seconds", scale), "s", at_most=0.7))
        rows.append(row("scan, warm, per TB, processor time", _of(s["whole"], "cpu", scale), "s"))
        rows.append(ratio("scan: 4 x as much takes", _of(s["whole"], "seconds"),
                          _of(s["quarter"], "seconds")))
        rows.append(row("index, in order", _of(s["whole"], "index", clusters), "bytes a cluster",
                        at_most=0.5))
        rows.append(row("all of the process's own memory", _of(s["whole"], "anonymous", 1 << 20),
                        "MiB"))

        runs = min(bench.runs, 3)
        s = interleave({"scan": lambda: _scan(bench, archive, cold=True),
                        "first": lambda: _first_byte(bench, archive)},
                       runs, lambda text: bench.note(f"cold scan {text}"))
        raw["cold"] = s
        rows.append(row("scan, cold, per TB", _of(s["scan"], "seconds", scale), "s", at_most=15))
        rows.append(row("read of the archive, asked for", _of(s["scan"], "asked", size / 100),
                        "%", at_most=1))
        rows.append(row("read of the archive, from the disk",
                        _of(s["scan"], "from_disk", size / 100), "%", at_most=1))
        rows.append(row("first byte of a cold archive", s["first"], "s", at_most=1))

        bench.command([bench.vmatool, "index", f"--index-cache={cache}", archive])
        s = interleave({"warm": lambda: _second_mount(bench, archive, False, cache),
                        "cold": lambda: _second_mount(bench, archive, True, cache)},
                       bench.runs, lambda text: bench.note(f"second mount {text}"))
        raw["second"] = s
        rows.append(row("second mount", _of(s["warm"], "mounted", 1e-3), "ms", at_most=50))
        rows.append(row("second mount, first and last byte", _of(s["warm"], "read", 1e-3), "ms"))
        rows.append(row("second mount, cold archive", _of(s["cold"], "mounted", 1e-3), "ms",
                        at_most=50))
        saved = sum(entry.stat().st_size for entry in os.scandir(cache) if entry.is_file())
        rows.append(row("saved index", [saved / clusters], "bytes a cluster"))
    return rows, raw


def _shuffled(bench, scale):
    with bench.files("shuffled.vma") as (archive,):
        bench.note("making an archive in random order")
        clusters = inputs.headers(archive, int(TIB * scale), shuffled=True)
        _scan(bench, archive)
        samples = [_scan(bench, archive) for _ in range(min(bench.runs, 3))]
    return [
        row("index, random order", _of(samples, "index", clusters), "bytes a cluster", at_most=8),
        row("all of the process's own memory, random order",
            _of(samples, "anonymous", clusters), "bytes a cluster"),
        row("scan, random order, warm, per TiB", _of(samples, "seconds", scale), "s"),
    ], {"shuffled": samples}


def _empty(bench, scale):
    size = int(TIB * scale)
    with bench.files("empty.vma") as (archive,):
        bench.note("making an empty disk's archive")
        count = inputs.empty(archive, size)
        _scan(bench, archive)
        samples = [_scan(bench, archive) for _ in range(bench.runs)]
    return [
        row("bare headers", [count / s["seconds"] / 1e6 for s in samples], "M/s", at_least=1),
        row("bare headers, per second of processor time",
            [count / max(s["cpu"], 0.01) / 1e6 for s in samples], "M"),
        row("empty disk, index, per TiB", _of(samples, "seconds", scale), "s", at_most=1.2),
        row("index of an empty disk", _of(samples, "index", size / CLUSTER), "bytes a cluster",
            at_most=0.5),
    ], {"empty": samples}


def run(bench):
    scale = 0.1 if bench.quick else 1
    rows, raw = [], {}
    for part in (_in_order, _shuffled, _empty):
        part_rows, samples = part(bench, scale)
        rows += part_rows
        raw.update(samples)
    return rows, [], raw
