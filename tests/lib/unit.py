#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Runs the unit tests of one build with meson and prints one result line each, as runner.py does.

  unit.py --builddir DIR --results FILE [--variant NAME] [NAME...]
"""

import argparse
import json
import os
import subprocess
import sys

LIB = os.path.dirname(os.path.abspath(__file__))


def listed(builddir, names):
    """The tests of the build whose names (as we print them) contain one of `names`."""
    output = subprocess.run(["meson", "introspect", "--tests", builddir], check=True,
                            capture_output=True, text=True).stdout
    found = [test["name"] for test in json.loads(output)]
    return [n for n in found if not names or any(part in "unit/" + n for part in names)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--builddir", required=True)
    parser.add_argument("--results", required=True)
    parser.add_argument("--variant", default="plain")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()

    wanted = listed(args.builddir, args.names)
    if not wanted:
        if args.names:
            return 0
        lines = [f"FAIL {args.variant}/unit: the build has no unit tests"]
    else:
        lines = run(args, wanted)
    with open(args.results, "a") as out:
        for line in lines:
            print(line, flush=True)
            out.write(line + "\n")
    return 0


def run(args, wanted):
    log = os.path.join(args.builddir, "meson-logs", "testlog.json")
    if os.path.exists(log):
        os.unlink(log)              # an old one must not be taken for this run's
    slow = {"plain": 1, "asan": 4, "tsan": 8}.get(args.variant, 10)
    env = dict(os.environ, ASAN_OPTIONS="detect_leaks=1", G_DEBUG="fatal-criticals",
               UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1",
               LSAN_OPTIONS=f"suppressions={LIB}/lsan.supp:print_suppressions=0",
               TSAN_OPTIONS=f"suppressions={LIB}/tsan.supp:ignore_noninstrumented_modules=1")
    result = subprocess.run(["meson", "test", "-C", args.builddir, "--no-rebuild",
                             "--num-processes", "2", "-t", str(slow), *wanted], env=env,
                            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    prefix = "unit" if args.variant == "plain" else f"{args.variant}/unit"
    lines, seen = [], set()
    if os.path.exists(log):
        with open(log) as f:
            for test in map(json.loads, f):
                # "project / name", or "project:suite / name"
                name = test["name"].split(" / ")[-1]
                seen.add(name)
                lines.append(line(f"{prefix}/{name}", test, args))
    for name in wanted:
        if name not in seen:
            lines.append(f"FAIL {prefix}/{name}: no result ({(result.stdout + result.stderr).strip()[-200:]!r})")
    return lines


def line(name, test, args):
    if test["result"] == "OK":
        return f"ok {name} ({test['duration']:.1f} s)"
    if test["result"] == "SKIP":
        kind = "FAIL" if os.environ.get("CI") == "true" else "skip"
        return f"{kind} {name}: skipped by itself"
    print(f"---- log of {name} ({test['result']})")
    print((test.get("stdout") or "")[-10000:] + (test.get("stderr") or "")[-10000:])
    print("----")
    return f"FAIL {name}"


if __name__ == "__main__":
    sys.exit(main())
