# SPDX-License-Identifier: GPL-2.0-or-later
"""
Monitors that are not what they should be: a proxy that holds a command back, and servers that misbehave.
"""

import contextlib
import json
import os
import select
import socket
import threading


class _Listener:
    def __init__(self, path):
        self.path = path
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(path)
        self.socket.listen()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join(30)
        self.socket.close()
        os.unlink(self.path)

    def _accept(self):
        while not self.over.is_set():
            if select.select([self.socket], [], [], 0.1)[0]:
                with self.socket.accept()[0] as client, contextlib.suppress(OSError):
                    self.serve(client)


class Proxy(_Listener):
    """Passes all on to a QEMU, one client at a time; the first command `hold` waits for let_go()."""

    def __init__(self, path, behind, hold):
        super().__init__(path)
        self.behind, self.hold = behind, hold.encode()
        self.held, self.free = threading.Event(), threading.Event()

    def wait_held(self):
        if not self.held.wait(60):
            raise AssertionError(f"no {self.hold}")

    def let_go(self):
        self.free.set()

    def serve(self, client):
        with socket.socket(socket.AF_UNIX) as qemu:
            qemu.connect(self.behind)
            while not self.over.is_set():
                ready = select.select([client, qemu], [], [], 0.1)[0]
                for one, other in ((client, qemu), (qemu, client)):
                    if one not in ready:
                        continue
                    data, fds, _, _ = socket.recv_fds(one, 65536, 8)
                    if not data:
                        return
                    if one is client and self.hold in data and not self.held.is_set():
                        self.held.set()
                        self.free.wait(60)
                    socket.send_fds(other, [data], fds)
                    for fd in fds:
                        os.close(fd)


GREETING = {"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 5}, "package": ""},
                    "capabilities": []}}
COMMANDS = ["blockdev-add", "blockdev-del", "blockdev-backup", "query-jobs", "job-cancel",
            "job-dismiss", "transaction", "query-named-block-nodes", "x-debug-query-block-graph",
            "stop", "cont", "query-status", "qom-set", "query-block"]


def schema(without=(), options=("on-cbw-error", "cbw-timeout"), drivers=("copy-before-write",
                                                                         "snapshot-access")):
    types = [{"name": c, "meta-type": "command", "arg-type": c + "-arg", "ret-type": "0"}
             for c in COMMANDS if c not in without]
    types += [{"name": c + "-arg", "meta-type": "object", "members": []} for c in COMMANDS
              if c != "blockdev-add"]
    types.append({"name": "blockdev-add-arg", "meta-type": "object", "tag": "driver",
                  "members": [{"name": "driver", "type": "drivers"}],
                  "variants": [{"case": d, "type": d} for d in drivers]})
    types.append({"name": "copy-before-write", "meta-type": "object",
                  "members": [{"name": o, "type": "str"} for o in options]})
    types.append({"name": "snapshot-access", "meta-type": "object", "members": []})
    return types


def block(device, qdev, node, **inserted):
    return {"device": device, "qdev": qdev, "locked": False, "removable": False, "type": "unknown",
            "inserted": {"node-name": node, "ro": False, "drv": "raw",
                         "image": {"virtual-size": 65536}, **inserted}}


# What a server does, and what shall be said of it.
ODD = {
    "no copy-before-write": "too old: it has no block driver copy-before-write",
    "no cbw-timeout": "too old: .*cbw-timeout",
    "no snapshot-access": "too old: it has no block driver snapshot-access",
    "no blockdev-backup": "too old: it has no command blockdev-backup",
    "two of a name": "two disks are called 'drive-scsi0'",
    "has a filter": "another live backup has this disk",
    "read-only": "no disk to back up",
    "size of nonsense": "the disk has no size",
    "no JSON": "invalid JSON",
    "too deep": "too deep",
    "closes": "connection was closed|no reply",
    "wrong types": "QEMU|too old",
}


class Server(_Listener):
    """A monitor with one of the behaviours of ODD."""

    def __init__(self, path, behaviour):
        super().__init__(path)
        self.behaviour = behaviour
        self.forbidden = []

    def schema(self):
        return {"no copy-before-write": schema(drivers=("raw",)),
                "no cbw-timeout": schema(options=("on-cbw-error",)),
                "no snapshot-access": schema(drivers=("copy-before-write",)),
                "no blockdev-backup": schema(without=("blockdev-backup",)),
                }.get(self.behaviour, schema())

    def blocks(self):
        return {"two of a name": [block("", "scsi0", "a"), block("drive-scsi0", "x", "b")],
                "has a filter": [block("", "scsi0", "a", drv="copy-before-write")],
                "read-only": [block("", "scsi0", "a", ro=True)],
                "size of nonsense": [block("", "scsi0", "a", image={"virtual-size": -5})],
                }.get(self.behaviour, [block("", "scsi0", "a")])

    def answer(self, command):
        if command == "query-qmp-schema":
            return {"no JSON": "}{", "too deep": '{"return": ' + "[" * 5000 + "]" * 5000 + "}",
                    "closes": None,
                    "wrong types": json.dumps({"return": [1, None, {"name": 3}, []]}),
                    }.get(self.behaviour, json.dumps({"return": self.schema()}))
        if command == "query-commands":
            return json.dumps({"return": [t for t in self.schema() if t["meta-type"] == "command"]})
        if command == "query-block":
            return json.dumps({"return": self.blocks()})
        if command not in ("qmp_capabilities", "query-named-block-nodes", "query-jobs",
                           "query-version"):
            self.forbidden.append(command)
        return json.dumps({"return": {} if command == "qmp_capabilities" else []})

    def serve(self, client):
        client.sendall(json.dumps(GREETING).encode() + b"\r\n")
        for line in client.makefile("rb"):
            request = json.loads(line)
            text = self.answer(request["execute"])
            if text is None:
                return
            if text.endswith("}") and text.startswith("{"):
                text = text[:-1] + f', "id": {request["id"]}}}'
            client.sendall(text.encode() + b"\r\n")
