#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=240
"""
Each call of the system that vmafs makes fails once: it does not start, or what it cannot read is
an error; never wrong bytes, never a process that dies or hangs, never an overlay that has lost
what was synced. At more places in 93-deep.py.
"""

import errno
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *
import faults
from faults import Mount, digest

DEEP = "TEST_DEEP" in os.environ
campaign = faults.Campaign(deep=DEEP, verbose="FAULTS_VERBOSE" in os.environ)
ARCHIVE, TRUE = archive_of("tiny")
ZST = faults.packed(ARCHIVE, "zst", "zstd", "-qc")


def test_mount():
    campaign.run(Mount("mount", ARCHIVE, TRUE, "-o", "wait"))
    campaign.run(Mount("mount zst", ZST, TRUE))


class Overlay(Mount):
    """
    Writes to a disk, one of them synced; then again without faults over the same scratch file.
    What was synced is there, what was not is or is not, sector by sector.
    """
    SECTOR = 512
    WRITES = ((0, 8192), (20000, 3000), (65536, 65536), (204800, 512))

    def __init__(self, name, archive, truth, disk):
        super().__init__(name, archive, truth, "-o", "wait,overlay={}/scratch", use=self.write)
        self.disk, self.clean = disk, truth[disk]
        self.truth = {n: c for n, c in truth.items() if n != disk}

    def write(self, mountpoint):
        self.new, self.sure, said = bytearray(self.clean), bytearray(len(self.clean)), []
        fd = os.open(os.path.join(mountpoint, self.disk), os.O_RDWR)
        try:
            written = []
            for number, (at, size) in enumerate(self.WRITES):
                data = bytes([number + 1]) * size
                self.new[at:at + size] = data
                try:
                    if os.pwrite(fd, data, at) == size:
                        written.append((at, size))
                except OSError as error:
                    check(error.errno in (errno.EIO, errno.ENOSPC, errno.ENOMEM, errno.EINTR), error)
                    said.append(f"{at}: unreadable")
                if number == 2:
                    try:
                        os.fsync(fd)
                        for start, length in written:
                            self.sure[start:start + length] = b"\1" * length
                    except OSError as error:
                        said.append(f"fsync: unreadable: {error}")
        finally:
            with contextlib.suppress(OSError):
                os.close(fd)
        self.compare(mountpoint)
        return said

    def compare(self, mountpoint):
        try:
            got = slurp(os.path.join(mountpoint, self.disk))
        except OSError as error:
            check(error.errno == errno.EIO, error)
            return
        same(len(got), len(self.clean), "size of the disk")
        for at in range(0, len(got), self.SECTOR):
            end = at + self.SECTOR
            if got[at:end] != self.new[at:end]:
                check(not any(self.sure[at:end]), f"what was synced at {at} is not there")
                check(got[at:end] == self.clean[at:end], f"at {at} is neither what was nor what is")

    def run(self, folder, env):
        self.new = None
        result = super().run(folder, env)
        scratch, again = os.path.join(folder, "scratch"), os.path.join(folder, "again")
        if os.path.exists(scratch):
            os.mkdir(again)
            try:
                tried = run_program(VMAFS, self.argv[1], again, "-o", f"overlay={scratch}")
                if tried.returncode != 0:
                    result.status = f"the scratch file cannot be used: {tried.stderr}"
                elif self.new is not None:
                    self.compare(again)
            except (AssertionError, OSError) as error:
                result.status = f"later: {error}"
            finally:
                unmount(again)
                os.rmdir(again)
            os.unlink(scratch)
        result.files, result.cached = digest(folder)
        return result


def test_overlay():
    disk = max((n for n in TRUE if n.startswith("disk-")), key=lambda n: len(TRUE[n]))
    campaign.run(Overlay("overlay", ARCHIVE, TRUE, disk))


def test_mount_of_a_directory():
    dump, truth = os.path.join(TMP, "dump"), {}
    os.mkdir(dump)
    for name, path in (("one.vma", ARCHIVE), ("two.vma.zst", ZST)):
        os.link(path, os.path.join(dump, name))
        truth.update({f"{name.split('.')[0]}/{n}": c for n, c in TRUE.items()})

    def gone(mountpoint, name):
        """An archive that could not be opened says so in a file; one that could not be found is not there."""
        member = os.path.join(mountpoint, name.split("/")[0])
        return os.path.exists(member + "/ERROR") or not os.path.exists(member)

    campaign.run(Mount("mount of a directory", dump, truth, gone=gone))


def test_all_met():
    campaign.end()


if __name__ == "__main__":
    run(globals())
