#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# create: pipes, descriptors, commands and compression take the same archive; what the standard tools
# make of our frames; --speed.

. "$(dirname "$0")/lib/functions.sh"
requires zstd lz4 python3

python3 - <<'END'
import random
rng = random.Random(54)
with open("disk.raw", "wb") as f:
    f.truncate(60 * 2**20)
    for i in range(30):
        f.seek(2 * i * 2**20)
        f.write(rng.randbytes(2**19) + b"easy to compress " * 30000)
END
same=(--uuid 01234567-89ab-cdef-0123-456789abcdef --ctime 1)
"$VMATOOL" create plain.vma "${same[@]}" disk.raw
sum=$(sha256sum <plain.vma)

"$VMATOOL" create - "${same[@]}" disk.raw | cat >pipe.vma
same_bytes plain.vma pipe.vma
"$VMATOOL" create - "${same[@]}" disk.raw >file.vma
same_bytes plain.vma file.vma
{ printf 'in front' && "$VMATOOL" create - "${same[@]}" disk.raw && printf 'behind'; } >among.bin
same_bytes among.bin <(printf 'in front' && cat plain.vma && printf 'behind')
"$VMATOOL" create fd:7 "${same[@]}" disk.raw 7>fd.vma
same_bytes plain.vma fd.vma
head -c 100M /dev/zero >reuse.vma
"$VMATOOL" create fd:7 "${same[@]}" disk.raw 7<>reuse.vma
same_bytes plain.vma reuse.vma
mkfifo fifo
cat fifo >from-fifo.vma &
"$VMATOOL" create fifo "${same[@]}" disk.raw
wait "$!"
same_bytes plain.vma from-fifo.vma
"$VMATOOL" create 'exec:cat >exec.vma' "${same[@]}" disk.raw
same_bytes plain.vma exec.vma
"$VMATOOL" create "exec:gzip -1 | gzip -dc | sha256sum >exec.sum" "${same[@]}" disk.raw
same_text "$sum" "$(cat exec.sum)"

# Compression: by name, by option; options win.
"$VMATOOL" create a.vma.zst "${same[@]}" disk.raw
"$VMATOOL" create b.zstd --compress zstd:1 "${same[@]}" disk.raw
"$VMATOOL" create c.vma.lz4 "${same[@]}" disk.raw
"$VMATOOL" create d.lz --compress lz4:9 "${same[@]}" disk.raw
"$VMATOOL" create none.zst --compress none "${same[@]}" disk.raw
same_bytes plain.vma none.zst
"$VMATOOL" create - --compress zstd --threads 3 "${same[@]}" disk.raw >e.zst
same_bytes a.vma.zst e.zst
"$VMATOOL" create 'exec:cat >f.zst' --compress zstd "${same[@]}" disk.raw
same_bytes a.vma.zst f.zst
"$VMATOOL" create fd:7 --compress lz4 "${same[@]}" disk.raw 7>g.lz4
same_bytes c.vma.lz4 g.lz4
for file in a.vma.zst b.zstd; do
    zstd -tq "$file"
    same_text "$sum" "$(zstd -dcq "$file" | sha256sum)"
    "$VMATOOL" verify "$file"
    # Many frames with sizes and checksums: what is needed to read from the middle.
    zstd -lv "$file" >list 2>&1
    frames=$(sed -n 's/^# Zstandard Frames: *//p' list)
    [ "${frames:-0}" -gt 4 ] || fail "$(cat list)"
    grep -q '^Check: XXH64' list || fail "$(cat list)"
    grep -q '^Decompressed Size:' list || fail "$(cat list)"
done
for file in c.vma.lz4 d.lz; do
    lz4 -tq "$file"
    same_text "$sum" "$(lz4 -dcq "$file" | sha256sum)"
    "$VMATOOL" verify "$file"
done
# Half of it is text: less than 3/5 remain.
[ $(($(stat -c %s a.vma.zst) * 5)) -lt $(($(stat -c %s plain.vma) * 3)) ]

# --speed: 30 MiB at 10 MiB/s are three seconds; holes cost nothing.
"$VMATOOL" create slow.vma --speed 10M --json disk.raw >slow.json
python3 - "${TEST_VARIANT:-plain}" <<'END'
import json, os, sys
seconds = json.load(open("slow.json"))["seconds"]
wanted = os.stat("disk.raw").st_blocks * 512 / (10 * 2**20)
assert wanted > 2, wanted
limit = 1.1 if sys.argv[1] == "plain" else 2
assert 0.9 * wanted <= seconds <= limit * wanted, (wanted, seconds)
END
