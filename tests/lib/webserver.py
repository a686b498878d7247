#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
A web server that knows ranges of bytes, which Python's own does not; also with TLS; what goes to one of its
names may have to be signed as S3 has it. PORTFILE gets the port when it listens.
"""

import argparse
import os
import re
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import s3sign


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def find(self):
        path = self.path.partition("?")[0]
        if options.s3 and self.headers.get("Host", "").split(":")[0].endswith(options.s3[0]):
            if not s3sign.signed(self.command, self.path, self.headers, *options.s3[1:]):
                self.send_error(403)
                return None
        try:
            return open(os.path.join(options.folder, os.path.basename(path)), "rb")
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


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder")
parser.add_argument("portfile")
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
parser.add_argument("--s3", nargs=3, metavar=("HOST", "ACCESS", "SECRET"))
options = parser.parse_args()

server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
if options.tls:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*options.tls)
    # The handshake is the business of each connection's thread.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
with open(options.portfile + ".new", "w", encoding="ascii") as f:
    f.write(str(server.server_port))
os.rename(options.portfile + ".new", options.portfile)
server.serve_forever()
