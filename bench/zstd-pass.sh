#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# zstd-pass.sh DRIVER [FILE.zst]: the index pass against `zstd -dc`, in turns, best of five each; then
# what zstd-pass prints about the sidecar and random reads.  Without a file, one is made of this
# system's own (1 GB), compressed as vzdump does.
set -eu

driver=${1:?usage: zstd-pass.sh DRIVER [FILE.zst]}
file=${2:-}
if [ -z "$file" ]; then
    file=$(mktemp)
    trap 'rm -f "$file"' EXIT
    { tar c /usr/lib 2>/dev/null | head -c 800M; head -c 100M /dev/urandom
      tar c /usr/share 2>/dev/null | head -c 100M; } | zstd -q -3 --rsyncable -T1 > "$file"
fi

plain=999
pass=999
for _ in 1 2 3 4 5; do
    start=$(date +%s.%N)
    zstd -dc "$file" > /dev/null
    took=$(echo "$(date +%s.%N) $start" | awk '{ print $1 - $2 }')
    plain=$(echo "$took $plain" | awk '{ print ($1 < $2) ? $1 : $2 }')
    report=$("$driver" "$file" 16 200)
    took=$(echo "$report" | awk '/^pass:/ { print $2 }')
    pass=$(echo "$took $pass" | awk '{ print ($1 < $2) ? $1 : $2 }')
done
echo "zstd -dc $plain s, pass $pass s: $(echo "$pass $plain" | awk '{ printf "%.3f", $1 / $2 }')"
echo "$report"
