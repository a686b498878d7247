#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: sanitize
# The data side of live backups, with a QEMU that the test plays by writing to the files.
"""The order of things that a real QEMU does not let one choose, and what is made of an archive and its base."""

import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from harness import *
from nbdserver import NbdServer
from target import Target, TargetError

C = 65536
N = 40
SIZE = N * C + 1536


def content(seed):
    r = random.Random(seed)
    return b"".join(bytes(C) if i % 4 == 1 else r.randbytes(C) for i in range(N)) + r.randbytes(1536)


TRUTH = content(1)
GARBAGE = b"\xee" * C


class Disk:
    """QEMU's side of one disk."""

    def __init__(self, target, i=0):
        self.cow, self.raw = (os.open(path, os.O_RDWR) for path in target.files[i])

    def put(self, fd, cluster, truth=TRUTH, n=1):
        data = truth[cluster * C:(cluster + n) * C]
        same(os.pwrite(fd, data, cluster * C), len(data), "bytes taken")

    def close(self):
        os.close(self.cow)
        os.close(self.raw)


def extract(archive, *options):
    out = archive + ".out"
    shutil.rmtree(out, ignore_errors=True)
    result = tool("extract", archive, out, *options)
    same(result.returncode, 0, f"status of extract ({result.stderr})")
    return slurp(os.path.join(out, "disk-d0.raw"))


@contextlib.contextmanager
def started(*options, view=True, spec=f"d0:{SIZE}"):
    with folder() as where:
        mount = os.path.join(where, "view")
        os.mkdir(mount)
        out = os.path.join(where, "out.vma")
        target = Target("--output", out, *(["--mount", mount] if view else []), *options, spec)
        try:
            disk = Disk(target)
            yield where, target, disk, os.path.join(mount, "disk-d0.raw")
            disk.close()
            target.end()
            check(not is_mounted(mount), "the view is still mounted")
            check(not os.path.exists(os.path.dirname(target.files[0][0])), "QEMU's folder is left")
        finally:
            target.kill()
            if is_mounted(mount):
                subprocess.run(["umount", "-l", mount], check=False)


libc = ctypes.CDLL(None, use_errno=True)


def fallocate(fd, mode, offset, size):
    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(size)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def test_files():
    with started() as (where, target, disk, view):
        for fd in (disk.cow, disk.raw):
            st = os.fstat(fd)
            same((st.st_size, st.st_mode & 0o7777, st.st_uid), (SIZE, 0o600, os.geteuid()), "stat")
            same(os.pread(fd, 100, 5 * C), bytes(100), "what was not written")
        same(os.pread(disk.cow, 100, SIZE - 3), bytes(3), "a read over the end")
        same(os.stat(os.path.dirname(target.files[0][0])).st_mode & 0o7777, 0o700, "the folder")
        # Other files, sizes and names there are none.
        for action in (lambda: os.ftruncate(disk.raw, 512), lambda: os.unlink(target.files[0][0]),
                       lambda: os.open(os.path.dirname(target.files[0][0]) + "/x", os.O_CREAT)):
            try:
                action()
                raise AssertionError("that should not work")
            except OSError:
                pass
        os.ftruncate(disk.raw, SIZE)
        os.fsync(disk.raw)
        # As files of a VMA mount; only the names of what is there.
        same(sorted(os.listdir(os.path.dirname(view))), ["disk-d0.raw", "qemu-server.conf"], "view")
        st = os.stat(view)
        same((st.st_size, st.st_mode & 0o7777), (SIZE, 0o400), "stat in the view")
        try:
            os.open(view, os.O_RDWR)
            raise AssertionError("the view can be written to")
        except OSError:
            pass
        # Zeros come as ranges, pieces from both sides, and the first wins.
        target.ask("begin")
        fallocate(disk.raw, 0x10, C, 3 * C)
        fallocate(disk.cow, 0x3, 3 * C, 2 * C)
        disk.put(disk.raw, 2)
        os.pwrite(disk.cow, TRUTH[:5000 // 512 * 512], 0)
        os.pwrite(disk.raw, GARBAGE[:4096] + TRUTH[4096:C], 0)
        got = os.pread(disk.cow, C, 0)
        same(got, TRUTH[:C], "a cluster of pieces, read back")
        with open(view, "rb", buffering=0) as f:
            # No read-ahead: what is not there yet would be waited for.
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            same(f.read(C), TRUTH[:C], "the same in the view")
            same(os.pread(f.fileno(), 4 * C, C), bytes(4 * C), "zeros")
            same(os.lseek(f.fileno(), 0, os.SEEK_HOLE), C, "SEEK_HOLE")
            same(os.lseek(f.fileno(), C, os.SEEK_DATA), 5 * C, "SEEK_DATA: what is not known is data")
        check(target.ask("complete").startswith("error disk 'd0': QEMU did not deliver 36 of 41"),
              "it completes")
        same(os.listdir(where), ["view"], "left")


def test_odd_sizes():
    """Requests as the kernel cuts them where the sender's memory has no even address."""
    with started(view=False) as (where, target, disk, _):
        target.ask("begin")
        r = random.Random(4)
        cuts = sorted({0, SIZE, *(r.randrange(SIZE) for _ in range(200))})
        pieces = list(zip(cuts, cuts[1:]))
        r.shuffle(pieces)
        for start, end in pieces:
            os.pwrite(r.choice((disk.cow, disk.raw)), TRUTH[start:end], start)
        same(target.ask("complete"), "", "complete")
        check(extract(os.path.join(where, "out.vma")) == TRUTH, "the disk")


def test_other_user():
    """A QEMU that runs as another user: its files are for it, and for nobody else."""
    def tries(uid, path):
        code = f"import os; os.setgid({uid}); os.setuid({uid}); os.open({path!r}, os.O_RDWR)"
        return subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL,
                              check=False).returncode == 0

    if os.geteuid() != 0:
        return
    for options, allowed in ([], []), (["--owner", 65533], [65533]):
        with started(*options, view=False) as (_, target, _, _):
            for uid in (65533, 65532):
                for path in target.files[0]:
                    same(tries(uid, path), uid in allowed, f"user {uid} with {options}")


def test_scratch_before_a_hung_output():
    """What a guest waits for does not wait for the archive; and comes to it all the same."""
    with folder() as where:
        fifo, done, data = os.path.join(where, "fifo"), threading.Event(), []
        os.mkfifo(fifo)
        keeper = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        # The writer has buffers of its own for some extents.
        half, truth = 640, random.Random(9).randbytes(1280 * C)
        target = Target("--output", fifo, "--scratch", where, "--timeout", 100,
                        f"d0:{len(truth)}")
        disk = Disk(target)
        target.ask("begin")
        copy = threading.Thread(
            target=lambda: [disk.put(disk.raw, i, truth, 16) for i in range(0, half, 16)])
        copy.start()
        for i in range(half, 2 * half, 16):
            disk.put(disk.cow, i, truth, 16)
        check(copy.is_alive(), "the copy does not wait for the archive")
        waiting = target.progress()["scratch"]
        check(waiting > 10 * C, f"{waiting} bytes wait in the scratch file")

        def read():
            os.set_blocking(keeper, True)
            while not done.is_set():
                data.append(os.read(keeper, 1 << 20))
                if not data[-1]:
                    break
        reader = threading.Thread(target=read)
        reader.start()
        copy.join(60)
        same(target.ask("complete"), "", "complete")
        same(target.progress()["scratch"], 0, "bytes left in the scratch file")
        disk.close()
        target.end()
        reader.join(60)
        os.close(keeper)
        with open(where + "/out.vma", "wb") as f:
            f.write(b"".join(data))
        check(extract(where + "/out.vma") == truth, "the archive")


def test_reads_wait():
    """Before begin(), and where nothing can be read through."""
    with started() as (_, target, disk, view):
        reader = subprocess.Popen(["dd", f"if={view}", "bs=64k", "count=1", "skip=2", "iflag=direct",
                                   "status=none"], stdout=subprocess.PIPE)
        killed = subprocess.Popen(["cat", view], stdout=subprocess.DEVNULL)
        time.sleep(0.3)
        same(reader.poll(), None, "a read before begin()")
        killed.send_signal(signal.SIGINT)
        same(killed.wait(20), -signal.SIGINT, "a read is interrupted")
        target.ask("begin")
        time.sleep(0.2)
        same(reader.poll(), None, "a read of what did not come")
        disk.put(disk.raw, 2)
        same(reader.communicate(timeout=20)[0], TRUTH[2 * C:3 * C], "the read goes on")
        # Those who wait at a failure get an error.
        reader = subprocess.Popen(["cat", view], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(0.2)
        same(target.ask("fail by the test"), "", "fail")
        check(b"Input/output error" in reader.communicate(timeout=20)[1], "EIO")
        same(target.failures, [], "the caller is not told of its own failure")


def test_what_was_collected_meanwhile_wins():
    """QEMU's answer is on its way when the guest writes: it may be old or new, the map knows."""
    asked, go = threading.Event(), threading.Event()

    def answer(offset, size):
        if offset == 7 * C:
            asked.set()
            go.wait(30)
            return b"\xbb" * size       # what the guest has written since
        return TRUTH[offset:offset + size]

    with started() as (where, target, disk, view):
        server = NbdServer(os.path.join(where, "nbd"), SIZE, answer)
        target.ask(f"begin {server.uri()}")
        got = []
        reader = threading.Thread(target=lambda: got.append(slurp(view)))
        reader.start()
        check(asked.wait(20), "the view asks QEMU")
        disk.put(disk.cow, 7)
        disk.put(disk.cow, 30)
        go.set()
        reader.join(30)
        check(got and got[0] == TRUTH, "the view has what the guest wrote later")
        check(all(size <= C and offset % C == 0 for offset, size in server.reads),
              "reads are of one cluster each")
        server.end()


def test_read_through_fails():
    """An error of QEMU is an error only for what was not collected; and none is believed after a failure."""
    asked, go = threading.Event(), threading.Event()

    def answer(offset, size):
        if offset == 3 * C:
            return None
        if offset == 9 * C:
            asked.set()
            go.wait(30)
        return TRUTH[offset:offset + size]

    def read(f, cluster):
        try:
            return os.pread(f.fileno(), C, cluster * C) == TRUTH[cluster * C:(cluster + 1) * C]
        except OSError as error:
            return error.errno

    with started() as (where, target, disk, view), open(view, "rb", buffering=0) as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        server = NbdServer(os.path.join(where, "nbd"), SIZE, answer)
        target.ask(f"begin {server.uri()}")
        same((read(f, 2), read(f, 3)), (True, 5), "before")
        disk.put(disk.raw, 3)
        same(read(f, 3), True, "once collected")
        disk.put(disk.raw, 20)
        got = []
        reader = threading.Thread(target=lambda: got.append(read(f, 9)))
        reader.start()
        check(asked.wait(20), "the view asks QEMU")
        target.ask("fail the snapshot is broken")
        go.set()
        reader.join(20)
        same(got, [5], "an answer that comes after the failure")
        same((read(f, 11), read(f, 20)), (5, True), "after a failure")
        server.end()


def test_hung_read_through():
    """QEMU does not answer: the reader can be interrupted, and all of it ended."""
    with started() as (where, target, _, view):
        forever = threading.Event()
        server = NbdServer(os.path.join(where, "nbd"), SIZE, lambda *_: forever.wait(100) and None)
        target.ask(f"begin {server.uri()}")
        readers = [subprocess.Popen(["cat", view], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                   for _ in range(2)]
        wait_for(lambda: server.reads, 20, "QEMU is asked")
        readers[0].send_signal(signal.SIGINT)
        same(readers[0].wait(20), -signal.SIGINT, "it is interrupted")
        same(target.ask("end 0"), "", "end")
        same(target.ask("fail"), "", "fail")
        check(readers[1].wait(20) > 0, "it is an error")
        forever.set()
        server.end()


def full(where, truth, name="base.vma", disk="d0"):
    """A complete backup."""
    out = os.path.join(where, name)
    target = Target("--output", out, f"{disk}:{len(truth)}")
    files = Disk(target)
    target.ask("begin")
    os.pwrite(files.raw, truth, 0)
    files.close()
    same(target.ask("complete"), "", "complete")
    target.end()
    return out


def changed(truth, seed):
    """Another generation: some clusters are different, among them zeros that were none, and vice versa."""
    r = random.Random(seed)
    disk, clusters = bytearray(truth), r.sample(range(N), 6) + [1, 4, N]
    for i in clusters:
        size = len(disk[i * C:(i + 1) * C])
        disk[i * C:i * C + size] = bytes(size) if i == 4 else r.randbytes(size)
    return bytes(disk), sorted(set(clusters))


def backup_of_changes(where, base, truth, clusters, *options, name="next.vma"):
    out = os.path.join(where, name)
    target = Target("--output", out, "--base", base, *options, f"d0:{len(truth)}:changed")
    files = Disk(target)
    target.ask("begin")
    for i in clusters:
        files.put(random.choice((files.raw, files.cow)), i, truth)
    files.close()
    same(target.ask("complete"), "", "complete")
    target.end()
    return out


def test_incremental():
    """Generations, each complete."""
    with folder() as where:
        truth, base = TRUTH, full(where, TRUTH)
        for generation in range(3):
            truth, clusters = changed(truth, generation)
            base = backup_of_changes(where, base, truth, clusters, name=f"g{generation}.vma")
            check(extract(base) == truth, f"generation {generation}")
        same(tool("verify", base).returncode, 0, "verify")


def refused(where, *args):
    try:
        Target("--output", os.path.join(where, "never.vma"), *args).kill()
        raise AssertionError(f"{args} works")
    except TargetError as error:
        check(not os.path.exists(os.path.join(where, "never.vma")), "an archive is left")
        return str(error)


def test_foreign_base():
    with folder() as where:
        base = full(where, TRUTH)
        check("has no disk 'd1'" in refused(where, "--base", base, f"d1:{SIZE}:changed"), "name")
        check(f"has {SIZE} bytes in the base" in refused(where, "--base", base, f"d0:{C}:changed"),
              "size")
        check("base.vmax" in refused(where, "--base", base + "x", f"d0:{SIZE}:changed"), "no base")
        delta = backup_of_changes(where, base, *changed(TRUTH, 1), "--delta", name="delta.vma")
        check("is a delta itself" in refused(where, "--base", delta, f"d0:{SIZE}:changed"), "delta")
        # A base that is damaged where it is needed.
        with open(base, "r+b") as f:
            f.truncate(os.path.getsize(base) - 100000)
        target = Target("--output", os.path.join(where, "never.vma"), "--base", base,
                        f"d0:{SIZE}:changed")
        target.ask("begin")
        check("base.vma" in target.ask("complete"), "an error that names the base")
        target.end()
        check(not os.path.exists(os.path.join(where, "never.vma")), "an archive is left")


def test_delta():
    """Small; whole over its base, and only there."""
    with folder() as where:
        base = full(where, TRUTH)
        truth, clusters = changed(TRUTH, 5)
        delta = backup_of_changes(where, base, truth, clusters, "--delta", name="delta.vma")
        check(os.path.getsize(delta) < len(clusters) * C + 20000, "the delta is not small")
        with mounted(delta, "-o", f"base={base}") as mount:
            check(slurp(os.path.join(mount, "disk-d0.raw")) == truth, "the delta over its base")
            with open(os.path.join(mount, "disk-d0.raw"), "rb") as f:
                same(os.lseek(f.fileno(), 0, os.SEEK_HOLE), 4 * C, "the first hole")
        # The second mount has the saved index.
        with mounted(delta, "-o", f"base={base},wait") as mount:
            check(slurp(os.path.join(mount, "disk-d0.raw")) == truth, "with a saved index")
        whole = os.path.join(where, "whole.vma")
        same(tool("repack", delta, whole, "--base", base).returncode, 0, "repack")
        check(extract(whole) == truth, "the repacked delta")
        check("vma-base.uuid" not in tool("list", whole).stdout, "the whole archive is a delta")

        # Without its base, or over another one, it is nothing.
        other = full(where, TRUTH, "other.vma")
        os.mkdir(where + "/x")
        line = failed(run_program(VMAFS, delta, where + "/x"), delta, offset=False)
        check("-o base=ARCHIVE" in line, line)
        line = failed(run_program(VMAFS, delta, where + "/x", "-o", f"base={other}"), delta, offset=False)
        check("is not its base" in line, line)
        line = failed(run_program(VMAFS, base, where + "/x", "-o", f"base={other}"), base, offset=False)
        check("has no base" in line, line)
        same(run_program(VMAFS, delta, where + "/x", "-o", f"base={base},salvage").returncode, 2,
             "base and salvage")
        line = failed(tool("repack", delta, where + "/no.vma"), delta, offset=False)
        check("--base" in line, line)
        check(not os.path.exists(where + "/no.vma"), "repack leaves something")

        # A delta that was cut off does not read what it lost from the base.
        with open(delta, "r+b") as f:
            f.truncate(os.path.getsize(delta) - C)
        result = run_program(VMAFS, delta, where + "/x", "-o", f"base={base},wait")
        failed(result, delta)
        line = failed(tool("repack", delta, where + "/no.vma", "--base", base), delta)


def test_vmstate():
    state = random.Random(3).randbytes(5 * C + 1234)
    with started("--vmstate", view=False) as (where, target, disk, _):
        with open(os.path.join(where, "state"), "wb") as f:
            f.write(state)
        target.ask("begin")
        os.pwrite(disk.raw, TRUTH, 0)
        same(target.ask(f"vmstate {where}/state"), "", "vmstate")
        same(target.ask("complete"), "", "complete")
        check(extract(os.path.join(where, "out.vma")) == TRUTH, "the disk")
        got = slurp(os.path.join(where, "out.vma.out", "vmstate.bin"))
        same(got[:len(state)], state, "the state")
        same(got[len(state):].strip(b"\0"), b"", "behind it")


def test_refusals():
    """What is not possible is said before anything is mounted."""
    with folder() as where:
        mount = os.path.join(where, "m")
        os.mkdir(mount)
        check("needs a scratch file" in refused(where, "--compress", "zstd", "--mount", mount, "d0:65536"),
              "a view of a compressed archive")
        os.mkdir(where + "/file.vma")
        try:
            Target("--output", where + "/file.vma", "d0:65536").kill()
            raise AssertionError("an archive over a folder")
        except TargetError as error:
            check("file.vma" in str(error), error)
        try:
            Target("d0:65536").kill()
            raise AssertionError("neither archive nor scratch file")
        except TargetError as error:
            check("needs a scratch file" in str(error), error)


def test_view_alone():
    """No archive: a frozen disk, until it is unmounted."""
    with folder() as where:
        mount = os.path.join(where, "m")
        os.mkdir(mount)
        server = NbdServer(os.path.join(where, "nbd"), SIZE, lambda at, size: TRUTH[at:at + size])
        target = Target("--scratch", where, "--mount", mount, f"d0:{SIZE}")
        disk = Disk(target)
        target.ask(f"begin {server.uri()}")
        disk.put(disk.cow, 3)
        check(slurp(os.path.join(mount, "disk-d0.raw")) == TRUTH, "the view")
        disk.close()
        target.end()
        server.end()
        same(sorted(os.listdir(where)), ["m"], "left")


run(globals())
