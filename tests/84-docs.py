#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=200
"""
The commands of the guides are run as they stand: each ```sh block of a page, one after another, in a folder
with backup.vma.zst, which is what the pages say they start from.
"""

import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *

DOCS = os.path.join(TESTS, "..", "docs")


def blocks(page):
    text = slurp(os.path.join(DOCS, page)).decode()
    return re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)


def make_backup(path):
    """A guest with a partition table and an ext4, and a config."""
    disk = os.path.join(TMP, "guest.raw")
    script = """
        truncate -s 64M "$1"
        echo '2048,' | sfdisk -q "$1"
        mkdir -p "$1.tree/etc"
        echo guest > "$1.tree/etc/hostname"
        mkfs.ext4 -q -F -d "$1.tree" -E offset=1048576 "$1" 62M
        printf 'cores: 2\\nmemory: 2048\\nscsi0: local:vm-100-disk-0,size=64M\\n' > "$1.conf"
        "$2" create "$3" -c qemu-server.conf="$1.conf" drive-scsi0="$1"
    """
    result = run_program("bash", "-euc", script, "bash", disk, VMATOOL, path)
    same(result.returncode, 0, f"making the guest: {result.stderr}")


def run_page(page):
    if os.geteuid() != 0:
        skip("the pages use umount and losetup as root")
    with folder() as place:
        make_backup(os.path.join(place, "backup.vma.zst"))
        os.mkdir(os.path.join(place, "mnt"))
        found = blocks(page)
        check(len(found) >= 3, f"{page}: only {len(found)} blocks of commands")
        path = os.pathsep.join([os.path.dirname(VMATOOL), os.path.dirname(VMAFS), os.environ["PATH"]])
        for block in found:
            result = run_program("bash", "-euo", "pipefail", "-c", block, cwd=place,
                                 env=dict(os.environ, PATH=path))
            same(result.returncode, 0,
                 f"{page}: status of\n{block}{result.stdout}{result.stderr}\n")
        check(not is_mounted(os.path.join(place, "mnt")), f"{page}: leaves its mount")


def test_migration():
    run_page("migration.md")


def test_forensics():
    run_page("forensics.md")


def shown(path):
    """What a recorded session shows, without what differs from run to run."""
    lines = slurp(path).decode().splitlines()
    text = "".join(json.loads(line)[2] for line in lines[1:])
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", text)
    return re.sub(" +", " ", re.sub(r"\d+(\.\d+)?[KMG]?", "N", text))


def test_session():
    """The recorded session is what the programs still do."""
    made = os.path.join(TMP, "session.cast")
    result = run_program(os.path.join(TESTS, "..", "scripts", "record-session"), made,
                         os.path.dirname(VMATOOL), os.path.dirname(VMAFS))
    same(result.returncode, 0, f"status of the recording: {result.stderr}")
    same(shown(made), shown(os.path.join(DOCS, "session.cast")), "docs/session.cast (record it anew?)")


run(globals())
