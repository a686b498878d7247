# SPDX-License-Identifier: GPL-2.0-or-later
"""
Runs a program again and again, each time with another call of the system that fails
(tests/lib/faults.c), and judges what comes of it.

A first run lists the sites: which call, from where, how often.  Then each site is made to fail in
each way that it can.  Calls that are interrupted or do a part of what they were asked for must
not be noticed.  All others end in success (where the call does not matter, perhaps with a note),
or in status 1 and one line; never in a crash, never in wrong output, never with anything left
behind.
"""

import errno
import hashlib
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading

from harness import *

LIBRARY = os.path.join(os.path.abspath(BUILDDIR), "tests", "faults.so")
# As in faults.c.
HEAD, FRAMES, SITES = 64, 9, 4096
SITE_SIZE = 48 + FRAMES * 32
KINDS = {"short": 1, "eintr": 2, "eio": 4, "enospc": 8, "enomem": 16, "emfile": 32, "eagain": 64,
         "stop": 128}
UNNOTICED = ("short", "eintr")
# A full disk stays full.
LASTING = ("enospc",)
# Of what is not the command's business, and is said beside its error.
NOTE = re.compile("vmatool: note: |vmafs: cannot save checkpoints in ")
LIMIT = 30          # seconds a run may take
# Errors that a read under a mount may have.
HONEST = (errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EINTR, errno.EAGAIN)
# What a program may leave in its cache whatever happens.
CACHED = (".vmaidx", ".vmasums", ".checkpoints", ".checkpoints.part")


def packed(archive, suffix, *command):
    """The archive, compressed by a command that writes to standard output."""
    path = f"{archive}.{suffix}"
    with open(path, "wb") as f:
        subprocess.run([*command, archive], stdout=f, check=True)
    return path


class Site:
    def __init__(self, data):
        self.hash, self.calls, self.kinds, n = struct.unpack_from("<QQII", data)
        self.call = data[24:48].split(b"\0")[0].decode()
        self.frames = []
        for i in range(n):
            offset, module = struct.unpack_from("<Q24s", data, 48 + i * 32)
            self.frames.append((module.split(b"\0")[0].decode(), offset))

    def can(self):
        return [kind for kind, bit in KINDS.items() if self.kinds & bit]

    def where(self, program):
        """The stack, in words where addr2line is at hand."""
        own = os.path.basename(program)
        text = [f"{module}+{offset:#x}" for module, offset in self.frames]
        addresses = [hex(offset - 1) for module, offset in self.frames if module == own]
        try:
            found = subprocess.run(["addr2line", "-fse", program, *addresses], text=True, check=True,
                                   capture_output=True).stdout.split("\n")
        except (OSError, subprocess.CalledProcessError):
            return " < ".join(text)
        words = [f"{found[2 * i]}:{found[2 * i + 1]}" for i in range(len(addresses))]
        return " < ".join(words or text)


class State:
    """The file that the library and we share."""

    def __init__(self, path):
        self.path = path
        with open(path, "wb") as f:
            f.truncate(HEAD + SITES * SITE_SIZE)

    def hits(self):
        with open(self.path, "rb") as f:
            return struct.unpack("<Q", f.read(8))[0]

    def sites(self):
        data = slurp(self.path)
        found = [Site(data[at:at + SITE_SIZE]) for at in range(HEAD, len(data), SITE_SIZE)
                 if data[at:at + 8] != bytes(8)]
        return sorted(found, key=lambda s: (s.frames[-3:], s.hash))

    def environment(self, program, fault=""):
        return dict(os.environ, LD_PRELOAD=LIBRARY, FAULTS_STATE=self.path, FAULTS=fault,
                    FAULTS_PROGRAM=os.path.basename(program))


def digest(folder):
    """All that is in a folder (but for a mount), and what of it is cached data."""
    found, cached = {}, []
    for path, dirs, files in os.walk(folder):
        here = os.path.relpath(path, folder)
        if here == "mnt":
            dirs.clear()
            continue
        if here == "cache" or here.startswith("cache/"):
            cached += files
            continue
        for name in dirs:
            if os.path.join(here, name) != "./cache":
                found[os.path.join(here, name)] = "dir"
        for name in files:
            full = os.path.join(path, name)
            found[os.path.join(here, name)] = hashlib.sha256(slurp(full)).hexdigest()
    return found, cached


class Result:
    def __init__(self, status, out, err, files, cached):
        self.status, self.out, self.err = status, out, err
        self.files, self.cached = files, cached


class Command:
    """
    A command line that is run in an empty folder of its own; `{}` in an argument stands for it.
    Status `good` is success, `bad` failure.  `setup` puts into the folder what is there before.
    `honest` is a word that says that something is missing: output that has it may differ.  With
    `parts_stay` what is whole may stay when the rest could not be made, as it is with cp(1).
    """

    def __init__(self, name, *argv, good=0, bad=1, stdin=None, setup=None, honest=None,
                 parts_stay=False):
        self.name, self.argv, self.good, self.bad = name, [str(a) for a in argv], good, bad
        self.stdin, self.setup, self.honest = stdin, setup, honest
        self.parts_stay = parts_stay

    def start(self, folder, env):
        out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        with open(self.stdin or os.devnull, "rb") as stdin:
            process = subprocess.Popen([a.replace("{}", folder) for a in self.argv], stdin=stdin,
                                       stdout=out, stderr=err, cwd=folder, env=env)
        return process, out, err

    def run(self, folder, env):
        process, out, err = self.start(folder, dict(env, XDG_CACHE_HOME=os.path.join(folder, "cache")))
        try:
            status = process.wait(LIMIT * (5 if SLOW else 1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            status = "hangs"
        text = []
        for f in (out, err):
            f.seek(0)
            text.append(f.read())
            f.close()
        return Result(status, text[0].replace(folder.encode(), b"{}"),
                      text[1].decode(errors="replace").replace(folder, "{}"), *digest(folder))


@contextlib.contextmanager
def time_limit(mountpoint):
    """Ends what waits for a mount that does not answer, by the death of its process."""
    pid = server(mountpoint)
    timer = threading.Timer(LIMIT, lambda: pid and os.kill(pid, signal.SIGKILL))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Mount(Command):
    """
    A mount of which all is read, by `{}/mnt`.  `truth` has the contents; what cannot be read is
    said in the output, as `unreadable`.  `use(folder)` may do more; what it returns is output as
    well. `gone(folder, name)` tells whether a file may be away altogether.
    """

    def __init__(self, name, archive, truth, *options, use=None, gone=None, **more):
        super().__init__(name, VMAFS, archive, "{}/mnt", *options, honest=b"unreadable", **more)
        self.truth, self.use, self.before = truth, use, self.setup
        self.gone = gone or (lambda mountpoint, name: False)
        self.setup = self.prepare

    def prepare(self, folder):
        os.mkdir(os.path.join(folder, "mnt"))
        if self.before is not None:
            self.before(folder)

    def look(self, mountpoint):
        said = []
        for name, wanted in sorted(self.truth.items()):
            try:
                if slurp(os.path.join(mountpoint, name)) != wanted:
                    raise AssertionError(f"wrong bytes in {name}")
                said.append(f"{name}: right")
            except OSError as error:
                # Not ENOENT, for instance, and not the ENOTCONN of a mount whose process has died.
                if error.errno not in HONEST and not self.gone(mountpoint, name):
                    raise AssertionError(f"{name}: {error}") from error
                said.append(f"{name}: unreadable")
        if self.use is not None:
            said += self.use(mountpoint)
        return "\n".join(said).encode()

    def run(self, folder, env):
        mountpoint = os.path.join(folder, "mnt")
        result = super().run(folder, env)
        try:
            if result.status == 0:
                try:
                    with time_limit(mountpoint):
                        result.out = self.look(mountpoint)
                except (AssertionError, OSError) as error:
                    result.out, result.status = b"", str(error)
            elif is_mounted(mountpoint):
                result.status = f"{result.status}, but mounted"
        finally:
            unmount(mountpoint)
        result.files, result.cached = digest(folder)
        return result


def judge(command, result, wanted, before, unnoticed):
    """What is wrong with a run, or None."""
    lines = result.err.splitlines()
    program = os.path.basename(command.argv[0])

    if isinstance(result.status, str):
        return result.status
    if result.status == command.good:
        if result.out != wanted.out and (not command.honest or command.honest not in result.out):
            return f"wrong output: {result.out!r:.300}"
        if result.files != wanted.files:
            return f"wrong files: {result.files}"
        if unnoticed and lines != wanted.err.splitlines():
            return f"noticed: {result.err}"
    elif unnoticed:
        return f"noticed: status {result.status}: {result.err}"
    elif result.status != command.bad:
        return f"status {result.status}: {result.err}"
    else:
        if sum(not NOTE.match(line) for line in lines) != 1:
            return f"{len(lines)} lines of error: {result.err}"
        whole = command.parts_stay and result.files.items() <= wanted.files.items()
        if result.files != before and not whole:
            return f"left behind: {result.files}"
    for line in lines:
        if not line.startswith(program + ": "):
            return f"not a message of {program}: {line}"
    for name in result.cached:
        if not name.endswith(CACHED):
            return f"left in the cache: {result.cached}"
    return None


def calls_to_fail(kind, count, deep):
    """Which of the calls at a site: those at the ends, and some between."""
    chosen = {1, count} if kind == "eio" else {count}
    if deep:
        chosen |= {1, 2, 3, 4, 8, count // 2, count - 1}
    return sorted(n for n in chosen if 1 <= n <= count)


class Campaign:
    def __init__(self, deep=False, verbose=False):
        self.deep, self.verbose = deep, verbose
        self.runs = self.missed = self.refused = 0
        self.problems = []
        self.seen = set()

    def is_new(self, site):
        """Whether no command before has called this from here; who called the caller matters less."""
        key = (site.call, tuple(site.frames[:4]))
        found = key not in self.seen
        self.seen.add(key)
        return found

    @contextlib.contextmanager
    def folder(self, command):
        path = tempfile.mkdtemp(prefix="fault.", dir=BIG)
        try:
            if command.setup is not None:
                command.setup(path)
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def state(self):
        return State(os.path.join(BIG, "faults.state"))

    def one(self, command, wanted, fault, unnoticed, site=None):
        state = self.state()
        with self.folder(command) as path:
            before = digest(path)[0]
            result = command.run(path, state.environment(command.argv[0], fault))
            self.runs += 1
            if state.hits() == 0:
                self.missed += 1        # another order of threads
            problem = judge(command, result, wanted, before, unnoticed)
            if result.status != command.good:
                self.refused += 1
            # What was saved of it must be sound.
            if problem is None and result.cached and not unnoticed:
                for name in result.files:
                    if name not in before:
                        full = os.path.join(path, name)
                        if os.path.isdir(full):
                            shutil.rmtree(full)
                        elif os.path.lexists(full):
                            os.unlink(full)
                again = command.run(path, os.environ)
                self.runs += 1
                problem = judge(command, again, wanted, before, True)
                if problem is not None:
                    problem = "the next run, without faults: " + problem
        if self.verbose:
            print(f"    {fault} -> {result.status} {result.err.strip()}")
        if problem is not None:
            problem = problem.strip().split("\n")[0] if not self.verbose else problem
            where = f"\n      in {site.call}() < {site.where(command.argv[0])}" if site else ""
            self.problems.append(f"{command.name}: FAULTS={fault}: {problem.strip()}{where}")
            print("    " + self.problems[-1], flush=True)

    def run(self, command):
        start, runs, refused = time.monotonic(), self.runs, self.refused
        state = self.state()
        with self.folder(command) as path:
            wanted = command.run(path, os.environ)
        with self.folder(command) as path:
            before = digest(path)[0]
            listed = command.run(path, state.environment(command.argv[0]))
        for what in (wanted, listed):
            problem = judge(command, what, wanted, before, True)
            check(problem is None, f"{command.name} without faults: {problem}")
        sites = state.sites()
        check(sites, f"{command.name} makes no call at all")

        for kind in UNNOTICED:
            self.one(command, wanted, kind + ":every", True)
        tried = [site for site in sites if self.is_new(site) or self.deep]
        for site in tried:
            for kind in site.can():
                if kind in UNNOTICED and not self.deep:
                    continue            # all at once above
                for n in calls_to_fail(kind, site.calls, self.deep):
                    self.one(command, wanted, f"{kind}:{site.hash:x}:{n}", kind in UNNOTICED, site)
                    if kind in LASTING:
                        self.one(command, wanted, f"{kind}:{site.hash:x}:{n}+", False, site)
        print(f"  {command.name}: {len(tried)} of {len(sites)} sites, {self.runs - runs} runs, "
              f"{self.refused - refused} that failed, {time.monotonic() - start:.1f} s", flush=True)

    def end(self):
        check(not self.problems, f"{len(self.problems)} problems")
        check(self.missed * 4 < self.runs, f"{self.missed} of {self.runs} faults were not met")
