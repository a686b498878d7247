#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: asan
"""Names that would escape or clash: seen escaped, never a path, and nobody loses a file."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *


def extract_refuses(path):
    with folder() as parent:
        target = os.path.join(parent, "deep", "out")
        os.mkdir(os.path.dirname(target))
        failed(tool("extract", path, target), path, offset=False)
        found = [os.path.join(base, name) for base, dirs, files in os.walk(parent)
                 for name in dirs + files]
        same(found, [os.path.dirname(target)], "what a refused extract created")


def test_config_traversal():
    path = edge("77_cfg_traversal")
    result = tool("list", path)
    same(result.returncode, 0, result.stderr)
    check("name: ..%2Fevil.conf" in result.stdout, result.stdout)
    check("../evil" not in result.stdout, result.stdout)
    extract_refuses(path)
    with mounted(path) as mnt:
        same(sorted(os.listdir(mnt)), ["..%2Fevil.conf", "disk-drive-scsi0.raw"], "the mount")
        same(slurp(os.path.join(mnt, "..%2Fevil.conf")), vmaread.load(path).header.configs[0][1],
             "the config's content")


def test_device_traversal():
    path = edge("7b_dev_traversal")
    result = tool("list", path)
    same(result.returncode, 0, result.stderr)
    check("devname: x%2F..%2F..%2Fevil" in result.stdout, result.stdout)
    extract_refuses(path)
    reader = vmaread.load(path)
    with mounted(path) as mnt:
        same(sorted(os.listdir(mnt)), ["disk-x%2F..%2F..%2Fevil.raw", "qemu-server.conf"],
             "the mount")
        check(slurp(os.path.join(mnt, "disk-x%2F..%2F..%2Fevil.raw")) == reader.disk(1), "content")


def test_duplicate_device():
    path = edge("7c_dup_devname")
    reader = vmaread.load(path)
    names = {"disk-drive-scsi0.raw": reader.disk(1), "disk-drive-scsi0~2.raw": reader.disk(2),
             "qemu-server.conf": reader.header.configs[0][1]}
    with mounted(path) as mnt:
        same(sorted(os.listdir(mnt)), sorted(names), "the mount")
        for name, content in names.items():
            check(slurp(os.path.join(mnt, name)) == content, f"{name} in the mount")
    with folder() as parent:
        out = os.path.join(parent, "out")
        result = tool("extract", path, out)
        same(result.returncode, 0, result.stderr)
        same(sorted(os.listdir(out)), sorted(names), "the extracted files")
        for name, content in names.items():
            check(slurp(os.path.join(out, name)) == content, f"{name} extracted")


def test_hostile_names():
    """Everything a hostile header can call its configs, in one archive."""
    names = ["..", ".", "a/b", "tab\there", "new\nline", ".vmafs", "x" * 300, "%2F", "\u00e4",
             "same", "disk-drive-scsi0.raw", "vmstate.bin", "-rf", "\x1b[31m"]
    disk = vmagen.Disk(1, "drive-scsi0", b"\1" * 5000)
    archive = vmagen.Archive(1, [disk], [(i, (n, b"%d" % i)) for i, n in enumerate(names)]
                             + [(200, ("same", b"200"))])
    path = os.path.join(TMP, "hostile.vma")
    archive.write(path)

    result = tool("list", path)
    same(result.returncode, 0, result.stderr)
    check("\x1b" not in result.stdout, "a control character reaches the terminal")
    same(len(result.stdout.splitlines()), len(names) + 1 + 2, "lines of list")
    with mounted(path) as mnt:
        found = os.listdir(mnt)
        same(len(found), len(names) + 2, f"files in the mount: {found}")
        same(slurp(os.path.join(mnt, "disk-drive-scsi0.raw")), disk.data, "the disk")
        contents = sorted(slurp(os.path.join(mnt, n)) for n in found
                          if n != "disk-drive-scsi0.raw")
        same(contents, sorted([b"%d" % i for i in range(len(names))] + [b"200"]), "configs")
        check(os.path.isdir(os.path.join(mnt, ".vmafs")), "the control folder was shadowed")


run(globals())
