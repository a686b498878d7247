/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * null SIZE MOUNTPOINT [direct_io] [FILE]: the limit of FUSE.
 *
 * Shows one file, disk.raw, and answers every read of it with zeros from memory, with the settings of
 * fuse/fs.c and fuse/main.c.  With FILE the answers are the bytes of that file, by one pread() each:
 * whatever vmafs loses against that is our own doing.  Stays in the foreground.  The caller sets the read-ahead of the mount.
 */
#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_READ (1024u * 1024u)
#define FOREVER  86400.0

enum { FILE_INO = FUSE_ROOT_ID + 1 };

static const char file_name[] = "disk.raw";
static off_t file_size;
static int direct_io;
static char zeros[MAX_READ];

static int
fill_stat (fuse_ino_t ino, struct stat *st)
{
  *st = (struct stat){ .st_ino = ino, .st_nlink = 1 };
  if (ino == FUSE_ROOT_ID)
    st->st_mode = S_IFDIR | 0555;
  else if (ino == FILE_INO) {
    st->st_mode = S_IFREG | 0444;
    st->st_size = file_size;
    st->st_blocks = file_size / 512;
    st->st_blksize = direct_io ? (blksize_t) MAX_READ : 65536;
  } else
    return ENOENT;
  return 0;
}

static void
null_init (void *data, struct fuse_conn_info *conn)
{
  (void) data;
  conn->want &= ~(unsigned) (FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
  conn->want |= conn->capable & FUSE_CAP_EXPORT_SUPPORT;
  conn->max_read = MAX_READ;
}

static void
null_lookup (fuse_req_t req, fuse_ino_t parent, const char *name)
{
  struct fuse_entry_param entry = { .ino = FILE_INO, .attr_timeout = FOREVER, .entry_timeout = FOREVER };

  if (parent != FUSE_ROOT_ID || strcmp (name, file_name) != 0) {
    fuse_reply_err (req, ENOENT);
    return;
  }
  fill_stat (FILE_INO, &entry.attr);
  fuse_reply_entry (req, &entry);
}

static void
null_getattr (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
  struct stat st;
  int error = fill_stat (ino, &st);

  (void) fi;
  if (error != 0)
    fuse_reply_err (req, error);
  else
    fuse_reply_attr (req, &st, FOREVER);
}

static void
null_open (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
  (void) ino;
  fi->direct_io = direct_io != 0;
  fi->keep_cache = direct_io == 0;
  fuse_reply_open (req, fi);
}

static int backing = -1; /* a file whose bytes are the answers, in place of zeros */
static _Thread_local char *buffer;

static void
null_read (fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
  (void) ino;
  (void) fi;
  if (offset >= file_size)
    size = 0;
  else if ((off_t) size > file_size - offset)
    size = (size_t) (file_size - offset);
  size = size < MAX_READ ? size : MAX_READ;
  if (backing < 0) {
    fuse_reply_buf (req, zeros, size);
    return;
  }
  /* As much as any driver must do that has its data in a file. */
  if (buffer == NULL)
    buffer = malloc (MAX_READ);
  ssize_t got = buffer != NULL ? pread (backing, buffer, size, offset) : -1;
  if (got < 0)
    fuse_reply_err (req, EIO);
  else
    fuse_reply_buf (req, buffer, (size_t) got);
}

static const struct fuse_lowlevel_ops null_ops = {
  .init = null_init,
  .lookup = null_lookup,
  .getattr = null_getattr,
  .open = null_open,
  .read = null_read,
};

static int
serve (struct fuse_session *session, const char *mountpoint)
{
  int result = EXIT_FAILURE;

  if (fuse_set_signal_handlers (session) != 0)
    return result;
  if (fuse_session_mount (session, mountpoint) == 0) {
    struct fuse_loop_config *config = fuse_loop_cfg_create ();
    result = fuse_session_loop_mt (session, config) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
    fuse_loop_cfg_destroy (config);
    fuse_session_unmount (session);
  }
  fuse_remove_signal_handlers (session);
  return result;
}

int
main (int argc, char **argv)
{
  for (int i = 3; i < argc; i++)
    if (strcmp (argv[i], "direct_io") == 0)
      direct_io = 1;
    else if (backing >= 0 || (backing = open (argv[i], O_RDONLY)) < 0)
      argc = 0;
  if (argc < 3) {
    fprintf (stderr, "usage: null SIZE MOUNTPOINT [direct_io] [FILE]\n");
    return 2;
  }
  file_size = (off_t) strtoll (argv[1], NULL, 10);
  memset (zeros, 1, sizeof zeros); /* zeros never written are one page of the kernel's, 256 times over */
  memset (zeros, 0, sizeof zeros);

  char dash_o[] = "-o";
  char options[] = "ro,nosuid,nodev,default_permissions,subtype=null,max_read=1048576";
  char *args[] = { argv[0], dash_o, options, NULL };
  struct fuse_args fuse_args = FUSE_ARGS_INIT (3, args);
  struct fuse_session *session = fuse_session_new (&fuse_args, &null_ops, sizeof null_ops, NULL);
  fuse_opt_free_args (&fuse_args);
  if (session == NULL)
    return EXIT_FAILURE;
  int result = serve (session, argv[2]);
  fuse_session_destroy (session);
  return result;
}
