#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# How fast vmatool create is, as ratios to cp and zstd in the same run.
#
#   bench/create.sh [FOLDER [MiB [RUNS]]]
#
# FOLDER (default: a new one in $TMPDIR) is where the disk and the archives stand; MiB is the data of a
# half-full raw disk (default 2048), taken from the files under /usr, in stretches of 4 MiB.  The disk is
# in the page cache.  All are run in turns, RUNS times (default 5); the medians count.  A ratio over 1 means that
# create is faster.
#
# create does an fsync before the archive gets its name, and cp does none; therefore it is compared with
# cp, and with cp followed by sync of that file, which is the same work.  In a tmpfs both are the same.

set -euo pipefail

folder=${1:-} mib=${2:-2048} runs=${3:-5}
top=$(cd "$(dirname "$0")/.." && pwd)
vmatool=${VMATOOL:-$top/build/tool/vmatool}
made=$(mktemp -d "${folder:-${TMPDIR:-/tmp}}/vmafs-bench.XXXXXX")
trap 'rm -rf "$made"' EXIT
cd "$made"

python3 - "$mib" <<'END'
import os, sys
left = int(sys.argv[1]) * 2**20
def content():
    for folder, _, names in sorted(os.walk("/usr")):
        for name in sorted(names):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as f:
                    while data := f.read(4 * 2**20):
                        yield data
with open("disk.raw", "wb") as f:
    at, pending = 0, b""
    for data in content():
        pending += data
        while len(pending) >= 4 * 2**20 and left > 0:
            f.seek(at)
            f.write(pending[:4 * 2**20])
            pending, at, left = pending[4 * 2**20:], at + 8 * 2**20, left - 4 * 2**20
        if left <= 0:
            break
    f.truncate(at)
END
truncate -s 1T empty.raw
"$vmatool" create plain.vma disk.raw
cat disk.raw plain.vma >/dev/null

declare -A seconds
names=(cp 'cp + sync' create 'zstd -T2 -3' 'create zstd, 2 threads' 'create empty 1 TiB')

measure() # NAME COMMAND...
{
    local name=$1 start
    shift
    rm -f out*
    sync -f .
    start=$(date +%s%N)
    "$@" >/dev/null
    seconds[$name]+=" $((($(date +%s%N) - start) / 1000))"
}
cp_and_sync()
{
    cp disk.raw out.raw
    sync out.raw
}

for ((i = 0; i < runs; i++)); do
    measure cp cp disk.raw out.raw
    measure 'cp + sync' cp_and_sync
    measure create "$vmatool" create out.vma disk.raw
    measure 'zstd -T2 -3' zstd -q -T2 -3 plain.vma -o out.zst
    measure 'create zstd, 2 threads' "$vmatool" create out.vma.zst --threads 2 disk.raw
    measure 'create empty 1 TiB' "$vmatool" create out.vma empty.raw
done

median() # NAME
{
    # shellcheck disable=SC2086  # a list of numbers
    printf '%s\n' ${seconds[$1]} | sort -n | sed -n "$(((runs + 1) / 2))p"
}
for name in "${names[@]}"; do
    awk -v name="$name" -v us="$(median "$name")" 'BEGIN { printf "%-24s %8.2f s\n", name, us / 1e6 }'
done
ratio() # NAME NAME TARGET
{
    awk -v a="$(median "$1")" -v b="$(median "$2")" -v what="$2 / $1" -v target="$3" \
        'BEGIN { printf "%-40s %5.2f  (target %s)\n", what, a / b, target }'
}
ratio cp create 0.8
ratio 'cp + sync' create 1.0
ratio 'zstd -T2 -3' 'create zstd, 2 threads' 0.9

# The most memory that it takes, in KiB.
peak() # create ARGUMENT...
{
    python3 - "$vmatool" create "$@" <<'END'
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
END
}
rm -f out*
echo "memory: $(peak out.vma disk.raw) KiB, 1 TiB empty $(peak out2.vma empty.raw) KiB," \
    "zstd with 2 threads $(peak out3.vma.zst --threads 2 disk.raw) KiB"
