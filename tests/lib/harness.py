# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the Python tests share; functions.sh is the same for shell tests.

A test imports it with

    sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
    from harness import *

and ends with `run(globals())`, which calls each function test_..., or those that are named as arguments, and
fails if one of them does.
"""

import contextlib
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

import vmagen
import vmaread

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FIXTURES = os.path.join(TESTS, "fixtures")
BUILDDIR = os.environ.get("BUILDDIR", os.path.join(TESTS, "..", "build"))
VARIANT = os.environ.get("TEST_VARIANT", "plain")
# Programs that are slow by design get more time, and less to do.
SLOW = VARIANT != "plain"


def _program(name, folder):
    for path in (os.environ.get(name.upper()), os.path.join(BUILDDIR, name),
                 os.path.join(BUILDDIR, folder, name)):
        if path and os.path.isfile(path):
            return os.path.realpath(path)
    sys.exit(f"no program {name} in {BUILDDIR}")


VMAFS = _program("vmafs", "fuse")
VMATOOL = _program("vmatool", "tool")

if "TEST_TMP" in os.environ:
    TMP = os.environ["TEST_TMP"]
else:
    _folder = tempfile.TemporaryDirectory(prefix="vmafs-test.")
    TMP = os.environ["TEST_TMP"] = _folder.name
# Where large things go, if the runner found a place for them.
BIG = os.environ.get("TEST_BIG", TMP)
os.environ["XDG_CACHE_HOME"] = os.path.join(TMP, "cache")
os.environ["LC_ALL"], os.environ["TZ"] = "C", "UTC"


def skip(reason):
    print("skip:", reason)
    sys.exit(77)


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def same(got, wanted, message):
    if got != wanted:
        raise AssertionError(f"{message}: {got!r:.300}, not {wanted!r:.300}")


def tool(*args, **options):
    """vmatool, with its output as text; never waits for ever."""
    return run_program(VMATOOL, *args, **options)


def run_program(*args, **options):
    options.setdefault("timeout", 300 if SLOW else 60)
    return subprocess.run([str(a) for a in args], stdin=subprocess.DEVNULL, text=True,
                          capture_output=True, errors="surrogateescape", check=False, **options)


def failed(result, archive, offset=True, status=1):
    """Checks the way in which bad input is reported; returns the line."""
    same(result.returncode, status, f"status of {result.args} ({result.stderr.strip()})")
    lines = result.stderr.splitlines()
    same(len(lines), 1, f"lines on stderr of {result.args}: {lines}; count")
    check(os.path.basename(archive) in lines[0], f"the archive is not named: {lines[0]}")
    if offset:
        check(re.search(r"\bat \d+", lines[0]), f"no offset is named: {lines[0]}")
    return lines[0]


def is_mounted(path):
    with open("/proc/self/mounts") as f:
        return any(line.split()[1] == path and line.split()[2].startswith("fuse") for line in f)


def servers(mountpoint):
    """The processes that serve a mount: while it starts, there are two."""
    found = []
    for folder in glob.glob("/proc/[0-9]*"):
        with contextlib.suppress(OSError), open(folder + "/cmdline", "rb") as f:
            if (os.readlink(folder + "/exe") == VMAFS
                    and os.fsencode(mountpoint) in f.read().split(b"\0")):
                found.append(int(folder[6:]))
    return found


def server(mountpoint):
    """The process that serves a mount, or None."""
    return next(iter(servers(mountpoint)), None)


def wait_for(condition, seconds, what):
    end = time.monotonic() + seconds * (5 if SLOW else 1)
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.02)


def unmount(path):
    if is_mounted(path):
        for command in (["fusermount3", "-u", path], ["fusermount3", "-uz", path],
                        ["umount", "-l", path]):
            if subprocess.run(command, check=False).returncode == 0:
                break
    wait_for(lambda: server(path) is None, 10, "the server of a mount ends with it")


@contextlib.contextmanager
def mounted(archive, *options, env=None):
    """Mounts an archive; the value is the mount point."""
    path = tempfile.mkdtemp(prefix="mnt", dir=TMP)
    result = run_program(VMAFS, archive, path, *options, env=env)
    try:
        same(result.returncode, 0, f"status of the mount of {archive} ({result.stderr.strip()})")
        check(is_mounted(path), "vmafs returned 0 but nothing is mounted")
        yield path
    finally:
        unmount(path)
        os.rmdir(path)


@contextlib.contextmanager
def folder():
    path = tempfile.mkdtemp(dir=TMP)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def archive_of(layout, seed=1):
    """(path of a generated archive, its true files)."""
    path = os.path.join(TMP, f"{layout}.{seed}.vma")
    made = vmagen.make(layout, seed)
    made.write(path)
    return path, made.truth()


def edge(name):
    return os.path.join(FIXTURES, "edge", name + ".vma")


def slurp(path):
    with open(path, "rb") as f:
        return f.read()


def run(names):
    bad = 0
    for name, function in list(names.items()):
        if name.startswith("test_") and (not sys.argv[1:] or name in sys.argv[1:]):
            try:
                start = time.monotonic()
                function()
                print(f"  {name}: ok ({time.monotonic() - start:.1f} s)", flush=True)
            except Exception:
                bad += 1
                traceback.print_exc()
                print(f"  {name}: FAILED", flush=True)
    sys.exit(1 if bad else 0)
