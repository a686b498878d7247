#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Reads through vmafs against the least that any FUSE driver with data in a file can do: null.c with one
# pread() for each request.  What is lost against that is our own doing; what both lose against
# answers from memory is the machine's.  Ratios above 1 are in our favour; medians of five rounds.
#
#   bench/control.sh [BUILD]      default: build-bench, as bench/run makes it; root

set -euo pipefail

build=${1:-$(dirname "$0")/../build-bench}
folder=$(mktemp -d /dev/shm/vmafs-control.XXXXXX)
ours=$folder/ours null=$folder/null zeros=$folder/zeros
cleanup()
{
    umount "$ours" "$null" "$zeros" 2>/dev/null || true
    rm -rf "$folder"
}
trap cleanup EXIT

mkdir "$ours" "$null" "$zeros"
head -c 1G /dev/urandom >"$folder/true.raw"
"$build/tool/vmatool" create "$folder/a.vma" drive-scsi0="$folder/true.raw"

reader() # FILE KIND SIZE THREADS FIELD [WORD]
{
    "$build/bench/reader" "$1" "$2" "$3" "$4" drop ${6:+"$6"} | grep -oP "$5\": \K[0-9.]*"
}

one() # NAME FILE MODE
{
    echo "$3 $1 $(reader "$2" seq 1048576 1 seconds) $(reader "$2" rnd 4096 1 reads seconds=1) \
$(reader "$2" rnd 4096 4 reads seconds=1)"
}

for mode in pc direct_io; do
    words=()
    [ $mode = pc ] || words=(direct_io)
    "$build/fuse/vmafs" "$folder/a.vma" "$ours" -o "wait${words[0]:+,${words[0]}}" --index-cache=none
    "$build/bench/null" 1073741824 "$null" "${words[@]}" "$folder/true.raw" >/dev/null 2>&1 &
    "$build/bench/null" 1073741824 "$zeros" "${words[@]}" >/dev/null 2>&1 &
    for mount in "$null" "$zeros"; do
        until mountpoint -q "$mount"; do sleep 0.1; done
        echo 1024 >"/sys/class/bdi/$(awk -v m="$mount" '$5 == m { print $3 }' \
            /proc/self/mountinfo)/read_ahead_kb"
    done
    for _ in 1 2 3 4 5; do
        one ours "$ours/disk-drive-scsi0.raw" "$mode"
        one null "$null/disk.raw" "$mode"
        one zeros "$zeros/disk.raw" "$mode"
    done
    umount "$ours" "$null" "$zeros"
done | python3 -c '
import collections, statistics, sys
rows = collections.defaultdict(list)
for line in sys.stdin:
    mode, who, seconds, one, four = line.split()
    rows[mode, who].append((1 / float(seconds), float(one), float(four)))
for mode in ("pc", "direct_io"):
    rounds = list(zip(rows[mode, "ours"], rows[mode, "null"], rows[mode, "zeros"]))
    for i, name in enumerate(("seq 1M", "rnd 4k", "rnd 4k x4")):
        print(f"{mode:9} {name:9} vmafs / null with a pread: "
              f"{statistics.median(a[i] / b[i] for a, b, _ in rounds):.2f}   null with a pread / null: "
              f"{statistics.median(b[i] / c[i] for _, b, c in rounds):.2f}")
'
