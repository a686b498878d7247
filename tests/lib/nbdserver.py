# SPDX-License-Identifier: GPL-2.0-or-later
"""
A small NBD server on a unix socket, read-only, whose answers a test makes up.

It knows just enough of the protocol for libnbd: fixed newstyle, one export of any name, simple replies.
"""

import contextlib
import os
import socket
import struct
import threading

OPTION_REPLY = 0x3e889045565a9
REQUEST, REPLY = 0x25609513, 0x67446698
EXPORT_NAME, ABORT, INFO, GO = 1, 2, 6, 7
EIO = 5


class NbdServer:
    """
    answer(offset, size) gives the bytes, None for EIO, or the number of another error; it may take its time.
    `blocks` are the sizes of blocks that it speaks of: the least, the best, the largest.
    """

    def __init__(self, path, size, answer, blocks=None, greeting=b"NBDMAGICIHAVEOPT"):
        self.size, self.answer, self.reads = size, answer, []
        self.blocks, self.greeting = blocks, greeting
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def uri(self):
        return f"nbd+unix:///x?socket={self.path}"

    def end(self):
        self.listener.close()
        os.unlink(self.path)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection = self.listener.accept()[0]
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError, EOFError), connection:
            if self._negotiate(connection):
                lock = threading.Lock()
                while True:
                    magic, _, kind, cookie, offset, size = struct.unpack(
                        ">IHHQQI", self._receive(connection, 28))
                    if magic != REQUEST or kind != 0:
                        return
                    threading.Thread(target=self._read, daemon=True,
                                     args=[connection, lock, cookie, offset, size]).start()

    def _read(self, connection, lock, cookie, offset, size):
        self.reads.append((offset, size))
        data = self.answer(offset, size)
        error = EIO if data is None else data if isinstance(data, int) else 0
        with contextlib.suppress(OSError), lock:
            connection.sendall(struct.pack(">IIQ", REPLY, error, cookie) + (b"" if error else data))

    def _negotiate(self, connection):
        connection.sendall(self.greeting + struct.pack(">H", 3))
        self._receive(connection, 4)
        flags = 1 | 2 | 1 << 8      # has flags, read-only, several connections see the same
        while True:
            _, option, length = struct.unpack(">8sII", self._receive(connection, 16))
            self._receive(connection, length)

            def reply(kind, data=b"", option=option):
                connection.sendall(struct.pack(">QIII", OPTION_REPLY, option, kind, len(data))
                                   + data)
            if option == GO:
                reply(3, struct.pack(">HQH", 0, self.size, flags))
                if self.blocks is not None:
                    reply(3, struct.pack(">HIII", 3, *self.blocks))
                reply(1)
                return True
            if option == ABORT:
                reply(1)
                return False
            reply(0x80000001)       # not supported

    @staticmethod
    def _receive(connection, size):
        data = b""
        while len(data) < size:
            more = connection.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data
