# SPDX-License-Identifier: GPL-2.0-or-later
"""
The drivers that are compared, each as a context that yields the path of the disk it shows.
"""

import contextlib
import json
import os
import subprocess
import tempfile
import time

from inputs import DISK

READ_AHEAD = "1024"     # KiB; of the yardstick (vmafs sets more for itself where it may)


def _wait_for(ready, process=None):
    for _ in range(3000):
        if ready():
            return
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"{process.args[0]} ended with status {process.returncode}")
        time.sleep(0.01)
    raise RuntimeError("a mount does not answer")


def _unmount(path):
    command = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
    for _ in range(100):
        if subprocess.run(command + [path], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return
        time.sleep(0.05)
    subprocess.run(["umount", "-l", path], check=False)


def _has_ended(pid):
    """Also one that nobody has waited for yet."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rpartition(") ")[2].startswith("Z")
    except OSError:
        return True


def _is_mounted(path):
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        return any(line.split()[4] == path for line in mounts)


@contextlib.contextmanager
def _folder(bench):
    path = tempfile.mkdtemp(prefix="mnt.", dir=bench.dir)
    try:
        yield path
    finally:
        os.rmdir(path)


def _raise_read_ahead(path):
    """As vmafs does; only root may."""
    device = os.stat(path).st_dev
    setting = f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb"
    with contextlib.suppress(OSError), open(setting, "w", encoding="ascii") as out:
        out.write(READ_AHEAD)


@contextlib.contextmanager
def vmafs_mount(bench, archive, *options):
    """The mount point.  The index is neither loaded nor saved unless the options say so."""
    options = list(options)
    if not any(o.startswith("index_cache=") for o in options):
        options.append("index_cache=none")
    with _folder(bench) as mnt:
        bench.command([bench.vmafs, archive, mnt, "-o", ",".join(options)])
        pid = None
        try:
            pid = status(mnt)["pid"]
            yield mnt
        finally:
            if _is_mounted(mnt):
                _unmount(mnt)
            # The next measurement must not find this one still at work.
            _wait_for(lambda: pid is None or _has_ended(pid))


@contextlib.contextmanager
def vmafs(bench, archive, *options):
    with vmafs_mount(bench, archive, "wait", *options) as mnt:
        yield os.path.join(mnt, DISK)


def status(mnt):
    with open(os.path.join(mnt, ".vmafs", "status"), encoding="utf-8") as f:
        return json.load(f)


@contextlib.contextmanager
def _served(bench, command, shown, is_file=False):
    """A driver that stays in the foreground; `command` gets the mount point."""
    with _folder(bench) as folder:
        mnt = os.path.join(folder, shown) if is_file else folder
        if is_file:
            with open(mnt, "wb"):
                pass
        path = mnt if is_file else os.path.join(folder, shown)
        process = None
        try:
            with open(os.path.join(bench.dir, "peer.log"), "ab") as log:
                # In a session of its own, as a daemon is: within one session the kernel's scheduler wakes
                # and preempts otherwise, which makes a quarter of a difference.
                process = subprocess.Popen(command(mnt), stdin=subprocess.DEVNULL, stdout=log,
                                           stderr=log, start_new_session=True)
            _wait_for(lambda: _is_mounted(mnt) and os.path.exists(path), process)
            yield path
        finally:
            if _is_mounted(mnt):
                _unmount(mnt)
            if process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1)
                if process.poll() is None:
                    process.terminate()
                    process.wait()
            if is_file and os.path.exists(mnt):
                os.unlink(mnt)


@contextlib.contextmanager
def null(bench, size, *options):
    with _served(bench, lambda mnt: [bench.null, str(size), mnt, *options], "disk.raw") as path:
        _raise_read_ahead(path)
        yield path


def squashfuse(bench, image, name):
    return _served(bench, lambda mnt: ["squashfuse_ll", "-f", image, mnt], name)


def qsd(bench, raw):
    return _served(bench, lambda mnt: [
        "qemu-storage-daemon",
        "--blockdev", f"driver=file,node-name=f,filename={raw},read-only=on",
        "--blockdev", "driver=raw,node-name=d,file=f,read-only=on",
        "--export", f"fuse,id=e,node-name=d,mountpoint={mnt},writable=off"], "qsd.raw",
        is_file=True)


def qsd_overlay(bench, raw, qcow2):
    """A new qcow2 file over a raw one, to be written to."""
    bench.command(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", raw, qcow2])
    return _served(bench, lambda mnt: [
        "qemu-storage-daemon",
        "--blockdev", f"driver=file,node-name=f,filename={qcow2},discard=unmap",
        "--blockdev", "driver=qcow2,node-name=d,file=f,discard=unmap",
        "--export", f"fuse,id=e,node-name=d,mountpoint={mnt},writable=on"], "qsd.raw",
        is_file=True)


def nbdfuse(bench, raw):
    return _served(bench, lambda mnt: [
        "nbdfuse", "-r", os.path.join(mnt, "nbd.raw"), "[", "nbdkit", "-r", "file", raw, "]"],
        "nbd.raw")


@contextlib.contextmanager
def loop(bench, image, direct=False):
    """The ext4 of an image, through a loop device.  Root only."""
    command = ["losetup", "--find", "--show", "--read-only", image]
    if direct:
        command.insert(1, "--direct-io=on")
    device = bench.output(command).strip()
    try:
        with _folder(bench) as mnt:
            bench.command(["mount", "-o", "ro,noload", device, mnt])
            try:
                yield mnt
            finally:
                _unmount(mnt)
    finally:
        bench.command(["losetup", "--detach", device])
