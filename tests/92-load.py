#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: serial timeout=300
"""
Many readers, many archives, many mounts, many reads, and many deaths: right bytes all the way,
and memory and descriptors that do not grow.  The figures are printed; in 93-deep.py there is more
of everything.
"""

import errno
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *
import signal
import threading

import faults

LONG = "TEST_DEEP" in os.environ
SEED = int(os.environ.get("LOAD_SEED", time.time()))
random.seed(SEED)
ARCHIVE, TRUE = archive_of("interleaved")
DISKS = sorted(n for n in TRUE if n.startswith("disk-") and TRUE[n])


def count(short, long):
    return long if LONG else max(1, short // (4 if SLOW else 1))


def usage(pid):
    """(resident KiB, descriptors, threads) of a process."""
    with open(f"/proc/{pid}/status") as f:
        status = dict(line.split(":", 1) for line in f if ":" in line)
    return (int(status["VmRSS"].split()[0]), len(os.listdir(f"/proc/{pid}/fd")),
            int(status["Threads"]))


def read_some(mountpoint, lots):
    """Opens a disk and reads somewhere; False where that is an I/O error."""
    name = lots.choice(DISKS)
    true = TRUE[name]
    at = lots.randrange(len(true))
    size = min(lots.choice((1, 4096, 65536, 300000)), len(true) - at)
    fd = os.open(os.path.join(mountpoint, name), os.O_RDONLY)
    try:
        got = os.pread(fd, size, at)
    except OSError as error:
        same(error.errno, errno.EIO, "error of a read")
        return False
    finally:
        os.close(fd)
    if got != true[at:at + len(got)] or not got:
        raise AssertionError(f"wrong bytes in {name} at {at}")
    return True


def in_threads(n, work):
    """Runs work(number) in n threads; the first failure is ours."""
    problems = []

    def one(number):
        try:
            work(number)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def test_readers():
    """64 readers at once of all files, plain and compressed, the scan still under way."""
    for path in (ARCHIVE, faults.packed(ARCHIVE, "zst", "zstd", "-qc")):
        with mounted(path, "--index-cache=none") as mountpoint:
            end = time.monotonic() + count(3, 60)
            reads = [0] * 64

            def work(number):
                lots = random.Random(number)
                while time.monotonic() < end:
                    check(read_some(mountpoint, lots), "an I/O error")
                    reads[number] += 1

            in_threads(64, work)
            check(min(reads) > 0, "a reader never came to read")
            print(f"    64 readers: {sum(reads)} reads, {usage(server(mountpoint))} KiB, fds, threads")


def test_thousand_archives():
    """Reads one file of each, twice; what is open is bounded, and closed again."""
    n, tops = count(200, 1000), []
    dump = os.path.join(BIG, "dump")
    small, true = archive_of("zero")
    name, content = next((n, c) for n, c in sorted(true.items()) if n.startswith("qemu") or c)
    os.mkdir(dump)
    for i in range(n):
        shutil.copy(small, os.path.join(dump, f"vm{i}.vma"))
    with mounted(dump, "--index-cache=none", "-o", "idle=1,max_open=16") as mountpoint:
        pid = server(mountpoint)
        before = usage(pid)
        for _ in range(3):
            members = [m for m in os.listdir(mountpoint) if m != ".vmafs"]
            same(len(members), n, "archives listed")
            for member in members:
                check(slurp(os.path.join(mountpoint, member, name)) == content, f"{member} is wrong")
            tops.append(usage(pid))
        top = tops[-1]
        check(top[0] <= tops[0][0] + 4096, f"memory of the second round: {tops}")
        check(top[1] <= before[1] + 4 * 16, f"descriptors: {before} -> {top}")
        check(top[0] <= before[0] + 64 * 1024, f"memory: {before} -> {top}")
        wait_for(lambda: usage(pid)[1] <= before[1], 20, "idle archives are closed")
        print(f"    {n} archives: {before} -> {tops[0]} -> {top} -> {usage(pid)} KiB, fds, threads")
    shutil.rmtree(dump)


def test_mounts():
    """Mounts and unmounts again and again: nothing piles up anywhere."""
    def left():
        with open("/proc/self/mounts") as f:
            ours = sum(TMP in line for line in f)
        cache = os.environ["XDG_CACHE_HOME"]
        return ours, sum(len(files) for _, _, files in os.walk(cache))

    n, before = count(25, 1000), None
    start = time.monotonic()
    for i in range(n):
        with mounted(ARCHIVE) as mountpoint:
            check(read_some(mountpoint, random), "an I/O error")
            now = usage(server(mountpoint))
        if i == 0:
            first = now
        if i == 4:
            before = left()
    same(left(), before, "mounts and cached files after many mounts")
    # The first has scanned, the others have loaded the index.
    check(abs(now[1] - first[1]) <= 2 and now[0] < first[0] + 8192, f"the last mount: {now}, the first: {first}")
    print(f"    {n} mounts, {(time.monotonic() - start) / n * 1000:.0f} ms each: {first} -> {now}")


def test_reads():
    """One mount, opened and read again and again."""
    n, rounds = count(20000, 400000), 4
    with mounted(ARCHIVE, "-o", "wait") as mountpoint:
        pid, seen = server(mountpoint), []
        for _ in range(rounds):
            def work(number):
                lots = random.Random(number)
                for _ in range(n // rounds // 8):
                    check(read_some(mountpoint, lots), "an I/O error")
                    os.stat(os.path.join(mountpoint, lots.choice(DISKS)))
            in_threads(8, work)
            seen.append(usage(pid))
        print(f"    {n} opens and reads: {' -> '.join(str(s) for s in seen)} KiB, fds, threads")
        check(len({s[1] for s in seen}) == 1, f"descriptors: {seen}")
        check(seen[-1][0] <= seen[0][0] + 4096, f"memory: {seen}")


class Overlaid:
    """Writes of a known pattern, of which it knows what was synced."""

    def __init__(self):
        self.size = len(TRUE[DISKS[0]]) // 4096
        self.synced, self.begun = [0] * self.size, [0] * self.size
        self.number = 0

    def block(self, i, number):
        if number == 0:
            return TRUE[DISKS[0]][i * 4096:(i + 1) * 4096]
        return (b"%d.%d." % (i, number) * 4096)[:4096]

    def work(self, mountpoint, lots):
        fd = os.open(os.path.join(mountpoint, DISKS[0]), os.O_RDWR)
        try:
            while True:
                mine = lots.sample(range(self.size), 5)
                self.number += 1
                for i in mine:
                    self.begun[i] = self.number
                    os.pwrite(fd, self.block(i, self.number), i * 4096)
                os.fsync(fd)
                for i in mine:
                    self.synced[i] = self.number
        finally:
            os.close(fd)

    def check(self, mountpoint):
        """Each block is as it was synced, or as it was to become; from now on that counts as synced."""
        with open(os.path.join(mountpoint, DISKS[0]), "rb") as f:
            for i in range(self.size):
                got = f.read(4096)
                fits = [n for n in (self.synced[i], self.begun[i]) if self.block(i, n) == got]
                if not fits:        # sector by sector: a block may have come in part
                    old, new = self.block(i, self.synced[i]), self.block(i, self.begun[i])
                    check(all(got[s:s + 512] in (old[s:s + 512], new[s:s + 512])
                              for s in range(0, 4096, 512)), f"block {i} was lost")
                    self.begun[i] = self.synced[i] = -1     # known to nobody
                else:
                    self.begun[i] = self.synced[i] = fits[0]


def test_killed():
    """kill -9 at any moment: the mount goes away, the cache is sound, the overlay has what was synced."""
    n = count(8, 200)
    path = tempfile.mkdtemp(prefix="kill", dir=TMP)
    packed = faults.packed(ARCHIVE, "k.zst", "zstd", "-qc")
    scratch, overlaid, lots = os.path.join(TMP, "scratch"), Overlaid(), random.Random(SEED)
    met = [0, 0]
    for i in range(n):
        archive, options = lots.choice(((ARCHIVE, ["-o", f"overlay={scratch}"]), (packed, [])))
        cached = os.path.join(TMP, "cache")
        if lots.random() < 0.5:
            shutil.rmtree(cached, ignore_errors=True)       # the next one scans
        starting = subprocess.Popen([VMAFS, archive, path, *options], stderr=subprocess.DEVNULL)
        time.sleep(lots.random() * 0.05)
        if lots.random() < 0.8:
            starting.wait(60)
        worker = None
        if options and starting.poll() == 0:
            def work():
                with contextlib.suppress(OSError):
                    overlaid.work(path, lots)
            worker = threading.Thread(target=work)
            worker.start()
        time.sleep(lots.random() * 0.2)
        # Both, where one waits for the other: the mount may come between the looks.
        while pids := servers(path):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            met[0] += len(pids)
            starting.poll()
            time.sleep(0.02)
        starting.wait(60)
        met[1] += is_mounted(path)
        if worker is not None:
            worker.join()
        if is_mounted(path):
            subprocess.run(["umount", "-l", path], check=True)
        check(not is_mounted(path), "a mount that does not go away")

        result = run_program(VMAFS, archive, path, *options)
        same((result.returncode, result.stderr), (0, ""), f"the mount after kill {i}")
        try:
            if options:
                overlaid.check(path)
            others = DISKS[1:] if options else DISKS
            for name in others:
                check(slurp(os.path.join(path, name)) == TRUE[name], f"{name} is wrong after kill {i}")
        finally:
            unmount(path)
    stray = [f for _, _, files in os.walk(os.path.join(TMP, "cache")) for f in files
             if not f.endswith(faults.CACHED)]
    print(f"    {n} times, {met[0]} processes killed, {met[1]} mounts left to unmount; "
          f"{len(stray)} temporary files in the cache (made away with after a day)")
    os.rmdir(path)


def test_unreadable():
    """The medium of the archive fails under a mount, and comes back."""
    state = faults.State(os.path.join(TMP, "unreadable.state"))
    if not os.path.exists(faults.LIBRARY) or VARIANT != "plain":
        return

    def broken(yes):
        with open(state.path, "r+b") as f:
            f.seek(8)       # State.broken
            f.write(bytes([yes]))

    env = state.environment(VMAFS, "eio:0:0+")
    for archive in (ARCHIVE, faults.packed(ARCHIVE, "u.zst", "zstd", "-qc")):
        with mounted(archive, "-o", "wait,cache_size=1M,direct_io", env=env) as mountpoint:
            pid = server(mountpoint)
            for name in DISKS:
                check(slurp(os.path.join(mountpoint, name)) == TRUE[name], f"{name} is wrong")
            broken(1)
            lots = random.Random(SEED)
            refused = sum(not read_some(mountpoint, lots) for _ in range(300))
            check(refused > 100, f"only {refused} reads failed")
            broken(0)
            said = slurp(mountpoint + "/.vmafs/errors").decode()
            check("Input/output error" in said or "is damaged" in said, f"no message: {said!r:.500}")
            for name in DISKS:
                check(slurp(os.path.join(mountpoint, name)) == TRUE[name], f"{name} is wrong later")
            same(server(mountpoint), pid, "the process")
            print(f"    {os.path.basename(archive)}: {refused} of 300 reads failed")


def test_replaced():
    """Another file takes the archive's name: the mount goes on with the one it has."""
    for suffix in ("vma", "zst"):
        path = os.path.join(TMP, "replaced." + suffix)
        shutil.copy(ARCHIVE if suffix == "vma" else faults.packed(ARCHIVE, "r.zst", "zstd", "-qc"), path)
        with mounted(path, "-o", "direct_io") as mountpoint:
            other, _ = archive_of("interleaved", 2)
            shutil.copy(other, path + ".new")
            os.rename(path + ".new", path)
            for name in DISKS:
                check(slurp(os.path.join(mountpoint, name)) == TRUE[name], f"{name} is wrong")


def test_overwritten():
    """A compressed archive is truncated, then overwritten, in place: errors, and no byte that is not right."""
    path = os.path.join(TMP, "overwritten.zst")
    for change in ("cut", "garbage"):
        shutil.copy(faults.packed(ARCHIVE, "o.zst", "zstd", "-qc"), path)
        with mounted(path, "-o", "wait,cache_size=1M,direct_io") as mountpoint:
            pid, size = server(mountpoint), os.path.getsize(path)
            with open(path, "r+b") as f:
                f.truncate(size // 2)
                if change == "garbage":
                    f.seek(0)
                    f.write(random.randbytes(size))
            lots = random.Random(SEED)
            refused = sum(not read_some(mountpoint, lots) for _ in range(200))
            check(refused > 20, f"only {refused} reads failed")
            check(slurp(mountpoint + "/.vmafs/errors"), "no message")
            same(server(mountpoint), pid, "the process")
            print(f"    {change}: {refused} of 200 reads failed")


if __name__ == "__main__":
    print(f"LOAD_SEED={SEED}")
    run(globals())
