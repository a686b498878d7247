# SPDX-License-Identifier: GPL-2.0-or-later
"""
Live backups in tests: vmabackup as a process, readers of its live view, and what must hold
afterwards.
"""

import contextlib
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import tempfile
import threading
import time

import harness
from harness import TMP, check, run_program, same, wait_for
from qmp import Qmp

VMABACKUP = harness._program("vmabackup", "backup")
RUN_DIR = os.path.join(TMP, "run")
os.environ["VMABACKUP_RUN_DIR"] = RUN_DIR
PREFIX = "vmabk-"
PATIENCE = 240 if harness.SLOW else 100


def vmabackup(*args, **options):
    return run_program(VMABACKUP, *args, **options)


class Backup:
    """`vmabackup run` under way.  Options as on its command line; no output: --sync none."""

    count = 0

    def __init__(self, guest, output, *options, mount=False, job=None, qmp=None, stdout=None):
        Backup.count += 1
        self.guest, self.output = guest, output
        self.id = job or f"t{os.getpid() % 10000}-{Backup.count}"
        self.mountpoint = None
        command = [VMABACKUP, "run", "--qmp", qmp or guest.socket, "--id", self.id, "--json"]
        if mount:
            self.mountpoint = tempfile.mkdtemp(prefix="live", dir=TMP)
            command += ["--mount", self.mountpoint]
        command += [str(o) for o in options]
        if output is not None:
            command.append(output)
        self.events = []
        self.errors = []
        self.changed = threading.Condition()
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                        stdout=stdout or subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True)
        self.threads = [threading.Thread(target=self._errors, daemon=True)]
        if stdout is None:
            self.threads.append(threading.Thread(target=self._events, daemon=True))
        for thread in self.threads:
            thread.start()

    def _events(self):
        for line in self.process.stdout:
            with self.changed:
                try:
                    self.events.append(json.loads(line))
                except ValueError:
                    self.errors.append(f"not JSON on stdout: {line}")
                self.changed.notify_all()

    def _errors(self):
        for line in self.process.stderr:
            self.errors.append(line.rstrip("\n"))

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            print(f"vmabackup {self.id}: {self.errors}; {self.last()}")
        with contextlib.suppress(ProcessLookupError):
            if self.process.poll() is None:
                os.kill(self.process.pid, signal.SIGCONT)
                self.process.terminate()
                try:
                    self.process.wait(20)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait(20)
        for thread in self.threads:
            thread.join(10)

    def last(self):
        """What was heard last, in short."""
        return [(e.get("event"), e.get("data", {}).get("transferred")) for e in self.events[-3:]]

    @property
    def message(self):
        return "\n".join(self.errors)

    def control(self):
        """A connection to the job's control socket."""
        return Qmp(os.path.join(RUN_DIR, self.id + ".sock"))

    def status(self):
        """What query-backups has to say of this job."""
        with self.control() as control:
            jobs = control.execute("query-backups")
        return next(j for j in jobs if j["id"] == self.id)

    def wait_event(self, name, seconds=PATIENCE):
        """Until an event of this name came on stdout."""
        end = time.monotonic() + seconds
        with self.changed:
            while True:
                for event in self.events:
                    if event.get("event") == name:
                        return event
                if self.process.poll() is not None:
                    raise AssertionError(f"ended without {name}: {self.errors}; {self.last()}")
                if not self.changed.wait(min(1, max(0.01, end - time.monotonic()))):
                    if time.monotonic() > end:
                        raise AssertionError(f"no event {name}: {self.last()} {self.errors}")

    def wait_started(self, seconds=PATIENCE):
        return self.wait_event(STARTED, seconds)

    def wait_copying(self, seconds=30):
        """Until the background copies of all disks are under way."""
        wait_for(lambda: len(self.guest.qmp.execute("query-block-jobs")) == len(self.guest.disks),
                 seconds, "the background copies start")

    def end(self, seconds=PATIENCE):
        """Waits for its end; the exit status."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"does not end: {self.errors}; {self.last()}") from None
        for thread in self.threads:
            thread.join(10)
        return status

    def succeed(self, seconds=PATIENCE):
        status = self.end(seconds)
        same(status, 0, f"exit status ({self.errors}; {self.last()})")
        return self

    def fail(self, pattern, seconds=PATIENCE):
        """Ends as a failed backup does: status 1, one line that fits, nothing at the output."""
        status = self.end(seconds)
        same(status, 1, f"exit status ({self.errors}); it")
        check(re.search(pattern, self.message), f"message {self.message!r} does not fit {pattern!r}")
        if self.output and not self.output.startswith(("exec:", "-", "fd:")):
            check(not os.path.lexists(self.output), f"{self.output} is there after a failure")
        return self


# The name of the event that says that the point in time is fixed.
STARTED = "BACKUP_STARTED"


class Graph:
    """What a QEMU's block layer looks like, to be compared with what it was before."""

    def __init__(self, qmp):
        self.qmp = qmp
        self.before = self._now()

    def _now(self):
        nodes = sorted(n["node-name"] for n in self.qmp.execute("query-named-block-nodes"))
        devices = [(d.get("qdev"), d["inserted"]["node-name"]) for d in
                   self.qmp.execute("query-block") if "inserted" in d]
        jobs = [j["device"] for j in self.qmp.execute("query-block-jobs")]
        exports = [e["id"] for e in self.qmp.execute("query-block-exports")]
        return {"nodes": nodes, "devices": devices, "jobs": jobs, "exports": exports}

    def unchanged(self, gone=()):
        """Fails unless QEMU has what it had, and runs; without what is named in `gone`."""
        now, before = self._now(), dict(self.before)
        if gone:
            before["devices"] = [d for d in before["devices"] if d[1] not in gone]
            before["nodes"] = now["nodes"] = [n for n in now["nodes"] if PREFIX in n]
        same(now, before, "QEMU's block graph")
        same(self.qmp.execute("query-status")["status"], "running", "the guest's state")

    def wait_unchanged(self, seconds=60):
        """After something that cleans up in its own time."""
        end = time.monotonic() + seconds
        while True:
            try:
                self.unchanged()
                return
            except AssertionError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)


class Readers:
    """Threads that read random pieces of files all the time and remember what they saw."""

    def __init__(self, paths, threads=2, seed=1):
        self.paths = paths
        self.seen = []              # (file, offset, length, digest)
        self.error = None
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(seed + i,), daemon=True)
                        for i in range(threads)]
        for thread in self.threads:
            thread.start()

    def _run(self, seed):
        source = random.Random(seed)
        try:
            files = [os.open(p, os.O_RDONLY) for p in self.paths]
            sizes = [os.fstat(f).st_size for f in files]
            while not self.stop.is_set():
                i = source.randrange(len(files))
                length = source.choice([512, 4096, 65536, 100000, 131072])
                offset = source.randrange(0, sizes[i] - length)
                if source.random() < 0.5:
                    offset -= offset % 65536
                data = os.pread(files[i], length, offset)
                same(len(data), length, "length of a read")
                self.seen.append((i, offset, length, hashlib.md5(data).digest()))
            for f in files:
                os.close(f)
        except Exception as e:      # pylint: disable=broad-except
            self.error = e

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(PATIENCE)
            check(not thread.is_alive(), "a reader of the live view hangs")
        if self.error:
            raise AssertionError(f"a reader failed after {len(self.seen)} reads: {self.error!r}")

    def compare(self, paths):
        """All that was seen is what the files `paths` have; the number of reads."""
        files = [open(p, "rb") for p in paths]      # pylint: disable=consider-using-with
        try:
            for i, offset, length, digest in self.seen:
                files[i].seek(offset)
                if hashlib.md5(files[i].read(length)).digest() != digest:
                    raise AssertionError(f"the live view gave wrong data: disk {i}, {length} "
                                         f"bytes at {offset} (cluster {offset // 65536})")
        finally:
            for f in files:
                f.close()
        return len(self.seen)


def disks_of(folder):
    """The disks in a folder, as extract and the mounts name them, in order of their numbers."""
    names = [n for n in os.listdir(folder) if re.fullmatch(r"disk-.*\d\.raw", n)]
    return [os.path.join(folder, n)
            for n in sorted(names, key=lambda n: int(re.search(r"(\d+)\.raw$", n).group(1)))]


@contextlib.contextmanager
def extracted(archive, *options):
    """The disks of an archive, as files, after a look at all its checksums."""
    with tempfile.TemporaryDirectory(dir=TMP) as work:
        result = harness.tool("verify", archive)
        same(result.returncode, 0, f"vmatool verify: {result.stderr}")
        folder = os.path.join(work, "out")
        result = harness.tool("extract", archive, folder, *options)
        same(result.returncode, 0, f"vmatool extract: {result.stderr}")
        yield disks_of(folder)


def check_archive(guest, archive):
    """The archive is of one point in time of the guest's disks; its steps."""
    with extracted(archive) as disks:
        same(len(disks), len(guest.disks), "disks in the archive")
        return guest.fresh_check(disks)


def no_leftovers():
    """Nothing of ours is mounted, and no file is half done, below the test's folder."""
    def mounts():
        with open("/proc/self/mounts") as f:
            return [m for m in (line.split()[1] for line in f) if m.startswith(TMP + "/")]

    wait_for(lambda: not mounts(), 20, f"mounts go away: {mounts()}")
