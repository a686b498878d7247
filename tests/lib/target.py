# SPDX-License-Identifier: GPL-2.0-or-later
"""
target-driver: the data side of a live backup, without the side that speaks to QEMU.
"""

import contextlib
import json
import os
import subprocess

from harness import BUILDDIR, check, is_mounted, same, skip, wait_for

DRIVER = os.path.join(BUILDDIR, "tests", "unit", "target-driver")
if not os.access("/dev/fuse", os.W_OK):
    skip("no /dev/fuse")
if not os.path.exists(DRIVER):
    skip("built without libnbd")


class TargetError(Exception):
    """It did not start."""


class Target:
    """target-driver."""

    def __init__(self, *args, **options):
        self.process = subprocess.Popen([DRIVER, *map(str, args)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, **options)
        self.files, self.failures = [], []
        while True:
            line = self.process.stdout.readline().strip()
            if line.startswith("files "):
                self.files.append(line.split()[1:])
            else:
                break
        if line != "ok":
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait(10)
            raise TargetError(line)

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

    def wait_failure(self, seconds=30):
        """The first failure that it told of."""
        wait_for(lambda: self.ask("progress") and self.failures, seconds, "the target fails")
        return self.failures[0]

    def end(self, status=0):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        for line in self.process.stdout:
            if line.startswith("failed "):
                self.failures.append(line.strip()[7:])
        self.process.stdout.close()
        same(self.process.wait(60), status, "status of target-driver")

    def kill(self):
        """Ends it, and what it has mounted, in whatever state it is."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(60)
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        for mount in {os.path.dirname(pair[0]) for pair in self.files}:
            if is_mounted(mount):
                subprocess.run(["umount", "-l", mount], check=False)
            if os.path.isdir(mount):
                os.rmdir(mount)
