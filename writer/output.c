/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "writer/output.h"

#include "index/lock.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Guests' disks are nobody else's business. */
#define FILE_MODE 0640

struct VmaOutput {
  char *target; /* as given, for messages */
  int fd;
  int read_fd;  /* the same file, until free(): -1 where it is not seekable */
  int wake_fd;  /* readable once cancelled: frees those who wait for a reader of a pipe */
  gboolean seekable;
  gboolean on_disk;        /* a regular file */
  gboolean inherited_file; /* one that is not ours, which is cut to `start` after a failure */
  off_t start;
  char *final; /* the name to get; NULL: none */
  atomic_bool cancelled;

  pthread_mutex_t lock; /* of what follows */
  gboolean finished;
  char *temporary; /* the name it has until it gets its own; NULL: none at all */
  pid_t child;     /* 0: none */
};

/* A hidden name, for file systems without unnamed files; the header stays empty until the end. */
static gboolean
open_temporary (VmaOutput *output, const char *dir, GError **error)
{
  g_autofree char *base = g_path_get_basename (output->target);
  /* A name may have 255 bytes; what is added must fit too. */
  output->temporary = g_strdup_printf ("%s/.%.200s.XXXXXX.part", dir, base);
  output->fd = g_mkstemp_full (output->temporary, O_RDWR | O_CLOEXEC, FILE_MODE);
  if (output->fd >= 0)
    return TRUE;
  vma_set_errno_error (error, errno, "%s: cannot create", output->target);
  g_clear_pointer (&output->temporary, g_free); /* whoever has that name, it is not ours */
  return FALSE;
}

static gboolean
open_file (VmaOutput *output, GError **error)
{
  g_autofree char *dir = g_path_get_dirname (output->target);
  struct stat st;

  if (lstat (output->target, &st) == 0 && (S_ISFIFO (st.st_mode) || S_ISCHR (st.st_mode))) {
    output->fd = open (output->target, O_WRONLY | O_CLOEXEC);
    if (output->fd < 0)
      vma_set_errno_error (error, errno, "%s: cannot open", output->target);
    return output->fd >= 0;
  }
  if (lstat (output->target, &st) == 0) {
    vma_set_errno_error (error, EEXIST, "%s: cannot create", output->target);
    return FALSE;
  }
  output->seekable = output->on_disk = TRUE;
  output->final = g_strdup (output->target);
  /* An unnamed file gets its name through /proc. */
  if (access ("/proc/self/fd", X_OK) != 0)
    return open_temporary (output, dir, error);
  output->fd = open (dir, O_TMPFILE | O_RDWR | O_CLOEXEC, FILE_MODE);
  if (output->fd >= 0)
    return TRUE;
  if (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL || errno == ENOSYS)
    return open_temporary (output, dir, error);
  vma_set_errno_error (error, errno, "%s: cannot create", output->target);
  return FALSE;
}

static gboolean
open_inherited (VmaOutput *output, const char *number, GError **error)
{
  guint64 fd;
  struct stat st;

  if (!g_ascii_string_to_unsigned (number, 10, 0, G_MAXINT, &fd, NULL)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s: not a descriptor number",
                 output->target);
    return FALSE;
  }
  output->fd = fcntl ((int) fd, F_DUPFD_CLOEXEC, 3);
  if (output->fd < 0 || fstat (output->fd, &st) != 0) {
    vma_set_errno_error (error, errno, "%s: cannot use this descriptor", output->target);
    return FALSE;
  }
  int flags = fcntl (output->fd, F_GETFL);
  output->on_disk = S_ISREG (st.st_mode);
  if (!output->on_disk || (flags & O_ACCMODE) == O_RDONLY)
    return TRUE; /* a write will tell */
  output->start = (flags & O_APPEND) != 0 ? st.st_size : lseek (output->fd, 0, SEEK_CUR);
  output->inherited_file = TRUE;
  output->seekable
      = output->start == 0 && (flags & O_ACCMODE) == O_RDWR && (flags & O_APPEND) == 0;
  /* What an older and longer file leaves behind the archive would be taken for a part of it. */
  if (output->seekable && ftruncate (output->fd, 0) != 0) {
    vma_set_errno_error (error, errno, "%s: cannot use this descriptor", output->target);
    return FALSE;
  }
  return TRUE;
}

static gboolean
open_command (VmaOutput *output, const char *command, GError **error)
{
  int fds[2];

  if (pipe2 (fds, O_CLOEXEC) != 0) {
    vma_set_errno_error (error, errno, "%s: cannot start", output->target);
    return FALSE;
  }
  sigset_t none;
  sigemptyset (&none);
  pid_t child = fork ();
  if (child == 0) {
    /* A group of its own, so that all of a pipeline can be stopped. */
    setpgid (0, 0);
    if (fds[0] == STDIN_FILENO)
      fcntl (fds[0], F_SETFD, 0);
    else
      dup2 (fds[0], STDIN_FILENO);
    signal (SIGPIPE, SIG_DFL);
    sigprocmask (SIG_SETMASK, &none, NULL); /* our caller may have blocked what is to stop it */
    execl ("/bin/sh", "sh", "-c", command, (char *) NULL);
    _exit (127);
  }
  close (fds[0]);
  if (child > 0)
    setpgid (child, child); /* here too: whoever comes first */
  if (child < 0) {
    vma_set_errno_error (error, errno, "%s: cannot start", output->target);
    close (fds[1]);
    return FALSE;
  }
  output->fd = fds[1];
  output->child = child;
  return TRUE;
}

/*
 * A write to a pipe that nobody reads would last for ever, and no other thread could end it: so none
 * waits in the kernel, but in poll().  The flag belongs to whoever shares the open file; a pipe can be
 * opened once more, and what cannot stays as it is.
 */
static void
never_wait (VmaOutput *output)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", output->fd);
  struct stat st;

  if (output->wake_fd < 0 || fstat (output->fd, &st) != 0 || !S_ISFIFO (st.st_mode))
    return;
  int fd = open (path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0)
    return;
  close (output->fd);
  output->fd = fd;
}

VmaOutput *
vma_output_open (const char *target, GError **error)
{
  g_autoptr (VmaOutput) output = g_new0 (VmaOutput, 1);
  gboolean ok;

  output->target = g_strdup (target);
  output->fd = output->read_fd = -1;
  output->wake_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  pthread_mutex_init (&output->lock, NULL);
  if (strcmp (target, "-") == 0)
    ok = open_inherited (output, "1", error);
  else if (g_str_has_prefix (target, "fd:"))
    ok = open_inherited (output, target + 3, error);
  else if (g_str_has_prefix (target, "exec:"))
    ok = open_command (output, target + 5, error);
  else
    ok = open_file (output, error);
  if (!ok)
    return NULL;
  if (output->seekable)
    output->read_fd = fcntl (output->fd, F_DUPFD_CLOEXEC, 3);
  else
    never_wait (output);
  return g_steal_pointer (&output);
}

gboolean
vma_output_is_seekable (const VmaOutput *output)
{
  return output->seekable;
}

static gboolean
write_failed (VmaOutput *output, int errnum, GError **error)
{
  vma_set_errno_error (error, errnum, "%s: cannot write", output->target);
  return FALSE;
}

static gboolean
is_cancelled (VmaOutput *output, GError **error)
{
  if (!atomic_load (&output->cancelled))
    return FALSE;
  g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "%s: cancelled", output->target);
  return TRUE;
}

/* Whether a write that did not work is to be tried again. */
static gboolean
try_again (VmaOutput *output, int errnum)
{
  if (errnum != EAGAIN)
    return errnum == EINTR;
  struct pollfd wait[] = {
    { .fd = output->fd, .events = POLLOUT },
    { .fd = output->wake_fd, .events = POLLIN },
  };
  return poll (wait, G_N_ELEMENTS (wait), -1) >= 0 || errno == EINTR;
}

gboolean
vma_output_write_at (VmaOutput *output, struct iovec *iov, int n, guint64 offset, GError **error)
{
  while (n > 0) {
    if (is_cancelled (output, error))
      return FALSE;
    gssize done = pwritev (output->fd, iov, MIN (n, IOV_MAX), (off_t) offset);
    if (done < 0) {
      if (try_again (output, errno))
        continue;
      return write_failed (output, errno, error);
    }
    offset += (guint64) done;
    while (n > 0 && (gsize) done >= iov->iov_len) {
      done -= (gssize) iov->iov_len;
      iov++;
      n--;
    }
    if (n > 0) {
      iov->iov_base = (guint8 *) iov->iov_base + done;
      iov->iov_len -= (gsize) done;
    }
  }
  return TRUE;
}

void
vma_output_start_writeback (VmaOutput *output, guint64 offset, guint64 size)
{
  if (output->on_disk)
    sync_file_range (output->fd, (off_t) offset, (off_t) size, SYNC_FILE_RANGE_WRITE);
}

gboolean
vma_output_append (VmaOutput *output, const void *data, gsize size, GError **error)
{
  while (size > 0) {
    if (is_cancelled (output, error))
      return FALSE;
    gssize done = write (output->fd, data, size);
    if (done < 0 && !try_again (output, errno))
      return write_failed (output, errno, error);
    if (done > 0) {
      data = (const guint8 *) data + done;
      size -= (gsize) done;
    }
  }
  return TRUE;
}

gboolean
vma_output_read_at (VmaOutput *output, void *buffer, gsize size, guint64 offset, GError **error)
{
  gsize done = 0;

  while (done < size) {
    gssize n = pread (output->read_fd, (guint8 *) buffer + done, size - done, (off_t) (offset + done));
    if (n > 0)
      done += (gsize) n;
    else if (n == 0 || errno != EINTR) {
      vma_set_errno_error (error, n == 0 ? EIO : errno,
                           "%s: cannot read back at %" G_GUINT64_FORMAT, output->target,
                           offset + done);
      return FALSE;
    }
  }
  return TRUE;
}

/* The command's end is ours: FALSE unless it exits with 0. */
static gboolean
wait_for_command (VmaOutput *output, GError **error)
{
  siginfo_t info;
  int status = 0;

  /* Not reaped before we hold the lock: its number may be another's then, and cancel() kills it. */
  while (waitid (P_PID, (id_t) output->child, &info, WEXITED | WNOWAIT) != 0 && errno == EINTR)
    ;
  {
    VMA_LOCK (&output->lock);
    waitpid (output->child, &status, 0);
    output->child = 0;
  }
  if (is_cancelled (output, error))
    return FALSE;
  if (WIFEXITED (status) && WEXITSTATUS (status) == 0)
    return TRUE;
  if (WIFEXITED (status))
    g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "%s: the command failed with status %d",
                 output->target, WEXITSTATUS (status));
  else
    g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "%s: the command was killed by signal %d",
                 output->target, WTERMSIG (status));
  return FALSE;
}

/* Renames without replacing anything, by the means that the file system has. */
static gboolean
rename_new (const char *from, const char *to)
{
  struct stat st;

  if (renameat2 (AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
    return TRUE;
  if (errno == EEXIST)
    return FALSE;
  if (link (from, to) == 0)
    return unlink (from) == 0;
  if (errno == EEXIST)
    return FALSE;
  if (lstat (to, &st) == 0) {
    errno = EEXIST;
    return FALSE;
  }
  return rename (from, to) == 0;
}

/* Gives a file its name.  The caller holds the lock. */
static gboolean
name_file (VmaOutput *output, GError **error)
{
  gboolean ok;

  if (output->temporary != NULL)
    ok = rename_new (output->temporary, output->final);
  else {
    g_autofree char *unnamed = g_strdup_printf ("/proc/self/fd/%d", output->fd);
    ok = linkat (AT_FDCWD, unnamed, AT_FDCWD, output->final, AT_SYMLINK_FOLLOW) == 0;
  }
  if (!ok) {
    vma_set_errno_error (error, errno, "%s: cannot create", output->final);
    return FALSE;
  }
  g_clear_pointer (&output->temporary, g_free);

  /* The name is to last as well; a directory that cannot be synced is not worth failing for. */
  g_autofree char *dir = g_path_get_dirname (output->final);
  int fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) {
    fsync (fd);
    close (fd);
  }
  return TRUE;
}

gboolean
vma_output_sync (VmaOutput *output, GError **error)
{
  if (is_cancelled (output, error))
    return FALSE;
  if (output->on_disk && fsync (output->fd) != 0)
    return write_failed (output, errno, error);
  if (output->child == 0)
    return TRUE;
  close (output->fd);
  output->fd = -1;
  return wait_for_command (output, error);
}

gboolean
vma_output_finish (VmaOutput *output, GError **error)
{
  VMA_LOCK (&output->lock);
  if (is_cancelled (output, error) || (output->final != NULL && !name_file (output, error)))
    return FALSE;
  output->finished = TRUE;
  /* Some file systems tell of a full disk only here. */
  int failed = output->fd >= 0 && close (output->fd) != 0 ? errno : 0;
  output->fd = -1;
  if (failed == 0 || failed == EINTR)
    return TRUE;
  if (output->final != NULL)
    unlink (output->final);
  return write_failed (output, failed, error);
}

void
vma_output_cancel (VmaOutput *output, gboolean at_once)
{
  VMA_LOCK (&output->lock);
  if (output->finished)
    return;
  gboolean first = !atomic_exchange (&output->cancelled, TRUE);
  const guint64 one = 1;
  if (output->wake_fd >= 0 && write (output->wake_fd, &one, sizeof one) < 0)
    g_debug ("eventfd: %s", g_strerror (errno));
  /* Before its input ends, which must not look to it like the end of an archive. */
  if (output->child != 0 && (first || at_once))
    kill (-output->child, at_once ? SIGKILL : SIGTERM);
  if (output->temporary != NULL)
    unlink (output->temporary);
  g_clear_pointer (&output->temporary, g_free);
}

/* Waits for a command that was told to stop; one that does not is killed after two seconds. */
static void
reap_command (VmaOutput *output)
{
  for (guint tries = 0; tries < 100; tries++) {
    pid_t reaped = waitpid (output->child, NULL, WNOHANG);
    if (reaped == output->child || (reaped < 0 && errno != EINTR))
      return;
    g_usleep (20000);
  }
  kill (-output->child, SIGKILL);
  while (waitpid (output->child, NULL, 0) < 0 && errno == EINTR)
    ;
}

void
vma_output_free (VmaOutput *output)
{
  vma_output_cancel (output, FALSE);
  if (output->child != 0)
    reap_command (output);
  if (!output->finished && output->inherited_file && output->fd >= 0
      && ftruncate (output->fd, output->start) != 0)
    g_debug ("%s: cannot be truncated: %s", output->target, g_strerror (errno));
  if (output->fd >= 0)
    close (output->fd);
  if (output->read_fd >= 0)
    close (output->read_fd);
  if (output->wake_fd >= 0)
    close (output->wake_fd);
  pthread_mutex_destroy (&output->lock);
  g_free (output->final);
  g_free (output->target);
  g_free (output);
}
