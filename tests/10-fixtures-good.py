#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: asan
"""
Every sound reference archive: mount, extract, qemu-img and the independent reader give the same
bytes, which are those of DISKS.sha256 where it knows them.
"""

import hashlib
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *

GOOD = """00_good 01_out_of_order 03_gap_slots 05_reserved_blockinfo_byte 07_hs_not_512
    11_nodev_noextent 14_dev_id_254 17_one_cluster_per_extent 21_size_512 24_size_65536p512
    26_size_1000 28_size_65536p100 80_vmstate_ok 81_vmstate_zero_blocks 86_vmstate_only""".split()
SIZES = {"26_size_1000": 1000, "28_size_65536p100": 65636, "21_size_512": 512,
         "80_vmstate_ok": 196608, "81_vmstate_zero_blocks": 196608, "86_vmstate_only": 65536}


def truth(path):
    reader = vmaread.load(path)
    files = {name: reader.disk(dev) for name, dev in reader.files().items()}
    files.update(reader.header.configs)
    return files


def compare(folder, files, what):
    same(sorted(os.listdir(folder)), sorted(files), f"the files of {what}")
    for name, content in files.items():
        path = os.path.join(folder, name)
        same(os.path.getsize(path), len(content), f"the size of {name} in {what}")
        check(slurp(path) == content, f"{name} in {what} has wrong bytes")


def qemu_convert(folder, files):
    for name, content in files.items():
        if name.endswith((".raw", ".bin")):
            out = os.path.join(TMP, "converted")
            result = run_program("qemu-img", "convert", "-f", "raw", "-O", "raw",
                                 os.path.join(folder, name), out)
            same(result.returncode, 0, f"qemu-img convert of {name}: {result.stderr}")
            # qemu-img knows whole sectors only.
            wanted = content + bytes(-len(content) % 512)
            check(slurp(out) == wanted, f"{name} converted by qemu-img has wrong bytes")


def whole(path):
    files = truth(path)
    for command in ("list", "verify"):
        result = tool(command, path)
        same((result.returncode, result.stderr), (0, ""), f"{command} {path}")
    with folder() as parent:
        out = os.path.join(parent, "out")
        result = tool("extract", path, out)
        same((result.returncode, result.stderr), (0, ""), f"extract {path}")
        compare(out, files, "extract of " + path)
    with mounted(path) as mnt:
        compare(mnt, files, "mount of " + path)
        if shutil.which("qemu-img"):
            qemu_convert(mnt, files)
    return files


def test_edge():
    for name in GOOD:
        files = whole(edge(name))
        if name in SIZES:
            sizes = [len(c) for n, c in files.items() if n.endswith((".raw", ".bin"))]
            check(SIZES[name] in sizes, f"{name}: no disk of {SIZES[name]} bytes: {sizes}")


def test_from_the_reference_tool():
    sums = {}
    for line in slurp(os.path.join(FIXTURES, "DISKS.sha256")).decode().splitlines():
        sum_, archive, name, size = re.match(r"(\w+)  ([\w-]+): (\S+) \((\d+) bytes\)", line).groups()
        sums.setdefault(archive, []).append((name, sum_, int(size)))
    same(sorted(sums), ["multi-disk", "tiny"], "the archives of DISKS.sha256")
    for archive, disks in sums.items():
        files = whole(os.path.join(FIXTURES, archive + ".vma"))
        for name, sum_, size in disks:
            same(len(files[name]), size, name)
            same(hashlib.sha256(files[name]).hexdigest(), sum_, name)


run(globals())
