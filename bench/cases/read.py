# SPDX-License-Identifier: GPL-2.0-or-later
"""
Reads through the mount, against a driver that does nothing but answer, and against its peers.

The archive is in the page cache; the pages of the mount itself are dropped before each run, or the
driver would have nothing to do.  Peers run with their own defaults, and serve the raw disk (for
squashfuse: packed without compression).
"""

import contextlib
import json
import os
import statistics

import inputs
import mounts
from measure import interleave, ratio

MIB = 1 << 20
# name, then reader's arguments.  Slow ones end after a while: a rate does not need the whole disk.
LOADS = {
    "seq 1M": ["seq", str(MIB), "1", "drop", "seconds=2"],
    "seq 4k": ["seq", "4096", "1", "drop", "seconds=1"],
    "1M x4": ["seq", str(MIB), "4", "drop", "seconds=2"],
    "rnd 4k": ["rnd", "4096", "1", "drop", "count=30000", "seconds=1"],
    "rnd 4k x4": ["rnd", "4096", "4", "drop", "count=60000", "seconds=1"],
    "O_DIRECT 1M": ["seq", str(MIB), "1", "direct", "seconds=2"],
    "O_DIRECT 4M": ["seq", str(4 * MIB), "1", "direct", "seconds=2"],
    "cached 1M": ["seq", str(MIB), "1", "seconds=2"],
}
EVERYONE = ("seq 1M", "seq 4k", "1M x4", "rnd 4k", "rnd 4k x4")


def _subjects(bench, stack, raw, archive, packed):
    """Mounts everything: {name: path}."""
    size = os.path.getsize(raw)
    enter = stack.enter_context
    found = {
        "vmafs": enter(mounts.vmafs(bench, archive)),
        "null": enter(mounts.null(bench, size)),
        "vmafs direct_io": enter(mounts.vmafs(bench, archive, "direct_io")),
        "null direct_io": enter(mounts.null(bench, size, "direct_io")),
        "pread": enter(mounts.null(bench, size, raw)),
        "pread direct_io": enter(mounts.null(bench, size, "direct_io", raw)),
        "raw file": raw,
    }
    if bench.has("mksquashfs", "squashfuse_ll"):
        bench.note("mksquashfs")
        bench.command(["mksquashfs", raw, packed, "-noI", "-noD", "-noF", "-noX", "-no-xattrs",
                       "-quiet", "-no-progress"])
        found["squashfuse"] = enter(mounts.squashfuse(bench, packed, os.path.basename(raw)))
        inputs.warm(packed)
    if bench.has("nbdkit", "nbdfuse"):
        found["nbdfuse"] = enter(mounts.nbdfuse(bench, raw))
    if bench.has("qemu-storage-daemon"):
        found["qsd"] = enter(mounts.qsd(bench, raw))
    return found


def _takes_part(name, load):
    if load in EVERYONE:
        return True
    if load == "cached 1M":
        return name in ("vmafs", "null", "raw file")
    return name in ("vmafs", "null", "pread")


def _reads(bench, path, name, load):
    arguments = list(LOADS[load])
    if name == "raw file" and "drop" in arguments:
        arguments.remove("drop")        # its own pages are what it is read from
    seed = 0

    def read():
        nonlocal seed
        seed += 1
        if load == "cached 1M" and seed == 1:
            inputs.warm(path)
        result = json.loads(bench.output([bench.reader, path, *arguments, f"seed={seed}"]))
        amount = result["reads"] if load.startswith("rnd") else result["bytes"] / 1e6
        return amount / result["seconds"]
    return read


def _rows(s):
    seq, rnd, rnd4 = s["seq 1M"], s["rnd 4k"], s["rnd 4k x4"]
    rows = [ratio("seq 1M: vmafs / null", seq["vmafs"], seq["null"], at_least=0.85)]
    for peer, target in (("squashfuse", 1.7), ("nbdfuse", 3), ("qsd", 3)):
        if peer in seq:
            rows.append(ratio(f"seq 1M: vmafs / {peer}", seq["vmafs"], seq[peer],
                              at_least=target))
    rows.append(ratio("seq 1M: vmafs / null, direct_io", seq["vmafs direct_io"],
                      seq["null direct_io"], at_least=0.68))
    for load, samples in (("rnd 4k", rnd), ("rnd 4k x4", rnd4)):
        rows.append(ratio(f"{load}: vmafs / null", samples["vmafs"], samples["null"],
                          at_least=0.9))
        rows.append(ratio(f"{load}: vmafs / null, direct_io", samples["vmafs direct_io"],
                          samples["null direct_io"], at_least=0.9))
        for peer, target in (("qsd", 2.5), ("squashfuse", 5), ("nbdfuse", None)):
            if peer in samples:
                rows.append(ratio(f"{load}: vmafs / {peer}", samples["vmafs"], samples[peer],
                                  at_least=target))
    for load in ("seq 1M", "1M x4", "rnd 4k", "rnd 4k x4"):
        for mode in ("", " direct_io"):
            rows.append(ratio(f"{load}: vmafs / null with a pread{mode and ', direct_io'}",
                              s[load]["vmafs" + mode], s[load]["pread" + mode]))
    for load in ("seq 4k", "1M x4", "O_DIRECT 1M", "O_DIRECT 4M"):
        rows.append(ratio(f"{load}: vmafs / null", s[load]["vmafs"], s[load]["null"]))
    for load in ("seq 4k", "1M x4"):
        rows.append(ratio(f"{load}: vmafs / null, direct_io", s[load]["vmafs direct_io"],
                          s[load]["null direct_io"]))
    cached = s["cached 1M"]
    rows.append(ratio("cached 1M: vmafs / raw file", cached["vmafs"], cached["raw file"]))
    return rows


def _details(samples):
    """Medians, MB/s or reads a second."""
    names = list(samples["seq 1M"])
    lines = ["| MB/s; rnd: reads/s | " + " | ".join(names) + " |",
             "|---|" + "---:|" * len(names)]
    for load, of in samples.items():
        cells = [f"{statistics.median(of[n]):.0f}" if n in of else "" for n in names]
        lines.append(f"| {load} | " + " | ".join(cells) + " |")
    return lines


def run(bench):
    with bench.files("disk.raw", "disk.vma", "disk.squashfs") as (raw, archive, packed), \
            contextlib.ExitStack() as stack:
        bench.note("making a disk and its archive")
        inputs.random_disk(raw, bench.size)
        inputs.archive_of(raw, archive)
        subjects = _subjects(bench, stack, raw, archive, packed)
        samples = {}
        for load in LOADS:
            readers = {name: _reads(bench, path, name, load) for name, path in subjects.items()
                       if _takes_part(name, load)}
            inputs.warm(archive)
            inputs.warm(raw)
            samples[load] = interleave(readers, bench.runs,
                                       lambda text, load=load: bench.note(f"{load} {text}"))
        return _rows(samples), _details(samples), samples
