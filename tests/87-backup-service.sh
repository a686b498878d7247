#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The systemd unit of vmabackup is one, and starts a command that there is.

. "$(dirname "$0")/lib/functions.sh"
requires systemd-analyze
[ -e "$BUILDDIR/systemd/vmabackup.service" ] || skip "built without libnbd"

# The program is not installed where the unit says.
sed "s|^ExecStart=.*/vmabackup|ExecStart=$BUILDDIR/backup/vmabackup|" \
    "$BUILDDIR/systemd/vmabackup.service" >vmabackup.service
grep -q "^ExecStart=$BUILDDIR/backup/vmabackup serve$" vmabackup.service || fail "ExecStart"
systemd-analyze verify --man=no ./vmabackup.service >found 2>&1 || true
if grep -F vmabackup.service found; then
    fail "systemd-analyze finds fault with the unit"
fi
"$BUILDDIR/backup/vmabackup" serve --help | grep -q "serve.sock" || fail "serve --help"
