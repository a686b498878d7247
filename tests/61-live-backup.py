#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=400
"""
vmabackup of a running guest that overwrites its disks all the time: every archive, and every read
of the live view, is of one point in time, bit by bit.
"""

import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from harness import *
from guest import Disk, Guest
from live import (VMABACKUP, Backup, Graph, Readers, check_archive, disks_of, extracted,
                  no_leftovers, vmabackup)

SIZE = 48 << 20
guest = None            # one for all: a boot takes seconds
graph = None


def out(name):
    return os.path.join(TMP, name)


def goes_on():
    """After each backup: the guest writes, has seen no error, and QEMU is as it was."""
    guest.wait_steps(5)
    graph.unchanged()
    no_leftovers()
    status = guest.command("status")
    same(status["errors"], "0", f"errors in the guest ({status['text']})")


def test_full_with_live_view():
    guest.wait_steps(100)
    before = guest.steps()
    with Backup(guest, out("full.vma"), "--speed", 16 << 20, mount=True) as backup:
        backup.wait_started()
        view = disks_of(backup.mountpoint)
        same(len(view), 2, "disks in the live view")
        readers = Readers(view)
        # The whole of it, while most has not been copied yet; and again later.
        first = guest.fresh_check(view)
        check(all(a >= b for a, b in zip(first, before)), f"{first}: before the start, {before}")
        guest.wait_steps(30)
        check(backup.process.poll() is None, "the backup was too quick for this test")
        same(guest.fresh_check(view), first, "the point in time, a second time")
        result = subprocess.run(["qemu-img", "convert", "-O", "raw", view[1], out("converted.raw")],
                                check=False, capture_output=True, text=True)
        same(result.returncode, 0, f"qemu-img convert from the live view ({result.stderr})")
        readers.end()
        for f in view:
            try:
                with open(f, "r+b"):
                    pass
            except OSError:
                continue
            raise AssertionError(f"{f} can be opened for writing")
        backup.succeed()
    with extracted(out("full.vma")) as disks:
        same(guest.fresh_check(disks), first, "the archive's point in time")
        reads = readers.compare(disks)
        print(f"  {reads} random reads of the live view")
        check(reads > 50, f"only {reads} reads")
        same_bytes(disks[1], out("converted.raw"))
    os.unlink(out("converted.raw"))
    goes_on()


def same_bytes(a, b):
    same(subprocess.run(["cmp", a, b], check=False).returncode, 0, f"cmp {a} {b}")


def test_compressed():
    for kind in ("zstd", "lz4"):
        path = out(f"c.vma.{'zst' if kind == 'zstd' else kind}")
        with Backup(guest, path, "--compress", kind) as backup:
            backup.succeed()
        check(os.path.getsize(path) < SIZE, f"{path} is not compressed")
        check_archive(guest, path)
        goes_on()


def test_to_a_pipe():
    with open(out("piped.vma"), "wb") as f:
        process = subprocess.run([VMABACKUP, "run", "--qmp", guest.socket, "-"], stdout=f,
                                 stderr=subprocess.PIPE, text=True, check=False, timeout=100)
    same(process.returncode, 0, f"backup to standard output ({process.stderr})")
    check_archive(guest, out("piped.vma"))
    goes_on()
    with Backup(guest, f"exec:cat >{out('exec.vma')}") as backup:
        backup.succeed()
    check_archive(guest, out("exec.vma"))
    goes_on()
    # A command that fails is a backup that failed.
    with Backup(guest, "exec:head -c 100000 >/dev/null; exit 3") as backup:
        backup.fail("exec")
    goes_on()


def test_pipe_with_live_view():
    with Backup(guest, f"exec:cat >{out('exec2.vma')}", "--scratch", out("scratch"), "--speed",
                16 << 20, mount=True) as backup:
        backup.wait_started()
        view = disks_of(backup.mountpoint)
        readers = Readers(view)
        guest.wait_steps(30)
        first = guest.fresh_check(view)
        readers.end()
        backup.succeed()
    with extracted(out("exec2.vma")) as disks:
        same(guest.fresh_check(disks), first, "the archive's point in time")
        readers.compare(disks)
    check(not os.path.exists(out("scratch")), "the scratch file is left")
    goes_on()


def test_scratch_and_slow_target():
    # A slow target must not slow the guest: what its writes push out goes to the scratch file.
    guest.wait_steps(200)
    guest.command("status")
    rate = 8 << 20
    sink = os.path.join(TESTS, "lib", "slow-sink.py")
    start = time.monotonic()
    with Backup(guest, f"exec:{sink} {rate} {out('slow.vma')}", "--scratch", out("scratch"),
                "--speed", 16 << 20) as backup:
        backup.wait_started()
        guest.wait_steps(50)
        backup.succeed()
    took = time.monotonic() - start
    size = os.path.getsize(out("slow.vma"))
    check(took >= size / rate * 0.8, f"the target was not slow: {size} bytes in {took} s")
    longest = int(guest.command("status")["longest_us"])
    print(f"  {took:.1f} s; the guest's longest write {longest / 1000:.0f} ms")
    check(longest < 5000000, f"a write of the guest took {longest} us")
    check_archive(guest, out("slow.vma"))
    goes_on()


def test_fleecing():
    with Backup(guest, None, "--sync", "none", "--scratch", out("scratch"), mount=True) as backup:
        backup.wait_started()
        view = disks_of(backup.mountpoint)
        readers = Readers(view)
        first = guest.fresh_check(view)
        guest.wait_steps(100)
        same(guest.fresh_check(view), first, "the view's point in time")
        readers.end()
        copies = [shutil.copyfile(v, out(f"fleece{i}")) for i, v in enumerate(view)]
        readers.compare(copies)
        same(guest.fresh_check(copies), first, "the copy's point in time")
        # It lasts until it is unmounted.
        check(backup.process.poll() is None, "it ended by itself")
        subprocess.run(["umount", backup.mountpoint], check=True)
        backup.succeed()
    check(not os.path.exists(out("scratch")), "the scratch file is left")
    for copy in copies:
        os.unlink(copy)
    goes_on()


def test_incremental():
    generations = 5
    base = out("g0.vma")
    with Backup(guest, base, "--bitmap", "daily") as backup:
        backup.succeed()
    steps = check_archive(guest, base)
    for n in range(1, generations + 1):
        guest.wait_steps(20)
        path = out(f"g{n}.vma")
        with Backup(guest, path, "--incremental", base, "--bitmap", "daily") as backup:
            backup.succeed()
            check("full" not in backup.message, f"generation {n} was a full one: {backup.message}")
        later = check_archive(guest, path)
        check(all(a > b for a, b in zip(later, steps)), f"generation {n}: {later} after {steps}")
        graph_without_bitmaps()
        # The first one stays for the next test.
        if n > 1:
            os.unlink(base)
        base, steps = path, later
    # A base that the bitmap is not of: a full backup, and a word about it.
    with Backup(guest, out("foreign.vma"), "--incremental", out("g0.vma"), "--bitmap",
                "daily") as backup:
        backup.succeed()
        check("full" in backup.message, f"nobody was told: {backup.message!r}")
    check_archive(guest, out("foreign.vma"))
    goes_on()


def graph_without_bitmaps():
    """No more bitmaps than one a disk."""
    for node in guest.qmp.execute("query-named-block-nodes"):
        bitmaps = node.get("dirty-bitmaps", [])
        check(len(bitmaps) <= 1, f"bitmaps of {node['node-name']}: {bitmaps}")


def test_delta():
    with Backup(guest, out("d0.vma"), "--bitmap", "delta") as backup:
        backup.succeed()
    guest.wait_steps(5)
    with Backup(guest, out("d1.vma"), "--incremental", out("d0.vma"), "--bitmap", "delta",
                "--delta") as backup:
        backup.succeed()
    with mounted(out("d1.vma"), "-o", f"base={out('d0.vma')}") as mnt:
        steps = guest.fresh_check(disks_of(mnt))
    result = tool("repack", "--base", out("d0.vma"), out("d1.vma"), out("whole.vma"))
    same(result.returncode, 0, f"repack --base ({result.stderr})")
    same(check_archive(guest, out("whole.vma")), steps, "steps of the repacked archive")
    goes_on()


def test_configs():
    with open(out("qemu-server.conf"), "w") as f:
        f.write("name: test\n")
    with Backup(guest, out("conf.vma"), "-c", out("qemu-server.conf")) as backup:
        backup.succeed()
    result = tool("config", out("conf.vma"))
    check("name: test" in result.stdout, f"config: {result.stdout} {result.stderr}")
    goes_on()


def test_cancel_and_again():
    with Backup(guest, out("cancelled.vma"), "--speed", 1 << 20) as backup:
        backup.wait_started()
        guest.wait_steps(5)
        result = vmabackup("cancel", backup.id)
        same(result.returncode, 0, f"cancel ({result.stderr})")
        backup.fail("cancel")
    goes_on()
    with Backup(guest, out("again.vma")) as backup:
        backup.succeed()
    check_archive(guest, out("again.vma"))
    goes_on()


def main():
    global guest, graph
    with Guest([Disk(SIZE), Disk(SIZE, bus="scsi", style="drive")]) as guest:
        guest.command("go 200")
        graph = Graph(guest.qmp)
        try:
            run(globals())
        finally:
            guest.pause_and_check()


main()
