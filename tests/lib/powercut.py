# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a power failure can leave of the files that a program was writing: from a record of all it did
(tests/lib/record.c).

The model: what was written to a file is on the medium for certain only after a sync of that file;
before, any of its sectors may be there or not, in any order, and the file may have any of the
lengths it had.  Names (made, renamed, removed) reach the medium in order, and for certain only
when their directory, or a file whose name it is, was synced.  No file's data wait for a name, and
no name waits for a file's data.
"""

import os
import random
import struct

from harness import *

LIBRARY = os.path.join(os.path.abspath(BUILDDIR), "tests", "record.so")
SECTOR = 512


def record(folder, log, *command, env=None, check_status=0, **more):
    """Runs a command that changes things in `folder`; the events."""
    environment = dict(env or os.environ, LD_PRELOAD=LIBRARY, RECORD_LOG=log, RECORD_FOLDER=folder,
                       RECORD_PROGRAM=os.path.basename(str(command[0])), **more)
    result = run_program(*command, env=environment)
    same(result.returncode, check_status, f"status of {command}: {result.stderr}")
    return list(events(slurp(log), os.path.realpath(folder) + "/"))


def events(data, folder):
    at = 0
    while at < len(data):
        kind, inode, offset, size = struct.unpack_from("<cQQQ", data, at)
        content, at = data[at + 25:at + 25 + size], at + 25 + size
        kind = kind.decode()
        if kind in "NMU":
            paths = [os.path.normpath(p.decode()) for p in content.split(b"\0")]
            if not all(p.startswith(folder) for p in paths):
                continue
            yield kind, inode, 0, [p[len(folder):] for p in paths]
        else:
            yield kind, inode, offset, int(content) if kind == "Z" else content


class Medium:
    """The state after some events; `crash()` gives one of those that a failure right then can leave."""

    def __init__(self):
        self.synced, self.pending = {}, {}          # inode -> content; inode -> what came since
        self.names, self.changes = {}, []           # durable names; changes since

    def apply(self, event):
        kind, inode, offset, what = event
        if kind in "NMU":
            self.changes.append(event)
        elif kind == "S" and inode in self.pending:
            self.synced[inode] = self.content(inode, None)
            self.pending[inode] = []
            # The names of a file go with it.
            if any(e[0] == "N" and e[1] == inode for e in self.changes):
                self.commit_names(max(i for i, e in enumerate(self.changes)
                                      if e[0] == "N" and e[1] == inode) + 1)
        elif kind == "S":
            self.commit_names(len(self.changes))    # a directory
        else:
            self.pending.setdefault(inode, []).append(event)

    def commit_names(self, n):
        self.names = self.names_after(n)
        del self.changes[:n]

    def names_after(self, n):
        names = dict(self.names)
        for kind, inode, _, paths in self.changes[:n]:
            if kind == "N":
                names[paths[0]] = inode
            elif kind == "U":
                names.pop(paths[0], None)
            elif paths[0] in names:
                names[paths[1]] = names.pop(paths[0])
        return names

    def content(self, inode, lots):
        """All that was written, or, with lots, any part of it."""
        data = bytearray(self.synced.get(inode, b""))
        keep = 1 if lots is None else lots.choice((0, 0.5, 0.9, 1))
        for kind, _, offset, what in self.pending.get(inode, ()):
            if kind == "T":
                if keep == 1 or lots.random() < keep:
                    del data[offset:]
                    data += bytes(offset - len(data))
                continue
            size = what if kind == "Z" else len(what)
            end = min(offset + size, len(data)) if kind == "Z" else offset + size
            if keep == 1 or lots.random() < keep:   # the length, which does not wait for data
                data += bytes(max(0, end - len(data)))
            at = offset
            while at < end:
                stop = min(end, (at // SECTOR + 1) * SECTOR)
                if (keep == 1 or lots.random() < keep) and (stop <= len(data) or keep == 1):
                    data[at:stop] = bytes(stop - at) if kind == "Z" else what[at - offset:stop - offset]
                at = stop
        return bytes(data)

    def crash(self, folder, lots):
        n = lots.choice((0, len(self.changes), lots.randint(0, len(self.changes))))
        for path, inode in self.names_after(n).items():
            full = os.path.join(folder, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "wb") as f:
                f.write(self.content(inode, lots))


def failures(recorded, seed, rounds):
    """
    A folder of what is left, after each number of events, several times; with how many events
    there were.
    """
    medium, lots = Medium(), random.Random(seed)
    for done in range(len(recorded) + 1):
        if done > 0:
            medium.apply(recorded[done - 1])
        for _ in range(rounds):
            with folder() as path:
                medium.crash(path, lots)
                yield done, path
