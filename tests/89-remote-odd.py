#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=120 asan
"""
Archives on servers that are odd, broken or hostile: what is read is right, or there is one message.
"""

import itertools
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *
from nbdserver import NbdServer

ARCHIVE, TRUE = archive_of("tiny")
BYTES = slurp(ARCHIVE)
numbers = itertools.count()
if "without libnbd" in tool("list", "nbd+unix:///?socket=/nosuch").stderr:
    skip("built without libnbd")
os.environ["VMAFS_NBD_TIMEOUT"] = "1"


def good(offset, size):
    return (BYTES[offset:offset + size]).ljust(size, b"\0")


@contextlib.contextmanager
def serving(answer=good, size=None, **more):
    server = NbdServer(os.path.join(TMP, f"s{next(numbers)}"), len(BYTES) if size is None else size,
                       answer, **more)
    try:
        yield server
    finally:
        server.end()


def extracted(server, *options):
    with folder() as out:
        result = tool("extract", server.uri(), os.path.join(out, "x"), *options)
        files = {}
        if result.returncode == 0:
            for name in os.listdir(os.path.join(out, "x")):
                files[name] = slurp(os.path.join(out, "x", name))
    return result, files


def same_files(files):
    same(sorted(files), sorted(TRUE), "names")
    for name, data in TRUE.items():
        check(files[name] == (data if isinstance(data, bytes) else bytes(data)), f"content of {name}")


def fails_with(text, result):
    same(result.returncode, 1, f"status ({result.stderr.strip()})")
    lines = result.stderr.splitlines()
    same(len(lines), 1, f"lines of {lines}; count")
    check(text in lines[0], f"'{text}' is not in: {lines[0]}")


def test_large_blocks():
    """A server that reads whole blocks only gets no other requests."""
    for least in (512, 4096, 65536):
        size = -(-len(BYTES) // least) * least
        with serving(size=size, blocks=(least, max(least, 4096), 32 << 20)) as server:
            result = tool("list", server.uri())
            same(result.returncode, 0, f"list with blocks of {least} ({result.stderr})")
            check(server.reads, "nothing was read")
            for offset, n in server.reads:
                check(offset % least == 0 and n % least == 0, f"{n} bytes at {offset}, not {least}")


def test_beginning_cannot_be_read():
    with serving(lambda offset, size: None) as server:
        fails_with("Input/output error", tool("list", server.uri()))


def test_beginning_never_comes():
    ended = threading.Event()
    with serving(lambda offset, size: ended.wait(20) and None) as server:
        start = time.monotonic()
        result = tool("list", server.uri())
        ended.set()
        same(result.returncode, 1, f"status ({result.stderr})")
        check(time.monotonic() - start < 15, "it waited for ever")


def test_some_reads_fail():
    """What cannot be read is named, and nothing is made up."""
    broken = range(16384, 20480)

    def answer(offset, size):
        touched = offset < broken.stop and offset + size > broken.start
        return None if touched else good(offset, size)
    with serving(answer) as server:
        result, files = extracted(server)
        same(result.returncode, 1, f"status ({result.stderr})")
        same(files, {}, "files")


def test_shutting_down():
    """A server that says it is about to go is asked again, over another connection."""
    refused = []

    def answer(offset, size):
        if offset >= 12288 and len(refused) < 3:
            refused.append(offset)
            return 108
        return good(offset, size)
    os.environ["VMAFS_NBD_TIMEOUT"] = "20"
    with serving(answer) as server:
        result, files = extracted(server)
        same(result.returncode, 0, f"status ({result.stderr})")
        check(refused, "it was never asked")
        same_files(files)
    os.environ["VMAFS_NBD_TIMEOUT"] = "1"


def test_sizes():
    for size in (0, 1, 511, 12287):
        with serving(size=size) as server:
            result = tool("list", server.uri())
            same(result.returncode, 1, f"status with {size} bytes ({result.stderr})")
            same(len(result.stderr.splitlines()), 1, f"lines of {result.stderr!r}")
    with serving(size=1 << 63) as server:
        result = tool("list", server.uri())
        same(result.returncode, 1, f"status with 2^63 bytes ({result.stderr})")
    # More than there is: zeros behind the archive, which are no extents.
    with serving(size=len(BYTES) + 1000) as server:
        result = tool("verify", server.uri())
        same(result.returncode, 1, f"verify ({result.stderr})")


def test_no_nbd():
    for greeting in (b"NBDMAGICIHAVENOT", b"HTTP/1.1 400 Bad", bytes(16)):
        with serving(greeting=greeting) as server:
            fails_with("cannot connect", tool("list", server.uri()))


def test_changing():
    """Other bytes at each read: hashes and sums find that, whatever is read twice."""
    def answer(offset, size):
        data = bytearray(good(offset, size))
        if offset > 0:
            data[::97] = os.urandom(len(data[::97]))
        return bytes(data)
    with serving(answer) as server:
        same(tool("verify", server.uri()).returncode, 1, "status")


if __name__ == "__main__":
    sys.exit(run(globals()))
