# SPDX-License-Identifier: GPL-2.0-or-later
"""
A QMP client: commands with their answers, and the events that came meanwhile.

A Qmp is for one thread at a time.  It never waits for ever.
"""

import json
import socket
import time


class QmpError(Exception):
    """What QEMU answered instead of a result; .kind is the error's class."""

    def __init__(self, command, error):
        super().__init__(f"{command}: {error.get('desc')}")
        self.kind = error.get("class")
        self.text = error.get("desc")


class QmpGone(Exception):
    """QEMU closed the connection."""


class Qmp:
    def __init__(self, path, seconds=30):
        """Connects to a socket that may not be there yet."""
        self.seconds = seconds
        self.events = []
        self.buffer = b""
        end = time.monotonic() + seconds
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                self.socket.close()
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
        self.greeting = self._message(end)
        self.execute("qmp_capabilities")

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _message(self, end):
        while b"\n" not in self.buffer:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("QEMU does not answer")
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            except socket.timeout:
                continue
            if not data:
                raise QmpGone()
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def execute(self, command, arguments=None, seconds=None, **more):
        """Names with a dash go into `arguments`; others may be given by name (a_b means a-b)."""
        arguments = dict(arguments or {})
        arguments.update({k.replace("_", "-"): v for k, v in more.items()})
        request = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        end = time.monotonic() + (seconds or self.seconds)
        while True:
            message = self._message(end)
            if "event" in message:
                self.events.append(message)
            elif "error" in message:
                raise QmpError(command, message["error"])
            elif "return" in message:
                return message["return"]

    def hmp(self, line):
        """A command of the human monitor; its text."""
        return self.execute("human-monitor-command", {"command-line": line})

    def wait(self, *names, seconds=None, where=lambda data: True):
        """The first event of one of these names for which `where` holds; it is taken out."""
        end = time.monotonic() + (seconds or self.seconds)
        while True:
            for event in self.events:
                if event["event"] in names and where(event.get("data", {})):
                    self.events.remove(event)
                    return event
            message = self._message(end)
            if "event" in message:
                self.events.append(message)
