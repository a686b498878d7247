# SPDX-License-Identifier: GPL-2.0-or-later
"""
`vmatool extract` against cp of the raw disk, `verify` against cat of the archive, and both against
the reference program where it is installed.

On a tmpfs, where nothing but the copying counts; and on the disk, where extract flushes what it wrote
and cp is followed by a sync of its file.
"""

import os
import shutil
import subprocess

import inputs
from inputs import DISK, TIB
from measure import interleave, ratio, row, timed


def _extract(bench, program, archive, out):
    def one():
        took = timed(bench.command, [*program, "extract", archive, out])
        shutil.rmtree(out)
        return took
    return one


def _cp(bench, raw, out, flush):
    def copy():
        os.mkdir(out)
        to = os.path.join(out, DISK)
        bench.command(["cp", raw, to])
        if flush:
            bench.command(["sync", to])

    def one():
        took = timed(copy)
        shutil.rmtree(out)
        return took
    return one


def _read(bench, command):
    return lambda: timed(bench.command, command)


def _cat(archive):
    return lambda: timed(lambda: subprocess.run(["sh", "-c", 'cat "$1" >/dev/null', "sh", archive],
                                                check=True))


def _vmatool(bench):
    return [bench.vmatool]


def _create(bench, raw, out):
    """Names the disk as the reference does: drive-scsi0=FILE."""
    def one():
        took = timed(bench.command, [bench.vmatool, "create", out, f"drive-scsi0={raw}"])
        os.unlink(out)
        return took
    return one


def _place(bench, memory):
    with bench.files("disk.raw", "disk.vma", "out", memory=memory) as (raw, archive, out):
        bench.note("making a disk and its archive")
        inputs.random_disk(raw, bench.size)
        inputs.archive_of(raw, archive)
        subjects = {"cp": _cp(bench, raw, out, not memory),
                    "extract": _extract(bench, _vmatool(bench), archive, out)}
        if bench.has_command("create"):
            subjects["create"] = _create(bench, raw, out)
        else:
            bench.skip("create", "vmatool has no such command yet")
        if memory:
            subjects["cat"] = _cat(archive)
            subjects["verify"] = _read(bench, [bench.vmatool, "verify", "--index-cache=none",
                                               archive])
            if bench.has(bench.reference):
                subjects["reference extract"] = _extract(bench, [bench.reference], archive, out)
                subjects["reference verify"] = _read(bench, [bench.reference, "verify", archive])
        return interleave(subjects, bench.runs, lambda text: bench.note(f"extract {text}"))


def _rows(bench, s, where, target):
    rows = [ratio(f"extract / cp, {where}", s["cp"], s["extract"], at_least=target)]
    if "create" in s:
        rows.append(ratio(f"create / cp, {where}", s["cp"], s["create"], at_least=target))
    gib = bench.size / (1 << 30)
    rows.append(row(f"extract, {where}", [gib / t for t in s["extract"]], "GiB/s"))
    if "verify" in s:
        rows.append(ratio("verify / cat >/dev/null", s["cat"], s["verify"]))
        rows.append(row("verify", [gib / t for t in s["verify"]], "GiB/s"))
    if "reference extract" in s:
        rows.append(ratio("extract / reference", s["reference extract"], s["extract"],
                          at_least=4))
        rows.append(ratio("verify / reference", s["reference verify"], s["verify"], at_least=1))
    return rows


def _empty(bench, scale):
    with bench.files("empty.vma", "out", memory=True) as (archive, out):
        bench.note("making an empty disk's archive")
        inputs.empty(archive, int(TIB * scale))
        s = interleave({
            "extract": _extract(bench, _vmatool(bench), archive, out),
            "verify": _read(bench, [bench.vmatool, "verify", "--index-cache=none", archive]),
        }, bench.runs, lambda text: bench.note(f"empty disk {text}"))
    return [
        row("empty disk, extract, per TiB", [t / scale for t in s["extract"]], "s", at_most=1.2),
        row("empty disk, verify, per TiB", [t / scale for t in s["verify"]], "s", at_most=1.2),
    ], s


def run(bench):
    os.environ["XDG_CACHE_HOME"] = bench.dir      # extract saves an index: not the user's concern
    memory = _place(bench, True)
    disk = _place(bench, False)
    rows = _rows(bench, memory, "in memory", 1.0) + _rows(bench, disk, "on disk, flushed", None)
    empty_rows, empty = _empty(bench, 0.1 if bench.quick else 1)
    return rows + empty_rows, [], {"memory": memory, "disk": disk, "empty": empty}
