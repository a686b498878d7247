# SPDX-License-Identifier: GPL-2.0-or-later
"""
`vmatool extract` and `create` against cp of the raw disk, `verify` against cat of the archive, and all
of them against the reference program where it is installed.

On the disk, where ours flush what they wrote and cp is followed by a sync of its file; and on a tmpfs,
where nothing but the copying counts.  There cp leaves it to the kernel (copy_file_range), which
saves one of the two copies; cp --reflink=never reads and writes, as we do.  An empty disk of 1 TiB shows what they do without data.
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


def _cp(bench, raw, out, flush, *options):
    def copy():
        os.mkdir(out)
        to = os.path.join(out, DISK)
        bench.command(["cp", *options, raw, to])
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


def _create(bench, program, raw, out):
    """As the reference takes it: NAME=FILE."""
    def one():
        took = timed(bench.command, [*program, "create", out, f"drive-scsi0={raw}"])
        os.unlink(out)
        return took
    return one


def _place(bench, memory):
    # extract saves an index: to the same place, and not among the user's.
    os.environ["XDG_CACHE_HOME"] = bench.memory if memory else bench.dir
    with bench.files("disk.raw", "disk.vma", "out", memory=memory) as (raw, archive, out):
        bench.note("making a disk and its archive")
        inputs.random_disk(raw, bench.size)
        inputs.archive_of(raw, archive)
        subjects = {"cp": _cp(bench, raw, out, not memory),
                    "extract": _extract(bench, _vmatool(bench), archive, out)}
        if bench.has_command("create"):
            subjects["create"] = _create(bench, _vmatool(bench), raw, out)
        else:
            bench.skip("create", "vmatool has no such command yet")
        if memory:
            subjects["cp by reading"] = _cp(bench, raw, out, False, "--reflink=never")
            subjects["cat"] = _cat(archive)
            subjects["verify"] = _read(bench, [bench.vmatool, "verify", "--index-cache=none",
                                               archive])
            if bench.has(bench.reference):
                subjects["reference extract"] = _extract(bench, [bench.reference], archive, out)
                subjects["reference create"] = _create(bench, [bench.reference], raw, out)
                subjects["reference verify"] = _read(bench, [bench.reference, "verify", archive])
        return interleave(subjects, bench.runs, lambda text: bench.note(f"extract {text}"))


def _rows(bench, s, where, target):
    rows = []
    for command in ("extract", "create"):
        if command in s:
            rows.append(ratio(f"{command} / cp, {where}", s["cp"], s[command], at_least=target))
        if command in s and "cp by reading" in s:
            rows.append(ratio(f"{command} / cp --reflink=never, {where}", s["cp by reading"],
                              s[command]))
    gib = bench.size / (1 << 30)
    rows.append(row(f"extract, {where}", [gib / t for t in s["extract"]], "GiB/s"))
    if "verify" in s:
        rows.append(ratio("verify / cat >/dev/null", s["cat"], s["verify"]))
        rows.append(row("verify", [gib / t for t in s["verify"]], "GiB/s"))
    if "reference extract" in s:
        rows.append(ratio("extract / reference", s["reference extract"], s["extract"],
                          at_least=4))
        if "create" in s:
            rows.append(ratio("create / reference", s["reference create"], s["create"],
                              at_least=4))
        rows.append(ratio("verify / reference", s["reference verify"], s["verify"], at_least=1))
    return rows


def _empty(bench, scale):
    os.environ["XDG_CACHE_HOME"] = bench.memory
    with bench.files("empty.vma", "empty.raw", "made.vma", "out", memory=True) \
            as (archive, raw, made, out):
        bench.note("making an empty disk's archive")
        inputs.empty(archive, int(TIB * scale))
        with open(raw, "wb") as disk:
            disk.truncate(int(TIB * scale))
        subjects = {
            "extract": _extract(bench, _vmatool(bench), archive, out),
            "verify": _read(bench, [bench.vmatool, "verify", "--index-cache=none", archive]),
        }
        if bench.has_command("create"):
            subjects["create"] = _create(bench, _vmatool(bench), raw, made)
        s = interleave(subjects, bench.runs, lambda text: bench.note(f"empty disk {text}"))
    created = ([row("empty disk, create, per TiB", [t / scale for t in s["create"]], "s",
                    at_most=1.2)] if "create" in s else [])
    return created + [
        row("empty disk, extract, per TiB", [t / scale for t in s["extract"]], "s", at_most=1.2),
        row("empty disk, verify, per TiB", [t / scale for t in s["verify"]], "s", at_most=1.2),
    ], s


def run(bench):
    memory = _place(bench, True)
    disk = _place(bench, False)
    rows = _rows(bench, memory, "in memory", 1) + _rows(bench, disk, "on disk, flushed", 1)
    empty_rows, empty = _empty(bench, 0.1 if bench.quick else 1)
    return rows + empty_rows, [], {"memory": memory, "disk": disk, "empty": empty}
