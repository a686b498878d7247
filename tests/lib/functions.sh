# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# What the shell tests share.  A test begins with
#
#   . "$(dirname "$0")/lib/functions.sh"
#
# and then stands in a private folder, $TEST_TMP, that is deleted afterwards.  Exit status 0 is
# success, 77 is a skip (use `skip` or `requires`), anything else is a failure.

set -euo pipefail

tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034  # for the tests
fixtures=$tests/fixtures
lib=$tests/lib
BUILDDIR=${BUILDDIR:-$tests/../build}

find_program() # NAME FOLDER: where the build puts a program
{
    if [ -x "$BUILDDIR/$1" ] && [ ! -d "$BUILDDIR/$1" ]; then
        echo "$BUILDDIR/$1"
    else
        echo "$BUILDDIR/$2/$1"
    fi
}
VMAFS=${VMAFS:-$(find_program vmafs fuse)}
VMATOOL=${VMATOOL:-$(find_program vmatool tool)}
export VMAFS VMATOOL

if [ -z "${TEST_TMP:-}" ]; then
    TEST_TMP=$(mktemp -d "${TMPDIR:-/tmp}/vmafs-test.XXXXXX")
    own_tmp=yes
fi
export TEST_TMP
# No test may see, or leave anything in, the user's own saved indexes.
export XDG_CACHE_HOME=$TEST_TMP/cache
export LC_ALL=C TZ=UTC
cd "$TEST_TMP"

# Commands to run when the test ends, however it ends; the last given runs first.
cleanup_commands=()
cleanup_fn() # COMMAND [ARG...]
{
    cleanup_commands+=("$(printf '%q ' "$@")")
}

run_cleanup()
{
    local status=$? i
    set +e
    for ((i = ${#cleanup_commands[@]} - 1; i >= 0; i--)); do
        eval "${cleanup_commands[i]}"
    done
    cd /
    if [ "${own_tmp:-no}" = yes ]; then
        rm -rf "$TEST_TMP"
    fi
    exit "$status"
}
trap run_cleanup EXIT

fail() # MESSAGE
{
    echo "FAILED: $*" >&2
    exit 1
}

skip() # REASON
{
    echo "skip: $*"
    exit 77
}

requires() # PROGRAM...
{
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || skip "$program is not installed"
    done
}

requires_root()
{
    [ "$(id -u)" = 0 ] || skip "needs root"
}

requires_fuse()
{
    [ -w /dev/fuse ] || skip "/dev/fuse is not there or not for us"
}

# Times in tests are generous, and more so for builds that are slow by design.
slower() # SECONDS
{
    case ${TEST_VARIANT:-plain} in
    plain) echo "$1" ;;
    *) echo $(($1 * 5)) ;;
    esac
}

wait_until() # SECONDS COMMAND...: until the command succeeds
{
    local end
    end=$((SECONDS + $(slower "$1")))
    shift
    until "$@"; do
        [ "$SECONDS" -le "$end" ] || return 1
        sleep 0.05
    done
}

# The process that serves a mount: the mount point is an argument of it.
vmafs_pid() # MOUNTPOINT
{
    local file exe
    exe=$(readlink -f "$VMAFS")
    while IFS= read -r file; do
        if [ "$(readlink "$file/exe")" = "$exe" ]; then
            echo "${file#/proc/}"
            return 0
        fi
    done < <(grep -lzxF -- "$1" /proc/[0-9]*/cmdline 2>/dev/null | sed 's|/cmdline$||')
    return 1
}

is_mounted() # MOUNTPOINT
{
    grep -qF " $(readlink -f "$1" | sed 's/ /\\040/g') fuse." /proc/self/mounts
}

gone() # MOUNTPOINT: neither mounted nor served any more
{
    ! is_mounted "$1" && ! vmafs_pid "$1" >/dev/null
}

# Mounts; the parent's return is the promise that the mount answers, so nothing waits here.
start_vmafs() # ARCHIVE MOUNTPOINT [OPTION...]
{
    local mnt=$2
    mkdir -p "$mnt"
    cleanup_fn stop_vmafs "$mnt"
    "$VMAFS" "$@"
    is_mounted "$mnt" || fail "vmafs returned 0, but $mnt is not mounted"
}

stop_vmafs() # MOUNTPOINT
{
    if is_mounted "$1"; then
        fusermount3 -u "$1" || fusermount3 -u -z "$1" || umount -l "$1"
    fi
    wait_until 10 gone "$1" || {
        echo "FAILED: the process behind $1 does not end" >&2
        kill -9 "$(vmafs_pid "$1")"
        return 1
    }
}

# Runs a command that must fail with this status, and with one line on stderr that fits.
expect_fail() # STATUS EXTENDED-REGEX COMMAND...
{
    local want=$1 pattern=$2 status=0
    shift 2
    "$@" >"$TEST_TMP/stdout" 2>"$TEST_TMP/stderr" </dev/null || status=$?
    if [ "$status" != "$want" ]; then
        cat "$TEST_TMP/stderr"
        fail "status $status, not $want: $*"
    fi
    if [ "$(wc -l <"$TEST_TMP/stderr")" != 1 ]; then
        cat "$TEST_TMP/stderr"
        fail "not one line on stderr: $*"
    fi
    if ! grep -qE -- "$pattern" "$TEST_TMP/stderr"; then
        cat "$TEST_TMP/stderr"
        fail "the message does not fit '$pattern': $*"
    fi
}

same_bytes() # FILE FILE
{
    cmp -- "$1" "$2" || fail "$1 and $2 differ"
}

same_text() # WANTED GOT
{
    if [ "$1" != "$2" ]; then
        diff <(printf '%s\n' "$1") <(printf '%s\n' "$2") || true
        fail "not the text that was wanted"
    fi
}

# An archive whose scan takes about $1 seconds: `slow_vmafs ...` runs vmafs so that each small read of
# $TEST_TMP/slow.vma takes its time.  It has 1000 extents.
make_slow_archive() # SECONDS
{
    slow_us=$(($1 * 1000))
    # The sanitizers' own preloaded library would have to come first.
    [ "${TEST_VARIANT:-plain}" = plain ] || skip "not with a sanitizer"
    "${CC:-cc}" -shared -fPIC -O1 -o slow-pread.so "$lib/slow-pread.c" -ldl
    python3 "$lib/vmagen.py" huge slow.vma --size 3867136000 >slow.json
}

slow_vmafs() # as vmafs
{
    LD_PRELOAD=$TEST_TMP/slow-pread.so SLOW_PREAD_FILE=$TEST_TMP/slow.vma \
        SLOW_PREAD_US=$slow_us "$VMAFS" "$@"
}

# In a mount name space of one's own: copies of what other tests have mounted would keep these mounts alive,
# after they were unmounted.
drop_foreign_mounts()
{
    local foreign
    while IFS= read -r foreign; do
        umount -l "$(printf '%b' "${foreign//\\/\\0}")" 2>/dev/null || true
    done < <(awk -v tests="$(dirname "$TEST_TMP")/vmafs-test." -v own="$TEST_TMP/" '
        $3 ~ /^fuse\.vma/ || (index($2, tests) == 1 && index($2, own) != 1) { print $2 }' /proc/self/mounts |
        tac)
}

make_archive() # LAYOUT ARCHIVE [vmagen option...]
{
    python3 "$lib/vmagen.py" "$@"
}

[ -x "$VMATOOL" ] || [ "${NEEDS_PROGRAMS:-yes}" = no ] || fail "no program at $VMATOOL"
