#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=120
"""
Of the README and the guides: each block says what it is, those that no test runs are few and known, and each
option and subcommand in the text is one that the programs have. And the recorded session is true.

What runs the commands: 82-libvirt, 85-docs-remote, 89-docs-pages.
"""

import glob
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *
import pages

TOP = os.path.join(TESTS, "..")
DOCS = os.path.join(TOP, "docs")
PAGES = [os.path.join(TOP, "README.md")] + sorted(glob.glob(os.path.join(DOCS, "*.md")))
# Which test runs the commands of a page; those that have none are not here.
RUN_BY = {"libvirt.md": "82-libvirt.sh", "remote.md": "85-docs-remote.sh"}
RUN_BY.update((page, "89-docs-pages.sh") for page in (
    "README.md", "single-file-restore.md", "guest-files.md", "overlay.md", "forensics.md", "migration.md",
    "live-backup.md"))
# Blocks that are not run: each has its reason in the page.
NOT_RUN = {"README.md": 2, "remote.md": 2, "migration.md": 1, "single-file-restore.md": 1, "live-backup.md": 1,
           "TESTING.md": 2}


def test_blocks():
    check(len(PAGES) > 10, "the pages are somewhere else")
    not_run = {}
    for path in PAGES:
        page = os.path.basename(path)
        for block in pages.blocks(path):
            if block.script() and not block.not_run:
                check(page in RUN_BY, f"{block}: commands of a page that no test runs")
            if block.not_run:
                not_run[page] = not_run.get(page, 0) + 1
    same(not_run, NOT_RUN, "blocks that are not run")
    for page, test in RUN_BY.items():
        check(page in slurp(os.path.join(TESTS, test)).decode(), f"{page} is not run by {test}")


def all_help():
    """Words of the programs' help: for each program, and each command of one."""
    found = {}
    for name, folder in (("vmafs", "fuse"), ("vmatool", "tool"), ("vmabackup", "backup"),
                         ("mount.vmafs", "mount-helper")):
        program = os.path.join(BUILDDIR, folder, name)
        text = run_program(program, "--help").stdout
        found[name] = text
        for command in re.findall(r"^  ([a-z-]+)  ", text, re.M) if name != "vmafs" else []:
            found[f"{name} {command}"] = run_program(program, command, "--help").stdout
    found["mount -t vmafs"] = found["mount.vmafs"] + found["vmafs"]
    found["nbdkit vma"] = run_program("nbdkit", os.path.join(BUILDDIR, "nbdkit/nbdkit-vma-plugin.so"),
                                      "--help").stdout
    return found


def test_text():
    """A command in the text, such as `vmafs -o memory_limit=8G`."""
    helps, count = all_help(), 0
    check("vmatool create" in helps and "vmabackup run" in helps, f"commands: {list(helps)}")
    for path in PAGES:
        text = re.sub(r"^```.*?^```$", "", slurp(path).decode(), flags=re.M | re.S)
        for span in re.findall(r"`((?:vmafs|vmatool|vmabackup|mount -t vmafs|mount\.vmafs) [^`]+)`", text):
            where = f"{os.path.basename(path)}: `{span}`"
            words = span.split()
            program = "mount -t vmafs" if words[0] == "mount" else words[0]
            if program in ("vmatool", "vmabackup") and not words[1].startswith("-"):
                program = " ".join(words[:2])
                check(program in helps, f"{where}: there is no such command")
            count += 1
            for option in re.findall(r" (--[a-z][a-z-]*)", span):
                check(option in helps[program] or option in ("--help", "--version"),
                      f"{where}: {program} has no {option}")
            for names in re.findall(r" -o ([^ ]+)", span):
                for name in re.findall(r"(?:^|,)([a-z_]+)", names):
                    check(re.search(rf"\b{name}\b", helps[program]), f"{where}: no -o {name}")
    check(count > 30, f"only {count} commands in the text")


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
