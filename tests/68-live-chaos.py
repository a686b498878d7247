#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: long timeout=900
"""
One backup of a busy guest after the other, of kinds and with ends drawn by lot: every archive that there
is is of one point in time, incremental ones after failed ones too, and the guest and QEMU never notice.

  CHAOS_SEED, CHAOS_SECONDS   which lots, and for how long (default: by the clock, 240)
"""

import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from harness import *
from guest import Disk, Guest
from live import Backup, Graph, Readers, check_archive, disks_of, extracted, no_leftovers, vmabackup

SEED = int(os.environ.get("CHAOS_SEED", time.time()))
SECONDS = int(os.environ.get("CHAOS_SECONDS", 240))
ENDS = ["good"] * 5 + ["cancel", "interrupt", "kill", "stop", "reset"]


def out(name):
    return os.path.join(TMP, name)


class Chaos:
    def __init__(self, guest, lots):
        self.guest, self.lots = guest, lots
        self.graph = Graph(guest.qmp)
        self.base = None            # the archive that the bitmap is of
        self.count = 0

    def options(self):
        lots, options = self.lots, []
        kind = lots.choice(["plain", "plain", "zstd", "bitmap", "bitmap", "vmstate"])
        if kind == "zstd":
            options += ["--compress", "zstd"]
        elif kind == "vmstate":
            options += ["--vmstate"]
        elif kind == "bitmap":
            options += ["--bitmap", "chaos"]
            if self.base and lots.random() < 0.8:
                options += ["--incremental", self.base]
                if lots.random() < 0.3:
                    options += ["--delta"]
        if lots.random() < 0.4:
            options += ["--scratch", out("scratch")]
        if lots.random() < 0.6:
            options += ["--speed", lots.choice([4, 16, 64]) << 20]
        mount = lots.random() < 0.6
        if mount and "zstd" in options and "--scratch" not in options:
            options += ["--scratch", out("scratch")]
        return options, mount

    def one(self):
        lots, guest = self.lots, self.guest
        self.count += 1
        archive = out(f"a{self.count}.vma")
        options, mount = self.options()
        end = lots.choice(ENDS)
        wait = lots.random() * lots.choice([0.1, 1, 2])
        print(f"  {self.count}: {options} mount={mount} {end} after {wait:.2f} s", flush=True)
        readers = None
        with Backup(guest, archive, *options, mount=mount) as backup:
            if lots.random() < 0.8:
                backup.wait_started()
                if mount and backup.process.poll() is None:
                    try:
                        view = disks_of(backup.mountpoint)
                    except OSError:
                        view = []
                    if len(view) == len(guest.disks) and end in ("good", "reset"):
                        readers = Readers(view)
            time.sleep(wait)
            if end == "cancel":
                vmabackup("cancel", backup.id)
            elif end == "reset":
                guest.qmp.execute("system_reset")
                guest.wait_ready()
                guest.command("go 200")
            elif end != "good":
                number = {"interrupt": signal.SIGTERM, "kill": signal.SIGKILL,
                          "stop": signal.SIGSTOP}[end]
                if backup.process.poll() is None:
                    os.kill(backup.process.pid, number)
            guest.wait_steps(3)
            vmabackup("set-speed", backup.id, "0")
            status = backup.end()
        if end in ("good", "reset"):
            same(status, 0, f"exit status ({backup.message})")
        self.after(archive, options, status, readers)

    def after(self, archive, options, status, readers):
        self.graph.wait_unchanged()
        no_leftovers()
        guest_status = self.guest.command("status")
        same(guest_status["errors"], "0", f"errors in the guest ({guest_status['text']})")
        same([n for n in os.listdir(TMP) if "scratch" in n], [], "scratch files left")
        if status != 0:
            check(not os.path.exists(archive), "an archive that is not whole")
            return
        whole = archive
        if "--delta" in options:
            whole = archive + ".whole"
            result = tool("repack", "--base", self.base, archive, whole)
            same(result.returncode, 0, f"repack ({result.stderr})")
        with extracted(whole) as disks:
            self.guest.fresh_check(disks)
            if readers:
                readers.stop.set()
                for thread in readers.threads:
                    thread.join(60)
                readers.compare(disks)
        # A delta has the uuid that the bitmap is of now; a whole one made of it, another.
        for path in (archive, whole, self.base):
            if path and os.path.exists(path) and "--bitmap" not in options and path != self.base:
                os.unlink(path)
        if "--bitmap" in options:
            if self.base:
                os.unlink(self.base)
            self.base = archive if whole == archive else None
            if whole != archive:
                os.unlink(archive)
                os.unlink(whole)


def test_chaos():
    print(f"  seed {SEED}")
    lots = random.Random(SEED)
    disks = [Disk(32 << 20), Disk(24 << 20, bus="scsi", style="drive")]
    with Guest(disks) as guest:
        guest.command("go 200")
        guest.wait_steps(100)
        chaos = Chaos(guest, lots)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            chaos.one()
        print(f"  {chaos.count} backups")
        guest.pause_and_check()


run(globals())
