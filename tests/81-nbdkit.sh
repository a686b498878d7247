#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The plugin for nbdkit: the same bytes and the same map as vmatool has, to qemu-img, nbdcopy and nbdinfo.

. "$(dirname "$0")/lib/functions.sh"
requires nbdkit nbdinfo nbdcopy qemu-img jq python3
plugin=$BUILDDIR/nbdkit/nbdkit-vma-plugin.so
[ -e "$plugin" ] || skip "the plugin is not built"

serve() # ARGUMENT... -- COMMAND, with $uri and $unixsocket
{
    local arguments=()
    while [ "$1" != -- ]; do
        arguments+=("$1")
        shift
    done
    shift
    nbdkit -U - "$plugin" "${arguments[@]}" --run "$*"
}

kill_quietly() # PID
{
    kill -9 "$1" 2>/dev/null || true
}

# --- what it says of itself -------------------------------------------------------------------------------

nbdkit --dump-plugin "$plugin" >dump
for line in name=vma thread_model=parallel magic_config_key=archive; do
    grep -qx "$line" dump || fail "not in the dump: $line"
done
nbdkit "$plugin" --help >help
for key in 'ARCHIVE ' 'disk=NAME' 'salvage=' 'follow=' 'index-cache=' 'cache-size=' 'memory-limit='; do
    grep -q "^$key\|^\[archive=\]$key" help || fail "not in the help: $key"
done
[ "$(wc -L <help)" -le 90 ] || fail "the help is too wide"

# --- exports ------------------------------------------------------------------------------------------------

archive=$fixtures/multi-disk.vma
"$VMATOOL" extract "$archive" true >/dev/null
# shellcheck disable=SC2016  # nbdkit's shell has the variables
{
    serve "$archive" -- 'nbdinfo --list --json "$uri"' >list.json
    same_text "$(printf '%s\n' drive-efidisk0 drive-scsi0 drive-scsi1)" \
        "$(jq -r '.exports[]."export-name"' list.json | sort)"
    same_text "true false true true" "$(jq -r '.exports[0] | [.is_read_only, .can_flush,
        .can_multi_conn, .can_cache] | join(" ")' list.json)"
    serve "$archive" disk=scsi1 -- 'nbdinfo --list --json "$uri"' >list.json
    same_text drive-scsi1 "$(jq -r '.exports[]."export-name"' list.json)"
    same_text 3145728 "$(serve "$archive" disk=scsi1 -- 'nbdinfo --size "$uri"')"
    same_text 6291968 "$(serve "$fixtures/tiny.vma.lzo" -- 'nbdinfo --size "$uri"')"
    if serve "$archive" -- 'nbdinfo --size "$uri"' >/dev/null 2>stderr; then
        fail "a default export among three"
    fi
    grep -q 'has 3 disks: name one' stderr || fail "$(cat stderr)"
    if serve "$archive" disk=scsi1 -- 'nbdinfo --size "nbd+unix:///drive-scsi0?socket=$unixsocket"' 2>stderr; then
        fail "a disk that is not exported"
    fi
    grep -q "only disk 'scsi1' is exported" stderr || fail "$(cat stderr)"
}

# --- bytes and maps ----------------------------------------------------------------------------------------

# Both as lines "start end zero|data|missing", where what is alike is joined.
join_map()
{
    python3 -c '
import json, sys
last = None
for e in json.load(sys.stdin):
    start, end = e.get("start", e.get("offset")), 0
    if "type" in e:
        start, kind = e["offset"], "zero" if e["type"] & 2 else "data"
    else:
        kind = "zero" if e["zero"] else "data"
    end = start + e["length"]
    if last and last[2] == kind:
        last[1] = end
    else:
        if last:
            print(*last)
        last = [start, end, kind]
print(*last)'
}

for archive in "$fixtures/multi-disk.vma" "$fixtures/multi-disk.vma.zst" "$fixtures/tiny.vma.gz"; do
    rm -rf true
    "$VMATOOL" extract "$archive" true >/dev/null
    for file in true/disk-*.raw; do
        disk=${file#true/}
        # shellcheck disable=SC2016
        serve "$archive" "disk=$disk" -- 'nbdinfo --map --json "$uri" >map.json &&
            nbdcopy "$uri" copy.raw && qemu-img convert -f raw -O raw "$uri" convert.raw &&
            qemu-img map --output=json -f raw "$uri" >qemu.json'
        same_bytes "$file" copy.raw
        same_bytes "$file" convert.raw
        same_text "$("$VMATOOL" map --output=json "$archive" "$disk" | join_map)" "$(join_map <map.json)"
        same_text "$(join_map <map.json)" "$(join_map <qemu.json)"
        rm copy.raw convert.raw
    done
done

# --- damage --------------------------------------------------------------------------------------------------

cut=$fixtures/edge/57_trunc_at_extent.vma
# shellcheck disable=SC2016
serve "$cut" salvage=true -- 'nbdinfo --map --json "$uri" >map.json; ! nbdcopy "$uri" cut.raw 2>/dev/null &&
    qemu-io -f raw -r -c "read 0 128k" "$uri"' >out 2>stderr || fail "$(cat out stderr)"
grep -q 'Input/output error\|missing from the archive' stderr || fail "no word of what is missing: $(cat stderr)"
same_text "0 262144 data" "$(join_map <map.json | tail -1)"
expect_fail 1 'nbdkit: .*header at 0: not a VMA archive' nbdkit -U - "$plugin" /dev/null --run true
expect_fail 1 "nbdkit: .*no disk 'x': there is disk-drive" nbdkit -U - "$plugin" "$archive" disk=x --run true
expect_fail 1 'nbdkit: .*which archive' nbdkit -U - "$plugin" --run true
expect_fail 1 "nbdkit: .*unknown parameter 'colour'" nbdkit -U - "$plugin" "$archive" colour=red --run true

# --- in the background, with an archive that grows; and its end --------------------------------------------

size=$(stat -c %s "$fixtures/multi-disk.vma.zst")
head -c $((size / 2)) "$fixtures/multi-disk.vma.zst" >grows.vma.dat
nbdkit -U "$TEST_TMP/socket" -P pid "$plugin" grows.vma.dat follow=true disk=scsi0
cleanup_fn kill_quietly "$(cat pid)"
nbdcopy "nbd+unix:///?socket=$TEST_TMP/socket" grown.raw &
copy=$!
sleep 0.3
kill -0 $copy || fail "the copy does not wait for the rest"
tail -c +$((size / 2 + 1)) "$fixtures/multi-disk.vma.zst" >>grows.vma.dat
mv grows.vma.dat grows.vma.zst
wait $copy || fail "the copy of a growing archive failed"
"$VMATOOL" extract "$fixtures/multi-disk.vma" multi >/dev/null
same_bytes multi/disk-drive-scsi0.raw grown.raw
process_ended()
{
    ! kill -0 "$(cat pid)" 2>/dev/null
}
kill "$(cat pid)"
wait_until 10 process_ended || fail "SIGTERM does not end it"

head -c $((size / 2)) "$fixtures/multi-disk.vma.zst" >stays.vma.dat
nbdkit -U "$TEST_TMP/socket2" -P pid "$plugin" stays.vma.dat follow=true disk=scsi0
cleanup_fn kill_quietly "$(cat pid)"
nbdcopy "nbd+unix:///?socket=$TEST_TMP/socket2" never.raw 2>/dev/null &
copy=$!
sleep 0.3
kill "$(cat pid)"
wait_until 10 process_ended || fail "SIGTERM does not end it while a read waits"
wait $copy && fail "a copy without an end succeeded"
true
