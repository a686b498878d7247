#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""slow-sink.py RATE [FILE]: standard input to a file, at so many bytes a second, or to nowhere."""

import sys
import time

rate = int(sys.argv[1])
start, done = time.monotonic(), 0
with open(sys.argv[2] if len(sys.argv) > 2 else "/dev/null", "wb") as out:
    while data := sys.stdin.buffer.read1(min(65536, max(4096, rate // 20))):
        out.write(data)
        done += len(data)
        time.sleep(max(0, start + done / rate - time.monotonic()))
