#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The built man pages have no error that mandoc knows of, and name the programs' options.

. "$(dirname "$0")/lib/functions.sh"
requires mandoc scdoc
[ -n "$(ls "$tests/../man")" ] || skip "there are no man pages yet"

pages=()
for page in vmafs.1 vmatool.1 vma.5; do
    found=$(find "$BUILDDIR" "$tests/../man" -name "$page" | head -n 1)
    [ -n "$found" ] || fail "no man page $page was built"
    pages+=("$found")
done
"$tests/../man/lint"

mandoc -T utf8 "${pages[0]}" | sed 's|.\x08||g' >vmafs.txt
for option in uid= gid= mode= allow_other salvage ready_fd= direct_io index-cache; do
    grep -qF -- "$option" vmafs.txt || fail "vmafs(1) does not tell of $option"
done
mandoc -T utf8 "${pages[1]}" | sed 's|.\x08||g' >vmatool.txt
for command in list config verify extract create repack diff map info index; do
    grep -qw -- "$command" vmatool.txt || fail "vmatool(1) does not tell of $command"
done

# All that its help offers.
if [ -x "$BUILDDIR/backup/vmabackup" ]; then
    page=$(find "$BUILDDIR" "$tests/../man" -name vmabackup.1 | head -n 1)
    mandoc -T utf8 "$page" | sed 's|.\x08||g' >vmabackup.txt
    for command in run query cancel set-speed forget clean serve; do
        "$BUILDDIR/backup/vmabackup" "$command" --help >help.txt
        grep -oE -- '--[a-z-]+' help.txt | sort -u >options
        while read -r option; do
            grep -qF -- "$option" vmabackup.txt || fail "vmabackup(1) does not tell of $option"
        done <options
        grep -qw -- "$command" vmabackup.txt || fail "vmabackup(1) does not tell of $command"
    done
fi
