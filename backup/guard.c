/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/guard.h"

#include "backup/clean.h"
#include "backup/names.h"
#include "backup/vmstate.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define HEARTBEAT_SECONDS 1
/*
 * A backup that is stopped (SIGSTOP) holds writes of the guest up; one that is silent may be slow.
 */
#define STOPPED_SECONDS 3
#define SILENT_SECONDS 25
#define QMP_SECONDS 30
#define MESSAGE_MAX 4200

struct VmaGuard {
  int fd; /* a socket of packets: one letter, and what it is about */
  pid_t pid;
  int stop[2]; /* a pipe that ends the heart */
  pthread_t heart;
  gboolean beats;
};

/* --- the guard's side ------------------------------------------------------------------------ */

typedef struct {
  int fd, backup; /* a pidfd */
  pid_t backup_pid;
  const char *qmp, *id;
  GPtrArray *mounts, *folders, *files;
  gboolean nodes, paused, saving;
  gint64 bandwidth;
} Watch;

/* The one letter that /proc has for a process; 0 where it is gone. */
static char
process_state (pid_t pid)
{
  char path[64], text[512];

  snprintf (path, sizeof path, "/proc/%d/stat", (int) pid);
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  gssize n = fd >= 0 ? read (fd, text, sizeof text - 1) : 0;
  if (fd >= 0)
    close (fd);
  text[MAX (n, 0)] = '\0';
  const char *end = strrchr (text, ')'); /* of the name, which may hold anything */
  return end != NULL && end[1] == ' ' ? end[2] : '\0';
}

/* The minor number of the FUSE mount at `path`, by which the kernel knows its connection; -1. */
static int
fuse_connection (const char *path)
{
  g_autofree char *text = NULL;
  int found = -1;

  if (!g_file_get_contents ("/proc/self/mountinfo", &text, NULL, NULL))
    return -1;
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  for (char **line = lines; *line != NULL; line++) {
    guint major, minor;
    g_auto (GStrv) words = g_strsplit (*line, " ", 6);
    if (g_strv_length (words) < 6 || strstr (words[5], " - fuse") == NULL)
      continue;
    g_autofree char *where = g_strcompress (words[4]); /* \040 for a space */
    if (strcmp (where, path) == 0 && sscanf (words[2], "%u:%u", &major, &minor) == 2)
      found = (int) minor; /* the last is the topmost */
  }
  return found;
}

static void
take_mount_away (const char *path)
{
  int connection = fuse_connection (path);

  if (connection < 0)
    return;
  g_autofree char *abort_file = g_strdup_printf ("/sys/fs/fuse/connections/%d/abort", connection);
  int fd = open (abort_file, O_WRONLY | O_CLOEXEC);
  if (fd >= 0) {
    if (write (fd, "1", 1) != 1) {
      /* It dies with its process as well. */
    }
    close (fd);
  }
  if (umount2 (path, MNT_DETACH) == 0)
    return;
  const char *const argv[] = { "fusermount3", "-u", "-z", "--", path, NULL };
  g_spawn_sync (NULL, (char **) argv, NULL,
                G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL, NULL,
                NULL, NULL, NULL, NULL, NULL);
}

static gboolean
clean_qemu (Watch *w, GError **error)
{
  g_autoptr (GError) why = NULL;
  g_autoptr (VmaQmp) qmp = NULL;
  gint64 until = g_get_monotonic_time () + QMP_SECONDS * G_USEC_PER_SEC;

  for (;;) {
    qmp = vma_qmp_open (w->qmp, "QEMU", 5, &why);
    if (qmp != NULL)
      break;
    /* Nobody listens any more: QEMU took all of it along. */
    if (why->code == VMA_QMP_CONNECT && !g_str_has_prefix (w->qmp, "fd:"))
      return TRUE;
    if (g_get_monotonic_time () > until) {
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
    g_clear_error (&why);
    g_usleep (500 * 1000);
  }
  if (w->saving)
    vma_memory_abandon (qmp, w->bandwidth);
  gboolean goes_on = !w->paused || vma_qmp_run (qmp, "cont", NULL, error);
  g_autofree char *prefix = vma_node_prefix (w->id);
  return vma_clean (qmp, prefix, TRUE, NULL, goes_on ? error : NULL) && goes_on;
}

static void
report (Watch *w, const char *what, const GError *error)
{
  g_autofree char *text = g_strdup_printf ("%s: the backup process %s; ", w->id, what);
  g_autofree char *result
      = error != NULL ? g_strdup_printf (
            "QEMU could not be left clean: %s (vmabackup clean --qmp %s)", error->message, w->qmp)
                      : g_strdup ("the guest and QEMU were left as they were before");

  fprintf (stderr, "vmabackup: %s%s\n", text, result);
  openlog ("vmabackup", LOG_PID, LOG_DAEMON);
  syslog (LOG_ERR, "%s%s", text, result);
}

static void
take_over (Watch *w, const char *what)
{
  g_autoptr (GError) error = NULL;
  struct pollfd dead = { w->backup, POLLIN, 0 };

  syscall (SYS_pidfd_send_signal, w->backup, SIGKILL, NULL, 0);
  for (guint i = 0; i < w->mounts->len; i++)
    take_mount_away (g_ptr_array_index (w->mounts, i));
  poll (&dead, 1, 10 * 1000);
  if (w->nodes || w->paused || w->saving)
    clean_qemu (w, &error);
  for (guint i = 0; i < w->files->len; i++)
    vma_socket_remove_stale (g_ptr_array_index (w->files, i));
  for (guint i = 0; i < w->folders->len; i++)
    rmdir (g_ptr_array_index (w->folders, i));
  report (w, what, error);
}

/* TRUE when there is nothing to guard any more. */
static gboolean
take_message (Watch *w, const char *text)
{
  switch (text[0]) {
  case 'r':
    g_ptr_array_add (w->folders, g_strdup (text + 1)); /* fall through */
  case 'm':
    g_ptr_array_add (w->mounts, g_strdup (text + 1));
    break;
  case 'f':
    g_ptr_array_add (w->files, g_strdup (text + 1));
    break;
  case 'n':
    w->nodes = text[1] == '1';
    break;
  case 'p':
    w->paused = text[1] == '1';
    break;
  case 'v':
    w->saving = text[1] == '1';
    w->bandwidth = g_ascii_strtoll (text + 2, NULL, 10);
    break;
  case 'q':
    return TRUE;
  default:
    break; /* a heartbeat */
  }
  return FALSE;
}

static void
watch (Watch *w)
{
  gint64 heard = g_get_monotonic_time (), ran = heard;
  char text[MESSAGE_MAX + 1];

  for (;;) {
    struct pollfd wait = { w->fd, POLLIN, 0 };
    int ready = poll (&wait, 1, 500);
    gint64 now = g_get_monotonic_time ();
    gssize n = ready > 0 ? recv (w->fd, text, MESSAGE_MAX, 0) : -1;
    if (n > 0) {
      text[n] = '\0';
      heard = ran = now;
      if (take_message (w, text))
        return;
      continue;
    }
    if (n == 0 || (ready > 0 && errno != EINTR && errno != EAGAIN)) {
      take_over (w, "died");
      return;
    }
    if (process_state (w->backup_pid) != 'T')
      ran = now;
    if (now - ran > STOPPED_SECONDS * G_USEC_PER_SEC) {
      take_over (w, "was stopped, and therefore killed");
      return;
    }
    if (now - heard > SILENT_SECONDS * G_USEC_PER_SEC) {
      take_over (w, "hung, and was killed");
      return;
    }
  }
}

/* The terminal's keys, and whatever the backup has open, are not for the guard. */
static void
stand_alone (int fd, int pidfd, const char *qmp)
{
  int null = open ("/dev/null", O_RDWR);
  gint64 number = -1;

  setsid ();
  signal (SIGINT, SIG_IGN);
  signal (SIGTERM, SIG_IGN);
  signal (SIGHUP, SIG_IGN);
  signal (SIGPIPE, SIG_IGN);
  dup2 (null, 0);
  dup2 (null, 1);
  if (g_str_has_prefix (qmp, "fd:"))
    g_ascii_string_to_signed (qmp + 3, 10, 0, G_MAXINT, &number, NULL);
  for (int i = 3, last = (int) sysconf (_SC_OPEN_MAX); i < MIN (last, 4096); i++)
    if (i != fd && i != pidfd && i != number)
      close (i);
}

static void
guard_main (int fd, int pidfd, pid_t backup, const char *qmp, const char *id)
{
  Watch w = { .fd = fd, .backup = pidfd, .backup_pid = backup, .qmp = qmp, .id = id };

  stand_alone (fd, pidfd, qmp);
  w.mounts = g_ptr_array_new_with_free_func (g_free);
  w.folders = g_ptr_array_new_with_free_func (g_free);
  w.files = g_ptr_array_new_with_free_func (g_free);
  watch (&w);
  g_ptr_array_unref (w.mounts);
  g_ptr_array_unref (w.folders);
  g_ptr_array_unref (w.files);
}

/* --- the backup's side ----------------------------------------------------------------------- */

static void
tell (VmaGuard *guard, const char *text)
{
  if (strlen (text) <= MESSAGE_MAX)
    send (guard->fd, text, strlen (text), MSG_NOSIGNAL);
}

static void *
beat (void *data)
{
  VmaGuard *guard = data;
  struct pollfd wait = { guard->stop[0], POLLIN, 0 };

  while (poll (&wait, 1, HEARTBEAT_SECONDS * 1000) == 0)
    send (guard->fd, "h", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
  return NULL;
}

VmaGuard *
vma_guard_start (const char *qmp, const char *id, GError **error)
{
  int pair[2], stop[2];
  int pidfd = (int) syscall (SYS_pidfd_open, getpid (), 0);
  pid_t backup = getpid (), child = -1;

  if (pidfd >= 0 && pipe2 (stop, O_CLOEXEC) == 0
      && socketpair (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0)
    child = fork ();
  if (child < 0) {
    vma_set_errno_error (error, errno, "cannot start the guard");
    return NULL;
  }
  if (child == 0) {
    guard_main (pair[1], pidfd, backup, qmp, id);
    _exit (0);
  }
  close (pair[1]);
  close (pidfd);
  VmaGuard *guard = g_new0 (VmaGuard, 1);
  guard->fd = pair[0];
  guard->pid = child;
  memcpy (guard->stop, stop, sizeof stop);
  return guard;
}

static void
tell_path (VmaGuard *guard, char letter, const char *path)
{
  g_autofree char *absolute = g_canonicalize_filename (path, NULL);
  g_autofree char *text = g_strdup_printf ("%c%s", letter, absolute);

  tell (guard, text);
}

void
vma_guard_start_heart (VmaGuard *guard)
{
  guard->beats = pthread_create (&guard->heart, NULL, beat, guard) == 0;
}

void
vma_guard_add_mount (VmaGuard *guard, const char *path, gboolean remove)
{
  tell_path (guard, remove ? 'r' : 'm', path);
}

void
vma_guard_add_socket (VmaGuard *guard, const char *path)
{
  tell_path (guard, 'f', path);
}

void
vma_guard_set_nodes (VmaGuard *guard, gboolean there)
{
  tell (guard, there ? "n1" : "n0");
}

void
vma_guard_set_paused (VmaGuard *guard, gboolean paused)
{
  tell (guard, paused ? "p1" : "p0");
}

void
vma_guard_set_memory (VmaGuard *guard, gboolean saving, gint64 bandwidth)
{
  g_autofree char *text = g_strdup_printf ("v%d%" G_GINT64_FORMAT, saving, bandwidth);

  tell (guard, text);
}

void
vma_guard_end (VmaGuard *guard)
{
  tell (guard, "q");
  close (guard->stop[1]);
  if (guard->beats)
    pthread_join (guard->heart, NULL);
  close (guard->stop[0]);
  close (guard->fd);
  waitpid (guard->pid, NULL, 0);
  g_free (guard);
}
