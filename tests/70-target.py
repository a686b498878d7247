#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# The data side of live backups under a real qemu-storage-daemon, whose disks are written to all the time.
"""What is in the archive, and in the view, is the point in time, bit by bit; and failures end well."""

import contextlib
import json
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

CLUSTER = 65536
DRIVER = os.path.join(BUILDDIR, "tests", "unit", "target-driver")
for program in ("qemu-storage-daemon", "qemu-io"):
    if shutil.which(program) is None:
        skip(f"{program} is not installed")
if not os.access("/dev/fuse", os.W_OK):
    skip("no /dev/fuse")
if not os.path.exists(DRIVER):
    skip("built without libnbd")


class Target:
    """target-driver."""

    def __init__(self, *args):
        self.process = subprocess.Popen([DRIVER, *map(str, args)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.files, self.failures = [], []
        while True:
            line = self.process.stdout.readline().strip()
            if line.startswith("files "):
                self.files.append(line.split()[1:])
            else:
                break
        if line != "ok":
            self.process.wait(10)
            raise AssertionError(f"target-driver: {line}")

    def ask(self, line):
        """The answer, without its "ok"; or "error ..."."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        while True:
            got = self.process.stdout.readline()
            check(got, f"target-driver ended at '{line}'")
            got = got.strip()
            if got.startswith("failed "):
                self.failures.append(got[7:])
            else:
                return got[3:] if got.startswith("ok") else got

    def progress(self):
        return json.loads(self.ask("progress"))

    def end(self):
        if self.process.poll() is None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
            for line in self.process.stdout:
                if line.startswith("failed "):
                    self.failures.append(line.strip()[7:])
            same(self.process.wait(60), 0, "status of target-driver")
        for pair in self.files:
            if is_mounted(os.path.dirname(pair[0])):
                subprocess.run(["umount", "-l", os.path.dirname(pair[0])], check=False)
                os.rmdir(os.path.dirname(pair[0]))


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
        self.qmp.execute("blockdev-backup", {"job-id": f"b{i}", "device": f"n{i}",
                                             "target": f"bg{i}", "sync": "full", "speed": speed})

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
def setting(sizes, *args, place=None):
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


def freeze(storage, target, writer):
    """Puts the filters in while the guest pauses; the disks as they are then."""
    with writer.paused:
        storage.insert(target.files)
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


run(globals())
