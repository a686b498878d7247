#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Archives on servers, by way of NBD: from a file, from a web server and over ssh; with latency; and with
# servers that go away, come back as something else, or do not answer.

. "$(dirname "$0")/lib/functions.sh"
requires nbdkit python3 zstd
requires_fuse

export VMAFS_NBD_TIMEOUT=3
make_archive random-masks a.vma >sums
zstd -q a.vma
"$VMATOOL" extract a.vma local

if ! "$VMATOOL" list "nbd+unix:///?socket=$PWD/nosuch" 2>error; then
    ! grep -q 'without libnbd' error || skip "built without libnbd"
fi

serve() # NAME NBDKIT-ARGUMENT...: at $PWD/NAME.sock; $uri names it
{
    local name=$1
    shift
    rm -f "$name.sock" "$name.pid"
    nbdkit -r -f -U "$PWD/$name.sock" -P "$PWD/$name.pid" "$@" 2>"$name.log" &
    cleanup_fn stop_server "$name"
    wait_until 10 test -s "$name.pid" || fail "$(cat "$name.log")"
    uri="nbd+unix:///?socket=$PWD/$name.sock"
}

stop_server() # NAME
{
    local pid
    pid=$(cat "$1.pid" 2>/dev/null) || return 0
    kill -KILL "$pid" 2>/dev/null || true # TERM waits for clients
    wait "$pid" 2>/dev/null || true
    rm -f "$1.sock" "$1.pid"
}

numbers() # of a map: without the archive's name
{
    awk '{ print $1, $2, $3 }'
}

# Every way of reading gives what the file gives.
check() # NAME
{
    "$VMATOOL" verify "$uri"
    same_text "$("$VMATOOL" list a.vma)" "$("$VMATOOL" list "$uri")"
    "$VMATOOL" extract "$uri" "out-$1"
    diff -r local "out-$1" || fail "$1: extract differs"
    "$VMATOOL" extract -j 3 "$uri" "out-$1-j"
    diff -r local "out-$1-j" || fail "$1: extract -j differs"
    start_vmafs "$uri" "mnt-$1" -o "index_cache=$PWD/cache-$1"
    for file in local/*; do
        cmp "$file" "mnt-$1/$(basename "$file")" || fail "$1: $file differs in the mount"
    done
    stop_vmafs "mnt-$1"
    rm -r "out-$1" "out-$1-j"
}

echo "--- a file, plain and compressed"
serve file file a.vma
check file
# The socket may be given by a relative path, though the daemon leaves the folder.
start_vmafs "nbd+unix:///?socket=file.sock" relative
same_bytes relative/disk-drive-scsi0.raw local/disk-drive-scsi0.raw
stop_vmafs relative
serve packed file a.vma.zst
check packed

echo "--- a web server"
mkdir www
cp a.vma a.vma.zst www/
python3 "$lib/webserver.py" www port &
cleanup_fn kill $!
wait_until 10 test -s port
serve web curl "http://127.0.0.1:$(cat port)/a.vma"
check web
serve webzst curl "http://127.0.0.1:$(cat port)/a.vma.zst"
check webzst

echo "--- ssh"
if [ -x /usr/sbin/sshd ]; then
    mkdir -p ssh /run/sshd
    ssh-keygen -q -t ed25519 -N '' -f ssh/host
    ssh-keygen -q -t ed25519 -N '' -f ssh/user
    cp ssh/user.pub ssh/authorized
    chmod go-w . ssh ssh/authorized
    ssh_port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    /usr/sbin/sshd -D -e -p "$ssh_port" -o ListenAddress=127.0.0.1 -h "$PWD/ssh/host" -f /dev/null \
        -o StrictModes=no -o "AuthorizedKeysFile=$PWD/ssh/authorized" -o UsePAM=no \
        -o "Subsystem=sftp internal-sftp" -o PidFile=none -o PermitRootLogin=yes 2>ssh/log &
    cleanup_fn kill $!
    echo "[127.0.0.1]:$ssh_port $(cut -d' ' -f1,2 ssh/host.pub)" >ssh/known
    wait_until 10 ssh -F none -i ssh/user -o "UserKnownHostsFile=ssh/known" -p "$ssh_port" 127.0.0.1 true ||
        fail "$(cat ssh/log)"
    serve ssh ssh host=127.0.0.1 port="$ssh_port" "path=$PWD/a.vma" "identity=$PWD/ssh/user" \
        "known-hosts=$PWD/ssh/known" user="$(id -un)"
    check ssh
else
    [ "${CI:-}" != true ] || fail "no sshd"
    echo "no sshd: left out"
fi

echo "--- names"
expect_fail 1 '^vmatool: nbd://joe@127.0.0.1:1/x: cannot connect: ' \
    "$VMATOOL" list 'nbd://joe:secret@127.0.0.1:1/x'
expect_fail 1 '^vmafs: nbd://joe@127.0.0.1:1/x: cannot connect: ' \
    "$VMAFS" 'nbd://joe:secret@127.0.0.1:1/x' mnt-file
expect_fail 1 'cannot be followed' "$VMAFS" "$uri" mnt-file -o follow
head -c 100000 /dev/zero >zeros
serve zeros file zeros
expect_fail 1 'not a VMA archive' "$VMATOOL" list "$uri"

echo "--- the saved index: of the archive, wherever it stands, and of no other"
cache=$PWD/saved
serve one file a.vma
"$VMATOOL" map "$uri" --index-cache="$cache" >map1
same_text 1 "$(find "$cache" -name '*.vmaidx' | wc -l)"
serve two file a.vma
"$VMATOOL" map "$uri" --index-cache="$cache" >map2 2>error
same_text "" "$(cat error)"
same_text 1 "$(find "$cache" -name '*.vmaidx' | wc -l)"
# The same backup (uuid, size, beginning and end), with its extents in another order.
python3 - <<'END'
data = bytearray(open("a.vma", "rb").read())
first = int.from_bytes(data[56:60], "big")
def size(at):
    return 512 + 4096 * int.from_bytes(data[at + 6:at + 8], "big")
starts = [first]
while starts[-1] < len(data):
    starts.append(starts[-1] + size(starts[-1]))
extents = [bytes(data[a:b]) for a, b in zip(starts, starts[1:])]
inner = [i for i in range(len(extents)) if starts[i] >= 65536 and starts[i + 1] <= len(data) - 65536]
assert len(inner) > 1
moved = extents[:inner[0]] + extents[inner[0]:inner[-1] + 1][::-1] + extents[inner[-1] + 1:]
out = bytes(data[:first]) + b"".join(moved)
assert out[:65536] == data[:65536] and out[-65536:] == data[-65536:] and len(out) == len(data)
open("moved.vma", "wb").write(out)
END
serve moved file moved.vma
"$VMATOOL" map "$uri" --index-cache="$cache" >map3 2>error
grep -q 'the saved index is stale' error || fail "the index of another archive was taken"
same_text "$("$VMATOOL" map moved.vma --index-cache=none | numbers)" "$(numbers <map3)"

echo "--- 20 ms to each answer"
# One after another the 1000 headers take 20 seconds.
make_archive huge huge.vma --size 3867136000 >huge.json
serve far --filter=delay file huge.vma rdelay=20ms
start=$(date +%s%N)
"$VMATOOL" map "$uri" --index-cache=none >map-far
took=$((($(date +%s%N) - start) / 1000000))
echo "indexed in $took ms"
[ "$took" -lt "$(slower 8)000" ] || fail "the scan reads one header after another: $took ms"
same_text "$("$VMATOOL" map huge.vma --index-cache=none | numbers)" "$(numbers <map-far)"

echo "--- a server that goes away, and comes back"
serve gone file huge.vma
start_vmafs "$uri" gone -o wait
disk=gone/disk-drive-scsi0.raw
read_at() # MIB
{
    timeout 60 dd if="$disk" of=got bs=1M count=1 skip="$1" iflag=direct status=none
}
read_at 1
stop_server gone
(sleep 1 && exec nbdkit -r -f -U "$PWD/gone.sock" -P "$PWD/gone.pid" file huge.vma) 2>gone.log &
cleanup_fn kill $!
read_at 2 || fail "not read on after the server came back: $(cat gone/.vmafs/errors)"
stop_server gone
# Now it stays away: an error that says so, after a while; and files are listed all the time.
if read_at 3 2>error; then fail "there is no server"; fi
grep -q 'Input/output error' error || fail "$(cat error)"
grep -qE '^read: nbd\+unix:.*: cannot read at offset [0-9]+: .*(No such file|refused)' gone/.vmafs/errors ||
    fail "$(cat gone/.vmafs/errors)"
ls -l gone >/dev/null
# Something else is there: it is not taken for the archive.
serve gone file a.vma
if read_at 4 2>error; then fail "this is another archive"; fi
grep -q 'something else' gone/.vmafs/errors || fail "$(cat gone/.vmafs/errors)"
stop_server gone
serve gone file huge.vma
read_at 5 || fail "not read although the server is back"

echo "--- a server that does not answer"
kill -STOP "$(cat gone.pid)"
dd if="$disk" of=/dev/null bs=1M count=1 skip=6 status=none 2>error &
reader=$!
sleep 0.5
timeout 5 ls -l gone >/dev/null || fail "ls waits for the server"
kill -KILL "$reader"
wait_until 5 sh -c "! kill -0 $reader 2>/dev/null" || fail "the reader cannot be killed"
wait "$reader" 2>/dev/null || true
if read_at 7 2>error; then fail "nobody answers"; fi
grep -qE 'no answer within|does not answer' gone/.vmafs/errors || fail "$(cat gone/.vmafs/errors)"
# With a read under way it ends at once when told to.
timeout 60 dd if="$disk" of=/dev/null bs=1M count=1 skip=8 iflag=direct status=none 2>/dev/null &
reader=$!
sleep 0.3
kill -TERM "$(vmafs_pid gone)"
wait_until 10 gone gone || fail "SIGTERM waits for the server"
wait "$reader" || true
stop_server gone

echo "--- what a server's absence says of the archive: nothing"
serve flaky --filter=delay file huge.vma rdelay=20ms
"$VMATOOL" verify --salvage "$uri" --index-cache=none >out 2>error &
child=$!
sleep 0.3
stop_server flaky
status=0
wait "$child" || status=$?
same_text 1 "$status"
! grep -q 'lost data' out error || fail "$(cat out error)"
grep -qE 'cannot read at offset' error || fail "$(cat error)"
