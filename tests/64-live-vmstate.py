#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=400
"""
--vmstate: a guest that is resumed from vmstate.bin and the disks of the archive goes on where it was.
It compares its disks with what it has in its memory, so that a moment between the two would be seen.
"""

import os
import re
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from harness import *
from guest import Disk, Guest
from live import Backup, Graph, disks_of, no_leftovers

SIZE = 32 << 20


def resume(guest, archive):
    """Starts a second guest from the archive: the first one, but for what that did later."""
    with tempfile.TemporaryDirectory(dir=TMP) as work:
        folder = os.path.join(work, "out")
        result = tool("extract", archive, folder)
        same(result.returncode, 0, f"extract ({result.stderr})")
        disks = disks_of(folder)
        steps = guest.fresh_check(disks)
        state = os.path.join(folder, "vmstate.bin")
        check(os.path.getsize(state) > 4 << 20, f"vmstate.bin has {os.path.getsize(state)} bytes")
        copies = [Disk(d.size, path=p, bus=d.bus, style=d.style)
                  for d, p in zip(guest.disks, disks)]
        with Guest(copies, incoming=f"exec:cat {state}") as second:
            # Stopped or not is part of the state; the writers run, as they did.
            def state():
                return second.qmp.execute("query-status")["status"]

            wait_for(lambda: state() != "inmigrate", 60, "the state is loaded")
            if state() != "running":
                second.qmp.execute("cont")
            status = second.command("status")
            now = [int(n) for n in status["steps"].split(",")]
            # The last step may be on the disks, and not yet counted in memory.
            check(all(a <= b + 1 for a, b in zip(steps, now)), f"steps {now}; the disks: {steps}")
            same(status["running"], "1", "the writers")
            second.wait_steps(10)
            second.pause_and_check()
        return steps


def backups(count, *options):
    with Guest([Disk(SIZE), Disk(SIZE, bus="scsi")]) as guest:
        graph = Graph(guest.qmp)
        guest.command("go 200")
        guest.wait_steps(50)
        last = [0, 0]
        for n in range(count):
            archive = os.path.join(TMP, f"state{n}.vma")
            with Backup(guest, archive, "--vmstate", *options) as backup:
                backup.succeed()
            guest.wait_steps(5)
            steps = resume(guest, archive)
            check(all(a > b for a, b in zip(steps, last)), f"steps {steps} after {last}")
            last = steps
            graph.unchanged()
            os.unlink(archive)
        no_leftovers()
        guest.pause_and_check()


def test_resumed():
    backups(4 if "TEST_LONG" in os.environ else 2)


run(globals())
