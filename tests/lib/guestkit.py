# SPDX-License-Identifier: GPL-2.0-or-later
"""
The test guest's kernel and initramfs, made from Debian's packages once for many tests.

  guestkit.py DIR      makes DIR/vmlinuz and DIR/initrd, if they are not there

Needs apt-get (which need not install anything), dpkg-deb and a compiler that links statically.
"""

import fcntl
import glob
import gzip
import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile

LIB = os.path.dirname(os.path.abspath(__file__))
# What the guest's disks hang on; with what these need, by their own word.
MODULES = ["virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod"]


class KitError(Exception):
    """Why there is no guest to be had here."""


def _run(*command, **options):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            check=False, **options)
    if result.returncode != 0:
        raise KitError(f"{' '.join(command)}: {result.stderr.strip()[-500:]}")
    return result.stdout


def _download(folder):
    def kernel():
        text = _run("apt-cache", "depends", "linux-image-cloud-amd64")
        return re.search(r"Depends: (linux-image-\S+)", text).group(1)

    def fetch():
        _run("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", kernel(),
             "busybox-static", cwd=folder)

    try:
        fetch()
    except (KitError, AttributeError, FileNotFoundError):
        # The package lists may be missing, or older than what the mirror still has.
        _run("apt-get", "-q", "update")
        try:
            fetch()
        except AttributeError:
            raise KitError("apt knows no kernel for the test guest") from None
    for package in glob.glob(os.path.join(folder, "*.deb")):
        _run("dpkg-deb", "-x", package, os.path.join(folder, "root"))


def _module(path):
    """A module's content: newer kernels' are compressed in the package."""
    with (lzma.open if path.endswith(".xz") else open)(path, "rb") as f:
        return f.read()


def _modules(root):
    """Paths of the modules in the order in which they load."""
    files = {}
    for path in glob.glob(os.path.join(root, "**", "*.ko*"), recursive=True):
        files[os.path.basename(path).split(".")[0].replace("-", "_")] = path
    order = []

    def add(name):
        path = files.get(name)
        if path is None or path in order:       # not there: built into the kernel
            return
        found = re.search(rb"\0depends=([^\0]*)\0", _module(path))
        for other in found.group(1).decode().split(",") if found else []:
            add(other.replace("-", "_"))
        order.append(path)

    for name in MODULES:
        add(name)
    return order


class _Cpio:
    """An initramfs: cpio's newc format, of which so little is needed that cpio itself is not."""

    def __init__(self):
        self.data = bytearray()
        self.number = 0

    def add(self, name, mode, data=b"", device=(0, 0)):
        self.number += 1
        raw = name.encode() + b"\0"
        fields = (self.number, mode, 0, 0, 1, 0, len(data), 0, 0, device[0], device[1], len(raw), 0)
        self.data += b"070701" + b"".join(b"%08X" % f for f in fields) + raw
        self.data += bytes(-len(self.data) % 4) + data
        self.data += bytes(-len(self.data) % 4)

    def end(self):
        self.add("TRAILER!!!", 0)
        return bytes(self.data)


def _initramfs(work, root):
    program = os.path.join(work, "init")
    _run("gcc", "-O1", "-static", "-pthread", "-o", program, os.path.join(LIB, "guest", "init.c"))
    _run("strip", program)
    cpio = _Cpio()
    for folder in ("bin", "dev", "proc", "sys", "tmp", "modules"):
        cpio.add(folder, 0o40755)
    cpio.add("dev/console", 0o20600, device=(5, 1))

    def file(name, path, mode=0o100755):
        with open(path, "rb") as f:
            cpio.add(name, mode, f.read())

    file("init", program)
    file("bin/busybox", next(path for path in (os.path.join(root, "usr", "bin", "busybox"),
                                               os.path.join(root, "bin", "busybox"))
                             if os.path.exists(path)))
    for name in ("sh", "cat", "ls", "dd", "mount", "umount", "md5sum", "dmesg", "free", "ps",
                 "sleep", "echo", "head", "sync", "cmp", "mkdir"):
        cpio.add(f"bin/{name}", 0o120777, b"busybox")
    order = _modules(root)
    names = [os.path.basename(path).removesuffix(".xz") for path in order]
    for name, path in zip(names, order):
        cpio.add("modules/" + name, 0o100644, _module(path))
    cpio.add("modules/order", 0o100644, "".join(name + "\n" for name in names).encode())
    return gzip.compress(cpio.end(), 1)


def make(folder):
    """Makes the kit, once, also if several ask at the same time; (kernel, initramfs)."""
    os.makedirs(folder, exist_ok=True)
    kernel, initrd = os.path.join(folder, "vmlinuz"), os.path.join(folder, "initrd")
    source = os.path.join(LIB, "guest", "init.c")
    with open(os.path.join(folder, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        newest = max(os.path.getmtime(p) for p in (source, os.path.abspath(__file__)))
        if os.path.exists(initrd) and os.path.getmtime(initrd) > newest:
            return kernel, initrd
        packages = os.path.join(folder, "packages")
        if not os.path.isdir(packages):
            with tempfile.TemporaryDirectory(dir=folder) as work:
                _download(work)
                os.rename(os.path.join(work, "root"), packages)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            shutil.copy(glob.glob(os.path.join(packages, "boot", "vmlinuz-*"))[0], kernel)
            with open(os.path.join(work, "initrd"), "wb") as out:
                out.write(_initramfs(work, packages))
            os.rename(os.path.join(work, "initrd"), initrd)
    return kernel, initrd


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        print(*make(sys.argv[1]), sep="\n")
    except KitError as e:
        sys.exit(f"guestkit: {e}")
