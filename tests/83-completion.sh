#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Completion in bash offers commands, options, mount options and words; zsh can read its own.

. "$(dirname "$0")/lib/functions.sh"

complete_line() # FILE WORD...: what bash offers for the last word
{
    local file=$1
    shift
    # shellcheck disable=SC2016
    bash --norc -c '
        compopt() { :; } # only within a completion that readline started
        . "$1"; shift
        function=$(complete -p "$1" | sed "s/.*-F \([^ ]*\).*/\1/")
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        "$function"
        printf "%s\n" "${COMPREPLY[@]}"' complete "$BUILDDIR/completion/$file" "$@"
}

same_text extract "$(complete_line vmatool vmatool ext)"
complete_line vmatool vmatool '' >commands
grep -qx verify commands
same_text "--readmap=" "$(complete_line vmatool vmatool extract --rea)"
same_text "--salvage" "$(complete_line vmatool vmatool verify --sa)"
same_text "" "$(complete_line vmatool vmatool list --readm)"
same_text "none" "$(complete_line vmatool vmatool extract --index-cache = no)"
touch one.vma
same_text one.vma "$(complete_line vmatool vmatool list on)"
same_text salvage "$(complete_line vmafs vmafs a.vma mnt -o salv)"
same_text salvage,cache_size= "$(complete_line vmafs vmafs a.vma mnt -o salvage,cache)"
same_text "--on-full=" "$(complete_line vmabackup vmabackup run --on)"

# Each option that a help tells of can be completed.
for command in list verify extract create; do
    "$VMATOOL" "$command" --help | grep -oE -- '--[a-z][a-z-]+' | sort -u >told
    complete_line vmatool vmatool "$command" -- | sed 's/=//' | sort -u >offered
    same_text "" "$(comm -23 told offered)"
done

requires zsh
for file in "$BUILDDIR"/completion/_vma*; do
    zsh -n "$file"
done
