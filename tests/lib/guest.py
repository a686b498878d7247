# SPDX-License-Identifier: GPL-2.0-or-later
"""
A QEMU for tests, with QMP, and with or without the test guest in it (see guest/init.c).

    with Guest([Disk(64 << 20), Disk(64 << 20)]) as guest:
        guest.command("go")
        guest.qmp.execute("query-block")
        ...
        guest.pause_and_check()        # the disks hold what the guest wrote, bit by bit

Emulation only (TCG): no /dev/kvm is needed.  The end of the `with` ends QEMU, however it comes.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import guestkit
import guestmodel
from harness import BUILDDIR, SLOW, TMP, skip
from qmp import Qmp, QmpGone

QEMU = os.environ.get("TEST_QEMU", "qemu-system-x86_64")
PATIENCE = 300 if SLOW else 120


def kit():
    """(kernel, initramfs); a reason to skip where they cannot be had."""
    folder = os.environ.get("TEST_KIT", os.path.join(BUILDDIR, "guest-kit"))
    try:
        return guestkit.make(folder)
    except guestkit.KitError as e:
        skip(f"no test guest: {e}")


class Disk:
    """`bus` is virtio or scsi; `style` blockdev (node names), or drive (as Proxmox does it)."""

    def __init__(self, size=64 << 20, bus="virtio", style="blockdev", fmt="raw", path=None,
                 iothread=False):
        self.size, self.bus, self.style, self.fmt, self.path = size, bus, style, fmt, path
        self.iothread = iothread


class Guest:
    def __init__(self, disks, boot=True, writers=2, folder=None, incoming=None, memory=128,
                 extra=(), qemu=QEMU, model=None, discards=True):
        if not shutil.which(qemu):
            skip(f"{qemu} is not installed")
        self.disks, self.boot, self.writers = disks, boot, writers
        self.incoming, self.memory, self.extra, self.program = incoming, memory, extra, qemu
        self.discards = discards
        self.folder = folder or tempfile.mkdtemp(prefix="guest", dir=TMP)
        self.model = model or guestmodel.Model([d.size for d in disks], writers)
        self.process = self.qmp = self.port = None
        self.buffer = b""
        self.count = 0

    def path(self, name):
        return os.path.join(self.folder, name)

    @property
    def socket(self):
        """For the program under test; the tests' own connection is another, and a third is free."""
        return self.path("qmp-backup")

    def image(self, number):
        return self.disks[number].path

    def _disk_options(self, i, disk):
        if disk.path is None:
            disk.path = self.path(f"disk{i}.{disk.fmt}")
        if not os.path.exists(disk.path):
            if disk.fmt == "raw":
                with open(disk.path, "wb") as f:
                    f.truncate(disk.size)
            else:
                subprocess.run(["qemu-img", "create", "-q", "-f", disk.fmt, disk.path,
                                str(disk.size)], check=True)
        if disk.style == "drive":
            drive = f"drive-{disk.bus}{i}"
            options = ["-drive", f"file={disk.path},if=none,id={drive},format={disk.fmt},"
                                 "cache=writeback,discard=unmap,detect-zeroes=off"]
        else:
            drive = f"node{i}"
            options = ["-blockdev", f"driver=file,node-name=file{i},filename={disk.path},"
                                    "discard=unmap",
                       "-blockdev", f"driver={disk.fmt},node-name={drive},file=file{i},"
                                    "discard=unmap"]
        name = f"{disk.bus}{i}"
        if disk.bus == "scsi":
            device = f"scsi-hd,bus=scsi.0,lun={i}"
        else:
            device = "virtio-blk-pci"
            if disk.iothread:
                options += ["-object", f"iothread,id=io{i}"]
                device += f",iothread=io{i}"
        return options + ["-device", f"{device},drive={drive},id={name},serial=d{i}"]

    def command_line(self):
        line = [self.program, "-nodefaults", "-no-user-config", "-display", "none",
                "-machine", "pc,accel=tcg,usb=off", "-cpu", "max", "-smp", "1", "-m",
                str(self.memory), "-msg", "timestamp=on",
                "-chardev", f"file,id=console,path={self.path('console')},append=on",
                "-serial", "chardev:console",
                "-chardev", f"socket,id=port,path={self.path('port')},server=on,wait=off",
                "-serial", "chardev:port"]
        for name in ("qmp", "qmp-backup", "qmp-third"):
            line += ["-chardev", f"socket,id={name},path={self.path(name)},server=on,wait=off",
                     "-mon", f"chardev={name},mode=control"]
        if any(d.bus == "scsi" for d in self.disks):
            line += ["-device", "virtio-scsi-pci,id=scsi"]
        for i, disk in enumerate(self.disks):
            line += self._disk_options(i, disk)
        if self.boot:
            kernel, initrd = kit()
            line += ["-kernel", kernel, "-initrd", initrd, "-append",
                     "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable "
                     f"no_timer_check random.trust_cpu=on disks={len(self.disks)} "
                     f"writers={self.writers} discards={int(self.discards)}"]
        if self.incoming:
            line += ["-incoming", self.incoming]
        return line + list(self.extra)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *_):
        if kind:
            print(f"QEMU: status {self.process.poll()}\n{self.log()}")
        self.kill()

    def start(self):
        line = self.command_line()
        with open(self.path("qemu.log"), "ab") as log:
            # pylint: disable=consider-using-with
            self.process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.qmp = Qmp(self.path("qmp"), PATIENCE)
            self.port = self._connect("port")
            if self.boot and not self.incoming:
                self.wait_ready()
        except BaseException as e:
            print(f"QEMU did not start: {e!r}\n{self.log()}")
            self.kill()
            raise

    def _connect(self, name):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.path(name))
        return connection

    def log(self):
        text = ""
        for name in ("qemu.log", "console"):
            with contextlib.suppress(OSError), open(self.path(name), errors="replace") as f:
                text += f.read()[-3000:]
        return text

    def _line(self, end):
        while b"\n" not in self.buffer:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"the guest does not answer\n{self.log()}")
            self.port.settimeout(left)
            try:
                data = self.port.recv(65536)
            except socket.timeout:
                continue
            if not data:
                raise QmpGone()
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode(errors="replace").strip()

    def wait_ready(self, seconds=PATIENCE):
        end = time.monotonic() + seconds
        while not self._line(end).startswith("ready "):
            pass

    def send(self, text):
        self.count += 1
        self.port.sendall(f"{self.count} {text}\n".encode())
        return self.count

    def receive(self, number, seconds=PATIENCE):
        """The reply to a command that was sent: its values, or its text."""
        end = time.monotonic() + seconds
        while True:
            words = self._line(end).split(" ", 2)
            if words[0] == str(number):
                break
        text = words[2] if len(words) > 2 else ""
        if words[1] != "ok":
            raise AssertionError(f"the guest says: {text}")
        values = dict(re.findall(r"(\w+)=(\S*)", text))
        values["text"] = text
        return values

    def command(self, text, seconds=PATIENCE):
        return self.receive(self.send(text), seconds)

    def steps(self):
        return [int(n) for n in self.command("status")["steps"].split(",")]

    def wait_steps(self, more, seconds=PATIENCE):
        """Until each writer has done that many steps more; proof that the guest goes on."""
        start, end = self.steps(), time.monotonic() + seconds
        while any(b - a < more for a, b in zip(start, self.steps())):
            if time.monotonic() > end:
                raise AssertionError(f"the guest does not go on: {start}, {self.steps()}")
            time.sleep(0.05)

    def pause_and_check(self, errors=0):
        """Stops the writers; the guest itself and we compare what is on its disks."""
        status = self.command("pause")
        if int(status["errors"]) != errors:
            raise AssertionError(f"the guest saw errors: {status['text']}")
        self.command("verify")
        # What qcow2 has in its caches is written when QEMU stops.
        self.qmp.execute("stop")
        self.check_images(self.disks)
        self.qmp.execute("cont")
        return status

    def check_images(self, disks, torn=False):
        """That images of the disks are of one point in time; raw ones are read as they are."""
        with contextlib.ExitStack() as stack:
            images = []
            for disk in disks:
                path = disk if isinstance(disk, str) else disk.path
                if not isinstance(disk, str) and disk.fmt != "raw":
                    path = os.path.join(stack.enter_context(
                        tempfile.TemporaryDirectory(dir=self.folder)), "raw")
                    subprocess.run(["qemu-img", "convert", "-U", "-f", disk.fmt, "-O", "raw",
                                    disk.path, path], check=True)
                images.append(stack.enter_context(open(path, "rb")))
            return self.model.check(images, torn)

    def fresh_check(self, paths, torn=False):
        """As check_images, of a point in time that may be older than what was checked before."""
        return guestmodel.Model([d.size for d in self.disks], self.writers).check_paths(paths, torn)

    def io(self, number, line):
        """A line of qemu-io for a disk, as if the guest's device did it."""
        disk = self.disks[number]
        path = next(d["qdev"] for d in self.qmp.execute("query-block")
                    if f"{disk.bus}{number}" in d["qdev"].split("/"))
        text = self.qmp.hmp(f'qemu-io -d {path} "{line}"')
        if "failed" in text or "rror" in text:
            raise AssertionError(f"qemu-io {line}: {text}")
        return text

    def quit(self):
        with contextlib.suppress(QmpGone, BrokenPipeError, ConnectionResetError):
            self.qmp.execute("quit")
        self.process.wait(PATIENCE)

    def kill(self):
        for connection in (self.qmp, self.port):
            if connection:
                connection.close()
        if self.process and self.process.poll() is None:
            # A stopped one, too.
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE)
        self.buffer = b""
