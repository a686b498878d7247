/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * umount.vmafs: what umount(8) calls for a mount of vmafs: by its type (umount.fuse.vmafs), or for
 * a guest's file system by the note "helper=vmafs" that mount.vmafs left in /run/mount/utab.
 *
 * Whatever unmounts it, what is below goes by itself (see stack.h).  But that takes a moment, and
 * who says `umount DIR && umount /backups` needs the archive closed by then: so this waits for the
 * vmafs behind the mount to end.
 */
#include "mount-helper/driver.h"
#include "mount-helper/loop.h"
#include "mount-helper/mapper.h"
#include "mount-helper/message.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libmount.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Somebody else may use the images still, in another mount name space for example: then not for
 * ever. */
#define WAIT_MS 5000

typedef struct {
  gboolean force, lazy, no_mtab, read_only, verbose;
  const char *namespace, *dir;
} Arguments;

static const char help[] = "Usage: umount DIR\n"
                           "       umount.vmafs DIR [-flnrv] [-N NAMESPACE] [-t TYPE]\n"
                           "\n"
                           "Called by umount(8); the options are those of umount(8).\n";

/* FALSE: the call is wrong, or it was for the help. */
static gboolean
parse (Arguments *arguments, int argc, char **argv, int *status)
{
  static const struct option long_options[]
      = { { "help", no_argument, NULL, 'h' }, { "version", no_argument, NULL, 'V' }, { 0 } };
  int c;

  opterr = 0;
  *status = MNT_EX_SUCCESS;
  while ((c = getopt_long (argc, argv, "flnrvN:t:hV", long_options, NULL)) != -1)
    switch (c) {
    case 'f':
      arguments->force = TRUE;
      break;
    case 'l':
      arguments->lazy = TRUE;
      break;
    case 'n':
      arguments->no_mtab = TRUE;
      break;
    case 'r':
      arguments->read_only = TRUE;
      break;
    case 'v':
      arguments->verbose = TRUE;
      break;
    case 'N':
      arguments->namespace = optarg;
      break;
    case 't':
      break;
    case 'h':
      fputs (help, stdout);
      return FALSE;
    case 'V':
      printf ("umount.vmafs %s\n", VMAFS_VERSION);
      return FALSE;
    default:
      *status = MNT_EX_USAGE;
    }
  if (*status == MNT_EX_SUCCESS && argc - optind == 1) {
    arguments->dir = argv[optind];
    return TRUE;
  }
  *status = MNT_EX_USAGE;
  g_autoptr (GError) error
      = g_error_new (HELPER_ERROR, MNT_EX_USAGE, "needs one directory (see umount.vmafs --help)");
  helper_fail (error);
  return FALSE;
}

/* --- who is behind it ----------------------------------------------------------------------- */

/* The top mount on a directory, or NULL. */
static struct libmnt_fs *
find_mount (struct libmnt_context *context, const char *dir)
{
  struct libmnt_fs *fs = NULL;

  return mnt_context_find_umount_fs (context, dir, &fs) == 0 ? fs : NULL;
}

/* Whether the same file system is mounted in another place as well. */
static gboolean
is_elsewhere (struct libmnt_context *context, struct libmnt_fs *fs)
{
  struct libmnt_iter *iterator = mnt_new_iter (MNT_ITER_FORWARD);
  struct libmnt_table *table = NULL;
  struct libmnt_fs *other;
  guint n = 0;

  if (mnt_context_get_mtab (context, &table) == 0)
    while (mnt_table_next_fs (table, iterator, &other) == 0)
      n += mnt_fs_get_devno (other) == mnt_fs_get_devno (fs);
  mnt_free_iter (iterator);
  return n > 1;
}

/*
 * A mount of images tells itself.  Another user's is not asked: a FUSE file system may answer when
 * it likes.
 */
static pid_t
pid_of_images (struct libmnt_fs *fs)
{
  char *user = NULL;
  gsize size = 0;

  if (mnt_fs_get_option (fs, "user_id", &user, &size) != 0
      || g_ascii_strtoull (user, NULL, 10) != geteuid ())
    return 0;
  int fd = open (mnt_fs_get_target (fs), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    return 0;
  pid_t pid = driver_pid (fd, NULL);
  close (fd);
  return pid;
}

/* A descriptor of the process behind a mount, or -1. */
static int
process_behind (struct libmnt_context *context, struct libmnt_fs *fs)
{
  const char *type = mnt_fs_get_fstype (fs), *source = mnt_fs_get_srcpath (fs);
  LoopTag tag;
  pid_t pid = 0;

  if (is_elsewhere (context, fs))
    return -1;
  if (g_strcmp0 (type, "fuse.vmafs") == 0)
    pid = pid_of_images (fs);
  else if (source != NULL && (mapper_get_tag (source, &tag) || loop_get_tag (source, &tag)))
    pid = tag.pid;
  return driver_pidfd (pid);
}

static void
wait_for_end (int pidfd)
{
  struct pollfd poller = { .fd = pidfd, .events = POLLIN };

  while (poll (&poller, 1, WAIT_MS) < 0 && errno == EINTR)
    ;
}

/* --- unmounting ----------------------------------------------------------------------------- */

/* Who is not root mounted with fusermount3, and needs it again. */
static int
unmount_as_user (const Arguments *arguments)
{
  const char *argv[] = { "fusermount3", "-u", arguments->dir, NULL, NULL };

  if (arguments->lazy) {
    argv[2] = "-z";
    argv[3] = arguments->dir;
  }
  execvp (argv[0], (char **) argv);
  g_autoptr (GError) error = NULL;
  helper_set_errno (&error, MNT_EX_SYSERR, errno, "cannot run fusermount3");
  return helper_fail (error);
}

static int
unmount (const Arguments *arguments, struct libmnt_context *context)
{
  char message[BUFSIZ] = "";

  int result = mnt_context_umount (context);
  int status = mnt_context_get_excode (context, result, message, sizeof message);
  if (status == MNT_EX_SUCCESS)
    return status;
  int errnum = mnt_context_syscall_called (context) ? mnt_context_get_syscall_errno (context) : 0;
  g_autoptr (GError) error = NULL;
  if (errnum == EBUSY)
    g_set_error (&error, HELPER_ERROR, status,
                 "%s: it is in use (fuser -vm %s shows by whom; umount -l leaves the end to them)",
                 arguments->dir, arguments->dir);
  else
    g_set_error (&error, HELPER_ERROR, status, "%s: %s", arguments->dir,
                 errnum != 0        ? g_strerror (errnum)
                 : *message != '\0' ? message
                                    : "cannot be unmounted");
  return helper_fail (error);
}

static int
run (const Arguments *arguments)
{
  struct libmnt_context *context = mnt_new_context ();
  int pidfd = -1;

  if (context == NULL)
    return MNT_EX_SYSERR;
  mnt_context_disable_helpers (context, TRUE); /* that is us */
  mnt_context_disable_mtab (context, arguments->no_mtab);
  mnt_context_enable_verbose (context, arguments->verbose);
  mnt_context_enable_force (context, arguments->force);
  mnt_context_enable_lazy (context, arguments->lazy);
  mnt_context_enable_rdonly_umount (context, arguments->read_only);
  if (arguments->namespace != NULL)
    mnt_context_set_target_ns (context, arguments->namespace);
  else if (!arguments->lazy) {
    struct libmnt_fs *fs = find_mount (context, arguments->dir);
    if (fs != NULL)
      pidfd = process_behind (context, fs);
  }
  mnt_context_set_target (context, arguments->dir);
  int status = unmount (arguments, context);
  if (pidfd >= 0) {
    if (status == MNT_EX_SUCCESS)
      wait_for_end (pidfd);
    close (pidfd);
  }
  mnt_free_context (context);
  return status;
}

int
main (int argc, char **argv)
{
  Arguments arguments = { 0 };
  int status;

  setlocale (LC_ALL, "");
  helper_set_name ("umount.vmafs");
  if (!parse (&arguments, argc, argv, &status))
    return status;
  return geteuid () == 0 ? run (&arguments) : unmount_as_user (&arguments);
}
