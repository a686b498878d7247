#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=200
# The data side of live backups under a real qemu-storage-daemon, whose disks are written to all the time.
"""What is in the archive, and in the view, is the point in time, bit by bit; and failures end well."""

import contextlib
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
from qmp import Qmp, QmpError
from target import Target

for program in ("qemu-storage-daemon", "qemu-io"):
    if shutil.which(program) is None:
        skip(f"{program} is not installed")


class Storage:
    """qemu-storage-daemon with some disks, all of them exported as d0, d1, ..."""

    def __init__(self, folder, disks):
        self.folder, self.n = folder, len(disks)
        self.nbd = os.path.join(folder, "nbd")
        control = os.path.join(folder, "qmp")
        args = ["qemu-storage-daemon", "--chardev", f"socket,path={control},server=on,wait=off,id=m",
                "--monitor", "chardev=m",
                "--nbd-server", f"addr.type=unix,addr.path={self.nbd},max-connections=100"]
        for i, path in enumerate(disks):
            args += ["--blockdev", f"driver=file,node-name=f{i},filename={path},discard=unmap",
                     "--blockdev", f"driver=raw,node-name=d{i},file=f{i},discard=unmap",
                     "--export", f"type=nbd,id=x{i},node-name=d{i},name=d{i},writable=on"]
        self.process = subprocess.Popen(args)
        self.qmp = Qmp(control)
        self.added = []

    def uri(self, name):
        return f"nbd+unix:///{name}?socket={self.nbd}"

    def reopen(self, i, below):
        self.qmp.execute("blockdev-reopen", {"options": [
            {"driver": "raw", "node-name": f"d{i}", "file": below, "discard": "unmap"}]})

    def insert(self, files, timeout=30):
        """The filters of LIVE-BACKUP, and an export n0, n1, ... of each frozen disk."""
        for i, (cow, raw) in enumerate(files):
            add = lambda **options: (self.qmp.execute("blockdev-add", options),
                                     self.added.append(options["node-name"]))
            add(driver="file", filename=cow, **{"node-name": f"tc{i}"})
            add(driver="copy-before-write", file=f"f{i}", target=f"tc{i}",
                **{"node-name": f"c{i}", "on-cbw-error": "break-snapshot", "cbw-timeout": timeout,
                   })
            self.reopen(i, f"c{i}")
            add(driver="snapshot-access", file=f"c{i}", **{"node-name": f"n{i}"})
            add(driver="file", filename=raw, **{"node-name": f"bg{i}"})
            self.qmp.execute("block-export-add", {"type": "nbd", "id": f"y{i}", "node-name": f"n{i}",
                                                  "name": f"n{i}"})

    def backup(self, i, speed=0):
        # QEMU's threads, 64 in all, serve the guest too: a target that hangs must not have all of them.
        self.qmp.execute("blockdev-backup", {"job-id": f"b{i}", "device": f"n{i}",
                                             "target": f"bg{i}", "sync": "full", "speed": speed,
                                             "x-perf": {"max-workers": 8}})

    def wait_backup(self, i, seconds=120):
        """None, or the error."""
        event = self.qmp.wait("BLOCK_JOB_COMPLETED", seconds=seconds,
                              where=lambda d: d.get("device") == f"b{i}")
        return event["data"].get("error")

    def remove(self):
        for i in range(self.n):
            for attempt in range(100):
                try:
                    self.qmp.execute("block-export-del", {"id": f"y{i}", "mode": "hard"})
                    self.qmp.wait("BLOCK_EXPORT_DELETED", where=lambda d: d["id"] == f"y{i}")
                    break
                except QmpError:
                    break
        for name in [n for n in reversed(self.added) if n.startswith("n")]:
            self.qmp.execute("blockdev-del", {"node-name": name})
            self.added.remove(name)
        for i in range(self.n):
            self.reopen(i, f"f{i}")
        for name in [n for n in self.added if n.startswith("c")] + self.added:
            if name in self.added:
                self.qmp.execute("blockdev-del", {"node-name": name})
                self.added.remove(name)

    def end(self):
        self.process.kill()
        self.process.wait()


class Writer(threading.Thread):
    """Writes to d0, d1, ... all the time, like a guest."""

    def __init__(self, storage, size, seed=1):
        super().__init__(daemon=True)
        self.random = random.Random(seed)
        self.stop, self.failed, self.count = threading.Event(), None, 0
        self.storage, self.size = storage, size
        self.shells = [subprocess.Popen(["qemu-io", "-f", "raw", storage.uri(f"d{i}")],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, bufsize=1)
                       for i in range(storage.n)]
        self.slowest = 0.0
        self.paused = threading.Lock()
        self.start()

    def one(self, shell):
        kind = self.random.random()
        size = self.random.choice((512, 4096, 4096, 12288, 65536, 200 * 1024))
        at = self.random.randrange(self.size - size) // 512 * 512
        if kind < 0.8:
            command = f"write -P {self.random.randrange(1, 256)} {at} {size}"
        elif kind < 0.9:
            command = f"write -z {at} {size}"
        else:
            command = f"discard {at} {size}"
        start = time.monotonic()
        shell.stdin.write(command + "\n")
        shell.stdin.flush()
        text = ""
        while "ops; " not in text and "failed" not in text and "error" not in text.lower():
            line = shell.stdout.readline()
            if not line:
                text += "qemu-io ended: error"
                break
            text += line
        self.slowest = max(self.slowest, time.monotonic() - start)
        if "failed" in text or "error" in text.lower():
            self.failed = f"{command}: {text}"
        self.count += 1

    def run(self):
        while not self.stop.is_set() and self.failed is None:
            with self.paused:
                for shell in self.shells:
                    self.one(shell)
            time.sleep(0.001)

    def finish(self):
        self.stop.set()
        self.join(120)
        for shell in self.shells:
            shell.kill()
            shell.wait()
            shell.stdin.close()
            shell.stdout.close()
        check(self.failed is None, f"a guest's write failed: {self.failed}")


def make_disk(path, size, seed):
    """A disk with data, zeros that are stored, and holes; its content."""
    r = random.Random(seed)
    content = bytearray()
    while len(content) < size:
        n = min(r.choice((1, 1, 2, 5, 16)) * r.choice((4096, 65536)), size - len(content))
        content += r.randbytes(n) if r.random() < 0.6 else bytes(n)
    with open(path, "wb") as f:
        f.truncate(size)
        for at in range(0, size, 4096):
            block = content[at:at + 4096]
            if any(block) or r.random() < 0.2:
                f.seek(at)
                f.write(block)
    return bytes(content)


@contextlib.contextmanager
def setting(sizes):
    """Disks, their contents, a storage daemon, and the folder of all."""
    with folder() as where:
        truth = [make_disk(os.path.join(where, f"disk{i}"), size, i) for i, size in enumerate(sizes)]
        storage = Storage(where, [os.path.join(where, f"disk{i}") for i in range(len(sizes))])
        try:
            yield where, truth, storage
        finally:
            storage.end()


def check_archive(path, truth):
    out = path + ".out"
    same(tool("extract", path, out).returncode, 0, "status of extract")
    for i, wanted in enumerate(truth):
        check(slurp(os.path.join(out, f"disk-drive-scsi{i}.raw")) == wanted,
              f"disk {i} of the archive is not the point in time")
    same(slurp(os.path.join(out, "qemu-server.conf")), b"cores: 1\n", "the config")


def freeze(storage, target, writer, timeout=30):
    """Puts the filters in while the guest pauses; the disks as they are then."""
    with writer.paused:
        storage.insert(target.files, timeout)
        return [slurp(os.path.join(storage.folder, f"disk{i}")) for i in range(storage.n)]


class Reader(threading.Thread):
    """Reads a disk of the view at random, and compares."""

    def __init__(self, path, truth, seed):
        super().__init__(daemon=True)
        self.path, self.truth, self.random = path, truth, random.Random(seed)
        self.stop, self.wrong, self.count = threading.Event(), None, 0
        self.start()

    def run(self):
        fd = os.open(self.path, os.O_RDONLY)
        try:
            while not self.stop.is_set() and self.wrong is None:
                size = self.random.choice((512, 4096, 65536, 300000))
                at = self.random.randrange(len(self.truth) - 1)
                # Not from the page cache: it is the view that is to be read.
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                got = os.pread(fd, size, at)
                if got != self.truth[at:at + size]:
                    self.wrong = f"{len(got)} bytes at {at} of {self.path}"
                self.count += 1
        except OSError as error:
            self.wrong = f"{self.path}: {error}"
        finally:
            os.close(fd)

    def finish(self):
        self.stop.set()
        self.join(60)
        check(not self.is_alive(), "a reader hangs")
        check(self.wrong is None, f"the view is wrong: {self.wrong}")
        return self.count


def copy(storage, target, speed):
    for i in range(storage.n):
        storage.backup(i, speed=speed)
    for i in range(storage.n):
        same(storage.wait_backup(i), None, f"error of the background copy of disk {i}")


def whole_backup(*options, speed=15 << 20, sizes=(24 * 1024 * 1024 + 512 * 3, 16 * 1024 * 1024),
                 view=True, output="out.vma"):
    """A backup under writes, with readers on the view; everything compared."""
    with setting(sizes) as (where, truth, storage):
        out, mount = os.path.join(where, output), os.path.join(where, "view")
        os.mkdir(mount)
        more = ["--mount", mount] if view else []
        target = Target("--output", out, *more, *options,
                        *[f"drive-scsi{i}:{s}" for i, s in enumerate(sizes)])
        writer = Writer(storage, min(sizes) - 1024)
        wait_for(lambda: writer.count > 20, 30, "the guest writes")
        truth = freeze(storage, target, writer)
        target.ask("begin " + " ".join(storage.uri(f"n{i}") for i in range(len(sizes))))
        readers = []
        if view:
            same(slurp(os.path.join(mount, "qemu-server.conf")), b"cores: 1\n", "a config in the view")
            readers = [Reader(os.path.join(mount, f"disk-drive-scsi{i}.raw"), truth[i], seed)
                       for i in range(len(sizes)) for seed in range(2)]
            wait_for(lambda: all(r.count > 3 or r.wrong for r in readers), 30, "the view is read")
        copy(storage, target, speed)
        for i in range(len(sizes)):
            target.ask(f"end {i}")
        check(not os.path.exists(out), "the archive has its name before it is complete")
        same(target.ask("complete"), "", "complete")
        storage.remove()
        writer.finish()
        if view:
            reads = sum(r.finish() for r in readers)
            for i in range(len(sizes)):
                check(slurp(os.path.join(mount, f"disk-drive-scsi{i}.raw")) == truth[i],
                      "the view after the end")
            progress = target.progress()["disks"]
            check(all(d["read_through"] > 0 for d in progress), f"nothing read through: {progress}")
            check(all(d["cow_bytes"] > 0 for d in progress), f"no hook writes: {progress}")
            print(f"    {writer.count} writes, {reads} reads, {progress[0]}")
        target.end()
        same(target.failures, [], "failures")
        check(not is_mounted(mount), "the view is still mounted")
        check(writer.count > 50, f"only {writer.count} writes during the backup")
        check_archive(out, truth)
        with open(out, "rb") as f:
            return f.read(4)


def test_backup_with_view():
    whole_backup()


def test_compressed_without_view():
    same(whole_backup("--compress", "zstd", view=False), b"\x28\xb5\x2f\xfd", "the first bytes")


def test_compressed_with_view_and_scratch():
    with folder() as scratch:
        whole_backup("--compress", "zstd", "--scratch", scratch)
        same(os.listdir(scratch), [], "left in the scratch folder")


def test_scratch():
    with folder() as scratch:
        whole_backup("--scratch", scratch, "--scratch-size", 4 << 20)


@contextlib.contextmanager
def failing_backup(*options, output="out.vma", timeout=30, size=24 * 1024 * 1024,
                   resume=lambda: None, **more):
    """A backup up to its background copy; checks that the guest and QEMU come out of it well."""
    with setting([size]) as (where, _, storage):
        target = Target("--output", os.path.join(where, output), *options, f"drive-scsi0:{size}",
                        **more)
        writer = Writer(storage, size)
        truth = freeze(storage, target, writer, timeout)
        target.ask("begin " + storage.uri("n0"))
        try:
            yield where, truth[0], storage, target, writer
            # The guest goes on writing, and QEMU can be cleaned.
            count = writer.count
            wait_for(lambda: writer.count > count + 20 or writer.failed, 30, "the guest goes on")
            storage.remove()
            writer.finish()
            resume()
            if target.process.poll() is None:
                target.end()
                check(not is_mounted(os.path.dirname(target.files[0][0])), "QEMU's mount is left")
        finally:
            resume()
            target.kill()


@contextlib.contextmanager
def small_file_system(size):
    with folder() as where:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", where], check=True)
        try:
            yield where
        finally:
            subprocess.run(["umount", "-l", where], check=True)


def test_output_full():
    with small_file_system("6M") as small:
        mount = os.path.join(small, "view")
        os.mkdir(mount)
        with failing_backup("--mount", mount, output=os.path.join(small, "out.vma")) as (
                _, truth, storage, target, writer):
            view = os.path.join(mount, "disk-drive-scsi0.raw")
            wait_for(lambda: target.progress()["disks"][0]["cow_bytes"] > 0, 30, "hook writes")
            storage.backup(0)
            check("No space left" in target.wait_failure(), f"failures: {target.failures}")
            storage.wait_backup(0)      # may fail: what was dropped cannot be read back
            # Behind the failure: the truth where it was collected, an error elsewhere.
            good = bad = 0
            with open(view, "rb", buffering=0) as f:
                for at in range(0, len(truth), 65536):
                    try:
                        check(os.pread(f.fileno(), 65536, at) == truth[at:at + 65536],
                              f"wrong data at {at} after a failure")
                        good += 1
                    except OSError:
                        bad += 1
            check(good > 20 and bad > 20, f"{good} clusters can be read, {bad} not")
            check(target.ask("complete").startswith("error "), "it completes")
            same(os.listdir(small), ["view"], "left where the archive was to be")
            same(len(target.failures), 1, "number of failures")
            check(writer.slowest < 15, f"a guest's write took {writer.slowest} s")


def hung(options, more, stop=lambda: None, resume=lambda: None):
    """stop() makes the output hang."""
    with failing_backup(*options, "--timeout", 2, resume=resume, **more) as (
            _, _, storage, target, writer):
        stop()
        storage.backup(0)
        check("hangs" in target.wait_failure(), f"failures: {target.failures}")
        storage.wait_backup(0)      # may fail: what was dropped cannot be read back
        check(target.ask("complete").startswith("error "), "it completes")
        # Two seconds, and a margin for slow machines; QEMU's own limit would be 30.
        check(writer.slowest < 20, f"a guest's write took {writer.slowest} s")


def test_output_hung_pipe():
    with folder() as where:
        fifo = os.path.join(where, "fifo")
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)     # that never reads
        hung([], {"output": fifo})
        os.close(reader)


def test_output_hung_file_system():
    """A file whose file system hangs: threads of ours are stuck for good, and cannot be freed."""
    medium = Target("--output", "/dev/null", "x:1000000000")
    fd = os.open(medium.files[0][1], os.O_WRONLY)
    try:
        hung(["--output", f"fd:{fd}"], {"pass_fds": [fd], "output": "unused"},
             lambda: medium.process.send_signal(signal.SIGSTOP),
             lambda: medium.process.send_signal(signal.SIGCONT))
    finally:
        medium.process.send_signal(signal.SIGCONT)
        os.close(fd)
        medium.end()


def test_killed():
    with failing_backup(timeout=5) as (_, _, storage, target, writer):
        storage.backup(0, speed=4 << 20)
        wait_for(lambda: target.progress()["disks"][0]["transferred"] > 0, 30, "it copies")
        target.kill()
        check(storage.wait_backup(0) is not None, "the copy into a mount that is gone succeeds")


def test_stopped():
    with failing_backup(timeout=2) as (where, _, storage, target, writer):
        storage.backup(0, speed=4 << 20)
        wait_for(lambda: target.progress()["disks"][0]["transferred"] > 0, 30, "it copies")
        target.process.send_signal(signal.SIGSTOP)
        # Longer than a hook write may take.  Guest writes may wait here, for QEMU's own reasons, until somebody
        # (the guard of vmabackup) ends the process.  They must not fail.
        time.sleep(4)
        check(writer.failed is None, f"a guest's write failed: {writer.failed}")
        target.kill()
        check(storage.wait_backup(0) is not None, "the copy into a mount that is gone succeeds")
        same([f for f in os.listdir(where) if f.endswith("out.vma")], [], "left")


run(globals())
