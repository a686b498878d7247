#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=600
"""
Whatever happens to the target, to vmabackup, or to QEMU's sockets: the guest goes on, its disks are
right, QEMU keeps nothing of ours, and there is no archive that is not whole.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from harness import *
from guest import Disk, Guest
from live import Backup, Graph, check_archive, disks_of, extracted, no_leftovers, vmabackup

SIZE = 48 << 20
guest = None
graph = None


def out(name):
    return os.path.join(TMP, name)


def goes_on(seconds=60):
    graph.wait_unchanged(seconds)
    guest.wait_steps(5)
    no_leftovers()
    status = guest.command("status")
    same(status["errors"], "0", f"errors in the guest ({status['text']})")


@contextlib.contextmanager
def small_file_system(mib):
    path = out("small")
    os.makedirs(path, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def test_target_full():
    guest.wait_steps(200)
    with small_file_system(8) as path:
        with Backup(guest, path + "/full.vma") as backup:
            backup.fail("[Nn]o space")
        same(os.listdir(path), [], "what is left on the full file system")
    goes_on()


def test_scratch_full():
    with small_file_system(1) as path:
        # The archive hardly takes anything, so the scratch file fills up.
        with Backup(guest, "exec:sleep 2; cat >/dev/null", "--scratch", path + "/scratch",
                    "--on-full", "fail-backup") as backup:
            backup.fail("[Nn]o space|full")
        same(os.listdir(path), [], "what is left on the full file system")
    goes_on()


def test_target_hangs():
    with Backup(guest, "exec:exec sleep 1000", "--cbw-timeout", 3) as backup:
        backup.wait_started()
        start = time.monotonic()
        guest.wait_steps(1, 90)
        print(f"  the guest waited up to {time.monotonic() - start:.1f} s")
        backup.fail("")
        check(backup.message, "no message")
        print("  " + backup.message)
    goes_on()


def test_target_stands_still():
    # For five seconds; with a scratch file the guest must not notice.  QEMU waits for all requests
    # when it starts a copy: a second copy that began after the first held the guest up all the time.
    guest.command("status")
    with Backup(guest, f"exec:sleep 5; cat >{out('still.vma')}", "--scratch",
                out("scratch")) as backup:
        backup.wait_started()
        start = time.monotonic()
        guest.wait_steps(20)
        took = time.monotonic() - start
        check(backup.process.poll() is None, "the target did not stand still")
        check(took < 4, f"20 steps took the guest {took} s")
        backup.succeed()
    check_archive(guest, out("still.vma"))
    goes_on()


def test_target_goes():
    with Backup(guest, "exec:head -c 1000000 >/dev/null") as backup:
        backup.fail("exec|pipe|Broken")
    goes_on()


def test_folder_of_the_target_goes():
    os.mkdir(out("folder"))
    with Backup(guest, out("folder/a.vma"), "--speed", 4 << 20) as backup:
        backup.wait_started()
        for name in os.listdir(out("folder")):
            os.unlink(out("folder/" + name))
        os.rmdir(out("folder"))
        vmabackup("set-speed", backup.id, "0")
        backup.fail("folder/a.vma")
    goes_on()


def daemon_gets(number):
    with Backup(guest, out("a.vma"), "--speed", 2 << 20, mount=True) as backup:
        backup.wait_started()
        guest.wait_steps(3)
        os.kill(backup.process.pid, number)
        start = time.monotonic()
        guest.wait_steps(3, 90)
        print(f"  the guest went on after {time.monotonic() - start:.1f} s")
        graph.wait_unchanged(60)
        backup.end(60)
        wait_for(lambda: not is_mounted(backup.mountpoint), 20, "the live view is unmounted")
    check(not os.path.lexists(out("a.vma")), "an archive that is not whole")
    goes_on()


def test_daemon_killed():
    daemon_gets(signal.SIGKILL)


def test_daemon_stopped():
    daemon_gets(signal.SIGSTOP)


def test_daemon_crashes():
    daemon_gets(signal.SIGABRT)


def test_daemon_interrupted():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with Backup(guest, out("a.vma"), "--speed", 2 << 20) as backup:
            backup.wait_started()
            os.kill(backup.process.pid, number)
            backup.end()
            check(backup.process.returncode != 0, "an interrupted backup says that it succeeded")
            check(not os.path.lexists(out("a.vma")), "an archive that is not whole")
        goes_on()


def test_reset():
    # A guest that is reset during its backup starts again, and the point in time stays what it was.
    with Backup(guest, out("reset.vma"), "--speed", 8 << 20, mount=True) as backup:
        backup.wait_started()
        first = guest.fresh_check(disks_of(backup.mountpoint))
        guest.qmp.execute("system_reset")
        guest.wait_ready()
        guest.command("go 200")
        guest.wait_steps(5)
        vmabackup("set-speed", backup.id, "0")
        backup.succeed()
    same(check_archive(guest, out("reset.vma")), first, "steps")
    goes_on()


def test_second_backup():
    with Backup(guest, out("first.vma"), "--speed", 8 << 20) as backup:
        backup.wait_started()
        with Backup(guest, out("second.vma"), qmp=guest.path("qmp-third")) as second:
            second.fail("another live backup")
        vmabackup("set-speed", backup.id, "0")
        backup.succeed()
    check_archive(guest, out("first.vma"))
    goes_on()


def test_socket_taken():
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(guest.socket)
        with Backup(guest, out("a.vma")) as backup:
            backup.fail("qmp|QMP|monitor")
            print("  " + backup.message)
    # QEMU takes a moment to see that it is gone.
    time.sleep(0.2)
    goes_on()


class Proxy:
    """A QMP socket that can be cut."""

    def __init__(self, path, to):
        self.path, self.to, self.pairs = path, to, []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(5)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                a, _ = self.listener.accept()
                b = socket.socket(socket.AF_UNIX)
                b.connect(self.to)
                self.pairs += [a, b]
                for x, y in ((a, b), (b, a)):
                    threading.Thread(target=self._copy, args=(x, y), daemon=True).start()

    @staticmethod
    def _copy(x, y):
        with contextlib.suppress(OSError):
            while True:
                data, fds, _, _ = socket.recv_fds(x, 65536, 8)
                if not data:
                    break
                if fds:
                    socket.send_fds(y, [data], fds)
                    for fd in fds:
                        os.close(fd)
                else:
                    y.sendall(data)
        for s in (x, y):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def cut(self, listen):
        """Ends all connections; with `listen`, new ones are welcome."""
        if not listen:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            os.unlink(self.path)
        for s in self.pairs:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
        self.pairs = []


def test_socket_lost_and_back():
    proxy = Proxy(out("proxy"), guest.socket)
    with Backup(guest, out("a.vma"), "--speed", 4 << 20, qmp=out("proxy")) as backup:
        backup.wait_copying()
        proxy.cut(listen=True)
        # Whether it goes on or gives up: QEMU is left clean, and the file is whole or not there.
        vmabackup("set-speed", backup.id, "0")
        status = backup.end()
        print(f"  status {status}: {backup.message}")
    if status == 0:
        check_archive(guest, out("a.vma"))
        os.unlink(out("a.vma"))
    else:
        check(not os.path.lexists(out("a.vma")), "an archive that is not whole")
    proxy.cut(listen=False)
    goes_on()


def test_socket_lost():
    proxy = Proxy(out("proxy"), guest.socket)
    with Backup(guest, out("a.vma"), "--speed", 4 << 20, qmp=out("proxy")) as backup:
        backup.wait_copying()
        proxy.cut(listen=False)
        backup.fail("clean --qmp")
        print("  " + backup.message)
    guest.wait_steps(5, 90)
    result = vmabackup("clean", "--qmp", guest.socket)
    same(result.returncode, 0, f"clean ({result.stderr})")
    goes_on()
    # Again, with nothing to do.
    result = vmabackup("clean", "--qmp", guest.socket)
    same(result.returncode, 0, f"clean ({result.stderr})")


def test_paused_guest():
    # One that was paused stays so; one that is paused meanwhile, too.
    guest.qmp.execute("stop")
    with Backup(guest, out("paused.vma")) as backup:
        backup.succeed()
    same(guest.qmp.execute("query-status")["status"], "paused", "state")
    guest.qmp.execute("cont")
    check_archive(guest, out("paused.vma"))
    os.unlink(out("paused.vma"))
    with Backup(guest, out("paused.vma"), "--speed", 8 << 20) as backup:
        backup.wait_started()
        guest.qmp.execute("stop")
        vmabackup("set-speed", backup.id, "0")
        backup.succeed()
    same(guest.qmp.execute("query-status")["status"], "paused", "state")
    guest.qmp.execute("cont")
    check_archive(guest, out("paused.vma"))
    goes_on()


def test_output_exists():
    with open(out("there.vma"), "w") as f:
        f.write("precious")
    with Backup(guest, out("there.vma")) as backup:
        backup.end()
        check(backup.process.returncode != 0, "an existing file was replaced")
    same(slurp(out("there.vma")), b"precious", "the file that was there")
    goes_on()


def test_no_such_disk():
    with Backup(guest, out("a.vma"), "--devices", "nothing") as backup:
        backup.fail("nothing")
    goes_on()


def test_z_unplugged():
    # The last tests end what the others need: first one disk goes, then QEMU.
    with Backup(guest, out("unplugged.vma"), "--speed", 4 << 20) as backup:
        backup.wait_started()
        guest.qmp.execute("device_del", id="virtio1")
        guest.qmp.wait("DEVICE_DELETED", where=lambda data: data.get("device") == "virtio1")
        guest.wait_steps(5)
        vmabackup("set-speed", backup.id, "0")
        status = backup.end()
        print(f"  status {status}: {backup.message}")
    if status == 0:
        check_archive(guest, out("unplugged.vma"))
    else:
        check(backup.message, "no message")
        check(not os.path.lexists(out("unplugged.vma")), "an archive that is not whole")
    graph.unchanged(gone=["node1"])
    with Backup(guest, out("rest.vma")) as backup:
        backup.succeed()
    with extracted(out("rest.vma")) as disks:
        guest.fresh_check(disks + [None])


def qemu_ends(how):
    with Guest([Disk(SIZE)]) as other:
        other.command("go")
        other.wait_steps(50)
        with Backup(other, out("ended.vma"), "--speed", 2 << 20, mount=True) as backup:
            backup.wait_started()
            # Somebody has it open, and so it cannot just be unmounted.
            view = os.open(disks_of(backup.mountpoint)[0], os.O_RDONLY)
            try:
                how(other)
                backup.fail("QEMU|connection")
                print("  " + backup.message)
            finally:
                with contextlib.suppress(OSError):
                    os.close(view)
        other.process.wait(60)
        other.check_images(other.disks, torn=True)
    no_leftovers()


def test_z_qemu_killed():
    qemu_ends(lambda other: other.process.kill())


def test_z_qemu_quits():
    qemu_ends(lambda other: other.qmp.execute("quit"))


def test_z_guest_powers_off():
    qemu_ends(lambda other: other.send("off"))


def main():
    global guest, graph
    with Guest([Disk(SIZE), Disk(SIZE)]) as guest:
        guest.command("go 200")
        graph = Graph(guest.qmp)
        run(globals())


main()
