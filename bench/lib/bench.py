# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the cases share: the programs, the places for files, and commands that are expected to work.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Peers and helpers: program → Debian package.
PACKAGES = {
    "squashfuse_ll": "squashfuse", "mksquashfs": "squashfs-tools", "nbdkit": "nbdkit",
    "nbdfuse": "libnbd-bin", "qemu-storage-daemon": "qemu-system-common",
    "qemu-img": "qemu-utils", "mkfs.ext4": "e2fsprogs", "losetup": "mount", "tar": "tar",
    "ninja": "ninja-build", "meson": "meson", "zstd": "zstd",
    "gzip": "gzip", "lzop": "lzop", "lz4": "lz4", "vma": "pve-qemu-kvm (of Proxmox)",
}


class Missing(Exception):
    """A case cannot be measured here; the message says what it needs."""


class Bench:
    def __init__(self, args):
        self.size = int(args.size * (1 << 30))
        self.runs = args.runs
        self.quick = args.quick
        self.drop_caches = args.drop_caches
        self.nice = args.nice
        self.reference = args.reference or "vma"
        self.build = os.path.abspath(args.build or os.path.join(TOP, "build-bench"))
        self.missing = {}       # what is left out → why
        self._folders = []
        self.dir = self._folder(args.dir)
        self.memory = self._memory_folder(args.memory)
        self._build()

    # --- places ---

    def _folder(self, parent):
        path = tempfile.mkdtemp(prefix="vmafs-bench.", dir=parent)
        self._folders.append(path)
        return path

    def _memory_folder(self, parent):
        """A folder on a tmpfs, where copies are not measured against the disk; or the other one."""
        with contextlib.suppress(OSError):
            if shutil.disk_usage(parent).free > 4 * self.size:
                return self._folder(parent)
        self.skip("a tmpfs", f"{parent} lacks room: everything is on the disk")
        return self.dir

    def close(self):
        for path in self._folders:
            shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def files(self, *names, memory=False):
        """Paths for inputs, removed afterwards."""
        folder = tempfile.mkdtemp(dir=self.memory if memory else self.dir)
        try:
            yield [os.path.join(folder, name) for name in names]
        finally:
            shutil.rmtree(folder)

    # --- programs ---

    def _build(self):
        log = os.path.join(self.dir, "build.log")
        self.note("building")
        with open(log, "wb") as out:
            def run(*command):
                done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                      check=False)
                if done.returncode != 0:
                    with open(log, encoding="utf-8", errors="replace") as text:
                        sys.stderr.writelines(text.readlines()[-20:])
                    raise Missing(f"`{' '.join(command)}` failed")

            self.need("meson", "ninja")
            if not os.path.exists(os.path.join(self.build, "build.ninja")):
                run("meson", "setup", self.build, TOP, "--buildtype=release")
            run("ninja", "-C", self.build, "fuse/vmafs", "tool/vmatool", "bench-programs")
        self.vmafs = os.path.join(self.build, "fuse", "vmafs")
        self.vmatool = os.path.join(self.build, "tool", "vmatool")
        self.null = os.path.join(self.build, "bench", "null")
        self.reader = os.path.join(self.build, "bench", "reader")

    def skip(self, what, why):
        if what not in self.missing:
            self.missing[what] = why
            self.say(f"without {what}: {why}")

    def has(self, *programs):
        """Whether these peers are there; notes the one that is not."""
        for program in programs:
            if shutil.which(program) is None:
                package = PACKAGES.get(os.path.basename(program), program)
                self.skip(program, f"not installed (package {package})")
                return False
        return True

    def need(self, *programs):
        for program in programs:
            if shutil.which(program) is None:
                raise Missing(f"{program} is not installed (package {PACKAGES[program]})")

    def has_command(self, name):
        """Whether vmatool knows a command."""
        return subprocess.run([self.vmatool, name, "--help"], stdin=subprocess.DEVNULL,
                              capture_output=True, check=False).returncode == 0

    @staticmethod
    def output(command):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="surrogateescape", check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    @staticmethod
    def command(command):
        """As output(), without a pipe that a daemon might keep open."""
        with tempfile.TemporaryFile() as errors:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=errors, check=False)
            errors.seek(0)
            if done.returncode != 0:
                text = errors.read().decode(errors="replace").strip()
                raise RuntimeError(f"{' '.join(command)}: {text or done.returncode}")

    # --- talk ---

    @staticmethod
    def say(text):
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""
        print(clear + text, file=sys.stderr, flush=True)

    @staticmethod
    def note(text):
        """What goes on, on a terminal."""
        if sys.stderr.isatty():
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
