#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=120
"""
A QEMU that lacks something is told so by name, before anything in it is touched; one that talks
nonsense does no harm.  The QEMU here is a few lines of Python with a real one's schema, made older.
"""

import contextlib
import copy
import json
import os
import socket
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))
from harness import *
from guest import Disk, Guest
from live import vmabackup

GREETING = {"QMP": {"version": {"qemu": {"micro": 0, "minor": 1, "major": 5}, "package": ""},
                    "capabilities": ["oob"]}}
HARMLESS = {"qmp_capabilities", "query-qmp-schema", "query-version", "query-status", "query-block",
            "query-named-block-nodes", "query-block-jobs", "query-block-exports", "query-commands",
            "query-iothreads", "query-jobs", "qom-list", "qom-get", "x-debug-query-block-graph",
            "query-name", "query-uuid", "query-migrate", "qom-list-types", "query-kvm"}


class Fake:
    """A QMP server that answers from a table, and remembers what it was asked."""

    def __init__(self, answers, greeting=GREETING, raw=None):
        self.path = os.path.join(TMP, "fake")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self.answers, self.greeting, self.raw = answers, greeting, raw
        self.asked = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(5)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError), connection:
            if self.raw is not None:
                for piece in self.raw:
                    connection.sendall(piece)
                return
            connection.sendall(json.dumps(self.greeting).encode() + b"\r\n")
            for line in connection.makefile("rb"):
                request = json.loads(line)
                name = request["execute"]
                self.asked.append(name)
                if name in self.answers:
                    reply = {"return": self.answers[name]}
                else:
                    reply = {"error": {"class": "CommandNotFound",
                                       "desc": f"The command {name} has not been found"}}
                if "id" in request:
                    reply["id"] = request["id"]
                connection.sendall(json.dumps(reply).encode() + b"\r\n")


def real():
    """What the real QEMU here answers to harmless questions."""
    answers = {"qmp_capabilities": {}}
    with Guest([Disk(1 << 20)], boot=False) as guest:
        for name in HARMLESS - {"qmp_capabilities", "qom-list", "qom-get", "qom-list-types"}:
            with contextlib.suppress(Exception):
                answers[name] = guest.qmp.execute(name)
    return answers


REAL = real()


def without(what):
    """The schema without a command, or a member or value of that name anywhere."""
    schema = []
    for entry in copy.deepcopy(REAL["query-qmp-schema"]):
        if entry["name"] == what and entry["meta-type"] == "command":
            continue
        for key in ("values", "members", "variants"):
            if key in entry:
                entry[key] = [v for v in entry[key] if what not in (
                    [v] if isinstance(v, str) else [v.get("name"), v.get("case")])]
        schema.append(entry)
    return dict(REAL, **{"query-qmp-schema": schema})


def refused(answers, name, *options, **more):
    archive = os.path.join(TMP, "a.vma")
    with Fake(answers, **more) as fake:
        result = vmabackup("run", "--qmp", fake.path, *options, archive)
        same(result.returncode, 1, f"exit status without {name} ({result.stderr})")
        check(name in result.stderr, f"{name} is not named: {result.stderr}")
        same(len(result.stderr.splitlines()), 1, f"lines of {result.stderr}")
        touched = set(fake.asked) - HARMLESS
        same(touched, set(), f"commands that are not questions, without {name}")
    check(not os.path.exists(archive), "there is an archive")
    same([n for n in os.listdir(TMP) if n.startswith("a.vma")], [], "files")


def test_too_old():
    for name in ("copy-before-write", "snapshot-access", "on-cbw-error", "cbw-timeout",
                 "blockdev-backup"):
        refused(without(name), name)


def test_no_schema():
    refused({"qmp_capabilities": {}}, "query-qmp-schema")


def test_bitmaps():
    refused(without("block-dirty-bitmap-merge"), "block-dirty-bitmap-merge", "--bitmap", "daily")


def test_no_disks():
    refused(dict(REAL, **{"query-block": []}), "disk")


def test_nonsense():
    big = b'{"QMP": "' + b"x" * (1 << 20)
    for raw in ([], [b"\n"], [b"hello\n"], [b"[" * 100000], [b"{}\n{}\n"], [b"\0" * 100],
                [big] * 100, [json.dumps(GREETING).encode() + b"\n", b'{"return": 5}\n' * 10],
                [json.dumps(GREETING).encode() + b"\n", b'{"event": 7}\n']):
        with Fake({}, raw=raw) as fake:
            result = vmabackup("run", "--qmp", fake.path, os.path.join(TMP, "a.vma"))
            same(result.returncode, 1, f"exit status for {raw[:1]!r:.50} ({result.stderr})")
            same(len(result.stderr.splitlines()), 1, f"lines of {result.stderr!r:.200}")
            check(len(result.stderr) < 1000, "a message without end")


def test_nobody():
    result = vmabackup("run", "--qmp", os.path.join(TMP, "nobody"), os.path.join(TMP, "a.vma"))
    same(result.returncode, 1, f"exit status ({result.stderr})")
    check("nobody" in result.stderr, result.stderr)


run(globals())
