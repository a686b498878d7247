#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Runs the integration tests, tests/NN-name.sh and tests/NN-name.py.

  runner.py --builddir DIR --results FILE [--variant NAME] [--long] [NAME...]

Each gets a private folder and a time limit; its log is printed if it fails.  What it leaves behind
(mounts below its folder, processes that inherited its environment) is cleaned up, and is a failure
of the test that otherwise succeeded: our programs promise to leave nothing.

A test says what it needs in one comment, `# test: WORD...`:
  timeout=SECONDS  (120)   sanitize  also run under the sanitizers   serial  must run alone
  asan  as sanitize, but not with ThreadSanitizer: there are no threads to speak of, or what is
        tested is the end of a mount, where ThreadSanitizer ends the process on its own (see
        sanitizer_reports)
  long  only with --long (which sets TEST_LONG)   optional  may be skipped on CI
"""

import argparse
import concurrent.futures
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
print_lock = threading.Lock()


class Test:
    def __init__(self, path):
        self.path = path
        self.name = os.path.splitext(os.path.basename(path))[0]
        with open(path) as f:
            match = re.search(r"^# test: (.*)$", f.read(), re.M)
        self.words = match.group(1).split() if match else []
        self.timeout = next((int(w[8:]) for w in self.words if w.startswith("timeout=")), 120)


def strays(folder):
    """Processes that were started, at whatever remove, by the test with this private folder."""
    mark = os.fsencode(f"TEST_TMP={folder}")
    found = []
    for entry in glob.glob("/proc/[0-9]*"):
        try:
            with open(entry + "/environ", "rb") as f:
                if mark in f.read().split(b"\0"):
                    with open(entry + "/cmdline", "rb") as g:
                        line = g.read().replace(b"\0", b" ").decode(errors="replace")
                    if line:        # a zombie has none
                        found.append((int(entry[6:]), line))
        except OSError:
            pass
    return found


def mounts(folder):
    with open("/proc/self/mounts") as f:
        return [m for m in (line.split()[1] for line in f) if m.startswith(folder + "/")]


def clean(folder):
    """Ends what the test left; returns what that was, in words."""
    left = []
    for mount in reversed(mounts(folder)):
        left.append(f"mount {mount}")
        for command in (["fusermount3", "-uz", mount], ["umount", "-l", mount]):
            if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0:
                break
    for _ in range(20):             # what is just ending is not left behind
        if not strays(folder):
            return left
        time.sleep(0.1)
    for pid, line in strays(folder):
        left.append(f"process {line}")
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    return left


def sanitizer_reports(folder):
    """A daemon's report has nowhere else to go than a file."""
    text = ""
    for path in glob.glob(os.path.join(folder, "sanitizer.*")):
        with open(path, errors="replace") as f:
            report = f.read()
        # libfuse cancels its idle threads in the middle of a read that ThreadSanitizer was told to
        # ignore, and it then misses the end of that.  Such a report tells of nothing else.
        if "finished with ignores enabled" in report and "WARNING:" not in report:
            continue
        text += report
    return text


def folder_for_much():
    """
    For archives of a million scattered pieces: a file system on a disk with online discard takes
    minutes to delete such a file.
    """
    shm = "/dev/shm"
    if os.access(shm, os.W_OK):
        free = os.statvfs(shm)
        if free.f_bavail * free.f_frsize > 3 << 30:
            return tempfile.mkdtemp(prefix="vmafs-test.", dir=shm)
    return tempfile.mkdtemp(prefix="vmafs-test.")


def default_signals():
    """Whoever started us in the background may ignore these; the tests are about them."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)


def environment(args, folder, much):
    env = dict(os.environ, TEST_TMP=folder, TEST_BIG=much, BUILDDIR=os.path.abspath(args.builddir),
               TEST_VARIANT=args.variant, TMPDIR=folder)
    env["TEST_KIT"] = os.path.join(os.path.dirname(env["BUILDDIR"]), "guest-kit")
    if args.long:
        env["TEST_LONG"] = "1"
    log = f"log_path={folder}/sanitizer"
    env["ASAN_OPTIONS"] = f"{log}:exitcode=99:detect_leaks=1:" + env.get("ASAN_OPTIONS", "")
    env["UBSAN_OPTIONS"] = f"{log}:print_stacktrace=1:halt_on_error=1:exitcode=99"
    env["LSAN_OPTIONS"] = f"suppressions={TESTS}/lib/lsan.supp:print_suppressions=0"
    env["TSAN_OPTIONS"] = (f"{log}:exitcode=99:suppressions={TESTS}/lib/tsan.supp:"
                           "ignore_noninstrumented_modules=1")
    return env


def run_one(test, args):
    folder, much = tempfile.mkdtemp(prefix="vmafs-test."), folder_for_much()
    # The log stands outside of the folder, so that a test's `du` or `ls` does not see it.
    with tempfile.TemporaryFile() as log:
        start = time.monotonic()
        process = subprocess.Popen([test.path], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   cwd=folder, env=environment(args, folder, much),
                                   start_new_session=True, preexec_fn=default_signals)
        limit = test.timeout * (4 if args.variant != "plain" else 1)
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = f"no end after {limit} s"
            stacks(folder, log)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        seconds = time.monotonic() - start
        left = clean(folder)
        reports = sanitizer_reports(folder)
        log.seek(0)
        text = log.read().decode(errors="replace")
    for path in (folder, much):
        shutil.rmtree(path, ignore_errors=True)

    name = test.name if args.variant == "plain" else f"{args.variant}/{test.name}"
    if status == 77:
        reason = re.findall(r"^skip: (.*)$", text, re.M)
        kind, line = "skip", f"skip {name}: {reason[-1] if reason else 'no reason given'}"
        if args.ci and "optional" not in test.words:
            kind, line = "FAIL", f"FAIL {name}: skipped, which it may not be here: {reason}"
    elif status == 0 and not left and not reports:
        kind, line = "ok", f"ok {name} ({seconds:.1f} s)"
    else:
        kind, line = "FAIL", f"FAIL {name} ({seconds:.1f} s)"
    with print_lock:
        if kind == "FAIL":
            print(f"---- log of {name} (status {status})")
            print(text[-20000:] + reports[-20000:] + "".join(f"left behind: {x}\n" for x in left))
            print("----")
        print(line, flush=True)
        with open(args.results, "a") as out:
            out.write(line + "\n")


def stacks(folder, log):
    """Where everything that hangs, hangs."""
    log.seek(0, os.SEEK_END)
    for pid, line in strays(folder):
        log.write(f"hangs: {pid} {line}\n".encode())
        for task in glob.glob(f"/proc/{pid}/task/*"):
            for what in ("wchan", "stack"):
                try:
                    with open(f"{task}/{what}", "rb") as f:
                        log.write(f"  {task} {what}: ".encode() + f.read() + b"\n")
                except OSError:
                    pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--builddir", required=True)
    parser.add_argument("--results", required=True, help="result lines are appended here")
    parser.add_argument("--variant", default="plain", help="plain, asan or tsan")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("names", nargs="*", help="parts of names; default: all")
    args = parser.parse_args()
    args.ci = os.environ.get("CI") == "true"

    tests = [Test(p) for p in sorted(glob.glob(os.path.join(TESTS, "[0-9][0-9]-*.*")))
             if os.access(p, os.X_OK)]
    tests = [t for t in tests
             if (args.long or "long" not in t.words)
             and (args.variant == "plain" or "sanitize" in t.words
                  or (args.variant == "asan" and "asan" in t.words))
             and (not args.names or any(n in t.name for n in args.names))]
    together = [t for t in tests if "serial" not in t.words]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for future in [pool.submit(run_one, t, args) for t in together]:
            future.result()
    for test in tests:
        if "serial" in test.words:
            run_one(test, args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
