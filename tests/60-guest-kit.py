#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=300
"""
The test guest by itself, with QEMU's own backup job: what the checks of the live backup rest on.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from harness import *
from guest import Disk, Guest
from guestmodel import Mismatch, Model

SIZE = 48 << 20


def own_job(guest, targets):
    """QEMU's plain backup of all disks at one point in time, into raw files."""
    actions = []
    for i, target in enumerate(targets):
        with open(target, "wb") as f:
            f.truncate(guest.disks[i].size)
        guest.qmp.execute("blockdev-add", {"driver": "file", "node-name": f"target{i}",
                                           "filename": target})
        actions.append({"type": "blockdev-backup",
                        "data": {"job-id": f"job{i}", "device": f"node{i}",
                                 "target": f"target{i}", "sync": "full"}})
    guest.qmp.execute("transaction", actions=actions,
                      properties={"completion-mode": "grouped"})
    for i in range(len(targets)):
        event = guest.qmp.wait("BLOCK_JOB_COMPLETED",
                               where=lambda data, i=i: data["device"] == f"job{i}")
        check("error" not in event["data"], f"the job failed: {event}")
    for i in range(len(targets)):
        guest.qmp.execute("blockdev-del", node_name=f"target{i}")


def test_point_in_time():
    # The filter of QEMU's own job swallows discards: what the guest gives up while it runs stays as it was.
    with Guest([Disk(SIZE), Disk(SIZE)], discards=False) as guest:
        # A copy taken while the guest writes is of no point in time; the check must see that.  The
        # second disk is read long after the first.
        torn = [guest.path(f"torn{i}") for i in range(2)]
        guest.command("go")
        guest.wait_steps(200)
        for i, path in enumerate(torn):
            shutil.copyfile(guest.image(i), path)
            guest.wait_steps(20)
        try:
            guest.fresh_check(torn)
        except Mismatch:
            pass
        else:
            raise AssertionError("a copy of two disks at two times passes for one point in time")

        copies = [guest.path(f"copy{i}") for i in range(2)]
        own_job(guest, copies)
        guest.wait_steps(20)
        guest.pause_and_check()
        steps = guest.fresh_check(copies)
        check(min(steps) >= 200, f"the point in time is too early: {steps}")

        # One sector that is a step too old, and one of another place, are seen.
        model = Model([SIZE] * 2)
        model.check_paths(copies)
        sector = next(i for i, state in enumerate(model.state[1]) if state and not state & 1)
        with open(copies[1], "r+b") as f:
            f.seek(sector * 512)
            good = f.read(512)
            for bad in (bytes(512), model.contents(1, sector + 1, model.state[1][sector])):
                f.seek(sector * 512)
                f.write(bad)
                f.flush()
                try:
                    guest.fresh_check(copies)
                except Mismatch:
                    continue
                raise AssertionError("a wrong sector is not seen")
            f.seek(sector * 512)
            f.write(good)
        guest.fresh_check(copies)

        # After a reset in the midst of it, the guest finds what it had written and goes on.
        guest.command("go")
        guest.wait_steps(20)
        before = guest.steps()
        guest.qmp.execute("system_reset")
        guest.wait_ready()
        after = guest.steps()
        check(all(a >= b for a, b in zip(after, before)), f"{before} steps, and after {after}")
        guest.command("go")
        guest.wait_steps(20)
        guest.pause_and_check()
        values = guest.command("latency 0 200")
        check(0 < int(values["p50"]) <= int(values["p99"]) <= int(values["max"]), values)
        guest.quit()

        # And so does a guest that starts from the copies.
        with Guest([Disk(SIZE, path=p, bus="scsi", style="drive") for p in copies]) as second:
            check(second.steps()[0] in (steps[0], steps[0] + 1), f"{second.steps()}, not {steps}")
            second.command("verify")
            second.command("go")
            second.wait_steps(20)
            second.pause_and_check()


run(globals())
