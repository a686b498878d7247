#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# vmabackup under a real QEMU (without a guest system in it): what goes in, what comes out, how it ends.
# test: timeout=300
"""The archive is the point in time; and however a backup ends, QEMU is as it was before."""

import contextlib
import ctypes
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
import fakeqmp
import guest as guestlib
from guest import Disk
from harness import *
from qmp import Qmp, QmpError

PROGRAM = os.path.join(BUILDDIR, "backup", "vmabackup")
if not os.path.exists(PROGRAM):
    skip("built without libnbd")
if not os.access("/dev/fuse", os.W_OK):
    skip("no /dev/fuse")
# Sockets have short names.
RUN = tempfile.mkdtemp(prefix="vmabk", dir="/tmp")
os.environ["VMABACKUP_RUN_DIR"] = RUN
SIZE = 16 << 20


class Guest(guestlib.Guest):
    def start(self):
        self.ours = set()
        super().start()


def backup(guest, *args, **options):
    return run_program(PROGRAM, "run", "--qmp", guest.socket, *args, **options)


@contextlib.contextmanager
def started(guest, *args, speed="256K", env=None):
    """A backup that goes on for a while, from its first event on; the value has its process."""
    process = subprocess.Popen([PROGRAM, "run", "--qmp", guest.socket, "--json", "--speed", speed,
                                *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env=env)
    try:
        event = json.loads(process.stdout.readline() or "{}")
        check(event.get("event") == "BACKUP_STARTED", f"began with {event} {process.poll()}")
        process.began = event["data"]
        mounts_of(guest)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=60)


def ended(process, status, pattern=""):
    _, errors = process.communicate(timeout=60 if not SLOW else 300)
    same(process.returncode, status, f"status ({errors})")
    check(re.search(pattern, errors), f"'{errors}' does not fit '{pattern}'")


def is_clean(guest, running=True):
    """Nothing of ours is in QEMU, and the devices have what they had."""
    nodes = [n["node-name"] for n in guest.qmp.execute("query-named-block-nodes")]
    same([n for n in nodes if n.startswith("vmabk")], [], "nodes left")
    same(guest.qmp.execute("query-jobs"), [], "jobs left")
    same(guest.qmp.execute("query-block-exports"), [], "exports left")
    same(guest.qmp.execute("query-status")["running"], running, "whether the guest runs")
    for block in guest.qmp.execute("query-block"):
        check(block["inserted"]["drv"] == "raw", f"a device has {block['inserted']}")
    same([f for f in os.listdir(RUN)], [], "sockets left")
    same(mounts_of(guest), [], "mounts left")


def wait_clean(guest):
    def clean():
        with contextlib.suppress(AssertionError):
            is_clean(guest)
            return True
        return False
    with contextlib.suppress(AssertionError):
        wait_for(clean, 30, "")
    is_clean(guest)


def fill(guest, seed, places=8):
    """Writes as the guest would; to places of all kinds."""
    rng = random.Random(seed)
    for number, disk in enumerate(guest.disks):
        for _ in range(places):
            length = 512 * rng.randrange(1, 400)
            at = 512 * rng.randrange((disk.size - length) // 512)
            guest.io(number, f"write -P {rng.randrange(256)} {at} {length}")


def contents(guest):
    return [slurp(d.path) for d in guest.disks]


def check_archive(archive, truth, *more):
    with folder() as out:
        result = tool("extract", archive, os.path.join(out, "x"), *more)
        same(result.returncode, 0, result.stderr)
        for name, data in truth.items():
            check(slurp(os.path.join(out, "x", f"disk-{name}.raw")) == data,
                  f"{name} in {archive} is not the point in time")


def names_of(archive):
    return re.findall(r"devname: (\S+)", tool("list", archive).stdout)


def two_disks():
    return [Disk(SIZE, bus="virtio"), Disk(SIZE + 4096, bus="scsi", style="drive")]


NAMES = ["virtio0", "drive-scsi1"]


def truth_of(guest):
    return dict(zip(("drive-virtio0", "drive-scsi1"), contents(guest)))


def test_point_in_time():
    with Guest(two_disks(), boot=False) as guest:
        fill(guest, 1)
        truth = truth_of(guest)
        out, view = guest.path("a.vma"), guest.path("view")
        os.mkdir(view)
        with open(guest.path("a.conf"), "w") as f:
            f.write("cores: 1\n")
        with started(guest, out, "--mount", view, "-c", guest.path("a.conf"),
                     "--id", "job-1") as process:
            check(process.began["pause-ns"] > 0, "no pause was measured")
            check(not os.path.exists(out), "an archive before it is complete")
            for seed in range(2, 6):
                fill(guest, seed)
                for name, data in truth.items():
                    with open(f"{view}/disk-{name}.raw", "rb") as f:
                        f.seek(512 * random.Random(seed).randrange(SIZE // 1024))
                        at = f.tell()
                        check(f.read(300000) == data[at:at + 300000], "the view is wrong")
            same(slurp(view + "/a.conf"), b"cores: 1\n", "config in the view")
            listed = json.loads(run_program(PROGRAM, "query", "--json").stdout)
            same([(j["id"], j["status"]) for j in listed], [("job-1", "running")], "query")
            check(sum(d["cow-requests"] for d in listed[0]["devices"]) > 0, "no hook writes")
            same(run_program(PROGRAM, "set-speed", "job-1", "0").returncode, 0, "set-speed")
            ended(process, 0, "^$")
        check_archive(out, truth)
        same(names_of(out), sorted(truth), "names")
        same(tool("config", out).stdout, "cores: 1\n", "config")
        check(contents(guest) != list(truth.values()), "the guest's writes were lost")
        is_clean(guest)
        # Once more, while it is there, and to standard output.
        same(failed(backup(guest, out), out, offset=False).count("exists"), 1, "message")
        with open(guest.path("b.vma"), "wb") as f:
            subprocess.run([PROGRAM, "run", "--qmp", guest.socket, "-"], stdout=f, check=True)
        check_archive(guest.path("b.vma"), truth_of(guest))
        is_clean(guest)


def test_choice_of_disks():
    with Guest(two_disks(), boot=False) as guest:
        for number, (args, wanted) in enumerate([
                (["--devices", "scsi1"], ["drive-scsi1"]),
                (["--devices", "drive-virtio0,drive-scsi1", "--exclude", "node0"], ["drive-scsi1"]),
                (["--exclude", "drive-scsi1"], ["drive-virtio0"])]):
            out = guest.path(f"{number}.vma")
            same(backup(guest, out, *args).returncode, 0, "status")
            same(names_of(out), wanted, f"disks with {args}")
        for args, text in ((["--devices", "foo"], "no disk is called 'foo'"),
                           (["--exclude", "virtio0,scsi1"], "no disk to back up")):
            check(text in failed(backup(guest, guest.path("x.vma"), *args), "x.vma", offset=False),
                  text)
        is_clean(guest)


def test_paused_guest_stays_paused():
    with Guest(two_disks(), boot=False) as guest:
        guest.qmp.execute("stop")
        same(backup(guest, guest.path("a.vma")).returncode, 0, "status")
        is_clean(guest, running=False)
        check("the guest is paused" in failed(backup(guest, "--vmstate", guest.path("b.vma")),
                                              "b.vma", offset=False), "message")
        is_clean(guest, running=False)


def test_ends():
    """Whatever ends a backup, QEMU is left clean, the guest runs, and there is no archive."""
    with Guest(two_disks(), boot=False) as guest:
        out, view = guest.path("a.vma"), guest.path("view")
        os.mkdir(view)
        for number, (name, status, pattern) in enumerate([
                (signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "interrupted"),
                (signal.SIGKILL, -9, "died; the guest and QEMU were left as"),
                (signal.SIGSTOP, -9, "was stopped, and therefore killed; the guest"),
                ("cancel", 1, "cancelled"), ("socket", 1, "monitor is gone|died")]):
            with started(guest, out, "--mount", view, "--id", f"end{number}") as process:
                guest.io(0, "write -P 7 0 1M")
                if name == "cancel":
                    same(run_program(PROGRAM, "cancel", f"end{number}").returncode, 0, "cancel")
                elif name == "socket":
                    os.rename(guest.socket, guest.socket + "x")
                    monitor_is_lost(process)
                else:
                    process.send_signal(name)
                ended(process, status, pattern)
            if name == "socket":
                os.rename(guest.socket + "x", guest.socket)
                result = run_program(PROGRAM, "clean", "--qmp", guest.socket)
                same(result.returncode, 0, result.stderr)
            guest.io(1, "write -P 9 64k 2M")
            wait_clean(guest)
            check(not is_mounted(view), "the view is still mounted")
            same([f for f in os.listdir(guest.folder) if "vma" in f], [], f"files after {name}")


def monitor_is_lost(process):
    """The connection to QEMU ends, as if QEMU had closed it."""
    folder_of = f"/proc/{process.pid}/fd"
    with open("/proc/net/unix") as f:
        ours = {line.split()[6] for line in f if len(line.split()) > 7 and RUN in line}
    shut_down(process.pid, [int(fd) for fd in os.listdir(folder_of)
                            if is_monitor(f"{folder_of}/{fd}", ours)])


def is_monitor(link, ours):
    with contextlib.suppress(OSError):
        target = os.readlink(link)
        return target.startswith("socket:") and target[8:-1] not in ours
    return False


def shut_down(pid, fds):
    """shutdown() of the connections to a monitor of another process, by copies of descriptors."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    done = 0
    for fd in fds:
        copy = libc.syscall(438, pidfd, fd, 0)  # pidfd_getfd
        if copy < 0:
            continue
        with socket.socket(fileno=copy) as s, contextlib.suppress(OSError):
            if s.type == socket.SOCK_STREAM and s.getpeername().endswith("qmp-backup"):
                s.shutdown(socket.SHUT_RDWR)
                done += 1
    os.close(pidfd)
    check(done > 0, "found no connection to QEMU")


def test_guest_goes_on_if_killed_while_it_is_stopped():
    with Guest(two_disks(), boot=False) as guest:
        with fakeqmp.Proxy(guest.path("proxy"), guest.socket, hold="qom-set") as proxy:
            process = subprocess.Popen([PROGRAM, "run", "--qmp", proxy.path, guest.path("a.vma")],
                                       stderr=subprocess.PIPE, text=True)
            proxy.wait_held()
            same(guest.qmp.execute("query-status")["running"], False, "the guest runs")
            process.kill()
            proxy.let_go()
            ended(process, -9, "died; the guest and QEMU were left as")
        wait_clean(guest)


def has_files(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/fd")) > 0
    except OSError:
        return False


def test_clean():
    """The guard dies too: the command finds all that is left."""
    with Guest(two_disks(), boot=False) as guest:
        with started(guest, guest.path("a.vma"), "--bitmap", "day", "--id", "lost") as process:
            with open(f"/proc/{process.pid}/task/{process.pid}/children") as f:
                children = [int(n) for n in f.read().split()]
            check(children, "no guard")
            mount = mounts_of(guest)[0]
            result = run_program(PROGRAM, "clean", "--qmp", guest.path("qmp-third"))
            same(result.returncode, 1, "clean of a backup that runs")
            check("'lost' is running" in result.stderr, result.stderr)
            for pid in [*children, process.pid]:  # the guard first, or it begins to clean up
                os.kill(pid, signal.SIGKILL)
            process.wait(30)
            # Until the last of them has let go of it, the mount hangs, which is not the same as dead.
            wait_for(lambda: not any(map(has_files, children)), 20, "the guard's end")
        nodes = [n["node-name"] for n in guest.qmp.execute("query-named-block-nodes")]
        check(any(n.startswith("vmabk-lost-") for n in nodes), f"nothing to clean: {nodes}")
        guest.io(0, "write -P 3 1M 1M")  # breaks the snapshot, and nothing else
        # The dead mount is there now, unless a `clean` of another test has come along.
        same(run_program(PROGRAM, "clean", "--qmp", guest.socket).returncode, 0, "status")
        for name in os.listdir(RUN):
            os.unlink(os.path.join(RUN, name))
        check(mount not in mounts() and not os.path.exists(mount), "the dead mount is left")
        is_clean(guest)
        guest.io(0, "read -P 3 1M 1M")
        result = run_program(PROGRAM, "clean", "--qmp", guest.socket)
        check(": 0 things removed" in result.stdout, result.stdout)


def mounts():
    with open("/proc/self/mounts") as f:
        return [line.split()[1] for line in f if line.split()[2] == "fuse.vmabackup"]


def mounts_of(guest):
    """Those below the files that QEMU was given, as far as they are there."""
    for node in guest.qmp.execute("query-named-block-nodes"):
        if node["node-name"].startswith("vmabk") and node["drv"] == "file":
            guest.ours.add(os.path.dirname(node["file"]))
    return [m for m in mounts() if m in guest.ours]


def bitmaps(guest):
    found = {}
    for node in guest.qmp.execute("query-named-block-nodes"):
        for bitmap in node.get("dirty-bitmaps", []):
            found.setdefault(node["node-name"], []).append(bitmap["name"].split(":")[1])
    return found


def test_incremental():
    with Guest(two_disks(), boot=False) as guest:
        fill(guest, 10)
        path = lambda n: guest.path(f"{n}.vma")
        same(backup(guest, path(0), "--bitmap", "day").returncode, 0, "the first")
        for n in range(1, 4):
            fill(guest, 10 + n, 2)
            truth = truth_of(guest)
            with started(guest, path(n), "--bitmap", "day", "--incremental", path(n - 1),
                         speed="4M") as process:
                fill(guest, 20 + n, 2)
                ended(process, 0, "^$")
            check_archive(path(n), truth)
            same(sorted(map(len, bitmaps(guest).values())), [1, 1], "bitmaps")
        # One that is cancelled, and one that is killed with its guard: nothing is forgotten.
        for n, args in ((4, []), (5, ["--delta"])):
            fill(guest, 30 + n, 2)
            with started(guest, path("x"), "--bitmap", "day", "--incremental", path(3), *args,
                         speed="1K") as process:
                fill(guest, 40 + n, 2)
                if n == 4:
                    process.send_signal(signal.SIGINT)
                    ended(process, 130)
                else:
                    process.kill()
                    ended(process, -9)
            wait_clean(guest)
        truth = truth_of(guest)
        result = backup(guest, path(4), "--bitmap", "day", "--incremental", path(3))
        same((result.returncode, result.stderr), (0, ""), "after two that failed")
        check_archive(path(4), truth)
        # What has no bitmap here is copied in full, and that is said.
        truth = truth_of(guest)
        result = backup(guest, path(5), "--bitmap", "day", "--incremental", path(1))
        same((result.returncode, result.stderr.count("a full copy")), (0, 2), result.stderr)
        check_archive(path(5), truth)
        is_clean(guest)


def test_view_of_an_incremental_backup():
    """At once, and all of it: what did not change is in the base, the rest is with QEMU."""
    with Guest(two_disks(), boot=False) as guest:
        fill(guest, 10)
        same(backup(guest, guest.path("0.vma"), "--bitmap", "day").returncode, 0, "the first")
        fill(guest, 11, 3)
        truth, view = truth_of(guest), guest.path("view")
        os.mkdir(view)
        with started(guest, guest.path("1.vma"), "--bitmap", "day", "--incremental",
                     guest.path("0.vma"), "--mount", view, speed="1") as process:
            fill(guest, 21, 3)
            for name, data in truth.items():
                with open(os.path.join(view, f"disk-{name}.raw"), "rb") as f:
                    check(f.read() == data, f"{name} in the view is not the point in time")
            process.send_signal(signal.SIGINT)
            ended(process, 130)
        wait_clean(guest)


def capabilities(guest):
    return [c["capability"] for c in guest.qmp.execute("query-migrate-capabilities") if c["state"]]


def restores(guest, archive):
    with folder() as out:
        same(tool("extract", archive, out + "/x").returncode, 0, "extract")
        disks = [Disk(d.size, d.bus, d.style, path=f"{out}/x/disk-{name}.raw")
                 for d, name in zip(guest.disks, ("drive-virtio0", "drive-scsi1"))]
        with Guest(disks, boot=False, incoming=f"exec:cat {out}/x/vmstate.bin") as again:
            wait_for(lambda: again.qmp.execute("query-status")["status"] == "paused", 60,
                     "the memory comes in")
            again.qmp.execute("cont")
            same(again.qmp.execute("query-status")["status"], "running", "status")


def test_memory():
    """While the guest runs on, and where that cannot be; and QEMU has its settings back."""
    with Guest(two_disks(), boot=False) as guest:
        bandwidth = guest.qmp.execute("query-migrate-parameters")["max-bandwidth"]
        other = {"capability": "auto-converge", "state": True}
        for number, live in enumerate((True, False)):
            if not live:  # the two exclude each other
                guest.qmp.execute("migrate-set-capabilities", {"capabilities": [other]})
            fill(guest, 50 + number)
            out, truth = guest.path(f"{number}.vma"), truth_of(guest)
            result = backup(guest, "--vmstate", out)
            same(result.returncode, 0, result.stderr)
            paused = "the guest will pause" in result.stderr
            check(live != paused or live, f"said: {result.stderr}")
            check_archive(out, truth)
            is_clean(guest)
            same(capabilities(guest), [] if live else ["auto-converge"], "capabilities")
            same(guest.qmp.execute("query-migrate-parameters")["max-bandwidth"], bandwidth, "limit")
            restores(guest, out)
        # Killed while the guest is paused for it.
        guest.qmp.execute("migrate-set-parameters", {"max-bandwidth": 12345})
        with fakeqmp.Proxy(guest.path("proxy"), guest.socket, hold="query-migrate\"") as proxy:
            process = subprocess.Popen([PROGRAM, "run", "--qmp", proxy.path, "--vmstate",
                                        guest.path("x.vma")], stderr=subprocess.PIPE, text=True)
            proxy.wait_held()
            process.kill()
            proxy.let_go()
            ended(process, -9, "died; the guest and QEMU were left as")
        wait_clean(guest)
        same(guest.qmp.execute("query-migrate-parameters")["max-bandwidth"], 12345, "limit")


def test_top():
    """Of a disk over a base image only what stands in the upper one is read."""
    with folder() as at:
        base, top = os.path.join(at, "base.raw"), os.path.join(at, "top.qcow2")
        with open(base, "wb") as f:
            f.write(random.Random(8).randbytes(4 << 20) + bytes(SIZE - (4 << 20)))
        below, out = os.path.join(at, "below.vma"), os.path.join(at, "a.vma")
        same(tool("create", below, f"drive-virtio0={base}").returncode, 0, "the archive below")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", top],
                       check=True)
        with Guest([Disk(SIZE, fmt="qcow2", path=top)], boot=False) as guest:
            guest.io(0, "write -P 5 1000k 200k")
            guest.io(0, "flush")
            subprocess.run(["qemu-img", "convert", "-U", "-O", "raw", top, base + ".all"], check=True)
            result = run_program(PROGRAM, "run", "--qmp", guest.socket, "--sync", "top", "--json",
                                 "--incremental", below, out)
            same((result.returncode, result.stderr), (0, ""), "backup")
            check_archive(out, {"drive-virtio0": slurp(base + ".all")})
            result = run_program(PROGRAM, "run", "--qmp", guest.socket, "--sync", "top", "--delta",
                                 "--incremental", below, out + "2")
            same((result.returncode, result.stderr), (0, ""), "backup")
            check(os.path.getsize(out + "2") < 1 << 20, "a delta has all of it")


def test_migrated_away():
    """The images belong to another QEMU then: what is read of them counts no more."""
    with Guest(two_disks(), boot=False) as guest:
        with started(guest, guest.path("a.vma")) as process:
            guest.qmp.execute("migrate", {"uri": "exec:cat >/dev/null"})
            wait_for(lambda: guest.qmp.execute("query-migrate").get("status") == "completed", 60,
                     "the guest migrates")
            ended(process, 1, "the guest was migrated away")
        is_clean(guest, running=False)
        check(not os.path.exists(guest.path("a.vma")), "there is an archive")
        guest.qmp.execute("cont")


def test_second_backup():
    with Guest(two_disks(), boot=False) as guest:
        first = truth_of(guest)
        with started(guest, guest.path("a.vma"), "--devices", "virtio0", "--id", "one") as one:
            third = run_program(PROGRAM, "run", "--qmp", guest.path("qmp-third"),
                                guest.path("b.vma"))
            check("another live backup has this disk" in third.stderr, third.stderr)
            same(third.returncode, 1, "status")
            third = run_program(PROGRAM, "run", "--qmp", guest.path("qmp-third"), "--id", "two",
                                "--devices", "scsi1", guest.path("b.vma"))
            same(third.returncode, 0, third.stderr)
            third = run_program(PROGRAM, "run", "--qmp", guest.path("qmp-third"), "--id", "one",
                                "--devices", "scsi1", guest.path("c.vma"))
            check("a job of this name runs" in third.stderr, third.stderr)
            # The socket itself is taken.
            third = backup(guest, guest.path("c.vma"), "--devices", "scsi1")
            check("no greeting" in third.stderr, third.stderr)
            run_program(PROGRAM, "set-speed", "one", "0")
            ended(one, 0, "^$")
        check_archive(guest.path("a.vma"), {"drive-virtio0": first["drive-virtio0"]})
        check_archive(guest.path("b.vma"), {"drive-scsi1": first["drive-scsi1"]})
        is_clean(guest)


def test_service():
    with Guest(two_disks(), boot=False) as guest, \
            subprocess.Popen([PROGRAM, "serve"]) as service:
        try:
            path = os.path.join(RUN, "serve.sock")
            wait_for(lambda: os.path.exists(path), 20, "the service listens")
            same(os.stat(path).st_mode & 0o777, 0o600, "mode of the socket")
            with Qmp(path) as qmp:
                serve_some(guest, qmp)
            service.send_signal(signal.SIGTERM)
            service.wait(60)
        finally:
            service.kill()
        is_clean(guest)
        check(not os.path.exists(guest.path("c.vma")), "an archive of a cancelled backup")


def refused(control, command, kind, text, **arguments):
    try:
        control.execute(command, arguments)
    except QmpError as e:
        same(e.kind, kind, f"class of {e}")
        check(text in e.text, f"{e} does not say '{text}'")
        return
    raise AssertionError(f"{command} {arguments} was not refused")


def serve_some(guest, qmp):
    refused(qmp, "nonsense", "CommandNotFound", "nonsense")
    refused(qmp, "backup", "GenericError", "'color' is no argument", color=1)
    refused(qmp, "backup", "GenericError", "'id' is missing", qmp=guest.socket)
    refused(qmp, "backup", "GenericError", "cannot connect", id="z", qmp="/nowhere", target="x")
    refused(qmp, "backup-cancel", "DeviceNotFound", "no backup", id="y")
    same(qmp.wait("BACKUP_FAILED")["data"]["id"], "z", "event")
    truth = truth_of(guest)
    qmp.execute("backup", {"id": "a", "qmp": guest.socket, "target": guest.path("a.vma"),
                           "devices": ["virtio0"], "speed": 1 << 18})
    fd = os.open(guest.path("b.vma"), os.O_RDWR | os.O_CREAT)
    socket.send_fds(qmp.socket, [b'{"execute": "getfd", "arguments": {"fdname": "out"}}\n'], [fd])
    os.close(fd)
    while "return" not in (message := qmp._message(time.monotonic() + 20)):
        qmp.events.append(message)
    qmp.execute("backup", {"id": "b", "qmp": guest.path("qmp-third"), "target": "fd:out",
                           "exclude": ["virtio0"]})
    refused(qmp, "backup", "GenericError", "is a backup 'a' already", id="a", qmp="x", target="y")
    refused(qmp, "backup-forget", "GenericError", "still running", id="a")
    refused(qmp, "backup-set-speed", "GenericError", "speed", id="a")
    qmp.execute("backup-set-speed", {"id": "a", "speed": 0})
    done = {qmp.wait("BACKUP_COMPLETED", seconds=60)["data"]["id"] for _ in range(2)}
    same(done, {"a", "b"}, "completed")
    check_archive(guest.path("a.vma"), {"drive-virtio0": truth["drive-virtio0"]})
    check_archive(guest.path("b.vma"), {"drive-scsi1": truth["drive-scsi1"]})
    wait_for(lambda: not [f for f in os.listdir(RUN) if f in ("a.sock", "b.sock")], 20, "ends")
    listed = {j["id"]: j for j in json.loads(run_program(PROGRAM, "query", "--json").stdout)}
    same({i: j["status"] for i, j in listed.items()},
         {"z": "failed", "a": "concluded", "b": "concluded"}, "query")
    for member in ("uuid", "start-time", "end-time", "total", "transferred", "zero", "devices"):
        check(member in listed["a"], f"no {member}")
    same(listed["b"]["target"], "fd:out", "target")
    wait_for(lambda: run_program(PROGRAM, "forget", "a").returncode == 0, 20, "forget")
    qmp.execute("backup", {"id": "c", "qmp": guest.socket, "target": guest.path("c.vma"),
                           "speed": 1 << 18})


def test_storage_daemon():
    if not shutil.which("qemu-storage-daemon"):
        skip("no qemu-storage-daemon")
    with folder() as at:
        disk, out = os.path.join(at, "disk"), os.path.join(at, "a.vma")
        with open(disk, "wb") as f:
            f.write(random.Random(5).randbytes(1 << 20) + bytes(3 << 20))
        control = tempfile.mktemp(dir=RUN)
        with subprocess.Popen(["qemu-storage-daemon", "--chardev",
                               f"socket,path={control},server=on,wait=off,id=m", "--monitor",
                               "chardev=m", "--blockdev",
                               f"driver=file,node-name=f0,filename={disk}",
                               "--blockdev", "driver=raw,node-name=d0,file=f0"]) as daemon:
            try:
                wait_for(lambda: os.path.exists(control), 20, "the daemon")
                result = run_program(PROGRAM, "run", "--qmp", control, out)
                check("--devices" in result.stderr, result.stderr)
                result = run_program(PROGRAM, "run", "--qmp", control, "--devices", "d0", out)
                same((result.returncode, result.stderr), (0, ""), "backup")
                with Qmp(control) as qmp:
                    same(sorted(n["node-name"] for n in qmp.execute("query-named-block-nodes")),
                         ["d0", "f0"], "nodes")
            finally:
                daemon.kill()
        os.unlink(control)
        check_archive(out, {"d0": slurp(disk)})


def test_odd_monitors():
    """What is no QEMU, or an old one, is told by name, before anything is touched."""
    for behaviour, pattern in fakeqmp.ODD.items():
        with fakeqmp.Server(os.path.join(RUN, "fake"), behaviour) as fake:
            result = run_program(PROGRAM, "run", "--qmp", fake.path, os.path.join(TMP, "odd.vma"))
            failed(result, "odd.vma", offset=False)
            check(re.search(pattern, result.stderr), f"{behaviour}: {result.stderr}")
            same(fake.forbidden, [], f"{behaviour}: commands that change something")
    result = run_program(PROGRAM, "run", "--qmp", os.path.join(RUN, "nobody"), "x.vma")
    check("cannot connect" in result.stderr, result.stderr)


def test_usage():
    for args, pattern in (([], "which command"), (["foo"], "no command 'foo'"),
                          (["run", "x.vma"], "--qmp is missing"),
                          (["run", "--qmp", "s"], "which archive"),
                          (["run", "--qmp", "s", "--sync", "half", "x"], "--sync is"),
                          (["run", "--qmp", "s", "--sync", "none", "x"], "--sync none makes no"),
                          (["run", "--qmp", "s", "--id", "a/b", "x"], "--id: letters"),
                          (["run", "--qmp", "s", "--incremental", "b", "x"], "needs --bitmap"),
                          (["run", "--qmp", "s", "--delta", "x"], "--delta needs"),
                          (["run", "--qmp", "s", "--sync", "top", "x"], "--sync top needs"),
                          (["run", "--qmp", "s", "--json", "-"], "exclude each other"),
                          (["set-speed", "a"], "missing argument"),
                          (["clean"], "--qmp is missing")):
        result = run_program(PROGRAM, *args)
        same(result.returncode, 2, f"status of {args} ({result.stderr})")
        same(result.stderr.count("\n"), 1, "lines")
        check(pattern in result.stderr, f"{args}: {result.stderr}")


try:
    run(globals())
finally:
    shutil.rmtree(RUN, ignore_errors=True)
