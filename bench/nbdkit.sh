#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# How fast the plugin of nbdkit is, beside nbdkit's own "file" plugin on the raw disk, and beside a mount.
#
#   bench/nbdkit.sh [FOLDER [MIB [RUNS]]]
#
# FOLDER (default: a new one in $TMPDIR) takes a disk of MIB (default 1024) mebibytes of random data, and its
# archive, uncompressed.  Both are in the page cache.  In each round nbdcopy reads both to their end, and
# `nbdkit file` serves the disk out of a mount, too.  Seconds; medians, and the ratio of medians.

set -euo pipefail

folder=${1:-} mebibytes=${2:-1024} runs=${3:-7}
top=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILDDIR:-$top/build}
plugin=$build/nbdkit/nbdkit-vma-plugin.so
made=$(mktemp -d "${folder:-${TMPDIR:-/tmp}}/vmafs-bench.XXXXXX")
cleanup()
{
    fusermount3 -u -q "$made/mnt" || true
    rm -rf "$made"
}
trap cleanup EXIT
cd "$made"
export XDG_CACHE_HOME=$made/cache
mkdir mnt
head -c "${mebibytes}M" /dev/urandom >disk.raw
"$build/tool/vmatool" create disk.vma drive-scsi0=disk.raw >/dev/null 2>&1
"$build/fuse/vmafs" disk.vma mnt -o wait
cat disk.raw disk.vma >/dev/null

measure() # NAME PLUGIN [ARGUMENT...]
{
    local start end name=$1
    shift
    start=$(date +%s%N)
    # shellcheck disable=SC2016  # nbdkit's shell has the variable
    nbdkit -U - "$@" --run 'nbdcopy "$uri" null:'
    end=$(date +%s%N)
    echo $(((end - start) / 1000000)) >>"$name.ms"
}

for ((run = 0; run < runs; run++)); do
    measure file file disk.raw
    measure vma "$plugin" disk.vma
    measure mount file mnt/disk-drive-scsi0.raw
done

median()
{
    sort -n "$1.ms" | sed -n "$(((runs + 1) / 2))p"
}

for name in file vma mount; do
    echo "$name: $(median $name) ms ($(sort -n $name.ms | head -1) to $(sort -n $name.ms | tail -1))"
done
awk -v a="$(median file)" -v b="$(median vma)" -v c="$(median mount)" \
    'BEGIN { printf "speed, vma / file: %.2f; mount / file: %.2f\n", a / b, a / c }'
