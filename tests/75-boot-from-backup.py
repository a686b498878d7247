#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=300
"""
A guest started straight from its backup: it runs programs off its disk, replays its journal,
writes, and powers off; QEMU and vmafs are killed under it, and it comes up again with what it had
synced; the disk is sound afterwards, and the backup as it was.  And one that boots from nbdkit.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from harness import *
from guest import Disk, Guest, kit

SIZE = 64 << 20


def sha(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest() if hasattr(hashlib, "file_digest") \
            else hashlib.sha256(f.read()).hexdigest()


def make_backup(folder_path, content):
    """An archive of a disk with an ext4 on it, and a busybox and a file in that."""
    root, image = os.path.join(folder_path, "root"), os.path.join(folder_path, "disk.raw")
    kernel, _ = kit()
    busybox = next(os.path.join(d, "busybox") for d, _, names in
                   os.walk(os.path.join(os.path.dirname(kernel), "packages"))
                   if "busybox" in names and d.endswith("bin"))
    for name in ("bin", "etc", "proc", "data"):
        os.makedirs(os.path.join(root, name))
    shutil.copy(busybox, os.path.join(root, "bin/busybox"))
    for name in ("sh", "cp", "cat", "md5sum", "sync", "dd", "rm"):
        os.symlink("busybox", os.path.join(root, "bin", name))
    with open(os.path.join(root, "data/file"), "wb") as f:
        f.write(content)
    with open(image, "wb") as f:
        f.truncate(SIZE)
    subprocess.run(["mkfs.ext4", "-q", "-d", root, image], check=True)
    archive = os.path.join(folder_path, "vm.vma.zst")
    result = tool("create", archive, f"drive-virtio0={image}")
    same((result.returncode, result.stderr), (0, ""), "create")
    return archive


def disk_of(mnt):
    return os.path.join(mnt, "disk-drive-virtio0.raw")


def guest_on(mnt):
    return Guest([Disk(SIZE, path=disk_of(mnt), style="drive")], writers=0, model=object())


def shell(guest, command):
    return guest.command(f"sh {command}")["text"]


def enter(guest):
    shell(guest, "mkdir -p /tmp/root && mount -t ext4 /dev/vda /tmp/root")


def inside(guest, command):
    """In the guest's own system, by its own programs."""
    return shell(guest, f"busybox chroot /tmp/root /bin/sh -c '{command}'")


def check_disk(path):
    result = subprocess.run(["e2fsck", "-fn", path], capture_output=True, text=True, check=False)
    same(result.returncode, 0, f"e2fsck: {result.stdout}{result.stderr}")


def debugfs(path, name):
    return subprocess.run(["debugfs", "-R", f"cat {name}", path], capture_output=True,
                          check=True).stdout


def test_boot_from_nbdkit():
    plugin = os.path.join(BUILDDIR, "nbdkit", "nbdkit-vma-plugin.so")
    content = os.urandom(1 << 20)
    with folder() as work:
        archive = make_backup(work, content)
        before = sha(archive)
        socket, top = os.path.join(work, "nbd"), os.path.join(work, "top.qcow2")
        nbdkit = subprocess.Popen(["nbdkit", "-f", "-U", socket, plugin, archive])
        try:
            wait_for(lambda: os.path.exists(socket), 20, "nbdkit listens")
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b",
                            f"nbd+unix:///drive-virtio0?socket={socket}", top], check=True)
            with Guest([Disk(SIZE, path=top, fmt="qcow2", style="drive")], writers=0,
                       model=object()) as guest:
                enter(guest)
                check(hashlib.md5(content).hexdigest() in inside(guest, "md5sum /data/file"),
                      "the guest reads wrong bytes")
                inside(guest, "echo new >/etc/state && sync")
                check("new" in inside(guest, "cat /etc/state"), "the guest cannot write")
        finally:
            nbdkit.terminate()
            nbdkit.wait(30)
        same(sha(archive), before, "the archive")


def test_boot():
    content = os.urandom(3 << 20)
    md5 = hashlib.md5(content).hexdigest()
    with folder() as work:
        archive = make_backup(work, content)
        before = sha(archive)
        overlay = os.path.join(work, "overlay")
        with mounted(archive, "-o", f"overlay={overlay}") as mnt:
            with guest_on(mnt) as guest:
                enter(guest)
                check(md5 in inside(guest, "md5sum /data/file"), "the guest reads wrong bytes")
                inside(guest, "cp /data/file /data/copy && echo first >/etc/state && sync")
                # Everything goes down at once, while it writes.
                guest.send("sh while busybox chroot /tmp/root /bin/dd if=/data/file of=/data/more "
                           "bs=64k conv=fsync; do :; done")
                time.sleep(1)
                os.kill(guest.process.pid, signal.SIGKILL)
                os.kill(server(mnt), signal.SIGKILL)
                guest.process.wait(60)
        wait_for(lambda: server(mnt) is None, 10, "the killed vmafs is gone")
        with mounted(archive, "-o", f"overlay={overlay}") as mnt:
            with guest_on(mnt) as guest:
                enter(guest)
                check("first" in inside(guest, "cat /etc/state"), "what was synced is gone")
                for name in ("file", "copy"):
                    check(md5 in inside(guest, f"md5sum /data/{name}"), f"{name} is wrong")
                check("recovery complete" in shell(guest, "dmesg"), "no journal was replayed")
                inside(guest, "echo second >/etc/state; rm /data/copy /data/more")
                shell(guest, "umount /tmp/root")
                guest.command("off")
                same(guest.process.wait(120), 0, "status of QEMU")
            check_disk(disk_of(mnt))
        with mounted(archive, "-o", f"overlay={overlay}") as mnt:
            check_disk(disk_of(mnt))
            same(debugfs(disk_of(mnt), "/etc/state"), b"second\n", "the guest's last word")
            check(debugfs(disk_of(mnt), "/data/file") == content, "the guest's file is wrong")
        same(sha(archive), before, "the archive")
        with mounted(archive) as mnt:
            check_disk(disk_of(mnt))
            same(debugfs(disk_of(mnt), "/etc/state"), b"", "what the backup knows of it")


run(globals())
