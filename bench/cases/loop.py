# SPDX-License-Identifier: GPL-2.0-or-later
"""
A guest's ext4 through a loop device over the mount, against a loop device over the raw file.

Mounted anew for each run, so that nothing of the guest's files is cached; the pages of the mount's
file are dropped too.  The raw file and the archive stay in the page cache.
"""

import os
import subprocess

import inputs
import mounts
from bench import Missing
from measure import interleave, ratio, timed

TAR = 'tar -C "$1" -cf - . | cat >/dev/null'
# Looks at each inode, as `ls -l` would.
FIND = 'find "$1" -size +1000G'


def run(bench):
    bench.need("losetup", "mkfs.ext4", "tar")
    if os.geteuid() != 0:
        raise Missing("loop devices need root")
    with bench.files("guest.raw", "guest.vma") as (raw, archive):
        bench.note("making a guest disk and its archive")
        inputs.guest_disk(raw, bench.size)
        inputs.archive_of(raw, archive)

        def work(image, script, direct=False):
            def one():
                if image != raw:
                    inputs.evict(image)
                with mounts.loop(bench, image, direct) as mnt:
                    return timed(lambda: subprocess.run(["sh", "-c", script, "sh", mnt],
                                                        check=True))
            return one

        inputs.warm(raw)
        with mounts.vmafs(bench, archive) as disk, \
                mounts.vmafs(bench, archive, "direct_io") as direct:
            s = interleave({
                "tar raw": work(raw, TAR),
                "tar vmafs": work(disk, TAR),
                "tar vmafs, loop direct": work(disk, TAR, True),
                "tar vmafs direct_io": work(direct, TAR),
                "find raw": work(raw, FIND),
                "find vmafs": work(disk, FIND),
                "find vmafs, loop direct": work(disk, FIND, True),
            }, bench.runs, lambda text: bench.note(f"loop {text}"))
    return [
        ratio("tar: loop over vmafs / over raw", s["tar raw"], s["tar vmafs"], at_least=0.87),
        ratio("find: loop over vmafs / over raw", s["find raw"], s["find vmafs"], at_least=0.93),
        ratio("tar: --direct-io=on loop over vmafs / loop over raw", s["tar raw"],
              s["tar vmafs, loop direct"]),
        ratio("find: --direct-io=on loop over vmafs / loop over raw", s["find raw"],
              s["find vmafs, loop direct"]),
        ratio("tar: loop over vmafs -o direct_io / over raw", s["tar raw"],
              s["tar vmafs direct_io"]),
    ], [], s
