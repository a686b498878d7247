#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# create on a file system that has no unnamed files, or none of the newer ways to rename, or that fails: a
# hidden temporary name, which is gone in the end, and holds no archive before it.

. "$(dirname "$0")/lib/functions.sh"
requires_fuse
requires pkg-config python3
pkg-config --exists fuse3 || skip "no libfuse to build a file system with"

# A folder as a file system.  BACK/.fail says what fails: "write N" (EIO behind N bytes), "fsync" (EIO),
# "rename" (no flags), "link" (not at all).
cat >back.c <<'END'
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *back;
#define PATH(name, path) char name[4096]; snprintf(name, sizeof name, "%s%s", back, path)
#define RESULT(call) ((call) < 0 ? -errno : 0)

static long fails(const char *what)
{
    PATH(path, "/.fail");
    char line[64] = "";
    FILE *file = fopen(path, "r");
    if (file) {
        if (!fgets(line, sizeof line, file)) line[0] = 0;
        fclose(file);
    }
    if (strncmp(line, what, strlen(what)))
        return -1;
    return atol(line + strlen(what));
}
static int b_getattr(const char *p, struct stat *st, struct fuse_file_info *fi)
{ (void) fi; PATH(path, p); return RESULT(lstat(path, st)); }
static int b_readdir(const char *p, void *buf, fuse_fill_dir_t fill, off_t off,
                     struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
    (void) off; (void) fi; (void) flags;
    PATH(path, p);
    DIR *dir = opendir(path);
    if (!dir) return -errno;
    for (struct dirent *e; (e = readdir(dir)); )
        if (strcmp(e->d_name, ".fail")) fill(buf, e->d_name, NULL, 0, 0);
    closedir(dir);
    return 0;
}
static int b_create(const char *p, mode_t mode, struct fuse_file_info *fi)
{
    PATH(path, p);
    int fd = open(path, fi->flags | O_CREAT, mode);
    fi->fh = (unsigned) fd;
    return fd < 0 ? -errno : 0;
}
static int b_open(const char *p, struct fuse_file_info *fi)
{
    PATH(path, p);
    int fd = open(path, fi->flags);
    fi->fh = (unsigned) fd;
    return fd < 0 ? -errno : 0;
}
static int b_read(const char *p, char *buf, size_t n, off_t at, struct fuse_file_info *fi)
{ (void) p; ssize_t done = pread((int) fi->fh, buf, n, at); return done < 0 ? -errno : (int) done; }
static int b_write(const char *p, const char *buf, size_t n, off_t at, struct fuse_file_info *fi)
{
    (void) p;
    long limit = fails("write");
    if (limit >= 0 && at + (off_t) n > limit) return -EIO;
    ssize_t done = pwrite((int) fi->fh, buf, n, at);
    return done < 0 ? -errno : (int) done;
}
static int b_fsync(const char *p, int data, struct fuse_file_info *fi)
{ (void) p; (void) data; return fails("fsync") >= 0 ? -EIO : RESULT(fsync((int) fi->fh)); }
static int b_release(const char *p, struct fuse_file_info *fi)
{ (void) p; return RESULT(close((int) fi->fh)); }
static int b_unlink(const char *p) { PATH(path, p); return RESULT(unlink(path)); }
static int b_truncate(const char *p, off_t size, struct fuse_file_info *fi)
{ (void) fi; PATH(path, p); return RESULT(truncate(path, size)); }
static int b_rename(const char *from, const char *to, unsigned flags)
{
    PATH(a, from);
    PATH(b, to);
    if (flags && (fails("rename") >= 0 || fails("link") >= 0)) return -EINVAL;
    return RESULT(renameat2(AT_FDCWD, a, AT_FDCWD, b, flags));
}
static int b_link(const char *from, const char *to)
{
    PATH(a, from);
    PATH(b, to);
    return fails("link") >= 0 ? -EPERM : RESULT(link(a, b));
}
static const struct fuse_operations ops = {
    .getattr = b_getattr, .readdir = b_readdir, .create = b_create, .open = b_open,
    .read = b_read, .write = b_write, .fsync = b_fsync, .release = b_release,
    .unlink = b_unlink, .truncate = b_truncate, .rename = b_rename, .link = b_link,
};
int main(int argc, char **argv)
{
    back = getenv("BACK");
    return fuse_main(argc, argv, &ops, NULL);
}
END
read -ra flags < <(pkg-config --cflags --libs fuse3)
"${CC:-cc}" -O1 -o back-fs back.c "${flags[@]}"
mkdir back mnt
BACK=$PWD/back ./back-fs "$PWD/mnt"
cleanup_fn fusermount3 -u -z "$PWD/mnt"
is_mounted mnt || fail "not mounted"

is_empty()
{
    [ -z "$(find back -mindepth 1 ! -name .fail)" ]
}

nothing_left()
{
    # The file system keeps a deleted file under a hidden name until its last close has reached it.
    wait_until 3 is_empty || fail "left behind: $(find back -mindepth 1 ! -name .fail)"
}

head -c 20M /dev/urandom >disk.raw
same=(--uuid 01234567-89ab-cdef-0123-456789abcdef --ctime 1)
"$VMATOOL" create wanted.vma "${same[@]}" disk.raw

# However a file gets its name here, it does not replace another.
for how in nothing rename link; do
    echo "$how" >back/.fail
    "$VMATOOL" create mnt/good.vma "${same[@]}" disk.raw
    same_bytes wanted.vma mnt/good.vma
    same_text good.vma "$(ls -A mnt)"
    rm mnt/good.vma
    "$VMATOOL" create mnt/x.vma --speed 20M disk.raw 2>error &
    child=$!
    sleep 0.5
    echo mine >back/x.vma
    status=0
    wait "$child" || status=$?
    same_text "1 vmatool: mnt/x.vma: cannot create: File exists" "$status $(cat error)"
    same_text mine "$(cat back/x.vma)"
    rm mnt/x.vma
    nothing_left
done
rm back/.fail

# A name as long as they go.
long=$(printf 'n%.0s' $(seq 255))
"$VMATOOL" create "mnt/$long" disk.raw
same_text "$long" "$(ls -A mnt)"
rm "mnt/$long"

# The medium fails.
for way in none zstd lz4; do
    for where in 0 1000000 15000000; do
        echo "write $where" >back/.fail
        expect_fail 1 '^vmatool: mnt/x\.vma: cannot write: Input/output error$' \
            "$VMATOOL" create mnt/x.vma --compress "$way" disk.raw
        nothing_left
    done
    echo fsync >back/.fail
    expect_fail 1 '^vmatool: mnt/x\.vma: cannot write: Input/output error$' \
        "$VMATOOL" create mnt/x.vma --compress "$way" disk.raw
    nothing_left
done
rm back/.fail

# Signals.
for signal in TERM:143 KILL:137; do
    "$VMATOOL" create mnt/x.vma --speed 5M disk.raw 2>error &
    child=$!
    sleep 0.7
    part=$(find back -name '.x.vma.*.part')
    [ -s "$part" ] || fail "no temporary file"
    [ ! -e back/x.vma ] || fail "the name is there too early"
    kill -"${signal%:*}" "$child"
    status=0
    wait "$child" 2>/dev/null || status=$?
    same_text "${signal#*:}" "$status"
    if [ "$signal" = TERM:143 ]; then
        same_text "vmatool: interrupted" "$(sort -u error)"
        nothing_left
    else
        # What is left is nothing that could be taken for an archive.
        expect_fail 1 "$part" "$VMATOOL" list "$part"
        rm "$part"
    fi
done
