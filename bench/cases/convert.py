# SPDX-License-Identifier: GPL-2.0-or-later
"""
`qemu-img convert` from the mount, against the same from the raw file.

Everything lies on a tmpfs: `-T none` opens with O_DIRECT, and the raw file would else be read from the
disk, while the archive comes out of the page cache.
"""

import os

import inputs
import mounts
from measure import interleave, ratio, row, timed


def run(bench):
    bench.need("qemu-img")
    with bench.files("disk.raw", "disk.vma", "out.qcow2", memory=True) as (raw, archive, out):
        bench.note("making a disk and its archive")
        inputs.random_disk(raw, bench.size)
        inputs.archive_of(raw, archive)

        def convert(source, cache):
            def one():
                if cache != "none" and source != raw:
                    inputs.evict(source)
                took = timed(bench.command, ["qemu-img", "convert", "-f", "raw", "-O", "qcow2",
                                             "-T", cache, source, out])
                os.unlink(out)
                return took
            return one

        with mounts.vmafs(bench, archive) as plain, \
                mounts.vmafs(bench, archive, "direct_io") as direct:
            s = interleave({
                "raw": convert(raw, "none"),
                "vmafs": convert(plain, "none"),
                "vmafs direct_io": convert(direct, "none"),
                "raw, buffered": convert(raw, "writeback"),
                "vmafs, buffered": convert(plain, "writeback"),
                "vmafs direct_io, buffered": convert(direct, "writeback"),
            }, bench.runs, lambda text: bench.note(f"convert {text}"))
    gib = bench.size / (1 << 30)
    return [
        ratio("-T none: vmafs / raw", s["raw"], s["vmafs"], at_least=0.84),
        ratio("-T none: vmafs direct_io / raw", s["raw"], s["vmafs direct_io"], at_least=0.84),
        ratio("buffered: vmafs / raw", s["raw, buffered"], s["vmafs, buffered"]),
        ratio("buffered: vmafs direct_io / raw", s["raw, buffered"],
              s["vmafs direct_io, buffered"]),
        row("-T none, from the mount", [gib / t for t in s["vmafs"]], "GiB/s"),
    ], [], s
