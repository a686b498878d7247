#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: asan
# verify: silent and 0 for what is good, also from a pipe; -v as the reference; finds what is missing.

. "$(dirname "$0")/lib/functions.sh"

for layout in $(python3 "$lib/vmagen.py" --list); do
    make_archive "$layout" a.vma >/dev/null
    "$VMATOOL" verify a.vma >stdout 2>stderr || fail "$layout: $(cat stderr)"
    [ ! -s stdout ] && [ ! -s stderr ] || fail "verify of $layout is not silent"
    # shellcheck disable=SC2002
    cat a.vma | "$VMATOOL" verify - || fail "$layout through a pipe"
done

"$VMATOOL" verify -v "$fixtures/tiny.vma" >verbose
grep -qE '^progress [0-9]+% \(read [0-9]+ bytes, duration [0-9]+ sec\)$' verbose || fail "$(cat verbose)"
grep -qE 'bytes read [0-9]+, sparse bytes [0-9]+' verbose || fail "no summary: $(cat verbose)"
"$VMATOOL" verify -v "$fixtures/edge/21_size_512.vma" >/dev/null
"$VMATOOL" verify -v "$fixtures/edge/11_nodev_noextent.vma" >/dev/null

"$VMATOOL" verify --json "$fixtures/tiny.vma" >good.json
jq -e . good.json >/dev/null || fail "verify --json is no JSON: $(cat good.json)"

for bad in 30_missing_cluster 3b_no_extents 57_trunc_at_extent; do
    expect_fail 1 "$bad\\.vma: .*(missing|not in)" "$VMATOOL" verify "$fixtures/edge/$bad.vma"
done
# (expect_fail gives the command no input of its own)
expect_fail 1 "(stdin|standard input|-): .*at [0-9]+" \
    sh -c "\"$VMATOOL\" verify - <$fixtures/edge/40_ext_badmd5.vma"
