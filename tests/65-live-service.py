#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=400
"""
`vmabackup serve`: several jobs at once over its control socket, in QMP's wire form, and the
commands that talk to it.
"""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from harness import *
from guest import Disk, Guest
from live import RUN_DIR, VMABACKUP, Graph, check_archive, no_leftovers, vmabackup
from qmp import Qmp, QmpError

SIZE = 32 << 20
guests = []
graphs = []


def out(name):
    return os.path.join(TMP, name)


@contextlib.contextmanager
def service():
    with subprocess.Popen([VMABACKUP, "serve"], stdin=subprocess.DEVNULL) as process:
        try:
            path = os.path.join(RUN_DIR, "serve.sock")
            wait_for(lambda: os.path.exists(path) or process.poll() is not None, 20, "the socket")
            same(stat.S_IMODE(os.stat(path).st_mode), 0o600, "mode of the socket")
            with Qmp(path) as control:
                yield control
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def query():
    result = vmabackup("query", "--json")
    same(result.returncode, 0, f"query ({result.stderr})")
    return {job["id"]: job for job in json.loads(result.stdout)}


def test_several_jobs():
    with service() as control:
        for i, guest in enumerate(guests):
            control.execute("backup", {"id": f"job{i}", "qmp": guest.socket,
                                       "target": out(f"a{i}.vma"), "speed": 4 << 20})
        jobs = query()
        for i in range(len(guests)):
            job = jobs[f"job{i}"]
            same(job["status"], "running", f"status of {job}")
            same(job["target"], out(f"a{i}.vma"), "target")
            check(job["total"] in (0, 2 * SIZE), f"total {job['total']}")
        # The same id, and the same guest, a second time.
        for arguments in ({"id": "job0", "qmp": guests[0].socket, "target": out("b.vma")},
                          {"id": "bad/../id", "qmp": guests[0].socket, "target": out("b.vma")},
                          {"id": "x", "target": out("b.vma")}):
            try:
                control.execute("backup", arguments)
            except QmpError as e:
                print(f"  {e}")
            else:
                raise AssertionError(f"no error for {arguments}")
        for i in range(len(guests)):
            same(vmabackup("set-speed", f"job{i}", "0").returncode, 0, "set-speed")
        for i in range(len(guests)):
            event = control.wait("BACKUP_COMPLETED", "BACKUP_FAILED", seconds=100,
                                 where=lambda data, i=i: data["id"] == f"job{i}")
            same(event["event"], "BACKUP_COMPLETED", f"event {event}")
        jobs = query()
        for i, guest in enumerate(guests):
            job = jobs[f"job{i}"]
            same(job["status"], "concluded", f"status of {job}")
            check(0 < job["start-time"] < job["end-time"], f"times of {job}")
            same(job["total"], 2 * SIZE, "total")
            same(len(job["devices"]), 2, "devices")
            check_archive(guest, out(f"a{i}.vma"))
            graphs[i].unchanged()
            same(vmabackup("forget", f"job{i}").returncode, 0, "forget")
        same(query(), {}, "jobs after forget")
        check(vmabackup("forget", "job0").returncode != 0, "a job is forgotten twice")


def test_cancel_of_one():
    with service() as control:
        for i, guest in enumerate(guests):
            control.execute("backup", {"id": f"c{i}", "qmp": guest.socket,
                                       "target": out(f"c{i}.vma"), "speed": 4 << 20})
        wait_for(lambda: all(j["total"] > 0 for j in query().values()), 30, "both are under way")
        same(vmabackup("cancel", "c0").returncode, 0, "cancel")
        event = control.wait("BACKUP_FAILED", seconds=60)
        same(event["data"]["id"], "c0", "who failed")
        same(query()["c0"]["status"], "cancelled", "status")
        check(not os.path.exists(out("c0.vma")), "an archive that is not whole")
        graphs[0].unchanged()
        vmabackup("set-speed", "c1", "0")
        control.wait("BACKUP_COMPLETED", seconds=100)
        check_archive(guests[1], out("c1.vma"))
        graphs[1].unchanged()


def test_target_as_descriptor():
    import array
    import socket
    with service() as control:
        fd = os.open(out("fd.vma"), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        control.socket.sendmsg(
            [json.dumps({"execute": "getfd", "arguments": {"fdname": "mine"}}).encode() + b"\n"],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
        os.close(fd)
        control._message(time.monotonic() + 20)
        control.execute("backup", {"id": "fd", "qmp": guests[0].socket, "target": "fd:mine"})
        control.wait("BACKUP_COMPLETED", seconds=100)
        check_archive(guests[0], out("fd.vma"))
        graphs[0].unchanged()


def test_service_ends():
    # Jobs are processes of their own; what happens to them is told, and QEMU left clean either way.
    with service() as control:
        control.execute("backup", {"id": "end", "qmp": guests[0].socket, "target": out("e.vma"),
                                   "speed": 2 << 20})
        wait_for(lambda: query()["end"]["total"] > 0, 30, "it is under way")
    guests[0].wait_steps(5)
    if os.path.exists(os.path.join(RUN_DIR, "end.sock")):
        vmabackup("cancel", "end")
    graphs[0].wait_unchanged()
    no_leftovers()


def main():
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            guest = stack.enter_context(Guest([Disk(SIZE), Disk(SIZE)]))
            guest.command("go 1000")
            guests.append(guest)
            graphs.append(Graph(guest.qmp))
        for guest in guests:
            guest.wait_steps(50)
        run(globals())


main()
