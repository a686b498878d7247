#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# test: long timeout=7200
"""
The tests of faults, power failures and load at their full length: all places, all moments, a
thousand mounts, two hundred kills.
"""

import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = ("90-faults.py", "90-faults-mount.py", "91-power-cut.py", "92-load.py")

failed = []
for name in TESTS:
    print(f"{name}:", flush=True)
    if subprocess.run([os.path.join(HERE, name), *sys.argv[1:]], check=False,
                      env=dict(os.environ, TEST_DEEP="1")).returncode != 0:
        failed.append(name)
sys.exit(f"failed: {failed}" if failed else 0)
