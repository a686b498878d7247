#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# test: timeout=400
# The commands of the README, of the guides and of nbdkit-vma-plugin(1) are run as they stand, page by page, on a
# machine that has what they speak of. docs/remote.md and docs/libvirt.md have tests of their own.

. "$(dirname "$0")/lib/functions.sh"
requires qemu-img qemu-system-x86_64 nbdkit losetup sfdisk jq mkfs.ext4 mkfs.vfat mkntfs ntfscp lvm mdir fuse2fs cc
if [ "${MOUNT_HELPER_NAMESPACE:-}" != yes ]; then
    # With processes of its own: what the pages leave in the background ends with the test.
    requires_root
    [ -n "${own_tmp:-}" ] || own_tmp=no
    status=0
    MOUNT_HELPER_NAMESPACE=yes own_tmp=no \
        unshare -mpf --kill-child --mount-proc --propagation private "$tests/$(basename "$0")" || status=$?
    exit "$status"
fi
. "$lib/mounthelper.sh"
. "$lib/guestdisks.sh"
top=$(cd "$tests/.." && pwd)

# --- the machine ---------------------------------------------------------------------------------------

mkdir machine bin
mount -t tmpfs none machine
mkdir -p machine/{srv,mnt}/ machine/mnt/{backup,guest,dump,frozen} machine/vz/dump
mount --bind machine/srv /srv
mount --bind machine/mnt /mnt
if [ ! -d /var/lib/vz ]; then # one that is only seen from here: a folder of links to what is there
    mkdir machine/lib machine/lib/vz lib.old
    mount --rbind /var/lib lib.old
    find lib.old/ -mindepth 1 -maxdepth 1 -printf "$PWD/%p\0" | xargs -0 ln -st machine/lib
    mount --bind machine/lib /var/lib
fi
mount --bind machine/vz /var/lib/vz

# A guest: two partitions with a root file system, a volume group, and a disk from Windows.
make_tree tree
mkdir -p tree/etc/nginx tree/home/anna/letters tree/srv/www windows/Users/anna
echo conf | tee tree/etc/nginx/nginx.conf tree/home/anna/letters/one tree/srv/www/index.html >windows/a.txt
fill() # DISK NUMBER COMMAND...
{
    part_image "$1" "$2" part.raw
    "${@:3}" part.raw >log 2>&1 || fail "$(cat log)"
    put_part "$1" "$2" part.raw
}
make_disk system.raw 110M <<'END'
label: gpt
size=40M, type=U, name="EFI"
size=60M, type=L
END
fill system.raw 1 mkfs.vfat -F 32 -n EFI
fill system.raw 2 mkfs.ext4 -q -L rootfs -d tree
truncate -s 24M data.raw
device=$(losetup -f --show data.raw)
lvm_on "$device"
{
    lvm_do pvcreate --dataalignment 1m "$device"
    lvm_do vgcreate -s 1m data "$device"
    lvm_do lvcreate -an -Zn -Wn -l 20 -n srv data
} >log 2>&1 || fail "$(cat log)"
losetup -d "$device"
truncate -s 20M part.raw
mkfs.ext4 -q -d tree/srv part.raw
dd if=part.raw of=data.raw bs=1M seek=1 conv=notrunc,sparse status=none
make_disk windows.raw 24M <<'END'
label: dos
size=20M, type=7
END
make_ntfs() # IMAGE
{
    mkntfs -q -F -L windows "$1"
    device=$(losetup -f --show "$1")
    mkdir -p ntfs
    if ntfs-3g "$device" ntfs; then
        cp -r windows/Users ntfs/ && cp windows/a.txt ntfs/Users/anna/
        umount ntfs
    fi
    losetup -d "$device"
}
fill windows.raw 1 make_ntfs
printf 'cores: 2\nmemory: 2048\nscsi0: local:vm-100-disk-0,size=110M\n' >qemu-server.conf
"$VMATOOL" create backup.vma -c qemu-server.conf drive-scsi0=system.raw drive-scsi1=data.raw drive-scsi2=windows.raw
"$VMATOOL" repack backup.vma backup.vma.zst

# Programs as the pages take them to be: KVM, which is not here, is left out; "..." is a guest of ours; and
# who looks at a guest's screen ends after a moment.
PATH=$TEST_TMP/bin:$(dirname "$VMATOOL"):$(dirname "$VMAFS"):$(dirname "$(find_program vmabackup backup)"):$PATH
qemu=$(command -v qemu-system-x86_64)
cat >bin/qemu-system-x86_64 <<END
#!/bin/bash
arguments=(-nodefaults -display none)
ends=(timeout --preserve-status 3)
for argument; do
    case \$argument in
    -enable-kvm) ;;
    ...)
        ends=()
        arguments+=(-m 64 -daemonize -device virtio-scsi-pci
            -drive "file=$TEST_TMP/live.qcow2,format=qcow2,if=none,id=drive-scsi0"
            -device scsi-hd,drive=drive-scsi0,id=scsi0)
        ;;
    *) arguments+=("\$argument") ;;
    esac
done
exec "\${ends[@]}" $qemu "\${arguments[@]}"
END
cat >bin/nbdkit <<END
#!/bin/bash
# The plugin is not installed.
for argument; do
    [ "\$argument" != vma ] || argument=$BUILDDIR/nbdkit/nbdkit-vma-plugin.so
    arguments+=("\$argument")
done
exec $(command -v nbdkit) "\${arguments[@]}"
END
chmod +x bin/*
# The library is not installed, either.
export PKG_CONFIG_PATH=$BUILDDIR/meson-uninstalled CPATH=$top/include LD_LIBRARY_PATH=$BUILDDIR/libvma
export VMAFS_BUILD=$BUILDDIR

# --- the pages -----------------------------------------------------------------------------------------

end_guests()
{
    local pid
    for pid in $(pgrep -x qemu-system-x86); do # of our name space
        kill "$pid"
    done
    wait_until 20 sh -c '! pgrep -x qemu-system-x86 >/dev/null'
}

mounts()
{
    findmnt -n -r -o TARGET,SOURCE | sort
}

run_page() # PAGE BLOCKS: how many it must have at least
{
    local page=$1 number=0 place=$TEST_TMP/place block status
    echo "--- $page ($SECONDS s)"
    rm -rf "$place" /srv/* live.qcow2
    mkdir -p "$place/mnt" "$place/blocks"
    ln backup.vma backup.vma.zst "$place/"
    qemu-img convert -O qcow2 system.raw live.qcow2
    mounts >mounts.before
    cd "$place"
    "prepare_$(basename "${page%%.*}" | tr - _)"
    python3 "$lib/pages.py" "$top/$page" blocks
    while block=blocks/block-$number && [ -e "$block" ]; do
        # What the page leaves in the background ends by itself.
        echo 'wait' >>"$block"
        status=0
        if grep -q '^\./quickstart' "$block"; then
            (cd "$top" && timeout 120 bash "$place/$block" >"$place/log" 2>&1) || status=$?
        else
            timeout 120 bash "$block" >log 2>&1 || status=$?
        fi
        [ "$status" = 0 ] || fail "$page: status $status of
$(cat "$block") $(tail -n 20 log)"
        number=$((number + 1))
        "after_$(basename "${page%%.*}" | tr - _)" "$number"
    done
    [ "$number" -ge "$2" ] || fail "$page has only $number blocks"
    end_guests
    cd "$TEST_TMP"
    mounts >mounts.after
    same_text "" "$(comm -13 mounts.before mounts.after)"
}

prepare_README()
{
    ln -s "$top/examples" examples
    cp ../backup.vma.zst "/var/lib/vz/dump/vzdump-qemu-100-2026_01_31-02_00_00.vma.zst"
    cp ../qemu-server.conf .
    cp --sparse=always ../system.raw disk.raw
    qemu-img convert -O qcow2 ../data.raw data.qcow2
    gzip -c backup.vma >old.vma.gz
    head -c $(($(stat -c %s backup.vma) / 3)) backup.vma >broken.vma
    ln backup.vma copy.vma
    ln backup.vma.zst monday.vma.zst
    ln backup.vma.zst tuesday.vma.zst
}

after_README() # NUMBER
{
    if [ -d "$BUILDDIR/demo" ]; then
        grep -q 'All went well' log || fail "$(cat log)"
        umount "$BUILDDIR/demo/mnt"
        rm -r "$BUILDDIR/demo"
    fi
    case $1 in
    2) same_bytes ../tree/etc/nginx/nginx.conf /srv/nginx/nginx.conf ;;
    3) same_bytes ../tree/etc/nginx/nginx.conf nginx/nginx.conf ;;
    esac
    if [ -e guest.qcow2 ]; then
        qemu-img compare guest.qcow2 ../system.raw >log || fail "$(cat log)"
        rm guest.qcow2
    fi
    if [ -e new.vma.zst ]; then
        "$VMATOOL" diff new.vma.zst backup.vma
        "$VMATOOL" diff whole.vma backup.vma
        rm new.vma.zst
    fi
}

prepare_guest_files()
{
    ln backup.vma web.vma
}

after_guest_files()
{
    :
}

prepare_single_file_restore()
{
    :
}

after_single_file_restore() # NUMBER
{
    case $1 in
    1) grep -q '^root: disk-drive-scsi0.raw/p2' log || fail "$(cat log)" ;;
    2)
        same_bytes ../tree/home/anna/letters/one letters/one
        same_bytes ../tree/srv/www/index.html /srv/www/index.html
        ;;
    3) grep -qx conf log || fail "not the file from NTFS: $(cat log)" ;;
    esac
}

prepare_overlay()
{
    ln backup.vma.zst vzdump-qemu-100.vma.zst
    sha256sum backup.vma backup.vma.zst >sums
}

after_overlay()
{
    sha256sum --quiet -c sums
}

prepare_live_backup()
{
    :
}

after_live_backup() # NUMBER
{
    local archive
    for archive in *.vma *.vma.zst; do
        case $archive in
        backup.*) continue ;;
        esac
        "$VMATOOL" extract "$archive" out
        same_bytes ../system.raw out/disk-drive-scsi0.raw
        rm -r out
    done
}

prepare_nbdkit_vma_plugin()
{
    :
}

after_nbdkit_vma_plugin() # NUMBER
{
    case $1 in
    1) qemu-img compare guest.qcow2 ../system.raw >log || fail "$(cat log)" ;;
    2) same_bytes ../system.raw guest.raw ;;
    3) grep -q 'export="drive-scsi1"' log || fail "$(cat log)" ;;
    esac
}

prepare_migration()
{
    :
}

after_migration()
{
    :
}

prepare_forensics()
{
    :
}

after_forensics()
{
    :
}

run_page README.md 15
run_page docs/single-file-restore.md 3
run_page docs/guest-files.md 3
run_page docs/overlay.md 5
run_page docs/forensics.md 5
run_page docs/migration.md 6
run_page docs/live-backup.md 5
run_page man/nbdkit-vma-plugin.1.scd 4
