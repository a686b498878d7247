#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
A web server that knows ranges of bytes, which Python's own does not: webserver.py FOLDER PORTFILE
"""

import os
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def find(self):
        try:
            return open(os.path.join(sys.argv[1], os.path.basename(self.path)), "rb")
        except OSError:
            self.send_error(404)
            return None

    def do_HEAD(self):
        file = self.find()
        if file:
            with file:
                self.send_response(200)
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
                self.end_headers()

    def do_GET(self):
        file = self.find()
        if not file:
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            start, end = (int(wanted[1]), int(wanted[2]) + 1) if wanted else (0, size)
            end = min(end, size)
            self.send_response(206 if wanted else 200)
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            self.send_header("Content-Length", str(end - start))
            self.end_headers()
            self.wfile.write(os.pread(file.fileno(), end - start, start))

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open(sys.argv[2] + ".new", "w", encoding="ascii") as f:
    f.write(str(server.server_port))
os.rename(sys.argv[2] + ".new", sys.argv[2])
server.serve_forever()
